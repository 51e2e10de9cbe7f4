"""The syntax of the files in `deploy/`: JSON and CloudFormation's YAML as values, and as nodes that know their lines.

All of it is bounded: by an `EvaluationBudget`, which counts keys and values, and by `NESTING`.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml
from yaml.composer import Composer, ComposerError
from yaml.constructor import ConstructorError

from deployer.errors import raised_in
from deployer.evaluation_budget import NESTING, EvaluationBudget, TooComplexError

_STEPS_PER_YAML_NODE = (
    4  # of the budget, for each key and value of YAML: composed, constructed, searched for repeats
)
_STEPS_PER_JSON_TOKEN = 2  # likewise, for each bracket, comma and colon of JSON
TOO_DEEP = f"it is nested more than {NESTING} levels deep"
_DIRECTIVE_LIMIT = 100
_DIRECTIVE = re.compile(r"^%TAG", re.MULTILINE)
_MERGE_TAG, _TEXT_TAG, _FLOAT_TAG, _MAP_TAG = (
    f"tag:yaml.org,2002:{name}" for name in ("merge", "str", "float", "map")
)
_NAMES_WITHOUT_FN = ("Ref", "Condition")  # short forms whose long form has no `Fn::`
_LOOKS_LIKE_NUMBER = re.compile(
    r"[-+.]?[0-9]|[.~=<]|[yYnN]\Z"
)  # plain texts that YAML's readers take differently
_LEADING_ZERO = re.compile(r"[-+]?0[0-7_]+")
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
# a text without its end reaches to the end of the file, or each quotation mark in it would be searched from again
_JSON_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[{\[]|[}\]]', re.DOTALL)


class UnsupportedYamlError(ComposerError):
    """What is YAML, and is refused all the same."""


class UnquotedText(str):
    """A text that was written without quotes and looks like a number: another reader may take it for one."""

    __slots__ = ()


class _Composer(Composer):
    """PyYAML's own composer, also over libyaml's parser: libyaml's composer dies of deep nesting, with its process."""

    budget: EvaluationBudget
    nesting = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):  # type: ignore[attr-defined]
            mark = self.peek_event().start_mark  # type: ignore[attr-defined]
            # CloudFormation takes no alias in a template; in all files it would let a few lines be gigabytes
            raise UnsupportedYamlError(
                problem="anchors and aliases are not supported; write it out", problem_mark=mark
            )
        self.nesting += 1
        try:
            if self.nesting > NESTING:
                raise TooComplexError(TOO_DEEP)
            self.budget.spend(_STEPS_PER_YAML_NODE)
        except TooComplexError as error:
            mark = self.peek_event().start_mark  # type: ignore[attr-defined]
            raise UnsupportedYamlError(problem=error.text, problem_mark=mark) from error
        node = super().compose_node(parent, index)
        self.nesting -= 1
        # a key is text, as in CloudFormation: `1`, `yes` and `0x10` stay what was written
        if isinstance(parent, yaml.MappingNode) and index is None and isinstance(node, yaml.ScalarNode):
            node.tag = node.tag if node.tag == _MERGE_TAG else _TEXT_TAG
        return node


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's parser takes a third of the time


class _TemplateLoader(_Composer, _Loader):  # type: ignore[misc]
    """YAML as CloudFormation writes it: `!Ref x` and its kin become their long forms."""

    def __init__(self, stream: str, budget: EvaluationBudget, unquoted: type[str]) -> None:
        _Loader.__init__(self, stream)
        _Composer.__init__(self)
        self.budget, self.unquoted = budget, unquoted

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Make a node's value; one that is not what its tag says is told with its line."""
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, ValueError) as error:
            if not raised_in(error, "yaml"):
                raise
            shown = repr(node.value[:50]) if isinstance(node, yaml.ScalarNode) else "it"
            problem = f"{shown} is no {node.tag.rpartition(':')[2]}"
            raise ConstructorError(problem=problem, problem_mark=node.start_mark) from error


def _construct_long_form(loader: Any, _suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = node.value
    name = long_form_name(node)
    if name == "Fn::GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {name: value} if name else value


def long_form_name(node: yaml.Node) -> str | None:
    """`Ref` of `!Ref`, `Fn::Sub` of `!Sub`; None where there is no short form."""
    if not node.tag.startswith("!") or node.tag == "!":
        return None
    name = node.tag[1:]
    return name if name in _NAMES_WITHOUT_FN else f"Fn::{name}"


def long_form_node(node: Any) -> yaml.Node:
    """The same node as it stands within its long form."""
    return type(node)(_MAP_TAG, node.value, node.start_mark)  # type: ignore[no-any-return]


def child_entries(node: yaml.Node) -> Mapping[str | int, tuple[Any, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):  # of two of one name the last counts, as in the values
        keyed = ((key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode))
        return {key.value: (key.start_mark, value) for key, value in keyed}
    if isinstance(node, yaml.SequenceNode):
        return {position: (value.start_mark, value) for position, value in enumerate(node.value)}
    return {}


def parse_json_nodes(text: str) -> yaml.Node | None:
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
            node = yaml.MappingNode(_MAP_TAG, [], mark)
        elif word == "[":
            node = yaml.SequenceNode("", [], mark)
        else:
            node = yaml.ScalarNode(_TEXT_TAG, json.loads(word) if word.startswith('"') else word, mark)
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


def spend_for_json(text: str, budget: EvaluationBudget) -> int | None:
    """Take from a budget what it will cost to read a text as JSON; give the line where it is nested too deeply, if any.

    Python's reader raises RecursionError at a depth that depends on who calls it; this bound is the same everywhere.

    Raises:
        TooComplexError: it has too many values.
    """
    nesting = 0
    if text.count("{") + text.count("[") > NESTING:
        for found in _JSON_STRING_OR_BRACKET.finditer(text):
            first = text[found.start()]
            nesting += (first in "{[") - (first in "}]")
            if nesting > NESTING:
                return text.count("\n", 0, found.start()) + 1
    budget.spend(sum(text.count(each) for each in "{[,:") * _STEPS_PER_JSON_TOKEN)
    return None


def read_integer(text: str, read: Callable[[], Any], unquoted: type[str] = str) -> Any:
    """A whole number, or its text where Python could not write it again: beyond 4300 digits it refuses to."""
    try:
        value = read()
        str(value)
    except ValueError:
        return unquoted(text)
    return value


def _construct_number(loader: Any, node: yaml.Node) -> Any:
    text = loader.construct_scalar(node)  # which refuses a mapping or list that is tagged so
    # numbers to the base of 60 are no JSON, so no CloudFormation; a long one takes minutes
    if ":" in text:
        return loader.unquoted(text)
    if node.tag == _FLOAT_TAG:
        return loader.construct_yaml_float(node)
    if _LEADING_ZERO.fullmatch(text):  # an account's id is no octal number
        return loader.unquoted(text)
    return read_integer(text, lambda: loader.construct_yaml_int(node), loader.unquoted)


def _construct_text(loader: Any, node: Any) -> Any:
    text = loader.construct_yaml_str(node)
    return loader.unquoted(text) if not node.style and _LOOKS_LIKE_NUMBER.match(text) else text


_TemplateLoader.add_multi_constructor("!", _construct_long_form)
# Dates are text: JSON has none, so neither CloudFormation nor a setting of deployer has any. `=` and `<<` are types of
# their own in YAML 1.1 that no reader makes anything of
for _tag in (_TEXT_TAG, _MERGE_TAG, *(f"tag:yaml.org,2002:{name}" for name in ("timestamp", "value"))):
    _TemplateLoader.add_constructor(_tag, _construct_text)
_TemplateLoader.add_constructor("tag:yaml.org,2002:int", _construct_number)
_TemplateLoader.add_constructor(_FLOAT_TAG, _construct_number)


def read_yaml(
    text: str, budget: EvaluationBudget, unquoted: type[str] = str
) -> tuple[Any, yaml.Node | None, list[tuple[str, int]]]:
    if len(_DIRECTIVE.findall(text)) > _DIRECTIVE_LIMIT:  # libyaml compares each with all before it
        raise yaml.YAMLError(f"it has more than {_DIRECTIVE_LIMIT} lines that begin with %TAG")
    loader = _TemplateLoader(text, budget, unquoted)
    try:
        root = loader.get_single_node()
        repeated = repeated_keys(root)  # before merge keys are merged, which may repeat
        value = None if root is None else loader.construct_document(root)
    finally:
        loader.dispose()
    return value, root, repeated


def read_json(text: str, unquoted: type[str] = str) -> tuple[Any, yaml.Node | None, list[tuple[str, int]]]:
    """What `read_yaml` gives, of JSON. The nodes are made only where a key stands twice.

    Raises:
        ValueError: it is not JSON.
    """
    repeats: list[bool] = []

    def refuse(constant: str) -> None:  # which Python reads, and JSON does not have
        # without a separator after it, as in `NaNx`, the constant is only the beginning of a token
        found = (each.start() for each in _JSON_TOKEN.finditer(text) if each.group().startswith(constant))
        raise json.JSONDecodeError(f"{constant} is no number in JSON", text, next(found, 0))

    value = json.loads(
        text,
        parse_constant=refuse,
        parse_int=lambda digits: read_integer(digits, lambda: int(digits), unquoted),
        object_pairs_hook=lambda pairs: build_object(pairs, repeats),
    )
    root = parse_json_nodes(text) if repeats else None
    return value, root, repeated_keys(root)


def build_object(pairs: list[tuple[str, Any]], repeats: list[bool]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        repeats.append(True)
    return made


def repeated_keys(root: yaml.Node | None) -> list[tuple[str, int]]:
    """Each key that stands in its mapping already, with its line."""
    found, left = [], [root]
    while left:
        node = left.pop()
        if isinstance(node, yaml.MappingNode):
            found += _repeats_in_mapping(node)
            left += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            left += node.value
    return sorted(found, key=lambda each: each[1])


def _repeats_in_mapping(node: yaml.MappingNode) -> list[tuple[str, int]]:
    found, seen = [], set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE_TAG:
            if key.value in seen:
                found.append((key.value, key.start_mark.line + 1))
            seen.add(key.value)
    return found
