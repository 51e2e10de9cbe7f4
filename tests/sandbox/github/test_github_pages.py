"""The pages, the sandbox's own calls, the sample and the command of the simulated GitHub."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cfnlint import ManualArgs
from cfnlint.api import lint
from github_kit import ENVIRONMENT, Receiver, WorkingCopy

from sandbox.github.seed import SAMPLE
from sandbox.github.server import GitHubServer, create


def test_pages_show_repositories_commits_and_deliveries(
    pushed: WorkingCopy, call: Any, server: GitHubServer
) -> None:
    pushed("tag", "v1")
    pushed("push", "-q", "origin", "v1", "HEAD:refs/heads/feature/ü#1")
    sha = pushed("rev-parse", "HEAD")
    status = {"state": "failure", "context": "deployer", "description": "no way", "target_url": "http://x/y"}
    assert call("POST", f"/api/v3/repos/acme/app/statuses/{sha}", json=status).status == 201
    assert f"git clone {server.url}/acme/app.git" in call("GET", "/").data.decode()
    overview = call("GET", "/acme/app").data.decode()
    for text in ("feature/ü#1", "v1", sha[:7], "✗ failure", "first"):
        assert text in overview
    commit = call("GET", f"/acme/app/commit/{sha}").data.decode()
    for text in ("deployer", "no way", 'href="http://x/y"', "README.md"):
        assert text in commit
    assert call("GET", f"/acme/app/raw/{sha}/README.md").data == b"hello\n"
    assert call("GET", "/acme/none").status == 404
    assert call("GET", "/acme/app/commit/zzz").status == 404


def test_pages_escape_all_text(copy: WorkingCopy, call: Any) -> None:
    evil = "<script>alert(1)</script>"
    copy.commit("x.html", evil, evil)
    copy("push", "-q", "origin", f"main:refs/heads/{evil.replace('(1)', '')}", "main")
    sha = copy("rev-parse", "HEAD")
    body = {"state": "success", "context": evil, "description": evil}
    call("POST", f"/api/v3/repos/acme/app/statuses/{sha}", json=body)
    for path in ("/", "/acme/app", f"/acme/app/commit/{sha}", "/acme/app/deliveries"):
        assert b"<script" not in call("GET", path).data
    raw = call("GET", f"/acme/app/raw/{sha}/x.html")
    assert raw.headers["Content-Type"].startswith("text/plain")


def test_the_redeliver_button(pushed: WorkingCopy, call: Any, receiver: Receiver) -> None:
    assert pushed.path.is_dir()
    first = receiver.wait(2)[0]
    page = call("GET", "/acme/app/deliveries").data.decode()
    assert first.guid in page
    assert 'action="/acme/app/deliveries/1/redeliver"' in page
    path = "/acme/app/deliveries/1/redeliver"
    assert call("POST", path, headers={"Sec-Fetch-Site": "cross-site"}).status == 403
    answer = call("POST", path)
    assert (answer.status, answer.headers["Location"]) == (303, "/acme/app/deliveries")
    assert receiver.wait(3)[2].guid == first.guid
    assert "attempt 2" in call("GET", "/acme/app/deliveries").data.decode()


def test_repositories_are_created_on_demand(call: Any, receiver: Receiver, server: GitHubServer) -> None:
    def make(**body: Any) -> tuple[int, Any]:
        answer = call("POST", "/_sandbox/repositories", json=body)
        return answer.status, answer.json()

    status, shown = make(full_name="acme/new")
    assert (status, shown["clone_url"]) == (201, f"{server.url}/acme/new.git")
    assert make(full_name="Acme/NEW")[0] == 200
    assert not receiver.received
    assert make(full_name="acme/new", sample=True)[0] == 200
    payload = receiver.push()
    assert payload["repository"]["full_name"] == "acme/new"
    assert "deploy/pipeline.yml" in payload["head_commit"]["added"]
    assert make(full_name="acme/new", sample=True)[0] == 200
    assert server.wait_idle()
    assert len(receiver.received) == 2
    assert [r["full_name"] for r in call("GET", "/_sandbox/repositories").json()] == ["acme/new"]
    assert call("GET", "/_sandbox/health").json()["status"] == "ok"


def test_invalid_names_are_refused(call: Any, server: GitHubServer) -> None:
    names = (
        "",
        "acme",
        "acme/",
        "/x",
        "a/b/c",
        "-a/b",
        "a--b/c",
        "a/..",
        "a/b.git",
        "a/ü",
        "api/v3",
        "_x/y",
        7,
    )
    for name in names:
        answer = call("POST", "/_sandbox/repositories", json={"full_name": name})
        assert answer.status == 400, name
        assert "\n" not in answer.json()["message"]
    assert not server.hub.repositories()


def test_the_sample_s_templates_are_valid() -> None:
    for name in ("deploy/pipeline.yml", "app.yml"):
        found = lint((SAMPLE / name).read_text(), config=ManualArgs(regions=["us-east-1"]))
        assert [str(match) for match in found] == []
    given = json.loads((SAMPLE / "deploy/pipeline.parameters.json").read_text())
    assert set(given) == {"development", "staging", "production"}


def test_the_sample_can_be_built_and_tested(tmp_path: Path) -> None:
    root = tmp_path / "hello"
    shutil.copytree(SAMPLE, root)
    environment = {**ENVIRONMENT, "GREETING": "Hi <you>", "STAGE": "staging", "PYTHONDONTWRITEBYTECODE": "1"}
    environment["CODEBUILD_RESOLVED_SOURCE_VERSION"] = "abcdef0123456789"

    def python(*args: str) -> int:
        return subprocess.run([sys.executable, *args], cwd=root, env=environment, check=False).returncode

    assert python("build.py") == 0
    page = (root / "dist/index.html").read_text()
    for text in ("Hi &lt;you&gt;", "staging", "abcdef012345"):
        assert text in page
    tests = ("-m", "unittest", "discover", "-q", "-s", "tests")
    assert python(*tests) == 0
    build = root / "build.py"
    build.write_text(build.read_text().replace("html.escape(text)", "text"))
    assert python(*tests) == 1
    environment["STAGE"] = "moon"
    assert python("build.py") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_the_sample_until_sigterm(
    tmp_path: Path, receiver: Receiver, number: signal.Signals
) -> None:
    command = [sys.executable, "-m", "sandbox.github", "--port", "0", "--data-dir", str(tmp_path / "data")]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*command, "--webhook-url", receiver.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            assert words[:2] == ["git", "clone"]
            receiver.wait(2)[1].check()
            copy = WorkingCopy.clone(words[2], tmp_path / "hello")
            assert (copy.path / "deploy/pipeline.yml").is_file()
        finally:
            process.send_signal(number)
            _, errors = process.communicate(timeout=15)
    assert (process.returncode, errors) == (0, "")


def test_a_port_in_use_is_an_error_of_the_caller(server: GitHubServer, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="in use"):
        create(server.port, data_dir=tmp_path / "other")


def test_the_command_reports_invalid_arguments(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sandbox.github", "--port", "0", "--data-dir", str(tmp_path / "data")]
    result = subprocess.run([*command, "--sample", "x"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "owner/repo" in result.stderr
