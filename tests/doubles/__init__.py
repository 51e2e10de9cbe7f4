"""Doubles of the ports: GitHub, AWS in memory.

Nothing changes by itself and nothing is random: refs move by `push` and `remove`, AWS moves by `advance`.
`tests/contract/` tests that the doubles behave like the adapters. Use `from tests.doubles import FakeCloud, FakeHost`.
"""

from tests.doubles.cloud import FakeCloud, FakeClouds
from tests.doubles.folder import DirectEvaluator
from tests.doubles.host import FakeHost
from tests.doubles.roles import FakeRoles

__all__ = ["DirectEvaluator", "FakeCloud", "FakeClouds", "FakeHost", "FakeRoles"]
