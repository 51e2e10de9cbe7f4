"""Tests of `repositories`, of `webhook`, and of a repository's state in other commands."""

import json
import re
import time

import pytest
from cli_world import PIPELINE, REPOSITORY, SETTINGS, World

from deployer.model.delivery_record import DeliveryRecord
from deployer.model.environments import Repository
from deployer.model.repository_record import RepositoryRecord
from deployer.settings.loading import load_config
from tests.records import know_repository
from tests.web.fill import UNCHECKED, fill_odd

MAIN, URL = "refs/heads/main", "https://deployer.example/webhooks/github"


@pytest.fixture
def public(world: World) -> World:
    """With an address that GitHub reaches."""
    world.deployer.config = load_config(SETTINGS | {"DEPLOYER_PUBLIC_URL": "https://deployer.example"})
    return world


def test_install_creates_the_webhook(public: World) -> None:
    first = public.run("webhook", "install", "acme/api")
    again = public.run("webhook", "install", "acme/api")

    assert (first.exit_code, again.exit_code) == (0, 0)
    assert f"to {URL}: created" in first.stdout
    assert "already correct" in again.stdout
    secret = SETTINGS["DEPLOYER_GITHUB_WEBHOOK_SECRET"]
    assert public.host.hooks[REPOSITORY.key] == (
        URL,
        secret,
        ["public", "pull_request", "push", "repository"],
    )
    assert "hush" not in first.output + again.output


def test_install_says_that_the_webhook_is_the_organization_s(public: World) -> None:
    public.host.organization_hooks["acme"] = (URL, "former", ["push"])
    result = public.run("webhook", "install", "acme/api")
    told = f"webhook of organization acme (for acme/api) to {URL}: updated: content type JSON"
    assert result.stdout.startswith(told)


def test_install_needs_an_address_and_the_right_to_it(world: World, public: World) -> None:
    public.host.hook_rights = False
    result = public.run("webhook", "install", "acme/api")
    assert result.exit_code == 1
    assert result.stderr.startswith("deployer: acme/api: GitHub answers 404; give deployer's token")
    assert public.run("webhook", "check", "acme/api").stderr == result.stderr
    public.host.hook_rights, public.host.is_app = True, True
    assert f"set it to {URL}" in public.run("webhook", "install", "acme/api").stderr
    world.deployer.config = load_config(SETTINGS)
    result = world.run("webhook", "install", "acme/api")
    assert (result.exit_code, "DEPLOYER_PUBLIC_URL is not set" in result.stderr) == (1, True)
    assert public.host.hooks == {}


@pytest.mark.parametrize("command", ["install", "check"])
def test_a_repository_that_is_not_there_lacks_no_right(public: World, command: str) -> None:
    public.host.hook_rights = False
    result = public.run("webhook", command, "acme/nope")
    assert result.stderr == "deployer: acme/nope does not exist, or deployer has no access\n"
    assert "nope" not in public.run("repositories", "list").stdout


def test_check_redelivers_missed_deliveries(public: World) -> None:
    public.run("webhook", "install", "acme/api")
    public.host.note_delivery(REPOSITORY, "g-1", "public", {}, time.time() - 600)

    assert public.json("webhook", "check", "acme/api") == {
        "repository": "acme/api",
        "missed": 1,
        "redelivered": 1,
        "superseded": 0,
        "left": 0,
        "recent": 0,
        "refused": 0,
    }
    assert public.run("webhook", "check", "acme/api").stdout == (
        "acme/api: 0 deliveries were missed; 1 failed less than a minute ago; run the check again later\n"
    )


def test_a_state_is_shown_wherever_environments_are(world: World) -> None:
    world.push(MAIN, "a" * 40)
    world.host.change(REPOSITORY, archived=True)
    world.run("resync", "acme/API")
    world.work()

    (row,) = world.json("repositories", "list")
    assert (row["repository"], row["state"]) == ("acme/API", "archived")
    for command in (
        ("repositories", "list"),
        ("status",),
        ("status", "acme/api"),
        ("why", "acme/api", "main"),
    ):
        assert "is archived" in world.run(*command).output
    found = json.loads(world.run("doctor", "--json").stdout)
    assert "repository acme/API" in {row["check"] for row in found}


def test_another_repository_of_that_name_is_accepted_by_a_person_only(world: World) -> None:
    world.push(MAIN, "a" * 40)
    world.run("resync", "acme/API")
    world.work()
    assert world.run("repositories", "accept", "acme/API").exit_code == 1
    world.host.rename(REPOSITORY, Repository("acme", "shop"))
    world.host.push(REPOSITORY, MAIN, "b" * 40, files={"pipeline.yml": PIPELINE})  # to another acme/API
    world.run("resync", "acme/API")
    world.work()
    assert world.json("repositories", "list")[0]["state"] == "replaced"

    assert world.run("repositories", "accept", "acme/API").exit_code == 0
    world.work()
    assert world.json("repositories", "list")[0]["state"] is None
    assert world.json("why", "acme/API", "main")["commit"] == "b" * 40


def test_unusual_states_are_shown(world: World) -> None:
    made = fill_odd(world.lanes, "acme/API")
    listed = {row["repository"]: row for row in world.json("repositories", "list")}
    assert listed["acme/was-renamed"]["state"] == "renamed"
    assert listed["acme/API"]["deliveries"]["missed"]["superseded"] == 1
    assert [each["environment_id"] for each in listed["acme/API"]["orphans"]] == [made["orphan"]]

    text = world.run("repositories", "list").stdout
    for line in (
        "acme/API: 3 deliveries were missed: 2 redelivered, 1 superseded by a newer push, 2 h ago",
        f"acme/was-archived: missed deliveries are left to the resync: {UNCHECKED}",
        "another repository has the name acme/was-replaced now; its environments are left alone",
    ):
        assert line in text.splitlines()
    rows = {line.split()[0]: line.split() for line in text.splitlines()[1:7]}
    assert rows["acme/was-archived"][1:5] == ["archived", "1", "d", "ago"]
    assert rows["acme/API"][1:5] == ["normal", "-", "main", "1"]

    status = world.run("status", "acme/api").stdout
    assert re.search(r"feature/ü#1 +deployed \(drift\) ", status)
    assert re.search(r"released-by-hand +deployed \(foreign execution\) ", status)
    assert "user/ada started it; deploy again: deployer redeploy acme/API released-by-hand" in world.run(
        "why", "acme/api", "released-by-hand"
    ).stdout.replace("\n", " ")
    assert re.search(r"a-branch-that-is-gone\S+ +deployed \(orphan\) ", status)
    assert re.search(r"held-back +deployed \(held\) ", status)
    assert "though held-back is at cccccccccccc" in world.run("why", "acme/api", "held-back").stdout
    why = world.run("why", "acme/api", "feature/ü#1").stdout
    assert "did not order; undo it: deployer redeploy acme/API 'feature/ü#1'" in why
    idle = world.run("why", "acme/api", "idle-for-long").stdout
    assert re.search(
        r"idle since [-0-9: ]+ UTC; time to live 3d \(ttl of deploy/deployer.yml\); expires ", idle
    )
    gone = next(each for each in world.lanes.environments(REPOSITORY) if "is-gone" in each.environment)
    assert "its branch is gone since" in world.run("why", "acme/api", gone.spec.ref).stdout


def test_repositories_that_are_not_served_are_named(world: World) -> None:
    words = (
        "1 repository sends deliveries but matches no pattern in DEPLOYER_REPOSITORIES: else/where; the last"
    )
    assert "DEPLOYER_REPOSITORIES" not in world.run("repositories", "list").stdout
    for number, name in enumerate(("else/where", "acme/api")):  # the other one is served since
        world.lanes.ignore(DeliveryRecord(f"u-{number}", name, reason="no"), served=False)
    assert words in world.run("repositories", "list").stdout


def test_status_names_some_of_many_repositories_with_unusual_states(world: World) -> None:
    for number in range(6):
        name = f"acme/r{number}"
        world.deployer.submitter.resync(Repository.parse(name))
        know_repository(
            world.lanes, RepositoryRecord(name, 1, "archived", f"{name} is archived: nothing new runs")
        )
    told = world.run("status").stderr
    assert (
        "6 repositories are not in the normal state: acme/r0 archived, acme/r1 archived, acme/r2 archived and 3 more"
        in told
    )
    assert "nothing new runs" not in told
    assert "see: deployer repositories list" in told
    assert "acme/r5 is archived: nothing new runs" in world.run("status", "acme/r5").stderr


def test_a_dry_run_says_what_a_resync_of_such_a_repository_does(world: World) -> None:
    world.push(MAIN, "a" * 40)
    world.push("refs/heads/x", "b" * 40)
    world.host.push(REPOSITORY, "refs/heads/y", "c" * 40, files={"pipeline.yml": PIPELINE})
    world.host.change(REPOSITORY, archived=True)
    result = world.run("resync", "acme/api", "--dry-run")
    assert (result.exit_code, result.stdout) == (0, "nothing to do\n")
    assert "is archived: nothing new runs" in result.stderr
    assert world.lanes.repository(REPOSITORY) is None, "a dry run remembers nothing"

    world.host.rename(REPOSITORY, Repository("acme", "new"))
    (planned,) = world.json("resync", "acme/api", "--dry-run")
    assert (planned["environment"], planned["action"]) == ("development:refs/heads/x", "delete")
    world.host.rename(Repository("acme", "new"), Repository("other", "new"))
    result = world.run("resync", "acme/api", "--dry-run")
    assert "none of the patterns in DEPLOYER_REPOSITORIES" in result.stderr
    assert result.stdout == "nothing to do\n"


def test_orphans_of_an_unreachable_repository_are_not_listed(world: World) -> None:
    world.push("refs/heads/x", "b" * 40)
    world.host.remove(REPOSITORY, "refs/heads/x")
    (found,) = world.json("orphans", "acme/api")
    assert found["due"]
    for state, listed in (("archived", [None]), ("replaced", [])):
        know_repository(world.lanes, RepositoryRecord("acme/API", 1, state, f"it is {state}"))
        result = world.run("orphans", "acme/api", "--json")
        assert (result.exit_code, [each["due"] for each in json.loads(result.stdout)]) == (0, listed)
    assert "it is replaced" in result.stderr
    world.host.delete(REPOSITORY)
    found = json.loads(world.run("doctor", "--json").stdout)
    assert {each["state"] for each in found if each["check"].startswith("GitHub acme")} == set()


def test_a_dry_run_of_all_lists_the_stacks_once_and_tells_how_far_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployer.cli.output._REPORT_SECONDS", 0)
    for number in range(5):
        each = Repository("acme", f"r{number}")
        world.host.push(each, MAIN, "a" * 40, files={"pipeline.yml": PIPELINE})
        world.deployer.submitter.resync(each)
    world.push("refs/heads/x", "b" * 40)
    before = len(world.cloud.calls)
    result = world.run("resync", "--all", "--dry-run")
    assert result.exit_code == 0
    assert [name for name, _ in world.cloud.calls[before:]] == ["stacks", "count_capacity"]
    assert "3 of 6 repositories checked …" in result.stderr
    assert "checked …" not in result.stdout


@pytest.mark.parametrize("whose", ["-/-", "acme/api"])
def test_commands_show_the_rest_although_the_record_of_a_repository_or_the_app_is_damaged(
    world: World, whose: str
) -> None:
    world.push(MAIN, "a" * 40)
    world.work()
    world.lanes._redis.set(f"deployer:{{{whose}}}:repository", "no JSON")
    for command in (["repositories", "list"], ["why", "acme/api", "main"]):
        result = world.run(*command)
        assert result.exit_code == 0, result.output
        assert "acme/api" in result.stdout.lower()
