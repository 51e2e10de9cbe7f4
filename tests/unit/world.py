"""The whole product but for processes and sockets: lanes on fakeredis, tasks run in turn, doubles at the far ends."""

from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar

import fakeredis

from deployer.deployment.reconcile import Reconciler, ReconcilerOptions
from deployer.environment.repository_state import Repositories
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Repository, from_tag_value, ref_from_tags
from deployer.model.errors import PayloadError
from deployer.model.events import CloudEvent, Push, RepositoryChange
from deployer.model.execution_trigger import Starter
from deployer.model.refs import ZERO_SHA, Ref
from deployer.model.repository_record import RepositoryRecord
from deployer.queue.items import Cause, Work
from deployer.queue.store import Dispatch
from deployer.redis_store.allowance import RedisAllowance
from deployer.redis_store.queue import RedisQueueStore
from deployer.settings.loading import load_config
from deployer.templates.folder_check import FolderEvaluator
from deployer.wiring import Deployer
from tests.doubles import DirectEvaluator, FakeCloud, FakeClouds, FakeHost
from workers.tasks import Tasks

HELLO = Repository.parse("acme/hello")
TEMPLATE = """
Parameters:
  PipelineName: {Type: String}
  Greeting: {Type: String, Default: hi}
Resources:
  Pipeline: {Type: "AWS::CodePipeline::Pipeline", Properties: {Name: !Ref PipelineName}}
"""


def sha(number: int) -> str:
    return f"{number:040x}"


class World:
    """Pushes go in at the door; `run` lets tasks and time go on until all is quiet."""

    settings: ClassVar = {
        "DEPLOYER_REPOSITORIES": "acme/*",
        "DEPLOYER_MAX_ATTEMPTS": "3",
        "DEPLOYER_ORPHAN_SECONDS": "0",
    }
    options = ReconcilerOptions()
    evaluator: ClassVar[FolderEvaluator] = DirectEvaluator()

    def __init__(self, client: Any = None) -> None:
        self.redis = client or fakeredis.FakeRedis(decode_responses=True)
        self.deployer = Deployer(load_config(self.settings))
        lease = self.deployer.config.lease_seconds
        self.lanes = RedisQueueStore(self.redis, lease_seconds=lease, grace_seconds=10, max_attempts=3)
        self.host = FakeHost()
        self.cloud = FakeCloud(self._head)
        self.cloud.clock = self._now
        self.clouds = self.make_clouds()
        self.sent: list[Dispatch] = []
        parts: dict[str, Any] = {
            "client": self.redis,
            "lanes": self.lanes,
            "host": self.host,
            "repositories": Repositories(self.host, self.lanes),
            "clouds": self.clouds,
            "queue": self,
            "evaluator": self.evaluator,
            "allowance": RedisAllowance(self.redis, lambda: self.lanes.clock_offset_ms),
        }
        self.deployer.__dict__.update(parts)
        made = self.deployer
        made.__dict__["reconciler"] = Reconciler(
            self.host,
            self.clouds,
            made.inventory,
            self.lanes,
            made.repositories,
            self.options,
            self.evaluator,
        )
        self.runner = Tasks(self.deployer)
        self.told: list[str] = []
        self._deliveries = 0
        self._pushed_at = 0.0

    @classmethod
    def with_evaluator(cls, evaluator: FolderEvaluator) -> "World":
        """A world whose workers evaluate a branch's files by this."""
        return type("Evaluating", (cls,), {"evaluator": evaluator})()

    def make_clouds(self) -> Any:
        """Where environments live."""
        return FakeClouds(self.cloud)

    def restart(self, **settings: Any) -> None:
        """Start deployer's processes again with some settings changed."""
        made = self.deployer
        made.config = replace(made.config, **settings)
        for part in ("submitter", "deliveries", "resyncer", "lifecycle"):
            made.__dict__.pop(part, None)
        self.runner = Tasks(made)

    def send(self, dispatch: Dispatch) -> None:
        self.sent.append(dispatch)

    def resend_dispatch(self, dispatch: Dispatch) -> None:
        self.send(dispatch)

    # --- what happens on GitHub ---

    def push(
        self, ref: str, commit: str, before: str = ZERO_SHA, template: str = TEMPLATE, **how: Any
    ) -> str:
        files, pushed_at = {"pipeline.yml": template, **how.pop("files", {})}, how.pop("pushed_at", 0)
        self.host.push(HELLO, ref, commit, files=files, **how)
        return self.deliver(ref, how.get("annotated") or commit, before, pushed_at=pushed_at)

    def rules(self, text: str = "") -> None:
        """Set `deploy/deployer.yml` on the default branch, which is made, without a pipeline, where there is none."""
        main, repo = Ref("refs/heads/main"), self.host.create(HELLO)
        if main not in repo.refs:
            self.host.push(HELLO, main.name, "f" * 40, files={})
        repo.files[repo.refs[main]].pop("deploy/deployer.yml", None)
        if text:
            repo.files[repo.refs[main]]["deploy/deployer.yml"] = text.encode()

    def remove(self, ref: str, before: str) -> str:
        self.host.remove(HELLO, ref)
        return self.deliver(ref, ZERO_SHA, before)

    def deliver(
        self, ref: str, after: str, before: str = ZERO_SHA, delivery: str = "", pushed_at: float = 0
    ) -> str:
        self._deliveries += 1
        delivery = delivery or f"d{self._deliveries}"
        if ref.startswith("refs/tags/") and not pushed_at and not self.host.create(HELLO).made.get(after):
            # GitHub tells when it took a push; a test that gives its tags dates compares these
            pushed_at = self._pushed_at = max(self._now(), self._pushed_at + 0.001)
        push = Push(delivery, HELLO, Ref.parse(ref), before, after, "main", pushed_at=pushed_at)
        self.deployer.submitter.submit_github(push)
        return delivery

    def tell(self, about: str, *repositories: Repository, word: str = "") -> str:
        """An event of repositories as a whole comes in, and all that follows from it is done."""
        self._deliveries += 1
        delivery = f"r{self._deliveries}"
        self.deployer.submitter.submit_github(RepositoryChange(delivery, about, repositories, word=word))
        self.run()
        return delivery

    def event(self, environment: Environment) -> str:
        self._deliveries += 1
        delivery = f"e{self._deliveries}"
        self.deployer.submitter.submit_aws(
            CloudEvent(delivery, environment.stack_name, "stage Build: SUCCEEDED")
        )
        return delivery

    # --- time ---

    def tasks(self) -> None:
        """Run every task that is due; no time passes."""
        while self.sent:
            each = self.sent.pop(0)
            self.told.append(self.runner.carry_out(each.task, each.repository, each.environment, each.token))

    def run(self, most: int = 60) -> None:
        """Let tasks run and time pass until no lane holds anything."""
        for _ in range(most):
            self.tasks()
            if not self.lanes.lanes():
                return
            self.step()
        raise AssertionError(f"not quiet: {self.lanes.lanes()} {self.told[-5:]}")

    def step(self) -> None:
        """Let some time pass."""
        self.cloud.advance()
        self.lanes.clock_offset_ms += 20_000
        self.sent.extend(self.lanes.sweep())

    # --- what people and accidents do ---

    def teardown(self, environment: Environment) -> None:
        """A person deletes an environment of whatever kind."""
        work = Work(environment=environment.key, cause=Cause.TEARDOWN)
        accepted = self.lanes.accept(environment.repository, work)
        if accepted.dispatch:
            self.send(accepted.dispatch)

    def redeploy(self, environment: Environment) -> None:
        """A person asks for it once more."""
        self.deployer.submitter.request_environment(environment, cause=Cause.REDEPLOY)

    def resync(self, repository: Repository) -> None:
        """A resync, and all that follows from it."""
        self.deployer.submitter.resync(repository)
        self.run()

    def forget(self) -> None:
        """Redis is wiped."""
        self.redis.flushall()

    def lanes_note(self, environment: Environment, **changes: Any) -> None:
        """Change what the ledger knows of an environment."""
        record = self.record(environment).but(**changes)
        key = f"deployer:{{{environment.repository.key}}}:environments"
        self.redis.hset(key, environment.key, record.to_json())
        self.lanes.index_repository_records(environment.repository)

    def _now(self) -> float:
        return self.lanes.now()

    # --- what people see ---

    def standing(self, repository: Repository) -> set[Environment]:
        """The environments of a repository whose stack stands."""
        found = set()
        for stack in self.cloud.stacks():
            for key in (stack.tags["deployer:environment"], f"development:{ref_from_tags(stack.tags)}"):
                with suppress(PayloadError):
                    each = Environment.from_key(repository, key)
                    found |= {each} if each.owns(stack.tags) else set()
        return found

    def known(self, repository: Repository) -> RepositoryRecord:
        """What is known of a repository as a whole."""
        return self.lanes.repository(repository) or RepositoryRecord(repository.full_name)

    def outcome(self, delivery: str) -> tuple[str, str]:
        record = self.lanes.delivery(delivery)
        assert record is not None
        return record.outcome, record.reason

    def record(self, environment: Environment) -> EnvironmentRecord:
        record = self.lanes.environment(environment)
        assert record is not None
        return record

    def statuses(self, commit: str) -> dict[str, str]:
        return {context: status.state for context, status in self.host.statuses[HELLO, commit].items()}

    def posted(self, commit: str) -> list[str]:
        """Every description that was posted on a commit."""
        return [call[2].description for call in self.host.called("post_commit_status") if call[1] == commit]

    def built(self, environment: Environment) -> list[tuple[str, str]]:
        """Commit and end of every execution, oldest first; without those that the creation of a pipeline started."""
        every = self.cloud.pipelines.get(environment.stack_name, [])
        return [(each.sha, each.status) for each in every if each.trigger.starter is not Starter.CREATION]

    def _head(self, pipeline: str) -> str:
        """What AWS builds by itself: the head of the branch that the pipeline's source names."""
        release = next(c for c in self.clouds.every() if c.holds(pipeline)).release(pipeline)
        assert release is not None
        kind = release.tags["deployer:environment"]
        refs = {ref.name: commit for ref, commit in self.host.refs(HELLO).items()}
        if kind != "development":
            return refs.get("refs/heads/main", "")
        return refs.get(from_tag_value(release.tags["deployer:ref"]) or "", "")


def environment(ref: str) -> Environment:
    return Environment.of_ref(HELLO, Ref.parse(ref), "main")
