"""The statuses of a CloudFormation stack: one table of all 23 statuses with the steps that they call for.

The statuses are botocore's `StackStatus`; a unit test compares the two lists. They are matched whole, never by
a pattern: `UPDATE_COMPLETE_CLEANUP_IN_PROGRESS` ends neither well nor badly yet.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from deployer.model.errors import UnknownStatusError


class Phase(StrEnum):
    """What a stack in some status can be asked to do."""

    READY = "ready"  # takes an update; its pipeline exists
    BUSY = "busy"  # an operation runs
    DELETING = "deleting"  # a deletion runs
    WEDGED = "wedged"  # never came to exist: can only be deleted
    STUCK = "stuck"  # an update or rollback stopped half-way
    UNDELETED = "undeleted"  # a deletion failed
    GONE = "gone"


class Step(StrEnum):
    """What is to be done next for an environment."""

    PROVISION = "provision"
    UPDATE = "update"
    TRIGGER = "trigger"  # the stack is as wanted: see to its pipeline's execution
    DELETE = "delete"
    REPLACE = "replace"  # delete what never came to exist, then provision
    RECOVER = "recover"  # roll back what stopped half-way
    WAIT = "wait"
    FAIL = "fail"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Row:
    """What a status calls for.

    Attributes:
        phase: what can be asked of the stack.
        deploy: the step if the environment should exist; `TRIGGER` becomes `UPDATE` where its digest differs.
        delete: the step if it should be gone.
        why: why, following "its stack is STATUS: ".
    """

    phase: Phase
    deploy: Step
    delete: Step
    why: str


_P, _S = Phase, Step
TABLE: dict[str, Row] = {
    # --- creation
    "CREATE_IN_PROGRESS": Row(_P.BUSY, _S.WAIT, _S.DELETE, "it is being made, and may be deleted half-way"),
    "CREATE_FAILED": Row(_P.WEDGED, _S.REPLACE, _S.DELETE, "its creation failed, so it can only be deleted"),
    "CREATE_COMPLETE": Row(_P.READY, _S.TRIGGER, _S.DELETE, "it stands"),
    "ROLLBACK_IN_PROGRESS": Row(
        _P.BUSY, _S.WAIT, _S.DELETE, "its creation failed and is being undone, and may be deleted half-way"
    ),
    "ROLLBACK_FAILED": Row(
        _P.WEDGED, _S.REPLACE, _S.DELETE, "its creation failed, and undoing it too, so it can only be deleted"
    ),
    "ROLLBACK_COMPLETE": Row(
        _P.WEDGED, _S.REPLACE, _S.DELETE, "its creation failed and was undone, so it can only be deleted"
    ),
    "REVIEW_IN_PROGRESS": Row(
        _P.WEDGED, _S.REPLACE, _S.DELETE, "a change set was made for it and never carried out, so it is empty"
    ),
    # --- update
    "UPDATE_IN_PROGRESS": Row(_P.BUSY, _S.WAIT, _S.WAIT, "an update is never interrupted"),
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": Row(
        _P.BUSY, _S.WAIT, _S.WAIT, "it is updated, but takes no order before what it replaced is removed"
    ),
    "UPDATE_COMPLETE": Row(_P.READY, _S.TRIGGER, _S.DELETE, "it stands"),
    "UPDATE_FAILED": Row(
        _P.STUCK,
        _S.RECOVER,
        _S.DELETE,
        "someone had its update stop where it failed, so it is rolled back first",
    ),
    "UPDATE_ROLLBACK_IN_PROGRESS": Row(_P.BUSY, _S.WAIT, _S.WAIT, "its update failed and is being undone"),
    "UPDATE_ROLLBACK_FAILED": Row(
        _P.STUCK, _S.RECOVER, _S.DELETE, "undoing its update failed, so that is to be continued first"
    ),
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": Row(
        _P.BUSY,
        _S.WAIT,
        _S.WAIT,
        "its update is undone, but it takes no order before what that made is removed",
    ),
    "UPDATE_ROLLBACK_COMPLETE": Row(
        _P.READY, _S.TRIGGER, _S.DELETE, "its last update was undone, and it stands as before"
    ),
    # --- import, which only people do
    "IMPORT_IN_PROGRESS": Row(_P.BUSY, _S.WAIT, _S.WAIT, "someone imports resources into it"),
    "IMPORT_COMPLETE": Row(_P.READY, _S.TRIGGER, _S.DELETE, "it stands"),
    "IMPORT_ROLLBACK_IN_PROGRESS": Row(
        _P.BUSY, _S.WAIT, _S.WAIT, "someone's import failed and is being undone"
    ),
    "IMPORT_ROLLBACK_FAILED": Row(
        _P.STUCK, _S.FAIL, _S.DELETE, "someone's import could not be undone, which only a person can mend"
    ),
    "IMPORT_ROLLBACK_COMPLETE": Row(
        _P.READY, _S.TRIGGER, _S.DELETE, "someone's import was undone, and it stands"
    ),
    # --- deletion
    "DELETE_IN_PROGRESS": Row(_P.DELETING, _S.WAIT, _S.WAIT, "it is being deleted"),
    "DELETE_FAILED": Row(
        _P.UNDELETED, _S.REPLACE, _S.DELETE, "its deletion failed, so it is to be deleted again"
    ),
    "DELETE_COMPLETE": Row(_P.GONE, _S.PROVISION, _S.NONE, "it is gone"),
}
REFUSED = frozenset(
    {"CREATE_FAILED", "ROLLBACK_FAILED", "ROLLBACK_COMPLETE"}
)  # a creation was tried and failed
ROLLED_BACK = frozenset({"UPDATE_ROLLBACK_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"})


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack as CloudFormation describes it."""

    arn: str
    name: str
    status: str
    tags: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    protected: bool = False  # by termination protection
    parent: str = ""  # ARN of the stack that it is a resource of
    changed_at: float = 0  # when its last update, or else its creation, was ordered (epoch seconds)
    parameters: str = ""  # a hash of their values

    @property
    def region(self) -> str:
        """Where it is, by its ARN."""
        return self.arn.split(":")[3] if self.arn.count(":") > 3 else ""

    @property
    def account(self) -> str:
        """Whose it is, by its ARN."""
        return self.arn.split(":")[4] if self.arn.count(":") > 4 else ""

    @property
    def is_known(self) -> bool:
        """Whether the table has its status. Whoever lists many stacks leaves out the others, with a warning."""
        return self.status in TABLE

    @property
    def is_gone(self) -> bool:
        """Whether it is deleted. A status that the table lacks counts as that of a stack that exists."""
        return self.status == "DELETE_COMPLETE"

    @property
    def row(self) -> Row:
        """What its status calls for.

        Raises:
            UnknownStatusError: AWS has a status that the table lacks; guessing could delete what should live.
        """
        if not self.is_known:
            raise UnknownStatusError(f"stack {self.name}", self.status)
        return TABLE[self.status]

    @property
    def phase(self) -> Phase:
        """What its status allows.

        Raises:
            UnknownStatusError: as `row`.
        """
        return self.row.phase


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
