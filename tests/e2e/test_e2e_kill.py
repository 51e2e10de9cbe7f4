"""Tests of `kill -9` during every step: another worker finishes it within a minute, and nothing is done twice."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployer.model.environments import Environment, Repository
from deployer.model.refs import Ref
from sandbox.installation import Installation, WorkingCopy, call, wait_for

REPOSITORY = "acme/hello"
SLOW = 6.0  # seconds of a call in whose middle the worker dies; longer than its lease and than a busy machine stalls


@pytest.fixture
def copy(fragile: Installation, tmp_path: Path) -> Iterator[WorkingCopy]:
    yield fragile.clone(tmp_path / "copy")
    fragile.clear_faults()


def kill(here: Installation, victim: str) -> None:
    main, *children = here.processes("--app=workers worker")
    for pid in [main] if victim == "worker" else children:
        os.kill(pid, signal.SIGKILL)


def stack_of(branch: str) -> str:
    repository, ref = Repository.parse(REPOSITORY), Ref.parse(f"refs/heads/{branch}")
    return Environment.of_ref(repository, ref, "main").stack_name


def slow_down(here: Installation, operation: str, name: str) -> None:
    """Delay the next such call of AWS for one stack or pipeline only."""
    order = {"operation": operation, "name": name, "seconds": SLOW, "count": 1}
    here.fault("aws", {"slow": order})


def kill_during(here: Installation, task: str, branch: str, victim: str) -> None:
    """Wait until a worker is within a task, with the slow call to AWS under way, and kill it."""

    def within() -> bool:
        lanes = here.api("lanes")["lanes"]
        wanted = (task, "running", f"development:refs/heads/{branch}")
        begun = not call("GET", f"{here.aws}/_sandbox/faults").json["slow"]  # an order that struck is gone
        return begun and wanted in [(each["task"], each["status"], each["environment"]) for each in lanes]

    wait_for(f"{task} runs", within)
    kill(here, victim)


def asked_once(here: Installation, operation: str, name: str, since: float = 0) -> bool:
    """Wait until the slow call has ended too: AWS was asked twice, and both were one and the same order."""

    def calls() -> list[str]:
        asked = [call for call in here.aws_calls() if (call["operation"], call["name"]) == (operation, name)]
        found = [call for call in asked if call["time"] >= since]
        return [call["token"] for call in found] if len(found) > 1 else []

    return len(set(wait_for(f"{operation} was asked by two workers", calls))) == 1


def shas(here: Installation, pipeline: str) -> list[str]:
    return [each["sha"] for each in here.executions(pipeline)]


@pytest.mark.parametrize("victim", ["worker", "pool child"])
def test_while_the_stack_is_created(fragile: Installation, copy: WorkingCopy, victim: str) -> None:
    branch = f"create-{victim[:4]}"
    slow_down(fragile, "CreateStack", stack_of(branch))
    copy.branch(branch)
    sha = copy.write("New", {"by.txt": victim})
    copy.push()
    kill_during(fragile, "deployer.provision", branch, victim)
    found = fragile.settled(f"refs/heads/{branch}", sha, seconds=60)
    assert found["outcome"] == "deployed"
    assert shas(fragile, found["id"]) == [sha]
    assert asked_once(fragile, "CreateStack", found["id"])
    assert shas(fragile, found["id"]) == [sha]
    assert [name for name in fragile.stacks() if name.startswith(found["id"])] == [
        found["id"], f"{found['id']}-app"
    ]  # fmt: skip


def test_while_github_is_read(fragile: Installation, copy: WorkingCopy) -> None:
    fragile.fault("github", {"slow": 3})
    copy.branch("read")
    sha = copy.write("New", {"by.txt": "read"})
    copy.push()
    kill_during(fragile, "deployer.sync", "read", "worker")
    fragile.clear_faults()
    found = fragile.settled("refs/heads/read", sha, seconds=60)
    assert found["outcome"] == "deployed"
    assert shas(fragile, found["id"]) == [sha]


def test_in_every_later_step(fragile: Installation, copy: WorkingCopy) -> None:
    copy.branch("steps")
    first = copy.write("First", {"by.txt": "steps"})
    copy.push()
    found = fragile.settled("refs/heads/steps", first, seconds=60)
    name, arn = found["id"], fragile.stacks()[found["id"]]["id"]

    began = time.time()
    slow_down(fragile, "StartPipelineExecution", name)
    second = copy.write("Second", {"by.txt": "second"})
    copy.push()
    kill_during(fragile, "deployer.trigger", "steps", "worker")
    assert fragile.settled("refs/heads/steps", second, seconds=60)["outcome"] == "deployed"
    assert asked_once(fragile, "StartPipelineExecution", name, began)
    assert shas(fragile, name) == [first, second]

    slow_down(fragile, "UpdateStack", name)
    parameters = json.loads(copy.read("deploy/pipeline.parameters.json"))
    parameters["development"][0]["ParameterValue"] = "Another greeting"
    third = copy.write("Third", {"deploy/pipeline.parameters.json": json.dumps(parameters)})
    copy.push()
    kill_during(fragile, "deployer.update", "steps", "pool child")
    assert fragile.settled("refs/heads/steps", third, seconds=60)["outcome"] == "deployed"
    assert shas(fragile, name) == [first, second, third]
    assert asked_once(fragile, "UpdateStack", name)
    assert fragile.stacks()[name]["id"] == arn

    slow_down(fragile, "DeleteStack", arn)
    copy.push(":steps")
    kill_during(fragile, "deployer.delete", "steps", "worker")
    fragile.deleted("refs/heads/steps", seconds=60)
    assert not [each for each in fragile.stacks() if each.startswith(name)]
    assert fragile.api("dead-letters")["dead_letters"] == []
