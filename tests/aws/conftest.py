"""A simulated AWS for each module."""

from collections.abc import Iterator

import pytest
from aws_world import Simulation, in_haste

from sandbox.aws import server
from tests.unit.world import HELLO


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulation]:
    """A simulator with the artifact bucket; whoever asks it again does so at once."""
    root = tmp_path_factory.mktemp("repositories")
    repository = root / f"{HELLO.full_name}.git"
    repository.parent.mkdir()
    with in_haste():
        started = server.create(github_url=f"file://{root}", speed=40).start()
        yield Simulation(started, repository)
        started.stop()


@pytest.fixture(autouse=True)
def _mended(simulation: Simulation) -> Iterator[None]:
    """No fault outlives its test."""
    yield
    simulation.simulator.faults.clear()
