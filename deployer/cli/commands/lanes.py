"""`deployer lanes`: the queue of each repository."""

import click

from deployer.cli import output
from deployer.cli.environment_names import environment_label
from deployer.cli.installation import load_deployer
from deployer.cli.parameters import json_option
from deployer.model.durations import span
from deployer.model.environments import Repository
from deployer.queue.store import Lane
from deployer.views import record_json as shapes


@click.command()
@json_option
def lanes(*, json_: bool) -> None:
    """Show the lanes that hold or await something."""
    found = load_deployer().lanes.lanes()
    if json_:
        output.as_json([shapes.lane(lane) for lane in found])
        return
    rows = [
        [
            lane.repository,
            lane.status,
            _short(lane, lane.key) if lane.environment else "",
            lane.task.removeprefix("deployer."),
            _waiting(lane),
            ", ".join(f"{_short(lane, key)} {span(left)}" for key, left in lane.snoozed.items()),
        ]
        for lane in found
    ]
    headings = ["Repository", "Lane", "Environment", "Task", "Waiting", "Snoozed"]
    output.table(headings, rows, empty="every lane is empty")
    for reason in dict.fromkeys(reason for lane in found for reason in lane.resting.values()):
        output.note(reason)
    for problem in (line for lane in found for line in shapes.lane_problems(lane)):
        output.note(problem)


def _waiting(lane: Lane) -> str:
    # what was sent stands in the queue until a worker takes it: it is told once
    keys = [work.key for work in lane.waiting]
    if lane.status == "sent":
        keys = [key for key in keys if key != lane.key]
    return ", ".join(_short(lane, key) for key in keys)


def _short(lane: Lane, key: str) -> str:
    return environment_label(Repository.parse(lane.repository), key)
