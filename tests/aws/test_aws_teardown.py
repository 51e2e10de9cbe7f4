"""Teardowns before the simulated AWS, whatever fails meanwhile: nothing is left, and the receipt is true."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from aws_world import AwsWorld, Simulation

from deployer.environments import Environment
from tests.unit.world import environment

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


def deployed(simulation: Simulation, *names: str, files: dict[str, str] | None = None) -> AwsWorld:
    """A world with these branches; the application of each has a bucket that holds something of every sort."""
    simulation.forget()
    world = AwsWorld(simulation, simulation.with_service_role())
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
    seen = simulation.simulator.calls.listed()[-1]["seq"]
    drop_at_work(world, ref)
    world.run()
    made = [
        (each["operation"], names.get(each["name"]))
        for each in simulation.simulator.calls.listed(seen)
        if each["user_agent"].endswith("deployer") and (each["name"] is None or each["name"] in names)
    ]
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
    shown = simulation.simulator.faults.shown()
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
