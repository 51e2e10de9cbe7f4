"""A web application on a Redis in memory, with the requests that many tests need."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fakeredis
import redis
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Repository
from deployer.model.refs import Ref
from deployer.queue.items import Work
from deployer.queue.step_results import Finished, StepResult
from deployer.queue.store import Dispatch
from deployer.redis_store.circuit_breaker import RedisCircuitBreaker
from deployer.redis_store.queue import RedisQueueStore
from deployer.settings.loading import load_config
from deployer.wiring import Deployer
from web.application import create_app

SECRET = "It's a Secret to Everybody"
TOKEN = "api-token"
AWS_KEY = "aws-key"
SHA = "6113728f27ae82c7b1a177c8d03f9e96e0adf246"
OLD = "a" * 40
PAYLOADS = Path(__file__).parent / "payloads"
ENV = {
    "DEPLOYER_GITHUB_WEBHOOK_SECRET": f"another-one,{SECRET}",
    "DEPLOYER_REPOSITORIES": "acme/*,Codertocat/Hello-World",
    "DEPLOYER_API_TOKEN": TOKEN,
    "DEPLOYER_AWS_EVENT_KEY": AWS_KEY,
    "DEPLOYER_PUBLIC_URL": "https://deployer.example",
}


class RecordingQueue:
    """Keeps what was sent to the workers."""

    def __init__(self) -> None:
        self.sent: list[Dispatch] = []

    def send(self, dispatch: Dispatch) -> None:
        self.sent.append(dispatch)

    def resend_dispatch(self, dispatch: Dispatch) -> None:
        self.send(dispatch)


class Site:
    """The application and the parts behind it."""

    def __init__(
        self,
        env: dict[str, str] | None = None,
        client: redis.Redis | None = None,
        budget: RedisCircuitBreaker | None = None,
    ) -> None:
        self.server = fakeredis.FakeServer()
        self.redis = client or fakeredis.FakeRedis(server=self.server, decode_responses=True)
        self.lanes = RedisQueueStore(self.redis)
        self.queue = RecordingQueue()
        self.deployer = Deployer(load_config(ENV | (env or {})), budget)
        self.deployer.__dict__.update(lanes=self.lanes, queue=self.queue, client=self.redis)
        self.app = create_app(self.deployer)
        self.client: FlaskClient = self.app.test_client()  # it has signed in
        self.client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {TOKEN}"
        self.stranger: FlaskClient = self.app.test_client()

    # --- GitHub ---------------------------------------------------------------------------------------------

    def deliver(
        self, payload: object, *, event: str = "push", delivery: str = "d-1", **options: Any
    ) -> TestResponse:
        """Send a delivery as GitHub does; `headers` replaces headers, and None removes one."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        headers: dict[str, str | None] = {
            "Content-Type": "application/json",
            "X-GitHub-Event": event,
            "X-GitHub-Delivery": delivery,
            "X-Hub-Signature-256": signature(body),
            **options.pop("headers", {}),
        }
        given = {name: value for name, value in headers.items() if value is not None}
        return self.client.post("/webhooks/github", data=body, headers=given, **options)

    def push(
        self,
        branch: str = "feature/x",
        *,
        delivery: str = "d-1",
        repository: str = "acme/api",
        after: str = SHA,
    ) -> TestResponse:
        """Deliver a push to a branch; of all zeros it is a deletion."""
        return self.deliver(
            push_payload(repository, ref=f"refs/heads/{branch}", after=after), delivery=delivery
        )

    def aws(self, payload: object, key: str | None = AWS_KEY, **headers: str) -> TestResponse:
        """Send an event as EventBridge does."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        given = {"Content-Type": "application/json; charset=utf-8", **headers}
        if key is not None:
            given["X-Deployer-Event-Key"] = key
        return self.client.post("/webhooks/aws", data=body, headers=given)

    # --- the API and the workers ----------------------------------------------------------------------------

    def api(self, method: str, path: str, token: str | None = TOKEN, **options: Any) -> TestResponse:
        """Call the API with a token."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        return self.stranger.open(f"/api/v1{path}", method=method, headers=headers, **options)

    def finish(self, verdict: StepResult) -> None:
        """Be a worker: take what was sent last and end it."""
        sent = self.queue.sent[-1]
        repository = Repository.parse(sent.repository)
        assert self.lanes.begin(repository, sent.token) is not None
        if dispatch := self.lanes.finish(repository, sent.token, verdict):
            self.queue.send(dispatch)

    def put(self, record: EnvironmentRecord) -> str:
        """Have an environment in the ledger as if a worker had written it; returns its id."""
        self.push(record.spec.ref.removeprefix("refs/heads/"), delivery=f"d-put-{record.stack_name}")
        self.finish(Finished(record.status.outcome or "deployed", record.status.reason, record))
        return record.stack_name

    # --- Redis ----------------------------------------------------------------------------------------------

    @contextmanager
    def redis_away(self) -> Iterator[None]:
        """Let Redis not answer for a while."""
        self.server.connected = False
        yield
        self.server.connected = True

    @property
    def waiting(self) -> list[Work]:
        """What the lanes hold for the workers."""
        return [work for lane in self.lanes.lanes() for work in lane.waiting]

    def outcome(self, delivery: str = "d-1") -> str | None:
        """What is recorded of a delivery, or None if nothing is."""
        found = self.lanes.delivery(delivery)
        return found.outcome if found else None

    @property
    def untouched(self) -> bool:
        """Whether nothing at all was written."""
        return not self.queue.sent and not self.redis.keys("*")


def signature(body: bytes, secret: str = SECRET) -> str:
    """`X-Hub-Signature-256`."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def push_payload(repository: str = "acme/api", **changes: str) -> dict[str, Any]:
    """The fields of a push that matter."""
    return {
        "ref": "refs/heads/feature/x",
        "before": OLD,
        "after": SHA,
        "repository": {"full_name": repository, "default_branch": "main"},
        **changes,
    }


def published(name: str) -> dict[str, Any]:
    """One of GitHub's published payloads."""
    payload: dict[str, Any] = json.loads((PAYLOADS / f"{name}.json").read_bytes())
    return payload


def record(branch: str = "feature/x", repository: str = "acme/api", **changes: Any) -> EnvironmentRecord:
    """What is known of an environment; `main` is staging."""
    found = Environment.of_ref(Repository.parse(repository), Ref.of_branch(branch), "main")
    ref = f"refs/heads/{branch}"
    return EnvironmentRecord.of(repository, found.key, found.stack_name, ref=ref, commit=SHA).but(**changes)
