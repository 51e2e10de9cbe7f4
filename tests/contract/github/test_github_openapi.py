"""Every request and answer of a tour of the adapter is as GitHub's published description says."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from deployer.environment.code_host import Status
from deployer.github import client as github_client
from deployer.github.host import GitHubHost
from deployer.github.pull_comments import MARKER
from deployer.model.environments import Repository
from deployer.model.errors import DeployerError
from deployer.model.refs import Ref
from sandbox.github.git import Person
from sandbox.github.server import GitHubServer, create
from tests.contract.github.openapi import problems_of

SHOP = Repository("acme", "shop")
HOOK = "http://127.0.0.1:9/webhooks/github"


class Recorder:
    """Records each REST request with its answer."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, Any, int, Any]] = []

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        send = requests.Session.send

        def record(
            session: requests.Session, request: requests.PreparedRequest, **more: Any
        ) -> requests.Response:
            answer = send(session, request, **more)
            url, body = str(request.url), request.body
            if "/api/v3/" in url and not url.endswith("/meta"):
                asked = None if body is None else json.loads(body)
                found = answer.json() if answer.content else None
                self.seen.append((str(request.method), url, asked, answer.status_code, found))
            return answer

        monkeypatch.setattr(github_client._Session, "send", record)

    def problems(self) -> list[str]:
        return sorted({text for each in self.seen for text in problems_of(*each)})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitHubServer]:
    made = create(data_dir=tmp_path / "github", webhook_url=HOOK)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()
    made.watch(monkeypatch)
    return made


def commit(server: GitHubServer, directory: Path, files: dict[str, str]) -> tuple[str, str]:
    """The two commits of acme/shop, the second with a tag."""
    repository, _ = server.hub.create(SHOP.full_name)
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    first = repository.git.commit_directory(directory, "1", Person("Ada", "ada@example.com", ""))
    tree = repository.git.text("rev-parse", f"{first}^{{tree}}").strip()
    second = repository.git.commit_tree(tree, [first], "2")
    repository.git.update_ref("refs/heads/main", second, "0" * 40)
    repository.git.update_ref("refs/heads/x", second, "0" * 40)
    subprocess.run(
        ["git", "-C", str(repository.git.path), "-c", "user.name=Ada", "-c", "user.email=ada@example.com",
         "tag", "-a", "-m", "first", "v1", second],
        check=True, capture_output=True,
    )  # fmt: skip
    return first, second


def tour(host: GitHubHost, server: GitHubServer, first: str, second: str) -> None:
    """Everything that deployer does on GitHub."""
    main = Ref.of_branch("main")
    repository = server.hub.get(SHOP.full_name)
    assert repository is not None
    pull = server.hub.store.add_pull(repository.id, head="x", base="main", title="more", sha=second)
    server.hub.store.protect(repository.id, "branch", "main")
    server.hub.store.protect(repository.id, "tag", "releases")
    assert host.default_branch(SHOP) == "main"
    assert host.head(SHOP, main) is not None
    assert host.head(SHOP, Ref("refs/tags/v1")) is not None
    assert host.commit(SHOP, second[:12]) == second
    assert set(host.files(SHOP, second, "deploy")) == {"pipeline.yml"}
    host.regular_files(SHOP, second, "deploy", "pipeline")
    host.ancestry(SHOP, first, second)
    host.changed_paths(SHOP, first, second)
    host.protected_branches(SHOP)
    host.read_protection(SHOP)
    assert host.open_pull_requests(SHOP)
    host.post_commit_status(SHOP, second, Status("deployer/Deploy", "success", "done", "https://x.example/1"))
    for branch in (Ref.of_branch("x"), Ref.of_branch("none")):
        for text in ("title\none", "title\ntwo"):
            try:
                written = host.comment(SHOP, branch, second, text)
                host.change_comment(SHOP, written[0], "title\nthree")
            except DeployerError as error:
                assert "contents: write" in str(error) or "pull requests: write" in str(error)  # noqa: PT017
    assert host.open_pulls(SHOP, Ref.of_branch("x")) == [1]
    for text in ("one", "two"):
        login = "deployer[bot]" if host.is_app else "octocat"
        server.hub.store.add_comment(repository.id, f"pull {pull['id']}", login, f"{MARKER}\n{text}")
        host.comment_on_pulls(SHOP, Ref.of_branch("x"), text, ended=text == "two")
    host.missing_permissions(SHOP)
    if not host.is_app:
        host.install_hook(SHOP, f"{HOOK}/2", "secret", ["push"])
        host.install_hook(SHOP, HOOK, "secret", ["push", "repository"])
    repository.git.update_ref("refs/heads/y", second, "0" * 40)
    with server.hub.changing_refs(repository):
        repository.git.update_ref("refs/heads/z", second, "0" * 40)
    assert server.wait_idle()
    deliveries = host.deliveries(SHOP, HOOK, time.time() - 60)
    assert deliveries
    host.payload(SHOP, deliveries[0])
    host.redeliver(SHOP, deliveries[0])


@pytest.mark.parametrize("signed_in_as", ["app", "token"])
def test_a_tour_is_as_github_describes_it(
    signed_in_as: str, server: GitHubServer, recorder: Recorder, app_key: str, tmp_path: Path
) -> None:
    first, second = commit(server, tmp_path / "tree", {"deploy/pipeline.yml": "Resources: {}\n"})
    url = f"{server.url}/api/v3"
    host = GitHubHost("sandbox", api_url=url)
    if signed_in_as == "app":
        host = GitHubHost(app_id="1", private_key=app_key, api_url=url)
        assert host.clone_token(SHOP.full_name)
        server.hub.installations.suspend("acme", suspended=True)
        assert host.why_hidden(SHOP)
        server.hub.installations.suspend("acme", suspended=False)
        server.hub.installations.accept_permissions("acme", {"contents": "read"})
        assert host.permission_remedy(SHOP)
        server.hub.installations.accept_permissions("acme")

    tour(host, server, first, second)

    assert len(recorder.seen) > 25
    assert recorder.problems() == []
    assert "DELETE" in {each[0] for each in recorder.seen}


def test_a_wrong_request_and_a_wrong_answer_are_noticed() -> None:
    url = "http://x/api/v3/repos/acme/shop/statuses/abc"
    assert problems_of("POST", url, {"state": "good"}, 403, {}) == [
        "POST /repos/{owner}/{repo}/statuses/{sha}: body: state: 'good' is not one of "
        + str(["error", "failure", "pending", "success"])
    ]
    assert problems_of("POST", url, {"state": "success", "colour": "red"}, 403, {}) == [
        "POST /repos/{owner}/{repo}/statuses/{sha}: no field colour in the body"
    ]
    assert problems_of(
        "GET", "http://x/api/v3/repos/acme/shop/hooks?per_page=100&since=1", None, 404, {}
    ) == ["GET /repos/{owner}/{repo}/hooks: no parameter since"]
    (problem, *_) = problems_of("GET", "http://x/api/v3/repos/acme/shop/hooks", None, 200, [{"id": "7"}])
    assert problem.startswith("GET /repos/{owner}/{repo}/hooks: 200: 0")
    assert problems_of("GET", "http://x/api/v3/zen", None, 200, "") == ["GET /zen is not described"]
