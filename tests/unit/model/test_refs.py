"""Refs, commit ids, and the markers that skip a push."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployer.model.errors import PayloadError
from deployer.model.refs import Ref, parse_sha, skip_reason


@pytest.mark.parametrize(
    ("name", "is_tag", "short"),
    [
        ("refs/heads/main", False, "main"),
        ("refs/heads/a/foo", False, "a/foo"),
        ("refs/heads/v1.2.3", False, "v1.2.3"),
        ("refs/heads/refs/tags/v1", False, "refs/tags/v1"),
        ("refs/heads/feature/ü#1", False, "feature/ü#1"),
        ("refs/tags/v1.2.3", True, "v1.2.3"),
        ("refs/tags/release/1", True, "release/1"),
    ],
)
def test_a_full_ref_is_read(name: str, is_tag: bool, short: str) -> None:
    ref = Ref.parse(name)
    assert (str(ref), ref.is_tag) == (name, is_tag)
    if not is_tag:
        assert ref.branch == short


@pytest.mark.parametrize(
    "name",
    [
        "main", "heads/main", "refs/heads/", "refs/tags/", "refs/pull/1/head", "refs/heads/a..b", "refs/heads/a b",
        "refs/heads/a\n", "refs/heads/a.lock", "refs/heads/a~1", "refs/heads/x^", "refs/heads/x:y", "refs/heads/*",
        "refs/heads/a//b", "refs/heads/@{1}", "refs/heads/" + "x" * 1100, "",
    ],
)  # fmt: skip
def test_a_name_that_git_does_not_allow_is_refused(name: str) -> None:
    with pytest.raises(PayloadError):
        Ref.parse(name)


@given(st.text())
def test_any_text_is_a_ref_or_a_clear_refusal(text: str) -> None:
    try:
        ref = Ref.parse(text)
    except PayloadError as refusal:
        ref, said = None, str(refusal)
    assert str(ref) == text if ref else "\n" not in said


def test_a_tag_has_no_branch() -> None:
    with pytest.raises(ValueError, match="is a tag"):
        _ = Ref.parse("refs/tags/v1").branch


@pytest.mark.parametrize("text", ["", "abc", "g" * 40, "A" * 40, "a" * 41])
def test_a_sha_is_full_and_hexadecimal(text: str) -> None:
    with pytest.raises(PayloadError):
        parse_sha(text)


# what each text does to a branch and to a tag; a tag is an explicit order, so only deployer's own markers skip it
MARKED = "marked for GitHub"
FOR_ALL = "marked for deployer"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("fix", ""),
        ("skip ci", ""),
        ("[skip-ci] [skip_ci] [ci-skip]", ""),
        ("docs [skip ci]", MARKED),
        ("docs [ci skip]", MARKED),
        ("docs\n\nbecause of that [no ci]", MARKED),
        ("[skip actions] docs", MARKED),
        ("[actions skip]", MARKED),
        ("chore(release): 1.2.0 [Skip CI]\n\n* a feature", MARKED),
        ("docs\n\n[Skip Deploy]", FOR_ALL),
        ("chore [skip ci] [skip deploy]", FOR_ALL),
        # the trailer, as GitHub documents it: at the end, after two empty lines, the last one of several
        ("docs\n\n\nskip-checks: true", MARKED),
        ("docs\n\n\nskip-checks:true\n", MARKED),
        ("docs\n\ntext\n\n\nCo-authored-by: A <a@b>\nskip-checks: true\n\n", MARKED),
        ("docs\r\n\r\n\r\nSkip-Checks: True\r\n", MARKED),
        # git joins empty lines unless it is told not to
        ("docs\n\nskip-checks: true", MARKED),
        ("docs\n\nSigned-off-by: A <a@b>\nskip-checks: true", MARKED),
        ("skip-checks: true", ""),
        ("docs\nskip-checks: true", ""),
        ("docs\n\n\nskip-checks: true\nSigned-off-by: A <a@b>", ""),
        ("docs\n\n\nskip-checks: true\n\nmore text", ""),
        ("docs\n\n\nskip-checks: false", ""),
        ("docs\n\n\nskip-checks: true story", ""),
        ("docs\n\nthis text says\nskip-checks: true", ""),
    ],
)
def test_markers_in_the_message(message: str, kind: str) -> None:
    branch, tag = Ref.parse("refs/heads/x"), Ref.parse("refs/tags/v1")
    assert bool(skip_reason(branch, message)) is (kind in {MARKED, FOR_ALL})
    assert bool(skip_reason(tag, message)) is (kind == FOR_ALL)


@pytest.mark.parametrize(
    ("ref", "skipped"),
    [
        ("refs/heads/x-NOBUILD", True),
        ("refs/heads/x-nobuild", False),
        ("refs/heads/NOBUILD/x", True),
        ("refs/tags/NOBUILD/1", True),
    ],
)
def test_nobuild_in_the_name_skips_any_ref(ref: str, skipped: bool) -> None:
    assert bool(skip_reason(Ref.parse(ref), "fix")) is skipped


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("docs [Skip CI]", "the head commit's message says [Skip CI]"),
        ("docs [skip ci] [skip deploy]", "the head commit's message says [skip deploy]"),
        ("docs\n\n\nskip-checks:true", "the head commit's message ends with skip-checks: true"),
    ],
)
def test_the_reason_quotes_the_marker(message: str, reason: str) -> None:
    assert skip_reason(Ref.parse("refs/heads/x"), message) == reason


@pytest.mark.parametrize("name", ["refs/heads/" + "\U0001f600" * 300, "refs/tags/" + "x" * 1015])
def test_a_ref_too_long_for_a_stacks_tags_is_refused(name: str) -> None:
    with pytest.raises(PayloadError, match="longer than 1,024 bytes"):
        Ref.parse(name)


def test_a_ref_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(PayloadError, match="is not UTF-8"):
        Ref.parse(b"refs/heads/\xff".decode(errors="surrogateescape"))
