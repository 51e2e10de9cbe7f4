"""Executions that deployer did not start: reported as what they are, and never as its deployment."""

from dataclasses import replace

import pytest

from deployer.environment.cloud_region import Execution
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.execution_trigger import Starter, Trigger
from deployer.model.targets import STOP
from deployer.queue.items import Cause
from tests.doubles.cloud import BY_ADA, BY_DEPLOYER
from tests.unit.world import HELLO, World, environment, sha

MAIN, X, V1, V2 = "refs/heads/main", "refs/heads/x", "refs/tags/v1", "refs/tags/v2"
PRODUCTION = environment(V1)
CONTEXT = "deployer/foreign-execution"
TRIGGERS = [
    BY_ADA,
    BY_DEPLOYER,  # with deployer's role, but not by deployer
    Trigger(type="WebhookV2", detail="arn:aws:codeconnections:us-east-1:123456789012:connection/1"),
    Trigger(type="PollForSourceChanges", detail="Source"),
    Trigger(type="CloudWatchEvent", detail="arn:aws:events:us-east-1:123456789012:rule/nightly"),
    Trigger(type="ManualRollback", detail="arn:aws:iam::123456789012:user/ada"),
    Trigger(type="AutomatedRollback", detail="execution-3"),
]


@pytest.fixture
def world() -> World:
    return World()


def deploy(world: World, ref: str = X, number: int = 1) -> Environment:
    """Push a commit, wait for its deployment."""
    if ref.startswith("refs/tags/"):
        world.push(MAIN, sha(number))
        world.run()
    world.push(ref, sha(number))
    world.run()
    assert world.record(environment(ref)).status.outcome == "deployed"
    return environment(ref)


def foreign(record: EnvironmentRecord) -> list[tuple[str, str]]:
    return [(each.sha, each.status) for each in record.status.pipeline.foreign]


def automatic(world: World, place: Environment) -> list[str]:
    """The ends of the executions that the creation of the pipeline started."""
    every = world.cloud.pipelines[place.stack_name]
    return [each.status for each in every if each.trigger.starter is Starter.CREATION]


def test_the_execution_that_the_creation_starts_is_stopped_and_never_the_deployment(world: World) -> None:
    place = deploy(world)
    record = world.record(place)
    own = world.cloud.pipelines[place.stack_name][-1]
    assert own.trigger == BY_DEPLOYER
    assert (record.status.pipeline.execution, record.status.pipeline.reported) == (own.id, own.id)
    assert automatic(world, place) == ["stopped"]
    assert world.built(place) == [(sha(1), "succeeded")]
    assert foreign(record) == []
    assert CONTEXT not in world.statuses(sha(1))


def test_what_the_creation_starts_is_no_deployment_although_it_succeeded_at_the_tag(world: World) -> None:
    world.push(MAIN, sha(1))
    world.run()
    listed = world.cloud.executions

    def list_late(pipeline: str, repository: Repository | None = None) -> list[Execution]:
        if pipeline == PRODUCTION.stack_name and not world.cloud.called("start")[1:]:
            world.cloud.settle()
            world.cloud.fail_next_execution("no capacity")
        return listed(pipeline, repository)

    world.cloud.executions = list_late  # type: ignore[method-assign]
    world.push(V1, sha(1))
    world.run()
    record = world.record(PRODUCTION)
    assert automatic(world, PRODUCTION) == ["succeeded"]
    assert world.built(PRODUCTION) == [(sha(1), "failed")]
    assert (record.status.outcome, record.spec.commit) == ("failed", sha(1))


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda each: each.type)
@pytest.mark.parametrize("ref", [X, V1])
def test_an_execution_of_somebody_else_is_reported_as_what_it_is(
    world: World, trigger: Trigger, ref: str
) -> None:
    place = deploy(world, ref)
    before = world.record(place)
    world.cloud.start_foreign(place.stack_name, sha(7), trigger)
    world.cloud.advance()
    delivery = world.event(place)
    world.run()
    record = world.record(place)
    assert foreign(record) == [(sha(7), "running")]
    outcome, reason = world.outcome(delivery)
    assert outcome == "skipped"
    assert trigger.words in reason
    assert sha(7)[:12] in reason
    assert world.statuses(sha(1))[CONTEXT] == "error"
    assert trigger.words in world.posted(sha(1))[-1]
    world.cloud.settle()
    world.event(place)
    world.run()
    record = world.record(place)
    assert foreign(record) == [(sha(7), "succeeded")]
    assert record.status.state == before.status.state == "deployed"
    assert record.spec.commit == sha(1)
    assert record.status.pipeline.execution == before.status.pipeline.execution
    assert record.status.pipeline.stages == before.status.pipeline.stages
    assert (HELLO, sha(7)) not in world.host.statuses


def test_an_execution_of_the_same_commit_is_not_the_deployment_either(world: World) -> None:
    world.push(MAIN, sha(1))
    world.run()
    world.push(V1, sha(1))
    world.cloud.fail_next_execution("no capacity", stage="Deploy")
    world.run()
    before = world.record(PRODUCTION)
    assert before.status.outcome == "failed"
    world.cloud.start_foreign(PRODUCTION.stack_name, sha(1))
    world.cloud.settle()
    world.event(PRODUCTION)
    world.run()
    record = world.record(PRODUCTION)
    assert (record.status.outcome, record.status.reason) == ("failed", before.status.reason)
    assert foreign(record) == [(sha(1), "succeeded")]


def test_a_resync_reports_a_foreign_execution_and_starts_nothing(world: World) -> None:
    place = deploy(world)
    world.cloud.start_foreign(place.stack_name, sha(7))
    world.cloud.settle()
    world.deployer.submitter.request_environment(place, cause=Cause.RESYNC)
    world.run()
    assert foreign(world.record(place)) == [(sha(7), "succeeded")]
    assert world.record(place).spec.commit == sha(1)
    assert len(world.cloud.called("start")) == 1


def test_a_redeploy_ends_the_report(world: World) -> None:
    place = deploy(world)
    world.cloud.start_foreign(place.stack_name, sha(7))
    world.cloud.settle()
    world.event(place)
    world.run()
    assert world.statuses(sha(1))[CONTEXT] == "error"
    world.redeploy(place)
    world.run()
    assert foreign(world.record(place)) == []
    assert world.statuses(sha(1))[CONTEXT] == "success"
    assert world.built(place) == [(sha(1), "succeeded"), (sha(7), "succeeded"), (sha(1), "succeeded")]


def test_what_a_commit_shows_of_others_ends_once_deployer_deploys_another_one(world: World) -> None:
    place = deploy(world)
    world.cloud.start_foreign(place.stack_name, sha(7))
    world.cloud.advance()
    for _ in range(2):
        world.event(place)
        world.run()
    assert world.statuses(sha(1))[CONTEXT] == "error"
    assert len([text for text in world.posted(sha(1)) if "is running" in text]) == 1
    world.push(X, sha(2), sha(1))
    world.run()
    assert world.statuses(sha(1))[CONTEXT] == "success"
    assert "deployer has deployed since" in world.posted(sha(1))[-1]


def test_a_commit_shows_an_execution_of_others_in_any_of_its_environments(world: World) -> None:
    branch, production = deploy(world), deploy(world, V1)
    for place in (branch, production):
        world.cloud.start_foreign(place.stack_name, sha(7))
        world.cloud.settle()
        world.event(place)
        world.run()
    world.redeploy(branch)
    world.run()
    assert world.statuses(sha(1))[CONTEXT] == "error"
    world.redeploy(production)
    world.run()
    assert world.statuses(sha(1))[CONTEXT] == "success"


def test_an_execution_that_a_foreign_one_supersedes_has_failed(world: World) -> None:
    place = deploy(world)
    delivery = world.push(X, sha(2), sha(1))
    world.tasks()
    own = world.record(place).status.pipeline.execution
    world.cloud.start_foreign(place.stack_name, sha(7))
    world.cloud.supersede(place.stack_name, own)
    world.run()
    outcome, reason = world.outcome(delivery)
    assert outcome == "failed"
    assert "user/ada started it" in reason
    assert "redeploy" in reason
    assert world.record(place).status.state == "failed"


def test_a_target_may_have_foreign_executions_stopped(world: World) -> None:
    place = deploy(world)
    target = world.clouds.targets[Kind.DEVELOPMENT]
    world.clouds.targets[Kind.DEVELOPMENT] = replace(target, foreign_executions=STOP)
    world.cloud.start_foreign(place.stack_name, sha(7))
    world.cloud.advance()
    world.event(place)
    world.run()
    world.event(place)
    world.run()
    assert world.built(place) == [(sha(1), "succeeded"), (sha(7), "stopped")]
    assert foreign(world.record(place)) == [(sha(7), "stopped")]
    assert "was stopped by deployer" in world.posted(sha(1))[-1]
    world.push(X, sha(2), sha(1))
    world.run()
    assert world.built(place)[-1] == (sha(2), "succeeded")


def test_a_stack_that_is_not_deployers_any_more_has_no_foreign_executions(world: World) -> None:
    place = deploy(world)
    world.cloud._live[place.stack_name].tags = environment("refs/heads/y").tags
    world.clouds.targets[Kind.DEVELOPMENT] = replace(
        world.clouds.targets[Kind.DEVELOPMENT], foreign_executions=STOP
    )
    world.cloud.start_foreign(place.stack_name, sha(7))
    world.event(place)
    world.run()
    assert foreign(world.record(place)) == []
    assert world.cloud.called("stop")[1:] == []
    assert world.built(place)[-1] == (sha(7), "running")


def test_after_redis_was_lost_the_execution_that_names_deployers_role_is_deployers(world: World) -> None:
    for ref in (X, V1):
        place = deploy(world, ref)
        own = world.record(place).status.pipeline.execution
        world.cloud.start_foreign(place.stack_name, sha(7))
        world.cloud.settle()
        starts = len(world.cloud.called("start"))
        world.forget()
        world.resync(HELLO)
        record = world.record(place)
        assert (record.spec.commit, record.status.pipeline.execution) == (sha(1), own)
        assert foreign(record) == [(sha(7), "succeeded")]
        assert len(world.cloud.called("start")) == starts


def test_after_redis_was_lost_nothing_but_deployers_executions_is_adopted(world: World) -> None:
    place = deploy(world)
    world.cloud.pipelines[place.stack_name].clear()
    world.cloud.start_foreign(place.stack_name, sha(1))
    world.cloud.settle()
    world.forget()
    world.push(X, sha(1))
    world.run()
    assert [each.trigger for each in world.cloud.pipelines[place.stack_name]] == [BY_ADA, BY_DEPLOYER]


def test_a_retry_of_the_newest_execution_deploys_its_commit(world: World) -> None:
    world.push(X, sha(1))
    world.cloud.fail_next_execution("flaky")
    world.run()
    place = environment(X)
    assert world.record(place).status.outcome == "failed"
    world.cloud.retry(place.stack_name, world.record(place).status.pipeline.execution)
    world.event(place)
    world.run()
    assert world.record(place).status.outcome == "deployed"
    assert foreign(world.record(place)) == []


def test_a_retry_of_an_older_execution_is_not_the_deployment(world: World) -> None:
    world.push(X, sha(1))
    world.cloud.fail_next_execution("flaky")
    world.run()
    place = environment(X)
    older = world.record(place).status.pipeline.execution
    world.push(X, sha(2), sha(1))
    world.run()
    newest = world.record(place).status.pipeline.execution
    world.cloud.retry(place.stack_name, older)
    for _ in range(2):
        world.event(place)
        world.run()
        record = world.record(place)
        assert foreign(record)[0][0] == sha(1)
        assert "somebody retried one of its stages" in record.status.pipeline.foreign[0].words
        assert (record.spec.commit, record.status.outcome) == (sha(2), "deployed")
        assert record.status.pipeline.execution == newest
        world.cloud.settle()
    assert foreign(world.record(place)) == [(sha(1), "succeeded")]


def test_an_execution_that_waits_for_an_approval_stays_running_and_its_environment_too(world: World) -> None:
    place = deploy(world)
    world.push(X, sha(2), sha(1))
    world.tasks()
    for _ in range(200):
        world.lanes.clock_offset_ms += 3_600_000
        world.sent.extend(world.lanes.sweep())
        world.tasks()
    assert world.record(place).status.state == "running"
    assert world.lanes.dead_letters() == []
    world.run()
    assert world.record(place).status.outcome == "deployed"


def test_the_executions_that_an_earlier_version_recorded_are_deployers(world: World) -> None:
    place = deploy(world)
    world.lanes_note(place, started={})
    world.event(place)
    world.deployer.submitter.request_environment(place, cause=Cause.RESYNC)
    world.run()
    record = world.record(place)
    assert foreign(record) == []
    assert len(world.cloud.called("start")) == 1
    assert record.status.pipeline.started == {record.status.pipeline.execution: sha(1)}
