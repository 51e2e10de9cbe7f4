"""Stages that run once more: retries of a failed stage, rollbacks to an earlier execution."""

from __future__ import annotations

import io
import zipfile

from sandbox.aws import storage
from sandbox.aws.executions import Pipelines
from sandbox.aws.pipelines import Artifact, Execution, Pipeline
from sandbox.aws.protocol import AwsError


class StageRestarts:
    """Retries and rolls back stages; the caller holds the simulator's lock."""

    def __init__(self, pipelines: Pipelines) -> None:
        self._pipelines = pipelines
        pipelines.roll_back_failed = self._roll_back_failed

    def retry(self, pipeline: Pipeline, stage: str, execution: Execution, mode: str) -> Execution:
        """Continue an execution at the stage in which it failed or was stopped.

        Raises:
            AwsError: the stage cannot be retried.
        """
        _check_stage(pipeline, stage)
        latest = pipeline.latest.get(stage)
        if latest is not None and latest.execution_id != execution.id and stage in execution.stages:
            raise AwsError(
                "NotLatestPipelineExecutionException",
                f"The stage {stage} has run in a later execution than {execution.id}",
            )
        run = execution.stages.get(stage)
        if run is None or run.status not in ("Failed", "Stopped") or pipeline.version != _version(execution):
            raise AwsError("StageNotRetryableException", f"The stage {stage} cannot be retried")
        done = {k: a for k, a in run.actions.items() if a.status == "Succeeded"}
        _restore_artifacts(execution, execution)
        self._pipelines.resume(pipeline, execution, stage, done if mode == "FAILED_ACTIONS" else {})
        return execution

    def roll_back(
        self, pipeline: Pipeline, stage: str, target: Execution, *, trigger: str, detail: str
    ) -> Execution:
        """Run a stage with the artifacts of an earlier execution that succeeded in it.

        Raises:
            AwsError: the stage cannot be rolled back to that execution.
        """
        _check_stage(pipeline, stage)
        if stage == pipeline.definition["stages"][0]["name"] or not _can_roll_back(pipeline, stage, target):
            raise AwsError(
                "UnableToRollbackStageException",
                f"The stage {stage} cannot be rolled back to the execution {target.id}",
            )
        execution = self._pipelines.start(
            pipeline,
            trigger=trigger,
            detail=detail,
            pins=target.pins,
            variables=target.variables,
            rolled_back=(stage, target.id),
        )
        _restore_artifacts(target, execution)
        execution.revisions = list(target.revisions)
        execution.namespaces = {k: dict(v) for k, v in target.namespaces.items()}
        return execution

    def _roll_back_failed(self, pipeline: Pipeline, stage: str, failed: Execution) -> None:
        """Roll back a stage whose definition says so, to the last execution that succeeded in it, if there is one."""
        for target in reversed(pipeline.executions.values()):
            if _can_roll_back(pipeline, stage, target):
                self.roll_back(pipeline, stage, target, trigger="AutomatedRollback", detail=failed.id)
                return


def _can_roll_back(pipeline: Pipeline, stage: str, target: Execution) -> bool:
    run = target.stages.get(stage)
    succeeded = run is not None and run.status == "Succeeded"
    return succeeded and not target.rollback_target and _version(target) == pipeline.version


def _version(execution: Execution) -> int:
    return int(execution.definition["version"])


def _check_stage(pipeline: Pipeline, stage: str) -> None:
    if stage not in {s["name"] for s in pipeline.definition["stages"]}:
        raise AwsError("StageNotFoundException", f"Stage '{stage}' could not be found in the pipeline")


def _restore_artifacts(source: Execution, execution: Execution) -> None:
    """Unpack the artifacts of an execution from S3, because its files are removed at its end."""
    for name, artifact in dict(source.artifacts).items():
        content, _ = storage.read_object(artifact.bucket, artifact.key)
        path = execution.directory / "artifacts" / name
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            archive.extractall(path)
        execution.artifacts[name] = Artifact(path, artifact.bucket, artifact.key)
