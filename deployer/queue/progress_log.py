"""Logs what people want to see as it happens: each push, each new state, each result.

The lines are ordinary log lines of the logger `deployer.progress`. `deployer up` shows these lines and warnings to
people, and writes all lines to files.
"""

import logging
import re
import sys
from dataclasses import dataclass

from deployer.model.environments import Environment, Repository
from deployer.model.outcomes import Outcome
from deployer.model.visible import visible
from deployer.queue.items import RESYNC_KEY, Cause, Work
from deployer.queue.step_results import Finished, RetryLater, StepResult

NAME = "deployer.progress"
_log = logging.getLogger(NAME)
# `setup_logging` writes lines of this form
LOG_FORMAT = "%(asctime)s %(levelname)-7s {process} %(name)s: %(message)s"
_LINE = re.compile(
    r"\d{4}-\d\d-\d\d (?P<time>\d\d:\d\d:\d\d)\S* (?P<level>[A-Z]+) +(?P<process>\S+) (?P<logger>[^:\s]+): (?P<text>.*)"
)
_SHOWN = {"WARNING": "warning", "ERROR": "error", "CRITICAL": "error"}
_CAUSES_BY_PEOPLE = {Cause.PUSH, Cause.DELETION, Cause.REDEPLOY, Cause.TEARDOWN}
_RESULTS = {Outcome.DEPLOYED, Outcome.DELETED, Outcome.FAILED}
_REASON_LENGTH = 200  # characters of a result's reason; the dashboard shows the whole reason


def log_push(environment: Environment, ref: str, after: str) -> None:
    """Log that a push was accepted.

    Args:
        environment: the environment of the ref.
        ref: the short name of the branch or tag that was pushed.
        after: the ref's new commit; empty if the ref was deleted.
    """
    where = "" if ref == environment.name else f" to {ref}"
    _log.info("%s: %s", environment, f"pushed {after[:8]}{where}" if after else f"{ref} deleted on GitHub")


def log_state(environment: Environment, state: str, commit: str) -> None:
    """Log that an environment has a new state."""
    _log.info("%s: %s%s", environment, state, f" {commit[:8]}" if commit else "")


def log_outcome(environment: object, outcome: str, reason: str, url: str = "") -> None:
    """Log the outcome of a queue item.

    Args:
        environment: the environment; or the repository, if the item was a resync.
        outcome, reason: the outcome with its reason.
        url: a page with details; empty if none is known.
    """
    short = reason if len(reason) <= _REASON_LENGTH else f"{reason[:_REASON_LENGTH]}…"
    _log.info("%s: %s: %s%s", environment, outcome.upper(), short, f"  {url}" if url else "")


def log_retry(environment: object, error: str, seconds: float) -> None:
    """Log that an attempt failed with a transient error."""
    _log.info("%s: %s; tries again in %.0f s", environment, error, seconds)


def log_result(repository: Repository, work: Work, verdict: StepResult, public_url: str) -> None:
    """Log the result of a task. A dead letter already has a log line.

    If there was nothing to do, that is logged only for items that people asked for.

    Args:
        repository: whose queue held the work.
        work: the item as it was handed out.
        verdict: the step's result.
        public_url: the dashboard's URL; empty if it is not known.
    """
    if work.environment == RESYNC_KEY:
        if isinstance(verdict, Finished) and verdict.outcome == Outcome.FAILED:
            log_outcome(repository, verdict.outcome, verdict.reason)
        return
    environment = Environment.from_key(repository, work.environment)
    if isinstance(verdict, RetryLater):
        log_retry(environment, verdict.error, verdict.seconds)
    elif isinstance(verdict, Finished) and (verdict.outcome in _RESULTS or work.cause in _CAUSES_BY_PEOPLE):
        url = f"{public_url}/environments/{environment.stack_name}" if public_url else ""
        log_outcome(environment, verdict.outcome, verdict.reason, url)


@dataclass(frozen=True, slots=True)
class ReadableLine:
    """A line for people.

    Attributes:
        text: the line.
        warning: whether the line is a warning or an error.
    """

    text: str
    warning: bool


def readable_line(line: str) -> ReadableLine | None:
    """Translate a log line for people; None if the line is only for the log file.

    Control characters are escaped, so a branch's name cannot move the cursor of the terminal.
    """
    found = _LINE.fullmatch(line)
    if not found:
        return None
    if found["logger"] == NAME:
        return ReadableLine(visible(f"{found['time']}  {found['text']}"), warning=False)
    if word := _SHOWN.get(found["level"]):
        return ReadableLine(
            visible(f"{found['time']}  {found['process']}: {word}: {found['text']}"), warning=True
        )
    return None


def setup_logging(level: str, process: str) -> None:
    """Log to standard error, with one line per event."""
    logging.basicConfig(
        level=level,
        stream=sys.stderr,
        format=LOG_FORMAT.format(process=process),
        force=True,
    )
    for noisy in ("botocore", "urllib3", "boto3", "kombu", "amqp"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
    # if a role cannot be assumed, the error that ends the task says so in one line
    logging.getLogger("botocore.credentials").setLevel(logging.CRITICAL)
