"""Tests of GitHub refusing every write: deployments finish, and the final state appears afterwards."""

import os
import signal
from pathlib import Path

from sandbox.installation import Installation, wait_for


def test_deployments_finish_while_github_refuses_writes_and_workers_die(
    fragile: Installation, tmp_path: Path
) -> None:
    repository = "quiet/outbox"
    fragile.repository(repository)
    copy = fragile.clone(tmp_path / "copy", repository)
    fragile.fault("github", {"writes": {"status": 502}})
    copy.branch("shown")
    sha = copy.write("GitHub takes no status", {})
    copy.push()
    found = fragile.settled("refs/heads/shown", sha, repository)
    assert found["outcome"] == "deployed"
    assert fragile.statuses(sha, repository) == {}
    told = fragile.cli("why", repository, "shown").stdout
    assert "statuses wait to be posted on GitHub: " in told
    assert "GitHub answers 502" in told
    for pid in fragile.processes("--app=workers worker"):
        os.kill(pid, signal.SIGKILL)
    fragile.clear_faults()
    shown = wait_for(
        "GitHub shows the result",
        lambda: {each["state"] for each in fragile.statuses(sha, repository).values()} == {"success"},
        seconds=120,
    )
    assert shown
    assert "deployer/Deploy" in fragile.statuses(sha, repository)
    assert fragile.api("dead-letters")["dead_letters"] == []
    copy.push(":shown")
    fragile.deleted("refs/heads/shown", repository)
