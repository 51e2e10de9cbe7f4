"""The pipelines of one account's region through CodePipeline."""

import logging
import time
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from deployer.aws.clients import AwsClients, call_with_retries, read_pages
from deployer.aws.errors import is_execution_ended, is_not_found, required_member, translate_errors
from deployer.aws.execution_answers import execution_from_summary, execution_with_stages
from deployer.aws.pipeline_definition import deployed_stack_sets, deployed_stacks, source_actions, stage_names
from deployer.aws.stack_actions import stack_actions
from deployer.environment.cloud_region import Execution, StackAction
from deployer.model.environments import Repository
from deployer.model.errors import PermanentError
from deployer.model.source_actions import SourceLocation, pinned_actions, start_problem

if TYPE_CHECKING:
    from mypy_boto3_codepipeline.type_defs import SourceRevisionOverrideTypeDef

_log = logging.getLogger(__name__)

_EXECUTIONS_LISTED = 20  # the newest ones of a pipeline
_ACTION_PAGES = 10  # of a hundred action runs each
_REASON_LIMIT = 200  # characters, a limit of StopPipelineExecution
# A task that needs a pipeline's definition or an execution's summary twice reads it from AWS once: seconds that either
# may be reused. A new task needs the current state, so both are short.
_JUST_READ_SECONDS = 10.0
_JUST_LISTED_SECONDS = 2.0


class AwsPipelines:
    """Implements the part of the port `CloudRegion` that concerns pipelines.

    Args:
        clients: clients of the target's account in this region.
    """

    def __init__(self, clients: AwsClients) -> None:
        self._aws = clients
        # what the same task may reuse, with the time of the response (monotonic clock)
        self._definitions: dict[str, tuple[float, Any]] = {}  # pipeline -> definition
        self._startable: set[str] = (
            set()
        )  # pipelines that may be started by the definition that was read last
        self._summaries: dict[tuple[str, str], tuple[float, Any]] = {}  # (pipeline, execution) -> summary

    def deployed_stacks(self, pipeline: str) -> list[str]:
        """See `CloudRegion.deployed_stacks`. One call."""
        with translate_errors(f"reading pipeline {pipeline}"):
            definition = self._read_definition(pipeline)
            return deployed_stacks(definition) if definition else []

    def stack_actions(self, pipeline: str) -> list[StackAction]:
        """See `CloudRegion.stack_actions`. One call for each hundred actions, for the newest thousand at most."""
        with translate_errors(f"listing the actions of pipeline {pipeline}"):
            try:
                return stack_actions(self._list_actions(pipeline))
            except ClientError as error:
                if is_not_found(error):
                    return []
                raise

    def stage_names(self, pipeline: str) -> list[str]:
        """See `CloudRegion.stage_names`. One call; none if the definition was read in the last ten seconds."""
        definition = self._definition(pipeline)
        return stage_names(definition) if definition else []

    def stack_sets(self, pipeline: str) -> list[str]:
        """See `CloudRegion.stack_sets`. One call; none if the definition was read in the last ten seconds."""
        definition = self._definition(pipeline)
        return deployed_stack_sets(definition) if definition else []

    def executions(self, pipeline: str, repository: Repository | None = None) -> list[Execution]:
        """See `CloudRegion.executions`. One call; one more if an execution has several sources."""

        @cache
        def read_definition() -> Any | None:
            return self._read_definition(pipeline)

        with translate_errors(f"listing the executions of pipeline {pipeline}"):
            try:
                answer = call_with_retries(
                    lambda: self._aws.codepipeline.list_pipeline_executions(
                        pipelineName=pipeline, maxResults=_EXECUTIONS_LISTED
                    )
                )
            except ClientError as error:
                if is_not_found(error):
                    return []
                raise
            listed = required_member(answer, "pipelineExecutionSummaries")
            now = time.monotonic()
            self._summaries = {
                (pipeline, required_member(one, "pipelineExecutionId")): (now, one) for one in listed
            }
            return [execution_from_summary(one, read_definition, repository) for one in listed]

    def execution(
        self, pipeline: str, execution: str, repository: Repository | None = None
    ) -> Execution | None:
        """See `CloudRegion.execution`. Two calls; one if `executions` returned the execution in the last two seconds.

        One more if the execution may be between two actions or has several sources.
        """
        with translate_errors(f"reading execution {execution} of pipeline {pipeline}"):
            found = self._recent_summary(pipeline, execution) or self._read_execution(pipeline, execution)
            if found is None:
                return None
            try:
                details = list(self._list_actions(pipeline, filter={"pipelineExecutionId": execution}))
            except ClientError as error:
                if is_not_found(error):  # not listed yet, or deleted with its pipeline in the meantime
                    return None
                raise
            return execution_with_stages(found, details, lambda: self._read_definition(pipeline), repository)

    def start_problem(self, pipeline: str, location: SourceLocation) -> str:
        """See `CloudRegion.start_problem`. One call; none if the definition was read in the last ten seconds."""
        definition = self._definition(pipeline)
        return _start_problem(definition, location) if definition else ""

    def start(self, pipeline: str, sha: str, token: str, location: SourceLocation) -> str:
        """See `CloudRegion.start`: start an execution pinned to a commit and return its id.

        Two calls; one if the definition was read in the last ten seconds.

        Raises:
            PermanentError: the pipeline does not exist, reads something else, or is started by AWS too.
        """
        with translate_errors(f"starting pipeline {pipeline}"):
            definition = self._definition_to_start(pipeline)
            if definition is None:
                raise PermanentError(
                    f"there is no pipeline {pipeline} though its stack exists: somebody deleted it, or the template"
                    " does not name it by the parameter PipelineName; deployer delete and a push create it again"
                )
            if problem := _start_problem(definition, location):
                raise PermanentError(f"pipeline {pipeline} is not started: {problem}")
            revisions: list[SourceRevisionOverrideTypeDef] = [
                {"actionName": each.name, "revisionType": "COMMIT_ID", "revisionValue": sha}
                for each in pinned_actions(source_actions(definition), location)
            ]
            answer = call_with_retries(
                lambda: self._aws.codepipeline.start_pipeline_execution(
                    name=pipeline,
                    clientRequestToken=token,
                    sourceRevisions=revisions,
                )
            )
            return str(required_member(answer, "pipelineExecutionId"))

    def stop(self, pipeline: str, execution: str, reason: str) -> None:
        """See `CloudRegion.stop`: abandon an execution, unless it already ended or does not exist. One call."""
        self._summaries = {}
        with translate_errors(f"stopping execution {execution} of pipeline {pipeline}"):
            try:
                call_with_retries(
                    lambda: self._aws.codepipeline.stop_pipeline_execution(
                        pipelineName=pipeline,
                        pipelineExecutionId=execution,
                        abandon=True,
                        reason=reason[:_REASON_LIMIT],
                    )
                )
            except ClientError as error:
                if not (is_execution_ended(error) or is_not_found(error)):
                    raise
                _log.info("execution %s of %s already ended", execution, pipeline)

    def execution_url(self, pipeline: str, execution: str) -> str:
        """Return the URL of the execution in AWS's console. No call."""
        region = self._aws.region
        return (
            f"https://{region}.console.aws.amazon.com/codesuite/codepipeline/pipelines/{pipeline}"
            f"/executions/{execution}/timeline?region={region}"
        )

    def _list_actions(self, pipeline: str, **chosen: Any) -> Iterator[Any]:
        listed = read_pages(
            self._aws.codepipeline.list_action_executions,
            cursor="nextToken",
            pipelineName=pipeline,
            maxResults=100,
            **chosen,
        )
        for page in islice(listed, _ACTION_PAGES):
            yield from required_member(page, "actionExecutionDetails")

    def _read_definition(self, pipeline: str) -> Any | None:
        try:
            answer = call_with_retries(lambda: self._aws.codepipeline.get_pipeline(name=pipeline))
        except ClientError as error:
            if is_not_found(error):
                return None
            raise
        read = required_member(answer, "pipeline")
        stage_names(read)  # an answer without stages is none
        self._definitions = {pipeline: (time.monotonic(), read)}
        self._startable = {pipeline}
        return read

    def _definition(self, pipeline: str) -> Any | None:
        """Return the definition, which may be ten seconds old."""
        if recent := self._recent_definition(pipeline):
            return recent
        with translate_errors(f"reading pipeline {pipeline}"):
            return self._read_definition(pipeline)

    def _recent_definition(self, pipeline: str) -> Any | None:
        at, read = self._definitions.get(pipeline, (0.0, None))
        return read if time.monotonic() - at < _JUST_READ_SECONDS else None

    def _definition_to_start(self, pipeline: str) -> Any | None:
        """Return the definition for one start; a repeated start reads it again, because it may have changed."""
        recent = self._recent_definition(pipeline) if pipeline in self._startable else None
        definition = recent or self._read_definition(pipeline)
        self._startable.discard(pipeline)
        return definition

    def _recent_summary(self, pipeline: str, execution: str) -> Any | None:
        """Return an execution's summary if it was listed in the last two seconds; only once."""
        at, listed = self._summaries.pop((pipeline, execution), (0.0, None))
        return listed if time.monotonic() - at < _JUST_LISTED_SECONDS else None

    def _read_execution(self, pipeline: str, execution: str) -> Any | None:
        try:
            answer = call_with_retries(
                lambda: self._aws.codepipeline.get_pipeline_execution(
                    pipelineName=pipeline, pipelineExecutionId=execution
                )
            )
        except ClientError as error:
            if is_not_found(error):
                return None
            raise
        return required_member(answer, "pipelineExecution")


def _start_problem(definition: Any, location: SourceLocation) -> str:
    return start_problem(source_actions(definition), location, has_triggers=bool(definition.get("triggers")))
