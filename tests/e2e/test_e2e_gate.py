"""Tests of a pushed tag whose commit was never merged: the refusal on the commit, then an approval."""

from sandbox.installation import Installation, WorkingCopy, wait_for


def test_a_tag_of_a_commit_that_was_never_merged_is_refused_until_a_person_approves_it(
    here: Installation, repository: str, copy: WorkingCopy
) -> None:
    copy.branch("local")
    stray = copy.write("Choose one's own rules", {"deploy/deployer.yml": 'tags: ["*"]\n'})
    copy.git("tag", "main")  # the default branch's very name
    copy.push("refs/tags/main")  # and the commit is on no branch
    status = wait_for(
        "the refusal", lambda: here.statuses(stray, repository).get("deployer/production"), seconds=30
    )
    assert status["state"] == "failure"
    assert status["description"].startswith(f"{stray[:12]} is not on main: tag the merge commit")
    found = wait_for("the record", lambda: here.environment("production", repository))
    assert (found["state"], found["commit"]) == ("skipped", None)
    assert found["refused_tags"][0]["commit"] == stray
    (line,) = [
        each
        for each in here.api(f"activity?repository={repository}")["activity"]
        if each["environment"] == "production"
    ]
    assert (line["outcome"], line["commit"]) == ("skipped", stray)
    assert here.api(f"deliveries/{line['goal']}")["outcome"] == "skipped"
    assert found["id"] not in here.stacks()

    told = here.cli("approve", repository, "main")
    assert told.returncode == 0, told.stderr
    released = here.settled("production", stray, repository)
    assert released["outcome"] == "deployed"
    assert released["admitted"]["by"].startswith("approved by ")
    assert here.statuses(stray, repository)["deployer/production"]["state"] == "success"
    assert "approved by" in here.cli("why", repository, "production").stdout
