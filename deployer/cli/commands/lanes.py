"""`deployer lanes`: print the queue of each repository."""

import click

from deployer.cli import output
from deployer.cli.environment_names import environment_label
from deployer.cli.installation import load_deployer
from deployer.cli.parameters import json_option
from deployer.model.durations import span
from deployer.model.environments import Repository
from deployer.queue.store import QueueState
from deployer.views import record_json, sentences


@click.command()
@json_option
def lanes(*, json_: bool) -> None:
    """Show the queues (lanes) that have work."""
    found = load_deployer().lanes.lanes()
    if json_:
        output.print_json([record_json.lane(lane) for lane in found])
        return
    rows = [
        [
            lane.repository,
            lane.status,
            _item_label(lane, lane.key) if lane.environment else "",
            lane.task.removeprefix("deployer."),
            _waiting_column(lane),
            ", ".join(f"{_item_label(lane, key)} {span(left)}" for key, left in lane.snoozed.items()),
        ]
        for lane in found
    ]
    headings = ["Repository", "Queue", "Environment", "Task", "Waiting", "Snoozed"]
    output.print_table(headings, rows, empty="every queue is empty")
    for reason in dict.fromkeys(reason for lane in found for reason in lane.resting.values()):
        output.print_note(reason)
    for problem in (line for lane in found for line in sentences.lane_problems(lane)):
        output.print_note(problem)


def _waiting_column(lane: QueueState) -> str:
    # an item that was sent stays in the queue until a worker takes it, and has a column of its own
    keys = [work.key for work in lane.waiting]
    if lane.status == "sent":
        keys = [key for key in keys if key != lane.key]
    return ", ".join(_item_label(lane, key) for key in keys)


def _item_label(lane: QueueState, key: str) -> str:
    return environment_label(Repository.parse(lane.repository), key)
