"""Tests of `pull_request` events."""

import json
from typing import Any

import pytest

from deployer.github.webhook import parse_delivery
from deployer.model.environments import Repository
from deployer.model.errors import PayloadError
from deployer.model.events import Ignored, PullRequestChange
from deployer.model.refs import Ref
from tests.web.site import SHA

_OWN = {"id": 5, "full_name": "acme/api"}
_FORK = {"id": 6, "full_name": "eve/api"}


def pull_request_payload(action: str = "opened", **head: Any) -> dict[str, Any]:
    """The fields of the event that matter."""
    return {
        "action": action,
        "number": 3,
        "pull_request": {
            "number": 3,
            "head": {"ref": "feature/x", "sha": SHA, "repo": _OWN, **head},
            "base": {"ref": "main", "sha": SHA, "repo": _OWN},
        },
        "repository": {**_OWN, "default_branch": "main", "owner": {"login": "acme"}},
        "installation": {"id": 7},
    }


def parse(payload: dict[str, Any]) -> object:
    headers = {"X-GitHub-Event": "pull_request", "X-GitHub-Delivery": "d-1"}
    return parse_delivery(headers, json.dumps(payload).encode())


@pytest.mark.parametrize("action", ["opened", "reopened", "synchronize", "closed"])
@pytest.mark.parametrize(("owner", "from_fork"), [(_OWN, False), (_FORK, True), (None, True)])
def test_a_pull_request_is_read(action: str, owner: Any, from_fork: bool) -> None:
    assert parse(pull_request_payload(action, repo=owner)) == PullRequestChange(
        "d-1",
        Repository("acme", "api"),
        action,
        3,
        Ref.of_branch("feature/x"),
        SHA,
        from_fork=from_fork,
        default_branch="main",
        installation=7,
    )


def test_another_action_concerns_nothing() -> None:
    found = parse(pull_request_payload("labeled"))
    assert found == Ignored("d-1", "pull_request labeled concerns no pipeline", Repository("acme", "api"))


@pytest.mark.parametrize("number", ["3", True, None, 0, -1, 2**60])
def test_a_number_that_is_none_is_refused(number: object) -> None:
    payload = pull_request_payload()
    payload["pull_request"]["number"] = number
    with pytest.raises(PayloadError, match="number of a pull request"):
        parse(payload)


@pytest.mark.parametrize(("field", "value"), [("ref", ""), ("ref", 4), ("sha", "x"), ("sha", None)])
def test_a_head_without_branch_or_commit_is_refused(field: str, value: object) -> None:
    with pytest.raises(PayloadError):
        parse(pull_request_payload(**{field: value}))
