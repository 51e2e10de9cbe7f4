"""Pull requests and comments, called by PyGithub as deployer does."""

from __future__ import annotations

import pytest
from github import GithubException
from github.Repository import Repository
from github_kit import Receiver, WorkingCopy

from sandbox.github.server import GitHubServer


def test_pull_requests_and_comments(repo: Repository, pushed: WorkingCopy, call: object) -> None:
    name = "feature/ü#1"
    pushed("push", "-q", "origin", f"HEAD:refs/heads/{name}")
    with pytest.raises(GithubException, check=lambda error: error.status == 422):
        repo.create_pull("main", "nothing", title="x", body="")
    pull = repo.create_pull("main", name, title="The <b>feature</b>", body="")
    assert (pull.number, pull.state, pull.head.ref, pull.base.ref) == (1, "open", name, "main")
    assert [each.number for each in repo.get_pulls(head=f"acme:{name}")] == [1]
    assert repo.get_pulls(head="acme:other").totalCount == 0
    assert repo.get_pulls(head="other").totalCount == 1  # a head without an owner is ignored

    said = pull.create_issue_comment("soon")
    said.edit("**later** <script>")
    assert [each.body for each in pull.get_issue_comments()] == ["**later** <script>"]
    commit = repo.get_commit(pull.head.sha)
    commit.create_comment("on the commit").edit("on this commit")
    assert [(each.body, each.user.login) for each in commit.get_comments()] == [("on this commit", "octocat")]
    for path, words in (
        ("", "The &lt;b&gt;feature&lt;/b&gt;"),
        ("/pull/1", "<strong>later</strong> &lt;script&gt;"),
        (f"/commit/{pull.head.sha}", "on this commit"),
    ):
        assert words in call("GET", f"/acme/app{path}").data.decode()  # type: ignore[operator]

    pull.edit(state="closed")
    assert repo.get_pulls(head=f"acme:{name}").totalCount == 0
    assert repo.get_pulls(state="all", head=f"acme:{name}").totalCount == 1
    repo.edit(archived=True)
    with pytest.raises(GithubException, check=lambda error: error.status == 403):
        pull.create_issue_comment("no more")


def test_pull_requests_send_events(repo: Repository, pushed: WorkingCopy, receiver: Receiver) -> None:
    pushed("push", "-q", "origin", "HEAD:refs/heads/x")
    pull = repo.create_pull("main", "x", title="x", body="")
    first = pull.head.sha
    pushed.commit("README.md", "more\n")
    pushed("push", "-q", "origin", "HEAD:refs/heads/x", "HEAD:refs/heads/y")
    pull.edit(title="y")
    pull.edit(state="closed")
    pushed.commit("README.md", "most\n")
    pushed("push", "-q", "origin", "HEAD:refs/heads/x")
    pull.edit(state="open")
    events = [each.payload for each in receiver.wait(4, "pull_request")]
    assert [each["action"] for each in events] == ["opened", "synchronize", "closed", "reopened"]
    opened, moved = events[0], events[1]
    assert opened["pull_request"]["head"]["sha"] == moved["before"] == first
    assert moved["pull_request"]["head"]["sha"] == moved["after"]
    assert events[3]["pull_request"]["head"]["sha"] == repo.get_branch("x").commit.sha
    assert {each["number"] for each in events} == {1}
    assert opened["pull_request"]["head"]["repo"]["id"] == opened["repository"]["id"] == repo.id


def test_a_pull_request_from_a_fork(
    server: GitHubServer, repo: Repository, pushed: WorkingCopy, receiver: Receiver
) -> None:
    """The repository has the fork's commit, so that the commit can have a status there."""
    assert pushed.path.is_dir()
    original = server.hub.get("acme/app")
    assert original
    server.hub.copy_repository(original, "eve/app")
    with pytest.raises(GithubException, check=lambda error: error.status == 422):
        repo.create_pull("main", "eve:nothing", title="x", body="")
    pushed.commit("README.md", "theirs\n")
    pushed("push", "-q", f"{server.url}/eve/app.git", "HEAD:refs/heads/patch")
    pull = repo.create_pull("main", "eve:patch", title="x", body="")
    assert (pull.head.label, pull.head.repo.full_name) == ("eve:patch", "eve/app")
    repo.get_commit(pull.head.sha).create_status("success", "", "skipped", "deployer")
    pushed.commit("README.md", "theirs, better\n")
    pushed("push", "-q", f"{server.url}/eve/app.git", "HEAD:refs/heads/patch")
    opened, moved = (each.payload for each in receiver.wait(2, "pull_request"))
    assert (opened["action"], moved["action"]) == ("opened", "synchronize")
    assert opened["repository"]["full_name"] == "acme/app"
    assert opened["pull_request"]["head"]["repo"]["full_name"] == "eve/app"
    repo.get_commit(moved["after"]).create_status("success", "", "skipped", "deployer")
    assert [each.number for each in repo.get_pulls(head="eve:patch")] == [1]
