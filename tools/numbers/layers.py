"""Comparison of import-linter's layers with the existing modules."""

import tomllib
from collections.abc import Iterable
from pathlib import Path


def read_layers(pyproject: str) -> list[list[str]]:
    """The layers of the first contract with layers, the highest first, each as full names of modules.

    Args:
        pyproject: the text of pyproject.toml.
    """
    contracts = tomllib.loads(pyproject)["tool"]["importlinter"]["contracts"]
    contract = next(each for each in contracts if each["type"] == "layers")
    parents = [f"{each}." for each in contract.get("containers", [])] or [""]
    split = (
        [name.strip(" ()") for name in layer.replace(":", "|").split("|")] for layer in contract["layers"]
    )
    return [[parent + name for parent in parents for name in names] for names in split]


def read_containers(pyproject: str) -> tuple[str, ...]:
    """The packages whose modules must be in a layer; empty if the contract names none.

    Args:
        pyproject: the text of pyproject.toml.
    """
    contracts = tomllib.loads(pyproject)["tool"]["importlinter"]["contracts"]
    return tuple(next(each for each in contracts if each["type"] == "layers").get("containers", ()))


def module_name(path: Path) -> str:
    """The import name of a file."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def modules_without_layer(names: Iterable[str], known: list[list[str]]) -> list[str]:
    """The modules that are in no layer; a layer includes all submodules.

    `__main__` and the packages above a layer do not count.
    """
    listed = {name for layer in known for name in layer}
    return [
        name
        for name in names
        if not name.endswith("__main__")
        and not any(
            name == each or name.startswith(f"{each}.") or each.startswith(f"{name}.") for each in listed
        )
    ]
