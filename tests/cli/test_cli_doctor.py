"""Tests of `doctor`: each problem is one row with a remedy, and never hides other rows."""

import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli_world import REPOSITORY, World

from deployer.aws.cloud import AwsClouds
from deployer.environment.cloud_region import RegionCapacity
from deployer.github.host import GitHubHost
from deployer.model.delivery_record import DeliveryRecord
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environment_status import StageState
from deployer.model.environments import Kind, Repository
from deployer.model.errors import ConfigError, NotFoundError, RightsError, TransientError, UnavailableError
from deployer.model.repository_record import RepositoryRecord
from deployer.queue.items import Cause, Task, Work
from deployer.redis_store.aws.sharing import RedisSharing
from deployer.redis_store.circuit_breaker import RedisCircuitBreaker
from deployer.redis_store.connection import connect
from deployer.redis_store.queue import RedisQueueStore
from tests.records import know_repository
from tests.stalls import Stopwatch

A = "a" * 40
DAY = 86400
GOOD = {"aof_enabled": "1", "maxmemory": "0", "maxmemory_policy": "noeviction"}


@pytest.fixture(autouse=True)
def well(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation where all is well."""
    settings = {
        "api_token": "the-api-token-of-this-test",
        "aws_event_key": "the-event-key-of-this-test",
        "public_url": "https://deployer.example",
    }
    world.deployer.config = replace(world.deployer.config, **settings)
    monkeypatch.setattr(world.lanes, "read_server", lambda: dict(GOOD))
    for name in ("worker", "scheduler"):
        world.lanes.send_heartbeat(name, 60)
    accounts = {Kind.DEVELOPMENT: "2" * 12, Kind.STAGING: "2" * 12, Kind.PRODUCTION: "3" * 12}
    for kind, account in accounts.items():
        iam = f"arn:aws:iam::{account}"
        fence(world, kind, account=account, role_path=f"/deployer/{kind}/")
        fence(world, kind, service_role_arn=f"{iam}:role/{kind}", permissions_boundary=f"{iam}:policy/{kind}")
    count(world, 100)
    world.push("refs/heads/main", A)
    accept_event(world)
    world.work()


def fence(world: World, kind: Kind, **fields: Any) -> None:
    """Change what the settings say of a kind's target."""
    clouds: Any = world.deployer.clouds
    clouds.targets[kind] = replace(clouds.targets[kind], **fields)


def accept_event(world: World) -> None:
    work = Work("staging", task=Task.NOTIFY, cause=Cause.EVENT)
    accepted = world.lanes.accept(REPOSITORY, work, f"e-{time.monotonic_ns()}", "stage Build")
    if accepted.dispatch:
        world.queue.send(accepted.dispatch)


def count(world: World, stacks: int) -> None:
    """Let the region hold so many stacks."""
    cloud: Any = world.cloud
    cloud.room_left = RegionCapacity("us-east-1", stacks, 500, 7, 1000, time.time())


def checks(world: World, code: int) -> dict[str, tuple[str, str]]:
    """State and finding by the check's name; the worst of several of one name."""
    result = world.run("doctor", "--json")
    assert result.exit_code == code, result.output
    found: dict[str, tuple[str, str]] = {}
    for each in json.loads(result.stdout):
        assert (each["remedy"] == "") == (each["state"] == "ok"), each
        if each["state"] != "ok" or each["check"] not in found:
            found[each["check"]] = each["state"], each["told"]
    return found


def bad(world: World, code: int) -> dict[str, tuple[str, str]]:
    return {name: found for name, found in checks(world, code).items() if found[0] != "ok"}


def test_doctor_finds_no_problem(world: World) -> None:
    result = world.run("doctor")
    assert result.exit_code == 0, result.output
    names = {
        "settings", "Redis", "GitHub", "development us-east-1", "staging us-east-1", "production us-east-1",
        "accounts", "room us-east-1", "worker", "scheduler", "dead letters", "lanes", "events", "fence", "pipelines",
    }  # fmt: skip
    assert set(checks(world, 0)) == names
    assert bad(world, 0) == {}
    assert "100 of 500 stacks, 7 of 1000 pipelines; counted" in result.stdout


def test_settings_that_are_missing(world: World) -> None:
    world.deployer.config = replace(
        world.deployer.config, webhook_secrets=(), github_token="", api_token="", aws_event_key=""
    )
    result = world.run("doctor")
    assert result.exit_code == 1
    for words in (
        "DEPLOYER_GITHUB_WEBHOOK_SECRET is not set",
        "DEPLOYER_GITHUB_TOKEN is not set",
        "DEPLOYER_API_TOKEN is not set: the API, pages and metrics",
        "DEPLOYER_AWS_EVENT_KEY is not set",
    ):
        assert words in result.stdout
    assert "\nevents" not in result.stdout


def test_unknown_settings(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("DEPLOYER_FOO=1\n")
    monkeypatch.setenv("DEPLOYER_CONCURENCY", "4")
    monkeypatch.setenv("DEPLOYER_SANDBOX_SPEED", "1")
    told = [
        (each["told"], each["remedy"]) for each in world.json("doctor") if "not a setting" in each["told"]
    ]
    assert told == [
        ("DEPLOYER_CONCURENCY is not a setting of deployer", "did you mean DEPLOYER_CONCURRENCY?"),
        ("DEPLOYER_FOO is not a setting of deployer", "remove it; deployer config lists all settings"),
    ]


def test_settings_that_cannot_be_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def malformed(**_: Any) -> Any:
        raise ConfigError("DEPLOYER_WEB_PORT is 'x'; it must be a number from 1 to 65535")

    monkeypatch.setattr("deployer.wiring.build", malformed)
    assert checks(world, 1) == {
        "settings": ("FAIL", "DEPLOYER_WEB_PORT is 'x'; it must be a number from 1 to 65535")
    }


def test_redis_away_hides_neither_github_nor_aws(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise UnavailableError("Redis does not answer")

    for name in (
        "ping",
        "read_server",
        "last_heartbeats",
        "lanes",
        "repositories",
        "dead_letters",
        "activity",
    ):
        monkeypatch.setattr(world.lanes, name, away)
    world.deployer.config = replace(world.deployer.config, repositories=("acme/API",))
    found = checks(world, 1)
    failed = {name for name, (state, _) in found.items() if state == "FAIL"}
    assert failed == {"Redis"}
    assert not {"processes", "worker", "dead letters", "lanes", "events", "repositories"} & set(found)
    assert found["GitHub"] == ("ok", "1 of 1 repositories can be read and accept commit statuses")
    assert found["room us-east-1"][0] == "ok"


@pytest.mark.parametrize(
    ("told", "state", "words", "code"),
    [
        ({"aof_enabled": "0"}, "warn", "has no append-only file", 0),
        ({"maxmemory": "1000", "maxmemory_policy": "allkeys-lru"}, "warn", "maxmemory-policy allkeys-lru", 0),
        ({"maxmemory": "0", "maxmemory_policy": "volatile-ttl"}, "warn", "maxmemory-policy volatile-ttl", 0),
        ({"maxmemory": "1000"}, "ok", "stores each write", 0),
        ({"cluster_enabled": "1"}, "FAIL", "cluster mode", 1),
    ],
)
def test_a_redis_without_persistence_or_in_cluster_mode(
    world: World, monkeypatch: pytest.MonkeyPatch, told: dict[str, str], state: str, words: str, code: int
) -> None:
    monkeypatch.setattr(world.lanes, "read_server", lambda: GOOD | told)
    found = checks(world, code)["Redis"]
    assert (found[0], words in found[1]) == (state, True)


def test_a_github_that_is_away_or_lets_deployer_do_too_little(world: World) -> None:
    world.host.permissions_missing = ["statuses: write"]
    assert bad(world, 1) == {"GitHub acme/API": ("FAIL", "deployer lacks statuses: write")}
    world.host.remedy = "acme has not accepted statuses: write; an owner accepts it at https://github.com/x"
    assert world.host.remedy in [each["remedy"] for each in json.loads(world.run("doctor", "--json").stdout)]
    world.host.fail_next(TransientError("GitHub cannot be reached"))
    assert bad(world, 1) == {"GitHub": ("FAIL", "GitHub cannot be reached")}
    world.host.fail_next(TransientError("reading it: GitHub answers 502"), method="missing_permissions")
    assert bad(world, 1) == {"GitHub acme/API": ("FAIL", "reading it: GitHub answers 502")}
    world.host.fail_next(TransientError("GitHub cannot be reached"))
    assert "try again later" in world.run("doctor").stdout


def test_rate_limits_of_github_that_are_nearly_reached(world: World) -> None:
    sharing = world.deployer.github_sharing

    def answered(account: str, remaining: int, refused: float | None = None) -> None:
        quota = (5000, remaining, time.time() + 1800)
        sharing.record_limits(account, "core", quota=quota, refused_seconds=refused, refuses_all=True)

    answered("installation-7", 501)
    assert "GitHub limits" not in checks(world, 0)
    answered("installation-7", 499)
    state, text = checks(world, 0)["GitHub limits"]
    assert state == "warn"
    assert re.fullmatch(r"installation-7: 499 of 5,000 requests \(core\) remain for \d+ min", text)
    answered("installation-8", 4000, 60)
    told = [each["told"] for each in world.json("doctor") if each["check"] == "GitHub limits"]
    assert any(each.startswith("installation-8: GitHub refuses requests (core) for ") for each in told)


def test_a_cloud_that_is_away(world: World) -> None:
    world.cloud.fail_next(TransientError("AWS refuses the credentials"), times=2, method="stacks")
    world.cloud.fail_next(TransientError("AWS is away"), method="count_capacity")
    assert bad(world, 1) == {
        "development us-east-1, staging us-east-1": ("FAIL", "AWS refuses the credentials"),
        "room us-east-1": ("FAIL", "AWS is away"),
    }


def test_failures_of_one_cause_are_one_row(world: World) -> None:
    refused = [
        f"{doing}: no usable credentials" for doing in ("reading a bucket", "listing stacks", "counting")
    ]
    for error, method in zip(refused, ("check_artifact_bucket", "stacks", "count_capacity"), strict=True):
        world.cloud.fail_next(TransientError(error), times=3, method=method)
    assert bad(world, 1) == {
        "development us-east-1, staging us-east-1, production us-east-1 and 1 more": (
            "FAIL",
            "no usable credentials",
        )
    }


def test_a_right_that_is_lacking_everywhere_is_one_row(world: World) -> None:
    world.deployer.config = replace(
        world.deployer.config, repositories=("acme/API", "acme/b", "acme/c", "acme/d")
    )
    for name in "bcd":
        world.host.create(Repository("acme", name))
    world.host.permissions_missing = ["statuses: write"]
    assert bad(world, 1) == {
        "GitHub acme/API, GitHub acme/b, GitHub acme/c and 1 more": ("FAIL", "deployer lacks statuses: write")
    }


def test_redis_that_goes_away_during_the_checks_is_one_row(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Any:
        raise UnavailableError("Redis does not answer")

    answers = iter([True])

    def ping() -> None:
        if not next(answers, False):
            away()

    monkeypatch.setattr(world.lanes, "ping", ping)
    for name in ("last_heartbeats", "lanes", "dead_letters", "activity"):
        monkeypatch.setattr(world.lanes, name, away)
    assert bad(world, 1) == {"Redis": ("FAIL", "Redis does not answer")}


class Silent:
    """A server that accepts connections and never answers."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=50)
        self.port = self._socket.getsockname()[1]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def silent() -> Iterator[int]:
    server = Silent()
    yield server.port
    server.close()


@pytest.fixture
def closed() -> int:
    """A port that refuses connections."""
    server = Silent()
    server.close()
    return server.port


@pytest.mark.parametrize("how", ["silent", "closed"])
@pytest.mark.parametrize("away", [["Redis"], ["GitHub"], ["AWS"], ["Redis", "GitHub", "AWS"]])
def test_each_unreachable_system_is_one_row_within_three_seconds(
    world: World, request: pytest.FixtureRequest, how: str, away: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = request.getfixturevalue(how)
    for name in "bc":
        world.host.create(Repository("acme", name))
    world.deployer.config = replace(world.deployer.config, repositories=("acme/API", "acme/b", "acme/c"))
    parts = vars(world.deployer)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    if "Redis" in away:
        client = connect(f"redis://127.0.0.1:{port}/0", RedisCircuitBreaker(1.0))
        parts.update(client=client, lanes=RedisQueueStore(client))
    if "GitHub" in away:
        parts["host"] = GitHubHost("token", api_url=f"http://127.0.0.1:{port}/api/v3")
    if "AWS" in away:
        url = f"http://127.0.0.1:{port}"
        regions = ("us-east-1", "eu-west-1")
        targets = {
            kind: replace(target, regions=regions) for kind, target in world.deployer.clouds.targets.items()
        }  # type: ignore[attr-defined]
        parts["clouds"] = AwsClouds(targets, RedisSharing(parts["client"]), endpoint_url=url)
    with Stopwatch() as stopwatch:
        found = json.loads(world.run("doctor", "--json").stdout)
    assert stopwatch.seconds < 3
    failed = [each["check"] for each in found if each["state"] == "FAIL"]
    assert [name.partition(" ")[0] for name in failed] == away
    if away == ["Redis"]:
        assert "acme" not in str(failed)
        assert [each["state"] for each in found if each["check"] == "room us-east-1"] == ["ok"]


def test_an_artifact_bucket_that_is_not_there(world: World) -> None:
    world.cloud.fail_next(
        TransientError("see deployer's artifact bucket (NoSuchBucket)"), method="check_artifact_bucket"
    )
    found = bad(world, 1)
    assert found == {"development us-east-1": ("FAIL", "see deployer's artifact bucket (NoSuchBucket)")}


def test_a_bug_in_one_part_is_one_line(world: World) -> None:
    world.cloud.fail_next(RuntimeError("secret"), method="count_capacity")
    assert bad(world, 1) == {"room us-east-1": ("FAIL", "unexpected RuntimeError")}


def test_a_target_without_an_artifact_bucket(world: World) -> None:
    fence(world, Kind.PRODUCTION, artifact_bucket="")
    assert bad(world, 1) == {"production us-east-1": ("FAIL", "no artifact bucket is set")}


NO_ROLE: dict[str, Any] = {"service_role_arn": ""}


@pytest.mark.parametrize(
    ("kind", "fields", "settings", "check", "state", "words"),
    [
        (Kind.DEVELOPMENT, NO_ROLE, {}, "fence", "FAIL", "has no service_role, so whoever may push a branch"),
        (Kind.DEVELOPMENT, NO_ROLE, {}, "fence", "FAIL", "; workers do not start"),
        (Kind.DEVELOPMENT, NO_ROLE, {"unfenced": True}, "fence", "warn", "development has no service_role"),
        (
            Kind.DEVELOPMENT,
            {},
            {"unfenced": True},
            "fence",
            "warn",
            "although development has a service role",
        ),
        (
            Kind.STAGING,
            NO_ROLE,
            {},
            "fence staging",
            "warn",
            "staging has no service_role: its stacks can use",
        ),
        (Kind.DEVELOPMENT, {"role_path": ""}, {}, "fence development", "warn", "and no role_path"),
    ],
)
def test_a_fence_that_lacks_something(
    world: World,
    kind: Kind,
    fields: dict[str, Any],
    settings: dict[str, Any],
    check: str,
    state: str,
    words: str,
) -> None:
    fence(world, kind, **fields)
    world.deployer.config = replace(world.deployer.config, **settings)
    found = bad(world, 1 if state == "FAIL" else 0)
    assert set(found) == {check}
    assert found[check][0] == state
    assert words in found[check][1]


def test_the_sandbox_needs_no_fence(world: World) -> None:
    fence(world, Kind.DEVELOPMENT, **NO_ROLE)
    world.deployer.config = replace(world.deployer.config, sandbox=True, api_token="sandbox")
    assert "fence" not in checks(world, 0)


def test_a_secret_that_is_easy_to_guess(world: World) -> None:
    world.deployer.config = replace(world.deployer.config, api_token="sandbox")
    found = bad(world, 1)
    assert found["settings"][0] == "FAIL"
    assert found["settings"][1].startswith("DEPLOYER_API_TOKEN is too easy to guess")


DEV, PROD, OWN = "2" * 12, "3" * 12, "1" * 12
ROLE = "arn:aws:iam::{}:role/deployer"


@pytest.mark.parametrize(
    ("development", "production", "words"),
    [
        ({"account": DEV}, {"account": PROD}, ""),
        ({"account": DEV}, {"account": DEV}, f"shares account {DEV} with production"),
        ({"role_arn": ROLE.format(DEV)}, {"account": DEV}, f"shares account {DEV} with production"),
        ({"account": OWN}, {"account": PROD}, f"shares account {OWN} with deployer itself"),
        ({}, {"account": PROD}, f"shares account {OWN} with deployer itself"),
        ({}, {}, f"shares account {OWN} with production and deployer itself"),
        ({"role_arn": ROLE.format(DEV)}, {}, ""),
    ],
)
def test_development_in_the_account_of_production_or_of_deployer(
    world: World, development: dict[str, str], production: dict[str, str], words: str
) -> None:
    clouds: Any = world.deployer.clouds
    for kind, told in ((Kind.DEVELOPMENT, development), (Kind.PRODUCTION, production)):
        clouds.targets[kind] = replace(clouds.targets[kind], **{"account": "", **told})
    state, found = checks(world, 0)["accounts"]
    assert (state, words in found) == ("warn" if words else "ok", True)
    world.deployer.config = replace(world.deployer.config, sandbox=True)
    assert "accounts" not in checks(world, 0)


@pytest.mark.parametrize(
    ("stacks", "state", "words", "code"),
    [
        (270, "ok", "270 of 500 stacks, 7 of 1000 pipelines; counted 0 s ago", 0),
        (489, "ok", "489 of 500 stacks", 0),
        (490, "warn", "490 of 500 stacks", 0),
        (492, "warn", "7 of 1000 pipelines; counted 0 s ago", 0),
        (500, "FAIL", "500 of 500 stacks", 1),
    ],
)
def test_capacity_of_a_region(world: World, stacks: int, state: str, words: str, code: int) -> None:
    count(world, stacks)
    found = checks(world, code)["room us-east-1"]
    assert found[0] == state
    assert words in found[1]
    if stacks == 492:
        assert re.search(
            r"492 of 500 stacks used at \d\d:\d\d UTC, 10 kept for staging and production", found[1]
        )


def test_the_capacity_check_shows_the_age_of_its_count(world: World) -> None:
    cloud: Any = world.cloud
    cloud.room_left = replace(cloud.room_left, counted_at=time.time() - 40 * 60)
    assert "7 of 1000 pipelines; counted 40 min ago" in checks(world, 0)["room us-east-1"][1]


def test_processes_that_are_gone(world: World) -> None:
    world.redis.delete("deployer:beat:worker")
    assert bad(world, 1) == {"worker": ("FAIL", "no recent heartbeat")}


def test_items_that_no_worker_understands_and_a_queue_that_is_broken(world: World) -> None:
    newer = Work("development:refs/heads/newer", task="deployer.migrate")
    accepted = world.lanes.accept(REPOSITORY, newer)
    assert accepted.dispatch
    world.lanes.refuse(REPOSITORY, accepted.dispatch.token, "this version knows no task 'deployer.migrate'")
    told = bad(world, 0)["lanes"]
    why = "workers did not understand its queue item: this version knows no task 'deployer.migrate'"
    assert told == ("warn", f"acme/API development:refs/heads/newer: {why}")
    assert told[1] in world.run("lanes").stderr
    (lane,) = world.json("lanes")
    assert lane["refused"] == [{"environment": newer.environment, "ref": None, "reason": why}]
    world.redis.delete("deployer:{acme/api}:queue")
    world.redis.set("deployer:{acme/api}:queue", "x")
    state, words = bad(world, 1)["lanes"]
    assert state == "FAIL"
    assert words.startswith("the queue of acme/API cannot be used: WRONGTYPE")


def test_queue_items_that_no_worker_takes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.push("refs/heads/x", A, work=False)
    assert bad(world, 0) == {}
    monkeypatch.setattr("deployer.cli.checks.redis_checks._LONG_WAIT", -1)
    told = "queue of acme/API makes no progress: sent for development:refs/heads/x"
    assert bad(world, 1) == {"lanes": ("FAIL", told)}


def test_dead_letters_are_a_warning(world: World) -> None:
    world.host.fail_next(TransientError("GitHub answers 502"), times=2, method="head")
    world.push("refs/heads/x", A)
    found = bad(world, 0)
    assert found["dead letters"][1].startswith("1 to replay or discard, the oldest from ")


def test_missing_events_are_a_warning(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployer.cli.checks.redis_checks._LATE_EVENT", -DAY)
    assert bad(world, 0)["events"][0] == "warn"
    world.redis.delete("deployer:beat:event")
    assert bad(world, 0) == {"events": ("warn", "no event from AWS received yet, so deployer polls AWS")}


def test_deliveries_of_repositories_that_are_not_served(world: World) -> None:
    world.lanes.ignore(DeliveryRecord("u-1", "else/where", reason="no"), served=False)
    (found,) = [each for each in world.json("doctor") if each["check"] == "repositories"]
    assert found["state"] == "ok"
    assert "1 repository sends deliveries but matches no pattern" in found["told"]
    assert "DEPLOYER_REPOSITORIES: else/where" in found["told"]


@pytest.mark.parametrize(
    ("refused", "remedy"),
    [
        (0, "check that GitHub can always reach deployer's web process"),
        (1, "set the webhook's secret again: deployer webhook install, or in the App's settings"),
    ],
)
def test_deliveries_that_were_missed(world: World, refused: int, remedy: str) -> None:
    missed = {"at": time.time(), "redelivered": 1, "superseded": 0, "left": 0}
    record = RepositoryRecord(REPOSITORY.full_name, checked_at=time.time(), missed=missed, refused=refused)
    know_repository(world.lanes, record)
    (found,) = [each for each in world.json("doctor") if each["check"] == f"deliveries of {REPOSITORY}"]
    assert (found["state"], found["remedy"]) == ("warn", remedy)
    assert ("wrong signature" in found["told"]) == bool(refused)


@pytest.mark.parametrize("app", [False, True])
def test_a_webhook_at_another_address_is_warned_of(world: World, *, app: bool) -> None:
    world.push("refs/heads/main", "a" * 40)
    world.host.is_app, world.host.app_hook = app, "https://former.example/webhooks/github"
    world.host.hooks[REPOSITORY.key] = ("https://former.example/webhooks/github", "", [])
    with pytest.raises(NotFoundError):
        world.deployer.deliveries.check(REPOSITORY)

    name = f"deliveries of {'the GitHub App' if app else REPOSITORY}"
    (found,) = [each for each in world.json("doctor") if each["check"] == name]
    assert found["state"] == "warn"
    assert "set DEPLOYER_PUBLIC_URL to the address that GitHub delivers to" in found["remedy"]
    assert ("deployer webhook install" in found["remedy"]) != app

    world.host.hook_rights = False  # deployer works without this permission, so nobody needs to act
    with pytest.raises(RightsError):
        world.deployer.deliveries.check(REPOSITORY)
    (found,) = [each for each in world.json("doctor") if each["check"] == name]
    assert found["state"] == "ok"


@pytest.mark.parametrize(
    ("protections", "words"),
    [
        ((False, True, ""), "default branch main is not protected"),
        ((True, False, ""), "no active ruleset protects its tags"),
        (
            (True, None, "its rulesets: GitHub answers 403"),
            "protected (its rulesets: GitHub answers 403)",
        ),
        ((None, None, "its protection: GitHub answers 404"), "protected (its protection"),
    ],
)
def test_an_unprotected_default_branch_or_tags_are_a_warning(
    world: World, protections: tuple[bool | None, bool | None, str], words: str
) -> None:
    world.host.protections = protections
    state, told = bad(world, 0)[f"GitHub {REPOSITORY}"]
    assert state == "warn"
    assert words in told


@pytest.mark.parametrize(
    ("required", "missing"),
    [
        (("deployer", "deployer/prepare", "Deployer/build", "ci"), ""),
        (("deployer", "deployer/Old", "deployer/staging/Build"), "deployer/Old, deployer/staging/Build"),
        (("deployer/production",), "deployer/production"),
    ],
)
def test_required_statuses_that_no_branch_gets_are_a_warning(
    world: World, required: tuple[str, ...], missing: str
) -> None:
    world.host.protections = (True, True, "", required)
    record = EnvironmentRecord.of(
        str(REPOSITORY), "development:refs/heads/x", "s", stages=[StageState("Build", "succeeded")]
    )
    world.know(record)
    found = checks(world, 0).get(f"GitHub {REPOSITORY}")
    if missing:
        text = f"main requires {missing}, which deployer does not post on branches"
        assert found == ("warn", text)
    else:
        assert found is None or found[0] == "ok"


def test_without_an_environment_the_stages_are_unknown(world: World) -> None:
    world.host.protections = (True, True, "", ("deployer/Build", "deployer/production"))
    state, told = bad(world, 0)[f"GitHub {REPOSITORY}"]
    assert (state, "requires deployer/production, which" in told) == ("warn", True)


@pytest.mark.parametrize("whose", ["-/-", "acme/api"])
def test_a_damaged_record_of_a_repository_or_the_app_is_named_and_hides_nothing_else(
    world: World, whose: str
) -> None:
    other = Repository.parse("acme/other")
    world.lanes.accept(other, Work("staging"))
    know_repository(world.lanes, RepositoryRecord("acme/other", 1, "archived", reason="it is archived"))
    world.lanes._redis.set(f"deployer:{{{whose}}}:repository", "no JSON")
    found = bad(world, 1)
    assert "it is archived" in found["repository acme/other"][1]
    state, told = found["repositories"]
    assert (state, f"delete the key deployer:{{{whose}}}:repository" in told) == ("FAIL", True)


READS_ANOTHER = """
Resources:
  Pipeline:
    Type: AWS::CodePipeline::Pipeline
    Properties:
      Name: !Ref AWS::StackName
      Stages:
        - Name: Source
          Actions:
            - Name: Source
              ActionTypeId: {Category: Source, Owner: AWS, Provider: CodeStarSourceConnection, Version: "1"}
              Configuration: {FullRepositoryId: acme/api, BranchName: BRANCH}
"""


def test_running_pipelines_that_the_rules_of_this_version_reject_are_listed(world: World) -> None:
    assert checks(world, 0)["pipelines"] == ("ok", "1 follow the rules of this version")
    for number, branch in enumerate(("one", "two")):
        # it was deployed before these rules
        ref, sha = f"refs/heads/{branch}", f"{number}" * 40
        world.push(ref, sha)
        world.host.push(REPOSITORY, ref, sha, files={"pipeline.yml": READS_ANOTHER.replace("BRANCH", branch)})
    found = [each for each in world.json("doctor") if each["check"].startswith("pipeline")]
    assert [each["state"] for each in found] == ["warn", "warn"]
    for each, branch in zip(sorted(found, key=lambda row: row["told"]), ("one", "two"), strict=True):
        assert each["told"].startswith(f"{REPOSITORY} {branch} at ")
        assert (
            "deploy/pipeline.yml:12: AWS starts the pipeline when the source of Source changes"
            in each["told"]
        )
        assert "docs/pipelines.md" in each["remedy"]


def test_an_environment_that_was_deleted_has_no_pipeline_to_check(world: World) -> None:
    world.push("refs/heads/one", "1" * 40)
    assert world.run("delete", str(REPOSITORY), "one").exit_code == 0
    world.work()
    assert checks(world, 0)["pipelines"] == ("ok", "1 follow the rules of this version")


def test_a_commit_that_github_has_no_longer_is_a_warning(world: World) -> None:
    world.host._repos[REPOSITORY.key].files.clear()
    ((state, told),) = (row for name, row in bad(world, 0).items() if name.startswith("pipeline "))
    assert (state, told.startswith("cannot be checked: ")) == ("warn", True)
