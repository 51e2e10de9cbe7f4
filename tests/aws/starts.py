"""Generated states of GitHub, AWS and the records, from which a resync has to recover."""

import json
from dataclasses import dataclass, replace
from typing import Any

from aws_world import pipeline_template
from hypothesis import strategies as st
from stepped import AWAY, HOME, OTHER, SteppedWorld

from deployer.environment.drift import state_to_compare
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environment_status import AppliedStack
from deployer.model.environments import Environment, Kind
from deployer.model.refs import Ref
from deployer.model.stacks import TABLE, Phase
from deployer.model.teardown_report import RetainedItem, TeardownPlan, TeardownReport
from deployer.templates.release import Release, check_release
from sandbox.aws.places import Place
from sandbox.aws.stack import Plan
from tests.unit.world import HELLO, environment, sha

MAIN, X, Y, V1 = "refs/heads/main", "refs/heads/x", "refs/heads/y", "refs/tags/v1"
PRODUCTION = Environment(HELLO, Kind.PRODUCTION)
STATUSES = sorted(status for status, row in TABLE.items() if row.phase is not Phase.GONE)
QUIET = [status for status in STATUSES if not status.endswith("_IN_PROGRESS")]
READY = [status for status in STATUSES if TABLE[status].phase is Phase.READY]
ELSE = {"deployer:repository": "acme/else"}
_APPLICATION = json.dumps({"Resources": {"Files": {"Type": "AWS::S3::Bucket"}}})
_SECONDS = 12.0  # duration of an operation that somebody else began


@dataclass(frozen=True)
class Known:
    """The record of an environment, which may be right or wrong.

    Attributes:
        commit: the number of the commit; 0 for none.
        place: the region of the record: `right`, `wrong`, or empty.
        arn: the stack's ARN in the record: `right`, `wrong`, or empty.
        receipt: the progress of a teardown: empty, `begun`, `ordered` (the deletion of the stack was requested),
            `removed` (ended, everything deleted) or `left` (ended, the stack is left).
        applied: whether the record has what deployer applied last.
        applications: whether the record has the stacks that the pipeline deploys.
        aged: why the environment expired at the commit of the ref.
        decided: of production, whether the record has the time at which its tag was chosen.
    """

    commit: int = 1
    outcome: str = "deployed"
    state: str = "deployed"
    place: str = "right"
    arn: str = "right"
    receipt: str = ""
    applied: bool = True
    applications: bool = True
    generation: int = 0
    aged: str = ""
    decided: bool = True


@dataclass(frozen=True)
class Start:
    """The state of a branch and its environment at the start of a test.

    Attributes:
        live: the number of the commit of the ref; 0 if GitHub no longer has the ref. For production, the number of the
            newest tag.
        during: what happens to the ref after the start of the resync without a webhook: it `moves`, is deleted (`goes`)
            or is created again (`comes`).
        stack: the status of its stack; empty if it has none.
        built: the number of the commit from which the stack was created.
        away: whether the stack is in the second region.
        owner: the owner named by the stack's tags: the environment (`own`), `nobody`, or another environment (`else`).
        protected: whether the stack has termination protection.
        application: the stack that the pipeline deployed: none, `own`, `astray` (its own, but in the other region), or
            `foreign` (another stack of the same name).
        tampered: what somebody else has updated in the stack: `parameters`, `template` or `tags`.
        beside: another stack of the same name: a `squatter` without tags or a `twin` with the same tags in the other
            region, or an `exile` with the same tags in another account.
        undeletable: how many times the deletion of a resource of the stack fails.
        known: the record.
    """

    live: int = 1
    during: str = ""
    stack: str = ""
    built: int = 1
    away: bool = False
    owner: str = "own"
    protected: bool = False
    application: str = ""
    tampered: str = ""
    beside: str = ""
    undeletable: int = 0
    known: Known | None = None


KNOWN = st.none() | st.builds(
    Known,
    commit=st.integers(0, 3),
    outcome=st.sampled_from(
        ["deployed", "deployed", "failed", "skipped", "deleted", "superseded", "dead-lettered", ""]
    ),
    state=st.sampled_from(
        ["deployed", "deployed", "failed", "running", "provisioning", "deleting", "deleted", "skipped"]
    ),
    place=st.sampled_from(["right", "right", "wrong", ""]),
    arn=st.sampled_from(["right", "right", "wrong", ""]),
    receipt=st.sampled_from(["", "", "", "begun", "ordered", "removed", "left"]),
    applied=st.booleans(),
    applications=st.booleans(),
    generation=st.integers(0, 1),
    aged=st.sampled_from([""] * 7 + ["idle"]),
)  # fmt: skip
BRANCHES = st.builds(
    Start,
    live=st.integers(0, 3),
    during=st.sampled_from(["", "", "", "moves", "goes", "comes"]),
    stack=st.sampled_from(["", "CREATE_COMPLETE", "UPDATE_COMPLETE", *STATUSES]),
    built=st.integers(1, 3),
    away=st.booleans(),
    owner=st.sampled_from(["own", "own", "own", "own", "nobody", "else"]),
    protected=st.sampled_from([False, False, False, True]),
    application=st.sampled_from(["", "own", "own", "astray", "foreign"]),
    tampered=st.sampled_from(["", "", "parameters", "template", "tags"]),
    beside=st.sampled_from(["", "", "", "", "squatter", "twin", "exile"]),
    undeletable=st.sampled_from([0, 0, 0, 1, 99]),
    known=KNOWN,
)
STAGING = st.builds(
    Start,
    live=st.integers(0, 3),
    stack=st.sampled_from(["", "CREATE_COMPLETE", "UPDATE_COMPLETE", *STATUSES]),
    built=st.integers(1, 3),
    owner=st.sampled_from(["own", "own", "own", "nobody", "else"]),
    protected=st.booleans(),
    application=st.sampled_from(["", "own"]),
    tampered=st.sampled_from(["", "", "parameters", "template", "tags"]),
    known=KNOWN,
)


@st.composite
def starts(draw: Any) -> dict[str, Start]:
    """Generate a repository with its default branch, one or two other branches, and a tag."""
    found = {MAIN: draw(STAGING), X: draw(BRANCHES), V1: draw(STAGING)}
    if draw(st.booleans()):
        found[Y] = draw(BRANCHES)
    return found


def environment_of(ref: str) -> Environment:
    """The environment of a ref."""
    return environment(ref)


def commit_id(ref: str, number: int) -> str:
    """The n-th commit of a ref; empty for 0."""
    return sha(1000 * sorted([MAIN, X, Y, V1]).index(ref) + number) if number else ""


def possible_places(of: Environment) -> list[Place]:
    """The regions in which an environment can be."""
    return [HOME, AWAY] if of.kind is Kind.DEVELOPMENT else [OTHER]


def place_of_stack(name: str, start: Start) -> Place:
    """The region of an environment's stack."""
    return possible_places(environment_of(name))[-1 if start.away else 0]


def pipeline(number: int) -> str:
    """The template at the n-th commit; the first and the third commit have the same."""
    fields = json.loads(pipeline_template())
    fields["Parameters"] |= {
        "ArtifactStore": {"Type": "String"},
        "Greeting": {"Type": "String", "Default": "hello" if number % 2 else "goodbye"},
    }
    stages = fields["Resources"]["Pipeline"]["Properties"]
    stages["ArtifactStore"]["Location"] = {"Ref": "ArtifactStore"}
    return json.dumps(fields)


def files_by_commit(name: str) -> dict[int, dict[str, str]]:
    """The files of each commit of a ref."""
    configuration = json.dumps({"Tags": environment_of(name).tags})
    return {
        number: {"pipeline.yml": pipeline(number), "./app.json": _APPLICATION, "./stack.json": configuration}
        for number in (1, 2, 3)
    }


def without_impossible_values(start: Start) -> Start:
    """The start without impossible records, because only deployer writes them.

    A record has applied values only after a deployment, and a teardown report only together with the deployed stacks. A
    record may be missing or outdated.
    """
    known = start.known
    if known and known.receipt in {"begun", "ordered"}:
        start = replace(start, known=replace(known, applications=True))
    deployed = known.commit if known and known.outcome == "deployed" else 0
    return replace(start, built=deployed or start.built)


class Beginning:
    """Creates the state that a resync is to find."""

    def __init__(self, world: SteppedWorld, found: dict[str, Start]) -> None:
        self.world = world
        self.stage = world.stage
        self.found = found = {name: without_impossible_values(start) for name, start in found.items()}
        world.host.create(HELLO)
        if MAIN not in found:  # production's rules are read at its head
            world.rules()
        for name in found:
            for number, content in files_by_commit(name).items():
                self._push(name, number, files=content)
            for at in (HOME, AWAY, OTHER):  # stacks that only look like an environment's
                self.stack_from(
                    f"{environment_of(name).stack_name}-db",
                    at,
                    _APPLICATION,
                    {**environment_of(name).tags, **ELSE},
                    {},
                )
        for at in (HOME, AWAY, OTHER):
            self.stack_from("somebody-elses", at, _APPLICATION, {"deployer:managed": "true"}, {})
        self._create_stacks()
        for name, start in found.items():
            self._apply_start(name, start)
        self.stage.fill_buckets()
        for name, start in found.items():
            if start.live:
                self._push(name, start.live)
            else:
                self.delete_ref(name)

    def _push(self, name: str, number: int, **how: Any) -> None:
        at = 1_700_000_000 + number * 1000 if Ref.parse(name).is_tag else 0
        self.world.host.push(HELLO, self.ref(name, number), commit_id(name, number), at=at, **how)

    @staticmethod
    def ref(name: str, number: int) -> str:
        """The ref of the n-th commit; for production every commit has its own tag."""
        return f"refs/tags/v{number}" if Ref.parse(name).is_tag else name

    def delete_ref(self, name: str) -> None:
        """Delete the ref."""
        for number in (1, 2, 3):
            self.world.host.remove(HELLO, self.ref(name, number))

    def _create_stacks(self) -> None:
        """Create every stack of the start in the way deployer creates it."""
        for name, start in self.found.items():
            environment = environment_of(name)
            if Ref.parse(name).is_tag:
                for number in range(start.live + 1, 4):
                    self.world.host.remove(HELLO, self.ref(name, number))
            if start.stack or start.application:
                self._push(name, start.built)
                self.create_stack(environment, place_of_stack(name, start), self.release(name, start))
        self.world.settle()
        for name, start in self.found.items():
            if Ref.parse(name).is_tag and (start.stack or start.application):
                # the execution that AWS started itself was of the default branch; this one is deployer's
                environment, at = environment_of(name), place_of_stack(name, start)
                caller = self.world.clouds.at(environment.kind, at.region).principal()
                pipelines = self.stage.region_at(at).pipelines
                with self.stage.simulator.scheduler.lock:
                    pipelines.start(
                        pipelines.get(environment.stack_name), trigger="StartPipelineExecution", detail=caller,
                        pins={"Checkout": commit_id(name, start.built)},
                    )  # fmt: skip
        self.world.settle()

    def release(self, name: str, start: Start) -> Release:
        """The release of a stack."""
        environment, target = environment_of(name), self.stage.targets[environment_of(name).kind]
        region = place_of_stack(name, start).region
        ref = Ref.parse(self.ref(name, start.built))
        content = {file: text.encode() for file, text in files_by_commit(name)[start.built].items()}
        return check_release(
            environment, ref, "main" if ref.is_tag else ref.branch, commit_id(name, start.built), content,
            target.given(region), target, region,
        ).accepted_release()  # fmt: skip

    def create_stack(self, environment: Environment, at: Place, release: Release) -> None:
        """Create a stack."""
        role = self.stage.targets[environment.kind].service_role_arn
        self.stack_from(environment.stack_name, at, release.template, release.tags, release.parameters, role)

    def stack_from(
        self,
        name: str,
        at: Place,
        text: str,
        tags: dict[str, str],
        values: dict[str, str],
        role: str | None = None,
    ) -> None:
        """Create a stack from a template's text."""
        stacks = self.stage.region_at(at).stacks
        with self.stage.simulator.scheduler.lock:
            stacks.create(
                name, Plan(stacks.read_template(text), values), tags=tags, token=None, role_arn=role,
                capabilities=["CAPABILITY_IAM"],
            )  # fmt: skip

    def _apply_start(self, name: str, start: Start) -> None:
        """Delete or change what the start describes differently; write the record."""
        environment, at = environment_of(name), place_of_stack(name, start)
        stacks = self.stage.region_at(at).stacks
        application = f"{environment.stack_name}-app"
        others = [each for each in possible_places(environment) if each != at]
        seen = self.world.clouds.at(environment.kind, at.region).stack(environment.stack_name)
        if start.tampered and start.stack in READY:
            tamper(self.world, name, at, start.tampered)
            self.world.settle()
        with self.stage.simulator.scheduler.lock:
            if application in stacks.live and start.application != "own":
                stacks.force_status(stacks.live[application], "DELETE_COMPLETE")
            if start.application == "astray" and others:
                self.stack_from(application, others[0], _APPLICATION, environment.tags, {})
            foreign = start.application == "foreign" and not start.live and not start.during
            if foreign:
                self.stack_from(application, at, _APPLICATION, {"team": "a"}, {})
            if start.beside and others:
                tags = {"team": "b"} if start.beside == "squatter" else environment.tags
                there = OTHER if start.beside == "exile" else others[0]
                self.stack_from(environment.stack_name, there, _APPLICATION, tags, {})
        self.world.settle()
        arn = ""
        with self.stage.simulator.scheduler.lock:
            if stack := stacks.live.get(environment.stack_name):
                arn = stack.id
                if not start.stack:
                    stacks.force_status(stack, "DELETE_COMPLETE")
                else:
                    stack.tags = {
                        "own": stack.tags, "nobody": {"team": "c"}, "else": {**stack.tags, **ELSE},
                    }[start.owner]  # fmt: skip
                    stack.protected = start.protected
                    status = start.stack
                    if start.owner != "own" and status not in QUIET:
                        status = "CREATE_COMPLETE"
                    stacks.force_status(stack, status, reason="as it is", seconds=_SECONDS)
        if start.undeletable:
            order = {
                "stack": environment.stack_name,
                "resource": "Pipeline",
                "on": "delete",
                "reason": "in use",
            }
            order |= {"region": at.region, "account": at.account, "count": start.undeletable}
            self.stage.simulator.faults.add({"fail_resources": order})
        if start.known:
            self.write_record(name, start, start.known, arn, state_to_compare(seen) if seen else {})

    def write_record(self, name: str, start: Start, known: Known, arn: str, made: AppliedStack) -> None:
        """Write the record."""
        environment, now = environment_of(name), self.stage.clock.now - 60
        wrong = f"arn:aws:cloudformation:us-east-1:123456789012:stack/{environment.stack_name}/0000"
        regions = {"right": place_of_stack(name, start).region, "": ""}
        regions["wrong"] = next(
            (each.region for each in possible_places(environment) if each != place_of_stack(name, start)),
            regions["right"],
        )
        arns = {"right": arn, "wrong": wrong, "": ""}
        applications = [f"{environment.stack_name}-app"] if known.applications else []
        left = RetainedItem(f"stack {environment.stack_name}", arn, "it has termination protection")
        begun = TeardownReport(began_at=now - 60, plan=TeardownPlan([*applications, environment.stack_name]))
        receipts = {
            "": TeardownReport(),
            "begun": begun,
            "ordered": begun.but(todo=[environment.stack_name], arn=arns[known.arn]),
            "removed": TeardownReport(began_at=now - 60, ended_at=now, outcome="removed"),
            "left": TeardownReport(began_at=now - 60, ended_at=now, outcome="partly", retained=[left]),
        }
        dated = known.decided and known.commit and Ref.parse(name).is_tag
        record = EnvironmentRecord.of(
            HELLO.full_name, environment.key, environment.stack_name, ref=self.ref(name, known.commit or 1),
            state=known.state, commit=commit_id(name, known.commit), outcome=known.outcome, reason="as it was",
            region=regions[known.place], stack_arn=arns[known.arn], receipt=receipts[known.receipt],
            applied=made if known.applied else AppliedStack(), applications=applications, generation=known.generation,
            decided_at=1_700_000_000 + known.commit * 1000 if dated else 0,
            used_at=now - 60, updated_at=now, aged=known.aged, aged_at=now if known.aged else 0,
            held_at=commit_id(name, start.live) if known.aged else "",
        )  # fmt: skip
        self.world.redis.hset(f"deployer:{{{HELLO.key}}}:environments", environment.key, record.to_json())

    # --- after the start of the resync ---

    def move_refs(self) -> None:
        """Move the refs without webhooks."""
        for name, start in self.found.items():
            match start.during:
                case "moves" if start.live:
                    self._push(name, start.live % 3 + 1)
                case "goes":
                    self.delete_ref(name)
                case "comes" if not start.live:
                    self._push(name, 1)


def final_number(start: Start) -> int:
    """The number of the ref's commit at the end."""
    match start.during:
        case "moves" if start.live:
            return start.live % 3 + 1
        case "goes":
            return 0
        case "comes" if not start.live:
            return 1
    return start.live


def tamper(world: SteppedWorld, name: str, at: Place, what: str) -> None:
    """Update an environment's stack as somebody does in the console."""
    client, stack = world.stage.cloudformation_client(at), environment_of(name).stack_name
    described = client.describe_stacks(StackName=stack)["Stacks"][0]
    given: dict[str, Any] = {"UsePreviousTemplate": True}
    values = [
        {"ParameterKey": each["ParameterKey"], "UsePreviousValue": True} for each in described["Parameters"]
    ]
    match what:
        case "parameters":
            values = [each for each in values if each["ParameterKey"] != "Greeting"]
            values.append({"ParameterKey": "Greeting", "ParameterValue": "ahoy"})
        case "template":
            body = client.get_template(StackName=stack)["TemplateBody"]
            text = json.loads(body) if isinstance(body, str) else body
            text["Resources"]["Mine"] = {"Type": "AWS::SNS::Topic"}
            given = {"TemplateBody": json.dumps(text)}
        case "tags":
            given["Tags"] = [*described["Tags"], {"Key": "team", "Value": "a"}]
    client.update_stack(StackName=stack, Parameters=values, Capabilities=["CAPABILITY_IAM"], **given)
