"""Teardown: what goes, what stays, in which order, and a receipt that tells the truth of it."""

import time
from typing import Any

import msgspec
import pytest

from deployer.model.environments import Environment, Kind
from deployer.model.errors import LaneLostError, PermanentError, TransientError
from deployer.model.stacks import Resource
from deployer.model.targets import Target
from deployer.model.teardown_report import TeardownPlan, TeardownReport, UnlistedItems
from deployer.queue.items import Cause, Work
from deployer.views.sentences import teardown_report_words, unlisted_words
from tests.doubles import FakeCloud
from tests.unit.world import HELLO, TEMPLATE, World, environment, sha

MAIN, X, Y, V1 = "refs/heads/main", "refs/heads/x", "refs/heads/y", "refs/tags/v1"
ENV = environment(X)
PRODUCTION = environment(V1)
FAR = f"{ENV.stack_name}-far"
APP, OTHER = f"{ENV.stack_name}-app", f"{ENV.stack_name}-data"
GONE = ("deleted", "its pipeline and all that it deployed are gone")


@pytest.fixture
def world() -> World:
    """A branch that is deployed, with two stacks of its own."""
    made = World()
    made.cloud.applications[ENV.stack_name] = [OTHER, APP]
    made.push(X, sha(1))
    made.run()
    assert {APP, OTHER} <= names(made)
    return made


@pytest.fixture
def away(world: World) -> FakeCloud:
    """The second region of development; a stack with the branch's tags is there too."""
    cloud = FakeCloud(world.cloud.head)
    cloud.region = "eu-west-1"
    world.clouds.clouds[cloud.region] = cloud
    regions = (world.cloud.region, cloud.region)
    world.clouds.targets[Kind.DEVELOPMENT] = Target(Kind.DEVELOPMENT, regions=regions)
    cloud.add_stack(FAR, ENV.tags)
    here = world.cloud.advance

    def both() -> None:
        here()
        cloud.advance()

    world.cloud.advance = both  # type: ignore[method-assign]
    return cloud


def names(world: World) -> set[str]:
    return {each.name for each in world.cloud.stacks()}


def protect(world: World, name: str) -> None:
    stack = world.cloud.stack(name)
    assert stack is not None
    world.cloud.protect(stack.arn, on=True)


def removed(world: World, of: Environment = ENV) -> list[str]:
    return [each.what for each in world.record(of).status.receipt.removed]


def retained(world: World, of: Environment = ENV) -> dict[str, str]:
    return {each.what: each.why for each in world.record(of).status.receipt.retained}


def test_everything_goes_and_the_receipt_names_it(world: World) -> None:
    world.cloud.buckets[APP] = 5
    delivery = world.remove(X, sha(1))
    world.run()
    assert world.outcome(delivery) == GONE
    assert names(world) == set()
    receipt = world.record(ENV).status.receipt
    assert receipt.outcome == "removed"
    assert receipt.retained == []
    own = f"stack {ENV.stack_name}"
    assert removed(world) == [f"stack {APP}", f"bucket {APP}-files", f"stack {OTHER}", own], (
        "what was deployed last first"
    )
    assert all(each.id.startswith("arn:") for each in receipt.removed if each.what.startswith("stack"))
    status = world.host.statuses[HELLO, sha(1)]["deployer/teardown"]
    assert (status.state, status.description) == (
        "success", "x: removed 3 stacks with 4 resources and emptied 1 bucket",
    )  # fmt: skip


def test_one_after_the_other_and_the_pipeline_last(world: World) -> None:
    """At no time are two of them being deleted: one may use what another exports, or its role."""
    world.remove(X, sha(1))
    order: list[tuple[str, ...]] = []
    advance = world.cloud.advance

    def watched() -> None:
        order.append(tuple(sorted(s.name for s in world.cloud.stacks() if s.status == "DELETE_IN_PROGRESS")))
        advance()

    world.cloud.advance = watched  # type: ignore[method-assign]
    world.run()
    seen = [each for each in dict.fromkeys(order) if each]
    assert seen == [(APP,), (OTHER,), (ENV.stack_name,)]


def test_a_stack_that_lacks_our_tags_is_left_and_told(world: World) -> None:
    world.cloud.add_stack("theirs", {"team": "x"})
    world.cloud.applications[ENV.stack_name] = [APP, "theirs", OTHER]
    delivery = world.remove(X, sha(1))
    world.run()
    assert names(world) == set()
    assert world.cloud.stack("theirs") is not None
    assert retained(world) == {"stack theirs": "it does not bear deployer's tags for this environment"}
    outcome, reason = world.outcome(delivery)
    assert outcome == "deleted"
    assert "theirs" in reason
    status = world.host.statuses[HELLO, sha(1)]["deployer/teardown"]
    assert status.state == "failure"
    assert "left stack theirs: it does not bear" in status.description


def test_a_stack_that_another_pipeline_names_too_is_left(world: World) -> None:
    other = environment(Y)
    world.cloud.applications[other.stack_name] = [APP]
    world.push(Y, sha(2))
    world.run()
    world.remove(X, sha(1))
    world.run()
    assert world.cloud.stack(APP) is not None
    assert "refs/heads/y deploys it as well" in retained(world)[f"stack {APP}"]
    assert names(world) == {APP, other.stack_name}


def renames(world: World, *applications: str) -> None:
    """Another definition of the pipeline deploys other stacks."""
    world.cloud.applications[ENV.stack_name] = list(applications)
    world.push(X, sha(2), sha(1), template=f"{TEMPLATE}\n# another definition\n")
    world.run()


def test_what_an_earlier_definition_deployed_goes_too_or_is_told(world: World) -> None:
    world.cloud.add_stack(f"{APP}2", {})
    world.cloud.applications[ENV.stack_name] += [f"{APP}2"]
    world.redeploy(ENV)
    world.run()
    renames(world, OTHER)
    record = world.record(ENV)
    assert (record.status.stack.applications, record.status.stack.earlier) == ([OTHER], [APP, f"{APP}2"])
    world.remove(X, sha(2))
    world.run()
    assert names(world) == set()
    why = "it does not bear deployer's tags for this environment, and its pipeline did not create it"
    assert retained(world) == {f"stack {APP}2": why}
    assert world.record(ENV).status.stack.earlier == []


def test_the_latest_of_many_earlier_ones_are_kept(world: World) -> None:
    world.lanes_note(ENV, earlier=[f"a{each}" for each in range(20)])
    renames(world, OTHER)
    assert world.record(ENV).status.stack.earlier == [*(f"a{each}" for each in range(1, 20)), APP]


def test_what_another_pipeline_no_longer_names_is_not_left_for_it(world: World) -> None:
    world.cloud.applications[environment(Y).stack_name] = [APP]
    world.push(Y, sha(3))
    world.run()
    renames(world, OTHER)
    world.cloud.add_stack(APP, environment(Y).tags)  # the other one deployed it since
    world.remove(Y, sha(3))
    world.run()
    assert names(world) == {OTHER, ENV.stack_name}


def share(world: World, ref: str) -> Environment:
    """Another environment's pipeline names one of the branch's stacks, too, and Redis is lost."""
    other = environment(ref)
    if ref == V1:
        world.rules()
    world.cloud.applications[other.stack_name] = [APP]
    world.push(ref, sha(2))
    world.run()
    world.forget()
    return other


@pytest.mark.parametrize("resyncs", [0, 2])
@pytest.mark.parametrize("ref", [Y, MAIN, V1])
def test_what_another_pipeline_names_too_is_left_though_redis_was_lost(
    world: World, ref: str, resyncs: int
) -> None:
    other = share(world, ref)
    for _ in range(resyncs):
        world.resync(HELLO)
    world.remove(X, sha(1))
    world.run()
    assert names(world) == {APP, other.stack_name}
    assert retained(world) == {f"stack {APP}": f"the pipeline of acme/hello {other.key} deploys it as well"}
    assert not resyncs or world.record(other).status.stack.applications == [APP]


@pytest.mark.parametrize("resyncs", [0, 1])
@pytest.mark.parametrize("how", [{"message": "x [skip ci]"}, {"template": "Resources: ["}])
def test_what_staging_names_too_is_left_whatever_its_head(
    world: World, how: dict[str, str], resyncs: int
) -> None:
    share(world, MAIN)
    world.push(MAIN, sha(3), sha(2), **how)
    world.run()
    for _ in range(resyncs):
        world.resync(HELLO)
    world.remove(X, sha(1))
    world.run()
    assert "acme/hello staging deploys it as well" in retained(world)[f"stack {APP}"]


def test_what_the_ledger_has_learnt_since_counts_more_than_what_aws_told(world: World) -> None:
    world.push(Y, sha(2))
    world.run()
    plan = TeardownPlan([APP, OTHER, ENV.stack_name], shared={APP: environment(Y).key})
    world.lanes_note(ENV, receipt=TeardownReport(began_at=1, plan=plan))
    world.remove(X, sha(1))
    world.run()
    assert names(world) == {environment(Y).stack_name}


def test_nothing_is_deleted_while_aws_does_not_tell_what_others_deploy(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, real = share(world, MAIN), world.cloud.deployed_stacks

    def refused(pipeline: str) -> list[str]:
        if pipeline == other.stack_name:
            raise PermanentError("reading its pipeline is refused")
        return real(pipeline)

    monkeypatch.setattr(world.cloud, "deployed_stacks", refused)
    delivery = world.remove(X, sha(1))
    world.run()
    assert world.outcome(delivery) == ("failed", "reading its pipeline is refused")
    assert names(world) == {APP, OTHER, ENV.stack_name, other.stack_name}


def test_a_whole_ledger_tells_what_others_deploy(world: World) -> None:
    for ref in (Y, MAIN, V1):
        world.push(ref, sha(2))
    world.run()
    world.cloud.calls.clear()
    world.remove(X, sha(1))
    world.run()
    assert world.cloud.called("deployed_stacks") == [(ENV.stack_name,)]


def test_a_protected_stack_is_left_and_told(world: World) -> None:
    protect(world, APP)
    delivery = world.remove(X, sha(1))
    world.run()
    assert names(world) == {APP}
    assert retained(world) == {f"stack {APP}": "it has termination protection"}
    assert world.outcome(delivery)[0] == "deleted"
    assert "termination protection" in world.outcome(delivery)[1]


def test_an_environment_whose_pipeline_is_protected_is_left_whole(world: World) -> None:
    protect(world, ENV.stack_name)
    delivery = world.remove(X, sha(1))
    world.run()
    assert names(world) == {ENV.stack_name, APP, OTHER}
    assert world.outcome(delivery)[0] == "failed"
    assert "termination protection" in world.outcome(delivery)[1]


def test_protection_that_comes_meanwhile_counts(world: World) -> None:
    delivery = world.remove(X, sha(1))
    world.tasks()
    protect(world, ENV.stack_name)
    world.run()
    assert names(world) == {ENV.stack_name}
    assert world.outcome(delivery)[0] == "failed"
    assert world.record(ENV).status.receipt.outcome == "partly"


def test_what_cannot_be_deleted_is_left_after_a_second_try(world: World) -> None:
    world.cloud.fail_next_delete("the network interface is in use")
    delivery = world.remove(X, sha(1))
    world.run()
    assert world.outcome(delivery) == GONE, "the second try did it"
    world.push(X, sha(2))
    world.run()
    for _ in range(3):
        world.cloud.fail_next_delete("the network interface is in use")
    delivery = world.remove(X, sha(2))
    world.run()
    assert names(world) == set()
    assert world.outcome(delivery)[0] == "deleted"
    assert retained(world) == {f"AWS::Test::Thing {APP}-thing": "the network interface is in use"}


def test_stop_leaves_the_stack_and_the_pipeline_to_people(world: World) -> None:
    world.lanes_note(ENV, teardown="stop")
    for _ in range(9):
        world.cloud.fail_next_delete("in use")
    delivery = world.remove(X, sha(1))
    world.run()
    assert world.outcome(delivery)[0] == "failed"
    assert names(world) == {ENV.stack_name, APP, OTHER}
    assert "in use" in retained(world)[f"stack {APP}"]


def test_what_is_left_again_is_told_once(world: World) -> None:
    world.lanes_note(ENV, teardown="keep-buckets stop")
    world.cloud.buckets[APP] = 5
    world.remove(X, sha(1))
    world.run()
    for _ in range(2):
        world.resync(HELLO)
    (told,) = [text for text in world.posted(sha(1)) if "removed" in text]
    assert f"left stack {APP}: " in told
    world.cloud.buckets[APP] = 0
    world.resync(HELLO)
    assert names(world) == set()
    gone = "x: removed 3 stacks with 4 resources and emptied 1 bucket"
    assert [text for text in world.posted(sha(1)) if "removed" in text] == [told, gone]


def test_buckets_are_kept_where_the_repository_says_so(world: World) -> None:
    world.lanes_note(ENV, teardown="keep-buckets")
    world.cloud.buckets[APP] = 5
    world.remove(X, sha(1))
    world.run()
    assert world.cloud.buckets[APP] == 5
    assert retained(world) == {f"AWS::S3::Bucket {APP}-files": "The bucket you tried to delete is not empty"}


def test_without_the_ledger_what_was_deployed_is_found_by_its_tags(world: World) -> None:
    world.forget()
    world.host.remove(HELLO, X)
    world.deployer.submitter.resync(HELLO)
    world.run()
    assert names(world) == set()


def test_without_ledger_and_pipeline_what_was_deployed_is_found_too(world: World) -> None:
    """Somebody deleted the pipeline's stack in the console; then Redis was lost."""
    world.cloud.delete_stack(ENV.stack_name, "a person")
    world.cloud.settle()
    world.forget()
    world.host.remove(HELLO, X)
    world.deployer.submitter.resync(HELLO)
    world.run()
    assert names(world) == set()


def test_a_stack_that_comes_late_is_gone_after(world: World) -> None:
    """An execution that was stopped had ordered its stack all the same."""
    world.cloud.applications[ENV.stack_name] = [APP, OTHER, f"{ENV.stack_name}-late"]
    world.remove(X, sha(1))
    late: list[str] = []
    advance = world.cloud.advance

    def meanwhile() -> None:
        if not late and world.cloud.stack(APP) is None:
            late.append(world.cloud.add_stack(f"{ENV.stack_name}-late", ENV.tags))
        advance()

    world.cloud.advance = meanwhile  # type: ignore[method-assign]
    world.run()
    assert late
    assert names(world) == set()
    assert f"stack {ENV.stack_name}-late" in removed(world)


@pytest.mark.parametrize("back", ["by a push", "found by a resync"])
def test_a_branch_that_is_back_at_its_commit_gets_what_was_deleted_already(world: World, back: str) -> None:
    deletion = world.remove(X, sha(1))
    while APP in names(world):
        world.tasks()
        world.step()
    assert ENV.stack_name in names(world)
    if back == "by a push":
        world.push(X, sha(1))
    else:
        world.host.push(HELLO, X, sha(1))
        world.cloud.fail_next(TransientError("away"), method="stack", times=3)
        while world.outcome(deletion)[0] == "queued":
            world.step()
            world.tasks()
        assert world.outcome(deletion)[0] == "dead-lettered"
        world.deployer.submitter.resync(HELLO)
    world.run()
    assert {APP, OTHER, ENV.stack_name} <= names(world)
    assert world.built(ENV) == [(sha(1), "succeeded"), (sha(1), "succeeded")]
    assert world.record(ENV).status.outcome == "deployed"
    world.resync(HELLO)
    assert len(world.built(ENV)) == 2


@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize("ref", [X, MAIN])
def test_a_push_during_the_teardown_that_changes_no_chosen_path_makes_it_whole_again(
    ref: str, steps: int
) -> None:
    world, place, paths = World(), environment(ref), {"deployer.yml": "paths: [src/**]"}
    world.cloud.applications[place.stack_name] = [OTHER, APP]
    world.push(ref, sha(1), files=paths)
    world.run()
    world.teardown(place)
    begin(world, steps)
    pushed = world.push(ref, sha(2), sha(1), files={**paths, "docs/readme.md": ""})
    world.run()
    assert world.outcome(pushed)[0] == "deployed"
    assert {APP, OTHER, place.stack_name} <= names(world)
    assert world.record(place).status.state == "deployed"


@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize("cause", ["a person", "its branch"])
def test_a_push_during_the_teardown_that_is_not_wanted_leaves_nothing_half_deleted(
    world: World, cause: str, steps: int
) -> None:
    if cause == "a person":
        world.teardown(ENV)
    else:
        world.remove(X, sha(1))
    begin(world, steps)
    world.push(X, sha(2), files={"deployer.yml": "branches: {exclude: [x]}"})
    world.run()
    world.resync(HELLO)
    assert names(world) == set()
    assert world.record(ENV).status.state == "deleted"


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_tag_that_is_not_chosen_saves_no_production_that_a_person_has_deleted(steps: int) -> None:
    world = World()
    world.rules("tags: v*")
    world.cloud.applications[PRODUCTION.stack_name] = [OTHER, APP]
    world.push(V1, sha(1))
    world.run()
    world.teardown(PRODUCTION)
    begin(world, steps)
    world.push("refs/tags/nightly", sha(2))
    world.run()
    world.resync(HELLO)
    assert names(world) == set()
    assert world.record(PRODUCTION).status.state == "deleted"


@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize("ref", [X, MAIN, V1])
@pytest.mark.parametrize("event", ["a redeployment of an unknown commit", "the deletion of its ref"])
def test_a_teardown_goes_on_if_what_replaced_it_deploys_nothing(ref: str, event: str, steps: int) -> None:
    """The two deletions of staging and production come to nothing: a webhook never deletes these."""
    world, of = World(), environment(ref)
    world.rules()
    world.cloud.applications[of.stack_name] = [OTHER, APP]
    world.push(ref, sha(1))
    world.run()
    world.teardown(of)
    begin(world, steps)
    if event == "the deletion of its ref":
        world.remove(ref, sha(1))
    else:
        is_tag = ref == V1
        wish = Work.of(of.key, cause=Cause.REDEPLOY, ref=ref, sha=sha(9), chosen=True, candidate=is_tag)
        if dispatch := world.lanes.accept(HELLO, wish).dispatch:
            world.send(dispatch)
    world.run()
    assert names(world) == set()
    assert world.record(of).status.state == "deleted"


@pytest.mark.parametrize("runs", [True, False])
def test_what_was_deleted_is_deployed_again_although_the_push_after_it_failed(
    world: World, *, runs: bool
) -> None:
    """The pipeline has run this very commit before; what it deployed then is gone."""
    if runs:
        world.redeploy(ENV)
        world.tasks()
    world.remove(X, sha(1))
    while APP in names(world):
        world.tasks()
        world.step()
    refused = world.push(X, sha(2), template="Resources: [")
    world.run()
    assert world.outcome(refused)[0] == "failed"
    assert ENV.stack_name in names(world)
    world.push(X, sha(1), sha(2))
    world.run()
    assert {APP, OTHER, ENV.stack_name} == names(world)
    assert world.built(ENV)[-1] == (sha(1), "succeeded")
    assert len(world.built(ENV)) == 2 + runs


def test_a_resync_after_a_teardown_that_died_starts_a_new_execution_for_the_one_it_stopped(
    world: World,
) -> None:
    world.redeploy(ENV)
    world.tasks()
    deletion = world.remove(X, sha(1))
    world.tasks()
    world.host.push(HELLO, X, sha(1))
    world.cloud.fail_next(TransientError("away"), method="stack", times=3)
    while world.outcome(deletion)[0] == "queued":
        world.step()
        world.tasks()
    world.deployer.submitter.resync(HELLO)
    world.run()
    assert [end for _, end in world.built(ENV)] == ["succeeded", "stopped", "succeeded"]
    assert {APP, OTHER, ENV.stack_name} == names(world)


def begin(world: World, steps: int) -> None:
    """Let a teardown begin and go on for some time."""
    world.tasks()
    for _ in range(steps):
        world.step()
        world.tasks()


def test_a_push_during_the_teardown_waits_for_what_is_being_deleted(world: World) -> None:
    world.remove(X, sha(1))
    world.tasks()
    app = world.cloud.stack(APP)
    assert app is not None
    assert app.status == "DELETE_IN_PROGRESS"
    delivery = world.push(X, sha(2))
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.built(ENV)[-1] == (sha(2), "succeeded")
    assert {APP, OTHER, ENV.stack_name} == names(world)
    assert world.record(ENV).status.receipt.outcome == "cancelled"


def test_a_branch_that_is_back_while_its_stack_is_being_deleted_gets_a_new_one(world: World) -> None:
    before = world.cloud.stack(ENV.stack_name)
    world.remove(X, sha(1))
    for _ in range(30):
        world.tasks()
        stack = world.cloud.stack(ENV.stack_name)
        if stack and stack.status == "DELETE_IN_PROGRESS":
            break
        world.step()
    delivery = world.push(X, sha(2))
    world.run()
    after = world.cloud.stack(ENV.stack_name)
    assert world.outcome(delivery)[0] == "deployed"
    assert before is not None
    assert after is not None
    assert after.arn != before.arn


@pytest.mark.parametrize(
    ("method", "after"),
    [
        *[(method, after) for method in ("stack", "delete_stack", "resources") for after in range(6)],
        *[(method, after) for method in ("stacks", "executions", "deployed_stacks") for after in range(2)],
    ],
)
def test_a_fault_at_any_call_changes_nothing_of_the_end(world: World, method: str, after: int) -> None:
    """AWS fails before or after the call took effect, at the first, second ... call of a method."""
    real = getattr(world.cloud, method)
    calls = [0]

    def fails(*arguments: Any, **how: Any) -> Any:
        calls[0] += 1
        if calls[0] == after // 2 + 1 and after % 2 == 0:
            raise TransientError("before it took effect")
        answer = real(*arguments, **how)
        if calls[0] == after // 2 + 1:
            raise TransientError("after it took effect")
        return answer

    setattr(world.cloud, method, fails)
    delivery = world.remove(X, sha(1))
    world.run()
    setattr(world.cloud, method, real)
    assert calls[0] > after // 2
    assert world.outcome(delivery) == GONE
    assert names(world) == set()
    assert removed(world) == [f"stack {APP}", f"stack {OTHER}", f"stack {ENV.stack_name}"]


@pytest.mark.parametrize("held", range(6))
def test_a_worker_lost_at_any_step_leaves_a_true_receipt(world: World, held: int) -> None:
    """Its lease runs out before its n-th change; another worker goes on."""
    real, count = world.lanes.extend, [0]

    def lost(*arguments: Any) -> bool:
        count[0] += 1
        if count[0] == held + 1:
            raise LaneLostError("the lane was handed out again")
        return real(*arguments)

    world.lanes.extend = lost  # type: ignore[method-assign]
    delivery = world.remove(X, sha(1))
    world.run(most=120)
    world.lanes.extend = real  # type: ignore[method-assign]
    assert count[0] > held
    assert world.outcome(delivery) == GONE
    assert names(world) == set()
    assert removed(world) == [f"stack {APP}", f"stack {OTHER}", f"stack {ENV.stack_name}"]


def test_production_is_deleted_by_a_person_only_and_was_protected(world: World) -> None:
    world.push(MAIN, sha(3))
    world.push(V1, sha(3))
    world.run()
    stack = world.cloud.stack(PRODUCTION.stack_name)
    assert stack is not None
    assert stack.protected
    world.remove(V1, sha(3))
    world.deployer.submitter.resync(HELLO)
    world.run()
    assert world.cloud.stack(PRODUCTION.stack_name) is not None
    world.teardown(PRODUCTION)
    world.run()
    assert world.cloud.stack(PRODUCTION.stack_name) is None
    assert removed(world, PRODUCTION) == [f"stack {PRODUCTION.stack_name}"]
    assert world.lanes.activity(HELLO)[0].outcome == "deleted"


@pytest.mark.parametrize("ref", ["refs/heads/main", "refs/tags/v1"])
def test_what_a_person_had_deleted_comes_back_by_a_push_only(world: World, ref: str) -> None:
    of = environment(ref)
    world.push("refs/heads/main", sha(9))
    world.push(ref, sha(2))
    world.run()
    world.resync(HELLO)
    world.teardown(of)
    world.run()
    world.resync(HELLO)
    assert of not in world.standing(HELLO)
    world.push(ref.replace("v1", "v2"), sha(3))
    world.run()
    assert world.built(of)[-1] == (sha(3), "succeeded")


def test_production_s_buckets_are_never_emptied(world: World) -> None:
    world.rules()
    world.push(V1, sha(3))
    world.run()
    world.cloud.buckets[PRODUCTION.stack_name] = 5
    world.teardown(PRODUCTION)
    world.run()
    assert world.cloud.buckets[PRODUCTION.stack_name] == 5
    assert [each.partition(" ")[0] for each in retained(world, PRODUCTION)] == ["AWS::S3::Bucket"]


def test_a_teardown_asked_for_twice_is_one(world: World) -> None:
    for _ in range(2):
        world.deployer.submitter.request_environment(ENV, cause=Cause.TEARDOWN)
    world.run()
    assert names(world) == set()
    assert removed(world)[-1] == f"stack {ENV.stack_name}"


def test_a_stack_within_another_goes_with_it(world: World) -> None:
    """It bears the tags and the protection of the one it is in, and is no stack that somebody deployed."""
    world.rules()
    world.push(V1, sha(3))
    world.run()
    outer = world.cloud.stack(PRODUCTION.stack_name)
    assert outer is not None
    world.cloud.add_stack("inner", outer.tags, parent=outer.arn)
    protect(world, "inner")
    world.teardown(PRODUCTION)
    world.run()
    assert world.cloud.stack("inner") is None
    assert retained(world, PRODUCTION) == {}
    assert removed(world, PRODUCTION) == [f"stack {PRODUCTION.stack_name}"]


def test_a_stack_that_outlived_the_one_it_was_in_is_removed(world: World) -> None:
    inner = world.cloud.add_stack("inner", ENV.tags, parent="arn:of-one-that-has-gone")
    world.remove(X, sha(1))
    world.run()
    assert names(world) == set()
    assert inner in [each.id for each in world.record(ENV).status.receipt.removed]


@pytest.mark.parametrize("status", ["DELETE_SKIPPED", "DELETE_COMPLETE"])
def test_a_receipt_keeps_every_stack_however_many_resources_there_are(
    world: World, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """A resync leaves alone what the receipt says was left, and looks for stacks that it says were removed."""
    protect(world, APP)  # the first that is looked at
    resources = world.cloud.resources

    def many(arn: str) -> list[Resource]:
        more = [Resource(f"B{n}", "AWS::S3::Bucket", f"bucket-{n}", status, "") for n in range(150)]
        return resources(arn) + (more if f"/{OTHER}/" in arn else [])

    monkeypatch.setattr(world.cloud, "resources", many)
    world.push("refs/heads/main", sha(9))
    world.remove(X, sha(1))
    world.run(most=120)
    receipt = world.record(ENV).status.receipt
    assert retained(world)[f"stack {APP}"] == "it has termination protection"
    assert {f"stack {OTHER}", f"stack {ENV.stack_name}"} <= set(removed(world))
    many_of = "retained" if status == "DELETE_SKIPPED" else "removed"
    assert len(getattr(receipt, many_of)) < 110
    assert receipt.unlisted == UnlistedItems(**{many_of: 50})
    counts = {"removed": 2, "retained": 1}
    counts[many_of] += 150
    assert teardown_report_words(receipt) == f"{counts['removed']} removed, {counts['retained']} retained"
    assert unlisted_words(receipt, many_of) == "50 more are not listed"

    generation = world.record(ENV).history.generation
    world.resync(HELLO)
    assert world.told[-1] == "resynced: nothing to do"
    assert world.record(ENV).history.generation == generation
    assert names(world) >= {APP}


def test_a_stack_that_something_makes_anew_without_end_is_told(world: World) -> None:
    delivery = world.remove(X, sha(1))
    advance = world.cloud.advance

    def stubborn() -> None:
        advance()
        if world.cloud.stack(APP) is None:
            world.cloud.add_stack(APP, ENV.tags)

    world.cloud.advance = stubborn  # type: ignore[method-assign]
    world.run(most=120)
    assert retained(world) == {f"stack {APP}": "something creates it again each time it is deleted"}
    assert world.record(ENV).status.receipt.outcome == "partly"
    assert "creates it again" in world.outcome(delivery)[1]


def test_the_stack_s_own_tag_keeps_its_buckets_when_the_ledger_is_lost(world: World) -> None:
    """A branch that is back finds its stack half deleted, and has it replaced."""
    kept = {"deployer.yml": "teardown: {empty_buckets: false}"}
    world.push(X, sha(2), sha(1), files=kept)
    world.run()
    world.cloud.buckets[ENV.stack_name] = 5
    world.cloud.set_status(ENV.stack_name, "DELETE_FAILED")
    world.forget()
    world.push(X, sha(3), sha(2), files=kept)
    world.run()
    assert world.cloud.buckets[ENV.stack_name] == 5


def test_a_stack_that_became_another_s_while_its_deletion_waited_is_left(world: World) -> None:
    stack = world.cloud.stack(APP)
    assert stack is not None
    other = environment(Y)
    world.cloud.applications[other.stack_name] = [APP]
    world.push(Y, sha(2))
    world.run()
    plan = TeardownPlan([APP, ENV.stack_name], stack.arn)
    world.lanes_note(ENV, receipt=TeardownReport(began_at=1, plan=plan))
    world.remove(X, sha(1))
    world.run()
    assert world.cloud.stack(APP) is not None
    assert "refs/heads/y deploys it as well" in retained(world)[f"stack {APP}"]


def test_what_came_to_be_since_its_replacement_was_decided_is_not_deleted() -> None:
    world = World()
    world.rules()
    world.push(V1, sha(3))
    world.run()
    before = world.cloud.stack(PRODUCTION.stack_name)
    assert before is not None
    world.cloud.protect(before.arn, on=False)
    world.cloud.set_status(PRODUCTION.stack_name, "REVIEW_IN_PROGRESS")
    real = world.cloud.stack

    def meanwhile(name: str) -> Any:
        found = real(name)
        if found and found.status == "REVIEW_IN_PROGRESS":  # its change set is carried out
            world.cloud.set_status(PRODUCTION.stack_name, "CREATE_COMPLETE")
        return found

    world.cloud.stack = meanwhile  # type: ignore[method-assign]
    delivery = world.push("refs/tags/v2", sha(4))
    world.run()
    after = world.cloud.stack(PRODUCTION.stack_name)
    assert after is not None
    assert after.arn == before.arn
    assert world.outcome(delivery)[0] == "deployed"


def test_a_teardown_that_a_broken_push_took_back_is_over(world: World) -> None:
    world.remove(X, sha(1))
    world.tasks()
    world.push(X, sha(2), template="Resources: [")
    world.run()
    receipt = world.record(ENV).status.receipt
    assert receipt.outcome == "cancelled"
    assert [each.what for each in receipt.removed] == [f"stack {APP}"]
    world.remove(X, sha(2))
    world.run()
    assert names(world) == set()
    assert world.record(ENV).status.receipt.outcome == "removed"


def test_what_was_left_is_left_by_a_resync(world: World) -> None:
    protect(world, APP)
    world.remove(X, sha(1))
    world.run()
    told = len(world.lanes.activity(HELLO))
    world.deployer.submitter.resync(HELLO)
    world.run()
    assert world.told[-1] == "resynced: nothing to do"
    assert len(world.lanes.activity(HELLO)) == told + 1
    world.deployer.submitter.request_environment(ENV, cause=Cause.TEARDOWN)
    stack = world.cloud.stack(APP)
    assert stack is not None
    world.cloud.protect(stack.arn, on=False)
    world.run()
    assert names(world) == set(), "a person may ask for it"


def test_a_replacement_tells_what_it_left(world: World) -> None:
    world.cloud.set_status(ENV.stack_name, "ROLLBACK_FAILED")
    for _ in range(3):
        world.cloud.fail_next_delete("the network interface is in use")
    world.push(X, sha(2), sha(1))
    world.run()
    record = world.record(ENV)
    assert record.status.outcome == "deployed"
    assert record.status.receipt.outcome == "replaced"
    assert list(retained(world)) == [f"AWS::Test::Thing {ENV.stack_name}-thing"]


def test_how_to_take_it_down_is_handed_on_to_what_is_deployed(world: World) -> None:
    """Pipeline's stack, files and ledger are lost: the application's own tag says to keep its buckets."""
    tags = {**ENV.tags, "deployer:teardown": "keep-buckets retain"}
    world.cloud.add_stack(f"{ENV.stack_name}-more", tags)
    world.cloud.buckets[f"{ENV.stack_name}-more"] = 5
    for name in (ENV.stack_name, APP, OTHER):
        world.cloud.delete_stack(name, "a person")
    world.cloud.settle()
    world.forget()
    world.host.remove(HELLO, X)
    world.deployer.submitter.resync(HELLO)
    world.run()
    assert world.cloud.buckets[f"{ENV.stack_name}-more"] == 5
    assert names(world) == set()


# --- in several regions --------------------------------------------------------------------------------------------


def test_production_s_account_that_is_away_keeps_no_branch_from_going(world: World) -> None:
    world.clouds.clouds["eu-west-1"] = production = FakeCloud()
    production.account, production.region = "production's", "eu-west-1"
    world.clouds.targets[Kind.PRODUCTION] = Target(Kind.PRODUCTION, regions=("eu-west-1",))
    production.fail_next(TransientError("its role is refused"), times=99, method="stacks")
    delivery = world.remove(X, sha(1))
    world.run()
    assert world.outcome(delivery) == GONE
    assert names(world) == set()


def test_a_stack_in_another_region_is_left_and_reported(world: World, away: FakeCloud) -> None:
    """Neither the teardown nor a resync deletes it, although its branch is gone."""
    away.add_stack(ENV.stack_name, ENV.tags)
    away.pipelines[ENV.stack_name] = []
    away.start(ENV.stack_name, sha(1), "")
    delivery = world.remove(X, sha(1))
    world.run()
    for _ in range(2):
        world.resync(HELLO)
    assert names(world) == set()
    assert {each.name for each in away.stacks()} == {ENV.stack_name, FAR}
    assert away.called("stop") == away.called("delete_stack") == []
    why = "it is in eu-west-1, and a teardown deletes only what is in us-east-1"
    assert retained(world) == {f"stack {FAR}": why, f"stack {ENV.stack_name}": why}
    assert world.outcome(delivery)[0] == "deleted"
    assert why in world.outcome(delivery)[1]
    assert world.statuses(sha(1))["deployer/teardown"] == "failure"
    assert world.told[-1] == "resynced: nothing to do"
    assert [orphan.stacks for orphan, _ in world.deployer.resyncer.orphans(HELLO)] == [(*away.stacks(),)]


def test_a_branch_that_is_back_uses_the_stack_that_was_left_in_another_region(
    world: World, away: FakeCloud
) -> None:
    away.add_stack(ENV.stack_name, ENV.tags)
    away.pipelines[ENV.stack_name] = []
    world.remove(X, sha(1))
    world.run()
    delivery = world.push(X, sha(2))
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.record(ENV).spec.region == away.region
    assert names(world) == set()


def test_a_listing_of_long_ago_does_not_do(world: World) -> None:
    """It waited in its lane for long, and somebody listed the stacks just after it was asked for."""
    world.lanes.clock_offset_ms = 0  # as the inventory's clock
    delivery = world.remove(X, sha(1))
    world.deployer.inventory.stacks(HELLO, time.time())
    world.lanes.clock_offset_ms += 120_000
    world.cloud.add_stack("unheard-of", ENV.tags)
    world.run()
    assert world.outcome(delivery) == GONE
    assert names(world) == set()


def test_a_teardown_that_an_earlier_release_began_in_two_regions_is_ended(
    world: World, away: FakeCloud
) -> None:
    """Its record names what it was to delete in the other region under a key that is no longer read."""
    (far,) = away.stacks()
    world.remove(X, sha(1))
    world.tasks()
    begun = world.record(ENV).status.receipt.but(todo=[APP, OTHER, ENV.stack_name], retained=[], arn=far.arn)
    world.lanes_note(ENV, receipt=msgspec.structs.replace(begun, unknown={"away": [far.arn]}))
    world.run()
    assert names(world) == set()
    world.resync(HELLO)
    assert list(away.stacks()) == []


def test_what_stands_in_an_account_that_the_settings_no_longer_name_is_on_the_receipt(world: World) -> None:
    arn = world.record(ENV).status.stack.stack_arn
    world.clouds.clouds[world.cloud.region] = FakeCloud(world.cloud.head)
    region, other = world.cloud.region, "222222222222"
    world.clouds.targets[Kind.DEVELOPMENT] = Target(Kind.DEVELOPMENT, account=other, regions=(region,))
    delivery = world.remove(X, sha(1))
    world.run()
    why = (
        "it is in account 123456789012, which is no longer the target of development, "
        "with all that its pipeline deployed"
    )
    assert retained(world) == {f"stack {ENV.stack_name}": why}
    assert [each.id for each in world.record(ENV).status.receipt.retained] == [arn]
    assert world.outcome(delivery) == ("deleted", f"left are stack {ENV.stack_name}: {why}")
    assert world.statuses(sha(1))["deployer/teardown"] == "failure"
