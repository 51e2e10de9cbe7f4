"""One target under libFuzzer, in a process of its own: libFuzzer ends the process that it runs in."""

import importlib
import sys

import atheris

module, name, *options = sys.argv[1:]
with atheris.instrument_imports(include=["deployer", "web", module]):
    found = importlib.import_module(module)
atheris.Setup([sys.argv[0], *options], found.TARGETS[name])
atheris.Fuzz()
