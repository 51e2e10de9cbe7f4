"""What people and machines call: the command line, Celery's own, Flower, signed and unsigned HTTP."""

import hashlib
import hmac
import json
import signal
import socket
import subprocess
import sys
from typing import Any
from uuid import uuid4

import pytest
from conftest import SECRETS

from sandbox.installation import Answer, Installation, WorkingCopy, call, wait_for


def told(here: Installation, *arguments: str) -> Any:
    """What a command prints as JSON."""
    done = here.cli(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def said(here: Installation, *arguments: str) -> str:
    """What a command prints for people."""
    done = here.cli(*arguments)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def celery(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "celery", "--app=workers", *arguments]


@pytest.fixture
def deployed(here: Installation, repository: str, copy: WorkingCopy) -> str:
    """The commit at which the branch `one` is deployed."""
    copy.branch("one")
    sha = copy.write("One", {})
    copy.push()
    here.settled("refs/heads/one", sha, repository)
    here.settled("staging", copy.git("rev-parse", "origin/main"), repository)
    return sha


def test_status_why_and_resync(here: Installation, repository: str, copy: WorkingCopy, deployed: str) -> None:
    rows = {each["environment"]: each for each in told(here, "status", repository)}
    assert rows.keys() == {"staging", "development:refs/heads/one"}
    assert rows["development:refs/heads/one"]["commit"] == deployed
    assert f"one          deployed  {deployed[:8]}  4 ok" in said(here, "status", repository)

    why = told(here, "why", repository, "one")
    assert (why["outcome"], why["commit"]) == ("deployed", deployed)
    assert f"{deployed[:12]} went through every stage" in said(here, "why", repository, "one")
    unknown = here.cli("why", repository, "nowhere")
    assert (unknown.returncode, unknown.stdout, unknown.stderr.count("\n")) == (1, "", 1)

    assert said(here, "resync", repository, "--dry-run") == "nothing to do\n"
    assert told(here, "resync", repository, "--wait")[0]["reason"] == "nothing to do"
    here.fault("github", {"webhooks": {"lose": 1.0}})
    copy.branch("lost")
    lost = copy.write("GitHub tells nobody", {})
    copy.push()
    assert [each["action"] for each in told(here, "resync", repository, "--dry-run")] == ["provision"]
    assert said(here, "resync", repository).startswith(f"{repository}: queued as ")
    assert here.settled("refs/heads/lost", lost, repository)["outcome"] == "deployed"


@pytest.mark.usefixtures("deployed")
def test_celery_calls_a_resync(here: Installation, repository: str, copy: WorkingCopy) -> None:
    here.fault("github", {"webhooks": {"lose": 1.0}})
    newer = copy.write("GitHub tells nobody", {})
    copy.push()
    here.heal()
    command = celery("call", "deployer.resync", f'--args=["{repository}"]')
    done = subprocess.run(
        command, cwd=here.directory, env=here.env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert here.settled("refs/heads/one", newer, repository)["outcome"] == "deployed"


def test_dead_letters(here: Installation, repository: str, copy: WorkingCopy) -> None:
    here.settled("staging", copy.head, repository)
    here.fault("aws", {"errors": {"operation": "CreateStack", "status": 500, "count": 60}})
    for name in ("poison", "other"):
        copy.branch(name)
        copy.write(f"On {name}", {"by.txt": name})
        copy.push()
    both = wait_for("both died", lambda: _both(_letters(here, repository)), 90)
    ids = {each["environment"].rpartition("/")[2]: each["id"] for each in both}
    listed = said(here, "dead-letters", "list")
    assert all(identity in listed for identity in ids.values())
    shown = said(here, "dead-letters", "show", ids["poison"])
    assert "attempts     3" in shown
    assert "Traceback (most recent call last)" in shown
    assert told(here, "dead-letters", "show", ids["poison"])["repository"] == repository
    assert ids["poison"] in said(here, "why", repository, "poison")
    assert here.cli("dead-letters", "show", "none").stderr.count("\n") == 1

    here.heal()
    assert said(here, "dead-letters", "discard", ids["other"]) != ""
    replayed = here.cli("dead-letters", "replay", ids["poison"])
    assert replayed.returncode == 0, replayed.stderr
    sha = copy.git("rev-parse", "origin/poison")
    assert here.settled("refs/heads/poison", sha, repository)["outcome"] == "deployed"
    assert _letters(here, repository) == []
    other = here.environment("refs/heads/other", repository)
    assert other is None or other["id"] not in here.stacks()


def _both(letters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return letters if len(letters) == 2 else []


def _letters(here: Installation, repository: str) -> list[dict[str, Any]]:
    found = told(here, "dead-letters", "list")
    return [each for each in found if each["repository"] == repository]


def test_flower_shows_the_tasks_and_no_secret(here: Installation, repository: str, copy: WorkingCopy) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = here.directory / "flower.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            celery("flower", "--address=127.0.0.1", f"--port={port}"),
            cwd=here.directory,
            env={**here.env, "FLOWER_UNAUTHENTICATED_API": "true"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for("Flower answers", lambda: _status(f"http://127.0.0.1:{port}/") == 200, 60)
        copy.branch("watched")
        sha = copy.write("Watched", {})
        copy.push()
        here.settled("refs/heads/watched", sha, repository)

        def tasks() -> str:
            text = call("GET", f"http://127.0.0.1:{port}/api/tasks").text
            done = [each for each in json.loads(text).values() if each["state"] == "SUCCESS"]
            names = {each["name"] for each in done if repository in (each["args"] or "")}
            return text if {"deployer.sync", "deployer.provision"} <= names else ""

        text = wait_for("Flower shows the tasks", tasks, 30)
        assert "went through every stage" in text or "snoozed" in text
        assert not [value for value in SECRETS.values() if value in text or value in log.read_text()]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _status(url: str) -> int:
    try:
        return call("GET", url).status
    except OSError:
        return 0


def _payload(repository: str, sha: str) -> bytes:
    owner, _, name = repository.partition("/")
    return json.dumps(
        {
            "ref": "refs/heads/one",
            "before": "0" * 40,
            "after": sha,
            "created": True,
            "deleted": False,
            "forced": False,
            "repository": {
                "full_name": repository, "name": name, "owner": {"login": owner}, "default_branch": "main"
            },
        }
    ).encode()  # fmt: skip


def _post(here: Installation, body: bytes, secret: str, delivery: str = "", **headers: str) -> Answer:
    signature = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return call(
        "POST",
        f"{here.web}/webhooks/github",
        body,
        {
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": delivery or str(uuid4()),
            "X-Hub-Signature-256": signature,
            **headers,
        },
    )


def test_bad_requests_queue_nothing(here: Installation, repository: str, deployed: str) -> None:
    right = SECRETS["DEPLOYER_GITHUB_WEBHOOK_SECRET"]
    body = _payload(repository, deployed)
    before = len(here.api(f"activity?repository={repository}&limit=100")["activity"])
    old = {"X-Hub-Signature-256": "", "X-Hub-Signature": "sha1=" + "0" * 40}
    tried = {
        "wrong secret": (_post(here, body, "guessed"), 401),
        "SHA-1 only": (_post(here, body, right, **old), 401),
        "truncated": (_post(here, body[:-9], right), 400),
        "an array": (_post(here, b"[]", right), 400),
        "not UTF-8": (_post(here, b'{"a": "\xff"}', right), 400),
        "a field missing": (_post(here, b'{"ref": "refs/heads/one"}', right), 400),
        "a form of its own": (_post(here, body, right, **{"Content-Type": "text/plain"}), 415),
    }
    for what, (answer, status) in tried.items():
        assert (what, answer.status) == (what, status)
        assert answer.json["error"].count("\n") == 0
        assert right not in answer.text
    assert not [lane for lane in here.api("lanes")["lanes"] if lane["repository"] == repository]
    assert len(here.api(f"activity?repository={repository}&limit=100")["activity"]) == before


def test_a_repeated_delivery_runs_once(here: Installation, repository: str, deployed: str) -> None:
    right, delivery = SECRETS["DEPLOYER_GITHUB_WEBHOOK_SECRET"], str(uuid4())
    body = _payload(repository, deployed)
    answers = [_post(here, body, right, delivery).json["outcome"] for _ in range(3)]
    assert answers == ["queued", "duplicate", "duplicate"]
    found = wait_for("it has an outcome", lambda: _outcome(here, delivery), 60)
    assert found == "deployed"
    name = (here.environment("refs/heads/one", repository) or {})["id"]
    assert [each["sha"] for each in here.executions(name)] == [deployed]


def _outcome(here: Installation, delivery: str) -> str:
    found = here.api(f"deliveries/{delivery}")
    return str(found["outcome"]) if found["finished_at"] else ""
