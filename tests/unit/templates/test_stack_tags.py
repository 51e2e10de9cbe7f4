"""Actions that create a stack without deployer's tags: refused where a boundary refuses them, otherwise a warning."""

from typing import Any

import pytest
import yaml

from deployer.model.environments import Kind
from deployer.model.refs import Ref
from deployer.model.targets import Target
from deployer.templates.findings import Finding
from deployer.templates.release import check_release
from tests.unit.world import environment

ENV = environment("refs/heads/x")
BOUNDARY = "arn:aws:iam::123456789012:policy/deployer-own/deployer-development-boundary"
ROLE = "arn:aws:iam::123456789012:role/shared"
BOUNDED = Target(
    Kind.DEVELOPMENT,
    account="123456789012",
    regions=("us-east-1",),
    permissions_boundary=BOUNDARY,
    allowed_roles=(ROLE,),
)
UNBOUNDED = Target(Kind.DEVELOPMENT, account="123456789012", regions=("us-east-1",), allowed_roles=(ROLE,))


def template(
    action: dict[str, Any], *, wrapped: Any = None, role: Any = "role", conditions: Any = None
) -> str:
    """A pipeline with this action: `action` changes an action that creates a stack without tags."""
    configuration = {
        "ActionMode": "CREATE_UPDATE",
        "StackName": {"Fn::Sub": "${PipelineName}-app"},
        "TemplatePath": "Src::app.yml",
        **action.pop("Configuration", {}),
    }
    made = {
        "Name": "App",
        "ActionTypeId": {"Category": "Deploy", "Owner": "AWS", "Provider": "CloudFormation", "Version": "1"},
        "Configuration": {key: value for key, value in configuration.items() if value is not None},
        "InputArtifacts": [{"Name": "Src"}],
        **action,
    }
    source = {
        "Name": "Source",
        "ActionTypeId": {"Category": "Source", "Owner": "AWS", "Provider": "CodeStarSourceConnection", "Version": "1"},
        "Configuration": {
            "ConnectionArn": "arn", "FullRepositoryId": "acme/hello", "BranchName": "x", "DetectChanges": False
        },
        "OutputArtifacts": [{"Name": "Src"}],
    }  # fmt: skip
    stages = [
        {"Name": "Source", "Actions": [source]},
        {"Name": "Deploy", "Actions": [wrapped(made) if wrapped else made]},
    ]
    return yaml.safe_dump(
        {
            "Parameters": {"PipelineName": {"Type": "String"}, "Stage": {"Type": "String"}},
            **({"Conditions": conditions} if conditions else {}),
            "Resources": {
                "Pipeline": {
                    "Type": "AWS::CodePipeline::Pipeline",
                    "Properties": {"Name": {"Ref": "PipelineName"}, "RoleArn": role, "Stages": stages},
                }
            },
        },
        sort_keys=False,
    )


def findings(text: str, target: Target = BOUNDED) -> list[Finding]:
    files = {"pipeline.yml": text.encode()}
    checked = check_release(ENV, Ref("refs/heads/x"), "x", "a" * 40, files, {}, target, "us-east-1")
    return [each for each in checked.findings if "without deployer's tags" in each.text]


def conditional(condition: str) -> Any:
    return lambda action: {"Fn::If": [condition, action, {"Ref": "AWS::NoValue"}]}


DEVELOPS = {"Develops": {"Fn::Equals": [{"Ref": "Stage"}, "development"]}}
PRODUCES = {"Produces": {"Fn::Equals": [{"Ref": "Stage"}, "production"]}}
UNKNOWN = {"Unknown": {"Fn::Equals": [{"Fn::ImportValue": "x"}, "y"]}}

REFUSED: dict[str, dict[str, Any]] = {
    "created": {"action": {}},
    "replaced": {"action": {"Configuration": {"ActionMode": "REPLACE_ON_FAILURE"}}},
    "prepared by a change set": {"action": {"Configuration": {"ActionMode": "CHANGE_SET_REPLACE"}}},
    "a name with a variable": {"action": {"Configuration": {"StackName": "app-#{S.BranchName}"}}},
    "no value": {"action": {"Configuration": {"TemplateConfiguration": {"Ref": "AWS::NoValue"}}}},
    "a condition that is true": {"action": {}, "wrapped": conditional("Develops"), "conditions": DEVELOPS},
    "a configuration that a condition takes away": {
        "action": {
            "Configuration": {
                "TemplateConfiguration": {"Fn::If": ["Produces", "Src::stack.json", {"Ref": "AWS::NoValue"}]}
            }
        },
        "conditions": PRODUCES,
    },
}  # fmt: skip
ACCEPTED: dict[str, dict[str, Any]] = {
    "with tags": {"action": {"Configuration": {"TemplateConfiguration": "Src::stack.json"}}},
    "the pipeline's own stack, which keeps its tags": {
        "action": {"Configuration": {"StackName": {"Ref": "PipelineName"}}}
    },
    "its own stack by AWS's name": {"action": {"Configuration": {"StackName": {"Ref": "AWS::StackName"}}}},
    "deleted": {"action": {"Configuration": {"ActionMode": "DELETE_ONLY", "TemplatePath": None}}},
    "executed": {"action": {"Configuration": {"ActionMode": "CHANGE_SET_EXECUTE", "TemplatePath": None}}},
    "a stack set": {
        "action": {
            "ActionTypeId": {"Category": "Deploy", "Owner": "AWS", "Provider": "CloudFormationStackSet", "Version": "1"}
        }
    },
    "a condition that is false": {"action": {}, "wrapped": conditional("Produces"), "conditions": PRODUCES},
    "a condition that only AWS knows": {"action": {}, "wrapped": conditional("Unknown"), "conditions": UNKNOWN},
    "a configuration that only AWS knows": {
        "action": {
            "Configuration": {
                "TemplateConfiguration": {"Fn::If": ["Unknown", "Src::stack.json", {"Ref": "AWS::NoValue"}]}
            }
        },
        "conditions": UNKNOWN,
    },
    "a name that only AWS knows": {"action": {"Configuration": {"StackName": {"Fn::ImportValue": "name"}}}},
}  # fmt: skip


@pytest.mark.parametrize("given", REFUSED.values(), ids=REFUSED)
def test_an_action_that_aws_refuses_is_refused_at_its_line(given: dict[str, Any]) -> None:
    text = template(**{**given, "action": dict(given["action"])})
    (finding,) = findings(text)
    assert finding.level == "error"
    assert finding.file == "deploy/pipeline.yml"
    assert "Configuration:" in text.splitlines()[(finding.line or 0) - 1]
    assert "TemplateConfiguration: Src::stack.json" in finding.text
    assert "StackConfiguration" in finding.text
    (warning,) = findings(template(**{**given, "action": dict(given["action"])}), UNBOUNDED)
    assert warning.level == "warning"


@pytest.mark.parametrize("given", ACCEPTED.values(), ids=ACCEPTED)
@pytest.mark.parametrize("target", [BOUNDED, UNBOUNDED], ids=["bounded", "unbounded"])
def test_any_other_action_is_accepted(given: dict[str, Any], target: Target) -> None:
    assert findings(template(**{**given, "action": dict(given["action"])}), target) == []


@pytest.mark.parametrize("action", [{"RoleArn": ROLE}, {}])
def test_a_role_without_the_boundary_is_only_warned_of(action: dict[str, Any]) -> None:
    (finding,) = findings(template(dict(action), role=ROLE))
    assert finding.level == "warning"
