"""A real Redis for those tests that need one.

Its being here also puts the directory above `tests/` on the path (pytest's `prepend` import mode).
"""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployer.embedded_redis import prepare

_TESTS = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a folder's tests in one process when there are several: they share what is slow to start."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(item.path.relative_to(_TESTS).parts[0]))


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Redis as `deployer up` embeds it."""
    server = prepare(tmp_path_factory.mktemp("redis"), with_password=False)
    process = subprocess.Popen(server.command)
    deadline = time.monotonic() + 20
    try:
        while not server.ready():
            assert process.poll() is None, server.log.read_text()
            assert time.monotonic() < deadline, "the embedded Redis does not answer"
        yield server.url
    finally:
        process.terminate()
        process.wait(20)
        os.close(server.lock)
