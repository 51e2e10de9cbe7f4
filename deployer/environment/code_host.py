"""GitHub, as the Protocol `Host` with the values that it returns.

`deployer/github/` implements the Protocol, and tests have doubles. The adapter translates every error of GitHub into
`TransientError` (a repeat may succeed) or `PermanentError` (people must change something).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from deployer.model.environments import Repository
from deployer.model.refs import Ref


@dataclass(frozen=True, slots=True)
class Head:
    """Where a ref stands.

    Attributes:
        object: what the ref itself points to: a commit, or the tag object of an annotated tag.
        sha: the commit, peeled.
        message: that commit's message.
        at: of a tag, when it was made (epoch seconds): the tag object's time, or else the commit's; 0 if unknown.
    """

    object: str
    sha: str
    message: str = ""
    at: float = 0


@dataclass(frozen=True, slots=True)
class Status:
    """A commit status; the adapter keeps to GitHub's lengths."""

    context: str
    state: str  # pending, success, failure or error
    description: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What GitHub says of a repository as a whole.

    Attributes:
        id: stays when it is renamed or transferred.
        full_name: `owner/name` as it is now; another one than was asked for if it has moved.
        refs: every branch and tag, or the one that was asked for if it is there, with the object it points to.
        made: when each of the tags was made, as `Head.at` has it.
    """

    id: int
    full_name: str
    default_branch: str
    archived: bool = False
    private: bool = False
    refs: Mapping[Ref, str] = field(default_factory=dict)
    made: Mapping[Ref, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HookDelivery:
    """One attempt of GitHub at delivering to a webhook.

    Attributes:
        id: the attempt's; `hook` is the webhook's, 0 for an App's own.
        guid: the delivery's, the same for each attempt.
        ok: whether it was answered with a 2xx.
        delivered_at: when, in epoch seconds.
        refused: whether it was answered with 401: the webhook's secret is not ours.
        organization: the login of the organization whose webhook it is; empty for a repository's own and an App's.
    """

    id: int
    hook: int
    guid: str
    event: str
    ok: bool
    delivered_at: float
    refused: bool = False
    organization: str = ""


class Relation(StrEnum):
    """How a commit stands to a base, in the words of GitHub's comparison, and one for histories that never met."""

    IDENTICAL = "identical"
    BEHIND = "behind"  # the base contains it
    AHEAD = "ahead"
    DIVERGED = "diverged"
    UNRELATED = "unrelated"

    @property
    def contained(self) -> bool:
        """Whether the base contains the commit."""
        return self in {Relation.IDENTICAL, Relation.BEHIND}


@dataclass(frozen=True, slots=True)
class Protection:
    """What keeps people from moving a repository's default branch and tags, as far as deployer may read it.

    Attributes:
        branch: the default branch's short name.
        branch_protected: whether a branch protection or ruleset holds for it; None where that cannot be read.
        tags_protected: whether an active ruleset is about tags; None where that cannot be read.
        unread: why something cannot be read; empty where all can.
    """

    branch: str
    branch_protected: bool | None
    tags_protected: bool | None
    unread: str = ""


class Host(Protocol):
    """GitHub."""

    @property
    def is_app(self) -> bool:
        """Whether one webhook, that of a GitHub App, tells of every repository."""

    def webhook_organization(self, repository: Repository, url: str) -> str:
        """The login of the organization whose webhook tells of a repository, where it has no webhook of its own.

        Args:
            repository: which one.
            url: the webhook's address, which must be the same to the character.

        Returns:
            An empty text where the webhook is the repository's own, or a GitHub App's.

        Raises:
            RightsError: deployer may not see the webhooks.
            NotFoundError: there is no such webhook.
        """

    def deliveries(
        self, repository: Repository, url: str, since: float, others: Collection[int] = ()
    ) -> list[HookDelivery]:
        """The attempts at delivering to the webhook with this address, newest first; an App's are of all repositories.

        Args:
            repository: whose webhook; or whose deliveries, where only its organization has such a webhook.
            url: the webhook's address, which must be the same to the character; empty where it is not known.
            since: older attempts are left out; epoch seconds.
            others: GitHub's ids of further repositories whose attempts count if the webhook is the organization's.

        Raises:
            RightsError: deployer may not see them.
            NotFoundError: there is no such webhook.
        """

    def payload(self, repository: Repository, delivery: HookDelivery) -> dict[str, Any]:
        """What was delivered."""

    def redeliver(self, repository: Repository, delivery: HookDelivery) -> None:
        """Have it delivered once more, under the same guid.

        Raises:
            PermanentError: GitHub will not, since it is too old or deployer has no right to it.
        """

    def comment(self, repository: Repository, branch: Ref, sha: str, text: str) -> list[str]:
        """Say something where people look at a branch: on its open pull requests, or on a commit where there is none.

        What deployer has said there before, under the same first line, is replaced.

        Args:
            repository: where.
            branch: whose pull requests.
            sha: the commit.
            text: Markdown, whose first line is told apart by nobody else's.

        Returns:
            What `change_comment` knows the comments by.

        Raises:
            RightsError: deployer may not.
        """

    def change_comment(self, repository: Repository, comment: str, text: str) -> None:
        """Replace what a comment says.

        Raises:
            RightsError: deployer may not, or it is gone.
        """

    def install_hook(self, repository: Repository, url: str, secret: str, events: Sequence[str]) -> str:
        """See that a webhook delivers JSON to this address; says whether it was `created`, `updated` or `unchanged`.

        Its secret is set in any case: GitHub does not tell whether it is the same.

        Raises:
            RightsError: deployer may not manage webhooks there.
        """

    def facts(self, repository: Repository, only: Ref | None = None) -> Facts | None:
        """What GitHub says of a repository, its refs included; a former name is followed.

        None where it is not there or cannot be seen, two things that GitHub does not tell apart. Its refs are all that
        there are, or it is an error: what stands without its branch is deleted.

        Args:
            repository: which.
            only: the one ref that it is asked for, which spares the walk through all; no other is then told of.

        Raises:
            RightsError: deployer may not see all of it.
        """

    def default_branch(self, repository: Repository) -> str:
        """The default branch's short name."""

    def head(self, repository: Repository, ref: Ref) -> Head | None:
        """Where a ref stands now, or None if there is no such ref."""

    def check_reachable(self, seconds: float) -> None:
        """Ask GitHub once, without credentials, whether it is there.

        Args:
            seconds: how long to wait for a connection, and as long again for an answer.

        Raises:
            TransientError: it does not answer, or answers with a server error.
        """

    def commit(self, repository: Repository, prefix: str) -> str:
        """The full id of a commit.

        Args:
            repository: whose commit.
            prefix: the full id or its first hexadecimal digits, in lower case. The name of a branch or tag that looks
                like an id does not count.

        Raises:
            NotFoundError: no commit has this id, or several have; GitHub does not say which of the two.
            PermanentError: the repository is not found.
        """

    def files(self, repository: Repository, sha: str, folder: str) -> dict[str, bytes]:
        """Name to content of the usable files right in a folder at a commit; empty where there is no such folder.

        Raises:
            UnreadableError: one of them, or the folder, is a symbolic link, a submodule or the like, or is too large.
            PermanentError: there is no such commit.
        """

    def regular_files(self, repository: Repository, sha: str, folder: str, stem: str) -> dict[str, bytes]:
        """Name to content of the files in a folder at a commit whose name is the stem and a suffix.

        Empty where there is no such file or folder, and an error where something is there that is no regular file:
        whoever reads rules there must not take a symbolic link for "no rules".

        Raises:
            UnreadableError: one of them, or the folder, is a symbolic link, a submodule or the like, or is too large.
            PermanentError: there is no such commit.
        """

    def ancestry(self, repository: Repository, base: str, commit: str) -> Relation:
        """How a commit stands to a base.

        Args:
            repository: where both are.
            base: a full commit id; a name is refused, since a tag and a branch may share one.
            commit: a full commit id.

        Raises:
            PayloadError: one of them is no full commit id.
            TransientError: GitHub cannot tell now; that is never an answer.
        """

    def protected_branches(self, repository: Repository) -> Mapping[Ref, str]:
        """The branches that a branch protection or a ruleset protects now, and where each stands.

        Raises:
            PermanentError: there are more than can be looked at.
        """

    def post(self, repository: Repository, sha: str, status: Status) -> None:
        """Set a commit status."""

    def changed(self, repository: Repository, before: str, after: str) -> list[str] | None:
        """Paths of the files in which a commit differs from an earlier one; None where that cannot be told.

        So it is where the later one does not descend from the earlier, and where there are very many.
        """
