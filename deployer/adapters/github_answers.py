"""The type of every answer of GitHub's that deployer reads: the keys that it needs of each, and no others.

A key without a default must be there. What GitHub documents as optional, or as null, has a default or is `| None`.
Reference: https://docs.github.com/rest and https://docs.github.com/graphql/reference/objects
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct

Sha = Annotated[str, Meta(pattern=r"\A(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")]
Id = Annotated[int, Meta(ge=1)]
Name = Annotated[str, Meta(min_length=1)]
Timestamp = Annotated[datetime, Meta(tz=True)]


# --- repositories -----------------------------------------------------------------------------------------------


class Repository(Struct, frozen=True):
    """`GET /repos/{owner}/{repo}`, where it matters only that the repository is there."""

    full_name: Name


class DefaultBranch(Struct, frozen=True):
    """The same, asked for its default branch."""

    default_branch: Name


class Owner(Struct, frozen=True):
    """A repository's owner; `type` is `Organization` or `User`."""

    login: Name
    type: Name


class OwnedRepository(Struct, frozen=True):
    """The same, asked for its owner."""

    id: Id
    owner: Owner


class RepositoryRights(Struct, frozen=True):
    """The same, asked for what the token may do. GitHub leaves `permissions` out for some kinds of tokens."""

    private: bool
    permissions: dict[str, bool] = {}


# --- refs and commits -------------------------------------------------------------------------------------------


class Target(Struct, frozen=True):
    """What a ref or tag points to."""

    sha: Sha
    type: Name


class GitRef(Struct, frozen=True):
    """`GET git/ref/{ref}`."""

    ref: Name
    object: Target


class Person(Struct, frozen=True):
    """Who made a commit or tag, and when; git allows dates that no calendar has."""

    date: str


class GitTag(Struct, frozen=True):
    """`GET git/tags/{sha}`."""

    object: Target
    tagger: Person | None = None


class CommitId(Struct, frozen=True):
    """A commit of which only the id matters."""

    sha: Sha


class GitCommit(Struct, frozen=True):
    """`GET git/commits/{sha}`."""

    sha: Sha
    message: str
    committer: Person


class CommitMessage(Struct, frozen=True):
    """The part of a commit that git knows."""

    message: str


class BranchCommit(Struct, frozen=True):
    """The commit of a branch."""

    sha: Sha
    commit: CommitMessage


class Branch(Struct, frozen=True):
    """`GET branches/{branch}`."""

    name: Name
    commit: BranchCommit


class BranchProtection(Struct, frozen=True):
    """The same, asked whether the branch is protected."""

    protected: bool


class ListedBranch(Struct, frozen=True):
    """An entry of `GET branches`."""

    name: Name
    commit: CommitId
    protected: bool


class Rule(Struct, frozen=True):
    """An entry of `GET rules/branches/{branch}`."""

    type: Name


class Ruleset(Struct, frozen=True):
    """An entry of `GET rulesets`."""

    target: Name
    enforcement: Name


class Relation(Struct, frozen=True):
    """`GET compare/{base}...{head}`, asked how the two are related."""

    status: Literal["identical", "behind", "ahead", "diverged"]
    base_commit: CommitId
    merge_base_commit: CommitId


class ChangedFile(Struct, frozen=True):
    """A file of a comparison; `previous_filename` is there for a renamed one."""

    filename: Name
    previous_filename: str = ""


class Comparison(Struct, frozen=True):
    """The same, asked for the files."""

    status: Literal["identical", "behind", "ahead", "diverged"]
    files: list[ChangedFile]


# --- files ------------------------------------------------------------------------------------------------------


class Entry(Struct, frozen=True):
    """An entry of a folder, `GET contents/{path}`; also the answer itself where the path is no folder.

    Attributes:
        type: a submodule is listed as a `file` without `download_url`, and a symbolic link to a file as that file.
        size: in bytes.
        url: ends with the commit that was asked for.
        download_url: null for what has no content of its own.
    """

    name: Name
    type: Literal["file", "dir", "symlink", "submodule"]
    size: Annotated[int, Meta(ge=0)]
    sha: Sha
    url: Name
    download_url: str | None


Contents = Annotated[list[Entry], Meta(min_length=1)] | Entry  # git keeps no empty folders


class Blob(Struct, frozen=True):
    """`GET git/blobs/{sha}`."""

    content: str
    encoding: Literal["base64"]


# --- statuses, comments, webhooks -------------------------------------------------------------------------------


class CommitStatus(Struct, frozen=True):
    """`POST statuses/{sha}`."""

    context: str


class Created(Struct, frozen=True):
    """What was made or changed."""

    id: Id


class User(Struct, frozen=True):
    """`GET /user`, and who wrote a comment."""

    login: Name


class App(Struct, frozen=True):
    """`GET /app`."""

    slug: Name


class Comment(Struct, frozen=True):
    """A comment; its user is null where the account is gone."""

    id: Id
    body: str | None
    user: User | None


class PullRepository(Struct, frozen=True):
    """One side's repository."""

    id: Id


class PullHead(Struct, frozen=True):
    """The side that is to be merged; its repository is null where a fork is gone."""

    ref: Name
    repo: PullRepository | None


class PullBase(Struct, frozen=True):
    """The side that it is to be merged into."""

    repo: PullRepository


class Pull(Struct, frozen=True):
    """An entry of `GET pulls`."""

    number: Id
    head: PullHead
    base: PullBase


class HookConfig(Struct, frozen=True):
    """Where a webhook leads; services of former times have no address."""

    url: str = ""
    content_type: str = ""


class AppHookConfig(Struct, frozen=True):
    """`GET /app/hook/config`."""

    url: str


class Hook(Struct, frozen=True):
    """A webhook of a repository or organization."""

    id: Id
    active: bool
    events: list[str]
    config: HookConfig


class HookDelivery(Struct, frozen=True):
    """One attempt at a delivery; `repository_id` is null where the event is about no repository."""

    id: Id
    guid: Name
    event: Name
    status_code: int | None
    delivered_at: Timestamp
    repository_id: int | None = None


class HookRequest(Struct, frozen=True):
    """What was sent."""

    payload: dict[str, Any]


class FullHookDelivery(Struct, frozen=True):
    """A delivery with what was sent."""

    request: HookRequest


class Accepted(Struct, frozen=True):
    """202 of an order that GitHub carries out later: an object without any key."""


# --- GitHub Apps ------------------------------------------------------------------------------------------------


class Installation(Struct, frozen=True):
    """`GET /repos/{owner}/{repo}/installation`."""

    id: Id
    permissions: dict[str, str]


class Token(Struct, frozen=True):
    """`POST /app/installations/{id}/access_tokens`."""

    token: Name
    expires_at: Timestamp


# --- GraphQL ----------------------------------------------------------------------------------------------------


class QueryError(Struct, frozen=True):
    """An error of a query; one of the server itself has neither a type nor a place."""

    message: str = ""
    type: str = ""
    path: list[Any] | None = None
    locations: list[Any] | None = None


class QueryAnswer(Struct, frozen=True):
    """What GraphQL answers; an answer with errors may have a part of the data."""

    data: Raw = Raw(b"null")
    errors: list[QueryError] | None = None
