"""Posts on GitHub what the outbox wants and GitHub does not show."""

import logging
import random
import time
import uuid
from collections.abc import Callable, Mapping, Sequence

from deployer.environment.code_host import CodeHost, Status
from deployer.model.display import COMMENT, ENDED, PULL_REQUESTS
from deployer.model.durations import backoff
from deployer.model.environments import Repository
from deployer.model.errors import CallLimitError, PermanentError, ThrottledError, TransientError
from deployer.model.refs import Ref
from deployer.outbox.plan import Post, in_order, missing_posts, seconds_until_due
from deployer.outbox.store import CommitDisplay, Outbox, Shown
from deployer.queue.call_counter import call_counters, count_calls, count_for_purpose

_log = logging.getLogger("deployer.outbox")
PROGRESS_SECONDS = 3.0
"""How long the beginning of a stage waits for its end, so that a stage of seconds needs one write."""
_COMMITS_AT_ONCE = 200
_LEASE_SECONDS = 30.0  # longer than the following two, and the time-out of one request
_LONGEST_SECONDS = 5.0  # of one call: the process that posts has other tasks to do as well
_LONGEST_WRITE = 8.0  # until its last request begins; a rate limit may let a request wait for five seconds
_SHORT_SECONDS = 60.0  # until what is not essential is looked at again
_FIRST_RETRY, _LONGEST_RETRY = 5.0, 60.0  # how soon people see the result once an outage is over


class DisplaySender:
    """Posts what is wanted. Several may run at once, in any process.

    A process that dies after a write repeats it, which changes nothing: GitHub shows the last status of each context.

    Args:
        outbox: what is wanted, and what GitHub shows.
        host: GitHub.
        clock: epoch seconds by Redis's clock, which also dated what is wanted.
        count: adds to the counters.
        is_short: whether GitHub's limits leave room for little in a repository. Then only what is essential is posted.
        progress_seconds: see `PROGRESS_SECONDS`.
    """

    def __init__(
        self,
        outbox: Outbox,
        host: CodeHost,
        clock: Callable[[], float],
        count: Callable[[Mapping[str, int]], None],
        is_short: Callable[[Repository], bool] = lambda _: False,
        progress_seconds: float = PROGRESS_SECONDS,
    ) -> None:
        self._outbox = outbox
        self._host = host
        self._clock = clock
        self._count = count
        self._is_short = is_short
        self._progress_seconds = progress_seconds

    def post_missing(self) -> str:
        """Post what is due, results first, for at most some seconds.

        Returns:
            What was done, in a line that Flower shows.

        Raises:
            UnavailableError: Redis is unavailable. What was posted since is posted again later.
        """
        taken = self._outbox.take_due(_COMMITS_AT_ONCE, _LEASE_SECONDS, sender := uuid.uuid4().hex)
        batch = _Batch(self._outbox, sender, self._clock(), self._progress_seconds)
        batch.find_due_posts(taken, self._is_short)
        deadline = time.monotonic() + _LONGEST_SECONDS
        for post in batch.due:
            if time.monotonic() > deadline:
                break
            if batch.may_post(post):
                self._post(batch, post)
        for display in taken:
            batch.release_commit(display)
        return batch.summary

    def _post(self, batch: "_Batch", post: Post) -> None:
        repository, wanted = post.display.repository, post.wanted
        refused, result = "", "posted"
        until = time.monotonic() + _LONGEST_WRITE
        with count_calls(github_deadline=until) as tally, count_for_purpose("stages"):
            try:
                self._write(post)
            except PermanentError as error:
                refused, result = str(error), "refused"
            except ThrottledError as error:  # GitHub did nothing, so this is no failed attempt
                batch.pause_repository(post, error)
                result = "throttled"
            except (TransientError, CallLimitError) as error:
                batch.pause_repository(post, error)
                result = "failed"
        self._count({f"display:{result}": 1, **call_counters(tally)})
        if result in {"posted", "refused"}:
            shown = Shown(wanted.state, wanted.text, wanted.url, refused, self._clock(), wanted.occasion)
            batch.record_result(post, shown)
        if refused:
            _log.warning("%s on %s of %s: %s", post.name, post.display.label, repository, refused)

    def _write(self, post: Post) -> None:
        """The only writes of what deployer shows on GitHub.

        Raises:
            PermanentError: GitHub refuses it for good.
            ThrottledError: the rate limits allow no write now.
            TransientError: GitHub is unavailable, or refuses it for now.
        """
        repository, wanted = post.display.repository, post.wanted
        if post.name == PULL_REQUESTS:
            branch, ended = Ref.parse(post.display.sha), wanted.state == ENDED
            self._host.comment_on_pulls(repository, branch, wanted.text, ended=ended)
            return
        if post.name.startswith(COMMENT):
            self._host.change_comment(repository, post.name.removeprefix(COMMENT), wanted.text)
            return
        status = Status(post.name, wanted.state, wanted.text, wanted.url)
        self._host.post_commit_status(repository, post.display.sha, status)


class _Batch:
    """The commits that one sender has taken, with what is left of each.

    Args:
        outbox: the outbox.
        sender: the id of the sender.
        now: epoch seconds.
        progress_seconds: see `PROGRESS_SECONDS`.
    """

    def __init__(self, outbox: Outbox, sender: str, now: float, progress_seconds: float) -> None:
        self._outbox = outbox
        self._sender = sender
        self._now = now
        self._progress_seconds = progress_seconds
        self._left: dict[tuple[str, str], dict[str, Post]] = {}  # repository's key and commit -> by place
        self._paused: dict[str, TransientError | CallLimitError] = {}  # by the repository's key
        self._short: dict[str, bool] = {}  # by the repository's key
        self._lost: set[tuple[str, str]] = set()
        self._posted = 0
        self.due: list[Post] = []

    def find_due_posts(self, taken: Sequence[CommitDisplay], is_short: Callable[[Repository], bool]) -> None:
        """Find the writes that are due."""
        for display in taken:
            self._left[_key(display)] = {post.name: post for post in missing_posts(display)}
            if display.repository.key not in self._short:
                self._short[display.repository.key] = is_short(display.repository)
        posts = (post for left in self._left.values() for post in left.values())
        self.due = in_order(post for post in posts if not self._seconds_until_due(post))

    def _seconds_until_due(self, post: Post) -> float:
        if self._short[post.display.repository.key] and not post.is_essential:
            return _SHORT_SECONDS
        return seconds_until_due(post, self._now, self._progress_seconds)

    def may_post(self, post: Post) -> bool:
        """Whether this sender still has the commit, and GitHub has refused nothing of the repository meanwhile."""
        return _key(post.display) not in self._lost and post.display.repository.key not in self._paused

    def pause_repository(self, post: Post, error: TransientError | CallLimitError) -> None:
        """Post nothing more of a repository whose write failed, or has to wait."""
        self._paused[post.display.repository.key] = error
        _log.warning("%s on %s: %s; tried again later", post.name, post.display.label, error)

    def record_result(self, post: Post, shown: Shown) -> None:
        """Record what GitHub has taken or refused."""
        key = _key(post.display)
        self._left[key].pop(post.name)
        self._posted += not shown.refused
        if not self._outbox.record_shown(post.display, post.name, shown, _LEASE_SECONDS, self._sender):
            self._lost.add(key)

    def release_commit(self, display: CommitDisplay) -> None:
        """Return a commit to the outbox."""
        left = self._left[_key(display)].values()
        if not left:
            self._outbox.release_commit(display, self._sender)
        elif (error := self._paused.get(display.repository.key)) is not None:
            throttled = isinstance(error, ThrottledError)
            pause = backoff(_FIRST_RETRY, 2, 0 if throttled else display.failures, _LONGEST_RETRY)
            asked = error.retry_after if isinstance(error, TransientError) else None
            pause = max(pause, asked or 0) * random.uniform(1, 1.25)  # noqa: S311  jitter, no secret
            self._outbox.release_commit(
                display, self._sender, again_in=pause, error=str(error), failed=not throttled
            )
        else:
            seconds = min(map(self._seconds_until_due, left))
            self._outbox.release_commit(display, self._sender, again_in=seconds)

    @property
    def summary(self) -> str:
        """What was done."""
        waiting = sum(map(len, self._left.values()))
        return f"{self._posted} posted, {waiting} left"


def _key(display: CommitDisplay) -> tuple[str, str]:
    return display.repository.key, display.sha
