"""The bodies of webhook events."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sandbox.github import links
from sandbox.github.git import ZERO, Changes, Commit, Person, Ref

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sandbox.github.hub import Repository
    from sandbox.github.installations import Installation

LOGIN = "octocat"
APP_SLUG = "deployer"
_MAX_COMMITS = 20
_LOGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}")


@dataclass(frozen=True)
class Move:
    """The move of one ref: its old and new value, every ref before the move, and who moved it."""

    name: str
    old: Ref | None
    new: Ref | None
    before: dict[str, Ref]
    login: str

    @property
    def created(self) -> bool:
        """Whether the move created the ref."""
        return self.old is None

    @property
    def deleted(self) -> bool:
        """Whether the move deleted the ref."""
        return self.new is None

    @property
    def is_branch(self) -> bool:
        """Whether the ref is a branch."""
        return self.name.startswith("refs/heads/")

    @property
    def short(self) -> str:
        """The branch's or tag's short name."""
        return self.name.removeprefix("refs/heads/").removeprefix("refs/tags/")


def user_json(login: str, root: str) -> dict[str, Any]:
    """A user as GitHub shows one."""
    login = login if _LOGIN.fullmatch(login) else LOGIN
    api = f"{root}/api/v3/users/{login}"
    return {
        "login": login,
        "id": user_id(login),
        "node_id": f"U_{user_id(login)}",
        "avatar_url": "",
        "gravatar_id": "",
        "url": api,
        "html_url": f"{root}/{login}",
        "repos_url": f"{api}/repos",
        **links.user_fields(api),
        "type": "Organization" if is_organization(login) else "User",
        "site_admin": False,
    }


def is_organization(login: str) -> bool:
    """Whether an account is an organization: every account except the simulator's one person."""
    return login.lower() != LOGIN


def organization_fields(login: str, root: str) -> dict[str, Any]:
    """The additional field `organization` of a webhook's body; empty if the owner is a person."""
    if not is_organization(login):
        return {}
    api = f"{root}/api/v3/orgs/{login}"
    shown = {"login": login, "id": user_id(login), "node_id": f"O_{user_id(login)}", "url": api}
    return {"organization": {**shown, "hooks_url": f"{api}/hooks", "avatar_url": "", "description": None}}


def user_id(login: str) -> int:
    """The id of an account, which is always the same for one login."""
    return int(hashlib.sha256(login.lower().encode()).hexdigest()[:7], 16)


def repository_json(repo: Repository, root: str) -> dict[str, Any]:
    """A repository as the REST API shows it."""
    api = f"{root}/api/v3/repos/{repo.full_name}"
    html = f"{root}/{repo.full_name}"
    branch = repo.default_branch
    return {
        "id": repo.id,
        "node_id": f"R_{repo.id}",
        "name": repo.name,
        "full_name": repo.full_name,
        "private": repo.private,
        "owner": user_json(repo.owner, root),
        "html_url": html,
        "description": None,
        "fork": False,
        "url": api,
        "archive_url": f"{api}/{{archive_format}}{{/ref}}",
        "branches_url": f"{api}/branches{{/branch}}",
        "commits_url": f"{api}/commits{{/sha}}",
        "compare_url": f"{api}/compare/{{base}}...{{head}}",
        "contents_url": f"{api}/contents/{{+path}}",
        "git_refs_url": f"{api}/git/refs{{/sha}}",
        "git_tags_url": f"{api}/git/tags{{/sha}}",
        "hooks_url": f"{api}/hooks",
        "merges_url": f"{api}/merges",
        "statuses_url": f"{api}/statuses/{{sha}}",
        "tags_url": f"{api}/tags",
        "trees_url": f"{api}/git/trees{{/sha}}",
        **links.repository_fields(api),
        "clone_url": f"{html}.git",
        "git_url": f"{html}.git",
        "ssh_url": f"{html}.git",
        "svn_url": html,
        "homepage": None,
        "language": None,
        "created_at": repo.created_at,
        "updated_at": repo.pushed_at,
        "pushed_at": repo.pushed_at,
        "size": 0,
        "stargazers_count": 0,
        "watchers_count": 0,
        "forks_count": 0,
        "open_issues_count": 0,
        "has_issues": False,
        "has_wiki": False,
        "archived": repo.archived,
        "disabled": False,
        "visibility": "private" if repo.private else "public",
        "topics": [],
        "default_branch": branch,
        "permissions": {"admin": True, "maintain": True, "push": True, "triage": True, "pull": True},
    }


def push_event(repo: Repository, move: Move, root: str) -> dict[str, Any]:
    """The body of a push event."""
    commits = _pushed_commits(repo, move)
    changes = repo.git.changed_paths(commits)
    empty = Changes([], [], [])
    html = f"{root}/{repo.full_name}"
    distinct = _new_commits(repo, move, commits)
    shown = [
        {**_commit_json(commit, changes.get(commit.sha, empty), html), "distinct": commit.sha in distinct}
        for commit in commits
    ]
    before, after = move.old.sha if move.old else ZERO, move.new.sha if move.new else ZERO
    return {
        "ref": move.name,
        "before": before,
        "after": after,
        "base_ref": _base_ref(move),
        "created": move.created,
        "deleted": move.deleted,
        "forced": _is_forced(repo, move),
        "compare": f"{html}/compare/{_comparison_range(move, before, after)}",
        "commits": shown,
        "head_commit": _head_commit(repo, move, shown, html),
        "repository": _pushed_repository(repo, root),
        "pusher": {
            "name": user_json(move.login, root)["login"],
            "email": f"{move.login}@users.noreply.example.com",
        },
        "sender": user_json(move.login, root),
    }


def create_or_delete(repo: Repository, move: Move, root: str) -> dict[str, Any]:
    """The body of a create or delete event."""
    more = {"master_branch": repo.default_branch, "description": None} if move.created else {}
    return {
        "ref": move.short,
        "ref_type": "branch" if move.is_branch else "tag",
        **more,
        "pusher_type": "user",
        "repository": repository_json(repo, root),
        "sender": user_json(move.login, root),
    }


def repository_event(repo: Repository, action: str, changes: dict[str, Any], root: str) -> dict[str, Any]:
    """The body of a repository event or, without an action, of a public event."""
    return {
        **({"action": action} if action else {}),
        **({"changes": changes} if changes else {}),
        "repository": repository_json(repo, root),
        "sender": user_json(LOGIN, root),
    }


def installation_repositories(
    repo: Repository, installation: Installation, action: str, root: str
) -> dict[str, Any]:
    """The body of the event that an App's installation got (`added`) or lost (`removed`) a repository."""
    shown = _installed_repository(repo, root)
    return {
        "action": action,
        "installation": installation_json(installation, root),
        "repository_selection": "selected",
        "repositories_added": [shown] if action == "added" else [],
        "repositories_removed": [shown] if action == "removed" else [],
        "requester": None,
        "sender": user_json(LOGIN, root),
    }


def installation_event(
    repos: Sequence[Repository], installation: Installation, action: str, root: str
) -> dict[str, Any]:
    """The body of the event that an owner's installation of an App changed.

    Args:
        repos: its repositories.
        installation: the installation.
        action: `created`, `deleted`, `suspend`, `unsuspend` or `new_permissions_accepted`.
        root: the simulator's address.
    """
    return {
        "action": action,
        "installation": installation_json(installation, root),
        "repositories": [_installed_repository(repo, root) for repo in repos],
        "requester": None,
        "sender": user_json(LOGIN, root),
    }


def _installed_repository(repo: Repository, root: str) -> dict[str, Any]:
    return {
        name: repository_json(repo, root)[name] for name in ("id", "node_id", "name", "full_name", "private")
    }


def installation_reference(owner: str) -> dict[str, Any]:
    """The field `installation` of an event that is sent to an App's webhook."""
    return {"installation": {"id": user_id(owner), "node_id": f"I_{user_id(owner)}"}}


def app_json(permissions: Mapping[str, str], root: str) -> dict[str, Any]:
    """The App itself, with the permissions that it requests. The organization `deployer-apps` owns it."""
    return {
        "id": 1,
        "slug": APP_SLUG,
        "node_id": "A_1",
        "client_id": "Iv1.sandbox",
        "owner": user_json("deployer-apps", root),
        "name": "deployer",
        "description": None,
        "external_url": root,
        "html_url": f"{root}/apps/{APP_SLUG}",
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "permissions": dict(permissions),
        "events": ["push", "repository", "pull_request"],
        "installations_count": 1,
    }


def installation_json(installation: Installation, root: str) -> dict[str, Any]:
    """An owner's installation of the App."""
    owner, identity = installation.owner, user_id(installation.owner)
    pages = f"{root}/organizations/{owner}" if is_organization(owner) else root
    return {
        "id": identity,
        "account": user_json(owner, root),
        "repository_selection": "selected",
        "access_tokens_url": f"{root}/api/v3/app/installations/{identity}/access_tokens",
        "repositories_url": f"{root}/api/v3/installation/repositories",
        "html_url": f"{pages}/settings/installations/{identity}",
        "app_id": 1,
        "app_slug": APP_SLUG,
        "target_id": identity,
        "target_type": "Organization" if is_organization(owner) else "User",
        "permissions": dict(installation.permissions),
        "events": ["push", "repository", "pull_request"],
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "single_file_name": None,
        "suspended_at": installation.suspended_at or None,
        "suspended_by": user_json(owner, root) if installation.suspended_at else None,
    }


def _pushed_repository(repo: Repository, root: str) -> dict[str, Any]:
    # Only in push events, owners have names and times are numbers.
    shown = repository_json(repo, root)
    owner = {
        "name": repo.owner,
        "email": f"{repo.owner}@users.noreply.example.com",
        **shown["owner"],
    }
    times = {
        name: int(datetime.fromisoformat(shown[name]).timestamp()) for name in ("created_at", "pushed_at")
    }
    return {**shown, **times, "owner": owner, "master_branch": shown["default_branch"], "stargazers": 0}


def _pushed_commits(repo: Repository, move: Move) -> list[Commit]:
    if move.new is None or not move.is_branch:
        return []
    known = [move.old.commit] if move.old else _branch_heads(move)
    newest = repo.git.list_commits(
        f"--max-count={_MAX_COMMITS}", "--topo-order", move.new.commit, "--not", *known, "--"
    )
    return newest[::-1]


def _branch_heads(move: Move) -> list[str]:
    return sorted({ref.commit for name, ref in move.before.items() if name.startswith("refs/heads/")})


def _new_commits(repo: Repository, move: Move, commits: list[Commit]) -> set[str]:
    """The SHAs of those commits that no branch contained before."""
    if not commits:
        return set()
    new = repo.git.text("rev-list", *(c.sha for c in commits), "--not", *_branch_heads(move), "--")
    return set(new.split())


def _head_commit(
    repo: Repository, move: Move, shown: list[dict[str, Any]], html: str
) -> dict[str, Any] | None:
    if move.new is None or repo.git.object_kind(move.new.commit) != "commit":
        return None
    if shown and shown[-1]["id"] == move.new.commit:
        return shown[-1]
    commit = repo.git.read_commit(move.new.commit)
    return _commit_json(commit, repo.git.changed_paths([commit]).get(commit.sha, Changes([], [], [])), html)


def _commit_json(commit: Commit, changes: Changes, html: str) -> dict[str, Any]:
    return {
        "id": commit.sha,
        "tree_id": commit.tree,
        "distinct": True,
        "message": commit.message,
        "timestamp": commit.committer.date,
        "url": f"{html}/commit/{commit.sha}",
        "author": _person_json(commit.author),
        "committer": _person_json(commit.committer),
        "added": changes.added,
        "removed": changes.removed,
        "modified": changes.modified,
    }


def _person_json(person: Person) -> dict[str, str]:
    login = person.email.partition("@")[0]
    known = {"username": login} if _LOGIN.fullmatch(login) else {}
    return {"name": person.name, "email": person.email, "date": person.date, **known}


def _base_ref(move: Move) -> str | None:
    if move.new is None or move.old is not None:
        return None
    same = [n for n, r in move.before.items() if n.startswith("refs/heads/") and r.commit == move.new.commit]
    return same[0] if same else None


def _is_forced(repo: Repository, move: Move) -> bool:
    if move.old is None or move.new is None:
        return False
    return not move.is_branch or not repo.git.is_ancestor(move.old.commit, move.new.commit)


def _comparison_range(move: Move, before: str, after: str) -> str:
    return quote(move.short) if move.created else f"{before[:12]}...{after[:12]}"
