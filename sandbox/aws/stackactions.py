"""CodePipeline's CloudFormation actions, by which an execution changes stacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sandbox.aws.changesetactions import execute_change_set, replace_change_set
from sandbox.aws.clock import Process
from sandbox.aws.executions import ActionError
from sandbox.aws.pipelines import ActionRun, Execution, Pipeline
from sandbox.aws.places import Place
from sandbox.aws.stack import Plan, Stack
from sandbox.aws.stacks import UPDATABLE, Stacks

_POLL_SECONDS = 0.3
_FAILED_STATES = (
    "ROLLBACK_COMPLETE",
    "ROLLBACK_FAILED",
    "CREATE_FAILED",
    "UPDATE_ROLLBACK_FAILED",
    "DELETE_FAILED",
)


class StackActions:
    """Performs Deploy actions of the provider CloudFormation; `stacks` returns the stacks of a region."""

    def __init__(self, place: Place, stacks: Callable[[Place], Stacks]) -> None:
        self._place = place
        self._stacks = stacks

    def perform_action(self, pipeline: Pipeline, execution: Execution, run: ActionRun) -> Process:
        """Create, update or delete the stack by the action's mode; wait until the stack has finished."""
        mode, name = run.configuration["ActionMode"], run.configuration["StackName"]
        stacks = self._stacks(self._target_place(run))
        stack = stacks.find(name)
        if mode == "DELETE_ONLY":
            if stack is not None:
                yield from self._delete_stack(stacks, run, stack)
            run.summary = "Stack deleted"
            return
        if mode == "CHANGE_SET_REPLACE":
            yield from self._replace_change_set(stacks, execution, run, stack)
            return
        if mode == "CHANGE_SET_EXECUTE":
            executed = yield from execute_change_set(stacks, run, stack)
            self._record_outputs(run, executed)
            return
        if mode not in ("CREATE_UPDATE", "REPLACE_ON_FAILURE"):
            raise ActionError(f"Invalid ActionMode {mode}", "ConfigurationError")
        if stack is not None and mode == "REPLACE_ON_FAILURE" and stack.status in _FAILED_STATES:
            yield from self._delete_stack(stacks, run, stack)
            stack = None
        yield from self._create_or_update(stacks, pipeline, execution, run, stack)

    def _target_place(self, run: ActionRun) -> Place:
        """The region of the action, in the account of its role."""
        role = str(run.declared.get("roleArn") or "").split(":")
        account = role[4] if len(role) > 4 else self._place.account
        return Place(account, run.declared.get("region") or self._place.region)

    def _create_or_update(
        self, stacks: Stacks, pipeline: Pipeline, execution: Execution, run: ActionRun, stack: Stack | None
    ) -> Process:
        settings = run.configuration
        template = stacks.read_template(_artifact_file(execution, settings["TemplatePath"]).read_text())
        values, tags = _read_settings(execution, settings)
        capabilities = [c.strip() for c in settings.get("Capabilities", "").split(",") if c.strip()]
        token = f"pipeline-{run.id}"
        if stack is None:
            stack = stacks.create(
                settings["StackName"],
                Plan(template, values),
                tags=tags or {},
                token=token,
                role_arn=settings.get("RoleArn"),
                capabilities=capabilities,
            )
            wanted = ("CREATE_COMPLETE",)
        else:
            if stack.status in UPDATABLE:
                # As in CodePipeline, parameters that the action does not name keep their values.
                kept = {k: v for k, v in stack.plan.parameters.items() if k in template.parameters}
                values = {**kept, **values}
            if stacks.is_unchanged(stack, Plan(template, values), tags):
                run.summary = "Stack already up to date."
                self._record_outputs(run, stack)
                return
            stacks.update(
                stack,
                Plan(template, values),
                tags=tags,
                token=token,
                role_arn=settings.get("RoleArn"),
                capabilities=capabilities,
            )
            wanted = ("UPDATE_COMPLETE",)
        self._record_outputs(run, stack)
        yield from self._wait_for_stack(stack)
        if stack.status not in wanted:
            raise ActionError(
                f"Stack {stack.name} is in the state {stack.status}: {stack.failure_reason(token)}"
            )
        run.summary = f"Stack {stack.status} by pipeline {pipeline.name}"
        self._record_outputs(run, stack)

    def _replace_change_set(
        self, stacks: Stacks, execution: Execution, run: ActionRun, stack: Stack | None
    ) -> Process:
        template = stacks.read_template(
            _artifact_file(execution, run.configuration["TemplatePath"]).read_text()
        )
        values, tags = _read_settings(execution, run.configuration)
        if stack is not None and stack.status in UPDATABLE:
            kept = {k: v for k, v in stack.plan.parameters.items() if k in template.parameters}
            values = {**kept, **values}
        yield from replace_change_set(stacks, run, stack, Plan(template, values), tags)

    def _delete_stack(self, stacks: Stacks, run: ActionRun, stack: Stack) -> Process:
        token = f"pipeline-{run.id}"
        run.external_id = stack.id
        stacks.delete(stack, token=token)
        yield from self._wait_for_stack(stack)
        if stack.status != "DELETE_COMPLETE":
            raise ActionError(
                f"Stack {stack.name} is in the state {stack.status}: {stack.failure_reason(token)}"
            )

    def _wait_for_stack(self, stack: Stack) -> Process:
        while stack.status.endswith("_IN_PROGRESS"):
            yield _POLL_SECONDS

    @staticmethod
    def _record_outputs(run: ActionRun, stack: Stack) -> None:
        run.external_id = stack.id
        run.variables = {o["OutputKey"]: o["OutputValue"] for o in stack.outputs}


def _artifact_file(execution: Execution, reference: str) -> Path:
    """The file that a reference `Artifact::path` names."""
    name, _, path = reference.partition("::")
    if name not in execution.artifacts or not path:
        raise ActionError(f"There is no artifact file {reference}", "ConfigurationError")
    root = execution.artifacts[name].path
    found = (root / path).resolve()
    if not found.is_relative_to(root.resolve()) or not found.is_file():
        raise ActionError(f"File [{path}] does not exist in artifact [{name}]")
    return found


def _read_settings(
    execution: Execution, settings: dict[str, str]
) -> tuple[dict[str, str], dict[str, str] | None]:
    """The parameters and the tags that the template configuration and the overrides set."""
    values: dict[str, Any] = {}
    tags: dict[str, str] | None = None
    try:
        if reference := settings.get("TemplateConfiguration"):
            document = json.loads(_artifact_file(execution, reference).read_text())
            values = dict(document.get("Parameters") or {})
            tags = document.get("Tags")
        values.update(json.loads(settings.get("ParameterOverrides") or "{}"))
    except (ValueError, TypeError, AttributeError) as error:
        raise ActionError(
            f"The template's configuration is malformed: {error}", "ConfigurationError"
        ) from error
    return {k: _parameter_value(execution, v) for k, v in values.items()}, tags


def _parameter_value(execution: Execution, value: Any) -> str:
    if isinstance(value, dict) and len(value) == 1:
        (function, argument), *_ = value.items()
        if function == "Fn::GetParam":
            name, path, key = argument
            return str(json.loads(_artifact_file(execution, f"{name}::{path}").read_text())[key])
        if function == "Fn::GetArtifactAtt":
            artifact = execution.artifacts[argument[0]]
            return {"BucketName": artifact.bucket, "ObjectKey": artifact.key}[argument[1]]
        raise ActionError(f"The simulator does not know {function} in parameters", "ConfigurationError")
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
