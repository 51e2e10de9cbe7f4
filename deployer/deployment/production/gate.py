"""The gate of production, which decides whether production may run a commit of a tag.

Every way to production asks this gate. A person who can push a branch or a tag must not be able to choose what
production runs. Therefore the rules are those of the installation (`DEPLOYER_TARGETS`) and of `deploy/deployer.yml` on
the default branch, never those at the tagged commit. The commit must be on the default branch, or on a protected branch
that both sets of rules name. Commits are compared by id, because a tag may have the name `main`.

`judge` is a pure function of what was read. `ProductionGate` reads from GitHub for each decision, and only what
`judge` needs.
See docs/decisions/0013-production-gate.md.
"""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from deployer.environment.cloud_region import Clouds
from deployer.environment.code_host import CodeHost, Relation
from deployer.model.environments import Kind, Repository
from deployer.model.refs import Ref
from deployer.model.targets import Target
from deployer.templates.folder_files import FOLDER, UnreadableError
from deployer.templates.repository_config import CONFIG_FILE, CONFIG_STEM, NamePatterns, RepositoryConfig

MOST_COMPARED = 20  # protected branches compared for one decision; each costs a call to GitHub


@dataclass(frozen=True, slots=True)
class Admitted:
    """Production may run the commit.

    Attributes:
        by: the rule, as people read it.
    """

    by: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Production may not run the commit.

    Attributes:
        reason: why, in one line, with the remedy.
        text: the same for the commit's status, of which GitHub shows 140 characters.
        state: the state of that status: `success` if the tag is simply no tag for production, otherwise `failure`.
        recheck: whether a push to the default branch may change the answer.
        may_follow: whether the commit may arrive on its branch soon: a tag can be pushed before its branch.
    """

    reason: str
    text: str
    state: str = "failure"
    recheck: bool = False
    may_follow: bool = False


class Need(StrEnum):
    """What must be read for a decision and was not read yet."""

    DEFAULT_RELATION = "the relation of the commit to the default branch"
    PROTECTED = "the protected branches"
    BRANCH_RELATIONS = "the relation of the commit to the protected branches"


@dataclass(frozen=True, slots=True)
class Situation:
    """What was read for one decision.

    Attributes:
        repository: the repository.
        tag: the tag.
        commit: the tag's commit.
        target: production's target, with the installation's limits.
        default_branch: its short name.
        default_head: the commit of the default branch; empty if it has none.
        config: the settings in `deploy/deployer.yml` at that commit; None if there is no such file.
        unreadable: why that file cannot be read; empty if it can be read or does not exist.
        default_relation: the relation of the tag's commit to that commit; None if it was not read.
        protected: the protected branches with their commits; None if they were not read.
        relations: the relation of the tag's commit to each compared branch, by short name.
    """

    repository: Repository
    tag: Ref
    commit: str
    target: Target
    default_branch: str
    default_head: str
    config: RepositoryConfig | None = None
    unreadable: str = ""
    default_relation: Relation | None = None
    protected: Mapping[Ref, str] | None = None
    relations: Mapping[str, Relation] = field(default_factory=dict)

    @property
    def allowed_branches(self) -> tuple[NamePatterns, ...]:
        """The patterns that a protected branch must match, all of them; empty if only the default branch counts.

        Without a file on the default branch, only the installation names branches. With a file, the file names the
        branches and the installation may exclude some of them.
        """
        narrowed = (NamePatterns(self.target.branches),) if self.target.branches else ()
        if self.config is None:
            return narrowed
        named = self.config.production_branches
        return (named, *narrowed) if named else ()

    def candidates(self) -> list[tuple[str, str]]:
        """Name and commit of each protected branch that the patterns allow, the latest version first.

        Names are ordered by their numbers, so `release/1.10` comes before `release/1.9`.
        """
        patterns = self.allowed_branches
        found = [
            (ref.short, head)
            for ref, head in (self.protected or {}).items()
            if ref.short != self.default_branch and all(each.match(ref.short) for each in patterns)
        ]
        return sorted(found, key=lambda branch: _branch_version_order(branch[0]), reverse=True)


def _branch_version_order(name: str) -> list[tuple[str, int]]:
    return [(text, int(number or 0)) for text, number in re.findall(r"([^0-9]*)([0-9]*)", name)]


def judge(known: Situation) -> Admitted | Refused | Need:
    """Decide about a commit, or return what must be read first.

    Args:
        known: what was read so far.
    """
    if refusal := _refuse_by_name(known):
        return refusal
    if not known.default_head:
        return _refuse_off_branch(known, f"the default branch {known.default_branch} has no commit")
    if known.unreadable:
        return _refuse_unreadable(known)
    if not known.target.from_default_branch:
        return Admitted("from_default_branch is false in DEPLOYER_TARGETS")
    if known.commit == known.default_head:
        return Admitted(f"it is the head of {known.default_branch}")
    if known.default_relation is None:
        return Need.DEFAULT_RELATION
    if known.default_relation.contained:
        return Admitted(f"it is on {known.default_branch} at {known.default_head[:12]}")
    if known.allowed_branches:
        if known.protected is None:
            return Need.PROTECTED
        return _judge_by_branches(known)
    return _refuse_off_branch(known)


def _judge_by_branches(known: Situation) -> Admitted | Refused | Need:
    candidates = known.candidates()
    compared = candidates[:MOST_COMPARED]
    for name, head in compared:
        relation = known.relations.get(name)
        if relation is not None and relation.contained:
            return Admitted(f"it is on the protected branch {name} at {head[:12]}")
    if any(name not in known.relations for name, _ in compared):
        return Need.BRANCH_RELATIONS
    if len(candidates) > MOST_COMPARED:
        reason = (
            f"{_tag_and_commit(known)} is not on {known.default_branch} or on the first {MOST_COMPARED} "
            f"of {len(candidates)} protected branches that production.branches names; name fewer"
        )
        text = f"{known.commit[:12]} is not on {known.default_branch}, and production.branches names too many branches"
        return Refused(f"{reason}, or {_approve_command(known)}", text, recheck=True)
    return _refuse_off_branch(known)


def _refuse_by_name(known: Situation) -> Refused | None:
    lists = [("production.tags in DEPLOYER_TARGETS", NamePatterns(known.target.tags))]
    if known.config:
        lists.append((f"the tags of {CONFIG_FILE} on {known.default_branch}", known.config.tags))
    for what, patterns in lists:
        if not patterns.match(known.tag.short):
            text = f"{known.tag.short} is not among {what}"
            return Refused(
                f"{text}; to deploy it all the same, {_approve_command(known)}", text, state="success"
            )
    return None


def _refuse_unreadable(known: Situation) -> Refused:
    branch = known.default_branch
    reason = f"{CONFIG_FILE} on {branch} cannot be read, so no tag is deployed ({known.unreadable})"
    text = f"{CONFIG_FILE} on {branch} cannot be read; correct it, or {_approve_command(known)}"
    return Refused(f"{reason}; correct it, or {_approve_command(known)}", text, recheck=True)


def _refuse_off_branch(known: Situation, why: str = "") -> Refused:
    branch, commit = known.default_branch, known.commit[:12]
    further = " or on a protected branch of production.branches" if known.allowed_branches else ""
    unrelated = known.default_relation is Relation.UNRELATED
    what = "has no history in common with" if unrelated else "is not on"
    why = why or f"{_tag_and_commit(known)} {what} {branch}{further}"
    remedy = f"after a squash or rebase tag the merge commit on {branch}, or {_approve_command(known)}"
    text = f"{commit} {what} {branch}: tag the merge commit, or {_approve_command(known)}"
    return Refused(f"{why}; {remedy}", text, recheck=True, may_follow=not unrelated)


def _tag_and_commit(known: Situation) -> str:
    return f"{known.tag.short} at {known.commit[:12]}"


def _approve_command(known: Situation) -> str:
    # the command names the judged commit: it approves no other commit to which the tag is moved in the meantime
    return f"deployer approve {known.repository} {shlex.quote(known.tag.short)} --sha {known.commit[:12]}"


class ProductionGate:
    """Reads from GitHub what a decision needs.

    Args:
        host: GitHub.
        clouds: has the installation's rules for production.
        read: parses `deploy/deployer.yml` in a process with limits, because the repository may contain anything.
    """

    def __init__(
        self, host: CodeHost, clouds: Clouds, read: Callable[[Mapping[str, bytes]], RepositoryConfig]
    ) -> None:
        self._host = host
        self._clouds = clouds
        self._read_file = read

    def judge(self, repository: Repository, tag: Ref, commit: str) -> Admitted | Refused:
        """Decide whether production may run a commit.

        The default branch, its commit, its rules and the protected branches are read again for each decision.

        Args:
            repository: the repository.
            tag: the tag that is to be deployed.
            commit: the tag's commit. Only this commit is admitted.

        Raises:
            TransientError: GitHub is unavailable, so there is no decision.
            PermanentError: the repository is not found.
        """
        known = self._read_rules(repository, tag, commit)
        while isinstance(answer := judge(known), Need):
            known = self._read_more(known, answer)
        return answer

    def first_allowed(self, repository: Repository, tags: Sequence[Ref]) -> Ref | None:
        """Return the first tag whose name the rules allow. The commits of the tags are not read.

        Args:
            repository: the repository.
            tags: one tag at least.

        Raises:
            TransientError: GitHub is unavailable.
            PermanentError: the repository is not found.
        """
        known = self._read_rules(repository, tags[0], "")
        if known.unreadable or not known.default_head:
            return None
        return next((tag for tag in tags if _refuse_by_name(replace(known, tag=tag)) is None), None)

    def _read_rules(self, repository: Repository, tag: Ref, commit: str) -> Situation:
        branch = self._host.default_branch(repository)
        head = self._host.head(repository, Ref.of_branch(branch))
        known = Situation(
            repository, tag, commit, self._clouds.target(Kind.PRODUCTION), branch, head.sha if head else ""
        )
        if not head:
            return known
        try:
            files = self._host.regular_files(repository, head.sha, FOLDER, CONFIG_STEM)
            return replace(known, config=self._read_file(files) if files else None)
        except UnreadableError as error:
            return replace(known, unreadable=str(error))

    def _read_more(self, known: Situation, need: Need) -> Situation:
        repository, commit = known.repository, known.commit
        if need is Need.DEFAULT_RELATION:
            return replace(
                known, default_relation=self._host.ancestry(repository, known.default_head, commit)
            )
        if need is Need.PROTECTED:
            return replace(known, protected=self._host.protected_branches(repository))
        relations = dict[str, Relation]()
        for name, head in known.candidates()[:MOST_COMPARED]:
            relations[name] = (
                Relation.IDENTICAL if head == commit else self._host.ancestry(repository, head, commit)
            )
            if relations[name].contained:
                break
        return replace(known, relations=relations)
