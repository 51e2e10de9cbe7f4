"""Webhook deliveries of GitHub: signature verified, body read as a typed event."""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from deployer.model.environments import Repository
from deployer.model.errors import PayloadError, SignatureError
from deployer.model.events import Ignored, Ping, PullRequestChange, Push, RepositoryChange
from deployer.model.json_fields import DELIVERY_ID, json_object, object_field, object_list_field, text_field
from deployer.model.refs import Ref, is_full_sha, parse_sha

BODY_LIMIT = 25 * 1024 * 1024  # GitHub's own limit for a payload
_PIECE = re.compile(rb"(?s)(?:%..|.){1,65536}")
_MOST_FORM_FIELDS = 20  # GitHub sends one
_LONGEST_LOGIN = 100  # GitHub's have at most 39 characters, or a few more for an App
_DUPLICATE_EVENTS = {
    "create": "a push event also reports the created ref",
    "delete": "a push event also reports the deleted ref",
}
_REPOSITORY_ACTIONS = {
    "archived", "unarchived", "deleted", "edited", "privatized", "publicized", "renamed", "transferred",
}  # fmt: skip
_PULL_REQUEST_ACTIONS = {"opened", "reopened", "synchronize", "closed"}
_STATES_OF_INSTALLATION = {
    "created": "", "unsuspend": "", "new_permissions_accepted": "", "added": "",
    "deleted": "removed", "suspend": "removed", "removed": "removed",
}  # fmt: skip


class BodySignature:
    """Verifies `X-Hub-Signature-256` over a body that is read in parts, so that no unverified body is held in memory.

    Args:
        secrets: every valid secret; several while a secret is being rotated.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._digests = [hmac.new(secret.encode(), digestmod=hashlib.sha256) for secret in secrets]

    def update(self, part: bytes) -> None:
        """Add the next part of the body, exactly as received."""
        for digest in self._digests:
            digest.update(part)

    def verify(self, header: str | None) -> None:
        """Compare the signature with the header's, in constant time.

        Args:
            header: the header's value, or None if it is missing.

        Raises:
            SignatureError: the header is missing, or no secret gives that signature.
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
    """Verify `X-Hub-Signature-256` over the raw bytes of a whole body.

    Args:
        body: the body, exactly as received.
        header: the header's value, or None if it is missing.
        secrets: every valid secret.

    Raises:
        SignatureError: the header is missing, or no secret gives that signature.
    """
    signature = BodySignature(secrets)
    signature.update(body)
    signature.verify(header)


def parse_delivery(
    headers: Mapping[str, str], body: bytes
) -> Push | RepositoryChange | PullRequestChange | Ping | Ignored:
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
    if not DELIVERY_ID.fullmatch(delivery):
        raise PayloadError("the header X-GitHub-Delivery is missing or malformed")
    if headers.get("Content-Type", "").partition(";")[0].strip() == "application/x-www-form-urlencoded":
        body = _form_payload(body)
    payload = json_object(body)
    if kind == "ping":
        return Ping(delivery)
    if kind in {"repository", "public"}:
        return _repository_change(delivery, kind, payload)
    if kind in {"installation", "installation_repositories", "installation_target"}:
        return _installation_change(delivery, kind, payload)
    if kind == "pull_request":
        return _read_pull_request(delivery, payload)
    if kind != "push":
        reason = _DUPLICATE_EVENTS.get(kind, f"event {kind[:50]} requires no work")
        return Ignored(delivery, reason)
    return _read_push(delivery, payload)


def _read_push(delivery: str, payload: dict[str, Any]) -> Push | Ignored:
    repository_fields = object_field(payload, "repository")
    repository = Repository.parse(text_field(repository_fields, "full_name"))
    name = text_field(payload, "ref")
    if not name.startswith(("refs/heads/", "refs/tags/")):
        return Ignored(delivery, f"{name[:100]} is neither a branch nor a tag", repository, name)
    after, head_commit = parse_sha(text_field(payload, "after")), payload.get("head_commit")
    return Push(
        delivery=delivery,
        repository=repository,
        ref=Ref.parse(name),
        before=parse_sha(text_field(payload, "before")),
        after=after,
        default_branch=Ref.of_branch(text_field(repository_fields, "default_branch")).branch,
        message=_commit_message(head_commit),
        pushed_at=_push_time(repository_fields.get("pushed_at")),
        repository_id=identity if type(identity := repository_fields.get("id")) is int else 0,
        commit=_commit_id(head_commit, after),
        sender=_sender_login(payload.get("sender")),
        installation=_installation_id(payload),
    )


def _read_pull_request(delivery: str, payload: dict[str, Any]) -> PullRequestChange | Ignored:
    repository_fields = object_field(payload, "repository")
    repository = Repository.parse(text_field(repository_fields, "full_name"))
    action = text_field(payload, "action")
    if action not in _PULL_REQUEST_ACTIONS:
        return Ignored(delivery, f"pull_request {action[:50]} concerns no pipeline", repository)
    pull = object_field(payload, "pull_request")
    number, head = pull.get("number"), object_field(pull, "head")
    if type(number) is not int or not 0 < number < 2**53:
        raise PayloadError("field number is not the number of a pull request")
    own = head.get("repo")  # null if the fork was deleted
    return PullRequestChange(
        delivery=delivery,
        repository=repository,
        action=action,
        number=number,
        head=Ref.of_branch(text_field(head, "ref")),
        sha=parse_sha(text_field(head, "sha")),
        from_fork=not isinstance(own, dict) or own.get("id") != repository_fields.get("id"),
        default_branch=Ref.of_branch(text_field(repository_fields, "default_branch")).branch,
        installation=_installation_id(payload),
    )


def _sender_login(sender: Any) -> str:
    """The login of who sent the event, or an empty text; it only decides about turns, so it refuses no delivery."""
    login = sender.get("login") if isinstance(sender, dict) else None
    known = isinstance(login, str) and login.isascii() and len(login) <= _LONGEST_LOGIN
    return str(login) if known else ""


def _repository_change(delivery: str, kind: str, payload: dict[str, Any]) -> RepositoryChange | Ignored:
    fields = object_field(payload, "repository")
    repository = Repository.parse(text_field(fields, "full_name"))
    if kind == "public":
        return RepositoryChange(delivery, "public", (repository,), installation=_installation_id(payload))
    action = text_field(payload, "action")
    about = f"repository {action[:50]}"
    changes = object_field(payload, "changes") if action in {"edited", "renamed", "transferred"} else {}
    if action not in _REPOSITORY_ACTIONS or (action == "edited" and "default_branch" not in changes):
        return Ignored(delivery, f"{about} concerns no pipeline", repository)
    former: tuple[Repository, ...] = ()
    if action == "renamed":
        name = text_field(object_field(object_field(changes, "repository"), "name"), "from")
        former = (Repository.parse(f"{repository.owner}/{name}"),)
    elif action == "transferred":
        owner = object_field(object_field(changes, "owner"), "from")
        login = text_field(object_field(owner, "user" if "user" in owner else "organization"), "login")
        former = (Repository.parse(f"{login}/{repository.name}"),)
    return RepositoryChange(
        delivery,
        about,
        (repository, *former),
        word="deleted" if action == "deleted" else "",
        installation=_installation_id(payload),
    )


def _installation_change(delivery: str, kind: str, payload: dict[str, Any]) -> RepositoryChange | Ignored:
    action = text_field(payload, "action")
    about = f"{kind} {action[:50]}"
    if kind == "installation_target":
        if action != "renamed":
            return Ignored(delivery, f"{about} concerns no pipeline")
        # all repositories of the owner were renamed; each one's new name is read from GitHub
        former = text_field(object_field(object_field(payload, "changes"), "login"), "from")
        return RepositoryChange(delivery, about, owner=former)
    if action not in _STATES_OF_INSTALLATION:
        return Ignored(delivery, f"{about} concerns no pipeline")
    listed = f"repositories_{action}" if kind == "installation_repositories" else "repositories"
    named = tuple(
        Repository.parse(text_field(each, "full_name")) for each in object_list_field(payload, listed)
    )
    owner = text_field(object_field(object_field(payload, "installation"), "account"), "login")
    return RepositoryChange(
        delivery,
        about,
        named,
        owner="" if named else owner,
        word=_STATES_OF_INSTALLATION[action],
        installation=_installation_id(payload),
    )


def _installation_id(payload: dict[str, Any]) -> int:
    """GitHub's id of the App's installation, which every delivery to an App names; 0 if a webhook of no App sent it."""
    installation = payload.get("installation")
    found = installation.get("id") if isinstance(installation, dict) else None
    return found if type(found) is int and 0 < found < 2**53 else 0


def _commit_message(head_commit: object) -> str:
    """The head commit's message; empty without a head commit, as in a deletion."""
    return str(head_commit.get("message") or "") if isinstance(head_commit, dict) else ""


def _commit_id(head_commit: object, after: str) -> str:
    """The head commit's id, or else the object that the ref was moved to; empty for a deletion."""
    found = head_commit.get("id") if isinstance(head_commit, dict) else None
    if isinstance(found, str) and is_full_sha(found):
        return found
    return after if after.strip("0") else ""


def _push_time(value: object) -> float:
    """GitHub's time of the push in epoch seconds; 0 if it is missing."""
    return float(value) if isinstance(value, (int, float)) and 0 < value < 1e11 else 0.0


def _form_payload(body: bytes) -> bytes:
    if not body.isascii() or body.count(b"&") >= _MOST_FORM_FIELDS:
        raise PayloadError("the form-encoded body cannot be read")
    for field in body.split(b"&"):
        name, _, value = field.partition(b"=")
        if name == b"payload" and value:
            # decoded in pieces: urllib first makes an object of every `%XX`, which takes gigabytes for 25 MB
            pieces = _PIECE.findall(value.replace(b"+", b" "))
            return b"".join(unquote_to_bytes(piece) for piece in pieces)
    raise PayloadError("the form-encoded body has no field payload")
