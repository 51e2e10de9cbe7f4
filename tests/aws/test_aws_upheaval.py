"""A resync with left work, pushes, faults, an archive, another default branch: it converges all the same."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from searched import searched
from starts import MAIN, PRODUCTION, V1, X, of
from stepped import Stage, stage
from test_aws_convergence import (
    Look,
    changes,
    is_deployed,
    records,
    remains,
    resync,
    told_before,
)
from test_aws_convergence import told_to_people as told_to_people_usually
from upheavals import Unrest, Upheaval, UpheavedWorld, final, upheavals

from deployer.model.environments import Environment, Kind
from deployer.model.records import Outcome
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
    environments = [*(of(name) for name in up.found), development]
    before = Look(world)
    world.stage.simulator.calls.clear()
    unrest.strikes()
    unrest.end()
    world.run()
    died = world.lanes.dead_letters()
    for letter in died:
        if up.replayed:
            world.deployer.intake.replay(letter.id)
        else:
            world.lanes.discard(letter.id)
    world.run()
    # a step that waits already was decided before, and a push may deploy nothing: the resync leaves alone what has
    # work, and the next one sees what came of it
    begun = any(each.step or each.name == V1 for each in up.left) or any(
        each.what == "skips" for each in up.acts
    )
    unheard = unrest.silent or died or up.archived or up.switched or begun
    if unheard or any(each.during for each in up.found.values()):
        resync(world)
        if any(
            "no webhook delivery reported it" in each.reason for each in world.deployer.resyncer.plan(HELLO)
        ):
            resync(world)  # production comes to the end of its own tag before one that was missed
    after = Look(world)
    assert not world.lanes.dead_letters(), world.lanes.dead_letters()
    assert after.foreign(environments) == before.foreign(environments)
    for each in before.foreign(environments):
        names = {each["name"], each["id"], *each["resources"].values()}
        assert not {(each["account"], each["region"], name) for name in names} & changes(world)
    for delivery in unrest.deliveries:
        told = world.lanes.delivery(delivery)
        assert told
        assert told.outcome not in {"", "queued"}, delivery
    staging = world.lanes.environment(of(MAIN))
    moved = (
        staging is not None and staging.outcome == "deployed" and staging.ref == f"refs/heads/{world.default}"
    )
    for environment, sha in final(world, up).items():
        if environment == of(X) and world.default == "x" and not moved:
            continue  # it stays until staging runs the new default branch
        ended(world, up, unrest, environment, sha, after)
    kept(before, after, of(MAIN), "staging")
    if up.replayed or all(each.arguments.environment != PRODUCTION.key for each in died):
        production(world, up, unrest, before, after)  # a tag whose letter a person discards is not deployed
    world.stage.simulator.calls.clear()
    known = records(world)
    told_now = resync(world)
    assert not changes(world), changes(world)
    assert records(world) == known
    asked = [
        each for each, sha in final(world, up).items()
        if not sha and each.branch and told_to_people(world.lanes.environment(each))
    ]  # fmt: skip
    # the former development environment of what is the default branch now is no orphan, and told of apart
    former = [each for each in asked if world.default == "x" and each == of(X)]
    others = [each for each in asked if each not in former]
    if world.default == "x" and not moved and told_now.startswith("snoozed"):
        assert world.told[-1].endswith("; development of x stays until staging runs it")
        return
    done, _, _ = told_now.partition(
        "; the newest tag "
    )  # which people are told of, and nobody deploys by himself
    assert done in {
        f"resynced: {what}{'; x is staging now, 1 to delete' if former else ''}"
        # of those that a teardown left and told of, none is tried again
        for what in ("nothing to do", *(f"{number} to delete" for number in range(1, len(others) + 1)))
    }, told_now


def told_to_people(record: Any) -> bool:
    """The same where somebody made or deleted a thing since a step was decided whose worker was lost."""
    theirs = (
        r"is left: it does not bear|^its stack could not be created: (\S+: )?as it is$"
        r"|somebody deleted it, or the template"
    )
    if record and record.outcome == Outcome.FAILED and re.search(theirs, record.reason):
        return True
    return told_to_people_usually(record)


def ended(
    world: UpheavedWorld, up: Upheaval, unrest: Unrest, environment: Environment, sha: str, after: Look
) -> None:
    record = world.lanes.environment(environment)
    name = f"refs/heads/{world.default}" if environment.kind is Kind.STAGING else str(environment.branch)
    start = up.found[name if environment.kind is Kind.DEVELOPMENT else MAIN]
    skips = bool(sha) and "[skip ci]" in world.host._repos[HELLO.key].messages[sha]
    if told_to_people(record):
        assert record
        if name in unrest.pushed and not skips:
            assert record.reason != "as it was"
        protected = start.protected and "termination protection" in record.reason
        stays = sha or protected or environment.kind is Kind.STAGING
        assert stays or not remains(record, environment, after)
        return
    chose = any((each.name, each.cause) == (name, "chosen") for each in up.left)
    if sha and chose and record and record.held_at:
        return  # it stays at the commit that a person chose, until a push is told of
    if not sha:
        assert environment.kind is Kind.STAGING or not remains(record, environment, after), record
        return
    if environment.kind is Kind.STAGING and record and record.state == "deleted" == record.outcome:
        assert name not in unrest.pushed
        return
    if skips:
        return
    if name not in unrest.pushed and environment == of(name) and told_before(world, environment, start):
        return
    if (
        up.archived
        and record
        and (record.outcome, record.reason, record.commit) == ("skipped", "as it was", sha)
    ):
        return  # its push was refused, and the ledger has it that this very commit was skipped before
    is_deployed(world, environment, sha, after)


def kept(before: Look, after: Look, environment: Environment, what: str) -> None:
    stack = before.stack(environment)
    phase = TABLE[stack["status"]].phase if stack else Phase.GONE
    if stack and phase not in {Phase.GONE, Phase.DELETING, Phase.WEDGED}:
        assert (after.stack(environment) or {}).get("id") == stack["id"], f"{what} is never deleted"


def production(world: UpheavedWorld, up: Upheaval, unrest: Unrest, before: Look, after: Look) -> None:
    kept(before, after, PRODUCTION, "production")
    record = world.lanes.environment(PRODUCTION)
    sha, told, retags = unrest.tag or ("", "", False)
    if told_to_people(record):
        assert record
        assert up.archived or told not in {"once", "twice"} or record.reason != "as it was"
        return
    ran, runs = before.ran(PRODUCTION), after.ran(PRODUCTION)
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
        # late, or before the archive: a person moves it anywhere
        pushed = told != "never" and runs[-1][0] == sha
        assert pushed or runs[-1][0] in unrest.asked or runs[-1][0] >= ran[-1][0], (
            "production never moves backwards"
        )


@searched(usually=15)  # some 15 s
@given(up=upheavals(), pace=st.sampled_from([1.0, 5.0, 20.0]))
def test_a_resync_converges_whatever_comes_with_it(aws: Stage, up: Upheaval, pace: float) -> None:
    upheave(UpheavedWorld(aws, pace), up)
