"""Tests from a real push to its pipeline: branches with unusual names, the default branch, tags, deletions."""

from pathlib import Path
from typing import Any

from sandbox.installation import Installation, WorkingCopy, call, wait_for

ODD = ["a/foo", "b/foo", "hotfix/main", "v1.2.3", "staging", "feature/ü#1", "x" * 120 + "/" + "y" * 119]
STAGES = ["prepare", "Source", "Build", "Test", "Deploy"]


def outcome(here: Installation, repository: str, environment: str, reason: str) -> dict[str, Any]:
    """Wait until the newest goal of an environment ended with words in its reason."""

    def look() -> dict[str, Any]:
        found = here.environment(environment, repository) or {}
        return found if reason in found.get("reason", "") else {}

    return wait_for(f"{environment} of {repository}: {reason}", look)


def green(here: Installation, repository: str, sha: str) -> bool:
    found = {name: each["state"] for name, each in here.statuses(sha, repository).items()}
    return found == {"deployer": "success"} | {f"deployer/{name}": "success" for name in STAGES}


def test_every_branch_has_a_pipeline_of_its_own(
    here: Installation, repository: str, copy: WorkingCopy
) -> None:
    assert len(ODD[-1]) == 240
    wanted = {}
    for name in ODD:
        copy.branch(name)
        wanted[name] = copy.write(f"For {name[:20]}", {"site/name.txt": name})
    copy.push(*(f"refs/heads/{name}" for name in ODD))  # one delivery each, all at once
    names = {}
    for name, sha in wanted.items():
        found = here.settled(f"refs/heads/{name}", sha, repository, seconds=150)
        assert (found["outcome"], found["kind"]) == ("deployed", "development"), found
        assert here.stacks()[found["id"]]["status"] == "CREATE_COMPLETE"
        assert [each["sha"] for each in here.executions(found["id"])] == [sha]
        wait_for(f"{name} is green", lambda sha=sha: green(here, repository, sha))
        page = here.site(found["id"]).replace("index.html", "name.txt")
        assert call("GET", page).text == name
        names[name] = found["id"]
    assert len(set(names.values())) == len(ODD)
    staging = here.settled("staging", copy.git("rev-parse", "origin/main"), repository)  # of the first push
    assert staging["id"] not in names.values()
    assert here.environment("production", repository) is None


def test_the_same_name_under_two_owners(here: Installation, tmp_path: Path) -> None:
    found = {}
    for owner in ("ada", "grace"):
        here.repository(f"{owner}/same")
        copy = here.clone(tmp_path / owner, f"{owner}/same")
        copy.branch("feature/one")
        sha = copy.write(f"By {owner}", {"site/owner.txt": owner})
        copy.push()
        found[owner] = (sha, here.settled("refs/heads/feature/one", sha, f"{owner}/same"))
    assert len({each["id"] for _, each in found.values()}) == 2
    for owner, (sha, each) in found.items():
        assert each["outcome"] == "deployed"
        assert [execution["sha"] for execution in here.executions(each["id"])] == [sha]
        assert call("GET", here.site(each["id"]).replace("index.html", "owner.txt")).text == owner


def test_merge_tag_and_deletions(here: Installation, repository: str, copy: WorkingCopy) -> None:
    merged = copy.write("To staging", {})
    copy.push("HEAD:main")
    staging = here.settled("staging", merged, repository)
    assert staging["outcome"] == "deployed"

    copy.git("tag", "-a", "v1", "-m", "An annotated tag")
    moved_on = copy.write("Later", {})
    copy.push("HEAD:main", "v1")  # the tag is behind the branch that its pipeline's source names
    production = here.settled("production", merged, repository)
    assert production["outcome"] == "deployed"
    assert here.settled("staging", moved_on, repository)["outcome"] == "deployed"
    ended = [each["sha"] for each in here.executions(production["id"]) if each["status"] == "Succeeded"]
    assert ended == [merged]

    copy.push(":refs/tags/v1")
    reason = "refs/tags/v1 was deleted; production stays as it is"
    wait_for(reason, lambda: [each for each in _activity(here, repository) if each["reason"] == reason])
    assert (here.environment("production", repository) or {})["outcome"] == "deployed"
    copy.push("HEAD:refs/heads/other")
    other = here.settled("refs/heads/other", moved_on, repository)
    copy.push(":refs/heads/other")
    here.deleted("refs/heads/other", repository)

    left = {name for name in here.stacks() if name.startswith("shop-") and name in _family(here, repository)}
    assert left == {n for each in (staging, production) for n in (each["id"], f"{each['id']}-app")}
    assert other["id"] not in here.stacks()
    assert here.executions(production["id"])[-1]["sha"] == merged


def _activity(here: Installation, repository: str) -> list[dict[str, Any]]:
    return list(here.api(f"activity?repository={repository}")["activity"])


def _family(here: Installation, repository: str) -> set[str]:
    return {
        name for name, each in here.stacks().items() if each["tags"].get("deployer:repository") == repository
    }


def test_a_branch_that_comes_back(here: Installation, repository: str, copy: WorkingCopy) -> None:
    copy.branch("again")
    first = copy.write("First", {})
    copy.push()
    found = here.settled("refs/heads/again", first, repository)
    old = here.stacks()[found["id"]]["id"]
    copy.push(":again")
    copy.push("HEAD:again")  # while the deletion may just have begun
    new = wait_for("the branch lives", lambda: here.stacks().get(found["id"], {}).get("status") == "CREATE_COMPLETE"
                   and (here.environment("refs/heads/again", repository) or {}).get("state") == "deployed"
                   and here.stacks()[found["id"]]["id"])  # fmt: skip
    copy.push(":again")
    here.deleted("refs/heads/again", repository)
    copy.push("HEAD:again")
    assert here.settled("refs/heads/again", first, repository)["outcome"] == "deployed"
    assert here.stacks()[found["id"]]["id"] not in {old, new}


def test_a_branch_without_a_pipeline_and_one_with_a_broken_one(
    here: Installation, repository: str, copy: WorkingCopy
) -> None:
    copy.branch("none")
    copy.git("rm", "-qr", "deploy")
    copy.write("No pipeline", {})
    copy.push()
    found = outcome(here, repository, "refs/heads/none", "deploy/")
    assert found["outcome"] == "skipped"
    assert found["id"] not in here.stacks()

    copy.branch("broken")
    bad = copy.write("Break it", {"deploy/pipeline.yml": "Resources: [unclosed\n"})
    copy.push()
    found = here.settled("refs/heads/broken", bad, repository)
    assert found["outcome"] == "failed"
    assert "deploy/pipeline.yml" in found["reason"]
    assert found["id"] not in here.stacks()
    status = here.statuses(bad, repository)["deployer/prepare"]
    assert status["state"] == "failure"
    assert "deploy/pipeline.yml" in status["description"]

    good = copy.write("Mend it", {"deploy/pipeline.yml": copy.git("show", "origin/main:deploy/pipeline.yml")})
    copy.push()
    assert here.settled("refs/heads/broken", good, repository)["outcome"] == "deployed"
