"""Fixtures: one simulated AWS for each module."""

from collections.abc import Iterator

import pytest
from aws_world import Simulation, without_retry_waits

from sandbox.aws import server
from tests.unit.world import HELLO


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulation]:
    """A simulator with the artifact bucket; AWS calls are retried without waits."""
    root = tmp_path_factory.mktemp("repositories")
    repository = root / f"{HELLO.full_name}.git"
    repository.parent.mkdir()
    with without_retry_waits():
        started = server.create(github_url=f"file://{root}", speed=40).start()
        yield Simulation(started, repository)
        started.stop()


@pytest.fixture(autouse=True)
def _clear_faults(simulation: Simulation) -> Iterator[None]:
    """Clear all faults after each test."""
    yield
    simulation.simulator.faults.clear()
