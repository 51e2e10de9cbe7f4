"""The one comment on a pull request: what `CodeHost.comment_on_pulls` promises, asked of the double and the adapter."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_github_host import DoubleKit, Kit, SandboxKit

from deployer.github.pull_comments import ENDED_MARKER, MARKER
from deployer.model.errors import RightsError
from deployer.model.refs import Ref
from sandbox.github.server import GitHubServer, create

X = Ref("refs/heads/feature/\u00fc#1")
OTHER = Ref("refs/heads/other")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHubServer]:
    made = create(data_dir=tmp_path_factory.mktemp("github"), webhook_url="http://127.0.0.1:9/")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def sandbox(server: GitHubServer, tmp_path: Path) -> SandboxKit:
    return SandboxKit(server, tmp_path, f"shop-{tmp_path.name}"[:60])


@pytest.fixture(params=["double", "sandbox"])
def kit(request: pytest.FixtureRequest) -> Kit:
    return DoubleKit() if request.param == "double" else request.getfixturevalue("sandbox")


def comments(kit: Any) -> list[str]:
    """The texts of deployer's comments on pull requests, in any order."""
    if isinstance(kit, DoubleKit):
        return [text for text, _ in kit.fake.pull_comments.values()]
    marks = (f"{MARKER}\n", f"{ENDED_MARKER}\n")
    return [each.partition("\n")[2] for each in kit.comments() if each.startswith(marks)]


def close(kit: Any, number: int) -> None:
    if isinstance(kit, DoubleKit):
        kit.fake.close_pull(kit.repository, number)
    else:
        row = kit._repository_id()
        store = kit.server.hub.store
        store.update_pull(store.pull(row, number)["id"], state="closed")


def begin(kit: Kit, *branches: Ref) -> None:
    kit.commit("refs/heads/main", {}, "1")
    for each in branches:
        kit.commit(each.name, {}, "2")
        kit.open_pull(each.short)


def test_each_open_pull_request_of_the_branch_has_one_comment(kit: Kit) -> None:
    begin(kit, X, OTHER)
    assert kit.host.open_pulls(kit.repository, X) == [1]
    for text in ("first", "second", "second"):
        kit.host.comment_on_pulls(kit.repository, X, text, ended=False)
        assert comments(kit) == [text]


def test_a_closed_pull_request_keeps_its_comment_until_the_environment_ends(kit: Kit) -> None:
    begin(kit, X)
    kit.host.comment_on_pulls(kit.repository, X, "present", ended=False)
    close(kit, 1)
    assert kit.host.open_pulls(kit.repository, X) == []
    kit.host.comment_on_pulls(kit.repository, X, "a later state", ended=False)
    assert comments(kit) == ["present"]
    kit.host.comment_on_pulls(kit.repository, X, "receipt", ended=True)
    kit.host.comment_on_pulls(kit.repository, X, "receipt of a later one", ended=True)
    assert comments(kit) == ["receipt"]


def test_a_closed_pull_request_without_comment_gets_none(kit: Kit) -> None:
    begin(kit, X)
    close(kit, 1)
    kit.host.comment_on_pulls(kit.repository, X, "receipt", ended=True)
    assert comments(kit) == []


def test_without_a_pull_request_nothing_is_written(kit: Kit) -> None:
    kit.commit(X.name, {}, "1")
    kit.host.comment_on_pulls(kit.repository, X, "text", ended=False)
    assert comments(kit) == []


# --- the adapter alone ---


def place(sandbox: SandboxKit, number: int = 1) -> tuple[int, str]:
    repository = sandbox._repository_id()
    row = sandbox.server.hub.store.pull(repository, number)
    assert row is not None
    return repository, f"pull {row['id']}"


def test_the_comment_is_found_behind_hundreds_of_others(sandbox: SandboxKit) -> None:
    begin(sandbox, X)
    store, where = sandbox.server.hub.store, place(sandbox)
    for number in range(250):
        store.add_comment(*where, "mallory", f"{MARKER}\n{number}" if number % 50 == 0 else str(number))
    sandbox.host.comment_on_pulls(sandbox.repository, X, "first", ended=False)
    for number in range(60):
        store.add_comment(*where, "ben", str(number))
    with sandbox.calls() as calls:
        sandbox.host.comment_on_pulls(sandbox.repository, X, "second", ended=False)
    mine = [each["body"] for each in store.comments(*where) if each["login"] == "octocat"]
    assert mine == [f"{MARKER}\nsecond"]
    assert [each.split()[0] for each in calls].count("PATCH") == 1
    assert len(calls) == 1 + 3 + 1, "the pull requests, the pages up to the comment, one edit"


def test_a_text_that_github_shows_already_is_not_written(sandbox: SandboxKit) -> None:
    begin(sandbox, X)
    sandbox.host.comment_on_pulls(sandbox.repository, X, "text", ended=False)
    with sandbox.calls() as calls:
        sandbox.host.comment_on_pulls(sandbox.repository, X, "text", ended=False)
    assert {each.split()[0] for each in calls} == {"GET"}


def test_of_duplicates_the_oldest_is_kept_and_edited(sandbox: SandboxKit) -> None:
    begin(sandbox, X)
    store, where = sandbox.server.hub.store, place(sandbox)
    first, *_ = [store.add_comment(*where, "octocat", f"{MARKER}\n{each}")["id"] for each in "abc"]
    store.add_comment(*where, "mallory", f"{MARKER}\nnot deployer's")
    sandbox.host.comment_on_pulls(sandbox.repository, X, "text", ended=False)
    left = [(each["id"], each["login"]) for each in store.comments(*where)]
    assert [login for _, login in left] == ["octocat", "mallory"]
    assert left[0][0] == first
    assert store.comments(*where)[0]["body"] == f"{MARKER}\ntext"


def test_two_workers_that_race_leave_one_comment(
    sandbox: SandboxKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find no comment, and both create one before either looks again."""
    begin(sandbox, X)
    together = threading.Barrier(2, timeout=20)
    store = sandbox.server.hub.store
    add = store.add_comment

    def slowly(*given: Any) -> Any:
        together.wait()  # both have looked
        made = add(*given)
        together.wait()  # both have written
        return made

    monkeypatch.setattr(store, "add_comment", slowly)
    failed: list[BaseException] = []

    def work(text: str) -> Callable[[], None]:
        def run() -> None:
            try:
                sandbox.host.comment_on_pulls(sandbox.repository, X, text, ended=False)
            except BaseException as error:  # noqa: BLE001
                failed.append(error)

        return run

    threads = [threading.Thread(target=work(text)) for text in ("one", "two")]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert failed == []
    assert len(comments(sandbox)) == 1
    assert comments(sandbox)[0] in {"one", "two"}


def test_a_comment_that_a_person_deleted_or_edited_is_right_again(sandbox: SandboxKit) -> None:
    begin(sandbox, X)
    store, where = sandbox.server.hub.store, place(sandbox)
    sandbox.host.comment_on_pulls(sandbox.repository, X, "text", ended=False)
    (mine,) = store.comments(*where)
    store.update_comment(mine["id"], f"{MARKER}\r\nedited\r\n")
    sandbox.host.comment_on_pulls(sandbox.repository, X, "text", ended=False)
    assert comments(sandbox) == ["text"]
    store.delete_comment(mine["id"])
    sandbox.host.comment_on_pulls(sandbox.repository, X, "text", ended=False)
    assert comments(sandbox) == ["text"]


def test_an_invisible_repository_is_a_rights_error(sandbox: SandboxKit) -> None:
    begin(sandbox, X)
    sandbox.change(hidden=True)
    with pytest.raises(RightsError, match="pull requests: write"):
        sandbox.host.comment_on_pulls(sandbox.repository, X, "text", ended=False)
