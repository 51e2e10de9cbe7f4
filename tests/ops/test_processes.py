"""Tests of `deployer web`, `worker` and `scheduler` as separate processes, also without Redis."""

import hmac
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner
from ops_kit import CELERY, WEB, WORKER, Process, Refusal, answer, aws_settings, deployer, ended, gone
from ops_kit import SECRET as HOOK
from redis.backoff import NoBackoff
from redis.retry import Retry

from deployer.cli import main, processes
from deployer.local.embedded_redis import EmbeddedRedis, prepare
from deployer.queue.store import Dispatch
from deployer.redis_store.celery_dispatch import CeleryDispatcher, make_celery
from deployer.redis_store.connection import connect
from deployer.settings.loading import load_config
from sandbox.installation import Answer, call, descendants, free_port, wait_for

Start = Callable[..., Process]
API = "the-api-token-of-this-test"
TOKEN = "deployer: DEPLOYER_GITHUB_TOKEN is not set; it is the token for GitHub's API; a GitHub App can replace it\n"
SECRET = (
    "deployer: DEPLOYER_GITHUB_WEBHOOK_SECRET is not set;"
    " it is the secret of the GitHub webhook; several separated by commas\n"
)
NO_FENCE = (
    "deployer: DEPLOYER_TARGETS: development has no service_role and development has no permissions_boundary,"
    " so whoever may push a branch can use rights in AWS that are not meant for branches;"
    " make them with infra/target.yml and name them in DEPLOYER_TARGETS (docs/aws.md),"
    " or set DEPLOYER_UNFENCED=yes to run without this protection\n"
)
LEASE = "deployer: DEPLOYER_LEASE_SECONDS is 'soon'; it must be a number from 1 to 3600\n"
KEY = (
    "deployer: DEPLOYER_GITHUB_APP_PRIVATE_KEY is not the private key (PEM) of a GitHub App;"
    " set it to the content of the key file from the App's settings\n"
)
ADDRESS = (
    "deployer: DEPLOYER_REDIS_URL is not a redis://, rediss://, unix:// or sentinel:// URL;"
    " write / ? # @ % : in a user or password encoded, as %2F\n"
)
OPTION = (
    "deployer: DEPLOYER_REDIS_URL has the option protocol, which is not supported;"
    " remove it: only db, username, password are\n"
)


@pytest.mark.parametrize(("command", "line"), [("web", SECRET), ("worker", TOKEN)])
def test_a_missing_setting(refusal: Refusal, command: str, line: str) -> None:
    assert refusal(command, {}) == line


@pytest.mark.parametrize(
    ("command", "line"),
    [(deployer("web"), SECRET), ([*CELERY, "worker"], TOKEN)],
    ids=["deployer web", "celery worker"],
)
def test_a_missing_setting_ends_the_real_process(tmp_path: Path, command: list[str], line: str) -> None:
    assert ended(tmp_path, command, {}) == (1, "", line)


@pytest.mark.parametrize(("command", "settings"), [("web", WEB), ("worker", WORKER), ("scheduler", WORKER)])
def test_a_malformed_setting(refusal: Refusal, command: str, settings: dict[str, str]) -> None:
    assert refusal(command, {**settings, "DEPLOYER_LEASE_SECONDS": "soon"}) == LEASE


def test_a_malformed_setting_ends_the_real_process(tmp_path: Path) -> None:
    settings = {**WORKER, "DEPLOYER_LEASE_SECONDS": "soon"}
    assert ended(tmp_path, [*CELERY, "worker"], settings) == (1, "", LEASE)


@pytest.mark.parametrize(
    ("url", "line"),
    [("redis://:hunter2@127.0.0.1:many/0", ADDRESS), ("redis://h/0?protocol=3", OPTION)],
)
@pytest.mark.parametrize("command", ["web", "worker", "scheduler", "up", "status", "config"])
def test_a_malformed_address_of_redis(refusal: Refusal, command: str, url: str, line: str) -> None:
    assert refusal(command, {**WEB, **WORKER, "DEPLOYER_REDIS_URL": url}) == line


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("AWS_PROFILE", "nobody", "AWS_PROFILE: The config profile (nobody) could not be found"),
        ("AWS_ENDPOINT_URL", "nowhere", "AWS_ENDPOINT_URL: Invalid endpoint: nowhere"),
        (
            "AWS_REGION",
            "no region",
            "AWS_REGION: Provided region_name 'no region' doesn't match a supported format.",
        ),
    ],
)
def test_a_malformed_setting_of_aws(refusal: Refusal, name: str, value: str, line: str) -> None:
    settings = {key: told for key, told in WORKER.items() if key != "AWS_DEFAULT_REGION"}
    assert refusal("worker", {**settings, name: value}) == f"deployer: {line}\n"


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_of_this_machine(refusal: Refusal, host: str) -> None:
    said = refusal("web", {**WEB, "DEPLOYER_WEB_HOST": host})
    assert said.startswith(f"deployer: {host} is not an address to listen on (")
    assert said.endswith("); correct DEPLOYER_WEB_HOST\n")


def test_a_malformed_private_key_stops_the_start(refusal: Refusal) -> None:
    key = {"DEPLOYER_GITHUB_APP_ID": "1", "DEPLOYER_GITHUB_APP_PRIVATE_KEY": "/path/to/key.pem"}
    assert refusal("worker", {**WORKER, **key}) == KEY


def test_a_malformed_private_key_ends_celery(tmp_path: Path) -> None:
    key = {"DEPLOYER_GITHUB_APP_ID": "1", "DEPLOYER_GITHUB_APP_PRIVATE_KEY": "/path/to/key.pem"}
    assert ended(tmp_path, [*CELERY, "worker"], {**WORKER, **key}) == (1, "", KEY)


UNFENCED = {name: value for name, value in WORKER.items() if name != "DEPLOYER_UNFENCED"}
ON_THIS_MACHINE = {"AWS_ENDPOINT_URL": "http://127.0.0.1:8082"}  # so has a tunnel to the real AWS


@pytest.mark.parametrize("more", [{}, ON_THIS_MACHINE], ids=["AWS", "an address of this machine"])
@pytest.mark.parametrize("command", ["worker", "scheduler", "up"])
def test_nothing_that_acts_on_aws_starts_without_the_fence(
    refusal: Refusal, command: str, more: dict[str, str]
) -> None:
    assert refusal(command, {**WEB, **UNFENCED, **more}) == NO_FENCE


@pytest.mark.parametrize(
    "command",
    [[*CELERY, "worker"], [sys.executable, "-m", "workers.scheduler"]],
    ids=["celery worker", "python -m workers.scheduler"],
)
def test_without_the_fence_the_real_process_ends(tmp_path: Path, command: list[str]) -> None:
    assert ended(tmp_path, command, UNFENCED) == (1, "", NO_FENCE)


@pytest.mark.parametrize("command", ["worker", "scheduler"])
def test_the_sandbox_needs_an_aws_on_this_machine(refusal: Refusal, command: str) -> None:
    sandbox = {"DEPLOYER_SANDBOX": "yes", "DEPLOYER_GITHUB_API_URL": "http://127.0.0.1:8081/api/v3"}
    said = "deployer: DEPLOYER_SANDBOX is yes, but AWS_ENDPOINT_URL is not on this machine\n"
    assert refusal(command, {**UNFENCED, **sandbox}) == said
    elsewhere = {**ON_THIS_MACHINE, "AWS_ENDPOINT_URL_CLOUDFORMATION": "https://cloudformation.example"}
    assert refusal(command, {**UNFENCED, **sandbox, **elsewhere}) == said


@pytest.mark.parametrize("command", ["web", "up"])
@pytest.mark.parametrize(
    "name", ["DEPLOYER_API_TOKEN", "DEPLOYER_AWS_EVENT_KEY", "DEPLOYER_GITHUB_WEBHOOK_SECRET"]
)
def test_a_secret_that_can_be_guessed(refusal: Refusal, command: str, name: str) -> None:
    said = refusal(command, {**WEB, **WORKER, name: "sandbox"})
    assert said.startswith(f"deployer: {name} is too easy to guess")
    assert said.count("\n") == 1


def test_a_secret_that_can_be_guessed_ends_the_served_application(tmp_path: Path) -> None:
    code, out, err = ended(
        tmp_path, [sys.executable, "-c", "import web.wsgi"], {**WEB, "DEPLOYER_API_TOKEN": "sandbox"}
    )
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert err.startswith("deployer: DEPLOYER_API_TOKEN is too easy to guess")


def test_settings_kept_in_aws_are_read_before_they_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {"ssm:/redis": "redis://kept.example:6379/0", "secretsmanager:allowed": "acme/*"}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("deployer.wiring.read_secret", kept.__getitem__)
    started: list[list[str]] = []
    monkeypatch.setattr(processes, "_replace_process", started.append)
    for name, value in {**WEB, "DEPLOYER_REDIS_URL": "ssm:/redis"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DEPLOYER_REPOSITORIES", "secretsmanager:allowed")
    result = CliRunner().invoke(main, ["web"])
    assert (result.output, result.exit_code) == ("", 0)
    assert "web.wsgi:app" in started[0]
    assert "kept.example" not in str(started)


@pytest.mark.parametrize(
    ("settings", "given"),
    [
        ({}, ["--bind=127.0.0.1:8080", "--workers=1"]),
        (
            {"DEPLOYER_WEB_HOST": "::1", "DEPLOYER_WEBHOOK_PORT": "8090", "DEPLOYER_WEB_PROCESSES": "2"},
            ["--bind=[::1]:8080", "--bind=[::1]:8090", "--workers=2"],
        ),
    ],
)
def test_where_and_in_how_many_processes_the_web_is_served(
    settings: dict[str, str], given: list[str]
) -> None:
    command = processes.web_command(load_config(settings))
    assert [each for each in command if each.startswith(("--bind", "--workers"))] == given


def test_a_setting_that_aws_does_not_give(refusal: Refusal) -> None:
    settings = {
        **WORKER,
        "DEPLOYER_REDIS_URL": "ssm:/redis",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    assert refusal("worker", settings) == (
        "deployer: DEPLOYER_REDIS_URL: reading ssm:/redis: EndpointConnectionError; "
        "check the name, the region and the IAM permissions\n"
    )


def push(web: str, name: str = "hello") -> Answer:
    """A delivery as GitHub sends it."""
    commit = {"ref": "refs/heads/main", "before": "a" * 40, "after": "b" * 40, "deleted": False}
    owner = {"login": "acme", "name": "acme"}
    repository = {"full_name": f"acme/{name}", "name": name, "default_branch": "main", "owner": owner}
    body = json.dumps({**commit, "repository": repository}).encode()
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": f"5e5b2b40-0000-11ef-8000-{name}",
        "X-Hub-Signature-256": f"sha256={hmac.new(HOOK.encode(), body, 'sha256').hexdigest()}",
    }
    return call("POST", f"{web}/webhooks/github", body, headers)


class Away:
    """A Redis that is not there yet, and can come and go."""

    def __init__(self, directory: Path) -> None:
        self.prepared: EmbeddedRedis = prepare(directory)
        self.process: subprocess.Popen[bytes] | None = None
        self.client = redis.Redis(
            port=self.prepared.port,
            password=self.prepared.password,
            retry=Retry(NoBackoff(), 0),
        )

    def comes(self) -> None:
        self.process = subprocess.Popen(self.prepared.command)
        wait_for("Redis is ready", self.prepared.is_ready)

    def goes(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Away]:
    made = Away(tmp_path / "redis")
    yield made
    made.goes()
    made.client.close()
    os.close(made.prepared.lock)


def test_processes_survive_a_late_and_an_interrupted_redis(start: Start, tmp_path: Path, away: Away) -> None:
    port = free_port()
    web_at = f"http://127.0.0.1:{port}"
    settings = {
        **WEB,
        **WORKER,
        "DEPLOYER_REDIS_URL": away.prepared.url,
        "DEPLOYER_WEB_PORT": str(port),
        "DEPLOYER_API_TOKEN": API,
    }
    web, worker, scheduler = (
        start(deployer(name), settings, directory=tmp_path / name) for name in ("web", "worker", "scheduler")
    )
    everyone = (web, worker, scheduler)

    def ready(status: int) -> bool:
        found = answer(f"{web_at}/readyz")
        return found is not None and found.status == status

    wait_for("the web says that it is not ready", lambda: ready(503))
    assert call("GET", f"{web_at}/healthz").status == 200
    assert call("GET", f"{web_at}/readyz").json == {"status": "not ready"}, "strangers are told no more"
    parts = call("GET", f"{web_at}/readyz", headers={"Authorization": f"Bearer {API}"}).json["parts"]
    assert parts["redis"].startswith("Redis does not answer (")
    found = push(web_at)
    assert (found.status, "Retry-After" in found.headers) == (503, True)
    web.says("POST /webhooks/github: 503 Redis does not answer (")
    scheduler.says("Redis does not answer (ConnectionError); waiting for it to return", 30)
    worker.says(f"Cannot connect to redis://:**@127.0.0.1:{away.prepared.port}/0", 30)

    away.comes()
    wait_for("the web is ready", lambda: ready(200))
    scheduler.says("Redis is back", 30)
    app = make_celery(away.prepared.url)
    queue = CeleryDispatcher(app, away.client)
    queue.send(Dispatch("acme/hello", "staging", "deployer.sync", 7))
    worker.says("deployer.sync of acme/hello: its token is not the current one", 40)

    away.goes()
    wait_for("the web is not ready", lambda: ready(503))
    wait_for("the scheduler notices", lambda: scheduler.output.count("waiting for it to return") == 2)
    wait_for("the worker notices", lambda: "Connection to broker lost" in worker.output)
    assert [each.popen.poll() for each in everyone] == [None, None, None]

    away.comes()
    wait_for("the web is ready again", lambda: ready(200))
    wait_for("the scheduler goes on", lambda: scheduler.output.count("Redis is back") == 2)
    queue.send(Dispatch("acme/api", "staging", "deployer.sync", 7))
    worker.says("deployer.sync of acme/api: its token is not the current one", 40)
    app.close()

    for each in everyone:
        each.send(signal.SIGTERM)
    assert [each.ends(8) for each in everyone] == [0, 0, 0]
    for each in everyone:
        assert away.prepared.password not in each.output


def test_each_process_stops_at_once_without_redis(start: Start, tmp_path: Path, away: Away) -> None:
    settings = {
        **WEB,
        **WORKER,
        "DEPLOYER_REDIS_URL": away.prepared.url,
        "DEPLOYER_WEB_PORT": str(free_port()),
    }
    web, worker, scheduler = (
        start(deployer(name), settings, directory=tmp_path / name) for name in ("web", "worker", "scheduler")
    )
    scheduler.says("waiting for it to return", 30)
    worker.says("Cannot connect to", 30)
    wait_for(
        "the web answers", lambda: answer(f"http://127.0.0.1:{settings['DEPLOYER_WEB_PORT']}/healthz"), 30
    )
    for each in (web, worker, scheduler):
        each.send(signal.SIGTERM)
    assert [each.ends(8) for each in (web, worker, scheduler)] == [0, 0, 0]


GOES_BETWEEN = """
from workers import consumer

class Ended(Exception): pass

def asked_to_end(): raise Ended

consumer.deployer.lanes.ping = lambda: None  # Redis was there a moment ago
consumer.maybe_shutdown = asked_to_end
waiting = object.__new__(consumer.Consumer)
try:
    waiting.ensure_connected(consumer.deployer.celery.connection_for_read())
except Ended:
    print("it waits")

class Heart:
    def send_command(self, _): pass
    def read_response(self): raise consumer.redis.ResponseError("MISCONF it cannot save")

try:
    consumer._ping(Heart())
except consumer.deployer.celery.connection_for_read().connection_errors as lost:
    print("it is lost:", lost)
"""


def test_a_worker_outlives_a_redis_that_goes_while_it_connects(tmp_path: Path) -> None:
    settings = {**WORKER, "DEPLOYER_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    code, out, err = ended(tmp_path, [sys.executable, "-c", GOES_BETWEEN], settings)
    assert (code, out) == (0, "it waits\nit is lost: MISCONF it cannot save\n"), err
    assert "waiting for it to return" in err


@pytest.fixture
def github() -> Iterator[socket.socket]:
    """A GitHub that takes calls and answers none."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.settimeout(30)
        yield listening


def test_a_worker_that_must_end_hands_its_task_to_the_next_one(
    start: Start, tmp_path: Path, away: Away, github: socket.socket, aws: str
) -> None:
    away.comes()
    web_at, drain = free_port(), 4.0
    settings = {
        **WEB,
        **WORKER,
        "DEPLOYER_REDIS_URL": away.prepared.url,
        "DEPLOYER_WEB_PORT": str(web_at),
        "DEPLOYER_DRAIN_SECONDS": str(drain),
        "DEPLOYER_LEASE_SECONDS": "3600",  # what is not handed back stays where it is
        "DEPLOYER_GRACE_SECONDS": "600",
        "DEPLOYER_GITHUB_API_URL": f"http://127.0.0.1:{github.getsockname()[1]}",
        "DEPLOYER_GITHUB_TOKEN": "sandbox",
        **aws_settings(aws),
    }
    web, worker = (start(deployer(name), settings, directory=tmp_path / name) for name in ("web", "worker"))
    wait_for("the web is ready", lambda: answer(f"http://127.0.0.1:{web_at}/healthz"))
    with ExitStack() as open_:
        client = open_.enter_context(connect(away.prepared.url))

        def held() -> list[tuple[str, int]]:
            """Who of the two is given to a worker, and at which attempt."""
            states = [client.hgetall(f"deployer:{{acme/{name}}}:state") for name in ("hello", "api")]
            return [
                (each["status"], json.loads(each["current"] or "{}").get("attempts", 0)) for each in states
            ]  # type: ignore[index]

        assert push(f"http://127.0.0.1:{web_at}").status == 202
        open_.enter_context(github.accept()[0])
        assert push(f"http://127.0.0.1:{web_at}", "api").status == 202
        worker.says("deployer.sync[", 20)
        wait_for("the other message is taken too", lambda: worker.output.count("] received") == 2)
        assert held() == [("running", 1), ("sent", 0)], "it has one process"
        family = descendants(worker.pid)
        successor = start(
            deployer("worker"), {**settings, "DEPLOYER_CONCURRENCY": "2"}, directory=tmp_path / "successor"
        )
        asked = time.monotonic()
        worker.send(signal.SIGTERM)
        assert worker.ends(8) == 0
        assert time.monotonic() - asked < drain + 1, "and a busy machine takes its time"
        gone(family)
        assert "was interrupted and handed back" in worker.output
        for _ in range(2):  # the successor asks what the first one asked, and begins what that did not
            open_.enter_context(github.accept()[0])
        assert held() == [("running", 1)] * 2
        successor.send(signal.SIGTERM)
        assert successor.ends(8) == 0
        assert held() == [("sent", 0)] * 2
    web.send(signal.SIGTERM)
    assert web.ends(8) == 0
