"""The simulator put together, as a WSGI application: its own services, moto's, and the control calls."""

from __future__ import annotations

import io
import json
import logging
import re
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs, unquote

from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from sandbox.aws import overview, protocol, storage
from sandbox.aws.actions import Actions
from sandbox.aws.builds import Builder
from sandbox.aws.calls import Call, Calls
from sandbox.aws.clock import Scheduler
from sandbox.aws.cloudformation import CloudFormation
from sandbox.aws.codepipeline import CodePipeline
from sandbox.aws.events import Events
from sandbox.aws.executions import Pipelines
from sandbox.aws.faults import Faults
from sandbox.aws.protocol import CBOR, JSON, QUERY, AwsError
from sandbox.aws.resources import PipelineHandler, ProjectHandler, handlers
from sandbox.aws.sources import Repositories
from sandbox.aws.stacks import Stacks
from sandbox.aws.workspace import Processes, Workspace

log = logging.getLogger(__name__)

_CREDENTIAL = re.compile(r"Credential=[^/]+/\d+/[^/]*/([^/]+)/")
_RPC = re.compile(r"/service/[^/]+/operation/(\w+)")
_OWN = ("cloudformation", "codepipeline")
_LONGEST_LOG = 1_000_000
_THROTTLING = {"cloudformation": "Throttling", "s3": "SlowDown"}
_NAMES = ("StackName", "name", "pipelineName", "Name")
_TOKENS = ("ClientRequestToken", "clientRequestToken")

_S3_SPECIAL = {
    "list-type": {"GET": "ListObjectsV2"},
    "versions": {"GET": "ListObjectVersions"},
    "versioning": {"GET": "GetBucketVersioning", "PUT": "PutBucketVersioning"},
    "delete": {"POST": "DeleteObjects"},
    "uploads": {"GET": "ListMultipartUploads", "POST": "CreateMultipartUpload"},
    "uploadId": {
        "PUT": "UploadPart",
        "POST": "CompleteMultipartUpload",
        "DELETE": "AbortMultipartUpload",
        "GET": "ListParts",
    },
}

Answer = tuple[int, str, bytes]
Environ = dict[str, Any]


class Simulator:
    """All of the simulated AWS; `start` before the first call."""

    def __init__(self, *, github_url: str, events_url: str | None, event_key: str, speed: float) -> None:
        self.faults = Faults()
        self.calls = Calls()
        self.scheduler = Scheduler(speed)
        self._workspace = Workspace()
        self._processes = Processes()
        self._events = Events(events_url or None, event_key, self.faults)
        self._stacks = Stacks(self.scheduler, self.faults, self._events)
        self._pipelines = Pipelines(self.scheduler, self.faults, self._events, self._workspace.executions)
        self._projects = ProjectHandler()
        made = PipelineHandler(self._pipelines.create, self._pipelines.update, self._pipelines.delete)
        self._stacks.handlers.update(handlers(made, self._projects))
        self._builder = Builder(self._workspace)
        self._actions = Actions(
            self.scheduler,
            self._stacks,
            Repositories(github_url, self._workspace, self._processes),
            self._projects.projects,
            self._builder,
        )
        self._pipelines.perform = self._actions.perform
        self._services: dict[str, Callable[[str, dict[str, Any]], dict[str, Any]]] = {
            "cloudformation": CloudFormation(self._stacks).call,
            "codepipeline": CodePipeline(self._pipelines, self.scheduler.now).call,
        }
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._clear_moto()

    def start(self, address: str) -> None:
        """Start the clock and the events; `address` is where the simulator is reached."""
        self._builder.address = self._actions.address = address
        self.scheduler.start()
        self._events.start()

    def stop(self) -> None:
        """End everything that runs and remove what was written."""
        self.scheduler.reset()
        self._processes.kill()
        self.scheduler.stop()
        self._events.stop()
        self._workspace.remove()

    def reset(self) -> None:
        """Forget everything: stacks, pipelines, moto's resources, calls and faults."""
        with self.scheduler.lock:
            self.scheduler.reset()
            self._stacks.reset()
            self._pipelines.reset()
            self._projects.projects.clear()
            self._events.reset()
            self.faults.clear()
            self.calls.clear()
            self._clear_moto()

    @staticmethod
    def _clear_moto() -> None:
        # moto's state belongs to the process, so that it outlives a simulator unless it is cleared.
        moto_api_backend.reset()

    # ---- requests

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        if path.startswith("/_sandbox/") or (path == "/" and method == "GET" and not _signed(environ)):
            status, kind, body = self._control(method, path, environ)
            return _reply(start_response, status, [("Content-Type", kind)], body)
        if method in ("GET", "HEAD") and not _signed(environ):
            status, kind, body = self._page(path)
            headers = [("Content-Type", kind), ("Content-Length", str(len(body)))]
            return _reply(start_response, status, headers, body if method == "GET" else b"")
        return self._aws(environ, start_response)

    def _aws(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        content = _content(environ)
        service, operation, form = _addressed(environ, content)
        given, refusal = _parsed(service, operation, form, content)
        if service == "s3":
            given = {"Name": environ["PATH_INFO"].lstrip("/").partition("/")[0] or None}
        name, token = _first(given, _NAMES), _first(given, _TOKENS)
        started = time.time()
        time.sleep(self.faults.delay(service, operation, name))
        order = self.faults.error(service, operation, name)
        if self.faults.throttled(service, operation, name):
            status, headers, body, code = _refused(service, form, _throttling(service))
        elif refusal is not None:
            status, headers, body, code = _refused(service, form, refusal)
        elif order is not None and order.get("mode", "before") == "before":
            status, headers, body, code = self._ordered(service, form, order)
        else:
            if service in _OWN:
                status, headers, body, code = self._own(service, operation, form, given)
            else:
                status, headers, body, code = self._pass_on(environ, content, service, form)
            if order is not None:
                status, headers, body, code = self._ordered(service, form, order)
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
        )
        self.calls.add(call)
        if order is not None and order.get("drop"):
            raise ConnectionResetError("dropped, as ordered")
        return _reply(start_response, status, headers, body)

    @staticmethod
    def _ordered(
        service: str, form: str, order: dict[str, Any]
    ) -> tuple[int, list[tuple[str, str]], bytes, str]:
        status = int(order.get("status", 500))
        code = str(order.get("error") or ("ServiceUnavailable" if status >= 500 else "ValidationError"))
        if "status" not in order and "error" in order:
            status = 400
        message = str(order.get("message", "Failure ordered for a test"))
        return _refused(service, form, AwsError(code, message, status))

    def _own(
        self, service: str, operation: str, form: str, given: dict[str, Any]
    ) -> tuple[int, list[tuple[str, str]], bytes, str]:
        try:
            with self.scheduler.lock:
                result = self._services[service](operation, given)
                kind, body = protocol.answer(service, operation, form, result)
        except AwsError as error:
            return _refused(service, form, error)
        except Exception:
            log.exception("the simulator failed to answer %s %s", service, operation)
            return _refused(service, form, AwsError("InternalFailure", "The simulator failed", 500))
        return 200, _headers(kind, form), body, "OK"

    def _pass_on(
        self, environ: Environ, content: bytes, service: str, form: str
    ) -> tuple[int, list[tuple[str, str]], bytes, str]:
        """Let moto answer."""
        heard: list[tuple[str, list[tuple[str, str]]]] = []

        def start(status: str, headers: list[tuple[str, str]], _info: Any = None) -> Callable[[bytes], None]:
            heard.append((status, headers))
            return lambda _: None

        environ = {**environ, "wsgi.input": io.BytesIO(content), "CONTENT_LENGTH": str(len(content))}
        environ.pop("HTTP_TRANSFER_ENCODING", None)
        try:
            # moto is not made for threads; its answers are quick.
            with self.scheduler.lock:
                body = b"".join(self._moto(environ, start))
        except Exception:
            log.exception("moto failed to answer a call of %s", service)
            return _refused(service, form, AwsError("InternalFailure", "The simulator failed", 500))
        status = int(heard[0][0].split()[0])
        return status, heard[0][1], body, "OK" if status < 400 else _error_code(body)

    # ---- what is not AWS

    def _page(self, path: str) -> Answer:
        """An object of a bucket, as a website's host gives it."""
        bucket, _, key = unquote(path).lstrip("/").partition("/")
        with self.scheduler.lock:
            try:
                if key and not key.endswith("/"):
                    content, kind = storage.read(bucket, key)
                else:
                    content, kind = storage.read(bucket, f"{key}index.html")
            except storage.NoSuchObjectError as error:
                return 404, "text/plain; charset=utf-8", f"{error}\n".encode()
        return 200, kind, content

    def _control(self, method: str, path: str, environ: Environ) -> Answer:
        if path == "/":
            with self.scheduler.lock:
                return 200, "text/html; charset=utf-8", overview.page(self._stacks, self._pipelines).encode()
        what = path.removeprefix("/_sandbox/")
        if method == "GET" and what.startswith("logs/"):
            return self._log(what.removeprefix("logs/"))
        query = {k: v[0] for k, v in parse_qs(environ.get("QUERY_STRING", "")).items()}
        if (method, what) == ("GET", "health"):
            return _json(200, {"status": "ok"})
        if (method, what) == ("GET", "state"):
            with self.scheduler.lock:
                return _json(200, overview.state(self._stacks, self._pipelines))
        if (method, what) == ("GET", "executions"):
            with self.scheduler.lock:
                return _json(200, {"executions": overview.history(self._pipelines)})
        if (method, what) == ("GET", "events"):
            return _json(200, {"events": [{"id": each, "type": kind} for each, kind in self._events.taken]})
        if (method, what) == ("GET", "calls"):
            since = query.pop("since", "0")
            if not since.isdecimal():
                return _json(400, {"error": "since must be the number of a call"})
            return _json(200, {"calls": self.calls.listed(since=int(since), **query)})
        if (method, what) == ("POST", "reset"):
            self.reset()
            return _json(200, {"status": "reset"})
        if what == "faults":
            return self._change_faults(method, environ)
        return _json(404, {"error": f"there is no {method} {path}"})

    def _change_faults(self, method: str, environ: Environ) -> Answer:
        try:
            if method == "POST":
                orders = json.loads(_content(environ) or b"{}")
                if not isinstance(orders, dict):
                    return _json(400, {"error": "the body must be a JSON object"})
                self.faults.add(orders)
            elif method == "DELETE":
                self.faults.clear()
            elif method != "GET":
                return _json(405, {"error": f"{method} is not allowed"})
        except ValueError as error:
            return _json(400, {"error": str(error)})
        return _json(200, self.faults.shown())

    def _log(self, build_id: str) -> Answer:
        file = self._builder.log(unquote(build_id))
        if not file.is_file():
            return 404, "text/plain; charset=utf-8", b"There is no such log.\n"
        return 200, "text/plain; charset=utf-8", file.read_bytes()[-_LONGEST_LOG:]


def _signed(environ: Environ) -> bool:
    query = environ.get("QUERY_STRING", "")
    return bool(environ.get("HTTP_AUTHORIZATION")) or "X-Amz-Signature" in query or "Signature=" in query


def _content(environ: Environ) -> bytes:
    stream = environ["wsgi.input"]
    if environ.get("wsgi.input_terminated"):
        return bytes(stream.read())
    return bytes(stream.read(int(environ.get("CONTENT_LENGTH") or 0)))


def _addressed(environ: Environ, content: bytes) -> tuple[str, str, str]:
    """Which service and operation a request calls, and in which protocol."""
    found = _CREDENTIAL.search(environ.get("HTTP_AUTHORIZATION", ""))
    service = found.group(1) if found else "s3"
    if rpc := _RPC.fullmatch(environ["PATH_INFO"]):
        return service, rpc.group(1), CBOR
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return service, target.rpartition(".")[2], JSON
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded") and service != "s3":
        action = parse_qs(content.decode(errors="replace")).get("Action", [""])[0]
        return service, action, QUERY
    if service == "s3":
        return service, _s3_operation(environ), QUERY
    return service, f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}", QUERY


def _s3_operation(environ: Environ) -> str:
    """The name of S3's operation, which its requests do not bear; those not told apart keep their method."""
    method, query = (
        environ["REQUEST_METHOD"],
        parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True),
    )
    bucket, _, key = environ["PATH_INFO"].lstrip("/").partition("/")
    if not bucket:
        return "ListBuckets"
    for parameter, operation in _S3_SPECIAL.items():
        if parameter in query:
            return operation.get(method, f"{method}?{parameter}")
    verb = {"GET": "Get", "HEAD": "Head", "PUT": "Put", "DELETE": "Delete"}.get(method, method)
    if key:
        return f"{verb}Object"
    return {"GET": "ListObjects", "PUT": "CreateBucket"}.get(method, f"{verb}Bucket")


def _parsed(
    service: str, operation: str, form: str, content: bytes
) -> tuple[dict[str, Any], AwsError | None]:
    """A call's parameters (of a service that moto answers, those that JSON shows), or why it is refused."""
    if service in _OWN:
        try:
            return protocol.parse(service, operation, form, content), None
        except AwsError as error:
            return {}, error
    if form == JSON:
        try:
            given = json.loads(content or b"{}")
        except ValueError:
            return {}, None
        return given if isinstance(given, dict) else {}, None
    return {}, None


def _first(given: dict[str, Any], names: tuple[str, ...]) -> str | None:
    return next((str(given[n]) for n in names if given.get(n) is not None), None)


def _throttling(service: str) -> AwsError:
    code = _THROTTLING.get(service, "ThrottlingException")
    return AwsError(code, "Rate exceeded", 503 if code == "SlowDown" else 400)


def _refused(service: str, form: str, error: AwsError) -> tuple[int, list[tuple[str, str]], bytes, str]:
    kind, body = protocol.error_answer(service, form, error)
    return error.status, _headers(kind, form), body, error.code


def _headers(kind: str, form: str) -> list[tuple[str, str]]:
    return [("Content-Type", kind), *([("smithy-protocol", "rpc-v2-cbor")] if form == CBOR else [])]


def _error_code(body: bytes) -> str:
    text = body.decode(errors="replace")
    found = re.search(r"<Code>([^<]+)</Code>", text) or re.search(r'"__type": ?"([^"]+)"', text)
    return found.group(1) if found else "Error"


def _json(status: int, content: Any) -> Answer:
    return status, "application/json", json.dumps(content, indent=1).encode()


def _reply(
    start_response: Callable[..., Any], status: int, headers: list[tuple[str, str]], body: bytes
) -> Iterable[bytes]:
    if not any(name.lower() == "content-length" for name, _ in headers):
        headers = [*headers, ("Content-Length", str(len(body)))]
    start_response(f"{status} {'OK' if status < 400 else 'Error'}", headers)
    return [body]
