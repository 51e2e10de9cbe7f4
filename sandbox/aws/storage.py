"""S3, parameters and secrets as the other parts of the simulator use them: moto's own, without an HTTP call."""

from __future__ import annotations

import json
import mimetypes
from typing import Any

from moto.s3.models import s3_backends

from sandbox.aws.events import ACCOUNT, REGION


class NoSuchObjectError(LookupError):
    """There is no such bucket or object."""


def _backend() -> Any:
    return s3_backends[ACCOUNT]["aws"]


def buckets() -> list[str]:
    """The names of all buckets."""
    return sorted(_backend().buckets)


def empty(bucket: str) -> bool:
    """Whether a bucket holds nothing: no object, no older version, no delete marker."""
    held = _backend().buckets.get(bucket)
    return held is None or not any(True for _ in held.keys.iterlists())


def objects(bucket: str) -> list[str]:
    """The keys of a bucket's current objects."""
    held = _backend().buckets.get(bucket)
    return sorted(held.keys) if held else []


def read(bucket: str, key: str) -> tuple[bytes, str]:
    """An object's content and its content type.

    Raises:
        NoSuchObjectError: there is none.
    """
    if bucket not in _backend().buckets:
        raise NoSuchObjectError(f"no bucket {bucket}")
    found = _backend().get_object(bucket, key)
    if found is None:
        raise NoSuchObjectError(f"no object {key} in bucket {bucket}")
    return bytes(found.value), str(found.metadata.get("content-type", "binary/octet-stream"))


def write(bucket: str, key: str, content: bytes, content_type: str | None = None) -> None:
    """Put an object; without a content type it is guessed from the key.

    Raises:
        NoSuchObjectError: there is no such bucket.
    """
    if bucket not in _backend().buckets:
        raise NoSuchObjectError(f"The specified bucket does not exist: {bucket}")
    guessed = content_type or mimetypes.guess_type(key)[0] or "binary/octet-stream"
    if guessed.startswith("text/") and "charset" not in guessed:
        guessed += "; charset=utf-8"
    _backend().put_object(bucket, key, content).set_metadata({"Content-Type": guessed})


def parameter(name: str) -> str:
    """The value of a parameter of SSM's Parameter Store.

    Raises:
        NoSuchObjectError: there is none.
    """
    # Imported when first needed: it draws in models that take seconds.
    from moto.ssm.models import ssm_backends

    found = ssm_backends[ACCOUNT][REGION].get_parameter(name)
    if found is None:
        raise NoSuchObjectError(f"there is no SSM parameter {name}")
    return str(found.response_object(True)["Value"])


def role_exists(arn: str) -> bool:
    """Whether IAM has the role."""
    from moto.iam.models import iam_backends

    return any(role.arn == arn for role in iam_backends[ACCOUNT]["aws"].roles.values())


def secret(reference: str) -> str:
    """A secret's text, or a key of it: `name`, or `name:key`.

    Raises:
        NoSuchObjectError: there is none.
    """
    from moto.secretsmanager.exceptions import SecretNotFoundException
    from moto.secretsmanager.models import secretsmanager_backends

    name, _, key = reference.partition(":")
    if reference.startswith("arn:"):
        parts = reference.split(":")
        name, key = ":".join(parts[:7]), parts[7] if len(parts) > 7 else ""
    try:
        text = str(secretsmanager_backends[ACCOUNT][REGION].get_secret_value(name, "", "")["SecretString"])
        return str(json.loads(text)[key]) if key else text
    except (SecretNotFoundException, KeyError, ValueError) as error:
        raise NoSuchObjectError(f"there is no secret {reference}") from error
