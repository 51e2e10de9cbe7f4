"""Counts in the syntax trees of the product's modules."""

import ast
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PRODUCT = ("deployer", "web", "workers")
Function = ast.FunctionDef | ast.AsyncFunctionDef
# classes whose fields are stored: the record of an environment, an entry of the queue, and what they are to become
RECORDS = ("EnvironmentRecord", "Spec", "Status", "History")
ITEMS = ("Work", "QueueItem")
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_BRANCHES = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.match_case,
    *_COMPREHENSIONS,
)


@dataclass(frozen=True)
class Module:
    """A module and its syntax tree."""

    path: Path  # relative to the repository
    tree: ast.Module
    lines: int


def modules(root: Path, *folders: str) -> list[Module]:
    """Every Python module of some folders.

    Args:
        root: the repository.
        folders: such as `deployer`, below the root.
    """
    found = []
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            text = path.read_text()
            found.append(Module(path.relative_to(root), ast.parse(text), text.count("\n")))
    return found


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Every function and method with its qualified name, also those within functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield prefix + node.name, node
            yield from functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        else:
            yield from functions(node, prefix)


def strict_complexity(function: ast.AST) -> int:
    """Branches, loops, handlers, cases, comprehensions and their conditions, and boolean operators, plus one.

    A function within a function counts for both, as in ruff's C901.
    """
    total = 1
    for node in ast.walk(function):
        if isinstance(node, _BRANCHES):
            total += 1
        elif isinstance(node, ast.BoolOp):
            total += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            total += len(node.ifs)
    return total


def most_complex(found: Iterable[Module]) -> list[tuple[int, str]]:
    """The strict complexity of every function, the worst first."""
    rated = [
        (strict_complexity(function), f"{module.path}: {name}")
        for module in found
        for name, function in functions(module.tree)
    ]
    return sorted(rated, key=lambda each: (-each[0], each[1]))


def raises(found: Iterable[Module], exception: str) -> int:
    """How often an exception is raised."""
    return sum(
        _name(node.exc.func if isinstance(node.exc, ast.Call) else node.exc) == exception
        for module in found
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Raise) and node.exc is not None
    )


def writes(found: Iterable[Module], objects: Sequence[str], attributes: Sequence[str]) -> int:
    """How often an attribute of a variable is set, such as `run.record = ...`; also `self.record` within class `Run`.

    Args:
        found: the modules.
        objects: the variables' names. Within a class of the same name, spelt `Run`, `self` counts as well.
        attributes: the attributes' names.
    """
    total = 0
    for module in found:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and node.name.lower() in objects:
                total += _set_attributes(node, ["self"], attributes)
        total += _set_attributes(module.tree, objects, attributes)
    return total


def _set_attributes(tree: ast.AST, objects: Sequence[str], attributes: Sequence[str]) -> int:
    return sum(
        isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and node.attr in attributes
        and isinstance(node.value, ast.Name)
        and node.value.id in objects
        for node in ast.walk(tree)
    )


def fields(found: Iterable[Module], classes: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Of each of these classes the number of fields, and of those that are `dict[str, Any]`."""
    counted: dict[str, tuple[int, int]] = {}
    for module in found:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and node.name in classes:
                annotations = [
                    ast.unparse(each.annotation) for each in node.body if isinstance(each, ast.AnnAssign)
                ]
                counted[node.name] = len(annotations), sum("dict[str, Any]" in each for each in annotations)
    return counted


def named_functions(found: Iterable[Module]) -> list[tuple[str, str]]:
    """Module and name of every function whose name somebody chose freely.

    Left out are special methods, properties, and the commands of the CLI, which are named for those who type them.
    """
    return [
        (str(module.path), name.rpartition(".")[2])
        for module in found
        for name, function in functions(module.tree)
        if not function.name.startswith("__") and not any(map(_names_for_others, function.decorator_list))
    ]


def _names_for_others(decorator: ast.expr) -> bool:
    """Whether a decorator makes a property or a command of the CLI."""
    text = ast.unparse(decorator)
    return "property" in text or text.endswith(".setter") or ".command(" in text or ".group(" in text


def one_word_share(names: Sequence[tuple[str, str]]) -> float:
    """The share of names that are one word, in percent; a leading underscore is no word."""
    return 100 * sum("_" not in name.strip("_") for _, name in names) / len(names) if names else 0.0


def draw(names: Sequence[tuple[str, str]], seed: int, count: int = 75) -> list[tuple[str, str]]:
    """Some names at random, the same for the same seed, for people to guess what the functions do."""
    return random.Random(seed).sample(sorted(names), min(count, len(names)))  # noqa: S311  not for secrets


def _name(node: ast.expr) -> Any:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)
