"""Runs one target under libFuzzer, in a separate process because libFuzzer ends its process."""

import importlib
import resource
import sys

import atheris

from tests.fuzz.runner import MEMORY

# libFuzzer's own limit is not used, because it counts the peak of a process including the memory of its parent
resource.setrlimit(resource.RLIMIT_AS, (MEMORY * 1024 * 1024,) * 2)
module, name, *options = sys.argv[1:]
with atheris.instrument_imports(include=["deployer", "web", module]):
    found = importlib.import_module(module)
atheris.Setup([sys.argv[0], *options], found.TARGETS[name])
atheris.Fuzz()
