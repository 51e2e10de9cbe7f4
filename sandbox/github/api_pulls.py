"""The REST calls on pull requests or comments."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from sandbox.github import payloads, rest_json
from sandbox.github.hub import Hub, Repository
from sandbox.github.lookup import Lookup
from sandbox.github.responses import (
    decode_name,
    json_body,
    not_found,
    page_answer,
    raw_rest,
    refuse,
    refuse_field,
    required_string,
)
from sandbox.github.store import Row

_REPO = "/repos/<owner>/<name>"
_LONGEST = 65_536
APP_LOGIN = f"{payloads.APP_SLUG}[bot]"  # the author of comments that are written with an installation token


def add_routes(pages: Blueprint, hub: Hub, lookup: Lookup) -> None:
    """Add the routes `pulls`, `issues/.../comments` and `comments` below `/repos/{owner}/{repo}`."""
    _add_pulls(pages, hub, lookup)
    _add_comments(pages, hub, lookup)


def _add_pulls(pages: Blueprint, hub: Hub, lookup: Lookup) -> None:
    @pages.get(f"{_REPO}/pulls")
    def list_pulls(owner: str, name: str) -> Response:
        repo = lookup.find_repository(owner, name)
        state, head = request.args.get("state", "open"), request.args.get("head", "")
        rows = [
            row
            for row in hub.store.pulls(repo.id)[::-1]
            # as on GitHub, a head without an owner filters nothing
            if state in {row["state"], "all"} and (":" not in head or head == f"{repo.owner}:{row['head']}")
        ]
        return page_answer(rows, lambda it: pull_request_json(repo, lookup, it))

    @pages.post(f"{_REPO}/pulls")
    def create_pull(owner: str, name: str) -> Response:
        repo, data = lookup.find_repository(owner, name), json_body()
        head, base = (
            required_string(data, "head").removeprefix(f"{repo.owner}:"),
            required_string(data, "base"),
        )
        known = {ref.name.removeprefix("refs/heads/") for ref in lookup.list_branches(repo)}
        for field, branch in (("head", head), ("base", base)):
            if branch not in known:
                refuse_field("PullRequest", field, f"{field} is invalid", "invalid")
        row = hub.store.add_pull(repo.id, head=head, base=base, title=required_string(data, "title"))
        answer = jsonify(pull_request_json(repo, lookup, row))
        answer.status_code = 201
        return answer

    @pages.get(f"{_REPO}/pulls/<int:number>")
    def get_pull(owner: str, name: str, number: int) -> Response:
        repo = lookup.find_repository(owner, name)
        return jsonify(pull_request_json(repo, lookup, hub.store.pull(repo.id, number) or not_found()))

    @pages.patch(f"{_REPO}/pulls/<int:number>")
    def edit_pull(owner: str, name: str, number: int) -> Response:
        repo, data = lookup.find_repository(owner, name), json_body()
        row = hub.store.pull(repo.id, number) or not_found()
        hub.store.update_pull(row["id"], **{k: str(data[k]) for k in ("state", "title") if k in data})
        return jsonify(pull_request_json(repo, lookup, hub.store.pull(repo.id, number) or not_found()))


def _add_comments(pages: Blueprint, hub: Hub, lookup: Lookup) -> None:
    @pages.get(f"{_REPO}/issues/<int:number>/comments")
    def list_issue_comments(owner: str, name: str, number: int) -> Response:
        repo = lookup.find_repository(owner, name)
        row = hub.store.pull(repo.id, number) or not_found()
        return page_answer(
            hub.store.comments(repo.id, f"pull {row['id']}"), lambda it: comment_json(repo, it)
        )

    @pages.post(f"{_REPO}/issues/<int:number>/comments")
    def create_issue_comment(owner: str, name: str, number: int) -> Response:
        repo = lookup.find_repository(owner, name)
        row = hub.store.pull(repo.id, number) or not_found()
        return _create_comment(hub, repo, f"pull {row['id']}")

    @pages.post(f"{_REPO}/commits/<sha>/comments")
    def create_commit_comment(owner: str, name: str, sha: str) -> Response:
        repo = lookup.find_repository(owner, name)
        if repo.git.object_kind(sha) != "commit":
            refuse(422, f"No commit found for SHA: {sha}")
        return _create_comment(hub, repo, sha)

    @pages.patch(f"{_REPO}/issues/comments/<int:comment_id>")
    def edit_issue_comment(owner: str, name: str, comment_id: int) -> Response:
        return _edit_comment(hub, lookup.find_repository(owner, name), comment_id, on_pull=True)

    @pages.patch(f"{_REPO}/comments/<int:comment_id>")
    def edit_commit_comment(owner: str, name: str, comment_id: int) -> Response:
        return _edit_comment(hub, lookup.find_repository(owner, name), comment_id, on_pull=False)


def commit_comments(hub: Hub, lookup: Lookup, repo: Repository) -> Response:
    """The comments on the commit that the path names."""
    sha = lookup.require_commit(repo, decode_name(raw_rest("/commits/").removesuffix("/comments")))
    return page_answer(hub.store.comments(repo.id, sha), lambda it: comment_json(repo, it))


def _create_comment(hub: Hub, repo: Repository, place: str) -> Response:
    if repo.archived:
        refuse(403, "Repository was archived so is read-only.")
    app = "ghs_" in request.headers.get("Authorization", "")
    row = hub.store.add_comment(repo.id, place, APP_LOGIN if app else payloads.LOGIN, _comment_text())
    answer = jsonify(comment_json(repo, row))
    answer.status_code = 201
    return answer


def _edit_comment(hub: Hub, repo: Repository, comment_id: int, *, on_pull: bool) -> Response:
    row = hub.store.comment(repo.id, comment_id)
    if row is None or row["place"].startswith("pull ") is not on_pull:
        not_found()
    return jsonify(comment_json(repo, hub.store.update_comment(comment_id, _comment_text())))


def _comment_text() -> str:
    text = required_string(json_body(), "body")
    if len(text) > _LONGEST:
        refuse_field("Comment", "body", f"body is too long (maximum is {_LONGEST} characters)")
    return text


def pull_request_json(repo: Repository, lookup: Lookup, it: Row) -> dict[str, Any]:
    """A pull request."""
    heads = {ref.name.removeprefix("refs/heads/"): ref.commit for ref in lookup.list_branches(repo)}

    def branch_json(branch: str) -> dict[str, Any]:
        return {
            "label": f"{repo.owner}:{branch}",
            "ref": branch,
            "sha": heads.get(branch, ""),
            "repo": payloads.repository_json(repo, rest_json.root_url()),
            "user": payloads.user_json(repo.owner, rest_json.root_url()),
        }

    own, page = (
        f"{rest_json.api_url(repo)}/pulls/{it['number']}",
        f"{rest_json.html_url(repo)}/pull/{it['number']}",
    )
    issue = f"{rest_json.api_url(repo)}/issues/{it['number']}"
    addresses = {
        "comments": f"{issue}/comments",
        "commits": f"{own}/commits",
        "review_comment": f"{rest_json.api_url(repo)}/pulls/comments{{/number}}",
        "review_comments": f"{own}/comments",
        "statuses": f"{rest_json.api_url(repo)}/statuses/{heads.get(it['head'], '')}",
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
        "updated_at": it["created_at"],
        "url": f"{rest_json.api_url(repo)}/pulls/{it['number']}",
        "issue_url": f"{rest_json.api_url(repo)}/issues/{it['number']}",
        "id": it["id"],
        "number": it["number"],
        "html_url": f"{rest_json.html_url(repo)}/pull/{it['number']}",
        "state": it["state"],
        "title": it["title"],
        "user": payloads.user_json(payloads.LOGIN, rest_json.root_url()),
        "head": branch_json(it["head"]),
        "base": branch_json(it["base"]),
        "created_at": it["created_at"],
    }


def comment_json(repo: Repository, it: Row) -> dict[str, Any]:
    """A comment on a pull request or commit."""
    on_pull = it["place"].startswith("pull ")
    kind = "issues/comments" if on_pull else "comments"
    more: dict[str, Any] = {"commit_id": it["place"], "line": None, "path": None, "position": None}
    if on_pull:
        more = {"issue_url": f"{rest_json.api_url(repo)}/issues/{it['place'].removeprefix('pull ')}"}
    return {
        **more,
        "node_id": f"C_{it['id']}",
        "html_url": f"{rest_json.html_url(repo)}#comment-{it['id']}",
        "author_association": "OWNER",
        "url": f"{rest_json.api_url(repo)}/{kind}/{it['id']}",
        "id": it["id"],
        "body": it["body"],
        "user": {**payloads.user_json(it["login"], rest_json.root_url()), "login": it["login"]},
        "created_at": it["created_at"],
        "updated_at": it["updated_at"],
    }
