"""Lengths of time and hours of the day as people write them: `90m`, `3d`, `never`; `20:00-07:00 Europe/Berlin`."""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

NEVER = math.inf  # in seconds: longer than any other
_UNITS = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60}
_PART = re.compile(r"([0-9]{1,9})\s*(weeks?|w|days?|d|hours?|h|minutes?|min|m)\s*", re.IGNORECASE)
_LONGEST = 3650 * _UNITS["d"]
_HOURS = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])\s*-\s*([01]?[0-9]|2[0-3]):([0-5][0-9])")
_ZONE_LIMIT = 64


def duration(text: str) -> float:
    """Read a length of time in seconds: `90m`, `12h`, `3d`, `2w`, `1d 12h`, `3 days`, or `never`.

    Raises:
        ValueError: it is none, is no minute, or more than ten years; the text says what there is.
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
    """What `duration` reads, in whole minutes."""
    if seconds == NEVER:
        return "never"
    left, words = int(seconds), []
    for unit, size in _UNITS.items():
        if unit != "w" and left >= size:
            words.append(f"{left // size}{unit}")
            left %= size
    return " ".join(words) or "0m"


@dataclass(frozen=True, slots=True)
class Hours:
    """A part of every day, which may go over midnight, by the clocks of a time zone."""

    begin: time
    end: time
    zone: str = "UTC"

    @classmethod
    def parse(cls, text: str) -> "Hours":
        """Read `20:00-07:00`, which may be followed by a time zone's name; without one it is UTC.

        Raises:
            ValueError: it is not of that form, is empty, or the zone is not known here.
        """
        hours, _, zone = text.strip().partition(" ")
        found = _HOURS.fullmatch(hours)
        if not found:
            raise ValueError(f"{text[:40]!r} is no part of a day, such as 20:00-07:00")
        begin, end = time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))
        if begin == end:
            raise ValueError(f"{text[:40]!r} begins when it ends")
        made = cls(begin, end, zone.strip() or "UTC")
        made._info()
        return made

    @property
    def text(self) -> str:
        """What `parse` reads."""
        return f"{self.begin:%H:%M}-{self.end:%H:%M} {self.zone}"

    def around(self, now: float) -> tuple[float, float] | None:
        """Begin and end of these hours that `now` is in, all in epoch seconds; None outside of them."""
        zone = self._info()
        today = datetime.fromtimestamp(now, UTC).astimezone(zone).date()
        for day in (today, today - timedelta(days=1)):
            last = day if self.end > self.begin else day + timedelta(days=1)
            begin = datetime.combine(day, self.begin, zone).timestamp()
            end = datetime.combine(last, self.end, zone).timestamp()
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
