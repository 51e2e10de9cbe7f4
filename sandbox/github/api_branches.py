"""The REST calls on branches, what protects them, and rulesets."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from sandbox.github import shapes
from sandbox.github.git import Ref
from sandbox.github.hub import Hub, Repository
from sandbox.github.lookup import Lookup
from sandbox.github.responses import body, decoded, error, not_found, paged, raw_rest, string

_REPO = "/repos/<owner>/<name>"


def add_routes(pages: Blueprint, hub: Hub, look: Lookup) -> None:
    """Add `branches`, `rules` and `rulesets` below `/repos/{owner}/{repo}`."""
    _add_branches(pages, hub, look)
    _add_rules(pages, hub, look)


def _add_branches(pages: Blueprint, hub: Hub, look: Lookup) -> None:
    @pages.get(f"{_REPO}/branches")
    def list_branches(owner: str, name: str) -> Response:
        repo = look.repository(owner, name)
        protected = _protected(hub, repo)
        wanted = {"true": True, "false": False}.get(request.args.get("protected", ""))
        listed = [it for it in look.branches(repo) if wanted in {None, _short(it) in protected}]
        return paged(listed, lambda it: shapes.branch(repo, it, protected=_short(it) in protected))

    # By the raw path: branches/x/protection asks for the protection of x, branches/x%2Fprotection for that branch.
    @pages.get(f"{_REPO}/branches/<path:_branch>")
    def get_branch(owner: str, name: str, _branch: str) -> Response:
        repo = look.repository(owner, name)
        branch, asks = _named(raw_rest("/branches/"))
        found = next((it for it in look.branches(repo) if _short(it) == branch), None)
        if found is None:
            return error(404, "Branch not found")
        protected = branch in _protected(hub, repo)
        if asks:
            return jsonify(_protection(repo, branch)) if protected else error(404, "Branch not protected")
        return jsonify(shapes.full_branch(repo, found, protected=protected))

    @pages.put(f"{_REPO}/branches/<path:_branch>")
    def protect(owner: str, name: str, _branch: str) -> Response:
        repo = look.repository(owner, name)
        branch, asks = _named(raw_rest("/branches/"))
        if not asks:
            not_found()
        if all(_short(it) != branch for it in look.branches(repo)):
            return error(404, "Branch not found")
        hub.store.protect(repo.id, "branch", branch)
        return jsonify(_protection(repo, branch))

    @pages.delete(f"{_REPO}/branches/<path:_branch>")
    def unprotect(owner: str, name: str, _branch: str) -> Response:
        repo = look.repository(owner, name)
        branch, asks = _named(raw_rest("/branches/"))
        if not asks:
            not_found()
        if branch not in _protected(hub, repo):
            return error(404, "Branch not protected")
        hub.store.protect(repo.id, "branch", branch, on=False)
        return Response(status=204)


def _add_rules(pages: Blueprint, hub: Hub, look: Lookup) -> None:
    @pages.get(f"{_REPO}/rules/branches/<path:_branch>")
    def rules(owner: str, name: str, _branch: str) -> Response:
        repo = look.repository(owner, name)
        protected = decoded(raw_rest("/rules/branches/")) in _protected(hub, repo)
        return jsonify([{"type": "deletion"}, {"type": "non_fast_forward"}] if protected else [])

    @pages.get(f"{_REPO}/rulesets")
    def rulesets(owner: str, name: str) -> Response:
        repo = look.repository(owner, name)
        names = hub.store.protections(repo.id, "tag")
        return paged(list(enumerate(names, 1)), lambda it: _ruleset(repo, *it))

    @pages.post(f"{_REPO}/rulesets")
    def add_ruleset(owner: str, name: str) -> Response:
        repo = look.repository(owner, name)
        data = body()
        if data.get("target") != "tag" or data.get("enforcement") != "active":
            return error(422, "The sandbox knows active rulesets about tags only.")
        hub.store.protect(repo.id, "tag", string(data, "name"))
        answer = jsonify(_ruleset(repo, len(hub.store.protections(repo.id, "tag")), data["name"]))
        answer.status_code = 201
        return answer


def _short(branch: Ref) -> str:
    return branch.name.removeprefix("refs/heads/")


def _protected(hub: Hub, repo: Repository) -> set[str]:
    return set(hub.store.protections(repo.id, "branch"))


def _named(rest: str) -> tuple[str, bool]:
    """The branch of a path, and whether the path asks for its protection."""
    branch = rest.removesuffix("/protection")
    return decoded(branch), branch != rest


def _protection(repo: Repository, branch: str) -> dict[str, Any]:
    return {"url": f"{shapes.api(repo)}/branches/{branch}/protection", "enforce_admins": {"enabled": False}}


def _ruleset(repo: Repository, number: int, name: str) -> dict[str, Any]:
    return {
        "id": number,
        "name": name,
        "target": "tag",
        "source_type": "Repository",
        "source": repo.full_name,
        "enforcement": "active",
    }
