"""The log groups that CodeBuild or Lambda create by themselves, which therefore belong to no stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sandbox.aws import motostores
from sandbox.aws.places import Place


def ensure_log_group(place: Place, name: str) -> None:
    """Create a log group unless it exists."""
    motostores.backend("logs", place).ensure_log_group(name)


def ensure_build_log_group(place: Place, project: str, properties: Mapping[str, Any]) -> None:
    """Create the log group of a build project, unless the project sends its logs elsewhere or nowhere."""
    settings = (properties.get("LogsConfig") or {}).get("CloudWatchLogs") or {}
    if settings.get("Status", "ENABLED") == "ENABLED":
        ensure_log_group(place, settings.get("GroupName") or f"/aws/codebuild/{project}")
