"""The tags in the record of production: the one that may run, those that people approved, and those that were refused.

`deployer.deployment.production.gate` judges tags, `deployer.deployment.production.candidates` writes the record.
"""

from collections.abc import Iterable

from deployer.model.stored_value import Detail, StoredValue

_MOST_APPROVALS = 20
MOST_REFUSED = 10


class Admission(Detail, frozen=True):
    """Permission for production to run one commit of one tag; it is empty, and false, where nothing was admitted.

    Attributes:
        ref: the tag's full name.
        commit: the commit, peeled.
        by: the rule or the person that admitted it, in words.
        person: whether it was a person.
        goal: the goal for which it was decided; for another goal the tag is judged again.
        at: when, in epoch seconds.
    """

    ref: str = ""
    commit: str = ""
    by: str = ""
    person: bool = False
    goal: str = ""
    at: float = 0

    def covers(self, ref: str, commit: str) -> bool:
        """Whether it permits this tag at this commit."""
        return bool(commit) and (self.ref, self.commit) == (ref, commit)


NOT_ADMITTED = Admission()


class RefusedTag(StoredValue, frozen=True):
    """A tag that the rules for production refused.

    Attributes:
        ref: the tag's full name.
        object: what the tag points to: the commit, or the tag object.
        commit: the commit, peeled.
        reason: why, in one line.
        status: the state and text of the status on its commit.
        accepted_at: when the push was accepted first, by Redis's clock (epoch seconds).
        pushed_at: when GitHub took the push, or else the tag's own date; for a person's request the time of the
            request. In epoch seconds; 0 where that is not known.
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
        """Whether only its name is the reason: the status on its commit says so, and is no failure."""
        return self.status.startswith("success ")


def with_approval(approvals: Iterable[Admission], new: Admission) -> tuple[Admission, ...]:
    """Add an approval, which replaces an older one of the same tag; only the latest approvals are kept."""
    return (*(each for each in approvals if each.ref != new.ref), new)[-_MOST_APPROVALS:]


def with_refusal(refused: Iterable[RefusedTag], new: RefusedTag) -> tuple[RefusedTag, ...]:
    """Add a refused tag, ordered by time; of each tag only the latest refusal is kept.

    Of the tags that a push to the default branch may admit only the newest is checked again, and it is always kept. If
    there are too many, those go first that only their name refuses, because a resync need not know them.
    """
    others = list(refused)
    before = next((each for each in others if (each.ref, each.commit) == (new.ref, new.commit)), None)
    if before:  # the hour in which the tag is checked again counts from the first refusal
        new = new.but(accepted_at=min(before.accepted_at, new.accepted_at))
    kept = [each for each in others if each.ref != new.ref]
    place = next((n for n, each in enumerate(kept) if new.pushed_at < each.pushed_at), len(kept))
    kept.insert(place, new)
    newest = next((each for each in reversed(kept) if each.recheck), None)
    while len(kept) > MOST_REFUSED:
        by_name = (each for each in kept if each.is_by_name)
        kept.remove(next(by_name, None) or next(each for each in kept if each is not newest))
    return tuple(each.but(recheck=each is newest) for each in kept)


def after_admission(
    refused: Iterable[RefusedTag], ref: str, commit: str, at: float
) -> tuple[RefusedTag, ...]:
    """The refused tags after a tag was admitted: without that tag, and none older than it is checked again.

    Args:
        refused: the tags that were refused.
        ref: the tag that is admitted.
        commit: its commit.
        at: its time (epoch seconds).
    """
    return tuple(
        each.but(recheck=each.recheck and each.pushed_at > at)
        for each in refused
        if (each.ref, each.commit) != (ref, commit)
    )
