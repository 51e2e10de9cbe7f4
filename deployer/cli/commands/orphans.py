"""`deployer orphans`: list stacks without a branch, with roles that have no stack."""

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
from deployer.resync.orphans import Orphan
from deployer.views import record_json, sentences

if TYPE_CHECKING:
    from deployer.wiring import Deployer


@click.command()
@click.argument("repository", metavar="[REPO]", type=RepositoryType(), required=False)
@json_option
def orphans(repository: Repository | None, *, json_: bool) -> None:
    """List stacks whose branch or tag is gone from GitHub, and IAM roles without a stack.

    A resync deletes the stacks of a branch that has been gone for DEPLOYER_ORPHAN_SECONDS. Production and roles are
    never deleted automatically; the roles are those under a target's role_path that a build created or a stack left
    behind. With REPO, only roles whose tags name it are listed.
    """
    deployer = load_deployer()
    repository = deployer.submitter.as_github_spells(repository) if repository else None
    stacks, failed = _orphaned_stacks(deployer, repository)
    roles, unread = _orphaned_roles(deployer, repository)
    if json_:
        output.print_json([*(_stack_as_json(*each) for each in stacks), *map(_role_as_json, roles)])
    else:
        _print_tables(stacks, roles)
    if failed or unread:
        raise DeployerError("; ".join(filter(None, [failed, unread])))


def _orphaned_stacks(
    deployer: "Deployer", repository: Repository | None
) -> tuple[list[tuple[Orphan, float]], str]:
    """Return the stacks with the time when each is deleted (epoch seconds, 0 for never), and an error text."""
    asked_at = deployer.lanes.now()
    checked = [repository] if repository else deployer.resyncer.repositories(output.print_note)
    found, failed = list[tuple[Orphan, float]](), 0
    states = {known.repository.lower(): known for known in deployer.lanes.repository_records() if known.state}
    for each in output.report_progress(checked, "repositories checked"):
        known = states.get(each.key)
        if known and known.state != ARCHIVED:  # GitHub's branches are not those of these stacks
            output.print_note(known.reason)
            continue
        try:
            # a resync deletes nothing in an archived repository
            found += [
                (orphan, 0 if known else due) for orphan, due in deployer.resyncer.orphans(each, asked_at)
            ]
        except DeployerError as error:
            if repository:
                raise
            output.print_note(f"{each}: {error}")  # the other repositories are still checked
            failed += 1
    return found, f"{failed} of {len(checked)} repositories could not be checked" if failed else ""


def _orphaned_roles(deployer: "Deployer", repository: Repository | None) -> tuple[list[OrphanedRole], str]:
    """Return the roles, and an error text for kinds of environment whose roles could not be read."""
    found, unread = list[OrphanedRole](), list[str]()
    for kind in Kind:
        try:
            # kinds of environment may share a path in an account, so a role may be listed more than once
            known = {each.role.arn for each in found}
            listed = orphaned_roles(deployer.roles, kind, deployer.lanes.now())
            found += [each for each in listed if each.role.arn not in known]
        except DeployerError as error:
            output.print_note(f"roles of {kind}: {error}")
            unread.append(str(kind))
    if repository:
        found = [each for each in found if each.repository and each.repository.key == repository.key]
    return found, f"the roles of {', '.join(unread)} could not be read" if unread else ""


def _stack_as_json(orphan: Orphan, due: float) -> dict[str, Any]:
    return {
        "repository": orphan.environment.repository.full_name,
        "environment": orphan.environment.key,
        "environment_id": orphan.environment.stack_name,
        "reason": orphan.reason,
        "due": record_json.iso_time(due),
        "stacks": [{"name": stack.name, "arn": stack.arn} for stack in orphan.stacks],
        "roles": [],
    }


def _role_as_json(orphan: OrphanedRole) -> dict[str, Any]:
    environment = orphan.environment
    return {
        "repository": orphan.repository.full_name if orphan.repository else "",
        "environment": environment.key if environment else "",
        "environment_id": environment.stack_name if environment else "",
        "reason": _role_reason(orphan),
        "due": None,
        "stacks": [],
        "roles": [
            {
                "name": orphan.role.name,
                "arn": orphan.role.arn,
                "kind": str(orphan.kind),
                "created_at": record_json.iso_time(orphan.role.created_at),
            }
        ],
    }


def _role_reason(orphan: OrphanedRole) -> str:
    return f"no stack in {', '.join(orphan.regions)} has the role"


def _print_tables(stacks: list[tuple[Orphan, float]], roles: list[OrphanedRole]) -> None:
    if stacks or not roles:
        rows = [
            [
                orphan.environment.repository,
                orphan.environment.name,
                _first_name([stack.name for stack in orphan.stacks]),
                ", ".join(_regions_of_orphan(orphan)),
                _due_column(due),
            ]
            for orphan, due in stacks
        ]
        output.print_table(["Repository", "Branch", "Stacks", "Region", "Deleted"], rows, empty="no orphans")
    if roles:
        if stacks:
            click.echo()
        of_roles = [
            [
                each.role.arn,
                each.kind,
                each.repository or "",
                each.environment.name if each.environment else "",
                output.format_age(each.role.created_at),
            ]
            for each in roles
        ]
        output.print_table(
            ["Role without a stack", "Kind", "Repository", "Branch", "Created"], of_roles, empty=""
        )
        output.print_note(
            "roles are never deleted automatically; docs/security.md says what such a role can do"
        )


def _first_name(names: list[str]) -> str:
    """Return the first name and the number of the others; `--json` lists all."""
    return ", ".join(names[:1] + [f"+{len(names) - 1} more"] * bool(names[1:]))


def _regions_of_orphan(orphan: Orphan) -> list[str]:
    """Return the regions of the stacks, each once."""
    return list(dict.fromkeys(stack.arn.split(":")[3] for stack in orphan.stacks if stack.arn.count(":") > 3))


def _due_column(at: float) -> str:
    if not at:
        return "never automatically"
    left = at - time.time()
    return f"in {sentences.time_left(left)}" if left > 0 else "by the next resync"
