"""`deployer doctor`: whether everything that deployer needs is there and works, with a remedy where it does not."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from deployer.cli import output
from deployer.cli.check_groups import FAIL, OK, PROBE_SECONDS, WARN, Check, Group, Look, guarded, run
from deployer.cli.common import json_option, wired
from deployer.environment.capacity import admits
from deployer.environment.cloud_region import Cloud
from deployer.model.durations import span
from deployer.model.environments import Kind, Repository
from deployer.model.errors import ConfigError, StoredValueError, UnavailableError
from deployer.model.fence import REMEDY, fence_gaps, fence_warnings, unfenced_sentence
from deployer.model.records import FAILING_JOB, Outcome
from deployer.queue.store import Lane
from deployer.resync.missed_deliveries import APP
from deployer.settings import dotenv as dotfile
from deployer.settings.loading import REQUIRED_FOR_WEB, REQUIRED_FOR_WORKER, require, unknown
from deployer.settings.startup import CLUSTER_MODE_REMEDY, NO_EVICTION, check_secrets, eviction_warning
from deployer.views.record_json import age, deliveries_words, lane_problems, missed_lately, unserved_words

if TYPE_CHECKING:
    from deployer.wiring import Deployer

_MOST_REPOSITORIES = 10  # that GitHub is asked about
_LONG_WAIT = 15 * 60.0  # seconds: no work waits that long for its turn where workers work
_LATE_EVENT = 10 * 60.0  # seconds that an event may come after the end that it tells of
_START_PROCESS = "start it: deployer {}"
_REACH_GITHUB = "see that the network lets deployer reach GitHub, and that DEPLOYER_GITHUB_API_URL is right"
_REACH_AWS = (
    "see that the network lets deployer reach AWS, and AWS_REGION, AWS_ENDPOINT_URL or DEPLOYER_TARGETS"
)
_CORRECT_KEY = "delete that key; what was in it comes back with: deployer resync"
_UPDATE_WORKERS = (
    "update every worker to the newest version in use; what none understands becomes a dead letter"
)
_START_REDIS = "see that Redis runs, and that DEPLOYER_REDIS_URL is its address"


@click.command()
@json_option
def doctor(*, json_: bool) -> None:
    """Check the settings, Redis, GitHub, AWS and the processes; tell what to do about what is wrong.

    Exits with 1 if any check fails.
    """
    found = list(_checks())
    if json_:
        names = ("check", "state", "told", "remedy")
        output.as_json([{name: getattr(each, name) for name in names} for each in found])
    else:
        rows = [[each.check, each.state, each.told, each.remedy] for each in found]
        output.table(["Check", "State", "Found", "Remedy"], rows, empty="")
    if any(each.state == FAIL for each in found):
        click.get_current_context().exit(1)


def _checks() -> Iterator[Check]:
    # what the parts would log about a system that is away is a row of the table
    logging.getLogger("deployer").addHandler(logging.NullHandler())
    try:
        deployer = wired(PROBE_SECONDS)
    except ConfigError as error:
        yield Check("settings", FAIL, str(error), "correct it; nothing else can be looked at before")
        return
    yield from _settings(deployer)
    yield from guarded(Look("fence", lambda: _fence(deployer), "report it, with what the log says"))
    # parts are made before threads share them
    lanes, host, clouds = deployer.lanes, deployer.host, deployer.clouds
    redis_answers = _Answer()
    groups = [
        Group(
            "Redis",
            lambda: redis_answers.of(lanes.ping),
            [
                Look("Redis", lambda: _redis(deployer), _START_REDIS),
                Look("processes", lambda: _processes(deployer), _START_REDIS),
                Look("dead letters", lambda: _dead_letters(deployer), _START_REDIS),
                Look("lanes", lambda: _lanes(deployer), _START_REDIS),
                Look("events", lambda: _events(deployer), _START_REDIS),
                Look("repositories", lambda: _repositories(deployer), _START_REDIS),
            ],
            f"{_START_REDIS}; processes, dead letters, lanes, events and repositories are looked at then",
            asks_again=True,
        ),
        Group(
            "GitHub",
            lambda: host.check_reachable(PROBE_SECONDS),
            [Look("GitHub", lambda: _github(deployer, redis_answers), _REACH_GITHUB)],
            _REACH_GITHUB,
        ),
    ]

    def aws() -> list[Check]:
        regions = dict.fromkeys(region for kind in Kind for region in clouds.target(kind).regions)
        groups.extend([_region(deployer, region) for region in regions])
        return []

    yield from guarded(Look("AWS", aws, _REACH_AWS))  # AWS's own variables may be unreadable
    yield from run(groups)


class _Answer:
    """Whether Redis is there, for the groups that know more with it."""

    def __init__(self) -> None:
        self._known = threading.Event()
        self._yes = False

    def of(self, ping: Callable[[], object]) -> None:
        """Ask, and let the others know."""
        try:
            ping()
            self._yes = True
        finally:
            self._known.set()

    def __bool__(self) -> bool:
        self._known.wait(PROBE_SECONDS)
        return self._yes


def _region(deployer: "Deployer", region: str) -> Group:
    """The checks of one region of AWS: each kind's bucket and rights, and its room."""
    kinds = [kind for kind in Kind if region in deployer.clouds.target(kind).regions]
    looks = []
    for kind in kinds:
        name = f"{kind} {region}"
        looks += [
            Look(
                name,
                lambda kind=kind: _artifacts(deployer, kind, region),  # type: ignore[misc]
                "see the artifact bucket of DEPLOYER_TARGETS or DEPLOYER_ARTIFACT_BUCKET, and the rights on it",
            ),
            Look(
                name,
                lambda kind=kind: _access(deployer, kind, region),  # type: ignore[misc]
                "see its rights and DEPLOYER_TARGETS",
            ),
        ]
    looks += [
        Look(
            f"room {region}",
            lambda cloud=cloud: _room_of(deployer, cloud),  # type: ignore[misc]
            "see the rights of the targets' roles",
        )
        for cloud in deployer.clouds.every()
        if cloud.region == region
    ]
    if Kind.DEVELOPMENT in kinds and region == deployer.clouds.target(Kind.DEVELOPMENT).regions[0]:
        looks.append(Look("accounts", lambda: _accounts(deployer), "see deployer's own AWS credentials"))
    probe = deployer.clouds.at(kinds[0], region)
    return Group(f"AWS {region}", lambda: probe.check_reachable(PROBE_SECONDS), looks, _REACH_AWS)


# --- the installation -----------------------------------------------------------------------------------------------


def _settings(deployer: "Deployer") -> Iterator[Check]:
    config, missing = deployer.config, []
    for name in dict.fromkeys((*REQUIRED_FOR_WEB, *REQUIRED_FOR_WORKER)):
        try:
            require(config, name)
        except ConfigError as error:
            missing.append(Check("settings", FAIL, str(error), "set it; see the README"))
    yield from missing
    for value, variable, lack in (
        (
            config.api_token or config.trusted_proxy_header,
            "DEPLOYER_API_TOKEN",
            "the API is off, and pages and metrics are closed",
        ),
        (
            config.aws_event_key,
            "DEPLOYER_AWS_EVENT_KEY",
            "AWS's events are refused, so progress is polled for",
        ),
        (
            config.public_url,
            "DEPLOYER_PUBLIC_URL",
            "commit statuses do not lead to the dashboard, and missed deliveries are not found",
        ),
    ):
        if not value:
            yield Check("settings", WARN, f"{variable} is not set: {lack}", "set it if that is not meant")
    try:
        check_secrets(config)
    except ConfigError as error:
        yield Check("settings", FAIL, str(error), "the web does not start with it; set another one")
    for variable, meant in unknown(dotfile.read() | os.environ).items():
        remedy = f"did you mean {meant}?" if meant else "take it away; deployer config shows all there are"
        yield Check("settings", WARN, f"{variable} is no setting of deployer", remedy)
    if not missing:
        yield Check("settings", OK, "all that are needed are there")


def _fence(deployer: "Deployer") -> Iterator[Check]:
    """Whether branch code is kept from rights in AWS that are not its own, as far as the settings tell."""
    config = deployer.config
    if config.sandbox:
        return  # its AWS is simulated
    targets = {kind: deployer.clouds.target(kind) for kind in Kind}
    if gaps := fence_gaps(targets):
        state = WARN if config.unfenced else FAIL
        start = "" if config.unfenced else "; workers do not start"
        yield Check("fence", state, f"{unfenced_sentence(gaps)}{start}", REMEDY)
    elif config.unfenced:
        remedy = "remove it: a setting that is lost later is then noticed at the next start"
        yield Check("fence", WARN, "DEPLOYER_UNFENCED is yes, though development is fenced in", remedy)
    weak = list(fence_warnings(targets))
    for kind, found, remedy in weak:
        yield Check(f"fence {kind}", WARN, found, remedy)
    if not (gaps or config.unfenced or weak):
        yield Check("fence", OK, "every kind of environment has a service role and a boundary")


def _redis(deployer: "Deployer") -> Iterator[Check]:
    told = deployer.lanes.server()
    if told.get("cluster_enabled") == "1":
        yield Check("Redis", FAIL, "it runs in cluster mode, which is not supported", CLUSTER_MODE_REMEDY)
        return
    if eviction := eviction_warning(told):
        yield Check("Redis", WARN, eviction, NO_EVICTION)
    if told.get("aof_enabled") != "1":
        yield Check(
            "Redis", WARN, "it answers, but keeps no append-only file: a restart may lose the last minutes",
            "set appendonly yes; what is lost comes back by a resync only",
        )  # fmt: skip
    else:
        yield Check("Redis", OK, "it answers, takes writes and keeps each in its append-only file")


def _processes(deployer: "Deployer") -> Iterator[Check]:
    beats = deployer.lanes.beats()
    for name in ("worker", "scheduler"):
        if name in beats:
            yield Check(name, OK, f"told {span(age(beats[name]))} ago that it is alive")
        else:
            yield Check(name, FAIL, "none has told lately that it is alive", _START_PROCESS.format(name))
    if FAILING_JOB in beats:
        told = "one of its jobs fails: resyncs or the ends of environments may be late"
        yield Check("scheduler", WARN, told, "see its log, which names the job and the error")


def _dead_letters(deployer: "Deployer") -> Iterator[Check]:
    letters = deployer.lanes.dead_letters()
    if not letters:
        yield Check("dead letters", OK, "there is none")
        return
    told = f"{len(letters)} await a decision, the oldest for {span(age(letters[0].at))}"
    yield Check("dead letters", WARN, told, "see: deployer dead-letters list")


def _lanes(deployer: "Deployer") -> Iterator[Check]:
    lanes = deployer.lanes.lanes()
    now = deployer.lanes.now()
    stuck = [lane for lane in lanes if _is_stuck(lane, now)]
    for lane in stuck:
        told = f"{lane.repository} stands still: {lane.status} for {lane.environment or 'nobody'}"
        yield Check("lanes", FAIL, told, "see that workers and scheduler run, then: deployer lanes")
    for lane in lanes:
        state, remedy = (FAIL, _CORRECT_KEY) if lane.broken else (WARN, _UPDATE_WORKERS)
        for problem in lane_problems(lane):
            yield Check("lanes", state, problem, remedy)
    if not stuck and not any(lane.broken for lane in lanes):
        yield Check("lanes", OK, f"{len(lanes)} hold or await something, none stands still")


def _is_stuck(lane: Lane, now: float) -> bool:
    """Whether work waits that nobody takes up, or a worker is lost and nobody has noticed."""
    if lane.status == "running":
        return lane.lease_seconds == 0
    return any(work.accepted_at and age(work.accepted_at, now) > _LONG_WAIT for work in lane.waiting)


def _events(deployer: "Deployer") -> Iterator[Check]:
    if not deployer.config.aws_event_key:
        return  # told among the settings
    heard = deployer.lanes.beats().get("event")
    ended = (line for line in deployer.lanes.activity(limit=500) if line.outcome == Outcome.DEPLOYED)
    latest = next(ended, None)
    remedy = "see the rules, the API destination and its dead-letter queue in AWS: docs/aws.md"
    if heard is None:
        yield Check("events", WARN, "no event of AWS came yet, so progress is polled for", remedy)
    elif latest and latest.at - heard > _LATE_EVENT:
        told = f"the last one of AWS came {span(age(heard))} ago, and a deployment ended {span(age(latest.at))} ago"
        yield Check("events", WARN, told, remedy)
    else:
        yield Check("events", OK, f"the last one of AWS came {span(age(heard))} ago")


def _unserved(deployer: "Deployer") -> Iterator[Check]:
    found = deployer.intake.unserved()
    if words := unserved_words(found, deployer.lanes.now()):
        yield Check("repositories", OK, words)


def _repositories(deployer: "Deployer") -> Iterator[Check]:
    yield from _unserved(deployer)
    listed = [*deployer.lanes.repositories(), APP]
    records = deployer.lanes.repository_records(listed)
    readable = {each.repository.lower() for each in records}
    for each in listed:
        try:
            if each.key not in readable:  # it has no record, or a damaged one
                deployer.lanes.repository(each)
        except StoredValueError as error:
            remedy = "correct the key, or delete it and run: deployer resync"
            yield Check("repositories", FAIL, str(error), remedy)
    for record in records:
        if record.reason and not record.over:
            remedy = "see: deployer repositories list"
            yield Check(f"repository {record.repository}", WARN, f"{record.state}: {record.reason}", remedy)
        of = "the GitHub App" if record.repository == APP.full_name else record.repository
        if record.unchecked and record.no_webhook:
            other = "set the address in the App's settings"
            if record.repository != APP.full_name:
                other = f"run: deployer webhook install {record.repository}"
            remedy = f"set DEPLOYER_PUBLIC_URL to the address that GitHub uses, or {other}"
            yield Check(f"deliveries of {of}", WARN, deliveries_words(record), remedy)
        elif record.unchecked:
            yield Check(f"deliveries of {of}", OK, deliveries_words(record))
        elif missed_lately(record):
            remedy = "see that GitHub reaches the web at all times"
            if record.refused:
                remedy = "set the webhook's secret anew: deployer webhook install, or in the App"
            yield Check(f"deliveries of {of}", WARN, deliveries_words(record), remedy)


# --- the far ends -------------------------------------------------------------------------------------------------


def _github(deployer: "Deployer", redis_answers: _Answer) -> Iterator[Check]:
    known = {each.key: each for each in deployer.config.named_repositories()}
    if redis_answers:
        with suppress(UnavailableError):  # told of Redis
            known |= {
                each.key: each for each in deployer.lanes.repositories() if deployer.config.allows(each)
            }
            for record in deployer.lanes.repository_records():
                if record.state:  # told among the repositories
                    known.pop(record.repository.lower(), None)
    chosen = sorted(known.values(), key=lambda each: each.key)[:_MOST_REPOSITORIES]
    if not chosen:
        told = "no repository is known to ask about"
        yield Check("GitHub", WARN, told, "name one in DEPLOYER_REPOSITORIES, or deliver a push")
        return
    good = 0
    for each in chosen:
        found = guarded(Look(f"GitHub {each}", lambda each=each: _rights(deployer, each), _RIGHTS))  # type: ignore[misc]
        good += not found
        yield from found
        if not found:
            yield from guarded(
                Look(f"GitHub {each}", lambda each=each: _protection(deployer, each), _RIGHTS)  # type: ignore[misc]
            )
    if good:
        yield Check("GitHub", OK, f"{good} of {len(chosen)} repositories can be read, and take statuses")


_RIGHTS = "let the token or the App see it, with contents: read and commit statuses: write"


_PROTECT = "protect it on GitHub (branch protection or a ruleset): docs/security.md"


def _protection(deployer: "Deployer", repository: Repository) -> Iterator[Check]:
    """Warn where anybody who can push may move what production follows."""
    found, name = deployer.host.read_protection(repository), f"GitHub {repository}"
    if found.branch_protected is False:
        told = f"its default branch {found.branch} has no protection: who can push to it decides what production runs"
        yield Check(name, WARN, told, _PROTECT, told)
    if found.tags_protected is False:
        told = f"no active ruleset is about its tags: who can push one deploys any commit of {found.branch}"
        yield Check(name, WARN, told, "add a ruleset for tags on GitHub: docs/security.md", told)
    if found.unread:
        told = f"whether its default branch and tags are protected cannot be read ({found.unread})"
        yield Check(
            name,
            WARN,
            told,
            "give the token or the App metadata: read and contents: read, or look yourself",
            told,
        )


def _rights(deployer: "Deployer", repository: Repository) -> Iterator[Check]:
    if lacking := deployer.host.missing_permissions(repository):
        told = f"deployer lacks {' and '.join(lacking)}"
        yield Check(f"GitHub {repository}", FAIL, told, _RIGHTS, told)


def _artifacts(deployer: "Deployer", kind: Kind, region: str) -> Iterator[Check]:
    cloud, name = deployer.clouds.at(kind, region), f"{kind} {region}".strip()
    bucket = deployer.clouds.target(kind).bucket(cloud.region)
    if not bucket:
        remedy = "set DEPLOYER_ARTIFACT_BUCKET, or artifact_bucket in DEPLOYER_TARGETS"
        yield Check(name, FAIL, "it has no artifact bucket", remedy)
        return
    cloud.probe_artifacts()
    yield Check(name, OK, f"bucket {bucket} takes templates")


def _access(deployer: "Deployer", kind: Kind, region: str) -> Iterator[Check]:
    cloud, target = deployer.clouds.at(kind, region), deployer.clouds.target(kind)
    next(iter(cloud.stacks()), None)  # one page: it takes the credentials, the role and the right to look
    name = f"{kind} {region}".strip()
    who = target.role_arn or "deployer's own credentials"
    made = (
        f"they are made as {target.service_role_arn}" if target.service_role_arn else "they are made likewise"
    )
    yield Check(name, OK, f"stacks can be listed as {who}; {made}")


def _accounts(deployer: "Deployer") -> Iterator[Check]:
    """Whether development shares its account: tags and names keep apart only what has any."""
    if deployer.config.sandbox:
        return  # one account for all is its nature
    own = deployer.clouds.own_account()
    at = {kind: deployer.clouds.target(kind).account_id or own for kind in Kind}
    development = at[Kind.DEVELOPMENT]
    others = {"production": at[Kind.PRODUCTION], "deployer itself": own}
    sharing = [name for name, account in others.items() if account == development]
    if sharing:
        told = f"development shares account {development} with {' and '.join(sharing)}"
        remedy = "give development an account of its own; what it can reach otherwise: docs/security.md"
        yield Check("accounts", WARN, told, remedy)
    else:
        yield Check(
            "accounts", OK, f"development's account {development} holds neither production nor deployer"
        )


def _room_of(deployer: "Deployer", cloud: Cloud) -> Iterator[Check]:
    room = cloud.room()
    told = (
        f"{room.stacks} of {room.stacks_limit} stacks, {room.pipelines} of {room.pipelines_limit} pipelines; "
        f"counted {span(age(room.counted_at))} ago"
    )
    target = deployer.clouds.target(Kind.DEVELOPMENT)
    concerned = not target.regions or cloud.region in target.regions
    refused = admits(room, target, Kind.DEVELOPMENT) if concerned else ""
    name = f"room {room.region}"
    remedy = "raise the quota in AWS, delete what is not needed, or add a region to DEPLOYER_TARGETS"
    if room.free == 0:
        yield Check(name, FAIL, told, remedy)
    elif refused:
        yield Check(name, WARN, f"{told}; {refused}", remedy)
    else:
        yield Check(name, OK, told)
