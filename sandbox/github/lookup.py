"""Finds the repository, ref or commit that a REST call names, or ends the request as GitHub would."""

from __future__ import annotations

import re

from flask import abort, jsonify, request

from sandbox.github.git import Ref
from sandbox.github.hub import Hub, Repository
from sandbox.github.responses import not_found, raw_path, refuse

_FULL_SHA = re.compile(r"[0-9a-f]{40}")


class Lookup:
    """Finds repositories, refs and commits by the names in a call."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def find_repository(self, owner: str, name: str) -> Repository:
        """The repository of a call. As on GitHub, a former name is redirected to the same call by repository id."""
        full_name = f"{owner}/{name}"
        found = self._hub.get(full_name)
        if found is None and (moved := self._hub.find_renamed(full_name)) and not moved.uninstalled:
            rest = raw_path().partition(f"/repos/{owner}/{name}")[2]
            query = f"?{request.query_string.decode()}" if request.query_string else ""
            url = f"{request.host_url}api/v3/repositories/{moved.id}{rest}{query}"
            answer = jsonify({"message": "Moved Permanently", "url": url, "documentation_url": ""})
            answer.status_code = 301 if request.method in {"GET", "HEAD"} else 307
            answer.headers["Location"] = url
            abort(answer)
        return found if found and not found.uninstalled else not_found()

    def require_refs(self, repo: Repository) -> dict[str, Ref]:
        """The refs of a repository; ends the request with 409 if there are none, as GitHub does."""
        refs = self._hub.refs(repo)
        if not refs:
            refuse(409, "Git Repository is empty.")
        return refs

    def list_branches(self, repo: Repository) -> list[Ref]:
        """All branches, sorted by name."""
        return [ref for name, ref in self._hub.refs(repo).items() if name.startswith("refs/heads/")]

    def list_tags(self, repo: Repository) -> list[Ref]:
        """All tags, in descending order of their names, as GitHub lists them."""
        refs = [ref for name, ref in self._hub.refs(repo).items() if name.startswith("refs/tags/")]
        return refs[::-1]

    def resolve_commit(self, repo: Repository, name: str, refs: dict[str, Ref] | None = None) -> str | None:
        """The SHA of the commit that a branch, tag, SHA or HEAD means; None if there is none.

        If a tag and a branch have the same name, the tag wins, as in git: https://git-scm.com/docs/gitrevisions

        Args:
            repo: the repository.
            name: the branch, tag, SHA or HEAD.
            refs: the refs to search; None for those that the API shows.
        """
        if _FULL_SHA.fullmatch(name):
            return repo.git.commit_sha(name)
        if refs is None:
            refs = self._hub.refs(repo)
        if name == "HEAD":
            name = f"refs/heads/{repo.default_branch}"
        for full in (name, f"refs/{name}", f"refs/tags/{name}", f"refs/heads/{name}"):
            if full in refs:
                return refs[full].commit
        return repo.git.commit_sha(name)

    def require_commit(self, repo: Repository, name: str) -> str:
        """The SHA that `resolve_commit` finds; ends the request with 409 or 422 if there is none."""
        if not repo.git.refs():
            refuse(409, "Git Repository is empty.")
        return self.resolve_commit(repo, name) or refuse(422, f"No commit found for SHA: {name}")
