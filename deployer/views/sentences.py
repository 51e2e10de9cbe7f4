"""Sentences about stored records, for pages and the command line."""

import math
import shlex
import time
from collections.abc import Iterable, Mapping

from deployer.model.activity import Activity
from deployer.model.durations import date, span
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environment_status import StackFailure
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.expiry import FOREVER, asleep_until, ttl_source, ttl_text, used_at
from deployer.model.outcomes import Outcome
from deployer.model.refs import Ref
from deployer.model.repository_record import RepositoryRecord
from deployer.model.teardown_report import TeardownReport
from deployer.queue.store import QueueState
from deployer.views.derived_values import (
    GONE_STATES,
    MISSED,
    expiry_time,
    missed_lately,
    seconds_since,
)

_MOST_NAMES = 3  # repositories that one sentence names
_SHORT_WAIT_SECONDS = 600  # a wait that is given in minutes with seconds


def time_left(seconds: float) -> str:
    """The time that is left, in words.

    Up to ten minutes it is given with seconds. A longer time is rounded up to a whole minute, so that two weeks do not
    read as 13 days a moment after they were set.

    Args:
        seconds: the time that is left.
    """
    whole = max(0, math.ceil(seconds))
    if whole > _SHORT_WAIT_SECONDS:
        return span(math.ceil(whole / 60) * 60)
    minutes, rest = divmod(whole, 60)
    words = [f"{minutes} min"] * bool(minutes) + [f"{rest} s"] * bool(rest or not minutes)
    return " ".join(words)


def lifetime_words(record: EnvironmentRecord, ttl: str) -> str:
    """When an environment expires, wakes, or how long it is kept, in a few words; empty if nothing is planned.

    Args:
        record: the environment's record.
        ttl: the installation's time to live.
    """
    now = time.time()
    if until := asleep_until(record, now):
        return f"asleep for {time_left(until - now)} more"
    words = []
    if record.spec.expiry.kept_until >= FOREVER:
        words.append("kept for good")
    elif record.spec.expiry.kept_until > now:
        words.append(f"kept for {time_left(record.spec.expiry.kept_until - now)}")
    if at := expiry_time(record, ttl, now):
        words.append(f"expires in {time_left(at - now)}")
    return ", ".join(words)


def lifetime_sentence(record: EnvironmentRecord, ttl: str) -> str:
    """When an environment was used, warned of, expires and sleeps, with dates; empty if nothing applies.

    Args:
        record: the environment's record.
        ttl: the installation's time to live.
    """
    now = time.time()
    if until := asleep_until(record, now):
        return f"asleep until {date(until)} ({record.spec.expiry.sleep})"
    words = []
    if expires := expiry_time(record, ttl, now):
        time_to_live = f"{ttl_text(record, ttl)} ({ttl_source(record)})"
        words.append(
            f"idle since {date(used_at(record))}; time to live {time_to_live}; expires {date(expires)} if unused"
        )
    if record.history.warned_at > used_at(record):
        words.append(f"warned on {date(record.history.warned_at)}")
    if record.spec.expiry.kept_until >= FOREVER:
        words.append("kept for good")
    elif record.spec.expiry.kept_until > now:
        words.append(f"kept until {date(record.spec.expiry.kept_until)}")
    if record.spec.expiry.sleep and record.status.state not in GONE_STATES:
        words.append(f"sleeps at {record.spec.expiry.sleep}")
    return "; ".join(words)


def drift_words(record: EnvironmentRecord) -> str:
    """What someone changed in an environment's stack, and how to undo it; empty without drift."""
    drift = record.status.stack.drift
    if not drift:
        return ""
    environment = Environment.from_key(Repository.parse(record.repository), record.environment)
    return f"{drift}; undo it: deployer redeploy {record.repository} {shlex.quote(environment.name)}"


def foreign_words(record: EnvironmentRecord) -> str:
    """The executions that deployer did not start, and how to deploy again; empty without such executions."""
    foreign = record.status.pipeline.foreign
    if not foreign:
        return ""
    environment = Environment.from_key(Repository.parse(record.repository), record.environment)
    words = "; ".join(each.words for each in reversed(foreign))
    again = f"deployer redeploy {record.repository} {shlex.quote(environment.name)}"
    return f"not deployer's deployment: {words}; deploy again: {again}"


def held_words(record: EnvironmentRecord) -> str:
    """Why a resync leaves an environment deleted, or at a commit that is not its ref's; empty if it does not."""
    deletion = record.spec.deletion
    if not deletion:
        return _pin_words(record)
    environment = Environment.from_key(Repository.parse(record.repository), record.environment)
    name = shlex.quote(environment.name)
    return (
        f"{deletion.reason} at {deletion.head[:12]}; what creates it again: a push, "
        f"deployer redeploy {record.repository} {name}, deployer resync {record.repository} --recreate"
    )


def _pin_words(record: EnvironmentRecord) -> str:
    spec = record.spec
    ended = record.status.outcome in {Outcome.DEPLOYED, Outcome.FAILED}
    if not (spec.held_at and spec.commit and ended):
        return ""
    ref = Ref.parse(spec.ref).short if spec.ref else "its ref"
    if record.environment == Kind.PRODUCTION:
        return f"a person pinned {ref} at {spec.commit[:12]}; the next pushed tag ends the pin"
    if spec.held_at == spec.commit:
        return ""
    return (
        f"pinned to {spec.commit[:12]} although {ref} is at {spec.held_at[:12]}; the next push ends the pin"
    )


def admitted_words(record: EnvironmentRecord) -> str:
    """Which rule or person admitted production's commit; empty if that is not recorded."""
    found = record.spec.production.admitted
    return f"{Ref.parse(found.ref).short} at {found.commit[:12]}: {found.by}" if found.commit else ""


def orphan_words(since: float, grace: float) -> str:
    """Since when an environment has had no branch, and when it is deleted.

    Args:
        since: when a resync first saw that the branch is gone (epoch seconds).
        grace: how long a stack is kept after its branch is gone, in seconds.
    """
    due = since + grace
    when = f"in {time_left(due - time.time())}" if due > time.time() else "by the next resync"
    return f"its branch is gone since {date(since)}; it is deleted {when}"


def source_location(failure: StackFailure) -> str:
    """Where in the repository the cause of a failure is, as `file:line`; empty if that is not known."""
    return f"{failure.file}:{failure.line}" if failure.file and failure.line else failure.file


def unlisted_words(report: TeardownReport, name: str) -> str:
    """How many resources the report of a teardown does not list, in words; empty if it lists all.

    Args:
        report: of the teardown.
        name: `removed` or `retained`.
    """
    number = report.unlisted.removed if name == "removed" else report.unlisted.retained
    return f"{number} more {'is' if number == 1 else 'are'} not listed" if number else ""


def teardown_report_words(report: TeardownReport) -> str:
    """The report of a teardown in a few words, such as `2 removed, 1 retained`."""
    removed = len(report.removed) + report.unlisted.removed
    retained = len(report.retained) + report.unlisted.retained
    if report and not report.outcome:
        return f"{removed} removed so far" + (f", {retained} retained" if retained else "")
    return f"{removed} removed, {retained} retained" if retained else f"{removed} removed, nothing retained"


def skipped_push_words(line: Activity) -> str:
    """A skipped push, in words."""
    return f"{line.commit[:12]}, {span(seconds_since(line.at))} ago: {line.reason}"


def lane_problems(value: QueueState) -> list[str]:
    """Why a queue, or items of it, cannot be processed; one line for each problem."""
    if value.broken:
        return [f"the queue of {value.repository} cannot be used: {value.broken}"]
    return [f"{value.repository} {key}: {why}" for key, why in sorted(value.refused.items())]


def waiting_words(value: QueueState, key: str) -> str:
    """What a queue item waits for, and when it is tried again.

    Args:
        value: the queue.
        key: the item's key, which is in `value.snoozed`.
    """
    left = span(value.snoozed[key])
    if reason := value.resting.get(key):
        return f"{reason}; checks again in {left}"
    if failing := value.failing.get(key):
        return f"attempt {failing.log.attempts} failed: {failing.last_error}; tries again in {left}"
    return f"waiting; checks again in {left}, or when an AWS event reports a change"


def deliveries_words(known: RepositoryRecord) -> str:
    """What GitHub's delivery log showed about a webhook, and what to do; empty if the log was never read."""
    if known.unchecked:
        return f"missed deliveries are left to the resync: {known.unchecked}"
    parts = []
    if known.missed:
        counts = missed_words(*(known.missed.get(name, 0) for name in MISSED))
        parts.append(f"{counts}, {span(seconds_since(known.missed['at']))} ago")
    if known.recent:
        ago = span(seconds_since(known.checked_at))
        parts.append(
            f"{known.recent} failed just before the last check, {ago} ago; the next check handles them"
        )
    if known.refused:
        parts.append(wrong_signature_words(known.refused))
    if not parts and known.checked_at:
        parts.append(f"none was missed; checked {span(seconds_since(known.checked_at))} ago")
    return "; ".join(parts)


def repository_warnings(records: Iterable[RepositoryRecord]) -> list[str]:
    """What people should know about repositories, one line for each warning.

    Args:
        records: the records of the repositories and of the App's own webhook.
    """
    listed = list(records)
    warnings = []
    if unusual := [each for each in listed if each.state and not each.over]:
        names = _first_names([f"{each.repository} {each.state}" for each in unusual])
        count = _counted(len(unusual), "repository is", "repositories are")
        warnings.append(f"{count} not in the normal state: {names}")
    if missed := [each for each in listed if missed_lately(each)]:
        counts = [sum(each.missed.get(name, 0) for each in missed) for name in MISSED]
        remedy = "see that GitHub reaches the web at all times"
        if refused := sum(each.refused for each in missed):
            remedy = wrong_signature_words(refused)
        warnings.append(f"{missed_words(*counts)}; {remedy}")
    return warnings


def unserved_words(unserved: Mapping[str, float], now: float) -> str:
    """Which repositories send deliveries although the settings leave them out; empty if none does.

    Args:
        unserved: when the last delivery of each repository came (epoch seconds), the latest first.
        now: epoch seconds by Redis's clock.
    """
    if not unserved:
        return ""
    count = _counted(
        len(unserved), "repository sends deliveries but matches", "repositories send deliveries but match"
    )
    ago = span(seconds_since(max(unserved.values()), now))
    names = _first_names(list(unserved))
    return f"{count} no pattern in DEPLOYER_REPOSITORIES: {names}; the last delivery came {ago} ago"


def wrong_signature_words(number: int) -> str:
    """How many deliveries were answered with 401, why, and what to do."""
    return (
        f"{number} had a wrong signature: the webhook's secret is not that of DEPLOYER_GITHUB_WEBHOOK_SECRET; set it "
        "again with deployer webhook install, or in the App"
    )


def missed_words(redelivered: float, superseded: float, left: float) -> str:
    """What happened to missed deliveries, in words.

    Args:
        redelivered: how many GitHub delivers again.
        superseded: how many a newer push supersedes.
        left: how many are left to the resync.
    """
    counts = {
        "redelivered": redelivered,
        "superseded by a newer push": superseded,
        "left to the resync": left,
    }
    words = ", ".join(f"{number:.0f} {name}" for name, number in counts.items() if number)
    total = redelivered + superseded + left
    return (
        f"{_counted(round(total), 'delivery was', 'deliveries were')} missed{f': {words}' if words else ''}"
    )


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _first_names(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more
