"""Stacks that an earlier release named: they are kept until they are made again, and nobody else's is taken for one."""

from dataclasses import replace

import pytest

from deployer.model.environments import Kind
from deployer.model.errors import TransientError
from deployer.model.events import CloudEvent
from deployer.model.targets import Target
from deployer.views.derived_values import environment_id
from tests.doubles import FakeCloud
from tests.unit.identities import TWINS, former_release
from tests.unit.world import HELLO, TEMPLATE, World, environment, sha
from workers.scheduler import Scheduler

X, MAIN, TAG = "refs/heads/x", "refs/heads/main", "refs/tags/v1"
ENV = environment(X)
KINDS = [X, MAIN, TAG]
AWAY = "eu-west-1"


@pytest.fixture
def world() -> World:
    return World()


def deploy(world: World, ref: str, number: int = 1, template: str = TEMPLATE) -> str:
    if ref == TAG:  # a tag is of the default branch
        world.host.push(HELLO, MAIN, sha(number), files={"pipeline.yml": template})
    delivery = world.push(ref, sha(number), sha(number - 1), template)
    world.run()
    return delivery


def deploy_by_former_release(world: World, ref: str) -> str:
    with former_release():
        deploy(world, ref)
    return environment(ref).former_stack_name


def names(world: World, ref: str = X) -> set[str]:
    """The names of an environment's stacks."""
    return {stack.name for stack in world.cloud.stacks() if environment(ref).owns(stack.tags)}


def parameter(world: World, name: str) -> str:
    release = world.cloud.release(name)
    assert release is not None
    return release.parameters["PipelineName"]


@pytest.mark.parametrize("ref", KINDS)
def test_a_stack_with_a_former_name_is_updated_and_not_made_twice(world: World, ref: str) -> None:
    name = deploy_by_former_release(world, ref)
    assert names(world, ref) == {name}
    delivery = deploy(world, ref, 2, TEMPLATE.replace("hi", "hello"))
    assert world.outcome(delivery)[0] == "deployed"
    assert names(world, ref) == {name}
    assert len(world.cloud.called("update_stack")) == 1
    assert parameter(world, name) == name
    assert world.cloud.pipelines[name][-1].sha == sha(2)


@pytest.mark.parametrize("how", ["resync", "push"])
@pytest.mark.parametrize("ref", KINDS)
def test_a_stack_with_a_former_name_is_found_after_redis_was_lost(world: World, ref: str, how: str) -> None:
    name = deploy_by_former_release(world, ref)
    world.forget()
    if how == "push":
        deploy(world, ref, 2)
    else:
        world.resync(HELLO)
    assert names(world, ref) == {name}
    record = world.record(environment(ref))
    assert (record.stack_name, record.status.outcome) == (name, "deployed")


def test_a_new_environment_has_its_present_name_and_is_looked_for_by_it_alone(world: World) -> None:
    deploy(world, X)
    assert names(world) == {ENV.stack_name}
    assert parameter(world, ENV.stack_name) == ENV.stack_name
    assert (ENV.former_stack_name,) not in world.cloud.called("stack")
    listed = len(world.cloud.called("stacks"))
    deploy(world, "refs/heads/y", 2)
    assert len(world.cloud.called("stacks")) == listed, "a listing does for all that is new within the hour"


@pytest.mark.parametrize("tags", [{}, environment("refs/heads/y").tags, {"deployer:managed": "true"}])
@pytest.mark.parametrize("ref", KINDS)
def test_a_stack_of_somebody_else_with_the_former_name_captures_nothing(
    world: World, ref: str, tags: dict[str, str]
) -> None:
    of = environment(ref)
    world.cloud.add_stack(of.former_stack_name, tags)
    delivery = deploy(world, ref)
    assert world.outcome(delivery)[0] == "deployed"
    assert world.record(of).stack_name == of.stack_name
    assert world.cloud.holds(of.stack_name)
    assert world.cloud.stack(of.former_stack_name).tags == tags  # type: ignore[union-attr]


@pytest.mark.parametrize("with_squatter", [True, False])
def test_a_stack_on_record_that_is_gone_is_made_again_with_its_present_name(
    world: World, *, with_squatter: bool
) -> None:
    name = deploy_by_former_release(world, X)
    world.cloud.remove(name)
    if with_squatter:
        world.cloud.add_stack(name, {"team": "other"})
    delivery = deploy(world, X, 2)
    assert world.outcome(delivery)[0] == "deployed"
    assert world.record(ENV).stack_name == ENV.stack_name
    assert world.cloud.holds(ENV.stack_name)
    assert world.cloud.holds(name) is with_squatter


def test_a_stack_of_somebody_else_with_the_present_name_is_reported_and_left(world: World) -> None:
    name = deploy_by_former_release(world, X)
    world.cloud.remove(name)
    world.cloud.add_stack(ENV.stack_name, {})
    delivery = deploy(world, X, 2)
    outcome, reason = world.outcome(delivery)
    assert outcome == "failed"
    assert f"{ENV.stack_name} exists without deployer's tags" in reason
    assert not world.cloud.called("update_stack")


@pytest.mark.parametrize("lost", [True, False])
def test_a_teardown_deletes_the_former_name_and_what_comes_next_has_the_present_one(
    world: World, *, lost: bool
) -> None:
    name = deploy_by_former_release(world, X)
    world.cloud.applications[name] = [f"{name}-app"]
    deploy(world, X, 2)
    assert world.cloud.holds(f"{name}-app")
    if lost:
        world.forget()
    delivery = world.remove(X, sha(2))
    world.run()
    assert world.outcome(delivery)[0] == "deleted"
    assert names(world) == set()
    assert [each.what for each in world.record(ENV).status.receipt.removed] == [
        f"stack {name}-app", f"stack {name}",
    ]  # fmt: skip
    deploy(world, X, 3)
    assert names(world) == {ENV.stack_name}


def test_a_failed_creation_with_the_former_name_is_made_again_with_the_present_one(world: World) -> None:
    world.cloud.fail_next_create("no right")
    name = deploy_by_former_release(world, X)
    assert world.cloud.stack(name).status == "ROLLBACK_COMPLETE"  # type: ignore[union-attr]
    delivery = deploy(world, X, 2)
    assert world.outcome(delivery)[0] == "deployed"
    assert names(world) == {ENV.stack_name}


def test_a_resync_deletes_what_has_a_former_name_and_no_branch_any_more(world: World) -> None:
    name = deploy_by_former_release(world, X)
    world.host.remove(HELLO, X)
    world.forget()
    world.resync(HELLO)
    assert not world.cloud.holds(name)


def test_a_task_that_died_while_aws_was_away_leaves_no_name_on_record(world: World) -> None:
    name = deploy_by_former_release(world, X)
    world.forget()
    world.cloud.fail_next(TransientError("AWS is away"), times=30)
    deploy(world, X, 2)
    (letter,) = world.lanes.dead_letters()
    world.cloud.clear_failures()
    world.deployer.submitter.replay(letter.id)
    world.run()
    assert names(world) == {name}
    assert world.record(ENV).status.outcome == "deployed"


def test_a_push_that_was_refused_leaves_no_name_on_record(world: World) -> None:
    name = deploy_by_former_release(world, TAG)
    world.forget()
    world.host.change(HELLO, archived=True)
    world.resync(HELLO)
    deploy(world, TAG, 2)
    world.host.change(HELLO, archived=False)
    deploy(world, TAG, 3)
    assert names(world, TAG) == {name}


@pytest.mark.parametrize("known", [True, False])
def test_a_former_name_is_found_in_whatever_region_it_is(world: World, *, known: bool) -> None:
    target = Target(Kind.DEVELOPMENT, regions=("us-east-1", AWAY), artifact_bucket="b-{region}")
    home = world.clouds.targets[Kind.DEVELOPMENT]
    away = FakeCloud(world.cloud.head)
    away.region = world.cloud.region = AWAY
    world.clouds.clouds = {AWAY: world.cloud}
    world.clouds.targets = {kind: replace(home, kind=kind, regions=(AWAY,)) for kind in Kind}
    name = deploy_by_former_release(world, X)
    away.region = "us-east-1"
    world.clouds.clouds["us-east-1"] = away
    world.clouds.targets[Kind.DEVELOPMENT] = target
    world.lanes_note(ENV, region="")
    world.deployer.inventory.forget()  # a listing is kept for an hour
    if not known:
        world.forget()
    delivery = deploy(world, X, 2)
    assert world.outcome(delivery)[0] == "deployed"
    record = world.record(ENV)
    assert (record.spec.region, record.stack_name) == (AWAY, name)
    assert not list(away.stacks())


# --- events ---------------------------------------------------------------------------------------------------------


def tell(world: World, name: str, **where: str) -> tuple[str, str]:
    answer = world.deployer.submitter.submit_aws(
        CloudEvent(f"e-{name}-{where}", name, "stage Build: FAILED", "e", **where)
    )
    return answer.outcome, answer.reason


def test_two_branches_that_share_a_former_name_have_stacks_and_events_of_their_own(world: World) -> None:
    one, other = (environment(f"refs/heads/{each}") for each in TWINS)
    assert one.former_stack_name == other.former_stack_name
    name = deploy_by_former_release(world, f"refs/heads/{TWINS[0]}")
    before = world.cloud.release(name)
    delivery = deploy(world, f"refs/heads/{TWINS[1]}", 2)
    assert world.outcome(delivery)[0] == "deployed"
    assert (names(world, one.branch.name), names(world, other.branch.name)) == ({name}, {other.stack_name})
    assert world.cloud.release(name) == before
    assert world.lanes.find(name) == one
    world.forget()
    deploy(world, f"refs/heads/{TWINS[1]}", 3)  # the attacker comes first
    outcome, reason = tell(world, name)
    assert outcome == "ignored"
    assert f"{name} is not the stack of {other}" in reason
    world.resync(HELLO)
    assert world.lanes.find(name) == one
    assert tell(world, name, account="123456789012")[0] == "queued"


@pytest.mark.parametrize(
    ("where", "outcome"),
    [
        ({}, "queued"),
        ({"account": "123456789012", "region": "us-east-1"}, "queued"),
        ({"account": "999999999999", "region": "us-east-1"}, "ignored"),
        ({"account": "123456789012", "region": "eu-west-1"}, "ignored"),
    ],
)
def test_an_event_is_of_an_environment_by_account_region_and_name(
    world: World, where: dict[str, str], outcome: str
) -> None:
    deploy(world, X)
    told, reason = tell(world, ENV.stack_name, **where)
    assert told == outcome
    if outcome == "ignored":
        assert "is not the stack of acme/hello x, which is in" in reason
        assert not world.lanes.lanes(), "nothing waits"


def test_an_event_of_an_environment_of_which_nothing_more_is_known_is_taken_by_its_name(world: World) -> None:
    deploy(world, X)
    world.lanes_note(ENV, stack_arn="", region="", stack_name="")
    assert tell(world, ENV.stack_name, account="999999999999", region="eu-west-1")[0] == "queued"


def test_an_event_of_a_name_that_is_no_longer_in_use_is_ignored(world: World) -> None:
    name = deploy_by_former_release(world, X)
    assert tell(world, name)[0] == "queued"
    world.remove(X, sha(1))
    world.run()
    outcome, reason = tell(world, name, account="123456789012")
    assert (outcome, ENV.stack_name in reason) == ("ignored", True)


@pytest.mark.parametrize("ours", [True, False])
def test_what_runs_in_a_pipeline_of_somebody_else_with_our_name_is_not_believed(
    world: World, *, ours: bool
) -> None:
    deploy(world, X)
    before = world.record(ENV)
    if not ours:
        world.cloud.remove(ENV.stack_name)
        world.cloud.add_stack(ENV.stack_name, {"team": "other"})
        world.cloud.pipelines[ENV.stack_name] = []
    world.cloud.fail_next_execution("theirs")
    world.host.push(HELLO, "refs/heads/other", sha(7), files={})
    world.cloud.start(ENV.stack_name, sha(7), "somebody")
    delivery = world.event(ENV)
    world.run()
    after = world.record(ENV)
    assert world.outcome(delivery)[0] == "skipped"
    assert bool(after.status.pipeline.foreign) is ours
    assert (after.status.outcome, after.status.pipeline.reported) == (
        before.status.outcome,
        before.status.pipeline.reported,
    )
    assert not world.host.statuses.get((HELLO, sha(7)))


# --- an upgrade -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ref", KINDS)
def test_links_lead_to_environments_of_an_earlier_release(world: World, ref: str) -> None:
    name, of = deploy_by_former_release(world, ref), environment(ref)
    assert world.lanes.find(of.stack_name) is None
    Scheduler(world.deployer).run_due_jobs()
    record = world.record(of)
    assert world.lanes.find(environment_id(record.repository, record.environment)) == of
    assert world.lanes.find(name) == of


def test_an_upgrade_leaves_a_shared_former_name_to_whoever_has_it(world: World) -> None:
    one, other = (environment(f"refs/heads/{each}") for each in TWINS)
    name = deploy_by_former_release(world, one.branch.name)  # type: ignore[union-attr]
    deploy(world, other.branch.name, 2)  # type: ignore[union-attr]
    Scheduler(world.deployer).run_due_jobs()
    assert [world.lanes.find(each) for each in (name, one.stack_name, other.stack_name)] == [one, one, other]


def test_the_stages_of_a_pipeline_with_a_former_name_are_shown_before_they_run(world: World) -> None:
    name = deploy_by_former_release(world, X)
    world.push(X, sha(2), sha(1))
    world.tasks()
    assert world.record(ENV).stack_name == name
    assert [(each.name, each.status) for each in world.record(ENV).status.pipeline.stages][1:] == [
        ("Build", "pending"), ("Deploy", "pending"),
    ]  # fmt: skip
