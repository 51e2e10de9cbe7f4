"""What users and their programs see is as it was recorded."""

from typing import Any

import pytest

from tests.baseline.snapshot import differences, snapshot


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    return snapshot()


@pytest.mark.parametrize("name", ["api", "cli", "names"])
def test_it_is_as_recorded(parts: dict[str, Any], name: str) -> None:
    if found := differences(name, parts[name]):
        pytest.fail(
            f"{found}\n\nIf this change is wanted, record it: python -m tests.baseline", pytrace=False
        )
