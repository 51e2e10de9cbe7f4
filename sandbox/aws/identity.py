"""The accounts of access keys, with the roles that IAM has for them, read from moto's models."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from sandbox.aws.places import ACCOUNT
from sandbox.aws.protocol import AwsError

_ROLE = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):role/(?:.*/)?([^/]+)")
_USER_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_MOTO_KEY = re.compile(r"[A-Z0-9]{20}")


def account_of_key(access_key: str) -> str:
    """The account of an access key; the default account if the key is unknown."""
    if not _MOTO_KEY.fullmatch(access_key):
        return ACCOUNT
    # Imported on first use, because importing these models takes seconds.
    from moto.iam.models import get_account_id_from

    return str(get_account_id_from(access_key))


def caller_arn(access_key: str) -> str:
    """The ARN of an access key's role session or user; an unknown key belongs to the user of its own name."""
    account = account_of_key(access_key)
    if _MOTO_KEY.fullmatch(access_key):
        from moto.sts.models import sts_backends

        for backend in list(sts_backends.values()):
            if session := backend["aws"].get_assumed_role_from_access_key(access_key):
                return str(session.arn)
    name = access_key if _USER_NAME.fullmatch(access_key) and account == ACCOUNT else "sandbox"
    return f"arn:aws:iam::{account}:user/{name}"


def session_arn(role_arn: str, session: str) -> str:
    """The ARN under which a service acts with a role."""
    found = _ROLE.fullmatch(role_arn)
    return f"arn:aws:sts::{found[1]}:assumed-role/{found[2]}/{session}" if found else role_arn


def access_key(of_account: str) -> tuple[str, str]:
    """Id and secret of a new access key of an account."""
    if of_account == ACCOUNT:
        return "sandbox", "sandbox"
    key = _iam_backend(of_account).create_temp_access_key()
    return str(key.access_key_id), str(key.secret_access_key)


def roles_by_name(of_account: str) -> dict[str, Any]:
    """moto's models of an account's roles, by name."""
    return {role.name: role for role in _iam_backend(of_account).roles.values()}


def known_accounts() -> list[str]:
    """The accounts for which moto has an IAM backend."""
    from moto.iam.models import iam_backends

    return sorted(iam_backends)


def role_exists(arn: str) -> bool:
    """Whether IAM has this role."""
    found = _ROLE.match(arn)
    return found is not None and any(role.arn == arn for role in roles_by_name(found.group(1)).values())


def boundary_of_role(arn: str) -> str | None:
    """The document of a role's permissions boundary; None if the role or the policy does not exist, or has none."""
    found = _ROLE.match(arn)
    if found is None:
        return None
    of_account = found.group(1)
    role = next((each for each in roles_by_name(of_account).values() if each.arn == arn), None)
    policy = _iam_backend(of_account).managed_policies.get(role.permissions_boundary_arn) if role else None
    if policy is None:
        return None
    return next((str(each.document) for each in policy.versions if each.is_default), None)


def check_service_role(arn: str, of_account: str) -> None:
    """Check the service role of a CloudFormation call.

    In an account without roles IAM is not simulated, so every role is accepted there.

    Raises:
        AwsError: the role is of another account, or does not exist.
    """
    found = _ROLE.fullmatch(arn)
    if found is not None and found.group(1) != of_account:
        raise AwsError("AccessDenied", "Cross-account pass role is not allowed.", 403)
    if roles_by_name(of_account) and not role_exists(arn):
        raise AwsError("ValidationError", f"Role {arn} is invalid or cannot be assumed")


def check_assume_role(given: Mapping[str, Any], caller_account: str) -> None:
    """Check that the trust policy of a role lets the caller's account assume it.

    Raises:
        AwsError: AccessDenied.
    """
    arn = str(given.get("RoleArn", ""))
    found = _ROLE.fullmatch(arn)
    if found is None or not roles_by_name(found.group(1)):
        return
    role = next((r for r in roles_by_name(found.group(1)).values() if r.arn == arn), None)
    if role is None or not _allows_principal(
        role.assume_role_policy_document, caller_account, given.get("ExternalId")
    ):
        raise AwsError(
            "AccessDenied",
            f"User: arn:aws:iam::{caller_account}:user/sandbox is not authorized to perform: sts:AssumeRole "
            f"on resource: {arn}",
            403,
        )


def _allows_principal(document: Any, caller_account: str, external_id: str | None) -> bool:
    policy = json.loads(document) if isinstance(document, str) else document or {}
    return any(_allows_action(s, caller_account, external_id) for s in _as_list(policy.get("Statement", [])))


def _allows_action(statement: Mapping[str, Any], caller_account: str, external_id: str | None) -> bool:
    actions = _as_list(statement.get("Action", []))
    if statement.get("Effect") != "Allow" or not any(fnmatchcase("sts:AssumeRole", a) for a in actions):
        return False
    principal = statement.get("Principal", {})
    trusted = _as_list(principal if isinstance(principal, str) else principal.get("AWS", []))
    if not any(p in ("*", caller_account) or f"::{caller_account}:" in p for p in trusted):
        return False
    conditions = statement.get("Condition") or {}
    demanded = [
        _as_list(tests["sts:ExternalId"])
        for operator, tests in conditions.items()
        if operator in ("StringEquals", "StringLike") and "sts:ExternalId" in tests
    ]
    return all(any(fnmatchcase(external_id or "", wanted) for wanted in each) for each in demanded)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _iam_backend(of_account: str) -> Any:
    from moto.iam.models import iam_backends

    return iam_backends[of_account]["aws"]
