"""What an installation costs, as reported by the simulators, by Redis, by the operating system."""

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sandbox.http_calls import call
from sandbox.scale.organization import Organization

MEGABYTE = 1e6


class Readings:
    """Reads the costs of one organization that has been started."""

    def __init__(self, organization: Organization) -> None:
        self._home = organization.home
        self._deployer = organization.deployer

    def calls(self, simulator: str, since: int = 0) -> tuple[list[dict[str, Any]], int]:
        """The calls that a simulator (`github` or `aws`) answered after call number `since`, and the last number."""
        address = {"github": self._home.github, "aws": self._home.aws}[simulator]
        found = call("GET", f"{address}/_sandbox/calls?since={since}", seconds=60).json
        calls = found["calls"] if isinstance(found, dict) else found
        return calls, max((each["seq"] for each in calls), default=since)

    @contextmanager
    def count_tasks(self) -> Iterator[Counter[str]]:
        """Count the tasks that workers run, with or without a message of their own, by their `task-received` events."""
        found: Counter[str] = Counter()
        with self._deployer.celery.connection() as connection:
            receiver = self._deployer.celery.events.Receiver(
                connection, handlers={"task-received": lambda event: found.update([event["type"]])}
            )

            # One capture without a timeout, because events are lost between two captures. It ends within a second after
            # should_stop is set.
            subscribed = threading.Event()
            receiver.on_consume_ready = lambda *_args, **_options: subscribed.set()
            thread = threading.Thread(target=lambda: receiver.capture(limit=None, timeout=None, wakeup=False))
            thread.start()
            try:
                if not subscribed.wait(10):
                    raise RuntimeError("subscribing to Celery's events takes longer than 10 s")
                yield found
            finally:
                receiver.should_stop = True
                thread.join()

    def redis_bytes(self, what: str) -> int:
        """The value of a field of Redis's INFO: `used_memory` or `aof_current_size`."""
        client: Any = self._deployer.client
        if what == "used_memory":
            # The stored answers of the queue's commands expire within seconds, so they do not count.
            for key in client.scan_iter("*:answer:*", count=1000):
                client.delete(key)
        return int(client.info("memory" if what == "used_memory" else "persistence")[what])

    def processor_seconds(self, words: str) -> float:
        """Seconds of processor time of the processes whose command line contains these words."""
        ticks = 0
        for pid in self._home.processes(words):
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def largest_process_megabytes(self, words: str) -> float:
        """Megabytes of the largest of these processes, including its share of the memory that several share (Pss)."""
        found = [0]
        for pid in self._home.processes(words):
            with suppress(OSError):
                report = Path(f"/proc/{pid}/smaps_rollup").read_text()
                found.append(int(report.partition("\nPss:")[2].split()[0]))
        return max(found) * 1024 / MEGABYTE
