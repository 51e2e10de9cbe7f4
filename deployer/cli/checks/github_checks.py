"""Checks deployer's access to GitHub."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from deployer.cli.checks.groups import FAIL, OK, PROBE_SECONDS, WARN, Check, CheckFunction, run_guarded
from deployer.environment.code_host import Protection
from deployer.model.display import PREPARE, PRODUCTION, SUMMARY, own_context, stage_context
from deployer.model.durations import span
from deployer.model.environments import Kind, Repository
from deployer.model.errors import UnavailableError

if TYPE_CHECKING:
    from deployer.wiring import Deployer


_MOST_REPOSITORIES = 10  # that are checked on GitHub
REACH_GITHUB = "check the network between deployer and GitHub, and DEPLOYER_GITHUB_API_URL"
_GRANT_ACCESS = "give the token or the App access to it, with contents: read and commit statuses: write"
_LOW_SHARE = 0.1  # of an hour's requests; below it, doctor warns
_REDUCE_CALLS = "work waits and then continues by itself; if it happens often, see docs/github.md#rate-limits"
_REQUIRE_SUMMARY = f"require {SUMMARY} instead, in the branch protection or ruleset: docs/statuses.md"
_PROTECT = "protect it on GitHub (branch protection or a ruleset): docs/security.md"


class RedisAnswer:
    """Whether Redis answers, for the groups that can check more with its data."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._answers = False

    def ask_redis(self, ping: Callable[[], object]) -> None:
        """Ping Redis and wake the groups that wait for the answer."""
        try:
            ping()
            self._answers = True
        finally:
            self._asked.set()

    def __bool__(self) -> bool:
        self._asked.wait(PROBE_SECONDS)
        return self._answers


def check_access(deployer: "Deployer", redis_answers: RedisAnswer) -> Iterator[Check]:
    known = {each.key: each for each in deployer.config.named_repositories()}
    if redis_answers:
        with suppress(UnavailableError):  # the checks of Redis report it
            known |= {
                each.key: each for each in deployer.lanes.repositories() if deployer.config.allows(each)
            }
            for record in deployer.lanes.repository_records():
                if record.state:  # the check of the repositories reports it
                    known.pop(record.repository.lower(), None)
    chosen = sorted(known.values(), key=lambda each: each.key)[:_MOST_REPOSITORIES]
    if not chosen:
        text = "no repository to check"
        yield Check("GitHub", WARN, text, "name one in DEPLOYER_REPOSITORIES, or push to one")
        return
    good = 0
    for each in chosen:
        permissions = partial(_check_permissions, deployer, each)
        found = run_guarded(CheckFunction(f"GitHub {each}", permissions, _GRANT_ACCESS))
        good += not found
        yield from found
        if not found:
            protection = partial(_check_protection, deployer, each)
            yield from run_guarded(CheckFunction(f"GitHub {each}", protection, _GRANT_ACCESS))
    if good:
        yield Check(
            "GitHub", OK, f"{good} of {len(chosen)} repositories can be read and accept commit statuses"
        )


def _check_protection(deployer: "Deployer", repository: Repository) -> Iterator[Check]:
    """Warn if everybody with push access can change which commit production deploys."""
    found, name = deployer.host.read_protection(repository), f"GitHub {repository}"
    if found.branch_protected is False:
        text = f"default branch {found.branch} is not protected: everybody who can push decides what production runs"
        yield Check(name, WARN, text, _PROTECT, text)
    if found.tags_protected is False:
        text = f"no active ruleset protects its tags: everybody who can push can deploy any commit of {found.branch}"
        yield Check(name, WARN, text, "add a ruleset for tags on GitHub: docs/security.md", text)
    yield from _check_required_contexts(deployer, repository, found)
    if found.unread:
        text = f"cannot read whether its default branch and tags are protected ({found.unread})"
        yield Check(
            name,
            WARN,
            text,
            "give the token or the App metadata: read and contents: read, or check the protection on GitHub",
            text,
        )


def _check_required_contexts(
    deployer: "Deployer", repository: Repository, found: Protection
) -> Iterator[Check]:
    """Warn of required statuses that no commit of a branch gets, because they block each pull request."""
    own = [each for each in found.required if f"{each.lower()}/".startswith(f"{SUMMARY}/")]
    if not own:
        return
    posted = {SUMMARY, PREPARE}
    for record in deployer.lanes.environments(repository):
        if record.environment.startswith(Kind.DEVELOPMENT):
            posted |= {stage_context(stage.name).lower() for stage in record.status.pipeline.stages}
    missing = [each for each in own if each.lower() not in posted]
    if posted == {SUMMARY, PREPARE}:  # without a development environment its stages are unknown
        elsewhere = (PRODUCTION, own_context("", Kind.STAGING))
        missing = [each for each in missing if each.lower().startswith(elsewhere)]
    if missing:
        text = f"{found.branch} requires {', '.join(missing)}, which deployer does not post on branches"
        yield Check(f"GitHub {repository}", WARN, text, _REQUIRE_SUMMARY, text)


def _check_permissions(deployer: "Deployer", repository: Repository) -> Iterator[Check]:
    if lacking := deployer.host.missing_permissions(repository):
        text = f"deployer lacks {' and '.join(lacking)}"
        remedy = deployer.host.permission_remedy(repository) or _GRANT_ACCESS
        yield Check(f"GitHub {repository}", FAIL, text, remedy, text)


def check_rate_limits(deployer: "Deployer") -> Iterator[Check]:
    """Show how many requests GitHub allows until the end of the hour, as its latest answers named them."""
    now = deployer.lanes.now()
    for quota in deployer.github_sharing.quotas():
        ends = span(max(quota.resets_at - now, 0))
        text = f"{quota.account}: {quota.remaining:,} of {quota.limit:,} requests ({quota.resource}) remain for {ends}"
        if quota.closed_seconds:
            text = f"{quota.account}: GitHub refuses requests ({quota.resource}) for {span(quota.closed_seconds)}"
        elif quota.resets_at <= now or quota.remaining >= quota.limit * _LOW_SHARE:
            continue
        yield Check("GitHub limits", WARN, text, _REDUCE_CALLS, text)
