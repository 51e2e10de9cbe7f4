"""`status`, `why`, `lanes`, `orphans`."""

import time
from dataclasses import replace

import pytest
from cli_world import REPOSITORY, World

from deployer.model.environments import Environment, Repository
from deployer.model.errors import TransientError
from deployer.model.refs import Ref
from deployer.model.teardown_report import TeardownReport
from deployer.model.visible import visible
from deployer.queue.items import Work
from deployer.resync.collect import ResyncPlanner
from tests.web.fill import FAILURE, RECEIPT

A, B = "a" * 40, "b" * 40


def test_status_of_nothing(world: World) -> None:
    result = world.run("status")
    assert (result.exit_code, result.stdout) == (0, "no environments\n")
    assert world.json("status") == []


def test_status(world: World) -> None:
    world.push("refs/heads/main", A)
    world.cloud.fail_next_execution("2 tests failed")
    world.push("refs/heads/feature/login", B)
    result = world.run("status")
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["REPOSITORY", "ENVIRONMENT", "STATE", "COMMIT", "STAGES", "OUTCOME", "WHEN"]
    assert rows[0].split("  ")[0] == "acme/API"
    assert ("feature/login" in rows[0], "1 ok, Build failed" in rows[0], "bbbbbbbb " in rows[0]) == (
        True,
    ) * 3
    assert ("staging" in rows[1], "3 ok" in rows[1], "deployed" in rows[1], " s ago" in rows[1]) == (
        True,
    ) * 4
    assert max(map(len, rows)) <= 100
    assert "\x1b" not in result.stdout


def test_invisible_characters_in_a_name_are_shown(world: World) -> None:
    branch, shown = "\u202eniam\u2028\x85\x9b2J", "\\u202eniam\\u2028\\u0085\\u009b2J"
    world.push(f"refs/heads/{branch}", A)
    for command in ("status", "status --json", f"why acme/api {branch}", f"why acme/api {branch} --json"):
        text = world.run(*command.split(" ")).stdout
        assert shown in text, command
        assert branch not in text
        assert visible(text, keep="\n") == text
    (found,) = world.json("status")
    assert found["environment"] == f"development:refs/heads/{branch}"
    said = world.run("redeploy", "acme/api", branch).stdout
    assert said.startswith(f"redeploy of acme/API {shown} queued as ")
    assert shown in world.run("why", "acme/api", f"{branch}2").stderr


def test_status_json(world: World) -> None:
    world.push("refs/tags/v1", A)
    (found,) = world.json("status", "ACME/api")
    assert found["repository"] == "acme/API"
    assert (found["environment"], found["kind"], found["ref"]) == ("production", "production", "refs/tags/v1")
    assert (found["state"], found["outcome"], found["commit"]) == ("deployed", "deployed", A)
    assert [stage["name"] for stage in found["stages"]] == ["Source", "Build", "Deploy"]
    assert found["updated_at"].endswith("Z")


def test_status_hides_deleted_environments(world: World) -> None:
    world.push("refs/heads/x", A)
    assert world.run("delete", "acme/api", "x").exit_code == 0
    world.work()
    assert world.json("status") == []
    assert [found["state"] for found in world.json("status", "--all")] == ["deleted"]


def test_status_shows_environments_that_are_only_queued(world: World) -> None:
    world.push("refs/heads/x", A, work=False)
    (found,) = world.json("status")
    assert (found["environment"], found["state"]) == ("development:refs/heads/x", "queued")
    assert world.json("status", "acme/other") == []


def test_why(world: World) -> None:
    world.cloud.fail_next_execution("2 tests failed\n\x1b[31msee the log")
    world.push("refs/heads/feature/login", A)
    text = world.run("why", "Acme/Api", "feature/login").stdout
    assert text.splitlines()[0] == "acme/API feature/login (development)"
    assert A in text
    assert "2 tests failed" in text
    assert "\x1b" not in text
    assert "no work" in text
    assert "History" in text
    found = world.json("why", "acme/api", "refs/heads/feature/login")
    assert (found["outcome"], found["lane"]) == ("failed", None)
    assert found["activity"][0]["outcome"] == "failed"
    assert found["dead_letters"] == []


def test_why_tells_what_failed(world: World) -> None:
    world.push("refs/heads/x", A)
    (record,) = world.lanes.environments(REPOSITORY)
    world.know(record.but(failure=FAILURE, region="eu-west-1"))
    text = world.run("why", "acme/api", "x").stdout
    for line in (
        "What failed",
        "  resource  Role AWS::IAM::Role",
        f"  reason    {FAILURE.reason}",
        "  in        deploy/pipeline.yml:42",
        f"  console   {FAILURE.url}",
        "  region     eu-west-1",
    ):
        assert line in text.splitlines()
    assert "Teardown report" not in text
    found = world.json("why", "acme/api", "x")
    assert found["failure"] == FAILURE.json_fields()


def test_why_shows_the_teardown_report(world: World) -> None:
    world.push("refs/heads/x", A)
    (record,) = world.lanes.environments(REPOSITORY)
    world.know(record.but(receipt=RECEIPT.but(ended_at=time.time() - 120)))
    lines = world.run("why", "acme/api", "x").stdout.splitlines()
    assert "Teardown report, 2 min ago: 3 removed, 1 retained" in lines
    assert "  removed   stack api-old-experiment-app, with 12 resources" in lines
    assert "  removed   bucket api-old-experiment-artifacts" in lines
    assert "  retained  stack shared-network: it does not bear deployer's tags for this environment" in lines
    retained = [each.json_fields() for each in RECEIPT.retained]
    assert world.json("why", "acme/api", "x")["receipt"]["retained"] == retained


def test_why_shows_a_teardown_that_has_not_ended(world: World) -> None:
    world.push("refs/heads/x", A)
    (record,) = world.lanes.environments(REPOSITORY)
    world.know(record.but(receipt=TeardownReport(began_at=1, removed=RECEIPT.removed)))
    lines = world.run("why", "acme/api", "x").stdout.splitlines()
    assert "Teardown report, under way: 3 removed so far" in lines
    shown = world.json("why", "acme/api", "x")["receipt"]
    assert (shown["at"], shown["outcome"]) == (None, "under way")


def test_why_of_a_queued_environment(world: World) -> None:
    world.push("refs/heads/first", A, work=False)
    world.push("refs/heads/second", A, work=False)
    text = world.run("why", "acme/api", "first").stdout
    assert "queued" in text
    assert "deployer.sync was sent, and no worker has taken it yet" in text
    text = world.run("why", "acme/api", "second").stdout
    assert "deployer.sync queued for" in text
    assert "(push)" in text
    assert "behind first, which has deployer.sync" in text
    lane = world.json("why", "acme/api", "second")["lane"]
    assert lane["environment"] == "development:refs/heads/first"
    assert [work["cause"] for work in lane["waiting"]] == ["push", "push"]


def test_why_of_a_snoozed_environment(world: World) -> None:
    world.push("refs/heads/x", A, work=False)
    while world.queue.sent:
        world.carry_out(world.queue.sent.pop())
    text = world.run("why", "acme/api", "x").stdout
    assert "provisioning" in text
    assert "waiting; checks again in" in text
    (snoozed,) = world.json("why", "acme/api", "x")["lane"]["snoozed"]
    assert snoozed["seconds"] > 0
    assert (snoozed["attempts"], snoozed["last_error"]) == (0, "")


def test_a_repository_that_has_used_its_share_of_github_s_calls_is_named(world: World) -> None:
    world.deployer.allowance.count_calls_made(Repository.parse("acme/api"), 600, 5000)
    world.push("refs/heads/x", A, work=False)
    while world.queue.sent:
        world.carry_out(world.queue.sent.pop())
    reason = "acme/API has used its share of the calls to GitHub that all repositories have together"
    assert f"{reason}; checks again in" in " ".join(world.run("why", "acme/api", "x").stdout.split())
    (snoozed,) = world.json("why", "acme/api", "x")["lane"]["snoozed"]
    assert (snoozed["attempts"], snoozed["reason"]) == (0, reason)
    assert reason in world.run("lanes").stderr


def test_why_of_an_environment_that_is_retried(world: World) -> None:
    world.cloud.fail_next(TransientError("AccessDenied: not yours"), method="create_stack")
    world.push("refs/heads/x", A, work=False)
    while world.queue.sent:
        world.carry_out(world.queue.sent.pop())
    text = world.run("why", "acme/api", "x").stdout
    assert "attempt 1 failed: AccessDenied: not yours; tries again in" in " ".join(text.split())
    (snoozed,) = world.json("why", "acme/api", "x")["lane"]["snoozed"]
    assert (snoozed["attempts"], snoozed["last_error"]) == (1, "AccessDenied: not yours")


@pytest.mark.parametrize("ref", ["nowhere", "production", "refs/tags/v9"])
def test_why_of_the_unknown(world: World, ref: str) -> None:
    result = world.run("why", "acme/api", ref)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"deployer: acme/api has no environment {ref}")
    assert result.stderr.count("\n") == 1


def test_lanes(world: World) -> None:
    assert world.run("lanes").stdout == "every queue is empty\n"
    world.push("refs/heads/first", A, work=False)
    world.push("refs/heads/second", A, work=False)
    row = world.run("lanes").stdout.splitlines()[1].split()
    assert row == ["acme/API", "sent", "first", "sync", "second", "-"]
    (lane,) = world.json("lanes")
    assert [work["environment"] for work in lane["waiting"]] == [
        "development:refs/heads/first",
        "development:refs/heads/second",
    ]


def test_orphans(world: World) -> None:
    world.push("refs/heads/main", A)
    world.push("refs/heads/gone", A)
    assert world.run("orphans").stdout == "no orphans\n"
    world.host.remove(REPOSITORY, "refs/heads/gone")
    name = Environment.of_ref(REPOSITORY, Ref.of_branch("gone"), "main").stack_name
    assert world.run("orphans").stdout.splitlines()[1].split()[:3] == ["acme/API", "gone", name]
    assert [found["environment_id"] for found in world.json("orphans", "acme/api")] == [name]


def test_orphans_of_several_stacks_stay_a_short_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.push("refs/heads/gone", A)
    world.host.remove(REPOSITORY, "refs/heads/gone")
    found = ResyncPlanner.orphans
    monkeypatch.setattr(
        ResyncPlanner,
        "orphans",
        lambda *of: [(replace(each, stacks=each.stacks * 3), at) for each, at in found(*of)],
    )
    name = Environment.of_ref(REPOSITORY, Ref.of_branch("gone"), "main").stack_name
    line = world.run("orphans").stdout.splitlines()[1]
    assert [cell.strip() for cell in line.split("  ") if cell][:4] == [
        "acme/API",
        "gone",
        f"{name}, +2 more",
        "us-east-1",
    ]
    assert [each["name"] for each in world.json("orphans")[0]["stacks"]] == [name] * 3


def test_orphans_are_found_after_redis_was_wiped(world: World) -> None:
    world.push("refs/heads/gone", A)
    world.host.remove(REPOSITORY, "refs/heads/gone")
    world.redis.flushall()
    (found,) = world.json("orphans")
    assert (found["repository"], found["environment"]) == ("acme/api", "development:refs/heads/gone")


def test_a_repository_that_cannot_be_read_does_not_hide_the_others(world: World) -> None:
    world.push("refs/heads/gone", A)
    world.host.remove(REPOSITORY, "refs/heads/gone")
    world.lanes.accept(Repository("acme", "vanished"), Work(environment="staging"))
    result = world.run("orphans")
    assert result.exit_code == 1
    assert "gone" in result.stdout
    assert "deployer: 1 of 2 repositories could not be checked" in result.stderr
