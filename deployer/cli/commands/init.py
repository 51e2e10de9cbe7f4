"""`deployer init`: write a starter `deploy/` folder."""

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
    """Write a starter deploy/ folder into a working copy.

    PATH is the top folder of the working copy, by default the current folder. No file is overwritten.
    """
    folder = path / FOLDER
    if folder.exists() and (existing := sorted(found.name for found in folder.glob("pipeline.*"))):
        raise PermanentError(f"{folder} has {existing[0]} already; nothing was written")
    folder.mkdir(exist_ok=True)
    starter = resources.files("deployer.cli").joinpath("starter")
    for name in _STARTER:
        with (folder / name).open(
            "x", encoding="utf-8"
        ) as made:  # `x`: never overwrite a file that was created meanwhile
            made.write(starter.joinpath(name).read_text(encoding="utf-8"))
        click.echo(f"wrote {folder / name}")
    output.print_note("next: check it with deployer validate, commit it and push it on a branch")
