"""Deployer reads, changes and redelivers only for its own webhook, of the repository or of its organization."""

import json
import time
import urllib.request
from typing import Any

import pytest

from deployer.environment.code_host import HookDelivery
from deployer.github.credentials import AppCredentials
from deployer.github.host import GitHubHost
from deployer.model.environments import Repository
from deployer.model.errors import NotFoundError
from sandbox.github.server import GitHubServer
from sandbox.installation import wait_for
from tests.contract.github.test_github_host import (  # noqa: F401  fixtures
    HOOK,
    DoubleKit,
    Kit,
    SandboxKit,
    github,
    kit,
    sandbox,
    without_waiting,
)

# each address differs from HOOK, http://127.0.0.1:9/webhooks/github
OTHERS = [
    "http://127.0.0.1:9/another/webhooks/github",
    "http://127.0.0.1:9/webhooks/github/",
    "http://127.0.0.1:9/webhooks/GitHub",
    "http://127.0.0.1:9/webhooks/github?x",
    "http://127.0.0.1:9/webhooks/github2",
    "http://127.0.0.1:99/webhooks/github",
    "http://127.0.0.2:9/webhooks/github",
    "http://localhost:9/webhooks/github",
    "https://127.0.0.1:9/webhooks/github",
    "http://eve.example/?to=http://127.0.0.1:9/webhooks/github",
]


@pytest.fixture(autouse=True)
def _no_organization_hooks(github: GitHubServer) -> None:  # noqa: F811
    for each in github.hub.store.organization_hooks("acme"):
        github.hub.store.delete_hook(each["id"])


def asked(sandbox: SandboxKit, verb: str, path: str, body: Any = None) -> Any:  # noqa: F811
    """The simulated GitHub's answer about a person."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": "token sandbox"}
    request = urllib.request.Request(f"{sandbox.server.url}/api/v3{path}", data, headers, method=verb)  # noqa: S310
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
        return json.load(answer)


def add_hook(sandbox: SandboxKit, place: str, url: str) -> dict[str, Any]:  # noqa: F811
    config = {"url": url, "content_type": "form", "secret": "theirs"}
    body = {"name": "web", "active": True, "events": ["push"], "config": config}
    return dict(asked(sandbox, "POST", f"{place}/hooks", body))


def add_organization_hook(kit: Kit, url: str) -> None:  # noqa: F811
    if isinstance(kit, DoubleKit):
        kit.fake.organization_hooks["acme"] = (url, "s", ["push"])
    elif isinstance(kit, SandboxKit):
        add_hook(kit, "/orgs/acme", url)


def pushes(kit: Kit) -> list[HookDelivery]:  # noqa: F811
    found = kit.host.deliveries(kit.repository, HOOK, time.time() - 60)
    return [each for each in found if each.event == "push"]


@pytest.mark.parametrize("place", ["repository", "organization"])
def test_another_product_s_webhook_is_neither_read_nor_changed(sandbox: SandboxKit, place: str) -> None:  # noqa: F811
    where = f"/repos/{sandbox.repository}" if place == "repository" else "/orgs/acme"
    others = [add_hook(sandbox, where, url) for url in OTHERS]
    sandbox.commit("refs/heads/main", {}, "1")
    sandbox.server.wait_idle()

    with sandbox.calls() as calls, pytest.raises(NotFoundError, match="has no webhook to"):
        sandbox.host.deliveries(sandbox.repository, HOOK, 0)
    assert not [call for call in calls if "deliveries" in call]
    assert sandbox.host.install_hook(sandbox.repository, HOOK, "ours", ["push"]) == "created"
    after = {each["id"]: each for each in asked(sandbox, "GET", f"{where}/hooks?per_page=100")}
    assert [after[each["id"]] for each in others] == others


def test_without_an_address_no_webhook_is_deployer_s(kit: Kit) -> None:  # noqa: F811
    kit.commit("refs/heads/main", {}, "1")
    for ask in (
        lambda: kit.host.deliveries(kit.repository, "", 0),
        lambda: kit.host.webhook_organization(kit.repository, ""),
    ):
        with pytest.raises(NotFoundError):
            ask()


def test_the_webhook_of_an_organization_counts_where_the_repository_has_none(kit: Kit) -> None:  # noqa: F811
    add_organization_hook(kit, HOOK)
    sha = kit.commit("refs/heads/main", {}, "1")
    kit.fail_delivery(sha)

    first = wait_for("the delivery fails", lambda: pushes(kit))[0]
    assert (first.ok, first.organization, first.hook > 0) == (False, "acme", True)
    assert kit.host.payload(kit.repository, first)["after"] == sha
    kit.host.redeliver(kit.repository, first)
    again = wait_for("it is sent again", lambda: len(found := pushes(kit)) == 2 and found)
    assert {each.guid for each in again} == {first.guid}

    assert kit.host.webhook_organization(kit.repository, HOOK) == "acme"
    assert kit.host.install_hook(kit.repository, HOOK, "s", ["repository"]) == "updated"
    assert kit.host.install_hook(kit.repository, HOOK, "s", ["push", "repository"]) == "unchanged"
    if isinstance(kit, SandboxKit):
        assert HOOK not in {
            each["config"]["url"] for each in asked(kit, "GET", f"/repos/{kit.repository}/hooks")
        }, "a second webhook would deliver everything twice"


def test_the_repository_s_own_webhook_comes_first(kit: Kit) -> None:  # noqa: F811
    assert kit.host.install_hook(kit.repository, HOOK, "s", ["push"]) == "created"
    add_organization_hook(kit, HOOK)
    sha = kit.commit("refs/heads/main", {}, "1")
    kit.fail_delivery(sha)
    assert kit.host.webhook_organization(kit.repository, HOOK) == ""
    assert wait_for("the delivery fails", lambda: pushes(kit))[0].organization == ""


def test_of_an_organization_s_deliveries_each_repository_sees_its_own(sandbox: SandboxKit) -> None:  # noqa: F811
    add_organization_hook(sandbox, HOOK)
    other, _ = sandbox.server.hub.create(f"{sandbox.repository}-other")
    sandbox.commit("refs/heads/main", {}, "1")
    sandbox.server.hub.change_repository(other, "privatize")
    sandbox.server.wait_idle()

    def events(repository: Repository) -> set[str]:
        return {each.event for each in sandbox.host.deliveries(repository, HOOK, 0)}

    assert events(sandbox.repository) == {"push"}
    assert events(Repository.parse(other.full_name)) == set()
    both = sandbox.host.deliveries(Repository.parse(other.full_name), HOOK, 0, {row_id(sandbox)})
    assert {each.event for each in both} == {"push"}, "of another one that is named, too"
    log = asked(sandbox, "GET", f"/orgs/acme/hooks/{_hook_id(sandbox)}/deliveries")
    assert {each["event"] for each in log} >= {"ping", "push"}


def row_id(sandbox: SandboxKit) -> int:  # noqa: F811
    return int(asked(sandbox, "GET", f"/repos/{sandbox.repository}")["id"])


def _hook_id(sandbox: SandboxKit) -> int:  # noqa: F811
    (hook,) = asked(sandbox, "GET", "/orgs/acme/hooks")
    return int(hook["id"])


def test_the_webhooks_of_a_person_are_not_requested(sandbox: SandboxKit) -> None:  # noqa: F811
    name = f"octocat/{sandbox.repository.name}"
    sandbox.server.hub.create(name)
    with (
        sandbox.calls() as calls,
        pytest.raises(NotFoundError, match=r"unset|has no webhook to .*; run: deployer"),
    ):
        sandbox.host.deliveries(Repository.parse(name), HOOK, 0)
    assert not [call for call in calls if "/orgs/" in call]


def test_an_error_says_that_the_organization_s_webhooks_cannot_be_read(
    sandbox: SandboxKit,  # noqa: F811
    app_key: str,
) -> None:
    host = GitHubHost(limited_token(sandbox, app_key), api_url=f"{sandbox.server.url}/api/v3")
    add_organization_hook(sandbox, HOOK)
    with pytest.raises(
        NotFoundError, match=r"the webhooks of acme cannot be read.*organization webhooks: read"
    ):
        host.deliveries(sandbox.repository, HOOK, 0)


def limited_token(sandbox: SandboxKit, app_key: str) -> str:  # noqa: F811
    """A token that may read the webhooks of repositories, but nothing of organizations."""
    installations = sandbox.server.hub.installations
    installations.accept_permissions("acme", {"contents": "read", "repository_hooks": "read"})
    app = AppCredentials("1", app_key, f"{sandbox.server.url}/api/v3")
    body = json.dumps({"permissions": {"repository_hooks": "read"}}).encode()
    url = (
        f"{app.client.api_url}/app/installations/{app.read_installation(sandbox.repository).id}/access_tokens"
    )
    request = urllib.request.Request(url, body, {"Authorization": app.sign_as_app().authorization})  # noqa: S310
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
        token = str(json.load(answer)["token"])
    installations.accept_permissions("acme")
    return token
