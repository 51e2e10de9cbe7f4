"""Generated disturbances of a resync: queued work, pushes, faults, another default branch, archiving."""

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from hypothesis import strategies as st
from starts import (
    BRANCHES,
    MAIN,
    PRODUCTION,
    STAGING,
    V1,
    Beginning,
    Start,
    X,
    Y,
    commit_id,
    environment_of,
    files_by_commit,
    place_of_stack,
)
from stepped import SteppedWorld

from deployer.model.environments import Environment, Kind
from deployer.model.errors import TransientError
from deployer.model.events import CloudEvent, Push
from deployer.model.refs import ZERO_SHA, Ref
from deployer.queue.dead_letter_record import DeadLetter
from deployer.queue.items import Cause, Task, Work
from deployer.queue.step_results import DeadLettered, WaitUntil
from sandbox.aws.sources import Commit
from tests.unit.world import HELLO

NAMES = (MAIN, X, Y, V1)
DEVELOPMENT = Environment(HELLO, Kind.DEVELOPMENT, Ref.parse(MAIN))  # of the former default branch
ENVIRONMENTS = [*map(environment_of, NAMES), DEVELOPMENT]
_ROUNDS = 40  # tasks and waits within which all disturbances happen
_LAG_SECONDS = 25.0  # how long GitHub's API lags behind its own webhooks
_OPERATIONS = (
    "*", "CreateStack", "UpdateStack", "DeleteStack", "DescribeStacks", "DescribeStackResources", "DescribeStackEvents",
    "ContinueUpdateRollback", "UpdateTerminationProtection", "GetPipeline", "GetPipelineState",
    "GetPipelineExecution", "ListPipelineExecutions", "StartPipelineExecution", "StopPipelineExecution", "ListStacks",
)  # fmt: skip
_FIELDS = (
    "region", "stack_arn", "applied", "decided_at", "used_at", "updated_at", "ref", "generation", "held_at",
    "aged_at", "state",
)  # fmt: skip
_STEPS = {
    "": {},
    "provision": {"task": Task.PROVISION, "created": True},
    "update": {"task": Task.UPDATE, "updated": True},
    "recover": {"task": Task.UPDATE, "recovered": True},
    "replace": {"task": Task.DELETE, "replacing": True},
    "trigger": {"task": Task.TRIGGER},
    "follow": {"execution": "00000000-0000-0000-0000-000000000000"},  # an execution of a deleted pipeline
}


@dataclass(frozen=True)
class Left:
    """A queue item of an environment before the resync.

    Attributes:
        cause: as in `Cause`; a teardown of a `renamed` repository, a redeploy of a `chosen` commit.
        how: its state: `waits`, `snoozed`, `lost` (with its worker), or `dead` (a dead letter).
        step: its step; the decision that led to it may be outdated.
        number: the number of the commit to deploy.
    """

    name: str
    cause: str = "push"
    how: str = "waits"
    step: str = ""
    number: int = 1


@dataclass(frozen=True)
class Act:
    """What people or GitHub do after some rounds of the resync.

    Attributes:
        what: a ref `moves` (for a tag: the next tag is created), moves to a commit with `[skip ci]` (`skips`), is
            deleted (`goes`), or is a tag that moves to another commit (`retags`); a person requests a `redeploy` or
            deletes the pipeline's stack in AWS (`unmakes`); AWS sends an `event`.
        told: how often GitHub sends the webhook: `once`, `twice`, `late` or `never`.
        lags: whether GitHub's API returns the former commit for a while.
    """

    name: str
    at: int = 1
    what: str = "moves"
    told: str = "once"
    lags: bool = False


@dataclass(frozen=True)
class Fault:
    """Some calls to AWS or GitHub fail.

    Attributes:
        operation: an operation of AWS, or a method of the port to GitHub if it begins with a lower-case letter.
        how: the call fails `before` or `after` it takes effect, the connection drops (`drop`), or the call is throttled
            (`throttle`).
    """

    operation: str
    at: int = 0
    how: str = "before"
    count: int = 1


@dataclass(frozen=True)
class Upheaval:
    """A start with the disturbances of its resync.

    Attributes:
        default: the branch that becomes the default branch instead of `main`; records may have it already (`known`).
        switched: after how many rounds of the resync the default branch changes; 0 for before the resync.
        heard: whether the record has the time of production's tag, so that tags without a webhook count as missed.
        annotated: whether tags are annotated.
        lacking: the fields that records of an older version do not have.
        archived: whether the repository is archived at the start of the resync and unarchived at its end.
        replayed: whether a person replays dead letters, or discards them.
    """

    found: dict[str, Start]
    default: str = "main"
    known: bool = True
    switched: int = 0
    heard: bool = False
    annotated: bool = False
    lacking: tuple[str, ...] = ()
    archived: bool = False
    replayed: bool = True
    left: tuple[Left, ...] = ()
    acts: tuple[Act, ...] = ()
    faults: tuple[Fault, ...] = ()


LEFT = st.builds(
    Left,
    name=st.sampled_from(NAMES),
    cause=st.sampled_from(
        ["push", "push", "deletion", "redeploy", "chosen", "resync", "event", "age", "renamed"]
    ),
    how=st.sampled_from(["waits", "snoozed", "lost", "dead"]),
    step=st.sampled_from(list(_STEPS)),
    number=st.integers(1, 3),
)
ACTS = st.builds(
    Act,
    name=st.sampled_from(NAMES),
    at=st.integers(0, _ROUNDS),
    what=st.sampled_from(["moves", "moves", "goes", "skips", "retags", "redeploy", "unmakes", "event"]),
    told=st.sampled_from(["once", "once", "twice", "late", "never"]),
    lags=st.booleans(),
)
FAULTS = st.builds(
    Fault,
    operation=st.sampled_from(
        [*_OPERATIONS, "facts", "head", "files", "post_commit_status", "default_branch", "posted"]
    ),
    at=st.integers(0, _ROUNDS),
    how=st.sampled_from(["before", "after", "drop", "throttle"]),
    count=st.sampled_from([1, 1, 2, 4, 6, 14]),
)


@st.composite
def upheavals(draw: Any) -> Upheaval:
    """Generate a repository as in `starts`, with its disturbances."""
    found = {MAIN: draw(STAGING), X: draw(BRANCHES), V1: draw(STAGING)}
    if draw(st.booleans()):
        found[Y] = draw(BRANCHES)
    known, heard, annotated, replayed, older = (draw(st.booleans()) for _ in range(5))
    return without_impossible_values(
        Upheaval(
            found=found,
            default=draw(st.sampled_from(["main", "main", "x"])),
            known=known,
            switched=draw(st.sampled_from([0, 0, 5, 20])),
            heard=heard,
            annotated=annotated,
            lacking=tuple(draw(st.lists(st.sampled_from(_FIELDS), max_size=3, unique=True))) if older else (),
            archived=draw(st.sampled_from([False, False, False, True])),
            replayed=replayed,
            left=tuple(draw(st.lists(LEFT, max_size=3))),
            acts=tuple(draw(st.lists(ACTS, max_size=3))),
            faults=tuple(draw(st.lists(FAULTS, max_size=3))),
        )
    )


def without_impossible_values(up: Upheaval) -> Upheaval:
    """The disturbances without impossible ones: a deleted default branch, two acts on one ref at a time, or a step that
    takes production back.
    """
    found = dict(up.found)
    if up.default == "x":
        found[X] = replace(found[X], live=found[X].live or 1, during="")
        found[MAIN] = replace(found[MAIN], live=found[MAIN].live or 1)
    keeps = {f"refs/heads/{up.default}"}
    left = {each.name: each for each in up.left if each.name in found}
    if V1 in left and left[V1].step:
        left[V1] = replace(left[V1], number=max(left[V1].number, found[V1].built))
    acts = sorted((each for each in up.acts if each.name in found), key=lambda each: each.at)
    acts = [
        each for each in acts
        if each.what != "goes" or (each.name not in keeps and not Ref.parse(each.name).is_tag)
    ]  # fmt: skip
    for each in acts:
        found[each.name] = replace(found[each.name], during="")
    for name in {*left, *(each.name for each in acts)}:
        if found[name].application == "foreign":  # a new pipeline would overwrite it
            found[name] = replace(found[name], application="")
    return replace(up, found=found, left=tuple(left.values()), acts=tuple(acts))


class UpheavedWorld(SteppedWorld):
    """A world whose pipelines tag their stacks with their own environment, whatever branch they read."""

    def _check_out(self, repository: str, branch: str, pin: str | None, into: Path) -> Commit:
        found = super()._check_out(repository, branch, pin, into)
        named = {each.stack_name: each.tags for each in ENVIRONMENTS}
        tags = next(
            named[pipeline.name]
            for region in self.stage.simulator.regions
            for pipeline, execution in region.pipelines.history
            if execution.directory in into.parents
        )
        (into / "stack.json").write_text(json.dumps({"Tags": tags}))
        return found

    @property
    def default(self) -> str:
        return self.host._repos[HELLO.key].default_branch


class Unrest:
    """Performs the disturbances during the resync."""

    def __init__(self, world: UpheavedWorld, up: Upheaval) -> None:
        self.world = world
        self.up = up
        self.begun = Beginning(world, up.found)
        self.deliveries: list[str] = []
        self.pushed: set[str] = set()  # refs whose last change was reported by a webhook of a push
        self.silent = False  # whether a change was not reported in time
        # the commit of the newest tag, whether a webhook reported it, whether it existed before
        self.tag: tuple[str, str, bool] | None = None
        self.asked: set[str] = set()  # the commits that people had requested for production before
        self._late: list[tuple[int, Push]] = []
        self._lags: dict[str, float] = {}
        self._posted = 0
        self._adjust_records()
        if not up.switched:
            world.host.create(HELLO, up.default)
        world.host.change(HELLO, archived=up.archived)
        for each in sorted(up.left, key=lambda each: ("dead", "snoozed", "lost", "waits").index(each.how)):
            self._add_queue_item(each)
        post = world.host.post_commit_status

        def posted(*given: Any) -> None:
            post(*given)
            if self._posted:
                self._posted -= 1
                raise TransientError("GitHub's answer to a status was lost")

        world.host.post_commit_status = posted  # type: ignore[method-assign]

    def _adjust_records(self) -> None:
        """Complete the records, or remove the fields that an older version lacks."""
        world = self.world
        if self.up.known:
            world.deployer.repositories.refresh_record(HELLO)
        tags = {each: sha for each, sha in world.host.refs(HELLO).items() if each.is_tag}
        for each, sha in tags.items() if self.up.annotated else ():
            world.host._repos[HELLO.key].refs[each] = self._tag_object(each.name, sha)
        lacking = {*self.up.lacking, *(() if self.up.heard else ("decided_at",))}
        records = f"deployer:{{{HELLO.key}}}:environments"
        for key, text in world.redis.hgetall(records).items():
            told = {name: value for name, value in json.loads(text).items() if name not in lacking}
            world.redis.hset(records, key, json.dumps(told))

    def _tag_object(self, name: str, sha: str) -> str:
        """The tag object of an annotated tag."""
        repo, identity = self.world.host._repos[HELLO.key], f"{name[-1] * 20}{sha[20:]}"
        repo.peeled[identity] = sha
        repo.made[identity] = repo.made[sha]
        return identity

    # --- before ---

    def _add_queue_item(self, left: Left) -> None:
        world, environment = self.world, environment_of(left.name)
        if left.cause in {"renamed", "age"} and environment.branch is None:
            return  # that is requested for development only
        fields = self._queue_item_fields(left)
        cause = fields["cause"]
        delivery = f"left-{len(self.deliveries)}" if cause in {Cause.PUSH, Cause.DELETION} else ""
        if Ref.parse(left.name).is_tag and cause in {Cause.PUSH, Cause.REDEPLOY}:
            self.asked |= {
                fields.get("sha", ""),
                commit_id(V1, int(fields["ref"].removeprefix("refs/tags/v"))),
            }
        work = Work.of(environment=environment.key, turned=True, **fields)
        accepted = world.lanes.accept(HELLO, work, delivery)
        self.deliveries += [delivery] if delivery else []
        if left.how == "waits" or not accepted.dispatch:
            return  # its dispatch message was lost
        token = accepted.dispatch.token
        taken = world.lanes.begin(HELLO, token)
        assert taken is not None
        match left.how:
            case "snoozed":
                world.lanes.finish(HELLO, token, WaitUntil(taken, 300))
            case "dead":
                letter = DeadLetter(
                    f"acme~hello-{token}", HELLO.full_name, taken.task, "it died", "", world.stage.clock.now,
                    taken.to_json(), "TransientError",
                )  # fmt: skip
                world.lanes.finish(HELLO, token, DeadLettered(letter))

    def _queue_item_fields(self, left: Left) -> dict[str, Any]:
        """The fields of the queue item."""
        live = self.up.found[left.name].live
        number = live or left.number
        cause = Cause({"renamed": "teardown", "chosen": "redeploy"}.get(left.cause, left.cause))
        ref, decided = self.begun.ref(left.name, number), commit_id(left.name, left.number)
        fields: dict[str, Any] = {"cause": cause, "ref": ref}
        match cause:
            case Cause.PUSH:
                fields |= {
                    "before": ZERO_SHA,
                    "after": commit_id(left.name, number),
                    "default_branch": "main",
                }
                fields |= {"pushed_at": self.world.stage.clock.now - 5}
            case Cause.DELETION:
                fields |= {
                    "before": commit_id(left.name, number),
                    "after": ZERO_SHA,
                    "default_branch": "main",
                }
            case Cause.TEARDOWN:
                fields |= {"word": "renamed"}
            case Cause.EVENT:
                fields |= {"task": Task.NOTIFY}
        if left.step and cause in {Cause.PUSH, Cause.REDEPLOY, Cause.RESYNC}:
            fields |= {"sha": decided, "ref": self.begun.ref(left.name, left.number), **_STEPS[left.step]}
        elif left.step and cause in {Cause.DELETION, Cause.TEARDOWN} and environment_of(left.name).branch:
            fields |= {"task": Task.DELETE}
        if cause == Cause.REDEPLOY and Ref.parse(left.name).is_tag:
            fields["ref"] = self.begun.ref(left.name, max(live, 1))
        if left.cause == "chosen":
            fields |= {"sha": decided, "chosen": True}
        named = cause in {Cause.PUSH, Cause.DELETION, Cause.REDEPLOY}
        return fields | {"candidate": named and not left.step and Ref.parse(left.name).is_tag}

    # --- during the resync ---

    def run_with_disturbances(self) -> None:
        """Run the resync, with the disturbances in between."""
        world = self.world
        world.deployer.submitter.resync(HELLO)
        for number in range(_ROUNDS + 8):
            for fault in self.up.faults:
                if fault.at == number:
                    self._inject_fault(fault)
            for act in self.up.acts:
                if act.at == number:
                    self._perform_act(act, number)
            for at, push in self._late:
                if at == number:
                    world.deployer.submitter.submit_github(push)
            if number == 1:
                self.begun.move_refs()
            if number == self.up.switched:
                world.host.create(HELLO, self.up.default)
            if world.sent:
                each = world.sent.pop(0)
                world.told.append(
                    world.runner.carry_out(each.task, each.repository, each.environment, each.token)
                )
            else:
                world.step()
            self._catch_up()

    def end_faults(self) -> None:
        """End all faults."""
        self.world.stage.simulator.faults._rules["errors"].clear()
        self.world.stage.simulator.faults._rules["throttle"].clear()
        self.world.host._orders.clear()
        self.world.host.catch_up()
        self.world.host.change(HELLO, archived=False)
        self._posted = 0

    def _catch_up(self) -> None:
        now = self.world.stage.clock.now
        for name, until in list(self._lags.items()):
            if now > until:
                self.world.host._repos[HELLO.key].lagging.pop(Ref.parse(name), None)
                del self._lags[name]

    def _inject_fault(self, fault: Fault) -> None:
        if fault.operation == "posted":
            self._posted = fault.count
        elif fault.operation.islower() or fault.operation == "default_branch":
            wait = 30.0 if fault.how == "throttle" else None
            error = TransientError("GitHub answers 502", retry_after=wait)
            self.world.host.fail_next(error, times=min(fault.count, 6), method=fault.operation)
        elif fault.how == "throttle":
            order = {"operation": fault.operation, "count": fault.count}
            self.world.stage.simulator.faults.add({"throttle": order})
        else:
            order = {"operation": fault.operation, "count": fault.count, "status": 503}
            order |= {"mode": "after" if fault.how == "drop" else fault.how, "drop": fault.how == "drop"}
            self.world.stage.simulator.faults.add({"errors": order})

    def _perform_act(self, act: Act, number: int) -> None:
        world, name = self.world, act.name
        if act.what == "event":
            name = f"e{len(world.sent)}-{number}-{len(self.deliveries)}"
            world.deployer.submitter.submit_aws(
                CloudEvent(name, environment_of(act.name).stack_name, "stage Deploy: SUCCEEDED")
            )
            return
        if act.what == "unmakes":
            if act.name in {X, Y} and self.up.found[name].owner == "own":
                self._delete_stack(name)
            return
        if act.what == "redeploy":
            environment = Environment.of_ref(HELLO, Ref.parse(name), world.default)
            if environment != PRODUCTION:
                world.redeploy(environment)
            return
        refs = world.host.refs(HELLO)
        if Ref.parse(name).is_tag:
            self._push_tag(act, number, refs)
            return
        before = refs.get(Ref.parse(name), ZERO_SHA)
        if act.what == "goes" and before == ZERO_SHA:
            return
        new = self._next_number(name)
        after = ZERO_SHA if act.what == "goes" else commit_id(name, new + (3 if act.what == "skips" else 0))
        if act.lags:
            world.host.lag(HELLO, name)
            self._lags[name] = world.stage.clock.now + _LAG_SECONDS
        if act.what == "goes":
            self.begun.delete_ref(name)
        elif act.what == "skips":
            world.host.push(HELLO, name, after, files=files_by_commit(name)[new], message="a word [skip ci]")
        else:
            world.host.push(HELLO, name, after)
        self._deliver_webhook(act, number, name, before, after)

    def _next_number(self, name: str) -> int:
        now = self.world.host.refs(HELLO).get(Ref.parse(name), "")
        return next((number for number in range(1, 7) if commit_id(name, number) == now), 0) % 3 + 1

    def _delete_stack(self, name: str) -> None:
        """Delete a stack as a person does, if AWS allows it."""
        client = self.world.stage.cloudformation_client(place_of_stack(name, self.up.found[name]))
        with suppress(ClientError, BotoCoreError):
            client.delete_stack(StackName=environment_of(name).stack_name)
        self.silent = True
        self.pushed.discard(name)

    def _push_tag(self, act: Act, number: int, refs: dict[Ref, str]) -> None:
        """Create the next tag (several if no webhook reports them), or move the newest tag to another commit."""
        there = [n for n in range(1, 9) if Ref.parse(self.begun.ref(V1, n)) in refs]
        newest = max(there, default=0)
        if act.what not in {"moves", "retags"} or newest > 5:
            return
        retags = act.what == "retags" and bool(there)
        sha = ""
        for new in range(newest + 1, newest + (4 if act.told == "never" and not retags else 2)):
            ref = self.begun.ref(V1, newest if retags else new)
            content, sha = files_by_commit(V1)[(new - 1) % 3 + 1], commit_id(V1, new)
            before = refs.get(Ref.parse(ref), ZERO_SHA)
            self.world.host.push(HELLO, ref, sha, files=content, at=self.world.stage.clock.now)
            target = self._tag_object(ref, sha) if self.up.annotated else sha
            self.world.host._repos[HELLO.key].refs[Ref.parse(ref)] = target
            self._deliver_webhook(act, number, ref, before, target)
        self.tag = (sha, act.told, retags)

    def _deliver_webhook(self, act: Act, number: int, ref: str, before: str, after: str) -> None:
        world = self.world
        delivery = f"act-{len(self.deliveries)}"
        push = Push(
            delivery, HELLO, Ref.parse(ref), before, after, world.default, pushed_at=int(world.stage.clock.now)
        )  # fmt: skip
        if act.told == "never":
            self.silent = True
            self.pushed.discard(act.name)
            return
        self.deliveries.append(delivery)
        if (
            not self.up.archived
        ):  # nothing new runs in an archived repository; the resync after unarchiving has to handle it
            self.pushed.add(act.name)
        if act.told == "late":
            self._late.append((number + 6, push))
            return
        for _ in range(2 if act.told == "twice" else 1):
            world.deployer.submitter.submit_github(push)


def final_commits(world: UpheavedWorld, up: Upheaval) -> dict[Environment, str]:
    """The final commit of each environment except production; empty if the environment is to be deleted."""
    refs = world.host.refs(HELLO)
    found = {}
    for name in up.found:
        if name != V1:
            ref = Ref.parse(name)
            found[Environment.of_ref(HELLO, ref, world.default)] = refs.get(ref, "")
    if world.default == "x":
        found[environment_of(X)] = ""
    return found
