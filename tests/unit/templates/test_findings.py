"""Findings as people read them."""

from deployer.templates.findings import Finding, merge_repeated, refusal_text


def _finding(
    line: int | None, subject: str = "A", text: str = "needs a Path", level: str = "error"
) -> Finding:
    return Finding(level, "deploy/pipeline.yml", line, text, subject=subject)


def test_findings_with_one_text_are_one_line_with_a_count() -> None:
    found = [
        _finding(3),
        _finding(9, "B"),
        _finding(4, text="has no role"),
        _finding(9, "C"),
        _finding(12, "D"),
    ]
    assert [str(each) for each in merge_repeated(found)] == [
        "deploy/pipeline.yml:3: A needs a Path (4 times, lines 9, 12)",
        "deploy/pipeline.yml:4: A has no role",
    ]
    assert merge_repeated([_finding(3)]) == [_finding(3)]


def test_a_long_list_of_lines_is_cut() -> None:
    (merged,) = merge_repeated([_finding(line) for line in range(1, 12)])
    assert merged.message == "A needs a Path (11 times, lines 2, 3, 4, 5, 6, 7, ...)"
    (merged,) = merge_repeated([_finding(None), _finding(None)])
    assert merged.message == "A needs a Path (2 times)"
    (merged,) = merge_repeated([_finding(1), _finding(2)])
    assert merged.message == "A needs a Path (2 times, line 2)"


def test_a_warning_and_an_error_are_two_findings() -> None:
    assert len(merge_repeated([_finding(3), _finding(4, level="warning")])) == 2


def test_the_refusal_counts_the_other_texts() -> None:
    found = [_finding(3), _finding(9, "B"), _finding(4, text="has no role"), _finding(5, level="warning")]
    assert refusal_text(found) == "deploy/pipeline.yml:3: A needs a Path (2 times, line 9) (and 1 more)"
