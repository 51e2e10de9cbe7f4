"""Inputs that are too large for corpus files: the worst ones within the limits of deployer's input."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote_from_bytes

from deployer.github.webhook import BODY_LIMIT
from deployer.templates.folder_files import FILE_LIMIT

PIPELINE = "Resources: {P: {Type: AWS::CodePipeline::Pipeline, Properties: {Name: !Ref AWS::StackName}}}\n"

COMPLEX = "deploy/ is too complex to check"

BRACKETS = {
    "lists": b"[" * 100_000,
    "closed": b"[" * 100_000 + b"]" * 100_000,
    "objects": b'{"a":' * 100_000,
    "in-a-field": b'{"ref":' + b"[" * 100_000,
}


_scale = 1


@contextmanager
def scaled_inputs(parts: int) -> Iterator[None]:
    """Create every input inside the block at this fraction of its size."""
    global _scale  # noqa: PLW0603  the functions that create inputs have no arguments
    _scale = parts
    try:
        yield
    finally:
        _scale = 1


def fill_with(head: str, unit: str | Callable[[int], str], tail: str = "", size: int = FILE_LIMIT) -> bytes:
    """Text with as many units between head and tail as fit; a callable returns the unit of a number."""
    size //= _scale
    parts = [head]
    left = size - len(head) - len(tail)
    number = 0
    while True:
        part = unit if isinstance(unit, str) else unit(number)
        left -= len(part.encode())
        if left < 0:
            return "".join([*parts, tail]).encode()
        parts.append(part)
        number += 1


def _template_of_size(size: int) -> bytes:
    return (PIPELINE + "#" * (size - len(PIPELINE))).encode()


# `deploy/` templates with their result: a release, or an error with this text
TEMPLATES: dict[str, tuple[Callable[[], bytes], str]] = {
    "1 MB": (lambda: _template_of_size(FILE_LIMIT), "release"),
    "1 MB and a byte": (lambda: _template_of_size(FILE_LIMIT + 1), "has 1,000,001 bytes"),
    "deep lists": (lambda: fill_with("a: ", "["), "nested more than 100 levels deep"),
    "deep blocks": (lambda: fill_with("", "- "), "nested more than 100 levels deep"),
    "deep tags": (lambda: fill_with("a: ", "!Sub ["), "nested more than 100 levels deep"),
    "small keys": (lambda: fill_with(PIPELINE, lambda number: f"k{number}:\n"), COMPLEX),
    "small values": (lambda: fill_with(f"{PIPELINE}a: [", "{},", "]\n"), COMPLEX),
    "merge keys": (lambda: fill_with(f"{PIPELINE}a: {{", "<<: {},", "}\n"), COMPLEX),
    "anchors": (lambda: fill_with(f"{PIPELINE}a:\n", lambda number: f"- &a{number} 1\n"), "release"),
    "aliases": (lambda: fill_with(f"a: &a 1\n{PIPELINE}b: [", "*a,", "]\n"), "aliases are not supported"),
    "keys of one hash": (
        lambda: fill_with(f"{PIPELINE}a: {{", lambda n: f"{n * (2**61 - 1)}: ,", "}\n"),
        "release",
    ),
    "base of 60": (lambda: fill_with(f"{PIPELINE}a: 1", ":1", "\n"), "release"),
    "base of 60, broken": (lambda: fill_with(f"{PIPELINE}a: 1", ":1", ".5\n"), "release"),
    "one number": (lambda: fill_with(f"{PIPELINE}a: ", "9", "\n"), "release"),
    "directives": (
        lambda: fill_with("", lambda number: f"%TAG !{number}! x\n", f"---\n{PIPELINE}"),
        "lines that begin",
    ),
    "declared": (
        lambda: fill_with(f"{PIPELINE}Parameters:\n", lambda number: f"  p{number}:\n"),
        "CloudFormation accepts at most 200",
    ),
}

# the most expensive inputs for the permission check
TEMPLATES |= {
    "arns": (
        lambda: fill_with(
            f"{PIPELINE}Outputs: {{O: {{Value: [", '"arn:aws:iam::222222222222:role/x",', "]}}\n"
        ),
        "is of account 222222222222",
    ),
    "beginnings of arns": (
        lambda: fill_with(f"{PIPELINE}Outputs: {{O: {{Value: '", "arn::::", "'}}\n"),
        COMPLEX,
    ),
    "many texts": (
        lambda: fill_with(
            f"Parameters: {{A: {{Type: String, Default: {'a' * 4000}}}}}\n{PIPELINE}Outputs: {{O: {{Value: [",
            "!Sub '${A}${A}',",
            "]}}\n",
        ),
        COMPLEX,
    ),
    "one long text": (
        lambda: fill_with(
            f"Parameters: {{A: {{Type: String, Default: {'a' * 4000}}}}}\n{PIPELINE}Outputs: {{O: {{Value: !Sub '",
            "${A}",
            "'}}\n",
        ),
        "a value here has hundreds of possible texts",
    ),
    "nested joins": (
        lambda: fill_with(
            f"{PIPELINE}Outputs: {{O: {{Value: {'!Join [a, [b, ' * 30}", "x", "]]" * 30 + "}}\n", size=90_000
        ),
        "release",
    ),
}


def template_with_outputs(parameters: str, unit: str | Callable[[int], str]) -> Callable[[], bytes]:
    """A template of 1 MB with one output, which has as many of these values as fit."""
    return lambda: fill_with(f"{parameters}{PIPELINE}Outputs: {{O: {{Value: [", unit, "]}}\n")


_LIST = ",".join(f"v{number}" for number in range(256))
_GIVEN = (
    f"Parameters: {{L: {{Type: CommaDelimitedList, Default: '{_LIST}'}},"
    f" A: {{Type: String, Default: {'a' * 4000}}}}}\n"
)
_ARNS = "arn:a:b:c:d:"
_STAGES = PIPELINE.replace("}}}\n", ", Stages: [{Actions: [")
_VALUE = "abcdefgh" * 500 + "x"
_PATTERN = "(((a?b?c?d?e?f?g?h?){0,100}){0,10})x"

# the most expensive inputs for the evaluation; without a budget several of them took minutes
TEMPLATES |= {
    "names of texts": (
        lambda: fill_with(
            f"Parameters: {{A: {{Type: String, Default: '{_ARNS * 300}'}},"
            f" L: {{Type: CommaDelimitedList, Default: '{_LIST}'}}}}\n"
            "Resources:\n  P: {Type: AWS::CodePipeline::Pipeline, Properties: {Name: !Ref AWS::StackName}}\n"
            f"  X: {{Type: AWS::SNS::Topic, Properties: {{TopicName: !Sub '${{L}}{'${A}' * 27}'}}}}\n"
            "Outputs: {O: {Value: [", "!Ref X,", "]}}\n",
        ),
        COMPLEX,
    ),
    "lists": (template_with_outputs(_GIVEN, "!Ref L,"), COMPLEX),
    "references": (template_with_outputs("", lambda number: f"!Ref A{number},"), COMPLEX),
    "lists in texts": (template_with_outputs(_GIVEN, "!Sub '${L}${A}',"), COMPLEX),
    "choices": (template_with_outputs("", "!If [C, x, y],"), COMPLEX),
    "joins": (template_with_outputs(_GIVEN, "!Join [',', !Ref L],"), COMPLEX),
    "splits": (template_with_outputs(_GIVEN, "!Select [0, !Split [a, !Ref A]],"), COMPLEX),
    "variables": (template_with_outputs("", f"!Sub '{'${A}' * 2000}',"), COMPLEX),
    "open variables": (template_with_outputs("", f"!Sub '{'${' * 4000}',"), "release"),
    "references to secrets": (template_with_outputs("", f"'{'{{resolve:' * 1000}',"), "release"),
    "different ARNs": (template_with_outputs("", lambda number: f"'{number}{_ARNS * 300}',"), COMPLEX),
    "ARNs with lists": (template_with_outputs(_GIVEN, lambda number: f"!Sub '{number}{_ARNS * 20}${{L}}',"), COMPLEX),
    "policies": (template_with_outputs("", lambda number: f"'{{\"Principal\": \"{number}\"}}',"), "release"),
    "transforms": (template_with_outputs("", "{Fn::Transform: {Name: x}},"), COMPLEX),
    "mappings": (
        lambda: fill_with(
            PIPELINE + "Mappings: {M: {A: {B: x" + "".join(f", k{number}: v" for number in range(200))
            + "}}}\nOutputs: {O: {Value: [", "!FindInMap [M, A, !Ref X],", "]}}\n",
        ),
        COMPLEX,
    ),
    "deep leaves": (
        lambda: fill_with(PIPELINE + "Outputs: {O: {Value: " + "{a: " * 80 + "[", "x,", "]" + "}" * 82 + "\n"),
        COMPLEX,
    ),
    "actions": (
        lambda: fill_with(
            _STAGES, "{ActionTypeId: {Provider: CloudFormation}, Configuration: {StackName: x}},", "]}]}}}\n"
        ),
        "too complex",
    ),
    "loops": (
        lambda: fill_with(
            "Resources:\n  P: {Type: AWS::CodePipeline::Pipeline, Properties: {Name: !Ref AWS::StackName}}\n"
            f"  Fn::ForEach::X:\n  - V\n  - [{_LIST}]\n  - N: {{Type: AWS::SNS::Topic, Properties: {{",
            lambda number: f"k{number}: 'a${{V}}b',", "}}\n",
        ),
        COMPLEX,
    ),
    "allowed values": (
        lambda: fill_with(
            f"{PIPELINE}Parameters: {{P: {{Type: CommaDelimitedList, Default: '{',' * 4000}', AllowedValues: [",
            "aaaaaaaa,", "]}}\n",
        ),
        COMPLEX,
    ),
    "allowed patterns": (
        lambda: fill_with(
            f"{PIPELINE}Parameters:\n",
            lambda number: f"  P{number}: {{Type: String, Default: {_VALUE}, AllowedPattern: '{_PATTERN}'}}\n",
            size=800_000,
        ),
        COMPLEX,
    ),
    "parameters and keys": (
        lambda: fill_with(
            PIPELINE + "Parameters:\n" + "".join(f"  P{n}: {{Type: String, Default: x}}\n" for n in range(200)),
            lambda number: f"key-{number}: x\n",
        ),
        "release",
    ),
    "nested merges": (
        lambda: fill_with(f"{PIPELINE}a: " + "{<<: " * 90 + "{", lambda number: f"key{number}: ,", "}" * 91 + "\n"),
        COMPLEX,
    ),
}  # fmt: skip


PARAMETERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "many": (
        lambda: fill_with('{"development":{"a":1', lambda number: f',"k{number}":1', "}}"),
        "does not declare",
    ),
    "long value": (lambda: fill_with('{"development":{"a":"', "x", '"}}'), "longer than 4,096 bytes"),
    "long key": (lambda: fill_with('{"development":{"', "k", '":1}}'), "does not declare"),
    "long list": (lambda: fill_with('{"development":{"a":[', "1,", "1]}}"), COMPLEX),
    "many entries": (
        lambda: fill_with('{"development":[', '{"ParameterKey":"a","ParameterValue":1},', "{}]}"),
        "a is given twice",
    ),
    "deep": (lambda: fill_with('{"development":', "["), "nested more than 100 levels deep"),
    "small": (lambda: fill_with('{"development":{"a":[', "{},", "{}]}}"), COMPLEX),
}


def _body_size() -> int:
    return BODY_LIMIT // _scale


# payloads of 25 MB; each ends with a PayloadError with this text
PAYLOADS: dict[str, tuple[Callable[[], bytes], bool, str]] = {
    "deep lists": (lambda: b"[" * _body_size(), False, "not JSON"),
    "deep objects": (lambda: b'{"a":' * (_body_size() // 5), False, "not JSON"),
    "wide": (lambda: b'{"a":[' + b"{}," * (_body_size() // 3 - 10) + b"{}]}", False, "repository is missing"),
    "one number": (lambda: b"9" * _body_size(), False, "not JSON"),
    "long field": (
        lambda: b'{"repository":{"full_name":"' + b"x" * (_body_size() - 40) + b'"}}',
        False,
        "longer than 1,024 characters",
    ),
    "form": (
        lambda: b"payload=" + quote_from_bytes(b"{").encode() * (_body_size() // 3 - 10),
        True,
        "not JSON",
    ),
    "form of fields": (lambda: b"&" * _body_size(), True, "cannot be read"),
}
