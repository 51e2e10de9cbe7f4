"""A complete deployer in memory for tests of the commands: fake Redis, doubles of GitHub and AWS, real tasks."""

import json
from dataclasses import dataclass, field
from typing import Any

import fakeredis
from click.testing import CliRunner, Result

from deployer.cli import main
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Repository
from deployer.model.events import Push
from deployer.model.refs import ZERO_SHA, Ref
from deployer.queue.items import Task, Work
from deployer.queue.step_results import Finished
from deployer.queue.store import Dispatch
from deployer.redis_store.queue import RedisQueueStore
from deployer.settings.loading import load_config
from deployer.wiring import Deployer
from tests.doubles import DirectEvaluator, FakeCloud, FakeClouds, FakeHost, FakeRoles
from workers.tasks import Tasks

SETTINGS = {
    "DEPLOYER_REDIS_URL": "redis://user:hunter2@redis.example:6399/0",
    "DEPLOYER_REPOSITORIES": "acme/*",
    "DEPLOYER_ARTIFACT_BUCKET": "artifacts",
    "DEPLOYER_GITHUB_WEBHOOK_SECRET": "hush-the-secret-of-the-webhook",
    "DEPLOYER_GITHUB_TOKEN": "hush-token",
    "DEPLOYER_POLL_SECONDS": "1",
    "DEPLOYER_MAX_ATTEMPTS": "2",
    "DEPLOYER_ORPHAN_SECONDS": "0",
}
PIPELINE = (
    "Resources: {Pipeline: {Type: AWS::CodePipeline::Pipeline, Properties: {Name: !Ref AWS::StackName}}}\n"
)
REPOSITORY = Repository("acme", "API")


@dataclass
class Dispatcher:
    """The port `Dispatcher`: keeps what is sent."""

    sent: list[Dispatch] = field(default_factory=list)

    def send(self, dispatch: Dispatch) -> None:
        """See `Dispatcher.send`."""
        self.sent.append(dispatch)

    def resend_dispatch(self, dispatch: Dispatch) -> None:
        self.send(dispatch)


class World:
    """Everything the commands can reach, and what a test may do to it."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.deployer = Deployer(load_config(settings))
        self.host, self.cloud, self.queue = FakeHost(), FakeCloud(), Dispatcher()
        clouds = FakeClouds(self.cloud)
        self.roles = FakeRoles(clouds.targets)
        self.redis = fakeredis.FakeRedis(decode_responses=True)
        self.lanes = RedisQueueStore(self.redis, lease_seconds=60, grace_seconds=10, max_attempts=2)
        # in the place of the parts that would be made when first asked for
        vars(self.deployer).update(
            linter=None,
            evaluator=DirectEvaluator(),
            host=self.host,
            clouds=clouds,
            roles=self.roles,
            queue=self.queue,
            lanes=self.lanes,
            client=self.redis,
        )
        self.host.create(REPOSITORY)

    def run(self, *arguments: str) -> Result:
        """Run a command."""
        return CliRunner().invoke(main, list(arguments), prog_name="deployer")

    def json(self, *arguments: str) -> Any:
        """Run a command with `--json`; what it prints must be JSON and nothing else."""
        result = self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def push(self, ref: str, sha: str, *, delivery: str = "", work: bool = True, at: float = 0) -> None:
        """Push a commit with a pipeline to a ref, and let the workers see to it."""
        if ref.startswith("refs/tags/") and not self.host.refs(
            REPOSITORY
        ):  # GitHub has no tag without a branch
            self.host.push(REPOSITORY, "refs/heads/main", "f" * 40, files={})
        self.host.push(REPOSITORY, ref, sha, files={"pipeline.yml": PIPELINE}, at=at)
        self.deliver(ref, sha, delivery or f"push-{sha[:4]}-{ref[-3:]}")
        if work:
            self.work()

    def deliver(self, ref: str, sha: str, delivery: str) -> None:
        """Deliver the webhook of a push."""
        event = Push(delivery, REPOSITORY, Ref.parse(ref), ZERO_SHA, sha, "main")
        self.deployer.submitter.submit_github(event)

    def know(self, record: EnvironmentRecord) -> None:
        """Let a record be what is known of its environment."""
        repository = Repository.parse(record.repository)
        dispatch = self.lanes.accept(repository, Work(record.environment)).dispatch
        assert dispatch is not None
        assert self.lanes.begin(repository, dispatch.token) is not None
        self.lanes.finish(repository, dispatch.token, Finished("deployed", "", record))

    def outcome(self, delivery: str) -> str:
        """How a delivery ended."""
        found = self.lanes.delivery(delivery)
        assert found is not None
        return found.outcome

    def carry_out(self, dispatch: Dispatch) -> None:
        """Let a worker have one message."""
        runner = Tasks(self.deployer)
        runner.carry_out(Task(dispatch.task), dispatch.repository, dispatch.environment, dispatch.token)

    def pass_time(self) -> None:
        """Let AWS and the scheduler go on for a while."""
        self.cloud.advance()
        self.lanes.clock_offset_ms += 20_000
        self.queue.sent += self.lanes.sweep()

    def work(self) -> None:
        """Let workers, scheduler and AWS go on until nothing is left to do."""
        for _ in range(60):
            while self.queue.sent:
                dispatch = self.queue.sent.pop(0)
                self.carry_out(dispatch)
            if not self.lanes.lanes():
                return
            self.pass_time()
        raise AssertionError("there is still something to do")
