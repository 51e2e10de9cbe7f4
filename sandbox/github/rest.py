"""The REST and GraphQL APIs of a GitHub Enterprise Server, with their rate limits or injected faults."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from typing import Any

from flask import Blueprint, Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from sandbox.github import api, api_git, api_graphql, api_hooks, api_pulls, links, payloads, rest_json, tokens
from sandbox.github.hub import ArchivedError, Hub
from sandbox.github.lookup import Lookup
from sandbox.github.people import OWNER
from sandbox.github.responses import error_answer, raw_path

_PREFIX = "/api/v3"
_VERSIONS = {"2022-11-28", "2026-03-10"}
_DEFAULT_VERSION = "2022-11-28"
_KEPT_CALLS = 20_000
_ANONYMOUS = "anonymous"  # requests without credentials, which are counted but never refused
_NO_CONTENT = re.compile(r"/(hooks|git|branches|rulesets)(/|$)|/attempts$")  # writes that create no content


class Calls:
    """The calls so far."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: deque[dict[str, Any]] = deque(maxlen=_KEPT_CALLS)
        self._seq = 0

    def record_call(
        self, method: str, path: str, status: int, arrived: float, account: str, version: str
    ) -> None:
        """Record a call that arrived at a time (epoch seconds) and has been answered."""
        with self._lock:
            self._seq += 1
            self._calls.append(
                {
                    "seq": self._seq,
                    "time": arrived,
                    "seconds": time.time() - arrived,
                    "method": method,
                    "path": path,
                    "status": status,
                    "account": account,
                    "version": version,
                }
            )

    def since(self, seq: int) -> list[dict[str, Any]]:
        """The calls after the one with this number."""
        with self._lock:
            return [call for call in self._calls if call["seq"] > seq]


def add_api(app: Flask, hub: Hub, calls: Calls) -> None:
    """Add both APIs to the application, and record their calls."""
    lookup = Lookup(hub)
    pages = Blueprint("rest", __name__, url_prefix=_PREFIX)
    api.add_routes(pages, hub, lookup)
    api_git.add_routes(pages, hub, lookup)
    api_hooks.add_routes(pages, hub, lookup)
    api_pulls.add_routes(pages, hub, lookup)
    _add_general_calls(pages, hub)
    app.register_blueprint(pages)
    api_graphql.add_routes(app, hub)
    _add_recording(app, hub, calls)
    _add_refusals(app, hub)
    _add_error_handlers(app)


def _add_general_calls(pages: Blueprint, hub: Hub) -> None:
    @pages.get("/rate_limit")
    def rate_limit() -> Response:
        core = hub.limits.shown(_account(), "core")
        resources = {"core": core, "search": core, "graphql": hub.limits.shown(_account(), "graphql")}
        return jsonify({"resources": resources, "rate": core})

    @pages.get("/user")
    def get_user() -> Response:
        if "grant" in g:
            return error_answer(403, "Resource not accessible by integration")
        shown = payloads.user_json(g.get("person", OWNER).login, rest_json.root_url())
        return jsonify({**shown, **links.PUBLIC_USER})

    @pages.get("/meta")
    def get_meta() -> Response:
        return jsonify({"verifiable_password_authentication": False, "installed_version": "3.14.0"})


def _account() -> str:
    """Whose rate limits the request counts towards."""
    return str(g.get("account", _ANONYMOUS))


def _counted_resource() -> str:
    """The name of the rate limit that this request counts towards; empty for a page or a push."""
    if request.path == api_graphql.PATH:
        return "graphql"
    return "core" if request.path.startswith(f"{_PREFIX}/") else ""


def _add_refusals(app: Flask, hub: Hub) -> None:
    """Refuse requests because of an injected fault, or else because of their token."""

    @app.before_request
    def apply_faults() -> Response | None:
        if not _counted_resource():
            return None
        slow = hub.faults.order_seconds("slow")
        if slow:
            time.sleep(slow)
        retry_after = hub.faults.rate_limited()
        if retry_after is not None:
            answer = error_answer(403, "You have exceeded a secondary rate limit. Please wait a few minutes.")
            answer.headers["Retry-After"] = f"{max(round(retry_after), 0)}"
            return answer
        reset = hub.faults.used_up()
        if reset is not None:
            g.reset = int(time.time() + reset)
            spent = "API rate limit exceeded for user ID 1."
            return (
                error_answer(403, spent)
                if _counted_resource() == "core"
                else api_graphql.errors_answer(spent, "RATE_LIMITED")
            )
        writes = _counted_resource() == "core" and request.method not in {"GET", "HEAD"}
        status = hub.faults.api_error(writes=writes)
        return error_answer(status, f"An injected fault: {status}") if status else None

    @app.before_request
    def check_version() -> Response | None:
        asked = request.headers.get("X-GitHub-Api-Version", _DEFAULT_VERSION)
        if _counted_resource() and asked not in _VERSIONS:
            return error_answer(400, f"API version '{asked[:40]}' is not supported")
        return None

    @app.before_request
    def check_token() -> Response | None:
        refusal = tokens.check_request_token(hub)
        # GitHub counts a refused request as well, if it knows who sent it
        return _limit_refusal(hub) or refusal


def _limit_refusal(hub: Hub) -> Response | None:
    """Count a request towards the rate limits, and refuse it if it exceeds one."""
    resource = _counted_resource()
    if not resource or request.path == f"{_PREFIX}/rate_limit":
        return None
    writes = resource == "core" and request.method not in {"GET", "HEAD"}
    content = writes and "/repos/" in request.path and not _NO_CONTENT.search(request.path)
    found = hub.limits.admit(_account(), resource, writes=writes, content=content)
    if found is None or _account() == _ANONYMOUS:
        return None
    if found.retry_after is None and resource == "graphql":
        return api_graphql.errors_answer(found.message, "RATE_LIMITED")
    answer = error_answer(403, found.message)
    if found.retry_after is not None:
        answer.headers["Retry-After"] = str(found.retry_after)
    return answer


def _add_recording(app: Flask, hub: Hub, calls: Calls) -> None:
    @app.before_request
    def note_arrival() -> None:
        g.arrived = time.time()

    @app.after_request
    def record_answer(answer: Response) -> Response:
        resource = _counted_resource()
        if not resource:
            return answer
        limit = hub.limits.shown(_account(), resource)
        if "reset" in g:
            limit |= {"remaining": 0, "reset": g.reset}
        for name, value in limit.items():
            answer.headers[f"X-RateLimit-{name.capitalize()}"] = str(value)
        version = request.headers.get("X-GitHub-Api-Version", "")
        answer.headers["X-GitHub-Api-Version-Selected"] = version or _DEFAULT_VERSION
        answer.headers["X-GitHub-Enterprise-Version"] = "3.14.0"
        if "person" in g:
            answer.headers["X-OAuth-Scopes"] = "admin:org_hook, repo"
        if "sign_on" in g:
            answer.headers["X-GitHub-SSO"] = g.sign_on
        calls.record_call(request.method, raw_path(), answer.status_code, g.arrived, _account(), version)
        return answer


def _add_error_handlers(app: Flask) -> None:
    @app.errorhandler(HTTPException)
    def answer_in_json(problem: HTTPException) -> Response | HTTPException:
        if problem.response is not None or not request.path.startswith("/api/"):
            return problem
        status = problem.code or 500
        answer = error_answer(status, "Not Found" if status == 404 else problem.name)
        if status == 405:
            answer.headers["Allow"] = ", ".join(getattr(problem, "valid_methods", None) or ())
        return answer

    @app.errorhandler(ArchivedError)
    def refuse_archived(_problem: ArchivedError) -> Response:
        return error_answer(403, "Repository was archived so is read-only.")
