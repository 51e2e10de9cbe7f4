"""`/api/v1`: the same that the command line does, for programs.

`web/openapi.py` describes it; `web/access.py` decides who may call it.
"""

import json
from typing import Any

from flask import Blueprint, jsonify, request
from werkzeug.wrappers import Response

from deployer.environment.commit_ids import resolve_commit
from deployer.model.durations import NEVER, duration
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import (
    NotFoundError,
    PayloadError,
    PermanentError,
    TransientError,
    UnavailableError,
    one_line,
)
from deployer.model.records import Cause, DeadLetter, EnvironmentRecord
from deployer.model.refs import Ref, parse_sha, parse_sha_prefix
from deployer.queue import dead_letters as letters
from deployer.queue.store import Accepted
from deployer.queue.submit import LONGEST_APPROVER, Intake
from deployer.resync.missed_deliveries import APP
from deployer.views import record_json as shapes
from web.answers import BROKEN, CUT_OFF
from web.context import TOKEN, deployer, principal
from web.openapi import DESCRIPTION

blueprint = Blueprint("api", __name__, url_prefix="/api/v1")
_ACTIVITY_LIMIT = 500  # as many lines as a repository's history keeps


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """The API's description."""
    return _json(DESCRIPTION)


# --- looking ------------------------------------------------------------------------------------------------------


@blueprint.get("/environments")
def environments() -> Response:
    """Every environment, or those of one repository; deleted ones only if asked for."""
    deleted = request.args.get("deleted", "0") in {"1", "true"}
    records = deployer().lanes.environments(_repository_filter())
    return _json(
        {"environments": [_environment(record) for record in records if deleted or record.state != "deleted"]}
    )


@blueprint.get("/environments/<identity>")
def environment(identity: str) -> Response:
    """One environment by its id, which is its stack's name."""
    _, record = known_environment(identity)
    if record is None:
        raise NotFoundError(f"{identity} waits for its first task; see /api/v1/lanes")
    return _json(_environment(record))


@blueprint.get("/repositories")
def repositories() -> Response:
    """Every repository as a whole, and what is known of the GitHub App's own webhook."""
    lanes = deployer().lanes
    app = next(iter(lanes.repository_records([APP])), None)
    return _json(
        {
            "repositories": shapes.repositories(lanes, deployer().config.orphan_seconds),
            "app": shapes.deliveries(app) if app else None,
        }
    )


@blueprint.get("/deliveries/<identity>")
def delivery(identity: str) -> Response:
    """What became of a delivery."""
    record = deployer().lanes.delivery(identity)
    if record is None:
        raise NotFoundError(
            f"there is no delivery {identity[:100]}; it never came, or ended over 30 days ago"
        )
    return _json(shapes.delivery(record))


@blueprint.get("/activity")
def activity() -> Response:
    """The latest outcomes, newest first, of all, of one repository, or of one goal."""
    limit = _number("limit", 50, 1, _ACTIVITY_LIMIT)
    goal = request.args.get("goal")
    lines = deployer().lanes.activity(_repository_filter(), _ACTIVITY_LIMIT if goal else limit)
    found = [shapes.activity(line) for line in lines if not goal or line.goal == goal]
    return _json({"activity": found[:limit]})


@blueprint.get("/lanes")
def lanes() -> Response:
    """Every lane that holds or awaits something."""
    return _json({"lanes": [shapes.lane(lane) for lane in deployer().lanes.lanes()]})


@blueprint.get("/dead-letters")
def dead_letters() -> Response:
    """The dead letters that the filters choose, oldest first."""
    kind, task = request.args.get("kind", ""), request.args.get("task", "")
    found = letters.chosen(deployer().lanes, _repository_filter(), kind, task)
    return _json({"dead_letters": [shapes.dead_letter(letter) for letter in found]})


@blueprint.get("/dead-letters/<identity>")
def dead_letter(identity: str) -> Response:
    """One dead letter with its traceback."""
    letter = deployer().lanes.dead_letter(identity)
    if letter is None:
        raise NotFoundError(f"there is no dead letter {identity[:100]}; see /api/v1/dead-letters")
    return _json(shapes.dead_letter(letter, whole=True))


# --- asking for something -----------------------------------------------------------------------------------------


@blueprint.post("/resync")
def resync() -> Response:
    """Queue a look at one repository, or at all that are known or named by DEPLOYER_REPOSITORIES."""
    fields = _body("repository", "all")
    intake = deployer().intake
    if fields.get("all") is True and "repository" not in fields:
        queued = [(each, intake.resync(each, in_turn=True)) for each in _served_repositories()]
        tasks = [{"repository": str(each), "id": accepted.goal} for each, accepted in queued]
        return _json({"outcome": "queued", "tasks": tasks}, 202)
    if not isinstance(fields.get("repository"), str) or fields.get("all"):
        raise PayloadError('the body must be {"repository": "owner/name"} or {"all": true}')
    repository = intake.known(Repository.parse(fields["repository"]))
    return _queued(intake.resync(repository), repository)


@blueprint.post("/environments/<identity>/redeploy")
def redeploy(identity: str) -> Response:
    """Queue a deployment of an environment, of its ref's head or of a given commit."""
    sha = _body("sha").get("sha", "")
    if not isinstance(sha, str):
        raise PayloadError("field sha is not text")
    if sha:
        sha = parse_sha_prefix(sha)
    found, record = known_environment(identity)
    if sha:
        deployer().intake.insist(found.repository)
        sha = _full_sha(found.repository, sha)
    return _request(found, record, Cause.REDEPLOY, sha)


@blueprint.post("/environments/<identity>/approve")
def approve(identity: str) -> Response:
    """Queue a deployment to production of a tag that the rules refuse.

    Raises:
        PayloadError: the body names no tag, or no commit id.
        PermanentError: it is not production.
    """
    fields = _body("tag", "commit", "by")
    if not isinstance(fields.get("tag"), str) or not all(isinstance(each, str) for each in fields.values()):
        raise PayloadError('the body must be {"tag": "v1", "commit": "<full id>"}, with by if wanted')
    tag = Ref.of_tag(fields["tag"])
    if not fields.get("commit"):
        raise PayloadError(
            f"field commit is missing: the full id of the commit that {tag.short} is approved at; the environment's "
            "refused_tags tell it"
        )
    commit = parse_sha(fields["commit"])
    found, _ = known_environment(identity)
    if found.kind is not Kind.PRODUCTION:
        raise PermanentError(f"{found} is not production; only tags for production are approved")
    accepted = deployer().intake.approve(found.repository, tag, commit, _approver(fields.get("by", "")))
    return _queued(accepted, found.repository, found.stack_name)


def _approver(name: str) -> str:
    """Who calls, as it is recorded. All who have the token share it, so a name that they give is only a claim."""
    caller = "the API token" if principal() == TOKEN else principal()
    # the name is cut, never who it was: whoever calls must not be able to push that out of the record
    room = LONGEST_APPROVER - len(one_line(f" (by {caller})")) - 1
    name = one_line(name).strip()[: max(room, 0)].strip()
    return f"{name} (by {caller})" if name else caller


@blueprint.post("/environments/<identity>/keep")
def keep(identity: str) -> Response:
    """Keep a development environment as if it were used now, for a given time, or for good.

    Raises:
        PermanentError: it never ages, or does not stand.
    """
    length = _body("for").get("for", "")
    if not isinstance(length, str):
        raise PayloadError("field for is not text")
    try:
        seconds = NEVER if length == "ever" else duration(length) if length else 0
    except ValueError as error:
        raise PayloadError(str(error)) from error
    found, _ = known_environment(identity)
    return _json(_environment(deployer().intake.keep(found, seconds)))


@blueprint.delete("/environments/<identity>")
def delete_environment(identity: str) -> Response:
    """Queue the deletion of a development environment.

    Raises:
        PermanentError: it is staging or production.
    """
    found, record = known_environment(identity)
    return _request(found, record, Cause.TEARDOWN)


@blueprint.post("/dead-letters/replay")
def replay_all() -> Response:
    """Queue the work of all dead letters that the body chooses once more."""
    found = _chosen_letters()
    intake = deployer().intake
    settled = letters.settle(letters.in_order(found), lambda letter: intake.replay(letter).goal)
    repositories = {letter.id: letter.repository for letter in found}
    tasks = [
        {"dead_letter": each.letter, "repository": repositories[each.letter], "id": each.task}
        for each in settled
        if not each.error
    ]
    return _json({"outcome": "queued", "tasks": tasks, "failed": _failed(settled)}, 202)


@blueprint.post("/dead-letters/discard")
def discard_all() -> Response:
    """Take all dead letters that the body chooses off the list."""
    lanes = deployer().lanes

    def act(letter: str) -> str:
        lanes.discard(letter)
        return ""

    settled = letters.settle([letter.id for letter in _chosen_letters()], act)
    ids = [each.letter for each in settled if not each.error]
    return _json({"outcome": "discarded", "dead_letters": ids, "failed": _failed(settled)}, 202)


@blueprint.post("/dead-letters/<identity>/replay")
def replay(identity: str) -> Response:
    """Queue a dead letter's work once more."""
    letter = deployer().lanes.dead_letter(identity)
    accepted = deployer().intake.replay(identity)  # says so if there is no such letter
    return _queued(accepted, letter.repository if letter else None)


@blueprint.delete("/dead-letters/<identity>")
def discard(identity: str) -> Response:
    """Take a dead letter off the list."""
    deployer().lanes.discard(identity)
    return _json({"id": identity, "outcome": "discarded"}, 202)


# --- common -------------------------------------------------------------------------------------------------------


def base_url() -> str:
    """Where people reach the dashboard."""
    return (deployer().config.public_url or request.host_url).rstrip("/")


def known_environment(identity: str) -> tuple[Environment, EnvironmentRecord | None]:
    """The environment of this id, and its record once a task has written one.

    Raises:
        NotFoundError: nothing is known of it.
    """
    lanes = deployer().lanes
    found = lanes.find(identity)
    if found is None:
        raise NotFoundError(
            f"there is no environment {identity[:100]}; if Redis was wiped, a resync finds it again"
        )
    return found, lanes.environment(found)


def _environment(record: EnvironmentRecord) -> shapes.Json:
    return shapes.environment(record, base_url(), deployer().config.ttl)


def _request(found: Environment, record: EnvironmentRecord | None, cause: Cause, sha: str = "") -> Response:
    intake: Intake = deployer().intake
    ref = found.branch.name if found.branch else (record.ref if record else "")
    accepted = intake.request_environment(found, cause=cause, ref=ref, sha=sha)
    return _queued(accepted, found.repository, found.stack_name)


def _full_sha(repository: Repository, prefix: str) -> str:
    """The commit that a request names; GitHub is asked only about the beginning of an id.

    Raises:
        NotFoundError, PermanentError: see `resolve_commit`.
        UnavailableError: GitHub is away.
    """
    try:
        return resolve_commit(deployer().host, repository, prefix, check_full=False)
    except TransientError as error:
        raise UnavailableError(str(error)) from error


def _queued(accepted: Accepted, repository: object, environment: str | None = None) -> Response:
    answer = {
        "id": accepted.goal,
        "outcome": accepted.outcome,
        "repository": str(repository) if repository else None,
        "environment_id": environment,
    }
    return _json(answer, 202)


def _chosen_letters() -> list[DeadLetter]:
    """The dead letters that a body chooses.

    Raises:
        PayloadError: it does not say that all are meant, or has a field that chooses nothing.
    """
    fields = _body("all", "kind", "repository", "task")
    filters = {name: value for name, value in fields.items() if name != "all"}
    if fields.get("all") is not True or not all(isinstance(each, str) for each in filters.values()):
        raise PayloadError(
            'the body must be {"all": true}, with kind, repository and task to choose among them'
        )
    repository = Repository.parse(filters["repository"]) if filters.get("repository") else None
    return letters.chosen(deployer().lanes, repository, filters.get("kind", ""), filters.get("task", ""))


def _failed(settled: list[letters.Settled]) -> list[dict[str, str]]:
    return [{"dead_letter": each.letter, "error": each.error} for each in settled if each.error]


def _served_repositories() -> list[Repository]:
    config = deployer().config
    listed = [*config.named_repositories(), *deployer().lanes.repositories()]
    found = {each.key: each for each in listed if config.allows(each)}
    return sorted(found.values(), key=lambda each: each.key)


def _repository_filter() -> Repository | None:
    text = request.args.get("repository")
    return Repository.parse(text) if text else None


def _number(name: str, default: int, low: int, high: int) -> int:
    text = request.args.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not low <= int(text) <= high:
        raise PayloadError(f"{name} must be a number from {low} to {high}")
    return int(text)


def _body(*known: str) -> dict[str, Any]:
    """The body's JSON object; an empty body is an empty object.

    Args:
        known: the fields that it may have: one that is misspelt must not be taken for one that was left out.

    Raises:
        PayloadError: it is no such object.
    """
    try:
        raw = request.get_data()
    except BROKEN as error:
        raise PayloadError(CUT_OFF) from error
    if not raw.strip():
        return {}
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise PayloadError("the body is not JSON") from error
    if not isinstance(value, dict):
        raise PayloadError("the body is not a JSON object")
    if unknown := sorted(value.keys() - set(known)):
        raise PayloadError(
            f"the body has an unknown field {unknown[0][:100]!r}; it may have: {', '.join(known)}"
        )
    return value


def _json(value: object, code: int = 200) -> Response:
    response: Response = jsonify(value)
    response.status_code = code
    return response
