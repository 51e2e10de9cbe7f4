"""Teardowns before the simulated AWS, whatever fails meanwhile: nothing is left, and the receipt is true."""

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
_ATTEMPTS = 4  # of one call, before its task ends and is repeated
# how a call fails: what a fault of the simulator does
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
    "DeleteStack",
}  # fmt: skip
_Call = tuple[str, str | None, int]  # operation, on what, and which of these calls it is


def deployed(
    simulation: Simulation, *names: str, files: dict[str, str] | None = None, role: bool = True
) -> AwsWorld:
    """A world with these branches; the application of each has a bucket that holds something of every sort."""
    simulation.forget()
    world = AwsWorld(simulation, *([simulation.with_service_role()] if role else []))
    refs = [f"refs/heads/{name}" for name in names]
    world.begin(*refs)
    for ref in refs:
        world.move(ref, 0, files=files or {})
    world.run()
    for ref in refs:
        fill(simulation, bucket(world, ref))
    return world


def bucket(world: AwsWorld, ref: str) -> str:
    application = world.stack(ref, "-app")
    assert application is not None
    return str(application["resources"]["Files"])


def fill(simulation: Simulation, name: str) -> None:
    """Versions, a delete marker and an upload that was never finished."""
    for key in ("twice", "twice", "deleted"):
        simulation.s3.put_object(Bucket=name, Key=key, Body=b"x")
    simulation.s3.delete_object(Bucket=name, Key="deleted")
    simulation.s3.create_multipart_upload(Bucket=name, Key="unfinished")


def empty(simulation: Simulation, name: str) -> None:
    """A bucket that a person emptied."""
    versions = simulation.s3.list_object_versions(Bucket=name)
    for each in [*versions["Versions"], *versions["DeleteMarkers"]]:
        simulation.s3.delete_object(Bucket=name, Key=each["Key"], VersionId=each["VersionId"])


def ids(simulation: Simulation, of: Environment) -> dict[str, int]:
    """The stacks of an environment by id, and how many resources each has."""
    named = {of.stack_name, f"{of.stack_name}-app"}
    return {
        each["id"]: len(each["resources"]) for each in simulation.state["stacks"] if each["name"] in named
    }


def assert_true(world: AwsWorld, of: Environment, stood: dict[str, int]) -> None:
    """The receipt tells of each stack that stood what became of it, and of nothing else.

    Args:
        stood: the stacks that there were when the teardown began, and how many resources each had.
    """
    record, state = world.record(of), world.simulation.state
    live = {each["id"]: f"stack {each['name']}" for each in state["stacks"] if each["id"] in stood}
    gone = {each["id"]: f"stack {each['name']}" for each in state["deleted_stacks"] if each["id"] in stood}
    left = [each for each in state["leftovers"] if each["stack_id"] in stood]
    kept = Counter(each["stack_id"] for each in left)
    removed = [(each["id"], each["what"], each["resources"]) for each in record.receipt["removed"]]
    retained = {each["id"]: each["what"] for each in record.receipt["retained"]}
    buckets = {each[0] for each in removed if each[1].startswith("bucket ")}
    assert sorted(each for each in removed if each[0] not in buckets) == sorted(
        (each, gone[each], stood[each] - kept[each]) for each in gone
    )
    assert not buckets & set(state["buckets"])
    told = {each: what for each, what in retained.items() if each in live}
    assert retained == told | {each["id"]: f"{each['type']} {each['id']}" for each in left}
    if record.outcome == "deleted":  # one that failed did not come to the rest
        assert told == live
    assert all(each["why"] for each in record.receipt["retained"])


# --- a fault at each call ------------------------------------------------------------------------------------------


def subjects(world: AwsWorld, ref: str) -> dict[str, str]:
    """What a teardown's calls name, and what that is."""
    pipeline, application = world.stack(ref), world.stack(ref, "-app")
    assert pipeline is not None
    assert application is not None
    return {
        pipeline["name"]: "pipeline",
        pipeline["id"]: "pipeline by ARN",
        application["name"]: "application",
        application["id"]: "application by ARN",
        bucket(world, ref): "bucket",
    }


def drop_at_work(world: AwsWorld, ref: str) -> str:
    """Delete a branch whose pipeline runs, and go as far as there is nothing to wait for."""
    client = world.simulation.client("codepipeline")
    client.start_pipeline_execution(name=environment(ref).stack_name)
    delivery = world.drop(ref)
    world.tasks()
    return delivery


def calls_of_a_teardown(simulation: Simulation) -> list[_Call]:
    """Every call of one that nothing disturbs: the first, the second and the last of each kind."""
    ref = "refs/heads/clean"
    world = deployed(simulation, "clean")
    names = subjects(world, ref)
    seen = simulation.simulator.calls.list_calls()[-1]["seq"]
    drop_at_work(world, ref)
    world.run()
    made = [
        (each["operation"], names.get(each["name"]))
        for each in simulation.simulator.calls.list_calls(seen)
        if each["user_agent"].endswith("deployer") and (each["name"] is None or each["name"] in names)
    ]
    if (stop := ("StopPipelineExecution", "pipeline")) not in made:
        made.append(stop)  # where the machine is slow the execution may have ended before
    return [
        (*kind, number)
        for kind, count in Counter(made).items()
        for number in sorted({1, min(2, count), count})
    ]


def struck(calls: Sequence[_Call], world: AwsWorld, ref: str, ways: Sequence[str]) -> None:
    """Order a fault of each way for the call at the same place; on one kind of call the earlier first."""
    names = {what: name for name, what in subjects(world, ref).items()}
    for (operation, what, number), way in sorted(zip(calls, ways, strict=True), key=lambda each: each[0][2]):
        on = {"operation": operation, "name": names[str(what)], "skip": number - 1}
        order = {**on, "count": 1, **_WAYS[way]}
        world.simulation.simulator.faults.add({"throttle" if way == "throttled" else "errors": order})


def test_a_fault_at_any_call_of_a_teardown_leaves_nothing(simulation: Simulation) -> None:
    """Each environment meets a fault of each way, and each call of a teardown meets every way once."""
    calls = [each for each in calls_of_a_teardown(simulation) if each[1]]
    assert {operation for operation, _, _ in calls} == _OPERATIONS
    names = [f"n{number}" for number in range(len(calls))]
    world = deployed(simulation, *names)
    stood, deliveries, apart = {}, {}, len(calls) // len(_WAYS)
    for at, name in enumerate(names):
        ref = f"refs/heads/{name}"
        stood[name] = ids(simulation, environment(ref))
        those = [calls[(at + apart * way) % len(calls)] for way in range(len(_WAYS))]
        struck(those, world, ref, list(_WAYS))
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
        assert simulation.of(of) == _NOTHING
        assert_true(world, of, stood[name])
        assert world.record(of).receipt["outcome"] == "removed"


def test_a_fault_at_the_look_over_all_stacks_leaves_nothing(simulation: Simulation) -> None:
    world = deployed(simulation, *_WAYS)
    stood, deliveries = {}, {}
    for way, fault in _WAYS.items():
        ref = f"refs/heads/{way}"
        stood[way] = ids(simulation, environment(ref))
        # it comes after a look at the pipeline's own stack by either task
        order = {"operation": "DescribeStacks", "skip": 2, "count": 1, **fault}
        simulation.simulator.faults.add({"throttle" if way == "throttled" else "errors": order})
        deliveries[way] = drop_at_work(world, ref)
    world.run()
    for way in _WAYS:
        of = environment(f"refs/heads/{way}")
        assert world.outcome(deliveries[way])[0] == "deleted"
        assert simulation.of(of) == _NOTHING
        assert_true(world, of, stood[way])


# --- what cannot be deleted ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wish", ["retain", "force", "stop"])
def test_what_aws_cannot_delete_is_told_as_it_is(simulation: Simulation, wish: str) -> None:
    """The parameter of an application cannot be deleted once, twice or at all; a full bucket that is to be kept."""
    counts = {"once": 1, "twice": 2, "always": 99}
    settings = f"teardown: {{on_failure: {wish}, empty_buckets: false}}"
    world = deployed(simulation, *counts, "full", files={"deployer.yml": settings})
    stood, deliveries = {}, {}
    for name in (*counts, "full"):
        ref = f"refs/heads/{name}"
        of = environment(ref)
        stood[name] = ids(simulation, of)
        if name in counts:
            empty(simulation, bucket(world, ref))
            order = {"stack": f"{of.stack_name}-app", "resource": "Note", "on": "delete", "reason": "in use"}
            simulation.simulator.faults.add({"fail_resources": {**order, "count": counts[name]}})
        deliveries[name] = world.drop(ref)
    world.run()
    for name in (*counts, "full"):
        of = environment(f"refs/heads/{name}")
        outcome, reason = world.outcome(deliveries[name])
        assert_true(world, of, stood[name])
        left = simulation.of(of)
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


# --- accidents, and people who were quicker ------------------------------------------------------------------------


def came_to(world: AwsWorld, stood: dict[str, int], other: str) -> dict[str, int]:
    """The stacks that the receipt must tell of; one that others deleted only if the teardown still met it."""
    told = {each["id"] for each in world.record(_ENV).receipt["removed"]}
    return {each: count for each, count in stood.items() if each != other or each in told}


@pytest.mark.parametrize("held", [0, 2, 5])  # the first change, one on the way, the last
def test_a_worker_lost_half_way_leaves_nothing(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch, held: int
) -> None:
    """Its lease runs out before its n-th change; another worker goes on."""
    world = deployed(simulation, "x")
    stood, count, real = ids(simulation, _ENV), [0], world.lanes.extend

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
    assert simulation.of(_ENV) == _NOTHING
    assert_true(world, _ENV, stood)


def test_a_receipt_tells_what_happened_since_redis_was_wiped(simulation: Simulation) -> None:
    world = deployed(simulation, "x")
    stood = ids(simulation, _ENV)
    drop_at_work(world, _X)
    world.forget()
    world.deployer.intake.resync(HELLO)
    world.run()
    assert simulation.of(_ENV) == _NOTHING
    before = next(id_ for id_ in stood if "-app/" in id_)  # its deletion was ordered, and may have ended
    assert_true(world, _ENV, came_to(world, stood, before))


@pytest.mark.parametrize("during", [False, True])
@pytest.mark.parametrize("suffix", ["", "-app"])
def test_a_person_who_deletes_one_stack_first_changes_nothing_of_the_end(
    simulation: Simulation, suffix: str, during: bool
) -> None:
    """The role that the application's stack was made with may go with the pipeline's."""
    world = deployed(simulation, "x")
    empty(simulation, bucket(world, _X))
    stood = ids(simulation, _ENV)
    first = world.stack(_X, suffix)
    assert first is not None
    if during:
        delivery = world.drop(_X)
        world.tasks()
    simulation.client("cloudformation").delete_stack(StackName=first["id"])
    if not during:
        world.until(lambda: world.stack(_X, suffix) is None)
        delivery = world.drop(_X)
    world.run()
    assert world.outcome(delivery)[0] == "deleted"
    assert simulation.of(_ENV) == _NOTHING
    assert_true(world, _ENV, came_to(world, stood, first["id"]))


def test_without_a_service_role_an_application_whose_role_has_gone_is_left_and_told(
    simulation: Simulation,
) -> None:
    world = deployed(simulation, "x", role=False)
    pipeline = world.stack(_X)
    assert pipeline is not None
    stood = ids(simulation, _ENV)
    simulation.client("cloudformation").delete_stack(StackName=pipeline["id"])
    world.until(lambda: world.stack(_X) is None)
    stood.pop(pipeline["id"])
    delivery = world.drop(_X)
    world.run()
    assert "cannot be assumed" in world.outcome(delivery)[1]
    assert simulation.of(_ENV)["stacks"] == [f"{_ENV.stack_name}-app"]
    assert_true(world, _ENV, stood)
