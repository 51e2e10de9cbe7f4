"""Random sequences of the operations of web, workers, scheduler and people on a lane and on its model.

After every step, the answers and the whole state agree with lane_model.py, and the invariants of docs/lanes.md hold
in both. At the end every item reaches its outcome.

The script's clock only advances by the time that a rule lets pass, so that all times agree to the millisecond.
Durations are numbers of ticks, so much is due exactly at a step. (test_lanes.py uses the real clock.)

`LANE_STEPS=20000 pytest ...` runs about so many steps on a server instead of 2,000.
"""

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar
from uuid import UUID

import fakeredis
import pytest
import test_lanes
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)
from lane_model import FINAL, LOST, REPEATABLE, Delivery, Entry, Handed, Lane, Letter

from deployer.model.activity import Activity
from deployer.model.delivery_record import DeliveryRecord
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Repository
from deployer.model.errors import LaneLostError, NotFoundError
from deployer.queue.dead_letter_record import TASK_TIMEOUT, WORKER_LOST, DeadLetter
from deployer.queue.dead_letters import letter_id
from deployer.queue.items import RESYNC_KEY, Cause, Task, Work
from deployer.queue.step_results import Continue, DeadLettered, Finished, RetryLater, WaitUntil
from deployer.queue.store import Dispatch, NextItem, Taken
from deployer.redis_store.connection import connect
from deployer.redis_store.queue import RedisQueueStore
from deployer.redis_store.queue_script import queue_script_text

HELLO = Repository.parse("acme/hello")
PREFIX = "deployer:{acme/hello}"
X, Y, PRODUCTION = "development:refs/heads/x", "development:refs/heads/y", "production"
START = 1_800_000_000  # the start of the clock in epoch seconds
TICK = 20
LEASE, GRACE, ATTEMPTS = 2 * TICK, TICK, 3
STEPS = 40  # of each sequence
REFUSALS = 2  # few, so that the last one happens often
# the fields of work that the model knows
FIELDS = [
    "environment", "task", "cause", "goal", "deliveries", "ref", "before", "after", "sha", "pushed_at",
    "sender", "replaced_after", "replaced_at", "candidate", "decided_at", "accepted_at", "attempts", "polls", "created",
    "deletions", "execution", "not_before", "began_at", "tries", "looked_at", "turned",
    "recreate",
]  # fmt: skip
TICKS = st.sampled_from([0, 1, 2, 5])
SENDERS = st.sampled_from(["bot", "bot", "ann", ""])
PLACES = st.sampled_from([X, X, X, Y, PRODUCTION])  # the first one often
KINDS = st.sampled_from(
    [
        "done",
        "skipped",
        "failed",
        "again",
        "snooze",
        "rest",
        "retry",
        "retry",
        "dead",
        "dead",
        "lost",
        "timeout",
    ]
)


class LaneMachine(RuleBasedStateMachine):
    """One lane in Redis and its model, driven at random."""

    client: ClassVar[Any]
    change: ClassVar[tuple[str, str]] = ("", "")  # of the script: old and new text
    messages = Bundle("messages")
    held = Bundle("held")

    @initialize()
    def begin_empty(self) -> None:
        self.client.flushall()
        self.lanes = RedisQueueStore(
            self.client, lease_seconds=LEASE, grace_seconds=GRACE, max_attempts=ATTEMPTS
        )
        source = queue_script_text()
        for old, new in (
            ("call('TIME')", f"{{ {START}, 0 }}"),
            ("LONGEST_PAUSE = 8,", f"LONGEST_PAUSE = {REFUSALS},"),
            self.change,
        ):
            assert old in source, old
            source = source.replace(old, new)
        self.lanes._script = self.client.register_script(source)
        self.model = Lane("acme/hello", LEASE, GRACE, ATTEMPTS, refusals=REFUSALS)
        self.now = 0
        self.let_pass(1)  # no time is 0, which stands for none
        self.numbers = 0
        self.tokens: list[int] = []
        self.works: dict[int, tuple[Work, Entry]] = {}
        self.messages_of: dict[
            int, int
        ] = {}  # the token of the message whose worker has begun the item of a token
        self.read: tuple[list[EnvironmentRecord], dict[str, EnvironmentRecord]] = [], {}

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def sent(self, dispatch: Dispatch | None, handed: Handed | None) -> Any:
        """A message that is sent. The model learns its token, which must be greater than all before."""
        assert (dispatch is None) == (handed is None), (dispatch, handed)
        if dispatch is None:
            return multiple()
        if handed.token not in self.tokens:
            handed = self.learn(dispatch.token)
        assert dispatch == Dispatch("acme/hello", handed.key, handed.task, handed.token, handed.low)
        return handed.token

    def learn(self, token: int) -> Handed:
        """Tell the model the token of what it has handed out."""
        assert token > max(self.tokens, default=0)
        self.tokens.append(token)
        self.model.token = token
        self.model.sent = replace(self.model.sent, token=token)
        return self.model.sent

    def accept_both(self, work: Work, delivery: str = "", event: str = "") -> Any:
        accepted = self.lanes.accept(HELLO, work, delivery, event)
        outcome, detail, handed = self.model.accept(self.now, work, delivery, event)
        assert accepted.outcome == outcome
        assert (accepted.goal if outcome == "queued" else accepted.reason.rpartition(" ")[2]) == detail
        return self.sent(accepted.dispatch, handed)

    # --- web and people

    @rule(
        target=messages,
        environment=PLACES,
        cause=st.sampled_from([Cause.PUSH, Cause.PUSH, Cause.DELETION]),
        pushed_at=st.integers(0, 3),
        sender=SENDERS,
    )
    def accept_push(self, environment: str, cause: Cause, pushed_at: int, sender: str) -> Any:
        n = self.number()
        ref = f"refs/tags/v{n % 3}" if environment == PRODUCTION else environment.partition(":")[2]
        work = Work.of(environment, cause=cause, ref=ref, before=f"b{n}", after=f"a{n}", pushed_at=pushed_at)
        work = work.but(candidate=environment == PRODUCTION, sender=sender)
        return self.accept_both(work, f"d.{n}", "push")

    @rule(target=messages, sender=SENDERS, count=st.integers(2, 5))
    def accept_many(self, sender: str, count: int) -> Any:
        """Somebody pushes several branches at once."""
        numbers = [self.number() for _ in range(count)]
        for n in numbers:
            ref = f"refs/heads/{'z' * (n % 4 + 1)}"
            work = Work.of(f"development:{ref}", ref=ref, after=f"a{n}", sender=sender)
            found = self.accept_both(work, f"d.{n}", "push")
        return found

    @rule(target=messages, environment=PLACES)
    def accept_event(self, environment: str) -> Any:
        work = Work(environment, task=Task.NOTIFY, cause=Cause.EVENT)
        return self.accept_both(work, f"e.{self.number()}", "stage Build")

    @rule(
        target=messages,
        environment=st.sampled_from([X, X, RESYNC_KEY, PRODUCTION]),
        cause=st.sampled_from([Cause.RESYNC, Cause.RESYNC, Cause.REDEPLOY, Cause.TEARDOWN]),
        turned=st.booleans(),
        word=st.sampled_from(["", "deleted", "removed"]),
        recreate=st.booleans(),
    )
    def accept_undelivered(
        self, environment: str, cause: Cause, turned: bool, word: str, recreate: bool
    ) -> Any:
        cause, task = (Cause.RESYNC, Task.RESYNC) if environment == RESYNC_KEY else (cause, Task.SYNC)
        word = "" if cause not in {Cause.RESYNC, Cause.TEARDOWN} else word
        n = self.number()
        work = Work.of(environment, task=task, cause=cause, goal=f"g{n}", sha="c", looked_at=n % 3)
        recreate = recreate and environment == RESYNC_KEY
        return self.accept_both(work.but(turned=turned, word=word, recreate=recreate))

    @rule(target=messages, cause=st.sampled_from([Cause.RESYNC, Cause.REDEPLOY]))
    def accept_tag(self, cause: Cause) -> Any:
        """A person names a tag for production, or a resync finds one whose webhook was lost."""
        n = self.number()
        return self.accept_both(
            Work.of(PRODUCTION, cause=cause, goal=f"g{n}", ref=f"refs/tags/v{n % 3}", candidate=True)
        )

    @precondition(lambda self: self.model.deliveries)
    @rule(target=messages, data=st.data())
    def tell_again(self, data: st.DataObject) -> Any:
        """GitHub and AWS repeat a delivery, which counts once."""
        return self.accept_again(data.draw(st.sampled_from(sorted(self.model.deliveries))))

    @precondition(lambda self: self.ended_badly())
    @rule(target=messages, data=st.data())
    def redeliver(self, data: st.DataObject) -> Any:
        """A delivery that failed counts again."""
        return self.accept_again(data.draw(st.sampled_from(self.ended_badly())))

    def ended_badly(self) -> list[str]:
        """Deliveries that may be accepted again; only those in a dead letter if there are any: they are rare."""
        found = sorted(name for name, each in self.model.deliveries.items() if each.outcome in REPEATABLE)
        return [each for each in found if self.model.deliveries[each].letter in self.model.letters] or found

    def accept_again(self, delivery: str) -> Any:
        if delivery.startswith("e"):
            return self.accept_both(Work(X, task=Task.NOTIFY, cause=Cause.EVENT), delivery, "stage Build")
        return self.accept_both(Work.of(X, after="again", pushed_at=2), delivery, "push")

    @rule(again=st.booleans())
    def ignore(self, again: bool) -> None:
        delivery = next(iter(self.model.deliveries), "d.0") if again else f"d.{self.number()}"
        self.lanes.ignore(DeliveryRecord(delivery, "acme/hello", reason="a star"))
        self.model.ignore(delivery, "ignored", "a star")

    @rule(target=messages, data=st.data())
    def replay(self, data: st.DataObject) -> Any:
        letter = data.draw(st.sampled_from(sorted(self.model.letters) or [letter_id(HELLO, 0)]))
        if letter not in self.model.letters:
            assert self.model.replay(self.now, letter, "") is None
            with pytest.raises(NotFoundError):
                self.lanes.replay(letter)
            return multiple()
        drawn = UUID(int=self.number() << 80)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("deployer.redis_store.dead_letters.uuid.uuid4", lambda: drawn)
            accepted = self.lanes.replay(letter)
        goal, handed = self.model.replay(self.now, letter, f"replay-{drawn.hex[:12]}")
        assert accepted.goal == goal
        return self.sent(accepted.dispatch, handed)

    @precondition(lambda self: self.model.letters)
    @rule()
    def discard(self) -> None:
        letter = min(self.model.letters)
        self.lanes.discard(letter)
        assert self.model.discard(letter)

    @precondition(lambda self: self.model.environments)
    @rule(anew=st.booleans())
    def forget(self, anew: bool) -> None:
        """A resync deletes records that it has read, now or some time ago."""
        if anew or not self.read[0]:
            self.read = self.lanes.environments(HELLO), dict(self.model.environments)
        else:
            self.lanes.delete_environment_records(HELLO, self.read[0])
            self.model.forget(self.read[1])

    # --- workers; a message may come late, twice or never

    @rule(target=held, token=messages)
    def begin(self, token: int) -> Any:
        return self.begin_both(token)

    @precondition(lambda self: self.model.status == "sent")
    @rule(target=held)
    def begin_what_was_sent(self) -> Any:
        return self.begin_both(self.model.token)

    @precondition(lambda self: self.model.status == "sent")
    @rule(target=messages, kind=KINDS, ticks=TICKS, recorded=st.booleans())
    def carry_out(self, kind: str, ticks: int, recorded: bool) -> Any:
        """A worker carries out the sent item at once."""
        return self.finish_both(self.begin_both(self.model.token), kind, ticks, recorded)

    @precondition(lambda self: self.model.status == "sent")
    @rule(target=messages)
    def kill(self) -> Any:
        """The sent item kills its worker."""
        self.begin_both(self.model.token)
        return self.sweep_both(LEASE // TICK)

    def begin_both(self, token: int) -> Any:
        work, entry = self.lanes.begin(HELLO, token), self.model.begin(self.now, token)
        assert (work is None) == (entry is None)
        return multiple() if work is None else self.hold(token, work, entry)

    def hold(self, token: int, work: Work, entry: Entry) -> int:
        assert self.entry(work.json_fields()) == known(entry)
        self.works[token] = work, entry
        self.messages_of[token] = self.model.message
        return token

    @rule(token=held)
    def extend(self, token: int) -> None:
        assert self.lanes.extend(HELLO, token) == self.model.extend(self.now, token)

    @rule(token=held)
    def expire(self, token: int) -> None:
        """The process that had it was killed, and its parent says so: the next sweep hands it out again."""
        self.expire_both(self.messages_of.get(token, token))

    @precondition(lambda self: self.model.lost[0] in self.works)
    @rule()
    def expire_late(self) -> None:
        """The same, but a sweep was faster."""
        self.expire_both(self.model.lost[0])

    def expire_both(self, token: int) -> None:
        key = self.works[token][0].key
        expired = self.model.expire(self.now, token, key, "killed")
        assert self.lanes.end_lease(HELLO, token, key, "killed") == expired

    @rule(target=messages, token=held, kind=KINDS, ticks=TICKS, recorded=st.booleans())
    def finish(self, token: int, kind: str, ticks: int, recorded: bool) -> Any:
        return self.finish_both(token, kind, ticks, recorded)

    @precondition(lambda self: self.model.running)
    @rule(
        target=held,
        kind=KINDS,
        ticks=TICKS,
        then=st.sampled_from([NextItem.TAKE, NextItem.TAKE, NextItem.TAKE_IF_ALONE]),
        waits=st.sampled_from(["", "", "deployer", "deployer\x06\x169", "unacked"]),
    )
    def finish_and_take(self, kind: str, ticks: int, then: NextItem, waits: str) -> Any:
        """A worker ends its item and takes the next one. If that is sent instead, its message is lost."""
        token = self.model.token
        if waits == "unacked":
            self.client.hset(waits, "tag", "a message")
        elif waits:
            self.client.lpush(waits, "a message")
        found = self.finish_both(token, kind, ticks, recorded=True, then=then, others_wait=bool(waits))
        self.client.delete("deployer", "deployer\x06\x169", "unacked")
        return found if found in self.works else multiple()

    def finish_both(
        self,
        token: int,
        kind: str,
        ticks: int,
        recorded: bool,
        then: NextItem = NextItem.SEND,
        others_wait: bool = False,
    ) -> Any:
        times = START + self.now, self.now
        real, modelled = (
            self.verdict(kind, token, work, at, ticks * TICK, recorded)
            for work, at in zip(self.works[token], times, strict=True)
        )
        counts = {"calls:aws": 2, f"calls:{kind}": 1}
        handed = self.model.finish(self.now, token, modelled, counts, then, others_wait)
        try:
            found = self.lanes.finish(HELLO, token, real, counts, next_item=then)
        except LaneLostError:
            assert handed == LOST
            return multiple()
        assert handed != LOST
        assert isinstance(found, Taken) == isinstance(handed, Entry), (found, handed)
        if not isinstance(found, Taken):
            return self.sent(found, handed)
        self.learn(found.token)
        return self.hold(found.token, found.read_item(), handed)

    def verdict(self, kind: str, token: int, work: Work, at: float, seconds: int, recorded: bool) -> Any:
        record = (
            EnvironmentRecord.of("acme/hello", work.environment, "stack", commit=kind) if recorded else None
        )
        match kind:
            case "again" if work.spec.candidate:  # it is admitted, and its tag was pushed some ticks ago
                began = at - self.now  # a decision at the very beginning would have no time in the model
                decided_at = max(at - seconds, began + 0.5)
                return Continue(
                    work.but(candidate=False, cause=Cause.PUSH, decided_at=decided_at, sha="c"), record
                )
            case "again":
                return Continue(work.but(task=Task.TRIGGER, created=True, sha="c"), record)
            case "snooze":
                return WaitUntil(work.but(polls=work.log.polls + 1, execution="i"), seconds, record)
            case "rest":
                return WaitUntil(work.but(turned=True), seconds, record, keeps_attempts=True)
            case "retry":
                return RetryLater(work, seconds, "throttled")
            case "dead" | "lost" | "timeout":
                of = {"dead": "TransientError", "lost": WORKER_LOST, "timeout": TASK_TIMEOUT}[kind]
                name = letter_id(HELLO, token if work.cause != Cause.RESYNC else "resync")
                letter = DeadLetter(name, "acme/hello", work.task, "AWS", "trace", at, work.to_json(), of)
                return DeadLettered(letter, record)
        return Finished({"done": "deployed"}.get(kind, kind), "because", record, commit="looked at")

    @precondition(lambda self: self.model.status != "idle")
    @rule(target=messages, late=st.booleans())
    def refuse(self, late: bool) -> Any:
        """A worker does not understand its item, begun or not; or it refuses the item too late."""
        token = self.model.token - late
        outcome, seconds, handed = self.model.refuse(self.now, START + self.now, token, "unknown")
        try:
            refused = self.lanes.refuse(HELLO, token, "unknown")
        except LaneLostError:
            assert outcome == LOST
            return multiple()
        assert (outcome, seconds) == ("dead" if refused.dead else "refused", refused.seconds)
        return self.sent(refused.dispatch, handed)

    @rule(token=consumes(held))
    def crash(self, token: int) -> None:
        """A worker is lost, and its lease expires."""
        assert token in self.works
        self.let_pass(LEASE // TICK)

    @precondition(lambda self: self.model.status == "running")
    @rule(kind=KINDS, ticks=TICKS)
    def stall(self, kind: str, ticks: int) -> None:
        """A worker is stopped past its lease, another one takes over at once, and the first one tries to continue."""
        token = self.model.token
        self.sweep_both(LEASE // TICK)
        if self.model.status == "sent":
            self.begin_both(self.model.token)
        assert not self.lanes.extend(HELLO, token)
        self.finish_both(token, kind, ticks, recorded=True)

    # --- time

    def let_pass(self, ticks: int) -> None:
        self.now += ticks * TICK
        self.lanes.clock_offset_ms = self.now * 1000

    @rule(ticks=TICKS)
    def time_passes(self, ticks: int) -> None:
        self.let_pass(ticks)

    @rule(target=messages, ticks=TICKS)
    def sweep(self, ticks: int) -> Any:
        return self.sweep_both(ticks)

    def sweep_both(self, ticks: int) -> Any:
        self.let_pass(ticks)
        self.client.zadd("deployer:lanes", {HELLO.key: 0})  # a look may come early
        found = self.lanes.sweep()
        assert len(found) <= 1
        return self.sent(found[0] if found else None, self.model.sweep(self.now))

    @precondition(lambda self: self.numbers > 8 and self.now and not self.wiped)
    @rule()
    def redis_is_wiped(self) -> None:
        self.client.flushall()
        self.let_pass(1)  # longer than a millisecond, so that tokens go on
        self.model = self.model.wiped()
        self.wiped = True

    wiped = False

    # --- both have the same state, and the invariants hold

    @invariant()
    def agree(self) -> None:
        seen = self.seen()
        model = replace(
            self.model,
            waiting=[known(each) for each in self.model.waiting],
            later=[known(each) for each in self.model.later],
            snoozed={name: (due, known(entry)) for name, (due, entry) in self.model.snoozed.items()},
            running=known(self.model.running) if self.model.running else None,
            letters={name: replace(each, work=known(each.work)) for name, each in self.model.letters.items()},
            environments={name: each.but(updated_at=0) for name, each in self.model.environments.items()},
        )
        if model.status == "idle":  # nobody reads them then
            model.until = model.sends = 0
        if model.status != "running":
            model.message = 0
        assert vars(seen) == vars(model)
        assert not list(seen.violations())
        assert not list(model.violations())

    def seen(self) -> Lane:
        """The lane in Redis, in the form of the model."""
        pipe = self.client.pipeline(transaction=False)
        for name in ("state", "items", "environments", "dead", "counters", "refused"):
            pipe.hgetall(f"{PREFIX}:{name}")
        pipe.lrange(f"{PREFIX}:queue", 0, -1)
        pipe.lrange(f"{PREFIX}:later", 0, -1)
        pipe.lrange(f"{PREFIX}:activity", 0, -1)
        pipe.zrange(f"{PREFIX}:snoozed", 0, -1, withscores=True)
        pipe.zrange(f"{PREFIX}:rounds", 0, -1, withscores=True)
        pipe.zscore("deployer:lanes", HELLO.key)
        pipe.hgetall(
            "deployer:{-/-}:counters"
        )  # ignored deliveries may be of a repository that is not listed
        for delivery in self.model.deliveries:
            pipe.hgetall(f"{PREFIX}:delivery:{delivery}")
            pipe.ttl(f"{PREFIX}:delivery:{delivery}")
        state, items, environments, dead, counters, refused, *rest = pipe.execute()
        queue, later, activity, snoozed, rounds, look, totals, *records = rest
        places = {*queue, *later, *(name for name, _ in snoozed)}
        assert set(items) == places, "1: an item is in one place"
        if items or state.get("status", "idle") != "idle":
            assert since_start(look / 1000) <= self.model.look(self.now), "7: it is swept in time"
        status = state.get("status", "idle")
        message, _, begun = state.get("message", "0 0").partition(" ")
        lost, _, lost_key = state.get("lost", "0 ").partition(" ")
        deliveries = {}
        for delivery, record, ttl in zip(self.model.deliveries, records[::2], records[1::2], strict=True):
            assert (ttl == -1) == (record["outcome"] == "queued"), (
                "3: the record of a queued delivery does not expire"
            )
            deliveries[delivery] = Delivery(
                record.get("environment", ""),
                record.get("event", ""),
                record["outcome"],
                record["reason"],
                int(record.get("times", 0)),
                record.get("letter", ""),
                "finished_at" in record,
            )
        return Lane(
            "acme/hello", LEASE, GRACE, ATTEMPTS,
            waiting=[self.entry(json.loads(items[name])) for name in queue],
            later=[self.entry(json.loads(items[name])) for name in later],
            round=int(state.get("round", 0)),
            rounds={name: int(score // 2**32) for name, score in rounds},
            senders=json.loads(state.get("senders") or "{}"),
            snoozed={name: (since_start(due / 1000), self.entry(json.loads(items[name]))) for name, due in snoozed},
            running=self.entry(json.loads(state["current"])) if status == "running" else None,
            status=status,
            sent=None if status == "idle" else Handed(
                state["env"], state["task"], int(state["token"]), state["low"] == "1"
            ),
            token=int(state.get("token", self.model.token)),
            until=since_start(float(state["until"]) / 1000) if status != "idle" else 0,
            why=state.get("why", ""),
            message=int(message) if status == "running" and begun == state["token"] else 0,
            lost=(int(lost), lost_key),
            sends=int(state["sends"]) if status != "idle" else 0,
            refused={name: (int(text.split(" ")[0]), text.split(" ")[1]) for name, text in refused.items()},
            refusals=REFUSALS,
            unread=int(state.get("letters", 0)),
            deliveries=deliveries,
            environments={
                name: EnvironmentRecord.from_json(text).but(updated_at=0) for name, text in environments.items()
            },
            letters={name: self.letter(json.loads(text)) for name, text in dead.items()},
            activity=[line.but(at=since_start(line.at)) for line in map(Activity.from_json, activity)],
            counters=Counter({name: int(value) for held in (counters, totals) for name, value in held.items()}),
        )  # fmt: skip

    def entry(self, found: dict[str, Any]) -> Entry:
        names = ("accepted_at", "decided_at", "replaced_at", "began_at")
        times = {name: since_start(found.get(name, 0)) for name in names}
        times["not_before"] = since_start(found.get("not_before", 0) / 1000)
        lines = [json.loads(line) for line in found["tries"].splitlines()]
        tries = [
            json.dumps([since_start(line["at"]), since_start(line["until"]), line["task"], line["error"]])
            for line in lines
        ]
        texts = {"tries": "\n".join(tries)}
        return Entry.of(**{name: found[name] for name in FIELDS if name in found} | times | texts)

    def letter(self, found: dict[str, Any]) -> Letter:
        work = self.entry(json.loads(found["work"]))
        return Letter(
            found["task"], found["kind"], found["reason"], found["traceback"], since_start(found["at"]), work
        )

    def teardown(self) -> None:
        """Every item reaches its outcome if workers work again."""
        if not hasattr(self, "lanes"):
            return
        for _ in range(80):
            self.lanes.clock_offset_ms += 61_000
            self.client.zadd("deployer:lanes", {HELLO.key: 0})
            for dispatch in self.lanes.sweep():
                found: Dispatch | None = dispatch
                while found:
                    self.lanes.begin(HELLO, found.token)
                    found = self.lanes.finish(HELLO, found.token, Finished("deployed", "at last"))
            if not self.client.hlen(f"{PREFIX}:items"):
                break
        assert not self.lanes.lanes()
        pipe = self.client.pipeline(transaction=False)
        for each in self.model.deliveries:
            pipe.hget(f"{PREFIX}:delivery:{each}", "outcome")
        assert FINAL.issuperset(pipe.execute())


def since_start(seconds: float) -> float:
    """A time of the script as a time of the model; 0 stays 0."""
    return round(seconds - START, 3) if seconds else 0


def known(entry: Entry) -> Entry:
    """An item without the fields that the model does not know."""
    return Entry.of(**{name: getattr(entry, name) for name in FIELDS})


def drive(client: Any, change: tuple[str, str] = ("", ""), examples: int = 100, **options: Any) -> None:
    """Run the state machine on a server."""
    machine = type("Machine", (LaneMachine,), {"client": client, "change": change})
    machine.TestCase.settings = settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        **options,
    )
    machine.TestCase().runTest()


def test_any_interleaving_on_fakeredis() -> None:
    drive(
        fakeredis.FakeRedis(decode_responses=True), examples=5
    )  # test_lanes.py compares it with a server too


@pytest.mark.timeout(0 if "LANE_STEPS" in os.environ else 120)
def test_any_interleaving_on_a_server(redis_url: str) -> None:
    with connect(redis_url) as client:
        drive(client, examples=int(os.environ.get("LANE_STEPS", "2000")) // STEPS)


# Changes of the script that random sequences must find.
BREAKAGES = {
    "begin does not check the token": (
        "if state_field('token') ~= token or queue_status() ~= 'sent'",
        "if queue_status() ~= 'sent'",
    ),
    "extend does not check the token": (
        "if state_field('token') ~= token or queue_status() ~= 'running' then return reply(0)",
        "if queue_status() ~= 'running' then return reply(0)",
    ),
    "finish does not check the token": (
        "if state_field('token') ~= token or queue_status() ~= 'running' then return reply('lost')",
        "if queue_status() ~= 'running' then return reply('lost')",
    ),
    "a token begins twice": ("or queue_status() ~= 'sent' then", "then"),
    "a running item still waits": ("  call('HDEL', items, key)\n  work.attempts", "  work.attempts"),
    "a lost worker does not count as an attempt": (
        "add_to_counter('lane:expired')",
        "work.attempts = work.attempts - 1",
    ),
    "workers are lost without a limit": ("work.attempts > tonumber(max_attempts)", "false"),
    "a superseded delivery has no outcome": ("end_deliveries(work, 'superseded', reason, ttl)", ""),
    "an item is awake and snoozed": ("    call('ZREM', snoozed, key)\n    local", "    local"),
    "a replay keeps old attempts": (
        "work.attempts, work.tries, work.polls, work.goal = 0, '', 0,",
        "work.polls, work.goal = 0,",
    ),
    "tags that differ replace each other": (
        "return work.candidate and work.environment .. ' ' .. work.ref or work.environment",
        "return work.environment",
    ),
    "an admitted tag runs before other tags are checked": (
        "elseif was == 'running' then",
        "elseif was ~= 'new' then",
    ),
    "counts are not added": (
        "for name, by in pairs(cjson.decode(counts)) do add_to_counter(name, by) end",
        "",
    ),
    "items of resyncs do not wait behind others": (
        "return work.cause == 'resync' and later or queue",
        "return queue",
    ),
    "a push that joins a resync waits like a resync": (
        "if list_of(work) == queue and call('LREM', later",
        "if false and call('LREM', later",
    ),
    "a push does not raise the priority": (
        "if is_low_priority() and list_of(work) == queue and not is_resting(work) then return raise_priority() end",
        "",
    ),
    "a resync that joins takes a new turn": ("if kind == 'retry' or kind == 'rest'", "if kind == 'retry'"),
    "an item that a request joins still takes a turn": (
        "older.turned = older.turned or needs_no_turn(newer)",
        "",
    ),
    "an attempt is not recorded": (
        "add_failed_attempt(work, work, why ~= '' and why or WORKER_LOST_ERROR)",
        "",
    ),
    "reporting a dead letter is an attempt": ("not REPORT_ONLY[dead_letter.kind]", "true"),
    "senders take no turns": ("last[work.sender] = round", "last[''] = round"),
    "a sender's item waits at the very end": (
        "(round + 1) * NUMBERS_IN_ROUND",
        "(round + 99) * NUMBERS_IN_ROUND",
    ),
    "a queued delivery expires": (
        "    call('HDEL', key, 'finished_at')\n    call('PERSIST', key)\n    add_to_counter",
        "    call('HDEL', key, 'finished_at')\n    add_to_counter",
    ),
}


# Changes that random sequences find too rarely; each with the example of test_lanes.py that must find it.
RARE_BREAKAGES: dict[str, tuple[tuple[str, str], Callable[[RedisQueueStore, Any], None]]] = {
    "expire does not check the token": (
        ("if running and message_token() == token then", "if running then"),
        lambda lanes, _: test_lanes.test_a_reason_that_arrives_before_a_sweep_is_that_of_the_running_item(
            lanes
        ),
    ),
    "the reason of an expired lease is lost": (
        ("why ~= '' and why or", ""),
        lambda lanes, _: test_lanes.test_a_reason_that_arrives_before_a_sweep_is_that_of_the_running_item(
            lanes
        ),
    ),
    "the item that a killed worker has taken is not found by its message": (
        ("if running and message_token() == token then", "if running and state_field('token') == token then"),
        lambda lanes, _: test_lanes.test_a_reason_that_arrives_before_a_sweep_is_that_of_the_running_item(
            lanes
        ),
    ),
    "a late reason of an expired lease is lost": (
        ("  try.error = why\n", ""),
        lambda lanes, _: (
            test_lanes.test_a_reason_that_arrives_after_a_sweep_is_that_of_the_item_that_was_lost(lanes)
        ),
    ),
    "a person's push waits in the place of a bot's": (
        ("if work.sender ~= former_sender then move_to_sender(work) end", ""),
        lambda lanes, _: (
            test_lanes.test_a_person_who_pushes_to_a_branch_that_a_bot_has_pushed_takes_a_turn_of_their_own(
                lanes
            )
        ),
    ),
    "an admitted tag is newer than every waiting item": (
        (
            "was == 'new' or (was ~= 'running' and",
            "was == 'new' or was == 'admitted' or (was ~= 'running' and",
        ),
        lambda lanes, _: test_lanes.test_of_an_admitted_tag_and_a_request_the_later_stays(
            lanes, Cause.REDEPLOY, -10, "person"
        ),
    ),
    "a late reason goes to the item of the message": (
        ("if lost_key ~= '' then key = lost_key end", ""),
        lambda lanes, _: (
            test_lanes.test_a_reason_that_arrives_after_a_sweep_is_that_of_the_item_that_was_lost(lanes)
        ),
    ),
    "an item of low priority is taken while others wait": (
        ("next_item == 'take' and low == '0' or", "next_item == 'take' or"),
        lambda lanes, client: test_lanes.test_an_item_of_a_resync_is_taken_only_while_no_other_message_waits(
            lanes, client, "deployer", Dispatch
        ),
    ),
    "messages that a worker has fetched do not count as waiting": (
        (", HLEN = { FETCHED_MESSAGES }", ""),
        lambda lanes, client: test_lanes.test_an_item_of_a_resync_is_taken_only_while_no_other_message_waits(
            lanes, client, "unacked", Dispatch
        ),
    ),
    "a snoozed item keeps its round": (
        ("    call('ZREM', rounds, key)\n    call('ZADD', snoozed", "    call('ZADD', snoozed"),
        test_lanes.test_an_item_that_rests_has_no_place_in_a_round,
    ),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_script_is_found(breakage: str, redis_url: str) -> None:
    assert BREAKAGES[breakage][0] in queue_script_text()
    with connect(redis_url) as client, pytest.raises(AssertionError):
        drive(
            client,
            BREAKAGES[breakage],
            examples=2000,  # far more than needed: the run ends at the first failure
            phases=[Phase.generate],
            derandomize=True,  # random runs would take from a second to a minute
            database=None,
        )


@pytest.mark.parametrize("breakage", RARE_BREAKAGES)
def test_an_example_finds_a_broken_script(breakage: str) -> None:
    (old, new), example = RARE_BREAKAGES[breakage]
    client = fakeredis.FakeRedis(decode_responses=True)
    lanes = RedisQueueStore(
        client,
        lease_seconds=test_lanes.LEASE,
        grace_seconds=test_lanes.GRACE,
        max_attempts=test_lanes.ATTEMPTS,
    )
    example(lanes, client)
    assert old in queue_script_text()
    client.flushall()
    lanes.clock_offset_ms = 0
    lanes._script = client.register_script(queue_script_text().replace(old, new))
    with pytest.raises(AssertionError):
        example(lanes, client)
