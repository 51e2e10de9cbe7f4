"""The transform AWS::Serverless-2016-10-31: functions, APIs, tables, layers, state machines, applications."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from sandbox.aws.protocol import AwsError
from sandbox.aws.serverlessevents import add_events

PREFIX = "AWS::Serverless::"
_S3_URI = re.compile(r"s3://([^/]+)/([^?]+)(?:\?versionId=(.+))?")
_BASIC_ROLE = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
_SAME = (
    "Architectures",
    "Description",
    "Environment",
    "EphemeralStorage",
    "FileSystemConfigs",
    "FunctionName",
    "Handler",
    "ImageConfig",
    "KmsKeyArn",
    "Layers",
    "LoggingConfig",
    "MemorySize",
    "PackageType",
    "ReservedConcurrentExecutions",
    "Runtime",
    "SnapStart",
    "Timeout",
    "VpcConfig",
)

Resources = dict[str, Any]


def expand_serverless(document: dict[str, Any]) -> dict[str, Any]:
    """A template in which each AWS::Serverless resource is replaced by the resources that it stands for.

    Raises:
        AwsError: ValidationError, because a resource is invalid or not simulated.
    """
    defaults = document.get("Globals") or {}
    made: Resources = {}
    errors: list[str] = []
    for name, resource in (document.get("Resources") or {}).items():
        kind = str(resource.get("Type", "")) if isinstance(resource, dict) else ""
        if not kind.startswith(PREFIX):
            made[name] = resource
            continue
        short = kind.removeprefix(PREFIX)
        if short not in EXPANSIONS:
            raise AwsError("ValidationError", f"Not simulated: the resource type {kind} ({name})")
        properties = _merge_defaults(
            defaults.get(short) or {}, copy.deepcopy(resource.get("Properties") or {})
        )
        try:
            expanded = EXPANSIONS[short](name, properties)
        except ValueError as error:
            errors.append(f"Resource with id [{name}] is invalid. {error}")
            continue
        kept = {
            k: v for k, v in resource.items() if k in ("Condition", "DeletionPolicy", "UpdateReplacePolicy")
        }
        for each in expanded.values():
            each.update({k: v for k, v in kept.items() if k == "Condition"})
        expanded[name].update(
            {**kept, **({"DependsOn": resource["DependsOn"]} if "DependsOn" in resource else {})}
        )
        made |= expanded
        if short == "Function":
            add_events(made, name, properties)
    if errors:
        raise AwsError(
            "ValidationError",
            "Transform AWS::Serverless-2016-10-31 failed with: Invalid Serverless Application Specification document. "
            f"Number of errors found: {len(errors)}. {' '.join(errors)}",
        )
    return {**{k: v for k, v in document.items() if k != "Globals"}, "Resources": made}


def _merge_defaults(defaults: Any, own: Any) -> Any:
    if isinstance(defaults, dict) and isinstance(own, dict):
        return {
            **defaults,
            **{k: _merge_defaults(defaults[k], v) if k in defaults else v for k, v in own.items()},
        }
    if isinstance(defaults, list) and isinstance(own, list):
        return [*defaults, *own]
    return own


# ---- functions


def _expand_function(name: str, given: dict[str, Any]) -> Resources:
    properties = {k: given[k] for k in _SAME if k in given}
    properties["Code"] = _function_code(given)
    properties["Tags"] = [
        {"Key": "lambda:createdBy", "Value": "SAM"},
        *({"Key": k, "Value": v} for k, v in (given.get("Tags") or {}).items()),
    ]
    if given.get("Tracing"):
        properties["TracingConfig"] = {"Mode": given["Tracing"]}
    if given.get("DeadLetterQueue"):
        properties["DeadLetterConfig"] = {"TargetArn": given["DeadLetterQueue"]["TargetArn"]}
    made: Resources = {name: {"Type": "AWS::Lambda::Function", "Properties": properties}}
    if "Role" in given:
        properties["Role"] = given["Role"]
    else:
        properties["Role"] = {"Fn::GetAtt": [f"{name}Role", "Arn"]}
        made[f"{name}Role"] = _make_role(given, "lambda.amazonaws.com", (_BASIC_ROLE,))
    if alias := given.get("AutoPublishAlias"):
        version = f"{name}Version{_short_hash(properties['Code'])}"
        made[version] = {
            "Type": "AWS::Lambda::Version",
            "DeletionPolicy": "Retain",
            "Properties": {"FunctionName": {"Ref": name}},
        }
        made[f"{name}Alias{alias}"] = {
            "Type": "AWS::Lambda::Alias",
            "Properties": {
                "FunctionName": {"Ref": name},
                "FunctionVersion": {"Fn::GetAtt": [version, "Version"]},
                "Name": alias,
            },
        }
    return made


def _function_code(given: Mapping[str, Any]) -> dict[str, Any]:
    if "InlineCode" in given:
        return {"ZipFile": given["InlineCode"]}
    if "ImageUri" in given:
        return {"ImageUri": given["ImageUri"]}
    return _s3_location(given.get("CodeUri"), "CodeUri")


def _s3_location(uri: Any, key: str, prefix: str = "S3") -> dict[str, Any]:
    """The location of an object, given by its parts or as a URI."""
    if isinstance(uri, dict) and {"Bucket", "Key"} <= uri.keys():
        names = {"Bucket": f"{prefix}Bucket", "Key": f"{prefix}Key", "Version": f"{prefix}ObjectVersion"}
        return {names[k]: v for k, v in uri.items() if k in names}
    found = _S3_URI.fullmatch(uri) if isinstance(uri, str) else None
    if found is None:
        raise ValueError(
            f"'{key}' is not a valid S3 Uri of the form 's3://bucket/key' with optional versionId query parameter."
        )
    bucket, path, version = found.groups()
    location = {f"{prefix}Bucket": bucket, f"{prefix}Key": path}
    return {**location, f"{prefix}ObjectVersion": version} if version else location


def _make_role(given: Mapping[str, Any], service: str, managed: tuple[str, ...]) -> dict[str, Any]:
    arns, inline = list(managed), []
    policies = given.get("Policies") or []
    for number, policy in enumerate(policies if isinstance(policies, list) else [policies]):
        if isinstance(policy, str):
            arns.append(policy if policy.startswith("arn:") else f"arn:aws:iam::aws:policy/{policy}")
        elif "Statement" in policy:
            inline.append(
                {"PolicyName": f"Policy{number}", "PolicyDocument": {"Version": "2012-10-17", **policy}}
            )
        elif {"Ref", "Fn::Sub", "Fn::GetAtt", "Fn::ImportValue"} & policy.keys():
            arns.append(policy)
        else:
            # A policy template of SAM; its statements are not needed, because policies are not enforced.
            action = {"Effect": "Allow", "Action": f"sandbox:{next(iter(policy))}", "Resource": "*"}
            document = {"Version": "2012-10-17", "Statement": [action]}
            inline.append({"PolicyName": f"Policy{number}", "PolicyDocument": document})
    trust = {"Effect": "Allow", "Principal": {"Service": [service]}, "Action": ["sts:AssumeRole"]}
    properties = {
        "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [trust]},
        "ManagedPolicyArns": arns,
        "Policies": inline,
        "Tags": [{"Key": "lambda:createdBy", "Value": "SAM"}],
    }
    if "PermissionsBoundary" in given:
        properties["PermissionsBoundary"] = given["PermissionsBoundary"]
    return {"Type": "AWS::IAM::Role", "Properties": properties}


# ---- other types


def _expand_api(name: str, given: dict[str, Any]) -> Resources:
    body = given.get("DefinitionBody") or {"swagger": "2.0", "paths": {}}
    deployment = f"{name}Deployment{_short_hash(body)}"
    stage = given.get("StageName")
    if stage is None:
        raise ValueError("Missing required property 'StageName'.")
    label = stage if isinstance(stage, str) else ""
    api = {k: given[k] for k in ("Name", "Description", "EndpointConfiguration") if k in given}
    if isinstance(api.get("EndpointConfiguration"), str):
        api["EndpointConfiguration"] = {"Types": [api["EndpointConfiguration"]]}
    return {
        name: {"Type": "AWS::ApiGateway::RestApi", "Properties": {**api, "Body": body}},
        deployment: {"Type": "AWS::ApiGateway::Deployment", "Properties": {"RestApiId": {"Ref": name}}},
        f"{name}{label}Stage": {
            "Type": "AWS::ApiGateway::Stage",
            "Properties": {
                "RestApiId": {"Ref": name},
                "DeploymentId": {"Ref": deployment},
                "StageName": stage,
            },
        },
    }


def _expand_http_api(name: str, given: dict[str, Any]) -> Resources:
    body = given.get("DefinitionBody") or {"openapi": "3.0.1", "paths": {}}
    stage = given.get("StageName", "$default")
    return {
        name: {"Type": "AWS::ApiGatewayV2::Api", "Properties": {"Body": body}},
        f"{name}ApiGatewayDefaultStage": {
            "Type": "AWS::ApiGatewayV2::Stage",
            "Properties": {"ApiId": {"Ref": name}, "StageName": stage, "AutoDeploy": True},
        },
    }


def _expand_table(name: str, given: dict[str, Any]) -> Resources:
    key = given.get("PrimaryKey") or {"Name": "id", "Type": "String"}
    kind = {"String": "S", "Number": "N", "Binary": "B"}[key.get("Type", "String")]
    properties: dict[str, Any] = {
        "AttributeDefinitions": [{"AttributeName": key["Name"], "AttributeType": kind}],
        "KeySchema": [{"AttributeName": key["Name"], "KeyType": "HASH"}],
    }
    throughput = given.get("ProvisionedThroughput")
    properties |= {"ProvisionedThroughput": throughput} if throughput else {"BillingMode": "PAY_PER_REQUEST"}
    if "TableName" in given:
        properties["TableName"] = given["TableName"]
    return {name: {"Type": "AWS::DynamoDB::Table", "Properties": properties}}


def _expand_layer(name: str, given: dict[str, Any]) -> Resources:
    kept = ("CompatibleArchitectures", "CompatibleRuntimes", "Description", "LayerName", "LicenseInfo")
    properties = {k: given[k] for k in kept if k in given}
    properties["Content"] = _s3_location(given.get("ContentUri"), "ContentUri")
    return {name: {"Type": "AWS::Lambda::LayerVersion", "Properties": {"LayerName": name, **properties}}}


def _expand_state_machine(name: str, given: dict[str, Any]) -> Resources:
    properties: dict[str, Any] = {}
    if "Definition" in given:
        properties["DefinitionString"] = json.dumps(given["Definition"])
    elif "DefinitionUri" in given:
        properties["DefinitionS3Location"] = _s3_location(given["DefinitionUri"], "DefinitionUri", "")
    for ours, theirs in (
        ("Name", "StateMachineName"),
        ("Type", "StateMachineType"),
        ("Logging", "LoggingConfiguration"),
    ):
        if ours in given:
            properties[theirs] = given[ours]
    made: Resources = {name: {"Type": "AWS::StepFunctions::StateMachine", "Properties": properties}}
    properties["RoleArn"] = given.get("Role") or {"Fn::GetAtt": [f"{name}Role", "Arn"]}
    if "Role" not in given:
        made[f"{name}Role"] = _make_role(given, "states.amazonaws.com", ())
    return made


def _expand_application(name: str, given: dict[str, Any]) -> Resources:
    if not isinstance(given.get("Location"), str):
        raise ValueError("Not simulated: applications of the Serverless Application Repository.")
    properties = {"TemplateURL": given["Location"], "Parameters": given.get("Parameters") or {}}
    return {name: {"Type": "AWS::CloudFormation::Stack", "Properties": properties}}


def _short_hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:10]


EXPANSIONS: dict[str, Callable[[str, dict[str, Any]], Resources]] = {
    "Api": _expand_api,
    "Application": _expand_application,
    "Function": _expand_function,
    "HttpApi": _expand_http_api,
    "LayerVersion": _expand_layer,
    "SimpleTable": _expand_table,
    "StateMachine": _expand_state_machine,
}
"""The types that the transform replaces, by their name after `AWS::Serverless::`."""
