"""All repositories of the simulated GitHub, with the webhooks that changes to them send."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.github import payloads, pull_requests
from sandbox.github.faults import Faults
from sandbox.github.git import ZERO, GitRepository, Ref
from sandbox.github.installations import Installations
from sandbox.github.limits import Allowed, RateLimits
from sandbox.github.store import Store
from sandbox.github.webhooks import Sender

STANDARD_EVENTS = ["push", "create", "delete", "repository", "public", "pull_request"]
# GitHub sends these events only to an App's own webhook, whatever events the webhook subscribes to
_APP_EVENTS = {"installation", "installation_repositories"}
_ON, _OFF = ("archive", "privatize", "uninstall"), ("unarchive", "publicize", "install")
_OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9]|-(?=[A-Za-z0-9])){0,38}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_RESERVED_OWNERS = {"api"}


class BadNameError(ValueError):
    """GitHub does not allow this name; the message says why."""


class ArchivedError(Exception):
    """The repository is archived and therefore read-only."""


@dataclass
class Repository:
    """A repository: its row in the store and its git directory."""

    id: int
    full_name: str
    git: GitRepository
    archived: bool
    private: bool
    uninstalled: bool
    created_at: str
    pushed_at: str
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    # Each ref's value before its latest move, with the time of the move; for the fault `stale_reads`.
    moved: dict[str, tuple[Ref | None, float]] = field(default_factory=dict, repr=False)

    @property
    def owner(self) -> str:
        """The part of the name before the slash."""
        return self.full_name.partition("/")[0]

    @property
    def name(self) -> str:
        """The part of the name after the slash."""
        return self.full_name.partition("/")[2]

    @property
    def default_branch(self) -> str:
        """The default branch's short name."""
        return self.git.head


class Hub:
    """All repositories under one data directory."""

    def __init__(self, data_dir: Path, url: str, webhook_url: str, webhook_secret: str) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self._data_dir = data_dir
        self._lock = threading.RLock()
        self._repositories: dict[str, Repository] = {}
        self.url = url
        self.faults = Faults()
        self.store = Store(data_dir / "github.sqlite3")
        self.installations = Installations(self.store)
        # a faster sandbox allows as many more requests
        self.limits = RateLimits(Allowed().times(float(os.environ.get("DEPLOYER_SANDBOX_SPEED") or 1)))
        self.sender = Sender(self.store, self.faults)
        self._webhook = (webhook_url, webhook_secret)
        self.store.point_standard_hooks(webhook_url, webhook_secret)
        for row in self.store.repositories():
            self._load_repository(row["full_name"])

    def set_webhook(self, url: str, secret: str) -> None:
        """Send the deliveries of every repository's standard hook to this address from now on."""
        self._webhook = (url, secret)
        self.store.point_standard_hooks(url, secret)

    @property
    def webhook_url(self) -> str:
        """The address of the standard hooks, which is also that of the simulated App's webhook."""
        return self._webhook[0]

    def repositories(self) -> list[Repository]:
        """Every repository, by name."""
        with self._lock:
            return sorted(self._repositories.values(), key=lambda r: r.full_name.lower())

    def get(self, full_name: str) -> Repository | None:
        """A repository by its name; the case of the name does not matter."""
        with self._lock:
            return self._repositories.get(full_name.lower())

    def create(self, full_name: str) -> tuple[Repository, bool]:
        """Create an empty repository with its webhook, unless it exists; returns it and whether it is new.

        Raises:
            BadNameError: GitHub does not allow the name.
        """
        check_name(full_name)
        with self._lock:
            existing = self.get(full_name)
            if existing is not None:
                return existing, False
            self._git_repository(full_name).create()
            return self._add_repository(full_name), True

    def copy_repository(self, original: Repository, full_name: str) -> Repository:
        """Create a repository with the same refs and commits, quickly and without sending webhooks.

        Raises:
            BadNameError: GitHub does not allow the name, or another repository has it.
        """
        check_name(full_name)
        with self._lock:
            if self.get(full_name):
                raise BadNameError(f"{full_name} is taken")
            # hard links are safe, because git never writes into an existing file but replaces it
            shutil.copytree(original.git.path, self._git_repository(full_name).path, copy_function=os.link)
            return self._add_repository(full_name)

    def _add_repository(self, full_name: str) -> Repository:
        repository_id = self.store.add_repository(full_name)
        self.store.add_hook(repository_id, *self._webhook, STANDARD_EVENTS, standard=True)
        return self._load_repository(full_name)

    def _git_repository(self, full_name: str) -> GitRepository:
        return GitRepository(self._data_dir / "repositories" / f"{full_name}.git")

    def _load_repository(self, full_name: str) -> Repository:
        row = self.store.repository(full_name)
        if row is None:
            raise KeyError(full_name)
        repository = Repository(
            row["id"],
            row["full_name"],
            self._git_repository(row["full_name"]),
            bool(row["archived"]),
            bool(row["private"]),
            bool(row["uninstalled"]),
            row["created_at"],
            row["pushed_at"],
        )
        self._repositories[full_name.lower()] = repository
        return repository

    def find_renamed(self, full_name: str) -> Repository | None:
        """The repository that had this name before; None if another repository has the name now."""
        name = None if self.get(full_name) else self.store.current_name(full_name)
        return self.get(name) if name else None

    def change_repository(self, repository: Repository, action: str, to: str = "") -> None:
        """Change a repository as its owner can, and send the webhooks of the change.

        Args:
            repository: the repository.
            action: `rename`, `transfer`, `default_branch` (each needs `to`), `archive`, `unarchive`, `privatize`,
                `publicize`, `uninstall` or `install` (of the simulated App; with the suffix `_owner` for all
                repositories of the owner), or `delete`.
            to: the new name, owner or default branch.

        Raises:
            BadNameError: GitHub does not allow the name, another repository has it, the branch does not exist, or the
                action is unknown.
        """
        with repository.lock, self._lock:
            if action in {"rename", "transfer"}:
                self._rename_repository(repository, action, to)
            elif action == "default_branch":
                self._set_default_branch(repository, to)
            elif action in _ON + _OFF:
                self._set_flag(repository, action, action in _ON)
            elif action in {"uninstall_owner", "install_owner"}:
                self._set_owner(repository, uninstalled=action == "uninstall_owner")
            elif action == "delete":
                self._send_repository_event(repository, "repository", "deleted", {})
                self._repositories.pop(repository.full_name.lower())
                self.store.remove_repository(repository.id, repository.full_name)
                shutil.rmtree(repository.git.path)
            else:
                raise BadNameError(f"{action!r} is not an action on a repository")

    def _rename_repository(self, repository: Repository, action: str, to: str) -> None:
        former = repository.full_name
        name = f"{repository.owner}/{to}" if action == "rename" else f"{to}/{repository.name}"
        check_name(name)
        if name == former:
            return
        if self.get(name) is not None:
            raise BadNameError(f"{name} is taken")
        moved = self._git_repository(name)
        moved.path.parent.mkdir(parents=True, exist_ok=True)
        repository.git.path.rename(moved.path)
        del self._repositories[former.lower()]
        self.store.rename(repository.id, former, name)
        repository.full_name, repository.git = name, moved
        self._repositories[name.lower()] = repository
        owner, _, short = former.partition("/")
        changes: dict[str, Any] = (
            {"repository": {"name": {"from": short}}}
            if action == "rename"
            else {"owner": {"from": {"user": payloads.user_json(owner, self.url)}}}
        )
        self._send_repository_event(
            repository, "repository", f"{action}red" if action == "transfer" else "renamed", changes
        )

    def _set_default_branch(self, repository: Repository, to: str) -> None:
        if f"refs/heads/{to}" not in repository.git.refs():
            raise BadNameError(f"The branch {to} was not found.")
        before, repository.git.head = repository.git.head, to
        if before != to:
            self._send_repository_event(
                repository, "repository", "edited", {"default_branch": {"from": before}}
            )

    def _set_flag(self, repository: Repository, action: str, value: bool) -> None:
        flag = {"archive": "archived", "privatize": "private", "uninstall": "uninstalled"}[
            action if value else _ON[_OFF.index(action)]
        ]
        if getattr(repository, flag) == value:
            return
        if value and flag == "uninstalled":  # sent while the App still has a webhook
            self._send_app_event(repository, "removed")
        setattr(repository, flag, value)
        self.store.set_flag(repository.id, flag, value)
        if flag == "uninstalled":
            if not value:
                self._send_app_event(repository, "added")
            return
        if action == "publicize":
            self._send_repository_event(repository, "public", "", {})
        self._send_repository_event(repository, "repository", f"{action.removesuffix('e')}ed", {})

    def _set_owner(self, repository: Repository, *, uninstalled: bool) -> None:
        theirs = [
            each
            for each in self.repositories()
            if each.owner.lower() == repository.owner.lower() and each.uninstalled != uninstalled
        ]
        if not theirs:
            return
        installation = self.installations.of(repository.owner)
        action = "deleted" if uninstalled else "created"
        payload = payloads.installation_event(theirs, installation, action, self.url)
        if uninstalled:  # sent while the App still has a webhook
            self.send_events(theirs[0], [("installation", payload)])
        for each in theirs:
            each.uninstalled = uninstalled
            self.store.set_flag(each.id, "uninstalled", uninstalled)
        if not uninstalled:
            self.send_events(theirs[0], [("installation", payload)])

    def change_installation(self, owner: str, action: str) -> None:
        """Let an owner of a repository `suspend` or `unsuspend` the App, or accept its new permissions."""
        theirs = [each for each in self.repositories() if each.owner.lower() == owner.lower()]
        if action == "new_permissions_accepted":
            self.installations.accept_permissions(owner)
        else:
            self.installations.suspend(owner, suspended=action == "suspend")
        payload = payloads.installation_event(theirs, self.installations.of(owner), action, self.url)
        self.send_events(theirs[0], [("installation", payload)])

    def _send_repository_event(
        self, repository: Repository, event: str, action: str, changes: dict[str, Any]
    ) -> None:
        payload = payloads.repository_event(repository, action, changes, self.url)
        self.send_events(repository, [(event, payload)])

    def _send_app_event(self, repository: Repository, action: str) -> None:
        installation = self.installations.of(repository.owner)
        payload = payloads.installation_repositories(repository, installation, action, self.url)
        self.send_events(repository, [("installation_repositories", payload)])

    def refs(self, repository: Repository) -> dict[str, Ref]:
        """The refs that the API shows: for some time those before their last move, if the fault `stale_reads` is on."""
        refs = repository.git.refs()
        lag = self.faults.order_seconds("stale_reads")
        if not lag:
            return refs
        for name, (before, when) in list(repository.moved.items()):
            if time.monotonic() - when < lag:
                if before is None:
                    refs.pop(name, None)
                else:
                    refs[name] = before
        return dict(sorted(refs.items()))

    @contextmanager
    def changing_refs(self, repository: Repository, login: str = payloads.LOGIN) -> Iterator[None]:
        """Run code that may move refs, and then send the webhooks of every ref that it moved.

        The repository is locked meanwhile, so that no other change is between the refs before and after.

        Raises:
            ArchivedError: the repository is archived.
        """
        with repository.lock:
            if repository.archived:
                raise ArchivedError(repository.full_name)
            before = repository.git.refs()
            try:
                yield
            finally:
                self._announce_moves(repository, before, repository.git.refs(), login)

    def _announce_moves(
        self, repository: Repository, before: dict[str, Ref], after: dict[str, Ref], login: str
    ) -> None:
        moves = [
            (name, before.get(name), after.get(name))
            for name in sorted(before.keys() | after.keys())
            if _sha_or_zero(before.get(name)) != _sha_or_zero(after.get(name))
        ]
        if not moves:
            return
        when = time.monotonic()
        for name, old, _ in moves:
            repository.moved[name] = (old, when)
        repository.pushed_at = self.store.set_pushed(repository.id)
        self._adopt_default_branch(repository, after)
        tags = [name for name, _, _ in moves if name.startswith("refs/tags/")]
        for name, old, new in moves:
            if len(tags) > 3 and name in tags:
                continue  # GitHub creates no events if a push has more than three tags
            self._send_ref_events(repository, payloads.Move(name, old, new, before, login))
        pull_requests.announce_moves(self, repository, before, after)

    def _adopt_default_branch(self, repository: Repository, refs: dict[str, Ref]) -> None:
        branches = [name.removeprefix("refs/heads/") for name in refs if name.startswith("refs/heads/")]
        if branches and repository.default_branch not in branches:
            repository.git.head = branches[
                0
            ]  # the first branch that is pushed to an empty repository becomes the default branch

    def _send_ref_events(self, repository: Repository, move: payloads.Move) -> None:
        events = [("push", payloads.push_event(repository, move, self.url))]
        if move.created or move.deleted:
            kind = "create" if move.created else "delete"
            events.insert(0, (kind, payloads.create_or_delete(repository, move, self.url)))
        self.send_events(repository, events, move.name)

    def send_events(
        self, repository: Repository, events: list[tuple[str, dict[str, Any]]], ref: str | None = None
    ) -> None:
        """Send events of a repository to the webhooks that subscribe to them."""
        more = payloads.organization_fields(repository.owner, self.url)
        hooks = self.store.hooks(repository.id)
        if more:
            hooks += self.store.organization_hooks(repository.owner)
        for hook in hooks:
            if not hook["active"] or (hook["standard"] and repository.uninstalled):
                continue
            of_app = payloads.installation_reference(repository.owner) if hook["standard"] else {}
            for event, payload in events:
                own = hook["standard"] and event in _APP_EVENTS | set(STANDARD_EVENTS)
                if own or ({event, "*"} & set(hook["events"]) and event not in _APP_EVENTS):
                    self.sender.enqueue(hook, event, {**of_app, **payload, **more}, ref, about=repository.id)


def _sha_or_zero(ref: Ref | None) -> str:
    return ZERO if ref is None else ref.sha


def check_name(full_name: str) -> None:
    """Refuse a name that GitHub does not allow as owner/repo.

    Raises:
        BadNameError: GitHub does not allow the name.
    """
    owner, slash, name = full_name.partition("/")
    if not slash:
        raise BadNameError(f"{full_name!r} is not of the form owner/repo")
    if not _OWNER.fullmatch(owner) or owner.lower() in _RESERVED_OWNERS:
        raise BadNameError(
            f"{owner!r} is not a valid owner: use letters, digits and single hyphens, at most 39 characters"
        )
    if not _NAME.fullmatch(name) or name in {".", ".."} or name.lower().endswith((".git", ".wiki")):
        raise BadNameError(
            f"{name!r} is not a valid repository name: use letters, digits, '.', '_' and '-', at most 100 characters"
        )
