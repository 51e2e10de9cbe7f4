"""A resync converges in spite of queued work, pushes, faults, archiving or another default branch."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from searched import searched
from starts import MAIN, PRODUCTION, V1, X, environment_of
from stepped import Stage, stage
from test_aws_convergence import (
    Look,
    all_records,
    changed_stacks,
    is_deployed,
    is_skipped_or_expired,
    run_resync,
    unreported_stacks,
)
from test_aws_convergence import needs_a_person as needs_a_person_usually
from upheavals import Unrest, Upheaval, UpheavedWorld, final_commits, upheavals

from deployer.model.environments import Environment, Kind
from deployer.model.outcomes import Outcome
from deployer.model.refs import Ref
from deployer.model.stacks import TABLE, Phase
from tests.unit.world import HELLO


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("repositories")) as made:
        yield made


def upheave(world: UpheavedWorld, up: Upheaval) -> None:
    unrest = Unrest(world, up)
    development = Environment(HELLO, Kind.DEVELOPMENT, Ref.parse(MAIN))
    environments = [*(environment_of(name) for name in up.found), development]
    before = Look(world)
    world.stage.simulator.calls.clear()
    unrest.run_with_disturbances()
    unrest.end_faults()
    world.run()
    died = world.lanes.dead_letters()
    for letter in died:
        if up.replayed:
            world.deployer.submitter.replay(letter.id)
        else:
            world.lanes.discard(letter.id)
    world.run()
    # A queued step was decided earlier, and a push may deploy nothing. The resync skips environments with queued work;
    # the next resync sees the result.
    begun = any(each.step or each.name == V1 for each in up.left) or any(
        each.what == "skips" for each in up.acts
    )
    unheard = unrest.silent or died or up.archived or up.switched or begun
    if unheard or any(each.during for each in up.found.values()):
        run_resync(world)
        if any(
            "no webhook delivery reported it" in each.reason for each in world.deployer.resyncer.plan(HELLO)
        ):
            run_resync(world)  # production finishes its own tag before a missed one
    after = Look(world)
    assert not world.lanes.dead_letters(), world.lanes.dead_letters()
    assert after.unowned_resources(environments) == before.unowned_resources(environments)
    for each in before.unowned_resources(environments):
        names = {each["name"], each["id"], *each["resources"].values()}
        assert not {(each["account"], each["region"], name) for name in names} & changed_stacks(world)
    for delivery in unrest.deliveries:
        told = world.lanes.delivery(delivery)
        assert told
        assert told.outcome not in {"", "queued"}, delivery
    staging = world.lanes.environment(environment_of(MAIN))
    moved = (
        staging is not None
        and staging.status.outcome == "deployed"
        and staging.spec.ref == f"refs/heads/{world.default}"
    )
    for environment, sha in final_commits(world, up).items():
        if environment == environment_of(X) and world.default == "x" and not moved:
            continue  # the environment stays until staging exists
        check_environment(world, up, unrest, environment, sha, after)
    assert_kept(before, after, environment_of(MAIN), "staging")
    if up.replayed or all(each.arguments.environment != PRODUCTION.key for each in died):
        check_production(
            world, up, unrest, before, after
        )  # a tag whose dead letter a person discards is not deployed
    world.stage.simulator.calls.clear()
    known = all_records(world)
    told_now = run_resync(world)
    assert not changed_stacks(world), changed_stacks(world)
    assert all_records(world) == known
    asked = [
        each for each, sha in final_commits(world, up).items()
        if not sha and each.branch and needs_a_person(world.lanes.environment(each))
    ]  # fmt: skip
    # the development environment of a branch that became the default branch is no orphan; it is reported separately
    former = [each for each in asked if world.default == "x" and each == environment_of(X)]
    others = [each for each in asked if each not in former]
    if world.default == "x" and not moved and told_now.startswith("snoozed"):
        assert world.told[-1].endswith("; development of x stays until staging runs it")
        return
    done, _, _ = told_now.partition("; the newest tag ")  # deployer reports these but never deploys them
    assert done in {
        f"resynced: {what}{'; x is staging now, 1 to delete' if former else ''}"
        # stacks that a teardown left and reported are not tried again
        for what in ("nothing to do", *(f"{number} to delete" for number in range(1, len(others) + 1)))
    }, told_now


def needs_a_person(record: Any) -> bool:
    """Whether only a person can resolve the record, or something changed after the decision of a lost worker."""
    theirs = (
        r"is left: it does not bear|^its stack could not be created: (\S+: )?as it is$"
        r"|somebody deleted it, or the template"
    )
    if record and record.status.outcome == Outcome.FAILED and re.search(theirs, record.status.reason):
        return True
    return needs_a_person_usually(record)


def check_environment(
    world: UpheavedWorld, up: Upheaval, unrest: Unrest, environment: Environment, sha: str, after: Look
) -> None:
    record = world.lanes.environment(environment)
    name = f"refs/heads/{world.default}" if environment.kind is Kind.STAGING else str(environment.branch)
    start = up.found[name if environment.kind is Kind.DEVELOPMENT else MAIN]
    skips = bool(sha) and "[skip ci]" in world.host._repos[HELLO.key].messages[sha]
    if needs_a_person(record):
        assert record
        if name in unrest.pushed and not skips:
            assert record.status.reason != "as it was"
        protected = start.protected and "termination protection" in record.status.reason
        stays = sha or protected or environment.kind is Kind.STAGING
        assert stays or not unreported_stacks(record, environment, after)
        return
    chose = any((each.name, each.cause) == (name, "chosen") for each in up.left)
    if sha and chose and record and record.spec.held_at:
        return  # it stays at the commit that a person chose until the next webhook of a push
    if not sha:
        assert environment.kind is Kind.STAGING or not unreported_stacks(record, environment, after), record
        return
    if (
        environment.kind is Kind.STAGING
        and record
        and record.status.state == "deleted" == record.status.outcome
    ):
        assert name not in unrest.pushed
        return
    if skips:
        return
    if (
        name not in unrest.pushed
        and environment == environment_of(name)
        and is_skipped_or_expired(world, environment, start)
    ):
        return
    if (
        up.archived
        and record
        and (record.status.outcome, record.status.reason, record.spec.commit) == ("skipped", "as it was", sha)
    ):
        return  # its push was rejected, and the record says that this commit was skipped before
    is_deployed(world, environment, sha, after)


def assert_kept(before: Look, after: Look, environment: Environment, what: str) -> None:
    stack = before.stack(environment)
    phase = TABLE[stack["status"]].phase if stack else Phase.GONE
    if stack and phase not in {Phase.GONE, Phase.DELETING, Phase.WEDGED}:
        assert (after.stack(environment) or {}).get("id") == stack["id"], f"{what} is never deleted"


def check_production(world: UpheavedWorld, up: Upheaval, unrest: Unrest, before: Look, after: Look) -> None:
    assert_kept(before, after, PRODUCTION, "production")
    record = world.lanes.environment(PRODUCTION)
    sha, told, retags = unrest.tag or ("", "", False)
    if needs_a_person(record):
        assert record
        assert up.archived or told not in {"once", "twice"} or record.status.reason != "as it was"
        return
    ran, runs = before.execution_results(PRODUCTION), after.execution_results(PRODUCTION)
    if told in {"once", "twice"} and not up.archived:
        assert runs[-1] == (sha, "Succeeded")
        return
    known = up.found[V1].known
    was = known.commit if known and known.outcome == "deployed" and "ref" not in up.lacking else 0
    if told == "never" and up.heard and not retags and 0 < was <= up.found[V1].live:
        assert runs[-1] == (sha, "Succeeded")
    stack = before.stack(PRODUCTION)
    phase = TABLE[stack["status"]].phase if stack else Phase.GONE
    if runs and phase not in {Phase.GONE, Phase.DELETING}:
        # late, or before archiving: a person can move the tag anywhere
        pushed = told != "never" and runs[-1][0] == sha
        assert pushed or runs[-1][0] in unrest.asked or runs[-1][0] >= ran[-1][0], (
            "production never moves backwards"
        )


@searched(usually=15)  # about 15 s
@given(up=upheavals(), pace=st.sampled_from([1.0, 5.0, 20.0]))
def test_a_resync_converges_in_spite_of_disturbances(aws: Stage, up: Upheaval, pace: float) -> None:
    upheave(UpheavedWorld(aws, pace), up)
