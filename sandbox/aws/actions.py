"""The actions of a pipeline, each by its provider: source, build, deployment or approval."""

from __future__ import annotations

import functools
import io
import json
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox.aws import storage
from sandbox.aws.builds import Build, Builder, BuildFailedError
from sandbox.aws.clock import Future, Process, Scheduler
from sandbox.aws.executions import ActionError
from sandbox.aws.pipelines import ActionRun, Artifact, Execution, Pipeline, Revision
from sandbox.aws.places import Place
from sandbox.aws.protocol import AwsError
from sandbox.aws.sources import Repositories, SourceError
from sandbox.aws.stackactions import StackActions
from sandbox.aws.stacks import Stacks
from sandbox.aws.workspace import Processes

# A fixed time gives archives of the same tree the same bytes; the zip format has no time before 1980.
_EPOCH = (1980, 1, 1, 0, 0, 0)


class Actions:
    """Performs actions, each as a process of the scheduler; blocking work runs in the scheduler's threads."""

    def __init__(
        self,
        place: Place,
        scheduler: Scheduler,
        stacks: Callable[[Place], Stacks],
        repositories: Repositories,
        projects: dict[str, dict[str, Any]],
        builder: Builder,
    ) -> None:
        self._place = place
        self._scheduler = scheduler
        self._repositories = repositories
        self._projects = projects
        self._builder = builder
        self._performers = {
            ("Source", "CodeStarSourceConnection"): self._run_source,
            ("Source", "GitHub"): self._run_source,
            ("Build", "CodeBuild"): self._run_build,
            ("Test", "CodeBuild"): self._run_build,
            ("Deploy", "CloudFormation"): StackActions(place, stacks).perform_action,
            ("Deploy", "S3"): self._deploy_s3,
            ("Approval", "Manual"): self._await_approval,
        }

    def perform_action(self, pipeline: Pipeline, execution: Execution, run: ActionRun) -> Process:
        """Perform an action.

        Raises:
            ActionError: the action failed.
        """
        kind = run.declared["actionTypeId"]
        performer = self._performers.get((kind["category"], kind["provider"]))
        if performer is None:
            raise ActionError(
                f"The simulator does not perform {kind['category']} actions of the provider {kind['provider']}",
                "ConfigurationError",
            )
        try:
            yield from performer(pipeline, execution, run)
        except KeyError as error:
            raise ActionError(
                f"The action's configuration lacks {error.args[0]}", "ConfigurationError"
            ) from error
        except (AwsError, storage.NoSuchObjectError) as error:
            raise ActionError(str(error)) from error

    # ---- sources

    def _run_source(self, pipeline: Pipeline, execution: Execution, run: ActionRun) -> Process:
        settings = run.configuration
        if "FullRepositoryId" in settings:
            repository, branch = settings["FullRepositoryId"], settings["BranchName"]
        else:
            repository, branch = f"{settings['Owner']}/{settings['Repo']}", settings["Branch"]
        name, path = self._new_output(execution, run)
        pin = execution.pins.get(run.name)
        commit, failure = yield self._scheduler.run_in_thread(
            lambda: self._repositories.check_out(repository, branch, pin, path)
        )
        if failure is not None:
            raise _action_error(failure, SourceError)
        url = f"{self._repositories.web_url(repository)}/commit/{commit.sha}"
        now = self._scheduler.now()
        execution.revisions.append(Revision(run.name, name, commit.sha, commit.subject, url, now))
        run.revision, run.revision_url, run.external_id = commit.sha, url, commit.sha
        run.summary = json.dumps({"ProviderType": "GitHub", "CommitMessage": commit.subject})
        run.variables = {
            "AuthorDate": commit.when.isoformat(),
            "AuthorDisplayName": commit.author,
            "BranchName": branch,
            "CommitId": commit.sha,
            "CommitMessage": commit.subject,
            "FullRepositoryName": repository,
            "ProviderType": "GitHub",
            "RepositoryName": repository.rpartition("/")[2],
        }
        yield from self._upload_outputs(pipeline, execution, {name: path})

    # ---- builds

    def _run_build(self, pipeline: Pipeline, execution: Execution, run: ActionRun) -> Process:
        project = run.configuration["ProjectName"]
        if project not in self._projects:
            raise ActionError(
                "Error calling startBuild: Project cannot be found: "
                f"{self._place.arn('codebuild', f'project/{project}')} "
                "(Service: AWSCodeBuild; Error Code: ResourceNotFoundException)"
            )
        inputs = {a["name"]: execution.artifacts[a["name"]].path for a in run.declared["inputArtifacts"]}
        primary = run.configuration.get("PrimarySource")
        directory = execution.directory / f"build-{run.id}"
        directory.mkdir(parents=True)
        outputs = {a["name"]: directory / "out" / a["name"] for a in run.declared.get("outputArtifacts", [])}
        build = Build(
            id=f"{project}:{uuid.uuid4()}",
            project=self._projects[project],
            environment=json.loads(run.configuration.get("EnvironmentVariables") or "[]"),
            inputs=dict(sorted(inputs.items(), key=lambda item: item[0] != primary)) if primary else inputs,
            outputs=outputs,
            directory=directory,
            commit=execution.revisions[0].sha if execution.revisions else "",
            initiator=f"codepipeline/{pipeline.name}",
            place=self._place,
        )
        run.external_id = build.id
        run.external_url = f"{self._builder.address}/_sandbox/logs/{build.id}"
        self._create_log_group(project)
        processes = Processes()
        try:
            _, failure = yield self._scheduler.run_in_thread(
                lambda: self._builder.run_build(build, processes)
            )
        finally:
            processes.kill_all()
        if failure is not None:
            raise _action_error(failure, BuildFailedError)
        run.variables = build.exported
        yield from self._upload_outputs(pipeline, execution, outputs)

    def _create_log_group(self, project: str) -> None:
        """Create the log group of a project's builds, which no stack has and no stack's deletion removes."""
        settings = (self._projects[project].get("LogsConfig") or {}).get("CloudWatchLogs") or {}
        if settings.get("Status", "ENABLED") == "ENABLED":
            storage.ensure_log_group(self._place, settings.get("GroupName") or f"/aws/codebuild/{project}")

    # ---- deployments to S3

    def _deploy_s3(self, pipeline: Pipeline, execution: Execution, run: ActionRun) -> Process:  # noqa: ARG002
        settings = run.configuration
        bucket, key = settings["BucketName"], settings.get("ObjectKey", "")
        artifact = execution.artifacts[run.declared["inputArtifacts"][0]["name"]]
        if settings["Extract"].lower() != "true":
            if not key:
                raise ActionError("ObjectKey is required when Extract is false", "ConfigurationError")
            content, _ = storage.read_object(artifact.bucket, artifact.key)
            storage.write_object(bucket, key, content)
            run.summary = "Deployment Succeeded"
            return
        files, failure = yield self._scheduler.run_in_thread(lambda: _read_tree(artifact.path))
        if failure is not None:
            raise _action_error(failure)
        for name, content in files.items():
            storage.write_object(bucket, f"{key.strip('/')}/{name}".lstrip("/"), content)
        run.summary = "Deployment Succeeded"
        run.external_url = f"{self._builder.address}/{bucket}/"

    # ---- approvals

    def _await_approval(self, _pipeline: Pipeline, _execution: Execution, run: ActionRun) -> Process:
        run.approval_token, run.approval = str(uuid.uuid4()), Future()
        run.external_url = run.configuration.get("ExternalEntityLink")
        verdict = yield run.approval
        run.summary = verdict["summary"]
        if verdict["status"] != "Approved":
            raise ActionError(verdict["summary"] or "The approval was rejected", "ApprovalRejected")

    # ---- artifacts

    @staticmethod
    def _new_output(execution: Execution, run: ActionRun) -> tuple[str, Path]:
        outputs = run.declared.get("outputArtifacts") or []
        if not outputs:
            raise ActionError("The action must have an output artifact", "ConfigurationError")
        name = str(outputs[0]["name"])
        return name, execution.directory / "artifacts" / name

    def _upload_outputs(self, pipeline: Pipeline, execution: Execution, outputs: dict[str, Path]) -> Process:
        """Upload output artifacts to the pipeline's bucket, which keeps the archives, as in AWS."""
        for name, path in outputs.items():
            store = execution.definition.get("artifactStore") or {}
            if not store:
                store = execution.definition["artifactStores"][0]["artifactStore"]
            content, failure = yield self._scheduler.run_in_thread(functools.partial(_make_archive, path))
            if failure is not None:
                raise _action_error(failure)
            key = f"{pipeline.name[:20]}/{name[:10]}/{uuid.uuid4().hex[:7]}"
            try:
                storage.write_object(store["location"], key, content, "application/zip")
            except storage.NoSuchObjectError as error:
                raise ActionError(
                    f"Unable to access the artifact with Amazon S3 object key '{key}' located in the Amazon S3 "
                    f"artifact bucket '{store['location']}'. The specified bucket does not exist.",
                    "PermissionError",
                ) from error
            execution.artifacts[name] = Artifact(path, store["location"], key)


def _action_error(failure: Exception, *expected: type[Exception]) -> Exception:
    """An ActionError if the failure is of an expected type; otherwise the failure itself, an error of the simulator."""
    return ActionError(str(failure)) if isinstance(failure, expected) else failure


def _read_tree(root: Path) -> dict[str, bytes]:
    files = (p for p in sorted(root.rglob("*")) if p.is_file())
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in files}


def _make_archive(root: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _read_tree(root).items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
