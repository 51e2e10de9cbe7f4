"""The JSON of GitHub's REST API for repositories' contents."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from flask import request

from sandbox.github import payloads
from sandbox.github.git import Commit, Entry, FileChange, Person, Ref, Tag
from sandbox.github.hub import Repository
from sandbox.github.store import Row

_ONE_MEGABYTE = 1024 * 1024


def root_url() -> str:
    """The server's address in the form that the client used."""
    return request.host_url.rstrip("/")


def api_url(repo: Repository) -> str:
    """The repository's URL in the API."""
    return f"{root_url()}/api/v3/repos/{repo.full_name}"


def html_url(repo: Repository) -> str:
    """The URL of the repository's page."""
    return f"{root_url()}/{repo.full_name}"


def utc_time(when: str) -> str:
    """A time in the format of GitHub's API."""
    return datetime.fromisoformat(when).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def person_json(who: Person) -> dict[str, str]:
    """An author or committer."""
    return {"name": who.name, "email": who.email, "date": utc_time(who.date)}


def git_commit_json(repo: Repository, it: Commit) -> dict[str, Any]:
    """A commit as `git/commits` shows it."""
    return {
        "sha": it.sha,
        "node_id": f"C_{it.sha}",
        "url": f"{api_url(repo)}/git/commits/{it.sha}",
        "html_url": f"{html_url(repo)}/commit/{it.sha}",
        "author": person_json(it.author),
        "committer": person_json(it.committer),
        "message": it.message,
        "tree": {"sha": it.tree, "url": f"{api_url(repo)}/git/trees/{it.tree}"},
        "parents": [_parent_json(repo, sha) for sha in it.parents],
        "verification": {
            "verified": False,
            "reason": "unsigned",
            "signature": None,
            "payload": None,
            "verified_at": None,
        },
    }


def _parent_json(repo: Repository, sha: str) -> dict[str, str]:
    return {"sha": sha, "url": f"{api_url(repo)}/commits/{sha}", "html_url": f"{html_url(repo)}/commit/{sha}"}


def commit_json(repo: Repository, it: Commit) -> dict[str, Any]:
    """A commit as `commits` lists it."""
    inner = git_commit_json(repo, it)
    return {
        "sha": it.sha,
        "node_id": inner["node_id"],
        "commit": {
            **{
                name: inner[name]
                for name in ("author", "committer", "message", "tree", "url", "verification")
            },
            "comment_count": 0,
        },
        "url": f"{api_url(repo)}/commits/{it.sha}",
        "html_url": inner["html_url"],
        "comments_url": f"{api_url(repo)}/commits/{it.sha}/comments",
        "author": None,
        "committer": None,
        "parents": inner["parents"],
    }


def full_commit_json(repo: Repository, it: Commit) -> dict[str, Any]:
    """A commit as `commits/{ref}` shows it, with its files."""
    files = [file_json(repo, it.sha, f) for f in repo.git.diff(next(iter(it.parents), None), it.sha)]
    added, deleted = (sum(f[name] for f in files) for name in ("additions", "deletions"))
    stats = {"additions": added, "deletions": deleted, "total": added + deleted}
    return {**commit_json(repo, it), "stats": stats, "files": files}


def file_json(repo: Repository, sha: str, it: FileChange) -> dict[str, Any]:
    """A file of a commit or comparison."""
    return {
        "filename": it.path,
        "status": it.status,
        "additions": it.additions,
        "deletions": it.deletions,
        "changes": it.additions + it.deletions,
        "contents_url": f"{api_url(repo)}/contents/{quote(it.path)}?ref={sha}",
    }


def ref_json(repo: Repository, it: Ref) -> dict[str, Any]:
    """A ref as `git/ref` shows it."""
    return {
        "ref": it.name,
        "node_id": f"REF_{it.name}",
        "url": f"{api_url(repo)}/git/{quote(it.name)}",
        "object": {"sha": it.sha, "type": it.kind, "url": f"{api_url(repo)}/git/{it.kind}s/{it.sha}"},
    }


def branch_json(repo: Repository, it: Ref, *, protected: bool) -> dict[str, Any]:
    """A branch as `branches` lists it."""
    return {
        "name": it.name.removeprefix("refs/heads/"),
        "commit": {"sha": it.commit, "url": f"{api_url(repo)}/commits/{it.commit}"},
        "protected": protected,
    }


def full_branch_json(repo: Repository, it: Ref, *, protected: bool, contexts: list[str]) -> dict[str, Any]:
    """A branch as `branches/{branch}` shows it."""
    name = quote(it.name.removeprefix("refs/heads/"))
    own = f"{api_url(repo)}/branches/{name}"
    return {
        **branch_json(repo, it, protected=protected),
        "commit": commit_json(repo, repo.git.read_commit(it.commit)),
        "_links": {"self": own, "html": f"{html_url(repo)}/tree/{name}"},
        "protection": {
            "enabled": protected,
            "required_status_checks": {
                "enforcement_level": "everyone" if contexts else "off",
                "contexts": contexts,
                "checks": [{"context": each, "app_id": None} for each in contexts],
            },
        },
        "protection_url": f"{own}/protection",
    }


def listed_tag_json(repo: Repository, it: Ref) -> dict[str, Any]:
    """A tag as `tags` lists it."""
    name = it.name.removeprefix("refs/tags/")
    return {
        "name": name,
        "node_id": f"REF_{it.name}",
        "commit": {"sha": it.commit, "url": f"{api_url(repo)}/commits/{it.commit}"},
        "zipball_url": f"{api_url(repo)}/zipball/{quote(it.name)}",
        "tarball_url": f"{api_url(repo)}/tarball/{quote(it.name)}",
    }


def tag_json(repo: Repository, it: Tag) -> dict[str, Any]:
    """An annotated tag as `git/tags/{sha}` shows it."""
    return {
        "node_id": f"TA_{it.sha}",
        "sha": it.sha,
        "url": f"{api_url(repo)}/git/tags/{it.sha}",
        "tag": it.name,
        "message": it.message,
        "tagger": person_json(it.tagger),
        "object": {
            "sha": it.target,
            "type": it.target_kind,
            "url": f"{api_url(repo)}/git/{it.target_kind}s/{it.target}",
        },
        "verification": {
            "verified": False,
            "reason": "unsigned",
            "signature": None,
            "payload": None,
            "verified_at": None,
        },
    }


def status_json(repo: Repository, it: Row) -> dict[str, Any]:
    """A commit status."""
    return {
        "url": f"{api_url(repo)}/statuses/{it['sha']}",
        "avatar_url": "",
        "id": it["id"],
        "node_id": f"SC_{it['id']}",
        "state": it["state"],
        "description": it["description"],
        "target_url": it["target_url"],
        "context": it["context"],
        "created_at": it["created_at"],
        "updated_at": it["created_at"],
        "creator": payloads.user_json(payloads.LOGIN, root_url()),
    }


def latest_statuses(statuses: list[Row]) -> list[Row]:
    """The last status of each context, newest first; the case of a context does not matter."""
    found: dict[str, Row] = {}
    for row in statuses:
        found.setdefault(row["context"].casefold(), row)
    return list(found.values())


def combined_state(statuses: list[Row]) -> str:
    """The combined state of a commit's statuses, by GitHub's rule."""
    states = {row["state"] for row in latest_statuses(statuses)}
    if states & {"error", "failure"}:
        return "failure"
    return "pending" if not states or "pending" in states else "success"


def content_json(repo: Repository, sha: str, it: Entry, path: str) -> dict[str, Any]:
    """The entry of one path in `contents`; `with_bytes` adds a file's content."""
    kinds = {"tree": "dir", "commit": "submodule", "blob": "symlink" if it.mode == "120000" else "file"}
    kind, quoted = kinds[it.kind], quote(path)
    links = {
        "self": f"{api_url(repo)}/contents/{quoted}?ref={sha}",
        "git": f"{api_url(repo)}/git/{it.kind}s/{it.sha}",
        "html": f"{html_url(repo)}/{it.kind}/{sha}/{quoted}",
    }
    return {
        "type": kind,
        "name": path.rpartition("/")[2],
        "path": path,
        "sha": it.sha,
        "size": it.size or 0,
        "url": links["self"],
        "git_url": links["git"],
        "html_url": links["html"],
        "download_url": f"{html_url(repo)}/raw/{sha}/{quoted}" if it.kind == "blob" else None,
        "_links": links,
    }


def listed_content_json(repo: Repository, sha: str, it: Entry, path: str) -> dict[str, Any]:
    """An entry in the list of a directory, where GitHub calls a submodule a file for compatibility with old clients.

    See https://docs.github.com/rest/repos/contents#get-repository-content
    """
    shown = content_json(repo, sha, it, path)
    return {**shown, "type": "file"} if shown["type"] == "submodule" else shown


def with_bytes(shown: dict[str, Any], data: bytes) -> dict[str, Any]:
    """A file's entry with its content, which GitHub omits above one megabyte."""
    if shown["type"] == "symlink":
        return {**shown, "target": data.decode(errors="replace")}
    if len(data) > _ONE_MEGABYTE:
        return {**shown, "encoding": "none", "content": ""}
    return {**shown, "encoding": "base64", "content": base64_lines(data)}


def base64_lines(data: bytes) -> str:
    """Base64 in lines of 60 characters, as GitHub formats it."""
    text = base64.b64encode(data).decode()
    return "".join(f"{text[i : i + 60]}\n" for i in range(0, len(text), 60))


def tree_entry_json(repo: Repository, it: Entry) -> dict[str, Any]:
    """An entry of a tree as `git/trees/{sha}` lists it."""
    size = {} if it.size is None else {"size": it.size}
    url = f"{api_url(repo)}/git/{it.kind}s/{it.sha}"
    return {"path": it.path, "mode": it.mode, "type": it.kind, "sha": it.sha, **size, "url": url}


def hook_json(owner: Repository | str, it: Row) -> dict[str, Any]:
    """A webhook of a repository, or of the organization with this login."""
    of_organization = isinstance(owner, str)
    above = f"{root_url()}/api/v3/orgs/{owner}" if isinstance(owner, str) else api_url(owner)
    own = f"{above}/hooks/{it['id']}"
    response = {"code": None, "status": "unused", "message": None}
    return {
        "type": "Organization" if of_organization else "Repository",
        "id": it["id"],
        "name": "web",
        "active": it["active"],
        "events": it["events"],
        "config": {
            "content_type": it["content_type"],
            "insecure_ssl": "0",
            "url": it["url"],
            **({"secret": "********"} if it["secret"] else {}),
        },
        "created_at": it["created_at"],
        "updated_at": it["updated_at"],
        "url": own,
        "ping_url": f"{own}/pings",
        "deliveries_url": f"{own}/deliveries",
        **({} if of_organization else {"test_url": f"{own}/test", "last_response": response}),
    }
