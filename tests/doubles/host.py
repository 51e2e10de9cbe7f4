"""A double of GitHub in memory."""

import time
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from deployer.environment.code_host import (
    Head,
    HookDelivery,
    Protection,
    PullRequestHead,
    Relation,
    RepositoryFacts,
    Status,
)
from deployer.model.environments import Repository
from deployer.model.errors import NotFoundError, PermanentError, RightsError
from deployer.model.refs import Ref, is_full_sha, parse_sha
from deployer.templates.folder_files import (
    FILE_LIMIT,
    FOLDER,
    RECOGNIZED_FILES,
    SUFFIXES,
    UnreadableError,
    reject_irregular_files,
    reject_large_files,
    reject_linked_folder,
)
from tests.doubles.failing import Failing


@dataclass
class _Repo:
    id: int
    full_name: str
    default_branch: str = "main"
    archived: bool = False
    private: bool = False
    hidden: bool = False
    refs: dict[Ref, str] = field(default_factory=dict)  # ref -> object
    peeled: dict[str, str] = field(default_factory=dict)  # tag object -> commit
    messages: dict[str, str] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)  # commit -> path -> content
    made: dict[str, float] = field(default_factory=dict)  # object -> time of its creation
    pulls: list[Ref] = field(
        default_factory=list
    )  # the branch of each pull request, whose number is the place
    closed: set[int] = field(default_factory=set)  # the numbers of closed pull requests
    fork_heads: list[str] = field(default_factory=list)  # commits of open pull requests from forks
    parents: dict[str, str] = field(default_factory=dict)  # commit -> its parent
    lagging: dict[Ref, Head | None] = field(default_factory=dict)
    merged: set[str] = field(default_factory=set)  # commits that are merged into the default branch
    protected: set[str] = field(default_factory=set)  # short names of branches
    links: dict[str, dict[str, str]] = field(
        default_factory=dict
    )  # commit -> path that is not a regular file -> its type

    def history(self, sha: str) -> set[str]:
        """A commit with all its ancestors."""
        default = self.refs.get(Ref.of_branch(self.default_branch))
        found, waiting = set[str](), [sha]
        while waiting:
            each = waiting.pop()
            if each and each not in found:
                found.add(each)
                waiting += [self.parents.get(each, ""), *(self.merged if each == default else ())]
        return found


class FakeHost(Failing):
    """The port `CodeHost` in memory.

    Attributes:
        statuses: the latest status of each context, by (repository, commit).
        permissions_missing: the answer of `missing_permissions`.
        remedy: the answer of `permission_remedy`.
        hidden_reason: the answer of `why_hidden`.
        protections: the answer of `read_protection`, without the branch.
        hooks: address, secret and events of each repository's webhook, by the repository's key.
        app_hook: the address of the App's webhook; None for any address.
        organization_hooks: the same for each organization's webhook, by the login in lower case.
        log: every attempt at a delivery with its payload, oldest first.
        hook_rights: whether deployer may read and write webhooks.
        said: the text of every comment, by (repository, comment id), oldest first.
        pull_comments: the one comment on each pull request, with whether it says that the environment has ended, by
            (repository, number).
        comment_rights: whether deployer may write comments.
        edit_rights: whether deployer may change comments.
        posted: every status as (repository, commit, status), oldest first.
    """

    def __init__(self) -> None:
        super().__init__(service="github")
        self.statuses: defaultdict[tuple[Repository, str], dict[str, Status]] = defaultdict(dict)
        self.posted: list[tuple[Repository, str, Status]] = []
        self.permissions_missing: list[str] = []
        self.remedy = self.hidden_reason = ""
        self.protections: tuple[Any, ...] = (True, True, "")
        self._repos: dict[str, _Repo] = {}  # also under former names
        self._identities = 0
        self.is_app = False
        self.app_hook: str | None = None
        self.hook_rights = True
        self.said: dict[tuple[Repository, str], str] = {}
        self.pull_comments: dict[tuple[Repository, int], tuple[str, bool]] = {}
        self.comment_rights = self.edit_rights = True
        self.hooks: dict[str, tuple[str, str, list[str]]] = {}
        self.organization_hooks: dict[str, tuple[str, str, list[str]]] = {}
        self.log: list[tuple[Repository, HookDelivery, dict[str, Any]]] = []

    def push(
        self,
        repository: Repository,
        ref: str,
        sha: str,
        *,
        files: Mapping[str, str | bytes] | None = None,
        message: str = "",
        annotated: str = "",
        at: float = 0,
        parent: str | None = None,
    ) -> None:
        """Move a ref to a commit; creates the repository and the commit if they do not exist.

        Args:
            repository: the repository.
            ref: the ref's full name.
            sha: the commit.
            files: the commit's files, where a name without a folder is in `deploy/`; None keeps its files.
            message: the commit's message; empty keeps its message.
            annotated: the id of a tag object between the ref and the commit.
            at: the time of the commit or tag object, in epoch seconds.
            parent: the parent of a new commit; empty for a root. None means the commit that the ref pointed to; the
                commit of a new tag is then merged into the default branch, as people's tags usually are.
        """
        repo = self.create(repository)
        if parent is None:
            parent = repo.refs.get(Ref.parse(ref), "")
            if Ref.parse(ref).is_tag and sha not in repo.files:
                repo.merged.add(sha)
        repo.parents.setdefault(sha, parent)
        repo.refs[Ref.parse(ref)] = annotated or sha
        if annotated:
            repo.peeled[annotated] = sha
        repo.made[annotated or sha] = at or repo.made.get(annotated or sha, 0)
        repo.messages[sha] = message or repo.messages.get(sha, "")
        if files is not None or sha not in repo.files:
            repo.files[sha] = {
                name if "/" in name else f"{FOLDER}/{name}": data.encode() if isinstance(data, str) else data
                for name, data in (files or {}).items()
            }

    def merge(self, repository: Repository, sha: str) -> None:
        """Merge a commit into the default branch."""
        self._repo(repository).merged.add(sha)

    def protect(self, repository: Repository, branch: str, *, on: bool = True) -> None:
        """Protect a branch; with `on=False` remove the protection."""
        protected = self._repo(repository).protected
        protected.add(branch) if on else protected.discard(branch)

    def link(self, repository: Repository, sha: str, path: str, kind: str = "symlink") -> None:
        """Make a file or folder of a commit a symbolic link, a `submodule` or a `dir`."""
        self._repo(repository).links.setdefault(sha, {})[path] = kind

    def refs(self, repository: Repository) -> dict[Ref, str]:
        """The object that each ref points to."""
        return dict(self._repo(repository).refs)

    def remove(self, repository: Repository, ref: str) -> None:
        """Delete a ref."""
        self._repos[repository.key].refs.pop(Ref.parse(ref), None)

    def create(self, repository: Repository, default_branch: str = "") -> _Repo:
        """Create a repository if it does not exist, and set its default branch if one is given."""
        repo = self._repos.get(repository.key)
        if (
            repo is None or repo.full_name.lower() != repository.key
        ):  # another repository may take a former name
            self._identities += 1
            repo = self._repos[repository.key] = _Repo(self._identities, repository.full_name)
        repo.default_branch = default_branch or repo.default_branch
        return repo

    def lag(self, repository: Repository, ref: str) -> None:
        """Make `head` answer with the ref's current commit until `catch_up`, even if the ref moves."""
        repo = self.create(repository)
        repo.lagging[Ref.parse(ref)] = self._head(repo, Ref.parse(ref))

    def catch_up(self) -> None:
        """End every lag."""
        for repo in self._repos.values():
            repo.lagging.clear()

    def rename(self, repository: Repository, now: Repository) -> None:
        """Give a repository another name or owner; the former name still refers to it."""
        repo = self._repos[now.key] = self._repos[repository.key]
        repo.full_name = now.full_name

    def change(self, repository: Repository, **fields: bool) -> None:
        """Set whether a repository is `archived`, `private`, or `hidden` from deployer."""
        for name, value in fields.items():
            setattr(self._repos[repository.key], name, value)

    def open_pull(self, repository: Repository, branch: str) -> None:
        """Open a pull request of a branch."""
        self._repos[repository.key].pulls.append(Ref.of_branch(branch))

    def open_pull_of_fork(self, repository: Repository, sha: str) -> None:
        """Open a pull request of a fork's commit."""
        self._repos[repository.key].fork_heads.append(sha)

    def close_pull(self, repository: Repository, number: int, *, closed: bool = True) -> None:
        """Close a pull request, or open it again."""
        numbers = self._repos[repository.key].closed
        numbers.add(number) if closed else numbers.discard(number)

    def delete(self, repository: Repository) -> None:
        """Delete a repository."""
        del self._repos[repository.key]

    def note_delivery(
        self,
        repository: Repository,
        guid: str,
        event: str,
        payload: dict[str, Any],
        at: float,
        *,
        ok: bool = False,
        refused: bool = False,
    ) -> None:
        """Add an attempt at a delivery to GitHub's log."""
        entry = HookDelivery(len(self.log) + 1, 0 if self.is_app else 1, guid, event, ok, at, refused)
        self.log.append((repository, entry, payload))

    # the port

    def webhook_organization(self, repository: Repository, url: str) -> str:
        self._note("webhook_organization", repository, url)
        if not self.is_app:
            self._insist_on_hooks()
        return self._organization(repository, url)

    def _organization(self, repository: Repository, url: str) -> str:
        if self.is_app or (url and self.hooks.get(repository.key, ("",))[0] == url):
            return ""
        if not url or self.organization_hooks.get(repository.owner.lower(), ("",))[0] != url:
            raise NotFoundError(f"{repository} has no webhook to {url}")
        return repository.owner

    def deliveries(
        self, repository: Repository, url: str, since: float, others: Collection[int] = ()
    ) -> list[HookDelivery]:
        self._note("deliveries", repository, url, since)
        self._insist_on_hooks()
        if self.is_app and self.app_hook not in {None, url}:
            raise NotFoundError("the webhook of the GitHub App does not have the address of deployer")
        organization = self._organization(repository, url)
        return [
            replace(each, organization=organization)
            for owner, each, _ in reversed(self.log)
            if each.delivered_at >= since
            and (
                self.is_app
                or owner.key == repository.key
                or (organization and self._repos[owner.key].id in others)
            )
        ]

    def payload(self, repository: Repository, delivery: HookDelivery) -> dict[str, Any]:
        self._note("payload", repository, delivery)
        return self.log[delivery.id - 1][2]

    def redeliver(self, repository: Repository, delivery: HookDelivery) -> None:
        self._note("redeliver", repository, delivery)
        self._insist_on_hooks()
        owner, _, payload = self.log[delivery.id - 1]
        self.note_delivery(owner, delivery.guid, delivery.event, payload, time.time())

    def comment(self, repository: Repository, branch: Ref, sha: str, text: str) -> list[str]:
        self._note("comment", repository, branch, sha, text)
        if not self.comment_rights:
            raise RightsError(
                "GitHub answers 403; give deployer's token or App the permission pull requests: write"
            )
        numbers = self._pulls_of(repository, branch)
        places = [f"issues/{number}" for number in numbers] or [f"commits/{sha}"]
        for place in places:
            self.said[repository, place] = text
        return places

    def open_pull_requests(self, repository: Repository) -> list[PullRequestHead]:
        self._note("open_pull_requests", repository)
        repo = self._repo(repository)
        if not self.comment_rights:
            raise RightsError(
                "GitHub answers 403; give deployer's token or App the permission pull requests: read"
            )
        own = [
            PullRequestHead(number, each, repo.refs[each], from_fork=False)
            for number, each in enumerate(repo.pulls, 1)
            if each in repo.refs and number not in repo.closed
        ]
        forks = [
            PullRequestHead(number, Ref.of_branch("patch"), sha, from_fork=True)
            for number, sha in enumerate(repo.fork_heads, 100)
        ]
        return [*own, *forks]

    def change_comment(self, repository: Repository, comment: str, text: str) -> None:
        self._note("change_comment", repository, comment, text)
        if not self.edit_rights or (repository, comment) not in self.said:
            raise RightsError(
                "GitHub answers 404; give deployer's token or App the permission pull requests: write"
            )
        self.said[repository, comment] = text

    def comment_on_pulls(self, repository: Repository, branch: Ref, text: str, *, ended: bool) -> None:
        self._note("comment_on_pulls", repository, branch, text, ended)
        if not self.comment_rights:
            raise RightsError(
                "GitHub answers 403; give deployer's token or App the permission pull requests: write"
            )
        numbers = self._pulls_of(repository, branch)
        for number in numbers:
            self.pull_comments[repository, number] = (text, ended)
        for (where, number), (_, over) in list(self.pull_comments.items()):
            own = where == repository and self._repo(repository).pulls[number - 1] == branch
            if own and ended and not over and number not in numbers:
                self.pull_comments[repository, number] = (text, True)

    def open_pulls(self, repository: Repository, branch: Ref) -> list[int]:
        self._note("open_pulls", repository, branch)
        return self._pulls_of(repository, branch)

    def _pulls_of(self, repository: Repository, branch: Ref) -> list[int]:
        repo = self._repo(repository)
        return [
            number
            for number, each in enumerate(repo.pulls, 1)
            if each == branch and number not in repo.closed
        ]

    def install_hook(self, repository: Repository, url: str, secret: str, events: Sequence[str]) -> str:
        self._note("install_hook", repository, url, events)
        self._insist_on_hooks()
        hooks, key = self.hooks, repository.key
        if (
            hooks.get(key, ("",))[0] != url
            and self.organization_hooks.get(repository.owner.lower(), ("",))[0] == url
        ):
            hooks, key = self.organization_hooks, repository.owner.lower()
        there = hooks.get(key)
        there = there if there and there[0] == url else None
        wanted = sorted({*(there[2] if there else ()), *events})
        hooks[key] = (url, secret, wanted)
        return "created" if not there else "unchanged" if there[2] == wanted else "updated"

    def _insist_on_hooks(self) -> None:
        if not self.hook_rights:
            raise RightsError(
                "GitHub answers 404; give deployer's token or App the permission webhooks: read"
            )

    def facts(self, repository: Repository, only: Ref | None = None) -> RepositoryFacts | None:
        self._note("facts", repository, only)
        repo = self._repos.get(repository.key)
        if repo is None or repo.hidden:
            return None
        refs = {ref: target for ref, target in repo.refs.items() if only in {None, ref}}
        return RepositoryFacts(
            repo.id, repo.full_name, repo.default_branch, repo.archived, repo.private, refs,
            {ref: repo.made.get(target, 0) for ref, target in refs.items() if ref.is_tag},
        )  # fmt: skip

    def why_hidden(self, repository: Repository) -> str:
        self._note("why_hidden", repository)
        return self.hidden_reason

    def permission_remedy(self, repository: Repository) -> str:
        """See `GitHubHost.permission_remedy`."""
        self._note("permission_remedy", repository)
        return self.remedy

    def default_branch(self, repository: Repository) -> str:
        self._note("default_branch", repository)
        return self._repo(repository).default_branch

    def head(self, repository: Repository, ref: Ref) -> Head | None:
        self._note("head", repository, ref)
        repo = self._repo(repository)
        return repo.lagging[ref] if ref in repo.lagging else self._head(repo, ref)

    def check_reachable(self, seconds: float) -> None:
        self._note("check_reachable", seconds)

    def commit(self, repository: Repository, prefix: str) -> str:
        self._note("commit", repository, prefix)
        found = [sha for sha in self._repo(repository).files if sha.startswith(prefix)]
        if len(found) != 1:
            several = (
                ""
                if is_full_sha(prefix)
                else ", or several commits begin with these digits: give more digits"
            )
            raise NotFoundError(f"{repository} has no commit {prefix}{several}")
        return found[0]

    def files(self, repository: Repository, sha: str, folder: str) -> dict[str, bytes]:
        self._note("files", repository, sha, folder)
        repo = self._repo(repository)
        if sha not in repo.files:
            raise PermanentError(f"{repository} has no commit {sha}")
        found = {}
        links = repo.links.get(sha, {})
        reject_linked_folder(links.get(folder, "dir"))
        listed = {path.split("/")[1]: "file" for path in repo.files[sha] if path.startswith(f"{folder}/")}
        reject_irregular_files(
            listed | {path.rpartition("/")[2]: kind for path, kind in links.items() if "/" in path}
        )
        for path, content in repo.files[sha].items():
            inside, _, name = path.rpartition("/")
            if inside == folder.strip("/") and name in RECOGNIZED_FILES:
                found[name] = content
        reject_large_files({name: len(content) for name, content in found.items()})
        return found

    def regular_files(self, repository: Repository, sha: str, folder: str, stem: str) -> dict[str, bytes]:
        self._note("regular_files", repository, sha, folder, stem)
        repo = self._repo(repository)
        if sha not in repo.files:
            raise PermanentError(f"{repository} has no commit {sha}")
        found, links = {}, repo.links.get(sha, {})
        listed = {path.split("/")[1] for path in repo.files[sha] if path.startswith(f"{folder}/")}
        if len(listed) >= 1000:
            raise UnreadableError(f"{folder}/", None, "GitHub lists at most 1,000 of its entries")
        for path in (folder, *(f"{folder}/{stem}{suffix}" for suffix in SUFFIXES)):
            content = repo.files[sha].get(path)
            if path in links or (path == folder and content is not None):
                raise UnreadableError(path, None, "it is no regular file")
            if content is not None and len(content) > FILE_LIMIT:
                raise UnreadableError(path, None, f"it has more than {FILE_LIMIT:,} bytes")
            if content is not None:
                found[path.rpartition("/")[2]] = content
        return found

    def ancestry(self, repository: Repository, base: str, commit: str) -> Relation:
        self._note("ancestry", repository, base, commit)
        repo = self._repo(repository)
        parse_sha(base), parse_sha(commit)
        if not {base, commit} <= repo.files.keys():
            raise PermanentError(f"{repository} has no commit {base} or {commit}")
        if base == commit:
            return Relation.IDENTICAL
        ours, theirs = repo.history(base), repo.history(commit)
        if commit in ours:
            return Relation.BEHIND
        if base in theirs:
            return Relation.AHEAD
        return Relation.DIVERGED if ours & theirs else Relation.UNRELATED

    def protected_branches(self, repository: Repository) -> dict[Ref, str]:
        self._note("protected_branches", repository)
        repo = self._repo(repository)
        return {
            ref: target for ref, target in repo.refs.items() if not ref.is_tag and ref.short in repo.protected
        }

    def read_protection(self, repository: Repository) -> Protection:
        """See `GitHubHost.read_protection`."""
        self._note("read_protection", repository)
        branch = self._repo(repository).default_branch
        return Protection(branch, *self.protections)

    def post_commit_status(self, repository: Repository, sha: str, status: Status) -> None:
        self._note("post_commit_status", repository, sha, status)
        if sha not in self._repo(repository).files:
            raise PermanentError(f"{repository} has no commit {sha}")
        self.statuses[repository, sha][status.context] = status
        self.posted.append((repository, sha, status))

    def changed_paths(self, repository: Repository, before: str, after: str) -> list[str] | None:
        self._note("changed_paths", repository, before, after)
        repo = self._repo(repository)
        at = after
        while at and at != before:
            at = repo.parents.get(at, "")
        if not at or before not in repo.files or after not in repo.files:
            return None
        old, new = repo.files[before], repo.files[after]
        found = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
        return found if len(found) < 300 else None

    def missing_permissions(self, repository: Repository) -> list[str]:
        """See `GitHubHost.missing_permissions`."""
        self._note("missing_permissions", repository)
        self._repo(repository)
        return self.permissions_missing

    def clone_token(self, full_name: str) -> str:
        """See `GitHubHost.clone_token`."""
        return f"token-of-{full_name}"

    def _repo(self, repository: Repository) -> _Repo:
        if repository.key not in self._repos or self._repos[repository.key].hidden:
            raise PermanentError(f"{repository} is not found, or deployer has no access")
        return self._repos[repository.key]

    @staticmethod
    def _head(repo: _Repo, ref: Ref) -> Head | None:
        if ref not in repo.refs:
            return None
        target = repo.refs[ref]
        sha = repo.peeled.get(target, target)
        return Head(target, sha, repo.messages[sha], repo.made.get(target, 0) if ref.is_tag else 0)
