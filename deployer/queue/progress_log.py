"""What people want to see as it happens: each push, each new state, each result, in a line of the log of its own.

The lines are ordinary log lines of the logger `deployer.progress`. `deployer up` shows people these and warnings, and
writes everything to files.
"""

import logging
import re
from dataclasses import dataclass

from deployer.model.environments import Environment, Repository
from deployer.model.records import RESYNC_KEY, Cause, Outcome, Work
from deployer.model.visible import visible
from deployer.queue.step_results import Done, Retry, Verdict

NAME = "deployer.progress"
_log = logging.getLogger(NAME)
# `deployer.wiring.setup_logging` writes lines of this form
LOG_FORMAT = "%(asctime)s %(levelname)-7s {process} %(name)s: %(message)s"
_LINE = re.compile(
    r"\d{4}-\d\d-\d\d (?P<time>\d\d:\d\d:\d\d)\S* (?P<level>[A-Z]+) +(?P<process>\S+) (?P<logger>[^:\s]+): (?P<text>.*)"
)
_SHOWN = {"WARNING": "warning", "ERROR": "error", "CRITICAL": "error"}
_ORDERED_BY_PEOPLE = {Cause.PUSH, Cause.DELETION, Cause.REDEPLOY, Cause.TEARDOWN}
_RESULTS = {Outcome.DEPLOYED, Outcome.DELETED, Outcome.FAILED}
_REASON = 200  # characters of a result's reason; the dashboard has all


def pushed(environment: Environment, ref: str, after: str) -> None:
    """A push was accepted.

    Args:
        environment: which it is for.
        ref: the short name of the branch or tag that was pushed.
        after: the commit that it leads to now; empty where it was deleted.
    """
    where = "" if ref == environment.name else f" to {ref}"
    _log.info("%s: %s", environment, f"pushed {after[:8]}{where}" if after else f"{ref} deleted on GitHub")


def changed(environment: Environment, state: str, commit: str) -> None:
    """An environment has a new state."""
    _log.info("%s: %s%s", environment, state, f" {commit[:8]}" if commit else "")


def ended(environment: object, outcome: str, reason: str, url: str = "") -> None:
    """What was asked for an environment has ended.

    Args:
        environment: which; or the repository that was looked at as a whole.
        outcome, reason: how, and why.
        url: where people see more; empty where that is not known.
    """
    short = reason if len(reason) <= _REASON else f"{reason[:_REASON]}…"
    _log.info("%s: %s: %s%s", environment, outcome.upper(), short, f"  {url}" if url else "")


def tried_again(environment: object, error: str, seconds: float) -> None:
    """An attempt failed for a reason that may pass."""
    _log.info("%s: %s; tries again in %.0f s", environment, error, seconds)


def tell_people(repository: Repository, work: Work, verdict: Verdict, public_url: str) -> None:
    """Log how a task ended; a dead letter has a log line of its own already.

    That nothing was to be done is of interest only to whoever asked for something.

    Args:
        repository: whose queue held the work.
        work: as it was handed out.
        verdict: how it ended.
        public_url: where people reach the dashboard; empty where that is not known.
    """
    if work.environment == RESYNC_KEY:
        if isinstance(verdict, Done) and verdict.outcome == Outcome.FAILED:
            ended(repository, verdict.outcome, verdict.reason)
        return
    environment = Environment.from_key(repository, work.environment)
    if isinstance(verdict, Retry):
        tried_again(environment, verdict.error, verdict.seconds)
    elif isinstance(verdict, Done) and (verdict.outcome in _RESULTS or work.cause in _ORDERED_BY_PEOPLE):
        url = f"{public_url}/environments/{environment.stack_name}" if public_url else ""
        ended(environment, verdict.outcome, verdict.reason, url)


@dataclass(frozen=True, slots=True)
class Shown:
    """A line for people.

    Attributes:
        text: the line.
        warning: whether it tells that something is wrong, which cannot wait.
    """

    text: str
    warning: bool


def readable(line: str) -> Shown | None:
    """What to show people of a line that a process has written; None where the line is for its log file only.

    A branch's name in it cannot move the cursor of the terminal.
    """
    found = _LINE.fullmatch(line)
    if not found:
        return None
    if found["logger"] == NAME:
        return Shown(visible(f"{found['time']}  {found['text']}"), warning=False)
    if word := _SHOWN.get(found["level"]):
        return Shown(visible(f"{found['time']}  {found['process']}: {word}: {found['text']}"), warning=True)
    return None
