"""GitHub through PyGithub: refs, files at a commit, statuses. GitHub's answers are read here and nowhere else.

A ref or folder that is not there is an answer (`None`, `{}`); a repository that is not there, or that we cannot
see, is an error. The two look alike (404), and taking one for the other would tear environments down: so a 404
on a ref is believed only after the repository itself has answered.

A whole repository is looked at by GraphQL, which tells everything in one call; all else is REST.
"""

import base64
import binascii
import itertools
import logging
import os
import re
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import requests
from github import Auth, Github, GithubException, GithubIntegration
from github.Requester import (
    HTTPRequestsConnectionClass,
    HTTPSRequestsConnectionClass,
    Requester,
    RequestsResponse,
)
from jwt import PyJWTError
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_random_exponential

from deployer.adapters import github_branches
from deployer.environments import Repository
from deployer.errors import (
    ConfigError,
    DeployerError,
    NoCommitError,
    NotFoundError,
    PayloadError,
    PermanentError,
    RightsError,
    TransientError,
)
from deployer.ports import Facts, Head, HookDelivery, Protection, Relation, Status
from deployer.refs import Ref, is_full_sha
from deployer.tally import note, note_quota
from deployer.template import USABLE, insist_on_sizes

log = logging.getLogger(__name__)
_T = TypeVar("_T")

PUBLIC_API = "https://api.github.com"
# https://docs.github.com/rest/commits/statuses
DESCRIPTION_LIMIT = 140
CONTEXT_LIMIT = 255
_URL_LIMIT = 1024
_KEPT_BLOBS = 100  # a branch's files are mostly those of the branch that it was made from
_KEPT_SIZE = 100_000
_TAG_DEPTH = 10  # a tag of a tag of a tag
_PAGES = 500
_MOST_COMMENTS = 500  # of one place, among which ours is looked for: anybody may write thousands
_MOST_PULLS = 10  # of one branch, that are told of its end
# A page of each; the second page of one comes without the other. Where one ref is asked for, it comes beside the first
# of each: that it is not there is believed only of a repository that shows its refs.
_FACTS = """
query(
  $owner: String!, $name: String!, $one: Boolean!, $only: String!, $first: Int!
  $heads: Boolean!, $tags: Boolean!, $afterHead: String, $afterTag: String
) {
  repository(owner: $owner, name: $name) {
    databaseId
    nameWithOwner
    isArchived
    isPrivate
    isEmpty
    defaultBranchRef { name }
    only: ref(qualifiedName: $only) @include(if: $one) { ...shown }
    heads: refs(refPrefix: "refs/heads/", first: $first, after: $afterHead) @include(if: $heads) {
      nodes { prefix name target { oid } }
      pageInfo { hasNextPage endCursor }
    }
    tags: refs(refPrefix: "refs/tags/", first: $first, after: $afterTag) @include(if: $tags) {
      nodes { ...shown }
      pageInfo { hasNextPage endCursor }
    }
  }
}
fragment shown on Ref { prefix name target { oid ...made ... on Tag { tagger { date } target { ...made } } } }
fragment made on GitObject { ... on Commit { committedDate } }
"""
# What GraphQL answers with 200 and calls by a name, as the status that REST has for it. Both names of a spent limit
# are in use: https://github.com/yanyongyu/githubkit/issues/271
_QUERY_ERRORS = {"RATE_LIMITED": 429, "RATE_LIMIT": 429, "FORBIDDEN": 403, "INSUFFICIENT_SCOPES": 403}
_COMPARED = 300  # files: https://docs.github.com/rest/commits/commits#compare-two-commits
_TIMEOUT = 15
_ATTEMPTS = 4
_SECONDS = 15.0
_RATE_LIMIT_PAUSE = 60.0  # what GitHub's best practices ask for where an answer names no time
_RATE_LIMIT_MOST = 3700.0
# Everything else (rights of our token, a broken GitHub) is no fault of the repository's people
_THEIR_FAULT = frozenset({404, 410, 422, 451})
_CURSOR = re.compile(r'[?&]cursor=([^&>]+)[^>]*>; rel="next"')
_JOINER = "\u200d"
_backoff = wait_random_exponential(multiplier=0.5, max=4)


class _Http(HTTPRequestsConnectionClass):
    def getresponse(self) -> RequestsResponse:
        return _counted(super().getresponse)


class _Https(HTTPSRequestsConnectionClass):
    def getresponse(self) -> RequestsResponse:
        return _counted(super().getresponse)


def _counted(send: Callable[[], RequestsResponse]) -> RequestsResponse:
    note("github")
    answer = send()
    note_quota(answer.headers.get("x-ratelimit-limit"))
    return answer


# the one place that every request of PyGithub passes: redirects that it follows and tokens that it fetches, too
Requester.injectConnectionClasses(_Http, _Https)


class _NotInstalledError(PermanentError):
    """The GitHub App is not installed on the repository."""


class GitHubHost:
    """The port `Host` on GitHub's REST and GraphQL APIs.

    Args:
        token: a token for every repository; or
        app_id, private_key: a GitHub App's, installed on each repository.
        api_url: `https://api.github.com`, or `https://<host>/api/v3` of an Enterprise Server.
    """

    def __init__(
        self, token: str = "", *, app_id: str = "", private_key: str = "", api_url: str = PUBLIC_API
    ) -> None:
        self._token = token
        self._app_id = app_id
        self._private_key = private_key
        self._api_url = api_url.rstrip("/") or PUBLIC_API
        self._local = threading.local()

    def check(self) -> None:
        """Insist that a GitHub App's key can be used; nothing is sent.

        Raises:
            ConfigError: it cannot.
        """
        if not self._app_id:
            return
        try:
            _ = Auth.AppAuth(self._app_id, self._private_key).token
        except (PyJWTError, ValueError, TypeError):  # its words are left out: they may quote the key
            text = "DEPLOYER_GITHUB_APP_PRIVATE_KEY is no private key (PEM) of a GitHub App"
            raise ConfigError(text) from None

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
            self._sign_out(repository)  # an App that is installed anew has another installation
        return found

    def _looked_at(self, repository: Repository, only: Ref | None) -> Facts | None:
        with _translated(f"looking at {repository}", repository), _rights("contents: read"):
            try:
                return self._facts(repository, only)
            except _NotInstalledError:
                return None
            except GithubException as error:
                if error.status == 403 and "suspended" in _message(error):
                    return None
                if error.status != 404:
                    raise
                # an installation that is gone, or an address at which nobody speaks GraphQL?
                if not self._answers(repository):
                    return None
                raise TransientError(
                    f"looking at {repository}: GitHub's REST API answers, its GraphQL API is not found; see "
                    "DEPLOYER_GITHUB_API_URL"
                ) from error

    def _facts(self, repository: Repository, only: Ref | None) -> Facts | None:
        nodes = list[dict[str, Any]]()
        after: dict[str, str | None] = {"heads": None, "tags": None}
        for _ in range(_PAGES):
            told = self._page_of_facts(repository, after, only)
            if told is None:
                return None
            for kind in list(after):
                page = told[kind]
                if page is None and told["isEmpty"]:
                    page = {"nodes": [], "pageInfo": {"hasNextPage": False}}
                nodes += page["nodes"]
                del after[kind]
                if page["pageInfo"]["hasNextPage"] and not only:
                    after[kind] = str(page["pageInfo"]["endCursor"])
            if not after:
                break
        else:
            raise PermanentError(f"{repository} has more than {_PAGES * 100:,} refs")
        if not nodes and not told["isEmpty"]:
            raise TransientError(f"GitHub lists no refs of {repository}, and says that it is not empty")
        if only and told["only"]:
            nodes.append(told["only"])
        refs, made = _listed(repository, nodes, only)
        head = told["defaultBranchRef"]
        return Facts(
            id=int(told["databaseId"]),
            full_name=str(told["nameWithOwner"]),
            default_branch=str(head["name"]) if head else self.default_branch(repository),
            archived=bool(told["isArchived"]),
            private=bool(told["isPrivate"]),
            refs=refs,
            made=made,
        )

    def default_branch(self, repository: Repository) -> str:
        """The default branch's short name. One call."""
        with _translated(f"reading repository {repository}", repository):
            return str(self._get(repository, "")["default_branch"])

    def head(self, repository: Repository, ref: Ref) -> Head | None:
        """Where a ref stands now, or None if there is no such ref.

        One call for a branch; two for a tag, and one more if it is annotated.

        Raises:
            PermanentError: the tag leads to no commit, or there is no such repository.
        """
        with _translated(f"reading {ref} of {repository}", repository):
            if not ref.is_tag:
                return self._branch(repository, ref.short)
            found = self._ref(repository, ref)
            if found is None:
                return None
            target, made = found["object"], None
            for _ in range(_TAG_DEPTH):
                if target["type"] != "tag":
                    break
                tag = self._get(repository, f"/git/tags/{target['sha']}")
                made = made or (tag.get("tagger") or {}).get("date")
                target = tag["object"]
            if target["type"] != "commit":
                raise NoCommitError(f"{ref} of {repository} leads to a {target['type']}, not to a commit")
            commit = self._get(repository, f"/git/commits/{target['sha']}")
            made = made or (commit.get("committer") or {}).get("date")
            message = str(commit.get("message") or "")
            return Head(str(found["object"]["sha"]), str(target["sha"]), message, _seconds(made))

    def check_reachable(self, seconds: float) -> None:
        """See `Host.check_reachable`. One call, which is not repeated."""
        url = f"{self._api_url}/meta"
        try:
            answer = requests.get(url, timeout=seconds, headers={"User-Agent": "deployer"}, stream=True)
            answer.close()
        except requests.RequestException as error:
            raise TransientError(
                f"GitHub does not answer at {_shown(url)} ({type(error).__name__})"
            ) from error
        if answer.status_code >= 500:
            raise TransientError(f"GitHub answers {answer.status_code} at {_shown(url)}")

    def commit(self, repository: Repository, prefix: str) -> str:
        """The full id of a commit. One call; one more where it is not found.

        `commits/{ref}` takes a branch's or tag's name before a short id, so what it finds must begin with the id:
        https://docs.github.com/rest/commits/commits#get-a-commit
        """
        full = is_full_sha(prefix)
        path = f"/git/commits/{prefix}" if full else f"/commits/{prefix}"
        with _translated(f"reading commit {prefix} of {repository}", repository):
            try:
                # one file a page: the ids are all that is wanted of a commit that may have changed thousands
                found = str(self._get(repository, path, None if full else {"per_page": 1})["sha"])
            except GithubException as error:
                if error.status != 422 and not (error.status == 404 and self._answers(repository)):
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
            UnreadableError: a file, or all of them together, are too large (`insist_on_sizes`).
        """
        with _translated(f"reading {folder}/ of {repository} at {sha[:12]}", repository):
            try:
                listed = self._listing(repository, sha, folder)
            except GithubException as error:
                if error.status != 404:
                    raise
                self._get(repository, f"/git/commits/{sha}")  # no folder, or no commit, or no repository?
                return {}
            wanted = {
                str(entry["name"]): entry
                for entry in listed
                if entry.get("type") == "file" and entry.get("name") in USABLE
            }
            insist_on_sizes({name: int(entry.get("size") or 0) for name, entry in wanted.items()})
            return {name: self._blob(repository, folder, entry) for name, entry in wanted.items()}

    def regular_files(self, repository: Repository, sha: str, folder: str, stem: str) -> dict[str, bytes]:
        """The files of one stem in a folder at a commit: one call, and one for each of them that was not read lately.

        Raises:
            UnreadableError: one of them, or the folder, is a symbolic link, a submodule or the like, or is too large.
            PermanentError: there is no such commit.
        """
        with _translated(f"reading {folder}/{stem}.* of {repository} at {sha[:12]}", repository):
            try:
                listed = self._contents(repository, sha, folder)
            except GithubException as error:
                if error.status != 404:
                    raise
                self._get(repository, f"/git/commits/{sha}")  # no folder, or no commit, or no repository?
                return {}
            found = list(github_branches.regular_files(listed, folder, stem))
            return {str(entry["name"]): self._blob(repository, folder, entry) for entry in found}

    def ancestry(self, repository: Repository, base: str, commit: str) -> Relation:
        """How a commit stands to a base. One call.

        Raises:
            PayloadError: one of them is no full commit id.
        """
        with _translated(f"comparing {base[:12]} with {commit[:12]} of {repository}", repository):
            return github_branches.ancestry(self._asking(repository), base, commit)

    def protected_branches(self, repository: Repository) -> Mapping[Ref, str]:
        """The protected branches and where they stand. A call for each hundred.

        Raises:
            PermanentError: there are too many.
        """
        with _translated(f"listing the protected branches of {repository}", repository):
            return github_branches.protected_branches(self._asking(repository), repository)

    def protection(self, repository: Repository) -> Protection:
        """What protects the default branch and the tags, as far as deployer may read it. Three calls, or four."""
        with _translated(f"reading what protects {repository}", repository):
            branch = str(self._get(repository, "")["default_branch"])
            return github_branches.protection(self._asking(repository), branch, quote(branch, safe=""))

    def _asking(self, repository: Repository) -> github_branches.Ask:
        return lambda path, query: self._ask(repository, "GET", path, query=query)

    def post(self, repository: Repository, sha: str, status: Status) -> None:
        """Set a commit status, cut to GitHub's lengths. One call."""
        body = {
            "state": status.state,
            "context": _cut(status.context, CONTEXT_LIMIT) or "deployer",
            "description": _cut(" ".join(status.description.split()), DESCRIPTION_LIMIT),
        }
        if urlsplit(status.url).scheme in {"http", "https"} and len(status.url) <= _URL_LIMIT:
            body["target_url"] = status.url
        with _translated(f"setting status {status.context!r} of {repository} at {sha[:12]}", repository):
            for each in self._names(repository):
                _, answer = self._ask(each, "POST", f"/statuses/{sha}", body)
                if isinstance(answer, dict) and "context" in answer:
                    return
            raise TransientError(f"GitHub did not take a status of {repository} at {sha[:12]}")

    @property
    def is_app(self) -> bool:
        """Whether it works as a GitHub App, whose one webhook tells of every repository."""
        return bool(self._app_id)

    def deliveries(self, repository: Repository, url: str, since: float) -> list[HookDelivery]:
        """The attempts at delivering to a webhook; a call for each hundred, and one to find a repository's webhook.

        They are not asked for by their outcome: GitHub's `failure` leaves out those that met nobody.

        Raises:
            RightsError: the token or the App may not see them.
            NotFoundError: no webhook has this address.
        """
        with _translated(f"reading the deliveries of {repository}", repository), _rights("webhooks: read"):
            hook = 0
            if not self._app_id:
                found = self._hook(repository, url)
                if found is None:
                    raise NotFoundError(
                        f"{repository} has no webhook to {url}; see: deployer webhook install {repository}"
                    )
                hook = int(found["id"])
            attempts: list[HookDelivery] = []
            query: dict[str, Any] = {"per_page": 100}
            for _ in range(_PAGES):
                headers, listed = self._ask_hook(repository, hook, "GET", "", query)
                attempts += (_attempt(hook, each) for each in listed)
                cursor = _CURSOR.search(headers.get("link", ""))
                if not cursor or attempts[-1].delivered_at < since:
                    break
                query["cursor"] = cursor.group(1)
            return [each for each in attempts if each.delivered_at >= since]

    def payload(self, repository: Repository, delivery: HookDelivery) -> dict[str, Any]:
        """What was delivered. One call."""
        with (
            _translated(f"reading delivery {delivery.guid} of {repository}", repository),
            _rights("webhooks: read"),
        ):
            told = self._ask_hook(repository, delivery.hook, "GET", f"/{delivery.id}")[1]
            return dict(told["request"]["payload"])

    def redeliver(self, repository: Repository, delivery: HookDelivery) -> None:
        """Have it delivered once more. One call.

        Raises:
            PermanentError: GitHub will not.
        """
        with (
            _translated(f"sending delivery {delivery.guid} of {repository} again", repository),
            _rights("webhooks: write"),
        ):
            for each in self._names(repository):
                answer = self._ask_hook(each, delivery.hook, "POST", f"/{delivery.id}/attempts")[1]
                if not (isinstance(answer, dict) and "message" in answer):
                    return
            raise TransientError(f"GitHub did not take the order to deliver {delivery.guid} again")

    def comment(self, repository: Repository, branch: Ref, sha: str, text: str) -> list[str]:
        """Say something on a branch's open pull requests, or on a commit where there is none.

        A call for the pull requests, and two for each place; more where many comments are there already. For pull
        requests that takes *pull requests: write*; a comment on a commit takes *contents: read* only, but to change
        it later *contents: write*, which deployer has no other need of.

        Raises:
            RightsError: the token or the App may not.
        """
        doing = f"commenting on {branch} of {repository}"
        with _translated(doing, repository), _rights("pull requests: write"):
            pulls = self._open_pulls(repository, branch)
            places = [f"/issues/{number}/comments" for number in pulls] or [f"/commits/{sha}/comments"]
            said, refusal = [], None
            for place in places:
                try:
                    said.append(self._say(repository, place, text))
                except GithubException as error:  # one that is locked keeps the others from nothing
                    if error.status not in {403, 404, 410, 422}:
                        raise
                    refusal = error
            if refusal and not said:
                raise refusal
            return said

    def change_comment(self, repository: Repository, comment: str, text: str) -> None:
        """Replace what a comment says. One call.

        Raises:
            RightsError: the token or the App may not, or the comment is gone.
        """
        needed = "pull requests: write" if comment.startswith("issues/") else "contents: write"
        with _translated(f"changing {comment} of {repository}", repository), _rights(needed):
            self._written(repository, "PATCH", f"/{comment}", {"body": text})

    def _open_pulls(self, repository: Repository, branch: Ref) -> list[int]:
        query = {"state": "open", "head": f"{repository.owner}:{branch.short}", "per_page": _MOST_PULLS}
        # a branch of a fork may bear the same name, and GitHub overlooks a head that it cannot read
        return [
            int(each["number"])
            for each in self._get(repository, "/pulls", query)
            if each["head"]["ref"] == branch.short
            and (each["head"]["repo"] or {}).get("id") == each["base"]["repo"]["id"]
        ]

    def _say(self, repository: Repository, place: str, text: str) -> str:
        """Change our comment in a place, or write one.

        Writing is not repeated here: the answer alone may be lost, and whoever repeats all finds the comment.
        """
        kind = "issues/comments" if place.startswith("/issues/") else "comments"
        first = text.partition("\n")[0]
        there = itertools.islice(self._pages(repository, place), _MOST_COMMENTS)
        alike = [each for each in there if _first_line(each["body"]) == first]
        # anybody can write that line
        mine = [each for each in alike if each["user"] and each["user"]["login"] == self._login(repository)]
        if mine:
            self._written(repository, "PATCH", f"/{kind}/{mine[0]['id']}", {"body": text})
            return f"{kind}/{mine[0]['id']}"
        return f"{kind}/{self._written(repository, 'POST', place, {'body': text})['id']}"

    def _written(self, repository: Repository, verb: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        for each in self._names(repository):
            _, answer = self._ask(each, verb, path, body, once_only=verb == "POST")
            if isinstance(answer, dict) and "id" in answer:
                return answer
        raise TransientError(f"GitHub did not take what was to be written to {repository}")

    def _login(self, repository: Repository) -> str:
        """Who GitHub says has written what we write. One call, once in each thread."""
        state = self._state()
        if "login" not in state:
            if self._app_id:
                requester, path = self._app_requester(), "/app"
            else:
                requester, path = self._client(repository).requester, "/user"
            told = self._attempts()(lambda: requester.requestJsonAndCheck("GET", path))[1]
            state["login"] = f"{told['slug']}[bot]" if self._app_id else str(told["login"])
        return str(state["login"])

    def install_hook(self, repository: Repository, url: str, secret: str, events: Sequence[str]) -> str:
        """See that a webhook delivers here: `created`, `updated` or `unchanged` but for the secret. Two calls.

        Raises:
            RightsError: deployer may not manage webhooks there.
        """
        config = {"url": url, "content_type": "json", "secret": secret, "insecure_ssl": "0"}
        with _translated(f"setting the webhook of {repository}", repository), _rights("webhooks: write"):
            there = self._hook(repository, url)
            if there is None or there["config"].get("url") != url:
                body = {"name": "web", "active": True, "events": list(events), "config": config}
                self._written(repository, "POST", "/hooks", body)
                return "created"
            wanted = sorted({*there["events"], *events})
            body = {"active": True, "events": wanted, "config": config}
            self._written(repository, "PATCH", f"/hooks/{there['id']}", body)
            same = there["active"] and sorted(there["events"]) == wanted
            return "unchanged" if same and there["config"].get("content_type") == "json" else "updated"

    def _hook(self, repository: Repository, url: str) -> dict[str, Any] | None:
        """The webhook with this address, or else one whose address has the same end."""
        hooks = list(self._pages(repository, "/hooks"))
        for same in (url, urlsplit(url).path):
            for each in hooks:
                if str(each["config"].get("url", "")).endswith(same):
                    return each
        return None

    def _ask_hook(
        self, repository: Repository, hook: int, verb: str, path: str, query: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], Any]:
        """Ask about deliveries: as the App itself, where it is the App's webhook."""
        if hook:
            return self._ask(repository, verb, f"/hooks/{hook}/deliveries{path}", query=query)
        requester = self._app_requester()
        url = f"/app/hook/deliveries{path}"
        return self._attempts()(lambda: requester.requestJsonAndCheck(verb, url, parameters=query))

    def _app_requester(self) -> Requester:
        """Asks as the App itself, not as one of its installations."""
        return GithubIntegration(
            auth=Auth.AppAuth(self._app_id, self._private_key), **self._options()
        ).requester

    def changed(self, repository: Repository, before: str, after: str) -> list[str] | None:
        """The files in which a commit differs from an earlier one, renamed ones by both names; None where unknown.

        One call. GitHub compares with the common ancestor, and lists 300 files at most.
        """
        with _translated(f"comparing {before[:12]} with {after[:12]} of {repository}", repository):
            try:
                found = self._get(repository, f"/compare/{before}...{after}", {"per_page": 1})
            except GithubException as error:
                if _too_large_to_compare(error):
                    return None
                if error.status != 404:
                    raise
                self._get(repository, "")  # a commit that is gone, or a repository that is?
                return None
            files = found["files"] if found["status"] in {"ahead", "identical"} else None
            if files is None or len(files) >= _COMPARED:
                return None
            keys = ("filename", "previous_filename")
            return sorted({str(each[key]) for each in files for key in keys if key in each})

    def lacking(self, repository: Repository) -> list[str]:
        """The rights that deployer needs there and has not, as far as GitHub tells; one call.

        Raises:
            PermanentError: there is no such repository, or it cannot be seen.
        """
        with _translated(f"reading the rights on {repository}", repository):
            headers, told = self._ask(repository, "GET", "")
            if self._app_id:
                rights = self._state()["rights"].get(repository.key, {})
                needed = {"contents": ("read", "write"), "statuses": ("write",)}
                return [
                    f"{name}: {values[0]}"
                    for name, values in needed.items()
                    if rights.get(name) not in values
                ]
            scopes = {each.strip() for each in headers.get("x-oauth-scopes", "").split(",")} - {""}
            # a fine-grained token has no scopes, and tells of its owner's rights only
            if scopes and not scopes & {"repo", "repo:status"}:
                return ["statuses: write (scope repo:status)"]
            if told.get("private") and scopes and "repo" not in scopes:
                return ["contents: read (scope repo)"]
            return [] if (told.get("permissions") or {}).get("push", True) else ["statuses: write"]

    def clone_token(self, full_name: str) -> str:
        """The token with which a pipeline may clone the repository.

        An App's is made for this: it reads this one repository and nothing else, for an hour from now on. With an App,
        a template should use a connection instead.
        """
        repository = Repository.parse(full_name)
        with _translated(f"getting a token for {repository}", repository):
            return self._attempts()(lambda: self._clone_token(repository))

    def _clone_token(self, repository: Repository) -> str:
        auth = self._auth(repository)
        if not isinstance(auth, Auth.AppInstallationAuth):
            return auth.token
        body = {"repositories": [repository.name], "permissions": {"contents": "read"}}
        url = f"/app/installations/{auth.installation_id}/access_tokens"
        try:
            return str(self._app_requester().requestJsonAndCheck("POST", url, input=body)[1]["token"])
        except GithubException as error:
            if error.status != 404:
                raise
            self._sign_out(repository)  # that installation is gone; there may be another
            raise TransientError(
                f"the GitHub App's installation on {repository} has gone meanwhile"
            ) from error

    # --- one request -------------------------------------------------------------------------------------------

    def _branch(self, repository: Repository, name: str) -> Head | None:
        try:
            # with its slashes escaped: branches/x/protection is another question about x
            found = self._get(repository, f"/branches/{quote(name, safe='')}")
        except GithubException as error:
            if error.status != 404 and not _empty(error):
                raise
            found = {}
        if found.get("name") != name:  # no such branch or repository, or the answer is that of its new name
            self._get(repository, "")
            return None
        commit = found["commit"]
        return Head(str(commit["sha"]), str(commit["sha"]), str(commit["commit"].get("message") or ""))

    def _ref(self, repository: Repository, ref: Ref) -> dict[str, Any] | None:
        # the singular git/ref/ matches whole names; git/refs/ would give feature/x for feature
        try:
            found = self._get(repository, f"/git/ref/{quote(ref.name.removeprefix('refs/'))}")
        except GithubException as error:
            if _empty(error):
                return None
            if error.status != 404:
                raise
            self._get(repository, "")
            return None
        return found if isinstance(found, dict) and found.get("ref") == ref.name else None

    def _listing(self, repository: Repository, sha: str, folder: str) -> list[dict[str, Any]]:
        listed = self._contents(repository, sha, folder)
        return listed if isinstance(listed, list) else []

    def _contents(self, repository: Repository, sha: str, folder: str) -> Any:
        """What is at a path: a list where that is a folder."""
        for each in self._names(repository):
            listed = self._get(each, f"/contents/{quote(folder.strip('/'))}", {"ref": sha})
            entries = listed if isinstance(listed, list) else [listed]
            # PyGithub drops the query when it follows a renamed repository's redirect: another commit's files
            if all(str(entry.get("url", "")).endswith(f"ref={sha}") for entry in entries):
                return listed
        raise TransientError(f"GitHub did not list {folder}/ of {repository} at {sha[:12]}")

    def _blob(self, repository: Repository, folder: str, entry: dict[str, Any]) -> bytes:
        name, size = f"{folder}/{entry['name']}", int(entry.get("size") or 0)
        kept: dict[tuple[str, str], bytes] = self._state()["blobs"]
        key = repository.key, str(entry["sha"])
        if key not in kept:
            blob = self._get(repository, f"/git/blobs/{entry['sha']}")
            try:
                content = base64.b64decode(blob["content"])
            except (binascii.Error, KeyError, TypeError) as error:
                raise TransientError(f"GitHub's answer for {name} of {repository} is no blob") from error
            if len(content) > size:  # the sizes are what was judged
                raise TransientError(
                    f"GitHub's answer for {name} of {repository} is longer than its listing says"
                )
            if len(content) > _KEPT_SIZE:
                return content
            kept[key] = content
            if len(kept) > _KEPT_BLOBS:
                del kept[next(iter(kept))]
        return kept[key]

    def _pages(self, repository: Repository, path: str) -> Iterator[dict[str, Any]]:
        for page in range(1, _PAGES):
            headers, listed = self._ask(repository, "GET", path, query={"per_page": 100, "page": page})
            yield from listed
            if 'rel="next"' not in headers.get("link", ""):
                return
        raise PermanentError(f"{repository} has more than {_PAGES * 100:,} webhooks")

    def _page_of_facts(
        self, repository: Repository, after: Mapping[str, str | None], only: Ref | None
    ) -> dict[str, Any] | None:
        """One page of the refs of each kind that is named, and what the repository is; None if it is not found."""
        given = {
            "owner": repository.owner, "name": repository.name,
            "one": bool(only), "only": only.name if only else "", "first": 1 if only else 100,
            "heads": "heads" in after, "afterHead": after.get("heads"),
            "tags": "tags" in after, "afterTag": after.get("tags"),
        }  # fmt: skip

        def once() -> dict[str, Any] | None:
            requester = self._client(repository).requester
            body = {"query": _FACTS, "variables": given}
            headers, told = requester.requestJsonAndCheck("POST", requester.graphql_url, input=body)
            if not isinstance(told, dict):
                raise ValueError("no answer to a query")
            data, errors = told.get("data") or {}, told.get("errors")
            if not errors:
                return dict(data["repository"])
            if not data.get("repository") and all(
                each.get("type") == "NOT_FOUND" and each.get("path") == ["repository"] for each in errors
            ):
                return None
            raise _query_error(errors, headers)

        return self._repeated(repository, once)

    def _answers(self, repository: Repository) -> bool:
        try:
            self._get(repository, "")
        except GithubException as error:
            if error.status != 404:
                raise
            return False
        return True

    def _get(self, repository: Repository, path: str, query: dict[str, Any] | None = None) -> Any:
        return self._ask(repository, "GET", path, query=query)[1]

    def _ask(
        self,
        repository: Repository,
        verb: str,
        path: str,
        body: dict[str, Any] | None = None,
        query: dict[str, Any] | None = None,
        *,
        once_only: bool = False,
    ) -> tuple[dict[str, Any], Any]:
        """The headers and the body of an answer.

        Args:
            once_only: whether a repeat could make a second of what was made although the answer was lost.
        """

        def once() -> tuple[dict[str, Any], Any]:
            client = self._client(repository)
            url = f"/repos/{repository.full_name}{path}"
            headers, answer = client.requester.requestJsonAndCheck(verb, url, parameters=query, input=body)
            # PyGithub gives nothing, and a page with status 200 as {"data": text}: neither is an answer of GitHub, and
            # without this check they would tell that a branch, its files or the whole repository are not there
            if isinstance(answer, dict) and isinstance(answer.get("data"), str):
                raise ValueError("no JSON")
            if verb == "GET" and not isinstance(answer, dict | list):
                raise ValueError("no JSON")
            return headers, answer

        return once() if once_only else self._repeated(repository, once)

    def _repeated(self, repository: Repository, once: Callable[[], _T]) -> _T:
        """Ask, and once more where that may help; nobody is signed in any longer where GitHub says so."""
        try:
            return self._attempts()(once)
        except GithubException as error:
            if error.status == 401:  # the App may have been installed anew
                self._sign_out(repository)
            raise

    def _sign_out(self, repository: Repository) -> None:
        self._state()["clients"].pop(repository.key, None)
        self._state()["auths"].pop(repository.key, None)

    def _names(self, repository: Repository) -> Iterator[Repository]:
        """A repository as it is called, and as it is called now; for what does not follow a renamed one's redirect.

        PyGithub takes the 307 for a success. The new name is not kept: another repository may have the former one soon.
        """
        yield repository
        yield Repository.parse(str(self._get(repository, "")["full_name"]))

    @staticmethod
    def _attempts() -> Retrying:
        return Retrying(
            retry=retry_if_exception(_passing),
            stop=stop_after_attempt(_ATTEMPTS) | stop_before_delay(_SECONDS),
            wait=_wait,
            reraise=True,
        )

    # --- clients -----------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        """What belongs to this thread of this process: PyGithub's connections bear neither threads nor forks."""
        if getattr(self._local, "pid", None) != os.getpid():
            self._local.pid = os.getpid()
            self._local.state = {"clients": {}, "auths": {}, "blobs": {}, "rights": {}}
        state: dict[str, Any] = self._local.state
        return state

    def _client(self, repository: Repository) -> Github:
        clients: dict[str, Github] = self._state()["clients"]
        key = repository.key if self._app_id else ""
        if key in clients and self._uninstalled(repository):
            self._sign_out(repository)
        if key not in clients:
            clients[key] = Github(auth=self._auth(repository), lazy=True, **self._options())
        return clients[key]

    def _uninstalled(self, repository: Repository) -> bool:
        """Whether the installation that we signed in with has gone; no call as long as its token is good.

        Else its 404 would be taken for that of a repository or commit that is not there.
        """
        try:
            auth = self._state()["auths"].get(repository.key)
            return bool(auth and not auth.token)
        except GithubException as error:
            if error.status != 404:
                raise
            return True

    def _auth(self, repository: Repository) -> Auth.Auth:
        if not self._app_id:
            if not self._token:
                raise ConfigError("DEPLOYER_GITHUB_TOKEN is not set; without it GitHub cannot be asked")
            return Auth.Token(self._token)
        auths: dict[str, Auth.AppInstallationAuth] = self._state()["auths"]
        if repository.key not in auths:
            app = Auth.AppAuth(self._app_id, self._private_key)
            try:
                self.check()
            except ConfigError as error:
                raise TransientError(str(error)) from error
            integration = GithubIntegration(auth=app, **self._options())
            try:
                installation = integration.get_repo_installation(repository.owner, repository.name)
            except GithubException as error:
                if error.status != 404:
                    raise
                raise _NotInstalledError(f"the GitHub App is not installed on {repository}") from error
            self._state()["rights"][repository.key] = dict(installation.raw_data.get("permissions") or {})
            auth = app.get_installation_auth(installation.id, requester=integration.requester)
            auths[repository.key] = auth
        return auths[repository.key]

    def _options(self) -> dict[str, Any]:
        return {
            "base_url": self._api_url,
            "timeout": _TIMEOUT,
            "user_agent": "deployer",
            "retry": None,  # PyGithub's own retries sleep out a rate limit: minutes
            "seconds_between_requests": 0,
            "seconds_between_writes": 0,
        }


@contextmanager
def _rights(needed: str) -> Iterator[None]:
    """Take GitHub's refusal for what it is where deployer can do without: it answers 404 as well as 403."""
    try:
        yield
    except GithubException as error:
        if error.status not in {403, 404} or _rate_limit(error) is not None or "archived" in _message(error):
            raise
        said = _line(_message(error))
        raise RightsError(
            f"GitHub answers {error.status} ({said}); give deployer's token or App the right {needed}"
        ) from error


def _first_line(text: Any) -> str:
    return str(text or "").partition("\n")[0].rstrip()  # what people edit on its pages ends in CR LF


def _attempt(hook: int, told: dict[str, Any]) -> HookDelivery:
    return HookDelivery(
        id=int(told["id"]),
        hook=hook,
        guid=str(told["guid"]),
        event=str(told["event"]),
        ok=200 <= int(told.get("status_code") or 0) < 300,
        delivered_at=datetime.fromisoformat(str(told["delivered_at"])).timestamp(),
        refused=told.get("status_code") == 401,
    )


def _listed(
    repository: Repository, nodes: list[dict[str, Any]], only: Ref | None
) -> tuple[dict[Ref, str], dict[Ref, float]]:
    """What the refs point to, and when the tags among them were made; of all of them or of one only."""
    refs, made = dict[Ref, str](), dict[Ref, float]()
    for node in nodes:
        target, name = node["target"], f"{node['prefix']}{node['name']}"
        try:
            ref = Ref.parse(name)
        except PayloadError as error:
            log.warning("%s: skipped: %s", repository, error)
            continue
        if only not in {None, ref}:  # GitHub gives refs/heads/refs/heads/x where there is no refs/heads/x
            continue
        refs[ref] = str(target["oid"])
        if ref.is_tag:
            made[ref] = _made(target)
    return refs, made


def _made(target: dict[str, Any]) -> float:
    """When a tag was made, by what it points to: its own object's time, or else its commit's."""
    tagged = (target.get("tagger") or {}).get("date")
    return _seconds(
        tagged or target.get("committedDate") or (target.get("target") or {}).get("committedDate")
    )


def _query_error(errors: list[dict[str, Any]], headers: dict[str, Any]) -> GithubException:
    """What REST would have answered in place of a query's errors.

    One that has no name is GitHub's own failure, such as a time-out. If it points into the query and nowhere else, the
    query is not understood, which no repeat cures.
    """
    names = {str(each.get("type")) for each in errors}
    status = next((code for name, code in _QUERY_ERRORS.items() if name in names), 0)
    data = {"errors": errors}
    if not status:
        lost = all("type" not in each and "locations" in each for each in errors)
        spent = "rate limit" in _message(GithubException(0, data)).lower()
        status = 429 if spent else 400 if lost else 502
    return GithubException(status, data, headers)


def _passing(error: BaseException) -> bool:
    """Whether a repeat within seconds may help."""
    if isinstance(error, GithubException):
        return error.status >= 500 and not _too_large_to_compare(error)
    # a ValueError is a body that is not JSON: a proxy's error page, or an answer cut short
    return isinstance(
        error,
        requests.ConnectionError | requests.Timeout | requests.exceptions.ChunkedEncodingError | ValueError,
    )


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = _header_seconds(error, "retry-after") if isinstance(error, GithubException) else None
    return _backoff(state) if asked is None else asked


@contextmanager
def _translated(doing: str, repository: Repository) -> Iterator[None]:
    """Turn what PyGithub and requests raise into the core's errors.

    Args:
        doing: what is being done, on what; the error's text begins with it.
        repository: whose people may be at fault.
    """
    try:
        yield
    except DeployerError:
        raise
    except GithubException as error:
        raise _error(doing, repository, error) from error
    except (requests.RequestException, ValueError) as error:
        raise TransientError(f"{doing}: GitHub cannot be reached ({type(error).__name__})") from error
    except (KeyError, TypeError, AssertionError, RuntimeError) as error:
        raise TransientError(f"{doing}: GitHub's answer makes no sense ({_line(str(error))})") from error


def _error(doing: str, repository: Repository, error: GithubException) -> DeployerError:
    said = _line(_message(error))
    if (pause := _rate_limit(error)) is not None:
        return TransientError(f"{doing}: GitHub's rate limit is used up ({said})", retry_after=pause)
    if error.status >= 500:
        return TransientError(
            f"{doing}: GitHub answers {error.status} ({said})",
            retry_after=_header_seconds(error, "retry-after"),
        )
    if error.status == 404:
        return PermanentError(f"{doing}: {repository} or the commit is not found, or deployer has no access")
    if error.status in _THEIR_FAULT or _empty(error) or "archived" in said.lower():
        return PermanentError(f"{doing}: GitHub answers {error.status}: {said}")
    if error.status == 401:
        return TransientError(f"{doing}: GitHub refuses deployer's credentials ({said})")
    if error.status == 403:
        needs = (error.headers or {}).get("x-accepted-github-permissions")
        lacking = f"; it needs {needs}" if needs else ""
        return TransientError(f"{doing}: deployer's GitHub credentials lack the right ({said}{lacking})")
    return TransientError(f"{doing}: GitHub answers {error.status}: {said}")


def _empty(error: GithubException) -> bool:
    """Whether the repository has no commit yet.

    Any other 409, such as that of a repository that is being restored, says nothing about its refs.
    """
    return error.status == 409 and _message(error) == "Git Repository is empty."


def _too_large_to_compare(error: GithubException) -> bool:
    """Whether two commits differ in more than GitHub can tell in time: it answers 500, however often it is asked.

    See https://github.com/github-changelog-generator/github-changelog-generator/issues/920
    """
    return error.status >= 500 and "Sorry, this diff" in _message(error)


def _rate_limit(error: GithubException) -> float | None:
    """Seconds to wait if this is a rate limit, primary or secondary.

    Rules: https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
    """
    if error.status not in {403, 429}:
        return None
    headers = error.headers or {}
    spent = headers.get("x-ratelimit-remaining") == "0"
    said = _message(error).lower()
    named = "rate limit" in said or "abuse detection" in said  # the secondary one's former name
    if not (error.status == 429 or spent or "retry-after" in headers or named):
        return None
    asked = _header_seconds(error, "retry-after")
    if asked is None and spent:
        reset = _header_seconds(error, "x-ratelimit-reset")
        asked = None if reset is None else reset - time.time()
    return _RATE_LIMIT_PAUSE if asked is None else min(max(asked, 1.0), _RATE_LIMIT_MOST)


def _header_seconds(error: GithubException, name: str) -> float | None:
    try:
        return float((error.headers or {})[name])
    except (KeyError, ValueError):
        return None


def _message(error: GithubException) -> str:
    data = error.data
    if not isinstance(data, dict):
        return str(data or "")
    details = [str(item.get("message") or "") for item in data.get("errors") or [] if isinstance(item, dict)]
    return ": ".join(part for part in [str(data.get("message") or ""), *details] if part)


def _shown(url: str) -> str:
    """Scheme and host of an address, without what else a setting may hold."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _line(text: str) -> str:
    return _cut(" ".join(text.split()), 300)


def _cut(text: str, limit: int) -> str:
    """The text, or its beginning and an ellipsis, at most `limit` characters.

    A character that people see can be several of Python's: an emoji with a joiner, a letter with its accent.
    """
    if len(text) <= limit:
        return text
    end = limit - 1
    while end > 0 and _continues(text, end):
        end -= 1
    return f"{text[: end or limit - 1].rstrip()}…"


def _continues(text: str, at: int) -> bool:
    """Whether the character at this place is drawn together with the one before it."""
    here = text[at]
    return (
        _JOINER in (here, text[at - 1])
        or unicodedata.category(here).startswith("M")
        or "\U0001f3fb" <= here <= "\U0001f3ff"  # skin tones
    )


def _seconds(date: Any) -> float:
    """A date of GitHub's in epoch seconds; 0 where there is none."""
    try:
        return datetime.fromisoformat(str(date)).timestamp()
    except ValueError:
        return 0
