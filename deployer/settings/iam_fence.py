"""Whether IAM keeps branch code away from deployer's and production's rights, as far as the settings tell.

The fence is two settings of `DEPLOYER_TARGETS` for development: the service role, with which CloudFormation creates a
branch's stack, and the permissions boundary, which limits every role that such a stack creates. Without a service role,
CloudFormation uses deployer's own rights. Without a boundary, a template can create a role with any rights. What the
role and the boundary allow is decided in AWS: infra/target.yml creates both, and tests/infra evaluates them.
"""

from collections.abc import Iterator, Mapping

from deployer.model.environments import Kind
from deployer.model.targets import Target

FENCE_REMEDY = "make them with infra/target.yml and name them in DEPLOYER_TARGETS (docs/aws.md)"
_PARTS = {"service_role": "service_role_arn", "permissions_boundary": "permissions_boundary"}
_Warning = tuple[Kind, str, str]  # the kind, what was found, the remedy


def missing_fence_settings(targets: Mapping[Kind, Target]) -> list[str]:
    """Why branch code is not fenced in; empty if it is.

    Args:
        targets: the target of every kind.
    """
    development, production = targets[Kind.DEVELOPMENT], targets[Kind.PRODUCTION]
    gaps = []
    for key, name in _PARTS.items():
        value = getattr(development, name)
        if not value:
            gaps.append(f"development has no {key}")
        elif value == getattr(production, name):
            gaps.append(f"development has the {key} of production")
    return gaps


def unfenced_sentence(gaps: list[str]) -> str:
    """What the gaps mean, as one sentence without a full stop.

    Args:
        gaps: what `missing_fence_settings` returned; not empty.
    """
    return (
        f"DEPLOYER_TARGETS: {' and '.join(gaps)}, so whoever may push a branch"
        " can use rights in AWS that are not meant for branches"
    )


def fence_warnings(targets: Mapping[Kind, Target]) -> Iterator[_Warning]:
    """Weak points that do not open the fence by themselves: the kind, what was found, and the remedy.

    Args:
        targets: the target of every kind.
    """
    development = targets[Kind.DEVELOPMENT]
    for kind in (Kind.STAGING, Kind.PRODUCTION):
        yield from _missing_or_shared_warnings(kind, targets[kind], development)
        yield from _role_reach_warnings(kind, targets[kind], development)
    if development.permissions_boundary and not development.role_path:
        found = (
            "development has a permissions_boundary and no role_path: templates may name roles anywhere,"
            " and AWS refuses them only during the deployment"
        )
        yield Kind.DEVELOPMENT, found, "set role_path to that of infra/target.yml, /deployer/development/"


def _missing_or_shared_warnings(kind: Kind, target: Target, development: Target) -> Iterator[_Warning]:
    """Parts of the fence that a kind lacks, or that staging shares with development. For production that is a gap."""
    missing = [key for key, name in _PARTS.items() if not getattr(target, name)]
    if missing:
        yield (
            kind,
            f"{kind} has no {' and no '.join(missing)}: its stacks can use all of deployer's rights",
            FENCE_REMEDY,
        )
    if kind is not Kind.STAGING:
        return
    shared = [
        key
        for key, name in _PARTS.items()
        if getattr(target, name) and getattr(target, name) == getattr(development, name)
    ]
    if shared:
        yield (
            kind,
            f"{kind} and development share one {' and one '.join(shared)}",
            f"give {kind} its own, by infra/target.yml with Kind={kind}",
        )


def _role_reach_warnings(kind: Kind, target: Target, development: Target) -> Iterator[_Warning]:
    """Settings of development that let a branch's template name the roles of another kind."""
    if target.role_path and development.role_path and target.role_path.startswith(development.role_path):
        yield (
            Kind.DEVELOPMENT,
            f"the role_path of development ({development.role_path}) includes that of {kind}",
            "let each kind have a role_path that begins no other one, such as /deployer/development/",
        )
    named = [arn for arn in (target.role_arn, target.service_role_arn) if arn and development.allows(arn)]
    if named:
        yield (
            Kind.DEVELOPMENT,
            f"the allowed_roles of development match {named[0]}, which is {kind}'s",
            "narrow allowed_roles, here and in the parameter AllowedRoles of infra/target.yml",
        )
