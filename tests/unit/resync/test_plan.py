"""The plan of a resync: what each environment of a repository needs."""

from dataclasses import replace

import pytest

from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.refs import Ref
from deployer.model.stacks import Stack
from deployer.model.teardown_report import RetainedItem, TeardownReport
from deployer.resync.orphans import find_orphans, records_to_forget
from deployer.resync.plan import plan
from deployer.resync.snapshot import RepositorySnapshot, environments_with_unknown_status

REPOSITORY = Repository.parse("acme/hello")
MAIN, X, TAG = Ref.of_branch("main"), Ref.of_branch("x"), Ref.parse("refs/tags/v1")
STAGING = Environment(REPOSITORY, Kind.STAGING)
PRODUCTION = Environment(REPOSITORY, Kind.PRODUCTION)
DEV = Environment(REPOSITORY, Kind.DEVELOPMENT, X)
LONG = Ref.of_branch("功能/" + "中" * 60)  # more than one tag of AWS holds
LONG_DEV = Environment(REPOSITORY, Kind.DEVELOPMENT, LONG)
A, B = "a" * 40, "b" * 40


def _stack(environment: Environment, **tags: str) -> Stack:
    return Stack(
        f"arn:{environment.stack_name}",
        environment.stack_name,
        "CREATE_COMPLETE",
        {**environment.tags, **tags},
    )


def _record(
    environment: Environment, commit: str = A, outcome: str = "deployed", ref: str = ""
) -> EnvironmentRecord:
    return EnvironmentRecord.of(
        "acme/hello", environment.key, environment.stack_name, commit=commit, outcome=outcome, ref=ref,
        stack_arn=f"arn:{environment.stack_name}", state=outcome,
    )  # fmt: skip


CASES = [
    ("nothing at all", {}, [], [], []),
    ("a new branch", {X: A}, [], [], [("provision", DEV)]),
    ("the default branch", {MAIN: A}, [], [], [("provision", STAGING)]),
    ("all is well", {X: A}, [_stack(DEV)], [_record(DEV)], []),
    ("its failure was told", {X: A}, [_stack(DEV)], [_record(DEV, outcome="failed")], []),
    ("a stack that could not be made", {X: A}, [], [_record(DEV, outcome="failed")], []),
    ("skipped, so no stack", {X: A}, [], [_record(DEV, outcome="skipped")], []),
    ("skipped, and its stack stands", {X: A}, [_stack(DEV)], [_record(DEV, outcome="skipped")], []),
    ("skipped, and nobody knew of its stack", {X: A}, [_stack(DEV)],
     [_record(DEV, outcome="skipped").but(stack_arn="")], [("check", DEV)]),
    ("skipped, and its stack is another's", {X: A}, [replace(_stack(DEV), tags={})],
     [_record(DEV, outcome="skipped").but(stack_arn="")], []),
    ("another stack than is known", {X: A}, [replace(_stack(DEV), arn="arn:new")], [_record(DEV)], [("check", DEV)]),
    (
        "the one of two in the region on record",
        {X: A},
        [replace(_stack(DEV), arn=f"arn:aws:cloudformation:r2:1:stack/{DEV.stack_name}/1"), _stack(DEV)],
        [_record(DEV)],
        [],
    ),
    ("moved since", {X: B}, [_stack(DEV)], [_record(DEV)], [("check", DEV)]),
    ("the ledger is empty", {X: A}, [_stack(DEV)], [], [("check", DEV)]),
    ("its stack was lost", {X: A}, [], [_record(DEV)], [("provision", DEV)]),
    ("the branch is gone", {}, [_stack(DEV)], [_record(DEV)], [("delete", DEV)]),
    ("a branch with a long name is gone", {}, [_stack(LONG_DEV)], [], [("delete", LONG_DEV)]),
    ("a branch with a long name stands", {LONG: A}, [_stack(LONG_DEV)], [_record(LONG_DEV)], []),
    ("staging is never deleted", {}, [_stack(STAGING), _stack(PRODUCTION)], [_record(STAGING)],
     [("check", PRODUCTION)]),
    ("production is not guessed at", {TAG: A}, [], [], []),
    ("production stands", {TAG: A}, [_stack(PRODUCTION)], [_record(PRODUCTION, ref="refs/tags/v1")], []),
    ("production is known from its tag", {TAG: A}, [_stack(PRODUCTION, **{"deployer:ref": "refs/tags/v1"})], [],
     [("check", PRODUCTION)]),
    ("production was deleted by a person", {TAG: A}, [], [_record(PRODUCTION, outcome="deleted", ref=TAG.name)], []),
    ("staging was deleted by a person", {MAIN: A}, [], [_record(STAGING, outcome="deleted", ref=MAIN.name)], []),
    ("staging was deleted, and its branch moved", {MAIN: B}, [], [_record(STAGING, outcome="deleted", ref=MAIN.name)],
     [("provision", STAGING)]),
    ("development was deleted by a person", {X: A}, [], [_record(DEV, outcome="deleted", ref=X.name)],
     [("provision", DEV)]),
    ("development was held, and went with its repository's name", {X: B}, [],
     [_record(DEV, outcome="deleted", ref=X.name).but(held_at=B, receipt=TeardownReport(repository_state="renamed"))],
     [("provision", DEV)]),
    ("production was lost", {TAG: A}, [], [_record(PRODUCTION, ref="refs/tags/v1")], [("provision", PRODUCTION)]),
    ("a foreign stack", {}, [Stack("arn", "other", "CREATE_COMPLETE", {"deployer:managed": "true"})], [], []),
    ("what a pipeline deployed", {}, [Stack("arn", "app", "CREATE_COMPLETE", DEV.tags)], [], [("delete", DEV)]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("refs", "stacks", "records", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_plan(refs: dict, stacks: list, records: list, expected: list) -> None:
    found = plan(RepositorySnapshot(REPOSITORY, "main", refs, stacks, records), {}, 0, 0)
    assert [(each.action, each.environment) for each in found] == expected
    assert all(each.reason for each in found)


@pytest.mark.parametrize(
    ("place", "refs", "record", "expected"),
    [
        ("r1", {X: A}, _record(DEV), ["provision"]),
        ("r2", {X: A}, _record(DEV), []),
        ("r2", {X: B}, _record(DEV), ["check"]),
        ("r2", {MAIN: A}, _record(STAGING), ["provision"]),
        ("", {X: A}, _record(DEV), ["provision"]),
        ("r2", {TAG: A}, _record(PRODUCTION, ref=TAG.name), ["provision"]),
        ("r3", {TAG: A}, _record(PRODUCTION, ref=TAG.name), []),
        ("r3", {TAG: A}, _record(PRODUCTION, outcome="running", ref=TAG.name), ["check"]),
    ],
)
def test_a_stack_that_may_exist_in_an_unlisted_region_is_not_created_again(
    place: str, refs: dict, record: EnvironmentRecord, expected: list
) -> None:
    regions = {Kind.DEVELOPMENT: {"r1"}, Kind.STAGING: {"r2"}, Kind.PRODUCTION: {"r2"}}
    snapshot = RepositorySnapshot(REPOSITORY, "main", refs, [], [record.but(region=place)], regions=regions)
    assert [each.action for each in plan(snapshot, {}, 0, 0)] == expected


def test_a_kind_whose_regions_were_not_listed_is_not_planned() -> None:
    refs, records = {MAIN: A, X: A, TAG: B}, [_record(PRODUCTION, ref=TAG.name), _record(LONG_DEV)]
    snapshot = RepositorySnapshot(REPOSITORY, "main", refs, [], records, regions={Kind.STAGING: {"r1"}})
    assert [each.environment for each in plan(snapshot, {}, 0, 0)] == [STAGING]


DAY = 86400.0
NOW = 100 * DAY
LEFT = TeardownReport(retained=[RetainedItem(id="arn:bucket", why="it is shared")])


@pytest.mark.parametrize(
    ("refs", "stacks", "changes", "listed_at", "forgotten"),
    [
        ({}, [], {"state": "deleted"}, NOW, True),
        ({}, [], {"state": "skipped"}, NOW, True),
        ({}, [], {"state": "deleted", "updated_at": 71 * DAY}, NOW, False),
        ({}, [], {"state": "deleted"}, 39 * DAY, False),
        ({}, [], {"state": "deployed"}, NOW, False),
        ({}, [], {"state": "asleep"}, NOW, False),
        ({}, [], {"state": "skipped", "stack_arn": "arn:x"}, NOW, False),
        ({X: A}, [], {"state": "deleted"}, NOW, False),
        ({}, [_stack(DEV)], {"state": "deleted"}, NOW, False),
        ({}, [Stack("arn", "app", "CREATE_COMPLETE", DEV.tags)], {"state": "deleted"}, NOW, False),
        ({}, [], {"state": "deleted", "receipt": LEFT}, NOW, False),
    ],
)
def test_which_records_are_forgotten(
    refs: dict, stacks: list, changes: dict, listed_at: float, *, forgotten: bool
) -> None:
    record = _record(DEV).but(**{"updated_at": 10 * DAY, "stack_arn": "", **changes})
    snapshot = RepositorySnapshot(REPOSITORY, "main", refs, stacks, [record], listed_at)
    assert records_to_forget(snapshot, NOW) == ([record] if forgotten else [])


def test_records_of_staging_and_production_are_kept() -> None:
    records = [_record(each).but(state="deleted") for each in (STAGING, PRODUCTION)]
    assert records_to_forget(RepositorySnapshot(REPOSITORY, "main", {}, [], records), NOW) == []


@pytest.mark.parametrize(
    ("standing", "records", "orphaned"),
    [
        ("v2", [_record(PRODUCTION, ref="refs/tags/v2")], False),
        ("v1", [_record(PRODUCTION, ref="refs/tags/v2")], True),
        ("v1", [], False),
        ("v2", [], True),
    ],
)
def test_production_is_an_orphan_if_the_tag_that_it_runs_is_gone(
    standing: str, records: list[EnvironmentRecord], *, orphaned: bool
) -> None:
    """Its stack was changed by v1 last, and v2 started its pipeline."""
    stack = _stack(PRODUCTION, **{"deployer:ref": "refs/tags/v1"})
    snapshot = RepositorySnapshot(
        REPOSITORY, "main", {Ref.parse(f"refs/tags/{standing}"): A}, [stack], records
    )
    assert bool(find_orphans(snapshot)) is orphaned


def test_an_environment_with_a_stack_of_unknown_status_is_left_out_of_the_plan() -> None:
    """The pipeline's own stack, and one that it deployed."""
    other = Ref.of_branch("y")
    unheard_of = replace(_stack(DEV), status="REBUILD_COMPLETE")
    deployed = replace(_stack(DEV), name="x-app", arn="arn:x-app", status="REBUILD_COMPLETE")
    production = replace(_stack(PRODUCTION, **{"deployer:ref": TAG.name}), status="REBUILD_COMPLETE")
    for stacks in ([unheard_of], [_stack(DEV), deployed], [production, unheard_of]):
        for refs in ({X: B, other: A}, {other: A}):
            snapshot = RepositorySnapshot(
                REPOSITORY, "main", refs, stacks, [_record(DEV), _record(PRODUCTION, ref=TAG.name)]
            )
            planned = plan(snapshot, {}, 0, 0)
            assert [(each.action, each.environment.branch) for each in planned] == [("provision", other)]
            assert find_orphans(snapshot) == []
            assert records_to_forget(snapshot, 1e12) == []
            assert all(
                "REBUILD_COMPLETE" in why for why in environments_with_unknown_status(snapshot).values()
            )
            assert DEV in environments_with_unknown_status(snapshot)
