"""Settings: what is missing or malformed is named in one line, and secrets stay hidden."""

import traceback
from dataclasses import fields

import pytest

from deployer.model.environments import Kind, Repository
from deployer.model.errors import ConfigError
from deployer.settings.loading import REQUIRED_FOR_WEB, REQUIRED_FOR_WORKER, load_config, require_settings
from deployer.settings.startup import check_secrets
from deployer.settings.values import Config

SANDBOX = {"DEPLOYER_SANDBOX": "yes", "DEPLOYER_GITHUB_API_URL": "http://127.0.0.1:8081/api/v3"}


def test_defaults_need_no_setting() -> None:
    config = load_config({})
    assert (config.redis_url, config.github_api_url) == ("redis://127.0.0.1:6379/0", "https://api.github.com")
    assert (config.max_attempts, config.web_port, config.log_level) == (6, 8080, "INFO")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DEPLOYER_REDIS_URL", "redis://[::1", "is not a "),
        ("DEPLOYER_REDIS_URL", "redis://u:s3cret@h:many/0", "is not a "),
        ("DEPLOYER_PUBLIC_URL", "http://[::1", "is not a "),
        ("DEPLOYER_REDIS_URL", "http://x", "is not a redis://, rediss://, unix:// or sentinel:// URL"),
        ("DEPLOYER_GITHUB_API_URL", "ftp://x", "is not a http:// or https:// URL"),
        ("DEPLOYER_GITHUB_API_URL", "https:", "is not a http:// or https:// URL"),
        ("DEPLOYER_PUBLIC_URL", "https://", "is not a http:// or https:// URL"),
        ("DEPLOYER_PUBLIC_URL", "https:deployer.example", "is not a http:// or https:// URL"),
        ("DEPLOYER_REDIS_URL", "redis://h:6379/many", "names a database that is not a number"),
        ("DEPLOYER_PUBLIC_URL", "deployer.example", "is not a http:// or https:// URL"),
        ("DEPLOYER_REPOSITORIES", "acme/*, everything", "'everything', which is not an owner/repo pattern"),
        ("DEPLOYER_LOG_LEVEL", "LOUD", "'LOUD'; it must be DEBUG, INFO, WARNING or ERROR"),
        ("DEPLOYER_WEB_PORT", "eighty", "'eighty'; it must be a whole number from 1 to 65535"),
        ("DEPLOYER_WEB_PORT", "65536", "from 1 to 65535"),
        ("DEPLOYER_WEB_PORT", "80.5", "'80.5'; it must be a whole number from 1 to 65535"),
        ("DEPLOYER_CONCURRENCY", "2.7", "'2.7'; it must be a whole number from 1 to 256"),
        ("DEPLOYER_MAX_ATTEMPTS", "0", "from 1 to 100"),
        ("DEPLOYER_LEASE_SECONDS", "nan", "'nan'; it must be a number"),
        ("DEPLOYER_POLL_SECONDS", "inf", "'inf'; it must be a number"),
        ("DEPLOYER_GITHUB_APP_ID", "12", "must be set together"),
        ("DEPLOYER_TTL", "soon", "'soon' is not a duration, such as 90m, 12h, 3d, 2w or never"),
        ("DEPLOYER_SANDBOX", "true", "'true'; it must be yes or no"),
        ("DEPLOYER_UNFENCED", "1", "'1'; it must be yes or no"),
        ("DEPLOYER_GIVE_TOKEN", "true", "'true'; it must be yes or no"),
        ("DEPLOYER_SANDBOX", "yes", "is yes, but DEPLOYER_GITHUB_API_URL is not on this machine"),
        ("DEPLOYER_API_TOKEN", "ssm:/token", "ssm:/token, which cannot be read here"),
    ],
)
def test_what_is_malformed_is_named(name: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config({name: value})
    text = str(raised.value)
    assert text.startswith(name)
    assert words in text
    assert "\n" not in text


def test_empty_means_not_set() -> None:
    assert load_config({"DEPLOYER_WEB_PORT": " ", "DEPLOYER_REPOSITORIES": ","}) == load_config({})


def test_the_sandbox_is_on_this_machine() -> None:
    assert not load_config({}).sandbox
    assert load_config(
        {"DEPLOYER_SANDBOX": "yes", "DEPLOYER_GITHUB_API_URL": "http://127.0.0.1:8081/api/v3"}
    ).sandbox


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEPLOYER_API_TOKEN", "sandbox"),
        ("DEPLOYER_API_TOKEN", "fifteen-letters"),
        ("DEPLOYER_AWS_EVENT_KEY", "passwordpassword"),
        ("DEPLOYER_AWS_EVENT_KEY", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
        ("DEPLOYER_GITHUB_WEBHOOK_SECRET", "It's a Secret to Everybody"),
        ("DEPLOYER_GITHUB_WEBHOOK_SECRET", "8c1e02bd1d4a70ab7f12a4d3,old"),
    ],
)
def test_a_secret_that_can_be_guessed(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_secrets(load_config({name: value}))
    text = str(raised.value)
    assert text.startswith(f"{name} is too easy to guess")
    assert "deployer secrets set --generate" in text
    assert value not in text
    assert "\n" not in text


def test_secrets_that_cannot_be_guessed_and_those_of_the_sandbox() -> None:
    check_secrets(load_config({}))
    names = ("DEPLOYER_API_TOKEN", "DEPLOYER_AWS_EVENT_KEY", "DEPLOYER_GITHUB_WEBHOOK_SECRET")
    check_secrets(load_config(dict.fromkeys(names, "8c1e02bd1d4a70ab")))
    check_secrets(load_config({**dict.fromkeys(names, "sandbox"), **SANDBOX}))


def test_lists_and_references() -> None:
    env = {
        "DEPLOYER_GITHUB_WEBHOOK_SECRET": "new, old",
        "DEPLOYER_API_TOKEN": "ssm:/deployer/token",
        "DEPLOYER_GITHUB_TOKEN": "secretsmanager:github",
    }
    config = load_config(env, {"ssm:/deployer/token": " t\n", "secretsmanager:github": "g"}.__getitem__)
    assert config.webhook_secrets == ("new", "old")
    assert (config.api_token, config.github_token) == ("t", "g")


def test_a_reference_that_cannot_be_read_is_told_with_its_setting() -> None:
    def resolve(reference: str) -> str:
        raise ConfigError(f"reading {reference}: ParameterNotFound")

    with pytest.raises(ConfigError, match=r"^DEPLOYER_API_TOKEN: reading ssm:/nothing: ParameterNotFound$"):
        load_config({"DEPLOYER_API_TOKEN": "ssm:/nothing"}, resolve)


def test_a_key_in_one_line_gets_its_lines_back() -> None:
    env = {"DEPLOYER_GITHUB_APP_ID": "1", "DEPLOYER_GITHUB_APP_PRIVATE_KEY": "-----BEGIN-----\\nx\\n"}
    assert load_config(env).github_app_private_key == "-----BEGIN-----\nx\n"


@pytest.mark.parametrize(
    ("patterns", "name", "allowed"),
    [
        ("acme/*", "acme/api", True),
        ("acme/*", "ACME/Api", True),
        ("Acme/API", "acme/api", True),
        ("acme/*", "acme-evil/api", False),
        ("acme/api-*", "acme/api", False),
        ("*/*", "any/thing", True),
        ("", "acme/api", False),
    ],
)
def test_which_repositories_are_served(patterns: str, name: str, *, allowed: bool) -> None:
    assert load_config({"DEPLOYER_REPOSITORIES": patterns}).allows(Repository.parse(name)) is allowed


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (REQUIRED_FOR_WEB, "DEPLOYER_GITHUB_WEBHOOK_SECRET"),
        (("artifact_bucket",), "DEPLOYER_ARTIFACT_BUCKET"),
    ],
)
def test_what_is_missing_is_named(names: tuple[str, ...], first: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{first} is not set; it is the "):
        require_settings(load_config({}), *names)


def test_a_github_app_serves_as_well_as_a_token() -> None:
    app = {"DEPLOYER_GITHUB_APP_ID": "1", "DEPLOYER_GITHUB_APP_PRIVATE_KEY": "k"}
    require_settings(load_config({"DEPLOYER_ARTIFACT_BUCKET": "b", **app}), *REQUIRED_FOR_WORKER)
    with pytest.raises(ConfigError, match=r"^DEPLOYER_GITHUB_TOKEN is not set"):
        require_settings(load_config({"DEPLOYER_ARTIFACT_BUCKET": "b"}), *REQUIRED_FOR_WORKER)


def test_secrets_are_masked_where_people_look() -> None:
    """Whatever is declared to be a secret, that of a setting yet to come too."""
    secret = {str(each.metadata["variable"]) for each in fields(Config) if each.metadata["secret"]}
    assert {"DEPLOYER_GITHUB_TOKEN", "DEPLOYER_TARGETS", "DEPLOYER_API_TOKEN"} <= secret
    values = dict.fromkeys(secret, "s3cret") | {
        "DEPLOYER_TARGETS": "staging: {role: 'arn:aws:iam::123456789012:role/x', external_id: s3cret}",
        "DEPLOYER_REDIS_URL": "rediss://user:s3cret@redis.example:6380/0",
        "DEPLOYER_GITHUB_APP_ID": "7",
    }
    config = load_config(values)
    shown = config.shown()
    assert {name: shown[name] for name in secret} == dict.fromkeys(secret, "********")
    assert shown["DEPLOYER_REDIS_URL"] == "rediss://user:********@redis.example:6380/0"
    assert shown["DEPLOYER_ARTIFACT_BUCKET"] == ""
    for text in (str(shown), repr(config), str(config), repr(config.targets)):
        assert "s3cret" not in text


@pytest.mark.parametrize("name", [each.metadata["variable"] for each in fields(Config) if not each.repr])
def test_no_error_quotes_a_value_that_may_be_secret(name: str) -> None:
    app = {"DEPLOYER_GITHUB_APP_ID": "7", "DEPLOYER_GITHUB_APP_PRIVATE_KEY": "k"}
    for value in ("s3cret", "s3cret:1", "{s3cret", "https://s3cret:s3cret@[", "s3cret\n"):
        said = ""
        try:
            check_secrets(load_config({**app, name: value}))
        except ConfigError as error:
            said = "".join(traceback.format_exception(error))
        assert "s3cret" not in said


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://:s3cret@h/0", "redis://:********@h/0"),
        (
            "sentinel://a/m?sentinel_password=s3cret&ssl=true",
            "sentinel://a/m?sentinel_password=********&ssl=true",
        ),
        ("rediss://h?db=1&ssl_password=s3cret", "rediss://h?db=1&ssl_password=********"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("unix://u:s3cret@/run/redis.sock?db=1", "unix://u:********@/run/redis.sock?db=1"),
        ("sentinel://:s3cret@a:1,b:2/main", "sentinel://:********@a:1,b:2/main"),
    ],
)
def test_an_address_of_redis_is_shown_as_it_is_but_for_its_password(url: str, shown: str) -> None:
    assert load_config({"DEPLOYER_REDIS_URL": url}).shown()["DEPLOYER_REDIS_URL"] == shown


def test_a_config_shows_every_variable_once() -> None:
    assert len(load_config({}).shown()) == len(Config.__dataclass_fields__)


def test_targets_that_are_indented_by_a_tab_say_so() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config({"DEPLOYER_TARGETS": "staging:\n\trole: arn:aws:iam::123456789012:role/deployer\n"})
    said = "DEPLOYER_TARGETS is not YAML in line 2: a tab is used for indentation; YAML allows only spaces"
    assert str(caught.value) == said


@pytest.mark.parametrize("value", ['"swordfish', "@swordfish", "{swordfish", "swordfish: : x"])
def test_targets_that_are_no_yaml_are_not_quoted(value: str) -> None:
    """An external id may stand in the line that cannot be read."""
    text = f"staging:\n  role: arn:aws:iam::123456789012:role/deployer\n  external_id: {value}\n"
    with pytest.raises(ConfigError, match=r"^DEPLOYER_TARGETS is not YAML in line \d+$") as caught:
        load_config({"DEPLOYER_TARGETS": text})
    assert "swordfish" not in "".join(traceback.format_exception(caught.value))


def test_each_target_says_what_happens_to_executions_that_deployer_did_not_start() -> None:
    targets = load_config({"DEPLOYER_TARGETS": "production: {foreign_executions: stop}"}).targets
    assert {kind: target.foreign_executions for kind, target in targets.items()} == {
        Kind.DEVELOPMENT: "report",
        Kind.STAGING: "report",
        Kind.PRODUCTION: "stop",
    }
    for value in ("Stop", "yes", "[stop]", "''"):
        with pytest.raises(ConfigError) as caught:
            load_config({"DEPLOYER_TARGETS": f"staging: {{foreign_executions: {value}}}"})
        assert str(caught.value) == "DEPLOYER_TARGETS: staging.foreign_executions must be report or stop"
