"""`deployer validate`: check the `deploy/` folder of a working copy."""

import os
import re
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from deployer.aws.cfn_lint import CfnLint
from deployer.cli import output
from deployer.cli.parameters import json_option
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import DeployerError, PermanentError
from deployer.model.refs import Ref
from deployer.model.targets import Target
from deployer.settings import dotenv as dotfile
from deployer.settings.loading import load
from deployer.templates.evaluation.evaluator import SECRET_PARAMETER
from deployer.templates.findings import Finding
from deployer.templates.folder_check import FolderEvaluator, FolderQuestion
from deployer.templates.folder_files import (
    FOLDER,
    RECOGNIZED_FILES,
    UnreadableError,
    file_and_line,
    has_pipeline,
    reject_irregular_files,
    reject_large_files,
    reject_linked_folder,
)
from deployer.templates.isolation.process import FolderProcess
from deployer.templates.parameters import SOURCE_REMEDY
from deployer.templates.release import build_release

_EXAMPLE = Repository("owner", "repository")
_SHA = "0123456789abcdef0123456789abcdef01234567"
_GIVEN = {
    "ArtifactStore": "artifact-bucket",
    "ConnectionArn": "arn:aws:codeconnections:us-east-1:123456789012:connection/example",
}
_TARGET_SETTINGS = ("DEPLOYER_TARGETS", "DEPLOYER_UNFENCED")
_EXAMPLE_BOUNDARY = (
    "arn:aws:iam::123456789012:policy/deployer-own/deployer-{kind}-boundary"  # as infra/target.yml has it
)
_LINT_SECONDS = 30.0  # it takes less than three over what people write
_SUBMODULE_PATH = re.compile(r"^[ \t]*path[ \t]*=[ \t]*(.+?)[ \t]*$", re.MULTILINE)


@click.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
@json_option
def validate(path: Path, *, json_: bool) -> None:
    """Check the deploy/ folder of a working copy, as a push of it would be.

    PATH is the working copy's top folder, by default the current one. What a template may name is checked by
    DEPLOYER_TARGETS, from the environment or from .env. Without it example values are used, as an installation made
    with infra/target.yml has them; DEPLOYER_UNFENCED=yes leaves that check out.
    """
    folder = path / FOLDER
    if not (folder.is_dir() or folder.is_symlink()):
        raise PermanentError(f"{folder} is no folder; deployer init {path} writes one to start from")
    targets, examples = _targets()
    files: dict[str, bytes] = {}
    template, asks_for_token = "", False
    try:
        files = _read(folder)
    except UnreadableError as error:
        every = (error, *error.others)
        found = [Finding("error", each.file, each.line, each.text, tuple(map(str, Kind))) for each in every]
    else:
        with closing(FolderProcess()) as evaluator:
            found, template, asks_for_token = _found(files, targets, evaluator)
    notes = examples if template else []  # what is not sound was not checked that far
    if files and not has_pipeline(files):
        notes.append("cfn-lint: skipped, there is no template")
    elif not template:  # what is refused here may be what it dies of
        notes.append("cfn-lint: skipped until this is fixed")
    else:
        regions = sorted({region for target in targets.values() for region in target.regions})
        text = files[template].decode("utf-8-sig")
        linted = CfnLint(_LINT_SECONDS).findings(template, text, regions)
        notes += [f"cfn-lint: {each.text}" for each in linted if each.level == "note"]
        found += [each for each in linted if each.level != "note"]
    notes += [f"{SECRET_PARAMETER} is not given everywhere: {SOURCE_REMEDY}"] if asks_for_token else []
    found.sort(key=lambda each: (each.file, each.line or 0))
    problems = [each for each in found if each.level == "error"]
    warnings = [each for each in found if each.level == "warning"]
    if json_:
        output.as_json(
            {
                "problems": [_as_json(each) for each in problems],
                "warnings": [_as_json(each) for each in warnings],
                "notes": notes,
            }
        )
    else:
        for each in problems + warnings:
            click.echo(output.clean(_told(each)))
        for line in notes:
            output.note(line)
        if not problems:
            click.echo(f"{output.clean(str(folder))} is good for {', '.join(Kind)}")
    if problems:
        count = len(problems)
        raise DeployerError(f"{folder} has {count} problem{'s' if count > 1 else ''}")


def _read(folder: Path) -> dict[str, bytes]:
    """What a worker would read of the folder.

    Raises:
        UnreadableError: it is too large, or something of it is no regular file.
    """
    submodules = _submodules(folder.parent)
    reject_linked_folder(_kind(folder, submodules))
    reject_irregular_files({path.name: _kind(path, submodules) for path in folder.iterdir()})
    usable = [path for path in sorted(folder.iterdir()) if path.name in RECOGNIZED_FILES]
    reject_large_files({path.name: path.stat().st_size for path in usable})
    return {path.name: path.read_bytes() for path in usable}


def _kind(path: Path, submodules: frozenset[Path]) -> str:
    """What git records of a path in a working copy, as GitHub calls it."""
    if path.is_symlink():
        return "symlink"
    if path.is_dir():
        # git takes any folder that is a repository for a submodule, also one that nobody declared
        return "submodule" if path in submodules or (path / ".git").exists() else "dir"
    return "file" if path.is_file() else "other"


def _submodules(top: Path) -> frozenset[Path]:
    """The folders of declared submodules; those that are not checked out are empty."""
    declared = top / ".gitmodules"
    text = declared.read_text(errors="replace") if declared.is_file() else ""
    return frozenset(top / found for found in _SUBMODULE_PATH.findall(text))


def _targets() -> tuple[dict[Kind, Target], list[str]]:
    """Where environments live, and a line for people about whatever of it is an example.

    A kind of which DEPLOYER_TARGETS says nothing has the example's values, and so has development without a boundary:
    workers do not start without one, so an installation that deploys this folder has other values than none.

    Raises:
        ConfigError: a setting is malformed.
    """
    settings = dotfile.read() | os.environ
    given = {name: value for name in _TARGET_SETTINGS if (value := settings.get(name, ""))}
    bucket = {"DEPLOYER_ARTIFACT_BUCKET": _GIVEN["ArtifactStore"]}
    config, untold = load({**given, **bucket}), load(bucket).targets
    targets = dict(config.targets)
    if config.unfenced:
        bounded = targets[Kind.DEVELOPMENT].bounded
        return targets, [] if bounded else [
            "what a template may name was not checked: DEPLOYER_UNFENCED is yes"
        ]
    for kind, target in targets.items():
        if target == untold[kind] or (kind is Kind.DEVELOPMENT and not target.permissions_boundary):
            path = target.role_path or f"/deployer/{kind}/"
            boundary = _EXAMPLE_BOUNDARY.format(kind=kind)
            targets[kind] = replace(target, permissions_boundary=boundary, role_path=path)
    development = targets[Kind.DEVELOPMENT]
    if config.targets[Kind.DEVELOPMENT].permissions_boundary:
        return targets, []
    lacks = "has no permissions_boundary of development" if given.get("DEPLOYER_TARGETS") else "is not set"
    note = (
        f"DEPLOYER_TARGETS {lacks}, so what a template may name was checked with example values:"
        f" permissions_boundary {development.permissions_boundary}, role_path {development.role_path},"
        f" allowed_roles {', '.join(development.allowed_roles) or 'none'}; set it to your installation's"
    )
    return targets, [note]


def _found(
    files: dict[str, bytes], targets: dict[Kind, Target], evaluator: FolderEvaluator
) -> tuple[list[Finding], str, bool]:
    """What a worker would say, each thing once with the environments that have it.

    Also the template, if it is sound, and whether it asks for a GitHub token.
    """
    found: dict[tuple[str, str, int | None, str], list[str]] = {}
    template, asks_for_token = "", False
    for kind, ref in {
        Kind.DEVELOPMENT: Ref.of_branch("feature/example"),
        Kind.STAGING: Ref.of_branch("main"),
        Kind.PRODUCTION: Ref.parse("refs/tags/v1.0.0"),
    }.items():
        environment = Environment(_EXAMPLE, kind, ref if kind is Kind.DEVELOPMENT else None)
        target = targets.get(kind)
        if target:  # an installation's other settings are not those of whoever validates: a note says so
            target = replace(target, gives_token=True)
        given = {**_GIVEN, **(target.given((*target.regions, "")[0]) if target else {})}
        branch = "main" if ref.is_tag else ref.branch
        question = FolderQuestion(environment, ref, branch, _SHA, files, given, target)
        answer = evaluator.examine_folder(question)
        checked = build_release(question, answer)
        for each in checked.findings:
            found.setdefault((each.level, each.file, each.line, each.text), []).append(str(kind))
        template = template or (checked.template if checked.lintable else "")
        asks_for_token = asks_for_token or answer.needs_token
    return [Finding(*key, tuple(kinds)) for key, kinds in found.items()], template, asks_for_token


def _told(finding: Finding) -> str:
    only = finding.environments
    warning = "" if finding.level == "error" else "warning: "
    # file and line first, where editors and terminals look for them
    return f"{file_and_line(finding.file, finding.line)}: {warning}{finding.text}" + (
        "" if len(only) in {0, len(Kind)} else f" ({', '.join(only)})"
    )


def _as_json(finding: Finding) -> dict[str, Any]:
    told = asdict(finding)
    return {**told, "environments": list(finding.environments or (str(kind) for kind in Kind))}
