"""The composition root: builds all parts of deployer from its settings."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

import redis
from celery import Celery

from deployer.aws.cfn_lint import CfnLint
from deployer.aws.clients import check_settings
from deployer.aws.cloud import AwsClouds
from deployer.aws.roles import AwsRoles
from deployer.aws.secrets import read_secret
from deployer.deployment.production.gate import ProductionGate
from deployer.deployment.reconcile import Reconciler, ReconcilerOptions
from deployer.environment.cloud_region import RegionCapacity
from deployer.environment.pull_comment import PullRequestComments
from deployer.environment.repository_state import Repositories
from deployer.github.host import GitHubHost
from deployer.github.webhook import parse_delivery
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Repository
from deployer.model.errors import ConfigError, UnavailableError
from deployer.model.events import Ignored, PullRequestChange, Push, RepositoryChange
from deployer.model.outcomes import Outcome
from deployer.model.redis_url import parse_redis_url
from deployer.outbox.sender import DisplaySender
from deployer.queue.call_counter import count_call
from deployer.queue.items import RESYNC_KEY, Work
from deployer.queue.lease import Timer
from deployer.queue.runner import Runner, WorkerProcess
from deployer.queue.step_results import Finished, StepResult
from deployer.queue.step_runner import RunnerOptions
from deployer.queue.submit import Answer, WorkSubmitter
from deployer.redis_store.allowance import RedisAllowance
from deployer.redis_store.aws.inventory import StackInventory
from deployer.redis_store.aws.sharing import RedisSharing
from deployer.redis_store.celery_dispatch import CeleryDispatcher, make_celery
from deployer.redis_store.circuit_breaker import RedisCircuitBreaker
from deployer.redis_store.connection import check_certificates, connect, read_server
from deployer.redis_store.github.sharing import RedisGitHubSharing
from deployer.redis_store.outbox import RedisOutbox
from deployer.redis_store.queue import RedisQueueStore
from deployer.resync.collect import ResyncPlanner
from deployer.resync.missed_deliveries import PATH, MissedDeliveries
from deployer.resync.orphaned_roles import RoleDirectory
from deployer.resync.pull_requests import PullRequests
from deployer.resync.repository_lifecycle import RepositoryLifecycle
from deployer.settings.dotenv import read_environment
from deployer.settings.iam_fence import FENCE_REMEDY, unfenced_sentence
from deployer.settings.loading import REQUIRED_FOR_WORKER, THIS_MACHINE, load_config, require_settings
from deployer.settings.startup import (
    CLUSTER_MODE,
    NO_EVICTION,
    check_fence,
    check_redis_mode,
    eviction_warning,
)
from deployer.settings.values import Config
from deployer.templates.findings import Linter
from deployer.templates.isolation.process import FolderProcess

_log = logging.getLogger("deployer.start")


@dataclass
class Deployer:
    """All parts, each created at its first use, because a web process needs neither GitHub nor AWS."""

    config: Config
    budget: RedisCircuitBreaker | None = None  # limits how long a web request waits for Redis

    @cached_property
    def client(self) -> redis.Redis:
        """The connection to Redis."""
        return connect(self.config.redis_url, self.budget)

    @cached_property
    def lanes(self) -> RedisQueueStore:
        """The queues and records in Redis."""
        return RedisQueueStore(
            self.client,
            lease_seconds=self.config.lease_seconds,
            grace_seconds=self.config.grace_seconds,
            max_attempts=self.config.max_attempts,
            sends_messages=True,
        )

    @cached_property
    def allowance(self) -> RedisAllowance:
        """How many GitHub requests each repository may use."""
        return RedisAllowance(self.client)

    @cached_property
    def outbox(self) -> RedisOutbox:
        """What GitHub should show."""
        return RedisOutbox(self.client)

    @cached_property
    def display_sender(self) -> DisplaySender:
        """Posts what GitHub should show."""
        is_short = self.github_sharing.is_short
        return DisplaySender(self.outbox, self.host, self.lanes.now, self.lanes.count, is_short)

    @cached_property
    def celery(self) -> Celery:
        """The Celery application."""
        return make_celery(self.config.redis_url, in_haste=self.budget is not None)

    @cached_property
    def queue(self) -> CeleryDispatcher:
        """Sends messages to workers."""
        return CeleryDispatcher(self.celery, self.client)

    @cached_property
    def host(self) -> GitHubHost:
        """GitHub."""
        return GitHubHost(
            token=self.config.github_token,
            app_id=self.config.github_app_id,
            private_key=self.config.github_app_private_key,
            api_url=self.config.github_api_url,
            sharing=self.github_sharing,
        )

    @cached_property
    def github_sharing(self) -> RedisGitHubSharing:
        """The rate limits, installations and sealed tokens that all processes share about GitHub."""
        return RedisGitHubSharing(self.client, self.config.github_rate)

    def submit_delivery(self, event: Push | RepositoryChange | PullRequestChange | Ignored) -> Answer:
        """Submit an event of GitHub, and store which installation of the GitHub App serves its repositories.

        Raises:
            UnavailableError: Redis is unavailable; nothing was stored.
        """
        if isinstance(event, PullRequestChange):
            answer = self.pull_requests.submit(event)
        else:
            answer = self.submitter.submit_github(event)
        if not isinstance(event, Ignored) and event.installation:
            self._learn_installation(event)
        return answer

    def _learn_installation(self, event: Push | RepositoryChange | PullRequestChange) -> None:
        named = event.repositories if isinstance(event, RepositoryChange) else (event.repository,)
        removed = isinstance(event, RepositoryChange) and bool(event.word)
        for repository in filter(self.config.allows, named):
            self.github_sharing.learn_installation(repository, 0 if removed else event.installation)
        if isinstance(event, RepositoryChange):
            # only a new token has the permissions that the installation has after the change
            self.github_sharing.save_sealed_token(event.installation, "", 0)

    @cached_property
    def clouds(self) -> AwsClouds:
        """AWS."""
        return AwsClouds(
            self.config.targets,
            RedisSharing(self.client, self.config.aws_rate),
            repository_token=self._clone_token,
            on_call=lambda: count_call("aws"),
        )

    @cached_property
    def roles(self) -> RoleDirectory:
        """The IAM roles."""
        return AwsRoles(self.clouds)

    def _clone_token(self, full_name: str) -> str:
        """Return a token for a repository. GitHub is created only if a template asks for a token."""
        return self.host.clone_token(full_name)

    def last_capacities(self) -> list[RegionCapacity]:
        """Return the latest counts of each region's capacity, without a request to AWS."""
        return RedisSharing(self.client).last_capacities()

    @cached_property
    def inventory(self) -> StackInventory:
        """The listing of all stacks, which all repositories share."""
        return StackInventory(self.clouds, self.client, self.lanes.now)

    @cached_property
    def evaluator(self) -> FolderProcess:
        """Evaluates the files of a branch in a separate process."""
        return FolderProcess()

    @cached_property
    def linter(self) -> Linter | None:
        """Checks templates before AWS gets them."""
        return CfnLint()

    @cached_property
    def submitter(self) -> WorkSubmitter:
        """Adds work to the queues."""
        config = self.config
        accounts = {kind: target.account for kind, target in config.targets.items()}
        return WorkSubmitter(self.lanes, self.queue, allows=config.allows, accounts=accounts, ttl=config.ttl)

    @cached_property
    def resyncer(self) -> ResyncPlanner:
        """Plans resyncs."""
        gate = ProductionGate(self.host, self.clouds, self.evaluator.read_repository_config)
        return ResyncPlanner(
            self.host,
            self.inventory,
            self.lanes,
            gate,
            allows=self.config.allows,
            named_repositories=self.config.named_repositories(),
            orphan_seconds=self.config.orphan_seconds,
        )

    @cached_property
    def lifecycle(self) -> RepositoryLifecycle:
        """Resyncs repositories."""
        return RepositoryLifecycle(
            self.inventory,
            self.lanes,
            self.repositories,
            self.submitter,
            self.resyncer,
            self.deliveries,
            self.pull_requests,
            list_open_heads=self.host.open_pull_requests,
            allows=self.config.allows,
            poll_seconds=self.config.poll_seconds,
        )

    @cached_property
    def pull_requests(self) -> PullRequests:
        """Gives the heads of pull requests their status."""
        comments = PullRequestComments(self._page_url, self.config.ttl)
        return PullRequests(self.lanes, self.outbox, self.submitter, comments, self.config.allows)

    def _page_url(self, environment: Environment) -> str:
        url = self.config.public_url
        return f"{url}/environments/{environment.stack_name}" if url else ""

    @cached_property
    def repositories(self) -> Repositories:
        """Reads the state of repositories."""
        return Repositories(self.host, self.lanes)

    @cached_property
    def deliveries(self) -> MissedDeliveries:
        """Finds webhook deliveries that failed."""
        url = self.config.public_url and self.config.public_url + PATH
        return MissedDeliveries(
            self.host, self.lanes, parse=parse_delivery, allows=self.config.allows, webhook_url=url
        )

    @cached_property
    def reconciler(self) -> Reconciler:
        """Runs the steps of environments."""
        config = self.config
        options = ReconcilerOptions(
            poll_seconds=config.poll_seconds,
            public_url=config.public_url,
            ttl=config.ttl,
            tag_wait_seconds=config.tag_wait_seconds,
        )
        return Reconciler(
            self.host,
            self.clouds,
            self.inventory,
            self.lanes,
            self.repositories,
            options,
            self.evaluator,
            self.outbox,
            self.linter,
        )

    def make_runner(self, timer: Timer | None = None, process: WorkerProcess | None = None) -> Runner:
        """Return a runner of queue items.

        Args:
            timer, process: see `Runner`.
        """
        config = self.config
        options = RunnerOptions(
            lease_seconds=config.lease_seconds,
            max_attempts=config.max_attempts,
            retry_seconds=config.retry_seconds,
            poll_seconds=config.poll_seconds,
            public_url=config.public_url,
        )
        return Runner(
            self.lanes,
            self.queue,
            self.allowance,
            self,
            allows=lambda repository: not config.repositories or config.allows(repository),
            options=options,
            timer=timer,
            process=process,
        )

    def carry_out(self, repository: Repository, work: Work, guard: Callable[[], None]) -> StepResult:
        """Run a resync of the repository, or a step of one environment; see `StepHandler.carry_out`."""
        if work.environment == RESYNC_KEY:
            return self.lifecycle.run(repository, work)
        if why := self.lifecycle.refusal(repository, work):
            return Finished(
                str(Outcome.SKIPPED), why, self.lifecycle.record_refused_push(repository, work, why)
            )
        return self.reconciler.run(repository, work, guard)

    def report_death(self, repository: Repository, work: Work, letter: str, reason: str) -> EnvironmentRecord:
        """See `StepHandler.report_death`."""
        return self.reconciler.report_dead_letter(repository, work, letter, reason)


def build(env: dict[str, str] | None = None, budget: RedisCircuitBreaker | None = None) -> Deployer:
    """Read the settings and build all parts.

    Args:
        env: the environment variables; by default those of the process, which override those of `.env`.
        budget: limits how long a web request waits for Redis; None in other processes.

    Raises:
        ConfigError: a setting is missing or malformed; the text is one line that names it.
    """
    if env is None:
        env = read_environment()
    return Deployer(load_config(env, read_secret), budget)


def check_redis(config: Config) -> str:
    """Check at the start of a process that it can use this Redis. A Redis that does not answer passes.

    Returns:
        A warning for the log, or an empty text.

    Raises:
        ConfigError: Redis runs in cluster mode, has no such database, or the file of a certificate cannot be read; the
            text is one line with the remedy.
    """
    check_certificates(parse_redis_url(config.redis_url))
    with connect(config.redis_url) as client:
        try:
            server = read_server(client)
        except UnavailableError as error:
            if "DB index is out of range" in str(
                error
            ):  # this error has neither a code nor a class of its own
                raise ConfigError("DEPLOYER_REDIS_URL names a database that does not exist; use 0") from error
            if "SELECT is not allowed in cluster mode" in str(error):
                raise ConfigError(CLUSTER_MODE) from error
            return ""
    check_redis_mode(server)
    warning = eviction_warning(server)
    return f"{warning}; {NO_EVICTION}" if warning else ""


def check_worker(deployer: Deployer) -> None:
    """Check the settings of a worker, with the limits on branch code in IAM.

    `deployer worker`, `deployer up` and `celery -A workers worker` call it.

    Raises:
        ConfigError: a setting is missing or malformed, or a limit is missing; the text is one line with the remedy.
    """
    require_settings(deployer.config, *REQUIRED_FOR_WORKER)
    deployer.host.check_private_key()
    check_aws(deployer.config)


def check_aws(config: Config) -> None:
    """Check the settings of a process that calls AWS.

    Raises:
        ConfigError: a setting is malformed, or a limit on branch code is missing; the text is one line with the remedy.
    """
    address = check_settings()
    # the sandbox skips some checks, without which the real AWS must not be used
    if config.sandbox and urlsplit(address).hostname not in THIS_MACHINE:
        raise ConfigError("DEPLOYER_SANDBOX is yes, but AWS_ENDPOINT_URL is not on this machine")
    check_fence(config)


def warn_at_start(config: Config, redis_warning: str) -> None:
    """Log warnings for operators at the start of a process.

    Args:
        config: the settings; `DEPLOYER_UNFENCED` is logged, so that nobody forgets it.
        redis_warning: the warning that `check_redis` returned.
    """
    if redis_warning:
        _log.warning("%s", redis_warning)
    if gaps := config.missing_fence_settings:
        _log.warning(
            "DEPLOYER_UNFENCED is yes. %s; to protect AWS, %s", unfenced_sentence(gaps), FENCE_REMEDY
        )
