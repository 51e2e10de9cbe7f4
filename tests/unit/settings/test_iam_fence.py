"""The IAM fence: gaps in the settings are reported, and no worker starts without the fence."""

from typing import Any

import pytest
import yaml

from deployer.model.environments import Kind
from deployer.model.errors import ConfigError
from deployer.settings.iam_fence import fence_warnings, missing_fence_settings
from deployer.settings.loading import load_config
from deployer.settings.startup import check_fence
from deployer.settings.values import Config

IAM = "arn:aws:iam::222222222222"


def target(kind: str, **changes: Any) -> dict[str, Any]:
    """A kind's target as infra/target.yml makes it; None takes a key away."""
    made = {
        "role": f"{IAM}:role/deployer-own/deployer-{kind}",
        "external_id": "swordfish",
        "service_role": f"{IAM}:role/deployer-own/deployer-{kind}-service",
        "permissions_boundary": f"{IAM}:policy/deployer-own/deployer-{kind}-boundary",
        "role_path": f"/deployer/{kind}/",
    }
    return {key: value for key, value in {**made, **changes}.items() if value is not None}


def config(**targets: Any) -> Config:
    made = {str(kind): targets.get(kind, target(kind)) for kind in Kind}
    return load_config({"DEPLOYER_TARGETS": yaml.safe_dump(made)})


NO_SERVICE_ROLE = "development has no service_role"
NO_BOUNDARY = "development has no permissions_boundary"


@pytest.mark.parametrize(
    ("development", "gaps"),
    [
        (target("development"), []),
        ({}, [NO_SERVICE_ROLE, NO_BOUNDARY]),
        (target("development", service_role=None), [NO_SERVICE_ROLE]),
        (target("development", permissions_boundary=None), [NO_BOUNDARY]),
        # a role that deployer assumes, an account and a path are no fence by themselves
        (
            {"account": "222222222222", "role": f"{IAM}:role/x", "role_path": "/d/"},
            [NO_SERVICE_ROLE, NO_BOUNDARY],
        ),
        (
            target("development", service_role=target("production")["service_role"]),
            ["development has the service_role of production"],
        ),
        (
            target("development", permissions_boundary=target("production")["permissions_boundary"]),
            ["development has the permissions_boundary of production"],
        ),
    ],
)
def test_gaps_of_the_fence(development: dict[str, Any], gaps: list[str]) -> None:
    made = config(development=development)
    assert missing_fence_settings(made.targets) == made.missing_fence_settings == gaps
    if not gaps:
        check_fence(made)
        return
    with pytest.raises(ConfigError) as raised:
        check_fence(made)
    said = str(raised.value)
    assert said.startswith(
        f"DEPLOYER_TARGETS: {' and '.join(gaps)}, so whoever may push a branch can use rights"
    )
    for remedy in ("infra/target.yml", "docs/aws.md", "DEPLOYER_UNFENCED=yes"):
        assert remedy in said
    assert "\n" not in said
    assert "swordfish" not in said


def test_without_settings_there_is_no_fence() -> None:
    with pytest.raises(ConfigError, match="no service_role and development has no permissions_boundary"):
        check_fence(load_config({}))


def test_an_installation_may_run_without_the_fence() -> None:
    made = load_config({"DEPLOYER_UNFENCED": "yes"})
    check_fence(made)
    assert made.missing_fence_settings == [NO_SERVICE_ROLE, NO_BOUNDARY], "it is still told"


def test_a_local_address_of_aws_is_no_fence() -> None:
    """A tunnel to the real AWS has one, too."""
    with pytest.raises(ConfigError, match="DEPLOYER_UNFENCED=yes"):
        check_fence(load_config({"AWS_ENDPOINT_URL": "http://127.0.0.1:8082"}))


def test_the_sandbox_needs_no_fence() -> None:
    check_fence(
        load_config({"DEPLOYER_SANDBOX": "yes", "DEPLOYER_GITHUB_API_URL": "http://127.0.0.1:8081/api/v3"})
    )


@pytest.mark.parametrize(
    ("targets", "found"),
    [
        ({}, []),
        ({"staging": {}}, ["staging has no service_role and no permissions_boundary: its stacks can use"]),
        (
            {"production": target("production", service_role=None)},
            ["production has no service_role: its stacks"],
        ),
        (
            {"staging": target("staging", service_role=target("development")["service_role"])},
            ["staging and development share one service_role"],
        ),
        ({"development": target("development", role_path=None)}, ["a permissions_boundary and no role_path"]),
        (
            {"development": target("development", role_path="/deployer/")},
            ["development (/deployer/) includes that of staging", "(/deployer/) includes that of production"],
        ),
        (
            {"development": target("development", allowed_roles=[f"{IAM}:role/*production*"])},
            [
                "allowed_roles of development match arn:aws:iam::222222222222:role/deployer-own/deployer-production,"
            ],
        ),
        ({"development": target("development", allowed_roles=[f"{IAM}:role/shared-*"])}, []),
    ],
)
def test_weak_points_of_the_fence(targets: dict[str, Any], found: list[str]) -> None:
    warnings = list(fence_warnings(config(**targets).targets))
    assert len(warnings) == len(found), warnings
    for (_, text, remedy), words in zip(warnings, found, strict=True):
        assert words in text
        assert remedy
