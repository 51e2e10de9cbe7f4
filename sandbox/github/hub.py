"""The repositories and everything that happens when their refs move."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.github import payloads
from sandbox.github.faults import Faults
from sandbox.github.git import ZERO, GitRepository, Ref
from sandbox.github.store import Store
from sandbox.github.webhooks import Sender

STANDARD_EVENTS = ["push", "create", "delete"]
_OWNER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9]|-(?=[A-Za-z0-9])){0,38}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_RESERVED_OWNERS = {"api"}


class BadNameError(ValueError):
    """No name for a repository; the message says why."""


class ArchivedError(Exception):
    """The repository is archived, so nothing in it may change."""


@dataclass
class Repository:
    """A repository: its row in the store and its git directory."""

    id: int
    full_name: str
    git: GitRepository
    archived: bool
    created_at: str
    pushed_at: str
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)
    # Each ref's value before its latest move and when that was; for the fault `stale_reads`.
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
        self.sender = Sender(self.store, self.faults)
        self._webhook = (webhook_url, webhook_secret)
        self.store.point_standard_hooks(webhook_url, webhook_secret)
        for row in self.store.repositories():
            self._open(row["full_name"])

    def set_webhook(self, url: str, secret: str) -> None:
        """Let every repository's standard hook deliver there from now on."""
        self._webhook = (url, secret)
        self.store.point_standard_hooks(url, secret)

    def repositories(self) -> list[Repository]:
        """Every repository, by name."""
        with self._lock:
            return sorted(self._repositories.values(), key=lambda r: r.full_name.lower())

    def get(self, full_name: str) -> Repository | None:
        """A repository by its name, in whatever case."""
        with self._lock:
            return self._repositories.get(full_name.lower())

    def create(self, full_name: str) -> tuple[Repository, bool]:
        """Make an empty repository with its webhook; also whether it is new.

        Raises:
            BadNameError: the name is none GitHub would take.
        """
        check_name(full_name)
        with self._lock:
            existing = self.get(full_name)
            if existing is not None:
                return existing, False
            self._git(full_name).create()
            repository_id = self.store.add_repository(full_name)
            self.store.add_hook(repository_id, *self._webhook, STANDARD_EVENTS, standard=True)
            return self._open(full_name), True

    def _git(self, full_name: str) -> GitRepository:
        return GitRepository(self._data_dir / "repositories" / f"{full_name}.git")

    def _open(self, full_name: str) -> Repository:
        row = self.store.repository(full_name)
        if row is None:
            raise KeyError(full_name)
        repository = Repository(
            row["id"],
            row["full_name"],
            self._git(row["full_name"]),
            bool(row["archived"]),
            row["created_at"],
            row["pushed_at"],
        )
        self._repositories[full_name.lower()] = repository
        return repository

    def archive(self, repository: Repository, archived: bool) -> None:
        """Archive a repository, or take it back."""
        repository.archived = archived
        self.store.set_archived(repository.id, archived)

    def refs(self, repository: Repository) -> dict[str, Ref]:
        """The refs as the API shows them: for a while as before their last move, if that fault is on."""
        refs = repository.git.refs()
        lag = self.faults.seconds("stale_reads")
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
    def changing(self, repository: Repository, login: str = payloads.LOGIN) -> Iterator[None]:
        """Around whatever may move refs: afterwards the webhooks of every ref that moved are on their way.

        One change of a repository at a time, so that before and after belong to it alone.

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
                self._announce(repository, before, repository.git.refs(), login)

    def _announce(
        self, repository: Repository, before: dict[str, Ref], after: dict[str, Ref], login: str
    ) -> None:
        moves = [
            (name, before.get(name), after.get(name))
            for name in sorted(before.keys() | after.keys())
            if _sha(before.get(name)) != _sha(after.get(name))
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
                continue  # GitHub makes no event at all then
            self._emit(repository, payloads.Move(name, old, new, before, login))

    def _adopt_default_branch(self, repository: Repository, refs: dict[str, Ref]) -> None:
        branches = [name.removeprefix("refs/heads/") for name in refs if name.startswith("refs/heads/")]
        if branches and repository.default_branch not in branches:
            repository.git.head = branches[0]  # the first branch pushed to an empty repository

    def _emit(self, repository: Repository, move: payloads.Move) -> None:
        events = [("push", payloads.push(repository, move, self.url))]
        if move.created or move.deleted:
            kind = "create" if move.created else "delete"
            events.insert(0, (kind, payloads.create_or_delete(repository, move, self.url)))
        for hook in self.store.hooks(repository.id):
            for event, payload in events:
                if hook["active"] and ({event, "*"} & set(hook["events"])):
                    self.sender.enqueue(hook, event, payload, move.name)


def _sha(ref: Ref | None) -> str:
    return ZERO if ref is None else ref.sha


def check_name(full_name: str) -> None:
    """Refuse what GitHub would not take as owner/repo.

    Raises:
        BadNameError: says why.
    """
    owner, slash, name = full_name.partition("/")
    if not slash:
        raise BadNameError(f"{full_name!r} is not of the form owner/repo")
    if not _OWNER.fullmatch(owner) or owner.lower() in _RESERVED_OWNERS:
        raise BadNameError(f"{owner!r} is no owner: letters, digits and single hyphens, at most 39")
    if not _NAME.fullmatch(name) or name in {".", ".."} or name.lower().endswith((".git", ".wiki")):
        raise BadNameError(f"{name!r} is no repository name: letters, digits, '.', '_' and '-', at most 100")
