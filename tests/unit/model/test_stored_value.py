"""Stored values: nested in Python, and written back with the fields that this version does not know."""

import json
from typing import Any

import msgspec
import pytest

from deployer.model.display import DisplayChange
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environment_status import FollowedExecution, StackFailure, StageState
from deployer.model.errors import StoredValueError
from deployer.model.production_record import Admission
from deployer.model.stored_value import FieldGroup, StoredValue, field_groups
from deployer.model.teardown_report import RemovedItem, TeardownPlan, TeardownReport
from deployer.queue.items import Work

X = "development:refs/heads/x"
MOST_FIELDS = 12


def record(**fields: Any) -> EnvironmentRecord:
    return EnvironmentRecord.of("acme/hello", X, "hello-x-1", **fields)


def stored_kinds(kind: type[StoredValue]) -> set[type[StoredValue]]:
    """A class of stored values, and all that its fields name."""

    def named(annotation: Any) -> set[type[StoredValue]]:
        if isinstance(annotation, type) and issubclass(annotation, StoredValue):
            return stored_kinds(annotation)
        return {each for part in getattr(annotation, "__args__", ()) for each in named(part)}

    return {kind} | {each for field in msgspec.structs.fields(kind) for each in named(field.type)}


@pytest.mark.parametrize("kind", sorted(stored_kinds(EnvironmentRecord) | stored_kinds(Work), key=str))
def test_a_value_has_few_fields_and_all_are_typed(kind: type[StoredValue]) -> None:
    own = [field for field in msgspec.structs.fields(kind) if field.name != "unknown"]
    assert len(own) <= MOST_FIELDS
    assert not [field.name for field in own if "Any" in str(field.type)]


def test_a_change_names_the_field_alone() -> None:
    before = record(state="running")
    after = before.but(commit="c1", execution="e1", updated_at=2.0)
    assert (after.spec.commit, after.status.pipeline.execution, after.updated_at) == ("c1", "e1", 2.0)
    assert after.status.state == "running"
    assert before == record(state="running")


def test_a_field_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(TypeError, match="EnvironmentRecord has no field 'comit'"):
        record(comit="c1")


def test_no_two_fields_have_the_same_name() -> None:
    class Part(FieldGroup, frozen=True):
        name: str = ""

    class Whole(StoredValue, frozen=True):
        name: str = ""
        part: Part = Part()

    with pytest.raises(TypeError, match="Whole has two fields 'name'"):
        field_groups(Whole)


def test_a_record_is_read_as_it_was_written() -> None:
    full = record(
        commit="c1",
        ttl="3d",
        admitted=Admission("refs/tags/v1", "c1", "on main"),
        stages=[StageState("Build", "failed", "exit 2")],
        open={"e1": FollowedExecution("c1")},
        pending=("c1 deployer/prepare",),
        failure=StackFailure("Bucket", "AWS::S3::Bucket", "it exists", line=3, file="deploy/pipeline.yml"),
        receipt=TeardownReport(began_at=1, plan=TeardownPlan(todo=["a"], left={"Bucket": "not empty"})),
    )
    assert EnvironmentRecord.from_json(full.to_json()) == full


def test_followed_executions_keep_their_order() -> None:
    ids = ["e9", "e1", "e5"]
    full = record(open={each: FollowedExecution("c1") for each in ids}, started=dict.fromkeys(ids, "c1"))
    pipeline = EnvironmentRecord.from_json(full.to_json()).status.pipeline
    assert (list(pipeline.open), list(pipeline.started)) == (ids, ids)


def test_what_github_should_show_is_no_part_of_the_stored_record() -> None:
    full = record(commit="c1", display=(DisplayChange("c1", "deployer/Build", "success", "Build succeeded"),))
    assert "Build" not in full.to_json()
    assert EnvironmentRecord.from_json(full.to_json()) == full.but(display=())


def test_an_empty_detail_is_false() -> None:
    assert not TeardownReport()
    assert not TeardownReport().is_running
    assert TeardownReport(began_at=1).is_running
    assert not TeardownReport(began_at=1, ended_at=2).is_running
    assert json.loads(record().to_json())["status"]["receipt"] == {}


@pytest.mark.parametrize(
    "place",
    [
        (),
        ("spec",),
        ("spec", "expiry"),
        ("spec", "production", "admitted"),
        ("spec", "production", "approvals", 0),
        ("status", "pipeline"),
        ("status", "pipeline", "stages", 0),
        ("status", "pipeline", "open", "e1"),
        ("status", "receipt"),
        ("status", "receipt", "removed", 0),
        ("status", "receipt", "unlisted"),
        ("history",),
    ],
)
def test_a_field_of_another_version_is_kept_when_a_record_is_written_again(
    place: tuple[str | int, ...],
) -> None:
    admitted = Admission("refs/tags/v1", "c1")
    full = record(
        admitted=admitted,
        approvals=(admitted,),
        stages=[StageState("Build")],
        open={"e1": FollowedExecution()},
        receipt=TeardownReport(began_at=1, removed=[RemovedItem("stack a", "arn")]),
    )
    fields = value = json.loads(full.to_json())
    for step in place:
        value = value[step]
    value["from_the_future"] = {"list": [], "text": "é"}
    again = EnvironmentRecord.from_json(json.dumps(fields)).but(state="failed", used_at=3.0, generation=1)
    written = json.loads(again.to_json())
    fields["status"]["state"], fields["history"]["used_at"], fields["history"]["generation"] = (
        "failed",
        3.0,
        1,
    )
    assert written == fields


def test_a_queue_item_is_flat_and_keeps_the_fields_of_another_version() -> None:
    item = Work.of(X, goal="g1", sha="c1", created=True, attempts=2)
    fields = json.loads(item.to_json())
    assert (fields["sha"], fields["created"], fields["attempts"]) == ("c1", True, 2)
    assert not [name for name, value in fields.items() if isinstance(value, dict | list)]
    later = fields | {"from_the_future": 1, "progress": "a text"}
    again = Work.from_json(json.dumps(later)).but(polls=3)
    assert json.loads(again.to_json()) == later | {"polls": 3}


def test_a_number_that_lua_has_written_is_read() -> None:
    assert Work.from_json(f'{{"environment":"{X}","attempts":2.0}}').log.attempts == 2


@pytest.mark.parametrize(
    "text", ["", "[]", "3", '{"repository":"acme/hello"}', '{"environment":3}', "[" * 100_000]
)
def test_what_cannot_be_read_says_so(text: str) -> None:
    with pytest.raises(StoredValueError, match="it is no EnvironmentRecord: "):
        EnvironmentRecord.from_json(text)


# --- version 0.1.0 ---


def flat(**fields: Any) -> str:
    """A record as version 0.1.0 has stored it."""
    own = {"repository": "acme/hello", "environment": X, "stack_name": "hello-x-1", "calls": {"aws": 3}}
    empty = {"receipt": {}, "failure": {}, "notice": {}, "applied": {}, "open": {}, "stages": []}
    return json.dumps(own | empty | fields)


def test_a_flat_record_is_read_and_written_nested() -> None:
    found = EnvironmentRecord.from_json(
        flat(
            state="failed",
            commit="c1",
            ttl="3d",
            execution="e1",
            failure={
                "resource": "Bucket",
                "type": "AWS::S3::Bucket",
                "reason": "it exists",
                "url": "https://aws",
            },
            stages=[{"name": "Build", "status": "failed", "reason": "", "url": ""}],
            open={"e1": {"sha": "c1", "posted": {"Build": "pending", "Source": "success", "age": "pending"}}},
            prepared="c1 pending creating the pipeline",
            receipt={"began_at": 1.0, "at": 2.0, "told": "c0 success removed 1 stack"},
            notice={"comments": ["7"], "at": 5.5},
        )
    )
    assert found == record(
        state="failed",
        commit="c1",
        ttl="3d",
        execution="e1",
        failure=StackFailure("Bucket", "AWS::S3::Bucket", "it exists", "https://aws"),
        stages=[StageState("Build", "failed")],
        open={"e1": FollowedExecution("c1")},
        pending=("c1 deployer/prepare", "c1 deployer/Build", "c1 deployer/stage/age"),
        receipt=TeardownReport(began_at=1, ended_at=2),
        notice=found.history.notice,
    )
    assert (found.history.notice.comments, found.history.notice.at) == (["7"], 5.5)
    assert json.loads(found.to_json())["spec"]["commit"] == "c1"


@pytest.mark.parametrize(
    ("receipt", "execution", "expected"),
    [
        ({"began_at": 1.0, "at": 2.0, "outcome": "cancelled", "owed": True}, "e2", ("", "e2")),
        ({"began_at": 1.0, "at": 2.0, "outcome": "cancelled", "owed": True}, "", ("", "e1")),
        ({"began_at": 1.0, "at": 0, "todo": ["a"], "arn": "", "left": {}, "away": []}, "e2", ("", "e2")),
        ({"began_at": 1.0, "at": 2.0, "outcome": "cancelled"}, "e2", ("e2", "e1")),
        ({"began_at": 1.0, "at": 2.0, "outcome": "removed"}, "e2", ("e2", "e1")),
        ({}, "e2", ("e2", "e1")),
    ],
    ids=["owed", "owed, no execution", "under way", "paid", "ended", "none"],
)
def test_after_a_teardown_of_0_1_0_the_pipeline_runs_again(
    receipt: dict[str, Any], execution: str, expected: tuple[str, str]
) -> None:
    """See docs/decisions/0032: the former execution counts as reported, and is no longer the environment's."""
    found = EnvironmentRecord.from_json(flat(execution=execution, reported="e1", receipt=receipt))
    assert (found.status.pipeline.execution, found.status.pipeline.reported) == expected
    assert not found.status.receipt.unknown
    assert found.status.receipt.plan.todo == receipt.get("todo", [])
