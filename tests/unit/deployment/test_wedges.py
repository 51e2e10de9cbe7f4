"""Every status of a stack, met by a push and by a deletion: it ends well by itself, or says what a person must do."""

import pytest

from deployer.model.environment_status import StackFailure
from deployer.model.errors import ThrottledError, TransientError
from deployer.model.stacks import REFUSED, TABLE, Phase
from tests.unit.world import HELLO, TEMPLATE, World, environment, sha

X = "refs/heads/x"
ENV = environment(X)
# whose remedy is a person's by its nature
_FOR_PEOPLE = {"IMPORT_ROLLBACK_FAILED"}


@pytest.fixture
def world() -> World:
    return World()


def deployed(world: World, status: str) -> None:
    """A branch that was deployed once, whose stack is now in this status."""
    world.push(X, sha(1))
    world.run()
    if status == "DELETE_COMPLETE":
        world.cloud.delete_stack(ENV.stack_name, "a person")
        world.cloud.settle()
        return
    world.cloud.set_status(ENV.stack_name, status, "as it is")


def arn(world: World) -> str:
    stack = world.cloud.stack(ENV.stack_name)
    assert stack is not None
    return stack.arn


@pytest.mark.parametrize("status", TABLE)
def test_a_push_ends_deployed_whatever_the_stack_s_status(world: World, status: str) -> None:
    deployed(world, status)
    delivery = world.push(X, sha(2), sha(1))
    world.run()
    outcome, reason = world.outcome(delivery)
    if status in _FOR_PEOPLE:
        assert outcome == "failed"
        assert "only a person" in reason
        return
    assert outcome == "deployed", reason
    assert world.built(ENV)[-1] == (sha(2), "succeeded")
    assert TABLE[world.cloud.stack(ENV.stack_name).status].phase is Phase.READY  # type: ignore[union-attr]


@pytest.mark.parametrize("status", TABLE)
def test_a_deletion_ends_with_nothing_left_whatever_the_stack_s_status(world: World, status: str) -> None:
    deployed(world, status)
    delivery = world.remove(X, sha(1))
    world.run()
    assert world.outcome(delivery)[0] == "deleted"
    assert list(world.cloud.stacks()) == []


@pytest.mark.parametrize("status", TABLE)
@pytest.mark.parametrize("gone", [False, True])
def test_a_resync_after_redis_was_lost_ends_well_too(world: World, status: str, gone: bool) -> None:
    deployed(world, status)
    world.forget()
    if gone:
        world.host.remove(HELLO, X)
    world.deployer.submitter.resync(HELLO)
    world.run()
    stack = world.cloud.stack(ENV.stack_name)
    if gone:
        assert stack is None
    elif status in _FOR_PEOPLE | REFUSED | {"ROLLBACK_IN_PROGRESS"}:
        assert world.record(ENV).status.outcome == "failed", (
            "a creation that failed is tried again when people ask for it"
        )
    else:
        assert stack is not None
        assert stack.phase is Phase.READY
        assert world.record(ENV).status.outcome == "deployed"


def test_a_creation_that_failed_is_kept_until_people_ask_again(world: World) -> None:
    world.cloud.fail_next_create("the role is not allowed")
    world.push(X, sha(1))
    world.run()
    world.deployer.submitter.resync(HELLO)
    world.event(ENV)
    world.run()
    stack = world.cloud.stack(ENV.stack_name)
    assert stack is not None
    assert stack.status == "ROLLBACK_COMPLETE", "the failure can be looked at in the console"
    record = world.record(ENV)
    assert record.status.stack.failure.resource == "Thing"
    assert record.status.stack.failure.reason == "the role is not allowed"
    assert record.status.stack.failure.url.startswith("https://console.example/arn:")
    world.redeploy(ENV)
    world.run()
    assert world.built(ENV) == [(sha(1), "succeeded")]
    assert world.record(ENV).status.stack.failure == StackFailure()


def test_the_same_template_is_tried_so_many_times_and_then_only_when_a_person_insists(world: World) -> None:
    made = []
    for number in range(1, 6):
        world.cloud.fail_next_create("the role is not allowed")
        delivery = world.push(X, sha(number), sha(number - 1) if number > 1 else "0" * 40)
        world.run()
        outcome, reason = world.outcome(delivery)
        assert outcome == "failed"
        assert ("3 times; change them, or redeploy" in reason) is (number > 3)
        made.append(arn(world))
    assert len(set(made)) == 3
    assert made[2:] == [made[2]] * 3, "the last one that failed stays"
    world.push(X, sha(6), sha(5), template=TEMPLATE + "  Other: {Type: AWS::SNS::Topic}\n")
    world.run()
    assert arn(world) not in made, "another template is another matter"
    world.redeploy(ENV)
    world.cloud._fates.clear()
    world.run()
    assert world.record(ENV).status.outcome == "deployed"
    assert world.record(ENV).status.stack.refusals == 0


def test_a_rollback_that_fails_again_says_what_a_person_must_do(world: World) -> None:
    deployed(world, "UPDATE_ROLLBACK_FAILED")
    delivery = world.push(X, sha(2), sha(1))
    world.tasks()
    world.cloud.set_status(ENV.stack_name, "UPDATE_ROLLBACK_FAILED", "Queue still in use")
    world.lanes.clock_offset_ms += 60_000
    world.sent.extend(world.lanes.sweep())
    world.tasks()
    outcome, reason = world.outcome(delivery)
    assert outcome == "failed"
    assert "continue its rollback in the console" in reason


@pytest.mark.parametrize("status", ["UPDATE_FAILED", "UPDATE_ROLLBACK_FAILED"])
@pytest.mark.parametrize("fault", [TransientError, ThrottledError])
@pytest.mark.parametrize("late", [False, True])
def test_a_rollback_that_could_not_be_ordered_is_ordered_once_more(
    world: World, status: str, fault: type[TransientError], late: bool
) -> None:
    """AWS fails before or after the order took effect; neither is the second failure that a person must mend."""
    deployed(world, status)
    real, calls = world.cloud.continue_rollback, [0]

    def fails(name: str, token: str) -> None:
        calls[0] += 1
        if calls[0] > 1 or late:
            real(name, token)
        if calls[0] == 1:
            raise fault("AWS is asked as often as it bears")

    world.cloud.continue_rollback = fails  # type: ignore[method-assign]
    delivery = world.push(X, sha(2), sha(1))
    world.run()
    assert calls[0]
    assert world.outcome(delivery)[0] == "deployed"


def test_what_somebody_protects_before_it_is_replaced_stays_and_that_is_why(world: World) -> None:
    world.cloud.fail_next_create("the bucket's name is taken")
    world.push(X, sha(1))
    world.run()
    delivery = world.push(X, sha(2), sha(1))
    decided = world.sent.pop(0)
    world.runner.carry_out(decided.task, decided.repository, decided.environment, decided.token)
    world.cloud.protect(arn(world), on=True)
    world.run()
    outcome, reason = world.outcome(delivery)
    assert (outcome, "termination protection" in reason) == ("failed", True), reason
    assert world.cloud.stack(ENV.stack_name).protected  # type: ignore[union-attr]
