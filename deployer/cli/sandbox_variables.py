"""The environment variables of `deployer up --sandbox`.

No process of the sandbox may reach a real account. So settings that name other systems are never read from `.env`,
where a real installation has them, and all variables of AWS are replaced.
"""

import http.client
import json
import os
from collections.abc import Mapping
from pathlib import Path

from deployer.model.errors import ConfigError, UnavailableError
from deployer.settings.values import Config

HOST = "127.0.0.1"
SECRET = "sandbox"  # noqa: S105  public on purpose
BUCKET = "deployer-sandbox-artifacts"
SAMPLE = "acme/hello"
_REGION = "us-east-1"
_WEB, _GITHUB, _AWS = "DEPLOYER_WEB_PORT", "DEPLOYER_SANDBOX_GITHUB_PORT", "DEPLOYER_SANDBOX_AWS_PORT"
_SPEED = "DEPLOYER_SANDBOX_SPEED"
_PORTS = {_WEB: 8080, _GITHUB: 8081, _AWS: 8082}


def read_ports(env: Mapping[str, str]) -> dict[str, int]:
    """Return the ports of the web process, the simulated GitHub and the simulated AWS, by the variable of each.

    Raises:
        ConfigError: a value is not a port.
    """
    found = {}
    for name, default in _PORTS.items():
        text = env.get(name, "").strip() or str(default)
        if not text.isdecimal() or not 0 < int(text) < 65536:
            raise ConfigError(f"{name} is {text[:40]!r}; it must be a port from 1 to 65535")
        found[name] = int(text)
    return found


def data_dir(env: Mapping[str, str]) -> Path:
    """The directory in which the sandbox stores its data."""
    return Path(env.get("DEPLOYER_DATA_DIR") or ".sandbox").resolve()


def _check_speed(text: str) -> None:
    try:
        good = not text or 0 < float(text) < float("inf")
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"{_SPEED} is {text[:40]!r}; it must be a number above 0")


def _github_rate(speed: str) -> str:
    """The share of GitHub's limits to use: the simulated GitHub allows as many more requests as it is faster."""
    return f"{min(max(float(speed or 1), 0.01), 1000):g}"


def make_variables(env: Mapping[str, str], dotenv: Mapping[str, str]) -> dict[str, str]:
    """The variables that make processes use the sandbox.

    Args:
        env: the variables of this process; a value that people set there is kept.
        dotenv: the variables of `.env`; they count for ports and speed, not for the addresses of other systems.

    Raises:
        ConfigError: a port or the speed is malformed.
    """
    numbers = read_ports({**dotenv, **env})
    _check_speed(env.get(_SPEED, ""))
    data = data_dir(env)
    github, aws = f"http://{HOST}:{numbers[_GITHUB]}", f"http://{HOST}:{numbers[_AWS]}"
    defaults = {
        "DEPLOYER_API_TOKEN": SECRET,
        "DEPLOYER_ARTIFACT_BUCKET": BUCKET,
        "DEPLOYER_AWS_EVENT_KEY": SECRET,
        "DEPLOYER_AWS_RATE": "100",  # simulated time runs faster than AWS's
        "DEPLOYER_CONNECTION_ARN": f"arn:aws:codeconnections:{_REGION}:123456789012:connection/sandbox",
        "DEPLOYER_DATA_DIR": str(data),
        "DEPLOYER_GITHUB_API_URL": f"{github}/api/v3",
        "DEPLOYER_GITHUB_APP_ID": "",
        "DEPLOYER_GITHUB_APP_PRIVATE_KEY": "",
        "DEPLOYER_GITHUB_RATE": _github_rate(env.get(_SPEED, "")),
        "DEPLOYER_GITHUB_TOKEN": SECRET,
        "DEPLOYER_GITHUB_WEBHOOK_SECRET": SECRET,
        "DEPLOYER_PUBLIC_URL": f"http://{HOST}:{numbers[_WEB]}",
        "DEPLOYER_REDIS_URL": "",
        "DEPLOYER_REPOSITORIES": "*/*",
    }
    made = {name: env.get(name) or default for name, default in defaults.items()}
    made["DEPLOYER_SANDBOX"] = "yes"
    made.update({name: str(number) for name, number in numbers.items()})
    made.update(
        {
            "AWS_ACCESS_KEY_ID": SECRET,
            "AWS_CONFIG_FILE": str(data / "aws-config"),
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": aws,
            # these variables in `.env` would override the address above
            **{name: aws for name in dotenv if name.startswith("AWS_ENDPOINT_URL_")},
            "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
            "AWS_PROFILE": "default",
            "AWS_REGION": _REGION,
            # only marks each call
            **({mark: env[mark]} if (mark := "AWS_SDK_UA_APP_ID") in env else {}),
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_SESSION_TOKEN": SECRET,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }
    )
    # a proxy cannot reach the loopback address of this machine
    without_proxy = ",".join(filter(None, [env.get("NO_PROXY") or env.get("no_proxy"), HOST, "localhost"]))
    return {**made, "NO_PROXY": without_proxy, "no_proxy": without_proxy}


def set_variables(made: Mapping[str, str]) -> None:
    """Set the sandbox's variables in this process, for itself and its children, and remove all other AWS variables."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(made)
    config = Path(made["AWS_CONFIG_FILE"])
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(f"[default]\nregion = {_REGION}\n")  # the profile of AWS_PROFILE must exist


def make_bucket(name: str) -> bool:
    """Create the artifact bucket in the simulated AWS, and return whether it exists now."""
    import boto3  # noqa: PLC0415  # only the sandbox needs it here
    from botocore.config import Config as Botocore  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    short_timeouts = Botocore(connect_timeout=1, read_timeout=5, retries={"max_attempts": 1})
    try:
        boto3.client("s3", config=short_timeouts).create_bucket(Bucket=name)
    except ClientError as error:
        return str(error.response.get("Error", {}).get("Code")) in {
            "BucketAlreadyOwnedByYou",
            "BucketAlreadyExists",
        }
    except BotoCoreError:
        return False
    return True


def make_sample(port: int) -> bool:
    """Ask the simulated GitHub to create the sample repository if it is missing, and return whether it exists now."""
    return _post_to_github(port, "/_sandbox/repositories", {"full_name": SAMPLE, "sample": True})


def release_webhooks(port: int) -> bool:
    """Ask the simulated GitHub to deliver the webhooks that it holds, and return whether it agreed."""
    return _post_to_github(port, "/_sandbox/webhooks", {"hold": False})


def _post_to_github(port: int, path: str, body: Mapping[str, object]) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return connection.getresponse().status in {200, 201}
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def make_resyncs_due(config: Config) -> bool:
    """Make every resync due at the scheduler's start, with a new listing of the stacks; return whether that worked."""
    from deployer.wiring import Deployer  # noqa: PLC0415

    deployer = Deployer(config)
    try:
        deployer.lanes.delete_last_resync_periods()
        deployer.inventory.forget()
    except UnavailableError:
        return False
    return True
