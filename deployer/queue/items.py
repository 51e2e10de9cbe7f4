"""The items of a queue."""

from enum import StrEnum
from typing import Any, ClassVar, Self

import msgspec

from deployer.model import errors
from deployer.model.stored_value import FieldGroup, StoredValue

RESYNC_KEY = "*"  # stands for the key of an environment in work that is about the whole repository
# how an attempt ended that was killed because it ran out of time, and after how many of them in a row the item ends
OUT_OF_TIME = "it ran out of time and was killed"
TIMEOUTS = 2


class Cause(StrEnum):
    """Why an environment is looked at. The first four come from people and may start the pipeline again."""

    PUSH = "push"
    DELETION = "deletion"
    REDEPLOY = "redeploy"
    TEARDOWN = "teardown"  # a person asked for the environment's deletion
    RESYNC = "resync"
    AGE = "age"  # it was unused for long, or its hours of sleep begin or end; see `deployer.model.expiry`
    EVENT = "event"


class Task(StrEnum):
    """The Celery tasks; `sync` decides, and the next four carry out a step."""

    SYNC = "deployer.sync"
    PROVISION = "deployer.provision"
    UPDATE = "deployer.update"
    TRIGGER = "deployer.trigger"
    DELETE = "deployer.delete"
    RESYNC = "deployer.resync"
    NOTIFY = "deployer.notify"


class _AttemptLine(msgspec.Struct):
    """An attempt as `queue.lua` writes it."""

    at: float
    until: float
    task: str
    error: str


class Attempt(msgspec.Struct, frozen=True):
    """One attempt that failed.

    Attributes:
        began_at, ended_at: epoch seconds.
        error: how it ended, in one line.
    """

    began_at: float
    ended_at: float
    task: str
    error: str

    @classmethod
    def from_line(cls, line: str) -> "Attempt":
        """Read one line of `AttemptLog.tries`; the attempt of a line that cannot be read says so."""
        try:
            found = msgspec.json.decode(line, type=_AttemptLine)
        except msgspec.MsgspecError:
            return cls(0, 0, "", "this attempt's line cannot be read")
        return cls(found.at, found.until, found.task, found.error)


class WorkSpec(FieldGroup, frozen=True):
    """What a queue item wants.

    Attributes:
        ref: the ref that was pushed or asked for.
        sha: the commit that this goal deploys, once it is known.
        chosen: whether a person chose `sha`. Any other commit is looked up again when the work is decided again.
        approved_by: of a redeployment of production, who approved `sha` although the rules refuse it.
        candidate: whether `ref` is a tag for production that is not judged yet. It waits under a key of its own, so
            that no other tag replaces it in the queue.
        decided_at: of an admitted tag, when it was pushed or made (epoch seconds); see
            `production.tag_order`.
        word: what a delivery said of the whole repository, where only GitHub can know: `deleted` or `removed`. Of a
            teardown: the repository's state that is the reason, so that the teardown ends when the state ends, or
            `default` if the environment's branch is the default branch now.
        pull: of a teardown, the number of the closed pull request that is the reason; 0 for another reason.
        recreate: of a resync: whether a person asks for what people deleted although its branch exists.
    """

    ref: str = ""
    sha: str = ""
    chosen: bool = False
    approved_by: str = ""
    candidate: bool = False
    decided_at: float = 0
    word: str = ""
    pull: int = 0
    recreate: bool = False


class PushFacts(FieldGroup, frozen=True):
    """What the delivery of a push said.

    Attributes:
        before: where the ref was lately, comma-separated, the latest first.
        after: the object that the ref was moved to: a hint, because GitHub is asked for the ref's head.
        pushed_at: when GitHub took the push (epoch seconds); 0 where that is not known.
        repository_id: GitHub's number of the repository; 0 where that is not known.
        sender: who pushed, by GitHub's name; empty if that is not known. Waiting items of several senders take turns.
        replaced_after, replaced_at: where a push that this item replaced had moved the ref to, and when it was
            accepted.
    """

    before: str = ""
    after: str = ""
    default_branch: str = ""
    pushed_at: float = 0
    repository_id: int = 0
    sender: str = ""
    replaced_after: str = ""
    replaced_at: float = 0


class AttemptLog(FieldGroup, frozen=True):
    """How often an item was handed out, and how that ended.

    Attributes:
        attempts: how often it was handed out and not snoozed.
        polls: how often it was snoozed since something changed; the next snooze is longer.
        began_at: when the last attempt began (epoch seconds).
        tries: the attempts that failed since something was ordered, one JSON object a line (Lua has no empty list);
            `Work.failed_attempts` reads them.
        rests_for: why the item is snoozed without an attempt, for people; empty where it waits for AWS.
    """

    attempts: int = 0
    polls: int = 0
    began_at: float = 0
    tries: str = ""
    rests_for: str = ""


class Progress(FieldGroup, frozen=True):
    """What a goal has ordered so far. It is stored before the order, so that a repeat after a kill knows its own doing.

    Attributes:
        created, updated, recovered, restored, replacing: the operations on the stack that this goal has ordered.
        corrects: whether this goal corrects a pipeline that another execution has changed: its stack is updated
            although it has the wanted release, and a cancelled execution is started again. This happens once.
        deletions: how often a deletion failed and was ordered again.
        stack_arn: the stack whose deletion was ordered: a deleted stack is found by its ARN only.
        execution: the pipeline's execution that this goal started or found.
        looked_at: when the stack was last looked at, or an operation ordered (epoch seconds). Of a resync: the oldest
            listing of all stacks that is recent enough.
    """

    created: bool = False
    updated: bool = False
    recovered: bool = False
    restored: bool = False
    replacing: bool = False
    corrects: bool = False
    deletions: int = 0
    stack_arn: str = ""
    execution: str = ""
    looked_at: float = 0


class ReplacedWork(FieldGroup, frozen=True):
    """What an item of production replaced in the queue; only items that version 0.1.0 stored have it.

    `deployer.deployment.production.desired` queues each of them as an item of its own.

    Attributes:
        passed: the pushes of other tags, one a line: when GitHub took it, a space and its ref.
        wish: the redeployment or teardown, as JSON.
    """

    passed: str = ""
    wish: str = ""


class Work(StoredValue, frozen=True):
    """A queue item: an environment that is to be brought to its desired state, and how far that is.

    The JSON object has the fields of all groups side by side, because `queue.lua` reads and merges them.

    Attributes:
        environment: the environment's key, or `RESYNC_KEY`.
        goal: what started it; part of every idempotency token, so that AWS recognizes a repeat of this goal.
        deliveries: the deliveries that wait for its outcome, comma-separated (Lua has no empty list).
        accepted_at: when it was accepted (epoch seconds).
        turned: of a resync's item, that its turn has come, or that it needs none because a person asked for the resync.
    """

    flat: ClassVar[bool] = True

    environment: str
    task: str = Task.SYNC
    cause: str = Cause.PUSH
    goal: str = ""
    deliveries: str = ""
    accepted_at: float = 0
    turned: bool = False
    spec: WorkSpec = WorkSpec()
    push: PushFacts = PushFacts()
    log: AttemptLog = AttemptLog()
    progress: Progress = Progress()
    replaced: ReplacedWork = ReplacedWork()

    @classmethod
    def of(cls, environment: str, **fields: Any) -> Self:
        """An item with some of its fields, which may be fields of its groups.

        Raises:
            TypeError: there is no such field.
        """
        return cls(environment).but(**fields)

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
        """The attempts that failed, oldest first; of many only the newest."""
        return [Attempt.from_line(line) for line in self.log.tries.split("\n") if line]

    @property
    def last_error(self) -> str:
        """How the last attempt ended, if it failed; empty after an attempt that ended well."""
        return self.failed_attempts[-1].error if self.log.tries else ""

    @property
    def ended_with_its_worker(self) -> bool:
        """Whether the last attempt ended because its worker was lost, as `queue.lua` writes it."""
        return self.last_error in {"its worker was lost", OUT_OF_TIME}

    @property
    def timed_out(self) -> bool:
        """Whether this task was killed because it ran out of time, as often in a row as it is tried."""
        last = self.failed_attempts[-TIMEOUTS:]
        return len(last) == TIMEOUTS and all(
            (each.task, each.error) == (self.task, OUT_OF_TIME) for each in last
        )

    @property
    def key(self) -> str:
        """The key under which it waits in the queue: `item_key` in `queue_items.lua`."""
        return f"{self.environment} {self.spec.ref}" if self.spec.candidate else self.environment


def split_key(key: str) -> tuple[str, str]:
    """The environment's key and the ref of a queue item's key; the ref is empty unless the item is a candidate."""
    environment, _, ref = key.partition(" ")
    return environment, ref
