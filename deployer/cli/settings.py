"""`deployer config`: the settings in force."""

import click

from deployer.cli import output
from deployer.cli.common import json_option, wired


@click.command()
@json_option
def config(*, json_: bool) -> None:
    """Show every setting in force; secrets are masked."""
    shown = wired().config.shown()
    if json_:
        output.as_json(shown)
        return
    output.table(["Setting", "Value"], list(shown.items()), empty="")
