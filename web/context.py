"""What a request handler needs of the application it runs in, and of whoever asks."""

from typing import cast

from flask import current_app, g

from deployer.wiring import Deployer

TOKEN = "token"  # noqa: S105  the principal of whoever has the API token


def deployer() -> Deployer:
    """The wired parts that the application was made with."""
    return cast(Deployer, current_app.extensions["deployer"])


def principal() -> str:
    """Who asks: `TOKEN`, `NAME via proxy`, `sandbox`, or nothing where the address is open to strangers."""
    return cast(str, g.get("principal", ""))
