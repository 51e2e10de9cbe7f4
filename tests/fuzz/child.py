"""One target under libFuzzer, in a process of its own: libFuzzer ends the process that it runs in."""

import importlib
import resource
import sys

import atheris

from tests.fuzz.runner import MEMORY

# not by libFuzzer's own limit: it judges what a process ever had, and a child is counted what its parent had
resource.setrlimit(resource.RLIMIT_AS, (MEMORY * 1024 * 1024,) * 2)
module, name, *options = sys.argv[1:]
with atheris.instrument_imports(include=["deployer", "web", module]):
    found = importlib.import_module(module)
atheris.Setup([sys.argv[0], *options], found.TARGETS[name])
atheris.Fuzz()
