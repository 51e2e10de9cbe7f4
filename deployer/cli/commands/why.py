"""`deployer why`: print everything about one environment."""

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from deployer.cli import output
from deployer.cli.environment_names import environment_label, find_queued_only
from deployer.cli.installation import load_deployer
from deployer.cli.parameters import RefType, RepositoryType, json_option
from deployer.model.activity import Activity
from deployer.model.durations import span
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import ConfigError, DeployerError, NotFoundError
from deployer.model.refs import Ref, skip_reason
from deployer.model.teardown_report import TeardownReport
from deployer.queue.dead_letter_record import DeadLetter
from deployer.queue.dead_letters import describe_dead_letter
from deployer.queue.items import split_key
from deployer.queue.lookup import find_environment_record
from deployer.queue.store import QueueState
from deployer.resync.missed_tags import undeployed_tag_sentence
from deployer.views import derived_values, record_json, sentences

if TYPE_CHECKING:
    from deployer.settings.values import Config
    from deployer.wiring import Deployer


_ACTIVITY_SHOWN = 8
_HISTORY_LENGTH = 500


@click.command()
@click.argument("repository", metavar="REPO", type=RepositoryType())
@click.argument("ref", metavar="REF", type=RefType())
@json_option
def why(repository: Repository, ref: str, *, json_: bool) -> None:
    """Show everything about one environment.

    REF is a branch, a full ref (refs/tags/v1), staging or production. If it was never deployed, the reason is shown.
    """
    deployer = load_deployer()
    repository = deployer.submitter.as_github_spells(repository)
    lane = next(iter(deployer.lanes.lanes(repository)), None)
    letters = deployer.lanes.dead_letters(repository)
    history = deployer.lanes.activity(repository, _HISTORY_LENGTH)
    record = _find_record(deployer, repository, ref, letters, history)
    key = record.environment
    activity = [line for line in history if line.environment == key]
    letters = [letter for letter in letters if letter.arguments.environment == key]
    if json_:
        output.print_json(
            {
                **record_json.environment(record, deployer.config.public_url, deployer.config.ttl),
                "lane": record_json.lane(lane) if lane else None,
                "activity": [record_json.activity_line(line) for line in activity],
                "dead_letters": [record_json.dead_letter(letter) for letter in letters],
            }
        )
        return
    _print_record(record, deployer.config, deployer.lanes.orphaned([repository]), activity)
    for known in deployer.lanes.repository_records([repository]):
        if known.reason:
            output.print_note(known.reason)
    if record.status.receipt:
        _print_teardown_report(record.status.receipt)
    _print_tag_notes(Ref.from_user_input(ref), record, activity)
    _print_queue(lane, repository, key)
    _print_history(activity[:_ACTIVITY_SHOWN], letters)


def _print_tag_notes(named: Ref, record: EnvironmentRecord, activity: list[Activity]) -> None:
    """Print what happened to a tag that is not the one that production has."""
    if not named.is_tag or named.name == record.spec.ref:
        return
    output.print_note(f"production does not have {named.short}, but {record.spec.ref or 'an unknown tag'}")
    if line := next((line for line in activity if line.ref == named.name), None):
        reason = line.reason.removeprefix(f"{named.short}: ")
        output.print_note(f"{named.short} was {line.outcome} {output.format_age(line.at)}: {reason}")


def _find_record(
    deployer: "Deployer",
    repository: Repository,
    text: str,
    letters: list[DeadLetter],
    history: list[Activity],
) -> EnvironmentRecord:
    """Return an environment's record, or one made from its queue item, dead letter or history.

    Raises:
        NotFoundError: none of these exists; the text says why.
    """
    try:
        return find_environment_record(deployer.lanes, repository, text)
    except NotFoundError:
        waiting = find_queued_only(deployer.lanes, repository)
        dead = [
            EnvironmentRecord(
                repository.full_name,
                letter.arguments.environment,
                Environment.from_key(repository, letter.arguments.environment).stack_name,
            )
            for letter in letters
            if derived_values.environment_id(letter.repository, letter.arguments.environment)
        ]
        ref = Ref.from_user_input(text)
        for record in waiting + dead:
            branch = Environment.from_key(repository, record.environment).branch
            if record.environment == text or (branch == ref and text not in {Kind.STAGING, Kind.PRODUCTION}):
                return record
        for line in history:
            named = (
                line.ref and line.ref == ref.name
            ) or line.environment == f"{Kind.DEVELOPMENT}:{ref.name}"
            if line.environment == text or (named and text not in {Kind.STAGING, Kind.PRODUCTION}):
                return _record_of_activity(repository, line)
        raise _explain_missing(deployer, repository, text) from None


def _record_of_activity(repository: Repository, line: Activity) -> EnvironmentRecord:
    """Make a record from a line of the history."""
    return EnvironmentRecord.of(
        repository.full_name,
        line.environment,
        "",
        ref=line.ref,
        commit=line.commit,
        outcome=line.outcome,
        reason=line.reason,
        changed_at=line.at,
    )


def _explain_missing(deployer: "Deployer", repository: Repository, text: str) -> NotFoundError:
    """Return an error that explains, from the settings and GitHub, why an environment has no record."""
    plain = NotFoundError(f"{repository} has no environment {text}; see: deployer status {repository}")
    if not deployer.config.allows(repository):
        return NotFoundError(
            f"{repository} matches none of the patterns in DEPLOYER_REPOSITORIES, so its pushes are ignored"
        )
    if text in {Kind.STAGING, Kind.PRODUCTION}:
        tag = derived_values.never_deployed(deployer.lanes, [repository]).get(repository.key, "")
        if tag and text == Kind.PRODUCTION:
            return NotFoundError(
                f"{repository} has no production; {undeployed_tag_sentence(repository, tag)}"
            )
        return plain
    ref = Ref.from_user_input(text)
    try:
        head = deployer.host.head(repository, ref)
    except ConfigError:  # this process has no token for GitHub
        return plain
    except DeployerError as error:
        return NotFoundError(f"{repository} has no environment {text}; reading it from GitHub: {error}")
    kind, typed = ("tag", ref.name) if ref.is_tag else ("branch", ref.short)
    redeploy = f"deployer redeploy {repository} {shlex.quote(typed)}"
    if head is None:
        hint = "" if ref.is_tag else f"; a tag is named refs/tags/{ref.short}"
        return NotFoundError(f"{repository} has no environment {text}, and no such {kind}{hint}")
    if reason := skip_reason(ref, head.message):
        reason = reason.removeprefix(f"{ref.short}: ")
        return NotFoundError(f"{ref.short} is skipped: {reason}; to deploy it anyway: {redeploy}")
    if ref.is_tag:
        return NotFoundError(f"{ref.short} was never deployed; to deploy it: {redeploy}")
    return NotFoundError(
        f"{ref.short} is at {head.sha[:12]}, but has no environment; to compare GitHub with AWS: "
        f"deployer resync {repository}"
    )


def _print_record(
    record: EnvironmentRecord,
    config: "Config",
    orphaned: Mapping[str, Mapping[str, float]],
    activity: list[Activity],
) -> None:
    since = orphaned.get(record.repository.lower(), {}).get(record.environment, 0)
    environment = Environment.from_key(Repository.parse(record.repository), record.environment)
    output.print_heading(f"{record.repository} {environment.name} ({environment.kind})")
    when = output.format_age(derived_values.changed_at(record))
    skipped = derived_values.last_skipped_push(record, activity)
    ahead, dates = (
        sentences.lifetime_words(record, config.ttl),
        sentences.lifetime_sentence(record, config.ttl),
    )
    output.print_facts(
        {
            "state": f"{record.status.state or 'unknown'}{f', {when}' if when else ''}",
            "outcome": record.status.outcome,
            "reason": record.status.reason,
            "commit": record.spec.commit,
            "skipped": sentences.skipped_push_words(skipped) if skipped else "",
            "ref": record.spec.ref or (environment.branch.name if environment.branch else ""),
            "stack": record.stack_name,
            "region": record.spec.region,
            "held": sentences.held_words(record),
            "admitted": sentences.admitted_words(record),
            "refused": "\n".join(each.reason for each in reversed(record.history.refused_tags)),
            "drift": sentences.drift_words(record),
            "orphan": sentences.orphan_words(since, config.orphan_seconds) if since else "",
            "foreign": sentences.foreign_words(record),
            "execution": record.status.pipeline.execution,
            # the sentence with the dates often contains the short text already
            "age": "\n".join(filter(None, ("" if ahead in dates else ahead, dates))),
            "page": derived_values.page_url(record, config.public_url),
        }
    )
    if failure := record.status.stack.failure:
        output.print_heading("What failed")
        output.print_facts(
            {
                "resource": f"{failure.resource} {failure.type}".strip(),
                "reason": failure.reason,
                "in": sentences.source_location(failure),
                "console": failure.url,
            }
        )
    if record.status.pipeline.stages:
        output.print_heading("Stages")
        output.print_facts(
            {
                stage.name: "\n".join(
                    filter(
                        None,
                        [stage.status.replace("-", " "), stage.reason, stage.url],
                    )
                )
                for stage in record.status.pipeline.stages
            }
        )


def _print_teardown_report(receipt: TeardownReport) -> None:
    when = output.format_age(receipt.ended_at) or derived_values.UNDER_WAY
    output.print_heading(f"Teardown report, {when}: {sentences.teardown_report_words(receipt)}")
    for each in receipt.removed:
        count = each.resources
        words = f", with {count} resource{'' if count == 1 else 's'}" if count else ""
        output.print_facts({"removed ": f"{each.what}{words}\n{each.id}"})
    for left in receipt.retained:
        output.print_facts({"retained": f"{left.what}: {left.why}\n{left.id}"})
    for name in ("removed", "retained"):
        if words := sentences.unlisted_words(receipt, name):
            output.print_facts({f"{name:8}": words})


def _print_queue(lane: QueueState | None, repository: Repository, key: str) -> None:
    output.print_heading("In the queue")
    lines = _describe_queue(lane, repository, key) if lane else []
    for line in lines or ["no work"]:
        output.print_facts({"-": line})


def _describe_queue(lane: QueueState, repository: Repository, key: str) -> list[str]:
    lines = []
    if lane.environment == key and lane.status != "idle":
        state = "is running" if lane.status == "running" else "was sent, and no worker has taken it yet"
        lines.append(f"{lane.task} {state}")
    for work in lane.waiting:
        if work.environment == key:
            lines.append(
                f"{work.task} queued for {span(derived_values.seconds_since(work.accepted_at))} ({work.cause})"
            )
            if lane.status != "idle" and lane.environment != key:
                lines.append(f"behind {environment_label(repository, lane.key)}, which has {lane.task}")
            if work.last_error:
                lines.append(f"attempt {work.log.attempts} failed: {work.last_error}")
    for item in lane.snoozed_keys(key):
        _, ref = split_key(item)
        tag = f"{Ref.parse(ref).short}: " if ref else ""
        lines.append(f"{tag}{sentences.waiting_words(lane, item)}")
    return lines


def _print_history(activity: list[Activity], letters: list[DeadLetter]) -> None:
    if activity:
        output.print_heading("History")
        for line in activity:
            commit = f" {line.commit[:8]}" if line.commit else ""
            tag = f" {Ref.parse(line.ref).short}" if line.ref.startswith("refs/tags/") else ""
            output.print_facts(
                {output.format_age(line.at).rjust(10): f"{line.outcome}{tag}{commit}: {line.reason}"}
            )
    if letters:
        output.print_heading("Dead letters (deployer dead-letters show ID)")
        for letter in letters:
            output.print_facts({letter.id: f"{output.format_age(letter.at)}: {describe_dead_letter(letter)}"})
