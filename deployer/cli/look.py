"""Commands that only look: `why` and `lanes`; `status` and `orphans` have modules of their own."""

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from deployer.cli import output
from deployer.cli.common import (
    RefType,
    RepositoryType,
    in_lane_only,
    json_option,
    short,
    wired,
)
from deployer.model.durations import span
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import ConfigError, DeployerError, NotFoundError
from deployer.model.records import Activity, DeadLetter, EnvironmentRecord, split_key
from deployer.model.refs import Ref, skip_reason
from deployer.queue.dead_letters import sentence
from deployer.queue.lookup import record_of
from deployer.queue.store import Lane
from deployer.resync.plan import never_deployed_words
from deployer.views import record_json as shapes

if TYPE_CHECKING:
    from deployer.settings.values import Config
    from deployer.wiring import Deployer

_ACTIVITY_SHOWN = 8
_ACTIVITY_KEPT = 500


@click.command()
@click.argument("repository", metavar="REPO", type=RepositoryType())
@click.argument("ref", metavar="REF", type=RefType())
@json_option
def why(repository: Repository, ref: str, *, json_: bool) -> None:
    """Tell all that is known of one environment.

    REF is a branch, a full ref (refs/tags/v1), staging or production. Of a branch or tag that was never deployed it
    tells why.
    """
    deployer = wired()
    repository = deployer.intake.known(repository)
    lane = next(iter(deployer.lanes.lanes(repository)), None)
    letters = deployer.lanes.dead_letters(repository)
    history = deployer.lanes.activity(repository, _ACTIVITY_KEPT)
    record = _record(deployer, repository, ref, lane, letters, history)
    key = record.environment
    activity = [line for line in history if line.environment == key]
    letters = [letter for letter in letters if letter.arguments.environment == key]
    if json_:
        output.as_json(
            {
                **shapes.environment(record, deployer.config.public_url, deployer.config.ttl),
                "lane": shapes.lane(lane) if lane else None,
                "activity": [shapes.activity(line) for line in activity],
                "dead_letters": [shapes.dead_letter(letter) for letter in letters],
            }
        )
        return
    _tell_record(record, deployer.config, deployer.lanes.orphaned([repository]), activity)
    for known in deployer.lanes.repository_records([repository]):
        if known.reason:
            output.note(known.reason)
    if record.receipt:
        _tell_receipt(record.receipt)
    if (named := Ref.from_people(ref)).is_tag and named.name != record.ref:
        output.note(
            f"{named.short} is not what production was last brought to; that is {record.ref or 'unknown'}"
        )
        if line := next((line for line in activity if line.ref == named.name), None):
            reason = line.reason.removeprefix(f"{named.short}: ")
            output.note(f"{named.short} was {line.outcome} {output.ago(line.at)}: {reason}")
    _tell_lane(lane, repository, key)
    _tell_past(activity[:_ACTIVITY_SHOWN], letters)


def _record(
    deployer: "Deployer",
    repository: Repository,
    text: str,
    lane: Lane | None,
    letters: list[DeadLetter],
    history: list[Activity],
) -> EnvironmentRecord:
    """What is known of an environment, even if only that it waits, that its first task died, or that it was skipped.

    Raises:
        NotFoundError: nothing is recorded of it, and why that is so.
    """
    try:
        return record_of(deployer.lanes, repository, text)
    except NotFoundError:
        waiting = in_lane_only([lane] if lane else [], [])
        dead = [
            EnvironmentRecord(
                repository.full_name,
                letter.arguments.environment,
                Environment.from_key(repository, letter.arguments.environment).stack_name,
            )
            for letter in letters
            if shapes.environment_id(letter.repository, letter.arguments.environment)
        ]
        ref = Ref.from_people(text)
        for record in waiting + dead:
            branch = Environment.from_key(repository, record.environment).branch
            if record.environment == text or (branch == ref and text not in {Kind.STAGING, Kind.PRODUCTION}):
                return record
        for line in history:
            named = (
                line.ref and line.ref == ref.name
            ) or line.environment == f"{Kind.DEVELOPMENT}:{ref.name}"
            if line.environment == text or (named and text not in {Kind.STAGING, Kind.PRODUCTION}):
                return _of_line(repository, line)
        raise _unrecorded(deployer, repository, text) from None


def _of_line(repository: Repository, line: Activity) -> EnvironmentRecord:
    """What one line of the activity tells of an environment that has no record."""
    return EnvironmentRecord(
        repository.full_name,
        line.environment,
        "",
        ref=line.ref,
        commit=line.commit,
        outcome=line.outcome,
        reason=line.reason,
        changed_at=line.at,
    )


def _unrecorded(deployer: "Deployer", repository: Repository, text: str) -> NotFoundError:
    """Why nothing is recorded of an environment, as far as the settings and GitHub can tell, and what to do."""
    plain = NotFoundError(f"nothing is known of {text} in {repository}; see: deployer status {repository}")
    if not deployer.config.allows(repository):
        return NotFoundError(
            f"{repository} matches none of the patterns in DEPLOYER_REPOSITORIES, so its pushes are ignored"
        )
    if text in {Kind.STAGING, Kind.PRODUCTION}:
        tag = shapes.never_deployed(deployer.lanes, [repository], []).get(repository.key, "")
        if tag and text == Kind.PRODUCTION:
            return NotFoundError(f"{repository} has no production; {never_deployed_words(repository, tag)}")
        return plain
    ref = Ref.from_people(text)
    try:
        head = deployer.host.head(repository, ref)
    except ConfigError:  # this process has no token
        return plain
    except DeployerError as error:
        return NotFoundError(f"nothing is known of {text} in {repository}; GitHub was asked: {error}")
    kind, typed = ("tag", ref.name) if ref.is_tag else ("branch", ref.short)
    redeploy = f"deployer redeploy {repository} {shlex.quote(typed)}"
    if head is None:
        hint = "" if ref.is_tag else f"; a tag is named refs/tags/{ref.short}"
        return NotFoundError(f"nothing is known of {text} in {repository}, which has no such {kind}{hint}")
    if reason := skip_reason(ref, head.message):
        reason = reason.removeprefix(f"{ref.short}: ")
        return NotFoundError(f"{ref.short} is skipped: {reason}; to deploy it all the same: {redeploy}")
    if ref.is_tag:
        return NotFoundError(f"{ref.short} was never deployed; to deploy it: {redeploy}")
    return NotFoundError(
        f"nothing is recorded of {ref.short}, which is at {head.sha[:12]}; compare it with AWS: "
        f"deployer resync {repository}"
    )


def _tell_record(
    record: EnvironmentRecord,
    config: "Config",
    orphaned: Mapping[str, Mapping[str, float]],
    activity: list[Activity],
) -> None:
    since = orphaned.get(record.repository.lower(), {}).get(record.environment, 0)
    environment = Environment.from_key(Repository.parse(record.repository), record.environment)
    output.heading(f"{record.repository} {environment.name} ({environment.kind})")
    when = output.ago(shapes.changed_at(record))
    skipped = shapes.not_deployed(record, activity)
    ahead, dates = shapes.age_words(record, config.ttl), shapes.age_sentence(record, config.ttl)
    output.facts(
        {
            "state": f"{record.state or 'unknown'}{f', {when}' if when else ''}",
            "outcome": record.outcome,
            "reason": record.reason,
            "commit": record.commit,
            "skipped": shapes.not_deployed_words(skipped) if skipped else "",
            "ref": record.ref or (environment.branch.name if environment.branch else ""),
            "stack": record.stack_name,
            "region": record.region,
            "held": shapes.held_words(record),
            "admitted": shapes.admitted_words(record),
            "refused": "\n".join(each.reason for each in reversed(record.refused_tags)),
            "drift": shapes.drift_words(record),
            "orphan": shapes.orphan_words(since, config.orphan_seconds) if since else "",
            "execution": record.execution,
            "age": "\n".join(filter(None, ("" if ahead in dates else ahead, dates))),
            "page": shapes.page_url(record, config.public_url),
        }
    )
    if failure := record.failure:
        output.heading("What failed")
        output.facts(
            {
                "resource": f"{failure.get('resource', '')} {failure.get('type', '')}".strip(),
                "reason": failure.get("reason", ""),
                "in": shapes.place(failure),
                "console": failure.get("url", ""),
            }
        )
    if record.stages:
        output.heading("Stages")
        output.facts(
            {
                stage["name"]: "\n".join(
                    filter(
                        None,
                        [stage["status"].replace("-", " "), stage.get("reason", ""), stage.get("url", "")],
                    )
                )
                for stage in record.stages
            }
        )


def _tell_receipt(receipt: Mapping[str, Any]) -> None:
    when = output.ago(receipt.get("at", 0)) or shapes.UNDER_WAY
    output.heading(f"Receipt of the teardown, {when}: {shapes.receipt_words(receipt)}")
    for each in receipt.get("removed") or ():
        count = each.get("resources")
        words = f", with {count} resource{'' if count == 1 else 's'}" if count else ""
        output.facts({"removed ": f"{each.get('what', '')}{words}\n{each.get('id', '')}"})
    for each in receipt.get("retained") or ():
        output.facts({"retained": f"{each.get('what', '')}: {each.get('why', '')}\n{each.get('id', '')}"})
    for name in ("removed", "retained"):
        if words := shapes.unlisted_words(receipt, name):
            output.facts({f"{name:8}": words})


def _tell_lane(lane: Lane | None, repository: Repository, key: str) -> None:
    output.heading("In its lane")
    told = []
    if lane and lane.environment == key and lane.status != "idle":
        doing = "runs now" if lane.status == "running" else "was sent to the workers, none has taken it yet"
        told.append(f"{lane.task} {doing}")
    for work in lane.waiting if lane else ():
        if work.environment == key:
            told.append(f"{work.task} waits since {output.ago(work.accepted_at)}, because of a {work.cause}")
            if lane and lane.status != "idle" and lane.environment != key:
                told.append(f"behind {short(repository, lane.key)}, which has {lane.task}")
            if work.last_error:
                told.append(f"attempt {work.attempts} ended in: {work.last_error}")
    if lane:
        for item in lane.asleep(key):
            _, ref = split_key(item)
            tag = f"{Ref.parse(ref).short}: " if ref else ""
            told.append(f"{tag}{shapes.snoozed_words(lane, item)}")
    for line in told or ["nothing waits"]:
        output.facts({"-": line})


def _tell_past(activity: list[Activity], letters: list[DeadLetter]) -> None:
    if activity:
        output.heading("Last activity")
        for line in activity:
            commit = f" {line.commit[:8]}" if line.commit else ""
            tag = f" {Ref.parse(line.ref).short}" if line.ref.startswith("refs/tags/") else ""
            output.facts({output.ago(line.at).rjust(10): f"{line.outcome}{tag}{commit}: {line.reason}"})
    if letters:
        output.heading("Dead letters (deployer dead-letters show ID)")
        for letter in letters:
            output.facts({letter.id: f"{output.ago(letter.at)}: {sentence(letter)}"})


@click.command()
@json_option
def lanes(*, json_: bool) -> None:
    """Show the lanes that hold or await something."""
    found = wired().lanes.lanes()
    if json_:
        output.as_json([shapes.lane(lane) for lane in found])
        return
    rows = [
        [
            lane.repository,
            lane.status,
            _short(lane, lane.key) if lane.environment else "",
            lane.task.removeprefix("deployer."),
            _waiting(lane),
            ", ".join(f"{_short(lane, key)} {span(left)}" for key, left in lane.snoozed.items()),
        ]
        for lane in found
    ]
    headings = ["Repository", "Lane", "Environment", "Task", "Waiting", "Snoozed"]
    output.table(headings, rows, empty="every lane is empty")
    for reason in dict.fromkeys(reason for lane in found for reason in lane.resting.values()):
        output.note(reason)
    for problem in (line for lane in found for line in shapes.lane_problems(lane)):
        output.note(problem)


def _waiting(lane: Lane) -> str:
    # what was sent stands in the queue until a worker takes it: it is told once
    keys = [work.key for work in lane.waiting]
    if lane.status == "sent":
        keys = [key for key in keys if key != lane.key]
    return ", ".join(_short(lane, key) for key in keys)


def _short(lane: Lane, key: str) -> str:
    return short(Repository.parse(lane.repository), key)
