"""Tests of the HTTP front: strict parsing, responses in order, limits of size and number."""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.web.front_kit import WATCHED, Served, everything, one, serving
from web.front.limits import Limits
from web.front.server import run_in_turn

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"
HOOK = b"POST /webhooks/github HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
KB = 1024


@pytest.fixture(scope="module")
def front() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture(autouse=True)
def nothing_seen(front: Served) -> None:
    front.seen.clear()
    front.refused.clear()


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    """As the kit's of whole installations, but in the milliseconds that things take here."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer
    return int(answer[9:12])


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


# --- what two programs could read as two different requests


@pytest.mark.parametrize(
    ("code", "request_"),
    [
        (400, POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + END),
        (400, POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + END),
        (400, POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
        (400, POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        (400, POST + b"Content-Length: 3, 3\r\n\r\nabc"),
        (400, POST + b"Content-Length: +3\r\n\r\nabc"),
        (400, POST + b"Content-Length: -3\r\n\r\nabc"),
        (400, POST + b"Content-Length: 0x3\r\n\r\nabc"),
        (400, POST + b"Content-Length: 1_0\r\n\r\nabc"),
        (400, POST + b"Content-Length: \r\n\r\nabc"),
        (400, POST + b"Content-Length: 99999999999999999999999\r\n\r\nabc"),
        (400, POST + b"Content-Length : 3\r\n\r\nabc"),
        (501, POST + b"Transfer-Encoding: xchunked\r\n\r\n" + END),
        (501, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + END),
        (400, POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + END),
        (400, POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + END),
        (400, POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + END),
        (501, b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + END),
        (400, CHUNKED + b"0x3\r\nabc\r\n" + END),
        (400, CHUNKED + b"3 \r\nabc\r\n" + END),
        (400, CHUNKED + b"3\nabc\n0\n\n"),
        (400, CHUNKED + b"3\r\nabcd\r\n" + END),
        (400, CHUNKED + b"fffffffffffffffffff\r\nabc\r\n" + END),
        (400, POST + b"X-A: b\r\n c\r\nContent-Length: 0\r\n\r\n"),
        (400, b"GET /a HTTP/1.1\nHost: x\n\n"),
        (400, b"GET /a HTTP/1.1\r\nHost: x\nX-A: y\r\n\r\n"),
        (400, b"GET /a HTTP/1.1\r\nHost: x\rX-A: y\r\n\r\n"),
        (400, b"GET /a HTTP/1.1\r\nHost: x\r\nX-A: \0y\r\n\r\n"),
        (400, b"GET /a HTTP/1.1\r\n Host: x\r\n\r\n"),
        (400, b"GET /a HTTP/1.1\r\nHost\r\n\r\n"),
        (400, b"GET /a HTTP/1.1\r\n\r\n"),
        (400, b"GET /a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"),
        (400, b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n"),
        (400, b"FOO /a HTTP/1.1\r\nHost: x\r\n\r\n"),
        (400, b"CONNECT a:80 HTTP/1.1\r\nHost: x\r\n\r\n"),
        (400, b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"),
        (400, b"GET /a HTTP/1.2\r\nHost: x\r\n\r\n"),
        (505, b"GET /a\r\n\r\n"),
        (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        (417, POST + b"Expect: something\r\nContent-Length: 0\r\n\r\n"),
    ],
)
def test_a_malformed_request_is_refused_and_ends_the_connection(
    front: Served, code: int, request_: bytes
) -> None:
    answer = front.exchange(request_ + GET, end=True)
    assert (status(answer), list(json.loads(body(answer)))) == (code, ["error"])
    assert b"Connection: close\r\n" in answer
    assert front.seen == []
    assert front.refused == [code]


@pytest.mark.parametrize(
    ("request_", "method", "path", "query", "sent"),
    [
        (b"GET /a%20b?c=%20 HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/a b", "c=%20", b""),
        (b"\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n", "GET", "/", "", b""),
        (b"GET http://x/p?q HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/p", "q", b""),
        (b"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", "GET", "/", "", b""),
        (POST + b"Content-Length: 3\r\n\r\nabc", "POST", "/a", "", b"abc"),
        (CHUNKED + b"2;x=y\r\nab\r\n1\r\nc\r\n0\r\nX-Trailer: 1\r\n\r\n", "POST", "/a", "", b"abc"),
        (b"POST /a HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", "POST", "/a", "", b"abc"),
    ],
)
@pytest.mark.parametrize("bytewise", [False, True])
def test_a_request_reaches_the_application(
    front: Served, request_: bytes, method: str, path: str, query: str, sent: bytes, bytewise: bool
) -> None:
    parts = [request_[at : at + 1] for at in range(len(request_))] if bytewise else [request_]
    answer = front.exchange(*parts, end=True)
    assert (status(answer), body(answer)) == (200, f"{path} {len(sent)}".encode())
    [(*seen, environ)] = front.seen
    assert seen == [method, path, query, sent]
    assert environ["CONTENT_LENGTH"] == str(len(sent))
    assert "HTTP_X_TRAILER" not in environ
    assert "HTTP_TRANSFER_ENCODING" not in environ
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert environ["SERVER_PORT"] == str(front.port)


def test_a_header_with_an_underscore_is_not_the_one_with_a_hyphen(front: Served) -> None:
    front.exchange(b"GET /a HTTP/1.1\r\nHost: x\r\nX_User: eve\r\nX-Name: b\r\nProxy: c\r\n\r\n", end=True)
    environ = front.seen[0][4]
    assert environ["HTTP_X_NAME"] == "b"
    assert not {"HTTP_X_USER", "HTTP_PROXY"} & set(environ)
    front.exchange(b"GET /a HTTP/1.1\r\nHost: x\r\nX-User: a\r\nX-User: b\r\n\r\n", end=True)
    assert front.seen[1][4]["HTTP_X_USER"] == "a,b"


# --- one after the other


def test_a_connection_serves_many_requests(front: Served) -> None:
    with front.connect() as connection:
        for number in range(3):
            connection.sendall(f"GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            answer = one(connection)
            assert (status(answer), body(answer)) == (200, f"/{number} 0".encode())
            assert b"Connection" not in answer


def test_pipelined_requests_are_answered_in_order(front: Served) -> None:
    requests = [
        f"POST /{n} HTTP/1.1\r\nHost: x\r\nContent-Length: {n}\r\n\r\n".encode() + b"y" * n for n in range(6)
    ]
    with front.connect() as connection:
        connection.sendall(b"".join(requests))
        assert [body(one(connection)) for _ in requests] == [f"/{n} {n}".encode() for n in range(6)]
    answer = front.exchange(*requests, b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" + GET)
    assert answer.count(b"HTTP/1.1 200") == 7
    assert body(answer).endswith(b"/last 0")
    assert len(front.seen) == 13


def test_a_refusal_comes_after_the_answers_to_earlier_requests(front: Served) -> None:
    answer = front.exchange(GET + GET + b"BROKEN\r\n\r\n")
    codes = [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert codes == [200, 200, 400]


def test_a_connection_may_not_pile_requests_up(front: Served) -> None:
    front.held.clear()
    with front.connect() as connection:
        connection.sendall(GET * 1000)
        wait_for("the first one is at the application", lambda: len(front.seen) == 1)
        front.held.set()
        answer = everything(connection)
    number = answer.count(b"HTTP/1.1 200")
    assert number == len(front.seen) < 12
    assert answer.count(b"Connection: close") == 1


def test_a_sender_that_reads_no_answers_is_not_served_on(front: Served) -> None:
    with front.connect() as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n" * 4)
        assert connection.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 200", "the first one is answered"
        with front.connect() as other:
            for _ in range(10):
                other.sendall(GET)
                one(other)
        assert [seen[1] for seen in front.seen] == ["/large", *["/a"] * 10]
        for _ in range(4):
            assert len(body(one(connection))) == 8_000_000


LARGE = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"  # its answer is larger than what the kernel takes at once


def test_a_sender_that_has_ended_is_let_go_after_a_large_answer(front: Served) -> None:
    front.held.clear()
    with front.connect() as connection:
        connection.sendall(LARGE)
        connection.shutdown(socket.SHUT_WR)
        wait_for("the application has it", lambda: len(front.seen) == 1)
        front.held.set()
        assert len(body(everything(connection))) == 8_000_000


def test_what_came_in_parts_during_a_large_answer_is_answered_after_it(front: Served) -> None:
    front.held.clear()
    with front.connect() as connection:
        connection.sendall(LARGE)
        wait_for("the application has it", lambda: len(front.seen) == 1)
        connection.sendall(GET[:-2])  # the front reads no further
        wait_for("the front has read it", lambda: len(front.front.limiter.unfinished) == 1)
        front.held.set()
        assert len(body(one(connection))) == 8_000_000
        connection.sendall(GET[-2:])
        assert body(one(connection)) == b"/a 0"


def test_other_protocols_are_not_spoken(front: Served) -> None:
    upgrade = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    answer = front.exchange(upgrade + b"PRI * HTTP/2.0\r\n\r\n")
    assert (answer.count(b"HTTP/1.1 "), status(answer)) == (1, 200)
    assert b"Connection: close\r\n" in answer


def test_the_sender_of_a_body_is_told_to_continue(front: Served) -> None:
    head = POST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    with front.connect() as connection:
        connection.sendall(head)
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"abc")
        assert body(one(connection)) == b"/a 3"
        connection.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
        answer = everything(connection)
        assert (status(answer), body(answer)) == (413, b'{"error": "the body is larger than 64 kB"}\n')


@pytest.mark.parametrize("path", ["/bug", "/split"])
def test_a_failing_application_is_an_answer(
    front: Served, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = front.exchange(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert status(answer) == 500
    assert b"planted" not in answer
    assert b"Set-Cookie" not in answer
    assert "the application failed" in caplog.text


def test_answers_without_a_body(front: Served) -> None:
    with front.connect() as connection:
        connection.sendall(
            b"HEAD /a HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\n" + GET
        )
        found = bytearray()
        while not found.endswith(b"/a 0"):
            found += connection.recv(65536)
    assert found.count(b"HTTP/1.1 200") == 2
    assert b"HTTP/1.1 204 No Content\r\nDate" in found
    assert b"ignored" not in found
    assert b"Server:" not in found


PARTS = st.sampled_from(
    [GET, POST, HOOK, CHUNKED, END, b"\r\n", b"\r\n\r\n", b"\n", b"3\r\nabc\r\n", b"Content-Length: 3\r\n\r\nabc",
     b"Content-Length: 70000\r\n\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n",
     b"Connection: close\r\n", b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"X: " + b"y" * 9000, b" " * 70_000]
)  # fmt: skip


@given(st.lists(PARTS | st.binary(max_size=30), max_size=12), st.booleans())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_get_responses_and_an_end(
    front: Served, caplog: pytest.LogCaptureFixture, parts: list[bytes], at_once: bool
) -> None:
    """Nothing stops the event loop, no answer is cut off, and all memory is given back (`serving` looks)."""
    sent = [b"".join(parts)] if at_once else parts
    try:
        answer = front.exchange(*sent, end=True)
    except (BrokenPipeError, ConnectionResetError):  # a sender that goes on long after a refusal
        return
    for code, rest in re.findall(rb"(?s)HTTP/1.1 (\d+) [^\r]*\r\n(.*?)(?=HTTP/1.1 |\Z)", answer):
        head, _, content = rest.partition(b"\r\n\r\n")
        assert code == b"100" or len(content) == int(
            head.partition(b"Content-Length: ")[2].partition(b"\r")[0]
        )
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert not [each for each in caplog.records if each.levelname in {"ERROR", "CRITICAL"}], caplog.text


# --- sizes


@pytest.mark.parametrize(
    ("code", "request_"),
    [
        (414, b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
        (414, b"GET /" + b"a" * 9000),
        (431, b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 40000 + b"\r\n\r\n"),
        (431, b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 40000),
        (431, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * 200),
        (413, POST + b"Content-Length: 65537\r\n\r\n"),
        (413, CHUNKED + b"10001\r\n" + b"a" * 65537),
        (413, HOOK + b"Content-Length: 26214401\r\n\r\n"),
        (400, HOOK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 40_000),
    ],
)
@pytest.mark.parametrize("piece", [1000, 1_000_000])
def test_what_is_too_large_is_refused_before_it_is_read(
    front: Served, code: int, request_: bytes, piece: int
) -> None:
    with front.connect() as connection:
        for at in range(0, len(request_), piece):
            connection.sendall(request_[at : at + piece])
        answer = everything(connection)
    assert status(answer) == code
    assert front.seen == []


def test_a_large_body_waits_on_the_disk(front: Served) -> None:
    front.held.clear()
    size = 3_000_000
    with front.connect() as connection:
        connection.sendall(HOOK + f"Content-Length: {size}\r\n\r\n".encode() + b"x" * (size - 1))
        wait_for("it is on the disk", lambda: front.front.limiter.disk > size - 400 * KB)
        assert front.front.limiter.memory < 400 * KB
        connection.sendall(b"y")
        wait_for("the application has it", lambda: bool(front.seen))
        front.held.set()
        assert body(one(connection)) == f"/webhooks/github {size}".encode()
    assert front.seen[0][3] == b"x" * (size - 1) + b"y"


def test_a_sender_that_goes_leaves_nothing(front: Served) -> None:
    with front.connect() as connection:
        connection.sendall(HOOK + b"Content-Length: 9000000\r\n\r\n" + b"x" * 1_000_000)
        wait_for("some is on the disk", lambda: front.front.limiter.disk > 0)
    wait_for("it is given back", lambda: (front.front.limiter.disk, front.front.limiter.memory) == (0, 0))


def test_a_full_disk_is_an_answer(front: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    answer = front.exchange(HOOK + b"Content-Length: 9000000\r\n\r\n" + b"x" * 1_000_000)
    assert status(answer) == 503
    assert b"Retry-After: 5\r\n" in answer
    assert b"No space left" in body(answer)


# --- many at once


@pytest.mark.parametrize(("memory", "disk"), [(200 * KB, 100_000 * KB), (100_000 * KB, 2000 * KB)])
def test_unfinished_bodies_cost_no_more_than_is_granted(memory: int, disk: int) -> None:
    """Beyond it the oldest is refused, so that a sender who finishes gets through."""
    size = 50 * KB if memory < disk else 500 * KB
    with serving(Limits(memory=memory, disk=disk)) as served:
        connections = [served.connect() for _ in range(12)]
        limiter, worst = served.front.limiter, 0
        for number, connection in enumerate(connections):
            connection.sendall(HOOK + b"Content-Length: 20000000\r\n\r\n" + b"x" * size)
            wait_for("it is read", lambda n=number: len(served.refused) + len(limiter.unfinished) == n + 1)  # type: ignore[misc]
            wait_for(
                "it is on the disk", lambda n=number: memory < disk or limiter.memory < (n + 1) * 70 * KB
            )  # type: ignore[misc]
            worst = max(worst, limiter.memory if memory < disk else limiter.disk)
        assert worst <= min(memory, disk)
        assert set(served.refused) == {503}
        assert 6 <= len(served.refused) <= 10
        answer = everything(connections[0])
        assert (status(answer), b"Retry-After: 5\r\n" in answer) == (503, True)
        with served.connect() as honest:
            honest.sendall(HOOK + b"Content-Length: 8000\r\n\r\n" + b"x" * 8000)
            assert status(one(honest)) == 200


def test_too_many_connections_cost_the_one_that_waits_longest() -> None:
    with serving(Limits(connections=50)) as served:
        slow = [served.connect() for _ in range(60)]
        assert [connection.recv(1) for connection in slow[:10]] == [b""] * 10
        with served.connect() as honest:
            honest.sendall(GET)
            assert status(one(honest)) == 200
        assert slow[10].recv(1) == b""
        assert len(served.front._connections) <= 50


def test_too_many_requests_for_the_application_are_refused() -> None:
    with serving(Limits(queued=3, threads=2)) as served:
        served.held.clear()
        waiting = [served.connect() for _ in range(3)]
        for connection in waiting:
            connection.sendall(GET)
        wait_for("they wait", lambda: served.front._queued == 3)
        answer = served.exchange(GET)
        assert (status(answer), b"Retry-After: 5\r\n" in answer) == (503, True)
        served.held.set()
        assert [status(one(connection)) for connection in waiting] == [200] * 3


def test_health_checks_are_answered_while_all_threads_wait() -> None:
    with serving(Limits(queued=3, threads=2)) as served:
        served.held.clear()
        waiting = [served.connect() for _ in range(3)]
        for connection in waiting:
            connection.sendall(GET)
        wait_for("they wait", lambda: served.front._queued == 3)
        with served.connect() as watching:
            watching.settimeout(2)
            for query in (b"", b"?from=probe"):
                watching.sendall(GET.replace(b"/a", WATCHED.encode() + query))
                assert status(one(watching)) == 200
        served.held.set()
        assert [status(one(connection)) for connection in waiting] == [200] * 3


def post_webhook(size: int) -> bytes:
    return b"POST /webhooks/github HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size


def test_webhooks_that_wait_run_together_and_neither_they_nor_pages_wait_for_the_other() -> None:
    batches: list[int] = []

    def run(jobs: Sequence[Callable[[], None]]) -> None:
        batches.append(len(jobs))
        run_in_turn(jobs)

    with serving(Limits(webhook_threads=1, threads=1), run_webhooks=run) as served:
        served.held.clear()
        first, page, *later = [served.connect() for _ in range(5)]
        first.sendall(post_webhook(1))
        wait_for("the thread of webhooks is busy", lambda: len(served.seen) == 1)
        for connection in later:
            connection.sendall(post_webhook(2))
        wait_for("the other webhooks wait", lambda: served.front._queued == 4)
        page.sendall(GET)
        wait_for("the page is asked for", lambda: served.seen[-1][1] == "/a")
        served.held.set()
        answers = [one(connection) for connection in (first, page, *later)]
    assert [status(each) for each in answers] == [200] * 5
    assert batches == [1, 3]


def test_a_webhook_with_a_large_body_does_not_delay_the_others() -> None:
    batches: list[int] = []
    limits = Limits(in_memory_bytes=1000)
    with serving(limits, run_webhooks=lambda jobs: batches.append(len(jobs))) as served:
        connection = served.connect()
        connection.sendall(post_webhook(3000))
        assert status(one(connection)) == 200
    assert batches == []


# --- limits of total time


def drip(connection: socket.socket, part: bytes) -> bytes:
    """Send a byte now and then until the front answers or ends the connection."""
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.05):
            try:
                connection.sendall(part)
            except OSError:
                return

    sender = threading.Thread(target=send)
    sender.start()
    try:
        return everything(connection)
    finally:
        over.set()
        sender.join()


@pytest.mark.parametrize(
    ("begun", "code"),
    [
        (b"POST / HTTP/1.1\r\nHost: x\r\nX-A: ", 408),
        (HOOK + b"Content-Length: 100000\r\n\r\n", 408),
        (HOOK + b"Transfer-Encoding: chunked\r\n\r\nfffff\r\n", 408),
    ],
)
def test_a_slow_request_ends_however_often_a_byte_comes(begun: bytes, code: int) -> None:
    with serving(Limits(head_seconds=0.3, body_seconds=0.3)) as served:
        with served.connect() as connection:
            connection.sendall(begun)
            assert status(drip(connection, b"a")) == code
        assert served.seen == []


def test_silent_and_idle_connections_end() -> None:
    with serving(Limits(head_seconds=0.2, idle_seconds=0.2)) as served:
        assert served.exchange() == b""
        answer = served.exchange(GET)
        assert (status(answer), body(answer)) == (200, b"/a 0")
        with served.connect() as connection:
            connection.sendall(GET)
            one(connection)
            assert drip(connection, b"\r\n") == b"", "empty lines before a request do not prolong it"


def test_an_application_may_take_longer_than_any_sender() -> None:
    with serving(Limits(head_seconds=0.2, body_seconds=0.2, idle_seconds=0.3)) as served:
        served.held.clear()
        with served.connect() as connection:
            connection.sendall(GET)
            wait_for("it is asked", lambda: bool(served.seen))
            with served.connect() as other:
                assert everything(other) == b"", "a deadline has passed since"
            served.held.set()
            assert status(one(connection)) == 200


def test_a_stopping_process_answers_requests_that_have_begun() -> None:
    with serving() as served:
        served.held.clear()
        begun, idle, answered = served.connect(), served.connect(), served.connect()
        answered.sendall(GET)
        begun.sendall(POST + b"Content-Length: 3\r\n\r\na")
        wait_for("it is asked", lambda: bool(served.seen))
        wait_for("it is read", lambda: bool(served.front.limiter.unfinished))
        served.ending.set()
        assert everything(idle) == b""
        with pytest.raises(ConnectionRefusedError):
            served.connect()
        begun.sendall(b"bc")
        served.held.set()
        for connection in (begun, answered):
            answer = everything(connection)
            assert (status(answer), b"Connection: close\r\n" in answer) == (200, True)
            connection.close()
        assert served.ended.wait(2)
        idle.close()


def test_a_stopping_process_does_not_wait_forever() -> None:
    with serving(drain_seconds=0.2) as served, served.connect() as connection:
        connection.sendall(POST + b"Content-Length: 3\r\n\r\na")
        wait_for("it is read", lambda: bool(served.front.limiter.unfinished))
        served.ending.set()
        assert served.ended.wait(3)
