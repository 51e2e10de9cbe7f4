"""What must not happen when deliveries, faults, people and a lost Redis come together in unlucky ways."""

from typing import Any

import pytest
from world import HELLO, TEMPLATE, World, environment, sha

from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import PermanentError, TransientError
from deployer.model.events import Push
from deployer.model.refs import ZERO_SHA, Ref
from deployer.queue.items import Cause, Task, Work

MAIN, X = "refs/heads/main", "refs/heads/x"
V1, V2 = "refs/tags/v1", "refs/tags/v2"
PRODUCTION, STAGING = Environment(HELLO, Kind.PRODUCTION), Environment(HELLO, Kind.STAGING)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def live(world: World) -> World:
    """Staging and production stand at the first commit."""
    world.push(MAIN, sha(1))
    world.push(V1, sha(1), at=500)
    world.run()
    return world


def built(world: World, which: Environment) -> list[str]:
    return [commit for commit, _ in world.built(which)]


# --- tags share one environment


def test_a_deleted_tag_takes_no_other_tags_place(live: World) -> None:
    live.push(MAIN, sha(2), sha(1))
    live.run()
    second = live.push(V2, sha(2))
    deletion = live.remove(V1, sha(1))
    live.run()
    assert built(live, PRODUCTION) == [sha(1), sha(2)]
    assert live.outcome(second)[0] == "deployed"
    assert live.outcome(deletion) == ("skipped", f"{V1} was deleted; production stays as it is")


def test_a_skipped_push_takes_no_others_place(live: World) -> None:
    wanted = live.push(V2, sha(2))
    nightly = Push("nightly", HELLO, Ref.parse("refs/tags/nightly-NOBUILD"), ZERO_SHA, sha(3), "main")
    live.deployer.submitter.submit_github(nightly)
    live.run()
    assert built(live, PRODUCTION) == [sha(1), sha(2)]
    assert live.outcome(wanted)[0] == "deployed"
    assert live.outcome("nightly")[0] == "skipped"


def test_a_commit_that_asks_to_be_skipped_leaves_the_one_before_it_alone(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    changed = TEMPLATE.replace("Default: hi", "Default: ho")
    wanted = world.push(X, sha(2), sha(1), template=changed)
    world.tasks()  # the update is under way
    message = "Typo [skip ci]"
    world.host.push(HELLO, X, sha(3), files={"pipeline.yml": changed}, message=message)
    world.deployer.submitter.submit_github(
        Push("skipped", HELLO, Ref.parse(X), sha(2), sha(3), "main", message)
    )
    world.run()
    assert world.outcome(wanted)[0] == "deployed"
    assert world.outcome("skipped")[0] == "skipped"
    assert built(world, environment(X)) == [sha(1), sha(2)]


def test_a_push_that_waits_is_deployed_though_the_head_asks_to_be_skipped(world: World) -> None:
    wanted = world.push(X, sha(1))
    message = "Typo [skip ci]"
    world.host.push(HELLO, X, sha(2), files={"pipeline.yml": TEMPLATE}, message=message)
    world.run()
    assert world.outcome(wanted)[0] == "deployed"
    assert world.built(environment(X))[-1] == (sha(1), "succeeded")


def test_tags_delivered_out_of_order_end_at_the_one_pushed_last(live: World) -> None:
    for ref, commit in ((V2, sha(3)), ("refs/tags/v1.1", sha(2))):
        live.host.push(HELLO, ref, commit, files={"pipeline.yml": TEMPLATE})

    def deliver(delivery: str, ref: str, commit: str, pushed_at: float) -> None:
        push = Push(delivery, HELLO, Ref.parse(ref), ZERO_SHA, commit, "main", pushed_at=pushed_at)
        live.deployer.submitter.submit_github(push)

    deliver("v2", V2, sha(3), 2000)
    live.run()
    deliver("v1.1", "refs/tags/v1.1", sha(2), 1000)
    live.run()
    assert built(live, PRODUCTION) == [sha(1), sha(3)]
    assert live.outcome("v1.1") == ("superseded", f"{V2} was pushed or chosen after refs/tags/v1.1")

    deliver("v2 again", V2, sha(3), 4000)
    deliver("v1.1 again", "refs/tags/v1.1", sha(2), 3000)  # both wait in the lane
    live.run()
    assert live.outcome("v1.1 again")[0] == "superseded"
    assert live.outcome("v2 again")[0] == "deployed"


@pytest.mark.parametrize("order", ["in order", "waiting", "late"])
def test_a_tag_that_another_overtook_was_not_missed(live: World, order: str) -> None:
    live.deployer.submitter.resync(HELLO)
    live.run()
    pushes = {}
    for number, (ref, at) in enumerate(
        ((V2, 3000), ("refs/tags/back", 2000)), start=2
    ):  # the former is of a newer commit
        live.host.push(HELLO, ref, sha(number), files={"pipeline.yml": TEMPLATE}, at=at)
        pushes[ref] = Push(
            ref[10:], HELLO, Ref.parse(ref), ZERO_SHA, sha(number), "main", pushed_at=5000 + number
        )
    for push in pushes.values() if order == "in order" else reversed(pushes.values()):
        live.deployer.submitter.submit_github(push)
        if order == "late":
            live.run()
    live.run()
    assert live.outcome("v2")[0] == "superseded"
    live.deployer.submitter.resync(HELLO)
    live.run()
    assert built(live, PRODUCTION) == [sha(1), sha(3)]


FILES = {"pipeline.yml": TEMPLATE}


def push_tags(world: World, *names: str) -> None:
    """One after the other, each of a commit of its number and taken at that second."""
    for name in names:
        number = int(name[-1])
        world.host.push(HELLO, f"refs/tags/{name}", sha(number), files=FILES)
    for name in names:
        ref, number = Ref.parse(f"refs/tags/{name}"), int(name[-1])
        world.deployer.submitter.submit_github(
            Push(name, HELLO, ref, ZERO_SHA, sha(number), "main", pushed_at=number)
        )


@pytest.mark.parametrize("first", [True, False])
def test_a_tag_that_is_not_chosen_gives_way_to_the_one_whose_place_it_took(
    world: World, *, first: bool
) -> None:
    world.push(MAIN, sha(9))
    world.rules("tags: v*")
    if not first:
        push_tags(world, "v1")
    world.run()
    push_tags(world, "v3", "v2", "sdk-v4", "docs-v5")
    world.run()
    assert built(world, PRODUCTION)[-1] == sha(3)
    assert world.record(PRODUCTION).spec.ref == "refs/tags/v3"
    assert world.outcome("docs-v5")[0] == "skipped"
    push_tags(world, "sdk-v6")
    world.run()
    outcome, reason = world.outcome("sdk-v6")
    assert outcome == "skipped"
    assert reason.startswith("sdk-v6 is not among the tags of deploy/deployer.yml on main; ")


def test_a_tag_that_gives_way_moves_nothing_backwards(world: World) -> None:
    world.push(MAIN, sha(9))
    world.rules("tags: v*")
    push_tags(world, "v3")
    world.run()
    push_tags(world, "sdk-v4", "v2")
    world.run()
    assert world.outcome("sdk-v4")[0] == "skipped"
    assert world.record(PRODUCTION).spec.commit == sha(3)


def test_a_deletion_that_comes_after_the_branch_is_back_deletes_nothing(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    world.host.remove(HELLO, X)
    for delivery, before, after, at in (("back", ZERO_SHA, sha(1), 2000), ("gone", sha(1), ZERO_SHA, 1000)):
        push = Push(delivery, HELLO, Ref.parse(X), before, after, "main", pushed_at=at)
        world.deployer.submitter.submit_github(push)
    world.tasks()
    world.host.push(HELLO, X, sha(1))  # until then GitHub's API lags behind
    world.run()
    assert world.outcome("gone")[0] == "superseded"
    assert world.outcome("back")[0] == "deployed"
    assert built(world, environment(X)) == [sha(1)]


# --- dead letters


def test_a_replay_decides_anew(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    world.cloud.fail_next(TransientError("AWS is away"), times=3, method="start")
    died = world.push(X, sha(2), sha(1))
    world.run()
    assert world.outcome(died)[0] == "dead-lettered"
    world.push(X, sha(3), sha(2))
    world.run()
    (letter,) = world.lanes.dead_letters()
    world.deployer.submitter.replay(letter.id)
    world.run()
    assert built(world, environment(X)) == [sha(1), sha(3)]


def test_a_replayed_event_watches_only(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    world.cloud.fail_next(TransientError("AWS is away"), times=3, method="executions")
    died = world.event(environment(X))
    world.run()
    assert world.outcome(died)[0] == "dead-lettered"
    world.host.push(HELLO, X, sha(2), files={"pipeline.yml": TEMPLATE})  # of which no webhook tells yet
    (letter,) = world.lanes.dead_letters()
    world.deployer.submitter.replay(letter.id)
    world.run()
    assert built(world, environment(X)) == [sha(1)]
    assert world.outcome(died)[0] == "skipped"


def test_a_replayed_deletion_spares_a_branch_that_came_back(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    world.cloud.fail_next(TransientError("AWS is away"), times=3, method="delete_stack")
    died = world.remove(X, sha(1))
    world.run()
    assert world.outcome(died)[0] == "dead-lettered"
    world.push(X, sha(2))
    world.run()
    (letter,) = world.lanes.dead_letters()
    world.deployer.submitter.replay(letter.id)
    world.run()
    assert world.cloud.stack(environment(X).stack_name) is not None


def test_a_redelivery_does_what_a_replay_would(world: World) -> None:
    world.cloud.fail_next(TransientError("AWS is away"), times=3, method="create_stack")
    died = world.push(X, sha(1))
    world.run()
    assert len(world.lanes.dead_letters()) == 1
    world.deliver(X, sha(1), delivery=died)
    assert world.lanes.dead_letters() == []
    world.run()
    assert world.outcome(died)[0] == "deployed"


def test_a_death_is_told_and_the_next_resync_mends_it(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    world.cloud.fail_next(TransientError("AWS is away"), times=3, method="start")
    world.push(X, sha(2), sha(1))
    world.run()
    record = world.record(environment(X))
    assert (record.status.state, record.status.outcome, record.status.reason) == (
        "failed",
        "dead-lettered",
        "AWS is away",
    )
    assert world.statuses(sha(2))["deployer/prepare"] == "error"
    world.deployer.submitter.resync(HELLO)
    world.run()
    assert built(world, environment(X)) == [sha(1), sha(2)]


def test_an_unexpected_error_tells_the_commit_no_more_than_its_kind(world: World) -> None:
    world.cloud.fail_next(RuntimeError("token=hush"), method="create_stack")
    world.push(X, sha(1))
    world.run()
    assert world.record(environment(X)).status.reason == "RuntimeError"
    told = world.host.statuses[HELLO, sha(1)]["deployer/prepare"].description
    assert "hush" not in told
    assert "RuntimeError" in told
    assert "hush" not in "".join(line.reason for line in world.lanes.activity())


def test_half_a_character_in_a_reason_keeps_no_verdict_away(world: World) -> None:
    world.cloud.fail_next(PermanentError("parameter \ud800 is not declared"), method="create_stack")
    delivery = world.push(X, sha(1))
    world.run()
    assert world.outcome(delivery) == ("failed", "parameter \\ud800 is not declared")
    assert world.record(environment(X)).status.reason == "parameter \\ud800 is not declared"


def test_a_dead_letter_tells_what_it_died_of(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(
        "CRITICAL", "deployer.tasks"
    )  # half a character in the log is more than a report can carry
    world.cloud.fail_next(TransientError("AWS\ud800 is away"), times=3, method="create_stack")
    world.push(X, sha(1))
    world.run()
    world.cloud.fail_next(RuntimeError("half a character: \ud800"), method="stack")
    world.push("refs/heads/y", sha(2))
    world.run()
    passing, bug = world.lanes.dead_letters()
    assert (passing.kind, bug.kind) == ("TransientError", "RuntimeError")
    attempts = passing.arguments.failed_attempts
    assert [(each.task, each.error) for each in attempts] == [
        ("deployer.provision", "AWS\\ud800 is away")
    ] * 3
    assert "RuntimeError: half a character: ?" in bug.traceback
    assert [each.error for each in bug.arguments.failed_attempts] == [bug.reason]


def test_what_a_resync_asks_for_leaves_one_letter(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    world.host.push(HELLO, X, sha(2), files={"pipeline.yml": TEMPLATE})
    world.lanes.clock_offset_ms += 60_000
    for _ in range(3):
        world.cloud.fail_next(RuntimeError("a bug"), method="start")
        world.deployer.submitter.resync(HELLO)
        world.run()
    world.host.fail_next(RuntimeError("a bug"), times=2, method="facts")
    for _ in range(2):
        world.deployer.submitter.resync(HELLO)
        world.run()
    letters = {letter.task: letter.id for letter in world.lanes.dead_letters()}
    assert len(world.lanes.dead_letters()) == 2
    assert letters.keys() == {"deployer.trigger", "deployer.resync"}
    for letter in letters.values():
        world.deployer.submitter.replay(letter)
    world.run()
    assert built(world, environment(X)) == [sha(1), sha(2)]


def test_events_do_not_shorten_the_wait_after_a_fault(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    limit = TransientError("rate limit", retry_after=3600)
    world.cloud.fail_next(limit, times=9, method="execution")
    waiting = world.push(X, sha(2), sha(1))
    world.tasks()
    tried = len(world.told)
    for _ in range(4):
        world.event(environment(X))
        world.tasks()
    assert world.outcome(waiting)[0] == "queued"
    assert len(world.told) == tried
    world.push(X, sha(3), sha(2))  # a person does not wait
    world.tasks()
    assert len(world.told) > tried


@pytest.mark.parametrize("lost", [Task.UPDATE, Task.TRIGGER])
@pytest.mark.parametrize("changed", ["another's", "gone"])
def test_a_step_of_a_lost_worker_is_decided_anew_where_its_stack_is(
    world: World, lost: Task, changed: str
) -> None:
    world.push(X, sha(1))
    world.run()
    wanted = world.push(X, sha(2), sha(1), template=TEMPLATE.replace("hi}", "ho}"))
    while not world.sent or world.sent[0].task != lost:
        if not world.sent:
            world.step()
            continue
        each = world.sent.pop(0)
        world.runner.carry_out(each.task, each.repository, each.environment, each.token)
    world.lanes.begin(HELLO, world.sent.pop(0).token)  # its worker is lost
    name = environment(X).stack_name
    world.cloud.calls.clear()
    if changed == "gone":
        world.cloud.delete_stack(name, "a person")
        world.cloud.settle()
    else:
        world.cloud._live[name].tags = environment(
            "refs/heads/y"
        ).tags  # a person gives it to another environment
    world.cloud.calls.clear()
    world.run()
    touched = world.cloud.called("update_stack") + world.cloud.called("start")
    if changed == "gone":
        assert world.outcome(wanted)[0] == "deployed"
    else:
        assert world.outcome(wanted)[0] == "failed"
        assert "without deployer's tags" in world.outcome(wanted)[1]
        assert not touched


@pytest.mark.parametrize("ended", ["tried again", "replayed"])
@pytest.mark.parametrize("chosen", [sha(1), ""])
def test_a_redeploy_that_is_decided_anew_keeps_the_commit_only_if_a_person_chose_it(
    world: World, chosen: str, ended: str
) -> None:
    world.push(X, sha(1))
    world.run()
    times = 1 if ended == "tried again" else world.deployer.config.max_attempts
    world.cloud.fail_next(TransientError("AWS is away"), method="start", times=times)
    world.deployer.submitter.request_environment(environment(X), cause=Cause.REDEPLOY, sha=chosen)
    world.tasks()
    world.host.push(HELLO, X, sha(2), files={"pipeline.yml": TEMPLATE})  # nobody tells of it
    world.run()
    if ended == "replayed":
        (letter,) = world.lanes.dead_letters()
        world.deployer.submitter.replay(letter.id)
        world.run()
    world.deployer.submitter.resync(HELLO)
    world.run()
    assert built(world, environment(X))[-1] == (chosen or sha(2))
    assert bool(world.record(environment(X)).spec.held_at) == bool(chosen)


def test_an_update_whose_stack_is_gone_makes_it_anew(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    world.cloud.fail_next(TransientError("stack x has gone meanwhile"), method="update_stack")
    pushed = world.push(X, sha(2), sha(1), template=TEMPLATE.replace("hi}", "ho}"))
    world.tasks()
    world.cloud.delete_stack(environment(X).stack_name, "a person")
    world.run()
    assert world.outcome(pushed)[0] == "deployed"


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
@pytest.mark.parametrize("what", ["a rollback", "a redeploy", "a missed tag"])
@pytest.mark.parametrize("other", ["not chosen", "gone", "late"])
def test_a_tag_that_is_not_deployed_ends_nothing_of_what_was_on_its_way_to_production(
    world: World, what: str, other: str, steps: int
) -> None:
    def files(number: int) -> dict[str, str]:
        changed = TEMPLATE.replace("Default: hi", f"Default: '{number}'")
        return {"pipeline.yml": changed}

    def tag(name: str, number: int, pushed_at: float) -> None:
        push = Push(
            name, HELLO, Ref.parse(f"refs/tags/{name}"), ZERO_SHA, sha(number), "main", pushed_at=pushed_at
        )
        world.deployer.submitter.submit_github(push)

    world.push(MAIN, sha(9))
    world.rules("tags: v*")
    for number in (1, 2):
        world.host.push(HELLO, f"refs/tags/v{number}", sha(number), files=files(number), at=number)
        tag(f"v{number}", number, number)
        world.run()
    world.resync(HELLO)
    wanted = {"a rollback": 1, "a redeploy": 2, "a missed tag": 3}[what]
    if what == "a missed tag":
        world.host.push(HELLO, "refs/tags/v3", sha(3), files=files(3), at=3)
        world.deployer.submitter.resync(HELLO)
    else:
        ref = f"refs/tags/v{wanted}"
        world.deployer.submitter.request_environment(PRODUCTION, cause=Cause.REDEPLOY, ref=ref)
    world.tasks()
    for _ in range(steps):
        world.step()
        world.tasks()
    held = world.record(PRODUCTION).spec.held_at
    if other != "gone":
        name = "refs/tags/nightly" if other == "not chosen" else "refs/tags/v1.5"
        world.host.push(HELLO, name, sha(4), files=files(4), at=1.5)
    tag("nightly" if other != "late" else "v1.5", 4, 4 if other != "late" else 1.5)
    world.run()
    record = world.record(PRODUCTION)
    assert (record.spec.ref, record.spec.commit, record.spec.held_at) == (
        f"refs/tags/v{wanted}",
        sha(wanted),
        held,
    )
    assert (record.status.state, record.status.outcome) == ("deployed", "deployed")
    assert world.built(PRODUCTION) == [(sha(number), "succeeded") for number in (1, 2, wanted)]


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
@pytest.mark.parametrize("ref", [X, MAIN])
def test_a_push_that_takes_the_place_of_a_redeploy_does_what_that_was_to_do(
    world: World, ref: str, steps: int
) -> None:
    place, paths = environment(ref), {"deployer.yml": "paths: [src/**]"}
    world.push(ref, sha(1), files=paths)
    world.run()
    world.cloud.tamper(place.stack_name, Greeting="changed")
    world.resync(HELLO)
    assert world.record(place).status.stack.drift
    world.redeploy(place)
    world.tasks()
    for _ in range(steps):
        world.step()
        world.tasks()
    world.push(ref, sha(2), sha(1), files={**paths, "docs/readme.md": ""})
    world.run()
    record = world.record(place)
    assert (record.status.state, record.status.outcome) == ("deployed", "deployed")
    assert built(world, place)[1:] in ([sha(2)], [sha(1), sha(2)])


# --- a lost ledger


@pytest.mark.parametrize("annotated", ["", sha(77)])
def test_a_wipe_does_not_move_production(live: World, annotated: str) -> None:
    live.push(MAIN, sha(2), sha(1))
    live.push(V2, sha(2), annotated=annotated)
    live.run()
    before = live.built(PRODUCTION)
    assert before[-1] == (sha(2), "succeeded")
    live.redis.flushall()
    live.deployer.submitter.resync(HELLO)
    live.run()
    assert live.built(PRODUCTION) == before
    record = live.record(PRODUCTION)
    assert (record.spec.ref, record.spec.commit, record.status.outcome) == (V2, sha(2), "deployed")
    live.redeploy(PRODUCTION)
    live.run()
    assert live.built(PRODUCTION) == [*before, before[-1]]


@pytest.mark.parametrize("lost", ["the ledger", "the ledger just now", "a webhook"])
def test_a_tag_that_is_delivered_late_moves_production_forwards_only(world: World, lost: str) -> None:
    began_at = world._now()

    def tag(number: int) -> None:
        files, at = {"pipeline.yml": TEMPLATE}, began_at + 10 * number
        world.host.push(HELLO, f"refs/tags/v{number}", sha(number), files=files, at=at)

    def deliver(number: int, ago: float) -> str:
        ref, at = Ref.parse(f"refs/tags/v{number}"), world._now() - ago
        delivery = f"v{number} {ago}"
        push = Push(delivery, HELLO, ref, ZERO_SHA, sha(number), "main", pushed_at=at)
        world.deployer.submitter.submit_github(push)
        return delivery

    world.push(MAIN, sha(9))
    tag(1)
    deliver(1, 0)
    world.run()
    world.resync(HELLO)
    tag(2)
    tag(3)
    if lost != "a webhook":
        deliver(3, 0)
        world.run()
        world.forget()
    if lost != "the ledger just now":
        world.resync(HELLO)
    assert built(world, PRODUCTION)[-1] == sha(3)
    late = deliver(2, 3600)
    world.run()
    assert world.outcome(late)[0] == "superseded"
    world.resync(HELLO)
    assert built(world, PRODUCTION)[-1] == world.record(PRODUCTION).spec.commit == sha(3)
    world.lanes.clock_offset_ms += 7_200_000
    tag(4)
    late = deliver(4, 3600)
    world.run()
    assert world.outcome(late)[0] == "deployed"
    assert built(world, PRODUCTION)[-1] == sha(4)


@pytest.mark.parametrize("steps", [0, 1, 2, 10])
def test_a_wipe_while_production_is_made_leaves_it_not_at_the_default_branch(
    world: World, steps: int
) -> None:
    world.push(MAIN, sha(9))
    world.run()
    world.push(V1, sha(1))
    world.tasks()
    assert world.cloud.stack(PRODUCTION.stack_name)
    world.forget()
    world.sent.clear()
    for _ in range(steps):
        world.cloud.advance()
    world.resync(HELLO)
    record = world.record(PRODUCTION)
    assert (record.spec.ref, record.spec.commit, record.status.outcome) == (V1, sha(1), "deployed")
    assert world.built(PRODUCTION)[-1] == (sha(1), "succeeded")


@pytest.mark.parametrize("first", ["a deletion", "a tag that is gone", "a tag that is not chosen"])
def test_what_comes_first_after_a_wipe_and_deploys_nothing_hides_no_production(
    world: World, first: str
) -> None:
    world.push(MAIN, sha(9))
    world.push(V1, sha(1))
    world.run()
    world.forget()
    other = "refs/tags/other"
    if first == "a tag that is not chosen":
        world.rules("tags: v*")
        world.push(other, sha(1))
    else:
        world.deliver(other, ZERO_SHA if first == "a deletion" else sha(1))
    world.run()
    known = world.lanes.environment(PRODUCTION)
    assert known is None or known.spec.commit == ""
    world.resync(HELLO)
    record = world.record(PRODUCTION)
    assert (record.spec.ref, record.spec.commit, record.status.outcome) == (V1, sha(1), "deployed")
    assert built(world, PRODUCTION)[-1] == sha(1)
    assert world.deployer.resyncer.plan(HELLO) == []


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "ROLLBACK_COMPLETE"])
def test_of_a_production_that_tells_nothing_there_is_nothing_to_learn_twice(
    world: World, status: str
) -> None:
    world.push(MAIN, sha(9))
    world.run()
    world.cloud.add_stack(PRODUCTION.stack_name, {**PRODUCTION.tags, "deployer:ref": V1}, status)
    world.deliver("refs/tags/other", ZERO_SHA)
    world.run()
    world.resync(HELLO)
    assert world.deployer.resyncer.plan(HELLO) == []


def test_a_wipe_starts_nothing_that_a_person_stopped(live: World) -> None:
    live.cloud.pipelines[PRODUCTION.stack_name][-1].status = "stopped"
    live.cloud.pipelines[STAGING.stack_name][-1].status = "stopped"
    live.redis.flushall()
    live.deployer.submitter.resync(HELLO)
    live.run()
    assert built(live, PRODUCTION) == [sha(1)]
    assert built(live, STAGING) == [sha(1)]


def test_another_spelling_after_a_wipe_changes_nothing(world: World) -> None:
    spelled = TEMPLATE.replace(
        "Parameters:", "Parameters:\n  RepoOwner: {Type: String}\n  RepoName: {Type: String}"
    )
    world.push(MAIN, sha(1), template=spelled)
    world.run()
    world.redis.flushall()
    world.deployer.submitter.resync(Repository.parse("Acme/Hello"))
    world.run()
    assert built(world, STAGING) == [sha(1)]
    assert not world.cloud.called("update_stack")


# --- what is never deleted, and what is never started


def test_a_webhook_never_replaces_a_half_deleted_production(live: World) -> None:
    live.cloud.protect(PRODUCTION.stack_name, on=False)
    live.cloud.set_status(PRODUCTION.stack_name, "DELETE_FAILED")
    pushed = live.push(V2, sha(2))
    live.run()
    assert live.outcome(pushed)[0] == "failed"
    assert "needs a person" in live.outcome(pushed)[1]
    assert not live.cloud.called("delete_stack")


def test_no_task_deletes_production(live: World) -> None:
    with pytest.raises(PermanentError, match="deleted by nothing but"):
        live.runner.carry_out(Task.DELETE, "acme/hello", "production", 0)
    live.run()
    assert live.cloud.stack(PRODUCTION.stack_name) is not None


def test_a_late_deletion_and_a_lagging_api_delete_nothing(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    world.host.remove(HELLO, X)
    world.host.lag(HELLO, X)  # it goes on to say that the branch is gone
    world.host.push(HELLO, X, sha(2), files={"pipeline.yml": TEMPLATE})
    world.deliver(X, sha(2))
    world.deliver(X, ZERO_SHA, sha(1))  # the deletion that came first is told last
    for _ in range(3):
        world.tasks()
        world.cloud.advance()
        world.lanes.clock_offset_ms += 2000
        world.sent.extend(world.lanes.sweep())
    assert not world.cloud.called("delete_stack")
    world.host.catch_up()
    world.run()
    assert world.built(environment(X))[-1] == (sha(2), "succeeded")


def test_an_event_never_starts_anything(live: World, monkeypatch: pytest.MonkeyPatch) -> None:
    live.host.push(HELLO, V1, sha(2), files={"pipeline.yml": TEMPLATE})  # moved, and nobody told of it
    started = live.cloud.start(PRODUCTION.stack_name, sha(1), "a goal that was lost")
    live.lanes_note(PRODUCTION, started={started: sha(1)})
    live.event(PRODUCTION)
    execution, asked = live.cloud.execution, []

    def not_yet(pipeline: str, identity: str, *_: object) -> Any:
        asked.append(identity)
        return execution(pipeline, identity) if len(asked) > 1 else None

    monkeypatch.setattr(live.cloud, "execution", not_yet)
    live.run()
    assert asked
    assert sha(2) not in built(live, PRODUCTION)


def test_what_was_deployed_goes_though_the_pipeline_went_first(world: World) -> None:
    world.cloud.applications[environment(X).stack_name] = ["hello-x-app"]
    world.push(X, sha(1))
    world.run()
    assert world.cloud.stack("hello-x-app") is not None
    world.cloud.delete_stack(environment(X).stack_name, "a person")
    world.cloud.settle()
    world.remove(X, sha(1))
    world.run()
    assert world.cloud.stack("hello-x-app") is None


def test_a_rollback_by_a_person_stays_until_the_next_push(world: World) -> None:
    world.push(MAIN, sha(1))
    world.run()
    world.push(MAIN, sha(2), sha(1))
    world.run()
    world.deployer.submitter.request_environment(STAGING, cause=Cause.REDEPLOY, sha=sha(1))
    world.run()
    world.deployer.submitter.resync(HELLO)
    world.run()
    assert built(world, STAGING) == [sha(1), sha(2), sha(1)]
    world.push(MAIN, sha(3), sha(2))
    world.run()
    assert built(world, STAGING)[-1] == sha(3)


def test_a_bucket_that_takes_long_to_empty_does_not_hold_the_lane(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.push(X, sha(1))
    world.push("refs/heads/y", sha(2))
    world.run()
    full, empty = [True] * 3, world.cloud.empty_storage

    def slowly(arn: str, guard: Any) -> bool:
        return not full.pop() if full else empty(arn, guard)

    monkeypatch.setattr(world.cloud, "empty_storage", slowly)
    deletion = world.remove(X, sha(1))
    world.tasks()
    assert not world.cloud.called("delete_stack")
    (lane,) = world.lanes.lanes()
    assert lane.status == "idle", "other branches go on"
    world.run()
    assert world.outcome(deletion)[0] == "deleted"
    assert world.cloud.stack(environment("refs/heads/y").stack_name) is not None


# --- what the record tells


def test_what_changed_nothing_leaves_the_record_alone(live: World) -> None:
    live.remove("refs/tags/v0", sha(9))
    live.run()
    record = live.record(PRODUCTION)
    assert (record.status.outcome, record.spec.ref, record.spec.commit) == ("deployed", V1, sha(1))
    live.cloud.protect(PRODUCTION.stack_name, on=False)
    live.cloud.delete_stack(PRODUCTION.stack_name, "lost")
    live.cloud.settle()
    live.deployer.submitter.resync(HELLO)
    live.run()
    assert live.cloud.stack(PRODUCTION.stack_name) is not None


def test_a_skipped_head_is_no_commit_of_the_environment(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    world.push(X, sha(2), sha(1), message="Typo [skip ci]")
    world.run()
    record = world.record(environment(X))
    assert (record.spec.commit, record.status.outcome, record.status.state) == (
        sha(1),
        "deployed",
        "deployed",
    )
    world.deployer.submitter.resync(HELLO)
    world.run()
    assert world.told[-1] == "resynced: nothing to do"


def test_a_branch_without_a_pipeline_is_not_under_way(world: World) -> None:
    world.host.push(HELLO, X, sha(1), files={})
    world.deliver(X, sha(1))
    world.run()
    assert world.record(environment(X)).status.state == "skipped"


def test_a_commit_is_never_shown_with_anothers_stages(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    world.push(X, sha(2), sha(1), template="Resources: [")
    world.run()
    record = world.record(environment(X))
    assert (record.status.outcome, record.spec.commit, record.status.pipeline.stages) == (
        "failed",
        sha(2),
        [],
    )


def test_a_redeploy_of_a_commit_that_is_not_there_changes_nothing(live: World) -> None:
    live.host.fail_next(PermanentError("there is no commit 999"), method="files")
    live.deployer.submitter.request_environment(STAGING, cause=Cause.REDEPLOY, sha=sha(999))
    live.run()
    record = live.record(STAGING)
    assert (record.spec.commit, record.status.outcome) == (sha(1), "deployed")
    assert "nothing was changed" in live.lanes.activity(HELLO)[0].reason


def test_what_is_served_no_longer_is_left_alone(world: World) -> None:
    other = Repository.parse("other/thing")
    accepted = world.lanes.accept(other, Work(environment="staging"), "o1", "push")
    world.sent.append(accepted.dispatch)  # type: ignore[arg-type]
    world.run()
    assert world.outcome("o1")[0] == "ignored"
    assert not world.cloud.calls


def test_a_repository_that_cannot_be_read_is_forgotten(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    world.host.fail_next(PermanentError("acme/typo was not found"), method="default_branch")
    world.deployer.submitter.resync(Repository.parse("acme/typo"))
    world.run()
    assert world.lanes.repositories() == [HELLO]
    world.host.fail_next(PermanentError("acme/hello was not found"), method="default_branch")
    world.deployer.submitter.resync(HELLO)
    world.run()
    assert world.lanes.repositories() == [HELLO], "there is something of it"


# --- the sweeper


def test_one_broken_lane_stops_no_other(world: World) -> None:
    world.push(X, sha(1))
    world.lanes.accept(Repository.parse("acme/other"), Work(environment="staging"), "o1", "push")
    world.redis.set("deployer:{acme/hello}:queue", "no list")
    world.redis.hset("deployer:{acme/hello}:state", "status", "idle")
    world.lanes.clock_offset_ms += 20_000
    assert [each.repository for each in world.lanes.sweep()] == ["acme/other"]


def test_half_an_entry_is_dropped(world: World) -> None:
    world.push(X, sha(1))
    world.redis.delete("deployer:{acme/hello}:items")
    world.lanes.clock_offset_ms += 20_000
    world.sent = world.lanes.sweep()
    world.tasks()
    world.push("refs/heads/y", sha(2))
    world.run()
    assert built(world, environment("refs/heads/y")) == [sha(2)]
