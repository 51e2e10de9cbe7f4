"""deployer's worker, in which every step is 5 ms of work: `celery -A sandbox.bench.lane_worker worker`.

Queue, messages, lease, records and log lines are deployer's own; only what a step does at GitHub and AWS is replaced.
"""

from collections.abc import Callable
from typing import Any

from celery import signals

from deployer.model.environments import Repository
from deployer.model.outcomes import Outcome
from deployer.queue.items import Work
from deployer.queue.step_results import Finished, StepResult
from sandbox.bench.lane_log import LaneLog
from workers.celery import app, deployer

__all__ = ["app"]
_log = LaneLog.from_environment()


def _work(repository: Repository, work: Work, _assert_lease: Callable[[], None]) -> StepResult:
    _log.run_task(repository.name, int(work.push.after, 16))
    return Finished(str(Outcome.DEPLOYED), "measured")


deployer.carry_out = _work  # type: ignore[method-assign, assignment]


@signals.task_received.connect(weak=False)  # type: ignore[untyped-decorator]
def _count_message(**_: Any) -> None:
    _log.add_message()
