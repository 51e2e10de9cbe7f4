"""One lane as docs/lanes.md specifies it, in plain Python: the same operations in the same order.

Time is an argument, in seconds. The model only knows that a token is greater than all before; the test tells it which.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from deployer.model.activity import Activity
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.stored_value import field_groups
from deployer.queue.dead_letter_record import TASK_TIMEOUT, WORKER_LOST
from deployer.queue.items import Cause, Task, Work, split_key
from deployer.queue.step_results import Continue, DeadLettered, Finished, RetryLater, StepResult, WaitUntil
from deployer.queue.store import NextItem
from tests.records import field_value

REPLACES = {Cause.PUSH, Cause.DELETION, Cause.REDEPLOY, Cause.TEARDOWN}
REPEATABLE = {"failed", "dead-lettered", "ignored"}
FINAL = {"deployed", "deleted", "superseded", "skipped", "failed", "dead-lettered", "ignored"}
LOST = "lost"
LONGEST_RESEND = 60
MOST_DELIVERIES = 50
REFUSALS, FIRST_PAUSE, LONGEST_PAUSE = 8, 10, 300
LONGEST_SWEEP_PAUSE = 60

# --- state --------------------------------------------------------------------------------------------------------


class Entry(Work, frozen=True):
    """A queue item; it rests until `not_before`. Its fields are read without naming their groups, as in JSON."""

    not_before: float = 0

    def __getattr__(self, name: str) -> Any:
        if name not in field_groups(type(self)):
            raise AttributeError(name)
        return field_value(self, name)

    def decision(self) -> float:
        """When it was decided what the item wants."""
        return self.decided_at or self.accepted_at

    def waiting_deliveries(self) -> list[str]:
        """The deliveries that wait for its outcome."""
        return [each for each in self.deliveries.split(",") if each]

    def with_failed_attempt(self, now: float, ran: "Entry", error: str) -> Any:
        """The item with one more failed attempt, that of the item that ran."""
        tries = [*self.tries.split("\n"), json.dumps([ran.began_at, now, ran.task, error])]
        return self.but(tries="\n".join(each for each in tries[-20:] if each))


@dataclass
class Delivery:
    """The record of a delivery."""

    environment: str
    event: str
    outcome: str
    reason: str = ""
    times: int = 0
    letter: str = ""
    finished: bool = False


@dataclass(frozen=True)
class Letter:
    """A dead letter."""

    task: str
    kind: str
    reason: str
    traceback: str
    at: float
    work: Entry


@dataclass(frozen=True)
class Handed:
    """The message to the workers."""

    key: str
    task: str
    token: int
    low: bool


@dataclass(frozen=True)
class Place:
    """An item that was in the lane, and where: its list and position, or when it is due."""

    entry: Entry
    among: list[Entry] | None = None
    place: int = 0
    due: float = 0


@dataclass
class Lane:
    """The lane of one repository, with its records."""

    repository: str
    lease: float
    grace: float
    max_attempts: int

    waiting: list[Entry] = field(default_factory=list)
    later: list[Entry] = field(default_factory=list)  # items of resyncs, which wait until no other item does
    snoozed: dict[str, tuple[float, Entry]] = field(
        default_factory=dict
    )  # by key: when the item is due, and the item
    running: Entry | None = None

    # Items wait in rounds, in each of which every sender has one item.
    round: int = 0  # that of the item handed out last
    rounds: dict[str, int] = field(default_factory=dict)  # by key: of items that were put at the end
    senders: dict[str, int] = field(default_factory=dict)  # by sender: the round of the last item

    status: str = "idle"  # or sent, or running
    sent: Handed | None = None
    token: int = 0
    until: float = 0  # the end of the grace if sent, of the lease if running
    message: int = 0  # the token of the message whose worker holds the lane; it may have taken further items
    lost: tuple[int, str] = (0, "")  # the last message whose lease expired, and the key of its item
    why: str = ""  # how the running attempt has ended, if that is known before its lease expires
    sends: int = 0
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)  # by key: how often, its goal
    refusals: int = REFUSALS
    unread: int = 0  # the number of dead letters of items that no worker understood

    deliveries: dict[str, Delivery] = field(default_factory=dict)
    environments: dict[str, EnvironmentRecord] = field(default_factory=dict)
    letters: dict[str, Letter] = field(default_factory=dict)
    activity: list[Activity] = field(default_factory=list)  # newest first
    counters: Counter[str] = field(default_factory=Counter)

    # --- operations -----------------------------------------------------------------------------------------

    def accept(
        self, now: float, work: Work, delivery: str = "", event: str = ""
    ) -> tuple[str, str, Handed | None]:
        """`queued` with the goal, or `duplicate` with the outcome; and the message that is sent."""
        entry = entry_of(work)
        if delivery:
            known = self.deliveries.get(delivery)
            letter = self.letters.get(known.letter) if known else None
            if known and (known.outcome not in REPEATABLE or (letter and work.cause not in REPLACES)):
                self.counters["delivery:duplicate"] += 1
                return "duplicate", known.outcome, None
            if known and letter:
                del self.letters[known.letter]
                others = [each for each in letter.work.waiting_deliveries() if each != delivery]
                self._end_deliveries(others, "superseded", f"replaced by {delivery}")
            times = known.times + 1 if known else 1
            goal = delivery if times == 1 else f"{delivery}#{times}"
            entry = entry.but(goal=goal, deliveries=delivery)
            self.deliveries[delivery] = Delivery(work.environment, event, "queued", times=times)
            self.counters["delivery:queued"] += 1
        entry = self._enqueue(now, entry.but(accepted_at=now), "new")
        return "queued", entry.goal, self._dispatch_after_enqueue(now, entry)

    def begin(self, now: float, token: int) -> Entry | None:
        """The item that was handed out under this token, or None."""
        if self.status != "sent" or token != self.token:
            return None
        self.message = token
        return self._begin_first(now)

    def _begin_first(self, now: float) -> Entry:
        first = self.waiting.pop(0)
        self.running = first.but(attempts=first.attempts + 1, not_before=0, began_at=now)
        self.status, self.until, self.why = "running", now + self.lease, ""
        return self.running

    def extend(self, now: float, token: int) -> bool:
        """Whether the token is current; then another lease begins."""
        if self.status != "running" or token != self.token:
            return False
        self.until = now + self.lease
        return True

    def expire(self, now: float, token: int, key: str, why: str) -> bool:
        """Whether this message's worker held the lane; then its lease ends now, or a sweep's error is corrected.

        Its worker's main process knows the key of the message's item only.
        """
        if self.status == "running" and token == self.message:
            self.until, self.why = now, why
            return True
        if token != self.lost[0]:
            return False
        key = self.lost[1]
        if self.running and self.running.key == key:
            changed = self.running = _with_last_error(entry := self.running, why)
            return changed is not entry
        for among in (self.waiting, self.later):
            for place, entry in enumerate(among):
                if entry.key == key:
                    among[place] = _with_last_error(entry, why)
                    return among[place] is not entry
        if key in self.snoozed:
            due, entry = self.snoozed[key]
            self.snoozed[key] = due, _with_last_error(entry, why)
            return self.snoozed[key][1] is not entry
        return False

    def finish(
        self,
        now: float,
        token: int,
        verdict: StepResult,
        counts: Mapping[str, int],
        then: NextItem = NextItem.SEND,
        others_wait: bool = False,
    ) -> Handed | Entry | str | None:
        """LOST, the next message, or the next item, which the worker has begun."""
        if self.status != "running" or token != self.token:
            return LOST
        self.counters.update(counts)
        ran, self.running = self.running, None
        self.refused.pop(ran.key, None)
        if not isinstance(verdict, RetryLater) and verdict.record:
            self.environments[ran.environment] = verdict.record
        commit = verdict.commit if isinstance(verdict, Finished) else ""
        if isinstance(verdict, Finished | DeadLettered) and verdict.record:
            commit = commit or verdict.record.spec.commit
        match verdict:
            case Finished(outcome, reason):
                self._end_item(now, ran, outcome, reason, commit)
            case DeadLettered(letter):
                self._end_item(now, ran, "dead-lettered", letter.reason, commit)
                work = entry_of(letter.arguments)
                if letter.kind not in {WORKER_LOST, TASK_TIMEOUT}:
                    work = work.with_failed_attempt(now, ran, letter.reason)
                died = Letter(letter.task, letter.kind, letter.reason, letter.traceback, letter.at, work)
                self._store_dead_letter(ran, letter.id, died)
            case Continue(work):
                was = "running" if work.key == ran.key else "admitted"
                self._enqueue(now, entry_of(work).but(attempts=max(work.log.attempts - 1, 0)), was)
            case WaitUntil(work, seconds, keeps_attempts=True):
                attempts = max(work.log.attempts - 1, 0)
                self._snooze(
                    now, entry_of(work).but(attempts=attempts, not_before=now + seconds), now + seconds
                )
            case WaitUntil(work, seconds):
                self._snooze(now, entry_of(work).but(attempts=0, tries="", not_before=0), now + seconds)
            case RetryLater(work, seconds, error):
                entry = entry_of(work).with_failed_attempt(now, ran, error)
                self._snooze(now, entry.but(not_before=now + seconds), now + seconds)
        handed = self._dispatch_next(now)
        urgent = then == NextItem.TAKE and handed and not handed.low
        if handed and (urgent or (then != NextItem.SEND and not others_wait)):
            return self._begin_first(now)
        return handed

    def sweep(self, now: float) -> Handed | None:
        """The message that is sent, for the first time or again."""
        woken = []
        for key, (due, entry) in sorted(self.snoozed.items(), key=lambda item: (item[1][0], item[0])):
            if due <= now:
                del self.snoozed[key]
                self._append(entry)
                woken.append(entry)
        if self.status == "idle":
            return self._dispatch_next(now)
        hastened = self._raise_priority(woken)
        if self.until > now:
            return hastened
        if self.status == "sent":
            self.sends += 1
            self.until = now + min(self.grace * 2 ** (self.sends - 1), LONGEST_RESEND)
            return self.sent
        lost, self.running = self.running, None
        with_failed_attempt = lost.with_failed_attempt(now, lost, self.why or "its worker was lost")
        self.lost = self.message, lost.key
        if lost.attempts <= self.max_attempts:  # once more, for the worker that reports it
            self.counters["lane:expired"] += 1
            self._enqueue(now, with_failed_attempt, "running")
        else:
            reason = f"its worker was lost {lost.attempts} times while running {lost.task}"
            self._end_item(now, lost, "dead-lettered", reason, lost.sha)
            last = "resync" if lost.environment == "*" else self.token
            letter = f"{self.repository.replace('/', '~')}-{last}"
            self._store_dead_letter(
                lost, letter, Letter(lost.task, WORKER_LOST, reason, "", now, with_failed_attempt)
            )
        return self._dispatch_next(now)

    def refuse(self, now: float, clock: float, token: int, why: str) -> tuple[str, float, Handed | None]:
        """LOST, `refused` or `dead`; the pause; and the next message. `clock` is the time of Redis."""
        if self.status == "idle" or token != self.token:
            return LOST, 0, None
        if self.running:
            entry, self.running = self.running.but(attempts=self.running.attempts - 1), None
        else:
            entry = self.waiting.pop(0)
        times, goal = self.refused.get(entry.key, (0, ""))
        times = times + 1 if goal == entry.goal else 1
        if times >= self.refusals:
            self.refused.pop(entry.key, None)
            self.unread += 1
            reason = f"no worker understood this queue item, {times} were asked: {why}"
            self._end_item(now, entry, "dead-lettered", reason, entry.sha)
            letter = f"{self.repository.replace('/', '~')}-{clock * 1000:.0f}.{self.unread}"
            self._store_dead_letter(
                entry, letter, Letter(entry.task, "QueueItemError", reason, "", now, entry)
            )
            return "dead", 0, self._dispatch_next(now)
        self.refused[entry.key] = times, entry.goal
        pause = min(FIRST_PAUSE * 2 ** (times - 1), LONGEST_PAUSE)
        self._snooze(now, entry.but(not_before=now + pause), now + pause)
        return "refused", pause, self._dispatch_next(now)

    def replay(self, now: float, letter: str, goal: str) -> tuple[str, Handed | None] | None:
        """The goal of the resulting item, and the message that is sent; None if there is no such letter."""
        if letter not in self.letters:
            return None
        dead = self.letters.pop(letter).work
        for delivery in dead.waiting_deliveries():
            record = self.deliveries[delivery]
            record.outcome, record.reason, record.letter, record.finished = "queued", "replayed", "", False
        first = Task.NOTIFY if dead.cause == Cause.EVENT else Task.SYNC
        entry = dead.but(
            goal=goal,
            task=Task.RESYNC if dead.environment == "*" else first,
            sha=dead.sha if dead.chosen else "",
            **dict.fromkeys(["attempts", "polls", "deletions", "not_before"], 0),
            **dict.fromkeys(["created", "updated", "recovered", "restored", "replacing"], False),
            **dict.fromkeys(["stack_arn", "execution", "tries"], ""),
        )
        entry = self._enqueue(now, entry, "dead")
        return entry.goal, self._dispatch_after_enqueue(now, entry)

    def discard(self, letter: str) -> bool:
        """Whether there was such a letter."""
        return self.letters.pop(letter, None) is not None

    def forget(self, seen: Mapping[str, EnvironmentRecord]) -> None:
        """Delete the records that have not changed, of environments without items."""
        with_items = {self.running.environment} if self.running else set()
        with_items |= {each.environment for each in [*self.waiting, *self.later]}
        with_items |= {split_key(key)[0] for key in self.snoozed}
        for environment, record in seen.items():
            if self.environments.get(environment) is record and environment not in with_items:
                del self.environments[environment]

    def ignore(self, delivery: str, outcome: str, reason: str) -> None:
        """Record a delivery that needs no work."""
        if delivery not in self.deliveries:
            self.deliveries[delivery] = Delivery("", "", outcome, reason, finished=True)
            self.counters[f"outcome:{outcome}"] += 1

    def wiped(self) -> "Lane":
        """The lane after Redis has lost its data: only the order of tokens is left."""
        return Lane(
            self.repository,
            self.lease,
            self.grace,
            self.max_attempts,
            token=self.token,
            refusals=self.refusals,
        )

    def look(self, now: float) -> float:
        """By when the lane must be swept."""
        if self.status != "idle":
            return self.until
        return min((due for due, _ in self.snoozed.values()), default=now + LONGEST_SWEEP_PAUSE)

    # --- merging two items with one key ---------------------------------------------------------------------

    def _merge(self, now: float, older: Entry, newer: Entry) -> Entry:
        # delivered out of order
        moves_ref = newer.cause in {Cause.PUSH, Cause.DELETION}
        late = moves_ref and 0 < newer.pushed_at < older.pushed_at
        if older.cause == Cause.PUSH and late:
            self._supersede(now, newer, older)
            return older.but(before=f"{older.before},{newer.before}"[:400])
        # an event is replaced
        if older.cause == Cause.EVENT != newer.cause:
            rest = newer.not_before or (0 if newer.cause in REPLACES else older.not_before)
            return self._join(newer, older).but(not_before=rest)  # an event takes no turn
        # superseding
        if newer.cause in REPLACES:
            self._supersede(now, older, newer)
            newer = newer.but(before=f"{newer.before},{older.before}"[:400])
            if newer.replaced_at:
                return newer
            if older.cause == Cause.PUSH:
                return newer.but(replaced_after=older.after, replaced_at=older.accepted_at)
            return newer.but(replaced_after=older.replaced_after, replaced_at=older.replaced_at)
        # joining
        if older.turned and not older.attempts and _needs_no_turn(newer):
            older = older.but(not_before=0)
        return self._join(older, newer)

    def _join(self, stays: Entry, joins: Entry) -> Any:
        deliveries = [*stays.waiting_deliveries(), *joins.waiting_deliveries()]
        self._end_deliveries(deliveries[MOST_DELIVERIES:], "superseded", f"covered by {stays.goal}")
        return stays.but(
            deliveries=",".join(deliveries[:MOST_DELIVERIES]),
            polls=0,
            looked_at=max(stays.looked_at, joins.looked_at),
            turned=stays.turned or _needs_no_turn(joins),
            word="deleted" if "deleted" in {stays.word, joins.word} else joins.word or stays.word,
            recreate=stays.recreate or joins.recreate,
        )

    def _supersede(self, now: float, gone: Entry, by: Entry) -> None:
        reason = f"replaced by {by.goal}"
        self._end_deliveries(gone.waiting_deliveries(), "superseded", reason)
        if gone.deliveries or gone.cause in REPLACES:
            self._add_activity(now, gone, "superseded", reason, gone.sha)

    # --- lists ----------------------------------------------------------------------------------------------

    def _list_of(self, entry: Entry) -> list[Entry]:
        return self.later if entry.cause == Cause.RESYNC else self.waiting

    def _take_out(self, key: str) -> Place | None:
        """Remove and return the waiting or snoozed item with a key, with its position or the time when it is due."""
        for among in (self.waiting, self.later):
            for place, entry in enumerate(among):
                if entry.key == key:
                    return Place(among.pop(place), among, place)
        if key in self.snoozed:
            due, entry = self.snoozed.pop(key)
            return Place(entry, due=due)
        return None

    def _enqueue(self, now: float, entry: Entry, was: str) -> Entry:
        """Put an item that is "new", was "running" while a newer one arrived, or was "admitted" or "dead"."""
        if there := self._take_out(entry.key):
            newest = was == "new" or (was != "running" and entry.decision() > there.entry.decision())
            older, newer = (there.entry, entry) if newest else (entry, there.entry)
            entry = self._merge(now, older, newer)
            self._place_merged(now, entry, there)
        elif was == "running":
            self._list_of(entry).insert(0, entry)
        else:
            self._append(entry)
        return entry

    def _append(self, entry: Entry) -> None:
        """Put an item at the end: of the resyncs' items, or of the next round in which its sender has none."""
        if self._list_of(entry) is self.later:
            self.later.append(entry)
            return
        number = self._next_round(entry.sender)
        self.senders = {name: last for name, last in self.senders.items() if last >= self.round}
        self.senders[entry.sender] = self.rounds[entry.key] = number
        place = [self.rounds.get(each.key, 0) > number for each in self.waiting]
        self.waiting.insert(place.index(True) if any(place) else len(place), entry)

    def _next_round(self, sender: str) -> int:
        return max(self.round, self.senders.get(sender, -1) + 1)

    def _snooze(self, now: float, entry: Entry, due: float) -> None:
        """Snooze an item, unless a newer one that does not rest arrived while it ran."""
        if there := self._take_out(entry.key):
            entry = self._merge(now, entry, there.entry)
            if entry.not_before <= now:
                self._place_merged(now, entry, there)
                return
            self.rounds.pop(entry.key, None)
        self.snoozed[entry.key] = due, entry

    def _place_merged(self, now: float, entry: Entry, there: Place) -> None:
        """Put a merged item in the place of the earlier one; a snoozed one wakes, unless the merged item rests."""
        if there.among is not None and not (there.among is self.later and entry.cause != Cause.RESYNC):
            earlier = self._next_round(entry.sender) < self.rounds.get(entry.key, 0)
            if earlier and entry.sender != there.entry.sender:
                self._append(entry)
            else:
                there.among.insert(there.place, entry)
        elif there.among is None and entry.not_before > now:
            self.snoozed[entry.key] = there.due, entry
        else:
            self._append(entry)

    def _dispatch_next(self, now: float) -> Handed | None:
        if self.later and not self.waiting:
            self.waiting.append(self.later.pop(0))
        if not self.waiting:
            self.status, self.sent = "idle", None
            self.round, self.rounds, self.senders = 0, {}, {}
            return None
        self.token += 1
        self.status, self.until, self.sends = "sent", now + self.grace, 1
        first = self.waiting[0]
        self.round = max(self.round, self.rounds.pop(first.key, 0))
        low = self._list_of(first) is self.later and len(self.waiting) == 1
        self.sent = Handed(first.key, first.task, self.token, low)
        return self.sent

    def _raise_priority(self, wanted: list[Entry]) -> Handed | None:
        """Send the message again with normal priority, if a more urgent item waits behind it."""
        urgent = any(self._list_of(entry) is self.waiting for entry in wanted)
        if self.status != "sent" or not self.sent.low or not urgent:
            return None
        self.sent = replace(self.sent, low=False)
        return self.sent

    def _dispatch_after_enqueue(self, now: float, entry: Entry) -> Handed | None:
        """Hand out if the lane is idle or the sent task has changed; raise the priority if the item is urgent."""
        outdated = self.status == "sent" and self.sent.key == entry.key and self.sent.task != entry.task
        if self.status == "idle" or outdated:
            return self._dispatch_next(now)
        return self._raise_priority([entry]) if entry.not_before <= now else None

    # --- records --------------------------------------------------------------------------------------------

    def _end_deliveries(self, deliveries: list[str], outcome: str, reason: str) -> None:
        for delivery in deliveries:
            record = self.deliveries[delivery]
            record.outcome, record.reason, record.finished = outcome, reason, True
            self.counters[f"outcome:{outcome}"] += 1

    def _end_item(self, now: float, entry: Entry, outcome: str, reason: str, commit: str) -> None:
        self._end_deliveries(entry.waiting_deliveries(), outcome, reason)
        self.counters[f"goal:{outcome}"] += 1
        if (entry.cause, outcome) != (
            Cause.EVENT,
            "skipped",
        ):  # AWS's events about deployer's own operations are not listed
            self._add_activity(now, entry, outcome, reason, commit)

    def _store_dead_letter(self, entry: Entry, letter: str, died: Letter) -> None:
        self.letters[letter] = died
        for delivery in entry.waiting_deliveries():
            self.deliveries[delivery].letter = letter

    def _add_activity(self, now: float, entry: Entry, outcome: str, reason: str, commit: str) -> None:
        line = Activity(
            now, self.repository, entry.environment, entry.goal, outcome, reason, commit, entry.ref
        )
        self.activity.insert(0, line)

    # --- the invariants, as numbered in docs/lanes.md ---------------------

    def violations(self) -> Iterator[str]:
        """Each broken invariant, with its number."""
        places = [each.key for each in [*self.waiting, *self.later]] + list(self.snoozed)
        if len(places) != len(set(places)):
            yield f"1: an item is in two places: {places}"
        if (self.status == "running") != (self.running is not None):
            yield f"2: {self.status}, and {self.running} runs"
        entries = [*self.waiting, *self.later, *(entry for _, entry in self.snoozed.values())]
        entries += [self.running] if self.running else []
        waits = [delivery for entry in entries for delivery in entry.waiting_deliveries()]
        queued = [delivery for delivery, record in self.deliveries.items() if record.outcome == "queued"]
        if sorted(waits) != sorted(queued):
            yield f"3: {waits} wait in the lane, {queued} are queued"
        for delivery, record in self.deliveries.items():
            if record.outcome not in FINAL | {"queued"} or record.finished != (record.outcome in FINAL):
                yield f"3: {delivery} is {record}"
        for name, letter in self.letters.items():
            for delivery in letter.work.waiting_deliveries():
                record = self.deliveries[delivery]
                if (record.outcome, record.letter) != ("dead-lettered", name):
                    yield f"4: {delivery} of {name} is {record}"
        numbers = [self.rounds[each.key] for each in self.waiting if each.key in self.rounds]
        if numbers != sorted(numbers) or set(self.rounds) - {each.key for each in self.waiting}:
            yield f"12: {self.rounds} are the rounds of {[each.key for each in self.waiting]}"
        if self.status == "idle" and (self.waiting or self.later):
            yield f"7: nobody is given {[*self.waiting, *self.later][0].key}"
        if self.status == "sent":
            first = self.waiting[0] if self.waiting else None
            if first is None or (first.key, first.task) != (self.sent.key, self.sent.task):
                yield f"8: {self.sent} went out, {first} is first"


def entry_of(work: Work) -> Entry:
    """Work as an item that does not rest."""
    return Entry.of(**work.json_fields())


def _with_last_error(entry: Entry, why: str) -> Entry:
    """With another error of its last attempt, if that says that its worker was lost; otherwise the same object."""
    *before, last = entry.tries.split("\n")
    began, ended, task, error = json.loads(last) if last else (0, 0, "", "")
    if error != "its worker was lost":
        return entry
    return entry.but(tries="\n".join([*before, json.dumps([began, ended, task, why])]))  # type: ignore[return-value]


def _needs_no_turn(entry: Entry) -> bool:
    return entry.cause != Cause.RESYNC or entry.turned
