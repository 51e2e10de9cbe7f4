"""Counts a task's calls to AWS and GitHub within its limits.

Adapters call `count_call` before each request, repeats included. It has an effect only within `count_calls`.
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
from deployer.queue.items import Cause, Work
from deployer.queue.store import Allowance

# Calls to GitHub that one task may make; True: a resync. All tasks of a deployment together make about ten, most of
# them statuses of stages, of which a pipeline may have fifty. A resync reads up to 500 pages of a hundred refs.
MOST_CALLS = {False: 200, True: 700}
# The shortest wait of an item in seconds; True: an item of a resync. A repository's share is about sixteen calls a
# minute, which are two or three tasks; a thousand waiting items of a resync must not all run each minute.
_SHORTEST_WAIT = {False: 60.0, True: 600.0}
Service = Literal["aws", "github"]
Purpose = Literal["deployment", "stages"]


@dataclass(slots=True)
class CallCount:
    """The calls counted so far; those for statuses of stages are counted separately.

    Attributes:
        github_quota: GitHub's limit of calls an hour, by its last answer; 0 if it names none.
        github_limit: the limit of calls to GitHub; 0 for none.
        github_deadline: `time.monotonic()` after which no call to GitHub begins; infinite for no limit.
    """

    aws: int = 0
    github: int = 0
    aws_stages: int = 0
    github_stages: int = 0
    github_quota: int = field(default=0, compare=False)
    github_limit: int = field(default=0, compare=False)
    github_deadline: float = field(default=math.inf, compare=False)

    @property
    def github_all(self) -> int:
        """All calls to GitHub."""
        return self.github + self.github_stages


_tally: ContextVar[CallCount | None] = ContextVar("tally", default=None)
_purpose: ContextVar[Purpose] = ContextVar("purpose", default="deployment")


@contextmanager
def count_calls(github_limit: int = 0, github_deadline: float = math.inf) -> Iterator[CallCount]:
    """Count the calls within this context; an inner `count_calls` counts its calls instead.

    Args:
        github_limit: the limit of calls to GitHub; 0 for none.
        github_deadline: `time.monotonic()` after which no call to GitHub begins; infinite for no limit.
    """
    tally = CallCount(github_limit=github_limit, github_deadline=github_deadline)
    before = _tally.set(tally)
    try:
        yield tally
    finally:
        _tally.reset(before)


@contextmanager
def count_for_purpose(what: Purpose) -> Iterator[None]:
    """Count the calls within this context for a purpose."""
    before = _purpose.set(what)
    try:
        yield
    finally:
        _purpose.reset(before)


def count_call(service: Service) -> None:
    """Count one call that is about to be made.

    Raises:
        CallLimitError: the limit of calls is reached. The call is not counted, and must not be made.
        TransientError: the time for calls to GitHub is over. The call is not counted, and must not be made.
    """
    tally = _tally.get()
    if tally is None:
        return
    if service == "github" and time.monotonic() > tally.github_deadline:
        raise TransientError(
            f"GitHub is slow: the time of this task is over after {tally.github_all} calls to GitHub"
        )
    if service == "github" and is_limit_reached():
        raise CallLimitError(
            f"this needs more than {tally.github_limit} calls to GitHub, the most that one task may make; reduce what "
            "the repository makes deployer read or post"
        )
    name = service if _purpose.get() == "deployment" else f"{service}_stages"
    setattr(tally, name, getattr(tally, name) + 1)


def is_limit_reached() -> bool:
    """Whether the limit of calls to GitHub is reached."""
    tally = _tally.get()
    return tally is not None and 0 < tally.github_limit <= tally.github_all


def save_quota(limit: str | None) -> None:
    """Store GitHub's limit of calls an hour, from the header `x-ratelimit-limit` of its answer."""
    tally = _tally.get()
    # Python refuses to parse a number of thousands of digits
    if tally is not None and limit and len(limit) < 10 and limit.isascii() and limit.isdecimal():
        tally.github_quota = int(limit)


def allowance_wait(allowance: Allowance, repository: Repository, work: Work) -> float:
    """The seconds that an item waits because its repository has used its share of GitHub's calls; 0 for none."""
    reserved = work.environment == Kind.PRODUCTION or work.cause in {Cause.REDEPLOY, Cause.TEARDOWN}
    seconds = allowance.seconds_until_next_call(repository, reserved=reserved)
    if not seconds:
        return 0
    # so that the waiting items do not all run at the same moment
    return max(seconds, _SHORTEST_WAIT[work.cause == Cause.RESYNC]) * random.uniform(1, 1.5)  # noqa: S311  no secret


def call_counters(tally: CallCount) -> dict[str, int]:
    """The counters of a task's calls, each with the number to add.

    They are stored together with the task's result, so no call is counted twice. Calls of a lost worker are unknown.

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
