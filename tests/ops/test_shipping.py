"""Tests of what an installation is built from: image, Compose file, example of the settings, locks."""

import base64
import importlib.metadata
import json
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from dotenv import dotenv_values
from ops_kit import WEB, WORKER, Process, answer, environment

from deployer.local.embedded_redis import server_programs
from deployer.settings.loading import REQUIRED_FOR_WEB, REQUIRED_FOR_WORKER, load_config
from deployer.settings.values import Config
from sandbox.installation import call, free_port, wait_for

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if name != "redis"}
SETTINGS = {str(item.metadata["variable"]): item for item in fields(Config)}

# --- docker-compose.yml


def seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+)s", text)
    assert found, text
    return float(found[1])


def test_compose_has_every_process() -> None:
    assert set(SERVICES) == {"redis", "web", "worker", "scheduler", "flower"}


@pytest.mark.parametrize("name", OURS)
def test_our_services_share_one_image_and_the_settings(name: str) -> None:
    service = OURS[name]
    assert (service["image"], service["build"]) == ("deployer", ".")
    assert service["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert service["environment"]["DEPLOYER_REDIS_URL"] == "redis://redis:6379/0"
    assert "privileged" not in service
    assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("name", SERVICES)
def test_no_process_of_a_service_gains_rights(name: str) -> None:
    assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_watched_and_started_again(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    if name != "web":  # its check is the image's own
        assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert isinstance(SERVICES[name]["command"], list)  # a shell would keep signals from the process


@pytest.mark.parametrize("name", OURS)
def test_a_stop_leaves_more_time_than_the_process_takes(name: str) -> None:
    assert seconds(OURS[name]["stop_grace_period"]) >= load_config({}).drain_seconds + 10


def test_compose_holds_no_secret() -> None:
    ours = {"DEPLOYER_REDIS_URL", "DEPLOYER_WEB_HOST", "DEPLOYER_WEB_PORT"}
    for name, service in SERVICES.items():
        given = dict(service.get("environment", {}))
        if name == "flower":
            assert given.pop("FLOWER_BASIC_AUTH").startswith("${FLOWER_BASIC_AUTH:?")
        assert {variable for variable, value in given.items() if value is not None} <= ours
        assert "@" not in given.get("DEPLOYER_REDIS_URL", "")


WHO_MAY_KNOW = {
    "DEPLOYER_GITHUB_WEBHOOK_SECRET": {"web"},
    "DEPLOYER_AWS_EVENT_KEY": {"web"},
    "DEPLOYER_API_TOKEN": {"web"},
    "DEPLOYER_GITHUB_TOKEN": {"worker"},
    "DEPLOYER_GITHUB_APP_PRIVATE_KEY": {"worker"},
    "DEPLOYER_TARGETS": {"worker", "scheduler"},
    "AWS_SECRET_ACCESS_KEY": {"worker", "scheduler"},
    "FLOWER_BASIC_AUTH": {"flower"},
}


def test_each_container_knows_its_own_secrets_only() -> None:
    """What each process needs is tried in test_containers.py, by running it with these variables alone."""
    assert {name for name, item in SETTINGS.items() if item.metadata["secret"]} <= set(WHO_MAY_KNOW)
    for name, service in SERVICES.items():
        assert "env_file" not in service, "a file would give each container everything"
        given = set(service.get("environment", {}))
        assert given & set(WHO_MAY_KNOW) == {each for each, who in WHO_MAY_KNOW.items() if name in who}
        if name == "flower":
            assert given == {"DEPLOYER_REDIS_URL", "DEPLOYER_LOG_LEVEL", "FLOWER_BASIC_AUTH"}


def test_each_setting_reaches_a_container() -> None:
    given = {variable for service in SERVICES.values() for variable in service.get("environment", {})}
    assert {name for name in given if name.startswith("DEPLOYER_")} <= set(SETTINGS)
    # the first is of `up` alone, the second is never set by people
    assert set(SETTINGS) - given == {"DEPLOYER_DATA_DIR", "DEPLOYER_SANDBOX"}


def test_only_this_machine_reaches_what_is_published() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {
        "web": ["127.0.0.1:${DEPLOYER_WEB_PORT:-8080}:8080"],
        "flower": ["127.0.0.1:5555:5555"],
    }


def program(command: list[str], *more: str) -> list[str]:
    """A command of a container, with the programs of this environment."""
    return [str(Path(sys.executable).with_name(command[0])), *command[1:], *more]


@pytest.mark.parametrize("name", OURS)
def test_each_command_is_one_that_exists(tmp_path: Path, name: str) -> None:
    commands = [OURS[name]["command"]]
    check = OURS[name].get("healthcheck", {}).get("test", [])[1:]
    if check[:1] == ["deployer"]:
        commands.append(check)
    for command in commands:
        done = subprocess.run(
            program(command, "--help"), cwd=tmp_path, env=environment(WEB, WORKER), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout[:6]) == (0, "Usage:"), done.stderr


def test_the_redis_of_compose_keeps_its_data(tmp_path: Path, start: Callable[..., Process]) -> None:
    service = SERVICES["redis"]
    assert service["volumes"] == ["redis:/data"]
    assert "redis" in COMPOSE["volumes"]
    port = free_port()
    start(
        [str(next(server_programs())), *service["command"][1:], "--port", str(port), "--dir", str(tmp_path)]
    )
    with redis.Redis(port=port, decode_responses=True) as client:
        wait_for("Redis is ready", client.ping)
        wanted = {
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        assert client.config_get(*wanted) == wanted


def test_flower_lets_nobody_in_without_the_password(
    start: Callable[..., Process], redis_url: str, tmp_path: Path
) -> None:
    port = str(free_port())
    command = [part.replace("5555", port) for part in SERVICES["flower"]["command"]]
    settings = {**WORKER, "DEPLOYER_REDIS_URL": redis_url, "FLOWER_BASIC_AUTH": "ada:secret"}
    flower = start(program(command), settings)
    web = f"http://127.0.0.1:{port}"
    wait_for("Flower answers", lambda: answer(f"{web}/healthcheck"))
    for method, path in (
        ("GET", "/"),
        ("GET", "/tasks"),
        ("GET", "/api/tasks"),
        ("POST", "/api/task/async-apply/deployer.resync"),
    ):
        assert call(method, web + path, b"{}" if method == "POST" else None).status == 401
    basic = {"Authorization": "Basic " + base64.b64encode(b"ada:secret").decode()}
    assert call("GET", f"{web}/tasks", headers=basic).status == 200

    check = [part.replace("5555", port) for part in SERVICES["flower"]["healthcheck"]["test"][1:]]
    assert healthy(check, tmp_path)
    flower.send(signal.SIGTERM)
    assert flower.ends(8) == 0
    assert not healthy(check, tmp_path)


def healthy(check: list[str], directory: Path, **settings: str) -> bool:
    done = subprocess.run(
        program(check), cwd=directory, env=environment(settings), capture_output=True, check=False
    )
    return done.returncode == 0


# --- Dockerfile


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines if line.strip()]


def of(kind: str) -> list[str]:
    return [rest for name, rest in instructions() if name == kind]


def test_the_image_is_of_the_python_that_is_tested_and_of_no_root() -> None:
    images = [image.split()[0] for image in of("FROM")]
    assert images == ["python:3.11-slim"] * 2
    assert re.fullmatch(r"[1-9]\d+", of("USER")[-1])  # by its number, which a platform can check
    stages = [name for name, _ in instructions()]
    assert stages.index("USER") > len(stages) - 1 - stages[::-1].index("FROM")


def test_signals_reach_the_process() -> None:
    assert json.loads(of("CMD")[-1]) == SERVICES["web"]["command"]
    assert of("ENTRYPOINT") == []


def copied() -> list[str]:
    """What is copied from the checkout, as paths in it."""
    found: list[str] = []
    for rest in of("COPY"):
        if not rest.startswith("--from"):
            found += shlex.split(rest)[:-1]
    return found


def test_what_is_copied_exists_and_is_let_in() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    assert let_in == set(copied())
    assert [path for path in copied() if not (ROOT / path).exists()] == []


def test_the_image_has_every_package_of_the_product() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {each.rstrip("*") for each in pyproject["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages - {"sandbox"} == {path for path in copied() if (ROOT / path).is_dir()}
    needed = {pyproject["project"]["readme"], *pyproject["project"]["license-files"], "pyproject.toml"}
    assert needed <= set(copied())


def test_everything_in_the_image_is_installed_by_its_hash() -> None:
    installs = [part for rest in of("RUN") for part in rest.split("&&") if "pip install" in part]
    assert len(installs) == 3
    for each in installs:
        assert "--require-hashes" in each or ("--no-deps" in each and "--no-build-isolation" in each)


def test_what_builds_the_project_is_cut_from_the_lock(tmp_path: Path) -> None:
    [cut] = [part for rest in of("RUN") for part in rest.split("&&") if part.startswith("sed")]
    subprocess.run(
        ["sh", "-c", f"cd {ROOT} && {cut.replace('build.lock', str(tmp_path / 'build.lock'))}"], check=True
    )
    assert set(pins((tmp_path / "build.lock").read_text())) == {"setuptools"}


@pytest.mark.parametrize("port", ["", "own"])
def test_the_images_health_check(start: Callable[..., Process], tmp_path: Path, port: str) -> None:
    [text] = of("HEALTHCHECK")
    check = json.loads(text[text.index("[") :])
    number = str(free_port())
    settings = {"DEPLOYER_WEB_PORT": number} if port else {"DEPLOYER_WEB_PORT": ""}
    if not port:
        check[-1] = check[-1].replace("8080", number)
    assert not healthy(check, tmp_path, **settings)
    (tmp_path / "healthz").touch()
    start([sys.executable, "-m", "http.server", "--bind=127.0.0.1", number])
    wait_for("it answers", lambda: answer(f"http://127.0.0.1:{number}/healthz"))
    assert healthy(check, tmp_path, **settings)
    assert healthy(check, tmp_path, **settings, http_proxy="http://127.0.0.1:1")
    (tmp_path / "healthz").unlink()
    assert not healthy(check, tmp_path, **settings)


# --- .env.example


MADE = {"DEPLOYER_SANDBOX"}  # by `deployer up --sandbox`, never by people


def example() -> dict[str, tuple[bool, str, str]]:
    """Variable to (whether it is in force, its value, the line above it)."""
    found = {}
    above = ""
    for line in (ROOT / ".env.example").read_text().splitlines():
        if match := re.fullmatch(r"(#?)([A-Z][A-Z0-9_]*)=(.*)", line):
            found[match[2]] = (not match[1], match[3], above)
        above = line
    return found


def test_the_example_has_every_setting_and_no_other() -> None:
    assert {name for name in example() if name.startswith("DEPLOYER_")} == set(SETTINGS) - MADE


def test_the_example_explains_each_in_a_line() -> None:
    assert [name for name, (_, _, above) in example().items() if not above.startswith("# ")] == []


def test_the_example_shows_the_defaults_and_no_secret() -> None:
    shown = {name: value for name, (_, value, _) in example().items()}
    assert load_config(shown) == load_config({})
    for name, item in SETTINGS.items():
        if name in MADE:
            continue
        default = load_config({}).shown()[name]
        assert shown[name] == ("" if item.metadata["secret"] else default.removesuffix(".0"))


def test_required_settings_are_empty_in_the_example() -> None:
    required = {SETTINGS_BY_ATTRIBUTE[name] for name in (*REQUIRED_FOR_WEB, *REQUIRED_FOR_WORKER)}
    in_force = {name for name, (yes, _, _) in example().items() if yes}
    assert in_force == required | {"DEPLOYER_GITHUB_TOKEN"}
    assert dotenv_values(ROOT / ".env.example") == dict.fromkeys(in_force, "")


SETTINGS_BY_ATTRIBUTE = {item.name: variable for variable, item in SETTINGS.items()}


def test_a_filled_in_example_is_never_committed() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()


# --- locks

ALL, RUN = ((ROOT / name).read_text() for name in ("requirements.lock", "requirements-run.lock"))


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Package to version, each with at least one hash."""
    text = re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", "")
    found = {}
    for line in text.splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*])?==([^ ;]+)", line)
        assert match, line
        assert "--hash=sha256:" in line
        found[plain(match[1])] = match[2]
    return found


def dependencies(text: list[str]) -> set[str]:
    return {plain(re.split(r"[\[<>=!~; ]", each)[0]) for each in text} - {"deployer"}


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    runtime = dependencies(project["dependencies"])
    assert runtime <= set(pins(RUN))
    extra = {each for some in project["optional-dependencies"].values() for each in dependencies(some)}
    assert runtime | extra <= set(pins(ALL))


def test_what_audits_is_pinned_and_apart() -> None:
    """`make audit` has an environment of its own: neither the image nor the tests need what it installs."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    audit = set(pins((ROOT / "requirements-audit.lock").read_text()))
    assert dependencies(groups["audit"]) == {"pip-audit"} <= audit
    assert "pip-audit" not in pins(ALL)


def test_what_make_lowest_tests_are_the_lower_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = pins((ROOT / "requirements-lowest.lock").read_text())
    bounds = [*project["dependencies"], *project["optional-dependencies"]["sandbox"]]
    bounds += project["optional-dependencies"]["dev"]
    for each in bounds:
        name, bound = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*])?(?:[>=]=([0-9.]+))?", each).groups()  # type: ignore[union-attr]
        if bound:
            found = oldest[plain(name)].split(".")[: len(bound.split("."))]
            assert ".".join(found) == bound, f"run make lock: {each}"
    assert ".venv-lowest/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_image_runs_what_was_tested() -> None:
    assert pins(RUN).items() <= pins(ALL).items()


def test_the_image_needs_nothing_that_only_tests_install(tmp_path: Path) -> None:
    """What each process imports, also late, comes from the run lock."""
    code = (
        "import sys, web.wsgi, web.gunicorn_conf, workers.celery, workers.drain, workers.scheduler, deployer.cli.up;"
        "import kombu.transport.redis, flower.command, gunicorn.app.wsgiapp, gunicorn.workers.gthread;"
        "import celery.bin.celery, celery.bin.worker, celery.concurrency.prefork, celery.worker.worker;"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(WEB, WORKER), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    homes = importlib.metadata.packages_distributions()
    used = {plain(home) for module in done.stdout.split() for home in homes.get(module, [])}
    assert "celery" in used
    # setuptools puts a finder of its own into every process of an environment where it is installed
    assert used - set(pins(RUN)) - {"deployer", "setuptools"} == set()
