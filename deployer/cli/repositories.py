"""Commands about a repository as a whole: `repositories`, and `webhook` that tells of it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import click

from deployer.cli import output
from deployer.cli.common import RepositoryType, json_option, wired
from deployer.model.environments import Repository
from deployer.model.errors import ConfigError, DeployerError, PermanentError, RightsError
from deployer.model.records import RepositoryRecord
from deployer.model.refs import Ref
from deployer.resync.missed_deliveries import APP, EVENTS, PATH
from deployer.resync.missed_tags import never_deployed_words
from deployer.settings.startup import check_secrets
from deployer.views import derived_values, sentences
from deployer.views import record_json as shapes

if TYPE_CHECKING:
    from deployer.wiring import Deployer

_ANY = Ref.of_branch("main")  # so that not all refs are read where none is of interest


@click.group()
def repositories() -> None:
    """Repositories as a whole: renamed, archived, out of reach."""


@repositories.command("list")
@json_option
def list_(*, json_: bool) -> None:
    """Show what is known of each repository."""
    deployer = wired()
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
    tags = derived_values.never_deployed(deployer.lanes, listed, deployer.lanes.environments())
    for each in listed:
        if each.key in tags:
            output.line(never_deployed_words(each, tags[each.key]))
    for record in records:  # sentences, for which a column is too narrow
        if record.reason:
            output.line(record.reason)
        if record.unchecked or derived_values.missed_lately(record):
            output.line(f"{record.repository}: {sentences.deliveries_words(record)}")
    for app in deployer.lanes.repository_records([APP]):
        if words := sentences.deliveries_words(app):
            output.line(f"deliveries of the GitHub App: {words}")
    if words := sentences.unserved_words(deployer.intake.unserved(), deployer.lanes.now()):
        output.line(words)


@repositories.command()
@click.argument("repository", metavar="REPO", type=RepositoryType())
def accept(repository: Repository) -> None:
    """Let the repository that has this name now have the environments that stand under it.

    Needed where one was made under the name of another that was renamed or deleted.
    """
    deployer = wired()
    repository = deployer.intake.known(repository)
    deployer.intake.insist(repository)
    deployer.lifecycle.accept(repository)
    output.line(f"accepted; resync of {repository} queued as {deployer.intake.resync(repository).goal}")


@click.group()
def webhook() -> None:
    """The webhook by which GitHub tells of a repository."""


@webhook.command()
@click.argument("repository", metavar="REPO", type=RepositoryType())
def install(repository: Repository) -> None:
    """See that a repository's webhook delivers here, signed with the secret of the settings.

    May be repeated. Needs a token with the right webhooks: write, which deployer itself does not.
    """
    deployer = wired()
    deployer.intake.insist(repository)
    config = deployer.config
    if not config.public_url:
        raise ConfigError("DEPLOYER_PUBLIC_URL is not set; GitHub must know where to deliver")
    if not config.webhook_secrets:
        raise ConfigError("DEPLOYER_GITHUB_WEBHOOK_SECRET is not set; deliveries are signed with it")
    check_secrets(config)
    url = config.public_url + PATH
    if deployer.host.is_app:
        raise PermanentError(
            f"the GitHub App's own webhook tells of every repository; set it to {url} in the App's settings"
        )
    with _named(deployer, repository):
        done = deployer.host.install_hook(repository, url, config.webhook_secrets[0], EVENTS)
        organization = "" if done == "created" else deployer.host.webhook_organization(repository, url)
    words = {
        "created": "created",
        "updated": "set to deliver JSON of the events that deployer needs, and its secret set",
        "unchanged": "there already; its secret was set once more",
    }
    whose = f"{repository}, which is that of its organization {organization}," if organization else repository
    output.line(f"webhook of {whose} to {url}: {words[done]}")
    if config.webhook_port:
        output.line(f"the proxy at that address must hand {PATH} to port {config.webhook_port} of the web")


@webhook.command()
@click.argument("repository", metavar="REPO", type=RepositoryType())
@json_option
def check(repository: Repository, *, json_: bool) -> None:
    """Find deliveries of the last three days that never came, and have GitHub send them again.

    Those that failed less than a minute ago are only counted: GitHub may still be at them. The webhook of a GitHub App
    or of an organization is checked for all its repositories.
    """
    deployer = wired()
    repository = deployer.intake.known(repository)
    deployer.intake.insist(repository)
    with _named(deployer, repository):
        found = deployer.deliveries.check(repository)
    if json_:
        output.as_json(
            {
                "repository": repository.full_name,
                "missed": found.all,
                "redelivered": found.redelivered,
                "superseded": found.superseded,
                "left": found.left,
                "recent": found.recent,
                "refused": found.refused,
            }
        )
    else:
        words = sentences.missed_words(found.redelivered, found.superseded, found.left)
        if found.recent:
            words += f"; {found.recent} failed less than a minute ago: GitHub may still be at them, ask again"
        if found.refused:
            words += f"; {sentences.refused_words(found.refused)}"
        output.line(f"{repository}: {words}")


@contextmanager
def _named(deployer: "Deployer", repository: Repository) -> Iterator[None]:
    """Name the repository where a right is missing, or say that it is not there: GitHub answers both alike."""
    try:
        yield
    except RightsError as error:
        seen = True
        with suppress(DeployerError):  # the refusal itself tells more than that this failed as well
            seen = deployer.host.facts(repository, _ANY) is not None
        if not seen:
            raise PermanentError(f"{repository} is not found, or deployer has no access") from error
        raise RightsError(f"{repository}: {error}") from error
