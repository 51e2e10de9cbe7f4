"""The WSGI application that dispatches each request: to a simulated service, to moto, or to the control endpoints."""

from __future__ import annotations

import io
import logging
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from sandbox.aws import addressing, identity, protocol, storage
from sandbox.aws.addressing import Environ
from sandbox.aws.builds import Builder
from sandbox.aws.calls import Call, Calls
from sandbox.aws.clock import Scheduler
from sandbox.aws.control import Control
from sandbox.aws.events import Events
from sandbox.aws.faults import Faults
from sandbox.aws.places import Place
from sandbox.aws.protocol import CBOR, AwsError
from sandbox.aws.regions import Regions
from sandbox.aws.sources import Repositories
from sandbox.aws.workspace import Processes, Workspace

log = logging.getLogger(__name__)

_THROTTLING = {"cloudformation": "Throttling", "s3": "SlowDown"}
_NAMES = ("StackName", "name", "pipelineName", "Name")
_TOKENS = ("ClientRequestToken", "clientRequestToken")


class Simulator:
    """The simulated AWS; call `start` before the first request."""

    def __init__(self, *, github_url: str, events_url: str | None, event_key: str, speed: float) -> None:
        self.faults = Faults()
        self.calls = Calls()
        self.scheduler = Scheduler(speed)
        self._workspace = Workspace()
        self._processes = Processes()
        self._events = Events(events_url or None, event_key, self.faults)
        self._builder = Builder(self._workspace)
        repositories = Repositories(github_url, self._workspace, self._processes)
        self.regions = Regions(
            self.scheduler, self.faults, self._events, self._workspace, repositories, self._builder
        )
        self._control = Control(
            self.scheduler, self.regions, self.faults, self.calls, self._events, self._builder, self.reset
        )
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._clear_moto()

    def start(self, address: str) -> None:
        """Start the scheduler and the delivery of events; `address` is the URL of the simulator."""
        self._builder.address = address
        self.scheduler.start()
        self._events.start()

    def stop(self) -> None:
        """Stop all processes; remove all files."""
        self.scheduler.reset()
        self._processes.kill_all()
        self.scheduler.stop()
        self._events.stop()
        self._workspace.remove()

    def reset(self) -> None:
        """Remove all state: stacks, pipelines, moto's resources, calls and faults."""
        with self.scheduler.lock:
            self.scheduler.reset()
            self.regions.reset()
            self._events.reset()
            self.faults.clear()
            self.calls.clear()
            self._clear_moto()

    @staticmethod
    def _clear_moto() -> None:
        # moto's state belongs to the Python process, so it would outlive this simulator.
        moto_api_backend.reset()

    # ---- requests

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a WSGI request."""
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path.startswith("/_sandbox/") or (
            path == "/" and method == "GET" and not addressing.is_signed(environ)
        ):
            status, kind, body = self._control.answer_request(method, path, environ)
            return _send_reply(start_response, status, [("Content-Type", kind)], body)
        if method in ("GET", "HEAD") and not addressing.is_signed(environ):
            status, kind, body = self._control.serve_object(path)
            headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
            return _send_reply(start_response, status, headers, body if method == "GET" else b"")
        return self._answer_aws(environ, start_response)

    def _answer_aws(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        content = addressing.read_body(environ)
        service, operation, form = addressing.called_operation(environ, content)
        given, refusal = addressing.parse_parameters(service, operation, form, content)
        with self.scheduler.lock:
            place = addressing.place_of_request(environ)
            caller = addressing.caller_of_request(environ)
        if service == "s3":
            given = {"Name": environ["PATH_INFO"].lstrip("/").partition("/")[0] or None}
        name, token = _first_value(given, _NAMES), _first_value(given, _TOKENS)
        started = time.time()
        time.sleep(self.faults.call_delay(place, service, operation, name))
        rule = self.faults.error_rule(place, service, operation, name)
        if refusal is None and operation == "AssumeRole":
            refusal = self._assume_role_error(place, given)
        if refusal is None and service == "s3":
            refusal = self._bucket_owner_error(given, environ.get("HTTP_X_AMZ_EXPECTED_BUCKET_OWNER"))
        if self.faults.is_throttled(place, service, operation, name):
            status, headers, body, code = _error_reply(service, form, _throttling_error(service))
        elif refusal is not None:
            status, headers, body, code = _error_reply(service, form, refusal)
        elif rule is not None and rule.get("mode", "before") == "before":
            status, headers, body, code = self._injected_error(service, form, rule)
        else:
            if service in addressing.OWN or operation == "GetCallerIdentity":
                status, headers, body, code = self._answer_own(place, service, operation, form, given, caller)
            else:
                status, headers, body, code = self._answer_moto(environ, content, service, form)
            if rule is not None:
                status, headers, body, code = self._injected_error(service, form, rule)
        call = Call(
            time=started,
            seconds=time.time() - started,
            service=service,
            operation=operation,
            name=name,
            token=token,
            user_agent=environ.get("HTTP_USER_AGENT", ""),
            status=status,
            code=code,
            account=place.account,
            region=place.region,
        )
        self.calls.add(call)
        if rule is not None and rule.get("drop"):
            raise ConnectionResetError("an injected fault drops the connection")
        return _send_reply(start_response, status, headers, body)

    def _bucket_owner_error(self, given: dict[str, Any], expected: str | None) -> AwsError | None:
        """AccessDenied if the bucket is not owned by the account that the caller expects; moto ignores that header."""
        name = given["Name"]
        with self.scheduler.lock:
            if (
                not expected
                or name not in storage.bucket_names()
                or storage.bucket_place(name).account == expected
            ):
                return None
        return AwsError("AccessDenied", "Access Denied", 403)

    def _assume_role_error(self, place: Place, given: dict[str, Any]) -> AwsError | None:
        """The error if the caller may not assume a role; moto allows it to everybody."""
        try:
            with self.scheduler.lock:
                identity.check_assume_role(given, place.account)
        except AwsError as error:
            return error
        return None

    @staticmethod
    def _injected_error(
        service: str, form: str, rule: dict[str, Any]
    ) -> tuple[int, list[tuple[str, str]], bytes, str]:
        status = int(rule.get("status", 500))
        code = str(rule.get("error") or ("ServiceUnavailable" if status >= 500 else "ValidationError"))
        if "status" not in rule and "error" in rule:
            status = 400
        message = str(rule.get("message", "Injected failure"))
        return _error_reply(service, form, AwsError(code, message, status))

    def _answer_own(
        self, place: Place, service: str, operation: str, form: str, given: dict[str, Any], caller: str
    ) -> tuple[int, list[tuple[str, str]], bytes, str]:
        try:
            with self.scheduler.lock:
                if service == "sts":
                    result = {"Arn": caller, "Account": place.account, "UserId": caller.rpartition("/")[2]}
                else:
                    result = self.regions.at(place).services[service](operation, given, caller)
                kind, body = protocol.encode_answer(service, operation, form, result)
        except AwsError as error:
            return _error_reply(service, form, error)
        except Exception:
            log.exception("the simulator failed to answer %s %s", service, operation)
            return _error_reply(service, form, AwsError("InternalFailure", "The simulator failed", 500))
        return 200, _reply_headers(kind, form), body, "OK"

    def _answer_moto(
        self, environ: Environ, content: bytes, service: str, form: str
    ) -> tuple[int, list[tuple[str, str]], bytes, str]:
        """Pass a request to moto; return status, headers, body and error code of its answer."""
        started_with: list[tuple[str, list[tuple[str, str]]]] = []

        def start(status: str, headers: list[tuple[str, str]], _info: Any = None) -> Callable[[bytes], None]:
            started_with.append((status, headers))
            return lambda _: None

        environ = {**environ, "wsgi.input": io.BytesIO(content), "CONTENT_LENGTH": str(len(content))}
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        try:
            # moto is not thread-safe; the lock is held only briefly, because moto answers quickly.
            with self.scheduler.lock:
                body = b"".join(self._moto(environ, start))
        except Exception:
            log.exception("moto failed to answer a call of %s", service)
            return _error_reply(service, form, AwsError("InternalFailure", "The simulator failed", 500))
        status = int(started_with[0][0].split()[0])
        return status, started_with[0][1], body, "OK" if status < 400 else _error_code(body)


def _first_value(given: dict[str, Any], names: tuple[str, ...]) -> str | None:
    return next((str(given[n]) for n in names if given.get(n) is not None), None)


def _throttling_error(service: str) -> AwsError:
    code = _THROTTLING.get(service, "ThrottlingException")
    return AwsError(code, "Rate exceeded", 503 if code == "SlowDown" else 400)


def _error_reply(service: str, form: str, error: AwsError) -> tuple[int, list[tuple[str, str]], bytes, str]:
    kind, body = protocol.error_answer(service, form, error)
    return error.status, _reply_headers(kind, form), body, error.code


def _reply_headers(kind: str, form: str) -> list[tuple[str, str]]:
    return [("Content-Type", kind), *([("smithy-protocol", "rpc-v2-cbor")] if form == CBOR else [])]


def _error_code(body: bytes) -> str:
    text = body.decode(errors="replace")
    found = re.search(r"<Code>([^<]+)</Code>", text) or re.search(r'"__type": ?"([^"]+)"', text)
    return found.group(1) if found else "Error"


def _send_reply(
    start_response: Callable[..., Any], status: int, headers: list[tuple[str, str]], body: bytes
) -> Iterable[bytes]:
    if not any(name.lower() == "content-length" for name, _ in headers):
        headers = [*headers, ("Content-Length", str(len(body)))]
    start_response(f"{status} {'OK' if status < 400 else 'Error'}", headers)
    return [body]
