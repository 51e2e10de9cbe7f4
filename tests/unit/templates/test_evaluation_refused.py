"""A push whose files cannot be evaluated is never deployed unchecked."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from world import World, environment, sha

from deployer.model.errors import TransientError
from deployer.settings.loading import load_config
from deployer.templates.folder_check import EvaluationFaultError, FolderAnswer, FolderQuestion
from deployer.templates.isolation.process import FolderProcess
from deployer.wiring import Deployer
from tests.doubles import DirectEvaluator

ROOT = Path(__file__).parents[3]
REF = "refs/heads/feature/x"
TEMPLATE = """\
Resources:
  P:
    Type: AWS::CodePipeline::Pipeline
    Properties: {Name: !Ref AWS::StackName, RoleArn: 'arn:aws:iam::222222222222:role/production'}
"""
EXHAUSTING = TEMPLATE + "a:\n" + "".join(f"  k{number}: {{b: 1}}\n" for number in range(30_000))


@pytest.fixture
def narrow() -> Iterator[FolderProcess]:
    """An evaluator with enough memory for a template, but not for one that exhausts it."""
    process = FolderProcess(memory=64_000_000)
    yield process
    process.close()


def test_a_template_that_exhausts_its_check_and_names_a_production_role_is_refused(
    narrow: FolderProcess,
) -> None:
    world = World.with_evaluator(narrow)
    delivery = world.push(REF, sha(1), template=EXHAUSTING)
    world.run()
    outcome, reason = world.outcome(delivery)
    assert outcome == "failed"
    assert reason == (
        "deploy/: it is too complex to check: it took more than 64 MB of memory;"
        " make the template smaller and simpler"
    )
    assert not list(world.cloud.stacks())
    assert "failure" in world.statuses(sha(1)).values()
    # the next push of the branch is checked normally
    delivery = world.push(REF, sha(2), sha(1), template=TEMPLATE)
    world.run()
    assert world.outcome(delivery)[0] == "deployed"


class _Busy(DirectEvaluator):
    """A machine that has no free process for a while."""

    def __init__(self, times: int) -> None:
        self.times = times

    def examine_folder(self, question: FolderQuestion) -> FolderAnswer:
        self.times -= 1
        if self.times >= 0:
            raise TransientError("the process that evaluates deploy/ cannot be started: no memory")
        return super().examine_folder(question)


@pytest.mark.parametrize(("times", "outcome"), [(2, "deployed"), (1000, "dead-lettered")])
def test_a_task_waits_for_a_busy_machine_and_deploys_nothing_unchecked(times: int, outcome: str) -> None:
    world = World.with_evaluator(_Busy(times))
    delivery = world.push(REF, sha(1))
    world.run()
    assert world.outcome(delivery)[0] == outcome
    assert world.cloud.holds(environment(REF).stack_name) == (outcome == "deployed")


@pytest.mark.parametrize("file", ["pipeline.yml", "deployer.yml"])
def test_a_folder_whose_evaluation_never_ends_in_time_becomes_a_dead_letter(file: str) -> None:
    """The evaluation blocks, or the machine is too slow for any: attempts are limited, and none accepts the folder."""
    process = FolderProcess(wall_seconds=0.0001)
    world = World.with_evaluator(process)
    delivery = world.push(REF, sha(1), files={} if file == "pipeline.yml" else {file: "tags: [v1]"})
    world.run()
    process.close()
    outcome, reason = world.outcome(delivery)
    assert outcome == "dead-lettered"
    assert "SIGALRM" in reason
    assert not list(world.cloud.stacks())


class _Faulty(DirectEvaluator):
    """An evaluator with a bug of deployer."""

    def line_of_resource(self, *_: object) -> tuple[str, int] | None:
        raise EvaluationFaultError("Traceback")


def test_a_bug_in_finding_a_line_hides_no_failure_of_a_stack() -> None:
    world = World.with_evaluator(_Faulty())
    world.cloud.fail_next_create("the role is not allowed")
    delivery = world.push(REF, sha(1))
    world.run()
    outcome, reason = world.outcome(delivery)
    assert outcome == "failed"
    assert "Thing (AWS::Test::Thing): the role is not allowed" in reason
    assert world.statuses(sha(1)) == {"deployer": "failure", "deployer/prepare": "failure"}


def test_workers_evaluate_in_a_separate_process() -> None:
    assert isinstance(Deployer(load_config({})).evaluator, FolderProcess)


EVALUATING = {"check_release", "examine_folder", "read_repository_config", "line_of_resource"}
MAY = {
    "deployer/templates/isolation/server.py",
    "deployer/templates/folder_check.py",
    "deployer/templates/repository_config.py",
}


def _calls(path: Path) -> Iterator[tuple[str, Any]]:
    """Calls in a module of functions by their bare names."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id, node


def test_no_other_module_of_the_product_evaluates_a_branchs_files_itself() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for folder in ("deployer", "workers", "web")
        for path in (ROOT / folder).rglob("*.py")
        if str(path.relative_to(ROOT)) not in MAY
        for name, _ in _calls(path)
        if name in EVALUATING
    }
    # `check_release` evaluates in this process for tests and measurements; nothing in the product calls it
    assert found == {"deployer/templates/release.py: examine_folder"}
