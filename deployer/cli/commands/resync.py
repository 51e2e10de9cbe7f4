"""`deployer resync`: compare GitHub with AWS."""

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from deployer.cli import output
from deployer.cli.environment_names import environment_label
from deployer.cli.installation import load_deployer
from deployer.cli.parameters import RepositoryType, json_option
from deployer.cli.wait import Wait
from deployer.model.environments import Repository
from deployer.model.errors import ConfigError, DeployerError, NotFoundError, TransientError
from deployer.model.records import RESYNC_KEY, RESYNCED
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
    deployer = load_deployer()
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
            [
                each,
                environment_label(each, plan.environment.key),
                plan.action,
                f"{plan.reason}{_when(plan.due)}",
            ]
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
