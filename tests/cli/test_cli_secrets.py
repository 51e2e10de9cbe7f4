"""Tests of `deployer secrets`: processes read the stored values, and no output contains a secret unasked."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import botocore.client
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner, Result
from moto import mock_aws

from deployer.cli import main
from deployer.model.errors import ConfigError
from deployer.wiring import build

PLACES = ["ssm:/deployer/token", "secretsmanager:deployer/token"]


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An empty account, and no settings."""
    monkeypatch.chdir(tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):  # the commands set the latter
        monkeypatch.setenv(name, "eu-west-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    with mock_aws():
        yield
    boto3.DEFAULT_SESSION = None


def run(*arguments: str, typed: str = "") -> Result:
    return CliRunner().invoke(main, ["secrets", *arguments], input=typed, prog_name="deployer")


@pytest.mark.parametrize("place", PLACES)
def test_a_stored_secret_is_read_by_the_settings(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    for value in ("ghp_former", "ghp_secret"):
        result = run("set", place, typed=f"{value}\n")
        assert (result.exit_code, result.stdout) == (0, f"wrote {place}\n"), result.output
        assert "ghp" not in result.output
    monkeypatch.setenv("DEPLOYER_GITHUB_TOKEN", place)
    assert build().config.github_token == "ghp_secret"
    assert run("get", "DEPLOYER_GITHUB_TOKEN").stdout == "ghp_secret\n"
    assert run("set", "DEPLOYER_GITHUB_TOKEN", typed="ghp_next").stdout == f"wrote {place}\n"
    assert build().config.github_token == "ghp_next"


def test_a_parameter_is_encrypted() -> None:
    run("set", PLACES[0], typed="ghp_secret")
    (found,) = boto3.client("ssm").describe_parameters()["Parameters"]
    assert found["Type"] == "SecureString"


def test_a_parameter_keeps_its_key() -> None:
    ssm, key = boto3.client("ssm"), boto3.client("kms").create_key()["KeyMetadata"]["KeyId"]
    name = PLACES[0].removeprefix("ssm:")
    ssm.put_parameter(Name=name, Value="ghp_former", Type="SecureString", KeyId=key)
    with written() as sent:
        run("set", PLACES[0], typed="ghp_secret")
    assert [each["KeyId"] for each in sent] == [key]


def test_a_parameter_whose_key_is_not_told_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    run("set", PLACES[0], typed="ghp_former")

    def refused(*_: Any, **__: Any) -> Any:
        raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "DescribeParameters")

    with monkeypatch.context() as patch, written() as sent:
        patch.setattr("botocore.paginate.PageIterator.__iter__", refused)
        result = run("set", PLACES[0], typed="ghp_secret")
    assert (result.exit_code, sent) == (1, [])
    assert "finding its key by ssm:DescribeParameters: AccessDeniedException; check" in result.stderr
    assert run("get", PLACES[0]).stdout == "ghp_former\n"


@contextmanager
def written() -> Iterator[list[dict[str, Any]]]:
    """What is asked of PutParameter within; the simulator keeps the former key of itself, AWS may not."""
    sent, act = list[dict[str, Any]](), botocore.client.BaseClient._make_api_call

    def called(client: Any, operation: str, arguments: dict[str, Any]) -> Any:
        if operation == "PutParameter":
            sent.append(arguments)
        return act(client, operation, arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.client.BaseClient, "_make_api_call", called)
        yield sent


def test_an_error_of_aws_never_shows_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        said = "1 validation error detected: Value 'ghp_secret' at 'value' failed to satisfy constraint"
        raise ClientError({"Error": {"Code": "ValidationException", "Message": said}}, "PutParameter")

    monkeypatch.setattr("botocore.client.BaseClient._make_api_call", refuse)
    result = CliRunner().invoke(main, ["--debug", "secrets", "set", PLACES[0]], input="ghp_secret")
    assert isinstance(result.exception, ConfigError)
    assert "ValidationException" in str(result.exception)
    assert "ghp" not in result.output + "".join(traceback.format_exception(result.exception))


def test_a_secret_can_be_generated() -> None:
    values = set()
    for _ in range(2):
        assert run("set", PLACES[0], "--generate").stdout == f"wrote {PLACES[0]}\n"
        values.add(run("get", PLACES[0]).stdout.strip())
    assert {len(value) for value in values} == {64}
    assert len(values) == 2


def test_a_key_of_many_lines_stays_as_it_is() -> None:
    key = "-----BEGIN KEY-----\nabc\n-----END KEY-----"
    run("set", PLACES[1], typed=f"{key}\n")
    assert run("get", PLACES[1]).stdout == f"{key}\n"


@pytest.mark.parametrize(
    ("arguments", "typed", "told"),
    [
        (
            ["get", "ssm:/nothing"],
            "",
            "reading ssm:/nothing: ParameterNotFound; check the name, the region and",
        ),
        (["get", "secretsmanager:nothing"], "", "reading secretsmanager:nothing: ResourceNotFoundException;"),
        (["set", "ssm:/token"], "\n", "ssm:/token was not written: the value is empty"),
        (["set", "ssm:/token"], "x" * 4097, "ssm:/token was not written: a parameter holds 4,096 bytes;"),
        (["set", "ssm:"], "x", "'ssm:' is not of the form ssm:/path/name or secretsmanager:name"),
        (["get", "DEPLOYER_API_TOKEN"], "", "DEPLOYER_API_TOKEN contains the secret itself; set it to ssm:"),
        (["get", "DEPLOYER_AWS_EVENT_KEY"], "", "DEPLOYER_AWS_EVENT_KEY is neither ssm:/path/name,"),
    ],
)
def test_errors_are_one_line(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], typed: str, told: str
) -> None:
    monkeypatch.setenv("DEPLOYER_API_TOKEN", "hunter2")
    result: Any = run(*arguments, typed=typed)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"deployer: {told}")
    assert result.stderr.count("\n") == 1
    assert "hunter2" not in result.stderr
