"""`deployer secrets`: values that settings refer to, kept in AWS."""

import secrets as random
import sys

import click

from deployer.cli import output
from deployer.model.errors import ConfigError
from deployer.settings.reader import is_reference


@click.group()
def secrets() -> None:
    """Keep and read secrets in AWS, with your own rights there.

    NAME is ssm:/path/name or secretsmanager:name, or a setting such as DEPLOYER_GITHUB_TOKEN that is set to one.
    """


@secrets.command("set")
@click.argument("name")
@click.option("--generate", is_flag=True, help="Make one of 64 random hexadecimal digits; it is not shown.")
def set_(name: str, *, generate: bool) -> None:
    """Keep a secret: typed without an echo, or read from a pipe.

    What stood there before is replaced.
    """
    from deployer.aws.secrets import write_secret  # noqa: PLC0415  it brings boto3 along

    reference = _reference(name)
    write_secret(reference, random.token_hex(32) if generate else _typed(reference))
    click.echo(f"wrote {reference}")
    output.note("settings are read at a process's start: restart web, worker and scheduler")


@secrets.command("get")
@click.argument("name")
def get(name: str) -> None:
    """Print a secret, as the processes read it."""
    from deployer.aws.secrets import read_secret  # noqa: PLC0415

    click.echo(read_secret(_reference(name)))


def _typed(reference: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(reference, hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.read().strip()


def _reference(name: str) -> str:
    """Where a secret is kept.

    Raises:
        ConfigError: the setting does not say so.
    """
    from deployer.wiring import environment  # noqa: PLC0415

    env = environment()  # also for the variables by which boto3 finds the account
    if is_reference(name):
        return name
    value = env.get(name, "").strip()
    if is_reference(value):
        return value
    if value:
        raise ConfigError(
            f"{name} holds its value itself; set it to ssm:/path/name or secretsmanager:name first"
        )
    raise ConfigError(
        f"{name[:200]} is neither ssm:/path/name, secretsmanager:name, nor a setting that is set to one"
    )
