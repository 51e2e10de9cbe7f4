"""The REST calls on pull requests and on what people say: comments on pull requests and on commits."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from sandbox.github import payloads, shapes
from sandbox.github.hub import Hub, Repository
from sandbox.github.lookup import Lookup
from sandbox.github.responses import body, decoded, invalid, not_found, paged, raw_rest, refuse, string
from sandbox.github.store import Row

_REPO = "/repos/<owner>/<name>"
_LONGEST = 65_536
APP_LOGIN = "deployer[bot]"  # whoever asks with an installation's token


def add_routes(pages: Blueprint, hub: Hub, look: Lookup) -> None:
    """Add `pulls`, `issues/.../comments` and `comments` below `/repos/{owner}/{repo}`."""
    _add_pulls(pages, hub, look)
    _add_comments(pages, hub, look)


def _add_pulls(pages: Blueprint, hub: Hub, look: Lookup) -> None:
    @pages.get(f"{_REPO}/pulls")
    def list_pulls(owner: str, name: str) -> Response:
        repo = look.repository(owner, name)
        state, head = request.args.get("state", "open"), request.args.get("head", "")
        rows = [
            row
            for row in hub.store.pulls(repo.id)[::-1]
            # as on GitHub, a head without its owner chooses nothing out
            if state in {row["state"], "all"} and (":" not in head or head == f"{repo.owner}:{row['head']}")
        ]
        return paged(rows, lambda it: pull(repo, look, it))

    @pages.post(f"{_REPO}/pulls")
    def create_pull(owner: str, name: str) -> Response:
        repo, data = look.repository(owner, name), body()
        head, base = string(data, "head").removeprefix(f"{repo.owner}:"), string(data, "base")
        known = {ref.name.removeprefix("refs/heads/") for ref in look.branches(repo)}
        for field, branch in (("head", head), ("base", base)):
            if branch not in known:
                invalid("PullRequest", field, f"{field} is invalid", "invalid")
        row = hub.store.add_pull(repo.id, head=head, base=base, title=string(data, "title"))
        answer = jsonify(pull(repo, look, row))
        answer.status_code = 201
        return answer

    @pages.get(f"{_REPO}/pulls/<int:number>")
    def get_pull(owner: str, name: str, number: int) -> Response:
        repo = look.repository(owner, name)
        return jsonify(pull(repo, look, hub.store.pull(repo.id, number) or not_found()))

    @pages.patch(f"{_REPO}/pulls/<int:number>")
    def edit_pull(owner: str, name: str, number: int) -> Response:
        repo, data = look.repository(owner, name), body()
        row = hub.store.pull(repo.id, number) or not_found()
        hub.store.update_pull(row["id"], **{k: str(data[k]) for k in ("state", "title") if k in data})
        return jsonify(pull(repo, look, hub.store.pull(repo.id, number) or not_found()))


def _add_comments(pages: Blueprint, hub: Hub, look: Lookup) -> None:
    @pages.get(f"{_REPO}/issues/<int:number>/comments")
    def list_issue_comments(owner: str, name: str, number: int) -> Response:
        repo = look.repository(owner, name)
        row = hub.store.pull(repo.id, number) or not_found()
        return paged(hub.store.comments(repo.id, f"pull {row['id']}"), lambda it: comment(repo, it))

    @pages.post(f"{_REPO}/issues/<int:number>/comments")
    def create_issue_comment(owner: str, name: str, number: int) -> Response:
        repo = look.repository(owner, name)
        row = hub.store.pull(repo.id, number) or not_found()
        return _said(hub, repo, f"pull {row['id']}")

    @pages.post(f"{_REPO}/commits/<sha>/comments")
    def create_commit_comment(owner: str, name: str, sha: str) -> Response:
        repo = look.repository(owner, name)
        if repo.git.kind(sha) != "commit":
            refuse(422, f"No commit found for SHA: {sha}")
        return _said(hub, repo, sha)

    @pages.patch(f"{_REPO}/issues/comments/<int:comment_id>")
    def edit_issue_comment(owner: str, name: str, comment_id: int) -> Response:
        return _edited(hub, look.repository(owner, name), comment_id, on_pull=True)

    @pages.patch(f"{_REPO}/comments/<int:comment_id>")
    def edit_commit_comment(owner: str, name: str, comment_id: int) -> Response:
        return _edited(hub, look.repository(owner, name), comment_id, on_pull=False)

    @pages.get("/app")
    def get_app() -> Response:
        return jsonify({"id": 1, "slug": APP_LOGIN.removesuffix("[bot]"), "name": "deployer"})


def commit_comments(hub: Hub, look: Lookup, repo: Repository) -> Response:
    """The comments on the commit that the path names."""
    sha = look.commit(repo, decoded(raw_rest("/commits/").removesuffix("/comments")))
    return paged(hub.store.comments(repo.id, sha), lambda it: comment(repo, it))


def _said(hub: Hub, repo: Repository, place: str) -> Response:
    if repo.archived:
        refuse(403, "Repository was archived so is read-only.")
    app = "ghs_" in request.headers.get("Authorization", "")
    row = hub.store.add_comment(repo.id, place, APP_LOGIN if app else payloads.LOGIN, _text())
    answer = jsonify(comment(repo, row))
    answer.status_code = 201
    return answer


def _edited(hub: Hub, repo: Repository, comment_id: int, *, on_pull: bool) -> Response:
    row = hub.store.comment(repo.id, comment_id)
    if row is None or row["place"].startswith("pull ") is not on_pull:
        not_found()
    return jsonify(comment(repo, hub.store.update_comment(comment_id, _text())))


def _text() -> str:
    text = string(body(), "body")
    if len(text) > _LONGEST:
        invalid("Comment", "body", f"body is too long (maximum is {_LONGEST} characters)")
    return text


def pull(repo: Repository, look: Lookup, it: Row) -> dict[str, Any]:
    """A pull request."""
    heads = {ref.name.removeprefix("refs/heads/"): ref.commit for ref in look.branches(repo)}

    def side(branch: str) -> dict[str, Any]:
        return {
            "label": f"{repo.owner}:{branch}",
            "ref": branch,
            "sha": heads.get(branch, ""),
            "repo": payloads.repository(repo, shapes.root()),
        }

    return {
        "url": f"{shapes.api(repo)}/pulls/{it['number']}",
        "issue_url": f"{shapes.api(repo)}/issues/{it['number']}",
        "id": it["id"],
        "number": it["number"],
        "html_url": f"{shapes.html(repo)}/pull/{it['number']}",
        "state": it["state"],
        "title": it["title"],
        "user": payloads.user(payloads.LOGIN, shapes.root()),
        "head": side(it["head"]),
        "base": side(it["base"]),
        "created_at": it["created_at"],
    }


def comment(repo: Repository, it: Row) -> dict[str, Any]:
    """A comment, whatever it is on."""
    kind = "issues/comments" if it["place"].startswith("pull ") else "comments"
    return {
        "url": f"{shapes.api(repo)}/{kind}/{it['id']}",
        "id": it["id"],
        "body": it["body"],
        "user": {**payloads.user(it["login"], shapes.root()), "login": it["login"]},
        "created_at": it["created_at"],
        "updated_at": it["updated_at"],
    }
