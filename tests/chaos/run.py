"""One fault-injection run, from the start of the processes to the checker's verdict."""

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
from deployer.redis_store.queue import RedisQueueStore
from sandbox.http_calls import call
from sandbox.installation import Installation
from sandbox.processes import alive, descendants
from sandbox.waiting import WaitTimeoutError, wait_for
from tests.chaos.checker import (
    OUTCOMES,
    SOMEBODY,
    Life,
    Records,
    Violation,
    Wound,
    started_by_deployer,
    violations,
)
from tests.chaos.team import SHORT, Team
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
    "DEPLOYER_DRAIN_SECONDS": "2",  # shorter than a slow call, so that tasks are handed back
    "DEPLOYER_LOG_LEVEL": "INFO",
}
_CHECKED = 0.3  # the share of repositories with missed deliveries that `webhook check` handles
_NOTED = 10.0  # seconds within which deployer records its own change in spite of faults
_DRAIN_LIMIT = float(SETTINGS["DEPLOYER_DRAIN_SECONDS"]) + 1  # more for a busy machine
_OWN_WORKERS = ("worker-1", "worker-2")
_SUPERVISED = "worker-0"  # the mark of its calls to AWS, the same after each restart
_SABOTEUR = Path(__file__).parent / "saboteur"


@dataclass(frozen=True)
class Plan:
    """The parameters of a run.

    Attributes:
        seconds: how long the team pushes and faults are injected.
        seed: seed of all random choices.
        repositories: how many.
        pace: average seconds between two actions.
        faults: names of the possible faults; by default all.
        habits: the team's possible kinds of actions (see `Team.perform_action`); by default all.
        slow: the probability that a call to AWS takes longer than a lease during "slow AWS".
        slow_calls: the operations of AWS that can be slow.
        wipe: whether Redis is wiped halfway.
        patience: seconds within which everything must come to rest.
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
    """The result of a run."""

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
    """A `deployer worker` process that the run can kill, stop or replace."""

    def __init__(self, here: Installation, log: Path, name: str) -> None:
        self._here, self._log, self._name = here, log, name
        self._starts = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.retiring: list[tuple[float, subprocess.Popen[bytes]]] = []
        self.start()

    def replace_gracefully(self) -> None:
        """Start a successor; send SIGTERM to the present process."""
        assert self.process
        former = self.process
        self.start()
        former.terminate()
        self.retiring.append((time.monotonic(), former))

    @property
    def mark(self) -> str:
        """The mark of the present process in its calls to AWS."""
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

    def restart_if_dead(self) -> None:
        if self.process and self.process.poll() is not None:
            self.start()


class Chaos:
    """One run."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan = plan
        # Two generators, because the order of actions and faults depends on the machine.
        self._dice, self._fate = random.Random(plan.seed), random.Random(-plan.seed - 1)  # noqa: S311  not for secrets
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
        self._ending: list[
            tuple[str, float, int]
        ] = []  # workers that got SIGTERM, with the time and the process id
        self._calls: list[dict[str, Any]] = []
        self._workers: list[Worker] = []
        self._poisoned = ""
        self._wiped = 0.0
        self._tampered: dict[str, float] = {}  # stacks changed outside deployer, with the time
        self._aws, self._pipelines = (
            boto3.client(
                service,
                endpoint_url=self.here.aws,
                region_name="us-east-1",
                aws_access_key_id=SOMEBODY,
                aws_secret_access_key="else",
                config=Config(retries={"total_max_attempts": 1}, read_timeout=5),
            )
            for service in ("cloudformation", "codepipeline")
        )

    def run(self) -> Report:
        """Perform the run; return its report."""
        with self.here.running(), Watch(connect(self.here.env["DEPLOYER_REDIS_URL"])) as self._watch:
            try:
                self._workers = [
                    Worker(self.here, self._directory / f"{name}.log", name) for name in _OWN_WORKERS
                ]
                self._inject_faults_while_pushing()
                self._end_faults()
                self.report.violations += violations(self._make_records())
            finally:
                for *_, pids in self._stopped:
                    _send_signal(pids, signal.SIGCONT)
                for worker in self._workers:
                    worker.kill()
        return self.report

    # --- actions and faults ---

    def _inject_faults_while_pushing(self) -> None:
        names = [f"team-{number % 3}/service-{number}" for number in range(self.plan.repositories)]
        for name in names:
            self.here.repository(name, sample=False)
        self._team = Team(
            self._directory / "workshops",
            self.here.github,
            names,
            self._dice,
            self.plan.habits,
            self._self_updates,
        )
        self._team.push_default_branches()
        if not self.plan.faults or "poison" in self.plan.faults:
            self._poison.touch()
            first = self._team.repositories[0]
            self._poisoned = "refs/heads/poison"
            self._team.push_refs(first, {self._poisoned: self._team.make_commit(first)})
        strikes = self._possible_faults()
        hand = self._fate.sample(sorted(strikes), len(strikes))  # each fault is injected at least once
        started = time.monotonic()
        wipe_at = started + self.plan.seconds / 2 if self.plan.wipe else float("inf")
        next_action = next_fault = started
        while (now := time.monotonic()) < started + self.plan.seconds:
            self._check_workers(now)
            if now >= next_action:
                self.report.actions[self._team.perform_action().split()[0]] += 1
                next_action += self._dice.expovariate(1 / self.plan.pace)
            if now >= next_fault and strikes:
                name = hand.pop() if hand else self._fate.choice(sorted(strikes))
                self.report.faults[name] += 1
                strikes[name]()
                next_fault = now + self._fate.uniform(0.5, 3)
            if now >= wipe_at:
                self._wipe_redis()
                wipe_at = float("inf")
            self._collect_calls()
            time.sleep(0.05)
        if self._team.self_updates:
            self.report.faults["self-update"] = self._team.self_updates

    @property
    def _self_updates(self) -> str:
        """Whether pipelines update their own stack: see `Team`.

        A stack without tags is recognized by its ARN, so tags are only removed where Redis has that: it is not wiped,
        and CreateStack's answer is not lost (`_lost_answers`).
        """
        if self.plan.faults and "self-update" not in self.plan.faults:
            return ""
        return "plain" if self.plan.wipe or self.plan.seed % 2 else "tags"

    def _lost_answers(self, **fault: Any) -> list[dict[str, Any]]:
        """Rules by which AWS carries out an order, and its answer is lost."""
        orders = ["UpdateStack", "DeleteStack", "StartPipelineExecution", "StopPipelineExecution"]
        if self._self_updates != "tags":
            orders.append("CreateStack")
        return [{"mode": "after", "status": 500, "count": 2, "operation": each, **fault} for each in orders]

    def _possible_faults(self) -> dict[str, Callable[[], None]]:
        every: dict[str, Callable[[], None]] = {
            "kill a pool child": lambda: self._kill_worker(child=True),
            "kill a worker": lambda: self._kill_worker(child=False),
            "kill the supervised worker": lambda: self._kill_supervised("--app=workers worker", _SUPERVISED),
            "kill the web": lambda: self._kill_supervised("gunicorn"),
            "kill the scheduler": lambda: self._kill_supervised("workers.scheduler"),
            "kill Redis": lambda: self._kill_supervised("-server "),  # Redis replaces its command line by this title
            "stop a worker": self._stop_worker,
            "restart a worker": self._restart_worker,
            "restart the supervised worker": lambda: self._restart_supervised("--app=workers worker", _SUPERVISED),
            "restart the scheduler": lambda: self._restart_supervised("workers.scheduler"),
            "reload the web": lambda: _send_signal(self.here.processes("gunicorn")[:1], signal.SIGHUP),
            "lose webhooks": lambda: self._inject_fault("github", {"webhooks": {"lose": 0.5}}),
            "mix webhooks up": lambda: self._inject_fault(
                "github",
                {"webhooks": {"duplicate": 0.5, "reorder": 0.5, "delay": 2.5, "delay_probability": 0.4}},
            ),
            "502 of GitHub": lambda: self._inject_fault("github", {"api": {"status": 502, "probability": 0.3}}),
            "limit by GitHub": lambda: self._inject_fault(
                "github", {"secondary_rate_limit": {"count": 3, "retry_after": 1}}
            ),
            "stale reads of GitHub": lambda: self._inject_fault("github", {"stale_reads": 1.5}),
            "throttle AWS": lambda: self._inject_fault("aws", {"throttle": {"probability": 0.4}}),
            "500 of AWS": lambda: self._inject_fault("aws", {"errors": {"mode": "before", "status": 500, "count": 6}}),
            "500 of AWS after the fact": lambda: self._inject_fault(
                "aws", {"errors": self._lost_answers()}
            ),
            "AWS hangs up after the fact": lambda: self._inject_fault(
                "aws", {"errors": self._lost_answers(drop=True)}
            ),
            "slow AWS": lambda: self._inject_fault(
                "aws",
                {
                    "slow": [
                        {"operation": each, "seconds": LEASE * 2.2, "probability": self.plan.slow}
                        for each in self.plan.slow_calls
                    ]
                },
            ),
            "mix AWS's events up": lambda: self._inject_fault(
                "aws", {"events": {"lose": 0.3, "duplicate": 0.3, "reorder": 0.5, "delay": 0.3, "delay_seconds": 1.0}}
            ),
            "tamper with a stack": self._tamper_with_a_stack,
            "start an execution outside deployer": self._start_foreign_execution,
            "roll a stage back outside deployer": self._roll_a_stage_back,
            "clear faults": self.here.clear_faults,
        }  # fmt: skip
        chosen = self.plan.faults or tuple(every)
        return {name: strike for name, strike in every.items() if name in chosen}

    def _inject_fault(self, simulator: str, orders: Mapping[str, Any]) -> None:
        self.here.fault(simulator, {**orders, "seed": self._fate.randrange(2**31)})

    def _note_wound(self, worker: str) -> None:
        self._wounds.append(Wound(worker, time.time(), time.time()))

    def _kill_supervised(self, words: str, worker: str | None = None) -> None:
        """Kill a supervised process, which the supervisor restarts."""
        if worker is not None:
            self._note_wound(worker)
        found = self.here.processes(words)
        _send_signal(found if worker == _SUPERVISED or worker is None else found[:1], signal.SIGKILL)

    def _kill_worker(self, *, child: bool) -> None:
        worker = self._fate.choice(self._workers)
        self._note_wound(worker.mark)
        if child:
            _send_signal(worker.family[1:][:1], signal.SIGKILL)
        else:
            worker.kill()

    def _tamper_with_a_stack(self) -> None:
        """Change a stack outside deployer, as somebody does in the AWS console."""
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
        with suppress(ClientError, BotoCoreError):  # AWS may fail, or the stack may be busy by now
            self._aws.update_stack(
                StackName=stack["id"],
                UsePreviousTemplate=True,
                Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in given.items()],
            )
            if settled:
                self._tampered[stack["id"]] = time.time()

    def _start_foreign_execution(self) -> None:
        """Release a change in the AWS console: an execution at the branch's head, with no commit pinned."""
        names = self._pipeline_names()
        if names:
            with suppress(ClientError, BotoCoreError):
                self._pipelines.start_pipeline_execution(name=self._fate.choice(names))

    def _roll_a_stage_back(self) -> None:
        """Roll the last stage of a pipeline back to its first execution that succeeded, in the AWS console."""
        names = self._pipeline_names()
        if not names:
            return
        name = self._fate.choice(names)
        with suppress(ClientError, BotoCoreError):
            listed = self._pipelines.list_pipeline_executions(pipelineName=name)["pipelineExecutionSummaries"]
            succeeded = [each["pipelineExecutionId"] for each in listed if each["status"] == "Succeeded"]
            stage = self._pipelines.get_pipeline(name=name)["pipeline"]["stages"][-1]["name"]
            if succeeded:
                self._pipelines.rollback_stage(
                    pipelineName=name, stageName=stage, targetPipelineExecutionId=succeeded[-1]
                )

    def _pipeline_names(self) -> list[str]:
        return sorted(each["name"] for each in self.here.aws_state()["pipelines"])

    def _is_settled(self, name: str) -> bool:
        """Whether deployer has recorded its own last change; it takes an earlier change for its own."""
        with suppress(WaitTimeoutError):
            known = {each["id"]: each for each in self._call_api("environments")["environments"]}
            return bool(known.get(name, {}).get("state") in {"deployed", "failed"})
        return False

    def _stop_worker(self) -> None:
        """Stop a worker for longer than its lease; then wake it up, whereupon it tries to continue."""
        worker = self._fate.choice(self._workers)
        self._note_wound(worker.mark)
        pids = worker.family
        _send_signal(pids, signal.SIGSTOP)
        self._stopped.append((time.monotonic() + LEASE + self._fate.uniform(1, 3), worker.mark, pids))

    def _restart_worker(self) -> None:
        """Replace a worker as a rolling restart does; a call of a task that is handed back continues at AWS."""
        worker = self._fate.choice(self._workers)
        assert worker.process
        self._ending.append((worker.mark, time.time(), worker.process.pid))
        worker.replace_gracefully()

    def _restart_supervised(self, words: str, worker: str | None = None) -> None:
        """Ask a supervised process to end; it is started again."""
        pids = self.here.processes(words)[:1]
        if worker is not None:
            self._ending += [(worker, time.time(), pid) for pid in pids]
        _send_signal(pids, signal.SIGTERM)

    def _wipe_redis(self) -> None:
        """Wipe Redis; a running call continues at AWS in parallel to the resync's calls.

        Every repository needs a stack before the wipe, because afterwards only a stack leads to a repository that the
        settings do not name.
        """
        wait_for("every repository has a stack", lambda: _try_call(self._all_have_stacks), 60)
        self._note_wound("")
        self.report.faults["wipe Redis"] += 1
        with connect(self.here.env["DEPLOYER_REDIS_URL"]) as client:
            wait_for("Redis is wiped", lambda: _try_call(client.flushall), 30)
        self._wiped = time.time()

    def _all_have_stacks(self) -> bool:
        found = {each["tags"].get("deployer:repository") for each in self.here.stacks().values()}
        return all(found & {each.name, *each.names} for each in self._team.repositories if not each.archived)

    def _check_workers(self, now: float, *, wake: bool = False) -> None:
        """Check the workers: wake stopped ones when their time is over (or all), restart dead ones."""
        for worker in self._workers:
            for since, process in list(worker.retiring):
                asleep = any(process.pid in pids for *_, pids in self._stopped)
                if process.poll() is not None or asleep:
                    worker.retiring.remove((since, process))
                elif now > since + _DRAIN_LIMIT:
                    worker.retiring.remove((since, process))
                    if self._watch.paused_since(time.time() - (now - since)):
                        continue
                    what = f"a worker still runs {now - since:.1f} s after SIGTERM"
                    self.report.violations.append(Violation("a worker ends within its drain time", what))
        for mark, since, pid in [each for each in self._ending if wake or not alive(each[2])]:
            until = time.time() + (_DRAIN_LIMIT if wake else 0)  # nobody watches the last ones any more
            self._wounds.append(Wound(mark, since, until))
            self._ending.remove((mark, since, pid))
        for until, name, pids in [each for each in self._stopped if wake or each[0] <= now]:
            self._wakes.append(Wound(name, time.time(), time.time()))
            _send_signal(pids, signal.SIGCONT)
            self._stopped.remove((until, name, pids))
        for worker in self._workers:
            worker.restart_if_dead()

    def _collect_calls(self, *, now: bool = False) -> None:
        since = self._calls[-1]["seq"] if self._calls else 0
        if now or len(self._calls) == 0 or time.monotonic() - self._gathered > 2:
            self._gathered = time.monotonic()
            self._calls += call("GET", f"{self.here.aws}/_sandbox/calls?since={since}").json["calls"]

    _gathered, _mended = 0.0, 0.0

    # --- end of the run ---

    def _end_faults(self) -> None:
        """End the faults and wait until everything is at rest; redeliver, replay and resync as people would."""
        started = time.monotonic()
        self.here.clear_faults()
        self._check_workers(time.monotonic(), wake=True)
        self._team.unarchive_all()
        try:
            self._come_to_rest()
        except WaitTimeoutError as error:
            lanes = json.dumps(self._call_api("lanes")["lanes"], indent=1)[:1500]
            self.report.violations.append(
                Violation("after the faults everything comes to rest", f"{error}\n{lanes}")
            )
        self.report.quiet_seconds = time.monotonic() - started

    def _come_to_rest(self) -> None:
        self._wait_until_idle("after the faults")
        if self._poisoned:
            self._judge_poison()
        self._redeliver_missed()
        for letter in self._call_api("dead-letters")["dead_letters"]:
            self.report.dead_letters += 1
            call("POST", f"{self.here.web}/api/v1/dead-letters/{letter['id']}/replay", b"", _BEARER)
        self._wait_until_idle("after replays")
        for _ in range(2):
            done = self.here.cli("resync", "--all")
            if done.returncode:
                self.report.violations.append(Violation("resync --all works", done.stderr.strip()))
            self._wait_until_idle("after a resync")
        self._judge_superseded()
        self._judge_tampering()
        self._judge_foreign()

    def _judge_poison(self) -> None:
        repository = self._team.repositories[0].name

        def poison_letters() -> list[dict[str, Any]]:
            found = self._call_api("dead-letters")["dead_letters"]
            return [each for each in found if each["environment"].endswith(self._poisoned)]

        try:
            found = wait_for("the poison is a dead letter", poison_letters, 60)
        except WaitTimeoutError as error:
            self.report.violations.append(Violation("a poison task ends as a dead letter", str(error)))
            return
        for letter in found:  # a resync may have requested it again
            attempts = letter["work"]["attempts"]
            if attempts != int(SETTINGS["DEPLOYER_MAX_ATTEMPTS"]):
                what = f"{letter['id']} was tried {attempts} times"
                self.report.violations.append(
                    Violation("a poison task is tried exactly as often as configured", what)
                )
        if self._stuck_behind_poison(repository):
            self.report.violations.append(Violation("a poison task does not block its queue", repository))
        self._poison.unlink()

    def _stuck_behind_poison(self, repository: str) -> bool:
        """Whether the default branch of the poisoned repository has no outcome."""
        found = self.here.environment("staging", repository)
        return not found or not found["outcome"]

    def _redeliver_missed(self) -> None:
        """Redeliver half of the deliveries that were not acknowledged; the resync has to find the rest.

        For some repositories `deployer webhook check` requests the redelivery, for others the test presses the button.
        """
        missed = [
            each
            for each in self._list_deliveries()
            if each["code"] not in {200, 202} and each["event"] == "push" and not each["pending"]
        ]
        for repository in self._team.repositories:
            mine = [each for each in missed if each["repository"] in repository.names]
            if mine and self._fate.random() < _CHECKED:
                self._check_webhook(repository.name, mine)
                continue
            for each in mine:
                if self._fate.random() < 0.5:
                    address = f"{self.here.github}/{repository.name}/deliveries/{each['id']}/redeliver"
                    call("POST", address, b"")

    def _check_webhook(self, repository: str, missed: Sequence[Mapping[str, Any]]) -> None:
        """Run `deployer webhook check`; then each missed delivery must be redelivered or superseded."""
        address = f"{self.here.github}/_sandbox/repositories/{repository}/deliveries"
        call("POST", address, b'{"seconds_ago": 120}', {"Content-Type": "application/json"})
        done = self.here.cli("webhook", "check", repository)
        self._wait_until_idle("after the check for missed deliveries")
        came = {each["guid"] for each in self._list_deliveries() if each["code"] == 202}
        ledger = self._read_outcomes({each["guid"] for each in missed}, [])
        ended = {guid for guid, entry in ledger.items() if entry["outcome"] in OUTCOMES}
        lost = [each for each in missed if each["guid"] not in came | ended]
        if done.returncode or lost:
            what = [f"{each['guid']} of {each['ref']}" for each in lost]
            report = f"{repository}: {done.stdout.strip()} {done.stderr.strip()} {what}"
            self.report.violations.append(Violation("missed deliveries are redelivered", report))

    def _judge_superseded(self) -> None:
        """A deployment that somebody's execution has superseded is reported as failed, and a redeploy repeats it."""
        history = call("GET", f"{self.here.aws}/_sandbox/executions").json["executions"]
        newest = {each["pipeline"]: each for each in history if started_by_deployer(each)}
        environments = self._known_environments()
        for name, record in environments.items():
            if newest.get(name, {}).get("status") != "Superseded":
                continue
            if record["state"] != "failed":
                what = f"{name} is {record['state']}: {record['reason']}"
                self.report.violations.append(Violation("a superseded deployment is reported", what))
            self._mended = self._mended or time.time()
            self.report.life["superseded by somebody"] += 1
            self.here.api(f"environments/{name}/redeploy", "POST", {})
        if self._mended:
            self._wait_until_idle("after repeating what somebody's executions superseded")

    def _judge_foreign(self) -> None:
        """An execution of somebody else is reported as what it is, and what deployer has deployed stays so."""
        stacks = self.here.stacks()
        before = {
            name: record
            for name, record in self._known_environments().items()
            # an idle branch `short/*` may expire meanwhile
            if record["state"] == "deployed" and name in stacks and SHORT not in record["environment"]
        }
        chosen = self._fate.sample(sorted(before), min(3, len(before)))
        started = {
            name: self._pipelines.start_pipeline_execution(name=name)["pipelineExecutionId"]
            for name in chosen
        }

        def all_reported() -> bool:
            now = self._known_environments()
            ids = {name: {e["id"] for e in now[name]["foreign_executions"]} for name in chosen}
            return all(started[name] in ids[name] for name in chosen)

        try:
            wait_for("foreign executions are reported", all_reported, 30)
        except WaitTimeoutError as error:
            self.report.violations.append(Violation("a foreign execution is reported", f"{error}: {started}"))
        self._wait_until_idle("after foreign executions")
        after = self._known_environments()
        for name in chosen:
            what = {key: (before[name][key], after[name][key]) for key in ("state", "commit", "execution")}
            if any(was != now for was, now in what.values()):
                what_changed = f"{name}: {what}"
                self.report.violations.append(
                    Violation("a foreign execution is not reported as a deployment", what_changed)
                )
        self.report.life["with foreign executions"] += len(chosen)

    def _known_environments(self) -> dict[str, dict[str, Any]]:
        """The environments by id, without those of a former name: deployer does nothing there."""
        names = {each.name for each in self._team.repositories}
        known = self._call_api("environments")["environments"]
        return {each["id"]: each for each in known if each["repository"] in names}

    def _judge_tampering(self) -> None:
        """Every change from outside that still exists is reported as drift, and a redeploy fixes it."""
        left = {
            each["name"]: each["id"]
            for each in self.here.stacks().values()
            if each["id"] in self._tampered
            and each["parameters"].get("Note") == "theirs"
            and self._was_at_rest(each, self._tampered[each["id"]])
        }
        known = {each["id"]: each for each in self._call_api("environments")["environments"]}
        names = {each.name for each in self._team.repositories}  # deployer does nothing under a former name
        standing = {name for name in left if known.get(name, {}).get("repository") in names}
        self._mended = self._mended or (time.time() if standing else 0)
        for name in standing:
            if not known[name]["drift"]:
                self.report.violations.append(Violation("a change from outside is reported as drift", name))
            self.here.api(f"environments/{name}/redeploy", "POST", {})
        self.report.life["drifted"] += len(standing)
        if standing:
            self._wait_until_idle("after fixing the drift")
        stacks = self.here.stacks()
        for name in standing:
            if (
                name in stacks
                and stacks[name]["id"] == left[name]
                and stacks[name]["parameters"]["Note"] == "theirs"
            ):
                self.report.violations.append(Violation("a redeploy fixes a change from outside", name))

    def _was_at_rest(self, stack: Mapping[str, Any], at: float) -> bool:
        """Whether deployer's last change is long ago; it takes a change shortly after its own for its own."""
        self._collect_calls(now=True)
        return not any(
            each["operation"] in {"CreateStack", "UpdateStack", "ContinueUpdateRollback"}
            and "deployer" in each["user_agent"]
            and each["name"] in {stack["name"], stack["id"]}
            and at - _NOTED < each["time"] < at
            for each in self._calls
        )

    def _wait_until_idle(self, when: str) -> None:
        def is_idle() -> bool:
            for worker in self._workers:
                worker.restart_if_dead()
            if self._call_api("lanes")["lanes"]:
                return False
            state = self.here.aws_state()
            moving = [each["name"] for each in state["stacks"] if each["status"].endswith("_IN_PROGRESS")]
            running = [
                e["id"]
                for p in state["pipelines"]
                for e in p["executions"]
                if e["status"] in {"InProgress", "Stopping"}
            ]
            sending = [each for each in self._list_deliveries() if each["pending"]]
            return not (moving or running or sending)

        wait_for(f"quiet {when}", is_idle, self.plan.patience)

    def _call_api(self, path: str) -> Any:
        return wait_for(path, lambda: _try_call(lambda: self.here.api(path)), 30)

    # --- records ---

    def _list_deliveries(self) -> list[dict[str, Any]]:
        """GitHub's deliveries for the team's repositories, without the sandbox's sample."""
        rows = call("GET", f"{self.here.github}/_sandbox/deliveries").json
        team = {name for each in self._team.repositories for name in each.names}
        return [each for row in rows if (each := _parse_delivery(row))["repository"] in team]

    def _make_records(self) -> Records:
        self._collect_calls(now=True)
        deliveries = self._list_deliveries()
        self.report.deliveries.update(str(each["code"] or f"lost: {each['status']}") for each in deliveries)
        events = [
            (e["id"], e["type"]) for e in call("GET", f"{self.here.aws}/_sandbox/events").json["events"]
        ]
        guids = {each["guid"] for each in deliveries if each["code"] == 202}
        ledger = self._read_outcomes(guids, events)
        self.report.outcomes.update(ledger[each]["outcome"] for each in guids & set(ledger))
        state = self.here.aws_state()
        records = Records(
            moves=self._team.moves,
            lives=[Life(each.names, each.default, each.moved_default) for each in self._team.repositories],
            refs=self._team.list_refs(),
            deliveries=deliveries,
            events=events,
            ledger=ledger,
            calls=self._calls,
            executions=call("GET", f"{self.here.aws}/_sandbox/executions").json["executions"],
            stacks={each["name"]: each for each in state["stacks"]},
            gone=state["deleted_stacks"],
            statuses=call("GET", f"{self.here.github}/_sandbox/statuses").json,
            # A lease can also expire directly after a pause, because no worker could renew it during the pause.
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

    def _read_outcomes(self, guids: set[str], events: Sequence[tuple[str, str]]) -> dict[str, dict[str, Any]]:
        """The outcome, the reason and the time of each delivery and event."""
        with connect(self.here.env["DEPLOYER_REDIS_URL"]) as client:
            lanes = RedisQueueStore(client)
            found = {each: lanes.delivery(each) for each in {*guids, *(event for event, _ in events)}}
        return {
            key: {"outcome": it.outcome, "reason": it.reason, "at": it.finished_at}
            for key, it in found.items()
            if it
        }


_BEARER = {"Authorization": "Bearer sandbox", "Content-Type": "application/json"}
_STEPS = {"CreateStack", "UpdateStack", "DeleteStack", "StartPipelineExecution", "StopPipelineExecution"}


def _try_call(ask: Callable[[], Any]) -> Any:
    with suppress(OSError, RuntimeError):
        return ask()
    return None


def _send_signal(pids: list[int], number: int) -> None:
    for pid in pids:
        if alive(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _parse_delivery(row: Mapping[str, Any]) -> dict[str, Any]:
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
