"""Sentences about stored records, for pages and the command line."""

import math
import shlex
import time
from collections.abc import Iterable, Mapping
from typing import Any

from deployer.model.durations import date, span
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.expiry import FOREVER, asleep_until, ttl_text, used_at, whose_ttl
from deployer.model.records import Activity, EnvironmentRecord, Outcome, RepositoryRecord
from deployer.model.refs import Ref
from deployer.queue.store import Lane
from deployer.views.derived_values import (
    GONE_STATES,
    MISSED,
    age,
    expiry_time,
    missed_lately,
    unlisted_counts,
)

_NAMED = 3
_WAITED_SECONDS = 600


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
    if at := expiry_time(record, ttl, now):
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
    words, ends = [], expiry_time(record, ttl, now)
    if ends:
        may = f"{ttl_text(record, ttl)} ({whose_ttl(record)})"
        words.append(f"idle since {date(used_at(record))}, and may be for {may}; ends {date(ends)} if unused")
    if record.warned_at > used_at(record):
        words.append(f"warned of on {date(record.warned_at)}")
    if record.kept_until >= FOREVER:
        words.append("kept for good")
    elif record.kept_until > now:
        words.append(f"kept until {date(record.kept_until)}")
    if record.sleep and record.state not in GONE_STATES:
        words.append(f"sleeps at {record.sleep}")
    return "; ".join(words)


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


def admitted_words(record: EnvironmentRecord) -> str:
    """What let production run its commit, in words; empty where nothing is known of that."""
    found = record.admitted
    return f"{Ref.parse(found.ref).short} at {found.commit[:12]}: {found.by}" if found.commit else ""


def orphan_words(since: float, grace: float) -> str:
    """Since when an environment has stood without its ref, and when that ends."""
    due = since + grace
    when = f"in {ahead(due - time.time())}" if due > time.time() else "by the next resync"
    return f"its branch is gone since {date(since)}; it is deleted {when}"


def place(told: Mapping[str, Any]) -> str:
    """Where in the repository a failure has its cause, as `file:line`; empty where that is not known."""
    file, line = told.get("file") or "", told.get("line") or ""
    return f"{file}:{line}" if file and line else str(file)


def unlisted_words(told: Mapping[str, Any], name: str) -> str:
    """How many of the `removed` or `retained` resources a receipt does not list, in words; empty where it lists all."""
    number = unlisted_counts(told)[name]
    return f"{number} more {'is' if number == 1 else 'are'} not listed" if number else ""


def receipt_words(told: Mapping[str, Any]) -> str:
    """A receipt in a few words, such as `2 removed, 1 retained`."""
    unlisted = unlisted_counts(told)
    removed, retained = (len(told.get(name) or ()) + unlisted[name] for name in ("removed", "retained"))
    if told and not told.get("outcome"):
        return f"{removed} removed so far" + (f", {retained} retained" if retained else "")
    return f"{removed} removed, {retained} retained" if retained else f"{removed} removed, nothing retained"


def not_deployed_words(line: Activity) -> str:
    """A push that was skipped, in words."""
    return f"{line.commit[:12]}, {span(age(line.at))} ago: {line.reason}"


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
