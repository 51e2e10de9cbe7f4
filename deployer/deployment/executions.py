"""The executions of an environment's pipeline: finds the one of the wanted commit, starts it, follows it to its end."""

from dataclasses import replace

from deployer.environment.context import Run, Settled
from deployer.environment.drift import applied, drift
from deployer.environment.ports import Execution
from deployer.environment.statuses import Reporter, failure_text, stages_of
from deployer.model.environments import Kind
from deployer.model.records import Cause, EnvironmentRecord, Outcome, Task, Work
from deployer.model.stacks import Phase, Stack
from deployer.queue.step_results import Done, Verdict

_EARLIER = 20  # stacks that are remembered though the pipeline no longer names them; each costs its teardown two looks
_SOURCE_POLLS = 20  # how often to wait for an execution to tell its commit


class Executions:
    """Carries out the tasks that trigger and notify, and what a sync does once the stack is as wanted.

    Args:
        reporter: posts how executions go.
    """

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def see_to(self, run: Run, stack: Stack) -> Verdict:
        """The stack is as wanted: find the execution of the wanted commit, or have one started."""
        if run.environment.kind is not Kind.DEVELOPMENT and not stack.protected:
            run.guard()
            run.cloud.protect(stack.arn, on=True)
        applications = run.cloud.deployed_stacks(run.name) or run.record.applications
        known = dict.fromkeys([*run.record.earlier, *reversed(run.record.applications)])
        run.record = run.record.but(
            applications=applications,
            earlier=[each for each in known if each not in applications][-_EARLIER:],
            region=run.cloud.region,
            stack_arn=stack.arn,
            failure={},
            refused="",
            refusals=0,
        )
        if run.work.created or run.work.updated or run.work.recovered or not run.record.applied:
            run.record = run.record.but(applied=applied(stack), drift="")
        executions = run.cloud.executions(run.name)
        begun, listed = run.record.execution, {each.id for each in executions}
        if begun not in listed and run.record.open.get(begun, {}).get("sha") == run.work.sha:
            return self.take(run, begun)  # another goal has just started it, and AWS does not list it yet
        newest = executions[0] if executions else None
        if newest and newest.id == run.record.reported and not begun:
            return run.again(Task.TRIGGER)  # it was an earlier goal's, or what it deployed was deleted since
        if newest and not newest.sha:  # unless it was started here, for a commit that is known
            newest = replace(newest, sha=run.record.open.get(newest.id, {}).get("sha", ""))
        if newest and not newest.sha and not newest.ended and run.work.polls < _SOURCE_POLLS:
            # its source stage has not told the commit yet; most likely it is the one
            return self.take(run, newest.id, sha="")
        if newest is None or needs_start(newest, run.work, run.record.reported):
            return run.again(Task.TRIGGER)
        return self.take(run, newest.id)

    def trigger(self, run: Run) -> Verdict:
        run.insist_on_admission(run.work.sha)
        for execution in run.cloud.executions(run.name):
            if execution.automatic and not execution.ended and execution.sha != run.work.sha:
                run.guard()
                run.cloud.stop(run.name, execution.id, f"deployer starts {run.work.sha[:12]} instead")
        execution_id = run.start_execution()
        return self.take(run, execution_id)

    def take(self, run: Run, execution: str, sha: str | None = None) -> Verdict:
        """Follow an execution; one whose commit is not told yet (`sha` is empty) may turn out not to be the one."""
        run.record = self._reporter.open(
            run.environment, run.record, execution, run.work.sha if sha is None else sha, run.cloud
        )
        run.note("running", execution=execution, commit=run.work.sha)
        run.work = run.work.but(execution=execution, task=Task.SYNC, polls=0)
        self._reporter.tell(run, "success", "the pipeline is ready")
        return self.follow(run)

    def follow(self, run: Run) -> Verdict:
        """Post how the executions go; end when this goal's own has ended."""
        identity = run.work.execution
        run.record = self._reporter.open(run.environment, run.record, identity, run.work.sha, run.cloud)
        untold = not run.record.open[identity]["sha"]
        run.record, found = self._reporter.refresh(run.environment, run.record, run.cloud)
        execution = found.get(identity)
        if execution is None:
            if run.work.cause == Cause.EVENT:
                return Done(str(Outcome.SKIPPED), "its execution is gone", run.record)
            run.work = run.work.but(execution="", task=Task.SYNC)
            return run.snooze()  # its pipeline was replaced or has gone
        if untold and execution.sha != run.work.sha:
            if not execution.sha and not execution.ended and run.work.polls < _SOURCE_POLLS:
                return run.snooze()
            if execution.sha or not execution.ended:
                run.work = run.work.but(execution="")
                return run.again(Task.TRIGGER)  # it builds another commit, or never tells which
            # it failed before it knew a commit; it was to build this one, which is told
            run.record = self._reporter.open(run.environment, run.record, identity, run.work.sha, run.cloud)
            run.record, found = self._reporter.refresh(run.environment, run.record, run.cloud)
            execution = found.get(identity, execution)
        if not execution.ended or identity in run.record.open:  # some of its statuses wait for the next task
            return run.snooze()
        ended = {
            "reported": identity,
            "execution": identity,
            "commit": run.work.sha,
            "stages": stages_of(execution, run.record),
        }
        match execution.status:
            case "succeeded":
                reason = f"{run.work.sha[:12]} went through every stage{_released(run)}"
                return run.done(Outcome.DEPLOYED, reason, **ended)
            case "superseded":
                return run.done(Outcome.SUPERSEDED, "a newer execution of the pipeline overtook it", **ended)
            case _:
                return run.done(Outcome.FAILED, failure_text(execution), **ended)

    def notify(self, run: Run) -> Verdict:
        """An event came that no goal waits for: tell how the newest execution goes. Never starts anything."""
        if run.work.execution:
            return self.follow(run)
        if not run.record.stack_arn:  # a pipeline of its name may be anybody's
            return Done(str(Outcome.SKIPPED), "nothing is known of its stack", run.record)
        newest = next(iter(run.cloud.executions(run.name)), None)
        if newest is None or (newest.id == run.record.reported and not _tried_again(newest, run.record)):
            run.record, _ = self._reporter.refresh(run.environment, run.record, run.cloud)
            return Done(str(Outcome.SKIPPED), "nothing waits for this event", run.record)
        if not newest.sha and not newest.ended and run.work.polls < _SOURCE_POLLS:
            return run.snooze()
        # asked only where an event tells something new, since AWS allows few such calls
        stack = run.cloud.stack(run.name)
        if stack is None or not run.environment.owns(stack.tags):
            reason = f"stack {run.name} is gone or has not deployer's tags for this environment"
            return Done(str(Outcome.SKIPPED), reason, run.record)
        run.work = run.work.but(sha=newest.sha or run.record.commit, execution=newest.id)
        return self.follow(run)


def _released(run: Run) -> str:
    """Who released a commit that production's rules refuse; empty where no person had to."""
    admitted = run.record.admitted
    return f"; {admitted.by}" if admitted.person and admitted.commit == run.work.sha else ""


def _tried_again(execution: Execution, record: EnvironmentRecord) -> bool:
    """Whether a person had a stage tried again of the execution whose end was told last."""
    if not execution.ended:
        return True
    failed = any(stage["status"] in {"failed", "stopped"} for stage in record.stages)
    return execution.status == "succeeded" and failed and execution.id == record.execution


def needs_start(newest: Execution, work: Work, reported: str) -> bool:
    """Whether an execution must be started, or the newest one is what this goal wants.

    Args:
        newest: the pipeline's newest execution.
        work: the goal.
        reported: the execution whose end was told already; people who push or redeploy after it want a new one.
    """
    if newest.sha != work.sha:
        return True
    if not newest.ended:
        return False
    if work.cause == Cause.REDEPLOY or work.updated:
        return True
    if work.cause != Cause.PUSH:
        return False  # what a person stopped stays stopped, and what failed was told
    return newest.status in {"stopped", "superseded"} or (newest.status == "failed" and newest.id == reported)


def learn(run: Run, stack: Stack) -> None:
    """Note a stack that the ledger, once lost, does not know, and what its pipeline deploys.

    Whatever becomes of the goal: a teardown of another environment must not take that.
    """
    if run.record.stack_arn or not run.environment.owns(stack.tags):
        return
    if stack.phase in {Phase.GONE, Phase.DELETING}:
        return
    run.record = run.record.but(
        applications=run.cloud.deployed_stacks(run.name) or run.record.applications,
        applied=run.record.applied or (applied(stack) if stack.phase is Phase.READY else {}),
        region=run.cloud.region,
        stack_arn=stack.arn,
    )


def note_drift(run: Run, stack: Stack | None) -> None:
    """Tell of what someone else changed in the stack; who only looks leaves it so.

    Raises:
        Settled: it is the only thing that could be mended, and nobody asked for that.
    """
    work = run.work
    if stack is None or work.created or work.updated or work.recovered:
        return
    if not run.environment.owns(stack.tags):
        return
    learn(run, stack)
    if stack.phase is Phase.READY:
        run.record = run.record.but(
            drift=drift(stack, run.record.applied), stack_arn=stack.arn, region=run.cloud.region
        )
    record = run.record
    ended = record.commit == work.sha and record.outcome in {Outcome.DEPLOYED, Outcome.FAILED}
    if work.cause == Cause.RESYNC and record.drift and ended:
        raise Settled(run.done(Outcome.SKIPPED, f"{record.drift}; redeploy to undo that"))
