"""Finds out what production should run: the newest allowed tag, or what a person chose after it was pushed."""

import logging
import shlex
from collections.abc import Callable
from dataclasses import replace

from deployer.deployment.executions import Executions, note_drift
from deployer.deployment.newest_tag import Order, order
from deployer.deployment.production_gate import Admitted, Gate, Refused
from deployer.deployment.ref_tracking import Moves
from deployer.environment.context import Run, Settled
from deployer.environment.drift import applied
from deployer.environment.ports import Facts, Head, Host
from deployer.environment.statuses import Reporter
from deployer.model.durations import backoff
from deployer.model.environments import Environment, Kind
from deployer.model.errors import CallLimitError, NoCommitError, PermanentError
from deployer.model.production_record import (
    Admission,
    RefusedTag,
    after_admission,
    with_approval,
    with_refusal,
)
from deployer.model.records import Cause, EnvironmentRecord, Outcome, Task, Work, is_over
from deployer.model.refs import Ref, skip_reason
from deployer.model.stacks import Phase
from deployer.queue.step_results import Done, Snooze, Verdict
from deployer.queue.store import Lanes
from deployer.queue.submit import tag_to_judge_again

_audit = logging.getLogger("deployer.audit")
_LOOKED_AT_TAGS = 5  # the latest: each is a call or two
_NO_TAG = "no tag is known for production; push one, or redeploy a tag"


def put_off(record: EnvironmentRecord, work: Work, why: str, now: float) -> EnvironmentRecord | None:
    """What is kept of a tag that cannot be deployed now where there is no production: a resync is to do it some day.

    Branches are compared with what stands, and so are tags that are newer than production's own; but a production of
    which nothing is known is not made from a guess at its tag.

    Args:
        record: what is known of the environment.
        work: the push.
        why: the reason, in words.
        now: epoch seconds.

    Returns:
        None where there is nothing to keep.
    """
    stands = bool(record.state) and not is_over(record)
    if work.cause != Cause.PUSH or record.environment != Kind.PRODUCTION or stands:
        return None
    if work.pushed_at < record.decision_time:
        return None
    at = work.pushed_at
    tag = {"ref": work.ref, "commit": "", "held_at": "", "pushed_at": at, "decided_at": at}
    return record.but(state="skipped", outcome="", reason=why, changed_at=now, **tag)


def _time_of(work: Work, head: Head) -> float:
    """The time of what the work wants: when a person asked for it, or when the tag was pushed, or else made."""
    if work.cause == Cause.REDEPLOY:
        return work.decided_at or work.accepted_at
    return work.pushed_at or head.at


def _skip(reason: str, commit: str = "") -> Done:
    return Done(str(Outcome.SKIPPED), reason, commit=commit)


def _with_refused(
    before: EnvironmentRecord, after: EnvironmentRecord, reason: str
) -> EnvironmentRecord | None:
    """The record after a tag that was not admitted; None where nothing is to be noted.

    Args:
        before: the record as it was, which tells of production's own deployment.
        after: the record with the refused tag.
        reason: why it was refused; where production has no deployment, people see that.
    """
    if after.refused_tags == before.refused_tags:
        return None
    if before.state and not before.only_skipped:
        return before.but(refused_tags=after.refused_tags)
    skipped = str(Outcome.SKIPPED)
    return before.but(refused_tags=after.refused_tags, state=skipped, outcome=skipped, reason=reason)


class Production:
    """Finds what production should be.

    Args:
        host: GitHub.
        moves: follows a tag to where it is.
        executions: follows what production runs already.
        reporter: tells of a refusal.
        gate: decides whether production may run a commit.
        lanes: takes what is to go on, or to be judged again.
        wait_seconds: how long a pushed tag waits for its commit to arrive on the default branch.
        clock: epoch seconds.
    """

    def __init__(
        self,
        host: Host,
        moves: Moves,
        executions: Executions,
        reporter: Reporter,
        gate: Gate,
        lanes: Lanes,
        wait_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._host = host
        self._moves = moves
        self._executions = executions
        self._reporter = reporter
        self._gate = gate
        self._lanes = lanes
        self._wait_seconds = wait_seconds
        self._clock = clock

    # --- a tag that is not judged yet -----------------------------------------------------------------------------

    def judge(self, run: Run) -> Verdict:
        """Judge a tag: admit it as what production should run, or leave production as it is.

        A tag that is admitted goes on as production's work. Any other ends here, and changes nothing of production's
        record but `refused_tags`: what is under way there, or waits, goes on.

        Raises:
            TransientError: GitHub or AWS is away.
        """
        before = run.record
        try:
            verdict = self._judged(run)
        except Settled as settled:
            verdict = settled.verdict
        except (PermanentError, CallLimitError) as error:
            kept = put_off(before, run.work, str(error), run.now)
            return Done(str(Outcome.FAILED), str(error), kept, run.work.sha)
        if isinstance(verdict, Snooze):  # it waits for its commit, or for a fresh answer of GitHub
            return replace(verdict, record=None)
        if isinstance(verdict, Done):
            return replace(verdict, record=_with_refused(before, run.record, verdict.reason))
        return verdict

    def _judged(self, run: Run) -> Verdict:
        work = run.work
        if work.cause == Cause.DELETION:
            return _skip(f"{work.ref} was deleted; production stays as it is")
        ref = Ref.parse(work.ref)
        try:
            head = self._host.head(run.repository, ref)
        except NoCommitError as error:
            reason = f"{error}; production stays as it is"
            self._note_refused(run, RefusedTag(ref.name, work.after, "", reason, pushed_at=work.pushed_at))
            return _skip(reason)
        self._moves.refuse_stale(run, head)
        if head is None:
            return _skip(f"{ref} is gone; production stays as it is")
        if work.approved_by and head.sha != work.sha:
            return _skip(f"{ref.short} was approved at {work.sha[:12]} and is at {head.sha[:12]} now; look at that, "
                         "and approve it again")  # fmt: skip
        if not_newest := self._not_newest(run, ref, head):
            return not_newest
        asked_by_person, at = work.cause == Cause.REDEPLOY, _time_of(work, head)
        if not asked_by_person and (skipped := skip_reason(ref, head.message)):
            self._note_refused(run, RefusedTag(ref.name, head.object, head.sha, skipped, pushed_at=at))
            return _skip(skipped, head.sha)
        self._moves.take(run, ref, head, self._admit)
        run.record = run.record.but(decided_at=at, moved_to=head.object)
        # a tag of which no webhook told is a push that deployer learnt of late
        cause = Cause.REDEPLOY if asked_by_person else Cause.PUSH
        return run.again(Task.SYNC, candidate=False, cause=cause, decided_at=at)

    def _not_newest(self, run: Run, ref: Ref, head: Head) -> Done | None:
        """The end of a tag that is older than what production should run, or may be; None where it is newer."""
        work, record = run.work, run.record
        asked_by_person, at = work.cause == Cause.REDEPLOY, _time_of(work, head)
        decided_at = record.decision_time or self._started_at(run)
        if decided_at is None or (asked_by_person and not decided_at):
            return None  # nothing was deployed there yet, or a person is asked anyway
        if record.ref == ref.name and at >= decided_at:
            return None
        found = order(at, head.at, decided_at)
        if found is Order.UNKNOWN and at == decided_at and record.ref:
            own = self._host.head(run.repository, Ref.parse(record.ref))
            found = order(at, head.at, decided_at, own.at if own else 0)
        what = record.ref or "what production runs"
        match found:
            case Order.NEWER:
                return None
            case Order.OLDER:
                later = f"{what} was pushed or chosen after {ref}"
                return Done(str(Outcome.SUPERSEDED), later, commit=head.sha)
            case Order.UNKNOWN:
                redeploy = f"deployer redeploy {run.repository} {shlex.quote(ref.name)}"
                return _skip(
                    f"{ref} is not known to be newer than {what}; to deploy it: {redeploy}", head.sha
                )

    def _started_at(self, run: Run) -> float | None:
        """When the execution began that production runs, of which the record does not tell; None where none runs."""
        stack = run.cloud.stack(run.name)
        if stack is None or not run.environment.owns(stack.tags):  # a pipeline of its name may be anybody's
            return None
        started = (each.started_at for each in run.cloud.executions(run.name) if not each.automatic)
        return next(started, None)

    def _note_refused(self, run: Run, tag: RefusedTag) -> None:
        run.record = run.record.but(refused_tags=with_refusal(run.record.refused_tags, tag))

    def check_again(self, staging: Run) -> None:
        """Have the newest refused tag judged once more, since the default branch was pushed: it may contain it now."""
        work = staging.work
        if work.cause != Cause.PUSH or work.polls or work.execution:
            return
        record = self._lanes.environment(Environment(staging.repository, Kind.PRODUCTION))
        if record and (wish := tag_to_judge_again(record, self._now(staging))):
            self._lanes.accept(staging.repository, wish)  # this task holds the lane: nothing to dispatch

    # --- what production should run ---------------------------------------------------------------------------------

    def find(self, run: Run) -> bool:
        """Find the commit that production should run: sets the work's commit and ref, and returns True.

        It is the one that was admitted. Work that names another one goes back to be judged.

        Raises:
            Settled: it stays as it is, what it runs is followed, or a tag is judged first.
        """
        work, record = run.work, run.record
        admitted = record.admitted
        if work.cause == Cause.DELETION:
            raise Settled(_skip(f"{work.ref} was deleted; production stays as it is"))
        if work.cause != Cause.RESYNC:
            if admitted.covers(work.ref, work.sha) and admitted.goal == work.goal:
                return True
            raise Settled(self._to_be_judged(run))
        if not record.commit:
            self._adopt(run)
        name = record.ref or work.ref
        if not name:
            raise Settled(run.done(Outcome.SKIPPED, _NO_TAG))
        if work.ref not in {"", name}:  # version 0.1.0 queued a tag that no webhook told of in this way
            raise Settled(self._to_be_judged(run))
        if admitted.covers(record.ref, record.commit):
            run.work = work.but(ref=record.ref, sha=record.commit)
            if not work.polls:
                self._refuse_behind(run, Ref.parse(record.ref), record.commit)
            return True
        ref = Ref.parse(name)
        head = self._host.head(run.repository, ref)
        self._moves.refuse_stale(run, head)
        if head is None:
            raise Settled(run.done(Outcome.SKIPPED, f"{ref} is gone; production stays as it is"))
        if not work.polls:
            self._refuse_behind(run, ref, head.sha)
        self._moves.take(run, ref, head, self._admit)
        run.record = run.record.but(decided_at=record.decision_time or head.at, moved_to=head.object)
        return True

    def _to_be_judged(self, run: Run) -> Verdict:
        """Let the tag that the work names be judged, or else the one that production should run already."""
        work = run.work
        self._separate(run)
        ref = work.ref or run.record.ref
        if not ref:
            return run.done(Outcome.SKIPPED, _NO_TAG)
        undone = dict.fromkeys(["created", "updated", "recovered", "replacing"], False)
        return run.again(
            Task.SYNC, candidate=True, ref=ref, sha=work.sha if work.chosen else "", execution="", passed="", wish="",
            **undone,
        )  # fmt: skip

    def _separate(self, run: Run) -> None:
        """Queue what version 0.1.0 kept within one item of production: other tags, and what a person wants."""
        work = run.work
        for line in work.passed.splitlines():
            pushed_at, _, ref = line.partition(" ")
            tag = Work(run.environment.key, ref=ref, pushed_at=float(pushed_at), candidate=True)
            self._lanes.accept(run.repository, tag)  # this task holds the lane: nothing to dispatch
        if work.wish:
            wish = Work.from_json(work.wish)
            kept = wish.but(deliveries="", attempts=0, tries="", decided_at=wish.accepted_at)
            self._lanes.accept(run.repository, kept)

    # --- the gate -----------------------------------------------------------------------------------------------

    def _admit(self, run: Run, ref: Ref, head: Head, sha: str) -> None:
        """Have the gate judge a commit, and note in the record that it may be deployed.

        Every candidate is judged, by rules that are read live. A resync of what was admitted changes nothing that
        production runs.

        Raises:
            Settled: it may not be deployed, or its commit is waited for.
        """
        record, work = run.record, run.work
        if work.approved_by:
            by = f"approved by {work.approved_by}"
            approval = Admission(ref.name, sha, by, person=True, goal=work.goal, at=self._now(run))
            run.record = record = record.but(approvals=with_approval(record.approvals, approval))
        approved = next((each for each in record.approvals if each.covers(ref.name, sha)), None)
        answer = Admitted(approved.by) if approved else self._gate.judge(run.repository, ref, sha)
        if isinstance(answer, Refused):
            self._refuse(run, ref, head, sha, answer)
            return
        _audit.info("production of %s: %s at %s is admitted: %s", run.repository, ref, sha, answer.by)
        if any((each.ref, each.commit) == (ref.name, sha) and each.status for each in record.refused_tags):
            # its commit has a status that says the opposite
            text = f"{ref.short} at {sha[:12]} is admitted: {answer.by}"
            self._reporter.production(run.environment, sha, "success", text)
        refused = after_admission(record.refused_tags, ref.name, sha, _time_of(work, head))
        admission = Admission(ref.name, sha, answer.by, bool(approved), work.goal, self._now(run))
        run.record = record.but(admitted=admission, refused_tags=refused)

    def _refuse(self, run: Run, ref: Ref, head: Head, sha: str, refusal: Refused) -> None:
        """End the work as skipped, and leave what the record says production should run.

        Raises:
            Settled: always; a commit that may still arrive on its branch is waited for, which costs no attempt.
        """
        work = run.work
        left = work.accepted_at + self._wait_seconds - self._now(run)
        if refusal.may_follow and work.cause == Cause.PUSH and left > 0:
            raise Settled(run.snooze(seconds=backoff(run.poll_seconds, 1.5, work.polls, left)))
        reason = f"{refusal.reason}; production stays as it is"
        recheck = refusal.recheck and work.cause != Cause.REDEPLOY
        status = f"{refusal.state} {refusal.text}"
        entry = RefusedTag(
            ref.name, head.object, sha, reason, status, work.accepted_at, _time_of(work, head), recheck
        )
        if not any((each.commit, each.status) == (sha, entry.status) for each in run.record.refused_tags):
            self._reporter.production(run.environment, sha, refusal.state, refusal.text)
        _audit.info("production of %s: %s at %s is refused: %s", run.repository, ref, sha, reason)
        self._note_refused(run, entry)
        raise Settled(replace(run.done(Outcome.SKIPPED, reason), commit=sha))

    def _now(self, run: Run) -> float:
        """Redis's clock, as when the work was accepted."""
        return run.work.began_at or self._clock()

    def _refuse_behind(self, run: Run, ref: Ref, sha: str) -> None:
        """Leave production as it is if AWS runs what the record has never heard of: then the record is the older."""
        admitted = run.record.admitted
        stack = run.cloud.stack(run.name)
        if stack is None or not run.environment.owns(stack.tags):  # a pipeline of its name may be anybody's
            return
        newest = next((each for each in run.cloud.executions(run.name) if not each.automatic), None)
        if newest is None or newest.sha in {"", sha, run.record.commit, admitted.commit}:
            return
        if 0 < newest.started_at <= admitted.at:  # of an earlier tag: this one was to replace it
            return
        reason = (
            f"production runs {newest.sha[:12]}, which is not known to be older than {ref.short}; redeploy it"
        )
        note_drift(run, stack)
        raise Settled(self._reporter.failed(run, f"{reason} if that is wanted"))

    def _adopt(self, run: Run) -> None:
        """Learn what production runs, and since when, after Redis was lost. What deployer started is only followed."""
        stack = run.cloud.stack(run.name)
        if stack is None or not run.environment.owns(stack.tags):
            return
        if stack.phase in {Phase.WEDGED, Phase.STUCK, Phase.UNDELETED}:
            return  # nothing runs there: its tag tells what it is to be
        if stack.phase is not Phase.READY:
            raise Settled(run.snooze())
        run.record = run.record.but(
            applications=run.cloud.deployed_stacks(run.name) or run.record.applications,
            region=run.cloud.region,
            stack_arn=stack.arn,
            applied=applied(stack),
            drift="",
        )
        newest = next(iter(run.cloud.executions(run.name)), None)
        if run.work.ref and (newest is None or newest.automatic):
            return  # nothing but what AWS starts by itself, at the default branch's head: its tag tells better
        if newest is None or not newest.sha:
            raise Settled(run.done(Outcome.SKIPPED, "production stands, and nothing ran in it yet"))
        facts = self._host.facts(run.repository)
        if facts is None:
            raise PermanentError(f"{run.repository} is not found, or deployer has no access")
        name = self._tag_of(run, facts, newest.sha)
        run.work = run.work.but(ref=name, sha=newest.sha, execution=newest.id)
        run.record = run.record.but(ref=name, decided_at=newest.started_at)
        raise Settled(self._executions.take(run, newest.id))

    def _tag_of(self, run: Run, facts: Facts, sha: str) -> str:
        """The tag of a commit, that of the stack first; empty where none is found."""

        def is_at(ref: Ref) -> bool:
            head = self._host.head(run.repository, ref)
            return head is not None and head.sha == sha

        if run.work.ref and is_at(Ref.parse(run.work.ref)):
            return run.work.ref
        tags = {ref: target for ref, target in facts.refs.items() if ref.is_tag}
        if direct := [ref.name for ref, target in tags.items() if target == sha]:
            return min(direct)
        # what an annotated tag points to is no commit: the latest are asked for theirs
        latest = sorted(tags, key=lambda ref: facts.made.get(ref, 0), reverse=True)[:_LOOKED_AT_TAGS]
        return next((ref.name for ref in latest if is_at(ref)), "")
