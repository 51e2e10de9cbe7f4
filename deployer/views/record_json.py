"""The ledger's values as JSON, for the API and for `--json` alike; `web/openapi.py` describes them."""

import math
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from deployer.model.durations import date, span
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import PayloadError
from deployer.model.expiry import ASLEEP, FOREVER, asleep_until, expires_at, ttl_text, used_at, whose_ttl
from deployer.model.production_record import RefusedTag
from deployer.model.records import (
    Activity,
    Attempt,
    DeadLetter,
    DeliveryRecord,
    EnvironmentRecord,
    Outcome,
    RepositoryRecord,
    Work,
    split_key,
)
from deployer.model.refs import Ref
from deployer.queue.store import Lane, Lanes

Json = dict[str, Any]
MISSED = ("redelivered", "superseded", "left")  # what becomes of a delivery that was missed
_MISSED_SECONDS = 3 * 86400.0  # as long as GitHub keeps deliveries
_NAMED = 3
_WAITED_SECONDS = 600
_GONE = {"deleted", "deleting", "skipped"}  # states in which nothing stands, or soon
# states that lead to another one, and those in which an environment stays; no record has the state `queued`, which is
# shown for an environment that no worker has looked at yet
MOVING_STATES = ("queued", "pending", "waiting", "provisioning", "updating", "running", "deleting")
RESTING_STATES = ("deployed", "failed", "skipped", "asleep", "deleted")
UNDER_WAY = "under way"  # the outcome of a receipt that is still being written


def iso(seconds: float) -> str | None:
    """Epoch seconds as ISO 8601 in UTC, or None where nothing is known."""
    if not seconds:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def age(at: float, now: float | None = None) -> float:
    """How many seconds ago an epoch time was.

    Args:
        at: epoch seconds.
        now: by Redis's clock (epoch seconds), where a wrong clock of this machine matters.
    """
    return max(0.0, (time.time() if now is None else now) - at)


def environment_id(repository: str, key: str) -> str | None:
    """The id of an environment by its key, or None where the key stands for no single environment.

    It is the name of a new stack. The stack itself may have a former name, which does for an id as well.
    """
    try:
        return Environment.from_key(Repository.parse(repository), key).stack_name
    except PayloadError:
        return None


def environment(record: EnvironmentRecord, base_url: str, ttl: str) -> Json:
    """An environment.

    Args:
        record: what is known of it.
        base_url: where people reach the dashboard, without a slash at its end; empty where that is not known.
        ttl: the installation's time to live.
    """
    now = time.time()
    kind, _, branch = record.environment.partition(":")
    return {
        "id": environment_id(record.repository, record.environment),
        "repository": record.repository,
        "environment": record.environment,
        "kind": kind,
        "ref": record.ref or branch or None,
        "state": record.state,
        "commit": record.commit or None,
        "outcome": record.outcome or None,
        "reason": record.reason,
        "execution": record.execution or None,
        "stages": [
            {name: stage.get(name, "") for name in ("name", "status", "reason", "url")}
            for stage in record.stages
        ],
        "failure": failure(record.failure),
        "receipt": receipt(record.receipt),
        "used_at": iso(used_at(record)),
        "warned_at": iso(record.warned_at if record.warned_at > used_at(record) else 0),
        "expires_at": iso(_expires_at(record, ttl, now)),
        "kept_until": iso(record.kept_until if record.kept_until > now else 0),
        "asleep_until": iso(asleep_until(record, now) or 0),
        "region": record.region or None,
        "drift": record.drift or None,
        "held": held_words(record) or None,
        "admitted": admitted(record),
        "refused_tags": [refused_tag(each) for each in reversed(record.refused_tags)],
        "stack_arn": record.stack_arn or None,
        "generation": record.generation,
        "changed_at": iso(changed_at(record)),
        "updated_at": iso(record.updated_at),
        "url": page_url(record, base_url),
    }


def ahead(seconds: float) -> str:
    """A time to come, in words; what was set to two weeks just now is not 13 days.

    Whoever waits for minutes is told the seconds, too; of more, the minute that has begun counts.
    """
    whole = max(0, math.ceil(seconds))
    if whole > _WAITED_SECONDS:
        return span(math.ceil(whole / 60) * 60)
    minutes, rest = divmod(whole, 60)
    words = [f"{minutes} min"] * bool(minutes) + [f"{rest} s"] * bool(rest or not minutes)
    return " ".join(words)


def age_words(record: EnvironmentRecord, ttl: str) -> str:
    """What is to come of an environment because of its age, in words; empty where nothing is.

    Args:
        record: what is known of it.
        ttl: the installation's time to live.
    """
    now = time.time()
    if until := asleep_until(record, now):
        return f"asleep for {ahead(until - now)} more"
    words = []
    if record.kept_until >= FOREVER:
        words.append("kept for good")
    elif record.kept_until > now:
        words.append(f"kept for {ahead(record.kept_until - now)}")
    if at := _expires_at(record, ttl, now):
        words.append(f"expires in {ahead(at - now)}")
    return ", ".join(words)


def age_sentence(record: EnvironmentRecord, ttl: str) -> str:
    """What an environment's age was and is to bring, with dates; empty where nothing is.

    Args:
        record: what is known of it.
        ttl: the installation's time to live.
    """
    now = time.time()
    if until := asleep_until(record, now):
        return f"asleep until {date(until)} ({record.sleep})"
    words, ends = [], _expires_at(record, ttl, now)
    if ends:
        may = f"{ttl_text(record, ttl)} ({whose_ttl(record)})"
        words.append(f"idle since {date(used_at(record))}, and may be for {may}; ends {date(ends)} if unused")
    if record.warned_at > used_at(record):
        words.append(f"warned of on {date(record.warned_at)}")
    if record.kept_until >= FOREVER:
        words.append("kept for good")
    elif record.kept_until > now:
        words.append(f"kept until {date(record.kept_until)}")
    if record.sleep and record.state not in _GONE:
        words.append(f"sleeps at {record.sleep}")
    return "; ".join(words)


def changed_at(record: EnvironmentRecord) -> float:
    """Since when its state and outcome are what they are (epoch seconds); looks that found nothing new do not count."""
    return record.changed_at or record.updated_at


def drift_words(record: EnvironmentRecord) -> str:
    """What someone else changed in its stack, and what undoes it; empty where nothing is known of that."""
    if not record.drift:
        return ""
    environment = Environment.from_key(Repository.parse(record.repository), record.environment)
    return f"{record.drift}; undo it: deployer redeploy {record.repository} {shlex.quote(environment.name)}"


def held_words(record: EnvironmentRecord) -> str:
    """Why it is not at its branch's head, or production at no newer tag, where a resync is to leave it so."""
    if not (record.held_at and record.commit) or record.outcome not in {Outcome.DEPLOYED, Outcome.FAILED}:
        return ""
    ref = Ref.parse(record.ref).short if record.ref else "its ref"
    if record.environment == Kind.PRODUCTION:
        return f"a person chose {ref} at {record.commit[:12]}; the next tag that is pushed ends that"
    if record.held_at == record.commit:
        return ""
    return f"stays at {record.commit[:12]} though {ref} is at {record.held_at[:12]}; the next push ends that"


def admitted(record: EnvironmentRecord) -> Json | None:
    """The commit that production may run, and what admitted it; None of another environment."""
    found = record.admitted
    if not found.commit:
        return None
    return {"ref": found.ref, "commit": found.commit, "by": found.by, "at": iso(found.at)}


def admitted_words(record: EnvironmentRecord) -> str:
    """What let production run its commit, in words; empty where nothing is known of that."""
    found = record.admitted
    return f"{Ref.parse(found.ref).short} at {found.commit[:12]}: {found.by}" if found.commit else ""


def refused_tag(found: RefusedTag) -> Json:
    """A tag that the rules for production refused."""
    return {"ref": found.ref, "commit": found.commit, "reason": found.reason, "at": iso(found.accepted_at)}


def never_deployed(
    lanes: Lanes, repositories: Sequence[Repository], records: Iterable[EnvironmentRecord]
) -> dict[str, str]:
    """The newest tag that was never deployed, of repositories whose production deployer has brought to none.

    Args:
        lanes: knows what the last resyncs have seen.
        repositories: which.
        records: what is known of their environments; production may have moved since the last resync.

    Raises:
        UnavailableError: Redis is away.
    """
    brought = {
        each.repository.lower()
        for each in records
        if each.environment == Kind.PRODUCTION and (each.admitted.commit or each.held_at)
    }
    return {key: tag for key, tag in lanes.never_deployed(repositories).items() if key not in brought}


def orphan_words(since: float, grace: float) -> str:
    """Since when an environment has stood without its ref, and when that ends."""
    due = since + grace
    when = f"in {ahead(due - time.time())}" if due > time.time() else "by the next resync"
    return f"its branch is gone since {date(since)}; it is deleted {when}"


def _expires_at(record: EnvironmentRecord, ttl: str, now: float) -> float:
    """When it is taken down if nobody uses it, 0 for never or if nothing stands."""
    gone = record.state in {*_GONE, ASLEEP} and not (record.state == "skipped" and record.stack_arn)
    if gone or not used_at(record):  # it may have been pushed and no more
        return 0
    return expires_at(record, ttl, now) or 0


def failure(told: Mapping[str, Any]) -> Json | None:
    """Why a stack could not be made or changed, or None."""
    if not told:
        return None
    found: Json = {name: told.get(name) or "" for name in ("resource", "type", "reason", "url")}
    return found | {"file": told.get("file") or None, "line": told.get("line") or None}


def place(told: Mapping[str, Any]) -> str:
    """Where in the repository a failure has its cause, as `file:line`; empty where that is not known."""
    file, line = told.get("file") or "", told.get("line") or ""
    return f"{file}:{line}" if file and line else str(file)


def receipt(told: Mapping[str, Any]) -> Json | None:
    """What the last teardown removed and retained, or None."""
    if not told:
        return None
    return {
        "at": iso(told.get("at") or 0),
        "outcome": told.get("outcome") or UNDER_WAY,
        "removed": [
            {"what": each.get("what", ""), "id": each.get("id", ""), "resources": each.get("resources")}
            for each in told.get("removed") or ()
        ],
        "retained": [
            {name: each.get(name, "") for name in ("what", "id", "why")}
            for each in told.get("retained") or ()
        ],
        "unlisted": _unlisted(told),
    }


def _unlisted(told: Mapping[str, Any]) -> dict[str, int]:
    """How many buckets and other resources a receipt has counted and does not list."""
    return {name: int((told.get("unlisted") or {}).get(name, 0)) for name in ("removed", "retained")}


def unlisted_words(told: Mapping[str, Any], name: str) -> str:
    """How many of the `removed` or `retained` resources a receipt does not list, in words; empty where it lists all."""
    number = _unlisted(told)[name]
    return f"{number} more {'is' if number == 1 else 'are'} not listed" if number else ""


def receipt_words(told: Mapping[str, Any]) -> str:
    """A receipt in a few words, such as `2 removed, 1 retained`."""
    unlisted = _unlisted(told)
    removed, retained = (len(told.get(name) or ()) + unlisted[name] for name in ("removed", "retained"))
    if told and not told.get("outcome"):
        return f"{removed} removed so far" + (f", {retained} retained" if retained else "")
    return f"{removed} removed, {retained} retained" if retained else f"{removed} removed, nothing retained"


def page_url(record: EnvironmentRecord, base_url: str) -> str:
    """Its page on the dashboard, or empty where that is not known."""
    return (
        f"{base_url}/environments/{environment_id(record.repository, record.environment)}" if base_url else ""
    )


def delivery(record: DeliveryRecord) -> Json:
    """What became of a delivery."""
    repository = None if record.repository in {"", "-/-"} else record.repository
    return {
        "delivery": record.delivery,
        "repository": repository,
        "environment": record.environment or None,
        "environment_id": environment_id(repository or "", record.environment),
        "event": record.event,
        "outcome": record.outcome,
        "reason": record.reason,
        "received_at": iso(record.received_at),
        "finished_at": iso(record.finished_at),
    }


def activity(line: Activity) -> Json:
    """One line of the history."""
    return {
        "at": iso(line.at),
        "repository": line.repository,
        "environment": line.environment,
        "environment_id": environment_id(line.repository, line.environment),
        "goal": line.goal,
        "outcome": line.outcome,
        "reason": line.reason,
        "commit": line.commit or None,
        "ref": line.ref or None,
    }


def not_deployed(record: EnvironmentRecord, history: Sequence[Activity]) -> Activity | None:
    """The last push of an environment if it was skipped, while the record tells of an earlier one.

    A skipped push leaves the record of an environment as it was, since that tells what runs.

    Args:
        record: what is known of the environment.
        history: its lines of the activity, the newest first.
    """
    for line in history:
        # the last push that was not skipped is Redis's time, as the line is; the last redeployment is a worker's
        if line.at < max(record.moved_at, record.used_at):
            return None
        if line.outcome == Outcome.SKIPPED and line.commit not in {"", record.commit}:
            return line
    return None


def not_deployed_words(line: Activity) -> str:
    """A push that was skipped, in words."""
    return f"{line.commit[:12]}, {span(age(line.at))} ago: {line.reason}"


def work(item: Work) -> Json:
    """One entry of a lane."""
    return {
        "environment": item.environment,
        "task": item.task,
        "cause": item.cause,
        "goal": item.goal,
        "deliveries": [each for each in item.deliveries.split(",") if each],
        "ref": item.ref or None,
        "sha": item.sha or None,
        "attempts": item.attempts,
        "last_error": item.last_error,
        "accepted_at": iso(item.accepted_at),
    }


def lane(value: Lane) -> Json:
    """A lane: who holds it and what waits."""
    return {
        "repository": value.repository,
        "status": value.status,
        "environment": value.environment or None,
        "ref": value.ref or None,
        "task": value.task or None,
        "lease_seconds": round(value.lease_seconds, 1),
        "waiting": [work(item) for item in value.waiting],
        "snoozed": [
            {
                **_item(key),
                "seconds": round(seconds, 1),
                "attempts": value.failing[key].attempts if key in value.failing else 0,
                "last_error": value.failing[key].last_error if key in value.failing else "",
                "reason": value.resting.get(key, ""),
            }
            for key, seconds in sorted(value.snoozed.items())
        ],
        "refused": [{**_item(key), "reason": why} for key, why in sorted(value.refused.items())],
        "broken": value.broken,
    }


def _item(key: str) -> Json:
    """Which queue item it is: the environment, and the tag of a candidate for production."""
    environment, ref = split_key(key)
    return {"environment": environment, "ref": ref or None}


def lane_problems(value: Lane) -> list[str]:
    """What people should know of a queue that no worker can carry out as it is, a line each."""
    if value.broken:
        return [f"the queue of {value.repository} cannot be used: {value.broken}"]
    return [f"{value.repository} {key}: {why}" for key, why in sorted(value.refused.items())]


def snoozed_words(value: Lane, key: str) -> str:
    """What an environment waits for that is snoozed in its lane."""
    left = span(value.snoozed[key])
    if reason := value.resting.get(key):
        return f"{reason}; looks again in {left}"
    if failing := value.failing.get(key):
        return f"attempt {failing.attempts} ended in: {failing.last_error}; tries again in {left}"
    return f"snoozed; looks again in {left}, or when AWS tells of a change"


def attempt(value: Attempt) -> Json:
    """An attempt that ended badly."""
    return {
        "began_at": iso(value.began_at),
        "ended_at": iso(value.ended_at),
        "task": value.task,
        "error": value.error,
    }


def dead_letter(letter: DeadLetter, *, whole: bool = False) -> Json:
    """A dead letter; `whole` with its traceback."""
    arguments = letter.arguments
    return {
        "id": letter.id,
        "repository": letter.repository,
        "environment": arguments.environment,
        "environment_id": environment_id(letter.repository, arguments.environment),
        "task": letter.task,
        "kind": letter.kind,
        "reason": letter.reason,
        "at": iso(letter.at),
        "age_seconds": round(age(letter.at), 1),
        "attempts": [attempt(each) for each in arguments.failed_attempts],
        "work": work(arguments),
        **({"traceback": letter.traceback} if whole else {}),
    }


def repositories(lanes: Lanes, grace: float) -> list[Json]:
    """Every repository as a whole, by name.

    Args:
        lanes: what is known of them.
        grace: how long a resync leaves what stands without its branch, in seconds.

    Raises:
        UnavailableError: Redis is away.
    """
    found = lanes.repositories()
    known = {record.repository.lower(): record for record in lanes.repository_records()}
    orphaned = lanes.orphaned(found)
    tags = never_deployed(lanes, found, lanes.environments())
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
    """A repository as a whole.

    Args:
        whose: the repository.
        record: what is known of it.
        orphaned: since when environments have been seen without a ref, by key (epoch seconds).
        grace: how long a resync leaves them, in seconds.
        tag: its newest tag, if that was never deployed.
    """
    known = record or RepositoryRecord(whose.full_name)
    return {
        "repository": whose.full_name,
        "id": known.id or None,
        "state": known.state or None,
        "reason": known.reason,
        "since": iso(known.since if known.state else 0),
        "name_now": known.name or None,
        "default_branch": known.default_branch or None,
        "never_deployed_tag": tag or None,
        "deliveries": deliveries(known),
        "orphans": [
            {
                "environment": key,
                "environment_id": environment_id(whose.full_name, key),
                "since": iso(since),
                "due": iso(since + grace),
            }
            for key, since in sorted(orphaned.items())
        ],
    }


def deliveries(known: RepositoryRecord) -> Json:
    """What GitHub's own log told of the deliveries to a webhook."""
    missed = known.missed
    return {
        "checked_at": iso(known.checked_at),
        "unchecked": known.unchecked or None,
        "missed": {"at": iso(missed["at"]), **{name: int(missed.get(name, 0)) for name in MISSED}}
        if missed
        else None,
        "recent": known.recent,
        "refused": known.refused,
    }


def deliveries_words(known: RepositoryRecord) -> str:
    """The same in words, and what to do; empty where it was never looked at."""
    if known.unchecked:
        return f"missed deliveries are left to the resync: {known.unchecked}"
    told = []
    if known.missed:
        counts = missed_words(*(known.missed.get(name, 0) for name in MISSED))
        told.append(f"{counts}, {span(age(known.missed['at']))} ago")
    if known.recent:
        ago = span(age(known.checked_at))
        told.append(f"{known.recent} had just failed at the last look, {ago} ago, and await the next")
    if known.refused:
        told.append(refused_words(known.refused))
    if not told and known.checked_at:
        told.append(f"none was missed; looked {span(age(known.checked_at))} ago")
    return "; ".join(told)


def missed_lately(known: RepositoryRecord) -> bool:
    """Whether deliveries were missed that GitHub still keeps: people may want to see why."""
    return bool(known.missed) and not known.unchecked and age(known.missed["at"]) < _MISSED_SECONDS


def repository_warnings(records: Iterable[RepositoryRecord]) -> list[str]:
    """What people should know of repositories as a whole, each in a line.

    Args:
        records: what is known of them, and of the App's own webhook.
    """
    listed = list(records)
    told = []
    if odd := [each for each in listed if each.state and not each.over]:
        names = ", ".join(f"{each.repository} {each.state}" for each in odd[:_NAMED])
        more = f" and {len(odd) - _NAMED} more" if len(odd) > _NAMED else ""
        told.append(f"{_number(len(odd), 'repository is', 'repositories are')} not as usual: {names}{more}")
    if missed := [each for each in listed if missed_lately(each)]:
        counts = [sum(each.missed.get(name, 0) for each in missed) for name in MISSED]
        remedy = "see that GitHub reaches the web at all times"
        if refused := sum(each.refused for each in missed):
            remedy = refused_words(refused)
        told.append(f"{missed_words(*counts)}; {remedy}")
    return told


def unserved_words(unserved: Mapping[str, float], now: float) -> str:
    """Which repositories send deliveries although the settings leave them out, in words; empty if none does.

    Args:
        unserved: the repositories, the latest first, and when the last delivery of each came (epoch seconds).
        now: epoch seconds by Redis's clock.
    """
    if not unserved:
        return ""
    names = ", ".join(list(unserved)[:_NAMED])
    more = f" and {len(unserved) - _NAMED} more" if len(unserved) > _NAMED else ""
    told = _number(
        len(unserved), "repository sends deliveries but matches", "repositories send deliveries but match"
    )
    ago = span(age(max(unserved.values()), now))
    return f"{told} no pattern in DEPLOYER_REPOSITORIES: {names}{more}; the last delivery came {ago} ago"


def refused_words(number: int) -> str:
    """Why deliveries were answered with 401, and what to do."""
    return (
        f"{number} had a wrong signature: the webhook's secret is not that of DEPLOYER_GITHUB_WEBHOOK_SECRET; set it "
        "anew with deployer webhook install, or in the App"
    )


def _number(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def missed_words(redelivered: float, superseded: float, left: float) -> str:
    """What became of deliveries that were missed, in words."""
    told = {"redelivered": redelivered, "superseded by a newer push": superseded, "left to the resync": left}
    words = ", ".join(f"{number:.0f} {name}" for name, number in told.items() if number)
    total = redelivered + superseded + left
    return f"{_number(round(total), 'delivery was', 'deliveries were')} missed{f': {words}' if words else ''}"
