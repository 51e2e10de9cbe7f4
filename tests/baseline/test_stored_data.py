"""What deployer 0.1.0 has stored is read by today's code, and all work that it has queued comes to its end."""

import json
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import fakeredis
import pytest

from deployer.model.environments import Repository
from deployer.model.events import CloudEvent
from deployer.model.outcomes import Outcome
from deployer.model.refs import Ref
from deployer.queue.store import Dispatch
from deployer.redis_store.connection import connect
from tests.baseline.stored import Upgraded, stored
from tests.web.site import Site

MAIN, X, Y, V4 = "refs/heads/main", "refs/heads/x", "refs/heads/y", "refs/tags/v4"
# fields of a record that every version of deployer can tell
LASTING = {
    "repository": "repository",
    "environment": "environment",
    "stack_name": "stack_name",
    "ref": "spec.ref",
    "commit": "spec.commit",
    "state": "status.state",
    "outcome": "status.outcome",
    "reason": "status.reason",
    "region": "spec.region",
    "ttl": "spec.expiry.ttl",
}
DEPLOYED, DELETED, RESYNCED, SUPERSEDED = "deployed", "deleted", "resynced", "superseded"
# how what was queued ends, by repository and environment. acme/api and acme/storefront have lost their branches
ENDS = {
    ("asked", "*"): {RESYNCED},
    ("creating", X): {DEPLOYED},
    ("deleting", X): {DELETED},
    ("execution", X): {DEPLOYED},
    ("execution", Y): {DEPLOYED},
    ("provisioned", X): {DEPLOYED},
    ("retry", X): {DEPLOYED},
    ("running", X): {SUPERSEDED, DEPLOYED},  # of two pushes the first was replaced by the second
    ("running", Y): {DEPLOYED},
    ("sent", X): {DEPLOYED},
    ("sent", Y): {DEPLOYED},
    ("tags", "production"): {DEPLOYED},
    ("updating", X): {DEPLOYED},
    ("api", "refs/heads/dependabot/npm_and_yarn/a-rather-long-name-of-a-package-1.2.3"): {DELETED},
    ("api", "refs/heads/feature/export"): {DELETED},
    ("api", "refs/heads/feature/search"): {DELETED},
    ("api", "refs/heads/hotfix/cache"): {DELETED},
    ("storefront", "refs/heads/redesign"): {DELETED},
}


@pytest.fixture(scope="module", params=["fakeredis", "redis"])
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "fakeredis":
        yield fakeredis.FakeRedis(decode_responses=True)
        return
    made = connect(request.getfixturevalue("redis_url"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def started(client: Any) -> Upgraded:
    """Today's deployer has just been started with the recorded data; for tests that only look."""
    client.flushall()
    return Upgraded(client)


@pytest.fixture(scope="module")
def ended(client: Any) -> Upgraded:
    """The same after workers have carried out all that was queued; for tests that only look."""
    client.flushall()
    made = Upgraded(client)
    carry_out_all(made)
    return made


@pytest.fixture
def world() -> Upgraded:
    """As `started`, for tests that change something."""
    return Upgraded(fakeredis.FakeRedis(decode_responses=True))


def values(suffix: str) -> dict[str, Any]:
    """The recorded values of every repository's key of a name, by the repository's name."""
    keys = {key: each["value"] for key, each in stored()["keys"].items() if key.endswith(f"}}:{suffix}")}
    return {key[key.index("{") + 1 : key.index("}")]: value for key, value in keys.items()}


def deliveries() -> dict[str, dict[str, str]]:
    """Every recorded delivery, of the repository to which its id leads."""
    keys = stored()["keys"]
    pointers = {key.partition(":delivery-of:")[2]: each["value"] for key, each in keys.items()}
    return {
        identity: keys[f"deployer:{{{repository.lower()}}}:delivery:{identity}"]["value"]
        for identity, repository in pointers.items()
        if identity
    }


def recorded(repository: str, environment: str) -> dict[str, Any]:
    """The record of an environment as 0.1.0 has stored it."""
    found: dict[str, Any] = json.loads(values("environments")[repository][environment])
    return found


def pending() -> list[str]:
    return [identity for identity, each in deliveries().items() if each["outcome"] == "queued"]


def carry_out_all(world: Upgraded) -> None:
    """A sweeper finds all that was under way, and workers carry it out."""
    world.sent += world.lanes.sweep()
    world.run(300)


# --- what is listed ---


def test_every_record_is_listed(started: Upgraded, caplog: pytest.LogCaptureFixture) -> None:
    expected = {
        (repository, key): json.loads(text)
        for repository, hash_ in values("environments").items()
        for key, text in hash_.items()
    }
    found = {(each.repository.lower(), each.environment): each for each in started.lanes.environments()}
    assert found.keys() == expected.keys()
    assert len(found) > 50
    for key, record in expected.items():
        assert {name: attrgetter(place)(found[key]) for name, place in LASTING.items()} == {
            name: record[name] for name in LASTING
        }
    asleep = found["acme/ages", f"development:{X}"]
    assert (asleep.status.state, asleep.spec.expiry.sleep) == ("asleep", "00:00-23:59 UTC")
    kept = {
        (each.repository.lower(), each.environment): each.spec.expiry.kept_until
        for each in found.values()
        if each.spec.expiry.kept_until
    }
    assert kept == {
        (repository, key): float(text.split()[1])
        for repository, each in values("kept").items()
        for key, text in each.items()
    }
    assert "is left out" not in caplog.text  # as the log says of what cannot be read


def test_every_name_leads_to_its_environment(started: Upgraded) -> None:
    names = stored()["keys"]["deployer:names"]["value"]
    for name, text in names.items():
        repository, _, key = text.partition("\n")
        found = started.lanes.find(name)
        assert found is not None
        assert (str(found.repository), found.key) == (repository, key)


def test_every_repository_is_listed(started: Upgraded, caplog: pytest.LogCaptureFixture) -> None:
    expected = {key: json.loads(text) for key, text in values("repository").items()}
    found = {each.repository.lower(): each for each in started.lanes.repository_records()}
    assert found.keys() == expected.keys()
    for key, record in expected.items():
        for name in (
            "id",
            "state",
            "reason",
            "since",
            "name",
            "over",
            "default_branch",
            "missed",
            "unchecked",
        ):
            assert getattr(found[key], name) == record[name], (key, name)
    assert {each.state for each in found.values()} == {
        "", "archived", "renamed", "replaced", "deleted", "removed",
    }  # fmt: skip
    for key, text in values("seen").items():
        seen, record = started.lanes.read_seen(Repository.parse(key)), json.loads(text)
        assert (seen.orphans, seen.accepted_at) == (record["orphans"], record["accepted_at"])
    assert "is left out" not in caplog.text


def test_every_delivery_and_line_of_activity_is_listed(
    started: Upgraded, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(deliveries()) > 80
    for identity, record in deliveries().items():
        found = started.lanes.delivery(identity)
        assert found is not None, identity
        assert (found.outcome, found.reason) == (record["outcome"], record.get("reason", ""))
        assert found.received_at == float(record["received_at"])
    lines = [json.loads(line) for each in values("activity").values() for line in each]
    found_lines = {
        (each.at, each.goal, each.outcome, each.reason) for each in started.lanes.activity(limit=9999)
    }
    assert found_lines == {(each["at"], each["goal"], each["outcome"], each["reason"]) for each in lines}
    assert "is left out" not in caplog.text


def test_every_dead_letter_is_listed(started: Upgraded) -> None:
    expected = {name: json.loads(text) for each in values("dead").values() for name, text in each.items()}
    found = {each.id: each for each in started.lanes.dead_letters()}
    assert found.keys() == expected.keys()
    for name, letter in expected.items():
        for field in ("repository", "task", "reason", "traceback", "at", "kind"):
            assert getattr(found[name], field) == letter[field]
        assert found[name].is_readable
        assert found[name].arguments.environment == json.loads(letter["work"])["environment"]
    assert {each.kind for each in found.values()} == {"KeyError", "TransientError", "WorkerLost"}


def test_every_queue_item_is_listed(started: Upgraded) -> None:
    states = values("state")
    shown = {each.repository.lower(): each for each in started.lanes.lanes()}
    held = values("items")
    assert shown.keys() == held.keys()
    for key, lane in shown.items():
        assert not lane.broken
        assert not lane.refused
        assert (lane.status, lane.task) == (states[key]["status"], states[key]["task"])
        waiting = [each.environment for each in lane.waiting]
        assert sorted([*waiting, *lane.snoozed]) == sorted(held[key])
    assert {each.status for each in shown.values()} == {"idle", "sent", "running"}
    assert shown["acme/retry"].failing
    assert values("later"), "the data has work that a resync wants"


def test_every_page_shows_it(started: Upgraded) -> None:
    site = Site(client=started.redis)
    paths = ["/", "/repositories", "/metrics"]
    for path in [
        *paths,
        *(f"/api/v1/{each}" for each in ("environments", "repositories", "lanes", "dead-letters")),
    ]:
        assert site.client.get(path).status_code == 200, path
    for record in started.lanes.environments():
        for path in (f"/environments/{record.stack_name}", f"/api/v1/environments/{record.stack_name}"):
            assert site.client.get(path).status_code == 200, path
    for letter in started.lanes.dead_letters():
        for path in (f"/dead-letters/{letter.id}", f"/api/v1/dead-letters/{letter.id}"):
            assert site.client.get(path).status_code == 200, path


# --- what is carried out ---


def test_all_work_comes_to_its_end(ended: Upgraded) -> None:
    waiting = pending()
    assert len(waiting) > 20
    ends: dict[tuple[str, str], set[str]] = {}
    for identity in waiting:
        found = ended.lanes.delivery(identity)
        assert found is not None
        assert found.outcome in set(Outcome), (identity, found)
        assert found.finished_at
        where = found.repository.partition("/")[2], found.environment.removeprefix("development:")
        ends.setdefault(where, set()).add(found.outcome)
    assert ends == ENDS
    letters = {name for each in values("dead").values() for name in each}
    assert {each.id for each in ended.lanes.dead_letters()} == letters


@pytest.mark.parametrize("ref", [X, Y])
def test_an_execution_under_way_is_followed(ended: Upgraded, ref: str) -> None:
    key = f"development:{ref}"
    before, after = recorded("acme/execution", key), ended.of_key("acme/execution", key)
    assert before["state"] == "running"
    assert (after.status.state, after.status.outcome, after.status.pipeline.execution) == (
        "deployed",
        "deployed",
        before["execution"],
    )
    assert after.stack_name == before["stack_name"]
    assert [each.status for each in after.status.pipeline.stages] == ["succeeded"] * 3
    executions = [each["id"] for each in stored()["pipelines"][after.stack_name]]
    assert [each.id for each in ended.cloud.pipelines[after.stack_name]] == executions


def test_a_teardown_under_way_goes_on(ended: Upgraded) -> None:
    key = f"development:{X}"
    before, after = recorded("acme/deleting", key), ended.of_key("acme/deleting", key)
    assert before["state"] == "deleting"
    assert (after.status.state, after.status.outcome) == ("deleted", "deleted")
    names = {before["stack_name"], f"{before['stack_name']}-app"}
    assert names <= {each["name"] for each in stored()["stacks"]}
    assert not names & {each.name for each in ended.cloud.stacks()}
    assert {f"stack {each}" for each in names} <= {each.what for each in after.status.receipt.removed}


def test_a_stack_under_way_is_made_once(ended: Upgraded) -> None:
    """What 0.1.0 has ordered is known as its own doing."""
    key = f"development:{X}"
    before, after = recorded("acme/creating", key), ended.of_key("acme/creating", key)
    assert before["state"] == "provisioning"
    assert (after.status.state, after.status.stack.stack_arn) == ("deployed", before["stack_arn"])
    assert after.stack_name not in {call[0] for call in ended.cloud.called("create_stack")}


def test_the_newest_tag_is_deployed(ended: Upgraded) -> None:
    newest = ended.host.refs(Repository.parse("acme/tags"))[Ref.parse(V4)]
    record = ended.of_key("acme/tags", "production")
    assert (record.spec.ref, record.spec.commit, record.status.outcome) == (V4, newest, "deployed")


def test_a_commit_that_a_person_chose_is_deployed(ended: Upgraded) -> None:
    work = json.loads(values("items")["acme/tags"]["staging"])
    assert (work["cause"], work["chosen"]) == ("redeploy", True)
    staging = ended.of_key("acme/tags", "staging")
    assert (staging.status.outcome, staging.spec.commit) == ("deployed", work["sha"])


def test_the_messages_of_the_former_version_are_still_right(world: Upgraded) -> None:
    """Messages that were on their way before the upgrade reach a worker afterwards, and no sweeper is needed."""
    for repository, state in values("state").items():
        if state["status"] == "sent":
            world.sent.append(Dispatch(repository, state["env"], state["task"], int(state["token"])))
    assert len(world.sent) >= 5
    world.tasks()
    assert not [each for each in world.told if each.startswith(("stale", "lost", "refused"))]
    assert not [each for each in world.lanes.lanes() if each.status == "sent"]


def test_an_event_ends_the_wait_of_what_was_queued(world: Upgraded) -> None:
    name = recorded("acme/execution", f"development:{X}")["stack_name"]
    world.deployer.submitter.submit_aws(CloudEvent("e-new", name, "stage Build: SUCCEEDED"))
    [lane] = world.lanes.lanes(Repository.parse("acme/execution"))
    assert (lane.status, [each.environment for each in lane.waiting]) == ("sent", [f"development:{X}"])
    carry_out_all(world)
    assert world.outcome("e-new")[0] == "deployed"


def test_dead_letters_can_be_replayed(world: Upgraded) -> None:
    letters, goals = Repository.parse("acme/letters"), {}
    for letter in world.lanes.dead_letters(letters):
        goals[world.deployer.submitter.replay(letter.id).goal] = letter.arguments
    carry_out_all(world)
    assert not world.lanes.dead_letters(letters)
    ends = {each.goal: each.outcome for each in world.lanes.activity(letters, 500)}
    assert {goal: ends[goal] for goal in goals} == dict.fromkeys(goals, "deployed")
    for work in goals.values():
        for identity in filter(None, work.deliveries.split(",")):
            assert world.outcome(identity)[0] == "deployed"


# --- what goes on as before ---


def test_a_resync_finds_nothing_to_do(world: Upgraded) -> None:
    """What 0.1.0 has deployed is what today's code would deploy: no stack and no execution is made anew."""
    carry_out_all(world)
    stacks = {each.name: each.status for each in world.cloud.stacks()}
    executions = {name: [each.id for each in found] for name, found in world.cloud.pipelines.items()}
    for name in ("quiet", "ages", "deleting", "execution", "tags", "updating", "later", "running"):
        world.deployer.submitter.resync(Repository("acme", name))
    world.run(300)
    assert {each.name: each.status for each in world.cloud.stacks()} == stacks
    assert {name: [each.id for each in found] for name, found in world.cloud.pipelines.items()} == executions


def test_a_push_updates_the_stack_that_0_1_0_made(world: Upgraded) -> None:
    carry_out_all(world)
    before = world.of_key("acme/quiet", "staging")
    repository, commit = Repository.parse("acme/quiet"), f"{777:040x}"
    head = world.host.refs(repository)[Ref.parse(MAIN)]
    template = world.host.files(repository, head, "deploy")["pipeline.yml"].decode()
    files = {"pipeline.yml": template.replace("Default: hi", "Default: ho")}
    world.host.push(repository, MAIN, commit, files=files)
    world.deliver_to(repository, MAIN, commit, head)
    world.run()
    after = world.of_key("acme/quiet", "staging")
    assert (after.status.outcome, after.spec.commit, after.status.stack.stack_arn) == (
        "deployed",
        commit,
        before.status.stack.stack_arn,
    )
    assert after.stack_name == before.stack_name


def test_a_delivery_that_came_before_is_a_duplicate(world: Upgraded) -> None:
    again = world.deliver_to(Repository.parse("acme/quiet"), X, f"{9:040x}", f"{2:040x}", delivery="d-same")
    assert again == "duplicate"
