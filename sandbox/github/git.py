"""A bare git repository, read or written by the git command."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

ZERO = "0" * 40
_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
_SHA = re.compile(r"[0-9a-f]{40}")
_SHORT_SHA = re.compile(r"[0-9a-f]{4,40}")
_LOG = ("%H", "%T", "%P", "%an", "%ae", "%aI", "%cn", "%ce", "%cI", "%B")
_CONFIG = {
    "core.quotePath": "false",
    "gc.auto": "0",  # a background collection would race with the removal of the data directory
    "receive.autogc": "false",
    "uploadpack.allowAnySHA1InWant": "true",
    "uploadpack.allowFilter": "true",
}


def git_environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """The environment variables for git, without anything of the user's own git configuration."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    identity = {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "Sandbox",
        "GIT_AUTHOR_EMAIL": "sandbox@example.com",
        "GIT_COMMITTER_NAME": "Sandbox",
        "GIT_COMMITTER_EMAIL": "sandbox@example.com",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C.UTF-8",
    }
    return {**kept, **identity, **(extra or {})}


class GitError(Exception):
    """Git failed; the message is the last line of its output."""


@dataclass(frozen=True)
class Ref:
    """A branch or tag: `sha` is the object that it points to, `commit` is that object peeled to a commit."""

    name: str
    sha: str
    kind: str
    commit: str


@dataclass(frozen=True)
class Person:
    """The author or committer of something, with the date (ISO 8601)."""

    name: str
    email: str
    date: str


@dataclass(frozen=True)
class Commit:
    """A commit as git log prints it."""

    sha: str
    tree: str
    parents: tuple[str, ...]
    author: Person
    committer: Person
    message: str


@dataclass(frozen=True)
class Tag:
    """The object of an annotated tag."""

    sha: str
    name: str
    target: str
    target_kind: str
    tagger: Person
    message: str


@dataclass(frozen=True)
class Entry:
    """An entry of a tree."""

    mode: str
    kind: str
    sha: str
    size: int | None
    path: str


@dataclass(frozen=True)
class FileChange:
    """A file that differs between two commits."""

    path: str
    status: str
    additions: int
    deletions: int


@dataclass
class Changes:
    """The paths that one commit changed."""

    added: list[str]
    removed: list[str]
    modified: list[str]


class GitRepository:
    """The bare repository in `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def command(self) -> list[str]:
        """The beginning of every git command line for this repository."""
        settings = [a for k, v in _CONFIG.items() for a in ("-c", f"{k}={v}")]
        return ["git", "-c", "safe.directory=*", *settings]

    def run(self, *args: str, data: bytes = b"", env: dict[str, str] | None = None) -> bytes:
        """Run git in the repository and return its output.

        Raises:
            GitError: git's exit status is not 0.
        """
        result = self.try_run(*args, data=data, env=env)
        if result.returncode:
            lines = result.stderr.decode(errors="replace").strip().split("\n")
            raise GitError(lines[-1] or "git failed")
        return result.stdout

    def try_run(
        self, *args: str, data: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run git in the repository, whatever its exit status."""
        return subprocess.run(
            [*self.command, f"--git-dir={self.path}", *args],
            input=data,
            capture_output=True,
            env=git_environment(env),
            check=False,
        )

    def text(self, *args: str) -> str:
        """What `git args` prints, stripped."""
        return self.run(*args).decode(errors="replace").strip()

    def create(self) -> None:
        """Create the empty repository, with the default branch main."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [
                *self.command,
                "init",
                "--quiet",
                "--bare",
                "--template=",
                "--initial-branch=main",
                str(self.path),
            ],
            check=True,
            capture_output=True,
            env=git_environment(),
        )

    # Refs

    def refs(self) -> dict[str, Ref]:
        """Every branch and tag by full name."""
        fields = "%(refname)%00%(objectname)%00%(objecttype)%00%(*objectname)"
        out = self.run("for-each-ref", f"--format={fields}", "refs/heads", "refs/tags").decode(
            errors="replace"
        )
        found: dict[str, Ref] = {}
        for line in filter(
            None, out.split("\n")
        ):  # not splitlines(): a ref's name may contain a character that Python takes for a line end
            name, sha, kind, peeled = line.split("\0")
            found[name] = Ref(name, sha, kind, peeled or sha)
        return found

    def valid_ref(self, name: str) -> bool:
        """Whether git accepts this as the full name of a ref."""
        return self.try_run("check-ref-format", name).returncode == 0

    def update_ref(self, name: str, new: str, old: str) -> None:
        """Move a ref from an old to a new object; ZERO means that the ref does not exist.

        Raises:
            GitError: the ref no longer points to the old object, or its name conflicts with that of another ref.
        """
        if new == ZERO:
            self.run("update-ref", "-d", name, old)
        else:
            self.run("update-ref", name, new, old)

    @property
    def head(self) -> str:
        """The default branch's short name."""
        # Read without git, because git would cost a process for every repository of a list.
        return (self.path / "HEAD").read_text(encoding="utf-8").strip().removeprefix("ref: refs/heads/")

    @head.setter
    def head(self, branch: str) -> None:
        self.run("symbolic-ref", "HEAD", f"refs/heads/{branch}")

    # Objects

    def object_kind(self, sha: str) -> str | None:
        """The type of the object with a full SHA; None if there is no such object."""
        if not _SHA.fullmatch(sha):
            return None
        result = self.try_run("cat-file", "-t", sha)
        return None if result.returncode else result.stdout.decode().strip()

    def commit_sha(self, name: str) -> str | None:
        """The full SHA of the commit that a full or short SHA means; a tag object's SHA is peeled."""
        if not _SHORT_SHA.fullmatch(name):
            return None
        result = self.try_run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
        return None if result.returncode else result.stdout.decode().strip()

    def list_commits(self, *args: str) -> list[Commit]:
        """The commits that `git log args` lists."""
        out = self.run("log", "-z", f"--format={'%x00'.join(_LOG)}", *args).decode(errors="replace")
        fields = out.split("\0")
        return [_parse_commit(fields[at : at + len(_LOG)]) for at in range(0, len(fields) - 1, len(_LOG))]

    def read_commit(self, sha: str) -> Commit:
        """One commit by its SHA."""
        return self.list_commits("--max-count=1", sha, "--")[0]

    def count_commits(self, *args: str) -> int:
        """The number of commits that `git rev-list args` finds."""
        return int(self.text("rev-list", "--count", *args))

    def changed_paths(self, commits: Iterable[Commit]) -> dict[str, Changes]:
        """The paths that each commit changed, where a merge is compared with its first parent."""
        lines = "".join(" ".join((c.sha, *c.parents[:1])) + "\n" for c in commits)
        out = self.run(
            "diff-tree", "--stdin", "-r", "--root", "--name-status", "-z", "--no-renames", data=lines.encode()
        )
        found: dict[str, Changes] = {}
        tokens = iter(out.decode(errors="replace").split("\0"))
        current = Changes([], [], [])
        for token in tokens:
            if _SHA.fullmatch(token):
                current = found[token] = Changes([], [], [])
            elif token:
                by_letter = {"A": current.added, "D": current.removed}
                by_letter.get(token[0], current.modified).append(next(tokens))
        return found

    def diff(self, old: str | None, new: str) -> list[FileChange]:
        """The files that differ between two commits or trees; None means the empty tree."""
        args = ("--no-renames", "-z", "-r", old or _EMPTY_TREE, new)
        letters = self.run("diff-tree", "--name-status", *args).decode(errors="replace").split("\0")[:-1]
        lines = self.run("diff-tree", "--numstat", *args).decode(errors="replace").split("\0")[:-1]
        found = []
        for letter, path, line in zip(letters[::2], letters[1::2], lines, strict=True):
            added, deleted, _ = line.split("\t", 2)
            status = {"A": "added", "D": "removed"}.get(letter, "modified")
            found.append(FileChange(path, status, _line_count(added), _line_count(deleted)))
        return found

    def merge_base(self, old: str, new: str) -> str | None:
        """The best common ancestor of two commits; None if they have none."""
        result = self.try_run("merge-base", old, new)
        return None if result.returncode else result.stdout.decode().strip()

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether new contains old."""
        return self.try_run("merge-base", "--is-ancestor", old, new).returncode == 0

    def read_tag(self, sha: str) -> Tag:
        """An annotated tag by the SHA of its tag object."""
        head, _, message = self.run("cat-file", "tag", sha).decode(errors="replace").partition("\n\n")
        fields = dict(line.partition(" ")[::2] for line in head.split("\n"))
        return Tag(
            sha, fields["tag"], fields["object"], fields["type"], _parse_tagger(fields["tagger"]), message
        )

    def make_tag(self, name: str, target: str, message: str) -> str:
        """Write the object of an annotated tag, without a ref; returns its SHA."""
        kind = self.object_kind(target) or "commit"
        who = self.text("var", "GIT_COMMITTER_IDENT")
        body = f"object {target}\ntype {kind}\ntag {name}\ntagger {who}\n\n{message.rstrip()}\n"
        return self.run("mktag", data=body.encode()).decode().strip()

    def list_tree(self, treeish: str, *, recursive: bool = False) -> list[Entry]:
        """The entries of a tree; if recursive, also those of its directories."""
        return self._ls_tree(*(["-r", "-t"] if recursive else []), treeish)

    def find_entry(self, commit: str, path: str) -> Entry | None:
        """The entry of one path in a commit's tree; None if the path does not exist."""
        if any(part in {"", ".", ".."} for part in path.split("/")):
            return None
        return next(iter(self._ls_tree(commit, "--", path)), None)

    def _ls_tree(self, *args: str) -> list[Entry]:
        out = self.run("ls-tree", "-z", "--long", "--full-tree", *args).decode(errors="replace")
        return [_parse_entry(line) for line in out.split("\0") if line]

    def read_blob(self, sha: str) -> bytes:
        """A file's bytes."""
        return self.run("cat-file", "blob", sha)

    # Writing

    def commit_directory(self, directory: Path, message: str, person: Person) -> str:
        """Commit a directory from disk, without a branch; returns the commit's SHA."""
        index = {"GIT_INDEX_FILE": str(self.path / "sandbox.index")}
        lines = []
        for file in _files_below(directory):
            sha = self.run("hash-object", "-w", "--stdin", data=file.read_bytes()).decode().strip()
            mode = "100755" if os.access(file, os.X_OK) else "100644"
            lines.append(f"{mode} {sha}\t{file.relative_to(directory).as_posix()}\0")
        (self.path / "sandbox.index").unlink(missing_ok=True)
        self.run("update-index", "-z", "--index-info", data="".join(lines).encode(), env=index)
        tree = self.run("write-tree", env=index).decode().strip()
        return self.commit_tree(tree, [], message, person)

    def commit_tree(self, tree: str, parents: list[str], message: str, person: Person | None = None) -> str:
        """Write a commit, without a branch; returns its SHA."""
        env: dict[str, str] = {}
        if person is not None:
            for role in ("AUTHOR", "COMMITTER"):
                env |= {f"GIT_{role}_NAME": person.name, f"GIT_{role}_EMAIL": person.email}
        options = [a for p in parents for a in ("-p", p)]
        out = self.run("commit-tree", tree, *options, data=f"{message.rstrip()}\n".encode(), env=env)
        return out.decode().strip()

    def merge_tree(self, base: str, head: str) -> str | None:
        """The tree of a merge of two commits; None on a conflict."""
        result = self.try_run("merge-tree", "--write-tree", "--allow-unrelated-histories", base, head)
        if result.returncode > 1:
            raise GitError(result.stderr.decode(errors="replace").strip())
        return None if result.returncode else result.stdout.decode().split()[0]


def _files_below(directory: Path) -> Iterator[Path]:
    for file in sorted(directory.rglob("*")):
        inside = file.relative_to(directory).parts
        if file.is_file() and not {"__pycache__", "dist", ".git"}.intersection(inside):
            yield file


def _parse_commit(fields: Sequence[str]) -> Commit:
    sha, tree, parents, an, ae, ad, cn, ce, cd, message = fields
    return Commit(
        sha.strip(),
        tree,
        tuple(parents.split()),
        Person(an, ae, ad),
        Person(cn, ce, cd),
        message.rstrip("\n"),
    )


def _line_count(number: str) -> int:
    return 0 if number == "-" else int(number)  # git counts no lines in a binary file


def _parse_entry(line: str) -> Entry:
    meta, _, path = line.partition("\t")
    mode, kind, sha, size = meta.split()
    return Entry(mode, kind, sha, None if size == "-" else int(size), path)


def _parse_tagger(line: str) -> Person:
    name, _, rest = line.partition(" <")
    email, _, when = rest.partition("> ")
    return Person(name, email, datetime.fromtimestamp(int(when.split()[0]), UTC).isoformat())
