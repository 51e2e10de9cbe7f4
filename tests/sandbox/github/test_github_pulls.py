"""Pull requests and comments, called by PyGithub as deployer does."""

from __future__ import annotations

import pytest
from github import GithubException
from github.Repository import Repository
from github_kit import WorkingCopy


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
        ("/pull/1", "**later** &lt;script&gt;"),
        (f"/commit/{pull.head.sha}", "on this commit"),
    ):
        assert words in call("GET", f"/acme/app{path}").data.decode()  # type: ignore[operator]

    pull.edit(state="closed")
    assert repo.get_pulls(head=f"acme:{name}").totalCount == 0
    assert repo.get_pulls(state="all", head=f"acme:{name}").totalCount == 1
    repo.edit(archived=True)
    with pytest.raises(GithubException, check=lambda error: error.status == 403):
        pull.create_issue_comment("no more")
