"""All measurements of the code, each with its target."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tools.numbers import code, layers
from tools.numbers.push import trace_push

_COMPLEXITY = re.compile(r"`(\S+)` is too complex \((\d+) > \d+\)")
_CONTEXTS, _CHANGED = ("run", "context"), ("record", "work")


class Number(NamedTuple):
    """One measurement: lower is better.

    Attributes:
        target: None if the number is only shown, because no value is right or wrong.
        where: the function or module with this number, if it is the highest of several.
    """

    name: str
    now: float
    target: float | None
    where: str = ""


def measure(root: Path) -> list[Number]:
    """Measure the code of a repository.

    Args:
        root: the root of the repository, from which the code is also imported.
    """
    product = code.read_modules(root, *code.PRODUCT)
    return [
        *_module_numbers(root, product),
        *_path_of_a_push(root),
        *_control_flow(product),
        *_stored_values(product),
        *_complexity_numbers(root, product),
        *_size_numbers(root, product),
        Number(
            "one-word function names in percent",
            round(code.one_word_share(code.named_functions(product)), 1),
            40,
        ),
    ]


def _module_numbers(root: Path, product: list[code.Module]) -> list[Number]:
    pyproject = (root / "pyproject.toml").read_text()
    known, within = layers.read_layers(pyproject), layers.read_containers(pyproject)
    names = [layers.module_name(each.path) for each in product]
    missing = layers.modules_without_layer(
        [each for each in names if not within or each.partition(".")[0] in within], known
    )
    flat = [each for each in product if each.path.parent == Path("deployer")]
    return [
        Number("modules directly in deployer/", len(flat), 4),
        Number("import layers", len(known), None),
        Number("modules that no import layer holds", len(missing), 0, " ".join(missing[:3])),
    ]


def _path_of_a_push(root: Path) -> list[Number]:
    traces = trace_push(root)
    whole, sync = traces["whole"], traces["sync"]
    return [
        Number("modules that a push enters", len(whole.modules), 25),
        Number("changes of module by a push", whole.changes, None),
        Number("modules that the sync task enters", len(sync.modules), None),
        Number("changes of module by the sync task", sync.changes, None),
        Number("packages entered again in the sync task", sync.reentered_packages, 0),
    ]


def _control_flow(product: list[code.Module]) -> list[Number]:
    return [
        Number("raise Settled", code.count_raises(product, "Settled"), 0),
        Number("writes to run.record and run.work", code.count_writes(product, _CONTEXTS, _CHANGED), 0),
    ]


def _stored_values(product: list[code.Module]) -> list[Number]:
    records, items = code.count_fields(product, code.RECORDS), code.count_fields(product, code.ITEMS)
    both = [*records.values(), *items.values()]
    return [
        Number(
            "fields of a value in the environment record",
            *_highest({name: count for name, (count, _) in records.items()}, 12),
        ),
        Number(
            "fields of the queue item", *_highest({name: count for name, (count, _) in items.items()}, 12)
        ),
        Number("fields of these that are dict[str, Any]", sum(untyped for _, untyped in both), 0),
    ]


def _complexity_numbers(root: Path, product: list[code.Module]) -> list[Number]:
    (strict, where), (by_ruff, worst) = code.most_complex(product)[0], _ruff_complexity(root)
    return [
        Number("complexity of the worst function by C901", by_ruff, 12, worst),
        Number("complexity of the worst function, strictly", strict, 15, where),
    ]


def _ruff_complexity(root: Path) -> tuple[int, str]:
    """The highest complexity by ruff's C901, with its function."""
    ruff = str(Path(sys.executable).with_name("ruff"))
    options = ["check", "--isolated", "--no-cache", "--select=C901", "--config=lint.mccabe.max-complexity=0"]
    done = subprocess.run(
        [ruff, *options, "--output-format=json", *code.PRODUCT],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
    )
    return worst_of_ruff(done.stdout, root)


def worst_of_ruff(output: str, root: Path) -> tuple[int, str]:
    """The highest complexity in ruff's JSON, with its function."""
    rated = []
    for each in json.loads(output):
        found = _COMPLEXITY.search(each["message"])
        if found is None:
            raise ValueError(f"ruff's message has an unknown form: {each['message']}")
        rated.append((int(found[2]), f"{Path(each['filename']).relative_to(root)}: {found[1]}"))
    return max(rated)


def _size_numbers(root: Path, product: list[code.Module]) -> list[Number]:
    sandbox = code.read_modules(root, "sandbox")
    lua = {
        str(each.relative_to(root)): each.read_text().count("\n")
        for each in (root / "deployer").rglob("*.lua")
    }
    return [
        Number("lines of the largest module, product", *_highest(_lines_by_module(product), 400)),
        Number("lines of the largest module, sandbox", *_highest(_lines_by_module(sandbox), 400)),
        Number("lines of the largest Lua script", *_highest(lua, 400)),
    ]


def _lines_by_module(found: Iterable[code.Module]) -> dict[str, int]:
    return {str(each.path): each.lines for each in found}


def _highest(counts: dict[str, int], target: int) -> tuple[int, int, str]:
    """The highest count, its target, and the name that has it."""
    name = max(counts, key=lambda each: counts[each])
    return counts[name], target, name
