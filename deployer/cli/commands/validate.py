"""`deployer validate`: check the `deploy/` folder of a working copy."""

import os
import re
from contextlib import closing
from dataclasses import asdict, dataclass, replace
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
from deployer.settings.loading import load_config
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
_LINT_SECONDS = 30.0  # realistic templates take less than 3 s
_SUBMODULE_PATH = re.compile(r"^[ \t]*path[ \t]*=[ \t]*(.+?)[ \t]*$", re.MULTILINE)


@click.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
@json_option
def validate(path: Path, *, json_: bool) -> None:
    """Check the deploy/ folder of a working copy, like a push of it.

    PATH is the top folder of the working copy, by default the current folder. DEPLOYER_TARGETS, from the environment
    or from .env, limits what a template may name. Without it, the example values of an installation made with
    infra/target.yml are used. DEPLOYER_UNFENCED=yes skips this check.
    """
    folder = path / FOLDER
    if not (folder.is_dir() or folder.is_symlink()):
        raise PermanentError(f"{folder} is not a folder; deployer init {path} writes one to start from")
    report = _check(folder)
    problems = [each for each in report.findings if each.level == "error"]
    warnings = [each for each in report.findings if each.level == "warning"]
    if json_:
        output.print_json(
            {
                "problems": [_finding_as_json(each) for each in problems],
                "warnings": [_finding_as_json(each) for each in warnings],
                "notes": report.notes,
            }
        )
    else:
        for each in problems + warnings:
            click.echo(output.clean_line(_format_finding(each)))
        for line in report.notes:
            output.print_note(line)
        if not problems:
            click.echo(f"{output.clean_line(str(folder))} is valid for {', '.join(Kind)}")
    if problems:
        count = len(problems)
        raise DeployerError(f"{folder} has {count} problem{'s' if count > 1 else ''}")


@dataclass(frozen=True, slots=True)
class _Report:
    """What the checks found: errors or warnings in the order of files and lines, with further remarks."""

    findings: list[Finding]
    notes: list[str]


def _check(folder: Path) -> _Report:
    targets, examples = _read_targets()
    try:
        files = _read_folder(folder)
    except UnreadableError as error:
        every = (error, *error.others)
        found = [Finding("error", each.file, each.line, each.text, tuple(map(str, Kind))) for each in every]
        return _Report(sorted(found, key=_position), ["cfn-lint: skipped until this is fixed"])
    with closing(FolderProcess()) as evaluator:
        found, template, asks_for_token = _check_folder(files, targets, evaluator)
    notes = examples if template else []  # without a valid template, what it may name was not checked
    if files and not has_pipeline(files):
        notes.append("cfn-lint: skipped, because there is no template")
    elif not template:  # cfn-lint could fail because of the errors that were found
        notes.append("cfn-lint: skipped until this is fixed")
    else:
        linted = _lint(files[template], template, targets)
        notes += [f"cfn-lint: {each.text}" for each in linted if each.level == "note"]
        found += [each for each in linted if each.level != "note"]
    if asks_for_token:
        notes.append(f"some installations do not provide {SECRET_PARAMETER}: {SOURCE_REMEDY}")
    return _Report(sorted(found, key=_position), notes)


def _lint(content: bytes, name: str, targets: dict[Kind, Target]) -> list[Finding]:
    regions = sorted({region for target in targets.values() for region in target.regions})
    return list(CfnLint(_LINT_SECONDS).findings(name, content.decode("utf-8-sig"), regions))


def _position(finding: Finding) -> tuple[str, int]:
    return finding.file, finding.line or 0


def _read_folder(folder: Path) -> dict[str, bytes]:
    """Read the files of the folder that a worker would read.

    Raises:
        UnreadableError: the folder is too large, or contains something that is not a regular file.
    """
    submodules = _declared_submodules(folder.parent)
    reject_linked_folder(_git_type(folder, submodules))
    reject_irregular_files({path.name: _git_type(path, submodules) for path in folder.iterdir()})
    usable = [path for path in sorted(folder.iterdir()) if path.name in RECOGNIZED_FILES]
    reject_large_files({path.name: path.stat().st_size for path in usable})
    return {path.name: path.read_bytes() for path in usable}


def _git_type(path: Path, submodules: frozenset[Path]) -> str:
    """Return the type that git records for a path, in GitHub's words."""
    if path.is_symlink():
        return "symlink"
    if path.is_dir():
        # git treats every folder that is a repository as a submodule, declared or not
        return "submodule" if path in submodules or (path / ".git").exists() else "dir"
    return "file" if path.is_file() else "other"


def _declared_submodules(top: Path) -> frozenset[Path]:
    """Return the folders of declared submodules, because one that is not checked out is just an empty folder."""
    declared = top / ".gitmodules"
    text = declared.read_text(errors="replace") if declared.is_file() else ""
    return frozenset(top / found for found in _SUBMODULE_PATH.findall(text))


def _read_targets() -> tuple[dict[Kind, Target], list[str]]:
    """Return the targets, and a remark if example values are used.

    A kind that DEPLOYER_TARGETS does not mention gets example values. So does development without a permissions
    boundary: workers do not start without one, so the installation that deploys this folder has one.

    Raises:
        ConfigError: a setting is malformed.
    """
    settings = dotfile.read_dotenv() | os.environ
    given = {name: value for name in _TARGET_SETTINGS if (value := settings.get(name, ""))}
    bucket = {"DEPLOYER_ARTIFACT_BUCKET": _GIVEN["ArtifactStore"]}
    config, defaults = load_config({**given, **bucket}), load_config(bucket).targets
    targets = dict(config.targets)
    if config.unfenced:
        bounded = targets[Kind.DEVELOPMENT].bounded
        return targets, [] if bounded else [
            "what a template may name was not checked, because DEPLOYER_UNFENCED is yes"
        ]
    for kind, target in targets.items():
        if target == defaults[kind] or (kind is Kind.DEVELOPMENT and not target.permissions_boundary):
            path = target.role_path or f"/deployer/{kind}/"
            boundary = _EXAMPLE_BOUNDARY.format(kind=kind)
            targets[kind] = replace(target, permissions_boundary=boundary, role_path=path)
    development = targets[Kind.DEVELOPMENT]
    if config.targets[Kind.DEVELOPMENT].permissions_boundary:
        return targets, []
    lacks = "has no permissions_boundary of development" if given.get("DEPLOYER_TARGETS") else "is not set"
    note = (
        f"DEPLOYER_TARGETS {lacks}, so example values limit what a template may name:"
        f" permissions_boundary {development.permissions_boundary}, role_path {development.role_path},"
        f" allowed_roles {', '.join(development.allowed_roles) or 'none'}; set it to the value of your installation"
    )
    return targets, [note]


def _check_folder(
    files: dict[str, bytes], targets: dict[Kind, Target], evaluator: FolderEvaluator
) -> tuple[list[Finding], str, bool]:
    """Check the folder for every kind of environment, and merge findings that several kinds have.

    Returns:
        The findings, the name of the template if it is valid, and whether it asks for a GitHub token.
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
        if target:  # whether the installation provides a token is not known here, and a remark says so
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


def _format_finding(finding: Finding) -> str:
    only = finding.environments
    warning = "" if finding.level == "error" else "warning: "
    # file and line come first, where editors and terminals expect them
    return f"{file_and_line(finding.file, finding.line)}: {warning}{finding.text}" + (
        "" if len(only) in {0, len(Kind)} else f" ({', '.join(only)})"
    )


def _finding_as_json(finding: Finding) -> dict[str, Any]:
    return {**asdict(finding), "environments": list(finding.environments or (str(kind) for kind in Kind))}
