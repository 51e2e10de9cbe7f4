"""What a push, a page, the API, the metrics, `status` and the expiry check read does not grow with what exists."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from deployer.cli import main
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Repository
from deployer.model.refs import Ref
from deployer.queue.items import Work
from deployer.queue.step_results import Finished
from deployer.redis_store.connection import connect
from sandbox.bench.growth import fill_redis
from tests.unit.world import HELLO, TEMPLATE, World, sha
from tests.web.site import Site
from workers.scheduler import Scheduler

SIZES = {"few": (30, 3), "many": (300, 30), "many in one": (300, 1)}
R0 = Repository("bench", "r0")
BRANCH = Environment.of_ref(R0, Ref.of_branch("feature/0"), "main")


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with connect(redis_url) as server:
        server.flushall()
        yield server


@pytest.fixture(autouse=True)
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.parameters.MOST_ROWS", 10)
    monkeypatch.setattr("web.pages._SHOWN_ENVIRONMENTS", 10)


class Counted:
    """How many commands Redis carries out, and how many records of environments are read, during an action."""

    def __init__(self, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self._client, self._records = client, 0
        parse = EnvironmentRecord.from_json

        def count(text: str) -> EnvironmentRecord:
            self._records += 1
            return parse(text)

        monkeypatch.setattr(EnvironmentRecord, "from_json", count)

    def of(self, act: Callable[[], object]) -> tuple[int, int]:
        self._records, before = 0, self._commands()
        act()
        return self._commands() - before, self._records

    def _commands(self) -> int:
        stats = self._client.info("commandstats")
        return sum(each["calls"] for name, each in stats.items() if name.startswith("cmdstat_"))


def push_and_work(site: Site) -> None:
    accepted = site.lanes.accept(
        R0, Work.of(BRANCH.key, ref="refs/heads/feature/0"), f"d{time.monotonic_ns()}", "push"
    )
    assert accepted.dispatch
    assert site.lanes.begin(R0, accepted.dispatch.token)
    record = site.lanes.environment(BRANCH)
    assert record
    site.lanes.finish(R0, accepted.dispatch.token, Finished("deployed", "because", record))


def show_status(site: Site, *arguments: str) -> None:
    def load() -> Any:
        return site.deployer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deployer.cli.commands.status.load_deployer", load)
        answer = CliRunner().invoke(main, ["status", *arguments], catch_exceptions=False)
    assert answer.exit_code == 0, answer.output


def get(path: str) -> Callable[[Site], object]:
    def read(site: Site) -> None:
        answer = site.client.get(path)
        assert answer.status_code == 200, answer.text

    return read


OPERATIONS: dict[str, Callable[[Site], object]] = {
    "a push": push_and_work,
    "status --state failed": lambda site: show_status(site, "--state", "failed"),
    "expiry check": lambda site: site.deployer.submitter.queue_expiry_checks(site.lanes.now()),
    **{
        path: get(path)
        for path in (
            "/", "/?state=failed", "/?page=2", "/metrics", "/readyz", "/api/v1/environments",
            "/api/v1/environments?repository=bench/r0", f"/api/v1/environments/{BRANCH.stack_name}", "/api/v1/activity",
            "/api/v1/activity?goal=g", "/api/v1/lanes", "/api/v1/dead-letters",
        )
    },
}  # fmt: skip


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_cost_does_not_grow_with_what_exists(
    client: Any, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    found = {}
    for size, numbers in SIZES.items():
        client.flushall()
        fill_redis(client, *numbers)
        site = Site({"DEPLOYER_REPOSITORIES": "*/*", "DEPLOYER_TTL": "3d"}, client=client)
        act = OPERATIONS[operation]
        for _ in range(
            2
        ):  # what is done once: the lists of an earlier version's data, the first check, a Lua script
            site.lanes.clock_offset_ms += 60_000
            site.lanes.sweep(limit=1000)
            act(site)
        found[size] = Counted(client, monkeypatch).of(lambda site=site, act=act: act(site))  # type: ignore[misc]
    assert found["few"] == found["many"] == found["many in one"], found


def test_a_deployment_costs_the_same_beside_many_environments(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the push to the end of its pipeline: the receiver's part and all tasks, with doubles for GitHub and AWS."""
    found = {}
    for count in (5, 200):
        client.flushall()
        world = World(client)
        for number in range(count):
            other = Environment.of_ref(HELLO, Ref.of_branch(f"other/{number}"), "main")
            record = EnvironmentRecord.of("acme/hello", other.key, other.stack_name, state="deployed")
            client.hset("deployer:{acme/hello}:environments", other.key, record.to_json())
        fill_redis(client, count, count // 5)
        world.lanes.index_records()
        world.lanes.sweep(limit=1000)
        for name in client.zrange("deployer:lanes", 0, -1):
            client.zadd("deployer:lanes", {name: 1e15})  # a sweep of an idle queue is no part of a deployment
        world.push("refs/heads/first", sha(1))  # loads the scripts
        world.run()
        delivery = "second"

        def deploy(world: World = world, delivery: str = delivery) -> None:
            world.host.push(HELLO, "refs/heads/x", sha(2), files={"pipeline.yml": TEMPLATE})
            world.deliver("refs/heads/x", sha(2), delivery=delivery)
            world.run()

        found[count] = Counted(client, monkeypatch).of(deploy)
        assert world.outcome(delivery)[0] == "deployed"
    assert found[5] == found[200]


def test_a_page_of_repositories_reads_only_theirs(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for repositories in (20, 200):
        client.flushall()
        fill_redis(client, repositories, repositories)
        site = Site({"DEPLOYER_REPOSITORIES": "*/*"}, client=client)
        get("/api/v1/repositories")(site)
        found[repositories] = Counted(client, monkeypatch).of(lambda: get("/api/v1/repositories")(site))  # noqa: B023
    assert found[20] == found[200]


def test_the_expiry_check_reads_only_what_is_due(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_redis(client, 300, 30)
    site = Site({"DEPLOYER_REPOSITORIES": "*/*", "DEPLOYER_TTL": "3d"}, client=client)
    scheduler, counted = Scheduler(site.deployer), Counted(client, monkeypatch)
    site.lanes.index_records()
    assert counted.of(scheduler._check_expiries)[1] == 300, "each once, because nothing is known of its time"
    assert counted.of(scheduler._check_expiries)[1] == 0
    push_and_work(site)
    assert counted.of(scheduler._check_expiries)[1] == 1, "the record was written"
    site.lanes.keep_environment(BRANCH, 0)
    assert counted.of(scheduler._check_expiries)[1] == 1
    assert counted.of(scheduler._check_expiries)[1] == 0
    site.lanes.clock_offset_ms += 3 * 86_400_000
    assert counted.of(scheduler._check_expiries)[1] == 200, "as many as a batch has; 50 of them are queued"
    waiting = sum(len(lane.waiting) for lane in site.lanes.lanes())
    assert waiting == 50


def test_pages_of_the_api_have_every_environment(client: Any) -> None:
    fill_redis(client, 35, 3)
    site = Site({"DEPLOYER_REPOSITORIES": "*/*"}, client=client)
    found, cursor = list[str](), ""
    while cursor is not None:
        answer = site.client.get(f"/api/v1/environments?limit=8&cursor={cursor}").json
        found += [each["id"] for each in answer["environments"]]
        cursor = answer["next"]
    assert len(found) == len(set(found)) == 35


@pytest.mark.parametrize("cursor", ["x", "%", "!!!!", "A" * 2001, "/w=="])
def test_a_wrong_cursor_is_refused(cursor: str) -> None:
    answer = Site().client.get(f"/api/v1/environments?cursor={cursor}")
    assert (answer.status_code, answer.json) == (
        400, {"error": "cursor must be the value of next in the answer with the page before"},
    )  # fmt: skip
