"""The REST calls on pull requests or comments."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, g, jsonify, request

from sandbox.github import payloads, pull_requests, rest_json
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
            if state in {row["state"], "all"}
            and (":" not in head or head == f"{row['fork'].partition('/')[0] or repo.owner}:{row['head']}")
        ]
        if request.args.get("sort") == "updated":
            rows.sort(key=lambda row: str(row["updated_at"] or row["created_at"]), reverse=True)
        if request.args.get("direction") == "asc":
            rows.reverse()
        return page_answer(
            rows, lambda it: pull_requests.pull_request_json(hub, repo, it, rest_json.root_url())
        )

    @pages.post(f"{_REPO}/pulls")
    def create_pull(owner: str, name: str) -> Response:
        repo, data = lookup.find_repository(owner, name), json_body()
        base, title = required_string(data, "base"), required_string(data, "title")
        head = pull_requests.find_head(hub, repo, required_string(data, "head"))
        if head is None:
            refuse_field("PullRequest", "head", "head is invalid", "invalid")
        if f"refs/heads/{base}" not in hub.refs(repo):
            refuse_field("PullRequest", "base", "base is invalid", "invalid")
        row = pull_requests.open_pull(hub, repo, head, base, title)
        answer = jsonify(pull_requests.pull_request_json(hub, repo, row, rest_json.root_url()))
        answer.status_code = 201
        return answer

    @pages.get(f"{_REPO}/pulls/<int:number>")
    def get_pull(owner: str, name: str, number: int) -> Response:
        repo = lookup.find_repository(owner, name)
        row = hub.store.pull(repo.id, number) or not_found()
        return jsonify(pull_requests.pull_request_json(hub, repo, row, rest_json.root_url()))

    @pages.patch(f"{_REPO}/pulls/<int:number>")
    def edit_pull(owner: str, name: str, number: int) -> Response:
        repo, data = lookup.find_repository(owner, name), json_body()
        row = hub.store.pull(repo.id, number) or not_found()
        if data.get("state", "open") not in {"open", "closed"}:
            refuse_field("PullRequest", "state", "state is not included in the list")
        gone = not row["fork"] and f"refs/heads/{row['head']}" not in hub.refs(repo)
        if gone and data.get("state") == "open" != row["state"]:
            text = f"state cannot be changed. The {row['head']} branch has been deleted."
            refuse_field("PullRequest", "state", text)
        hub.store.update_pull(row["id"], **{k: str(data[k]) for k in ("state", "title") if k in data})
        changed = hub.store.pull(repo.id, number) or not_found()
        if changed["state"] != row["state"]:
            changed = pull_requests.change_state(hub, repo, changed)
        return jsonify(pull_requests.pull_request_json(hub, repo, changed, rest_json.root_url()))


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

    @pages.delete(f"{_REPO}/issues/comments/<int:comment_id>")
    def delete_issue_comment(owner: str, name: str, comment_id: int) -> Response:
        return _delete_comment(hub, lookup.find_repository(owner, name), comment_id, on_pull=True)

    @pages.get(f"{_REPO}/issues/comments/<int:comment_id>")
    def get_issue_comment(owner: str, name: str, comment_id: int) -> Response:
        repo = lookup.find_repository(owner, name)
        return jsonify(comment_json(repo, _find_comment(hub, repo, comment_id, on_pull=True)))


def commit_comments(hub: Hub, lookup: Lookup, repo: Repository) -> Response:
    """The comments on the commit that the path names."""
    sha = lookup.require_commit(repo, decode_name(raw_rest("/commits/").removesuffix("/comments")))
    return page_answer(hub.store.comments(repo.id, sha), lambda it: comment_json(repo, it))


def _create_comment(hub: Hub, repo: Repository, place: str) -> Response:
    if repo.archived:
        refuse(403, "Repository was archived so is read-only.")
    row = hub.store.add_comment(repo.id, place, _login(), _comment_text())
    answer = jsonify(comment_json(repo, row))
    answer.status_code = 201
    return answer


def _edit_comment(hub: Hub, repo: Repository, comment_id: int, *, on_pull: bool) -> Response:
    _find_comment(hub, repo, comment_id, on_pull=on_pull)
    return jsonify(comment_json(repo, hub.store.update_comment(comment_id, _comment_text())))


def _delete_comment(hub: Hub, repo: Repository, comment_id: int, *, on_pull: bool) -> Response:
    _find_comment(hub, repo, comment_id, on_pull=on_pull)
    hub.store.delete_comment(comment_id)
    return Response(status=204)


def _find_comment(hub: Hub, repo: Repository, comment_id: int, *, on_pull: bool) -> Row:
    row = hub.store.comment(repo.id, comment_id)
    if row is None or row["place"].startswith("pull ") is not on_pull:
        not_found()
    return row


def _login() -> str:
    """The login of who sends the request: the App's with an installation token, otherwise the person's."""
    if "ghs_" in request.headers.get("Authorization", ""):
        return APP_LOGIN
    return str(g.person.login) if "person" in g else payloads.LOGIN


def _comment_text() -> str:
    text = required_string(json_body(), "body")
    if len(text) > _LONGEST:
        refuse_field("Comment", "body", f"body is too long (maximum is {_LONGEST} characters)")
    return text


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
