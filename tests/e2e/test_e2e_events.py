"""Tests with lost, repeated, late and reordered events: the result is the same."""

from pathlib import Path

import pytest

from sandbox.installation import Installation, WorkingCopy, wait_for

WILD = {"duplicate": 0.7, "reorder": 0.7, "delay": 0.3}


def finished(here: Installation, repository: str) -> bool:
    """Whether every delivery of a repository's pushes has its outcome and nothing waits."""
    return not [lane for lane in here.api("lanes")["lanes"] if lane["repository"] == repository]


def test_without_events_aws_is_polled(fragile: Installation, tmp_path: Path) -> None:
    """In the installation that asks often."""
    fragile.repository("quiet/shop")
    fragile.fault("aws", {"events": {"lose": 1.0}})
    copy = fragile.clone(tmp_path / "copy", "quiet/shop")
    copy.branch("quiet")
    sha = copy.write("AWS tells nothing", {})
    copy.push()
    found = fragile.settled("refs/heads/quiet", sha, "quiet/shop")
    assert found["outcome"] == "deployed"
    assert {each["state"] for each in fragile.statuses(sha, "quiet/shop").values()} == {"success"}
    copy.push(":quiet")
    fragile.deleted("refs/heads/quiet", "quiet/shop")
    fragile.clear_faults()


@pytest.mark.parametrize("seed", [1, 2])
def test_events_twice_late_and_out_of_order(
    here: Installation, repository: str, copy: WorkingCopy, seed: int
) -> None:
    here.fault("aws", {"events": {**WILD, "delay_seconds": 1.0}, "seed": seed})
    here.fault("github", {"webhooks": {**WILD, "delay": 1.0, "delay_probability": 0.3}, "seed": seed})
    copy.branch("wild")
    shas = []
    for number in range(4):
        shas.append(copy.write(f"Number {number}", {}))
        copy.push()
    found = here.settled("refs/heads/wild", shas[-1], repository)
    assert found["outcome"] == "deployed"
    wait_for("the lane is empty", lambda: finished(here, repository))
    executions = here.executions(found["id"])
    # an execution that AWS starts builds the head of the branch; deployer stops it if that is another commit
    stopped = {"Stopped", "Stopping", "Cancelled"}
    ran = [
        each["sha"]
        for each in executions
        if each["trigger"] != "CreatePipeline" or each["status"] not in stopped
    ]
    assert ran == sorted(ran, key=shas.index), "never an older commit after a newer one"
    assert len(ran) == len(set(ran)), "never a commit twice"
    assert ran[-1] == shas[-1]
    here.clear_faults()
    copy.push(":wild")
    here.deleted("refs/heads/wild", repository)


def test_github_lags_behind_its_own_webhook(here: Installation, repository: str, copy: WorkingCopy) -> None:
    copy.branch("lag")
    first = copy.write("First", {})
    copy.push()
    found = here.settled("refs/heads/lag", first, repository)
    here.fault("github", {"stale_reads": 2})
    second = copy.write("Second", {})
    copy.push()
    assert here.settled("refs/heads/lag", second, repository)["outcome"] == "deployed"
    assert [each["sha"] for each in here.executions(found["id"])] == [first, second]


def test_throttling_and_errors_on_both_sides(here: Installation, repository: str, copy: WorkingCopy) -> None:
    here.fault("aws", {"throttle": {"service": "cloudformation", "probability": 0.3}, "seed": 3})
    here.fault("aws", {"errors": {"operation": "CreateStack", "mode": "after", "status": 500, "count": 1}})
    here.fault("github", {"api": {"status": 502, "count": 2}})
    copy.branch("rough")
    sha = copy.write("Rough", {})
    copy.push()
    found = here.settled("refs/heads/rough", sha, repository)
    assert found["outcome"] == "deployed"
    assert [each["sha"] for each in here.executions(found["id"])] == [sha]
