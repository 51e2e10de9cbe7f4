"""Every case below `templates/`: validated, pushed, deleted; what remains is compared with the receipt."""

import json
import operator
import re
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from deployer.cli import main
from sandbox.installation import Installation
from tests.cases.pushed import CaseRun, Pushed
from tests.cases.rows import CASES, TEMPLATES, Case, Expected
from tests.threads import run_at_once

pytestmark = pytest.mark.timeout(600)  # the first push waits for all of them
_SETTINGS = {
    "DEPLOYER_SANDBOX_SPEED": "20",
    "DEPLOYER_POLL_SECONDS": "0.5",
    "DEPLOYER_RETRY_SECONDS": "0.3",
    "DEPLOYER_CONCURRENCY": "3",
    "DEPLOYER_ORPHAN_SECONDS": "0",
    "DEPLOYER_GIVE_TOKEN": "yes",
}
_BOUNDARY = {
    "development": {
        "permissions_boundary": "arn:aws:iam::123456789012:policy/deployer-own/deployer-development-boundary",
        "role_path": "/deployer/development/",
    }
}
_AT_ONCE = 8  # pushes in one installation
_TRIALS = 3
_STOPPED = "cfn-lint: stopped"


def test_every_folder_has_a_row() -> None:
    assert {each.name for each in TEMPLATES.iterdir()} == {case.folder or case.name for case in CASES}


# --- validate -------------------------------------------------------------------------------------------------------


def validate(case: Case, directory: Path, *, warnings: bool = False, **settings: str) -> list[dict[str, Any]]:
    """The errors of `deployer validate`, each with the text of its line; with `warnings` its warnings as well."""
    for name, text in case.repository_files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    report = _complete_report(directory, {"DEPLOYER_UNFENCED": "", "DEPLOYER_TARGETS": "", **settings})
    found = report["problems"] + (report["warnings"] if warnings else [])
    for each in found:
        lines = case.repository_files[each["file"]].splitlines()
        each["at"] = lines[each["line"] - 1] if each["line"] else ""
    return list(found)


def _complete_report(directory: Path, env: Mapping[str, str]) -> dict[str, Any]:
    """What the command reports. A check that a busy machine stopped is tried again."""
    for _ in range(_TRIALS):
        done = CliRunner().invoke(main, ["validate", str(directory), "--json"], env=env)
        report: dict[str, Any] = json.loads(done.stdout)
        assert bool(done.exit_code) == bool(report["problems"])
        if not any(_STOPPED in each for each in report["notes"]):
            break
    assert not [each for each in report["notes"] if _STOPPED in each or "crashed" in each]
    return report


def matches(expected: Expected, found: dict[str, Any]) -> bool:
    return bool(re.search(expected.text, found["text"]) and re.search(expected.line, found["at"]))


@pytest.mark.parametrize("case", CASES, ids=operator.attrgetter("name"))
def test_validate(case: Case, tmp_path: Path) -> None:
    found = validate(case, tmp_path, DEPLOYER_UNFENCED="yes")
    missing = [each for each in case.errors if not any(matches(each, error) for error in found)]
    assert not missing, found
    more = [error for error in found if not any(matches(each, error) for each in case.errors)]
    assert case.others or not more, more
    assert not [error for error in found if re.search(case.never, error["text"])]


@pytest.mark.parametrize("case", [case for case in CASES if case.bounded], ids=operator.attrgetter("name"))
def test_validate_with_a_permissions_boundary(case: Case, tmp_path: Path) -> None:
    found = validate(case, tmp_path, warnings=True, DEPLOYER_TARGETS=json.dumps(_BOUNDARY))
    missing = [each for each in case.bounded if not any(matches(each, error) for error in found)]
    assert not missing, found


# --- push and deletion ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pushed(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, Future[Pushed]]:
    """Every selected case, pushed and deleted in one installation."""
    directory = tmp_path_factory.mktemp("cases")
    names = {item.name for item in request.session.items}
    selected = [case for case in CASES if f"test_push_and_deletion[{case.name}]" in names]
    with Installation(directory / "installation", _SETTINGS).running() as here:
        prepare_account(here)
        here.repository("acme/tools", sample=True)
        return run_at_once(
            {case.name: CaseRun(here, directory, case).carry_out for case in selected}, _AT_ONCE
        )


def prepare_account(here: Installation) -> None:
    """Make the roles and values that templates name and that belong to the account."""
    common = {"region_name": "us-east-1", "endpoint_url": here.aws}
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    iam, ssm = boto3.client("iam", **common, **keys), boto3.client("ssm", **common, **keys)
    for role in {role for case in CASES for role in case.roles}:
        iam.create_role(RoleName=role, AssumeRolePolicyDocument="{}")
    for name, value in {name: value for case in CASES for name, value in case.values.items()}.items():
        ssm.put_parameter(Name=name, Value=value, Type="String")


@pytest.mark.parametrize("case", CASES, ids=operator.attrgetter("name"))
def test_push_and_deletion(case: Case, pushed: dict[str, Future[Pushed]]) -> None:
    found = pushed[case.name].result()
    assert re.search(case.reason, found.reason), found.reason
    if case.outcome == "rejected":
        assert (found.state, found.stacks) == ("failed", frozenset()), found.reason
    elif case.waits:
        assert found.state == "running", found.reason
    else:
        assert found.state == case.outcome, found.reason
        assert case.outcome == "failed" or found.commit in found.revisions.values()

    remains = found.remains
    assert remains.state in {"deleted", "skipped"}, remains.reason
    listed = {each["id"] for each in remains.retained}
    assert remains.existing <= listed, sorted(remains.existing - listed)
    if case.left is not None:
        compare_with_receipt(case, remains.retained)


def compare_with_receipt(case: Case, retained: list[dict[str, str]]) -> None:
    """The receipt lists exactly what the row says."""
    assert len(retained) == len(case.left or ()), retained
    for left in case.left or ():
        assert any(
            re.search(left.what, each["what"]) and re.search(left.why, each["why"]) for each in retained
        )
