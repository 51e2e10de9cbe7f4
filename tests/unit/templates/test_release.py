import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import PermanentError
from deployer.model.refs import Ref
from deployer.templates.release import Release, check_release
from deployer.templates.syntax import _TemplateLoader

REPOSITORY = Repository.parse("acme/hello")
BRANCH = Ref.of_branch("feature/x")
SHA = "a" * 40
TEMPLATE = """
Parameters:
  PipelineName: {Type: String}
  Stage: {Type: String}
  Greeting: {Type: String}
  Size: {Type: Number, Default: 1}
Resources:
  Pipeline:
    Type: AWS::CodePipeline::Pipeline
    Properties:
      Name: !Ref PipelineName
      RoleArn: !GetAtt Role.Arn
      Text: !Sub "${Stage}-x"
"""
PARAMETERS = json.dumps({"development": [{"ParameterKey": "Greeting", "ParameterValue": "hi"}]})


def _build(files: dict[str, str], kind: Kind = Kind.DEVELOPMENT, ref: Ref = BRANCH) -> Release:
    environment = Environment(REPOSITORY, kind, ref if kind is Kind.DEVELOPMENT else None)
    content = {name: text.encode() for name, text in files.items()}
    return check_release(
        environment, ref, "feature/x", SHA, content, {"ArtifactStore": "bucket"}
    ).accepted_release()


def test_a_release_has_template_parameters_and_tags() -> None:
    release = _build({"pipeline.yml": TEMPLATE, "pipeline.parameters.json": PARAMETERS})
    environment = Environment(REPOSITORY, Kind.DEVELOPMENT, BRANCH)
    assert release.template == TEMPLATE
    assert release.parameters == {
        "PipelineName": environment.stack_name,
        "Stage": "development",
        "Greeting": "hi",
    }
    assert environment.owns(release.tags)
    assert release.tags["deployer:commit"] == SHA
    assert release.tags["deployer:digest"] == release.digest


@pytest.mark.parametrize(
    "parameters",
    [
        '{"development": {"Greeting": "hi"}}',
        '{"development": [{"ParameterKey": "Greeting", "ParameterValue": "hi"}]}',
    ],
)
@pytest.mark.parametrize(
    "name", ["pipeline.parameters.json", "pipeline.parameters.yml", "pipeline.parameters.yaml"]
)
def test_parameters_may_be_lists_or_maps_in_json_or_yaml(parameters: str, name: str) -> None:
    assert _build({"pipeline.yml": TEMPLATE, name: parameters}).parameters["Greeting"] == "hi"


_BY_BRANCH = """\
development: {Greeting: all, Size: 1}
branches:
  "*": {Greeting: any}
  feature/*: {Greeting: feature}
  feature/x: [{ParameterKey: Size, ParameterValue: 9}]
  bug/*: {Greeting: bug, Size: 5}
staging: {Greeting: staging}
production: {Greeting: production}
"""


@pytest.mark.parametrize(
    ("kind", "branch", "greeting", "size"),
    [
        (Kind.DEVELOPMENT, "feature/x", "feature", "9"),  # each parameter from its most specific pattern
        (Kind.DEVELOPMENT, "feature/y", "feature", "1"),
        (Kind.DEVELOPMENT, "bug/x", "bug", "5"),
        (Kind.DEVELOPMENT, "x", "any", "1"),
        (Kind.STAGING, "feature/x", "staging", None),  # the patterns are for development only
        (Kind.PRODUCTION, "feature/x", "production", None),
    ],
)
def test_a_development_environment_has_the_values_of_its_branch(
    kind: Kind, branch: str, greeting: str, size: str | None
) -> None:
    files = {"pipeline.yml": TEMPLATE, "pipeline.parameters.yml": _BY_BRANCH}
    parameters = _build(files, kind, Ref.of_branch(branch)).parameters
    assert (parameters["Greeting"], parameters.get("Size")) == (greeting, size)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ('branches: {"a b": {}}', "parameters.yml:1: 'a b' matches no branch"),
        ("branches:\n  feature/*: {}\n  refs/heads/x: {}", "parameters.yml:3: 'refs/heads/x' is a full ref"),
        ("branches: [feature/*]", "parameters.yml:1: branches is not a mapping"),
        ("branches:\n  feature/*: 1", "parameters.yml:2: feature/* is neither a list nor a mapping"),
        ("branches:\n  feature/*: [{}]", "parameters.yml:2: entry 1 of feature/* lacks ParameterKey"),
        ("branches:\n  feature/*: {}\n  feature/*: {}", "parameters.yml:3: feature/* appears twice"),
        (
            "branches:\n  '*': {Greeting: x}\n  feature/*:\n    Greting: y",
            "parameters.yml:4: Greting has a value here",
        ),
        ("branches:\n  feature/*:\n    Size: big", "parameters.yml:3: Size is 'big', which is not a number"),
        (
            "branches:\n" + "".join(f"  b{n}: {{}}\n" for n in range(101)),
            "parameters.yml:1: branches has more than 100 patterns",
        ),
    ],
)
def test_an_error_in_the_values_of_branches_has_its_line(parameters: str, message: str) -> None:
    files = {
        "pipeline.yml": TEMPLATE,
        "pipeline.parameters.yml": f"{parameters}\ndevelopment: {{Greeting: x}}",
    }
    with pytest.raises(PermanentError) as caught:
        _build(files)
    assert message in str(caught.value)


def test_the_values_of_other_branches_do_not_reject_a_push() -> None:
    parameters = "development: {Greeting: x}\nbranches: {bug/*: {Size: big}}"
    assert (
        _build({"pipeline.yml": TEMPLATE, "pipeline.parameters.yml": parameters}).parameters["Greeting"]
        == "x"
    )


def test_the_teardown_policy_is_a_tag_that_the_pipeline_passes_on_to_its_stacks() -> None:
    template = TEMPLATE.replace("Parameters:", "Parameters:\n  StackConfiguration: {Type: String}")
    files = {"pipeline.yml": template, "pipeline.parameters.json": PARAMETERS}
    usual = _build(files)
    kept = _build({**files, "deployer.yml": "teardown: {empty_buckets: false}"})
    assert "deployer:teardown" not in json.loads(usual.parameters["StackConfiguration"])["Tags"]
    handed_on = json.loads(kept.parameters["StackConfiguration"])["Tags"]
    assert handed_on["deployer:teardown"] == kept.tags["deployer:teardown"] == "keep-buckets retain"
    assert usual.digest != kept.digest


def test_a_branch_cannot_pose_as_production() -> None:
    parameters = '{"development": {"Stage": "production", "Greeting": "x"}}'
    assert (
        _build({"pipeline.yml": TEMPLATE, "pipeline.parameters.json": parameters}).parameters["Stage"]
        == "development"
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "deploy/pipeline.yml: it is missing; create it (.yaml and .json work too)"),
        ({"pipeline.yml": TEMPLATE, "pipeline.json": "{}"}, "keep one of them"),
        ({"pipeline.yml": "a: [1"}, "deploy/pipeline.yml:1: not YAML"),
        ({"pipeline.json": "{"}, "deploy/pipeline.json:1: not JSON"),
        ({"pipeline.yml": "- a"}, "deploy/pipeline.yml:1: it is not a mapping"),
        ({"pipeline.yml": "Resources: {}"}, "AWS::CodePipeline::Pipeline"),
        ({"pipeline.yml": TEMPLATE}, "deploy/pipeline.yml:5: parameter Greeting has no default"),
        ({"pipeline.yml": TEMPLATE, "pipeline.parameters.json": "[]"}, "is not a mapping"),
        (
            {"pipeline.yml": TEMPLATE, "pipeline.parameters.json": '{"development": 1}'},
            "neither a list nor a mapping",
        ),
        ({"pipeline.yml": TEMPLATE, "pipeline.parameters.json": '{"development": [{}]}'}, "entry 1"),
        (
            {"pipeline.yml": TEMPLATE, "pipeline.parameters.json": '{"staging": {},\n"dev": {}}'},
            "parameters.json:2: 'dev' is not a kind of environment; use development, staging, production",
        ),
        (
            {
                "pipeline.yml": TEMPLATE,
                "pipeline.parameters.json": '{"development": {"Greeting": "x", "Gretting": "y"}}',
            },
            "deploy/pipeline.parameters.json:1: Gretting has a value here, but",
        ),
        ({"pipeline.yml": "a: &x 1\nb: *x"}, "aliases"),
        (
            {"pipeline.yml": TEMPLATE.replace("Greeting: {Type: String}", "RepoToken: {Type: String}")},
            "must have NoEcho",
        ),
    ],
)
def test_an_invalid_folder_is_refused_with_its_error(files: dict[str, str], message: str) -> None:
    with pytest.raises(PermanentError) as caught:
        _build(files)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value", ["9" * 5000, "0x" + "F" * 5000, "-0b" + "1" * 20_000, "[0x" + "F" * 5000 + "]", "x" * 4097]
)
@pytest.mark.parametrize(
    "parameters",
    ["development: {Greeting: %s}", "development: [{ParameterKey: Greeting, ParameterValue: %s}]"],
)
def test_a_value_that_is_too_long_is_reported(parameters: str, value: str) -> None:
    with pytest.raises(
        PermanentError, match=r"^deploy/pipeline\.parameters\.yml:1: the value of Greeting is long"
    ):
        _build({"pipeline.yml": TEMPLATE, "pipeline.parameters.yml": parameters % value})


def test_a_json_number_that_is_too_long_is_reported() -> None:
    parameters = '{"development": {"Greeting": %s}}' % ("9" * 5000)
    with pytest.raises(PermanentError, match=r"the value of Greeting is longer than 4,096 bytes"):
        _build({"pipeline.yml": TEMPLATE, "pipeline.parameters.json": parameters})


@pytest.mark.parametrize("huge", ["0x" + "F" * 5000, "9" * 5000])
def test_a_huge_number_elsewhere_causes_no_error_in_deployer(huge: str) -> None:
    with pytest.raises(PermanentError, match=r"parameter .* has no default"):
        _build({"pipeline.yml": TEMPLATE.replace("Greeting:", f"? {huge}\n  :")})
    with pytest.raises(PermanentError, match="does not declare it"):
        _build(
            {
                "pipeline.yml": TEMPLATE,
                "pipeline.parameters.yml": f"development: {{? {huge} : x, Greeting: y}}",
            }
        )


def test_whole_numbers_are_written_as_python_reads_them() -> None:
    parameters = "development: {Greeting: [0x10, 1_000, 7, -3]}"
    release = _build({"pipeline.yml": TEMPLATE, "pipeline.parameters.yml": parameters})
    assert release.parameters["Greeting"] == "16,1000,7,-3"


@pytest.mark.parametrize("text", ["[" * 200_000, "a: {" * 100_000, "- " * 200_000, "!Sub [" * 100_000])
@pytest.mark.parametrize("name", ["pipeline.yml", "pipeline.json"])
def test_unlimited_nesting_is_refused(name: str, text: str) -> None:
    with pytest.raises(PermanentError, match=f"^deploy/{name}"):
        _build({name: text})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Resources:\n  A: {Type: X}\n B: c\n", 3),
        ("A: b\nC: @d\n", 2),
        ("A: [b", 1),
        ("A: b\nC: {d", 2),
        ("A: b\nC: 'd\n", 2),
    ],
)
def test_an_error_in_yaml_has_its_line(text: str, line: int) -> None:
    with pytest.raises(PermanentError, match=rf"^deploy/pipeline\.yml:{line}: not YAML: "):
        _build({"pipeline.yml": text})


def test_a_large_template_is_parsed_by_libyaml() -> None:
    # Without libyaml, PyYAML needs three times as long: five seconds of CPU for the largest template that is allowed.
    assert not yaml.__with_libyaml__ or issubclass(_TemplateLoader, yaml.CSafeLoader)


def test_a_file_that_is_not_text_is_reported() -> None:
    environment = Environment(REPOSITORY, Kind.STAGING)
    with pytest.raises(PermanentError, match="not UTF-8"):
        check_release(environment, BRANCH, "main", SHA, {"pipeline.yml": b"\xff\xfe"}, {}).accepted_release()


def test_the_token_is_never_among_the_parameters() -> None:
    template = TEMPLATE.replace("Greeting: {Type: String}", "RepoToken: {Type: String, NoEcho: true}")
    release = _build({"pipeline.yml": template})
    assert release.needs_token
    assert "RepoToken" not in release.parameters


def test_the_digest_changes_only_with_the_stack() -> None:
    one = _build({"pipeline.yml": TEMPLATE, "pipeline.parameters.json": PARAMETERS})
    same = _build({"pipeline.yml": TEMPLATE, "pipeline.parameters.json": PARAMETERS})
    other = _build({"pipeline.yml": TEMPLATE, "pipeline.parameters.json": PARAMETERS.replace("hi", "ho")})
    assert one.digest == same.digest != other.digest


@given(st.binary(max_size=200))
def test_any_bytes_are_a_release_or_a_clear_refusal(content: bytes) -> None:
    for name in ("pipeline.yml", "pipeline.json"):
        environment = Environment(REPOSITORY, Kind.DEVELOPMENT, BRANCH)
        with pytest.raises(PermanentError):
            check_release(environment, BRANCH, "x", SHA, {name: content}, {}).accepted_release()


@pytest.mark.parametrize("value", ['!!int ""', "!!float x", "!!int +", '!!float ""', "!!bool maybe"])
def test_a_value_that_does_not_fit_its_tag_is_reported_with_its_line(value: str) -> None:
    with pytest.raises(PermanentError, match=r"^deploy/pipeline\.yml:2: not YAML: '.*' is not a valid "):
        _build({"pipeline.yml": f"A: b\nC: {value}\n"})


def test_base_60_numbers_are_text() -> None:
    parameters = "development: {Greeting: 22:30}\nstaging: {Greeting: 1:2:3.5}\n"
    files = {"pipeline.yml": TEMPLATE, "pipeline.parameters.yml": parameters}
    assert _build(files).parameters["Greeting"] == "22:30"
    assert _build(files, Kind.STAGING).parameters["Greeting"] == "1:2:3.5"
    assert _build(
        {"pipeline.yml": TEMPLATE + "Size: 1" + ":1" * 2000 + ".5\n", "pipeline.parameters.json": PARAMETERS}
    )


@pytest.mark.parametrize("key", ["1", "yes", "0x10", "2001-01-01", "1.50", "null"])
def test_a_key_is_the_text_that_was_written(key: str) -> None:
    template = TEMPLATE.replace("Greeting:", f"{key}:")
    release = _build({"pipeline.yml": template, "pipeline.parameters.yml": f"development: {{{key}: x}}"})
    assert release.parameters[key] == "x"


def test_merge_keys_still_work() -> None:
    release = _build(
        {"pipeline.yml": TEMPLATE, "pipeline.parameters.yml": "development: {<<: {Greeting: x}}"}
    )
    assert release.parameters["Greeting"] == "x"


@pytest.mark.parametrize("value", ['"\\ud800"', '["\\udfff"]'])
def test_a_value_with_half_of_a_surrogate_pair_is_reported(value: str) -> None:
    parameters = f'{{"development": {{"Greeting": {value}}}}}'
    with pytest.raises(PermanentError, match=r"parameters\.json: it is not valid Unicode"):
        _build({"pipeline.yml": TEMPLATE, "pipeline.parameters.json": parameters})
