"""Pull requests: their JSON, and the events that they send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.github import payloads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sandbox.github.git import Ref
    from sandbox.github.hub import Hub, Repository
    from sandbox.github.store import Row


def find_head(hub: Hub, repo: Repository, head: str) -> tuple[Repository, str] | None:
    """The repository and branch that `branch` or `owner:branch` names; None if there is none.

    A fork is the other owner's repository of the same name.
    """
    owner, _, branch = head.rpartition(":")
    found = repo if owner.lower() in {"", repo.owner.lower()} else hub.get(f"{owner}/{repo.name}")
    return (found, branch) if found and f"refs/heads/{branch}" in hub.refs(found) else None


def open_pull(hub: Hub, repo: Repository, head: tuple[Repository, str], base: str, title: str) -> Row:
    """Open a pull request, and send its event."""
    source, branch = head
    fork = "" if source is repo else source.full_name
    sha = source.git.refs()[f"refs/heads/{branch}"].commit
    row = hub.store.add_pull(repo.id, head=branch, base=base, title=title, fork=fork, sha=sha)
    _fetch_head(hub, repo, row)
    send_event(hub, repo, row, "opened")
    return row


def change_state(hub: Hub, repo: Repository, row: Row) -> Row:
    """Send the event of a pull request that was closed or reopened; a reopened one has the present head."""
    source = hub.get(row["fork"]) if row["fork"] else repo
    head = source.git.refs().get(f"refs/heads/{row['head']}") if source else None
    if row["state"] == "open" and head:
        hub.store.update_pull(row["id"], sha=head.commit)
        row = hub.store.pull(repo.id, row["number"]) or row
        _fetch_head(hub, repo, row)
    send_event(hub, repo, row, "closed" if row["state"] == "closed" else "reopened")
    return row


def announce_moves(hub: Hub, source: Repository, before: Mapping[str, Ref], after: Mapping[str, Ref]) -> None:
    """Send the event of each open pull request whose branch has moved, here or in a repository that has forks."""
    for row in hub.store.open_pulls_from(source.id, source.full_name):
        name = f"refs/heads/{row['head']}"
        repo = hub.get(hub.store.name_by_id(row["repository_id"]) or "")
        old, new = before.get(name), after.get(name)
        if repo and old and not new:  # the deletion of its branch closes a pull request
            hub.store.update_pull(row["id"], state="closed")
            change_state(hub, repo, hub.store.pull(repo.id, row["number"]) or row)
        if repo and old and new and old.commit != new.commit:
            hub.store.update_pull(row["id"], sha=new.commit)
            moved = hub.store.pull(repo.id, row["number"]) or row
            _fetch_head(hub, repo, moved)
            send_event(hub, repo, moved, "synchronize", before=old.commit, after=new.commit)


def _fetch_head(hub: Hub, repo: Repository, row: Row) -> None:
    """Fetch the commit of a fork, as GitHub does, so that it can have a status in the repository."""
    if fork := hub.get(row["fork"]) if row["fork"] else None:
        refs = f"+refs/heads/{row['head']}:refs/pull/{row['number']}/head"
        repo.git.run("fetch", "--quiet", str(fork.git.path.resolve()), refs)


def send_event(hub: Hub, repo: Repository, row: Row, action: str, **more: Any) -> None:
    """Send the event of a change of a pull request."""
    payload = {
        "action": action,
        "number": row["number"],
        **more,
        "pull_request": {
            **pull_request_json(hub, repo, row, hub.url),
            **_COUNTS,
            "draft": False,
            "merged": False,
            "mergeable": None,
        },
        "repository": payloads.repository_json(repo, hub.url),
        "sender": payloads.user_json(payloads.LOGIN, hub.url),
    }
    hub.send_events(repo, [("pull_request", payload)])


_COUNTS = dict.fromkeys(
    ("additions", "changed_files", "comments", "commits", "deletions", "review_comments"), 0
) | {
    "maintainer_can_modify": False,
    "mergeable_state": "unknown",
    "merged_by": None,
    "rebaseable": None,
}


def pull_request_json(hub: Hub, repo: Repository, it: Row, root: str) -> dict[str, Any]:
    """A pull request."""
    source = hub.get(it["fork"]) if it["fork"] else repo
    base = hub.refs(repo).get(f"refs/heads/{it['base']}")
    head = hub.refs(source).get(f"refs/heads/{it['head']}") if source else None
    sha = it["sha"] or (head.commit if head else "")  # an earlier version stored none
    owner = it["fork"].partition("/")[0] or repo.owner

    def branch_json(of: Repository | None, login: str, branch: str, sha: str) -> dict[str, Any]:
        return {
            "label": f"{login}:{branch}",
            "ref": branch,
            "sha": sha,
            "repo": payloads.repository_json(of, root) if of else None,
            "user": payloads.user_json(login, root),
        }

    api, html = f"{root}/api/v3/repos/{repo.full_name}", f"{root}/{repo.full_name}"
    own, page, issue = (
        f"{api}/pulls/{it['number']}",
        f"{html}/pull/{it['number']}",
        f"{api}/issues/{it['number']}",
    )
    addresses = {
        "comments": f"{issue}/comments",
        "commits": f"{own}/commits",
        "review_comment": f"{api}/pulls/comments{{/number}}",
        "review_comments": f"{own}/comments",
        "statuses": f"{api}/statuses/{sha}",
    }
    nothing = ("assignee", "auto_merge", "body", "closed_at", "merge_commit_sha", "merged_at", "milestone")
    return {
        **{f"{name}_url": address for name, address in addresses.items()},
        **dict.fromkeys(nothing),
        "_links": {
            name: {"href": address}
            for name, address in {**addresses, "self": own, "html": page, "issue": issue}.items()
        },
        "node_id": f"PR_{it['id']}",
        "diff_url": f"{page}.diff",
        "patch_url": f"{page}.patch",
        "labels": [],
        "locked": False,
        "draft": False,
        "author_association": "OWNER",
        "updated_at": it["updated_at"] or it["created_at"],
        "url": own,
        "issue_url": issue,
        "id": it["id"],
        "number": it["number"],
        "html_url": page,
        "state": it["state"],
        "title": it["title"],
        "user": payloads.user_json(payloads.LOGIN, root),
        "head": branch_json(source, owner, it["head"], sha),
        "base": branch_json(repo, repo.owner, it["base"], base.commit if base else ""),
        "created_at": it["created_at"],
    }
