"""The checker's rules for overlapping calls, tested with records written by hand."""

from collections.abc import Sequence
from typing import Any

import pytest

from deployer.model.environments import Environment, Repository
from deployer.model.refs import Ref
from tests.chaos.checker import Life, Records, Wound, no_overlap, violations
from tests.chaos.team import Move

NAME, REF = "team/service", "refs/heads/b1"
STACK = Environment.of_ref(Repository.parse(NAME), Ref.parse(REF), "main").stack_name


def sent_call(at: float, seconds: float, worker: str) -> dict[str, Any]:
    """A call in the log of the simulated AWS."""
    agent = f"Boto3/1 app/{worker} deployer/1"
    return {
        "operation": "CreateStack", "name": STACK, "token": "t", "code": "OK", "time": at, "seconds": seconds,
        "user_agent": agent,
    }  # fmt: skip


LONG = sent_call(10.0, 4.4, "a")


@pytest.mark.parametrize(
    ("calls", "wounds", "wakes", "overlap"),
    [
        pytest.param([LONG, sent_call(14.5, 1, "b")], [], [], False, id="one after the other"),
        pytest.param([LONG, sent_call(11.2, 0, "b")], [], [], True, id="simultaneous"),
        pytest.param([LONG, sent_call(11.2, 0, "b")], [Wound("a", 10.5, 10.5)], [], False, id="first one killed"),
        pytest.param([LONG, sent_call(11.2, 0, "b")], [Wound("b", 10.5, 10.5)], [], True, id="second one killed"),
        pytest.param([LONG, sent_call(11.2, 0, "b")], [Wound("a", 7, 8.5)], [], True, id="killed long before"),
        pytest.param([LONG, sent_call(11.2, 0, "b")], [Wound("", 7, 9.5)], [], False, id="Redis paused"),
        pytest.param([LONG, sent_call(11.2, 0, "b")], [], [Wound("a", 9.7, 9.7)], False, id="first one woke up"),
        pytest.param([LONG, sent_call(11.2, 0, "b")], [], [Wound("b", 11, 11)], False, id="second one woke up"),
        pytest.param([LONG, sent_call(11.2, 0, "b")], [], [Wound("a", 8.9, 8.9)], True, id="awake for some time"),
        pytest.param(
            [sent_call(9.8, 0, "a"), LONG, sent_call(11.2, 0, "b")], [], [Wound("a", 9.7, 9.7)], True,
            id="second call after waking up",
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


def test_one_cause_is_one_violation() -> None:
    """A stuck push breaks several promises, and several calls overlap; each cause is reported as one violation."""
    deliveries = [
        {"guid": f"d{number}", "repository": NAME, "event": "push", "ref": REF, "after": sha, "code": 202,
         "outcome": "", "at": float(number), "pushed_at": float(number)}
        for number, sha in enumerate(("a" * 40, "b" * 40), 1)
    ]  # fmt: skip
    overlapping = [sent_call(10.0 + number / 10, 5, name) for number, name in enumerate("abcd")]
    records = Records(
        moves=[Move(1.0, NAME, REF, "a" * 40), Move(2.0, NAME, REF, "b" * 40)], lives=[Life([NAME])],
        refs={NAME: {REF: "b" * 40}}, deliveries=deliveries, events=[("e1", "stack"), ("e2", "stage")],
        ledger={}, calls=overlapping, executions=[], stacks={}, gone=[], statuses=[],
    )  # fmt: skip
    stuck, events, overlap = violations(records)
    assert (stuck.about, stuck.promise) == (f"{NAME} b1", "every acknowledged delivery has an outcome")
    assert stuck.promises == ["every acknowledged delivery has an outcome", "every ref has its pipeline"]
    assert len(stuck.also) == 2
    assert (events.about, len(events.also)) == ("events of AWS", 1)
    assert (overlap.about, len(overlap.also)) == (NAME, 5)
    assert overlap.promises == ["the steps of a repository never overlap"]
