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
    "Those that it was not done with, such as one that somebody else settled meanwhile.",
)
SCHEMAS: Json = {
    "Error": object_of(error=described(TEXT, "The reason, in one line.")),
    "Stage": object_of(
        name=TEXT,
        status=described(
            one_of("pending", "running", "succeeded", "failed", "stopped", "not-reached"),
            "`pending` may still come; `not-reached` never will in this execution.",
        ),
        reason=described(TEXT, "Why it failed, in AWS's words."),
        url=TEXT,
    ),
    "Environment": object_of(
        id=described(TEXT, "The name of its stack and pipeline."),
        repository=TEXT,
        environment=_ENVIRONMENT_KEY,
        kind=one_of("development", "staging", "production"),
        ref=described(TEXT_OR_NULL, "The full ref that it was last brought to."),
        state=described(
            TEXT,
            "One of pending, provisioning, updating, running, deployed, failed, deleting, deleted, skipped, "
            "asleep; "
            "empty before the first step.",
        ),
        commit=described(TEXT_OR_NULL, "The commit last wanted."),
        outcome=described(TEXT_OR_NULL, "How the last goal ended."),
        reason=described(TEXT, "Why it ended so."),
        execution=described(TEXT_OR_NULL, "The pipeline execution last followed."),
        stages=list_of(reference_to("Stage")),
        failure=described(
            {"oneOf": [reference_to("Failure"), {"type": "null"}]},
            "Why its stack could not be made or changed.",
        ),
        receipt=described(
            {"oneOf": [reference_to("Receipt"), {"type": "null"}]},
            "What its last teardown removed and retained.",
        ),
        drift=described(TEXT_OR_NULL, "What someone else changed in its stack since deployer applied it."),
        held=described(
            TEXT_OR_NULL, "Why a resync leaves it at another commit than its ref's, or at an older tag."
        ),
        used_at=described(TIME, "When it was last pushed to, deployed again or kept."),
        warned_at=described(TIME, "When people were warned of its end; null if it was used since."),
        expires_at=described(TIME, "When it is taken down if nobody uses it; null for never."),
        kept_until=described(TIME, "Until when a person wants it kept; the year 9999 for good."),
        asleep_until=described(TIME, "When it is brought back after its hours of sleep."),
        admitted=described(
            {
                "oneOf": [
                    object_of(ref=TEXT, commit=TEXT, by=described(TEXT, "The rule or the person."), at=TIME),
                    {"type": "null"},
                ]
            },
            "Of production: the commit that it may run, and what admitted it.",
        ),
        refused_tags=described(
            list_of(
                object_of(
                    ref=TEXT,
                    commit=TEXT,
                    reason=described(TEXT, "Why, with the remedy."),
                    at=described(TIME, "When its push came."),
                )
            ),
            "Of production: the latest tags that the rules refused, the newest first.",
        ),
        region=described(TEXT_OR_NULL, "The AWS region of its stack, once it was chosen."),
        stack_arn=TEXT_OR_NULL,
        generation=described(WHOLE_NUMBER, "How often it was torn down."),
        changed_at=described(TIME, "Since when its state and outcome are what they are."),
        updated_at=described(
            TIME, "When a task of it last ended; an event that told nothing new does not count."
        ),
        url=described(TEXT, "Its page on the dashboard."),
    ),
    "Failure": object_of(
        resource=described(TEXT, "The logical id of the first resource that failed, or the stack's name."),
        type=TEXT,
        reason=described(TEXT, "In AWS's words."),
        url=described(TEXT, "Where AWS's console shows the stack."),
        file=described(TEXT_OR_NULL, "The file of the repository that defines the resource."),
        line=described({"type": ["integer", "null"]}, "The line in it."),
    ),
    "Receipt": object_of(
        at=TIME,
        outcome=described(
            TEXT,
            "`removed`: nothing is left. `partly`: something was retained. `cancelled`: the environment was wanted"
            " again. `replaced`: a stack that could not be made was made anew. `under way`.",
        ),
        removed=list_of(
            object_of(
                what=described(TEXT, "Such as `stack NAME` or `bucket NAME`."),
                id=described(TEXT, "Its ARN, or its name."),
                resources=described({"type": ["integer", "null"]}, "How many resources a stack had."),
            )
        ),
        retained=list_of(object_of(what=TEXT, id=TEXT, why=TEXT)),
        unlisted=described(
            object_of(removed={"type": "integer"}, retained={"type": "integer"}),
            "How many buckets and other resources are counted and not listed; every stack is listed.",
        ),
    ),
    "Repository": object_of(
        repository=TEXT,
        id=described({"type": ["integer", "null"]}, "GitHub's; it stays when the name changes."),
        state=described(
            TEXT_OR_NULL,
            "Null where all is as usual, else `archived`, `renamed`, `replaced` (another repository has the name), "
            "`deleted` or `removed` (taken from the GitHub App).",
        ),
        reason=described(TEXT, "The state in words, with what people may do."),
        since=described(TIME, "When the state began."),
        name_now=described(TEXT_OR_NULL, "What it is called now, if it was renamed."),
        default_branch=TEXT_OR_NULL,
        never_deployed_tag=described(
            TEXT_OR_NULL,
            "The newest tag that was there before the first resync and that nobody has deployed; a redeploy does.",
        ),
        deliveries=reference_to("Deliveries"),
        orphans=described(
            list_of(
                object_of(
                    environment=_ENVIRONMENT_KEY,
                    environment_id=TEXT_OR_NULL,
                    since=TIME,
                    due=described(TIME, "From when on a resync deletes it."),
                )
            ),
            "Development environments that the last resync saw stand without their branch.",
        ),
    ),
    "Deliveries": object_of(
        checked_at=described(TIME, "When GitHub was last asked for deliveries that failed."),
        unchecked=described(TEXT_OR_NULL, "Why GitHub does not tell of them."),
        missed=described(
            {
                "oneOf": [
                    object_of(
                        at=TIME,
                        redelivered=WHOLE_NUMBER,
                        superseded=described(WHOLE_NUMBER, "A newer push to the same environment came."),
                        left=described(WHOLE_NUMBER, "Left to the resync."),
                    ),
                    {"type": "null"},
                ]
            },
            "What the last look that found any did.",
        ),
        recent=described(
            WHOLE_NUMBER,
            "How many had failed less than a minute before the last look, which left them to the next.",
        ),
        refused=described(
            WHOLE_NUMBER, "Of how many that had failed the last attempt had a wrong signature."
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
        goal=described(TEXT, "The delivery's or task's id."),
        outcome=TEXT,
        reason=TEXT,
        commit=TEXT_OR_NULL,
        ref=described(
            TEXT_OR_NULL, "What was pushed or asked for, where that is known: of production, the tag."
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
        last_error=described(TEXT, "How the attempt before ended, if there was one."),
        accepted_at=TIME,
    ),
    "Lane": object_of(
        repository=TEXT,
        status=described(
            one_of("idle", "sent", "running", "broken"), "`broken` where a key of it is of another type."
        ),
        environment=TEXT_OR_NULL,
        ref=described(TEXT_OR_NULL, "The tag, if the task judges one for production."),
        task=TEXT_OR_NULL,
        lease_seconds=described(NUMBER, "For how long its worker holds it unless it renews."),
        waiting=list_of(reference_to("Work")),
        snoozed=list_of(
            object_of(
                environment=TEXT,
                ref=described(TEXT_OR_NULL, "The tag, if it is one for production that is not judged yet."),
                seconds=described(NUMBER, "Until it comes back by itself."),
                attempts=described(NUMBER, "How often it was tried in vain; 0 where it waits for AWS."),
                last_error=described(TEXT, "How the last attempt ended; empty where it waits for AWS."),
                reason=described(
                    TEXT, "Why it may not run now; empty where it waits for AWS or tries again."
                ),
            )
        ),
        refused=described(
            list_of(object_of(environment=TEXT, ref=TEXT_OR_NULL, reason=TEXT)),
            "Items that no worker has understood yet; after eight refusals one becomes a dead letter.",
        ),
        broken=described(TEXT, "Why the queue cannot be used; empty where it can."),
    ),
    "DeadLetter": object_of(
        id=TEXT,
        repository=TEXT,
        environment=_ENVIRONMENT_KEY,
        environment_id=TEXT_OR_NULL,
        task=TEXT,
        kind=described(
            TEXT,
            "The class of the error that it died of, such as `TransientError`, or `WorkerLost` or `TaskTimeout`.",
        ),
        reason=TEXT,
        at=described(TIME, "When it died."),
        age_seconds=NUMBER,
        attempts=described(
            list_of(reference_to("Attempt")), "Those that ended badly, oldest first, at most the newest 20."
        ),
        work=reference_to("Work"),
    ),
    "Attempt": object_of(
        began_at=TIME, ended_at=TIME, task=TEXT, error=described(TEXT, "How it ended, in one line.")
    ),
    "DeadLetterInFull": {"allOf": [reference_to("DeadLetter"), object_of(traceback=TEXT)]},
    "Queued": object_of(
        id=described(TEXT, "The task's id; `/api/v1/activity?goal=` tells how it ended."),
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
