"""`deployer init`: write a `deploy/` folder to start from."""

from importlib import resources
from pathlib import Path

import click

from deployer.cli import output
from deployer.model.errors import PermanentError
from deployer.templates.folder_files import (
    FOLDER,
)

_STARTER = ("pipeline.yml", "pipeline.parameters.json")


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
