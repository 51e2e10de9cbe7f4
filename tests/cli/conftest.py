"""The fixture of the commands' tests."""

import pytest
from cli_world import SETTINGS, World


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A deployer in memory that every command gets."""
    made = World(SETTINGS)
    monkeypatch.setattr("deployer.wiring.build", lambda **_: made.deployer)
    return made
