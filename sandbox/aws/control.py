"""The simulator's own HTTP endpoints below /_sandbox/, with the websites of the buckets."""

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


class ControlError(Exception):
    """A control request cannot be carried out."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Control:
    """Answers the requests that are not signed; `reset` removes all state."""

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
            ("GET", "faults"): lambda _: self._faults.rules_in_force(),
            ("POST", "faults"): self._add_faults,
            ("DELETE", "faults"): self._clear_faults,
            ("GET", "limits"): lambda _: {"limits": overview.limits_json(self._regions)},
            ("POST", "limits"): self._set_limits,
            ("POST", "stacks"): self._seed_stacks,
            ("POST", "reset"): self._reset_all,
        }

    def serve_object(self, path: str) -> Answer:
        """An object of a bucket, in the way a website endpoint serves it."""
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
        """The answer to a request below /_sandbox/, or the overview page."""
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
                        200, self._force_status(unquote(what.removeprefix("stacks/")), environ)
                    )
                if (method, what) in self._answers:
                    return _json_response(200, self._answers[method, what](environ))
        except ControlError as error:
            return _json_response(error.status, {"error": str(error)})
        except ValueError as error:
            return _json_response(400, {"error": str(error)})
        if any(what == known for _, known in self._answers):
            return _json_response(405, {"error": f"{method} is not allowed for {path}"})
        return _json_response(404, {"error": f"no endpoint {method} {path}"})

    def _reset_all(self, _environ: Environ) -> dict[str, Any]:
        self._reset()
        return {"status": "reset"}

    # ---- logs

    def _show_events(self, _environ: Environ) -> dict[str, Any]:
        return {"events": [{"id": each, "type": kind} for each, kind in self._events.taken]}

    def _show_calls(self, environ: Environ) -> dict[str, Any]:
        query = {k: v[0] for k, v in parse_qs(environ.get("QUERY_STRING", "")).items()}
        since = query.pop("since", "0")
        if not since.isdecimal():
            raise ControlError("'since' must be the number of a call")
        return {"calls": self._calls.list_calls(since=int(since), **query)}

    def _show_log(self, build_id: str) -> Answer:
        file = self._builder.log_path(unquote(build_id))
        if not file.is_file():
            return 404, "text/plain; charset=utf-8", b"No such log.\n"
        return 200, "text/plain; charset=utf-8", file.read_bytes()[-_LONGEST_LOG:]

    # ---- changes

    def _add_faults(self, environ: Environ) -> dict[str, Any]:
        self._faults.add(_read_fields(environ))
        return self._faults.rules_in_force()

    def _clear_faults(self, _environ: Environ) -> dict[str, Any]:
        self._faults.clear()
        return self._faults.rules_in_force()

    def _set_limits(self, environ: Environ) -> dict[str, Any]:
        given = _read_fields(environ, "account", "region", "stacks", "pipelines")
        limits = {k: given[k] for k in ("stacks", "pipelines") if k in given}
        for what, limit in limits.items():
            if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
                raise ControlError(f"{what!r} must be a whole number of at least 0")
        place = Place(str(given.get("account", ACCOUNT)), str(given.get("region", REGION)))
        self._regions.set_limits(place, **limits)
        return {"limits": overview.limits_json(self._regions)}

    def _seed_stacks(self, environ: Environ) -> dict[str, Any]:
        """Create finished stacks of one `template`; see `Region.seed_stacks`."""
        given = _read_fields(environ, "account", "region", "template", "stacks")
        wrong = (
            "the body must have 'template' and 'stacks'; each stack must have 'name', 'parameters' and 'tags'"
        )
        place = Place(str(given.get("account", ACCOUNT)), str(given.get("region", REGION)))
        stacks = given.get("stacks")
        if not isinstance(given.get("template"), str) or not isinstance(stacks, list):
            raise ControlError(wrong)
        try:
            self._regions.at(place).seed_stacks(given["template"], stacks)
        except (KeyError, TypeError) as error:
            raise ControlError(wrong) from error
        except AwsError as error:
            raise ControlError(str(error)) from error
        return {"stacks": len(stacks)}

    def _force_status(self, name: str, environ: Environ) -> dict[str, Any]:
        given = _read_fields(environ, "status", "reason", "seconds", "token", "account", "region")
        status, seconds = given.get("status"), given.get("seconds", RESOURCE_SECONDS)
        if status not in STATUSES:
            raise ControlError(f"the status must be one of {', '.join(STATUSES)}")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
            raise ControlError("'seconds' must be a number of at least 0")
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
        raise ControlError(f"no stack {name}", 404)


def _read_fields(environ: Environ, *known: str) -> dict[str, Any]:
    """The JSON object in a request's body; if `known` fields are given, other fields are rejected."""
    fields = json.loads(addressing.read_body(environ) or b"{}")
    if not isinstance(fields, dict):
        raise ControlError("the body must be a JSON object")
    if known and (unknown := sorted(set(fields) - set(known))):
        raise ControlError(f"unknown fields: {', '.join(unknown)}; the known fields are {', '.join(known)}")
    return fields


def _json_response(status: int, content: Any) -> Answer:
    return status, "application/json", json.dumps(content, indent=1).encode()
