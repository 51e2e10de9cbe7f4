"""A simulated AWS for each module."""

from collections.abc import Iterator

import pytest
from aws_world import Simulation
from botocore.retries.adaptive import ClientRateLimiter

from deployer.adapters import aws_client
from sandbox.aws import server
from tests.unit.world import HELLO


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulation]:
    """A simulator with the artifact bucket; whoever asks it again does so at once."""
    root = tmp_path_factory.mktemp("repositories")
    repository = root / f"{HELLO.full_name}.git"
    repository.parent.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setattr(aws_client, "_backoff", lambda _state: 0.0)
        # botocore's own slowing down after a throttled call takes many seconds
        patch.setattr(ClientRateLimiter, "on_sending_request", lambda *_, **__: None)
        started = server.create(github_url=f"file://{root}", speed=40).start()
        yield Simulation(started, repository)
        started.stop()


@pytest.fixture(autouse=True)
def _mended(simulation: Simulation) -> Iterator[None]:
    """No fault outlives its test."""
    yield
    simulation.simulator.faults.clear()
