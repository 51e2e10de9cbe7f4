"""A resync brings any state of GitHub, AWS or the records to the desired state, tested against the simulated AWS."""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from searched import searched
from starts import (
    MAIN,
    PRODUCTION,
    V1,
    Beginning,
    Known,
    Start,
    X,
    commit_id,
    environment_of,
    final_number,
    possible_places,
    starts,
    tamper,
)
from stepped import HOME, Stage, SteppedWorld, stage

from deployer.model.environments import Environment, Kind
from deployer.model.outcomes import Outcome
from deployer.model.stacks import TABLE, Phase
from sandbox.aws.places import Place
from tests.unit.world import HELLO

READY = "UPDATE_COMPLETE"
# cases that only a person can resolve: a state that leads to the case, with the words that deployer reports
FOR_PEOPLE: dict[str, tuple[dict[str, Start], str]] = {
    "a creation that failed": (
        {X: Start(stack="ROLLBACK_COMPLETE")}, "its stack could not be created: .*push a corrected commit, or redeploy"
    ),
    "a stack that is another's": ({X: Start(stack=READY, owner="else")}, "exists without deployer's tags"),
    "an import": ({X: Start(stack="IMPORT_ROLLBACK_FAILED")}, "which only a person can fix"),
    "a protected stack of a branch that is gone": (
        {X: Start(live=0, stack=READY, protected=True, known=Known())}, "termination protection"
    ),
    "a staging whose deletion failed": ({MAIN: Start(stack="DELETE_FAILED")}, "needs a person"),
    "a pipeline that was left when its stack was deleted": (
        {X: Start(stack="ROLLBACK_COMPLETE", built=2, undeletable=99)},
        "its stack could not be created: Pipeline .*already exists",
    ),
    "a ledger that is older than what production runs": (
        {V1: Start(live=2, stack=READY, built=2, tampered="template", known=Known(outcome="", decided=False))},
        "not known to be older",
    ),
    "a failure that was told before": ({X: Start(stack=READY, known=Known(outcome="failed"))}, "^as it was$"),
}  # fmt: skip
_CHANGES = re.compile(r"(Create|Update|Delete|Continue|Rollback|Start|Stop|Put|Abort)")


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("repositories")) as made:
        yield made


class Look:
    """The state of AWS, read from the simulator itself."""

    def __init__(self, world: SteppedWorld) -> None:
        state = world.stage.state
        self._recorded = {
            each.environment: each.status.stack.stack_arn for each in world.lanes.environments(HELLO)
        }
        self.stacks = state["stacks"]
        self._pipelines = state["pipelines"]
        self._buckets = state["buckets"]

    def stacks_of(self, of: Environment) -> list[dict[str, Any]]:
        """The stacks of an environment in the regions where it can be."""
        return [
            s
            for s in self.stacks
            if self._owns(of, s) and Place(s["account"], s["region"]) in possible_places(of)
        ]

    def _owns(self, of: Environment, stack: dict[str, Any]) -> bool:
        """Whether a stack is the environment's: by its tags, or by its recorded ARN if its tags name nobody."""
        if of.owns(stack["tags"]):
            return True
        return stack["id"] == self._recorded.get(of.key) and not of.contradicts(stack["tags"])

    def stack(self, of: Environment, name: str = "") -> dict[str, Any] | None:
        return next((each for each in self.stacks_of(of) if each["name"] == (name or of.stack_name)), None)

    def unowned_resources(self, environments: list[Environment]) -> list[dict[str, Any]]:
        """The stacks of no environment, with their pipelines and the number of objects in their buckets."""
        ours = {each["id"] for of in environments for each in self.stacks_of(of)}
        return [
            {
                **stack,
                "holds": [self._buckets.get(each) for each in stack["resources"].values()],
                "pipelines": [
                    each for each in self._pipelines if place_and_name(each) == place_and_name(stack)
                ],
            }
            for stack in self.stacks
            if stack["id"] not in ours
        ]

    def execution_results(self, of: Environment) -> list[tuple[str, str]]:
        """Commit and status of each execution."""
        return [
            (e["sha"], e["status"])
            for p in self._pipelines
            if p["name"] == of.stack_name and Place(p["account"], p["region"]) in possible_places(of)
            for e in p["executions"]
        ]


def place_and_name(shown: dict[str, Any]) -> tuple[str, str, str]:
    """The account, the region and the name of a stack or pipeline."""
    return shown["account"], shown["region"], shown["name"]


def run_resync(world: SteppedWorld) -> str:
    """Run a resync and everything that it causes; return its own report."""
    count = len(world.told)
    world.deployer.submitter.resync(HELLO)
    world.run()
    return world.told[count]


def converge(world: SteppedWorld, found: dict[str, Start]) -> None:
    """Create the start, run resyncs, and check that the state is the desired one and stays so."""
    begun = Beginning(world, found)
    environments = [environment_of(name) for name in found]
    before = Look(world)
    world.stage.simulator.calls.clear()
    world.deployer.submitter.resync(HELLO)
    dispatch = world.sent.pop(0)
    world.told.append(
        world.runner.carry_out(dispatch.task, dispatch.repository, dispatch.environment, dispatch.token)
    )
    begun.move_refs()
    world.run()
    if any(start.during for start in found.values()):
        run_resync(world)
    after = Look(world)
    assert not world.lanes.dead_letters(), world.lanes.dead_letters()
    assert after.unowned_resources(environments) == before.unowned_resources(environments)
    for each in before.unowned_resources(environments):
        names = {each["name"], each["id"], *each["resources"].values()}
        assert not {(each["account"], each["region"], name) for name in names} & changed_stacks(world)
    for name, start in found.items():
        if name == V1:
            check_production(world, before, after)
        elif name == MAIN:
            check_staging(world, start, before, after)
        else:
            check_branch(world, name, start, after)
    world.stage.simulator.calls.clear()
    known = all_records(world)
    told = run_resync(world)
    assert not changed_stacks(world), changed_stacks(world)
    assert all_records(world) == known
    gone = [
        environment_of(name)
        for name, start in found.items()
        if not final_number(start) and name not in {MAIN, V1}
    ]
    asked = [each for each in gone if needs_a_person(world.lanes.environment(each))]
    planned, _, _ = told.partition("; the newest tag ")  # this part informs people; it is no change
    assert planned in {"resynced: nothing to do", f"resynced: {len(asked)} to delete"}, told


def all_records(world: SteppedWorld) -> list[Any]:
    """All records."""
    return sorted(
        (r.environment, r.spec.commit, r.status.outcome, r.status.reason, r.status.state)
        for r in world.lanes.environments(HELLO)
    )


def changed_stacks(world: SteppedWorld) -> set[tuple[str, str, str]]:
    """What deployer changed, as account, region and name; a creation refused with AlreadyExists is no change."""
    return {
        (each["account"], each["region"], each["name"])
        for each in world.stage.simulator.calls.list_calls()
        if each["user_agent"].endswith("deployer") and _CHANGES.match(each["operation"])
        if each["code"] != "AlreadyExistsException"
    }


def needs_a_person(record: Any) -> bool:
    """Whether the record reports one of the cases that only a person can resolve."""
    if record is None or record.status.outcome != Outcome.FAILED:
        return False
    assert any(re.search(words, record.status.reason) for _, words in FOR_PEOPLE.values()), (
        record.status.reason
    )
    return True


def is_skipped_or_expired(world: SteppedWorld, of: Environment, start: Start) -> bool:
    """Whether the first record says that this commit was skipped, or that the environment expired."""
    known, record = start.known, world.lanes.environment(of)
    if known and known.aged and start.live == final_number(start):
        return True
    return bool(
        known
        and (known.outcome, known.commit) == ("skipped", final_number(start))
        and record
        and (record.status.outcome, record.status.reason) == ("skipped", "as it was")
    )


def is_deployed(world: SteppedWorld, of: Environment, sha: str, after: Look) -> None:
    record = world.lanes.environment(of)
    assert record is not None
    stands = [each for each in after.stacks_of(of) if each["name"] == of.stack_name]
    stack = next(each for each in stands if each["id"] == record.status.stack.stack_arn)
    assert TABLE[stack["status"]].phase is Phase.READY
    orphans = [
        orphan
        for orphan, _ in world.deployer.resyncer.orphans(HELLO, time.time())
        if orphan.environment == of
    ]
    twice = [each for orphan in orphans for each in orphan.stacks]
    assert sorted(each.arn for each in twice) == sorted(each["id"] for each in stands if each != stack)
    assert (record.status.outcome, record.spec.commit) == (Outcome.DEPLOYED, sha)
    assert record.spec.region == stack["region"]
    assert (sha, "Succeeded") in after.execution_results(of), after.execution_results(of)


def check_branch(world: SteppedWorld, name: str, start: Start, after: Look) -> None:
    environment = environment_of(name)
    record = world.lanes.environment(environment)
    if needs_a_person(record):
        if "exists without deployer's tags" in record.status.reason:
            # in another region, a stack with the environment's tags is left to people (decision 31)
            assert record.spec.region not in {
                stack["region"]
                for stack in after.stacks_of(environment)
                if stack["name"] == environment.stack_name
            }
        protected = start.protected and "termination protection" in record.status.reason
        assert final_number(start) or protected or not unreported_stacks(record, environment, after)
        return
    if number := final_number(start):
        if is_skipped_or_expired(world, environment, start):
            return
        is_deployed(world, environment, commit_id(name, number), after)
        return
    assert not unreported_stacks(record, environment, after)


def unreported_stacks(record: Any, of: Environment, after: Look) -> list[dict[str, Any]]:
    """The stacks of an environment for which no teardown report says why they are left."""
    left = {each.id for each in record.status.receipt.retained} if record else set()
    return [each for each in after.stacks_of(of) if each["id"] not in left]


def check_staging(world: SteppedWorld, start: Start, before: Look, after: Look) -> None:
    environment = environment_of(MAIN)
    stack = before.stack(environment)
    if stack and TABLE[stack["status"]].phase not in {Phase.DELETING, Phase.WEDGED}:
        assert (after.stack(environment) or {}).get("id") == stack["id"], "staging is never deleted"
    if needs_a_person(world.lanes.environment(environment)):
        return
    known = start.known
    if known and not stack and known.state == "deleted" == known.outcome and known.commit == start.live:
        assert after.stack(environment) is None, (
            "a stack that a person deleted is created again by the next push only"
        )
        return
    if start.live and not is_skipped_or_expired(world, environment, start):
        is_deployed(world, environment, commit_id(MAIN, start.live), after)


def check_production(world: SteppedWorld, before: Look, after: Look) -> None:
    stack = before.stack(PRODUCTION)
    phase = TABLE[stack["status"]].phase if stack else Phase.GONE
    if phase not in {Phase.GONE, Phase.DELETING, Phase.WEDGED}:
        assert (after.stack(PRODUCTION) or {}).get("id") == stack["id"], "production is never deleted"
    ran, runs = before.execution_results(PRODUCTION), after.execution_results(PRODUCTION)
    # the executions of a deleted stack are gone, so only the tag can be compared
    if runs and phase not in {Phase.GONE, Phase.DELETING}:
        assert runs[-1][0] >= ran[-1][0], "production never moves backwards"
    needs_a_person(world.lanes.environment(PRODUCTION))


@searched(usually=40)  # about 15 s
@given(found=starts(), pace=st.sampled_from([1.0, 5.0, 20.0]))
def test_a_resync_converges(aws: Stage, found: dict[str, Start], pace: float) -> None:
    converge(SteppedWorld(aws, pace), found)


PREPARE = {
    Kind.DEVELOPMENT: "deployer/prepare",
    Kind.STAGING: "deployer/staging/prepare",
    Kind.PRODUCTION: "deployer/production",
}


@pytest.mark.parametrize(("found", "words"), FOR_PEOPLE.values(), ids=FOR_PEOPLE)
def test_cases_for_people_are_reported(aws: Stage, found: dict[str, Start], words: str) -> None:
    """Every case that the search accepts as an end can be reached."""
    world = SteppedWorld(aws)
    converge(world, found)
    ((name, _),) = found.items()
    record = world.record(environment_of(name))
    assert record.status.outcome == Outcome.FAILED
    assert re.search(words, record.status.reason)
    if record.status.reason != "as it was":
        context = PREPARE[environment_of(name).kind]
        assert world.host.statuses[HELLO, record.spec.commit][context].state == "failure"


FOUND = {
    "an application in another region than its environment": {
        X: Start(live=0, stack=READY, application="astray")
    },
    "only an application, and in another region": {X: Start(live=0, application="astray")},
    "an application beside a stack that is another's": {
        X: Start(live=0, stack=READY, owner="else", application="own")
    },
    "a teardown under way that meets another's stack": {
        X: Start(
            live=0, stack=READY, owner="nobody", known=Known(state="deleting", receipt="ordered", arn="")
        )
    },
    "a ledger that names another region": {X: Start(stack=READY, known=Known(place="wrong"))},
    "a ledger that names another stack": {X: Start(stack=READY, known=Known(arn="wrong"))},
    "a stack of the same name in the first region": {X: Start(stack=READY, away=True, beside="squatter")},
    "a branch that stands in both regions": {X: Start(stack=READY, away=True, beside="twin")},
    "a branch gone that stands in both regions": {X: Start(live=0, stack=READY, beside="twin")},
    "a stack left in an account where development was once": {X: Start(stack=READY, beside="exile")},
    "the same of a branch that is gone": {X: Start(live=0, beside="exile")},
    "production that was never made, and the ledger lost": {V1: Start(stack="ROLLBACK_COMPLETE")},
    "a stack that is another's where production is to be": {
        V1: Start(stack=READY, owner="nobody", known=Known(commit=0, arn=""))
    },
    "production whose stack has lost its tags": {
        V1: Start(stack=READY, owner="nobody", known=Known(commit=0))
    },
    "production on its way back from a creation, and the ledger lost": {
        V1: Start(stack="ROLLBACK_IN_PROGRESS")
    },
    "production that was changed by hand before the ledger was lost": {
        V1: Start(stack="CREATE_COMPLETE", tampered="template", known=Known(commit=0))
    },
    "production stuck, and the ledger lost": {V1: Start(stack="UPDATE_ROLLBACK_FAILED")},
}


@pytest.mark.parametrize("found", FOUND.values(), ids=FOUND)
def test_a_resync_converges_from(aws: Stage, found: dict[str, Start]) -> None:
    converge(SteppedWorld(aws), found)


def made_of(world: SteppedWorld) -> tuple[Any, ...]:
    """The visible content of a branch's stack: what it was created from."""
    client, name = world.stage.cloudformation_client(HOME), environment_of(X).stack_name
    described = client.describe_stacks(StackName=name)["Stacks"][0]
    values = {each["ParameterKey"]: each["ParameterValue"] for each in described["Parameters"]}
    tags = {each["Key"]: each["Value"] for each in described["Tags"]}
    return values, tags, client.get_template(StackName=name)["TemplateBody"]


@pytest.mark.parametrize("what", ["parameters", "template", "tags"])
def test_drift_is_reported_and_fixed_only_on_request(aws: Stage, what: str) -> None:
    world = SteppedWorld(aws)
    Beginning(world, {X: Start()})
    run_resync(world)
    assert run_resync(world) == "resynced: nothing to do"
    before = made_of(world)
    tamper(world, X, HOME, what)
    world.settle()
    drifted = made_of(world)
    assert drifted != before

    assert run_resync(world) == "resynced: 1 to check"
    assert f"its stack's {what}" in world.record(environment_of(X)).status.stack.drift
    assert world.record(environment_of(X)).status.outcome == Outcome.DEPLOYED
    assert run_resync(world) == "resynced: nothing to do", "drift is reported once"
    assert made_of(world) == drifted
    world.redeploy(environment_of(X))
    world.run()
    assert made_of(world) == before
    assert world.record(environment_of(X)).status.stack.drift == ""
    assert run_resync(world) == "resynced: nothing to do"
