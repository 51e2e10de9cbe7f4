"""Web, worker and scheduler as real processes on a Redis that is killed, hangs, fails over and speaks TLS.

A delivery goes the whole way: POST, lane, Celery, worker, AWS, GitHub, outcome. The simulated AWS has no stack and the
simulated GitHub does not know the repository, so the outcome comes at once.
"""

import hmac
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ops_kit import SECRET, WEB, WORKER, Process, answer, aws_settings, deployer, environment

from deployer.model.errors import UnavailableError
from deployer.queue.store import Dispatch
from deployer.redis_store.celery_dispatch import CeleryDispatcher, make_celery
from deployer.redis_store.connection import connect
from deployer.redis_store.queue import RedisQueueStore
from sandbox.github import server as github_server
from sandbox.installation import Answer, call, descendants, free_port, wait_for
from tests.redis_kit import Authority, Server, tls_binary

API = "the-api-token-of-this-test"
SETTINGS = {
    **WEB,
    **WORKER,
    "DEPLOYER_API_TOKEN": API,
    # longer than Redis is down in these tests, because a task that cannot renew its lease ends with its process
    "DEPLOYER_LEASE_SECONDS": "15",
    "DEPLOYER_GRACE_SECONDS": "1",
    "DEPLOYER_RETRY_SECONDS": "0.3",
    "DEPLOYER_RESYNC_SECONDS": "0",
}


PROCESSES = ("web", "worker", "scheduler")


class Product:
    """Web, worker and scheduler.

    Args:
        directory: of their output.
        redis_url: the Redis of all three.
        simulators: what they need to reach the simulated GitHub and AWS.
    """

    def __init__(self, directory: Path, redis_url: str, simulators: Mapping[str, str]) -> None:
        port = free_port()
        self.web = f"http://127.0.0.1:{port}"
        settings = {
            **SETTINGS,
            "DEPLOYER_REDIS_URL": redis_url,
            "DEPLOYER_WEB_PORT": str(port),
            **simulators,
        }
        self.processes = {}
        for name in PROCESSES:
            (directory / name).mkdir()
            self.processes[name] = Process(deployer(name), directory / name, environment(settings))

    def at_work(self) -> None:
        """Wait until a first delivery has gone the whole way."""
        self.ready()
        assert self.push("d-first", "acme/first").status == 202
        self.ended("d-first")

    def ready(self, status: int = 200, seconds: float = 30) -> None:
        def look() -> bool:
            found = answer(f"{self.web}/readyz")
            return found is not None and found.status == status

        wait_for(f"/readyz answers {status}", look, seconds)

    def push(self, delivery: str, repository: str = "acme/nowhere") -> Answer:
        """A delivery as GitHub sends it."""
        owner, _, name = repository.partition("/")
        body = json.dumps(
            {
                "ref": "refs/heads/main", "before": "a" * 40, "after": "b" * 40, "deleted": False,
                "repository": {"full_name": repository, "name": name, "default_branch": "main",
                               "owner": {"login": owner, "name": owner}},
            }
        ).encode()  # fmt: skip
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": delivery,
            "X-Hub-Signature-256": f"sha256={hmac.new(SECRET.encode(), body, 'sha256').hexdigest()}",
        }
        return call("POST", f"{self.web}/webhooks/github", body, headers)

    def outcome(self, delivery: str) -> str:
        headers = {"Authorization": f"Bearer {API}"}
        found = call("GET", f"{self.web}/api/v1/deliveries/{delivery}", headers=headers)
        return str(found.json["outcome"]) if found.status == 200 else ""

    def ended(self, delivery: str, seconds: float = 60) -> None:
        wait_for(
            f"{delivery} has its outcome", lambda: self.outcome(delivery) in {"failed", "superseded"}, seconds
        )

    def noticed(self, process: str) -> int:
        """The same; a worker may have to wait for its task before it says more than what it meets first.

        That is a lost connection, or a verdict that Redis does not take, which it offers for half a minute.
        """
        met = re.findall(r"Connection to broker lost|returning a result to", self.processes[process].output)
        return self.losses(process) + len(met)

    def losses(self, process: str) -> int:
        """Return how often the log says that Redis stopped answering."""
        return len(
            re.findall(r"waiting for it to return|what needs it gets 503", self.processes[process].output)
        )

    def returns(self, process: str) -> int:
        """How often its log says that Redis is back."""
        return len(re.findall(r"Redis is back|Redis answers again", self.processes[process].output))

    def pids(self) -> dict[str, list[int]]:
        """Of all processes, those of the worker's pool included."""
        return {name: descendants(each.pid) for name, each in self.processes.items()}

    def stop(self) -> None:
        for each in self.processes.values():
            each.kill_all()


@pytest.fixture(scope="module")
def simulators(tmp_path_factory: pytest.TempPathFactory, aws: str) -> Iterator[dict[str, str]]:
    started = github_server.create(data_dir=tmp_path_factory.mktemp("github"))
    started.start()
    yield {"DEPLOYER_GITHUB_API_URL": f"{started.url}/api/v3", **aws_settings(aws)}
    started.stop()


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("redis"), "appendonly yes", "appendfsync always").start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def product(
    tmp_path_factory: pytest.TempPathFactory, redis_server: Server, simulators: dict[str, str]
) -> Iterator[Product]:
    made = Product(tmp_path_factory.mktemp("product"), redis_server.url, simulators)
    try:
        made.at_work()
        yield made
    finally:
        made.stop()


def refused(product: Product, name: str, number: int = 50) -> list[float]:
    """Deliveries all at once, which must all be refused soon; returns the seconds that each took."""

    def one(which: int) -> float:
        began = time.monotonic()
        found = product.push(f"d-{name}-{which}")
        took = time.monotonic() - began
        assert (found.status, found.headers.get("Retry-After")) == (503, "5")
        return took

    with ThreadPoolExecutor(number) as pool:
        took = sorted(pool.map(one, range(number)))
    print(f"{name}: 503 p50 {took[number // 2]:.3f} s, max {took[-1]:.3f} s")
    return took


def told(product: Product) -> None:
    """No process says of Redis more than once that it went, or anything in a traceback."""
    for name, process in product.processes.items():
        assert "Traceback" not in process.output, process.output
        assert product.losses(name) <= product.returns(name) + 1
        assert "Trying again in" not in process.output


def kill(server: Server) -> None:
    server.kill()


def hang(server: Server) -> None:
    server.hang()


def refuse_writes(server: Server) -> None:
    """Behave like a primary without replicas."""
    with server.client as client:
        client.config_set("min-replicas-to-write", "1")


def take_writes(server: Server) -> None:
    with server.client as client:
        client.config_set("min-replicas-to-write", "0")


@pytest.mark.parametrize(
    ("goes", "returns"),
    [(kill, Server.start), (hang, Server.go_on), (refuse_writes, take_writes)],
    ids=["killed", "hanging", "without its replicas"],
)
def test_work_continues_after_an_outage_of_redis(
    product: Product,
    redis_server: Server,
    goes: Callable[[Server], None],
    returns: Callable[[Server], None],
) -> None:
    name, before = goes.__name__, product.pids()
    deliveries = [f"d-{name}-before-{number}" for number in range(10)]
    for number, delivery in enumerate(deliveries):  # so that it goes in the middle of things
        assert product.push(delivery, f"acme/{name}-{number}").status == 202
    noticed = [product.noticed(process) for process in PROCESSES]
    goes(redis_server)
    try:
        took = refused(product, name)
        product.ready(503)
        assert call("GET", f"{product.web}/healthz").status == 200
        for process, count in zip(PROCESSES, noticed, strict=True):
            if (process, name) != ("web", "refuse_writes"):  # each request says it
                wait_for(f"{process} says so", lambda p=process, c=count: product.noticed(p) > c)
    finally:
        returns(redis_server)
    began = time.monotonic()
    product.ready()
    assert product.push(f"d-{name}-after").status == 202
    for delivery in (f"d-{name}-after", *deliveries):
        product.ended(delivery)
    print(f"{name}: everything goes on {time.monotonic() - began:.2f} s after its return")
    for process in PROCESSES:
        wait_for(f"{process} says that it is back", lambda p=process: product.losses(p) == product.returns(p))
    assert product.pids() == before
    assert took[len(took) // 2] < 2  # with fifty at once on a loaded machine; each alone is within a second
    assert took[-1] < 3
    told(product)


def test_deliveries_sent_to_a_hung_redis_have_an_outcome(product: Product, redis_server: Server) -> None:
    redis_server.hang()
    try:
        assert product.push("d-late").status == 503
    finally:
        redis_server.go_on()
    product.ready()
    again = product.push("d-late")
    assert again.status == 202
    assert again.json["outcome"] in {"queued", "duplicate"}
    product.ended("d-late")


# --- Sentinel -----------------------------------------------------------------------------------------------------

PASSWORD, SENTINEL_PASSWORD = "the-password-of-this-test", "another-password-of-this-test"
EVICTS = "Redis evicts keys when its memory is full (maxmemory-policy volatile-lru)"


class Sentinels:
    """A primary, a replica, and three sentinels that watch them; the sentinels have a password of their own."""

    def __init__(self, directory: Path) -> None:
        secured = (
            f"requirepass {PASSWORD}",
            f"masterauth {PASSWORD}",
            "appendonly yes",
            "repl-diskless-sync-delay 0",
            "maxmemory-policy volatile-lru",
        )
        client = {"password": PASSWORD}
        self.primary = Server(directory / "primary", *secured, client=client).start()
        follows = f"replicaof 127.0.0.1 {self.primary.port}"
        self.replica = Server(directory / "replica", *secured, follows, client=client).start()
        wait_for("the replica follows", lambda: self.follows(self.replica))
        watch = (
            f"sentinel monitor main 127.0.0.1 {self.primary.port} 2",
            f"sentinel auth-pass main {PASSWORD}",
            f"requirepass {SENTINEL_PASSWORD}",
            "sentinel down-after-milliseconds main 500",
            "sentinel failover-timeout main 3000",
        )
        self.sentinels = [
            Server(
                directory / f"sentinel-{number}",
                *watch,
                arguments=["--sentinel"],
                client={"password": SENTINEL_PASSWORD},
            ).start()
            for number in range(3)
        ]
        nodes = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        self.url = f"sentinel://:{PASSWORD}@{nodes}/main/0?sentinel_password={SENTINEL_PASSWORD}"
        wait_for("the sentinels know one another and the replica", self._complete)

    def _complete(self) -> bool:
        found = []
        for each in self.sentinels:
            with each.client as client:
                state = client.sentinel_master("main")
            found.append((state["num-other-sentinels"], state["num-slaves"]))
        return found == [(2, 1)] * 3

    def follows(self, server: Server) -> bool:
        """Whether a server is a replica with its primary at hand."""
        with server.client as client:
            return client.info("replication").get("master_link_status") == "up"

    def stop(self) -> None:
        for each in (*self.sentinels, self.replica, self.primary):
            each.kill()


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[Sentinels]:
    made = Sentinels(tmp_path)
    yield made
    made.stop()


@pytest.mark.timeout(240)
def test_a_failover(sentinels: Sentinels, tmp_path: Path, simulators: dict[str, str]) -> None:
    product = Product(tmp_path, sentinels.url, simulators)
    try:
        product.at_work()
        _failover(product, sentinels)
    finally:
        product.stop()
    for process in product.processes.values():
        assert PASSWORD not in process.output
        assert SENTINEL_PASSWORD not in process.output
        assert process.output.count(EVICTS) == 1, "each warns once, at its start"


def _failover(product: Product, sentinels: Sentinels) -> None:
    """A primary dies amid a trickle of deliveries; the replica takes its place."""
    answers: list[tuple[float, str, int]] = []

    def trickle(until: float) -> bool:
        """Deliver until one is accepted after the death, or time is over; whether that came to be."""
        while time.monotonic() < until:
            delivery = f"d-{len(answers)}"
            answers.append(
                (time.monotonic(), delivery, product.push(delivery, f"acme/r{len(answers) % 3}").status)
            )
            if killed and answers[-1][2] == 202:
                return True
            if not killed and len(answers) == 20:
                return True
        return False

    killed = 0.0
    assert trickle(time.monotonic() + 30)
    before = product.pids()
    sentinels.primary.kill()
    killed = time.monotonic()
    # a sentinel that a stalled machine lets miss two seconds looks on for thirty: its TILT mode, in
    # https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/
    assert trickle(killed + 75), answers[-1]
    print(f"failover: accepted again {time.monotonic() - killed:.2f} s after the death")
    accepted = [delivery for _, delivery, status in answers if status == 202]
    assert {status for *_, status in answers} == {202, 503}
    # what the dead primary had acknowledged was under way to the replica: only a machine's death takes it along
    for delivery in accepted:
        product.ended(delivery)
    print(f"failover: all outcomes {time.monotonic() - killed:.2f} s after the death")
    assert product.pids() == before
    told(product)


# --- TLS ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("foreign"))


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, ours: Authority) -> Iterator[Server]:
    binary = tls_binary()
    if binary is None:
        pytest.skip("no Redis with TLS is on the PATH; Debian's package redis-server has one")
    made = Server(
        tmp_path_factory.mktemp("secured"), *ours.settings, binary=binary, client=ours.client_options
    ).start()
    yield made
    made.kill()


def test_tls_from_post_to_outcome(
    secured: Server, ours: Authority, tmp_path: Path, simulators: dict[str, str]
) -> None:
    product = Product(
        tmp_path, f"rediss://127.0.0.1:{secured.port}/0?ssl_ca_certs={ours.certificate}", simulators
    )
    try:
        product.at_work()
        told(product)
    finally:
        product.stop()


def test_a_certificate_of_another_authority_is_refused(
    secured: Server, foreign: Authority, tmp_path: Path, simulators: dict[str, str]
) -> None:
    product = Product(
        tmp_path, f"rediss://127.0.0.1:{secured.port}/0?ssl_ca_certs={foreign.certificate}", simulators
    )
    try:
        product.ready(503)
        refused = product.push("d-foreign")
        assert (refused.status, "Redis's certificate is refused: " in refused.text) == (503, True)
        product.processes["web"].says("Redis's certificate is refused: ")
        product.processes["scheduler"].says("Redis's certificate is refused: ")
        product.processes["worker"].says("Redis's certificate is refused: ")
        told(product)
    finally:
        product.stop()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_certificate_of_another_name_is_refused(secured: Server, ours: Authority, host: str) -> None:
    """It is made out to 127.0.0.1."""
    url = f"rediss://{host}:{secured.port}/1?ssl_ca_certs={ours.certificate}"
    lanes, app = RedisQueueStore(connect(url)), make_celery(url)
    if host == "127.0.0.1":
        lanes.ping()
    else:
        with pytest.raises(UnavailableError, match="certificate is refused: Hostname mismatch"):
            lanes.ping()
    CeleryDispatcher(app, connect(url)).send(Dispatch("acme/nowhere", "staging", "deployer.sync", 1))
    app.close()
    with secured.client as client:
        client.select(1)
        assert client.llen("deployer") == (host == "127.0.0.1")
        client.flushdb()
