import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployer.errors import PayloadError
from deployer.refs import Ref, parse_sha, skip_reason


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
def test_a_ref_is_read_whole(name: str, is_tag: bool, short: str) -> None:
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
def test_what_git_does_not_allow_is_refused(name: str) -> None:
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


@pytest.mark.parametrize(
    ("ref", "message", "skipped"),
    [
        ("refs/heads/x", "fix", False),
        ("refs/heads/x-NOBUILD", "fix", True),
        ("refs/heads/x-nobuild", "fix", False),
        ("refs/tags/NOBUILD/1", "fix", True),
        ("refs/heads/x", "docs [skip ci]", True),
        ("refs/heads/x", "docs\n\n[Skip Deploy]", True),
        ("refs/heads/x", "skip ci", False),
    ],
)
def test_skip(ref: str, message: str, skipped: bool) -> None:
    assert (skip_reason(Ref.parse(ref), message) is not None) is skipped


@pytest.mark.parametrize("name", ["refs/heads/" + "\U0001f600" * 300, "refs/tags/" + "x" * 1015])
def test_a_ref_longer_than_its_tags_may_be_is_refused(name: str) -> None:
    with pytest.raises(PayloadError, match="longer than 1,024 bytes"):
        Ref.parse(name)


def test_a_ref_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(PayloadError, match="is not UTF-8"):
        Ref.parse(b"refs/heads/\xff".decode(errors="surrogateescape"))
