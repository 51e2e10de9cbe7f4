"""An organization of many repositories whose environments are all deployed."""

import json
import tempfile
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deployer.cli import sandbox_variables
from deployer.environment.drift import state_to_compare
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.outcomes import Outcome
from deployer.model.refs import Ref
from deployer.queue.items import Cause, Work
from deployer.queue.step_results import Finished
from deployer.redis_store.queue import RedisQueueStore
from deployer.redis_store.queue_script import queue_script_text
from deployer.templates.release import Release, check_release
from deployer.wiring import build
from sandbox.github.git import ZERO, Person
from sandbox.github.hub import Hub
from sandbox.http_calls import call
from sandbox.installation import Installation
from sandbox.waiting import wait_for

_OWNER = "bench"
_BATCH = 500  # stacks in one request to the simulated AWS
_PUSHES = 20
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
    """The size of an organization.

    Attributes:
        repositories: how many.
        environments: how many of each repository.
        processes: worker processes.
        latency: seconds that each call to GitHub and AWS takes.
        rest: seconds for which idle processes are measured.
        burst: how many new branches are pushed at once; 0 for none.
    """

    repositories: int
    environments: int
    processes: int
    latency: float
    rest: float
    burst: int = 0

    @property
    def environment_count(self) -> int:
        """How many environments all repositories have together."""
        return self.repositories * self.environments

    @property
    def most_stacks(self) -> int:
        """How many stacks and pipelines the account may have."""
        return 2 * self.environment_count + self.burst + 100

    @property
    def pushes(self) -> int:
        """How many pushes one measurement makes, each to another repository."""
        return min(_PUSHES, self.repositories // 4)


class Organization:
    """An installation of a given size, in which nothing is queued.

    Args:
        size: how large it is.
        directory: for all of its state.
        settings: environment variables that differ.
    """

    def __init__(self, size: Size, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        self.size = size
        room = {
            "pipelines_limit": size.most_stacks
        }  # AWS raises the limits of an account of this size on request
        self.home = Installation(
            directory,
            {
                "DEPLOYER_AWS_RATE": "1",  # the real AWS limits the rate of calls
                "DEPLOYER_CONCURRENCY": str(size.processes),
                "DEPLOYER_REPOSITORIES": f"{_OWNER}/*",
                # The measurement requests all resyncs itself, so the scheduler must not request any.
                "DEPLOYER_RESYNC_SECONDS": str(7 * 86400),
                "DEPLOYER_SANDBOX_SPEED": "5",
                "DEPLOYER_TARGETS": json.dumps({"development": room, "staging": room}),
                **(settings or {}),
            },
        )
        self.repositories = [Repository.parse(f"{_OWNER}/service-{n}") for n in range(size.repositories)]
        self.refs = [Ref.of_branch(f"feature/number-{n}" if n else "main") for n in range(size.environments)]
        self.places = [
            (Environment.of_ref(each, ref, "main"), ref) for each in self.repositories for ref in self.refs
        ]
        self.commits = self._create_repositories(directory / ".sandbox" / "github")

    def _create_repositories(self, data: Path) -> tuple[str, str]:
        """Create the repositories; return the commit of all refs and a commit that no ref has yet."""
        hub = Hub(data, "", "", "")
        model, _ = hub.create(self.repositories[0].full_name)
        with tempfile.TemporaryDirectory(dir=data) as name:
            (Path(name) / "deploy").mkdir()
            (Path(name) / "deploy" / "pipeline.yml").write_text(_TEMPLATE)
            first = model.git.commit_directory(Path(name), "Deploy", Person("Ada", "ada@example.com", ""))
        second = model.git.commit_tree(
            model.git.text("rev-parse", f"{first}^{{tree}}"), [first], "Deploy more"
        )
        model.git.update_ref("refs/heads/next", second, ZERO)  # so that git packs this commit too
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
        """Start deployer against the empty Redis and let it deploy one environment, the model of all others."""
        env = {
            **self.home.env,
            "DEPLOYER_AWS_RATE": "1000",
        }  # the calls of this process do not count against deployer's rate
        sandbox_variables.set_variables(env)  # boto3 reads its own variables
        self.deployer = build(env)
        # `create_environments` runs a script without messages, whose text differs from that of deployer's script. Redis
        # stores it now, because it does not count as memory of an environment.
        self.deployer.client.script_load(queue_script_text())
        wait_for("deployer notices the empty Redis", lambda: not self.deployer.lanes.has_lost_data())
        self.home.limits(stacks=self.size.most_stacks, pipelines=self.size.most_stacks)
        ref = Ref.of_branch("model")
        self.model_pushed_at = self.push(self.repositories[0], ref)
        self.home.settled(ref.name, self.commits[0], self.repositories[0].full_name)
        self.wait_until_idle()

    def create_environments(self) -> None:
        """Create the stack, the pipeline, the record and one delivery of every environment."""
        model = Environment.of_ref(self.repositories[0], Ref.of_branch("model"), "main")
        record = self.deployer.lanes.environment(model)
        assert record  # noqa: S101  it was deployed
        self._create_stacks(model, record)
        existing = {stack.name: stack for cloud in self.deployer.clouds.every() for stack in cloud.stacks()}
        # Dispatches go to nobody, because nothing is to run.
        lanes = RedisQueueStore(self.deployer.client)
        for number, (place, ref) in enumerate(self.places):
            delivery = f"{number:08x}-{time.time_ns():x}"
            accepted = lanes.accept(
                place.repository, Work.of(place.key, cause=Cause.PUSH, ref=ref.name), delivery, "push"
            )
            token = accepted.dispatch.token if accepted.dispatch else 0
            lanes.begin(place.repository, token)
            stack = existing[place.stack_name]
            own = record.but(
                repository=str(place.repository), environment=place.key, stack_name=place.stack_name,
                ref=ref.name, stack_arn=stack.arn, applied=state_to_compare(stack),
            )  # fmt: skip
            lanes.finish(place.repository, token, Finished(str(Outcome.DEPLOYED), record.status.reason, own))
        client: Any = self.deployer.client
        for key in client.scan_iter("deployer:aws:*:room"):
            client.delete(key)  # deployer counted the free capacity while the account was almost empty
        for cloud in self.deployer.clouds.every():
            cloud.count_capacity()  # the first listing of each hour counts it

    def _create_stacks(self, model: Environment, record: EnvironmentRecord) -> None:
        target = self.deployer.clouds.target(Kind.DEVELOPMENT)
        given, files = target.given(record.spec.region), {"pipeline.yml": _TEMPLATE.encode()}

        def evaluate_release(place: Environment, ref: Ref) -> Release:
            found = check_release(
                place, ref, ref.short, self.commits[0], files, given, target, record.spec.region
            )
            return found.accepted_release()

        # One release per ref is evaluated and only the values that differ between repositories are replaced, because
        # evaluating the template ten thousand times would take long.
        models = {ref: evaluate_release(place, ref) for place, ref in self.places[: len(self.refs)]}

        def derive_release(place: Environment, ref: Ref) -> Release:
            found = models[ref]
            own = {"RepoName": place.repository.name, "PipelineName": place.stack_name}
            found = replace(found, parameters={**found.parameters, **own})
            return replace(found, tags={**found.tags, **place.tags, "deployer:digest": found.digest})

        real = self.deployer.clouds.at(model.kind, record.spec.region).stack(model.stack_name)
        known = evaluate_release(model, Ref.of_branch("model"))
        if (
            real is None
            or real.tags != known.tags
            or derive_release(*self.places[-1]) != evaluate_release(*self.places[-1])
        ):
            raise RuntimeError("the stacks of this measurement differ from those that deployer creates")
        for first in range(0, len(self.places), _BATCH):
            batch = [
                (place, derive_release(place, ref)) for place, ref in self.places[first : first + _BATCH]
            ]
            stacks = [
                {"name": place.stack_name, "parameters": each.parameters, "tags": each.tags}
                for place, each in batch
            ]
            body = json.dumps({"template": _TEMPLATE, "stacks": stacks}).encode()
            answer = call("POST", f"{self.home.aws}/_sandbox/stacks", body, seconds=120)
            if answer.status != 200:
                raise RuntimeError(f"creating stacks in the simulated AWS: {answer.status} {answer.text}")

    def push(self, repository: Repository, ref: Ref, commit: str = "") -> float:
        """Push a new branch, or a commit to an existing branch; return the epoch seconds of GitHub's answer."""
        url = f"{self.home.github}/api/v3/repos/{repository.full_name}/git/refs"
        if commit:
            answer = call("PATCH", f"{url}/heads/{urllib.parse.quote(ref.short)}", _json_body(sha=commit))
        else:
            answer = call("POST", url, _json_body(ref=ref.name, sha=self.commits[0]))
        if answer.status not in {200, 201}:
            raise RuntimeError(f"pushing {ref} to {repository}: {answer.status} {answer.text}")
        return time.time()

    def wait_until_idle(self) -> None:
        """Wait until no queue item is waiting or running."""
        wait_for("every queue is empty", lambda: not self.deployer.lanes.lanes(), 180)


def _json_body(**fields: str) -> bytes:
    return json.dumps(fields).encode()
