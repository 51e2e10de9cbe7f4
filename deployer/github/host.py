"""Implements the core's port `CodeHost` with GitHub's REST and GraphQL APIs.

A missing ref or folder is an answer (`None`, `{}`); a missing or invisible repository is an error. GitHub answers both
with 404, and mistaking the second for the first would delete environments. Therefore a 404 counts as a missing ref
only after GitHub has shown the repository itself.

A whole repository is read by GraphQL, because one call is enough; everything else is read by REST.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from deployer.environment.code_host import (
    Head,
    HookDelivery,
    Protection,
    PullRequestHead,
    Relation,
    RepositoryFacts,
    Status,
)
from deployer.github import answers
from deployer.github import feedback as github_feedback
from deployer.github import hooks as github_hooks
from deployer.github import refs as github_refs
from deployer.github import repository_query as github_facts
from deployer.github.access_problems import missing_permissions, missing_scopes
from deployer.github.client import GitHubClient, RepositoryClient, retry_transient_failures
from deployer.github.credentials import AppCredentials, NotInstalledError, TokenCredentials
from deployer.github.errors import (
    ApiError,
    Headers,
    is_suspended,
    requires_permission,
    translate_errors,
)
from deployer.github.files import FolderReader
from deployer.github.host_comments import HostComments
from deployer.github.reachability import probe_api
from deployer.github.sharing import Sharing
from deployer.model.environments import Repository
from deployer.model.errors import DeployerError, TransientError
from deployer.model.refs import Ref

PUBLIC_API = "https://api.github.com"
_NEEDED = {"contents": "read", "statuses": "write"}  # to deploy a commit and to show it


class GitHubHost(HostComments):
    """The port `CodeHost` on GitHub's REST and GraphQL APIs. Threads may share it.

    Args:
        token: a token that works for every repository; unused if `app_id` is set.
        app_id: the id of a GitHub App that is installed on each repository.
        private_key: the App's private key (PEM).
        api_url: `https://api.github.com`, or `https://<host>/api/v3` of an Enterprise Server.
        sharing: what all processes share; by default this process shares nothing and is not limited.
    """

    def __init__(
        self,
        token: str = "",
        *,
        app_id: str = "",
        private_key: str = "",
        api_url: str = PUBLIC_API,
        sharing: Sharing | None = None,
    ) -> None:
        self._api_url = api_url.rstrip("/") or PUBLIC_API
        self._app = AppCredentials(app_id, private_key, self._api_url, sharing) if app_id else None
        self._credentials = self._app or TokenCredentials(token, self._api_url)
        self._client = (
            self._app.client if self._app else GitHubClient(self._api_url, self._credentials, sharing)
        )
        self._folders = FolderReader()

    def check_private_key(self) -> None:
        """Check that the GitHub App's private key can sign. Sends nothing; without an App it does nothing.

        Raises:
            ConfigError: the private key cannot sign.
        """
        if self._app:
            self._app.check_private_key()

    def facts(self, repository: Repository, only: Ref | None = None) -> RepositoryFacts | None:
        """GitHub's description of a repository with its refs, or None if deployer cannot see the repository.

        One call reads up to a hundred branches with a hundred tags; each further call reads the next hundred of one
        kind or of both. A single ref takes one call. A repository without commits takes one more, for its default
        branch.

        Raises:
            RightsError: the token or the App may not read all of the repository.
        """
        found = self._read_facts(repository, only)
        if found is None:
            # if the App is installed again, it has another installation
            self._credentials.discard_installation(repository)
        return found

    def _read_facts(self, repository: Repository, only: Ref | None) -> RepositoryFacts | None:
        with translate_errors(f"reading {repository}", repository), requires_permission("contents: read"):
            try:
                found = github_facts.read_repository(self._client, repository, only)
            except NotInstalledError:
                return None
            except ApiError as error:
                if is_suspended(error):
                    return None
                if error.status != 404:
                    raise
                # A 404 means that the installation was removed, or that this address has no GraphQL API
                if not self._repository_client(repository).repository_exists():
                    return None
                raise TransientError(
                    f"reading {repository}: GitHub's REST API answers, but its GraphQL API is not found; check "
                    "DEPLOYER_GITHUB_API_URL"
                ) from error
            if found is None:
                return None
            described, refs, made = found
            head = described.default_branch_ref
            return RepositoryFacts(
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
        """What a ref points to now, or None if the ref does not exist.

        One call for a branch; two for a tag, and one more if it is annotated.

        Raises:
            PermanentError: the tag does not point to a commit, or GitHub does not show the repository.
        """
        with translate_errors(f"reading {ref} of {repository}", repository):
            return github_refs.read_head(self._repository_client(repository), ref)

    def check_reachable(self, seconds: float) -> None:
        """See `CodeHost.check_reachable`. One call, which is never repeated."""
        probe_api(self._api_url, seconds)

    def commit(self, repository: Repository, prefix: str) -> str:
        """The full id of a commit. One call; one more if GitHub does not find it.

        Raises:
            NotFoundError: no commit has this id, several have it, or it is the name of a branch or tag.
            PermanentError: GitHub does not show the repository.
        """
        with translate_errors(f"reading commit {prefix} of {repository}", repository):
            return github_refs.full_commit_id(self._repository_client(repository), prefix)

    def files(self, repository: Repository, sha: str, folder: str) -> dict[str, bytes]:
        """The files of a folder that deployer uses (`RECOGNIZED_FILES`) at a commit, as name to content.

        One call, and one for each of at most nine files that is not cached.

        Raises:
            PermanentError: the commit does not exist.
            UnreadableError: a file, or all of them together, are too large (`reject_large_files`), or one is not a
                regular file (`reject_irregular_files`).
        """
        with translate_errors(f"reading {folder}/ of {repository} at {sha[:12]}", repository):
            return self._folders.read_usable_files(self._repository_client(repository), sha, folder)

    def regular_files(self, repository: Repository, sha: str, folder: str, stem: str) -> dict[str, bytes]:
        """The files of a folder at a commit whose name is the stem with a suffix, as name to content.

        One call, and one for each file that is not cached.

        Raises:
            UnreadableError: one of them, or the folder, is not regular (such as a symbolic link), or is too large.
            PermanentError: the commit does not exist.
        """
        with translate_errors(f"reading {folder}/{stem}.* of {repository} at {sha[:12]}", repository):
            return self._folders.read_regular_files(self._repository_client(repository), sha, folder, stem)

    def ancestry(self, repository: Repository, base: str, commit: str) -> Relation:
        """How a commit is related to a base commit. One call.

        Raises:
            PayloadError: `base` or `commit` is not a full commit id.
        """
        with translate_errors(f"comparing {base[:12]} with {commit[:12]} of {repository}", repository):
            return github_refs.compare_commits(self._repository_client(repository), base, commit)

    def protected_branches(self, repository: Repository) -> Mapping[Ref, str]:
        """The protected branches with the commits that they point to. One call per hundred branches.

        Raises:
            PermanentError: the repository has more than 500 protected branches.
        """
        with translate_errors(f"listing the protected branches of {repository}", repository):
            return github_refs.protected_branches(self._repository_client(repository))

    def read_protection(self, repository: Repository) -> Protection:
        """What protects the default branch and the tags, as far as deployer may read it. Three calls, or four."""
        with translate_errors(f"reading what protects {repository}", repository):
            return github_refs.read_protection(self._repository_client(repository))

    def _repository_client(self, repository: Repository) -> RepositoryClient:
        return RepositoryClient(self._client, repository)

    def post_commit_status(self, repository: Repository, sha: str, status: Status) -> None:
        """Set a commit status, with texts shortened to GitHub's limits. One call."""
        with translate_errors(f"setting status {status.context!r} of {repository} at {sha[:12]}", repository):
            github_feedback.post_status(self._repository_client(repository), sha, status)

    @property
    def is_app(self) -> bool:
        """Whether deployer works as a GitHub App, whose one webhook delivers the events of every repository."""
        return self._app is not None

    def webhook_organization(self, repository: Repository, url: str) -> str:
        """See `CodeHost.webhook_organization`. No call for an App, otherwise one for the repository's webhooks.

        If none of them has this address, one more call for the owner and one for the organization's webhooks.
        """
        if self.is_app:
            return ""
        with (
            translate_errors(f"finding the webhook of {repository}", repository),
            requires_permission("webhooks: read"),
        ):
            return github_hooks.require_webhook(self._api_call(repository), repository, url).organization

    def deliveries(
        self, repository: Repository, url: str, since: float, others: Collection[int] = ()
    ) -> list[HookDelivery]:
        """See `CodeHost.deliveries`. One call per hundred attempts, and one to three to find the webhook."""
        with (
            translate_errors(f"reading the deliveries of {repository}", repository),
            requires_permission("webhooks: read"),
        ):
            owner = None if self.is_app else repository
            call = self._api_call(repository, as_app=self.is_app)
            return github_hooks.read_deliveries(call, owner, url, since, others)

    def open_pull_requests(self, repository: Repository) -> list[PullRequestHead]:
        """See `CodeHost.open_pull_requests`. One call per hundred."""
        with (
            translate_errors(f"reading the pull requests of {repository}", repository),
            requires_permission("pull requests: read"),
        ):
            return github_feedback.open_heads(self._api_call(repository), repository)

    def payload(self, repository: Repository, delivery: HookDelivery) -> dict[str, Any]:
        """The payload of a delivery. One call."""
        with (
            translate_errors(f"reading delivery {delivery.guid} of {repository}", repository),
            requires_permission(github_hooks.webhook_permission("read", delivery.organization)),
        ):
            call = self._api_call(repository, as_app=not delivery.hook)
            path = f"{github_hooks.webhook_path(repository, delivery)}/deliveries/{delivery.id}"
            return dict(call("GET", path, answers.FullHookDelivery)[1].request.payload)

    def redeliver(self, repository: Repository, delivery: HookDelivery) -> None:
        """Ask GitHub to send a delivery again. One call.

        Raises:
            PermanentError: GitHub refuses.
        """
        with (
            translate_errors(f"sending delivery {delivery.guid} of {repository} again", repository),
            requires_permission(github_hooks.webhook_permission("write", delivery.organization)),
        ):
            call = self._api_call(repository, as_app=not delivery.hook)
            path = f"{github_hooks.webhook_path(repository, delivery)}/deliveries/{delivery.id}/attempts"
            call("POST", path, answers.Accepted)

    def install_hook(self, repository: Repository, url: str, secret: str, events: Sequence[str]) -> str:
        """See `CodeHost.install_hook`. Two calls or more."""
        with (
            translate_errors(f"setting the webhook of {repository}", repository),
            requires_permission("webhooks: write"),
        ):
            return github_hooks.install_webhook(self._api_call(repository), repository, url, secret, events)

    def changed_paths(self, repository: Repository, before: str, after: str) -> list[str] | None:
        """See `CodeHost.changed_paths`. One call.

        A renamed file appears with both names; GitHub lists at most 300 files.
        """
        with translate_errors(f"comparing {before[:12]} with {after[:12]} of {repository}", repository):
            return github_refs.changed_files(self._repository_client(repository), before, after)

    def missing_permissions(self, repository: Repository) -> list[str]:
        """The permissions that deployer needs on a repository but lacks, as far as GitHub tells. Two calls at most.

        Raises:
            PermanentError: GitHub does not show the repository.
        """
        with translate_errors(f"reading deployer's permissions on {repository}", repository):
            path = f"/repos/{repository.full_name}"
            headers, described = self._client.call(repository, "GET", path, answers.RepositoryRights)
            if self._app:
                held = self._app.read_installation(repository).permissions
                return [f"{name}: {level}" for name, level in missing_permissions(_NEEDED, held).items()]
            may_push = described.permissions.get("push", True)
            return missing_scopes(headers.get("x-oauth-scopes", ""), described.private, may_push)

    def permission_remedy(self, repository: Repository) -> str:
        """How people give the App the permissions that deployer lacks; empty for a token. At most two calls."""
        if self._app is None:
            return ""
        with translate_errors(f"reading deployer's permissions on {repository}", repository):
            return self._app.permission_remedy(repository, _NEEDED)

    def why_hidden(self, repository: Repository) -> str:
        """See `CodeHost.why_hidden`. At most two calls for an App, none for a token."""
        if self._app is None:
            return ""
        with (
            suppress(DeployerError),
            translate_errors(f"reading the installation on {repository}", repository),
        ):
            return self._app.why_hidden(repository)
        return ""

    def clone_token(self, full_name: str) -> str:
        """The token with which a pipeline may clone the repository.

        For an App it is a new token that can only read this repository, for one hour. With an App, a template should
        use a connection instead.

        Args:
            full_name: `owner/name` of the repository.
        """
        repository = Repository.parse(full_name)
        with translate_errors(f"getting a token for {repository}", repository):
            if isinstance(self._credentials, TokenCredentials):
                return self._credentials.token
            app = self._credentials
            return retry_transient_failures(lambda: app.clone_token(repository))

    # --- one request -------------------------------------------------------------------------------------------

    def _api_call(self, repository: Repository, *, as_app: bool = False) -> github_hooks.ApiCall:
        """A function that sends requests: with the repository's credentials, or as the App itself."""
        if not (as_app and self._app):
            return partial(self._client.call, repository)
        app = self._app

        def call(verb: str, path: str, answer: Any, **more: Any) -> tuple[Headers, Any]:
            return retry_transient_failures(
                lambda: app.client.send_once(verb, path, answer, app.sign_as_app(), **more)
            )

        return call
