"""One lane as docs/lanes.md specifies it, in plain Python: the same operations, in the same order and words.

Time is an argument, in seconds. A token is only known to be greater than all before; the test tells which one it was.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from deployer.model.records import (
    TASK_TIMEOUT,
    WORKER_LOST,
    Activity,
    Cause,
    EnvironmentRecord,
    Task,
    Work,
    split_key,
)
from deployer.queue.step_results import Again, Dead, Done, Retry, Snooze, Verdict

REPLACES = {Cause.PUSH, Cause.DELETION, Cause.REDEPLOY, Cause.TEARDOWN}
REPEATABLE = {"failed", "dead-lettered", "ignored"}
FINAL = {"deployed", "deleted", "superseded", "skipped", "failed", "dead-lettered", "ignored"}
LOST = "lost"
LONGEST_RESEND = 60
MOST_DELIVERIES = 50
REFUSALS, FIRST_PAUSE, LONGEST_PAUSE = 8, 10, 300
LONGEST_LOOK = 60

# --- state --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry(Work):
    """Work in its place in the lane; until `not_before` it rests after a fault."""

    not_before: float = 0

    def decision(self) -> float:
        """When somebody decided what it wants."""
        return self.decided_at or self.accepted_at

    def waiting_deliveries(self) -> list[str]:
        """The deliveries that wait for its outcome."""
        return [each for each in self.deliveries.split(",") if each]

    def tried(self, now: float, ran: "Entry", error: str) -> Any:
        """The entry with one more attempt that ended badly: that of what ran."""
        tries = [*self.tries.split("\n"), json.dumps([ran.began_at, now, ran.task, error])]
        return self.but(tries="\n".join(each for each in tries[-20:] if each))


@dataclass
class Delivery:
    """What is recorded of a delivery."""

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
    """The message that goes out to the workers."""

    key: str
    task: str
    token: int
    low: bool


@dataclass(frozen=True)
class Place:
    """An entry that was there, and where: its place in a list, or when it is due."""

    entry: Entry
    among: list[Entry] | None = None
    place: int = 0
    due: float = 0


@dataclass
class Lane:
    """All that is known of one repository."""

    repository: str
    lease: float
    grace: float
    max_attempts: int

    waiting: list[Entry] = field(default_factory=list)
    later: list[Entry] = field(default_factory=list)  # what a resync wants; it waits until nothing else does
    snoozed: dict[str, tuple[float, Entry]] = field(
        default_factory=dict
    )  # key of an item: when it is due, and what
    running: Entry | None = None

    status: str = "idle"  # or sent, or running
    sent: Handed | None = None
    token: int = 0
    until: float = 0  # end of the grace where sent, of the lease where running
    lost: int = 0  # the last token whose lease ran out
    why: str = ""  # how the attempt that runs has ended, where that is known before its lease ran out
    sends: int = 0
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)  # key of an item: how often, its goal
    refusals: int = REFUSALS
    unread: int = 0  # how many dead letters of items that no worker understood there were

    deliveries: dict[str, Delivery] = field(default_factory=dict)
    environments: dict[str, EnvironmentRecord] = field(default_factory=dict)
    letters: dict[str, Letter] = field(default_factory=dict)
    activity: list[Activity] = field(default_factory=list)  # newest first
    counters: Counter[str] = field(default_factory=Counter)

    # --- operations -----------------------------------------------------------------------------------------

    def accept(
        self, now: float, work: Work, delivery: str = "", event: str = ""
    ) -> tuple[str, str, Handed | None]:
        """Queued under which goal, or a duplicate of what has which outcome; and what goes out."""
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
                self._close(others, "superseded", f"replaced by {delivery}")
            times = known.times + 1 if known else 1
            goal = delivery if times == 1 else f"{delivery}#{times}"
            entry = entry.but(goal=goal, deliveries=delivery)
            self.deliveries[delivery] = Delivery(work.environment, event, "queued", times=times)
            self.counters["delivery:queued"] += 1
        entry = self._put(now, entry.but(accepted_at=now), "new")
        return "queued", entry.goal, self._hand_out_after(now, entry)

    def begin(self, now: float, token: int) -> Entry | None:
        """The work that was handed out under this token, or None."""
        if self.status != "sent" or token != self.token:
            return None
        first = self.waiting.pop(0)
        self.running = first.but(attempts=first.attempts + 1, not_before=0, began_at=now)
        self.status, self.until, self.why = "running", now + self.lease, ""
        return self.running

    def extend(self, now: float, token: int) -> bool:
        """Whether the lane is still held under this token, for another lease."""
        if self.status != "running" or token != self.token:
            return False
        self.until = now + self.lease
        return True

    def expire(self, now: float, token: int, key: str, why: str) -> bool:
        """Whether the lane was held under this token; then its lease ends now, or what a sweep noted is corrected."""
        if self.status == "running" and token == self.token:
            self.until, self.why = now, why
            return True
        if token != self.lost:
            return False
        if self.running and self.running.key == key:
            changed = self.running = _corrected(entry := self.running, why)
            return changed is not entry
        for among in (self.waiting, self.later):
            for place, entry in enumerate(among):
                if entry.key == key:
                    among[place] = _corrected(entry, why)
                    return among[place] is not entry
        if key in self.snoozed:
            due, entry = self.snoozed[key]
            self.snoozed[key] = due, _corrected(entry, why)
            return self.snoozed[key][1] is not entry
        return False

    def finish(
        self, now: float, token: int, verdict: Verdict, counts: Mapping[str, int]
    ) -> Handed | str | None:
        """LOST, or what goes out next."""
        if self.status != "running" or token != self.token:
            return LOST
        self.counters.update(counts)
        ran, self.running = self.running, None
        self.refused.pop(ran.key, None)
        if not isinstance(verdict, Retry) and verdict.record:
            self.environments[ran.environment] = verdict.record
        commit = verdict.commit if isinstance(verdict, Done) else ""
        if isinstance(verdict, Done | Dead) and verdict.record:
            commit = commit or verdict.record.commit
        match verdict:
            case Done(outcome, reason):
                self._end(now, ran, outcome, reason, commit)
            case Dead(letter):
                self._end(now, ran, "dead-lettered", letter.reason, commit)
                work = entry_of(letter.arguments)
                if letter.kind not in {WORKER_LOST, TASK_TIMEOUT}:
                    work = work.tried(now, ran, letter.reason)
                died = Letter(letter.task, letter.kind, letter.reason, letter.traceback, letter.at, work)
                self._bury(ran, letter.id, died)
            case Again(work):
                was = "running" if work.key == ran.key else "admitted"
                self._put(now, entry_of(work).but(attempts=max(work.attempts - 1, 0)), was)
            case Snooze(work, seconds, rests=True):
                attempts = max(work.attempts - 1, 0)
                self._put_aside(
                    now, entry_of(work).but(attempts=attempts, not_before=now + seconds), now + seconds
                )
            case Snooze(work, seconds):
                self._put_aside(now, entry_of(work).but(attempts=0, tries="", not_before=0), now + seconds)
            case Retry(work, seconds, error):
                entry = entry_of(work).tried(now, ran, error)
                self._put_aside(now, entry.but(not_before=now + seconds), now + seconds)
        return self._hand_out(now)

    def sweep(self, now: float) -> Handed | None:
        """What goes out, for the first time or once more."""
        woken = []
        for key, (due, entry) in sorted(self.snoozed.items(), key=lambda item: (item[1][0], item[0])):
            if due <= now:
                del self.snoozed[key]
                self._place_of(entry).append(entry)
                woken.append(entry)
        if self.status == "idle":
            return self._hand_out(now)
        hastened = self._hasten(woken)
        if self.until > now:
            return hastened
        if self.status == "sent":
            self.sends += 1
            self.until = now + min(self.grace * 2 ** (self.sends - 1), LONGEST_RESEND)
            return self.sent
        lost, self.running = self.running, None
        tried = lost.tried(now, lost, self.why or "its worker was lost")
        self.lost = self.token
        if lost.attempts <= self.max_attempts:  # once more, for the worker that tells of it
            self.counters["lane:expired"] += 1
            self._put(now, tried, "running")
        else:
            reason = f"its worker was lost {lost.attempts} times while running {lost.task}"
            self._end(now, lost, "dead-lettered", reason, lost.sha)
            last = "resync" if lost.environment == "*" else self.token
            letter = f"{self.repository.replace('/', '~')}-{last}"
            self._bury(lost, letter, Letter(lost.task, WORKER_LOST, reason, "", now, tried))
        return self._hand_out(now)

    def refuse(self, now: float, clock: float, token: int, why: str) -> tuple[str, float, Handed | None]:
        """LOST, `refused` or `dead`; the pause; and what goes out. `clock` is the time of Redis."""
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
            self._end(now, entry, "dead-lettered", reason, entry.sha)
            letter = f"{self.repository.replace('/', '~')}-{clock * 1000:.0f}.{self.unread}"
            self._bury(entry, letter, Letter(entry.task, "QueueItemError", reason, "", now, entry))
            return "dead", 0, self._hand_out(now)
        self.refused[entry.key] = times, entry.goal
        pause = min(FIRST_PAUSE * 2 ** (times - 1), LONGEST_PAUSE)
        self._put_aside(now, entry.but(not_before=now + pause), now + pause)
        return "refused", pause, self._hand_out(now)

    def replay(self, now: float, letter: str, goal: str) -> tuple[str, Handed | None] | None:
        """The goal that the work has now, and what goes out; None if there is no such letter."""
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
            **dict.fromkeys(["created", "updated", "recovered", "replacing"], False),
            **dict.fromkeys(["stack_arn", "execution", "tries"], ""),
        )
        entry = self._put(now, entry, "dead")
        return entry.goal, self._hand_out_after(now, entry)

    def discard(self, letter: str) -> bool:
        """Whether there was such a letter."""
        return self.letters.pop(letter, None) is not None

    def forget(self, seen: Mapping[str, EnvironmentRecord]) -> None:
        """Drop the records that are still what was seen, of environments without work."""
        with_items = {self.running.environment} if self.running else set()
        with_items |= {each.environment for each in [*self.waiting, *self.later]}
        with_items |= {split_key(key)[0] for key in self.snoozed}
        for environment, record in seen.items():
            if self.environments.get(environment) is record and environment not in with_items:
                del self.environments[environment]

    def ignore(self, delivery: str, outcome: str, reason: str) -> None:
        """Record a delivery that calls for nothing."""
        if delivery not in self.deliveries:
            self.deliveries[delivery] = Delivery("", "", outcome, reason, finished=True)
            self.counters[f"outcome:{outcome}"] += 1

    def wiped(self) -> "Lane":
        """The lane after Redis lost everything: nothing is left but the order of tokens."""
        return Lane(
            self.repository,
            self.lease,
            self.grace,
            self.max_attempts,
            token=self.token,
            refusals=self.refusals,
        )

    def look(self, now: float) -> float:
        """By when the sweeper has to look at this lane."""
        if self.status != "idle":
            return self.until
        return min((due for due, _ in self.snoozed.values()), default=now + LONGEST_LOOK)

    # --- two entries of one environment become one ----------------------------------------------------------

    def _merge(self, now: float, older: Entry, newer: Entry) -> Entry:
        # out of order
        told = newer.cause in {Cause.PUSH, Cause.DELETION}
        late = told and 0 < newer.pushed_at < older.pushed_at
        if older.cause == Cause.PUSH and late:
            self._supersede(now, newer, older)
            return older.but(before=f"{older.before},{newer.before}"[:400])
        # an event gives way
        if older.cause == Cause.EVENT != newer.cause:
            rest = newer.not_before or (0 if newer.cause in REPLACES else older.not_before)
            return self._joined(newer, older).but(not_before=rest)  # what was watched takes no turn
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
        if older.turned and not older.attempts and _wants_no_turn(newer):
            older = older.but(not_before=0)
        return self._joined(older, newer)

    def _joined(self, stays: Entry, joins: Entry) -> Any:
        deliveries = [*stays.waiting_deliveries(), *joins.waiting_deliveries()]
        self._close(deliveries[MOST_DELIVERIES:], "superseded", f"covered by {stays.goal}")
        return stays.but(
            deliveries=",".join(deliveries[:MOST_DELIVERIES]),
            polls=0,
            looked_at=max(stays.looked_at, joins.looked_at),
            turned=stays.turned or _wants_no_turn(joins),
            word="deleted" if "deleted" in {stays.word, joins.word} else joins.word or stays.word,
        )

    def _supersede(self, now: float, gone: Entry, by: Entry) -> None:
        reason = f"replaced by {by.goal}"
        self._close(gone.waiting_deliveries(), "superseded", reason)
        if gone.deliveries or gone.cause in REPLACES:
            self._remember(now, gone, "superseded", reason, gone.sha)

    # --- places ---------------------------------------------------------------------------------------------

    def _place_of(self, entry: Entry) -> list[Entry]:
        return self.later if entry.cause == Cause.RESYNC else self.waiting

    def _take_out(self, key: str) -> Place | None:
        """What waits or sleeps under a key, with its place in its list or the time it is due."""
        for among in (self.waiting, self.later):
            for place, entry in enumerate(among):
                if entry.key == key:
                    return Place(among.pop(place), among, place)
        if key in self.snoozed:
            due, entry = self.snoozed.pop(key)
            return Place(entry, due=due)
        return None

    def _put(self, now: float, entry: Entry, was: str) -> Entry:
        """Put an entry that is "new", was "running" while newer work came, or was "admitted" or "dead"."""
        if there := self._take_out(entry.key):
            newest = was == "new" or (was != "running" and entry.decision() > there.entry.decision())
            older, newer = (there.entry, entry) if newest else (entry, there.entry)
            entry = self._merge(now, older, newer)
            self._stand(now, entry, there)
        else:
            among = self._place_of(entry)
            among.insert(0 if was == "running" else len(among), entry)
        return entry

    def _put_aside(self, now: float, entry: Entry, due: float) -> None:
        """Snoozed, unless something came while it ran that is not to wait."""
        if there := self._take_out(entry.key):
            entry = self._merge(now, entry, there.entry)
            if entry.not_before <= now:
                self._stand(now, entry, there)
                return
        self.snoozed[entry.key] = due, entry

    def _stand(self, now: float, entry: Entry, there: Place) -> None:
        """In the place of what was there; what slept wakes, unless the entry rests."""
        if there.among is not None and not (there.among is self.later and entry.cause != Cause.RESYNC):
            there.among.insert(there.place, entry)
        elif there.among is None and entry.not_before > now:
            self.snoozed[entry.key] = there.due, entry
        else:
            self._place_of(entry).append(entry)

    def _hand_out(self, now: float) -> Handed | None:
        if self.later and not self.waiting:
            self.waiting.append(self.later.pop(0))
        if not self.waiting:
            self.status, self.sent = "idle", None
            return None
        self.token += 1
        self.status, self.until, self.sends = "sent", now + self.grace, 1
        first = self.waiting[0]
        low = self._place_of(first) is self.later and len(self.waiting) == 1
        self.sent = Handed(first.key, first.task, self.token, low)
        return self.sent

    def _hasten(self, wanted: list[Entry]) -> Handed | None:
        """Send once more, as what is not low, if something more urgent waits for it."""
        urgent = any(self._place_of(entry) is self.waiting for entry in wanted)
        if self.status != "sent" or not self.sent.low or not urgent:
            return None
        self.sent = replace(self.sent, low=False)
        return self.sent

    def _hand_out_after(self, now: float, entry: Entry) -> Handed | None:
        """If nobody holds the lane, or what was sent is no longer what is to be done, or must be hastened."""
        outdated = self.status == "sent" and self.sent.key == entry.key and self.sent.task != entry.task
        if self.status == "idle" or outdated:
            return self._hand_out(now)
        return self._hasten([entry]) if entry.not_before <= now else None

    # --- the ledger -----------------------------------------------------------------------------------------

    def _close(self, deliveries: list[str], outcome: str, reason: str) -> None:
        for delivery in deliveries:
            record = self.deliveries[delivery]
            record.outcome, record.reason, record.finished = outcome, reason, True
            self.counters[f"outcome:{outcome}"] += 1

    def _end(self, now: float, entry: Entry, outcome: str, reason: str, commit: str) -> None:
        self._close(entry.waiting_deliveries(), outcome, reason)
        self.counters[f"goal:{outcome}"] += 1
        if (entry.cause, outcome) != (Cause.EVENT, "skipped"):  # AWS's echo of what was done is no history
            self._remember(now, entry, outcome, reason, commit)

    def _bury(self, entry: Entry, letter: str, died: Letter) -> None:
        self.letters[letter] = died
        for delivery in entry.waiting_deliveries():
            self.deliveries[delivery].letter = letter

    def _remember(self, now: float, entry: Entry, outcome: str, reason: str, commit: str) -> None:
        line = Activity(
            now, self.repository, entry.environment, entry.goal, outcome, reason, commit, entry.ref
        )
        self.activity.insert(0, line)

    # --- what always holds, as numbered in docs/lanes.md ---------------------

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
        if self.status == "idle" and (self.waiting or self.later):
            yield f"7: nobody is given {[*self.waiting, *self.later][0].key}"
        if self.status == "sent":
            first = self.waiting[0] if self.waiting else None
            if first is None or (first.key, first.task) != (self.sent.key, self.sent.task):
                yield f"8: {self.sent} went out, {first} is first"


def entry_of(work: Work) -> Entry:
    """Work as an entry that does not rest."""
    return Entry(**{each.name: getattr(work, each.name) for each in fields(Work)})


def _corrected(entry: Entry, why: str) -> Entry:
    """With another reason for its last attempt, if that says that its worker was lost; else the same object."""
    *before, last = entry.tries.split("\n")
    began, ended, task, error = json.loads(last) if last else (0, 0, "", "")
    if error != "its worker was lost":
        return entry
    return entry.but(tries="\n".join([*before, json.dumps([began, ended, task, why])]))  # type: ignore[return-value]


def _wants_no_turn(entry: Entry) -> bool:
    return entry.cause != Cause.RESYNC or entry.turned
