"""From any state of GitHub, AWS and the ledger, a resync and quiet time make all as it should be."""

import json
import time
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import HELLO, TEMPLATE, World, environment, sha

from deployer.environments import Environment, Kind
from deployer.ledger import Cause, EnvironmentRecord, Outcome, Work
from deployer.ports import Done
from deployer.refs import Ref
from deployer.stacks import TABLE, Phase, Stack

BRANCHES = ("refs/heads/main", "refs/heads/x", "refs/heads/y")
PRODUCTION = Environment(HELLO, Kind.PRODUCTION)
STATUSES = sorted(status for status, row in TABLE.items() if row.phase is not Phase.GONE)
# what is told to people where only they can go on: by the table of statuses, by the cap on attempts, by protection
FOR_PEOPLE = ("redeploy", "person", "push a mended commit", "without deployer's tags", "could not be")


@dataclass(frozen=True)
class Start:
    """How a branch and its environment are found.

    Attributes:
        live: the number of the commit that the branch is at; 0 where it is gone from GitHub.
        stack: the status of its stack; empty where it has none.
        built: the number of the commit that its stack was made from.
        owner: whose tags the stack bears: its own, none, or those of another environment.
        protected: whether someone put termination protection on it.
        application: whether what it deployed stands.
        known: what the ledger has: nothing, or the number of a commit.
        outcome: what the ledger tells of that commit.
        generation: what the ledger tells of teardowns.
        redeemed: whether the branch comes back after the resync has begun.
    """

    live: int = 1
    stack: str = ""
    built: int = 1
    owner: str = "own"
    protected: bool = False
    application: bool = False
    known: int = 0
    outcome: str = "deployed"
    generation: int = 0
    redeemed: bool = False


STARTS = st.builds(
    Start,
    live=st.integers(0, 2),
    stack=st.sampled_from(["", "CREATE_COMPLETE", *STATUSES]),
    built=st.integers(1, 2),
    owner=st.sampled_from(["own", "own", "own", "nobody", "other"]),
    protected=st.sampled_from([False, False, False, True]),
    application=st.booleans(),
    known=st.integers(0, 2),
    outcome=st.sampled_from(["deployed", "deployed", "dead-lettered", "superseded", ""]),
    generation=st.integers(0, 2),
    redeemed=st.booleans(),
)


def begin(world: World, name: str, start: Start) -> None:
    """Bring about a start."""
    place = environment(name)
    files = {"pipeline.yml": TEMPLATE}
    for number in (1, 2):
        world.host.push(HELLO, name, sha(number), files=files)
    if start.live:
        world.host.push(HELLO, name, sha(start.live))
    else:
        world.host.remove(HELLO, name)
    if start.stack:
        tags = {"own": place.tags, "nobody": {}, "other": {**place.tags, "deployer:repository": "acme/else"}}
        digest = {"deployer:digest": f"of-{start.built}", "deployer:commit": sha(start.built)}
        world.cloud.add_stack(place.stack_name, {**tags[start.owner], **digest}, start.stack)
        world.cloud.pipelines[place.stack_name] = []
        world.cloud.protect(place.stack_name, on=start.protected)
    if start.application:
        world.cloud.add_stack(application(name), place.tags)
    if start.known:
        record = EnvironmentRecord(
            HELLO.full_name, place.key, place.stack_name, ref=name, commit=sha(start.known), outcome=start.outcome,
            state="deployed", generation=start.generation,
        )  # fmt: skip
        know(world, record)


def know(world: World, record: EnvironmentRecord) -> None:
    dispatch = world.lanes.accept(HELLO, Work(record.environment)).dispatch
    assert dispatch is not None
    world.lanes.begin(HELLO, dispatch.token)
    world.lanes.finish(HELLO, dispatch.token, Done("deployed", "", record))


def application(name: str) -> str:
    return f"app-of-{name.rpartition('/')[2]}"


def stack_of(world: World, name: str) -> Stack | None:
    found = world.cloud.stack(name)
    return found if found and found.phase is not Phase.GONE else None


def resync(world: World) -> None:
    world.deployer.intake.resync(HELLO)
    world.run(most=400)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(starts=st.lists(STARTS, min_size=3, max_size=3))
def test_one_resync_and_quiet_time_converge(starts: list[Start]) -> None:
    world = World()
    world.host.create(HELLO)
    heads = {environment(name).stack_name: Ref.parse(name) for name in BRANCHES}
    world.cloud.head = lambda name: world.host.refs(HELLO).get(heads[name], "")
    world.cloud.add_stack("somebody-elses", {"team": "a"})
    others = {**environment("refs/heads/x").tags, "deployer:repository": "acme/else"}
    world.cloud.add_stack("another-repositorys", others)
    by_name = dict(zip(BRANCHES, starts, strict=True))
    for name, start in by_name.items():
        begin(world, name, start)
    before = {name: stack_of(world, environment(name).stack_name) for name in BRANCHES}

    world.deployer.intake.resync(HELLO)
    dispatch = world.sent.pop(0)
    world.runner.carry_out(dispatch.task, dispatch.repository, dispatch.environment, dispatch.token)
    for name, start in by_name.items():
        if start.redeemed and not start.live:  # no webhook tells of it
            world.host.push(HELLO, name, sha(1))
    world.run(most=400)
    resync(world)  # what came back after its deletion had begun is found by the next one
    assert not world.lanes.dead_letters()

    for name, start in by_name.items():
        converged(world, name, start, before[name])
    assert stack_of(world, "somebody-elses")
    assert stack_of(world, "another-repositorys")
    count = len(world.cloud.calls)
    resync(world)
    ordered = {call for call, _ in world.cloud.calls[count:]} & {
        "create_stack", "update_stack", "delete_stack", "start", "stop"
    }  # fmt: skip
    assert not ordered, "what has come to rest stays so"


def converged(world: World, name: str, start: Start, before: Stack | None) -> None:
    place = environment(name)
    stack, record = stack_of(world, place.stack_name), world.lanes.environment(place)
    live = start.live or (1 if start.redeemed else 0)
    if before and not place.owns(before.tags) and before.phase is not Phase.DELETING:
        assert stack is not None
        assert (stack.arn, stack.tags) == (before.arn, before.tags), "a foreign stack is never touched"
        return
    if record and record.outcome == Outcome.FAILED:
        assert any(words in record.reason for words in FOR_PEOPLE), record.reason
        if stack and start.protected:
            assert stack.protected
        return
    if live:
        assert stack is not None
        assert stack.phase is Phase.READY
        assert record is not None
        assert (record.outcome, record.commit) == (Outcome.DEPLOYED, sha(live))
    elif name != BRANCHES[0]:
        assert stack is None or stack.protected
        assert not stack_of(world, application(name)) or stack


def test_the_search_reaches_both_ends() -> None:
    """Were every start told to people, or none deployed, the property above would say nothing."""
    world: Any = World()
    begin(world, "refs/heads/x", Start(live=2, stack="UPDATE_ROLLBACK_FAILED", known=1))
    begin(world, "refs/heads/y", Start(live=0, stack="CREATE_COMPLETE", application=True))
    resync(world)
    assert world.record(environment("refs/heads/x")).outcome == Outcome.DEPLOYED
    assert stack_of(world, environment("refs/heads/y").stack_name) is None
    assert stack_of(world, application("refs/heads/y")) is None


def test_a_branch_gone_is_left_for_a_while_and_a_branch_come_back_for_good() -> None:
    world = World()
    world.deployer.config = _patient(world)
    now = [1_000_000.0]
    world.deployer.resyncer._clock = lambda: now[0]
    ref, place = "refs/heads/x", environment("refs/heads/x")
    world.push("refs/heads/main", sha(1))
    world.push(ref, sha(1))
    world.run()
    world.host.remove(HELLO, ref)
    for seconds, reason in ((0, "1 to delete later"), (3599, "1 to delete later")):
        now[0] += seconds
        resync(world)
        assert world.told[-1] == f"resynced: {reason}"
        assert stack_of(world, place.stack_name)
    world.host.push(HELLO, ref, sha(1))
    now[0] += 3599
    resync(world)
    world.host.remove(HELLO, ref)
    resync(world)
    now[0] += 3599
    resync(world)
    assert stack_of(world, place.stack_name), "the time begins anew"
    now[0] += 2
    resync(world)
    assert stack_of(world, place.stack_name) is None


def _patient(world: World) -> Any:

    return replace(world.deployer.config, orphan_seconds=3600)


def test_what_was_deleted_long_ago_is_forgotten() -> None:
    world = World()
    ref, place = "refs/heads/x", environment("refs/heads/x")
    for name in ("refs/heads/main", ref):
        world.push(name, sha(1))
    world.run()
    world.remove(ref, sha(1))
    world.run()
    resync(world)
    assert world.record(place).state == "deleted"
    world.lanes_note(place, updated_at=time.time() - 31 * 86400)
    resync(world)
    assert world.lanes.environment(place) is None
    assert world.record(environment("refs/heads/main")).state == "deployed"


def test_what_comes_while_a_resync_looks_is_not_forgotten() -> None:
    world = World()
    ref, place = "refs/heads/x", environment("refs/heads/x")
    for name in ("refs/heads/main", ref):
        world.push(name, sha(1))
    world.run()
    world.remove(ref, sha(1))
    world.run()
    world.lanes_note(place, updated_at=time.time() - 31 * 86400)
    facts, came = world.host.facts, list[str]()

    def slow(*arguments: Any) -> Any:
        found = facts(*arguments)
        if not came:
            came.append(world.push(ref, sha(2)))
        return found

    world.host.facts = slow  # type: ignore[method-assign]
    resync(world)
    assert world.outcome(came[0])[0] == "deployed"
    assert world.record(place).state == "deployed"
    assert world.lanes.find(place.stack_name) == place, "AWS's events of it find it"


def test_a_tag_that_no_webhook_told_of_is_deployed_if_it_is_newer() -> None:
    world = World()
    world.push("refs/tags/v1", sha(1), at=1000)
    world.run()
    resync(world)
    world.host.push(HELLO, "refs/tags/v0", sha(2), files={"pipeline.yml": TEMPLATE}, at=900)
    assert world.deployer.resyncer.plan(HELLO) == []
    resync(world)
    assert world.record(PRODUCTION).ref == "refs/tags/v1", "never backwards"
    for number, at in ((3, 1100), (5, 1300), (4, 1200)):
        world.host.push(HELLO, f"refs/tags/v{number}", sha(number), files={"pipeline.yml": TEMPLATE}, at=at)
    resync(world)
    record = world.record(PRODUCTION)
    assert (record.ref, record.commit, record.outcome) == ("refs/tags/v5", sha(5), "deployed")
    world.deployer.intake.request_environment(PRODUCTION, cause=Cause.REDEPLOY, ref="refs/tags/v3")
    world.run()
    world.host.push(HELLO, "refs/tags/v6", sha(6), files={"pipeline.yml": TEMPLATE}, at=1400)
    resync(world)
    assert world.record(PRODUCTION).ref == "refs/tags/v3", "a person has chosen it"


@pytest.fixture
def tagged() -> World:
    """Production runs v1, and a resync has seen that."""
    world = World()
    world.push("refs/tags/v1", sha(1), files=CHOICE, at=1000)
    world.run()
    resync(world)
    return world


CHOICE = {"pipeline.yml": TEMPLATE, "deployer.yml": "tags: v*"}


def make_tags(world: World, *names: str, message: str = "") -> None:
    """Tags that no webhook tells of: each of a commit of its number, made at that many seconds after v1."""
    for name in names:
        number = int(name.rpartition("-")[2].removeprefix("v"))
        ref = f"refs/tags/{name}"
        world.host.push(HELLO, ref, sha(number), files=CHOICE, at=1000 + number, message=message)


def test_a_missed_tag_that_is_not_chosen_is_not_deployed_and_hides_none_that_is(tagged: World) -> None:
    make_tags(tagged, "nightly-2", "v3", "nightly-5")
    for _ in range(2):
        resync(tagged)
        assert tagged.record(PRODUCTION).ref in {"refs/tags/v1", "refs/tags/v3"}
    assert tagged.record(PRODUCTION).ref == "refs/tags/v3"


def test_a_missed_tag_is_not_forgotten_while_production_is_on_its_way(tagged: World) -> None:
    tagged.push("refs/tags/v2", sha(2), files=CHOICE, at=1002)
    for _ in range(2):
        tagged.tasks()
        tagged.step()
    tagged.tasks()
    assert tagged.record(PRODUCTION).outcome == ""
    make_tags(tagged, "v3", "v4", "v5", "v6")
    tagged.deployer.intake.resync(HELLO)
    tagged.tasks()
    tagged.run()
    assert tagged.record(PRODUCTION).ref == "refs/tags/v2"
    resync(tagged)
    assert tagged.record(PRODUCTION).ref == "refs/tags/v6"


def test_a_missed_tag_is_not_forgotten_where_its_wish_joins_a_push(tagged: World) -> None:
    make_tags(tagged, "v3", "v4", "v5", "v6")
    tagged.deployer.intake.resync(HELLO)
    tagged.push("refs/tags/v2", sha(2), files=CHOICE, at=1002)  # before the resync begins
    tagged.run()
    resync(tagged)
    assert tagged.record(PRODUCTION).ref == "refs/tags/v6"


def test_a_missed_tag_that_asks_to_be_skipped_hides_no_later_one(tagged: World) -> None:
    make_tags(tagged, "v2", message="x [skip ci]")
    resync(tagged)
    assert tagged.record(PRODUCTION).ref == "refs/tags/v1"
    make_tags(tagged, "v3")
    resync(tagged)
    assert tagged.record(PRODUCTION).ref == "refs/tags/v3"


def test_drift_is_told_and_healed_only_when_asked() -> None:
    world = World()
    ref, place = "refs/heads/x", environment("refs/heads/x")
    world.push(ref, sha(1))
    world.run()
    resync(world)
    assert world.told[-1] == "resynced: nothing to do"
    world.cloud.tamper(place.stack_name, Greeting="Ahoy")
    resync(world)
    assert "parameters changed outside deployer" in world.record(place).drift
    assert world.record(place).outcome == "deployed"
    assert "Ahoy" in world.cloud.stack(place.stack_name).parameters
    resync(world)
    assert world.told[-1] == "resynced: nothing to do", "told once"
    world.redeploy(place)
    world.run()
    assert world.record(place).drift == ""
    assert "Ahoy" not in world.cloud.stack(place.stack_name).parameters
    resync(world)
    assert world.told[-1] == "resynced: nothing to do"


def test_a_wish_of_a_resync_takes_its_turn() -> None:
    world = World()
    for number in range(70):
        world.host.push(HELLO, f"refs/heads/b{number}", sha(1), files={"pipeline.yml": TEMPLATE})
    world.host.push(HELLO, "refs/heads/main", sha(1), files={"pipeline.yml": TEMPLATE})
    world.deployer.intake.resync(HELLO)
    world.tasks()
    assert 60 <= len(list(world.cloud.stacks())) < 71
    world.run(most=400)
    assert len(list(world.cloud.stacks())) == 71


def test_a_wish_that_an_older_version_began_takes_no_turn() -> None:
    world = World()
    place = environment("refs/heads/x")
    for ref in ("refs/heads/main", "refs/heads/x"):
        world.host.push(HELLO, ref, sha(1), files={"pipeline.yml": TEMPLATE})
    world.deployer.intake.resync(HELLO)
    world.tasks()
    items = f"deployer:{{{HELLO.key}}}:items"
    for key, text in world.redis.hgetall(items).items():
        world.redis.hset(items, key, json.dumps({k: v for k, v in json.loads(text).items() if k != "turned"}))
    for _ in range(100):
        world.lanes.turn("wishes", 60, 1)
    assert world.cloud.stack(place.stack_name) is not None
    for _ in range(10):
        world.step()
        world.tasks()
    assert world.built(place) == [(sha(1), "succeeded")]
    assert world.lanes.lanes() == []


def test_one_listing_serves_all_who_ask_within_its_age() -> None:
    world = World()
    other = Ref.of_branch("x")
    world.push(other.name, sha(1))
    world.run()
    world.deployer.intake.resync(HELLO, 900)
    world.run()
    count = len(world.cloud.called("stacks"))
    for _ in range(3):
        world.deployer.intake.resync(HELLO, 900)
        world.run()
    assert len(world.cloud.called("stacks")) == count
    world.deployer.intake.resync(HELLO)
    world.run()
    assert len(world.cloud.called("stacks")) == count + 1
