"""The REST calls on repositories, branches, commits, statuses and contents."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, jsonify, request

from sandbox.github import api_branches, payloads, shapes
from sandbox.github.api_talk import commit_comments
from sandbox.github.git import GitError
from sandbox.github.hub import BadNameError, Hub, Repository
from sandbox.github.lookup import Lookup
from sandbox.github.responses import (
    body,
    decoded,
    error,
    invalid,
    not_found,
    paged,
    raw_rest,
    refuse,
    string,
)

_REPO = "/repos/<owner>/<name>"
_STATES = ("error", "failure", "pending", "success")
_MOST_STATUSES = 1000


def add_routes(pages: Blueprint, hub: Hub, look: Lookup) -> None:
    """Add what lies directly below `/repos/{owner}/{repo}`."""
    _add_repository(pages, hub, look)
    api_branches.add_routes(pages, hub, look)
    _add_commits(pages, hub, look)
    _add_statuses(pages, hub, look)


def _add_repository(pages: Blueprint, hub: Hub, look: Lookup) -> None:

    @pages.get(_REPO)
    def get_repository(owner: str, name: str) -> Response:
        return jsonify(payloads.repository(look.repository(owner, name), shapes.root()))

    @pages.patch(_REPO)
    def edit_repository(owner: str, name: str) -> Response:
        repo = look.repository(owner, name)
        data = body()
        for field, action in (("default_branch", "default_branch"), ("name", "rename")):
            if field in data:
                try:
                    hub.change(repo, action, str(data[field]))
                except BadNameError as problem:
                    invalid("Repository", field, str(problem), "invalid")
        for field, on, off in (
            ("archived", "archive", "unarchive"),
            ("private", "privatize", "publicize"),
        ):
            if field in data:
                hub.change(repo, on if data[field] else off)
        return jsonify(payloads.repository(repo, shapes.root()))

    @pages.get(f"{_REPO}/tags")
    def list_tags(owner: str, name: str) -> Response:
        repo = look.repository(owner, name)
        return paged(look.tags(repo), lambda it: shapes.listed_tag(repo, it))

    @pages.get(f"{_REPO}/contents")
    @pages.get(f"{_REPO}/contents/")
    @pages.get(f"{_REPO}/contents/<path:path>")
    def get_contents(owner: str, name: str, path: str = "") -> Response:
        repo = look.repository(owner, name)
        ref = request.args.get("ref")
        sha = look.resolve(repo, ref or "HEAD")
        if sha is None:
            return error(404, f"No commit found for the ref {ref}" if ref else "This repository is empty.")
        return _contents(repo, sha, path.strip("/"))


def _add_commits(pages: Blueprint, hub: Hub, look: Lookup) -> None:
    @pages.get(f"{_REPO}/commits")
    def list_commits(owner: str, name: str) -> Response:
        repo = look.repository(owner, name)
        sha = look.commit(repo, request.args.get("sha") or "HEAD")
        limits = [f"--{k}={v}" for k in ("since", "until", "author") if (v := request.args.get(k))]
        path = request.args.get("path")
        found = repo.git.commits(*limits, sha, "--", *([f":(literal){path}"] if path else []))
        return paged(found, lambda it: shapes.commit(repo, it))

    @pages.get(f"{_REPO}/commits/<path:_ref>")
    def get_commit(owner: str, name: str, _ref: str) -> Response:
        # By the raw path: commits/x/status asks for the status of x, commits/x%2Fstatus for that branch.
        repo = look.repository(owner, name)
        wanted = raw_rest("/commits/")
        if wanted.endswith("/status"):
            return _combined(hub, repo, look.commit(repo, decoded(wanted.removesuffix("/status"))))
        if wanted.endswith("/statuses"):
            return _statuses(hub, repo, look.commit(repo, decoded(wanted.removesuffix("/statuses"))))
        if wanted.endswith("/comments"):
            return commit_comments(hub, look, repo)
        sha = look.commit(repo, decoded(wanted))
        if request.accept_mimetypes.best in {"application/vnd.github.sha", "application/vnd.github.v3.sha"}:
            return Response(sha, mimetype="application/vnd.github.sha")
        return jsonify(shapes.full_commit(repo, repo.git.commit(sha)))

    @pages.get(f"{_REPO}/compare/<path:_basehead>")
    def compare(owner: str, name: str, _basehead: str) -> Response:
        repo = look.repository(owner, name)
        left, dots, right = raw_rest("/compare/").partition("...")
        base, head = look.resolve(repo, decoded(left)), look.resolve(repo, decoded(right))
        if not dots or base is None or head is None:
            not_found()
        return _comparison(repo, base, head, (decoded(left), decoded(right)))

    @pages.post(f"{_REPO}/merges")
    def merge(owner: str, name: str) -> Response:
        repo = look.repository(owner, name)
        data = body()
        return _merge(hub, look, repo, string(data, "base"), string(data, "head"), data.get("commit_message"))


def _add_statuses(pages: Blueprint, hub: Hub, look: Lookup) -> None:
    @pages.get(f"{_REPO}/statuses/<path:_ref>")
    def list_statuses(owner: str, name: str, _ref: str) -> Response:
        repo = look.repository(owner, name)
        return _statuses(hub, repo, look.commit(repo, decoded(raw_rest("/statuses/"))))

    @pages.post(f"{_REPO}/statuses/<sha>")
    def create_status(owner: str, name: str, sha: str) -> Response:
        repo = look.repository(owner, name)
        _refuse_archived(repo)
        if repo.git.kind(sha) != "commit":
            refuse(422, f"No commit found for SHA: {sha}")
        values = _status_values(body())
        with repo.lock:
            same = [
                row
                for row in hub.store.statuses(repo.id, sha)
                if row["context"].casefold() == values["context"].casefold()
            ]
            if len(same) >= _MOST_STATUSES:
                most = "This SHA and context has reached the maximum number of statuses."
                invalid("Status", "context", most)
            row = hub.store.add_status(repo.id, sha, **values)
        answer = jsonify(shapes.status(repo, row))
        answer.status_code = 201
        return answer


def _refuse_archived(repo: Repository) -> None:
    if repo.archived:
        refuse(403, "Repository was archived so is read-only.")


def _status_values(data: dict[str, Any]) -> dict[str, Any]:
    state, description = data.get("state"), data.get("description")
    context, target = data.get("context") or "default", data.get("target_url") or None
    if state not in _STATES:
        invalid("Status", "state", "State is not included in the list")
    if description is not None and (not isinstance(description, str) or len(description) > 140):
        invalid("Status", "description", "description is too long (maximum is 140 characters)")
    if not isinstance(context, str) or len(context) > 255:
        invalid("Status", "context", "context is too long (maximum is 255 characters)")
    if target is not None and (
        not isinstance(target, str) or urlsplit(target).scheme not in {"http", "https"}
    ):
        invalid("Status", "target_url", "target_url must use http(s) scheme")
    return {"state": state, "description": description, "context": context, "target_url": target}


def _combined(hub: Hub, repo: Repository, sha: str) -> Response:
    rows = hub.store.statuses(repo.id, sha)
    latest = shapes.latest(rows)

    def wrap(shown: list[Any]) -> dict[str, Any]:
        return {
            "state": shapes.combined_state(rows),
            "statuses": shown,
            "sha": sha,
            "total_count": len(latest),
            "repository": payloads.repository(repo, shapes.root()),
            "commit_url": f"{shapes.api(repo)}/commits/{sha}",
            "url": f"{shapes.api(repo)}/commits/{sha}/status",
        }

    return paged(latest, lambda it: shapes.status(repo, it), wrap)


def _statuses(hub: Hub, repo: Repository, sha: str) -> Response:
    return paged(hub.store.statuses(repo.id, sha), lambda it: shapes.status(repo, it))


def _contents(repo: Repository, sha: str, path: str) -> Response:
    if not path:
        entries = repo.git.tree(sha)
        return jsonify([shapes.listed_content(repo, sha, it, it.path) for it in entries])
    found = repo.git.entry(sha, path)
    if found is None:
        not_found()
    if found.kind == "tree":
        entries = repo.git.tree(found.sha)
        return jsonify([shapes.listed_content(repo, sha, it, f"{path}/{it.path}") for it in entries])
    if found.kind != "blob":
        return jsonify(shapes.content(repo, sha, found, path))
    data = repo.git.blob(found.sha)
    if "raw" in (request.accept_mimetypes.best or ""):
        return Response(data, mimetype="application/vnd.github.raw")
    return jsonify(shapes.with_bytes(shapes.content(repo, sha, found, path), data))


def _comparison(repo: Repository, base: str, head: str, names: tuple[str, str]) -> Response:
    middle = repo.git.merge_base(base, head)
    if middle is None:
        refuse(404, f"No common ancestor between {names[0]} and {names[1]}.")
    first = request.args.get("page", "1") in {"", "0", "1"}  # the files are on the first page only
    ahead, behind = repo.git.count(f"{base}..{head}"), repo.git.count(f"{head}..{base}")
    status = {(False, False): "identical", (True, False): "ahead", (False, True): "behind"}
    commits = repo.git.commits("--max-count=250", "--reverse", f"{base}..{head}", "--")
    return jsonify(
        {
            "url": f"{shapes.api(repo)}/compare/{base}...{head}",
            "html_url": f"{shapes.html(repo)}/compare/{base}...{head}",
            "base_commit": shapes.commit(repo, repo.git.commit(base)),
            "merge_base_commit": shapes.commit(repo, repo.git.commit(middle)),
            "status": status.get((ahead > 0, behind > 0), "diverged"),
            "ahead_by": ahead,
            "behind_by": behind,
            "total_commits": ahead,
            "commits": [shapes.commit(repo, it) for it in commits],
            "files": [shapes.file(repo, head, it) for it in repo.git.diff(middle, head)][:300]
            if first
            else [],
        }
    )


def _merge(hub: Hub, look: Lookup, repo: Repository, base: str, head: str, message: Any) -> Response:
    with hub.changing(repo):
        refs = repo.git.refs()  # as they are: a write never works on a stale read
        into = refs.get(f"refs/heads/{base}")
        if into is None:
            refuse(404, "Base does not exist")
        source = look.resolve(repo, head, refs) or refuse(404, "Head does not exist")
        if repo.git.is_ancestor(source, into.commit):
            return Response(status=204)
        try:
            tree = repo.git.merge_tree(into.commit, source)
        except GitError as problem:
            refuse(409, str(problem))
        if tree is None:
            refuse(409, "Merge conflict")
        text = message if isinstance(message, str) and message else f"Merge {head} into {base}"
        sha = repo.git.commit_tree(tree, [into.commit, source], text)
        repo.git.update_ref(into.name, sha, into.sha)
    answer = jsonify(shapes.commit(repo, repo.git.commit(sha)))
    answer.status_code = 201
    return answer
