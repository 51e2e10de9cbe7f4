"""One task's view of its environment: the work it was handed, the record that it changes, and how it may end."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from deployer.environment.ports import Cloud
from deployer.model.durations import backoff
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.records import EnvironmentRecord, Outcome, Task, Work
from deployer.queue import progress_log as progress
from deployer.queue.step_results import Again, Done, Snooze, Verdict
from deployer.templates.release import Release

_LONGEST_POLL = 15  # times the first one
_HEARD_POLL = 10  # the same where events come in: one that is lost costs so much time
_NEWS = ("state", "outcome", "commit", "execution")
_ENDS = {Outcome.DEPLOYED: "deployed", Outcome.DELETED: "deleted", Outcome.FAILED: "failed"}


@dataclass(slots=True)
class Run:
    """What a task works on; its methods that end it return a `Verdict`.

    Attributes:
        work, record: changed as the task goes on; both are kept with the verdict.
        guard: called before anything is changed in AWS; raises `LaneLostError` where the lane is no longer held.
        cloud: the environment's region.
        poll_seconds: the first wait where no event comes.
        heard: whether AWS's events come in, so that they will tell of what is waited for.
        now: epoch seconds.
        wakes: whether this task wakes it from its night.
        files: what was read of `deploy/`, by commit.
    """

    environment: Environment
    work: Work
    record: EnvironmentRecord
    guard: Callable[[], None]
    cloud: Cloud
    poll_seconds: float
    heard: Callable[[], bool]
    now: float
    wakes: bool = False
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @property
    def repository(self) -> Repository:
        """Whose environment it is."""
        return self.environment.repository

    @property
    def name(self) -> str:
        """The name of its stack and pipeline: the one on record, which an earlier release may have given."""
        return self.record.stack_name or self.environment.stack_name

    def note(self, state: str, **changes: object) -> None:
        """Change the record's state, for people. Stages of an execution are shown beside `running` and its end only."""
        if state != "running":
            changes.setdefault("stages", [])
        if state != self.record.state:
            progress.changed(self.environment, state, self.work.sha or self.record.commit)
        self._keep(self.record.but(state=state, **changes))

    def _keep(self, record: EnvironmentRecord) -> None:
        """Keep a changed record, and since when it is so if that is more than a look that found nothing new."""
        news = any(getattr(record, name) != getattr(self.record, name) for name in _NEWS)
        self.record = record.but(changed_at=self.now) if news else record

    def token(self, step: str) -> str:
        """An idempotency token: of (environment, commit, generation, step), and of the goal that asks for it."""
        parts = (
            self.name,
            self.work.sha,
            str(self.record.generation),
            step,
            self.work.goal,
            str(self.work.deletions),
        )
        return f"deployer-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:40]}"

    # --- the only calls that deploy a commit in AWS ---

    def create_stack(self, release: Release) -> str:
        """Order the creation of the environment's stack; returns its ARN.

        Raises:
            Settled: production may not run the release's commit.
        """
        self.insist_on_admission(release.tags["deployer:commit"])
        self.guard()
        return self.cloud.create_stack(self.name, release, self.token("provision"))

    def update_stack(self, release: Release) -> bool:
        """Order an update of the stack; False where there is nothing to update.

        Raises:
            Settled: production may not run the release's commit.
        """
        self.insist_on_admission(release.tags["deployer:commit"])
        self.guard()
        return self.cloud.update_stack(self.name, release, self.token("update"))

    def start_execution(self) -> str:
        """Start an execution of the pipeline at the work's commit; returns its id.

        Raises:
            Settled: production may not run that commit.
        """
        self.insist_on_admission(self.work.sha)
        self.guard()
        return self.cloud.start(self.name, self.work.sha, self.token("trigger"))

    @property
    def is_admitted(self) -> bool:
        """Whether the work's commit may be deployed: anything but production's is not asked."""
        admitted = self.record.admitted
        return self.environment.kind is not Kind.PRODUCTION or admitted.covers(self.work.ref, self.work.sha)

    def insist_on_admission(self, commit: str) -> None:
        """Let nothing be deployed to production but the very commit that was admitted.

        Work that was queued at this step by a version without the gate goes back to be judged.

        Raises:
            Settled: it is decided again.
        """
        if self.is_admitted and commit == self.work.sha:
            return
        step = {Task.PROVISION: {"created": False}, Task.UPDATE: {"updated": False}}
        undone: dict[str, object] = dict(step.get(Task(self.work.task), {"execution": ""}))
        raise Settled(self.again(Task.SYNC, **undone))

    def again(self, task: Task, **changes: object) -> Again:
        """Go on at once, with another task."""
        return Again(self.work.but(task=task, polls=0, looked_at=self.now, **changes), self.record)

    def snooze(self, task: Task | None = None, seconds: float = 0, *, told: bool = True) -> Snooze:
        """Leave the lane until an event comes or some time has passed.

        Args:
            task: what to come back as, by default the same task.
            seconds: how long; by default each time longer, and longer from the start where events come in.
            told: whether an event tells of what is waited for.
        """
        factor = backoff(1, 1.5, self.work.polls, _LONGEST_POLL)
        if told and not seconds and self.heard():
            factor = max(factor, _HEARD_POLL)
        work = self.work.but(
            polls=self.work.polls + 1, looked_at=self.now, **({"task": task} if task else {})
        )
        return Snooze(work, seconds or self.poll_seconds * factor, self.record)

    def done(self, outcome: Outcome, reason: str, **changes: object) -> Done:
        """End the goal. What changed nothing leaves the record of what was ever deployed or tried as it is."""
        changed_nothing = outcome in {Outcome.SKIPPED, Outcome.SUPERSEDED}
        if (
            not changed_nothing
            or not self.record.outcome
            or (outcome is Outcome.SKIPPED and self.record.only_skipped)
        ):
            state = _ENDS.get(outcome, self.record.state)
            if outcome is Outcome.SKIPPED and state in {"", "pending", "provisioning"}:
                state = "skipped"
            if outcome in _ENDS:
                changes.setdefault(
                    "stages", []
                )  # it did not end with an execution: the stages are of an earlier one
            self._keep(self.record.but(outcome=str(outcome), reason=reason, state=state, **changes))
        return Done(str(outcome), reason, self.record)


class Settled(Exception):  # noqa: N818  it is an answer, not an error
    """The goal ends here, for a reason found while looking for what is desired."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__()
        self.verdict = verdict
