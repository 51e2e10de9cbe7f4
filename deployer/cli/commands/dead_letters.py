"""`deployer dead-letters`: list, show, replay, discard."""

from collections.abc import Callable
from typing import Any

import click

from deployer.cli import output
from deployer.cli.environment_names import environment_label
from deployer.cli.installation import load_deployer
from deployer.cli.parameters import F, RepositoryType, json_option
from deployer.model.durations import span
from deployer.model.environments import Repository
from deployer.model.errors import DeployerError, NotFoundError
from deployer.queue.dead_letter_record import DeadLetter
from deployer.queue.dead_letters import (
    act_on_dead_letters,
    describe_dead_letter,
    matching_dead_letters,
    replay_order,
)
from deployer.queue.store import QueueStore
from deployer.views import derived_values, record_json

_FILTERS = (
    click.option("--task", default="", metavar="TASK", help="Only of this task, such as provision."),
    click.option("--repository", type=RepositoryType(), help="Only of this repository."),
    click.option("--kind", default="", metavar="KIND", help="Only of this kind of error; see the list."),
)


def _filter_options(command: F) -> F:
    for option in _FILTERS:
        command = option(command)
    return command


@click.group("dead-letters")
def dead_letters() -> None:
    """List, show, replay or discard work that failed for good."""


@dead_letters.command("list")
@_filter_options
@json_option
def list_(*, kind: str, repository: Repository | None, task: str, json_: bool) -> None:
    """List all dead letters, oldest first."""
    letters = matching_dead_letters(load_deployer().lanes, repository, kind, task)
    if json_:
        output.print_json([record_json.dead_letter(letter) for letter in letters])
    else:
        _print_letters(letters)


@dead_letters.command()
@click.argument("letter", metavar="ID")
@json_option
def show(letter: str, *, json_: bool) -> None:
    """Show one dead letter with its attempts, arguments and traceback."""
    found = load_deployer().lanes.find_dead_letter(letter)
    if found is None:
        raise NotFoundError(f"there is no dead letter {letter[:100]}; see: deployer dead-letters list")
    if json_:
        output.print_json(record_json.dead_letter(found, whole=True))
        return
    work = found.arguments
    output.print_heading(found.id)
    click.echo(f"  {output.escape_line(describe_dead_letter(found))}")
    output.print_facts(
        {
            "environment": _environment_column(found),
            "task": found.task,
            "kind": found.kind,
            "died": f"{output.format_age(found.at)}, {record_json.iso_time(found.at)}",
            "attempts": str(work.log.attempts),
            "reason": found.reason,
        }
    )
    if attempts := work.failed_attempts:
        output.print_heading("Attempts")
        rows = [
            [
                record_json.iso_time(each.began_at),
                span(each.ended_at - each.began_at) if each.began_at else "",
                each.task.removeprefix("deployer."),
                each.error,
            ]
            for each in attempts
        ]
        output.print_table(["Began", "Took", "Task", "Error"], rows, empty="")
    output.print_heading("Arguments")
    output.print_facts(
        {name: value for name, value in work.json_fields().items() if value and name != "tries"}
    )
    if found.traceback:
        output.print_heading("Traceback")
        click.echo(output.escape_lines(found.traceback))


@dead_letters.command()
@click.argument("letters", metavar="[ID]...", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="All of them, or all that match the filters.")
@_filter_options
@click.option("--dry-run", is_flag=True, help="Show which would be replayed; queue nothing.")
@json_option
def replay(
    letters: tuple[str, ...],
    *,
    all_: bool,
    kind: str,
    repository: Repository | None,
    task: str,
    dry_run: bool,
    json_: bool,
) -> None:
    """Queue the work of dead letters again and remove them from the list."""
    _require_ids_or_all(letters, kind, repository, task, all_=all_)
    deployer = load_deployer()
    found = _select_letters(deployer.lanes, letters, repository, kind, task)
    if dry_run:
        _print_selection(letters, found, json_=json_)
        return
    ids = list(letters) or replay_order(found)
    _act_on_each(
        ids, lambda letter: deployer.submitter.replay(letter).goal, "replayed", "queued", json_=json_
    )


@dead_letters.command()
@click.argument("letters", metavar="[ID]...", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="All of them, or all that match the filters.")
@_filter_options
@click.option("--dry-run", is_flag=True, help="Show which would be discarded; discard nothing.")
@click.option("--yes", is_flag=True, help="Confirm that --all discards them.")
@json_option
def discard(
    letters: tuple[str, ...],
    *,
    all_: bool,
    kind: str,
    repository: Repository | None,
    task: str,
    dry_run: bool,
    yes: bool,
    json_: bool,
) -> None:
    """Remove dead letters from the list; their work is not done."""
    _require_ids_or_all(letters, kind, repository, task, all_=all_)
    lanes = load_deployer().lanes
    found = _select_letters(lanes, letters, repository, kind, task)
    if dry_run:
        _print_selection(letters, found, json_=json_)
        return
    if all_ and found and not yes:
        count = f"{len(found)} dead letter{'' if len(found) == 1 else 's'}"
        raise click.UsageError(f"this discards {count} for good; check them with --dry-run, then add --yes")

    def discard_letter(letter: str) -> str:
        lanes.discard(letter)
        return ""

    ids = list(letters) or [letter.id for letter in found]
    _act_on_each(ids, discard_letter, "discarded", "discarded", json_=json_)


def _require_ids_or_all(
    ids: tuple[str, ...], kind: str, repository: Repository | None, task: str, *, all_: bool
) -> None:
    if bool(ids) == all_:
        raise click.UsageError("give either ids or --all")
    if ids and (kind or repository or task):
        raise click.UsageError("--kind, --repository and --task need --all instead of ids")


def _select_letters(
    lanes: QueueStore, ids: tuple[str, ...], repository: Repository | None, kind: str, task: str
) -> list[DeadLetter]:
    """Return the dead letters with these ids that exist, or else those that match the filters."""
    if ids:
        return [letter for each in ids if (letter := lanes.find_dead_letter(each))]
    return matching_dead_letters(lanes, repository, kind, task)


def _print_selection(ids: tuple[str, ...], found: list[DeadLetter], *, json_: bool) -> None:
    if json_:
        output.print_json([record_json.dead_letter(letter) for letter in found])
    else:
        _print_letters(found)
    there = {letter.id for letter in found}
    for each in ids:
        if each not in there:
            raise NotFoundError(f"there is no dead letter {each[:100]}; see: deployer dead-letters list")


def _act_on_each(
    ids: list[str], discard_letter: Callable[[str], str], done: str, outcome: str, *, json_: bool
) -> None:
    """Apply the action to each dead letter, print the results, and raise an error if one failed."""
    settled = act_on_dead_letters(ids, discard_letter)
    failed = [each for each in settled if each.error]
    results: list[dict[str, Any]] = [
        {
            "id": each.letter,
            "task": each.task or None,
            "outcome": "failed" if each.error else outcome,
            "error": each.error,
        }
        for each in settled
    ]
    if json_:
        output.print_json(results)
    elif not settled:
        click.echo("no dead letters")
    else:
        for each in settled:
            if not each.error:
                words = f"queued as {each.task}" if each.task else outcome
                click.echo(output.escape_line(f"{each.letter} {words}"))
    if len(settled) > 1:
        for each in failed:
            output.print_note(f"{each.letter}: {each.error}")
    if failed:
        one = failed[0].error
        raise DeployerError(one if len(settled) == 1 else f"{len(failed)} of {len(settled)} were not {done}")


def _print_letters(letters: list[DeadLetter]) -> None:
    rows = [
        [
            letter.id,
            _environment_column(letter),
            letter.task.removeprefix("deployer."),
            span(derived_values.seconds_since(letter.at)),
            letter.arguments.log.attempts,
            letter.kind,
            letter.reason,
        ]
        for letter in letters
    ]
    headings = ["Id", "Environment", "Task", "Age", "Attempts", "Kind", "Reason"]
    output.print_table(headings, rows, empty="no dead letters")


def _environment_column(letter: DeadLetter) -> str:
    repository = Repository.parse(letter.repository)
    return f"{repository} {environment_label(repository, letter.arguments.environment)}"
