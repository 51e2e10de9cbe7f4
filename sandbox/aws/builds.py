"""CodeBuild's builds, which run the commands of a buildspec with bash in a copy of the source."""

from __future__ import annotations

import glob
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.aws import buildspec, identity, storage
from sandbox.aws.buildspec import Artifacts, Buildspec, BuildspecError
from sandbox.aws.places import Place
from sandbox.aws.workspace import Processes, Workspace

_LONGEST = 120.0
_SECRET_WORDS = ("TOKEN", "SECRET", "PASSWORD", "CREDENTIAL")
_SCRUBBED = ("AWS_", "DEPLOYER_", "BOTO", "CELERY_", "GITHUB_", "GIT_", "PYTHON", "PYTEST_", "COV", "FLASK_")
_UNTYPED: dict[str, str] = {"Type": "PLAINTEXT"}


class BuildFailedError(Exception):
    """A build failed; the message has the form of CodeBuild's."""

    def __init__(self, phase: str, code: str, message: str, state: str = "FAILED") -> None:
        super().__init__(
            f"Build terminated with state: {state}. Phase: {phase}, Code: {code}, Message: {message}"
        )


@dataclass
class Build:
    """A build that is about to run; the first of its `inputs` (artifacts by name) is the source."""

    id: str
    project: dict[str, Any]
    environment: list[dict[str, Any]]
    inputs: dict[str, Path]
    outputs: dict[str, Path]
    directory: Path
    commit: str
    initiator: str
    place: Place
    exported: dict[str, str] = field(default_factory=dict)


class Builder:
    """Runs builds; `address` is the URL at which a build reaches the simulated AWS."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.address = ""
        for name in ("python", "python3"):
            tool = workspace.tools / name
            # A symbolic link would lose the virtual environment, because Python finds it by the path of its executable.
            tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
            tool.chmod(0o755)

    def log_path(self, build_id: str) -> Path:
        """The path of a build's log."""
        return self._workspace.logs / f"{build_id.replace('/', '-').replace(':', '-')}.log"

    def run_build(self, build: Build, processes: Processes) -> None:
        """Run a build until it ends.

        Raises:
            BuildFailedError: the build failed.
        """
        source, *_ = build.inputs.values()
        work = build.directory / "src"
        shutil.copytree(source, work, symlinks=True)
        log = self.log_path(build.id)
        try:
            self._run_script(build, processes, work, log)
        except BuildFailedError as failure:
            with log.open("a") as end:
                end.write(f"[Container] {failure}\n")
            raise

    def _run_script(self, build: Build, processes: Processes, work: Path, log: Path) -> None:
        try:
            spec = buildspec.read_buildspec((build.project.get("Source") or {}).get("BuildSpec"), work)
            variables = self._build_variables(build, spec, work)
        except BuildspecError as error:
            raise BuildFailedError("DOWNLOAD_SOURCE", "YAML_FILE_ERROR", str(error)) from error
        results, dumped = build.directory / "results", build.directory / "environment"
        results.touch()
        program = build.directory / "build.sh"
        program.write_text(buildspec.build_script(spec, results, dumped))
        seconds = min(_LONGEST, 60.0 * float(build.project.get("TimeoutInMinutes") or 60))
        with log.open("ab") as output:
            output.write(f"[Container] Build {build.id} of commit {build.commit}\n".encode())
            output.flush()
            try:
                status, _ = processes.run_command(
                    ["bash", str(program)], cwd=work, env=variables, timeout=seconds, output=output
                )
            except TimeoutError:
                why = f"Build timed out after {seconds:g} s"
                raise BuildFailedError("BUILD", "BUILD_TIMED_OUT", why, "TIMED_OUT") from None
        first = results.read_text(errors="replace").split("\0")
        if status or len(first) > 1:
            phase, command, code = (
                first[:3] if len(first) > 3 else ("BUILD", "the build's shell", str(status))
            )
            command = command.strip().splitlines()[0] if command.strip() else command
            raise BuildFailedError(
                phase,
                "COMMAND_EXECUTION_ERROR",
                f"Error while executing command: {command}. Reason: exit status {code}",
            )
        if dumped.exists():
            entries = (entry.partition("=") for entry in dumped.read_text(errors="replace").split("\0"))
            build.exported.update({k: v for k, _, v in entries if k in spec.exported})
        self._collect_outputs(build, spec, work)
        with log.open("a") as end:
            end.write("[Container] Build succeeded\n")

    def _build_variables(self, build: Build, spec: Buildspec, work: Path) -> dict[str, str]:
        inherited = {
            k: v
            for k, v in os.environ.items()
            if not k.startswith(_SCRUBBED) and not any(word in k.upper() for word in _SECRET_WORDS)
        }
        path = [
            str(self._workspace.tools),
            str(Path(sys.executable).parent),
            inherited.get("PATH", os.defpath),
        ]
        declared = [
            *(build.project.get("Environment") or {}).get("EnvironmentVariables", []),
            *build.environment,
        ]
        place = build.place
        key, secret = identity.access_key(place.account)
        # Variables of the project and the action override those of the buildspec, as in CodeBuild.
        return {
            **inherited,
            "PATH": os.pathsep.join(path),
            "HOME": str(self._workspace.home),
            "CI": "true",
            "AWS_DEFAULT_REGION": place.region,
            "AWS_REGION": place.region,
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "CODEBUILD_CI": "true",
            "CODEBUILD_BUILD_ID": build.id,
            "CODEBUILD_BUILD_SUCCEEDING": "1",
            "CODEBUILD_INITIATOR": build.initiator,
            "CODEBUILD_RESOLVED_SOURCE_VERSION": build.commit,
            "CODEBUILD_SOURCE_VERSION": build.commit,
            "CODEBUILD_SRC_DIR": str(work),
            **{f"CODEBUILD_SRC_DIR_{name}": str(p) for name, p in list(build.inputs.items())[1:]},
            **spec.variables,
            **{k: _stored_value(place, "PARAMETER_STORE", v) for k, v in spec.parameters.items()},
            **{k: _stored_value(place, "SECRETS_MANAGER", v) for k, v in spec.secrets.items()},
            **{_field(v, "Name"): _variable_value(place, v) for v in declared},
        }

    @staticmethod
    def _collect_outputs(build: Build, spec: Buildspec, work: Path) -> None:
        """Copy the files of each output artifact.

        The first artifact is the buildspec's `artifacts` unless a secondary artifact has its name.
        """
        for number, (name, into) in enumerate(build.outputs.items()):
            wanted = spec.secondary.get(name) or (spec.artifacts if number == 0 else None)
            into.mkdir(parents=True, exist_ok=True)
            if wanted is None:
                why = f"no definition for the artifact {name} in the buildspec"
                raise BuildFailedError("UPLOAD_ARTIFACTS", "CLIENT_ERROR", why)
            if not _copy_matching(wanted, work, into):
                why = f"no matching artifact paths found for {', '.join(wanted.files)}"
                raise BuildFailedError("UPLOAD_ARTIFACTS", "CLIENT_ERROR", why)


def _copy_matching(wanted: Artifacts, work: Path, into: Path) -> int:
    """Copy the files that match the globs; return their number."""
    bases = glob.glob(wanted.base, root_dir=work, include_hidden=True)  # noqa: PTH207 - the result is relative to root_dir
    count = 0
    for base in (work / b for b in bases):
        if not base.resolve().is_relative_to(work.resolve()):
            continue
        left_out = {p for pattern in wanted.exclude for p in _matching_paths(pattern, base)}
        for path in sorted(
            {p for pattern in wanted.files for p in _matching_paths(pattern, base)} - left_out
        ):
            target = into / (path.name if wanted.discard_paths else path.relative_to(base))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
            count += 1
    return count


def _matching_paths(pattern: str, base: Path) -> set[Path]:
    found = glob.glob(pattern, root_dir=base, recursive=True, include_hidden=True)  # noqa: PTH207 - as above
    return {base / f for f in found if (base / f).is_file() and ".." not in Path(f).parts}


def _field(variable: Mapping[str, Any], key: str) -> str:
    """A field of an environment variable, whose key starts with a capital letter in projects only (`Name`, `name`)."""
    value = variable.get(key, variable.get(key.lower(), _UNTYPED.get(key, "")))
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _variable_value(place: Place, variable: Mapping[str, Any]) -> str:
    kind, value = _field(variable, "Type"), _field(variable, "Value")
    return value if kind == "PLAINTEXT" else _stored_value(place, kind, value)


def _stored_value(place: Place, kind: str, reference: str) -> str:
    try:
        if kind == "PARAMETER_STORE":
            return storage.parameter_value(place, reference)
        return storage.secret_value(place, reference)
    except storage.NoSuchObjectError as error:
        raise BuildFailedError("DOWNLOAD_SOURCE", "CLIENT_ERROR", str(error)) from error
