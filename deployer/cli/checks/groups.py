"""Runs groups of checks in parallel, one group for each external system."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from deployer.model.errors import DeployerError, TransientError

OK, WARN, FAIL = "ok", "warn", "FAIL"
PROBE_SECONDS = 1.0  # for a connection, and as long again for the answer
# after this time a group whose probe has not passed is unreachable; the whole command then takes less than 3 s
_AWAY_SECONDS = 1.8
_WHOLE_SECONDS = 45.0  # for all checks if every system answers; reading quotas of many regions is slow
_NAMES_SHOWN = 3
BUG_REMEDY = "report this bug with the log"


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table.

    Attributes:
        check: the name of the checked part.
        state: `ok`, `warn` or `FAIL`.
        told: the finding.
        remedy: what to do about it, in one line; empty if nothing is to be done.
        cause: the cause that several rows may share; rows of one cause are merged. Empty for rows that are never
            merged.
    """

    check: str
    state: str
    told: str
    remedy: str = ""
    cause: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class CheckFunction:
    """One check of a group.

    Args:
        name: the name of the row if the check fails.
        run: returns the rows.
        remedy: what to do if the check fails.
    """

    name: str
    run: Callable[[], Iterable[Check]]
    remedy: str


@dataclass(frozen=True, slots=True)
class Group:
    """The checks that need one external system.

    Args:
        name: the system's name.
        probe: asks the system for an answer within `PROBE_SECONDS`; raises `TransientError` if none comes.
        checks: the checks that run if the system answers.
        remedy: what to do if it does not answer.
        probe_again: whether to probe again after a failed check; if the system does not answer any more, the failed
            probe is the only row.
    """

    name: str
    probe: Callable[[], object]
    checks: Sequence[CheckFunction]
    remedy: str
    probe_again: bool = False


def run_groups(groups: Sequence[Group]) -> Iterator[Check]:
    """Run the groups in parallel and yield their rows, group by group.

    A system that does not answer yields one row. The other groups must then end within `_AWAY_SECONDS` too.
    """
    began = time.monotonic()
    running = [_GroupRun(group) for group in groups]
    for each in running:
        each.probed.wait(max(0.0, began + _AWAY_SECONDS - time.monotonic()))
    unreachable = any(not each.answers for each in running)
    ends = began + (_AWAY_SECONDS if unreachable else _WHOLE_SECONDS)
    yield from _merge_causes([row for each in running for row in each.rows(ends)])


class _GroupRun:
    """A group that runs in a daemon thread, so that it cannot delay the end of the process."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._rows: queue.SimpleQueue[Check | None] = queue.SimpleQueue()
        self.probed = threading.Event()
        self.answers = False
        threading.Thread(target=self._run_group, name=f"doctor-{group.name}", daemon=True).start()

    def rows(self, ends: float) -> list[Check]:
        """Return the rows that were found before `ends` (by `time.monotonic`)."""
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
        if not self.answers:
            text = f"no answer within {_AWAY_SECONDS:g} s"
            return Check(self._group.name, FAIL, text, self._group.remedy, self._group.remedy)
        text = "not all checks ended in time"
        return Check(
            self._group.name, WARN, text, "fix the systems that do not answer, then run doctor again"
        )

    def _run_group(self) -> None:
        try:
            rows = run_guarded(CheckFunction(self._group.name, self._run_probe, self._group.remedy))
            for row in rows:  # the same cause in several regions becomes one row
                self._rows.put(replace(row, cause=self._group.remedy))
            self.probed.set()
            if self.answers:
                self._run_checks()
        finally:
            self.probed.set()
            self._rows.put(None)

    def _run_probe(self) -> Iterable[Check]:
        self._group.probe()
        self.answers = True
        return ()

    def _run_checks(self) -> None:
        for check in self._group.checks:
            rows = run_guarded(check)
            failed = any(row.state == FAIL for row in rows)
            if (
                failed
                and self._group.probe_again
                and (
                    unreachable := run_guarded(CheckFunction(self._group.name, self._run_probe, check.remedy))
                )
            ):
                for row in unreachable:
                    self._rows.put(row)
                return
            for row in rows:
                self._rows.put(row)


def run_guarded(check: CheckFunction) -> list[Check]:
    """Return the rows of a check. An exception becomes a row too, so that the other checks still run."""
    try:
        return list(check.run())
    except DeployerError as error:
        again = "try again later, or " if isinstance(error, TransientError) else ""
        text = str(error)
        # an error text is "what was being done: why it failed", and only the reason can be common to several rows
        cause = text.partition(": ")[2] or text
        return [Check(check.name, FAIL, text, again + check.remedy, cause)]
    except Exception as error:  # noqa: BLE001  a bug in one check must not hide the other rows
        text = f"unexpected {type(error).__name__}"
        return [Check(check.name, FAIL, text, BUG_REMEDY, text)]


def _merge_causes(rows: Sequence[Check]) -> list[Check]:
    """Merge the rows of one cause into the first of them."""
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
            more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
            # the first part of the text says where it happened, which the merged names already say
            reason = row.cause if row.told.endswith(row.cause) else row.told.partition(": ")[2] or row.told
            text = row.told if len(names) == 1 else reason
            found.append(replace(row, check=f"{', '.join(names[:_NAMES_SHOWN])}{more}", told=text))
    return found
