"""Checks requests and answers against a part of GitHub's published description of its REST API.

`openapi_data/github.json` has the paths that deployer uses, without texts, of `api.github.com.json` in the npm package
`@octokit/openapi` (version 23.0.2, under the MIT license beside it). `python -m tools.github_openapi` makes it anew.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from jsonschema import Draft7Validator

_FILE = Path(__file__).parent / "openapi_data" / "github.json"
_WITH_SLASHES = {"ref", "path", "basehead"}  # parameters that may contain a slash


def problems_of(method: str, url: str, body: Any, status: int, answer: Any) -> list[str]:
    """What the description says against a request to the API below `/api/v3` and its answer; empty if nothing.

    Args:
        method: the HTTP method.
        url: the address with its query.
        body: the request's JSON; None without one.
        status: the answer's status.
        answer: the answer's JSON.
    """
    parts = urlsplit(url)
    path = parts.path.partition("/api/v3")[2]
    found = _find_operation(method.lower(), path)
    if found is None:
        return [f"{method} {path} is not described"]
    pattern, operation = found
    where = f"{method} {pattern}"
    return [
        *_query_problems(where, operation, parse_qs(parts.query)),
        *_body_problems(where, operation, body),
        *(_answer_problems(where, operation, status, answer) if 200 <= status < 300 else []),
    ]


def _query_problems(where: str, operation: Any, query: dict[str, list[str]]) -> list[str]:
    described = [_resolve(each) for each in operation.get("parameters", [])]
    known = {each["name"]: each["schema"] for each in described if each["in"] == "query"}
    found = [f"{where}: no parameter {name}" for name in query if name not in known]
    for name, values in query.items():
        schema = known.get(name, {})
        typed: Any = values[0]
        if schema.get("type") == "integer" and typed.isdecimal():
            typed = int(typed)
        if schema.get("type") == "boolean":
            typed = {"true": True, "false": False}.get(typed, typed)
        found += _schema_problems(f"{where}: {name}", schema, typed)
    return found


def _body_problems(where: str, operation: Any, body: Any) -> list[str]:
    described = operation.get("requestBody")
    if body is None:
        return [f"{where}: the body is missing"] if described and described.get("required") else []
    if described is None:
        return [f"{where}: no body is described"]
    schema = described["content"]["application/json"]["schema"]
    forms = schema.get("anyOf") or [schema]  # the empty body is another form
    unknown = set(body).difference(*(form.get("properties", {}) for form in forms))
    return [
        *(f"{where}: no field {name} in the body" for name in sorted(unknown)),
        *_schema_problems(f"{where}: body", schema, body),
    ]


def _answer_problems(where: str, operation: Any, status: int, answer: Any) -> list[str]:
    described = operation["responses"].get(str(status))
    if described is None:
        return [f"{where}: status {status} is not described"]
    content = _resolve(described).get("content") or {}
    schema = next((each["schema"] for each in content.values() if "schema" in each), {})
    return _schema_problems(f"{where}: {status}", schema, answer)


def _schema_problems(where: str, schema: Any, value: Any) -> list[str]:
    validator = Draft7Validator({**schema, "components": _description()["components"]})
    return [
        f"{where}: {'/'.join(str(each) for each in error.absolute_path)}: {error.message[:160]}"
        for error in sorted(validator.iter_errors(value), key=lambda each: str(each.absolute_path))
    ]


def _find_operation(method: str, path: str) -> tuple[str, Any] | None:
    """The description with the fewest parameters that matches a path."""
    for pattern in sorted(_description()["paths"], key=lambda each: (each.count("{"), -len(each))):
        if method in _description()["paths"][pattern] and _regex(pattern).fullmatch(path):
            return pattern, _description()["paths"][pattern][method]
    return None


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", pattern)
    return re.compile(
        "".join(
            re.escape(part) if not number % 2 else ".+" if part in _WITH_SLASHES else "[^/]+"
            for number, part in enumerate(parts)
        )
    )


def _resolve(part: Any) -> Any:
    if "$ref" not in part:
        return part
    found = _description()
    for name in part["$ref"].removeprefix("#/").split("/"):
        found = found[unquote(name)]
    return found


@cache
def _description() -> Any:
    return _as_json_schema(json.loads(_FILE.read_bytes()))


def _as_json_schema(part: Any) -> Any:
    """Replace `nullable` of OpenAPI 3.0 by JSON Schema's type `null`."""
    if isinstance(part, list):
        return [_as_json_schema(each) for each in part]
    if not isinstance(part, dict):
        return part
    made = {name: _as_json_schema(each) for name, each in part.items() if name != "nullable"}
    if part.get("nullable") is not True:
        return made
    return {"anyOf": [{"type": "null"}, made]}
