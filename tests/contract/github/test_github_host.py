"""The contract of the port `CodeHost`, tested with the double and with the adapter against the simulated GitHub."""

import base64
import http.server
import json
import os
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest

from deployer.environment.code_host import CodeHost, Head, HookDelivery, RepositoryFacts, Status
from deployer.github.host import GitHubHost
from deployer.model.environments import Repository
from deployer.model.errors import (
    CallLimitError,
    ConfigError,
    NoCommitError,
    NotFoundError,
    PermanentError,
    RightsError,
    ThrottledError,
    TransientError,
)
from deployer.model.refs import Ref
from deployer.queue.call_counter import CallCount, count_calls
from deployer.templates.folder_files import FILE_LIMIT, RECOGNIZED_FILES, UnreadableError
from sandbox.github.server import GitHubServer, create
from sandbox.installation import wait_for
from tests.doubles import FakeHost

MAIN = Ref("refs/heads/main")
TEMPLATE = {"deploy/pipeline.yml": "Resources: {}\n"}


class Kit(Protocol):
    """A repository that a test changes on GitHub's side."""

    host: CodeHost
    repository: Repository

    def commit(
        self, ref: str, files: dict[str, str], message: str, *, at: int = ..., root: bool = ...
    ) -> str:
        """Commit on top of the previous commit, or as a new root, and push the commit to a ref."""

    def tag(self, name: str, target: str, *, annotated: bool, at: int = ...) -> str: ...
    def remove(self, ref: str) -> None: ...
    def statuses(self, sha: str) -> dict[str, tuple[str, str]]: ...
    def rename(self, name: str) -> Repository: ...
    def change(self, **fields: bool) -> None: ...
    def fail_delivery(self, sha: str) -> None: ...
    def open_pull(self, branch: str) -> None: ...
    def commit_with(self, files: dict[str, str], path: str, kind: str) -> str: ...
    def comments(self) -> list[str]: ...


class DoubleKit:
    def __init__(self) -> None:
        self.host: CodeHost = FakeHost()
        self.fake = self.host
        self.repository = Repository("acme", "shop")
        self._number = 0
        self._peeled: dict[str, str] = {}
        self._last = ""

    def commit(
        self, ref: str, files: dict[str, str], message: str, *, at: int = 0, root: bool = False
    ) -> str:
        sha = self._next_id()
        parent = "" if root else self._last
        self.fake.push(self.repository, ref, sha, files=files, message=message, at=at, parent=parent)
        self._last = sha
        return sha

    def tag(self, name: str, target: str, *, annotated: bool, at: int = 0) -> str:
        made = self._next_id() if annotated else ""
        sha = self._peeled.get(target, target)
        self._peeled[made] = sha
        self.fake.push(self.repository, f"refs/tags/{name}", sha, annotated=made, at=at)
        return made or sha

    def remove(self, ref: str) -> None:
        self.fake.remove(self.repository, ref)

    def statuses(self, sha: str) -> dict[str, tuple[str, str]]:
        held = self.fake.statuses[self.repository, sha]
        return {context: (status.state, status.description) for context, status in held.items()}

    def rename(self, name: str) -> Repository:
        now = Repository("acme", name)
        self.fake.rename(self.repository, now)
        return now

    def change(self, **fields: bool) -> None:
        self.fake.change(self.repository, **fields)

    def fail_delivery(self, sha: str) -> None:
        payload = {"after": sha, "repository": {"full_name": self.repository.full_name}}
        self.fake.note_delivery(self.repository, "g-1", "push", payload, time.time())

    def open_pull(self, branch: str) -> None:
        self.fake.open_pull(self.repository, branch)

    def commit_with(self, files: dict[str, str], path: str, kind: str) -> str:
        sha = self.commit("refs/heads/main", {**files, **({path: "x"} if kind == "executable" else {})}, "1")
        if kind != "executable":
            self.fake.link(self.repository, sha, path, kind)
        return sha

    def comments(self) -> list[str]:
        return list(self.fake.said.values())

    def _next_id(self) -> str:
        self._number += 1
        return f"{self._number:040x}"


class SandboxKit:
    def __init__(self, server: GitHubServer, directory: Path, name: str) -> None:
        self.server = server
        self.host: CodeHost = GitHubHost("sandbox", api_url=f"{server.url}/api/v3")
        self.repository = Repository("acme", name)
        server.hub.create(self.repository.full_name)
        self._tree = directory
        self._git("init", "-q", "-b", "main")
        self._git("remote", "add", "origin", f"{server.url}/{self.repository}.git")

    def commit(
        self, ref: str, files: dict[str, str], message: str, *, at: int = 0, root: bool = False
    ) -> str:
        if root:
            self._git("update-ref", "-d", "HEAD")
        for path in self._tree.glob("deploy/*"):
            path.unlink()
        for name, content in files.items():
            path = self._tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        self._git("add", "-A")
        self._git("commit", "-q", "--allow-empty", "-m", message, at=at)
        self._git("push", "-q", "--force", "origin", f"HEAD:{ref}")
        return self._git("rev-parse", "HEAD")

    def tag(self, name: str, target: str, *, annotated: bool, at: int = 0) -> str:
        self._git("tag", *(["-a", "-m", name] if annotated else []), name, target, at=at)
        self._git("push", "-q", "origin", f"refs/tags/{name}")
        return self._git("rev-parse", f"refs/tags/{name}")

    def remove(self, ref: str) -> None:
        self._git("push", "-q", "origin", f":{ref}")

    def statuses(self, sha: str) -> dict[str, tuple[str, str]]:
        repo = self.server.hub.get(self.repository.full_name)
        assert repo is not None
        rows = sorted(self.server.hub.store.statuses(repo.id, sha), key=lambda row: row["id"])
        return {row["context"]: (row["state"], row["description"]) for row in rows}

    def rename(self, name: str) -> Repository:
        repo = self.server.hub.get(self.repository.full_name)
        assert repo is not None
        now = Repository("acme", f"{self.repository.name}-{name}")
        self.server.hub.change_repository(repo, "rename", now.name)
        return now

    def change(self, **fields: bool) -> None:
        repo = self.server.hub.get(self.repository.full_name)
        assert repo is not None
        actions = {"archived": "archive", "private": "privatize", "hidden": "uninstall"}
        for name in fields:
            self.server.hub.change_repository(repo, actions[name])

    def fail_delivery(self, sha: str) -> None:
        """Do nothing: no receiver is running, so the server's webhooks fail anyway."""

    def commit_with(self, files: dict[str, str], path: str, kind: str) -> str:
        """Push a commit with some files and with one path that is not a regular file."""
        head = self.commit("refs/heads/main", files, "before")
        self._git("rm", "-r", "-q", "--cached", "--ignore-unmatch", path)
        (self._tree.parent / f"{self._tree.name}.blob").write_text("x")
        blob = self._git("hash-object", "-w", str(self._tree.parent / f"{self._tree.name}.blob"))
        mode = {"symlink": "120000", "submodule": "160000", "executable": "100755", "dir": "100644"}[kind]
        entry = f"{path}/within" if kind == "dir" else path
        self._git(
            "update-index", "--add", "--cacheinfo", f"{mode},{head if kind == 'submodule' else blob},{entry}"
        )
        self._git("commit", "-q", "-m", kind)
        self._git("push", "-q", "--force", "origin", "HEAD:refs/heads/main")
        return self._git("rev-parse", "HEAD")

    def open_pull(self, branch: str) -> None:
        sha = self._git("rev-parse", "HEAD")
        self.server.hub.store.add_pull(self._repository_id(), head=branch, base="main", title=branch, sha=sha)

    def comments(self) -> list[str]:
        return [row["body"] for row in self.server.hub.store.comments(self._repository_id())]

    def _repository_id(self) -> int:
        repo = self.server.hub.get(self.repository.full_name)
        assert repo is not None
        return repo.id

    def push_chain(self, length: int) -> list[str]:
        """Push a chain of empty commits; returns their ids."""
        lines = [
            f"commit refs/heads/chain\ncommitter T <t@example.com> {number} +0000\ndata 1\nc\n"
            for number in range(length)
        ]
        subprocess.run(
            ["git", "fast-import", "--quiet"], cwd=self._tree, input="".join(lines), text=True, check=True
        )
        self._git("push", "-q", "origin", "refs/heads/chain")
        return self._git("rev-list", "refs/heads/chain").split()

    @contextmanager
    def calls(self) -> Iterator[list[str]]:
        """The API calls of the with block, as `METHOD path` with the path below the repository."""
        before, made = self._recorded_calls(), list[str]()
        yield made
        prefix = f"/api/v3/repos/{self.repository}"
        made += [
            f"{c['method']} {c['path'].removeprefix(prefix)}" for c in self._recorded_calls()[len(before) :]
        ]

    def _recorded_calls(self) -> list[Any]:
        with urllib.request.urlopen(f"{self.server.url}/_sandbox/calls", timeout=5) as answer:  # noqa: S310
            return list(json.load(answer))

    def _git(self, *command: str, at: int = 0) -> str:
        people = {
            f"GIT_{who}_{what}": "ada@x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, **people}
        env |= {"GIT_COMMITTER_DATE": f"{at} +0130"} if at else {}
        done = subprocess.run(
            ["git", *command], cwd=self._tree, env=env, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()


@pytest.fixture(scope="module")
def github(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHubServer]:
    server = create(data_dir=tmp_path_factory.mktemp("github"), webhook_url="http://127.0.0.1:9/")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def sandbox(github: GitHubServer, tmp_path: Path) -> Iterator[SandboxKit]:
    yield SandboxKit(github, tmp_path, f"shop-{tmp_path.name}"[:60])
    github.hub.faults.clear()


@pytest.fixture(params=["double", "sandbox"])
def kit(request: pytest.FixtureRequest) -> Kit:
    made: Kit = DoubleKit() if request.param == "double" else request.getfixturevalue("sandbox")
    return made


@pytest.fixture
def app_kit(kit: Kit, app_key: str) -> Kit:
    """The kit of a deployer that is a GitHub App."""
    if isinstance(kit, DoubleKit):
        kit.fake.is_app, kit.fake.app_hook = True, HOOK
    elif isinstance(kit, SandboxKit):
        kit.host = GitHubHost(app_id="1", private_key=app_key, api_url=f"{kit.server.url}/api/v3")
    return kit


@pytest.fixture
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every repeat start without a pause."""
    monkeypatch.setattr("deployer.github.client._backoff", lambda _: 0)


def facts_of(kit: Kit) -> RepositoryFacts:
    found = kit.host.facts(kit.repository)
    assert found is not None
    return found


# --- refs -------------------------------------------------------------------------------------------------------


def test_a_branch_head_has_its_commit_and_message(kit: Kit) -> None:
    sha = kit.commit("refs/heads/main", TEMPLATE, "add the page\n\n[skip deploy]")

    head = kit.host.head(kit.repository, MAIN)

    assert head is not None
    assert (head.object, head.sha) == (sha, sha)
    assert head.message.strip() == "add the page\n\n[skip deploy]"


@pytest.mark.parametrize("name", ["feature/ü#1", "a+b%20c", "release/v1.2.3", "what'$this;&=", "x" * 200])
def test_a_branch_with_any_name_that_git_allows_is_found(kit: Kit, name: str) -> None:
    sha = kit.commit(f"refs/heads/{name}", {}, "first")

    head = kit.host.head(kit.repository, Ref.of_branch(name))

    assert head is not None
    assert head.sha == sha
    assert Ref.of_branch(name) in facts_of(kit).refs


@pytest.mark.parametrize("missing", ["refs/heads/feature", "refs/heads/feature/xy", "refs/tags/feature/x"])
def test_a_ref_with_a_similar_name_is_not_found(kit: Kit, missing: str) -> None:
    kit.commit("refs/heads/feature/x", {}, "first")

    assert kit.host.head(kit.repository, Ref(missing)) is None


def test_a_deleted_ref_is_not_found(kit: Kit) -> None:
    kit.commit("refs/heads/main", {}, "first")
    kit.commit("refs/heads/gone", {}, "second")
    kit.remove("refs/heads/gone")

    assert kit.host.head(kit.repository, Ref.of_branch("gone")) is None
    assert set(facts_of(kit).refs) == {MAIN}


def test_nested_tags_are_peeled_to_their_commit(kit: Kit) -> None:
    sha = kit.commit("refs/heads/main", {}, "the release")
    light = kit.tag("light", sha, annotated=False)
    annotated = kit.tag("v1", sha, annotated=True)
    nested = kit.tag("v1-signed", annotated, annotated=True)

    for name, target in (("light", light), ("v1", annotated), ("v1-signed", nested)):
        head = kit.host.head(kit.repository, Ref(f"refs/tags/{name}"))
        assert head is not None
        assert (head.object, head.sha, head.message.strip()) == (target, sha, "the release")
    assert facts_of(kit).refs == {
        MAIN: sha,
        Ref("refs/tags/light"): sha,
        Ref("refs/tags/v1"): annotated,
        Ref("refs/tags/v1-signed"): nested,
    }


def test_a_tag_has_the_time_when_it_was_made(kit: Kit) -> None:
    sha = kit.commit("refs/heads/main", {}, "the release", at=1_700_000_000)
    kit.tag("light", sha, annotated=False)
    kit.tag("v1", sha, annotated=True, at=1_800_000_000)
    expected = {Ref("refs/tags/light"): 1_700_000_000, Ref("refs/tags/v1"): 1_800_000_000}

    assert facts_of(kit).made == expected
    heads = {ref: kit.host.head(kit.repository, ref) for ref in (MAIN, *expected)}
    assert {ref: head and head.at for ref, head in heads.items()} == {MAIN: 0, **expected}


def test_a_missing_repository_is_an_error_and_never_a_missing_branch(kit: Kit) -> None:
    nowhere = Repository("acme", "no-such-repository")
    asks: list[Callable[[], object]] = [
        lambda: kit.host.head(nowhere, MAIN),
        lambda: kit.host.files(nowhere, "0" * 40, "deploy"),
        lambda: kit.host.default_branch(nowhere),
        lambda: kit.host.post_commit_status(nowhere, "0" * 40, Status("deployer", "pending", "")),
    ]
    for ask in asks:
        with pytest.raises(PermanentError, match="no-such-repository"):
            ask()


def test_the_default_branch(kit: Kit) -> None:
    kit.commit("refs/heads/main", {}, "first")

    assert kit.host.default_branch(kit.repository) == "main"


# --- the repository as a whole ---


def test_the_facts_of_a_repository(kit: Kit) -> None:
    kit.commit("refs/heads/main", {}, "first")
    sha = kit.commit("refs/heads/main", {}, "second")
    found = facts_of(kit)

    assert found == RepositoryFacts(found.id, kit.repository.full_name, "main", refs={MAIN: sha})
    kit.change(archived=True, private=True)
    assert facts_of(kit) == replace(found, archived=True, private=True)


def test_a_former_name_leads_to_the_current_name_and_the_same_id(kit: Kit) -> None:
    kit.commit("refs/heads/main", {}, "first")
    before = facts_of(kit)
    now = kit.rename("renamed")

    expected = replace(before, full_name=now.full_name)
    assert (kit.host.facts(kit.repository), kit.host.facts(now)) == (expected, expected)


def test_facts_for_one_ref_have_that_ref_and_the_same_repository(kit: Kit) -> None:
    sha = kit.commit("refs/heads/main", {}, "first", at=1_700_000_000)
    kit.commit(
        "refs/heads/refs/heads/x", {}, "not x", at=1_700_000_000
    )  # GitHub also searches for the short name
    kit.tag("light", sha, annotated=False, at=1_700_000_000)
    kit.tag("v1", sha, annotated=True, at=1_800_000_000)
    every = facts_of(kit)
    assert len(every.refs) == 4

    missing = [Ref("refs/heads/x"), Ref("refs/heads/mai"), Ref("refs/heads/v1"), Ref("refs/tags/main")]
    for ref in (*every.refs, *missing):
        assert kit.host.facts(kit.repository, ref) == replace(
            every,
            refs={each: target for each, target in every.refs.items() if each == ref},
            made={each: at for each, at in every.made.items() if each == ref},
        )
    now = kit.rename("renamed")
    expected = replace(every, full_name=now.full_name, refs={MAIN: sha}, made={})
    assert (kit.host.facts(kit.repository, MAIN), kit.host.facts(now, MAIN)) == (expected, expected)


def test_the_facts_of_an_invisible_or_missing_repository_are_none(kit: Kit) -> None:
    kit.commit("refs/heads/main", {}, "first")
    kit.change(hidden=True)

    for only in (None, MAIN):
        assert kit.host.facts(kit.repository, only) is None
        assert kit.host.facts(Repository("acme", "no-such-repository"), only) is None


# --- the webhook ---

HOOK = "http://127.0.0.1:9/webhooks/github"


def test_install_hook_creates_one_webhook_and_corrects_it(kit: Kit) -> None:
    made = [kit.host.install_hook(kit.repository, HOOK, "hush", ["push"]) for _ in range(2)]
    assert made == ["created", "unchanged"]
    assert kit.host.install_hook(kit.repository, HOOK, "hush", ["repository"]) == "updated"
    assert kit.host.install_hook(kit.repository, HOOK, "hush", ["push"]) == "unchanged"


def test_a_webhook_is_found_if_only_the_answer_to_its_creation_was_lost() -> None:
    """GitHub would refuse an immediate repeat, because the webhook already exists."""
    made, events = list[Any](), ["push"]

    def answer(method: str, path: str, _headers: dict[str, str]) -> Answer:
        if method == "POST":
            if made:
                return (
                    422,
                    {},
                    {"message": "Validation Failed", "errors": [{"message": "Hook already exists"}]},
                )
            made.append({"id": 1, "active": True, "events": events, "config": {"url": "https://x/h"}})
            return 502, {}, {"message": "Server Error"}
        if path.endswith("/shop"):
            return 200, {}, {"id": 1, "owner": {"login": "acme", "type": "User"}}
        return 200, {}, {"id": 1} if method == "PATCH" else made

    with scripted_server(answer) as url:
        host, shop = GitHubHost("token", api_url=url), Repository("acme", "shop")
        with pytest.raises(TransientError, match="502"):
            host.install_hook(shop, "https://x/h", "secret", events)
        assert host.install_hook(shop, "https://x/h", "secret", events) == "updated"


def test_failed_deliveries_are_listed_and_redelivered(kit: Kit) -> None:
    began = time.time() - 5
    kit.host.install_hook(kit.repository, HOOK, "hush", ["push"])
    sha = kit.commit("refs/heads/main", {}, "first")
    kit.fail_delivery(sha)

    def pushes() -> list[HookDelivery]:
        found = kit.host.deliveries(kit.repository, HOOK, began)
        return [each for each in found if each.event == "push"]

    first = wait_for("the delivery fails", pushes)[0]
    assert (first.ok, first.hook > 0) == (False, True)
    assert kit.host.payload(kit.repository, first)["after"] == sha
    kit.host.redeliver(kit.repository, first)
    again = wait_for("it is sent again", lambda: len(found := pushes()) == 2 and found)
    assert {each.guid for each in again} == {first.guid}
    assert kit.host.deliveries(kit.repository, HOOK, time.time() + 60) == []


def test_an_app_signs_in_and_reads_its_own_webhook(app_kit: Kit) -> None:
    host, repository, began = app_kit.host, app_kit.repository, time.time() - 2
    address = app_kit.server.hub.webhook_url if isinstance(app_kit, SandboxKit) else HOOK
    sha = app_kit.commit("refs/heads/main", {}, "first")
    app_kit.fail_delivery(sha)

    def newest_push() -> HookDelivery | None:
        """The newest push of this repository; an App's webhook has the deliveries of every repository."""
        name = repository.full_name
        for each in host.deliveries(repository, address, began):
            if each.event == "push" and host.payload(repository, each)["repository"]["full_name"] == name:
                return each
        return None

    first = wait_for("the delivery fails", newest_push)
    assert first is not None
    assert (host.is_app, first.ok, first.hook) == (True, False, 0)
    assert host.payload(repository, first)["after"] == sha
    host.redeliver(repository, first)
    wait_for(
        "it is sent again",
        lambda: [each.guid for each in host.deliveries(repository, address, began)].count(first.guid) == 2,
    )
    assert facts_of(app_kit).refs == {MAIN: sha}
    with pytest.raises(NotFoundError, match="does not have the address"):
        host.deliveries(repository, "https://another.example/webhooks/github", began)
    app_kit.change(hidden=True)
    assert host.facts(repository) is None


def test_the_deliveries_of_a_missing_webhook_are_an_error(kit: Kit) -> None:
    kit.commit("refs/heads/main", {}, "first")
    with pytest.raises(NotFoundError, match="no webhook"):
        kit.host.deliveries(kit.repository, "/nowhere/else", 0)


def test_a_refusal_to_read_webhooks_is_a_rights_error(sandbox: SandboxKit) -> None:
    sandbox.change(hidden=True)
    with pytest.raises(RightsError, match="webhooks: read"):
        sandbox.host.deliveries(sandbox.repository, HOOK, 0)


def test_every_page_of_deliveries_is_read_back_to_the_given_time(sandbox: SandboxKit) -> None:
    sandbox.host.install_hook(sandbox.repository, HOOK, "hush", ["push"])
    repo = sandbox.server.hub.get(sandbox.repository.full_name)
    assert repo is not None
    hook = sandbox.server.hub.store.hooks(repo.id)[-1]["id"]
    for number in range(250):
        sandbox.server.hub.store.add_delivery(
            guid=f"g-{number}", hook_id=hook, repository_id=repo.id, event="public", payload="{}",
            state="failed", delivered_at=f"2026-01-01T00:{number // 60:02}:{number % 60:02}Z",
        )  # fmt: skip

    found = sandbox.host.deliveries(sandbox.repository, HOOK, 0)
    assert len([each for each in found if each.event == "public"]) == 250
    late = datetime(2026, 1, 1, 0, 4, 0, tzinfo=UTC).timestamp()
    assert {
        each.guid
        for each in sandbox.host.deliveries(sandbox.repository, HOOK, late)
        if each.event == "public"
    } == {f"g-{number}" for number in range(240, 250)}


# --- comments ---

FEATURE = Ref.of_branch("feature/ü#1")
MARK = "<!-- deployer: x -->"


def test_a_comment_on_a_branch_is_on_its_pull_requests_and_is_replaced(kit: Kit) -> None:
    sha = kit.commit(FEATURE.name, {}, "1")
    kit.commit("refs/heads/main", {}, "2")
    kit.open_pull("main")
    kit.open_pull(FEATURE.short)
    kit.open_pull(FEATURE.short)

    first = kit.host.comment(kit.repository, FEATURE, sha, f"{MARK}\n\nit ends")
    again = kit.host.comment(kit.repository, FEATURE, sha, f"{MARK}\n\nit ends soon")
    assert (len(first), first) == (2, again)
    assert kit.comments() == [f"{MARK}\n\nit ends soon"] * 2
    kit.host.change_comment(kit.repository, first[1], f"{MARK}\n\nit stays")
    assert sorted(kit.comments()) == [f"{MARK}\n\nit ends soon", f"{MARK}\n\nit stays"]


def test_without_a_pull_request_the_comment_is_on_the_commit(kit: Kit) -> None:
    sha = kit.commit(FEATURE.name, {}, "1")
    (comment,) = kit.host.comment(kit.repository, FEATURE, sha, f"{MARK}\nit ends")
    assert kit.comments() == [f"{MARK}\nit ends"]
    assert kit.host.comment(kit.repository, FEATURE, sha, f"{MARK}\nit ends soon") == [comment]
    assert kit.comments() == [f"{MARK}\nit ends soon"]
    kit.host.change_comment(kit.repository, comment, f"{MARK}\nit stays")
    assert kit.comments() == [f"{MARK}\nit stays"]


def test_a_missing_comment_cannot_be_changed(kit: Kit) -> None:
    kit.commit("refs/heads/main", {}, "1")
    for comment in ("issues/comments/999999", "comments/999999"):
        with pytest.raises(RightsError, match="write"):
            kit.host.change_comment(kit.repository, comment, "x")


def test_a_comment_on_an_invisible_repository_is_a_rights_error(sandbox: SandboxKit) -> None:
    sha = sandbox.commit("refs/heads/main", {}, "1")
    sandbox.change(hidden=True)
    with pytest.raises(RightsError, match="pull requests: write"):
        sandbox.host.comment(sandbox.repository, MAIN, sha, "x")


def test_comments_of_others_are_never_changed_and_closed_pull_requests_get_none(
    sandbox: SandboxKit,
) -> None:
    sha, store, row = (
        sandbox.commit(FEATURE.name, {}, "1"),
        sandbox.server.hub.store,
        sandbox._repository_id(),
    )
    sandbox.open_pull(FEATURE.short)
    store.add_comment(row, sha, "mallory", f"{MARK}\nmine")
    store.add_comment(row, sha, "octocat", f"something else\n{MARK}")
    store.update_pull(store.pulls(row)[0]["id"], state="closed")

    with sandbox.calls() as calls:
        sandbox.host.comment(sandbox.repository, FEATURE, sha, f"{MARK}\nit ends")
    others = [f"{MARK}\nmine", f"something else\n{MARK}"]
    assert sandbox.comments() == [*others, f"{MARK}\nit ends"]
    commit = f"/commits/{sha}/comments"
    assert calls == ["GET /pulls", f"GET {commit}", "GET /api/v3/user", f"POST {commit}"]
    with sandbox.calls() as calls:
        sandbox.host.comment(sandbox.repository, FEATURE, sha, f"{MARK}\nit ends soon")
    assert [each.split("/")[1] for each in calls] == ["pulls", "commits", "comments"]
    assert sandbox.comments() == [*others, f"{MARK}\nit ends soon"]


def test_thousands_of_comments_by_others_cost_a_few_calls(sandbox: SandboxKit) -> None:
    sha, store, row = (
        sandbox.commit(FEATURE.name, {}, "1"),
        sandbox.server.hub.store,
        sandbox._repository_id(),
    )
    for number in range(700):
        store.add_comment(row, sha, "mallory", f"{number}")
    with sandbox.calls() as calls:
        sandbox.host.comment(sandbox.repository, FEATURE, sha, f"{MARK}\nit ends")
    assert len(calls) <= 8
    assert sandbox.comments()[-1] == f"{MARK}\nit ends"


def test_the_quota_is_read_from_github_s_answers(sandbox: SandboxKit) -> None:
    with count_calls() as tally:
        sandbox.host.default_branch(sandbox.repository)
    assert tally.github_quota == 5000


@pytest.mark.parametrize("limit", ["", "none", "-1", "1e3", "1.5"])
def test_a_quota_that_is_not_a_number_is_ignored(limit: str) -> None:
    headers = {"x-ratelimit-limit": limit} if limit else {}
    with (
        scripted_server(lambda *_: (200, headers, {"default_branch": "main"})) as url,
        count_calls() as tally,
    ):
        GitHubHost("token", api_url=url).default_branch(Repository("acme", "shop"))
    assert tally.github_quota == 0


def test_one_task_cannot_exceed_its_call_limit(sandbox: SandboxKit) -> None:
    with sandbox.calls() as calls, count_calls(github_limit=3) as tally:
        for _ in range(3):
            sandbox.host.default_branch(sandbox.repository)
        for _ in range(2):
            with pytest.raises(CallLimitError, match="more than 3 calls to GitHub"):
                sandbox.host.default_branch(sandbox.repository)
        with pytest.raises(CallLimitError):
            sandbox.host.facts(sandbox.repository)
    assert (len(calls), tally.github) == (3, 3)


def test_a_pull_request_of_a_fork_gets_no_comment() -> None:
    def side(repository: int) -> dict[str, Any]:
        return {"ref": "x", "sha": "b" * 40, "repo": {"id": repository}}

    wrote = list[str]()

    def answer(method: str, path: str, _headers: dict[str, str]) -> Answer:
        if path.startswith("/repos/acme/shop/pulls?"):
            forks = [{"number": 1, "state": "open", "head": side(2), "base": side(1)}]
            gone = [{"number": 2, "state": "open", "head": side(1) | {"repo": None}, "base": side(1)}]
            other = [{"number": 3, "state": "open", "head": side(1) | {"ref": "y"}, "base": side(1)}]
            return 200, {}, forks + gone + other
        if method == "POST":
            wrote.append(path)
            return 201, {}, {"id": 7}
        return 200, {}, []

    with scripted_server(answer) as url:
        host = GitHubHost("token", api_url=url)
        assert host.comment(Repository("acme", "shop"), Ref.of_branch("x"), "a" * 40, "x") == ["comments/7"]
        heads = host.open_pull_requests(Repository("acme", "shop"))
    assert [(each.number, each.from_fork) for each in heads] == [(1, True), (2, True), (3, False)]
    assert wrote == [f"/repos/acme/shop/commits/{'a' * 40}/comments"]


def test_a_comment_whose_answer_was_lost_is_not_written_twice() -> None:
    written, place = list[dict[str, Any]](), f"/repos/acme/shop/commits/{'a' * 40}/comments"

    def answer(method: str, path: str, _headers: dict[str, str]) -> Answer:
        if path == "/user":
            return 200, {}, {"login": "deployer"}
        if method == "POST" and path == place:
            written.append({"id": 7, "body": "x", "user": {"login": "deployer"}})
            return 502, {}, {"message": "Server Error"}
        if method == "PATCH":
            return 200, {}, {"id": 7}
        return 200, {}, written if path.startswith(place) else []

    with scripted_server(answer) as url:
        host, shop, branch = GitHubHost("token", api_url=url), Repository("acme", "shop"), Ref.of_branch("x")
        with pytest.raises(TransientError, match="502"):
            host.comment(shop, branch, "a" * 40, "x")
        assert host.comment(shop, branch, "a" * 40, "x") == ["comments/7"]
    assert len(written) == 1


def test_the_error_names_the_permission_that_a_comment_needs() -> None:
    refusal = (403, {}, {"message": "Resource not accessible by integration"})
    with scripted_server(lambda *_: refusal) as url:
        host = GitHubHost("token", api_url=url)
        with pytest.raises(RightsError, match="pull requests: write"):
            host.comment(Repository("acme", "shop"), MAIN, "a" * 40, "x")
        with pytest.raises(RightsError, match="contents: write"):
            host.change_comment(Repository("acme", "shop"), "comments/7", "x")


# --- files ------------------------------------------------------------------------------------------------------


def test_files_are_read_at_the_commit_not_at_the_branch(kit: Kit) -> None:
    old = kit.commit("refs/heads/main", {"deploy/pipeline.yml": "old: ü\n", "deploy/deployer.yml": ""}, "1")
    new = kit.commit("refs/heads/main", {"deploy/pipeline.yml": "new: ü\n"}, "2")

    assert kit.host.files(kit.repository, old, "deploy") == {
        "pipeline.yml": "old: ü\n".encode(),
        "deployer.yml": b"",
    }
    assert kit.host.files(kit.repository, new, "deploy") == {"pipeline.yml": "new: ü\n".encode()}


_NOTHING = "nothing is deployed until the file itself is committed in its place"
_NO_FOLDER = "nothing is deployed until a folder is committed in its place"


@pytest.mark.parametrize(
    ("path", "kind", "text"),
    [
        ("deploy/pipeline.yml", "symlink", f"a symbolic link, which deployer does not follow; {_NOTHING}"),
        ("deploy/deployer.yaml", "submodule", f"a submodule, which deployer does not read; {_NOTHING}"),
        ("deploy/pipeline.parameters.json", "dir", f"a folder; {_NOTHING}"),
        ("deploy", "symlink", f"a symbolic link, which deployer does not follow; {_NO_FOLDER}"),
        ("deploy", "submodule", f"a submodule, which deployer does not read; {_NO_FOLDER}"),
    ],
)
def test_an_irregular_file_is_refused_by_name(kit: Kit, path: str, kind: str, text: str) -> None:
    files = {"README.md": "x"} if path == "deploy" else {"deploy/pipeline.json": "{}"}
    sha = kit.commit_with(files, path, kind)
    with pytest.raises(UnreadableError) as raised:
        kit.host.files(kit.repository, sha, "deploy")
    assert str(raised.value) == f"{path}{'/' if path == 'deploy' else ''}: it is {text}"


@pytest.mark.parametrize(
    ("path", "kind", "found"),
    [
        ("deploy/scripts", "symlink", {"pipeline.json"}),
        ("deploy/vendor", "submodule", {"pipeline.json"}),
        ("deploy/pipeline.yml.d", "dir", {"pipeline.json"}),
        ("deploy/deployer.yml", "executable", {"pipeline.json", "deployer.yml"}),
    ],
)
def test_irregular_files_that_deployer_does_not_read_are_ignored(
    kit: Kit, path: str, kind: str, found: set[str]
) -> None:
    sha = kit.commit_with({"deploy/pipeline.json": "{}"}, path, kind)
    assert kit.host.files(kit.repository, sha, "deploy").keys() == found


def test_a_file_called_deploy_is_refused(kit: Kit) -> None:
    sha = kit.commit_with({"README.md": "x"}, "deploy", "executable")
    assert kit.host.files(kit.repository, sha, "deploy") == {}


def test_the_files_changed_between_two_commits(kit: Kit) -> None:
    first = kit.commit("refs/heads/main", {"deploy/pipeline.yml": "a\n", "deploy/gone.txt": "x\n"}, "1")
    kit.commit("refs/heads/main", {"deploy/pipeline.yml": "b\n", "deploy/gone.txt": "x\n"}, "2")
    last = kit.commit("refs/heads/main", {"deploy/pipeline.yml": "b\n", "deploy/ü new.txt": "y\n"}, "3")

    changed = kit.host.changed_paths(kit.repository, first, last)

    assert changed == ["deploy/gone.txt", "deploy/pipeline.yml", "deploy/ü new.txt"]
    assert kit.host.changed_paths(kit.repository, last, last) == []
    assert (
        kit.host.changed_paths(kit.repository, "0" * 39 + "9", last) is None
    )  # a force push removed this commit


def test_changed_files_are_unknown_for_older_or_unrelated_commits_and_for_many_files(kit: Kit) -> None:
    first = kit.commit("refs/heads/main", {"deploy/pipeline.yml": "a\n"}, "1")
    second = kit.commit("refs/heads/main", {"deploy/pipeline.yml": "b\n"}, "2")
    many = kit.commit("refs/heads/main", {f"deploy/{number}": "" for number in range(301)}, "many")
    foreign = kit.commit("refs/heads/other", {"deploy/pipeline.yml": "b\n"}, "a root of its own", root=True)

    assert kit.host.changed_paths(kit.repository, first, second) == ["deploy/pipeline.yml"]
    for before, after in ((second, first), (second, many), (second, foreign)):
        assert kit.host.changed_paths(kit.repository, before, after) is None


@pytest.mark.usefixtures("without_waiting")
def test_changed_files_are_unknown_if_the_diff_is_too_large_for_github() -> None:
    described = {
        "message": "Server Error: Sorry, this diff is taking too long to generate.",
        "errors": [{"resource": "Comparison", "field": "diff", "code": "not_available"}],
    }
    with scripted_server(lambda *_: (500, {}, described)) as url, count_calls() as tally:
        host, shop = GitHubHost("token", api_url=url), Repository("acme", "shop")
        assert host.changed_paths(shop, "a" * 40, "b" * 40) is None
    assert tally.github == 1, "GitHub takes ten seconds for each"
    with (
        scripted_server(lambda *_: (500, {}, {"message": "Server Error"})) as url,
        pytest.raises(TransientError),
    ):
        GitHubHost("token", api_url=url).changed_paths(shop, "a" * 40, "b" * 40)


def test_only_files_that_deployer_uses_are_read(kit: Kit) -> None:
    names = [
        "deploy/pipeline.json",
        "deploy/pipeline.parameters.json",
        "deploy/README.md",
        "deploy/sub/pipeline.yml",
        "deploy/pipeline.yml.orig",
        "deploy/pipeline.parameters.production.yml",
        "deploy/pipeline.toml",
        "deploy/Pipeline.yml",
        "deploy/deployer.txt",
        *(f"deploy/pipeline.{number}.yml" for number in range(20)),
    ]
    sha = kit.commit("refs/heads/main", {**dict.fromkeys(names, "{}"), "other/pipeline.yml": "root"}, "1")

    files = kit.host.files(kit.repository, sha, "deploy")

    assert files == {"pipeline.json": b"{}", "pipeline.parameters.json": b"{}"}


def test_all_nine_usable_files_are_read(kit: Kit) -> None:
    sha = kit.commit("refs/heads/main", {f"deploy/{name}": name for name in RECOGNIZED_FILES}, "1")
    assert kit.host.files(kit.repository, sha, "deploy") == {name: name.encode() for name in RECOGNIZED_FILES}


def test_a_large_file_is_read_completely(kit: Kit) -> None:
    content = "# four\n" * 142_857 + "#"
    assert len(content) == FILE_LIMIT
    sha = kit.commit("refs/heads/main", {"deploy/pipeline.yml": content}, "1")

    assert kit.host.files(kit.repository, sha, "deploy")["pipeline.yml"].decode() == content


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ({"pipeline.yml": 1_000_001}, "deploy/pipeline.yml: it has 1,000,001 bytes; at most 1,000,000 are"),
        (
            {"deployer.yml": 700_000, "pipeline.yml": 800_000, "pipeline.parameters.yml": 600_000},
            "deploy/pipeline.yml: it has 800,000 bytes, and the files that deployer reads have 2,100,000 together;",
        ),
    ],
)
def test_files_that_are_too_large_are_refused_by_name(kit: Kit, sizes: dict[str, int], text: str) -> None:
    files = {f"deploy/{name}": "#" * size for name, size in sizes.items()}
    sha = kit.commit("refs/heads/main", {**files, "deploy/pipeline.iso": "#" * 3_000_000}, "1")

    with pytest.raises(UnreadableError) as caught:
        kit.host.files(kit.repository, sha, "deploy")
    assert text in str(caught.value)


def test_a_commit_is_found_by_its_full_or_short_id(kit: Kit) -> None:
    sha = kit.commit("refs/heads/main", TEMPLATE, "one")
    assert kit.host.commit(kit.repository, sha) == sha
    assert kit.host.commit(kit.repository, sha[:39]) == sha
    for unknown in ("f" * 40, "f" * 12):
        with pytest.raises(NotFoundError, match=f"^{kit.repository} has no commit {unknown}"):
            kit.host.commit(kit.repository, unknown)
    with pytest.raises(PermanentError):
        kit.host.commit(Repository("acme", "nowhere"), sha[:12])


def test_a_prefix_of_several_commits_is_an_error(kit: Kit) -> None:
    commits = [kit.commit("refs/heads/main", TEMPLATE, str(number)) for number in range(2)]
    if isinstance(kit, SandboxKit):
        commits = kit.push_chain(2000)  # with so many commits, two ids begin with the same four digits
    seen = Counter(sha[:4] for sha in commits)
    (prefix, _), *_ = seen.most_common(1)
    assert seen[prefix] > 1
    with pytest.raises(
        NotFoundError,
        match=f"has no commit {prefix}, or several commits begin with these digits: give more digits$",
    ):
        kit.host.commit(kit.repository, prefix)


def test_a_branch_named_like_a_commit_id_is_not_taken_for_a_commit(kit: Kit) -> None:
    sha = kit.commit("refs/heads/main", TEMPLATE, "one")
    kit.commit("refs/heads/abcdef1", TEMPLATE, "two")
    assert kit.host.commit(kit.repository, sha) == sha
    with pytest.raises(NotFoundError):
        kit.host.commit(kit.repository, "abcdef1")


def test_a_missing_folder_has_no_files_but_a_missing_commit_is_an_error(kit: Kit) -> None:
    sha = kit.commit("refs/heads/main", {"README": "x"}, "1")

    assert kit.host.files(kit.repository, sha, "deploy") == {}
    with pytest.raises(PermanentError):
        kit.host.files(kit.repository, "1" * 40, "deploy")


# --- statuses ---------------------------------------------------------------------------------------------------


def test_a_status_replaces_the_earlier_one_of_its_context(kit: Kit) -> None:
    sha = kit.commit("refs/heads/main", {}, "1")

    kit.host.post_commit_status(
        kit.repository, sha, Status("deployer/build", "pending", "building", "https://x.example/1")
    )
    kit.host.post_commit_status(kit.repository, sha, Status("deployer/build", "success", "built"))
    kit.host.post_commit_status(kit.repository, sha, Status("deployer/test", "failure", "broken"))

    assert kit.statuses(sha) == {
        "deployer/build": ("success", "built"),
        "deployer/test": ("failure", "broken"),
    }


def test_missing_permissions_need_a_visible_repository(kit: Kit) -> None:
    kit.commit("refs/heads/main", {}, "1")

    assert kit.host.missing_permissions(kit.repository) == []
    with pytest.raises(PermanentError):
        kit.host.missing_permissions(Repository("acme", "no-such-repository"))


def test_a_status_for_a_missing_commit_is_an_error(kit: Kit) -> None:
    kit.commit("refs/heads/main", {}, "1")

    with pytest.raises(PermanentError):
        kit.host.post_commit_status(kit.repository, "1" * 40, Status("deployer", "pending", ""))


# --- the adapter alone ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x" * 140, "x" * 140),
        ("x" * 141, "x" * 139 + "…"),
        ("two\n  lines", "two lines"),
        ("x" * 138 + "e\u0301" + "yy", "x" * 138 + "…"),
        ("x" * 137 + "👩\u200d🚒" + "yy", "x" * 137 + "…"),
        ("🚒" * 141, "🚒" * 139 + "…"),
    ],
)
def test_descriptions_are_shortened_between_visible_characters(
    sandbox: SandboxKit, text: str, shown: str
) -> None:
    sha = sandbox.commit("refs/heads/main", {}, "1")

    sandbox.host.post_commit_status(
        sandbox.repository, sha, Status("c" * 300, "error", text, "ftp://not.allowed/")
    )

    ((context, (state, description)),) = sandbox.statuses(sha).items()
    assert (state, description) == ("error", shown)
    assert len(context) == 255


def test_an_empty_repository_has_no_refs(sandbox: SandboxKit) -> None:
    assert sandbox.host.head(sandbox.repository, MAIN) is None
    found = facts_of(sandbox)
    assert replace(found, id=0) == RepositoryFacts(0, sandbox.repository.full_name, "main")
    assert sandbox.host.facts(sandbox.repository, MAIN) == found


def test_a_tag_of_a_file_is_an_error(sandbox: SandboxKit) -> None:
    sandbox.commit("refs/heads/main", {"README": "x"}, "1")
    sandbox.tag("odd", "HEAD:README", annotated=True)

    with pytest.raises(NoCommitError, match="points to a blob"):
        sandbox.host.head(sandbox.repository, Ref("refs/tags/odd"))


def test_many_refs_take_several_pages_and_one_ref_takes_one_call(sandbox: SandboxKit) -> None:
    sha = sandbox.commit("refs/heads/main", {}, "1")
    names = [f"refs/heads/b/{number}" for number in range(101)]
    repo = sandbox.server.hub.get(sandbox.repository.full_name)
    assert repo is not None
    # written directly, because the webhooks of a push would take time
    repo.git.run("update-ref", "--stdin", data="".join(f"create {name} {sha}\n" for name in names).encode())

    with sandbox.calls() as calls, count_calls() as tally:
        assert facts_of(sandbox).refs == dict.fromkeys([MAIN, *map(Ref, names)], sha)
    assert calls == ["POST /api/graphql"] * 2
    assert tally == CallCount(github=2)
    for ref, target in {Ref(names[-1]): {Ref(names[-1]): sha}, Ref("refs/heads/b"): {}}.items():
        with sandbox.calls() as calls, count_calls() as tally:
            found = sandbox.host.facts(sandbox.repository, ref)
        assert found is not None
        assert (found.refs, calls, tally) == (target, ["POST /api/graphql"], CallCount(github=1))


def test_the_number_of_calls_of_each_operation(sandbox: SandboxKit) -> None:
    host, repository = sandbox.host, sandbox.repository
    names = ["pipeline.yml", "pipeline.parameters.json", "README.md", "notes.txt"]
    sha = sandbox.commit("refs/heads/main", {f"deploy/{name}": name for name in names}, "1")

    with sandbox.calls() as calls, count_calls() as tally:
        host.head(repository, MAIN)
        assert len(host.files(repository, sha, "deploy")) == 2
        host.post_commit_status(repository, sha, Status("deployer", "pending", "creating"))
    assert tally == CallCount(github=len(calls))

    assert [
        call.replace(sha, "SHA").rpartition("/blobs/")[0] or call.replace(sha, "SHA") for call in calls
    ] == [
        "GET /branches/main",
        "GET /contents/deploy",
        "GET /git",
        "GET /git",
        "POST /statuses/SHA",
    ]


def test_a_cached_file_is_not_read_again(sandbox: SandboxKit) -> None:
    host, repository = sandbox.host, sandbox.repository
    files = {"deploy/pipeline.yml": "a: 1\n", "deploy/pipeline.json": "{}"}
    old = sandbox.commit("refs/heads/main", files, "1")
    new = sandbox.commit("refs/heads/main", {**files, "deploy/pipeline.yml": "a: 2\n"}, "2")

    assert host.files(repository, old, "deploy") == {"pipeline.yml": b"a: 1\n", "pipeline.json": b"{}"}
    with sandbox.calls() as calls:
        assert host.files(repository, new, "deploy") == {"pipeline.yml": b"a: 2\n", "pipeline.json": b"{}"}
        assert host.files(repository, old, "deploy") == {"pipeline.yml": b"a: 1\n", "pipeline.json": b"{}"}
    assert len([call for call in calls if "/blobs/" in call]) == 1
    with pytest.raises(PermanentError):
        host.files(repository, "1" * 40, "deploy")


@pytest.mark.parametrize(("blobs", "size", "cost"), [(1, 100, 4), (100, 10, 2), (100, 100, 1)])
def test_the_cache_of_files_is_bounded(
    sandbox: SandboxKit, monkeypatch: pytest.MonkeyPatch, blobs: int, size: int, cost: int
) -> None:
    monkeypatch.setattr("deployer.github.files._MAX_CACHED_BLOBS", blobs)
    monkeypatch.setattr("deployer.github.files._MAX_CACHED_BYTES", size)
    host = GitHubHost("sandbox", api_url=f"{sandbox.server.url}/api/v3")
    files = {"deploy/pipeline.yml": "a", "deploy/pipeline.json": "b", "deploy/deployer.yml": "c" * 11}
    sha = sandbox.commit("refs/heads/main", files, "1")

    for _ in range(2):
        with sandbox.calls() as calls:
            found = host.files(sandbox.repository, sha, "deploy")
        assert {f"deploy/{name}": content.decode() for name, content in found.items()} == files
    assert len(calls) == cost


def test_files_that_are_too_large_or_unused_are_not_fetched(sandbox: SandboxKit) -> None:
    large = {"deploy/deployer.yml": "a: 1\n", "deploy/pipeline.yml": "#" * 1_000_001}
    of_no_use = {f"deploy/pipeline.{number}": "#" for number in range(50)}
    sha = sandbox.commit("refs/heads/main", {**large, **of_no_use}, "1")
    with sandbox.calls() as calls, pytest.raises(UnreadableError):
        sandbox.host.files(sandbox.repository, sha, "deploy")
    sha = sandbox.commit("refs/heads/main", {"deploy/pipeline.yml": "a: 1\n", **of_no_use}, "2")
    assert not [call for call in calls if "/blobs/" in call]
    with sandbox.calls() as calls:
        sandbox.host.files(sandbox.repository, sha, "deploy")
    assert len([call for call in calls if "/blobs/" in call]) == 1


@pytest.mark.usefixtures("without_waiting")
@pytest.mark.parametrize("content", [b"abcd", b"ab", b""])
def test_a_file_whose_size_differs_from_its_listing_is_an_error(content: bytes) -> None:
    def answer(_method: str, path: str, _headers: dict[str, str]) -> Answer:
        if "/contents/" in path:
            entry = {
                "name": "pipeline.yml",
                "type": "file",
                "size": 3,
                "sha": "1" * 40,
                "url": "x?ref=" + "a" * 40,
                "download_url": "https://x",
            }
            return 200, {}, [entry]
        return 200, {}, {"content": base64.b64encode(content).decode(), "encoding": "base64"}

    with (
        scripted_server(answer) as url,
        pytest.raises(TransientError, match=rf"has {len(content)} bytes, but 3 in the list"),
    ):
        GitHubHost("token", api_url=url).files(Repository("acme", "shop"), "a" * 40, "deploy")


def test_a_request_is_repeated_after_a_server_error(sandbox: SandboxKit) -> None:
    sha = sandbox.commit("refs/heads/main", {}, "1")
    sandbox.server.hub.faults.merge({"api": {"status": 502, "count": 2}})

    with count_calls() as tally:
        assert sandbox.host.head(sandbox.repository, MAIN) == Head(sha, sha, "1")
    assert tally.github == 3, "each attempt is a call"


@pytest.mark.usefixtures("without_waiting")
def test_repeated_server_errors_are_a_transient_error(sandbox: SandboxKit) -> None:
    sandbox.commit("refs/heads/main", {}, "1")
    sandbox.server.hub.faults.merge({"api": {"status": 503, "count": 50}})

    with (
        sandbox.calls() as calls,
        pytest.raises(TransientError, match=r"reading refs/heads/main of acme/.* 503"),
    ):
        sandbox.host.head(sandbox.repository, MAIN)
    assert len(calls) == 4


@pytest.mark.usefixtures("without_waiting")
def test_an_unreachable_github_is_a_transient_error() -> None:
    with pytest.raises(TransientError, match="cannot be reached"):
        GitHubHost("token", api_url="http://127.0.0.1:9/api/v3").default_branch(Repository("acme", "shop"))


def test_a_missing_token_is_an_error_that_names_the_setting() -> None:
    with pytest.raises(ConfigError, match=r"^DEPLOYER_GITHUB_TOKEN is not set"):
        GitHubHost(api_url="http://127.0.0.1:9/api/v3").default_branch(Repository("acme", "shop"))


def test_a_secondary_rate_limit_is_not_retried_at_once(sandbox: SandboxKit) -> None:
    sandbox.commit("refs/heads/main", {}, "1")
    sandbox.server.hub.faults.merge({"secondary_rate_limit": {"count": 1, "retry_after": 42}})

    with sandbox.calls() as calls, pytest.raises(TransientError, match="rate limit") as raised:
        sandbox.host.head(sandbox.repository, MAIN)
    assert raised.value.retry_after == 42
    assert len(calls) == 1


# --- answers that the simulated GitHub never gives ----------------------------------------------------------------

Answer = tuple[int, dict[str, str], Any]


@contextmanager
def scripted_server(
    answer: Callable[[str, str, dict[str, str]], Answer], sent: list[Any] | None = None
) -> Iterator[str]:
    """A server whose answers a function decides from method, path with query and headers; it records the bodies."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if asked and sent is not None:
                sent.append(json.loads(asked))
            status, headers, body = answer(self.command, self.path, dict(self.headers))
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = _answer  # noqa: N815

        def log_message(self, *_said: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "headers", "message", "error", "retry_after"),
    [
        (401, {}, "Bad credentials", TransientError, None),
        (403, {}, "Resource not accessible by personal access token", TransientError, None),
        (403, {}, "Repository was archived so is read-only.", PermanentError, None),
        (
            403,
            {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"},
            "API rate limit exceeded",
            TransientError,
            1,
        ),
        (403, {}, "You have exceeded a secondary rate limit", TransientError, 60),
        (403, {}, "You have triggered an abuse detection mechanism. Please wait", TransientError, 60),
        (429, {}, "Too many", TransientError, 60),
        (429, {"retry-after": "30"}, "Too many", TransientError, 30),
        (429, {"retry-after": "nan"}, "Too many", TransientError, 60),
        (429, {"retry-after": "inf"}, "Too many", TransientError, 60),
        (429, {"retry-after": "-5"}, "Too many", TransientError, 60),
        (429, {"retry-after": "soon"}, "Too many", TransientError, 60),
        (429, {"retry-after": "1e9"}, "Too many", TransientError, 3700),
        (429, {"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, "Too many", TransientError, 3700),
        (429, {"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, "Too many", TransientError, 1),
        *(
            (
                403,
                {"x-ratelimit-remaining": "0", "x-ratelimit-reset": reset},
                "API rate limit",
                TransientError,
                wait,
            )
            for reset, wait in {
                "nan": 60,
                "inf": 60,
                "-inf": 60,
                "": 60,
                "-1": 1,
                "9" * 400: 60,
                "9" * 30: 3700,
            }.items()
        ),
        (404, {}, "Not Found", PermanentError, None),
        (409, {}, "Git Repository is empty.", PermanentError, None),
        (409, {}, "Git Repository is unavailable", TransientError, None),
        (422, {}, "Validation Failed", PermanentError, None),
        (451, {}, "Blocked", PermanentError, None),
    ],
)
def test_each_error_of_github_has_its_remedy(
    status: int, headers: dict[str, str], message: str, error: type[Exception], retry_after: float | None
) -> None:
    with (
        scripted_server(lambda *_: (status, headers, {"message": message})) as url,
        pytest.raises(error) as raised,
    ):
        GitHubHost("token", api_url=url).default_branch(Repository("acme", "shop"))
    assert getattr(raised.value, "retry_after", None) == retry_after
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("message", ["Git Repository is unavailable", "Conflict", ""])
def test_another_conflict_does_not_mean_an_empty_repository(message: str) -> None:
    with scripted_server(lambda *_: (409, {}, {"message": message})) as url:
        host, repository = GitHubHost("token", api_url=url), Repository("acme", "shop")
        asks: list[Callable[[], object]] = [
            lambda: host.head(repository, MAIN),
            lambda: host.files(repository, "0" * 40, "deploy"),
            lambda: host.post_commit_status(repository, "0" * 40, Status("deployer", "pending", "")),
        ]
        for ask in asks:
            with pytest.raises(TransientError, match="409"):
                ask()


def repository_answer(**fields: Any) -> dict[str, Any]:
    """GitHub's description of a repository with one branch, with some fields replaced."""
    node = {"prefix": "refs/heads/", "name": "main", "target": {"oid": "a" * 40}}
    last = {"hasNextPage": False, "endCursor": "MQ"}
    return {
        "databaseId": 7, "nameWithOwner": "acme/shop", "isArchived": False, "isPrivate": False, "isEmpty": False,
        "defaultBranchRef": {"name": "main"},
        "heads": {"nodes": [node], "pageInfo": last}, "tags": {"nodes": [], "pageInfo": last},
    } | fields  # fmt: skip


def failure(message: str, **fields: Any) -> dict[str, Any]:
    return {"data": {"repository": None}, "errors": [{"message": message, **fields}]}


MISSING = failure("Could not resolve to a Repository", type="NOT_FOUND", path=["repository"])
TIMEOUT = {"message": "Something went wrong while executing your query. This may be the result of a timeout"}
NO_REFS = {"nodes": [], "pageInfo": {"hasNextPage": False, "endCursor": None}}


@pytest.mark.usefixtures("without_waiting")
@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (failure("No points left", type="RATE_LIMITED"), ThrottledError, "rate limit is exceeded"),
        (failure("No points left", type="RATE_LIMIT"), ThrottledError, "rate limit is exceeded"),
        (failure("You have exceeded a secondary rate limit"), ThrottledError, "rate limit is exceeded"),
        (failure("Protected by SAML", type="FORBIDDEN", path=["repository"]), RightsError, "SAML.*contents: read"),
        (failure("Your token lacks a scope", type="INSUFFICIENT_SCOPES"), RightsError, "contents: read"),
        (failure("Field 'x' doesn't exist", locations=[{"line": 1}]), TransientError, "400.*'x'"),
        (failure("no such node", type="NOT_FOUND", path=["repository", "heads"]), TransientError, "no such node"),
        ({**MISSING, "errors": [*MISSING["errors"], TIMEOUT]}, TransientError, "timeout"),
        ({"data": {"repository": repository_answer(heads=None)}, "errors": [TIMEOUT]}, TransientError, "timeout"),
        ({"errors": [TIMEOUT]}, TransientError, "timeout"),
        ({"data": {"repository": None}}, TransientError, "not what its API documents"),
        ({"data": {"repository": repository_answer(heads=None)}}, TransientError, "not what its API documents"),
        ({"data": {"repository": repository_answer(heads={**NO_REFS, "nodes": [None]})}}, TransientError, "documents"),
        ({"data": {"repository": repository_answer(heads=NO_REFS)}}, TransientError, "not empty"),
        ({}, TransientError, "not what its API documents"),
        ([], TransientError, "not what its API documents"),
    ],
)  # fmt: skip
def test_an_incomplete_query_answer_never_means_no_refs(
    answer: Any, error: type[Exception], text: str
) -> None:
    with scripted_server(lambda *_: (200, {}, answer)) as url, pytest.raises(error, match=text) as raised:
        GitHubHost("token", api_url=url).facts(Repository("acme", "shop"))
    assert type(raised.value) is error


@pytest.mark.usefixtures("without_waiting")
@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"data": {"repository": repository_answer()}}, "not what its API documents"),
        ({"data": {"repository": repository_answer(only=None, heads=NO_REFS)}}, "not empty"),
        (
            {"data": {"repository": repository_answer(only=None, heads={**NO_REFS, "nodes": [None]})}},
            "not what its API documents",
        ),
        ({"data": {"repository": repository_answer(only=None)}, "errors": [TIMEOUT]}, "timeout"),
        (
            {
                "data": {"repository": repository_answer(only=None)},
                "errors": [{"message": "no node", "type": "NOT_FOUND", "path": ["repository", "only"]}],
            },
            "no node",
        ),
    ],
)
def test_an_incomplete_query_answer_never_means_a_deleted_ref(answer: Any, text: str) -> None:
    with scripted_server(lambda *_: (200, {}, answer)) as url, pytest.raises(TransientError, match=text):
        GitHubHost("token", api_url=url).facts(Repository("acme", "shop"), Ref.of_branch("x"))


@pytest.mark.usefixtures("without_waiting")
def test_one_failed_page_of_refs_fails_the_whole_query() -> None:
    more = {
        "nodes": repository_answer()["heads"]["nodes"],
        "pageInfo": {"hasNextPage": True, "endCursor": "MQ"},
    }
    answers = [{"data": {"repository": repository_answer(heads=more)}}] + [{"errors": [TIMEOUT]}] * 9
    with scripted_server(lambda *_: (200, {}, answers.pop(0))) as url, pytest.raises(TransientError):
        GitHubHost("token", api_url=url).facts(Repository("acme", "shop"))
    assert len(answers) == 5, "the first page once, the second four times"


@pytest.mark.usefixtures("without_waiting")
@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("nan", None),
        ("inf", None),
        ("-inf", None),
        ("-1", None),
        ("x", None),
        ("1e308", 3700),
        ("99999", 3700),
    ],
)
def test_an_absurd_retry_after_is_ignored(asked: str, seconds: float | None) -> None:
    began = time.monotonic()
    refusal = (503, {"Retry-After": asked}, {"message": "Service Unavailable"})
    with scripted_server(lambda *_: refusal) as url, pytest.raises(TransientError, match="503") as raised:
        GitHubHost("token", api_url=url).default_branch(Repository("acme", "shop"))
    assert raised.value.retry_after == seconds
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("name", ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"])
@pytest.mark.parametrize("value", ["nan", "inf", "-1", "", "x", "9" * 5000])
def test_a_header_that_is_not_a_number_does_not_spoil_the_answer(name: str, value: str) -> None:
    headers = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "1", "x-ratelimit-reset": "1"} | {
        name: value
    }
    with (
        scripted_server(lambda *_: (200, headers, {"default_branch": "main"})) as url,
        count_calls() as tally,
    ):
        assert GitHubHost("token", api_url=url).default_branch(Repository("acme", "shop")) == "main"
    assert 0 <= tally.github_quota <= 1_000_000


def test_an_exceeded_rate_limit_waits_until_its_reset(sandbox: SandboxKit) -> None:
    sandbox.server.hub.faults.merge({"rate_limit": {"count": 2, "reset": 100}})

    for ask in (sandbox.host.facts, sandbox.host.default_branch):
        with sandbox.calls() as calls, pytest.raises(TransientError, match="rate limit") as raised:
            ask(sandbox.repository)
        assert 90 < (raised.value.retry_after or 0) <= 100
        assert len(calls) == 1


def test_github_may_answer_null_for_the_refs_of_an_empty_repository() -> None:
    described = repository_answer(isEmpty=True, defaultBranchRef=None, heads=None, tags=None)

    def answer(method: str, *_: object) -> Answer:
        return (
            200,
            {},
            {"data": {"repository": described}} if method == "POST" else {"default_branch": "trunk"},
        )

    with scripted_server(answer) as url:
        found = GitHubHost("token", api_url=url).facts(Repository("acme", "shop"))
    assert found == RepositoryFacts(7, "acme/shop", "trunk")


@pytest.mark.parametrize("there", [True, False])
def test_a_missing_graphql_api_says_nothing_about_the_repository(*, there: bool) -> None:
    def answer(method: str, *_: object) -> Answer:
        return (
            (200, {}, {"full_name": "acme/shop"})
            if method == "GET" and there
            else (404, {}, {"message": "Not Found"})
        )

    with scripted_server(answer) as url:
        host = GitHubHost("token", api_url=url)
        if there:
            with pytest.raises(TransientError, match="DEPLOYER_GITHUB_API_URL"):
                host.facts(Repository("acme", "shop"))
        else:
            assert host.facts(Repository("acme", "shop")) is None


def test_files_and_statuses_work_under_a_former_name() -> None:
    sha, taken = "a" * 40, list[str]()

    def answer(method: str, path: str, _headers: dict[str, str]) -> Answer:
        if path.startswith("/repos/acme/old"):
            location = path.replace("/repos/acme/old", "/repositories/1")
            return (307 if method == "POST" else 301), {"Location": f"{url}{location}"}, {"message": "Moved"}
        if method == "POST":
            taken.append(path)
            return 201, {}, {"context": "deployer"}
        if path == "/repositories/1":
            return 200, {}, {"full_name": "acme/new"}
        if "/contents/" in path:
            ref = path.partition("?ref=")[2] or "b" * 40  # the default branch's commit
            blob = {
                "name": "pipeline.yml",
                "type": "file",
                "size": 40,
                "sha": ref,
                "download_url": "https://x",
            }
            return 200, {}, [{**blob, "url": f"{url}/repositories/1/contents/deploy/pipeline.yml?ref={ref}"}]
        return (
            200,
            {},
            {"content": base64.b64encode(path.rpartition("/")[2].encode()).decode(), "encoding": "base64"},
        )

    with scripted_server(answer) as url:
        old = Repository("acme", "old")
        assert GitHubHost("token", api_url=url).files(old, sha, "deploy") == {"pipeline.yml": sha.encode()}
        GitHubHost("token", api_url=url).post_commit_status(old, sha, Status("deployer", "success", "done"))
    assert taken == [f"/repositories/1/statuses/{sha}"]


def test_a_former_name_belongs_to_a_new_repository_that_gets_it() -> None:
    sha, made_anew, taken = "a" * 40, list[bool](), list[str]()

    def answer(method: str, path: str, _headers: dict[str, str]) -> Answer:
        if method == "POST" and (made_anew or path.startswith("/repositories/1/")):
            taken.append(path)
            return 201, {}, {"context": "deployer"}
        if method == "POST":
            return 307, {"Location": path.replace("/repos/acme/old", "/repositories/1")}, {"message": "Moved"}
        if path.endswith("/branches/main"):
            commit = sha if path.startswith("/repos/acme/old") and made_anew else "b" * 40
            return 200, {}, {"name": "main", "commit": {"sha": commit, "commit": {"message": "1"}}}
        return 200, {}, {"full_name": "acme/new"}

    with scripted_server(answer) as url:
        host, old = GitHubHost("token", api_url=url), Repository("acme", "old")
        host.post_commit_status(old, sha, Status("deployer", "success", "gone"))
        made_anew.append(True)
        assert host.head(old, MAIN) == Head(sha, sha, "1")
        host.post_commit_status(old, sha, Status("deployer", "success", "done"))
    assert taken == [f"{place}/statuses/{sha}" for place in ("/repositories/1", "/repos/acme/old")]


def test_webhook_calls_work_under_a_former_name() -> None:
    taken, hooks = list[str](), list[dict[str, Any]]()

    def answer(method: str, path: str, _headers: dict[str, str]) -> Answer:
        if path.startswith("/repos/acme/old"):
            location = path.replace("/repos/acme/old", "/repositories/1")
            moved = {"message": "Moved Permanently", "url": f"{url}{location}"}
            return (301 if method == "GET" else 307), {"Location": moved["url"]}, moved
        if method == "GET":
            return (
                200,
                {},
                hooks if "/hooks" in path else {"id": 1, "owner": {"login": "acme", "type": "User"}},
            )
        taken.append(f"{method} {path}")
        if path.endswith("/hooks"):
            hooks.append({"id": 1, "active": True, "events": ["push"], "config": {"url": "https://x/h"}})
        return (202, {}, {}) if path.endswith("/attempts") else (200, {}, {"id": 1})

    with scripted_server(answer) as url:
        old, delivery = Repository("acme", "old"), HookDelivery(9, 1, "g", "push", ok=False, delivered_at=0)
        assert GitHubHost("token", api_url=url).install_hook(old, "https://x/h", "s", ["push"]) == "created"
        GitHubHost("token", api_url=url).install_hook(old, "https://x/h", "s", ["push"])
        GitHubHost("token", api_url=url).redeliver(old, delivery)
    new = "/repositories/1/hooks"
    assert taken == [f"POST {new}", f"PATCH {new}/1", f"POST {new}/1/deliveries/9/attempts"]


def test_the_result_of_each_delivery_attempt() -> None:
    def answer(_method: str, path: str, _headers: dict[str, str]) -> Answer:
        if "/deliveries" in path:
            common = {"guid": "g", "event": "push", "delivered_at": "2026-01-01T00:00:00Z"}
            return (
                200,
                {},
                [{"id": code or 1, "status_code": code, **common} for code in (202, 401, 503, 0, None)],
            )
        return 200, {}, [{"id": 1, "active": True, "events": ["push"], "config": {"url": "https://x/h"}}]

    with scripted_server(answer) as url:
        found = GitHubHost("token", api_url=url).deliveries(Repository("acme", "shop"), "https://x/h", 0)
    assert [(each.ok, each.refused) for each in found] == [
        (True, False),
        (False, True),
        (False, False),
        (False, False),
        (False, False),
    ]


def test_the_former_name_of_a_branch_is_not_found() -> None:
    def answer(_method: str, path: str, _headers: dict[str, str]) -> Answer:
        if path.endswith("/branches/old"):
            return 301, {"Location": f"{url}/repos/acme/shop/branches/new"}, {"message": "Moved"}
        if path.endswith("/branches/new"):
            return 200, {}, {"name": "new", "commit": {"sha": "a" * 40, "commit": {"message": "1"}}}
        return 200, {}, {"full_name": "acme/shop"}

    with scripted_server(answer) as url, count_calls() as tally:
        assert GitHubHost("token", api_url=url).head(Repository("acme", "shop"), Ref.of_branch("old")) is None
    assert tally.github == 2, "redirects are calls"


def test_slashes_in_a_branch_name_are_escaped() -> None:
    def answer(_method: str, path: str, _headers: dict[str, str]) -> Answer:
        if path.endswith("/branches/x/protection"):
            return 200, {}, {"name": "x", "enabled": False}
        return 200, {}, {"name": "x/protection", "commit": {"sha": "a" * 40, "commit": {"message": "1"}}}

    with scripted_server(answer) as url:
        head = GitHubHost("token", api_url=url).head(
            Repository("acme", "shop"), Ref.of_branch("x/protection")
        )
    assert head == Head("a" * 40, "a" * 40, "1")


@pytest.mark.parametrize(
    ("scopes", "described", "lacking"),
    [
        ("repo, workflow", {"private": True, "permissions": {"push": True}}, []),
        ("repo:status", {"private": False, "permissions": {"push": True}}, []),
        ("repo:status", {"private": True, "permissions": {"push": True}}, ["contents: read (scope repo)"]),
        ("gist", {"private": False}, ["statuses: write (scope repo:status)"]),
        (None, {"private": False, "permissions": {"push": False}}, ["statuses: write"]),
        (None, {"private": False, "permissions": {"push": True}}, []),
    ],
)
def test_the_missing_permissions_of_a_token(
    scopes: str | None, described: dict[str, Any], lacking: list[str]
) -> None:
    headers = {} if scopes is None else {"X-OAuth-Scopes": scopes}
    with scripted_server(lambda *_: (200, headers, described)) as url:
        assert GitHubHost("token", api_url=url).missing_permissions(Repository("acme", "shop")) == lacking


def test_an_app_that_is_installed_again_sees_its_repository(app_key: str) -> None:
    installation, page = [7], {"nodes": [], "pageInfo": {"hasNextPage": False, "endCursor": None}}
    shown = {
        "databaseId": 1,
        "nameWithOwner": "acme/shop",
        "isArchived": False,
        "isPrivate": True,
        "isEmpty": False,
    }
    main = {"prefix": "refs/heads/", "name": "main", "target": {"oid": "a" * 40}}
    described = {
        **shown,
        "defaultBranchRef": {"name": "main"},
        "heads": {**page, "nodes": [main]},
        "tags": page,
    }

    def answer(_method: str, path: str, headers: dict[str, str]) -> Answer:
        number = installation[0]
        if path == "/repos/acme/shop/installation":
            return 200, {}, {"id": number, "permissions": {}}
        if path == f"/app/installations/{number}/access_tokens":
            soon = datetime.now(UTC) + timedelta(seconds=1)  # so that each request needs a new token
            return 201, {}, {"token": f"ghs_{number}", "expires_at": soon.isoformat()}
        if headers["Authorization"] == f"token ghs_{number}":
            if path.endswith("/graphql"):
                return 200, {}, {"data": {"repository": described}}
            commit = {"sha": "a" * 40, "commit": {"message": "1"}}
            return 200, {}, {"default_branch": "main", "name": "main", "commit": commit}
        return 404, {}, {"message": "Not Found"}

    with scripted_server(answer) as url:
        host, shop = GitHubHost(app_id="1", private_key=app_key, api_url=url), Repository("acme", "shop")
        assert host.facts(shop) is not None
        for ask in (
            lambda: host.facts(shop),
            lambda: host.head(shop, MAIN),
            lambda: host.default_branch(shop),
        ):
            installation[0] += 1
            assert ask() is not None


def test_an_app_uses_the_installation_token_of_each_repository(app_key: str) -> None:
    asked = list[tuple[str, str, str]]()

    def answer(method: str, path: str, headers: dict[str, str]) -> Answer:
        asked.append((method, path, headers["Authorization"].partition(" ")[0]))
        if path == "/repos/acme/shop/installation":
            return 200, {}, {"id": 7, "permissions": {"contents": "read", "statuses": "read"}}
        if path == "/app/installations/7/access_tokens":
            return (
                201,
                {},
                {"token": "ghs_7", "expires_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()},
            )
        if path == "/repos/acme/shop" and headers["Authorization"] == "token ghs_7":
            return 200, {}, {"default_branch": "trunk", "private": True}
        return 404, {}, {"message": "Not Found"}

    with scripted_server(answer) as url:
        host = GitHubHost(app_id="1", private_key=app_key, api_url=url)
        shop = Repository("acme", "shop")
        assert [host.default_branch(shop), host.default_branch(shop)] == ["trunk", "trunk"]
        assert len(asked) == 4
        assert host.missing_permissions(shop) == ["statuses: write"]
        with pytest.raises(PermanentError, match="not installed on acme/other"):
            host.default_branch(Repository("acme", "other"))
        with pytest.raises(TransientError, match="private key"):
            GitHubHost(app_id="1", private_key="no key", api_url=url).default_branch(shop)


def test_an_app_gives_a_pipeline_a_new_token_for_its_own_repository_only(app_key: str) -> None:
    sent, made, until = list[Any](), list[str](), (datetime.now(UTC) + timedelta(hours=1)).isoformat()

    def answer(_method: str, path: str, _headers: dict[str, str]) -> Answer:
        if path == f"/app/installations/{7 + len(made)}/access_tokens":
            made.append(f"ghs_{7 + len(made)}")
            return 201, {}, {"token": made[-1], "expires_at": until}
        if path == "/repos/acme/shop/installation":
            return 200, {}, {"id": 7 + len(made), "permissions": {}}
        return 404, {}, {"message": "Not Found"}

    with scripted_server(answer, sent) as url:
        host = GitHubHost(app_id="1", private_key=app_key, api_url=url)
        assert host.clone_token("acme/shop") == "ghs_7"
        with pytest.raises(TransientError, match="installation on acme/shop was removed"):
            host.clone_token("acme/shop")
        assert host.clone_token("acme/shop") == "ghs_8"
    assert sent == [{"repositories": ["shop"], "permissions": {"contents": "read"}}] * 3


def test_check_reachable_makes_one_call_without_credentials(sandbox: SandboxKit) -> None:
    sandbox.host.check_reachable(5)
    GitHubHost(api_url=f"{sandbox.server.url}/api/v3").check_reachable(5)
    sandbox.server.hub.faults.merge({"api": {"status": 502, "count": 1}})
    with pytest.raises(TransientError, match=r"^GitHub answers 502 at http://127\.0\.0\.1:\d+$"):
        sandbox.host.check_reachable(5)
    sandbox.host.check_reachable(5)
