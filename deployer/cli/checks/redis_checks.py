"""Checks Redis with what it holds."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from deployer.cli.checks.groups import FAIL, OK, WARN, Check
from deployer.model.durations import span
from deployer.model.errors import StoredValueError
from deployer.model.records import FAILING_JOB, Outcome
from deployer.queue.store import Lane
from deployer.resync.missed_deliveries import APP
from deployer.settings.startup import CLUSTER_MODE_REMEDY, NO_EVICTION, eviction_warning
from deployer.views.record_json import age, deliveries_words, lane_problems, missed_lately, unserved_words

if TYPE_CHECKING:
    from deployer.wiring import Deployer


_LONG_WAIT = 15 * 60.0  # seconds: no work waits that long for its turn where workers work
_LATE_EVENT = 10 * 60.0  # seconds that an event may come after the end that it tells of
_START_PROCESS = "start it: deployer {}"
_CORRECT_KEY = "delete that key; what was in it comes back with: deployer resync"
_UPDATE_WORKERS = (
    "update every worker to the newest version in use; what none understands becomes a dead letter"
)
START_REDIS = "see that Redis runs, and that DEPLOYER_REDIS_URL is its address"


def check_server(deployer: "Deployer") -> Iterator[Check]:
    told = deployer.lanes.server()
    if told.get("cluster_enabled") == "1":
        yield Check("Redis", FAIL, "it runs in cluster mode, which is not supported", CLUSTER_MODE_REMEDY)
        return
    if eviction := eviction_warning(told):
        yield Check("Redis", WARN, eviction, NO_EVICTION)
    if told.get("aof_enabled") != "1":
        yield Check(
            "Redis", WARN, "it answers, but keeps no append-only file: a restart may lose the last minutes",
            "set appendonly yes; what is lost comes back by a resync only",
        )  # fmt: skip
    else:
        yield Check("Redis", OK, "it answers, takes writes and keeps each in its append-only file")


def check_processes(deployer: "Deployer") -> Iterator[Check]:
    beats = deployer.lanes.beats()
    for name in ("worker", "scheduler"):
        if name in beats:
            yield Check(name, OK, f"told {span(age(beats[name]))} ago that it is alive")
        else:
            yield Check(name, FAIL, "none has told lately that it is alive", _START_PROCESS.format(name))
    if FAILING_JOB in beats:
        told = "one of its jobs fails: resyncs or the ends of environments may be late"
        yield Check("scheduler", WARN, told, "see its log, which names the job and the error")


def check_dead_letters(deployer: "Deployer") -> Iterator[Check]:
    letters = deployer.lanes.dead_letters()
    if not letters:
        yield Check("dead letters", OK, "there is none")
        return
    told = f"{len(letters)} await a decision, the oldest for {span(age(letters[0].at))}"
    yield Check("dead letters", WARN, told, "see: deployer dead-letters list")


def check_lanes(deployer: "Deployer") -> Iterator[Check]:
    lanes = deployer.lanes.lanes()
    now = deployer.lanes.now()
    stuck = [lane for lane in lanes if _is_stalled(lane, now)]
    for lane in stuck:
        told = f"{lane.repository} stands still: {lane.status} for {lane.environment or 'nobody'}"
        yield Check("lanes", FAIL, told, "see that workers and scheduler run, then: deployer lanes")
    for lane in lanes:
        state, remedy = (FAIL, _CORRECT_KEY) if lane.broken else (WARN, _UPDATE_WORKERS)
        for problem in lane_problems(lane):
            yield Check("lanes", state, problem, remedy)
    if not stuck and not any(lane.broken for lane in lanes):
        yield Check("lanes", OK, f"{len(lanes)} hold or await something, none stands still")


def _is_stalled(lane: Lane, now: float) -> bool:
    """Whether work waits that nobody takes up, or a worker is lost and nobody has noticed."""
    if lane.status == "running":
        return lane.lease_seconds == 0
    return any(work.accepted_at and age(work.accepted_at, now) > _LONG_WAIT for work in lane.waiting)


def check_events(deployer: "Deployer") -> Iterator[Check]:
    if not deployer.config.aws_event_key:
        return  # told among the settings
    heard = deployer.lanes.beats().get("event")
    ended = (line for line in deployer.lanes.activity(limit=500) if line.outcome == Outcome.DEPLOYED)
    latest = next(ended, None)
    remedy = "see the rules, the API destination and its dead-letter queue in AWS: docs/aws.md"
    if heard is None:
        yield Check("events", WARN, "no event of AWS came yet, so progress is polled for", remedy)
    elif latest and latest.at - heard > _LATE_EVENT:
        told = f"the last one of AWS came {span(age(heard))} ago, and a deployment ended {span(age(latest.at))} ago"
        yield Check("events", WARN, told, remedy)
    else:
        yield Check("events", OK, f"the last one of AWS came {span(age(heard))} ago")


def _check_unserved(deployer: "Deployer") -> Iterator[Check]:
    found = deployer.intake.unserved()
    if words := unserved_words(found, deployer.lanes.now()):
        yield Check("repositories", OK, words)


def check_repositories(deployer: "Deployer") -> Iterator[Check]:
    yield from _check_unserved(deployer)
    listed = [*deployer.lanes.repositories(), APP]
    records = deployer.lanes.repository_records(listed)
    readable = {each.repository.lower() for each in records}
    for each in listed:
        try:
            if each.key not in readable:  # it has no record, or a damaged one
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
            remedy = f"set DEPLOYER_PUBLIC_URL to the address that GitHub uses, or {other}"
            yield Check(f"deliveries of {of}", WARN, deliveries_words(record), remedy)
        elif record.unchecked:
            yield Check(f"deliveries of {of}", OK, deliveries_words(record))
        elif missed_lately(record):
            remedy = "see that GitHub reaches the web at all times"
            if record.refused:
                remedy = "set the webhook's secret anew: deployer webhook install, or in the App"
            yield Check(f"deliveries of {of}", WARN, deliveries_words(record), remedy)
