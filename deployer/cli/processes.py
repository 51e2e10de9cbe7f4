"""The commands that run deployer's processes: `web`, `worker`, `scheduler`, `up`.

The packages `web` and `workers` import this layer, so their processes are started as programs and never imported here.
"""

import os
import socket
import sys
import uuid
from collections.abc import Sequence
from typing import NoReturn

import click

from deployer.model.errors import ConfigError
from deployer.settings.loading import REQUIRED_FOR_WEB, require_settings
from deployer.settings.startup import check_secrets
from deployer.settings.values import Config


@click.command()
def web() -> None:
    """Run the web process: webhooks, API, dashboard."""
    config = read_settings(web=True)
    _check_host(config.web_host)
    _replace_process(web_command(config))


@click.command()
def worker() -> None:
    """Run a Celery worker, which runs the tasks."""
    _replace_process(worker_command(read_settings(worker=True)))


@click.command()
def scheduler() -> None:
    """Run the scheduler: retries, lost dispatches, regular resyncs."""
    read_settings(scheduler=True)
    _replace_process(scheduler_command())


@click.command()
@click.option("--sandbox", is_flag=True, help="Simulate GitHub and AWS, with a sample repository.")
@click.option(
    "--log-to",
    type=click.Choice(["files", "stdout"]),
    help="Where the programs write their logs. With files, the terminal shows each push, state, result and "
    "warning in a line. The default is files at a terminal and in the sandbox, else stdout, as systemd expects it.",
)
def up(*, sandbox: bool, log_to: str | None) -> None:
    """Run all processes on this machine, with an embedded Redis unless DEPLOYER_REDIS_URL is set.

    \b
    Ctrl-C stops all of them; queued work is kept for the next start.
    """
    from deployer.cli.up import run  # noqa: PLC0415  # it imports boto3 and redis, which would delay `--help`

    to_files = log_to == "files" if log_to else sandbox or sys.stdout.isatty()
    sys.exit(run(sandbox=sandbox, to_files=to_files))


def read_settings(
    *, web: bool = False, worker: bool = False, scheduler: bool = False, asks_redis: bool = True
) -> Config:
    """Read the settings and check them before a process is started.

    Args:
        web: whether a web process will start; it needs its secrets.
        worker: whether a worker will start; it needs GitHub, AWS and the limits in IAM.
        scheduler: whether a scheduler will start; it lists the stacks in AWS.
        asks_redis: whether to check Redis now; `up` may have to start Redis first.

    Raises:
        ConfigError: a setting is missing, malformed or not allowed.
    """
    # imported here, because it imports boto3, Celery and requests
    from deployer.wiring import build, check_aws, check_redis, check_worker  # noqa: PLC0415

    deployer = build()
    config = deployer.config
    if web:
        require_settings(config, *REQUIRED_FOR_WEB)
        check_secrets(config)
    if worker:
        check_worker(deployer)
    elif scheduler:
        check_aws(config)
    if asks_redis:
        check_redis(config)
    return config


def _check_host(host: str) -> None:
    """Refuse a host that gunicorn cannot bind. The port is not checked: a process that is ending may still have it."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            text = f"{host} is not an address to listen on ({error.strerror}); correct DEPLOYER_WEB_HOST"
            raise ConfigError(text) from error


def web_ports(config: Config) -> dict[str, int]:
    """Return the ports of the web process, by the setting of each."""
    ports = {"DEPLOYER_WEB_PORT": config.web_port}
    return ports | ({"DEPLOYER_WEBHOOK_PORT": config.webhook_port} if config.webhook_port else {})


def web_command(config: Config) -> list[str]:
    """The command line of the web process."""
    host = f"[{config.web_host}]" if ":" in config.web_host else config.web_host
    return [
        *(sys.executable, "-m", "gunicorn", "--config=python:web.gunicorn_conf"),
        *(f"--bind={host}:{port}" for port in web_ports(config).values()),
        f"--workers={config.web_processes}",
        f"--graceful-timeout={max(1, round(config.drain_seconds))}",
        "--log-level=warning",
        "--no-control-socket",  # gunicorn would create it in the home directory, which a container may lack
        "web.wsgi:app",
    ]


def worker_command(config: Config) -> list[str]:
    """The command line of a worker."""
    return [
        *(sys.executable, "-m", "celery", "--quiet", "--app=workers", "worker"),
        f"--concurrency={config.concurrency}",
        f"--hostname=deployer-{uuid.uuid4().hex[:8]}@%h",  # two workers of one name confuse Flower and the broker
        "--task-events",
        # deployer needs none of these messages, and with them a worker may not survive a restart of Redis
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        "--include=workers.drain",
    ]


def scheduler_command() -> list[str]:
    """The command line of the scheduler."""
    return [sys.executable, "-m", "workers.scheduler"]


def _replace_process(command: Sequence[str]) -> NoReturn:
    """Replace this process by the program, so that signals reach the program."""
    os.execv(command[0], list(command))  # noqa: S606  # no shell is wanted
