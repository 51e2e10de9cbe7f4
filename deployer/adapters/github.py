"""GitHub: refs, files at a commit, statuses, comments, webhooks. `github_client` sends what is asked here.

A ref or folder that is not there is an answer (`None`, `{}`); a repository that is not there, or that we cannot
see, is an error. The two look alike (404), and taking one for the other would tear environments down: so a 404
on a ref is believed only after the repository itself has answered.

A whole repository is looked at by GraphQL, which tells everything in one call; all else is REST.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import requests

from deployer.adapters import (
    github_answers as answers,
)
from deployer.adapters import (
    github_facts,
    github_feedback,
    github_hooks,
    github_refs,
)
from deployer.adapters.github_app import AppCredentials, NotInstalledError, TokenCredentials
from deployer.adapters.github_client import GitHubClient, RepositoryClient, retry_transient_failures
from deployer.adapters.github_errors import (
    ApiError,
    Headers,
    descriptor_remedy,
    requires_permission,
    translate_errors,
)
from deployer.adapters.github_files import FolderReader
from deployer.environments import Repository
from deployer.errors import TransientError
from deployer.ports import Facts, Head, HookDelivery, Protection, Relation, Status
from deployer.refs import Ref

PUBLIC_API = "https://api.github.com"


class GitHubHost:
    """The port `Host` on GitHub's REST and GraphQL APIs. Threads may share it.

    Args:
        token: a token for every repository; or
        app_id, private_key: a GitHub App's, installed on each repository.
        api_url: `https://api.github.com`, or `https://<host>/api/v3` of an Enterprise Server.
    """

    def __init__(
        self, token: str = "", *, app_id: str = "", private_key: str = "", api_url: str = PUBLIC_API
    ) -> None:
        self._api_url = api_url.rstrip("/") or PUBLIC_API
        self._app = AppCredentials(app_id, private_key, self._api_url) if app_id else None
        self._credentials = self._app or TokenCredentials(token)
        self._client = self._app.client if self._app else GitHubClient(self._api_url, self._credentials)
        self._folders = FolderReader()
        self._own_login = ""

    def check_private_key(self) -> None:
        """Insist that a GitHub App's key can be used; nothing is sent.

        Raises:
            ConfigError: it cannot.
        """
        if self._app:
            self._app.check_private_key()

    def facts(self, repository: Repository, only: Ref | None = None) -> Facts | None:
        """What GitHub says of a repository, or None where it cannot be seen.

        One call for up to a hundred branches and a hundred tags, and one for each further hundred of either kind, or
        of both; one for a single ref. One more tells the default branch of a repository without any commit.

        Args:
            repository: which.
            only: the one ref that it is asked for; None for all.

        Raises:
            RightsError: the token or the App may not see all of it.
        """
        found = self._read_facts(repository, only)
        if found is None:
            self._credentials.discard_cached_credentials(
                repository
            )  # an App that is installed anew has another installation
        return found

    def _read_facts(self, repository: Repository, only: Ref | None) -> Facts | None:
        with translate_errors(f"looking at {repository}", repository), requires_permission("contents: read"):
            try:
                found = github_facts.read_repository(self._client, repository, only)
            except NotInstalledError:
                return None
            except ApiError as error:
                if error.status == 403 and "suspended" in error.message:
                    return None
                if error.status != 404:
                    raise
                # an installation that is gone, or an address at which nobody speaks GraphQL?
                if not self._repository_client(repository).repository_exists():
                    return None
                raise TransientError(
                    f"looking at {repository}: GitHub's REST API answers, its GraphQL API is not found; see "
                    "DEPLOYER_GITHUB_API_URL"
                ) from error
            if found is None:
                return None
            described, refs, made = found
            head = described.default_branch_ref
            return Facts(
                id=described.database_id,
                full_name=described.name_with_owner,
                default_branch=head.name if head else self.default_branch(repository),
                archived=described.is_archived,
                private=described.is_private,
                refs=refs,
                made=made,
            )

    def default_branch(self, repository: Repository) -> str:
        """The default branch's short name. One call."""
        with translate_errors(f"reading repository {repository}", repository):
            return github_refs.default_branch(self._repository_client(repository))

    def head(self, repository: Repository, ref: Ref) -> Head | None:
        """Where a ref stands now, or None if there is no such ref.

        One call for a branch; two for a tag, and one more if it is annotated.

        Raises:
            PermanentError: the tag leads to no commit, or there is no such repository.
        """
        with translate_errors(f"reading {ref} of {repository}", repository):
            return github_refs.read_head(self._repository_client(repository), ref)

    def check_reachable(self, seconds: float) -> None:
        """See `Host.check_reachable`. One call, which is not repeated."""
        url = f"{self._api_url}/meta"
        try:
            answer = requests.get(url, timeout=seconds, headers={"User-Agent": "deployer"}, stream=True)
            answer.close()
        except requests.RequestException as error:
            if remedy := descriptor_remedy(error):
                raise TransientError(f"GitHub was not asked: {remedy}") from error
            raise TransientError(
                f"GitHub does not answer at {_origin_without_credentials(url)} ({type(error).__name__})"
            ) from error
        if answer.status_code >= 500:
            raise TransientError(f"GitHub answers {answer.status_code} at {_origin_without_credentials(url)}")
        # its body is long and not read: that it is JSON tells it from the page of a proxy or provider
        if "json" not in answer.headers.get("content-type", ""):
            raise TransientError(
                f"what answers at {_origin_without_credentials(url)} is not GitHub's API; see DEPLOYER_GITHUB_API_URL"
            )

    def commit(self, repository: Repository, prefix: str) -> str:
        """The full id of a commit. One call; one more where it is not found.

        `commits/{ref}` takes a branch's or tag's name before a short id, so what it finds must begin with the id:
        https://docs.github.com/rest/commits/commits#get-a-commit
        """
        with translate_errors(f"reading commit {prefix} of {repository}", repository):
            return github_refs.full_commit_id(self._repository_client(repository), prefix)

    def files(self, repository: Repository, sha: str, folder: str) -> dict[str, bytes]:
        """The usable files right in a folder at a commit (`USABLE`): one call, and one for each of at most nine files.

        A file that is too large is refused by the size in the listing, before it is fetched.
        They are read as blobs, by the id that the listing at this very commit gave; one that was read lately is not
        read again, since an id stands for its content.

        Raises:
            PermanentError: there is no such commit.
            UnreadableError: a file, or all of them together, are too large (`insist_on_sizes`), or one is
                no regular file (`insist_on_files`).
        """
        with translate_errors(f"reading {folder}/ of {repository} at {sha[:12]}", repository):
            return self._folders.read_usable_files(self._repository_client(repository), sha, folder)

    def regular_files(self, repository: Repository, sha: str, folder: str, stem: str) -> dict[str, bytes]:
        """The files of one stem in a folder at a commit: one call, and one for each of them that was not read lately.

        Raises:
            UnreadableError: one of them, or the folder, is a symbolic link, a submodule or the like, or is too large.
            PermanentError: there is no such commit.
        """
        with translate_errors(f"reading {folder}/{stem}.* of {repository} at {sha[:12]}", repository):
            return self._folders.read_regular_files(self._repository_client(repository), sha, folder, stem)

    def ancestry(self, repository: Repository, base: str, commit: str) -> Relation:
        """How a commit stands to a base. One call.

        Raises:
            PayloadError: one of them is no full commit id.
        """
        with translate_errors(f"comparing {base[:12]} with {commit[:12]} of {repository}", repository):
            return github_refs.compare_commits(self._repository_client(repository), base, commit)

    def protected_branches(self, repository: Repository) -> Mapping[Ref, str]:
        """The protected branches and where they stand. A call for each hundred.

        Raises:
            PermanentError: there are too many.
        """
        with translate_errors(f"listing the protected branches of {repository}", repository):
            return github_refs.protected_branches(self._repository_client(repository))

    def read_protection(self, repository: Repository) -> Protection:
        """What protects the default branch and the tags, as far as deployer may read it. Three calls, or four."""
        with translate_errors(f"reading what protects {repository}", repository):
            return github_refs.read_protection(self._repository_client(repository))

    def _repository_client(self, repository: Repository) -> RepositoryClient:
        return RepositoryClient(self._client, repository)

    def post(self, repository: Repository, sha: str, status: Status) -> None:
        """Set a commit status, cut to GitHub's lengths. One call."""
        with translate_errors(f"setting status {status.context!r} of {repository} at {sha[:12]}", repository):
            github_feedback.post_status(self._repository_client(repository), sha, status)

    @property
    def is_app(self) -> bool:
        """Whether it works as a GitHub App, whose one webhook tells of every repository."""
        return self._app is not None

    def webhook_organization(self, repository: Repository, url: str) -> str:
        """The organization whose webhook tells of a repository; empty where it is the repository's own, or the App's.

        One call for the repository's webhooks. Where none of them has this address, one more for the owner and one for
        the organization's. None for an App.

        Raises:
            RightsError: the token may not see them.
            NotFoundError: no webhook has exactly this address.
        """
        if self.is_app:
            return ""
        with (
            translate_errors(f"looking for the webhook of {repository}", repository),
            requires_permission("webhooks: read"),
        ):
            return github_hooks.require_webhook(self._api_call(repository), repository, url).organization

    def deliveries(
        self, repository: Repository, url: str, since: float, others: Collection[int] = ()
    ) -> list[HookDelivery]:
        """The attempts at delivering to the webhook with this address: the repository's own, else its organization's.

        A call for each hundred, and one to three to find the webhook.

        Raises:
            RightsError: the token or the App may not see them.
            NotFoundError: no webhook has exactly this address.
        """
        with (
            translate_errors(f"reading the deliveries of {repository}", repository),
            requires_permission("webhooks: read"),
        ):
            call = self._api_call(repository, as_app=self.is_app)
            if self.is_app:
                return github_hooks.delivery_attempts(
                    call, github_hooks.require_app_webhook(call, url), since
                )
            webhook = github_hooks.require_webhook(call, repository, url)
            with requires_permission(github_hooks.webhook_permission("read", webhook.organization)):
                return github_hooks.delivery_attempts(call, webhook, since, others)

    def payload(self, repository: Repository, delivery: HookDelivery) -> dict[str, Any]:
        """What was delivered. One call."""
        with (
            translate_errors(f"reading delivery {delivery.guid} of {repository}", repository),
            requires_permission(github_hooks.webhook_permission("read", delivery.organization)),
        ):
            call = self._api_call(repository, as_app=not delivery.hook)
            path = f"{github_hooks.webhook_path(repository, delivery)}/deliveries/{delivery.id}"
            return dict(call("GET", path, answers.FullHookDelivery)[1].request.payload)

    def redeliver(self, repository: Repository, delivery: HookDelivery) -> None:
        """Have it delivered once more. One call.

        Raises:
            PermanentError: GitHub will not.
        """
        with (
            translate_errors(f"sending delivery {delivery.guid} of {repository} again", repository),
            requires_permission(github_hooks.webhook_permission("write", delivery.organization)),
        ):
            call = self._api_call(repository, as_app=not delivery.hook)
            path = f"{github_hooks.webhook_path(repository, delivery)}/deliveries/{delivery.id}/attempts"
            call("POST", path, answers.Accepted)

    def install_hook(self, repository: Repository, url: str, secret: str, events: Sequence[str]) -> str:
        """See that a webhook delivers here: `created`, `updated` or `unchanged` but for the secret. Two calls or more.

        Raises:
            RightsError: deployer may not manage webhooks there.
        """
        with (
            translate_errors(f"setting the webhook of {repository}", repository),
            requires_permission("webhooks: write"),
        ):
            return github_hooks.install_webhook(self._api_call(repository), repository, url, secret, events)

    def comment(self, repository: Repository, branch: Ref, sha: str, text: str) -> list[str]:
        """Say something on a branch's open pull requests, or on a commit where there is none.

        A call for the pull requests, and two for each place; more where many comments are there already. For pull
        requests that takes *pull requests: write*; a comment on a commit takes *contents: read* only, but to change
        it later *contents: write*, which deployer has no other need of.

        Raises:
            RightsError: the token or the App may not.
        """
        doing = f"commenting on {branch} of {repository}"
        with translate_errors(doing, repository), requires_permission("pull requests: write"):
            login = partial(self._deployer_login, repository)
            return github_feedback.post_comment(
                self._api_call(repository), repository, branch, sha, text, login
            )

    def change_comment(self, repository: Repository, comment: str, text: str) -> None:
        """Replace what a comment says. One call.

        Raises:
            RightsError: the token or the App may not, or the comment is gone.
        """
        needed = "pull requests: write" if comment.startswith("issues/") else "contents: write"
        with translate_errors(f"changing {comment} of {repository}", repository), requires_permission(needed):
            path = f"/repos/{repository.full_name}/{comment}"
            self._client.call(repository, "PATCH", path, answers.Created, body={"body": text})

    def changed(self, repository: Repository, before: str, after: str) -> list[str] | None:
        """The files in which a commit differs from an earlier one, renamed ones by both names; None where unknown.

        One call. GitHub compares with the common ancestor, and lists 300 files at most.
        """
        with translate_errors(f"comparing {before[:12]} with {after[:12]} of {repository}", repository):
            return github_refs.changed_files(self._repository_client(repository), before, after)

    def missing_permissions(self, repository: Repository) -> list[str]:
        """The rights that deployer needs there and has not, as far as GitHub tells; one call.

        Raises:
            PermanentError: there is no such repository, or it cannot be seen.
        """
        with translate_errors(f"reading the rights on {repository}", repository):
            path = f"/repos/{repository.full_name}"
            headers, described = self._client.call(repository, "GET", path, answers.RepositoryRights)
            if self._app:
                held = self._app.installation_on(repository).permissions
                needed = {"contents": ("read", "write"), "statuses": ("write",)}
                return [
                    f"{name}: {values[0]}" for name, values in needed.items() if held.get(name) not in values
                ]
            scopes = {each.strip() for each in headers.get("x-oauth-scopes", "").split(",")} - {""}
            # a fine-grained token has no scopes, and tells of its owner's rights only
            if scopes and not scopes & {"repo", "repo:status"}:
                return ["statuses: write (scope repo:status)"]
            if described.private and scopes and "repo" not in scopes:
                return ["contents: read (scope repo)"]
            return [] if described.permissions.get("push", True) else ["statuses: write"]

    def clone_token(self, full_name: str) -> str:
        """The token with which a pipeline may clone the repository.

        An App's is made for this: it reads this one repository and nothing else, for an hour from now on. With an App,
        a template should use a connection instead.
        """
        repository = Repository.parse(full_name)
        with translate_errors(f"getting a token for {repository}", repository):
            if isinstance(self._credentials, TokenCredentials):
                return self._credentials.token
            app = self._credentials
            return retry_transient_failures(lambda: app.clone_token(repository))

    # --- one request -------------------------------------------------------------------------------------------

    def _api_call(self, repository: Repository, *, as_app: bool = False) -> github_hooks.ApiCall:
        """Asks for a repository; or as the App itself, not as one of its installations."""
        if not (as_app and self._app):
            return partial(self._client.call, repository)
        app = self._app

        def call(verb: str, path: str, answer: Any, **more: Any) -> tuple[Headers, Any]:
            return retry_transient_failures(
                lambda: app.client.send_once(verb, path, answer, app.app_authorization(), **more)
            )

        return call

    def _deployer_login(self, repository: Repository) -> str:
        """Who GitHub says has written what we write. One call, once."""
        if not self._own_login:
            if self._app:
                call = self._api_call(repository, as_app=True)
                self._own_login = f"{call('GET', '/app', answers.App)[1].slug}[bot]"
            else:
                self._own_login = self._client.call(repository, "GET", "/user", answers.User)[1].login
        return self._own_login


def _origin_without_credentials(url: str) -> str:
    """Scheme and host of an address, without what else a setting may hold."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
