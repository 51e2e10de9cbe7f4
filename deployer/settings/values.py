"""The settings in force, as one immutable value."""

import re
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from deployer.model.environments import Kind, Repository
from deployer.model.targets import Target
from deployer.settings.iam_fence import missing_fence_settings
from deployer.settings.targets import read_targets


def _setting_field(variable: str, help_text: str, *, secret: bool = False, in_repr: bool = True) -> Any:
    metadata = {"variable": variable, "help": help_text, "secret": secret}
    return field(metadata=metadata, repr=in_repr and not secret)


@dataclass(frozen=True, slots=True)
class Config:
    """The settings in force. Durations are in seconds."""

    redis_url: str = _setting_field(
        "DEPLOYER_REDIS_URL", "redis://, rediss://, unix:// or sentinel:// URL", in_repr=False
    )  # it may contain a password
    webhook_secrets: tuple[str, ...] = _setting_field(
        "DEPLOYER_GITHUB_WEBHOOK_SECRET",
        "secret of the GitHub webhook; several separated by commas",
        secret=True,
    )
    github_token: str = _setting_field(
        "DEPLOYER_GITHUB_TOKEN", "token for GitHub's API; a GitHub App can replace it", secret=True
    )
    github_app_id: str = _setting_field(
        "DEPLOYER_GITHUB_APP_ID", "id of the GitHub App that replaces a token"
    )
    github_app_private_key: str = _setting_field(
        "DEPLOYER_GITHUB_APP_PRIVATE_KEY", "private key of the App (PEM)", secret=True
    )
    github_api_url: str = _setting_field("DEPLOYER_GITHUB_API_URL", "URL of GitHub's REST API")
    github_rate: float = _setting_field(
        "DEPLOYER_GITHUB_RATE",
        "share of GitHub's usual rate limits that deployer uses; below 1 if others use the same token or App",
    )
    repositories: tuple[str, ...] = _setting_field(
        "DEPLOYER_REPOSITORIES", "allowed repositories as owner/repo patterns, separated by commas"
    )
    artifact_bucket: str = _setting_field("DEPLOYER_ARTIFACT_BUCKET", "S3 bucket for templates and artifacts")
    connection_arn: str = _setting_field(
        "DEPLOYER_CONNECTION_ARN", "CodeConnections connection that templates get as ConnectionArn"
    )
    targets_text: str = _setting_field(
        "DEPLOYER_TARGETS",
        "accounts, regions and roles of each kind of environment: YAML, or the path of a file",
        secret=True,  # it may contain external ids
    )
    aws_rate: float = _setting_field(
        "DEPLOYER_AWS_RATE",
        "share of AWS's default call rates that deployer uses; below 1 if others share the account",
    )
    aws_event_key: str = _setting_field(
        "DEPLOYER_AWS_EVENT_KEY", "key that AWS's event destination sends", secret=True
    )
    api_token: str = _setting_field(
        "DEPLOYER_API_TOKEN",
        "token for the API (Bearer), pages and metrics (password of HTTP Basic)",
        secret=True,
    )
    trusted_proxy_header: str = _setting_field(
        "DEPLOYER_TRUSTED_PROXY_HEADER", "header with the user's name, set by a trusted proxy"
    )
    trusted_proxies: tuple[str, ...] = _setting_field(
        "DEPLOYER_TRUSTED_PROXIES",
        "addresses or networks of the trusted proxies, separated by commas",
    )
    public_url: str = _setting_field("DEPLOYER_PUBLIC_URL", "URL of the dashboard for people and for GitHub")
    lease_seconds: float = _setting_field(
        "DEPLOYER_LEASE_SECONDS", "time after which the queue of a lost worker continues"
    )
    grace_seconds: float = _setting_field(
        "DEPLOYER_GRACE_SECONDS", "time after which an unanswered message to a worker is sent again"
    )
    max_attempts: int = _setting_field(
        "DEPLOYER_MAX_ATTEMPTS", "failed attempts after which a task becomes a dead letter"
    )
    retry_seconds: float = _setting_field("DEPLOYER_RETRY_SECONDS", "delay before the first retry of a task")
    poll_seconds: float = _setting_field(
        "DEPLOYER_POLL_SECONDS", "first interval of polling AWS; it grows up to 15 times"
    )
    resync_seconds: float = _setting_field(
        "DEPLOYER_RESYNC_SECONDS", "interval of the scheduled resyncs of a repository; 0 for none"
    )
    orphan_seconds: float = _setting_field(
        "DEPLOYER_ORPHAN_SECONDS", "how long a stack is kept after its branch is gone"
    )
    ttl: str = _setting_field(
        "DEPLOYER_TTL", "time to live of an idle development environment: 12h, 3d, 2w or never"
    )
    tag_wait_seconds: float = _setting_field(
        "DEPLOYER_TAG_WAIT_SECONDS", "how long a pushed tag waits until its commit is on the default branch"
    )
    drain_seconds: float = _setting_field(
        "DEPLOYER_DRAIN_SECONDS", "time in which a stopping process ends its work"
    )
    concurrency: int = _setting_field("DEPLOYER_CONCURRENCY", "number of worker processes")
    web_host: str = _setting_field("DEPLOYER_WEB_HOST", "address on which the web process listens")
    web_port: int = _setting_field("DEPLOYER_WEB_PORT", "port on which the web process listens")
    web_processes: int = _setting_field(
        "DEPLOYER_WEB_PROCESSES", "number of web processes, which share the ports; at most 8"
    )
    webhook_port: int = _setting_field(
        "DEPLOYER_WEBHOOK_PORT", "separate port for webhooks; 0 for DEPLOYER_WEB_PORT"
    )
    data_dir: str = _setting_field("DEPLOYER_DATA_DIR", "directory in which `deployer up` stores its data")
    log_level: str = _setting_field("DEPLOYER_LOG_LEVEL", "DEBUG, INFO, WARNING or ERROR")
    sandbox: bool = _setting_field(
        "DEPLOYER_SANDBOX", "yes: GitHub and AWS are simulated on this machine; set by `up --sandbox`"
    )
    unfenced: bool = _setting_field(
        "DEPLOYER_UNFENCED", "yes: run although development has no service role or no permissions boundary"
    )
    give_token: bool = _setting_field(
        "DEPLOYER_GIVE_TOKEN", "yes: templates that declare RepoToken get DEPLOYER_GITHUB_TOKEN itself"
    )

    @property
    def targets(self) -> dict[Kind, Target]:
        """The account, regions and roles of each kind of environment."""
        return read_targets(self.targets_text, self._default_target)

    @property
    def _default_target(self) -> Target:
        return Target(
            Kind.DEVELOPMENT,
            artifact_bucket=self.artifact_bucket,
            connection_arn=self.connection_arn,
            gives_token=self.give_token or bool(self.github_app_id),
        )

    @property
    def missing_fence_settings(self) -> list[str]:
        """The missing limits on the permissions of branch code in AWS; always empty in the sandbox."""
        return [] if self.sandbox else missing_fence_settings(self.targets)

    def allows(self, repository: Repository) -> bool:
        """Whether this installation serves the repository."""
        return any(fnmatchcase(repository.key, pattern.lower()) for pattern in self.repositories)

    def named_repositories(self) -> list[Repository]:
        """Return the repositories that the settings name without a wildcard."""
        return [Repository.parse(each) for each in self.repositories if not set(each) & set("*?[]")]

    def shown(self) -> dict[str, str]:
        """Return all settings by variable, with secrets and passwords in URLs masked."""
        values = {}
        for item in fields(self):
            value = getattr(self, item.name)
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            if isinstance(value, bool):
                text = "yes" if value else "no"
            if item.metadata["secret"] and text:
                text = "********"
            elif item.name == "redis_url":
                text = _without_password(text)
            values[str(item.metadata["variable"])] = text
        return values


def _without_password(url: str) -> str:
    """Mask the password of a URL, before the host or among the options."""
    netloc = urlsplit(url).netloc
    user, at, host = netloc.rpartition("@")
    if at:
        url = url.replace(f"//{netloc}", f"//{user.partition(':')[0]}:********@{host}", 1)
    return re.sub(r"([?&]\w*password=)[^&]*", r"\1********", url)
