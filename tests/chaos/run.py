"""One run: processes, a history, faults from the same seed, quiet, verdict."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from deployer.redis_store.connection import connect
from deployer.redis_store.queue import RedisLanes
from sandbox.http_calls import call
from sandbox.installation import Installation
from sandbox.processes import alive, descendants
from sandbox.waiting import NeverHappenedError, wait_for
from tests.chaos.checker import OUTCOMES, Life, Records, Violation, Wound, violations
from tests.chaos.team import Team
from tests.chaos.watch import Watch

LEASE = 2.0
SETTINGS = {
    "DEPLOYER_SANDBOX_SPEED": "20",
    "DEPLOYER_POLL_SECONDS": "0.1",
    "DEPLOYER_RETRY_SECONDS": "0.3",
    "DEPLOYER_LEASE_SECONDS": str(LEASE),
    "DEPLOYER_GRACE_SECONDS": "1",
    "DEPLOYER_MAX_ATTEMPTS": "6",
    "DEPLOYER_CONCURRENCY": "2",
    "DEPLOYER_RESYNC_SECONDS": "0",
    "DEPLOYER_ORPHAN_SECONDS": "0",
    "DEPLOYER_DRAIN_SECONDS": "2",  # less than a slow call takes: tasks are handed back
    "DEPLOYER_LOG_LEVEL": "INFO",
}
_CHECKED = 0.3  # of the repositories with missed deliveries
_NOTED = 10.0  # seconds in which deployer notes what it has changed, whatever befalls its workers
_DRAIN_LIMIT = float(SETTINGS["DEPLOYER_DRAIN_SECONDS"]) + 1  # for a machine that is busy
_OWN_WORKERS = ("worker-1", "worker-2")
_SUPERVISED = "worker-0"  # the mark of its calls to AWS, whichever process it is
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
        habits: what people do, by the kinds of `Team.act`; everything by default.
        slow: how probable a call of AWS outlasts a lease while "slow AWS" strikes.
        slow_calls: which of AWS's operations that may be.
        wipe: whether Redis is wiped in the middle.
        patience: seconds for everything to come to rest.
        breakage: a deliberate breakage of the product, see `saboteur/sitecustomize.py`.
    """

    seconds: float
    seed: int
    repositories: int = 20
    pace: float = 0.7
    faults: tuple[str, ...] = ()
    habits: tuple[str, ...] = ()
    slow: float = 0.1
    slow_calls: tuple[str, ...] = ("*",)
    wipe: bool = False
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
    life: Counter[str] = field(default_factory=Counter)
    dead_letters: int = 0
    quiet_seconds: float = 0.0


class Worker:
    """A `deployer worker` of the run's own: it is killed and stopped at will, and comes back at once."""

    def __init__(self, here: Installation, log: Path, name: str) -> None:
        self._here, self._log, self._name = here, log, name
        self._starts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.retiring: list[tuple[float, subprocess.Popen[bytes]]] = []
        self.start()

    def replace(self) -> None:
        """Start a successor, and ask this one to end."""
        assert self.process
        former = self.process
        self.start()
        former.terminate()
        self.retiring.append((time.monotonic(), former))

    @property
    def mark(self) -> str:
        """Of the calls to AWS of the process that runs now."""
        return f"{self._name}.{self._starts}"

    def start(self) -> None:
        self._starts += 1
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deployer", "worker"], cwd=self._here.directory,
                env={**self._here.env, "AWS_SDK_UA_APP_ID": self.mark},
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def family(self) -> list[int]:
        assert self.process
        return descendants(self.process.pid)

    def kill(self) -> None:
        assert self.process
        for process in (self.process, *(former for _, former in self.retiring)):
            for pid in descendants(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
        self.retiring.clear()

    def revive(self) -> None:
        if self.process and self.process.poll() is not None:
            self.start()


class Chaos:
    """A run under way."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan = plan
        # two of them, since which of the two acts next is up to the machine
        self._dice, self._fate = random.Random(plan.seed), random.Random(-plan.seed - 1)  # noqa: S311  repeatable
        self._directory = directory
        self._poison = directory / "poison"
        path = os.pathsep.join(filter(None, [str(_SABOTEUR), os.environ.get("PYTHONPATH", "")]))
        settings = {
            **SETTINGS, "AWS_SDK_UA_APP_ID": _SUPERVISED, "PYTHONPATH": path, "PYTHONHASHSEED": "0",
            "CHAOS_POISON": str(self._poison), "CHAOS_BREAK": plan.breakage,
        }  # fmt: skip
        self.here = Installation(directory / "installation", settings)
        self.report = Report(plan)
        self._wounds: list[Wound] = []
        self._wakes: list[Wound] = []
        self._stopped: list[tuple[float, str, list[int]]] = []
        self._ending: list[tuple[str, float, int]] = []  # workers that were asked to end, and when
        self._calls: list[dict[str, Any]] = []
        self._workers: list[Worker] = []
        self._poisoned = ""
        self._wiped = 0.0
        self._tampered: dict[str, float] = {}  # stacks that somebody changed, and when
        self._aws = boto3.client(
            "cloudformation",
            endpoint_url=self.here.aws,
            region_name="us-east-1",
            aws_access_key_id="somebody",
            aws_secret_access_key="else",
            config=Config(retries={"total_max_attempts": 1}, read_timeout=5),
        )

    def run(self) -> Report:
        """Start everything, do it, and tell what came of it."""
        with self.here.running(), Watch(connect(self.here.env["DEPLOYER_REDIS_URL"])) as self._watch:
            try:
                self._workers = [
                    Worker(self.here, self._directory / f"{name}.log", name) for name in _OWN_WORKERS
                ]
                self._play()
                self._settle()
                self.report.violations += violations(self._records())
            finally:
                for *_, pids in self._stopped:
                    _signal(pids, signal.SIGCONT)
                for worker in self._workers:
                    worker.kill()
        return self.report

    # --- history and faults ---

    def _play(self) -> None:
        names = [f"team-{number % 3}/service-{number}" for number in range(self.plan.repositories)]
        for name in names:
            self.here.repository(name, sample=False)
        team = (self._directory / "workshops", self.here.github, names, self._dice, self.plan.habits)
        self._team = Team(*team)
        self._team.begin()
        if not self.plan.faults or "poison" in self.plan.faults:
            self._poison.touch()
            first = self._team.repositories[0]
            self._poisoned = "refs/heads/poison"
            self._team.move(first, {self._poisoned: self._team.commit(first)})
        strikes = self._strikes()
        hand = self._fate.sample(sorted(strikes), len(strikes))  # each strikes once at least
        started = time.monotonic()
        wipe_at = started + self.plan.seconds / 2 if self.plan.wipe else float("inf")
        next_action = next_fault = started
        while (now := time.monotonic()) < started + self.plan.seconds:
            self._tend(now)
            if now >= next_action:
                self.report.actions[self._team.act().split()[0]] += 1
                next_action += self._dice.expovariate(1 / self.plan.pace)
            if now >= next_fault and strikes:
                name = hand.pop() if hand else self._fate.choice(sorted(strikes))
                self.report.faults[name] += 1
                strikes[name]()
                next_fault = now + self._fate.uniform(0.5, 3)
            if now >= wipe_at:
                self._wipe()
                wipe_at = float("inf")
            self._gather()
            time.sleep(0.05)

    def _strikes(self) -> dict[str, Callable[[], None]]:
        every: dict[str, Callable[[], None]] = {
            "kill a pool child": lambda: self._kill_worker(child=True),
            "kill a worker": lambda: self._kill_worker(child=False),
            "kill the supervised worker": lambda: self._kill("--app=workers worker", _SUPERVISED),
            "kill the web": lambda: self._kill("gunicorn"),
            "kill the scheduler": lambda: self._kill("workers.scheduler"),
            "kill Redis": lambda: self._kill("-server "),  # its title, which replaces its command line
            "stop a worker": self._stop_worker,
            "restart a worker": self._restart_worker,
            "restart the supervised worker": lambda: self._restart("--app=workers worker", _SUPERVISED),
            "restart the scheduler": lambda: self._restart("workers.scheduler"),
            "reload the web": lambda: _signal(self.here.processes("gunicorn")[:1], signal.SIGHUP),
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
            "slow AWS": lambda: self._fault(
                "aws",
                {
                    "slow": [
                        {"operation": each, "seconds": LEASE * 2.2, "probability": self.plan.slow}
                        for each in self.plan.slow_calls
                    ]
                },
            ),
            "mix AWS's events up": lambda: self._fault(
                "aws", {"events": {"lose": 0.3, "duplicate": 0.3, "reorder": 0.5, "delay": 0.3, "delay_seconds": 1.0}}
            ),
            "tamper with a stack": self._tamper,
            "mend": self.here.heal,
        }  # fmt: skip
        chosen = self.plan.faults or tuple(every)
        return {name: strike for name, strike in every.items() if name in chosen}

    def _fault(self, simulator: str, orders: Mapping[str, Any]) -> None:
        self.here.fault(simulator, {**orders, "seed": self._fate.randrange(2**31)})

    def _note_wound(self, worker: str) -> None:
        self._wounds.append(Wound(worker, time.time(), time.time()))

    def _kill(self, words: str, worker: str | None = None) -> None:
        """Kill a supervised process; it is started again."""
        if worker is not None:
            self._note_wound(worker)
        found = self.here.processes(words)
        _signal(found if worker == _SUPERVISED or worker is None else found[:1], signal.SIGKILL)

    def _kill_worker(self, *, child: bool) -> None:
        worker = self._fate.choice(self._workers)
        self._note_wound(worker.mark)
        if child:
            _signal(worker.family[1:][:1], signal.SIGKILL)
        else:
            worker.kill()

    def _tamper(self) -> None:
        """Change a stack outside deployer, as somebody does in AWS's console."""
        names = {name for each in self._team.repositories for name in each.names}
        found = [
            each
            for each in self.here.stacks().values()
            if each["tags"].get("deployer:repository") in names and each["status"].endswith("_COMPLETE")
        ]
        found = [each for each in found if self._was_at_rest(each, time.time())] or found
        if not found:
            return
        stack = self._fate.choice(found)
        settled = self._is_settled(stack["name"])
        given = {**stack["parameters"], "Note": "theirs"}
        with suppress(ClientError, BotoCoreError):  # AWS may be ill, or the stack be busy by now
            self._aws.update_stack(
                StackName=stack["id"],
                UsePreviousTemplate=True,
                Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in given.items()],
            )
            if settled:
                self._tampered[stack["id"]] = time.time()

    def _is_settled(self, name: str) -> bool:
        """Whether deployer has noted its own last change: what comes before that it takes for its own."""
        with suppress(NeverHappenedError):
            known = {each["id"]: each for each in self._api("environments")["environments"]}
            return bool(known.get(name, {}).get("state") in {"deployed", "failed"})
        return False

    def _stop_worker(self) -> None:
        """Let a worker sleep longer than its lease; then it wakes up and tries to go on."""
        worker = self._fate.choice(self._workers)
        self._note_wound(worker.mark)
        pids = worker.family
        _signal(pids, signal.SIGSTOP)
        self._stopped.append((time.monotonic() + LEASE + self._fate.uniform(1, 3), worker.mark, pids))

    def _restart_worker(self) -> None:
        """Replace a worker as a rolling restart does; a call of a task that is handed back goes on at AWS."""
        worker = self._fate.choice(self._workers)
        assert worker.process
        self._ending.append((worker.mark, time.time(), worker.process.pid))
        worker.replace()

    def _restart(self, words: str, worker: str | None = None) -> None:
        """Ask a supervised process to end; it is started again."""
        pids = self.here.processes(words)[:1]
        if worker is not None:
            self._ending += [(worker, time.time(), pid) for pid in pids]
        _signal(pids, signal.SIGTERM)

    def _wipe(self) -> None:
        """Take all from Redis. A call under way goes on at AWS beside what the resync orders.

        Nothing but a stack leads to a repository then that the settings do not name, so each has one before.
        """
        wait_for("every repository has a stack", self._all_have_stacks, 60)
        self._note_wound("")
        self.report.faults["wipe Redis"] += 1
        with connect(self.here.env["DEPLOYER_REDIS_URL"]) as client:
            wait_for("Redis is wiped", lambda: _tried(client.flushall), 30)
        self._wiped = time.time()

    def _all_have_stacks(self) -> bool:
        found = {each["tags"].get("deployer:repository") for each in self.here.stacks().values()}
        return all(found & {each.name, *each.names} for each in self._team.repositories if not each.archived)

    def _tend(self, now: float, *, wake: bool = False) -> None:
        """Look after the workers; wake those that have slept for long enough, or all of them."""
        for worker in self._workers:
            for since, process in list(worker.retiring):
                asleep = any(process.pid in pids for *_, pids in self._stopped)
                if process.poll() is not None or asleep:
                    worker.retiring.remove((since, process))
                elif now > since + _DRAIN_LIMIT:
                    worker.retiring.remove((since, process))
                    if self._watch.stood_still(time.time() - (now - since)):
                        continue
                    told = f"a worker still runs {now - since:.1f} s after SIGTERM"
                    self.report.violations.append(Violation("a worker ends within its time", told))
        for mark, since, pid in [each for each in self._ending if wake or not alive(each[2])]:
            until = time.time() + (_DRAIN_LIMIT if wake else 0)  # the last of them are not watched any more
            self._wounds.append(Wound(mark, since, until))
            self._ending.remove((mark, since, pid))
        for until, name, pids in [each for each in self._stopped if wake or each[0] <= now]:
            self._wakes.append(Wound(name, time.time(), time.time()))
            _signal(pids, signal.SIGCONT)
            self._stopped.remove((until, name, pids))
        for worker in self._workers:
            worker.revive()

    def _gather(self, *, now: bool = False) -> None:
        since = self._calls[-1]["seq"] if self._calls else 0
        if now or len(self._calls) == 0 or time.monotonic() - self._gathered > 2:
            self._gathered = time.monotonic()
            self._calls += call("GET", f"{self.here.aws}/_sandbox/calls?since={since}").json["calls"]

    _gathered, _mended = 0.0, 0.0

    # --- quiet ---

    def _settle(self) -> None:
        """End the faults and wait until nothing moves; redeliver, replay and resync as people would."""
        started = time.monotonic()
        self.here.heal()
        self._tend(time.monotonic(), wake=True)
        self._team.end()
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
        self._judge_tampering()

    def _judge_poison(self) -> None:
        repository = self._team.repositories[0].name

        def letters() -> list[dict[str, Any]]:
            found = self._api("dead-letters")["dead_letters"]
            return [each for each in found if each["environment"].endswith(self._poisoned)]

        try:
            found = wait_for("the poison is a dead letter", letters, 60)
        except NeverHappenedError as error:
            self.report.violations.append(Violation("a poison task ends as a dead letter", str(error)))
            return
        for letter in found:  # a resync may have asked for it once more
            attempts = letter["work"]["attempts"]
            if attempts != int(SETTINGS["DEPLOYER_MAX_ATTEMPTS"]):
                told = f"{letter['id']} was tried {attempts} times"
                self.report.violations.append(
                    Violation("a poison task is tried so often, no more and no less", told)
                )
        if self._stuck_behind_poison(repository):
            self.report.violations.append(Violation("a poison task does not stop its lane", repository))
        self._poison.unlink()

    def _stuck_behind_poison(self, repository: str) -> bool:
        """Whether the default branch of the poisoned repository never got anywhere."""
        found = self.here.environment("staging", repository)
        return not found or not found["outcome"]

    def _redeliver(self) -> None:
        """See to half of what was not acknowledged; the resync has to find the rest.

        For some repositories deployer itself has GitHub send it again, for others people press the button.
        """
        missed = [
            each
            for each in self._deliveries()
            if each["code"] not in {200, 202} and each["event"] == "push" and not each["pending"]
        ]
        for repository in self._team.repositories:
            mine = [each for each in missed if each["repository"] in repository.names]
            if mine and self._fate.random() < _CHECKED:
                self._check(repository.name, mine)
                continue
            for each in mine:
                if self._fate.random() < 0.5:
                    address = f"{self.here.github}/{repository.name}/deliveries/{each['id']}/redeliver"
                    call("POST", address, b"")

    def _check(self, repository: str, missed: Sequence[Mapping[str, Any]]) -> None:
        """Have deployer look for what was missed: then each is delivered, or was overtaken."""
        address = f"{self.here.github}/_sandbox/repositories/{repository}/deliveries"
        call("POST", address, b'{"seconds_ago": 120}', {"Content-Type": "application/json"})
        done = self.here.cli("webhook", "check", repository)
        self._still("after a look for missed deliveries")
        came = {each["guid"] for each in self._deliveries() if each["code"] == 202}
        ledger = self._ledger({each["guid"] for each in missed}, [])
        ended = {guid for guid, told in ledger.items() if told["outcome"] in OUTCOMES}
        lost = [each for each in missed if each["guid"] not in came | ended]
        if done.returncode or lost:
            what = [f"{each['guid']} of {each['ref']}" for each in lost]
            told = f"{repository}: {done.stdout.strip()} {done.stderr.strip()} {what}"
            self.report.violations.append(Violation("what was missed is delivered again", told))

    def _judge_tampering(self) -> None:
        """What somebody changed and nobody changed back is told of as drift, and a redeploy mends it."""
        left = {
            each["name"]: each["id"]
            for each in self.here.stacks().values()
            if each["id"] in self._tampered
            and each["parameters"].get("Note") == "theirs"
            and self._was_at_rest(each, self._tampered[each["id"]])
        }
        known = {each["id"]: each for each in self._api("environments")["environments"]}
        names = {
            each.name for each in self._team.repositories
        }  # nothing is done any more under a former name
        standing = {name for name in left if known.get(name, {}).get("repository") in names}
        self._mended = time.time() if standing else 0
        for name in standing:
            if not known[name]["drift"]:
                self.report.violations.append(Violation("a change from outside is seen", name))
            self.here.api(f"environments/{name}/redeploy", "POST", {})
        self.report.life["drifted"] += len(standing)
        if standing:
            self._still("after mending what drifted")
        stacks = self.here.stacks()
        for name in standing:
            if (
                name in stacks
                and stacks[name]["id"] == left[name]
                and stacks[name]["parameters"]["Note"] == "theirs"
            ):
                self.report.violations.append(Violation("a redeploy mends a change from outside", name))

    def _was_at_rest(self, stack: Mapping[str, Any], at: float) -> bool:
        """Whether deployer had long noted its own last change: what comes on its heels it takes for its own."""
        self._gather(now=True)
        return not any(
            each["operation"] in {"CreateStack", "UpdateStack", "ContinueUpdateRollback"}
            and "deployer" in each["user_agent"]
            and each["name"] in {stack["name"], stack["id"]}
            and at - _NOTED < each["time"] < at
            for each in self._calls
        )

    def _still(self, when: str) -> None:
        def still() -> bool:
            for worker in self._workers:
                worker.revive()
            if self._api("lanes")["lanes"]:
                return False
            state = self.here.aws_state()
            moving = [each["name"] for each in state["stacks"] if each["status"].endswith("_IN_PROGRESS")]
            running = [
                e["id"]
                for p in state["pipelines"]
                for e in p["executions"]
                if e["status"] in {"InProgress", "Stopping"}
            ]
            sending = [each for each in self._deliveries() if each["pending"]]
            return not (moving or running or sending)

        wait_for(f"quiet {when}", still, self.plan.patience)

    def _api(self, path: str) -> Any:
        return wait_for(path, lambda: _tried(lambda: self.here.api(path)), 30)

    # --- records ---

    def _deliveries(self) -> list[dict[str, Any]]:
        """What GitHub told of the team's repositories; the sandbox's sample is not theirs."""
        rows = call("GET", f"{self.here.github}/_sandbox/deliveries").json
        team = {name for each in self._team.repositories for name in each.names}
        return [told for row in rows if (told := _delivery(row))["repository"] in team]

    def _records(self) -> Records:
        self._gather(now=True)
        deliveries = self._deliveries()
        self.report.deliveries.update(str(each["code"] or f"lost: {each['status']}") for each in deliveries)
        events = [
            (e["id"], e["type"]) for e in call("GET", f"{self.here.aws}/_sandbox/events").json["events"]
        ]
        guids = {each["guid"] for each in deliveries if each["code"] == 202}
        ledger = self._ledger(guids, events)
        self.report.outcomes.update(ledger[each]["outcome"] for each in guids & set(ledger))
        state = self.here.aws_state()
        records = Records(
            moves=self._team.moves,
            lives=[Life(each.names, each.default, each.moved_default) for each in self._team.repositories],
            refs=self._team.refs(),
            deliveries=deliveries,
            events=events,
            ledger=ledger,
            calls=self._calls,
            executions=call("GET", f"{self.here.aws}/_sandbox/executions").json["executions"],
            stacks={each["name"]: each for each in state["stacks"]},
            gone=state["deleted_stacks"],
            statuses=call("GET", f"{self.here.github}/_sandbox/statuses").json,
            # a lease may lapse in the first moment after as well: no worker could renew it in between
            wounds=[*self._wounds, *(Wound("", since, until + LEASE) for since, until in self._watch.gaps)],
            wakes=self._wakes,
            wiped=self._wiped,
            mended=self._mended,
        )
        self.report.life["warned of"] += sum(
            "will be taken" in str(each["description"]) for each in records.statuses
        )
        self.report.life["taken down"] += sum(
            "was taken" in str(each["description"]) for each in records.statuses
        )
        self.report.steps.update(
            each["operation"] for each in self._calls if each["code"] == "OK" and each["operation"] in _STEPS
        )
        return records

    def _ledger(self, guids: set[str], events: Sequence[tuple[str, str]]) -> dict[str, dict[str, Any]]:
        """What became of each delivery and event, and when."""
        with connect(self.here.env["DEPLOYER_REDIS_URL"]) as client:
            lanes = RedisLanes(client)
            found = {each: lanes.delivery(each) for each in {*guids, *(event for event, _ in events)}}
        return {
            key: {"outcome": it.outcome, "reason": it.reason, "at": it.finished_at}
            for key, it in found.items()
            if it
        }


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
        "after": payload.get("head_commit", {}).get("id", "") if payload.get("head_commit") else "",
        "pushed_at": payload.get("repository", {}).get("pushed_at", 0),
        "code": row.get("status_code"),
        "status": f"{row.get('status')} ({row.get('response')})",
        "outcome": answer.get("outcome", ""),
        "pending": row["state"] == "pending",
        "at": datetime.fromisoformat(row.get("delivered_at") or row["created_at"]).timestamp(),
    }
