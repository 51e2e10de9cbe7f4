"""Faults of GitHub, of workers and of Redis never cost a deployment anything, and GitHub shows the truth afterwards."""

import random
import time
from dataclasses import dataclass
from typing import Any

import pytest
from world import HELLO, World, environment, sha

from deployer.environment.code_host import Status
from deployer.model.display import COMMENT, DisplayChange
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.errors import DeployerError, PermanentError, ThrottledError, TransientError
from deployer.outbox.plan import missing_posts, waiting_text
from deployer.outbox.sender import DisplaySender
from deployer.outbox.store import Shown
from deployer.queue.call_counter import count_call
from deployer.queue.items import Work
from deployer.queue.step_results import Finished
from deployer.queue.store import NextItem, Taken

BRANCH = "refs/heads/x"
DEV = environment(BRANCH)
GREEN = {"deployer": "success"} | {
    f"deployer/{name}": "success" for name in ("prepare", "Source", "Build", "Deploy")
}
BUILD = "deployer/Build"


class Refusing(World):
    """GitHub refuses every write while `error` is set."""

    error: DeployerError | None = None

    def __init__(self) -> None:
        super().__init__()
        for number in (1, 2, 3):
            self.host.push(HELLO, "refs/heads/other", sha(number), files={})
        self.host.remove(HELLO, "refs/heads/other")
        write = self.host.post_commit_status

        def refusing(*given: Any) -> None:
            if self.error:
                raise self.error
            write(*given)

        self.host.post_commit_status = refusing  # type: ignore[method-assign]

    def until_posted(self) -> None:
        """Let time pass until GitHub shows everything."""
        for _ in range(60):
            self.post()
            if not waiting_text(self.deployer.outbox.unfinished()):
                return
            self.lanes.clock_offset_ms += 20_000
        raise AssertionError(waiting_text(self.deployer.outbox.unfinished()))


@pytest.fixture
def world() -> Refusing:
    return Refusing()


@pytest.mark.parametrize(
    "error",
    [
        ThrottledError("GitHub's rate limit is exceeded", retry_after=600),
        TransientError("GitHub answers 502"),
        TransientError("deployer's GitHub credentials lack a permission"),
    ],
    ids=["rate limit", "server error", "permission"],
)
def test_deployments_finish_while_github_refuses_every_write(world: Refusing, error: DeployerError) -> None:
    world.error = error
    delivery = world.push(BRANCH, sha(1))
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.lanes.dead_letters() == []
    assert world.statuses(sha(1)) == {}
    waiting = 5 if isinstance(error, ThrottledError) else 6  # the sixth is the comment on pull requests
    found = waiting_text(world.deployer.outbox.unfinished())
    assert found == f"{waiting} updates wait to be posted on GitHub: {error}"
    world.error = None
    world.until_posted()
    assert world.statuses(sha(1)) == GREEN
    assert len(world.posted(sha(1))) == len(GREEN), "what happened meanwhile is left out"


def test_after_a_long_outage_the_present_state_appears_within_75_seconds(world: Refusing) -> None:
    world.error = TransientError("GitHub answers 502")
    store(world, build("success"))
    for _ in range(30):
        world.post()
        world.lanes.clock_offset_ms += 20_000
    world.error = None
    for _ in range(15):
        world.post()
        world.lanes.clock_offset_ms += 5_000
    world.post()
    assert world.statuses(sha(1)) == {BUILD: "success"}


def test_a_refused_write_costs_no_attempt(world: Refusing) -> None:
    world.error = TransientError("GitHub answers 502")
    world.push(BRANCH, sha(1))
    attempts = set()
    for _ in range(20):
        world.tasks()
        lanes = world.lanes.lanes(HELLO)
        attempts |= {bool(lane.failing) for lane in lanes}
        if not lanes:
            break
        world.step()
    assert attempts == {False}


def test_what_github_refuses_for_good_is_not_sent_again_and_is_visible(world: Refusing) -> None:
    world.error = PermanentError("GitHub answers 422: too many statuses")
    delivery = world.push(BRANCH, sha(1))
    world.run()
    world.error = None
    world.until_posted()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.statuses(sha(1)) == {}
    display = world.deployer.outbox.commit_display(HELLO, sha(1))
    assert {each.refused for each in display.shown.values()} == {
        str(PermanentError("GitHub answers 422: too many statuses"))
    }
    world.push(BRANCH, sha(2), before=sha(1))
    world.run()
    assert world.statuses(sha(2)) == GREEN


def test_what_github_shows_already_is_not_sent_again(world: Refusing) -> None:
    world.push(BRANCH, sha(1))
    world.run()
    count = len(world.host.posted)
    world.redeploy(DEV)
    world.run()
    again = [(status.context, status.state) for _, _, status in world.host.posted[count:]]
    assert len(again) == len(set(again))
    count = len(world.host.posted)
    world.resync(HELLO)
    world.event(DEV)
    world.run()
    assert len(world.host.posted) == count


def test_after_redis_is_wiped_a_resync_restores_what_github_should_show(world: Refusing) -> None:
    world.error = TransientError("GitHub answers 502")
    world.push(BRANCH, sha(1))
    world.run()
    world.forget()
    world.error = None
    world.resync(HELLO)
    world.until_posted()
    assert world.statuses(sha(1)) == GREEN


# --- senders that die, and several of them ---


class KilledError(BaseException):
    """The process of a sender is gone."""


def store(world: World, *changes: DisplayChange, seconds: float = 0) -> None:
    """End a task that wants something to be shown."""
    world.lanes.clock_offset_ms += int(seconds * 1000)
    accepted = world.lanes.accept(HELLO, Work(environment=DEV.key))
    assert accepted.dispatch is not None
    assert world.lanes.begin(HELLO, accepted.dispatch.token)
    record = EnvironmentRecord(HELLO.full_name, DEV.key, "", display=changes)
    world.lanes.finish(HELLO, accepted.dispatch.token, Finished("skipped", "", record))


def build(state: str, text: str = "") -> DisplayChange:
    return DisplayChange(sha(1), BUILD, state, text or state)


@pytest.mark.parametrize("moment", ["before the write", "after the write", "before the return"])
def test_a_sender_that_is_killed_at_any_moment_loses_nothing(world: Refusing, moment: str) -> None:
    store(world, build("success"))
    outbox, write = world.deployer.outbox, world.host.post_commit_status
    with pytest.MonkeyPatch.context() as patched:

        def dying(*given: Any) -> None:
            if moment == "after the write":
                write(*given)
            raise KilledError

        if moment == "before the return":
            patched.setattr(outbox, "release_commit", lambda *_, **__: (_ for _ in ()).throw(KilledError))
        else:
            patched.setattr(world.host, "post_commit_status", dying)
        with pytest.raises(KilledError):
            world.post()
    world.post()
    assert world.statuses(sha(1)) == ({} if moment == "before the write" else {BUILD: "success"}), (
        "it is taken"
    )
    world.lanes.clock_offset_ms += 61_000
    world.post()
    assert world.statuses(sha(1)) == {BUILD: "success"}
    assert not outbox.is_due()
    assert outbox.unfinished() == []


def test_a_sender_that_was_suspended_does_not_leave_its_older_state(world: Refusing) -> None:
    """The first sender hangs in its write until the second one has posted something newer."""
    store(world, build("pending"))
    write = world.host.post_commit_status

    def suspended(*given: Any) -> None:
        world.host.post_commit_status = write  # type: ignore[method-assign]
        store(world, build("success"), seconds=61)
        world.post()
        assert world.statuses(sha(1)) == {BUILD: "success"}
        write(*given)

    world.host.post_commit_status = suspended  # type: ignore[method-assign]
    world.post()
    assert world.statuses(sha(1)) == {BUILD: "pending"}
    world.until_posted()
    assert world.statuses(sha(1)) == {BUILD: "success"}


def test_two_senders_never_have_the_same_commit(world: Refusing) -> None:
    store(world, build("success"))
    outbox = world.deployer.outbox
    assert [each.sha for each in outbox.take_due(10, 60, "one")] == [sha(1)]
    assert outbox.take_due(10, 60, "two") == []


def test_what_is_wanted_while_a_sender_works_is_posted_next(world: Refusing) -> None:
    store(world, build("pending"))
    outbox = world.deployer.outbox
    (display,) = outbox.take_due(10, 60, "one")
    store(world, build("success"))
    assert outbox.record_shown(display, BUILD, Shown("pending", "pending"), 60, "one")
    outbox.release_commit(display, "one")
    assert outbox.is_due()
    world.post()
    assert world.statuses(sha(1)) == {BUILD: "success"}


def test_a_task_whose_lease_was_lost_changes_nothing_that_github_shows(world: Refusing) -> None:
    accepted = world.lanes.accept(HELLO, Work(environment=DEV.key))
    assert accepted.dispatch is not None
    world.lanes.begin(HELLO, accepted.dispatch.token)
    world.lanes.clock_offset_ms += 3_600_000
    (again,) = world.lanes.sweep()
    world.lanes.begin(HELLO, again.token)
    record = EnvironmentRecord(HELLO.full_name, DEV.key, "", display=(build("pending"),))
    with pytest.raises(DeployerError, match="handed to another worker"):
        world.lanes.finish(HELLO, accepted.dispatch.token, Finished("skipped", "", record))
    assert world.deployer.outbox.unfinished() == []


def test_results_are_posted_before_progress(world: Refusing) -> None:
    store(world, build("pending"), DisplayChange(sha(2), BUILD, "pending", "runs"))
    store(world, DisplayChange(sha(3), BUILD, "failure", "it failed"), seconds=1)
    world.post()
    assert [status.state for _, _, status in world.host.posted] == ["failure", "pending", "pending"]


def test_progress_that_ends_within_seconds_needs_no_write(world: Refusing) -> None:
    sender = DisplaySender(world.deployer.outbox, world.host, world.lanes.now, world.lanes.count)
    store(world, DisplayChange(sha(1), "deployer/prepare", "pending", "creating the pipeline"))
    sender.post_missing()
    assert world.statuses(sha(1)) == {"deployer/prepare": "pending"}, "a person looks for the first status"
    store(world, build("pending"))
    sender.post_missing()
    assert BUILD not in world.statuses(sha(1))
    store(world, build("success"), seconds=2)
    sender.post_missing()
    assert [status.state for _, _, status in world.host.posted if status.context == BUILD] == ["success"]
    store(world, DisplayChange(sha(1), "deployer/Deploy", "pending", "Deploy runs"))
    sender.post_missing()
    world.lanes.clock_offset_ms += 4_000
    sender.post_missing()
    assert world.statuses(sha(1))["deployer/Deploy"] == "pending"


def test_while_the_limits_are_short_only_results_and_failures_are_posted(world: Refusing) -> None:
    short = [True]
    made = world.deployer
    sender = DisplaySender(made.outbox, world.host, world.lanes.now, world.lanes.count, lambda _: short[0])
    store(world, build("success"), DisplayChange(sha(1), "deployer", "pending", "runs"))
    store(world, *(DisplayChange(sha(2), name, "failure", "Build failed") for name in (BUILD, "deployer")))
    sender.post_missing()
    assert world.statuses(sha(1)) == {}
    assert world.statuses(sha(2)) == {"deployer": "failure", BUILD: "failure"}
    store(world, DisplayChange(sha(1), "deployer", "success", "is deployed"))
    sender.post_missing()
    assert world.statuses(sha(1)) == {"deployer": "success"}
    short[0] = False
    world.lanes.clock_offset_ms += 61_000
    sender.post_missing()
    assert world.statuses(sha(1)) == {"deployer": "success", BUILD: "success"}


def test_an_old_commit_expires(world: Refusing) -> None:
    world.error = TransientError("GitHub answers 502")
    store(world, build("success"))
    world.post()
    key = f"deployer:{{acme/hello}}:display:{sha(1)}"
    assert 0 < world.redis.ttl(key) <= 7 * 86_400
    world.redis.delete(key)
    world.lanes.clock_offset_ms += 3_600_000
    world.error = None
    world.post()
    assert world.deployer.outbox.unfinished() == []
    assert not world.deployer.outbox.is_due()


def test_many_changes_of_one_place_are_one_entry(world: Refusing) -> None:
    for number in range(50):
        store(world, build("pending", f"step {number}"))
    assert len(world.redis.hgetall(f"deployer:{{acme/hello}}:display:{sha(1)}")) == 2, (
        "the entry, and the version"
    )
    world.post()
    assert world.posted(sha(1)) == ["step 49"]


def test_a_damaged_display_stops_neither_a_deployment_nor_another_commit(world: Refusing) -> None:
    world.redis.set(f"deployer:{{acme/hello}}:display:{sha(1)}", "no hash")
    delivery = world.push(BRANCH, sha(1))
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    world.push(BRANCH, sha(2), before=sha(1))
    world.run()
    assert world.statuses(sha(2)) == GREEN


def test_comments_are_changed_by_the_sender_too(world: Refusing) -> None:
    world.host.create(HELLO)
    world.host.said[HELLO, "issues/1"] = "old"
    store(world, DisplayChange(sha(1), f"{COMMENT}issues/1", "success", "new"))
    world.post()
    assert world.host.said[HELLO, "issues/1"] == "new"


# --- rate limits ---


def test_a_rate_limit_is_no_failed_attempt(world: Refusing) -> None:
    outbox = world.deployer.outbox
    store(world, build("success"))
    world.error = TransientError("GitHub answers 502")
    world.post()
    assert outbox.commit_display(HELLO, sha(1)).failures == 1
    for _ in range(5):
        world.error = ThrottledError("GitHub's rate limit is reached", retry_after=8)
        world.lanes.clock_offset_ms += 11_000
        assert outbox.is_due(), "the pause does not grow"
        world.post()
        assert not outbox.is_due()
        display = outbox.commit_display(HELLO, sha(1))
        assert (display.failures, display.error) == (1, str(world.error)), "earlier failures still count"
    counters = world.lanes.counters()
    assert (counters["display:failed"], counters["display:throttled"]) == (1, 5)
    world.error = None
    world.lanes.clock_offset_ms += 11_000
    world.post()
    assert world.statuses(sha(1)) == {BUILD: "success"}
    assert outbox.commit_display(HELLO, sha(1)).failures == 0


def test_a_write_that_waits_for_its_turn_is_made(world: Refusing, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate limits let each write wait for some seconds; the last one then begins after the end of the call."""
    passed, clock, write = [0.0], time.monotonic, world.host.post_commit_status

    def waiting(*given: Any) -> None:
        passed[0] += 4
        count_call("github")
        write(*given)

    monkeypatch.setattr(time, "monotonic", lambda: clock() + passed[0])
    world.host.post_commit_status = waiting  # type: ignore[method-assign]
    store(world, *(DisplayChange(sha(1), f"deployer/{name}", "success", name) for name in "ABC"))
    world.post()
    assert len(world.statuses(sha(1))) == 2, "a task is short"
    assert world.deployer.outbox.commit_display(HELLO, sha(1)).error == ""
    world.post()
    assert len(world.statuses(sha(1))) == 3


def test_a_result_is_shown_whose_worker_takes_the_next_item_itself(world: Refusing) -> None:
    first = world.lanes.accept(HELLO, Work(environment=DEV.key)).dispatch
    world.lanes.accept(HELLO, Work(environment="staging"))
    assert first is not None
    world.lanes.begin(HELLO, first.token)
    record = EnvironmentRecord(HELLO.full_name, DEV.key, "", display=(build("success"),))
    result = Finished("skipped", "", record)
    taken = world.lanes.finish(HELLO, first.token, result, next_item=NextItem.TAKE)
    assert isinstance(taken, Taken)
    world.post()
    assert world.statuses(sha(1)) == {BUILD: "success"}


# --- any order of changes, senders and failures ---


@dataclass
class _Github:
    """Takes the statuses of one commit, or fails."""

    shown: dict[str, str]
    fails: bool = False

    def post_commit_status(self, _repository: Any, _sha: str, status: Status) -> None:
        if self.fails:
            raise TransientError("GitHub answers 502")
        self.shown[status.context] = status.description


@pytest.mark.parametrize("seed", range(12))
def test_github_shows_what_was_wanted_last_whatever_happens_before(seed: int) -> None:
    chosen = random.Random(seed)  # noqa: S311  a test
    world, github = Refusing(), _Github({})
    sender = DisplaySender(world.deployer.outbox, github, world.lanes.now, world.lanes.count)  # type: ignore[arg-type]
    wanted: dict[str, str] = {}
    for number in range(40):
        match chosen.randrange(4):
            case 0 | 1:
                name, text = f"deployer/{chosen.choice('ABC')}", str(number)
                state = chosen.choice(["pending", "success", "failure"])
                store(world, DisplayChange(sha(1), name, state, text))
                wanted[name] = text
            case 2:
                github.fails = chosen.random() < 0.5
                sender.post_missing()
            case _:
                world.lanes.clock_offset_ms += chosen.randrange(100_000)
    github.fails = False
    for _ in range(3):
        world.lanes.clock_offset_ms += 400_000
        sender.post_missing()
    assert github.shown == wanted
    assert [post for each in world.deployer.outbox.unfinished() for post in missing_posts(each)] == []
