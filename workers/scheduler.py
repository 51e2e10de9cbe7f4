"""The scheduler: hands out again what was lost, wakes what is due, and resyncs every repository now and then.

Several may run at once: every hand-out goes through the lanes' scripts, which let only one of them have it, and which
turn of each repository was asked for last stands in Redis.
"""

import logging
import math
import os
import signal
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress

from deployer.local.process_memory import hide_memory
from deployer.model.environments import Repository
from deployer.model.errors import ConfigError, DeployerError, UnavailableError, one_line
from deployer.model.records import FAILING_JOB
from deployer.redis_store.errors import refuses_one_command
from deployer.wiring import Deployer, build, check_aws, check_redis, setup_logging, warn_at_start

_log = logging.getLogger("deployer.scheduler")
_SWEEP_SECONDS = 0.25
_LONGEST_PAUSE = 2.0
_DUE_SECONDS = 5.0  # between two looks at what is to be resynced
_LONGEST_AGE = 900.0
_AGAIN_SECONDS = 25.0  # more where AWS could not be asked
_FAILED_SECONDS = 5.0  # after a job has failed unexpectedly, until it is tried again
_INDEX_AGAIN_SECONDS = 300.0  # likewise, of the daily look at all names, which is long
_INDEX_SECONDS = 86_400.0  # names of environments that are gone may stay for so long
_AGE_POLLS = 15  # times DEPLOYER_POLL_SECONDS between two looks at the ages of all environments: a minute
_AGE_REST = 50  # or so many times as long as a look takes, where there are very many
_CLAIM_SECONDS = 30.0  # of the one that asks for resyncs; if it takes longer some are asked for twice
_HANGS_SECONDS = 600.0  # a listing of many accounts' stacks takes some minutes
_ALIVE_SECONDS = 90.0  # longer than between two sweeps, whatever they have to do


class Scheduler:
    """Sweeps the lanes, and beside that asks for resyncs, until told to stop.

    Two threads do it, since a listing of AWS's stacks takes seconds, and no lane is to wait for that.

    Args:
        deployer: the wired parts.
    """

    def __init__(self, deployer: Deployer) -> None:
        self._deployer = deployer
        self._stop = threading.Event()
        self._found: dict[str, Repository] = {}
        self._searched: int | None = None
        self._owed = False  # all is to be resynced, whatever the schedule says
        self._first: bool | None = None  # whether none ran when this one came; None until that is known
        # `time.monotonic()`: a step of this machine's clock must neither stop a job nor repeat it at once
        self._next_index = -math.inf
        self._next_look = -math.inf
        self._next_age = -math.inf
        self._next_beat = -math.inf
        self._tended = time.monotonic()
        self._hangs = False
        self._failed: dict[str, str] = {}  # the jobs that failed when last tried, and their errors
        self._retry_at: dict[str, float] = {}

    def stop(self) -> None:
        """End `run` after the sweep under way; what goes on beside it may end in the middle."""
        self._stop.set()

    def run(self) -> None:
        """Sweep until `stop`. While Redis is away the pauses are longer; a job that fails stops no other job."""
        with suppress(UnavailableError):
            self._is_first()  # before this one's own beat
        # the other thread says already that Redis is away
        beside = threading.Thread(
            target=self._repeat, args=(self.tend, _log.debug), name="resyncs", daemon=True
        )
        beside.start()
        self._repeat(lambda: self._attempt("sweeping the lanes", self.sweep), _log.warning)

    def _attempt(self, name: str, job: Callable[[], None], pause: float | None = None) -> None:
        """Do a job. If it fails for a reason that nobody expected, log the error and try again after a pause.

        Args:
            name: of the job, for the log.
            job: what to do.
            pause: seconds until the job may be tried again.

        Raises:
            UnavailableError: Redis is away.
        """
        if time.monotonic() < self._retry_at.get(name, -math.inf):
            return
        try:
            job()
        except Exception as error:  # one record that cannot be read must not stop the other jobs
            if isinstance(error, UnavailableError) and not refuses_one_command(error):
                raise
            reason = f"{type(error).__name__}: {error}"
            trace = error if self._failed.get(name) != reason else None
            text = "%s failed: %s; tried again every %.0f s, the other jobs go on"
            pause = _FAILED_SECONDS if pause is None else pause
            _log.error(text, name, one_line(reason), pause, exc_info=trace)
            self._failed[name], self._retry_at[name] = reason, time.monotonic() + pause
        else:
            self._failed.pop(name, None)

    def _repeat(self, act: Callable[[], None], tell: Callable[..., None]) -> None:
        pause, away = _SWEEP_SECONDS, False
        while not self._stop.wait(pause):
            try:
                act()
            except UnavailableError as error:
                if not away:
                    tell("sweeping the lanes: %s; waiting for it to return", error)
                pause, away = min(pause * 2, _LONGEST_PAUSE), True
            else:
                if away:
                    tell("sweeping the lanes: Redis is back")
                pause, away = _SWEEP_SECONDS, False

    def sweep(self) -> None:
        """Hand out what was lost and what is due.

        Raises:
            UnavailableError: Redis is away.
        """
        for dispatch in self._deployer.lanes.sweep():
            self._deployer.queue.send_again(dispatch)
        if self._next_beat <= (now := time.monotonic()):
            self._next_beat = now + _DUE_SECONDS
            if self._is_whole():
                self._deployer.lanes.beat("scheduler", _ALIVE_SECONDS)
            if self._failed:
                self._deployer.lanes.beat(FAILING_JOB, _ALIVE_SECONDS)

    def _is_first(self) -> bool:
        if self._first is None:
            self._first = "scheduler" not in self._deployer.lanes.beats()
        return self._first

    def _is_whole(self) -> bool:
        """Whether the other thread comes round as well: this one's beat stands for both."""
        silent = time.monotonic() - self._tended
        hangs = silent > _HANGS_SECONDS
        if hangs and not self._hangs:
            _log.error("asking for resyncs hangs since %.0f s; restart this scheduler", silent)
        self._hangs = hangs
        return not hangs

    def tend(self) -> None:
        """Resync what is due, and see to what has grown old.

        Raises:
            UnavailableError: Redis is away.
        """
        try:
            if self._next_index <= time.monotonic():
                self._attempt("indexing the names of stacks", self._index_names, _INDEX_AGAIN_SECONDS)
            if self._next_look <= time.monotonic():
                self._attempt("asking for resyncs", self._resync_due)
            if self._next_age <= time.monotonic():
                self._attempt("looking at the ages of environments", self._age_due)
        finally:
            self._tended = time.monotonic()

    def _index_names(self) -> None:
        """At the start, since links must lead to environments that nobody has pushed to since an upgrade; and daily."""
        self._deployer.lanes.index_names()
        self._next_index = time.monotonic() + _INDEX_SECONDS

    def _resync_due(self) -> None:
        period, now = self._deployer.config.resync_seconds, time.monotonic()
        self._next_look = now + min(_DUE_SECONDS, period / 4 or _DUE_SECONDS)
        with self._deployer.lanes.claimed("resyncs", _CLAIM_SECONDS) as mine:
            if mine:
                self._resync_all_due(period, self._deployer.lanes.now())

    def _resync_all_due(self, period: float, now: float) -> None:
        lanes, lost = self._deployer.lanes, False
        if lanes.emptied() and not self._owed:
            _log.warning(
                "Redis is empty, since it is new or was lost; every repository that can be found is resynced"
            )
            self._searched, self._owed, lost = None, True, True
        if not period and not self._owed:
            return
        self._search(_turn(now, period))
        known = {each.key: each for each in lanes.repositories()}
        # whatever was pushed while nothing ran, no webhook told of it
        asked = {} if lost or self._is_first() else lanes.resync_turns()
        came: dict[str, int] = {}
        repositories = {**self._found, **known}
        try:
            for repository in list(repositories.values()):
                turn = _turn(now + _offset(repository, period), period)
                last = asked.get(repository.key)
                # Redis may have failed over to a server whose clock is behind
                if last is not None and turn in {last, last - 1}:
                    continue
                if self._forget_ended(repository):
                    del repositories[repository.key]
                    continue
                # one that appears while this runs has just been told of by a webhook
                if last is not None or self._owed or repository.key in self._found:
                    self._resync(repository)
                came[repository.key] = turn
        finally:
            lanes.note_resync_turns(came, repositories)
        self._first = False
        if self._owed and self._searched is not None:
            lanes.keep()
            self._owed = False

    def _age_due(self) -> None:
        now = time.monotonic()
        self._next_age = now + _AGE_POLLS * self._deployer.config.poll_seconds
        self._deployer.intake.age(self._deployer.lanes.now())
        self._next_age = max(self._next_age, now + _AGE_REST * (time.monotonic() - now))

    def _forget_ended(self, repository: Repository) -> bool:
        try:
            return self._deployer.lifecycle.forget_ended(repository)
        except UnavailableError:
            raise
        except Exception:  # noqa: BLE001  likewise
            _log.exception("looking whether anything is left of %s; the others go on", repository)
            return False

    def _resync(self, repository: Repository) -> None:
        try:
            if self._deployer.lifecycle.dormant(repository):
                return
            age = listing_age(self._deployer.config.resync_seconds)
            self._deployer.intake.resync(repository, age, in_turn=True)
        except UnavailableError:
            raise
        except DeployerError as error:
            _log.info("scheduled resync of %s: %s", repository, error)
        except Exception:  # noqa: BLE001  what one repository's record holds must not end all resyncs
            _log.exception("scheduled resync of %s; the others go on", repository)

    def _search(self, turn: int) -> None:
        """Look for repositories, also by their stacks, at the start, once a period, and after Redis was lost.

        After a loss it is done again until AWS could be asked.
        """
        if self._searched == turn:
            return
        failed: list[str] = []
        age = listing_age(self._deployer.config.resync_seconds)
        found = self._deployer.resyncer.repositories(failed.append, age)
        for text in failed:
            _log.warning("looking for repositories: %s", text)
        self._found = {each.key: each for each in found}
        self._searched = None if failed and self._owed else turn
        if failed:
            self._next_look += _AGAIN_SECONDS


def listing_age(period: float) -> float:
    """How old a listing of all stacks may be for a scheduled resync: a few listings serve a whole round.

    Its age only makes a resync look where it need not, or find something one round later: what is done is decided by a
    look of its own.
    """
    return min(period / 4, _LONGEST_AGE)


def _turn(at: float, period: float) -> int:
    """The number of the period that a time is in; always the same where nothing is scheduled."""
    return int(at // period) if period else 0


def _offset(repository: Repository, period: float) -> float:
    """Spreads the repositories evenly over the period."""
    return zlib.crc32(repository.key.encode()) % max(1, int(period))


def main() -> None:
    """Run a scheduler until SIGTERM or SIGINT."""
    hide_memory()
    try:
        deployer = build()
        check_aws(deployer.config)
        redis_warning = check_redis(deployer.config)
    except ConfigError as error:
        raise SystemExit(f"deployer: {error}") from None
    setup_logging(deployer.config, "scheduler")
    warn_at_start(deployer.config, redis_warning)
    scheduler = Scheduler(deployer)

    def stop() -> None:
        scheduler.stop()
        time.sleep(deployer.config.drain_seconds)
        os._exit(0)  # a call to AWS or Redis hangs; nothing here needs an end of its own

    for number in (signal.SIGTERM, signal.SIGINT):
        # in a thread: the main one may hold the very lock that `stop` needs when the signal comes
        signal.signal(number, lambda *_: threading.Thread(target=stop, daemon=True).start())
    _log.info("sweeping the lanes")
    scheduler.run()


if __name__ == "__main__":
    main()
