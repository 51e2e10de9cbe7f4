"""The GitHub App's installations: one for each owner, with its permissions, which may be suspended."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.github.store import Store, now

LEVELS = {"read": 0, "write": 1, "admin": 2}
# What docs/github.md asks for; an App has no webhooks of repositories, because it has its own
DEFAULT_PERMISSIONS = {
    "contents": "read",
    "metadata": "read",
    "pull_requests": "write",
    "statuses": "write",
}


@dataclass(frozen=True)
class Installation:
    """One owner's installation.

    Attributes:
        permissions: those that the owner has accepted.
        suspended_at: since when it is suspended; empty if it is not.
        tokens_since: epoch seconds; tokens that were issued before are revoked.
        requires_sign_on: whether the owner requires single sign-on of personal tokens. It does not concern the App.
    """

    owner: str
    permissions: Mapping[str, str]
    suspended_at: str = ""
    tokens_since: float = 0
    requires_sign_on: bool = False


class Installations:
    """The installations, and the permissions that the App requests.

    Args:
        store: stores them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.requested: dict[str, str] = dict(DEFAULT_PERMISSIONS)

    def of(self, owner: str) -> Installation:
        """An owner's installation."""
        row = self._store.installation(owner)
        if row is None:
            return Installation(owner, self.requested)
        return Installation(
            owner,
            json.loads(row["permissions"]),
            row["suspended_at"],
            row["tokens_since"],
            bool(row["requires_sign_on"]),
        )

    def request_permissions(self, permissions: Mapping[str, str], owners: list[str]) -> None:
        """Change the permissions that the App requests; its owners have the former ones until they accept.

        Args:
            permissions: the new permissions.
            owners: the owners of all repositories.
        """
        for owner in owners:
            self._save(self.of(owner))
        self.requested = dict(permissions)

    def accept_permissions(self, owner: str, permissions: Mapping[str, str] | None = None) -> None:
        """Give an installation some permissions; by default all that the App requests."""
        self._save(self.of(owner), permissions=dict(self.requested if permissions is None else permissions))

    def suspend(self, owner: str, *, suspended: bool) -> None:
        """Suspend an installation, or end its suspension."""
        self._save(self.of(owner), suspended_at=now() if suspended else "")

    def revoke_tokens(self, owner: str) -> None:
        """Revoke all tokens of an installation, as if their hour were over."""
        self._save(self.of(owner), tokens_since=time.time())

    def require_sign_on(self, owner: str, *, required: bool) -> None:
        """Require single sign-on of personal tokens for an owner's repositories, or require it no more."""
        self._save(self.of(owner), requires_sign_on=required)

    def _save(self, installation: Installation, **changed: Any) -> None:
        values = {**vars(installation), **changed}
        values["permissions"] = json.dumps(dict(values["permissions"]))
        values["requires_sign_on"] = int(values["requires_sign_on"])
        self._store.save_installation(**values)
