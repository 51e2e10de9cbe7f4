"""The REST API under `/api/v3`, as a GitHub Enterprise Server has it, with its limits and its faults."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

from flask import Blueprint, Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from sandbox.github import api, api_git, api_hooks, payloads, shapes
from sandbox.github.hub import ArchivedError, Hub
from sandbox.github.lookup import Lookup
from sandbox.github.responses import error, raw_path

_PREFIX = "/api/v3"
_LIMIT = 5000
_HOUR = 3600
_KEPT_CALLS = 20_000


class Calls:
    """The calls made so far, and the rate limit they count towards (shown, never enforced)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: deque[dict[str, Any]] = deque(maxlen=_KEPT_CALLS)
        self._seq = 0
        self._used = 0
        self._reset = int(time.time()) + _HOUR

    def add(self, method: str, path: str, status: int) -> None:
        """Note a call."""
        with self._lock:
            self._seq += 1
            self._calls.append({"seq": self._seq, "method": method, "path": path, "status": status})

    def since(self, seq: int) -> list[dict[str, Any]]:
        """The calls after the one of this number."""
        with self._lock:
            return [call for call in self._calls if call["seq"] > seq]

    def limit(self, cost: int = 0) -> dict[str, int]:
        """The limit of this hour, after so many more calls."""
        with self._lock:
            if time.time() >= self._reset:
                self._used, self._reset = 0, int(time.time()) + _HOUR
            self._used += cost
            # Nobody is turned away, so 1 is always left: clients may stop by themselves at 0.
            remaining = max(_LIMIT - self._used, 1)
            return {"limit": _LIMIT, "used": self._used, "remaining": remaining, "reset": self._reset}


def install(app: Flask, hub: Hub) -> Calls:
    """Add the API to the app; returns the record of its calls."""
    calls = Calls()
    look = Lookup(hub)
    pages = Blueprint("rest", __name__, url_prefix=_PREFIX)
    api.add_routes(pages, hub, look)
    api_git.add_routes(pages, hub, look)
    api_hooks.add_routes(pages, hub, look)

    @pages.get("/rate_limit")
    def rate_limit() -> Response:
        core = {**calls.limit(), "resource": "core"}
        return jsonify({"resources": {"core": core, "search": core, "graphql": core}, "rate": core})

    @pages.get("/user")
    def user() -> Response:
        return jsonify(payloads.user(payloads.LOGIN, shapes.root()))

    @pages.get("/meta")
    def meta() -> Response:
        return jsonify({"verifiable_password_authentication": False, "installed_version": "3.14.0"})

    app.register_blueprint(pages)

    @app.before_request
    def faults() -> Response | None:
        if not request.path.startswith(f"{_PREFIX}/"):
            return None
        slow = hub.faults.seconds("slow")
        if slow:
            time.sleep(slow)
        retry_after = hub.faults.rate_limited()
        if retry_after is not None:
            answer = error(403, "You have exceeded a secondary rate limit. Please wait a few minutes.")
            answer.headers["Retry-After"] = f"{max(round(retry_after), 0)}"
            return answer
        status = hub.faults.api_error()
        return error(status, f"A fault on order: {status}") if status else None

    @app.after_request
    def record(answer: Response) -> Response:
        if request.path.startswith(f"{_PREFIX}/"):
            cost = 0 if request.path == f"{_PREFIX}/rate_limit" else 1
            for name, value in calls.limit(cost).items():
                answer.headers[f"X-RateLimit-{name.capitalize()}"] = str(value)
            answer.headers["X-RateLimit-Resource"] = "core"
            answer.headers["X-GitHub-Enterprise-Version"] = "3.14.0"
            calls.add(request.method, raw_path(), answer.status_code)
        return answer

    @app.errorhandler(HTTPException)
    def in_json(problem: HTTPException) -> Response | HTTPException:
        if problem.response is not None or not request.path.startswith("/api/"):
            return problem
        status = problem.code or 500
        answer = error(status, "Not Found" if status == 404 else problem.name)
        if status == 405:
            answer.headers["Allow"] = ", ".join(getattr(problem, "valid_methods", None) or ())
        return answer

    @app.errorhandler(ArchivedError)
    def archived(_problem: ArchivedError) -> Response:
        return error(403, "Repository was archived so is read-only.")

    return calls
