"""Every status of a stack with every desired state, as a table that people can read."""

import botocore.session
import pytest

from deployer.environment.decision import MAX_DELETIONS, MAX_REFUSALS, Desired, Observed, decide
from deployer.model.errors import UnknownStatusError
from deployer.model.stacks import TABLE as ROWS
from deployer.model.stacks import Stack, Step

OURS = {"deployer:digest": "d1"}
ARN = "arn:aws:cloudformation:us-east-1:123456789012:stack/x/1"

# status: (step if it should exist and nothing changed, step if it should be gone)
TABLE = {
    "CREATE_IN_PROGRESS": (Step.WAIT, Step.DELETE),
    "CREATE_FAILED": (Step.REPLACE, Step.DELETE),
    "CREATE_COMPLETE": (Step.TRIGGER, Step.DELETE),
    "ROLLBACK_IN_PROGRESS": (Step.WAIT, Step.DELETE),
    "ROLLBACK_FAILED": (Step.REPLACE, Step.DELETE),
    "ROLLBACK_COMPLETE": (Step.REPLACE, Step.DELETE),
    "DELETE_IN_PROGRESS": (Step.WAIT, Step.WAIT),
    "DELETE_FAILED": (Step.REPLACE, Step.DELETE),
    "DELETE_COMPLETE": (Step.PROVISION, Step.NONE),
    "UPDATE_IN_PROGRESS": (Step.WAIT, Step.WAIT),
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": (Step.WAIT, Step.WAIT),
    "UPDATE_COMPLETE": (Step.TRIGGER, Step.DELETE),
    "UPDATE_FAILED": (Step.RECOVER, Step.DELETE),
    "UPDATE_ROLLBACK_IN_PROGRESS": (Step.WAIT, Step.WAIT),
    "UPDATE_ROLLBACK_FAILED": (Step.RECOVER, Step.DELETE),
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": (Step.WAIT, Step.WAIT),
    "UPDATE_ROLLBACK_COMPLETE": (Step.TRIGGER, Step.DELETE),
    "REVIEW_IN_PROGRESS": (Step.REPLACE, Step.DELETE),
    "IMPORT_IN_PROGRESS": (Step.WAIT, Step.WAIT),
    "IMPORT_COMPLETE": (Step.TRIGGER, Step.DELETE),
    "IMPORT_ROLLBACK_IN_PROGRESS": (Step.WAIT, Step.WAIT),
    "IMPORT_ROLLBACK_FAILED": (Step.FAIL, Step.DELETE),
    "IMPORT_ROLLBACK_COMPLETE": (Step.TRIGGER, Step.DELETE),
}


def _stack(status: str, digest: str = "d1") -> Stack:
    return Stack(ARN, "x", status, {"deployer:digest": digest})


def test_the_table_has_every_status_that_botocore_knows() -> None:
    model = botocore.session.get_session().get_service_model("cloudformation")
    assert set(ROWS) == set(model.shape_for("StackStatus").enum) == set(TABLE)


@pytest.mark.parametrize(("status", "steps"), TABLE.items())
def test_each_status(status: str, steps: tuple[Step, Step]) -> None:
    stack = _stack(status)
    present = decide(Desired(exists=True, digest="d1"), Observed(stack))
    absent = decide(Desired(exists=False), Observed(stack))
    assert (present.step, absent.step) == steps
    assert present.reason
    assert absent.reason


@pytest.mark.parametrize("status", TABLE)
@pytest.mark.parametrize("exists", [True, False])
def test_a_stack_without_deployers_tags_is_never_changed(status: str, exists: bool) -> None:
    step = decide(Desired(exists, "d1"), Observed(_stack(status), owned=False)).step
    gone = status == "DELETE_COMPLETE"
    assert step is ((Step.PROVISION if gone else Step.FAIL) if exists else Step.NONE)


@pytest.mark.parametrize(
    ("status", "digest", "flags", "step"),
    [
        ("CREATE_COMPLETE", "d2", {}, Step.UPDATE),
        ("UPDATE_ROLLBACK_COMPLETE", "d2", {}, Step.UPDATE),
        ("UPDATE_ROLLBACK_COMPLETE", "d2", {"updated": True}, Step.FAIL),
        ("UPDATE_ROLLBACK_COMPLETE", "d1", {"updated": True}, Step.FAIL),
        ("UPDATE_COMPLETE", "d1", {"updated": True}, Step.TRIGGER),
        ("ROLLBACK_COMPLETE", "d1", {"created": True}, Step.FAIL),
        ("ROLLBACK_COMPLETE", "d1", {"asked": False}, Step.FAIL),
        ("REVIEW_IN_PROGRESS", "d1", {"asked": False}, Step.REPLACE),
        ("ROLLBACK_FAILED", "d1", {"refusals": MAX_REFUSALS - 1}, Step.REPLACE),
        ("ROLLBACK_FAILED", "d1", {"refusals": MAX_REFUSALS}, Step.FAIL),
        ("UPDATE_ROLLBACK_FAILED", "d1", {"recovered": True}, Step.FAIL),
        ("UPDATE_FAILED", "d1", {"recovered": True}, Step.FAIL),
        ("DELETE_FAILED", "d1", {"asked": False}, Step.REPLACE),
        ("DELETE_FAILED", "d1", {"disposable": False}, Step.FAIL),
        ("DELETE_FAILED", "d1", {"deletions": MAX_DELETIONS}, Step.FAIL),
        ("UPDATE_COMPLETE", "d1", {"lost_tags": True}, Step.RESTORE),
        ("UPDATE_COMPLETE", "d2", {"lost_tags": True}, Step.UPDATE),
        ("UPDATE_COMPLETE", "d1", {"lost_tags": True, "drifted": True}, Step.RESTORE),
        ("UPDATE_ROLLBACK_COMPLETE", "d1", {"lost_tags": True, "restored": True}, Step.FAIL),
        ("UPDATE_COMPLETE", "d1", {"restored": True}, Step.TRIGGER),
        ("UPDATE_IN_PROGRESS", "d1", {"lost_tags": True, "restored": True}, Step.WAIT),
        ("UPDATE_FAILED", "d1", {"lost_tags": True}, Step.RECOVER),
    ],
)
def test_earlier_orders_of_the_same_item_count(
    status: str, digest: str, flags: dict[str, bool], step: Step
) -> None:
    assert decide(Desired(exists=True, digest=digest), Observed(_stack(status), **flags)).step is step  # type: ignore[arg-type]


@pytest.mark.parametrize(("status", "steps"), TABLE.items())
def test_a_protected_stack_is_never_deleted(status: str, steps: tuple[Step, Step]) -> None:
    stack = Stack(ARN, "x", status, OURS, protected=True)
    for exists, step in zip((True, False), steps, strict=True):
        found = decide(Desired(exists, "d1"), Observed(stack)).step
        assert found is (Step.FAIL if step in {Step.DELETE, Step.REPLACE} else step)


def test_a_deletion_that_keeps_failing_ends() -> None:
    stack = Stack(ARN, "x", "DELETE_FAILED", OURS, "bucket not empty")
    decision = decide(Desired(exists=False), Observed(stack, deletions=MAX_DELETIONS))
    assert decision.step is Step.FAIL
    assert "bucket not empty" in decision.reason


def test_an_absent_stack() -> None:
    assert decide(Desired(exists=True), Observed(None)).step is Step.PROVISION
    assert decide(Desired(exists=False), Observed(None)).step is Step.NONE


UNHEARD_OF = Stack(ARN, "x", "REBUILD_COMPLETE", {"deployer:digest": "d1"})


@pytest.mark.parametrize("exists", [True, False])
def test_a_status_missing_from_the_table_is_an_error(exists: bool) -> None:
    assert (UNHEARD_OF.is_known, UNHEARD_OF.is_gone) == (False, False)
    with pytest.raises(
        UnknownStatusError, match=r"^stack x has the status REBUILD_COMPLETE, .*update deployer"
    ):
        decide(Desired(exists, "d1"), Observed(UNHEARD_OF))
    assert decide(Desired(exists, "d1"), Observed(UNHEARD_OF, owned=False)).step is (
        Step.FAIL if exists else Step.NONE
    )
