"""Fixtures: one installation for all harmless tests, and another for tests that break something."""

import itertools
import os
import re
import zoneinfo
from collections.abc import Iterator
from pathlib import Path

import pytest
from installations import FAST, FRAGILE, SECRETS

from sandbox.installation import Installation, WorkingCopy, command_of, descendants

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """`deployer up --sandbox`; at the end no process may be left, nor a secret in the log."""
    made = Installation(tmp_path_factory.mktemp("installation"), {**FAST, **SECRETS})
    with made.running():
        yield made
        commands = "".join(command_of(pid) for pid in descendants(made.pid))
        assert "--port=" in commands
        assert not [name for name, value in SECRETS.items() if value in commands], (
            "a secret is in a command line"
        )
    log = made.output()
    assert not [name for name, value in SECRETS.items() if value in log], "a secret is in the log"
    # only dead letters, which tests make on purpose, come with one
    rest = re.sub(r"is a dead letter: .*\n(worker +\| (?!\d{4}-).*\n)+", "", log)
    assert "Traceback" not in rest, rest[rest.index("Traceback") - 500 :][:3000]


@pytest.fixture
def here(installation: Installation) -> Iterator[Installation]:
    """The installation, without faults."""
    yield installation
    installation.clear_faults()


@pytest.fixture
def repository(here: Installation) -> str:
    """A new repository with the sample's content; the push of its default branch is on its way to staging."""
    name = f"team-{next(_numbers)}/shop"
    here.repository(name)
    return name


@pytest.fixture
def copy(here: Installation, repository: str, tmp_path: Path) -> WorkingCopy:
    """A clone of that repository."""
    return here.clone(tmp_path / "copy", repository)


@pytest.fixture(scope="session")
def zones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of time zones that the fragile installation knows beside those of the machine."""
    return tmp_path_factory.mktemp("zones")


@pytest.fixture(scope="session")
def fragile(tmp_path_factory: pytest.TempPathFactory, zones: Path) -> Iterator[Installation]:
    """An installation whose processes are killed, whose Redis is wiped, and where time is short."""
    settings = {
        **FRAGILE,
        "PYTHONTZPATH": os.pathsep.join([str(zones), *zoneinfo.TZPATH]),
        "PYTHONPATH": str(Path(__file__).parent / "hostile"),
    }
    with Installation(tmp_path_factory.mktemp("fragile"), settings).running() as made:
        yield made
