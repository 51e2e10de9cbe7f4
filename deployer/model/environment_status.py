"""What was seen of an environment: its stack, its pipeline, and how the last task on it ended."""

import msgspec

from deployer.model.execution_trigger import UNKNOWN_TRIGGER, Trigger
from deployer.model.stored_value import Detail, FieldGroup, StoredValue
from deployer.model.teardown_report import TeardownReport


class StageState(StoredValue, frozen=True):
    """One stage of an execution.

    Attributes:
        status: `pending` (not reached yet), `running`, `succeeded`, `failed`, `stopped`, or `not-reached` where the
            execution ended before this stage.
        reason: why it failed, in AWS's words.
    """

    name: str = ""
    status: str = ""
    reason: str = ""
    url: str = ""


class FollowedExecution(StoredValue, frozen=True):
    """An execution whose end deployer has not seen yet.

    Attributes:
        sha: the commit that it builds; empty as long as the source stage has not told it.
    """

    sha: str = ""


class ForeignExecution(StoredValue, frozen=True):
    """An execution that is not deployer's deployment.

    Attributes:
        sha: the commit that it builds; empty as long as the source stage has not reported it.
        status: see `cloud_region.Execution`.
        trigger: what started it.
        started_at: when it started (epoch seconds).
        retried: whether deployer started it, and somebody retried one of its stages after its end.
        stopped: whether deployer ordered its stop.
        posted_on: the commit whose status says so on GitHub; empty if none does.
    """

    id: str
    sha: str = ""
    status: str = ""
    trigger: Trigger = UNKNOWN_TRIGGER
    started_at: float = 0
    retried: bool = False
    stopped: bool = False
    posted_on: str = ""

    @property
    def words(self) -> str:
        """What it does, and who or what started it."""
        commit = f" of {self.sha[:12]}" if self.sha else ""
        verb = {"running": "is running", "succeeded": "succeeded", "failed": "failed"}.get(
            self.status, f"was {self.status}"
        )
        stopped = " by deployer" if self.stopped and self.status == "stopped" else ""
        why = "somebody retried one of its stages" if self.retried else self.trigger.words
        return f"execution {self.id[:8]}{commit} {verb}{stopped}; {why}"


class StackFailure(Detail, frozen=True):
    """Why a stack could not be created or updated; it is empty, and false, if nothing failed.

    Attributes:
        resource, type: the logical id of the resource that failed, and its type.
        reason: AWS's words.
        url: the stack's page in the console.
        file, line: where the template defines the resource; empty and 0 where that is not known.
    """

    resource: str = ""
    type: str = ""
    reason: str = ""
    url: str = ""
    file: str = ""
    line: int = 0


class AppliedStack(Detail, frozen=True):
    """The stack as deployer has applied it last, to compare the stack with; see `deployer.environment.drift`.

    Attributes:
        at: when the stack changed last (epoch seconds).
        parameters: its parameters, as JSON.
        tags: a digest of its tags.
    """

    at: float = 0
    parameters: str = ""
    tags: str = ""


class DeployedStack(StoredValue, frozen=True):
    """A stack to which an action of the environment's pipeline has deployed.

    Attributes:
        arn: its ARN, so that another stack of the same name is never taken for it.
        created: whether the stack was created while the action ran, so that it is this environment's own also without
            deployer's tags. Otherwise it is older, and only its tags can say whose it is.
        action: the id of the action's run by which it was recorded last.
    """

    arn: str = ""
    created: bool = False
    action: str = ""

    @property
    def name(self) -> str:
        """Its name, by the ARN."""
        return self.arn.split("/")[1] if "/" in self.arn else ""


class StackStatus(FieldGroup, frozen=True):
    """The pipeline's stack, and the stacks that the pipeline deploys.

    Attributes:
        stack_arn: its ARN.
        applications: the names of the stacks that the pipeline deploys, kept for the teardown.
        earlier: the names of those that the pipeline no longer deploys, the latest last.
        deployed: the stacks to which its actions have deployed, by ARN, the latest last.
        own_tags: the tags that deployer gave to the pipeline's stack, because the pipeline can remove them.
        stack_sets: the names of the StackSets that the pipeline deploys or has deployed.
        applied: the stack as deployer applied it last.
        drift: how the stack differs from that, in words; empty if it does not.
        failure: why it could not be created or updated.
        refused, refusals: the digest of the release whose creation failed last, and how often in a row.
    """

    stack_arn: str = ""
    applications: list[str] = msgspec.field(default_factory=list)
    earlier: list[str] = msgspec.field(default_factory=list)
    deployed: list[DeployedStack] = msgspec.field(default_factory=list)
    own_tags: dict[str, str] = msgspec.field(default_factory=dict)
    stack_sets: list[str] = msgspec.field(default_factory=list)
    applied: AppliedStack = AppliedStack()
    drift: str = ""
    failure: StackFailure = StackFailure()
    refused: str = ""
    refusals: int = 0


class PipelineStatus(FieldGroup, frozen=True):
    """The pipeline's executions.

    Attributes:
        execution: the id of the environment's present execution; empty once a teardown has begun.
        stages: the stages of that execution.
        open: the executions whose end was not seen yet, by id, the newest last.
        reported: the id of the execution whose end was reported as the outcome of some goal.
        started: the executions that deployer started, the newest last, each with its commit.
        foreign: the executions that deployer did not start, and that run or started after deployer's newest one; the
            newest last.
    """

    execution: str = ""
    stages: list[StageState] = msgspec.field(default_factory=list)
    open: dict[str, FollowedExecution] = msgspec.field(default_factory=dict)
    reported: str = ""
    started: dict[str, str] = msgspec.field(default_factory=dict)
    foreign: list[ForeignExecution] = msgspec.field(default_factory=list)


class EnvironmentStatus(FieldGroup, frozen=True):
    """What was seen of an environment.

    Attributes:
        state: in one word for people: `pending` (a new commit is wanted), `waiting`, `provisioning`, `updating`,
            `running`, `deployed`, `failed`, `deleting`, `deleted`, `skipped`, or `asleep` until the hours of sleep end.
        outcome, reason: how the last goal ended, and why.
        changed_at: since when state, outcome, commit and execution have their values (epoch seconds).
        pending: the commit statuses that version 0.1.0 left pending, each as `sha context`, so that none stays so.
        shown_commit: the commit that the environment wants, as GitHub is to show it; empty if it wants none.
        environment_url: where people open what was deployed, by the outputs of the deployed stacks; empty if no output
            says it, or nothing is deployed.
        stack, pipeline: the pipeline's stack, and the pipeline's executions.
        receipt: the report of the last teardown.
    """

    state: str = ""
    outcome: str = ""
    reason: str = ""
    changed_at: float = 0
    pending: tuple[str, ...] = ()
    shown_commit: str = ""
    environment_url: str = ""
    stack: StackStatus = StackStatus()
    pipeline: PipelineStatus = PipelineStatus()
    receipt: TeardownReport = TeardownReport()
