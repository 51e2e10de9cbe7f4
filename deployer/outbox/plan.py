"""What has to be posted so that GitHub shows what is wanted, decided without I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from deployer.model.display import COMMENT, PENDING, PRODUCTION, SUMMARY, WANTS
from deployer.outbox.store import CommitDisplay, Shown, Wanted


@dataclass(frozen=True, slots=True)
class Post:
    """One write to GitHub.

    Attributes:
        display: the commit.
        name: the place.
        wanted: what is to be shown there.
    """

    display: CommitDisplay
    name: str
    wanted: Wanted

    @property
    def rank(self) -> tuple[bool, bool, float]:
        """Results are posted before progress, comments last, and of each kind the oldest first."""
        return self.wanted.state == PENDING, self.name.startswith(COMMENT), self.wanted.at

    @property
    def is_essential(self) -> bool:
        """Whether it is posted also while GitHub's limits leave room for little: the result, and what has failed."""
        if self.wanted.state == PENDING:
            return False
        whole = self.name in {SUMMARY, PRODUCTION} or self.name.startswith(COMMENT)
        return whole or self.wanted.state != "success"


_RANKS = {"success": 0, PENDING: 1, "error": 2, "failure": 3}


def wanted_by_place(display: CommitDisplay) -> dict[str, Wanted]:
    """What a commit should show in each place: the worst state of the environments that want the commit.

    Where none of them wants it any more, a final state stays, and a pending one becomes an error.
    """
    by_place: dict[str, dict[str, Wanted]] = {}
    for (environment, name), each in display.wanted.items():
        by_place.setdefault(name, {})[environment] = each
    left = {key: each for key, each in by_place.pop(WANTS, {}).items() if each.state != "yes"}
    found = {}
    for name, values in by_place.items():
        present = [each for key, each in values.items() if key not in left]
        found[name] = _worst(present or [_superseded(each, left[key]) for key, each in values.items()])
    return found


def _worst(values: Sequence[Wanted]) -> Wanted:
    """The worst of several states; of equal ones the latest."""
    return max(values, key=lambda each: (_RANKS.get(each.state, 0), each.at, each.text))


def _superseded(wanted: Wanted, left: Wanted) -> Wanted:
    """What an environment shows that wants another commit, or none, by now."""
    if wanted.state != PENDING:
        return wanted
    name, _, _ = wanted.text.partition(": ")
    return Wanted("error", f"{name}: superseded: {left.text}", wanted.url, left.at)


def missing_posts(display: CommitDisplay) -> list[Post]:
    """What GitHub does not show yet and has not refused."""
    return [
        Post(display, name, wanted)
        for name, wanted in wanted_by_place(display).items()
        if not is_settled(display.shown, name, wanted)
    ]


def is_settled(shown: Mapping[str, Shown], name: str, wanted: Wanted) -> bool:
    """Whether GitHub shows this already, or has refused it."""
    there = shown.get(name)
    return there is not None and (there.state, there.text, there.url, there.occasion) == (
        wanted.state,
        wanted.text,
        wanted.url,
        wanted.occasion,
    )


def is_shown(display: CommitDisplay, name: str, wanted: Wanted) -> bool:
    """Whether GitHub shows this."""
    return is_settled(display.shown, name, wanted) and not display.shown[name].refused


def seconds_until_due(post: Post, now: float, pause: float) -> float:
    """How long a write may wait, because progress that ends within seconds needs no write of its own.

    Args:
        post: the write.
        now: epoch seconds.
        pause: how long progress waits. The first status of a commit does not wait, because a person looks for it.
    """
    if post.wanted.state != PENDING or not post.display.shown:
        return 0
    return max(post.wanted.at + pause - now, 0)


def in_order(posts: Iterable[Post]) -> list[Post]:
    """The writes in the order in which they are made."""
    return sorted(posts, key=lambda each: each.rank)


def waiting_text(displays: Sequence[CommitDisplay]) -> str:
    """How many statuses and comments wait, and why, as a sentence; empty if none does."""
    waiting = sum(len(missing_posts(each)) for each in displays)
    if not waiting:
        return ""
    reason = next((each.error for each in displays if each.error), "")
    count = f"{waiting} {'update waits' if waiting == 1 else 'updates wait'} to be posted on GitHub"
    return f"{count}: {reason}" if reason else count


def refused_text(display: CommitDisplay) -> str:
    """What GitHub refuses to show of a commit, as a sentence; empty if nothing."""
    refused = {name: each.refused for name, each in sorted(display.shown.items()) if each.refused}
    if not refused:
        return ""
    name, reason = next(iter(refused.items()))
    more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
    return f"GitHub refuses {name}{more}: {reason}"
