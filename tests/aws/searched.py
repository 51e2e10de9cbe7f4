"""How the properties look for what fails: usually a few examples, always the same; with EXAMPLES=1000 at random."""

import os
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings

_MANY = int(os.environ.get("EXAMPLES", "0"))
_T = TypeVar("_T", bound=Callable[..., None])


def searched(usually: int) -> Callable[[_T], _T]:
    """Let a property look at so many examples; of those that EXAMPLES asks for, what fails is made small."""
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
