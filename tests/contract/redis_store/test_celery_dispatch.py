"""Sending dispatches by Celery to a real server, and the clients that are made from a URL."""

import os
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import kombu
import pytest
import redis

from deployer.local.embedded_redis import EmbeddedRedis, prepare
from deployer.model.errors import ConfigError
from deployer.model.redis_url import parse_redis_url
from deployer.queue.store import Dispatch
from deployer.redis_store.celery_dispatch import CeleryDispatcher, make_celery
from deployer.redis_store.connection import connect

DISPATCH = Dispatch("acme/hello", "staging", "deployer.sync", 7)


class Server:
    """A Redis that can hang."""

    def __init__(self, prepared: EmbeddedRedis) -> None:
        self.url = prepared.url
        self.process = subprocess.Popen(prepared.command)
        deadline = time.monotonic() + 60
        while not prepared.is_ready():
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
def queue(server: Server) -> Iterator[CeleryDispatcher]:
    app = make_celery(server.url)
    yield CeleryDispatcher(app, connect(server.url))
    app.close()


def seconds_to_send(queue: CeleryDispatcher) -> float:
    begin = time.monotonic()
    queue.send(DISPATCH)
    return time.monotonic() - begin


def test_a_redis_that_hangs_or_is_gone_delays_no_request(server: Server, queue: CeleryDispatcher) -> None:
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


def test_messages_of_low_priority_are_taken_last(server: Server, queue: CeleryDispatcher) -> None:
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
def test_both_clients_authenticate_alike(
    host: str, credentials: str, user: str | None, password: str | None
) -> None:
    url = host.format(credentials)
    for made in (connection(url), connect(url).connection_pool.make_connection()):
        assert (made.username or None, made.password) == (user, password)


@pytest.mark.parametrize(
    "url", ["unix:///run/redis.sock?db=3", "unix://:pw@/run/redis.sock?db=3", "redis://db.example:1?db=3"]
)
def test_both_clients_use_the_same_database(url: str) -> None:
    """Otherwise two installations in one Redis would take each other's messages."""
    for made in (connection(url), connect(url).connection_pool.make_connection()):
        assert made.db == 3
        assert getattr(made, "path", "/run/redis.sock") == "/run/redis.sock"


def options_of_the_clients() -> list[str]:
    """Every option that redis-py or kombu reads from a URL, according to their code."""
    makers = (
        redis.connection.AbstractConnection,
        redis.Connection,
        redis.SSLConnection,
        redis.UnixDomainSocketConnection,
        kombu.Connection,
    )
    found = {name for maker in makers for name in signature(maker.__init__).parameters}
    return sorted(found | set(redis.connection.URL_QUERY_ARGUMENT_PARSERS))


def test_every_option_of_a_client_is_accepted_by_both_or_refused() -> None:
    """A value that each of them can read: `1` is a number, a text and a boolean."""
    taken = set()
    for scheme, more in (
        ("redis://h", ""),
        ("rediss://h", "ssl_certfile=1&"),
        ("unix:///s", ""),
        ("sentinel://a/m", "ssl=1&"),
    ):
        for option in {*options_of_the_clients(), "sentinel_username", "sentinel_password", "typing_error"}:
            value = {"ssl_cert_reqs": "optional", "ssl_min_version": "771"}.get(option, "1")
            url = f"{scheme}?{more if option not in more else ''}{option}={value}"
            try:
                parse_redis_url(url)
            except ConfigError:
                continue
            taken.add(option)
            for made in (connection(url), connect(url).connection_pool.make_connection()):
                assert made.db == (1 if option == "db" else 0)
    assert taken == {
        "db", "username", "password", "ssl", "sentinel_password", "ssl_ca_certs", "ssl_ca_path", "ssl_cert_reqs",
        "ssl_certfile", "ssl_check_hostname", "ssl_ciphers", "ssl_keyfile", "ssl_min_version", "ssl_password",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("url", "user", "password"),
    [
        ("sentinel://:pw@a:1,b:2/service/3", "default", "pw"),
        ("sentinel://u:pw@a:1,b:2/service/3?sentinel_password=p%3Bs", "default", "p;s"),
        ("sentinel://u:pw@a:1,b:2/service/3?sentinel_username=s&sentinel_password=spw", "s", "spw"),
        ("sentinel://u:pw@a:1,b:2/service/3?sentinel_password=", None, None),
        ("sentinel://a:1,b:2/service/3", None, None),
    ],
)
def test_both_clients_authenticate_to_the_sentinels_alike(
    url: str, user: str | None, password: str | None
) -> None:
    for made in (connection(url), connect(url).connection_pool.make_connection()):
        asked = made.connection_pool.sentinel_manager.sentinels
        assert [each.connection_pool.connection_kwargs["port"] for each in asked] == [1, 2]
        for each in asked:
            options = each.connection_pool.connection_kwargs
            assert (options["username"], options["password"]) == (user, password)
            assert options["retry"]._retries == 0, "another Sentinel is asked at once"
