"""Stacks that an earlier release named keep their names after an upgrade."""

from typing import Any

import pytest
from aws_world import AwsWorld, Simulation, pipeline_template

from tests.unit.identities import former_release
from tests.unit.world import HELLO, environment

_X, _MAIN = "refs/heads/x", "refs/heads/main"
_NOTE = {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Value": "new"}}


def stacks(simulation: Simulation) -> dict[str, Any]:
    return {each["name"]: each for each in simulation.state["stacks"]}


@pytest.mark.parametrize("lost", [False, True])
def test_an_upgrade_replaces_no_stack(simulation: Simulation, *, lost: bool) -> None:
    simulation.reset()
    world = AwsWorld(simulation)
    world.create_commits(_X, _MAIN)
    with former_release():
        for ref in (_MAIN, _X):
            world.push_commit(ref, 0)
        world.run()
    made = stacks(simulation)
    former = {environment(ref).former_stack_name for ref in (_X, _MAIN)}
    assert set(made) == {*former, *(f"{name}-app" for name in former)}
    if lost:
        world.forget()
        world.resync(HELLO)
    for ref in (_MAIN, _X):
        delivery = world.push_commit(ref, 1, template=pipeline_template(Note=_NOTE))
        world.run()
        assert world.outcome(delivery)[0] == "deployed"
        assert world.record(environment(ref)).stack_name in former
    after = stacks(simulation)
    assert {name: each["id"] for name, each in after.items()} == {
        name: each["id"] for name, each in made.items()
    }
    assert {after[name]["status"] for name in former} == {"UPDATE_COMPLETE"}

    world.delete_ref(_X)
    world.run()
    of = environment(_MAIN).former_stack_name
    assert set(stacks(simulation)) == {of, f"{of}-app"}
    world.push_commit(_X, 2)
    world.run()
    assert environment(_X).stack_name in stacks(simulation)
    assert {each["name"] for each in simulation.state["pipelines"]} == {of, environment(_X).stack_name}
