"""Where a new environment goes, and what becomes of it where there is no room."""

from dataclasses import replace
from typing import Any

import pytest

from deployer.environment.cloud_region import RegionCapacity
from deployer.model.environments import Kind
from deployer.model.errors import LaneLostError, PermanentError, QuotaError, TransientError
from deployer.model.targets import Target
from deployer.queue.items import Cause
from tests.doubles import FakeCloud
from tests.doubles.cloud import BY_DEPLOYER
from tests.unit.world import HELLO, TEMPLATE, World, environment, sha

X, Y, MAIN = "refs/heads/x", "refs/heads/y", "refs/heads/main"
HOME, AWAY = "us-east-1", "eu-west-1"


def room(region: str, pipelines: int, limit: int = 1000) -> RegionCapacity:
    return RegionCapacity(region, pipelines, 2000, pipelines, limit, counted_at=1)


@pytest.fixture
def world() -> World:
    """Development has two regions, the first one is fuller."""
    made = World()
    away = FakeCloud(made.cloud.head)
    away.region = AWAY
    made.clouds.clouds[AWAY] = away
    bucket = "artifacts-{region}"
    made.clouds.targets[Kind.DEVELOPMENT] = Target(
        Kind.DEVELOPMENT, regions=(HOME, AWAY), artifact_bucket=bucket
    )
    made.cloud.room_left, away.room_left = room(HOME, 800), room(AWAY, 100)
    return made


@pytest.fixture
def away(world: World) -> FakeCloud:
    return world.clouds.clouds[AWAY]


def settle(world: World) -> None:
    for _ in range(60):
        world.tasks()
        if not world.lanes.lanes():
            return
        world.clouds.clouds[AWAY].advance()
        world.step()
    raise AssertionError(world.lanes.lanes())


def test_a_new_environment_goes_where_there_is_most_room_and_stays(world: World, away: FakeCloud) -> None:
    world.push(X, sha(1))
    settle(world)
    assert away.stack(environment(X).stack_name) is not None
    assert world.record(environment(X)).spec.region == AWAY
    away.room_left = room(AWAY, 999)
    world.push(X, sha(2), sha(1))
    settle(world)
    pipeline = away.pipelines[environment(X).stack_name]
    assert [each.sha for each in pipeline if each.trigger == BY_DEPLOYER] == [sha(1), sha(2)]
    assert world.cloud.stack(environment(X).stack_name) is None
    world.push(Y, sha(3))
    settle(world)
    assert world.cloud.stack(environment(Y).stack_name) is not None
    assert world.statuses(sha(3))["deployer/prepare"] == "success"


def test_it_is_found_again_where_it_is_after_redis_was_lost(world: World, away: FakeCloud) -> None:
    world.push(X, sha(1))
    settle(world)
    away.room_left = room(AWAY, 999)
    world.forget()
    world.deployer.submitter.resync(HELLO)
    settle(world)
    world.push(X, sha(2), sha(1))
    settle(world)
    assert world.cloud.stack(environment(X).stack_name) is None
    assert away.pipelines[environment(X).stack_name][-1].sha == sha(2)
    world.forget()
    world.host.remove(HELLO, X)
    world.deployer.submitter.resync(HELLO)
    settle(world)
    assert away.stack(environment(X).stack_name) is None


@pytest.mark.parametrize("outdated", ["the listing", "the region on record"])
def test_redis_restored_from_an_old_snapshot_has_no_second_stack_created(
    world: World, away: FakeCloud, outdated: str
) -> None:
    name, of = environment(X).stack_name, environment(X)
    world.deployer.inventory.stacks(HELLO, 0)  # kept for an hour
    world.push(X, sha(1))
    settle(world)
    away.room_left = room(AWAY, 999)
    if outdated == "the listing":
        world.redis.hdel(f"deployer:{{{HELLO.key}}}:environments", of.key)
    else:
        world.lanes_note(of, region=HOME)
    world.push(X, sha(2), sha(1))
    settle(world)
    assert world.cloud.stack(name) is None
    assert away.pipelines[name][-1].sha == sha(2)
    assert world.record(of).spec.region == AWAY


def test_what_is_made_anew_goes_to_no_region_that_the_settings_name_no_longer(
    world: World, away: FakeCloud
) -> None:
    world.push(X, sha(1))
    settle(world)
    name = environment(X).stack_name
    made = away.stack(name)
    assert made is not None
    target = world.clouds.targets[Kind.DEVELOPMENT]
    world.clouds.targets[Kind.DEVELOPMENT] = replace(target, regions=(HOME,))
    away.delete_stack(made.arn, "by hand")
    away.settle()
    delivery = world.push(X, sha(2), sha(1))
    settle(world)
    assert world.outcome(delivery)[0] == "deployed"
    assert away.stack(name) is None
    assert world.cloud.stack(name) is not None
    assert world.record(environment(X)).spec.region == HOME


def test_what_stands_in_a_region_that_the_settings_name_no_longer_is_left_and_still_follows_its_branch(
    world: World, away: FakeCloud
) -> None:
    home = world.clouds.targets[Kind.PRODUCTION]
    world.clouds.targets[Kind.PRODUCTION] = replace(home, regions=(AWAY,))
    for number, ref in enumerate((X, MAIN, "refs/tags/v1"), start=1):
        world.push(ref, sha(number), at=1000)
    settle(world)
    world.resync(HELLO)
    for kind in (Kind.DEVELOPMENT, Kind.PRODUCTION):
        world.clouds.targets[kind] = replace(world.clouds.targets[kind], regions=(HOME,))

    world.resync(HELLO)
    assert world.told[-1] == "resynced: nothing to do"
    world.host.push(HELLO, X, sha(4), files={"pipeline.yml": TEMPLATE})  # no webhook told of it
    world.deployer.submitter.resync(HELLO)
    settle(world)
    assert away.pipelines[environment(X).stack_name][-1].sha == sha(4)
    world.resync(HELLO)
    assert world.told[-1] == "resynced: nothing to do"


def test_another_kind_s_account_in_that_region_does_not_tell_of_it(world: World, away: FakeCloud) -> None:
    world.push(X, sha(1))
    settle(world)
    target = world.clouds.targets[Kind.DEVELOPMENT]
    world.clouds.targets[Kind.DEVELOPMENT] = replace(target, regions=(HOME,))
    world.clouds.targets[Kind.PRODUCTION] = Target(Kind.PRODUCTION, regions=(AWAY,))
    away.account = "production's"
    world.resync(HELLO)
    assert world.told[-1] == "resynced: nothing to do"


def test_a_repository_may_narrow_the_regions(world: World) -> None:
    world.push(X, sha(1), files={"deployer.yml": f"regions: [{HOME}]"})
    settle(world)
    assert world.cloud.stack(environment(X).stack_name) is not None
    delivery = world.push(Y, sha(2), files={"deployer.yml": "regions: [ap-south-1]"})
    settle(world)
    outcome, reason = world.outcome(delivery)
    assert outcome == "failed"
    assert "ap-south-1" in reason
    assert HOME in reason


def test_without_room_a_push_waits_and_goes_on_once_there_is_some(world: World, away: FakeCloud) -> None:
    world.cloud.room_left = away.room_left = room(HOME, 995)
    away.room_left = room(AWAY, 995)
    delivery = world.push(X, sha(1))
    world.tasks()
    status = world.host.statuses[HELLO, sha(1)]["deployer"]
    assert status.state == "pending"
    assert (
        "waiting: no room in us-east-1: 995 of 1000 pipelines used at 00:00 UTC, 10 kept"
        in status.description
    )
    assert world.outcome(delivery)[0] == "queued"
    assert world.record(environment(X)).status.state == "waiting"
    world.cloud.room_left = room(HOME, 900)
    for _ in range(20):
        world.step()
    settle(world)
    assert world.outcome(delivery)[0] == "deployed"
    assert "room for 100 more" in " ".join(world.posted(sha(1)))


def test_staging_may_use_what_development_leaves_free(world: World) -> None:
    world.cloud.room_left = room(HOME, 995)
    delivery = world.push(MAIN, sha(1))
    settle(world)
    assert world.outcome(delivery)[0] == "deployed"


def test_what_aws_refuses_for_its_quota_waits_as_well(world: World, away: FakeCloud) -> None:
    away.fail_next(QuotaError("a quota of the AWS account is used up"), method="create_stack")
    delivery = world.push(X, sha(1))
    world.tasks()
    assert world.record(environment(X)).status.state == "waiting"
    for _ in range(20):
        world.step()
    settle(world)
    assert world.outcome(delivery)[0] == "deployed"
    assert world.lanes.dead_letters() == []


def test_what_cannot_be_counted_is_left_to_aws(world: World) -> None:
    world.cloud.fail_next(TransientError("throttled"), method="count_capacity")
    delivery = world.push(X, sha(1))
    settle(world)
    assert world.outcome(delivery)[0] == "deployed"


def test_what_its_pipeline_deployed_is_found_in_whichever_region(world: World, away: FakeCloud) -> None:
    """The pipeline's stack and the ledger are lost."""
    world.push(Y, sha(1))
    settle(world)
    away.add_stack("app", environment(X).tags)
    world.deployer.submitter.resync(HELLO)
    settle(world)
    assert away.stack("app") is None
    assert away.stack(environment(Y).stack_name) is not None
    assert [each.what for each in world.record(environment(X)).status.receipt.removed] == ["stack app"]


def test_a_worker_lost_after_the_order_makes_no_second_stack_elsewhere(world: World, away: FakeCloud) -> None:
    """By the time another goes on, the other region has more room."""
    real = away.create_stack

    def lost(*arguments: Any) -> str:
        real(*arguments)
        away.create_stack = real  # type: ignore[method-assign]
        away.room_left = room(AWAY, 900)
        raise LaneLostError("the lane was handed out again")

    away.create_stack = lost  # type: ignore[method-assign]
    delivery = world.push(X, sha(1))
    settle(world)
    assert world.outcome(delivery)[0] == "deployed"
    assert away.stack(environment(X).stack_name) is not None
    assert world.cloud.stack(environment(X).stack_name) is None


def test_a_refused_template_does_not_choose_the_region_of_the_next(world: World, away: FakeCloud) -> None:
    away.fail_next(PermanentError("it is invalid"), method="create_stack")
    refused = world.push(X, sha(1))
    settle(world)
    assert world.outcome(refused)[0] == "failed"
    away.room_left = room(AWAY, 995)
    delivery = world.push(X, sha(2), sha(1))
    settle(world)
    assert world.outcome(delivery)[0] == "deployed"
    assert away.stack(environment(X).stack_name) is None


def test_who_waits_for_room_is_told_once(world: World, away: FakeCloud) -> None:
    world.push(X, sha(1))
    for number in range(991, 999):
        world.cloud.room_left, away.room_left = room(HOME, number), room(AWAY, number)
        for _ in range(20):
            world.step()
            world.tasks()
    assert len([text for text in world.posted(sha(1)) if "waiting" in text]) == 1


# --- production in two regions ---

PRODUCTION = environment("refs/tags/v1")


@pytest.fixture
def production() -> tuple[World, FakeCloud]:
    """Production may live in either of two regions; v1 lives at home."""
    made = World()
    away = FakeCloud(made.cloud.head)
    away.region = AWAY
    made.clouds.clouds[AWAY] = away
    regions = Target(Kind.PRODUCTION, regions=(HOME, AWAY), artifact_bucket="artifacts-{region}")
    made.clouds.targets[Kind.PRODUCTION] = regions
    return made, away


def move(world: World, away: FakeCloud) -> None:
    """The next production goes to the other region."""
    world.cloud.room_left, away.room_left = room(HOME, 900), room(AWAY, 100)


def test_an_old_ledger_moves_no_production_backwards_in_another_region(
    production: tuple[World, FakeCloud],
) -> None:
    world, away = production
    world.cloud.room_left, away.room_left = room(HOME, 100), room(AWAY, 800)
    world.rules()
    world.push("refs/tags/v1", sha(1), at=1000)
    settle(world)
    backup = world.record(PRODUCTION).but(outcome="", state="running", reason="")  # v1 was under way
    world.teardown(PRODUCTION)
    settle(world)
    move(world, away)
    world.push("refs/tags/v2", sha(2), at=2000)
    settle(world)
    world.deployer.submitter.request_environment(PRODUCTION, cause=Cause.REDEPLOY, ref="refs/tags/v2")
    settle(world)
    key = f"deployer:{{{HELLO.key}}}:environments"
    world.redis.hset(key, PRODUCTION.key, backup.to_json())
    world.deployer.submitter.resync(HELLO)
    settle(world)
    assert away.pipelines[PRODUCTION.stack_name][-1].sha == sha(2)


def test_after_a_loss_production_is_found_though_a_foreign_stack_has_its_name_elsewhere(
    production: tuple[World, FakeCloud],
) -> None:
    world, away = production
    world.rules()
    move(world, away)
    world.push("refs/tags/v1", sha(1), at=1000)
    settle(world)
    assert world.record(PRODUCTION).spec.region == AWAY
    world.host.push(HELLO, "refs/tags/v2", sha(2), files={"pipeline.yml": TEMPLATE}, at=2000)
    world.deployer.submitter.request_environment(
        PRODUCTION, cause=Cause.REDEPLOY, ref="refs/tags/v1", sha=sha(2)
    )
    settle(world)
    world.cloud.add_stack(PRODUCTION.stack_name, {})
    world.forget()
    world.deployer.submitter.resync(HELLO)
    settle(world)
    assert away.pipelines[PRODUCTION.stack_name][-1].sha == sha(2)
    assert world.record(PRODUCTION).spec.region == AWAY
