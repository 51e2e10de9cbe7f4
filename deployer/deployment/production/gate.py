"""Decides whether production may run a commit of a tag. Every way to production asks here and nowhere else.

Whoever can push a branch or a tag must not choose what production runs. So the rules are the installation's
(`DEPLOYER_TARGETS`) and those of `deploy/deployer.yml` on the default branch, never those at the tagged commit; and the
commit must be on the default branch, or on a protected branch that both of them name. Commits are compared by id, since
a tag may be called `main`.

`judge` is a pure function of what was read. `Gate` reads that from GitHub, live for each decision and no more than
`judge` asks for. See docs/decisions/0013-production-gate.md.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from deployer.environment.cloud_region import Clouds
from deployer.environment.code_host import Host, Relation
from deployer.model.environments import Kind, Repository
from deployer.model.refs import Ref
from deployer.model.targets import Target
from deployer.templates.folder_files import FOLDER, UnreadableError
from deployer.templates.repository_config import CONFIG_FILE, CONFIG_STEM, NamePatterns, RepositoryConfig

MOST_COMPARED = 20  # further branches, each a call to GitHub, for one decision


@dataclass(frozen=True, slots=True)
class Admitted:
    """Production may run the commit.

    Attributes:
        by: the rule, in words.
    """

    by: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Production may not run the commit.

    Attributes:
        reason: why, in one line, with the remedy.
        text: the same for the commit's status, of which GitHub shows 140 characters.
        state: the state of that status: `success` where the tag is simply none of production's, else `failure`.
        recheck: whether a push to the default branch may change the answer.
        may_follow: whether the commit may just not have arrived: a tag can be pushed before the branch it is on.
    """

    reason: str
    text: str
    state: str = "failure"
    recheck: bool = False
    may_follow: bool = False


class Need(StrEnum):
    """What is not read yet, and needed for an answer."""

    DEFAULT_RELATION = "how the commit stands to the default branch"
    PROTECTED = "the protected branches"
    BRANCH_RELATIONS = "how the commit stands to them"


@dataclass(frozen=True, slots=True)
class Situation:
    """What was read for one decision.

    Attributes:
        repository: whose production.
        tag: the tag.
        commit: its commit.
        target: production's target, with the installation's limits.
        default_branch: its short name.
        default_head: the commit it is at; empty where it has none.
        wishes: what `deploy/deployer.yml` says at that commit; None where there is no such file.
        unreadable: why that file cannot be read; empty where it can, or is not there.
        default_relation: how the tag's commit stands to that commit; None where it was not asked.
        protected: the protected branches and where they stand; None where they were not asked for.
        relations: how the tag's commit stands to branches that were compared, by short name.
    """

    repository: Repository
    tag: Ref
    commit: str
    target: Target
    default_branch: str
    default_head: str
    wishes: RepositoryConfig | None = None
    unreadable: str = ""
    default_relation: Relation | None = None
    protected: Mapping[Ref, str] | None = None
    relations: Mapping[str, Relation] = field(default_factory=dict)

    @property
    def allowed_branches(self) -> tuple[NamePatterns, ...]:
        """The patterns that a further branch must match, all of them; empty where no further branch counts.

        Without a file on the default branch only the installation limits; with one, the file names the branches and the
        installation narrows that.
        """
        narrowed = (NamePatterns(self.target.branches),) if self.target.branches else ()
        if self.wishes is None:
            return narrowed
        named = self.wishes.production_branches
        return (named, *narrowed) if named else ()

    def candidates(self) -> list[tuple[str, str]]:
        """Name and head of each protected branch that the patterns allow; version-like names, the last name first."""
        patterns = self.allowed_branches
        found = [
            (ref.short, head)
            for ref, head in (self.protected or {}).items()
            if ref.short != self.default_branch and all(each.match(ref.short) for each in patterns)
        ]
        return sorted(found, reverse=True)


def judge(known: Situation) -> Admitted | Refused | Need:
    """Decide, or say what else must be read for that.

    Args:
        known: what was read so far.
    """
    if refusal := _by_name(known):
        return refusal
    if not known.default_head:
        return _not_on_branch(known, f"the default branch {known.default_branch} has no commit")
    if known.unreadable:
        return _unreadable(known)
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
        return _by_branches(known)
    return _not_on_branch(known)


def _by_branches(known: Situation) -> Admitted | Refused | Need:
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
            f"{_named(known)} is not on {known.default_branch} or on the first {MOST_COMPARED} of {len(candidates)} "
            f"protected branches that production.branches names; name fewer"
        )
        text = f"{known.commit[:12]} is not on {known.default_branch}, and production.branches names too many branches"
        return Refused(f"{reason}, or {_release(known)}", text, recheck=True)
    return _not_on_branch(known)


def _by_name(known: Situation) -> Refused | None:
    lists = [("production.tags in DEPLOYER_TARGETS", NamePatterns(known.target.tags))]
    if known.wishes:
        lists.append((f"the tags of {CONFIG_FILE} on {known.default_branch}", known.wishes.tags))
    for what, patterns in lists:
        if not patterns.match(known.tag.short):
            text = f"{known.tag.short} is not among {what}"
            return Refused(f"{text}; to deploy it all the same, {_release(known)}", text, state="success")
    return None


def _unreadable(known: Situation) -> Refused:
    branch = known.default_branch
    reason = f"{CONFIG_FILE} on {branch} cannot be read, so no tag is deployed ({known.unreadable})"
    text = f"{CONFIG_FILE} on {branch} cannot be read; correct it, or {_release(known)}"
    return Refused(f"{reason}; correct it, or {_release(known)}", text, recheck=True)


def _not_on_branch(known: Situation, why: str = "") -> Refused:
    branch, commit = known.default_branch, known.commit[:12]
    further = " or on a protected branch of production.branches" if known.allowed_branches else ""
    unrelated = known.default_relation is Relation.UNRELATED
    what = "has no history in common with" if unrelated else "is not on"
    why = why or f"{_named(known)} {what} {branch}{further}"
    remedy = f"after a squash or rebase tag the merge commit on {branch}, or {_release(known)}"
    text = f"{commit} {what} {branch}: tag the merge commit, or {_release(known)}"
    return Refused(f"{why}; {remedy}", text, recheck=True, may_follow=not unrelated)


def _named(known: Situation) -> str:
    return f"{known.tag.short} at {known.commit[:12]}"


def _release(known: Situation) -> str:
    # with the commit that was judged: whoever copies the line approves nothing that the tag is moved to meanwhile
    return f"deployer approve {known.repository} {shlex.quote(known.tag.short)} --sha {known.commit[:12]}"


class Gate:
    """Reads what a decision needs.

    Args:
        host: GitHub.
        clouds: says what limits the installation sets to production.
        read: reads `deploy/deployer.yml`, in a process with limits: people of the repository wrote it.
    """

    def __init__(
        self, host: Host, clouds: Clouds, read: Callable[[Mapping[str, bytes]], RepositoryConfig]
    ) -> None:
        self._host = host
        self._clouds = clouds
        self._read_file = read

    def judge(self, repository: Repository, tag: Ref, commit: str) -> Admitted | Refused:
        """Decide whether production may run a commit.

        Default branch, its head, its rules and the protected branches are read anew each time.

        Args:
            repository: whose production.
            tag: the tag that is to be deployed.
            commit: its commit; exactly this one may be deployed then.

        Raises:
            TransientError: GitHub cannot be asked; that is no answer.
            PermanentError: the repository is not found.
        """
        known = self._begin(repository, tag, commit)
        while isinstance(answer := judge(known), Need):
            known = self._read(known, answer)
        return answer

    def first_allowed(self, repository: Repository, tags: Sequence[Ref]) -> Ref | None:
        """The first of some tags that may be deployed as far as their names tell; their commits are not looked at.

        Args:
            repository: whose production.
            tags: one tag at least.

        Raises:
            TransientError: GitHub cannot be asked.
            PermanentError: the repository is not found.
        """
        known = self._begin(repository, tags[0], "")
        if known.unreadable or not known.default_head:
            return None
        return next((tag for tag in tags if _by_name(replace(known, tag=tag)) is None), None)

    def _begin(self, repository: Repository, tag: Ref, commit: str) -> Situation:
        branch = self._host.default_branch(repository)
        head = self._host.head(repository, Ref.of_branch(branch))
        known = Situation(
            repository, tag, commit, self._clouds.target(Kind.PRODUCTION), branch, head.sha if head else ""
        )
        if not head:
            return known
        try:
            files = self._host.regular_files(repository, head.sha, FOLDER, CONFIG_STEM)
            return replace(known, wishes=self._read_file(files) if files else None)
        except UnreadableError as error:
            return replace(known, unreadable=str(error))

    def _read(self, known: Situation, need: Need) -> Situation:
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
