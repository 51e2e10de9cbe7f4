"""What the checker takes for an overlap, and what it excuses, on records made by hand."""

from collections.abc import Sequence
from typing import Any

import pytest

from deployer.environments import Environment, Repository
from deployer.refs import Ref
from tests.chaos.checker import Life, Records, Wound, no_overlap
from tests.chaos.team import Move

NAME, REF = "team/service", "refs/heads/b1"
STACK = Environment.of_ref(Repository.parse(NAME), Ref.parse(REF), "main").stack_name


def sent(at: float, seconds: float, worker: str) -> dict[str, Any]:
    """A call to AWS as it notes it."""
    agent = f"Boto3/1 app/{worker} deployer/1"
    return {
        "operation": "CreateStack", "name": STACK, "token": "t", "code": "OK", "time": at, "seconds": seconds,
        "user_agent": agent,
    }  # fmt: skip


LONG = sent(10.0, 4.4, "a")


@pytest.mark.parametrize(
    ("calls", "wounds", "wakes", "overlap"),
    [
        pytest.param([LONG, sent(14.5, 1, "b")], [], [], False, id="one after the other"),
        pytest.param([LONG, sent(11.2, 0, "b")], [], [], True, id="at once"),
        pytest.param([LONG, sent(11.2, 0, "b")], [Wound("a", 10.5, 10.5)], [], False, id="first one killed"),
        pytest.param([LONG, sent(11.2, 0, "b")], [Wound("b", 10.5, 10.5)], [], True, id="second one killed"),
        pytest.param([LONG, sent(11.2, 0, "b")], [Wound("a", 7, 8.5)], [], True, id="killed long before"),
        pytest.param([LONG, sent(11.2, 0, "b")], [Wound("", 7, 9.5)], [], False, id="Redis stood still"),
        pytest.param([LONG, sent(11.2, 0, "b")], [], [Wound("a", 9.7, 9.7)], False, id="first one woke up"),
        pytest.param([LONG, sent(11.2, 0, "b")], [], [Wound("b", 11, 11)], False, id="second one woke up"),
        pytest.param([LONG, sent(11.2, 0, "b")], [], [Wound("a", 8.9, 8.9)], True, id="awake for long"),
        pytest.param(
            [sent(9.8, 0, "a"), LONG, sent(11.2, 0, "b")], [], [Wound("a", 9.7, 9.7)], True,
            id="its second call since it woke up",
        ),
    ],
)  # fmt: skip
def test_overlap(
    calls: Sequence[dict[str, Any]], wounds: Sequence[Wound], wakes: Sequence[Wound], overlap: bool
) -> None:
    records = Records(
        moves=[Move(1.0, NAME, REF, "a" * 40)], lives=[Life([NAME])], refs={}, deliveries=[], events=[],
        ledger={}, calls=calls, executions=[], stacks={}, gone=[], statuses=[], wounds=wounds, wakes=wakes,
    )  # fmt: skip
    assert bool(list(no_overlap(records))) is overlap
