"""Environments of a repository: which ref drives each, what its stack is called, which tags the stack has."""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote_to_bytes

from deployer.model.errors import PayloadError
from deployer.model.refs import Ref

NAME_LIMIT = 100  # characters of a pipeline's name; a stack's name may have 128
TAG_LIMIT = 256
# base32 characters: 80 bits, because two branch names that share 40 bits can be found in seconds
_HASH_LENGTH = 16
_FORMER_HASH_LENGTH = 10  # hexadecimal digits: 40 bits, as in earlier releases
_OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,38})")
_REPO = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}")


class Kind(StrEnum):
    """The three kinds of environment."""

    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"


_LETTERS = {Kind.DEVELOPMENT: "d", Kind.STAGING: "s", Kind.PRODUCTION: "p"}
# Patterns of the names of stacks and pipelines by kind, with IAM's wildcards (`*` any text, `?` any character): first
# the pattern of `stack_name`, then, for the kinds that development must not reach, the pattern of `former_stack_name`.
# No `stack_name` matches another kind's pattern, whatever its repository and branch are called: the last letter names
# the kind, and the character before the last ten is not a hyphen. The `former_stack_name` of a branch whose name ends
# in `production` or `staging` matches the former pattern of that kind; see docs/decisions/0020-longer-hashes.md.
NAME_PATTERNS: dict[Kind, tuple[str, ...]] = {
    Kind.DEVELOPMENT: (f"*-{'?' * _HASH_LENGTH}d",),
    Kind.STAGING: (f"*-staging-{'?' * _HASH_LENGTH}s", f"*-staging-{'?' * _FORMER_HASH_LENGTH}"),
    Kind.PRODUCTION: (f"*-production-{'?' * _HASH_LENGTH}p", f"*-production-{'?' * _FORMER_HASH_LENGTH}"),
}


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository as `owner/name`. GitHub ignores case in both parts, so `key` is in lower case."""

    owner: str
    name: str

    @classmethod
    def parse(cls, full_name: str) -> "Repository":
        """Read `owner/name`.

        Raises:
            PayloadError: the text has another form.
        """
        owner, slash, name = full_name.partition("/")
        if not slash or not _OWNER.fullmatch(owner) or not _REPO.fullmatch(name):
            raise PayloadError(f"{full_name[:150]!r} is not a repository as owner/name")
        return cls(owner, name)

    @property
    def full_name(self) -> str:
        """`owner/name` with its original upper and lower case."""
        return f"{self.owner}/{self.name}"

    @property
    def key(self) -> str:
        """`owner/name` in lower case, which identifies the repository."""
        return self.full_name.lower()

    def __str__(self) -> str:
        return self.full_name


@dataclass(frozen=True, slots=True)
class Environment:
    """One environment of a repository: development of a branch, staging, or production."""

    repository: Repository
    kind: Kind
    branch: Ref | None = None

    @classmethod
    def of_ref(cls, repository: Repository, ref: Ref, default_branch: str) -> "Environment":
        """The environment that a push to a ref deploys.

        Only a tag (`refs/tags/`) is production, and only the whole name of the default branch is staging: a branch
        `release/v1.2.3` or `hotfix/main` is a development environment.

        Args:
            repository: the ref's repository.
            ref: the pushed ref.
            default_branch: the short name of the repository's default branch.
        """
        if ref.is_tag:
            return cls(repository, Kind.PRODUCTION)
        if ref.branch == default_branch:
            return cls(repository, Kind.STAGING)
        return cls(repository, Kind.DEVELOPMENT, ref)

    @classmethod
    def from_key(cls, repository: Repository, key: str) -> "Environment":
        """Read an environment's `key`.

        Raises:
            PayloadError: the text is not such a key.
        """
        kind, _, ref = key.partition(":")
        if kind == Kind.DEVELOPMENT and ref:
            return cls(repository, Kind.DEVELOPMENT, Ref.parse(ref))
        if key in {Kind.STAGING, Kind.PRODUCTION}:
            return cls(repository, Kind(key))
        raise PayloadError(f"{key[:150]!r} is not an environment's key")

    @classmethod
    def of_tags(cls, repository: Repository, tags: Mapping[str, str]) -> "Environment | None":
        """The environment whose tags a stack has; None if they name no environment of this repository."""
        kind = tags.get("deployer:environment", "")
        try:
            found = cls.from_key(
                repository, f"{kind}:{ref_from_tags(tags)}" if kind == Kind.DEVELOPMENT else kind
            )
        except PayloadError:
            return None
        return found if found.owns(tags) else None

    @property
    def key(self) -> str:
        """What identifies the environment in its repository: `development:refs/heads/x`, `staging` or `production`."""
        return f"{self.kind}:{self.branch}" if self.branch else str(self.kind)

    @property
    def stack_name(self) -> str:
        """The name of the stack and the pipeline: a readable part, 80 bits of a hash, and a letter for the kind.

        The name always has the hash. Without it `a-b`/`c` and `a`/`b-c`, or two repositories of the same name with
        different owners, would have the same name, and a function that gets one environment cannot know whether the
        other one exists (docs/decisions/0001-names.md). The last letter names the kind, and the names of staging and
        production have the kind before the hash, so that IAM policies can tell the kinds apart; see `NAME_PATTERNS`.

        A stack that an earlier release created may still have `former_stack_name`; the environment's record says so.
        """
        digest = base64.b32encode(self._identity_hash()).decode().lower()[:_HASH_LENGTH]
        end = f"{digest}{_LETTERS[self.kind]}"
        if self.branch is None:
            end = f"{self.kind}-{end}"
        front = _readable_part(
            f"{self.repository.name}-{self.branch.short}" if self.branch else self.repository.name
        )
        return f"{front[: NAME_LIMIT - len(end) - 1].rstrip('-')}-{end}"

    @property
    def former_stack_name(self) -> str:
        """The name that earlier releases gave: with 40 bits of the hash, without a letter for the kind."""
        front = _readable_part(f"{self.repository.name}-{self.branch.short if self.branch else self.kind}")
        digest = self._identity_hash().hex()[:_FORMER_HASH_LENGTH]
        return f"{front[: NAME_LIMIT - len(digest) - 1].rstrip('-')}-{digest}"

    @property
    def stack_names(self) -> tuple[str, str]:
        """Every name that the stack may have; a new stack gets the first one."""
        return self.stack_name, self.former_stack_name

    def _identity_hash(self) -> bytes:
        return hashlib.sha256(f"{self.repository.key}\n{self.key}".encode()).digest()

    @property
    def name(self) -> str:
        """The name that people read and type; see `branch_name`."""
        return branch_name(self.branch) if self.branch else str(self.kind)

    @property
    def tags(self) -> dict[str, str]:
        """The tags that mark a stack as this environment's. deployer never changes a stack that lacks one of them."""
        return {
            "deployer:managed": "true",
            "deployer:repository": tag_value(self.repository.key),
            "deployer:environment": str(self.kind),
            **(ref_tags(self.branch.name) if self.branch else {}),
        }

    def owns(self, tags: Mapping[str, str]) -> bool:
        """Whether a stack with these tags belongs to this environment."""
        return all(tags.get(key) == value for key, value in self.tags.items())

    def contradicts(self, tags: Mapping[str, str]) -> bool:
        """Whether a stack with these tags belongs to another environment, of this or another repository."""
        return any(tags.get(key, value) != value for key, value in self.tags.items())

    def __str__(self) -> str:
        return f"{self.repository} {self.name}"


def _readable_part(text: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return slug if slug[:1].isalpha() else f"r-{slug}".rstrip("-")


def branch_name(branch: Ref) -> str:
    """The name of a branch that people read and type: the short name, or the full ref if the former is ambiguous."""
    short = branch.short
    # `staging` names another environment, `refs/...` is read as a full ref, `-...` as a command's option
    return branch.name if short in set(Kind) or short.startswith(("refs/", "-")) else short


def tag_value(text: str) -> str:
    """Encode text with the characters that AWS allows in a tag's value; other bytes become `=XX`.

    A result of more than 256 characters is cut and ends in `==` and a hash, so it can be compared but not decoded. The
    mark is unambiguous because no escape has two `=`, and AWS allows all of its characters.
    """
    encoded = _encode_for_tag(text)
    if len(encoded) <= TAG_LIMIT:
        return encoded
    return f"{encoded[: TAG_LIMIT - 18]}=={hashlib.sha256(text.encode()).hexdigest()[:16]}"


def from_tag_value(value: str) -> str | None:
    """Decode what `tag_value` wrote; None if the value was cut or is not UTF-8."""
    if "==" in value:
        return None
    try:
        return unquote_to_bytes(value.replace("%", "%25").replace("=", "%")).decode()
    except UnicodeDecodeError:
        return None


def ref_tags(ref: str) -> dict[str, str]:
    """The tags that hold a full ref: `deployer:ref`, and for a ref that was cut the pieces in `deployer:ref.1`, `.2`...

    They tell which branch a stack without its branch belonged to, even after Redis lost its data.
    """
    value, whole = tag_value(ref), _encode_for_tag(ref)
    pieces = [whole[at : at + TAG_LIMIT] for at in range(0, len(whole), TAG_LIMIT)] if value != whole else []
    return {"deployer:ref": value, **{f"deployer:ref.{n}": piece for n, piece in enumerate(pieces, start=1)}}


def ref_from_tags(tags: Mapping[str, str]) -> str | None:
    """Read what `ref_tags` wrote; None if it is incomplete or names neither a branch nor a tag."""
    value, whole, number = tags.get("deployer:ref", ""), "", 1
    while piece := tags.get(f"deployer:ref.{number}"):
        whole, number = whole + piece, number + 1
    ref = from_tag_value(whole or value)
    if not ref or tag_value(ref) != value:
        return None
    try:
        return Ref.parse(ref).name
    except PayloadError:  # other people and tools can set any tag
        return None


def _encode_for_tag(text: str) -> str:
    return re.sub(rb"[^A-Za-z0-9_.:/+@-]", lambda found: b"=%02X" % found.group(0)[0], text.encode()).decode()
