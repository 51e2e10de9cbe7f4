"""The REST calls on a repository: its metadata, commits, statuses, contents."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, g, jsonify, request

from sandbox.github import api_branches, payloads, rest_json
from sandbox.github.api_pulls import commit_comments
from sandbox.github.git import GitError
from sandbox.github.hub import BadNameError, Hub, Repository
from sandbox.github.lookup import Lookup
from sandbox.github.people import OWNER
from sandbox.github.responses import (
    decode_name,
    error_answer,
    json_body,
    not_found,
    page_answer,
    raw_rest,
    refuse,
    refuse_field,
    required_string,
)

_REPO = "/repos/<owner>/<name>"
_STATES = ("error", "failure", "pending", "success")
_MOST_STATUSES = 1000


def add_routes(pages: Blueprint, hub: Hub, lookup: Lookup) -> None:
    """Add the routes directly below `/repos/{owner}/{repo}`."""
    _add_repository(pages, hub, lookup)
    api_branches.add_routes(pages, hub, lookup)
    _add_commits(pages, hub, lookup)
    _add_statuses(pages, hub, lookup)


def _add_repository(pages: Blueprint, hub: Hub, lookup: Lookup) -> None:

    @pages.get(_REPO)
    def get_repository(owner: str, name: str) -> Response:
        shown = payloads.repository_json(lookup.find_repository(owner, name), rest_json.root_url())
        return jsonify({**shown, "permissions": g.get("person", OWNER).permissions})

    @pages.patch(_REPO)
    def edit_repository(owner: str, name: str) -> Response:
        repo = lookup.find_repository(owner, name)
        data = json_body()
        for field, action in (("default_branch", "default_branch"), ("name", "rename")):
            if field in data:
                try:
                    hub.change_repository(repo, action, str(data[field]))
                except BadNameError as problem:
                    refuse_field("Repository", field, str(problem), "invalid")
        for field, on, off in (
            ("archived", "archive", "unarchive"),
            ("private", "privatize", "publicize"),
        ):
            if field in data:
                hub.change_repository(repo, on if data[field] else off)
        return jsonify(payloads.repository_json(repo, rest_json.root_url()))

    @pages.get(f"{_REPO}/tags")
    def list_tags(owner: str, name: str) -> Response:
        repo = lookup.find_repository(owner, name)
        return page_answer(lookup.list_tags(repo), lambda it: rest_json.listed_tag_json(repo, it))

    @pages.get(f"{_REPO}/contents")
    @pages.get(f"{_REPO}/contents/")
    @pages.get(f"{_REPO}/contents/<path:path>")
    def get_contents(owner: str, name: str, path: str = "") -> Response:
        repo = lookup.find_repository(owner, name)
        ref = request.args.get("ref")
        sha = lookup.resolve_commit(repo, ref or "HEAD")
        if sha is None:
            return error_answer(
                404, f"No commit found for the ref {ref}" if ref else "This repository is empty."
            )
        return _contents_answer(repo, sha, path.strip("/"))


def _add_commits(pages: Blueprint, hub: Hub, lookup: Lookup) -> None:
    @pages.get(f"{_REPO}/commits")
    def list_commits(owner: str, name: str) -> Response:
        repo = lookup.find_repository(owner, name)
        sha = lookup.require_commit(repo, request.args.get("sha") or "HEAD")
        limits = [f"--{k}={v}" for k in ("since", "until", "author") if (v := request.args.get(k))]
        path = request.args.get("path")
        found = repo.git.list_commits(*limits, sha, "--", *([f":(literal){path}"] if path else []))
        return page_answer(found, lambda it: rest_json.commit_json(repo, it))

    @pages.get(f"{_REPO}/commits/<path:_ref>")
    def get_commit(owner: str, name: str, _ref: str) -> Response:
        # The raw path is read: commits/x/status means the status of x, but commits/x%2Fstatus a branch of that name.
        repo = lookup.find_repository(owner, name)
        wanted = raw_rest("/commits/")
        if wanted.endswith("/status"):
            return _combined_status(
                hub, repo, lookup.require_commit(repo, decode_name(wanted.removesuffix("/status")))
            )
        if wanted.endswith("/statuses"):
            return _list_statuses(
                hub, repo, lookup.require_commit(repo, decode_name(wanted.removesuffix("/statuses")))
            )
        if wanted.endswith("/comments"):
            return commit_comments(hub, lookup, repo)
        sha = lookup.require_commit(repo, decode_name(wanted))
        if request.accept_mimetypes.best in {"application/vnd.github.sha", "application/vnd.github.v3.sha"}:
            return Response(sha, mimetype="application/vnd.github.sha")
        return jsonify(rest_json.full_commit_json(repo, repo.git.read_commit(sha)))

    @pages.get(f"{_REPO}/compare/<path:_basehead>")
    def compare_commits(owner: str, name: str, _basehead: str) -> Response:
        repo = lookup.find_repository(owner, name)
        left, dots, right = raw_rest("/compare/").partition("...")
        base, head = (
            lookup.resolve_commit(repo, decode_name(left)),
            lookup.resolve_commit(repo, decode_name(right)),
        )
        if not dots or base is None or head is None:
            not_found()
        return _comparison_answer(repo, base, head, (decode_name(left), decode_name(right)))

    @pages.post(f"{_REPO}/merges")
    def merge_branches(owner: str, name: str) -> Response:
        repo = lookup.find_repository(owner, name)
        data = json_body()
        return _merge_branches(
            hub,
            lookup,
            repo,
            required_string(data, "base"),
            required_string(data, "head"),
            data.get("commit_message"),
        )


def _add_statuses(pages: Blueprint, hub: Hub, lookup: Lookup) -> None:
    @pages.get(f"{_REPO}/statuses/<path:_ref>")
    def list_statuses(owner: str, name: str, _ref: str) -> Response:
        repo = lookup.find_repository(owner, name)
        return _list_statuses(hub, repo, lookup.require_commit(repo, decode_name(raw_rest("/statuses/"))))

    @pages.post(f"{_REPO}/statuses/<sha>")
    def create_status(owner: str, name: str, sha: str) -> Response:
        repo = lookup.find_repository(owner, name)
        _refuse_archived(repo)
        if repo.git.object_kind(sha) != "commit":
            refuse(422, f"No commit found for SHA: {sha}")
        values = _status_values(json_body())
        with repo.lock:
            same = [
                row
                for row in hub.store.statuses(repo.id, sha)
                if row["context"].casefold() == values["context"].casefold()
            ]
            if len(same) >= _MOST_STATUSES:
                most = "This SHA and context has reached the maximum number of statuses."
                refuse_field("Status", "context", most)
            row = hub.store.add_status(repo.id, sha, **values)
        answer = jsonify(rest_json.status_json(repo, row))
        answer.status_code = 201
        return answer


def _refuse_archived(repo: Repository) -> None:
    if repo.archived:
        refuse(403, "Repository was archived so is read-only.")


def _status_values(data: dict[str, Any]) -> dict[str, Any]:
    state, description = data.get("state"), data.get("description")
    context, target = data.get("context") or "default", data.get("target_url") or None
    if state not in _STATES:
        refuse_field("Status", "state", "State is not included in the list")
    if description is not None and (not isinstance(description, str) or len(description) > 140):
        refuse_field("Status", "description", "description is too long (maximum is 140 characters)")
    if not isinstance(context, str) or len(context) > 255:
        refuse_field("Status", "context", "context is too long (maximum is 255 characters)")
    if target is not None and (
        not isinstance(target, str) or urlsplit(target).scheme not in {"http", "https"}
    ):
        refuse_field("Status", "target_url", "target_url must use http(s) scheme")
    return {"state": state, "description": description, "context": context, "target_url": target}


def _combined_status(hub: Hub, repo: Repository, sha: str) -> Response:
    rows = hub.store.statuses(repo.id, sha)
    latest = rest_json.latest_statuses(rows)

    def with_combined_state(shown: list[Any]) -> dict[str, Any]:
        return {
            "state": rest_json.combined_state(rows),
            "statuses": shown,
            "sha": sha,
            "total_count": len(latest),
            "repository": payloads.repository_json(repo, rest_json.root_url()),
            "commit_url": f"{rest_json.api_url(repo)}/commits/{sha}",
            "url": f"{rest_json.api_url(repo)}/commits/{sha}/status",
        }

    return page_answer(latest, lambda it: rest_json.status_json(repo, it), with_combined_state)


def _list_statuses(hub: Hub, repo: Repository, sha: str) -> Response:
    return page_answer(hub.store.statuses(repo.id, sha), lambda it: rest_json.status_json(repo, it))


def _contents_answer(repo: Repository, sha: str, path: str) -> Response:
    if not path:
        entries = repo.git.list_tree(sha)
        return jsonify([rest_json.listed_content_json(repo, sha, it, it.path) for it in entries])
    found = repo.git.find_entry(sha, path)
    if found is None:
        not_found()
    if found.kind == "tree":
        entries = repo.git.list_tree(found.sha)
        return jsonify([rest_json.listed_content_json(repo, sha, it, f"{path}/{it.path}") for it in entries])
    if found.kind != "blob":
        return jsonify(rest_json.content_json(repo, sha, found, path))
    data = repo.git.read_blob(found.sha)
    if "raw" in (request.accept_mimetypes.best or ""):
        return Response(data, mimetype="application/vnd.github.raw")
    return jsonify(rest_json.with_bytes(rest_json.content_json(repo, sha, found, path), data))


def _comparison_answer(repo: Repository, base: str, head: str, names: tuple[str, str]) -> Response:
    middle = repo.git.merge_base(base, head)
    if middle is None:
        refuse(404, f"No common ancestor between {names[0]} and {names[1]}.")
    first = request.args.get("page", "1") in {"", "0", "1"}  # only the first page has the files
    ahead, behind = repo.git.count_commits(f"{base}..{head}"), repo.git.count_commits(f"{head}..{base}")
    status = {(False, False): "identical", (True, False): "ahead", (False, True): "behind"}
    commits = repo.git.list_commits("--max-count=250", "--reverse", f"{base}..{head}", "--")
    return jsonify(
        {
            "url": f"{rest_json.api_url(repo)}/compare/{base}...{head}",
            "html_url": f"{rest_json.html_url(repo)}/compare/{base}...{head}",
            "permalink_url": f"{rest_json.html_url(repo)}/compare/{base}...{head}",
            "diff_url": f"{rest_json.html_url(repo)}/compare/{base}...{head}.diff",
            "patch_url": f"{rest_json.html_url(repo)}/compare/{base}...{head}.patch",
            "base_commit": rest_json.commit_json(repo, repo.git.read_commit(base)),
            "merge_base_commit": rest_json.commit_json(repo, repo.git.read_commit(middle)),
            "status": status.get((ahead > 0, behind > 0), "diverged"),
            "ahead_by": ahead,
            "behind_by": behind,
            "total_commits": ahead,
            "commits": [rest_json.commit_json(repo, it) for it in commits],
            "files": [rest_json.file_json(repo, head, it) for it in repo.git.diff(middle, head)][:300]
            if first
            else [],
        }
    )


def _merge_branches(
    hub: Hub, lookup: Lookup, repo: Repository, base: str, head: str, message: Any
) -> Response:
    with hub.changing_refs(repo):
        refs = repo.git.refs()  # without the fault `stale_reads`, because a write must not rely on old refs
        into = refs.get(f"refs/heads/{base}")
        if into is None:
            refuse(404, "Base does not exist")
        source = lookup.resolve_commit(repo, head, refs) or refuse(404, "Head does not exist")
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
    answer = jsonify(rest_json.commit_json(repo, repo.git.read_commit(sha)))
    answer.status_code = 201
    return answer
