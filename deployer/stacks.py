"""A stack's status and what it calls for: one table over all 23 statuses, and one pure decision.

The statuses are botocore's `StackStatus`; a unit test compares the two lists. They are matched whole, never by
a pattern: `UPDATE_COMPLETE_CLEANUP_IN_PROGRESS` ends neither well nor badly yet.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Phase(StrEnum):
    """What a stack in some status can be asked to do."""

    READY = "ready"  # takes an update; its pipeline exists
    BUSY = "busy"  # an operation runs
    DELETING = "deleting"  # a deletion runs
    WEDGED = "wedged"  # never came to exist: can only be deleted
    STUCK = "stuck"  # a rollback failed: must be continued, or be helped by a person
    UNDELETED = "undeleted"  # a deletion failed
    GONE = "gone"


PHASES: dict[str, Phase] = {
    "CREATE_IN_PROGRESS": Phase.BUSY,
    "CREATE_FAILED": Phase.WEDGED,
    "CREATE_COMPLETE": Phase.READY,
    "ROLLBACK_IN_PROGRESS": Phase.BUSY,
    "ROLLBACK_FAILED": Phase.WEDGED,
    "ROLLBACK_COMPLETE": Phase.WEDGED,
    "DELETE_IN_PROGRESS": Phase.DELETING,
    "DELETE_FAILED": Phase.UNDELETED,
    "DELETE_COMPLETE": Phase.GONE,
    "UPDATE_IN_PROGRESS": Phase.BUSY,
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": Phase.BUSY,
    "UPDATE_COMPLETE": Phase.READY,
    "UPDATE_FAILED": Phase.READY,
    "UPDATE_ROLLBACK_IN_PROGRESS": Phase.BUSY,
    "UPDATE_ROLLBACK_FAILED": Phase.STUCK,
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": Phase.BUSY,
    "UPDATE_ROLLBACK_COMPLETE": Phase.READY,
    "REVIEW_IN_PROGRESS": Phase.WEDGED,
    "IMPORT_IN_PROGRESS": Phase.BUSY,
    "IMPORT_COMPLETE": Phase.READY,
    "IMPORT_ROLLBACK_IN_PROGRESS": Phase.BUSY,
    "IMPORT_ROLLBACK_FAILED": Phase.STUCK,
    "IMPORT_ROLLBACK_COMPLETE": Phase.READY,
}
ROLLED_BACK = frozenset({"UPDATE_ROLLBACK_COMPLETE", "UPDATE_FAILED", "IMPORT_ROLLBACK_COMPLETE"})
DELETABLE_WHILE_BUSY = frozenset({"CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS"})


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack as CloudFormation describes it."""

    arn: str
    name: str
    status: str
    tags: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    protected: bool = False  # by termination protection

    @property
    def phase(self) -> Phase:
        """What its status allows.

        Raises:
            KeyError: AWS has a status that the table lacks; guessing could delete what should live.
        """
        return PHASES[self.status]


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of a stack: its logical id, what it is in AWS, and how it is."""

    name: str
    type: str
    id: str
    status: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """The first thing that failed in a stack's operation.

    Attributes:
        resource: the resource's logical id, or the stack's name where no resource failed.
        type: the resource's type.
        reason: AWS's words.
    """

    resource: str
    type: str
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.resource} ({self.type}): {self.reason}"
            if self.type
            else f"{self.resource}: {self.reason}"
        )


class Step(StrEnum):
    """What is to be done next for an environment."""

    PROVISION = "provision"
    UPDATE = "update"
    TRIGGER = "trigger"  # the stack is as wanted: see to its pipeline's execution
    DELETE = "delete"
    REPLACE = "replace"  # delete what never came to exist, then provision
    RECOVER = "recover"  # continue an update's rollback
    WAIT = "wait"
    FAIL = "fail"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Desired:
    """What should be.

    Attributes:
        exists: whether the environment should exist.
        digest: what the stack should be made from (see `Release.digest`); None where not yet read.
    """

    exists: bool
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """What is.

    Attributes:
        stack: the stack of the environment's name, or None.
        owned: whether the stack bears our tags for this very environment.
        created: this goal has itself ordered the stack's creation.
        updated: this goal has itself ordered an update of the stack.
        recovered: this goal has itself continued a rollback.
        deletions: how often this goal has ordered a deletion.
        disposable: whether what stands may be deleted to be made anew: only development environments are.
    """

    stack: Stack | None
    owned: bool = True
    created: bool = False
    updated: bool = False
    recovered: bool = False
    deletions: int = 0
    disposable: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """The step, and why, in words for people."""

    step: Step
    reason: str


MAX_DELETIONS = 3


def decide(desired: Desired, observed: Observed) -> Decision:
    """The next step that brings an environment from what is to what should be.

    It knows no time and asks nobody: the same arguments always give the same step.
    """
    stack = observed.stack
    phase = stack.phase if stack else Phase.GONE
    if stack is None or phase is Phase.GONE:
        if desired.exists:
            return Decision(Step.PROVISION, "it has no stack yet")
        return Decision(Step.NONE, "its stack is gone")
    if not observed.owned:
        return Decision(Step.FAIL, f"stack {stack.name} exists without deployer's tags for this environment")
    if phase is Phase.DELETING:
        return Decision(Step.WAIT, "its stack is being deleted")
    if not desired.exists:
        return _towards_absence(stack, phase, observed)
    return _towards_presence(stack, phase, desired, observed)


def _towards_absence(stack: Stack, phase: Phase, observed: Observed) -> Decision:
    if phase is Phase.BUSY and stack.status not in DELETABLE_WHILE_BUSY:
        return Decision(Step.WAIT, f"its stack is {stack.status}, which must end before a deletion")
    if phase is Phase.UNDELETED and observed.deletions >= MAX_DELETIONS:
        return Decision(Step.FAIL, f"its stack could not be deleted: {stack.reason or stack.status}")
    return Decision(Step.DELETE, f"it should not exist and its stack is {stack.status}")


def _towards_presence(stack: Stack, phase: Phase, desired: Desired, observed: Observed) -> Decision:
    match phase:
        case Phase.BUSY:
            return Decision(Step.WAIT, f"its stack is {stack.status}")
        case Phase.WEDGED if observed.created:
            return Decision(Step.FAIL, f"its stack could not be created: {stack.reason or stack.status}")
        case Phase.WEDGED:
            return Decision(Step.REPLACE, f"its stack is {stack.status}, left by an earlier attempt")
        case Phase.UNDELETED if observed.deletions >= MAX_DELETIONS:
            return Decision(Step.FAIL, f"its stack could not be deleted: {stack.reason or stack.status}")
        case Phase.UNDELETED if not observed.disposable:
            return Decision(Step.FAIL, f"its stack is {stack.status} and needs a person: {stack.reason}")
        case Phase.UNDELETED:
            return Decision(Step.REPLACE, "an earlier deletion of its stack failed")
        case Phase.STUCK if observed.recovered:
            return Decision(Step.FAIL, f"its stack is {stack.status} and needs a person: {stack.reason}")
        case Phase.STUCK:
            return Decision(Step.RECOVER, f"its stack is {stack.status}")
        case _:
            return _from_ready(stack, desired, observed)


def _from_ready(stack: Stack, desired: Desired, observed: Observed) -> Decision:
    if observed.updated and stack.status in ROLLED_BACK:
        return Decision(Step.FAIL, f"its stack could not be updated: {stack.reason or stack.status}")
    if desired.digest != stack.tags.get("deployer:digest"):
        if observed.updated:
            return Decision(Step.FAIL, "its stack was changed by someone else during the update; push again")
        return Decision(Step.UPDATE, "its template or parameters changed")
    return Decision(Step.TRIGGER, "its stack is as wanted")
