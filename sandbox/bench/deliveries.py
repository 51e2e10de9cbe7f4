"""Signed pushes of about 8 kB, as GitHub sends them."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

SECRET = "deployer-measurement"
BODIES = 64
_BYTES = 8000
_COMMITS = 6
_numbers = count()


@dataclass(frozen=True, slots=True)
class SignedPush:
    """A push whose request is complete but for the id of its delivery.

    Attributes:
        head: the request up to the delivery id.
        tail: the rest of the request.
    """

    head: bytes
    tail: bytes

    def with_delivery(self, prefix: str) -> bytes:
        """The request of a new delivery, whose id begins with a prefix of eight hexadecimal digits."""
        return b"%s%s-0000-4000-8000-%012x%s" % (self.head, prefix.encode(), next(_numbers), self.tail)


def sign_pushes(*, prefix: str, repositories: int, branches: int) -> Iterator[SignedPush]:
    """Pushes to every branch of every repository.

    Args:
        prefix: the names of the repositories begin with it.
        repositories: how many.
        branches: how many each repository has.
    """
    for branch in range(branches):
        for number in range(repositories):
            body = _push_body(f"{prefix}-{number}", f"feature/{branch}")
            signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
            head = (
                f"POST /webhooks/github HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n"
                f"User-Agent: GitHub-Hookshot/5a4dbox\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nX-GitHub-Event: push\r\nX-GitHub-Hook-ID: 1\r\n"
                f"X-Hub-Signature-256: sha256={signature}\r\nX-GitHub-Delivery: "
            )
            yield SignedPush(head.encode(), b"\r\n\r\n" + body)


def _push_body(repository: str, branch: str) -> bytes:
    owner, html = "bench", f"https://github.com/bench/{repository}"
    person = {"name": "Ada", "email": "ada@example.com", "username": "ada"}
    links = {
        each: f"https://api.github.com/repos/{owner}/{repository}/{each}"
        for each in (
            "forks", "keys", "collaborators", "teams", "hooks", "events", "assignees", "branches", "tags", "statuses",
            "languages", "stargazers", "contributors", "subscribers", "subscription", "commits", "comments", "contents",
            "compare", "merges", "archive", "downloads", "issues", "pulls", "milestones", "notifications", "labels",
            "releases", "deployments",
        )
    }  # fmt: skip
    commits = [
        {
            "id": hashlib.sha1(f"{repository} {branch} {number}".encode()).hexdigest(),  # noqa: S324  as git does
            "tree_id": "b" * 40, "distinct": True, "message": f"Change number {number} of {branch}",
            "timestamp": "2026-01-01T10:00:00+01:00", "url": f"{html}/commit/{number}", "author": person,
            "committer": person, "added": [f"src/module_{number}/new_file.py"], "removed": [],
            "modified": [f"src/module_{number}/file_{each}.py" for each in range(5)],
        }
        for number in range(_COMMITS)
    ]  # fmt: skip
    push = {
        "ref": f"refs/heads/{branch}", "before": "a" * 40, "after": commits[-1]["id"], "created": False,
        "deleted": False, "forced": False, "base_ref": None, "compare": f"{html}/compare/a...b", "commits": commits,
        "head_commit": commits[-1], "pusher": person, "sender": {"login": "ada", "id": 1, "type": "User"},
        "installation": {"id": 1},
        "repository": {
            "id": 1, "name": repository, "full_name": f"{owner}/{repository}", "private": True, "html_url": html,
            "default_branch": "main", "pushed_at": 1_767_258_000, "owner": {"login": owner, "name": owner, "id": 2},
            **{f"{name}_url": link for name, link in links.items()},
        },
    }  # fmt: skip
    body = json.dumps(push)
    push["padding"] = "x" * max(0, _BYTES - len(body))
    return json.dumps(push).encode()
