"""Tests of all interfaces: the command line, Celery's commands, Flower, signed and unsigned HTTP."""

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
from installations import SECRETS

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
    here.clear_faults()
    command = celery("call", "deployer.resync", f'--args=["{repository}"]')
    done = subprocess.run(
        command, cwd=here.directory, env=here.env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert here.settled("refs/heads/one", newer, repository)["outcome"] == "deployed"


def test_dead_letters(here: Installation, repository: str, copy: WorkingCopy) -> None:
    here.settled("staging", copy.head, repository)
    right = {"operation": "CreateStack", "error": "AccessDenied", "status": 403, "count": 500}
    here.fault("aws", {"errors": right})
    shas = {}
    for name in ("poison", "other", "again"):
        copy.branch(name)
        shas[name] = copy.write(f"On {name}", {"by.txt": name})
        copy.push()
    found = wait_for("all three died", lambda: _all_of(_letters(here, repository), 3), 90)
    letters = {each["environment"].rpartition("/")[2]: each for each in found}
    ids = {name: letter["id"] for name, letter in letters.items()}
    assert here.api(f"deliveries/{_delivery(letters['again'])}")["outcome"] == "dead-lettered"
    _tells_all(here, letters["poison"])
    _is_warned_of(here, repository, 3)
    listed = said(here, "dead-letters", "list", "--repository", repository, "--kind", "TransientError")
    assert all(identity in listed for identity in ids.values())
    assert ids["poison"] in said(here, "why", repository, "poison")
    assert here.cli("dead-letters", "show", "none").stderr.count("\n") == 1

    here.clear_faults()  # a person fixes the cause
    assert said(here, "dead-letters", "discard", ids["other"]) != ""
    _redeliver(here, repository, _delivery(letters["again"]))
    wait_for("the letter is off the list", lambda: ids["again"] not in _ids(here, repository))
    chosen = ("--all", "--kind", "TransientError", "--repository", repository)
    (replayed,) = told(here, "dead-letters", "replay", *chosen)
    assert replayed["id"] == ids["poison"]
    assert _ids(here, repository) == []
    for name in ("again", "poison"):
        assert here.settled(f"refs/heads/{name}", shas[name], repository)["outcome"] == "deployed"
        wait_for(
            "the delivery has its outcome",
            lambda name=name: _outcome(here, _delivery(letters[name])) == "deployed",
            10,
        )
    assert _ids(here, repository) == []
    _is_warned_of(here, repository, 0)
    other = here.environment("refs/heads/other", repository)
    assert other is None or other["id"] not in here.stacks()


def _tells_all(here: Installation, letter: dict[str, Any]) -> None:
    """A dead letter of three attempts says why, when and where, to the API, the command line and the browser."""
    assert (letter["kind"], letter["task"], letter["work"]["attempts"]) == (
        "TransientError", "deployer.provision", 3
    )  # fmt: skip
    times = [each[name] for each in letter["attempts"] for name in ("began_at", "ended_at")]
    assert (len(times), times) == (6, sorted(times))
    assert {(each["task"], each["error"]) for each in letter["attempts"]} == {
        ("deployer.provision", letter["reason"])
    }
    shown = said(here, "dead-letters", "show", letter["id"])
    assert "attempts     3" in shown
    assert all(each["began_at"] in shown for each in letter["attempts"])
    assert "Traceback (most recent call last)" in shown
    page = call("GET", f"{here.web}/dead-letters/{letter['id']}")
    assert (page.status, "was given up after 3 attempts" in page.text) == (200, True)
    assert all(each["began_at"] in page.text for each in letter["attempts"])
    assert "Traceback" not in page.text


def _is_warned_of(here: Installation, repository: str, count: int) -> None:
    """Check the number of a repository's dead letters in the metrics, and that they cause a warning."""
    metrics = call("GET", f"{here.web}/metrics").text
    assert f'deployer_dead_letters{{kind="TransientError",repository="{repository}"}} {count}.0' in metrics
    ready = call("GET", f"{here.web}/readyz")
    assert ready.status == 200
    warned = here.cli("status", repository).stderr
    if count:
        assert "await a decision, the oldest for" in ready.json["warnings"][0]
        assert warned.startswith(f"{count} dead letters await a decision, the oldest for ")
    else:
        assert warned == ""


def _redeliver(here: Installation, repository: str, delivery: str) -> None:
    """Press GitHub's button."""
    sent = call("GET", f"{here.github}/_sandbox/deliveries?repository={repository}").json
    number = next(each["id"] for each in sent if each["guid"] == delivery)
    assert call("POST", f"{here.github}/{repository}/deliveries/{number}/redeliver", b"").status < 400


def _all_of(letters: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return letters if len(letters) == count else []


def _delivery(letter: dict[str, Any]) -> str:
    """The push that a dead letter is about; events of AWS may have joined it."""
    return str(letter["work"]["deliveries"][0])


def _ids(here: Installation, repository: str) -> list[str]:
    return [each["id"] for each in _letters(here, repository)]


def _letters(here: Installation, repository: str) -> list[dict[str, Any]]:
    return list(here.api(f"dead-letters?repository={repository}")["dead_letters"])


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
        wait_for("Flower answers", lambda: _status(f"http://127.0.0.1:{port}/") == 200)
        copy.branch("watched")
        sha = copy.write("Watched", {})
        copy.push()
        here.settled("refs/heads/watched", sha, repository)

        def tasks() -> str:
            text = call("GET", f"http://127.0.0.1:{port}/api/tasks").text
            done = [each for each in json.loads(text).values() if each["state"] == "SUCCESS"]
            names = {each["name"] for each in done if repository in (each["args"] or "")}
            return text if {"deployer.sync", "deployer.provision"} <= names else ""

        text = wait_for("Flower shows the tasks", tasks)
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
    found = wait_for("it has an outcome", lambda: _outcome(here, delivery))
    assert found == "deployed"
    name = (here.environment("refs/heads/one", repository) or {})["id"]
    assert [each["sha"] for each in here.executions(name)] == [deployed]


def _outcome(here: Installation, delivery: str) -> str:
    found = here.api(f"deliveries/{delivery}")
    return str(found["outcome"]) if found["finished_at"] else ""
