"""Carries out the step of one queue item, and maps its error to a step result."""

import logging
import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from deployer.model.durations import backoff
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Repository
from deployer.model.errors import (
    DeployerError,
    LaneLostError,
    StoredValueError,
    ThrottledError,
    TransientError,
    UnknownStatusError,
    machine_shortage,
)
from deployer.model.outcomes import Outcome
from deployer.queue.call_counter import allowance_wait
from deployer.queue.dead_letter_record import TASK_TIMEOUT, WORKER_LOST, DeadLetter
from deployer.queue.dead_letters import error_kind, make_letter
from deployer.queue.items import RESYNC_KEY, TIMEOUTS, Cause, Task, Work
from deployer.queue.step_results import DeadLettered, Finished, RetryLater, StepHandler, StepResult, WaitUntil
from deployer.queue.store import Allowance, QueueStore

_log = logging.getLogger("deployer.tasks")
_LONGEST_RETRY = 600.0
_LONGEST_JITTER = 30.0
_STEPS = {Task.PROVISION, Task.UPDATE, Task.TRIGGER, Task.DELETE}
# Turns spread the calls to GitHub if a thousand repositories are resynced at once. Each kind of turn has a name in
# Redis, the seconds between turns, and how many turns are granted at once. A resync calls GitHub once, and each item
# that it queues about five times; a GitHub App may make 5,000 calls an hour and 900 to 2,000 a minute.
_TURNS_OF_RESYNCS = ("resyncs", 0.2, 20)
_TURNS_OF_RESYNC_ITEMS = ("wishes", 4.0, 60)
_LONGEST_TRACEBACK = 6000  # characters at its end, which says most


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """What the installation decides about tasks.

    Attributes:
        lease_seconds: the length of a lease.
        max_attempts: the number of failed attempts after which an item becomes a dead letter.
        retry_seconds: the wait before the second attempt.
        poll_seconds: the shortest wait after a rate limit of AWS or GitHub was reached.
        public_url: the dashboard's URL; empty if it is not known.
    """

    lease_seconds: float
    max_attempts: int
    retry_seconds: float
    poll_seconds: float
    public_url: str = ""


class StepRunner:
    """Carries out steps.

    Args:
        lanes: the queues.
        allowance: each repository's share of GitHub's calls.
        steps: carries out the item's step.
        allows: whether the installation serves a repository.
        options: the installation's settings.
    """

    def __init__(
        self,
        lanes: QueueStore,
        allowance: Allowance,
        steps: StepHandler,
        *,
        allows: Callable[[Repository], bool],
        options: RunnerOptions,
    ) -> None:
        self._lanes = lanes
        self._allowance = allowance
        self._steps = steps
        self._allows = allows
        self._options = options

    def carry_out_step(self, repository: Repository, work: Work, token: int) -> StepResult | None:
        """Run the step of an item.

        Args:
            repository: whose queue has the item.
            work: the item.
            token: its token.

        Returns:
            The result, also of an error; None if the lease was lost.
        """

        def assert_lease() -> None:
            if not self._lanes.extend(repository, token):
                raise LaneLostError(f"the lane of {repository} was handed out again")

        limit = self._options.max_attempts
        if work.timed_out or (work.log.attempts > limit and work.ended_with_its_worker):
            return self._dead_letter_for_lost_worker(repository, work, token)
        if not self._allows(repository):
            return Finished(
                str(Outcome.IGNORED), f"{repository} matches none of the patterns in DEPLOYER_REPOSITORIES"
            )
        try:
            if wait := self._wait_for_turn(repository, work):
                return wait
            work = work.but(rests_for="", turned=work.turned or work.cause == Cause.RESYNC)
            return self._steps.carry_out(repository, work, assert_lease)
        except LaneLostError:
            return None
        except ThrottledError as error:
            # AWS or GitHub did nothing, so this is not an attempt. It is no success either, so earlier attempts still
            # count. The jitter keeps the items that wait for the same limit from returning at the same moment.
            seconds = max(error.retry_after or 0, self._options.poll_seconds)
            seconds += random.uniform(0, min(seconds / 4, _LONGEST_JITTER))  # noqa: S311  no secret
            return WaitUntil(restart_at_sync(work).but(rests_for=str(error)), seconds, keeps_attempts=True)
        except TransientError as error:
            return self._retry_or_dead_letter(repository, work, token, error)
        except (StoredValueError, UnknownStatusError) as error:
            # only operators of deployer can correct it
            return self._dead_letter_for_error(repository, work, token, error)
        except DeployerError as error:
            # people must change something first, so neither a retry nor a dead letter would help
            return Finished("failed", str(error))
        except Exception as error:  # noqa: BLE001  an unexpected error must not lose the item
            return self._result_of_unexpected_error(repository, work, token, error)

    def _retry_or_dead_letter(
        self, repository: Repository, work: Work, token: int, error: TransientError
    ) -> RetryLater | DeadLettered:
        """Retry the item later; after its last attempt make a dead letter of it."""
        if work.log.attempts < self._options.max_attempts:
            seconds = self._retry_delay(work.log.attempts, error.retry_after)
            return RetryLater(restart_at_sync(work), seconds, str(error))
        return self._dead_letter_for_error(repository, work, token, error)

    def _result_of_unexpected_error(
        self, repository: Repository, work: Work, token: int, error: Exception
    ) -> RetryLater | DeadLettered:
        """Retry if this machine lacks memory or files; any other error is a bug."""
        if missing := machine_shortage(error):
            return self._retry_or_dead_letter(repository, work, token, TransientError(missing))
        return self._dead_letter_for_error(repository, work, token, error)

    def _wait_for_turn(self, repository: Repository, work: Work) -> WaitUntil | None:
        """The result for an item that must wait: for its repository's share of GitHub's calls, or for its turn."""
        if seconds := allowance_wait(self._allowance, repository, work):
            reason = (
                f"{repository} has used its share of the calls to GitHub that all repositories have together"
            )
            return WaitUntil(work.but(rests_for=reason), seconds, keeps_attempts=True)
        if work.cause == Cause.RESYNC and not work.turned:
            turns = _TURNS_OF_RESYNCS if work.environment == RESYNC_KEY else _TURNS_OF_RESYNC_ITEMS
            if seconds := self._lanes.take_turn(*turns):
                return WaitUntil(work.but(rests_for="", turned=True), seconds, keeps_attempts=True)
        return None

    def _dead_letter_for_error(
        self, repository: Repository, work: Work, token: int, error: Exception
    ) -> DeadLettered:
        expected = isinstance(error, DeployerError)
        reason = " ".join((str(error) if expected else f"{type(error).__name__}: {error}").split())[:500]
        # the dead letter has the traceback; in the log it is useful only for a bug
        _log.error("%s of %s %s is a dead letter: %s", work.task, repository, work.environment, reason,
                   exc_info=None if expected else error)  # fmt: skip
        text = "".join(traceback.format_exception(error))[-_LONGEST_TRACEBACK:]
        return self._make_dead_letter(repository, work, token, error_kind(error), reason, text)

    def _dead_letter_for_lost_worker(self, repository: Repository, work: Work, token: int) -> DeadLettered:
        """The result for an item whose every attempt lost its process; this attempt only reports that."""
        work = work.but(attempts=work.log.attempts - 1)  # this one is not counted
        kind, reason = WORKER_LOST, f"its worker was lost {work.log.attempts} times while running {work.task}"
        if work.timed_out:
            kind, reason = (
                TASK_TIMEOUT,
                f"{work.task} ran out of time and was killed, {TIMEOUTS} times in a row",
            )
        _log.error("%s of %s %s is a dead letter: %s", work.task, repository, work.environment, reason)
        return self._make_dead_letter(repository, work, token, kind, reason)

    def _make_dead_letter(
        self, repository: Repository, work: Work, token: int, kind: str, reason: str, traceback_text: str = ""
    ) -> DeadLettered:
        letter = make_letter(repository, work, token, kind, reason, traceback_text)
        return DeadLettered(letter, self._report_dead_letter(repository, work, letter))

    def _report_dead_letter(
        self, repository: Repository, work: Work, letter: DeadLetter
    ) -> EnvironmentRecord | None:
        """Report a dead letter on its commit if that is possible now; returns the environment's new record."""
        if work.environment == RESYNC_KEY:
            return None
        try:
            return self._steps.report_death(repository, work, letter.id, letter.public_reason)
        except Exception as error:  # noqa: BLE001  a failed report must not fail the item again
            _log.warning("reporting dead letter %s: %s", letter.id, error)
            return None

    def _retry_delay(self, attempts: int, retry_after: float | None) -> float:
        seconds = backoff(self._options.retry_seconds, 2, attempts - 1, _LONGEST_RETRY)
        seconds *= random.uniform(0.75, 1.25)  # noqa: S311  jitter, no secret
        return max(seconds, retry_after or 0)


def restart_at_sync(work: Work) -> Work:
    """Return an item that failed in a step to the task `sync`, which decides again, because AWS may have changed.

    An update or rollback that AWS refused counts as not ordered; if AWS carried it out, the stack shows it.
    """
    if work.task not in _STEPS:
        return work
    ordering = work.task == Task.UPDATE
    return work.but(
        task=Task.SYNC,
        updated=work.progress.updated and not ordering,
        # the update task also updates a stack that was rolled back before
        recovered=work.progress.recovered and (work.progress.updated or not ordering),
        restored=work.progress.restored and not ordering,
    )
