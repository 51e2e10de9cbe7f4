"""`--wait`: follows what a command has queued until its end, and shows each change on the way."""

import shlex
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from deployer.cli import output
from deployer.cli.environment_names import queued_environments
from deployer.cli.parameters import F
from deployer.model.environments import Environment, Repository
from deployer.model.errors import DeployerError, UnavailableError
from deployer.model.records import RESYNC_KEY, Activity, EnvironmentRecord, Outcome, split_key
from deployer.queue.store import Lane

if TYPE_CHECKING:
    from deployer.wiring import Deployer

_WANTED = {"redeploy": Outcome.DEPLOYED, "delete": Outcome.DELETED}
_WAIT_SECONDS = 3600.0  # a pipeline that waits for an approval is waited for no longer
_POLL_SECONDS = 0.5
_ACTIVITY_KEPT = 500  # lines that a repository's history has
_LOST_LOOKS = 4  # looks in a row at which neither the queue nor the history knows the work


def wait_options(command: F) -> F:
    """The options `--wait` and `--timeout` of what is queued for one environment."""
    timeout = click.option(
        "--timeout",
        type=click.FloatRange(min=0),
        default=_WAIT_SECONDS,
        metavar="SECONDS",
        help="How long to wait.",
        show_default=True,
    )
    return click.option("--wait", is_flag=True, help="Wait for the end and show each change.")(
        timeout(command)
    )


def follow(
    deployer: "Deployer",
    what: str,
    environment: Environment,
    goal: str,
    *,
    timeout: float | None,
    json_: bool,
) -> None:
    """Tell what was queued and, with a timeout, wait for its end.

    Args:
        what: the command.
        goal: the id that the queue gave it.
        timeout: seconds to wait; None to return at once.

    Raises:
        DeployerError: it ended otherwise than asked for, or had not ended in time.
    """
    look = f"deployer why {environment.repository} {shlex.quote(environment.name)}"
    entry: dict[str, Any] = {
        "repository": environment.repository.full_name,
        "environment": environment.key,
        "task": goal,
        "outcome": "queued",
    }
    if not json_:
        output.line(f"{what} of {environment} queued as {goal}")
    if timeout is None:
        if json_:
            output.as_json(entry)
        else:
            output.note(f"follow it: {look}")
        return
    wait = Wait(
        deployer, environment.repository, environment.key, goal, output.note if json_ else output.line
    )
    try:
        ended = wait.until(time.monotonic() + timeout)
    except KeyboardInterrupt:
        output.note(f"no longer waiting; the {what} goes on: {look}")
        raise
    outcome = (ended.outcome or "unknown") if ended else "unfinished"
    reason = ended.reason if ended else f"it has not ended after {timeout:g} s and goes on"
    if json_:
        output.as_json(entry | {"outcome": outcome, "reason": reason})
    if ended is None:
        raise DeployerError(f"the {what} of {environment}: {reason}; see: {look}")
    if outcome != _WANTED[what]:
        raise DeployerError(f"the {what} of {environment} ended as {outcome}: {reason}; see: {look}")
    if not json_:
        output.line(f"{outcome}: {reason}")
        if base := deployer.config.public_url:
            output.line(f"{base}/environments/{environment.stack_name}")


class Wait:
    """Follows one piece of queued work.

    Args:
        deployer: the wired parts.
        repository: whose queue holds it.
        key: the environment's key, or `RESYNC_KEY`.
        goal: the id that the queue gave it.
        say: shows people a line.
    """

    def __init__(
        self,
        deployer: "Deployer",
        repository: Repository,
        key: str,
        goal: str,
        say: Callable[[str], object] = output.note,
    ) -> None:
        self._lanes = deployer.lanes
        self._repository, self._key, self._goal = repository, key, goal
        self._say = say
        self._shown: str | None = None
        self._missed = 0
        self._before: float | None = None  # since when the state was what the first look found

    def until(self, deadline: float) -> Activity | None:
        """Wait for the end of the work; while Redis is away, wait for that too.

        Args:
            deadline: when to stop waiting, by `time.monotonic`.

        Returns:
            How the work ended, with an empty outcome where nothing knows it any longer; None if it had not ended by
            the deadline.
        """
        away = False
        while True:
            try:
                if ended := self._look():
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

    def _look(self) -> Activity | None:
        lane = next(iter(self._lanes.lanes(self._repository)), None)
        # the history is read after the queue: what has left the queue by then is in the history
        for line in self._lanes.activity(self._repository, _ACTIVITY_KEPT):
            if line.goal == self._goal and line.environment == self._key:
                return line
        if lane is None or not _holds(lane, self._key):
            self._missed += 1  # Redis was emptied, or this very moment lies between two tasks
            if self._missed >= _LOST_LOOKS:
                reason = "neither the queue nor the history knows of it: Redis may have been emptied"
                return Activity(time.time(), str(self._repository), self._key, self._goal, "", reason)
            return None
        self._missed = 0
        if self._key != RESYNC_KEY:
            self._show(lane)
        return None

    def _show(self, lane: Lane) -> None:
        record = self._lanes.environment(Environment.from_key(self._repository, self._key))
        changed = record.changed_at if record else 0.0
        if self._before is None:
            self._before = changed
        # until a task of this work changes the state, the record tells of the deployment before
        words = _progress(record if changed != self._before else None, lane, self._key, self._goal)
        if words != self._shown:
            self._say(f"{time.strftime('%H:%M:%S')} {words}")
        self._shown = words


def _holds(lane: Lane, key: str) -> bool:
    if key == RESYNC_KEY:
        return (
            lane.environment == key or key in lane.snoozed or any(w.environment == key for w in lane.waiting)
        )
    return key in queued_environments(lane)


def _progress(record: EnvironmentRecord | None, lane: Lane, key: str, goal: str) -> str:
    """How far an environment is, in words that change only when something happened."""
    if failing := next((work for item, work in lane.failing.items() if split_key(item)[0] == key), None):
        return f"attempt {failing.attempts} ended in: {failing.last_error}; it is tried again"
    if record and record.state:
        stages = output.compact(record.stages)
        return f"{record.state}: {stages}" if stages else record.state
    for number, work in enumerate(lane.waiting):
        if work.goal == goal and not (lane.environment == key and lane.status == "running"):
            ahead = number + (lane.status == "running")
            return f"queued, {ahead} ahead in the queue of {lane.repository}" if ahead else "queued"
    return "looking at GitHub and AWS"
