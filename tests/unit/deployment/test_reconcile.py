"""From a push to its outcome, with doubles for GitHub and AWS. Asserts on the state that results."""

from typing import Any

import pytest

from deployer.deployment.executions import needs_start
from deployer.environment.cloud_region import Execution
from deployer.model.environments import Environment, Kind
from deployer.model.errors import TransientError
from deployer.model.refs import ZERO_SHA
from deployer.queue.items import Cause, Task, Work
from tests.unit.world import HELLO, TEMPLATE, World, environment, sha

MAIN, X, V1, V2 = "refs/heads/main", "refs/heads/x", "refs/tags/v1", "refs/tags/v2"
STAGING, PRODUCTION = environment(MAIN), environment(V1)
CHANGED = TEMPLATE + "  Other: {Type: AWS::SNS::Topic}\n"
GREEN = {"deployer": "success", "deployer/prepare": "success", "deployer/Source": "success",
         "deployer/Build": "success", "deployer/Deploy": "success"}  # fmt: skip


@pytest.fixture
def world() -> World:
    return World()


def test_a_new_branch_gets_its_pipeline_and_its_first_execution_is_the_one(world: World) -> None:
    delivery = world.push(X, sha(1))
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.built(environment(X)) == [(sha(1), "succeeded")]
    assert world.statuses(sha(1)) == GREEN
    record = world.record(environment(X))
    assert (record.status.state, record.spec.commit, record.spec.ref) == ("deployed", sha(1), X)
    assert [(stage.name, stage.status) for stage in record.status.pipeline.stages][-1] == (
        "Deploy",
        "succeeded",
    )


def test_a_second_push_triggers_the_same_pipeline(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    delivery = world.push(X, sha(2), sha(1))
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.built(environment(X)) == [(sha(1), "succeeded"), (sha(2), "succeeded")]
    assert len(world.cloud.called("create_stack")) == 1
    assert world.cloud.called("update_stack") == []


def test_a_changed_template_updates_and_then_triggers(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    world.push(X, sha(2), sha(1), CHANGED)
    world.run()
    assert world.built(environment(X)) == [(sha(1), "succeeded"), (sha(2), "succeeded")]
    release = world.cloud.release(environment(X).stack_name)
    assert release is not None
    assert release.template == CHANGED


def test_a_push_while_the_stack_is_made_is_what_gets_built(world: World) -> None:
    first = world.push(X, sha(1))
    world.tasks()
    second = world.push(X, sha(2), sha(1))
    world.run()
    assert world.outcome(first)[0] == "superseded"
    assert world.outcome(second)[0] == "deployed"
    assert [commit for commit, end in world.built(environment(X)) if end == "succeeded"] == [sha(2)]
    assert len(world.cloud.called("create_stack")) == 1


def test_pushes_while_a_pipeline_runs_are_each_triggered_once(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    world.push(X, sha(2), sha(1))
    world.tasks()
    world.push(X, sha(3), sha(2))
    world.run()
    assert [commit for commit, _ in world.built(environment(X))] == [sha(1), sha(2), sha(3)]
    assert world.statuses(sha(3)) == GREEN
    assert "pending" not in world.statuses(sha(2)).values(), (
        "the older execution is followed to its end as well"
    )


def test_a_push_that_two_webhooks_tell_of_runs_once_though_aws_lists_executions_late(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    executions = world.cloud.executions
    late = executions(environment(X).stack_name)
    world.cloud.executions = lambda *_: late  # type: ignore[method-assign]
    world.push(X, sha(2), sha(1))
    world.tasks()
    delivery = world.deliver(X, sha(2), sha(1))
    world.tasks()
    world.cloud.executions = executions  # type: ignore[method-assign]
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.built(environment(X)) == [(sha(1), "succeeded"), (sha(2), "succeeded")]


def test_a_pipeline_that_waits_for_days_is_waited_for(world: World) -> None:
    delivery = world.push(X, sha(1))
    world.tasks()
    while world.record(environment(X)).status.state != "running":
        world.step()
        world.tasks()
    items = f"deployer:{{{HELLO.key}}}:items"
    [(environment_key, item)] = world.redis.hgetall(items).items()
    waited_long = Work.from_json(item).but(polls=2000)  # 33 hours at one look a minute
    world.redis.hset(items, environment_key, waited_long.to_json())
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.lanes.dead_letters() == []


def test_the_same_delivery_twice_does_nothing_more(world: World) -> None:
    delivery = world.push(X, sha(1))
    world.run()
    world.deliver(X, sha(1), ZERO_SHA, delivery)
    world.deliver(X, sha(1))
    world.run()
    assert world.built(environment(X)) == [(sha(1), "succeeded")]


def test_deliveries_out_of_order_end_at_the_live_commit(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    world.host.push(HELLO, X, sha(2), files={"pipeline.yml": TEMPLATE})
    world.host.push(HELLO, X, sha(3), files={"pipeline.yml": TEMPLATE})
    world.deliver(X, sha(3), sha(2))
    world.run()
    world.deliver(X, sha(2), sha(1))
    world.run()
    assert [commit for commit, _ in world.built(environment(X))] == [sha(1), sha(3)]


def test_a_stale_read_after_a_push_is_waited_out(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    world.host.lag(HELLO, X)
    delivery = world.push(X, sha(2), sha(1))
    world.tasks()
    assert world.built(environment(X)) == [(sha(1), "succeeded")]
    world.host.catch_up()
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert [commit for commit, _ in world.built(environment(X))] == [sha(1), sha(2)]


@pytest.mark.parametrize("ahead", [3600, -3600])
def test_how_long_a_stale_read_is_waited_out_is_no_matter_of_a_worker_s_clock(ahead: float) -> None:
    world = World()
    tracker = world.deployer.reconciler._tracker
    tracker._clock = lambda: world.lanes.now() + ahead  # as of a worker that does not know when it began
    world.push(X, sha(1))
    world.run()
    world.host.lag(HELLO, X)
    delivery = world.push(X, sha(2), sha(1))
    world.tasks()
    assert world.outcome(delivery)[0] == "queued"
    world.step()
    world.step()
    world.tasks()
    assert world.outcome(delivery)[0] == "deployed", "after half a minute it is believed"


@pytest.mark.parametrize("ref", [X, V1])
def test_a_stale_read_after_a_ref_was_deleted_and_pushed_again_is_waited_out(world: World, ref: str) -> None:
    world.push(MAIN, sha(9))
    world.push(ref, sha(1))
    world.run()
    world.remove(ref, sha(1))
    world.run()
    world.host.push(HELLO, ref, sha(1))
    world.host.lag(HELLO, ref)
    delivery = world.push(ref, sha(2))
    world.tasks()
    assert world.outcome(delivery)[0] == "queued"
    world.host.catch_up()
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.built(environment(ref))[-1] == (sha(2), "succeeded")


def test_a_stale_read_of_a_new_branch_does_not_delete(world: World) -> None:
    world.host.create(HELLO)
    world.host.lag(HELLO, X)
    delivery = world.push(X, sha(1))
    world.tasks()
    assert world.outcome(delivery)[0] == "queued"
    world.host.catch_up()
    world.run()
    assert world.outcome(delivery)[0] == "deployed"


def test_a_failing_stage_is_told_with_its_reason_and_stops_the_rest(world: World) -> None:
    world.cloud.fail_next_execution("unit tests: 1 failed", "Build")
    delivery = world.push(X, sha(1))
    world.run()
    assert world.outcome(delivery) == ("failed", "Build failed: unit tests: 1 failed")
    assert world.statuses(sha(1)) == {
        "deployer": "failure", "deployer/prepare": "success", "deployer/Source": "success", "deployer/Build": "failure",
    }  # fmt: skip
    assert "1 failed" in world.host.statuses[HELLO, sha(1)]["deployer/Build"].description


def test_what_died_is_under_way_again_as_soon_as_that_is_decided(world: World) -> None:
    """Checking a template takes seconds, in which its page must not say that it failed."""
    world.cloud.fail_next(RuntimeError("a bug"), method="create_stack")
    world.push(X, sha(1))
    world.run()
    assert world.record(environment(X)).status.state == "failed"
    (letter,) = world.lanes.dead_letters()
    accepted = world.deployer.submitter.replay(letter.id)
    assert accepted.outcome == "queued"
    seen = []
    files = world.host.files

    def looked_at(*arguments: Any) -> dict[str, bytes]:
        seen.append(world.record(environment(X)).status.state)
        return files(*arguments)

    world.host.files = looked_at  # type: ignore[method-assign]
    world.run()
    assert seen[-1] == "provisioning"
    assert world.record(environment(X)).status.state == "deployed"


def test_a_redelivery_after_a_failure_runs_it_again(world: World) -> None:
    world.cloud.fail_next_execution("flaky", "Build")
    delivery = world.push(X, sha(1))
    world.run()
    world.deliver(X, sha(1), ZERO_SHA, delivery)
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert [end for _, end in world.built(environment(X))] == ["failed", "succeeded"]


def test_a_stack_that_cannot_be_made_is_told_and_replaced_by_the_next_push(world: World) -> None:
    world.cloud.fail_next_create("the role is not allowed")
    delivery = world.push(X, sha(1))
    world.run()
    outcome, reason = world.outcome(delivery)
    assert outcome == "failed"
    assert "Thing (AWS::Test::Thing): the role is not allowed" in reason
    assert world.statuses(sha(1)) == {"deployer": "failure", "deployer/prepare": "failure"}
    assert len(world.cloud.called("create_stack")) == 1
    world.push(X, sha(2), sha(1))
    world.run()
    assert world.built(environment(X)) == [(sha(2), "succeeded")]


def test_an_update_that_rolls_back_is_told_and_the_pipeline_is_not_run(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    world.cloud.fail_next_update("no such topic")
    delivery = world.push(X, sha(2), sha(1), CHANGED)
    world.run()
    outcome, reason = world.outcome(delivery)
    assert outcome == "failed"
    assert "no such topic" in reason
    assert [commit for commit, _ in world.built(environment(X))] == [sha(1)]
    world.push(X, sha(3), sha(2))
    world.run()
    assert world.built(environment(X))[-1] == (sha(3), "succeeded")


@pytest.mark.parametrize(
    ("template", "words"),
    [("Resources: [", "deploy/pipeline.yml:1: not YAML"), ("Resources: {}", "AWS::CodePipeline::Pipeline")],
)
def test_a_broken_template_never_reaches_aws(world: World, template: str, words: str) -> None:
    delivery = world.push(X, sha(1), template=template)
    world.run()
    assert world.outcome(delivery)[0] == "failed"
    assert words in world.outcome(delivery)[1]
    assert world.statuses(sha(1)) == {"deployer": "failure", "deployer/prepare": "failure"}
    assert world.cloud.called("create_stack") == []


def test_a_repository_without_a_pipeline_is_skipped_and_says_so(world: World) -> None:
    world.host.push(HELLO, X, sha(1), files={})
    delivery = world.deliver(X, sha(1))
    world.run()
    assert world.outcome(delivery)[0] == "skipped"
    assert world.statuses(sha(1)) == {"deployer": "success"}


@pytest.mark.parametrize(
    ("ref", "message"), [("refs/heads/NOBUILD-x", "x"), (X, "docs [skip deploy]"), (X, "[skip ci]")]
)
def test_what_asks_to_be_skipped_is(world: World, ref: str, message: str) -> None:
    delivery = world.push(ref, sha(1), message=message)
    world.run()
    assert world.outcome(delivery)[0] == "skipped"
    assert world.cloud.called("create_stack") == []


def test_staging_and_production(world: World) -> None:
    world.push(MAIN, sha(1))
    world.run()
    world.push(MAIN, sha(2), sha(1))
    world.run()
    delivery = world.push(V1, sha(1))
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.built(STAGING) == [(sha(1), "succeeded"), (sha(2), "succeeded")]
    assert world.built(PRODUCTION) == [(sha(1), "succeeded")]
    world.push(V2, sha(2), annotated=sha(77))
    world.run()
    assert world.built(PRODUCTION)[-1] == (sha(2), "succeeded")
    assert world.record(PRODUCTION).spec.ref == V2


def test_a_deleted_branch_takes_what_it_deployed_along(world: World) -> None:
    name = environment(X).stack_name
    world.cloud.applications[name] = [f"{name}-app"]
    world.push(X, sha(1))
    world.push(MAIN, sha(1))
    world.run()
    world.cloud.buckets[f"{name}-app"] = 3
    assert world.cloud.stack(f"{name}-app")
    delivery = world.remove(X, sha(1))
    world.run()
    assert world.outcome(delivery)[0] == "deleted"
    assert [stack.name for stack in world.cloud.stacks()] == [STAGING.stack_name]
    assert world.record(environment(X)).status.state == "deleted"


def test_a_branch_that_comes_back_is_made_anew_at_the_same_commit(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    world.remove(X, sha(1))
    world.tasks()
    delivery = world.push(X, sha(1))
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.built(environment(X)) == [(sha(1), "succeeded")]


def test_a_stack_of_others_that_the_pipeline_names_is_left_alone(world: World) -> None:
    name = environment(X).stack_name
    world.cloud.applications[name] = ["precious", "production-app"]
    world.cloud.add_stack("precious", {})
    world.cloud.add_stack("production-app", PRODUCTION.tags)
    world.push(X, sha(1))
    world.run()
    world.remove(X, sha(1))
    world.run()
    assert world.cloud.stack("precious")
    assert world.cloud.stack("production-app")
    assert world.cloud.stack(name) is None


@pytest.mark.parametrize("ref", [MAIN, V1])
def test_a_webhook_never_deletes_staging_or_production(world: World, ref: str) -> None:
    world.push(MAIN, sha(1))
    world.push(V1, sha(1))
    world.run()
    delivery = world.remove(ref, sha(1))
    world.run()
    outcome, reason = world.outcome(delivery)
    assert outcome == "skipped"
    assert ref in reason
    assert len(list(world.cloud.stacks())) == 2


@pytest.mark.parametrize("wish", ["push", "delete"])
def test_a_stack_without_our_tags_is_never_touched(world: World, wish: str) -> None:
    world.cloud.add_stack(environment(X).stack_name, {"owner": "someone"})
    delivery = world.push(X, sha(1))
    if wish == "delete":
        delivery = world.remove(X, sha(1))
    world.run()
    outcome, reason = world.outcome(delivery)
    assert outcome == ("failed" if wish == "push" else "deleted")
    assert "deployer's tags for this environment" in reason
    for verb in ("update_stack", "delete_stack", "empty_storage"):
        assert world.cloud.called(verb) == []


def test_a_deletion_that_fails_is_tried_again_and_then_told(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    world.cloud.fail_next_delete("in use")
    delivery = world.remove(X, sha(1))
    world.run()
    assert world.outcome(delivery)[0] == "deleted"
    world.push(X, sha(2))
    world.run()
    for _ in range(9):
        world.cloud.fail_next_delete("in use")
    delivery = world.remove(X, sha(2))
    world.run()
    assert world.outcome(delivery)[0] == "deleted"
    assert "Thing" in world.outcome(delivery)[1], "what could not be deleted is left, and told"
    assert "in use" in world.outcome(delivery)[1]


def test_passing_faults_are_retried_and_others_become_dead_letters(world: World) -> None:
    world.cloud.fail_next(TransientError("creating a stack: Throttling"), times=2, method="create_stack")
    delivery = world.push(X, sha(1))
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    world.cloud.fail_next(RuntimeError("a bug"), method="start")
    delivery = world.push(X, sha(2), sha(1))
    world.run()
    assert world.outcome(delivery) == ("dead-lettered", "RuntimeError")
    (letter,) = world.lanes.dead_letters()
    assert letter.reason == "RuntimeError: a bug"
    assert "Traceback" in letter.traceback
    world.deployer.submitter.replay(letter.id)
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.built(environment(X))[-1] == (sha(2), "succeeded")


def test_a_fault_that_stays_becomes_a_dead_letter_and_the_lane_goes_on(world: World) -> None:
    world.push("refs/heads/y", sha(1))
    world.run()
    world.cloud.fail_next(TransientError("AWS is away"), times=3, method="create_stack")
    first = world.push(X, sha(1))
    second = world.push("refs/heads/y", sha(2), sha(1))
    world.run()
    assert world.outcome(first) == ("dead-lettered", "AWS is away")
    assert world.outcome(second)[0] == "deployed"


@pytest.mark.parametrize("method", ["create_stack", "start", "update_stack", "delete_stack"])
def test_an_answer_that_was_lost_does_nothing_twice(world: World, method: str) -> None:
    """The call took effect, its answer never came, the task is repeated: what a killed worker looks like."""
    real = getattr(world.cloud, method)
    lost = []

    def loses_its_answer(*arguments: object, **how: object) -> object:
        answer = real(*arguments, **how)
        if not lost:
            lost.append(method)
            raise TransientError("the answer was lost")
        return answer

    setattr(world.cloud, method, loses_its_answer)
    world.push(X, sha(1))
    world.run()
    world.push(X, sha(2), sha(1), CHANGED)
    world.run()
    assert world.built(environment(X)) == [(sha(1), "succeeded"), (sha(2), "succeeded")]
    world.remove(X, sha(2))
    world.run()
    assert lost == [method]
    assert list(world.cloud.stacks()) == []


def test_events_move_things_on_and_start_nothing(world: World) -> None:
    delivery = world.push(X, sha(1))
    world.tasks()
    event = world.event(environment(X))
    world.run()
    assert world.outcome(event)[0] == world.outcome(delivery)[0] == "deployed"
    before = world.record(environment(X))
    late = world.event(environment(X))
    world.run()
    assert world.outcome(late)[0] == "skipped"
    assert world.record(environment(X)) == before  # and not dated anew, or a resync under way passes over it
    assert world.lanes.activity()[0].commit == sha(1)
    world.host.push(HELLO, X, sha(2), files={"pipeline.yml": TEMPLATE})
    world.event(environment(X))
    world.run()
    assert world.built(environment(X)) == [(sha(1), "succeeded")]


def test_statuses_are_posted_once_each(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    for _ in range(3):
        world.event(environment(X))
        world.run()
    posted = [(status.context, status.state) for _, _, status in world.host.posted]
    assert len(posted) == len(set(posted))


def test_a_resync_of_a_settled_repository_does_nothing(world: World) -> None:
    world.push(X, sha(1))
    world.push(MAIN, sha(1))
    world.push(V1, sha(1))
    world.run()
    calls = len(world.cloud.calls)
    world.deployer.submitter.resync(HELLO)
    world.run()
    assert world.told[-1] == "resynced: nothing to do"
    assert {name for name, _ in world.cloud.calls[calls:]} <= {"stacks", "count_capacity"}


def test_a_resync_finds_what_was_missed(world: World) -> None:
    world.push(X, sha(1))
    world.push("refs/heads/gone", sha(1))
    world.run()
    world.host.push(HELLO, X, sha(2), files={"pipeline.yml": TEMPLATE})
    world.host.push(HELLO, "refs/heads/new", sha(3), files={"pipeline.yml": TEMPLATE})
    world.host.remove(HELLO, "refs/heads/gone")
    world.lanes.clock_offset_ms += 60_000
    world.deployer.submitter.resync(HELLO)
    world.run()
    assert world.built(environment(X))[-1] == (sha(2), "succeeded")
    assert world.built(environment("refs/heads/new")) == [(sha(3), "succeeded")]
    assert world.cloud.stack(environment("refs/heads/gone").stack_name) is None


def test_a_resync_after_a_wipe_learns_everything_and_changes_nothing(world: World) -> None:
    world.push(X, sha(1))
    world.push(MAIN, sha(1))
    world.push(V1, sha(1))
    world.run()
    built = [world.built(each) for each in (environment(X), STAGING, PRODUCTION)]
    world.redis.flushall()
    world.deployer.submitter.resync(HELLO)
    world.run()
    assert [world.built(each) for each in (environment(X), STAGING, PRODUCTION)] == built
    assert {record.status.outcome for record in world.lanes.environments()} == {"deployed"}
    world.deployer.submitter.resync(HELLO)
    world.run()
    assert world.told[-1] == "resynced: nothing to do"


def test_people_redeploy_and_tear_down(world: World) -> None:
    world.push(X, sha(1))
    world.push(MAIN, sha(1))
    world.run()
    world.deployer.submitter.request_environment(environment(X), cause=Cause.REDEPLOY)
    world.run()
    assert world.built(environment(X)) == [(sha(1), "succeeded")] * 2
    world.deployer.submitter.request_environment(environment(X), cause=Cause.TEARDOWN)
    world.run()
    assert [stack.name for stack in world.cloud.stacks()] == [STAGING.stack_name]


def test_many_odd_branches_get_pipelines_of_their_own(world: World) -> None:
    names = ["a/foo", "b/foo", "hotfix/main", "v1.2.3", "staging", "production", "feature/ü#1", "x" * 240]
    deliveries = [world.push(f"refs/heads/{name}", sha(number)) for number, name in enumerate(names, start=1)]
    world.run(most=200)
    assert [world.outcome(delivery)[0] for delivery in deliveries] == ["deployed"] * len(names)
    assert len(list(world.cloud.stacks())) == len(names)
    assert Environment(HELLO, Kind.STAGING).stack_name not in {stack.name for stack in world.cloud.stacks()}


A, B = sha(1), sha(2)


@pytest.mark.parametrize(
    ("status", "commit", "cause", "reported", "updated", "expected"),
    [
        ("running", A, Cause.PUSH, "", False, False),
        ("running", B, Cause.PUSH, "", False, True),
        ("succeeded", A, Cause.PUSH, "", False, False),
        ("succeeded", A, Cause.PUSH, "e", False, False),
        ("succeeded", A, Cause.PUSH, "", True, True),
        ("succeeded", A, Cause.REDEPLOY, "e", False, True),
        ("failed", A, Cause.PUSH, "", False, False),
        ("failed", A, Cause.PUSH, "e", False, True),
        ("failed", A, Cause.RESYNC, "e", False, False),
        ("stopped", A, Cause.PUSH, "", False, True),
        ("failed", "", Cause.PUSH, "", False, True),
    ],
)
def test_needs_start(
    status: str, commit: str, cause: str, reported: str, updated: bool, expected: bool
) -> None:
    work = Work.of(environment="staging", cause=cause, sha=A, updated=updated)
    assert needs_start(Execution("e", status, commit), work, reported) is expected


def test_an_event_of_a_pipeline_that_only_has_the_name_is_no_business_of_ours(world: World) -> None:
    place = environment(X)
    world.cloud.add_stack(place.stack_name, {"team": "theirs"})
    world.cloud.pipelines[place.stack_name] = []
    world.host.push(HELLO, X, sha(1), files={"pipeline.yml": TEMPLATE})
    world.cloud.start(place.stack_name, sha(1), "theirs")
    world.lanes.accept(HELLO, Work(environment=place.key, task=Task.NOTIFY, cause=Cause.EVENT))
    world.step()
    world.run()
    assert world.statuses(sha(1)) == {}
    assert world.told == ["skipped: its stack is not on record"]
