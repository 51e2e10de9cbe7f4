"""Calls are counted where somebody counts, each once, sorted by what they were for."""

from deployer.tally import Tally, counting, note, purpose


def test_calls_are_sorted_by_service_and_purpose() -> None:
    with counting() as tally:
        note("aws")
        with purpose("stages"):
            note("aws")
            note("github")
            note("github")
        note("github")
    note("aws")
    assert tally == Tally(aws=1, github=1, aws_stages=1, github_stages=2)


def test_an_inner_count_is_its_own_and_ends_with_an_error() -> None:
    with counting() as outer:
        try:
            with counting() as inner, purpose("stages"):
                note("aws")
                raise ValueError
        except ValueError:
            note("aws")
    assert (outer, inner) == (Tally(aws=1), Tally(aws_stages=1))
