"""The scheduler, which hands out lost and due items, requests resyncs, and checks expiries.

Several schedulers may run at once: the script of a queue hands out each item once, and Redis stores the period of each
repository's last resync.
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
from deployer.queue.store import FAILING_JOB
from deployer.redis_store.errors import refuses_one_command
from deployer.wiring import Deployer, build, check_aws, check_redis, setup_logging, warn_at_start

_log = logging.getLogger("deployer.scheduler")
_SWEEP_SECONDS = 0.25
_LONGEST_PAUSE = 2.0
_DUE_SECONDS = 5.0  # between two checks of which resyncs are due
_LONGEST_AGE = 900.0
_AWS_RETRY_SECONDS = 25.0  # added to the next check if AWS was unavailable
_RETRY_SECONDS = 5.0  # until a job that failed with an unexpected error is tried again
_INDEX_RETRY_SECONDS = 300.0  # the same for the daily indexing of names, which takes long
_INDEX_SECONDS = 86_400.0  # names of deleted environments stay at most this long
_UPDATE_SECONDS = 900.0  # a rolling update takes less
_LISTING_SECONDS = 60.0  # between two listings of all records during that time
_EXPIRY_POLLS = 15  # times DEPLOYER_POLL_SECONDS between two checks of all expiries: a minute
_EXPIRY_PAUSES = 50  # the pause is at least this many times as long as a check
_LOCK_SECONDS = 30.0  # of the scheduler that requests resyncs; if that takes longer, some are requested twice
_HANGS_SECONDS = 600.0  # listing the stacks of many accounts takes some minutes
_ALIVE_SECONDS = 90.0  # longer than the time between two sweeps


class Scheduler:
    """Sweeps the queues and requests resyncs until it is stopped.

    It has two threads, because listing AWS's stacks takes seconds, and no queue must wait for that.

    Args:
        deployer: the wired parts.
    """

    def __init__(self, deployer: Deployer) -> None:
        self._deployer = deployer
        self._stop = threading.Event()
        self._found: dict[str, Repository] = {}
        self._found_in_period: int | None = None
        self._resync_all = False  # whether all repositories must be resynced, because Redis has lost its data
        self._is_first_run: bool | None = (
            None  # whether no scheduler ran when this one started; None until it is known
        )
        # times of `time.monotonic()`, because a step of this machine's clock must neither stop a job nor repeat it
        self._started = time.monotonic()
        self._next_index = -math.inf
        self._next_listing = -math.inf
        self._next_resync_check = -math.inf
        self._next_expiry_check = -math.inf
        self._next_heartbeat = -math.inf
        self._jobs_done_at = time.monotonic()
        self._hangs = False
        self._errors: dict[str, str] = {}  # the errors of jobs whose last attempt failed, by their names
        self._retry_at: dict[str, float] = {}

    def stop(self) -> None:
        """End `run` after the current sweep; the jobs of the other thread may be interrupted."""
        self._stop.set()

    def run(self) -> None:
        """Sweep until `stop`. While Redis is unavailable the pauses are longer. A job that fails stops no other job."""
        with suppress(UnavailableError):
            self._no_scheduler_ran_before()  # before this scheduler's own heartbeat
        # the main thread logs that Redis is unavailable
        jobs = threading.Thread(
            target=self._repeat_until_stop, args=(self.run_due_jobs, _log.debug), name="resyncs", daemon=True
        )
        jobs.start()
        self._repeat_until_stop(lambda: self._run_job("sweeping the queues", self.sweep), _log.warning)

    def _run_job(self, name: str, job: Callable[[], None], pause: float | None = None) -> None:
        """Run a job. If it fails with an unexpected error, log the error and try again after a pause.

        Args:
            name: the job's name in the log.
            job: the job.
            pause: seconds until the job may be tried again.

        Raises:
            UnavailableError: Redis is unavailable.
        """
        if time.monotonic() < self._retry_at.get(name, -math.inf):
            return
        try:
            job()
        except Exception as error:  # an unreadable record must not stop the other jobs
            if isinstance(error, UnavailableError) and not refuses_one_command(error):
                raise
            reason = f"{type(error).__name__}: {error}"
            trace = error if self._errors.get(name) != reason else None
            text = "%s failed: %s; tried again every %.0f s; the other jobs run"
            pause = _RETRY_SECONDS if pause is None else pause
            _log.error(text, name, one_line(reason), pause, exc_info=trace)
            self._errors[name], self._retry_at[name] = reason, time.monotonic() + pause
        else:
            self._errors.pop(name, None)

    def _repeat_until_stop(self, act: Callable[[], None], log: Callable[..., None]) -> None:
        pause, is_away = _SWEEP_SECONDS, False
        while not self._stop.wait(pause):
            try:
                act()
            except UnavailableError as error:
                if not is_away:
                    log("sweeping the queues: %s; waiting for it to return", error)
                pause, is_away = min(pause * 2, _LONGEST_PAUSE), True
            else:
                if is_away:
                    log("sweeping the queues: Redis is back")
                pause, is_away = _SWEEP_SECONDS, False

    def sweep(self) -> None:
        """Hand out lost and due items.

        Raises:
            UnavailableError: Redis is unavailable.
        """
        for dispatch in self._deployer.lanes.sweep():
            self._deployer.queue.resend_dispatch(dispatch)
        if self._next_heartbeat <= (now := time.monotonic()):
            self._next_heartbeat = now + _DUE_SECONDS
            if self._is_other_thread_alive():
                self._deployer.lanes.send_heartbeat("scheduler", _ALIVE_SECONDS)
            if self._errors:
                self._deployer.lanes.send_heartbeat(FAILING_JOB, _ALIVE_SECONDS)

    def _no_scheduler_ran_before(self) -> bool:
        if self._is_first_run is None:
            self._is_first_run = "scheduler" not in self._deployer.lanes.last_heartbeats()
        return self._is_first_run

    def _is_other_thread_alive(self) -> bool:
        """Whether the other thread still runs, because this thread's heartbeat stands for both."""
        silent = time.monotonic() - self._jobs_done_at
        hangs = silent > _HANGS_SECONDS
        if hangs and not self._hangs:
            _log.error("requesting resyncs has hung for %.0f s; restart this scheduler", silent)
        self._hangs = hangs
        return not hangs

    def run_due_jobs(self) -> None:
        """Index names, list records, request due resyncs, and check expiries.

        Raises:
            UnavailableError: Redis is unavailable.
        """
        try:
            if self._next_index <= time.monotonic():
                self._run_job("indexing the names of stacks", self._index_names, _INDEX_RETRY_SECONDS)
            if self._next_listing <= time.monotonic():
                self._run_job("listing the records", self._list_records, _INDEX_RETRY_SECONDS)
            if self._next_resync_check <= time.monotonic():
                self._run_job("requesting resyncs", self._request_due_resyncs)
            if self._next_expiry_check <= time.monotonic():
                self._run_job("checking the expiries of environments", self._check_expiries)
        finally:
            self._jobs_done_at = time.monotonic()

    def _index_names(self) -> None:
        """Index names at the start and daily, because links must find environments without a push since an upgrade."""
        self._deployer.lanes.index_stack_names()
        self._next_index = time.monotonic() + _INDEX_SECONDS

    def _list_records(self) -> None:
        """List all records at the start and daily.

        In the first minutes this is repeated, because processes of an earlier version, which lists nothing, may still
        run. Each resync also lists the records of its repository.
        """
        began = time.monotonic()
        self._deployer.lanes.index_records()
        now = time.monotonic()
        updating = now - self._started < _UPDATE_SECONDS
        pause = max(_LISTING_SECONDS, _EXPIRY_PAUSES * (now - began)) if updating else _INDEX_SECONDS
        self._next_listing = now + pause

    def _request_due_resyncs(self) -> None:
        period, now = self._deployer.config.resync_seconds, time.monotonic()
        self._next_resync_check = now + min(_DUE_SECONDS, period / 4 or _DUE_SECONDS)
        with self._deployer.lanes.hold_lock("resyncs", _LOCK_SECONDS) as lock:
            if lock:
                self._request_resyncs(period, self._deployer.lanes.now())

    def _request_resyncs(self, period: float, now: float) -> None:
        lanes, lost = self._deployer.lanes, self._notice_lost_data()
        if not period and not self._resync_all:
            return
        self._find_repositories(_period_number(now, period))
        known = {each.key: each for each in lanes.repositories()}
        # the first scheduler resyncs all, because webhooks of pushes were lost while no process ran
        last_periods = {} if lost or self._no_scheduler_ran_before() else lanes.last_resync_periods()
        requested: dict[str, int] = {}
        repositories = {**self._found, **known}
        try:
            for repository in list(repositories.values()):
                period_number = _period_number(now + _offset_in_period(repository, period), period)
                last = last_periods.get(repository.key)
                # the previous period counts too, because Redis may have failed over to a server whose clock is behind
                if last is not None and period_number in {last, last - 1}:
                    continue
                if self._forget_ended(repository):
                    del repositories[repository.key]
                    continue
                # a repository that appears while this scheduler runs has just sent a webhook, and needs no resync
                if last is not None or self._resync_all or repository.key in self._found:
                    self._request_resync(repository)
                requested[repository.key] = period_number
        finally:
            lanes.save_last_resync_periods(requested, repositories)
        self._is_first_run = False
        if self._resync_all and self._found_in_period is not None:
            lanes.mark_data_complete()
            self._resync_all = False

    def _notice_lost_data(self) -> bool:
        """Whether Redis has lost its data since the last check, so that everything must be resynced."""
        if not self._deployer.lanes.has_lost_data() or self._resync_all:
            return False
        _log.warning("Redis is empty, because it is new or has lost its data; all repositories are resynced")
        self._found_in_period, self._resync_all = None, True
        return True

    def _check_expiries(self) -> None:
        now = time.monotonic()
        self._next_expiry_check = now + _EXPIRY_POLLS * self._deployer.config.poll_seconds
        self._deployer.submitter.queue_expiry_checks(self._deployer.lanes.now())
        self._next_expiry_check = max(
            self._next_expiry_check, now + _EXPIRY_PAUSES * (time.monotonic() - now)
        )

    def _forget_ended(self, repository: Repository) -> bool:
        try:
            return self._deployer.lifecycle.forget_ended(repository)
        except UnavailableError:
            raise
        except Exception:  # noqa: BLE001  the record of one repository must not stop the others
            _log.exception(
                "checking whether anything is left of %s; the other repositories are checked", repository
            )
            return False

    def _request_resync(self, repository: Repository) -> None:
        try:
            if self._deployer.lifecycle.has_no_scheduled_resync(repository):
                return
            since = self._deployer.lanes.now() - listing_age(self._deployer.config.resync_seconds)
            self._deployer.submitter.resync(repository, since, in_turn=True)
        except UnavailableError:
            raise
        except DeployerError as error:
            _log.info("scheduled resync of %s: %s", repository, error)
        except Exception:  # noqa: BLE001  the record of one repository must not stop the others
            _log.exception("scheduled resync of %s; the other repositories are resynced", repository)

    def _find_repositories(self, period_number: int) -> None:
        """Find repositories, also by their stacks, at the start, once a period, and after Redis has lost its data.

        After such a loss this is repeated until AWS has answered.
        """
        if self._found_in_period == period_number:
            return
        failed: list[str] = []
        age = listing_age(self._deployer.config.resync_seconds)
        found = self._deployer.resyncer.repositories(failed.append, age)
        for text in failed:
            _log.warning("looking for repositories: %s", text)
        self._found = {each.key: each for each in found}
        self._found_in_period = None if failed and self._resync_all else period_number
        if failed:
            self._next_resync_check += _AWS_RETRY_SECONDS


def listing_age(period: float) -> float:
    """How old a listing of all stacks may be for a scheduled resync, so that a few listings suffice for all resyncs.

    With an old listing a resync queues an unnecessary check, or finds something one period later. It deletes nothing
    wrong, because each task reads its stack again.
    """
    return min(period / 4, _LONGEST_AGE)


def _period_number(at: float, period: float) -> int:
    """The number of the period of a time; always 0 if no resyncs are scheduled."""
    return int(at // period) if period else 0


def _offset_in_period(repository: Repository, period: float) -> float:
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
        os._exit(0)  # end even if a call to AWS or Redis hangs; nothing here needs to be closed

    for number in (signal.SIGTERM, signal.SIGINT):
        # in a thread, because the main thread may hold the lock that `stop` needs
        signal.signal(number, lambda *_: threading.Thread(target=stop, daemon=True).start())
    _log.info("sweeping the queues")
    scheduler.run()


if __name__ == "__main__":
    main()
