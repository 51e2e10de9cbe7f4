"""Commands that run the processes: one each for production, `up` for all of them on one machine.

web and workers stand above this layer, so they are started as programs and never imported.
"""

import os
import socket
import sys
import uuid
from collections.abc import Sequence
from typing import NoReturn

import click

from deployer.config import REQUIRED_FOR_WEB, Config, require
from deployer.errors import ConfigError
from deployer.startup import check_secrets


@click.command()
def web() -> None:
    """Serve webhooks, API and dashboard (under gunicorn)."""
    config = settings(web=True)
    _check_host(config.web_host)
    _become(web_command(config))


@click.command()
def worker() -> None:
    """Carry out tasks (Celery)."""
    _become(worker_command(settings(worker=True)))


@click.command()
def scheduler() -> None:
    """Hand out again what was lost, wake what is due, resync now and then."""
    settings(scheduler=True)
    _become(scheduler_command())


@click.command()
@click.option("--sandbox", is_flag=True, help="Simulate GitHub and AWS, with a sample repository.")
@click.option(
    "--log-to",
    type=click.Choice(["files", "stdout"]),
    help="Where the programs' logs go. With files, people see a line for each push, state and result, and each "
    "warning. By default files at a terminal and in the sandbox, else stdout, where systemd expects them.",
)
def up(*, sandbox: bool, log_to: str | None) -> None:
    """Run everything on this machine, with a Redis of its own unless DEPLOYER_REDIS_URL is set.

    \b
    Ctrl-C stops it all; what was queued is kept for the next start.
    """
    from deployer.cli.up import run  # noqa: PLC0415  # boto3 and redis, which `--help` must not wait for

    to_files = log_to == "files" if log_to else sandbox or sys.stdout.isatty()
    sys.exit(run(sandbox=sandbox, to_files=to_files))


def settings(
    *, web: bool = False, worker: bool = False, scheduler: bool = False, asks_redis: bool = True
) -> Config:
    """The settings, checked before any process is started on them.

    Args:
        web: whether the web is started, which needs its secrets.
        worker: whether a worker is, which needs GitHub, AWS and the fence in IAM.
        scheduler: whether a scheduler is, which lists AWS's stacks.
        asks_redis: whether Redis is asked now if it can be used; `up` may have to start it first.

    Raises:
        ConfigError: one is missing or malformed, or must not be used.
    """
    # boto3, Celery and requests
    from deployer.bootstrap import build, check_aws, check_redis, check_worker  # noqa: PLC0415

    deployer = build()
    config = deployer.config
    if web:
        require(config, *REQUIRED_FOR_WEB)
        check_secrets(config)
    if worker:
        check_worker(deployer)
    elif scheduler:
        check_aws(config)
    if asks_redis:
        check_redis(config)
    return config


def _check_host(host: str) -> None:
    """Name the setting where gunicorn would try in vain; the port may be that of a process that is about to end."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            text = f"{host} is no address to listen on ({error.strerror}); correct DEPLOYER_WEB_HOST"
            raise ConfigError(text) from error


def web_ports(config: Config) -> dict[str, int]:
    """The ports that the web listens on, by the setting that names each."""
    ports = {"DEPLOYER_WEB_PORT": config.web_port}
    return ports | ({"DEPLOYER_WEBHOOK_PORT": config.webhook_port} if config.webhook_port else {})


def web_command(config: Config) -> list[str]:
    """What serves the web."""
    host = f"[{config.web_host}]" if ":" in config.web_host else config.web_host
    return [
        *(sys.executable, "-m", "gunicorn", "--config=python:web.gunicorn_conf"),
        *(f"--bind={host}:{port}" for port in web_ports(config).values()),
        f"--workers={config.web_processes}",
        f"--graceful-timeout={max(1, round(config.drain_seconds))}",
        "--log-level=warning",
        "--no-control-socket",  # it would be made in the home directory, which a container may not have
        "web.wsgi:app",
    ]


def worker_command(config: Config) -> list[str]:
    """What carries out tasks."""
    return [
        *(sys.executable, "-m", "celery", "--quiet", "--app=workers", "worker"),
        f"--concurrency={config.concurrency}",
        f"--hostname=deployer-{uuid.uuid4().hex[:8]}@%h",  # two of one name confuse Flower and the broker
        "--task-events",
        # what they exchange is of no use here, and with them a worker may not survive a restart of Redis
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        "--include=workers.drain",
    ]


def scheduler_command() -> list[str]:
    """What sweeps the lanes."""
    return [sys.executable, "-m", "workers.scheduler"]


def _become(command: Sequence[str]) -> NoReturn:
    """Replace this process, so that signals reach the program itself."""
    os.execv(command[0], list(command))  # noqa: S606  # no shell is wanted


PROCESS_COMMANDS = [web, worker, scheduler, up]
