"""The desired state of production: the admitted commit, or the tag that is judged first."""

from deployer.deployment.desired_state import Deploy
from deployer.deployment.executions import Executions
from deployer.deployment.foreign_executions import ForeignExecutions
from deployer.deployment.production.candidates import CandidateJudge
from deployer.deployment.ref_tracking import RefTracker
from deployer.environment.code_host import CodeHost, RepositoryFacts
from deployer.environment.context import ReconcileContext, Stop, report_on_context
from deployer.environment.drift import record_drift, state_to_compare
from deployer.environment.execution_origin import requested_with_own_role
from deployer.environment.statuses import StatusReporter
from deployer.model.errors import PermanentError
from deployer.model.outcomes import Outcome
from deployer.model.refs import Ref
from deployer.model.stacks import Phase
from deployer.queue.items import Cause, Task, Work
from deployer.queue.step_results import Finished, StepResult
from deployer.queue.store import QueueStore

_ANNOTATED_TAG_LIMIT = 5  # the latest ones that are read: each costs a call or two
_NO_TAG = "no tag is known for production; push one, or redeploy a tag"


class DesiredProduction:
    """Finds the commit that production should run.

    Args:
        host: GitHub.
        tracker: reads where a tag is.
        judge: judges tags.
        executions: follows what production runs already.
        foreign: handles the executions that deployer did not start.
        reporter: posts the failure of a goal.
        lanes: the queues, which take what version 0.1.0 stored within one queue item.
    """

    def __init__(
        self,
        host: CodeHost,
        tracker: RefTracker,
        judge: CandidateJudge,
        executions: Executions,
        foreign: ForeignExecutions,
        reporter: StatusReporter,
        lanes: QueueStore,
    ) -> None:
        self._host = host
        self._tracker = tracker
        self._judge = judge
        self._executions = executions
        self._foreign = foreign
        self._reporter = reporter
        self._lanes = lanes

    def resolve_production(self, context: ReconcileContext) -> Deploy | Stop:
        """Find the commit that production should run: the admitted one.

        A queue item that names another commit goes back to be judged.

        Returns:
            A stop if production stays as it is, if its running execution is followed, or if a tag is judged first.
        """
        work = context.work
        admitted = context.record.spec.production.admitted
        if work.cause == Cause.DELETION:
            reason = f"{work.spec.ref} was deleted; production stays as it is"
            return Stop(Finished(str(Outcome.SKIPPED), reason))
        if work.cause != Cause.RESYNC:
            if admitted.covers(work.spec.ref, work.spec.sha) and admitted.goal == work.goal:
                return Deploy(context)
            return Stop(self._requeue_for_judgement(context))
        if context.record.spec.commit:
            return self._resolve_resync(context)
        adopted = self._adopt_production(context)
        return adopted if isinstance(adopted, Stop) else self._resolve_resync(adopted)

    @report_on_context
    def _resolve_resync(self, context: ReconcileContext) -> Deploy | Stop:
        """Find the commit of production for a resync: what is recorded stays, as long as nothing contradicts it."""
        work, record = context.work, context.record
        name = record.spec.ref or work.spec.ref
        if not name:
            return Stop(context.done(Outcome.SKIPPED, _NO_TAG))
        if work.spec.ref not in {"", name}:  # version 0.1.0 queued a tag that no webhook reported in this way
            return Stop(self._requeue_for_judgement(context))
        if record.spec.production.admitted.covers(record.spec.ref, record.spec.commit):
            context = context.with_work(ref=record.spec.ref, sha=record.spec.commit)
            stop = (
                None
                if work.log.polls
                else self._stop_if_unknown_commit_runs(
                    context, Ref.parse(record.spec.ref), record.spec.commit
                )
            )
            return stop or Deploy(context)
        ref = Ref.parse(name)
        head = self._host.head(context.repository, ref)
        if stop := self._tracker.wait_for_fresh_read(context, head):
            return stop
        if head is None:
            return Stop(context.done(Outcome.SKIPPED, f"{ref} is gone; production stays as it is"))
        if not work.log.polls and (stop := self._stop_if_unknown_commit_runs(context, ref, head.sha)):
            return stop
        chosen = self._tracker.choose_commit(context, ref, head, self._judge.admit_commit)
        if isinstance(chosen, Stop):
            return chosen
        decided_at = record.decision_time or head.at
        return Deploy(chosen.context.with_record(decided_at=decided_at, moved_to=head.object), chosen.folder)

    def _requeue_for_judgement(self, context: ReconcileContext) -> StepResult:
        """Let the tag that the queue item names be judged, or else the tag that production should run already."""
        work = context.work
        self._requeue_items_of_0_1_0(context)
        ref = work.spec.ref or context.record.spec.ref
        if not ref:
            return context.done(Outcome.SKIPPED, _NO_TAG)
        sha = work.spec.sha if work.spec.chosen else ""
        no_orders = dict.fromkeys(["created", "updated", "recovered", "replacing"], False)
        return context.again(
            Task.SYNC, candidate=True, ref=ref, sha=sha, execution="", passed="", wish="", **no_orders
        )

    def _requeue_items_of_0_1_0(self, context: ReconcileContext) -> None:
        """Queue what version 0.1.0 kept within one item of production: other tags, and what a person asked for."""
        work = context.work
        for line in work.replaced.passed.splitlines():
            pushed_at, _, ref = line.partition(" ")
            tag = Work.of(context.environment.key, ref=ref, pushed_at=float(pushed_at), candidate=True)
            self._lanes.accept(
                context.repository, tag
            )  # this task has the queue's lease: nothing to dispatch
        if work.replaced.wish:
            wish = Work.from_json(work.replaced.wish)
            kept = wish.but(deliveries="", attempts=0, tries="", decided_at=wish.accepted_at)
            self._lanes.accept(context.repository, kept)

    def _stop_if_unknown_commit_runs(self, context: ReconcileContext, ref: Ref, sha: str) -> Stop | None:
        """Leave production as it is if deployer's role started a commit that is not on record, which is outdated."""
        admitted = context.record.spec.production.admitted
        stack = context.cloud.stack(context.name)
        if stack is None or not context.owns_stack(stack):
            return None  # the pipeline of this name may belong to somebody else
        listed = context.cloud.executions(context.name, context.repository)
        requested = requested_with_own_role(context, listed)
        newest = requested[0] if requested else None
        if newest is None or newest.sha in {"", sha, context.record.spec.commit, admitted.commit}:
            return None
        if 0 < newest.started_at <= admitted.at:  # it builds an earlier tag, which this tag replaces
            return None
        reason = (
            f"production runs {newest.sha[:12]}, which is not known to be older than {ref.short}; redeploy it"
        )
        drifted = record_drift(context, stack)
        if isinstance(drifted, Stop):
            return drifted
        return Stop(self._reporter.fail_goal(drifted, f"{reason} if that is wanted"))

    def _adopt_production(self, context: ReconcileContext) -> ReconcileContext | Stop:
        """Record what production runs, and since when, after Redis was lost.

        Returns:
            A stop if deployer has started an execution of production: it is followed, whatever its tag.
        """
        stack = context.cloud.stack(context.name)
        if stack is None or not context.environment.owns(stack.tags):
            return context
        if stack.phase in {Phase.WEDGED, Phase.STUCK, Phase.UNDELETED}:
            return context  # such a stack has no running pipeline: the stack's tag says what production should run
        if stack.phase is not Phase.READY:
            return Stop(context.snooze())
        return self._adopt_execution(
            context.with_record(
                applications=context.cloud.deployed_stacks(context.name)
                or context.record.status.stack.applications,
                region=context.cloud.region,
                stack_arn=stack.arn,
                applied=state_to_compare(stack),
                drift="",
            )
        )

    @report_on_context
    def _adopt_execution(self, context: ReconcileContext) -> ReconcileContext | Stop:
        listed = context.cloud.executions(context.name, context.repository)
        context, own = self._foreign.set_apart(context, listed)
        newest = own[0] if own else None
        if context.work.spec.ref and newest is None:
            return context  # deployer has started nothing: the stack's tag is right
        if newest is None or not newest.sha:
            return Stop(context.done(Outcome.SKIPPED, "production exists, and its pipeline has not run yet"))
        facts = self._host.facts(context.repository)
        if facts is None:
            raise PermanentError(f"{context.repository} is not found, or deployer has no access")
        name = self._tag_of_commit(context, facts, newest.sha)
        context = context.with_work(ref=name, sha=newest.sha, execution=newest.id)
        context = context.with_record(ref=name, decided_at=newest.started_at)
        return Stop(self._executions.follow_new(context, newest.id))

    def _tag_of_commit(self, context: ReconcileContext, facts: RepositoryFacts, sha: str) -> str:
        """The tag of a commit, preferably the stack's tag; empty if none is found."""

        def points_to_commit(ref: Ref) -> bool:
            head = self._host.head(context.repository, ref)
            return head is not None and head.sha == sha

        if context.work.spec.ref and points_to_commit(Ref.parse(context.work.spec.ref)):
            return context.work.spec.ref
        tags = {ref: target for ref, target in facts.refs.items() if ref.is_tag}
        if direct := [ref.name for ref, target in tags.items() if target == sha]:
            return min(direct)
        # an annotated tag points to a tag object: the commits of the latest ones are read
        latest = sorted(tags, key=lambda ref: facts.made.get(ref, 0), reverse=True)[:_ANNOTATED_TAG_LIMIT]
        return next((ref.name for ref in latest if points_to_commit(ref)), "")
