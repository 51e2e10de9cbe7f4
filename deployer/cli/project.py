"""Commands for a working copy: `validate` and `init`. They need no settings, no Redis and no network."""

import importlib.util
import multiprocessing
from importlib import resources
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click

from deployer.cli import output
from deployer.cli.common import json_option
from deployer.environments import Environment, Kind, Repository
from deployer.errors import DeployerError, PermanentError
from deployer.refs import Ref
from deployer.release import FOLDER, TEMPLATE_LIMIT, build_release

_READ = ("pipeline.", "deployer.")  # what workers read of the folder
_EXAMPLE = Repository("owner", "repository")
_SHA = "0123456789abcdef0123456789abcdef01234567"
_GIVEN = {
    "ArtifactStore": "artifact-bucket",
    "ConnectionArn": "arn:aws:codeconnections:us-east-1:123456789012:connection/example",
}
_LINT_SECONDS = 30  # it takes less than one over what people write
_LINT_SHOWN = 100  # findings
_STARTER = ("pipeline.yml", "pipeline.parameters.json")


@click.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
@json_option
def validate(path: Path, *, json_: bool) -> None:
    """Check the deploy/ folder of a working copy, as a push of it would be.

    PATH is the working copy's top folder, by default the current one.
    """
    folder = path / FOLDER
    if not folder.is_dir():
        raise PermanentError(f"{folder} is no folder; deployer init {path} writes one to start from")
    files = {
        found.name: found.read_bytes()
        for found in sorted(folder.iterdir())
        if found.is_file() and found.name.startswith(_READ)
    }
    problems = _problems(files)
    template = next((folder / name for name in files if _is_template(name)), None)
    linted, notes = _linted(template, refused=bool(problems))
    problems += [each for each in linted if each["level"] == "error"]
    warnings = [each for each in linted if each["level"] != "error"]
    if json_:
        output.as_json({"problems": problems, "warnings": warnings, "notes": notes})
    else:
        for problem in problems:
            click.echo(output.clean(_told(problem)))
        for warning in warnings:
            click.echo(output.clean(f"warning: {_told(warning)}"))
        for line in notes:
            output.note(line)
        if not problems:
            click.echo(f"{folder} is good for {', '.join(Kind)}")
    if problems:
        count = len(problems)
        raise DeployerError(f"{folder} has {count} problem{'s' if count > 1 else ''}")


def _is_template(name: str) -> bool:
    return name in {"pipeline.yml", "pipeline.yaml", "pipeline.json"}


def _problems(files: dict[str, bytes]) -> list[dict[str, Any]]:
    """What a worker would refuse, each problem once with the environments that have it."""
    found: dict[str, list[str]] = {}
    for kind, ref in {
        Kind.DEVELOPMENT: Ref.of_branch("feature/example"),
        Kind.STAGING: Ref.of_branch("main"),
        Kind.PRODUCTION: Ref.parse("refs/tags/v1.0.0"),
    }.items():
        environment = Environment(_EXAMPLE, kind, ref if kind is Kind.DEVELOPMENT else None)
        branch = "main" if ref.is_tag else ref.branch
        try:
            release = build_release(environment, ref, branch, _SHA, files, _GIVEN)
        except PermanentError as error:
            found.setdefault(str(error), []).append(str(kind))
            continue
        if (size := len(release.template.encode())) > TEMPLATE_LIMIT:
            text = f"the template has {size:,} bytes; CloudFormation takes at most {TEMPLATE_LIMIT:,}"
            found.setdefault(text, []).append(str(kind))
    return [
        {"level": "error", "file": _file_in(text), "line": None, "environments": kinds, "text": text}
        for text, kinds in found.items()
    ]


def _file_in(text: str) -> str:
    """The file that a problem's text names; they all do."""
    words = (word.strip(":,;") for word in text.split())
    return next((word for word in words if word.startswith(f"{FOLDER}/")), FOLDER)


def _linted(template: Path | None, *, refused: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """What cfn-lint says, or else a note why it was not asked."""
    if template is None:
        return [], ["cfn-lint: skipped, there is no template"]
    if importlib.util.find_spec("cfnlint") is None:
        return [], ["cfn-lint: skipped, it is not installed (pip install cfn-lint)"]
    if refused:  # what is refused here may be what it dies of
        return [], ["cfn-lint: skipped until this is mended"]
    try:
        return _lint(template), []
    except _NotLintedError as error:
        return [], [f"cfn-lint: {error}"]


class _NotLintedError(DeployerError):
    pass


def _lint(template: Path) -> list[dict[str, Any]]:
    """What cfn-lint says. It has a process of its own: some templates keep it busy for hours."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_lint_here, args=(template, sender))
    child.start()
    sender.close()
    try:
        if not receiver.poll(_LINT_SECONDS):
            raise _NotLintedError(f"given up after {_LINT_SECONDS} s")
        found: list[dict[str, Any]] | str = receiver.recv()
    except EOFError as error:
        raise _NotLintedError("it died of the template") from error
    finally:
        child.kill()
        child.join()
    if isinstance(found, str):
        raise _NotLintedError(f"it cannot read the template: {found}")
    return found


def _lint_here(template: Path, sender: Connection) -> None:
    # not at the top: it is large, and not needed at run time
    from cfnlint.api import lint_file  # noqa: PLC0415

    try:
        sender.send(
            [
                {
                    "level": "error" if match.rule.severity == "error" else "warning",
                    "file": f"{FOLDER}/{template.name}",
                    "line": match.linenumber,
                    "environments": [str(kind) for kind in Kind],
                    "text": f"{match.rule.id} {match.message}",
                }
                for match in lint_file(template)[:_LINT_SHOWN]
            ]
        )
    except Exception as error:  # noqa: BLE001  whatever it is, it is cfn-lint's own
        sender.send(f"{type(error).__name__} {error}")


def _told(problem: dict[str, Any]) -> str:
    where = f"{problem['file']}:{problem['line']}: " if problem["line"] else ""
    only = problem["environments"]
    return f"{where}{problem['text']}" + ("" if len(only) == len(Kind) else f" ({', '.join(only)})")


@click.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
def init(path: Path) -> None:
    """Write a deploy/ folder to start from into a working copy.

    PATH is the working copy's top folder, by default the current one. Nothing is overwritten.
    """
    folder = path / FOLDER
    if folder.exists() and (existing := sorted(found.name for found in folder.glob("pipeline.*"))):
        raise PermanentError(f"{folder} has {existing[0]} already; nothing was written")
    folder.mkdir(exist_ok=True)
    starter = resources.files("deployer.cli").joinpath("starter")
    for name in _STARTER:
        with (folder / name).open(
            "x", encoding="utf-8"
        ) as made:  # `x`: never over a file that came meanwhile
            made.write(starter.joinpath(name).read_text(encoding="utf-8"))
        click.echo(f"wrote {folder / name}")
    output.note("next: commit and push it on a branch; deployer validate checks it beforehand")
