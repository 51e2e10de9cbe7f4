"""The next check of an environment's age never comes later than something is due."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployer.model.environment_record import EnvironmentRecord
from deployer.model.expiry import FOREVER, due_age_action, next_age_check

NOW, HOUR, DAY = 1_800_000_000.0, 3600, 86_400  # 2027-01-15 08:00 UTC, a Friday
TIMES = st.one_of(st.just(0.0), st.integers(-8 * 24, 8 * 24).map(lambda hours: NOW + hours * HOUR / 2))
RECORDS = st.builds(
    lambda **fields: EnvironmentRecord.of("acme/hello", "development:refs/heads/x", "s", **fields),
    state=st.sampled_from(["deployed", "failed", "skipped", "asleep", "running", "deleted"]),
    stack_arn=st.sampled_from(["", "arn:x"]),
    used_at=TIMES,
    updated_at=TIMES,
    kept_at=TIMES,
    kept_until=st.one_of(TIMES, st.just(FOREVER)),
    aged=st.sampled_from(["", "idle", "night"]),
    aged_at=TIMES,
    warned_at=TIMES,
    told_end=TIMES,
    age_looked_at=TIMES,
    ttl=st.sampled_from(["", "3d", "4h", "never", "a newer form"]),
    warn=st.sampled_from(["", "1h", "2d"]),
    sleep=st.sampled_from(
        [
            "",
            "20:00-07:00",
            "Mon-Thu 20:00-07:00; Fri 20:00-Mon 07:00",
            "20:00-07:00 Europe/Berlin",
            "no hours",
        ]
    ),
)


@settings(max_examples=400, deadline=None)
@given(RECORDS, st.sampled_from(["3d", "never", "10h"]), st.lists(st.floats(0, 1), min_size=8, max_size=8))
def test_nothing_is_due_before_the_next_check(
    record: EnvironmentRecord, ttl: str, parts: list[float]
) -> None:
    following = next_age_check(record, ttl, NOW)
    assert (following == NOW) == (due_age_action(record, ttl, NOW) is not None)
    assert following >= NOW
    end = min(following, NOW + 40 * DAY)
    for part in (*parts, 0.999999):
        at = NOW + part * (end - NOW)
        assert at >= end or due_age_action(record, ttl, at) is None, at - NOW


@pytest.mark.parametrize(
    ("fields", "later"),
    [
        ({"used_at": NOW}, 2.25 * DAY),  # the warning
        ({"used_at": NOW - DAY, "warned_at": NOW, "told_end": NOW + DAY}, 2 * DAY),  # the end
        ({"used_at": NOW, "ttl": "never"}, math.inf),
        ({"used_at": NOW, "state": "running"}, math.inf),
        ({"used_at": NOW, "ttl": "never", "sleep": "20:00-07:00"}, 12 * HOUR),
        ({"used_at": NOW, "state": "asleep", "aged": "night", "sleep": "07:30-09:00"}, HOUR),
        ({"used_at": NOW, "kept_until": NOW + 9 * DAY}, 8.25 * DAY),
        ({"used_at": NOW - 9 * DAY, "age_looked_at": NOW}, 1800),
        ({"used_at": NOW - 9 * DAY}, 0),
    ],
)
def test_when_an_environment_is_checked_next(fields: dict[str, object], later: float) -> None:
    base = {"state": "deployed", **fields}
    record = EnvironmentRecord.of("acme/hello", "development:refs/heads/x", "s", **base)
    assert next_age_check(record, "3d", NOW) == NOW + later


@pytest.mark.parametrize("key", ["staging", "production"])
def test_staging_and_production_are_never_checked(key: str) -> None:
    record = EnvironmentRecord.of("acme/hello", key, "s", state="deployed", used_at=NOW - 99 * DAY)
    assert next_age_check(record, "3d", NOW) == math.inf
