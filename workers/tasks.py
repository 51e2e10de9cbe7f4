"""The tasks that people see in Flower.

A message names a queue and a token; the queue has the item to carry out. A call without a token comes from a person
(`celery call`) and puts work into the queue.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass
from typing import Any

from celery import Celery
from celery.exceptions import Ignore

from deployer.model.environments import Environment, Repository
from deployer.model.errors import DeployerError, PayloadError, TransientError
from deployer.queue.items import Cause, Task
from deployer.queue.lease import Timer
from deployer.queue.lookup import find_environment_record
from deployer.queue.runner import WorkerProcess
from deployer.wiring import Deployer
from workers.item_events import ItemEvents, StopSign

_log = logging.getLogger("deployer.tasks")
_LONGEST_ARGUMENTS = 150  # characters of a person's arguments that an error repeats


def register(
    app: Celery, deployer: Deployer, timer: Timer | None = None, stop_sign: StopSign | None = None
) -> dict[str, Any]:
    """Register the tasks in the application; returns them by name.

    Args:
        app: Celery's.
        deployer: the wired parts.
        timer: ends the process of a task that exceeds its time; None if the process must survive.
        stop_sign: set when the worker is being stopped.
    """
    tasks, sign = Tasks(deployer, timer), stop_sign or StopSign()
    return {str(task): _define_task(app, tasks, task, sign) for task in Task}


def _define_task(app: Celery, tasks: "Tasks", task: Task, stop_sign: StopSign) -> Any:
    def run(*arguments: object, **named: object) -> str:
        events = ItemEvents(app, stop_sign)
        try:
            message = _Message.from_arguments(task, arguments, named)
            outcome = tasks.carry_out(task, message.repository, message.environment, message.token, events)
        except DeployerError as error:  # only calls of people raise; an item of a queue ends in a step result
            _log.warning("%s is refused: %s", task, error)
            return f"refused: {error}"
        if events.took_items:
            events.end(outcome)
            raise Ignore  # the end of the message's own item has been reported
        return outcome

    run.__name__ = run.__qualname__ = str(task).rpartition(".")[2]
    run.__doc__ = f"Carry out {task} for an environment of a repository."
    return app.task(run, name=str(task))


@dataclass(frozen=True, slots=True)
class _Message:
    """The arguments of a message; see `Tasks.carry_out`."""

    repository: str
    environment: str = ""
    token: int = 0

    @classmethod
    def from_arguments(
        cls, task: Task, arguments: Sequence[object], named: Mapping[str, object]
    ) -> "_Message":
        """Read the arguments of a call.

        Raises:
            PayloadError: they have another form, which only a person can have sent.
        """
        with suppress(TypeError):
            found = cls(*arguments, **named)  # type: ignore[arg-type]
            if [type(each) for each in astuple(found)] == [str, str, int]:
                return found
        given = ", ".join([*map(repr, arguments), *(f"{key}={value!r}" for key, value in named.items())])
        shown = given if len(given) <= _LONGEST_ARGUMENTS else f"{given[:_LONGEST_ARGUMENTS]}..."
        raise PayloadError(f"it was called with ({shown}); {_arguments_hint(task)}")


def _arguments_hint(task: Task) -> str:
    form = '["owner/repo"]' if task is Task.RESYNC else '["owner/repo", "branch"]'
    return f"give --args='{form}'"


class Tasks:
    """Carries out messages: items of a queue, or calls of people.

    Args:
        deployer: the wired parts.
        timer: as for `register`.
    """

    def __init__(self, deployer: Deployer, timer: Timer | None = None) -> None:
        self._deployer = deployer
        self._timer = timer

    def carry_out(
        self,
        task: Task,
        repository_name: str,
        environment: str,
        token: int,
        process: WorkerProcess | None = None,
    ) -> str:
        """Run the task of a message, and as many further items of its queue as the process takes.

        Args:
            task: the task that the message names.
            repository_name: `owner/repo`.
            environment: the environment's key; a person may give a branch, a ref, `staging` or `production`.
            token: the token of the message; 0 for a call of a person.
            process: the worker's process; None if it runs one item for each message.

        Returns:
            The outcome in a line that Flower shows.
        """
        repository = Repository.parse(repository_name)
        if not token:
            return self._enqueue(task, repository, environment)
        return self._deployer.make_runner(self._timer, process).run_message(task, repository, token)

    def _enqueue(self, task: Task, repository: Repository, environment: str) -> str:
        submitter = self._deployer.submitter
        repository = submitter.as_github_spells(repository)
        if task is Task.RESYNC and environment:
            raise PayloadError(
                f"it is of the whole repository, not of {environment[:_LONGEST_ARGUMENTS]!r}; {_arguments_hint(task)}"
            )
        if task is not Task.RESYNC and not environment:
            raise PayloadError(f"it is of one environment; {_arguments_hint(task)}")
        submitter.require_served(repository)
        self._check_repository_exists(repository)
        if task is Task.RESYNC:
            return f"queued as {submitter.resync(repository).goal}"
        try:
            target = Environment.from_key(repository, environment)
        except DeployerError:
            target = Environment.from_key(
                repository, find_environment_record(self._deployer.lanes, repository, environment).environment
            )
        cause = {Task.DELETE: Cause.TEARDOWN, Task.TRIGGER: Cause.REDEPLOY}.get(task, Cause.RESYNC)
        return f"queued as {submitter.request_environment(target, cause=cause).goal}"

    def _check_repository_exists(self, repository: Repository) -> None:
        """Check that deployer or GitHub knows a repository; while GitHub is unavailable, the task checks that.

        Raises:
            PermanentError: there is no such repository, or deployer may not read it.
        """
        if any(each.key == repository.key for each in self._deployer.lanes.repositories()):
            return
        with suppress(TransientError):
            self._deployer.host.default_branch(repository)
