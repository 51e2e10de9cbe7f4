"""`deployer dead-letters`: work that could not be done for a reason of our own, until a person decides."""

from dataclasses import asdict

import click

from deployer import shapes
from deployer.cli import output
from deployer.cli.common import json_option, short, wired
from deployer.environments import Repository
from deployer.errors import NotFoundError
from deployer.ledger import DeadLetter


@click.group("dead-letters")
def dead_letters() -> None:
    """List, show, replay or discard work that could not be done."""


@dead_letters.command("list")
@json_option
def list_(*, json_: bool) -> None:
    """List all dead letters, oldest first."""
    letters = wired().lanes.dead_letters()
    if json_:
        output.as_json([shapes.dead_letter(letter) for letter in letters])
        return
    rows = [
        [
            letter.id,
            _environment(letter),
            letter.task.removeprefix("deployer."),
            output.ago(letter.at),
            letter.reason,
        ]
        for letter in letters
    ]
    output.table(["Id", "Environment", "Task", "When", "Reason"], rows, empty="no dead letters")


@dead_letters.command()
@click.argument("letter", metavar="ID")
@json_option
def show(letter: str, *, json_: bool) -> None:
    """Show one dead letter with its arguments and traceback."""
    found = wired().lanes.dead_letter(letter)
    if found is None:
        raise NotFoundError(f"there is no dead letter {letter[:100]}; see: deployer dead-letters list")
    if json_:
        output.as_json(shapes.dead_letter(found, whole=True))
        return
    work = found.arguments
    output.heading(found.id)
    output.facts(
        {
            "environment": _environment(found),
            "task": found.task,
            "died": output.ago(found.at),
            "attempts": str(work.attempts),
            "reason": found.reason,
        }
    )
    output.heading("Arguments")
    output.facts({name: value for name, value in asdict(work).items() if value})
    if found.traceback:
        output.heading("Traceback")
        click.echo(output.clean_lines(found.traceback))


@dead_letters.command()
@click.argument("letter", metavar="ID")
@json_option
def replay(letter: str, *, json_: bool) -> None:
    """Queue a dead letter's work once more and take it off the list."""
    accepted = wired().intake.replay(letter)
    if json_:
        output.as_json({"id": letter, "task": accepted.goal, "outcome": accepted.outcome})
    else:
        click.echo(f"{letter} queued as {accepted.goal}")


@dead_letters.command()
@click.argument("letter", metavar="ID")
@json_option
def discard(letter: str, *, json_: bool) -> None:
    """Take a dead letter off the list for good."""
    wired().lanes.discard(letter)
    if json_:
        output.as_json({"id": letter, "outcome": "discarded"})
    else:
        click.echo(f"{letter} discarded")


def _environment(letter: DeadLetter) -> str:
    repository = Repository.parse(letter.repository)
    return f"{repository} {short(repository, letter.arguments.environment)}"
