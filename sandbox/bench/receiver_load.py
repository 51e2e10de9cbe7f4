"""Measures the receivers: how many pushes a second each takes, and how long each push waits."""

import itertools
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import redis

from sandbox.bench.deliveries import BODIES, SignedPush, sign_pushes
from sandbox.bench.load import BrokenAnswerError, Load, send_requests
from sandbox.bench.receivers import (
    Receiver,
    RunningReceiver,
    bare_receiver,
    celery_receiver,
    deployer_receiver,
    installed,
    running,
)
from sandbox.bench.redis_server import database_url, redis_server
from sandbox.bench.tables import Table, Value

_BUSY_REPOSITORIES = 8  # with eight branches each: 64 bodies
_IDLE_PUSHES = 4000  # in each round, each to a queue that is empty
_WARM_UP_SECONDS = 0.5
_SLOW_SENDERS = 1000


@dataclass
class _Measured:
    """The rounds of one receiver under one kind of load."""

    running: RunningReceiver
    idle: bool
    rates: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    processor_ms: list[float] = field(default_factory=list)

    @property
    def receiver(self) -> Receiver:
        return self.running.receiver

    @property
    def name(self) -> str:
        return f"{self.receiver.name}, idle queues" if self.idle else self.receiver.name

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    def ratio(self, other: "_Measured") -> float:
        """The median of the ratios to another receiver, each within one round."""
        return statistics.median(a / b for a, b in zip(self.rates, other.rates, strict=True))


def measure_receivers(directory: Path, rounds: int, seconds: float, *, download: bool) -> Iterator[Table]:
    """Measure all receivers, in rounds of all of them.

    Args:
        directory: for the alternatives that have to be installed, and for logs.
        rounds: the median counts.
        seconds: of each measurement.
        download: whether alternatives may be installed.

    Raises:
        BrokenAnswerError: a receiver answered something else, or Redis does not hold all pushes that were accepted.
    """
    others, notes = installed(directory) if download else ([], ["skipped: `webhook`, probot (--no-download)"])
    with redis_server(fsync="everysec") as url:
        receivers = [
            bare_receiver(1),
            deployer_receiver(1, database_url(url, 1)),
            celery_receiver(1, database_url(url, 2)),
            bare_receiver(2),
            deployer_receiver(2, database_url(url, 3)),
            celery_receiver(2, database_url(url, 4)),
            *others,
        ]
        with running(receivers, directory) as started:
            measured = [_Measured(each, idle=False) for each in started]
            measured += [_Measured(each, idle=True) for each in (started[1], started[4])]
            for each in measured:
                _load_receiver(each, _WARM_UP_SECONDS)
            for number in range(rounds):
                for each in measured if number % 2 else reversed(measured):
                    _measure_round(each, seconds)
            yield Table("receivers", [_rate_row(each, measured) for each in measured], notes)
            yield _latency_table(measured, seconds)


def _rate_row(each: _Measured, measured: list[_Measured]) -> dict[str, Value]:
    pair = 3 if "2 processes" in each.receiver.name else 0
    bare, usual = measured[pair], measured[pair + 2]
    if each.receiver.name.startswith("`webhook`"):  # uses both cores
        bare, usual = measured[3], measured[5]
    return {
        "receiver": each.name,
        "pushes/s": each.rate,
        "ratio to bare `ok`": each.ratio(bare),
        "ratio to Flask + `apply_async`": each.ratio(usual),
        "processor ms a push": statistics.median(each.processor_ms),
        "p50 ms": 1000 * statistics.median(each.latencies),
        "p99 ms": 1000 * statistics.quantiles(each.latencies, n=100)[98],
    }


def _measure_round(each: _Measured, seconds: float) -> None:
    before = each.running.processor_seconds()
    load = _load_receiver(each, seconds)
    each.rates.append(load.rate)
    each.latencies.extend(load.latencies)
    each.processor_ms.append(1000 * (each.running.processor_seconds() - before) / len(load.latencies))


def _load_receiver(each: _Measured, seconds: float, rate: float = 0) -> Load:
    """Send new deliveries for some seconds, and check that Redis holds all that were accepted."""
    prefix = f"{random.randrange(16**8):08x}"  # noqa: S311  no secret
    receiver = each.receiver
    pushes: Iterator[SignedPush] = iter(_idle_pushes()) if each.idle else itertools.cycle(_busy_pushes())
    requests = (push.with_delivery(prefix) for push in pushes)
    load = send_requests(receiver.port, requests, seconds, receiver.expected, rate)
    if receiver.redis_url:
        _check_stored(receiver, prefix, len(load.latencies))
    return load


@cache
def _busy_pushes() -> list[SignedPush]:
    branches = BODIES // _BUSY_REPOSITORIES
    return list(sign_pushes(prefix="busy", repositories=_BUSY_REPOSITORIES, branches=branches))


@cache
def _idle_pushes() -> list[SignedPush]:
    return list(sign_pushes(prefix="idle", repositories=_IDLE_PUSHES, branches=1))


def _check_stored(receiver: Receiver, prefix: str, accepted: int) -> None:
    """Check that Redis holds every accepted push, then empty its database.

    Raises:
        BrokenAnswerError: it does not.
    """
    with redis.Redis.from_url(receiver.redis_url) as client:
        if receiver.name.startswith("**deployer"):
            keys = client.scan_iter(f"deployer:*:delivery:{prefix}-*", count=5000)
            stored = sum(1 for _ in keys)
        else:
            stored = int(client.llen("alternative"))
        if stored != accepted:
            raise BrokenAnswerError(f"{receiver.name} accepted {accepted} pushes, but Redis holds {stored}")
        client.flushdb()


def _latency_table(measured: list[_Measured], seconds: float) -> Table:
    rows: list[dict[str, Value]] = []
    for each in (measured[1], measured[2], measured[4], measured[5]):
        half = _load_receiver(each, seconds, each.rate / 2)
        rows.append(_latency_row(each, "half of its peak", half, each.rate))
    for each in (measured[1], measured[4]):
        with slow_senders(each.receiver.port):
            rows.append(
                _latency_row(each, "peak, 1,000 slow senders", _load_receiver(each, seconds), each.rate)
            )
            half = _load_receiver(each, seconds, each.rate / 2)
            rows.append(_latency_row(each, "half of its peak, 1,000 slow senders", half, each.rate))
    return Table("latencies", rows)


def _latency_row(each: _Measured, what: str, load: Load, peak: float) -> dict[str, Value]:
    return {
        "receiver": each.name,
        "load": what,
        "pushes/s": load.rate,
        "ratio to its peak": load.rate / peak,
        "p50 ms": load.percentile(50),
        "p99 ms": load.percentile(99),
    }


@contextmanager
def slow_senders(port: int) -> Iterator[None]:
    """Keep connections open that send a byte now and then: half of them in the headers, half in the body."""
    command = [sys.executable, "-m", "sandbox.bench.slow_senders", str(port), str(_SLOW_SENDERS)]
    process: Any = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        if process.stdout.readline() != b"connected\n":
            raise RuntimeError("the slow senders cannot connect")
        yield
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
