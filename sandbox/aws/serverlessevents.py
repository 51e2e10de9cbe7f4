"""The events of AWS::Serverless::Function, each with the permission to invoke the function."""

from __future__ import annotations

from typing import Any

from sandbox.aws.protocol import AwsError

_MAPPED = {"DynamoDB": "Stream", "Kinesis": "Stream", "MQ": "Broker", "SQS": "Queue"}
_PRINCIPALS = {
    "Api": "apigateway.amazonaws.com",
    "HttpApi": "apigateway.amazonaws.com",
    "S3": "s3.amazonaws.com",
    "SNS": "sns.amazonaws.com",
}
_RULES = ("CloudWatchEvent", "EventBridgeRule", "Schedule")
SIMULATED_EVENTS = (*_PRINCIPALS, *_RULES, *_MAPPED)

Resources = dict[str, Any]


def add_events(made: Resources, function: str, properties: dict[str, Any]) -> None:
    """Add the resources of a function's events.

    Raises:
        AwsError: ValidationError, because a kind of event is not simulated.
    """
    for name, event in (properties.get("Events") or {}).items():
        kind, given = event["Type"], event.get("Properties") or {}
        if kind in _MAPPED:
            made[function + name] = _event_source_mapping(function, kind, given)
        elif kind in _RULES:
            made[function + name] = _make_rule(function, name, kind, given)
            arn = {"Fn::GetAtt": [function + name, "Arn"]}
            made[f"{function}{name}Permission"] = _make_permission(function, "events.amazonaws.com", arn)
        elif kind in _PRINCIPALS:
            _add_caller(made, function, name, kind, given)
        else:
            raise AwsError(
                "ValidationError", f"Not simulated: the event {name} ({kind}) of the function {function}"
            )


def _add_caller(made: Resources, function: str, name: str, kind: str, given: dict[str, Any]) -> None:
    made[f"{function}{name}Permission"] = _make_permission(function, _PRINCIPALS[kind], None)
    if kind == "SNS":
        made[function + name] = {
            "Type": "AWS::SNS::Subscription",
            "Properties": {
                "TopicArn": given["Topic"],
                "Protocol": "lambda",
                "Endpoint": {"Fn::GetAtt": [function, "Arn"]},
            },
        }
    elif kind == "Api" and "RestApiId" not in given:
        made.update(_IMPLICIT_REST_API)
    elif kind == "HttpApi" and "ApiId" not in given:
        made.update(_IMPLICIT_HTTP_API)


def _event_source_mapping(function: str, kind: str, given: dict[str, Any]) -> dict[str, Any]:
    kept = ("BatchSize", "Enabled", "MaximumBatchingWindowInSeconds", "StartingPosition")
    return {
        "Type": "AWS::Lambda::EventSourceMapping",
        "Properties": {
            "FunctionName": {"Ref": function},
            "EventSourceArn": given[_MAPPED[kind]],
            **{k: given[k] for k in kept if k in given},
        },
    }


def _make_rule(function: str, name: str, kind: str, given: dict[str, Any]) -> dict[str, Any]:
    target = {"Arn": {"Fn::GetAtt": [function, "Arn"]}, "Id": f"{function}{name}LambdaTarget"[:64]}
    when = (
        {"ScheduleExpression": given["Schedule"]}
        if kind == "Schedule"
        else {"EventPattern": given["Pattern"]}
    )
    kept = {k: given[k] for k in ("Description", "Name", "State") if k in given}
    return {"Type": "AWS::Events::Rule", "Properties": {**when, **kept, "Targets": [target]}}


def _make_permission(function: str, principal: str, source: Any) -> dict[str, Any]:
    properties = {
        "Action": "lambda:InvokeFunction",
        "FunctionName": {"Ref": function},
        "Principal": principal,
    }
    return {
        "Type": "AWS::Lambda::Permission",
        "Properties": {**properties, **({"SourceArn": source} if source else {})},
    }


_IMPLICIT_REST_API: Resources = {
    "ServerlessRestApi": {
        "Type": "AWS::ApiGateway::RestApi",
        "Properties": {"Body": {"swagger": "2.0", "paths": {}}},
    },
    "ServerlessRestApiDeployment": {
        "Type": "AWS::ApiGateway::Deployment",
        "Properties": {"RestApiId": {"Ref": "ServerlessRestApi"}},
    },
    "ServerlessRestApiProdStage": {
        "Type": "AWS::ApiGateway::Stage",
        "Properties": {
            "RestApiId": {"Ref": "ServerlessRestApi"},
            "DeploymentId": {"Ref": "ServerlessRestApiDeployment"},
            "StageName": "Prod",
        },
    },
}
_IMPLICIT_HTTP_API: Resources = {
    "ServerlessHttpApi": {
        "Type": "AWS::ApiGatewayV2::Api",
        "Properties": {"Body": {"openapi": "3.0.1", "paths": {}}},
    },
    "ServerlessHttpApiApiGatewayDefaultStage": {
        "Type": "AWS::ApiGatewayV2::Stage",
        "Properties": {
            "ApiId": {"Ref": "ServerlessHttpApi"},
            "StageName": "$default",
            "AutoDeploy": True,
        },
    },
}
