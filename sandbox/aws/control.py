"""What is not AWS: the calls that order and show, the logs of builds, and websites' pages."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote

from sandbox.aws import addressing, overview, storage
from sandbox.aws.addressing import Environ
from sandbox.aws.builds import Builder
from sandbox.aws.calls import Calls
from sandbox.aws.clock import Scheduler
from sandbox.aws.events import Events
from sandbox.aws.faults import Faults
from sandbox.aws.operations import RESOURCE_SECONDS
from sandbox.aws.places import ACCOUNT, REGION, Place
from sandbox.aws.protocol import AwsError
from sandbox.aws.regions import Regions
from sandbox.aws.stack import Stack
from sandbox.aws.stacks import STATUSES, Stacks

_LONGEST_LOG = 1_000_000

Answer = tuple[int, str, bytes]


class OrderError(Exception):
    """Why an order cannot be followed."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Control:
    """Answers the requests that are not signed; `reset` forgets everything."""

    def __init__(
        self,
        scheduler: Scheduler,
        regions: Regions,
        faults: Faults,
        calls: Calls,
        events: Events,
        builder: Builder,
        reset: Callable[[], None],
    ) -> None:
        self._scheduler = scheduler
        self._regions = regions
        self._faults = faults
        self._calls = calls
        self._events = events
        self._builder = builder
        self._reset = reset
        self._answers: dict[tuple[str, str], Callable[[Environ], dict[str, Any]]] = {
            ("GET", "health"): lambda _: {"status": "ok"},
            ("GET", "state"): lambda _: overview.state_json(self._regions),
            ("GET", "executions"): lambda _: {"executions": overview.execution_history(self._regions)},
            ("GET", "events"): self._show_events,
            ("GET", "calls"): self._show_calls,
            ("GET", "faults"): lambda _: self._faults.orders_in_force(),
            ("POST", "faults"): self._add_faults,
            ("DELETE", "faults"): self._clear_faults,
            ("GET", "limits"): lambda _: {"limits": overview.limits_json(self._regions)},
            ("POST", "limits"): self._set_limits,
            ("POST", "stacks"): self._seed_stacks,
            ("POST", "reset"): self._reset_all,
        }

    def serve_object(self, path: str) -> Answer:
        """An object of a bucket, as a website's host gives it."""
        bucket, _, key = unquote(path).lstrip("/").partition("/")
        with self._scheduler.lock:
            try:
                if key and not key.endswith("/"):
                    content, kind = storage.read_object(bucket, key)
                else:
                    content, kind = storage.read_object(bucket, f"{key}index.html")
            except storage.NoSuchObjectError as error:
                return 404, "text/plain; charset=utf-8", f"{error}\n".encode()
        return 200, kind, content

    def answer_request(self, method: str, path: str, environ: Environ) -> Answer:
        """The answer to a call below /_sandbox/, or the overview."""
        if path == "/":
            with self._scheduler.lock:
                return 200, "text/html; charset=utf-8", overview.html_page(self._regions).encode()
        what = path.removeprefix("/_sandbox/")
        if method == "GET" and what.startswith("logs/"):
            return self._show_log(what.removeprefix("logs/"))
        try:
            with self._scheduler.lock:
                if method == "POST" and what.startswith("stacks/"):
                    return _json_response(
                        200, self._order_status(unquote(what.removeprefix("stacks/")), environ)
                    )
                if (method, what) in self._answers:
                    return _json_response(200, self._answers[method, what](environ))
        except OrderError as error:
            return _json_response(error.status, {"error": str(error)})
        except ValueError as error:
            return _json_response(400, {"error": str(error)})
        if any(what == known for _, known in self._answers):
            return _json_response(405, {"error": f"{method} is not allowed"})
        return _json_response(404, {"error": f"there is no {method} {path}"})

    def _reset_all(self, _environ: Environ) -> dict[str, Any]:
        self._reset()
        return {"status": "reset"}

    # ---- what came and what was sent

    def _show_events(self, _environ: Environ) -> dict[str, Any]:
        return {"events": [{"id": each, "type": kind} for each, kind in self._events.taken]}

    def _show_calls(self, environ: Environ) -> dict[str, Any]:
        query = {k: v[0] for k, v in parse_qs(environ.get("QUERY_STRING", "")).items()}
        since = query.pop("since", "0")
        if not since.isdecimal():
            raise OrderError("since must be the number of a call")
        return {"calls": self._calls.list_calls(since=int(since), **query)}

    def _show_log(self, build_id: str) -> Answer:
        file = self._builder.log_path(unquote(build_id))
        if not file.is_file():
            return 404, "text/plain; charset=utf-8", b"There is no such log.\n"
        return 200, "text/plain; charset=utf-8", file.read_bytes()[-_LONGEST_LOG:]

    # ---- orders

    def _add_faults(self, environ: Environ) -> dict[str, Any]:
        self._faults.add(_read_fields(environ))
        return self._faults.orders_in_force()

    def _clear_faults(self, _environ: Environ) -> dict[str, Any]:
        self._faults.clear()
        return self._faults.orders_in_force()

    def _set_limits(self, environ: Environ) -> dict[str, Any]:
        given = _read_fields(environ, "account", "region", "stacks", "pipelines")
        limits = {k: given[k] for k in ("stacks", "pipelines") if k in given}
        for what, limit in limits.items():
            if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
                raise OrderError(f"{what!r} must be a whole number of at least 0")
        place = Place(str(given.get("account", ACCOUNT)), str(given.get("region", REGION)))
        self._regions.set_limits(place, **limits)
        return {"limits": overview.limits_json(self._regions)}

    def _seed_stacks(self, environ: Environ) -> dict[str, Any]:
        """Stacks of one `template`, as of long ago; see `Region.furnish`."""
        given = _read_fields(environ, "account", "region", "template", "stacks")
        wrong = "the body must have a 'template' and 'stacks', each with 'name', 'parameters' and 'tags'"
        place = Place(str(given.get("account", ACCOUNT)), str(given.get("region", REGION)))
        stacks = given.get("stacks")
        if not isinstance(given.get("template"), str) or not isinstance(stacks, list):
            raise OrderError(wrong)
        try:
            self._regions.at(place).seed_stacks(given["template"], stacks)
        except (KeyError, TypeError) as error:
            raise OrderError(wrong) from error
        except AwsError as error:
            raise OrderError(str(error)) from error
        return {"stacks": len(stacks)}

    def _order_status(self, name: str, environ: Environ) -> dict[str, Any]:
        given = _read_fields(environ, "status", "reason", "seconds", "token", "account", "region")
        status, seconds = given.get("status"), given.get("seconds", RESOURCE_SECONDS)
        if status not in STATUSES:
            raise OrderError(f"the status must be one of {', '.join(STATUSES)}")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
            raise OrderError("'seconds' must be a number of at least 0")
        stacks, stack = self._find_stack(name, given)
        stacks.force_status(
            stack, status, reason=given.get("reason"), seconds=seconds, token=given.get("token")
        )
        return {"id": stack.id, "status": stack.status}

    def _find_stack(self, name: str, given: dict[str, Any]) -> tuple[Stacks, Stack]:
        for region in self._regions:
            wanted = {k: v for k, v in given.items() if k in region.place.as_fields()}
            if name in region.stacks.live and wanted.items() <= region.place.as_fields().items():
                return region.stacks, region.stacks.live[name]
        raise OrderError(f"there is no stack {name}", 404)


def _read_fields(environ: Environ, *known: str) -> dict[str, Any]:
    """The JSON object in a request's body, which may have only the known fields if any are given."""
    orders = json.loads(addressing.read_body(environ) or b"{}")
    if not isinstance(orders, dict):
        raise OrderError("the body must be a JSON object")
    if known and (unknown := sorted(set(orders) - set(known))):
        raise OrderError(f"unknown field {', '.join(unknown)}; known are {', '.join(known)}")
    return orders


def _json_response(status: int, content: Any) -> Answer:
    return status, "application/json", json.dumps(content, indent=1).encode()
