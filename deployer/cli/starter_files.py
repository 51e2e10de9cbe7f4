"""The files that `deployer init` writes, made from the starter files for the facts about a repository.

A line `#: WORDS` in a starter file begins a block for repositories with one of these marks (`!WORD`: without this
mark), and `#:` ends it. A block after `#:?` belongs to the deployment: where nothing is deployed yet, `#| ` makes
comments of its lines, until a person removes it.
"""

import re
from collections.abc import Iterator
from importlib import resources

from deployer.cli.repository_facts import RepositoryFacts

PARAMETERS_FILE = "pipeline.parameters.yml"
_BLOCK = re.compile(r"#:(\??)(.*)")
_PLACEHOLDER = re.compile(r"@([a-z-]+)@")
_DEACTIVATED = "#| "


def starter_files(facts: RepositoryFacts) -> dict[str, str]:
    """The text of each file in `deploy/`, by name.

    Args:
        facts: the facts about the repository.
    """
    names = ["pipeline.yml", PARAMETERS_FILE, "buildspec.yml"]
    names += ["app.yml", "check_site.py"] if "site" in facts.marks else []
    names += ["prepare_app.py"] if "app" in facts.marks else []
    folder = resources.files("deployer.cli").joinpath("starter")
    return {name: _render_text(folder.joinpath(name).read_text(encoding="utf-8"), facts) for name in names}


def _render_text(text: str, facts: RepositoryFacts) -> str:
    return "".join(_rendered_lines(text, facts))


def _rendered_lines(text: str, facts: RepositoryFacts) -> Iterator[str]:
    kept, deactivated, column = True, False, 0
    for line in text.splitlines(keepends=True):
        if mark := _BLOCK.match(line):
            words = mark.group(2).split()
            kept = not words or any(_has_mark(facts, word) for word in words)
            deactivated = bool(mark.group(1)) and not facts.deploys
        elif kept:
            filled = _PLACEHOLDER.sub(lambda found: facts.words[found.group(1)], line)
            if deactivated and filled.strip():
                indent = len(filled) - len(filled.lstrip(" "))
                column = min(column or indent, indent)  # one column for all lines of a part
                yield f"{filled[:column]}{_DEACTIVATED}{filled[column:]}"
            else:
                column = 0
                yield filled


def _has_mark(facts: RepositoryFacts, word: str) -> bool:
    return (word[1:] not in facts.marks) if word.startswith("!") else (word in facts.marks)
