"""Findings about the files of a `deploy/` folder."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from deployer.model.errors import one_line
from deployer.templates.folder_files import file_and_line

MOST_FINDINGS = 100  # errors, and the same number of warnings: nobody reads more
_LISTED_LINES = 6  # lines of repeated findings in one message


@dataclass(frozen=True, slots=True)
class Finding:
    """A message about one place in a file, or about several places of which the same is true.

    Attributes:
        level: `error` prevents the deployment, `warning` does not, `note` is about deployer itself.
        file: the file's path in the repository.
        line: the line, counted from 1; None for the whole file.
        text: what is wrong, then the remedy, in one line.
        environments: the kinds of environment that have this finding; empty for the kind that was checked.
        subject: the beginning of the message, which names one resource or property; what follows is `text`.
        repeated_at: the lines of the other places with the same text; see `merge_repeated`.
    """

    level: str
    file: str
    line: int | None
    text: str
    environments: tuple[str, ...] = ()
    subject: str = ""
    repeated_at: tuple[int | None, ...] = ()

    @property
    def message(self) -> str:
        """The subject, the text, and how many times the same text occurs."""
        message = f"{self.subject} {self.text}".lstrip()
        if not self.repeated_at:
            return message
        lines = sorted({line for line in self.repeated_at if line and line != self.line})
        listed = ", ".join(map(str, lines[:_LISTED_LINES])) + (", ..." if len(lines) > _LISTED_LINES else "")
        where = f", line{'s' if len(lines) > 1 else ''} {listed}" if lines else ""
        return f"{message} ({len(self.repeated_at) + 1} times{where})"

    def __str__(self) -> str:
        return one_line(f"{file_and_line(self.file, self.line)}: {self.message}")


class Linter(Protocol):
    """A checker that knows the properties of every resource type."""

    def findings(
        self, name: str, template: str, regions: Sequence[str], conditions: Mapping[str, bool]
    ) -> list[Finding]:
        """Check one template. If the check is not possible, the result is a note, never an exception.

        Args:
            name: the template's file name in `deploy/`.
            template: the template's text.
            regions: the regions of the deployment; empty for any region.
            conditions: the template's conditions that are known before the deployment, by name.
        """
        ...


def refusal_text(findings: Sequence[Finding]) -> str:
    """Summarize the errors among some findings in one line: the first error and the number of others; empty if none."""
    errors = merge_repeated([each for each in findings if each.level == "error"])
    if not errors:
        return ""
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{errors[0]}{more}"


def merge_repeated(findings: Sequence[Finding]) -> list[Finding]:
    """Merge the findings with the same text in one file into the first of them, in the order of the first ones."""
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for each in findings:
        groups.setdefault((each.level, each.file, each.text, each.environments), []).append(each)
    return [
        replace(first, repeated_at=(*first.repeated_at, *(each.line for each in others)))
        for first, *others in groups.values()
    ]


def limit_each_level(found: Iterator[Finding]) -> Iterator[Finding]:
    """The first findings of each level. Only errors stop the iteration: warnings must not hide a later error."""
    seen = Counter[str]()
    for each in found:
        seen[each.level] += 1
        if seen[each.level] <= MOST_FINDINGS:
            yield each
        if seen["error"] == MOST_FINDINGS:
            return
