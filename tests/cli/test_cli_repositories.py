"""`repositories`, `webhook`, and where a repository's state is shown besides."""

import json
import time

import pytest
from cli_world import PIPELINE, REPOSITORY, SETTINGS, World

from deployer.config import load
from deployer.environments import Repository

MAIN, URL = "refs/heads/main", "https://deployer.example/webhooks/github"


@pytest.fixture
def public(world: World) -> World:
    """With an address that GitHub reaches."""
    world.deployer.config = load(SETTINGS | {"DEPLOYER_PUBLIC_URL": "https://deployer.example"})
    return world


def test_install_makes_the_webhook_and_tells_so(public: World) -> None:
    first = public.run("webhook", "install", "acme/api")
    again = public.run("webhook", "install", "acme/api")

    assert (first.exit_code, again.exit_code) == (0, 0)
    assert f"to {URL}: created" in first.stdout
    assert "there already" in again.stdout
    assert public.host.hooks[REPOSITORY.key] == (URL, "hush", ["public", "push", "repository"])
    assert "hush" not in first.output + again.output


def test_install_needs_an_address_and_the_right_to_it(world: World, public: World) -> None:
    public.host.hook_rights = False
    result = public.run("webhook", "install", "acme/api")
    assert (result.exit_code, "give deployer's token" in result.stderr) == (1, True)
    public.host.hook_rights, public.host.is_app = True, True
    assert f"set it to {URL}" in public.run("webhook", "install", "acme/api").stderr
    world.deployer.config = load(SETTINGS)
    result = world.run("webhook", "install", "acme/api")
    assert (result.exit_code, "DEPLOYER_PUBLIC_URL is not set" in result.stderr) == (1, True)
    assert public.host.hooks == {}


def test_check_has_missed_deliveries_sent_again(public: World) -> None:
    public.run("webhook", "install", "acme/api")
    public.host.note_delivery(REPOSITORY, "g-1", "public", {}, time.time() - 600)

    assert public.json("webhook", "check", "acme/api") == {
        "repository": "acme/api",
        "missed": 1,
        "redelivered": 1,
        "superseded": 0,
        "left": 0,
    }
    assert "0 deliveries were missed" in public.run("webhook", "check", "acme/api").stdout


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
