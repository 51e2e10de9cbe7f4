"""What a working copy contains that decides how its starter pipeline builds, tests or deploys it."""

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployer.model.errors import PermanentError

_SAM_TEMPLATES = ("template.yaml", "template.yml", "template.json")
_SAM_TRANSFORM = "AWS::Serverless-2016-10-31"
_SITE_FOLDERS = (".", "public", "site", "www", "docs", "dist", "html")
_PYTHON_FILES = ("pyproject.toml", "requirements.txt", "setup.py", "setup.cfg")
_TEST_EXTRAS = ("test", "tests", "testing", "dev")
_NO_TEST_SCRIPT = "no test specified"  # what `npm init` writes
_TEST_STAGE = re.compile(r"^\s*FROM\s.+\sAS\s+(tests?|testing)\s*$", re.IGNORECASE | re.MULTILINE)
_FILE_LIMIT = 1_000_000  # characters; what decides is near the beginning of a file


@dataclass(frozen=True, slots=True)
class RepositoryFacts:
    """The facts about a working copy.

    Attributes:
        kind: what it is, in words; empty if nothing was recognized.
        evidence: the file that decided this.
        marks: words that choose the blocks of the starter files.
        words: texts for the placeholders of the starter files.
    """

    kind: str = ""
    evidence: str = ""
    marks: frozenset[str] = frozenset()
    words: dict[str, str] = field(default_factory=dict)

    @property
    def deploys(self) -> bool:
        """Whether the starter pipeline deploys it, or only builds and tests it."""
        return "deploy" in self.marks


@dataclass(slots=True)
class _Collected:
    marks: set[str] = field(default_factory=set)
    words: dict[str, str] = field(default_factory=dict)


def collect_facts(top: Path) -> RepositoryFacts:
    """Find out how to build, test and deploy a working copy.

    The first of these decides the kind: a CDK application, a SAM application, a Dockerfile, a Node package, a Python
    project, a static site. A CDK or SAM application and a Dockerfile may also be a Node or Python project; then its
    tests run too.

    Args:
        top: the top folder.

    Raises:
        PermanentError: a file that decides cannot be read.
    """
    found = _Collected()
    kinds: list[tuple[str, str]] = []
    if (top / "cdk.json").is_file():
        kinds.append(("a CDK application", "cdk.json"))
        found.marks |= {"deploy", "app", "cdk"}
    elif sam := next((name for name in _SAM_TEMPLATES if _SAM_TRANSFORM in _read_text(top / name)), ""):
        kinds.append(("a SAM application", sam))
        found.marks |= {"deploy", "app", "sam"}
    kinds += [*_collect_docker(top, found), *_collect_node(top, found), *_collect_python(top, found)]
    if not kinds:
        kinds += _collect_site(top, found)
    if "docker" in found.marks and not found.marks & {"docker-test", "node-test", "unittest", "pytest"}:
        found.marks.add("docker-untested")
    if not kinds:
        return RepositoryFacts(marks=frozenset({"other"}))
    kind, evidence = kinds[0]
    return RepositoryFacts(kind, evidence, frozenset(found.marks), found.words)


def _collect_docker(top: Path, found: _Collected) -> Iterator[tuple[str, str]]:
    if not (top / "Dockerfile").is_file() or "deploy" in found.marks:
        return
    found.marks.add("docker")
    if stage := _TEST_STAGE.search(_read_text(top / "Dockerfile")):
        found.marks.add("docker-test")
        found.words["docker-test"] = stage.group(1)
    yield "a Dockerfile", "Dockerfile"


def _collect_node(top: Path, found: _Collected) -> Iterator[tuple[str, str]]:
    if not (top / "package.json").is_file():
        return
    try:
        package = json.loads(_read_text(top / "package.json"))
    except ValueError as error:
        raise PermanentError(f"{top / 'package.json'} is not JSON: {error}") from error
    scripts = package.get("scripts") if isinstance(package, dict) else None
    scripts = scripts if isinstance(scripts, dict) else {}
    tested = "test" in scripts and _NO_TEST_SCRIPT not in str(scripts["test"])
    found.marks |= {"node", "node-test" if tested else "node-untested"}
    found.marks |= {"node-build"} if "build" in scripts else set()
    found.words["node"], found.words["node-install"] = _node_commands(top)
    yield "a Node package", "package.json"


def _node_commands(top: Path) -> tuple[str, str]:
    """The package manager, and the command that installs exactly the locked packages."""
    if (top / "pnpm-lock.yaml").is_file():
        return "pnpm", "corepack enable && pnpm install --frozen-lockfile"
    if (top / "yarn.lock").is_file():
        return "yarn", "corepack enable && yarn install --frozen-lockfile"
    locked = any((top / name).is_file() for name in ("package-lock.json", "npm-shrinkwrap.json"))
    return "npm", "npm ci" if locked else "npm install"


def _collect_python(top: Path, found: _Collected) -> Iterator[tuple[str, str]]:
    evidence = next((name for name in _PYTHON_FILES if (top / name).is_file()), "")
    if not evidence:
        return
    project = _read_toml(top / "pyproject.toml")
    requirements = [
        name
        for name in ("requirements.txt", "requirements-dev.txt", "requirements-test.txt")
        if (top / name).is_file()
    ]
    if requirements:
        found.marks.add("requirements")
        found.words["requirements"] = " -r ".join(requirements)
    if {"project", "build-system"} & project.keys() or (top / "setup.py").is_file():
        found.marks.add("package")
        found.words["package"] = f".{_test_extra(project)}"
    found.marks |= {"python", _python_test_runner(top, requirements)}
    found.words["unittest"] = " -s tests" if (top / "tests").is_dir() else ""
    yield "a Python project", evidence


def _test_extra(project: dict[str, Any]) -> str:
    """The optional dependencies that the tests need, as pip writes them; empty if there are none."""
    table = project.get("project")
    extras = table.get("optional-dependencies") if isinstance(table, dict) else None
    found = next((each for each in _TEST_EXTRAS if isinstance(extras, dict) and each in extras), "")
    return f"[{found}]" if found else ""


def _python_test_runner(top: Path, requirements: list[str]) -> str:
    """The mark of the block that runs the tests."""
    files = [*top.glob("test_*.py"), *top.glob("tests/**/test_*.py"), *top.glob("tests/**/*_test.py")]
    named = " ".join(_read_text(top / name) for name in (*requirements, "pyproject.toml", "setup.cfg"))
    configured = any((top / name).is_file() for name in ("pytest.ini", "conftest.py", "tests/conftest.py"))
    if configured or "pytest" in named or any("import pytest" in _read_text(each) for each in files):
        return "pytest"
    return "unittest" if files else "python-untested"


def _collect_site(top: Path, found: _Collected) -> Iterator[tuple[str, str]]:
    folder = next((name for name in _SITE_FOLDERS if (top / name / "index.html").is_file()), "")
    if not folder:
        return
    found.marks |= {"deploy", "site"} | ({"site-at-top"} if folder == "." else set())
    found.marks |= {"error-page"} if (top / folder / "404.html").is_file() else set()
    found.words["site"] = folder
    yield "a static site", (Path(folder) / "index.html").as_posix()


def _read_text(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(_FILE_LIMIT)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise PermanentError(f"{path} is not TOML: {error}") from error
