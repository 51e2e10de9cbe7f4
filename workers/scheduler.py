"""The scheduler: hands out again what was lost, wakes what is due, and resyncs every repository now and then.

Several may run at once: every hand-out goes through the lanes' scripts, which let only one of them have it.
"""

import logging
import signal
import threading
import time
import zlib

from deployer.bootstrap import Deployer, build, setup_logging
from deployer.environments import Repository
from deployer.errors import ConfigError, DeployerError, UnavailableError

_log = logging.getLogger("deployer.scheduler")
_SWEEP_SECONDS = 0.25
_LONGEST_PAUSE = 5.0
_DUE_SECONDS = 5.0  # between two looks at what is to be resynced


class Scheduler:
    """Sweeps the lanes until told to stop.

    Args:
        deployer: the wired parts.
    """

    def __init__(self, deployer: Deployer) -> None:
        self._deployer = deployer
        self._stop = threading.Event()
        self._resynced: dict[str, int] = {}
        self._searched: int | None = None
        self._found: dict[str, Repository] = {}
        self._next_look = 0.0

    def stop(self) -> None:
        """End `run` after the sweep under way."""
        self._stop.set()

    def run(self) -> None:
        """Sweep until `stop`; Redis away only makes it slower."""
        pause, away = _SWEEP_SECONDS, False
        while not self._stop.wait(pause):
            try:
                self.look()
            except UnavailableError as error:
                if not away:
                    _log.warning("sweeping the lanes: %s; waiting for it to return", error)
                pause, away = min(pause * 2, _LONGEST_PAUSE), True
            else:
                if away:
                    _log.warning("sweeping the lanes: Redis is back")
                pause, away = _SWEEP_SECONDS, False

    def look(self) -> None:
        """Sweep once, and resync what is due.

        Raises:
            UnavailableError: Redis is away.
        """
        for dispatch in self._deployer.lanes.sweep():
            self._deployer.queue.send(dispatch)
        self._resync_due()

    def _resync_due(self) -> None:
        period = self._deployer.config.resync_seconds
        now = time.time()
        if not period or self._next_look > now:
            return
        self._next_look = now + min(_DUE_SECONDS, period / 4)
        for repository in self._repositories(int(now // period)):
            turn = int((now + _offset(repository, period)) // period)
            last = self._resynced.get(repository.key)
            # one that appears while this runs has just been told of by a webhook
            if last != turn and (last is not None or repository.key in self._found):
                self._resync(repository)
            self._resynced[repository.key] = turn

    def _resync(self, repository: Repository) -> None:
        try:
            self._deployer.intake.resync(repository)
        except UnavailableError:
            raise
        except DeployerError as error:
            _log.info("scheduled resync of %s: %s", repository, error)

    def _repositories(self, turn: int) -> list[Repository]:
        """The repositories to look at: those in Redis, and those that a search found.

        At the start and once a period all are searched for, also by their stacks, since Redis may have been lost.
        """
        if self._searched != turn:
            found = self._deployer.resyncer.repositories(
                lambda text: _log.warning("looking for repositories: %s", text)
            )
            self._searched, self._found = turn, {each.key: each for each in found}
        known = {each.key: each for each in self._deployer.lanes.repositories()}
        return list({**self._found, **known}.values())


def _offset(repository: Repository, period: float) -> float:
    """Spreads the repositories evenly over the period."""
    return zlib.crc32(repository.key.encode()) % max(1, int(period))


def main() -> None:
    """Run a scheduler until SIGTERM or SIGINT."""
    try:
        deployer = build()
    except ConfigError as error:
        raise SystemExit(f"deployer: {error}") from None
    setup_logging(deployer.config, "scheduler")
    scheduler = Scheduler(deployer)
    for number in (signal.SIGTERM, signal.SIGINT):
        # in a thread: the main one may hold the very lock that `stop` needs when the signal comes
        signal.signal(number, lambda *_: threading.Thread(target=scheduler.stop).start())
    _log.info("sweeping the lanes")
    scheduler.run()


if __name__ == "__main__":
    main()
