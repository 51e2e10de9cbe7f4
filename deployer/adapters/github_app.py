"""Credentials: one token for every repository, or those of a GitHub App, one of each installation."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from github.Auth import AppAuth

from deployer.adapters import github_answers as answers
from deployer.adapters.github_cache import BoundedCache
from deployer.adapters.github_client import GitHubClient
from deployer.adapters.github_errors import ApiError, Headers
from deployer.environments import Repository
from deployer.errors import ConfigError, PermanentError, TransientError

_APP_TOKEN_SECONDS = (
    300  # GitHub takes ten minutes at most; PyGithub allows for a clock that is a minute ahead
)
_INSTALLATION_TOKEN_SECONDS = (
    3600.0  # https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app
)
_RENEWAL_MARGIN_SECONDS = 60.0  # before its end; a request takes less
_MAX_CACHED_TOKENS = 500  # whose tokens are kept
_MAX_CACHED_INSTALLATIONS = 5000  # whose installations are kept


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
        """The header `Authorization`."""
        return f"token {self.token}"

    def discard_cached_credentials(self, repository: Repository) -> None:
        """Nothing else can be tried."""

    @property
    def token(self) -> str:
        """The token.

        Raises:
            ConfigError: there is none.
        """
        if not self._token:
            raise ConfigError("DEPLOYER_GITHUB_TOKEN is not set; without it GitHub cannot be asked")
        return self._token


@dataclass(frozen=True, slots=True)
class Installation:
    """A GitHub App's installation.

    Attributes:
        id: GitHub's number of it; all repositories of one owner have the same.
        permissions: what it may do: permission to level.
    """

    id: int
    permissions: Mapping[str, str]


class AppCredentials:
    """The credentials of a GitHub App. A token is made for each installation, for an hour, and not for each repository.

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
        self._app_header = (
            "",
            0.0,
        )  # the header of the App itself, and until when it is used, by the monotonic clock
        self._tokens = BoundedCache[tuple[str, float]](
            _MAX_CACHED_TOKENS
        )  # and when it ends, by the monotonic clock

    def check_private_key(self) -> None:
        """Insist that the key can be used; nothing is sent.

        Raises:
            ConfigError: it cannot.
        """
        try:
            self.app_authorization()
        except TransientError as error:
            raise ConfigError(str(error)) from None

    def app_authorization(self) -> str:
        """The header `Authorization` of a request by the App itself.

        Raises:
            TransientError: the key cannot be used.
        """
        header, ends = self._app_header
        if time.monotonic() < ends:  # signing takes as long as a call
            return header
        _require_rsa_key(self._private_key)
        header = f"Bearer {AppAuth(self._app_id, self._private_key).create_jwt(_APP_TOKEN_SECONDS)}"
        self._app_header = header, time.monotonic() + _APP_TOKEN_SECONDS / 2
        return header

    def authorization(self, repository: Repository) -> str:
        """The header `Authorization` of a request about a repository.

        Where the installation that is cached has gone, another one is looked for: else its 404 would be taken for that
        of a repository or commit that is not there.

        Raises:
            NotInstalledError: the App is not installed there.
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
        """Look for the repository's installation anew, and make a new token."""
        if installation := self._installations.get(repository.key):
            self._tokens.remove(installation.id)
        self._installations.remove(repository.key)

    def installation_on(self, repository: Repository) -> Installation:
        """The installation on a repository. One call, once.

        Raises:
            NotInstalledError: there is none.
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
        """A new token that reads one repository and nothing else. One call."""
        body = {"repositories": [repository.name], "permissions": {"contents": "read"}}
        path = f"/app/installations/{self.installation_on(repository).id}/access_tokens"
        try:
            return self.client.send_once("POST", path, answers.Token, self.app_authorization(), body=body)[
                1
            ].token
        except ApiError as error:
            if error.status != 404:
                raise
            self.discard_cached_credentials(repository)  # that installation is gone; there may be another
            raise TransientError(
                f"the GitHub App's installation on {repository} has gone meanwhile"
            ) from error

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
    except (ValueError, TypeError, UnsupportedAlgorithm):  # its words are left out: they may quote the key
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise TransientError("DEPLOYER_GITHUB_APP_PRIVATE_KEY is no private key (PEM) of a GitHub App")


def _token_lifetime(headers: Headers, expires_at: datetime) -> float:
    """How many seconds a token lasts from now on, by GitHub's own clock where its answer tells the time."""
    try:
        now = parsedate_to_datetime(headers.get("date", "")).timestamp()
    except ValueError:
        now = time.time()
    return expires_at.timestamp() - now
