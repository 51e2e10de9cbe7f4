"""The artifacts of executions: directories while an execution runs, archives in the pipeline's bucket."""

from __future__ import annotations

import functools
import io
import uuid
import zipfile
from pathlib import Path
from typing import Any

from sandbox.aws import storage
from sandbox.aws.clock import Process, Scheduler
from sandbox.aws.executions import ActionError
from sandbox.aws.pipelines import ActionRun, Artifact, Execution, Pipeline

# A fixed time gives archives of the same tree the same bytes; the zip format has no time before 1980.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def new_output(execution: Execution, run: ActionRun) -> tuple[str, Path]:
    """The name of an action's output artifact, with the directory for its files.

    Raises:
        ActionError: the action declares none.
    """
    outputs = run.declared.get("outputArtifacts") or []
    if not outputs:
        raise ActionError("The action must have an output artifact", "ConfigurationError")
    name = str(outputs[0]["name"])
    return name, execution.directory / "artifacts" / name


def upload_outputs(
    scheduler: Scheduler, pipeline: Pipeline, execution: Execution, outputs: dict[str, Path]
) -> Process:
    """Upload output artifacts to the pipeline's bucket, which keeps the archives, as in AWS.

    Raises:
        ActionError: the bucket does not exist.
    """
    for name, path in outputs.items():
        location = _artifact_store(execution.definition)["location"]
        content, failure = yield scheduler.run_in_thread(functools.partial(_make_archive, path))
        if failure is not None:
            raise failure
        key = f"{pipeline.name[:20]}/{name[:10]}/{uuid.uuid4().hex[:7]}"
        try:
            storage.write_object(location, key, content, "application/zip")
        except storage.NoSuchObjectError as error:
            raise ActionError(
                f"Unable to access the artifact with Amazon S3 object key '{key}' located in the Amazon S3 "
                f"artifact bucket '{location}'. The specified bucket does not exist.",
                "PermissionError",
            ) from error
        execution.artifacts[name] = Artifact(path, location, key)


def read_tree(root: Path) -> dict[str, bytes]:
    """The files below a directory, by their path."""
    files = (p for p in sorted(root.rglob("*")) if p.is_file())
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in files}


def unpack_archive(content: bytes, into: Path) -> None:
    """Unpack a zip archive.

    Raises:
        ActionError: the content is not a zip archive, or it names a path outside the directory.
    """
    into.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                if not (into / name).resolve().is_relative_to(into.resolve()):
                    raise ActionError(f"The archive names the path {name}, which is outside of it")
            archive.extractall(into)
    except zipfile.BadZipFile as error:
        raise ActionError("The object is not a valid zip archive") from error


def _artifact_store(definition: dict[str, Any]) -> dict[str, Any]:
    store: dict[str, Any] = definition.get("artifactStore") or {}
    return store or dict(definition["artifactStores"][0]["artifactStore"])


def _make_archive(root: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in read_tree(root).items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
