"""The command `python -m sandbox.aws`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import boto3
import pytest
from aws_harness import BUILDSPEC, PIPELINE_TEMPLATE, Repository, eventually

from sandbox.ports import free_port


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_ends_builds_and_removes_files(
    repository: Repository, tmp_path: Path, number: signal.Signals
) -> None:
    pid = tmp_path / "pid"
    repository.commit(
        {"buildspec.yml": BUILDSPEC.replace("mkdir -p site", f"echo $$ > {pid}; sleep 300")}, "slow"
    )
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    running = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "sandbox.aws",
            "--port",
            str(port),
            "--github-url",
            repository.url,
            "--speed",
            "20",
        ],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stderr=subprocess.DEVNULL,
    )

    def healthy() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/_sandbox/health", timeout=5) as answer:  # noqa: S310 - a local URL
                return bool(answer.status == 200)
        except OSError:
            return False

    try:
        eventually(healthy)
        keys = {"aws_access_key_id": "x", "aws_secret_access_key": "y", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=url, **keys).create_bucket(Bucket="artifacts")
        boto3.client("cloudformation", endpoint_url=url, **keys).create_stack(
            StackName="pipe",
            TemplateBody=PIPELINE_TEMPLATE,
            Parameters=[{"ParameterKey": "Branch", "ParameterValue": "main"}],
            Capabilities=["CAPABILITY_IAM"],
        )
        eventually(pid.exists)
        shell = eventually(lambda: pid.read_text().strip())
        running.send_signal(number)
        assert running.wait(60) == 0
    finally:
        running.kill()
        running.wait()
    assert not Path(f"/proc/{shell}").exists()
    assert list(tmp_path.glob("sandbox-aws-*")) == []


def test_a_port_in_use_is_reported_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "sandbox.aws", "--port", port], capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == f"the simulated AWS cannot listen on port {port}: Address already in use\n"
