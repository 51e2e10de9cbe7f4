"""Calls are counted where somebody counts, each once, sorted by what they were for."""

import time

import pytest

from deployer.model.errors import CallLimitError, TransientError
from deployer.queue.call_counter import (
    CallCount,
    count_call,
    count_calls,
    count_for_purpose,
    is_limit_reached,
)


def test_calls_are_counted_by_service_and_purpose() -> None:
    with count_calls() as tally:
        count_call("aws")
        with count_for_purpose("stages"):
            count_call("aws")
            count_call("github")
            count_call("github")
        count_call("github")
    count_call("aws")
    assert tally == CallCount(aws=1, github=1, aws_stages=1, github_stages=2)


def test_an_inner_count_is_its_own_and_ends_with_an_error() -> None:
    with count_calls() as outer:
        try:
            with count_calls() as inner, count_for_purpose("stages"):
                count_call("aws")
                raise ValueError
        except ValueError:
            count_call("aws")
    assert (outer, inner) == (CallCount(aws=1), CallCount(aws_stages=1))


def test_the_call_after_the_limit_is_not_made() -> None:
    with count_calls(github_limit=2) as tally:
        count_call("github")
        assert not is_limit_reached()
        count_call("github")
        assert is_limit_reached()
        with pytest.raises(CallLimitError):
            count_call("github")
    assert tally.github_all == 2


def test_no_call_to_github_begins_after_the_time_limit() -> None:
    with count_calls(github_deadline=time.monotonic() - 1) as tally:
        with pytest.raises(TransientError, match="GitHub is slow"):
            count_call("github")
        count_call("aws")
    assert tally == CallCount(aws=1)
    with count_calls(github_deadline=time.monotonic() + 60) as tally:
        count_call("github")
    assert tally.github == 1
