"""What a team does to its repositories, drawn from a seed, and a record of it that deployer has no part in."""

import json
import os
import random
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.http_calls import call

_STAGES = [
    {
        "Name": "Source",
        "Actions": [
            {
                "Name": "Source",
                "ActionTypeId": {
                    "Category": "Source", "Owner": "AWS", "Provider": "CodeStarSourceConnection", "Version": "1"
                },
                "Configuration": {
                    "ConnectionArn": {"Ref": "ConnectionArn"},
                    "FullRepositoryId": {"Fn::Sub": "${RepoOwner}/${RepoName}"},
                    "BranchName": {"Ref": "RepoBranch"},
                    "DetectChanges": False,
                },
                "OutputArtifacts": [{"Name": "Source"}],
            }
        ],
    },
    {
        "Name": "Deploy",
        "Actions": [
            {
                "Name": "Files",
                "ActionTypeId": {"Category": "Deploy", "Owner": "AWS", "Provider": "S3", "Version": "1"},
                "Configuration": {"BucketName": {"Ref": "Files"}, "Extract": True},
                "InputArtifacts": [{"Name": "Source"}],
            }
        ],
    },
]  # fmt: skip
_GIVEN = ("PipelineName", "RepoOwner", "RepoName", "RepoBranch", "ConnectionArn", "ArtifactStore", "Note")
TEMPLATE = {
    "AWSTemplateFormatVersion": "2010-09-09",
    "Parameters": {name: {"Type": "String"} for name in _GIVEN},
    "Resources": {
        "Files": {
            "Type": "AWS::S3::Bucket",
            "Properties": {"Tags": [{"Key": "note", "Value": {"Ref": "Note"}}]},
        },
        "Pipeline": {
            "Type": "AWS::CodePipeline::Pipeline",
            "Properties": {
                "Name": {"Ref": "PipelineName"},
                "PipelineType": "V2",
                "RoleArn": "arn:aws:iam::123456789012:role/pipeline",
                "ArtifactStore": {"Type": "S3", "Location": {"Ref": "ArtifactStore"}},
                "Stages": _STAGES,
            },
        },
    },
}


TTL = 12.0  # seconds to live of the branches that are not used for long
SHORT = "refs/heads/short/"
_PREFERENCES = json.dumps({"ttl": {"default": "never", "short/*": f"{TTL:.0f}s"}})


@dataclass(frozen=True)
class Move:
    """A ref was moved: `sha` is empty where it was deleted."""

    at: float
    repository: str
    ref: str
    sha: str


@dataclass
class Repository:
    """One repository's workshop: commits are made here and pushed from here.

    Attributes:
        name: its full name now; `names` are all it had, the first one first.
        default: the default branch, which was another one before if it `moved_default`.
    """

    name: str
    directory: Path
    address: str
    names: list[str] = field(default_factory=list)
    default: str = "refs/heads/main"
    moved_default: bool = False
    archived: bool = False
    heads: dict[str, str] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    tags: int = 0
    commits: int = 0


class Team:
    """People who push, seen from outside.

    Args:
        directory: for the workshops.
        github: the simulated GitHub's address.
        names: full names of repositories, which exist and are empty.
        dice: where every choice comes from.
        habits: what people do; everything by default.
    """

    def __init__(
        self,
        directory: Path,
        github: str,
        names: Sequence[str],
        dice: random.Random,
        habits: Sequence[str] = (),
    ) -> None:
        self._dice, self._habits, self._github = dice, habits, github
        self.moves: list[Move] = []
        self.repositories = []
        for name in names:
            repository = Repository(name, directory / name.replace("/", "~"), f"{github}/{name}.git", [name])
            repository.directory.mkdir(parents=True)
            _git(repository, "init", "-q", "--bare", ".")
            self.repositories.append(repository)

    def begin(self) -> None:
        """Give every repository its default branch."""
        for repository in self.repositories:
            self.move(repository, {"refs/heads/main": self.commit(repository)})

    def act(self) -> str:
        """Do one thing that a team does; returns it in words."""
        dice, repository = self._dice, self._dice.choice(self.repositories)
        branches = [ref for ref in repository.heads if ref != repository.default and "poison" not in ref]
        kind = dice.choice(self._kinds(repository, branches))
        if repository.archived:
            self.change(repository, kind := "unarchive")
        elif kind in {"rename", "archive", "default"}:
            self._own(repository, kind, branches)
        else:
            self._push(repository, kind, branches)
        return f"{kind} {repository.name}"

    def _kinds(self, repository: Repository, branches: Sequence[str]) -> list[str]:
        """What may be done now, the more often the more probable."""
        kinds = (
            ["main", "tag"] + ["new"] * (3 if len(branches) < 3 else 0) + ["again"] * bool(repository.gone)
        )
        kinds += (
            ["push", "push", "update", "force", "merge", "burst", "delete", "flicker"] if branches else []
        )
        if repository is not self.repositories[0]:  # whose poison is judged by its first name
            kinds += ["rename", "archive"]
            kinds += ["default"] if any(not ref.startswith(SHORT) for ref in branches) else []
        return [each for each in kinds if each in self._habits] or kinds

    def _push(self, repository: Repository, kind: str, branches: Sequence[str]) -> None:
        dice = self._dice
        match kind:
            case "main":
                self.move(repository, {repository.default: self.commit(repository, repository.default)})
            case "tag":
                repository.tags += 1
                tag, main = f"refs/tags/v{repository.tags}", repository.default
                if dice.choice([True, False]):
                    self.move(repository, {tag: repository.heads[main]})
                else:  # together with its commit, which only then comes to the default branch
                    commit = self.commit(repository, main)
                    self.move(repository, {main: commit, tag: commit})
            case "new":
                ref = f"refs/heads/{dice.choice(['feature/', 'short/', ''])}b{len(self.moves)}"
                self.move(repository, {ref: self.commit(repository)})
            case "again":
                ref = repository.gone.pop(dice.randrange(len(repository.gone)))
                self.move(repository, {ref: self.commit(repository)})
            case "push" | "update" | "force":
                ref = dice.choice(branches)
                start = "" if kind == "force" else ref
                note = f"note {len(self.moves)}" if kind == "update" else "note"
                self.move(repository, {ref: self.commit(repository, start, note)})
            case "merge":
                main = repository.default
                self.move(repository, {main: self.commit(repository, main, merged=dice.choice(branches))})
            case "burst":
                refs = dice.sample(branches, min(len(branches), dice.randint(1, 3)))
                for _ in range(2):
                    self.move(repository, {ref: self.commit(repository, ref) for ref in refs})
            case "delete":
                self.remove(repository, dice.choice(branches))
            case _:  # deleted, and back at once
                ref = dice.choice(branches)
                self.remove(repository, ref)
                repository.gone.remove(ref)
                self.move(repository, {ref: self.commit(repository)})

    def _own(self, repository: Repository, kind: str, branches: Sequence[str]) -> None:
        """Do what an owner does to a repository as a whole."""
        if kind == "rename":
            first = repository.names[0].rpartition("/")[2]
            self.change(repository, "rename", f"{first}-{len(repository.names)}")
        elif kind == "archive":
            self.change(repository, "archive")
        else:
            to = self._dice.choice([ref for ref in branches if not ref.startswith(SHORT)])
            # production runs only what is on the default branch: a team takes its releases along
            self.move(repository, {to: self.commit(repository, to, merged=repository.default)})
            self.change(repository, "default_branch", to.removeprefix("refs/heads/"))

    def commit(self, repository: Repository, on: str = "", note: str = "note", merged: str = "") -> str:
        """Make a commit that no other is like; on top of a ref, or on none; also of one merged into it."""
        repository.commits += 1
        parameters = {kind: {"Note": note} for kind in ("development", "staging", "production")}
        deploy = self._tree(
            repository,
            {
                "pipeline.json": json.dumps(TEMPLATE),
                "pipeline.parameters.json": json.dumps(parameters),
                "deployer.yml": _PREFERENCES,
            },
        )
        number = _git(repository, "hash-object", "-w", "--stdin", text=str(repository.commits))
        tree = _git(
            repository, "mktree", text=f"040000 tree {deploy}\tdeploy\n100644 blob {number}\tnumber\n"
        )
        heads = [repository.heads[ref] for ref in (on, merged) if ref in repository.heads]
        parents = [word for head in heads for word in ("-p", head)]
        return _git(repository, "commit-tree", tree, *parents, "-m", f"number {repository.commits}")

    def _tree(self, repository: Repository, files: dict[str, str]) -> str:
        blobs = {
            name: _git(repository, "hash-object", "-w", "--stdin", text=text) for name, text in files.items()
        }
        return _git(
            repository, "mktree", text="".join(f"100644 blob {b}\t{n}\n" for n, b in sorted(blobs.items()))
        )

    def move(self, repository: Repository, refs: dict[str, str]) -> None:
        """Push commits to refs, by force."""
        began = time.time()  # webhooks may be heeded before git returns
        _git(repository, "push", "-q", "--force", repository.address, *(f"{s}:{r}" for r, s in refs.items()))
        self.moves += [Move(began, repository.name, ref, sha) for ref, sha in refs.items()]
        repository.heads.update({ref: sha for ref, sha in refs.items() if ref.startswith("refs/heads/")})

    def remove(self, repository: Repository, ref: str) -> None:
        """Delete a branch."""
        began = time.time()
        _git(repository, "push", "-q", repository.address, f":{ref}")
        self.moves.append(Move(began, repository.name, ref, ""))
        del repository.heads[ref]
        repository.gone.append(ref)

    def change(self, repository: Repository, action: str, to: str = "") -> None:
        """Do something to a repository as a whole."""
        address = f"{self._github}/_sandbox/repositories/{repository.name}"
        body = json.dumps({"action": action, "to": to}).encode()
        answer = call("POST", address, body, {"Content-Type": "application/json"}, 30)
        assert answer.status == 200, answer.text
        repository.name = answer.json["full_name"]
        match action:
            case "rename":
                repository.names.append(repository.name)
                repository.address = f"{self._github}/{repository.name}.git"
            case "default_branch":
                repository.default, repository.moved_default = f"refs/heads/{to}", True
            case _:
                repository.archived = action == "archive"

    def end(self) -> None:
        """Do what must be done for everything to be deployed: what is archived is so no longer."""
        for repository in self.repositories:
            if repository.archived:
                self.change(repository, "unarchive")

    def refs(self) -> dict[str, dict[str, str]]:
        """What git itself says now: repository to ref to commit."""
        found: dict[str, dict[str, str]] = {}
        for repository in self.repositories:
            listed = _git(repository, "ls-remote", repository.address).split("\n")
            pairs = [line.split("\t") for line in listed if line]
            found[repository.name] = {ref: sha for sha, ref in pairs if ref.startswith("refs/")}
        return found


def _git(repository: Repository, *command: str, text: str | None = None) -> str:
    people = {f"GIT_{who}_{what}": "ada@x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    env: dict[str, Any] = {
        **people,
        "PATH": os.environ["PATH"],
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
    }
    done = subprocess.run(
        ["git", *command],
        cwd=repository.directory,
        env=env,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"git {' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()
