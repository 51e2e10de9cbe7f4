"""Which tag production is at, where the tag cannot be read, leads to no commit, or has lost its place to a person."""

from typing import Any

import pytest
from world import HELLO, TEMPLATE, World, environment, sha

from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import NoCommitError, TransientError
from deployer.model.refs import Ref
from deployer.queue.items import Cause

MAIN, V1, V2, TREE = "refs/heads/main", "refs/tags/v1", "refs/tags/v2", "refs/tags/tree"
STAGING, PRODUCTION = environment(MAIN), Environment(HELLO, Kind.PRODUCTION)
FILES = {"pipeline.yml": TEMPLATE}


@pytest.fixture
def tagged() -> World:
    """A repository whose tag v1 is production, and all of whose tags are known."""
    world = World()
    world.push(MAIN, sha(9))
    world.push(V1, sha(1), at=1000)
    world.run()
    world.resync(HELLO)
    return world


def run(world: World) -> tuple[str, str, str]:
    """Let everything come to its end, and some resyncs; what production is then."""
    world.run()
    for _ in range(3):
        world.resync(HELLO)
    record = world.record(PRODUCTION)
    assert world.built(PRODUCTION)[-1] == (record.spec.commit, "succeeded")
    assert world.told[-1] == "resynced: nothing to do"
    return record.spec.ref, record.status.outcome, record.spec.commit


def restore(world: World, record: EnvironmentRecord) -> None:
    world.redis.hset(f"deployer:{{{HELLO.key}}}:environments", record.environment, record.to_json())


def redeploy(world: World, ref: str, commit: str = "") -> None:
    world.deployer.submitter.request_environment(PRODUCTION, cause=Cause.REDEPLOY, ref=ref, sha=commit)


# --- a person ---


@pytest.mark.parametrize("commit", ["", sha(1)])
@pytest.mark.parametrize("away", [True, False])
def test_a_tag_whose_place_a_redeploy_took_was_not_missed(tagged: World, commit: str, *, away: bool) -> None:
    if away:
        tagged.host.fail_next(TransientError("GitHub answers 502"), method="head")
    overtaken = tagged.push(V2, sha(2), at=2000)
    if away:
        tagged.tasks()  # it waits to be tried again
    redeploy(tagged, V1, commit)
    assert run(tagged) == (V1, "deployed", sha(1))
    assert tagged.outcome(overtaken)[0] == "superseded"


def test_one_whose_place_a_redeploy_took_in_vain_is_deployed(tagged: World) -> None:
    tagged.push(V2, sha(2), at=2000)
    redeploy(tagged, V1, sha(77))
    assert run(tagged) == (V2, "deployed", sha(2))


def test_one_whose_place_a_deletion_took_was_not_missed(tagged: World) -> None:
    tagged.push(V2, sha(2), at=2000)
    tagged.teardown(PRODUCTION)
    tagged.run()
    redeploy(tagged, V1)
    assert run(tagged) == (V1, "deployed", sha(1))


# --- what cannot be read ---


def test_a_tag_that_is_pushed_while_the_repository_cannot_be_read_is_deployed_once_it_can(
    tagged: World,
) -> None:
    tagged.host.change(HELLO, hidden=True)
    pushed = tagged.push(V2, sha(2), at=2000)
    tagged.run()
    assert tagged.outcome(pushed)[0] == "failed"
    assert tagged.record(PRODUCTION).status.outcome == "deployed", "that is what it runs"
    tagged.host.change(HELLO, hidden=False)
    assert run(tagged) == (V2, "deployed", sha(2))


def test_so_is_the_first() -> None:
    world = World()
    world.push(MAIN, sha(9))
    world.run()
    world.resync(HELLO)
    world.host.change(HELLO, hidden=True)
    world.push(V1, sha(1), at=1000)
    world.run()
    world.host.change(HELLO, hidden=False)
    assert run(world) == (V1, "deployed", sha(1))


def test_what_runs_has_not_failed_because_a_person_asks_while_nothing_can_be_read(tagged: World) -> None:
    tagged.host.change(HELLO, hidden=True)
    tagged.redeploy(STAGING)
    tagged.run()
    assert tagged.lanes.activity()[0].outcome == "failed"
    assert (tagged.record(STAGING).status.outcome, tagged.record(STAGING).spec.commit) == ("deployed", sha(9))
    tagged.host.change(HELLO, hidden=False)
    tagged.resync(HELLO)
    assert tagged.told[-1] == "resynced: nothing to do"


# --- what leads nowhere ---


@pytest.fixture
def treed(tagged: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """One of its tags leads to a tree."""
    head = tagged.host.head

    def strict(repository: Repository, ref: Ref) -> Any:
        if ref.name == TREE:
            raise NoCommitError(f"{ref} of {repository} leads to a tree, not to a commit")
        return head(repository, ref)

    monkeypatch.setattr(tagged.host, "head", strict)
    return tagged


def test_a_tag_of_a_tree_that_nobody_told_of_hides_no_other(treed: World) -> None:
    treed.host.push(HELLO, V2, sha(2), files=FILES, at=1100)
    treed.host.push(HELLO, TREE, sha(3), files=FILES, at=1200, annotated="a" * 40)
    assert run(treed) == (V2, "deployed", sha(2))


def test_the_push_of_one_leaves_production_as_it_is(treed: World) -> None:
    treed.host.push(HELLO, TREE, sha(3), files=FILES, at=1200, annotated="a" * 40)
    pushed = treed.deliver(TREE, "a" * 40)
    assert run(treed) == (V1, "deployed", sha(1))
    reason = f"{TREE} of {HELLO} leads to a tree, not to a commit; production stays as it is"
    assert treed.outcome(pushed) == ("skipped", reason)
    assert treed.statuses(sha(1))["deployer/production"] == "success"


@pytest.mark.parametrize("lacking", [{}, {"stack_arn": ""}])
def test_what_its_own_runs_keeps_a_ledger_that_is_older_from_moving_it_backwards(
    tagged: World, lacking: dict[str, str]
) -> None:
    backup = tagged.record(PRODUCTION)
    tagged.push(V2, sha(2), at=2000)
    tagged.run()
    under_way = {"outcome": "", "state": "running", "execution": "", "reported": ""}
    restore(tagged, backup.but(**under_way, **lacking))
    tagged.host.remove(HELLO, V2)
    tagged.resync(HELLO)
    assert tagged.built(PRODUCTION)[-1] == (sha(2), "succeeded")
    assert "is not known to be older than v1" in tagged.record(PRODUCTION).status.reason


def test_what_somebody_else_s_pipeline_of_its_name_runs_says_nothing_of_production() -> None:
    world = World()
    world.cloud.add_stack(PRODUCTION.stack_name, {"team": "theirs"})
    world.cloud.pipelines[PRODUCTION.stack_name] = []
    world.cloud.start(PRODUCTION.stack_name, sha(5), "theirs")
    world.push(MAIN, sha(9))
    world.push(V1, sha(1), at=1000)
    world.run()
    world.resync(HELLO)
    world.host.push(HELLO, V2, sha(2), files=FILES, at=2000)
    for _ in range(2):
        world.resync(HELLO)
    record = world.record(PRODUCTION)
    assert (record.spec.ref, record.status.outcome) == (V2, "failed")
    assert "without deployer's tags" in record.status.reason
    assert world.told[-1] == "resynced: nothing to do"


def test_one_that_deployed_nothing_hides_no_missed_one(tagged: World) -> None:
    tagged.host.push(HELLO, V2, sha(2), files={"other/readme": ""}, at=1100)
    tagged.deliver(V2, sha(2))
    tagged.run()
    assert tagged.record(PRODUCTION).status.outcome == "skipped"
    for number in (3, 4, 5, 6):  # of so many at once GitHub tells nothing
        tagged.host.push(HELLO, f"refs/tags/v{number}", sha(number), files=FILES, at=1100 + number)
    assert run(tagged) == ("refs/tags/v6", "deployed", sha(6))
