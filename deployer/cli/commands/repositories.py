"""`deployer repositories`: the state of each repository."""

import click

from deployer.cli import output
from deployer.cli.installation import load_deployer
from deployer.cli.parameters import RepositoryType, json_option
from deployer.model.environments import Repository
from deployer.model.records import RepositoryRecord
from deployer.resync.missed_deliveries import APP
from deployer.resync.plan import never_deployed_words
from deployer.views import record_json as shapes


@click.group()
def repositories() -> None:
    """Repositories as a whole: renamed, archived, out of reach."""


@repositories.command("list")
@json_option
def list_(*, json_: bool) -> None:
    """Show what is known of each repository."""
    deployer = load_deployer()
    if json_:
        output.as_json(shapes.repositories(deployer.lanes, deployer.config.orphan_seconds))
        return
    known = {record.repository.lower(): record for record in deployer.lanes.repository_records()}
    listed = deployer.lanes.repositories()
    orphaned = deployer.lanes.orphaned(listed)
    records = [known.get(each.key) or RepositoryRecord(each.full_name) for each in listed]
    rows = [
        [
            record.repository,
            record.state or "as usual",
            output.ago(record.since) if record.state else "",
            record.default_branch,
            len(orphaned.get(record.repository.lower(), ())) or "",
            output.ago(record.checked_at),
        ]
        for record in records
    ]
    headings = ["Repository", "State", "Since", "Default branch", "Orphans", "Deliveries checked"]
    output.table(headings, rows, empty="no repository is known")
    tags = shapes.never_deployed(deployer.lanes, listed, deployer.lanes.environments())
    for each in listed:
        if each.key in tags:
            output.line(never_deployed_words(each, tags[each.key]))
    for record in records:  # sentences, for which a column is too narrow
        if record.reason:
            output.line(record.reason)
        if record.unchecked or shapes.missed_lately(record):
            output.line(f"{record.repository}: {shapes.deliveries_words(record)}")
    for app in deployer.lanes.repository_records([APP]):
        if words := shapes.deliveries_words(app):
            output.line(f"deliveries of the GitHub App: {words}")
    if words := shapes.unserved_words(deployer.intake.unserved(), deployer.lanes.now()):
        output.line(words)


@repositories.command()
@click.argument("repository", metavar="REPO", type=RepositoryType())
def accept(repository: Repository) -> None:
    """Let the repository that has this name now have the environments that stand under it.

    Needed where one was made under the name of another that was renamed or deleted.
    """
    deployer = load_deployer()
    repository = deployer.intake.known(repository)
    deployer.intake.insist(repository)
    deployer.lifecycle.accept(repository)
    output.line(f"accepted; resync of {repository} queued as {deployer.intake.resync(repository).goal}")
