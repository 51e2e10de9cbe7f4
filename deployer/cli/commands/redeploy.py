"""`deployer redeploy`: deploy an environment again."""

from typing import TYPE_CHECKING

import click

from deployer.cli.environment_names import find_recorded, resolve_unrecorded
from deployer.cli.installation import load_deployer
from deployer.cli.parameters import RefType, RepositoryType, ShaType, json_option
from deployer.cli.wait import follow_work, wait_options
from deployer.environment.commit_ids import resolve_commit
from deployer.model.environments import Environment, Repository
from deployer.model.errors import NotFoundError
from deployer.model.refs import Ref
from deployer.queue.items import Cause

if TYPE_CHECKING:
    from deployer.wiring import Deployer


@click.command()
@click.argument("repository", metavar="REPO", type=RepositoryType())
@click.argument("ref", metavar="REF", type=RefType())
@click.option(
    "--sha", type=ShaType(), help="Deploy this commit instead of the ref's newest; its first digits suffice."
)
@wait_options
@json_option
def redeploy(
    repository: Repository, ref: str, sha: str | None, *, wait: bool, timeout: float, json_: bool
) -> None:
    """Deploy an environment again.

    REF is a branch, a full ref (refs/tags/v1), staging or production. With --wait the exit code is 0 if the commit was
    deployed, and 1 if that failed.
    """
    deployer = load_deployer()
    repository = deployer.submitter.as_github_spells(repository)
    deployer.submitter.require_served(repository)
    named = Ref.from_user_input(ref)
    try:
        environment = find_recorded(deployer, repository, ref)
    except NotFoundError:
        environment = resolve_unrecorded(deployer, repository, ref)
        _reject_unknown_ref(deployer, environment, named)
    if sha:
        sha = resolve_commit(deployer.host, repository, sha, check_full=True)
    accepted = deployer.submitter.request_environment(
        environment, cause=Cause.REDEPLOY, ref=named.name if named.is_tag else "", sha=sha or ""
    )
    follow_work(
        deployer, "redeploy", environment, accepted.goal, timeout=timeout if wait else None, json_=json_
    )


def _reject_unknown_ref(deployer: "Deployer", environment: Environment, named: Ref) -> None:
    """Refuse a ref that does not exist on GitHub, so that a mistyped name leaves no environment behind.

    Raises:
        NotFoundError: there is no such branch or tag.
        PermanentError: there is no such repository.
    """
    ref = named if named.is_tag else environment.branch
    if ref is None:
        deployer.host.default_branch(environment.repository)
    elif deployer.host.head(environment.repository, ref) is None:
        kind, tag = ("tag", "") if ref.is_tag else ("branch", f"; a tag is named refs/tags/{ref.short}")
        raise NotFoundError(f"{environment.repository} has no {kind} {ref.short}{tag}")
