"""Stored records as JSON, for the API as for `--json`; `web/openapi.py` describes it."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from deployer.model.activity import Activity
from deployer.model.delivery_record import DeliveryRecord
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environment_status import ForeignExecution, StackFailure
from deployer.model.environments import Repository
from deployer.model.expiry import asleep_until, used_at
from deployer.model.production_record import RefusedTag
from deployer.model.repository_record import RepositoryRecord
from deployer.model.teardown_report import TeardownReport
from deployer.queue.dead_letter_record import DeadLetter
from deployer.queue.items import Attempt, Work, split_key
from deployer.queue.store import QueueState, QueueStore
from deployer.views.derived_values import (
    MISSED,
    UNDER_WAY,
    changed_at,
    environment_id,
    expiry_time,
    never_deployed,
    page_url,
    seconds_since,
)
from deployer.views.sentences import held_words

Json = dict[str, Any]


def iso_time(seconds: float) -> str | None:
    """Epoch seconds as ISO 8601 in UTC; None for 0, which stands for an unknown time."""
    if not seconds:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def environment(record: EnvironmentRecord, base_url: str, ttl: str) -> Json:
    """An environment.

    Args:
        record: the environment's record.
        base_url: the dashboard's URL without a slash at its end; empty if it is not known.
        ttl: the installation's time to live.
    """
    kind, _, branch = record.environment.partition(":")
    return {
        "id": environment_id(record.repository, record.environment),
        "repository": record.repository,
        "environment": record.environment,
        "kind": kind,
        "ref": record.spec.ref or branch or None,
        "state": record.status.state,
        "commit": record.spec.commit or None,
        "outcome": record.status.outcome or None,
        "reason": record.status.reason,
        "execution": record.status.pipeline.execution or None,
        "stages": [
            {"name": stage.name, "status": stage.status, "reason": stage.reason, "url": stage.url}
            for stage in record.status.pipeline.stages
        ],
        "foreign_executions": [foreign_execution(each) for each in reversed(record.status.pipeline.foreign)],
        "failure": failure(record.status.stack.failure),
        "receipt": teardown_report(record.status.receipt),
        **_lifetime(record, ttl),
        "region": record.spec.region or None,
        "drift": record.status.stack.drift or None,
        "held": held_words(record) or None,
        "admitted": production_admission(record),
        "refused_tags": [refused_tag(each) for each in reversed(record.history.refused_tags)],
        "stack_arn": record.status.stack.stack_arn or None,
        "generation": record.history.generation,
        "changed_at": iso_time(changed_at(record)),
        "updated_at": iso_time(record.updated_at),
        "url": page_url(record, base_url),
    }


def _lifetime(record: EnvironmentRecord, ttl: str) -> Json:
    """Until when an environment is kept, by its record and the installation's time to live."""
    now, used = time.time(), used_at(record)
    return {
        "used_at": iso_time(used),
        "warned_at": iso_time(record.history.warned_at if record.history.warned_at > used else 0),
        "expires_at": iso_time(expiry_time(record, ttl, now)),
        "kept_until": iso_time(record.spec.expiry.kept_until if record.spec.expiry.kept_until > now else 0),
        "asleep_until": iso_time(asleep_until(record, now) or 0),
    }


def production_admission(record: EnvironmentRecord) -> Json | None:
    """The commit that production may run, and which rule or person admitted it; None for other environments."""
    found = record.spec.production.admitted
    if not found.commit:
        return None
    return {"ref": found.ref, "commit": found.commit, "by": found.by, "at": iso_time(found.at)}


def refused_tag(found: RefusedTag) -> Json:
    """A tag that production's rules refused."""
    return {
        "ref": found.ref,
        "commit": found.commit,
        "reason": found.reason,
        "at": iso_time(found.accepted_at),
    }


def foreign_execution(found: ForeignExecution) -> Json:
    """An execution that deployer did not start, or of which somebody retried a stage."""
    return {
        "id": found.id,
        "commit": found.sha or None,
        "status": found.status,
        "trigger": found.trigger.type,
        "detail": found.trigger.detail,
        "retried": found.retried,
        "started_at": iso_time(found.started_at),
        "reason": found.words,
    }


def failure(stored: StackFailure) -> Json | None:
    """Why a stack could not be created or updated, or None."""
    if not stored:
        return None
    found = {"resource": stored.resource, "type": stored.type, "reason": stored.reason, "url": stored.url}
    return found | {"file": stored.file or None, "line": stored.line or None}


def teardown_report(report: TeardownReport) -> Json | None:
    """The report of the last teardown: what it removed and retained; None without a teardown."""
    if not report:
        return None
    return {
        "at": iso_time(report.ended_at),
        "outcome": report.outcome or UNDER_WAY,
        "removed": [
            {"what": each.what, "id": each.id, "resources": each.resources} for each in report.removed
        ],
        "retained": [{"what": each.what, "id": each.id, "why": each.why} for each in report.retained],
        "unlisted": {"removed": report.unlisted.removed, "retained": report.unlisted.retained},
    }


def delivery(record: DeliveryRecord) -> Json:
    """A webhook delivery and its outcome."""
    repository = None if record.repository in {"", "-/-"} else record.repository
    return {
        "delivery": record.delivery,
        "repository": repository,
        "environment": record.environment or None,
        "environment_id": environment_id(repository or "", record.environment),
        "event": record.event,
        "outcome": record.outcome,
        "reason": record.reason,
        "received_at": iso_time(record.received_at),
        "finished_at": iso_time(record.finished_at),
    }


def activity_line(line: Activity) -> Json:
    """One line of the activity."""
    return {
        "at": iso_time(line.at),
        "repository": line.repository,
        "environment": line.environment,
        "environment_id": environment_id(line.repository, line.environment),
        "goal": line.goal,
        "outcome": line.outcome,
        "reason": line.reason,
        "commit": line.commit or None,
        "ref": line.ref or None,
    }


def queue_item(item: Work) -> Json:
    """One item of a queue."""
    return {
        "environment": item.environment,
        "task": item.task,
        "cause": item.cause,
        "goal": item.goal,
        "deliveries": [each for each in item.deliveries.split(",") if each],
        "ref": item.spec.ref or None,
        "sha": item.spec.sha or None,
        "attempts": item.log.attempts,
        "last_error": item.last_error,
        "accepted_at": iso_time(item.accepted_at),
    }


def lane(value: QueueState) -> Json:
    """A repository's queue: the item that a worker has, and the items that wait."""
    return {
        "repository": value.repository,
        "status": value.status,
        "environment": value.environment or None,
        "ref": value.ref or None,
        "task": value.task or None,
        "lease_seconds": round(value.lease_seconds, 1),
        "waiting": [queue_item(item) for item in value.waiting],
        "snoozed": [
            {
                **_item_identity(key),
                "seconds": round(seconds, 1),
                "attempts": value.failing[key].log.attempts if key in value.failing else 0,
                "last_error": value.failing[key].last_error if key in value.failing else "",
                "reason": value.resting.get(key, ""),
            }
            for key, seconds in sorted(value.snoozed.items())
        ],
        "refused": [{**_item_identity(key), "reason": why} for key, why in sorted(value.refused.items())],
        "broken": value.broken,
    }


def _item_identity(key: str) -> Json:
    """What identifies a queue item: the environment, and the tag if the item is a candidate for production."""
    environment, ref = split_key(key)
    return {"environment": environment, "ref": ref or None}


def attempt(value: Attempt) -> Json:
    """A failed attempt."""
    return {
        "began_at": iso_time(value.began_at),
        "ended_at": iso_time(value.ended_at),
        "task": value.task,
        "error": value.error,
    }


def dead_letter(letter: DeadLetter, *, whole: bool = False) -> Json:
    """A dead letter; `whole` adds its traceback."""
    arguments = letter.arguments
    return {
        "id": letter.id,
        "repository": letter.repository,
        "environment": arguments.environment,
        "environment_id": environment_id(letter.repository, arguments.environment),
        "task": letter.task,
        "kind": letter.kind,
        "reason": letter.reason,
        "at": iso_time(letter.at),
        "age_seconds": round(seconds_since(letter.at), 1),
        "attempts": [attempt(each) for each in arguments.failed_attempts],
        "work": queue_item(arguments),
        **({"traceback": letter.traceback} if whole else {}),
    }


def repositories(lanes: QueueStore, found: Sequence[Repository], grace: float) -> list[Json]:
    """The state of some repositories, their webhook deliveries and their orphans, sorted by name.

    Args:
        lanes: the stored records.
        found: the repositories.
        grace: how long a stack is kept after its branch is gone, in seconds.

    Raises:
        UnavailableError: Redis is away.
    """
    known = {record.repository.lower(): record for record in lanes.repository_records(found)}
    orphaned = lanes.orphaned(found)
    tags = never_deployed(lanes, found)
    return [
        repository(each, known.get(each.key), orphaned.get(each.key, {}), grace, tags.get(each.key, ""))
        for each in sorted(found, key=lambda each: each.key)
    ]


def repository(
    whose: Repository,
    record: RepositoryRecord | None,
    orphaned: Mapping[str, float],
    grace: float,
    tag: str = "",
) -> Json:
    """A repository's state, webhook deliveries and orphans.

    Args:
        whose: the repository.
        record: the repository's record, or None.
        orphaned: since when resyncs have seen environments without a ref, by key (epoch seconds).
        grace: how long such environments are kept, in seconds.
        tag: the newest tag, if it was never deployed.
    """
    known = record or RepositoryRecord(whose.full_name)
    return {
        "repository": whose.full_name,
        "id": known.id or None,
        "state": known.state or None,
        "reason": known.reason,
        "since": iso_time(known.since if known.state else 0),
        "name_now": known.name or None,
        "default_branch": known.default_branch or None,
        "never_deployed_tag": tag or None,
        "deliveries": deliveries(known),
        "orphans": [
            {
                "environment": key,
                "environment_id": environment_id(whose.full_name, key),
                "since": iso_time(since),
                "due": iso_time(since + grace),
            }
            for key, since in sorted(orphaned.items())
        ],
    }


def deliveries(known: RepositoryRecord) -> Json:
    """What GitHub's delivery log showed about a webhook."""
    missed = known.missed
    return {
        "checked_at": iso_time(known.checked_at),
        "unchecked": known.unchecked or None,
        "missed": {"at": iso_time(missed["at"]), **{name: int(missed.get(name, 0)) for name in MISSED}}
        if missed
        else None,
        "recent": known.recent,
        "refused": known.refused,
    }
