"""The commit statuses of an environment: each one is posted only if it changed."""

import logging
from collections.abc import Callable, Sequence

from deployer.environment.cloud_region import CloudRegion, Execution
from deployer.environment.code_host import CodeHost, Status
from deployer.environment.context import ReconcileContext
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environment_status import FollowedExecution, ForeignExecution, StageState
from deployer.model.environments import Environment, Kind
from deployer.model.errors import CallLimitError, PermanentError
from deployer.model.outcomes import Outcome
from deployer.model.teardown_report import TeardownReport
from deployer.queue.call_counter import count_for_purpose, is_limit_reached
from deployer.queue.step_results import Finished

_log = logging.getLogger(__name__)
_GITHUB_STATES = {
    "pending": "pending",
    "running": "pending",
    "succeeded": "success",
    "failed": "failure",
    "stopped": "error",
}
_OWN_CONTEXTS = {"prepare", "teardown", "age", "production", "foreign-execution"}
_POSTED_LIMIT = 300  # characters kept of a posted status; GitHub shows fewer
_OPEN_LIMIT = 5  # executions of one environment that are followed at a time


class StatusReporter:
    """Posts statuses, and keeps in the record what it posted last.

    Args:
        host: GitHub.
        url: returns the address of an environment's page; empty if there is no page.
    """

    def __init__(self, host: CodeHost, url: Callable[[Environment], str]) -> None:
        self._host = host
        self._url = url

    def post_prepare(
        self,
        environment: Environment,
        record: EnvironmentRecord,
        sha: str,
        state: str,
        text: str,
        url: str = "",
    ) -> EnvironmentRecord:
        """Post `deployer/prepare`: the state of the pipeline itself, before its stages run and apart from them."""
        posted = f"{sha} {state} {text}"
        if not sha or record.status.prepared == posted:
            return record
        if record.status.prepared.partition(" ")[0] != sha:
            record = self.end_prepare(environment, record, f"overtaken by {sha[:12]}")
        description = f"{environment.kind}: {text}"
        page = self._url(environment) or url
        self._post_status(environment, sha, Status("deployer/prepare", state, description, page))
        return record.but(prepared=posted)

    def end_prepare(self, environment: Environment, record: EnvironmentRecord, why: str) -> EnvironmentRecord:
        """End `deployer/prepare` of a commit that is not deployed any more, because it would stay pending for ever."""
        sha, state, _ = [*record.status.prepared.split(" ", 2), "", ""][:3]
        if state != "pending":
            return record
        text = f"{environment.kind}: {why}"
        self._post_status(environment, sha, Status("deployer/prepare", "error", text, self._url(environment)))
        return record.but(prepared=f"{sha} error {why}")

    def post_production(self, environment: Environment, sha: str, state: str, text: str) -> None:
        """Post `deployer/production`: whether the rules allow production to run this commit."""
        self._post_status(
            environment, sha, Status("deployer/production", state, text, self._url(environment))
        )

    def post_progress(self, context: ReconcileContext, state: str, text: str) -> ReconcileContext:
        """Post `deployer/prepare` on the commit of the goal."""
        return context.replace_record(
            self.post_prepare(context.environment, context.record, context.work.spec.sha, state, text)
        )

    def fail_goal(self, context: ReconcileContext, reason: str, url: str = "", short: str = "") -> Finished:
        """End a goal as failed, and post the reason on its commit.

        Args:
            reason: the reason in one line.
            url: where people see more if the environment has no page.
            short: the reason for the commit's status, of which GitHub shows 140 characters; by default `reason`.
        """
        sha = context.work.spec.sha or context.record.spec.commit
        record = self.post_prepare(context.environment, context.record, sha, "failure", short or reason, url)
        commit = {"commit": context.work.spec.sha} if context.work.spec.sha else {}
        return context.replace_record(record).done(Outcome.FAILED, reason, **commit)

    def post_teardown_report(self, environment: Environment, record: EnvironmentRecord) -> EnvironmentRecord:
        """Post `deployer/teardown` on the environment's last commit: what was removed and what was left."""
        removed, retained = record.status.receipt.removed, record.status.receipt.retained
        if not record.spec.commit or not (removed or retained):
            return record
        state = "failure" if retained else "success"
        text = f"{environment.kind}: {_teardown_text(environment, record.status.receipt)}"
        posted = f"{record.spec.commit} {state} {text}"[:_POSTED_LIMIT]
        if record.status.receipt.posted == posted:  # the teardown before this one posted the same
            return record
        self._post_status(
            environment, record.spec.commit, Status("deployer/teardown", state, text, self._url(environment))
        )
        return record.but(receipt=record.status.receipt.but(posted=posted))

    def post_expiry_status(self, environment: Environment, record: EnvironmentRecord, text: str) -> bool:
        """Post `deployer/age` on the environment's last commit, as a success because nobody waits for it.

        Returns:
            Whether GitHub has the status.
        """
        if not record.spec.commit:
            return False
        status = Status("deployer/age", "success", f"{environment.kind}: {text}", self._url(environment))
        return self._post_status(environment, record.spec.commit, status)

    def post_foreign(
        self, environment: Environment, record: EnvironmentRecord, found: Sequence[ForeignExecution]
    ) -> EnvironmentRecord:
        """Record executions that deployer did not start, and post the newest one on the environment's commit."""
        last = next(reversed(record.status.pipeline.foreign), None)
        if not found:
            if last and last.posted_on:
                self._post_foreign_status(
                    environment, last.posted_on, "success", "deployer has deployed since"
                )
            return record.but(foreign=[])
        commit, text = record.spec.commit, found[-1].words
        if commit and (last is None or (last.posted_on, last.words) != (commit, text)):
            self._post_foreign_status(environment, commit, "error", text)
        return record.but(foreign=[*found[:-1], found[-1].but(posted_on=commit)])

    def _post_foreign_status(self, environment: Environment, sha: str, state: str, text: str) -> None:
        description = f"{environment.kind}: {text}"
        status = Status("deployer/foreign-execution", state, description, self._url(environment))
        self._post_status(environment, sha, status)

    def follow_execution(
        self,
        environment: Environment,
        record: EnvironmentRecord,
        execution: str,
        sha: str,
        cloud: CloudRegion,
    ) -> EnvironmentRecord:
        """Follow an execution until it ends. If too many are followed, the oldest one is not followed any more.

        The statuses of that one say that deployer stopped following it.
        """
        if execution in record.status.pipeline.open:
            return record
        with count_for_purpose("stages"):
            names = cloud.stage_names(_pipeline_name(environment, record))
        followed = list(record.status.pipeline.open.items())
        kept = dict(followed[-(_OPEN_LIMIT - 1) :])  # the newest ones, with room for this one
        for identity, entry in followed:
            if identity not in kept:
                self._end_pending_stages(
                    environment, entry, f"is not followed any more: {_OPEN_LIMIT} newer executions run"
                )
        return record.but(
            execution=execution,
            stages=[StageState(name, "pending") for name in names],
            open={**kept, execution: FollowedExecution(sha)},
        )

    def stop_following(
        self, environment: Environment, record: EnvironmentRecord, why: str
    ) -> EnvironmentRecord:
        """Follow no execution any more. Statuses that are pending get a final text, such as `Build {why}`."""
        for entry in record.status.pipeline.open.values():
            self._end_pending_stages(environment, entry, why)
        return record.but(open={})

    def _end_pending_stages(self, environment: Environment, entry: FollowedExecution, why: str) -> None:
        for stage, state in entry.posted.items():
            if state == "pending":
                text = f"{environment.kind}: {stage} {why}"
                status = Status(_stage_context(stage), "error", text, self._url(environment))
                self._post_status(environment, entry.sha, status)

    def post_stage_changes(
        self, environment: Environment, record: EnvironmentRecord, cloud: CloudRegion
    ) -> tuple[EnvironmentRecord, dict[str, Execution]]:
        """Read every followed execution and post what changed; an execution that ended is not followed any more."""
        with count_for_purpose("stages"):
            return self._post_every_execution(environment, record, cloud)

    def _post_every_execution(
        self, environment: Environment, record: EnvironmentRecord, cloud: CloudRegion
    ) -> tuple[EnvironmentRecord, dict[str, Execution]]:
        found: dict[str, Execution] = {}
        still_open = {}
        name = _pipeline_name(environment, record)
        for identity, entry in record.status.pipeline.open.items():
            execution = cloud.execution(name, identity, environment.repository)
            if execution is None:
                self._end_pending_stages(environment, entry, "ended because its pipeline was deleted")
                continue
            found[identity] = execution
            sha, page = entry.sha or execution.sha, cloud.execution_url(name, identity)
            posted, all_posted = self._post_stages(environment, execution, sha, entry.posted, page)
            if not (execution.ended and all_posted):
                still_open[identity] = entry.but(sha=sha, posted=posted)
            # a record without stages is about something newer than this execution
            if identity == record.status.pipeline.execution and (
                record.status.pipeline.stages or record.status.state == "running"
            ):
                record = record.but(stages=all_stages(execution, record))
        return record.but(open=still_open), found

    def _post_stages(
        self, environment: Environment, execution: Execution, sha: str, posted: dict[str, str], page: str
    ) -> tuple[dict[str, str], bool]:
        """Post the changed stages of one execution.

        Returns:
            The state of each stage that was posted, and whether no status is left for the next task.
        """
        posted = dict(posted)
        for stage in execution.stages:
            state = _GITHUB_STATES[stage.status]
            text = f"{environment.kind}: {_stage_text(stage.name, stage.status, stage.reason)}"
            if execution.ended and state == "pending":
                state = "error"
                text = f"{environment.kind}: {stage.name} ended because its execution was {execution.status}"
            if not sha or posted.get(stage.name) == state:
                continue
            status = Status(_stage_context(stage.name), state, text, stage.url or page)
            if not self._post_status(environment, sha, status) and is_limit_reached():
                return posted, False
            posted[stage.name] = state
        return posted, True

    def _post_status(self, environment: Environment, sha: str, status: Status) -> bool:
        try:
            self._host.post_commit_status(environment.repository, sha, status)
            return True
        except (PermanentError, CallLimitError) as error:
            # The deployment continues, even if GitHub refuses a status or this task has no calls left.
            _log.warning(
                "posting status %s on %s of %s: %s", status.context, sha[:12], environment.repository, error
            )
            return False


def all_stages(execution: Execution, record: EnvironmentRecord) -> list[StageState]:
    """All stages of an execution in the form of the record: the stages it reached, and the others on record."""
    reached = {stage.name: stage for stage in execution.stages}
    names = dict.fromkeys([*(stage.name for stage in record.status.pipeline.stages), *reached])
    rest = "not-reached" if execution.ended else "pending"
    return [reached.get(name) or StageState(name, rest) for name in names]


def failure_text(execution: Execution) -> str:
    """Why an execution did not succeed, in one line."""
    for stage in execution.stages:
        if stage.status == "failed":
            return _stage_text(stage.name, stage.status, stage.reason)
    if execution.status == "cancelled":
        return "AWS cancelled the execution, because its pipeline was changed while it ran; redeploy it"
    return f"the execution was {execution.status}"


def _pipeline_name(environment: Environment, record: EnvironmentRecord) -> str:
    """The name of an environment's pipeline: the recorded name, which an earlier release may have given."""
    return record.stack_name or environment.stack_name


def _stage_context(stage: str) -> str:
    """The context of a stage's status, which differs from deployer's own contexts even if the stage has such a name.

    GitHub compares contexts without case, and the name of a stage contains no slash.
    """
    return f"deployer/{'stage/' if stage.lower() in _OWN_CONTEXTS else ''}{stage}"


def _stage_text(name: str, status: str, reason: str) -> str:
    done = {"pending": "waits", "running": "runs", "succeeded": "succeeded", "stopped": "was stopped"}
    if status == "failed":
        return f"{name} failed: {reason}" if reason else f"{name} failed"
    return f"{name} {done[status]}"


def _teardown_text(environment: Environment, report: TeardownReport) -> str:
    """What a teardown removed and left, in one line."""
    removed, retained = report.removed, report.retained
    stacks = [each for each in removed if each.is_stack]
    resources = sum(each.resources or 0 for each in stacks)
    text = f"removed {_counted(len(stacks), 'stack')} with {_counted(resources, 'resource')}"
    logs = sum(each.what.startswith("log group ") for each in removed)
    stores = len(removed) - len(stacks) - logs + report.unlisted.removed
    if stores and environment.kind is Kind.DEVELOPMENT:
        has_images = any(each.what.startswith("image repository ") for each in removed)
        text += f" and emptied {_counted(stores, 'bucket or repository' if has_images else 'bucket')}"
    if logs:
        text += f" and deleted {_counted(logs, 'log group')}"
    if retained:
        more = f" and {report.unlisted.retained} more" if report.unlisted.retained else ""
        text += f"; left {', '.join(each.what for each in retained)}{more}: {retained[0].why}"
    return text


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
