"""Lengths of time and hours of the week as people write them: `3d`, `never`; `Mon-Fri 20:00-07:00 Europe/Berlin`."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

NEVER = math.inf  # in seconds: longer than any other
_UNITS = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}
_PART = re.compile(r"([0-9]{1,9})\s*(weeks?|w|days?|d|hours?|h|minutes?|min|m|seconds?|s)\s*", re.IGNORECASE)
_LONGEST = 3650 * _UNITS["d"]
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = f"(?:{'|'.join(_DAYS)})"
_CLOCK = r"([01]?[0-9]|2[0-3]):([0-5][0-9])"
_HOURS = re.compile(
    rf"(?:({_DAY}(?:-{_DAY})?(?:,{_DAY}(?:-{_DAY})?)*) )?{_CLOCK}-(?:({_DAY}) )?{_CLOCK}(?: (.*))?",
    re.IGNORECASE | re.DOTALL,
)
_LOOSE = re.compile(
    r"\s*([-,])\s*"
)  # people write `20:00 - 07:00`; a zone such as `Etc/GMT-3` stays as it is
_MOST_SPANS = 20  # that are taken as one night: two a day of a week, and some
_ZONE_LIMIT = 64
SEVERAL = "; "  # between parts of a week where one text has several


def backoff(first: float, growth: float, repeats: int, longest: float) -> float:
    """The wait before a repeat, in seconds: `first * growth**repeats`, but at most `longest`.

    The power is computed only where its result is below `longest`, so no number of repeats takes long to compute.

    Args:
        first: the wait before the first repeat, in seconds; not negative.
        growth: the factor between two waits; greater than 1.
        repeats: how many repeats there have been.
        longest: the upper limit, in seconds.
    """
    if not 0 < first < longest:
        return min(max(first, 0), longest)
    if repeats >= (math.log(longest) - math.log(first)) / math.log(growth):
        return longest
    try:
        return float(first * growth**repeats)
    except OverflowError:  # the power overflows alone only for a first wait of less than a nanosecond
        return longest


def duration(text: str) -> float:
    """Read a length of time in seconds: `45s`, `90m`, `12h`, `3d`, `2w`, `1d 12h`, `3 days`, or `never`.

    Raises:
        ValueError: it is none, is nothing, or more than ten years; the text says what there is.
    """
    words = text.strip()
    if words.lower() == "never":
        return NEVER
    parts = list(_PART.finditer(words))
    seconds = sum(int(each[1]) * _UNITS[each[2][0].lower()] for each in parts)
    if "".join(each[0] for each in parts) != words or not 0 < seconds <= _LONGEST:
        raise ValueError(
            f"{text[:40]!r} is no length of time, such as 90m, 12h, 3d, 2w or never; at most 3650d"
        )
    return seconds


def duration_text(seconds: float) -> str:
    """What `duration` reads: in whole minutes, or in seconds where it is less than one."""
    if seconds == NEVER:
        return "never"
    left = int(seconds)
    words: list[str] = []
    for unit, size in _UNITS.items():
        if unit != "w" and left >= size and (unit != "s" or not words):
            words.append(f"{left // size}{unit}")
            left %= size
    return " ".join(words) or "0s"


def span(seconds: float) -> str:
    """A length of time in its largest unit, in words."""
    seconds = max(0.0, seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def date(at: float) -> str:
    """An epoch time as people read it, with its zone."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def clock(at: float) -> str:
    """The time of day of an epoch time, with its zone."""
    return f"{datetime.fromtimestamp(at, UTC):%H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Hours:
    """A part of some days or of the week, by the clocks of a time zone.

    Attributes:
        begin, end: what the clocks show then.
        zone: the time zone's name.
        days: the weekdays on which it begins, Monday is 0; empty for every day.
        over: how many midnights lie in it.
    """

    begin: time
    end: time
    zone: str = "UTC"
    days: tuple[int, ...] = ()
    over: int = 0

    @classmethod
    def parse(cls, text: str) -> "Hours":
        """Read `20:00-07:00`, `Mon-Fri 20:00-07:00` or `Fri 20:00-Mon 07:00`, with a time zone behind it or in UTC.

        Raises:
            ValueError: it is not of that form, is empty, or the zone is not known here.
        """
        found = _HOURS.fullmatch(_tight(text))
        days = _days(found[1] or "") if found else ()
        if not found or (found[4] and len(days) != 1):
            raise ValueError(
                f"{text[:40]!r} is no part of a day or week, such as 20:00-07:00, Mon-Fri 20:00-07:00 or "
                "Fri 20:00-Mon 07:00"
            )
        begin, end = time(int(found[2]), int(found[3])), time(int(found[5]), int(found[6]))
        over = int(end <= begin)
        if found[4]:
            over = (_days(found[4])[0] - days[0]) % 7 or (7 if end <= begin else 0)
        elif begin == end:
            raise ValueError(f"{text[:40]!r} begins when it ends")
        made = cls(begin, end, (found[7] or "").strip() or "UTC", days, over)
        made._info()
        return made

    @property
    def text(self) -> str:
        """What `parse` reads."""
        days = f"{_days_text(self.days)} " if self.days else ""
        to = ""
        if len(self.days) == 1 and self.over != int(self.end <= self.begin):
            to = f"{_DAYS[(self.days[0] + self.over) % 7]} "
        return f"{days}{self.begin:%H:%M}-{to}{self.end:%H:%M} {self.zone}"

    def around(self, now: float) -> tuple[float, float] | None:
        """Begin and end of these hours that `now` is in, all in epoch seconds; None outside of them."""
        zone = self._info()
        today = datetime.fromtimestamp(now, UTC).astimezone(zone).date()
        for back in range(self.over + 1):
            day = today - timedelta(days=back)
            if self.days and day.weekday() not in self.days:
                continue
            begin = datetime.combine(day, self.begin, zone).timestamp()
            end = datetime.combine(day + timedelta(days=self.over), self.end, zone).timestamp()
            if begin <= now < end:
                return begin, end
        return None

    def _info(self) -> ZoneInfo:
        try:
            if len(self.zone) <= _ZONE_LIMIT:
                return ZoneInfo(self.zone)
        except (OSError, LookupError, ValueError):  # which of them depends on what the name looks like
            pass
        raise ValueError(f"{self.zone[:_ZONE_LIMIT]!r} is no time zone, such as Europe/Berlin")


def night(hours: Iterable[Hours], now: float) -> tuple[float, float] | None:
    """Begin and end of the time that `now` is in, where parts that overlap or follow each other are one; else None."""
    listed = tuple(hours)
    found = [span for each in listed if (span := each.around(now))]
    if not found:
        return None
    begin, end = min(span[0] for span in found), max(span[1] for span in found)
    for _ in range(_MOST_SPANS):
        later = max((span[1] for each in listed if (span := each.around(end))), default=end)
        sooner = min((span[0] for each in listed if (span := each.around(begin - 1))), default=begin)
        if (sooner, later) == (begin, end):
            break
        begin, end = sooner, later
    return begin, end


def _tight(text: str) -> str:
    """The text with single spaces, and none around the dashes and commas of its days and clocks."""
    words = " ".join(text.split())
    last = max((found.end() for found in re.finditer(_CLOCK, words)), default=0)
    return _LOOSE.sub(r"\1", words[:last]) + words[last:]


def _days(text: str) -> tuple[int, ...]:
    """The weekdays that `Mon-Thu,Sun` names."""
    found = set()
    for part in filter(None, text.title().split(",")):
        first, _, last = part.partition("-")
        begin = _DAYS.index(first)
        found |= {(begin + each) % 7 for each in range((_DAYS.index(last or first) - begin) % 7 + 1)}
    return tuple(sorted(found))


def _days_text(days: Sequence[int]) -> str:
    """What `_days` reads."""
    runs: list[list[int]] = []
    for day in days:
        if runs and day == runs[-1][-1] + 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return ",".join(f"{_DAYS[run[0]]}-{_DAYS[run[-1]]}" if len(run) > 1 else _DAYS[run[0]] for run in runs)
