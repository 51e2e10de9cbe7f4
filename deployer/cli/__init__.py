"""The command line `deployer`: the group of all commands, which maps errors to a line of text with an exit code.

Exit codes: 0 success; 1 failure, with the reason in one line on stderr; 2 wrong usage; 130 interrupted.
"""

from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import click

from deployer.cli.installation import REDIS_URL_KEY
from deployer.model.errors import DeployerError, UnavailableError
from deployer.model.visible import visible

# The name of each command, its module below `deployer.cli`, and its line in the list of commands. The modules are only
# imported when a command runs, because all of them take several times as long as Python itself.
COMMANDS = {
    "approve": ("commands.approve", "Deploy a tag to production although the rules refuse it."),
    "config": ("commands.config", "Show every setting in force, with secrets masked."),
    "dead-letters": ("commands.dead_letters", "List, show, replay or discard work that failed for good."),
    "delete": (
        "commands.delete",
        "Delete a branch's development environment with everything that it deployed.",
    ),
    "doctor": ("commands.doctor", "Check settings, Redis, GitHub, AWS and processes, and suggest fixes."),
    "init": ("commands.init", "Write a starter deploy/ folder into a working copy."),
    "keep": ("commands.keep", "Postpone the expiry of a branch's environment, as if it were used now."),
    "lanes": ("commands.lanes", "Show the queues (lanes) that have work."),
    "orphans": (
        "commands.orphans",
        "List stacks whose branch or tag is gone from GitHub, and IAM roles without a stack.",
    ),
    "redeploy": ("commands.redeploy", "Deploy an environment again."),
    "repositories": ("commands.repositories", "Show repositories, and accept one that took over a name."),
    "resync": ("commands.resync", "Compare GitHub with AWS and queue what differs."),
    "scheduler": ("processes", "Run the scheduler: retries, lost dispatches, regular resyncs."),
    "secrets": ("commands.secrets", "Store and read secrets in AWS, with your own permissions there."),
    "status": ("commands.status", "Show every environment with its state."),
    "up": (
        "processes",
        "Run all processes on this machine, with an embedded Redis unless DEPLOYER_REDIS_URL is set.",
    ),
    "validate": ("commands.validate", "Check the deploy/ folder of a working copy, like a push of it."),
    "web": ("processes", "Run the web process: webhooks, API, dashboard."),
    "webhook": ("commands.webhook", "Install or check a repository's webhook."),
    "why": ("commands.why", "Show everything about one environment."),
    "worker": ("processes", "Run a Celery worker, which runs the tasks."),
}


class CommandError(click.ClickException):
    """Ends a command with one line on stderr and exit code 1."""

    def show(self, file: Any = None) -> None:
        """Print the line to stderr."""
        click.echo(f"deployer: {visible(self.message)}", file=file, err=file is None)


class ErrorMappingGroup(click.Group):
    """The group of commands. It imports a command when it runs, and maps every exception to a line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """The names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command; None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"deployer.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in sorted(COMMANDS.items())])

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
