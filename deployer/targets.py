"""Where environments of each kind live in AWS, and with which rights their stacks are made.

The installation decides this, never a repository: branch code must not be able to choose production's rights.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import yaml

from deployer.environments import Kind
from deployer.errors import ConfigError
from deployer.template import TAB, is_indented_by_tab

_ACCOUNT = re.compile(r"\d{12}")
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/[\w+=,.@/-]+", re.ASCII)
_POLICY = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):policy/[\w+=,.@/-]+", re.ASCII)
_PATH = re.compile(r"/(?:[\w+=,.@-]+/)+", re.ASCII)
PIPELINES_LIMIT = 1000  # https://docs.aws.amazon.com/codepipeline/latest/userguide/limits.html


@dataclass(frozen=True, slots=True)
class Target:
    """Where the environments of one kind live.

    Attributes:
        account: the account's id; empty where nothing is said of it: that of deployer's own credentials.
        regions: one or more; only development may have several, which are filled by room. Empty for the one of AWS's
            own variables.
        role_arn: the role that deployer assumes there; empty for its own credentials.
        external_id: given when that role is assumed.
        service_role_arn: the role that CloudFormation works with; empty for deployer's own rights.
        permissions_boundary: the ARN of the policy that bounds every role that a stack makes; given to templates as
            `PermissionsBoundary`.
        role_path: the IAM path that every role, managed policy and instance profile of a template must be under.
        allowed_roles: patterns (`*` for any text) of ARNs of further roles that a template may name; also of what it
            may name in another account, such as a public Lambda layer.
        artifact_bucket: the bucket for templates and artifacts; `{account}` and `{region}` are filled in.
        connection_arn: the CodeConnections connection, given to templates as `ConnectionArn`.
        pipelines_limit: how many pipelines a region may hold; AWS tells stacks' limit, but not this one.
        reserve: stacks and pipelines of a region that development leaves free for staging and production.
        tags: of production, patterns of the tags that may be deployed; empty for all. A tag must match the repository's
            patterns too: the installation narrows what a repository allows and never widens it.
        branches: of production, patterns of further branches that a tag's commit may be on; empty for those that the
            repository names.
        from_default_branch: of production, whether a tag's commit must be on the default branch or on such a branch.
        gives_token: whether a template that declares `RepoToken` is given a GitHub token: with a GitHub App, whose
            token reads one repository for an hour, or where `DEPLOYER_GIVE_TOKEN` says so.
    """

    kind: Kind
    account: str = ""
    regions: tuple[str, ...] = ()
    role_arn: str = ""
    external_id: str = field(default="", repr=False)
    service_role_arn: str = ""
    permissions_boundary: str = ""
    role_path: str = ""
    allowed_roles: tuple[str, ...] = ()
    artifact_bucket: str = ""
    connection_arn: str = ""
    pipelines_limit: int = PIPELINES_LIMIT
    reserve: int = 10
    tags: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()
    from_default_branch: bool = True
    gives_token: bool = False

    @property
    def bounded(self) -> bool:
        """Whether the installation says anything of rights here."""
        return bool(
            self.account
            or self.service_role_arn
            or self.permissions_boundary
            or self.role_path
            or self.allowed_roles
        )

    @property
    def account_id(self) -> str:
        """The account's id by `account` or by the role; empty where it is that of deployer's own credentials."""
        return self.account or (self.role_arn.split(":")[4] if self.role_arn else "")

    def allows(self, arn: str) -> bool:
        """Whether a template may name this ARN although it is not of its own making."""
        return any(fnmatchcase(arn, pattern) for pattern in self.allowed_roles)

    def bucket(self, region: str) -> str:
        """The artifact bucket in a region: a pipeline's artifacts must be where it is."""
        return self.artifact_bucket.replace("{region}", region).replace("{account}", self.account)

    def given(self, region: str) -> dict[str, str]:
        """Values for parameters that templates may declare."""
        values = {
            "ArtifactStore": self.bucket(region),
            "ConnectionArn": self.connection_arn,
            "PermissionsBoundary": self.permissions_boundary,
        }
        return {name: value for name, value in values.items() if value}


# a target's key in the file -> its field, whether it is a list, and what a value must look like
_KEYS: dict[str, tuple[str, re.Pattern[str] | None]] = {
    "account": ("account", _ACCOUNT),
    "regions": ("regions", _REGION),
    "role": ("role_arn", _ROLE),
    "external_id": ("external_id", None),
    "service_role": ("service_role_arn", _ROLE),
    "permissions_boundary": ("permissions_boundary", _POLICY),
    "role_path": ("role_path", _PATH),
    "allowed_roles": ("allowed_roles", None),
    "artifact_bucket": ("artifact_bucket", None),
    "connection": ("connection_arn", None),
    "pipelines_limit": ("pipelines_limit", None),
    "reserve": ("reserve", None),
    "tags": ("tags", None),
    "branches": ("branches", None),
    "from_default_branch": ("from_default_branch", None),
}
_LISTS = {"regions", "allowed_roles", "tags", "branches"}
_PRODUCTION_ONLY = {"tags", "branches", "from_default_branch"}
_MOST_PATTERNS, _LONGEST_PATTERN = 100, 255
_NUMBERS = {"pipelines_limit", "reserve"}


def read_targets(text: str, default: Target) -> dict[Kind, Target]:
    """Read the setting `DEPLOYER_TARGETS`: YAML (or JSON), a mapping for each kind of environment.

    Args:
        text: empty if there is no such setting.
        default: what holds where a kind says nothing: the artifact bucket and the connection of the settings.

    Raises:
        ConfigError: one line that names the key.
    """
    targets = {kind: replace(default, kind=kind) for kind in Kind}
    if not text.strip():
        return targets
    try:
        told = yaml.safe_load(text)
    except yaml.YAMLError as error:
        # in yaml's own text stands the line, which may hold an external id
        marked = error if isinstance(error, yaml.MarkedYAMLError) else None
        where = f" in line {marked.problem_mark.line + 1}" if marked and marked.problem_mark else ""
        why = f": {TAB}" if marked and is_indented_by_tab(text, marked) else ""
        raise ConfigError(f"DEPLOYER_TARGETS is not YAML{where}{why}") from None
    if not isinstance(told, dict):
        raise ConfigError("DEPLOYER_TARGETS is no mapping of development, staging and production")
    for name, values in told.items():
        if name not in set(Kind):
            raise ConfigError(f"DEPLOYER_TARGETS has {str(name)[:40]!r}, which is no kind of environment")
        if not isinstance(values, dict):
            raise ConfigError(f"DEPLOYER_TARGETS: {name} is no mapping")
        targets[Kind(name)] = _target(targets[Kind(name)], values)
    return targets


def _target(target: Target, values: Mapping[Any, Any]) -> Target:
    changes: dict[str, Any] = {}
    for key, value in values.items():
        where = f"DEPLOYER_TARGETS: {target.kind}.{str(key)[:40]}"
        if key not in _KEYS:
            raise ConfigError(f"{where} is not known; there are {', '.join(_KEYS)}")
        if key in _PRODUCTION_ONLY and target.kind is not Kind.PRODUCTION:
            raise ConfigError(f"{where} is of no use: only production follows tags")
        name, pattern = _KEYS[key]
        if key == "from_default_branch":
            if not isinstance(value, bool):
                raise ConfigError(f"{where} must be true or false")
            changes[name] = value
            continue
        if key in _NUMBERS:
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ConfigError(f"{where} is no number from 0 on")
            changes[name] = value
            continue
        listed = value if key in _LISTS else [value]
        if not isinstance(listed, list) or not all(isinstance(each, (str, int)) for each in listed):
            raise ConfigError(f"{where} is no {'list of texts' if key in _LISTS else 'text'}")
        texts = tuple(str(each).strip() for each in listed)
        if key in _PRODUCTION_ONLY and not _are_patterns(listed):
            # a number is refused: 1.10 would be read as 1.1
            raise ConfigError(f'{where} is no list of patterns, such as ["v*"]')
        for each in texts:
            if pattern and not pattern.fullmatch(each):
                # without the value: an external id may stand where it does not belong
                raise ConfigError(f"{where} is malformed")
        changes[name] = texts if key in _LISTS else texts[0]
    return _checked(replace(target, **changes))


def _are_patterns(listed: list[Any]) -> bool:
    good = 0 < len(listed) <= _MOST_PATTERNS
    return good and all(
        isinstance(each, str) and 0 < len(each.strip()) <= _LONGEST_PATTERN for each in listed
    )


def _checked(target: Target) -> Target:
    where = f"DEPLOYER_TARGETS: {target.kind}"
    if len(target.regions) > 1 and target.kind is not Kind.DEVELOPMENT:
        raise ConfigError(f"{where}.regions has several; only development may")
    if len(set(target.regions)) != len(target.regions):
        raise ConfigError(f"{where}.regions names one twice")
    if len(target.regions) > 1 and "{region}" not in target.artifact_bucket:
        raise ConfigError(
            f"{where}.artifact_bucket must hold {{region}}: pipelines need their artifacts in their own region"
        )
    for name, pattern in (
        ("role_arn", _ROLE),
        ("service_role_arn", _ROLE),
        ("permissions_boundary", _POLICY),
    ):
        found = pattern.fullmatch(getattr(target, name))
        if found and target.account and found.group(1) != target.account:
            raise ConfigError(f"{where}: {name} is of account {found.group(1)}, not of {target.account}")
    if target.external_id and not target.role_arn:
        raise ConfigError(f"{where}.external_id is of no use without role")
    return target
