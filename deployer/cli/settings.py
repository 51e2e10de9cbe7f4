"""`deployer config`: the settings in force."""

import click

from deployer.cli import output
from deployer.cli.common import json_option, wired
from deployer.settings.iam_fence import REMEDY, unfenced_sentence


@click.command()
@json_option
def config(*, json_: bool) -> None:
    """Show every setting in force; secrets are masked."""
    settings = wired().config
    shown = settings.shown()
    if json_:
        output.as_json(shown)
        return
    output.table(["Setting", "Value"], list(shown.items()), empty="")
    if gaps := settings.fence_gaps:
        output.note(f"{unfenced_sentence(gaps)}; {REMEDY}")
