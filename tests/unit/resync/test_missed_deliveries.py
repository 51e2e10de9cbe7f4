"""Missed deliveries: which are redelivered, which are not, and what is reported about them."""

import time
from dataclasses import replace
from typing import Any

import pytest
from world import HELLO, World, environment, sha

from deployer.github.webhook import parse_delivery
from deployer.model.environments import Repository
from deployer.model.errors import NotFoundError, RightsError, TransientError, UnavailableError
from deployer.model.events import Push
from deployer.model.refs import ZERO_SHA, Ref
from deployer.model.repository_record import RepositoryRecord
from deployer.resync.missed_deliveries import APP, CheckResult, MissedDeliveries
from deployer.views import sentences
from tests.records import know_repository

BRANCH = "refs/heads/x"
HOUR, DAY = 3600.0, 86400.0


@pytest.fixture
def world() -> World:
    made = World()
    made.deployer.config = replace(made.deployer.config, public_url="https://here")
    made.push("refs/heads/main", sha(1))
    made.run()
    made.host.hooks[HELLO.key] = ("https://here/webhooks/github", "", [])
    made.lanes.clock_offset_ms = 0  # the double of GitHub goes by this machine's clock
    know_repository(made.lanes, made.known(HELLO).but(checked_at=0))
    return made


def payload(number: int, pushed_at: float, ref: str = BRANCH) -> dict[str, Any]:
    repository = {"full_name": HELLO.full_name, "default_branch": "main", "pushed_at": pushed_at}
    return {"ref": ref, "before": ZERO_SHA, "after": sha(number), "repository": repository}


def miss(
    world: World,
    guid: str,
    ago: float,
    *,
    event: str = "push",
    ok: bool = False,
    refused: bool = False,
    **more: Any,
) -> None:
    at = time.time() - ago
    world.host.note_delivery(HELLO, guid, event, payload(2, round(at)) | more, at, ok=ok, refused=refused)


def redelivered_guids(world: World) -> list[str]:
    return [each.guid for _, each, _ in world.host.log if time.time() - each.delivered_at < 30]


def test_a_missed_delivery_is_redelivered_once(world: World) -> None:
    miss(world, "lost", HOUR)
    miss(world, "renamed", HOUR, event="repository")

    assert world.deployer.deliveries.check(HELLO) == CheckResult(redelivered=2)
    assert sorted(redelivered_guids(world)) == ["lost", "renamed"]
    assert world.deployer.deliveries.check(HELLO) == CheckResult(recent=2)  # on their way
    assert world.lanes.counters()["missed:redelivered"] == 2
    assert world.known(HELLO).missed["redelivered"] == 2


def test_a_delivery_that_arrived_or_is_of_no_use_is_not_redelivered(world: World) -> None:
    world.deliver(BRANCH, sha(2), delivery="came")  # GitHub did not wait for the answer
    world.run()
    miss(world, "came", HOUR)
    miss(world, "again", 2 * HOUR)
    miss(world, "again", HOUR, ok=True)
    miss(world, "branch made", HOUR, event="create")
    miss(world, "old", 4 * DAY)

    assert world.deployer.deliveries.check(HELLO) == CheckResult()


def test_a_delivery_that_failed_just_now_is_counted_and_left_to_the_next_check(world: World) -> None:
    miss(world, "just-now", 10)
    assert world.deployer.deliveries.check(HELLO) == CheckResult(recent=1)
    assert (world.known(HELLO).recent, world.known(HELLO).missed) == (1, {})
    assert sentences.deliveries_words(world.known(HELLO)).startswith("1 failed just before the last check, ")
    assert redelivered_guids(world) == ["just-now"]  # the first attempt, and no other

    hours_pass(world, 0.1)
    assert world.deployer.deliveries.check(HELLO) == CheckResult(redelivered=1)
    assert world.known(HELLO).recent == 0


def test_a_wrong_secret_is_reported_until_deliveries_are_accepted_again(world: World) -> None:
    miss(world, "one", HOUR, refused=True)
    miss(world, "two", HOUR)
    miss(world, "just-now", 10, refused=True)
    assert world.deployer.deliveries.check(HELLO) == CheckResult(redelivered=2, recent=1, refused=2)
    words = "2 had a wrong signature: the webhook's secret is not that of DEPLOYER_GITHUB_WEBHOOK_SECRET"
    assert words in sentences.deliveries_words(world.known(HELLO))
    (warning,) = sentences.repository_warnings([world.known(HELLO)])
    assert words in warning

    hours_pass(world, 1)
    for guid in ("one", "two", "just-now"):
        miss(world, guid, 0, ok=True)
    world.deployer.deliveries.check(HELLO)
    assert world.known(HELLO).refused == 0
    assert "signature" not in sentences.deliveries_words(world.known(HELLO))


def test_only_the_newest_push_of_a_ref_is_redelivered(world: World) -> None:
    miss(world, "first", 3 * HOUR)
    miss(world, "second", 2 * HOUR)
    miss(world, "other", 4 * HOUR, ref="refs/heads/y")

    assert world.deployer.deliveries.check(HELLO) == CheckResult(redelivered=2, superseded=1)
    assert sorted(redelivered_guids(world)) == ["other", "second"]
    assert world.outcome("first")[0] == "superseded"


def test_a_push_superseded_by_a_later_push_is_not_redelivered(world: World) -> None:
    miss(world, "lost", HOUR)
    world.push(BRANCH, sha(3))
    world.run()
    world.lanes_note(environment(BRANCH), pushed_at=time.time())

    assert world.deployer.deliveries.check(HELLO) == CheckResult(superseded=1)
    assert world.outcome("lost")[0] == "superseded"
    (line,) = [line for line in world.lanes.activity(HELLO) if line.goal == "lost"]
    assert (line.outcome, line.environment, line.ref) == ("superseded", environment(BRANCH).key, BRANCH)


def test_a_skipped_push_supersedes_no_other(world: World) -> None:
    miss(world, "wanted", 3 * HOUR)
    miss(world, "skipped", 2 * HOUR, head_commit={"message": "notes [skip ci]"})

    assert world.deployer.deliveries.check(HELLO) == CheckResult(redelivered=2)


def test_a_deleted_tag_supersedes_no_other(world: World) -> None:
    miss(world, "v1", 3 * HOUR, ref="refs/tags/v1")
    miss(world, "v0-deleted", 2 * HOUR, ref="refs/tags/v0", after=ZERO_SHA)

    assert world.deployer.deliveries.check(HELLO) == CheckResult(redelivered=2)


def test_a_delivery_with_many_failed_attempts_is_left_to_the_resync(world: World) -> None:
    for ago in range(6, 0, -1):
        miss(world, "hopeless", ago * HOUR)

    assert world.deployer.deliveries.check(HELLO) == CheckResult(left=1)
    assert redelivered_guids(world) == []


def test_a_delivery_that_always_fails_is_redelivered_five_times_then_reported_once(world: World) -> None:
    miss(world, "hopeless", HOUR)
    looks = []
    for _ in range(20):
        looks.append(world.deployer.deliveries.check(HELLO))
        hours_pass(world, 6)

    assert looks == [CheckResult(redelivered=1)] * 5 + [CheckResult(left=1)] + [CheckResult()] * 14


def hours_pass(world: World, hours: float) -> None:
    world.host.log[:] = [
        (owner, replace(each, delivered_at=each.delivered_at - hours * HOUR), payload)
        for owner, each, payload in world.host.log
    ]
    known = world.known(HELLO)
    ago = {name: getattr(known, name) - hours * HOUR for name in ("checked_at", "failed_at")}
    know_repository(world.lanes, known.but(**ago))


def test_deliveries_beyond_the_limit_are_left_to_the_resync(world: World) -> None:
    for number in range(105):
        miss(world, f"d-{number}", HOUR + number, event="public")

    assert world.deployer.deliveries.check(HELLO) == CheckResult(redelivered=100, left=5)


def test_a_missing_right_is_recorded_and_the_resync_continues(world: World) -> None:
    world.host.hook_rights = False
    miss(world, "lost", HOUR)
    with pytest.raises(RightsError):
        world.deployer.deliveries.check(HELLO)
    assert "webhooks: read" in world.known(HELLO).unchecked

    know_repository(world.lanes, world.known(HELLO).but(checked_at=0))
    world.resync(HELLO)
    assert world.told[-1] == "resynced: nothing to do"


def test_without_a_webhook_the_error_says_so(world: World) -> None:
    del world.host.hooks[HELLO.key]
    with pytest.raises(NotFoundError, match="no webhook"):
        world.deployer.deliveries.check(HELLO)


@pytest.mark.parametrize(
    "url",
    ["https://other/webhooks/github", "https://here/x/webhooks/github", "https://here/webhooks/github/"],
)
def test_a_webhook_at_another_address_is_not_read(world: World, url: str) -> None:
    world.host.hooks[HELLO.key] = (url, "", [])
    miss(world, "lost", HOUR)
    with pytest.raises(NotFoundError):
        world.deployer.deliveries.check(HELLO)
    assert redelivered_guids(world) == []
    assert "no webhook" in world.known(HELLO).unchecked


def test_the_organizations_webhook_is_checked_if_the_repository_has_none(world: World) -> None:
    world.host.organization_hooks[HELLO.owner] = world.host.hooks.pop(HELLO.key)
    miss(world, "lost", HOUR)
    assert world.deployer.deliveries.check(HELLO) == CheckResult(redelivered=1)
    assert redelivered_guids(world) == ["lost"]


def organization_webhook(world: World) -> tuple[Repository, dict[str, Any]]:
    """Let the organization have the only webhook; returns another repository that it tells of, and its payload."""
    world.host.organization_hooks[HELLO.owner] = world.host.hooks.pop(HELLO.key)
    other = Repository(HELLO.owner, "other")
    identity = world.host.create(other).id
    world.deployer.submitter.submit_github(
        Push("earlier", other, Ref("refs/heads/main"), ZERO_SHA, sha(1), "main")
    )
    know_repository(world.lanes, RepositoryRecord(other.full_name, id=identity))
    pushed = payload(3, round(time.time() - HOUR))
    pushed["repository"] |= {"full_name": other.full_name}
    return other, pushed


def test_an_organizations_log_is_read_once_for_all_its_repositories(world: World) -> None:
    other, pushed = organization_webhook(world)
    miss(world, "lost", HOUR)
    world.host.note_delivery(other, "of-other", "push", pushed, time.time() - HOUR)
    unknown = Repository(HELLO.owner, "never-deployed")
    world.host.create(unknown)
    world.host.note_delivery(unknown, "of-nobody", "push", pushed, time.time() - HOUR)

    world.deployer.deliveries.check_if_due(HELLO)
    assert sorted(redelivered_guids(world)) == ["lost", "of-other"]
    reads = len(world.host.called("deliveries"))
    world.deployer.deliveries.check_if_due(other)
    assert len(world.host.called("deliveries")) == reads
    assert world.known(other).checked_at == world.known(HELLO).checked_at > 0

    hours_pass(world, 7)  # of HELLO alone
    world.deployer.deliveries.check_if_due(HELLO)
    assert len(world.host.called("deliveries")) == reads, "the organization's log is not due"


def test_an_organizations_unreadable_log_is_not_read_again_at_once(world: World) -> None:
    other, _ = organization_webhook(world)
    world.host.fail_next(TransientError("GitHub answers 500"), method="deliveries")
    for repository in (HELLO, other, HELLO):
        world.deployer.deliveries.check_if_due(repository)
    assert len(world.host.called("deliveries")) == 1
    assert (world.known(HELLO).checked_at, world.known(other).checked_at) == (0, 0)


def test_a_repository_with_a_webhook_of_its_own_has_its_own_log(world: World) -> None:
    other, _ = organization_webhook(world)
    world.host.hooks[other.key] = world.host.organization_hooks[HELLO.owner]
    for repository in (HELLO, other):
        world.deployer.deliveries.check_if_due(repository)
    assert [each[0] for each in world.host.called("deliveries")] == [HELLO, other]


def test_without_a_public_url_deployer_reads_no_log(world: World) -> None:
    allows = world.deployer.config.allows
    miss(world, "lost", HOUR)
    with pytest.raises(NotFoundError):
        MissedDeliveries(world.host, world.lanes, parse=parse_delivery, allows=allows, webhook_url="").check(
            HELLO
        )
    assert redelivered_guids(world) == []


def test_a_resync_checks_the_log_at_intervals(world: World) -> None:
    miss(world, "lost", HOUR)
    world.resync(HELLO)
    assert redelivered_guids(world) == ["lost"]

    miss(world, "lost later", HOUR)
    world.resync(HELLO)
    assert redelivered_guids(world) == ["lost"]  # it is not due


def test_an_unreadable_delivery_does_not_stop_the_others(world: World) -> None:
    miss(world, "good", 2 * HOUR)
    miss(world, "bad", HOUR, ref="refs/heads/y")  # the newest goes first
    world.host.fail_next(TransientError("GitHub's answer makes no sense"), method="payload")

    assert world.deployer.deliveries.check(HELLO) == CheckResult(redelivered=1, left=1)
    assert redelivered_guids(world) == ["good"]
    assert world.known(HELLO).missed["left"] == 1


@pytest.mark.parametrize(
    "error", [TransientError("GitHub's limit is used up", retry_after=60), UnavailableError("Redis is away")]
)
def test_a_failure_that_affects_all_deliveries_leaves_them_to_the_next_check(
    world: World, error: TransientError
) -> None:
    miss(world, "first", HOUR)
    miss(world, "second", 2 * HOUR, ref="refs/heads/y")
    world.host.fail_next(error, method="redeliver")

    with pytest.raises(type(error)):
        world.deployer.deliveries.check(HELLO)
    assert world.deployer.deliveries.check(HELLO) == CheckResult(redelivered=2)


def test_a_log_that_cannot_be_read_is_not_read_at_each_resync(world: World) -> None:
    miss(world, "lost", HOUR)
    world.host.fail_next(TransientError("GitHub answers 500"), method="deliveries")
    for _ in range(3):
        world.resync(HELLO)
    assert (len(world.host.called("deliveries")), world.known(HELLO).checked_at) == (1, 0)

    hours_pass(world, 0.2)
    world.resync(HELLO)
    assert redelivered_guids(world) == ["lost"]


def test_an_app_has_one_webhook_for_all(world: World) -> None:
    world.host.is_app = True
    miss(world, "lost", HOUR)

    assert world.deployer.deliveries.check(HELLO) == CheckResult(redelivered=1)
    known = world.lanes.repository(APP)
    assert known is not None
    assert known.missed["redelivered"] == 1


def test_a_push_of_a_repository_that_is_not_served_is_not_redelivered(world: World) -> None:
    world.host.is_app = True
    foreign = {"full_name": "else/where", "default_branch": "main"}
    for guid, ago in (("first", 3 * HOUR), ("second", 2 * HOUR)):
        miss(world, guid, ago, repository=foreign | {"pushed_at": round(time.time() - ago)})
    miss(world, "ours", HOUR)

    assert world.deployer.deliveries.check(HELLO) == CheckResult(redelivered=1)
    assert redelivered_guids(world) == ["ours"]
    assert world.lanes.repositories() == [HELLO]
    assert world.lanes.delivery("first") is None


def test_only_one_of_several_workers_checks_a_log_at_a_time(world: World) -> None:
    world.host.is_app = True
    miss(world, "lost", HOUR)
    log, others = world.host.deliveries, ["acme/one", "acme/two"]

    def slow(*arguments: Any) -> Any:
        found = log(*arguments)
        if others:  # another worker's resync begins meanwhile
            world.deployer.deliveries.check_if_due(Repository.parse(others.pop()))
        return found

    world.host.deliveries = slow  # type: ignore[method-assign]
    world.host.fail_next(TransientError("GitHub is away"), method="deliveries")
    world.deployer.deliveries.check_if_due(HELLO)  # in vain
    know_repository(world.lanes, RepositoryRecord(APP.full_name))  # some time passes
    for _ in range(2):
        world.deployer.deliveries.check_if_due(HELLO)
    assert redelivered_guids(world) == ["lost"]
    assert world.lanes.counters()["missed:redelivered"] == 1
