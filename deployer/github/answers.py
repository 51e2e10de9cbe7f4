"""The types of GitHub's answers, each with only the keys that deployer reads.

A key without a default is required. A key that GitHub documents as optional or nullable has a default or is `| None`.
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
    """`GET /repos/{owner}/{repo}`, read only to learn whether the repository exists."""

    full_name: Name


class DefaultBranch(Struct, frozen=True):
    """`GET /repos/{owner}/{repo}`, read for the default branch."""

    default_branch: Name


class Owner(Struct, frozen=True):
    """A repository's owner; `type` is `Organization` or `User`."""

    login: Name
    type: Name


class OwnedRepository(Struct, frozen=True):
    """`GET /repos/{owner}/{repo}`, read for the owner."""

    id: Id
    owner: Owner


class RepositoryRights(Struct, frozen=True):
    """`GET /repos/{owner}/{repo}`, read for what the token may do; some kinds of tokens get no `permissions`."""

    private: bool
    permissions: dict[str, bool] = {}


# --- refs and commits -------------------------------------------------------------------------------------------


class Target(Struct, frozen=True):
    """The object that a ref or a tag object points to."""

    sha: Sha
    type: Name


class GitRef(Struct, frozen=True):
    """`GET git/ref/{ref}`."""

    ref: Name
    object: Target


class Person(Struct, frozen=True):
    """Who made a commit or tag, with the date; git accepts dates that do not exist in any calendar."""

    date: str


class GitTag(Struct, frozen=True):
    """`GET git/tags/{sha}`."""

    object: Target
    tagger: Person | None = None


class CommitId(Struct, frozen=True):
    """A commit, read only for its id."""

    sha: Sha


class GitCommit(Struct, frozen=True):
    """`GET git/commits/{sha}`."""

    sha: Sha
    message: str
    committer: Person


class CommitMessage(Struct, frozen=True):
    """The git part of a commit, as opposed to what GitHub adds."""

    message: str


class BranchCommit(Struct, frozen=True):
    """The commit of a branch."""

    sha: Sha
    commit: CommitMessage


class Branch(Struct, frozen=True):
    """`GET branches/{branch}`."""

    name: Name
    commit: BranchCommit


class RequiredContexts(Struct, frozen=True):
    """The statuses that a classic protection requires."""

    contexts: list[str] = []


class ClassicProtection(Struct, frozen=True):
    """The field `protection` of a branch; a fine-grained token may get it without details."""

    required_status_checks: RequiredContexts | None = None


class BranchProtection(Struct, frozen=True):
    """`GET branches/{branch}`, read for whether the branch is protected, and for what it requires."""

    protected: bool
    protection: ClassicProtection | None = None


class ListedBranch(Struct, frozen=True):
    """An entry of `GET branches`."""

    name: Name
    commit: CommitId
    protected: bool


class RequiredCheck(Struct, frozen=True):
    """A status that a ruleset requires."""

    context: str = ""


class RuleParameters(Struct, frozen=True):
    """What a rule requires; other kinds of rules have other parameters."""

    required_status_checks: list[RequiredCheck] = []


class Rule(Struct, frozen=True):
    """An entry of `GET rules/branches/{branch}`."""

    type: Name
    parameters: RuleParameters | None = None


class Ruleset(Struct, frozen=True):
    """An entry of `GET rulesets`."""

    target: Name
    enforcement: Name


class Relation(Struct, frozen=True):
    """`GET compare/{base}...{head}`, read for how the two commits are related."""

    status: Literal["identical", "behind", "ahead", "diverged"]
    base_commit: CommitId
    merge_base_commit: CommitId


class ChangedFile(Struct, frozen=True):
    """A file of a comparison; only a renamed file has `previous_filename`."""

    filename: Name
    previous_filename: str = ""


class Comparison(Struct, frozen=True):
    """`GET compare/{base}...{head}`, read for the files."""

    status: Literal["identical", "behind", "ahead", "diverged"]
    files: list[ChangedFile]


# --- files ------------------------------------------------------------------------------------------------------


class Entry(Struct, frozen=True):
    """An entry of a folder in `GET contents/{path}`. If the path is not a folder, the whole answer is one such entry.

    Attributes:
        type: GitHub lists a submodule as a `file` without `download_url`, and a symbolic link to a file as that file.
        size: in bytes.
        url: ends with the commit that the request named.
        download_url: null for an entry without content of its own, such as a folder or submodule.
    """

    name: Name
    type: Literal["file", "dir", "symlink", "submodule"]
    size: Annotated[int, Meta(ge=0)]
    sha: Sha
    url: Name
    download_url: str | None


Contents = Annotated[list[Entry], Meta(min_length=1)] | Entry  # git does not store empty folders


class Blob(Struct, frozen=True):
    """`GET git/blobs/{sha}`."""

    content: str
    encoding: Literal["base64"]


# --- statuses, comments, webhooks -------------------------------------------------------------------------------


class CommitStatus(Struct, frozen=True):
    """`POST statuses/{sha}`."""

    context: str


class Created(Struct, frozen=True):
    """An object that GitHub created or changed."""

    id: Id


class User(Struct, frozen=True):
    """`GET /user`; also the author of a comment."""

    login: Name


class Account(Struct, frozen=True):
    """A person or an organization; an enterprise has no login."""

    login: str = ""
    type: str = ""


class App(Struct, frozen=True):
    """`GET /app`."""

    slug: Name
    html_url: str = ""
    owner: Account | None = None
    permissions: dict[str, str] = {}


class Comment(Struct, frozen=True):
    """A comment; `user` is null if the account was deleted."""

    id: Id
    body: str | None
    user: User | None


class PullRepository(Struct, frozen=True):
    """The repository of one side of a pull request."""

    id: Id


class PullHead(Struct, frozen=True):
    """The branch to be merged; `repo` is null if its fork was deleted."""

    ref: Name
    sha: Sha
    repo: PullRepository | None


class PullBase(Struct, frozen=True):
    """The branch that receives the merge."""

    repo: PullRepository


class Pull(Struct, frozen=True):
    """An entry of `GET pulls`."""

    number: Id
    state: Name
    head: PullHead
    base: PullBase


class HookConfig(Struct, frozen=True):
    """Where a webhook sends its deliveries; GitHub's old services have no address."""

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
    """One attempt at a delivery; `repository_id` is null if the event is not about a repository."""

    id: Id
    guid: Name
    event: Name
    status_code: int | None
    delivered_at: Timestamp
    repository_id: int | None = None


class HookRequest(Struct, frozen=True):
    """The request that GitHub sent to a webhook."""

    payload: dict[str, Any]


class FullHookDelivery(Struct, frozen=True):
    """A delivery with the request that GitHub sent."""

    request: HookRequest


class Accepted(Struct, frozen=True):
    """The answer 202 to a request that GitHub carries out later: an object without keys."""


class Deleted(Struct, frozen=True):
    """The answer 204 to a deletion, which has no body."""


# --- GitHub Apps ------------------------------------------------------------------------------------------------


class Installation(Struct, frozen=True):
    """`GET /repos/{owner}/{repo}/installation`."""

    id: Id
    permissions: dict[str, str]
    html_url: str = ""
    account: Account | None = None
    suspended_at: Timestamp | None = None

    @property
    def owner(self) -> str:
        """The login of the account on which the App is installed."""
        return self.account.login if self.account else "the owner"


class Token(Struct, frozen=True):
    """`POST /app/installations/{id}/access_tokens`."""

    token: Name
    expires_at: Timestamp


# --- GraphQL ----------------------------------------------------------------------------------------------------


class QueryError(Struct, frozen=True):
    """An error of a GraphQL query; an error of GitHub's own server has no type, path or locations."""

    message: str = ""
    type: str = ""
    path: list[Any] | None = None
    locations: list[Any] | None = None


class QueryAnswer(Struct, frozen=True):
    """An answer of the GraphQL API; with errors it may still contain a part of the data."""

    data: Raw = Raw(b"null")
    errors: list[QueryError] | None = None
