"""Inputs too large to be files: the worst that fits into what deployer reads."""

from collections.abc import Callable
from urllib.parse import quote_from_bytes

from deployer.events import BODY_LIMIT
from deployer.release import TEMPLATE_LIMIT

PIPELINE = "Resources: {P: {Type: AWS::CodePipeline::Pipeline, Properties: {Name: !Ref AWS::StackName}}}\n"

BRACKETS = {
    "lists": b"[" * 100_000,
    "closed": b"[" * 100_000 + b"]" * 100_000,
    "objects": b'{"a":' * 100_000,
    "in-a-field": b'{"ref":' + b"[" * 100_000,
}


def filled(head: str, unit: str | Callable[[int], str], tail: str = "", size: int = TEMPLATE_LIMIT) -> bytes:
    """As many units between head and tail as fit; a callable makes the unit of each number."""
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
    "1 MB": (lambda: _exactly(TEMPLATE_LIMIT), "release"),
    "1 MB and a byte": (lambda: _exactly(TEMPLATE_LIMIT + 1), "has 1,000,001 bytes"),
    "deep lists": (lambda: filled("a: ", "["), "recursion"),
    "deep blocks": (lambda: filled("", "- "), "recursion"),
    "deep tags": (lambda: filled("a: ", "!Sub ["), "recursion"),
    "small keys": (lambda: filled(PIPELINE, lambda number: f"k{number}:\n"), "release"),
    "small values": (lambda: filled(f"{PIPELINE}a: [", "{},", "]\n"), "more than 250,000 keys and values"),
    "merge keys": (lambda: filled(f"{PIPELINE}a: {{", "<<: {},", "}\n"), "more than 250,000 keys and values"),
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
        "CloudFormation takes at most 200",
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
        "release",
    ),
    "many texts": (
        lambda: filled(
            f"Parameters: {{A: {{Type: String, Default: {'a' * 4000}}}}}\n{PIPELINE}Outputs: {{O: {{Value: [",
            "!Sub '${A}${A}',",
            "]}}\n",
        ),
        "release",
    ),
    "one long text": (
        lambda: filled(
            f"Parameters: {{A: {{Type: String, Default: {'a' * 4000}}}}}\n{PIPELINE}Outputs: {{O: {{Value: !Sub '",
            "${A}",
            "'}}\n",
        ),
        "a text here may come to be hundreds",
    ),
    "nested joins": (
        lambda: filled(
            f"{PIPELINE}Outputs: {{O: {{Value: {'!Join [a, [b, ' * 80}", "x", "]]" * 80 + "}}\n", size=90_000
        ),
        "release",
    ),
}

PARAMETERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "many": (
        lambda: filled('{"development":{"a":1', lambda number: f',"k{number}":1', "}}"),
        "does not declare",
    ),
    "long value": (lambda: filled('{"development":{"a":"', "x", '"}}'), "longer than 4,096 bytes"),
    "long key": (lambda: filled('{"development":{"', "k", '":1}}'), "does not declare"),
    "long list": (lambda: filled('{"development":{"a":[', "1,", "1]}}"), "longer than 4,096 bytes"),
    "many entries": (
        lambda: filled('{"development":[', '{"ParameterKey":"a","ParameterValue":1},', "{}]}"),
        "lacks ParameterKey",
    ),
    "deep": (lambda: filled('{"development":', "["), "recursion"),
}

# payloads of 25 MB: all of them end in a PayloadError that says this
PAYLOADS: dict[str, tuple[Callable[[], bytes], bool, str]] = {
    "deep lists": (lambda: b"[" * BODY_LIMIT, False, "not JSON"),
    "deep objects": (lambda: b'{"a":' * (BODY_LIMIT // 5), False, "not JSON"),
    "wide": (lambda: b'{"a":[' + b"{}," * (BODY_LIMIT // 3 - 10) + b"{}]}", False, "repository is missing"),
    "one number": (lambda: b"9" * BODY_LIMIT, False, "not JSON"),
    "long field": (
        lambda: b'{"repository":{"full_name":"' + b"x" * (BODY_LIMIT - 40) + b'"}}',
        False,
        "longer than 1,024 characters",
    ),
    "form": (
        lambda: b"payload=" + quote_from_bytes(b"{").encode() * (BODY_LIMIT // 3 - 10),
        True,
        "not JSON",
    ),
    "form of fields": (lambda: b"&" * BODY_LIMIT, True, "cannot be read"),
}
