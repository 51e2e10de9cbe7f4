"""Findings about the files of a `deploy/` folder."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from deployer.model.errors import one_line
from deployer.templates.folder_files import file_and_line

MOST_FINDINGS = 100  # errors, and the same number of warnings: nobody reads more


@dataclass(frozen=True, slots=True)
class Finding:
    """A message about one place in a file.

    Attributes:
        level: `error` prevents the deployment, `warning` does not, `note` is about deployer itself.
        file: the file's path in the repository.
        line: the line, counted from 1; None for the whole file.
        text: what is wrong, then the remedy, in one line.
        environments: the kinds of environment that have this finding; empty for the kind that was checked.
    """

    level: str
    file: str
    line: int | None
    text: str
    environments: tuple[str, ...] = ()

    def __str__(self) -> str:
        return one_line(f"{file_and_line(self.file, self.line)}: {self.text}")


class Linter(Protocol):
    """A checker that knows the properties of every resource type."""

    def findings(self, name: str, template: str, regions: Sequence[str]) -> list[Finding]:
        """Check one template. If the check is not possible, the result is a note, never an exception.

        Args:
            name: the template's file name in `deploy/`.
            template: the template's text.
            regions: the regions of the deployment; empty for any region.
        """
        ...


def refusal_text(findings: Sequence[Finding]) -> str:
    """Summarize the errors among some findings in one line: the first error and the number of others; empty if none."""
    errors = [each for each in findings if each.level == "error"]
    if not errors:
        return ""
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{errors[0]}{more}"


def first_of_each_level(found: Iterator[Finding]) -> Iterator[Finding]:
    """The first findings of each level. Only errors stop the iteration: warnings must not hide a later error."""
    seen = Counter[str]()
    for each in found:
        seen[each.level] += 1
        if seen[each.level] <= MOST_FINDINGS:
            yield each
        if seen["error"] == MOST_FINDINGS:
            return
