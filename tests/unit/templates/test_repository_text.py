"""Every kind of odd text in `deploy/`, by the way that a push takes and by `validate`: one line each, and the same one.

Never a traceback, a retry or a dead letter: whoever may push a branch writes these files.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from world import HELLO, World, sha

from deployer.cli import main
from deployer.templates.document import read_document
from deployer.templates.isolation.process import FolderProcess
from tests.doubles import DirectEvaluator

_NUMBERS = itertools.count(1)
PIPELINE = (
    b"Resources: {Pipeline: {Type: AWS::CodePipeline::Pipeline, Properties: {Name: !Ref AWS::StackName}}}\n"
)
TAKES_A = b"Parameters: {A: {Type: String}}\n" + PIPELINE
NAMED = b'{"Name": {"Ref": "AWS::StackName"}}'
IN_JSON = b'{"Resources": {"P": {"Type": "AWS::CodePipeline::Pipeline", "Properties": ' + NAMED + b"}}"
DEVELOPMENT = b'{"staging": {"A": "s"}, "production": {"A": "p"}, "development": {"A": %s}}'
TWICE = "appears twice in one mapping; keep one of them"
NUL = "save it as UTF-8 text"


def template(text: bytes, name: str = "pipeline.yml") -> dict[str, bytes]:
    return {name: text}


def value(text: bytes, name: str = "pipeline.parameters.json") -> dict[str, bytes]:
    """A template with a parameter, and a file with this value for it."""
    whole = DEVELOPMENT % text if name.endswith("json") else text
    return {"pipeline.yml": TAKES_A, name: whole}


def in_yaml(text: bytes) -> dict[str, bytes]:
    whole = b"staging: {A: s}\nproduction: {A: p}\ndevelopment: {A: " + text + b"}\n"
    return value(whole, "pipeline.parameters.yml")


def rules(text: bytes, name: str = "deployer.yml") -> dict[str, bytes]:
    return {"pipeline.yml": PIPELINE, name: text}


# what is wrong with it -> the files, and the line that people read
REFUSED: dict[str, tuple[dict[str, bytes], str]] = {
    "a tab": (template(b"Resources:\n\tA: 1\n"), "pipeline.yml:2: not YAML: a tab is used for indentation"),
    "an alias": (
        template(b"A: &a {x: 1}\nB: *a\n" + PIPELINE),
        "pipeline.yml:2: anchors and aliases are not supported",
    ),
    "an alias in the rules": (
        rules(b"ttl: &a 3d\nwarn: *a\n"),
        "deployer.yml:2: anchors and aliases are not supported",
    ),
    "a key twice": (template(PIPELINE + PIPELINE), f"pipeline.yml:2: Resources {TWICE}"),
    "a key twice in JSON": (
        template(IN_JSON + b',\n"Resources": {}}', "pipeline.json"),
        f"pipeline.json:2: Resources {TWICE}",
    ),
    "a parameter twice": (in_yaml(b"1, A: 2"), f"pipeline.parameters.yml:3: A {TWICE}"),
    "a parameter twice in JSON": (value(b'"1", "A": "2"'), f"pipeline.parameters.json:1: A {TWICE}"),
    "a kind twice": (
        value(b'"1"}, "development": {"A": "2"'),
        f"pipeline.parameters.json:1: development {TWICE}",
    ),
    "an entry twice": (
        value(
            b"staging: {A: s}\nproduction: {A: p}\ndevelopment:\n"
            b"- {ParameterKey: A, ParameterValue: 1}\n- {ParameterKey: A, ParameterValue: 2}\n",
            "pipeline.parameters.yml",
        ),
        "pipeline.parameters.yml:5: A is given twice; keep one of them",
    ),
    "a rule twice": (rules(b"ttl: 3d\nttl: 4d\n"), f"deployer.yml:2: ttl {TWICE}"),
    "a rule twice in JSON": (
        rules(b'{"ttl": "3d",\n"ttl": "4d"}', "deployer.json"),
        f"deployer.json:2: ttl {TWICE}",
    ),
    "NaN": (value(b"NaN"), "pipeline.parameters.json:1: not JSON: NaN is not a number in JSON"),
    "minus infinity": (
        value(b"\n-Infinity"),
        "pipeline.parameters.json:2: not JSON: -Infinity is not a number in JSON",
    ),
    "more than NaN": (value(b"NaNx"), "pipeline.parameters.json:1: not JSON: NaN is not a number in JSON"),
    "more than minus infinity": (
        rules(b'{"ttl":\n-Infinity5}', "deployer.json"),
        "deployer.json:2: not JSON: -Infinity is not a number in JSON",
    ),
    "NaN in a template": (
        template(IN_JSON + b',\n"Metadata": {"NaN": NaN}}', "pipeline.json"),
        "pipeline.json:2: not JSON: NaN is not a number in JSON",
    ),
    "a number beyond all": (
        value(b"1e999"),
        "pipeline.parameters.json:1: the value of A is not a finite number; put it in quotes",
    ),
    "YAML's NaN": (
        in_yaml(b".nan"),
        "pipeline.parameters.yml:3: the value of A is not a finite number; put it in quotes",
    ),
    "5,000 digits": (
        value(b"9" * 5000),
        "pipeline.parameters.json:1: the value of A is longer than 4,096 bytes",
    ),
    "bytes": (
        in_yaml(b"!!binary aGVsbG8="),
        "pipeline.parameters.yml:3: the value of A is neither text, number nor list",
    ),
    "bad bytes": (
        in_yaml(b"!!binary a"),
        "pipeline.parameters.yml:3: not YAML: failed to decode base64 data",
    ),
    "no value": (in_yaml(b""), "pipeline.parameters.yml:3: the value of A is neither text, number nor list"),
    "an object of Python": (
        template(b"A: !!python/object:os.system x\n"),
        "pipeline.yml:1: not YAML: could not determine",
    ),
    "no truth value": (
        template(b"A: !!bool maybe\n"),
        "pipeline.yml:1: not YAML: 'maybe' is not a valid bool",
    ),
    "a list as a key": (template(b"[a]: 1\n"), "pipeline.yml:1: not YAML: found unhashable key"),
    "two documents": (
        template(PIPELINE + b"---\na: 1\n"),
        "pipeline.yml:2: not YAML: but found another document",
    ),
    "another version of YAML": (
        template(b"%YAML 9.9\n---\n" + PIPELINE),
        "pipeline.yml:1: not YAML: found incompatible",
    ),
    "UTF-16": (
        template(PIPELINE.decode().encode("utf-16")),
        f"pipeline.yml:1: it has a NUL character (byte 3); {NUL}",
    ),
    "UTF-16 without a mark": (
        template(PIPELINE.decode().encode("utf-16-le")),
        f"it has a NUL character (byte 1); {NUL}",
    ),
    "Latin 1": (
        template(b"# a\n# caf\xe9\n" + PIPELINE),
        "pipeline.yml:2: not UTF-8 text (byte 9); save it as UTF-8",
    ),
    "NUL": (template(b"#\n# a\0b\n" + PIPELINE), f"pipeline.yml:2: it has a NUL character (byte 5); {NUL}"),
    "NUL in JSON": (
        template(b'{\n"a": "\0"}', "pipeline.json"),
        f"pipeline.json:2: it has a NUL character (byte 8); {NUL}",
    ),
    "NUL as an escape": (
        value(rb'"a\u0000b"'),
        "pipeline.parameters.json:1: the value of A has the control character U+0000",
    ),
    "NUL as YAML's escape": (
        in_yaml(rb'"a\0b"'),
        "pipeline.parameters.yml:3: the value of A has the control character U+0000",
    ),
    "NUL in a length of time": (
        rules(rb'ttl: "3d\0"'),
        r"deployer.yml:1: ttl: '3d\x00' is not a duration",
    ),
    "a bell": (
        template("# ü\n# \a\n".encode() + PIPELINE),
        "pipeline.yml:2: it has the control character U+0007",
    ),
    "half of a surrogate pair": (
        value(rb'"\ud800"'),
        "pipeline.parameters.json: it is not valid Unicode: it contains half",
    ),
    "half of one in YAML": (
        template(rb'A: "\ud800"' + b"\n"),
        "pipeline.yml:1: not YAML: found invalid Unicode",
    ),
    "nothing": (template(b""), "pipeline.yml:1: it is empty; remove it, or write a mapping"),
    "nothing but a comment": (
        rules(b"# later\n"),
        "deployer.yml:1: it is empty; remove it, or write a mapping",
    ),
    "a list": (rules(b"- a\n"), "deployer.yml:1: it is not a mapping at its top level"),
    "YAML in JSON": (template(PIPELINE, "pipeline.json"), "pipeline.json:1: not JSON: Expecting value"),
    "a comment in JSON": (
        template(b"// x\n" + IN_JSON + b"}", "pipeline.json"),
        "pipeline.json:1: not JSON: Expecting value",
    ),
    "3,000 levels": (
        template(b"A: " + b"[" * 3000 + b"]" * 3000 + b"\n"),
        "pipeline.yml:1: it is nested more than 100 levels",
    ),
    "3,000 levels of JSON": (
        template(b'{"A":\n' + b"[" * 3000, "pipeline.json"),
        "pipeline.json:2: it is nested more than 100",
    ),
    "a date for a length of time": (
        rules(b"ttl: 2026-01-01\n"),
        "deployer.yml:1: ttl: '2026-01-01' is not a duration",
    ),
    "a name that moves the cursor": (value(rb'"1", "x\u001b[2Jy": "2"'), r"x\u001b[2Jy has a value here"),
}

TAKEN: dict[str, dict[str, bytes]] = {
    "a mark of the byte order": template(b"\xef\xbb\xbf" + PIPELINE),
    "a mark in JSON": template(b"\xef\xbb\xbf" + IN_JSON + b"}", "pipeline.json"),
    "lines that end in CRLF": template(b"# a\r\n" + PIPELINE.replace(b"\n", b"\r\n")),
    "a date": template(b"AWSTemplateFormatVersion: 2010-09-09\n" + PIPELINE),
    "a date that is none": template(b"Metadata: {Since: 2010-99-99}\n" + PIPELINE),
    "5,000 digits": template(b"Metadata: {x: " + b"9" * 5000 + b"}\n" + PIPELINE),
    "letters of all kinds": in_yaml("ü 中 \U0001f600 \u202e".encode()),
    "a name that deployer does not read": template(PIPELINE) | {"pipelin\u00e9.yml": b"\0", "x\n.yml": b"["},
}
VALUES = {
    b"2026-01-01": "2026-01-01",
    b"2026-01-01T25:00:00Z": "2026-01-01T25:00:00Z",
    b"=": "=",
    b"<<": "<<",
    b"12:30:45": "12:30:45",
    b"007": "007",
    b"yes": "true",
    b'"a\\tb\\nc"': "a\tb\nc",
}


@pytest.fixture(scope="module")
def process() -> Iterator[FolderProcess]:
    """The evaluator of a worker."""
    made = FolderProcess()
    yield made
    made.close()


@pytest.fixture
def validate(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """The command line without processes of its own, which take long: it evaluates here, and has no cfn-lint."""

    class Here(DirectEvaluator):
        def close(self) -> None:
            """Nothing is open."""

    class Silent:
        def findings(self, *_: object) -> list[object]:
            return []

    monkeypatch.setattr("deployer.cli.commands.validate.FolderProcess", Here)
    monkeypatch.setattr("deployer.cli.commands.validate.CfnLint", lambda _: Silent())
    for name in ("DEPLOYER_TARGETS", "DEPLOYER_UNFENCED"):
        monkeypatch.delenv(name, raising=False)
    return CliRunner()


@pytest.fixture(scope="module")
def world(process: FolderProcess) -> World:
    """The product with that evaluator; each test pushes a branch of its own."""
    made = World.with_evaluator(process)
    made.rules()
    return made


def pushed(world: World, files: dict[str, bytes]) -> tuple[str, str]:
    """What becomes of a push of these files."""
    number = next(_NUMBERS)
    ref = f"refs/heads/x{number}"
    world.host.push(HELLO, ref, sha(number), files=files)
    delivery = world.deliver(ref, sha(number))
    world.run()
    assert world.lanes.dead_letters() == []
    assert not any(told.startswith("retry in") for told in world.told)
    return world.outcome(delivery)


def written(path: Path, files: dict[str, bytes]) -> Path:
    (path / "deploy").mkdir()
    for name, content in files.items():
        (path / "deploy" / name).write_bytes(content)
    return path


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_one_line(world: World, validate: CliRunner, tmp_path: Path, name: str) -> None:
    files, line = REFUSED[name]
    outcome, reason = pushed(world, files)
    assert outcome == "failed"
    assert line in reason
    assert reason.isprintable()
    result = validate.invoke(main, ["validate", str(written(tmp_path, files))])
    assert result.exit_code == 1
    told = result.stdout.splitlines()
    assert line in told[0]
    assert told[0].removesuffix(" (development)").startswith(reason.partition(" (and ")[0])
    assert all(each.startswith("deploy/") and each.isprintable() for each in told)


@pytest.mark.parametrize("name", TAKEN)
def test_it_is_taken(world: World, validate: CliRunner, tmp_path: Path, name: str) -> None:
    assert pushed(world, TAKEN[name])[0] == "deployed"
    result = validate.invoke(main, ["validate", str(written(tmp_path, TAKEN[name]))])
    assert result.exit_code == 0, result.stdout


@pytest.mark.parametrize("text", VALUES)
def test_a_value_is_what_people_wrote(text: bytes) -> None:
    found = read_document("pipeline.parameters.yml", b"a: " + text + b"\n").fields["a"]
    assert (str(found).lower() if isinstance(found, bool) else found) == VALUES[text]


@pytest.mark.parametrize("name", ["\x1b[2J\n\u202e", "caf\udce9", "a b"])
def test_a_working_copy_of_any_name(validate: CliRunner, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.mkdir()
    written(path, template(PIPELINE))
    result = validate.invoke(main, ["validate", str(path)])
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    assert result.stdout.rstrip("\n").isprintable()
