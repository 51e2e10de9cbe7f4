"""Pushes the sample's files as the first push of a repository."""

from __future__ import annotations

from pathlib import Path

from sandbox.github.git import ZERO, Person
from sandbox.github.hub import Hub, Repository

SAMPLE = Path(__file__).resolve().parent.parent / "sample"
SAMPLE_NAME = "acme/hello"
_AUTHOR = Person("Ada Example", "ada@example.com", "")
_MESSAGE = (
    "Say hello from a branch\n\nA page, its tests, and the pipeline that builds, tests and deploys them."
)


def ensure_sample(hub: Hub, full_name: str = SAMPLE_NAME) -> bool:
    """Create the sample repository if it is missing; returns whether it was missing.

    Its first push sends webhooks like any other push. They may fail without harm.
    """
    repo, _ = hub.create(full_name)
    return push_sample(hub, repo)


def push_sample(hub: Hub, repo: Repository) -> bool:
    """Push the sample's files to main of an empty repository; returns whether it was empty."""
    with repo.lock:
        if repo.git.refs():
            return False
        with hub.changing_refs(repo, "ada"):
            sha = repo.git.commit_directory(SAMPLE, _MESSAGE, _AUTHOR)
            repo.git.update_ref("refs/heads/main", sha, ZERO)
    return True
