"""Reads the files of a `deploy/` folder: JSON, or YAML as CloudFormation writes it, and where in them something stands.

Anybody who can push a branch writes these files: whatever they hold ends in a value or in one clear line. What reading
takes is bounded by an `EvaluationBudget` and by `NESTING`.
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

from deployer.errors import raised_in
from deployer.evaluation_budget import EvaluationBudget, TooComplexError
from deployer.folder_files import FOLDER, SUFFIXES, UnreadableError, reject_large_file
from deployer.template_syntax import (
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
    """What is said of a key that stands in its mapping already: readers differ in which of the two they take."""
    return f"{key} stands twice in one mapping; keep one of them"


@dataclass(frozen=True)
class Document:
    """A file that was read.

    Attributes:
        file: its path in the repository, such as `deploy/pipeline.yml`.
        text: what stands in it.
        fields: its mapping; a short form such as `!Ref x` is there as its long form, `{"Ref": "x"}`.
        repeated: key and line of what stands twice in one mapping: nobody can say which of them AWS would take.
    """

    file: str
    text: str
    fields: dict[str, Any]
    repeated: tuple[tuple[str, int], ...] = ()
    _root: yaml.Node | None = field(default=None, repr=False, compare=False)

    def line_of(self, *path: str | int) -> int | None:
        """The line where the key or list entry at this path stands, counted from 1, or None if there is no such."""
        found = self._lines_of_path(path)
        return found[-1] if len(found) == len(path) + 1 else None

    def nearest_line(self, *path: str | int) -> int | None:
        """The line of the last step of this path that is there; None where the path has no step that is."""
        found = self._lines_of_path(path)
        return found[-1] if len(found) > 1 else None

    def _lines_of_path(self, path: tuple[str | int, ...]) -> list[int]:
        node, lines = self._root_node, [1]
        for step in path:
            if node is None:
                break
            if long_form_name(node) == step:  # `!Ref x` stands where its long form would
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
        """Where each entry of a mapping or list begins, and its value; made once, since lines are asked for often."""
        known = self._entries_by_node.get(id(node.value))
        if known is None:
            known = self._entries_by_node[id(node.value)] = child_entries(node)
        return known

    @cached_property
    def _entries_by_node(self) -> dict[int, Mapping[str | int, tuple[Any, yaml.Node]]]:
        return {}  # by the identity of a list that lives as long as the nodes do

    @cached_property
    def _line_count(self) -> int:
        # libyaml may take the end of a file for a line of its own
        return max(self.text.count("\n") + (not self.text.endswith("\n")), 1)

    @cached_property
    def _root_node(self) -> yaml.Node | None:
        return self._root or parse_json_nodes(self.text)


def read_document(name: str, content: bytes, budget: EvaluationBudget | None = None) -> Document:
    """Read one file.

    Args:
        name: in `deploy/`; how it ends tells JSON from YAML.
        content: its bytes.
        budget: of the check that this is part of; by default one for this file alone.

    Raises:
        UnreadableError: it is too large or too complex, not UTF-8, not JSON or YAML, or no mapping.
    """
    file = f"{FOLDER}/{name}"
    text = _decode_utf8(file, content)
    budget = budget or EvaluationBudget()
    # only of a template AWS reads the text itself; of the other files it is given what is read here
    unquoted = UnquotedText if name in _TEMPLATE_FILES else str
    try:
        budget.spend(0, len(text))
        if name.endswith(".json"):
            if line := spend_for_json(text, budget):
                raise UnreadableError(file, line, TOO_DEEP)
            value, root, repeated = read_json(text, unquoted)
            if _SURROGATE_ESCAPE.search(text):  # half of a pair is no text: nothing could be made of it later
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
    """Why a text cannot be read, with the line where that can be told.

    Raises:
        Exception: the same error, where it is a bug of deployer's own.
    """
    match error:
        case TooComplexError():
            return UnreadableError(file, None, error.text)
        case json.JSONDecodeError():
            return UnreadableError(file, error.lineno, f"not JSON: {error.msg}")
        case UnicodeEncodeError():
            return UnreadableError(file, None, "it is not valid Unicode: it has half of a surrogate pair")
        case yaml.MarkedYAMLError():
            # libyaml may take the end of a file for a line of its own
            last = max(len(text.splitlines()), 1)
            line = min(error.problem_mark.line + 1, last) if error.problem_mark else None
            problem = TAB if is_indented_by_tab(text, error) else f"{error.problem or error.context}"
            if not isinstance(error, UnsupportedYamlError):
                problem = f"not YAML: {problem}"
            return UnreadableError(file, line, problem)
        case ReaderError() if found := ReadsYaml.NON_PRINTABLE.search(text):
            # searched for here, since libyaml counts bytes
            line = text.count("\n", 0, found.start()) + 1
            problem = f"it has the control character U+{ord(found.group()):04X}, which YAML allows in no file"
            return UnreadableError(file, line, problem)
        case ValueError() if not raised_in(error, "yaml", "json"):
            raise error
    return UnreadableError(file, None, f"it cannot be read: {_first_line(error)}")


TAB = "a tab is used for indentation; YAML allows only spaces"
_TAB_INDENT = re.compile(r"[ ]*(?:-[ ]*)*\t")
_LINE_BREAK = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")


def is_indented_by_tab(text: str, error: yaml.MarkedYAMLError) -> bool:
    """Whether a text is no YAML because the line of the error begins with a tab.

    YAML's parsers complain in words that name no tab, or a character that nobody sees. See
    https://yaml.org/spec/1.2.2/#61-indentation-spaces
    """
    lines = _LINE_BREAK.split(text)
    at = error.problem_mark.line if error.problem_mark else len(lines)
    return at < len(lines) and bool(_TAB_INDENT.match(lines[at]))


def _decode_utf8(file: str, content: bytes) -> str:
    reject_large_file(file, len(content))
    if (at := content.find(b"\0")) >= 0:  # UTF-16 without a mark at its beginning is valid UTF-8, too
        line = content.count(b"\n", 0, at) + 1
        raise UnreadableError(file, line, f"it has a NUL character (byte {at}); save it as UTF-8 text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnreadableError(file, line, f"not UTF-8 text (byte {error.start}); save it as UTF-8") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
