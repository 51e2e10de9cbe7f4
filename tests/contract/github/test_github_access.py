"""Installations, tokens, refusals and rate limits: the adapter over HTTP against the simulated GitHub."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import fakeredis
import pytest

from deployer.environment.code_host import Status
from deployer.github import client as github_client
from deployer.github import credentials as github_credentials
from deployer.github.host import GitHubHost
from deployer.model.environments import Repository
from deployer.model.errors import RightsError, ThrottledError, TransientError
from deployer.model.refs import Ref
from deployer.redis_store.github import rate_gate
from deployer.redis_store.github.sharing import RedisGitHubSharing
from sandbox.github import payloads, tokens
from sandbox.github.git import Person
from sandbox.github.limits import Allowed
from sandbox.github.server import GitHubServer, create

SHOP, OTHER = Repository("acme", "shop"), Repository("acme", "other")
ACME = payloads.user_id("acme")
SENT = Status("deployer/Deploy", "success", "done")


class Kit:
    """A simulated GitHub with acme/shop and acme/other, and processes of a deployer that share a Redis."""

    def __init__(self, server: GitHubServer, app_key: str, directory: Path) -> None:
        self.server, self._app_key = server, app_key
        self.heads = dict[Repository, str]()
        self.redis = fakeredis.FakeRedis(decode_responses=True)
        for each in (SHOP, OTHER):
            repository, _ = server.hub.create(each.full_name)
            sha = repository.git.commit_directory(directory, "1", Person("Ada", "ada@example.com", ""))
            repository.git.update_ref("refs/heads/main", sha, "0" * 40)
            self.heads[each] = sha
        self.sha = self.heads[SHOP]

    def process(self, token: str = "") -> GitHubHost:
        """Another process; with a token it is no App."""
        sharing = RedisGitHubSharing(self.redis, rate=1000)
        self.sharing = sharing
        url = f"{self.server.url}/api/v3"
        if token:
            return GitHubHost(token, api_url=url, sharing=sharing)
        return GitHubHost(app_id="1", private_key=self._app_key, api_url=url, sharing=sharing)

    def calls(self, suffix: str = "") -> list[str]:
        """Method and path of the requests whose path has this end."""
        calls = self.server.calls.since(0)
        return [f"{each['method']} {each['path']}" for each in calls if each["path"].endswith(suffix)]

    def post(self, host: GitHubHost, repository: Repository = SHOP) -> None:
        host.post_commit_status(repository, self.heads[repository], SENT)


@pytest.fixture
def kit(tmp_path: Path, app_key: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    server = create(data_dir=tmp_path / "github", webhook_url="http://127.0.0.1:9/")
    server.start()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "README.md").write_text("x")
    monkeypatch.setattr(github_client, "_backoff", lambda _: 0)
    yield Kit(server, app_key, tmp_path / "tree")
    server.stop()


# --- installations and tokens ---


def test_all_processes_share_one_token_of_an_installation(kit: Kit) -> None:
    for host in (kit.process(), kit.process(), kit.process()):
        for repository in (SHOP, OTHER):
            assert host.default_branch(repository) == "main"
    assert kit.calls("/access_tokens") == [f"POST /api/v3/app/installations/{ACME}/access_tokens"]
    assert len(kit.calls("/installation")) == 2, "once for each repository"


def test_redis_contains_no_token(kit: Kit) -> None:
    kit.process().default_branch(SHOP)
    stored = {key: kit.redis.get(key) for key in kit.redis.scan_iter(_type="string")}
    (key,) = [key for key in stored if key.endswith(":token")]
    assert key == f"deployer:github:{{installation-{ACME}}}:token"
    assert not any("ghs_" in str(value) or "eyJ" in str(value) for value in stored.values())
    assert 3400 < kit.redis.ttl(key) <= 3540, "it expires before GitHub refuses it"
    assert all(kit.redis.ttl(each) > 0 for each in kit.redis.scan_iter())


def test_an_installation_that_a_delivery_named_needs_no_call(kit: Kit) -> None:
    host = kit.process()
    kit.sharing.learn_installation(SHOP, ACME)
    assert host.default_branch(SHOP) == "main"
    assert kit.calls("/installation") == []


def test_a_wrong_installation_of_an_old_delivery_is_corrected(kit: Kit) -> None:
    host = kit.process()
    kit.sharing.learn_installation(SHOP, 12345)
    assert host.default_branch(SHOP) == "main"
    assert kit.sharing.installation(SHOP) == ACME


def test_a_token_is_renewed_before_it_expires(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github_credentials, "_TRUSTED_SECONDS", 0)
    monkeypatch.setattr(github_credentials.random, "uniform", lambda _low, high: high)
    host = kit.process()
    host.default_branch(SHOP)
    key = f"deployer:github:{{installation-{ACME}}}:token"
    kit.redis.expire(key, 241)
    host.default_branch(SHOP)
    assert len(kit.calls("/access_tokens")) == 1
    kit.redis.expire(key, 239)
    host.default_branch(SHOP)
    kit.process().default_branch(SHOP)
    assert len(kit.calls("/access_tokens")) == 2, "and the other process takes the new one"


def test_a_revoked_token_is_replaced(kit: Kit) -> None:
    host, other = kit.process(), kit.process()
    host.default_branch(SHOP), other.default_branch(SHOP)
    time.sleep(0.01)  # the times of tokens are compared
    kit.server.hub.installations.revoke_tokens("acme")
    for each in (host, other):
        with pytest.raises(TransientError, match="refuses deployer's credentials"):
            each.default_branch(SHOP)
        assert each.default_branch(SHOP) == "main"
    assert len(kit.calls("/access_tokens")) == 3


def test_an_expired_token_is_refused_by_the_simulator(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_SECONDS", -1)
    with pytest.raises(TransientError, match="refuses deployer's credentials"):
        kit.process().default_branch(SHOP)
    assert kit.redis.get(f"deployer:github:{{installation-{ACME}}}:token") is None


def test_tokens_work_while_redis_is_away(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    host = kit.process()
    monkeypatch.setattr(kit.sharing.redis, "run_if_available", lambda _: None)
    assert [host.default_branch(each) for each in (SHOP, SHOP, OTHER)] == ["main"] * 3
    assert len(kit.calls("/access_tokens")) == 1


def test_every_request_names_the_version_of_the_api(kit: Kit) -> None:
    host = kit.process()
    host.check_reachable(5)
    assert host.facts(SHOP) is not None
    kit.post(host)
    host.comment(SHOP, Ref.of_branch("main"), kit.sha, "hello")
    host.clone_token(SHOP.full_name)
    calls = kit.server.calls.since(0)
    assert len(calls) > 8
    assert {each["version"] for each in calls} == {"2022-11-28"}


# --- refusals ---


def page_of(kit: Kit) -> str:
    return f"{kit.server.url}/organizations/acme/settings/installations/{ACME}"


def test_a_suspended_installation_is_reported_with_its_page(kit: Kit) -> None:
    host = kit.process()
    host.default_branch(SHOP)
    kit.server.hub.installations.suspend("acme", suspended=True)
    problem = f"the GitHub App's installation on acme is suspended; unsuspend it at {page_of(kit)}"
    for each in (host, kit.process()):  # with a token that was issued before, and without one
        with pytest.raises(TransientError) as raised:
            each.default_branch(SHOP)
        assert str(raised.value) == f"reading repository acme/shop: {problem}"
        assert each.facts(SHOP) is None
        assert each.why_hidden(SHOP) == problem
    kit.server.hub.installations.suspend("acme", suspended=False)
    assert host.default_branch(SHOP) == "main"


def test_a_missing_installation_is_reported_with_the_page_of_the_app(kit: Kit) -> None:
    host = kit.process()
    kit.server.hub.change_repository(kit.server.hub.get("acme/shop"), "uninstall")  # type: ignore[arg-type]
    assert host.facts(SHOP) is None
    assert host.why_hidden(SHOP) == (
        f"the GitHub App is not installed on acme/shop; install it at {kit.server.url}/apps/deployer/installations/new"
    )
    assert host.why_hidden(OTHER) == ""


def test_permissions_that_are_not_accepted_are_reported_with_the_page(kit: Kit) -> None:
    host, installations = kit.process(), kit.server.hub.installations
    installations.accept_permissions("acme", {"contents": "read", "metadata": "read"})
    problem = (
        "acme has not accepted statuses: write for the GitHub App; "
        f"an owner of acme accepts it at {page_of(kit)}/permissions/update"
    )
    with pytest.raises(TransientError) as raised:
        kit.post(host)
    assert str(raised.value).endswith(f": {problem}")
    assert host.missing_permissions(SHOP) == ["statuses: write"]
    assert host.permission_remedy(SHOP) == problem
    asked = len(kit.calls("/installation"))
    with pytest.raises(TransientError):
        kit.post(host)
    assert len(kit.calls("/installation")) == asked, "the reason is not read again for each refusal"


def test_permissions_that_the_app_lacks_are_reported_with_its_settings(kit: Kit) -> None:
    host = kit.process()
    kit.server.hub.installations.request_permissions({"contents": "read"}, ["acme"])
    kit.server.hub.installations.accept_permissions("acme")
    assert host.permission_remedy(SHOP) == (
        "the GitHub App lacks statuses: write; add it at "
        f"{kit.server.url}/organizations/deployer-apps/settings/apps/deployer/permissions, then "
        f"an owner of acme accepts it at {page_of(kit)}/permissions/update"
    )


def test_accepted_permissions_count_from_the_next_attempt(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github_credentials, "_REFUSAL_SECONDS", 0)
    host, installations = kit.process(), kit.server.hub.installations
    installations.accept_permissions("acme", {"contents": "read"})
    with pytest.raises(TransientError):
        kit.post(host)
    installations.accept_permissions("acme")
    with pytest.raises(TransientError):  # with the token that was issued before
        kit.post(host)
    kit.post(host)


def test_single_sign_on_is_reported_with_the_page_that_github_names(kit: Kit) -> None:
    host = kit.process("sandbox")
    assert host.default_branch(SHOP) == "main"
    kit.server.hub.installations.require_sign_on("acme", required=True)
    problem = (
        "the token is not authorized for the organization's single sign-on; its owner authorizes it at "
        f"{kit.server.url}/orgs/acme/sso?authorization_request=A1B2C3"
    )
    with pytest.raises(TransientError) as raised:
        host.default_branch(SHOP)
    assert str(raised.value) == f"reading repository acme/shop: {problem}"
    with pytest.raises(RightsError) as refused:  # GraphQL answers this with status 200
        host.facts(SHOP)
    assert str(refused.value).endswith(f"; {problem}")
    assert kit.process().default_branch(SHOP) == "main", "an App needs no single sign-on"


@pytest.mark.parametrize(("token", "allowed"), [("sandbox", True), ("ben", True), ("eve", False)])
def test_a_personal_token_writes_if_its_owner_may_push(kit: Kit, token: str, allowed: bool) -> None:
    host = kit.process(token)
    assert host.default_branch(SHOP) == "main"
    if allowed:
        kit.post(host)
        return
    assert host.missing_permissions(SHOP) == ["statuses: write"]
    with pytest.raises(TransientError, match="personal access token"):
        kit.post(host)


def test_an_unknown_token_is_refused(kit: Kit) -> None:
    with pytest.raises(TransientError, match=r"refuses deployer's credentials \(Bad credentials\)"):
        kit.process("wrong").default_branch(SHOP)


# --- rate limits ---


def limit(kit: Kit, **numbers: int) -> None:
    kit.server.hub.limits.allowed = Allowed(enforced=True).with_changes(numbers)


def test_a_secondary_limit_stops_every_process_of_the_installation(kit: Kit) -> None:
    host, other = kit.process(), kit.process()
    limit(kit, content_minute=2)
    kit.post(host), kit.post(other)
    with pytest.raises(ThrottledError, match="rate limit is exceeded") as raised:
        kit.post(host)
    assert 50 < (raised.value.retry_after or 0) <= 60
    sent = len(kit.server.calls.since(0))
    for each in (host, other):
        with pytest.raises(ThrottledError, match=f"rate limit for installation-{ACME} is reached") as raised:
            each.default_branch(SHOP)
        assert 50 < (raised.value.retry_after or 0) <= 60
    assert len(kit.server.calls.since(0)) == sent, "nothing more is sent"


def test_a_spent_hour_is_noticed_before_github_refuses_anything(kit: Kit) -> None:
    host, other = kit.process(), kit.process()
    limit(kit, core=3)
    for _ in range(3):
        host.default_branch(SHOP)
    with pytest.raises(ThrottledError) as raised:
        other.default_branch(SHOP)
    assert (raised.value.retry_after or 0) > 3500
    assert {each["status"] for each in kit.server.calls.since(0)} == {200, 201}
    assert other.facts(SHOP) is not None, "GraphQL has an hour of its own"


def test_a_spent_hour_of_graphql_is_learnt_from_its_answer_with_status_200(kit: Kit) -> None:
    host = kit.process("sandbox")
    kit.server.hub.faults.merge({"rate_limit": {"count": 1, "reset": 900}})
    with pytest.raises(ThrottledError):
        host.facts(SHOP)
    sent = len(kit.server.calls.since(0))
    with pytest.raises(ThrottledError, match="rate limit for token"):
        host.facts(SHOP)
    assert len(kit.server.calls.since(0)) == sent


def test_points_are_spread_so_that_github_refuses_nothing(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    waited = list[float]()
    monkeypatch.setattr(rate_gate.time, "sleep", waited.append)
    sharing = RedisGitHubSharing(kit.redis)
    host = GitHubHost("sandbox", api_url=f"{kit.server.url}/api/v3", sharing=sharing)
    limit(kit)
    sent = 0
    with suppress(ThrottledError):
        while sent < 400:
            host.default_branch(SHOP)
            sent += 1
    assert sent >= 180
    assert {each["status"] for each in kit.server.calls.since(0)} == {200}


def test_what_an_answer_says_is_exported(kit: Kit) -> None:
    host = kit.process()
    host.default_branch(SHOP), host.facts(SHOP), kit.post(host)
    found = {(each.account, each.resource): each for each in kit.sharing.quotas()}
    assert set(found) == {
        ("app", "core"),
        (f"installation-{ACME}", "core"),
        (f"installation-{ACME}", "graphql"),
    }
    core = found[f"installation-{ACME}", "core"]
    assert (core.limit, core.remaining, core.writes) == (5000, 4998, 1)


def test_git_needs_no_token_of_the_api(kit: Kit, tmp_path: Path) -> None:
    done = subprocess.run(
        ["git", "clone", "-q", f"{kit.server.url}/acme/shop.git", str(tmp_path / "clone")],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
