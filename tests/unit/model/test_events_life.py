"""GitHub's events about repositories and installations, in the form of its published examples."""

import json
from typing import Any

import pytest

from deployer.github.webhook import parse_delivery
from deployer.model.environments import Repository
from deployer.model.errors import PayloadError
from deployer.model.events import Ignored, RepositoryChange

HELLO = {"id": 186853261, "name": "Hello-World", "full_name": "Codertocat/Hello-World", "default_branch": "x"}
NOW = Repository("Codertocat", "Hello-World")
NUMBER = 2
INSTALLATION = {"id": NUMBER, "account": {"login": "octocat", "type": "User"}, "suspended_at": None}
LISTED = [{"id": 1, "name": "a", "full_name": "octocat/a"}, {"id": 2, "name": "b", "full_name": "octocat/b"}]
BOTH = (Repository("octocat", "a"), Repository("octocat", "b"))


def _read(kind: str, **payload: Any) -> Any:
    headers = {"X-GitHub-Event": kind, "X-GitHub-Delivery": "d-1", "Content-Type": "application/json"}
    return parse_delivery(headers, json.dumps(payload).encode())


def _changed(kind: str, action: str, changes: dict[str, Any] | None = None) -> Any:
    more = {"changes": changes} if changes else {}
    return _read(kind, action=action, repository=HELLO, **more)


@pytest.mark.parametrize(
    ("action", "changes", "former"),
    [
        ("renamed", {"repository": {"name": {"from": "old"}}}, (Repository("Codertocat", "old"),)),
        ("transferred", {"owner": {"from": {"user": {"login": "ada"}}}}, (Repository("ada", "Hello-World"),)),
        (
            "transferred",
            {"owner": {"from": {"organization": {"login": "o"}}}},
            (Repository("o", "Hello-World"),),
        ),
        ("edited", {"default_branch": {"from": "main"}}, ()),
        ("archived", None, ()),
        ("unarchived", None, ()),
        ("privatized", None, ()),
        ("publicized", None, ()),
    ],
)
def test_a_repository_is_resynced_under_all_its_names(
    action: str, changes: dict[str, Any] | None, former: tuple[Repository, ...]
) -> None:
    assert _changed("repository", action, changes) == RepositoryChange(
        "d-1", f"repository {action}", (NOW, *former)
    )


def test_only_a_deletion_names_a_state() -> None:
    assert _changed("repository", "deleted").word == "deleted"
    assert _read("public", repository=HELLO) == RepositoryChange("d-1", "public", (NOW,))


@pytest.mark.parametrize(
    ("action", "changes"), [("created", None), ("edited", {"description": {"from": "x"}}), ("sneezed", None)]
)
def test_an_event_that_concerns_no_pipeline_is_ignored(action: str, changes: dict[str, Any] | None) -> None:
    found = _changed("repository", action, changes)
    assert isinstance(found, Ignored)
    assert found.repository == NOW


@pytest.mark.parametrize(
    ("action", "word"),
    [("created", ""), ("deleted", "removed"), ("suspend", "removed"), ("unsuspend", "")],
)
def test_an_installation_event_names_repositories_or_their_owner(action: str, word: str) -> None:
    found = _read("installation", action=action, installation=INSTALLATION, repositories=LISTED)
    assert found == RepositoryChange("d-1", f"installation {action}", BOTH, word=word, installation=NUMBER)
    found = _read("installation", action=action, installation=INSTALLATION)
    assert found == RepositoryChange(
        "d-1", f"installation {action}", owner="octocat", word=word, installation=NUMBER
    )


@pytest.mark.parametrize(("action", "word"), [("added", ""), ("removed", "removed")])
def test_repositories_are_added_to_an_installation_and_removed(action: str, word: str) -> None:
    lists = {"repositories_added": [], "repositories_removed": [], f"repositories_{action}": LISTED}
    found = _read("installation_repositories", action=action, installation=INSTALLATION, **lists)
    assert found == RepositoryChange(
        "d-1", f"installation_repositories {action}", BOTH, word=word, installation=NUMBER
    )


def test_a_renamed_owner_concerns_all_its_known_repositories() -> None:
    changes = {"login": {"from": "former"}}
    found = _read("installation_target", action="renamed", account={"login": "octocat"}, changes=changes)
    assert found == RepositoryChange("d-1", "installation_target renamed", owner="former")


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("repository", {"action": "renamed", "repository": HELLO}),
        ("repository", {"action": "renamed", "repository": HELLO, "changes": {"repository": {"name": {}}}}),
        ("repository", {"action": 1, "repository": HELLO}),
        ("repository", {"action": "archived"}),
        ("installation", {"action": "deleted", "installation": {}}),
        ("installation", {"action": "deleted", "installation": INSTALLATION, "repositories": "all"}),
        ("installation_repositories", {"action": "added", "repositories_added": [{"full_name": "a b"}]}),
    ],
)
def test_a_missing_or_malformed_field_is_named(kind: str, payload: dict[str, Any]) -> None:
    with pytest.raises(PayloadError):
        _read(kind, **payload)


@pytest.mark.parametrize(
    ("sender", "login"),
    [
        ({"login": "octocat", "id": 1}, "octocat"),
        ({"login": "dependabot[bot]"}, "dependabot[bot]"),
        ({"login": ""}, ""),
        ({"login": None}, ""),
        ({"login": ["octocat"]}, ""),
        ({"login": "o" * 101}, ""),
        ({"login": "\ud800"}, ""),
        ({}, ""),
        ("octocat", ""),
        (None, ""),
    ],
)
def test_who_pushed_is_read_and_a_push_without_a_sender_is_accepted(sender: Any, login: str) -> None:
    push = _read("push", ref="refs/heads/x", before="0" * 40, after="a" * 40, repository=HELLO, sender=sender)
    assert push.sender == login
