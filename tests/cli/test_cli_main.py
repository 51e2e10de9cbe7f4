"""Tests of errors, exit codes and terminal output."""

import io
import json
import os
import subprocess
import sys
import time

import click
import pytest
import rich.console
from cli_world import SETTINGS, World
from click.testing import CliRunner

from deployer.cli import COMMANDS, main, output
from deployer.redis_store.connection import connect
from deployer.redis_store.queue import RedisQueueStore


def test_help_names_every_command() -> None:
    text = CliRunner().invoke(main, ["--help"]).stdout
    assert [command for command in COMMANDS if f"\n  {command} " not in text] == []


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"], prog_name="deployer")
    assert result.exit_code == 0
    assert main.get_command(click.Context(main), command).help


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, click.testing, deployer.cli as c; click.testing.CliRunner().invoke(c.main, ['--help']);"
        "print([m for m in ('boto3', 'celery', 'github', 'redis', 'rich', 'cfnlint') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_redis_away_is_one_line_that_names_the_host_and_no_password(world: World) -> None:
    vars(world.deployer)["lanes"] = RedisQueueStore(connect("redis://user:hunter2@127.0.0.1:1/0"))
    for command in (["status"], ["lanes", "--json"], ["why", "acme/api", "x"], ["dead-letters", "list"]):
        result = world.run(*command)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == (
            "deployer: Redis does not answer (ConnectionError); start Redis at redis.example:6399,"
            " or correct DEPLOYER_REDIS_URL\n"
        )


def test_an_unexpected_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[object]:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(world.lanes, "lanes", broken)
    result = world.run("lanes")
    assert result.exit_code == 1
    assert result.stderr == "deployer: unexpected RuntimeError: two lines; deployer --debug shows where\n"
    assert isinstance(world.run("--debug", "lanes").exception, RuntimeError)


def test_interrupted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> list[object]:
        raise KeyboardInterrupt

    monkeypatch.setattr(world.lanes, "lanes", interrupted)
    result = world.run("lanes")
    assert (result.exit_code, result.output) == (130, "")


def test_a_malformed_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.chdir(str(tmp_path))
    monkeypatch.setenv("DEPLOYER_WEB_PORT", "eighty")
    result = CliRunner().invoke(main, ["status"])
    assert result.exit_code == 1
    assert result.stderr.startswith("deployer: DEPLOYER_WEB_PORT is 'eighty'")
    assert result.stderr.count("\n") == 1


def test_config_masks_secrets(world: World) -> None:
    text = world.run("config").stdout
    shown = world.json("config")
    assert shown["DEPLOYER_REDIS_URL"] == "redis://user:********@redis.example:6399/0"
    assert shown["DEPLOYER_GITHUB_TOKEN"] == "********"
    assert shown["DEPLOYER_API_TOKEN"] == ""
    for secret in ("hunter2", SETTINGS["DEPLOYER_GITHUB_WEBHOOK_SECRET"]):
        assert secret not in text
        assert secret not in json.dumps(shown)


def test_a_table_at_a_terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    console = rich.console.Console(file=screen, width=80, force_terminal=True, color_system="standard")
    monkeypatch.setattr(rich.console, "Console", lambda **_options: console)
    monkeypatch.setattr(output.sys.stdout, "isatty", lambda: True, raising=False)
    branch = "feature/" + "long-" * 20
    output.print_table(
        ["Environment", "State"], [[branch, "failed"], ["[red]x[/red]\x1b[2J", ""]], empty="none"
    )
    lines = [click.unstyle(line) for line in screen.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    assert "[red]x[/red]\\u001b[2J" in lines[-1]
    assert "\x1b[31mfailed" in screen.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (7300, "2 h"), (90000, "1 d"), (-5, "0 s")],
)
def test_spans(seconds: float, words: str) -> None:
    assert output.span(seconds) == words


def test_a_closed_pipe_is_no_error() -> None:
    started = time.monotonic()
    command = [sys.executable, "-c", "from deployer.cli import main; main(prog_name='deployer')", "config"]
    done = subprocess.run(
        ["sh", "-c", '"$@" | true', "sh", *command],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_command_itself_says(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").splitlines()[0] == COMMANDS[name][1]


def test_help_imports_no_command() -> None:
    script = (
        "import sys; from deployer.cli import main; main(['--help'], standalone_mode=False);"
        "print(sorted(each for each in sys.modules if each.startswith('deployer.')))"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    below = ["cli", "cli.installation", "model", "model.errors", "model.visible"]
    assert shown.splitlines()[-1] == str([f"deployer.{each}" for each in below])
