"""Inputs too large to be files: the worst that fits into what deployer reads."""

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
def scaled(parts: int) -> Iterator[None]:
    """Within it every input is made of this part of its size."""
    global _scale  # noqa: PLW0603  the inputs are made without arguments
    _scale = parts
    try:
        yield
    finally:
        _scale = 1


def filled(head: str, unit: str | Callable[[int], str], tail: str = "", size: int = FILE_LIMIT) -> bytes:
    """As many units between head and tail as fit; a callable makes the unit of each number."""
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


def _exactly(size: int) -> bytes:
    return (PIPELINE + "#" * (size - len(PIPELINE))).encode()


# how `deploy/` files end: with a release, or with an error that says this
TEMPLATES: dict[str, tuple[Callable[[], bytes], str]] = {
    "1 MB": (lambda: _exactly(FILE_LIMIT), "release"),
    "1 MB and a byte": (lambda: _exactly(FILE_LIMIT + 1), "has 1,000,001 bytes"),
    "deep lists": (lambda: filled("a: ", "["), "nested more than 100 levels deep"),
    "deep blocks": (lambda: filled("", "- "), "nested more than 100 levels deep"),
    "deep tags": (lambda: filled("a: ", "!Sub ["), "nested more than 100 levels deep"),
    "small keys": (lambda: filled(PIPELINE, lambda number: f"k{number}:\n"), COMPLEX),
    "small values": (lambda: filled(f"{PIPELINE}a: [", "{},", "]\n"), COMPLEX),
    "merge keys": (lambda: filled(f"{PIPELINE}a: {{", "<<: {},", "}\n"), COMPLEX),
    "anchors": (lambda: filled(f"{PIPELINE}a:\n", lambda number: f"- &a{number} 1\n"), "release"),
    "aliases": (lambda: filled(f"a: &a 1\n{PIPELINE}b: [", "*a,", "]\n"), "aliases are not supported"),
    "keys of one hash": (
        lambda: filled(f"{PIPELINE}a: {{", lambda n: f"{n * (2**61 - 1)}: ,", "}\n"),
        "release",
    ),
    "base of 60": (lambda: filled(f"{PIPELINE}a: 1", ":1", "\n"), "release"),
    "base of 60, broken": (lambda: filled(f"{PIPELINE}a: 1", ":1", ".5\n"), "release"),
    "one number": (lambda: filled(f"{PIPELINE}a: ", "9", "\n"), "release"),
    "directives": (
        lambda: filled("", lambda number: f"%TAG !{number}! x\n", f"---\n{PIPELINE}"),
        "lines that begin",
    ),
    "declared": (
        lambda: filled(f"{PIPELINE}Parameters:\n", lambda number: f"  p{number}:\n"),
        "CloudFormation accepts at most 200",
    ),
}

# what the look at rights has most to do with
TEMPLATES |= {
    "arns": (
        lambda: filled(f"{PIPELINE}Outputs: {{O: {{Value: [", '"arn:aws:iam::222222222222:role/x",', "]}}\n"),
        "is of account 222222222222",
    ),
    "beginnings of arns": (
        lambda: filled(f"{PIPELINE}Outputs: {{O: {{Value: '", "arn::::", "'}}\n"),
        COMPLEX,
    ),
    "many texts": (
        lambda: filled(
            f"Parameters: {{A: {{Type: String, Default: {'a' * 4000}}}}}\n{PIPELINE}Outputs: {{O: {{Value: [",
            "!Sub '${A}${A}',",
            "]}}\n",
        ),
        COMPLEX,
    ),
    "one long text": (
        lambda: filled(
            f"Parameters: {{A: {{Type: String, Default: {'a' * 4000}}}}}\n{PIPELINE}Outputs: {{O: {{Value: !Sub '",
            "${A}",
            "'}}\n",
        ),
        "a value here has hundreds of possible texts",
    ),
    "nested joins": (
        lambda: filled(
            f"{PIPELINE}Outputs: {{O: {{Value: {'!Join [a, [b, ' * 30}", "x", "]]" * 30 + "}}\n", size=90_000
        ),
        "release",
    ),
}


def outputs(parameters: str, unit: str | Callable[[int], str]) -> Callable[[], bytes]:
    """A template of 1 MB whose one output has as many of these values as fit."""
    return lambda: filled(f"{parameters}{PIPELINE}Outputs: {{O: {{Value: [", unit, "]}}\n")


_LIST = ",".join(f"v{number}" for number in range(256))
_GIVEN = (
    f"Parameters: {{L: {{Type: CommaDelimitedList, Default: '{_LIST}'}},"
    f" A: {{Type: String, Default: {'a' * 4000}}}}}\n"
)
_ARNS = "arn:a:b:c:d:"
_STAGES = PIPELINE.replace("}}}\n", ", Stages: [{Actions: [")
_VALUE = "abcdefgh" * 500 + "x"
_PATTERN = "(((a?b?c?d?e?f?g?h?){0,100}){0,10})x"

# what the evaluation has most to do with; without a budget several of them took minutes
TEMPLATES |= {
    "names of texts": (
        lambda: filled(
            f"Parameters: {{A: {{Type: String, Default: '{_ARNS * 300}'}},"
            f" L: {{Type: CommaDelimitedList, Default: '{_LIST}'}}}}\n"
            "Resources:\n  P: {Type: AWS::CodePipeline::Pipeline, Properties: {Name: !Ref AWS::StackName}}\n"
            f"  X: {{Type: AWS::SNS::Topic, Properties: {{TopicName: !Sub '${{L}}{'${A}' * 27}'}}}}\n"
            "Outputs: {O: {Value: [", "!Ref X,", "]}}\n",
        ),
        COMPLEX,
    ),
    "lists": (outputs(_GIVEN, "!Ref L,"), COMPLEX),
    "references": (outputs("", lambda number: f"!Ref A{number},"), COMPLEX),
    "lists in texts": (outputs(_GIVEN, "!Sub '${L}${A}',"), COMPLEX),
    "choices": (outputs("", "!If [C, x, y],"), COMPLEX),
    "joins": (outputs(_GIVEN, "!Join [',', !Ref L],"), COMPLEX),
    "splits": (outputs(_GIVEN, "!Select [0, !Split [a, !Ref A]],"), COMPLEX),
    "variables": (outputs("", f"!Sub '{'${A}' * 2000}',"), COMPLEX),
    "open variables": (outputs("", f"!Sub '{'${' * 4000}',"), "release"),
    "references to secrets": (outputs("", f"'{'{{resolve:' * 1000}',"), "release"),
    "different ARNs": (outputs("", lambda number: f"'{number}{_ARNS * 300}',"), COMPLEX),
    "ARNs with lists": (outputs(_GIVEN, lambda number: f"!Sub '{number}{_ARNS * 20}${{L}}',"), COMPLEX),
    "policies": (outputs("", lambda number: f"'{{\"Principal\": \"{number}\"}}',"), "release"),
    "transforms": (outputs("", "{Fn::Transform: {Name: x}},"), COMPLEX),
    "mappings": (
        lambda: filled(
            PIPELINE + "Mappings: {M: {A: {B: x" + "".join(f", k{number}: v" for number in range(200))
            + "}}}\nOutputs: {O: {Value: [", "!FindInMap [M, A, !Ref X],", "]}}\n",
        ),
        COMPLEX,
    ),
    "deep leaves": (
        lambda: filled(PIPELINE + "Outputs: {O: {Value: " + "{a: " * 80 + "[", "x,", "]" + "}" * 82 + "\n"),
        COMPLEX,
    ),
    "actions": (
        lambda: filled(
            _STAGES, "{ActionTypeId: {Provider: CloudFormation}, Configuration: {StackName: x}},", "]}]}}}\n"
        ),
        "no source action",
    ),
    "loops": (
        lambda: filled(
            "Resources:\n  P: {Type: AWS::CodePipeline::Pipeline, Properties: {Name: !Ref AWS::StackName}}\n"
            f"  Fn::ForEach::X:\n  - V\n  - [{_LIST}]\n  - N: {{Type: AWS::SNS::Topic, Properties: {{",
            lambda number: f"k{number}: 'a${{V}}b',", "}}\n",
        ),
        COMPLEX,
    ),
    "allowed values": (
        lambda: filled(
            f"{PIPELINE}Parameters: {{P: {{Type: CommaDelimitedList, Default: '{',' * 4000}', AllowedValues: [",
            "aaaaaaaa,", "]}}\n",
        ),
        COMPLEX,
    ),
    "allowed patterns": (
        lambda: filled(
            f"{PIPELINE}Parameters:\n",
            lambda number: f"  P{number}: {{Type: String, Default: {_VALUE}, AllowedPattern: '{_PATTERN}'}}\n",
            size=800_000,
        ),
        COMPLEX,
    ),
    "parameters and keys": (
        lambda: filled(
            PIPELINE + "Parameters:\n" + "".join(f"  P{n}: {{Type: String, Default: x}}\n" for n in range(200)),
            lambda number: f"key-{number}: x\n",
        ),
        "release",
    ),
    "nested merges": (
        lambda: filled(f"{PIPELINE}a: " + "{<<: " * 90 + "{", lambda number: f"key{number}: ,", "}" * 91 + "\n"),
        COMPLEX,
    ),
}  # fmt: skip


PARAMETERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "many": (
        lambda: filled('{"development":{"a":1', lambda number: f',"k{number}":1', "}}"),
        "does not declare",
    ),
    "long value": (lambda: filled('{"development":{"a":"', "x", '"}}'), "longer than 4,096 bytes"),
    "long key": (lambda: filled('{"development":{"', "k", '":1}}'), "does not declare"),
    "long list": (lambda: filled('{"development":{"a":[', "1,", "1]}}"), COMPLEX),
    "many entries": (
        lambda: filled('{"development":[', '{"ParameterKey":"a","ParameterValue":1},', "{}]}"),
        "a is given twice",
    ),
    "deep": (lambda: filled('{"development":', "["), "nested more than 100 levels deep"),
    "small": (lambda: filled('{"development":{"a":[', "{},", "{}]}}"), COMPLEX),
}


def _body() -> int:
    return BODY_LIMIT // _scale


# payloads of 25 MB: all of them end in a PayloadError that says this
PAYLOADS: dict[str, tuple[Callable[[], bytes], bool, str]] = {
    "deep lists": (lambda: b"[" * _body(), False, "not JSON"),
    "deep objects": (lambda: b'{"a":' * (_body() // 5), False, "not JSON"),
    "wide": (lambda: b'{"a":[' + b"{}," * (_body() // 3 - 10) + b"{}]}", False, "repository is missing"),
    "one number": (lambda: b"9" * _body(), False, "not JSON"),
    "long field": (
        lambda: b'{"repository":{"full_name":"' + b"x" * (_body() - 40) + b'"}}',
        False,
        "longer than 1,024 characters",
    ),
    "form": (
        lambda: b"payload=" + quote_from_bytes(b"{").encode() * (_body() // 3 - 10),
        True,
        "not JSON",
    ),
    "form of fields": (lambda: b"&" * _body(), True, "cannot be read"),
}
