"""docs/simulator.md, compared with what the simulated AWS does."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sandbox.aws.actions import Actions
from sandbox.aws.actiontypes import ACTION_TYPES
from sandbox.aws.cloudformation import CloudFormation
from sandbox.aws.codepipeline import CodePipeline
from sandbox.aws.jobs import Jobs
from sandbox.aws.piperesources import ProjectHandler
from sandbox.aws.places import Place
from sandbox.aws.resourcetypes import handlers_by_type
from sandbox.aws.serverless import EXPANSIONS
from sandbox.aws.serverlessevents import SIMULATED_EVENTS
from sandbox.aws.transforms import SIMULATED

PAGE = (Path(__file__).parents[3] / "docs" / "simulator.md").read_text()
NOTHING: Any = None


def rows(columns: int) -> list[list[str]]:
    """The cells of the page's rows that have this many columns, without headings."""
    cells = [
        [c.strip() for c in line.strip("|").split(" | ")] for line in PAGE.splitlines() if line[:1] == "|"
    ]
    return [row for row in cells if len(row) == columns and row[0] not in ("category", "type", "transform")]


def names(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


def test_the_page_lists_every_action_type() -> None:
    shown = {(c, o, p): s.startswith("yes") for c, o, p, s in rows(4)}

    assert shown == {(t.category, t.owner, t.provider): t.simulated for t in ACTION_TYPES}


def test_an_action_is_performed_if_its_type_says_so() -> None:
    actions = Actions(Place(), NOTHING, NOTHING, NOTHING, {}, NOTHING, Jobs(""))

    assert actions.simulated == {(t.category, t.provider) for t in ACTION_TYPES if t.simulated}


def test_the_page_lists_every_simulated_resource_type() -> None:
    place = Place()
    simulated = handlers_by_type(place, NOTHING, NOTHING, ProjectHandler(place), NOTHING, str)

    assert {row[0].strip("`") for row in rows(2) if "::" in row[0]} - set(SIMULATED) == set(simulated)


def test_the_page_lists_every_transform_with_its_types_and_events() -> None:
    listed = {row[0].strip("`"): row[1] for row in rows(2) if row[0].strip("`") in SIMULATED}

    assert set(listed) == set(SIMULATED)
    types, _, events = listed["AWS::Serverless-2016-10-31"].partition("Events:")
    assert names(types) - {"Globals"} == set(EXPANSIONS)
    assert names(events) == set(SIMULATED_EVENTS)


def test_the_page_lists_every_call() -> None:
    calls = PAGE.partition("## Calls")[2]
    cloudformation, _, codepipeline = calls.partition("CodePipeline:")

    assert names(cloudformation) == set(CloudFormation(NOTHING)._operations)
    assert names(codepipeline) - {"InvalidAction"} == set(
        CodePipeline(SimpleNamespace(), NOTHING, Jobs(""))._operations
    )
