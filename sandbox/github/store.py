"""Stores everything but the git repositories in one SQLite file."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sandbox.github.tables import open_database

_TIME = "%Y-%m-%dT%H:%M:%SZ"  # GitHub's format

Row = dict[str, Any]


def now() -> str:
    """The current time in GitHub's format."""
    return datetime.now(UTC).strftime(_TIME)


class Store:
    """The SQLite file. One connection and one lock suffice, because calls are short and callers are few."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._db = open_database(path)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _select_all(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        with self._lock:
            return [dict(row) for row in self._db.execute(sql, values)]

    def _select_one(self, sql: str, values: Sequence[Any] = ()) -> Row | None:
        return next(iter(self._select_all(sql, values)), None)

    def _insert_row(self, table: str, **values: Any) -> int:
        columns, marks = ", ".join(values), ", ".join("?" * len(values))
        sql = f"INSERT INTO {table} ({columns}) VALUES ({marks})"  # noqa: S608 - names from this file
        with self._lock:
            return self._db.execute(sql, tuple(values.values())).lastrowid or 0

    def _update_row(self, table: str, row_id: int, **values: Any) -> None:
        columns = ", ".join(f"{name} = ?" for name in values)
        sql = f"UPDATE {table} SET {columns} WHERE id = ?"  # noqa: S608 - names from this file
        with self._lock:
            self._db.execute(sql, (*values.values(), row_id))

    # Protections

    def protections(self, repository_id: int, target: str) -> list[str]:
        """The short names of the protected branches, or the names of the rulesets for tags."""
        sql = "SELECT name FROM protections WHERE repository_id = ? AND target = ? ORDER BY name"
        return [str(row["name"]) for row in self._select_all(sql, (repository_id, target))]

    def protect(
        self,
        repository_id: int,
        target: str,
        name: str,
        *,
        on: bool = True,
        contexts: Sequence[str] = (),
    ) -> None:
        """Protect a branch or add a ruleset for tags; with `on=False` remove it.

        Args:
            repository_id: the repository.
            target: `branch` or `tag`.
            name: the branch, or the ruleset.
            on: whether to add it.
            contexts: the contexts of the statuses that a branch requires.
        """
        drop = "DELETE FROM protections WHERE repository_id = ? AND target = ? AND name = ?"
        add = "INSERT INTO protections (repository_id, target, name, contexts) VALUES (?, ?, ?, ?)"
        with self._lock:
            self._db.execute(drop, (repository_id, target, name))
            if on:
                self._db.execute(add, (repository_id, target, name, json.dumps(list(contexts))))

    def required_contexts(self, repository_id: int, branch: str) -> list[str]:
        """The contexts of the statuses that a branch requires."""
        sql = "SELECT contexts FROM protections WHERE repository_id = ? AND target = 'branch' AND name = ?"
        row = self._select_one(sql, (repository_id, branch))
        return list(json.loads(row["contexts"])) if row else []

    # Installations

    def installation(self, owner: str) -> Row | None:
        """The stored installation of an owner; None if nothing of it was ever changed."""
        return self._select_one("SELECT * FROM installations WHERE owner = ?", (owner,))

    def save_installation(self, **values: Any) -> None:
        """Store an installation."""
        with self._lock:
            self._select_all("DELETE FROM installations WHERE owner = ?", (values["owner"],))
            self._insert_row("installations", **values)

    # Repositories

    def repositories(self) -> list[Row]:
        """Every repository, sorted by name."""
        return self._select_all("SELECT * FROM repositories WHERE NOT deleted ORDER BY full_name")

    def repository(self, full_name: str) -> Row | None:
        """A repository by its name; the case of the name does not matter."""
        return self._select_one("SELECT * FROM repositories WHERE full_name = ?", (full_name,))

    def add_repository(self, full_name: str) -> int:
        """Add a repository; returns its id."""
        return self._insert_row("repositories", full_name=full_name, created_at=now(), pushed_at=now())

    def set_flag(self, repository_id: int, flag: str, value: bool) -> None:
        """Set whether a repository is `archived`, `private` or `uninstalled`."""
        self._update_row("repositories", repository_id, **{flag: int(value)})

    def rename(self, repository_id: int, former: str, full_name: str) -> None:
        """Rename a repository; its former name refers to it until another repository gets that name."""
        self._update_row("repositories", repository_id, full_name=full_name)
        self._select_all("DELETE FROM former_names WHERE full_name IN (?, ?)", (former, full_name))
        self._insert_row("former_names", full_name=former, repository_id=repository_id)

    def current_name(self, former: str) -> str | None:
        """The current name of the repository that had this name before."""
        sql = "SELECT r.full_name FROM former_names f JOIN repositories r ON r.id = f.repository_id"
        row = self._select_one(f"{sql} WHERE f.full_name = ? AND NOT r.deleted", (former,))
        return str(row["full_name"]) if row else None

    def name_by_id(self, repository_id: int) -> str | None:
        """A repository's name by its id."""
        row = self._select_one(
            "SELECT full_name FROM repositories WHERE id = ? AND NOT deleted", (repository_id,)
        )
        return str(row["full_name"]) if row else None

    def remove_repository(self, repository_id: int, full_name: str) -> None:
        """Mark a repository as deleted and free its name. Its row stays for its deliveries, with an impossible name."""
        self._update_row("repositories", repository_id, full_name=f"{full_name}#{repository_id}", deleted=1)

    def set_pushed(self, repository_id: int) -> str:
        """Set the time of the last push to now; returns the time."""
        pushed_at = now()
        self._update_row("repositories", repository_id, pushed_at=pushed_at)
        return pushed_at

    # Hooks

    def hooks(self, repository_id: int) -> list[Row]:
        """A repository's webhooks."""
        return [
            _decode_hook(row)
            for row in self._select_all(
                "SELECT * FROM hooks WHERE repository_id = ? ORDER BY id", (repository_id,)
            )
        ]

    def organization_hooks(self, organization: str) -> list[Row]:
        """An organization's webhooks."""
        sql = "SELECT * FROM hooks WHERE organization = ? AND organization != '' ORDER BY id"
        return [_decode_hook(row) for row in self._select_all(sql, (organization,))]

    def hook(self, hook_id: int) -> Row | None:
        """One webhook."""
        row = self._select_one("SELECT * FROM hooks WHERE id = ?", (hook_id,))
        return _decode_hook(row) if row else None

    def add_hook(
        self,
        repository_id: int,
        url: str,
        secret: str,
        events: list[str],
        *,
        standard: bool = False,
        organization: str = "",
    ) -> int:
        """Add a webhook of a repository or, with 0 as its id, of an organization; returns the webhook's id.

        A standard webhook is one that the sandbox itself adds to every repository.
        """
        return self._insert_row(
            "hooks",
            repository_id=repository_id,
            url=url,
            secret=secret,
            events=json.dumps(events),
            standard=int(standard),
            organization=organization,
            created_at=now(),
            updated_at=now(),
        )

    def update_hook(self, hook_id: int, **values: Any) -> None:
        """Change a webhook's url, secret, content_type, events or active."""
        if "events" in values:
            values["events"] = json.dumps(values["events"])
        self._update_row("hooks", hook_id, **values, updated_at=now())

    def delete_hook(self, hook_id: int) -> None:
        """Delete a webhook but keep its deliveries."""
        self._select_all("DELETE FROM hooks WHERE id = ?", (hook_id,))

    def point_standard_hooks(self, url: str, secret: str) -> None:
        """Set the address of every standard webhook, because deployer's port may differ in each run."""
        self._select_all("UPDATE hooks SET url = ?, secret = ? WHERE standard = 1", (url, secret))

    def standard_hook(self, hook_id: int) -> Row | None:
        """A standard webhook by its id; the standard webhooks also act as a GitHub App's webhook."""
        row = self._select_one("SELECT * FROM hooks WHERE id = ? AND standard = 1", (hook_id,))
        return _decode_hook(row) if row else None

    # Statuses

    def statuses(self, repository_id: int, sha: str) -> list[Row]:
        """A commit's statuses, newest first."""
        sql = "SELECT * FROM statuses WHERE repository_id = ? AND sha = ? ORDER BY id DESC"
        return self._select_all(sql, (repository_id, sha))

    def all_statuses(self, repository_id: int | None, sha: str | None) -> list[Row]:
        """All statuses, oldest first; only those of one repository or commit, if given."""
        sql = (
            "SELECT s.*, r.full_name AS repository FROM statuses s JOIN repositories r"
            " ON r.id = s.repository_id WHERE (?1 IS NULL OR s.repository_id = ?1)"
            " AND (?2 IS NULL OR s.sha = ?2) ORDER BY s.id"
        )
        return self._select_all(sql, (repository_id, sha))

    def add_status(self, repository_id: int, sha: str, **values: Any) -> Row:
        """Add a status of a commit."""
        row_id = self._insert_row(
            "statuses", repository_id=repository_id, sha=sha, created_at=now(), **values
        )
        return self._select_all("SELECT * FROM statuses WHERE id = ?", (row_id,))[0]

    # Pull requests and comments

    def pulls(self, repository_id: int) -> list[Row]:
        """A repository's pull requests, oldest first."""
        return self._select_all(
            "SELECT * FROM pulls WHERE repository_id = ? ORDER BY number", (repository_id,)
        )

    def pull(self, repository_id: int, number: int) -> Row | None:
        """One pull request."""
        sql = "SELECT * FROM pulls WHERE repository_id = ? AND number = ?"
        return self._select_one(sql, (repository_id, number))

    def open_pulls_from(self, repository_id: int, full_name: str) -> list[Row]:
        """The open pull requests whose head is in a repository: its own ones, and those of which it is the fork."""
        own = "(repository_id = ? AND fork = '') OR fork = ? COLLATE NOCASE"
        return self._select_all(
            f"SELECT * FROM pulls WHERE state = 'open' AND ({own})",  # noqa: S608
            (repository_id, full_name),
        )

    def add_pull(self, repository_id: int, **values: Any) -> Row:
        """Add a pull request."""
        with self._lock:
            number = len(self.pulls(repository_id)) + 1
            row_id = self._insert_row(
                "pulls",
                repository_id=repository_id,
                number=number,
                created_at=now(),
                updated_at=now(),
                **values,
            )
        return self._select_all("SELECT * FROM pulls WHERE id = ?", (row_id,))[0]

    def update_pull(self, pull_id: int, **values: Any) -> None:
        """Change a pull request's state, title or head."""
        if values:
            self._update_row("pulls", pull_id, **values, updated_at=now())

    def comments(self, repository_id: int, place: str | None = None) -> list[Row]:
        """Comments, oldest first; only those on `place`, if given: a commit's SHA, or `pull <id of a pull request>`."""
        sql = "SELECT * FROM comments WHERE repository_id = ?1 AND (?2 IS NULL OR place = ?2) ORDER BY id"
        return self._select_all(sql, (repository_id, place))

    def comment(self, repository_id: int, comment_id: int) -> Row | None:
        """One comment."""
        sql = "SELECT * FROM comments WHERE repository_id = ? AND id = ?"
        return self._select_one(sql, (repository_id, comment_id))

    def add_comment(self, repository_id: int, place: str, login: str, body: str) -> Row:
        """Add a comment."""
        values = {"place": place, "login": login, "body": body, "created_at": now(), "updated_at": now()}
        row_id = self._insert_row("comments", repository_id=repository_id, **values)
        return self._select_all("SELECT * FROM comments WHERE id = ?", (row_id,))[0]

    def update_comment(self, comment_id: int, body: str) -> Row:
        """Replace the text of a comment."""
        self._update_row("comments", comment_id, body=body, updated_at=now())
        return self._select_all("SELECT * FROM comments WHERE id = ?", (comment_id,))[0]

    def delete_comment(self, comment_id: int) -> None:
        """Delete a comment."""
        self._select_all("DELETE FROM comments WHERE id = ?", (comment_id,))

    # Deliveries

    def add_delivery(self, **values: Any) -> int:
        """Add a delivery that is not sent yet; returns its id."""
        return self._insert_row("deliveries", created_at=now(), **values)

    def update_delivery(self, delivery_id: int, **values: Any) -> None:
        """Store the result of a delivery."""
        self._update_row("deliveries", delivery_id, **values)

    def date_back(self, repository_id: int, seconds: float) -> None:
        """Make a repository's deliveries older by some seconds."""
        for row in self.deliveries(repository_id):
            times = {
                name: _subtract_seconds(row[name], seconds)
                for name in ("created_at", "delivered_at")
                if row[name]
            }
            self._update_row("deliveries", row["id"], **times)

    def delivery(self, delivery_id: int) -> Row | None:
        """One delivery by its id."""
        return self._select_one(_DELIVERIES.format(where="d.id = ?"), (delivery_id,))

    def deliveries(
        self, repository_id: int | None = None, hook_id: int | None = None, since: int = 0, newest: int = -1
    ) -> list[Row]:
        """Deliveries, oldest first.

        Args:
            repository_id: only those of this repository, if given.
            hook_id: only those of this webhook, if given.
            since: only those with a greater id.
            newest: of these, only so many of the newest; -1 for all.
        """
        where = (
            "d.id IN (SELECT id FROM deliveries WHERE (?1 IS NULL OR repository_id = ?1)"
            " AND (?2 IS NULL OR hook_id = ?2) AND id > ?3 ORDER BY id DESC LIMIT ?4)"
        )
        return self._select_all(_DELIVERIES.format(where=where), (repository_id, hook_id, since, newest))

    def app_deliveries(self) -> list[Row]:
        """The deliveries of all standard webhooks, oldest first, which an App's webhook would have sent."""
        where = "d.hook_id IN (SELECT id FROM hooks WHERE standard = 1)"
        return self._select_all(_DELIVERIES.format(where=where))

    def pending_deliveries(self) -> list[Row]:
        """The deliveries without any attempt."""
        return self._select_all(_DELIVERIES.format(where="d.state = 'pending'"))


# Each attempt is a separate row, as on GitHub; the attempts of one delivery share the guid.
_DELIVERIES = (
    "SELECT d.*, coalesce(r.full_name, '') AS repository, (SELECT count(*) FROM deliveries o WHERE o.guid = d.guid"
    " AND o.hook_id = d.hook_id AND o.id <= d.id) AS attempt FROM deliveries d"
    " LEFT JOIN repositories r ON r.id = d.repository_id WHERE {where} ORDER BY d.id"
)


def _subtract_seconds(at: str, seconds: float) -> str:
    return (datetime.fromisoformat(at) - timedelta(seconds=seconds)).strftime(_TIME)


def _decode_hook(row: Row) -> Row:
    return {**row, "events": json.loads(row["events"]), "active": bool(row["active"])}
