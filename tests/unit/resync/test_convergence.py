"""What a resync finds, tells and leaves; tests/aws/test_aws_convergence.py searches all states for more."""

import time
from dataclasses import replace
from typing import Any

import pytest
from world import HELLO, TEMPLATE, World, environment, sha

from deployer.model.environments import Environment, Kind
from deployer.model.events import Push
from deployer.model.expiry import AgeAction, due_age_action
from deployer.model.refs import ZERO_SHA, Ref
from deployer.queue.items import Cause
from tests.records import field_value

PRODUCTION = Environment(HELLO, Kind.PRODUCTION)


def resync(world: World) -> None:
    world.deployer.submitter.resync(HELLO)
    world.run(most=400)


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
        assert world.cloud.holds(place.stack_name)
    world.host.push(HELLO, ref, sha(1))
    now[0] += 3599
    resync(world)
    world.host.remove(HELLO, ref)
    resync(world)
    now[0] += 3599
    resync(world)
    assert world.cloud.holds(place.stack_name), "the time begins anew"
    now[0] += 2
    resync(world)
    assert not world.cloud.holds(place.stack_name)


def _patient(world: World) -> Any:

    return replace(world.deployer.config, orphan_seconds=3600)


def deleted_long_ago(world: World, ref: str) -> None:
    """A branch whose environment went more than 30 days ago."""
    for name in ("refs/heads/main", ref):
        world.push(name, sha(1))
    world.run()
    world.remove(ref, sha(1))
    world.run()
    resync(world)
    assert world.record(environment(ref)).status.state == "deleted"
    world.lanes_note(environment(ref), updated_at=time.time() - 31 * 86400)


def test_what_was_deleted_long_ago_is_forgotten() -> None:
    world, place = World(), environment("refs/heads/x")
    deleted_long_ago(world, "refs/heads/x")
    resync(world)
    assert world.lanes.environment(place) is None
    assert world.record(environment("refs/heads/main")).status.state == "deployed"


def test_what_comes_while_a_resync_looks_is_not_forgotten() -> None:
    world, place, ref = World(), environment("refs/heads/x"), "refs/heads/x"
    deleted_long_ago(world, ref)
    facts, came = world.host.facts, list[str]()

    def slow(*arguments: Any) -> Any:
        found = facts(*arguments)
        if not came:
            came.append(world.push(ref, sha(2)))
        return found

    world.host.facts = slow  # type: ignore[method-assign]
    resync(world)
    assert world.outcome(came[0])[0] == "deployed"
    assert world.record(place).status.state == "deployed"
    assert world.lanes.find(place.stack_name) == place, "AWS's events of it find it"


def test_a_tag_that_no_webhook_told_of_is_deployed_if_it_is_newer() -> None:
    world = World()
    world.rules()
    world.push("refs/tags/v1", sha(1), at=1000)
    world.run()
    resync(world)
    world.host.push(HELLO, "refs/tags/v0", sha(2), files={"pipeline.yml": TEMPLATE}, at=900)
    assert world.deployer.resyncer.plan(HELLO) == []
    resync(world)
    assert world.record(PRODUCTION).spec.ref == "refs/tags/v1", "never backwards"
    for number, at in ((3, 1100), (5, 1300), (4, 1200)):
        world.host.push(HELLO, f"refs/tags/v{number}", sha(number), files={"pipeline.yml": TEMPLATE}, at=at)
    resync(world)
    record = world.record(PRODUCTION)
    assert (record.spec.ref, record.spec.commit, record.status.outcome) == (
        "refs/tags/v5",
        sha(5),
        "deployed",
    )
    world.deployer.submitter.request_environment(PRODUCTION, cause=Cause.REDEPLOY, ref="refs/tags/v3")
    world.run()
    world.host.push(HELLO, "refs/tags/v6", sha(6), files={"pipeline.yml": TEMPLATE}, at=1400)
    resync(world)
    assert world.record(PRODUCTION).spec.ref == "refs/tags/v3", "a person has chosen it"


@pytest.mark.parametrize("annotated", ["", "a" * 40])
def test_a_tag_that_was_moved_and_no_webhook_told_of_is_deployed_if_it_is_newer(annotated: str) -> None:
    world = World()
    world.rules()
    files = {"pipeline.yml": TEMPLATE}
    world.host.push(HELLO, "refs/tags/v1", sha(1), files=files, at=1000)
    push = Push("v1", HELLO, Ref.parse("refs/tags/v1"), ZERO_SHA, sha(1), "main", pushed_at=2000)
    world.deployer.submitter.submit_github(push)
    world.run()
    resync(world)
    world.host.push(HELLO, "refs/tags/v1", sha(2), files=files, at=1900)
    resync(world)
    assert world.record(PRODUCTION).spec.commit == sha(1), "it may be older"
    world.host.push(HELLO, "refs/tags/v1", sha(3), files=files, at=2100, annotated=annotated)
    resync(world)
    assert world.record(PRODUCTION).spec.commit == sha(3)
    assert world.built(PRODUCTION)[-1] == (sha(3), "succeeded")
    assert world.deployer.resyncer.plan(HELLO) == []


def test_a_tag_that_was_moved_to_what_asks_to_be_skipped_is_looked_at_once() -> None:
    world = World()
    world.rules()
    files = {"pipeline.yml": TEMPLATE}
    world.host.push(HELLO, "refs/tags/v1", sha(1), files=files, at=1000)
    push = Push("v1", HELLO, Ref.parse("refs/tags/v1"), ZERO_SHA, sha(1), "main", pushed_at=2000)
    world.deployer.submitter.submit_github(push)
    world.run()
    resync(world)
    world.host.push(HELLO, "refs/tags/v1", sha(2), files=files, at=2100, message="x [skip deploy]")
    resync(world)
    assert world.record(PRODUCTION).spec.commit == sha(1)
    assert world.deployer.resyncer.plan(HELLO) == []


@pytest.fixture
def tagged() -> World:
    """Production runs v1, and a resync has seen that."""
    world = World()
    world.rules("tags: v*")
    world.push("refs/tags/v1", sha(1), files=FILES, at=1000)
    world.run()
    resync(world)
    return world


FILES = {"pipeline.yml": TEMPLATE}


def make_tags(world: World, *names: str, message: str = "") -> None:
    """Tags that no webhook tells of: each of a commit of its number, made at that many seconds after v1."""
    for name in names:
        number = int(name.rpartition("-")[2].removeprefix("v"))
        ref = f"refs/tags/{name}"
        world.host.push(HELLO, ref, sha(number), files=FILES, at=1000 + number, message=message)


def test_a_missed_tag_that_is_not_chosen_is_not_deployed_and_hides_none_that_is(tagged: World) -> None:
    make_tags(tagged, "nightly-2", "v3", "nightly-5")
    for _ in range(2):
        resync(tagged)
        assert tagged.record(PRODUCTION).spec.ref in {"refs/tags/v1", "refs/tags/v3"}
    assert tagged.record(PRODUCTION).spec.ref == "refs/tags/v3"


def test_a_missed_tag_takes_the_place_of_an_older_one_that_is_on_its_way(tagged: World) -> None:
    tagged.push("refs/tags/v2", sha(2), files=FILES, at=1002)
    for _ in range(2):
        tagged.tasks()
        tagged.step()
    tagged.tasks()
    assert tagged.record(PRODUCTION).status.outcome == ""
    make_tags(tagged, "v3", "v4", "v5", "v6")
    tagged.deployer.submitter.resync(HELLO)
    tagged.run()
    assert tagged.record(PRODUCTION).spec.ref == "refs/tags/v6"
    assert tagged.built(PRODUCTION)[-1] == (sha(6), "succeeded")


def test_a_missed_tag_is_not_forgotten_where_its_wish_joins_a_push(tagged: World) -> None:
    make_tags(tagged, "v3", "v4", "v5", "v6")
    tagged.deployer.submitter.resync(HELLO)
    tagged.push("refs/tags/v2", sha(2), files=FILES, at=1002)  # before the resync begins
    tagged.run()
    resync(tagged)
    assert tagged.record(PRODUCTION).spec.ref == "refs/tags/v6"


def test_a_missed_tag_that_asks_to_be_skipped_hides_no_later_one(tagged: World) -> None:
    make_tags(tagged, "v2", message="x [skip deploy]")
    resync(tagged)
    assert tagged.record(PRODUCTION).spec.ref == "refs/tags/v1"
    make_tags(tagged, "v3")
    resync(tagged)
    assert tagged.record(PRODUCTION).spec.ref == "refs/tags/v3"


def test_a_wish_of_a_resync_takes_its_turn() -> None:
    world = World()
    for number in range(70):
        world.host.push(HELLO, f"refs/heads/b{number}", sha(1), files={"pipeline.yml": TEMPLATE})
    world.host.push(HELLO, "refs/heads/main", sha(1), files={"pipeline.yml": TEMPLATE})
    world.deployer.submitter.resync(HELLO)
    world.tasks()
    assert 60 <= len(list(world.cloud.stacks())) < 71
    world.run(most=400)
    assert len(list(world.cloud.stacks())) == 71


def test_one_listing_serves_all_who_ask_within_its_age() -> None:
    world = World()
    other = Ref.of_branch("x")
    world.push(other.name, sha(1))
    world.run()
    world.deployer.submitter.resync(HELLO, 900)
    world.run()
    count = len(world.cloud.called("stacks"))
    for _ in range(3):
        world.deployer.submitter.resync(HELLO, 900)
        world.run()
    assert len(world.cloud.called("stacks")) == count
    world.deployer.submitter.resync(HELLO)
    world.run()
    assert len(world.cloud.called("stacks")) == count + 1


@pytest.mark.parametrize("why", ["a person chose its commit", "its head asks to be skipped"])
def test_what_is_held_at_its_commit_comes_back_there_and_tells_of_its_drift(why: str) -> None:
    world, files = World(), {"pipeline.yml": TEMPLATE}
    x = environment("refs/heads/x")
    world.push("refs/heads/x", sha(1))
    world.run()
    skips = " [skip ci]" if why.startswith("its head") else ""
    world.push("refs/heads/x", sha(2), sha(1), message=f"A word{skips}")
    world.run()
    if not skips:
        world.deployer.submitter.request_environment(x, cause=Cause.REDEPLOY, sha=sha(1))
        world.run()
    world.cloud.tamper(x.stack_name, Greeting="by hand")
    resync(world)
    assert "outside deployer" in world.record(x).status.stack.drift
    world.cloud.delete_stack(x.stack_name, "a person")
    world.cloud.settle()
    resync(world)
    assert world.built(x)[-1] == (sha(1), "succeeded")
    assert (
        world.record(x).spec.commit,
        world.record(x).status.outcome,
        world.record(x).status.stack.drift,
    ) == (
        sha(1),
        "deployed",
        "",
    )
    assert world.deployer.resyncer.plan(HELLO) == []
    world.host.push(HELLO, "refs/heads/x", sha(3), files=files)  # nobody tells of it
    resync(world)
    assert world.built(x)[-1] == (sha(3), "succeeded")


def test_what_a_person_deletes_is_held_no_more_and_created_at_its_head_if_asked_for() -> None:
    ref, place = "refs/heads/x", environment("refs/heads/x")
    world = World()
    world.push("refs/heads/main", sha(9))
    for number in (1, 2):
        world.push(ref, sha(number), before=sha(number - 1) if number > 1 else ZERO_SHA)
        world.run()
    world.deployer.submitter.request_environment(place, cause=Cause.REDEPLOY, sha=sha(1))
    world.run()
    assert world.record(place).spec.held_at == sha(2)
    world.teardown(place)
    world.run()
    assert not world.cloud.holds(place.stack_name)
    resync(world)
    assert not world.cloud.holds(place.stack_name)
    world.deployer.submitter.resync(HELLO, recreate=True)
    world.run()
    assert (world.record(place).status.state, world.record(place).spec.commit) == ("deployed", sha(2))
    assert world.record(place).spec.held_at == ""


@pytest.mark.parametrize("first", ["a resync", "its push, told again"])
@pytest.mark.parametrize("ref", ["refs/heads/x", "refs/heads/main"])
def test_what_is_held_is_learnt_anew_after_redis_was_lost(ref: str, first: str) -> None:
    world, place = World(), environment(ref)
    world.push(ref, sha(1), files={"deployer.yml": "ttl: 3d"})
    world.run()
    world.push(ref, sha(2), sha(1), message="A word [skip ci]")
    world.run()
    before = world.record(place)
    world.forget()
    if first != "a resync":
        world.deliver(ref, sha(2), sha(1))
        world.run()
        assert world.record(place).status.outcome == "skipped"
    resync(world)
    record = world.record(place)
    for name in ("state", "outcome", "commit", "ref", "held_at", "stack_arn", "region", "applied", "ttl"):
        assert field_value(record, name) == field_value(before, name), name
    assert due_age_action(record, "never", record.history.used_at + 4 * 86400) is (
        AgeAction.WARN if place.branch else None
    )
    assert world.built(place) == [(sha(1), "succeeded")]
    assert world.deployer.resyncer.plan(HELLO) == []
    world.cloud.tamper(place.stack_name, Greeting="by hand")
    resync(world)
    assert "outside deployer" in world.record(place).status.stack.drift


def test_what_stands_and_never_ran_is_learnt_too() -> None:
    world, x = World(), environment("refs/heads/x")
    arn = world.cloud.add_stack(x.stack_name, x.tags)
    world.host.push(HELLO, "refs/heads/x", sha(1), message="A word [skip ci]")
    resync(world)
    record = world.record(x)
    assert (record.status.state, record.status.stack.stack_arn) == ("skipped", arn)
    assert due_age_action(record, "3d", record.updated_at + 4 * 86400) is AgeAction.WARN
    assert world.deployer.resyncer.plan(HELLO) == []


def test_what_is_stuck_and_held_is_learnt_and_left_until_its_ref_moves() -> None:
    world, x = World(), environment("refs/heads/x")
    world.push("refs/heads/x", sha(1))
    world.run()
    world.forget()
    world.host.push(HELLO, "refs/heads/x", sha(2), message="A word [skip ci]")
    world.cloud.set_status(x.stack_name, "UPDATE_ROLLBACK_FAILED")
    resync(world)
    assert (world.record(x).status.state, world.record(x).status.outcome) == ("skipped", "skipped")
    assert world.record(x).status.stack.stack_arn
    assert world.deployer.resyncer.plan(HELLO) == []
    world.push("refs/heads/x", sha(3), before=sha(2))
    world.run()
    assert (world.record(x).status.state, world.record(x).spec.commit) == ("deployed", sha(3))


def test_an_event_after_redis_was_lost_does_not_hide_why_a_stack_is_left() -> None:
    world, x = World(), environment("refs/heads/x")
    world.push("refs/heads/x", sha(1))
    world.run()
    world.cloud.protect(world.record(x).status.stack.stack_arn, on=True)
    world.forget()
    world.host.remove(HELLO, "refs/heads/x")
    resync(world)
    world.event(x)
    world.run()
    assert "termination protection" in world.record(x).status.reason


def test_what_is_held_and_has_nothing_to_go_back_to_is_left_alone() -> None:
    world = World()
    x = environment("refs/heads/x")
    world.push("refs/heads/x", sha(1), message="A word [skip ci]")
    world.run()
    world.lanes_note(x, commit="", outcome="deployed", state="deployed")
    assert world.deployer.resyncer.plan(HELLO) == []


def test_a_branch_that_its_name_keeps_from_being_built_is_not_planned() -> None:
    world = World()
    world.push("refs/heads/main", sha(1))
    world.host.push(HELLO, "refs/heads/x-NOBUILD", sha(2), files={"pipeline.yml": TEMPLATE})
    world.run()
    assert world.deployer.resyncer.plan(HELLO) == []


def test_a_look_that_finds_nothing_new_does_not_change_since_when_it_is_so() -> None:
    world = World()
    x = environment("refs/heads/x")
    world.push("refs/heads/x", sha(1))
    world.run()
    since = world.record(x).status.changed_at
    assert since > 0
    world.cloud.tamper(x.stack_name, Greeting="by hand")
    resync(world)
    world.push("refs/heads/x", sha(2), sha(1), message="A word [skip ci]")
    world.run()
    assert (world.record(x).status.stack.drift != "", world.record(x).status.changed_at) == (True, since)
    world.redeploy(x)
    world.run()
    assert world.record(x).status.changed_at > since
