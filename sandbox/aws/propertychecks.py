"""The checks of a resource's properties: by the schema of its type, and by the limits of the service that makes it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sandbox.aws.record_json import request_message
from sandbox.aws.resources import ResourceError
from sandbox.aws.schemas import is_legacy, schema_of

# The request by which a service makes a resource, with the properties that have another name there.
REQUESTS: dict[str, tuple[str, str, dict[str, str]]] = {
    "AWS::CodeBuild::Project": ("codebuild", "CreateProject", {}),
    "AWS::DynamoDB::Table": ("dynamodb", "CreateTable", {}),
    "AWS::ECR::Repository": ("ecr", "CreateRepository", {}),
    "AWS::Events::Rule": ("events", "PutRule", {}),
    "AWS::IAM::InstanceProfile": ("iam", "CreateInstanceProfile", {}),
    "AWS::IAM::ManagedPolicy": ("iam", "CreatePolicy", {"ManagedPolicyName": "PolicyName"}),
    "AWS::IAM::Role": ("iam", "CreateRole", {}),
    "AWS::IAM::User": ("iam", "CreateUser", {}),
    "AWS::KMS::Alias": ("kms", "CreateAlias", {}),
    "AWS::Lambda::Function": ("lambda", "CreateFunction", {}),
    "AWS::Logs::LogGroup": ("logs", "CreateLogGroup", {}),
    "AWS::SSM::Parameter": ("ssm", "PutParameter", {}),
}
_TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "object": ("JSONObject", (dict,)),
    "array": ("JSONArray", (list,)),
    "string": ("String", (str, bool, int, float)),
    "boolean": ("Boolean", (bool,)),
    "integer": ("Integer", (int,)),
    "number": ("Number", (int, float)),
}
_SERVICE_NAMES = {"codebuild": "AWSCodeBuild"}
_LONGEST_QUEUE_NAME = 80


def check_properties(kind: str, logical_id: str, properties: dict[str, Any]) -> None:
    """Check the properties of a resource before it is created or updated.

    Raises:
        ResourceError: with the message of the service or of CloudFormation.
    """
    schema = schema_of(kind)
    _check_name(kind, properties)
    _check_request(kind, properties, legacy=schema is None or is_legacy(schema))
    if schema is None:
        return
    found = list(_schema_errors(schema, schema, properties, "#"))
    if found:
        raise ResourceError(
            f"Properties validation failed for resource {logical_id} with message:\n" + "\n".join(found)
        )


def handler_error(message: str, code: str = "InvalidRequest") -> ResourceError:
    """The error of a resource handler in the form in which CloudFormation shows it."""
    return ResourceError(
        f'Resource handler returned message: "{message}" (RequestToken: sandbox, HandlerErrorCode: {code})'
    )


def _check_name(kind: str, properties: Mapping[str, Any]) -> None:
    """Check a name whose limits neither a schema nor botocore has in the service's words."""
    if kind == "AWS::S3::Bucket" and isinstance(name := properties.get("BucketName"), str):
        if not 3 <= len(name) <= 63:
            raise handler_error("Bucket name should be between 3 and 63 characters long")
        if name != name.lower():
            raise handler_error("Bucket name should not contain uppercase characters")
    if kind == "AWS::SQS::Queue" and len(str(properties.get("QueueName", ""))) > _LONGEST_QUEUE_NAME:
        raise handler_error(
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length "
            "(Service: Sqs, Status Code: 400, Request ID: sandbox)"
        )


def _check_request(kind: str, properties: Mapping[str, Any], *, legacy: bool) -> None:
    if kind not in REQUESTS:
        return
    service, operation, other_names = REQUESTS[kind]
    request = {other_names.get(k, k): v for k, v in properties.items() if k not in ("Tags", "Code")}
    message = request_message(service, operation, request)
    if message is None:
        return
    if legacy:
        raise ResourceError(
            f"{message} (Service: {_SERVICE_NAMES.get(service, service)}; Status Code: 400; "
            "Error Code: ValidationException; Request ID: sandbox; Proxy: null)"
        )
    raise handler_error(f"{message} (Service: {service.capitalize()}, Status Code: 400, Request ID: sandbox)")


# ---- the schema


def _schema_errors(root: dict[str, Any], schema: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    """The violations of a schema, in the words of CloudFormation's validator.

    Only keywords of a single value are checked; combinations (`anyOf` and so on) are left to the service.
    """
    while "$ref" in schema:
        schema = _follow_reference(root, schema["$ref"])
    if problem := _type_error(schema, value):
        yield f"{path}: {problem}"
    elif isinstance(value, dict):
        yield from _object_errors(root, schema, value, path)
    elif isinstance(value, list):
        yield from _count_errors(schema, value, path)
        if isinstance(schema.get("items"), dict):
            for number, item in enumerate(value):
                yield from _schema_errors(root, schema["items"], item, f"{path}/{number}")
    else:
        yield from _scalar_errors(schema, value, path)


def _follow_reference(root: dict[str, Any], reference: str) -> dict[str, Any]:
    node: Any = root
    for part in reference.removeprefix("#/").split("/"):
        node = node.get(part, {}) if isinstance(node, dict) else {}
    return node if isinstance(node, dict) else {}


def _type_error(schema: dict[str, Any], value: Any) -> str | None:
    wanted = schema.get("type")
    kinds = [wanted] if isinstance(wanted, str) else wanted or []
    if not kinds or any(_has_type(kind, value) for kind in kinds):
        return None
    found = next((name for name, types in _TYPES.values() if isinstance(value, types)), "Null")
    return f"expected type: {_TYPES[kinds[0]][0]}, found: {found}"


def _has_type(kind: str, value: Any) -> bool:
    """Whether a value has a type; as in CloudFormation, text that spells a number or a truth value passes for it."""
    if kind not in _TYPES or (isinstance(value, str) and kind == "string"):
        return True
    if isinstance(value, str):
        spelled = {"boolean": r"true|false", "integer": r"-?\d+", "number": r"-?\d+(\.\d+)?"}.get(kind)
        return spelled is not None and re.fullmatch(spelled, value, re.IGNORECASE) is not None
    return isinstance(value, _TYPES[kind][1])


def _object_errors(
    root: dict[str, Any], schema: dict[str, Any], value: dict[str, Any], path: str
) -> Iterator[str]:
    for name in schema.get("required", []):
        if name not in value:
            yield f"{path}: required key [{name}] not found"
    known = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    for name, item in value.items():
        if name in known:
            yield from _schema_errors(root, known[name], item, f"{path}/{name}")
        elif schema.get("additionalProperties") is False and not patterns:
            yield f"{path}: extraneous key [{name}] is not permitted"


def _count_errors(schema: dict[str, Any], value: list[Any], path: str) -> Iterator[str]:
    if len(value) < schema.get("minItems", 0):
        yield f"{path}: expected minimum item count: {schema['minItems']}, found: {len(value)}"
    if len(value) > schema.get("maxItems", len(value)):
        yield f"{path}: expected maximum item count: {schema['maxItems']}, found: {len(value)}"


def _scalar_errors(schema: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    if "enum" in schema and text not in [
        ("true" if e else "false") if isinstance(e, bool) else str(e) for e in schema["enum"]
    ]:
        yield f"{path}: failed validation constraint for keyword [enum]"
    if len(text) > schema.get("maxLength", len(text)):
        yield f"{path}: expected maxLength: {schema['maxLength']}, actual: {len(text)}"
    if len(text) < schema.get("minLength", 0):
        yield f"{path}: expected minLength: {schema['minLength']}, actual: {len(text)}"
    if "pattern" in schema and not _matches(schema["pattern"], text):
        yield f"{path}: failed validation constraint for keyword [pattern]"
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        number = float(text)
        if number < schema.get("minimum", number):
            yield f"{path}: {text} is not greater or equal to {schema['minimum']}"
        if number > schema.get("maximum", number):
            yield f"{path}: {text} is not less or equal to {schema['maximum']}"


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:  # a pattern of JavaScript that Python does not read
        return True
