"""What the record of production keeps about tags: the commit that may run, approvals, and tags that were refused.

Plain values. `deployer.deployment.production.gate` decides, `deployer.deployment.production.candidates` writes them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

_MOST_APPROVALS = 20
MOST_REFUSED = 10


@dataclass(frozen=True, slots=True)
class Admission:
    """Permission for production to run one commit of one tag.

    Attributes:
        ref: the tag's full name.
        commit: the commit, peeled.
        by: the rule or the person that admitted it, in words.
        person: whether it was a person.
        goal: the goal whose decision it was; another goal is judged again.
        at: when, in epoch seconds.
    """

    ref: str = ""
    commit: str = ""
    by: str = ""
    person: bool = False
    goal: str = ""
    at: float = 0

    def covers(self, ref: str, commit: str) -> bool:
        """Whether it is about this tag at this commit."""
        return bool(commit) and (self.ref, self.commit) == (ref, commit)


NOT_ADMITTED = Admission()


@dataclass(frozen=True, slots=True)
class RefusedTag:
    """A tag that the rules for production refused.

    Attributes:
        ref: the tag's full name.
        object: what the tag points to: the commit, or the tag object.
        commit: the commit, peeled.
        reason: why, in one line.
        status: the state and text of the status on its commit.
        accepted_at: when the tag was accepted first, by Redis's clock (epoch seconds).
        pushed_at: when GitHub took its push, or else the tag's own date; of what a person asked for, when that was. In
            epoch seconds; 0 where that is not known.
        recheck: whether a push to the default branch may change the answer.
    """

    ref: str = ""
    object: str = ""
    commit: str = ""
    reason: str = ""
    status: str = ""
    accepted_at: float = 0
    pushed_at: float = 0
    recheck: bool = False

    @property
    def is_by_name(self) -> bool:
        """Whether only its name keeps it out: its commit has a status that says so and is no failure."""
        return self.status.startswith("success ")


def with_approval(approvals: Iterable[Admission], new: Admission) -> tuple[Admission, ...]:
    """The approvals with a new one, which replaces an older one of the same tag; only the latest are kept."""
    return (*(each for each in approvals if each.ref != new.ref), new)[-_MOST_APPROVALS:]


def with_refusal(refused: Iterable[RefusedTag], new: RefusedTag) -> tuple[RefusedTag, ...]:
    """The refused tags with a new one, ordered by their time; of a tag only the latest refusal is kept.

    Only the newest of those that a push to the default branch may let in is checked again, and that one is kept
    whatever comes after it. Of too many, those go first that only their name keeps out: a resync need not know them.
    """
    others = list(refused)
    before = next((each for each in others if (each.ref, each.commit) == (new.ref, new.commit)), None)
    if before:  # the hour in which it is checked again counts from the first time
        new = replace(new, accepted_at=min(before.accepted_at, new.accepted_at))
    kept = [each for each in others if each.ref != new.ref]
    place = next((n for n, each in enumerate(kept) if new.pushed_at < each.pushed_at), len(kept))
    kept.insert(place, new)
    newest = next((each for each in reversed(kept) if each.recheck), None)
    while len(kept) > MOST_REFUSED:
        by_name = (each for each in kept if each.is_by_name)
        kept.remove(next(by_name, None) or next(each for each in kept if each is not newest))
    return tuple(replace(each, recheck=each is newest) for each in kept)


def after_admission(
    refused: Iterable[RefusedTag], ref: str, commit: str, at: float
) -> tuple[RefusedTag, ...]:
    """The refused tags once another one is admitted: it is no longer among them, and older ones are not checked again.

    Args:
        refused: the tags that were refused.
        ref: the tag that is admitted.
        commit: its commit.
        at: its time (epoch seconds).
    """
    return tuple(
        replace(each, recheck=each.recheck and each.pushed_at > at)
        for each in refused
        if (each.ref, each.commit) != (ref, commit)
    )
