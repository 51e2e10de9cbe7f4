"""A check of a `deploy/` folder counts its work, and names the expression that exceeds the limit."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployer.cli.repository_facts import RepositoryFacts
from deployer.cli.starter_files import starter_files
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.refs import Ref
from deployer.model.targets import Target
from deployer.templates.document import read_document
from deployer.templates.evaluation.budget import (
    CHARACTERS,
    EVALUATION_NESTING,
    NESTING,
    STEPS,
    EvaluationBudget,
)
from deployer.templates.folder_check import FolderAnswer, FolderQuestion, examine_folder
from deployer.templates.folder_files import UnreadableError

ROOT = Path(__file__).parents[3]
BRANCH = Ref.of_branch("feature/x")
ENVIRONMENT = Environment(Repository.parse("acme/hello"), Kind.DEVELOPMENT, BRANCH)
TARGET = Target(Kind.DEVELOPMENT, account="1" * 12, permissions_boundary="arn:aws:iam::111111111111:policy/b")
GIVEN = {"ArtifactStore": "bucket", "ConnectionArn": "arn:aws:codeconnections:us-east-1:111111111111:c/x"}
PIPELINE = "{Type: AWS::CodePipeline::Pipeline, Properties: {Name: !Ref AWS::StackName}}"
LIST = ",".join(f"v{number}" for number in range(256))
NAME = "${L}" + "${A}" * 27
DENSE = f"""\
Parameters: {{PipelineName: {{Type: String}}, Stage: {{Type: String}}}}
Resources:
  Pipeline: {PIPELINE}
"""
ROLE = """\
  Role{number}:
    Type: AWS::IAM::Role
    Properties:
      RoleName: !Sub '${{PipelineName}}-role-{number}'
      PermissionsBoundary: arn:aws:iam::111111111111:policy/b
      AssumeRolePolicyDocument:
        Version: '2012-10-17'
        Statement: [{{Effect: Allow, Principal: {{Service: lambda.amazonaws.com}}, Action: sts:AssumeRole}}]
      Policies:
        - PolicyName: data
          PolicyDocument:
            Version: '2012-10-17'
            Statement:
"""
STATEMENT = """\
              - Effect: Allow
                Action: [s3:GetObject, s3:PutObject, s3:ListBucket]
                Resource:
                  - !Sub 'arn:${{AWS::Partition}}:s3:::${{PipelineName}}-data-{number}-{each}/*'
                  - !GetAtt Table{each}.Arn
                  - !Join ['', ['arn:aws:sqs:', !Ref AWS::Region, ':', !Ref AWS::AccountId, ':', queue-{each}]]
"""


def check(template: str, budget: EvaluationBudget | None = None, **files: str) -> FolderAnswer:
    content = {"pipeline.yml": template, **{name.replace("_", "."): text for name, text in files.items()}}
    question = FolderQuestion(
        ENVIRONMENT, BRANCH, "feature/x", "a" * 40,
        {name: text.encode() for name, text in content.items()}, GIVEN, TARGET, "us-east-1",
    )  # fmt: skip
    return examine_folder(question, budget)


def parameters(**declared: str) -> str:
    listed = [f"  {name}: {rules}\n" for name, rules in declared.items()]
    return f"Parameters:\n{''.join(listed)}Resources:\n  P: {PIPELINE}\n"


# Before the budget existed, each of these took seconds to minutes and produced a release.
ATTACKS = {
    "a name of 200 values of 97,200 characters": (
        parameters(
            A=f"{{Type: String, Default: '{'arn:a:b:c:d:' * 300}'}}",
            L=f"{{Type: CommaDelimitedList, Default: '{','.join(f'v{number}' for number in range(200))}'}}",
        )
        + f"  X: {{Type: AWS::SNS::Topic, Properties: {{TopicName: !Sub '{NAME}'}}}}\n"
        + "Outputs: {O: {Value: [" + ", ".join(["!Ref X"] * 6) + "]}}\n",
        "pipeline.yml:6: Resources.X.Properties.TopicName: deploy/ is too complex to check",
    ),
    "references to a list of 256 values": (
        parameters(L=f"{{Type: CommaDelimitedList, Default: '{LIST}'}}")
        + "Outputs: {O: {Value: [" + "!Ref L, " * 30_000 + "]}}\n",
        "pipeline.yml:5: Outputs.O.Value.",
    ),
    "ARNs in many texts": (
        parameters(L=f"{{Type: CommaDelimitedList, Default: '{LIST}'}}")
        + "Outputs:\n"
        + "".join(f"  O{n}: {{Value: !Sub '{n}{'arn:a:b:c:d:' * 20}${{L}}'}}\n" for n in range(100)),
        "pipeline.yml:",
    ),
    "allowed values of a list": (
        parameters(
            L=f"{{Type: CommaDelimitedList, Default: '{',' * 4000}', AllowedValues: [{'a, ' * 20_000}]}}"
        ),
        "pipeline.yml:2: Parameters.L: deploy/ is too complex to check",
    ),
    "large patterns": (
        parameters(
            **{
                f"P{n}": f"{{Type: String, Default: {'abcdefgh' * 500}x,"
                " AllowedPattern: '(((a?b?c?d?e?f?g?h?){0,100}){0,10})x'}"
                for n in range(10)
            }
        ),
        "pipeline.yml:3: Parameters.P1: deploy/ is too complex to check",
    ),
    "variables of a loop": (
        parameters()
        + f"  Fn::ForEach::X:\n  - V\n  - [{LIST}]\n  - N:\n      Type: AWS::SNS::Topic\n      Properties:\n"
        + "".join(f"        k{number}: 'a${{V}}b'\n" for number in range(20_000)),
        "pipeline.yml:",
    ),
    "parts of a text": (
        parameters(A=f"{{Type: String, Default: {'a' * 4000}}}")
        + "Outputs: {O: {Value: [" + "!Select [0, !Split [a, !Ref A]], " * 400 + "]}}\n",
        "pipeline.yml:5: Outputs.O.Value.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_an_expression_that_exceeds_the_budget_is_refused_and_named(name: str) -> None:
    template, words = ATTACKS[name]
    budget = EvaluationBudget()
    (finding,) = [each for each in check(template, budget).findings if "too complex" in each.text]
    assert finding.level == "error"
    assert f"deploy/{words}" in str(finding)
    assert finding.line
    # the result is the same on every machine, because the work is counted
    again = EvaluationBudget()
    assert check(template, again).findings == check(template).findings
    assert (again.steps_spent, again.characters_spent) == (budget.steps_spent, budget.characters_spent)


def test_a_text_is_searched_for_arns_once() -> None:
    def cost(times: int) -> EvaluationBudget:
        budget = EvaluationBudget()
        outputs = "".join(f"  O{n}: {{Value: '{'arn:a:b:c:d:' * 300}'}}\n" for n in range(times))
        assert not check(f"{parameters()}Outputs:\n{outputs}", budget).findings
        return budget

    once, often = cost(1), cost(50)
    assert (
        often.characters_spent - once.characters_spent < 50 * 3 * 3700
    )  # parsed, and searched for variables
    assert often.steps_spent - once.steps_spent < 49 * 50  # the ARNs of one of them cost 1,200


def test_all_files_share_one_budget() -> None:
    large = "x:\n" + "".join(f"  b{number}: 3d\n" for number in range(60_000))
    alone = check(parameters() + large).findings
    together = check(parameters() + large, deployer_yml=large, pipeline_parameters_json="{}").findings
    assert not any("too complex" in each.text for each in alone)
    (finding,) = [each for each in together if "too complex" in each.text]
    assert finding.level == "error"


_SITE = RepositoryFacts(marks=frozenset({"deploy", "site"}), words={"site": "public"})


@pytest.mark.parametrize("name", ["sample", "starter"])
def test_the_sample_folders_use_at_most_a_twentieth_of_the_budget(name: str) -> None:
    budget = EvaluationBudget()
    sample = {path.name: path.read_text() for path in (ROOT / "sandbox/sample/deploy").iterdir()}
    files = sample if name == "sample" else starter_files(_SITE)
    files = {each: text for each, text in files.items() if each.startswith("pipeline.")}
    answer = check(
        files.pop("pipeline.yml"), budget, **{name.replace(".", "_"): files[name] for name in files}
    )
    assert not [each for each in answer.findings if "too complex" in each.text]
    assert budget.steps_spent * 20 < STEPS
    assert budget.characters_spent * 20 < CHARACTERS


def test_a_dense_template_of_a_megabyte_passes() -> None:
    def role(number: int) -> str:
        statements = "".join(STATEMENT.format(number=number, each=each) for each in range(5))
        return ROLE.format(number=number) + statements

    template = DENSE + "".join(map(role, range(450)))
    assert 950_000 < len(template) <= 1_000_000, len(template)
    budget = EvaluationBudget()
    assert [str(each) for each in check(template, budget).findings if each.level == "error"] == []
    assert budget.steps_spent < STEPS * 0.95


def chain(length: int) -> Iterator[str]:
    for number in range(length):
        yield f"  R{number}: {{Type: AWS::SQS::Queue, Properties: {{QueueName: !Sub '${{R{number + 1}}}x'}}}}\n"


def test_a_chain_of_names_is_followed_up_to_a_limit() -> None:
    short = parameters() + "".join(chain(EVALUATION_NESTING - 2))
    assert not [each for each in check(short).findings if each.level == "error"]
    (finding,) = check(parameters() + "".join(chain(EVALUATION_NESTING + 10))).findings
    assert "it passes through more than 64 functions or references" in finding.text
    assert (finding.file, finding.level) == ("deploy/pipeline.yml", "error")
    assert finding.line


def nested(levels: int, *, json_: bool) -> bytes:
    return (('{"a":' if json_ else "{a: ") * (levels - 1) + '{"a":\n1}' + "}" * (levels - 1)).encode()


@pytest.mark.parametrize("name", ["a.json", "a.yml"])
def test_nesting_is_limited_by_a_count(name: str) -> None:
    json_ = name.endswith("json")
    # in YAML a scalar counts as a level
    assert read_document(name, nested(NESTING - 1, json_=json_)).fields
    for levels in (
        NESTING + 1,
        400,
        5_000,
    ):  # the text is the same at every depth, so Python's own limit has no effect
        with pytest.raises(UnreadableError, match="it is nested more than 100 levels deep") as caught:
            read_document(name, nested(levels, json_=json_))
        assert caught.value.line == 1


@pytest.mark.parametrize(
    "content", ['{"a": "' + '\\"' * 300_000, '{"a": ' + '"[{' * 100_000, "[" * 400 + "1"]
)
def test_invalid_json_is_measured_in_linear_time(content: str) -> None:
    with pytest.raises(UnreadableError):
        read_document("a.json", content.encode())


@pytest.mark.parametrize(
    "policy",
    [
        '{"Principal": {"AWS": "222222222222"}, "Sid": ' + "[" * 2000 + "]" * 2000 + "}",
        '{"Principal": {"AWS": "222222222222"}, "Sid": ' + "9" * 5000 + "}",
    ],
)
def test_no_policy_in_a_text_escapes_the_check(policy: str) -> None:
    template: dict[str, Any] = {
        "Resources": {
            "P": {"Type": "AWS::CodePipeline::Pipeline", "Properties": {"Name": {"Ref": "AWS::StackName"}}},
            "S": {"Type": "AWS::SNS::TopicPolicy", "Properties": {"PolicyDocument": policy}},
        }
    }
    question = FolderQuestion(
        ENVIRONMENT, BRANCH, "x", "a" * 40, {"pipeline.json": json.dumps(template).encode()}, GIVEN, TARGET
    )
    (finding,) = [each for each in examine_folder(question).findings if each.level == "error"]
    assert "account 222222222222 is a principal" in finding.text or "nested more than 100" in finding.text
