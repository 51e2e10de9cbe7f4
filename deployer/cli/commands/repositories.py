"""`deployer repositories`: show the state of each repository."""

from typing import TYPE_CHECKING

import click

from deployer.cli import output
from deployer.cli.installation import load_deployer
from deployer.cli.parameters import RepositoryType, json_option
from deployer.model.environments import Repository
from deployer.model.repository_record import RepositoryRecord
from deployer.resync.missed_deliveries import APP
from deployer.resync.missed_tags import undeployed_tag_sentence
from deployer.views import derived_values, record_json, sentences

if TYPE_CHECKING:
    from deployer.wiring import Deployer


@click.group()
def repositories() -> None:
    """Show repositories, and accept one that took over a name."""


@repositories.command("list")
@json_option
def list_(*, json_: bool) -> None:
    """Show the state of each repository."""
    deployer = load_deployer()
    if json_:
        output.print_json(
            record_json.repositories(
                deployer.lanes, deployer.lanes.repositories(), deployer.config.orphan_seconds
            )
        )
        return
    records = _print_repositories(deployer)
    _print_remarks(deployer, records)


def _print_repositories(deployer: "Deployer") -> list[RepositoryRecord]:
    known = {record.repository.lower(): record for record in deployer.lanes.repository_records()}
    listed = deployer.lanes.repositories()
    orphaned = deployer.lanes.orphaned(listed)
    records = [known.get(each.key) or RepositoryRecord(each.full_name) for each in listed]
    rows = [
        [
            record.repository,
            record.state or "normal",
            output.format_age(record.since) if record.state else "",
            record.default_branch,
            len(orphaned.get(record.repository.lower(), ())) or "",
            output.format_age(record.checked_at),
        ]
        for record in records
    ]
    headings = ["Repository", "State", "Since", "Default branch", "Orphans", "Deliveries checked"]
    output.print_table(headings, rows, empty="no repositories")
    return records


def _print_remarks(deployer: "Deployer", records: list[RepositoryRecord]) -> None:
    """Print sentences for which a column of the table is too narrow."""
    listed = deployer.lanes.repositories()
    tags = derived_values.never_deployed(deployer.lanes, listed)
    for each in listed:
        if each.key in tags:
            output.print_line(undeployed_tag_sentence(each, tags[each.key]))
    for record in records:
        if record.reason:
            output.print_line(record.reason)
        if record.unchecked or derived_values.missed_lately(record):
            output.print_line(f"{record.repository}: {sentences.deliveries_words(record)}")
    for app in deployer.lanes.repository_records([APP]):
        if words := sentences.deliveries_words(app):
            output.print_line(f"deliveries of the GitHub App: {words}")
    if words := sentences.unserved_words(deployer.submitter.unserved_repositories(), deployer.lanes.now()):
        output.print_line(words)


@repositories.command()
@click.argument("repository", metavar="REPO", type=RepositoryType())
def accept(repository: Repository) -> None:
    """Give the environments under this name to the repository that has the name now.

    This is needed if a repository was created under the name of another that was renamed or deleted.
    """
    deployer = load_deployer()
    repository = deployer.submitter.as_github_spells(repository)
    deployer.submitter.require_served(repository)
    deployer.lifecycle.accept(repository)
    output.print_line(
        f"accepted; resync of {repository} queued as {deployer.submitter.resync(repository).goal}"
    )
