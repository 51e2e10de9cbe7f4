"""The URL of an environment, and the one comment on each pull request, through signed webhooks with workers."""

import os
import signal
from pathlib import Path

from sandbox.installation import Installation, WorkingCopy, call, wait_for

MARKER = "<!-- deployer: pull request -->"
ODD = "feature/\u00fc#1@team"


def own_comments(here: Installation, number: int, repository: str) -> list[str]:
    return [
        each for each in here.comments(number, repository) if each.startswith("<!-- deployer: pull request")
    ]


def the_comment(here: Installation, number: int, repository: str, *words: str) -> str:
    """Wait until a pull request has one comment of deployer with these words."""

    def found() -> str:
        texts = own_comments(here, number, repository)
        assert len(texts) <= 1, texts
        return texts[0] if texts and all(each in texts[0] for each in words) else ""

    return wait_for(f"#{number} says {words}", found, 60)


def test_a_pull_request_shows_the_url_and_at_the_end_the_receipt(
    here: Installation, repository: str, copy: WorkingCopy
) -> None:
    copy.branch(ODD)
    first = copy.write("Begin", {})
    copy.push()
    found = here.settled(f"refs/heads/{ODD}", first, repository)
    url = found["environment_url"]
    assert call("GET", url).status == 200, "the URL leads to the page that was deployed"
    assert url in here.cli("status", repository).stdout
    assert url in call("GET", f"{here.web}/environments/{found['id']}").text
    number = here.open_pull(ODD, repository)
    text = the_comment(here, number, repository, f"<{url}>", first)
    assert f"`{ODD}` is deployed" in text
    assert "`Deploy` succeeded" in text
    second = copy.write("Go on", {})
    copy.push()
    here.settled(f"refs/heads/{ODD}", second, repository)
    the_comment(here, number, repository, second)
    page = call("GET", f"{here.github}/{repository}/pull/{number}").text
    assert f'href="{url}"' in page
    assert 'class="mention"' not in page, "the name of the branch notifies nobody"
    copy.push(f":{ODD}")
    here.deleted(f"refs/heads/{ODD}", repository)
    receipt = the_comment(here, number, repository, "was deleted on", f"`stack {found['id']}`")
    assert url not in receipt
    assert (here.environment(f"refs/heads/{ODD}", repository) or {})["environment_url"] is None


def test_with_the_setting_a_closed_pull_request_takes_its_environment_with_it(
    here: Installation, repository: str, copy: WorkingCopy
) -> None:
    copy.write("Ask for it", {"deploy/deployer.yml": "pull_requests: {closed: delete}\n"})
    copy.push("HEAD:main")
    here.settled("staging", copy.head, repository)
    copy.branch("short-lived")
    sha = copy.write("Begin", {})
    copy.push()
    here.settled("refs/heads/short-lived", sha, repository)
    number = here.open_pull("short-lived", repository)
    the_comment(here, number, repository, "is deployed")
    here.change_pull(number, "closed", repository)
    here.deleted("refs/heads/short-lived", repository)
    the_comment(here, number, repository, "was deleted on")
    here.change_pull(number, "open", repository)
    wait_for(
        "the environment is back",
        lambda: (here.environment("refs/heads/short-lived", repository) or {}).get("state") == "deployed",
        90,
    )
    the_comment(here, number, repository, "is deployed")


def test_the_comment_is_found_again_after_redis_and_the_workers_are_lost(
    fragile: Installation, tmp_path: Path
) -> None:
    repository = "quiet/pulls"
    fragile.repository(repository)
    copy = fragile.clone(tmp_path / "copy", repository)
    copy.branch("found")
    sha = copy.write("Begin", {})
    copy.push()
    fragile.settled("refs/heads/found", sha, repository)
    number = fragile.open_pull("found", repository)
    before = the_comment(fragile, number, repository, sha)
    comments = f"{fragile.github}/api/v3/repos/{repository}/issues/{number}/comments"
    identity = call("GET", comments).json[0]["id"]
    for pid in fragile.processes("--app=workers worker"):
        os.kill(pid, signal.SIGKILL)
    second = copy.write("Go on", {})
    copy.push()
    fragile.settled("refs/heads/found", second, repository)
    after = the_comment(fragile, number, repository, second)
    assert before != after
    assert [each["id"] for each in call("GET", comments).json] == [identity]
    copy.push(":found")
    fragile.deleted("refs/heads/found", repository)
