"""The REST calls on git's own objects: refs, tags, trees, blobs, commits."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from sandbox.github import shapes
from sandbox.github.git import ZERO, GitError, Ref
from sandbox.github.hub import Hub
from sandbox.github.lookup import Lookup
from sandbox.github.responses import body, decoded, invalid, not_found, paged, raw_rest, refuse, string

_REPO = "/repos/<owner>/<name>"


def add_routes(pages: Blueprint, hub: Hub, look: Lookup) -> None:
    """Add `git/...` below `/repos/{owner}/{repo}`."""
    _add_reads(pages, look)
    _add_writes(pages, hub, look)
    _add_tags(pages, look)
    _add_objects(pages, look)


def _add_reads(pages: Blueprint, look: Lookup) -> None:
    @pages.get(f"{_REPO}/git/ref/<path:ref>")
    @pages.get(f"{_REPO}/git/refs/<path:ref>")
    def get_ref(owner: str, name: str, ref: str) -> Response:
        repo = look.repository(owner, name)
        found = look.refs(repo).get(f"refs/{ref}")
        return jsonify(shapes.ref(repo, found)) if found else not_found()

    @pages.get(f"{_REPO}/git/refs")
    def list_refs(owner: str, name: str) -> Response:
        repo = look.repository(owner, name)
        return paged(list(look.refs(repo).values()), lambda it: shapes.ref(repo, it))

    @pages.get(f"{_REPO}/git/matching-refs/")
    @pages.get(f"{_REPO}/git/matching-refs/<path:prefix>")
    def matching_refs(owner: str, name: str, prefix: str = "") -> Response:
        repo = look.repository(owner, name)
        found = [it for full, it in look.refs(repo).items() if full.startswith(f"refs/{prefix}")]
        return paged(found, lambda it: shapes.ref(repo, it))


def _add_writes(pages: Blueprint, hub: Hub, look: Lookup) -> None:
    @pages.post(f"{_REPO}/git/refs")
    def create_ref(owner: str, name: str) -> Response:
        repo = look.repository(owner, name)
        data = body()
        ref, sha = string(data, "ref"), string(data, "sha")
        if not ref.startswith(("refs/heads/", "refs/tags/")) or not repo.git.valid_ref(ref):
            refuse(422, f"{ref} is not a valid ref name.")
        _check_object(repo.git.kind(sha), ref)
        with hub.changing(repo):
            if ref in repo.git.refs():
                refuse(422, "Reference already exists")
            try:
                repo.git.update_ref(ref, sha, ZERO)
            except GitError:
                refuse(422, "Reference update failed")
        answer = jsonify(shapes.ref(repo, _now(repo.git.refs(), ref)))
        answer.status_code = 201
        answer.headers["Location"] = f"{shapes.api(repo)}/git/{ref}"
        return answer

    @pages.patch(f"{_REPO}/git/refs/<path:ref>")
    def update_ref(owner: str, name: str, ref: str) -> Response:
        repo = look.repository(owner, name)
        data = body()
        full, sha = f"refs/{ref}", string(data, "sha")
        _check_object(repo.git.kind(sha), full)
        with hub.changing(repo):
            old = repo.git.refs().get(full)
            if old is None:
                refuse(422, "Reference does not exist")
            if not data.get("force") and not repo.git.is_ancestor(old.commit, sha):
                refuse(422, "Update is not a fast forward")
            repo.git.update_ref(full, sha, old.sha)
        return jsonify(shapes.ref(repo, _now(repo.git.refs(), full)))

    @pages.delete(f"{_REPO}/git/refs/<path:ref>")
    def delete_ref(owner: str, name: str, ref: str) -> Response:
        repo = look.repository(owner, name)
        full = f"refs/{ref}"
        with hub.changing(repo):
            old = repo.git.refs().get(full)
            if old is None:
                refuse(422, "Reference does not exist")
            if full == f"refs/heads/{repo.default_branch}":
                refuse(422, "Cannot delete the default branch")
            repo.git.update_ref(full, ZERO, old.sha)
        return Response(status=204)


def _add_tags(pages: Blueprint, look: Lookup) -> None:
    @pages.get(f"{_REPO}/git/tags/<sha>")
    def get_tag(owner: str, name: str, sha: str) -> Response:
        repo = look.repository(owner, name)
        if repo.git.kind(sha) != "tag":
            not_found()
        return jsonify(shapes.tag(repo, repo.git.tag(sha)))

    @pages.post(f"{_REPO}/git/tags")
    def create_tag(owner: str, name: str) -> Response:
        repo = look.repository(owner, name)
        data = body()
        target = string(data, "object")
        if repo.git.kind(target) is None:
            refuse(422, "Object does not exist")
        try:
            sha = repo.git.make_tag(string(data, "tag"), target, string(data, "message"))
        except GitError as error:
            refuse(422, str(error))
        answer = jsonify(shapes.tag(repo, repo.git.tag(sha)))
        answer.status_code = 201
        return answer


def _add_objects(pages: Blueprint, look: Lookup) -> None:
    @pages.get(f"{_REPO}/git/commits/<sha>")
    def get_git_commit(owner: str, name: str, sha: str) -> Response:
        repo = look.repository(owner, name)
        if repo.git.kind(sha) != "commit":
            not_found()
        return jsonify(shapes.git_commit(repo, repo.git.commit(sha)))

    @pages.get(f"{_REPO}/git/trees/<path:_tree>")
    def get_tree(owner: str, name: str, _tree: str) -> Response:
        repo = look.repository(owner, name)
        wanted = decoded(raw_rest("/git/trees/"))
        sha = wanted if repo.git.kind(wanted) == "tree" else None
        if sha is None:
            commit = look.resolve(repo, wanted)
            sha = repo.git.commit(commit).tree if commit else not_found()
        # GitHub takes any value of `recursive` for yes, "0" and "false" too.
        lines = repo.git.tree(sha, recursive="recursive" in request.args)
        shown = [shapes.tree_entry(repo, it) for it in lines]
        return jsonify(
            {"sha": sha, "url": f"{shapes.api(repo)}/git/trees/{sha}", "tree": shown, "truncated": False}
        )

    @pages.get(f"{_REPO}/git/blobs/<sha>")
    def get_blob(owner: str, name: str, sha: str) -> Response:
        repo = look.repository(owner, name)
        if repo.git.kind(sha) != "blob":
            not_found()
        data = repo.git.blob(sha)
        return jsonify(
            {
                "sha": sha,
                "node_id": f"B_{sha}",
                "size": len(data),
                "url": f"{shapes.api(repo)}/git/blobs/{sha}",
                "content": shapes.base64_lines(data),
                "encoding": "base64",
            }
        )


def _check_object(kind: str | None, ref: str) -> None:
    if kind is None:
        refuse(422, "Object does not exist")
    if kind != "commit" and ref.startswith("refs/heads/"):
        invalid("Reference", "sha", "A branch must lead to a commit")


def _now(refs: dict[str, Ref], name: str) -> Ref:
    found = refs.get(name)
    if found is None:
        refuse(409, f"{name} was deleted meanwhile")
    return found
