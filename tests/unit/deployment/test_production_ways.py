"""Every way to production passes the gate: what a stray tag can try, and what a person may release."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployer.model.environments import Environment, Kind
from deployer.model.errors import PermanentError, TransientError
from deployer.model.events import Push
from deployer.model.production_record import NOT_ADMITTED, Admission
from deployer.model.refs import ZERO_SHA, Ref
from deployer.queue.dead_letter_record import DeadLetter
from deployer.queue.items import Cause, Task, Work
from tests.unit.world import HELLO, TEMPLATE, World, environment, sha

MAIN, V1, V2 = "refs/heads/main", "refs/tags/v1", "refs/tags/v2"
STAGING, PRODUCTION = environment(MAIN), Environment(HELLO, Kind.PRODUCTION)
FILES = {"pipeline.yml": TEMPLATE}
STRAY = sha(66)  # a commit on no branch
GOOD = [(sha(1), "succeeded")]


@pytest.fixture
def world() -> World:
    """`main` allows tags `v*`; production runs v1."""
    made = World()
    made.push(MAIN, sha(9), files={"deployer.yml": 'tags: ["v*"]\n'})
    made.push(V1, sha(1), at=1000)
    made.run()
    made.resync(HELLO)
    return made


def stray(world: World, ref: str = V2, parent: str = sha(9), **how: Any) -> str:
    """Push a tag of a commit that no branch has, with rules of its own."""
    return world.push(ref, STRAY, files={"deployer.yml": 'tags: ["*"]\n'}, parent=parent, at=2000, **how)


def deployed(world: World) -> list[tuple[str, str]]:
    """What production ran, but for what AWS starts by itself at the head of the default branch."""
    return [each for each in world.built(PRODUCTION) if each[0] != sha(9)]


def unchanged(world: World) -> bool:
    record = world.record(PRODUCTION)
    told = (record.spec.ref, record.spec.commit, record.status.state, record.status.outcome)
    return told == (V1, sha(1), "deployed", "deployed") and deployed(world) == GOOD


# --- attacks ----------------------------------------------------------------------------------------------------


def _own_rules(world: World) -> str:
    return stray(world, "refs/tags/pwn")


def _unmerged(world: World) -> str:
    return stray(world)


def _unprotected_branch(world: World) -> str:
    world.rules("tags: v*\nproduction: {branches: release/*}")
    world.push("refs/heads/release/pwn", STRAY, files={}, parent=sha(9))
    return world.deliver(V2, _tag(world))


def _tag(world: World, ref: str = V2, commit: str = STRAY) -> str:
    world.host.push(HELLO, ref, commit, at=2000)
    return commit


def _called_main(world: World) -> str:
    world.rules()
    return stray(world, "refs/tags/main")


def _unrelated(world: World) -> str:
    return stray(world, parent="")


def _no_rules_on_main(world: World) -> str:
    world.rules()
    return stray(world)


def _broken_rules_on_main(world: World) -> str:
    world.rules("tags: [")
    return world.push(V2, sha(2), at=2000)


ATTACKS: dict[str, tuple[Callable[[World], str], str, str, str]] = {
    "its own rules": (
        _own_rules,
        "pwn is not among the tags of deploy/deployer.yml on main",
        "success",
        STRAY,
    ),
    "a commit on no branch": (_unmerged, "v2 at 000000000000 is not on main", "failure", STRAY),
    "a branch that nobody protects": (
        _unprotected_branch,
        "v2 at 000000000000 is not on main",
        "failure",
        STRAY,
    ),
    "a tag called main": (_called_main, "main at 000000000000 is not on main", "failure", STRAY),
    "unrelated history": (_unrelated, "has no history in common with main", "failure", STRAY),
    "no rules on main": (_no_rules_on_main, "v2 at 000000000000 is not on main", "failure", STRAY),
    "rules that cannot be read": (_broken_rules_on_main, "on main cannot be read", "failure", sha(2)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_tag_that_the_rules_do_not_let_in_is_refused(world: World, attack: str) -> None:
    push, words, state, commit = ATTACKS[attack]
    pushed = push(world)
    world.run()
    outcome, reason = world.outcome(pushed)
    assert outcome == "skipped"
    assert words in reason
    assert "deployer approve acme/hello" in reason
    assert unchanged(world)
    status = world.host.statuses[HELLO, commit]["deployer/production"]
    assert status.state == state
    line = next(each for each in world.lanes.activity(HELLO) if words in each.reason)
    assert (line.outcome, line.commit) == ("skipped", commit)
    assert words in world.record(PRODUCTION).history.refused_tags[-1].reason
    for _ in range(2):
        world.resync(HELLO)
    assert unchanged(world)
    assert world.told[-1] == "resynced: nothing to do"


def test_a_first_tag_that_is_refused_makes_no_production() -> None:
    world = World()
    world.push(MAIN, sha(9))
    pushed = stray(world)
    world.run()
    assert world.outcome(pushed)[0] == "skipped"
    assert world.cloud.stack(PRODUCTION.stack_name) is None
    record = world.record(PRODUCTION)
    assert (record.status.state, record.status.outcome, record.spec.ref, record.spec.commit) == (
        "skipped",
        "skipped",
        "",
        "",
    )
    world.resync(HELLO)
    assert world.cloud.stack(PRODUCTION.stack_name) is None


def test_a_tag_on_a_protected_release_branch_is_deployed(world: World) -> None:
    world.rules("tags: v*\nproduction: {branches: release/*}")
    world.host.push(HELLO, "refs/heads/release/1", STRAY, files=FILES, parent=sha(9))
    world.host.protect(HELLO, "release/1")
    pushed = world.deliver(V2, _tag(world))
    world.run()
    assert world.outcome(pushed)[0] == "deployed"
    assert world.record(PRODUCTION).spec.production.admitted.by.startswith(
        "it is on the protected branch release/1"
    )


def test_the_commit_that_was_judged_is_the_one_that_runs(world: World) -> None:
    """Between the judgement and the start the tag moves to a commit that would be refused."""
    real = world.host.ancestry

    def moved(*asked: Any) -> Any:
        answer = real(*asked)
        world.host.push(HELLO, V2, STRAY, files=FILES, parent=sha(9))
        return answer

    world.host.ancestry = moved  # type: ignore[method-assign]
    pushed = world.push(V2, sha(2), at=2000, template=TEMPLATE.replace("hi}", "ho}"))
    world.run()
    assert world.outcome(pushed)[0] == "deployed"
    assert deployed(world)[-1] == (sha(2), "succeeded")
    stack = world.cloud.stack(PRODUCTION.stack_name)
    assert stack is not None
    assert stack.tags["deployer:commit"] == sha(2)
    moved_to = world.deliver(V2, STRAY, sha(2))
    world.run()
    assert world.outcome(moved_to)[0] == "skipped"
    assert deployed(world)[-1] == (sha(2), "succeeded")


def test_while_github_is_away_nothing_is_deployed_and_nothing_is_refused(world: World) -> None:
    world.host.fail_next(TransientError("GitHub answers 502"), method="ancestry", times=3)
    pushed = stray(world)
    world.run()
    assert world.outcome(pushed)[0] == "dead-lettered"
    assert deployed(world) == GOOD
    assert "deployer/production" not in world.statuses(STRAY)


# --- the ways in ------------------------------------------------------------------------------------------------


def _push(world: World) -> None:
    stray(world)


def _missed(world: World) -> None:
    world.host.push(HELLO, V2, STRAY, files=FILES, parent=sha(9), at=2000)
    world.resync(HELLO)


def _fall_back(world: World) -> None:
    """The stray tag's place is taken by one that is gone by then."""
    stray(world)
    world.deliver("refs/tags/v3", sha(3))


def _redeploy(world: World) -> None:
    world.host.push(HELLO, V2, STRAY, files=FILES, parent=sha(9))
    world.deployer.submitter.request_environment(PRODUCTION, cause=Cause.REDEPLOY, ref=V2)


def _redeploy_sha(world: World) -> None:
    world.host.push(HELLO, V2, STRAY, files=FILES, parent=sha(9))
    world.deployer.submitter.request_environment(PRODUCTION, cause=Cause.REDEPLOY, ref=V1, sha=STRAY)


def _moved(world: World) -> None:
    world.host.push(HELLO, V1, STRAY, files=FILES, parent=sha(9), at=2000)
    world.deliver(V1, STRAY, sha(1))


def _call(task: Task) -> Callable[[World], None]:
    def call(world: World) -> None:
        world.host.push(HELLO, V1, STRAY, files=FILES, parent=sha(9), at=2000)
        assert world.runner.carry_out(task, str(HELLO), "production", 0).startswith("queued")

    return call


def _replay(world: World) -> None:
    world.host.fail_next(TransientError("GitHub answers 502"), method="ancestry", times=3)
    stray(world)
    world.run()
    (letter,) = world.lanes.dead_letters()
    world.deployer.submitter.replay(letter.id)


def _replay_of_before(world: World) -> None:
    """It died at its last step under a version without the gate."""
    world.host.push(HELLO, V2, STRAY, files=FILES, parent=sha(9), at=2000)
    work = _stepping(Task.TRIGGER, looked_at=time.time()).to_json()
    letter = DeadLetter(
        "acme~hello-1", "acme/hello", Task.TRIGGER, "AWS is away", "", 1.0, work, "TransientError"
    )
    world.redis.hset("deployer:{acme/hello}:dead", letter.id, letter.to_json())
    world.deployer.submitter.replay(letter.id)


def _stepping(task: Task, **more: Any) -> Work:
    return Work.of(
        environment=PRODUCTION.key, task=task, cause=Cause.PUSH, ref=V2, sha=STRAY, after=STRAY, **more
    )


def _queued_before(task: Task, **more: Any) -> Callable[[World], None]:
    """Work of a version without the gate, which waits at this step."""

    def queue(world: World) -> None:
        world.host.push(HELLO, V2, STRAY, files=FILES, parent=sha(9), at=2000)
        accepted = world.lanes.accept(HELLO, _stepping(task, looked_at=time.time(), **more))
        assert accepted.dispatch
        world.send(accepted.dispatch)

    return queue


def _event(world: World) -> None:
    world.lanes_note(PRODUCTION, ref=V2, commit=STRAY, outcome="", state="running")
    world.host.push(HELLO, V2, STRAY, files=FILES, parent=sha(9), at=2000)
    world.deployer.submitter.resync(HELLO)


WAYS: dict[str, Callable[[World], None]] = {
    "a push": _push,
    "a tag that no webhook told of": _missed,
    "the latest of the tags whose place a push took": _fall_back,
    "a tag that was moved": _moved,
    "a redeployment": _redeploy,
    "a redeployment of a commit": _redeploy_sha,
    "celery call deployer.sync": _call(Task.SYNC),
    "celery call deployer.trigger": _call(Task.TRIGGER),
    "celery call deployer.update": _call(Task.UPDATE),
    "celery call deployer.provision": _call(Task.PROVISION),
    "the replay of a dead letter": _replay,
    "the replay of a step's dead letter": _replay_of_before,
    "a queued trigger of before": _queued_before(Task.TRIGGER),
    "a queued update of before": _queued_before(Task.UPDATE, updated=True),
    "a queued creation of before": _queued_before(Task.PROVISION, created=True),
    "a queued wait of before": _queued_before(Task.SYNC, updated=True),
    "a resync of what a version of before had begun": _event,
}


@pytest.mark.parametrize("way", WAYS)
def test_no_way_leads_past_the_gate(world: World, way: str) -> None:
    WAYS[way](world)
    world.run()
    assert STRAY not in [commit for commit, _ in world.built(PRODUCTION)]
    stack = world.cloud.stack(PRODUCTION.stack_name)
    assert stack is not None
    assert stack.tags["deployer:commit"] != STRAY
    assert world.host.called("ancestry"), "it was judged"
    assert world.record(PRODUCTION).spec.production.admitted.commit == sha(1)


BRINGS_NOTHING = {f"celery call {task}" for task in (Task.SYNC, Task.UPDATE, Task.PROVISION)}


@pytest.mark.parametrize("way", sorted(WAYS.keys() - BRINGS_NOTHING))
def test_and_every_way_is_open_to_a_commit_of_the_default_branch(world: World, way: str) -> None:
    world.host.merge(HELLO, STRAY)
    WAYS[way](world)
    world.run()
    assert deployed(world)[-1] == (STRAY, "succeeded")
    assert world.record(PRODUCTION).spec.production.admitted.commit == STRAY


@pytest.mark.parametrize("way", sorted(BRINGS_NOTHING))
def test_a_look_at_production_follows_no_tag_that_was_moved(world: World, way: str) -> None:
    world.host.merge(HELLO, STRAY)
    WAYS[way](world)
    world.run()
    assert unchanged(world)


def test_what_runs_after_redis_was_lost_is_followed_and_nothing_is_started(world: World) -> None:
    world.rules("tags: x*")  # v1 would not be let in any more
    world.forget()
    world.resync(HELLO)
    record = world.record(PRODUCTION)
    assert (record.spec.ref, record.spec.commit, record.status.outcome) == (V1, sha(1), "deployed")
    assert deployed(world) == GOOD
    world.cloud.protect(record.status.stack.stack_arn, on=False)
    world.cloud.delete_stack(PRODUCTION.stack_name, "a person")
    for _ in range(5):
        world.step()
    world.resync(HELLO)
    assert world.cloud.stack(PRODUCTION.stack_name) is None, "nobody remembers that it was admitted"


def test_what_was_admitted_comes_back_by_itself_whatever_the_rules_are_now(world: World) -> None:
    world.rules("tags: x*")
    world.cloud.protect(world.record(PRODUCTION).status.stack.stack_arn, on=False)
    world.cloud.delete_stack(PRODUCTION.stack_name, "a person")
    for _ in range(5):
        world.step()
    world.host.calls.clear()
    world.resync(HELLO)
    assert deployed(world)[-1] == (sha(1), "succeeded")
    assert not world.host.called("ancestry")


def test_a_stray_tag_ends_nothing_of_what_is_on_its_way(world: World) -> None:
    world.push(V2, sha(2), at=2000, template=TEMPLATE.replace("hi}", "ho}"))
    world.tasks()
    for _ in range(2):
        world.step()
        world.tasks()
    assert world.record(PRODUCTION).status.outcome == ""
    pushed = stray(world, "refs/tags/v3")
    world.run()
    assert world.outcome(pushed)[0] == "skipped"
    record = world.record(PRODUCTION)
    assert (record.spec.ref, record.spec.commit, record.status.outcome) == (V2, sha(2), "deployed")
    assert deployed(world) == [*GOOD, (sha(2), "succeeded")]
    assert world.statuses(sha(2))["deployer/production"] == "success"


def test_what_is_on_its_way_and_is_refused_itself_does_not_go_round_for_ever(world: World) -> None:
    """A version without the gate had begun it, and a tag that is gone took its place."""
    world.host.push(HELLO, V2, STRAY, files=FILES, parent=sha(9), at=2000)
    world.lanes_note(PRODUCTION, ref=V2, commit=STRAY, state="provisioning", admitted=NOT_ADMITTED)
    world.deliver("refs/tags/v9", sha(5))
    world.run()
    assert STRAY not in [commit for commit, _ in world.built(PRODUCTION)]


# --- a tag before its branch ------------------------------------------------------------------------------------


def push_at(world: World, ref: str, commit: str, pushed_at: float) -> str:
    world._deliveries += 1
    name = f"p{world._deliveries}"
    push = Push(name, HELLO, Ref.parse(ref), ZERO_SHA, commit, "main", pushed_at=pushed_at)
    world.deployer.submitter.submit_github(push)
    return name


def push_now(world: World, ref: str, commit: str, **how: Any) -> str:
    """Push a tag at the present time, which is later than what people have asked for so far."""
    world.host.push(HELLO, ref, commit, files=FILES, at=int(world.lanes.now()), **how)
    return push_at(world, ref, commit, int(world.lanes.now()))


def early(world: World, ref: str = V2, number: int = 2, pushed_at: float = 2000) -> str:
    """A tag whose commit has not come to the default branch yet."""
    world.host.push(HELLO, ref, sha(number), files=FILES, parent=sha(9), at=pushed_at)
    return push_at(world, ref, sha(number), pushed_at)


def test_a_tag_that_comes_before_its_branch_waits_without_an_attempt(world: World) -> None:
    pushed = early(world)
    world.tasks()
    (lane,) = world.lanes.lanes()
    assert lane.snoozed
    assert not lane.failing
    world.step()
    world.tasks()
    world.host.merge(HELLO, sha(2))
    world.run()
    assert world.outcome(pushed)[0] == "deployed"
    assert "failure" not in world.statuses(sha(2)).values(), "nothing was refused"


def test_after_a_minute_it_is_refused(world: World) -> None:
    pushed = early(world)
    for seconds in (0, 20, 20, 15):
        world.lanes.clock_offset_ms += seconds * 1000
        world.sent.extend(world.lanes.sweep())
        world.tasks()
        assert world.outcome(pushed)[0] == "queued"
    world.lanes.clock_offset_ms += 8000
    world.sent.extend(world.lanes.sweep())
    world.tasks()
    assert world.outcome(pushed)[0] == "skipped"
    assert len(world.host.called("ancestry")) < 8


def later(world: World, seconds: float) -> None:
    world.lanes.clock_offset_ms += int(seconds * 1000)


def main_moves(world: World, number: int, *merged: int, message: str = "") -> None:
    world.host.push(HELLO, MAIN, sha(number), files={**FILES, "deployer.yml": "tags: v*"}, message=message)
    for each in merged:
        world.host.merge(HELLO, sha(each))
    push = Push(f"m{number}", HELLO, Ref.parse(MAIN), sha(9), sha(number), "main", message)
    world.deployer.submitter.submit_github(push)
    world.run()


@pytest.mark.parametrize("message", ["", "chore(release): 2.0.0 [skip ci]"])
@pytest.mark.parametrize(("minutes", "outcome"), [(50, (V2, sha(2))), (70, (V1, sha(1)))])
def test_a_push_to_the_default_branch_within_the_hour_has_it_judged_again(
    world: World, minutes: int, outcome: tuple[str, str], message: str
) -> None:
    early(world)
    world.run()
    assert world.statuses(sha(2))["deployer/production"] == "failure"
    later(world, minutes * 60)
    main_moves(world, 10, 2, message=message)
    record = world.record(PRODUCTION)
    assert (record.spec.ref, record.spec.commit) == outcome
    assert deployed(world)[-1][0] == outcome[1]
    assert world.statuses(sha(2))["deployer/production"] == ("success" if outcome[0] == V2 else "failure")


def test_a_push_that_does_not_contain_it_changes_nothing_and_does_not_lengthen_the_hour(world: World) -> None:
    early(world)
    world.run()
    for number in (10, 11):
        later(world, 25 * 60)
        main_moves(world, number)
        assert unchanged(world)
    later(world, 15 * 60)
    main_moves(world, 12, 2)
    assert unchanged(world)
    assert len([each for each in world.posted(sha(2)) if "not on main" in each]) == 1


def test_only_the_newest_tag_is_judged_again(world: World) -> None:
    early(world)
    world.run()
    world.host.push(HELLO, "refs/tags/v3", sha(3), files=FILES, at=3000)
    push_at(world, "refs/tags/v3", sha(3), 3000)
    world.run()
    assert world.record(PRODUCTION).spec.commit == sha(3)
    main_moves(world, 10, 2)
    assert world.record(PRODUCTION).spec.commit == sha(3)
    assert (sha(2), "succeeded") not in world.built(PRODUCTION)


def test_a_tag_that_only_the_pattern_left_out_is_not_judged_again(world: World) -> None:
    early(world, "refs/tags/x1")
    world.run()
    world.host.calls.clear()
    main_moves(world, 10, 2)
    assert unchanged(world)


def test_strays_of_other_names_do_not_end_that_a_tag_is_judged_again(world: World) -> None:
    early(world)
    world.run()
    for number in range(12):
        early(world, f"refs/tags/x{number}", 20 + number, pushed_at=3000 + number)
        world.run()
    assert len(world.record(PRODUCTION).history.refused_tags) == 10
    main_moves(world, 10, 2)
    assert world.record(PRODUCTION).spec.ref == V2


def test_a_refused_redeployment_is_not_judged_again(world: World) -> None:
    push_at(world, V2, world.push(V2, sha(2), at=2000) and sha(2), 2000)
    world.run()
    world.host.push(HELLO, "refs/tags/v0", sha(3), files=FILES, parent=sha(9), at=500)
    world.deployer.submitter.request_environment(PRODUCTION, cause=Cause.REDEPLOY, ref="refs/tags/v0")
    world.run()
    assert world.record(PRODUCTION).history.refused_tags[-1].ref == "refs/tags/v0"
    main_moves(world, 10, 3)
    assert world.record(PRODUCTION).spec.ref == V2
    assert sha(3) not in [commit for commit, _ in world.built(PRODUCTION)]


def test_a_tag_that_no_webhook_told_of_takes_no_newer_ones_place_when_it_may_be_judged_again(
    world: World,
) -> None:
    world.host.push(HELLO, "refs/tags/v1.5", sha(3), files=FILES, parent=sha(9), at=1500)
    world.resync(HELLO)
    assert world.record(PRODUCTION).history.refused_tags[-1].commit == sha(3)
    world.host.push(HELLO, MAIN, sha(10), files={**FILES, "deployer.yml": "tags: v*"})
    world.host.merge(HELLO, sha(3))
    world.deliver(MAIN, sha(10), sha(9))
    world.host.push(HELLO, V2, sha(2), files=FILES, at=2000)
    good = push_at(world, V2, sha(2), 2000)
    world.run()
    assert world.outcome(good)[0] == "deployed"
    world.resync(HELLO)
    assert world.record(PRODUCTION).spec.ref == V2


def test_a_mended_file_and_a_new_tag_that_are_pushed_together_deploy_the_new_tag(world: World) -> None:
    world.rules("tags: [")
    world.host.push(HELLO, "refs/tags/v0", sha(3), files=FILES, at=500)
    world.deployer.submitter.request_environment(PRODUCTION, cause=Cause.REDEPLOY, ref="refs/tags/v0")
    world.run()
    world.host.push(HELLO, MAIN, sha(10), files={**FILES, "deployer.yml": "tags: v*"})
    world.deliver(MAIN, sha(10), sha(9))
    world.host.push(HELLO, V2, sha(10), at=2000)
    good = push_at(world, V2, sha(10), 2000)
    world.run()
    assert world.outcome(good)[0] == "deployed"
    assert world.record(PRODUCTION).spec.ref == V2


def test_a_push_that_mends_the_rules_has_the_tag_judged_again(world: World) -> None:
    world.rules("tags: [")
    push_at(world, V2, world.push(V2, sha(2), at=2000) and sha(2), 2000)
    world.run()
    assert unchanged(world)
    main_moves(world, 10, 2)
    assert world.record(PRODUCTION).spec.commit == sha(2)


# --- stray tags and what waits --------------------------------------------------------------------------------------


def strays(world: World, count: int) -> Iterator[None]:
    """Push stray tags that the names let in, one a minute, while tasks run."""
    for number in range(count):
        ref = f"refs/tags/v9.{number}"
        world.host.push(HELLO, ref, STRAY, files=FILES, parent=sha(9), at=2001 + number)
        push_at(world, ref, STRAY, 2001 + number)
        yield
        for _ in range(6):
            world.tasks()
            later(world, 10)
            world.cloud.advance()
            world.sent.extend(world.lanes.sweep())


@pytest.mark.parametrize("begun", [False, True])
def test_stray_tags_do_not_delay_a_good_one(world: World, begun: bool) -> None:
    world.host.push(HELLO, V2, sha(2), files=FILES, at=2000)
    push_at(world, V2, sha(2), 2000)
    if begun:
        world.tasks()
    for _ in strays(world, 4):
        pass
    assert deployed(world) == [*GOOD, (sha(2), "succeeded")]
    assert (world.record(PRODUCTION).spec.ref, world.record(PRODUCTION).status.outcome) == (V2, "deployed")


def test_many_stray_tags_at_once_do_not_delay_a_good_one(world: World) -> None:
    world.host.push(HELLO, V2, sha(2), files=FILES, at=2000)
    push_at(world, V2, sha(2), 2000)
    for number in range(10):
        world.host.push(HELLO, f"refs/tags/v9.{number}", STRAY, files=FILES, parent=sha(9), at=2001 + number)
        push_at(world, f"refs/tags/v9.{number}", STRAY, 2001 + number)
    world.tasks()
    record = world.record(PRODUCTION)
    assert (record.spec.ref, record.spec.commit) == (V2, sha(2))


def stray_after(world: World, ref: str = "refs/tags/nightly") -> str:
    """A stray tag that is pushed after a person has asked for something."""
    later(world, 10)
    return push_now(world, ref, sha(77), parent=sha(9))


STRAYS = ["refs/tags/nightly", "refs/tags/v9", "gone"]


def _let_stray(world: World, kind: str) -> None:
    if kind == "gone":  # it was deleted before anybody looked
        later(world, 10)
        push_at(world, "refs/tags/v9", sha(77), int(world.lanes.now()))
    else:
        stray_after(world, kind)


@pytest.mark.parametrize("kind", STRAYS)
@pytest.mark.parametrize("begun", [False, True])
def test_an_approval_survives_a_stray_tag(world: World, kind: str, begun: bool) -> None:
    stray(world)
    world.run()
    world.deployer.submitter.approve(HELLO, Ref.parse(V2), STRAY, "ada@desk")
    if begun:
        world.tasks()
    _let_stray(world, kind)
    world.run()
    record = world.record(PRODUCTION)
    assert (record.spec.ref, record.spec.commit, record.status.outcome) == (V2, STRAY, "deployed")
    assert record.spec.production.admitted.by == "approved by ada@desk"
    assert deployed(world) == [*GOOD, (STRAY, "succeeded")], "it ran once"


@pytest.mark.parametrize("kind", STRAYS)
@pytest.mark.parametrize("begun", [False, True])
def test_a_rollback_survives_a_stray_tag(world: World, kind: str, begun: bool) -> None:
    world.push(V2, sha(2), at=2000)
    world.run()
    world.deployer.submitter.request_environment(PRODUCTION, cause=Cause.REDEPLOY, ref=V1)
    if begun:
        world.tasks()
    _let_stray(world, kind)
    world.run()
    assert (world.record(PRODUCTION).spec.ref, world.record(PRODUCTION).spec.commit) == (V1, sha(1))
    assert deployed(world) == [*GOOD, (sha(2), "succeeded"), *GOOD], "it ran once"


@pytest.mark.parametrize("kind", STRAYS)
@pytest.mark.parametrize("begun", [False, True])
def test_a_teardown_survives_a_stray_tag(world: World, kind: str, begun: bool) -> None:
    world.deployer.submitter.request_environment(PRODUCTION, cause=Cause.TEARDOWN, yes_really=True)
    if begun:
        world.tasks()
    _let_stray(world, kind)
    world.run()
    assert world.record(PRODUCTION).status.state == "deleted"
    assert world.cloud.stack(PRODUCTION.stack_name) is None


def test_of_several_tags_the_good_one_that_came_last_is_deployed_and_not_what_a_person_wanted_before(
    world: World,
) -> None:
    world.push(V2, sha(2), at=2000)
    world.run()
    world.deployer.submitter.request_environment(PRODUCTION, cause=Cause.REDEPLOY, ref=V1)
    later(world, 10)
    push_now(world, "refs/tags/v3", sha(3))
    stray_after(world)
    world.run()
    assert world.record(PRODUCTION).spec.ref == "refs/tags/v3"
    assert deployed(world) == [*GOOD, (sha(2), "succeeded"), (sha(3), "succeeded")]


def test_what_a_person_wants_comes_before_the_tags_before_it(world: World) -> None:
    world.push(V2, sha(2), at=2000)
    world.run()
    world.host.push(HELLO, "refs/tags/v3", sha(3), files=FILES, at=2500)
    push_at(world, "refs/tags/v3", sha(3), 2500)
    world.deployer.submitter.request_environment(PRODUCTION, cause=Cause.REDEPLOY, ref=V1)
    for number in range(3):
        stray_after(world, f"refs/tags/v9.{number}")
    world.run()
    assert world.record(PRODUCTION).spec.ref == V1
    world.resync(HELLO)
    assert world.record(PRODUCTION).spec.ref == V1, "what came before was not missed"


def test_a_good_tag_that_comes_while_a_stray_one_is_judged_is_not_lost_to_what_goes_on(world: World) -> None:
    world.push(V2, sha(2), at=2000)
    world.run()
    world.deployer.submitter.request_environment(PRODUCTION, cause=Cause.REDEPLOY, ref=V1)
    stray_after(world, "refs/tags/v9")
    real, good = world.host.ancestry, list[str]()

    def meanwhile(*asked: Any) -> Any:
        if not good:
            later(world, 10)
            good.append(push_now(world, "refs/tags/v3", sha(3)))
        return real(*asked)

    world.host.ancestry = meanwhile  # type: ignore[method-assign]
    world.run()
    assert world.outcome(good[0])[0] == "deployed"
    assert world.record(PRODUCTION).spec.ref == "refs/tags/v3"


@pytest.mark.parametrize("ways", ["a refused tag", "a commit that is not there", "a tag that is gone"])
@pytest.mark.parametrize("under_way", ["a deployment", "a teardown"])
def test_a_redeployment_in_vain_ends_nothing_that_is_under_way(
    world: World, ways: str, under_way: str
) -> None:
    if under_way == "a teardown":
        world.deployer.submitter.request_environment(PRODUCTION, cause=Cause.TEARDOWN, yes_really=True)
    else:
        push_now(world, V2, sha(2))
    world.tasks()
    later(world, 5)
    world.host.push(HELLO, "refs/tags/v5", STRAY, files=FILES, parent=sha(9), at=1)
    ref = "refs/tags/v6" if ways == "a tag that is gone" else "refs/tags/v5"
    commit = sha(99) if ways == "a commit that is not there" else ""
    before = world.record(PRODUCTION)
    world.deployer.submitter.request_environment(PRODUCTION, cause=Cause.REDEPLOY, ref=ref, sha=commit)
    world.tasks()
    unheard = {"refused_tags": (), "updated_at": 0}
    assert world.record(PRODUCTION).but(**unheard) == before.but(**unheard)
    world.run()
    record = world.record(PRODUCTION)
    if under_way == "a teardown":
        assert (record.status.state, world.cloud.stack(PRODUCTION.stack_name)) == ("deleted", None)
    else:
        assert (record.spec.ref, record.spec.commit, record.status.outcome) == (V2, sha(2), "deployed")
        assert deployed(world) == [*GOOD, (sha(2), "succeeded")], "it ran once"


def test_while_a_tag_waits_for_its_commit_an_earlier_one_is_deployed(world: World) -> None:
    waits = early(world, "refs/tags/v3", 3, pushed_at=3000)
    world.tasks()
    world.host.push(HELLO, V2, sha(2), files=FILES, at=2000)
    push_at(world, V2, sha(2), 2000)
    world.tasks()
    assert (world.record(PRODUCTION).spec.ref, world.outcome(waits)[0]) == (V2, "queued")
    world.host.merge(HELLO, sha(3))
    world.run()
    assert (world.outcome(waits)[0], world.record(PRODUCTION).spec.ref) == ("deployed", "refs/tags/v3")


def test_a_tag_of_which_nobody_can_tell_whether_it_is_newer_is_reported(world: World) -> None:
    world.host.push(HELLO, V2, sha(2), files=FILES, at=1000)  # made in the same second as v1
    pushed = world.deliver(V2, sha(2))
    world.run()
    outcome, reason = world.outcome(pushed)
    assert outcome == "skipped"
    assert reason.endswith("is not known to be newer than refs/tags/v1; to deploy it: deployer redeploy acme/hello "
                           "refs/tags/v2")  # fmt: skip
    assert unchanged(world)
    world.deployer.submitter.request_environment(PRODUCTION, cause=Cause.REDEPLOY, ref=V2)
    world.run()
    assert world.record(PRODUCTION).spec.ref == V2


def test_two_tags_of_one_push_deploy_the_one_that_was_made_later(world: World) -> None:
    for ref, number, made_at in (("refs/tags/v3", 3, 2900), (V2, 2, 2800)):
        world.host.push(HELLO, ref, sha(number), files=FILES, at=made_at)
        push_at(world, ref, sha(number), 3000)
    world.run()
    assert world.record(PRODUCTION).spec.ref == "refs/tags/v3"


def test_a_tag_that_was_pushed_before_a_teardown_does_not_bring_production_back(world: World) -> None:
    world.deployer.submitter.request_environment(PRODUCTION, cause=Cause.TEARDOWN, yes_really=True)
    world.run()
    world.host.push(HELLO, V2, sha(2), files=FILES, at=2000)
    late = push_at(world, V2, sha(2), 2000)
    world.resync(HELLO)
    assert world.outcome(late)[0] == "superseded"
    assert world.record(PRODUCTION).status.state == "deleted"
    later(world, 10)
    pushed = push_now(world, "refs/tags/v3", sha(3))
    world.run()
    assert world.outcome(pushed)[0] == "deployed"


STEPS = st.lists(
    st.sampled_from(["good tag", "stray tag", "late tag", "rollback", "teardown", "tasks", "time"]),
    min_size=2,
    max_size=7,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_whatever_comes_in_which_order_the_newest_that_is_allowed_wins(steps: list[str]) -> None:
    world, number = World(), 1
    world.push(MAIN, sha(9), files={"deployer.yml": 'tags: ["v*"]\n'})
    push_now(world, V1, sha(1))
    world.run()
    wishes = [(world.record(PRODUCTION).spec.production.decided_at, sha(1))]
    for step in steps:
        later(world, 10)
        number += 10
        match step:
            case "good tag" | "late tag":
                pushed_at = int(world.lanes.now()) - (35 if step == "late tag" else 0)
                ref = f"refs/tags/v{number}"
                world.host.push(HELLO, ref, sha(number), files=FILES, at=pushed_at - 5)
                push_at(world, ref, sha(number), pushed_at)
                wishes.append((pushed_at, sha(number)))
            case "stray tag":
                push_now(world, f"refs/tags/v{number}", sha(number), parent=sha(9))
            case "rollback":
                wishes.append((world.lanes.now(), sha(1)))
                world.deployer.submitter.request_environment(PRODUCTION, cause=Cause.REDEPLOY, ref=V1)
            case "teardown":
                wishes.append((world.lanes.now(), ""))
                world.deployer.submitter.request_environment(
                    PRODUCTION, cause=Cause.TEARDOWN, yes_really=True
                )
            case "tasks":
                world.tasks()
            case "time":
                world.step()
    world.run(most=120)
    _, wanted = max(wishes)
    record = world.record(PRODUCTION)
    if wanted:
        assert (record.spec.commit, record.status.outcome) == (wanted, "deployed"), (steps, world.told)
        assert deployed(world)[-1] == (wanted, "succeeded")
    else:
        assert (record.status.state, world.cloud.stack(PRODUCTION.stack_name)) == ("deleted", None), (
            steps,
            world.told,
        )
    world.resync(HELLO)
    assert world.told[-1] == "resynced: nothing to do"


# --- what version 0.1.0 had queued ----------------------------------------------------------------------------------


def stored(world: World, **fields: Any) -> None:
    """An item of production as version 0.1.0 stored it: without what is newer."""
    work = json.loads(
        Work.of(environment="production", goal="old", accepted_at=world.lanes.now(), **fields).to_json()
    )
    for name in ("candidate", "decided_at"):
        del work[name]
    lane = "deployer:{acme/hello}"
    world.redis.hset(f"{lane}:items", "production", json.dumps({**work, "requeued": False}))
    world.redis.rpush(f"{lane}:queue", "production")
    world.redis.zadd("deployer:lanes", {HELLO.key: 0})
    world.sent.extend(world.lanes.sweep())


def test_the_tags_within_an_item_of_version_0_1_0_are_judged_each(world: World) -> None:
    for ref, number, made_at in ((V2, 2, 2000), ("refs/tags/v3", 3, 3000)):
        world.host.push(HELLO, ref, sha(number), files=FILES, at=made_at)
    world.host.push(HELLO, "refs/tags/v4", STRAY, files=FILES, parent=sha(9), at=4000)
    stored(
        world, cause=Cause.PUSH, ref="refs/tags/v4", pushed_at=4000, passed=f"3000 refs/tags/v3\n2000 {V2}"
    )
    world.run()
    assert (world.record(PRODUCTION).spec.ref, world.record(PRODUCTION).status.outcome) == (
        "refs/tags/v3",
        "deployed",
    )
    assert world.record(PRODUCTION).history.refused_tags[-1].ref == "refs/tags/v4"


@pytest.mark.parametrize("cause", [Cause.REDEPLOY, Cause.TEARDOWN])
def test_what_a_person_wants_within_an_item_of_version_0_1_0_is_done(world: World, cause: Cause) -> None:
    world.push(V2, sha(2), at=2000)
    world.run()
    ref = V1 if cause == Cause.REDEPLOY else ""
    wish = Work.of(
        environment="production", cause=cause, ref=ref, goal="wish", accepted_at=world.lanes.now() - 5
    )
    world.host.push(HELLO, "refs/tags/v4", STRAY, files=FILES, parent=sha(9), at=4000)
    stored(world, cause=Cause.PUSH, ref="refs/tags/v4", pushed_at=world.lanes.now(), wish=wish.to_json())
    world.run()
    record = world.record(PRODUCTION)
    assert (record.spec.ref if cause == Cause.REDEPLOY else record.status.state) == (V1 if ref else "deleted")


def test_a_deployment_that_version_0_1_0_has_begun_goes_on(world: World) -> None:
    world.host.push(HELLO, V2, sha(2), files=FILES, at=2000)
    admitted = Admission(V2, sha(2), "it is on main", goal="old", at=world.lanes.now())
    world.lanes_note(PRODUCTION, ref=V2, commit=sha(2), state="updating", outcome="", decided_at=0, pushed_at=2000,
                     admitted=admitted)  # fmt: skip
    stored(
        world, cause=Cause.PUSH, ref=V2, sha=sha(2), pushed_at=2000, task=Task.TRIGGER, looked_at=time.time()
    )
    world.run()
    assert (world.record(PRODUCTION).spec.ref, world.record(PRODUCTION).status.outcome) == (V2, "deployed")
    assert deployed(world) == [*GOOD, (sha(2), "succeeded")]


def test_after_an_upgrade_no_missed_tag_ends_what_a_person_chose(world: World) -> None:
    world.lanes_note(PRODUCTION, decided_at=0, pushed_at=1000, held_at=sha(1))
    world.host.push(HELLO, V2, sha(2), files=FILES, at=2000)
    for _ in range(2):
        world.resync(HELLO)
    assert world.record(PRODUCTION).spec.ref == V1
    later(world, 10)
    push_now(world, "refs/tags/v3", sha(3))
    world.run()
    assert world.record(PRODUCTION).spec.ref == "refs/tags/v3"


# --- Redis was lost -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adopted", [False, True])
def test_after_redis_was_lost_a_tag_that_was_pushed_since_is_deployed_and_no_earlier_one(
    world: World, *, adopted: bool
) -> None:
    world.forget()
    if adopted:
        world.resync(HELLO)
    world.host.push(HELLO, "refs/tags/v0", sha(3), files=FILES, at=500)
    late = push_at(world, "refs/tags/v0", sha(3), 500)
    world.run()
    assert world.outcome(late)[0] == "superseded"
    assert deployed(world) == GOOD
    later(world, 10)
    fresh = push_now(world, V2, sha(2))
    world.run()
    assert world.outcome(fresh)[0] == "deployed"


def test_what_production_runs_since_when_is_learnt_from_aws(world: World) -> None:
    before = world.record(PRODUCTION)
    world.forget()
    world.resync(HELLO)
    began_at = world.cloud.pipelines[PRODUCTION.stack_name][-1].started_at
    assert (
        world.record(PRODUCTION).spec.production.decided_at
        == began_at
        > before.spec.production.decided_at
        == 1000
    )


# --- a person's approval ----------------------------------------------------------------------------------------


def approve(world: World, ref: str, commit: str, by: str = "ada@desk") -> None:
    world.deployer.submitter.approve(HELLO, Ref.parse(ref), commit, by)
    world.run()


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_operator_may_release_whatever_was_refused(world: World, attack: str) -> None:
    push, _, _, commit = ATTACKS[attack]
    pushed = push(world)
    world.run()
    ref = world.record(PRODUCTION).history.refused_tags[-1].ref
    approve(world, ref, commit)
    record = world.record(PRODUCTION)
    assert (record.spec.ref, record.spec.commit, record.status.outcome) == (ref, commit, "deployed")
    assert record.spec.production.admitted.by == "approved by ada@desk"
    assert world.statuses(commit)["deployer/production"] == "success"
    assert world.outcome(pushed)[0] == "skipped"
    assert record.history.refused_tags == ()
    assert any("approved by ada@desk" in each.reason for each in world.lanes.activity(HELLO))
    world.redeploy(PRODUCTION)
    world.run()
    assert deployed(world)[-2:] == [(commit, "succeeded")] * 2, "the approval holds"
    world.resync(HELLO)
    assert world.told[-1] == "resynced: nothing to do"


def test_an_approval_is_for_the_tag_at_that_commit_only(world: World) -> None:
    stray(world)
    world.run()
    world.host.push(
        HELLO, V2, sha(67), files=FILES, parent=STRAY
    )  # moved just before the approval is carried out
    approve(world, V2, STRAY)
    assert unchanged(world)
    assert "was approved at 000000000000 and is at" in world.lanes.activity(HELLO)[0].reason
    approve(world, V2, sha(67))
    assert world.record(PRODUCTION).spec.commit == sha(67)
    later(world, 10)
    same = push_now(world, "refs/tags/v4", sha(67), parent=STRAY)
    later(world, 70)
    world.run()
    assert world.outcome(same)[0] == "skipped", "it is for the tag that was approved"


def test_a_redeployment_of_something_else_does_not_inherit_an_approval(world: World) -> None:
    stray(world)
    world.run()
    approve(world, V2, STRAY)
    world.host.push(HELLO, "refs/heads/x", sha(68), files=FILES, parent=STRAY)
    world.deployer.submitter.request_environment(PRODUCTION, cause=Cause.REDEPLOY, ref=V2, sha=sha(68))
    world.run()
    assert world.record(PRODUCTION).spec.commit == STRAY
    assert (sha(68), "succeeded") not in world.built(PRODUCTION)


def test_only_a_tag_can_be_approved(world: World) -> None:
    with pytest.raises(PermanentError):
        world.deployer.submitter.approve(HELLO, Ref.parse(MAIN), sha(9), "ada")
    with pytest.raises(PermanentError):
        world.deployer.submitter.approve(HELLO, Ref.parse(V2), STRAY, " ")


def test_the_log_tells_who_let_what_in(world: World, caplog: pytest.LogCaptureFixture) -> None:
    stray(world)
    with caplog.at_level("INFO", "deployer.audit"):
        world.run()
        approve(world, V2, STRAY)
    lines = [each.getMessage() for each in caplog.records if each.name == "deployer.audit"]
    assert any(f"{V2} at {STRAY} is refused" in each for each in lines)
    assert any(f"{V2} at {STRAY} is admitted: approved by ada@desk" in each for each in lines)
    assert any("ada@desk approves" in each for each in lines)
