"""Credentials for GitHub's API: a personal access token, or a GitHub App's tokens for its installations."""

import random
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from github.Auth import AppAuth
from requests import RequestException

from deployer.github import answers
from deployer.github.access_problems import (
    accepted_permissions,
    installation_problem,
    missing_permissions,
    permission_names,
    permission_problem,
    sign_on_problem,
    suspension_problem,
    token_problem,
    web_address,
)
from deployer.github.bounded_cache import BoundedCache
from deployer.github.client import GitHubClient
from deployer.github.errors import ApiError, Headers, UnexpectedAnswerError, is_suspended
from deployer.github.sharing import OwnProcess, Sharing
from deployer.github.signature import Signature
from deployer.github.token_seal import TokenSeal
from deployer.model.environments import Repository
from deployer.model.errors import ConfigError, DeployerError, PermanentError, TransientError

# GitHub accepts at most ten minutes; PyGithub dates the token back, so that a clock one minute ahead does no harm
_APP_TOKEN_SECONDS = 300
# https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app
_INSTALLATION_TOKEN_SECONDS = 3600.0
_RENEWAL_MARGIN_SECONDS = 60.0  # a token is not used in its last seconds, because a request takes less
# A process renews a token at a random moment of its last minutes. The others then find the new one
_RENEWAL_SECONDS = 240.0
_TRUSTED_SECONDS = 60.0  # for so long a process uses a token without looking for another process's newer one
_MAX_CACHED_TOKENS = 500  # one per installation
_MAX_CACHED_REFUSALS = 500
_REFUSAL_SECONDS = 60.0  # the reason for a refusal is read again after this time
_APP = "app"


class NotInstalledError(PermanentError):
    """The GitHub App is not installed on the repository."""


class TokenCredentials:
    """One token for every repository.

    Args:
        token: a personal access token.
        api_url: the API's address.
    """

    def __init__(self, token: str, api_url: str = "https://api.github.com") -> None:
        self._token = token
        self._api_url = api_url

    def sign(self, _repository: Repository) -> Signature:
        """The signature of a request."""
        return Signature(f"token {self.token}", "token")

    def discard_token(self, repository: Repository) -> None:
        """Do nothing: there is no other token to try."""

    def discard_installation(self, repository: Repository) -> None:
        """Do nothing: a token has no installation."""

    def explain_refusal(self, _repository: Repository, error: ApiError) -> str:
        """Why GitHub refused a request, with the link that changes it; empty if that is unknown."""
        if problem := sign_on_problem(error.headers.get("x-github-sso"), self._api_url):
            return problem
        lacking = accepted_permissions(error.headers.get("x-accepted-github-permissions"))
        return token_problem(permission_names(lacking), self._api_url) if lacking else ""

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
class _HeldToken:
    """A token in this process's memory, with times of the monotonic clock."""

    token: str = field(repr=False)
    trusted_until: float


class AppCredentials:
    """The credentials of a GitHub App: one token per installation, which all processes share until it expires.

    Args:
        app_id: the App's id.
        private_key: its private key (PEM).
        api_url: the API's address.
        sharing: stores installations and sealed tokens; by default this process shares nothing.
    """

    def __init__(self, app_id: str, private_key: str, api_url: str, sharing: Sharing | None = None) -> None:
        self._app_id = app_id
        self._private_key = private_key
        self._sharing = sharing or OwnProcess()
        self._seal = TokenSeal(private_key, api_url)
        self._api_url = api_url
        self.client = GitHubClient(api_url, self, self._sharing)
        # the App's own header with the time (monotonic clock) until which it is reused
        self._app_header = ("", 0.0)
        self._tokens = BoundedCache[_HeldToken](_MAX_CACHED_TOKENS)
        # why an installation was refused, with the time (monotonic clock) until which that is reused
        self._refusals = BoundedCache[tuple[str, float]](_MAX_CACHED_REFUSALS)

    def check_private_key(self) -> None:
        """Check that the private key can sign. Sends nothing.

        Raises:
            ConfigError: the private key cannot sign.
        """
        try:
            self.sign_as_app()
        except TransientError as error:
            raise ConfigError(str(error)) from None

    def sign_as_app(self) -> Signature:
        """The signature of a request that the App itself makes.

        Raises:
            TransientError: the private key cannot sign.
        """
        header, ends = self._app_header
        if time.monotonic() < ends:  # the header is reused because signing takes as long as a call
            return Signature(header, _APP)
        _require_rsa_key(self._private_key)
        header = f"Bearer {AppAuth(self._app_id, self._private_key).create_jwt(_APP_TOKEN_SECONDS)}"
        self._app_header = header, time.monotonic() + _APP_TOKEN_SECONDS / 2
        return Signature(header, _APP)

    def sign(self, repository: Repository) -> Signature:
        """The signature of a request about a repository.

        If the known installation was removed, GitHub answers 404. The App may have been installed again, so the
        installation is read again: otherwise that 404 would be taken for one about the repository or commit.

        Raises:
            NotInstalledError: the App is not installed on the repository.
        """
        if known := self._sharing.installation(repository):
            try:
                return self._sign_for(known)
            except ApiError as error:
                if error.status != 404:
                    raise
            self.discard_installation(repository)
        return self._sign_for(self.read_installation(repository).id)

    def discard_token(self, repository: Repository) -> None:
        """Discard the token of the repository's installation, in all processes, and find the installation again.

        If the App was installed again, the repository has another installation.
        """
        if installation := self._sharing.installation(repository):
            self._tokens.remove(installation)
            self._sharing.save_sealed_token(installation, "", 0)
        self.discard_installation(repository)

    def discard_installation(self, repository: Repository) -> None:
        """Discard what is known about the repository's installation; the next request reads it again."""
        self._sharing.save_installation(repository, 0)

    def read_installation(self, repository: Repository) -> answers.Installation:
        """The installation on a repository. One call.

        Raises:
            NotInstalledError: the App is not installed on the repository.
        """
        path = f"/repos/{repository.full_name}/installation"
        try:
            _, found = self.client.send_once("GET", path, answers.Installation, self.sign_as_app())
        except ApiError as error:
            if error.status != 404:
                raise
            raise NotInstalledError(f"the GitHub App is not installed on {repository}") from error
        self._sharing.save_installation(repository, found.id)
        return found

    def clone_token(self, repository: Repository) -> str:
        """A new token that can only read one repository. One call.

        Raises:
            NotInstalledError: the App is not installed on the repository.
            TransientError: the installation was removed since it was read.
        """
        body = {"repositories": [repository.name], "permissions": {"contents": "read"}}
        installation = self._sharing.installation(repository) or self.read_installation(repository).id
        path = f"/app/installations/{installation}/access_tokens"
        try:
            return self.client.send_once("POST", path, answers.Token, self.sign_as_app(), body=body)[1].token
        except ApiError as error:
            if error.status != 404:
                raise
            self.discard_installation(repository)  # the App may have been installed again
            raise TransientError(f"the GitHub App's installation on {repository} was removed") from error

    def explain_refusal(self, repository: Repository, error: ApiError) -> str:
        """Why GitHub refused a request, with the link that changes it; empty if that is unknown.

        Two calls, and none for a minute after that.
        """
        needed = accepted_permissions(error.headers.get("x-accepted-github-permissions"))
        key = (self._sharing.installation(repository) or repository.key, *needed.items(), is_suspended(error))
        text, ends = self._refusals.get(key) or ("", 0.0)
        if time.monotonic() >= ends:
            # an explanation is worth no further error
            with suppress(ApiError, UnexpectedAnswerError, RequestException, DeployerError):
                text = self.permission_remedy(repository, needed)
                if needed and not text:  # accepted since GitHub issued the token
                    self.discard_token(repository)
            self._refusals.put(key, (text, time.monotonic() + _REFUSAL_SECONDS))
        return text

    def permission_remedy(self, repository: Repository, needed: Mapping[str, str]) -> str:
        """What people must do so that deployer has the needed permissions; empty if it has them. At most two calls."""
        found = self.read_installation(repository)
        owner, page = found.owner, found.html_url
        if found.suspended_at:
            return suspension_problem(owner, page)
        lacking = missing_permissions(needed, found.permissions)
        if not lacking:
            return ""
        app = self.client.send_once("GET", "/app", answers.App, self.sign_as_app())[1]
        return permission_problem(
            lacking,
            app.permissions,
            owner=owner,
            installation_page=page,
            app_settings=self._app_settings(app),
        )

    def why_hidden(self, repository: Repository) -> str:
        """Why GitHub does not show a repository, with the link that changes it; empty if that is unknown.

        At most two calls.
        """
        try:
            found = self.read_installation(repository)
        except NotInstalledError:
            app = self.client.send_once("GET", "/app", answers.App, self.sign_as_app())[1]
            return installation_problem(repository, app.html_url)
        return suspension_problem(found.owner, found.html_url) if found.suspended_at else ""

    def _app_settings(self, app: answers.App) -> str:
        """The address of the App's settings, which belong to a person or an organization."""
        pages = web_address(self._api_url)
        owned = app.owner and app.owner.type == "Organization"
        owner = f"/organizations/{app.owner.login}" if app.owner and owned else ""
        return f"{pages}{owner}/settings/apps/{app.slug}"

    def _sign_for(self, installation: int) -> Signature:
        return Signature(f"token {self._installation_token(installation)}", f"installation-{installation}")

    def _installation_token(self, installation: int) -> str:
        """The installation's token: from memory, from another process, or a new one."""
        held = self._tokens.get(installation)
        if held and time.monotonic() < held.trusted_until:
            return held.token
        if shared := self._sharing.sealed_token(installation):
            sealed, seconds = shared
            token = self._seal.unseal(installation, sealed)
            if token and seconds > random.uniform(0, _RENEWAL_SECONDS):  # noqa: S311  not a secret
                self._hold_token(installation, token, seconds)
                return token
        path = f"/app/installations/{installation}/access_tokens"
        headers, made = self.client.send_once("POST", path, answers.Token, self.sign_as_app())
        lifetime = min(_token_lifetime(headers, made.expires_at), _INSTALLATION_TOKEN_SECONDS)
        seconds = lifetime - _RENEWAL_MARGIN_SECONDS
        self._sharing.save_sealed_token(installation, self._seal.seal(installation, made.token), seconds)
        self._hold_token(installation, made.token, seconds)
        return made.token

    def _hold_token(self, installation: int, token: str, seconds: float) -> None:
        until = time.monotonic() + min(seconds, _TRUSTED_SECONDS)
        self._tokens.put(installation, _HeldToken(token, until))


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
