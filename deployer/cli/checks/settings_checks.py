"""Checks the settings."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deployer.cli.checks.groups import FAIL, OK, WARN, Check
from deployer.model.environments import Kind
from deployer.model.errors import ConfigError
from deployer.settings import dotenv as dotfile
from deployer.settings.iam_fence import (
    FENCE_REMEDY,
    fence_warnings,
    missing_fence_settings,
    unfenced_sentence,
)
from deployer.settings.loading import (
    REQUIRED_FOR_WEB,
    REQUIRED_FOR_WORKER,
    require_settings,
    unknown_variables,
)
from deployer.settings.startup import check_secrets

if TYPE_CHECKING:
    from deployer.wiring import Deployer


def check_settings(deployer: "Deployer") -> Iterator[Check]:
    config, missing = deployer.config, []
    for name in dict.fromkeys((*REQUIRED_FOR_WEB, *REQUIRED_FOR_WORKER)):
        try:
            require_settings(config, name)
        except ConfigError as error:
            missing.append(Check("settings", FAIL, str(error), "set it; see the README"))
    yield from missing
    for value, variable, lack in (
        (
            config.api_token or config.trusted_proxy_header,
            "DEPLOYER_API_TOKEN",
            "the API, pages and metrics are disabled",
        ),
        (
            config.aws_event_key,
            "DEPLOYER_AWS_EVENT_KEY",
            "events from AWS are refused, so deployer polls AWS",
        ),
        (
            config.public_url,
            "DEPLOYER_PUBLIC_URL",
            "commit statuses have no link to the dashboard, and missed deliveries are not found",
        ),
    ):
        if not value:
            yield Check("settings", WARN, f"{variable} is not set: {lack}", "set it, unless this is intended")
    try:
        check_secrets(config)
    except ConfigError as error:
        yield Check("settings", FAIL, str(error), "set another one; the web process does not start with it")
    for variable, meant in unknown_variables(dotfile.read_dotenv() | os.environ).items():
        remedy = f"did you mean {meant}?" if meant else "remove it; deployer config lists all settings"
        yield Check("settings", WARN, f"{variable} is not a setting of deployer", remedy)
    if not missing:
        yield Check("settings", OK, "all required settings are set")


def check_fence(deployer: "Deployer") -> Iterator[Check]:
    """Check from the settings whether IAM limits the permissions of branch code in AWS."""
    config = deployer.config
    if config.sandbox:
        return  # its AWS is simulated
    targets = {kind: deployer.clouds.target(kind) for kind in Kind}
    if gaps := missing_fence_settings(targets):
        state = WARN if config.unfenced else FAIL
        start = "" if config.unfenced else "; workers do not start"
        yield Check("fence", state, f"{unfenced_sentence(gaps)}{start}", FENCE_REMEDY)
    elif config.unfenced:
        remedy = "remove it, so that the next start notices a missing service role or boundary"
        yield Check(
            "fence",
            WARN,
            "DEPLOYER_UNFENCED is yes, although development has a service role and a boundary",
            remedy,
        )
    weak = list(fence_warnings(targets))
    for kind, found, remedy in weak:
        yield Check(f"fence {kind}", WARN, found, remedy)
    if not (gaps or config.unfenced or weak):
        yield Check("fence", OK, "every kind of environment has a service role and a boundary")
