"""A Redis of the kind that `deployer up` embeds, for one measurement."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from deployer.local.embedded_redis import prepare

DATABASES = 16


@contextmanager
def redis_server(*, fsync: str = "") -> Iterator[str]:
    """Run a server; yield its URL.

    Args:
        fsync: when the append-only file is synchronized, if not as `deployer up` sets it.
    """
    with tempfile.TemporaryDirectory(prefix="deployer-bench-") as name:
        server = prepare(Path(name), with_password=False)
        process = subprocess.Popen(server.command)
        try:
            while not server.is_ready():
                if process.poll() is not None:
                    raise RuntimeError(server.log.read_text())
                time.sleep(0.02)
            if fsync:
                with redis.Redis.from_url(server.url) as client:
                    client.config_set("appendfsync", fsync)
            yield server.url
        finally:
            process.terminate()
            process.wait()
            os.close(server.lock)


def database_url(url: str, number: int) -> str:
    """The address of another database of the same server."""
    return f"{url.rpartition('/')[0]}/{number}"
