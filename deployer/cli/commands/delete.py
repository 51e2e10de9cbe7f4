"""`deployer delete`: delete an environment."""

import shlex
from typing import TYPE_CHECKING

import click

from deployer.cli import output
from deployer.cli.environment_names import find_recorded, resolve_unrecorded
from deployer.cli.installation import load_deployer
from deployer.cli.parameters import RefType, RepositoryType, json_option
from deployer.cli.wait import follow_work, wait_options
from deployer.deployment.placement import find_stack
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import NotFoundError, PermanentError
from deployer.queue.items import Cause
from deployer.queue.submit import delete_command

if TYPE_CHECKING:
    from deployer.wiring import Deployer


@click.command()
@click.argument("repository", metavar="REPO", type=RepositoryType())
@click.argument("branch", metavar="[BRANCH]", type=RefType(), required=False)
@click.option(
    "--environment",
    "kind",
    type=click.Choice([Kind.STAGING.value, Kind.PRODUCTION.value]),
    help="Delete this environment instead of a branch's.",
)
@click.option(
    "--yes-really",
    is_flag=True,
    help="Confirm --environment, which otherwise only shows what would be deleted.",
)
@wait_options
@json_option
def delete(
    repository: Repository,
    branch: str | None,
    *,
    kind: str | None,
    yes_really: bool,
    wait: bool,
    timeout: float,
    json_: bool,
) -> None:
    """Delete a branch's development environment with everything that it deployed.

    If the branch exists on GitHub, the environment stays deleted until its next push, a redeploy, or a resync with
    --recreate. Staging and production need --environment; the next push to the default branch, or of a tag, creates
    them again. Redis remembers a deletion; after a loss of Redis, a resync creates the environment again.
    """
    if bool(branch) == bool(kind):
        raise click.UsageError("give either a branch or --environment")
    if yes_really and not kind:
        raise click.UsageError(
            "--yes-really belongs to --environment; a branch's environment is deleted without it"
        )
    deployer = load_deployer()
    repository = deployer.submitter.as_github_spells(repository)
    deployer.submitter.require_served(repository)
    if kind:
        environment = Environment(repository, Kind(kind))
        _require_confirmation(deployer, environment, yes_really=yes_really)
    else:
        environment = _find_development(deployer, repository, str(branch))
    accepted = deployer.submitter.request_environment(
        environment, cause=Cause.TEARDOWN, yes_really=yes_really
    )
    follow_work(
        deployer, "delete", environment, accepted.goal, timeout=timeout if wait else None, json_=json_
    )
    if not wait and environment.kind is not Kind.PRODUCTION:  # the end that --wait prints says so itself
        output.print_note(_restoration_note(environment))


def _restoration_note(environment: Environment) -> str:
    """What creates the environment again although a person deletes it."""
    repository, name = environment.repository, shlex.quote(environment.name)
    return (
        f"while its branch exists, {environment} stays deleted until a push, deployer redeploy {repository} {name}, or "
        f"deployer resync {repository} --recreate"
    )


def _find_development(deployer: "Deployer", repository: Repository, branch: str) -> Environment:
    try:
        environment = find_recorded(deployer, repository, branch)
    except NotFoundError:
        if branch == Kind.PRODUCTION:
            environment = Environment(repository, Kind.PRODUCTION)
        else:
            environment = resolve_unrecorded(deployer, repository, branch)
            cloud = deployer.clouds.at(environment.kind)
            if environment.branch and find_stack(cloud, environment)[1] is None:
                raise NotFoundError(f"{repository} has no environment {branch}, and no stack of it") from None
    if environment.kind is not Kind.DEVELOPMENT:
        raise PermanentError(
            f"{branch} is {environment.kind} of {repository}, which is not deleted like a branch; "
            f"use: {delete_command(environment)}"
        )
    return environment


def _require_confirmation(deployer: "Deployer", environment: Environment, *, yes_really: bool) -> None:
    """Refuse to delete staging or production if it does not exist or the deletion is not confirmed.

    Raises:
        NotFoundError: there is nothing to delete.
        PermanentError: the deletion is not confirmed; the text says what would be deleted and what to type.
    """
    record = deployer.lanes.environment(environment)
    cloud = deployer.clouds.at(environment.kind, record.spec.region if record else "")
    name, stack = find_stack(cloud, environment, record.stack_name if record else "")
    deployed = [*cloud.deployed_stacks(name), *(record.status.stack.applications if record else ())]
    deployed = [each for each in dict.fromkeys(deployed) if cloud.stack(each)]
    if stack is None and not deployed:
        raise NotFoundError(
            f"{environment} has no stack {name} in {cloud.region}; there is nothing to delete"
        )
    if yes_really:
        return
    deletions = [f"its pipeline's stack {name}"] if stack else []
    deletions += [f"{each}, which its pipeline deployed" for each in deployed]
    raise PermanentError(
        f"this would delete {environment.kind} of {environment.repository} in {cloud.region}: {'; '.join(deletions)}. "
        f"Nothing was deleted; to confirm: {delete_command(environment)} --yes-really"
    )
