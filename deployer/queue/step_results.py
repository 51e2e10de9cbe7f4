"""How a step ends, for the queue that handed out its work."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from deployer.model.environments import Repository
from deployer.model.records import DeadLetter, EnvironmentRecord, Work


@dataclass(frozen=True, slots=True)
class Done:
    """The goal is reached, or cannot be.

    Attributes:
        record: what is known of the environment from now on; None where that stays as it is.
        commit: of what the activity tells; by default the record's.
    """

    outcome: str
    reason: str
    record: EnvironmentRecord | None = None
    commit: str = ""


@dataclass(frozen=True, slots=True)
class Again:
    """The lane's next task is for the same environment, at once."""

    work: Work
    record: EnvironmentRecord | None = None


@dataclass(frozen=True, slots=True)
class Snooze:
    """Nothing to do until an event comes or the time is up. Costs no attempt.

    Attributes:
        rests: whether it waits for a turn, an allowance or AWS's rate limits: a resync that joins it meanwhile lets it
            sleep on, and this hand-out counts neither as an attempt nor as the end of those before.
    """

    work: Work
    seconds: float
    record: EnvironmentRecord | None = None
    rests: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """A passing fault: the same task once more after some time. Costs an attempt.

    Attributes:
        error: why this attempt failed.
    """

    work: Work
    seconds: float
    error: str


@dataclass(frozen=True, slots=True)
class Dead:
    """A fault of our own: to the dead letters."""

    letter: DeadLetter
    record: EnvironmentRecord | None = None


Verdict = Done | Again | Snooze | Retry | Dead


class StepHandler(Protocol):
    """Carries out the step that a queue item names, and reports where the item became a dead letter."""

    def carry_out(self, repository: Repository, work: Work, guard: Callable[[], None]) -> Verdict:
        """Carry out one step.

        Args:
            repository: the queue's.
            work: the item.
            guard: called before anything is changed outside; raises `LaneLostError` where the lease is lost.

        Raises:
            LaneLostError: from the guard.
            DeployerError: the step failed.
        """

    def report_death(
        self, repository: Repository, work: Work, letter: str, reason: str
    ) -> EnvironmentRecord | None:
        """Report on its commit that work became a dead letter.

        Args:
            repository: the queue's.
            work: the item.
            letter: the dead letter's id.
            reason: why, in words fit for everybody.

        Returns:
            The environment's record from now on.

        Raises:
            DeployerError: GitHub or Redis is away.
        """


def describe(verdict: Verdict) -> str:
    """A verdict in a few words."""
    match verdict:
        case Done():
            return f"{verdict.outcome}: {verdict.reason}"
        case Again():
            return f"next: {verdict.work.task}"
        case Snooze():
            return f"snoozed for {verdict.seconds:.1f} s"
        case Retry():
            return f"again in {verdict.seconds:.0f} s: {verdict.error}"
        case Dead():
            return f"dead-lettered: {verdict.letter.told}"
