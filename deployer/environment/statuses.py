"""Tells people how an environment goes: commit statuses, only when something changed."""

import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from deployer.environment.context import Run
from deployer.environment.ports import Cloud, Execution, Host, Status
from deployer.model.environments import Environment, Kind
from deployer.model.errors import CallLimitError, PermanentError
from deployer.model.records import EnvironmentRecord, Outcome, StageState
from deployer.queue.call_counter import is_limit_reached, purpose
from deployer.queue.step_results import Done

_log = logging.getLogger(__name__)
_STATES = {
    "pending": "pending",
    "running": "pending",
    "succeeded": "success",
    "failed": "failure",
    "stopped": "error",
}
_OWN_CONTEXTS = {"prepare", "teardown", "age", "production"}
_MARK_LIMIT = 300  # GitHub shows less of a text
_OPEN_LIMIT = 5  # executions of one environment that are followed at a time


class Reporter:
    """Posts statuses and keeps in the record what was posted last.

    Args:
        host: where statuses go.
        url: makes the address of an environment's page, or an empty text where there is none.
    """

    def __init__(self, host: Host, url: Callable[[Environment], str]) -> None:
        self._host = host
        self._url = url

    def prepare(
        self,
        environment: Environment,
        record: EnvironmentRecord,
        sha: str,
        state: str,
        text: str,
        url: str = "",
    ) -> EnvironmentRecord:
        """Post `deployer/prepare`: how far the pipeline itself is, before and apart from its stages."""
        mark = f"{sha} {state} {text}"
        if not sha or record.prepared == mark:
            return record
        if record.prepared.partition(" ")[0] != sha:
            record = self.settle(environment, record, f"overtaken by {sha[:12]}")
        description = f"{environment.kind}: {text}"
        page = self._url(environment) or url
        self._post(environment, sha, Status("deployer/prepare", state, description, page))
        return record.but(prepared=mark)

    def settle(self, environment: Environment, record: EnvironmentRecord, why: str) -> EnvironmentRecord:
        """End `deployer/prepare` of a commit that nothing is done for any more: else it stays pending for good."""
        sha, state, _ = [*record.prepared.split(" ", 2), "", ""][:3]
        if state != "pending":
            return record
        text = f"{environment.kind}: {why}"
        self._post(environment, sha, Status("deployer/prepare", "error", text, self._url(environment)))
        return record.but(prepared=f"{sha} error {why}")

    def production(self, environment: Environment, sha: str, state: str, text: str) -> None:
        """Post `deployer/production`: whether the rules let production run this commit."""
        self._post(environment, sha, Status("deployer/production", state, text, self._url(environment)))

    def tell(self, run: Run, state: str, text: str) -> None:
        """Post how far the pipeline of a goal's commit is."""
        run.record = self.prepare(run.environment, run.record, run.work.sha, state, text)

    def failed(self, run: Run, reason: str, url: str = "", short: str = "") -> Done:
        """End a goal as failed, and say why on its commit.

        Args:
            reason: why, in one line.
            url: where people see more, where there is no page of the environment.
            short: why, for the commit, where GitHub shows 140 characters; by default the reason.
        """
        sha = run.work.sha or run.record.commit
        run.record = self.prepare(run.environment, run.record, sha, "failure", short or reason, url)
        return run.done(Outcome.FAILED, reason, **({"commit": run.work.sha} if run.work.sha else {}))

    def teardown(self, environment: Environment, record: EnvironmentRecord) -> EnvironmentRecord:
        """Post `deployer/teardown` on the environment's last commit: what was removed and what was left."""
        removed, retained = record.receipt["removed"], record.receipt["retained"]
        if not record.commit or not (removed or retained):
            return record
        stacks = [each for each in removed if each["what"].startswith("stack ")]
        resources = sum(each["resources"] for each in stacks)
        words = f"removed {_count(len(stacks), 'stack')} with {_count(resources, 'resource')}"
        unlisted = record.receipt.get("unlisted", {})
        if buckets := len(removed) - len(stacks) + unlisted.get("removed", 0):
            words += (
                f" and emptied {_count(buckets, 'bucket')}" if environment.kind is Kind.DEVELOPMENT else ""
            )
        if retained:
            more = f" and {unlisted['retained']} more" if unlisted.get("retained") else ""
            words += f"; left {', '.join(each['what'] for each in retained)}{more}: {retained[0]['why']}"
        state = "failure" if retained else "success"
        text = f"{environment.kind}: {words}"
        mark = f"{record.commit} {state} {text}"[:_MARK_LIMIT]
        if record.receipt.get("told") == mark:  # by the teardown before
            return record
        self._post(
            environment, record.commit, Status("deployer/teardown", state, text, self._url(environment))
        )
        return record.but(receipt={**record.receipt, "told": mark})

    def age(self, environment: Environment, record: EnvironmentRecord, text: str) -> bool:
        """Post `deployer/age` on the environment's last commit: a success, since nobody is to wait for anything.

        Returns:
            Whether it stands there.
        """
        if not record.commit:
            return False
        status = Status("deployer/age", "success", f"{environment.kind}: {text}", self._url(environment))
        return self._post(environment, record.commit, status)

    def open(
        self, environment: Environment, record: EnvironmentRecord, execution: str, sha: str, cloud: Cloud
    ) -> EnvironmentRecord:
        """Follow an execution from now on until its end; the oldest of many is followed no longer, and says so."""
        if execution in record.open:
            return record
        with purpose("stages"):
            names = cloud.stage_names(_pipeline(environment, record))
        followed = list(record.open.items())
        kept = dict(followed[1 - _OPEN_LIMIT :])
        for identity, entry in followed:
            if identity not in kept:
                self._leave(environment, entry, f"is followed no longer: {_OPEN_LIMIT} newer executions run")
        return record.but(
            execution=execution,
            stages=[asdict(StageState(name, "pending")) for name in names],
            open={**kept, execution: {"sha": sha, "posted": {}}},
        )

    def leave(self, environment: Environment, record: EnvironmentRecord, why: str) -> EnvironmentRecord:
        """Follow no execution any more; what was told to run is told how that ended, as in `Build {why}`."""
        for entry in record.open.values():
            self._leave(environment, entry, why)
        return record.but(open={})

    def _leave(self, environment: Environment, entry: dict[str, Any], why: str) -> None:
        for stage, state in entry["posted"].items():
            if state == "pending":
                text = f"{environment.kind}: {stage} {why}"
                status = Status(_context(stage), "error", text, self._url(environment))
                self._post(environment, entry["sha"], status)

    def refresh(
        self, environment: Environment, record: EnvironmentRecord, cloud: Cloud
    ) -> tuple[EnvironmentRecord, dict[str, Execution]]:
        """Look at every open execution and post what changed; those that ended are followed no longer."""
        with purpose("stages"):
            return self._refresh(environment, record, cloud)

    def _refresh(
        self, environment: Environment, record: EnvironmentRecord, cloud: Cloud
    ) -> tuple[EnvironmentRecord, dict[str, Execution]]:
        found: dict[str, Execution] = {}
        still_open = {}
        name = _pipeline(environment, record)
        for identity, entry in record.open.items():
            execution = cloud.execution(name, identity)
            if execution is None:
                self._leave(environment, entry, "ended as its pipeline went")
                continue
            found[identity] = execution
            sha, page = entry["sha"] or execution.sha, cloud.execution_url(name, identity)
            posted, all_posted = self._post_stages(environment, execution, sha, entry["posted"], page)
            if not (execution.ended and all_posted):
                still_open[identity] = {"sha": entry["sha"] or execution.sha, "posted": posted}
            # a record that shows no stages is about something newer than this execution
            if identity == record.execution and (record.stages or record.state == "running"):
                record = record.but(stages=stages_of(execution, record))
        return record.but(open=still_open), found

    def _post_stages(
        self, environment: Environment, execution: Execution, sha: str, posted: dict[str, str], page: str
    ) -> tuple[dict[str, str], bool]:
        """Post what changed.

        Returns:
            The state of each stage that was posted, and whether none is left for the next task.
        """
        posted = dict(posted)
        for stage in execution.stages:
            state, text = (
                _STATES[stage.status],
                f"{environment.kind}: {_words(stage.name, stage.status, stage.reason)}",
            )
            if execution.ended and state == "pending":
                state, text = (
                    "error",
                    f"{environment.kind}: {stage.name} ended as its execution was {execution.status}",
                )
            if not sha or posted.get(stage.name) == state:
                continue
            status = Status(_context(stage.name), state, text, stage.url or page)
            if not self._post(environment, sha, status) and is_limit_reached():
                return posted, False
            posted[stage.name] = state
        return posted, True

    def _post(self, environment: Environment, sha: str, status: Status) -> bool:
        try:
            self._host.post(environment.repository, sha, status)
            return True
        except (PermanentError, CallLimitError) as error:
            # A deployment goes on without a status that GitHub refuses, or for which this task has no calls left.
            _log.warning(
                "posting status %s on %s of %s: %s", status.context, sha[:12], environment.repository, error
            )
            return False


def stages_of(execution: Execution, record: EnvironmentRecord) -> list[dict[str, str]]:
    """All stages of an execution as a record keeps them: those it reached, and the others that the record knows of."""
    reached = {stage.name: stage for stage in execution.stages}
    names = dict.fromkeys([*(stage["name"] for stage in record.stages), *reached])
    rest = "not-reached" if execution.ended else "pending"
    return [asdict(reached.get(name) or StageState(name, rest)) for name in names]


def _pipeline(environment: Environment, record: EnvironmentRecord) -> str:
    """The name of an environment's pipeline: the one on record, which an earlier release may have given."""
    return record.stack_name or environment.stack_name


def _context(stage: str) -> str:
    """The context of a stage's status: one of its own, though it be called as deployer's own are.

    GitHub compares contexts without case; no stage's name has a slash.
    """
    return f"deployer/{'stage/' if stage.lower() in _OWN_CONTEXTS else ''}{stage}"


def failure_text(execution: Execution) -> str:
    """Why an execution did not succeed, in one line."""
    for stage in execution.stages:
        if stage.status == "failed":
            return _words(stage.name, stage.status, stage.reason)
    return f"the execution was {execution.status}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _words(name: str, status: str, reason: str) -> str:
    done = {"pending": "waits", "running": "runs", "succeeded": "succeeded", "stopped": "was stopped"}
    if status == "failed":
        return f"{name} failed: {reason}" if reason else f"{name} failed"
    return f"{name} {done[status]}"
