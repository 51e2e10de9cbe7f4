"""`deployer config`: print the settings in force."""

import click

from deployer.cli import output
from deployer.cli.installation import load_deployer
from deployer.cli.parameters import json_option
from deployer.settings.iam_fence import FENCE_REMEDY, unfenced_sentence


@click.command()
@json_option
def config(*, json_: bool) -> None:
    """Show every setting in force, with secrets masked."""
    settings = load_deployer().config
    shown = settings.shown()
    if json_:
        output.print_json(shown)
        return
    output.print_table(["Setting", "Value"], list(shown.items()), empty="")
    if gaps := settings.missing_fence_settings:
        output.print_note(f"{unfenced_sentence(gaps)}; {FENCE_REMEDY}")
