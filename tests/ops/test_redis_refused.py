"""Tests that an unusable Redis ends every process at its start, with a remedy in one line."""

import errno
import os
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from ops_kit import CELERY, WEB, WORKER, Refusal, ended, environment

from deployer.cli import main
from sandbox.installation import free_port
from tests.redis_kit import Server
from workers import scheduler

CLUSTER = (
    "deployer: DEPLOYER_REDIS_URL is a Redis in cluster mode, which is not supported;"
    " use one with cluster mode disabled (replicas and Sentinel are supported)\n"
)
NO_DATABASE = "deployer: DEPLOYER_REDIS_URL names a database that does not exist; use 0\n"
NO_FILE = (
    "deployer: DEPLOYER_REDIS_URL: the file of ssl_ca_certs cannot be used (No such file or directory);"
    " correct it\n"
)
EVERY = {**WEB, **WORKER}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("cluster"), "cluster-enabled yes").start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("single")).start()
    yield made
    made.kill()


@pytest.mark.parametrize("command", ["web", "worker", "scheduler", "up"])
@pytest.mark.parametrize(
    ("database", "lines"),
    [("0", {CLUSTER}), ("1", {CLUSTER, NO_DATABASE})],  # a cluster of Valkey may have several databases
    ids=["a cluster", "a database of a cluster"],
)
def test_a_cluster(refusal: Refusal, cluster: Server, command: str, database: str, lines: set[str]) -> None:
    url = f"redis://127.0.0.1:{cluster.port}/{database}"
    settings = {**EVERY, "DEPLOYER_REDIS_URL": url, "DEPLOYER_WEB_PORT": str(free_port())}
    assert refusal(command, settings) in lines


@pytest.mark.parametrize("command", ["web", "worker", "scheduler", "up"])
def test_a_database_that_is_not_there(refusal: Refusal, single: Server, command: str) -> None:
    url = f"redis://127.0.0.1:{single.port}/99"
    settings = {**EVERY, "DEPLOYER_REDIS_URL": url, "DEPLOYER_WEB_PORT": str(free_port())}
    assert refusal(command, settings) == NO_DATABASE


@pytest.mark.parametrize("command", ["web", "worker", "scheduler", "up"])
def test_a_certificate_that_is_not_there(refusal: Refusal, tmp_path: Path, command: str) -> None:
    url = f"rediss://127.0.0.1:1/0?ssl_ca_certs={tmp_path}/none.pem"
    assert (
        refusal(command, {**EVERY, "DEPLOYER_REDIS_URL": url, "DEPLOYER_WEB_PORT": str(free_port())})
        == NO_FILE
    )


def test_a_cluster_ends_a_worker_of_celery(cluster: Server, tmp_path: Path) -> None:
    assert ended(tmp_path, [*CELERY, "worker"], {**WORKER, "DEPLOYER_REDIS_URL": cluster.url}) == (
        1,
        "",
        CLUSTER,
    )


def test_a_cluster_ends_the_scheduler_and_the_served_application(
    cluster: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", environment(EVERY, {"DEPLOYER_REDIS_URL": cluster.url}))
    with pytest.raises(SystemExit) as ending:
        scheduler.main()
    assert ending.value.code == CLUSTER.rstrip("\n")
    with pytest.raises(SystemExit) as ending:
        runpy.run_module("web.wsgi")
    assert (ending.value.code, capsys.readouterr().err) == (4, CLUSTER)


def test_the_doctor_names_a_setting_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", environment(EVERY, {"DEPLOYER_REDIS_URL": "redis://h/0?protocol=3"}))
    result = CliRunner().invoke(main, ["doctor"], terminal_width=200)
    assert result.exit_code == 1
    assert "DEPLOYER_REDIS_URL has the option protocol" in " ".join(result.stdout.split())


@pytest.mark.parametrize("step", ["prepare", "_write_env"])
def test_a_full_disk_is_reported_in_one_line(
    refusal: Refusal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"deployer.cli.up.{step}", full)
    settings = {**EVERY, "DEPLOYER_DATA_DIR": str(tmp_path), "DEPLOYER_WEB_PORT": str(free_port())}
    line = f"deployer: DEPLOYER_DATA_DIR is {tmp_path}, which cannot be written (No space left on device)\n"
    assert refusal("up", settings) == line
