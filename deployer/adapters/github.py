"""GitHub: refs, files at a commit, statuses, comments, webhooks. `github_client` sends what is asked here.

A ref or folder that is not there is an answer (`None`, `{}`); a repository that is not there, or that we cannot
see, is an error. The two look alike (404), and taking one for the other would tear environments down: so a 404
on a ref is believed only after the repository itself has answered.

A whole repository is looked at by GraphQL, which tells everything in one call; all else is REST.
"""

import base64
import binascii
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlsplit

import requests

from deployer.adapters import (
    github_answers as answers,
)
from deployer.adapters import (
    github_branches,
    github_comments,
    github_facts,
    github_hooks,
)
from deployer.adapters.descriptors import exhausted
from deployer.adapters.github_app import AppCredentials, NotInstalledError, Recent, TokenCredentials
from deployer.adapters.github_client import (
    ApiError,
    GitHubClient,
    Headers,
    UnexpectedAnswerError,
    is_too_large_to_compare,
    repeated,
)
from deployer.adapters.github_errors import is_empty, rights, translated
from deployer.adapters.github_text import cut
from deployer.environments import Repository
from deployer.errors import NoCommitError, NotFoundError, TransientError
from deployer.folder_files import reject_large_files
from deployer.ports import Facts, Head, HookDelivery, Protection, Relation, Status
from deployer.refs import Ref, is_full_sha

_T = TypeVar("_T")
_Contents = list[answers.Entry] | answers.Entry

PUBLIC_API = "https://api.github.com"
# https://docs.github.com/rest/commits/statuses
DESCRIPTION_LIMIT = 140
CONTEXT_LIMIT = 255
_URL_LIMIT = 1024
_KEPT_BLOBS = 100  # a branch's files are mostly those of the branch that it was made from
_KEPT_SIZE = 100_000
_TAG_DEPTH = 10  # a tag of a tag of a tag
_COMPARED = 300  # files: https://docs.github.com/rest/commits/commits#compare-two-commits


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
        self._blobs = Recent[bytes](_KEPT_BLOBS)
        self._own_login = ""

    def check(self) -> None:
        """Insist that a GitHub App's key can be used; nothing is sent.

        Raises:
            ConfigError: it cannot.
        """
        if self._app:
            self._app.check()

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
        found = self._looked_at(repository, only)
        if found is None:
            self._credentials.forget(repository)  # an App that is installed anew has another installation
        return found

    def _looked_at(self, repository: Repository, only: Ref | None) -> Facts | None:
        with translated(f"looking at {repository}", repository), rights("contents: read"):
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
                if not self._is_there(repository):
                    return None
                raise TransientError(
                    f"looking at {repository}: GitHub's REST API answers, its GraphQL API is not found; see "
                    "DEPLOYER_GITHUB_API_URL"
                ) from error
            if found is None:
                return None
            told, refs, made = found
            head = told.default_branch_ref
            return Facts(
                id=told.database_id,
                full_name=told.name_with_owner,
                default_branch=head.name if head else self.default_branch(repository),
                archived=told.is_archived,
                private=told.is_private,
                refs=refs,
                made=made,
            )

    def default_branch(self, repository: Repository) -> str:
        """The default branch's short name. One call."""
        with translated(f"reading repository {repository}", repository):
            return self._get(repository, "", answers.DefaultBranch).default_branch

    def head(self, repository: Repository, ref: Ref) -> Head | None:
        """Where a ref stands now, or None if there is no such ref.

        One call for a branch; two for a tag, and one more if it is annotated.

        Raises:
            PermanentError: the tag leads to no commit, or there is no such repository.
        """
        with translated(f"reading {ref} of {repository}", repository):
            if not ref.is_tag:
                return self._branch(repository, ref.short)
            found = self._ref(repository, ref)
            if found is None:
                return None
            target, made = found.object, ""
            for _ in range(_TAG_DEPTH):
                if target.type != "tag":
                    break
                tag = self._get(repository, f"/git/tags/{target.sha}", answers.GitTag)
                made = made or (tag.tagger.date if tag.tagger else "")
                target = tag.object
            if target.type != "commit":
                raise NoCommitError(f"{ref} of {repository} leads to a {target.type}, not to a commit")
            commit = self._get(repository, f"/git/commits/{target.sha}", answers.GitCommit)
            at = github_facts.seconds(made or commit.committer.date)
            return Head(found.object.sha, target.sha, commit.message, at)

    def check_reachable(self, seconds: float) -> None:
        """See `Host.check_reachable`. One call, which is not repeated."""
        url = f"{self._api_url}/meta"
        try:
            answer = requests.get(url, timeout=seconds, headers={"User-Agent": "deployer"}, stream=True)
            answer.close()
        except requests.RequestException as error:
            if remedy := exhausted(error):
                raise TransientError(f"GitHub was not asked: {remedy}") from error
            raise TransientError(
                f"GitHub does not answer at {_shown(url)} ({type(error).__name__})"
            ) from error
        if answer.status_code >= 500:
            raise TransientError(f"GitHub answers {answer.status_code} at {_shown(url)}")
        # its body is long and not read: that it is JSON tells it from the page of a proxy or provider
        if "json" not in answer.headers.get("content-type", ""):
            raise TransientError(
                f"what answers at {_shown(url)} is not GitHub's API; see DEPLOYER_GITHUB_API_URL"
            )

    def commit(self, repository: Repository, prefix: str) -> str:
        """The full id of a commit. One call; one more where it is not found.

        `commits/{ref}` takes a branch's or tag's name before a short id, so what it finds must begin with the id:
        https://docs.github.com/rest/commits/commits#get-a-commit
        """
        full = is_full_sha(prefix)
        path = f"/git/commits/{prefix}" if full else f"/commits/{prefix}"
        with translated(f"reading commit {prefix} of {repository}", repository):
            try:
                # one file a page: the ids are all that is wanted of a commit that may have changed thousands
                query = None if full else {"per_page": 1}
                found = self._get(repository, path, answers.CommitId, query).sha
            except ApiError as error:
                if error.status != 422 and not (error.status == 404 and self._is_there(repository)):
                    raise
                found = ""
        if not found:
            several = "" if full else ", or several begin so: give more digits"
            raise NotFoundError(f"{repository} has no commit {prefix}{several}")
        if not found.startswith(prefix):
            raise NotFoundError(
                f"{prefix} is the name of a branch or tag of {repository}; give more digits of the id"
            )
        return found

    def files(self, repository: Repository, sha: str, folder: str) -> dict[str, bytes]:
        """The usable files right in a folder at a commit (`USABLE`): one call, and one for each of at most nine files.

        A file that is too large is refused by the size in the listing, before it is fetched.
        They are read as blobs, by the id that the listing at this very commit gave; one that was read lately is not
        read again, since an id stands for its content.

        Raises:
            PermanentError: there is no such commit.
            UnreadableError: a file, or all of them together, are too large (`reject_large_files`), or one is
                no regular file (`insist_on_files`).
        """
        with translated(f"reading {folder}/ of {repository} at {sha[:12]}", repository):
            listed = self._contents(repository, sha, folder)
            usable = github_branches.usable_files(listed)
            reject_large_files({name: entry.size for name, entry in usable.items()})
            return {name: self._blob(repository, folder, entry) for name, entry in usable.items()}

    def regular_files(self, repository: Repository, sha: str, folder: str, stem: str) -> dict[str, bytes]:
        """The files of one stem in a folder at a commit: one call, and one for each of them that was not read lately.

        Raises:
            UnreadableError: one of them, or the folder, is a symbolic link, a submodule or the like, or is too large.
            PermanentError: there is no such commit.
        """
        with translated(f"reading {folder}/{stem}.* of {repository} at {sha[:12]}", repository):
            listed = self._contents(repository, sha, folder)
            found = list(github_branches.regular_files(listed, folder, stem))
            return {entry.name: self._blob(repository, folder, entry) for entry in found}

    def ancestry(self, repository: Repository, base: str, commit: str) -> Relation:
        """How a commit stands to a base. One call.

        Raises:
            PayloadError: one of them is no full commit id.
        """
        with translated(f"comparing {base[:12]} with {commit[:12]} of {repository}", repository):
            return github_branches.ancestry(self._asking(repository), base, commit)

    def protected_branches(self, repository: Repository) -> Mapping[Ref, str]:
        """The protected branches and where they stand. A call for each hundred.

        Raises:
            PermanentError: there are too many.
        """
        with translated(f"listing the protected branches of {repository}", repository):
            return github_branches.protected_branches(self._asking(repository), repository)

    def protection(self, repository: Repository) -> Protection:
        """What protects the default branch and the tags, as far as deployer may read it. Three calls, or four."""
        with translated(f"reading what protects {repository}", repository):
            branch = self._get(repository, "", answers.DefaultBranch).default_branch
            return github_branches.protection(self._asking(repository), branch, quote(branch, safe=""))

    def _asking(self, repository: Repository) -> github_branches.Ask:
        root = f"/repos/{repository.full_name}"
        return lambda path, answer, query: self._client.call(
            repository, "GET", f"{root}{path}", answer, query=query
        )

    def post(self, repository: Repository, sha: str, status: Status) -> None:
        """Set a commit status, cut to GitHub's lengths. One call."""
        body = {
            "state": status.state,
            "context": cut(status.context, CONTEXT_LIMIT) or "deployer",
            "description": cut(" ".join(status.description.split()), DESCRIPTION_LIMIT),
        }
        if urlsplit(status.url).scheme in {"http", "https"} and len(status.url) <= _URL_LIMIT:
            body["target_url"] = status.url
        with translated(f"setting status {status.context!r} of {repository} at {sha[:12]}", repository):
            path = f"/repos/{repository.full_name}/statuses/{sha}"
            self._client.call(repository, "POST", path, answers.CommitStatus, body=body)

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
        with translated(f"looking for the webhook of {repository}", repository), rights("webhooks: read"):
            return github_hooks.existing_webhook(self._call(repository), repository, url).organization

    def deliveries(
        self, repository: Repository, url: str, since: float, others: Collection[int] = ()
    ) -> list[HookDelivery]:
        """The attempts at delivering to the webhook with this address: the repository's own, else its organization's.

        A call for each hundred, and one to three to find the webhook.

        Raises:
            RightsError: the token or the App may not see them.
            NotFoundError: no webhook has exactly this address.
        """
        with translated(f"reading the deliveries of {repository}", repository), rights("webhooks: read"):
            call = self._call(repository, of_app=self.is_app)
            if self.is_app:
                return github_hooks.attempts(call, github_hooks.app_webhook(call, url), since)
            webhook = github_hooks.existing_webhook(call, repository, url)
            with rights(github_hooks.right_to("read", webhook.organization)):
                return github_hooks.attempts(call, webhook, since, others)

    def payload(self, repository: Repository, delivery: HookDelivery) -> dict[str, Any]:
        """What was delivered. One call."""
        with (
            translated(f"reading delivery {delivery.guid} of {repository}", repository),
            rights(github_hooks.right_to("read", delivery.organization)),
        ):
            call = self._call(repository, of_app=not delivery.hook)
            path = f"{github_hooks.webhook_path(repository, delivery)}/deliveries/{delivery.id}"
            return dict(call("GET", path, answers.FullHookDelivery)[1].request.payload)

    def redeliver(self, repository: Repository, delivery: HookDelivery) -> None:
        """Have it delivered once more. One call.

        Raises:
            PermanentError: GitHub will not.
        """
        with (
            translated(f"sending delivery {delivery.guid} of {repository} again", repository),
            rights(github_hooks.right_to("write", delivery.organization)),
        ):
            call = self._call(repository, of_app=not delivery.hook)
            path = f"{github_hooks.webhook_path(repository, delivery)}/deliveries/{delivery.id}/attempts"
            call("POST", path, answers.Accepted)

    def install_hook(self, repository: Repository, url: str, secret: str, events: Sequence[str]) -> str:
        """See that a webhook delivers here: `created`, `updated` or `unchanged` but for the secret. Two calls or more.

        Raises:
            RightsError: deployer may not manage webhooks there.
        """
        with translated(f"setting the webhook of {repository}", repository), rights("webhooks: write"):
            return github_hooks.install(self._call(repository), repository, url, secret, events)

    def comment(self, repository: Repository, branch: Ref, sha: str, text: str) -> list[str]:
        """Say something on a branch's open pull requests, or on a commit where there is none.

        A call for the pull requests, and two for each place; more where many comments are there already. For pull
        requests that takes *pull requests: write*; a comment on a commit takes *contents: read* only, but to change
        it later *contents: write*, which deployer has no other need of.

        Raises:
            RightsError: the token or the App may not.
        """
        doing = f"commenting on {branch} of {repository}"
        with translated(doing, repository), rights("pull requests: write"):
            login = partial(self._login, repository)
            return github_comments.comment(self._call(repository), repository, branch, sha, text, login)

    def change_comment(self, repository: Repository, comment: str, text: str) -> None:
        """Replace what a comment says. One call.

        Raises:
            RightsError: the token or the App may not, or the comment is gone.
        """
        needed = "pull requests: write" if comment.startswith("issues/") else "contents: write"
        with translated(f"changing {comment} of {repository}", repository), rights(needed):
            path = f"/repos/{repository.full_name}/{comment}"
            self._client.call(repository, "PATCH", path, answers.Created, body={"body": text})

    def changed(self, repository: Repository, before: str, after: str) -> list[str] | None:
        """The files in which a commit differs from an earlier one, renamed ones by both names; None where unknown.

        One call. GitHub compares with the common ancestor, and lists 300 files at most.
        """
        with translated(f"comparing {before[:12]} with {after[:12]} of {repository}", repository):
            try:
                path = f"/compare/{before}...{after}"
                found = self._get(repository, path, answers.Comparison, {"per_page": 1})
            except ApiError as error:
                if is_too_large_to_compare(error):
                    return None
                if error.status != 404:
                    raise
                self._insist(repository)  # a commit that is gone, or a repository that is?
                return None
            if found.status not in {"ahead", "identical"} or len(found.files) >= _COMPARED:
                return None
            names = {name for each in found.files for name in (each.filename, each.previous_filename)}
            return sorted(names - {""})

    def lacking(self, repository: Repository) -> list[str]:
        """The rights that deployer needs there and has not, as far as GitHub tells; one call.

        Raises:
            PermanentError: there is no such repository, or it cannot be seen.
        """
        with translated(f"reading the rights on {repository}", repository):
            path = f"/repos/{repository.full_name}"
            headers, told = self._client.call(repository, "GET", path, answers.RepositoryRights)
            if self._app:
                held = self._app.installation(repository).permissions
                needed = {"contents": ("read", "write"), "statuses": ("write",)}
                return [
                    f"{name}: {values[0]}" for name, values in needed.items() if held.get(name) not in values
                ]
            scopes = {each.strip() for each in headers.get("x-oauth-scopes", "").split(",")} - {""}
            # a fine-grained token has no scopes, and tells of its owner's rights only
            if scopes and not scopes & {"repo", "repo:status"}:
                return ["statuses: write (scope repo:status)"]
            if told.private and scopes and "repo" not in scopes:
                return ["contents: read (scope repo)"]
            return [] if told.permissions.get("push", True) else ["statuses: write"]

    def clone_token(self, full_name: str) -> str:
        """The token with which a pipeline may clone the repository.

        An App's is made for this: it reads this one repository and nothing else, for an hour from now on. With an App,
        a template should use a connection instead.
        """
        repository = Repository.parse(full_name)
        with translated(f"getting a token for {repository}", repository):
            if isinstance(self._credentials, TokenCredentials):
                return self._credentials.token
            app = self._credentials
            return repeated(lambda: app.clone_token(repository))

    # --- one request -------------------------------------------------------------------------------------------

    def _call(self, repository: Repository, *, of_app: bool = False) -> github_hooks.Call:
        """Asks for a repository; or as the App itself, not as one of its installations."""
        if not (of_app and self._app):
            return partial(self._client.call, repository)
        app = self._app

        def call(verb: str, path: str, answer: Any, **more: Any) -> tuple[Headers, Any]:
            return repeated(lambda: app.client.send(verb, path, answer, app.signed(), **more))

        return call

    def _login(self, repository: Repository) -> str:
        """Who GitHub says has written what we write. One call, once."""
        if not self._own_login:
            if self._app:
                call = self._call(repository, of_app=True)
                self._own_login = f"{call('GET', '/app', answers.App)[1].slug}[bot]"
            else:
                self._own_login = self._client.call(repository, "GET", "/user", answers.User)[1].login
        return self._own_login

    def _branch(self, repository: Repository, name: str) -> Head | None:
        try:
            # with its slashes escaped: branches/x/protection is another question about x
            found = self._get(repository, f"/branches/{quote(name, safe='')}", answers.Branch)
        except ApiError as error:
            if error.status != 404 and not is_empty(error):
                raise
            self._insist(repository)  # no such branch, or no such repository?
            return None
        if found.name != name:  # GitHub redirects to a renamed branch's new name
            return None
        return Head(found.commit.sha, found.commit.sha, found.commit.commit.message)

    def _ref(self, repository: Repository, ref: Ref) -> answers.GitRef | None:
        # the singular git/ref/ matches whole names; git/refs/ would give feature/x for feature
        path = f"/git/ref/{quote(ref.name.removeprefix('refs/'))}"
        try:
            found = self._get(repository, path, answers.GitRef)
        except ApiError as error:
            if is_empty(error):
                return None
            if error.status != 404:
                raise
            self._insist(repository)
            return None
        if found.ref != ref.name:
            raise UnexpectedAnswerError(f"it is about {found.ref}")
        return found

    def _contents(self, repository: Repository, sha: str, folder: str) -> _Contents:
        """What is at a path in a commit: a folder's entries, one entry of what is no folder, or an empty list."""
        path, shape = f"/contents/{quote(folder.strip('/'))}", cast("type[_Contents]", answers.Contents)
        try:
            listed = self._get(repository, path, shape, {"ref": sha})
        except ApiError as error:
            if error.status != 404:
                raise
            # no folder, or no commit, or no repository?
            self._get(repository, f"/git/commits/{sha}", answers.CommitId)
            return []
        entries = listed if isinstance(listed, list) else [listed]
        if not all(entry.url.endswith(f"ref={sha}") for entry in entries):  # a redirect may lose the query
            raise UnexpectedAnswerError(f"it lists the files of another commit than {sha[:12]}")
        return listed

    def _blob(self, repository: Repository, folder: str, entry: answers.Entry) -> bytes:
        key = repository.key, entry.sha
        if (kept := self._blobs.get(key)) is not None:
            return kept
        blob = self._get(repository, f"/git/blobs/{entry.sha}", answers.Blob)
        try:
            content = base64.b64decode("".join(blob.content.split()), validate=True)
        except binascii.Error:
            raise UnexpectedAnswerError(f"{folder}/{entry.name} is not in base64") from None
        if len(content) != entry.size:  # the sizes are what was judged
            raise UnexpectedAnswerError(
                f"{folder}/{entry.name} has {len(content):,} bytes, and {entry.size:,} in the list of files"
            )
        if len(content) <= _KEPT_SIZE:
            self._blobs.put(key, content)
        return content

    def _is_there(self, repository: Repository) -> bool:
        try:
            self._insist(repository)
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        return True

    def _insist(self, repository: Repository) -> None:
        """Ask for the repository itself: a 404 of anything in it says nothing where that is not there."""
        self._get(repository, "", answers.Repository)

    def _get(
        self, repository: Repository, path: str, answer: type[_T], query: Mapping[str, Any] | None = None
    ) -> _T:
        root = f"/repos/{repository.full_name}"
        return self._client.call(repository, "GET", f"{root}{path}", answer, query=query)[1]


def _shown(url: str) -> str:
    """Scheme and host of an address, without what else a setting may hold."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
