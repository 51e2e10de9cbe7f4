"""The settings in force, as one value that never changes; `deployer.settings.loading` makes it."""

import re
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from deployer.model.environments import Kind, Repository
from deployer.model.targets import Target
from deployer.settings.iam_fence import fence_gaps
from deployer.settings.targets import read_targets


def _setting(variable: str, help_text: str, *, secret: bool = False, in_repr: bool = True) -> Any:
    metadata = {"variable": variable, "help": help_text, "secret": secret}
    return field(metadata=metadata, repr=in_repr and not secret)


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting in force. Durations are in seconds."""

    redis_url: str = _setting(
        "DEPLOYER_REDIS_URL", "redis://, rediss://, unix:// or sentinel:// URL", in_repr=False
    )  # it may hold a password
    webhook_secrets: tuple[str, ...] = _setting(
        "DEPLOYER_GITHUB_WEBHOOK_SECRET", "secret of the GitHub webhook; several by comma", secret=True
    )
    github_token: str = _setting(
        "DEPLOYER_GITHUB_TOKEN", "token for GitHub's API; a GitHub App serves as well", secret=True
    )
    github_app_id: str = _setting("DEPLOYER_GITHUB_APP_ID", "id of the GitHub App, instead of a token")
    github_app_private_key: str = _setting(
        "DEPLOYER_GITHUB_APP_PRIVATE_KEY", "the App's key (PEM)", secret=True
    )
    github_api_url: str = _setting("DEPLOYER_GITHUB_API_URL", "GitHub's REST API")
    repositories: tuple[str, ...] = _setting(
        "DEPLOYER_REPOSITORIES", "allowed repositories as owner/repo patterns; several by comma"
    )
    artifact_bucket: str = _setting("DEPLOYER_ARTIFACT_BUCKET", "S3 bucket for templates and artifacts")
    connection_arn: str = _setting(
        "DEPLOYER_CONNECTION_ARN", "CodeConnections connection given to templates as ConnectionArn"
    )
    targets_text: str = _setting(
        "DEPLOYER_TARGETS",
        "accounts, regions and roles of each kind of environment: a file's path, or YAML",
        secret=True,  # it may hold external ids
    )
    aws_rate: float = _setting(
        "DEPLOYER_AWS_RATE", "share of AWS's usual call rates to use; less where others call AWS there too"
    )
    aws_event_key: str = _setting(
        "DEPLOYER_AWS_EVENT_KEY", "key that AWS's event destination sends", secret=True
    )
    api_token: str = _setting(
        "DEPLOYER_API_TOKEN",
        "token of the API (Bearer), and of pages and metrics (password of HTTP Basic)",
        secret=True,
    )
    trusted_proxy_header: str = _setting(
        "DEPLOYER_TRUSTED_PROXY_HEADER", "header in which a proxy names the user that it has let in"
    )
    trusted_proxies: tuple[str, ...] = _setting(
        "DEPLOYER_TRUSTED_PROXIES",
        "addresses or networks of the proxies whose header counts; several by comma",
    )
    public_url: str = _setting("DEPLOYER_PUBLIC_URL", "where people reach the dashboard")
    lease_seconds: float = _setting("DEPLOYER_LEASE_SECONDS", "how long a lost worker keeps its lane")
    grace_seconds: float = _setting(
        "DEPLOYER_GRACE_SECONDS", "how long a message may be under way before it is sent again"
    )
    max_attempts: int = _setting("DEPLOYER_MAX_ATTEMPTS", "attempts before a dead letter")
    retry_seconds: float = _setting("DEPLOYER_RETRY_SECONDS", "first wait before a task's next attempt")
    poll_seconds: float = _setting(
        "DEPLOYER_POLL_SECONDS", "first wait for AWS where no event comes; grows fifteenfold"
    )
    resync_seconds: float = _setting(
        "DEPLOYER_RESYNC_SECONDS", "time between scheduled resyncs of a repository; 0 for none"
    )
    orphan_seconds: float = _setting(
        "DEPLOYER_ORPHAN_SECONDS", "how long a resync leaves what stands without its branch"
    )
    ttl: str = _setting(
        "DEPLOYER_TTL", "how long a development environment may be idle: 12h, 3d, 2w or never"
    )
    tag_wait_seconds: float = _setting(
        "DEPLOYER_TAG_WAIT_SECONDS", "how long a pushed tag waits for its commit to reach the default branch"
    )
    drain_seconds: float = _setting("DEPLOYER_DRAIN_SECONDS", "time a stopping process has to end its work")
    concurrency: int = _setting("DEPLOYER_CONCURRENCY", "worker processes")
    web_host: str = _setting("DEPLOYER_WEB_HOST", "address the web listens on")
    web_port: int = _setting("DEPLOYER_WEB_PORT", "port the web listens on")
    web_processes: int = _setting(
        "DEPLOYER_WEB_PROCESSES", "web processes that share the web's ports; 8 at most"
    )
    webhook_port: int = _setting(
        "DEPLOYER_WEBHOOK_PORT", "port on which webhooks are served alone; 0 for the web's own"
    )
    data_dir: str = _setting("DEPLOYER_DATA_DIR", "where `deployer up` keeps the embedded Redis's data")
    log_level: str = _setting("DEPLOYER_LOG_LEVEL", "DEBUG, INFO, WARNING or ERROR")
    sandbox: bool = _setting(
        "DEPLOYER_SANDBOX", "yes: GitHub and AWS are simulated on this machine; set by `up --sandbox`"
    )
    unfenced: bool = _setting(
        "DEPLOYER_UNFENCED", "yes: run although development has no service role or no permissions boundary"
    )
    give_token: bool = _setting(
        "DEPLOYER_GIVE_TOKEN", "yes: templates that declare RepoToken are given DEPLOYER_GITHUB_TOKEN itself"
    )

    @property
    def targets(self) -> dict[Kind, Target]:
        """Where environments of each kind live."""
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
    def fence_gaps(self) -> list[str]:
        """Why IAM does not keep branch code from rights that are not its own; empty if it does, and in the sandbox."""
        return [] if self.sandbox else fence_gaps(self.targets)

    def allows(self, repository: Repository) -> bool:
        """Whether this installation serves the repository."""
        return any(fnmatchcase(repository.key, pattern.lower()) for pattern in self.repositories)

    def named_repositories(self) -> list[Repository]:
        """The repositories that the settings name without a wildcard."""
        return [Repository.parse(each) for each in self.repositories if not set(each) & set("*?[]")]

    def shown(self) -> dict[str, str]:
        """Variable to value as people may see them: secrets are masked, also the password in a URL."""
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
    """A URL with its password masked, before the host or among the options; without one it is as it was."""
    netloc = urlsplit(url).netloc
    user, at, host = netloc.rpartition("@")
    if at:
        url = url.replace(f"//{netloc}", f"//{user.partition(':')[0]}:********@{host}", 1)
    return re.sub(r"([?&]\w*password=)[^&]*", r"\1********", url)
