"""Stored records that several processes change at the same time, on a real server: each test says who comes between."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import redis

from deployer.model.delivery_record import DeliveryRecord
from deployer.model.environments import Repository
from deployer.model.errors import PermanentError, UnavailableError
from deployer.model.events import Push
from deployer.model.outcomes import Outcome
from deployer.model.refs import ZERO_SHA, Ref
from deployer.model.repository_record import RepositoryRecord, Seen
from deployer.queue.items import Cause, Work
from deployer.redis_store.connection import connect
from deployer.redis_store.errors import refuses_one_command, unavailable
from deployer.redis_store.queue import RedisQueueStore
from tests.records import know_repository
from tests.unit.world import HELLO, World, environment, sha

BRANCH = "refs/heads/x"


@pytest.fixture
def world(client: Any) -> World:
    made = World(client)
    made.deployer.config = replace(made.deployer.config, public_url="https://here")
    made.push("refs/heads/main", sha(1))
    made.run()
    made.host.hooks[HELLO.key] = ("https://here/webhooks/github", "", [])
    return made


def meanwhile(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], object]) -> None:
    """Let another process act once, right after the first call of a method has its answer."""
    method = getattr(owner, name)

    def called(*arguments: Any, **options: Any) -> Any:
        answer = method(*arguments, **options)
        monkeypatch.setattr(owner, name, method)
        act()
        return answer

    monkeypatch.setattr(owner, name, called)


def test_a_resync_keeps_what_a_check_of_deliveries_has_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    know_repository(world.lanes, RepositoryRecord("acme/hello", 1))
    world.host.change(HELLO, archived=True)
    meanwhile(monkeypatch, world.host, "facts", lambda: world.deployer.deliveries.check(HELLO))
    world.deployer.repositories.refresh_record(HELLO)
    known = world.known(HELLO)
    assert known.state == "archived"
    assert known.checked_at > 0, "else the next resync looks through three days of deliveries again"


def test_a_check_of_deliveries_keeps_what_a_resync_has_stored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.host.change(HELLO, archived=True)
    meanwhile(
        monkeypatch, world.lanes, "repository", lambda: world.deployer.repositories.refresh_record(HELLO)
    )
    world.deployer.deliveries.check(HELLO)
    assert world.known(HELLO).state == "archived"
    assert world.known(HELLO).checked_at > 0


def test_a_resync_keeps_that_a_person_has_accepted_a_repository(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = RepositoryRecord("acme/hello")
    know_repository(world.lanes, known.but(id=99, state="replaced", reason="another has its name"))
    meanwhile(monkeypatch, world.host, "facts", lambda: world.deployer.lifecycle.accept(HELLO))
    world.deployer.repositories.refresh_record(HELLO)
    assert (world.known(HELLO).state, world.known(HELLO).id) == ("", 1), "its own number"


def test_a_change_is_repeated_until_no_other_process_interferes(world: World, client: Any) -> None:
    know_repository(world.lanes, RepositoryRecord("acme/hello", 1))
    other, others = RedisQueueStore(connect_like(client)), ["a", "b", "c"]

    def edit(known: RepositoryRecord) -> RepositoryRecord:
        if others:
            name = others.pop()
            other.change_repository(HELLO, lambda each: each.but(default_branch=each.default_branch + name))
        return known.but(recent=known.recent + 1)

    found = world.lanes.change_repository(HELLO, edit)
    assert found == world.known(HELLO)
    assert (found.default_branch, found.recent) == ("cba", 1)

    def refuse(_: RepositoryRecord) -> RepositoryRecord:
        raise PermanentError("no")

    with pytest.raises(PermanentError):
        world.lanes.change_repository(HELLO, refuse)
    assert world.known(HELLO) == found


def connect_like(client: Any) -> Any:
    port = client.connection_pool.connection_kwargs["port"]
    return connect(f"redis://127.0.0.1:{port}/0")


def test_a_late_resync_does_not_overwrite_a_newer_one(world: World) -> None:
    began = world.lanes.read_seen(HELLO)
    accepted = Seen(accepted_at=5.0, never_deployed="v1")
    world.lanes.save_seen(HELLO, accepted)
    world.lanes.save_seen(HELLO, Seen({"development:refs/heads/x": 1.0}), instead_of=began)
    assert world.lanes.read_seen(HELLO) == accepted
    world.lanes.save_seen(HELLO, Seen(never_deployed="v2"), instead_of=accepted)
    assert world.lanes.read_seen(HELLO).never_deployed == "v2"


def test_a_delivery_that_is_accepted_meanwhile_is_not_recorded_as_ignored(
    world: World, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = Work.of(environment(BRANCH).key, cause=Cause.PUSH, ref=BRANCH)
    meanwhile(monkeypatch, world.lanes, "now", lambda: world.lanes.accept(HELLO, wish, "d-1", "push"))
    world.lanes.ignore(DeliveryRecord("d-1", "acme/hello", outcome=str(Outcome.SUPERSEDED), reason="missed"))
    assert world.outcome("d-1")[0] == "queued"
    assert client.ttl("deployer:{acme/hello}:delivery:d-1") == -1, "it does not expire while it waits"


def test_a_repository_with_work_is_not_dropped(world: World) -> None:
    other = Repository.parse("acme/other")
    wish = Work.of("staging", cause=Cause.PUSH, ref="refs/heads/main")
    dispatch = world.lanes.accept(other, wish, "d-1", "push").dispatch
    assert dispatch
    assert world.lanes.begin(other, dispatch.token)
    world.lanes.delete_repository_if_empty(other)  # while it runs
    assert other in world.lanes.repositories()
    assert world.lanes.extend(other, dispatch.token)


def test_totals_never_decrease(world: World) -> None:
    other = Repository.parse("acme/mistyped")
    world.deployer.submitter.resync(other)
    before = world.lanes.counters()
    world.tasks()
    assert other not in world.lanes.repositories()
    assert {
        name: number for name, number in before.items() if world.lanes.counters().get(name, 0) < number
    } == {}
    assert world.lanes.counters()["goal:failed"] == 1


def test_deliveries_of_repositories_that_are_not_served_are_counted_and_leave_no_key_behind(
    world: World, client: Any
) -> None:
    world.lanes.index_records()
    before = set(client.keys())
    for number in range(50):
        other = Repository("else", f"repo-{number % 30}")
        push = Push(f"d-{number}", other, Ref.parse(BRANCH), ZERO_SHA, sha(1), "main")
        assert world.deployer.submitter.submit_github(push).outcome == "ignored"
    world.deployer.submitter.submit_github(Push("d-49", other, Ref.parse(BRANCH), ZERO_SHA, sha(1), "main"))
    counts = world.lanes.counters()
    assert (counts["delivery:unserved"], counts["outcome:ignored"]) == (50, 50)
    found = world.lanes.unserved_repositories()
    assert len(found) == 20
    assert next(iter(found)) == "else/repo-19"
    new = set(client.keys()) - before
    assert {key for key in new if client.ttl(key) == -1} == {"deployer:{-/-}:counters"}


@pytest.mark.parametrize(
    ("answer", "one"),
    [
        ("WRONGTYPE Operation against a key holding the wrong kind of value", True),
        ("Command # 1 (HSET a b) of pipeline caused error: WRONGTYPE Operation", True),
        ("MISCONF Redis is configured to save RDB snapshots", False),
        ("Command # 1 (HSET a b) of pipeline caused error: MISCONF Redis is configured", False),
        ("Command # 2 (SET MISCONF) of pipeline caused error: OOM command not allowed", False),
        ("NOREPLICAS Not enough good replicas to write.", False),
    ],
)
def test_a_refusal_of_one_command_differs_from_a_refusal_of_all(answer: str, one: bool) -> None:
    with pytest.raises(UnavailableError) as caught, unavailable():
        raise redis.ResponseError(answer)
    assert refuses_one_command(caught.value) == one


def test_a_redis_that_does_not_answer_refuses_all_commands() -> None:
    with pytest.raises(UnavailableError) as caught:
        RedisQueueStore(connect("redis://127.0.0.1:1/0")).ping()
    assert not refuses_one_command(caught.value)
