"""What the commands share: the wired parts, the kinds of argument, and how people's words become environments."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from deployer.model.durations import duration
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import NotFoundError, PayloadError
from deployer.model.records import RESYNC_KEY, EnvironmentRecord, split_key
from deployer.model.refs import Ref, parse_sha_prefix
from deployer.queue.store import Lane

if TYPE_CHECKING:
    from deployer.wiring import Deployer

F = TypeVar("F", bound=Callable[..., Any])
REDIS = "deployer.redis_url"  # where the context keeps the address that a message may name


class RepositoryType(click.ParamType):  # type: ignore[type-arg]  # no generic before click 8.2
    """`owner/name`."""

    name = "owner/repo"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Repository:
        """See `click.ParamType.convert`."""
        try:
            return Repository.parse(str(value))
        except PayloadError as error:
            self.fail(str(error), param, ctx)


class RefType(click.ParamType):  # type: ignore[type-arg]  # no generic before click 8.2
    """A branch's short name, a full ref, `staging` or `production`; kept as people typed it."""

    name = "ref"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See `click.ParamType.convert`."""
        try:
            Ref.from_people(str(value))
        except PayloadError as error:
            self.fail(str(error), param, ctx)
        return str(value)


class TagType(click.ParamType):  # type: ignore[type-arg]  # no generic before click 8.2
    """A tag, by its short name or in full."""

    name = "tag"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Ref:
        """See `click.ParamType.convert`."""
        try:
            return value if isinstance(value, Ref) else Ref.of_tag(str(value))
        except PayloadError as error:
            self.fail(str(error), param, ctx)


class ShaType(click.ParamType):  # type: ignore[type-arg]  # no generic before click 8.2
    """A commit id or the beginning of one, in lower case."""

    name = "sha"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See `click.ParamType.convert`."""
        try:
            return parse_sha_prefix(str(value))
        except PayloadError as error:
            self.fail(str(error), param, ctx)


class DurationType(click.ParamType):  # type: ignore[type-arg]  # no generic before click 8.2
    """A length of time, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See `click.ParamType.convert`."""
        try:
            return duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def json_option(command: F) -> F:
    """The option `--json`."""
    return click.option("--json", "json_", is_flag=True, help="Print JSON and nothing else.")(command)


def wired(redis_seconds: float = 0) -> "Deployer":
    """Settings read and every part ready to be made.

    Args:
        redis_seconds: how long each thread may wait in vain for Redis, all its commands together; 0 for as long as
            each command takes.

    Raises:
        ConfigError: a setting is malformed.
    """
    # not at the top: it brings boto3, requests and Celery along, which `--help` must not wait for
    from deployer.redis_store.circuit_breaker import Budget  # noqa: PLC0415
    from deployer.wiring import build  # noqa: PLC0415

    deployer = build(budget=Budget(redis_seconds) if redis_seconds else None)
    click.get_current_context().meta[REDIS] = deployer.config.shown()["DEPLOYER_REDIS_URL"]
    return deployer


def short(repository: Repository, key: str) -> str:
    """An environment's key as people say it, and may type it: the branch, `staging` or `production`.

    Of the key of a queue item that is a candidate for production, the tag is named as well.
    """
    if key == RESYNC_KEY:
        return "(whole repository)"
    name, ref = split_key(key)
    try:
        environment = Environment.from_key(repository, name)
        return f"{environment.name} {Ref.parse(ref).short}" if ref else environment.name
    except PayloadError:
        return key


def keys_of(lane: Lane) -> list[str]:
    """Keys of the environments that a lane holds or awaits."""
    snoozed = (split_key(key)[0] for key in lane.snoozed)
    keys = [lane.environment, *(work.environment for work in lane.waiting), *snoozed]
    return [key for key in dict.fromkeys(keys) if key and key != RESYNC_KEY]


def in_lane_only(lanes: list[Lane], known: list[EnvironmentRecord]) -> list[EnvironmentRecord]:
    """Environments that no worker has looked at yet: they wait in a lane and nowhere else."""
    seen = {(record.repository.lower(), record.environment) for record in known}
    found = []
    for lane in lanes:
        repository = Repository.parse(lane.repository)
        for key in keys_of(lane):
            if (repository.key, key) not in seen:
                name = Environment.from_key(repository, key).stack_name
                found.append(EnvironmentRecord(lane.repository, key, name, state="queued"))
    return found


def unknown_environment(deployer: "Deployer", repository: Repository, text: str) -> Environment:
    """The environment people name although the ledger does not know it: GitHub says what its ref is.

    Raises:
        NotFoundError: it cannot be told which it is.
        TransientError, PermanentError: GitHub cannot be asked.
    """
    if text == Kind.STAGING:
        return Environment(repository, Kind.STAGING)
    if text == Kind.PRODUCTION:
        raise NotFoundError(f"no tag is known for production of {repository}; give one as refs/tags/...")
    ref = Ref.from_people(text)
    if ref.is_tag:
        return Environment(repository, Kind.PRODUCTION)
    return Environment.of_ref(repository, ref, deployer.host.default_branch(repository))
