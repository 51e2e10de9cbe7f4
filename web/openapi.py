"""The description of the API in OpenAPI 3.1; a test compares it with the application's responses."""

from typing import Any

from web.openapi_schemas import SCHEMAS
from web.openapi_types import TEXT, TEXT_OR_NULL, Json, described, list_of, object_of, one_of, reference_to


def _json_answer(schema: Json, description: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_ERRORS = {
    "400": "A parameter or the body is malformed.",
    "401": "The token is missing or wrong, or none is configured. After many wrong tokens: 429 with Retry-After.",
    "404": "The object does not exist; the reason says where to look.",
    "409": "The current state does not allow the request; the reason says why.",
    "503": "Redis does not answer, and nothing was recorded. Retry after the seconds in Retry-After.",
}


def _operation(identity: str, summary: str, code: str, schema: Json, *errors: str, **more: Any) -> Json:
    named_errors = {
        each: _json_answer(reference_to("Error"), _ERRORS[each]) for each in ("401", *errors, "503")
    }
    return {
        "operationId": identity,
        "summary": summary,
        **more,
        "responses": {code: _json_answer(schema, summary), **named_errors},
    }


def _query_parameter(name: str, description: str, schema: Json = TEXT) -> Json:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _path_parameter(name: str, description: str) -> Json:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": TEXT}


def _json_body(schema: Json, *, required: bool) -> Json:
    return {"required": required, "content": {"application/json": {"schema": schema}}}


_REPOSITORY = _query_parameter("repository", "Only of this repository, as `owner/name`.")
_PAGE = [
    _query_parameter(
        "limit", "How many at most.", {"type": "integer", "minimum": 1, "maximum": 500, "default": 500}
    ),
    _query_parameter("cursor", "`next` of the page before."),
]
_NEXT = described(TEXT_OR_NULL, "The cursor of the next page; null if this is the last one.")
_ENVIRONMENT_ID = _path_parameter("identity", "The environment's id: the name of its stack and pipeline.")
_LETTER_ID = _path_parameter("identity", "The dead letter's id.")
_LETTERS_BODY: Json = {
    "type": "object",
    "properties": {
        "all": {"type": "boolean", "const": True},
        "kind": described(
            TEXT, "Only of this kind of error, such as `TransientError`, `WorkerLost` or `TaskTimeout`."
        ),
        "repository": described(TEXT, "Only of this repository, as `owner/name`."),
        "task": described(TEXT, "Only of this task, as `deployer.provision` or `provision`."),
    },
    "required": ["all"],
    "additionalProperties": False,
}
_RECREATE = described(
    {"type": "boolean", "default": False},
    "Whether to create the environments that people deleted although their branch exists. The other resyncs leave "
    "them deleted until a push or a redeployment.",
)


def _resync_body(name: str, schema: Json) -> Json:
    return {
        "type": "object",
        "properties": {name: schema, "recreate": _RECREATE},
        "required": [name],
        "additionalProperties": False,
    }


_RESYNC_BODY: Json = {
    "oneOf": [
        _resync_body("repository", described(TEXT, "`owner/name`")),
        _resync_body(
            "all",
            described(
                {"type": "boolean", "const": True}, "All known repositories, and those named in the settings."
            ),
        ),
    ]
}
DESCRIPTION: Json = {
    "openapi": "3.1.0",
    "info": {
        "title": "deployer",
        "version": "1",
        "summary": "A pipeline for every branch.",
        "description": "Reads what the dashboard shows, and queues what the command line can request. "
        "A request is added to the queue (lane) of its repository, and the response contains the task's id; "
        "`/api/v1/activity?goal=` with this id returns the outcome.",
        "license": {"name": "MIT", "identifier": "MIT"},
    },
    "security": [{"token": []}, {"password": []}],
    "paths": {
        "/api/v1/openapi.json": {
            "get": {
                "operationId": "openapi",
                "summary": "This description.",
                "responses": {
                    "200": _json_answer({"type": "object"}, "This description."),
                    "401": _json_answer(reference_to("Error"), _ERRORS["401"]),
                },
            }
        },
        "/api/v1/environments": {
            "get": _operation(
                "environments",
                "The environments.",
                "200",
                object_of(environments=list_of(reference_to("Environment")), next=_NEXT),
                "400",
                parameters=[
                    _REPOSITORY,
                    _query_parameter("deleted", "`1` to list deleted ones too.", one_of("0", "1")),
                    *_PAGE,
                ],
            )
        },
        "/api/v1/environments/{identity}": {
            "parameters": [_ENVIRONMENT_ID],
            "get": _operation("environment", "One environment.", "200", reference_to("Environment"), "404"),
            "delete": _operation(
                "delete_environment",
                "Delete a development environment; staging and production are refused.",
                "202",
                reference_to("Queued"),
                "404",
                "409",
            ),
        },
        "/api/v1/environments/{identity}/redeploy": {
            "parameters": [_ENVIRONMENT_ID],
            "post": _operation(
                "redeploy",
                "Deploy the head of the environment's ref, or a given commit, again.",
                "202",
                reference_to("Queued"),
                "400",
                "404",
                "409",
                requestBody=_json_body(
                    {
                        "type": "object",
                        "properties": {
                            "sha": described(TEXT, "A commit id, or at least its first 4 digits.")
                        },
                        "additionalProperties": False,
                    },
                    required=False,
                ),
            ),
        },
        "/api/v1/environments/{identity}/approve": {
            "parameters": [_ENVIRONMENT_ID],
            "post": _operation(
                "approve",
                "Deploy a tag to production although the rules refuse it. The approver is recorded.",
                "202",
                reference_to("Queued"),
                "400",
                "404",
                "409",
                requestBody=_json_body(
                    {
                        "type": "object",
                        "properties": {
                            "tag": described(TEXT, "Its name, or `refs/tags/<name>`."),
                            "commit": described(
                                TEXT,
                                "The full id of the approved commit, as in `refused_tags`. Nothing is deployed if the "
                                "tag is at another commit.",
                            ),
                            "by": described(
                                TEXT,
                                "The name of the approver; it is recorded together with the API's caller.",
                            ),
                        },
                        "required": ["tag", "commit"],
                        "additionalProperties": False,
                    },
                    required=True,
                ),
            ),
        },
        "/api/v1/environments/{identity}/keep": {
            "parameters": [_ENVIRONMENT_ID],
            "post": _operation(
                "keep",
                "Postpone the expiry of a development environment; staging and production never expire.",
                "200",
                reference_to("Environment"),
                "400",
                "404",
                "409",
                requestBody=_json_body(
                    {
                        "type": "object",
                        "properties": {"for": described(TEXT, "The minimum time: `12h`, `2w`, or `ever`.")},
                        "additionalProperties": False,
                    },
                    required=False,
                ),
            ),
        },
        "/api/v1/repositories": {
            "get": _operation(
                "repositories",
                "The repositories.",
                "200",
                object_of(
                    repositories=list_of(reference_to("Repository")),
                    app=described(
                        {"oneOf": [reference_to("Deliveries"), {"type": "null"}]},
                        "The deliveries to the GitHub App's webhook, which all repositories share.",
                    ),
                    next=_NEXT,
                ),
                "400",
                parameters=_PAGE,
            )
        },
        "/api/v1/deliveries/{identity}": {
            "parameters": [_path_parameter("identity", "The delivery's id, as GitHub or AWS gave it.")],
            "get": _operation(
                "delivery", "The outcome of a delivery.", "200", reference_to("Delivery"), "404"
            ),
        },
        "/api/v1/activity": {
            "get": _operation(
                "activity",
                "The latest outcomes, newest first.",
                "200",
                object_of(activity=list_of(reference_to("Activity"))),
                "400",
                parameters=[
                    _REPOSITORY,
                    _query_parameter(
                        "limit", "How many.", {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}
                    ),
                    _query_parameter("goal", "Only of this task or delivery."),
                ],
            )
        },
        "/api/v1/lanes": {
            "get": _operation(
                "lanes",
                "The queues (lanes) that have work.",
                "200",
                object_of(lanes=list_of(reference_to("Lane")), next=_NEXT),
                "400",
                parameters=_PAGE,
            )
        },
        "/api/v1/dead-letters": {
            "get": _operation(
                "dead_letters",
                "The dead letters: work that failed for good, oldest first. A page without those that `kind` or `task` "
                "leaves out may have fewer than `limit`.",
                "200",
                object_of(dead_letters=list_of(reference_to("DeadLetter")), next=_NEXT),
                "400",
                parameters=[
                    _REPOSITORY,
                    _query_parameter(
                        "kind",
                        "Only of this kind of error, such as `TransientError`, `WorkerLost` or `TaskTimeout`.",
                    ),
                    _query_parameter("task", "Only of this task, as `deployer.provision` or `provision`."),
                    *_PAGE,
                ],
            )
        },
        "/api/v1/dead-letters/replay": {
            "post": _operation(
                "replay_all",
                "Queue the work of all dead letters, or of those that match, again.",
                "202",
                reference_to("ReplayedAll"),
                "400",
                requestBody=_json_body(_LETTERS_BODY, required=True),
            )
        },
        "/api/v1/dead-letters/discard": {
            "post": _operation(
                "discard_all",
                "Remove all dead letters, or those that match, from the list.",
                "202",
                reference_to("DiscardedAll"),
                "400",
                requestBody=_json_body(_LETTERS_BODY, required=True),
            )
        },
        "/api/v1/dead-letters/{identity}": {
            "parameters": [_LETTER_ID],
            "get": _operation(
                "dead_letter",
                "One dead letter with its traceback.",
                "200",
                reference_to("DeadLetterInFull"),
                "404",
            ),
            "delete": _operation(
                "discard", "Remove a dead letter from the list.", "202", reference_to("Discarded"), "404"
            ),
        },
        "/api/v1/dead-letters/{identity}/replay": {
            "parameters": [_LETTER_ID],
            "post": _operation(
                "replay", "Queue the work of a dead letter again.", "202", reference_to("Queued"), "404"
            ),
        },
        "/api/v1/resync": {
            "post": _operation(
                "resync",
                "Compare repositories with their stacks and queue what differs.",
                "202",
                {"oneOf": [reference_to("Queued"), reference_to("QueuedAll")]},
                "400",
                "409",
                requestBody=_json_body(_RESYNC_BODY, required=True),
            )
        },
    },
    "components": {
        "schemas": SCHEMAS,
        "securitySchemes": {
            "token": {"type": "http", "scheme": "bearer", "description": "The value of DEPLOYER_API_TOKEN."},
            "password": {
                "type": "http",
                "scheme": "basic",
                "description": "The same token as password of any user; requests from other sites' pages are refused.",
            },
        },
    },
}
