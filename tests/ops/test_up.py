"""Tests of `deployer up`: errors at its start, and the environment that it creates."""

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner
from dotenv import dotenv_values
from ops_kit import WEB, WORKER, Process, answer, deployer, environment, gone

from deployer.cli import main, sandbox_variables
from deployer.local.embedded_redis import prepare
from deployer.local.supervisor import Supervisor
from sandbox.installation import command_of, descendants, free_port, wait_for

Start = Callable[..., Process]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody else listens."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield int(other.getsockname()[1])


def ports() -> dict[str, str]:
    names = ("DEPLOYER_WEB_PORT", "DEPLOYER_SANDBOX_GITHUB_PORT", "DEPLOYER_SANDBOX_AWS_PORT")
    return {name: str(free_port()) for name in names}


Refusal = Callable[..., str]


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refusal:
    """What `deployer up` says when it ends at once, having started and prepared nothing."""

    def run(*options: str, **settings: str) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(os, "environ", environment(ports(), settings))
        monkeypatch.setattr(Supervisor, "run", lambda *_: pytest.fail("it started"))
        result = CliRunner().invoke(main, ["up", *options])
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        # the sandbox's own AWS settings may be written; no Redis is prepared
        assert {path.name for path in tmp_path.rglob("*")} <= {"file", ".sandbox", "aws-config"}
        return result.stderr

    return run


def test_a_port_in_use_leaves_nothing_behind(start: Start, tmp_path: Path, taken: int) -> None:
    process = start(deployer("up", "--sandbox"), ports(), {"DEPLOYER_WEB_PORT": str(taken)})
    assert process.ends() == 1
    assert process.output == (
        f"deployer: port {taken} of 127.0.0.1 cannot be used (Address already in use);"
        " set DEPLOYER_WEB_PORT to a free port\n"
    )
    assert {path.name for path in tmp_path.rglob("*")} == {"output", ".sandbox", "aws-config"}


@pytest.mark.parametrize(
    "name",
    [
        "DEPLOYER_WEB_PORT",
        "DEPLOYER_WEBHOOK_PORT",
        "DEPLOYER_SANDBOX_GITHUB_PORT",
        "DEPLOYER_SANDBOX_AWS_PORT",
    ],
)
def test_a_port_in_use(refusal: Refusal, taken: int, name: str) -> None:
    assert refusal("--sandbox", **{name: str(taken)}) == (
        f"deployer: port {taken} of 127.0.0.1 cannot be used (Address already in use);"
        f" set {name} to a free port\n"
    )


def test_two_programs_with_one_port_are_refused(refusal: Refusal) -> None:
    port = str(free_port())
    settings = {"DEPLOYER_SANDBOX_GITHUB_PORT": port, "DEPLOYER_SANDBOX_AWS_PORT": port}
    assert refusal("--sandbox", **settings) == (
        f"deployer: port {port} of 127.0.0.1 cannot be used (Address already in use);"
        " set DEPLOYER_SANDBOX_AWS_PORT to a free port\n"
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_of_this_machine(refusal: Refusal, host: str) -> None:
    said = refusal("--sandbox", DEPLOYER_WEB_HOST=host)
    assert said.startswith(f"deployer: {host} is not an address to listen on (")
    assert said.endswith("); correct DEPLOYER_WEB_HOST\n")


@pytest.mark.parametrize("text", ["http", "0", "65536", "-1", "80.5"])
def test_a_malformed_port(text: str) -> None:
    with pytest.raises(sandbox_variables.ConfigError) as raised:
        sandbox_variables.read_ports({"DEPLOYER_SANDBOX_AWS_PORT": text})
    assert str(raised.value) == (f"DEPLOYER_SANDBOX_AWS_PORT is {text!r}; it must be a port from 1 to 65535")


def test_a_malformed_port_of_the_web(refusal: Refusal) -> None:
    said = refusal("--sandbox", DEPLOYER_WEB_PORT="eighty")
    assert said == "deployer: DEPLOYER_WEB_PORT is 'eighty'; it must be a port from 1 to 65535\n"


def test_a_missing_setting(refusal: Refusal) -> None:
    assert refusal(**WEB, DEPLOYER_GITHUB_TOKEN="token") == (
        "deployer: DEPLOYER_ARTIFACT_BUCKET is not set; it is the S3 bucket for templates and artifacts\n"
    )


def test_a_directory_that_cannot_be_made(refusal: Refusal, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = refusal(**WEB, **WORKER, DEPLOYER_DATA_DIR="file/data")
    assert said == "deployer: DEPLOYER_DATA_DIR is file/data, which cannot be written (Not a directory)\n"


def test_a_configured_redis_that_does_not_answer_is_reported(refusal: Refusal) -> None:
    port = free_port()
    assert refusal("--sandbox", DEPLOYER_REDIS_URL=f"redis://:secret@127.0.0.1:{port}/0") == (
        "deployer: Redis does not answer (ConnectionError);"
        f" start Redis at 127.0.0.1:{port}, or correct DEPLOYER_REDIS_URL\n"
    )


def family(process: Process) -> dict[str, int]:
    """The processes of an installation by their program, those that programs started left out."""
    words = {
        "redis": "-server 127.0.0.1:",
        "web": "gunicorn",
        "worker": "celery",
        "scheduler": "workers.scheduler",
    }
    found: dict[str, int] = {}
    for pid in descendants(process.pid):
        for name, word in words.items():
            if word in command_of(pid):
                found.setdefault(name, pid)
    return found


def test_it_embeds_a_redis_that_keeps_its_data(start: Start, tmp_path: Path) -> None:
    data = tmp_path / "kept"
    data.mkdir()
    (data / "env").touch(mode=0o644)
    own_ports = ports()
    process = start(deployer("up"), own_ports, WEB, WORKER, {"DEPLOYER_DATA_DIR": "kept"})
    process.says("deployer is ready", 40)
    everyone = descendants(process.pid)

    url = str(dotenv_values(data / "env")["DEPLOYER_REDIS_URL"])
    assert stat.S_IMODE((data / "env").stat().st_mode) == 0o600
    assert (data / ".gitignore").read_text() == "*\n"
    assert f"http://127.0.0.1:{own_ports['DEPLOYER_WEB_PORT']}/" in process.output
    assert "set -a; . kept/env; set +a; deployer status" in process.output
    assert f"  Redis              redis://:********@{url.partition('@')[2]}\n" in process.output
    password = url.partition("@")[0].rpartition(":")[2]
    assert len(password) >= 32
    assert password not in process.output
    assert not any(password in command_of(pid) for pid in everyone)
    with redis.Redis.from_url(url) as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        client.set("kept", "1")
    assert (data / "redis" / "appendonlydir").is_dir()

    before = family(process)
    assert set(before) == {"redis", "web", "worker", "scheduler"}
    for name in ("redis", "worker"):
        os.kill(before[name], signal.SIGKILL)
    process.says("redis is back")
    process.says("worker is back")
    with redis.Redis.from_url(url) as client:
        assert client.get("kept") == b"1"
    ready = f"http://127.0.0.1:{own_ports['DEPLOYER_WEB_PORT']}/readyz"
    wait_for("the web is ready", lambda: (found := answer(ready)) and found.status == 200)

    everyone += descendants(process.pid)
    process.send(signal.SIGINT)
    assert process.ends() == 0
    gone(everyone)


def test_it_uses_the_redis_and_the_address_that_are_set(start: Start, tmp_path: Path) -> None:
    server = prepare(tmp_path / "elsewhere")
    start(server.command, directory=tmp_path / "elsewhere")
    wait_for("Redis is ready", server.is_ready)
    (tmp_path / ".gitignore").write_text("build/\n")
    settings = {"DEPLOYER_REDIS_URL": server.url, "DEPLOYER_WEB_HOST": "::1", "DEPLOYER_DATA_DIR": "."}
    process = start(deployer("up"), ports(), WEB, WORKER, settings)
    process.says("deployer is ready", 40)
    process.says("  Dashboard          http://[::1]:")
    process.says(f"  Redis              redis://:********@127.0.0.1:{server.port}/0\n")
    assert server.password not in process.output + (tmp_path / "env").read_text()
    assert "redis" not in family(process)
    assert not (tmp_path / "redis").exists()
    assert (tmp_path / ".gitignore").read_text() == "build/\n"
    process.send(signal.SIGTERM)
    assert process.ends() == 0
    os.close(server.lock)


# --- the sandbox reaches nothing but itself


def test_the_sandbox_takes_no_other_system_from_a_file() -> None:
    dotenv = {
        "DEPLOYER_GITHUB_TOKEN": "real",
        "DEPLOYER_GITHUB_API_URL": "https://api.github.com",
        "DEPLOYER_REDIS_URL": "redis://real:6379",
        "DEPLOYER_WEB_PORT": "1234",
    }
    made = sandbox_variables.make_variables({}, dotenv)
    assert made["DEPLOYER_GITHUB_TOKEN"] == "sandbox"
    assert made["DEPLOYER_GITHUB_API_URL"] == "http://127.0.0.1:8081/api/v3"
    assert made["DEPLOYER_REDIS_URL"] == ""
    assert made["DEPLOYER_WEB_PORT"] == "1234"


def test_the_sandbox_uses_variables_from_the_shell() -> None:
    made = sandbox_variables.make_variables(
        {"DEPLOYER_REDIS_URL": "redis://mine:1", "DEPLOYER_API_TOKEN": "mine"}, {}
    )
    assert (made["DEPLOYER_REDIS_URL"], made["DEPLOYER_API_TOKEN"]) == ("redis://mine:1", "mine")


Started = Callable[..., dict[str, str]]


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    """Prepare the sandbox without starting it, and return the variables in its file for another terminal."""

    def run(**settings: str) -> dict[str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(os, "environ", environment(settings))
        monkeypatch.setattr(Supervisor, "run", lambda *_: 0)
        monkeypatch.setattr("deployer.cli.up._check_ports", lambda *_: None)
        result = CliRunner().invoke(main, ["up", "--sandbox"])
        for lock in tmp_path.rglob("redis/lock"):  # the process that would free it at its end goes on
            lock.unlink()
        assert result.exit_code == 0, result.output
        return {name: value or "" for name, value in dotenv_values(".sandbox/env", interpolate=False).items()}

    return run


def test_variables_from_the_env_file_do_not_count_as_set_by_people(started: Started, tmp_path: Path) -> None:
    told = started()
    assert started(**told) == told
    (tmp_path / ".env").write_text("DEPLOYER_WEB_PORT=1234\n")
    again = started(**{**told, "DEPLOYER_SANDBOX_GITHUB_PORT": "1235"})
    changed = {name: value for name, value in again.items() if value != told[name]}
    assert changed == {
        "DEPLOYER_GITHUB_API_URL": "http://127.0.0.1:1235/api/v3",
        "DEPLOYER_PUBLIC_URL": "http://127.0.0.1:1234",
        "DEPLOYER_SANDBOX_GITHUB_PORT": "1235",
        "DEPLOYER_WEB_PORT": "1234",
    }


@pytest.mark.parametrize("version", ["0.1.0", "this one"])
def test_a_value_that_people_set_is_used_at_every_start(
    started: Started, redis_url: str, tmp_path: Path, version: str
) -> None:
    set_by_people = {
        "DEPLOYER_REDIS_URL": redis_url,
        "DEPLOYER_API_TOKEN": "mine",
        "DEPLOYER_WEB_PORT": "1234",
    }
    variables = started(**set_by_people)
    assert {name: variables[name] for name in set_by_people} == set_by_people
    if version == "0.1.0":
        file = tmp_path / ".sandbox" / "env"
        heading = "# What you have set yourself, or what stands in its place:"
        changed = file.read_text().replace("# Variables that you set yourself, or their defaults:", heading)
        assert heading in changed
        file.write_text(changed)
    assert started(**set_by_people) == started(**variables) == variables


REAL_ACCOUNT = {
    "AWS_PROFILE": "production",
    "AWS_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "AKIAREAL",
    "AWS_ENDPOINT_URL_S3": "https://s3.real.example",
    "AWS_ENDPOINT_URL_CLOUDFORMATION": "https://cloudformation.real.example",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
}
SHOW_ENDPOINTS = """
import boto3
from deployer.settings.dotenv import read_environment
read_environment()
for name in ("s3", "cloudformation", "codepipeline", "ssm"):
    client = boto3.client(name)
    print(client.meta.endpoint_url, client.meta.region_name, client._request_signer._credentials.access_key)
"""


@pytest.mark.parametrize("where", ["shell", "file"])
def test_settings_of_a_real_account_are_not_used_in_the_sandbox(tmp_path: Path, where: str) -> None:
    shell = REAL_ACCOUNT if where == "shell" else {}
    dotenv = REAL_ACCOUNT if where == "file" else {}
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in dotenv.items()))
    apply = (
        "import os; from dotenv import dotenv_values; from deployer.cli import sandbox_variables;"
        "sandbox_variables.set_variables(sandbox_variables.make_variables(os.environ, dotenv_values('.env')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", apply + SHOW_ENDPOINTS],
        cwd=tmp_path, env=environment(shell), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["http://127.0.0.1:8082 us-east-1 sandbox"] * 4
