"""Checks whether the running pipelines follow the rules of this version, so that an upgrade surprises nobody."""

import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from deployer.cli.checks.github_checks import RedisAnswer
from deployer.cli.checks.groups import OK, WARN, Check, CheckFunction, run_guarded
from deployer.model.environment_record import EnvironmentRecord, is_over
from deployer.model.environments import Environment, Repository
from deployer.model.errors import PermanentError
from deployer.model.refs import Ref
from deployer.templates.findings import refusal_text
from deployer.templates.folder_check import FolderQuestion
from deployer.templates.folder_files import FOLDER

if TYPE_CHECKING:
    from deployer.wiring import Deployer

_CHECK_SECONDS = 25.0  # for all pipelines; the calls to GitHub of many environments take long
_MOST_ROWS = 50  # pipelines that are listed
_NEXT_PUSH = "correct it in the next push (docs/pipelines.md); a redeploy of this commit fails"
_LATER = "read the rules in docs/pipelines.md, and run deployer validate in the repository"


def check_pipelines(deployer: "Deployer", redis_answers: RedisAnswer) -> Iterator[Check]:
    """List the pipelines of existing environments whose files this version rejects."""
    if not redis_answers:
        return  # the check of Redis reports it
    records = [each for each in deployer.lanes.environments() if _has_pipeline(deployer, each)]
    began, rejected, files = time.monotonic(), 0, dict[tuple[str, str], Mapping[str, bytes]]()
    for checked, record in enumerate(records):
        if time.monotonic() - began > _CHECK_SECONDS or rejected == _MOST_ROWS:
            told = f"{len(records) - checked} of {len(records)} were not checked"
            yield Check("pipelines", WARN, told, _LATER)
            return
        check = partial(_check_pipeline, deployer, record, files)
        found = run_guarded(CheckFunction(f"pipeline {record.stack_name}", check, _LATER))
        rejected += bool(found)
        yield from found
    if records and not rejected:
        yield Check("pipelines", OK, f"{len(records)} follow the rules of this version")


def _has_pipeline(deployer: "Deployer", record: EnvironmentRecord) -> bool:
    repository = Repository.parse(record.repository)
    exists = bool(record.status.stack.stack_arn and record.spec.commit) and not is_over(record)
    return exists and deployer.config.allows(repository)


def _check_pipeline(
    deployer: "Deployer", record: EnvironmentRecord, files: dict[tuple[str, str], Mapping[str, bytes]]
) -> Iterator[Check]:
    """Check the files of the commit that an environment runs, as a push of them would be checked."""
    repository, commit = Repository.parse(record.repository), record.spec.commit
    environment = Environment.from_key(repository, record.environment)
    name = f"pipeline {record.stack_name or environment.stack_name}"
    try:
        if (at := (repository.key, commit)) not in files:
            files[at] = deployer.host.files(repository, commit, FOLDER)
    except PermanentError as error:
        yield Check(name, WARN, f"cannot be checked: {error}", _LATER)
        return
    ref = Ref.parse(record.spec.ref) if record.spec.ref else environment.branch
    if ref is None or ref.is_tag:
        branch = deployer.host.default_branch(repository)
        ref = ref or Ref.of_branch(branch)
    else:
        branch = ref.branch
    target = deployer.clouds.target(environment.kind)
    region = record.spec.region or target.regions[0]
    question = FolderQuestion(
        environment,
        ref,
        branch,
        commit,
        files[at],
        target.given(region),
        target,
        region,
        record.stack_name,
    )
    if why := refusal_text(deployer.evaluator.examine_folder(question).findings):
        told = f"{repository} {ref.short} at {commit[:12]} is rejected by this version: {why}"
        yield Check(name, WARN, told, _NEXT_PUSH)
