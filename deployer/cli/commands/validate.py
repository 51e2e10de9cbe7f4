"""`deployer validate`: check the `deploy/` folder of a working copy."""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from deployer.aws.cfn_lint import CfnLint
from deployer.cli import output
from deployer.cli.parameters import RefType, json_option
from deployer.cli.working_copy import WorkingCopy, read_working_copy
from deployer.model.environments import Environment, Kind
from deployer.model.errors import DeployerError, PermanentError
from deployer.model.refs import Ref
from deployer.model.targets import Target
from deployer.settings import dotenv as dotfile
from deployer.settings.loading import load_config
from deployer.templates.branch_patterns import example_branch
from deployer.templates.evaluation.evaluator import SECRET_PARAMETER
from deployer.templates.findings import Finding, merge_repeated
from deployer.templates.folder_check import FolderAnswer, FolderEvaluator, FolderQuestion
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

_EXAMPLE_BRANCH, _OTHER_BRANCH = Ref.of_branch("feature/example"), Ref.of_branch("example")
_EXAMPLE_TAG = Ref.of_tag("v1.0.0")
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
@click.option(
    "--branch",
    type=RefType(),
    help="Check development as this branch, and print the values that the parameters file has for it.",
)
@json_option
def validate(path: Path, branch: str | None, *, json_: bool) -> None:
    """Check the deploy/ folder of a working copy, like a push of it.

    PATH is the top folder of the working copy, by default the current folder. DEPLOYER_TARGETS, from the environment
    or from .env, limits what a template may name. Without it, the example values of an installation made with
    infra/target.yml are used. DEPLOYER_UNFENCED=yes skips this check.

    Without --branch, development is checked with the values of every branch pattern in the parameters file.
    """
    chosen = Ref.from_user_input(branch) if branch else None
    if chosen and chosen.is_tag:
        raise click.BadParameter(f"{chosen} is a tag; name a branch", param_hint="--branch")
    folder = path / FOLDER
    if not (folder.is_dir() or folder.is_symlink()):
        raise PermanentError(f"{folder} is not a folder; deployer init {path} writes one to start from")
    report = _check(folder, chosen)
    if json_:
        output.print_json(
            {
                "problems": [_finding_as_json(each) for each in report.problems],
                "warnings": [_finding_as_json(each) for each in report.warnings],
                "notes": report.notes,
                "parameters": report.parameters,
            }
        )
    else:
        _print_report(report, folder, chosen)
    if report.problems:
        count = len(report.problems)
        raise DeployerError(f"{folder} has {count} problem{'s' if count > 1 else ''}")


@dataclass(frozen=True, slots=True)
class _Report:
    """What the checks found: errors or warnings in the order of files and lines, with further remarks.

    `parameters` has the values that the parameters file has for the branch that was named.
    """

    findings: list[Finding]
    notes: list[str]
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def problems(self) -> list[Finding]:
        """The errors."""
        return [each for each in self.findings if each.level == "error"]

    @property
    def warnings(self) -> list[Finding]:
        """The warnings."""
        return [each for each in self.findings if each.level == "warning"]


def _print_report(report: _Report, folder: Path, branch: Ref | None) -> None:
    for each in report.problems + report.warnings:
        click.echo(output.escape_line(_format_finding(each)))
    for line in report.notes:
        output.print_note(line)
    if branch:
        click.echo(output.escape_line(_format_parameters(branch, report.parameters)))
    if not report.problems:
        click.echo(f"{output.escape_line(str(folder))} is valid for {', '.join(Kind)}")


def _check(folder: Path, branch: Ref | None) -> _Report:
    targets, examples = _read_targets()
    try:
        files = _read_folder(folder)
    except UnreadableError as error:
        every = (error, *error.others)
        unreadable = [
            Finding("error", each.file, each.line, each.text, tuple(map(str, Kind))) for each in every
        ]
        return _Report(sorted(unreadable, key=_position), ["cfn-lint: skipped until this is fixed"])
    checked, found = _evaluate_folder(folder, files, targets, branch)
    linted, notes = _lint(files, checked, targets)
    if any(each.lintable for each in checked.values()):  # otherwise what it may name was not checked
        notes = examples + notes
    if any(each.needs_token for each in checked.values()):
        notes.append(f"some installations do not provide {SECRET_PARAMETER}: {SOURCE_REMEDY}")
    answer = checked[Kind.DEVELOPMENT]
    parameters = {name: answer.parameters[name] for name in answer.repository_parameters} if branch else {}
    findings = sorted(_findings_with_kinds([*found, *linted]), key=_position)
    return _Report(merge_repeated(findings), notes, parameters)


def _evaluate_folder(
    folder: Path, files: dict[str, bytes], targets: dict[Kind, Target], branch: Ref | None
) -> tuple[dict[Kind, FolderAnswer], list[tuple[Kind, Finding]]]:
    """The answer for each kind of environment, and all findings of the evaluation."""
    with closing(FolderProcess()) as evaluator:
        copy = read_working_copy(folder.parent)
        checked = {
            kind: _check_kind(kind, files, targets.get(kind), evaluator, copy, branch) for kind in Kind
        }
        found = [(kind, finding) for kind, each in checked.items() for finding in each.findings]
        if not branch:
            found += _findings_of_other_branches(files, targets, evaluator, copy, checked[Kind.DEVELOPMENT])
    return checked, found


def _lint(
    files: dict[str, bytes], checked: Mapping[Kind, FolderAnswer], targets: dict[Kind, Target]
) -> tuple[list[tuple[Kind, Finding]], list[str]]:
    """What cfn-lint finds for each kind, with remarks. It runs once for all kinds with the same conditions."""
    lintable = {kind: answer for kind, answer in checked.items() if answer.lintable}
    if files and not has_pipeline(files):
        return [], ["cfn-lint: skipped, because there is no template"]
    if not lintable:  # cfn-lint could fail because of the errors that were found
        return [], ["cfn-lint: skipped until this is fixed"]
    regions = sorted({region for target in targets.values() for region in target.regions})
    linter = CfnLint(_LINT_SECONDS)
    found = []
    for kind, answer in lintable.items():
        text = files[answer.template].decode("utf-8-sig")
        found += [(kind, each) for each in linter.findings(answer.template, text, regions, answer.conditions)]
    notes = sorted({f"cfn-lint: {each.text}" for _, each in found if each.level == "note"})
    return [(kind, each) for kind, each in found if each.level != "note"], notes


def _findings_with_kinds(found: Sequence[tuple[Kind, Finding]]) -> list[Finding]:
    """The distinct findings, each with the kinds of environment that have it."""
    kinds: dict[Finding, list[str]] = {}
    for kind, finding in found:
        kinds.setdefault(finding, []).append(str(kind))
    return [replace(finding, environments=tuple(dict.fromkeys(each))) for finding, each in kinds.items()]


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


def _check_kind(
    kind: Kind,
    files: dict[str, bytes],
    target: Target | None,
    evaluator: FolderEvaluator,
    copy: WorkingCopy,
    branch: Ref | None = None,
) -> FolderAnswer:
    """Check the folder for one kind of environment; for development as one branch."""
    ref = {
        Kind.DEVELOPMENT: branch or _EXAMPLE_BRANCH,
        Kind.STAGING: Ref.of_branch(copy.default_branch),
        Kind.PRODUCTION: _EXAMPLE_TAG,
    }[kind]
    environment = Environment(copy.repository, kind, ref if kind is Kind.DEVELOPMENT else None)
    if target:  # whether the installation provides a token is not known here, and a remark says so
        target = replace(target, gives_token=True)
    given = {**_GIVEN, **(target.given((*target.regions, "")[0]) if target else {})}
    name = copy.default_branch if ref.is_tag else ref.branch
    question = FolderQuestion(environment, ref, name, _SHA, files, given, target)
    return evaluator.examine_folder(question)


def _findings_of_other_branches(
    files: dict[str, bytes],
    targets: dict[Kind, Target],
    evaluator: FolderEvaluator,
    copy: WorkingCopy,
    answer: FolderAnswer,
) -> list[tuple[Kind, Finding]]:
    """The findings that only some branches have, because a branch pattern gives a parameter another value."""
    if not answer.branch_patterns:
        return []
    # the text of an error that every branch has may name the branch, so only errors at other lines are new
    known = {(each.level, each.file, each.line) for each in answer.findings}
    found = []
    for branch in dict.fromkeys([_OTHER_BRANCH, *map(example_branch, answer.branch_patterns)]):
        other = _check_kind(Kind.DEVELOPMENT, files, targets.get(Kind.DEVELOPMENT), evaluator, copy, branch)
        new = [each for each in other.findings if (each.level, each.file, each.line) not in known]
        found += [(Kind.DEVELOPMENT, each) for each in new]
        known |= {(each.level, each.file, each.line) for each in new}
    return found


def _format_parameters(branch: Ref, parameters: dict[str, str]) -> str:
    listed = ", ".join(f"{name}={value}" for name, value in parameters.items())
    return f"{branch.short}: {listed or 'no values in the parameters file'}"


def _format_finding(finding: Finding) -> str:
    only = finding.environments
    warning = "" if finding.level == "error" else "warning: "
    # file and line come first, where editors and terminals expect them
    return f"{file_and_line(finding.file, finding.line)}: {warning}{finding.message}" + (
        "" if len(only) in {0, len(Kind)} else f" ({', '.join(only)})"
    )


def _finding_as_json(finding: Finding) -> dict[str, Any]:
    return {
        "level": finding.level,
        "file": finding.file,
        "line": finding.line,
        "text": f"{finding.subject} {finding.text}".lstrip(),
        "environments": list(finding.environments or (str(kind) for kind in Kind)),
        "lines": [finding.line, *finding.repeated_at],
    }
