"""Git refs by their full names: `refs/heads/...` is a branch, `refs/tags/...` is a tag."""

import re
from dataclasses import dataclass

from deployer.model.errors import PayloadError

ZERO_SHA = "0" * 40
_HEADS = "refs/heads/"
_TAGS = "refs/tags/"
_LONGEST_REF = (
    1024  # bytes; encoded as `deployer:ref.N` they take at most 12 of the 50 tags that a stack may have
)
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHA_PREFIX = re.compile(r"[0-9a-f]{4,64}")  # git abbreviates ids to no less than four digits
# git-check-ref-format(1): what a ref's name must not contain
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|\.lock(/|$)|/\.|^\.|\.$|/$|^/|^@$")
_SKIP_DEPLOY = re.compile(r"\[skip deploy\]", re.IGNORECASE)
# GitHub's own markers: https://docs.github.com/actions/managing-workflow-runs/skipping-workflow-runs
_SKIP_CI = re.compile(r"\[(?:skip ci|ci skip|no ci|skip actions|actions skip)\]", re.IGNORECASE)
# GitHub asks for two empty lines before the trailers, but git by default reduces them to one
_SKIP_CHECKS = re.compile(
    r"\n[ \t]*\n(?:[a-z0-9-]+:[^\n]*\n|[ \t]+[^\s][^\n]*\n)*skip-checks:[ \t]*true\Z", re.IGNORECASE
)
_LONGEST_TRAILERS = 4_000  # characters at the end of a message in which the trailer is searched


@dataclass(frozen=True, slots=True)
class Ref:
    """A branch or tag by its full name.

    Example:
        >>> Ref.parse("refs/heads/release/v1.2.3").branch
        'release/v1.2.3'
    """

    name: str

    @classmethod
    def parse(cls, text: str) -> "Ref":
        """Read a full ref.

        Args:
            text: `refs/heads/<branch>` or `refs/tags/<tag>`.

        Raises:
            PayloadError: the text is neither, git does not allow the name, or it has over 1,024 bytes or is not UTF-8.
        """
        short = text.removeprefix(_HEADS) if text.startswith(_HEADS) else text.removeprefix(_TAGS)
        if short == text:
            raise PayloadError(f"ref {text!r} is neither refs/heads/... nor refs/tags/...")
        if not short or _FORBIDDEN.search(short):
            raise PayloadError(f"ref {text!r} is not a name that git allows")
        try:
            size = len(text.encode())
        except (
            UnicodeEncodeError
        ) as error:  # Python represents bytes of a command line that are not UTF-8 in this way
            raise PayloadError(f"ref {text!r} is not UTF-8") from error
        if size > _LONGEST_REF:
            raise PayloadError(f"ref {text!r} is longer than {_LONGEST_REF:,} bytes")
        return cls(text)

    @classmethod
    def of_branch(cls, branch: str) -> "Ref":
        """The ref of a branch.

        Args:
            branch: the short name.
        """
        return cls.parse(_HEADS + branch)

    @classmethod
    def of_tag(cls, text: str) -> "Ref":
        """The ref of a tag.

        Args:
            text: the short name or the full ref.
        """
        return cls.parse(_TAGS + text.removeprefix(_TAGS))

    @classmethod
    def from_user_input(cls, text: str) -> "Ref":
        """Read a ref that a person typed: a full ref, or a branch's short name."""
        return cls.parse(text if text.startswith("refs/") else _HEADS + text)

    @property
    def is_tag(self) -> bool:
        """Whether the ref is a tag."""
        return self.name.startswith(_TAGS)

    @property
    def branch(self) -> str:
        """The short name of a branch.

        Raises:
            ValueError: the ref is a tag.
        """
        if self.is_tag:
            raise ValueError(f"{self.name} is a tag")
        return self.name.removeprefix(_HEADS)

    @property
    def short(self) -> str:
        """The name without `refs/heads/` or `refs/tags/`."""
        return self.name.removeprefix(_TAGS if self.is_tag else _HEADS)

    def __str__(self) -> str:
        return self.name


def parse_sha(text: str) -> str:
    """Check the id of a commit or tag object.

    Raises:
        PayloadError: the text is not a full hexadecimal id.
    """
    if not _SHA.fullmatch(text):
        raise PayloadError(f"{text[:80]!r} is not a full commit id")
    return text


def parse_sha_prefix(text: str) -> str:
    """Read a commit's id or its first digits, in lower or upper case; returns it in lower case.

    Raises:
        PayloadError: the text is not 4 to 64 hexadecimal digits.
    """
    lowered = text.lower()
    if not _SHA_PREFIX.fullmatch(lowered):
        raise PayloadError(
            f"{text[:80]!r} is not a commit id; give its first 7 digits or more, as git log shows"
        )
    return lowered


def is_full_sha(text: str) -> bool:
    """Whether a text is a full object id, of SHA-1 or SHA-256, in lower case."""
    return bool(_SHA.fullmatch(text))


def skip_reason(ref: Ref, message: str) -> str | None:
    """Why a push must not be deployed, because the ref's name or the head commit's message says so; else None.

    `NOBUILD` in the name and `[skip deploy]` in the message apply to every ref. GitHub's markers apply to branches:
    release tools tag commits that have `[skip ci]`, and a tag is an explicit order for production
    (docs/decisions/0026-tag-on-a-skipped-commit.md).

    Args:
        ref: the pushed ref.
        message: the head commit's message.
    """
    if "NOBUILD" in ref.name:
        return f"{ref.short} has NOBUILD in its name"
    found = _SKIP_DEPLOY.search(message) or (None if ref.is_tag else _SKIP_CI.search(message))
    if found:
        whose = (
            f"{ref.short}: " if ref.is_tag else ""
        )  # all tags share one environment, so the reason names the tag
        return f"{whose}the head commit's message says {found.group(0)}"
    if not ref.is_tag and _SKIP_CHECKS.search(message[-_LONGEST_TRAILERS:].rstrip().replace("\r\n", "\n")):
        return "the head commit's message ends with skip-checks: true"
    return None
