"""One run: processes, a history, faults from the same seed, quiet, verdict."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from sandbox.installation import Installation, NeverHappenedError, alive, call, descendants, wait_for
from tests.chaos.checker import Records, Violation, violations
from tests.chaos.team import Team

LEASE = 2.0
SETTINGS = {
    "DEPLOYER_SANDBOX_SPEED": "20",
    "DEPLOYER_POLL_SECONDS": "0.5",
    "DEPLOYER_RETRY_SECONDS": "0.3",
    "DEPLOYER_LEASE_SECONDS": str(LEASE),
    "DEPLOYER_GRACE_SECONDS": "1",
    "DEPLOYER_MAX_ATTEMPTS": "6",
    "DEPLOYER_CONCURRENCY": "2",
    "DEPLOYER_RESYNC_SECONDS": "0",
    "DEPLOYER_LOG_LEVEL": "INFO",
}
_SABOTEUR = Path(__file__).parent / "saboteur"


@dataclass(frozen=True)
class Plan:
    """What a run is made of.

    Attributes:
        seconds: how long people push and faults strike.
        seed: of every choice.
        repositories: how many.
        pace: seconds between two actions, on average.
        faults: names of the faults that may strike; all of them by default.
        patience: seconds for everything to come to rest.
        breakage: a deliberate breakage of the product, see `saboteur/sitecustomize.py`.
    """

    seconds: float
    seed: int
    repositories: int = 20
    pace: float = 0.7
    faults: tuple[str, ...] = ()
    patience: float = 90
    breakage: str = ""


@dataclass
class Report:
    """What came of a run."""

    plan: Plan
    violations: list[Violation] = field(default_factory=list)
    actions: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    deliveries: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    steps: Counter[str] = field(default_factory=Counter)
    dead_letters: int = 0
    quiet_seconds: float = 0.0


class Worker:
    """A `deployer worker` of the run's own: it is killed and stopped at will, and comes back at once."""

    def __init__(self, here: Installation, log: Path) -> None:
        self._here, self._log = here, log
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deployer", "worker"], cwd=self._here.directory, env=self._here.env,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def family(self) -> list[int]:
        assert self.process
        return descendants(self.process.pid)

    def kill(self) -> None:
        for pid in self.family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self.process
        self.process.wait()

    def revive(self) -> None:
        if self.process and self.process.poll() is not None:
            self.start()


class Chaos:
    """A run under way."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan = plan
        self._dice = random.Random(plan.seed)  # noqa: S311  a repeatable history
        self._directory = directory
        self._poison = directory / "poison"
        path = os.pathsep.join(filter(None, [str(_SABOTEUR), os.environ.get("PYTHONPATH", "")]))
        settings = {
            **SETTINGS, "PYTHONPATH": path, "CHAOS_POISON": str(self._poison), "CHAOS_BREAK": plan.breakage,
            "PYTHONHASHSEED": "0",
        }  # fmt: skip
        self.here = Installation(directory / "installation", settings)
        self.report = Report(plan)
        self._wounds: list[float] = []
        self._wakes: list[float] = []
        self._stopped: list[tuple[float, list[int]]] = []
        self._calls: list[dict[str, Any]] = []
        self._workers: list[Worker] = []
        self._poisoned = ""

    def run(self) -> Report:
        """Start everything, do it, and tell what came of it."""
        with self.here.running():
            try:
                self._workers = [Worker(self.here, self._directory / f"worker-{n}.log") for n in (1, 2)]
                self._play()
                self._settle()
                self.report.violations += violations(self._records())
            finally:
                for _, pids in self._stopped:
                    _signal(pids, signal.SIGCONT)
                for worker in self._workers:
                    worker.kill()
        return self.report

    # --- history and faults ---

    def _play(self) -> None:
        names = [f"team-{number % 3}/service-{number}" for number in range(self.plan.repositories)]
        for name in names:
            self.here.repository(name, sample=False)
        self._team = Team(self._directory / "workshops", self.here.github, names, self._dice)
        self._team.begin()
        if not self.plan.faults or "poison" in self.plan.faults:
            self._poison.touch()
            first = self._team.repositories[0]
            self._poisoned = "refs/heads/poison"
            self._team.move(first, {self._poisoned: self._team.commit(first)})
        strikes = self._strikes()
        started = time.monotonic()
        next_action = next_fault = started
        while (now := time.monotonic()) < started + self.plan.seconds:
            self._tend(now)
            if now >= next_action:
                self.report.actions[self._team.act().split()[0]] += 1
                next_action += self._dice.expovariate(1 / self.plan.pace)
            if now >= next_fault and strikes:
                name = self._dice.choice(sorted(strikes))
                self.report.faults[name] += 1
                strikes[name]()
                next_fault = now + self._dice.uniform(0.5, 3)
            self._gather()
            time.sleep(0.05)

    def _strikes(self) -> dict[str, Callable[[], None]]:
        every: dict[str, Callable[[], None]] = {
            "kill a pool child": lambda: self._wound(self._dice.choice(self._workers).family[1:][:1]),
            "kill a worker": lambda: (self._note_wound(), self._dice.choice(self._workers).kill())[0],
            "kill the supervised worker": lambda: self._wound(self.here.processes("--app=workers worker")),
            "kill the web": lambda: self._wound(self.here.processes("gunicorn")),
            "kill the scheduler": lambda: self._wound(self.here.processes("workers.scheduler")),
            "kill Redis": lambda: self._wound(self.here.processes("redis.conf")[:1]),
            "stop a worker": self._stop_worker,
            "lose webhooks": lambda: self._fault("github", {"webhooks": {"lose": 0.5}}),
            "mix webhooks up": lambda: self._fault(
                "github",
                {"webhooks": {"duplicate": 0.5, "reorder": 0.5, "delay": 2.5, "delay_probability": 0.4}},
            ),
            "502 of GitHub": lambda: self._fault("github", {"api": {"status": 502, "probability": 0.3}}),
            "limit by GitHub": lambda: self._fault("github", {"secondary_rate_limit": {"count": 3, "retry_after": 1}}),
            "stale reads of GitHub": lambda: self._fault("github", {"stale_reads": 1.5}),
            "throttle AWS": lambda: self._fault("aws", {"throttle": {"probability": 0.4}}),
            "500 of AWS": lambda: self._fault("aws", {"errors": {"mode": "before", "status": 500, "count": 6}}),
            "500 of AWS after the fact": lambda: self._fault(
                "aws", {"errors": {"mode": "after", "status": 500, "count": 6}}
            ),
            "AWS hangs up after the fact": lambda: self._fault(
                "aws", {"errors": {"mode": "after", "drop": True, "status": 500, "count": 4}}
            ),
            "slow AWS": lambda: self._fault("aws", {"slow": {"seconds": LEASE * 2.2, "probability": 0.1}}),
            "mix AWS's events up": lambda: self._fault(
                "aws", {"events": {"lose": 0.3, "duplicate": 0.3, "reorder": 0.5, "delay": 0.3, "delay_seconds": 1.0}}
            ),
            "mend": self.here.heal,
        }  # fmt: skip
        chosen = self.plan.faults or tuple(every)
        return {name: strike for name, strike in every.items() if name in chosen}

    def _fault(self, simulator: str, orders: Mapping[str, Any]) -> None:
        self.here.fault(simulator, {**orders, "seed": self._dice.randrange(2**31)})

    def _note_wound(self) -> None:
        self._wounds.append(time.time())

    def _wound(self, pids: list[int]) -> None:
        self._note_wound()
        _signal(pids, signal.SIGKILL)

    def _stop_worker(self) -> None:
        """Let a worker sleep longer than its lease; then it wakes up and tries to go on."""
        self._note_wound()
        pids = self._dice.choice(self._workers).family
        _signal(pids, signal.SIGSTOP)
        self._stopped.append((time.monotonic() + LEASE + self._dice.uniform(1, 3), pids))

    def _tend(self, now: float) -> None:
        for until, pids in [each for each in self._stopped if each[0] <= now]:
            self._wakes.append(time.time())
            _signal(pids, signal.SIGCONT)
            self._stopped.remove((until, pids))
        for worker in self._workers:
            worker.revive()

    def _gather(self) -> None:
        since = self._calls[-1]["seq"] if self._calls else 0
        if len(self._calls) == 0 or time.monotonic() - self._gathered > 2:
            self._gathered = time.monotonic()
            self._calls += call("GET", f"{self.here.aws}/_sandbox/calls?since={since}").json["calls"]

    _gathered = 0.0

    # --- quiet ---

    def _settle(self) -> None:
        """End the faults and wait until nothing moves; redeliver, replay and resync as people would."""
        started = time.monotonic()
        self.here.heal()
        self._tend(float("inf"))
        try:
            self._come_to_rest()
        except NeverHappenedError as error:
            lanes = json.dumps(self._api("lanes")["lanes"], indent=1)[:1500]
            self.report.violations.append(
                Violation("when faults end, everything comes to rest", f"{error}\n{lanes}")
            )
        self.report.quiet_seconds = time.monotonic() - started

    def _come_to_rest(self) -> None:
        self._still("after the faults")
        if self._poisoned:
            self._judge_poison()
        self._redeliver()
        for letter in self._api("dead-letters")["dead_letters"]:
            self.report.dead_letters += 1
            call("POST", f"{self.here.web}/api/v1/dead-letters/{letter['id']}/replay", b"", _BEARER)
        self._still("after replays")
        for _ in range(2):
            done = self.here.cli("resync", "--all")
            if done.returncode:
                self.report.violations.append(Violation("resync --all works", done.stderr.strip()))
            self._still("after a resync")

    def _judge_poison(self) -> None:
        repository = self._team.repositories[0].name

        def letters() -> list[dict[str, Any]]:
            found = self._api("dead-letters")["dead_letters"]
            return [each for each in found if each["environment"].endswith(self._poisoned)]

        try:
            (letter,) = wait_for("the poison is a dead letter", letters, 60)
        except NeverHappenedError as error:
            self.report.violations.append(Violation("a poison task ends as a dead letter", str(error)))
            return
        attempts = letter["work"]["attempts"]
        if attempts > int(SETTINGS["DEPLOYER_MAX_ATTEMPTS"]):
            told = f"{letter['id']} was tried {attempts} times"
            self.report.violations.append(Violation("a poison task is tried so often and no more", told))
        if self._moved_past_poison(repository):
            self.report.violations.append(Violation("a poison task does not stop its lane", repository))
        self._poison.unlink()

    def _moved_past_poison(self, repository: str) -> bool:
        """Whether the default branch of the poisoned repository never got anywhere."""
        found = self.here.environment("staging", repository)
        return not found or not found["outcome"]

    def _redeliver(self) -> None:
        """Press GitHub's button for whatever was not acknowledged."""
        for each in self._deliveries():
            if each["code"] not in {200, 202} and each["event"] == "push":
                repository, identity = each["repository"], each["id"]
                call("POST", f"{self.here.github}/{repository}/deliveries/{identity}/redeliver", b"")

    def _still(self, when: str) -> None:
        def still() -> bool:
            for worker in self._workers:
                worker.revive()
            waits = self._api("lanes")["lanes"]
            state = self.here.aws_state()
            moving = [each["name"] for each in state["stacks"] if each["status"].endswith("_IN_PROGRESS")]
            running = [
                e["id"]
                for p in state["pipelines"]
                for e in p["executions"]
                if e["status"] in {"InProgress", "Stopping"}
            ]
            sending = [each for each in self._deliveries() if each["code"] is None and not each["lost"]]
            return not (waits or moving or running or sending)

        wait_for(f"quiet {when}", still, self.plan.patience)

    def _api(self, path: str) -> Any:
        return wait_for(path, lambda: _tried(lambda: self.here.api(path)), 30)

    # --- records ---

    def _deliveries(self) -> list[dict[str, Any]]:
        rows = call("GET", f"{self.here.github}/_sandbox/deliveries").json
        return [_delivery(row) for row in rows]

    def _records(self) -> Records:
        self._gathered = 0.0
        self._gather()
        deliveries = self._deliveries()
        self.report.deliveries.update(str(each["code"] or "lost") for each in deliveries)
        ledger = {}
        for guid in {each["guid"] for each in deliveries if each["code"] == 202}:
            answer = call("GET", f"{self.here.web}/api/v1/deliveries/{guid}", headers=_BEARER)
            if answer.status == 200:
                ledger[guid] = answer.json
        self.report.outcomes.update(each["outcome"] for each in ledger.values())
        state = self.here.aws_state()
        records = Records(
            moves=self._team.moves,
            refs=self._team.refs(),
            deliveries=deliveries,
            ledger=ledger,
            calls=self._calls,
            executions=call("GET", f"{self.here.aws}/_sandbox/executions").json["executions"],
            stacks={each["name"]: each for each in state["stacks"]},
            gone=state["deleted_stacks"],
            wounds=self._wounds,
            wakes=self._wakes,
        )
        self.report.steps.update(
            each["operation"] for each in self._calls if each["code"] == "OK" and each["operation"] in _STEPS
        )
        return records


_BEARER = {"Authorization": "Bearer sandbox", "Content-Type": "application/json"}
_STEPS = {"CreateStack", "UpdateStack", "DeleteStack", "StartPipelineExecution", "StopPipelineExecution"}


def _tried(ask: Callable[[], Any]) -> Any:
    with suppress(OSError, RuntimeError):
        return ask()
    return None


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        if alive(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _delivery(row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        answer = json.loads(row.get("response") or "{}")
    except ValueError:
        answer = {}
    payload = row["payload"]
    return {
        "id": row["id"],
        "guid": row["guid"],
        "event": row["event"],
        "repository": payload.get("repository", {}).get("full_name", ""),
        "ref": payload.get("ref", ""),
        "code": row.get("status_code"),
        "outcome": answer.get("outcome", ""),
        "lost": row.get("state") == "lost",
        "at": datetime.fromisoformat(row.get("delivered_at") or row["created_at"]).timestamp(),
    }
