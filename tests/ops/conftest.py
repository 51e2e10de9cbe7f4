from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from ops_kit import Process, environment

Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process that has ended, with all below it, when the test has."""
    with ExitStack() as running:

        def begin(
            command: Sequence[str], *settings: Mapping[str, str], directory: Path = tmp_path
        ) -> Process:
            directory.mkdir(parents=True, exist_ok=True)
            process = Process(command, directory, environment(*settings))
            running.callback(process.kill_all)
            return process

        yield begin
