"""An execution that waits for an approval over a week-end is still followed afterwards."""

from tests.unit.world import World, environment, sha

_BRANCH = "refs/heads/dev"
_WEEKEND = 72 * 3600  # seconds
_STEP = 3600  # seconds; longer than the longest wait between two polls


def test_a_week_end_at_an_approval_ends_in_no_dead_letter() -> None:
    world = World()
    delivery = world.push(_BRANCH, sha(1))
    for _ in range(10):  # until the execution runs; then nobody approves
        world.tasks()
        if world.record(environment(_BRANCH)).status.state == "running":
            break
        world.step()
    for _ in range(_WEEKEND // _STEP):
        world.lanes.clock_offset_ms += _STEP * 1000
        world.sent.extend(world.lanes.sweep())
        world.tasks()
    assert world.record(environment(_BRANCH)).status.state == "running"
    assert not world.lanes.dead_letters()
    assert world.outcome(delivery)[0] == "queued"

    world.run()
    assert world.record(environment(_BRANCH)).status.state == "deployed"
    assert world.outcome(delivery)[0] == "deployed"
