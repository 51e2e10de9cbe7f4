"""Secrets in AWS: `ssm:/path/name` is a SecureString parameter, `secretsmanager:name` a secret."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from deployer.aws.errors import AnswerError, required_member
from deployer.model.errors import ConfigError

_KINDS = {"ssm", "secretsmanager"}
_MAX_PARAMETER_BYTES = 4096  # the limit of a parameter in SSM's standard tier


def read_secret(reference: str) -> str:
    """Read the value that a reference names.

    Args:
        reference: `ssm:/path/name` or `secretsmanager:name`.

    Raises:
        ConfigError: the value cannot be read. The text never contains the value.
    """
    kind, name = _split_reference(reference)
    with _translate_errors(f"reading {reference}"):
        if kind == "ssm":
            answer = boto3.client("ssm").get_parameter(Name=name, WithDecryption=True)
            return str(required_member(required_member(answer, "Parameter"), "Value"))
        return str(
            required_member(boto3.client("secretsmanager").get_secret_value(SecretId=name), "SecretString")
        )


def write_secret(reference: str, value: str) -> None:
    """Store a value under a reference; an existing value is replaced.

    Args:
        reference: `ssm:/path/name` or `secretsmanager:name`.
        value: the new value, at least one character.

    Raises:
        ConfigError: the value cannot be written. The text never contains the value.
    """
    kind, name = _split_reference(reference)
    if not value:
        raise ConfigError(f"{reference} was not written: the value is empty")
    if kind == "ssm" and len(value.encode()) > _MAX_PARAMETER_BYTES:
        raise ConfigError(
            f"{reference} was not written: a parameter holds 4,096 bytes; use secretsmanager:NAME"
        )
    with _translate_errors(f"writing {reference}"):
        if kind == "ssm":
            key = _encryption_key(name)
            boto3.client("ssm").put_parameter(
                Name=name, Value=value, Type="SecureString", Overwrite=True, **({"KeyId": key} if key else {})
            )
            return
        client = boto3.client("secretsmanager")
        try:
            client.put_secret_value(SecretId=name, SecretString=value)
        except client.exceptions.ResourceNotFoundException:
            client.create_secret(Name=name, SecretString=value)


def _encryption_key(name: str) -> str:
    """Return the id of the key that encrypts a parameter; empty if the parameter does not exist yet.

    A write must name this key, because a write without a key may change the encryption to AWS's default key.

    Raises:
        ConfigError: AWS does not return it.
    """
    same: list[Any] = [{"Key": "Name", "Option": "Equals", "Values": [name]}]
    with _translate_errors(f"ssm:{name} was not written: finding its key by ssm:DescribeParameters"):
        pages = boto3.client("ssm").get_paginator("describe_parameters").paginate(ParameterFilters=same)
        listed = (each for page in pages for each in required_member(page, "Parameters"))
        return next((each["KeyId"] for each in listed if "KeyId" in each), "")


def _split_reference(reference: str) -> tuple[str, str]:
    kind, _, name = reference.partition(":")
    if kind not in _KINDS or not name:
        raise ConfigError(f"{reference[:200]!r} is not of the form ssm:/path/name or secretsmanager:name")
    return kind, name


@contextmanager
def _translate_errors(action: str) -> Iterator[None]:
    try:
        yield
    except AnswerError as error:  # for example, the secret contains bytes instead of text
        raise ConfigError(f"{action}: {error}") from None
    except (BotoCoreError, ClientError) as error:
        # Only the error code, without message or traceback: the message may contain the value that was sent.
        answer = error.response if isinstance(error, ClientError) else {}
        code = answer.get("Error", {}).get("Code") or type(error).__name__
        raise ConfigError(f"{action}: {code}; check the name, the region and the IAM permissions") from None
