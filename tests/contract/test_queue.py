"""How dispatches come to Redis: the Celery queue in front of a real server, and what it makes of a URL."""

import os
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from deployer.adapters.celery_queue import CeleryQueue, make_celery
from deployer.adapters.redis_client import connect
from deployer.embedded_redis import EmbeddedRedis, prepare
from deployer.errors import ConfigError
from deployer.ports import Dispatch

DISPATCH = Dispatch("acme/hello", "staging", "deployer.sync", 7)


class Server:
    """A Redis that can hang."""

    def __init__(self, prepared: EmbeddedRedis) -> None:
        self.url = prepared.url
        self.process = subprocess.Popen(prepared.command)
        deadline = time.monotonic() + 60
        while not prepared.ready():
            assert time.monotonic() < deadline, prepared.log.read_text()

    def waiting(self) -> int:
        with redis.Redis.from_url(self.url) as client:
            return client.llen("deployer")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    prepared = prepare(tmp_path / "redis")
    made = Server(prepared)
    yield made
    made.process.kill()
    made.process.wait()
    os.close(prepared.lock)


@pytest.fixture
def queue(server: Server) -> Iterator[CeleryQueue]:
    app = make_celery(server.url)
    yield CeleryQueue(app, connect(server.url))
    app.close()


def seconds_to_send(queue: CeleryQueue) -> float:
    begin = time.monotonic()
    queue.send(DISPATCH)
    return time.monotonic() - begin


def test_a_redis_that_hangs_or_has_gone_holds_nobody_up(server: Server, queue: CeleryQueue) -> None:
    queue.send(DISPATCH)
    server.process.send_signal(signal.SIGSTOP)

    assert seconds_to_send(queue) < 4  # on the connection it has
    assert seconds_to_send(queue) < 4  # on a new one

    server.process.send_signal(signal.SIGCONT)
    queue.send(DISPATCH)
    assert server.waiting() >= 2
    server.process.kill()
    server.process.wait()
    assert seconds_to_send(queue) + seconds_to_send(queue) < 2


def test_what_is_low_lets_all_others_pass(server: Server, queue: CeleryQueue) -> None:
    for token, low in ((1, True), (2, False), (3, True), (4, False)):
        queue.send(replace(DISPATCH, token=token, low=low))
    with (
        make_celery(server.url).connection_for_read() as connection,
        connection.SimpleQueue("deployer") as taken,
    ):
        tokens = [taken.get(timeout=5).decode()[0][2] for _ in range(4)]
    assert tokens == [2, 4, 1, 3]


# --- URLs -------------------------------------------------------------------------------------------------------


def connection(url: str) -> Any:
    """The connection that kombu would make, without making it."""
    kombu = make_celery(url).connection_for_write()

    class Channel(kombu.transport.Channel):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.connection, self._registered = kombu.transport, False
            self.__dict__.update(kombu.transport_options)

    return Channel()._get_pool().make_connection()


@pytest.mark.parametrize(
    ("url", "verify", "hostname"),
    [
        ("rediss://:pw@db.example:1/3", ssl.CERT_REQUIRED, True),
        ("rediss://:pw@db.example:1/3?ssl_ca_certs=/ca.pem", ssl.CERT_REQUIRED, True),
        ("rediss://:pw@db.example:1/3?ssl_check_hostname=false", ssl.CERT_REQUIRED, False),
        ("rediss://:pw@db.example:1/3?ssl_cert_reqs=none", ssl.CERT_NONE, False),
        ("sentinel://:pw@a:1,b:2/service/3?ssl=true", ssl.CERT_REQUIRED, True),
        ("sentinel://:pw@a:1,b:2/service/3?ssl=true&ssl_cert_reqs=none", ssl.CERT_NONE, False),
    ],
)
def test_certificates_are_checked_wherever_the_url_does_not_forbid_it(
    url: str, verify: ssl.VerifyMode, hostname: bool
) -> None:
    for made in (connection(url), connect(url).connection_pool.make_connection()):
        assert isinstance(made, redis.SSLConnection)
        assert (made.cert_reqs, made.check_hostname) == (verify, hostname)
        assert made.ca_certs == ("/ca.pem" if "ca.pem" in url else None)
        assert (made.db, made.password) == (3, "pw")


@pytest.mark.parametrize("url", ["redis://:pw@db.example:1/3", "sentinel://:pw@a:1,b:2/service/3"])
def test_without_tls_in_the_url_there_is_none(url: str) -> None:
    for made in (connection(url), connect(url).connection_pool.make_connection()):
        assert not isinstance(made, redis.SSLConnection)
        assert (made.db, made.password) == (3, "pw")


@pytest.mark.parametrize("host", ["redis://{}db.example:1/3", "sentinel://{}a:1,b:2/service/3"])
@pytest.mark.parametrize(
    ("credentials", "user", "password"),
    [(":p%40s%2Fs%25@", None, "p@s/s%"), ("deployer:pw@", "deployer", "pw"), ("", None, None)],
)
def test_both_clients_sign_in_alike(
    host: str, credentials: str, user: str | None, password: str | None
) -> None:
    url = host.format(credentials)
    for made in (connection(url), connect(url).connection_pool.make_connection()):
        assert (made.username or None, made.password) == (user, password)


@pytest.mark.parametrize(
    "url", ["unix:///run/redis.sock?db=3", "unix://:pw@/run/redis.sock?db=3", "redis://db.example:1?db=3"]
)
def test_both_clients_use_the_same_database(url: str) -> None:
    """Two installations in one Redis would else take each other's messages."""
    for made in (connection(url), connect(url).connection_pool.make_connection()):
        assert made.db == 3
        assert getattr(made, "path", "/run/redis.sock") == "/run/redis.sock"


def test_an_option_that_cannot_be_read_is_a_setting_at_fault() -> None:
    for use in (connect, make_celery):
        with pytest.raises(ConfigError, match="DEPLOYER_REDIS_URL"):
            use("rediss://:verysecret@db.example/0?socket_timeout=soon")
