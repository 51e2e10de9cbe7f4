"""Which keys of `deploy/deployer.yml` a branch may set: each row of the table in docs/security.md is tried."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from deployer.model.environments import Environment, Kind
from deployer.model.events import PullRequestChange
from deployer.model.refs import Ref
from deployer.templates.repository_config import CONFIG_KEYS
from tests.doubles import FakeCloud
from tests.records import field_value
from tests.unit.world import HELLO, World, environment, sha

MAIN, X, Y = "refs/heads/main", "refs/heads/x", "refs/heads/y"
PLACES = {
    "development": environment(X),
    "staging": environment(MAIN),
    "production": Environment(HELLO, Kind.PRODUCTION),
}
HOME, AWAY = "us-east-1", "eu-west-1"
STRAY = sha(66)
_DEFAULT_BRANCH_KEYS = {"skipped", "pull_requests.closed"}  # read on the default branch only


def table() -> list[tuple[str, str, bool]]:
    """Key, environment and whether a branch may set it, of each row."""
    text = Path("docs/security.md").read_text()
    section = text.partition("## Which keys of deploy/deployer.yml")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([a-z._]+)` \| ([a-z, ]+) \| [^|]+ \| (yes|no) \|", section, re.MULTILINE)
    return [(key, kind, may == "yes") for key, kinds, may in rows for kind in kinds.split(", ")]


class Tried:
    """A branch that nobody merged sets a key; its commit is tagged, and staging and another branch are pushed, too."""

    def __init__(self, text: str, **how: str) -> None:
        self.world = world = World()
        away = FakeCloud(world.cloud.head)
        away.region = AWAY
        world.clouds.clouds[AWAY] = away
        target = world.clouds.targets[Kind.DEVELOPMENT]
        world.clouds.targets[Kind.DEVELOPMENT] = replace(
            target, regions=(HOME, AWAY), artifact_bucket="b-{region}"
        )
        world.push(MAIN, sha(9), files={"deployer.yml": "tags: v*"})
        world.push("refs/tags/v1", sha(1))
        self.settle()
        self.pushed = world.push(X, STRAY, files={"deployer.yml": text, **how}, parent=sha(9))
        self.settle()
        for tag in ("refs/tags/v2", "refs/tags/pwn"):
            world.host.push(HELLO, tag, STRAY)
            world.deliver(tag, STRAY)
            self.settle()
        world.push(Y, sha(5), parent=sha(9))
        world.push(MAIN, sha(10), sha(9), files={"deployer.yml": "tags: v*", "docs/a.md": "x"})
        self.settle()
        for place in (environment(MAIN), environment(Y)):  # whatever it says, it says of nobody else
            assert world.record(place).status.outcome == "deployed"
            assert (
                world.record(place).spec.expiry.ttl,
                world.record(place).spec.expiry.warn,
                world.record(place).spec.expiry.sleep,
            ) == (
                "",
                "",
                "",
            )

    def settle(self) -> None:
        for _ in range(60):
            self.world.tasks()
            if not self.world.lanes.lanes():
                return
            self.world.clouds.clouds[AWAY].advance()
            self.world.step()
        raise AssertionError(self.world.lanes.lanes())

    def kept(self, kind: str, field: str) -> str:
        """What the record of the kind's environment has."""
        return str(field_value(self.world.record(PLACES[kind]), field))

    def tag(self, kind: str, name: str) -> str:
        """A tag of the kind's stack."""
        stack = self.world.cloud.stack(PLACES[kind].stack_name)
        assert stack is not None
        return stack.tags[name]


@cache
def tried(text: str) -> Tried:
    """One trial serves the rows of every kind: nothing changes it after."""
    return Tried(text)


def _branches(kind: str) -> bool:
    return tried("branches: {exclude: [x, main]}").kept(kind, "outcome") == "skipped"


def _paths(kind: str) -> bool:
    if kind == "development":
        world = World()
        world.push(X, sha(1))
        world.run()
        pushed = world.push(
            X, sha(2), sha(1), files={"deployer.yml": "paths: {exclude: '*'}", "docs/a.md": "y"}
        )
        world.host.create(HELLO).files[sha(1)]["deploy/deployer.yml"] = b"paths: {exclude: '*'}"
        world.run()
        return world.outcome(pushed)[0] == "skipped"
    if kind == "staging":
        return tried("paths: {exclude: '*'}").kept(kind, "commit") != sha(10)
    world = World()  # not even a tag that is let in
    world.push(MAIN, sha(9))
    for number in (1, 2):
        files = {"deployer.yml": "paths: {exclude: '*'}", "docs/a.md": str(number)}
        world.push(f"refs/tags/v{number}", sha(number), files=files)
        world.run()
    return world.record(PLACES[kind]).spec.commit != sha(2)


def _age(key: str, value: str) -> Callable[[str], bool]:
    return lambda kind: tried(f"{key}: {value}").kept(kind, key) != ""


def _regions(kind: str) -> bool:
    return tried(f"regions: [{AWAY}]").kept(kind, "region") == AWAY


def _teardown(kind: str) -> bool:
    return "stop" in tried("teardown: {on_failure: stop}").kept(kind, "teardown")


def _skipped(kind: str) -> bool:
    return tried("skipped: pending").kept(kind, "skipped") == "pending"


def _closed(kind: str) -> bool:
    world = World()
    world.push(MAIN, sha(9))
    world.push(X, STRAY, files={"deployer.yml": "pull_requests: {closed: delete}"}, parent=sha(9))
    world.run()
    change = PullRequestChange("d-closed", HELLO, "closed", 1, Ref(X), STRAY, False, "main")
    world.deployer.submit_delivery(change)
    world.run()
    return world.record(PLACES[kind]).status.state == "deleted"


def _tags(kind: str) -> bool:
    return tried("tags: ['*']").kept(kind, "commit") == STRAY


def _production_branches(kind: str) -> bool:
    trial = Tried("production: {branches: '*'}")
    trial.world.host.protect(HELLO, "x")  # not even a protected one may name itself
    trial.world.host.push(HELLO, "refs/tags/v3", STRAY)
    trial.world.deliver("refs/tags/v3", STRAY)
    trial.settle()
    return trial.kept(kind, "commit") == STRAY


TRIALS: dict[str, Callable[[str], bool]] = {
    "branches": _branches,
    "paths": _paths,
    "ttl": _age("ttl", "1d"),
    "warn": _age("warn", "1h"),
    "sleep": _age("sleep", '"20:00-20:01"'),
    "regions": _regions,
    "teardown": _teardown,
    "skipped": _skipped,
    "url": lambda kind: tried("url: Mine").kept(kind, "url_output") != "",
    "pull_requests.closed": _closed,
    "tags": _tags,
    "production.branches": _production_branches,
}


def test_the_table_has_every_key() -> None:
    rows = table()
    assert {key.partition(".")[0] for key, _, _ in rows} == set(CONFIG_KEYS)
    assert {key for key, _, _ in rows} == set(TRIALS)
    assert len(rows) == len({(key, kind) for key, kind, _ in rows})
    for key, kind, may in rows:
        assert may == (kind == "development" and key not in _DEFAULT_BRANCH_KEYS), (key, kind)


@pytest.mark.parametrize(("key", "kind", "may"), table())
def test_a_branch_sets_for_itself_what_the_table_says_and_nothing_else(
    key: str, kind: str, *, may: bool
) -> None:
    assert TRIALS[key](kind) == may
