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

    Of the tags that a push to the default branch may admit only the newest is checked again, and it is always kept.
    """
    others = list(refused)
    earlier = next((each for each in others if (each.ref, each.commit) == (new.ref, new.commit)), None)
    if earlier:  # the hour in which the tag is checked again counts from the first refusal
        new = new.but(accepted_at=min(earlier.accepted_at, new.accepted_at))
    # `sorted` keeps the order of tags with the same time, so the new one comes after them
    tags = sorted([*(each for each in others if each.ref != new.ref), new], key=lambda each: each.pushed_at)
    to_recheck = next((each for each in reversed(tags) if each.recheck), None)
    return tuple(each.but(recheck=each is to_recheck) for each in _latest_refusals(tags, to_recheck))


def _latest_refusals(tags: list[RefusedTag], to_recheck: RefusedTag | None) -> list[RefusedTag]:
    """At most `MOST_REFUSED` of these tags, `to_recheck` among them.

    Tags that only their name refuses are dropped first, because a resync need not know them; then the oldest ones.
    """
    kept = list(tags)
    while len(kept) > MOST_REFUSED:
        by_name = next((each for each in kept if each.is_by_name), None)
        kept.remove(by_name or next(each for each in kept if each is not to_recheck))
    return kept


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
