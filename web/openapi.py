"""The API's description in OpenAPI 3.1, written by hand; a test compares it with what the application answers."""

from typing import Any

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_TEXT_OR_NULL: Json = {"type": ["string", "null"]}
_TIME: Json = {"type": ["string", "null"], "format": "date-time"}
_NUMBER: Json = {"type": "number"}
_WHOLE: Json = {"type": "integer"}


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _named(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(item: Json) -> Json:
    return {"type": "array", "items": item}


def _told(item: Json, description: str) -> Json:
    return {**item, "description": description}


def _one_of(*values: str) -> Json:
    return {"type": "string", "enum": list(values)}


def _answer(schema: Json, description: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


_ERRORS = {
    "400": "A parameter or the body cannot be read.",
    "401": "The token is missing or wrong, or none is configured. After many wrong ones it is 429, with Retry-After.",
    "404": "There is no such thing; the reason says where to look.",
    "409": "It is refused as things are; the reason says why.",
    "503": "Redis is away: nothing was recorded. Try again after the seconds in Retry-After.",
}


def _operation(identity: str, summary: str, code: str, schema: Json, *errors: str, **more: Any) -> Json:
    named_errors = {each: _answer(_named("Error"), _ERRORS[each]) for each in ("401", *errors, "503")}
    return {
        "operationId": identity,
        "summary": summary,
        **more,
        "responses": {code: _answer(schema, summary), **named_errors},
    }


def _query(name: str, description: str, schema: Json = _TEXT) -> Json:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _path(name: str, description: str) -> Json:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": _TEXT}


def _body(schema: Json, *, required: bool) -> Json:
    return {"required": required, "content": {"application/json": {"schema": schema}}}


_REPOSITORY = _query("repository", "Only of this repository, as `owner/name`.")
_ENVIRONMENT_ID = _path("identity", "The environment's id: the name of its stack and pipeline.")
_LETTER_ID = _path("identity", "The dead letter's id.")
_ENVIRONMENT_KEY = _told(
    _TEXT, "`development:refs/heads/<branch>`, `staging`, `production`, or `*` for a resync."
)

_FAILED = _told(
    _list(_object(dead_letter=_TEXT, error=_TEXT)),
    "Those that it was not done with, such as one that somebody else settled meanwhile.",
)

_SCHEMAS: Json = {
    "Error": _object(error=_told(_TEXT, "The reason, in one line.")),
    "Stage": _object(
        name=_TEXT,
        status=_told(
            _one_of("pending", "running", "succeeded", "failed", "stopped", "not-reached"),
            "`pending` may still come; `not-reached` never will in this execution.",
        ),
        reason=_told(_TEXT, "Why it failed, in AWS's words."),
        url=_TEXT,
    ),
    "Environment": _object(
        id=_told(_TEXT, "The name of its stack and pipeline."),
        repository=_TEXT,
        environment=_ENVIRONMENT_KEY,
        kind=_one_of("development", "staging", "production"),
        ref=_told(_TEXT_OR_NULL, "The full ref that it was last brought to."),
        state=_told(
            _TEXT,
            "One of pending, provisioning, updating, running, deployed, failed, deleting, deleted, skipped, "
            "asleep; "
            "empty before the first step.",
        ),
        commit=_told(_TEXT_OR_NULL, "The commit last wanted."),
        outcome=_told(_TEXT_OR_NULL, "How the last goal ended."),
        reason=_told(_TEXT, "Why it ended so."),
        execution=_told(_TEXT_OR_NULL, "The pipeline execution last followed."),
        stages=_list(_named("Stage")),
        failure=_told(
            {"oneOf": [_named("Failure"), {"type": "null"}]}, "Why its stack could not be made or changed."
        ),
        receipt=_told(
            {"oneOf": [_named("Receipt"), {"type": "null"}]}, "What its last teardown removed and retained."
        ),
        drift=_told(_TEXT_OR_NULL, "What someone else changed in its stack since deployer applied it."),
        held=_told(
            _TEXT_OR_NULL, "Why a resync leaves it at another commit than its ref's, or at an older tag."
        ),
        used_at=_told(_TIME, "When it was last pushed to, deployed again or kept."),
        warned_at=_told(_TIME, "When people were warned of its end; null if it was used since."),
        expires_at=_told(_TIME, "When it is taken down if nobody uses it; null for never."),
        kept_until=_told(_TIME, "Until when a person wants it kept; the year 9999 for good."),
        asleep_until=_told(_TIME, "When it is brought back after its hours of sleep."),
        admitted=_told(
            {
                "oneOf": [
                    _object(ref=_TEXT, commit=_TEXT, by=_told(_TEXT, "The rule or the person."), at=_TIME),
                    {"type": "null"},
                ]
            },
            "Of production: the commit that it may run, and what admitted it.",
        ),
        refused_tags=_told(
            _list(
                _object(
                    ref=_TEXT,
                    commit=_TEXT,
                    reason=_told(_TEXT, "Why, with the remedy."),
                    at=_told(_TIME, "When its push came."),
                )
            ),
            "Of production: the latest tags that the rules refused, the newest first.",
        ),
        region=_told(_TEXT_OR_NULL, "The AWS region of its stack, once it was chosen."),
        stack_arn=_TEXT_OR_NULL,
        generation=_told(_WHOLE, "How often it was torn down."),
        changed_at=_told(_TIME, "Since when its state and outcome are what they are."),
        updated_at=_told(
            _TIME, "When a task of it last ended; an event that told nothing new does not count."
        ),
        url=_told(_TEXT, "Its page on the dashboard."),
    ),
    "Failure": _object(
        resource=_told(_TEXT, "The logical id of the first resource that failed, or the stack's name."),
        type=_TEXT,
        reason=_told(_TEXT, "In AWS's words."),
        url=_told(_TEXT, "Where AWS's console shows the stack."),
        file=_told(_TEXT_OR_NULL, "The file of the repository that defines the resource."),
        line=_told({"type": ["integer", "null"]}, "The line in it."),
    ),
    "Receipt": _object(
        at=_TIME,
        outcome=_told(
            _TEXT,
            "`removed`: nothing is left. `partly`: something was retained. `cancelled`: the environment was wanted"
            " again. `replaced`: a stack that could not be made was made anew. `under way`.",
        ),
        removed=_list(
            _object(
                what=_told(_TEXT, "Such as `stack NAME` or `bucket NAME`."),
                id=_told(_TEXT, "Its ARN, or its name."),
                resources=_told({"type": ["integer", "null"]}, "How many resources a stack had."),
            )
        ),
        retained=_list(_object(what=_TEXT, id=_TEXT, why=_TEXT)),
        unlisted=_told(
            _object(removed={"type": "integer"}, retained={"type": "integer"}),
            "How many buckets and other resources are counted and not listed; every stack is listed.",
        ),
    ),
    "Repository": _object(
        repository=_TEXT,
        id=_told({"type": ["integer", "null"]}, "GitHub's; it stays when the name changes."),
        state=_told(
            _TEXT_OR_NULL,
            "Null where all is as usual, else `archived`, `renamed`, `replaced` (another repository has the name), "
            "`deleted` or `removed` (taken from the GitHub App).",
        ),
        reason=_told(_TEXT, "The state in words, with what people may do."),
        since=_told(_TIME, "When the state began."),
        name_now=_told(_TEXT_OR_NULL, "What it is called now, if it was renamed."),
        default_branch=_TEXT_OR_NULL,
        never_deployed_tag=_told(
            _TEXT_OR_NULL,
            "The newest tag that was there before the first resync and that nobody has deployed; a redeploy does.",
        ),
        deliveries=_named("Deliveries"),
        orphans=_told(
            _list(
                _object(
                    environment=_ENVIRONMENT_KEY,
                    environment_id=_TEXT_OR_NULL,
                    since=_TIME,
                    due=_told(_TIME, "From when on a resync deletes it."),
                )
            ),
            "Development environments that the last resync saw stand without their branch.",
        ),
    ),
    "Deliveries": _object(
        checked_at=_told(_TIME, "When GitHub was last asked for deliveries that failed."),
        unchecked=_told(_TEXT_OR_NULL, "Why GitHub does not tell of them."),
        missed=_told(
            {
                "oneOf": [
                    _object(
                        at=_TIME,
                        redelivered=_WHOLE,
                        superseded=_told(_WHOLE, "A newer push to the same environment came."),
                        left=_told(_WHOLE, "Left to the resync."),
                    ),
                    {"type": "null"},
                ]
            },
            "What the last look that found any did.",
        ),
        recent=_told(
            _WHOLE,
            "How many had failed less than a minute before the last look, which left them to the next.",
        ),
        refused=_told(_WHOLE, "Of how many that had failed the last attempt had a wrong signature."),
    ),
    "Delivery": _object(
        delivery=_TEXT,
        repository=_TEXT_OR_NULL,
        environment=_TEXT_OR_NULL,
        environment_id=_TEXT_OR_NULL,
        event=_TEXT,
        outcome=_told(
            _TEXT,
            "queued, then one of deployed, deleted, superseded, skipped, ignored, failed, dead-lettered.",
        ),
        reason=_TEXT,
        received_at=_TIME,
        finished_at=_TIME,
    ),
    "Activity": _object(
        at=_TIME,
        repository=_TEXT,
        environment=_ENVIRONMENT_KEY,
        environment_id=_TEXT_OR_NULL,
        goal=_told(_TEXT, "The delivery's or task's id."),
        outcome=_TEXT,
        reason=_TEXT,
        commit=_TEXT_OR_NULL,
        ref=_told(
            _TEXT_OR_NULL, "What was pushed or asked for, where that is known: of production, the tag."
        ),
    ),
    "Work": _object(
        environment=_ENVIRONMENT_KEY,
        task=_TEXT,
        cause=_one_of("push", "deletion", "redeploy", "teardown", "resync", "age", "event"),
        goal=_TEXT,
        deliveries=_list(_TEXT),
        ref=_TEXT_OR_NULL,
        sha=_TEXT_OR_NULL,
        attempts=_WHOLE,
        last_error=_told(_TEXT, "How the attempt before ended, if there was one."),
        accepted_at=_TIME,
    ),
    "Lane": _object(
        repository=_TEXT,
        status=_told(
            _one_of("idle", "sent", "running", "broken"), "`broken` where a key of it is of another type."
        ),
        environment=_TEXT_OR_NULL,
        ref=_told(_TEXT_OR_NULL, "The tag, if the task judges one for production."),
        task=_TEXT_OR_NULL,
        lease_seconds=_told(_NUMBER, "For how long its worker holds it unless it renews."),
        waiting=_list(_named("Work")),
        snoozed=_list(
            _object(
                environment=_TEXT,
                ref=_told(_TEXT_OR_NULL, "The tag, if it is one for production that is not judged yet."),
                seconds=_told(_NUMBER, "Until it comes back by itself."),
                attempts=_told(_NUMBER, "How often it was tried in vain; 0 where it waits for AWS."),
                last_error=_told(_TEXT, "How the last attempt ended; empty where it waits for AWS."),
                reason=_told(_TEXT, "Why it may not run now; empty where it waits for AWS or tries again."),
            )
        ),
        refused=_told(
            _list(_object(environment=_TEXT, ref=_TEXT_OR_NULL, reason=_TEXT)),
            "Items that no worker has understood yet; after eight refusals one becomes a dead letter.",
        ),
        broken=_told(_TEXT, "Why the queue cannot be used; empty where it can."),
    ),
    "DeadLetter": _object(
        id=_TEXT,
        repository=_TEXT,
        environment=_ENVIRONMENT_KEY,
        environment_id=_TEXT_OR_NULL,
        task=_TEXT,
        kind=_told(
            _TEXT,
            "The class of the error that it died of, such as `TransientError`, or `WorkerLost` or `TaskTimeout`.",
        ),
        reason=_TEXT,
        at=_told(_TIME, "When it died."),
        age_seconds=_NUMBER,
        attempts=_told(
            _list(_named("Attempt")), "Those that ended badly, oldest first, at most the newest 20."
        ),
        work=_named("Work"),
    ),
    "Attempt": _object(
        began_at=_TIME, ended_at=_TIME, task=_TEXT, error=_told(_TEXT, "How it ended, in one line.")
    ),
    "DeadLetterInFull": {"allOf": [_named("DeadLetter"), _object(traceback=_TEXT)]},
    "Queued": _object(
        id=_told(_TEXT, "The task's id; `/api/v1/activity?goal=` tells how it ended."),
        outcome=_one_of("queued"),
        repository=_TEXT_OR_NULL,
        environment_id=_TEXT_OR_NULL,
    ),
    "QueuedAll": _object(
        outcome=_one_of("queued"), tasks=_list(_object(repository=_TEXT, id=_told(_TEXT, "The task's id.")))
    ),
    "Discarded": _object(id=_TEXT, outcome=_one_of("discarded")),
    "ReplayedAll": _object(
        outcome=_one_of("queued"),
        tasks=_list(_object(dead_letter=_TEXT, repository=_TEXT, id=_told(_TEXT, "The task's id."))),
        failed=_FAILED,
    ),
    "DiscardedAll": _object(outcome=_one_of("discarded"), dead_letters=_list(_TEXT), failed=_FAILED),
}

_LETTERS_BODY: Json = {
    "type": "object",
    "properties": {
        "all": {"type": "boolean", "const": True},
        "kind": _told(
            _TEXT, "Only what died of this, such as `TransientError`, `WorkerLost` or `TaskTimeout`."
        ),
        "repository": _told(_TEXT, "Only of this repository, as `owner/name`."),
        "task": _told(_TEXT, "Only of this task, as `deployer.provision` or `provision`."),
    },
    "required": ["all"],
    "additionalProperties": False,
}

_RESYNC_BODY: Json = {
    "oneOf": [
        _object(repository=_told(_TEXT, "`owner/name`")),
        _object(
            all=_told(
                {"type": "boolean", "const": True}, "Every repository known, and those named in the settings."
            )
        ),
    ]
}

DESCRIPTION: Json = {
    "openapi": "3.1.0",
    "info": {
        "title": "deployer",
        "version": "1",
        "summary": "A pipeline for every branch.",
        "description": "What the dashboard shows, and what the command line can ask for. "
        "Whatever is asked for is queued in its repository's lane and answered with the task's id; "
        "`/api/v1/activity?goal=` with that id tells its outcome.",
        "license": {"name": "MIT", "identifier": "MIT"},
    },
    "security": [{"token": []}, {"password": []}],
    "paths": {
        "/api/v1/openapi.json": {
            "get": {
                "operationId": "openapi",
                "summary": "This description.",
                "responses": {
                    "200": _answer({"type": "object"}, "This description."),
                    "401": _answer(_named("Error"), _ERRORS["401"]),
                },
            }
        },
        "/api/v1/environments": {
            "get": _operation(
                "environments",
                "The environments.",
                "200",
                _object(environments=_list(_named("Environment"))),
                "400",
                parameters=[
                    _REPOSITORY,
                    _query("deleted", "`1` to list deleted ones too.", _one_of("0", "1")),
                ],
            )
        },
        "/api/v1/environments/{identity}": {
            "parameters": [_ENVIRONMENT_ID],
            "get": _operation("environment", "One environment.", "200", _named("Environment"), "404"),
            "delete": _operation(
                "delete_environment",
                "Delete a development environment; staging and production are refused.",
                "202",
                _named("Queued"),
                "404",
                "409",
            ),
        },
        "/api/v1/environments/{identity}/redeploy": {
            "parameters": [_ENVIRONMENT_ID],
            "post": _operation(
                "redeploy",
                "Deploy the head of the environment's ref, or a given commit, once more.",
                "202",
                _named("Queued"),
                "400",
                "404",
                "409",
                requestBody=_body(
                    {
                        "type": "object",
                        "properties": {
                            "sha": _told(
                                _TEXT, "A commit id or its first digits, 4 at least; the full id is queued."
                            )
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
                "Deploy a tag to production although the rules refuse it. It is recorded who approved it.",
                "202",
                _named("Queued"),
                "400",
                "404",
                "409",
                requestBody=_body(
                    {
                        "type": "object",
                        "properties": {
                            "tag": _told(_TEXT, "Its name, or `refs/tags/<name>`."),
                            "commit": _told(
                                _TEXT,
                                "The full id of the commit that is approved, as `refused_tags` tell it. Nothing is "
                                "deployed if the tag is elsewhere.",
                            ),
                            "by": _told(
                                _TEXT, "Who approves; it is recorded beside the API's own principal."
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
                "Keep a development environment as if it were used now; staging and production never age.",
                "200",
                _named("Environment"),
                "400",
                "404",
                "409",
                requestBody=_body(
                    {
                        "type": "object",
                        "properties": {"for": _told(_TEXT, "At least for so long: `12h`, `2w`, or `ever`.")},
                        "additionalProperties": False,
                    },
                    required=False,
                ),
            ),
        },
        "/api/v1/repositories": {
            "get": _operation(
                "repositories",
                "The repositories as a whole.",
                "200",
                _object(
                    repositories=_list(_named("Repository")),
                    app=_told(
                        {"oneOf": [_named("Deliveries"), {"type": "null"}]},
                        "The deliveries to the GitHub App's own webhook, which tells of every repository.",
                    ),
                ),
            )
        },
        "/api/v1/deliveries/{identity}": {
            "parameters": [_path("identity", "The delivery's id, as GitHub or AWS gave it.")],
            "get": _operation("delivery", "What became of a delivery.", "200", _named("Delivery"), "404"),
        },
        "/api/v1/activity": {
            "get": _operation(
                "activity",
                "The latest outcomes, newest first.",
                "200",
                _object(activity=_list(_named("Activity"))),
                "400",
                parameters=[
                    _REPOSITORY,
                    _query(
                        "limit", "How many.", {"type": "integer", "minimum": 1, "maximum": 500, "default": 50}
                    ),
                    _query("goal", "Only of this task or delivery."),
                ],
            )
        },
        "/api/v1/lanes": {
            "get": _operation(
                "lanes",
                "The lanes that hold or await something.",
                "200",
                _object(lanes=_list(_named("Lane"))),
            )
        },
        "/api/v1/dead-letters": {
            "get": _operation(
                "dead_letters",
                "Work that could not be done for a reason of deployer's own, oldest first.",
                "200",
                _object(dead_letters=_list(_named("DeadLetter"))),
                "400",
                parameters=[
                    _REPOSITORY,
                    _query(
                        "kind",
                        "Only what died of this, such as `TransientError`, `WorkerLost` or `TaskTimeout`.",
                    ),
                    _query("task", "Only of this task, as `deployer.provision` or `provision`."),
                ],
            )
        },
        "/api/v1/dead-letters/replay": {
            "post": _operation(
                "replay_all",
                "Queue the work of all dead letters, or of those chosen, once more.",
                "202",
                _named("ReplayedAll"),
                "400",
                requestBody=_body(_LETTERS_BODY, required=True),
            )
        },
        "/api/v1/dead-letters/discard": {
            "post": _operation(
                "discard_all",
                "Take all dead letters, or those chosen, off the list.",
                "202",
                _named("DiscardedAll"),
                "400",
                requestBody=_body(_LETTERS_BODY, required=True),
            )
        },
        "/api/v1/dead-letters/{identity}": {
            "parameters": [_LETTER_ID],
            "get": _operation(
                "dead_letter", "One dead letter with its traceback.", "200", _named("DeadLetterInFull"), "404"
            ),
            "delete": _operation(
                "discard", "Take a dead letter off the list.", "202", _named("Discarded"), "404"
            ),
        },
        "/api/v1/dead-letters/{identity}/replay": {
            "parameters": [_LETTER_ID],
            "post": _operation(
                "replay", "Queue a dead letter's work once more.", "202", _named("Queued"), "404"
            ),
        },
        "/api/v1/resync": {
            "post": _operation(
                "resync",
                "Compare repositories with their stacks and queue what differs.",
                "202",
                {"oneOf": [_named("Queued"), _named("QueuedAll")]},
                "400",
                "409",
                requestBody=_body(_RESYNC_BODY, required=True),
            )
        },
    },
    "components": {
        "schemas": _SCHEMAS,
        "securitySchemes": {
            "token": {"type": "http", "scheme": "bearer", "description": "The value of DEPLOYER_API_TOKEN."},
            "password": {
                "type": "http",
                "scheme": "basic",
                "description": "The same as password, of any user; no change may then come from another site's page.",
            },
        },
    },
}
