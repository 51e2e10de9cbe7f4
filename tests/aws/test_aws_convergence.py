"""From any state of GitHub, AWS and the ledger, a resync and quiet time make all as it should be, before real calls."""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from searched import searched
from starts import MAIN, PRODUCTION, V1, Beginning, Known, Start, X, commit, last, of, places, starts, tamper
from stepped import HOME, Stage, SteppedWorld, stage

from deployer.model.environments import Environment
from deployer.model.records import Outcome
from deployer.model.stacks import TABLE, Phase
from sandbox.aws.places import Place
from tests.unit.world import HELLO

READY = "UPDATE_COMPLETE"
# what is told to people where only they can go on: a state that leads to it, and the words
FOR_PEOPLE: dict[str, tuple[dict[str, Start], str]] = {
    "a creation that failed": (
        {X: Start(stack="ROLLBACK_COMPLETE")}, "its stack could not be created: .*push a corrected commit, or redeploy"
    ),
    "a stack that is another's": ({X: Start(stack=READY, owner="else")}, "exists without deployer's tags"),
    "an import": ({X: Start(stack="IMPORT_ROLLBACK_FAILED")}, "which only a person can mend"),
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
    """What there is in AWS, as the simulator itself tells it."""

    def __init__(self, world: SteppedWorld) -> None:
        state = world.stage.state
        self.stacks = state["stacks"]
        self._pipelines = state["pipelines"]
        self._buckets = state["buckets"]

    def own(self, of: Environment) -> list[dict[str, Any]]:
        """The stacks of an environment, where it may be."""
        return [
            s for s in self.stacks if of.owns(s["tags"]) and Place(s["account"], s["region"]) in places(of)
        ]

    def stack(self, of: Environment, name: str = "") -> dict[str, Any] | None:
        return next((each for each in self.own(of) if each["name"] == (name or of.stack_name)), None)

    def foreign(self, environments: list[Environment]) -> list[dict[str, Any]]:
        """All that is nobody's here, with its pipelines and how much its buckets hold."""
        ours = {each["id"] for of in environments for each in self.own(of)}
        return [
            {
                **stack,
                "holds": [self._buckets.get(each) for each in stack["resources"].values()],
                "pipelines": [each for each in self._pipelines if at(each) == at(stack)],
            }
            for stack in self.stacks
            if stack["id"] not in ours
        ]

    def ran(self, of: Environment) -> list[tuple[str, str]]:
        """Commit and end of each execution."""
        return [
            (e["sha"], e["status"])
            for p in self._pipelines
            if p["name"] == of.stack_name and Place(p["account"], p["region"]) in places(of)
            for e in p["executions"]
        ]


def at(shown: dict[str, Any]) -> tuple[str, str, str]:
    """Account, region and name of a stack or pipeline."""
    return shown["account"], shown["region"], shown["name"]


def resync(world: SteppedWorld) -> str:
    """A resync and all that follows from it; gives what it told itself."""
    count = len(world.told)
    world.deployer.intake.resync(HELLO)
    world.run()
    return world.told[count]


def converge(world: SteppedWorld, found: dict[str, Start]) -> None:
    """Bring about what is found, have it resynced, and look whether all is as it should be and stays so."""
    begun = Beginning(world, found)
    environments = [of(name) for name in found]
    before = Look(world)
    world.stage.simulator.calls.clear()
    world.deployer.intake.resync(HELLO)
    dispatch = world.sent.pop(0)
    world.told.append(
        world.runner.carry_out(dispatch.task, dispatch.repository, dispatch.environment, dispatch.token)
    )
    begun.meanwhile()
    world.run()
    if any(start.during for start in found.values()):
        resync(world)
    after = Look(world)
    assert not world.lanes.dead_letters(), world.lanes.dead_letters()
    assert after.foreign(environments) == before.foreign(environments)
    for each in before.foreign(environments):
        names = {each["name"], each["id"], *each["resources"].values()}
        assert not {(each["account"], each["region"], name) for name in names} & changes(world)
    for name, start in found.items():
        if name == V1:
            production(world, before, after)
        elif name == MAIN:
            staging(world, start, before, after)
        else:
            branch(world, name, start, after)
    world.stage.simulator.calls.clear()
    known = records(world)
    told = resync(world)
    assert not changes(world), changes(world)
    assert records(world) == known
    gone = [of(name) for name, start in found.items() if not last(start) and name not in {MAIN, V1}]
    asked = [each for each in gone if told_to_people(world.lanes.environment(each))]
    planned, _, _ = told.partition("; the newest tag ")  # that one is for people, and changes nothing
    assert planned in {"resynced: nothing to do", f"resynced: {len(asked)} to delete"}, told


def records(world: SteppedWorld) -> list[Any]:
    """What the ledger knows."""
    return sorted(
        (r.environment, r.commit, r.outcome, r.reason, r.state) for r in world.lanes.environments(HELLO)
    )


def changes(world: SteppedWorld) -> set[tuple[str, str, str]]:
    """What deployer changed: account, region and name; a creation that was refused as it stands already is none."""
    return {
        (each["account"], each["region"], each["name"])
        for each in world.stage.simulator.calls.listed()
        if each["user_agent"].endswith("deployer") and _CHANGES.match(each["operation"])
        if each["code"] != "AlreadyExistsException"
    }


def told_to_people(record: Any) -> bool:
    """Whether only a person can go on, for one of the reasons that there are."""
    if record is None or record.outcome != Outcome.FAILED:
        return False
    assert any(re.search(words, record.reason) for _, words in FOR_PEOPLE.values()), record.reason
    return True


def told_before(world: SteppedWorld, of: Environment, start: Start) -> bool:
    """Whether the ledger had it that this very commit was skipped, or its environment taken down for its age."""
    known, record = start.known, world.lanes.environment(of)
    if known and known.aged and start.live == last(start):
        return True
    return bool(
        known
        and (known.outcome, known.commit) == ("skipped", last(start))
        and record
        and (record.outcome, record.reason) == ("skipped", "as it was")
    )


def is_deployed(world: SteppedWorld, of: Environment, sha: str, after: Look) -> None:
    record = world.lanes.environment(of)
    assert record is not None
    stands = [each for each in after.own(of) if each["name"] == of.stack_name]
    stack = next(each for each in stands if each["id"] == record.stack_arn)
    assert TABLE[stack["status"]].phase is Phase.READY
    orphans = [
        orphan
        for orphan, _ in world.deployer.resyncer.orphans(HELLO, time.time())
        if orphan.environment == of
    ]
    twice = [each for orphan in orphans for each in orphan.stacks]
    assert sorted(each.arn for each in twice) == sorted(each["id"] for each in stands if each != stack)
    assert (record.outcome, record.commit) == (Outcome.DEPLOYED, sha)
    assert record.region == stack["region"]
    assert (sha, "Succeeded") in after.ran(of), after.ran(of)


def branch(world: SteppedWorld, name: str, start: Start, after: Look) -> None:
    environment = of(name)
    record = world.lanes.environment(environment)
    if told_to_people(record):
        if "exists without deployer's tags" in record.reason:
            assert not after.stack(environment)
        protected = start.protected and "termination protection" in record.reason
        assert last(start) or protected or not remains(record, environment, after)
        return
    if number := last(start):
        if told_before(world, environment, start):
            return
        is_deployed(world, environment, commit(name, number), after)
        return
    assert not remains(record, environment, after)


def remains(record: Any, of: Environment, after: Look) -> list[dict[str, Any]]:
    """What stands of an environment though no receipt says that it was left, and why."""
    left = {each["id"] for each in record.receipt.get("retained", [])} if record else set()
    return [each for each in after.own(of) if each["id"] not in left]


def staging(world: SteppedWorld, start: Start, before: Look, after: Look) -> None:
    environment = of(MAIN)
    stack = before.stack(environment)
    if stack and TABLE[stack["status"]].phase not in {Phase.DELETING, Phase.WEDGED}:
        assert (after.stack(environment) or {}).get("id") == stack["id"], "staging is never deleted"
    if told_to_people(world.lanes.environment(environment)):
        return
    known = start.known
    if known and not stack and known.state == "deleted" == known.outcome and known.commit == start.live:
        assert after.stack(environment) is None, "what a person deleted comes back with the next push"
        return
    if start.live and not told_before(world, environment, start):
        is_deployed(world, environment, commit(MAIN, start.live), after)


def production(world: SteppedWorld, before: Look, after: Look) -> None:
    stack = before.stack(PRODUCTION)
    phase = TABLE[stack["status"]].phase if stack else Phase.GONE
    if phase not in {Phase.GONE, Phase.DELETING, Phase.WEDGED}:
        assert (after.stack(PRODUCTION) or {}).get("id") == stack["id"], "production is never deleted"
    ran, runs = before.ran(PRODUCTION), after.ran(PRODUCTION)
    # with a stack that somebody deletes goes what it ran: where its tag is, is all that is left to go by
    if runs and phase not in {Phase.GONE, Phase.DELETING}:
        assert runs[-1][0] >= ran[-1][0], "production never moves backwards"
    told_to_people(world.lanes.environment(PRODUCTION))


@searched(usually=40)  # some 15 s
@given(found=starts(), pace=st.sampled_from([1.0, 5.0, 20.0]))
def test_one_resync_and_quiet_time_converge(aws: Stage, found: dict[str, Start], pace: float) -> None:
    converge(SteppedWorld(aws, pace), found)


@pytest.mark.parametrize(("found", "words"), FOR_PEOPLE.values(), ids=FOR_PEOPLE)
def test_people_are_told(aws: Stage, found: dict[str, Start], words: str) -> None:
    """Each of the reasons that the search takes for an end can be come to."""
    world = SteppedWorld(aws)
    converge(world, found)
    ((name, _),) = found.items()
    record = world.record(of(name))
    assert record.outcome == Outcome.FAILED
    assert re.search(words, record.reason)
    if record.reason != "as it was":
        assert world.host.statuses[HELLO, record.commit]["deployer/prepare"].state == "failure"


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
def test_it_converges_from(aws: Stage, found: dict[str, Start]) -> None:
    converge(SteppedWorld(aws), found)


def made_of(world: SteppedWorld) -> tuple[Any, ...]:
    """What people see that a branch's stack was made of."""
    client, name = world.stage.person(HOME), of(X).stack_name
    described = client.describe_stacks(StackName=name)["Stacks"][0]
    values = {each["ParameterKey"]: each["ParameterValue"] for each in described["Parameters"]}
    tags = {each["Key"]: each["Value"] for each in described["Tags"]}
    return values, tags, client.get_template(StackName=name)["TemplateBody"]


@pytest.mark.parametrize("what", ["parameters", "template", "tags"])
def test_drift_is_told_and_healed_only_when_asked(aws: Stage, what: str) -> None:
    world = SteppedWorld(aws)
    Beginning(world, {X: Start()})
    resync(world)
    assert resync(world) == "resynced: nothing to do"
    before = made_of(world)
    tamper(world, X, HOME, what)
    world.settle()
    drifted = made_of(world)
    assert drifted != before

    assert resync(world) == "resynced: 1 to check"
    assert f"its stack's {what}" in world.record(of(X)).drift
    assert world.record(of(X)).outcome == Outcome.DEPLOYED
    assert resync(world) == "resynced: nothing to do", "told once"
    assert made_of(world) == drifted
    world.redeploy(of(X))
    world.run()
    assert made_of(world) == before
    assert world.record(of(X)).drift == ""
    assert resync(world) == "resynced: nothing to do"
