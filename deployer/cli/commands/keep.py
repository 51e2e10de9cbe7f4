"""`deployer keep`: postpone the expiry of an environment."""

import click

from deployer.cli import output
from deployer.cli.environment_names import find_recorded
from deployer.cli.installation import load_deployer
from deployer.cli.parameters import DurationType, RefType, RepositoryType, json_option
from deployer.model.durations import NEVER
from deployer.model.environments import Repository
from deployer.views import record_json, sentences


@click.command()
@click.argument("repository", metavar="REPO", type=RepositoryType())
@click.argument("branch", metavar="BRANCH", type=RefType())
@click.option("--for", "seconds", type=DurationType(), help="Keep it at least this long, such as 12h or 2w.")
@click.option("--forever", is_flag=True, help="Keep it until the environment is deleted.")
@json_option
def keep(repository: Repository, branch: str, *, seconds: float | None, forever: bool, json_: bool) -> None:
    """Postpone the expiry of a branch's environment, as if it were used now.

    Neither its time to live nor its sleep hours delete it before the given time.
    """
    if seconds and forever:
        raise click.UsageError("give either --for or --forever")
    deployer = load_deployer()
    repository = deployer.submitter.as_github_spells(repository)
    deployer.submitter.require_served(repository)
    environment = find_recorded(deployer, repository, branch)
    record = deployer.submitter.keep_environment(environment, NEVER if forever else seconds or 0)
    config = deployer.config
    if json_:
        output.print_json(record_json.environment(record, config.public_url, config.ttl))
        return
    output.print_line(f"{environment}: {sentences.lifetime_words(record, config.ttl) or 'it never expires'}")
