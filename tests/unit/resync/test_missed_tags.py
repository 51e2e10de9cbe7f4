"""The newest tag from before deployer's installation: a resync names it, and people decide whether to deploy it."""

from typing import Any

import pytest

from deployer.model.environments import Environment, Kind
from deployer.queue.items import Cause
from deployer.views.derived_values import never_deployed
from tests.unit.world import HELLO, TEMPLATE, World, sha

PRODUCTION = Environment(HELLO, Kind.PRODUCTION)
FILES = {"pipeline.yml": TEMPLATE}
TOLD = "the newest tag {} of acme/hello was never deployed; to deploy it: deployer redeploy acme/hello refs/tags/{}"


def tag(world: World, name: str, number: int, **how: Any) -> None:
    """A tag that no webhook told of, made at this time."""
    world.host.push(HELLO, f"refs/tags/{name}", sha(number), files=FILES, at=number, **how)


def listed(world: World) -> str:
    """The tag that people are told of, everywhere the same."""
    found = never_deployed(world.lanes, [HELLO])
    return found.get(HELLO.key, "").removeprefix("refs/tags/")


def report(world: World) -> str:
    """What the last resync said of itself."""
    return next(line.reason for line in world.lanes.activity(HELLO) if line.outcome == "resynced")


@pytest.fixture
def world() -> World:
    made = World()
    made.rules()
    return made


def test_the_first_resync_names_the_newest_tag_and_deploys_none(world: World) -> None:
    for number, name in enumerate(("v1", "v3", "v2"), 1):
        tag(world, name, number)
    dry, told = world.deployer.lifecycle.plan(HELLO)
    assert told == TOLD.format("v2", "v2")
    assert [each for each in dry if each.environment == PRODUCTION] == []
    assert listed(world) == "", "a dry run writes nothing"
    world.resync(HELLO)
    assert listed(world) == "v2"
    assert report(world).endswith(TOLD.format("v2", "v2"))
    assert world.lanes.environment(PRODUCTION) is None


def test_a_tag_is_named_until_it_is_deployed(world: World) -> None:
    tag(world, "v1", 1)
    for _ in range(2):
        world.resync(HELLO)
        assert listed(world) == "v1"
    world.deployer.submitter.request_environment(PRODUCTION, cause=Cause.REDEPLOY, ref="refs/tags/v1")
    world.run()
    assert world.record(PRODUCTION).spec.commit == sha(1)
    assert listed(world) == "", "before the next resync, too"
    world.resync(HELLO)
    assert listed(world) == ""
    assert "never deployed" not in report(world)


@pytest.mark.parametrize("how", ["a newer one is deployed", "it is removed"])
def test_a_tag_is_no_longer_named_once(world: World, how: str) -> None:
    tag(world, "v1", 1)
    world.resync(HELLO)
    if how == "it is removed":
        world.host.remove(HELLO, "refs/tags/v1")
    else:
        tag(world, "v2", 2)
        world.deliver("refs/tags/v2", sha(2))
        world.run()
        assert listed(world) == "", "before the next resync, too"
    world.run()
    world.resync(HELLO)
    assert listed(world) == ""


def test_if_production_runs_only_a_newer_tag_is_named(world: World) -> None:
    """Redis was lost: the stack tells which tag runs."""
    for number in (1, 2):
        tag(world, f"v{number}", number)
    world.deliver("refs/tags/v2", sha(2))
    world.run()
    world.forget()
    world.resync(HELLO)
    assert listed(world) == ""
    tag(world, "v3", 3)
    world.forget()
    world.resync(HELLO)
    assert listed(world) == "v3"
    assert world.record(PRODUCTION).spec.commit == sha(2)


@pytest.mark.parametrize("rules", ["tags: v*", ""])
def test_only_a_tag_that_production_may_run_is_named(world: World, rules: str) -> None:
    world.rules(rules)
    tag(world, "v1", 1)
    tag(world, "nightly", 2)
    tag(world, "NOBUILD", 3)
    world.resync(HELLO)
    assert listed(world) == ("v1" if rules else "nightly")


def test_a_resync_continues_if_the_rules_cannot_be_read(world: World) -> None:
    world.rules("tags: [")
    tag(world, "v1", 1)
    world.resync(HELLO)
    assert listed(world) == ""
    assert "never deployed" not in report(world)


def test_a_refused_tag_is_not_named(world: World) -> None:
    world.rules("tags: v*")
    tag(world, "v1", 1)
    world.deliver("refs/tags/v1", sha(1))
    world.run()
    assert world.record(PRODUCTION).spec.commit == sha(1)
    world.resync(HELLO)
    assert listed(world) == ""


def test_a_repository_without_tags_has_no_undeployed_tag(world: World) -> None:
    world.resync(HELLO)
    assert listed(world) == ""
    assert "never deployed" not in report(world)


@pytest.mark.parametrize("ref", ["v1.2", "refs/heads/x", "refs/tags/", "refs/tags/a..b"])
def test_a_resync_continues_if_productions_stack_names_no_tag(world: World, ref: str) -> None:
    world.cloud.add_stack("shop", {**PRODUCTION.tags, "deployer:ref": ref}, "CREATE_COMPLETE")
    tag(world, "v1", 1)
    world.resync(HELLO)
    assert report(world)
    assert listed(world) == "v1"
