"""The judgement of a candidate: whether a tag becomes what production runs."""

import logging
import shlex
from collections.abc import Callable
from dataclasses import replace

from deployer.deployment.production.gate import Admitted, ProductionGate, Refused
from deployer.deployment.production.tag_order import Order, compare_with_production
from deployer.deployment.ref_tracking import RefTracker
from deployer.environment.code_host import CodeHost, Head
from deployer.environment.context import ReconcileContext, StepFailedError, Stop
from deployer.environment.execution_origin import own_executions
from deployer.environment.statuses import StatusReporter
from deployer.model.durations import backoff
from deployer.model.environment_record import EnvironmentRecord, is_over
from deployer.model.environments import Environment, Kind
from deployer.model.errors import CallLimitError, NoCommitError, PermanentError
from deployer.model.outcomes import Outcome
from deployer.model.production_record import (
    Admission,
    RefusedTag,
    after_admission,
    with_approval,
    with_refusal,
)
from deployer.model.refs import Ref, skip_reason
from deployer.queue.items import Cause, Task, Work
from deployer.queue.refused_tags import refused_tag_to_recheck
from deployer.queue.step_results import Finished, StepResult, WaitUntil
from deployer.queue.store import QueueStore

_audit = logging.getLogger("deployer.audit")


class CandidateJudge:
    """Judges the tags that could become what production runs.

    Args:
        host: GitHub.
        tracker: reads where a tag is.
        reporter: posts that a tag is refused.
        gate: decides whether production may run a commit.
        lanes: the queues, which take a tag that is to be judged again.
        wait_seconds: how long a pushed tag waits until its commit is on the default branch.
        clock: epoch seconds.
    """

    def __init__(
        self,
        host: CodeHost,
        tracker: RefTracker,
        reporter: StatusReporter,
        gate: ProductionGate,
        lanes: QueueStore,
        wait_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._host = host
        self._tracker = tracker
        self._reporter = reporter
        self._gate = gate
        self._lanes = lanes
        self._wait_seconds = wait_seconds
        self._clock = clock

    def judge_candidate(self, context: ReconcileContext) -> StepResult:
        """Judge a tag: admit it as what production runs, or leave production as it is.

        A tag that is admitted continues as production's queue item. Any other tag ends here and changes nothing in
        production's record except `refused_tags`: a deployment of production that is unfinished or queued continues.

        Raises:
            TransientError: GitHub or AWS is unavailable.
        """
        before = context.record
        try:
            result = self._judge_tag(context)
        except (PermanentError, CallLimitError, StepFailedError) as error:
            kept = record_refused_push(before, context.work, str(error), context.now)
            return Finished(str(Outcome.FAILED), str(error), kept, context.work.spec.sha)
        if isinstance(result, WaitUntil):  # the tag waits for its commit, or for a fresh answer of GitHub
            return replace(result, record=None)
        if isinstance(result, Finished):
            return replace(
                result, record=_record_after_refusal(before, result.record or before, result.reason)
            )
        return result

    def _judge_tag(self, context: ReconcileContext) -> StepResult:
        work = context.work
        if work.cause == Cause.DELETION:
            return _skip(f"{work.spec.ref} was deleted; production stays as it is")
        ref = Ref.parse(work.spec.ref)
        try:
            head = self._host.head(context.repository, ref)
        except NoCommitError as error:
            reason = f"{error}; production stays as it is"
            tag = RefusedTag(ref.name, work.push.after, "", reason, pushed_at=work.push.pushed_at)
            return replace(_skip(reason), record=_add_refused_tag(context, tag).record)
        if stop := self._tracker.wait_for_fresh_read(context, head):
            return stop.result
        if head is None:
            return _skip(f"{ref} is gone; production stays as it is")
        if work.spec.approved_by and head.sha != work.spec.sha:
            return _skip(f"{ref.short} was approved at {work.spec.sha[:12]} and is at {head.sha[:12]} now; check that, "
                         "and approve it again")  # fmt: skip
        if not_newest := self._reject_older_tag(context, ref, head):
            return not_newest
        return self._admit_candidate(context, ref, head)

    def _admit_candidate(self, context: ReconcileContext, ref: Ref, head: Head) -> StepResult:
        """Let the newest tag become what production runs, unless its commit asks to be skipped or the gate refuses."""
        asked_by_person, at = context.work.cause == Cause.REDEPLOY, _request_or_push_time(context.work, head)
        if not asked_by_person and (skipped := skip_reason(ref, head.message)):
            tag = RefusedTag(ref.name, head.object, head.sha, skipped, pushed_at=at)
            return replace(_skip(skipped, head.sha), record=_add_refused_tag(context, tag).record)
        chosen = self._tracker.choose_commit(context, ref, head, self.admit_commit)
        if isinstance(chosen, Stop):
            return chosen.result
        context = chosen.context.with_record(decided_at=at, moved_to=head.object)
        # a tag that no webhook reported is a push that deployer learned of late
        cause = Cause.REDEPLOY if asked_by_person else Cause.PUSH
        return context.again(Task.SYNC, candidate=False, cause=cause, decided_at=at)

    def _reject_older_tag(self, context: ReconcileContext, ref: Ref, head: Head) -> Finished | None:
        """The end of a tag unless it is newer than what production should run; None if it is newer.

        An older tag is superseded. A tag whose order is not known is skipped, and its reason names the command that
        deploys it.
        """
        work, record = context.work, context.record
        asked_by_person, at = work.cause == Cause.REDEPLOY, _request_or_push_time(work, head)
        decided_at = record.decision_time or _production_start_time(context)
        if decided_at is None or (asked_by_person and not decided_at):
            return None  # production has run nothing yet, or a person decides anyway
        if record.spec.ref == ref.name and at >= decided_at:
            return None
        found = compare_with_production(at, head.at, decided_at)
        if found is Order.UNKNOWN and at == decided_at and record.spec.ref:
            current = self._host.head(context.repository, Ref.parse(record.spec.ref))
            found = compare_with_production(at, head.at, decided_at, current.at if current else 0)
        what = record.spec.ref or "what production runs"
        match found:
            case Order.NEWER:
                return None
            case Order.OLDER:
                later = f"{what} was pushed or chosen after {ref}"
                return Finished(str(Outcome.SUPERSEDED), later, commit=head.sha)
            case Order.UNKNOWN:
                redeploy = f"deployer redeploy {context.repository} {shlex.quote(ref.name)}"
                return _skip(
                    f"{ref} is not known to be newer than {what}; to deploy it: {redeploy}", head.sha
                )

    def queue_refused_tag_again(self, staging: ReconcileContext) -> None:
        """Queue the newest refused tag again after a push to the default branch, which may contain its commit now."""
        work = staging.work
        if work.cause != Cause.PUSH or work.log.polls or work.progress.execution:
            return
        record = self._lanes.environment(Environment(staging.repository, Kind.PRODUCTION))
        if record and (tag := refused_tag_to_recheck(record, self._task_began_at(staging))):
            self._lanes.accept(
                staging.repository, tag
            )  # this task has the queue's lease: nothing to dispatch

    def admit_commit(
        self, context: ReconcileContext, ref: Ref, head: Head, sha: str
    ) -> ReconcileContext | Stop:
        """Let the gate judge a commit, and record that it may be deployed.

        Every candidate is judged, by rules that are read from GitHub at that time. A resync of the admitted commit
        does not come here, so it changes nothing that production runs.

        Returns:
            A stop if the commit may not be deployed, or has not arrived on its branch.
        """
        work = context.work
        if work.spec.approved_by:
            by = f"approved by {work.spec.approved_by}"
            approval = Admission(
                ref.name, sha, by, person=True, goal=work.goal, at=self._task_began_at(context)
            )
            context = context.with_record(
                approvals=with_approval(context.record.spec.production.approvals, approval)
            )
        record = context.record
        approved = next(
            (each for each in record.spec.production.approvals if each.covers(ref.name, sha)), None
        )
        answer = Admitted(approved.by) if approved else self._gate.judge(context.repository, ref, sha)
        if isinstance(answer, Refused):
            return self._refuse_commit(context, ref, head, sha, answer)
        _audit.info("production of %s: %s at %s is admitted: %s", context.repository, ref, sha, answer.by)
        if any(
            (each.ref, each.commit) == (ref.name, sha) and each.status for each in record.history.refused_tags
        ):
            # the commit has a status that says the opposite
            text = f"{ref.short} at {sha[:12]} is admitted: {answer.by}"
            context = context.replace_record(
                self._reporter.post_production(context.environment, record, sha, "success", text)
            )
        refused = after_admission(
            record.history.refused_tags, ref.name, sha, _request_or_push_time(work, head)
        )
        admission = Admission(
            ref.name, sha, answer.by, bool(approved), work.goal, self._task_began_at(context)
        )
        return context.with_record(admitted=admission, refused_tags=refused)

    def _refuse_commit(
        self, context: ReconcileContext, ref: Ref, head: Head, sha: str, refusal: Refused
    ) -> Stop:
        """End the goal as skipped and keep what production should run.

        A commit that may still arrive on its branch is waited for, which costs no attempt.
        """
        work = context.work
        left = work.accepted_at + self._wait_seconds - self._task_began_at(context)
        if refusal.may_follow and work.cause == Cause.PUSH and left > 0:
            return Stop(context.snooze(seconds=backoff(context.poll_seconds, 1.5, work.log.polls, left)))
        reason = f"{refusal.reason}; production stays as it is"
        recheck = refusal.recheck and work.cause != Cause.REDEPLOY
        status = f"{refusal.state} {refusal.text}"
        tag = RefusedTag(
            ref.name,
            head.object,
            sha,
            reason,
            status,
            work.accepted_at,
            _request_or_push_time(work, head),
            recheck,
        )
        if not any(
            (each.commit, each.status) == (sha, tag.status) for each in context.record.history.refused_tags
        ):
            context = context.replace_record(
                self._reporter.post_production(
                    context.environment, context.record, sha, refusal.state, refusal.text
                )
            )
        _audit.info("production of %s: %s at %s is refused: %s", context.repository, ref, sha, reason)
        return Stop(replace(_add_refused_tag(context, tag).done(Outcome.SKIPPED, reason), commit=sha))

    def _task_began_at(self, context: ReconcileContext) -> float:
        """When the task began by Redis's clock, which also dated the queue item."""
        return context.work.log.began_at or self._clock()


def record_refused_push(
    record: EnvironmentRecord, work: Work, why: str, now: float
) -> EnvironmentRecord | None:
    """Record a tag that cannot be deployed now if production does not exist, so that a later resync deploys it.

    A resync compares branches with their stacks, and tags with the tag in production's record. It never guesses a tag,
    so without this record it would not create production at all.

    Args:
        record: production's record.
        work: the queue item of the push.
        why: the reason in one line.
        now: epoch seconds.

    Returns:
        The changed record; None if there is nothing to record.
    """
    exists = bool(record.status.state) and not is_over(record)
    if work.cause != Cause.PUSH or record.environment != Kind.PRODUCTION or exists:
        return None
    if work.push.pushed_at < record.decision_time:
        return None
    at = work.push.pushed_at
    tag = {"ref": work.spec.ref, "commit": "", "held_at": "", "pushed_at": at, "decided_at": at}
    return record.but(state="skipped", outcome="", reason=why, changed_at=now, **tag)


def _add_refused_tag(context: ReconcileContext, tag: RefusedTag) -> ReconcileContext:
    return context.with_record(refused_tags=with_refusal(context.record.history.refused_tags, tag))


def _record_after_refusal(
    before: EnvironmentRecord, after: EnvironmentRecord, reason: str
) -> EnvironmentRecord | None:
    """The record after a tag that was not admitted; None if nothing is to be recorded.

    Args:
        before: the record as it was, which describes production's own deployment.
        after: the record with the refused tag.
        reason: why it was refused; people see it if production has no deployment.
    """
    if after.history.refused_tags == before.history.refused_tags:
        return None
    if before.status.state and not before.only_skipped:
        return before.but(refused_tags=after.history.refused_tags, display=after.display)
    skipped = {"state": str(Outcome.SKIPPED), "outcome": str(Outcome.SKIPPED), "reason": reason}
    return before.but(refused_tags=after.history.refused_tags, display=after.display, **skipped)


def _production_start_time(context: ReconcileContext) -> float | None:
    """When deployer's newest execution of production started, if the record does not say; None if there is none."""
    stack = context.cloud.stack(context.name)
    if stack is None or not context.owns_stack(stack):
        return None  # the pipeline of this name may belong to somebody else
    own = own_executions(context, context.cloud.executions(context.name, context.repository))
    return own[0].started_at if own else None


def _request_or_push_time(work: Work, head: Head) -> float:
    """When a person asked for the tag, or when the tag was pushed, or else made (epoch seconds)."""
    if work.cause == Cause.REDEPLOY:
        return work.spec.decided_at or work.accepted_at
    return work.push.pushed_at or head.at


def _skip(reason: str, commit: str = "") -> Finished:
    return Finished(str(Outcome.SKIPPED), reason, commit=commit)
