"""The repository and the default branch of a working copy, as git has recorded them."""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deployer.model.environments import Repository
from deployer.model.errors import PayloadError

_EXAMPLE = Repository("owner", "repository")
_EXAMPLE_BRANCH = "main"
_SECTION = re.compile(r"^\s*\[\s*remote\s+\"origin\"\s*\]\s*$")
_URL = re.compile(r"^\s*url\s*=\s*(\S+)\s*$")
_OWNER_AND_NAME = re.compile(r"[:/]([^/:]+)/([^/:]+?)(?:\.git)?/?$")
_HEAD = "ref: refs/remotes/origin/"


@dataclass(frozen=True, slots=True)
class WorkingCopy:
    """What identifies the repository of a working copy.

    Attributes:
        repository: the repository of the remote `origin`; an example if the folder has no such remote.
        default_branch: the default branch of that remote; `main` if git has not recorded it.
    """

    repository: Repository = _EXAMPLE
    default_branch: str = _EXAMPLE_BRANCH


def read_working_copy(top: Path) -> WorkingCopy:
    """Read which repository a folder is a working copy of. Nothing is executed."""
    git = top / ".git"
    repository, branch = _EXAMPLE, _EXAMPLE_BRANCH
    with suppress(OSError):
        repository = _origin((git / "config").read_text(errors="replace")) or repository
    with suppress(OSError):
        head = (git / "refs" / "remotes" / "origin" / "HEAD").read_text(errors="replace").strip()
        branch = head.removeprefix(_HEAD) if head.startswith(_HEAD) else branch
    return WorkingCopy(repository, branch)


def _origin(config: str) -> Repository | None:
    inside = False
    for line in config.splitlines():
        if line.lstrip().startswith("["):
            inside = bool(_SECTION.match(line))
        elif inside and (url := _URL.match(line)) and (found := _OWNER_AND_NAME.search(url.group(1))):
            with suppress(PayloadError):
                return Repository.parse(f"{found.group(1)}/{found.group(2)}")
    return None
