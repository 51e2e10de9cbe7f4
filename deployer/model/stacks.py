"""The status of a stack: one table over all 23 statuses says which step each requires.

The statuses are botocore's `StackStatus`; a unit test compares the two lists. A status is compared as a whole, never by
a pattern: `UPDATE_COMPLETE_CLEANUP_IN_PROGRESS` is not complete.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from deployer.model.errors import UnknownStatusError


class Phase(StrEnum):
    """What a stack's status allows."""

    READY = "ready"  # can be updated; its pipeline exists
    BUSY = "busy"  # an operation is in progress
    DELETING = "deleting"  # a deletion is in progress
    WEDGED = "wedged"  # its creation failed, so it can only be deleted
    STUCK = "stuck"  # an update or rollback stopped before its end
    UNDELETED = "undeleted"  # a deletion failed
    GONE = "gone"


class Step(StrEnum):
    """The next step for an environment."""

    PROVISION = "provision"
    UPDATE = "update"
    TRIGGER = "trigger"  # the stack is as desired: see that its pipeline runs
    DELETE = "delete"
    REPLACE = "replace"  # delete a stack whose creation failed, then provision
    RECOVER = "recover"  # roll back an update that stopped before its end
    RESTORE = "restore"  # give a stack deployer's tags again, which its own pipeline has removed
    WAIT = "wait"
    FAIL = "fail"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Row:
    """What a status allows, and which step it requires.

    Attributes:
        phase: what the status allows.
        deploy: the step if the environment should exist; `TRIGGER` becomes `UPDATE` if the stack's digest differs.
        delete: the step if the environment should not exist.
        why: the reason, after "its stack is STATUS: ".
    """

    phase: Phase
    deploy: Step
    delete: Step
    why: str


_P, _S = Phase, Step
TABLE: dict[str, Row] = {
    # --- creation
    "CREATE_IN_PROGRESS": Row(
        _P.BUSY, _S.WAIT, _S.DELETE, "its creation is in progress; a deletion may interrupt it"
    ),
    "CREATE_FAILED": Row(_P.WEDGED, _S.REPLACE, _S.DELETE, "its creation failed, so it can only be deleted"),
    "CREATE_COMPLETE": Row(_P.READY, _S.TRIGGER, _S.DELETE, "it exists"),
    "ROLLBACK_IN_PROGRESS": Row(
        _P.BUSY,
        _S.WAIT,
        _S.DELETE,
        "its creation failed and is being rolled back; a deletion may interrupt it",
    ),
    "ROLLBACK_FAILED": Row(
        _P.WEDGED,
        _S.REPLACE,
        _S.DELETE,
        "its creation failed and so did the rollback, so it can only be deleted",
    ),
    "ROLLBACK_COMPLETE": Row(
        _P.WEDGED, _S.REPLACE, _S.DELETE, "its creation failed and was rolled back, so it can only be deleted"
    ),
    "REVIEW_IN_PROGRESS": Row(
        _P.WEDGED, _S.REPLACE, _S.DELETE, "a change set was created for it and never executed, so it is empty"
    ),
    # --- update
    "UPDATE_IN_PROGRESS": Row(_P.BUSY, _S.WAIT, _S.WAIT, "an update is never interrupted"),
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": Row(
        _P.BUSY,
        _S.WAIT,
        _S.WAIT,
        "it is updated, but cannot be changed before the replaced resources are removed",
    ),
    "UPDATE_COMPLETE": Row(_P.READY, _S.TRIGGER, _S.DELETE, "it exists"),
    "UPDATE_FAILED": Row(
        _P.STUCK,
        _S.RECOVER,
        _S.DELETE,
        "its update stopped where it failed, as someone asked, so it is rolled back first",
    ),
    "UPDATE_ROLLBACK_IN_PROGRESS": Row(
        _P.BUSY, _S.WAIT, _S.WAIT, "its update failed and is being rolled back"
    ),
    "UPDATE_ROLLBACK_FAILED": Row(
        _P.STUCK, _S.RECOVER, _S.DELETE, "the rollback of its update failed, so it is continued first"
    ),
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": Row(
        _P.BUSY,
        _S.WAIT,
        _S.WAIT,
        "its update is rolled back, but it cannot be changed before new resources are removed",
    ),
    "UPDATE_ROLLBACK_COMPLETE": Row(
        _P.READY, _S.TRIGGER, _S.DELETE, "its last update was rolled back, and it exists as before"
    ),
    # --- import, which only people start
    "IMPORT_IN_PROGRESS": Row(_P.BUSY, _S.WAIT, _S.WAIT, "someone is importing resources into it"),
    "IMPORT_COMPLETE": Row(_P.READY, _S.TRIGGER, _S.DELETE, "it exists"),
    "IMPORT_ROLLBACK_IN_PROGRESS": Row(
        _P.BUSY, _S.WAIT, _S.WAIT, "someone's import failed and is being rolled back"
    ),
    "IMPORT_ROLLBACK_FAILED": Row(
        _P.STUCK, _S.FAIL, _S.DELETE, "the rollback of someone's import failed, which only a person can fix"
    ),
    "IMPORT_ROLLBACK_COMPLETE": Row(
        _P.READY, _S.TRIGGER, _S.DELETE, "someone's import was rolled back, and it exists"
    ),
    # --- deletion
    "DELETE_IN_PROGRESS": Row(_P.DELETING, _S.WAIT, _S.WAIT, "it is being deleted"),
    "DELETE_FAILED": Row(_P.UNDELETED, _S.REPLACE, _S.DELETE, "its deletion failed, so it is deleted again"),
    "DELETE_COMPLETE": Row(_P.GONE, _S.PROVISION, _S.NONE, "it is gone"),
}
# a creation was tried and failed
REFUSED = frozenset({"CREATE_FAILED", "ROLLBACK_FAILED", "ROLLBACK_COMPLETE"})
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
    parent: str = ""  # ARN of the stack of which this nested stack is a resource
    changed_at: float = 0  # when its last update, or else its creation, began (epoch seconds)
    parameters: str = ""  # a hash of the parameters' values
    created_at: float = 0  # epoch seconds
    outputs: Mapping[str, str] = field(default_factory=dict)  # read with the stack itself, not with a listing

    @property
    def region(self) -> str:
        """The region, by the ARN."""
        return self.arn.split(":")[3] if self.arn.count(":") > 3 else ""

    @property
    def account(self) -> str:
        """The account's id, by the ARN."""
        return self.arn.split(":")[4] if self.arn.count(":") > 4 else ""

    @property
    def is_known(self) -> bool:
        """Whether the table has the status. Code that lists many stacks leaves out the others with a warning."""
        return self.status in TABLE

    @property
    def is_gone(self) -> bool:
        """Whether the stack is deleted. A stack with a status that the table lacks counts as existing."""
        return self.status == "DELETE_COMPLETE"

    @property
    def row(self) -> Row:
        """The row of the stack's status.

        Raises:
            UnknownStatusError: the table lacks the status; a wrong guess could delete a stack that should exist.
        """
        if not self.is_known:
            raise UnknownStatusError(f"stack {self.name}", self.status)
        return TABLE[self.status]

    @property
    def phase(self) -> Phase:
        """What the stack's status allows.

        Raises:
            UnknownStatusError: as `row`.
        """
        return self.row.phase


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of a stack: its logical id, type, physical id, and status."""

    name: str
    type: str
    id: str
    status: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """The first failure in a stack's operation.

    Attributes:
        resource: the resource's logical id, or the stack's name if no resource failed.
        type: the resource's type.
        reason: the reason that AWS gives.
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
