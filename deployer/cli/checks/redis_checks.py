"""Checks Redis, with the data that it stores."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from deployer.cli.checks.groups import FAIL, OK, WARN, Check
from deployer.model.durations import span
from deployer.model.errors import StoredValueError
from deployer.model.outcomes import Outcome
from deployer.queue.store import FAILING_JOB, QueueState
from deployer.resync.missed_deliveries import APP
from deployer.settings.startup import CLUSTER_MODE_REMEDY, NO_EVICTION, eviction_warning
from deployer.views.derived_values import missed_lately, seconds_since
from deployer.views.sentences import deliveries_words, lane_problems, unserved_words

if TYPE_CHECKING:
    from deployer.wiring import Deployer


_LONG_WAIT = 15 * 60.0  # seconds; running workers never let an item wait for its turn longer
_LATE_EVENT = 10 * 60.0  # seconds by which an event may be later than the end of the deployment
_START_PROCESS = "start it: deployer {}"
_CORRECT_KEY = "delete that key, then restore its content: deployer resync"
_UPDATE_WORKERS = (
    "update every worker to the newest version in use; items that none understands become dead letters"
)
START_REDIS = "start Redis, or correct DEPLOYER_REDIS_URL"


def check_server(deployer: "Deployer") -> Iterator[Check]:
    server = deployer.lanes.read_server()
    if server.get("cluster_enabled") == "1":
        yield Check("Redis", FAIL, "cluster mode is not supported", CLUSTER_MODE_REMEDY)
        return
    if eviction := eviction_warning(server):
        yield Check("Redis", WARN, eviction, NO_EVICTION)
    if server.get("aof_enabled") != "1":
        yield Check(
            "Redis", WARN, "it answers, but has no append-only file: a restart can lose the last minutes",
            "set appendonly yes; only a resync restores lost items",
        )  # fmt: skip
    else:
        yield Check("Redis", OK, "it answers and stores each write in its append-only file")


def check_processes(deployer: "Deployer") -> Iterator[Check]:
    beats = deployer.lanes.last_heartbeats()
    for name in ("worker", "scheduler"):
        if name in beats:
            yield Check(name, OK, f"last heartbeat {span(seconds_since(beats[name]))} ago")
        else:
            yield Check(name, FAIL, "no recent heartbeat", _START_PROCESS.format(name))
    if FAILING_JOB in beats:
        text = "one of its jobs fails, so resyncs or expiries may be late"
        yield Check("scheduler", WARN, text, "its log names the job and the error")


def check_dead_letters(deployer: "Deployer") -> Iterator[Check]:
    totals = deployer.lanes.dead_letter_totals()
    if not totals.count:
        yield Check("dead letters", OK, "none")
        return
    text = f"{totals.count} to replay or discard, the oldest from {span(seconds_since(totals.oldest_at))} ago"
    yield Check("dead letters", WARN, text, "see: deployer dead-letters list")


def check_lanes(deployer: "Deployer") -> Iterator[Check]:
    lanes = deployer.lanes.lanes()
    now = deployer.lanes.now()
    stuck = [lane for lane in lanes if _is_stalled(lane, now)]
    for lane in stuck:
        text = f"queue of {lane.repository} makes no progress: {lane.status} for {lane.environment or 'no environment'}"
        yield Check("lanes", FAIL, text, "check that workers and scheduler run, then: deployer lanes")
    for lane in lanes:
        state, remedy = (FAIL, _CORRECT_KEY) if lane.broken else (WARN, _UPDATE_WORKERS)
        for problem in lane_problems(lane):
            yield Check("lanes", state, problem, remedy)
    if not stuck and not any(lane.broken for lane in lanes):
        yield Check("lanes", OK, f"{len(lanes)} with work, all make progress")


def _is_stalled(lane: QueueState, now: float) -> bool:
    """Whether no worker takes waiting items, or a lease expired and the scheduler has not handled it."""
    if lane.status == "running":
        return lane.lease_seconds == 0
    return any(
        work.accepted_at and seconds_since(work.accepted_at, now) > _LONG_WAIT for work in lane.waiting
    )


def check_events(deployer: "Deployer") -> Iterator[Check]:
    if not deployer.config.aws_event_key:
        return  # the check of the settings reports it
    last_event = deployer.lanes.last_heartbeats().get("event")
    ended = (line for line in deployer.lanes.activity(limit=500) if line.outcome == Outcome.DEPLOYED)
    latest = next(ended, None)
    remedy = "check the rules, the API destination and its dead-letter queue in AWS: docs/aws.md"
    if last_event is None:
        yield Check("events", WARN, "no event from AWS received yet, so deployer polls AWS", remedy)
    elif latest and latest.at - last_event > _LATE_EVENT:
        ended_ago = span(seconds_since(latest.at))
        text = f"last event from AWS {span(seconds_since(last_event))} ago, but a deployment ended {ended_ago} ago"
        yield Check("events", WARN, text, remedy)
    else:
        yield Check("events", OK, f"last event from AWS {span(seconds_since(last_event))} ago")


def _check_excluded_repositories(deployer: "Deployer") -> Iterator[Check]:
    found = deployer.submitter.unserved_repositories()
    if words := unserved_words(found, deployer.lanes.now()):
        yield Check("repositories", OK, words)


def check_repositories(deployer: "Deployer") -> Iterator[Check]:
    yield from _check_excluded_repositories(deployer)
    listed = [*deployer.lanes.repositories(), APP]
    records = deployer.lanes.repository_records(listed)
    readable = {each.repository.lower() for each in records}
    for each in listed:
        try:
            if each.key not in readable:  # the repository has no record, or a damaged one
                deployer.lanes.repository(each)
        except StoredValueError as error:
            remedy = "correct the key, or delete it and run: deployer resync"
            yield Check("repositories", FAIL, str(error), remedy)
    for record in records:
        if record.reason and not record.over:
            remedy = "see: deployer repositories list"
            yield Check(f"repository {record.repository}", WARN, f"{record.state}: {record.reason}", remedy)
        of = "the GitHub App" if record.repository == APP.full_name else record.repository
        if record.unchecked and record.no_webhook:
            other = "set the address in the App's settings"
            if record.repository != APP.full_name:
                other = f"run: deployer webhook install {record.repository}"
            remedy = f"set DEPLOYER_PUBLIC_URL to the address that GitHub delivers to, or {other}"
            yield Check(f"deliveries of {of}", WARN, deliveries_words(record), remedy)
        elif record.unchecked:
            yield Check(f"deliveries of {of}", OK, deliveries_words(record))
        elif missed_lately(record):
            remedy = "check that GitHub can always reach deployer's web process"
            if record.refused:
                remedy = "set the webhook's secret again: deployer webhook install, or in the App's settings"
            yield Check(f"deliveries of {of}", WARN, deliveries_words(record), remedy)
