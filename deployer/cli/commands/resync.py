"""`deployer resync`: compare GitHub with AWS."""

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from deployer.cli import output
from deployer.cli.environment_names import environment_label
from deployer.cli.installation import load_deployer
from deployer.cli.parameters import RepositoryType, json_option
from deployer.cli.wait import WorkFollower
from deployer.model.environments import Repository
from deployer.model.errors import ConfigError, DeployerError, NotFoundError, TransientError
from deployer.model.outcomes import RESYNCED
from deployer.queue.items import RESYNC_KEY
from deployer.views import record_json, sentences

if TYPE_CHECKING:
    from deployer.wiring import Deployer


@click.command()
@click.argument("repository", metavar="[REPO]", type=RepositoryType(), required=False)
@click.option("--all", "all_", is_flag=True, help="All repositories that can be found.")
@click.option(
    "--recreate",
    is_flag=True,
    help="Also create the environments that people deleted although their branch exists.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done, and queue nothing.")
@click.option("--wait/--no-wait", default=False, help="Wait until it ends.", show_default=True)
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
    repository: Repository | None,
    *,
    all_: bool,
    recreate: bool,
    dry_run: bool,
    wait: bool,
    timeout: float,
    json_: bool,
) -> None:
    """Compare GitHub with AWS and queue what differs.

    An environment that a person deleted stays deleted until its branch moves, or with --recreate. After a loss of
    Redis, --all finds repositories by their stacks and by DEPLOYER_REPOSITORIES.
    """
    if bool(repository) == all_:
        raise click.UsageError("give either a repository or --all")
    if dry_run and wait:
        raise click.UsageError("--dry-run queues nothing, so --wait has nothing to wait for")
    deployer = load_deployer()
    asked_at = deployer.lanes.now()
    chosen = (
        [deployer.submitter.as_github_spells(repository)]
        if repository
        else deployer.resyncer.repositories(output.print_note)
    )
    if not chosen:
        raise NotFoundError("no repository was found; name one: deployer resync OWNER/REPO")
    for each in chosen:
        deployer.submitter.require_served(each)
    if repository and not dry_run:
        _reject_unknown_repository(deployer, chosen[0])
    if dry_run:
        _dry_run(deployer, chosen, asked_at, recreate=recreate, json_=json_)
    else:
        _queue_resyncs(
            deployer, chosen, asked_at, recreate=recreate, timeout=timeout if wait else None, json_=json_
        )


def _dry_run(
    deployer: "Deployer", chosen: list[Repository], asked_at: float, *, recreate: bool, json_: bool
) -> None:
    found, failed = [], []
    for each in output.report_progress(chosen, "repositories checked"):
        try:
            planned, remark = deployer.lifecycle.plan(each, asked_at, recreate=recreate)
            found += [(each, plan) for plan in planned]
            if remark:
                output.print_note(remark)
        except DeployerError as error:
            failed.append(f"{each}: {error}")
            if len(chosen) > 1:  # the other repositories are still checked
                output.print_note(failed[-1])
    if failed and len(chosen) == 1:
        raise DeployerError(failed[0])
    if json_:
        output.print_json(
            [
                {
                    "repository": each.full_name,
                    "environment": plan.environment.key,
                    "action": plan.action,
                    "ref": plan.ref,
                    "reason": plan.reason,
                    "due": record_json.iso_time(plan.due),
                }
                for each, plan in found
            ]
        )
    else:
        rows = [
            [
                each,
                environment_label(each, plan.environment.key),
                plan.action,
                f"{plan.reason}{_due_words(plan.due)}",
            ]
            for each, plan in found
        ]
        headings = ["Repository", "Environment", "Action", "Why"]
        if len(chosen) == 1:
            headings, rows = headings[1:], [row[1:] for row in rows]
        output.print_table(headings, rows, empty="nothing to do")
    if failed:
        raise DeployerError(f"{len(failed)} of {len(chosen)} repositories could not be checked")


def _due_words(due: float) -> str:
    return f"; due in {sentences.time_left(due - time.time())}" if due else ""


def _queue_resyncs(
    deployer: "Deployer",
    chosen: list[Repository],
    asked_at: float,
    *,
    recreate: bool,
    timeout: float | None,
    json_: bool,
) -> None:
    deadline = time.monotonic() + (timeout or 0)
    many = len(chosen) > 1
    # all resyncs can use the listing of stacks that found the repositories, because it is newer than the command
    submit = deployer.submitter.resync
    queued = [(each, submit(each, asked_at, in_turn=many, recreate=recreate).goal) for each in chosen]
    entries = []
    for each, goal in queued:
        entry = {"repository": each.full_name, "task": goal, "outcome": "queued", "reason": ""}
        if timeout is not None:
            line = WorkFollower(deployer, each, RESYNC_KEY, goal).wait_until(deadline)
            entry["outcome"] = (line.outcome or "unknown") if line else "unfinished"
            entry["reason"] = line.reason if line else f"it has not ended after {timeout:g} s"
        entries.append(entry)
        if not json_:
            words = f"{entry['outcome']}: {entry['reason']}" if timeout is not None else f"queued as {goal}"
            click.echo(output.escape_line(f"{each}: {words}"))
    if json_:
        output.print_json(entries)
    _raise_first_failure(entries)


def _raise_first_failure(entries: list[dict[str, str]]) -> None:
    bad = [entry for entry in entries if entry["outcome"] not in {"queued", RESYNCED}]
    if any(entry["outcome"] == "unfinished" for entry in bad):
        raise DeployerError(f"{bad[0]['repository']}: {bad[0]['reason']}; see: deployer lanes")
    if bad:
        raise DeployerError(
            f"the resync of {bad[0]['repository']} ended as {bad[0]['outcome']}: {bad[0]['reason']}"
        )


def _reject_unknown_repository(deployer: "Deployer", repository: Repository) -> None:
    """Refuse a repository that neither deployer nor GitHub knows, so that a mistyped name is not queued silently.

    If GitHub does not answer, the task will check it.

    Raises:
        PermanentError: there is no such repository, or deployer may not read it.
    """
    if any(each.key == repository.key for each in deployer.lanes.repositories()):
        return
    with suppress(TransientError, ConfigError):
        deployer.host.default_branch(repository)
