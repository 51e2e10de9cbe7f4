"""Measures the time from a push to the first order at AWS.

`deployer up --sandbox` runs as people start it. The push is a signed delivery to its web, sent by this program; the
order is the call that arrives at the simulated AWS: StartPipelineExecution for a commit of an existing branch,
CreateStack for a new branch. The simulators answer without latency, and the time in which they work is subtracted,
because the services that they stand for do not use deployer's cores.
"""

import hashlib
import hmac
import json
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deployer.model.environments import Environment, Repository
from deployer.model.refs import Ref
from deployer.queue.items import Cause, Work
from deployer.queue.step_results import WaitUntil
from sandbox.bench.tables import Table, Value
from sandbox.github.git import ZERO
from sandbox.http_calls import call
from sandbox.scale.organization import Organization, Size
from sandbox.scale.readings import Readings
from sandbox.waiting import wait_for

_SECRET = b"sandbox"
_JSON = {"Content-Type": "application/json"}
_PROCESSES = 4
_ENVIRONMENTS = 10  # of each repository
_PUSHES = 20  # of each kind, in the idle installation
_WARMING_PUSHES = 12
_SETTLE_SECONDS = 40
_QUIET_REPOSITORIES = 10  # whose environments do not settle, so that pushes to them are measured meanwhile
_ORDERS = {"StartPipelineExecution", "CreateStack"}
_SPEED = 100.0  # stacks and executions end at once, so the installation is idle soon after each push


@dataclass(frozen=True, slots=True)
class _Latency:
    """From a push to its order, in milliseconds.

    Attributes:
        whole: all of it.
        own: without the time in which a simulator worked.
    """

    whole: float
    own: float


def measure_orders(settling: int) -> Iterator[Table]:
    """Measure pushes to an idle installation, then while environments settle.

    Args:
        settling: how many environments settle.
    """
    with tempfile.TemporaryDirectory(prefix="deployer-bench-") as name:
        size = Size(
            max(settling // _ENVIRONMENTS, _QUIET_REPOSITORIES) + _QUIET_REPOSITORIES,
            _ENVIRONMENTS,
            _PROCESSES,
            0,
            0,
        )
        settings = {"DEPLOYER_AWS_RATE": "1000", "DEPLOYER_SANDBOX_SPEED": str(_SPEED)}
        organization = Organization(size, Path(name), settings)
        with organization.home.running():
            organization.start()  # deploys the first new branch
            yield Table("orders", _Orders(organization).measure())


class _Orders:
    """The pushes to one installation."""

    def __init__(self, organization: Organization) -> None:
        self._organization = organization
        self._home = organization.home
        self._readings = Readings(organization)

    def measure(self) -> list[dict[str, Value]]:
        """Make every push; return the rows of the table."""
        organization = self._organization
        model = Environment.of_ref(organization.repositories[0], Ref.of_branch("model"), "main")
        first = self._latency(organization.model_pushed_at, model.stack_name, {})
        if first is None:
            raise RuntimeError("the first branch has no stack")
        organization.create_environments()
        call("POST", f"{self._home.github}/_sandbox/webhooks", b'{"hold": true}', _JSON)
        repositories = organization.repositories
        for number in range(_WARMING_PUSHES):  # at once, so that each process gets some
            self._send_push(repositories[number], Ref.of_branch("warm"))
        organization.wait_until_idle()
        existing = [self._push_alone(each, organization.refs[1]) for each in repositories[:_PUSHES]]
        new = [self._push_alone(each, Ref.of_branch("new")) for each in repositories[:_PUSHES]]
        during = self._push_while_settling()
        own = [_row(what, [each.own for each in found], found) for what, found in (
            ("existing branch to StartPipelineExecution", existing),
            ("new branch to CreateStack", new),
            ("new branch to CreateStack, first use in a process", [first]),
        )]  # fmt: skip
        what = (
            f"existing branch, while {len(self._settling):,} environments settle, with the simulators' time"
        )
        return [*own, _row(what, [each.whole for each in during], during)]

    @property
    def _settling(self) -> Sequence[tuple[Environment, Ref]]:
        return self._organization.places[: -_QUIET_REPOSITORIES * _ENVIRONMENTS]

    def _push_while_settling(self) -> list[_Latency]:
        """Let the updates of many stacks end, and push to other environments meanwhile."""
        organization, lanes = self._organization, self._organization.deployer.lanes
        for number, (place, ref) in enumerate(self._settling):
            seconds = _SETTLE_SECONDS * number / len(self._settling)
            work = Work.of(place.key, cause=Cause.RESYNC, ref=ref.name)
            accepted = lanes.accept(place.repository, work)
            token = accepted.dispatch.token if accepted.dispatch else 0
            if waiting := lanes.begin(place.repository, token):
                lanes.finish(place.repository, token, WaitUntil(waiting, _SETTLE_SECONDS))
            self._home.stack_status(place.stack_name, "UPDATE_IN_PROGRESS", seconds=seconds * _SPEED)
        since = {simulator: self._readings.calls(simulator)[1] for simulator in ("github", "aws")}
        sent: dict[str, float] = {}
        for place, ref in organization.places[len(self._settling) :]:
            sent[place.stack_name] = self._send_push(place.repository, ref)
            time.sleep(_SETTLE_SECONDS / len(organization.places[len(self._settling) :]))

        def latencies() -> list[_Latency]:
            found = [each for name, at in sent.items() if (each := self._latency(at, name, since))]
            return found if len(found) == len(sent) else []

        return wait_for("every push causes an order", latencies, 60)

    def _push_alone(self, repository: Repository, ref: Ref) -> _Latency:
        """Push to an idle installation, and wait until it is idle again."""
        since = {simulator: self._readings.calls(simulator)[1] for simulator in ("github", "aws")}
        sent = self._send_push(repository, ref)
        name = Environment.of_ref(repository, ref, "main").stack_name

        def latencies() -> list[_Latency]:
            found = self._latency(sent, name, since)
            return [found] if found else []

        (found,) = wait_for(f"{ref} of {repository} causes an order", latencies, 30)
        self._organization.wait_until_idle()
        return found

    def _send_push(self, repository: Repository, ref: Ref) -> float:
        """Move a ref, then deliver its push; return when the delivery was sent (epoch seconds)."""
        organization = self._organization
        existing = ref in organization.refs
        organization.push(repository, ref, organization.commits[1] if existing else "")
        before, after = organization.commits if existing else (ZERO, organization.commits[0])
        body = json.dumps(
            {
                "ref": ref.name, "before": before, "after": after, "created": not existing, "deleted": False,
                "forced": False, "head_commit": {"id": after, "message": "Deploy"},
                "repository": {
                    "full_name": repository.full_name, "name": repository.name, "default_branch": "main",
                    "owner": {"login": repository.owner},
                },
            }
        ).encode()  # fmt: skip
        headers = {
            **_JSON, "X-GitHub-Event": "push", "X-GitHub-Delivery": str(uuid.uuid4()),
            "X-Hub-Signature-256": "sha256=" + hmac.new(_SECRET, body, hashlib.sha256).hexdigest(),
        }  # fmt: skip
        sent = time.time()
        answer = call("POST", f"{self._home.web}/webhooks/github", body, headers)
        if answer.status != 202:
            raise RuntimeError(f"the push was answered {answer.status} {answer.text}")
        return sent

    def _latency(self, sent: float, stack: str, since: Mapping[str, int]) -> _Latency | None:
        """From a push to its order; None if there is none yet."""
        calls = {each: self._readings.calls(each, since.get(each, 0))[0] for each in ("github", "aws")}
        orders = [
            each["time"]
            for each in calls["aws"]
            if each["operation"] in _ORDERS and each["name"] == stack and each["time"] >= sent
        ]
        if not orders:
            return None
        ordered = min(orders)
        spans = [(each["time"], each["time"] + each["seconds"]) for both in calls.values() for each in both]
        return _Latency(1000 * (ordered - sent), 1000 * (ordered - sent - _covered(spans, sent, ordered)))


def _covered(spans: Sequence[tuple[float, float]], begin: float, end: float) -> float:
    """How many seconds of a time lie in at least one of several spans."""
    total, reached = 0.0, begin
    for started, ended in sorted(spans):
        total += max(0.0, min(ended, end) - max(started, reached))
        reached = max(reached, min(ended, end))
    return total


def _row(what: str, counted: Sequence[float], found: Sequence[_Latency]) -> dict[str, Value]:
    return {
        "push": what,
        "pushes": len(found),
        "p50 ms": statistics.median(counted),
        "p99 ms": _percentile_99(counted),
        "with the simulators' time: p50 ms": statistics.median(each.whole for each in found),
    }


def _percentile_99(values: Sequence[float]) -> float:
    return sorted(values)[max(0, -(-99 * len(values) // 100) - 1)]
