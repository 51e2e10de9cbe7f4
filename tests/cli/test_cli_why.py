"""Tests of `deployer why` for refs that were never deployed: the output names the reason."""

import pytest
from cli_world import REPOSITORY, World

from deployer.model.events import Push
from deployer.model.refs import ZERO_SHA, Ref

A, B, C = "a" * 40, "b" * 40, "c" * 40
V1, V2 = "refs/tags/v1", "refs/tags/v2"
FILES = {"pipeline.yml": "Resources: {Pipeline: {Type: AWS::CodePipeline::Pipeline}}\n"}


def skip(world: World, ref: str, sha: str, message: str) -> None:
    """A push with this message comes in."""
    world.host.push(REPOSITORY, ref, sha, files=FILES, message=message)
    event = Push(f"d-{sha[:4]}", REPOSITORY, Ref.parse(ref), ZERO_SHA, sha, "main", message, commit=sha)
    world.deployer.submitter.submit_github(event)


def lines(world: World, ref: str) -> list[str]:
    """What `why` says of a ref that it knows."""
    result = world.run("why", "acme/api", ref)
    assert result.exit_code == 0, result.output
    return [" ".join(line.split()) for line in result.output.splitlines()]


def error(world: World, ref: str, repository: str = "acme/api") -> str:
    """Why it knows nothing of a ref."""
    result = world.run("why", repository, ref)
    assert result.exit_code == 1
    assert result.stdout == ""
    return result.stderr.strip()


def test_a_branch_that_was_only_ever_skipped(world: World) -> None:
    skip(world, "refs/heads/docs", A, "typo [skip ci]")
    told = lines(world, "docs")
    assert "reason the head commit's message says [skip ci]" in told
    assert any(line.startswith("state skipped, ") for line in told)
    assert f"commit {A}" in told
    found = world.json("why", "acme/api", "docs")
    assert (found["state"], found["outcome"], found["ref"]) == ("skipped", "skipped", "refs/heads/docs")
    (line,) = found["activity"]
    assert (line["outcome"], line["commit"], line["ref"]) == ("skipped", A, "refs/heads/docs")
    (row,) = world.json("status")
    assert (row["state"], row["reason"]) == ("skipped", "the head commit's message says [skip ci]")


def test_a_skipped_push_to_a_branch_that_runs(world: World) -> None:
    world.push("refs/heads/x", A)
    skip(world, "refs/heads/x", B, "typo [skip ci]")
    told = lines(world, "x")
    assert f"commit {A}" in told
    assert "skipped bbbbbbbbbbbb, 0 s ago: the head commit's message says [skip ci]" in told
    world.push("refs/heads/x", C)
    assert not [line for line in lines(world, "x") if line.startswith("skipped bbbb")]


def test_a_push_that_was_skipped_while_the_one_before_it_was_deployed(world: World) -> None:
    world.push("refs/heads/x", A, work=False)
    world.carry_out(world.queue.sent.pop())
    skip(world, "refs/heads/x", B, "typo [skip ci]")
    world.work()
    assert [line.outcome for line in world.lanes.activity(REPOSITORY)] == ["deployed", "skipped"]
    assert any(line.startswith("skipped bbbbbbbbbbbb, ") for line in lines(world, "x"))


def test_a_tag_that_was_skipped_before_there_is_a_production(world: World) -> None:
    skip(world, V1, A, "notes [skip deploy]")
    told = lines(world, V1)
    assert "reason v1: the head commit's message says [skip deploy]" in told
    assert "outcome skipped" in told
    assert f"ref {V1}" in told
    assert world.json("status") == []


def test_a_tag_that_was_not_deployed_to_production(world: World) -> None:
    world.push(V1, A)
    skip(world, V2, B, "notes [skip deploy]")
    told = lines(world, V2)
    assert "v2 was skipped 0 s ago: the head commit's message says [skip deploy]" in told
    assert any(line.startswith("skipped bbbbbbbbbbbb") for line in lines(world, "production"))


def test_a_tag_that_a_later_one_replaced(world: World) -> None:
    for at, (tag, sha) in enumerate(((V1, A), (V2, B)), 1000):
        world.push(tag, sha, work=False, at=at)
    world.work()
    told = lines(world, V1)
    assert any(line.startswith("v1 was superseded") for line in told)
    assert "0 s ago superseded v1 aaaaaaaa: replaced by push-bbbb-/v2" in told


def test_an_archived_repository(world: World) -> None:
    world.push("refs/heads/main", C)
    world.host.change(REPOSITORY, archived=True)
    assert world.run("resync", "acme/api").exit_code == 0
    world.work()
    world.push("refs/heads/late", A)
    assert any(line.startswith("reason acme/API is archived") for line in lines(world, "late"))


@pytest.mark.parametrize(
    ("ref", "message", "told"),
    [
        ("refs/tags/v1", "x", "v1 was never deployed; to deploy it: deployer redeploy acme/api refs/tags/v1"),
        (
            "refs/tags/v1",
            "x [skip deploy]",
            (
                "v1 is skipped: the head commit's message says [skip deploy]; to deploy it anyway: "
                "deployer redeploy acme/api refs/tags/v1"
            ),
        ),
        (
            "refs/heads/a'b",
            "x [no ci]",
            (
                "a'b is skipped: the head commit's message says [no ci]; to deploy it anyway: "
                """deployer redeploy acme/api 'a'"'"'b'"""
            ),
        ),
        (
            "refs/heads/x",
            "x",
            f"x is at {A[:12]}, but has no environment; to compare GitHub with AWS: deployer resync acme/api",
        ),
    ],
)
def test_a_ref_without_an_environment(world: World, ref: str, message: str, told: str) -> None:
    world.host.push(REPOSITORY, ref, A, files=FILES, message=message)
    assert error(world, ref) == f"deployer: {told}"


def test_an_unknown_ref(world: World) -> None:
    assert error(world, "v1") == (
        "deployer: acme/api has no environment v1, and no such branch; a tag is named refs/tags/v1"
    )
    assert "and no such tag" in error(world, V1)
    told = "deployer: acme/none has no environment x; reading it from GitHub: acme/none is not found"
    assert error(world, "x", "acme/none").startswith(told)
    assert error(world, "staging").startswith("deployer: acme/api has no environment staging")
    ignored = (
        "deployer: other/api matches none of the patterns in DEPLOYER_REPOSITORIES, so its pushes are ignored"
    )
    assert error(world, "x", "other/api") == ignored


def test_the_newest_tag_that_was_there_before_is_told_until_it_is_deployed(world: World) -> None:
    world.host.push(REPOSITORY, "refs/heads/main", C, files=FILES)
    for at, (ref, sha) in enumerate(((V1, A), (V2, B)), 1000):
        world.host.push(REPOSITORY, ref, sha, files=FILES, at=at)
    told = "the newest tag v2 of acme/API was never deployed; to deploy it: deployer redeploy acme/API refs/tags/v2"
    dry = world.run("resync", "acme/api", "--dry-run")
    assert (dry.exit_code, dry.stderr.strip()) == (0, told.replace("API", "api"))
    assert world.run("resync", "acme/api").exit_code == 0
    world.work()
    assert world.lanes.activity(REPOSITORY, 500)[-1].reason.endswith(told)
    assert world.run("status").stderr.strip() == told
    assert world.run("status", "acme/api", "--json").stderr.strip() == told
    assert told in world.run("repositories", "list").stdout
    assert [each["never_deployed_tag"] for each in world.json("repositories", "list")] == [V2]
    assert error(world, "production") == f"deployer: acme/API has no production; {told}"
    assert world.run("redeploy", "acme/api", V2).exit_code == 0
    world.work()
    assert world.run("status").stderr == ""
    assert [each["never_deployed_tag"] for each in world.json("repositories", "list")] == [None]
    assert any(line.startswith("commit bbbb") for line in lines(world, "production"))
