"""The option `--wait`: follows queued work until it ends."""

import shlex
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from deployer.cli import output
from deployer.cli.environment_names import queued_environments
from deployer.cli.parameters import F
from deployer.model.activity import Activity
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Repository
from deployer.model.errors import DeployerError, UnavailableError
from deployer.model.outcomes import Outcome
from deployer.queue.items import RESYNC_KEY, split_key
from deployer.queue.store import QueueState

if TYPE_CHECKING:
    from deployer.wiring import Deployer

_WANTED = {"redeploy": Outcome.DEPLOYED, "delete": Outcome.DELETED}
_WAIT_SECONDS = 3600.0  # a pipeline can wait for a manual approval much longer
_POLL_SECONDS = 0.5
_HISTORY_LENGTH = 500  # lines that a repository's history has
_LOST_POLLS = 4  # consecutive polls in which neither queue nor history contains the work


def wait_options(command: F) -> F:
    """Add the options `--wait` and `--timeout`."""
    timeout = click.option(
        "--timeout",
        type=click.FloatRange(min=0),
        default=_WAIT_SECONDS,
        metavar="SECONDS",
        help="How long to wait.",
        show_default=True,
    )
    return click.option("--wait", is_flag=True, help="Wait until it ends, and show each change.")(
        timeout(command)
    )


def follow_work(
    deployer: "Deployer",
    what: str,
    environment: Environment,
    goal: str,
    *,
    timeout: float | None,
    json_: bool,
) -> None:
    """Print what was queued and, with a timeout, wait until it ends.

    Args:
        deployer: the parts.
        what: the name of the command.
        environment: the environment that the work is for.
        goal: the request id of the queued work.
        timeout: seconds to wait; None to return at once.
        json_: whether to print JSON.

    Raises:
        DeployerError: the work ended with another outcome, or did not end in time.
    """
    look = f"deployer why {environment.repository} {shlex.quote(environment.name)}"
    entry: dict[str, Any] = {
        "repository": environment.repository.full_name,
        "environment": environment.key,
        "task": goal,
        "outcome": "queued",
    }
    if not json_:
        output.print_line(f"{what} of {environment} queued as {goal}")
    if timeout is None:
        if json_:
            output.print_json(entry)
        else:
            output.print_note(f"follow it: {look}")
        return
    wait = WorkFollower(
        deployer,
        environment.repository,
        environment.key,
        goal,
        output.print_note if json_ else output.print_line,
    )
    try:
        ended = wait.wait_until(time.monotonic() + timeout)
    except KeyboardInterrupt:
        output.print_note(f"no longer waiting; the {what} continues: {look}")
        raise
    outcome = (ended.outcome or "unknown") if ended else "unfinished"
    reason = ended.reason if ended else f"it has not ended after {timeout:g} s and continues"
    if json_:
        output.print_json(entry | {"outcome": outcome, "reason": reason})
    if ended is None:
        raise DeployerError(f"the {what} of {environment}: {reason}; see: {look}")
    if outcome != _WANTED[what]:
        raise DeployerError(f"the {what} of {environment} ended as {outcome}: {reason}; see: {look}")
    if not json_:
        output.print_line(f"{outcome}: {reason}")
        if base := deployer.config.public_url:
            output.print_line(f"{base}/environments/{environment.stack_name}")


class WorkFollower:
    """Follows queued work until it ends.

    Args:
        deployer: the parts.
        repository: the repository whose queue contains the work.
        key: the environment's key, or `RESYNC_KEY`.
        goal: the request id of the work.
        say: prints a line.
    """

    def __init__(
        self,
        deployer: "Deployer",
        repository: Repository,
        key: str,
        goal: str,
        say: Callable[[str], object] = output.print_note,
    ) -> None:
        self._lanes = deployer.lanes
        self._repository, self._key, self._goal = repository, key, goal
        self._say = say
        self._shown: str | None = None
        self._missed = 0
        self._before: float | None = None  # when the state that the first poll found began

    def wait_until(self, deadline: float) -> Activity | None:
        """Wait until the work ends, also while Redis does not answer.

        Args:
            deadline: when to stop waiting (by `time.monotonic`).

        Returns:
            The last line of its history, with an empty outcome if neither queue nor history contains the work; None
            if it did not end before the deadline.
        """
        away = False
        while True:
            try:
                if ended := self._find_end():
                    return ended
                if away:
                    self._say("Redis answers again")
                away = False
            except UnavailableError as error:
                if not away:
                    self._say(f"{error}; waiting for it to return")
                away = True
            if (left := deadline - time.monotonic()) <= 0:
                return None
            time.sleep(min(_POLL_SECONDS, left))

    def _find_end(self) -> Activity | None:
        lane = next(iter(self._lanes.lanes(self._repository)), None)
        # the history is read after the queue, so it contains work that left the queue between the two reads
        for line in self._lanes.activity(self._repository, _HISTORY_LENGTH):
            if line.goal == self._goal and line.environment == self._key:
                return line
        if lane is None or not _has_work(lane, self._key):
            self._missed += 1  # Redis was emptied, or the work is between two tasks at this moment
            if self._missed >= _LOST_POLLS:
                reason = "neither the queue nor the history contains it: Redis may have been emptied"
                return Activity(time.time(), str(self._repository), self._key, self._goal, "", reason)
            return None
        self._missed = 0
        if self._key != RESYNC_KEY:
            self._print_change(lane)
        return None

    def _print_change(self, lane: QueueState) -> None:
        record = self._lanes.environment(Environment.from_key(self._repository, self._key))
        changed = record.status.changed_at if record else 0.0
        if self._before is None:
            self._before = changed
        # until a task of this work changes the state, the record describes the previous deployment
        words = _describe_progress(record if changed != self._before else None, lane, self._key, self._goal)
        if words != self._shown:
            self._say(f"{time.strftime('%H:%M:%S')} {words}")
        self._shown = words


def _has_work(lane: QueueState, key: str) -> bool:
    if key == RESYNC_KEY:
        return (
            lane.environment == key or key in lane.snoozed or any(w.environment == key for w in lane.waiting)
        )
    return key in queued_environments(lane)


def _describe_progress(record: EnvironmentRecord | None, lane: QueueState, key: str, goal: str) -> str:
    """Describe the progress of the work, in a text that changes only when something happens."""
    if failing := next((work for item, work in lane.failing.items() if split_key(item)[0] == key), None):
        return f"attempt {failing.log.attempts} failed: {failing.last_error}; it will be retried"
    if record and record.status.state:
        stages = output.summarize_stages(record.status.pipeline.stages)
        return f"{record.status.state}: {stages}" if stages else record.status.state
    for number, work in enumerate(lane.waiting):
        if work.goal == goal and not (lane.environment == key and lane.status == "running"):
            ahead = number + (lane.status == "running")
            return f"queued, {ahead} ahead in the queue of {lane.repository}" if ahead else "queued"
    return "checking GitHub and AWS"
