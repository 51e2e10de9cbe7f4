"""HTML pages that show repositories, commits or webhook deliveries."""

from __future__ import annotations

import json
import mimetypes
from typing import Any

from flask import Blueprint, Response, abort, redirect, render_template, url_for
from werkzeug.wrappers import Response as AnyResponse

from sandbox.github import rest_json
from sandbox.github.git import Ref
from sandbox.github.hub import Hub, Repository
from sandbox.github.lookup import Lookup
from sandbox.github.markdown import render_comment

_SHOWN_DELIVERIES = 100


def blueprint(hub: Hub) -> Blueprint:
    """The pages."""
    pages = Blueprint("pages", __name__)
    lookup = Lookup(hub)

    def find_repository(owner: str, name: str) -> Repository:
        return hub.get(f"{owner}/{name.removesuffix('.git')}") or abort(404)

    @pages.get("/")
    def show_index() -> str:
        return render_template("index.html", repositories=hub.repositories(), root=rest_json.root_url())

    @pages.get("/<owner>/<name>")
    def show_repository(owner: str, name: str) -> str:
        repo = find_repository(owner, name)
        heads = [_ref_summary(hub, repo, ref) for ref in lookup.list_branches(repo)]
        heads.sort(key=lambda head: head["name"] != repo.default_branch)
        tags = [_ref_summary(hub, repo, ref) for ref in lookup.list_tags(repo)]
        pulls = hub.store.pulls(repo.id)[::-1]
        return render_template(
            "repository.html", repo=repo, branches=heads, tags=tags, pulls=pulls, root=rest_json.root_url()
        )

    @pages.get("/<owner>/<name>/pull/<int:number>")
    def show_pull_request(owner: str, name: str, number: int) -> str:
        repo = find_repository(owner, name)
        row = hub.store.pull(repo.id, number) or abort(404)
        comments = hub.store.comments(repo.id, f"pull {row['id']}")
        return render_template("pull.html", repo=repo, pull=row, comments=comments)

    @pages.get("/<owner>/<name>/commit/<sha>")
    def show_commit(owner: str, name: str, sha: str) -> str:
        repo = find_repository(owner, name)
        full = repo.git.commit_sha(sha) or abort(404)
        rows = hub.store.statuses(repo.id, full)
        shown = repo.git.read_commit(full)
        files = repo.git.diff(next(iter(shown.parents), None), full)
        return render_template(
            "commit.html",
            repo=repo,
            commit=shown,
            files=files,
            latest=rest_json.latest_statuses(rows),
            history=rows,
            comments=hub.store.comments(repo.id, full),
            state=_combined_state(rows),
        )

    @pages.get("/<owner>/<name>/deliveries")
    def show_deliveries(owner: str, name: str) -> str:
        repo = find_repository(owner, name)
        rows = hub.store.deliveries(repo.id, newest=_SHOWN_DELIVERIES)[::-1]
        return render_template(
            "deliveries.html", repo=repo, deliveries=[_shown_delivery(row) for row in rows]
        )

    @pages.post("/<owner>/<name>/deliveries/<int:delivery_id>/redeliver")
    def redeliver(owner: str, name: str, delivery_id: int) -> AnyResponse:
        repo = find_repository(owner, name)
        row = hub.store.delivery(delivery_id)
        if row is None or row["repository_id"] != repo.id:
            abort(404)
        hub.sender.redeliver(delivery_id)
        hub.sender.wait_idle(2)  # wait, so that the page shows the result
        return redirect(url_for("pages.show_deliveries", owner=owner, name=name), 303)

    @pages.get("/<owner>/<name>/raw/<sha>/<path:path>")
    def show_raw_file(owner: str, name: str, sha: str, path: str) -> Response:
        repo = find_repository(owner, name)
        full = repo.git.commit_sha(sha) or abort(404)
        entry = repo.git.find_entry(full, path)
        if entry is None or entry.kind != "blob":
            abort(404)
        # Never served as a page, because a pushed script must not run under this address.
        kind = mimetypes.guess_type(path)[0] or "text/plain"
        shown = kind if kind.startswith("image/") and kind != "image/svg+xml" else "text/plain"
        headers = {"X-Content-Type-Options": "nosniff"}
        return Response(repo.git.read_blob(entry.sha), mimetype=shown, headers=headers)

    pages.add_app_template_filter(render_comment, "markdown")

    @pages.app_template_filter("short")
    def short_sha(sha: str) -> str:
        return sha[:7]

    return pages


def _ref_summary(hub: Hub, repo: Repository, ref: Ref) -> dict[str, Any]:
    name = ref.name.removeprefix("refs/heads/").removeprefix("refs/tags/")
    if repo.git.object_kind(ref.commit) != "commit":
        return {"name": name, "sha": ref.sha, "subject": f"a {ref.kind}", "date": "", "state": ""}
    commit = repo.git.read_commit(ref.commit)
    state = _combined_state(hub.store.statuses(repo.id, ref.commit))
    subject = commit.message.partition("\n")[0]
    return {
        "name": name,
        "sha": ref.commit,
        "subject": subject,
        "date": commit.committer.date,
        "state": state,
    }


def _combined_state(rows: list[dict[str, Any]]) -> str:
    return rest_json.combined_state(rows) if rows else ""


def _shown_delivery(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "pretty": json.dumps(json.loads(row["payload"]), indent=2, ensure_ascii=False)}
