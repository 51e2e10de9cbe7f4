"""Clone, fetch and push with the real git."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from github_kit import ENVIRONMENT, Receiver, WorkingCopy, git, git_refused

from sandbox.github.server import GitHubServer


def test_a_clone_of_an_empty_repository_is_on_main(server: GitHubServer, tmp_path: Path) -> None:
    server.hub.create("acme/app")
    # the client's own default branch has another name, so main can only come from the server
    git("-c", "init.defaultBranch=other", "clone", "-q", f"{server.url}/acme/app.git", str(tmp_path / "app"))
    assert WorkingCopy(tmp_path / "app")("symbolic-ref", "HEAD") == "refs/heads/main"


def test_pushed_commits_can_be_cloned_fetched_and_pulled(
    pushed: WorkingCopy, server: GitHubServer, tmp_path: Path
) -> None:
    other = WorkingCopy.clone(f"{server.url}/acme/app", tmp_path / "other")
    sha = pushed.commit("deep/er/file.txt", "text", "second")
    pushed("push", "--quiet", "origin", "main")
    other("pull", "--quiet")
    assert other("rev-parse", "HEAD") == sha
    assert (other.path / "deep/er/file.txt").read_text() == "text"


def test_old_protocol_versions_work(pushed: WorkingCopy, server: GitHubServer, tmp_path: Path) -> None:
    for version in ("0", "1", "2"):
        path = tmp_path / f"v{version}"
        git("-c", f"protocol.version={version}", "clone", "-q", f"{server.url}/acme/app.git", str(path))
        assert WorkingCopy(path)("rev-parse", "HEAD") == pushed("rev-parse", "HEAD")


def test_a_large_push_in_chunks_arrives_completely(
    copy: WorkingCopy, server: GitHubServer, tmp_path: Path
) -> None:
    noise = os.urandom(4_000_000)
    (copy.path / "noise.bin").write_bytes(noise)
    copy("add", ".")
    copy("commit", "-qm", "noise")
    copy("-c", "http.postBuffer=65536", "push", "-q", "origin", "main")
    other = WorkingCopy.clone(f"{server.url}/acme/app.git", tmp_path / "other")
    assert (other.path / "noise.bin").read_bytes() == noise


def test_a_compressed_request_is_unpacked(pushed: WorkingCopy, call: Any) -> None:
    lines = ["command=ls-refs\n", "0001", "peel\n", "ref-prefix refs/heads/\n", "0000"]
    body = "".join(x if x in {"0001", "0000"} else f"{len(x) + 4:04x}{x}" for x in lines).encode()
    headers = {"Content-Encoding": "gzip", "Git-Protocol": "version=2"}
    path = "/acme/app.git/git-upload-pack"
    answer = call("POST", path, body=gzip.compress(body), headers=headers)
    assert answer.status == 200
    assert f"{pushed('rev-parse', 'HEAD')} refs/heads/main".encode() in answer.data
    assert call("POST", path, body=b"no gzip at all", headers=headers).status == 400


def test_any_commit_can_be_fetched_by_its_sha(
    pushed: WorkingCopy, server: GitHubServer, tmp_path: Path
) -> None:
    lost = pushed.commit("a", "1", "to be lost")
    pushed("push", "-q", "origin", "main")
    pushed("reset", "-q", "--hard", "HEAD~1")
    pushed("push", "-q", "--force", "origin", "main")
    git("init", "-q", str(tmp_path / "other"))
    other = WorkingCopy(tmp_path / "other")
    other("fetch", "-q", "--depth=1", f"{server.url}/acme/app.git", lost)
    assert other("rev-parse", "FETCH_HEAD") == lost


def test_any_password_is_accepted_and_its_user_is_the_pusher(
    copy: WorkingCopy, server: GitHubServer, receiver: Receiver
) -> None:
    copy.commit("a", "1")
    copy("push", "-q", server.url.replace("//", "//bob:any@") + "/acme/app.git", "main")
    # git sends a password only if the server asks for it, so the header is set directly, as CI tools do
    copy.commit("a", "2")
    header = "http.extraHeader=Authorization: Basic Ym9iOmFueQ=="
    copy("-c", header, "push", "-q", "origin", "main")
    payload = receiver.push(2)
    assert payload["pusher"]["name"] == "bob"
    assert payload["sender"]["login"] == "bob"


def test_a_missing_repository_is_not_found(server: GitHubServer, tmp_path: Path) -> None:
    assert "not found" in git_refused("clone", f"{server.url}/acme/nothing.git", str(tmp_path / "x"))


def test_the_dumb_protocol_is_refused(pushed: WorkingCopy, call: Any) -> None:
    assert pushed.path.is_dir()
    assert call("GET", "/acme/app.git/info/refs").status == 403
    assert call("GET", "/acme/app.git/info/refs?service=git-anything").status == 403


def test_an_archived_repository_refuses_a_push(pushed: WorkingCopy, server: GitHubServer) -> None:
    repository = server.hub.get("acme/app")
    assert repository is not None
    server.hub.change_repository(repository, "archive")
    pushed.commit("a", "1")
    assert "403" in git_refused("-C", str(pushed.path), "push", "origin", "main")
    assert pushed("ls-remote", "origin", "main").split()[0] == pushed("rev-parse", "HEAD~1")


def test_the_default_branch_cannot_be_deleted_by_a_push(pushed: WorkingCopy) -> None:
    assert "refusing to delete" in git_refused("-C", str(pushed.path), "push", "origin", ":main")


def test_the_first_branch_of_another_name_becomes_the_default(
    copy: WorkingCopy, server: GitHubServer, receiver: Receiver
) -> None:
    copy("checkout", "-q", "-b", "trunk")
    copy.commit("a", "1")
    copy("push", "-q", "origin", "trunk")
    assert receiver.push()["repository"]["default_branch"] == "trunk"
    assert "refs/heads/trunk\tHEAD" in git("ls-remote", "--symref", f"{server.url}/acme/app.git")


def test_simultaneous_pushes_each_arrive_once(
    pushed: WorkingCopy, server: GitHubServer, receiver: Receiver
) -> None:
    url = f"{server.url}/acme/app.git"
    names = [f"branch-{number}" for number in range(8)]

    def push(name: str) -> int:
        command = ["git", "-C", str(pushed.path), "push", "-q", url, f"HEAD:refs/heads/{name}"]
        return subprocess.run(command, env=ENVIRONMENT, check=False, capture_output=True).returncode

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(push, names)) == {0}
    pushes = [r.payload["ref"] for r in receiver.wait(9, "push")]
    assert sorted(pushes[1:]) == [f"refs/heads/{name}" for name in names]


# characters that Python's splitlines takes for a line end, but git does not
_SEPARATORS = ["\x85", "\u2028", "\u2029", "\u202e"]


@pytest.mark.parametrize("odd", _SEPARATORS)
def test_a_ref_name_with_a_unicode_line_end_is_not_split(
    pushed: WorkingCopy, receiver: Receiver, call: Any, odd: str
) -> None:
    branch, tag, author = f"a{odd}b", f"v{odd}1", f"Ada{odd}\x1f\x1cL"
    pushed("checkout", "-q", "-b", branch)
    sha = pushed.commit("a", "1", f"one{odd}\x1ftwo")
    pushed("commit", "-q", "--amend", "--no-edit", f"--author={author} <ada@example.com>")
    sha = pushed("rev-parse", "HEAD")
    pushed("tag", "-a", "-m", "first", tag)
    pushed("push", "-q", "origin", branch, f"refs/tags/{tag}")
    assert {receiver.push(2)["ref"], receiver.push(3)["ref"]} == {f"refs/heads/{branch}", f"refs/tags/{tag}"}
    payloads = [each.payload for each in receiver.wait(3, "push")]
    (commit,) = [each["head_commit"] for each in payloads if each["ref"] == f"refs/heads/{branch}"]
    assert (commit["id"], commit["author"]["name"], commit["message"]) == (sha, author, f"one{odd}\x1ftwo")
    listed = json.loads(call("GET", "/api/v3/repos/acme/app/branches").data)
    assert {each["name"]: each["commit"]["sha"] for each in listed}[branch] == sha
    found = json.loads(call("GET", f"/api/v3/repos/acme/app/git/ref/tags/{quote(tag)}").data)
    tagged = json.loads(call("GET", f"/api/v3/repos/acme/app/git/tags/{found['object']['sha']}").data)
    assert (tagged["tag"], tagged["object"]["sha"]) == (tag, sha)
    assert call("GET", "/acme/app").status == 200
