"""A check reports all errors of a `deploy/` folder at once, with file and line."""

import json

import pytest

from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import PermanentError
from deployer.model.refs import Ref
from deployer.templates.evaluation.budget import EvaluationBudget, TooComplexError
from deployer.templates.parameters import value_problem
from deployer.templates.release import CheckedRelease, check_release

REPOSITORY = Repository.parse("acme/hello")
BRANCH = Ref.of_branch("feature/x")
PIPELINE = """
Parameters:
  PipelineName: {Type: String}
  RepoOwner: {Type: String}
  RepoName: {Type: String}
  RepoBranch: {Type: String, Default: x}
  Stage: {Type: String, Default: development}
Conditions:
  Live: !Equals [!Ref Stage, production]
  Odd: !Equals [!GetAtt Other.Value, x]
Resources:
  Pipeline:
    Type: AWS::CodePipeline::Pipeline
    Properties:
      Name: !Ref PipelineName
      Stages:
        - Name: Source
          Actions:
            - ActionTypeId: {Category: Source, Owner: AWS, Provider: CodeStarSourceConnection, Version: "1"}
              Configuration:
                FullRepositoryId: !Sub "${RepoOwner}/${RepoName}"
                BranchName: !Ref RepoBranch
                DetectChanges: false
"""
LAST = PIPELINE.count("\n")


def check(files: dict[str, str], kind: Kind = Kind.DEVELOPMENT) -> CheckedRelease:
    """Check a folder."""
    environment = Environment(REPOSITORY, kind, BRANCH if kind is Kind.DEVELOPMENT else None)
    content = {name: text.encode() for name, text in files.items()}
    return check_release(environment, BRANCH, "feature/x", "a" * 40, content, {})


def found(template: str, kind: Kind = Kind.DEVELOPMENT, **files: str) -> list[str]:
    """Findings about a template: level and `file:line: text`, without the folder's name."""
    names = {name.replace("_", "."): text for name, text in files.items()}
    findings = check({"pipeline.yml": template, **names}, kind).findings
    return [f"{each.level} {each}".replace("deploy/", "") for each in findings]


def starts(said: list[str], *beginnings: str) -> None:
    """Assert that the findings begin with these texts, and that there are no others."""
    assert len(said) == len(beginnings), said
    for text, beginning in zip(said, beginnings, strict=True):
        assert text.startswith(beginning), text


def test_a_valid_template_has_no_findings() -> None:
    assert found(PIPELINE) == []
    assert check({"pipeline.yml": PIPELINE}).release is not None


def test_all_errors_are_reported_at_once_and_refused_in_one_line() -> None:
    files = {
        "pipeline.yml": PIPELINE.replace(
            "Stage: {", "Size: {Type: Number}\n  Count: {Type: Number}\n  Stage: {"
        ),
        "pipeline.parameters.yml": "development:\n  Count: many\n  Cuont: 1\n",
        "deployer.yml": "teardown:\n  on_failure: hope\nbranchs: [x]\nttl: soon\n",
    }
    checked = check(files)
    assert checked.release is None
    assert [(each.file, each.line) for each in checked.findings] == [
        ("deploy/deployer.yml", 2),
        ("deploy/deployer.yml", 3),
        ("deploy/deployer.yml", 4),
        ("deploy/pipeline.yml", 7),
        ("deploy/pipeline.parameters.yml", 2),
        ("deploy/pipeline.parameters.yml", 3),
    ]
    environment = Environment(REPOSITORY, Kind.DEVELOPMENT, BRANCH)
    content = {name: text.encode() for name, text in files.items()}
    with pytest.raises(PermanentError) as caught:
        check_release(environment, BRANCH, "feature/x", "a" * 40, content, {}).accepted_release()
    assert str(caught.value) == (
        "deploy/deployer.yml:2: teardown.on_failure is not one of retain, force, stop (and 5 more)"
    )


@pytest.mark.parametrize(
    ("old", "new", "beginning"),
    [
        ("      Name: !Ref PipelineName\n", "", "error pipeline.yml:14: the pipeline's Name is chosen by AWS; it must"),
        ("Name: !Ref PipelineName", "Name: hello", "error pipeline.yml:15: the pipeline's Name is 'hello'; it must be"),
        ("Name: !Ref PipelineName", "Name: !Sub '${PipelineName}-p'", "error pipeline.yml:15: the pipeline's Name is"),
        ("    Type: AWS::CodePipeline::Pipeline\n", "    Type: AWS::SNS::Topic\n", "error pipeline.yml:11: no reso"),
        ("Conditions:", "Outputs: 5\nConditions:", "error pipeline.yml:8: Outputs is not a mapping"),
        ("  Stage: {", "  Stage: 1\n  Stage: {", "error pipeline.yml:8: Stage appears twice in one mapping"),
    ],
)  # fmt: skip
def test_deployer_must_be_able_to_find_and_start_the_pipeline(old: str, new: str, beginning: str) -> None:
    assert old in PIPELINE
    for kind in Kind:
        said = found(PIPELINE.replace(old, new), kind)
        assert any(each.startswith(beginning) for each in said), said


def test_a_wrong_pipeline_name_is_reported_once() -> None:
    starts(
        found(PIPELINE.replace("Name: !Ref PipelineName", "Name: hello")),
        "error pipeline.yml:15: the pipeline's Name",
    )


@pytest.mark.parametrize(
    "name", ["!Ref AWS::StackName", "!Sub '${PipelineName}'", "!Join ['', [!Ref PipelineName]]"]
)
def test_the_pipeline_name_may_be_written_in_other_ways(name: str) -> None:
    assert found(PIPELINE.replace("Name: !Ref PipelineName", f"Name: {name}")) == []


def test_what_only_aws_knows_is_not_judged() -> None:
    template = PIPELINE.replace("Name: !Ref PipelineName", "Name: !ImportValue name").replace(
        "CodeStarSourceConnection", "!ImportValue provider"
    )
    assert found(template) == []


def test_exceeded_template_limits_are_reported() -> None:
    many = "".join(f"  T{number}: {{Type: AWS::SNS::Topic}}\n" for number in range(500))
    starts(found(PIPELINE + many), "error pipeline.yml:11: 501 Resources; CloudFormation accepts at most 500")


@pytest.mark.parametrize(
    ("kind", "name", "level"),
    [
        ("AWS::IAM::Role", "RoleName: app", "error"),
        ("AWS::S3::Bucket", "BucketName: !Sub 'hello-${Stage}'", "error"),
        ("AWS::SQS::Queue", "QueueName: jobs", "warning"),
        ("AWS::DynamoDB::Table", "TableName: !If [Odd, a, !Ref PipelineName]", "warning"),
        ("AWS::Lambda::Function", "FunctionName: !Join [-, [hello, !Ref Stage]]", "warning"),
        ("AWS::SNS::Topic", "TopicName: !Sub '${PipelineName}-jobs'", ""),
        ("AWS::SQS::Queue", "QueueName: !Sub '${RepoBranch}-jobs'", ""),
        ("AWS::SNS::Topic", "TopicName: !Sub '${AWS::StackName}-jobs'", ""),
        ("AWS::SQS::Queue", "QueueName: !If [Live, jobs, !Ref AWS::NoValue]", ""),
        ("AWS::SQS::Queue", "QueueName: !ImportValue jobs", ""),
        ("AWS::SQS::Queue", "DelaySeconds: 1", ""),
    ],
)
def test_a_resource_name_that_every_branch_would_use(kind: str, name: str, level: str) -> None:
    template = PIPELINE + f"  Thing:\n    Type: {kind}\n    Properties:\n      {name}\n"
    if level:
        starts(found(template), f"{level} pipeline.yml:{LAST + 4}: Thing is named")
    else:
        assert found(template) == []
    assert found(template, Kind.PRODUCTION) == []


def test_a_resource_that_is_not_created_has_no_name_conflict() -> None:
    template = PIPELINE + "  Role: {Type: AWS::IAM::Role, Condition: Live, Properties: {RoleName: app}}\n"
    assert found(template) == []


def test_two_resources_with_one_name_in_one_template() -> None:
    twin = "  Second: {Type: AWS::CodePipeline::Pipeline, Properties: {Name: !Sub '${AWS::StackName}', Stages: []}}\n"
    for kind in Kind:
        starts(found(PIPELINE + twin, kind), f"error pipeline.yml:{LAST + 1}: Second has the name 'hello-")
    other = twin.replace("StackName}", "StackName}-2")
    starts(
        found(PIPELINE + other),
        f"error pipeline.yml:{LAST + 1}: Second is a second pipeline",
        f"warning pipeline.yml:{LAST + 1}: the name of Second has up to 102 characters",
    )
    assert found(PIPELINE + twin.replace("Pipeline, P", "Pipeline, Condition: Odd, P")) == []


@pytest.mark.parametrize(
    ("name", "shared"),
    [
        ("app", True),
        ("!Sub 'hello-${Stage}'", True),
        ("!Sub '${RepoBranch}-app'", True),  # equal to the name for a branch of another repository
        ("!Sub '${PipelineName}-app'", False),
        ("!Join [-, [!Ref AWS::StackName, app]]", False),
        ("'#{Variables.Name}'", False),
    ],
)
def test_a_stack_that_every_branch_would_deploy_to(name: str, shared: bool) -> None:
    template = (
        PIPELINE
        + f"""        - Name: Deploy
          Actions:
            - ActionTypeId: {{Category: Deploy, Owner: AWS, Provider: CloudFormation, Version: "1"}}
              Configuration:
                StackName: {name}
"""
    )
    told = [f"error pipeline.yml:{LAST + 5}: every branch would deploy to the same stack"]
    starts(found(template), *told * shared)
    assert found(template, Kind.STAGING) == []


def test_warnings_hide_no_error() -> None:
    queues = "".join(
        f"  Q{number}: {{Type: AWS::SQS::Queue, Properties: {{QueueName: q{number}}}}}\n"
        for number in range(150)
    )
    deploy = """        - Name: Deploy
          Actions:
            - ActionTypeId: {Category: Deploy, Owner: AWS, Provider: CloudFormation, Version: "1"}
              Configuration: {StackName: app}
"""
    said = found(PIPELINE + deploy + queues)
    assert "every branch would deploy to the same stack" in said[0]
    assert [each.partition(" ")[0] for each in said] == ["error", *["warning"] * 100]
    users = queues.replace("AWS::SQS::Queue", "AWS::IAM::User").replace("QueueName", "UserName")
    assert [each.partition(" ")[0] for each in found(PIPELINE + users)] == ["error"] * 100


@pytest.mark.parametrize(
    ("rules", "value", "words"),
    [
        ({"Type": "Number"}, "x", "not a number"),
        ({"Type": "Number"}, "1.5", ""),
        ({"Type": "Number", "MinValue": 2}, "1", "MinValue is 2"),
        ({"Type": "Number", "MaxValue": "2"}, "3", "MaxValue is 2"),
        ({"Type": "List<Number>"}, "1, 2,x", "'x', which is not a number"),
        ({"Type": "String", "MinLength": 2}, "a", "MinLength is 2"),
        ({"Type": "String", "MaxLength": 2}, "abc", "of 3 characters; MaxLength is 2"),
        ({"Type": "String", "AllowedValues": ["a", "b"]}, "c", "not one of a, b"),
        ({"Type": "String", "AllowedValues": [1, True]}, "1", ""),
        ({"Type": "String", "AllowedValues": [1, True]}, "true", ""),
        ({"Type": "String", "AllowedValues": ["1.0"]}, "1", "not one of 1.0"),
        ({"Type": "CommaDelimitedList", "AllowedValues": ["a", "b"]}, "a,c", "'c', which is not one of a, b"),
        ({"Type": "String", "AllowedPattern": "[a-z]+"}, "ab1", "does not match [a-z]+"),
        ({"Type": "String", "AllowedPattern": "[a-z]+"}, "ab", ""),
        ({"Type": "String", "AllowedPattern": "[a", "ConstraintDescription": "x"}, "ab", ""),
        ({"Type": "String", "AllowedPattern": "b", "ConstraintDescription": "say b"}, "a", ": say b"),
        ({"Type": "AWS::SSM::Parameter::Value<String>", "AllowedValues": ["a"]}, "/x", ""),
        ({"Type": "String"}, "x" * 4097, "longer than 4,096 bytes"),
        ({}, "x", ""),
    ],
)
def test_a_value_that_cloudformation_would_reject(rules: dict[str, object], value: str, words: str) -> None:
    told = value_problem(rules, value)
    assert words in told
    assert bool(words) == bool(told)


def test_a_value_is_reported_at_its_own_line_and_a_default_at_its_declaration() -> None:
    template = PIPELINE.replace(
        "Stage: {", "Size: {Type: Number, Default: big}\n  Stage: {AllowedValues: [dev], "
    )
    said = found(template)
    starts(
        said,
        "error pipeline.yml:7: Size is 'big', which is not a number",
        "error pipeline.yml:8: Stage is 'development', which",
    )
    values = json.dumps({"development": [{"ParameterKey": "Size", "ParameterValue": "huge"}]}, indent=1)
    said = found(template, pipeline_parameters_json=values)
    assert said[0].startswith("error pipeline.parameters.json:5: Size is 'huge'"), said


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(a+)+$", "which does not match (a+)+$"),  # a backtracking matcher needs hours for it
        ("(a|aa)+$", "which does not match"),
        ("a*a*a*a*a*a*b", "which does not match"),
        ("(?=a)a+!", ""),  # only CloudFormation checks lookaheads, intersections and large patterns
        ("[a-z&&[^a]]+", ""),
        (r"\p{L}{900}", ""),
    ],
)
def test_a_pattern_has_the_same_result_on_every_machine(pattern: str, words: str) -> None:
    budget = EvaluationBudget()
    told = value_problem({"Type": "String", "AllowedPattern": pattern}, "a" * 4000 + "!", budget)
    assert words in told
    assert bool(words) == bool(told)
    assert budget.steps_spent < 10_000


def test_a_large_pattern_spends_its_steps_from_the_budget() -> None:
    rules = {"Type": "String", "AllowedPattern": "(((a?b?c?d?e?f?g?h?){0,100}){0,10})x"}
    budget = EvaluationBudget()
    assert "does not match" in value_problem(rules, "abcdefgh" * 500, budget)
    with pytest.raises(TooComplexError):
        value_problem(rules, "abcdefgh" * 500, budget)


def test_a_value_with_hundreds_of_possible_texts_is_refused_with_its_line() -> None:
    choices = ", ".join("!If [Odd, a, b]" for _ in range(9))
    template = (
        PIPELINE
        + f"  Queue:\n    Type: AWS::SQS::Queue\n    Properties: {{QueueName: !Join ['', [{choices}]]}}\n"
    )
    starts(
        found(template),
        f"error pipeline.yml:{LAST + 3}: Resources.Queue.Properties.QueueName: a value here has hundreds",
    )


def test_evaluation_of_circular_names_ends() -> None:
    template = PIPELINE + (
        "  A: {Type: AWS::SQS::Queue, Properties: {QueueName: !Ref B}}\n"
        "  B: {Type: AWS::SQS::Queue, Properties: {QueueName: !Sub '${A}${A}'}}\n"
    )
    assert found(template.replace("  Odd:", "  Odd: {Condition: Odd}\n  Even:")) == []
