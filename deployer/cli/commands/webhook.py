"""`deployer webhook`: the webhook of a repository."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import click

from deployer.cli import output
from deployer.cli.installation import load_deployer
from deployer.cli.parameters import RepositoryType, json_option
from deployer.model.environments import Repository
from deployer.model.errors import ConfigError, DeployerError, PermanentError, RightsError
from deployer.model.refs import Ref
from deployer.resync.missed_deliveries import EVENTS, PATH
from deployer.settings.startup import check_secrets
from deployer.views import record_json as shapes

if TYPE_CHECKING:
    from deployer.wiring import Deployer


_ANY = Ref.of_branch("main")  # so that not all refs are read where none is of interest


@click.group()
def webhook() -> None:
    """The webhook by which GitHub tells of a repository."""


@webhook.command()
@click.argument("repository", metavar="REPO", type=RepositoryType())
def install(repository: Repository) -> None:
    """See that a repository's webhook delivers here, signed with the secret of the settings.

    May be repeated. Needs a token with the right webhooks: write, which deployer itself does not.
    """
    deployer = load_deployer()
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
    deployer = load_deployer()
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
        words = shapes.missed_words(found.redelivered, found.superseded, found.left)
        if found.recent:
            words += f"; {found.recent} failed less than a minute ago: GitHub may still be at them, ask again"
        if found.refused:
            words += f"; {shapes.refused_words(found.refused)}"
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
