"""Reads the setting `DEPLOYER_TARGETS`: the AWS account, regions, roles of each kind of environment."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import yaml

from deployer.model.environments import Kind
from deployer.model.errors import ConfigError
from deployer.model.targets import REPORT, STOP, Target
from deployer.templates.document import TAB, is_indented_by_tab

_ACCOUNT = re.compile(r"\d{12}")
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-\d")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/[\w+=,.@/-]+", re.ASCII)
_POLICY = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):policy/[\w+=,.@/-]+", re.ASCII)
_PATH = re.compile(r"/(?:[\w+=,.@-]+/)+", re.ASCII)
# a key of a target -> the field of `Target`, with the pattern that each of its values must match
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
    "foreign_executions": ("foreign_executions", None),
}
_CHOICES = {"foreign_executions": (REPORT, STOP)}
_LISTS = {"regions", "allowed_roles", "tags", "branches"}
_PRODUCTION_ONLY = {"tags", "branches", "from_default_branch"}
_MOST_PATTERNS, _LONGEST_PATTERN = 100, 255
_NUMBERS = {"pipelines_limit", "reserve"}


def read_targets(text: str, default: Target) -> dict[Kind, Target]:
    """Read the setting `DEPLOYER_TARGETS`: YAML or JSON with a mapping for each kind of environment.

    Args:
        text: the value; empty if the setting is missing.
        default: the values of keys that a kind leaves out, such as the artifact bucket.

    Raises:
        ConfigError: the value is malformed; the text is one line that names the key.
    """
    targets = {kind: replace(default, kind=kind) for kind in Kind}
    if not text.strip():
        return targets
    try:
        mapping = yaml.safe_load(text)
    except yaml.YAMLError as error:
        # the text of YAML's own error quotes the line, which may contain an external id
        marked = error if isinstance(error, yaml.MarkedYAMLError) else None
        where = f" in line {marked.problem_mark.line + 1}" if marked and marked.problem_mark else ""
        why = f": {TAB}" if marked and is_indented_by_tab(text, marked) else ""
        raise ConfigError(f"DEPLOYER_TARGETS is not YAML{where}{why}") from None
    if not isinstance(mapping, dict):
        raise ConfigError("DEPLOYER_TARGETS is not a mapping of development, staging and production")
    for name, values in mapping.items():
        if name not in set(Kind):
            raise ConfigError(f"DEPLOYER_TARGETS has {str(name)[:40]!r}, which is not a kind of environment")
        if not isinstance(values, dict):
            raise ConfigError(f"DEPLOYER_TARGETS: {name} is not a mapping")
        targets[Kind(name)] = _read_target(targets[Kind(name)], values)
    return targets


def _read_target(target: Target, values: Mapping[Any, Any]) -> Target:
    changes: dict[str, Any] = {}
    for key, value in values.items():
        where = f"DEPLOYER_TARGETS: {target.kind}.{str(key)[:40]}"
        if key not in _KEYS:
            raise ConfigError(f"{where} is not known; there are {', '.join(_KEYS)}")
        if key in _PRODUCTION_ONLY and target.kind is not Kind.PRODUCTION:
            raise ConfigError(f"{where} has no effect: only production follows tags")
        field, pattern = _KEYS[key]
        if key == "from_default_branch":
            changes[field] = _read_flag(where, value)
        elif key in _CHOICES:
            changes[field] = _read_choice(where, value, _CHOICES[key])
        elif key in _NUMBERS:
            changes[field] = _read_count(where, value)
        else:
            texts = _read_texts(where, key, value, pattern)
            changes[field] = texts if key in _LISTS else texts[0]
    return _check_target(replace(target, **changes))


def _read_flag(where: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{where} must be true or false")
    return value


def _read_choice(where: str, value: object, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise ConfigError(f"{where} must be {' or '.join(choices)}")
    return str(value)


def _read_count(where: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"{where} is not a whole number of at least 0")
    return value


def _read_texts(where: str, key: str, value: object, pattern: re.Pattern[str] | None) -> tuple[str, ...]:
    """Read the value of a key as one text or several, each of which must match the pattern.

    Raises:
        ConfigError: the value is malformed. The text does not contain the value, because an external id, which is
            secret, may have been written under a wrong key.
    """
    listed = value if key in _LISTS else [value]
    if not isinstance(listed, list) or not all(isinstance(each, (str, int)) for each in listed):
        raise ConfigError(f"{where} is not a {'list of texts' if key in _LISTS else 'text'}")
    if key in _PRODUCTION_ONLY and not _are_patterns(listed):
        # a number is refused, because YAML reads 1.10 as 1.1
        raise ConfigError(f'{where} is not a list of patterns, such as ["v*"]')
    texts = tuple(str(each).strip() for each in listed)
    if pattern and not all(pattern.fullmatch(each) for each in texts):
        raise ConfigError(f"{where} is malformed")
    return texts


def _are_patterns(listed: list[Any]) -> bool:
    good = 0 < len(listed) <= _MOST_PATTERNS
    return good and all(
        isinstance(each, str) and 0 < len(each.strip()) <= _LONGEST_PATTERN for each in listed
    )


def _check_target(target: Target) -> Target:
    where = f"DEPLOYER_TARGETS: {target.kind}"
    if len(target.regions) > 1 and target.kind is not Kind.DEVELOPMENT:
        raise ConfigError(f"{where}.regions has several regions, which only development may have")
    if len(set(target.regions)) != len(target.regions):
        raise ConfigError(f"{where}.regions contains a region twice")
    if len(target.regions) > 1 and "{region}" not in target.artifact_bucket:
        raise ConfigError(
            f"{where}.artifact_bucket must contain {{region}}: a pipeline needs its artifacts in its own region"
        )
    for name, pattern in (
        ("role_arn", _ROLE),
        ("service_role_arn", _ROLE),
        ("permissions_boundary", _POLICY),
    ):
        found = pattern.fullmatch(getattr(target, name))
        if found and target.account and found.group(1) != target.account:
            raise ConfigError(f"{where}: {name} belongs to account {found.group(1)}, not to {target.account}")
    if target.external_id and not target.role_arn:
        raise ConfigError(f"{where}.external_id has no effect without role")
    return target
