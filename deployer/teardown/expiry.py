"""The end of an environment by its age: a teardown after its time to live, or for its hours of sleep."""

from collections.abc import Callable
from dataclasses import replace

from deployer.environment.context import ReconcileContext
from deployer.environment.statuses import StatusReporter
from deployer.model.durations import date
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.expiry import ASLEEP, NIGHT, expires_at, used_at
from deployer.model.outcomes import Outcome
from deployer.queue.items import Cause
from deployer.queue.step_results import Finished, StepResult
from deployer.teardown.teardown import GONE, Teardown


class ExpiringTeardown:
    """Carries out the step that deletes, also if the environment's age asks for it.

    Args:
        teardown: deletes the stacks.
        reporter: posts the end on the environment's commit.
        ttl: how long a development environment may be idle, unless its repository says so itself.
        clock: epoch seconds.
    """

    def __init__(
        self, teardown: Teardown, reporter: StatusReporter, ttl: str, clock: Callable[[], float]
    ) -> None:
        self._teardown = teardown
        self._reporter = reporter
        self._ttl = ttl
        self._clock = clock

    def delete_environment(self, context: ReconcileContext) -> StepResult:
        """Continue with the teardown. If the environment's age asked for it, post its end on the commit."""
        record, reason = context.record, context.record.status.reason
        by_age = context.work.cause == Cause.AGE and bool(record.spec.expiry.aged)
        kept = used_at(record) > record.spec.expiry.aged_at or record.spec.expiry.kept_until > context.now
        if by_age and kept and not record.status.receipt.is_running:
            state = "deployed" if record.status.outcome == Outcome.DEPLOYED else "failed"
            context = context.with_record(aged="", held_at="").enter_state(state, reason="")
            return context.done(Outcome.SKIPPED, "it was used, or a person kept it, just before its end")
        result = self._teardown.carry_out(context)
        if not by_age or not isinstance(result, Finished) or result.outcome != Outcome.DELETED:
            return result
        ended = result.record or record
        ended = self._reporter.post_expiry_status(context.environment, ended, self._end_text(ended, reason))
        if result.reason != GONE:
            reason = f"{reason}; {result.reason}"
        sleeps = ended.spec.expiry.aged == NIGHT
        ended = ended.but(
            state=ASLEEP if sleeps else ended.status.state,
            reason=reason,
            # sleep is no use of the environment, so its end stays when the warning said
            warned_at=record.history.warned_at if sleeps else 0,
        )
        return replace(result, reason=reason, record=ended)

    def _end_text(self, record: EnvironmentRecord, reason: str) -> str:
        """The text for the commit. If people were warned, it also names the end after the hours of sleep."""
        warned = record.spec.expiry.aged == NIGHT and record.history.warned_at > used_at(record)
        if warned and (ends := expires_at(record, self._ttl, self._clock())):
            return f"will be taken down for good on {date(ends)}, and is for the night: {reason}"
        return f"was taken down: {reason}"


def record_failed_check(record: EnvironmentRecord, reason: str, now: float) -> EnvironmentRecord:
    """Record that the check of an environment's age failed. If its end had begun, the environment has failed in it.

    Args:
        record: the environment's record.
        reason: why the check failed.
        now: epoch seconds.
    """
    if record.status.state == "deleting":
        record = record.but(state="failed", reason=reason)
    return record.but(age_looked_at=now)
