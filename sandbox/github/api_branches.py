"""The REST calls on branches with their protections."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from sandbox.github import rest_json
from sandbox.github.git import Ref
from sandbox.github.hub import Hub, Repository
from sandbox.github.lookup import Lookup
from sandbox.github.responses import (
    decode_name,
    error_answer,
    json_body,
    not_found,
    page_answer,
    raw_rest,
    required_string,
)

_REPO = "/repos/<owner>/<name>"


def add_routes(pages: Blueprint, hub: Hub, lookup: Lookup) -> None:
    """Add the routes `branches`, `rules` and `rulesets` below `/repos/{owner}/{repo}`."""
    _add_branches(pages, hub, lookup)
    _add_rules(pages, hub, lookup)


def _add_branches(pages: Blueprint, hub: Hub, lookup: Lookup) -> None:
    @pages.get(f"{_REPO}/branches")
    def list_branches(owner: str, name: str) -> Response:
        repo = lookup.find_repository(owner, name)
        protected = _protected_branches(hub, repo)
        wanted = {"true": True, "false": False}.get(request.args.get("protected", ""))
        listed = [it for it in lookup.list_branches(repo) if wanted in {None, _short_name(it) in protected}]
        return page_answer(
            listed, lambda it: rest_json.branch_json(repo, it, protected=_short_name(it) in protected)
        )

    # The raw path is read: branches/x/protection means the protection of x, branches/x%2Fprotection a branch.
    @pages.get(f"{_REPO}/branches/<path:_branch>")
    def get_branch(owner: str, name: str, _branch: str) -> Response:
        repo = lookup.find_repository(owner, name)
        branch, about_protection = _branch_and_endpoint(raw_rest("/branches/"))
        found = next((it for it in lookup.list_branches(repo) if _short_name(it) == branch), None)
        if found is None:
            return error_answer(404, "Branch not found")
        protected = branch in _protected_branches(hub, repo)
        if about_protection:
            return (
                jsonify(_protection_json(repo, branch))
                if protected
                else error_answer(404, "Branch not protected")
            )
        contexts = hub.store.required_contexts(repo.id, branch)
        return jsonify(rest_json.full_branch_json(repo, found, protected=protected, contexts=contexts))

    @pages.put(f"{_REPO}/branches/<path:_branch>")
    def protect_branch(owner: str, name: str, _branch: str) -> Response:
        repo = lookup.find_repository(owner, name)
        branch, about_protection = _branch_and_endpoint(raw_rest("/branches/"))
        if not about_protection:
            not_found()
        if all(_short_name(it) != branch for it in lookup.list_branches(repo)):
            return error_answer(404, "Branch not found")
        data = request.get_json(force=True, silent=True)
        checks = (data.get("required_status_checks") or {}) if isinstance(data, dict) else {}
        hub.store.protect(
            repo.id, "branch", branch, contexts=[str(each) for each in checks.get("contexts", [])]
        )
        return jsonify(_protection_json(repo, branch))

    @pages.delete(f"{_REPO}/branches/<path:_branch>")
    def unprotect_branch(owner: str, name: str, _branch: str) -> Response:
        repo = lookup.find_repository(owner, name)
        branch, about_protection = _branch_and_endpoint(raw_rest("/branches/"))
        if not about_protection:
            not_found()
        if branch not in _protected_branches(hub, repo):
            return error_answer(404, "Branch not protected")
        hub.store.protect(repo.id, "branch", branch, on=False)
        return Response(status=204)


def _add_rules(pages: Blueprint, hub: Hub, lookup: Lookup) -> None:
    @pages.get(f"{_REPO}/rules/branches/<path:_branch>")
    def list_rules(owner: str, name: str, _branch: str) -> Response:
        repo = lookup.find_repository(owner, name)
        protected = decode_name(raw_rest("/rules/branches/")) in _protected_branches(hub, repo)
        return jsonify([{"type": "deletion"}, {"type": "non_fast_forward"}] if protected else [])

    @pages.get(f"{_REPO}/rulesets")
    def list_rulesets(owner: str, name: str) -> Response:
        repo = lookup.find_repository(owner, name)
        names = hub.store.protections(repo.id, "tag")
        return page_answer(list(enumerate(names, 1)), lambda it: _ruleset_json(repo, *it))

    @pages.post(f"{_REPO}/rulesets")
    def add_ruleset(owner: str, name: str) -> Response:
        repo = lookup.find_repository(owner, name)
        data = json_body()
        if data.get("target") != "tag" or data.get("enforcement") != "active":
            return error_answer(422, "The sandbox supports only active rulesets for tags.")
        hub.store.protect(repo.id, "tag", required_string(data, "name"))
        answer = jsonify(_ruleset_json(repo, len(hub.store.protections(repo.id, "tag")), data["name"]))
        answer.status_code = 201
        return answer


def _short_name(branch: Ref) -> str:
    return branch.name.removeprefix("refs/heads/")


def _protected_branches(hub: Hub, repo: Repository) -> set[str]:
    return set(hub.store.protections(repo.id, "branch"))


def _branch_and_endpoint(rest: str) -> tuple[str, bool]:
    """The branch that a path names, and whether the path is about its protection."""
    branch = rest.removesuffix("/protection")
    return decode_name(branch), branch != rest


def _protection_json(repo: Repository, branch: str) -> dict[str, Any]:
    return {
        "url": f"{rest_json.api_url(repo)}/branches/{branch}/protection",
        "enforce_admins": {"enabled": False},
    }


def _ruleset_json(repo: Repository, number: int, name: str) -> dict[str, Any]:
    return {
        "id": number,
        "name": name,
        "target": "tag",
        "source_type": "Repository",
        "source": repo.full_name,
        "enforcement": "active",
    }
