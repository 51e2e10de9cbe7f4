"""The API under `/api/v1`, described by `web/openapi.py`."""

from flask import Blueprint, jsonify, request
from werkzeug.wrappers import Response

from deployer.environment.commit_ids import resolve_commit
from deployer.model import listings
from deployer.model.durations import NEVER, parse_duration
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import (
    NotFoundError,
    PayloadError,
    PermanentError,
    TransientError,
    UnavailableError,
    one_line,
)
from deployer.model.refs import Ref, parse_sha, parse_sha_prefix
from deployer.queue.dead_letter_record import DeadLetter
from deployer.queue.dead_letters import (
    LetterResult,
    act_on_dead_letters,
    matches_filters,
    matching_dead_letters,
    replay_order,
)
from deployer.queue.items import Cause
from deployer.queue.store import Accepted
from deployer.queue.submit import APPROVER_LENGTH, WorkSubmitter
from deployer.resync.missed_deliveries import APP
from deployer.views import record_json
from web.context import TOKEN, deployer, principal
from web.openapi import DESCRIPTION
from web.parameters import (
    read_cursor,
    read_json_body,
    read_limit,
    read_number,
    read_repository,
    write_cursor,
)

blueprint = Blueprint("api", __name__, url_prefix="/api/v1")
_ACTIVITY_LIMIT = 500  # the history of a repository has as many lines


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """Return the description of the API."""
    return _json_response(DESCRIPTION)


# --- reading -----------------------------------------------------------------------------------------------------


@blueprint.get("/environments")
def environments() -> Response:
    """Return all environments, or those of one repository; deleted ones only on request."""
    deleted = request.args.get("deleted", "0") in {"1", "true"}
    names = [listings.ALL if deleted else listings.PRESENT]
    after, limit = read_cursor(), read_limit()
    page = deployer().lanes.environment_page(names, read_repository(), after=after, limit=limit)
    found = [_environment_as_json(each) for each in page.rows]
    return _json_response({"environments": found, "next": write_cursor(page.last)})


@blueprint.get("/environments/<identity>")
def environment(identity: str) -> Response:
    """Return one environment by its id, which is the name of its stack."""
    _, record = known_environment(identity)
    if record is None:
        raise NotFoundError(f"the first task of {identity} is still queued; see /api/v1/lanes")
    return _json_response(_environment_as_json(record))


@blueprint.get("/repositories")
def repositories() -> Response:
    """Return all repositories, and the deliveries to the GitHub App's webhook."""
    lanes = deployer().lanes
    app = next(iter(lanes.repository_records([APP])), None)
    page = lanes.repository_page(after=read_cursor(), limit=read_limit())
    return _json_response(
        {
            "repositories": record_json.repositories(lanes, page.rows, deployer().config.orphan_seconds),
            "app": record_json.deliveries(app) if app else None,
            "next": write_cursor(page.last),
        }
    )


@blueprint.get("/deliveries/<identity>")
def delivery(identity: str) -> Response:
    """Return the outcome of a delivery."""
    record = deployer().lanes.delivery(identity)
    if record is None:
        raise NotFoundError(
            f"there is no delivery {identity[:100]}; it was never received, or ended over 30 days ago"
        )
    return _json_response(record_json.delivery(record))


@blueprint.get("/activity")
def activity() -> Response:
    """Return the latest outcomes, newest first: all, or those of one repository or one request id."""
    limit = read_number("limit", 50, 1, _ACTIVITY_LIMIT)
    goal = request.args.get("goal")
    lanes, repository = deployer().lanes, read_repository()
    if goal and repository is None:
        repository = lanes.goal_repository(goal)
    lines = lanes.activity(repository, _ACTIVITY_LIMIT if goal else limit)
    found = [record_json.activity_line(line) for line in lines if not goal or line.goal == goal]
    return _json_response({"activity": found[:limit]})


@blueprint.get("/lanes")
def lanes() -> Response:
    """Return the queues (lanes) that have work."""
    page = deployer().lanes.lane_page(after=read_cursor(), limit=read_limit())
    found = [record_json.lane(lane) for lane in page.rows]
    return _json_response({"lanes": found, "next": write_cursor(page.last)})


@blueprint.get("/dead-letters")
def dead_letters() -> Response:
    """Return the dead letters that match the filters, oldest first."""
    kind, task = request.args.get("kind", ""), request.args.get("task", "")
    after, limit = read_cursor(), read_limit()
    page = deployer().lanes.dead_letter_page(read_repository(), after=after, limit=limit)
    found = [record_json.dead_letter(each) for each in page.rows if matches_filters(each, kind, task)]
    return _json_response({"dead_letters": found, "next": write_cursor(page.last)})


@blueprint.get("/dead-letters/<identity>")
def dead_letter(identity: str) -> Response:
    """Return one dead letter with its traceback."""
    letter = deployer().lanes.find_dead_letter(identity)
    if letter is None:
        raise NotFoundError(f"there is no dead letter {identity[:100]}; see /api/v1/dead-letters")
    return _json_response(record_json.dead_letter(letter, whole=True))


# --- queueing work -----------------------------------------------------------------------------------------------


@blueprint.post("/resync")
def resync() -> Response:
    """Queue a resync of one repository, or of all that are known or named in DEPLOYER_REPOSITORIES."""
    fields = read_json_body("repository", "all", "recreate")
    submitter, recreate = deployer().submitter, fields.get("recreate", False)
    if not isinstance(recreate, bool):
        raise PayloadError("field recreate must be true or false")
    if fields.get("all") is True and "repository" not in fields:
        tasks = [
            {"repository": str(each), "id": submitter.resync(each, in_turn=True, recreate=recreate).goal}
            for each in _served_repositories()
        ]
        return _json_response({"outcome": "queued", "tasks": tasks}, 202)
    if not isinstance(fields.get("repository"), str) or fields.get("all"):
        raise PayloadError('the body must be {"repository": "owner/name"} or {"all": true}')
    repository = submitter.as_github_spells(Repository.parse(fields["repository"]))
    return _queued_response(submitter.resync(repository, recreate=recreate), repository)


@blueprint.post("/environments/<identity>/redeploy")
def redeploy(identity: str) -> Response:
    """Queue a deployment of the head of an environment's ref, or of a given commit."""
    sha = read_json_body("sha").get("sha", "")
    if not isinstance(sha, str):
        raise PayloadError("field sha is not text")
    if sha:
        sha = parse_sha_prefix(sha)
    found, record = known_environment(identity)
    if sha:
        deployer().submitter.require_served(found.repository)
        sha = _full_sha(found.repository, sha)
    return _queue_request(found, record, Cause.REDEPLOY, sha)


@blueprint.post("/environments/<identity>/approve")
def approve(identity: str) -> Response:
    """Queue a production deployment of a tag that the rules refuse.

    Raises:
        PayloadError: the body has no tag, or no commit id.
        PermanentError: the environment is not production.
    """
    fields = read_json_body("tag", "commit", "by")
    if not isinstance(fields.get("tag"), str) or not all(isinstance(each, str) for each in fields.values()):
        raise PayloadError('the body must be {"tag": "v1", "commit": "<full id>"}; the field by is optional')
    tag = Ref.of_tag(fields["tag"])
    if not fields.get("commit"):
        raise PayloadError(
            f"field commit is missing: the full id of the commit of {tag.short} that is approved; see refused_tags of "
            "the environment"
        )
    commit = parse_sha(fields["commit"])
    found, _ = known_environment(identity)
    if found.kind is not Kind.PRODUCTION:
        raise PermanentError(f"{found} is not production; only production needs approvals")
    accepted = deployer().submitter.approve(
        found.repository, tag, commit, _approver_name(fields.get("by", ""))
    )
    return _queued_response(accepted, found.repository, found.stack_name)


def _approver_name(name: str) -> str:
    """Return the caller for the record. Callers share the API token, so a name in the body is only a claim."""
    caller = "the API token" if principal() == TOKEN else principal()
    # only the claimed name is cut, because a long one must not remove the real caller from the record
    room = APPROVER_LENGTH - len(one_line(f" (by {caller})")) - 1
    name = one_line(name).strip()[: max(room, 0)].strip()
    return f"{name} (by {caller})" if name else caller


@blueprint.post("/environments/<identity>/keep")
def keep(identity: str) -> Response:
    """Postpone the expiry of a development environment, as if it were used now, for a time or for good.

    Raises:
        PermanentError: the environment never expires, or does not exist.
    """
    length = read_json_body("for").get("for", "")
    if not isinstance(length, str):
        raise PayloadError("field for is not text")
    try:
        seconds = NEVER if length == "ever" else parse_duration(length) if length else 0
    except ValueError as error:
        raise PayloadError(str(error)) from error
    found, _ = known_environment(identity)
    return _json_response(_environment_as_json(deployer().submitter.keep_environment(found, seconds)))


@blueprint.delete("/environments/<identity>")
def delete_environment(identity: str) -> Response:
    """Queue the deletion of a development environment.

    Raises:
        PermanentError: the environment is staging or production.
    """
    found, record = known_environment(identity)
    return _queue_request(found, record, Cause.TEARDOWN)


@blueprint.post("/dead-letters/replay")
def replay_all() -> Response:
    """Queue the work of all dead letters that match the body again."""
    found = _chosen_letters()
    submitter = deployer().submitter
    settled = act_on_dead_letters(replay_order(found), lambda letter: submitter.replay(letter).goal)
    repositories = {letter.id: letter.repository for letter in found}
    tasks = [
        {"dead_letter": each.letter, "repository": repositories[each.letter], "id": each.task}
        for each in settled
        if not each.error
    ]
    return _json_response({"outcome": "queued", "tasks": tasks, "failed": _failed_letters(settled)}, 202)


@blueprint.post("/dead-letters/discard")
def discard_all() -> Response:
    """Remove all dead letters that match the body from the list."""
    lanes = deployer().lanes

    def discard_letter(letter: str) -> str:
        lanes.discard(letter)
        return ""

    settled = act_on_dead_letters([letter.id for letter in _chosen_letters()], discard_letter)
    ids = [each.letter for each in settled if not each.error]
    return _json_response(
        {"outcome": "discarded", "dead_letters": ids, "failed": _failed_letters(settled)}, 202
    )


@blueprint.post("/dead-letters/<identity>/replay")
def replay(identity: str) -> Response:
    """Queue the work of a dead letter again."""
    letter = deployer().lanes.find_dead_letter(identity)
    accepted = deployer().submitter.replay(identity)  # raises an error if the dead letter does not exist
    return _queued_response(accepted, letter.repository if letter else None)


@blueprint.delete("/dead-letters/<identity>")
def discard(identity: str) -> Response:
    """Remove a dead letter from the list."""
    deployer().lanes.discard(identity)
    return _json_response({"id": identity, "outcome": "discarded"}, 202)


# --- requests and responses --------------------------------------------------------------------------------------


def base_url() -> str:
    """Return the URL of the dashboard."""
    return (deployer().config.public_url or request.host_url).rstrip("/")


def known_environment(identity: str) -> tuple[Environment, EnvironmentRecord | None]:
    """Return the environment with this id, and its record if a task has already written one.

    Raises:
        NotFoundError: there is no such environment.
    """
    lanes = deployer().lanes
    found = lanes.find(identity)
    if found is None:
        raise NotFoundError(
            f"there is no environment {identity[:100]}; if Redis lost its data, a resync finds it again"
        )
    return found, lanes.environment(found)


def _environment_as_json(record: EnvironmentRecord) -> record_json.Json:
    return record_json.environment(record, base_url(), deployer().config.ttl)


def _queue_request(
    found: Environment, record: EnvironmentRecord | None, cause: Cause, sha: str = ""
) -> Response:
    submitter: WorkSubmitter = deployer().submitter
    ref = found.branch.name if found.branch else (record.spec.ref if record else "")
    accepted = submitter.request_environment(found, cause=cause, ref=ref, sha=sha)
    return _queued_response(accepted, found.repository, found.stack_name)


def _full_sha(repository: Repository, prefix: str) -> str:
    """Return the full id of a commit. GitHub is asked only if the id is incomplete.

    Raises:
        NotFoundError, PermanentError: see `resolve_commit`.
        UnavailableError: GitHub does not answer.
    """
    try:
        return resolve_commit(deployer().host, repository, prefix, check_full=False)
    except TransientError as error:
        raise UnavailableError(str(error)) from error


def _queued_response(accepted: Accepted, repository: object, environment: str | None = None) -> Response:
    answer = {
        "id": accepted.goal,
        "outcome": accepted.outcome,
        "repository": str(repository) if repository else None,
        "environment_id": environment,
    }
    return _json_response(answer, 202)


def _chosen_letters() -> list[DeadLetter]:
    """Return the dead letters that match the body.

    Raises:
        PayloadError: the body lacks `all`, or has an unknown field.
    """
    fields = read_json_body("all", "kind", "repository", "task")
    filters = {name: value for name, value in fields.items() if name != "all"}
    if fields.get("all") is not True or not all(isinstance(each, str) for each in filters.values()):
        raise PayloadError(
            'the body must be {"all": true}; the fields kind, repository and task are optional filters'
        )
    repository = Repository.parse(filters["repository"]) if filters.get("repository") else None
    kind, task = filters.get("kind", ""), filters.get("task", "")
    return matching_dead_letters(deployer().lanes, repository, kind, task)


def _failed_letters(settled: list[LetterResult]) -> list[dict[str, str]]:
    return [{"dead_letter": each.letter, "error": each.error} for each in settled if each.error]


def _served_repositories() -> list[Repository]:
    config = deployer().config
    listed = [*config.named_repositories(), *deployer().lanes.repositories()]
    found = {each.key: each for each in listed if config.allows(each)}
    return sorted(found.values(), key=lambda each: each.key)


def _json_response(value: object, code: int = 200) -> Response:
    response: Response = jsonify(value)
    response.status_code = code
    return response
