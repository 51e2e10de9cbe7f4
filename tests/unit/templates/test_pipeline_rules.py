"""A pipeline reads this repository at the environment's branch, and nothing but deployer starts it."""

import json
from pathlib import Path
from typing import Any

import pytest

from deployer.model.environments import Environment, Kind, Repository
from deployer.model.refs import Ref
from deployer.templates.release import check_release

REPOSITORY = Repository.parse("acme/hello")
BRANCH = Ref.of_branch("feature/x")
GIVEN = ("PipelineName", "RepoOwner", "RepoName", "RepoBranch", "Other", "Unknown")
CONNECTION = {
    "FullRepositoryId": {"Fn::Sub": "${RepoOwner}/${RepoName}"},
    "BranchName": {"Ref": "RepoBranch"},
    "DetectChanges": False,
}
UNKNOWN = {"Fn::ImportValue": "only-aws-knows"}
NOTHING = {"Ref": "AWS::NoValue"}
MAYBE = "Perhaps"  # a condition that only AWS can evaluate
ARN = {"Fn::Sub": "arn:${AWS::Partition}:codepipeline:${AWS::Region}:${AWS::AccountId}:${Pipeline}"}


def source(
    settings: Any = None, provider: Any = "CodeStarSourceConnection", name: str = "Source", **more: Any
) -> dict[str, Any]:
    """A source action."""
    kind = {"Category": "Source", "Owner": "AWS", "Provider": provider, "Version": "1"}
    return {"Name": name, "ActionTypeId": kind, "Configuration": settings or CONNECTION, **more}


def pipeline(*sources: Any, **properties: Any) -> dict[str, Any]:
    """A pipeline with these source actions."""
    gate = {"Name": "Gate", "ActionTypeId": {"Category": "Approval", "Provider": "Manual"}}
    stages = [{"Name": "Source", "Actions": list(sources)}, {"Name": "Go", "Actions": [gate]}]
    properties = {"Name": {"Ref": "PipelineName"}, "Stages": stages, **properties}
    return {"Type": "AWS::CodePipeline::Pipeline", "Properties": properties}


def template(*sources: Any, properties: dict[str, Any] | None = None, **resources: Any) -> dict[str, Any]:
    """A template with one pipeline, and perhaps other resources."""
    return {
        "Parameters": {name: {"Type": "String", "Default": "x"} for name in GIVEN},
        "Conditions": {MAYBE: {"Fn::Equals": [UNKNOWN, "yes"]}, "Never": {"Fn::Equals": ["a", "b"]}},
        "Resources": {"Pipeline": pipeline(*(sources or [source()]), **(properties or {})), **resources},
    }


def found(
    content: dict[str, Any] | str, kind: Kind = Kind.DEVELOPMENT, branch: str = "feature/x"
) -> list[str]:
    """The errors in a template, as `line: text`."""
    environment = Environment(REPOSITORY, kind, BRANCH if kind is Kind.DEVELOPMENT else None)
    name = "pipeline.yml" if isinstance(content, str) else "pipeline.json"
    text = content if isinstance(content, str) else json.dumps(content, indent=1)
    checked = check_release(environment, BRANCH, branch, "a" * 40, {name: text.encode()}, {})
    return [f"{each.line}: {each.text}" for each in checked.findings if each.level == "error"]


def with_settings(**settings: Any) -> dict[str, Any]:
    """The source action of the connection with other settings; None removes one."""
    return source({key: value for key, value in {**CONNECTION, **settings}.items() if value is not None})


def test_a_pipeline_that_reads_this_repository_and_waits_for_deployer_is_right() -> None:
    for kind in Kind:
        assert found(template(), kind) == []


V1 = {"Owner": {"Ref": "RepoOwner"}, "Repo": {"Ref": "RepoName"}, "Branch": {"Ref": "RepoBranch"}}
TOOLS = source({**CONNECTION, "FullRepositoryId": "acme/tools", "BranchName": "main"}, name="Tools")
BUCKET = {"S3Bucket": "b", "S3ObjectKey": "k", "PollForSourceChanges": False}


@pytest.mark.parametrize(
    "sources",
    [
        [TOOLS, source()],
        [source(), TOOLS],
        [source({"RepositoryName": "legacy", "PollForSourceChanges": "false"}, "CodeCommit"), source()],
        [source(BUCKET, "S3", "Bucket"), source()],
        [source({"RepositoryName": "images"}, "ECR", "Image"), source()],
        [source({**V1, "PollForSourceChanges": False}, "GitHub")],
        [with_settings(FullRepositoryId="Acme/HELLO")],  # GitHub ignores case
        [with_settings(BranchName="feature/x")],
        [with_settings(DetectChanges="false")],
        # only AWS knows the value: the definition of the pipeline decides before the start
        [with_settings(FullRepositoryId=UNKNOWN)],
        [with_settings(FullRepositoryId={"Fn::Join": ["/", ["acme", UNKNOWN]]})],
        [with_settings(BranchName={"Fn::If": [MAYBE, "main", {"Ref": "RepoBranch"}]})],
        [with_settings(BranchName="#{variables.Branch}")],
        [with_settings(DetectChanges=UNKNOWN)],
        [with_settings(DetectChanges={"Fn::If": [MAYBE, True, False]})],
        [source(provider=UNKNOWN)],
        [source(UNKNOWN)],
        [TOOLS, {"Fn::If": [MAYBE, source(), NOTHING]}],
        [{"Fn::If": ["Never", with_settings(DetectChanges=True, BranchName="main"), source()]}],
        [source(), {"Fn::If": [MAYBE, with_settings(DetectChanges=True), NOTHING]}],
        [UNKNOWN],
    ],
)
def test_a_source_that_may_be_right_is_not_rejected(sources: list[Any]) -> None:
    assert found(template(*sources)) == []


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ([TOOLS], ["FullRepositoryId is 'acme/tools'", "BranchName is 'main'"]),
        ([with_settings(FullRepositoryId="other/hello")], ["FullRepositoryId is 'other/hello'"]),
        ([with_settings(BranchName="main")], ["at the environment's branch: BranchName is 'main'"]),
        ([with_settings(BranchName=None)], ["BranchName is missing"]),
        ([with_settings(BranchName={"Fn::If": [MAYBE, "a", "b"]})], ["BranchName is 'a' or 'b'"]),
        # the one with the fewest settings to correct is reported
        ([TOOLS, with_settings(BranchName="main")], ["BranchName is 'main'"]),
        ([source({**V1, "Repo": "other", "PollForSourceChanges": False}, "GitHub")], ["Repo is 'other'"]),
        (
            [source({"RepositoryName": "legacy", "BranchName": "master", "PollForSourceChanges": False}, "CodeCommit")],
            ["(Source reads CodeCommit); add one with Provider: CodeStarSourceConnection"],
        ),
        ([source(BUCKET, "S3", "Bucket")], ["(Bucket reads S3)"]),
        ([TOOLS, {"Fn::If": ["Never", source(), NOTHING]}], ["'acme/tools'", "'main'"]),
    ],
)  # fmt: skip
def test_a_pipeline_without_a_source_of_this_repository_is_rejected(
    sources: list[Any], words: list[str]
) -> None:
    told = found(template(*sources))
    assert len(told) == len(words), told
    for text, expected in zip(told, words, strict=True):
        assert text.partition(": ")[2].startswith("no source action reads this repository")
        assert expected in text


def test_a_literal_branch_is_right_where_it_is_the_environments() -> None:
    content = template(with_settings(BranchName="main"))
    assert found(content, Kind.STAGING, "main") == []
    assert found(content, Kind.PRODUCTION, "main") == []
    assert len(found(content)) == 1


def test_a_side_source_of_the_same_repository_needs_not_be_at_the_branch() -> None:
    assert found(template(with_settings(BranchName="settings"), source(name="App"))) == []


SWITCHES = {
    "CodeStarSourceConnection": "DetectChanges",
    "GitHub": "PollForSourceChanges",
    "CodeCommit": "PollForSourceChanges",
    "S3": "PollForSourceChanges",
}


@pytest.mark.parametrize("provider", SWITCHES)
@pytest.mark.parametrize("value", [None, True, "true", NOTHING, {"Fn::If": [MAYBE, True, NOTHING]}])
def test_automatic_start_is_rejected_on_any_source_action(provider: str, value: Any) -> None:
    settings = {"RepositoryName": "side", **({SWITCHES[provider]: value} if value is not None else {})}
    for sources in (
        [source(), source(settings, provider, "Side")],
        [source(settings, provider, "Side"), source()],
    ):
        content = template(*sources)
        (told,) = found(content)
        line = json.dumps(content, indent=1).split("\n")[int(told.partition(":")[0]) - 1]
        assert (SWITCHES[provider] if value is not None else "Configuration") in line
        assert "the source of Side changes" in told
        assert told.endswith(f'write "{SWITCHES[provider]}": false')


def test_ecr_has_no_automatic_start_of_its_own() -> None:
    assert found(template(source(), source({"RepositoryName": "images"}, "ECR", "Image"))) == []


TRIGGER = [{"ProviderType": "CodeStarSourceConnection", "GitConfiguration": {"SourceActionName": "Source"}}]


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"Triggers": TRIGGER}, "remove Triggers"),
        ({"Triggers": {"Fn::If": [MAYBE, TRIGGER, TRIGGER]}}, "remove Triggers"),
        ({"Triggers": []}, ""),
        ({"Triggers": NOTHING}, ""),
        ({"Triggers": {"Fn::If": [MAYBE, TRIGGER, NOTHING]}}, ""),
        ({"RestartExecutionOnUpdate": True}, 'write "RestartExecutionOnUpdate": false'),
        ({"RestartExecutionOnUpdate": "true"}, 'write "RestartExecutionOnUpdate": false'),
        ({"RestartExecutionOnUpdate": False}, ""),
        ({"RestartExecutionOnUpdate": {"Fn::If": [MAYBE, True, False]}}, ""),
        ({"RestartExecutionOnUpdate": UNKNOWN}, ""),
    ],
)
def test_a_property_by_which_aws_starts_the_pipeline_is_rejected(
    properties: dict[str, Any], words: str
) -> None:
    told = found(template(properties=properties))
    assert len(told) == bool(words), told
    assert all(each.endswith(words) and "only deployer may start it" in each for each in told)


def resource(kind: str, properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A resource."""
    return {"Type": kind, "Properties": properties, **more}


CALL = "arn:aws:scheduler:::aws-sdk:codepipeline:startPipelineExecution"
INPUT = {"Fn::Sub": '{"Name": "${Pipeline}"}'}
RULE, SCHEDULE, WEBHOOK = "AWS::Events::Rule", "AWS::Scheduler::Schedule", "AWS::CodePipeline::Webhook"


@pytest.mark.parametrize(
    "starting",
    [
        resource(WEBHOOK, {"TargetPipeline": {"Ref": "Pipeline"}}),
        resource(WEBHOOK, {"TargetPipeline": {"Ref": "PipelineName"}}),
        resource(RULE, {"ScheduleExpression": "rate(1 day)", "Targets": [{"Arn": ARN}]}),
        resource(RULE, {"State": "ENABLED", "Targets": [{"Arn": "arn:aws:sns:::t"}, {"Arn": ARN}]}),
        resource(RULE, {"State": {"Ref": "Other"}, "Targets": [{"Arn": ARN}]}),
        resource(SCHEDULE, {"Target": {"Arn": ARN}}),
        resource(SCHEDULE, {"Target": {"Arn": CALL, "Input": INPUT}}),
    ],
)
def test_a_resource_that_starts_the_pipeline_is_rejected(starting: dict[str, Any]) -> None:
    (told,) = found(template(Starts=starting))
    assert "Starts starts the pipeline" in told
    assert "only deployer may start it: remove" in told
    assert found(template(Starts={**starting, "Condition": MAYBE})) == []
    assert found(template(Starts={**starting, "Condition": "Never"})) == []


@pytest.mark.parametrize(
    "harmless",
    [
        resource(WEBHOOK, {"TargetPipeline": "somebody-elses"}),
        resource(WEBHOOK, {"TargetPipeline": UNKNOWN}),
        resource(RULE, {"State": "DISABLED", "Targets": [{"Arn": ARN}]}),
        resource(RULE, {"EventPattern": {"source": ["aws.codepipeline"]}, "Targets": [{"Arn": "arn:aws:sns:::t"}]}),
        resource(RULE, {"Targets": [{"Arn": "arn:aws:codepipeline:us-east-1:123456789012:somebody-elses"}]}),
        resource(RULE, {"Targets": [{"Arn": UNKNOWN}]}),
        resource(SCHEDULE, {"State": "DISABLED", "Target": {"Arn": ARN}}),
        resource(SCHEDULE, {"Target": {"Arn": CALL, "Input": '{"Name": "somebody-elses"}'}}),
        resource(SCHEDULE, {"Target": {"Arn": CALL, "Input": "{"}}),
        resource("AWS::CodeStarNotifications::NotificationRule", {"Resource": ARN}),
    ],
)  # fmt: skip
def test_a_resource_that_starts_something_else_is_accepted(harmless: dict[str, Any]) -> None:
    assert found(template(Starts=harmless)) == []


@pytest.mark.parametrize(
    ("second", "rejected"),
    [
        (pipeline(source(), Name={"Fn::Sub": "${PipelineName}-2"}), True),
        ({**pipeline(source(), Name={"Fn::Sub": "${PipelineName}-2"}), "Condition": MAYBE}, False),
        ({**pipeline(source(), Name={"Fn::Sub": "${PipelineName}-2"}), "Condition": "Never"}, False),
        (pipeline(source(), Name=UNKNOWN), False),
        (pipeline(source(), Name=NOTHING), True),
    ],
)
def test_a_second_pipeline_is_rejected(second: dict[str, Any], *, rejected: bool) -> None:
    told = found(template(Second=second))
    assert len(told) == rejected, told
    assert all("Second is a second pipeline, and deployer starts only Pipeline" in each for each in told)


def test_a_template_without_parameters_is_told_what_to_declare() -> None:
    content = template(source({**CONNECTION, "FullRepositoryId": "acme/tpl", "BranchName": "main"}))
    del content["Parameters"]
    content["Resources"]["Pipeline"]["Properties"]["Name"] = {"Ref": "AWS::StackName"}
    told = found(content)
    assert len(told) == 2
    assert all(
        "it has no parameters, so nothing ties it to its environment: declare RepoOw" in each for each in told
    )


def cdk(**parameters: Any) -> dict[str, Any]:
    """A template as the CDK writes it."""
    content = template(with_settings(FullRepositoryId="acme/tpl", BranchName="main", DetectChanges=None))
    bootstrap = {"Type": "AWS::SSM::Parameter::Value<String>", "Default": "/cdk-bootstrap/x/version"}
    content["Parameters"] = {"PipelineName": {"Type": "String"}, "BootstrapVersion": bootstrap, **parameters}
    mutate = {"Name": "SelfMutate", "ActionTypeId": {"Category": "Build", "Provider": "CodeBuild"}}
    deploy = {
        "Name": "App",
        "ActionTypeId": {"Category": "Deploy", "Provider": "CloudFormation"},
        "Configuration": {"StackName": "Dev-App"},
    }
    properties = content["Resources"]["Pipeline"]["Properties"]
    properties["RestartExecutionOnUpdate"] = True
    properties["Stages"] += [
        {"Name": "UpdatePipeline", "Actions": [mutate]},
        {"Name": "Dev", "Actions": [deploy]},
    ]
    return content


def test_a_template_of_the_cdk_gets_remedies_in_its_words() -> None:
    told = "\n".join(found(cdk()))
    for words in (
        "write triggerOnPush: false in CDK",
        "addPropertyOverride('Stages.0.Actions.0.Configuration.FullRepositoryId', Fn.sub('${RepoOwner}/${RepoName}'))",
        "addPropertyOverride('Stages.0.Actions.0.Configuration.BranchName', Fn.ref('RepoBranch'))",
        "declare RepoOwner, RepoName and RepoBranch (Type: String)",
        "write selfMutation: false in CDK",
        "write restartExecutionOnUpdate: false on the Pipeline given as codePipeline in CDK",
        "addPropertyOverride('Stages.3.Actions.0.Configuration.StackName', Fn.sub('${PipelineName}-Dev-App'))",
    ):
        assert words in told, words
    assert len(found(cdk())) == 6


def test_a_cdk_path_in_the_metadata_is_recognized_too() -> None:
    content = template(with_settings(DetectChanges=True))
    content["Resources"]["Pipeline"]["Metadata"] = {"aws:cdk:path": "Stack/Pipeline/Resource"}
    assert found(content)[0].endswith("write triggerOnPush: false in CDK")


def test_the_line_to_write_is_yaml_in_a_yaml_template() -> None:
    text = (Path(__file__).parents[3] / "sandbox" / "sample" / "deploy" / "pipeline.yml").read_text()
    for old, new, remedy in (
        ("DetectChanges: false", "DetectChanges: true", "write DetectChanges: false"),
        ("BranchName: !Ref RepoBranch", "BranchName: main", "write BranchName: !Ref RepoBranch"),
        (
            "${RepoOwner}/${RepoName}",
            "acme/x",
            "write FullRepositoryId: !Sub ${RepoOwner}/${RepoName}, or add",
        ),
    ):
        assert old in text
        line = text[: text.index(old)].count("\n") + 1
        told = [each for each in found(text.replace(old, new)) if "ConnectionArn" not in each]
        assert any(each.startswith(f"{line}: ") and remedy in each for each in told), told


@pytest.mark.parametrize(
    "settings",
    [
        "{1: x, true: y, null: z}",
        "[1, 2]",
        "5",
        "{Fn::If: 7}",
        "{Fn::Transform: {Name: x}}",
        "{DetectChanges: {a: b}}",
    ],
)
def test_odd_settings_are_no_fault_of_deployer(settings: str) -> None:
    kind = "{Category: Source, Owner: AWS, Provider: CodeStarSourceConnection, Version: '1'}"
    stages = f"[{{Name: S, Actions: [{{Name: A, ActionTypeId: {kind}, Configuration: {settings}}}]}}]"
    properties = f"{{Name: !Ref AWS::StackName, Triggers: 5, Stages: {stages}}}"
    found(
        f"Resources:\n  P: {{Type: AWS::CodePipeline::Pipeline, Properties: {properties}}}\n  3: {{Type: [x]}}\n"
    )
