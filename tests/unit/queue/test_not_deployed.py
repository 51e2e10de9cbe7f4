"""Every push that is not deployed leaves a line of activity that says why, whether or not it became work."""

import json
from collections.abc import Callable

import pytest

from deployer.github.webhook import parse_delivery
from deployer.model.activity import Activity
from deployer.model.environments import Environment, Kind
from deployer.model.events import Ignored, Push
from deployer.model.refs import ZERO_SHA, Ref
from tests.unit.world import HELLO, TEMPLATE, World, environment, sha

X = "refs/heads/x"
V1, V2 = "refs/tags/v1", "refs/tags/v2"
PRODUCTION = Environment(HELLO, Kind.PRODUCTION)
FILES = {"pipeline.yml": TEMPLATE}
_SKIPPED = "the head commit's message says [skip deploy]"


def push(world: World, ref: str, commit: str, message: str = "", before: str = ZERO_SHA) -> str:
    """GitHub and its webhook tell of a push with this message; it is worked off."""
    world.host.push(HELLO, ref, commit, files=FILES, message=message)
    delivery = f"{ref}-{commit[-2:]}"
    world.deployer.submitter.submit_github(
        Push(delivery, HELLO, Ref.parse(ref), before, commit, "main", message, commit=commit)
    )
    world.run()
    return delivery


def lines(world: World, ref: str) -> list[Activity]:
    """What the activity of the repository, and that of all of them, say of a ref: the newest first."""
    found = [line for line in world.lanes.activity(HELLO, 500) if line.ref == ref]
    assert [line for line in world.lanes.activity(None, 500) if line.ref == ref] == found
    return found


# --- each way for a push to come to nothing -----------------------------------------------------------------------


def _marked(world: World) -> tuple[str, str, str]:
    push(world, X, sha(1), "docs [skip ci]")
    return X, "skipped", "the head commit's message says [skip ci]"


def _marked_tag(world: World) -> tuple[str, str, str]:
    push(world, V1, sha(1), "notes [skip deploy]")
    return V1, "skipped", f"v1: {_SKIPPED}"


def _named_so(world: World) -> tuple[str, str, str]:
    push(world, "refs/heads/NOBUILD/x", sha(1))
    return "refs/heads/NOBUILD/x", "skipped", "NOBUILD/x has NOBUILD in its name"


def _left_out(world: World) -> tuple[str, str, str]:
    wishes = {"pipeline.yml": TEMPLATE, "deployer.yml": "branches: main"}
    world.push("refs/heads/gh-pages", sha(1), files=wishes)
    world.run()
    return "refs/heads/gh-pages", "skipped", "gh-pages is not among the branches of deploy/deployer.yml"


def _no_pipeline(world: World) -> tuple[str, str, str]:
    world.host.push(HELLO, "refs/heads/gh-pages", sha(1), files={})
    world.deliver("refs/heads/gh-pages", sha(1))
    world.run()
    return "refs/heads/gh-pages", "skipped", "there is no deploy/pipeline.yml"


def _unknown_deleted(world: World) -> tuple[str, str, str]:
    world.rules()
    world.deliver(X, ZERO_SHA, sha(1))
    world.run()
    return X, "deleted", ""


def _replaced(world: World) -> tuple[str, str, str]:
    world.host.push(HELLO, X, sha(2), files=FILES)
    world.deliver(X, sha(1))
    world.deliver(X, sha(2), sha(1))
    world.run()
    assert lines(world, X).pop(0).outcome == "deployed"
    return X, "superseded", "replaced by d2"


def _other_tag(world: World) -> tuple[str, str, str]:
    world.rules("tags: release-*")
    push(world, V1, sha(1))
    return V1, "skipped", "v1 is not among the tags of deploy/deployer.yml on main"


def _deleted_tag(world: World) -> tuple[str, str, str]:
    world.rules()
    world.deliver(V1, ZERO_SHA, sha(1))
    world.run()
    return V1, "skipped", "refs/tags/v1 was deleted; production stays as it is"


def _deleted_tag_behind_another(world: World) -> tuple[str, str, str]:
    world.rules()
    world.host.push(HELLO, V2, sha(2), files=FILES)
    world.deliver(V2, sha(2))
    world.deliver(V1, ZERO_SHA, sha(1))  # while the push of v2 waits
    world.run()
    return V1, "skipped", "refs/tags/v1 was deleted; production stays as it is"


def _archived(world: World) -> tuple[str, str, str]:
    world.rules()
    world.host.change(HELLO, archived=True)
    world.tell("repository archived", HELLO)
    push(world, X, sha(1))
    return X, "skipped", "acme/hello is archived"


@pytest.mark.parametrize(
    "happens",
    [
        _marked, _marked_tag, _named_so, _left_out, _no_pipeline, _unknown_deleted, _replaced, _other_tag,
        _deleted_tag, _deleted_tag_behind_another, _archived,
    ],
)  # fmt: skip
def test_what_comes_to_nothing_is_a_line_of_the_activity(
    happens: Callable[[World], tuple[str, str, str]],
) -> None:
    world = World()
    ref, outcome, reason = happens(world)
    line = next(line for line in lines(world, ref) if line.outcome == outcome)
    assert line.reason.startswith(reason)
    assert line.repository == str(HELLO)
    assert line.environment == environment(ref).key
    assert line.at > 0


# --- a skipped push ---------------------------------------------------------------------------------------------


def test_a_skipped_branch_that_never_had_an_environment_is_shown_as_skipped() -> None:
    world, place = World(), environment(X)
    delivery = push(world, X, sha(1), "docs [skip ci]")
    record = world.record(place)
    assert (record.status.state, record.status.outcome, record.spec.commit) == ("skipped", "skipped", sha(1))
    assert record.status.reason == "the head commit's message says [skip ci]"
    assert world.lanes.find(place.stack_name) == place, "its page is found"
    assert [(line.goal, line.commit) for line in lines(world, X)] == [(delivery, sha(1))]
    assert world.lanes.repositories() == [HELLO]
    assert world.deployer.resyncer.plan(HELLO) == []


def test_the_record_of_a_branch_that_never_ran_is_of_its_newest_push() -> None:
    world, place = World(), environment(X)
    push(world, X, sha(1), "docs [skip ci]")
    push(world, X, sha(2), "docs [skip deploy]", sha(1))
    record = world.record(place)
    assert (record.status.state, record.spec.commit, record.spec.held_at) == ("skipped", sha(2), sha(2))
    assert record.status.reason == "the head commit's message says [skip deploy]"
    world.push(X, sha(3), before=sha(2), files={"deployer.yml": "branches: main"})
    world.run()
    record = world.record(place)
    assert (record.status.state, record.spec.commit) == ("skipped", sha(3))
    assert "branches" in record.status.reason
    push(world, X, sha(4), "docs [skip ci]", sha(3))
    assert world.record(place).spec.commit == sha(4)
    assert world.deployer.resyncer.plan(HELLO) == []


def test_a_skipped_push_leaves_what_runs_as_it_is() -> None:
    world, place = World(), environment(X)
    world.push(X, sha(1))
    world.run()
    before = world.record(place)
    push(world, X, sha(2), "docs [skip ci]", sha(1))
    assert world.record(place) == before
    assert [(line.outcome, line.commit) for line in lines(world, X)] == [
        ("skipped", sha(2)),
        ("deployed", sha(1)),
    ]


def test_a_skipped_push_does_not_describe_a_branch_whose_first_push_waits() -> None:
    world, place = World(), environment(X)
    world.host.push(HELLO, X, sha(1), files=FILES)
    world.deliver(X, sha(1))
    world.host.push(HELLO, X, sha(2), files=FILES, message="docs [skip ci]")
    world.deployer.submitter.submit_github(
        Push("skipped", HELLO, Ref.parse(X), sha(1), sha(2), "main", "docs [skip ci]")
    )
    assert world.lanes.environment(place) is None
    world.run()
    assert (world.record(place).status.state, world.record(place).spec.commit) == ("deployed", sha(1))


def test_a_skipped_branch_is_deployed_by_its_next_push_and_gone_with_its_deletion() -> None:
    world, place = World(), environment(X)
    push(world, X, sha(1), "docs [skip ci]")
    push(world, X, sha(2), "fix", sha(1))
    assert (world.record(place).status.state, world.record(place).spec.commit) == ("deployed", sha(2))
    other = "refs/heads/y"
    push(world, other, sha(3), "docs [skip ci]")
    world.remove(other, sha(3))
    world.run()
    assert world.record(environment(other)).status.state == "deleted"


def test_a_skipped_tag_is_not_what_production_is_of() -> None:
    world = World()
    world.rules()
    push(world, V1, sha(1), "notes [skip deploy]")
    assert world.lanes.environment(PRODUCTION) is None
    world.resync(HELLO)
    assert world.lanes.environment(PRODUCTION) is None


def test_a_delivery_that_comes_twice_is_one_line() -> None:
    world = World()
    for _ in range(2):
        push(world, X, sha(1), "docs [skip ci]")
    assert len(lines(world, X)) == 1


def test_skipped_pushes_are_kept_in_bounds() -> None:
    world = World()
    for number in range(510):
        ref = Ref.parse(X)
        world.deployer.submitter.submit_github(
            Push(f"d{number}", HELLO, ref, ZERO_SHA, sha(number + 1), "main", "docs [skip ci]")
        )
    assert len(world.lanes.activity(HELLO, 1000)) == 500
    assert len(world.lanes.environments(HELLO)) == 1
    prefix = f"deployer:{{{HELLO.key}}}"
    assert all(world.redis.ttl(f"{prefix}:delivery:d{number}") > 0 for number in range(510))


def test_a_push_of_what_is_neither_a_branch_nor_a_tag_is_listed() -> None:
    world, note = World(), "refs/notes/commits"
    body = {
        "ref": note,
        "before": ZERO_SHA,
        "after": sha(1),
        "repository": {"full_name": "acme/hello", "default_branch": "main"},
    }
    headers = {"X-GitHub-Event": "push", "X-GitHub-Delivery": "n1", "Content-Type": "application/json"}
    event = parse_delivery(headers, json.dumps(body).encode())
    assert isinstance(event, Ignored)
    world.deployer.submitter.submit_github(event)
    (line,) = lines(world, note)
    assert (line.outcome, line.reason) == ("ignored", f"{note} is neither a branch nor a tag")


def test_a_repository_that_is_not_served_gets_no_line() -> None:
    world = World()
    other = HELLO.__class__.parse("stranger/repo")
    world.deployer.submitter.submit_github(
        Push("d1", other, Ref.parse(X), ZERO_SHA, sha(1), "main", "docs [skip ci]")
    )
    assert world.lanes.repositories() == []
    assert world.outcome("d1")[0] == "ignored"


# --- a tag on a commit that asks GitHub to be skipped -------------------------------------------------------------


def test_a_tag_on_a_release_commit_is_deployed_though_its_branch_is_skipped() -> None:
    """As semantic-release does it: a commit with [skip ci] on the default branch, and a tag at it."""
    world = World()
    world.rules()
    main = "refs/heads/main"
    message = "chore(release): 1.0.0 [skip ci]\n\n* a feature"
    skipped = push(world, main, sha(1), message)
    tagged = push(world, V1, sha(1), message)
    assert world.outcome(skipped)[0] == "skipped"
    assert world.outcome(tagged)[0] == "deployed"
    assert (world.record(PRODUCTION).spec.ref, world.record(PRODUCTION).spec.commit) == (V1, sha(1))
    assert world.cloud.stack(environment(main).stack_name) is None


def test_a_tag_on_a_release_commit_has_to_pass_the_gate() -> None:
    world = World()
    world.rules("tags: release-*")
    tagged = push(world, V1, sha(1), "chore(release): 1.0.0 [skip ci]")
    assert world.outcome(tagged)[0] == "skipped"
    assert world.cloud.called("create_stack") == []


# --- the commit that a line names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "why", ["a marker that a resync finds", "only other paths", "a branch that is left out"]
)
def test_the_line_of_a_skipped_push_names_its_commit_not_what_runs(why: str) -> None:
    world, wishes = World(), ""
    if why == "only other paths":
        wishes = "paths: {exclude: docs/*}"
    files = {"pipeline.yml": TEMPLATE, "deployer.yml": wishes}
    world.push(X, sha(1), files=files)
    world.run()
    if why == "a marker that a resync finds":
        world.host.push(HELLO, X, sha(2), files=files, message="docs [skip ci]")
        world.resync(HELLO)
    elif why == "only other paths":
        world.push(X, sha(2), before=sha(1), files={**files, "docs/a": "1"})
    else:
        world.push(X, sha(2), before=sha(1), files={**files, "deployer.yml": "branches: main"})
    world.run()
    (line,) = [line for line in lines(world, X) if line.outcome == "skipped"]
    assert line.commit == sha(2)
    assert world.record(environment(X)).spec.commit == sha(1)
