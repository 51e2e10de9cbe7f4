"""Tests of the real server with slow and large senders, and during a reload."""

import http.client
import itertools
import json
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sandbox.installation import wait_for
from tests.redis_kit import SlowNetwork
from tests.web.gunicorn_kit import TOKEN, Gunicorn, gunicorn, signed
from tests.web.site import push_payload

MB = 1024 * 1024
BEGUN = [
    b"",
    b"POST /webhooks/github HTTP/1.1\r\nHost: x\r\nX-Name: ",
    b"POST /webhooks/github HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n",
    b"POST /webhooks/github HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n",
]


@pytest.fixture(scope="module")
def network(redis_url: str) -> Iterator[SlowNetwork]:
    """Between the server and Redis; it is not slow at first."""
    made = SlowNetwork(urlsplit(redis_url).port or 0, 0)
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(network: SlowNetwork, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gunicorn]:
    """A server that is given as few open files as most systems give."""
    with gunicorn(network.url, tmp_path_factory.mktemp("gunicorn"), files=1024) as running:
        yield running


def ask(
    port: int, method: str = "GET", path: str = "/healthz", body: bytes = b"", **headers: str
) -> tuple[int, float]:
    """The status of an answer, and the seconds that it took, with a connection of its own."""
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, body=body or None, headers=headers)
    with connection.getresponse() as answer:
        answer.read()
        code = answer.status
    connection.close()
    return code, time.monotonic() - began


def push(port: int, delivery: str) -> int:
    body = json.dumps(push_payload()).encode()
    return post(port, body, signed(body), delivery)


def post(port: int, body: bytes, signature: str, delivery: str = "d-1") -> int:
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": delivery,
        "X-Hub-Signature-256": signature,
    }
    return ask(port, "POST", "/webhooks/github", body, **headers)[0]


@contextmanager
def slow_senders(port: int, number: int) -> Iterator[None]:
    """Connections in the middle of a request, each of which sends a byte again and again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number + 500:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(number + 500, hard), hard))
    over = threading.Event()
    with ExitStack() as open_:
        senders = [
            open_.enter_context(socket.create_connection(("127.0.0.1", port), 20)) for _ in range(number)
        ]
        for sender, begun in zip(senders, itertools.cycle(BEGUN)):
            sender.sendall(begun)

        def drip() -> None:
            while not over.wait(1):
                for sender, begun in zip(senders, itertools.cycle(BEGUN)):
                    if begun:
                        with suppress(OSError):
                            sender.send(b"a")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def test_a_thousand_slow_senders_keep_nobody_out(server: Gunicorn) -> None:
    assert ask(server.port)[0] == 200
    with slow_senders(server.port, 1000):
        answers = [ask(server.port) for _ in range(5)]
        assert [code for code, _ in answers] == [200] * 5
        assert sorted(seconds for _, seconds in answers)[2] < 1, "one of them may meet a busy machine"
        assert push(server.port, "d-amid-slow-ones") == 202


def test_a_slow_redis_loses_no_push_and_leaves_the_health_check_at_once(
    server: Gunicorn, network: SlowNetwork
) -> None:
    pushes, most = 20, 10  # seconds that GitHub waits
    assert ask(server.port)[0] == 200
    network.seconds = 0.15
    try:
        with ThreadPoolExecutor(pushes) as pool:
            began = time.monotonic()
            asked = [pool.submit(push, server.port, f"d-slow-{number}") for number in range(pushes)]
            checks = []
            while not all(each.done() for each in asked):
                checks.append(ask(server.port))
            took = time.monotonic() - began
        assert [each.result() for each in asked] == [202] * pushes
    finally:
        network.seconds = 0
    assert took < most
    assert {code for code, _ in checks} == {200}
    assert max(seconds for _, seconds in checks) < 1
    print(f"{pushes} pushes in {took:.1f} s, {len(checks)} checks")


def test_unsigned_bodies_cost_no_more_than_is_granted(server: Gunicorn) -> None:
    """Sixteen large ones at once, and a thousand that are not finished."""
    assert push(server.port, "d-first") == 202
    [worker] = server.workers
    before, most_disk, over = memory(worker, "VmRSS"), 0, threading.Event()

    def watch() -> None:
        nonlocal most_disk
        while not over.wait(0.01):
            most_disk = max(most_disk, disk(worker))

    watcher = threading.Thread(target=watch)
    watcher.start()
    large = b" " * (25 * MB)
    try:
        with ThreadPoolExecutor(16) as pool:
            codes = list(pool.map(lambda _: post(server.port, large, "sha256=0"), range(16)))
        with ExitStack() as open_:
            head = b"POST /webhooks/github HTTP/1.1\r\nHost: x\r\nContent-Length: 65000\r\n\r\n"
            for _ in range(1000):
                sender = open_.enter_context(socket.create_connection(("127.0.0.1", server.port), 20))
                sender.sendall(head + b" " * 60_000)
            assert push(server.port, "d-amid-unfinished-ones") == 202
    finally:
        over.set()
        watcher.join()
    assert set(codes) <= {401, 503}
    assert most_disk > 25 * MB, "the watcher sees the files"
    assert most_disk <= 256 * MB
    assert memory(worker, "VmHWM") - before <= 64 * MB


def memory(pid: int, name: str) -> int:
    """Bytes that a process has, or (VmHWM) had at most."""
    line = next(
        each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith(name)
    )
    return int(line.split()[1]) * 1024


def disk(pid: int) -> int:
    """Bytes of a process's unlinked files."""
    size = 0
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            if str(each.readlink()).endswith("(deleted)"):
                size += each.stat().st_size
    return size


def test_a_reload_refuses_nobody(server: Gunicorn) -> None:
    [before] = wait_for("a process runs", lambda: server.workers)
    assert push(server.port, "d-before") == 202
    over = threading.Event()

    def deliver(number: int) -> list[int]:
        codes = []
        while not over.is_set():
            codes.append(push(server.port, f"d-{number}-{len(codes)}"))
        return codes

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(deliver, number) for number in range(4)]
        server.process.send_signal(signal.SIGHUP)
        wait_for(
            "another process answers",
            lambda: server.workers not in ([before], []) and before not in server.workers,
        )
        over.set()
        codes = [code for each in running for code in each.result()]
    assert len(codes) >= 4
    assert set(codes) == {202}


SLOW_START = """
from pathlib import Path
import time
from web.gunicorn_conf import *

def post_fork(server, worker):
    Path({started!r}).touch()
    while not Path({gate!r}).exists():
        time.sleep(0.01)
"""


def test_a_replaced_process_serves_until_the_new_one_does(redis_url: str, tmp_path: Path) -> None:
    gate, started = tmp_path / "gate", tmp_path / "started"
    gate.touch()
    config = tmp_path / "slow_start.py"
    config.write_text(SLOW_START.format(gate=str(gate), started=str(started)))
    with gunicorn(redis_url, tmp_path, f"--config={config}") as running:
        wait_for("a process answers", lambda: ask(running.port)[0] == 200)
        [before] = running.workers
        kept = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
        gate.unlink()
        started.unlink()
        running.process.send_signal(signal.SIGHUP)
        wait_for("a new process starts", started.exists)
        os.kill(before, signal.SIGTERM)  # as gunicorn does about now
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            assert push(running.port, "d-1") == 202
            assert not is_last(kept)
        assert before in running.workers
        gate.touch()
        wait_for("a connection that was kept is told to end", lambda: is_last(kept))
        wait_for("the new process is alone", lambda: before not in running.workers)


def is_last(connection: http.client.HTTPConnection) -> bool:
    """Whether the server ends a connection after one more request."""
    connection.request("GET", "/healthz")
    with connection.getresponse() as answer:
        answer.read()
        return answer.getheader("Connection") == "close"


def test_processes_that_share_a_port_count_together(redis_url: str, tmp_path: Path) -> None:
    with gunicorn(redis_url, tmp_path, "--workers=2", env={"TMPDIR": str(tmp_path)}) as running:
        assert push(running.port, "d-0") == 202
        wait_for("both processes run", lambda: len(running.workers) == 2)
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda number: push(running.port, f"d-{number}"), range(1, 40))) == {202}
        for worker in running.workers[:1]:
            os.kill(worker, signal.SIGKILL)  # its counts stay
        for _ in range(10):
            assert scrape(running.port)['deployer_webhook_answers_total{code="202",source="github"}'] == 40
    assert not list(tmp_path.glob("deployer-metrics-*"))


def test_webhooks_on_a_port_of_their_own(redis_url: str, tmp_path: Path) -> None:
    with gunicorn(redis_url, tmp_path, webhooks=True) as running:
        hooks = running.webhook_port
        wait_for("it answers", lambda: ask(running.port)[0] == 200)
        assert push(hooks, "d-0") == 202
        assert push(running.port, "d-1") == 404
        assert [ask(port)[0] for port in (running.port, hooks)] == [200, 200]
        assert [ask(port, path="/readyz")[0] for port in (running.port, hooks)] == [200, 404]
        token = {"Authorization": f"Bearer {TOKEN}"}
        assert [ask(port, path="/", **token)[0] for port in (running.port, hooks)] == [200, 404]


def scrape(port: int) -> dict[str, float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    with connection.getresponse() as answer:
        lines = answer.read().decode().splitlines()
    connection.close()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
    }
