"""A stack's status and what it calls for: one table over all 23 statuses, and one pure decision.

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
        recovered: this goal has itself ordered a rollback.
        deletions: how often this goal has seen the deletion fail and ordered another one.
        disposable: whether what stands may be deleted to be made anew: only development environments are.
        asked: whether people ask for it now, by a push or redeploy, or want a commit that was not tried yet. A
            creation that failed is tried again only then.
        refusals: how often in a row a stack made of the same could not be created.
        drifted: someone else changed the stack since deployer applied it, and a person asks for it once more.
        unlocks: whether termination protection is deployer's own, and a person asked for the deletion.
    """

    stack: Stack | None
    owned: bool = True
    created: bool = False
    updated: bool = False
    recovered: bool = False
    deletions: int = 0
    disposable: bool = True
    asked: bool = True
    refusals: int = 0
    unlocks: bool = False
    drifted: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The step, and why, in words for people.

    Attributes:
        remedy: what a person must do, where the reason ends with it.
    """

    step: Step
    reason: str
    remedy: str = ""


MAX_DELETIONS = 3  # failed deletions of a stack within one goal
MAX_REFUSALS = 3  # failed creations from the same template and parameters, until a person redeploys


def decide(desired: Desired, observed: Observed) -> Decision:
    """The next step that brings an environment from what is to what should be.

    It knows no time and asks nobody: the same arguments always give the same step.

    Raises:
        UnknownStatusError: the environment's own stack has a status that the table lacks.
    """
    stack = observed.stack
    if stack is None or stack.is_gone:
        return Decision(
            *((Step.PROVISION, "it has no stack yet") if desired.exists else (Step.NONE, "its stack is gone"))
        )
    if not observed.owned and not desired.exists:
        return Decision(Step.NONE, f"stack {stack.name} is not this environment's")
    if not observed.owned:
        return Decision(Step.FAIL, f"stack {stack.name} exists without deployer's tags for this environment")
    row = stack.row
    step = row.deploy if desired.exists else row.delete
    reason, remedy = _refused(step, stack, observed)
    if reason:
        return Decision(Step.FAIL, f"{reason}; {remedy}" if remedy else reason, remedy)
    if step is Step.TRIGGER:
        return _from_ready(stack, desired, observed)
    return Decision(step, f"its stack is {stack.status}: {row.why}", row.why if step is Step.FAIL else "")


def _refused(step: Step, stack: Stack, observed: Observed) -> tuple[str, str]:
    """Why a step that the table names is not taken, and what a person must do; empty if it is taken."""
    told = stack.reason or stack.status
    match step:
        case Step.DELETE | Step.REPLACE if (
            stack.phase is Phase.UNDELETED and observed.deletions >= MAX_DELETIONS
        ):
            return f"its stack could not be deleted: {told}", ""
        case Step.DELETE | Step.REPLACE if stack.protected and not observed.unlocks:
            return (
                "its stack has termination protection, which a person must take off first",
                "",
            )
        case Step.REPLACE if stack.phase is Phase.UNDELETED and not observed.disposable:
            return f"its stack is {stack.status} and needs a person: {stack.reason}", ""
        case Step.REPLACE if stack.phase is Phase.WEDGED and observed.created:
            return f"its stack could not be created: {told}", ""
        case Step.REPLACE if stack.status in REFUSED and not observed.asked:
            return f"its stack could not be created: {told}", "push a mended commit, or redeploy"
        case Step.REPLACE if stack.status in REFUSED and observed.refusals >= MAX_REFUSALS:
            reason = f"its stack could not be created from this template and these parameters {observed.refusals} times"
            return f"{reason}; change them, or redeploy", ""
        case Step.RECOVER if observed.recovered:
            return (
                f"its stack is {stack.status} again: {told}",
                "continue its rollback in the console, skipping what cannot be rolled back, then redeploy",
            )
        case _:
            return "", ""


def _from_ready(stack: Stack, desired: Desired, observed: Observed) -> Decision:
    if observed.updated and stack.status in ROLLED_BACK:
        return Decision(Step.FAIL, f"its stack could not be updated: {stack.reason or stack.status}")
    if desired.digest != stack.tags.get("deployer:digest"):
        if observed.updated:
            return Decision(Step.FAIL, "its stack was changed by someone else during the update; push again")
        return Decision(Step.UPDATE, "its template or parameters changed")
    if observed.drifted and not observed.updated:
        return Decision(Step.UPDATE, "its stack was changed outside deployer, and is to be as it was")
    return Decision(Step.TRIGGER, "its stack is as wanted")
