"""The REST API, called by PyGithub as deployer does."""

from __future__ import annotations

import base64
import time
from typing import Any
from urllib.parse import quote

import pytest
from github import Github, GithubException, UnknownObjectException
from github.Repository import Repository
from github_kit import Receiver, WorkingCopy

from sandbox.github.server import GitHubServer

ODD = "feature/ü#1%20?&x"
API = "/api/v3/repos/acme/app"


def refused(status: int) -> Any:
    return pytest.raises(GithubException, check=lambda error: error.status == status)


def test_a_repository(client: Github, repo: Repository, pushed: WorkingCopy) -> None:
    assert (repo.full_name, repo.default_branch, repo.archived) == ("acme/app", "main", False)
    assert repo.owner.login == "acme"
    assert client.get_repo("ACME/App").full_name == "acme/app"
    assert client.get_user().login == "octocat"
    with pytest.raises(UnknownObjectException):
        client.get_repo("acme/nothing")
    pushed("push", "-q", "origin", "HEAD:refs/heads/next")
    repo.edit(default_branch="next")
    assert client.get_repo("acme/app").default_branch == "next"
    with refused(422):
        repo.edit(default_branch="nothing")


def test_an_archived_repository_is_read_only(client: Github, repo: Repository) -> None:
    repo.edit(archived=True)
    assert client.get_repo("acme/app").archived
    sha = repo.get_branch("main").commit.sha
    with refused(403):
        repo.create_git_ref("refs/heads/x", sha)
    with refused(403):
        repo.get_commit(sha).create_status("success")
    repo.edit(archived=False)
    repo.create_git_ref("refs/heads/x", sha)


def test_branches_with_odd_names(repo: Repository, pushed: WorkingCopy) -> None:
    name = "feature/ü#1%20"
    pushed("push", "-q", "origin", f"HEAD:refs/heads/{name}")
    sha = pushed("rev-parse", "HEAD")
    assert [b.name for b in repo.get_branches()] == [name, "main"]
    assert repo.get_branch(name).commit.sha == sha
    assert repo.get_git_ref(f"heads/{name}").object.sha == sha
    assert repo.get_commit(name).sha == sha
    assert repo.get_contents("README.md", ref=name).decoded_content == b"hello\n"
    assert [r.ref for r in repo.get_git_matching_refs("heads/feature/")] == [f"refs/heads/{name}"]
    assert repo.get_git_matching_refs("heads/none").totalCount == 0
    with pytest.raises(UnknownObjectException):
        repo.get_branch("feature")
    with pytest.raises(UnknownObjectException):
        _ = repo.get_git_ref("heads/feature").object


def test_a_branch_that_ends_in_status(repo: Repository, pushed: WorkingCopy) -> None:
    pushed("push", "-q", "origin", "HEAD:refs/heads/x/status")
    assert repo.get_commit("x/status").sha == pushed("rev-parse", "HEAD")


def test_creating_moving_and_deleting_refs_sends_webhooks(
    repo: Repository, pushed: WorkingCopy, receiver: Receiver
) -> None:
    first = pushed("rev-parse", "HEAD")
    second = pushed.commit("a", "1")
    pushed("push", "-q", "origin", "main")
    ref = repo.create_git_ref("refs/heads/feature/ü", first)
    assert receiver.push(3)["created"]
    ref.edit(second)
    assert (receiver.push(4)["before"], receiver.push(4)["after"]) == (first, second)
    with refused(422):
        ref.edit(first)
    ref.edit(first, force=True)
    assert receiver.push(5)["forced"]
    ref.delete()
    assert receiver.push(6)["deleted"]
    with refused(422):
        ref.delete()
    assert [r.ref for r in repo.get_git_refs()] == ["refs/heads/main"]


def test_invalid_refs_are_refused(repo: Repository, pushed: WorkingCopy) -> None:
    sha = pushed("rev-parse", "HEAD")
    for ref in ("refs/heads/main", "refs/heads/a..b", "refs/heads/main/below", "main", "refs/notes/x"):
        with refused(422):
            repo.create_git_ref(ref, sha)
    with refused(422):
        repo.create_git_ref("refs/heads/new", "1" * 40)


def test_the_default_branch_cannot_be_deleted(repo: Repository) -> None:
    with refused(422):
        repo.get_git_ref("heads/main").delete()


def test_lightweight_and_annotated_tags(repo: Repository, pushed: WorkingCopy, receiver: Receiver) -> None:
    pushed("tag", "light")
    pushed("tag", "-a", "rel/1.0", "-m", "The first\n\nof many")
    pushed("push", "-q", "origin", "light", "rel/1.0")
    commit = pushed("rev-parse", "HEAD")
    assert {t.name: t.commit.sha for t in repo.get_tags()} == {"light": commit, "rel/1.0": commit}
    ref = repo.get_git_ref("tags/rel/1.0")
    assert ref.object.type == "tag"
    tag = repo.get_git_tag(ref.object.sha)
    assert (tag.tag, tag.object.sha, tag.object.type) == ("rel/1.0", commit, "commit")
    assert tag.tagger.email == "ada@example.com"
    assert tag.message.startswith("The first")
    made = repo.create_git_tag("v2", "two", commit, "commit")
    repo.create_git_ref("refs/tags/v2", made.sha)
    assert receiver.push(4)["after"] == made.sha != commit
    assert repo.get_commit("v2").sha == commit
    with pytest.raises(UnknownObjectException):
        repo.get_git_tag(commit)


def test_commits(repo: Repository, pushed: WorkingCopy) -> None:
    first = pushed("rev-parse", "HEAD")
    second = pushed.commit("a/b.txt", "1\n2\n", "second [skip ci]")
    pushed("push", "-q", "origin", "main")
    assert [c.sha for c in repo.get_commits()] == [second, first]
    assert [c.sha for c in repo.get_commits(sha=first)] == [first]
    assert [c.sha for c in repo.get_commits(path="README.md")] == [first]
    commit = repo.get_commit(second[:8])
    assert (commit.sha, commit.commit.message) == (second, "second [skip ci]")
    assert [p.sha for p in commit.parents] == [first]
    assert [(f.filename, f.status, f.additions) for f in commit.files] == [("a/b.txt", "added", 2)]
    assert repo.get_git_commit(second).tree.sha == pushed("rev-parse", "HEAD^{tree}")
    compared = repo.compare(first, second)
    assert (compared.status, compared.ahead_by) == ("ahead", 1)
    assert [f.filename for f in compared.files] == ["a/b.txt"]
    with refused(422):
        repo.get_commit("nothing").sha  # noqa: B018 - PyGithub sends the request when the value is read


def test_a_name_of_both_a_tag_and_a_branch_means_the_tag(repo: Repository, pushed: WorkingCopy) -> None:
    """Therefore a comparison by name compares with a commit that anybody could have tagged."""
    first = pushed("rev-parse", "HEAD")
    pushed("tag", "main")
    pushed("push", "-q", "origin", "refs/tags/main")
    second = pushed.commit("a.txt", "1\n")
    pushed("push", "-q", "origin", "refs/heads/main")
    assert repo.compare("main", second).base_commit.sha == first
    assert repo.compare("heads/main", second).status == "identical"


def test_a_branch_can_be_protected_and_unprotected(repo: Repository, pushed: WorkingCopy) -> None:
    pushed("push", "-q", "origin", "HEAD:refs/heads/release/1")
    branch = repo.get_branch("release/1")
    assert not branch.protected
    with refused(404):
        branch.get_protection()
    branch.edit_protection(enforce_admins=True)
    assert repo.get_branch("release/1").protected
    assert [each.name for each in repo.get_branches() if each.protected] == ["release/1"]
    branch.remove_protection()
    assert not repo.get_branch("release/1").protected


def test_an_empty_repository(client: Github, server: GitHubServer) -> None:
    server.hub.create("acme/empty")
    repo = client.get_repo("acme/empty")
    assert repo.default_branch == "main"
    assert list(repo.get_branches()) == []
    with refused(409):
        list(repo.get_commits())
    with refused(404):
        repo.get_contents("deploy/pipeline.yml")


def test_contents_by_sha(repo: Repository, pushed: WorkingCopy, call: Any) -> None:
    old = pushed("rev-parse", "HEAD")
    pushed.commit("deploy/pipeline ü.yml", "Resources: {}\n")
    (pushed.path / "link").symlink_to("README.md")
    new = pushed.commit("README.md", "new\n")
    pushed("push", "-q", "origin", "main")
    assert repo.get_contents("README.md", ref=old).decoded_content == b"hello\n"
    assert repo.get_contents("README.md", ref=new).decoded_content == b"new\n"
    assert repo.get_contents("deploy/pipeline ü.yml").size == 14
    assert [(f.path, f.type) for f in repo.get_contents("deploy")] == [("deploy/pipeline ü.yml", "file")]
    assert [f.path for f in repo.get_contents("")] == ["README.md", "deploy", "link"]
    assert repo.get_contents("link").raw_data["target"] == "README.md"
    for path, ref in (("deploy/none", new), ("README.md", "nothing"), ("..", new), ("a//b", new)):
        with refused(404):
            repo.get_contents(path, ref=ref)
    raw = call("GET", f"{API}/contents/README.md", headers={"Accept": "application/vnd.github.raw+json"})
    assert raw.data == b"new\n"


def test_a_file_of_more_than_a_megabyte_is_read_as_a_blob(repo: Repository, pushed: WorkingCopy) -> None:
    pushed.commit("big", "x" * 1_100_000)
    pushed("push", "-q", "origin", "main")
    file = repo.get_contents("big")
    assert (file.encoding, file.raw_data["content"]) == ("none", "")
    assert base64.b64decode(repo.get_git_blob(file.sha).content) == b"x" * 1_100_000


def test_trees(repo: Repository, pushed: WorkingCopy) -> None:
    pushed.commit("a/b/c.txt", "1")
    pushed("push", "-q", "origin", "main")
    flat, deep = repo.get_git_tree("main"), repo.get_git_tree("main", recursive=True)
    assert [e.path for e in flat.tree] == ["README.md", "a"]
    assert [(e.path, e.type) for e in deep.tree][1:] == [
        ("a", "tree"),
        ("a/b", "tree"),
        ("a/b/c.txt", "blob"),
    ]
    assert repo.get_git_tree(deep.sha).sha == pushed("rev-parse", "HEAD^{tree}")


def test_statuses(repo: Repository, pushed: WorkingCopy, call: Any) -> None:
    sha = pushed("rev-parse", "HEAD")
    commit = repo.get_commit(sha)
    assert commit.get_combined_status().state == "pending"
    commit.create_status("pending", "http://x/1", "at it", "deployer/dev")
    commit.create_status("success", "http://x/2", "done", "Deployer/Dev")
    commit.create_status("success", context="other")
    combined = commit.get_combined_status()
    assert (combined.state, combined.total_count, combined.sha) == ("success", 2, sha)
    assert {s.context: s.description for s in combined.statuses} == {"Deployer/Dev": "done", "other": None}
    assert [s.state for s in commit.get_statuses()] == ["success", "success", "pending"]
    commit.create_status("error", context="other")
    assert commit.get_combined_status().state == "failure"
    posted = call("GET", f"/_sandbox/statuses?repository=acme/app&sha={sha}").json()
    assert [s["context"] for s in posted] == ["deployer/dev", "Deployer/Dev", "other", "other"]
    assert posted[0]["target_url"] == "http://x/1"
    assert call("GET", "/_sandbox/statuses?repository=acme/none").json() == []


def test_invalid_statuses_are_refused(pushed: WorkingCopy, call: Any) -> None:
    sha = pushed("rev-parse", "HEAD")
    for field, value in (
        ("state", "fine"),
        ("state", None),
        ("description", "x" * 141),
        ("context", "x" * 256),
        ("target_url", "javascript:alert(1)"),
    ):
        answer = call("POST", f"{API}/statuses/{sha}", json={"state": "success", field: value})
        assert answer.status == 422, field
        assert answer.json()["errors"][0]["field"] == field
    assert call("POST", f"{API}/statuses/{'1' * 40}", json={"state": "success"}).status == 422


def test_a_context_has_at_most_a_thousand_statuses(
    repo: Repository, pushed: WorkingCopy, server: GitHubServer
) -> None:
    sha = pushed("rev-parse", "HEAD")
    values = {"state": "pending", "description": None, "target_url": None}
    for _ in range(999):
        server.hub.store.add_status(repo.id, sha, context="Deployer", **values)
    commit = repo.get_commit(sha)
    commit.create_status("success", context="deployer")
    with refused(422):
        commit.create_status("success", context="DEPLOYER")
    commit.create_status("success", context="another")


def test_merges(repo: Repository, pushed: WorkingCopy, receiver: Receiver) -> None:
    pushed("checkout", "-q", "-b", "topic")
    topic = pushed.commit("topic.txt", "1")
    pushed("push", "-q", "origin", "topic")
    before = repo.get_branch("main").commit.sha
    merged = repo.merge("main", "topic", "Take the topic in")
    assert merged is not None
    assert [p.sha for p in merged.parents] == [before, topic]
    payload = receiver.push(3)
    assert (payload["ref"], payload["after"]) == ("refs/heads/main", merged.sha)
    assert [(c["id"], c["distinct"]) for c in payload["commits"]] == [(topic, False), (merged.sha, True)]
    assert payload["head_commit"]["added"] == ["topic.txt"]
    assert repo.get_contents("topic.txt", ref="main").decoded_content == b"1"
    assert repo.merge("main", "topic") is None
    for base, head in (("none", "topic"), ("main", "none")):
        with refused(404):
            repo.merge(base, head)
    pushed.commit("README.md", "ours\n")
    pushed("push", "-q", "origin", "topic")
    pushed("checkout", "-q", "main")
    pushed.commit("README.md", "theirs\n")
    pushed("push", "-q", "--force", "origin", "main")
    with refused(409):
        repo.merge("main", "topic")


def test_pages_have_links(repo: Repository, pushed: WorkingCopy, call: Any) -> None:
    for number in range(7):
        pushed("branch", f"b{number}")
    pushed("push", "-q", "origin", "--all")
    first = call("GET", f"{API}/branches?per_page=3")
    assert len(first.json()) == 3
    assert 'per_page=3&page=2>; rel="next"' in first.headers["Link"]
    assert 'per_page=3&page=3>; rel="last"' in first.headers["Link"]
    last = call("GET", f"{API}/branches?per_page=3&page=3")
    assert len(last.json()) == 2
    assert 'rel="next"' not in last.headers["Link"]
    assert "Link" not in call("GET", f"{API}/branches").headers
    assert call("GET", f"{API}/branches?page=9").json() == []
    repo.requester.per_page = 2
    assert len(list(repo.get_branches())) == 8


def test_errors_and_limits_look_like_github_s(pushed: WorkingCopy, call: Any, client: Github) -> None:
    assert pushed.path.is_dir()
    missing = call("GET", "/api/v3/repos/acme/none")
    assert (missing.status, missing.json()["message"], missing.json()["status"]) == (404, "Not Found", "404")
    assert call("GET", "/api/v3/nothing/here").json()["message"] == "Not Found"
    assert call("DELETE", "/api/v3/user").status == 405
    assert call("POST", f"{API}/git/refs", body=b"{").status == 400
    assert call("POST", f"{API}/git/refs", json={"ref": "refs/heads/x"}).status == 422
    headers = call("GET", API).headers
    assert headers["X-RateLimit-Limit"] == "5000"
    assert int(headers["X-RateLimit-Remaining"]) + int(headers["X-RateLimit-Used"]) == 5000
    assert client.get_rate_limit().rate.limit == 5000


def test_every_call_is_recorded(repo: Repository, call: Any) -> None:
    seq = call("GET", "/_sandbox/calls").json()[-1]["seq"]
    repo.get_branch("main")
    call("GET", f"{API}/branches/{quote('a/ü', safe='')}")
    calls = call("GET", f"/_sandbox/calls?since={seq}").json()
    for each in calls:
        assert 0 <= each.pop("seconds") < time.time() - each.pop("time") + 1
    assert calls == [
        {
            "seq": seq + 1,
            "method": "GET",
            "path": f"{API}/branches/main",
            "status": 200,
            "account": "user-octocat",
            "version": "",
        },
        {
            "seq": seq + 2,
            "method": "GET",
            "path": f"{API}/branches/a%2F%C3%BC",
            "status": 404,
            "account": "anonymous",
            "version": "",
        },
    ]
