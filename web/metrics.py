"""What Prometheus scrapes.

Deliveries, outcomes, lanes, dead letters and environments are read from Redis at the time of the scrape, so every web
process tells the same of them. The receiver's latency, its answers by code and what was refused are counted by the
process that answered; processes that share a port share these counts too (`web.gunicorn_conf`).
"""

import os
from collections import Counter as Tally
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, multiprocess
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from deployer.model.errors import QueueItemError, TransientError, UnavailableError
from deployer.model.records import TASK_TIMEOUT, WORKER_LOST
from deployer.queue.dead_letters import oldest_seconds
from deployer.wiring import Deployer

_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_KINDS = (
    TransientError.__name__,
    QueueItemError.__name__,
    WORKER_LOST,
    TASK_TIMEOUT,
)  # of dead letters, that come without a bug
# counters of the ledger as `name:label` -> the metric's name, its label, and what it tells
_COUNTERS = {
    "delivery": (
        "deployer_deliveries",
        "result",
        "Deliveries at the door; unserved: DEPLOYER_REPOSITORIES leaves their repository out; ignored: see outcomes",
    ),
    "outcome": ("deployer_outcomes", "outcome", "Deliveries by their recorded outcome"),
    "goal": ("deployer_goals", "outcome", "Goals of an environment by how they ended, whoever asked"),
    "missed": (
        "deployer_missed_deliveries",
        "result",
        "Deliveries that GitHub could not hand over, by what became of them",
    ),
    "lane": ("deployer_lane_events", "event", "Lanes whose worker was lost (expired)"),
}


class Metrics:
    """One application's metrics.

    Args:
        deployer: gives the lanes that are read at each scrape.
    """

    def __init__(self, deployer: Deployer) -> None:
        self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "deployer_webhook_seconds",
            "Time from a delivery's headers to its answer",
            ["source"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._answers = Counter(
            "deployer_webhook_answers",
            "Answers to deliveries by HTTP status",
            ["source", "code"],
            registry=self._registry,
        )
        self._refused = Counter(
            "deployer_requests_refused",
            "Requests refused before they were read to their end, by HTTP status",
            ["code"],
            registry=self._registry,
        )
        self._wrong_tokens = Counter(
            "deployer_wrong_tokens",
            "Requests with a wrong API token",
            registry=self._registry,
        )
        for source in ("github", "aws"):  # a series that is there from the start shows its first increase
            self._seconds.labels(source)
        self._scraped = self._registry
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):  # the counters' values are in files, of all processes
            self._scraped = CollectorRegistry()
            multiprocess.MultiProcessCollector(self._scraped)  # type: ignore[no-untyped-call]
        self._scraped.register(_Ledger(deployer))

    def received(self, source: str, code: int, seconds: float) -> None:
        """Count one answer.

        Args:
            source: `github` or `aws`.
            code: the HTTP status.
            seconds: how long it took.
        """
        self._seconds.labels(source).observe(seconds)
        self._answers.labels(source, str(code)).inc()

    def refused(self, code: int) -> None:
        """Count a request that was slow, too large or malformed, or that there was no room for.

        Args:
            code: the HTTP status.
        """
        self._refused.labels(str(code)).inc()

    def wrong_token(self) -> None:
        """Count a request with a wrong API token."""
        self._wrong_tokens.inc()

    def text(self) -> tuple[bytes, str]:
        """The exposition and its content type."""
        return generate_latest(self._scraped), CONTENT_TYPE_LATEST


class _Ledger(Collector):
    """Reads the ledger whenever it is scraped."""

    def __init__(self, deployer: Deployer) -> None:
        self._deployer = deployer

    def describe(self) -> Iterable[Metric]:
        """Nothing: else the registry would collect, and so wait for Redis, when the application is made."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Every family; only `deployer_redis_up 0` while Redis is away."""
        up, families = 1, list[Metric]()
        try:
            families = [
                *self._counters(),
                *self._lanes(),
                *self._dead_letters(),
                *self._environments(),
                *self._rooms(),
                self._repositories(),
            ]
            self._deployer.lanes.ping()  # last: one that is full or read-only still tells what it holds
        except UnavailableError:
            up = 0
        yield GaugeMetricFamily("deployer_redis_up", "Whether Redis answers and takes writes", value=up)
        yield from families

    def _counters(self) -> Iterable[Metric]:
        families: dict[str, CounterMetricFamily] = {
            name: CounterMetricFamily(metric, text, labels=[label])
            for name, (metric, label, text) in _COUNTERS.items()
        }
        counters = self._deployer.lanes.counters()
        for key, value in sorted(counters.items()):
            name, _, label = key.partition(":")
            if name in families:
                families[name].add_metric([label], value)
        return [*families.values(), _calls(counters)]

    def _lanes(self) -> Iterable[Metric]:
        status = GaugeMetricFamily("deployer_lanes", "Lanes that hold or await something", labels=["status"])
        waiting = GaugeMetricFamily(
            "deployer_lane_waiting", "Work that waits for its turn", labels=["repository"]
        )
        snoozed = GaugeMetricFamily("deployer_lane_snoozed", "Work that waits for AWS", labels=["repository"])
        oldest = GaugeMetricFamily(
            "deployer_lane_oldest_wait_seconds",
            "Age of the oldest work that waits for its turn",
            labels=["repository"],
        )
        refused = GaugeMetricFamily(
            "deployer_queue_items_refused",
            "Queue items that no worker has understood yet; after eight refusals one becomes a dead letter",
            labels=["repository"],
        )
        lanes = self._deployer.lanes.lanes()
        for name in ("idle", "sent", "running", "broken"):
            status.add_metric([name], sum(lane.status == name for lane in lanes))
        now = self._deployer.lanes.now()
        for lane in lanes:
            waiting.add_metric([lane.repository], len(lane.waiting))
            snoozed.add_metric([lane.repository], len(lane.snoozed))
            refused.add_metric([lane.repository], len(lane.refused))
            ages = [now - work.accepted_at for work in lane.waiting if work.accepted_at]
            oldest.add_metric([lane.repository], max([0.0, *ages]))
        return [status, waiting, snoozed, oldest, refused]

    def _dead_letters(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(
            "deployer_dead_letters",
            "Dead letters that await a person, by what they died of",
            labels=["repository", "kind"],
        )
        letters = self._deployer.lanes.dead_letters()
        tally = Tally((letter.repository.lower(), letter.kind) for letter in letters)
        for repository in self._deployer.lanes.repositories():  # a nought is what an alert compares with
            for kind in _KINDS:
                tally.setdefault((repository.key, kind), 0)
        for labels, number in sorted(tally.items()):
            family.add_metric(list(labels), number)
        oldest = GaugeMetricFamily(
            "deployer_dead_letter_oldest_seconds",
            "Age of the oldest dead letter, 0 where there is none",
            value=oldest_seconds(letters, self._deployer.lanes.now()),
        )
        return [family, oldest]

    def _rooms(self) -> Iterable[Metric]:
        """How full the regions were when that was counted last; AWS is not asked."""
        families = {}
        for what in ("stacks", "stacks_limit", "pipelines", "pipelines_limit"):
            words = f"{what.partition('_')[0].capitalize()} that a region {'may hold' if 'limit' in what else 'holds'}"
            families[what] = GaugeMetricFamily(f"deployer_{what}", words, labels=["account", "region"])
        newest = list(self._deployer.rooms())
        for room in newest:
            for what, family in families.items():
                family.add_metric([room.account, room.region], getattr(room, what))
        counted = GaugeMetricFamily(
            "deployer_room_counted_timestamp_seconds",
            "When a region's stacks and pipelines were counted",
            labels=["account", "region"],
        )
        for room in newest:
            counted.add_metric([room.account, room.region], room.counted_at)
        return [*families.values(), counted]

    def _environments(self) -> list[Metric]:
        records = self._deployer.lanes.environments()
        family = GaugeMetricFamily(
            "deployer_environments", "Environments by kind and state", labels=["kind", "state"]
        )
        tally = Tally((record.environment.partition(":")[0], record.state or "unknown") for record in records)
        for labels, number in sorted(tally.items()):
            family.add_metric(list(labels), number)
        drifted = GaugeMetricFamily(
            "deployer_environments_drifted",
            "Environments whose stack someone else changed since deployer applied it",
            value=sum(bool(record.drift) for record in records),
        )
        return [family, drifted]

    def _repositories(self) -> Metric:
        family = GaugeMetricFamily(
            "deployer_repositories",
            "Repositories that are not as usual, by state: archived, renamed, replaced, deleted or removed",
            labels=["state"],
        )
        records = self._deployer.lanes.repository_records()
        for state, number in sorted(Tally(each.state for each in records if each.state).items()):
            family.add_metric([state], number)
        return family


def _calls(counters: Mapping[str, int]) -> Metric:
    """The calls to AWS and GitHub that all tasks have made."""
    total = CounterMetricFamily(
        "deployer_calls",
        "Calls by the far end and what they were for: the stages' statuses, or all else",
        labels=["to", "for"],
    )
    for to in ("aws", "github"):
        for purpose, name in (("deployment", to), ("stages", f"{to}_stages")):
            total.add_metric([to, purpose], counters.get(f"calls:{name}", 0))
    return total
