"""Tests of large, endless, truncated and concurrent bodies, in the application and under gunicorn."""

import http.client
import json
import socket
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO, RawIOBase
from typing import Any

import pytest
from gunicorn.http.errors import InvalidChunkSize, NoMoreData
from werkzeug.test import TestResponse

from deployer.github.webhook import BODY_LIMIT
from deployer.redis_store.connection import connect
from deployer.redis_store.queue import RedisQueueStore
from tests.web.gunicorn_kit import gunicorn, signed
from tests.web.site import TOKEN, Site, push_payload, signature

MB = 1024 * 1024
GB = 1024 * MB


class Stream(RawIOBase):
    """A body of spaces that counts what was read of it; it holds none of it."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        number = min(len(buffer), self.left)
        buffer[:number] = b" " * number
        self.left -= number
        self.taken += number
        return number


class Broken(RawIOBase):
    """A body whose reading fails as it does under gunicorn."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def readable(self) -> bool:
        return True

    def readinto(self, _buffer: Any) -> int:
        raise self.error


def post(
    site: Site, stream: Stream, *, path: str = "/webhooks/github", length: int | None = None
) -> TestResponse:
    """Send a stream, in chunks unless its length is given."""
    told = {"CONTENT_LENGTH": str(length)} if length is not None else {"HTTP_TRANSFER_ENCODING": "chunked"}
    environ = {
        "wsgi.input": stream,
        "wsgi.input_terminated": length is None,
        "CONTENT_TYPE": "application/json",
    }
    return site.client.post(path, environ_overrides=environ | told)


def padded(size: int) -> bytes:
    """A push of exactly this many bytes."""
    body = json.dumps(push_payload()).encode()
    return body + b" " * (size - len(body))


# --- in the application -------------------------------------------------------------------------------------------


def test_a_body_of_25_mb_is_accepted_and_one_byte_more_is_not(site: Site) -> None:
    assert site.deliver(padded(BODY_LIMIT + 1)).status_code == 413
    assert site.untouched
    assert site.deliver(padded(BODY_LIMIT)).status_code == 202
    assert len(site.waiting) == 1


@pytest.mark.parametrize("path", ["/webhooks/github", "/webhooks/aws"])
@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("size", [26 * MB, 10 * GB])
def test_a_large_body_is_refused_unread_and_unkept(site: Site, path: str, told: bool, size: int) -> None:
    stream = Stream(size)
    tracemalloc.start()
    try:
        answer = post(site, stream, path=path, length=size if told else None)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (answer.status_code, answer.json) == (413, {"error": "the body is larger than 25 MB"})
    assert stream.taken <= min(size, 2 * BODY_LIMIT + MB)
    assert peak < 2 * MB
    assert site.untouched


@pytest.mark.parametrize("path", ["/webhooks/github", "/webhooks/aws"])
def test_a_body_shorter_than_its_content_length_is_refused(site: Site, path: str) -> None:
    answer = post(site, Stream(10), path=path, length=20)
    assert (answer.status_code, list(answer.json)) == (400, ["error"])
    assert site.untouched


@pytest.mark.parametrize("path", ["/webhooks/github", "/webhooks/aws", "/api/v1/resync"])
@pytest.mark.parametrize("error", [InvalidChunkSize(b"zz"), NoMoreData(), ConnectionResetError()])
def test_a_body_that_breaks_is_refused(
    site: Site, path: str, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    answer = site.client.post(
        path,
        headers={"Authorization": f"Bearer {TOKEN}"},
        environ_overrides={
            "wsgi.input": Broken(error),
            "wsgi.input_terminated": True,
            "HTTP_TRANSFER_ENCODING": "chunked",
        },
    )
    assert answer.status_code == 400
    assert "ended early" in answer.json["error"]
    assert site.untouched
    assert "Traceback" not in caplog.text


def test_a_body_in_chunks_is_accepted(site: Site) -> None:
    body = json.dumps(push_payload()).encode()
    answer = site.deliver(
        body,
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
    )
    assert (answer.status_code, site.outcome()) == (202, "queued")


class Minimal:
    """A body as other servers give it: with what PEP 3333 asks for and no more."""

    def __init__(self, body: bytes) -> None:
        self.read = BytesIO(body).read


def test_a_body_from_another_server_is_accepted(site: Site) -> None:
    body = padded(3 * MB)
    answer = site.deliver(
        b"",
        headers={"Transfer-Encoding": "chunked", "X-Hub-Signature-256": signature(body)},
        environ_overrides={
            "wsgi.input": Minimal(body),
            "wsgi.input_terminated": True,
            "CONTENT_LENGTH": "",
        },
    )
    assert (answer.status_code, site.outcome()) == (202, "queued")


def test_a_full_disk_is_reported_and_nothing_is_recorded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    answer = site.deliver(padded(3 * MB))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "No space left on device" in answer.json["error"]
    assert site.untouched


def test_other_endpoints_accept_only_small_bodies(site: Site) -> None:
    answer = site.api("POST", "/resync", data=b" " * MB)
    assert (answer.status_code, list(answer.json)) == (413, ["error"])
    assert site.untouched


# --- under gunicorn -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def port(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Where gunicorn serves the application."""
    with gunicorn(redis_url, tmp_path_factory.mktemp("gunicorn")) as running:
        yield running.port


@pytest.fixture
def lanes(redis_url: str) -> Iterator[RedisQueueStore]:
    client = connect(redis_url)
    client.flushall()
    yield RedisQueueStore(client)
    client.close()


def ask(port: int, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    """Post a body to the receiver; an iterable is sent in chunks."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    given = {
        "Content-Type": "application/json",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": "d-1",
        **headers,
    }
    connection.request("POST", "/webhooks/github", body=body, headers=given)
    with connection.getresponse() as answer:
        found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def parts(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), MB):
        yield body[start : start + MB]


@pytest.mark.parametrize("chunked", [True, False])
def test_gunicorn_delivers_a_push(port: int, lanes: RedisQueueStore, chunked: bool) -> None:
    body = padded(3 * MB)
    code, answer = ask(port, parts(body) if chunked else body, **{"X-Hub-Signature-256": signed(body)})
    assert (code, answer["outcome"]) == (202, "queued")
    assert [work.deliveries for lane in lanes.lanes() for work in lane.waiting] == ["d-1"]


def test_gunicorn_counts_a_delivery_once_that_comes_many_times_at_once(
    port: int, lanes: RedisQueueStore
) -> None:
    body = padded(MB)
    headers = {"X-Hub-Signature-256": signed(body)}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(port, body, **headers), range(16)))
    assert {code for code, _ in answers} == {202}
    assert sorted(answer["outcome"] for _, answer in answers) == ["duplicate"] * 15 + ["queued"]
    assert [work.deliveries for lane in lanes.lanes() for work in lane.waiting] == ["d-1"]


@pytest.mark.parametrize("chunked", [True, False])
def test_the_sender_of_26_mb_receives_the_refusal_of_gunicorn(
    port: int, lanes: RedisQueueStore, chunked: bool
) -> None:
    body = b" " * (26 * MB)
    code, answer = ask(port, parts(body) if chunked else body)
    assert (code, answer) == (413, {"error": "the body is larger than 25 MB"})
    assert lanes.lanes() == []


@pytest.mark.parametrize(
    "framed",
    [
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"Content-Length: 10\r\n\r\n{}",
    ],
)
def test_gunicorn_refuses_a_body_cut_off(port: int, lanes: RedisQueueStore, framed: bytes) -> None:
    head = b"POST /webhooks/github HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", port), 20) as connection:
        connection.sendall(head + framed)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read()
    status, _, rest = answer.partition(b"\r\n")
    assert b" 400 " in status
    assert list(json.loads(rest.partition(b"\r\n\r\n")[2])) == ["error"]
    assert lanes.lanes() == []
