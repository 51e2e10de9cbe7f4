"""CodeBuild's buildspec files, with the shell script that runs one."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

PHASES = ("install", "pre_build", "build", "post_build")


class BuildspecError(Exception):
    """A buildspec is missing or malformed."""


@dataclass(frozen=True)
class Artifacts:
    """The files of an output artifact."""

    files: list[str]
    base: str = "."
    exclude: list[str] = field(default_factory=list)
    discard_paths: bool = False


@dataclass(frozen=True)
class Phase:
    """The commands of a phase, with the commands that run after them in any case."""

    commands: list[str]
    finally_commands: list[str]
    continue_on_failure: bool


@dataclass(frozen=True)
class Buildspec:
    """The content of a buildspec."""

    variables: dict[str, str]
    parameters: dict[str, str]
    secrets: dict[str, str]
    exported: list[str]
    phases: dict[str, Phase]
    artifacts: Artifacts | None
    secondary: dict[str, Artifacts]


def read_buildspec(declared: str | None, source: Path) -> Buildspec:
    """The buildspec that a project declares: inline text or a file of its source (buildspec.yml by default).

    Raises:
        BuildspecError: the buildspec is missing or malformed.
    """
    text = declared or "buildspec.yml"
    if "\n" not in text.strip():
        path = (source / text.strip()).resolve()
        if not path.is_relative_to(source.resolve()) or not path.is_file():
            raise BuildspecError(f"YAML file does not exist: {text.strip()}")
        text = path.read_text()
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BuildspecError(f"wrong YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(document, dict) or str(document.get("version")) not in ("0.1", "0.2"):
        raise BuildspecError("The version of the buildspec must be 0.1 or 0.2")
    try:
        return _parse_buildspec(document)
    except (AttributeError, TypeError, ValueError) as error:
        raise BuildspecError(f"The buildspec is malformed: {error}") from error


def _parse_buildspec(document: dict[str, Any]) -> Buildspec:
    env = document.get("env") or {}
    artifacts = document.get("artifacts") or {}
    secondary = artifacts.get("secondary-artifacts") or {}
    return Buildspec(
        variables={k: _text_field(v) for k, v in (env.get("variables") or {}).items()},
        parameters={k: str(v) for k, v in (env.get("parameter-store") or {}).items()},
        secrets={k: str(v) for k, v in (env.get("secrets-manager") or {}).items()},
        exported=[str(v) for v in env.get("exported-variables") or []],
        phases=_parse_phases(document.get("phases") or {}),
        artifacts=_parse_artifacts(artifacts) if artifacts.get("files") else None,
        secondary={name: _parse_artifacts(a) for name, a in secondary.items()},
    )


def _parse_phases(phases: dict[str, Any]) -> dict[str, Phase]:
    if unknown := [p for p in phases if p not in PHASES]:
        raise BuildspecError(f"The phase {unknown[0]} is not known")
    return {name: _parse_phase(phases[name] or {}) for name in PHASES if name in phases}


def _parse_phase(declared: dict[str, Any]) -> Phase:
    return Phase(
        [_text_field(c) for c in declared.get("commands") or []],
        [_text_field(c) for c in declared.get("finally") or []],
        str(declared.get("on-failure", "")).upper() == "CONTINUE",
    )


def _parse_artifacts(declared: dict[str, Any]) -> Artifacts:
    files = declared.get("files") or []
    return Artifacts(
        [str(f) for f in ([files] if isinstance(files, str) else files)],
        str(declared.get("base-directory") or "."),
        [str(f) for f in declared.get("exclude-paths") or []],
        _text_field(declared.get("discard-paths", "no")) in ("yes", "true"),
    )


def _text_field(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


# One shell runs all phases, so that `cd` and `export` stay in effect. Because of `eval`, a syntax error in one command
# does not end the others; the trap reports an `exit` and a failure under `set -e`.
_PREAMBLE = """\
__sandbox_phase=INSTALL __sandbox_command= __sandbox_done= __sandbox_failed=
__sandbox_report() {
  printf '%s\\0%s\\0%s\\0' "$__sandbox_phase" "$__sandbox_command" "$1" >> "$__sandbox_results"
}
__sandbox_run() {
  __sandbox_command=$1
  printf '[Container] Running command %s\\n' "$1"
  eval "$1"
  local status=$?
  [ $status -eq 0 ] || printf '[Container] Command did not exit successfully: exit status %s\\n' $status
  return $status
}
__sandbox_end() {
  local status=$?
  [ -n "$__sandbox_done" ] || { [ $status -ne 0 ] || status=1; __sandbox_report $status; }
  env -0 > "$__sandbox_environment"
}
trap __sandbox_end EXIT
"""


def build_script(spec: Buildspec, results: Path, environment: Path) -> str:
    """The shell script of a build.

    The script appends phase, command and exit status of each failure to the file `results`, and writes its variables
    to the file `environment`.
    """
    lines = [
        f"__sandbox_results={shlex.quote(str(results))}",
        f"__sandbox_environment={shlex.quote(str(environment))}",
        _PREAMBLE,
    ]
    for name, phase in spec.phases.items():
        # After a failed build phase post_build still runs; after a failed earlier phase the build ends.
        before = '[ -z "$__sandbox_failed" ]' if name != "post_build" else '[ "$__sandbox_failed" != early ]'
        lines += [f"if {before}; then", f"__sandbox_phase={name.upper()} __sandbox_bad="]
        lines.append(f"printf '[Container] Entering phase {name.upper()}\\n'")
        report = "" if phase.continue_on_failure else "; __sandbox_report $__sandbox_bad"
        lines += [
            f'[ -n "$__sandbox_bad" ] || __sandbox_run {shlex.quote(c)} || {{ __sandbox_bad=$?{report}; }}'
            for c in phase.commands
        ]
        lines += [f"__sandbox_run {shlex.quote(command)}" for command in phase.finally_commands]
        if not phase.continue_on_failure:
            kind = "build" if name in ("build", "post_build") else "early"
            lines.append(f'[ -z "$__sandbox_bad" ] || __sandbox_failed={kind}')
        lines.append("fi")
    lines += ["__sandbox_done=1", '[ -z "$__sandbox_failed" ]']
    return "\n".join(lines) + "\n"
