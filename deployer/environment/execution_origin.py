"""Which of a pipeline's executions deployer has started."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from deployer.environment.cloud_region import Execution
from deployer.environment.context import ReconcileContext
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environment_status import ForeignExecution
from deployer.model.execution_trigger import Starter

_STARTED_LIMIT = 20  # as many as are listed
_FOREIGN_LIMIT = 5


def own_executions(context: ReconcileContext, listed: Sequence[Execution]) -> list[Execution]:
    """The listed executions that deployer has started, each with its commit; newest first.

    An execution is deployer's only if the record has its id. If the record has no id, because Redis was lost or
    nothing was started yet, those are deployer's that were requested with its role.
    """
    pipeline = context.record.status.pipeline
    known = {*pipeline.started, *pipeline.open, pipeline.execution, pipeline.reported} - {""}
    recorded = [each for each in listed if each.id in known]
    own = recorded if known else requested_with_own_role(context, listed)
    return [replace(each, sha=_recorded_commit(context.record, each.id) or each.sha) for each in own]


def requested_with_own_role(context: ReconcileContext, listed: Sequence[Execution]) -> list[Execution]:
    """The listed executions that were requested with deployer's role, whether or not the record knows them."""
    requested = [each for each in listed if each.trigger.starter is Starter.REQUEST]
    if not requested:
        return []
    principal = context.cloud.principal()
    return [each for each in requested if each.trigger.names_caller(principal)]


def with_started(record: EnvironmentRecord, executions: dict[str, str]) -> EnvironmentRecord:
    """The record with further executions that deployer has started, oldest first, each with its commit."""
    started = {**record.status.pipeline.started, **executions}
    return record.but(started=dict(list(started.items())[-_STARTED_LIMIT:]))


def foreign_executions(
    record: EnvironmentRecord, listed: Sequence[Execution], own: Sequence[Execution]
) -> list[ForeignExecution]:
    """The executions that are not deployer's deployment, and that run or started after deployer's newest one.

    Deployer stops the execution that the creation of the pipeline starts, when it starts the first one of its own.
    Before that, the execution is not foreign.

    Args:
        record: the environment's record.
        listed: the pipeline's executions, newest first.
        own: those that deployer has started, newest first.

    Returns:
        The latest five, the newest last.
    """
    known = {each.id: each for each in record.status.pipeline.foreign}
    found = [
        ForeignExecution(
            id=each.id,
            sha=each.sha,
            status=each.status,
            trigger=each.trigger,
            started_at=each.started_at,
            retried=any(mine.id == each.id for mine in own),
            stopped=each.id in known and known[each.id].stopped,
            posted_on=known[each.id].posted_on if each.id in known else "",
        )
        for each in _find_foreign(record, listed, own)
    ]
    return found[:_FOREIGN_LIMIT][::-1]


def _find_foreign(
    record: EnvironmentRecord, listed: Sequence[Execution], own: Sequence[Execution]
) -> Iterator[Execution]:
    by_id = {each.id: each for each in own}
    pipeline = record.status.pipeline
    # AWS may list an execution late that deployer has just started: it is newer than all listed ones
    is_newer = not (pipeline.execution in pipeline.open and pipeline.execution not in by_id)
    for each in listed:
        if mine := by_id.get(each.id):
            if _was_retried(record, mine, newest=own[0]):
                yield mine
            is_newer = False
        elif each.automatic:
            if is_newer and own:
                yield each
        elif is_newer or not each.ended:
            yield each


def _was_retried(record: EnvironmentRecord, mine: Execution, *, newest: Execution) -> bool:
    """Whether somebody retried a stage of an execution whose commit is no longer the wanted one."""
    pipeline = record.status.pipeline
    if any(each.retried and each.id == mine.id for each in pipeline.foreign):
        return True  # until deployer starts another execution
    if mine.ended or mine.id in pipeline.open:
        return False
    if mine.id == newest.id:
        return mine.id == pipeline.reported and mine.sha != record.spec.commit
    return newest.ended


def is_retried_deployment(record: EnvironmentRecord, newest: Execution) -> bool:
    """Whether somebody retried a stage of the execution whose end was reported last, and its commit is wanted still."""
    if newest.sha != record.spec.commit:
        return False
    if not newest.ended:
        return True
    failed = any(stage.status in {"failed", "stopped"} for stage in record.status.pipeline.stages)
    return newest.status == "succeeded" and failed and newest.id == record.status.pipeline.execution


def _recorded_commit(record: EnvironmentRecord, execution: str) -> str:
    """The commit at which deployer started an execution; empty where the record does not have it."""
    pipeline = record.status.pipeline
    followed = pipeline.open.get(execution)
    return pipeline.started.get(execution, "") or (followed.sha if followed else "")
