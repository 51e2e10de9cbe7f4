"""Random actions of a team on its repositories, recorded independently of deployer."""

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
_SELF = {
    "Name": "Self",
    "Actions": [
        {
            "Name": "Self",
            "ActionTypeId": {
                "Category": "Deploy", "Owner": "AWS", "Provider": "CloudFormation", "Version": "1"
            },
            "Configuration": {
                "ActionMode": "CREATE_UPDATE",
                "StackName": {"Ref": "PipelineName"},
                "TemplatePath": "Source::deploy/pipeline.json",
            },
            "InputArtifacts": [{"Name": "Source"}],
        }
    ],
}  # fmt: skip
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


def self_updating_template(*, own_tags: bool) -> dict[str, Any]:
    """The template with a last stage that updates the pipeline's own stack, perhaps with tags of its own."""
    template = json.loads(json.dumps(TEMPLATE))
    stage = json.loads(json.dumps(_SELF))
    if own_tags:
        stage["Actions"][0]["Configuration"]["TemplateConfiguration"] = "Source::own.json"
    template["Resources"]["Pipeline"]["Properties"]["Stages"].append(stage)
    return dict(template)


TTL = 12.0  # seconds after which an idle branch `short/*` expires
SHORT = "refs/heads/short/"
_PREFERENCES = json.dumps({"ttl": {"default": "never", "short/*": f"{TTL:.0f}s"}})


@dataclass(frozen=True)
class Move:
    """A push of a ref; `sha` is empty if the ref was deleted."""

    at: float
    repository: str
    ref: str
    sha: str


@dataclass
class Repository:
    """A local repository in which commits are made and from which they are pushed.

    Attributes:
        name: its present full name.
        names: all its names, the first one first.
        default: the default branch.
        moved_default: whether another branch was the default branch before.
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
    """A team that pushes.

    Args:
        directory: for the local repositories.
        github: URL of the simulated GitHub.
        names: full names of existing empty repositories.
        dice: the random generator of all choices.
        habits: the possible kinds of actions; by default all.
        self_updates: whether some pipelines update their own stack: `tags` if they may bring tags of their own, `plain`
            if they may not, empty for none.
    """

    def __init__(
        self,
        directory: Path,
        github: str,
        names: Sequence[str],
        dice: random.Random,
        habits: Sequence[str] = (),
        self_updates: str = "",
    ) -> None:
        self._dice, self._habits, self._github = dice, habits, github
        self._templates = [TEMPLATE]
        if self_updates:
            self._templates = [TEMPLATE, TEMPLATE, self_updating_template(own_tags=False)]
        if self_updates == "tags":
            self._templates.append(self_updating_template(own_tags=True))
        self.self_updates = 0
        self.moves: list[Move] = []
        self.repositories = []
        for name in names:
            repository = Repository(name, directory / name.replace("/", "~"), f"{github}/{name}.git", [name])
            repository.directory.mkdir(parents=True)
            _run_git(repository, "init", "-q", "--bare", ".")
            self.repositories.append(repository)

    def push_default_branches(self) -> None:
        """Push the default branch of every repository."""
        for repository in self.repositories:
            self.push_refs(repository, {"refs/heads/main": self.make_commit(repository)})

    def perform_action(self) -> str:
        """Perform one random action; return its description."""
        dice, repository = self._dice, self._dice.choice(self.repositories)
        branches = [ref for ref in repository.heads if ref != repository.default and "poison" not in ref]
        kind = dice.choice(self._possible_kinds(repository, branches))
        if repository.archived:
            self.change_repository(repository, kind := "unarchive")
        elif kind in {"rename", "archive", "default"}:
            self._change_as_owner(repository, kind, branches)
        else:
            self._perform_push(repository, kind, branches)
        return f"{kind} {repository.name}"

    def _possible_kinds(self, repository: Repository, branches: Sequence[str]) -> list[str]:
        """The possible kinds of actions; a kind that is listed more often is more probable."""
        kinds = (
            ["main", "tag"] + ["new"] * (3 if len(branches) < 3 else 0) + ["again"] * bool(repository.gone)
        )
        kinds += (
            ["push", "push", "update", "force", "merge", "burst", "delete", "flicker"] if branches else []
        )
        if (
            repository is not self.repositories[0]
        ):  # the poison task is looked up by this repository's first name
            kinds += ["rename", "archive"]
            kinds += ["default"] if any(not ref.startswith(SHORT) for ref in branches) else []
        return [each for each in kinds if each in self._habits] or kinds

    def _perform_push(self, repository: Repository, kind: str, branches: Sequence[str]) -> None:
        dice = self._dice
        match kind:
            case "main":
                self.push_refs(
                    repository, {repository.default: self.make_commit(repository, repository.default)}
                )
            case "tag":
                repository.tags += 1
                tag, main = f"refs/tags/v{repository.tags}", repository.default
                if dice.choice([True, False]):
                    self.push_refs(repository, {tag: repository.heads[main]})
                else:  # pushed together with its commit, which is on the default branch only from then on
                    commit = self.make_commit(repository, main)
                    self.push_refs(repository, {main: commit, tag: commit})
            case "new":
                ref = f"refs/heads/{dice.choice(['feature/', 'short/', ''])}b{len(self.moves)}"
                self.push_refs(repository, {ref: self.make_commit(repository)})
            case "again":
                ref = repository.gone.pop(dice.randrange(len(repository.gone)))
                self.push_refs(repository, {ref: self.make_commit(repository)})
            case "push" | "update" | "force":
                ref = dice.choice(branches)
                start = "" if kind == "force" else ref
                note = f"note {len(self.moves)}" if kind == "update" else "note"
                self.push_refs(repository, {ref: self.make_commit(repository, start, note)})
            case "merge":
                main = repository.default
                self.push_refs(
                    repository, {main: self.make_commit(repository, main, merged=dice.choice(branches))}
                )
            case "burst":
                refs = dice.sample(branches, min(len(branches), dice.randint(1, 3)))
                for _ in range(2):
                    self.push_refs(repository, {ref: self.make_commit(repository, ref) for ref in refs})
            case "delete":
                self.delete_branch(repository, dice.choice(branches))
            case _:  # deleted and created again immediately
                ref = dice.choice(branches)
                self.delete_branch(repository, ref)
                repository.gone.remove(ref)
                self.push_refs(repository, {ref: self.make_commit(repository)})

    def _change_as_owner(self, repository: Repository, kind: str, branches: Sequence[str]) -> None:
        """Perform an action of an owner on the whole repository."""
        if kind == "rename":
            first = repository.names[0].rpartition("/")[2]
            self.change_repository(repository, "rename", f"{first}-{len(repository.names)}")
        elif kind == "archive":
            self.change_repository(repository, "archive")
        else:
            to = self._dice.choice([ref for ref in branches if not ref.startswith(SHORT)])
            # Production runs only commits of the default branch, so the team merges its releases into the new one.
            self.push_refs(repository, {to: self.make_commit(repository, to, merged=repository.default)})
            self.change_repository(repository, "default_branch", to.removeprefix("refs/heads/"))

    def make_commit(self, repository: Repository, on: str = "", note: str = "note", merged: str = "") -> str:
        """Create a unique commit; return it.

        Args:
            repository: the repository.
            on: the ref of its parent; empty for a root commit.
            note: value of a parameter of the template.
            merged: the ref of a second parent.
        """
        repository.commits += 1
        parameters = {kind: {"Note": note} for kind in ("development", "staging", "production")}
        template = self._dice.choice(self._templates)
        self.self_updates += template != TEMPLATE
        deploy = self._write_tree(
            repository,
            {
                "pipeline.json": json.dumps(template),
                "pipeline.parameters.json": json.dumps(parameters),
                "deployer.yml": _PREFERENCES,
            },
        )
        number = _run_git(repository, "hash-object", "-w", "--stdin", text=str(repository.commits))
        own = _run_git(repository, "hash-object", "-w", "--stdin", text=json.dumps({"Tags": {"team": "a"}}))
        entries = f"040000 tree {deploy}\tdeploy\n100644 blob {number}\tnumber\n100644 blob {own}\town.json\n"
        tree = _run_git(repository, "mktree", text=entries)
        heads = [repository.heads[ref] for ref in (on, merged) if ref in repository.heads]
        parents = [word for head in heads for word in ("-p", head)]
        return _run_git(repository, "commit-tree", tree, *parents, "-m", f"number {repository.commits}")

    def _write_tree(self, repository: Repository, files: dict[str, str]) -> str:
        blobs = {
            name: _run_git(repository, "hash-object", "-w", "--stdin", text=text)
            for name, text in files.items()
        }
        return _run_git(
            repository, "mktree", text="".join(f"100644 blob {b}\t{n}\n" for n, b in sorted(blobs.items()))
        )

    def push_refs(self, repository: Repository, refs: dict[str, str]) -> None:
        """Force-push commits to refs."""
        began = time.time()  # a webhook may be handled before git returns
        _run_git(
            repository, "push", "-q", "--force", repository.address, *(f"{s}:{r}" for r, s in refs.items())
        )
        self.moves += [Move(began, repository.name, ref, sha) for ref, sha in refs.items()]
        repository.heads.update({ref: sha for ref, sha in refs.items() if ref.startswith("refs/heads/")})

    def delete_branch(self, repository: Repository, ref: str) -> None:
        """Delete a branch."""
        began = time.time()
        _run_git(repository, "push", "-q", repository.address, f":{ref}")
        self.moves.append(Move(began, repository.name, ref, ""))
        del repository.heads[ref]
        repository.gone.append(ref)

    def change_repository(self, repository: Repository, action: str, to: str = "") -> None:
        """Change a whole repository: rename, archive, unarchive, default_branch."""
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

    def unarchive_all(self) -> None:
        """Unarchive all repositories, so that everything can be deployed."""
        for repository in self.repositories:
            if repository.archived:
                self.change_repository(repository, "unarchive")

    def list_refs(self) -> dict[str, dict[str, str]]:
        """git's present refs: repository to ref to commit."""
        found: dict[str, dict[str, str]] = {}
        for repository in self.repositories:
            listed = _run_git(repository, "ls-remote", repository.address).split("\n")
            pairs = [line.split("\t") for line in listed if line]
            found[repository.name] = {ref: sha for sha, ref in pairs if ref.startswith("refs/")}
        return found


def _run_git(repository: Repository, *command: str, text: str | None = None) -> str:
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
