"""Parsers for JSON and CloudFormation's YAML that produce values with the lines they come from.

An `EvaluationBudget`, which counts keys and values, and `NESTING` limit the work.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml
from yaml.composer import Composer, ComposerError
from yaml.constructor import ConstructorError

from deployer.model.errors import raised_in
from deployer.templates.evaluation.budget import NESTING, EvaluationBudget, TooComplexError

_STEPS_PER_YAML_NODE = 4  # for each key and value of YAML: composed, constructed, searched for repeated keys
_STEPS_PER_JSON_TOKEN = 2  # for each bracket, comma and colon of JSON
TOO_DEEP = f"it is nested more than {NESTING} levels deep"
_DIRECTIVE_LIMIT = 100
_DIRECTIVE = re.compile(r"^%TAG", re.MULTILINE)
_MERGE_TAG, _TEXT_TAG, _FLOAT_TAG, _MAP_TAG = (
    f"tag:yaml.org,2002:{name}" for name in ("merge", "str", "float", "map")
)
_NAMES_WITHOUT_FN = ("Ref", "Condition")  # long forms that do not begin with `Fn::`
_LOOKS_LIKE_NUMBER = re.compile(
    r"[-+.]?[0-9]|[.~=<]|[yYnN]\Z"
)  # unquoted texts that YAML parsers read differently
_LEADING_ZERO = re.compile(r"[-+]?0[0-7_]+")
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
# A string without its end extends to the end of the file. Otherwise the search would start again at each quotation
# mark in it.
_JSON_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[{\[]|[}\]]', re.DOTALL)


class UnsupportedYamlError(ComposerError):
    """Valid YAML that deployer does not accept."""


class UnquotedText(str):
    """A text without quotes that looks like a number. Another parser may read it as a number."""

    __slots__ = ()


class _Composer(Composer):
    """PyYAML's own composer, also on top of libyaml's parser, because deep nesting crashes libyaml's composer."""

    budget: EvaluationBudget
    nesting = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):  # type: ignore[attr-defined]
            mark = self.peek_event().start_mark  # type: ignore[attr-defined]
            # CloudFormation accepts no alias in a template. In any file, a few aliases could become gigabytes.
            raise UnsupportedYamlError(
                problem="anchors and aliases are not supported; write the value out", problem_mark=mark
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
        # A key is text, as in CloudFormation: `1`, `yes` and `0x10` stay as they were written.
        if isinstance(parent, yaml.MappingNode) and index is None and isinstance(node, yaml.ScalarNode):
            node.tag = node.tag if node.tag == _MERGE_TAG else _TEXT_TAG
        return node


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's parser needs a third of the time


class _TemplateLoader(_Composer, _Loader):  # type: ignore[misc]
    """Loader for CloudFormation's YAML: short forms such as `!Ref x` become their long forms."""

    def __init__(self, stream: str, budget: EvaluationBudget, unquoted: type[str]) -> None:
        _Loader.__init__(self, stream)
        _Composer.__init__(self)
        self.budget, self.unquoted = budget, unquoted

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct a node's value. A value that does not fit its tag is an error with its line."""
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, ValueError) as error:
            if not raised_in(error, "yaml"):
                raise
            shown = repr(node.value[:50]) if isinstance(node, yaml.ScalarNode) else "it"
            problem = f"{shown} is not a valid {node.tag.rpartition(':')[2]}"
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
    """The long form's name: `Ref` for `!Ref`, `Fn::Sub` for `!Sub`; None if the node is not a short form."""
    if not node.tag.startswith("!") or node.tag == "!":
        return None
    name = node.tag[1:]
    return name if name in _NAMES_WITHOUT_FN else f"Fn::{name}"


def long_form_node(node: Any) -> yaml.Node:
    """The node as the value inside its long form, without the tag."""
    return type(node)(_MAP_TAG, node.value, node.start_mark)  # type: ignore[no-any-return]


def child_entries(node: yaml.Node) -> Mapping[str | int, tuple[Any, yaml.Node]]:
    """Start position and value of each entry of a mapping or list, by key or list position; empty for a scalar."""
    if isinstance(node, yaml.MappingNode):  # the last of two equal keys counts, as in the values
        keyed = ((key, value) for key, value in node.value if isinstance(key, yaml.ScalarNode))
        return {key.value: (key.start_mark, value) for key, value in keyed}
    if isinstance(node, yaml.SequenceNode):
        return {position: (value.start_mark, value) for position, value in enumerate(node.value)}
    return {}


def parse_json_nodes(text: str) -> yaml.Node | None:
    """Build the nodes of a text that is known to be JSON. A loop replaces recursion, so nesting has no limit here."""
    root: yaml.Node | None = None
    open_nodes: list[Any] = []
    keys: list[yaml.ScalarNode | None] = []  # for each open node: the key whose value comes next
    line, position = 0, 0
    for token in _JSON_TOKEN.finditer(text):
        line += text.count("\n", position, token.start())
        position = token.start()
        symbol = token.group()
        if symbol in ",:":
            continue
        if symbol in "}]":
            open_nodes.pop()
            keys.pop()
            continue
        mark = yaml.Mark("", position, line, 0, None, 0)
        node: Any
        if symbol == "{":
            node = yaml.MappingNode(_MAP_TAG, [], mark)
        elif symbol == "[":
            node = yaml.SequenceNode("", [], mark)
        else:
            node = yaml.ScalarNode(_TEXT_TAG, json.loads(symbol) if symbol.startswith('"') else symbol, mark)
        if not open_nodes:
            root = root or node
        elif isinstance(open_nodes[-1], yaml.SequenceNode):
            open_nodes[-1].value.append(node)
        elif keys[-1] is None:
            keys[-1] = node
        else:
            open_nodes[-1].value.append((keys[-1], node))
            keys[-1] = None
        if symbol in "{[":
            open_nodes.append(node)
            keys.append(None)
    return root


def spend_for_json(text: str, budget: EvaluationBudget) -> int | None:
    """Spend the budget that parsing a text as JSON needs; return the line where it is nested too deeply, else None.

    Python's parser raises RecursionError at a depth that depends on its caller. This limit is the same everywhere.

    Raises:
        TooComplexError: the text contains too many values.
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
    """Read a whole number. Beyond 4300 digits, which Python refuses to print, return its text instead."""
    try:
        value = read()
        str(value)
    except ValueError:
        return unquoted(text)
    return value


def _construct_number(loader: Any, node: yaml.Node) -> Any:
    text = loader.construct_scalar(node)  # raises an error for a mapping or a list with this tag
    # JSON, and so CloudFormation, has no base-60 numbers; converting a long one would take minutes
    if ":" in text:
        return loader.unquoted(text)
    if node.tag == _FLOAT_TAG:
        return loader.construct_yaml_float(node)
    if _LEADING_ZERO.fullmatch(text):  # an account ID is not an octal number
        return loader.unquoted(text)
    return read_integer(text, lambda: loader.construct_yaml_int(node), loader.unquoted)


def _construct_text(loader: Any, node: Any) -> Any:
    text = loader.construct_yaml_str(node)
    return loader.unquoted(text) if not node.style and _LOOKS_LIKE_NUMBER.match(text) else text


_TemplateLoader.add_multi_constructor("!", _construct_long_form)
# Dates stay text: JSON has no dates, so neither CloudFormation nor deployer's settings have any. `=` and `<<` have
# types of their own in YAML 1.1, to which no parser gives a meaning.
for _tag in (_TEXT_TAG, _MERGE_TAG, *(f"tag:yaml.org,2002:{name}" for name in ("timestamp", "value"))):
    _TemplateLoader.add_constructor(_tag, _construct_text)
_TemplateLoader.add_constructor("tag:yaml.org,2002:int", _construct_number)
_TemplateLoader.add_constructor(_FLOAT_TAG, _construct_number)


def read_yaml(
    text: str, budget: EvaluationBudget, unquoted: type[str] = str
) -> tuple[Any, yaml.Node | None, list[tuple[str, int]]]:
    """Parse YAML into its value, its root node and the repeated keys with their lines.

    Args:
        text: the YAML.
        budget: the work is spent from this budget.
        unquoted: the type of a text without quotes that looks like a number.

    Raises:
        YAMLError: the text is not YAML, or deployer does not accept it.
        TooComplexError: the budget is not sufficient.
    """
    if len(_DIRECTIVE.findall(text)) > _DIRECTIVE_LIMIT:  # libyaml compares each one with all before it
        raise yaml.YAMLError(f"it has more than {_DIRECTIVE_LIMIT} lines that begin with %TAG")
    loader = _TemplateLoader(text, budget, unquoted)
    try:
        root = loader.get_single_node()
        repeated = repeated_keys(root)  # before merge keys are applied, because they may repeat keys
        value = None if root is None else loader.construct_document(root)
    finally:
        loader.dispose()
    return value, root, repeated


def read_json(text: str, unquoted: type[str] = str) -> tuple[Any, yaml.Node | None, list[tuple[str, int]]]:
    """Parse JSON into the same three results as `read_yaml`. Nodes are built only if a key appears twice.

    Raises:
        ValueError: the text is not JSON.
    """
    repeats: list[bool] = []

    def refuse(constant: str) -> None:  # Python accepts NaN and Infinity, JSON does not
        # Without a separator, as in `NaNx`, the constant is only the beginning of a token.
        found = (each.start() for each in _JSON_TOKEN.finditer(text) if each.group().startswith(constant))
        raise json.JSONDecodeError(f"{constant} is not a number in JSON", text, next(found, 0))

    value = json.loads(
        text,
        parse_constant=refuse,
        parse_int=lambda digits: read_integer(digits, lambda: int(digits), unquoted),
        object_pairs_hook=lambda pairs: build_object_noting_repeats(pairs, repeats),
    )
    root = parse_json_nodes(text) if repeats else None
    return value, root, repeated_keys(root)


def build_object_noting_repeats(pairs: list[tuple[str, Any]], repeats: list[bool]) -> dict[str, Any]:
    """Build a JSON object from its pairs, and add an entry to `repeats` if a key appears twice."""
    built = dict(pairs)
    if len(built) < len(pairs):
        repeats.append(True)
    return built


def repeated_keys(root: yaml.Node | None) -> list[tuple[str, int]]:
    """Each key that appears again in the same mapping, with its line."""
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
