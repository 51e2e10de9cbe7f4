"""Durations and hours of the week as people write them."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployer.model.durations import NEVER, Hours, backoff, duration_text, merged_period, parse_duration
from deployer.views.sentences import time_left

MINUTE, HOUR, DAY = 60, 3600, 86_400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45s", 45),
        ("1m 30 seconds", 90),
        ("90m", 90 * MINUTE),
        ("12h", 12 * HOUR),
        ("3d", 3 * DAY),
        ("2w", 14 * DAY),
        (" 3 days ", 3 * DAY),
        ("1 Week", 7 * DAY),
        ("1d 12h", 36 * HOUR),
        ("1h30min", 90 * MINUTE),
        ("2 hours 5 minutes", 125 * MINUTE),
        ("never", NEVER),
        ("Never", NEVER),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "d",
        "0d",
        "-3d",
        "1.5d",
        "3 fortnights",
        "3d!",
        "3d,4h",
        "4000d",
        "nevermore",
        "³d",
        "9" * 30 + "m",
    ],
)
def test_a_text_that_is_no_duration_is_reported(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration, such as 90m, 12h, 3d, 2w or never"):
        parse_duration(text)


@given(st.integers(1, 3650 * 24 * 60))
def test_a_written_duration_is_read_back(minutes: int) -> None:
    assert parse_duration(duration_text(minutes * 60)) == minutes * 60


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59.9, "59s"), (61, "1m"), (3700, "1h 1m")])
def test_a_duration_below_a_minute_is_written_in_seconds(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@given(st.text())
def test_any_text_is_a_duration_or_an_error(text: str) -> None:
    with suppress(ValueError):
        assert parse_duration(text) > 0


def at(zone: str, *when: int) -> float:
    return datetime(*when, tzinfo=ZoneInfo(zone)).timestamp()  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("hours", "now", "night"),
    [
        ("20:00-07:00", (2026, 3, 3, 19, 59), None),
        ("20:00-07:00", (2026, 3, 3, 20, 0), ((2026, 3, 3, 20), (2026, 3, 4, 7))),
        ("20:00-07:00", (2026, 3, 4, 6, 59), ((2026, 3, 3, 20), (2026, 3, 4, 7))),
        ("20:00-07:00", (2026, 3, 4, 7, 0), None),
        ("9:30-17:00", (2026, 3, 4, 12, 0), ((2026, 3, 4, 9, 30), (2026, 3, 4, 17))),
        ("9:30-17:00", (2026, 3, 4, 2, 0), None),
        ("00:00-06:00", (2026, 3, 4, 0, 0), ((2026, 3, 4), (2026, 3, 4, 6))),
        ("20:00-07:00", (2026, 3, 29, 5, 0), ((2026, 3, 28, 20), (2026, 3, 29, 7))),  # an hour shorter
        ("20:00-07:00", (2026, 10, 25, 5, 0), ((2026, 10, 24, 20), (2026, 10, 25, 7))),  # an hour longer
    ],
)
def test_hours_of_a_day(hours: str, now: tuple[int, ...], night: tuple[tuple[int, ...], ...] | None) -> None:
    zone = "Europe/Berlin"
    found = Hours.parse(f"{hours} {zone}").period_at(at(zone, *now))
    assert found == (
        night and tuple(at(zone, *each) if len(each) > 3 else at(zone, *each, 0) for each in night)
    )


BERLIN = "Europe/Berlin"
WORKDAYS, WEEKEND = "Mon-Fri 20:00-07:00", "Fri 20:00-Mon 07:00"  # 2026-03-02 is a Monday


@pytest.mark.parametrize(
    ("texts", "now", "night_"),
    [
        ([WORKDAYS], (2026, 3, 2, 6), None),  # Sunday's night is none of them
        ([WORKDAYS], (2026, 3, 2, 20), ((2026, 3, 2, 20), (2026, 3, 3, 7))),
        (
            [WORKDAYS],
            (2026, 3, 7, 6),
            ((2026, 3, 6, 20), (2026, 3, 7, 7)),
        ),  # Friday's, which ends on Saturday
        ([WORKDAYS], (2026, 3, 7, 21), None),
        (["Mon-Thu,Sun 20:00-07:00"], (2026, 3, 2, 6), ((2026, 3, 1, 20), (2026, 3, 2, 7))),
        (["Sat-Mon 9:00-17:00"], (2026, 3, 2, 9), ((2026, 3, 2, 9), (2026, 3, 2, 17))),
        (["Sat-Mon 9:00-17:00"], (2026, 3, 3, 9), None),
        ([WEEKEND], (2026, 3, 6, 19, 59), None),
        ([WEEKEND], (2026, 3, 8, 12), ((2026, 3, 6, 20), (2026, 3, 9, 7))),
        ([WEEKEND], (2026, 3, 9, 7), None),
        ([WEEKEND], (2026, 3, 29, 12), ((2026, 3, 27, 20), (2026, 3, 30, 7))),  # the clocks are changed in it
        ([WEEKEND], (2026, 10, 25, 2, 30), ((2026, 10, 23, 20), (2026, 10, 26, 7))),
        (["Mon 09:00-Mon 07:00"], (2026, 3, 8, 12), ((2026, 3, 2, 9), (2026, 3, 9, 7))),  # all but two hours
        (["Mon 09:00-Mon 07:00"], (2026, 3, 9, 8), None),
        (["Sat 00:00-Sun 00:00"], (2026, 3, 7, 23, 59), ((2026, 3, 7, 0), (2026, 3, 8, 0))),
        # what overlaps or follows on is one night
        ([WORKDAYS, "Sat 00:00-Mon 07:00"], (2026, 3, 6, 21), ((2026, 3, 6, 20), (2026, 3, 9, 7))),
        ([WORKDAYS, "Sat 00:00-Mon 07:00"], (2026, 3, 8, 21), ((2026, 3, 6, 20), (2026, 3, 9, 7))),
        ([WORKDAYS, "Sat 07:00-Mon 07:00"], (2026, 3, 8, 21), ((2026, 3, 6, 20), (2026, 3, 9, 7))),
        ([WORKDAYS, "Sat 08:00-Mon 07:00"], (2026, 3, 8, 21), ((2026, 3, 7, 8), (2026, 3, 9, 7))),
    ],
)
def test_hours_of_a_week(
    texts: list[str], now: tuple[int, ...], night_: tuple[tuple[int, ...], tuple[int, ...]] | None
) -> None:
    found = merged_period([Hours.parse(f"{each} {BERLIN}") for each in texts], at(BERLIN, *now))
    assert found == (night_ and tuple(at(BERLIN, *each) for each in night_))


def test_hours_without_an_end_have_a_period() -> None:
    found = merged_period(map(Hours.parse, ("00:00-12:00", "12:00-00:00")), at("UTC", 2026, 3, 3, 1))
    assert found is not None
    assert found[0] < at("UTC", 2026, 3, 3, 1) < found[1]


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (" mon - FRI 20:00 - 7:00  Etc/GMT-3 ", "Mon-Fri 20:00-07:00 Etc/GMT-3"),
        ("Sun,Mon,Tue,Thu 20:00-07:00", "Mon-Tue,Thu,Sun 20:00-07:00 UTC"),
        ("Fri-Mon 20:00-07:00", "Mon,Fri-Sun 20:00-07:00 UTC"),
        ("Fri 20:00-Sat 07:00", "Fri 20:00-07:00 UTC"),
        ("Fri 07:00-Sat 20:00", "Fri 07:00-Sat 20:00 UTC"),
        ("Mon 09:00-Mon 07:00", "Mon 09:00-Mon 07:00 UTC"),
        ("Mon 09:00-Mon 09:00", "Mon 09:00-Mon 09:00 UTC"),
    ],
)
def test_days_are_read_as_people_write_them(text: str, read: str) -> None:
    assert Hours.parse(text).text == read
    assert Hours.parse(read) == Hours.parse(text)


def test_a_night_is_shorter_or_longer_when_the_clock_changes() -> None:
    hours = Hours.parse("20:00-07:00 Europe/Berlin")
    lengths = []
    for day in ((2026, 3, 29), (2026, 10, 25), (2026, 6, 1)):
        night = hours.period_at(at("Europe/Berlin", *day, 0, 30))
        assert night is not None
        lengths.append((night[1] - night[0]) / HOUR)
    assert lengths == [10, 12, 11]


def test_hours_without_a_zone_are_in_utc() -> None:
    assert Hours.parse("20:00-07:00").text == "20:00-07:00 UTC"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Mon-Fri 20:00-Mon 07:00", "not a part of a day or week"),
        ("Mo 20:00-07:00", "not a part of a day or week"),
        ("Mon- 20:00-07:00", "not a part of a day or week"),
        ("Mon 20:00-20:00", "begins when it ends"),
        ("20-7", "not a part of a day"),
        ("20:00", "not a part of a day"),
        ("24:00-07:00", "not a part of a day"),
        ("07:00-07:00", "begins when it ends"),
        ("20:00-07:00 Berlin", "'Berlin' is not a time zone"),
        ("20:00-07:00 Europe", "'Europe' is not a time zone"),
        ("20:00-07:00 ../../etc/passwd", "is not a time zone"),
        ("20:00-07:00 /etc/passwd", "is not a time zone"),
        ("20:00-07:00 " + "x" * 5000, "is not a time zone"),
        ("20:00-07:00 \x00", "is not a time zone"),
    ],
)
def test_a_text_that_is_no_hours_is_reported(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Hours.parse(text)


ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])
CLOCK = st.tuples(st.integers(0, 23), st.integers(0, 59))


@given(CLOCK, CLOCK, ZONES, st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)))  # noqa: DTZ001
def test_a_period_contains_the_local_times_between_begin_and_end(
    begin: tuple[int, int], end: tuple[int, int], zone: str, utc: datetime
) -> None:
    if begin == end:
        return
    hours = Hours.parse(f"{begin[0]}:{begin[1]:02}-{end[0]}:{end[1]:02} {zone}")
    assert Hours.parse(hours.text) == hours
    now = utc.replace(tzinfo=UTC)
    found = hours.period_at(now.timestamp())
    if found:
        assert found[0] <= now.timestamp() < found[1]
        assert found[1] - found[0] <= 25 * HOUR
    wall = now.astimezone(ZoneInfo(zone))
    day = [(now + timedelta(hours=each)).astimezone(ZoneInfo(zone)).utcoffset() for each in (-26, 26)]
    if day[0] == day[1]:  # no change of clocks is near
        clock = wall.hour, wall.minute
        inside = begin <= clock < end if begin < end else clock >= begin or clock < end
        assert (found is not None) == inside


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 s"),
        (0.2, "1 s"),
        (27, "27 s"),
        (44.5, "45 s"),
        (59.5, "1 min"),
        (75, "1 min 15 s"),
        (599.5, "10 min"),
        (601, "11 min"),
        (HOUR - 1, "1 h"),
        (HOUR + 1, "1 h"),
        (14 * DAY - 1, "14 d"),
    ],
)
def test_remaining_time_is_rounded_up_in_words(seconds: float, words: str) -> None:
    assert time_left(seconds) == words


# --- back-off


@pytest.mark.parametrize(
    ("first", "growth", "repeats", "longest", "seconds"),
    [
        (4, 1.5, 0, 60, 4),
        (4, 1.5, 2, 60, 9),
        (4, 1.5, 7, 60, 60),
        (4, 1.5, 1751, 60, 60),  # 1.5**1751 is more than a float holds
        (15, 2, 10**9, 600, 600),
        (90, 2, 0, 60, 60),
        (0, 2, 5, 60, 0),
        (5e-324, 2, 10**9, 60, 60),
        (5e-324, 10.0, 309, 1, 1),
    ],
)
def test_a_wait_grows_to_its_limit(
    first: float, growth: float, repeats: int, longest: float, seconds: float
) -> None:
    assert backoff(first, growth, repeats, longest) == pytest.approx(seconds)


@given(
    st.floats(0, 1e4), st.floats(1.01, 10), st.integers(0, 10**12), st.integers(0, 10), st.floats(0.01, 1e5)
)
def test_any_number_of_repeats_works_and_never_shortens_a_wait(
    first: float, growth: float, repeats: int, more: int, longest: float
) -> None:
    wait = backoff(first, growth, repeats, longest)
    assert 0 <= wait <= longest
    assert wait <= backoff(first, growth, repeats + more, longest)
