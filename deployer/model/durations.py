"""Durations or hours of the week as people write them: `3d`, `never`; `Mon-Fri 20:00-07:00 Europe/Berlin`."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

NEVER = math.inf  # in seconds: longer than any other duration
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
# people write `20:00 - 07:00`; the text of a zone such as `Etc/GMT-3` is not changed
_SPACED_SEPARATOR = re.compile(r"\s*([-,])\s*")
_WEEK = 7  # days
_MOST_PERIODS = 20  # that are merged into one: two for each day of a week, with some in reserve
_LONGEST_ZONE = 64
SEVERAL = "; "  # separates the hours if one text has several


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


def parse_duration(text: str) -> float:
    """Read a duration: `45s`, `90m`, `12h`, `3d`, `2w`, `1d 12h`, `3 days`, or `never`; returns seconds.

    Raises:
        ValueError: the text is no duration, is zero, or is more than ten years. The message names the valid forms.
    """
    words = text.strip()
    if words.lower() == "never":
        return NEVER
    parts = list(_PART.finditer(words))
    seconds = sum(int(each[1]) * _UNITS[each[2][0].lower()] for each in parts)
    if "".join(each[0] for each in parts) != words or not 0 < seconds <= _LONGEST:
        raise ValueError(f"{text[:40]!r} is not a duration, such as 90m, 12h, 3d, 2w or never; at most 3650d")
    return seconds


def duration_text(seconds: float) -> str:
    """A text that `parse_duration` reads: in whole minutes, or in seconds if it is less than a minute.

    Args:
        seconds: the duration, or `NEVER`.
    """
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
    """A duration in its largest unit, such as `2 h`; smaller units are cut off."""
    seconds = max(0.0, seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def date(at: float) -> str:
    """The date and time of an epoch time, in UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def clock(at: float) -> str:
    """The time of day of an epoch time, in UTC."""
    return f"{datetime.fromtimestamp(at, UTC):%H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Hours:
    """A period that recurs on some weekdays, in local time of a time zone.

    Attributes:
        begin, end: the local time at which the period begins and ends.
        zone: the time zone's name.
        days: the weekdays on which it begins, Monday is 0; empty for every day.
        over: how many days after its beginning it ends.
    """

    begin: time
    end: time
    zone: str = "UTC"
    days: tuple[int, ...] = ()
    over: int = 0

    @classmethod
    def parse(cls, text: str) -> "Hours":
        """Read `20:00-07:00`, `Mon-Fri 20:00-07:00` or `Fri 20:00-Mon 07:00`, followed by a time zone or in UTC.

        Raises:
            ValueError: the text has another form, the period has no length, or this machine does not know the zone.
        """
        found = _HOURS.fullmatch(_without_spaces(text))
        days = _parse_days(found[1] or "") if found else ()
        if not found or (found[4] and len(days) != 1):
            raise ValueError(
                f"{text[:40]!r} is not a part of a day or week, such as 20:00-07:00, Mon-Fri 20:00-07:00 or "
                "Fri 20:00-Mon 07:00"
            )
        begin, end = time(int(found[2]), int(found[3])), time(int(found[5]), int(found[6]))
        over = int(end <= begin)
        if found[4]:
            over = (_parse_days(found[4])[0] - days[0]) % 7 or (7 if end <= begin else 0)
        elif begin == end:
            raise ValueError(f"{text[:40]!r} begins when it ends")
        hours = cls(begin, end, (found[7] or "").strip() or "UTC", days, over)
        hours._zone_info()
        return hours

    @property
    def text(self) -> str:
        """A text that `parse` reads."""
        days = f"{_days_text(self.days)} " if self.days else ""
        to = ""
        if len(self.days) == 1 and self.over != int(self.end <= self.begin):
            to = f"{_DAYS[(self.days[0] + self.over) % 7]} "
        return f"{days}{self.begin:%H:%M}-{to}{self.end:%H:%M} {self.zone}"

    def period_at(self, now: float) -> tuple[float, float] | None:
        """Begin and end of the period that contains `now`, all in epoch seconds; None outside of these hours."""
        zone = self._zone_info()
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

    def next_change(self, now: float) -> float:
        """When a period begins or ends next after `now`, in epoch seconds."""
        zone = self._zone_info()
        today = datetime.fromtimestamp(now, UTC).astimezone(zone).date()
        times = []
        for days in range(-self.over - 1, _WEEK + 2):
            day = today + timedelta(days=days)
            if self.days and day.weekday() not in self.days:
                continue
            times.append(datetime.combine(day, self.begin, zone).timestamp())
            times.append(datetime.combine(day + timedelta(days=self.over), self.end, zone).timestamp())
        return min(each for each in times if each > now)

    def _zone_info(self) -> ZoneInfo:
        try:
            if len(self.zone) <= _LONGEST_ZONE:
                return ZoneInfo(self.zone)
        except (OSError, LookupError, ValueError):  # zoneinfo raises one of them, depending on the name
            pass
        raise ValueError(f"{self.zone[:_LONGEST_ZONE]!r} is not a time zone, such as Europe/Berlin")


def merged_period(hours: Iterable[Hours], now: float) -> tuple[float, float] | None:
    """Begin and end of the period that contains `now`, after merging periods that overlap or touch; else None.

    Args:
        hours: all periods.
        now: epoch seconds, as the result.
    """
    listed = tuple(hours)
    found = _periods_at(listed, now)
    if not found:
        return None
    begin, end = min(period[0] for period in found), max(period[1] for period in found)
    for _ in range(_MOST_PERIODS):
        later = max((period[1] for period in _periods_at(listed, end)), default=end)
        earlier = min((period[0] for period in _periods_at(listed, begin - 1)), default=begin)
        if (earlier, later) == (begin, end):
            break
        begin, end = earlier, later
    return begin, end


def _periods_at(hours: Iterable[Hours], at: float) -> list[tuple[float, float]]:
    return [period for each in hours if (period := each.period_at(at))]


def _without_spaces(text: str) -> str:
    """The text with single spaces, and without spaces around the dashes and commas between days or times."""
    words = " ".join(text.split())
    last = max((found.end() for found in re.finditer(_CLOCK, words)), default=0)
    return _SPACED_SEPARATOR.sub(r"\1", words[:last]) + words[last:]


def _parse_days(text: str) -> tuple[int, ...]:
    """The weekdays that `Mon-Thu,Sun` names."""
    found = set()
    for part in filter(None, text.title().split(",")):
        first, _, last = part.partition("-")
        begin = _DAYS.index(first)
        found |= {(begin + each) % 7 for each in range((_DAYS.index(last or first) - begin) % 7 + 1)}
    return tuple(sorted(found))


def _days_text(days: Sequence[int]) -> str:
    """A text that `_parse_days` reads."""
    runs: list[list[int]] = []
    for day in days:
        if runs and day == runs[-1][-1] + 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return ",".join(f"{_DAYS[run[0]]}-{_DAYS[run[-1]]}" if len(run) > 1 else _DAYS[run[0]] for run in runs)
