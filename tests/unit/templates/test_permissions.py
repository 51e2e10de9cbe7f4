"""A name outside the template's target is found, however it is written."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployer.model.environments import Environment, Kind, Repository
from deployer.model.refs import Ref
from deployer.model.targets import Target
from deployer.templates.release import check_release

OURS, OTHER = "111111111111", "222222222222"
BOUNDARY = f"arn:aws:iam::{OURS}:policy/boundary"
TARGET = Target(
    Kind.DEVELOPMENT,
    account=OURS,
    regions=("eu-west-1",),
    artifact_bucket="artifacts",
    connection_arn=f"arn:aws:codeconnections:eu-west-1:{OTHER}:connection/shared",
    allowed_roles=(f"arn:aws:iam::{OURS}:role/shared-*", "arn:aws:lambda:*:333333333333:layer:*"),
)
BRANCH = Ref.of_branch("feature/x")
ENVIRONMENT = Environment(Repository.parse("acme/hello"), Kind.DEVELOPMENT, BRANCH)
BASE: dict[str, Any] = {
    "Parameters": {"PipelineName": {"Type": "String"}, "ConnectionArn": {"Type": "String", "Default": ""}},
    "Resources": {
        "Pipeline": {
            "Type": "AWS::CodePipeline::Pipeline",
            "Properties": {"Name": {"Ref": "PipelineName"}, "RoleArn": {"Ref": "ConnectionArn"}},
        },
    },
}


def found(
    resources: dict[str, Any],
    target: Target = TARGET,
    *,
    values: dict[str, str] | None = None,
    **sections: Any,
) -> list[str]:
    """Findings about a template that has these resources besides its pipeline, without those about long names."""
    parameters = {**BASE["Parameters"], **sections.pop("Parameters", {})}
    template = {"Parameters": parameters, "Resources": {**BASE["Resources"], **resources}, **sections}
    environment = Environment(
        ENVIRONMENT.repository, target.kind, BRANCH if target.kind is Kind.DEVELOPMENT else None
    )
    files = {
        "pipeline.json": json.dumps(template, indent=1).encode(),
        "pipeline.parameters.json": json.dumps({str(target.kind): values or {}}).encode(),
    }
    given = target.given("eu-west-1")
    checked = check_release(environment, BRANCH, "x", "a" * 40, files, given, target, "eu-west-1")
    findings = [each for each in checked.findings if "with a long branch name" not in each.message]
    return [f"{each.level} {each.message}" for each in findings]


def names(value: Any) -> dict[str, Any]:
    """A resource that contains a value."""
    return {
        "Thing": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": {"Ref": "PipelineName"}, "X": value}}
    }


def role(**properties: Any) -> dict[str, Any]:
    """A role that the template creates."""
    return {"Mine": {"Type": "AWS::IAM::Role", "Properties": properties}}


@pytest.mark.parametrize("kind", Kind)
def test_an_arn_of_another_account_is_refused_for_every_kind(kind: Kind) -> None:
    target = replace(TARGET, kind=kind)
    (said,) = found(names(f"arn:aws:sqs:eu-west-1:{OTHER}:jobs"), target)
    assert said == (
        f"error arn:aws:sqs:eu-west-1:{OTHER}:jobs is of account {OTHER}; {kind} is in {OURS}"
        f" (allow it by {kind}.allowed_roles in DEPLOYER_TARGETS)"
    )


@pytest.mark.parametrize(
    "value",
    [
        f"arn:aws:sqs:eu-west-1:{OURS}:jobs",
        "arn:aws:s3:::artifacts/*",
        "arn:aws:iam::aws:policy/ReadOnlyAccess",
        {"Fn::Sub": "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:jobs"},
        "arn:aws:lambda:eu-west-1:333333333333:layer:tools:1",
        {"Ref": "ConnectionArn"},  # a value that the installation supplies
        f"{OTHER} is a number",
    ],
)
def test_an_arn_of_the_target_or_of_no_account_is_permitted(value: Any) -> None:
    assert found(names(value)) == []


def test_accounts_are_not_checked_if_the_target_has_none() -> None:
    assert found(names(f"arn:aws:sqs:eu-west-1:{OTHER}:jobs"), Target(Kind.DEVELOPMENT)) == []
    assert found(names(f"arn:aws:iam::{OTHER}:role/x"), Target(Kind.DEVELOPMENT)) == []


# --- however it is written: templates that build a text from pieces of it


PARTS = ("arn:aws:iam::", OTHER, ":role/production-deploy")
ARN = "".join(PARTS)


@st.composite
def spellings(draw: st.DrawFn) -> tuple[Any, dict[str, Any], dict[str, str], dict[str, Any]]:
    """A value that evaluates to `ARN`, with the parameters, parameter values and conditions that it needs."""
    parameters: dict[str, Any] = {}
    values: dict[str, str] = {}
    sections: dict[str, Any] = {
        "Conditions": {
            "Yes": {"Fn::Equals": [{"Ref": "PipelineName"}, ENVIRONMENT.stack_name]},
            "Unsure": {"Fn::Equals": [{"Fn::ImportValue": "x"}, "y"]},
        },
        "Mappings": {"Map": {"one": {}}},
        "Resources": {},
    }

    def spell(text: str, depth: int) -> Any:
        way = draw(
            st.sampled_from(
                [
                    "text",
                    "default",
                    "given",
                    "sub",
                    "list sub",
                    "join",
                    "list join",
                    "attribute",
                    "if",
                    "unsure",
                    "map",
                    "select",
                ]
            )
        )
        if depth <= 0 or not text:
            way = draw(st.sampled_from(["text", "default", "given"]))
        cut = draw(st.integers(0, len(text)))
        left, right = text[:cut], text[cut:]
        name = f"P{len(parameters)}"
        match way:
            case "default":
                parameters[name] = {"Type": "String", "Default": text}
                return {"Ref": name}
            case "given":
                parameters[name] = {"Type": "String", "Default": "unused"}
                values[name] = text
                return {"Ref": name}
            case "sub":
                parameters[name] = {"Type": "String", "Default": left}
                return {"Fn::Sub": f"${{{name}}}{right}"}
            case "list sub":
                return {
                    "Fn::Sub": [
                        "${One}${Two}",
                        {"One": spell(left, depth - 1), "Two": spell(right, depth - 1)},
                    ]
                }
            case "join":
                separator = draw(st.sampled_from(["", ":", "/"]))
                pieces = text.split(separator) if separator else [left, right]
                return {"Fn::Join": [separator, [spell(piece, depth - 2) for piece in pieces]]}
            case "list join":
                sections["Mappings"]["Map"]["one"][name := f"K{len(sections['Mappings']['Map']['one'])}"] = [
                    left,
                    right,
                ]
                return {"Fn::Join": ["", {"Fn::FindInMap": ["Map", "one", name]}]}
            case "attribute":
                sections["Resources"][f"S{len(sections['Resources'])}"] = {
                    "Type": "AWS::SSM::Parameter",
                    "Properties": {"Value": text},
                }
                return {"Fn::GetAtt": [f"S{len(sections['Resources']) - 1}", "Value"]}
            case "if":
                return {"Fn::If": ["Yes", spell(text, depth - 1), "never"]}
            case "unsure":
                return {"Fn::If": ["Unsure", "something else", spell(text, depth - 1)]}
            case "map":
                sections["Mappings"]["Map"]["one"][name := f"K{len(sections['Mappings']['Map']['one'])}"] = (
                    text
                )
                return {"Fn::FindInMap": ["Map", "one", name]}
            case "select":
                return {"Fn::Select": [1, ["no", spell(text, depth - 1)]]}
        return text

    return spell(ARN, 3), parameters, values, sections


@settings(max_examples=150, deadline=None)
@given(spellings(), st.sampled_from(["property", "output", "policy", "text"]))
def test_a_forbidden_arn_is_found_however_it_is_written(
    spelling: tuple[Any, dict[str, Any], dict[str, str], dict[str, Any]], place: str
) -> None:
    value, parameters, values, sections = spelling
    made = sections.pop("Resources")
    resources: dict[str, Any] = {}
    if place == "output":
        sections["Outputs"] = {"Out": {"Value": value}}
    elif place == "policy":
        resources = role(Policies=[{"PolicyDocument": {"Statement": [{"Resource": ["*", value]}]}}])
    elif place == "text":
        resources = names({"Fn::Join": ["", ["aws sts assume-role --role-arn '", value, "'"]]})
    else:
        resources = names(value)
    said = found({**made, **resources}, values=values, Parameters=parameters, **sections)
    assert any(f"{ARN} is of account {OTHER}" in each for each in said), said


@pytest.mark.parametrize(
    "text",
    [
        f"arn:arn:aws:iam::{OTHER}:role/x",
        f'{{"Role":"arn:aws:iam::{OTHER}:role/x"}}',
        f"x\narn:aws:iam::{OTHER}:role/x",
    ],
)
def test_an_arn_within_other_text_is_found(text: str) -> None:
    assert any(f"arn:aws:iam::{OTHER}:role/x is of account" in each for each in found(names(text)))


def test_an_account_that_a_policy_trusts_is_refused() -> None:
    trust = {"Statement": [{"Principal": {"AWS": OTHER}, "Action": "sts:AssumeRole"}]}
    assert found(role(AssumeRolePolicyDocument=trust)) == [
        f"error account {OTHER} is a principal; development is in {OURS}"
    ]


def test_a_loop_hides_nothing() -> None:
    loop = {
        "Fn::ForEach::Topics": [
            "Account",
            [OURS, OTHER],
            {
                "Topic${Account}": {
                    "Type": "AWS::SNS::Topic",
                    "Properties": {"X": {"Fn::Sub": "arn:aws:sns:x:${Account}:y"}},
                }
            },
        ]
    }
    said = found(loop, Transform="AWS::LanguageExtensions")
    assert [each for each in said if OTHER in each]


def loop(name: str, items: Any, value: Any) -> dict[str, Any]:
    topic = {"Type": "AWS::SNS::Topic", "Properties": {"X": value}}
    return {f"Fn::ForEach::{name}": ["A", items, {name + "${A}": topic}]}


SQS = "arn:aws:sqs:eu-west-1:${A}:jobs"
LIST = {"List": {"Type": "CommaDelimitedList", "Default": f"{OURS}, {OTHER}"}}


@pytest.mark.parametrize(
    "resources",
    [
        {**loop("One", [OTHER], {"Fn::Sub": SQS}), **loop("Two", [OURS], {"Fn::Sub": SQS})},
        loop("One", [OTHER], SQS),
        loop("One", [f"arn:aws:sqs:eu-west-1:{OTHER}:jobs"], "${A}"),
        loop("One", [OTHER], {"Fn::Sub": SQS.replace("$", "&")}),
        loop("One", {"Ref": "List"}, {"Fn::Sub": SQS}),
        loop("One", ["One"], {"Fn::Sub": ["arn:aws:sqs:x:${B}:y", {"B": {"Ref": "Account${A}"}}]}),
    ],
)
def test_no_kind_of_loop_hides_anything(resources: dict[str, Any]) -> None:
    parameters = {**LIST, "AccountOne": {"Type": "String", "Default": OTHER}}
    said = found(resources, Parameters=parameters, Transform="AWS::LanguageExtensions")
    assert [each for each in said if f"is of account {OTHER}" in each]


def test_what_only_looks_like_a_loop_hides_no_parameter() -> None:
    parameters = {"Account": {"Type": "String", "Default": OTHER}}
    looks = {"Fn::ForEach::X": ["Account", [OURS], {}]}
    value = {"Fn::Sub": "arn:aws:sqs:eu-west-1:${Account}:jobs"}
    said = found(names(value), Parameters=parameters, Metadata=looks)
    assert [each for each in said if f"is of account {OTHER}" in each]


@pytest.mark.parametrize(
    "trust",
    [
        {"Fn::Split": [",", f"{OURS},{OTHER}"]},
        {"Ref": "List"},
        {"Fn::GetAtt": "Kept.Value"},
    ],
)
def test_an_account_among_others_that_a_policy_trusts_is_refused(trust: Any) -> None:
    policy = {"Statement": [{"Principal": {"AWS": trust}, "Action": "sts:AssumeRole"}]}
    kept = {"Kept": {"Type": "AWS::SSM::Parameter", "Properties": {"Value": OTHER}}}
    refused = [f"error account {OTHER} is a principal; development is in {OURS}"]
    assert found({**role(AssumeRolePolicyDocument=policy), **kept}, Parameters=LIST) == refused


@pytest.mark.parametrize("account", [OTHER, int(OTHER)])
def test_an_account_that_a_policy_as_text_trusts_is_refused(account: Any) -> None:
    text = json.dumps({"Statement": [{"Principal": {"AWS": [account]}, "Action": "sts:AssumeRole"}]})
    refused = [f"error account {OTHER} is a principal; development is in {OURS}"]
    assert found(role(AssumeRolePolicyDocument=text)) == refused
    assert found(role(AssumeRolePolicyDocument='{"Principal": ')) == []


# --- roles, for development

# a condition that is false in AWS, which nobody can know before
HIDDEN: dict[str, Any] = {
    "Parameters": {"Stored": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": "/x"}},
    "Conditions": {
        "Hidden": {"Fn::Equals": [{"Ref": "Stored"}, "y"]},
        "Here": {"Fn::Equals": [{"Ref": "PipelineName"}, ENVIRONMENT.stack_name]},
    },
}


def test_a_role_that_may_not_be_created_is_not_a_role_of_the_template() -> None:
    value = f"arn:aws:iam::{OURS}:role/production-deploy"
    name = {"Fn::If": ["Here", "production-deploy", {"Ref": "PipelineName"}]}
    decoy = {"Type": "AWS::IAM::Role", "Condition": "Hidden", "Properties": {"RoleName": name}}
    (said,) = found({**names(value), "Decoy": decoy}, **HIDDEN)
    assert "is not a role of this template" in said
    name = {"Fn::If": ["Hidden", {"Ref": "PipelineName"}, name]}
    decoy = {"Type": "AWS::IAM::Role", "Properties": {"RoleName": name}}
    (said,) = found({**names(value), "Decoy": decoy}, **HIDDEN)
    assert "is not a role of this template" in said


@pytest.mark.parametrize(
    ("value", "refused"),
    [
        (f"arn:aws:iam::{OURS}:role/production-deploy", True),
        ({"Fn::Sub": "arn:aws:iam::${AWS::AccountId}:role/production-deploy"}, True),
        ({"Fn::Sub": "arn:${AWS::Partition}:iam::${Nothing.Account}:role/path/production-deploy"}, True),
        (f"arn:aws:iam::{OURS}:role/*", True),
        ({"Fn::Sub": "arn:aws:iam::${AWS::AccountId}:role/production-${Thing.Name}"}, True),
        (f"arn:aws:iam::{OURS}:role/shared-build", False),
        (f"arn:aws:iam::{OURS}:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS", False),
        ({"Fn::Sub": "arn:aws:iam::${AWS::AccountId}:role/${Mine}"}, False),
        ({"Fn::Sub": "arn:aws:iam::${AWS::AccountId}:role/${PipelineName}-app-*"}, False),
        ({"Fn::GetAtt": ["Mine", "Arn"]}, False),
    ],
)
def test_a_role_from_elsewhere_is_refused_for_development(value: Any, refused: bool) -> None:
    said = found({**names(value), **role()})
    assert [each.partition(" is ")[2][:28] for each in said] == ["not a role of this template;"] * refused
    assert found({**names(value), **role()}, replace(TARGET, kind=Kind.STAGING)) == []


def test_a_role_may_be_named_as_the_template_names_it() -> None:
    name = {"Fn::Sub": "x${PipelineName}"}
    value = {"Fn::Sub": f"arn:aws:iam::{OURS}:role/x${{PipelineName}}"}
    assert found({**names(value), **role(RoleName=name)}) == []
    assert len(found({**names(value), **role()})) == 1


@pytest.mark.parametrize("kind", ["AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::InstanceProfile"])
def test_permissions_for_a_role_from_elsewhere_are_refused(kind: str) -> None:
    def attached(*roles: Any) -> list[str]:
        return found({"More": {"Type": kind, "Properties": {"Roles": [*roles]}}, **role()})

    assert attached("admin") == [
        "error More gives permissions to 'admin', which this template does not create"
    ]
    assert attached({"Ref": "Mine"}) == []


@pytest.mark.parametrize(
    "roles",
    [
        {"Ref": "Names"},
        {"Fn::Split": [",", "admin"]},
        {"Fn::Split": [",", f"{ENVIRONMENT.stack_name}-x,admin"]},
    ],
)
def test_permissions_for_a_foreign_role_among_others_are_refused(roles: Any) -> None:
    listed = {"Names": {"Type": "CommaDelimitedList", "Default": f"{ENVIRONMENT.stack_name}-x,admin"}}
    more = {"More": {"Type": "AWS::IAM::Policy", "Properties": {"Roles": roles}}}
    assert found(more, Parameters=listed) == [
        "error More gives permissions to 'admin', which this template does not create"
    ]


@pytest.mark.parametrize(
    "thing",
    [
        {"Type": "AWS::IAM::${A}", "Properties": {}},
        {"Type": {"Fn::Sub": "AWS::IAM::${A}"}, "Properties": {}},
        {"Type": "AWS::IAM::Policy", "Properties": {"Fn::ForEach::P": ["K", ["Roles"], {"${K}": ["admin"]}]}},
        {"Type": "AWS::IAM::Policy", "Properties": {"${A}": ["admin"]}},
    ],
)
def test_types_and_permissions_that_a_loop_generates_are_refused(thing: dict[str, Any]) -> None:
    resources = {"Fn::ForEach::Things": ["A", ["AccessKey"], {"Thing${A}": thing}]}
    (said,) = found(resources, Transform="AWS::LanguageExtensions")
    assert "generated" in said
    assert "; write " in said


# --- the boundary


BOUNDED = replace(TARGET, permissions_boundary=BOUNDARY)
DECLARED = {"PermissionsBoundary": {"Type": "String", "Default": ""}}


@pytest.mark.parametrize("kind", ["AWS::IAM::Role", "AWS::IAM::User", "AWS::Serverless::Function"])
@pytest.mark.parametrize(
    ("boundary", "words"),
    [
        (None, "Mine needs PermissionsBoundary: !Ref PermissionsBoundary"),
        ({"Ref": "AWS::NoValue"}, "Mine needs PermissionsBoundary: !Ref PermissionsBoundary"),
        (f"arn:aws:iam::{OURS}:policy/wider", "but its target has another one"),
        (
            {"Fn::If": ["Unsure", {"Ref": "PermissionsBoundary"}, {"Ref": "AWS::NoValue"}]},
            "Mine needs PermissionsBoundary: !Ref PermissionsBoundary",
        ),
        ({"Fn::ImportValue": "boundary"}, "but its target has another one"),
        ({"Fn::If": ["Unsure", {"Ref": "PermissionsBoundary"}, "none"]}, "but its target has another one"),
        ({"Ref": "PermissionsBoundary"}, ""),
        (BOUNDARY, ""),
        ({"Fn::If": ["Bounded", {"Ref": "PermissionsBoundary"}, {"Ref": "AWS::NoValue"}]}, ""),
    ],
)
def test_every_role_needs_the_boundary(kind: str, boundary: Any, words: str) -> None:
    properties = {} if boundary is None else {"PermissionsBoundary": boundary}
    sections = {
        "Parameters": DECLARED,
        "Conditions": {
            "Bounded": {"Fn::Not": [{"Fn::Equals": [{"Ref": "PermissionsBoundary"}, ""]}]},
            "Unsure": {"Fn::Equals": [{"Fn::ImportValue": "x"}, "y"]},
        },
    }
    resources = {"Mine": {"Type": kind, "Properties": properties}}
    said = found(resources, BOUNDED, **sections)
    assert len(said) == bool(words), said
    assert all(words in each for each in said)
    assert found(resources, replace(BOUNDED, kind=Kind.PRODUCTION), **sections) == []
    assert found(resources, TARGET, **sections) == []


@pytest.mark.parametrize("kind", ["AWS::IAM::Role", "AWS::IAM::ManagedPolicy", "AWS::IAM::InstanceProfile"])
@pytest.mark.parametrize(
    ("told", "good"),
    [
        (None, False),
        ("/", False),
        ("/deployer/production/", False),
        ({"Fn::Sub": "/deployer/${Unknown}/"}, False),
        ({"Ref": "AWS::NoValue"}, False),
        ({"Fn::If": ["Unknown", "/deployer/development/", {"Ref": "AWS::NoValue"}]}, False),
        ("/deployer/development/", True),
        ({"Fn::Sub": "/deployer/${Stage}/"}, True),
    ],
)
def test_every_role_needs_the_path_of_the_target(kind: str, told: Any, good: bool) -> None:
    properties = {} if told is None else {"Path": told}
    resources = {"Mine": {"Type": kind, "Properties": properties}}
    sections = {"Parameters": {"Stage": {"Type": "String"}}}
    target = replace(TARGET, role_path="/deployer/development/")
    said = found(resources, target, **sections)
    assert len(said) == (not good), said
    assert all('Mine needs Path: {"Fn::Sub": "/deployer/${Stage}/"}' in each for each in said)
    assert found(resources, TARGET, **sections) == []


@pytest.mark.parametrize(
    "given", [{"Ref": "AWS::NoValue"}, {"Fn::If": ["Unknown", "arn:x", {"Ref": "AWS::NoValue"}]}]
)
def test_a_function_that_may_have_no_role_needs_the_boundary(given: Any) -> None:
    function = {"Mine": {"Type": "AWS::Serverless::Function", "Properties": {"Role": given}}}
    said = found(function, replace(BOUNDED, role_path="/deployer/development/"))
    assert [each.partition(": ")[0] for each in said] == [
        "error Mine needs PermissionsBoundary",
        "error Mine needs RolePath",
    ]


def test_what_only_looks_like_a_loop_hides_no_boundary() -> None:
    parameters = {"Other": {"Type": "String", "Default": f"arn:aws:iam::{OURS}:policy/wider"}}
    looks = {"Fn::ForEach::X": ["Other", [BOUNDARY], {}]}
    (said,) = found(
        role(PermissionsBoundary={"Ref": "Other"}), BOUNDED, Parameters=parameters, Metadata=looks
    )
    assert "but its target has another one" in said


def test_a_boundary_may_be_in_the_globals() -> None:
    function = {"Mine": {"Type": "AWS::Serverless::Function", "Properties": {}}}
    globals_ = {"Function": {"PermissionsBoundary": BOUNDARY}}
    assert found(function, BOUNDED, Globals=globals_) == []


@pytest.mark.parametrize(
    ("kind", "level"),
    [
        ("AWS::IAM::AccessKey", "error"),
        ("AWS::IAM::OIDCProvider", "error"),
        ("AWS::IAM::SAMLProvider", "error"),
        ("AWS::CloudFormation::StackSet", "error"),
        ("AWS::CloudFormation::Macro", "error"),
        ("AWS::CloudFormation::Stack", "warning"),
        ("AWS::IAM::Group", ""),
    ],
)
def test_a_resource_that_no_boundary_restricts_is_refused_for_development(kind: str, level: str) -> None:
    thing = {"Thing": {"Type": kind, "Properties": {}}}
    assert [each.partition(" ")[0] for each in found(thing)] == [level] * bool(level)
    assert found(thing, replace(TARGET, kind=Kind.STAGING)) == []
    assert found(thing, Target(Kind.DEVELOPMENT)) == []


@pytest.mark.parametrize(
    "thing",
    [
        role(Path="/"),
        {"Key": {"Type": "AWS::IAM::AccessKey", "Properties": {"UserName": "admin"}}},
        {"Transform": "Ours"},
    ],
)
def test_warnings_hide_no_error(thing: dict[str, Any]) -> None:
    stacks = {f"S{number}": {"Type": "AWS::CloudFormation::Stack", "Properties": {}} for number in range(150)}
    said = found(stacks | thing, BOUNDED) if "Transform" not in thing else found(stacks, BOUNDED, **thing)
    assert [each.partition(" ")[0] for each in said] == ["error", *["warning"] * 100]


HIDES = [
    # AWS receives the token, not the default
    ({"Ref": "RepoToken"}, "x"),
    ({"Fn::Sub": "${RepoToken}"}, "x"),
    # numbers and booleans: AWS may have another text for them
    (1.10, "1.1"),
    (True, "true"),
    (5, "5"),
    ({"Ref": "Number"}, "1.1"),
    ({"Fn::Join": ["", [1.5, ""]]}, "1.5"),
    ({"Fn::Join": [1, ["a", "b"]]}, "a1b"),
    ({"Fn::Sub": ["${V}", {"V": 1.5}]}, "1.5"),
    ({"Fn::FindInMap": ["Map", "a", "b"]}, "1.1"),
    ({"Fn::FindInMap": ["Map", 1.10, "b"]}, "x"),
    ({"Fn::Select": [0, {"Ref": "Numbers"}]}, "1.1"),
    ({"Fn::Select": [0, {"Fn::Split": [1, "a1b"]}]}, "a"),
    # an unknown part may contain the separator
    ({"Fn::Select": [1, {"Fn::Split": [",", {"Fn::Sub": "${Stored},b"}]}]}, "b"),
    # a reference to a secret, also one that is split into parts
    ({"Ref": "Secret"}, "{{resolve:ssm:x}}"),
    # conditions are never inside a loop
    ("${V}", "v"),
    ({"Ref": "V"}, "v"),
    # attributes and names of resources
    ({"Fn::GetAtt": ["Kept", "Value"]}, "y"),
    ({"Ref": "Queue"}, "q"),
]


@pytest.mark.parametrize(("left", "right"), HIDES)
@pytest.mark.parametrize("negated", [True, False])
def test_a_condition_that_only_aws_can_judge_hides_nothing(left: Any, right: str, *, negated: bool) -> None:
    """The key is found whichever result deployer assumes, because AWS may have the other one."""
    equal = {"Fn::Equals": [left, right]}
    key = {"Type": "AWS::IAM::AccessKey", "Condition": "Hides", "Properties": {"UserName": "admin"}}
    kept = {
        "Kept": {"Type": "AWS::SSM::Parameter", "Properties": {"Value": "y"}},
        "Queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "q"}},
    }
    said = found(
        {"Key": key, **kept},
        replace(TARGET, gives_token=True),
        Parameters={
            "RepoToken": {"Type": "String", "NoEcho": True, "Default": "x"},
            "Number": {"Type": "Number", "Default": 1.10},
            "Numbers": {"Type": "CommaDelimitedList", "Default": 1.10},
            "Stored": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": "/x"},
            "Secret": {"Type": "String", "Default": "{{resolve:ssm:x}}"},
        },
        Mappings={"Map": {"a": {"b": 1.10}, "1.1": {"b": "x"}}},
        Metadata={"Fn::ForEach::X": ["V", ["v"], {}]},
        Conditions={"Hides": {"Fn::Not": [equal]} if negated else equal},
    )
    assert [each for each in said if "Key is of type AWS::IAM::AccessKey" in each]


@pytest.mark.parametrize(
    "literal",
    [
        "1.10",
        "yes",
        "1e3",
        "0x10",
        "1_0",
        "010",
        "0o10",
        "1:30",
        "2020-01-01",
        ".5",
        "+1",
        "y",
        "~",
        "9" * 5000,
    ],
)
@pytest.mark.parametrize("negated", [True, False])
def test_a_literal_without_quotes_is_not_compared(literal: str, *, negated: bool) -> None:
    def condition(left: str) -> str:
        equal = f"!Equals [{left}, '{literal}']"
        return f"!Not [{equal}]" if negated else equal

    text = f"""Parameters:
  PipelineName: {{Type: String}}
  P: {{Type: String, Default: {literal}}}
Conditions:
  Literal: {condition(literal)}
  Default: {condition("!Ref P")}
  Quoted: {condition(repr(literal))}
Resources:
  Pipeline: {{Type: AWS::CodePipeline::Pipeline, Properties: {{Name: !Ref PipelineName}}}}
"""
    for name in ("Literal", "Default", "Quoted"):
        text += f"  {name}: {{Type: AWS::IAM::AccessKey, Condition: {name}, Properties: {{UserName: x}}}}\n"
    files = {"pipeline.yml": text.encode()}
    checked = check_release(ENVIRONMENT, BRANCH, "x", "a" * 40, files, {}, TARGET)
    keys = [each.text.partition(" ")[0] for each in checked.findings if "AccessKey" in each.text]
    assert keys == ["Literal", "Default", *["Quoted"] * (not negated)]


@pytest.mark.parametrize(
    "kind", ["Custom::X", "AWS::CloudFormation::CustomResource", "AWS::Lambda::Function"]
)
def test_an_attribute_is_not_the_property_of_its_name(kind: str) -> None:
    made = {
        "Made": {"Type": kind, "Properties": {"Boundary": BOUNDARY, "Path": "/deployer/development/"}},
        **role(
            PermissionsBoundary={"Fn::GetAtt": ["Made", "Boundary"]}, Path={"Fn::GetAtt": ["Made", "Path"]}
        ),
    }
    said = found(made, replace(BOUNDED, role_path="/deployer/development/"))
    assert ["has the boundary ?" in each or "needs Path" in each for each in said] == [True, True]


@pytest.mark.parametrize(
    ("sections", "refused"),
    [
        ({"Transform": "AWS::Serverless-2016-10-31"}, 0),
        ({"Transform": ["AWS::LanguageExtensions", "Ours"]}, 1),
        ({"Transform": {"Name": "AWS::Include", "Parameters": {}}}, 1),
        ({"Outputs": {"Fn::Transform": {"Name": "AWS::Include", "Parameters": {}}}}, 1),
    ],
)
def test_macros_are_refused_for_development(sections: dict[str, Any], refused: int) -> None:
    said = found({}, **sections)
    assert len([each for each in said if "the macro" in each]) == refused == len(said)


def test_a_parameter_value_is_reported_at_its_own_line() -> None:
    files = {
        "pipeline.json": json.dumps({**BASE, "Parameters": {"Role": {"Type": "String"}}})
        .replace("PipelineName", "AWS::StackName")
        .encode(),
        "pipeline.parameters.yml": f"staging: {{}}\ndevelopment:\n  Role: {ARN}\n".encode(),
    }
    checked = check_release(ENVIRONMENT, BRANCH, "x", "a" * 40, files, {}, TARGET)
    (finding,) = checked.findings
    assert (finding.file, finding.line) == ("deploy/pipeline.parameters.yml", 3)
    assert finding.text.startswith(f"Role: {ARN} is of account")
