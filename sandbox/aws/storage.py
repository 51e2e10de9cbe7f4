"""The buckets, log groups, parameters or secrets in moto's models, used without HTTP."""

from __future__ import annotations

import json
import mimetypes
from typing import Any

from moto.s3.models import s3_backends

from sandbox.aws.places import Place


class NoSuchObjectError(LookupError):
    """A bucket, an object, a parameter or a secret does not exist."""


def bucket_names() -> list[str]:
    """The names of the buckets of all accounts."""
    return sorted(s3_backends.bucket_accounts)


def bucket(name: str) -> Any:
    """moto's model of a bucket.

    Raises:
        NoSuchObjectError: it does not exist.
    """
    if name not in s3_backends.bucket_accounts:
        raise NoSuchObjectError(f"no bucket {name}")
    return _backend(name).buckets[name]


def bucket_place(name: str) -> Place:
    """The account and the region of a bucket."""
    return Place(s3_backends.bucket_accounts[name][1], bucket(name).region_name)


def _backend(name: str) -> Any:
    partition, account = s3_backends.bucket_accounts[name]
    return s3_backends[account][partition]


def is_empty(name: str) -> bool:
    """Whether a bucket has no object, no older version and no delete marker.

    Unfinished multipart uploads do not count, because in S3 they prevent only the deletion of directory buckets.
    """
    return name not in bucket_names() or not any(True for _ in bucket(name).keys.iterlists())


def object_keys(name: str) -> list[str]:
    """The keys of a bucket's current objects."""
    return sorted(bucket(name).keys) if name in bucket_names() else []


def read_object(name: str, key: str) -> tuple[bytes, str]:
    """An object's content and its content type.

    Raises:
        NoSuchObjectError: it does not exist.
    """
    bucket(name)
    found = _backend(name).get_object(name, key)
    if found is None:
        raise NoSuchObjectError(f"no object {key} in bucket {name}")
    return bytes(found.value), str(found.metadata.get("content-type", "binary/octet-stream"))


def read_version(name: str, key: str, version: str | None = None) -> tuple[str, str, bytes]:
    """The version id, the ETag and the content of an object; without a version, of its newest.

    Raises:
        NoSuchObjectError: it does not exist.
    """
    bucket(name)
    found = _backend(name).get_object(name, key, version_id=version)
    if found is None:
        raise NoSuchObjectError(f"no object {key} in bucket {name}")
    return str(found.version_id), str(found.etag).strip('"'), bytes(found.value)


def write_object(name: str, key: str, content: bytes, content_type: str | None = None) -> None:
    """Put an object; the default content type is guessed from the key.

    Raises:
        NoSuchObjectError: the bucket does not exist.
    """
    if name not in bucket_names():
        raise NoSuchObjectError(f"The specified bucket does not exist: {name}")
    guessed = content_type or mimetypes.guess_type(key)[0] or "binary/octet-stream"
    if guessed.startswith("text/") and "charset" not in guessed:
        guessed += "; charset=utf-8"
    _backend(name).put_object(name, key, content).set_metadata({"Content-Type": guessed})


def ensure_log_group(place: Place, name: str) -> None:
    """Create a log group, as a service does that writes logs; an existing one stays as it is."""
    # Imported on first use, because importing these models takes seconds.
    from moto.logs.models import logs_backends

    held = logs_backends[place.account][place.region]
    if name not in held.groups:
        held.create_log_group(name, {})


def parameter_value(place: Place, name: str) -> str:
    """The value of a parameter of SSM's Parameter Store.

    Raises:
        NoSuchObjectError: it does not exist.
    """
    # Imported on first use, because importing these models takes seconds.
    from moto.ssm.models import ssm_backends

    found = ssm_backends[place.account][place.region].get_parameter(name)
    if found is None:
        raise NoSuchObjectError(f"there is no SSM parameter {name}")
    return str(found.response_object(True)["Value"])


def secret_value(place: Place, reference: str) -> str:
    """The text of a secret (`name`), or the value of a key in its JSON (`name:key`).

    Raises:
        NoSuchObjectError: it does not exist.
    """
    from moto.secretsmanager.exceptions import SecretNotFoundException
    from moto.secretsmanager.models import secretsmanager_backends

    name, _, key = reference.partition(":")
    if reference.startswith("arn:"):
        parts = reference.split(":")
        name, key = ":".join(parts[:7]), parts[7] if len(parts) > 7 else ""
    try:
        held = secretsmanager_backends[place.account][place.region]
        text = str(held.get_secret_value(name, "", "")["SecretString"])
        return str(json.loads(text)[key]) if key else text
    except (SecretNotFoundException, KeyError, ValueError) as error:
        raise NoSuchObjectError(f"there is no secret {reference}") from error
