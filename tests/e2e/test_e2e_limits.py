"""What one repository can take from others: a task that does not end is killed, and others' pushes start in time."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.installation import Installation, WorkingCopy, wait_for


@pytest.fixture
def copy(fragile: Installation, tmp_path: Path) -> Iterator[WorkingCopy]:
    yield fragile.clone(tmp_path / "copy")
    fragile.heal()


def test_a_task_that_holds_the_interpreter_is_killed_tried_once_more_and_becomes_a_dead_letter(
    fragile: Installation, copy: WorkingCopy
) -> None:
    copy.branch("holds-the-interpreter")
    copy.write("Hostile", {"by.txt": "hostile"})
    copy.push()

    def died() -> list[dict[str, object]]:
        letters = fragile.api("dead-letters")["dead_letters"]
        return [each for each in letters if each["environment"].endswith("holds-the-interpreter")]

    (letter,) = wait_for("it is a dead letter", died, 30)

    assert letter["kind"] == "TaskTimeout"
    found = fragile.api(f"dead-letters/{letter['id']}")
    assert [each["error"] for each in found["attempts"]] == ["it ran out of time and was killed"] * 2
    lease = float(fragile.env["DEPLOYER_LEASE_SECONDS"])
    logged = [line for line in fragile.output().splitlines() if "is no longer the current one" in line]
    assert not logged, "no other worker had it meanwhile"
    assert lease < 10
    fragile.api(f"dead-letters/{letter['id']}", "DELETE")
