"""The REST and GraphQL APIs of a GitHub Enterprise Server, with their rate limits or injected faults."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from typing import Any

from flask import Blueprint, Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from sandbox.github import api, api_git, api_graphql, api_hooks, api_pulls, payloads, rest_json, tokens
from sandbox.github.hub import ArchivedError, Hub
from sandbox.github.lookup import Lookup
from sandbox.github.responses import error_answer, raw_path

_PREFIX = "/api/v3"
_LIMIT = 5000
_HOUR = 3600
_KEPT_CALLS = 20_000


class Calls:
    """The calls so far, with the rate limit of each API, which is shown but never enforced."""

    def __init__(self, quota: int = _LIMIT) -> None:
        self._quota = quota
        self._lock = threading.Lock()
        self._calls: deque[dict[str, Any]] = deque(maxlen=_KEPT_CALLS)
        self._seq = 0
        self._used: Counter[str] = Counter()
        self._reset = int(time.time()) + _HOUR

    def record_call(self, method: str, path: str, status: int) -> None:
        """Record a call."""
        with self._lock:
            self._seq += 1
            self._calls.append({"seq": self._seq, "method": method, "path": path, "status": status})

    def since(self, seq: int) -> list[dict[str, Any]]:
        """The calls after the one with this number."""
        with self._lock:
            return [call for call in self._calls if call["seq"] > seq]

    def limit(self, resource: str, cost: int = 0) -> dict[str, int | str]:
        """This hour's rate limit of `core` or `graphql`, after `cost` more calls."""
        with self._lock:
            if time.time() >= self._reset:
                self._used, self._reset = Counter(), int(time.time()) + _HOUR
            self._used[resource] += cost
            used = self._used[resource]
            # The limit is never enforced, so at least 1 call always remains: a client may stop by itself at 0.
            return {
                "limit": self._quota, "used": used, "remaining": max(self._quota - used, 1), "reset": self._reset,
                "resource": resource,
            }  # fmt: skip


def add_api(app: Flask, hub: Hub) -> Calls:
    """Add both APIs to the application; returns the record of their calls."""
    # a faster sandbox gets as many more calls in an hour
    speed = float(os.environ.get("DEPLOYER_SANDBOX_SPEED") or 1)
    calls = Calls(round(_LIMIT * speed))
    lookup = Lookup(hub)
    pages = Blueprint("rest", __name__, url_prefix=_PREFIX)
    api.add_routes(pages, hub, lookup)
    api_git.add_routes(pages, hub, lookup)
    api_hooks.add_routes(pages, hub, lookup)
    api_pulls.add_routes(pages, hub, lookup)
    _add_general_calls(pages, calls)
    app.register_blueprint(pages)
    api_graphql.add_routes(app, hub)
    _add_refusals(app, hub)
    _add_recording(app, calls)
    _add_error_handlers(app)
    return calls


def _add_general_calls(pages: Blueprint, calls: Calls) -> None:
    @pages.get("/rate_limit")
    def rate_limit() -> Response:
        core = calls.limit("core")
        resources = {"core": core, "search": core, "graphql": calls.limit("graphql")}
        return jsonify({"resources": resources, "rate": core})

    @pages.get("/user")
    def get_user() -> Response:
        return jsonify(payloads.user_json(payloads.LOGIN, rest_json.root_url()))

    @pages.get("/meta")
    def get_meta() -> Response:
        return jsonify({"verifiable_password_authentication": False, "installed_version": "3.14.0"})


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
    def check_token() -> Response | None:
        return tokens.check_request_token(hub)


def _add_recording(app: Flask, calls: Calls) -> None:
    @app.after_request
    def record_answer(answer: Response) -> Response:
        if _counted_resource():
            limit = calls.limit(_counted_resource(), 0 if request.path == f"{_PREFIX}/rate_limit" else 1)
            if "reset" in g:
                limit |= {"remaining": 0, "reset": g.reset}
            for name, value in limit.items():
                answer.headers[f"X-RateLimit-{name.capitalize()}"] = str(value)
            answer.headers["X-GitHub-Enterprise-Version"] = "3.14.0"
            calls.record_call(request.method, raw_path(), answer.status_code)
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
