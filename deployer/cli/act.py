"""Commands that ask for something: `resync`, `redeploy`, `approve`, `delete`, `keep`."""

import getpass
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from deployer.cli import output
from deployer.cli.common import (
    DurationType,
    RefType,
    RepositoryType,
    ShaType,
    TagType,
    json_option,
    short,
    unknown_environment,
    wired,
)
from deployer.cli.wait import Wait, follow, wait_options
from deployer.deployment.placement import find_stack
from deployer.environment.commit_ids import resolve_commit
from deployer.model.durations import NEVER
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import ConfigError, DeployerError, NotFoundError, PermanentError, TransientError
from deployer.model.records import RESYNC_KEY, RESYNCED, Cause
from deployer.model.refs import Ref
from deployer.queue.lookup import record_of
from deployer.queue.submit import delete_command
from deployer.views import record_json as shapes

if TYPE_CHECKING:
    from deployer.wiring import Deployer


@click.command()
@click.argument("repository", metavar="[REPO]", type=RepositoryType(), required=False)
@click.option("--all", "all_", is_flag=True, help="Every repository that can be found.")
@click.option("--dry-run", is_flag=True, help="Show what would be done; queue nothing.")
@click.option("--wait/--no-wait", default=False, help="Wait until it has ended.", show_default=True)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=300,
    metavar="SECONDS",
    help="How long to wait.",
    show_default=True,
)
@json_option
def resync(
    repository: Repository | None, *, all_: bool, dry_run: bool, wait: bool, timeout: float, json_: bool
) -> None:
    """Compare GitHub with AWS and bring every environment to where it should be.

    After Redis was lost, --all finds repositories by their stacks and by DEPLOYER_REPOSITORIES.
    """
    if bool(repository) == all_:
        raise click.UsageError("give either a repository or --all")
    if dry_run and wait:
        raise click.UsageError("--dry-run queues nothing to wait for")
    deployer = wired()
    asked_at = deployer.lanes.now()
    chosen = (
        [deployer.intake.known(repository)] if repository else deployer.resyncer.repositories(output.note)
    )
    if not chosen:
        raise NotFoundError("no repository is known; name one: deployer resync OWNER/REPO")
    for each in chosen:
        deployer.intake.insist(each)
    if repository and not dry_run:
        _insist_on_repository(deployer, chosen[0])
    if dry_run:
        _dry_run(deployer, chosen, asked_at, json_=json_)
    else:
        _queue_resyncs(deployer, chosen, asked_at, timeout=timeout if wait else None, json_=json_)


def _dry_run(deployer: "Deployer", chosen: list[Repository], asked_at: float, *, json_: bool) -> None:
    found, failed = [], []
    for each in output.progress(chosen, "repositories looked at"):
        try:
            planned, told = deployer.lifecycle.plan(each, asked_at)
            found += [(each, plan) for plan in planned]
            if told:
                output.note(told)
        except DeployerError as error:
            failed.append(f"{each}: {error}")
            if len(chosen) > 1:  # the others are still worth a look
                output.note(failed[-1])
    if failed and len(chosen) == 1:
        raise DeployerError(failed[0])
    if json_:
        output.as_json(
            [
                {
                    "repository": each.full_name,
                    "environment": plan.environment.key,
                    "action": plan.action,
                    "ref": plan.ref,
                    "reason": plan.reason,
                    "due": shapes.iso(plan.due),
                }
                for each, plan in found
            ]
        )
    else:
        rows = [
            [each, short(each, plan.environment.key), plan.action, f"{plan.reason}{_when(plan.due)}"]
            for each, plan in found
        ]
        headings = ["Repository", "Environment", "Action", "Why"]
        if len(chosen) == 1:
            headings, rows = headings[1:], [row[1:] for row in rows]
        output.table(headings, rows, empty="nothing to do")
    if failed:
        raise DeployerError(f"{len(failed)} of {len(chosen)} repositories could not be looked at")


def _when(due: float) -> str:
    return f"; due in {shapes.ahead(due - time.time())}" if due else ""


def _queue_resyncs(
    deployer: "Deployer", chosen: list[Repository], asked_at: float, *, timeout: float | None, json_: bool
) -> None:
    deadline = time.monotonic() + (timeout or 0)
    many = len(chosen) > 1
    # the listing that found them was made for this very question, and does for all of them
    queued = [
        (each, deployer.intake.resync(each, deployer.lanes.now() - asked_at, in_turn=many).goal)
        for each in chosen
    ]
    told: list[dict[str, Any]] = []
    for each, goal in queued:
        entry = {"repository": each.full_name, "task": goal, "outcome": "queued", "reason": ""}
        line = None
        if timeout is not None:
            line = Wait(deployer, each, RESYNC_KEY, goal).until(deadline)
            entry["outcome"] = (line.outcome or "unknown") if line else "unfinished"
            entry["reason"] = line.reason if line else f"it has not ended after {timeout:g} s"
        told.append(entry)
        if not json_:
            words = f"{entry['outcome']}: {entry['reason']}" if timeout is not None else f"queued as {goal}"
            click.echo(output.clean(f"{each}: {words}"))
    if json_:
        output.as_json(told)
    bad = [entry for entry in told if entry["outcome"] not in {"queued", RESYNCED}]
    if any(entry["outcome"] == "unfinished" for entry in bad):
        raise DeployerError(f"{bad[0]['repository']}: {bad[0]['reason']}; see: deployer lanes")
    if bad:
        raise DeployerError(
            f"the resync of {bad[0]['repository']} ended as {bad[0]['outcome']}: {bad[0]['reason']}"
        )


@click.command()
@click.argument("repository", metavar="REPO", type=RepositoryType())
@click.argument("ref", metavar="REF", type=RefType())
@click.option("--sha", type=ShaType(), help="Deploy this commit, not the ref's newest; its first digits do.")
@wait_options
@json_option
def redeploy(
    repository: Repository, ref: str, sha: str | None, *, wait: bool, timeout: float, json_: bool
) -> None:
    """Deploy an environment once more.

    REF is a branch, a full ref (refs/tags/v1), staging or production. With --wait it ends with 0 once the commit is
    deployed, and with 1 if that failed.
    """
    deployer = wired()
    repository = deployer.intake.known(repository)
    deployer.intake.insist(repository)
    named = Ref.from_people(ref)
    try:
        environment = _known_environment(deployer, repository, ref)
    except NotFoundError:
        environment = unknown_environment(deployer, repository, ref)
        _insist_on_ref(deployer, environment, named)
    if sha:
        sha = resolve_commit(deployer.host, repository, sha, check_full=True)
    accepted = deployer.intake.request_environment(
        environment, cause=Cause.REDEPLOY, ref=named.name if named.is_tag else "", sha=sha or ""
    )
    follow(deployer, "redeploy", environment, accepted.goal, timeout=timeout if wait else None, json_=json_)


@click.command()
@click.argument("repository", metavar="REPO", type=RepositoryType())
@click.argument("tag", metavar="TAG", type=TagType())
@click.option("--sha", type=ShaType(), help="Approve only if the tag is at this commit.")
@json_option
def approve(repository: Repository, tag: Ref, sha: str | None, *, json_: bool) -> None:
    """Deploy a tag to production although the rules refuse it.

    The approval is for the tag at its present commit. It is recorded with your user and host name.
    """
    deployer = wired()
    repository = deployer.intake.known(repository)
    deployer.intake.insist(repository)
    head = deployer.host.head(repository, tag)
    if head is None:
        raise NotFoundError(f"{repository} has no tag {tag.short}")
    if sha and not head.sha.startswith(sha):
        raise PermanentError(
            f"{tag.short} of {repository} is at {head.sha}, not at {sha}; nothing is approved"
        )
    accepted = deployer.intake.approve(
        repository, tag, head.sha, f"{getpass.getuser()}@{socket.gethostname()}"
    )
    follow(
        deployer,
        f"approval of {tag.short} at {head.sha[:12]}",
        Environment(repository, Kind.PRODUCTION),
        accepted.goal,
        timeout=None,
        json_=json_,
    )


@click.command()
@click.argument("repository", metavar="REPO", type=RepositoryType())
@click.argument("branch", metavar="[BRANCH]", type=RefType(), required=False)
@click.option(
    "--environment",
    "kind",
    type=click.Choice([Kind.STAGING.value, Kind.PRODUCTION.value]),
    help="Delete this one, instead of a branch's.",
)
@click.option("--yes-really", is_flag=True, help="Without it --environment only says what would be deleted.")
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
    """Delete a branch's development environment and all that it deployed.

    While the branch exists on GitHub, its next push or resync makes the environment anew. Staging and production go by
    --environment only; the next push to the default branch, or of a tag, makes them anew.
    """
    if bool(branch) == bool(kind):
        raise click.UsageError("give either a branch or --environment")
    if yes_really and not kind:
        raise click.UsageError("--yes-really is about --environment; a branch's is deleted without it")
    deployer = wired()
    repository = deployer.intake.known(repository)
    deployer.intake.insist(repository)
    if kind:
        environment = Environment(repository, Kind(kind))
        _insist_on_yes(deployer, environment, yes_really=yes_really)
    else:
        environment = _development(deployer, repository, str(branch))
    accepted = deployer.intake.request_environment(environment, cause=Cause.TEARDOWN, yes_really=yes_really)
    follow(deployer, "delete", environment, accepted.goal, timeout=timeout if wait else None, json_=json_)


@click.command()
@click.argument("repository", metavar="REPO", type=RepositoryType())
@click.argument("branch", metavar="BRANCH", type=RefType())
@click.option("--for", "seconds", type=DurationType(), help="At least for so long, such as 12h or 2w.")
@click.option("--forever", is_flag=True, help="For good, until the environment is deleted.")
@json_option
def keep(repository: Repository, branch: str, *, seconds: float | None, forever: bool, json_: bool) -> None:
    """Keep a branch's idle environment, as if it were used now.

    Neither its time to live nor its hours of sleep take it down before the time that is given.
    """
    if seconds and forever:
        raise click.UsageError("give either --for or --forever")
    deployer = wired()
    repository = deployer.intake.known(repository)
    deployer.intake.insist(repository)
    environment = _known_environment(deployer, repository, branch)
    record = deployer.intake.keep(environment, NEVER if forever else seconds or 0)
    config = deployer.config
    if json_:
        output.as_json(shapes.environment(record, config.public_url, config.ttl))
        return
    output.line(
        f"{environment}: {shapes.age_words(record, config.ttl) or 'nothing is going to take it down'}"
    )


def _development(deployer: "Deployer", repository: Repository, branch: str) -> Environment:
    try:
        environment = _known_environment(deployer, repository, branch)
    except NotFoundError:
        if branch == Kind.PRODUCTION:
            environment = Environment(repository, Kind.PRODUCTION)
        else:
            environment = unknown_environment(deployer, repository, branch)
            cloud = deployer.clouds.at(environment.kind)
            if environment.branch and find_stack(cloud, environment)[1] is None:
                raise NotFoundError(
                    f"nothing is known of {branch} in {repository}, and it has no stack"
                ) from None
    if environment.kind is not Kind.DEVELOPMENT:
        raise PermanentError(
            f"{branch} is {environment.kind} of {repository}, which is not deleted as a branch is; "
            f"see: {delete_command(environment)}"
        )
    return environment


def _insist_on_yes(deployer: "Deployer", environment: Environment, *, yes_really: bool) -> None:
    """Refuse to delete staging or production unless it is there and the person has said so in full.

    Raises:
        NotFoundError: there is nothing to delete.
        PermanentError: with what would be deleted, and what to type.
    """
    record = deployer.lanes.environment(environment)
    cloud = deployer.clouds.at(environment.kind, record.region if record else "")
    name, stack = find_stack(cloud, environment, record.stack_name if record else "")
    deployed = [*cloud.deployed_stacks(name), *(record.applications if record else ())]
    deployed = [each for each in dict.fromkeys(deployed) if cloud.stack(each)]
    if stack is None and not deployed:
        raise NotFoundError(
            f"{environment} has no stack {name} in {cloud.region}; there is nothing to delete"
        )
    if yes_really:
        return
    told = [f"its pipeline's stack {name}"] if stack else []
    told += [f"{each}, which its pipeline deployed" for each in deployed]
    raise PermanentError(
        f"this would delete {environment.kind} of {environment.repository} in {cloud.region}: {'; '.join(told)}. "
        f"Nothing was done; if it is meant: {delete_command(environment)} --yes-really"
    )


def _insist_on_repository(deployer: "Deployer", repository: Repository) -> None:
    """Refuse a repository that neither deployer nor GitHub knows: a mistyped name would be queued without a word.

    While GitHub cannot be asked, the task finds out.

    Raises:
        PermanentError: there is no such repository, or deployer may not read it.
    """
    if any(each.key == repository.key for each in deployer.lanes.repositories()):
        return
    with suppress(TransientError, ConfigError):
        deployer.host.default_branch(repository)


def _insist_on_ref(deployer: "Deployer", environment: Environment, named: Ref) -> None:
    """Refuse what GitHub does not know either: a mistyped name must leave no environment behind.

    Raises:
        NotFoundError: there is no such branch or tag.
        PermanentError: there is no such repository.
    """
    ref = named if named.is_tag else environment.branch
    if ref is None:
        deployer.host.default_branch(environment.repository)
    elif deployer.host.head(environment.repository, ref) is None:
        kind, tag = ("tag", "") if ref.is_tag else ("branch", f"; a tag goes by refs/tags/{ref.short}")
        raise NotFoundError(f"{environment.repository} has no {kind} {ref.short}{tag}")


def _known_environment(deployer: "Deployer", repository: Repository, text: str) -> Environment:
    return Environment.from_key(repository, record_of(deployer.lanes, repository, text).environment)
