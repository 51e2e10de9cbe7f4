"""The pages of the dashboard, rendered without scripts.

The pages are read-only: changes need the API or the command line. They show only texts that never contain secrets. A
traceback, or the text of an unexpected error, may contain a token, so only the command line and the API show these.
"""

import time
from dataclasses import dataclass, field

import msgspec
from flask import Blueprint, render_template, request

from deployer.model import listings
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Repository
from deployer.model.errors import NotFoundError
from deployer.model.repository_record import RepositoryRecord
from deployer.model.targets import UNFENCED
from deployer.queue.dead_letters import dead_letter_warnings, describe_dead_letter
from deployer.queue.store import QueueState
from deployer.resync.missed_deliveries import APP
from deployer.resync.missed_tags import undeployed_tag_sentence
from deployer.views.derived_values import (
    UNDER_WAY,
    environment_id,
    last_skipped_push,
    never_deployed,
)
from deployer.views.sentences import (
    admitted_words,
    deliveries_words,
    drift_words,
    foreign_words,
    lifetime_sentence,
    orphan_words,
    repository_warnings,
    skipped_push_words,
    source_location,
    teardown_report_words,
    unlisted_words,
    unserved_words,
    waiting_words,
)
from web.api import known_environment
from web.context import deployer
from web.page_filters import short_task, source_url

blueprint = Blueprint("pages", __name__)
_HISTORY = 500
_SHOWN_ACTIVITY = 20
_SHOWN_LETTERS = 10
_SHOWN_LANES = 50
_SHOWN_ENVIRONMENTS = 200  # per page of the overview
_SHOWN_REPOSITORIES = 200  # repositories per page of the list of repositories
_REFRESH_SECONDS = 5
_SLOW_REFRESH_SECONDS = 30  # if there are several pages
# the value of the parameter `state` -> the list that is shown
_CHOICES = {
    "failed": listings.in_state("failed"),
    "under-way": listings.BUSY,
    "drifted": listings.DRIFTED,
    "foreign": listings.FOREIGN,
}
_KINDS = {"staging": 0, "production": 1}


@dataclass(slots=True)
class _Group:
    """A repository with its environments."""

    repository: str
    rows: list[EnvironmentRecord] = field(default_factory=list)


@blueprint.get("/")
def overview() -> str:
    """Show the environments by repository, the queues, the dead letters and the latest activity.

    Many environments are split into pages. `state` selects environments: `failed`, `under-way`, `drifted` or `foreign`.
    """
    lanes = deployer().lanes
    deleted, state = request.args.get("deleted") == "1", request.args.get("state", "")
    sizes = lanes.list_sizes()
    name = _CHOICES.get(state, listings.ALL if deleted else listings.PRESENT)
    page, pages, start = _locate_page(sizes.get(name, 0), _SHOWN_ENVIRONMENTS)
    groups = _group_by_repository(lanes.environments_of_list(name, start, _SHOWN_ENVIRONMENTS))
    repositories = [Repository.parse(group.repository) for group in groups]
    letters = lanes.dead_letter_totals()
    return render_template(
        "overview.html",
        groups=groups,
        shown_count=sizes.get(name, 0),
        page=page,
        pages=pages,
        deleted=deleted,
        state=state if state in _CHOICES else "",
        now=time.time(),
        refresh=_REFRESH_SECONDS if pages == 1 else _SLOW_REFRESH_SECONDS,
        hidden=0 if deleted else sizes.get(listings.in_state("deleted"), 0),
        lanes=lanes.lane_page(limit=_SHOWN_LANES).rows,
        lane_count=sizes[listings.LANES],
        letters=lanes.newest_dead_letters(_SHOWN_LETTERS) if letters.count else [],
        letter_count=letters.count,
        warnings=dead_letter_warnings(letters),
        unfenced=UNFENCED in lanes.last_heartbeats(),
        activity=lanes.activity(limit=_SHOWN_ACTIVITY),
        environment_count=sizes.get(listings.PRESENT, 0),
        failed_count=sizes.get(_CHOICES["failed"], 0),
        busy_count=sizes.get(listings.BUSY, 0),
        drifted_count=sizes.get(listings.DRIFTED, 0),
        foreign_count=sizes.get(listings.FOREIGN, 0),
        repository_warnings=repository_warnings(
            lanes.repository_records(lanes.repositories_of_list(listings.NOTABLE))
        ),
        states={
            each.repository.lower(): each for each in lanes.repository_records(repositories) if each.state
        },
        orphaned=_orphan_words(repositories),
        never_deployed=_never_deployed(repositories),
    )


def _locate_page(count: int, size: int) -> tuple[int, int, int]:
    """Return the number of the requested page, the number of pages, and how many rows come before the page."""
    pages = max(1, -(-count // size))
    page = min(max(1, request.args.get("page", 1, type=int)), pages)
    return page, pages, (page - 1) * size


@blueprint.get("/repositories")
def repositories() -> str:
    """Show the repositories, those with an unusual state first. Many are split into pages."""
    lanes = deployer().lanes
    listed, known = (
        lanes.repositories(),
        {each.repository.lower(): each for each in lanes.repository_records()},
    )
    records = [known.get(each.key) or RepositoryRecord(each.full_name) for each in listed]
    records.sort(key=lambda each: (not each.state, not each.missed, each.repository.lower()))
    page, pages, start = _locate_page(len(records), _SHOWN_REPOSITORIES)
    shown = records[start : start + _SHOWN_REPOSITORIES]
    orphans: dict[str, list[tuple[str, str]]] = {}
    for (repository, key), words in _orphan_words(
        [Repository.parse(each.repository) for each in shown]
    ).items():
        orphans.setdefault(repository, []).append((key, words))
    tags = _never_deployed([Repository.parse(each.repository) for each in shown])
    return render_template(
        "repositories.html",
        never_deployed=tags,
        records=[(each, deliveries_words(each), orphans.get(each.repository.lower(), ())) for each in shown],
        count=len(records),
        odd_count=sum(bool(each.state) for each in records),
        app=next((deliveries_words(each) for each in _github_app_records()), ""),
        unserved=unserved_words(deployer().submitter.unserved_repositories(), lanes.now()),
        page=page,
        pages=pages,
    )


@blueprint.get("/environments/<identity>")
def environment(identity: str) -> str:
    """Show one environment with its full reason, its stages and its history."""
    found, record = known_environment(identity)
    lanes = deployer().lanes
    record = record or EnvironmentRecord(found.repository.full_name, found.key, found.stack_name)
    lane = next(iter(lanes.lanes(found.repository)), None)
    known = next(iter(lanes.repository_records([found.repository])), None)
    activity = [line for line in lanes.activity(found.repository, _HISTORY) if line.environment == found.key]
    skipped = last_skipped_push(record, activity)
    return render_template(
        "environment.html",
        row=record,
        whole=known if known and known.state else None,
        orphaned=_orphan_words([found.repository]).get((found.repository.key, found.key), ""),
        drift=drift_words(record),
        foreign=foreign_words(record),
        admitted=admitted_words(record),
        age=lifetime_sentence(record, deployer().config.ttl),
        kind=found.kind,
        teardown_report_words=teardown_report_words(record.status.receipt),
        unlisted={name: unlisted_words(record.status.receipt, name) for name in ("removed", "retained")},
        under_way=UNDER_WAY,
        failed_at=source_location(record.status.stack.failure),
        failed_url=source_url(record),
        refreshing=record.status.state in listings.BUSY_STATES,
        queue_position=_queue_position(lane, found.key),
        letters=[
            letter
            for letter in lanes.dead_letters(found.repository)
            if letter.arguments.environment == found.key
        ],
        activity=activity,
        skipped=skipped_push_words(skipped) if skipped else "",
    )


@blueprint.get("/dead-letters/<identity>")
def dead_letter(identity: str) -> str:
    """Show one dead letter with its reason, its attempts and the commands to replay or discard it."""
    letter = deployer().lanes.find_dead_letter(identity)
    if letter is None:
        raise NotFoundError(
            f"there is no dead letter {identity[:100]}; it may have been replayed, delivered again or discarded"
        )
    work = letter.arguments
    attempts = work.failed_attempts
    if attempts and not letter.is_expected:
        attempts[-1] = msgspec.structs.replace(attempts[-1], error=letter.public_reason)
    return render_template(
        "letter.html",
        letter=letter,
        work=work,
        sentence=describe_dead_letter(letter, public=True),
        attempts=attempts,
        deliveries=[each for each in work.deliveries.split(",") if each],
        page=environment_id(letter.repository, work.environment),
    )


@blueprint.get("/dead-letters/")
@blueprint.get("/environments/")
def reject_missing_id() -> str:
    """Answer a path without an id."""
    raise NotFoundError("the address has no id; the overview lists environments and dead letters")


def _github_app_records() -> list[RepositoryRecord]:
    """Return the record of the GitHub App's webhook, if there is one."""
    return deployer().lanes.repository_records([APP])


def _orphan_words(repositories: list[Repository]) -> dict[tuple[str, str], str]:
    """Return a sentence for each environment whose branch is gone, by the keys of repository and environment."""
    grace = deployer().config.orphan_seconds
    return {
        (repository, key): orphan_words(since, grace)
        for repository, found in deployer().lanes.orphaned(repositories).items()
        for key, since in found.items()
    }


def _never_deployed(repositories: list[Repository]) -> dict[str, str]:
    """Return a sentence for each tag that was never deployed, by the key of the repository."""
    found = never_deployed(deployer().lanes, repositories)
    return {
        each.key: undeployed_tag_sentence(each, found[each.key]) for each in repositories if each.key in found
    }


def _group_by_repository(records: list[EnvironmentRecord]) -> list[_Group]:
    """Group environments by repository: staging, production, then branches, the latest change first."""
    groups: dict[str, _Group] = {}
    for record in records:
        groups.setdefault(record.repository.lower(), _Group(record.repository)).rows.append(record)
    for group in groups.values():
        group.rows.sort(key=lambda row: (_KINDS.get(row.environment, 2), -row.updated_at))
    return list(groups.values())


def _queue_position(lane: QueueState | None, key: str) -> str:
    """Describe the position of an environment in the queue of its repository."""
    if lane is None:
        return ""
    if lane.status != "idle" and lane.environment == key:
        return f"{short_task(lane.task)} {'is running' if lane.status == 'running' else 'was sent to the workers'}"
    for number, item in enumerate(lane.waiting, 1):
        if item.environment == key:
            return f"queued, {number} of {len(lane.waiting)} in the queue"
    return "; ".join(waiting_words(lane, item) for item in lane.snoozed_keys(key))
