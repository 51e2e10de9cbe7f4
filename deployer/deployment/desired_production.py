"""Which tag production is to run. It moves by a push of a tag or by a person; a resync never moves it backwards."""

import logging
from collections.abc import Callable
from dataclasses import replace

from deployer.deployment.executions import Executions, note_drift
from deployer.deployment.production_gate import Admitted, Gate, Refused
from deployer.deployment.ref_tracking import Moves, ask_for, is_on_its_way
from deployer.environment.context import Run, Settled
from deployer.environment.drift import applied
from deployer.environment.ports import Facts, Head, Host
from deployer.environment.statuses import Reporter
from deployer.model.durations import backoff
from deployer.model.environments import Environment, Kind
from deployer.model.errors import NoCommitError, PermanentError
from deployer.model.production_record import (
    Admission,
    RefusedTag,
    after_admission,
    with_approval,
    with_refusal,
)
from deployer.model.records import Cause, EnvironmentRecord, Outcome, Work, is_over
from deployer.model.refs import Ref
from deployer.model.stacks import Phase
from deployer.queue.step_results import Done
from deployer.queue.store import Lanes
from deployer.queue.submit import tag_to_judge_again
from deployer.teardown.teardown import under_way

_audit = logging.getLogger("deployer.audit")
_LATE_SECONDS = 60  # GitHub delivers within some; what was sent again may be days old
_LOOKED_AT_TAGS = 5  # the latest: each is a call or two


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
    if work.pushed_at < record.pushed_at:
        return None
    tag = {"ref": work.ref, "commit": "", "held_at": "", "pushed_at": work.pushed_at}
    return record.but(state="skipped", outcome="", reason=why, changed_at=now, **tag)


def _keeps_others_waiting(run: Run) -> bool:
    """Whether something waits for the end of a pushed tag, or has waited for it: such a tag is decided at once.

    If its commit arrives later, the default branch's push has it judged again.
    """
    work, record = run.work, run.record
    took_a_place = bool(work.passed_tags or work.wish)
    return work.requeued or took_a_place or is_on_its_way(record) or under_way(record.receipt)


class TagRefusedError(Settled):
    """The gate refused the tag.

    Args:
        verdict: ends the goal.
    """

    def __init__(self, verdict: Done) -> None:
        super().__init__(verdict)
        self.commit = verdict.commit


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

    def find(self, run: Run) -> bool:
        """Find the tag that production is to run: sets the work's commit and ref, and returns True.

        Raises:
            Settled: it stays as it is, or what it runs is followed.
        """
        work = run.work
        if work.cause == Cause.DELETION:
            raise Settled(run.done(Outcome.SKIPPED, f"{work.ref} was deleted; production stays as it is"))
        if work.cause == Cause.RESYNC and not run.record.commit:
            self._adopt(run)
        if work.cause == Cause.PUSH:
            before = work.wished.passed_tags if work.wished else []
            ask_for(run, work.ref, *(ref for _, ref in [*work.passed_tags, *before]))
        while True:
            record = run.record
            try:
                found = self._find(run, run.work.ref or record.ref)
                if work.cause == Cause.REDEPLOY:  # a person wants this one: what waited is no missed one
                    ask_for(run, *(ref for _, ref in work.passed_tags))
                return found
            except TagRefusedError as refused:
                self._queue_rest(run, record, refused.commit)
                raise
            except Settled as settled:
                verdict = settled.verdict
                if run.work.cause == Cause.PUSH and isinstance(verdict, Done):
                    if self._fall_back(run, record):
                        continue
                    if run.work.wished:
                        self._requeue(run, run.work.wished)
                        if is_on_its_way(record) or under_way(record.receipt):
                            verdict = replace(verdict, record=record.but(asked_tags=run.record.asked_tags))
                        raise Settled(verdict) from settled
                raise

    def _fall_back(self, run: Run, record: EnvironmentRecord) -> bool:
        """Go on with the latest tag whose place this one took in the lane, unless production has a later one.

        Or else with what was on its way there, for a person or a resync.
        """
        left = [(at, ref) for at, ref in run.work.passed_tags if not 0 < at < record.pushed_at]
        if not left:
            return not run.work.wish and self._go_on(run, record)
        (at, ref), *others = left
        passed = "\n".join(f"{at:.0f} {ref}" for at, ref in others)
        run.work = run.work.but(ref=ref, pushed_at=at, passed=passed, before="", after="")
        run.record = record.but(asked_tags=run.record.asked_tags)
        return True

    def _go_on(self, run: Run, record: EnvironmentRecord) -> bool:
        if not (record.ref and record.commit and is_on_its_way(record)):
            return False
        run.work = run.work.but(
            cause=Cause.REDEPLOY,
            ref=record.ref,
            sha=record.commit,
            chosen=True,
            passed="",
            before="",
            after="",
        )
        run.record = record.but(asked_tags=run.record.asked_tags)
        begun = record.execution
        if record.state == "running" and record.open.get(begun, {}).get("sha") == record.commit:
            raise Settled(self._executions.take(run, begun))
        return True

    def _find(self, run: Run, name: str) -> bool:
        work = run.work
        if not name:
            raise Settled(
                run.done(Outcome.SKIPPED, "no tag is known for production; push one, or redeploy a tag")
            )
        ref = Ref.parse(name)
        if 0 < work.pushed_at < run.record.pushed_at and work.cause == Cause.PUSH:
            raise Settled(run.done(Outcome.SUPERSEDED, f"{run.record.ref} was pushed after {ref}"))
        try:
            head = self._host.head(run.repository, ref)
        except NoCommitError as error:
            ask_for(run, name)  # or each resync would take it for a missed one
            raise Settled(run.done(Outcome.SKIPPED, f"{error}; production stays as it is")) from error
        self._moves.refuse_stale(run, head)
        if head is None:
            raise Settled(run.done(Outcome.SKIPPED, f"{ref} is gone; production stays as it is"))
        if work.approved_by and head.sha != work.sha:
            raise Settled(run.done(Outcome.SKIPPED, f"{ref.short} was approved at {work.sha[:12]} and is at "
                                   f"{head.sha[:12]} now; look at that, and approve it again"))  # fmt: skip
        if work.cause == Cause.PUSH and run.record.ref != name:
            self._refuse_late(run, ref, head)
        if work.cause == Cause.RESYNC and run.record.ref and run.record.ref != name:
            self._refuse_backwards(run, ref, head)
        if work.cause == Cause.RESYNC and not work.polls:
            self._refuse_behind(run, ref, head)
        unheard = work.cause == Cause.RESYNC and run.record.ref != name
        if work.cause == Cause.RESYNC and not unheard:
            # also if it asks to be skipped: it is no news then
            run.record = run.record.but(moved_to=head.object)
        self._moves.take(run, ref, head, self._admit)
        if work.cause == Cause.RESYNC:
            run.record = run.record.but(moved_to=head.object)
        if unheard:
            run.record = run.record.but(pushed_at=0)  # it was pushed some day, and nobody told when
        return True

    # --- the gate -----------------------------------------------------------------------------------------------

    def _admit(self, run: Run, ref: Ref, head: Head, sha: str) -> None:
        """Have the gate judge a commit, and note in the record that it may be deployed.

        A push, a redeployment and a replay are judged anew, by rules that are read live. A resync of what was admitted
        changes nothing that production runs, and neither does the same goal that comes back.

        Raises:
            Settled: it may not be deployed, or its commit is waited for.
        """
        record, work = run.record, run.work
        brings_news = work.cause in {Cause.PUSH, Cause.REDEPLOY}
        if record.admitted.covers(ref.name, sha) and (not brings_news or record.admitted.goal == work.goal):
            return
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
        if any((each.ref, each.commit) == (ref.name, sha) for each in record.refused_tags):
            # its commit has a status that says the opposite
            text = f"{ref.short} at {sha[:12]} is admitted: {answer.by}"
            self._reporter.production(run.environment, sha, "success", text)
        refused = record.refused_tags
        if (ref.name, sha) != (record.ref, record.commit):
            refused = after_admission(refused, ref.name, sha, work.pushed_at)
        run.work = work.but(wish="")  # what a person wanted before this tag is superseded by it
        admission = Admission(ref.name, sha, answer.by, bool(approved), work.goal, self._now(run))
        run.record = record.but(admitted=admission, refused_tags=refused)

    def _refuse(self, run: Run, ref: Ref, head: Head, sha: str, refusal: Refused) -> None:
        """End the goal as skipped, and leave what the record says production runs.

        Raises:
            Settled: always; a commit that may still arrive on its branch is waited for, which costs no attempt.
        """
        work, before = run.work, run.record
        left = work.accepted_at + self._wait_seconds - self._now(run)
        if refusal.may_follow and work.cause == Cause.PUSH and left > 0 and not _keeps_others_waiting(run):
            raise Settled(run.snooze(seconds=backoff(run.poll_seconds, 1.5, work.polls, left)))
        reason = f"{refusal.reason}; production stays as it is"
        # a redeployment and a tag that no webhook told of have no time, so nothing tells whether they are the newest
        recheck = refusal.recheck and work.cause == Cause.PUSH and work.pushed_at > 0
        entry = RefusedTag(
            ref.name, head.object, sha, reason, f"{refusal.state} {refusal.text}", work.accepted_at, work.pushed_at,
            recheck,
        )  # fmt: skip
        if not any((each.commit, each.status) == (sha, entry.status) for each in before.refused_tags):
            self._reporter.production(run.environment, sha, refusal.state, refusal.text)
        _audit.info("production of %s: %s at %s is refused: %s", run.repository, ref, sha, reason)
        run.record = before.but(refused_tags=with_refusal(before.refused_tags, entry))
        if is_on_its_way(before) and before.commit != sha:
            raise TagRefusedError(Done(str(Outcome.SKIPPED), reason, run.record, sha))
        raise TagRefusedError(replace(run.done(Outcome.SKIPPED, reason), commit=sha))

    def _queue_rest(self, run: Run, before: EnvironmentRecord, refused: str) -> None:
        """Queue what the refused tag took the place of: an older tag, what a person wanted, or what was on its way.

        As work of its own, so that the refused tag's delivery ends as skipped.

        Args:
            run: the task.
            before: the record before the tag was judged.
            refused: the commit that was refused, which nothing may go on with.
        """
        work, environment = run.work, run.environment.key
        left = [(at, ref) for at, ref in work.passed_tags if not 0 < at < before.pushed_at]
        if work.cause not in {Cause.PUSH, Cause.REDEPLOY}:
            return
        if under_way(before.receipt) and not work.wish:
            rest = Work(environment=environment, cause=Cause.TEARDOWN)
        elif left:
            (at, ref), *others = left
            passed = "\n".join(f"{at:.0f} {ref}" for at, ref in others)
            rest = Work(
                environment=environment,
                cause=Cause.PUSH,
                ref=ref,
                pushed_at=at,
                passed=passed,
                wish=work.wish,
            )
        elif work.wished:
            rest = work.wished
        elif before.ref and before.commit not in {"", refused} and is_on_its_way(before):
            begun = before.execution
            runs = before.state == "running" and before.open.get(begun, {}).get("sha") == before.commit
            rest = Work(
                environment=environment, cause=Cause.REDEPLOY, ref=before.ref, sha=before.commit, chosen=True,
                execution=begun if runs else "",
            )  # fmt: skip
        else:
            return
        self._requeue(run, rest)

    def _requeue(self, run: Run, rest: Work) -> None:
        """Queue work that is older than what waits by now: this task holds the lane, so nothing is dispatched."""
        self._lanes.accept(run.repository, rest.but(requeued=True))
        run.goes_on = True

    def check_again(self, staging: Run) -> None:
        """Have the newest refused tag judged once more, since the default branch was pushed: it may contain it now."""
        work = staging.work
        if work.cause != Cause.PUSH or work.polls or work.execution:
            return
        record = self._lanes.environment(Environment(staging.repository, Kind.PRODUCTION))
        if record and (wish := tag_to_judge_again(record, self._now(staging))):
            self._lanes.accept(staging.repository, wish)  # this task holds the lane: nothing to dispatch

    def _now(self, run: Run) -> float:
        """Redis's clock, as when the work was accepted."""
        return run.work.began_at or self._clock()

    def _refuse_late(self, run: Run, ref: Ref, head: Head) -> None:
        """Leave production as it is if nobody knows when its tag was pushed, and one that comes late may be the older.

        So it is where the ledger was lost, or where a resync found the tag that it runs.
        """
        work, record = run.work, run.record
        if record.pushed_at or not 0 < work.pushed_at < work.accepted_at - _LATE_SECONDS:
            return
        if all(each.automatic for each in run.cloud.executions(run.name)):
            return  # nothing was deployed there yet
        if record.ref:
            current = self._host.head(run.repository, Ref.parse(record.ref))
            newer, at = record.ref, current.at if current else 0
        else:  # what runs is not known yet: any tag may
            facts = self._host.facts(run.repository)
            others = {each.name: at for each, at in (facts.made if facts else {}).items() if each != ref}
            newer, at = max(others.items(), key=lambda item: item[1], default=("what runs", 0))
        if not 0 < at < head.at:
            reason = f"{ref} was delivered late, and is not known to be newer than {newer}; redeploy it"
            # nothing is written of a production that was not known: a resync is to learn what runs
            kept = record if record.commit else None
            raise Settled(Done(str(Outcome.SKIPPED), f"{reason} if that is wanted", kept))

    def _refuse_backwards(self, run: Run, ref: Ref, head: Head) -> None:
        """Leave production as it is unless a tag that no webhook told of is newer than its own."""
        current = self._host.head(run.repository, Ref.parse(run.record.ref))
        if run.record.held_at or current is None or not 0 < current.at < head.at:
            raise Settled(run.done(Outcome.SKIPPED, f"{ref} is not known to be newer than {run.record.ref}"))

    def _refuse_behind(self, run: Run, ref: Ref, head: Head) -> None:
        """Leave production as it is if AWS runs what the ledger has never heard of: then the ledger is the older."""
        stack = run.cloud.stack(run.name)
        if stack is None or not run.environment.owns(stack.tags):  # a pipeline of its name may be anybody's
            return
        started = [each for each in run.cloud.executions(run.name) if not each.automatic]
        if not started or started[0].sha in {"", head.sha, run.record.commit}:
            return
        for name in reversed(run.record.asked_tags[-_LOOKED_AT_TAGS:]):
            known = self._host.head(run.repository, Ref.parse(name))
            if known and known.sha == started[0].sha and known.at <= head.at:
                return
        reason = f"production runs {started[0].sha[:12]}, which is not known to be older than {ref.short}; redeploy it"
        note_drift(run, stack)
        raise Settled(self._reporter.failed(run, f"{reason} if that is wanted"))

    def _adopt(self, run: Run) -> None:
        """Learn what production runs after the ledger was lost. What deployer started is only followed."""
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
        run.record = run.record.but(ref=name)
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
