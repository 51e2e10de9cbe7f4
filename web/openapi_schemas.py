"""The schemas of what the API returns."""

from web.openapi_types import (
    NUMBER,
    TEXT,
    TEXT_OR_NULL,
    TIME,
    WHOLE_NUMBER,
    Json,
    described,
    list_of,
    object_of,
    one_of,
    reference_to,
)

_ENVIRONMENT_KEY = described(
    TEXT, "`development:refs/heads/<branch>`, `staging`, `production`, or `*` for a resync."
)
_FAILED = described(
    list_of(object_of(dead_letter=TEXT, error=TEXT)),
    "The dead letters for which it failed, such as one that was replayed or discarded meanwhile.",
)
SCHEMAS: Json = {
    "Error": object_of(error=described(TEXT, "The reason, in one line.")),
    "Stage": object_of(
        name=TEXT,
        status=described(
            one_of("pending", "running", "succeeded", "failed", "stopped", "not-reached"),
            "A `pending` stage may still run; a `not-reached` stage will not run in this execution.",
        ),
        reason=described(TEXT, "Why it failed, as AWS reports it."),
        url=TEXT,
    ),
    "Environment": object_of(
        id=described(TEXT, "The name of its stack and pipeline."),
        repository=TEXT,
        environment=_ENVIRONMENT_KEY,
        kind=one_of("development", "staging", "production"),
        ref=described(TEXT_OR_NULL, "The full ref of its last deployment."),
        state=described(
            TEXT,
            "One of pending, provisioning, updating, running, deployed, failed, deleting, deleted, skipped, "
            "asleep; "
            "empty before the first step.",
        ),
        commit=described(TEXT_OR_NULL, "The commit that was last requested."),
        outcome=described(TEXT_OR_NULL, "The outcome of the last request."),
        reason=described(TEXT, "The reason for the outcome."),
        execution=described(TEXT_OR_NULL, "The last pipeline execution that deployer watched."),
        stages=list_of(reference_to("Stage")),
        environment_url=described(
            TEXT_OR_NULL, "Where what it deployed is opened, by the outputs of its stacks; http or https."
        ),
        failure=described(
            {"oneOf": [reference_to("Failure"), {"type": "null"}]},
            "Why its stack could not be created or updated.",
        ),
        receipt=described(
            {"oneOf": [reference_to("Receipt"), {"type": "null"}]},
            "The teardown report: what was removed, and what was retained.",
        ),
        foreign_executions=described(
            list_of(reference_to("ForeignExecution")),
            "The executions that deployer did not start, and that run or started after its last one; newest first.",
        ),
        drift=described(TEXT_OR_NULL, "What was changed in its stack outside deployer (drift)."),
        held=described(
            TEXT_OR_NULL,
            "Why a resync does not move it to its ref's commit or to the newest tag (a pin), or leaves it deleted.",
        ),
        used_at=described(TIME, "When a push, a redeploy or a keep last used it."),
        warned_at=described(TIME, "When people were warned that it expires; null if it was used since."),
        expires_at=described(TIME, "When it expires if nobody uses it; null for never."),
        kept_until=described(TIME, "Until when a person has kept it; the year 9999 means for good."),
        asleep_until=described(TIME, "When it is deployed again after its sleep hours."),
        admitted=described(
            {
                "oneOf": [
                    object_of(
                        ref=TEXT,
                        commit=TEXT,
                        by=described(TEXT, "The rule or the person that admitted it."),
                        at=TIME,
                    ),
                    {"type": "null"},
                ]
            },
            "For production: the commit that it may run, and who admitted it.",
        ),
        refused_tags=described(
            list_of(
                object_of(
                    ref=TEXT,
                    commit=TEXT,
                    reason=described(TEXT, "The reason, with a remedy."),
                    at=described(TIME, "When its push was received."),
                )
            ),
            "For production: the latest tags that the rules refused, newest first.",
        ),
        region=described(TEXT_OR_NULL, "The AWS region of its stack; null before a region is chosen."),
        stack_arn=TEXT_OR_NULL,
        generation=described(WHOLE_NUMBER, "The number of its teardowns."),
        changed_at=described(TIME, "When its state or outcome last changed."),
        updated_at=described(
            TIME, "When its last task ended; an AWS event that changed nothing does not count."
        ),
        url=described(TEXT, "Its page on the dashboard."),
    ),
    "ForeignExecution": object_of(
        id=TEXT,
        commit=described(TEXT_OR_NULL, "The commit that it builds; null until its source stage reports it."),
        status=one_of("running", "succeeded", "failed", "stopped", "cancelled", "superseded"),
        trigger=described(
            TEXT, "What started it, as AWS reports it: `StartPipelineExecution`, `Webhook` etc."
        ),
        detail=described(TEXT, "The caller's ARN, or what else AWS reports."),
        retried={"type": "boolean"},
        started_at=TIME,
        reason=described(TEXT, "The same in words."),
    ),
    "Failure": object_of(
        resource=described(TEXT, "The logical id of the first failed resource, or the name of the stack."),
        type=TEXT,
        reason=described(TEXT, "The reason, as AWS reports it."),
        url=described(TEXT, "The stack in AWS's console."),
        file=described(TEXT_OR_NULL, "The file of the repository that defines the resource."),
        line=described({"type": ["integer", "null"]}, "The line in this file."),
    ),
    "Receipt": object_of(
        at=TIME,
        outcome=described(
            TEXT,
            "`removed`: nothing is left. `partly`: something was retained. `cancelled`: a push or a person requested"
            " the environment again. `replaced`: a stack whose creation failed was created again. `under way`.",
        ),
        removed=list_of(
            object_of(
                what=described(TEXT, "Such as `stack NAME` or `bucket NAME`."),
                id=described(TEXT, "The ARN or the name."),
                resources=described({"type": ["integer", "null"]}, "The number of the stack's resources."),
            )
        ),
        retained=list_of(object_of(what=TEXT, id=TEXT, why=TEXT)),
        unlisted=described(
            object_of(removed={"type": "integer"}, retained={"type": "integer"}),
            "The number of buckets and other resources that are not listed; every stack is listed.",
        ),
    ),
    "Repository": object_of(
        repository=TEXT,
        id=described({"type": ["integer", "null"]}, "GitHub's id, which a rename does not change."),
        state=described(
            TEXT_OR_NULL,
            "Null in the normal state, else `archived`, `renamed`, `replaced` (another repository has the name), "
            "`deleted` or `removed` (no longer in the GitHub App's installation).",
        ),
        reason=described(TEXT, "The reason for the state, with a remedy."),
        since=described(TIME, "When the state began."),
        name_now=described(TEXT_OR_NULL, "The new name, if it was renamed."),
        default_branch=TEXT_OR_NULL,
        never_deployed_tag=described(
            TEXT_OR_NULL,
            "The newest tag from before the first resync, if it was never deployed; a redeploy deploys it.",
        ),
        deliveries=reference_to("Deliveries"),
        orphans=described(
            list_of(
                object_of(
                    environment=_ENVIRONMENT_KEY,
                    environment_id=TEXT_OR_NULL,
                    since=TIME,
                    due=described(TIME, "When a resync may delete it."),
                )
            ),
            "Development environments whose branch did not exist at the last resync.",
        ),
    ),
    "Deliveries": object_of(
        checked_at=described(TIME, "When failed deliveries were last read from GitHub."),
        unchecked=described(TEXT_OR_NULL, "Why failed deliveries cannot be read."),
        missed=described(
            {
                "oneOf": [
                    object_of(
                        at=TIME,
                        redelivered=WHOLE_NUMBER,
                        superseded=described(
                            WHOLE_NUMBER, "Deliveries that a newer push to the same environment replaced."
                        ),
                        left=described(WHOLE_NUMBER, "Deliveries that are left to the resync."),
                    ),
                    {"type": "null"},
                ]
            },
            "The result of the last check that found failed deliveries.",
        ),
        recent=described(
            WHOLE_NUMBER,
            "The number of deliveries that failed within a minute before the last check; the next one handles them.",
        ),
        refused=described(
            WHOLE_NUMBER, "The number of failed deliveries whose last attempt had a wrong signature."
        ),
    ),
    "Delivery": object_of(
        delivery=TEXT,
        repository=TEXT_OR_NULL,
        environment=TEXT_OR_NULL,
        environment_id=TEXT_OR_NULL,
        event=TEXT,
        outcome=described(
            TEXT,
            "queued, then one of deployed, deleted, superseded, skipped, ignored, failed, dead-lettered.",
        ),
        reason=TEXT,
        received_at=TIME,
        finished_at=TIME,
    ),
    "Activity": object_of(
        at=TIME,
        repository=TEXT,
        environment=_ENVIRONMENT_KEY,
        environment_id=TEXT_OR_NULL,
        goal=described(TEXT, "The request id: the id of the delivery or task."),
        outcome=TEXT,
        reason=TEXT,
        commit=TEXT_OR_NULL,
        ref=described(
            TEXT_OR_NULL, "The ref that was pushed or requested, if it is known; for production, the tag."
        ),
    ),
    "Work": object_of(
        environment=_ENVIRONMENT_KEY,
        task=TEXT,
        cause=one_of("push", "deletion", "redeploy", "teardown", "resync", "age", "event"),
        goal=TEXT,
        deliveries=list_of(TEXT),
        ref=TEXT_OR_NULL,
        sha=TEXT_OR_NULL,
        attempts=WHOLE_NUMBER,
        last_error=described(TEXT, "The error of the previous attempt, if there was one."),
        accepted_at=TIME,
    ),
    "Lane": object_of(
        repository=TEXT,
        status=described(
            one_of("idle", "sent", "running", "broken"),
            "`broken` if a Redis key of the queue has a wrong type.",
        ),
        environment=TEXT_OR_NULL,
        ref=described(TEXT_OR_NULL, "The tag, if the task is about a tag for production."),
        task=TEXT_OR_NULL,
        lease_seconds=described(NUMBER, "The remaining time of the worker's lease; the worker renews it."),
        waiting=list_of(reference_to("Work")),
        snoozed=list_of(
            object_of(
                environment=TEXT,
                ref=described(TEXT_OR_NULL, "The tag, if the item is about a tag for production."),
                seconds=described(NUMBER, "Time until the item is queued again."),
                attempts=described(NUMBER, "The number of failed attempts; 0 if it waits for AWS."),
                last_error=described(TEXT, "The error of the last attempt; empty if it waits for AWS."),
                reason=described(TEXT, "Why it must not run now; empty if it waits for AWS or a retry."),
            )
        ),
        refused=described(
            list_of(object_of(environment=TEXT, ref=TEXT_OR_NULL, reason=TEXT)),
            "Items that no worker has understood yet; after eight attempts an item becomes a dead letter.",
        ),
        broken=described(TEXT, "Why the queue cannot be used; empty if it can."),
    ),
    "DeadLetter": object_of(
        id=TEXT,
        repository=TEXT,
        environment=_ENVIRONMENT_KEY,
        environment_id=TEXT_OR_NULL,
        task=TEXT,
        kind=described(
            TEXT,
            "The class of the last error, such as `TransientError`, or `WorkerLost` or `TaskTimeout`.",
        ),
        reason=TEXT,
        at=described(TIME, "When the work failed for good."),
        age_seconds=NUMBER,
        attempts=described(
            list_of(reference_to("Attempt")), "The failed attempts, oldest first; at most the newest 20."
        ),
        work=reference_to("Work"),
    ),
    "Attempt": object_of(
        began_at=TIME, ended_at=TIME, task=TEXT, error=described(TEXT, "The error in one line.")
    ),
    "DeadLetterInFull": {"allOf": [reference_to("DeadLetter"), object_of(traceback=TEXT)]},
    "Queued": object_of(
        id=described(TEXT, "The task's id; `/api/v1/activity?goal=` returns its outcome."),
        outcome=one_of("queued"),
        repository=TEXT_OR_NULL,
        environment_id=TEXT_OR_NULL,
    ),
    "QueuedAll": object_of(
        outcome=one_of("queued"),
        tasks=list_of(object_of(repository=TEXT, id=described(TEXT, "The task's id."))),
    ),
    "Discarded": object_of(id=TEXT, outcome=one_of("discarded")),
    "ReplayedAll": object_of(
        outcome=one_of("queued"),
        tasks=list_of(object_of(dead_letter=TEXT, repository=TEXT, id=described(TEXT, "The task's id."))),
        failed=_FAILED,
    ),
    "DiscardedAll": object_of(outcome=one_of("discarded"), dead_letters=list_of(TEXT), failed=_FAILED),
}
