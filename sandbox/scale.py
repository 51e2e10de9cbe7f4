"""`python -m sandbox.scale`: what an organization costs that has come to rest, and how long a push waits meanwhile.

All of it is real processes: `deployer up --sandbox` with its Redis, web, scheduler and worker processes, against the
simulated GitHub with a bare git repository each, and the simulated AWS, both over HTTP and as slow as the real ones.
One environment is deployed for its record's sake; all others are put there as if that had been done with each.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deployer.cli import sandbox_variables
from deployer.environment.drift import applied
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.records import RESYNC_KEY, RESYNCED, Cause, EnvironmentRecord, Outcome, Work
from deployer.model.refs import Ref
from deployer.queue.step_results import Done
from deployer.templates.release import Release, check_release
from deployer.wiring import build
from sandbox.github.git import ZERO, Person
from sandbox.github.hub import Hub
from sandbox.installation import Installation, NeverHappenedError, call, wait_for
from workers.scheduler import listing_age

_OWNER = "bench"
_BATCH = 500  # stacks that the simulated AWS is given at once
_PUSHES = 20
_ORDERS = {"CreateStack", "UpdateStack", "StartPipelineExecution"}
_HOUR = 3600.0
_MEGABYTE = 1e6
_TEMPLATE = """\
Parameters:
  PipelineName: {Type: String}
  RepoOwner: {Type: String}
  RepoName: {Type: String}
  RepoBranch: {Type: String}
  Stage: {Type: String}
  ArtifactStore: {Type: String}
  ConnectionArn: {Type: String}
Resources:
  Pipeline:
    Type: AWS::CodePipeline::Pipeline
    Properties:
      Name: !Ref PipelineName
      RoleArn: !Sub arn:${AWS::Partition}:iam::${AWS::AccountId}:role/deployer/${Stage}/pipeline
      ArtifactStore: {Type: S3, Location: !Ref ArtifactStore}
      Stages:
        - Name: Source
          Actions:
            - Name: Source
              ActionTypeId: {Category: Source, Owner: AWS, Provider: CodeStarSourceConnection, Version: '1'}
              Configuration:
                ConnectionArn: !Ref ConnectionArn
                FullRepositoryId: !Sub ${RepoOwner}/${RepoName}
                BranchName: !Ref RepoBranch
                DetectChanges: false
              OutputArtifacts: [{Name: SourceOutput}]
        - Name: Deploy
          Actions:
            - Name: Site
              ActionTypeId: {Category: Deploy, Owner: AWS, Provider: S3, Version: '1'}
              Configuration: {BucketName: !Ref ArtifactStore, Extract: false, ObjectKey: !Sub '${PipelineName}.zip'}
              InputArtifacts: [{Name: SourceOutput}]
"""


@dataclass(frozen=True)
class Size:
    """How much there is, and how far away: `latency` is the seconds that each call to GitHub and AWS takes."""

    repositories: int
    environments: int
    processes: int
    latency: float
    rest: float

    @property
    def all(self) -> int:
        """How many environments there are."""
        return self.repositories * self.environments

    @property
    def pushes(self) -> int:
        """How many pushes are measured at a time, each to a repository of its own."""
        return min(_PUSHES, self.repositories // 4)


@dataclass
class Resync:
    """A resync of all: when each repository's was over, and what the simulators and deployer counted meanwhile."""

    asked_at: float
    ended: list[float]
    seen: Counter[str]
    tally: Counter[str]
    messages: int


class Scale:
    """An installation at rest, of a given size, and the measurements."""

    def __init__(self, size: Size, directory: Path) -> None:
        self.size = size
        room = {"pipelines_limit": 2 * size.all + 100}  # an account of this size has had its limits raised
        self.home = Installation(
            directory,
            {
                "DEPLOYER_AWS_RATE": "1",  # as the real AWS has to be spared
                "DEPLOYER_CONCURRENCY": str(size.processes),
                "DEPLOYER_REPOSITORIES": f"{_OWNER}/*",
                # what is scheduled is asked for here, all at once; the schedule itself has nothing to do meanwhile
                "DEPLOYER_RESYNC_SECONDS": str(7 * 86400),
                "DEPLOYER_SANDBOX_SPEED": "5",
                "DEPLOYER_TARGETS": json.dumps({"development": room, "staging": room}),
            },
        )
        self.repositories = [Repository.parse(f"{_OWNER}/service-{n}") for n in range(size.repositories)]
        self.refs = [Ref.of_branch(f"feature/number-{n}" if n else "main") for n in range(size.environments)]
        self.places = [
            (Environment.of_ref(each, ref, "main"), ref) for each in self.repositories for ref in self.refs
        ]
        self.commits = self._fill_github(directory / ".sandbox" / "github")

    # --- what is there before the first measurement ---

    def _fill_github(self, data: Path) -> tuple[str, str]:
        """Make the repositories; gives the commit that all refs are at, and one that none is at yet."""
        hub = Hub(data, "", "", "")
        model, _ = hub.create(self.repositories[0].full_name)
        with tempfile.TemporaryDirectory(dir=data) as name:
            (Path(name) / "deploy").mkdir()
            (Path(name) / "deploy" / "pipeline.yml").write_text(_TEMPLATE)
            first = model.git.commit_directory(Path(name), "Deploy", Person("Ada", "ada@example.com", ""))
        second = model.git.commit_tree(
            model.git.text("rev-parse", f"{first}^{{tree}}"), [first], "Deploy more"
        )
        model.git.update_ref("refs/heads/next", second, ZERO)  # so that it is packed, too
        for ref in self.refs:
            model.git.update_ref(ref.name, first, ZERO)
        model.git.run("repack", "-adq")
        model.git.run("pack-refs", "--all", "--prune")
        model.git.update_ref("refs/heads/next", ZERO, second)
        for each in self.repositories[1:]:
            hub.copy_repository(model, each.full_name)
        hub.store.close()
        return first, second

    def start(self) -> None:
        """Bring up deployer, let it deploy one environment, and put all others there as that left it."""
        env = {
            **self.home.env,
            "DEPLOYER_AWS_RATE": "1000",
        }  # what is looked at here costs deployer none of its calls
        sandbox_variables.set_variables(env)  # boto3 reads its own variables
        self.deployer = build(env)
        wait_for("the empty Redis is noticed", lambda: not self.deployer.lanes.emptied())
        self.home.limits(stacks=2 * self.size.all + 100, pipelines=2 * self.size.all + 100)
        ref = Ref.of_branch("model")
        self._push(self.repositories[0], ref)
        self.home.settled(ref.name, self.commits[0], self.repositories[0].full_name)
        self._at_rest()

    def fill(self) -> None:
        """Put all environments there: stacks and pipelines in AWS, records and a delivery each in the ledger."""
        model = Environment.of_ref(self.repositories[0], Ref.of_branch("model"), "main")
        record = self.deployer.lanes.environment(model)
        assert record  # noqa: S101  it was deployed
        self._fill_aws(model, record)
        standing = {stack.name: stack for cloud in self.deployer.clouds.every() for stack in cloud.stacks()}
        lanes = self.deployer.lanes
        for number, (place, ref) in enumerate(self.places):
            delivery = f"{number:08x}-{time.time_ns():x}"
            accepted = lanes.accept(
                place.repository, Work(place.key, cause=Cause.PUSH, ref=ref.name), delivery, "push"
            )
            token = accepted.dispatch.token if accepted.dispatch else 0
            lanes.begin(place.repository, token)
            stack = standing[place.stack_name]
            own = record.but(
                repository=str(place.repository), environment=place.key, stack_name=place.stack_name,
                ref=ref.name, stack_arn=stack.arn, applied=applied(stack),
            )  # fmt: skip
            lanes.finish(place.repository, token, Done(str(Outcome.DEPLOYED), record.reason, own))
        client: Any = self.deployer.client
        for key in client.scan_iter("deployer:aws:*:room"):
            client.delete(key)  # it was counted while there was next to nothing
        for cloud in self.deployer.clouds.every():
            cloud.room()  # as the hour's first listing counts it

    def _fill_aws(self, model: Environment, record: EnvironmentRecord) -> None:
        target = self.deployer.clouds.target(Kind.DEVELOPMENT)
        given, files = target.given(record.region), {"pipeline.yml": _TEMPLATE.encode()}

        def release(place: Environment, ref: Ref) -> Release:
            found = check_release(place, ref, ref.short, self.commits[0], files, given, target, record.region)
            return found.accepted_release()

        # what differs between repositories is put in here: the template need not be read ten thousand times
        models = {ref: release(place, ref) for place, ref in self.places[: len(self.refs)]}

        def derived(place: Environment, ref: Ref) -> Release:
            found = models[ref]
            own = {"RepoName": place.repository.name, "PipelineName": place.stack_name}
            found = replace(found, parameters={**found.parameters, **own})
            return replace(found, tags={**found.tags, **place.tags, "deployer:digest": found.digest})

        real = self.deployer.clouds.at(model.kind, record.region).stack(model.stack_name)
        known = release(model, Ref.of_branch("model"))
        if real is None or real.tags != known.tags or derived(*self.places[-1]) != release(*self.places[-1]):
            raise RuntimeError("deployer makes a stack otherwise than it is done here")
        for first in range(0, len(self.places), _BATCH):
            batch = [(place, derived(place, ref)) for place, ref in self.places[first : first + _BATCH]]
            stacks = [
                {"name": place.stack_name, "parameters": each.parameters, "tags": each.tags}
                for place, each in batch
            ]
            body = json.dumps({"template": _TEMPLATE, "stacks": stacks}).encode()
            answer = call("POST", f"{self.home.aws}/_sandbox/stacks", body, seconds=120)
            if answer.status != 200:
                raise RuntimeError(f"putting stacks into the simulated AWS: {answer.status} {answer.text}")

    # --- what is done and seen ---

    def _push(self, repository: Repository, ref: Ref, commit: str = "") -> float:
        """Push a new branch, or a commit to a branch that is there; gives when GitHub had taken it."""
        url = f"{self.home.github}/api/v3/repos/{repository.full_name}/git/refs"
        if commit:
            answer = call("PATCH", f"{url}/heads/{urllib.parse.quote(ref.short)}", _json(sha=commit))
        else:
            answer = call("POST", url, _json(ref=ref.name, sha=self.commits[0]))
        if answer.status not in {200, 201}:
            raise RuntimeError(f"pushing {ref} to {repository}: {answer.status} {answer.text}")
        return time.time()

    def pushes(self, name: str, first: int, pause: float) -> list[float]:
        """Push now a new branch, now a commit; gives the seconds until AWS was given the order that it calls for.

        Args:
            name: of the new branches.
            first: of the repositories that are pushed to, counted from the end.
            pause: seconds between two pushes.
        """
        since, pushed = self._calls("aws")[1], dict[str, float]()
        for number in range(self.size.pushes):
            repository = self.repositories[-1 - first - number]
            ref = Ref.of_branch(name) if number % 2 else self.refs[-1]
            place = Environment.of_ref(repository, ref, "main")
            pushed[place.stack_name] = self._push(repository, ref, "" if number % 2 else self.commits[1])
            time.sleep(pause)

        def ordered() -> dict[str, float]:
            found: dict[str, float] = {}
            for each in self._calls("aws", since)[0]:
                if each["operation"] in _ORDERS and each["name"] in pushed:
                    found.setdefault(each["name"], each["time"])
            return found if len(found) == len(pushed) else {}

        found = wait_for("each push is ordered of AWS", ordered, 180)
        return [max(found[each] - at, 0.0) for each, at in pushed.items()]

    def resync(self, ask: Callable[[], object], meanwhile: Callable[[], object] = lambda: None) -> Resync:
        """Ask for a resync of all and wait until each repository's has ended."""
        lanes = self.deployer.lanes
        before, (_, github), (_, aws) = Counter(lanes.counters()), self._calls("github"), self._calls("aws")
        asked_at = time.time()
        with self._messages() as messages:
            ask()
            meanwhile()

            def over() -> bool:
                done = lanes.counters().get(f"goal:{RESYNCED}", 0) - before[f"goal:{RESYNCED}"]
                return done >= self.size.repositories

            wait_for("every repository is resynced", over, 60 + self.size.repositories)
            self._at_rest()
        lines = [each for each in lanes.activity(limit=500 * self.size.repositories) if each.at >= asked_at]
        ended = [each.at for each in lines if each.environment == RESYNC_KEY]
        # deployer moves no ref: those calls are the pushes of this program
        reads = [each for each in self._calls("github", github)[0] if "/git/refs" not in each["path"]]
        seen = Counter(github=len(reads))
        for each in self._calls("aws", aws)[0]:
            seen["aws"] += 1
            seen["listings"] += each["operation"] == "DescribeStacks" and not each["name"]
        tally = Counter(lanes.counters())
        tally.subtract(before)
        return Resync(asked_at, ended, seen, tally, messages["task-received"])

    def _at_rest(self) -> None:
        """Wait until nobody has anything to do."""
        wait_for("all lanes are at rest", lambda: not self.deployer.lanes.lanes(), 180)

    def _calls(self, simulator: str, since: int = 0) -> tuple[list[dict[str, Any]], int]:
        """The calls that a simulator has answered since one, and the number of the last."""
        address = {"github": self.home.github, "aws": self.home.aws}[simulator]
        found = call("GET", f"{address}/_sandbox/calls?since={since}", seconds=60).json
        calls = found["calls"] if isinstance(found, dict) else found
        return calls, max((each["seq"] for each in calls), default=since)

    @contextmanager
    def _messages(self) -> Iterator[Counter[str]]:
        """Count what Celery's workers tell: `task-received` is a message."""
        found: Counter[str] = Counter()
        with self.deployer.celery.connection() as connection:
            receiver = self.deployer.celery.events.Receiver(
                connection, handlers={"task-received": lambda event: found.update([event["type"]])}
            )

            def listen() -> None:
                while not receiver.should_stop:
                    with suppress(TimeoutError):
                        receiver.capture(limit=None, timeout=0.5, wakeup=False)

            thread = threading.Thread(target=listen)
            thread.start()
            try:
                yield found
            finally:
                receiver.should_stop = True
                thread.join()

    def _redis(self, what: str) -> int:
        client: Any = self.deployer.client
        if (
            what == "used_memory"
        ):  # without what expires within seconds: the answers kept for a repeated command
            for key in client.scan_iter("*:answer:*", count=1000):
                client.delete(key)
        return int(client.info("memory" if what == "used_memory" else "persistence")[what])

    def _processor(self, words: str) -> float:
        """Seconds of processor time that the processes of these words in their command have had."""
        ticks = 0
        for pid in self.home.processes(words):
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def _resident(self, words: str) -> float:
        """Megabytes of the largest of these processes, with its share of what several have in common."""
        found = [0]
        for pid in self.home.processes(words):
            with suppress(OSError):
                told = Path(f"/proc/{pid}/smaps_rollup").read_text()
                found.append(int(told.partition("\nPss:")[2].split()[0]))
        return max(found) * 1024 / _MEGABYTE

    # --- the measurements ---

    def measure(self) -> Iterator[tuple[str, float]]:
        """Each number with what it tells."""
        size, count = self.size, self.size.all
        self.start()
        memory, log = self._redis("used_memory"), self._redis("aof_current_size")
        started = time.monotonic()
        self.fill()
        yield "environments", count
        yield "filling: seconds", time.monotonic() - started
        filled = self._redis("used_memory")
        yield "Redis: bytes an environment, its record and one delivery", (filled - memory) / count
        yield (
            "Redis: bytes of the append-only file an environment",
            (self._redis("aof_current_size") - log) / count,
        )
        yield from self._at_leisure()
        self._slow_down()
        alone = self.pushes("alone", 0, 0.5)
        self._at_rest()
        yield (
            "Redis: bytes that a deployment's deliveries and history add",
            ((self._redis("used_memory") - filled) / max(len(alone), 1)),
        )
        yield from _waits("alone", alone)
        filled = self._redis("used_memory")
        person = self.resync(lambda: self._insist("resync", "--all"))
        yield from self._told("resync of all by a person", person)
        yield (
            "Redis: bytes an environment, listing and resyncs",
            (self._redis("used_memory") - filled) / count,
        )
        during: list[float] = []
        pause = min(max(person.ended) - min(person.ended), _HOUR) / (size.pushes + 1)
        scheduled = self.resync(
            self._as_the_schedule_does, lambda: during.extend(self.pushes("during", size.pushes, pause))
        )
        yield from self._told("scheduled resync of all, with pushes", scheduled)
        yield from _waits("while a resync of all runs", during)
        for name, words in (
            ("worker process", " worker "),
            ("scheduler", "workers.scheduler"),
            ("web", "gunicorn"),
        ):
            yield f"memory of a {name}, the largest: MB", self._resident(words)

    def _at_leisure(self) -> Iterator[tuple[str, float]]:
        """What is spent while nothing is to be done, and how long people wait for a page."""
        roles = {
            "scheduler": "workers.scheduler",
            "workers": " worker ",
            "web": "gunicorn",
            "Redis": "redis.conf",
        }
        before = {name: self._processor(words) for name, words in roles.items()}
        time.sleep(self.size.rest)
        for name, words in roles.items():
            share = (self._processor(words) - before[name]) / self.size.rest
            yield f"at rest: processor of the {name}, percent of a core", 100 * share
        started = time.process_time()
        self.deployer.intake.age(time.time())
        yield "a look at all ages, once a minute: processor seconds", time.process_time() - started
        token = {"Authorization": f"Bearer {self.home.env['DEPLOYER_API_TOKEN']}"}
        for path in ("/", "/metrics", "/api/v1/environments"):
            took = []
            for _ in range(3):
                started = time.monotonic()
                answer = call("GET", self.home.web + path, headers=token, seconds=120)
                took.append(time.monotonic() - started)
                if answer.status != 200:
                    raise RuntimeError(f"GET {path}: {answer.status}")
            yield f"GET {path}: seconds", statistics.median(took)
            yield f"GET {path}: kilobytes", len(answer.body) / 1000

    def _slow_down(self) -> None:
        """Let each call to GitHub and AWS take its time from now on."""
        if self.size.latency:
            self.home.fault("github", {"slow": self.size.latency})
            self.home.fault("aws", {"slow": [{"seconds": self.size.latency}]})

    def _insist(self, *arguments: str) -> None:
        done = self.home.cli(*arguments, timeout=300)
        if done.returncode:
            raise RuntimeError(f"deployer {' '.join(arguments)}: {done.stderr.strip()}")

    def _as_the_schedule_does(self) -> None:
        for each in self.repositories:
            self.deployer.intake.resync(each, listing_age(_HOUR), in_turn=True)

    def _told(self, what: str, found: Resync) -> Iterator[tuple[str, float]]:
        yield f"{what}: seconds from asking to the first outcome", min(found.ended) - found.asked_at
        yield f"{what}: seconds from the first to the last", max(found.ended) - min(found.ended)
        yield f"{what}: calls to AWS", found.seen["aws"]
        yield f"{what}: calls to AWS, pages of a listing", found.seen["listings"]
        yield f"{what}: calls to AWS by deployer's own count", _own(found.tally, "aws")
        yield f"{what}: calls to GitHub", found.seen["github"]
        yield f"{what}: calls to GitHub by deployer's own count", _own(found.tally, "github")
        yield f"{what}: messages", found.messages


def _own(tally: Mapping[str, int], name: str) -> int:
    return tally.get(f"calls:{name}", 0) + tally.get(f"calls:{name}_stages", 0)


def _waits(when: str, seconds: list[float]) -> Iterator[tuple[str, float]]:
    yield f"push to its order at AWS, {when}: seconds, middle", statistics.median(seconds)
    yield f"push to its order at AWS, {when}: seconds, worst of {len(seconds)}", max(seconds)


def _json(**fields: str) -> bytes:
    return json.dumps(fields).encode()


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="sandbox.scale", description=__doc__)
    parser.add_argument("--repositories", type=int, default=1000)
    parser.add_argument("--environments", type=int, default=10, help="of each repository")
    parser.add_argument("--processes", type=int, default=4, help="worker processes")
    parser.add_argument(
        "--latency", type=float, default=0.05, help="seconds that a call to GitHub or AWS takes"
    )
    parser.add_argument("--rest", type=float, default=30, help="seconds that it is watched at rest")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    size = Size(given.repositories, given.environments, given.processes, given.latency, given.rest)
    if size.repositories < 4 or size.environments < 1:
        parser.error("there must be 4 repositories or more, with an environment each")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing it started is left running
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="deployer-scale-") as name:
        scale = Scale(size, Path(name))
        try:
            with scale.home.running():
                for what, number in scale.measure():
                    found[what] = number
                    if not given.json:
                        _print_row(what, number, first=len(found) == 1)
        except (NeverHappenedError, RuntimeError) as error:
            sys.stderr.write(f"{scale.home.output()[-6000:]}\nsandbox.scale: {error}\n")
            return 1
    if given.json:
        print(json.dumps(found, indent=2))
    return 0


def _print_row(what: str, number: float, *, first: bool) -> None:
    """A row of the table in docs/scale.md."""
    if first:
        print("| measured | |\n|---|---|")
    print(f"| {what} | {number:,.0f} |" if number >= 100 else f"| {what} | {number:.3g} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
