"""What people want to see of a task's end, as lines of `deployer.progress`."""

from deployer.model.environments import Environment, Repository
from deployer.model.records import RESYNC_KEY, Cause, Outcome, Work
from deployer.queue import progress_log as progress
from deployer.queue.step_results import Done, Retry, Verdict

_ORDERED_BY_PEOPLE = {Cause.PUSH, Cause.DELETION, Cause.REDEPLOY, Cause.TEARDOWN}
_RESULTS = {Outcome.DEPLOYED, Outcome.DELETED, Outcome.FAILED}


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
            progress.ended(repository, verdict.outcome, verdict.reason)
        return
    environment = Environment.from_key(repository, work.environment)
    if isinstance(verdict, Retry):
        progress.tried_again(environment, verdict.error, verdict.seconds)
    elif isinstance(verdict, Done) and (verdict.outcome in _RESULTS or work.cause in _ORDERED_BY_PEOPLE):
        url = f"{public_url}/environments/{environment.stack_name}" if public_url else ""
        progress.ended(environment, verdict.outcome, verdict.reason, url)
