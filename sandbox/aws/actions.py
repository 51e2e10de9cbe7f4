"""The actions of a pipeline, each by its provider: source, build, deployment or approval."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

from sandbox.aws import storage
from sandbox.aws.approvals import Approvals
from sandbox.aws.artifacts import read_tree, upload_outputs
from sandbox.aws.builds import Build, Builder, BuildFailedError
from sandbox.aws.clock import Process, Scheduler
from sandbox.aws.executions import ActionError, Perform
from sandbox.aws.functionactions import FunctionActions
from sandbox.aws.jobs import Jobs
from sandbox.aws.pipelines import ActionRun, Execution, Pipeline
from sandbox.aws.places import Place
from sandbox.aws.protocol import AwsError
from sandbox.aws.servicelogs import ensure_build_log_group
from sandbox.aws.sourceactions import SourceActions
from sandbox.aws.sources import Repositories
from sandbox.aws.stackactions import StackActions
from sandbox.aws.stacks import Stacks
from sandbox.aws.workspace import Processes


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
        jobs: Jobs,
    ) -> None:
        self._place = place
        self._scheduler = scheduler
        self._projects = projects
        self._builder = builder
        sources = SourceActions(place, scheduler, repositories)
        self._performers: dict[tuple[str, str], Perform] = {
            ("Source", "CodeStarSourceConnection"): sources.read_git,
            ("Source", "GitHub"): sources.read_git,
            ("Source", "CodeCommit"): sources.read_codecommit,
            ("Source", "S3"): sources.read_s3,
            ("Source", "ECR"): sources.read_ecr,
            ("Build", "CodeBuild"): self._run_build,
            ("Test", "CodeBuild"): self._run_build,
            ("Deploy", "CloudFormation"): StackActions(place, stacks).perform_action,
            ("Deploy", "S3"): self._deploy_s3,
            ("Approval", "Manual"): Approvals(scheduler).await_approval,
            ("Invoke", "Lambda"): FunctionActions(place, scheduler, builder, jobs).invoke_function,
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
                f"Not simulated: {kind['category']} actions of the provider {kind['provider']} "
                "(docs/simulator.md lists what is simulated)",
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

    @property
    def simulated(self) -> set[tuple[str, str]]:
        """The category and the provider of every action that is performed."""
        return set(self._performers)

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
        ensure_build_log_group(self._place, project, self._projects[project])
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
        yield from upload_outputs(self._scheduler, pipeline, execution, outputs)

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
        files, failure = yield self._scheduler.run_in_thread(lambda: read_tree(artifact.path))
        if failure is not None:
            raise _action_error(failure)
        for name, content in files.items():
            storage.write_object(bucket, f"{key.strip('/')}/{name}".lstrip("/"), content)
        run.summary = "Deployment Succeeded"
        run.external_url = f"{self._builder.address}/{bucket}/"


def _action_error(failure: Exception, *expected: type[Exception]) -> Exception:
    """An ActionError if the failure is of an expected type; otherwise the failure itself, an error of the simulator."""
    return ActionError(str(failure)) if isinstance(failure, expected) else failure
