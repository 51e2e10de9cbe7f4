"""The tables of the SQLite file of the simulated GitHub."""

from __future__ import annotations

import sqlite3
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS repositories (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  full_name TEXT NOT NULL UNIQUE COLLATE NOCASE,
  archived INTEGER NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL,
  pushed_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS hooks (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  repository_id INTEGER NOT NULL REFERENCES repositories (id),
  url TEXT NOT NULL,
  secret TEXT NOT NULL,
  content_type TEXT NOT NULL DEFAULT 'json',
  events TEXT NOT NULL,
  active INTEGER NOT NULL DEFAULT 1,
  standard INTEGER NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL,
  organization TEXT NOT NULL DEFAULT '' COLLATE NOCASE -- the owner of an organization's hook; its repository_id is 0
);
CREATE TABLE IF NOT EXISTS statuses (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  repository_id INTEGER NOT NULL REFERENCES repositories (id),
  sha TEXT NOT NULL,
  state TEXT NOT NULL,
  description TEXT,
  target_url TEXT,
  context TEXT NOT NULL,
  created_at TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS statuses_by_sha ON statuses (repository_id, sha);
CREATE TABLE IF NOT EXISTS deliveries (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  guid TEXT NOT NULL,
  hook_id INTEGER NOT NULL,
  repository_id INTEGER NOT NULL REFERENCES repositories (id),
  event TEXT NOT NULL,
  action TEXT,
  ref TEXT,
  payload TEXT NOT NULL,
  redelivery INTEGER NOT NULL DEFAULT 0,
  state TEXT NOT NULL DEFAULT 'pending',
  status TEXT NOT NULL DEFAULT 'pending',
  status_code INTEGER NOT NULL DEFAULT 0,
  request_headers TEXT NOT NULL DEFAULT '{}',
  response_headers TEXT NOT NULL DEFAULT '{}',
  response TEXT NOT NULL DEFAULT '',
  duration REAL NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL,
  delivered_at TEXT
);
CREATE TABLE IF NOT EXISTS former_names (
  full_name TEXT PRIMARY KEY COLLATE NOCASE,
  repository_id INTEGER NOT NULL REFERENCES repositories (id)
);
CREATE TABLE IF NOT EXISTS pulls (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  repository_id INTEGER NOT NULL REFERENCES repositories (id),
  number INTEGER NOT NULL,
  head TEXT NOT NULL,
  base TEXT NOT NULL,
  title TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'open',
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL DEFAULT '',
  fork TEXT NOT NULL DEFAULT '', -- the name of the fork that has the head
  sha TEXT NOT NULL DEFAULT '' -- the commit of the head
);
CREATE TABLE IF NOT EXISTS comments (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  repository_id INTEGER NOT NULL REFERENCES repositories (id),
  place TEXT NOT NULL,
  login TEXT NOT NULL,
  body TEXT NOT NULL,
  created_at TEXT NOT NULL,
  updated_at TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS protections (
  repository_id INTEGER NOT NULL REFERENCES repositories (id),
  target TEXT NOT NULL, -- `branch`, or `tag` for a ruleset
  name TEXT NOT NULL,
  contexts TEXT NOT NULL DEFAULT '[]', -- a JSON list: those of the statuses that a branch requires
  PRIMARY KEY (repository_id, target, name)
);
CREATE TABLE IF NOT EXISTS installations (
  owner TEXT PRIMARY KEY COLLATE NOCASE,
  permissions TEXT NOT NULL,
  suspended_at TEXT NOT NULL DEFAULT '',
  tokens_since REAL NOT NULL DEFAULT 0,
  requires_sign_on INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS deliveries_by_guid ON deliveries (guid);
CREATE INDEX IF NOT EXISTS deliveries_by_repository ON deliveries (repository_id);
"""

# columns of repositories that a file of an earlier version may lack
_FLAGS = ("private", "uninstalled", "deleted")


def open_database(path: Path) -> sqlite3.Connection:
    """Open the SQLite file and create the tables and columns that it lacks. Threads may share the connection."""
    database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    database.row_factory = sqlite3.Row
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=OFF")  # in a sandbox, a power failure may lose the last rows
    database.executescript(_SCHEMA)
    existing = _columns(database, "repositories")
    for flag in (each for each in _FLAGS if each not in existing):
        database.execute(f"ALTER TABLE repositories ADD COLUMN {flag} INTEGER NOT NULL DEFAULT 0")
    if "organization" not in _columns(database, "hooks"):
        database.execute("ALTER TABLE hooks ADD COLUMN organization TEXT NOT NULL DEFAULT '' COLLATE NOCASE")
    if "contexts" not in _columns(database, "protections"):
        database.execute("ALTER TABLE protections ADD COLUMN contexts TEXT NOT NULL DEFAULT '[]'")
    for column in {"fork", "sha", "updated_at"} - _columns(database, "pulls"):
        database.execute(f"ALTER TABLE pulls ADD COLUMN {column} TEXT NOT NULL DEFAULT ''")
    return database


def _columns(database: sqlite3.Connection, table: str) -> set[str]:
    return {row["name"] for row in database.execute(f"PRAGMA table_info({table})")}
