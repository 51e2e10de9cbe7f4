"""Any interleaving of what web, workers, sweeper and people do to a lane, with workers that die and time that passes.

After every step the lane must hold what docs/lanes.md promises; at the end everything must come to its outcome.
"""

import json
from typing import Any, ClassVar

import fakeredis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from deployer.adapters.redis_client import connect
from deployer.adapters.redis_lanes import RedisLanes
from deployer.environments import Repository
from deployer.errors import LaneLostError
from deployer.ledger import RESYNC_KEY, Cause, DeadLetter, Task, Work
from deployer.ports import Again, Dead, Dispatch, Done, Retry, Snooze

HELLO = Repository.parse("acme/hello")
PREFIX = "deployer:{acme/hello}"
ENVIRONMENTS = ["development:refs/heads/x", "development:refs/heads/y", "staging", "production"]
LEASE, GRACE, ATTEMPTS = 30, 10, 3
FINAL = {"deployed", "deleted", "superseded", "skipped", "failed", "dead-lettered"}


class LaneMachine(RuleBasedStateMachine):
    """One lane, driven at random."""

    client: ClassVar[Any]
    messages = Bundle("messages")
    held = Bundle("held")

    @initialize()
    def begin_empty(self) -> None:
        self.client.flushall()
        self.lanes = RedisLanes(self.client, lease_seconds=LEASE, grace_seconds=GRACE, max_attempts=ATTEMPTS)
        self.deliveries: set[str] = set()
        self.tokens: list[int] = []
        self.works: dict[int, Work] = {}
        self.numbers = 0

    def handed(self, dispatch: Dispatch | None) -> Any:
        """A message that goes out; its token is no older than any before."""
        if dispatch is None:
            return multiple()
        assert dispatch.token >= max(self.tokens, default=0)
        self.tokens.append(dispatch.token)
        return dispatch

    # --- web and people

    @rule(
        target=messages,
        environment=st.sampled_from(ENVIRONMENTS),
        cause=st.sampled_from([Cause.PUSH, Cause.PUSH, Cause.DELETION, Cause.EVENT, Cause.REDEPLOY]),
        pushed_at=st.integers(0, 3),
    )
    def accept(self, environment: str, cause: Cause, pushed_at: int) -> Any:
        self.numbers += 1
        delivery = "" if cause is Cause.REDEPLOY else f"d{self.numbers}"
        task = Task.NOTIFY if cause is Cause.EVENT else Task.SYNC
        ref = "refs/tags/v1" if environment == "production" else "refs/heads/x"
        work = Work(environment, task=task, cause=cause, ref=ref, after="a" * 40, pushed_at=pushed_at)
        accepted = self.lanes.accept(HELLO, work, delivery, "an event")
        assert accepted.outcome == "queued"
        if delivery:
            self.deliveries.add(delivery)
        return self.handed(accepted.dispatch)

    @rule(target=messages)
    def resync(self) -> Any:
        work = Work(RESYNC_KEY, task=Task.RESYNC, cause=Cause.RESYNC)
        return self.handed(self.lanes.accept(HELLO, work).dispatch)

    @rule(data=st.data(), target=messages)
    def tell_again(self, data: st.DataObject) -> Any:
        """GitHub repeats a delivery: it counts once, unless it ended badly."""
        if not self.deliveries:
            return multiple()
        delivery = data.draw(st.sampled_from(sorted(self.deliveries)))
        before = self.outcome(delivery)
        accepted = self.lanes.accept(HELLO, Work(ENVIRONMENTS[0], after="b" * 40), delivery, "an event")
        assert accepted.outcome == ("queued" if before in {"failed", "dead-lettered"} else "duplicate")
        return self.handed(accepted.dispatch)

    @rule(target=messages)
    def replay(self) -> Any:
        letters = self.lanes.dead_letters(HELLO)
        return self.handed(self.lanes.replay(letters[0].id).dispatch) if letters else multiple()

    # --- workers; a message may come late, twice or never

    @rule(target=held, dispatch=messages)
    def begin(self, dispatch: Dispatch) -> Any:
        before = self.dump()
        work = self.lanes.begin(HELLO, dispatch.token)
        if work is None:
            assert self.dump() == before
            return multiple()
        assert dispatch.token == max(self.tokens), "only the newest token begins"
        self.works[dispatch.token] = work
        return dispatch.token

    @rule(token=held)
    def extend(self, token: int) -> None:
        before = self.dump()
        if not self.lanes.extend(HELLO, token):
            assert self.dump() == before

    @rule(
        target=messages,
        token=consumes(held),
        kind=st.sampled_from(["done", "failed", "again", "snooze", "retry", "dead"]),
        seconds=st.integers(1, 40),
    )
    def finish(self, token: int, kind: str, seconds: int) -> Any:
        work = self.works[token]
        letter = DeadLetter(f"acme~hello-{token}", "acme/hello", work.task, "why", "", 0, work.to_json())
        verdicts: dict[str, Any] = {
            "done": Done("deployed", "well"),
            "failed": Done("failed", "badly"),
            "again": Again(work.but(task=Task.TRIGGER)),
            "snooze": Snooze(work, seconds),
            "retry": Retry(work, seconds),
            "dead": Dead(letter),
        }
        before, newest = self.dump(), max(self.tokens)
        try:
            return self.handed(self.lanes.finish(HELLO, token, verdicts[kind]))
        except LaneLostError:
            assert self.dump() == before, "an old token changes nothing"
            return multiple()
        finally:
            if self.dump() != before:
                assert token == newest, "only the newest token finishes"

    # --- time

    @rule(target=messages, seconds=st.integers(0, 60))
    def sweep(self, seconds: int) -> Any:
        self.lanes.clock_offset_ms += seconds * 1000
        found = self.lanes.sweep()
        assert len(found) <= 1
        return self.handed(found[0] if found else None)

    @rule(target=messages, token=held)
    def stall(self, token: int) -> Any:
        """A worker sleeps past its lease, and another one takes over at once."""
        self.lanes.clock_offset_ms += (LEASE + 1) * 1000
        dispatch = next(iter(self.lanes.sweep()), None)
        if dispatch and (work := self.lanes.begin(HELLO, dispatch.token)):
            assert dispatch.token > token
            self.works[dispatch.token] = work
            self.tokens.append(dispatch.token)
        return multiple()

    # --- what always holds

    @invariant()
    def an_environment_is_in_one_place(self) -> None:
        queue = self.client.lrange(f"{PREFIX}:queue", 0, -1)
        snoozed = self.client.zrange(f"{PREFIX}:snoozed", 0, -1)
        assert len(queue) == len(set(queue))
        assert not set(queue) & set(snoozed)
        assert set(queue) | set(snoozed) == set(self.client.hkeys(f"{PREFIX}:items"))

    @invariant()
    def a_delivery_waits_in_one_place_or_has_its_outcome(self) -> None:
        state = self.client.hgetall(f"{PREFIX}:state")
        entries = [json.loads(text) for text in self.client.hvals(f"{PREFIX}:items")]
        if state.get("status") == "running":
            entries.append(json.loads(state["current"]))
        waiting = [each for entry in entries for each in entry["deliveries"].split(",") if each]
        assert len(waiting) == len(set(waiting))
        assert set(waiting) == {each for each in self.deliveries if self.outcome(each) == "queued"}
        assert all(self.outcome(each) in FINAL for each in self.deliveries - set(waiting))

    def teardown(self) -> None:
        """Everything comes to rest when workers do their work again."""
        if not hasattr(self, "lanes"):
            return
        for _ in range(80):
            self.lanes.clock_offset_ms += 61_000
            for dispatch in self.lanes.sweep():
                found: Dispatch | None = dispatch
                while found:
                    self.lanes.begin(HELLO, found.token)
                    found = self.lanes.finish(HELLO, found.token, Done("deployed", "at last"))
            if not self.lanes.lanes():
                break
        assert not self.lanes.lanes()
        assert all(self.outcome(each) in FINAL for each in self.deliveries)

    def outcome(self, delivery: str) -> str:
        return str(self.client.hget(f"{PREFIX}:delivery:{delivery}", "outcome"))

    def dump(self) -> dict[str, Any]:
        """All of the lane but counters and the times of looks."""
        readers = {"hash": "hgetall", "list": "lrange", "zset": "zrange", "string": "get"}
        found = {}
        for key in sorted(self.client.keys(f"{PREFIX}*")):
            kind = self.client.type(key)
            extra = (0, -1) if kind in {"list", "zset"} else ()
            found[key] = getattr(self.client, readers[kind])(key, *extra)
        return found


def test_any_interleaving_on_fakeredis() -> None:
    machine = type("OnFakeRedis", (LaneMachine,), {"client": fakeredis.FakeRedis(decode_responses=True)})
    machine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
    machine.TestCase().runTest()


@pytest.mark.parametrize("steps", [40])
def test_any_interleaving_on_a_server(redis_url: str, steps: int) -> None:
    with connect(redis_url) as client:
        machine = type("OnAServer", (LaneMachine,), {"client": client})
        machine.TestCase.settings = settings(
            max_examples=100,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        )
        machine.TestCase().runTest()
