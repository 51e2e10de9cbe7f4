"""A case that is pushed to an installation, followed to its end, and deleted."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError

from deployer.model.environments import Environment, Kind, Repository
from deployer.model.refs import Ref
from sandbox.installation import Installation, wait_for
from tests.cases.rows import Case, slug

SECONDS = 240.0
_ENDED = {"deployed", "failed", "skipped", "waiting"}


@dataclass(frozen=True)
class Remains:
    """What exists of an environment after its deletion, next to the receipt of the deletion.

    Attributes:
        existing: ARNs of the environment's stacks, and physical ids of resources that belonged to a stack that is gone.
        receipt: the receipt; None if there is none.
        state, reason: of the environment.
    """

    existing: frozenset[str]
    receipt: dict[str, Any] | None
    state: str
    reason: str

    @property
    def retained(self) -> list[dict[str, str]]:
        """What the receipt lists as left."""
        return list((self.receipt or {}).get("retained", []))


@dataclass(frozen=True)
class Pushed:
    """What became of a pushed case.

    Attributes:
        commit: the pushed commit.
        state, reason: of the environment after the push.
        stacks: the names of the stacks that existed then.
        revisions: the commits that the newest execution read, by artifact.
        remains: what the deletion left.
    """

    commit: str
    state: str
    reason: str
    stacks: frozenset[str]
    revisions: dict[str, str]
    remains: Remains


class CaseRun:
    """Pushes a case and deletes its branch.

    Args:
        here: the installation.
        directory: for the clone.
        case: the case.
    """

    def __init__(self, here: Installation, directory: Path, case: Case) -> None:
        self._here, self._case = here, case
        self._directory = directory
        self._name = f"acme/{slug(case.name)}"
        ref = Ref.of_branch(case.branch)
        self._environment = Environment(Repository.parse(self._name), Kind.DEVELOPMENT, ref)
        self._pipeline = self._environment.stack_name

    def carry_out(self) -> Pushed:
        """Push the branch, wait for its end, delete it, and wait for that.

        Raises:
            WaitTimeoutError: an end was not reached.
        """
        case = self._case
        self._here.repository(self._name, sample=False)
        copy = self._here.clone(self._directory / slug(case.name), self._name)
        copy.git("checkout", "-q", "-B", "main")
        copy.write("First", {"README.md": case.right})
        copy.push("HEAD:main")
        tags = {"stack.json": json.dumps({"Tags": self._environment.tags})}
        commit = copy.write("Case", {**case.repository_files, **tags})
        copy.push(f"HEAD:refs/heads/{case.branch}")
        wait_for(f"{case.name} is at its end", lambda: self._has_ended(commit), SECONDS)
        ended = self._record()
        before = self._resources()
        revisions = self._revisions()
        copy.push(f":refs/heads/{case.branch}")
        wait_for(f"{case.name} is deleted", lambda: self._is_deleted(str(ended["reason"])), SECONDS)
        deleted = self._record()
        stacks = self._own_stacks()
        kept = {each for stack in stacks.values() for each in stack["resources"].values()}
        remains = Remains(
            frozenset((before & self._existing() - kept) | stacks.keys()),
            deleted.get("receipt"),
            str(deleted.get("state", "")),
            str(deleted.get("reason", "")),
        )
        names = frozenset(each.split("/")[1] for each in before if each.startswith("arn:aws:cloudformation:"))
        return Pushed(commit, ended["state"], ended["reason"], names, revisions, remains)

    # --- the environment ---

    def _record(self) -> dict[str, Any]:
        return self._here.environment(f"refs/heads/{self._case.branch}", self._name) or {}

    def _has_ended(self, commit: str) -> bool:
        found = self._record()
        if found.get("commit") != commit:
            return False
        waiting = self._approvals()
        if self._case.waits:
            return found["state"] == "running" and self._case.waits in {action for _, action, _ in waiting}
        for stage, action, token in waiting:
            self._approve(stage, action, token)
        return found["state"] in _ENDED and bool(found["outcome"])

    def _is_deleted(self, former_reason: str) -> bool:
        """Whether the deletion has ended, well or not."""
        found = self._record()
        return found["state"] == "deleted" or (
            found["state"] == "failed" and found["reason"] != former_reason
        )

    # --- AWS ---

    def _client(self, service: str) -> Any:
        return boto3.client(
            service, region_name="us-east-1", endpoint_url=self._here.aws,
            aws_access_key_id="test", aws_secret_access_key="test",
        )  # fmt: skip

    def _approvals(self) -> list[tuple[str, str, str]]:
        """Stage, action and token of each approval for which the pipeline waits."""
        try:
            state = self._client("codepipeline").get_pipeline_state(name=self._pipeline)
        except ClientError:
            return []
        return [
            (stage["stageName"], action["actionName"], token)
            for stage in state["stageStates"]
            for action in stage.get("actionStates", [])
            if (token := action.get("latestExecution", {}).get("token"))
        ]

    def _approve(self, stage: str, action: str, token: str) -> None:
        client = self._client("codepipeline")
        with suppress(
            client.exceptions.ApprovalAlreadyCompletedException
        ):  # an answer to the former request was lost
            client.put_approval_result(
                pipelineName=self._pipeline, stageName=stage, actionName=action, token=token,
                result={"status": "Approved", "summary": "yes"},
            )  # fmt: skip

    def _revisions(self) -> dict[str, str]:
        executions = self._here.executions(self._pipeline)
        if not executions:
            return {}
        found = self._client("codepipeline").get_pipeline_execution(
            pipelineName=self._pipeline, pipelineExecutionId=executions[-1]["id"]
        )
        listed = found["pipelineExecution"].get("artifactRevisions", [])
        return {each["name"]: each["revisionId"] for each in listed}

    def _own_stacks(self) -> dict[str, dict[str, Any]]:
        """The environment's stacks and those that its pipeline made, by ARN: they have its name or its tags."""
        return {
            each["id"]: each
            for each in self._here.aws_state()["stacks"]
            if each["name"].startswith(self._pipeline) or self._environment.owns(each["tags"])
        }

    def _resources(self) -> set[str]:
        """The ARNs of the stacks and the physical ids of their resources."""
        return set(self._ids(self._own_stacks()))

    @staticmethod
    def _ids(stacks: dict[str, dict[str, Any]]) -> Iterator[str]:
        for arn, stack in stacks.items():
            yield arn
            yield from filter(None, stack["resources"].values())

    def _existing(self) -> set[str]:
        """Everything in AWS that a stack may have made, by physical id."""
        state = self._here.aws_state()
        ids = {each["id"] for each in [*state["stacks"], *state["leftovers"]]}
        named = [each["name"] for key in ("pipelines", "roles", "projects") for each in state[key]]
        return {*ids, *named, *state["buckets"]}
