"""The dashboard: three pages rendered here, readable without a token and without a script.

Whoever reaches the port may read them, so they belong behind your proxy. They show reasons, which never hold
secrets, and offer nothing to press: what changes something needs the API's token or the command line. Neither do they
show a traceback, or the text of an error that deployer did not raise on purpose: such a text may quote anything, a
token too. The command line and the API, behind theirs, tell all of it.
"""

import re
from dataclasses import dataclass, field, replace
from urllib.parse import quote, urlsplit

from flask import Blueprint, render_template, request

from deployer.errors import NotFoundError
from deployer.ledger import RESYNC_KEY, Activity, Attempt, EnvironmentRecord
from deployer.letters import sentence, warnings_of
from deployer.ports import Lane
from deployer.shapes import (
    UNDER_WAY,
    age,
    age_words,
    calls_words,
    environment_id,
    iso,
    place,
    receipt_words,
    span,
)
from web.api import known_environment
from web.context import deployer

blueprint = Blueprint("pages", __name__)
_HISTORY = 500
_SHOWN_ACTIVITY = 20
_SHOWN_LETTERS = 10
_UNDER_WAY = {"", "pending", "waiting", "provisioning", "updating", "running", "deleting"}
_KINDS = {"staging": 0, "production": 1}
_TONES = {
    "good": {"deployed", "succeeded", "removed"},
    "bad": {"failed", "dead-lettered"},
    "busy": {"pending", "waiting", "provisioning", "updating", "running", "deleting", "sent"},
    "warn": {"stopped", "partly"},
}


@dataclass(slots=True)
class _Group:
    """A repository and what there is of it."""

    repository: str
    rows: list[EnvironmentRecord] = field(default_factory=list)
    hidden: int = 0


@blueprint.get("/")
def overview() -> str:
    """Every environment by repository, the lanes, the dead letters, and what happened lately."""
    lanes = deployer().lanes
    deleted = request.args.get("deleted") == "1"
    letters = lanes.dead_letters()
    groups = _grouped(lanes.environments(), deleted=deleted)
    shown = [row for group in groups for row in group.rows]
    return render_template(
        "overview.html",
        groups=groups,
        deleted=deleted,
        hidden=sum(group.hidden for group in groups),
        lanes=lanes.lanes(),
        letters=letters[::-1][:_SHOWN_LETTERS],
        letter_count=len(letters),
        warnings=warnings_of(letters),
        activity=lanes.activity(limit=_SHOWN_ACTIVITY),
        environment_count=sum(row.state != "deleted" for row in shown),
        failed_count=sum(row.state == "failed" for row in shown),
        busy_count=sum(row.state in _UNDER_WAY for row in shown),
    )


@blueprint.get("/environments/<identity>")
def environment(identity: str) -> str:
    """One environment: its reason in full, its stages with links, and its own history."""
    found, record = known_environment(identity)
    lanes = deployer().lanes
    record = record or EnvironmentRecord(found.repository.full_name, found.key, found.stack_name)
    lane = next((each for each in lanes.lanes() if each.repository.lower() == found.repository.key), None)
    return render_template(
        "environment.html",
        row=record,
        kind=found.kind,
        calls=calls_words(record.calls),
        receipt_words=receipt_words(record.receipt),
        under_way=UNDER_WAY,
        failed_at=place(record.failure),
        failed_url=source_url(record),
        refreshing=record.state in _UNDER_WAY,
        place=_place(lane, found.key),
        letters=[
            letter
            for letter in lanes.dead_letters(found.repository)
            if letter.arguments.environment == found.key
        ],
        activity=[
            line for line in lanes.activity(found.repository, _HISTORY) if line.environment == found.key
        ],
    )


@blueprint.get("/dead-letters/<identity>")
def dead_letter(identity: str) -> str:
    """One dead letter: why it died, its attempts, and the commands that settle it."""
    letter = deployer().lanes.dead_letter(identity)
    if letter is None:
        raise NotFoundError(
            f"there is no dead letter {identity[:100]}; it was replayed, delivered again or discarded, or never was"
        )
    work = letter.arguments
    attempts = work.failed_attempts
    if attempts and not letter.expected:
        attempts[-1] = replace(attempts[-1], error=letter.told)
    return render_template(
        "letter.html",
        letter=letter,
        work=work,
        sentence=sentence(letter, public=True),
        attempts=attempts,
        deliveries=[each for each in work.deliveries.split(",") if each],
        page=environment_id(letter.repository, work.environment),
    )


@blueprint.get("/dead-letters/")
@blueprint.get("/environments/")
def nothing() -> str:
    """Nothing is named."""
    raise NotFoundError("nothing is named; the overview lists environments and dead letters")


def _grouped(records: list[EnvironmentRecord], *, deleted: bool) -> list[_Group]:
    """Staging and production first, then branches, the one that changed last on top."""
    groups: dict[str, _Group] = {}
    for record in records:
        group = groups.setdefault(record.repository.lower(), _Group(record.repository))
        if record.state == "deleted" and not deleted:
            group.hidden += 1
        else:
            group.rows.append(record)
    for group in groups.values():
        group.rows.sort(key=lambda row: (_KINDS.get(row.environment, 2), -row.updated_at))
    return list(groups.values())


def _place(lane: Lane | None, key: str) -> str:
    """Where an environment is in its lane, in words."""
    if lane is None:
        return ""
    if lane.status != "idle" and lane.environment == key:
        return f"{short_task(lane.task)} {'runs now' if lane.status == 'running' else 'is on its way to a worker'}"
    for number, item in enumerate(lane.waiting, 1):
        if item.environment == key:
            return f"waits for its turn, {number} of {len(lane.waiting)} in the lane"
    if key in lane.snoozed:
        return f"waits for AWS, looks again in {round(lane.snoozed[key])} s"
    return ""


# --- what the templates call --------------------------------------------------------------------------------------


@blueprint.app_template_filter()
def tone(word: str) -> str:
    """The colour that a state, status or outcome is shown in; its text is always there too."""
    return next((name for name, words in _TONES.items() if word in words), "calm")


@blueprint.app_template_filter()
def ago(seconds: float) -> str:
    """How long ago epoch seconds are, in words."""
    passed = age(seconds)
    return f"{span(passed)} ago" if passed >= 2 else "just now"


@blueprint.app_template_filter()
def ageing(record: EnvironmentRecord) -> str:
    """What is to come of an environment because of its age, or nothing."""
    return age_words(record, deployer().config.ttl)


@blueprint.app_template_filter()
def lasted(attempt: Attempt) -> str:
    """How long an attempt took, in words, or nothing where its beginning is not known."""
    return span(attempt.ended_at - attempt.began_at) if attempt.began_at else ""


@blueprint.app_template_filter()
def stamp(seconds: float) -> str:
    """Epoch seconds as ISO 8601."""
    return iso(seconds) or ""


@blueprint.app_template_filter()
def short_task(task: str) -> str:
    """A task's name without its prefix."""
    return task.removeprefix("deployer.")


@blueprint.app_template_filter()
def ref_name(name: str) -> str:
    """What people call a ref, an environment's key, or the work about a whole repository."""
    if name == RESYNC_KEY:
        return "whole repository"
    return re.sub(r"^(?:development:)?refs/(?:heads|tags)/", "", name)


@blueprint.app_template_filter()
def safe_url(url: str) -> str:
    """The address if a browser may be sent there, else nothing."""
    try:
        return url if urlsplit(url).scheme in {"http", "https"} else ""
    except ValueError:  # such as `https://[`
        return ""


@blueprint.app_template_filter()
def page_id(line: Activity) -> str:
    """The id of the environment that a line of history is about, or nothing."""
    return environment_id(line.repository, line.environment) or ""


@blueprint.app_template_filter()
def commit_url(commit: str, repository: str) -> str:
    """Where people look at a commit, or nothing where that cannot be told from the API's address."""
    base = host_url(deployer().config.github_api_url)
    return f"{base}/{quote(repository)}/commit/{quote(commit)}" if base and commit else ""


def source_url(record: EnvironmentRecord) -> str:
    """Where people look at the line of the template that failed, or nothing where that cannot be told."""
    base = host_url(deployer().config.github_api_url)
    file, line = record.failure.get("file"), record.failure.get("line")
    if not (base and file and record.commit):
        return ""
    place = f"{base}/{quote(record.repository)}/blob/{quote(record.commit)}/{quote(str(file))}"
    return f"{place}#L{line}" if line else place


def host_url(api_url: str) -> str:
    """GitHub's address for people, made from that of its API; empty where it cannot be told."""
    if api_url.endswith("/api/v3"):  # GitHub Enterprise Server
        return api_url.removesuffix("/api/v3")
    parts = urlsplit(api_url)
    if parts.netloc.startswith("api."):  # github.com, and <name>.ghe.com
        return f"{parts.scheme}://{parts.netloc.removeprefix('api.')}"
    return ""
