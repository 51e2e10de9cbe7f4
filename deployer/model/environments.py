"""Environments of a repository, and the one function that names their stacks and pipelines."""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote_to_bytes

from deployer.model.errors import PayloadError
from deployer.model.refs import Ref

NAME_LIMIT = 100  # a CodePipeline name; a stack's may be 128
TAG_LIMIT = 256
# base32 characters: 80 bits, since a search finds two branches that share 40 bits in seconds
_HASH_LENGTH = 16
_FORMER_HASH_LENGTH = 10  # hexadecimal digits: 40 bits, as earlier releases gave
_OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,38})")
_REPO = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}")


class Kind(StrEnum):
    """The three kinds of environment."""

    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"


_LETTERS = {Kind.DEVELOPMENT: "d", Kind.STAGING: "s", Kind.PRODUCTION: "p"}
# Of each kind the exact forms of the names of stacks and pipelines, in IAM's wildcards (`*` any text, `?` any one):
# first that of `stack_name`, then, of the kinds that development must not reach, that of `former_stack_name`. No
# `stack_name` matches another kind's pattern whatever its repository and branch are called, because the last letter is
# the kind's and the character before the last ten is no hyphen. `former_stack_name` of a branch whose own name ends in
# `production` or `staging` matches the former pattern of that kind; see docs/decisions/0020-longer-hashes.md.
NAME_PATTERNS: dict[Kind, tuple[str, ...]] = {
    Kind.DEVELOPMENT: (f"*-{'?' * _HASH_LENGTH}d",),
    Kind.STAGING: (f"*-staging-{'?' * _HASH_LENGTH}s", f"*-staging-{'?' * _FORMER_HASH_LENGTH}"),
    Kind.PRODUCTION: (f"*-production-{'?' * _HASH_LENGTH}p", f"*-production-{'?' * _FORMER_HASH_LENGTH}"),
}


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository as `owner/name`. GitHub compares these without case, so `key` is in lower case."""

    owner: str
    name: str

    @classmethod
    def parse(cls, full_name: str) -> "Repository":
        """Read `owner/name`.

        Raises:
            PayloadError: it is not of that form.
        """
        owner, slash, name = full_name.partition("/")
        if not slash or not _OWNER.fullmatch(owner) or not _REPO.fullmatch(name):
            raise PayloadError(f"{full_name[:150]!r} is not a repository as owner/name")
        return cls(owner, name)

    @property
    def full_name(self) -> str:
        """`owner/name`, spelt as given."""
        return f"{self.owner}/{self.name}"

    @property
    def key(self) -> str:
        """The identity: `owner/name` in lower case."""
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
        """The environment that a push to this ref drives.

        Only `refs/tags/` is production and only the whole name of the default branch is staging: a branch
        `release/v1.2.3` or `hotfix/main` is a development environment like any other.
        """
        if ref.is_tag:
            return cls(repository, Kind.PRODUCTION)
        if ref.branch == default_branch:
            return cls(repository, Kind.STAGING)
        return cls(repository, Kind.DEVELOPMENT, ref)

    @classmethod
    def from_key(cls, repository: Repository, key: str) -> "Environment":
        """Read what `key` wrote.

        Raises:
            PayloadError: it is no such key.
        """
        kind, _, ref = key.partition(":")
        if kind == Kind.DEVELOPMENT and ref:
            return cls(repository, Kind.DEVELOPMENT, Ref.parse(ref))
        if key in {Kind.STAGING, Kind.PRODUCTION}:
            return cls(repository, Kind(key))
        raise PayloadError(f"{key[:150]!r} is not an environment's key")

    @classmethod
    def of_tags(cls, repository: Repository, tags: Mapping[str, str]) -> "Environment | None":
        """Whose a stack with these tags is; None where it is of no environment of this repository."""
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
        """The identity within its repository: `development:refs/heads/x`, `staging` or `production`."""
        return f"{self.kind}:{self.branch}" if self.branch else str(self.kind)

    @property
    def stack_name(self) -> str:
        """The name of its stack and pipeline: readable first, then 80 bits of a hash of its identity, then its kind.

        The hash is always there. Without it `a-b`/`c` and `a`/`b-c`, or the same repository name under two
        owners, would share a name, and no function that sees one environment at a time can know whether
        the other one exists (docs/decisions/0001-names.md). The last letter is the kind's, and the names of staging and
        production always have the kind's word before the hash, so that IAM can tell the kinds apart; see
        `NAME_PATTERNS`.

        A stack that an earlier release made may still have `former_stack_name`: the environment's record says so.
        """
        digest = base64.b32encode(self._digest()).decode().lower()[:_HASH_LENGTH]
        end = f"{digest}{_LETTERS[self.kind]}"
        if self.branch is None:
            end = f"{self.kind}-{end}"
        front = _slug(f"{self.repository.name}-{self.branch.short}" if self.branch else self.repository.name)
        return f"{front[: NAME_LIMIT - len(end) - 1].rstrip('-')}-{end}"

    @property
    def former_stack_name(self) -> str:
        """The name that earlier releases gave: with 40 bits of the hash, and no letter of the kind."""
        front = _slug(f"{self.repository.name}-{self.branch.short if self.branch else self.kind}")
        digest = self._digest().hex()[:_FORMER_HASH_LENGTH]
        return f"{front[: NAME_LIMIT - len(digest) - 1].rstrip('-')}-{digest}"

    @property
    def stack_names(self) -> tuple[str, str]:
        """Every name that its stack may have; a new stack gets the first."""
        return self.stack_name, self.former_stack_name

    def _digest(self) -> bytes:
        return hashlib.sha256(f"{self.repository.key}\n{self.key}".encode()).digest()

    @property
    def name(self) -> str:
        """What people call it and type; a branch that would be taken for something else goes by its full ref."""
        return branch_name(self.branch) if self.branch else str(self.kind)

    @property
    def tags(self) -> dict[str, str]:
        """The tags that say whose a stack is. A stack without every one of them is never touched."""
        return {
            "deployer:managed": "true",
            "deployer:repository": tag_value(self.repository.key),
            "deployer:environment": str(self.kind),
            **(ref_tags(self.branch.name) if self.branch else {}),
        }

    def owns(self, tags: Mapping[str, str]) -> bool:
        """Whether a stack with these tags belongs to this very environment."""
        return all(tags.get(key) == value for key, value in self.tags.items())

    def __str__(self) -> str:
        return f"{self.repository} {self.name}"


def _slug(text: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return slug if slug[:1].isalpha() else f"r-{slug}".rstrip("-")


def branch_name(branch: Ref) -> str:
    """What people call a branch and type: its short name, unless that would be taken for something else."""
    short = branch.short
    # `refs/...` is read as a full ref, `-...` as an option
    return branch.name if short in set(Kind) or short.startswith(("refs/", "-")) else short


def tag_value(text: str) -> str:
    """Write text in the alphabet that AWS allows in a tag's value; other bytes become `=XX`.

    A result over 256 characters is cut and ends in `==` and a hash: it can still be compared, not read back. No
    escape has a second `=`, and every character of the mark is one that AWS allows.
    """
    encoded = _encoded(text)
    if len(encoded) <= TAG_LIMIT:
        return encoded
    return f"{encoded[: TAG_LIMIT - 18]}=={hashlib.sha256(text.encode()).hexdigest()[:16]}"


def from_tag_value(value: str) -> str | None:
    """Read back what `tag_value` wrote, or None where it was cut or never ours."""
    if "==" in value:
        return None
    try:
        return unquote_to_bytes(value.replace("%", "%25").replace("=", "%")).decode()
    except UnicodeDecodeError:
        return None


def ref_tags(ref: str) -> dict[str, str]:
    """The tags that tell a full ref: `deployer:ref`, and `deployer:ref.1`, `.2`... with all of one that was cut.

    Without them nobody could say which branch an orphaned stack was of, once Redis has been wiped.
    """
    value, whole = tag_value(ref), _encoded(ref)
    pieces = [whole[at : at + TAG_LIMIT] for at in range(0, len(whole), TAG_LIMIT)] if value != whole else []
    return {"deployer:ref": value, **{f"deployer:ref.{n}": piece for n, piece in enumerate(pieces, start=1)}}


def ref_from_tags(tags: Mapping[str, str]) -> str | None:
    """Read back what `ref_tags` wrote, or None where it is not whole, no ref of a branch or tag, or never ours."""
    value, whole, number = tags.get("deployer:ref", ""), "", 1
    while piece := tags.get(f"deployer:ref.{number}"):
        whole, number = whole + piece, number + 1
    ref = from_tag_value(whole or value)
    if not ref or tag_value(ref) != value:
        return None
    try:
        return Ref.parse(ref).name
    except PayloadError:  # anybody can write tags at a stack
        return None


def _encoded(text: str) -> str:
    return re.sub(rb"[^A-Za-z0-9_.:/+@-]", lambda found: b"=%02X" % found.group(0)[0], text.encode()).decode()
