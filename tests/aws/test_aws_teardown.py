"""Teardowns against the simulated AWS: whatever call fails, nothing is left unless the report names it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from aws_world import AwsWorld, Simulation

from deployer.model.environments import Environment
from deployer.model.errors import LaneLostError
from tests.unit.world import HELLO, environment

_X = "refs/heads/x"
_ENV = environment(_X)
_LEASE_MS = 60_000
_NOTHING: dict[str, list[str]] = {"stacks": [], "pipelines": [], "roles": [], "leftovers": []}
_ATTEMPTS = 4  # of one call, before its task ends and is retried
# how a call fails, as a fault of the simulator
_WAYS: dict[str, dict[str, Any]] = {
    "before": {"mode": "before"},
    "after": {"mode": "after"},
    "dropped": {"mode": "after", "drop": True},
    "throttled": {},
    "away": {"mode": "before", "count": _ATTEMPTS},
    "away-after": {"mode": "after", "drop": True, "count": _ATTEMPTS},
}
_OPERATIONS = {
    "DescribeStacks", "ListPipelineExecutions", "StopPipelineExecution", "GetPipeline", "ListStackResources",
    "GetTemplate", "ListObjectVersions", "DeleteObjects", "ListMultipartUploads", "AbortMultipartUpload",
    "DeleteStack", "ListActionExecutions",
}  # fmt: skip
_Call = tuple[str, str | None, int]  # operation, subject, number among these calls


def deployed_world(
    simulation: Simulation, *names: str, files: dict[str, str] | None = None, role: bool = True
) -> AwsWorld:
    """A world with these branches deployed; the application of each has a bucket with objects of every kind."""
    simulation.reset()
    world = AwsWorld(simulation, *([simulation.with_service_role()] if role else []))
    refs = [f"refs/heads/{name}" for name in names]
    world.create_commits(*refs)
    for ref in refs:
        world.push_commit(ref, 0, files=files or {})
    world.run()
    for ref in refs:
        fill_bucket(simulation, bucket_of(world, ref))
    return world


def bucket_of(world: AwsWorld, ref: str) -> str:
    application = world.stack(ref, "-app")
    assert application is not None
    return str(application["resources"]["Files"])


def fill_bucket(simulation: Simulation, name: str) -> None:
    """Put object versions, a delete marker and an unfinished upload into a bucket."""
    for key in ("twice", "twice", "deleted"):
        simulation.s3.put_object(Bucket=name, Key=key, Body=b"x")
    simulation.s3.delete_object(Bucket=name, Key="deleted")
    simulation.s3.create_multipart_upload(Bucket=name, Key="unfinished")


def empty_bucket(simulation: Simulation, name: str) -> None:
    """Empty a bucket as a person does."""
    versions = simulation.s3.list_object_versions(Bucket=name)
    for each in [*versions["Versions"], *versions["DeleteMarkers"]]:
        simulation.s3.delete_object(Bucket=name, Key=each["Key"], VersionId=each["VersionId"])


def resource_counts(simulation: Simulation, of: Environment) -> dict[str, int]:
    """The number of resources of each stack of an environment, by stack id."""
    named = {of.stack_name, f"{of.stack_name}-app"}
    return {
        each["id"]: len(each["resources"]) for each in simulation.state["stacks"] if each["name"] in named
    }


def assert_true(world: AwsWorld, of: Environment, stood: dict[str, int]) -> None:
    """Check that the teardown report lists the fate of each stack, and nothing else.

    Args:
        world: the world.
        of: the environment.
        stood: the number of resources of each stack at the start of the teardown.
    """
    record, state = world.record(of), world.simulation.state
    live = {each["id"]: f"stack {each['name']}" for each in state["stacks"] if each["id"] in stood}
    gone = {each["id"]: f"stack {each['name']}" for each in state["deleted_stacks"] if each["id"] in stood}
    left = [each for each in state["leftovers"] if each["stack_id"] in stood]
    kept = Counter(each["stack_id"] for each in left)
    removed = [(each.id, each.what, each.resources) for each in record.status.receipt.removed]
    retained = {each.id: each.what for each in record.status.receipt.retained}
    buckets = {each[0] for each in removed if each[1].startswith("bucket ")}
    assert sorted(each for each in removed if each[0] not in buckets) == sorted(
        (each, gone[each], stood[each] - kept[each]) for each in gone
    )
    assert not buckets & set(state["buckets"])
    told = {each: what for each, what in retained.items() if each in live}
    assert retained == told | {each["id"]: f"{each['type']} {each['id']}" for each in left}
    if record.status.outcome == "deleted":  # a failed teardown did not reach the other stacks
        assert told == live
    assert all(each.why for each in record.status.receipt.retained)


# --- a fault at each call -----------------------------------------------------------------------------------


def subjects_of_calls(world: AwsWorld, ref: str) -> dict[str, str]:
    """The names in a teardown's calls, each with what it names."""
    pipeline, application = world.stack(ref), world.stack(ref, "-app")
    assert pipeline is not None
    assert application is not None
    return {
        pipeline["name"]: "pipeline",
        pipeline["id"]: "pipeline by ARN",
        application["name"]: "application",
        application["id"]: "application by ARN",
        bucket_of(world, ref): "bucket",
    }


def drop_at_work(world: AwsWorld, ref: str) -> str:
    """Delete a branch whose pipeline runs; run tasks until the first wait."""
    client = world.simulation.client("codepipeline")
    client.start_pipeline_execution(name=environment(ref).stack_name)
    delivery = world.delete_ref(ref)
    world.tasks()
    return delivery


def calls_of_a_teardown(simulation: Simulation) -> list[_Call]:
    """The calls of an undisturbed teardown: the first, the second and the last of each kind."""
    ref = "refs/heads/clean"
    world = deployed_world(simulation, "clean")
    names = subjects_of_calls(world, ref)
    seen = simulation.simulator.calls.list_calls()[-1]["seq"]
    drop_at_work(world, ref)
    world.run()
    made = [
        (each["operation"], names.get(each["name"]))
        for each in simulation.simulator.calls.list_calls(seen)
        if each["user_agent"].endswith("deployer") and (each["name"] is None or each["name"] in names)
    ]
    if (stop := ("StopPipelineExecution", "pipeline")) not in made:
        made.append(stop)  # on a slow machine the execution may have ended before
    return [
        (*kind, number)
        for kind, count in Counter(made).items()
        for number in sorted({1, min(2, count), count})
    ]


def inject_faults(calls: Sequence[_Call], world: AwsWorld, ref: str, ways: Sequence[str]) -> None:
    """Inject a fault of each way into the call at the same index; for one kind of call, the earlier first."""
    names = {what: name for name, what in subjects_of_calls(world, ref).items()}
    for (operation, what, number), way in sorted(zip(calls, ways, strict=True), key=lambda each: each[0][2]):
        on = {"operation": operation, "name": names[str(what)], "skip": number - 1}
        order = {**on, "count": 1, **_WAYS[way]}
        world.simulation.simulator.faults.add({"throttle" if way == "throttled" else "errors": order})


def test_a_fault_at_any_call_of_a_teardown_leaves_nothing(simulation: Simulation) -> None:
    """Each environment has one fault of each way; each call of a teardown fails once in every way."""
    calls = [each for each in calls_of_a_teardown(simulation) if each[1]]
    assert {operation for operation, _, _ in calls} == _OPERATIONS
    names = [f"n{number}" for number in range(len(calls))]
    world = deployed_world(simulation, *names)
    stood, deliveries, apart = {}, {}, len(calls) // len(_WAYS)
    for at, name in enumerate(names):
        ref = f"refs/heads/{name}"
        stood[name] = resource_counts(simulation, environment(ref))
        those = [calls[(at + apart * way) % len(calls)] for way in range(len(_WAYS))]
        inject_faults(those, world, ref, list(_WAYS))
        deliveries[name] = drop_at_work(world, ref)
    world.run()
    shown = simulation.simulator.faults.rules_in_force()
    left = {each["operation"] for each in shown["errors"] + shown["throttle"]}
    assert left <= {"StopPipelineExecution"}, (
        "an execution may end before it is stopped, any other fault strikes"
    )
    for name in names:
        of = environment(f"refs/heads/{name}")
        assert world.outcome(deliveries[name])[0] == "deleted"
        assert simulation.resources_of(of) == _NOTHING
        assert_true(world, of, stood[name])
        assert world.record(of).status.receipt.outcome == "removed"


def test_a_fault_while_listing_stacks_leaves_nothing(simulation: Simulation) -> None:
    world = deployed_world(simulation, *_WAYS)
    stood, deliveries = {}, {}
    for way, fault in _WAYS.items():
        ref = f"refs/heads/{way}"
        stood[way] = resource_counts(simulation, environment(ref))
        # the listing follows a DescribeStacks call for the pipeline's stack in either task
        order = {"operation": "DescribeStacks", "skip": 2, "count": 1, **fault}
        simulation.simulator.faults.add({"throttle" if way == "throttled" else "errors": order})
        deliveries[way] = drop_at_work(world, ref)
    world.run()
    for way in _WAYS:
        of = environment(f"refs/heads/{way}")
        assert world.outcome(deliveries[way])[0] == "deleted"
        assert simulation.resources_of(of) == _NOTHING
        assert_true(world, of, stood[way])


# --- resources that cannot be deleted -----------------------------------------------------------------------


@pytest.mark.parametrize("wish", ["retain", "force", "stop"])
def test_resources_that_aws_cannot_delete_are_reported(simulation: Simulation, wish: str) -> None:
    """An application's parameter fails to be deleted once, twice or always; a full bucket is to be kept."""
    counts = {"once": 1, "twice": 2, "always": 99}
    settings = f"teardown: {{on_failure: {wish}, empty_buckets: false}}"
    world = deployed_world(simulation, *counts, "full", files={"deployer.yml": settings})
    stood, deliveries = {}, {}
    for name in (*counts, "full"):
        ref = f"refs/heads/{name}"
        of = environment(ref)
        stood[name] = resource_counts(simulation, of)
        if name in counts:
            empty_bucket(simulation, bucket_of(world, ref))
            order = {"stack": f"{of.stack_name}-app", "resource": "Note", "on": "delete", "reason": "in use"}
            simulation.simulator.faults.add({"fail_resources": {**order, "count": counts[name]}})
        deliveries[name] = world.delete_ref(ref)
    world.run()
    for name in (*counts, "full"):
        of = environment(f"refs/heads/{name}")
        outcome, reason = world.outcome(deliveries[name])
        assert_true(world, of, stood[name])
        left = simulation.resources_of(of)
        if wish == "stop" and name in {"always", "full"}:
            assert outcome == "failed"
            assert ("in use" if name == "always" else "not empty") in reason
            assert left["stacks"] == [f"{of.stack_name}", f"{of.stack_name}-app"]
            continue
        assert outcome == "deleted"
        assert (left["stacks"], left["pipelines"], left["roles"]) == ([], [], [])
        if name == "once" or (name == "twice" and wish != "retain"):
            assert left == _NOTHING
        else:
            assert len(left["leftovers"]) == 1


# --- lost workers, deletions by people ----------------------------------------------------------------------


def came_to(world: AwsWorld, stood: dict[str, int], other: str) -> dict[str, int]:
    """The stacks that the report must list; a stack deleted by others only if the teardown still found it."""
    told = {each.id for each in world.record(_ENV).status.receipt.removed}
    return {each: count for each, count in stood.items() if each != other or each in told}


@pytest.mark.parametrize("held", [0, 2, 5])  # the first change, one in the middle, the last
def test_a_lost_worker_leaves_nothing(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    """The lease expires before the n-th change; another worker continues."""
    world = deployed_world(simulation, "x")
    stood, count, real = resource_counts(simulation, _ENV), [0], world.lanes.extend

    def lost(*arguments: Any) -> bool:
        count[0] += 1
        if count[0] == held + 1:
            world.lanes.clock_offset_ms += _LEASE_MS
            raise LaneLostError("the lane was handed out again")
        return real(*arguments)

    monkeypatch.setattr(world.lanes, "extend", lost)
    delivery = drop_at_work(world, _X)
    world.run()
    assert count[0] > held
    assert world.outcome(delivery)[0] == "deleted"
    assert simulation.resources_of(_ENV) == _NOTHING
    assert_true(world, _ENV, stood)


def test_a_report_after_redis_was_wiped_lists_what_happened_since(simulation: Simulation) -> None:
    world = deployed_world(simulation, "x")
    stood = resource_counts(simulation, _ENV)
    drop_at_work(world, _X)
    world.forget()
    world.deployer.submitter.resync(HELLO)
    world.run()
    assert simulation.resources_of(_ENV) == _NOTHING
    before = next(id_ for id_ in stood if "-app/" in id_)  # its deletion was requested and may have ended
    assert_true(world, _ENV, came_to(world, stood, before))


@pytest.mark.parametrize("during", [False, True])
@pytest.mark.parametrize("suffix", ["", "-app"])
def test_a_stack_deleted_by_a_person_first_does_not_change_the_result(
    simulation: Simulation, suffix: str, during: bool
) -> None:
    """The service role of the application's stack may be deleted with the pipeline's stack."""
    world = deployed_world(simulation, "x")
    empty_bucket(simulation, bucket_of(world, _X))
    stood = resource_counts(simulation, _ENV)
    first = world.stack(_X, suffix)
    assert first is not None
    if during:
        delivery = world.delete_ref(_X)
        world.tasks()
    simulation.client("cloudformation").delete_stack(StackName=first["id"])
    if not during:
        world.run_until(lambda: world.stack(_X, suffix) is None)
        delivery = world.delete_ref(_X)
    world.run()
    assert world.outcome(delivery)[0] == "deleted"
    assert simulation.resources_of(_ENV) == _NOTHING
    assert_true(world, _ENV, came_to(world, stood, first["id"]))


def test_an_application_with_a_deleted_role_is_left_and_reported_without_a_service_role(
    simulation: Simulation,
) -> None:
    world = deployed_world(simulation, "x", role=False)
    pipeline = world.stack(_X)
    assert pipeline is not None
    stood = resource_counts(simulation, _ENV)
    simulation.client("cloudformation").delete_stack(StackName=pipeline["id"])
    world.run_until(lambda: world.stack(_X) is None)
    stood.pop(pipeline["id"])
    delivery = world.delete_ref(_X)
    world.run()
    assert "cannot be assumed" in world.outcome(delivery)[1]
    assert simulation.resources_of(_ENV)["stacks"] == [f"{_ENV.stack_name}-app"]
    assert_true(world, _ENV, stood)
