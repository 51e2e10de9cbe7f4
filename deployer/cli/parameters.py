"""The types of arguments, with the option `--json`."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from deployer.model.durations import parse_duration
from deployer.model.environments import Repository
from deployer.model.errors import PayloadError
from deployer.model.refs import Ref, parse_sha_prefix

F = TypeVar("F", bound=Callable[..., Any])


class RepositoryType(click.ParamType):  # type: ignore[type-arg]  # no generic before click 8.2
    """`owner/name`."""

    name = "owner/repo"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Repository:
        """See `click.ParamType.convert`."""
        try:
            return Repository.parse(str(value))
        except PayloadError as error:
            self.fail(str(error), param, ctx)


class RefType(click.ParamType):  # type: ignore[type-arg]  # no generic before click 8.2
    """A branch's short name, a full ref, `staging` or `production`; the text stays as typed."""

    name = "ref"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See `click.ParamType.convert`."""
        try:
            Ref.from_user_input(str(value))
        except PayloadError as error:
            self.fail(str(error), param, ctx)
        return str(value)


class TagType(click.ParamType):  # type: ignore[type-arg]  # no generic before click 8.2
    """A tag, as its short name or as a full ref."""

    name = "tag"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Ref:
        """See `click.ParamType.convert`."""
        try:
            return value if isinstance(value, Ref) else Ref.of_tag(str(value))
        except PayloadError as error:
            self.fail(str(error), param, ctx)


class ShaType(click.ParamType):  # type: ignore[type-arg]  # no generic before click 8.2
    """A commit id or its first digits, in lower case."""

    name = "sha"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """See `click.ParamType.convert`."""
        try:
            return parse_sha_prefix(str(value))
        except PayloadError as error:
            self.fail(str(error), param, ctx)


class DurationType(click.ParamType):  # type: ignore[type-arg]  # no generic before click 8.2
    """A duration such as `12h`, converted to seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See `click.ParamType.convert`."""
        try:
            return parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def json_option(command: F) -> F:
    """Add the option `--json`."""
    return click.option("--json", "json_", is_flag=True, help="Print JSON and nothing else.")(command)
