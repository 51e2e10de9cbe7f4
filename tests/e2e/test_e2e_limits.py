"""Tests of isolation between repositories: an endless task is killed, and pushes of others start in time."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployer.model.environments import Repository
from deployer.queue.items import Work
from deployer.redis_store.connection import connect
from deployer.redis_store.queue import RedisQueueStore
from sandbox.installation import Installation, WorkingCopy, wait_for


@pytest.fixture
def copy(fragile: Installation, tmp_path: Path) -> Iterator[WorkingCopy]:
    yield fragile.clone(tmp_path / "copy")
    fragile.clear_faults()


def test_a_task_that_holds_the_interpreter_is_killed_tried_once_more_and_becomes_a_dead_letter(
    fragile: Installation, copy: WorkingCopy
) -> None:
    copy.branch("holds-the-interpreter")
    copy.write("Hostile", {"by.txt": "hostile"})
    copy.push()

    def died() -> list[dict[str, object]]:
        letters = fragile.api("dead-letters")["dead_letters"]
        return [each for each in letters if each["environment"].endswith("holds-the-interpreter")]

    (letter,) = wait_for("it is a dead letter", died, 30)

    assert letter["kind"] == "TaskTimeout"
    found = fragile.api(f"dead-letters/{letter['id']}")
    assert [each["error"] for each in found["attempts"]] == ["it ran out of time and was killed"] * 2
    assert "signal 14 (SIGALRM)" in fragile.output(), "the kernel has ended the process"
    fragile.api(f"dead-letters/{letter['id']}", "DELETE")


def test_the_task_of_a_newer_version_goes_back_to_its_queue_and_others_go_on(
    fragile: Installation, copy: WorkingCopy
) -> None:
    newer = Work("development:refs/heads/newer", task="deployer.migrate")
    with connect(fragile.env["DEPLOYER_REDIS_URL"]) as client:
        RedisQueueStore(client).accept(Repository.parse("acme/hello"), newer)
    copy.branch("understood")
    sha = copy.write("A task that every version knows", {})
    copy.push()

    def refused() -> list[dict[str, str]]:
        return [item for lane in fragile.api("lanes")["lanes"] for item in lane["refused"]]

    (item,) = wait_for("a worker refuses it", refused, 30)
    assert item["environment"] == newer.environment
    assert item["reason"].endswith("this version knows no task 'deployer.migrate'")
    assert fragile.settled("refs/heads/understood", sha)["outcome"] == "deployed"
    assert "unregistered task" not in fragile.output()


# a few kilobytes that take minutes to evaluate where nothing bounds it
HOSTILE = {
    "Parameters": {
        "PipelineName": {"Type": "String"},
        "A": {"Type": "String", "Default": "arn:a:b:c:d:" * 300},
        "L": {"Type": "CommaDelimitedList", "Default": ",".join(f"value{number}" for number in range(200))},
    },
    "Resources": {
        "X": {
            "Type": "AWS::SNS::Topic",
            "Properties": {"TopicName": {"Fn::Sub": "".join(["${L}", "${A}" * 27])}},
        },
        **{
            f"Y{number}": {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": {"Ref": "X"}}}
            for number in range(6)
        },
        "Pipeline": {"Type": "AWS::CodePipeline::Pipeline", "Properties": {"Name": {"Ref": "PipelineName"}}},
    },
}
BRANCHES = 6  # of each hostile repository
SECONDS = 5.0  # until a push elsewhere begins, on a machine that has nothing else to do


def slowness() -> float:
    """How much longer than alone a process takes that wants a processor: 1 on a machine that has nothing to do."""
    began, used = time.monotonic(), time.process_time()
    while time.process_time() - used < 0.2:
        pass
    return max((time.monotonic() - began) / 0.2, 1)


@pytest.mark.timeout(400)
def test_a_push_starts_though_hostile_repositories_have_a_task_for_each_worker_process(
    fragile: Installation, copy: WorkingCopy, tmp_path: Path
) -> None:
    names = [f"hostile-{number}/app" for number in range(int(fragile.env["DEPLOYER_CONCURRENCY"]))]
    copies = []
    for name in names:
        fragile.repository(name, sample=False)
        hostile = fragile.clone(tmp_path / name.replace("/", "~"), name)
        hostile.git("checkout", "-q", "-B", "main")
        hostile.write("Hostile", {"deploy/pipeline.json": json.dumps(HOSTILE)})
        copies.append(hostile)
    copy.branch("innocent")
    copy.write("Innocent", {"by.txt": "innocent"})
    seconds = SECONDS * slowness()
    for hostile in copies:
        hostile.push("HEAD:main", *(f"HEAD:refs/heads/b{number}" for number in range(BRANCHES)))

    def lanes() -> dict[str, tuple[str, str]]:
        return {
            each["repository"]: (each["status"], each["environment"])
            for each in fragile.api("lanes")["lanes"]
        }

    def has_come(name: str) -> bool:
        # an evaluation that is refused by its budget is over so soon that its task may not be seen while it runs
        return name in lanes() or fragile.environment("staging", name) is not None

    wait_for("each hostile repository has work for a worker process", lambda: all(map(has_come, names)))
    copy.push()
    pushed_at = time.monotonic()

    def begun() -> bool:
        key = "development:refs/heads/innocent"
        return lanes().get("acme/hello") == ("running", key) or bool(
            fragile.environment("refs/heads/innocent")
        )

    wait_for("the push is begun", begun, seconds)
    print(f"begun after {time.monotonic() - pushed_at:.1f} of {seconds:.1f} s")

    def refused() -> bool:
        found = [
            fragile.environment(f"refs/heads/b{number}", name) or {}
            for name in names
            for number in range(BRANCHES)
        ]
        return all(each.get("state") == "failed" for each in found)

    wait_for("every hostile push is refused", refused, 12 * seconds)
