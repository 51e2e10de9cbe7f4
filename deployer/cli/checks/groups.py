"""Runs the checks of `deployer doctor`: one group for each system that may be away, side by side, one row per cause."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from deployer.model.errors import DeployerError, TransientError

OK, WARN, FAIL = "ok", "warn", "FAIL"
PROBE_SECONDS = 1.0  # for a connection, and as long again for the answer
_AWAY_SECONDS = (
    1.8  # a group that has not passed its probe by then is away; with the start of Python it is below 3 s
)
_WHOLE_SECONDS = 45.0  # for everything, where all systems are there: quotas of many regions take their time
_NAMED = 3
_BUG_REMEDY = "report it, with what the log says"


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table.

    Attributes:
        check: what was looked at.
        state: `ok`, `warn` or `FAIL`.
        told: what was found.
        remedy: what to do about it, in one line; empty where all is well.
        cause: what several rows may have in common, so that one of them stands for all; empty where they are told
            one by one.
    """

    check: str
    state: str
    told: str
    remedy: str = ""
    cause: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class CheckFunction:
    """One part of a group.

    Args:
        name: what its row is called where it fails.
        look: gives its rows.
        remedy: what to do where it fails.
    """

    name: str
    look: Callable[[], Iterable[Check]]
    remedy: str


@dataclass(frozen=True, slots=True)
class Group:
    """The checks that need one system.

    Args:
        name: the system's.
        probe: asks whether it is there, within `PROBE_SECONDS`; raises `TransientError` where it is not.
        looks: what is done where it is there.
        remedy: what to do where it is not.
        asks_again: probe once more after a look that failed; if the system has gone meanwhile, that is the only row.
    """

    name: str
    probe: Callable[[], object]
    checks: Sequence[CheckFunction]
    remedy: str
    probe_again: bool = False


def run(groups: Sequence[Group]) -> Iterator[Check]:
    """Run the groups side by side and give their rows, group by group.

    A system that is away costs one row, and the others are waited for no longer than until `_AWAY_SECONDS` then.
    """
    began = time.monotonic()
    running = [_GroupRun(group) for group in groups]
    for each in running:
        each.probed.wait(max(0.0, began + _AWAY_SECONDS - time.monotonic()))
    away = any(not each.there for each in running)
    ends = began + (_AWAY_SECONDS if away else _WHOLE_SECONDS)
    yield from _merge_causes([row for each in running for row in each.rows(ends)])


class _GroupRun:
    """A group at work in a thread of its own, which nobody waits for at the end of the process."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._rows: queue.SimpleQueue[Check | None] = queue.SimpleQueue()
        self.probed = threading.Event()
        self.there = False
        threading.Thread(target=self._work, name=f"doctor-{group.name}", daemon=True).start()

    def rows(self, ends: float) -> list[Check]:
        """What was found until a moment, by `time.monotonic`."""
        found: list[Check] = []
        while True:
            try:
                row = self._rows.get(timeout=max(0.01, ends - time.monotonic()))
            except queue.Empty:
                return [*found, self._timed_out()]
            if row is None:
                return found
            found.append(row)

    def _timed_out(self) -> Check:
        if not self.there:
            told = f"it has not answered within {_AWAY_SECONDS:g} s"
            return Check(self._group.name, FAIL, told, self._group.remedy, self._group.remedy)
        told = "not everything could be looked at in this time"
        return Check(self._group.name, WARN, told, "mend what is away, then look again")

    def _work(self) -> None:
        try:
            rows = run_guarded(CheckFunction(self._group.name, self._probe, self._group.remedy))
            for row in rows:  # one cause, in however many regions it shows
                self._rows.put(replace(row, cause=self._group.remedy))
            self.probed.set()
            if self.there:
                self._look()
        finally:
            self.probed.set()
            self._rows.put(None)

    def _probe(self) -> Iterable[Check]:
        self._group.probe()
        self.there = True
        return ()

    def _look(self) -> None:
        for look in self._group.checks:
            rows = run_guarded(look)
            failed = any(row.state == FAIL for row in rows)
            if (
                failed
                and self._group.probe_again
                and (gone := run_guarded(CheckFunction(self._group.name, self._probe, look.remedy)))
            ):
                for row in gone:
                    self._rows.put(row)
                return
            for row in rows:
                self._rows.put(row)


def run_guarded(look: CheckFunction) -> list[Check]:
    """What a look finds; whatever it raises is a finding too, and the others go on."""
    try:
        return list(look.look())
    except DeployerError as error:
        again = "it may be away: try again, or " if isinstance(error, TransientError) else ""
        told = str(error)
        # what was being done comes first, why it failed last: the second is what others may share
        cause = told.partition(": ")[2] or told
        return [Check(look.name, FAIL, told, again + look.remedy, cause)]
    except Exception as error:  # noqa: BLE001  one part that is broken must not hide the others
        told = f"unexpected {type(error).__name__}"
        return [Check(look.name, FAIL, told, _BUG_REMEDY, told)]


def _merge_causes(rows: Sequence[Check]) -> list[Check]:
    """The rows with those of one cause as one, in the place of the first."""
    alike: dict[str, list[Check]] = {}
    for row in rows:
        if row.cause:
            alike.setdefault(row.cause, []).append(row)
    found = []
    for row in rows:
        same = alike.get(row.cause, [row])
        if len(same) == 1:
            found.append(row)
        elif row is same[0]:
            names = list(dict.fromkeys(each.check for each in same))
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            # where it happened, which comes first, is in the names
            reason = row.cause if row.told.endswith(row.cause) else row.told.partition(": ")[2] or row.told
            told = row.told if len(names) == 1 else reason
            found.append(replace(row, check=f"{', '.join(names[:_NAMED])}{more}", told=told))
    return found
