"""`deployer up`: run all programs on this machine."""

import errno
import http.client
import os
import shlex
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from io import StringIO
from pathlib import Path

import click
from dotenv import dotenv_values
from redis.exceptions import BusyLoadingError

from deployer.cli import sandbox_variables
from deployer.cli.installation import REDIS_URL_KEY
from deployer.cli.processes import read_settings, scheduler_command, web_command, web_ports, worker_command
from deployer.local.embedded_redis import prepare
from deployer.local.process_memory import hide_memory
from deployer.local.programs import Program
from deployer.local.supervisor import Supervisor
from deployer.model.errors import ConfigError
from deployer.redis_store.connection import connect
from deployer.redis_store.errors import unavailable
from deployer.settings.iam_fence import unfenced_sentence
from deployer.settings.values import Config
from deployer.wiring import check_redis

_REDIS, _SIMULATORS, _PRODUCT = range(3)
_SET_BY_PEOPLE = "# Variables that you set yourself, or their defaults:\n"
_SET_BY_PEOPLE_0_1_0 = "# What you have set yourself, or what stands in its place:\n"
_MARGIN = 5.0  # seconds added to the time in which a process stops by itself


def run(*, sandbox: bool, to_files: bool) -> int:
    """Run all programs until a signal arrives, and return the exit status.

    Args:
        sandbox: whether to simulate GitHub and AWS.
        to_files: whether to write the programs' logs to files and show people only progress and warnings.

    Raises:
        ConfigError: a setting is missing or malformed, or another process uses a port or the data directory.
        UnavailableError: the Redis of DEPLOYER_REDIS_URL does not answer.
    """
    hide_memory()  # this process has the settings of all programs
    made: dict[str, str] = {}
    set_by_people: Mapping[str, str] = {}
    if sandbox:
        dotenv = {name: value for name, value in dotenv_values(".env").items() if value}
        set_by_people = _variables_set_by_people(sandbox_variables.data_dir(os.environ))
        made = sandbox_variables.make_variables(set_by_people, dotenv)
        sandbox_variables.set_variables(made)
    config = read_settings(web=True, worker=True, asks_redis=False)
    _check_ports(config, made)
    data = Path(config.data_dir)
    if not (embedded := not _variables_set_by_people(data).get("DEPLOYER_REDIS_URL")):
        _check_redis(config)
    programs = []
    try:
        data.mkdir(parents=True, exist_ok=True)
        if not (ignore := data / ".gitignore").exists():
            ignore.write_text("*\n")
        if embedded:
            redis = prepare(data / "redis", with_password=not sandbox)
            os.environ["DEPLOYER_REDIS_URL"] = made["DEPLOYER_REDIS_URL"] = redis.url
            config = replace(config, redis_url=redis.url)
            programs.append(
                Program(
                    "redis", redis.command, _REDIS, 15, redis.is_ready, keep_open=(redis.lock,), log=redis.log
                )
            )
        _write_env(data / "env", made, set_by_people)
    except OSError as error:
        raise ConfigError(
            f"DEPLOYER_DATA_DIR is {data}, which cannot be written ({error.strerror})"
        ) from error
    listening = threading.Event()
    if sandbox:
        programs += _simulator_programs(config, made, data, listening)
    programs += _product_programs(config, made, listening)
    logs = data / "logs" if to_files else None
    supervisor = Supervisor(programs, logs=logs)
    return supervisor.run(lambda: supervisor.console.print_text(_start_banner(config, made, data, logs)))


def _product_programs(config: Config, made: Mapping[str, str], listening: threading.Event) -> list[Program]:
    drain = config.drain_seconds + _MARGIN
    answers = _health_check(_local_host(config), config.web_port, "/readyz")
    github = int(made.get("DEPLOYER_SANDBOX_GITHUB_PORT", 0))

    def is_web_ready() -> bool:
        if not answers():
            return False
        listening.set()
        return not github or sandbox_variables.release_webhooks(github)

    return [
        Program("web", web_command(config), _PRODUCT, drain, ready=is_web_ready),
        Program("worker", worker_command(config), _PRODUCT, drain),
        Program("scheduler", scheduler_command(), _PRODUCT, drain),
    ]


def _simulator_programs(
    config: Config, made: Mapping[str, str], data: Path, listening: threading.Event
) -> list[Program]:
    """The programs of the simulated GitHub and AWS.

    The sample repository exists before the web answers, so that people can clone it as soon as they see its address.
    The simulated GitHub holds the webhooks of all pushes until the web listens.

    Args:
        listening: is set when the web has answered.
    """
    github, aws = (int(made[f"DEPLOYER_SANDBOX_{name}_PORT"]) for name in ("GITHUB", "AWS"))
    webhooks = _web_url(config, config.webhook_port or config.web_port)
    # as variables, because every user of the machine can read command lines; with references resolved
    os.environ["DEPLOYER_GITHUB_WEBHOOK_SECRET"] = ",".join(config.webhook_secrets)
    os.environ["DEPLOYER_AWS_EVENT_KEY"] = config.aws_event_key
    github_answers = _health_check(sandbox_variables.HOST, github, "/_sandbox/health")
    aws_answers = _health_check(sandbox_variables.HOST, aws, "/_sandbox/health")
    return [
        Program(
            "github",
            (
                *(
                    sys.executable,
                    "-m",
                    "sandbox.github",
                    f"--port={github}",
                    f"--data-dir={data / 'github'}",
                    "--no-sample",  # created after the simulator answers, so that a slow disk delays no health check
                    "--hold-webhooks",
                ),
                f"--webhook-url={webhooks}/webhooks/github",
            ),
            _SIMULATORS,
            ready=lambda: (
                github_answers()
                and sandbox_variables.make_sample(github)
                # after a restart of the simulator the web process already listens
                and (not listening.is_set() or sandbox_variables.release_webhooks(github))
            ),
        ),
        Program(
            "aws",
            (
                *(sys.executable, "-m", "sandbox.aws", f"--port={aws}"),
                f"--github-url=http://{sandbox_variables.HOST}:{github}",
                f"--events-url={webhooks}/webhooks/aws",
            ),
            _SIMULATORS,
            # the simulated AWS starts empty, so the product must compare all repositories when it starts
            ready=lambda: (
                aws_answers()
                and sandbox_variables.make_bucket(config.artifact_bucket)
                and sandbox_variables.make_resyncs_due(config)
            ),
        ),
    ]


def _health_check(host: str, port: int, path: str) -> Callable[[], bool]:
    """Make a function that returns whether this address answers 200."""

    def answers_ok() -> bool:
        connection = http.client.HTTPConnection(host, port, timeout=0.5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return answers_ok


def _local_host(config: Config) -> str:
    """The host name under which this machine reaches its own web process."""
    return sandbox_variables.HOST if config.web_host in {"0.0.0.0", "::", ""} else config.web_host  # noqa: S104  only compared


def _web_url(config: Config, port: int) -> str:
    host = _local_host(config)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _check_ports(config: Config, made: Mapping[str, str]) -> None:
    """Refuse a port that is in use before any program starts. All ports are held until all of them are checked."""
    addresses = [(config.web_host, port, name) for name, port in web_ports(config).items()]
    addresses += [
        (sandbox_variables.HOST, int(made[name]), name)
        for name in ("DEPLOYER_SANDBOX_GITHUB_PORT", "DEPLOYER_SANDBOX_AWS_PORT")
        if name in made
    ]
    with ExitStack() as held:
        for host, port, name in addresses:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            probe = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                probe.listen()  # a port that is only bound can be bound a second time
            except OSError as error:
                if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                    text = (
                        f"port {port} of {host} cannot be used ({error.strerror}); set {name} to a free port"
                    )
                else:
                    text = (
                        f"{host} is not an address to listen on ({error.strerror}); correct DEPLOYER_WEB_HOST"
                    )
                raise ConfigError(text) from error


def _check_redis(config: Config) -> None:
    """Check the Redis of DEPLOYER_REDIS_URL, because without it no program would ever become ready."""
    check_redis(config)
    click.get_current_context().meta[REDIS_URL_KEY] = config.shown()["DEPLOYER_REDIS_URL"]
    with connect(config.redis_url) as client, unavailable(), suppress(BusyLoadingError):
        client.ping()


def _write_env(path: Path, made: Mapping[str, str], set_by_people: Mapping[str, str]) -> None:
    """Write the variables that a command in another terminal needs. Those that people set themselves come last."""
    path.touch(mode=0o600, exist_ok=True)
    path.chmod(0o600)
    lines = {name: f"{name}={shlex.quote(value)}\n" for name, value in sorted(made.items())}
    path.write_text(
        f"# Written at every start. To use it: set -a; . {shlex.quote(_typed_path(path))}\n"
        + "".join(line for name, line in lines.items() if not set_by_people.get(name))
        + _SET_BY_PEOPLE
        + "".join(line for name, line in lines.items() if set_by_people.get(name))
    )


def _variables_set_by_people(data: Path) -> dict[str, str]:
    """This process's variables, without those that an earlier `deployer up` wrote into the file `env`.

    People source that file, so its variables come back as if they had set them. Without this rule the address of an
    embedded Redis that has stopped would count as a Redis of their own.
    """
    text = ""
    with suppress(OSError):
        text = (data / "env").read_text()
    own, _, _ = text.replace(_SET_BY_PEOPLE_0_1_0, _SET_BY_PEOPLE).partition(_SET_BY_PEOPLE)
    written = dotenv_values(stream=StringIO(own), interpolate=False)
    return {name: value for name, value in os.environ.items() if written.get(name) != value}


def _typed_command() -> str:
    """This program's name as people type it in this directory."""
    return shlex.quote(_typed_path(Path(sys.argv[0]))) if Path(sys.argv[0]).name == "deployer" else "deployer"


def _typed_path(path: Path) -> str:
    """A path as people type it in this directory."""
    with suppress(ValueError):
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path)


def _start_banner(config: Config, made: Mapping[str, str], data: Path, logs: Path | None) -> str:
    web = f"{_web_url(config, config.web_port)}/"
    rows = [("Dashboard", web)]
    folder = sandbox_variables.SAMPLE.partition("/")[2]
    if "DEPLOYER_SANDBOX_GITHUB_PORT" in made:
        github = f"http://{sandbox_variables.HOST}:{made['DEPLOYER_SANDBOX_GITHUB_PORT']}/"
        rows += [
            ("GitHub, simulated", github),
            ("AWS, simulated", f"{made['AWS_ENDPOINT_URL']}/"),
            ("Redis", config.shown()["DEPLOYER_REDIS_URL"]),
            ("", ""),
            (
                "Try",
                f"git clone {github}{sandbox_variables.SAMPLE}.git && cd {folder}",
            ),
            (
                "",
                "git switch -c my-branch && git commit --allow-empty -m 'Try it' && git push origin my-branch",
            ),
            ("", f"then watch {web}, or the status of the commit at {github}{sandbox_variables.SAMPLE}"),
            ("", ""),
        ]
    else:
        rows.append(("Redis", config.shown()["DEPLOYER_REDIS_URL"]))
    if made:
        rows.append(
            (
                "Command line",
                f"set -a; . {shlex.quote(_typed_path(data / 'env'))}; set +a; {_typed_command()} status",
            )
        )
    if gaps := config.missing_fence_settings:
        rows.append(("Not protected", f"{unfenced_sentence(gaps)}; see docs/aws.md"))
    if logs:
        rows.append(("Logs", f"{_typed_path(logs)}/*.log, emptied at each start"))
    rows.append(("Stop", "Ctrl-C"))
    lines = "".join(f"  {name:<18} {value}".rstrip() + "\n" for name, value in rows)
    return f"\n  deployer is ready\n\n{lines}\n"
