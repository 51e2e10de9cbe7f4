"""The state of a repository as a whole: whether it is still the one to which its environments belong."""

import logging
from collections.abc import Callable

from deployer.environment.code_host import CodeHost, RepositoryFacts
from deployer.model.environments import Repository
from deployer.model.errors import NotFoundError
from deployer.model.refs import Ref
from deployer.model.repository_record import RepositoryRecord
from deployer.queue.skipped_commits import skipped_state
from deployer.queue.store import QueueStore

_log = logging.getLogger(__name__)
ARCHIVED, RENAMED, REPLACED, DELETED, REMOVED = "archived", "renamed", "replaced", "deleted", "removed"
OUT_OF_REACH = {DELETED, REMOVED}
DEFAULT = "default"  # the `word` of a teardown whose branch became the default branch; it is no state


class Repositories:
    """Reads repositories from GitHub and keeps their records.

    Args:
        host: GitHub.
        lanes: stores the records.
        clock: epoch seconds; by default Redis's clock, since the times are stored and read on other machines.
    """

    def __init__(self, host: CodeHost, lanes: QueueStore, clock: Callable[[], float] | None = None) -> None:
        self._host = host
        self._lanes = lanes
        self._clock = clock or lanes.now

    def stored_record(self, repository: Repository) -> RepositoryRecord:
        """The record as the last read left it."""
        return self._lanes.repository(repository) or RepositoryRecord(repository.full_name)

    def skipped_state(self, repository: Repository) -> str:
        """The state of the status of a skipped commit: `success` or `pending`, as the default branch sets it."""
        return skipped_state(self._lanes, repository)

    def refresh_record(
        self, repository: Repository, word: str = "", *, keep: bool = True, only: Ref | None = None
    ) -> tuple[RepositoryRecord, RepositoryFacts | None]:
        """Read a repository from GitHub and update its record.

        Args:
            repository: the repository.
            word: see `judge_repository`.
            keep: whether the record is stored.
            only: see `CodeHost.facts`.

        Returns:
            The record, and GitHub's answer; None if GitHub answers "not found" and the record explains that.

        Raises:
            NotFoundError: GitHub answers "not found", and nothing explains it.
            TransientError: GitHub or Redis is unavailable.
        """
        facts, now = self._host.facts(repository, only), self._clock()
        hidden = "" if facts else self._host.why_hidden(repository)
        before = RepositoryRecord(repository.full_name)

        def judged(stored: RepositoryRecord) -> RepositoryRecord:
            nonlocal before
            before, known = stored, judge_repository(stored, facts, word, now)
            if known is None:
                why = hidden or f"{repository} is not found, or deployer has no access"
                raise NotFoundError(f"{why}; nothing is deleted because of that")
            if known.state == REMOVED and hidden:
                return known.but(
                    reason=f"{hidden}; until then {repository} is not looked at, and nothing is deleted"
                )
            return known

        # the stored record is read after GitHub has answered, because another task may have changed it meanwhile
        known = (
            self._lanes.change_repository(repository, judged)
            if keep
            else judged(self.stored_record(repository))
        )
        if keep and known.reason and known.reason != before.reason:
            _log.warning("%s", known.reason)
        return known, facts

    def record_nothing_left(self, known: RepositoryRecord, *, over: bool) -> RepositoryRecord:
        """Record whether nothing is left of a repository whose name is gone, and return its record."""

        def noted(stored: RepositoryRecord) -> RepositoryRecord:
            return _with_reason(stored.but(over=over)) if stored.state == known.state else stored

        return self._lanes.change_repository(Repository.parse(known.repository), noted)


def judge_repository(
    known: RepositoryRecord, facts: RepositoryFacts | None, word: str, now: float
) -> RepositoryRecord | None:
    """The record of a repository after it was read; None if GitHub's answer allows no conclusion.

    Args:
        known: the record before.
        facts: GitHub's answer; None if it was "not found". That alone means nothing: a token may have lost its
            permissions, and an App may be suspended. A former name leads nowhere once the renamed repository is deleted
            or out of reach.
        word: what a signed delivery said that could explain the answer: `deleted` or `removed`. The delivery may have
            arrived late, so GitHub's present answer counts for more. A deleted repository is also reported as removed.
        now: epoch seconds.
    """
    name = known.repository
    if facts is None:
        words = [word, known.state if known.state in {*OUT_OF_REACH, RENAMED} else ""]
        state = DELETED if DELETED in words else next(filter(None, words), "")
        return _with_state(known, state, now) if state else None
    seen = known.but(
        id=known.id or facts.id, default_branch=facts.default_branch, private=facts.private, name=""
    )
    if seen.id != facts.id:
        return _with_state(known, REPLACED, now)
    if facts.full_name.lower() != name.lower():
        return _with_state(seen.but(name=facts.full_name), RENAMED, now)
    if facts.archived:
        return _with_state(seen, ARCHIVED, now)
    if known.id and known.private and not facts.private:
        _log.warning("%s is public now: anyone can read its deploy folder and its commits' statuses", name)
    return _with_state(seen, "", now)


_REASONS = {
    "": "",
    ARCHIVED: "{name} is archived: nothing new runs; its environments stay until they are deleted",
    RENAMED: (
        "{name} is {now} now, which has environments of its own; staging and production of the former name stay until "
        "a person deletes them: deployer delete --environment staging|production {name}; so does what a teardown left"
    ),
    REPLACED: (
        "another repository has the name {name} now; its environments are left alone. If they are to be this one's: "
        "deployer repositories accept {name}"
    ),
    DELETED: (
        "{name} was deleted on GitHub; staging and production stay until a person deletes them: "
        "deployer delete --environment staging|production {name}; so does what a teardown left"
    ),
    REMOVED: "{name} was taken from the GitHub App: it is looked at no longer, and nothing of it is deleted",
}


_OVER = {
    RENAMED: "{name} is {now} now, which has environments of its own; nothing of the former name is left to people",
    DELETED: "{name} was deleted on GitHub; nothing of it is left to people",
}


def _with_state(known: RepositoryRecord, state: str, now: float) -> RepositoryRecord:
    if state == known.state:
        return _with_reason(known)
    return _with_reason(known.but(state=state, since=now, over=False))


def _with_reason(known: RepositoryRecord) -> RepositoryRecord:
    reason = (_OVER if known.over else _REASONS)[known.state]
    return known.but(reason=reason.format(name=known.repository, now=known.name))
