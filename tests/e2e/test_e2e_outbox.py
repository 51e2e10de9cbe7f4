"""Tests of what GitHub shows: the final state after a time without writes, and heads of pull requests from forks."""

import json
import os
import signal
from pathlib import Path

from sandbox.installation import Installation, call, wait_for


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
    assert "updates wait to be posted on GitHub: " in told
    assert "GitHub answers 502" in told
    for pid in fragile.processes("--app=workers worker"):
        os.kill(pid, signal.SIGKILL)
    fragile.clear_faults()
    shown = wait_for(
        "GitHub shows the result",
        lambda: {each["state"] for each in fragile.statuses(sha, repository).values()} == {"success"},
        seconds=240,
    )
    assert shown
    assert "deployer/Deploy" in fragile.statuses(sha, repository)
    assert fragile.api("dead-letters")["dead_letters"] == []
    copy.push(":shown")
    fragile.deleted("refs/heads/shown", repository)


def test_the_head_of_a_pull_request_from_a_fork_gets_the_status(
    here: Installation, repository: str, tmp_path: Path
) -> None:
    owner, _, name = repository.partition("/")
    fork = f"fork-of-{owner}/{name}"
    here.repository(fork)
    copy = here.clone(tmp_path / "fork", fork)
    copy.branch("patch")
    sha = copy.write("from outside", {})
    copy.push()
    body = json.dumps({"head": f"fork-of-{owner}:patch", "base": "main", "title": "patch"}).encode()
    opened = call(
        "POST", f"{here.github}/api/v3/repos/{repository}/pulls", body, {"Content-Type": "application/json"}
    )
    assert opened.status == 201
    shown = wait_for(
        "the head has the status", lambda: here.statuses(sha, repository).get("deployer"), seconds=120
    )
    assert shown["state"] == "success"
    assert shown["description"] == "#1: skipped: its branch is in a fork, which deployer does not deploy"
    assert here.environment("refs/heads/patch", repository) is None
