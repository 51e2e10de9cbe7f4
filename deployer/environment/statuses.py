"""What GitHub should show of an environment: commit statuses that the queue stores with the result of a task.

Nothing here calls GitHub: `deployer.outbox` posts what changed. Progress is shown in one context, that of the whole
deployment; all others show results only.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from deployer.environment.cloud_region import CloudRegion, Execution
from deployer.environment.context import ReconcileContext
from deployer.environment.teardown_text import teardown_text
from deployer.model.display import (
    FOREIGN_EXECUTION,
    PENDING,
    PREPARE,
    PRODUCTION,
    SUMMARY,
    WANTS,
    DisplayChange,
    own_context,
    skip_change,
    stage_context,
    stage_of_context,
)
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environment_status import FollowedExecution, ForeignExecution, StageState
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.outcomes import Outcome
from deployer.queue.call_counter import count_for_purpose
from deployer.queue.step_results import Finished

_GITHUB_STATES = {
    "pending": PENDING, "running": PENDING, "succeeded": "success", "failed": "failure", "stopped": "error",
}  # fmt: skip
AGE = "deployer/age"
IN_PROGRESS = "is being deployed"
_OPEN_LIMIT = 5  # executions of one environment that are followed at a time


class StatusReporter:
    """Adds to a record what GitHub should show; see `EnvironmentRecord.display`.

    Args:
        url: returns the address of an environment's page; empty if there is no page.
    """

    def __init__(self, url: Callable[[Environment], str]) -> None:
        self._url = url

    def post_prepare(
        self,
        environment: Environment,
        record: EnvironmentRecord,
        sha: str,
        state: str,
        text: str,
        url: str = "",
        progress: str = IN_PROGRESS,
    ) -> EnvironmentRecord:
        """Show the state of the pipeline itself, before its stages run and apart from them.

        Args:
            environment: whose pipeline.
            record: its record.
            sha: the commit; nothing is shown without one.
            state: the state. A final one is shown in `deployer/prepare`.
            text: its description.
            url: where people see more if the environment has no page.
            progress: the text of the whole deployment, unless the state ends it.
        """
        if not sha:
            return record
        record = self._want_commit(record, sha)
        record = self.end_prepare(environment, record, f"overtaken by {sha[:12]}", but=sha)
        page = self._url(environment) or url
        place = _Place(sha, own_context("prepare", environment.kind), page)
        record = self._show_detail(environment, record, place, state, text)
        if state in {PENDING, "success"}:  # the pipeline itself is ready, and its stages are not
            state, text = PENDING, progress
        return self._show_summary(environment, record, _Place(sha, SUMMARY, page), state, text)

    @staticmethod
    def _want_commit(record: EnvironmentRecord, sha: str) -> EnvironmentRecord:
        """Say that the environment wants a commit, and no longer the one before; none if the commit is empty."""
        before = record.status.shown_commit
        changes = [DisplayChange(sha, WANTS, "yes", "")] if sha else []
        if before and before != sha:
            why = f"overtaken by {sha[:12]}" if sha else "its environment was deleted"
            changes.insert(0, DisplayChange(before, WANTS, "no", why))
        return record.but(shown_commit=sha, display=(*record.display, *changes))

    def _show_summary(
        self, environment: Environment, record: EnvironmentRecord, place: "_Place", state: str, text: str
    ) -> EnvironmentRecord:
        """Show the state of a whole deployment: in `deployer`, or of production in `deployer/production`."""
        if environment.kind is Kind.PRODUCTION:
            place = _Place(place.sha, PRODUCTION, place.url)
        return self._show(environment, record, place, state, text)

    def post_outcome(
        self,
        environment: Environment,
        record: EnvironmentRecord,
        result: Finished,
        sha: str,
        skipped_state: Callable[[Repository], str],
    ) -> EnvironmentRecord:
        """Show how a goal has ended.

        Args:
            environment: whose goal.
            record: its record.
            result: the end.
            sha: the commit of the goal; empty if it had none.
            skipped_state: returns the state of a skipped commit in a repository.
        """
        place = _Place(sha, SUMMARY, self._url(environment))
        match result.outcome:
            case Outcome.DEPLOYED:
                return self._show_summary(environment, record, place, "success", "is deployed")
            case Outcome.FAILED:
                return self._show_summary(environment, record, place, "failure", result.reason)
            case Outcome.SKIPPED if not (_has_result(record, sha) or self._is_production(environment)):
                record = _without_wish(record, sha)
                text = f"{environment.name}: skipped: {result.reason}"
                change = skip_change(sha, text, skipped_state(environment.repository), place.url)
                return record.but(display=(*record.display, change)) if sha else record
            case _:
                return record

    @staticmethod
    def _is_production(environment: Environment) -> bool:
        return environment.kind is Kind.PRODUCTION

    def end_prepare(
        self, environment: Environment, record: EnvironmentRecord, why: str, but: str = ""
    ) -> EnvironmentRecord:
        """End `deployer/prepare` of a commit that is not deployed any more, because it would stay pending for ever.

        Args:
            environment: whose status.
            record: its record.
            why: the text of the status.
            but: the commit that is deployed.
        """
        for sha, context in _pending_places(record):
            if context in {PREPARE, own_context("prepare", environment.kind)} and sha != but:
                place = _Place(sha, context, self._url(environment))
                record = self._show(environment, record, place, "error", why)
        return record

    def post_production(
        self, environment: Environment, record: EnvironmentRecord, sha: str, state: str, text: str
    ) -> EnvironmentRecord:
        """Show `deployer/production`: whether the rules allow production to run this commit."""
        place = _Place(sha, PRODUCTION, self._url(environment))
        return _with_change(record, place, state, text)

    def post_progress(self, context: ReconcileContext, text: str = IN_PROGRESS) -> ReconcileContext:
        """Show on the commit of the goal that it is being deployed, and how far that is."""
        sha, record = context.work.spec.sha, context.record
        return context.replace_record(
            self.post_prepare(context.environment, record, sha, PENDING, "", progress=text)
        )

    def post_prepared(self, context: ReconcileContext) -> ReconcileContext:
        """Show on the commit of the goal that its pipeline is ready."""
        sha, record = context.work.spec.sha, context.record
        text = "the pipeline is ready"
        return context.replace_record(self.post_prepare(context.environment, record, sha, "success", text))

    def fail_goal(self, context: ReconcileContext, reason: str, url: str = "", short: str = "") -> Finished:
        """End a goal as failed, and show the reason on its commit.

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
        """Show `deployer/teardown` on the environment's last commit: what was removed and what was left."""
        removed, retained = record.status.receipt.removed, record.status.receipt.retained
        if not (removed or retained):
            return record
        state = "failure" if retained else "success"
        context = own_context("teardown", environment.kind)
        place = _Place(record.spec.commit, context, self._url(environment))
        text = teardown_text(environment, record.status.receipt)
        return self._show(environment, record, place, state, text)

    def post_expiry_status(
        self, environment: Environment, record: EnvironmentRecord, text: str
    ) -> EnvironmentRecord:
        """Show `deployer/age` on the environment's last commit, as a success because nobody waits for it."""
        place = _Place(record.spec.commit, AGE, self._url(environment))
        return self._show(environment, record, place, "success", text)

    def post_foreign(
        self, environment: Environment, record: EnvironmentRecord, found: Sequence[ForeignExecution]
    ) -> EnvironmentRecord:
        """Record executions that deployer did not start, and show the newest one on the environment's commit."""
        url, last = self._url(environment), next(reversed(record.status.pipeline.foreign), None)
        commit = record.spec.commit if found else ""
        if last and last.posted_on not in {"", commit}:
            place = _Place(last.posted_on, FOREIGN_EXECUTION, url)
            record = self._show(environment, record, place, "success", "deployer has deployed since")
        if not found:
            return record.but(foreign=[])
        text = found[-1].words
        if last is None or (last.posted_on, last.words) != (commit, text):
            place = _Place(commit, FOREIGN_EXECUTION, url)
            record = self._show(environment, record, place, "error", text)
        return record.but(foreign=[*found[:-1], found[-1].but(posted_on=commit)])

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
        record = record.but(
            execution=execution,
            stages=[StageState(name, "pending") for name in names],
            open={**kept, execution: FollowedExecution(sha)},
        )
        for identity, entry in followed:
            if identity not in kept:
                why = f"is not followed any more: {_OPEN_LIMIT} newer executions run"
                record = self._end_pending_stages(environment, record, entry, why)
        return record

    def stop_following(
        self, environment: Environment, record: EnvironmentRecord, why: str
    ) -> EnvironmentRecord:
        """Follow no execution any more. Statuses that are pending get a final text, such as `Build {why}`."""
        ended = record.status.pipeline.open.values()
        record = self._want_commit(record.but(open={}), "")
        for entry in ended:
            record = self._end_pending_stages(environment, record, entry, why)
        return record

    def _end_pending_stages(
        self, environment: Environment, record: EnvironmentRecord, entry: FollowedExecution, why: str
    ) -> EnvironmentRecord:
        """End the statuses of an execution's stages, unless another execution of the commit is followed."""
        if any(other.sha == entry.sha for other in record.status.pipeline.open.values()):
            return record
        for sha, context in _pending_places(record):
            if sha == entry.sha and context not in {PREPARE, own_context("prepare", environment.kind)}:
                place = _Place(sha, context, self._url(environment))
                record = self._show(environment, record, place, "error", f"{stage_of_context(context)} {why}")
        return record

    def post_stage_changes(
        self, environment: Environment, record: EnvironmentRecord, cloud: CloudRegion
    ) -> tuple[EnvironmentRecord, dict[str, Execution]]:
        """Read every followed execution and show its stages; an execution that ended is not followed any more."""
        found: dict[str, Execution] = {}
        name = _pipeline_name(environment, record)
        for identity, entry in record.status.pipeline.open.items():
            with count_for_purpose("stages"):
                execution = cloud.execution(name, identity, environment.repository)
            if execution is None:
                record = _without_execution(record, identity)
                why = "ended because its pipeline was deleted"
                record = self._end_pending_stages(environment, record, entry, why)
                continue
            found[identity] = execution
            sha = entry.sha or execution.sha
            page = cloud.execution_url(name, identity)
            record = self._show_stages(environment, record, execution, sha, page)
            followed = {**record.status.pipeline.open, identity: entry.but(sha=sha)}
            record = _without_execution(record, identity) if execution.ended else record.but(open=followed)
            # a record without stages is about something newer than this execution
            if identity == record.status.pipeline.execution and (
                record.status.pipeline.stages or record.status.state == "running"
            ):
                record = record.but(stages=all_stages(execution, record))
        return record, found

    def _show_stages(
        self, environment: Environment, record: EnvironmentRecord, execution: Execution, sha: str, page: str
    ) -> EnvironmentRecord:
        """Show the stages that an execution has reached."""
        for stage in execution.stages:
            state = _GITHUB_STATES[stage.status]
            text = _stage_text(stage.name, stage.status, stage.reason)
            if execution.ended and state == PENDING:
                state = "error"
                text = f"{stage.name} ended because its execution was {execution.status}"
            place = _Place(sha, stage_context(stage.name, environment.kind), stage.url or page)
            record = self._show_detail(environment, record, place, state, text)
        return record

    def _show_detail(
        self, environment: Environment, record: EnvironmentRecord, place: "_Place", state: str, text: str
    ) -> EnvironmentRecord:
        """Show the result of a part of a deployment. Production has one status for the whole deployment.

        That a part waits or runs is not shown: with a status for each beginning, four stages would need eleven writes.
        """
        if self._is_production(environment) or state == PENDING:
            return record
        return self._show(environment, record, place, state, text)

    @staticmethod
    def _show(
        environment: Environment, record: EnvironmentRecord, place: "_Place", state: str, text: str
    ) -> EnvironmentRecord:
        return _with_change(record, place, state, f"{environment.name}: {text}")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a commit status is shown, and where it leads to."""

    sha: str
    context: str
    url: str


def _without_wish(record: EnvironmentRecord, sha: str) -> EnvironmentRecord:
    """Say that the environment no longer wants its commit, because its branch has moved to one that is skipped."""
    before = record.status.shown_commit
    change = DisplayChange(before, WANTS, "no", f"overtaken by {sha[:12]}")
    return record.but(display=(*record.display, change)) if before and sha and before != sha else record


def _has_result(record: EnvironmentRecord, sha: str) -> bool:
    """Whether the environment has deployed this very commit, or tried to, so that the commit shows how that ended."""
    return record.spec.commit == sha and record.status.outcome in {Outcome.DEPLOYED, Outcome.FAILED}


def _with_change(record: EnvironmentRecord, place: _Place, state: str, text: str) -> EnvironmentRecord:
    """The record with one more change of what GitHub should show; unchanged without a commit."""
    if not place.sha:
        return record
    change = DisplayChange(place.sha, place.context, state, text, place.url)
    key = f"{place.sha} {place.context}"
    pending = tuple(each for each in record.status.pending if each != key)
    return record.but(display=(*record.display, change), pending=pending)


def _pending_places(record: EnvironmentRecord) -> Iterable[tuple[str, str]]:
    """The commit and context of each status that is pending."""
    return [(sha, context) for sha, _, context in (each.partition(" ") for each in record.status.pending)]


def _without_execution(record: EnvironmentRecord, identity: str) -> EnvironmentRecord:
    followed = record.status.pipeline.open
    return record.but(open={key: each for key, each in followed.items() if key != identity})


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
    return f"the execution was {execution.status}"


def _pipeline_name(environment: Environment, record: EnvironmentRecord) -> str:
    """The name of an environment's pipeline: the recorded name, which an earlier release may have given."""
    return record.stack_name or environment.stack_name


def _stage_text(name: str, status: str, reason: str) -> str:
    done = {"pending": "waits", "running": "runs", "succeeded": "succeeded", "stopped": "was stopped"}
    if status == "failed":
        return f"{name} failed: {reason}" if reason else f"{name} failed"
    return f"{name} {done[status]}"
