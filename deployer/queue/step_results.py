"""The results of a step, with the interface of what carries it out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Repository
from deployer.queue.dead_letter_record import DeadLetter
from deployer.queue.items import Work


@dataclass(frozen=True, slots=True)
class Finished:
    """The item ends with an outcome.

    Attributes:
        record: the environment's new record; None if the record does not change.
        commit: the commit that the activity shows; by default the record's.
    """

    outcome: str
    reason: str
    record: EnvironmentRecord | None = None
    commit: str = ""


@dataclass(frozen=True, slots=True)
class Continue:
    """The item continues with its next task at once."""

    work: Work
    record: EnvironmentRecord | None = None


@dataclass(frozen=True, slots=True)
class WaitUntil:
    """The item waits for an event or until a time. This does not count as an attempt.

    Attributes:
        keeps_attempts: whether it waits for a turn, an allowance or AWS's rate limit. Then a resync that joins the
            item does not wake it, and earlier failed attempts still count.
    """

    work: Work
    seconds: float
    record: EnvironmentRecord | None = None
    keeps_attempts: bool = False


@dataclass(frozen=True, slots=True)
class RetryLater:
    """A transient error: the task is repeated after some time. This counts as an attempt.

    Attributes:
        error: why this attempt failed.
    """

    work: Work
    seconds: float
    error: str


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """The item becomes a dead letter, because deployer or its operators must correct something."""

    letter: DeadLetter
    record: EnvironmentRecord | None = None


StepResult = Finished | Continue | WaitUntil | RetryLater | DeadLettered


class StepHandler(Protocol):
    """Carries out the step that a queue item names, and reports dead letters."""

    def carry_out(self, repository: Repository, work: Work, guard: Callable[[], None]) -> StepResult:
        """Carry out one step.

        Args:
            repository: whose queue has the item.
            work: the item.
            guard: called before each change outside deployer; raises `LaneLostError` if the lease is lost.

        Raises:
            LaneLostError: the guard has raised it.
            DeployerError: the step failed.
        """

    def report_death(
        self, repository: Repository, work: Work, letter: str, reason: str
    ) -> EnvironmentRecord | None:
        """Report on its commit that an item became a dead letter.

        Args:
            repository: whose queue has the item.
            work: the item.
            letter: the dead letter's id.
            reason: why, in words that everybody may read.

        Returns:
            The environment's new record.

        Raises:
            DeployerError: GitHub or Redis is unavailable.
        """


def describe_result(verdict: StepResult) -> str:
    """A step's result in a few words."""
    match verdict:
        case Finished():
            return f"{verdict.outcome}: {verdict.reason}"
        case Continue():
            return f"next: {verdict.work.task}"
        case WaitUntil():
            return f"snoozed for {verdict.seconds:.1f} s"
        case RetryLater():
            return f"retry in {verdict.seconds:.0f} s: {verdict.error}"
        case DeadLettered():
            return f"dead-lettered: {verdict.letter.public_reason}"
