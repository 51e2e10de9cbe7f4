"""What happens to environments when their repository is renamed, deleted, archived, replaced or out of reach."""

import time
from typing import Any

import pytest
from world import HELLO, TEMPLATE, World, environment, sha

from deployer.environment.code_host import RepositoryFacts
from deployer.environment.repository_state import judge_repository
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import TransientError
from deployer.model.events import Push, RepositoryChange
from deployer.model.refs import ZERO_SHA, Ref
from deployer.model.repository_record import RepositoryRecord
from deployer.queue.items import Cause, Work
from deployer.views.sentences import repository_warnings
from workers.scheduler import Scheduler

BRANCH, MAIN, TAG = "refs/heads/x", "refs/heads/main", "refs/tags/v1"
SHOP = Repository("acme", "shop")
DEV, STAGING, PRODUCTION = environment(BRANCH), environment(MAIN), Environment(HELLO, Kind.PRODUCTION)


@pytest.fixture
def world() -> World:
    """A repository with an environment of each kind."""
    made = World()
    for number, ref in enumerate((BRANCH, MAIN, TAG), start=1):
        made.push(ref, sha(number))
    made.run()
    made.resync(HELLO)
    assert made.standing(HELLO) == {DEV, STAGING, PRODUCTION}
    return made


def of(repository: Repository, each: Environment) -> Environment:
    return Environment(repository, each.kind, each.branch)


# --- renamed and transferred ---


@pytest.mark.parametrize("told", ["both", "only the former", "nothing"])
def test_a_renamed_repository_gets_new_environments_and_loses_only_the_former_development(
    world: World, told: str
) -> None:
    world.host.rename(HELLO, SHOP)
    if told == "nothing":
        world.resync(HELLO)
    else:
        names = (SHOP, HELLO) if told == "both" else (HELLO,)
        delivery = world.tell("repository renamed", *names)
        assert world.outcome(delivery)[0] == "resynced"

    assert world.standing(HELLO) == {STAGING, PRODUCTION}
    assert world.standing(SHOP) == {of(SHOP, DEV), of(SHOP, STAGING)}  # a production is made by a tag
    record = world.known(HELLO)
    assert (record.state, record.name) == ("renamed", "acme/shop")
    assert "deployer delete --environment" in record.reason


def test_a_repeated_or_late_event_of_a_rename_changes_nothing(world: World) -> None:
    world.host.rename(HELLO, SHOP)
    world.tell("repository renamed", SHOP, HELLO)
    standing, ran = world.standing(HELLO) | world.standing(SHOP), world.built(of(SHOP, DEV))
    world.tell("repository renamed", SHOP, HELLO)
    world.resync(HELLO)
    world.deliver(BRANCH, sha(1))  # from before the renaming
    world.run()

    assert world.standing(HELLO) | world.standing(SHOP) == standing
    assert world.built(of(SHOP, DEV)) == ran


def test_after_a_rename_back_the_environments_are_as_before(world: World) -> None:
    world.host.rename(HELLO, SHOP)
    world.tell("repository renamed", SHOP, HELLO)
    world.host.rename(SHOP, HELLO)
    world.tell("repository renamed", HELLO, SHOP)

    assert world.standing(HELLO) == {DEV, STAGING, PRODUCTION}
    assert world.standing(SHOP) == {of(SHOP, STAGING)}
    assert (world.known(HELLO).state, world.known(SHOP).state) == ("", "renamed")


@pytest.mark.parametrize("why", ["a person chose its commit", "its head asks to be skipped"])
def test_after_a_rename_back_a_pinned_environment_is_created_again_at_its_commit(
    world: World, why: str
) -> None:
    skips = " [skip ci]" if why.startswith("its head") else ""
    world.push(BRANCH, sha(5), sha(1), message=f"A word{skips}")
    world.run()
    if not skips:
        world.deployer.submitter.request_environment(DEV, cause=Cause.REDEPLOY, sha=sha(1))
        world.run()
    world.host.rename(HELLO, SHOP)
    world.tell("repository renamed", SHOP, HELLO)
    assert DEV not in world.standing(HELLO)
    world.host.rename(SHOP, HELLO)
    world.tell("repository renamed", HELLO, SHOP)

    assert world.standing(HELLO) == {DEV, STAGING, PRODUCTION}
    assert (world.record(DEV).spec.commit, world.record(DEV).spec.held_at) == (sha(1), sha(5))
    assert world.built(DEV)[-1] == (sha(1), "succeeded")
    world.resync(HELLO)
    assert world.told[-1] == "resynced: nothing to do"


@pytest.mark.parametrize("steps", range(4))
def test_after_a_rename_back_an_environment_whose_teardown_began_is_created_again(
    world: World, steps: int
) -> None:
    world.host.rename(HELLO, SHOP)
    world.deployer.submitter.resync(HELLO)
    world.tasks()
    for _ in range(steps):
        world.step()
        world.tasks()
    world.host.rename(SHOP, HELLO)
    world.resync(HELLO)

    assert world.standing(HELLO) == {DEV, STAGING, PRODUCTION}
    assert world.record(DEV).status.outcome == "deployed"
    assert world.deployer.resyncer.plan(HELLO) == []


def test_a_rename_to_a_name_that_is_not_served_changes_nothing(world: World) -> None:
    world.host.rename(HELLO, Repository("elsewhere", "hello"))
    delivery = world.tell("repository transferred", Repository("elsewhere", "hello"), HELLO)

    assert world.standing(HELLO) == {DEV, STAGING, PRODUCTION}
    outcome, reason = world.outcome(delivery)
    assert outcome == "failed"
    assert "DEPLOYER_REPOSITORIES" in reason


@pytest.mark.parametrize("word", ["deleted", "removed"])
def test_a_new_name_that_was_out_of_reach_before_is_resynced(world: World, word: str) -> None:
    world.host.push(SHOP, MAIN, sha(9), files={"pipeline.yml": TEMPLATE})
    world.resync(SHOP)
    world.host.delete(SHOP)
    world.tell(f"repository {word}", SHOP, word=word)
    assert world.known(SHOP).state == word
    world.host.rename(HELLO, SHOP)
    world.resync(HELLO)

    assert world.known(SHOP).state == "replaced"
    world.deployer.lifecycle.accept(SHOP)
    world.resync(SHOP)
    assert world.standing(SHOP) == {of(SHOP, DEV), of(SHOP, STAGING)}


def test_a_former_name_stays_renamed_when_the_new_name_is_deleted(world: World) -> None:
    world.host.rename(HELLO, SHOP)
    world.tell("repository renamed", SHOP, HELLO)
    for each in (HELLO, SHOP):  # the former name leads nowhere, either
        world.host.delete(each)
    world.tell("repository deleted", SHOP, word="deleted")
    for each in (STAGING, PRODUCTION):
        world.teardown(each)
        world.run()

    assert (world.known(HELLO).state, world.known(HELLO).over) == ("renamed", True)
    asked = len(world.host.called("facts"))
    world.resync(HELLO)
    assert world.told[-1] == f"resynced: {world.known(HELLO).reason}"
    assert [name for name, _ in world.host.called("facts")[asked:]] == [HELLO]


def another_takes_its_name(world: World) -> None:
    """It has the same default branch, and none of the other branches."""
    world.host.rename(HELLO, Repository("elsewhere", "hello"))
    world.host.push(HELLO, MAIN, sha(8), files={"pipeline.yml": TEMPLATE})


def test_a_push_of_another_repository_is_recognized_by_its_id(world: World) -> None:
    world.resync(HELLO)
    another_takes_its_name(world)
    other = world.host.facts(HELLO)
    assert other is not None
    world.host.push(HELLO, BRANCH, sha(7), files={"pipeline.yml": TEMPLATE})
    event = Push("p1", HELLO, Ref.parse(BRANCH), sha(1), sha(7), "main", repository_id=other.id)
    world.deployer.submitter.submit_github(event)
    world.run()

    assert world.outcome("p1")[0] == "skipped"
    assert "repositories accept" in world.outcome("p1")[1]
    assert world.record(DEV).spec.commit == sha(1)
    assert world.known(HELLO).state == "replaced"


@pytest.mark.parametrize("known", [True, False])
def test_environments_are_kept_although_another_repository_of_the_name_lacks_their_branch(
    world: World, *, known: bool
) -> None:
    world.resync(HELLO)
    another_takes_its_name(world)
    if known:
        world.resync(HELLO)
    world.deliver(BRANCH, ZERO_SHA, sha(1))
    for cause in (Cause.RESYNC, Cause.AGE):
        world.run()
        world.lanes.accept(HELLO, Work(environment=DEV.key, cause=cause))
    world.run()

    assert world.standing(HELLO) == {DEV, STAGING, PRODUCTION}
    assert world.known(HELLO).state == "replaced"


@pytest.mark.parametrize("night", [True, False])
def test_a_waking_environment_deploys_nothing_of_another_repository(world: World, *, night: bool) -> None:
    at = world.record(DEV).updated_at - 90_000
    begin, end = (time.strftime("%H:%M", time.gmtime(world._now() + later)) for later in (7200, 7260))
    asleep = {"state": "asleep", "aged": "night", "outcome": "deleted", "sleep": f"{begin}-{end}"}
    world.lanes_note(DEV, used_at=at, aged_at=at, ttl="1d", **(asleep if night else {}))
    before = world.built(DEV)
    world.host.delete(HELLO)
    for number, ref in enumerate((MAIN, BRANCH), start=7):
        world.host.push(HELLO, ref, sha(number), files={"pipeline.yml": TEMPLATE})
    world.deployer.submitter.queue_expiry_checks(world._now() + 3600)
    assert world.sent
    world.run()

    assert world.built(DEV) == before
    assert world.known(HELLO).state == "replaced"


def test_a_ref_is_read_again_if_two_answers_of_github_differ(world: World) -> None:
    head, answers = world.host.head, [None, None]

    def lagging(repository: Repository, ref: Ref) -> Any:
        return answers.pop() if answers and ref.name == BRANCH else head(repository, ref)

    world.host.head = lagging
    world.lanes.accept(HELLO, Work(environment=DEV.key, cause=Cause.RESYNC))
    world.run()
    assert not answers
    assert world.standing(HELLO) == {DEV, STAGING, PRODUCTION}


def test_repositories_that_were_renamed_share_a_listing(world: World) -> None:
    world.host.rename(HELLO, SHOP)
    world.resync(HELLO)
    count = len(world.cloud.called("stacks"))
    for _ in range(5):
        world.deployer.submitter.resync(HELLO, world.lanes.now() - 900, in_turn=True)
        world.run()
    assert len(world.cloud.called("stacks")) == count


def test_another_repository_with_a_former_name_gets_nothing_until_a_person_accepts_it(world: World) -> None:
    world.host.rename(HELLO, SHOP)
    world.resync(HELLO)
    world.push(BRANCH, sha(7))  # makes another acme/hello
    world.push(MAIN, sha(8))
    world.run()

    assert world.known(HELLO).state == "replaced"
    assert world.standing(HELLO) == {STAGING, PRODUCTION}
    assert world.record(STAGING).spec.commit == sha(2)

    world.deployer.lifecycle.accept(HELLO)
    world.resync(HELLO)
    assert world.known(HELLO).state == ""
    assert world.record(STAGING).spec.commit == sha(8)


def test_the_existing_tags_of_an_accepted_repository_do_not_count_as_missed() -> None:
    world = World()
    world.rules()
    world.host.push(HELLO, TAG, sha(1), files={"pipeline.yml": TEMPLATE}, at=1000)
    push = Push("v1", HELLO, Ref.parse(TAG), ZERO_SHA, sha(1), "main", pushed_at=1000)
    world.deployer.submitter.submit_github(push)
    world.run()
    world.resync(HELLO)
    world.host.delete(HELLO)
    world.rules()
    for number, tag in enumerate((TAG, "refs/tags/v2"), start=2):
        world.host.push(HELLO, tag, sha(number), files={"pipeline.yml": TEMPLATE}, at=1000 * number)
    world.resync(HELLO)
    assert world.known(HELLO).state == "replaced"
    world.deployer.lifecycle.accept(HELLO)
    for _ in range(2):
        world.resync(HELLO)
    assert (world.record(PRODUCTION).spec.ref, world.record(PRODUCTION).spec.commit) == (TAG, sha(1))

    later = int(world.lanes.now()) + 10  # than the acceptance
    world.host.push(HELLO, "refs/tags/v3", sha(4), files={"pipeline.yml": TEMPLATE}, at=later)
    world.resync(HELLO)
    assert world.record(PRODUCTION).spec.commit == sha(4)


# --- archived, private, public ---


def test_an_archived_repository_keeps_its_environments_and_deploys_nothing_new(world: World) -> None:
    world.host.change(HELLO, archived=True)
    world.tell("repository archived", HELLO)
    late = world.push(BRANCH, sha(9))
    world.run()

    assert world.standing(HELLO) == {DEV, STAGING, PRODUCTION}
    assert world.record(DEV).spec.commit == sha(1)
    assert world.outcome(late)[0] == "skipped"
    assert "archived" in world.outcome(late)[1]

    world.host.change(HELLO, archived=False)
    world.tell("repository unarchived", HELLO)
    assert world.record(DEV).spec.commit == sha(9)


def test_a_repository_archived_during_a_creation_of_production_still_runs_the_tags_commit() -> None:
    world = World()
    world.push(MAIN, sha(2))
    tag = world.push(TAG, sha(3))
    world.tasks()  # its creation is ordered; AWS itself will build the head of main
    world.host.change(HELLO, archived=True)
    world.tell("repository archived", HELLO)
    world.run()

    assert world.outcome(tag)[0] == "deployed"
    assert world.built(PRODUCTION)[-1] == (sha(3), "succeeded")
    assert world.record(PRODUCTION).spec.commit == sha(3)


@pytest.mark.parametrize("before", ["none", "deleted", "skipped"])
@pytest.mark.parametrize("end", ["unarchived", "resync"])
def test_a_first_tag_that_is_refused_is_deployed_once_it_is_allowed(before: str, end: str) -> None:
    world = World()
    world.push(MAIN, sha(2))
    world.run()
    if before == "deleted":
        world.push(TAG, sha(2))
        world.run()
        world.deployer.submitter.request_environment(PRODUCTION, cause=Cause.TEARDOWN, yes_really=True)
        world.run()
    elif before == "skipped":
        world.push(TAG, sha(2))
        world.rules("tags: ['!*']")
        world.run()
        world.rules()
    world.resync(HELLO)
    world.host.change(HELLO, archived=True)
    world.tell("repository archived", HELLO)
    now = int(world.lanes.now()) + 10
    tags = [world.push(f"refs/tags/v2.{n}", sha(3 + n), at=now + n, pushed_at=now + n) for n in range(2)]
    world.run()
    world.resync(HELLO)
    assert [world.outcome(each)[0] for each in tags] == ["skipped", "skipped"]
    assert PRODUCTION not in world.standing(HELLO)
    assert "archived" in world.record(PRODUCTION).status.reason

    world.host.change(HELLO, archived=False)
    if end == "resync":
        world.resync(HELLO)
    else:
        world.tell("repository unarchived", HELLO)
    assert world.built(PRODUCTION)[-1] == (sha(4), "succeeded")
    found = world.record(PRODUCTION)
    assert (found.spec.ref, found.status.state, found.spec.commit) == ("refs/tags/v2.1", "deployed", sha(4))
    world.resync(HELLO)
    assert world.told[-1] == "resynced: nothing to do"


@pytest.mark.parametrize("ran", [True, False])
def test_a_first_tag_refused_after_redis_was_lost_is_deployed_once_it_is_allowed(
    world: World, *, ran: bool
) -> None:
    if not ran:
        world.cloud.pipelines[PRODUCTION.stack_name].clear()
    world.host.change(HELLO, archived=True)
    world.forget()
    world.push("refs/tags/v2", sha(4), at=int(world.lanes.now()) + 10)
    world.run()
    world.host.change(HELLO, archived=False)
    for _ in range(2):
        world.resync(HELLO)
    assert (world.record(PRODUCTION).spec.ref, world.record(PRODUCTION).spec.commit) == (
        "refs/tags/v2",
        sha(4),
    )
    assert world.built(PRODUCTION)[-1] == (sha(4), "succeeded")
    world.resync(HELLO)
    assert world.told[-1] == "resynced: nothing to do"


def test_a_first_tag_of_another_repository_is_not_kept() -> None:
    world = World()
    world.push(MAIN, sha(2))
    world.run()
    world.resync(HELLO)
    another_takes_its_name(world)
    world.resync(HELLO)
    refused = world.push(TAG, sha(4))
    world.run()
    assert "repositories accept" in world.outcome(refused)[1]
    assert world.lanes.environment(PRODUCTION) is None


def test_a_push_ends_a_state_whose_end_no_event_reported(world: World) -> None:
    world.host.change(HELLO, archived=True)
    world.resync(HELLO)
    world.host.change(HELLO, archived=False)
    world.push(BRANCH, sha(9))
    world.run()

    assert (world.known(HELLO).state, world.record(DEV).spec.commit) == ("", sha(9))


def test_a_repository_made_public_is_warned_of_and_still_deployed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.host.change(HELLO, private=True)
    world.resync(HELLO)
    world.host.change(HELLO, private=False)
    world.tell("public", HELLO)

    assert "acme/hello is public now" in caplog.text
    assert world.standing(HELLO) == {DEV, STAGING, PRODUCTION}


def test_a_repository_made_private_is_deployed_once_it_can_be_read(world: World) -> None:
    world.host.change(HELLO, private=True, hidden=True)  # and the token has no right to it
    told = world.tell("repository privatized", HELLO)
    assert world.outcome(told)[0] == "failed"
    assert "no access; nothing is deleted because of that" in world.outcome(told)[1]
    assert world.standing(HELLO) == {DEV, STAGING, PRODUCTION}

    world.host.change(HELLO, hidden=False)
    world.push(BRANCH, sha(9))
    world.run()
    world.resync(HELLO)
    assert world.record(DEV).spec.commit == sha(9)
    assert world.standing(HELLO) == {DEV, STAGING, PRODUCTION}


# --- deleted, taken from the App, not to be seen ---


def test_a_deleted_repository_loses_its_development(world: World) -> None:
    world.host.delete(HELLO)
    world.tell("repository deleted", HELLO, word="deleted")

    assert world.standing(HELLO) == {STAGING, PRODUCTION}
    assert world.known(HELLO).state == "deleted"


@pytest.mark.parametrize("words", [("deleted", "removed"), ("removed", "deleted")])
@pytest.mark.parametrize("together", [True, False])
def test_deleted_has_priority_over_removed_which_github_reports_too(
    world: World, words: tuple[str, ...], *, together: bool
) -> None:
    world.host.delete(HELLO)
    for word in words:
        world.deployer.submitter.submit_github(
            RepositoryChange(word, f"repository {word}", (HELLO,), word=word)
        )
        if not together:
            world.run()
    world.run()

    assert world.standing(HELLO) == {STAGING, PRODUCTION}
    assert world.known(HELLO).state == "deleted"


def test_a_staging_that_was_never_created_is_not_left_to_people() -> None:
    world = World()
    world.push(MAIN, sha(1), template="Resources: [")
    world.run()
    assert (world.record(STAGING).status.state, world.standing(HELLO)) == ("failed", set())
    world.host.rename(HELLO, SHOP)
    world.resync(HELLO)
    assert (world.known(HELLO).state, world.known(HELLO).over) == ("renamed", True)


@pytest.mark.parametrize("state", ["deleted", "renamed"])
def test_environments_left_to_people_are_reported_until_deleted(world: World, state: str) -> None:
    if state == "deleted":
        world.host.delete(HELLO)
        world.tell("repository deleted", HELLO, word="deleted")
    else:
        world.host.rename(HELLO, SHOP)
        world.tell("repository renamed", SHOP, HELLO)
    for environment_ in (STAGING, PRODUCTION):
        assert "deployer delete --environment" in world.known(HELLO).reason
        assert f"acme/hello {state}" in repository_warnings(world.lanes.repository_records())[0]
        world.deployer.submitter.request_environment(environment_, cause=Cause.TEARDOWN, yes_really=True)
        world.run()
    assert (world.standing(HELLO), world.known(HELLO).state) == (set(), state)
    assert "nothing of" in world.known(HELLO).reason
    assert repository_warnings(world.lanes.repository_records()) == []
    world.resync(HELLO)
    assert "nothing of" in world.known(HELLO).reason
    if state == "renamed":
        world.host.rename(SHOP, HELLO)
        world.tell("repository renamed", HELLO, SHOP)
        assert (world.known(HELLO).state, world.known(HELLO).over) == ("", False)


@pytest.mark.parametrize("others", [True, False])
def test_development_that_could_not_be_deleted_is_reported_until_deleted(*, others: bool) -> None:
    world = World()
    for number, ref in enumerate((MAIN, TAG, BRANCH, "refs/heads/y") if others else (BRANCH, "refs/heads/y")):
        world.push(ref, sha(number + 1))
    world.run()
    world.cloud._live[DEV.stack_name].protected = True
    world.host.delete(HELLO)
    world.tell("repository deleted", HELLO, word="deleted")
    for each in world.standing(HELLO) - {DEV}:
        world.teardown(each)
        world.run()
    assert world.standing(HELLO) == {DEV}
    assert (world.known(HELLO).state, world.known(HELLO).over) == ("deleted", False)
    world.resync(HELLO)
    assert not world.known(HELLO).over

    world.cloud._live[DEV.stack_name].protected = False
    world.teardown(DEV)
    world.run()
    assert (world.standing(HELLO), world.known(HELLO).over) == (set(), True)


def test_development_is_reported_as_gone_once_the_last_stack_is_deleted(world: World) -> None:
    for each in (STAGING, PRODUCTION):
        world.teardown(each)
    world.push("refs/heads/y", sha(4))
    world.run()
    world.host.delete(HELLO)
    world.host.calls.clear()
    world.tell("repository deleted", HELLO, word="deleted")

    assert (world.standing(HELLO), world.known(HELLO).over) == (set(), True)
    assert len(world.host.called("facts")) == 2


def test_a_repository_that_is_not_accessible_loses_nothing(world: World) -> None:
    world.host.change(HELLO, hidden=True)
    world.resync(HELLO)
    world.tell("repository renamed", HELLO)

    assert world.standing(HELLO) == {DEV, STAGING, PRODUCTION}
    assert world.known(HELLO).state == ""


def test_a_late_event_of_a_removal_counts_for_nothing_once_github_answers(world: World) -> None:
    world.tell("repository deleted", HELLO, word="deleted")  # of an earlier one of that name

    assert world.standing(HELLO) == {DEV, STAGING, PRODUCTION}
    assert world.known(HELLO).state == ""


def test_a_repository_removed_from_the_app_is_left_alone_until_it_is_added_again(world: World) -> None:
    world.host.change(HELLO, hidden=True)
    world.tell("installation_repositories removed", HELLO, word="removed")
    assert world.known(HELLO).state == "removed"
    assert world.standing(HELLO) == {DEV, STAGING, PRODUCTION}

    Scheduler(world.deployer).run_due_jobs()
    assert world.sent == []
    assert world.lanes.lanes() == []

    world.host.change(HELLO, hidden=False)
    world.host.push(HELLO, BRANCH, sha(9), files={"pipeline.yml": "Resources: {}"})
    world.tell("installation_repositories added", HELLO)
    assert (world.known(HELLO).state, world.record(DEV).spec.commit) == ("", sha(9))


def test_the_state_in_an_event_is_kept_when_a_resync_already_waits(world: World) -> None:
    world.host.delete(HELLO)
    world.deployer.submitter.resync(HELLO)
    world.tell("repository deleted", HELLO, word="deleted")

    assert world.standing(HELLO) == {STAGING, PRODUCTION}


def test_an_outage_of_github_changes_no_state(world: World) -> None:
    world.host.fail_next(TransientError("away"), method="facts", times=50)
    world.tell("repository deleted", HELLO, word="deleted")

    assert world.standing(HELLO) == {DEV, STAGING, PRODUCTION}
    assert world.known(HELLO).state == ""


# --- the default branch ---


def test_a_new_default_branch_becomes_staging_and_loses_its_development(world: World) -> None:
    world.host.create(HELLO, default_branch="x")
    world.tell("repository edited", HELLO)

    assert world.record(STAGING).spec.ref == BRANCH
    assert world.built(STAGING)[-1] == (sha(1), "succeeded")
    former = Environment(HELLO, Kind.DEVELOPMENT, Ref.parse(MAIN))
    assert world.standing(HELLO) == {former, STAGING, PRODUCTION}


def test_staging_moves_to_a_new_default_branch_with_the_same_commit(world: World) -> None:
    world.push(BRANCH, sha(2), sha(1))
    world.run()
    world.host.create(HELLO, default_branch="x")
    world.tell("repository edited", HELLO)

    assert world.record(STAGING).spec.ref == BRANCH
    assert DEV not in world.standing(HELLO)
    assert world.deployer.resyncer.plan(HELLO) == []


def test_a_push_from_before_another_default_branch_does_not_move_staging_back(world: World) -> None:
    world.host.push(HELLO, MAIN, sha(4), files={"pipeline.yml": TEMPLATE})
    world.host.create(HELLO, default_branch="x")
    world.tell("repository edited", HELLO)
    late = world.deliver(MAIN, sha(4), sha(2))
    world.run()

    assert world.outcome(late)[0] == "deployed"
    assert world.record(STAGING).spec.ref == BRANCH
    assert [commit for commit, _ in world.built(STAGING)] == [sha(2), sha(1)]
    former = Environment(HELLO, Kind.DEVELOPMENT, Ref.parse(MAIN))
    assert world.built(former)[-1] == (sha(4), "succeeded")


def test_a_push_from_before_its_branch_became_the_default_creates_no_development(world: World) -> None:
    world.host.push(HELLO, BRANCH, sha(5), files={"pipeline.yml": TEMPLATE})
    world.host.create(HELLO, default_branch="x")
    world.tell("repository edited", HELLO)
    assert DEV not in world.standing(HELLO)
    late = world.deliver(BRANCH, sha(5), sha(1))
    world.run()

    assert world.outcome(late) == ("skipped", "x is the default branch now: staging deploys it")
    assert DEV not in world.standing(HELLO)
    assert world.record(STAGING).spec.commit == sha(5)


def test_after_redis_was_lost_such_a_push_creates_no_development_either(world: World) -> None:
    world.host.push(HELLO, MAIN, sha(4), files={"pipeline.yml": TEMPLATE})
    world.forget()
    world.host.create(HELLO, default_branch="x")
    late = world.deliver(MAIN, sha(4), sha(2))
    world.run()

    assert world.outcome(late)[0] == "deployed"
    assert world.record(STAGING).spec.ref == BRANCH
    assert world.built(STAGING)[-1] == (sha(1), "succeeded")


def test_development_stays_while_staging_has_not_moved(world: World) -> None:
    world.host.push(HELLO, BRANCH, sha(5), files={"pipeline.yml": "Resources: {}"})  # no pipeline in it
    world.host.create(HELLO, default_branch="x")
    world.tell("repository edited", HELLO)

    assert DEV in world.standing(HELLO)


def test_former_development_is_deleted_even_after_redis_was_lost(world: World) -> None:
    world.host.create(HELLO, default_branch="x")
    world.forget()
    world.resync(HELLO)

    assert DEV not in world.standing(HELLO)


def test_development_is_pinned_again_once_its_branch_is_no_longer_the_default(world: World) -> None:
    world.push(BRANCH, sha(5), sha(1))
    world.run()
    world.deployer.submitter.request_environment(DEV, cause=Cause.REDEPLOY, sha=sha(1))
    world.run()
    world.host.create(HELLO, default_branch="x")
    world.tell("repository edited", HELLO)
    assert DEV not in world.standing(HELLO)
    world.host.create(HELLO, default_branch="main")
    world.tell("repository edited", HELLO)

    assert DEV in world.standing(HELLO)
    assert (world.record(DEV).spec.commit, world.record(DEV).spec.held_at) == (sha(1), sha(5))


@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize("late", ["a push", "a deletion"])
def test_a_late_event_of_a_deleted_repository_cancels_no_teardown(
    world: World, late: str, steps: int
) -> None:
    world.host.delete(HELLO)
    world.deployer.submitter.submit_github(
        RepositoryChange("r0", "repository deleted", (HELLO,), word="deleted")
    )
    world.tasks()
    for _ in range(steps):
        world.step()
        world.tasks()
    delivery = world.deliver(BRANCH, sha(7) if late == "a push" else ZERO_SHA, sha(1))
    world.run()

    assert world.outcome(delivery)[0] in {"skipped", "deleted"}
    assert world.standing(HELLO) == {STAGING, PRODUCTION}
    assert world.record(DEV).status.state == "deleted"
    world.deliver(BRANCH, sha(7), sha(1))
    world.run()
    assert world.record(DEV).status.state == "deleted"


@pytest.mark.parametrize("first", ["while it was archived", "by a worker that was lost", "after a push"])
def test_former_development_is_deleted_although_the_first_check_failed(world: World, first: str) -> None:
    world.host.create(HELLO, default_branch="x")
    world.forget()
    match first:
        case "while it was archived":
            world.host.change(HELLO, archived=True)
            world.resync(HELLO)
            world.host.change(HELLO, archived=False)
        case "by a worker that was lost":
            world.deployer.repositories.refresh_record(HELLO)
        case _:
            push = Push("p1", HELLO, Ref.parse(BRANCH), ZERO_SHA, sha(1), "x")
            world.deployer.submitter.submit_github(push)
            world.run()
    world.resync(HELLO)

    assert DEV not in world.standing(HELLO)


def test_former_development_is_deleted_although_its_record_says_deleted(world: World) -> None:
    world.host.create(HELLO, default_branch="x")
    world.lanes_note(DEV, state="deleted", outcome="deleted", updated_at=time.time() - 60)
    world.resync(HELLO)

    assert DEV not in world.standing(HELLO)
    world.resync(HELLO)
    assert world.told[-1] == "resynced: nothing to do"


# --- several at once ---


def test_an_event_of_an_owner_resyncs_all_known_repositories_of_that_owner(world: World) -> None:
    world.host.change(HELLO, hidden=True)
    world.deployer.submitter.submit_github(
        RepositoryChange("i1", "installation suspend", owner="ACME", word="removed")
    )
    world.run()

    assert world.known(HELLO).state == "removed"
    assert world.outcome("i1")[0] == "resynced"


def test_an_event_of_an_unknown_owner_is_ignored(world: World) -> None:
    world.deployer.submitter.submit_github(
        RepositoryChange("i1", "installation suspend", owner="other", word="removed")
    )
    world.deployer.submitter.submit_github(RepositoryChange("i2", "public", (Repository("other", "x"),)))

    assert {world.outcome(each)[0] for each in ("i1", "i2")} == {"ignored"}


def test_the_same_delivery_twice_is_a_duplicate(world: World) -> None:
    event = RepositoryChange("r1", "repository archived", (HELLO,))
    assert world.deployer.submitter.submit_github(event).outcome == "queued"
    assert world.deployer.submitter.submit_github(event).outcome == "duplicate"
    world.run()
    assert world.deployer.submitter.submit_github(event).outcome == "duplicate"


# --- its name's capitals ---


def test_after_redis_was_lost_new_pipelines_get_the_name_in_githubs_case() -> None:
    world, mixed = World(), Repository("Acme", "Hello")
    template = TEMPLATE.replace(
        "Greeting:", "RepoOwner: {Type: String}\n  RepoName: {Type: String}\n  Greeting:"
    )
    world.push(MAIN, sha(1))
    world.run()
    world.forget()
    world.host.rename(HELLO, mixed)
    for number, ref in enumerate((BRANCH, "refs/heads/y"), start=2):  # nobody told
        world.host.push(mixed, ref, sha(number), files={"pipeline.yml": template})
    (found,) = world.deployer.resyncer.repositories(print)
    assert found == HELLO
    world.resync(found)

    for ref in (BRANCH, "refs/heads/y"):
        release = world.cloud.release(environment(ref).stack_name)
        assert release is not None
        assert (release.parameters["RepoOwner"], release.parameters["RepoName"]) == ("Acme", "Hello")
    assert world.lanes.repositories() == [mixed]


# --- the judgement alone ---

KNOWN = RepositoryRecord("acme/hello", id=1)
USUAL = RepositoryFacts(1, "Acme/Hello", "main")


@pytest.mark.parametrize(
    ("before", "facts", "word", "state"),
    [
        ("", USUAL, "", ""),
        ("", USUAL, "deleted", ""),
        ("deleted", USUAL, "", ""),
        ("removed", None, "", "removed"),
        ("removed", None, "deleted", "deleted"),
        ("deleted", None, "removed", "deleted"),
        ("", None, "", None),
        ("archived", None, "", None),
        ("renamed", None, "", "renamed"),
        ("renamed", None, "deleted", "deleted"),
        ("replaced", None, "", None),
        ("", RepositoryFacts(1, "acme/shop", "main", archived=True), "", "renamed"),
        ("renamed", RepositoryFacts(2, "acme/hello", "main"), "", "replaced"),
        ("", RepositoryFacts(2, "acme/shop", "main"), "", "replaced"),
        ("", RepositoryFacts(1, "acme/hello", "main", archived=True), "deleted", "archived"),
    ],
)
def test_which_state_a_check_stores(
    before: str, facts: RepositoryFacts | None, word: str, state: str | None
) -> None:
    found = judge_repository(KNOWN.but(state=before, since=5), facts, word, 7)

    assert (found and found.state) == state
    if found:
        assert found.since == (5 if before == state else 7)
        assert bool(found.reason) == bool(state)


@pytest.mark.parametrize(
    ("state", "refused"),
    [
        ("archived", {Cause.PUSH, Cause.RESYNC, Cause.AGE}),
        ("replaced", {Cause.PUSH, Cause.RESYNC, Cause.AGE, Cause.DELETION, Cause.REDEPLOY}),
    ],
)
def test_which_work_of_an_environment_is_refused(world: World, state: str, refused: set[Cause]) -> None:
    if state == "archived":
        world.host.change(HELLO, archived=True)
    else:
        world.resync(HELLO)
        another_takes_its_name(world)
    world.resync(HELLO)
    assert world.known(HELLO).state == state

    refusal = world.deployer.lifecycle.refusal
    assert {cause for cause in Cause if refusal(HELLO, Work(DEV.key, cause=cause))} == refused


def test_work_that_has_ordered_something_continues(world: World) -> None:
    world.host.change(HELLO, archived=True)
    world.resync(HELLO)
    assert not world.deployer.lifecycle.refusal(HELLO, Work.of(DEV.key, cause=Cause.RESYNC, created=True))


def test_a_resync_without_changes_reads_the_repository_once(world: World) -> None:
    world.host.calls.clear()
    world.resync(HELLO)

    assert [name for name, _ in world.host.calls] == ["facts", "open_pull_requests"]


def test_a_check_before_a_deletion_or_refusal_reads_only_one_ref(world: World) -> None:
    world.host.calls.clear()
    world.host.remove(HELLO, BRANCH)
    world.deliver(BRANCH, ZERO_SHA, sha(1))
    world.run()
    assert DEV not in world.standing(HELLO)
    assert world.host.called("facts") == [(HELLO, Ref(BRANCH))]

    world.host.change(HELLO, archived=True)
    world.resync(HELLO)
    world.host.calls.clear()
    world.push(MAIN, sha(9))
    world.run()
    assert world.host.called("facts") == [(HELLO, Ref(MAIN))]
