"""What is remembered: outcomes, what a lane holds, and what is known of each environment.

These are plain values with a JSON form. Where they are kept is an adapter's business.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

import msgspec

from deployer.model import errors
from deployer.model.production_record import NOT_ADMITTED, Admission, RefusedTag


class Outcome(StrEnum):
    """How a delivery ended. Every accepted one gets exactly one of these."""

    DEPLOYED = "deployed"
    DELETED = "deleted"
    SUPERSEDED = "superseded"
    SKIPPED = "skipped"
    IGNORED = "ignored"
    FAILED = "failed"  # people must fix their template, build or rights
    DEAD_LETTERED = "dead-lettered"  # we must fix something
    RESYNCED = "resynced"  # it told of a whole repository, which was looked at


class Cause(StrEnum):
    """Why an environment is looked at. The first four come from people and may start a pipeline again."""

    PUSH = "push"
    DELETION = "deletion"
    REDEPLOY = "redeploy"
    TEARDOWN = "teardown"  # a person asked for the environment's deletion
    RESYNC = "resync"
    AGE = "age"  # nobody used it for long, or its hours of sleep begin or end; see `deployer.model.expiry`
    EVENT = "event"


class Task(StrEnum):
    """The Celery tasks; `sync` decides, the next four are steps."""

    SYNC = "deployer.sync"
    PROVISION = "deployer.provision"
    UPDATE = "deployer.update"
    TRIGGER = "deployer.trigger"
    DELETE = "deployer.delete"
    RESYNC = "deployer.resync"
    NOTIFY = "deployer.notify"


RESYNCED = str(Outcome.RESYNCED)  # how a resync ends, whoever asked for it
# the kind of dead letter of what took every worker along: no exception tells of it
WORKER_LOST = "WorkerLost"
# the kind of what was killed each time because it ran out of time, how an attempt at it ended, and how many are made
TASK_TIMEOUT = "TaskTimeout"
OUT_OF_TIME = "it ran out of time and was killed"
TIMEOUTS = 2
FAILING_JOB = "failing-job"  # the beat of a scheduler one of whose jobs failed when it was last tried
RESYNC_KEY = "*"  # stands for an environment's key where the work is about the whole repository


def whole(text: str) -> str:
    """Text without the half characters (lone surrogates) that JSON of other people may hold and UTF-8 may not."""
    return text.encode("utf-8", "replace").decode()


@dataclass(frozen=True, slots=True)
class _Value:
    def to_json(self) -> str:
        """The value as one JSON object."""
        return whole(json.dumps(asdict(self), separators=(",", ":"), sort_keys=True, ensure_ascii=False))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote; fields of another version are dropped.

        Raises:
            StoredValueError: it is no JSON, lacks a field that has no default, or a field has another type.
        """
        try:
            # not strict, since Lua may write a whole number as 3.0
            return msgspec.json.decode(text, type=cls, strict=False)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise errors.StoredValueError(f"it is no {cls.__name__}: {error}") from error


class _AttemptLine(msgspec.Struct):
    """An attempt as `queue.lua` writes it."""

    at: float
    until: float
    task: str
    error: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at some work that ended badly.

    Attributes:
        began_at, ended_at: epoch seconds.
        error: how it ended, in one line.
    """

    began_at: float
    ended_at: float
    task: str
    error: str

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Read one line of `Work.tries`; one that cannot be read says so."""
        try:
            found = msgspec.json.decode(line, type=_AttemptLine)
        except msgspec.MsgspecError:
            return cls(0, 0, "", "this attempt's line cannot be read")
        return cls(found.at, found.until, found.task, found.error)


@dataclass(frozen=True, slots=True)
class Work(_Value):
    """One entry of a lane: an environment that is to be brought to its desired state, and how far that is.

    Attributes:
        environment: the environment's key, or `RESYNC_KEY`.
        goal: what started it; part of every idempotency token, so a repeat of this goal is recognised.
        deliveries: the deliveries that wait for its outcome, comma-separated (Lua has no empty list).
        after: the object that the ref was moved to, as the delivery said: a hint.
        pushed_at: when GitHub took the push (epoch seconds), 0 where that is not known.
        repository_id: of which repository the delivery was, by GitHub's number; 0 where that is not known.
        replaced_after, replaced_at: where a push that this work replaced had moved the ref to, and when it came.
        candidate: whether `ref` is a tag for production that is not judged yet: it waits under a key of its own, so no
            other tag replaces it in the queue.
        decided_at: of an admitted tag, when it was pushed or made (epoch seconds); see `deployment.newest_tag`.
        passed, wish: of production, only in items that version 0.1.0 stored: the pushes of other tags that this work
            replaced, one a line: when GitHub took it, a space and its ref; and the redeployment or teardown that it
            replaced, as JSON. `deployer.deployment.desired_production` gives each an item of its own.
        sha: the commit that this goal deploys, once known.
        chosen: whether a person chose `sha`; what was found is found anew when it is decided anew.
        attempts: how often it was handed out and not snoozed.
        rests_for: why it was not begun and is snoozed, for people; empty where it waits for AWS.
        approved_by: of a redeployment of production, who approved `sha` although the rules refuse it.
        began_at: when the last attempt began (epoch seconds).
        tries: the attempts that ended badly since there is something to count, one JSON object a line (Lua has no
            empty list); `failed_attempts` reads them.
        polls: how often it was snoozed since something changed; the next snooze is longer.
        created, updated, recovered, replacing: the operations that this goal has ordered, marked before the order
            so that a repeat after a lost worker knows the stack's state for its own doing.
        deletions: how often a deletion failed and was ordered again.
        stack_arn: the stack whose deletion was ordered: a deleted stack is found by its ARN only.
        execution: the pipeline execution that this goal started or found.
        turned: of a resync's work, that its turn has come, or that it needs none since a person asked for this one.
        word: what GitHub said of the whole repository, where only GitHub can know: `deleted` or `removed`. Of a
            teardown: the repository's state that calls for it, so that it ends with that, or `default` if its branch
            is the default one now.
        looked_at: when its stack was last looked at, or an operation ordered (epoch seconds). Of a resync: the oldest
            listing of all stacks that will do.
    """

    environment: str
    task: str = Task.SYNC
    cause: str = Cause.PUSH
    goal: str = ""
    deliveries: str = ""
    ref: str = ""
    before: str = ""
    after: str = ""
    default_branch: str = ""
    word: str = ""
    sha: str = ""
    chosen: bool = False
    approved_by: str = ""
    pushed_at: float = 0
    repository_id: int = 0
    replaced_after: str = ""
    replaced_at: float = 0
    candidate: bool = False
    decided_at: float = 0
    passed: str = ""
    wish: str = ""
    accepted_at: float = 0
    attempts: int = 0
    polls: int = 0
    created: bool = False
    updated: bool = False
    recovered: bool = False
    replacing: bool = False
    deletions: int = 0
    stack_arn: str = ""
    execution: str = ""
    looked_at: float = 0
    turned: bool = False
    rests_for: str = ""
    began_at: float = 0
    tries: str = ""

    def but(self, **changes: Any) -> "Work":
        """A copy with some fields changed."""
        return replace(self, **changes)

    @classmethod
    def read_item(cls, text: str) -> "Work":
        """Read a queue item, as a worker does that is to carry it out.

        Raises:
            QueueItemError: it cannot be read, or names something that this version does not know; says what.
        """
        try:
            item = cls.from_json(text)
        except errors.StoredValueError as error:
            raise errors.QueueItemError(error) from error
        for name, value, known in (("task", item.task, set(Task)), ("cause", item.cause, set(Cause))):
            if value not in known:
                raise errors.QueueItemError(f"this version knows no {name} {value[:100]!r}")
        return item

    @property
    def failed_attempts(self) -> list[Attempt]:
        """The attempts that ended badly, oldest first; of many only the newest."""
        return [Attempt.from_line(line) for line in self.tries.split("\n") if line]

    @property
    def last_error(self) -> str:
        """How the last attempt ended, if it failed; empty after an attempt that ended well."""
        return self.failed_attempts[-1].error if self.tries else ""

    @property
    def ended_with_its_worker(self) -> bool:
        """Whether its last attempt ended since its worker was lost, as `queue.lua` notes it."""
        return bool(self.tries) and self.failed_attempts[-1].error in {"its worker was lost", OUT_OF_TIME}

    @property
    def timed_out(self) -> bool:
        """Whether this task was killed because it ran out of time, as often in a row as it is tried."""
        last = self.failed_attempts[-TIMEOUTS:]
        return len(last) == TIMEOUTS and all(
            (each.task, each.error) == (self.task, OUT_OF_TIME) for each in last
        )

    @property
    def key(self) -> str:
        """Under which key it waits in the queue: `item_key` in `queue_items.lua`."""
        return f"{self.environment} {self.ref}" if self.candidate else self.environment


def split_key(key: str) -> tuple[str, str]:
    """The environment's key and the ref of a queue item's key; the ref is empty unless the item is a candidate."""
    environment, _, ref = key.partition(" ")
    return environment, ref


@dataclass(frozen=True, slots=True)
class StageState:
    """One stage of an execution.

    Attributes:
        status: `pending` (not reached yet), `running`, `succeeded`, `failed`, `stopped`, or `not-reached` where the
            execution ended before this stage.
        reason: why it failed, in AWS's words.
    """

    name: str
    status: str
    reason: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class EnvironmentRecord(_Value):
    """What is known of an environment. All but `generation` can be found again from AWS and GitHub.

    Attributes:
        stack_name: the name of its stack and pipeline, which stays until it is made again; empty where nobody has
            looked yet which of `Environment.stack_names` is in use.
        state: in one word for people: `pending` (a new commit is wanted), `provisioning`, `updating`, `running`,
            `deployed`, `failed`, `deleting`, `deleted`, `skipped`, or `asleep` until its hours of sleep end.
        commit: the commit last wanted.
        generation: how often the environment was torn down.
        reported: the execution whose end was told as some goal's outcome.
        prepared: the last `deployer/prepare` status as `sha state text`, so that only changes are posted.
        open: executions whose end was not yet seen: id to `{sha, posted: {context: state}}`.
        applications: names of the stacks that its pipeline deploys, kept for the teardown; `earlier` has those that it
            no longer names, the latest last.
        moved_from, moved_to: where the ref stood before and after the last push, and `moved_at` (epoch seconds)
            when it came: they guard against a stale read.
        pushed_at: when GitHub took the last push that was wanted here, in epoch seconds; 0 where that is not known.
        region: where its stack is; once chosen it stays.
        failure: why its stack could not be made or changed: `resource`, `type`, `reason`, `url`, `file`, `line`.
        receipt: what the last teardown removed and retained; see `deployer.teardown.teardown`.
        teardown: the repository's settings for a teardown, as last deployed: `templates.repository_config`.
        refused, refusals: the digest whose creation failed last, and how often in a row.
        applied: the pipeline's stack as deployer last applied it; see `deployer.environment.drift`.
        drift: how the stack differs from that, in words; empty if it does not.
        held_at: the ref's head when another commit was deployed, because a person said so or the head asks to be
            skipped; or when it was taken down because of its age. A resync leaves it so until the head moves. Of
            production also where a person chose the tag.
        changed_at: since when its state, outcome, commit and execution are what they are (epoch seconds).
        decided_at: of production, when it was decided what it should run (epoch seconds): the time of its tag (see
            `deployment.newest_tag`) or of a person's request; 0 where that is not known. Only a later tag changes that.
        admitted: of production, the commit that may be deployed, and what admitted it; nothing else is ordered.
        approvals: the commits that people approved although the rules refuse them, the latest twenty.
        refused_tags: the tags that were judged and not deployed, by their time, the latest ten.
        used_at: when it was last pushed to or deployed again, in epoch seconds.
        kept_at, kept_until: when a person last asked to keep it, and at least until when (epoch seconds). The ledger
            itself keeps these two: what stands in a record that is written does not count.
        ttl, warn, sleep: the repository's wishes for its age, as last applied: `templates.repository_config`.
        age_looked_at: when its age was looked at and nothing could be done (epoch seconds).
        warned_at: when people were warned of its end (epoch seconds), 0 if they were not.
        told_end: the end that they were told of then (epoch seconds): it never ends sooner.
        notice: the comments that warn of its end, until they say something that stays true: their ids as `comments`,
            when they were written as `at`, and whether they say that it was taken down as `down`.
        aged, aged_at: why its age took it down, `idle` or `night`, and when that began (epoch seconds).
    """

    repository: str
    environment: str
    stack_name: str
    ref: str = ""
    state: str = ""
    commit: str = ""
    outcome: str = ""
    reason: str = ""
    execution: str = ""
    stages: list[dict[str, str]] = field(default_factory=list)
    open: dict[str, Any] = field(default_factory=dict)
    prepared: str = ""
    reported: str = ""
    applications: list[str] = field(default_factory=list)
    earlier: list[str] = field(default_factory=list)
    stack_arn: str = ""
    generation: int = 0
    moved_from: str = ""
    moved_to: str = ""
    moved_at: float = 0
    pushed_at: float = 0
    held_at: str = ""
    used_at: float = 0
    kept_at: float = 0
    kept_until: float = 0
    ttl: str = ""
    warn: str = ""
    sleep: str = ""
    age_looked_at: float = 0
    warned_at: float = 0
    told_end: float = 0
    notice: dict[str, Any] = field(default_factory=dict)
    aged: str = ""
    aged_at: float = 0
    region: str = ""
    failure: dict[str, Any] = field(default_factory=dict)
    receipt: dict[str, Any] = field(default_factory=dict)
    teardown: str = ""
    refused: str = ""
    refusals: int = 0
    applied: dict[str, Any] = field(default_factory=dict)
    drift: str = ""
    decided_at: float = 0
    admitted: Admission = NOT_ADMITTED
    approvals: tuple[Admission, ...] = ()
    refused_tags: tuple[RefusedTag, ...] = ()
    changed_at: float = 0
    updated_at: float = 0

    def but(self, **changes: Any) -> "EnvironmentRecord":
        """A copy with some fields changed."""
        return replace(self, **changes)

    @property
    def decision_time(self) -> float:
        """When it was decided what production should run (epoch seconds); 0 where that is not known.

        A record of version 0.1.0 tells only of its tag's push, and not when a person chose another tag since.
        """
        return self.decided_at or (0 if self.held_at else self.pushed_at)

    @property
    def only_skipped(self) -> bool:
        """Whether pushes were skipped and nothing was ever made: then the newest one says more than the first."""
        return self.state == "skipped" and not self.stack_arn and not self.execution

    @property
    def comes_back(self) -> bool:
        """Whether only what had become of its repository took it down: once that is over, it is to be as before."""
        return self.outcome == Outcome.DELETED and bool(self.receipt.get("word"))


@dataclass(frozen=True, slots=True)
class Seen(_Value):
    """What the resyncs of a repository have seen that the next one needs.

    Attributes:
        orphans: since when environments have been seen without a ref (epoch seconds), by key.
        accepted_at: when a person took the repository for that of the environments (epoch seconds): a tag that was made
            before does not count as missed.
        never_deployed: the full name of the newest tag that production was not brought to, where deployer does not know
            whether a person wants it so: only a person decides about it. Empty where there is none.
    """

    orphans: dict[str, float] = field(default_factory=dict)
    accepted_at: float = 0
    never_deployed: str = ""


@dataclass(frozen=True, slots=True)
class RepositoryRecord(_Value):
    """What is known of a repository as a whole.

    Attributes:
        id: GitHub's, which stays when the name changes; 0 where it was never asked.
        state: empty where all is as usual, else `archived`, `renamed`, `replaced`, `deleted` or `removed`.
        reason: the state in words for people, with what they may do.
        since: when the state began, in epoch seconds.
        name: what it is called now, if it is `renamed`.
        over: of one that is `renamed` or `deleted`, whether nothing of it stands: that is no warning.
        left_out_at: when a scheduler first saw that the settings leave it out (epoch seconds); 0 where they do not.
        default_branch, private: as last seen.
        checked_at: when GitHub was last asked for failed deliveries, in epoch seconds.
        failed_at: when asking it failed last, likewise.
        missed: what the last look that found any did: `at`, and how many were `redelivered`, `superseded` or `left`.
        recent: how many had failed less than a minute before the last look, which left them to the next one.
        refused: of how many that had failed the last attempt was answered with 401, since the secrets differ.
        unchecked: why GitHub does not tell of deliveries, empty where it does.
        no_webhook: whether that is because no webhook has deployer's address; otherwise a right is missing.
    """

    repository: str
    id: int = 0
    state: str = ""
    reason: str = ""
    since: float = 0
    name: str = ""
    over: bool = False
    left_out_at: float = 0
    default_branch: str = ""
    private: bool = True
    checked_at: float = 0
    failed_at: float = 0
    missed: dict[str, float] = field(default_factory=dict)
    recent: int = 0
    refused: int = 0
    unchecked: str = ""
    no_webhook: bool = False

    def but(self, **changes: Any) -> "RepositoryRecord":
        """A copy with some fields changed."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class DeliveryRecord(_Value):
    """What became of a delivery."""

    delivery: str
    repository: str = ""
    environment: str = ""
    event: str = ""
    outcome: str = ""
    reason: str = ""
    received_at: float = 0
    finished_at: float = 0


@dataclass(frozen=True, slots=True)
class Activity(_Value):
    """One line of a repository's history.

    Attributes:
        ref: the ref that was pushed or asked for; empty where it was none, or is not known.
    """

    at: float
    repository: str
    environment: str
    goal: str
    outcome: str
    reason: str
    commit: str = ""
    ref: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter(_Value):
    """Work that could not be done for a reason of our own, kept until a person decides.

    Attributes:
        at: when its last attempt began, in epoch seconds by Redis's clock.
        kind: the class of the exception that it died of, `WORKER_LOST` or `TASK_TIMEOUT`. Only deployer's own errors
            have the plain name of a class in `deployer.model.errors`.
        work: the arguments as the queue held them, which may be text that this version cannot read.
    """

    id: str
    repository: str
    task: str
    reason: str
    traceback: str
    at: float
    work: str  # the lane's entry, as JSON: the arguments
    kind: str = "unknown"  # of a letter from before kinds were told
    environment: str = ""  # of the arguments, where `queue.lua` wrote it: they may be unreadable

    @property
    def expected(self) -> bool:
        """Whether it died of one of deployer's own errors, whose text is written for people."""
        found = getattr(errors, self.kind, None)
        own = isinstance(found, type) and issubclass(found, errors.DeployerError)
        return own or self.kind in {WORKER_LOST, TASK_TIMEOUT}

    @property
    def told(self) -> str:
        """Why it died, fit for everybody to read: an unexpected error's text may hold anything, its class does not."""
        return self.reason if self.expected else self.kind

    @property
    def readable(self) -> bool:
        """Whether this version can read the arguments."""
        try:
            Work.from_json(self.work)
        except errors.StoredValueError:
            return False
        return True

    @property
    def arguments(self) -> Work:
        """The work that died; of one that cannot be read only its environment and task are known."""
        try:
            return Work.from_json(self.work)
        except errors.StoredValueError:
            return Work(environment=self.environment, task=self.task, cause="")


def is_over(record: EnvironmentRecord) -> bool:
    """Whether nothing stands of an environment, as far as the ledger knows."""
    return record.state == "deleted" or (record.state == "skipped" and not record.stack_arn)
