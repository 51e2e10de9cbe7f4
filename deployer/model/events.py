"""Deliveries read without any I/O: signature, payload, and the typed event they mean."""

import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from deployer.model.environments import Repository
from deployer.model.errors import PayloadError, SignatureError
from deployer.model.refs import Ref, is_full_sha, parse_sha

BODY_LIMIT = 25 * 1024 * 1024  # GitHub's own limit for a payload
_DELIVERY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
_STACK_ARN = re.compile(
    r"arn:[a-z-]+:cloudformation:([a-z0-9-]+):(\d{12}):stack/([A-Za-z][-A-Za-z0-9]*)/[^/]+"
)
_TEXT_LIMIT = 1024  # characters; no field that is read is longer, and what is read may be kept
_PIECE = re.compile(rb"(?s)(?:%..|.){1,65536}")
_FIELDS_LIMIT = 20  # of a form; GitHub sends one
_DUPLICATED = {
    "create": "a push event says the same of a created ref",
    "delete": "a push event says the same of a deleted ref",
}
_REPOSITORY_ACTIONS = {
    "archived", "unarchived", "deleted", "edited", "privatized", "publicized", "renamed", "transferred",
}  # fmt: skip
_INSTALLATION_WORDS = {
    "created": "", "unsuspend": "", "new_permissions_accepted": "", "added": "",
    "deleted": "removed", "suspend": "removed", "removed": "removed",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Push:
    """A ref was created, moved or deleted on GitHub.

    Attributes:
        before: the commit or tag object before, all zeros if the ref was created.
        after: the commit or tag object after, all zeros if the ref was deleted.
        message: the head commit's message, empty where it was not told.
        pushed_at: when GitHub took the push, in epoch seconds; 0 where it was not told.
        repository_id: GitHub's own number of the repository; 0 where it was not told.
        commit: the commit that the ref points to: of an annotated tag not the tag object; empty if it was deleted.
    """

    delivery: str
    repository: Repository
    ref: Ref
    before: str
    after: str
    default_branch: str
    message: str = ""
    pushed_at: float = 0
    repository_id: int = 0
    commit: str = ""

    @property
    def deleted(self) -> bool:
        """Whether the ref is gone."""
        return not self.after.strip("0")  # 40 zeros, or 64 where commits have SHA-256 ids


@dataclass(frozen=True, slots=True)
class RepositoryChange:
    """Something happened to repositories as a whole: renamed, archived, out of reach.

    Attributes:
        about: the event and its action.
        repositories: those to look at, the one that the event is about first.
        owner: where it names none: all that are known of this owner.
        word: `deleted` or `removed` where GitHub's API could afterwards say no more than "not found".
    """

    delivery: str
    about: str
    repositories: tuple[Repository, ...] = ()
    owner: str = ""
    word: str = ""


@dataclass(frozen=True, slots=True)
class Ping:
    """GitHub asks whether the webhook works."""

    delivery: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A delivery that calls for nothing, and why.

    Attributes:
        repository: None where the event names none.
        ref: what was pushed, if that is neither a branch nor a tag.
    """

    delivery: str
    reason: str
    repository: Repository | None = None
    ref: str = ""


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """CodePipeline or CloudFormation says that a pipeline or stack changed.

    Attributes:
        stack_name: the stack's name, which is the pipeline's too.
        about: what happened in words, such as `stage Build: SUCCEEDED`.
        execution: the pipeline execution, or None for a stack's event.
        account, region: where it happened; empty where the event does not say it.
    """

    delivery: str
    stack_name: str
    about: str
    execution: str | None = None
    account: str = ""
    region: str = ""


class BodySignature:
    """Checks `X-Hub-Signature-256` over a body that comes in parts: nobody holds the body before it is verified.

    Args:
        secrets: every secret in force; several while one is being rotated.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._digests = [hmac.new(secret.encode(), digestmod=hashlib.sha256) for secret in secrets]

    def update(self, part: bytes) -> None:
        """Add the next part of the body, exactly as received."""
        for digest in self._digests:
            digest.update(part)

    def verify(self, header: str | None) -> None:
        """Compare in constant time.

        Args:
            header: the header's value, or None if it is missing.

        Raises:
            SignatureError: there is no such header, or no secret gives that signature.
        """
        if header is None:
            raise SignatureError("the header X-Hub-Signature-256 is missing; set a secret for the webhook")
        given = header.encode("utf-8", "replace")
        matches = [
            hmac.compare_digest(b"sha256=" + digest.hexdigest().encode(), given) for digest in self._digests
        ]
        if not any(matches):
            raise SignatureError("X-Hub-Signature-256 does not match the body; compare the webhook's secret")


def verify_signature(body: bytes, header: str | None, secrets: Sequence[str]) -> None:
    """Check `X-Hub-Signature-256` over the raw bytes of a whole body.

    Args:
        body: the body, exactly as received.
        header: the header's value, or None if it is missing.
        secrets: every secret in force.

    Raises:
        SignatureError: there is no such header, or no secret gives that signature.
    """
    signature = BodySignature(secrets)
    signature.update(body)
    signature.verify(header)


def verify_key(given: str | None, key: str) -> None:
    """Check `X-Deployer-Event-Key` in constant time.

    Raises:
        SignatureError: it is missing or another one.
    """
    if given is None or not hmac.compare_digest(given.encode("utf-8", "replace"), key.encode()):
        raise SignatureError("the header X-Deployer-Event-Key is missing or wrong")


def parse_github(headers: Mapping[str, str], body: bytes) -> Push | RepositoryChange | Ping | Ignored:
    """Read a delivery of GitHub whose signature was verified.

    Args:
        headers: the request's headers, looked up without case.
        body: JSON, or a form with the JSON in its field `payload`.

    Raises:
        PayloadError: a header or field is missing or is not what GitHub sends.
    """
    kind = headers.get("X-GitHub-Event")
    if not kind:
        raise PayloadError("the header X-GitHub-Event is missing")
    delivery = headers.get("X-GitHub-Delivery") or ""
    if not _DELIVERY.fullmatch(delivery):
        raise PayloadError("the header X-GitHub-Delivery is missing or malformed")
    if headers.get("Content-Type", "").partition(";")[0].strip() == "application/x-www-form-urlencoded":
        body = _form_payload(body)
    payload = _json_object(body)
    if kind == "ping":
        return Ping(delivery)
    if kind in {"repository", "public"}:
        return _repository_change(delivery, kind, payload)
    if kind in {"installation", "installation_repositories", "installation_target"}:
        return _installation_change(delivery, kind, payload)
    if kind != "push":
        reason = _DUPLICATED.get(kind, f"event {kind[:50]} does not drive a pipeline")
        return Ignored(delivery, reason)
    return _push(delivery, payload)


def parse_aws(body: bytes) -> CloudEvent | Ignored:
    """Read an EventBridge event about a pipeline or stack.

    Raises:
        PayloadError: it is not an EventBridge event, or lacks a field of its type.
    """
    payload = _json_object(body)
    delivery = _text(payload, "id")
    if not _DELIVERY.fullmatch(delivery):
        raise PayloadError("field id is malformed")
    source = _text(payload, "source")
    detail_type = _text(payload, "detail-type")
    detail = _object(payload, "detail")
    account, region = (_text(payload, name) if name in payload else "" for name in ("account", "region"))
    if source == "aws.codepipeline":
        what = detail_type.removeprefix("CodePipeline ").removesuffix(" Execution State Change")
        if what not in {"Pipeline", "Stage"}:
            return Ignored(delivery, f"{detail_type[:80]} is told by its stage's event")
        state = _text(detail, "state")
        about = f"stage {_text(detail, 'stage')}: {state}" if what == "Stage" else f"execution: {state}"
        return CloudEvent(
            delivery, _text(detail, "pipeline"), about, _text(detail, "execution-id"), account, region
        )
    if source == "aws.cloudformation" and detail_type == "CloudFormation Stack Status Change":
        found = _STACK_ARN.fullmatch(_text(detail, "stack-id"))
        if not found:
            raise PayloadError("field detail.stack-id is not a stack's ARN")
        status = _text(_object(detail, "status-details"), "status")
        region, account, name = found.groups()
        if status.endswith("_IN_PROGRESS"):
            return Ignored(delivery, f"stack {name[:128]} is {status}; its end is what counts")
        return CloudEvent(delivery, name, f"stack: {status}", account=account, region=region)
    return Ignored(delivery, f"{source[:50]} {detail_type[:80]} is no event of a pipeline or stack")


def _push(delivery: str, payload: dict[str, Any]) -> Push | Ignored:
    repository_fields = _object(payload, "repository")
    repository = Repository.parse(_text(repository_fields, "full_name"))
    name = _text(payload, "ref")
    if not name.startswith(("refs/heads/", "refs/tags/")):
        return Ignored(delivery, f"{name[:100]} is neither a branch nor a tag", repository, name)
    after, head_commit = parse_sha(_text(payload, "after")), payload.get("head_commit")
    return Push(
        delivery=delivery,
        repository=repository,
        ref=Ref.parse(name),
        before=parse_sha(_text(payload, "before")),
        after=after,
        default_branch=Ref.of_branch(_text(repository_fields, "default_branch")).branch,
        message=_message(head_commit),
        pushed_at=_seconds(repository_fields.get("pushed_at")),
        repository_id=identity if type(identity := repository_fields.get("id")) is int else 0,
        commit=_commit(head_commit, after),
    )


def _repository_change(delivery: str, kind: str, payload: dict[str, Any]) -> RepositoryChange | Ignored:
    fields = _object(payload, "repository")
    repository = Repository.parse(_text(fields, "full_name"))
    if kind == "public":
        return RepositoryChange(delivery, "public", (repository,))
    action = _text(payload, "action")
    about = f"repository {action[:50]}"
    changes = _object(payload, "changes") if action in {"edited", "renamed", "transferred"} else {}
    if action not in _REPOSITORY_ACTIONS or (action == "edited" and "default_branch" not in changes):
        return Ignored(delivery, f"{about} concerns no pipeline", repository)
    former: tuple[Repository, ...] = ()
    if action == "renamed":
        name = _text(_object(_object(changes, "repository"), "name"), "from")
        former = (Repository.parse(f"{repository.owner}/{name}"),)
    elif action == "transferred":
        owner = _object(_object(changes, "owner"), "from")
        login = _text(_object(owner, "user" if "user" in owner else "organization"), "login")
        former = (Repository.parse(f"{login}/{repository.name}"),)
    return RepositoryChange(
        delivery, about, (repository, *former), word="deleted" if action == "deleted" else ""
    )


def _installation_change(delivery: str, kind: str, payload: dict[str, Any]) -> RepositoryChange | Ignored:
    action = _text(payload, "action")
    about = f"{kind} {action[:50]}"
    if kind == "installation_target":
        if action != "renamed":
            return Ignored(delivery, f"{about} concerns no pipeline")
        # its repositories have moved one and all; where to, each tells itself
        former = _text(_object(_object(payload, "changes"), "login"), "from")
        return RepositoryChange(delivery, about, owner=former)
    if action not in _INSTALLATION_WORDS:
        return Ignored(delivery, f"{about} concerns no pipeline")
    listed = f"repositories_{action}" if kind == "installation_repositories" else "repositories"
    named = tuple(Repository.parse(_text(each, "full_name")) for each in _objects(payload, listed))
    owner = _text(_object(_object(payload, "installation"), "account"), "login")
    return RepositoryChange(
        delivery, about, named, owner="" if named else owner, word=_INSTALLATION_WORDS[action]
    )


def _message(head_commit: object) -> str:
    """The head commit's message; empty where there is none, as in a deletion."""
    return str(head_commit.get("message") or "") if isinstance(head_commit, dict) else ""


def _commit(head_commit: object, after: str) -> str:
    """The head commit's id, or else the object that the ref was moved to; empty for a deletion."""
    found = head_commit.get("id") if isinstance(head_commit, dict) else None
    if isinstance(found, str) and is_full_sha(found):
        return found
    return after if after.strip("0") else ""


def _seconds(value: object) -> float:
    """GitHub's time of the push in epoch seconds; 0 where it is not told."""
    return float(value) if isinstance(value, (int, float)) and 0 < value < 1e11 else 0.0


def _form_payload(body: bytes) -> bytes:
    if not body.isascii() or body.count(b"&") >= _FIELDS_LIMIT:
        raise PayloadError("the form-encoded body cannot be read")
    for field in body.split(b"&"):
        name, _, value = field.partition(b"=")
        if name == b"payload" and value:
            # in pieces: urllib makes an object of every `%XX` first, gigabytes of them for a body of 25 MB
            pieces = _PIECE.findall(value.replace(b"+", b" "))
            return b"".join(unquote_to_bytes(piece) for piece in pieces)
    raise PayloadError("the form-encoded body has no field payload")


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise PayloadError("the body is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise PayloadError("the body is not JSON") from error
    if not isinstance(value, dict):
        raise PayloadError("the body is not a JSON object")
    return value


def _field(fields: dict[str, Any], name: str, kind: type) -> Any:
    if name not in fields:
        raise PayloadError(f"field {name} is missing")
    if not isinstance(fields[name], kind):
        raise PayloadError(f"field {name} is not {'text' if kind is str else 'an object'}")
    return fields[name]


def _text(fields: dict[str, Any], name: str) -> str:
    value = str(_field(fields, name, str))
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair, which no UTF-8 holds
        raise PayloadError(f"field {name} is not valid Unicode") from error
    if len(value) > _TEXT_LIMIT:
        raise PayloadError(f"field {name} is longer than {_TEXT_LIMIT:,} characters")
    return value


def _objects(fields: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of objects; empty where it is not there."""
    listed = fields.get(name) or []
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise PayloadError(f"field {name} is not a list of objects")
    return listed


def _object(fields: dict[str, Any], name: str) -> dict[str, Any]:
    value: dict[str, Any] = _field(fields, name, dict)
    return value
