"""`python -m tools.numbers`: prints every number with its limit, its target.

`--check` ends with 1 if a number is above its limit in limits.json. A number without a target has no limit.
`--lower` lowers the limits to the present numbers. To raise a limit on purpose, edit the file.
`--json` prints JSON. `--draw SEED` prints random function names, whose purpose new readers are asked to guess.
"""

import argparse
import json
import sys
from pathlib import Path

from tools.numbers.code import PRODUCT, draw_names, named_functions, read_modules
from tools.numbers.measure import Number, measure

ROOT = Path(__file__).parents[2]
LIMITS = Path(__file__).with_name("limits.json")


def format_table(numbers: list[Number], limits: dict[str, float]) -> str:
    """The numbers as a table of text."""
    rows = [("number", "now", "limit", "target", "where")]
    rows += [
        (
            each.name,
            _format_number(each.now),
            _format_number(limits.get(each.name)),
            _format_number(each.target),
            each.where,
        )
        for each in numbers
    ]
    first, *others = (max(len(row[column]) for row in rows) for column in range(4))
    lines = (
        [
            f"{row[0]:{first}}",
            *(f"{cell:>{width}}" for cell, width in zip(row[1:4], others, strict=True)),
            row[4],
        ]
        for row in rows
    )
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _format_number(number: float | None) -> str:
    return "-" if number is None else f"{number:g}"


def numbers_above_limit(numbers: list[Number], limits: dict[str, float]) -> list[str]:
    """A sentence for each number that is above its limit or has no limit yet."""
    found = []
    for each in numbers:
        where = f" ({each.where})" if each.where else ""
        if each.target is None:
            continue
        if each.name not in limits:
            found.append(f"{each.name} has no limit yet: python -m tools.numbers --lower")
        elif each.now > limits[each.name]:
            found.append(f"{each.name}: {each.now:g} is above the limit {limits[each.name]:g}{where}")
    return found


def main(arguments: list[str]) -> int:
    """Print or check the numbers; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.numbers", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--lower", action="store_true")
    parser.add_argument("--draw", type=int, metavar="SEED")
    chosen = parser.parse_args(arguments)
    if chosen.draw is not None:
        for path, name in draw_names(named_functions(read_modules(ROOT, *PRODUCT)), chosen.draw):
            print(f"{path}: {name}")
        return 0
    numbers = measure(ROOT)
    limits: dict[str, float] = json.loads(LIMITS.read_text()) if LIMITS.exists() else {}
    if chosen.lower:
        limits = {
            each.name: min(each.now, limits.get(each.name, each.now))
            for each in numbers
            if each.target is not None
        }
        LIMITS.write_text(json.dumps(limits, indent=1) + "\n")
    if chosen.json:
        print(json.dumps([{**each._asdict(), "limit": limits.get(each.name)} for each in numbers], indent=1))
    elif chosen.check:
        found = numbers_above_limit(numbers, limits)
        print("\n".join(found) or f"numbers: none of {len(numbers)} is above its limit")
        return 1 if found else 0
    else:
        print(format_table(numbers, limits))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
