"""`resync`, `redeploy`, `delete`."""

import getpass
import json
import socket
import time

import pytest
from cli_world import PIPELINE, REPOSITORY, World

from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import PermanentError, TransientError
from deployer.model.refs import Ref
from deployer.queue.items import Cause
from tests.doubles.cloud import BY_DEPLOYER
from tests.unit.identities import former_release

A, B = "a" * 40, "b" * 40


def test_resync_queues_and_names_the_task(world: World) -> None:
    world.push("refs/heads/main", A)
    result = world.run("resync", "ACME/api")
    assert result.exit_code == 0
    assert result.stdout.startswith("acme/API: queued as ")
    assert [dispatch.task for dispatch in world.queue.sent] == ["deployer.resync"]
    again = world.json("resync", "acme/api")
    assert again == [
        {"repository": "acme/API", "task": result.stdout.split()[-1], "outcome": "queued", "reason": ""}
    ]


def test_resync_dry_run(world: World) -> None:
    world.push("refs/heads/main", A)
    assert world.run("resync", "acme/api", "--dry-run").stdout == "nothing to do\n"
    assert world.json("resync", "acme/api", "--dry-run") == []
    world.host.push(REPOSITORY, "refs/heads/new", B)
    result = world.run("resync", "acme/api", "--dry-run")
    assert result.stdout.splitlines()[1].split() == ["new", "provision", "new", "has", "no", "pipeline"]
    (planned,) = world.json("resync", "acme/api", "--dry-run")
    assert (planned["environment"], planned["action"]) == ("development:refs/heads/new", "provision")
    assert world.queue.sent == []


def test_what_a_person_deleted_is_created_again_only_if_asked_for(world: World) -> None:
    world.push("refs/heads/x", A)
    result = world.run("delete", "acme/api", "x")
    assert (
        "stays deleted until a push, deployer redeploy acme/API x, or deployer resync acme/API --recreate"
        in (result.stderr)
    )
    world.work()
    result = world.run("resync", "acme/api", "--dry-run")
    assert (result.stdout, result.stderr) == (
        "nothing to do\n", "a person deleted x; --recreate creates them again\n",
    )  # fmt: skip
    (planned,) = world.json("resync", "acme/api", "--dry-run", "--recreate")
    assert (planned["environment"], planned["action"], planned["reason"]) == (
        "development:refs/heads/x", "provision", "a person deleted it",
    )  # fmt: skip
    assert "a person deleted it at" in world.json("why", "acme/api", "x")["held"]

    world.run("resync", "acme/api", "--recreate")
    world.work()
    assert world.json("why", "acme/api", "x")["state"] == "deployed"
    assert world.json("why", "acme/api", "x")["held"] is None


def test_resync_of_all_after_redis_was_wiped(world: World) -> None:
    world.push("refs/heads/main", A)
    world.redis.flushall()
    found = world.json("resync", "--all")
    assert [entry["repository"] for entry in found] == ["acme/api"]


def test_resync_of_all_lists_the_stacks_once(world: World) -> None:
    for name in ("acme/other", "acme/third"):
        world.host.create(Repository.parse(name))
        world.deployer.submitter.resync(Repository.parse(name))
    world.work()
    world.cloud.calls.clear()

    assert len(world.json("resync", "--all")) == 2
    world.work()
    assert [call[0] for call in world.cloud.calls].count("stacks") == 1

    world.run("resync", "acme/other")
    world.work()
    assert [call[0] for call in world.cloud.calls].count(
        "stacks"
    ) == 2  # people want to see what is there now


def test_resync_of_all_goes_on_without_aws(world: World) -> None:
    world.push("refs/heads/main", A)
    world.cloud.fail_next(TransientError("listing the stacks: AWS cannot be reached"))
    result = world.run("resync", "--all")
    assert result.exit_code == 0
    assert result.stdout.startswith("acme/API: queued as ")
    assert "AWS cannot be reached" in result.stderr


def test_resync_of_all_without_any_repository(world: World) -> None:
    result = world.run("resync", "--all")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "deployer: no repository was found; name one: deployer resync OWNER/REPO\n"


def test_resync_waits_for_the_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.push("refs/heads/main", A)
    world.host.push(REPOSITORY, "refs/heads/new", B)
    monkeypatch.setattr("deployer.cli.wait.time.sleep", lambda _seconds: world.work())
    result = world.run("resync", "acme/api", "--wait")
    assert (result.exit_code, result.stdout) == (0, "acme/API: resynced: 1 to provision\n")
    assert world.json("resync", "acme/api", "--wait")[0]["reason"] == "nothing to do"


def test_resync_that_fails_while_the_command_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.push("refs/heads/main", A)
    monkeypatch.setattr("deployer.cli.wait.time.sleep", lambda _seconds: world.work())
    world.host.fail_next(TransientError("GitHub answers 502"), times=9)
    result = world.run("resync", "acme/api", "--wait")
    assert result.exit_code == 1
    assert result.stderr == "deployer: the resync of acme/API ended as dead-lettered: GitHub answers 502\n"


def test_resync_waits_no_longer_than_its_timeout(world: World) -> None:
    result = world.run("resync", "acme/api", "--wait", "--timeout", "0.1", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)[0]["outcome"] == "unfinished"
    assert result.stderr == "deployer: acme/api: it has not ended after 0.1 s; see: deployer lanes\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["resync"],
        ["resync", "acme/api", "--all"],
        ["resync", "acme/api", "--dry-run", "--wait"],
        ["resync", "no-owner"],
        ["redeploy", "acme/api", "x", "--sha", "abc"],
        ["redeploy", "acme/api", "x", "--sha", "main"],
        ["redeploy", "acme/api", "two..dots"],
        ["delete", "acme/api"],
        ["status", "--bogus"],
    ],
)
def test_wrong_usage(world: World, arguments: list[str]) -> None:
    result = world.run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Usage: deployer")


@pytest.mark.parametrize(
    "command", [["resync", "other/x"], ["redeploy", "other/x", "y"], ["delete", "other/x", "y"]]
)
def test_a_repository_that_is_not_served(world: World, command: list[str]) -> None:
    result = world.run(*command)
    assert result.exit_code == 1
    assert result.stderr == "deployer: other/x matches none of the patterns in DEPLOYER_REPOSITORIES\n"


def _waiting(world: World) -> tuple[str, str, str, str]:
    (lane,) = world.lanes.lanes()
    (work,) = lane.waiting
    return work.environment, work.cause, work.spec.ref, work.spec.sha


def test_redeploy_of_a_known_environment_needs_no_github(world: World) -> None:
    world.push("refs/heads/feature/x", A)
    world.host.fail_next(TransientError("GitHub is away"))
    result = world.run("redeploy", "ACME/API", "feature/x", "--sha", B)
    assert result.exit_code == 0
    assert result.stdout.startswith("redeploy of acme/API feature/x queued as ")
    assert _waiting(world) == ("development:refs/heads/feature/x", Cause.REDEPLOY, "", B)


def test_redeploy_of_a_commit_by_the_beginning_of_its_id(world: World) -> None:
    world.push("refs/heads/feature/x", A)
    world.push("refs/heads/feature/x", B)
    assert world.run("redeploy", "acme/api", "feature/x", "--sha", A[:7].upper()).exit_code == 0
    assert _waiting(world) == ("development:refs/heads/feature/x", Cause.REDEPLOY, "", A)


@pytest.mark.parametrize("prefix", ["aaaa", "cccc"])
def test_redeploy_of_a_prefix_that_names_no_commit_or_several(world: World, prefix: str) -> None:
    world.push("refs/heads/feature/x", A)
    world.host.push(REPOSITORY, "refs/heads/other", "a" * 39 + "b")
    result = world.run("redeploy", "acme/api", "feature/x", "--sha", prefix)
    said = f"deployer: acme/API has no commit {prefix}, or several commits begin with these digits: give more digits\n"
    assert (result.exit_code, result.stderr) == (1, said)
    assert world.lanes.lanes() == []


def test_a_prefix_is_not_queued_while_github_is_away(world: World) -> None:
    world.push("refs/heads/feature/x", A)
    world.host.fail_next(TransientError("GitHub is away"))
    result = world.run("redeploy", "acme/api", "feature/x", "--sha", A[:7])
    said = "deployer: GitHub is away; a full commit id can be queued meanwhile\n"
    assert (result.exit_code, result.stderr) == (1, said)
    assert world.lanes.lanes() == []


@pytest.mark.parametrize("ref", ["main", "refs/heads/main", "staging"])
def test_redeploy_of_staging(world: World, ref: str) -> None:
    world.push("refs/heads/main", A)
    found = world.json("redeploy", "acme/api", ref)
    assert (found["environment"], found["outcome"]) == ("staging", "queued")


def test_redeploy_starts_the_pipeline_again(world: World) -> None:
    world.push("refs/heads/main", A)
    world.run("redeploy", "acme/api", "staging")
    world.work()
    name = Environment.of_ref(REPOSITORY, Ref.of_branch("main"), "main").stack_name
    assert [each.trigger for each in world.cloud.pipelines[name]].count(BY_DEPLOYER) == 2


def test_redeploy_of_an_older_tag(world: World) -> None:
    world.push("refs/tags/v2", B)
    world.host.push(REPOSITORY, "refs/tags/v1", A)
    assert world.run("redeploy", "acme/api", "refs/tags/v1").exit_code == 0
    assert _waiting(world) == ("production", Cause.REDEPLOY, "refs/tags/v1", "")


@pytest.mark.parametrize(
    ("ref", "environment"), [("main", "staging"), ("x", "development:refs/heads/x"), ("staging", "staging")]
)
def test_redeploy_of_a_ref_without_an_environment(world: World, ref: str, environment: str) -> None:
    world.host.push(REPOSITORY, "refs/heads/x", A)
    assert world.json("redeploy", "acme/api", ref)["environment"] == environment


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        ("nowhere", "acme/api has no branch nowhere; a tag is named refs/tags/nowhere"),
        ("refs/tags/nowhere", "acme/api has no tag nowhere"),
        ("production", "no tag is known for production of acme/api; give one as refs/tags/..."),
    ],
)
def test_redeploy_of_the_unknown(world: World, ref: str, reason: str) -> None:
    result = world.run("redeploy", "acme/api", ref)
    assert (result.exit_code, result.stderr) == (1, f"deployer: {reason}\n")
    assert world.queue.sent == []


def test_redeploy_of_a_commit_that_is_not_there(world: World) -> None:
    world.push("refs/heads/feature/x", A)
    result = world.run("redeploy", "acme/api", "feature/x", "--sha", B)
    assert (result.exit_code, result.stderr) == (1, f"deployer: acme/API has no commit {B}\n")
    assert not any(lane.waiting and lane.waiting[0].spec.sha == B for lane in world.lanes.lanes())


@pytest.mark.parametrize("ref", ["staging", "main", "refs/tags/v1"])
def test_redeploy_in_a_repository_that_is_not_there(world: World, ref: str) -> None:
    result = world.run("redeploy", "acme/mistyped", ref)
    assert (result.exit_code, result.stderr) == (
        1,
        "deployer: acme/mistyped is not found, or deployer has no access\n",
    )
    assert world.queue.sent == []


@pytest.mark.parametrize("branch", ["feature/x", "refs/heads/feature/x"])
def test_delete(world: World, branch: str) -> None:
    world.push("refs/heads/feature/x", A)
    result = world.run("delete", "acme/api", branch)
    assert (result.exit_code, "queued as" in result.stdout) == (0, True)
    assert _waiting(world)[:2] == ("development:refs/heads/feature/x", Cause.TEARDOWN)
    world.work()
    assert list(world.cloud.stacks()) == []


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("staging", "staging"),
        ("main", "staging"),
        ("production", "production"),
        ("refs/tags/v1", "production"),
    ],
)
def test_only_development_environments_are_deleted(world: World, name: str, kind: str, known: bool) -> None:
    if known:
        world.push("refs/heads/main", A)
        world.push("refs/tags/v1", A)
    result = world.run("delete", "acme/API", name)
    assert result.exit_code == 1
    assert result.stderr == (
        f"deployer: {name} is {kind} of acme/API, which is not deleted like a branch; "
        f"use: deployer delete --environment {kind} acme/API\n"
    )
    assert world.queue.sent == []


@pytest.mark.parametrize(("kind", "ref"), [("staging", "refs/heads/main"), ("production", "refs/tags/v1")])
@pytest.mark.parametrize("wiped", [False, True])
def test_staging_and_production_are_deleted_only_with_confirmation(
    world: World, kind: str, ref: str, wiped: bool
) -> None:
    world.cloud.deploys = lambda pipeline: [f"{pipeline}-app"]
    world.push(ref, A)
    if wiped:
        world.redis.flushall()
    name = Environment(REPOSITORY, Kind(kind)).stack_name
    before = world.cloud.stack(name)
    spelled = "acme/api" if wiped else "acme/API"

    refused = world.run("delete", "--environment", kind, "acme/api")
    assert (refused.exit_code, refused.stdout, world.queue.sent) == (1, "", [])
    assert refused.stderr == (
        f"deployer: this would delete {kind} of {spelled} in us-east-1: its pipeline's stack {name}; {name}-app, "
        f"which its pipeline deployed. Nothing was deleted; to confirm: "
        f"deployer delete --environment {kind} {spelled} --yes-really\n"
    )
    assert world.cloud.stack(name) == before

    found = world.json("delete", "--environment", kind, "--yes-really", "acme/api")
    assert (found["environment"], found["outcome"]) == (kind, "queued")
    world.work()
    assert list(world.cloud.stacks()) == []


@pytest.mark.parametrize("wiped", [False, True])
@pytest.mark.parametrize(
    ("ref", "arguments"),
    [
        ("refs/heads/x", ["acme/api", "x"]),
        ("refs/heads/main", ["acme/api", "--environment", "staging", "--yes-really"]),
        ("refs/tags/v1", ["acme/api", "--environment", "production", "--yes-really"]),
    ],
)
def test_a_stack_with_a_former_name_is_deleted(
    world: World, ref: str, arguments: list[str], wiped: bool
) -> None:
    with former_release():
        world.push(ref, A)
    if wiped:
        world.redis.flushall()
    result = world.run("delete", *arguments)
    assert (result.exit_code, result.stderr.partition(":")[0]) == (0, "follow it"), result.output
    world.work()
    assert list(world.cloud.stacks()) == []


def test_a_missing_environment_is_not_deleted(world: World) -> None:
    world.push("refs/heads/main", A)
    result = world.run("delete", "--environment", "production", "--yes-really", "acme/api")
    name = Environment(REPOSITORY, Kind.PRODUCTION).stack_name
    assert (result.exit_code, world.queue.sent) == (1, [])
    assert result.stderr == (
        f"deployer: acme/API production has no stack {name} in us-east-1; there is nothing to delete\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["acme/api"],
        ["acme/api", "main", "--environment", "staging", "--yes-really"],
        ["acme/api", "main", "--yes-really"],
        ["acme/api", "--environment", "development", "--yes-really"],
        ["acme/api", "--environment", "all"],
    ],
)
def test_delete_needs_either_a_branch_or_an_environment(world: World, arguments: list[str]) -> None:
    world.push("refs/heads/main", A)
    assert world.run("delete", *arguments).exit_code == 2
    assert world.queue.sent == []


@pytest.mark.parametrize("kind", [Kind.STAGING, Kind.PRODUCTION])
def test_no_other_request_deletes_staging_or_production(world: World, kind: Kind) -> None:
    environment = Environment(REPOSITORY, kind)
    with pytest.raises(PermanentError, match=f"--environment {kind} acme/API --yes-really"):
        world.deployer.submitter.request_environment(environment, cause=Cause.TEARDOWN)
    assert world.queue.sent == []


def test_a_branch_named_production_can_be_deleted(world: World) -> None:
    world.push("refs/heads/production", A)
    found = world.json("delete", "acme/api", "refs/heads/production")
    assert found["environment"] == "development:refs/heads/production"


@pytest.mark.parametrize("work", [True, False])
@pytest.mark.parametrize("name", ["staging", "production"])
def test_staging_and_production_never_name_a_branch(world: World, name: str, *, work: bool) -> None:
    """Nor where staging or production is not there yet."""
    world.push(f"refs/heads/{name}", A, work=work)
    known = world.queue.sent.copy()
    for command in (["delete", "acme/api", name], ["keep", "acme/api", name], ["why", "acme/api", name]):
        assert world.run(*command).exit_code == 1
    assert world.queue.sent == known
    redeployed = world.run("redeploy", "acme/api", name, "--json")
    if name == "staging":
        assert json.loads(redeployed.stdout)["environment"] == "staging"
    else:
        assert redeployed.exit_code == 1
        assert redeployed.stderr.startswith("deployer: no tag is known for production of acme/A")


def test_delete_after_redis_was_wiped(world: World) -> None:
    world.push("refs/heads/x", A)
    world.redis.flushall()
    assert world.run("delete", "acme/api", "x").exit_code == 0
    world.work()
    assert list(world.cloud.stacks()) == []


def test_staging_and_production_name_the_environments(world: World) -> None:
    world.push("refs/heads/main", A)
    world.push("refs/heads/staging", B)
    assert world.json("redeploy", "acme/api", "staging")["environment"] == "staging"
    found = world.json("redeploy", "acme/api", "refs/heads/staging")
    assert found["environment"] == "development:refs/heads/staging"
    rows = world.run("status", "acme/api").stdout.splitlines()[1:]
    assert {row.split()[0] for row in rows} == {"staging", "refs/heads/staging"}
    assert (
        "follow it: deployer why acme/API refs/heads/staging"
        in world.run("redeploy", "acme/api", "refs/heads/staging").stderr
    )


def test_delete_of_an_unknown_branch(world: World) -> None:
    world.push("refs/heads/main", A)
    result = world.run("delete", "acme/api", "nowhere")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "deployer: acme/API has no environment nowhere, and no stack of it\n"


def test_why_of_a_tag_that_is_not_live(world: World) -> None:
    world.push("refs/tags/v2", A)
    result = world.run("why", "acme/api", "refs/tags/v1")
    assert result.exit_code == 0
    assert "production does not have v1, but refs/tags/v2" in result.stderr


def test_keep(world: World) -> None:
    world.push("refs/heads/x", A)
    world.push("refs/heads/main", B)
    assert world.run("keep", "acme/api", "x").stdout == "acme/API x: it never expires\n"
    assert world.run("keep", "acme/api", "x", "--for", "2w").stdout == "acme/API x: kept for 14 d\n"
    assert "kept for 14 d" in world.run("status", "acme/api").stdout
    assert "kept for 14 d" in world.run("why", "acme/api", "x").stdout
    assert world.json("keep", "acme/api", "x", "--forever")["kept_until"].startswith("9999-")
    assert world.run("why", "acme/api", "x").stdout.count("kept for good") == 1
    result = world.run("keep", "acme/api", "main")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "only development environments age" in result.stderr
    for wrong in (["--for", "soon"], ["--for", "2w", "--forever"]):
        assert world.run("keep", "acme/api", "x", *wrong).exit_code == 2


# --- approve


@pytest.fixture
def refused(world: World) -> World:
    """Production's v1 runs, v2 is on no branch and was refused."""
    world.push("refs/heads/main", A)
    world.push("refs/tags/v1", A)
    later = time.time() + 60
    world.host.push(REPOSITORY, "refs/tags/v2", B, files={"pipeline.yml": PIPELINE}, parent=A, at=later)
    world.deliver("refs/tags/v2", B, "v2")
    world.work()
    assert world.outcome("v2") == "skipped"
    return world


@pytest.mark.parametrize("tag", ["v2", "refs/tags/v2"])
def test_an_operator_releases_a_refused_tag(refused: World, tag: str) -> None:
    result = refused.run("approve", "ACME/api", tag)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"approval of v2 at {B[:12]} of acme/API production queued as ")
    refused.work()
    record = refused.json("why", "acme/api", "production")
    assert (record["ref"], record["commit"], record["outcome"]) == ("refs/tags/v2", B, "deployed")
    assert record["admitted"]["by"] == f"approved by {getpass.getuser()}@{socket.gethostname()}"
    assert record["refused_tags"] == []
    assert "approved by" in refused.run("why", "acme/api", "production").stdout


def test_why_tells_which_tags_were_refused(refused: World) -> None:
    (told,) = refused.json("why", "acme/api", "production")["refused_tags"]
    assert (told["ref"], told["commit"]) == ("refs/tags/v2", B)
    shown = " ".join(refused.run("why", "acme/api", "production").stdout.split())
    assert "is not on main" in shown
    assert f"deployer approve acme/API v2 --sha {B[:12]}" in shown


def test_the_remedy_that_is_shown_approves_nothing_that_the_tag_is_moved_to(refused: World) -> None:
    (told,) = refused.json("why", "acme/api", "production")["refused_tags"]
    _, _, remedy = told["reason"].partition("deployer ")
    command = remedy.partition(";")[0].split()
    refused.host.push(REPOSITORY, "refs/tags/v2", A)
    result = refused.run(*command)
    assert result.exit_code == 1
    assert "nothing is approved" in result.stderr
    refused.host.push(REPOSITORY, "refs/tags/v2", B)
    assert refused.run(*command).exit_code == 0


def test_an_approval_of_what_is_not_there(refused: World) -> None:
    result = refused.run("approve", "acme/api", "v3")
    assert (result.exit_code, result.stderr) == (1, "deployer: acme/API has no tag v3\n")
    result = refused.run("approve", "acme/api", "v2", "--sha", A)
    assert result.exit_code == 1
    assert f"v2 of acme/API is at {B}, not at {A}; nothing is approved" in result.stderr
    assert refused.run("approve", "acme/api", "two..dots").exit_code == 2
    assert refused.run("approve", "other/api", "v2").exit_code == 1
    assert not refused.lanes.lanes()


def test_a_resync_of_a_repository_that_nobody_knows_is_refused(world: World) -> None:
    result = world.run("resync", "acme/none")
    assert result.exit_code == 1
    assert result.stderr.startswith("deployer: acme/none is not found")
    assert world.queue.sent == []
    assert world.lanes.repositories() == []
