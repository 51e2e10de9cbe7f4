"""Counts in the syntax trees of modules."""

import ast
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PRODUCT = ("deployer", "web", "workers")
Function = ast.FunctionDef | ast.AsyncFunctionDef
# classes whose fields are stored: the record of an environment, the queue item, their successors
RECORDS = (
    *("EnvironmentRecord", "EnvironmentSpec", "ExpirySpec", "ProductionSpec", "Admission"),
    *("EnvironmentStatus", "StackStatus", "AppliedStack", "StackFailure"),
    *("PipelineStatus", "StageState", "FollowedExecution"),
    *("TeardownReport", "TeardownPlan", "RemovedItem", "RetainedItem", "UnlistedItems"),
    *("EnvironmentHistory", "ExpiryNotice", "RefusedTag"),
)
ITEMS = ("Work", "WorkSpec", "PushFacts", "AttemptLog", "Progress", "ReplacedWork")
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

    path: Path  # relative to the root of the repository
    tree: ast.Module
    lines: int


def read_modules(root: Path, *folders: str) -> list[Module]:
    """Every Python module of some folders.

    Args:
        root: the root of the repository.
        folders: folders below the root, such as `deployer`.
    """
    found = []
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            text = path.read_text()
            found.append(Module(path.relative_to(root), ast.parse(text), text.count("\n")))
    return found


def list_functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Every function and method with its qualified name, including nested functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield prefix + node.name, node
            yield from list_functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield from list_functions(node, f"{prefix}{node.name}.")
        else:
            yield from list_functions(node, prefix)


def strict_complexity(function: ast.AST) -> int:
    """One plus the number of branches, loops, handlers, cases, comprehensions, their conditions, and boolean operators.

    A nested function counts for both functions, as in ruff's C901.
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
    """The strict complexity of every function, the highest first."""
    rated = [
        (strict_complexity(function), f"{module.path}: {name}")
        for module in found
        for name, function in list_functions(module.tree)
    ]
    return sorted(rated, key=lambda each: (-each[0], each[1]))


def count_raises(found: Iterable[Module], exception: str) -> int:
    """The number of `raise` statements of an exception."""
    return sum(
        _exception_name(node.exc.func if isinstance(node.exc, ast.Call) else node.exc) == exception
        for module in found
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Raise) and node.exc is not None
    )


def count_writes(found: Iterable[Module], objects: Sequence[str], attributes: Sequence[str]) -> int:
    """The number of assignments to attributes, such as `run.record = ...`, or `self.record = ...` in class `Run`.

    Args:
        found: the modules.
        objects: names of the variables. In a class of the same name (`Run` for `run`), `self` counts too.
        attributes: names of the attributes.
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


def count_fields(found: Iterable[Module], classes: Sequence[str]) -> dict[str, tuple[int, int]]:
    """For each of these classes, the number of fields and the number of fields with `dict[str, Any]`."""
    counted: dict[str, tuple[int, int]] = {}
    for module in found:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and node.name in classes:
                annotated = [
                    ast.unparse(each.annotation) for each in node.body if isinstance(each, ast.AnnAssign)
                ]
                annotations = [each for each in annotated if not each.startswith("ClassVar")]
                counted[node.name] = len(annotations), sum("dict[str, Any]" in each for each in annotations)
    return counted


def named_functions(found: Iterable[Module]) -> list[tuple[str, str]]:
    """The module and the name of every function whose name can be chosen freely.

    Special methods, properties and CLI commands are left out; a CLI command is named for its users.
    """
    return [
        (str(module.path), name.rpartition(".")[2])
        for module in found
        for name, function in list_functions(module.tree)
        if not function.name.startswith("__") and not any(map(_names_for_others, function.decorator_list))
    ]


def _names_for_others(decorator: ast.expr) -> bool:
    """Whether a decorator makes a property or a CLI command."""
    text = ast.unparse(decorator)
    return "property" in text or text.endswith(".setter") or ".command(" in text or ".group(" in text


def one_word_share(names: Sequence[tuple[str, str]]) -> float:
    """The percentage of names that are one word, without leading underscores."""
    return 100 * sum("_" not in name.strip("_") for _, name in names) / len(names) if names else 0.0


def draw_names(names: Sequence[tuple[str, str]], seed: int, count: int = 75) -> list[tuple[str, str]]:
    """Random names, the same for the same seed, whose purpose people are asked to guess."""
    return random.Random(seed).sample(sorted(names), min(count, len(names)))  # noqa: S311  not for secrets


def _exception_name(node: ast.expr) -> Any:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)
