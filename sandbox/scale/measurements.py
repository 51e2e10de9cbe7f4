"""The measurements of an organization whose environments are all deployed."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from deployer.model.environments import Environment
from deployer.model.outcomes import RESYNCED
from deployer.model.refs import Ref
from deployer.queue.items import RESYNC_KEY
from sandbox.http_calls import call
from sandbox.scale.organization import Organization
from sandbox.scale.readings import Readings
from sandbox.waiting import wait_for
from workers.scheduler import listing_age

_ORDERS = {"CreateStack", "UpdateStack", "StartPipelineExecution"}
_HOUR = 3600.0


@dataclass
class ResyncCost:
    """What a resync of all repositories cost.

    Attributes:
        asked_at: epoch seconds of the request.
        ended: epoch seconds at which the resync of each repository ended.
        seen: calls that the simulators answered meanwhile.
        tally: what deployer's own counters counted meanwhile.
        messages: how many messages the workers received.
    """

    asked_at: float
    ended: list[float]
    seen: Counter[str]
    tally: Counter[str]
    messages: int


class Measurements:
    """Measures one organization that has been started."""

    def __init__(self, organization: Organization) -> None:
        self._organization = organization
        self._home = organization.home
        self._size = organization.size
        self._readings = Readings(organization)

    def measure_pushes(self, name: str, first: int, pause: float) -> list[float]:
        """Push new branches and new commits in turn; return the seconds until each caused a changing call to AWS.

        Args:
            name: name of the new branches.
            first: the first repository that is pushed to, counted from the end.
            pause: seconds between two pushes.
        """
        since, pushed = self._readings.calls("aws")[1], dict[str, float]()
        for number in range(self._size.pushes):
            repository = self._organization.repositories[-1 - first - number]
            ref = Ref.of_branch(name) if number % 2 else self._organization.refs[-1]
            place = Environment.of_ref(repository, ref, "main")
            pushed[place.stack_name] = self._organization.push(
                repository, ref, "" if number % 2 else self._organization.commits[1]
            )
            time.sleep(pause)

        def first_orders() -> dict[str, float]:
            found: dict[str, float] = {}
            for each in self._readings.calls("aws", since)[0]:
                if each["operation"] in _ORDERS and each["name"] in pushed:
                    found.setdefault(each["name"], each["time"])
            return found if len(found) == len(pushed) else {}

        found = wait_for("every push causes a call to AWS", first_orders, 180)
        return [max(found[each] - at, 0.0) for each, at in pushed.items()]

    def measure_resync(
        self, ask: Callable[[], object], meanwhile: Callable[[], object] = lambda: None
    ) -> ResyncCost:
        """Request a resync of all repositories with `ask`; wait until each one has ended."""
        lanes = self._organization.deployer.lanes
        before, (_, github), (_, aws) = (
            Counter(lanes.counters()),
            self._readings.calls("github"),
            self._readings.calls("aws"),
        )
        asked_at = time.time()
        with self._readings.count_messages() as messages:
            ask()
            meanwhile()

            def all_ended() -> bool:
                done = lanes.counters().get(f"goal:{RESYNCED}", 0) - before[f"goal:{RESYNCED}"]
                return done >= self._size.repositories

            wait_for("every repository is resynced", all_ended, 60 + self._size.repositories)
            self._organization.wait_until_idle()
        lines = [line for each in lanes.repositories() for line in lanes.activity(each, 500)]
        ended = [each.at for each in lines if each.at >= asked_at and each.environment == RESYNC_KEY]
        # Calls to /git/refs are this program's own pushes, because deployer itself never moves a ref.
        reads = [
            each for each in self._readings.calls("github", github)[0] if "/git/refs" not in each["path"]
        ]
        seen = Counter(github=len(reads))
        for each in self._readings.calls("aws", aws)[0]:
            seen["aws"] += 1
            seen["listings"] += each["operation"] == "DescribeStacks" and not each["name"]
        tally = Counter(lanes.counters())
        tally.subtract(before)
        return ResyncCost(asked_at, ended, seen, tally, messages["task-received"])

    def measure(self) -> Iterator[tuple[str, float]]:
        """Take every measurement; yield its label and its value."""
        size, count = self._size, self._size.environment_count
        memory, log = (
            self._readings.redis_bytes("used_memory"),
            self._readings.redis_bytes("aof_current_size"),
        )
        started = time.monotonic()
        self._organization.create_environments()
        yield "environments", count
        yield "filling: seconds", time.monotonic() - started
        filled = self._readings.redis_bytes("used_memory")
        yield "Redis: bytes an environment, its record and one delivery", (filled - memory) / count
        yield (
            "Redis: bytes of the append-only file an environment",
            (self._readings.redis_bytes("aof_current_size") - log) / count,
        )
        yield from self._measure_idle()
        self._add_latency()
        alone = self.measure_pushes("alone", 0, 0.5)
        self._organization.wait_until_idle()
        yield (
            "Redis: bytes that a deployment's deliveries and history add",
            ((self._readings.redis_bytes("used_memory") - filled) / max(len(alone), 1)),
        )
        yield from _push_rows("alone", alone)
        filled = self._readings.redis_bytes("used_memory")
        person = self.measure_resync(lambda: self._run_cli("resync", "--all"))
        yield from self._resync_rows("resync of all by a person", person)
        yield (
            "Redis: bytes an environment, listing and resyncs",
            (self._readings.redis_bytes("used_memory") - filled) / count,
        )
        during: list[float] = []
        pause = min(max(person.ended) - min(person.ended), _HOUR) / (size.pushes + 1)
        scheduled = self.measure_resync(
            self._request_scheduled_resyncs,
            lambda: during.extend(self.measure_pushes("during", size.pushes, pause)),
        )
        yield from self._resync_rows("scheduled resync of all, with pushes", scheduled)
        yield from _push_rows("while a resync of all runs", during)
        for name, words in (
            ("worker process", " worker "),
            ("scheduler", "workers.scheduler"),
            ("web", "gunicorn"),
        ):
            yield f"memory of a {name}, the largest: MB", self._readings.largest_process_megabytes(words)

    def _measure_idle(self) -> Iterator[tuple[str, float]]:
        """Measure the processor time of idle processes, and the response times of the pages."""
        roles = {
            "scheduler": "workers.scheduler",
            "workers": " worker ",
            "web": "gunicorn",
            "Redis": "redis.conf",
        }
        before = {name: self._readings.processor_seconds(words) for name, words in roles.items()}
        time.sleep(self._size.rest)
        for name, words in roles.items():
            share = (self._readings.processor_seconds(words) - before[name]) / self._size.rest
            yield f"at rest: processor of the {name}, percent of a core", 100 * share
        started = time.process_time()
        self._organization.deployer.submitter.queue_expiry_checks(time.time())
        yield "a look at all ages, once a minute: processor seconds", time.process_time() - started
        token = {"Authorization": f"Bearer {self._home.env['DEPLOYER_API_TOKEN']}"}
        for path in ("/", "/metrics", "/api/v1/environments"):
            took = []
            for _ in range(3):
                started = time.monotonic()
                answer = call("GET", self._home.web + path, headers=token, seconds=120)
                took.append(time.monotonic() - started)
                if answer.status != 200:
                    raise RuntimeError(f"GET {path}: {answer.status}")
            yield f"GET {path}: seconds", statistics.median(took)
            yield f"GET {path}: kilobytes", len(answer.body) / 1000

    def _add_latency(self) -> None:
        """Delay each later call to GitHub and AWS by the latency of this size."""
        if self._size.latency:
            self._home.fault("github", {"slow": self._size.latency})
            self._home.fault("aws", {"slow": [{"seconds": self._size.latency}]})

    def _run_cli(self, *arguments: str) -> None:
        """Run `deployer` and raise RuntimeError if it fails."""
        done = self._home.cli(*arguments, timeout=300)
        if done.returncode:
            raise RuntimeError(f"deployer {' '.join(arguments)}: {done.stderr.strip()}")

    def _request_scheduled_resyncs(self) -> None:
        """Request a resync of each repository in the same way as the scheduler."""
        for each in self._organization.repositories:
            self._organization.deployer.submitter.resync(each, listing_age(_HOUR), in_turn=True)

    def _resync_rows(self, what: str, found: ResyncCost) -> Iterator[tuple[str, float]]:
        yield f"{what}: seconds from asking to the first outcome", min(found.ended) - found.asked_at
        yield f"{what}: seconds from the first to the last", max(found.ended) - min(found.ended)
        yield f"{what}: calls to AWS", found.seen["aws"]
        yield f"{what}: calls to AWS, pages of a listing", found.seen["listings"]
        yield f"{what}: calls to AWS by deployer's own count", _own_count(found.tally, "aws")
        yield f"{what}: calls to GitHub", found.seen["github"]
        yield f"{what}: calls to GitHub by deployer's own count", _own_count(found.tally, "github")
        yield f"{what}: messages", found.messages


def _own_count(tally: Mapping[str, int], name: str) -> int:
    return tally.get(f"calls:{name}", 0) + tally.get(f"calls:{name}_stages", 0)


def _push_rows(when: str, seconds: list[float]) -> Iterator[tuple[str, float]]:
    yield f"push to its order at AWS, {when}: seconds, middle", statistics.median(seconds)
    yield f"push to its order at AWS, {when}: seconds, worst of {len(seconds)}", max(seconds)
