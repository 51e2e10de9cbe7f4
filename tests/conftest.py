"""A real Redis for those tests that need one.

Its being here also puts the directory above `tests/` on the path (pytest's `prepend` import mode).
"""

import os
import subprocess
import time
from collections.abc import Iterator

import pytest

from deployer.local.embedded_redis import prepare


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Redis as `deployer up` embeds it."""
    server = prepare(tmp_path_factory.mktemp("redis"), with_password=False)
    process = subprocess.Popen(server.command)
    deadline = time.monotonic() + 60
    try:
        while not server.is_ready():
            assert process.poll() is None, server.log.read_text()
            assert time.monotonic() < deadline, "the embedded Redis does not answer"
        yield server.url
    finally:
        process.terminate()
        process.wait(20)
        os.close(server.lock)
