"""`deployer secrets`: store secrets in AWS."""

import secrets as random
import sys

import click

from deployer.cli import output
from deployer.model.errors import ConfigError
from deployer.settings.dotenv import read_environment
from deployer.settings.reader import is_reference


@click.group()
def secrets() -> None:
    """Store and read secrets in AWS, with your own permissions there.

    NAME is ssm:/path/name or secretsmanager:name, or a setting such as DEPLOYER_GITHUB_TOKEN whose value is one of
    these.
    """


@secrets.command("set")
@click.argument("name")
@click.option("--generate", is_flag=True, help="Generate 64 random hexadecimal digits, which are not shown.")
def set_(name: str, *, generate: bool) -> None:
    """Store a secret, which is typed without echo or read from a pipe.

    An existing value is replaced.
    """
    from deployer.aws.secrets import write_secret  # noqa: PLC0415  it imports boto3

    reference = _find_reference(name)
    write_secret(reference, random.token_hex(32) if generate else _read_value(reference))
    click.echo(f"wrote {reference}")
    output.print_note("processes read settings only when they start: restart web, worker and scheduler")


@secrets.command("get")
@click.argument("name")
def get(name: str) -> None:
    """Print a secret as deployer's processes read it."""
    from deployer.aws.secrets import read_secret  # noqa: PLC0415

    click.echo(read_secret(_find_reference(name)))


def _read_value(reference: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(reference, hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.read().strip()


def _find_reference(name: str) -> str:
    """Return the reference of a secret.

    Raises:
        ConfigError: the value of the setting is not a reference.
    """
    env = read_environment()  # it also sets the variables from which boto3 reads the account
    if is_reference(name):
        return name
    value = env.get(name, "").strip()
    if is_reference(value):
        return value
    if value:
        raise ConfigError(
            f"{name} contains the secret itself; set it to ssm:/path/name or secretsmanager:name first"
        )
    raise ConfigError(
        f"{name[:200]} is neither ssm:/path/name, nor secretsmanager:name, nor a setting whose value is one of these"
    )
