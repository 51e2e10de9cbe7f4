"""The REST calls on git's refs or objects."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from sandbox.github import rest_json
from sandbox.github.git import ZERO, GitError, Ref
from sandbox.github.hub import Hub
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

_REPO = "/repos/<owner>/<name>"


def add_routes(pages: Blueprint, hub: Hub, lookup: Lookup) -> None:
    """Add the routes `git/...` below `/repos/{owner}/{repo}`."""
    _add_reads(pages, lookup)
    _add_writes(pages, hub, lookup)
    _add_tags(pages, lookup)
    _add_objects(pages, lookup)


def _add_reads(pages: Blueprint, lookup: Lookup) -> None:
    @pages.get(f"{_REPO}/git/ref/<path:ref>")
    @pages.get(f"{_REPO}/git/refs/<path:ref>")
    def get_ref(owner: str, name: str, ref: str) -> Response:
        repo = lookup.find_repository(owner, name)
        found = lookup.require_refs(repo).get(f"refs/{ref}")
        return jsonify(rest_json.ref_json(repo, found)) if found else not_found()

    @pages.get(f"{_REPO}/git/refs")
    def list_refs(owner: str, name: str) -> Response:
        repo = lookup.find_repository(owner, name)
        return page_answer(list(lookup.require_refs(repo).values()), lambda it: rest_json.ref_json(repo, it))

    @pages.get(f"{_REPO}/git/matching-refs/")
    @pages.get(f"{_REPO}/git/matching-refs/<path:prefix>")
    def matching_refs(owner: str, name: str, prefix: str = "") -> Response:
        repo = lookup.find_repository(owner, name)
        found = [it for full, it in lookup.require_refs(repo).items() if full.startswith(f"refs/{prefix}")]
        return page_answer(found, lambda it: rest_json.ref_json(repo, it))


def _add_writes(pages: Blueprint, hub: Hub, lookup: Lookup) -> None:
    @pages.post(f"{_REPO}/git/refs")
    def create_ref(owner: str, name: str) -> Response:
        repo = lookup.find_repository(owner, name)
        data = json_body()
        ref, sha = required_string(data, "ref"), required_string(data, "sha")
        if not ref.startswith(("refs/heads/", "refs/tags/")) or not repo.git.valid_ref(ref):
            refuse(422, f"{ref} is not a valid ref name.")
        _check_object(repo.git.object_kind(sha), ref)
        with hub.changing_refs(repo):
            if ref in repo.git.refs():
                refuse(422, "Reference already exists")
            try:
                repo.git.update_ref(ref, sha, ZERO)
            except GitError:
                refuse(422, "Reference update failed")
        answer = jsonify(rest_json.ref_json(repo, _existing_ref(repo.git.refs(), ref)))
        answer.status_code = 201
        answer.headers["Location"] = f"{rest_json.api_url(repo)}/git/{ref}"
        return answer

    @pages.patch(f"{_REPO}/git/refs/<path:ref>")
    def update_ref(owner: str, name: str, ref: str) -> Response:
        repo = lookup.find_repository(owner, name)
        data = json_body()
        full, sha = f"refs/{ref}", required_string(data, "sha")
        _check_object(repo.git.object_kind(sha), full)
        with hub.changing_refs(repo):
            old = repo.git.refs().get(full)
            if old is None:
                refuse(422, "Reference does not exist")
            if not data.get("force") and not repo.git.is_ancestor(old.commit, sha):
                refuse(422, "Update is not a fast forward")
            repo.git.update_ref(full, sha, old.sha)
        return jsonify(rest_json.ref_json(repo, _existing_ref(repo.git.refs(), full)))

    @pages.delete(f"{_REPO}/git/refs/<path:ref>")
    def delete_ref(owner: str, name: str, ref: str) -> Response:
        repo = lookup.find_repository(owner, name)
        full = f"refs/{ref}"
        with hub.changing_refs(repo):
            old = repo.git.refs().get(full)
            if old is None:
                refuse(422, "Reference does not exist")
            if full == f"refs/heads/{repo.default_branch}":
                refuse(422, "Cannot delete the default branch")
            repo.git.update_ref(full, ZERO, old.sha)
        return Response(status=204)


def _add_tags(pages: Blueprint, lookup: Lookup) -> None:
    @pages.get(f"{_REPO}/git/tags/<sha>")
    def get_tag(owner: str, name: str, sha: str) -> Response:
        repo = lookup.find_repository(owner, name)
        if repo.git.object_kind(sha) != "tag":
            not_found()
        return jsonify(rest_json.tag_json(repo, repo.git.read_tag(sha)))

    @pages.post(f"{_REPO}/git/tags")
    def create_tag(owner: str, name: str) -> Response:
        repo = lookup.find_repository(owner, name)
        data = json_body()
        target = required_string(data, "object")
        if repo.git.object_kind(target) is None:
            refuse(422, "Object does not exist")
        try:
            sha = repo.git.make_tag(required_string(data, "tag"), target, required_string(data, "message"))
        except GitError as error:
            refuse(422, str(error))
        answer = jsonify(rest_json.tag_json(repo, repo.git.read_tag(sha)))
        answer.status_code = 201
        return answer


def _add_objects(pages: Blueprint, lookup: Lookup) -> None:
    @pages.get(f"{_REPO}/git/commits/<sha>")
    def get_git_commit(owner: str, name: str, sha: str) -> Response:
        repo = lookup.find_repository(owner, name)
        if repo.git.object_kind(sha) != "commit":
            not_found()
        return jsonify(rest_json.git_commit_json(repo, repo.git.read_commit(sha)))

    @pages.get(f"{_REPO}/git/trees/<path:_tree>")
    def get_tree(owner: str, name: str, _tree: str) -> Response:
        repo = lookup.find_repository(owner, name)
        wanted = decode_name(raw_rest("/git/trees/"))
        sha = wanted if repo.git.object_kind(wanted) == "tree" else None
        if sha is None:
            commit = lookup.resolve_commit(repo, wanted)
            sha = repo.git.read_commit(commit).tree if commit else not_found()
        # GitHub treats any value of `recursive` as true, even "0" and "false".
        lines = repo.git.list_tree(sha, recursive="recursive" in request.args)
        shown = [rest_json.tree_entry_json(repo, it) for it in lines]
        return jsonify(
            {
                "sha": sha,
                "url": f"{rest_json.api_url(repo)}/git/trees/{sha}",
                "tree": shown,
                "truncated": False,
            }
        )

    @pages.get(f"{_REPO}/git/blobs/<sha>")
    def get_blob(owner: str, name: str, sha: str) -> Response:
        repo = lookup.find_repository(owner, name)
        if repo.git.object_kind(sha) != "blob":
            not_found()
        data = repo.git.read_blob(sha)
        return jsonify(
            {
                "sha": sha,
                "node_id": f"B_{sha}",
                "size": len(data),
                "url": f"{rest_json.api_url(repo)}/git/blobs/{sha}",
                "content": rest_json.base64_lines(data),
                "encoding": "base64",
            }
        )


def _check_object(kind: str | None, ref: str) -> None:
    if kind is None:
        refuse(422, "Object does not exist")
    if kind != "commit" and ref.startswith("refs/heads/"):
        refuse_field("Reference", "sha", "A branch must point to a commit")


def _existing_ref(refs: dict[str, Ref], name: str) -> Ref:
    found = refs.get(name)
    if found is None:
        refuse(409, f"{name} was deleted in the meantime")
    return found
