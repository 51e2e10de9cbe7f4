"""The number of examples of each property: a few fixed ones, or random ones with EXAMPLES=1000."""

import os
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings

_MANY = int(os.environ.get("EXAMPLES", "0"))
_T = TypeVar("_T", bound=Callable[..., None])


def searched(usually: int) -> Callable[[_T], _T]:
    """Give a property this number of examples; a failing example is made smaller only if EXAMPLES is set."""
    how = settings(
        max_examples=_MANY or usually,
        derandomize=not _MANY,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, *([Phase.shrink] if _MANY else [])],
        report_multiple_bugs=False,
    )
    return lambda test: pytest.mark.timeout(300 + 5 * _MANY)(how(test))
