"""Loads what deployer 0.1.0 has stored: the keys into a Redis, GitHub and AWS into the doubles.

`data_0_1_0.json` was written by the code of that version; `record_0_1_0.txt` is the program that did it.
"""

import json
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Repository, from_tag_value
from deployer.model.events import Push
from deployer.model.refs import Ref
from deployer.model.stacks import Failure
from deployer.templates.release import Release
from tests.doubles.cloud import BY_CREATION, BY_DEPLOYER, FakeCloud, _FakeExecution, _FakeStack
from tests.doubles.host import FakeHost
from tests.unit.world import World

T = TypeVar("T")
DATA = Path(__file__).with_name("data_0_1_0.json")


@cache
def stored() -> dict[str, Any]:
    """The recorded data."""
    data: dict[str, Any] = json.loads(DATA.read_text())
    return data


def load_keys(client: Any) -> None:
    """Put every recorded key into an empty Redis, with its time to live.

    Args:
        client: a connection with `decode_responses`, to a real Redis or a fake one.
    """
    assert not client.keys("*"), "the recorded data belongs into an empty Redis"
    pipe = client.pipeline(transaction=False)
    for key, each in stored()["keys"].items():
        value = each["value"]
        match each["type"]:
            case "string":
                pipe.set(key, value)
            case "hash":
                pipe.hset(key, mapping=value)
            case "list":
                pipe.rpush(key, *value)
            case "zset":
                pipe.zadd(key, value)
            case kind:
                raise AssertionError(f"{key} is a {kind}")
        if each["ttl_ms"] > 0:
            pipe.pexpire(key, each["ttl_ms"])
    pipe.execute()


def load_github(host: FakeHost) -> None:
    """Make the recorded repositories."""
    for key, each in stored()["repositories"].items():
        repo = host.create(Repository.parse(key))
        repo.id, repo.full_name, repo.archived = each["id"], each["full_name"], each["archived"]
        repo.refs = {Ref.parse(name): commit for name, commit in each["refs"].items()}
        repo.peeled, repo.made, repo.messages = (
            dict(each["peeled"]),
            dict(each["made"]),
            dict(each["messages"]),
        )
        repo.parents = dict(each["parents"])
        repo.files = {
            commit: {path: text.encode() for path, text in files.items()}
            for commit, files in each["files"].items()
        }
        # 0.1.0 deployed any tag; its repositories' tags are of the default branch, as people's are
        repo.merged = {repo.peeled.get(commit, commit) for ref, commit in repo.refs.items() if ref.is_tag}
    host._identities = max(each["id"] for each in stored()["repositories"].values())


def load_aws(cloud: FakeCloud) -> None:
    """Make the recorded stacks and pipelines."""
    cloud._live = {each["name"]: _stack(each) for each in stored()["stacks"]}
    cloud._gone = {each["arn"]: _stack(each) for each in stored()["deleted_stacks"]}
    cloud.pipelines = {
        name: [_execution(each) for each in executions] for name, executions in stored()["pipelines"].items()
    }
    cloud.applications = {name: list(names) for name, names in stored()["applications"].items()}
    cloud._number = 10_000  # no number is given twice


def _execution(recorded: Mapping[str, Any]) -> _FakeExecution:
    trigger = BY_CREATION if recorded["automatic"] else BY_DEPLOYER
    # AWS knows when an execution started, which the double of 0.1.0 did not say: it was when its commit was made
    started_at = max(each["made"].get(recorded["sha"], 0) for each in stored()["repositories"].values())
    return _made(_FakeExecution, {**recorded, "trigger": trigger, "started_at": started_at})


def _stack(recorded: Mapping[str, Any]) -> _FakeStack:
    stack = _made(_FakeStack, recorded)
    stack.release = _release(recorded["release"])
    stack.cause = _made(Failure, recorded["cause"]) if recorded["cause"] else None
    stack.kept, stack.stuck = set(recorded["kept"]), set(recorded["stuck"])
    if recorded["former"]:
        release, tags = recorded["former"]
        stack.former = (_release(release), tags)
    return stack


def _release(recorded: Mapping[str, Any] | None) -> Release | None:
    return _made(Release, recorded) if recorded else None


def _made(kind: type[T], recorded: Mapping[str, Any]) -> T:
    """A value of today's class; fields that it has no more are left out."""
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in recorded.items() if name in known})


class Upgraded(World):
    """Today's deployer with the recorded data, at the moment at which it was recorded."""

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        load_keys(client)
        load_github(self.host)
        load_aws(self.cloud)
        self.lanes.clock_offset_ms = int((stored()["recorded_at"] - self.lanes.now()) * 1000)

    def deliver_to(
        self, repository: Repository, ref: str, after: str, before: str, delivery: str = ""
    ) -> str:
        """A push comes in; returns how it was answered."""
        push = Push(delivery or f"d-new-{after[-4:]}", repository, Ref.parse(ref), before, after, "main")
        return self.deployer.submitter.submit_github(push).outcome

    def of_key(self, repository: str, key: str) -> EnvironmentRecord:
        """The record of an environment, by the names under which it is stored."""
        return self.record(Environment.from_key(Repository.parse(repository), key))

    def _head(self, pipeline: str) -> str:
        """See `World._head`: of any repository."""
        release = self.cloud.release(pipeline)
        assert release is not None
        refs = self.host.refs(Repository.parse(release.tags["deployer:repository"]))
        name = "refs/heads/main"
        if release.tags["deployer:environment"] == "development":
            name = from_tag_value(release.tags["deployer:ref"]) or ""
        return {ref.name: commit for ref, commit in refs.items()}.get(name, "")
