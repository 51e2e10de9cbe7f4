"""Compares import-linter's layers with the modules that there are."""

import tomllib
from collections.abc import Iterable
from pathlib import Path


def layers(pyproject: str) -> list[list[str]]:
    """The layers of the first contract that has any, the highest first; the modules of each, by their whole names.

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


def containers(pyproject: str) -> tuple[str, ...]:
    """The packages whose modules the layers must hold; empty where that contract names none.

    Args:
        pyproject: the text of pyproject.toml.
    """
    contracts = tomllib.loads(pyproject)["tool"]["importlinter"]["contracts"]
    return tuple(next(each for each in contracts if each["type"] == "layers").get("containers", ()))


def module_name(path: Path) -> str:
    """The name under which a file is imported."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def forgotten(names: Iterable[str], known: list[list[str]]) -> list[str]:
    """The modules that no layer holds; a layer holds all that is below it.

    The packages that hold a layer are no modules of their own, and neither is `__main__`.
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
