"""Tests of environments while their repository changes, webhooks fail, time passes and Redis loses its data.

Every case has a repository of its own, and all of them run side by side in one installation. What GitHub tells first is
done a second time without a word: then a resync finds it.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from pathlib import Path

import boto3
import pytest
from installations import FRAGILE
from life_kit import Shop, metric, said, told, write_zone

from deployer.redis_store.connection import connect
from sandbox.http_calls import call
from sandbox.installation import Installation, wait_for
from tests.threads import run_at_once

# of the first, which waits for the slowest; each wait has its own bound
pytestmark = pytest.mark.timeout(400)
Case = Callable[[Installation, Path, Path], Shop]
CASES: dict[str, Case] = {}
GRACE = float(FRAGILE["DEPLOYER_ORPHAN_SECONDS"])


def case(function: Case) -> Case:
    """Let it run beside the others."""
    CASES[function.__name__] = function
    return function


@pytest.fixture(scope="module")
def life(
    fragile: Installation, tmp_path_factory: pytest.TempPathFactory, zones: Path
) -> dict[str, Future[Shop]]:
    """Every case, at its end."""
    directory = tmp_path_factory.mktemp("life")
    jobs = {name: partial(each, fragile, directory, zones) for name, each in CASES.items()}
    return run_at_once(jobs, len(jobs))


@pytest.mark.parametrize("name", CASES)
def test_the_whole_life_of_a_repository(life: dict[str, Future[Shop]], name: str) -> None:
    life[name].result()


# --- the repository as a whole --------------------------------------------------------------------------------------


@case
def renamed(here: Installation, directory: Path, _zones: Path) -> Shop:
    shop = Shop(here, directory, "renamed/one").begin(production=True)
    for name, silent in (("two", False), ("three", True)):
        former, standing = shop.name, shop.standing()
        shop.hook(active=not silent)
        shop.change("rename", name, f"renamed/{name}")
        if silent:
            assert shop.standing(former) == standing
            assert f"{former} is {shop.name} now" in shop.resync(former)
        shop.deployed(staging=shop.main, dev=shop.dev)
        shop.gone("dev", former)
        left = {
            key: each for key, each in standing.items() if each[2]["deployer:environment"] != "development"
        }
        assert shop.standing(former) == left
        assert shop.environment("production") == {}
    return shop


@case
def transferred(here: Installation, directory: Path, _zones: Path) -> Shop:
    shop = Shop(here, directory, "seller/shop").begin()
    shop.change("transfer", "buyer", "buyer/shop")
    shop.deployed(staging=shop.main, dev=shop.dev)
    shop.gone("dev", "seller/shop")
    assert [each[2]["deployer:environment"] for each in shop.standing("seller/shop").values()] == ["staging"]
    known = next(each for each in told(here, "repositories", "list") if each["repository"] == "seller/shop")
    assert known["state"] == "renamed"
    assert "deployer delete --environment staging|production seller/shop" in known["reason"]
    return shop


@case
def archived(here: Installation, directory: Path, _zones: Path) -> Shop:
    shop = Shop(here, directory, "archived/shop").begin()
    why = "archived/shop is archived: nothing new runs; its environments stay until they are deleted"
    for silent in (False, True):
        standing = shop.standing()
        shop.hook(reached=False)
        shop.dev = shop.push("dev")
        shop.deliveries()
        shop.hook(active=not silent)
        shop.change("archive")
        if silent:
            assert shop.resync() == why
        wait_for("the look at it", lambda: shop.was(why))
        assert shop.outcome(shop.redeliver(shop.dev)) == ("skipped", why)
        assert shop.standing() == standing
        shop.change("unarchive")
        if silent:
            shop.resync()
        shop.deployed(staging=shop.main, dev=shop.dev)
    return shop


@case
def default_branch(here: Installation, directory: Path, _zones: Path) -> Shop:
    shop = Shop(here, directory, "default/shop").begin()
    commits = {"main": shop.main, "dev": shop.dev}
    for now, former, silent in (("dev", "main", False), ("main", "dev", True)):
        shop.hook(active=not silent)
        shop.change("default_branch", now)
        if silent:
            shop.resync()
        shop.deployed(staging=commits[now], **{former: commits[former]})
        shop.gone(now)
        staging = shop.environment("staging")
        assert staging["ref"] == f"refs/heads/{now}"
    return shop


@case
def deleted(here: Installation, directory: Path, _zones: Path) -> Shop:
    shop = Shop(here, directory, "deleted/told").begin(production=True)
    standing = shop.standing()
    shop.change("delete")
    shop.gone("dev")
    left = {key: each for key, each in standing.items() if each[2]["deployer:environment"] != "development"}
    assert shop.standing() == left
    assert shop.was(
        "deleted/told was deleted on GitHub; staging and production stay until a person deletes them"
    )

    unheard = Shop(here, directory, "deleted/unheard").begin()
    standing = unheard.standing()
    unheard.hook(active=False)
    unheard.change("delete")
    assert "nothing is deleted because of that" in unheard.resync()
    assert unheard.standing() == standing
    return unheard


@case
def uninstalled(here: Installation, directory: Path, _zones: Path) -> Shop:
    shop = Shop(here, directory, "uninstalled/shop").begin(production=True)
    standing, why = shop.standing(), "uninstalled/shop was taken from the GitHub App"
    for action, back in (("uninstall_owner", "install_owner"), ("uninstall", "install")):
        shop.change(action)
        wait_for("GitHub's word is known", lambda: shop.was(why))
        shop.dev = shop.push("dev")  # without a webhook
        assert shop.resync().startswith(why)
        assert shop.standing() == standing
        shop.change(back)
        shop.deployed(staging=shop.main, dev=shop.dev, production=shop.main)
        standing = shop.standing()
    shop.hook(active=False)
    shop.change("uninstall")
    assert "nothing is deleted because of that" in shop.resync()
    assert shop.standing() == standing
    shop.change("install")
    return shop


@case
def made_public(here: Installation, directory: Path, _zones: Path) -> Shop:
    shop = Shop(here, directory, "public/shop").begin()
    for times, silent in ((1, False), (2, True)):
        shop.hook(active=not silent)
        for action in ("privatize", "publicize"):
            seen = shop.resyncs()
            shop.change(action)
            if silent:
                shop.resync()
            wait_for(f"{action} was seen", lambda seen=seen: shop.resyncs() > seen)
        wait_for(
            "people are warned",
            lambda times=times: here.output().count("public/shop is public now: anyone can read") == times,
            10,
        )
    shop.deployed(staging=shop.main, dev=shop.dev)
    return shop


@case
def name_taken(here: Installation, directory: Path, _zones: Path) -> Shop:
    former = Shop(here, directory, "taken/shop").begin()
    standing = former.standing()
    assert former.resync() == "nothing to do"
    former.hook(active=False)
    former.change("rename", "elsewhere")
    shop = Shop(here, directory / "another", "taken/shop")
    assert "another repository has the name taken/shop now" in shop.resync()
    shop.copy.push(f"{shop.main}:refs/heads/main")
    shop.dev = shop.push("dev")
    (skipped,) = {shop.outcome(each["guid"]) for each in shop.deliveries() if each["event"] == "push"}
    assert skipped[0] == "skipped"
    assert "deployer repositories accept taken/shop" in skipped[1]
    assert shop.standing() == standing
    assert said(here, "repositories", "accept", shop.name).startswith("accepted; resync of taken/shop queued")
    shop.deployed(staging=shop.main, dev=shop.dev)
    assert {key: each[0] for key, each in shop.standing().items()} == {
        k: each[0] for k, each in standing.items()
    }
    return shop


# --- time -----------------------------------------------------------------------------------------------------------


@case
def aged(here: Installation, directory: Path, _zones: Path) -> Shop:
    shop = Shop(here, directory, "aged/shop").begin()
    ttl, warn = 40, 20  # a slow machine needs time between the warning and the reaction to it
    wishes = {"deploy/deployer.yml": f"ttl: {{default: never, 'short/*': {ttl}s}}\nwarn: {warn}s\n"}
    shas = {name: shop.push(name, wishes) for name in ("short/one", "short/two")}
    shop.deployed(**shas)
    one, two = (shop.environment(name)["id"] for name in shas)

    def was_told(branch: str, words: str) -> bool:
        return any(words in each for each in here.told(shas[branch], "deployer/age", shop.name))

    warning = f" UTC if it stays unused; push, or: deployer keep {shop.name} short/one"
    wait_for("it is warned of", lambda: was_told("short/one", warning))
    used = datetime.fromisoformat(here.api(f"environments/{one}/keep", "POST", {})["used_at"]).timestamp()
    wait_for("that is taken back", lambda: was_told("short/one", "is used again and stays"))
    wait_for("the other one ends", lambda: was_told("short/two", "was taken down: idle for"), 120)
    assert "ttl of deploy/deployer.yml" in shop.gone("short/two")
    here.api(f"environments/{two}/redeploy", "POST", {})
    kept = told(here, "keep", shop.name, "short/two", "--for", "2w")
    assert kept["expires_at"] == kept["kept_until"]
    shop.deployed(**{"short/two": shas["short/two"]})
    wait_for("the first one ends too", lambda: was_told("short/one", "was taken down: idle for"), 120)
    shop.gone("short/one")
    assert shop.deletions(one)[0] >= used + ttl
    assert shop.resync() == "nothing to do"
    shas["short/one"] = shop.push("short/one")
    shop.deployed(staging=shop.main, dev=shop.dev, **shas)
    return shop


@case
def asleep(here: Installation, directory: Path, zones: Path) -> Shop:
    shop = Shop(here, directory, "asleep/shop").begin()
    for night in ("one", "two", "three"):  # on a busy machine a push may be heeded when it has begun already
        begin, end = int(time.time()) + 8, int(time.time()) + 30
        write_zone(zones / "Test" / night, begin, end)
        hours = {"hours": "12:00-12:01", "timezone": f"Test/{night}"}
        shop.dev = shop.push("dev", {"deploy/deployer.yml": json.dumps({"sleep": hours})})
        shop.deployed(dev=shop.dev)
        if datetime.fromisoformat(shop.environment("dev")["used_at"]).timestamp() < begin:
            break
    reason = shop.gone("dev")
    assert f"it sleeps at 12:00-12:01 Test/{night}" in reason
    found = shop.environment("dev")
    assert found["state"] == "asleep"
    assert time.time() < end
    shop.deployed(staging=shop.main, dev=shop.dev)
    assert time.time() >= end
    return shop


# --- without webhooks --------------------------------------------------------------------------------------------


@case
def missed(here: Installation, directory: Path, _zones: Path) -> Shop:
    shop = Shop(here, directory, "missed/shop").begin()
    shop.hook(reached=False)
    commits = {name: shop.push(name) for name in ("one", "two")}
    pushed_at = shop.deliveries()[-1]["payload"]["repository"]["pushed_at"]
    shop.hook()
    wait_for("GitHub's next second", lambda: time.time() >= pushed_at + 1, 2)
    commits["two"] = shop.push("two")
    shop.deployed(two=commits["two"])
    assert shop.environment("one") == {}
    shop.older()
    found = told(here, "webhook", "check", shop.name)
    counts = {"missed": 2, "redelivered": 1, "superseded": 1, "left": 0, "recent": 0, "refused": 0}
    assert found == {"repository": shop.name, **counts}
    shop.deployed(staging=shop.main, dev=shop.dev, **commits)
    (row,) = wait_for(  # within its 3 s doctor may not come so far on a busy machine
        "doctor has looked",
        lambda: [each for each in told(here, "doctor") if each["check"] == f"deliveries of {shop.name}"],
    )
    assert row["state"] == "warn"
    assert row["told"].startswith("2 deliveries were missed: 1 redelivered, 1 superseded by a newer push, ")
    assert metric(here, 'deployer_missed_deliveries_total{result="redelivered"}') >= 1
    assert metric(here, 'deployer_missed_deliveries_total{result="superseded"}') >= 1
    return shop


@case
def orphaned(here: Installation, directory: Path, _zones: Path) -> Shop:
    shop = Shop(here, directory, "orphaned/shop").begin()
    shop.hook(active=False)
    commits = {name: shop.push(name) for name in ("back", "lost")}
    shop.resync()
    shop.deployed(**commits)
    began = time.time()
    shop.copy.push(":back", ":lost")
    assert shop.resync() == "2 to delete later"
    shop.copy.push(f"{commits['back']}:refs/heads/back")
    (orphan,) = told(here, "orphans", shop.name)
    lost = shop.environment("lost")["id"]
    assert (orphan["environment_id"], orphan["reason"]) == (lost, "lost is gone from GitHub")
    assert [each["name"] for each in orphan["stacks"]] == [lost]
    assert orphan["due"] is not None
    wait_for("the resync removes it", lambda: shop.resync() == "1 to delete", GRACE + 20)
    shop.gone("lost")
    (ordered,) = shop.deletions(lost)
    assert ordered >= began + GRACE
    assert shop.resync() == "nothing to do"
    shop.deployed(staging=shop.main, dev=shop.dev, back=commits["back"])
    return shop


@case
def tampered(here: Installation, directory: Path, _zones: Path) -> Shop:
    shop = Shop(here, directory, "tampered/shop").begin()
    name = shop.environment("dev")["id"]
    drifted = metric(here, "deployer_environments_drifted")
    stack = here.stacks()[name]
    with_keys = {k: v for k, v in here.env.items() if k.startswith("AWS_")}
    client = boto3.client(
        "cloudformation",
        endpoint_url=here.aws,
        region_name=with_keys["AWS_REGION"],
        aws_access_key_id="somebody",
        aws_secret_access_key="else",
    )
    parameters = [
        {"ParameterKey": key, "ParameterValue": "theirs" if key == "Note" else value}
        for key, value in stack["parameters"].items()
    ]
    client.update_stack(StackName=name, UsePreviousTemplate=True, Parameters=parameters)
    wait_for("it is updated", lambda: here.stacks()[name]["status"] == "UPDATE_COMPLETE")
    # a listing that began before a task wrote the record does not contain the change: the next resync sees it
    wait_for("its drift is seen", lambda: shop.resync() and shop.environment("dev")["drift"])
    assert shop.environment("dev")["drift"].startswith("its stack's parameters changed outside deployer at ")
    assert "(drift)" in said(here, "status", shop.name)
    assert metric(here, "deployer_environments_drifted") == drifted + 1
    assert here.stacks()[name]["parameters"]["Note"] == "theirs"
    here.api(f"environments/{name}/redeploy", "POST", {})
    wait_for("it is mended", lambda: not shop.environment("dev")["drift"])
    shop.deployed(staging=shop.main, dev=shop.dev)
    assert here.stacks()[name]["parameters"]["Note"] == "note"
    return shop


# --- all of it, and Redis -------------------------------------------------------------------------------------------


def test_deliveries_missed_during_a_redis_outage_are_redelivered(
    fragile: Installation, life: dict[str, Future[Shop]]
) -> None:
    shop = life["missed"].result()
    (redis,) = fragile.processes("-server ")  # its title, which replaces its command line
    os.kill(redis, signal.SIGSTOP)
    try:
        shop.dev = shop.push("dev")
        refused = [each for each in shop.deliveries() if each["payload"].get("after") == shop.dev]
    finally:
        os.kill(redis, signal.SIGKILL)  # if it went on, it would accept what the web has sent to it
    assert [each["status_code"] for each in refused] == [503]
    wait_for("Redis is back", lambda: call("GET", f"{fragile.web}/readyz").status == 200)
    shop.older()
    assert told(fragile, "webhook", "check", shop.name)["redelivered"] == 1
    shop.deployed(dev=shop.dev)


def test_a_resync_restores_everything_after_redis_lost_its_data(
    fragile: Installation, life: dict[str, Future[Shop]]
) -> None:
    shops = {name: each.result() for name, each in life.items()}
    before = {name: (shop.known(), shop.standing()) for name, shop in shops.items()}
    assert sum(len(known) for known, _ in before.values()) >= 2 * len(shops)
    everything = {name: each["id"] for name, each in fragile.stacks().items()}
    with connect(fragile.env["DEPLOYER_REDIS_URL"]) as client:
        client.flushall()
    for name, (known, standing) in before.items():
        shop = shops[name]
        if name != "deleted":  # of that one GitHub says nothing any more
            wait_for(f"{name} is known again", lambda shop=shop, known=known: shop.known() == known)
        assert shop.standing() == standing, name
    now = {name: each["id"] for name, each in fragile.stacks().items()}
    assert {name: now.get(name) for name in everything} == everything
