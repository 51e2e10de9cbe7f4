"""Credentials for GitHub's API: a personal access token, or a GitHub App's tokens for its installations."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from github.Auth import AppAuth

from deployer.github import answers
from deployer.github.bounded_cache import BoundedCache
from deployer.github.client import GitHubClient
from deployer.github.errors import ApiError, Headers
from deployer.model.environments import Repository
from deployer.model.errors import ConfigError, PermanentError, TransientError

# GitHub accepts at most ten minutes; PyGithub dates the token back, so that a clock one minute ahead does no harm
_APP_TOKEN_SECONDS = 300
# https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app
_INSTALLATION_TOKEN_SECONDS = 3600.0
_RENEWAL_MARGIN_SECONDS = 60.0  # a token is renewed this long before it expires, because a request takes less
_MAX_CACHED_TOKENS = 500  # one per installation
_MAX_CACHED_INSTALLATIONS = 5000  # one per repository


class NotInstalledError(PermanentError):
    """The GitHub App is not installed on the repository."""


class TokenCredentials:
    """One token for every repository.

    Args:
        token: a personal access token.
    """

    def __init__(self, token: str) -> None:
        self._token = token

    def authorization(self, _repository: Repository) -> str:
        """The value of the header `Authorization`."""
        return f"token {self.token}"

    def discard_cached_credentials(self, repository: Repository) -> None:
        """Do nothing: there is no other token to try."""

    @property
    def token(self) -> str:
        """The token.

        Raises:
            ConfigError: no token is configured.
        """
        if not self._token:
            raise ConfigError(
                "DEPLOYER_GITHUB_TOKEN is not set, so deployer cannot sign in to GitHub; set it to a token"
            )
        return self._token


@dataclass(frozen=True, slots=True)
class Installation:
    """A GitHub App's installation.

    Attributes:
        id: GitHub's number of the installation; all repositories of one owner share it.
        permissions: the level that the installation has for each permission, such as `contents: read`.
    """

    id: int
    permissions: Mapping[str, str]


class AppCredentials:
    """The credentials of a GitHub App: one token per installation, not per repository, each valid for an hour.

    Args:
        app_id: the App's id.
        private_key: its private key (PEM).
        api_url: the API's address.
    """

    def __init__(self, app_id: str, private_key: str, api_url: str) -> None:
        self._app_id = app_id
        self._private_key = private_key
        self.client = GitHubClient(api_url, self)
        self._installations = BoundedCache[Installation](_MAX_CACHED_INSTALLATIONS)
        # the App's own header with the time (monotonic clock) until which it is reused
        self._app_header = ("", 0.0)
        # each token with the time (monotonic clock) at which it is renewed
        self._tokens = BoundedCache[tuple[str, float]](_MAX_CACHED_TOKENS)

    def check_private_key(self) -> None:
        """Check that the private key can sign. Sends nothing.

        Raises:
            ConfigError: the private key cannot sign.
        """
        try:
            self.app_authorization()
        except TransientError as error:
            raise ConfigError(str(error)) from None

    def app_authorization(self) -> str:
        """The header `Authorization` of a request that the App itself makes.

        Raises:
            TransientError: the private key cannot sign.
        """
        header, ends = self._app_header
        if time.monotonic() < ends:  # the header is reused because signing takes as long as a call
            return header
        _require_rsa_key(self._private_key)
        header = f"Bearer {AppAuth(self._app_id, self._private_key).create_jwt(_APP_TOKEN_SECONDS)}"
        self._app_header = header, time.monotonic() + _APP_TOKEN_SECONDS / 2
        return header

    def authorization(self, repository: Repository) -> str:
        """The header `Authorization` of a request about a repository.

        If the cached installation was removed, GitHub answers 404. The App may have been installed again, so the
        installation is read again: otherwise that 404 would be taken for one about the repository or commit.

        Raises:
            NotInstalledError: the App is not installed on the repository.
        """
        cached = self._installations.get(repository.key) is not None
        try:
            return f"token {self._installation_token(repository)}"
        except ApiError as error:
            if error.status != 404 or not cached:
                raise
        self.discard_cached_credentials(repository)
        return f"token {self._installation_token(repository)}"

    def discard_cached_credentials(self, repository: Repository) -> None:
        """Drop the repository's cached installation with its token, so that the next request reads both again."""
        if installation := self._installations.get(repository.key):
            self._tokens.remove(installation.id)
        self._installations.remove(repository.key)

    def installation_on(self, repository: Repository) -> Installation:
        """The installation on a repository. One call the first time, then none while it is cached.

        Raises:
            NotInstalledError: the App is not installed on the repository.
        """
        if cached := self._installations.get(repository.key):
            return cached
        path = f"/repos/{repository.full_name}/installation"
        try:
            _, answer = self.client.send_once("GET", path, answers.Installation, self.app_authorization())
        except ApiError as error:
            if error.status != 404:
                raise
            raise NotInstalledError(f"the GitHub App is not installed on {repository}") from error
        found = Installation(answer.id, answer.permissions)
        self._installations.put(repository.key, found)
        return found

    def clone_token(self, repository: Repository) -> str:
        """A new token that can only read one repository. One call.

        Raises:
            NotInstalledError: the App is not installed on the repository.
            TransientError: the installation was removed since it was cached.
        """
        body = {"repositories": [repository.name], "permissions": {"contents": "read"}}
        path = f"/app/installations/{self.installation_on(repository).id}/access_tokens"
        try:
            return self.client.send_once("POST", path, answers.Token, self.app_authorization(), body=body)[
                1
            ].token
        except ApiError as error:
            if error.status != 404:
                raise
            self.discard_cached_credentials(repository)  # the App may have been installed again
            raise TransientError(f"the GitHub App's installation on {repository} was removed") from error

    def _installation_token(self, repository: Repository) -> str:
        installation = self.installation_on(repository).id
        cached = self._tokens.get(installation)
        if cached and time.monotonic() < cached[1]:
            return cached[0]
        path = f"/app/installations/{installation}/access_tokens"
        headers, made = self.client.send_once("POST", path, answers.Token, self.app_authorization())
        lifetime = min(_token_lifetime(headers, made.expires_at), _INSTALLATION_TOKEN_SECONDS)
        self._tokens.put(installation, (made.token, time.monotonic() + lifetime - _RENEWAL_MARGIN_SECONDS))
        return made.token


def _require_rsa_key(text: str) -> None:
    try:
        key = load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None  # the error's text is dropped because it may quote the key
    if not isinstance(key, RSAPrivateKey):
        raise TransientError(
            "DEPLOYER_GITHUB_APP_PRIVATE_KEY is not the private key (PEM) of a GitHub App; set it to the content of "
            "the key file from the App's settings"
        )


def _token_lifetime(headers: Headers, expires_at: datetime) -> float:
    """How many seconds a token is still valid, by GitHub's clock if the answer has a `Date` header."""
    try:
        now = parsedate_to_datetime(headers.get("date", "")).timestamp()
    except ValueError:
        now = time.time()
    return expires_at.timestamp() - now
