"""What a request handler needs of the application it runs in."""

from typing import cast

from flask import current_app

from deployer.bootstrap import Deployer


def deployer() -> Deployer:
    """The wired parts that the application was made with."""
    return cast(Deployer, current_app.extensions["deployer"])
