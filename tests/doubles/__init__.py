"""A GitHub and an AWS in memory: the ports `Host` and `Cloud` with what the core can observe of the real ones.

Nothing here moves by itself and nothing is random: refs move by `push` and `remove`, AWS moves by `advance`.
`tests/contract/` holds them to the behaviour of the adapters. Say `from tests.doubles import FakeCloud, FakeHost`.
"""

from tests.doubles.cloud import FakeCloud, FakeClouds
from tests.doubles.folder import DirectEvaluator
from tests.doubles.host import FakeHost
from tests.doubles.roles import FakeRoles

__all__ = ["DirectEvaluator", "FakeCloud", "FakeClouds", "FakeHost", "FakeRoles"]
