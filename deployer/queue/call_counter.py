"""Counts the calls to AWS and GitHub, and what they were for.

Adapters `note` each request that leaves, repeats too. Whoever wants to know the sum counts around what makes them;
where nobody counts, a note is nothing.
"""

import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

from deployer.model.environments import Kind, Repository
from deployer.model.errors import CallLimitError, TransientError
from deployer.model.records import Cause, Work
from deployer.queue.store import Allowance

# calls to GitHub that one task may make. All tasks of a deployment make some ten together, most of them statuses of
# stages, of which a pipeline may have fifty; a resync reads the refs in pages of a hundred, of which there may be 500
MOST_CALLS = {False: 200, True: 700}
# seconds that work rests at least. A repository's share brings some sixteen calls a minute, which are two or three
# tasks; a thousand branches that rest must not all ask again each minute because a resync wants them
_LEAST_REST = {False: 60.0, True: 600.0}
Service = Literal["aws", "github"]
Purpose = Literal["deployment", "stages"]


@dataclass(slots=True)
class Tally:
    """Calls counted so far; those for the stages' statuses apart from all others.

    Attributes:
        github_quota: how many calls an hour GitHub grants, by its last answer; 0 where it names no limit.
        github_most: how many calls to GitHub may be made; 0 for any number.
        github_until: `time.monotonic()` after which no call to GitHub begins; infinite for no such time.
    """

    aws: int = 0
    github: int = 0
    aws_stages: int = 0
    github_stages: int = 0
    github_quota: int = field(default=0, compare=False)
    github_most: int = field(default=0, compare=False)
    github_until: float = field(default=math.inf, compare=False)

    @property
    def github_all(self) -> int:
        """The calls to GitHub, whatever for."""
        return self.github + self.github_stages


_tally: ContextVar[Tally | None] = ContextVar("tally", default=None)
_purpose: ContextVar[Purpose] = ContextVar("purpose", default="deployment")


@contextmanager
def counting(github_most: int = 0, github_until: float = math.inf) -> Iterator[Tally]:
    """Count the calls made within; what an inner `counting` counts is not counted here.

    Args:
        github_most: how many calls to GitHub may be made within; 0 for any number.
        github_until: `time.monotonic()` after which no call to GitHub begins; infinite for no such time.
    """
    tally = Tally(github_most=github_most, github_until=github_until)
    before = _tally.set(tally)
    try:
        yield tally
    finally:
        _tally.reset(before)


@contextmanager
def purpose(what: Purpose) -> Iterator[None]:
    """Sort the calls made within under a purpose."""
    before = _purpose.set(what)
    try:
        yield
    finally:
        _purpose.reset(before)


def note(service: Service) -> None:
    """Count one call that is about to be made.

    Raises:
        CallLimitError: it would be one more than may be made. It is not counted, and must not be made.
        TransientError: the time for calls to GitHub is over. It is not counted, and must not be made.
    """
    tally = _tally.get()
    if tally is None:
        return
    if service == "github" and time.monotonic() > tally.github_until:
        raise TransientError(
            f"GitHub is slow: the time of this task is over after {tally.github_all} calls to GitHub"
        )
    if service == "github" and is_limit_reached():
        raise CallLimitError(
            f"this needs more than {tally.github_most} calls to GitHub, the most that one task may make; reduce what "
            "the repository makes deployer read or post"
        )
    name = service if _purpose.get() == "deployment" else f"{service}_stages"
    setattr(tally, name, getattr(tally, name) + 1)


def is_limit_reached() -> bool:
    """Whether no more calls to GitHub may be made."""
    tally = _tally.get()
    return tally is not None and 0 < tally.github_most <= tally.github_all


def allow_more(calls: int) -> None:
    """Allow some calls to GitHub beyond the limit: a task that reached it has to report that."""
    tally = _tally.get()
    if tally is not None and tally.github_most:
        tally.github_most = max(tally.github_most, tally.github_all) + calls


def note_quota(limit: str | None) -> None:
    """Keep how many calls an hour GitHub grants, as its answer says (`x-ratelimit-limit`)."""
    tally = _tally.get()
    # Python refuses to read thousands of digits as a number
    if tally is not None and limit and len(limit) < 10 and limit.isascii() and limit.isdecimal():
        tally.github_quota = int(limit)


def allowance_wait(allowance: Allowance, repository: Repository, work: Work) -> float:
    """How long a repository that has used its share of GitHub's calls waits; 0 where it may go on."""
    reserved = work.environment == Kind.PRODUCTION or work.cause in {Cause.REDEPLOY, Cause.TEARDOWN}
    seconds = allowance.wait(repository, reserved=reserved)
    if not seconds:
        return 0
    # not all that rest are to ask again at the same moment
    return max(seconds, _LEAST_REST[work.cause == Cause.RESYNC]) * random.uniform(1, 1.5)  # noqa: S311  no secret


def call_counters(tally: Tally) -> dict[str, int]:
    """The counters that a task's calls add to, each with what it grows by.

    They are stored together with the task's result, so no call is counted twice. Those of a lost worker are not known.

    Args:
        tally: the calls of this task.
    """
    counts = {
        "calls:aws": tally.aws,
        "calls:github": tally.github,
        "calls:aws_stages": tally.aws_stages,
        "calls:github_stages": tally.github_stages,
    }
    return {name: number for name, number in counts.items() if number}
