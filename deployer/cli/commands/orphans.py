"""`deployer orphans`: stacks whose branch or tag is gone, and roles that no stack has."""

import time
from typing import TYPE_CHECKING, Any

import click

from deployer.cli import output
from deployer.cli.installation import load_deployer
from deployer.cli.parameters import RepositoryType, json_option
from deployer.environment.repository_state import ARCHIVED
from deployer.model.environments import Kind, Repository
from deployer.model.errors import DeployerError
from deployer.resync.orphaned_roles import OrphanedRole, orphaned_roles
from deployer.resync.plan import Orphan
from deployer.views import record_json as shapes

if TYPE_CHECKING:
    from deployer.wiring import Deployer


@click.command()
@click.argument("repository", metavar="[REPO]", type=RepositoryType(), required=False)
@json_option
def orphans(repository: Repository | None, *, json_: bool) -> None:
    """List stacks whose branch or tag is gone from GitHub, and IAM roles that no stack has.

    Stacks of a branch are deleted by a resync, once their branch has been gone for DEPLOYER_ORPHAN_SECONDS.
    Production is deleted by people only, and so are roles: those under a target's role_path that a build made, or
    that a stack left behind. With REPO only the roles whose tags name it are listed.
    """
    deployer = load_deployer()
    repository = deployer.intake.known(repository) if repository else None
    stacks, failed = _orphaned_stacks(deployer, repository)
    roles, unread = _orphaned_roles(deployer, repository)
    if json_:
        output.as_json([*(_stack_shape(*each) for each in stacks), *map(_role_shape, roles)])
    else:
        _tables(stacks, roles)
    if failed or unread:
        raise DeployerError("; ".join(filter(None, [failed, unread])))


def _orphaned_stacks(
    deployer: "Deployer", repository: Repository | None
) -> tuple[list[tuple[Orphan, float]], str]:
    """The stacks and when each is due (epoch seconds, 0 for never), and what could not be looked at."""
    asked_at = deployer.lanes.now()
    looked_at = [repository] if repository else deployer.resyncer.repositories(output.note)
    found, failed = list[tuple[Orphan, float]](), 0
    states = {known.repository.lower(): known for known in deployer.lanes.repository_records() if known.state}
    for each in output.progress(looked_at, "repositories looked at"):
        known = states.get(each.key)
        if known and known.state != ARCHIVED:  # what GitHub says now is not about these stacks
            output.note(known.reason)
            continue
        try:
            # a resync does nothing in an archived one
            found += [
                (orphan, 0 if known else due) for orphan, due in deployer.resyncer.orphans(each, asked_at)
            ]
        except DeployerError as error:
            if repository:
                raise
            output.note(f"{each}: {error}")  # the others are still worth a look
            failed += 1
    return found, f"{failed} of {len(looked_at)} repositories could not be looked at" if failed else ""


def _orphaned_roles(deployer: "Deployer", repository: Repository | None) -> tuple[list[OrphanedRole], str]:
    """The roles, and of which kinds they could not be read."""
    found, unread = list[OrphanedRole](), list[str]()
    for kind in Kind:
        try:
            # of kinds that share a path in an account each role is listed once
            known = {each.role.arn for each in found}
            listed = orphaned_roles(deployer.roles, kind, deployer.lanes.now())
            found += [each for each in listed if each.role.arn not in known]
        except DeployerError as error:
            output.note(f"roles of {kind}: {error}")
            unread.append(str(kind))
    if repository:
        found = [each for each in found if each.repository and each.repository.key == repository.key]
    return found, f"the roles of {', '.join(unread)} could not be read" if unread else ""


def _stack_shape(orphan: Orphan, due: float) -> dict[str, Any]:
    return {
        "repository": orphan.environment.repository.full_name,
        "environment": orphan.environment.key,
        "environment_id": orphan.environment.stack_name,
        "reason": orphan.reason,
        "due": shapes.iso(due),
        "stacks": [{"name": stack.name, "arn": stack.arn} for stack in orphan.stacks],
        "roles": [],
    }


def _role_shape(orphan: OrphanedRole) -> dict[str, Any]:
    environment = orphan.environment
    return {
        "repository": orphan.repository.full_name if orphan.repository else "",
        "environment": environment.key if environment else "",
        "environment_id": environment.stack_name if environment else "",
        "reason": _reason(orphan),
        "due": None,
        "stacks": [],
        "roles": [
            {
                "name": orphan.role.name,
                "arn": orphan.role.arn,
                "kind": str(orphan.kind),
                "created_at": shapes.iso(orphan.role.created_at),
            }
        ],
    }


def _reason(orphan: OrphanedRole) -> str:
    return f"no stack in {', '.join(orphan.regions)} has the role"


def _tables(stacks: list[tuple[Orphan, float]], roles: list[OrphanedRole]) -> None:
    if stacks or not roles:
        rows = [
            [
                orphan.environment.repository,
                orphan.environment.name,
                _names([stack.name for stack in orphan.stacks]),
                ", ".join(_regions(orphan)),
                _due(due),
            ]
            for orphan, due in stacks
        ]
        output.table(["Repository", "Branch", "Stacks", "Region", "Deleted"], rows, empty="no orphans")
    if roles:
        if stacks:
            click.echo()
        of_roles = [
            [
                each.role.arn,
                each.kind,
                each.repository or "",
                each.environment.name if each.environment else "",
                output.ago(each.role.created_at),
            ]
            for each in roles
        ]
        output.table(["Role without a stack", "Kind", "Repository", "Branch", "Created"], of_roles, empty="")
        output.note(
            "roles are deleted by people only; what a role may still do, and for whom: docs/security.md"
        )


def _names(names: list[str]) -> str:
    """The first of some names, and how many more there are; `--json` tells them all."""
    return ", ".join(names[:1] + [f"+{len(names) - 1} more"] * bool(names[1:]))


def _regions(orphan: Orphan) -> list[str]:
    """The regions of its stacks, each once."""
    return list(dict.fromkeys(stack.arn.split(":")[3] for stack in orphan.stacks if stack.arn.count(":") > 3))


def _due(at: float) -> str:
    if not at:
        return "by people only"
    left = at - time.time()
    return f"in {shapes.ahead(left)}" if left > 0 else "by the next resync"
