"""A double of AWS with stacks, pipelines in memory."""

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from deployer.environment.cloud_region import BuildLogs, Execution, RegionCapacity, StackAction
from deployer.model.environment_status import StageState
from deployer.model.environments import Kind, Repository
from deployer.model.errors import PermanentError, ProtectedError, TransientError
from deployer.model.execution_trigger import Trigger
from deployer.model.source_actions import SourceLocation
from deployer.model.stacks import Failure, Phase, Resource, Stack
from deployer.model.targets import Target
from deployer.templates.release import Release
from tests.doubles.failing import Failing

# how an operation ends that somebody else began
_ENDS = {
    "ROLLBACK_IN_PROGRESS": "ROLLBACK_COMPLETE",
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": "UPDATE_COMPLETE",
    "UPDATE_ROLLBACK_IN_PROGRESS": "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": "UPDATE_ROLLBACK_COMPLETE",
    "IMPORT_IN_PROGRESS": "IMPORT_COMPLETE",
    "IMPORT_ROLLBACK_IN_PROGRESS": "IMPORT_ROLLBACK_COMPLETE",
}
PRINCIPAL = "arn:aws:iam::123456789012:role/deployer"
BY_CREATION = Trigger(type="CreatePipeline", detail=PRINCIPAL)
BY_DEPLOYER = Trigger(
    type="StartPipelineExecution", detail="arn:aws:sts::123456789012:assumed-role/deployer/worker"
)
BY_ADA = Trigger(type="StartPipelineExecution", detail="arn:aws:iam::123456789012:user/ada")
_OWN_TAGS = frozenset({"deployer:commit", "deployer:digest"})


@dataclass
class _FakeStack:
    arn: str
    name: str
    status: str
    tags: dict[str, str]
    release: Release | None
    token: str
    reason: str = ""
    cause: Failure | None = None  # the answer of `failure` for the last operation
    fate: str = ""  # why the running operation will fail; empty if it will not
    former: tuple[Release | None, dict[str, str]] | None = None
    protected: bool = False
    kept: set[str] = field(default_factory=set)  # logical ids that its deletion retains
    force: bool = False
    stuck: set[str] = field(default_factory=set)  # logical ids that could not be deleted
    why: str = ""
    parent: str = ""
    changed_at: float = field(default_factory=time.time)
    created_at: float = 0
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def seen(self) -> Stack:
        values = json.dumps(self.parameters, sort_keys=True) if self.parameters else ""
        return Stack(
            self.arn,
            self.name,
            self.status,
            dict(self.tags),
            self.reason,
            self.protected,
            self.parent,
            self.changed_at,
            values,
            self.created_at,
        )


@dataclass
class _FakeExecution:
    id: str
    sha: str  # the commit that it builds
    trigger: Trigger
    token: str = ""
    status: str = "running"
    passed: int = 0  # number of passed stages
    fails_in: str = ""
    reason: str = ""
    started_at: float = 0
    stack_actions: list[StackAction] = field(default_factory=list)


class FakeCloud(Failing):
    """The port `CloudRegion` in memory; time passes only by `advance`.

    A pipeline has the name of its stack and exists as soon as the stack is complete. Its creation starts an execution.
    After one `advance` the execution shows its commit; each `advance` passes one stage.

    Args:
        head: returns the commit that a new pipeline builds by itself, by the name of the pipeline. Without it, that is
            the commit in the stack's tags.

    Attributes:
        stages: the stages of every pipeline; the stage Deploy creates the `applications`.
        applications: names of the stacks that a pipeline's actions create, by the name of the pipeline; `deploys`
            returns them for all other pipelines.
        untagged: names of applications that their pipelines create without tags.
        self_tags: the tags that a pipeline gives to its own stack in its stage Deploy, by the name of the pipeline.
        buckets: the number of objects in a stack's buckets, by the name of the stack; above 0 its deletion fails.
        outputs: the outputs of a stack, by the name of the stack.
        logs: the log groups of the build projects of a stack, by the name of the stack.
        log_refusals: why a log group cannot be deleted, by its name.
        sets: the StackSets that a pipeline's actions deploy, by the name of the pipeline.
        emptied_at_once: how many objects one call deletes from a stack's buckets.
        pipelines: executions by pipeline, oldest first.
        clock: returns epoch seconds for the start of executions.
        problem: the answer of `start_problem`, for which `start` rejects every pipeline.
    """

    def __init__(self, head: Callable[[str], str] | None = None) -> None:
        super().__init__(service="aws")
        self.head = head
        self.clock: Callable[[], float] = time.time
        self.stages: tuple[str, ...] = ("Source", "Build", "Deploy")
        self.applications: dict[str, list[str]] = {}
        self.deploys: Callable[[str], list[str]] = lambda _pipeline: []
        self.untagged: set[str] = set()
        self.self_tags: dict[str, dict[str, str]] = {}
        self.buckets: dict[str, int] = {}
        self.emptied_at_once = 1000
        self.problem = ""
        self.outputs: dict[str, dict[str, str]] = {}
        self.logs: dict[str, list[BuildLogs]] = {}
        self.log_refusals: dict[str, str] = {}
        self.sets: dict[str, list[str]] = {}
        self.pipelines: dict[str, list[_FakeExecution]] = {}
        self._live: dict[str, _FakeStack] = {}
        self._gone: dict[str, _FakeStack] = {}
        self._fates: defaultdict[str, list[str]] = defaultdict(list)
        self._broken: list[tuple[str, str]] = []
        self._number = 0
        self.account, self.region = "own", "us-east-1"
        self.room_left: RegionCapacity | None = None
        self._last_listing: tuple[float, set[str]] = (
            0.0,
            set(),
        )  # time of the last listing, and the stacks in progress at that time

    # for tests

    def fail_next_create(self, reason: str) -> None:
        """Let the next creation of a stack fail and roll back."""
        self._fates["create"].append(reason)

    def fail_next_update(self, reason: str) -> None:
        """Let the next update of a stack fail and roll back."""
        self._fates["update"].append(reason)

    def fail_next_delete(self, reason: str) -> None:
        """Let the next deletion of a stack fail."""
        self._fates["delete"].append(reason)

    def fail_next_execution(self, reason: str, stage: str = "Build") -> None:
        """Let the next execution that reaches this stage fail in it."""
        self._broken.append((stage, reason))

    def add_stack(
        self, name: str, tags: Mapping[str, str], status: str = "CREATE_COMPLETE", parent: str = ""
    ) -> str:
        """Add a stack that deployer did not create, perhaps nested in `parent` (an ARN); return its ARN."""
        self._live[name] = _FakeStack(
            self._new_arn(name), name, status, dict(tags), None, "", parent=parent, created_at=self.clock()
        )
        return self._live[name].arn

    def remove(self, name: str) -> None:
        """Delete a stack with its pipeline, as a person does."""
        stack = self._live.pop(name)
        stack.status, self._gone[stack.arn] = "DELETE_COMPLETE", stack
        self.pipelines.pop(name, None)

    def set_status(self, name: str, status: str, reason: str = "") -> None:
        """Set the status of a stack."""
        self._live[name].status, self._live[name].reason = status, reason

    def tamper(self, name: str, **parameters: str) -> None:
        """Update a stack as somebody does in the console: with other parameter values, or another template."""
        stack = self._live[name]
        stack.changed_at, stack.release = time.time(), None
        stack.parameters = {**stack.parameters, **parameters}

    def supersede(self, pipeline: str, execution: str) -> None:
        """Set an execution to superseded."""
        self._find_execution(pipeline, execution).status = "superseded"

    def update_from_outside(self, pipeline: str) -> None:
        """Update a pipeline's stack as another execution does that deploys it: its definition changes."""
        self._live[pipeline].release, self._live[pipeline].changed_at = None, time.time()
        self._cancel_executions(pipeline)

    def add_self_update(self, pipeline: str, execution: str) -> None:
        """Let an execution have run an action that updates the stack of its own pipeline."""
        self._add_action(self._find_execution(pipeline, execution), pipeline, self.clock())

    def start_foreign(self, pipeline: str, sha: str, trigger: Trigger = BY_ADA) -> str:
        """Start an execution as a person does in the console, or AWS by itself."""
        return self._add_execution(pipeline, sha, trigger)

    def retry(self, pipeline: str, execution: str) -> None:
        """Retry the failed stage of an execution, as a person does in the console."""
        found = self._find_execution(pipeline, execution)
        found.status, found.fails_in, found.reason = "running", "", ""

    def holds(self, name: str) -> bool:
        """Whether a stack of this name exists."""
        return name in self._live

    def release(self, name: str) -> Release | None:
        """The release that was last applied to a stack."""
        return self._live[name].release

    def settle(self, most: int = 50) -> None:
        """Advance until nothing is in progress."""
        for _ in range(most):
            busy = any(s.seen.phase in (Phase.BUSY, Phase.DELETING) for s in self._live.values())
            if not busy and all(e.status != "running" for p in self.pipelines.values() for e in p):
                return
            self.advance()
        raise AssertionError(f"still in progress after {most} steps")

    def advance(self) -> None:
        """Advance everything that is in progress by one step."""
        for pipeline, executions in list(self.pipelines.items()):
            for execution in executions:
                if execution.status == "running":
                    self._pass_stage(pipeline, execution)
        for stack in list(self._live.values()):
            self._end_operation(stack)

    # the port: stacks

    def check_reachable(self, seconds: float) -> None:
        self._note("check_reachable", seconds)

    def stack(self, name: str) -> Stack | None:
        self._note("stack", name)
        found = self._find_stack(name)
        return replace(found.seen, outputs=self.outputs.get(found.name, {})) if found else None

    def stacks(self) -> Iterator[Stack]:
        self._note("stacks")
        at_work = [s for s in self._live.values() if s.status.endswith("_IN_PROGRESS")]
        self._last_listing = (time.time(), {each for s in at_work for each in (s.name, s.arn)})
        return iter([s.seen for s in self._live.values() if s.tags.get("deployer:managed") == "true"])

    def create_stack(self, name: str, release: Release, token: str) -> str:
        self._note("create_stack", name, release, token)
        if existing := self._live.get(name):
            if token == existing.token or release.tags == existing.tags:
                return existing.arn
            raise TransientError(f"another stack of the name {name} exists")
        made = _FakeStack(
            self._new_arn(name), name, "CREATE_IN_PROGRESS", dict(release.tags), release, token,
            fate=self._next_failure("create"), parameters=dict(release.parameters), created_at=self.clock(),
        )  # fmt: skip
        self._live[name] = made
        return made.arn

    def update_stack(self, name: str, release: Release, token: str) -> bool:
        self._note("update_stack", name, release, token)
        stack = self._find_stack(name)
        if stack is None or stack.status == "DELETE_COMPLETE":
            raise TransientError(f"stack {name} has gone meanwhile")
        if stack.token == token and stack.status.startswith("UPDATE"):
            return True
        if stack.seen.phase is not Phase.READY:
            raise TransientError(f"stack {name} is in {stack.status} state and can not be updated")
        if stack.release == release:
            return False
        stack.former = (stack.release, stack.tags)
        stack.status, stack.token, stack.reason, stack.cause = "UPDATE_IN_PROGRESS", token, "", None
        stack.release, stack.tags, stack.parameters = release, dict(release.tags), dict(release.parameters)
        stack.changed_at = time.time()
        stack.fate = self._next_failure("update")
        return True

    def restore_tags(self, arn: str, tags: Mapping[str, str], token: str) -> None:
        self._note("restore_tags", arn, dict(tags), token)
        stack = self._find_stack(arn)
        if stack is None or stack.seen.phase is not Phase.READY:
            raise TransientError(f"stack {arn} can not be updated")
        if stack.token == token:
            return
        stack.former = (stack.release, stack.tags)
        stack.status, stack.token, stack.tags = "UPDATE_IN_PROGRESS", token, {**stack.tags, **tags}
        stack.changed_at, stack.fate = time.time(), self._next_failure("update")

    def continue_rollback(self, name: str, token: str) -> None:
        self._note("continue_rollback", name, token)
        stack = self._find_stack(name)
        if stack is None:
            raise TransientError(f"stack {name} has gone meanwhile")
        if stack.token == token:
            return
        if stack.seen.phase is not Phase.STUCK:
            raise TransientError(f"stack {name} is in {stack.status} state")
        stack.status, stack.token = "UPDATE_ROLLBACK_IN_PROGRESS", token

    def delete_stack(self, arn: str, token: str, *, retain: Sequence[str] = (), force: bool = False) -> None:
        self._note("delete_stack", arn, token, tuple(retain), force)
        stack = self._find_stack(arn)
        if stack is None or stack.seen.phase in (Phase.GONE, Phase.DELETING):
            return
        if stack.protected:
            raise ProtectedError(f"stack {arn} has termination protection")
        if (retain or force) and stack.status != "DELETE_FAILED":
            raise PermanentError(f"stack {arn} is in {stack.status} state: nothing can be retained")
        if stack.seen.phase is Phase.BUSY and stack.status.startswith("UPDATE"):
            raise TransientError(f"stack {arn} is in {stack.status} state and can not be deleted")
        stack.status, stack.token, stack.reason, stack.cause = "DELETE_IN_PROGRESS", token, "", None
        stack.stuck, stack.why = set(), ""
        stack.kept, stack.force = set(retain), force
        stack.fate = self._next_failure("delete")

    def protect(self, arn: str, *, on: bool) -> None:
        self._note("protect", arn, on)
        stack = self._find_stack(arn)
        if stack and stack.seen.phase is not Phase.GONE:
            stack.protected = on

    def resources(self, arn: str) -> list[Resource]:
        self._note("resources", arn)
        stack = self._find_stack(arn)
        if stack is None:
            return []
        gone = stack.seen.phase is Phase.GONE

        def status(name: str) -> str:
            if gone:
                return "DELETE_SKIPPED" if name in stack.kept else "DELETE_COMPLETE"
            return "DELETE_FAILED" if name in stack.stuck else "CREATE_COMPLETE"

        found = [Resource("Thing", "AWS::Test::Thing", f"{stack.name}-thing", status("Thing"), stack.why)]
        if stack.name in self.buckets:
            found.append(
                Resource("Files", "AWS::S3::Bucket", f"{stack.name}-files", status("Files"), stack.why)
            )
        if stack.name in self.logs:
            found.append(Resource("Build", "AWS::CodeBuild::Project", f"{stack.name}-build", status("Build")))
        return found

    def is_still_busy(self, name: str, since: float) -> bool:
        self._note("is_still_busy", name, since)
        began, busy = self._last_listing
        return began > since and name in busy

    def count_capacity(self) -> RegionCapacity:
        self._note("count_capacity")
        return self.room_left or RegionCapacity(
            self.region, len(self._live), 2000, len(self.pipelines), 1000, time.time()
        )

    def last_capacity(self) -> RegionCapacity | None:
        return self.room_left

    def check_artifact_bucket(self) -> None:
        self._note("check_artifact_bucket")

    def failure(self, arn: str) -> Failure | None:
        self._note("failure", arn)
        stack = self._find_stack(arn)
        return stack.cause if stack else None

    def stack_url(self, arn: str) -> str:
        return f"https://console.example/{arn}"

    def empty_storage(self, arn: str, guard: Callable[[], None] = lambda: None) -> bool:
        self._note("empty_storage", arn)
        stack = self._find_stack(arn)
        if stack is None or not self.buckets.get(stack.name):
            return True
        guard()
        self.buckets[stack.name] = max(self.buckets[stack.name] - self.emptied_at_once, 0)
        return not self.buckets[stack.name]

    def build_logs(self, arn: str) -> list[BuildLogs]:
        self._note("build_logs", arn)
        stack = self._find_stack(arn)
        return list(self.logs.get(stack.name, [])) if stack else []

    def delete_build_logs(self, name: str) -> str:
        self._note("delete_build_logs", name)
        if name in self.log_refusals:
            return self.log_refusals[name]
        for logs in self.logs.values():
            logs[:] = [each for each in logs if each.name != name]
        return ""

    # the port: pipelines

    def stack_sets(self, pipeline: str) -> list[str]:
        # no call is counted, because the adapter has already read the definition
        return list(self.sets.get(pipeline, [])) if pipeline in self.pipelines else []

    def deployed_stacks(self, pipeline: str) -> list[str]:
        self._note("deployed_stacks", pipeline)
        return self._application_names(pipeline)[::-1] if pipeline in self.pipelines else []

    def stack_actions(self, pipeline: str) -> list[StackAction]:
        self._note("stack_actions", pipeline)
        executions = reversed(self.pipelines.get(pipeline, []))
        return [action for each in executions for action in each.stack_actions]

    def stage_names(self, pipeline: str) -> list[str]:
        # no call is counted, because the adapter has already read the definition for a deployment
        return list(self.stages) if pipeline in self.pipelines else []

    def executions(self, pipeline: str, repository: Repository | None = None) -> list[Execution]:  # noqa: ARG002
        self._note("executions", pipeline)
        return [
            replace(self._shown_execution(e), stages=(), stack_actions=())
            for e in reversed(self.pipelines.get(pipeline, []))
        ]

    def execution(
        self,
        pipeline: str,
        execution: str,
        repository: Repository | None = None,  # noqa: ARG002
    ) -> Execution | None:
        self._note("execution", pipeline, execution)
        found = [e for e in self.pipelines.get(pipeline, []) if e.id == execution]
        return self._shown_execution(found[0]) if found else None

    def start_problem(self, pipeline: str, location: SourceLocation) -> str:  # noqa: ARG002
        # no call is counted, because the adapter has already read the definition
        return self.problem

    def start(self, pipeline: str, sha: str, token: str, location: SourceLocation | None = None) -> str:  # noqa: ARG002
        self._note("start", pipeline, sha, token)
        if pipeline not in self.pipelines:
            raise PermanentError(f"there is no pipeline {pipeline}")
        if self.problem:
            raise PermanentError(f"pipeline {pipeline} is not started: {self.problem}")
        for known in self.pipelines[pipeline]:
            if known.token == token:
                return known.id
        return self._add_execution(pipeline, sha, BY_DEPLOYER, token)

    def stop(self, pipeline: str, execution: str, reason: str) -> None:
        self._note("stop", pipeline, execution, reason)
        for found in self.pipelines.get(pipeline, []):
            if found.id == execution and found.status == "running":
                found.status = "stopped"

    def execution_url(self, pipeline: str, execution: str) -> str:
        return f"https://console.example/{pipeline}/{execution}"

    def principal(self) -> str:
        self._note("principal")
        return PRINCIPAL

    # steps

    def _end_operation(self, stack: _FakeStack) -> None:
        """End the running operation of a stack, by success or failure."""
        fate, stack.fate = stack.fate, ""
        match stack.status:
            case "CREATE_IN_PROGRESS" if fate:
                self._fail_operation(stack, "ROLLBACK_COMPLETE", fate)
            case "CREATE_IN_PROGRESS":
                stack.status = "CREATE_COMPLETE"
                self.pipelines[stack.name] = []
                sha = self.head(stack.name) if self.head else stack.tags.get("deployer:commit", "")
                self._add_execution(stack.name, sha, BY_CREATION)
            case "UPDATE_IN_PROGRESS" if fate:
                if stack.former:
                    stack.release, stack.tags = stack.former
                self._fail_operation(stack, "UPDATE_ROLLBACK_COMPLETE", fate)
            case "UPDATE_IN_PROGRESS":
                stack.status = "UPDATE_COMPLETE"
                before = stack.former[0] if stack.former else None
                if before is None or stack.release is None or before.digest != stack.release.digest:
                    self._cancel_executions(stack.name)
            case status if status in _ENDS:
                stack.status = _ENDS[status]
            case "DELETE_IN_PROGRESS":
                full = self.buckets.get(stack.name) and "The bucket you tried to delete is not empty"
                if stuck := {n for n, why in (("Thing", fate), ("Files", full)) if why}:
                    if not (stack.force or stuck <= stack.kept):
                        stack.stuck, stack.why = stuck, fate or str(full)
                        self._fail_operation(stack, "DELETE_FAILED", stack.why)
                        return
                    stack.kept |= stuck
                inner = [each for each in self._live.values() if each.parent == stack.arn]
                for each in (stack, *inner):
                    each.status = "DELETE_COMPLETE"
                    self._gone[each.arn] = self._live.pop(each.name)
                self.pipelines.pop(stack.name, None)

    def _cancel_executions(self, pipeline: str) -> None:
        """Cancel the running executions of a pipeline whose definition has changed."""
        for execution in self.pipelines.get(pipeline, []):
            execution.status = "cancelled" if execution.status == "running" else execution.status

    @staticmethod
    def _fail_operation(stack: _FakeStack, status: str, why: str) -> None:
        verb = {"DELETE_FAILED": "delete", "ROLLBACK_COMPLETE": "create"}.get(status, "update")
        stack.status = status
        stack.reason = f"The following resource(s) failed to {verb}: [Thing]." if verb == "delete" else ""
        stack.cause = Failure("Thing", "AWS::Test::Thing", why)

    def _pass_stage(self, pipeline: str, execution: _FakeExecution) -> None:
        """Let an execution pass its present stage, or fail in it."""
        stage = self.stages[execution.passed]
        for broken in self._broken:
            if broken[0] == stage:
                self._broken.remove(broken)
                execution.status, execution.fails_in, execution.reason = "failed", *broken
                return
        if stage == "Deploy":
            owner = self._live.get(pipeline)
            tags = {k: v for k, v in owner.tags.items() if k not in _OWN_TAGS} if owner else {}
            for name in self._application_names(pipeline):
                began = self.clock()
                if name not in self._live:
                    self.add_stack(name, {} if name in self.untagged else tags)
                self._add_action(execution, name, began)
            if owner and pipeline in self.self_tags:
                owner.tags, owner.changed_at = dict(self.self_tags[pipeline]), time.time()
                self._add_action(execution, pipeline, self.clock())
        execution.passed += 1
        if execution.passed == len(self.stages):
            execution.status = "succeeded"

    def _shown_execution(self, execution: _FakeExecution) -> Execution:
        states = [StageState(name, "succeeded") for name in self.stages[: execution.passed]]
        if execution.status == "failed":
            states.append(StageState(execution.fails_in, "failed", execution.reason))
        elif execution.passed < len(self.stages):
            status = "running" if execution.status == "running" else "stopped"
            states.append(StageState(self.stages[execution.passed], status))
        sha = execution.sha if execution.passed else ""
        return Execution(
            execution.id, execution.status, sha, execution.trigger, execution.started_at, tuple(states),
            tuple(execution.stack_actions),
        )  # fmt: skip

    def _add_action(self, execution: _FakeExecution, stack: str, began: float) -> None:
        self._number += 1
        arn = self._live[stack].arn
        execution.stack_actions.append(
            StackAction(f"action-{self._number}", arn, began_at=began, ended_at=self.clock())
        )

    def _add_execution(self, pipeline: str, sha: str, trigger: Trigger, token: str = "") -> str:
        self._number += 1
        execution = _FakeExecution(f"execution-{self._number}", sha, trigger, token, started_at=self.clock())
        self.pipelines[pipeline].append(execution)
        return execution.id

    def _application_names(self, pipeline: str) -> list[str]:
        return self.applications[pipeline] if pipeline in self.applications else self.deploys(pipeline)

    def _find_execution(self, pipeline: str, execution: str) -> _FakeExecution:
        return next(e for e in self.pipelines[pipeline] if e.id == execution)

    def _find_stack(self, name: str) -> _FakeStack | None:
        by_arn = {stack.arn: stack for stack in self._live.values()}
        return self._live.get(name) or by_arn.get(name) or self._gone.get(name)

    def _next_failure(self, verb: str) -> str:
        return self._fates[verb].pop(0) if self._fates[verb] else ""

    def _new_arn(self, name: str) -> str:
        self._number += 1
        unique = hashlib.sha256(f"{name}{self._number}".encode()).hexdigest()[:8]
        return f"arn:aws:cloudformation:{self.region}:123456789012:stack/{name}/{unique}"


class FakeClouds:
    """The port `Clouds` with one double for every region."""

    def __init__(self, cloud: FakeCloud) -> None:
        self.clouds = {cloud.region: cloud}
        self.deployers_account = "111111111111"
        self.targets = {kind: Target(kind, regions=(cloud.region,), artifact_bucket="b") for kind in Kind}

    def target(self, kind: Kind) -> Target:
        return self.targets[kind]

    def at(self, kind: Kind, region: str = "") -> FakeCloud:
        return self.clouds[region or self.targets[kind].regions[0]]

    def own_account(self) -> str:
        return self.deployers_account

    def every(self) -> Sequence[FakeCloud]:
        used = dict.fromkeys(region for target in self.targets.values() for region in target.regions)
        return [self.clouds[region] for region in used]
