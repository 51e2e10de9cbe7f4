"""Records what users and their programs see: the API, `--json`, metrics, names of tasks, tokens and exit codes.

Everything is of one small world, which is the same each time. Times, durations and random ids are replaced by what
they are, so that the record is the same at any time and on any machine.
"""

import difflib
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import click
from celery import Celery
from prometheus_client.parser import text_string_to_metric_families

from deployer.cli import main
from deployer.environment.context import ReconcileContext
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Repository
from deployer.model.errors import TransientError
from deployer.queue.items import Cause, Task, Work
from tests.cli.cli_world import PIPELINE, REPOSITORY, SETTINGS, World
from tests.doubles import FakeCloud
from web.application import create_app
from workers.tasks import register

FOLDER = Path(__file__).parent
TOKEN = "the-token-of-the-baseline"
MORE_SETTINGS = {
    "DEPLOYER_API_TOKEN": TOKEN,
    "DEPLOYER_AWS_EVENT_KEY": "the-key-of-the-baseline",
    "DEPLOYER_PUBLIC_URL": "https://deployer.example",
}
MAIN, X, Y, V1, V2 = "refs/heads/main", "refs/heads/x", "refs/heads/y", "refs/tags/v1", "refs/tags/v2"
A, B, C, D = ("a" * 40, "b" * 40, "c" * 40, "d" * 40)
# values that differ from run to run, and what replaces them
VARIABLE = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z| UTC|\+00:00)?"), "<time>"),
    (re.compile(r"\b(in )?\d+(\.\d+)? (ms|s|min|h|d)\b"), "<duration>"),
    (re.compile(r"\b\d{13}\b"), "<number>"),  # a fencing token, which begins at the time in ms
    (re.compile(r"(?<=-)[0-9a-f]{12}\b|^[0-9a-f]{12}$"), "<id>"),
    (re.compile(r"(?<=line )\d+"), "<line>"),
)
RANDOM_FIELDS = {"traceback", "program", "python"}  # and text that depends on the machine


def stable(value: Any, name: str = "") -> Any:
    """A value of JSON without what differs from run to run."""
    if isinstance(value, dict):
        return {key: stable(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [stable(each) for each in value]
    if isinstance(value, float):
        return "<number>"
    if isinstance(value, str):
        if name in RANDOM_FIELDS and value:
            return "<text>"
        for pattern, instead in VARIABLE:
            value = pattern.sub(instead, value)
    return value


# --- the world -----------------------------------------------------------------------------------------------------


def small_world() -> World:
    """A repository with each kind of environment and each kind of end, and some work that waits."""
    world = World(SETTINGS | MORE_SETTINGS)
    world.push(MAIN, A, delivery="d-main")
    world.push(X, B, delivery="d-x")
    world.push(V1, A, delivery="d-v1")
    world.push("refs/heads/NOBUILD-notes", C, delivery="d-skipped")
    world.cloud.fail_next_execution("make test: exit status 2")
    world.push(Y, C, delivery="d-y")
    world.push("refs/heads/gone", D, delivery="d-gone")
    world.host.remove(REPOSITORY, "refs/heads/gone")
    world.deliver("refs/heads/gone", "0" * 40, "d-deleted")
    world.work()
    # a tag at a commit that is on no branch is refused
    made_at = time.time() + 60  # after the start of production's execution
    world.host.push(REPOSITORY, V2, "e" * 40, files={"pipeline.yml": PIPELINE}, parent="", at=made_at)
    world.host._repos[REPOSITORY.key].merged.discard("e" * 40)
    world.deliver(V2, "e" * 40, "d-v2")
    world.work()
    world.host.fail_next(KeyError("StackId"), method="head")  # type: ignore[arg-type]
    world.push("refs/heads/bug", D, delivery="d-bug")
    world.host.fail_next(TransientError("GitHub answers 502"), times=99, method="head")
    world.push("refs/heads/fault", D, delivery="d-fault")
    world.host._orders.clear()
    world.deployer.submitter.resync(REPOSITORY)
    world.work()
    for name in ("worker", "scheduler"):
        world.lanes.send_heartbeat(name, 60)
    world.deliver(X, B, "d-waits")
    return world


# --- the API and the metrics ---------------------------------------------------------------------------------------

Call = tuple[str, str, object]


def api_calls(world: World) -> list[Call]:
    """Every operation of the API, with its usual answers and its refusals."""
    letter = world.lanes.dead_letters()[0].id
    names = {each.environment: each.stack_name for each in world.lanes.environments()}
    x, production = names[f"development:{X}"], names["production"]
    return [
        ("GET", "/environments", None),
        ("GET", "/environments?deleted=1&repository=acme/api", None),
        ("GET", f"/environments/{x}", None),
        ("GET", "/environments/nobody", None),
        ("GET", "/repositories", None),
        ("GET", "/deliveries/d-y", None),
        ("GET", "/deliveries/d-waits", None),
        ("GET", "/deliveries/nobody", None),
        ("GET", "/activity", None),
        ("GET", "/activity?goal=d-x", None),
        ("GET", "/activity?limit=0", None),
        ("GET", "/lanes", None),
        ("GET", "/dead-letters", None),
        ("GET", "/dead-letters?kind=TransientError", None),
        ("GET", f"/dead-letters/{letter}", None),
        ("GET", "/dead-letters/nobody", None),
        ("POST", "/resync", {"repository": "acme/api"}),
        ("POST", "/resync", {"all": True}),
        ("POST", "/resync", {"repository": "not a name"}),
        ("POST", f"/environments/{x}/redeploy", {}),
        ("POST", f"/environments/{x}/redeploy", {"sha": B}),
        ("POST", f"/environments/{x}/redeploy", {"shaa": B}),
        ("POST", f"/environments/{x}/keep", {"for": "3d"}),
        ("POST", f"/environments/{production}/keep", {"for": "3d"}),
        ("POST", f"/environments/{production}/approve", {"tag": "v2", "commit": "e" * 40, "by": "ada"}),
        ("POST", f"/environments/{production}/approve", {"tag": "v2"}),
        ("POST", f"/environments/{x}/approve", {"tag": "v2", "commit": "e" * 40}),
        ("DELETE", f"/environments/{x}", None),
        ("DELETE", f"/environments/{production}", None),
        ("POST", f"/dead-letters/{letter}/replay", None),
        ("POST", "/dead-letters/replay", {"all": True, "kind": "Nothing"}),
        ("DELETE", "/dead-letters/nobody", None),
        ("POST", "/dead-letters/replay", {"kind": "TransientError"}),
        ("POST", "/dead-letters/discard", {"all": True}),
        ("GET", "/openapi.json", None),
    ]


def api(world: World) -> dict[str, Any]:
    """What every operation of the API answers, and what strangers are answered."""
    app = create_app(world.deployer)
    client, found = app.test_client(), {}
    called = set()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for method, path, body in api_calls(world):
        answer = client.open(f"/api/v1{path}", method=method, json=body, headers=headers)
        value = stable(answer.get_json())
        if (
            path == "/openapi.json"
        ):  # its schemas say the same as the answers; tests/web/test_openapi.py compares them
            value = {each: sorted(operations) for each, operations in value["paths"].items()}
        told = " ".join([method, str(stable(path)), *([json.dumps(body)] if body is not None else [])])
        found[told] = {"status": answer.status_code, "json": value}
        called.add((method, str(_rule(app, method, f"/api/v1{path}"))))
    missing = {
        (method, str(rule))
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if str(rule).startswith("/api/v1") and method in {"GET", "POST", "PUT", "PATCH", "DELETE"}
    } - called
    assert not missing, f"the baseline calls these operations not yet: {sorted(missing)}"
    stranger = client.get("/api/v1/environments")
    found["GET /environments, without a token"] = {
        "status": stranger.status_code,
        "json": stable(stranger.get_json()),
    }
    return found


def _rule(app: Any, method: str, path: str) -> object:
    return app.url_map.bind("").match(path.partition("?")[0], method, return_rule=True)[0]


def metrics(world: World) -> dict[str, Any]:
    """Type and labels of every metric."""
    client = create_app(world.deployer).test_client()
    text = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).get_data(as_text=True)
    return {
        family.name: {
            "type": family.type,
            "labels": sorted({key for each in family.samples for key in each.labels}),
        }
        for family in text_string_to_metric_families(text)
        if not family.name.startswith(("process_", "python_"))
    }


# --- the command line ----------------------------------------------------------------------------------------------


def commands(group: click.Group, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command that prints JSON."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, (*before, name))
        elif any(each.name == "json_" for each in command.params):
            yield (*before, name)


def command_lines(world: World) -> list[str]:
    """Every command that prints JSON, with its usual ends and its refusals; without `--json`."""
    letter = world.lanes.dead_letters()[0].id
    return [
        "status",
        "status acme/api --all",
        "status not-a-name",
        "why acme/api x",
        "why acme/api y",
        "why acme/api refs/tags/v1",
        "why acme/api nobody",
        "lanes",
        "repositories list",
        "webhook check acme/api",
        "orphans",
        "doctor",
        "config",
        "validate nowhere",
        "dead-letters list",
        f"dead-letters show {letter}",
        "dead-letters show nobody",
        "dead-letters replay --all --dry-run",
        f"dead-letters replay {letter}",
        "dead-letters discard --all --yes",
        "resync acme/api --dry-run",
        "resync acme/api",
        "resync --all",
        "redeploy acme/api x",
        f"redeploy acme/api x --sha {B}",
        "redeploy acme/api nobody",
        "keep acme/api x --for 3d",
        "keep acme/api main --for 3d",
        "approve acme/api v2",
        "delete acme/api y",
        "delete acme/api main",
        "status --nonsense",
    ]


def command_line(world: World) -> dict[str, Any]:
    """Exit code and output of every command that prints JSON."""
    found, called = {}, set()
    with mock.patch("deployer.wiring.build", return_value=world.deployer):
        for line in command_lines(world):
            words = line.split()
            called |= {each for each in commands(main) if tuple(words[: len(each)]) == each}
            result = world.run(*words, "--json")
            told: dict[str, Any] = {"exit": result.exit_code}
            if result.stdout.strip():
                told["json"] = stable(json.loads(result.stdout))
            if result.exit_code:
                told["stderr"] = stable(result.stderr.strip().splitlines()[-1:])
            found[str(stable(line))] = told
    missing = set(commands(main)) - called
    assert not missing, f"the baseline runs these commands not yet: {sorted(missing)}"
    return found


# --- names and tokens ----------------------------------------------------------------------------------------------


def task_names(world: World) -> list[str]:
    """The names under which Celery knows the tasks."""
    app = Celery("baseline", set_as_current=False)
    # not from `app.tasks`, which also has the tasks that other applications of this process share
    return sorted(task.name for task in register(app, world.deployer).values())


def tokens() -> dict[str, str]:
    """The idempotency tokens of some work: AWS recognizes a repeat by them, also if another version makes it."""
    hello = Repository.parse("acme/hello")
    works = {
        "a push": Work.of("development:refs/heads/x", goal="d-1", sha=A),
        "another goal": Work.of("development:refs/heads/x", goal="d-2", sha=A),
        "another commit": Work.of("development:refs/heads/x", goal="d-1", sha=B),
        "a deletion that is ordered again": Work.of(
            "development:refs/heads/x", goal="d-1", sha=A, deletions=2
        ),
        "a redeployment": Work.of("staging", cause=Cause.REDEPLOY, goal="redeploy-1", sha=A),
        "a tag": Work.of("production", goal="d-3", ref=V1, sha=A),
    }
    records: dict[str, Callable[[EnvironmentRecord], EnvironmentRecord]] = {
        "": lambda record: record,
        ", after two teardowns": lambda record: record.but(generation=2),
        ", with the stack of an earlier release": lambda record: record.but(stack_name="hello-x-0123456789"),
    }
    found = {}
    for name, work in works.items():
        environment = Environment.from_key(hello, work.environment)
        for more, change in records.items():
            record = change(EnvironmentRecord(str(hello), work.environment, environment.stack_name))
            context = ReconcileContext(
                environment, work, record, lambda: None, FakeCloud(), 4, lambda: False, 0.0
            )
            for step in ("provision", "update", "trigger", "delete"):
                found[f"{name}{more}: {step}"] = context.idempotency_token(step)
    return found


def snapshot() -> dict[str, Any]:
    """Everything, by the name of its file."""
    logging.disable()  # the faults are wanted, and their tracebacks would hide a difference
    try:
        return _snapshot()
    finally:
        logging.disable(logging.NOTSET)


def _snapshot() -> dict[str, Any]:
    world = small_world()
    names = {
        "metrics": metrics(world),
        "tasks": task_names(world),
        "steps": sorted(map(str, Task)),
        "tokens": tokens(),
    }
    return {"api": api(world), "cli": command_line(small_world()), "names": names}


def as_text(part: object) -> str:
    """A part as its file has it."""
    return json.dumps(part, indent=1, ensure_ascii=False) + "\n"


def differences(name: str, part: object) -> str:
    """How a part differs from its file, in lines; empty where it does not."""
    file = FOLDER / f"{name}.json"
    before = file.read_text() if file.exists() else ""
    lines = difflib.unified_diff(
        before.splitlines(),
        as_text(part).splitlines(),
        f"{file.name}, as committed",
        f"{file.name}, now",
        n=4,
        lineterm="",
    )
    return "\n".join(lines)
