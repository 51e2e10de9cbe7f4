"""Reads the setting `DEPLOYER_TARGETS`: where environments of each kind live in AWS."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import yaml

from deployer.model.environments import Kind
from deployer.model.errors import ConfigError
from deployer.model.targets import Target
from deployer.templates.document import TAB, is_indented_by_tab

_ACCOUNT = re.compile(r"\d{12}")
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/[\w+=,.@/-]+", re.ASCII)
_POLICY = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):policy/[\w+=,.@/-]+", re.ASCII)
_PATH = re.compile(r"/(?:[\w+=,.@-]+/)+", re.ASCII)
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
