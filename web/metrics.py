"""The Prometheus metrics.

Deliveries, outcomes, queues, dead letters and environments are read from Redis at each scrape, so every web process
returns the same values. Each process counts its own latencies, responses and refused requests; processes that share a
port add these counts (`web.gunicorn_conf`).
"""

import os
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, multiprocess
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from deployer.model import listings
from deployer.model.errors import QueueItemError, TransientError, UnavailableError
from deployer.queue.dead_letter_record import TASK_TIMEOUT, WORKER_LOST
from deployer.queue.dead_letters import oldest_seconds
from deployer.wiring import Deployer

_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_KINDS = (
    TransientError.__name__,
    QueueItemError.__name__,
    WORKER_LOST,
    TASK_TIMEOUT,
)  # kinds of dead letters that are no bug
# the prefix of a counter in Redis (`name:label`) -> the metric's name, its label, its help text
_COUNTERS = {
    "delivery": (
        "deployer_deliveries",
        "result",
        "Received deliveries; unserved: the repository is not in DEPLOYER_REPOSITORIES; ignored: see outcomes",
    ),
    "outcome": ("deployer_outcomes", "outcome", "Deliveries by their recorded outcome"),
    "goal": ("deployer_goals", "outcome", "Requests for an environment, from any source, by outcome"),
    "missed": (
        "deployer_missed_deliveries",
        "result",
        "Deliveries that failed at GitHub, by what deployer did about them",
    ),
    "lane": ("deployer_lane_events", "event", "Queues whose worker was lost (expired)"),
}


class Metrics:
    """The metrics of one application.

    Args:
        deployer: the parts, from which the stored metrics are read at each scrape.
    """

    def __init__(self, deployer: Deployer) -> None:
        self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "deployer_webhook_seconds",
            "Time from the headers of a delivery to its response",
            ["source"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._answers = Counter(
            "deployer_webhook_answers",
            "Responses to deliveries by HTTP status",
            ["source", "code"],
            registry=self._registry,
        )
        self._refused = Counter(
            "deployer_requests_refused",
            "Requests refused before they were read completely, by HTTP status",
            ["code"],
            registry=self._registry,
        )
        self._wrong_tokens = Counter(
            "deployer_wrong_tokens",
            "Requests with a wrong API token",
            registry=self._registry,
        )
        for source in (
            "github",
            "aws",
        ):  # Prometheus sees the first increase only of a series that exists before
            self._seconds.labels(source)
        self._scraped = self._registry
        if os.environ.get(
            "PROMETHEUS_MULTIPROC_DIR"
        ):  # the files there contain the counters of all processes
            self._scraped = CollectorRegistry()
            multiprocess.MultiProcessCollector(self._scraped)  # type: ignore[no-untyped-call]
        self._scraped.register(_StoredMetrics(deployer))

    def count_answer(self, source: str, code: int, seconds: float) -> None:
        """Count one response.

        Args:
            source: `github` or `aws`.
            code: the HTTP status.
            seconds: the duration.
        """
        self._seconds.labels(source).observe(seconds)
        self._answers.labels(source, str(code)).inc()

    def count_refused(self, code: int) -> None:
        """Count a request that was too slow, too large or malformed, or for which there was no space.

        Args:
            code: the HTTP status.
        """
        self._refused.labels(str(code)).inc()

    def count_wrong_token(self) -> None:
        """Count a request with a wrong API token."""
        self._wrong_tokens.inc()

    def text(self) -> tuple[bytes, str]:
        """Return the text of all metrics and its content type."""
        return generate_latest(self._scraped), CONTENT_TYPE_LATEST


class _StoredMetrics(Collector):
    """Reads metrics from Redis at each scrape."""

    def __init__(self, deployer: Deployer) -> None:
        self._deployer = deployer

    def describe(self) -> Iterable[Metric]:
        """Return nothing. Otherwise the registry would collect, and wait for Redis, when the application is created."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Return all metric families, or only `deployer_redis_up 0` while Redis does not answer."""
        up, families = 1, list[Metric]()
        try:
            sizes = self._deployer.lanes.list_sizes()
            families = [
                *self._counter_metrics(),
                *self._lane_metrics(),
                *self._dead_letter_metrics(sizes),
                *self._environment_metrics(sizes),
                *self._region_metrics(),
                *self._rate_limit_metrics(),
                self._repository_metrics(sizes),
            ]
            self._deployer.lanes.ping()  # last, because a full or read-only Redis can still be read
        except UnavailableError:
            up = 0
        yield GaugeMetricFamily("deployer_redis_up", "Whether Redis answers and takes writes", value=up)
        yield from families

    def _counter_metrics(self) -> Iterable[Metric]:
        families: dict[str, CounterMetricFamily] = {
            name: CounterMetricFamily(metric, text, labels=[label])
            for name, (metric, label, text) in _COUNTERS.items()
        }
        counters = self._deployer.lanes.counters()
        for key, value in sorted(counters.items()):
            name, _, label = key.partition(":")
            if name in families:
                families[name].add_metric([label], value)
        return [*families.values(), _call_metrics(counters)]

    def _lane_metrics(self) -> Iterable[Metric]:
        status = GaugeMetricFamily("deployer_lanes", "Queues that have work, by status", labels=["status"])
        waiting = GaugeMetricFamily(
            "deployer_lane_waiting", "Queue items that wait for their turn", labels=["repository"]
        )
        snoozed = GaugeMetricFamily(
            "deployer_lane_snoozed", "Queue items that wait for AWS or a retry", labels=["repository"]
        )
        oldest = GaugeMetricFamily(
            "deployer_lane_oldest_wait_seconds",
            "Age of the oldest queue item that waits for its turn",
            labels=["repository"],
        )
        count_refused = GaugeMetricFamily(
            "deployer_queue_items_refused",
            "Queue items that no worker has understood yet; after eight attempts an item becomes a dead letter",
            labels=["repository"],
        )
        lanes = self._deployer.lanes.lanes()
        for name in ("idle", "sent", "running", "broken"):
            status.add_metric([name], sum(lane.status == name for lane in lanes))
        now = self._deployer.lanes.now()
        for lane in lanes:
            waiting.add_metric([lane.repository], len(lane.waiting))
            snoozed.add_metric([lane.repository], len(lane.snoozed))
            count_refused.add_metric([lane.repository], len(lane.refused))
            ages = [now - work.accepted_at for work in lane.waiting if work.accepted_at]
            oldest.add_metric([lane.repository], max([0.0, *ages]))
        return [status, waiting, snoozed, oldest, count_refused]

    def _dead_letter_metrics(self, sizes: Mapping[str, int]) -> Iterable[Metric]:
        family = GaugeMetricFamily(
            "deployer_dead_letters",
            "Dead letters by kind of error",
            labels=["repository", "kind"],
        )
        tally = listings.count_dead_letters(sizes)
        for repository in self._deployer.lanes.repositories():  # an alert needs a series with value 0
            for kind in _KINDS:
                tally.setdefault((repository.key, kind), 0)
        for labels, number in sorted(tally.items()):
            family.add_metric(list(labels), number)
        oldest = GaugeMetricFamily(
            "deployer_dead_letter_oldest_seconds",
            "Age of the oldest dead letter, 0 if there is none",
            value=oldest_seconds(self._deployer.lanes.dead_letter_totals(), self._deployer.lanes.now()),
        )
        return [family, oldest]

    def _region_metrics(self) -> Iterable[Metric]:
        """Return the latest counts of each region's capacity, without a request to AWS."""
        families = {}
        for what in ("stacks", "stacks_limit", "pipelines", "pipelines_limit"):
            words = f"{what.partition('_')[0].capitalize()} {'that fit into' if 'limit' in what else 'in'} a region"
            families[what] = GaugeMetricFamily(f"deployer_{what}", words, labels=["account", "region"])
        newest = list(self._deployer.last_capacities())
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

    def _rate_limit_metrics(self) -> Iterable[Metric]:
        """Return GitHub's rate limits as its latest answers named them, without a request to GitHub."""
        texts = {
            "limit": "Requests (GraphQL: points) that GitHub allows in an hour",
            "remaining": "Requests (GraphQL: points) that remain in this hour",
            "resets_at": "When this hour ends",
            "closed_seconds": "For how long GitHub refuses requests, 0 if it does not",
        }
        names = {"resets_at": "reset_timestamp_seconds"}
        families = {
            what: GaugeMetricFamily(
                f"deployer_github_rate_limit_{names.get(what, what)}", text, labels=["account", "resource"]
            )
            for what, text in texts.items()
        }
        writes = GaugeMetricFamily(
            "deployer_github_writes", "Writes of the last hour; GitHub allows 500", labels=["account"]
        )
        for quota in self._deployer.github_sharing.quotas():
            for what, family in families.items():
                family.add_metric([quota.account, quota.resource], getattr(quota, what))
            if quota.resource == "core":
                writes.add_metric([quota.account], quota.writes)
        return [*families.values(), writes]

    def _environment_metrics(self, sizes: Mapping[str, int]) -> list[Metric]:
        family = GaugeMetricFamily(
            "deployer_environments", "Environments by kind and state", labels=["kind", "state"]
        )
        for labels, number in sorted(listings.count_environments(sizes).items()):
            family.add_metric(list(labels), number)
        drifted = GaugeMetricFamily(
            "deployer_environments_drifted",
            "Environments whose stack was changed outside deployer",
            value=sizes.get(listings.DRIFTED, 0),
        )
        return [family, drifted, _foreign_metrics(sizes)]

    def _repository_metrics(self, sizes: Mapping[str, int]) -> Metric:
        family = GaugeMetricFamily(
            "deployer_repositories",
            "Repositories by unusual state: archived, renamed, replaced, deleted or removed",
            labels=["state"],
        )
        for state, number in sorted(listings.count_repositories(sizes).items()):
            family.add_metric([state], number)
        return family


def _foreign_metrics(sizes: Mapping[str, int]) -> Metric:
    """Return the number of executions that deployer did not start, which its next deployment ends."""
    family = GaugeMetricFamily(
        "deployer_foreign_executions",
        "Executions that deployer did not start, and that run or started after its last one, by who started them",
        labels=["kind", "started_by"],
    )
    for labels, number in listings.count_foreign_executions(sizes).items():
        family.add_metric(list(labels), number)
    return family


def _call_metrics(counters: Mapping[str, int]) -> Metric:
    """Return the number of requests that all tasks sent to AWS and GitHub."""
    total = CounterMetricFamily(
        "deployer_calls",
        "Requests to AWS and GitHub by purpose: commit statuses of stages, or everything else",
        labels=["to", "for"],
    )
    for to in ("aws", "github"):
        for purpose, name in (("deployment", to), ("stages", f"{to}_stages")):
            total.add_metric([to, purpose], counters.get(f"calls:{name}", 0))
    return total
