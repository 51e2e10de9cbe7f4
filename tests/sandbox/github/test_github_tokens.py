"""An installation token grants access to its repositories, with its permissions, for an hour."""

import base64
import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from github_kit import ENVIRONMENT, WorkingCopy

from deployer.github.host import GitHubHost
from deployer.model.environments import Repository
from sandbox.github import payloads, tokens
from sandbox.github.server import GitHubServer

Call = Callable[..., Any]
ACME = payloads.user_id("acme")


@pytest.fixture(scope="module")
def app_key() -> str:
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return made.private_bytes(*form).decode()


@pytest.fixture
def mint(call: Call, pushed: WorkingCopy, server: GitHubServer) -> Callable[..., Any]:
    """A function that requests a token as the App does; acme/other and elsewhere/app exist beside acme/app."""
    assert pushed.path.is_dir()
    for name in ("acme/other", "elsewhere/app"):
        server.hub.copy_repository(server.hub.get("acme/app"), name)  # type: ignore[arg-type]
    claims = {"iat": int(time.time()) - 1, "exp": int(time.time()) + 60, "iss": "1"}
    signed = jwt.encode(claims, "any key of the length that is asked for", "HS256")

    def ask(body: object, installation: int = ACME) -> Any:
        headers = {"Authorization": f"Bearer {signed}", "Content-Type": "application/json"}
        path = f"/api/v3/app/installations/{installation}/access_tokens"
        return call("POST", path, body=json.dumps(body).encode(), headers=headers)

    return ask


def token_of(answer: Any) -> str:
    assert answer.status == 201, answer.data
    return str(json.loads(answer.data)["token"])


def status_of(
    call: Call, method: str, path: str, token: str, body: object = None, scheme: str = "token"
) -> int:
    data = None if body is None else json.dumps(body).encode()
    return int(call(method, path, body=data, headers={"Authorization": f"{scheme} {token}"}).status)


def basic(token: str) -> str:
    return base64.b64encode(f"x-access-token:{token}".encode()).decode()


READ = {"repositories": ["app"], "permissions": {"contents": "read"}}


def test_the_access_of_a_token_for_one_repository(
    call: Call, mint: Callable[..., Any], pushed: WorkingCopy
) -> None:
    token, head = token_of(mint(READ)), pushed("rev-parse", "HEAD")
    api = "/api/v3/repos"
    for path, status in {
        f"{api}/acme/app": 200,
        f"{api}/acme/app/branches/main": 200,
        f"{api}/acme/app/contents/README.md": 200,
        f"{api}/acme/app/hooks": 403,
        f"{api}/acme/app/pulls": 403,
        f"{api}/acme/app/commits/{head}/statuses": 403,
        f"{api}/acme/other": 404,
        f"{api}/acme/other/branches/main": 404,
        f"{api}/elsewhere/app": 404,
        "/acme/app.git/info/refs?service=git-upload-pack": 200,
        "/acme/app.git/info/refs?service=git-receive-pack": 403,
        "/acme/other.git/info/refs?service=git-upload-pack": 404,
        "/acme/other/info/refs?service=git-upload-pack": 404,
    }.items():
        assert status_of(call, "GET", path, token) == status, path
        assert status_of(call, "GET", path, token, scheme="Bearer") == status, path
        assert status_of(call, "GET", path, basic(token), scheme="Basic") == status, path
    ref = {"ref": "refs/heads/mine", "sha": head}
    assert status_of(call, "POST", f"{api}/acme/app/git/refs", token, ref) == 403
    assert status_of(call, "POST", f"{api}/acme/other/git/refs", token, ref) == 404
    assert status_of(call, "POST", f"{api}/acme/app/statuses/{head}", token, {"state": "success"}) == 403
    assert status_of(call, "PATCH", f"{api}/acme/app", token, {"archived": True}) == 403
    assert status_of(call, "POST", "/acme/app.git/git-receive-pack", token) == 403
    refused = call("GET", f"{api}/acme/app/hooks", headers={"Authorization": f"token {token}"})
    assert refused.headers["X-Accepted-GitHub-Permissions"] == "repository_hooks=read"


def test_graphql_shows_only_repositories_of_the_token(call: Call, mint: Callable[..., Any]) -> None:
    headers = {"Authorization": f"bearer {token_of(mint(READ))}"}

    def seen(owner: str, name: str) -> bool:
        query = f'query {{ repository(owner: "{owner}", name: "{name}") {{ databaseId }} }}'
        answer = json.loads(
            call("POST", "/api/graphql", body=json.dumps({"query": query}), headers=headers).data
        )
        return bool((answer.get("data") or {}).get("repository"))

    assert [seen("acme", "app"), seen("acme", "other"), seen("elsewhere", "app")] == [True, False, False]


def test_a_token_without_limits_gives_access_to_its_owner_s_repositories_only(
    call: Call, mint: Callable[..., Any], pushed: WorkingCopy
) -> None:
    token, head = token_of(mint({})), pushed("rev-parse", "HEAD")
    for name, status in {"acme/app": 201, "acme/other": 201, "elsewhere/app": 404}.items():
        path = f"/api/v3/repos/{name}/statuses/{head}"
        assert status_of(call, "POST", path, token, {"state": "success"}) == status


@pytest.mark.parametrize(
    ("body", "installation", "status"),
    [
        ({"repositories": ["nowhere"]}, ACME, 422),
        ({"repository_ids": [12345]}, ACME, 422),
        ({"permissions": {"contents": "all"}}, ACME, 422),
        ({"permissions": ["contents"]}, ACME, 422),
        ({}, 1, 404),
    ],
)
def test_an_impossible_token_is_refused(
    mint: Callable[..., Any], body: object, installation: int, status: int
) -> None:
    assert mint(body, installation).status == status


def test_an_invalid_or_expired_token_is_refused(
    call: Call, mint: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_SECONDS", -1)
    for token in ("ghs_sandbox", token_of(mint(READ))):
        for path in ("/api/v3/repos/acme/app", "/acme/app.git/info/refs?service=git-upload-pack"):
            assert status_of(call, "GET", path, token) == 401


def test_the_token_for_a_template_reads_one_repository_only(
    server: GitHubServer, mint: Callable[..., Any], app_key: str, tmp_path: Any
) -> None:
    assert mint  # the fixture creates the repositories
    host = GitHubHost(app_id="1", private_key=app_key, api_url=f"{server.url}/api/v3")
    token = host.clone_token("acme/app")
    assert token != host.clone_token("acme/other")

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        header = (
            f"http.extraHeader=Authorization: Basic {basic(token)}"  # as CodePipeline and git send the token
        )
        return subprocess.run(
            ["git", "-c", header, *arguments], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True,
            check=False,
        )  # fmt: skip

    assert git("clone", "-q", f"{server.url}/acme/app.git", "cloned").returncode == 0
    other = git("clone", "-q", f"{server.url}/acme/other.git", "other")
    assert (other.returncode, "not found" in other.stderr) == (128, True), other.stderr
    push = git("-C", "cloned", "push", "-q", "origin", "HEAD:refs/heads/mine")
    assert (push.returncode, "403" in push.stderr) == (128, True), push.stderr
    assert set(server.hub.get("acme/app").git.refs()) == {"refs/heads/main"}  # type: ignore[union-attr]
    assert host.default_branch(Repository("acme", "app")) == "main", "its own token reads on"
