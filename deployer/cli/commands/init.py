"""`deployer init`: write a starter `deploy/` folder."""

from pathlib import Path

import click

from deployer.cli import output
from deployer.cli.repository_facts import RepositoryFacts, collect_facts
from deployer.cli.starter_files import starter_files
from deployer.model.errors import PermanentError
from deployer.templates.folder_files import FOLDER


@click.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path), default=".")
def init(path: Path) -> None:
    """Write a starter deploy/ folder into a working copy.

    PATH is the top folder of the working copy, by default the current folder. The files build and test what is in it:
    a CDK or SAM application, a Dockerfile, a Node package, a Python project or a static site. CDK and SAM applications
    and static sites are also deployed. No file is overwritten.
    """
    folder = path / FOLDER
    facts = collect_facts(path)
    files = starter_files(facts)
    if existing := sorted(
        {*folder.glob("pipeline.*"), *(found for name in files if (found := folder / name).exists())}
    ):
        raise PermanentError(f"{folder} has {existing[0].name} already; nothing was written")
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        with (folder / name).open(
            "x", encoding="utf-8"
        ) as made:  # `x`: never overwrite a file that was created meanwhile
            made.write(text)
        click.echo(f"wrote {folder / name}")
    for line in _next_steps(facts, folder):
        output.print_note(line)


def _next_steps(facts: RepositoryFacts, folder: Path) -> list[str]:
    """What was found, and what to do next."""
    if facts.kind:
        found = f"this is {facts.kind} ({facts.evidence})"
    else:
        found = "the kind of repository is unknown; write the commands that build and test it into"
        found = f"{found} {folder / 'buildspec.yml'}"
    if facts.deploys:
        deployed = "the address of each environment is an output of its stack, whose name ends in -app"
    else:
        deployed = f"the pipeline deploys nothing yet; the end of {folder / 'pipeline.yml'} says what to add"
    return [found, deployed, "next: check it with deployer validate, commit it and push it on a branch"]
