"""An answer that is not of the type that GitHub's API documents is an error that deployer retries, for every call.

Deployer must not believe such an answer: "no such branch", "no files" or "no repository" would delete a stack.
"""

import base64
import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from deployer.environment.code_host import HookDelivery, Status
from deployer.github.client import GitHubClient
from deployer.github.credentials import TokenCredentials
from deployer.github.errors import UnexpectedAnswerError
from deployer.github.host import GitHubHost
from deployer.github.pull_comments import MARKER
from deployer.model.environments import Repository
from deployer.model.errors import NotFoundError, RightsError, TransientError
from deployer.model.refs import Ref
from tests.contract.github_server import Answer, KeepAliveServer

SHOP, SHA, OTHER = Repository("acme", "shop"), "a" * 40, "b" * 40
R = "/repos/acme/shop"
HOOK = "https://here.example/webhooks/github"
MAIN, TAG = Ref("refs/heads/main"), Ref("refs/tags/v1")
DELIVERY = HookDelivery(9, 1, "g", "push", ok=False, delivered_at=0)
NOT_FOUND: Answer = (404, {}, {"message": "Not Found"})

THERE = {"full_name": "acme/shop"}
BRANCH = {"name": "main", "commit": {"sha": SHA, "commit": {"message": "1"}}}
ENTRY = {
    "name": "deployer.yml", "type": "file", "size": 1, "sha": OTHER, "url": f"{R}/contents/x?ref={SHA}",
    "download_url": "https://x",
}  # fmt: skip
BLOB = {"content": base64.b64encode(b"a").decode(), "encoding": "base64"}
COMPARED = {"status": "ahead", "base_commit": {"sha": SHA}, "merge_base_commit": {"sha": SHA}}
HOOKED = {"id": 1, "active": True, "events": ["push"], "config": {"url": HOOK, "content_type": "json"}}
OWNED = {"id": 1, "owner": {"login": "acme", "type": "Organization"}}
ATTEMPT = {
    "id": 9, "guid": "g", "event": "push", "status_code": 503, "delivered_at": "2026-01-01T00:00:00Z",
}  # fmt: skip
COMMENT = {"id": 7, "body": "x", "user": {"login": "deployer"}}
PULL = {
    "number": 3, "state": "open", "head": {"ref": "main", "sha": SHA, "repo": {"id": 1}}, "base": {"repo": {"id": 1}},
}  # fmt: skip
MINE = [{"id": 7, "body": f"{MARKER}\nx", "user": {"login": "deployer"}}]
INSTALLED = {"id": 7, "permissions": {"contents": "read"}}
TOKEN = {"token": "ghs_7", "expires_at": "2100-01-01T00:00:00Z"}
LAST = {"hasNextPage": False, "endCursor": None}
NODE = {"prefix": "refs/heads/", "name": "main", "target": {"oid": SHA}}
QUERIED = {
    "databaseId": 7, "nameWithOwner": "acme/shop", "isArchived": False, "isPrivate": False, "isEmpty": False,
    "defaultBranchRef": {"name": "main"}, "only": NODE,
    "heads": {"nodes": [NODE], "pageInfo": LAST}, "tags": {"nodes": [], "pageInfo": LAST},
}  # fmt: skip
EVERY = {name: value for name, value in QUERIED.items() if name != "only"}


# possible answers of GitHub to a request that it carries out later
_LIKE_NOTHING = {"an object", "nothing", "no UTF-8"}


@dataclass(frozen=True)
class Call:
    """A call of the adapter with GitHub's answers to it.

    Attributes:
        make: makes the call.
        answers: method and path -> the body of a 2xx answer, or another whole answer. Every key in it is required.
        may_be: the answers that may be an empty list or an empty object.
        optional: the keys that GitHub may omit.
    """

    make: Callable[[GitHubHost], object]
    answers: dict[str, Any]
    may_be: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    app: bool = False


CALLS = {
    "default_branch": Call(lambda host: host.default_branch(SHOP), {f"GET {R}": {"default_branch": "main"}}),
    "facts": Call(lambda host: host.facts(SHOP), {"POST /graphql": {"data": {"repository": EVERY}}}),
    "facts of one ref": Call(
        lambda host: host.facts(SHOP, MAIN), {"POST /graphql": {"data": {"repository": QUERIED}}}
    ),
    "head of a branch": Call(lambda host: host.head(SHOP, MAIN), {f"GET {R}/branches/main": BRANCH}),
    "head of no branch": Call(
        lambda host: host.head(SHOP, MAIN), {f"GET {R}/branches/main": NOT_FOUND, f"GET {R}": THERE}
    ),
    "head of a tag": Call(
        lambda host: host.head(SHOP, TAG),
        {
            f"GET {R}/git/ref/tags/v1": {"ref": "refs/tags/v1", "object": {"sha": OTHER, "type": "tag"}},
            f"GET {R}/git/tags/{OTHER}": {"object": {"sha": SHA, "type": "commit"}},
            f"GET {R}/git/commits/{SHA}": {
                "sha": SHA,
                "message": "1",
                "committer": {"date": "2026-01-01T00:00:00Z"},
            },
        },
    ),
    "head of no tag": Call(
        lambda host: host.head(SHOP, TAG), {f"GET {R}/git/ref/tags/v1": NOT_FOUND, f"GET {R}": THERE}
    ),
    "commit": Call(lambda host: host.commit(SHOP, SHA), {f"GET {R}/git/commits/{SHA}": {"sha": SHA}}),
    "commit by its beginning": Call(
        lambda host: host.commit(SHOP, SHA[:7]), {f"GET {R}/commits/{SHA[:7]}": {"sha": SHA}}
    ),
    "files": Call(
        lambda host: host.files(SHOP, SHA, "deploy"),
        {
            f"GET {R}/contents/deploy": [ENTRY],
            f"GET {R}/git/blobs/{OTHER}": BLOB,
        },
    ),
    "files of no folder": Call(
        lambda host: host.files(SHOP, SHA, "deploy"),
        {f"GET {R}/contents/deploy": NOT_FOUND, f"GET {R}/git/commits/{SHA}": {"sha": SHA}},
    ),
    "regular files": Call(
        lambda host: host.regular_files(SHOP, SHA, "deploy", "deployer"),
        {f"GET {R}/contents/deploy": [ENTRY], f"GET {R}/git/blobs/{OTHER}": BLOB},
    ),
    "ancestry": Call(
        lambda host: host.ancestry(SHOP, SHA, OTHER), {f"GET {R}/compare/{SHA}...{OTHER}": COMPARED}
    ),
    "changed": Call(
        lambda host: host.changed_paths(SHOP, SHA, OTHER),
        {f"GET {R}/compare/{SHA}...{OTHER}": {"status": "ahead", "files": [{"filename": "x"}]}},
    ),
    "changed since no commit": Call(
        lambda host: host.changed_paths(SHOP, SHA, OTHER),
        {f"GET {R}/compare/{SHA}...{OTHER}": NOT_FOUND, f"GET {R}": THERE},
    ),
    "protected branches": Call(
        lambda host: host.protected_branches(SHOP),
        {f"GET {R}/branches": [{"name": "main", "commit": {"sha": SHA}, "protected": True}]},
        (f"GET {R}/branches",),
    ),
    "protection": Call(
        lambda host: host.read_protection(SHOP),
        {
            f"GET {R}": {"default_branch": "main"},
            f"GET {R}/branches/main": {"protected": False},
            f"GET {R}/rules/branches/main": [{"type": "deletion"}],
            f"GET {R}/rulesets": [{"target": "tag", "enforcement": "active"}],
        },
        (f"GET {R}/rules/branches/main", f"GET {R}/rulesets"),
    ),
    "post": Call(
        lambda host: host.post_commit_status(SHOP, SHA, Status("deployer", "pending", "")),
        {f"POST {R}/statuses/{SHA}": {"context": "deployer"}},
    ),
    "deliveries": Call(
        lambda host: host.deliveries(SHOP, HOOK, 0),
        {
            f"GET {R}/hooks": [HOOKED],
            f"GET {R}/hooks/1/deliveries": [ATTEMPT],
            f"GET {R}": {"id": 1, "owner": {}},
        },
        (f"GET {R}/hooks/1/deliveries",),
        ("config.content_type",),
    ),
    "payload": Call(
        lambda host: host.payload(SHOP, DELIVERY),
        {f"GET {R}/hooks/1/deliveries/9": {"request": {"payload": {}}}},
    ),
    "redeliver": Call(
        lambda host: host.redeliver(SHOP, DELIVERY),
        {f"POST {R}/hooks/1/deliveries/9/attempts": (202, {}, {})},
        (f"POST {R}/hooks/1/deliveries/9/attempts",),
    ),
    "comment": Call(
        lambda host: host.comment(SHOP, MAIN, SHA, "x"),
        {
            f"GET {R}/pulls": [PULL],
            f"GET {R}/issues/3/comments": [COMMENT],
            "GET /user": {"login": "deployer"},
            f"PATCH {R}/issues/comments/7": {"id": 7},
            f"POST {R}/issues/3/comments": {"id": 8},  # if there was no comment
            f"GET {R}/commits/{SHA}/comments": [],  # if there was no pull request
            f"POST {R}/commits/{SHA}/comments": {"id": 9},
        },
        (f"GET {R}/pulls", f"GET {R}/issues/3/comments"),
    ),
    "open_pulls": Call(
        lambda host: host.open_pulls(SHOP, MAIN), {f"GET {R}/pulls": [PULL]}, (f"GET {R}/pulls",)
    ),
    "comment_on_pulls": Call(
        lambda host: host.comment_on_pulls(SHOP, MAIN, "y", ended=False),
        {
            f"GET {R}/pulls": [PULL],
            f"GET {R}/issues/3/comments": MINE,
            "GET /user": {"login": "deployer"},
            f"PATCH {R}/issues/comments/7": {"id": 7},
            f"POST {R}/issues/3/comments": {"id": 8},  # if there was no comment
        },
        (f"GET {R}/pulls", f"GET {R}/issues/3/comments"),
    ),
    "open pull requests": Call(
        lambda host: host.open_pull_requests(SHOP), {f"GET {R}/pulls": [PULL]}, (f"GET {R}/pulls",)
    ),
    "change_comment": Call(
        lambda host: host.change_comment(SHOP, "comments/7", "x"), {f"PATCH {R}/comments/7": {"id": 7}}
    ),
    "webhook_organization": Call(
        lambda host: host.webhook_organization(SHOP, HOOK),
        {f"GET {R}/hooks": [], f"GET {R}": OWNED, "GET /orgs/acme/hooks": [HOOKED]},
        (f"GET {R}/hooks", "GET /orgs/acme/hooks"),
        ("config.url", "config.content_type"),
    ),
    "install_hook": Call(
        lambda host: host.install_hook(SHOP, HOOK, "s", ["push"]),
        {f"GET {R}/hooks": [HOOKED], f"PATCH {R}/hooks/1": {"id": 1}, f"GET {R}": {"id": 1, "owner": {}}},
        optional=("config.content_type",),
    ),
    "install_hook where there is none": Call(
        lambda host: host.install_hook(SHOP, HOOK, "s", ["push"]),
        {
            f"GET {R}/hooks": [],
            f"GET {R}": {"id": 1, "owner": {"login": "acme", "type": "User"}},
            f"POST {R}/hooks": (201, {}, {"id": 1}),
        },
        (f"GET {R}/hooks",),
    ),
    "lacking": Call(lambda host: host.missing_permissions(SHOP), {f"GET {R}": {"private": False}}),
    "lacking, as an App": Call(
        lambda host: host.missing_permissions(SHOP),
        {
            f"GET {R}/installation": INSTALLED,
            "POST /app/installations/7/access_tokens": (201, {}, TOKEN),
            f"GET {R}": {"private": False},
        },
        optional=("permissions.contents",),
        app=True,
    ),
    "deliveries of an App": Call(
        lambda host: host.deliveries(SHOP, HOOK, 0),
        {"GET /app/hook/config": {"url": HOOK}, "GET /app/hook/deliveries": [ATTEMPT]},
        ("GET /app/hook/deliveries",),
        app=True,
    ),
    "a token to clone with": Call(
        lambda host: host.clone_token(SHOP.full_name),
        {f"GET {R}/installation": INSTALLED, "POST /app/installations/7/access_tokens": (201, {}, TOKEN)},
        optional=("permissions.contents",),
        app=True,
    ),
}


@pytest.fixture(scope="module")
def server() -> Iterator[KeepAliveServer]:
    with KeepAliveServer() as made:
        yield made


@pytest.fixture
def without_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every call without repeats."""
    monkeypatch.setattr("deployer.github.client._MAX_ATTEMPTS", 1)
    monkeypatch.setattr(
        "deployer.github.credentials.AppAuth.create_jwt", lambda *_: "signed"
    )  # which takes 60 ms


def answering(answers: dict[str, Any]) -> Callable[..., Answer]:
    """A function that answers by method and path; a body without a status is sent with 200 or 201."""

    def answer(method: str, path: str, _headers: dict[str, str]) -> Answer:
        found = answers.get(f"{method} {path.partition('?')[0]}", NOT_FOUND)
        if isinstance(found, tuple):
            return found
        return (201 if method == "POST" and path != "/graphql" else 200), {}, found

    return answer


def host_of(server: KeepAliveServer, call: Call, app_key: str) -> GitHubHost:
    if call.app:
        return GitHubHost(app_id="1", private_key=app_key, api_url=server.url)
    return GitHubHost("token", api_url=server.url)


def bodies_of_other_types(body: Any) -> Iterator[tuple[str, Any]]:
    """Bodies of other types with their description: wrong as a whole, or with a missing or wrong part."""
    text = json.dumps(body).encode()
    yield from {
        "an object": {}, "a list": [], "null": None, "a text": "x", "a number": 5, "a page": b"<html>soon</html>",
        "nothing": b"", "cut short": text[:-1], "no UTF-8": b'{"message": "\xff"}', "deep": b"[" * 5000,
    }.items()  # fmt: skip
    for path in paths_of(body):
        for what, change in (("without", None), ("with a wrong", [[None]])):
            changed = copy.deepcopy(body)
            inner = changed
            for step in path[:-1]:
                inner = inner[step]
            if change is None:
                del inner[path[-1]]
            else:
                inner[path[-1]] = change
            yield f"{what} {'.'.join(map(str, path))}", changed


def paths_of(body: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to each key of all objects in a body."""
    for key, value in (
        body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    ):
        if isinstance(body, dict):
            yield (*above, key)
        yield from paths_of(value, (*above, key))


@pytest.mark.usefixtures("without_repeats")
@pytest.mark.parametrize("name", CALLS)
def test_an_answer_of_another_type_is_a_transient_error(
    name: str, server: KeepAliveServer, app_key: str
) -> None:
    call, believed = CALLS[name], list[str]()
    server.answer = answering(call.answers)
    server.asked.clear()
    call.make(host_of(server, call, app_key))
    asked = {f"{method} {path.partition('?')[0]}" for method, path in server.asked}
    for where in call.answers:
        good = call.answers[where]
        if where not in asked or good == NOT_FOUND:
            continue
        status, body = (good[0], good[2]) if isinstance(good, tuple) else (200, good)
        for what, shape in bodies_of_other_types(body):
            if where in call.may_be and (
                shape == (body if not body else []) or (not body and what in _LIKE_NOTHING)
            ):
                continue
            if what.startswith("without") and any(map(what.endswith, call.optional)):
                continue
            server.answer = answering({**call.answers, where: (status, {}, shape)})
            host = host_of(server, call, app_key)
            try:
                found = call.make(host)
            except TransientError:
                continue
            except Exception as error:  # noqa: BLE001
                found = f"{type(error).__name__}: {error}"
            believed.append(f"{where} answered {what}: {found}")
    assert not believed, "\n".join(believed)


def test_a_request_is_repeated_after_an_answer_of_another_type(
    server: KeepAliveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployer.github.client._backoff", lambda _: 0)
    bodies: list[Any] = [[], b"<html>", {}, BRANCH, BRANCH]
    server.asked.clear()
    server.answer = lambda *_: (200, {}, bodies.pop(0))
    found = GitHubHost("token", api_url=server.url).head(SHOP, MAIN)
    assert (found and found.sha, len(server.asked)) == (SHA, 4)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "text/html", ""])
def test_a_page_of_another_server_does_not_prove_that_github_is_reachable(
    kind: str, server: KeepAliveServer
) -> None:
    server.answer = lambda *_: (200, {"Content-Type": kind} if kind else {}, b"{}")
    host = GitHubHost("token", api_url=server.url)
    if kind.startswith("application/json"):
        host.check_reachable(5)
        return
    with pytest.raises(TransientError, match="is not GitHub's API; check DEPLOYER_GITHUB_API_URL"):
        host.check_reachable(5)


@pytest.mark.usefixtures("without_repeats")
@pytest.mark.parametrize(
    "body", [b"<html>no such page</html>", b"", b"{", {}, [], {"message": None}, {"message": 5}]
)
@pytest.mark.parametrize(
    "name", ["facts", "head of a branch", "head of a tag", "files", "changed", "commit", "deliveries"]
)
def test_a_404_that_does_not_come_from_github_has_no_meaning(
    name: str, body: Any, server: KeepAliveServer, app_key: str
) -> None:
    """A proxy whose server is down answers 404 to every request."""
    server.answer = lambda *_: (404, {}, body)
    with pytest.raises(TransientError):
        CALLS[name].make(host_of(server, CALLS[name], app_key))


@pytest.mark.usefixtures("without_repeats")
@pytest.mark.parametrize("status", [202, 204, 206, 304, 300, 305])
@pytest.mark.parametrize("name", ["default_branch", "facts", "head of a branch", "files", "deliveries"])
def test_a_success_without_a_body_has_no_meaning(
    name: str, status: int, server: KeepAliveServer, app_key: str
) -> None:
    server.answer = lambda *_: (status, {}, b"")
    with pytest.raises(TransientError):
        CALLS[name].make(host_of(server, CALLS[name], app_key))


@pytest.mark.usefixtures("without_repeats")
@pytest.mark.parametrize(
    "location",
    [
        "",
        "/repos/acme/shop",
        "https://evil.example/repos/acme/shop",
        "http://[",
        "http://127.0.0.1:1/x",
        "ftp://x/",
    ],
)
def test_a_redirect_to_an_invalid_address_is_not_followed(location: str, server: KeepAliveServer) -> None:
    server.answer = lambda *_: (301, {"Location": location}, {"message": "Moved"})
    with pytest.raises(TransientError):
        GitHubHost("token", api_url=server.url).default_branch(SHOP)


@pytest.mark.parametrize("host", ["LocalHost:{port}", "localhost:{port}", "x@localhost:{port}"])
def test_a_redirect_to_the_same_host_in_another_spelling_is_followed(
    host: str, server: KeepAliveServer
) -> None:
    port = server.url.rpartition(":")[2]
    location = f"http://{host.format(port=port)}/repositories/1"
    moved: Answer = (301, {"Location": location}, {"message": "Moved"})
    server.answer = answering({f"GET {R}": moved, "GET /repositories/1": {"default_branch": "main"}})
    assert GitHubHost("token", api_url=f"http://localhost:{port}").default_branch(SHOP) == "main"


@pytest.mark.parametrize(
    ("api_url", "location", "followed"),
    [
        (
            "https://ghe.example/api/v3",
            "https://GHE.example:443/api/v3/x?a=1",
            "https://ghe.example/api/v3/x?a=1",
        ),
        ("https://ghe.example:443", "https://ghe.example/x", "https://ghe.example:443/x"),
        ("http://ghe.example", "http://ghe.example:80/x", "http://ghe.example/x"),
        ("https://ghe.example", "http://ghe.example:443/x", ""),
        ("https://ghe.example", "https://ghe.example:8443/x", ""),
        ("https://ghe.example", "https://ghe.example:99999/x", ""),
        ("https://ghe.example", "https://ghe.example.evil.example/x", ""),
        ("https://ghe.example", "https://ghe.example@evil.example/x", ""),
    ],
)
def test_a_redirect_is_followed_by_scheme_host_and_port(api_url: str, location: str, followed: str) -> None:
    client = GitHubClient(api_url, TokenCredentials("token"))
    if followed:
        assert client._redirect_target(f"{api_url}/repos/a/b", location) == followed
    else:
        with pytest.raises(UnexpectedAnswerError):
            client._redirect_target(f"{api_url}/repos/a/b", location)


def test_an_empty_page_of_deliveries_ends_the_list(server: KeepAliveServer) -> None:
    more = {"Link": f'<{server.url}/x?cursor=v1_1>; rel="next"'}
    server.answer = answering({f"GET {R}/hooks": [HOOKED], f"GET {R}/hooks/1/deliveries": (200, more, [])})
    assert GitHubHost("token", api_url=server.url).deliveries(SHOP, HOOK, 0) == []


@pytest.mark.parametrize(
    "error", [KeyError("x"), TypeError("x"), ValueError("x"), RuntimeError("x"), AssertionError("x")]
)
def test_a_bug_in_deployer_is_not_taken_for_a_fault_of_github(
    error: Exception, server: KeepAliveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task becomes a dead letter with the traceback; it is not retried like a fault of GitHub."""

    def broken(*_: object) -> None:
        raise error

    server.answer = answering(CALLS["ancestry"].answers)
    monkeypatch.setattr("deployer.github.refs.parse_sha", broken)
    with pytest.raises(type(error)):
        GitHubHost("token", api_url=server.url).ancestry(SHOP, SHA, OTHER)


def test_a_missing_webhook_is_not_an_unexpected_answer(server: KeepAliveServer) -> None:
    owner = {"id": 1, "owner": {"login": "acme", "type": "User"}}
    server.answer = answering({f"GET {R}/hooks": [], f"GET {R}": owner})
    with pytest.raises(NotFoundError):
        GitHubHost("token", api_url=server.url).deliveries(SHOP, HOOK, 0)


LIMITED: Answer = (403, {"Retry-After": "7"}, {"message": "You have exceeded a secondary rate limit"})


@pytest.mark.usefixtures("without_repeats")
@pytest.mark.parametrize(
    ("call", "answers"),
    [
        (
            lambda host: host.install_hook(SHOP, HOOK, "s", ["push"]),
            {f"GET {R}/hooks": [], f"GET {R}": OWNED, "GET /orgs/acme/hooks": LIMITED, f"POST {R}/hooks": {"id": 1}},
        ),
        (
            lambda host: host.deliveries(SHOP, HOOK, 0),
            {f"GET {R}/hooks": [], f"GET {R}": OWNED, "GET /orgs/acme/hooks": LIMITED},
        ),
        (
            lambda host: host.comment(SHOP, MAIN, SHA, "x"),
            {
                f"GET {R}/pulls": [PULL, {**PULL, "number": 4}],
                f"GET {R}/issues/3/comments": [],
                f"POST {R}/issues/3/comments": {"id": 8},
                f"GET {R}/issues/4/comments": LIMITED,
                "GET /user": {"login": "deployer"},
            },
        ),
        (
            lambda host: host.read_protection(SHOP),
            {f"GET {R}": {"default_branch": "main"}, f"GET {R}/branches/main": LIMITED, f"GET {R}/rulesets": []},
        ),
    ],
    ids=["install_hook", "deliveries", "comment", "protection"],
)  # fmt: skip
def test_a_rate_limit_is_not_a_missing_permission(
    call: Callable[[GitHubHost], object], answers: dict[str, Any], server: KeepAliveServer
) -> None:
    server.answer = answering(answers)
    with pytest.raises(TransientError, match="rate limit") as raised:
        call(GitHubHost("token", api_url=server.url))
    assert raised.value.retry_after == 7
    assert ("POST", f"{R}/hooks") not in server.asked


ORGANIZATION_S = HookDelivery(9, 1, "g", "push", ok=False, delivered_at=0, organization="acme")


@pytest.mark.parametrize(
    ("call", "right"),
    [
        (lambda host: host.install_hook(SHOP, HOOK, "s", ["push"]), "organization webhooks: write"),
        (lambda host: host.deliveries(SHOP, HOOK, 0), "organization webhooks: read"),
        (lambda host: host.payload(SHOP, ORGANIZATION_S), "organization webhooks: read"),
        (lambda host: host.redeliver(SHOP, ORGANIZATION_S), "organization webhooks: write"),
    ],
    ids=["install_hook", "deliveries", "payload", "redeliver"],
)
def test_the_error_names_the_permission_for_an_organization_s_webhook(
    call: Callable[[GitHubHost], object], right: str, server: KeepAliveServer
) -> None:
    server.answer = answering({f"GET {R}/hooks": [], f"GET {R}": OWNED, "GET /orgs/acme/hooks": [HOOKED]})
    with pytest.raises(RightsError, match=f"the permission {right}"):
        call(GitHubHost("token", api_url=server.url))
