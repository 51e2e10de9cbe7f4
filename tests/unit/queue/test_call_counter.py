"""Calls are counted where somebody counts, each once, sorted by what they were for."""

import time

import pytest

from deployer.model.errors import CallLimitError, TransientError
from deployer.queue.call_counter import (
    CallCount,
    count_calls,
    is_limit_reached,
    note,
    purpose,
    raise_call_limit,
)


def test_calls_are_counted_by_service_and_purpose() -> None:
    with count_calls() as tally:
        note("aws")
        with purpose("stages"):
            note("aws")
            note("github")
            note("github")
        note("github")
    note("aws")
    assert tally == CallCount(aws=1, github=1, aws_stages=1, github_stages=2)


def test_an_inner_count_is_its_own_and_ends_with_an_error() -> None:
    with count_calls() as outer:
        try:
            with count_calls() as inner, purpose("stages"):
                note("aws")
                raise ValueError
        except ValueError:
            note("aws")
    assert (outer, inner) == (CallCount(aws=1), CallCount(aws_stages=1))


def test_the_call_after_the_limit_is_not_made_until_more_are_allowed() -> None:
    with count_calls(github_limit=2) as tally:
        note("github")
        assert not is_limit_reached()
        note("github")
        assert is_limit_reached()
        with pytest.raises(CallLimitError):
            note("github")
        raise_call_limit(1)
        note("github")
        with pytest.raises(CallLimitError):
            note("github")
    assert tally.github_all == 3


def test_no_call_to_github_begins_after_the_time_limit() -> None:
    with count_calls(github_deadline=time.monotonic() - 1) as tally:
        with pytest.raises(TransientError, match="GitHub is slow"):
            note("github")
        note("aws")
    assert tally == CallCount(aws=1)
    with count_calls(github_deadline=time.monotonic() + 60) as tally:
        note("github")
    assert tally.github == 1
