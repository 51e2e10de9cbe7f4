"""The command line `deployer`: the group of all commands, which maps errors to a line of text with an exit code.

Exit codes: 0 success; 1 failure, with the reason in one line on stderr; 2 wrong usage; 130 interrupted.
"""

from typing import Any
from urllib.parse import urlsplit

import click

from deployer.cli import processes
from deployer.cli.commands.approve import approve
from deployer.cli.commands.config import config
from deployer.cli.commands.dead_letters import dead_letters
from deployer.cli.commands.delete import delete
from deployer.cli.commands.doctor import doctor
from deployer.cli.commands.init import init
from deployer.cli.commands.keep import keep
from deployer.cli.commands.lanes import lanes
from deployer.cli.commands.orphans import orphans
from deployer.cli.commands.redeploy import redeploy
from deployer.cli.commands.repositories import repositories
from deployer.cli.commands.resync import resync
from deployer.cli.commands.secrets import secrets
from deployer.cli.commands.status import status
from deployer.cli.commands.validate import validate
from deployer.cli.commands.webhook import webhook
from deployer.cli.commands.why import why
from deployer.cli.installation import REDIS_URL_KEY
from deployer.model.errors import DeployerError, UnavailableError
from deployer.model.visible import visible


class CommandError(click.ClickException):
    """Ends a command with one line on stderr and exit code 1."""

    def show(self, file: Any = None) -> None:
        """Print the line to stderr."""
        click.echo(f"deployer: {visible(self.message)}", file=file, err=file is None)


class ErrorMappingGroup(click.Group):
    """The group of commands. It maps every exception to a line of text and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and raise only exceptions that click handles."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            ctx.exit(130)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            raise CommandError(_format_error(error, ctx)) from error


@click.group(
    cls=ErrorMappingGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="deployer")
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")
def main(*, debug: bool) -> None:  # the group reads it from the context when it maps an error
    """A pipeline for every GitHub branch."""


def _format_error(error: Exception, ctx: click.Context) -> str:
    """Format an error as one line, with a remedy if one is known."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, UnavailableError):
        where = _without_credentials(ctx.meta.get(REDIS_URL_KEY, ""))
        return f"{text}; start Redis at {where}, or correct DEPLOYER_REDIS_URL"
    if isinstance(error, (DeployerError, OSError)):
        return text
    return f"unexpected {type(error).__name__}: {text[:300]}; deployer --debug shows where"


def _without_credentials(url: str) -> str:
    """Return host and port of a URL without user and password, or the path of a socket."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or parts.path or "its address"


for _command in (
    *processes.PROCESS_COMMANDS,
    status,
    why,
    resync,
    redeploy,
    approve,
    delete,
    keep,
    dead_letters,
    lanes,
    orphans,
    repositories,
    webhook,
    doctor,
    validate,
    init,
    secrets,
    config,
):
    main.add_command(_command)
