"""Builds JSON schemas for the description of the API."""

from typing import Any

Json = dict[str, Any]
TEXT: Json = {"type": "string"}
TEXT_OR_NULL: Json = {"type": ["string", "null"]}
TIME: Json = {"type": ["string", "null"], "format": "date-time"}
NUMBER: Json = {"type": "number"}
WHOLE_NUMBER: Json = {"type": "integer"}


def object_of(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


def reference_to(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def list_of(item: Json) -> Json:
    return {"type": "array", "items": item}


def described(item: Json, description: str) -> Json:
    return {**item, "description": description}


def one_of(*values: str) -> Json:
    return {"type": "string", "enum": list(values)}
