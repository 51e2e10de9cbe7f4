"""Installs the alternatives that are not written in Python into a directory of the measurement.

`webhook` comes from Debian's packages, unpacked without root; probot from npm. What cannot be installed is skipped.
"""

import shutil
import subprocess
from pathlib import Path

_PROBOT = "probot@13.4.7"
_SECONDS = 180


class NotInstalledError(RuntimeError):
    """An alternative cannot be installed here; the text says why."""


def install_webhook(directory: Path) -> Path:
    """Install Debian's `webhook`, or take the one on the PATH.

    Args:
        directory: for the program.

    Returns:
        The program.

    Raises:
        NotInstalledError: this is no Debian, or the package cannot be fetched.
    """
    if found := shutil.which("webhook"):
        return Path(found)
    program = directory / "usr" / "bin" / "webhook"
    if not program.exists():
        directory.mkdir(parents=True, exist_ok=True)
        _run(["apt-get", "download", "--quiet", "webhook"], directory)
        for package in directory.glob("webhook_*.deb"):
            _run(["dpkg-deb", "--extract", str(package), str(directory)], directory)
    if not program.exists():
        raise NotInstalledError(f"the package has no {program.name}")
    return program


def install_probot(directory: Path) -> Path:
    """Install probot.

    Args:
        directory: for the packages.

    Returns:
        The directory of the installed packages, for NODE_PATH.

    Raises:
        NotInstalledError: npm or the package cannot be found.
    """
    modules = directory / "node_modules"
    if not (modules / "probot" / "package.json").exists():
        directory.mkdir(parents=True, exist_ok=True)
        _run(["npm", "install", "--prefix", str(directory), "--no-audit", "--no-fund", _PROBOT], directory)
    return modules


def _run(command: list[str], directory: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalledError(f"{command[0]}: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise NotInstalledError(f"{' '.join(command[:2])}: {last}")
