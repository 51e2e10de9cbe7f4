"""Checks deployer's access to GitHub."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from deployer.cli.checks.groups import FAIL, OK, PROBE_SECONDS, WARN, Check, CheckFunction, run_guarded
from deployer.model.environments import Repository
from deployer.model.errors import UnavailableError

if TYPE_CHECKING:
    from deployer.wiring import Deployer


_MOST_REPOSITORIES = 10  # that GitHub is asked about
REACH_GITHUB = "see that the network lets deployer reach GitHub, and that DEPLOYER_GITHUB_API_URL is right"
_GRANT_ACCESS = "let the token or the App see it, with contents: read and commit statuses: write"
_PROTECT = "protect it on GitHub (branch protection or a ruleset): docs/security.md"


class RedisAnswer:
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


def check_access(deployer: "Deployer", redis_answers: RedisAnswer) -> Iterator[Check]:
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
        permissions = partial(_check_permissions, deployer, each)
        found = run_guarded(CheckFunction(f"GitHub {each}", permissions, _GRANT_ACCESS))
        good += not found
        yield from found
        if not found:
            protection = partial(_check_protection, deployer, each)
            yield from run_guarded(CheckFunction(f"GitHub {each}", protection, _GRANT_ACCESS))
    if good:
        yield Check("GitHub", OK, f"{good} of {len(chosen)} repositories can be read, and take statuses")


def _check_protection(deployer: "Deployer", repository: Repository) -> Iterator[Check]:
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


def _check_permissions(deployer: "Deployer", repository: Repository) -> Iterator[Check]:
    if lacking := deployer.host.missing_permissions(repository):
        told = f"deployer lacks {' and '.join(lacking)}"
        yield Check(f"GitHub {repository}", FAIL, told, _GRANT_ACCESS, told)
