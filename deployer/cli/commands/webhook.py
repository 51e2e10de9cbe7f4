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
from deployer.views import sentences

if TYPE_CHECKING:
    from deployer.wiring import Deployer


_ANY_REF = Ref.of_branch("main")  # a query without a ref would read all refs


@click.group()
def webhook() -> None:
    """Install or check a repository's webhook."""


@webhook.command()
@click.argument("repository", metavar="REPO", type=RepositoryType())
def install(repository: Repository) -> None:
    """Create or correct a repository's webhook, with the URL and the secret of the settings.

    The command can be repeated. It needs a token with the permission webhooks: write, which deployer's processes do not
    need.
    """
    deployer = load_deployer()
    deployer.submitter.require_served(repository)
    config = deployer.config
    if not config.public_url:
        raise ConfigError("DEPLOYER_PUBLIC_URL is not set; GitHub delivers to that address")
    if not config.webhook_secrets:
        raise ConfigError("DEPLOYER_GITHUB_WEBHOOK_SECRET is not set; deliveries are signed with it")
    check_secrets(config)
    url = config.public_url + PATH
    if deployer.host.is_app:
        raise PermanentError(
            f"the GitHub App has one webhook for all repositories; set it to {url} in the App's settings"
        )
    with _name_repository_in_errors(deployer, repository):
        done = deployer.host.install_hook(repository, url, config.webhook_secrets[0], EVENTS)
        organization = "" if done == "created" else deployer.host.webhook_organization(repository, url)
    words = {
        "created": "created",
        "updated": "updated: content type JSON, the events that deployer needs, the secret",
        "unchanged": "already correct; its secret was set again",
    }
    whose = f"organization {organization} (for {repository})" if organization else repository
    output.print_line(f"webhook of {whose} to {url}: {words[done]}")
    if config.webhook_port:
        output.print_line(
            f"the proxy at that address must forward {PATH} to port {config.webhook_port} of the web process"
        )


@webhook.command()
@click.argument("repository", metavar="REPO", type=RepositoryType())
@json_option
def check(repository: Repository, *, json_: bool) -> None:
    """Find failed deliveries of the last three days, and let GitHub send them again.

    Deliveries that failed less than a minute ago are only counted, because GitHub may still be sending them. The
    webhook of a GitHub App or of an organization is checked for all its repositories.
    """
    deployer = load_deployer()
    repository = deployer.submitter.as_github_spells(repository)
    deployer.submitter.require_served(repository)
    with _name_repository_in_errors(deployer, repository):
        found = deployer.deliveries.check(repository)
    if json_:
        output.print_json(
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
            words += f"; {found.recent} failed less than a minute ago; run the check again later"
        if found.refused:
            words += f"; {sentences.wrong_signature_words(found.refused)}"
        output.print_line(f"{repository}: {words}")


@contextmanager
def _name_repository_in_errors(deployer: "Deployer", repository: Repository) -> Iterator[None]:
    """Name the repository in permission errors, or say that it does not exist: GitHub's answer is the same."""
    try:
        yield
    except RightsError as error:
        exists = True
        with suppress(DeployerError):  # the first error is more useful than this one
            exists = deployer.host.facts(repository, _ANY_REF) is not None
        if not exists:
            raise PermanentError(f"{repository} does not exist, or deployer has no access") from error
        raise RightsError(f"{repository}: {error}") from error
