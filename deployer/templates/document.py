"""A file of a `deploy/` folder as a mapping whose entries know their lines.

The file is JSON, or YAML with the short forms of CloudFormation. Anybody who can push a branch writes these files, so
every content must end in a value or in one clear error line. An `EvaluationBudget` and `NESTING` limit the work of
reading.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import yaml
from yaml.reader import Reader as ReadsYaml
from yaml.reader import ReaderError

from deployer.model.errors import raised_in
from deployer.templates.evaluation.budget import EvaluationBudget, TooComplexError
from deployer.templates.folder_files import FOLDER, SUFFIXES, UnreadableError, reject_large_file
from deployer.templates.syntax import (
    TOO_DEEP,
    UnquotedText,
    UnsupportedYamlError,
    child_entries,
    long_form_name,
    long_form_node,
    parse_json_nodes,
    read_json,
    read_yaml,
    spend_for_json,
)

_TEMPLATE_FILES = {f"pipeline{suffix}" for suffix in SUFFIXES}
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def duplicate_key_text(key: str) -> str:
    """Error text for a key that appears twice in one mapping: parsers disagree about which of the two values counts."""
    return f"{key} appears twice in one mapping; keep one of them"


@dataclass(frozen=True)
class Document:
    """A file that was parsed.

    Attributes:
        file: the file's path in the repository, such as `deploy/pipeline.yml`.
        text: the file's content.
        fields: the top-level mapping. A short form such as `!Ref x` appears as its long form, `{"Ref": "x"}`.
        repeated: key and line of each key that appears twice in one mapping; which of them AWS uses is unknown.
    """

    file: str
    text: str
    fields: dict[str, Any]
    repeated: tuple[tuple[str, int], ...] = ()
    _root: yaml.Node | None = field(default=None, repr=False, compare=False)

    def line_of(self, *path: str | int) -> int | None:
        """The line of the key or list entry at this path, counted from 1; None if the path does not exist."""
        found = self._lines_of_path(path)
        return found[-1] if len(found) == len(path) + 1 else None

    def nearest_line(self, *path: str | int) -> int | None:
        """The line of the deepest step of this path that exists, counted from 1; None if no step exists."""
        found = self._lines_of_path(path)
        return found[-1] if len(found) > 1 else None

    def _lines_of_path(self, path: tuple[str | int, ...]) -> list[int]:
        node, lines = self._root_node, [1]
        for step in path:
            if node is None:
                break
            if long_form_name(node) == step:  # `!Ref x` has the position of its long form
                lines.append(lines[-1])
                node = None if isinstance(node, yaml.ScalarNode) else long_form_node(node)
                continue
            found = self._child_entries(node).get(step)
            if found is None:
                break
            mark, node = found
            lines.append(mark.line + 1)
        return [min(line, self._line_count) for line in lines]

    def _child_entries(self, node: yaml.Node) -> Mapping[str | int, tuple[Any, yaml.Node]]:
        """Start position and value of each entry of a node. The index is built once, because lookups are frequent."""
        known = self._entries_by_node.get(id(node.value))
        if known is None:
            known = self._entries_by_node[id(node.value)] = child_entries(node)
        return known

    @cached_property
    def _entries_by_node(self) -> dict[int, Mapping[str | int, tuple[Any, yaml.Node]]]:
        return {}  # keys are the identities of lists that live as long as the nodes

    @cached_property
    def _line_count(self) -> int:
        # libyaml may count the end of the file as a line of its own
        return max(self.text.count("\n") + (not self.text.endswith("\n")), 1)

    @cached_property
    def _root_node(self) -> yaml.Node | None:
        return self._root or parse_json_nodes(self.text)


def read_document(name: str, content: bytes, budget: EvaluationBudget | None = None) -> Document:
    """Parse one file.

    Args:
        name: the file's name in `deploy/`. Its suffix selects JSON or YAML.
        content: the file's bytes.
        budget: the budget of the check that this file belongs to; by default a new budget for this file alone.

    Raises:
        UnreadableError: the file is too large or too complex, is not UTF-8, is neither JSON nor YAML, or is not a
            mapping.
    """
    file = f"{FOLDER}/{name}"
    text = _decode_utf8(file, content)
    budget = budget or EvaluationBudget()
    # AWS parses a template's text itself; from the other files it receives the values that are parsed here
    unquoted = UnquotedText if name in _TEMPLATE_FILES else str
    try:
        budget.spend(0, len(text))
        if name.endswith(".json"):
            if line := spend_for_json(text, budget):
                raise UnreadableError(file, line, TOO_DEEP)
            value, root, repeated = read_json(text, unquoted)
            if _SURROGATE_ESCAPE.search(text):  # half of a surrogate pair cannot be encoded as UTF-8 later
                json.dumps(value, ensure_ascii=False).encode()
        else:
            value, root, repeated = read_yaml(text, budget, unquoted)
    except (TooComplexError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise _unreadable_error(file, text, error) from error
    if value is None:
        raise UnreadableError(file, 1, "it is empty; remove it, or write a mapping")
    if not isinstance(value, dict):
        raise UnreadableError(file, 1, "it is not a mapping at its top level")
    return Document(file, text, value, tuple(repeated), root)


def _unreadable_error(file: str, text: str, error: Exception) -> UnreadableError:
    """Translate an error of a parser: why the text cannot be read, with the line if it is known.

    Raises:
        Exception: the same error, if it is a bug of deployer.
    """
    match error:
        case TooComplexError():
            return UnreadableError(file, None, error.text)
        case json.JSONDecodeError():
            return UnreadableError(file, error.lineno, f"not JSON: {error.msg}")
        case UnicodeEncodeError():
            return UnreadableError(
                file, None, "it is not valid Unicode: it contains half of a surrogate pair"
            )
        case yaml.MarkedYAMLError():
            # libyaml may count the end of the file as a line of its own
            last = max(len(text.splitlines()), 1)
            line = min(error.problem_mark.line + 1, last) if error.problem_mark else None
            problem = TAB if is_indented_by_tab(text, error) else f"{error.problem or error.context}"
            if not isinstance(error, UnsupportedYamlError):
                problem = f"not YAML: {problem}"
            return UnreadableError(file, line, problem)
        case ReaderError() if found := ReadsYaml.NON_PRINTABLE.search(text):
            # searched again here, because libyaml reports a position in bytes
            line = text.count("\n", 0, found.start()) + 1
            problem = f"it has the control character U+{ord(found.group()):04X}, which YAML does not allow; remove it"
            return UnreadableError(file, line, problem)
        case ValueError() if not raised_in(error, "yaml", "json"):
            raise error
    return UnreadableError(file, None, f"it cannot be read: {_first_line(error)}")


TAB = "a tab is used for indentation; YAML allows only spaces"
_TAB_INDENT = re.compile(r"[ ]*(?:-[ ]*)*\t")
_LINE_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")


def is_indented_by_tab(text: str, error: yaml.MarkedYAMLError) -> bool:
    """Whether a text is invalid YAML because the line of the error begins with a tab.

    The messages of YAML parsers do not mention the tab, or they show a character that is invisible. See
    https://yaml.org/spec/1.2.2/#61-indentation-spaces
    """
    lines = _LINE_BREAK.split(text)
    at = error.problem_mark.line if error.problem_mark else len(lines)
    return at < len(lines) and bool(_TAB_INDENT.match(lines[at]))


def _decode_utf8(file: str, content: bytes) -> str:
    reject_large_file(file, len(content))
    if (at := content.find(b"\0")) >= 0:  # UTF-16 without a byte order mark is valid UTF-8 too
        line = content.count(b"\n", 0, at) + 1
        raise UnreadableError(file, line, f"it has a NUL character (byte {at}); save it as UTF-8 text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnreadableError(file, line, f"not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
