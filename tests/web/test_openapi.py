"""Tests of the API's description: it is valid and complete, and matches the application's responses."""

from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate

from deployer.model.environment_status import StackFailure, StageState
from deployer.model.repository_record import RepositoryRecord
from tests.records import know_repository
from tests.web.fill import FAILURE, fill, fill_odd, fill_production
from tests.web.site import Site, record
from web.openapi import DESCRIPTION

Json = dict[str, Any]
SCHEMAS: Json = DESCRIPTION["components"]["schemas"]
OPERATIONS: dict[str, tuple[str, str, Json]] = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, methods in DESCRIPTION["paths"].items()
    for method, operation in methods.items()
    if method != "parameters"
}
# operation -> queries and bodies to ask it with; what is in braces is a name of `fill`
ASKED: dict[str, list[Json]] = {
    "openapi": [{}],
    "environments": [{}, {"query": "deleted=1"}, {"query": "repository=acme/api"}],
    "environment": [
        {"identity": name}
        for name in ("staging", "failed", "deleted", "kept", "warned", "asleep", "production")
    ],
    "delete_environment": [{"identity": "deployed"}],
    "redeploy": [{"identity": "failed"}, {"identity": "staging", "json": {"sha": "b" * 40}}],
    "approve": [
        {"identity": "production", "json": {"tag": "v2", "commit": "b" * 40}},
        {"identity": "production", "json": {"tag": "v3", "commit": "b" * 40, "by": "ada"}},
    ],
    "keep": [{"identity": "deployed"}, {"identity": "deployed", "json": {"for": "2w"}}],
    "repositories": [{}],
    "delivery": [{"identity": "delivery"}, {"identity": "d-ignored"}, {"identity": "d-feature-search-push"}],
    "activity": [{}, {"query": "limit=2&repository=acme/storefront"}, {"query": "goal=d-spike-push"}],
    "lanes": [{}],
    "dead_letters": [{}, {"query": "repository=acme/storefront"}, {"query": "kind=KeyError&task=sync"}],
    "dead_letter": [{"identity": "letter"}],
    "discard": [{"identity": "letter"}],
    "replay": [{"identity": "letter"}],
    "replay_all": [{"json": {"all": True}}, {"json": {"all": True, "kind": "KeyError", "task": "sync"}}],
    "discard_all": [{"json": {"all": True, "repository": "acme/storefront"}}],
    "resync": [{"json": {"repository": "acme/api"}}, {"json": {"all": True}}],
}


def whole(schema: Any) -> Any:
    """A schema with its references put in and no property allowed that it does not name."""
    if isinstance(schema, list):
        return [whole(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return whole(SCHEMAS[schema["$ref"].removeprefix("#/components/schemas/")])
    if "allOf" in schema:
        parts = [whole(each) for each in schema["allOf"]]
        properties = {name: value for part in parts for name, value in part["properties"].items()}
        required = [name for part in parts for name in part["required"]]
        return {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }
    closed = {"additionalProperties": False} if "properties" in schema else {}
    return {name: whole(value) for name, value in schema.items()} | closed


def check(value: object, schema: Json) -> None:
    OAS31Validator(whole(schema), format_checker=OAS31Validator.FORMAT_CHECKER).validate(value)


def schema_of(operation: Json, code: int) -> Json:
    schema: Json = operation["responses"][str(code)]["content"]["application/json"]["schema"]
    return schema


def ask(site: Site, identity: str, asked: Json, made: dict[str, str]) -> Any:
    """Ask one operation."""
    method, path, _ = OPERATIONS[identity]
    name = asked.get("identity", "")
    place = path.removeprefix("/api/v1").replace("{identity}", made.get(name, name))
    return site.api(method, f"{place}?{asked.get('query', '')}", json=asked.get("json"))


CASES = [
    pytest.param(identity, asked, id=f"{identity}-{number}")
    for identity, all_asked in ASKED.items()
    for number, asked in enumerate(all_asked)
]


def test_the_description_is_valid_and_served(site: Site) -> None:
    answer = site.api("GET", "/openapi.json")
    assert (answer.status_code, answer.json) == (200, DESCRIPTION)
    validate(answer.json)


def test_the_description_has_exactly_the_calls_of_the_application(site: Site) -> None:
    there = {
        (method, rule.rule.replace("<", "{").replace(">", "}"))
        for rule in site.app.url_map.iter_rules()
        if rule.rule.startswith("/api/")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert there == {(method, path) for method, path, _ in OPERATIONS.values()}
    assert set(ASKED) == set(OPERATIONS)


@pytest.mark.parametrize(("identity", "asked"), CASES)
def test_an_answer_is_as_described(site: Site, identity: str, asked: Json) -> None:
    made = fill(site.lanes) | fill_odd(site.lanes) | {"production": fill_production(site.lanes)}
    know_repository(site.lanes, RepositoryRecord("-/-", checked_at=1000.0))
    answer = ask(site, identity, asked, made)
    _, _, operation = OPERATIONS[identity]
    (code,) = [int(code) for code in operation["responses"] if code < "300"]
    assert answer.status_code == code, answer.text
    assert answer.mimetype == "application/json"
    check(answer.json, schema_of(operation, code))
    assert next(iter(answer.json.values())), "an empty listing would prove little"


def test_the_environment_in_full_is_as_described(site: Site) -> None:
    stages = [StageState("B", "stopped")]
    known = {"state": "pending", "stages": stages, "stack_arn": "arn:x", "execution": "e", "generation": 1}
    for branch, failure in (("x", FAILURE), ("y", StackFailure(reason="Throttled"))):
        identity = site.put(record(branch, **known, failure=failure))
        found = site.api("GET", f"/environments/{identity}").json
        check(found, {"$ref": "#/components/schemas/Environment"})
        assert found["failure"]["reason"] == failure.reason


@pytest.mark.parametrize("identity", [name for name in OPERATIONS if name != "openapi"])
def test_an_error_is_as_described(site: Site, identity: str) -> None:
    method, path, operation = OPERATIONS[identity]
    place = path.removeprefix("/api/v1").replace("{identity}", "acme~api-1")
    asked: Json = {"json": {"repository": "other/one"}} if identity == "resync" else {}
    found = [
        site.api(method, place, token=None),
        site.api(method, f"{place}?repository=x&limit=0", json={"sha": 1}),
    ]
    if "{identity}" in path or asked:
        found.append(site.api(method, place, **asked))
    with site.redis_away():
        bodies: Json = {
            "resync": {"repository": "acme/api"},
            "letters": {"all": True},
            "approve": {"tag": "v1", "commit": "b" * 40},
        }
        body = next((each for name, each in bodies.items() if name in path), {})
        found.append(site.api(method, place, json=body))
    errors = [answer for answer in found if answer.status_code != 200]
    assert {answer.status_code for answer in errors} >= {401, 503}
    for answer in errors:
        check(answer.json, schema_of(operation, answer.status_code))


def test_a_conflict_is_as_described(site: Site) -> None:
    made = fill(site.lanes)
    answer = ask(site, "delete_environment", {"identity": "staging"}, made)
    assert answer.status_code == 409
    check(answer.json, schema_of(OPERATIONS["delete_environment"][2], 409))


def test_every_described_query_parameter_has_an_effect(site: Site) -> None:
    fill(site.lanes)
    values = {"repository": "acme/nothing", "deleted": "1", "limit": "0", "goal": "never"}
    values |= {"kind": "Other", "task": "delete", "cursor": "no cursor"}
    for identity, (_, _, operation) in OPERATIONS.items():
        plain = ask(site, identity, {}, {}).json if "parameters" in operation else {}
        for parameter in operation.get("parameters", []):
            name = parameter["name"]
            assert ask(site, identity, {"query": f"{name}={values[name]}"}, {}).json != plain, (
                identity,
                name,
            )
