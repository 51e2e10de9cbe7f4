"""What one repository may cost the others in calls to GitHub."""

from typing import Any

import pytest
from world import HELLO, TEMPLATE, World, environment, sha

from deployer.model.environments import Environment, Repository
from deployer.model.events import Push
from deployer.model.refs import ZERO_SHA, Ref
from deployer.queue.call_counter import count_call, save_quota
from deployer.queue.items import Cause
from deployer.views.sentences import waiting_words

BRANCH = "refs/heads/x"
OTHER = Repository.parse("acme/other")
COST = 100


class Costly(World):
    """Each look at a commit's files takes many calls."""

    quota = "5000"
    cost = COST

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        files = self.host.files

        def counted(*arguments: Any) -> Any:
            for _ in range(self.cost):
                count_call("github")
                self.calls += 1
                save_quota(self.quota)
            return files(*arguments)

        self.host.files = counted  # type: ignore[method-assign]

    def spend_share(self) -> None:
        """One branch after the other, until the repository has to wait."""
        for number in range(1, 10):
            self.push(f"refs/heads/b{number}", sha(number))
            self.tasks()
            if any(lane.resting for lane in self.lanes.lanes(HELLO)):
                return
        raise AssertionError("it never has to wait")

    def push_other(self) -> None:
        self.host.create(OTHER)
        self.host.push(OTHER, BRANCH, sha(500), files={"pipeline.yml": TEMPLATE})
        self.deployer.submitter.submit_github(
            Push("other-1", OTHER, Ref.parse(BRANCH), ZERO_SHA, sha(500), "main")
        )


@pytest.fixture
def world() -> Costly:
    return Costly()


def test_a_repository_that_has_used_its_share_waits_and_others_run(world: Costly) -> None:
    world.spend_share()
    assert 500 <= world.calls <= 500 + COST

    delivery = world.push(BRANCH, sha(200))
    before = world.calls
    world.push_other()
    world.tasks()
    (lane,) = world.lanes.lanes(HELLO)
    key = environment(BRANCH).key
    assert lane.snoozed[key] >= 60
    assert "acme/hello has used its share of the calls to GitHub" in waiting_words(lane, key)
    assert world.outcome(delivery)[0] == "queued"
    assert world.calls == before + COST, "only the other repository's"

    assert world.standing(OTHER) == {Environment.of_ref(OTHER, Ref.parse(BRANCH), "main")}

    world.run(600)
    assert world.outcome(delivery)[0] == "deployed"
    assert world.lanes.dead_letters() == []


def test_waiting_for_a_share_is_no_attempt_and_resets_none(world: Costly) -> None:
    world.spend_share()
    key = environment(BRANCH).key
    world.push(BRANCH, sha(200))
    (dispatch,) = [each for each in world.sent if each.environment == key]
    world.sent.clear()
    assert world.lanes.begin(HELLO, dispatch.token)
    assert world.lanes.end_lease(HELLO, dispatch.token, key, "killed")
    world.redis.zadd("deployer:lanes", {HELLO.key: 0})
    world.sent.extend(world.lanes.sweep())
    world.tasks()
    (lane,) = world.lanes.lanes(HELLO)
    assert lane.resting.keys() >= {key}
    assert (lane.failing[key].log.attempts, len(lane.failing[key].failed_attempts)) == (1, 1)


@pytest.mark.parametrize("cause", [Cause.PUSH, Cause.REDEPLOY])
def test_requests_of_people_may_use_the_reserve(world: Costly, cause: Cause) -> None:
    world.push(BRANCH, sha(200))
    world.run()
    world.spend_share()
    if cause == Cause.PUSH:
        world.push(BRANCH, sha(201), sha(200))
    else:
        world.redeploy(environment(BRANCH))
    before = world.calls
    world.tasks()
    assert (world.calls > before) == (cause == Cause.REDEPLOY)


def test_production_may_use_the_reserve(world: Costly) -> None:
    world.spend_share()
    before = world.calls
    world.push("refs/heads/main", sha(300))
    world.tasks()
    assert world.calls == before, "staging waits"
    delivery = world.push("refs/tags/v1", sha(300))
    world.run(600)
    assert world.outcome(delivery)[0] == "deployed"
    assert world.calls > before


def test_a_large_resync_continues_in_parts(world: Costly) -> None:
    for number in range(1, 11):
        world.host.push(HELLO, f"refs/heads/b{number}", sha(number), files={"pipeline.yml": TEMPLATE})
    world.deployer.submitter.resync(HELLO)
    world.run(3000)
    built = [world.built(environment(f"refs/heads/b{number}")) for number in range(1, 11)]
    assert built == [[(sha(number), "succeeded")] for number in range(1, 11)]
    hours = world.lanes.clock_offset_ms / 3_600_000
    assert world.calls <= 500 + 1000 * hours + COST
    assert world.lanes.dead_letters() == []


def test_nobody_waits_if_github_names_no_limit(world: Costly) -> None:
    world.quota = ""
    with pytest.raises(AssertionError, match="never has to wait"):
        world.spend_share()


def test_a_task_makes_no_more_calls_than_its_limit(world: Costly) -> None:
    world.cost = 10_000
    delivery = world.push(BRANCH, sha(1))
    world.run()
    outcome, reason = world.outcome(delivery)
    assert (outcome, world.calls) == ("failed", 200)
    assert reason.startswith("this needs more than 200 calls to GitHub")
    assert "\n" not in reason


# --- the bounds of one task ---


class Reading(World):
    """Each look at a commit's files takes some calls to GitHub more."""

    cost = 0

    def __init__(self) -> None:
        super().__init__()
        files = self.host.files

        def counted_files(*arguments: Any) -> Any:
            for _ in range(self.cost):
                count_call("github")
            return files(*arguments)

        self.host.files = counted_files  # type: ignore[method-assign]


def bounded(monkeypatch: pytest.MonkeyPatch, calls: int) -> None:
    monkeypatch.setattr("deployer.queue.runner.MOST_CALLS", {False: calls, True: calls})


@pytest.mark.parametrize("known", [True, False])
def test_a_task_at_the_limit_says_so_on_the_commit_and_in_the_record(
    monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    world, of = Reading(), environment(BRANCH)
    if known:
        world.push(BRANCH, sha(1))
        world.run()
    bounded(monkeypatch, 20)
    world.cost = 21
    delivery = world.push(BRANCH, sha(2), sha(1) if known else ZERO_SHA)
    world.run()
    outcome, reason = world.outcome(delivery)
    assert (outcome, "more than 20 calls to GitHub" in reason) == ("failed", True)
    record = world.record(of)
    assert (record.status.state, record.status.reason) == ("failed", reason)
    status = world.host.statuses[HELLO, sha(2)]["deployer/prepare"]
    assert (status.state, "more than 20 calls to GitHub" in status.description) == ("failure", True)


@pytest.mark.parametrize("fails", [True, False])
def test_statuses_beyond_the_limit_are_posted_by_the_next_task(
    monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    world, of = Reading(), environment(BRANCH)
    world.cloud.stages = ("Source", "Build", *(f"Check{number}" for number in range(4)))
    if fails:
        world.cloud.fail_next_execution("2 tests failed")
    world.push(BRANCH, sha(1))
    while not (record := world.lanes.environment(of)) or not record.status.pipeline.open:
        world.tasks()
        world.step()
    bounded(monkeypatch, 1)
    for _ in range(5):  # the next task sees the end of all stages
        world.cloud.advance()
    world.run()
    stages = {
        each.name: each.status
        for each in world.record(of).status.pipeline.stages
        if each.status != "not-reached"
    }
    posted = {name: {"failed": "failure", "succeeded": "success"}[status] for name, status in stages.items()}
    assert len(posted) >= 2
    assert world.statuses(sha(1)) == {f"deployer/{name}": state for name, state in posted.items()} | {
        "deployer/prepare": "success",
        "deployer": "failure" if fails else "success",
    }
    assert world.record(of).status.outcome == ("failed" if fails else "deployed")
    assert not world.record(of).status.pipeline.open


def test_a_task_that_github_slows_down_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Reading()
    monkeypatch.setattr("deployer.queue.runner.LAST_CALL", -1.0)
    delivery = world.push(BRANCH, sha(1))
    world.tasks()
    (lane,) = world.lanes.lanes(HELLO)
    (attempt,) = lane.failing[environment(BRANCH).key].failed_attempts
    assert "GitHub is slow" in attempt.error
    monkeypatch.setattr("deployer.queue.runner.LAST_CALL", 140.0)
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
