"""The measurements of the code, tested with small samples."""

import ast
import json
from pathlib import Path

import pytest

from tools.numbers import code, layers
from tools.numbers.__main__ import format_table, main, numbers_above_limit
from tools.numbers.measure import Number, worst_of_ruff
from tools.numbers.push import Trace, package_of, trace_push

ROOT = Path(__file__).parents[2]


def module(text: str, path: str = "deployer/sample.py") -> code.Module:
    return code.Module(Path(path), ast.parse(text), text.count("\n"))


@pytest.mark.parametrize(
    ("body", "complexity"),
    [
        ("return 1", 1),
        ("if a: return 1", 2),
        ("if a: return 1\n  elif b: return 2\n  else: return 3", 3),
        ("return 1 if a else 2", 2),
        ("return a and b", 2),
        ("return a and b and c", 3),
        ("return a and b or c", 3),
        ("return not a", 1),
        ("for x in a: pass", 2),
        ("while a: pass", 2),
        ("try: pass\n  except OSError: pass\n  except ValueError: pass", 3),
        ("with a: pass", 1),
        ("return [x for x in a]", 2),
        ("return {x: y for x in a for y in b if x if y}", 4),
        ("return any(x for x in a if x and b)", 4),
        ("match a:\n    case 1: pass\n    case _: pass", 3),
        ("def inner():\n    if a: pass", 2),
    ],
)
def test_strict_complexity(body: str, complexity: int) -> None:
    [(_, function), *_] = code.list_functions(ast.parse(f"def f():\n  {body}"))
    assert code.strict_complexity(function) == complexity


def test_the_worst_function_is_first() -> None:
    found = code.most_complex([module("def simple(): pass\nclass A:\n  def worse(self):\n    return a or b")])
    assert found == [(2, "deployer/sample.py: A.worse"), (1, "deployer/sample.py: simple")]


def test_raises_of_one_exception_are_counted() -> None:
    text = "raise Settled(1)\nraise run.Settled\nraise ValueError\ntry: pass\nexcept Settled:\n  raise\nSettled(2)"
    assert code.count_raises([module(text)], "Settled") == 2


def test_writes_to_a_shared_context_are_counted() -> None:
    text = """
class Run:
    def note(self):
        self.record = 1
        self.other = 1
def step(run, other):
    run.record = run.record.but(x=1)
    run.work, y = 1, 2
    run.record += 1
    run.cloud = 1
    other.record = 1
    run.record.commit = 1
    print(run.work)
"""
    assert code.count_writes([module(text)], ["run"], ["record", "work"]) == 4


def test_fields_are_counted() -> None:
    text = """
class Work:
    "Text."
    LIMIT = 3
    a: int
    b: dict[str, Any] = field()
    def method(self) -> None:
        c: int = 1
class Other:
    a: int
"""
    assert code.count_fields([module(text)], ["Work"]) == {"Work": (2, 1)}


def test_names_that_cannot_be_chosen_freely_are_left_out() -> None:
    text = """
def one(): pass
def _one(): pass
def two_words(): pass
@group.command("x")
def command(): pass
class A:
    def __init__(self): pass
    @property
    def prop(self): pass
    @cached_property
    def cached(self): pass
    @prop.setter
    def prop(self, value): pass
    @staticmethod
    def three(): pass
"""
    names = code.named_functions([module(text)])
    assert [name for _, name in names] == ["one", "_one", "two_words", "three"]
    assert code.one_word_share(names) == 75


def test_the_same_seed_draws_the_same_names() -> None:
    names = [("deployer/a.py", f"name_{number}") for number in range(200)]
    assert code.draw_names(names, 1) == code.draw_names(names[::-1], 1)
    assert code.draw_names(names, 1) != code.draw_names(names, 2)
    assert len(set(code.draw_names(names, 1))) == 75
    assert len(code.draw_names(names[:3], 1)) == 3


CONTRACTS = """
[[tool.importlinter.contracts]]
type = "forbidden"
[[tool.importlinter.contracts]]
type = "layers"
layers = ["web | workers", "deployer.cli", "(deployer.a) : deployer.b", "deployer.package.core"]
"""


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("web", True),
        ("web.api", True),
        ("deployer.cli.wait", True),
        ("deployer.client", False),  # only begins alike
        ("deployer.a", True),
        ("deployer.b.c", True),
        ("deployer.package", True),  # a package above a layer
        ("deployer.package.other", False),
        ("deployer", True),
        ("deployer.__main__", True),
        ("deployer.forgotten", False),
    ],
)
def test_modules_without_a_layer(name: str, *, held: bool) -> None:
    known = layers.read_layers(CONTRACTS)
    assert len(known) == 4
    assert layers.modules_without_layer([name], known) == ([] if held else [name])


def test_layers_in_a_package_have_full_names() -> None:
    text = CONTRACTS.replace('type = "layers"', 'type = "layers"\ncontainers = ["deployer"]').replace(
        '"deployer.', '"'
    )
    assert layers.read_containers(text) == ("deployer",)
    assert layers.read_containers(CONTRACTS) == ()
    assert "deployer.cli" in {name for layer in layers.read_layers(text) for name in layer}


def test_the_name_of_a_module() -> None:
    assert layers.module_name(Path("deployer/cli/wait.py")) == "deployer.cli.wait"
    assert layers.module_name(Path("deployer/cli/__init__.py")) == "deployer.cli"


def test_a_trace_counts_modules_changes_and_returns_to_a_package() -> None:
    calls = [
        "workers/tasks.py",
        "deployer/queue/runner.py",
        "deployer/queue/items.py",
        "deployer/queue/items.py",
    ]
    trace = Trace(Path("/"), [*calls, "deployer/deployment/reconcile.py", "deployer/queue/items.py"])
    assert (len(trace.modules), trace.changes, trace.reentered_packages) == (4, 4, 1)
    assert Trace(Path("/"), calls).reentered_packages == 0
    assert Trace(Path("/")).reentered_packages == 0


def test_the_package_of_a_module() -> None:
    names = [
        "deployer/queue/runner.py",
        "deployer/templates/evaluation/x.py",
        "deployer/wiring.py",
        "workers/tasks.py",
    ]
    assert [package_of(each) for each in names] == [
        "deployer/queue", "deployer/templates", "deployer/wiring.py", "workers",
    ]  # fmt: skip


def test_ruff_s_json_is_read() -> None:
    rows = [
        {"message": f"`{name}` is too complex ({n} > 0)", "filename": "/r/a.py"}
        for name, n in (("f", 3), ("g", 12))
    ]
    assert worst_of_ruff(json.dumps(rows), Path("/r")) == (12, "a.py: g")
    with pytest.raises(ValueError, match="unknown form"):
        worst_of_ruff('[{"message": "too much"}]', Path("/r"))


@pytest.mark.parametrize(
    ("now", "limits", "sentences"),
    [
        (3, {"size": 3}, []),
        (2, {"size": 3}, []),
        (4, {"size": 3}, ["size: 4 is above the limit 3 (a.py)"]),
        (4, {}, ["size has no limit yet: python -m tools.numbers --lower"]),
    ],
)
def test_a_number_above_its_limit_is_reported(
    now: float, limits: dict[str, float], sentences: list[str]
) -> None:
    assert numbers_above_limit([Number("size", now, 1, "a.py")], limits) == sentences


def test_the_table_has_a_line_for_each_number() -> None:
    lines = format_table([Number("size", 3, 1, "a.py"), Number("layers", 20, None)], {"size": 3}).splitlines()
    assert [line.split() for line in lines] == [
        ["number", "now", "limit", "target", "where"],
        ["size", "3", "3", "1", "a.py"],
        ["layers", "20", "-", "-"],
    ]


def test_a_number_without_a_target_has_no_limit() -> None:
    assert numbers_above_limit([Number("layers", 20, None)], {}) == []


def test_a_push_is_traced() -> None:
    whole, sync = (trace_push(ROOT)[name] for name in ("whole", "sync"))
    assert {"workers/tasks.py", "deployer/redis_store/queue.py"} <= sync.modules < whole.modules
    assert not [each for each in whole.modules if each.startswith(("web/", "deployer/model/"))]
    assert 0 < sync.changes < whole.changes


def test_random_names_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--draw", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 75
