"""`deployer approve`: deploy a tag to production although the rules refuse it."""

import getpass
import socket

import click

from deployer.cli.installation import load_deployer
from deployer.cli.parameters import RepositoryType, ShaType, TagType, json_option
from deployer.cli.wait import follow_work
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import NotFoundError, PermanentError
from deployer.model.refs import Ref


@click.command()
@click.argument("repository", metavar="REPO", type=RepositoryType())
@click.argument("tag", metavar="TAG", type=TagType())
@click.option("--sha", type=ShaType(), help="Approve only if the tag is at this commit.")
@json_option
def approve(repository: Repository, tag: Ref, sha: str | None, *, json_: bool) -> None:
    """Deploy a tag to production although the rules refuse it.

    The approval is for the tag at its current commit. Your user name and host name are recorded.
    """
    deployer = load_deployer()
    repository = deployer.submitter.as_github_spells(repository)
    deployer.submitter.require_served(repository)
    head = deployer.host.head(repository, tag)
    if head is None:
        raise NotFoundError(f"{repository} has no tag {tag.short}")
    if sha and not head.sha.startswith(sha):
        raise PermanentError(
            f"{tag.short} of {repository} is at {head.sha}, not at {sha}; nothing is approved"
        )
    accepted = deployer.submitter.approve(
        repository, tag, head.sha, f"{getpass.getuser()}@{socket.gethostname()}"
    )
    follow_work(
        deployer,
        f"approval of {tag.short} at {head.sha[:12]}",
        Environment(repository, Kind.PRODUCTION),
        accepted.goal,
        timeout=None,
        json_=json_,
    )
