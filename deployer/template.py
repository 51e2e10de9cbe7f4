"""Reads the files of a `deploy/` folder: JSON, or YAML as CloudFormation writes it, and where in them something stands.

Anybody who can push a branch writes these files: whatever they hold ends in a value or in one clear line.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.constructor import ConstructorError

from deployer.errors import PermanentError

FOLDER = "deploy"
SUFFIXES = (".json", ".yml", ".yaml")
FILE_LIMIT = 1_000_000  # bytes; what CloudFormation takes of a template by S3
_NODE_LIMIT = 250_000  # keys and values; a template of 1 MB that people write has a third of it
_DIRECTIVE_LIMIT = 100
_DIRECTIVE = re.compile(r"^%TAG", re.MULTILINE)
_MERGE, _TEXT, _FLOAT, _MAP = (f"tag:yaml.org,2002:{name}" for name in ("merge", "str", "float", "map"))
_PLAIN = ("Ref", "Condition")  # short forms whose long form has no `Fn::`
_LEADING_ZERO = re.compile(r"[-+]?0[0-7_]+")
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


class UnreadableError(PermanentError):
    """A file cannot be read, or is not what it should be.

    Args:
        file: its path in the repository.
        line: where, counted from 1; None where that cannot be told.
        text: what is wrong.

    Attributes:
        others: what else is wrong in the same file.
    """

    def __init__(self, file: str, line: int | None, text: str) -> None:
        super().__init__(f"{at(file, line)}: {text}")
        self.file, self.line, self.text = file, line, text
        self.others: list[UnreadableError] = []


def at(file: str, line: int | None) -> str:
    """A place as editors and terminals link it: `file:line`."""
    return f"{file}:{line}" if line else file


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
        found = self._walk(path)
        return found[-1] if len(found) == len(path) + 1 else None

    def nearest_line(self, *path: str | int) -> int | None:
        """The line of the last step of this path that is there; None where the path has no step that is."""
        found = self._walk(path)
        return found[-1] if len(found) > 1 else None

    def _walk(self, path: tuple[str | int, ...]) -> list[int]:
        node, lines = self._positions, [1]
        for step in path:
            if node is None:
                break
            if _long_name(node) == step:  # `!Ref x` stands where its long form would
                lines.append(lines[-1])
                node = None if isinstance(node, yaml.ScalarNode) else _untagged(node)
                continue
            found = _entry(node, step)
            if found is None:
                break
            mark, node = found
            lines.append(mark.line + 1)
        return [min(line, self._lines) for line in lines]

    @cached_property
    def _lines(self) -> int:
        # libyaml may take the end of a file for a line of its own
        return max(self.text.count("\n") + (not self.text.endswith("\n")), 1)

    @cached_property
    def _positions(self) -> yaml.Node | None:
        return self._root or _json_nodes(self.text)


class _Composer(Composer):
    """PyYAML's own composer, also over libyaml's parser: libyaml's composer dies of deep nesting, with its process."""

    nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):  # type: ignore[attr-defined]
            raise yaml.YAMLError("anchors and aliases are not supported by CloudFormation")
        self.nodes += 1
        if self.nodes > _NODE_LIMIT:
            raise yaml.YAMLError(f"it has more than {_NODE_LIMIT:,} keys and values")
        node = super().compose_node(parent, index)
        # a key is text, as in CloudFormation: `1`, `yes` and `0x10` stay what was written
        if isinstance(parent, yaml.MappingNode) and index is None and isinstance(node, yaml.ScalarNode):
            node.tag = node.tag if node.tag == _MERGE else _TEXT
        return node


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's parser takes a third of the time


class _TemplateLoader(_Composer, _Loader):  # type: ignore[misc]
    """YAML as CloudFormation writes it: `!Ref x` and its kin become their long forms."""

    def __init__(self, stream: str) -> None:
        _Loader.__init__(self, stream)
        _Composer.__init__(self)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Make a node's value; one that is not what its tag says is told with its line."""
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, ValueError) as error:
            shown = repr(node.value[:50]) if isinstance(node, yaml.ScalarNode) else "it"
            problem = f"{shown} is no {node.tag.rpartition(':')[2]}"
            raise ConstructorError(problem=problem, problem_mark=node.start_mark) from error


def _long_form(loader: Any, _suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = node.value
    name = _long_name(node)
    if name == "Fn::GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {name: value} if name else value


def _long_name(node: yaml.Node) -> str | None:
    """`Ref` of `!Ref`, `Fn::Sub` of `!Sub`; None where there is no short form."""
    if not node.tag.startswith("!") or node.tag == "!":
        return None
    name = node.tag[1:]
    return name if name in _PLAIN else f"Fn::{name}"


def _untagged(node: Any) -> yaml.Node:
    """The same node as it stands within its long form."""
    return type(node)(_MAP, node.value, node.start_mark)  # type: ignore[no-any-return]


def _entry(node: yaml.Node, step: str | int) -> tuple[Any, yaml.Node] | None:
    """Where an entry of a mapping or list begins, and its value."""
    if isinstance(node, yaml.MappingNode):
        for key, value in reversed(node.value):  # of two of one name the last counts, as in the values
            if isinstance(key, yaml.ScalarNode) and key.value == step:
                return key.start_mark, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark, node.value[step]
    return None


def _json_nodes(text: str) -> yaml.Node | None:
    """The nodes of a text that is known to be JSON. It goes in a loop: no nesting is too deep for it."""
    root: yaml.Node | None = None
    open_nodes: list[Any] = []
    keys: list[yaml.ScalarNode | None] = []  # of each open node: the key that waits for its value
    line, position = 0, 0
    for token in _JSON_TOKEN.finditer(text):
        line += text.count("\n", position, token.start())
        position = token.start()
        word = token.group()
        if word in ",:":
            continue
        if word in "}]":
            open_nodes.pop()
            keys.pop()
            continue
        mark = yaml.Mark("", position, line, 0, None, 0)
        node: Any
        if word == "{":
            node = yaml.MappingNode(_MAP, [], mark)
        elif word == "[":
            node = yaml.SequenceNode("", [], mark)
        else:
            node = yaml.ScalarNode(_TEXT, json.loads(word) if word.startswith('"') else word, mark)
        if not open_nodes:
            root = root or node
        elif isinstance(open_nodes[-1], yaml.SequenceNode):
            open_nodes[-1].value.append(node)
        elif keys[-1] is None:
            keys[-1] = node
        else:
            open_nodes[-1].value.append((keys[-1], node))
            keys[-1] = None
        if word in "{[":
            open_nodes.append(node)
            keys.append(None)
    return root


def _integer(text: str, read: Callable[[], Any]) -> Any:
    """A whole number, or its text where Python could not write it again: beyond 4300 digits it refuses to."""
    try:
        value = read()
        str(value)
    except ValueError:
        return text
    return value


def _number(loader: Any, node: yaml.Node) -> Any:
    text = loader.construct_scalar(node)  # which refuses a mapping or list that is tagged so
    # numbers to the base of 60 are no JSON, so no CloudFormation; a long one takes minutes
    if ":" in text:
        return text
    if node.tag == _FLOAT:
        return loader.construct_yaml_float(node)
    if _LEADING_ZERO.fullmatch(text):  # an account's id is no octal number
        return text
    return _integer(text, lambda: loader.construct_yaml_int(node))


_TemplateLoader.add_multi_constructor("!", _long_form)
_TemplateLoader.add_constructor("tag:yaml.org,2002:int", _number)
_TemplateLoader.add_constructor(_FLOAT, _number)


def pick(files: Mapping[str, bytes], stem: str) -> str | None:
    """The name of the file of this stem: `pipeline` is `pipeline.json`, `.yml` or `.yaml`; None if there is none.

    Raises:
        UnreadableError: there are several.
    """
    found = [stem + suffix for suffix in SUFFIXES if stem + suffix in files]
    if len(found) > 1:
        raise UnreadableError(f"{FOLDER}/", None, f"it has {' and '.join(found)}; keep one of them")
    return found[0] if found else None


def read(name: str, content: bytes) -> Document:
    """Read one file.

    Args:
        name: in `deploy/`; how it ends tells JSON from YAML.
        content: its bytes.

    Raises:
        UnreadableError: it is too large, not UTF-8, not JSON or YAML, or no mapping.
    """
    file = f"{FOLDER}/{name}"
    text = _decode(file, content)
    repeated: list[tuple[str, int]] = []
    root: yaml.Node | None = None
    try:
        if name.endswith(".json"):
            repeats: list[bool] = []
            value = json.loads(
                text,
                parse_int=lambda digits: _integer(digits, lambda: int(digits)),
                object_pairs_hook=lambda pairs: _object(pairs, repeats),
            )
            if repeats:
                root = _json_nodes(text)
                repeated = _repeated(root)
        else:
            value, root, repeated = _yaml(text)
    except json.JSONDecodeError as error:
        raise UnreadableError(file, error.lineno, f"not JSON: {error.msg}") from error
    except yaml.MarkedYAMLError as error:
        # libyaml may take the end of a file for a line of its own
        last = max(len(text.splitlines()), 1)
        line = min(error.problem_mark.line + 1, last) if error.problem_mark else None
        raise UnreadableError(file, line, f"not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UnreadableError(file, None, f"it cannot be read: {_one_line(error)}") from error
    if not isinstance(value, dict):
        raise UnreadableError(file, 1, "it is not a mapping at its top level")
    return Document(file, text, value, tuple(repeated), root)


def _decode(file: str, content: bytes) -> str:
    if len(content) > FILE_LIMIT:
        raise UnreadableError(
            file, None, f"it has {len(content):,} bytes; at most {FILE_LIMIT:,} are allowed"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnreadableError(file, line, f"not UTF-8 text (byte {error.start})") from error


def _yaml(text: str) -> tuple[Any, yaml.Node | None, list[tuple[str, int]]]:
    if len(_DIRECTIVE.findall(text)) > _DIRECTIVE_LIMIT:  # libyaml compares each with all before it
        raise yaml.YAMLError(f"it has more than {_DIRECTIVE_LIMIT} lines that begin with %TAG")
    loader = _TemplateLoader(text)
    try:
        root = loader.get_single_node()
        repeated = _repeated(root)  # before merge keys are merged, which may repeat
        value = None if root is None else loader.construct_document(root)
    finally:
        loader.dispose()
    return value, root, repeated


def _object(pairs: list[tuple[str, Any]], repeats: list[bool]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        repeats.append(True)
    return made


def _repeated(root: yaml.Node | None) -> list[tuple[str, int]]:
    """Each key that stands in its mapping already, with its line."""
    found, left = [], [root]
    while left:
        node = left.pop()
        if isinstance(node, yaml.MappingNode):
            found += _twice(node)
            left += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            left += node.value
    return sorted(found, key=lambda each: each[1])


def _twice(node: yaml.MappingNode) -> list[tuple[str, int]]:
    found, seen = [], set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
            if key.value in seen:
                found.append((key.value, key.start_mark.line + 1))
            seen.add(key.value)
    return found


def _one_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
