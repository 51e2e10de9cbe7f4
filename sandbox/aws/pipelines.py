"""CodePipeline's pipelines as data, with the checks of their definitions."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sandbox.aws.actiontypes import check_action
from sandbox.aws.clock import Future, Task
from sandbox.aws.places import REGION, Place
from sandbox.aws.protocol import AwsError
from sandbox.aws.servicemodels import request_message

_MODES = ("SUPERSEDED", "QUEUED", "PARALLEL")
RUNNING = ("InProgress", "Stopping")


@dataclass
class ActionRun:
    """The run of one action in one execution."""

    stage: str
    name: str
    declared: dict[str, Any]
    started: datetime
    updated: datetime
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = "InProgress"
    summary: str | None = None
    error: dict[str, str] | None = None
    external_id: str | None = None
    external_url: str | None = None
    revision: str | None = None
    revision_url: str | None = None
    configuration: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    approval_token: str | None = None
    approval: Future | None = None


@dataclass
class StageRun:
    """The run of one stage in one execution."""

    name: str
    execution_id: str
    status: str = "InProgress"
    actions: dict[str, ActionRun] = field(default_factory=dict)


@dataclass
class Revision:
    """The commit of a source action, with the artifact made from it."""

    action: str
    artifact: str
    sha: str
    summary: str
    url: str
    created: datetime


@dataclass
class Artifact:
    """An artifact: its files on disk while the execution runs, and its archive in S3."""

    path: Path
    bucket: str
    key: str


@dataclass
class Execution:
    """One execution of a pipeline, by the definition that was valid at its start.

    Of a rollback, `rollback_target` is the execution to which a stage is rolled back.
    """

    id: str
    number: int
    definition: dict[str, Any]
    trigger: str
    trigger_detail: str
    pins: dict[str, str]
    variables: dict[str, str]
    started: datetime
    updated: datetime
    directory: Path
    status: str = "InProgress"
    summary: str | None = None
    stop_reason: str | None = None
    rollback_target: str = ""
    revisions: list[Revision] = field(default_factory=list)
    stages: dict[str, StageRun] = field(default_factory=dict)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    turn: Future | None = None
    task: Task | None = None

    def actions(self) -> Iterator[ActionRun]:
        """Every action that has started."""
        for stage in self.stages.values():
            yield from stage.actions.values()


@dataclass
class Pipeline:
    """A pipeline: its definition, its executions (oldest first), and the latest run of each stage."""

    definition: dict[str, Any]
    tags: dict[str, str]
    created: datetime
    updated: datetime
    place: Place
    executions: dict[str, Execution] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    latest: dict[str, StageRun] = field(default_factory=dict)
    latest_actions: dict[tuple[str, str], ActionRun] = field(default_factory=dict)
    # By the name of a stage: the execution that occupies it, and the executions that wait for it.
    occupants: dict[str, Execution] = field(default_factory=dict)
    waiting: dict[str, list[Execution]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return str(self.definition["name"])

    @property
    def version(self) -> int:
        """The version of the definition, counted from 1."""
        return int(self.definition["version"])

    @property
    def mode(self) -> str:
        """The execution mode: what a new execution does to running ones."""
        return str(self.definition.get("executionMode", _MODES[0]))

    @property
    def arn(self) -> str:
        """The pipeline's ARN."""
        return self.place.arn("codepipeline", self.name)

    def running_executions(self) -> list[Execution]:
        """The executions that have not ended."""
        return [e for e in self.executions.values() if e.status in RUNNING]


def _invalid_structure(message: str) -> AwsError:
    return AwsError("InvalidStructureException", message)


def check_definition(definition: dict[str, Any], region: str = REGION) -> None:
    """Check the definition of a pipeline in a region.

    Raises:
        AwsError: InvalidStructureException or ValidationException.
    """
    if message := request_message("codepipeline", "CreatePipeline", {"pipeline": definition}):
        raise AwsError("ValidationException", message)
    if definition.get("executionMode", _MODES[0]) not in _MODES:
        raise _invalid_structure(f"The execution mode must be one of {', '.join(_MODES)}")
    store = definition.get("artifactStore") or {}
    if not store.get("location") and not definition.get("artifactStores"):
        raise _invalid_structure("Pipeline should have an artifact store")
    stages = definition.get("stages") or []
    if len(stages) < 2:
        raise _invalid_structure(
            f"Pipeline has {len(stages)} stage(s). There should be a minimum of 2 stages in a pipeline"
        )
    if double := _find_duplicate([s.get("name") for s in stages]):
        raise _invalid_structure(f"Pipeline stage name must be unique: {double}")
    made: set[str] = set()
    for number, stage in enumerate(stages):
        made |= _check_stage(stage, made, first=number == 0)
        for action in stage["actions"]:
            check_action(action, region)


def _check_stage(stage: dict[str, Any], made: set[str], *, first: bool) -> set[str]:
    name, actions = stage.get("name"), stage.get("actions") or []
    if not actions:
        raise _invalid_structure(f"Stage {name} has no actions")
    if double := _find_duplicate([a.get("name") for a in actions]):
        raise _invalid_structure(f"Action name must be unique within a stage: {double} in stage {name}")
    new: set[str] = set()
    for action in sorted(actions, key=lambda a: int(a.get("runOrder", 1))):
        source = action["actionTypeId"]["category"] == "Source"
        if source != first:
            raise _invalid_structure(
                f"Pipeline first stage must contain only source actions: {action['name']} in stage {name}"
                if first
                else f"Source action {action['name']} is only allowed in the first stage"
            )
        for artifact in action.get("inputArtifacts", []):
            if artifact["name"] not in made | new:
                raise _invalid_structure(
                    f"Input Artifact Bundle {artifact['name']} in action {action['name']} is not declared as "
                    "Output Artifact Bundle in any of the preceding actions"
                )
        for artifact in action.get("outputArtifacts", []):
            if artifact["name"] in made | new:
                raise _invalid_structure(f"Output Artifact Bundle name must be unique: {artifact['name']}")
            new.add(artifact["name"])
    return new


def _find_duplicate(names: list[Any]) -> Any:
    return next((n for i, n in enumerate(names) if n in names[:i]), None)
