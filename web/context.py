"""The application's parts, the caller: what a request handler needs."""

from typing import cast

from flask import current_app, g

from deployer.wiring import Deployer

TOKEN = "token"  # noqa: S105  the principal of whoever has the API token


def deployer() -> Deployer:
    """Return the parts of the current application."""
    return cast(Deployer, current_app.extensions["deployer"])


def principal() -> str:
    """Return the caller: `TOKEN`, `NAME via proxy`, `sandbox`, or an empty text for a public path."""
    return cast(str, g.get("principal", ""))
