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
from deployer.adapters.github_cache import Recent
from deployer.adapters.github_client import GitHubClient
from deployer.adapters.github_errors import ApiError, Headers
from deployer.environments import Repository
from deployer.errors import ConfigError, PermanentError, TransientError

_SIGNED_SECONDS = 300  # GitHub takes ten minutes at most; PyGithub allows for a clock that is a minute ahead
_TOKEN_SECONDS = (
    3600.0  # https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app
)
_RENEWED_SECONDS = 60.0  # before its end; a request takes less
_MOST_INSTALLATIONS = 500  # whose tokens are kept
_MOST_REPOSITORIES = 5000  # whose installations are kept


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

    def forget(self, repository: Repository) -> None:
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
        self._installations = Recent[Installation](_MOST_REPOSITORIES)
        self._signed = (
            "",
            0.0,
        )  # the header of the App itself, and until when it is used, by the monotonic clock
        self._tokens = Recent[tuple[str, float]](
            _MOST_INSTALLATIONS
        )  # and when it ends, by the monotonic clock

    def check(self) -> None:
        """Insist that the key can be used; nothing is sent.

        Raises:
            ConfigError: it cannot.
        """
        try:
            self.signed()
        except TransientError as error:
            raise ConfigError(str(error)) from None

    def signed(self) -> str:
        """The header `Authorization` of a request by the App itself.

        Raises:
            TransientError: the key cannot be used.
        """
        header, ends = self._signed
        if time.monotonic() < ends:  # signing takes as long as a call
            return header
        _insist_on_key(self._private_key)
        header = f"Bearer {AppAuth(self._app_id, self._private_key).create_jwt(_SIGNED_SECONDS)}"
        self._signed = header, time.monotonic() + _SIGNED_SECONDS / 2
        return header

    def authorization(self, repository: Repository) -> str:
        """The header `Authorization` of a request about a repository.

        Where the installation that is known has gone, another one is looked for: else its 404 would be taken for that
        of a repository or commit that is not there.

        Raises:
            NotInstalledError: the App is not installed there.
        """
        known = self._installations.get(repository.key) is not None
        try:
            return f"token {self._token(repository)}"
        except ApiError as error:
            if error.status != 404 or not known:
                raise
        self.forget(repository)
        return f"token {self._token(repository)}"

    def forget(self, repository: Repository) -> None:
        """Look for the repository's installation anew, and make a new token."""
        if installation := self._installations.get(repository.key):
            self._tokens.drop(installation.id)
        self._installations.drop(repository.key)

    def installation(self, repository: Repository) -> Installation:
        """The installation on a repository. One call, once.

        Raises:
            NotInstalledError: there is none.
        """
        if known := self._installations.get(repository.key):
            return known
        path = f"/repos/{repository.full_name}/installation"
        try:
            _, told = self.client.send("GET", path, answers.Installation, self.signed())
        except ApiError as error:
            if error.status != 404:
                raise
            raise NotInstalledError(f"the GitHub App is not installed on {repository}") from error
        found = Installation(told.id, told.permissions)
        self._installations.put(repository.key, found)
        return found

    def clone_token(self, repository: Repository) -> str:
        """A new token that reads one repository and nothing else. One call."""
        body = {"repositories": [repository.name], "permissions": {"contents": "read"}}
        path = f"/app/installations/{self.installation(repository).id}/access_tokens"
        try:
            return self.client.send("POST", path, answers.Token, self.signed(), body=body)[1].token
        except ApiError as error:
            if error.status != 404:
                raise
            self.forget(repository)  # that installation is gone; there may be another
            raise TransientError(
                f"the GitHub App's installation on {repository} has gone meanwhile"
            ) from error

    def _token(self, repository: Repository) -> str:
        installation = self.installation(repository).id
        known = self._tokens.get(installation)
        if known and time.monotonic() < known[1]:
            return known[0]
        path = f"/app/installations/{installation}/access_tokens"
        headers, made = self.client.send("POST", path, answers.Token, self.signed())
        lifetime = min(_lifetime(headers, made.expires_at), _TOKEN_SECONDS)
        self._tokens.put(installation, (made.token, time.monotonic() + lifetime - _RENEWED_SECONDS))
        return made.token


def _insist_on_key(text: str) -> None:
    try:
        key = load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # its words are left out: they may quote the key
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise TransientError("DEPLOYER_GITHUB_APP_PRIVATE_KEY is no private key (PEM) of a GitHub App")


def _lifetime(headers: Headers, expires_at: datetime) -> float:
    """How many seconds a token lasts from now on, by GitHub's own clock where its answer tells the time."""
    try:
        now = parsedate_to_datetime(headers.get("date", "")).timestamp()
    except ValueError:
        now = time.time()
    return expires_at.timestamp() - now
