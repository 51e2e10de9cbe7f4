"""What is found in the files of a `deploy/` folder, each with file and line."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from deployer.errors import one_line
from deployer.folder_files import file_and_line

MOST_FINDINGS = 100  # errors, and as many warnings: nobody reads more


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to be said of a file.

    Attributes:
        level: `error` refuses the deployment, `warning` does not, `note` is of deployer itself.
        file: its path in the repository.
        line: where, counted from 1; None for the file as a whole.
        text: what is wrong and what to do, in one line.
        environments: the kinds of environment that have it; empty for the one that was looked at.
    """

    level: str
    file: str
    line: int | None
    text: str
    environments: tuple[str, ...] = ()

    def __str__(self) -> str:
        return one_line(f"{file_and_line(self.file, self.line)}: {self.text}")


class Linter(Protocol):
    """Something that knows the properties of every type of resource."""

    def findings(self, name: str, template: str, regions: Sequence[str]) -> list[Finding]:
        """Look at one template. It never raises: where it cannot look, it says so in a note.

        Args:
            name: of the file in `deploy/`.
            template: its text.
            regions: where it is to be deployed; empty for any.
        """
        ...


def refusal_text(findings: Sequence[Finding]) -> str:
    """One line for all errors among some findings: the first one, and how many more; empty if there is none."""
    errors = [each for each in findings if each.level == "error"]
    if not errors:
        return ""
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{errors[0]}{more}"


def first_of_each_level(found: Iterator[Finding]) -> Iterator[Finding]:
    """The first findings of each level. Only errors end the search: warnings must not hide an error after them."""
    seen = Counter[str]()
    for each in found:
        seen[each.level] += 1
        if seen[each.level] <= MOST_FINDINGS:
            yield each
        if seen["error"] == MOST_FINDINGS:
            return
