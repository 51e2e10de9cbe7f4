"""A simulated AWS for all contract tests, and the key of a GitHub App."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from cloud_kit import BUCKET, REPOSITORY, SandboxKit, commit
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from deployer.redis_store.connection import connect
from sandbox.aws import server


@pytest.fixture(scope="module", autouse=True)
def credentials() -> Iterator[None]:
    """Credentials that the simulator takes, for every test: no test needs another one to set them first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxKit]:
    """A simulator with the artifact bucket."""
    root: Path = tmp_path_factory.mktemp("repositories")
    repository = root / f"{REPOSITORY}.git"
    repository.parent.mkdir()
    commit(repository)
    started = server.create(github_url=f"file://{root}", speed=40).start()
    boto3.client("s3", region_name="us-east-1", endpoint_url=started.url).create_bucket(Bucket=BUCKET)
    yield SandboxKit(started, repository)
    started.stop()


@pytest.fixture
def aws(running: SandboxKit) -> Iterator[SandboxKit]:
    """The simulator without faults."""
    yield running
    running.simulator.faults.clear()


@pytest.fixture(scope="session")
def app_key() -> str:
    """The private key of a GitHub App."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return made.private_bytes(*form).decode()


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    """An empty Redis, for files that have no `client` of their own."""
    made = connect(redis_url)
    made.flushall()
    yield made
    made.close()
