"""The contract of the port `CodeHost` for history, protection and rules: the double against the simulated GitHub."""

import json
import subprocess
import urllib.request
from typing import Any

import pytest
from msgspec import convert

from deployer.environment.code_host import Protection, Relation
from deployer.github.answers import Entry
from deployer.github.files import regular_entries
from deployer.github.host import GitHubHost
from deployer.model.environments import Repository
from deployer.model.errors import PayloadError, PermanentError, TransientError
from deployer.model.refs import Ref
from deployer.templates.folder_files import UnreadableError
from tests.contract.github.test_github_host import (  # noqa: F401  fixtures
    TEMPLATE,
    DoubleKit,
    Kit,
    SandboxKit,
    github,
    kit,
    sandbox,
    scripted_server,
    without_waiting,
)

SHOP, A, B = Repository("acme", "shop"), "a" * 40, "b" * 40
RULES = {"deploy/deployer.yml": "tags: v*\n"}


def protect(kit: Kit, branch: str, *, on: bool = True) -> None:  # noqa: F811
    if isinstance(kit, DoubleKit):
        kit.fake.protect(kit.repository, branch, on=on)
    elif isinstance(kit, SandboxKit):
        change_on_github(kit, "PUT" if on else "DELETE", f"branches/{branch.replace('/', '%2F')}/protection")


def change_on_github(sandbox: SandboxKit, verb: str, path: str, body: dict[str, Any] | None = None) -> None:  # noqa: F811
    url = f"{sandbox.server.url}/api/v3/repos/{sandbox.repository}/{path}"
    data = json.dumps(body or {}).encode()
    request = urllib.request.Request(url, data, {"Authorization": "token sandbox"}, method=verb)  # noqa: S310
    urllib.request.urlopen(request, timeout=5).close()  # noqa: S310


# --- history ----------------------------------------------------------------------------------------------------


def test_how_a_commit_is_related_to_a_base(kit: Kit) -> None:  # noqa: F811
    first = kit.commit("refs/heads/main", TEMPLATE, "first")
    second = kit.commit("refs/heads/main", RULES, "second")
    kit.commit("refs/heads/main", TEMPLATE, "third", root=True)
    other = kit.commit("refs/heads/other", RULES, "fourth")

    def ask(base: str, commit: str) -> Relation:
        return kit.host.ancestry(kit.repository, base, commit)

    assert ask(second, first) is Relation.BEHIND
    assert ask(first, second) is Relation.AHEAD
    assert ask(second, second) is Relation.IDENTICAL
    assert ask(second, other) is Relation.UNRELATED
    assert [each for each in Relation if each.contained] == [Relation.IDENTICAL, Relation.BEHIND]


def test_branches_of_one_commit_have_diverged(sandbox: SandboxKit) -> None:  # noqa: F811
    sandbox.commit("refs/heads/main", TEMPLATE, "first")
    left = sandbox.commit("refs/heads/main", RULES, "left")
    sandbox._git("reset", "-q", "--hard", "HEAD~1")
    right = sandbox.commit("refs/heads/other", TEMPLATE, "right")
    assert sandbox.host.ancestry(sandbox.repository, left, right) is Relation.DIVERGED


@pytest.mark.parametrize("name", ["main", "refs/heads/main", "eve:main", "a" * 39, "A" * 40, "HEAD", ""])
def test_a_name_is_never_compared(kit: Kit, name: str) -> None:  # noqa: F811
    sha = kit.commit("refs/heads/main", TEMPLATE, "first")
    kit.tag("main", sha, annotated=False)
    for pair in ((name, sha), (sha, name)):
        with pytest.raises(PayloadError):
            kit.host.ancestry(kit.repository, *pair)


def test_a_comparison_reads_no_files_and_works_after_a_rename(sandbox: SandboxKit) -> None:  # noqa: F811
    first = sandbox.commit("refs/heads/main", TEMPLATE, "first")
    second = sandbox.commit("refs/heads/main", RULES, "second")
    sandbox.rename("now")
    with sandbox.calls() as made:
        assert sandbox.host.ancestry(sandbox.repository, second, first) is Relation.BEHIND
    assert made[0] == f"GET /compare/{second}...{first}"


def comparison_of(status: int, answer: Any) -> Relation:
    with scripted_server(
        lambda _, path, *__: (status, {}, answer) if "compare" in path else (200, {}, {"id": 1})
    ) as url:
        return GitHubHost("token", api_url=url).ancestry(SHOP, A, B)


def comparison_body(status: str, base: str = A, middle: str = B) -> dict[str, Any]:
    return {"status": status, "base_commit": {"sha": base}, "merge_base_commit": {"sha": middle}}


@pytest.mark.usefixtures("without_waiting")
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (502, {"message": "Bad Gateway"}),
        (500, {"message": "Server Error"}),
        (503, {"message": "Sorry, this diff is temporarily unavailable due to heavy server load."}),
        (500, {"message": "Server Error: Sorry, this diff is unavailable."}),
        (
            404,
            {"message": "Not Found"},
        ),  # about a commit that GitHub has named, so it does not mean "unrelated"
        (403, {"message": "Resource not accessible by integration"}),
        (429, {"message": "Too many"}),
        (200, b"<html>soon</html>"),
        (200, {}),
        (200, {"status": "behind"}),
        (200, comparison_body("behind", base="c" * 40)),  # GitHub compared other commits
        (
            200,
            comparison_body("behind", middle=A),
        ),  # if the base is the merge base, it does not contain the commit
        (200, comparison_body("identical", middle=A)),
        (200, comparison_body("contained")),
    ],
)
def test_an_unusable_comparison_is_never_taken_for_an_answer(status: int, body: Any) -> None:
    with pytest.raises(TransientError):
        comparison_of(status, body)


@pytest.mark.usefixtures("without_waiting")
def test_comparisons_that_github_answers_in_words() -> None:
    assert comparison_of(404, {"message": f"No common ancestor between {A} and {B}."}) is Relation.UNRELATED
    too_large = "Server Error: Sorry, this diff is taking too long to generate."
    assert comparison_of(500, {"message": too_large}) is Relation.DIVERGED
    assert comparison_of(200, comparison_body("behind")) is Relation.BEHIND
    assert comparison_of(200, comparison_body("ahead", middle=A)) is Relation.AHEAD


def test_a_missing_repository_is_an_error(kit: Kit) -> None:  # noqa: F811
    nowhere = Repository("acme", "nowhere")
    for ask in (
        lambda: kit.host.ancestry(nowhere, A, B),
        lambda: kit.host.protected_branches(nowhere),
        lambda: kit.host.regular_files(nowhere, A, "deploy", "deployer"),
    ):
        with pytest.raises(PermanentError):
            ask()


# --- protection -------------------------------------------------------------------------------------------------


def test_the_currently_protected_branches(kit: Kit) -> None:  # noqa: F811
    kit.commit("refs/heads/main", TEMPLATE, "first")
    kit.commit("refs/heads/release/1", TEMPLATE, "second")
    third = kit.commit("refs/heads/release/2", TEMPLATE, "third")
    assert kit.host.protected_branches(kit.repository) == {}
    for branch in ("release/1", "release/2"):
        protect(kit, branch)
    protect(kit, "release/1", on=False)
    assert kit.host.protected_branches(kit.repository) == {Ref("refs/heads/release/2"): third}


def test_an_unprotected_branch_is_not_listed_even_if_the_query_was_lost() -> None:
    """A redirect, or a proxy, may lose the query."""
    listed = [
        {"name": "release/pwn", "commit": {"sha": A}, "protected": False},
        {"name": "release/1", "commit": {"sha": B}, "protected": True},
        {"name": "release/2 ", "commit": {"sha": B}, "protected": True},  # git does not allow this name
    ]
    with scripted_server(lambda *_: (200, {}, listed)) as url:
        found = GitHubHost("token", api_url=url).protected_branches(SHOP)
    assert found == {Ref("refs/heads/release/1"): B}


def test_too_many_protected_branches_are_an_error() -> None:
    more = {"link": '<https://x/?page=2>; rel="next"'}
    with (
        scripted_server(lambda *_: (200, more, [])) as url,
        pytest.raises(PermanentError, match="protected branches"),
    ):
        GitHubHost("token", api_url=url).protected_branches(SHOP)


def test_the_protection_of_a_repository(sandbox: SandboxKit) -> None:  # noqa: F811
    sandbox.commit("refs/heads/main", TEMPLATE, "first")
    host = sandbox.host
    assert isinstance(host, GitHubHost)
    assert host.read_protection(sandbox.repository) == Protection(
        "main", branch_protected=False, tags_protected=False
    )
    protect(sandbox, "main")
    change_on_github(sandbox, "POST", "rulesets", {"name": "tags", "target": "tag", "enforcement": "active"})
    assert host.read_protection(sandbox.repository) == Protection(
        "main", branch_protected=True, tags_protected=True
    )
    required = {"required_status_checks": {"strict": False, "contexts": ["deployer", "ci"]}}
    change_on_github(sandbox, "PUT", "branches/main/protection", required)
    assert host.read_protection(sandbox.repository).required == ("deployer", "ci")


def test_what_rulesets_require_counts_as_well() -> None:
    rules = [
        {"type": "deletion"},
        {"type": "pull_request", "parameters": {"required_approving_review_count": 1}},
        {
            "type": "required_status_checks",
            "parameters": {"required_status_checks": [{"context": "deployer", "integration_id": 3}]},
        },
    ]
    answers: dict[str, Any] = {
        "/repos/acme/shop": {"default_branch": "main"},
        "/repos/acme/shop/branches/main": {"protected": False, "protection": {"enabled": False}},
        "/repos/acme/shop/rules/branches/main": rules,
        "/repos/acme/shop/rulesets": [],
    }
    with scripted_server(lambda _, path, *__: (200, {}, answers[path.partition("?")[0]])) as url:
        found = GitHubHost("token", api_url=url).read_protection(SHOP)
    assert (found.branch_protected, found.required) == (True, ("deployer",))


@pytest.mark.parametrize("status", [403, 404])
def test_a_protection_that_cannot_be_read_is_reported(status: int) -> None:
    def answer_by_path(_method: str, path: str, *_: Any) -> tuple[int, dict[str, str], Any]:
        if path.endswith("/shop"):
            return 200, {}, {"default_branch": "main"}
        if "/rules/" in path:
            return 200, {}, []
        if "/branches/" in path:
            return 200, {}, {"protected": True}
        return status, {}, {"message": "Not Found"}

    with scripted_server(answer_by_path) as url:
        found = GitHubHost("token", api_url=url).read_protection(SHOP)
    assert (found.branch_protected, found.tags_protected) == (True, None)
    assert str(status) in found.unread


# --- the file of rules ------------------------------------------------------------------------------------------


def test_files_with_a_stem_are_read_at_a_commit(kit: Kit) -> None:  # noqa: F811
    files = {**RULES, **TEMPLATE, "deploy/deployer.txt": "x", "deploy/deployers.yml": "y"}
    first = kit.commit("refs/heads/main", files, "first")
    second = kit.commit("refs/heads/main", {"deploy/deployer.json": "{}"}, "second")
    third = kit.commit("refs/heads/main", {}, "third")

    def read(sha: str) -> dict[str, bytes]:
        return kit.host.regular_files(kit.repository, sha, "deploy", "deployer")

    assert read(first) == {"deployer.yml": b"tags: v*\n"}
    assert read(second) == {"deployer.json": b"{}"}
    assert read(third) == {}
    with pytest.raises(PermanentError):
        read("9" * 40)


@pytest.mark.parametrize("path", ["deploy/deployer.yml", "deploy"])
def test_a_symbolic_link_does_not_mean_that_there_are_no_rules(kit: Kit, path: str) -> None:  # noqa: F811
    if isinstance(kit, SandboxKit):
        kit.commit("refs/heads/main", {"elsewhere/deployer.yml": "tags: v*\n"}, "first")
        tree = kit._tree
        subprocess.run(["rm", "-rf", "deploy"], cwd=tree, check=True)
        (tree / path).parent.mkdir(exist_ok=True)
        (tree / path).symlink_to(tree / "elsewhere" if path == "deploy" else tree / "elsewhere/deployer.yml")
        kit._git("add", "-A")
        kit._git("commit", "-q", "-m", "link")
        kit._git("push", "-q", "origin", "HEAD:refs/heads/main")
        sha = kit._git("rev-parse", "HEAD")
    else:
        assert isinstance(kit, DoubleKit)
        sha = kit.commit("refs/heads/main", {}, "first")
        kit.fake.link(kit.repository, sha, path)
    with pytest.raises(UnreadableError):
        kit.host.regular_files(kit.repository, sha, "deploy", "deployer")


@pytest.mark.parametrize("count", [999, 1000])
def test_a_folder_that_github_may_not_list_completely_is_unreadable(kit: Kit, count: int) -> None:  # noqa: F811
    files = {f"deploy/a{number}.txt": "" for number in range(count - 1)}
    sha = kit.commit("refs/heads/main", {**files, **RULES}, "first")
    if count < 1000:
        found = kit.host.regular_files(kit.repository, sha, "deploy", "deployer")
        assert found == {"deployer.yml": b"tags: v*\n"}
        return
    with pytest.raises(UnreadableError, match="at most 1,000"):
        kit.host.regular_files(kit.repository, sha, "deploy", "deployer")


def test_a_file_that_is_too_large_is_unreadable(kit: Kit) -> None:  # noqa: F811
    sha = kit.commit("refs/heads/main", {"deploy/deployer.yml": "#" * 1_000_001}, "first")
    with pytest.raises(UnreadableError):
        kit.host.regular_files(kit.repository, sha, "deploy", "deployer")


@pytest.mark.parametrize(
    "entry",
    [
        {"type": "dir", "download_url": None},
        {"type": "symlink", "download_url": "https://x"},
        {"type": "submodule", "download_url": None},
        {"type": "file", "download_url": None},  # GitHub lists a submodule like this
        {"type": "file", "download_url": "https://x", "size": 1_000_001},
    ],
)
def test_only_a_regular_file_is_read(entry: dict[str, Any]) -> None:
    found = convert({"name": "deployer.yml", "size": 1, "sha": A, "url": "https://x", **entry}, Entry)
    with pytest.raises(UnreadableError):
        list(regular_entries([found], "deploy", "deployer"))
