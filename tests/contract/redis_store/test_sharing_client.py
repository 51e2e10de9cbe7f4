"""Requests that run together share their round trips to Redis; each gets its own reply or error."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from deployer.model.environments import Repository
from deployer.queue.items import Work
from deployer.redis_store.circuit_breaker import RedisCircuitBreaker
from deployer.redis_store.connection import connect
from deployer.redis_store.queue import RedisQueueStore
from deployer.redis_store.sharing_client import run_together
from tests.redis_kit import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path / "redis").start()
    yield running
    running.kill()


class Trips:
    """Counts how often the client sends something over a connection of its own."""

    def __init__(self, client: Any) -> None:
        self.sent: list[int] = []
        kind = client.connection_pool.connection_class
        sent = self.sent

        class Counting(kind):
            def send_packed_command(self, command: Any, check_health: bool = True) -> None:
                sent.append(len(command))
                super().send_packed_command(command, check_health=check_health)

        client.connection_pool.connection_class = Counting


def collect(*actions: Callable[[], Any]) -> list[Any]:
    """Run actions together; the result or the error of each."""
    found: list[Any] = [None] * len(actions)

    def job(number: int) -> Callable[[], None]:
        def run() -> None:
            try:
                found[number] = actions[number]()
            except redis.RedisError as error:
                found[number] = type(error)

        return run

    run_together([job(number) for number in range(len(actions))])
    return found


def client_of(server: Server) -> Any:
    return connect(server.url, RedisCircuitBreaker(0.7))


def test_commands_of_requests_that_run_together_are_sent_at_once(server: Server) -> None:
    client = client_of(server)
    trips = Trips(client)
    collect(client.ping)  # opens the connection
    trips.sent.clear()

    def set_and_get(name: str) -> Any:
        client.set(name, f"value of {name}")
        return client.get(name)

    assert collect(lambda: set_and_get("a"), lambda: set_and_get("b"), lambda: client.incr("c")) == [
        "value of a", "value of b", 1,
    ]  # fmt: skip
    assert len(trips.sent) == 2


def test_a_command_that_redis_refuses_fails_only_its_own_request(server: Server) -> None:
    client = client_of(server)
    client.set("text", "x")
    found = collect(lambda: client.incr("text"), lambda: client.incr("number"))
    assert found == [redis.ResponseError, 1]


def test_an_unexpected_error_ends_only_its_own_request(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(server)
    found: list[Any] = []

    def break_off() -> None:
        client.ping()
        raise ValueError("planted")

    run_together([break_off, lambda: found.append(client.incr("number"))])
    assert found == [1]
    assert "planted" in caplog.text


def test_a_connection_that_was_closed_while_idle_is_opened_again(server: Server) -> None:
    client = client_of(server)
    assert collect(client.ping, client.ping) == [True, True]
    with redis.Redis(port=server.port) as other:
        other.client_kill_filter(_type="normal", skipme=True)
    assert collect(lambda: client.incr("a"), lambda: client.incr("a")) == [1, 2]


def test_while_redis_is_away_every_request_fails_and_later_ones_succeed(server: Server) -> None:
    client = client_of(server)
    assert collect(client.ping, client.ping) == [True, True]
    server.kill()
    assert collect(client.ping, client.ping) == [redis.ConnectionError] * 2
    server.start()
    assert collect(client.ping, client.ping) == [True, True]


def test_the_waits_of_earlier_requests_do_not_count(server: Server) -> None:
    breaker = RedisCircuitBreaker(0.7)
    client = connect(server.url, breaker)
    breaker._unanswered_seconds.set(60)
    try:
        assert collect(client.ping, client.ping) == [True, True]
    finally:
        breaker.start_request()


def test_each_push_of_a_batch_is_accepted_once(server: Server) -> None:
    store = RedisQueueStore(client_of(server))
    repository = Repository.parse("acme/api")

    def accept(number: int) -> Callable[[], Any]:
        work = Work.of(environment=f"development:refs/heads/{number}", after="a" * 40)
        return lambda: store.accept(repository, work, f"d-{number}", "push").outcome

    assert collect(*(accept(number % 5) for number in range(10))) == ["queued"] * 5 + ["duplicate"] * 5
    (lane,) = store.lanes()
    assert len(lane.waiting) == 5
