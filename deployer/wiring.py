"""The composition root: settings in, everything wired together out."""

import logging
import os
import sys
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
from deployer.deployment.production.gate import Gate
from deployer.deployment.reconcile import Options, Reconciler
from deployer.environment.cloud_region import Room
from deployer.environment.repository_state import Repositories
from deployer.github.host import GitHubHost
from deployer.model.environments import Repository
from deployer.model.errors import ConfigError, UnavailableError
from deployer.model.fence import REMEDY, unfenced_sentence
from deployer.model.records import RESYNC_KEY, EnvironmentRecord, Outcome, Work
from deployer.model.redis_url import parse_redis_url
from deployer.queue.call_counter import note
from deployer.queue.lease import Timer
from deployer.queue.progress_log import LOG_FORMAT
from deployer.queue.runner import Runner, RunnerOptions
from deployer.queue.step_results import Done, Verdict
from deployer.queue.submit import Intake
from deployer.redis_store.allowance import RedisAllowance
from deployer.redis_store.aws.sharing import RedisSharing
from deployer.redis_store.celery_dispatch import CeleryQueue, make_celery
from deployer.redis_store.connection import Budget, check_certificates, connect, read_server
from deployer.redis_store.inventory import StackInventory
from deployer.redis_store.queue import RedisLanes
from deployer.resync.collect import Resyncer
from deployer.resync.missed_deliveries import PATH, Deliveries
from deployer.resync.orphaned_roles import RoleDirectory
from deployer.resync.repository_lifecycle import Lifecycle
from deployer.settings import dotenv as dotfile
from deployer.settings.loading import REQUIRED_FOR_WORKER, THIS_MACHINE, load, require
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
    """Every part, made when first asked for: a web process needs no GitHub and no AWS, the command line seldom AWS."""

    config: Config
    budget: Budget | None = None  # of a web request's waiting for Redis

    @cached_property
    def client(self) -> redis.Redis:
        """The connection to Redis."""
        return connect(self.config.redis_url, self.budget)

    @cached_property
    def lanes(self) -> RedisLanes:
        """Lanes and ledger."""
        return RedisLanes(
            self.client,
            lease_seconds=self.config.lease_seconds,
            grace_seconds=self.config.grace_seconds,
            max_attempts=self.config.max_attempts,
        )

    @cached_property
    def allowance(self) -> RedisAllowance:
        """What each repository may ask of GitHub."""
        return RedisAllowance(self.client)

    @cached_property
    def celery(self) -> Celery:
        """The Celery application."""
        return make_celery(self.config.redis_url, in_haste=self.budget is not None)

    @cached_property
    def queue(self) -> CeleryQueue:
        """Carries dispatches."""
        return CeleryQueue(self.celery, self.client)

    @cached_property
    def host(self) -> GitHubHost:
        """GitHub."""
        return GitHubHost(
            token=self.config.github_token,
            app_id=self.config.github_app_id,
            private_key=self.config.github_app_private_key,
            api_url=self.config.github_api_url,
        )

    @cached_property
    def clouds(self) -> AwsClouds:
        """AWS."""
        return AwsClouds(
            self.config.targets,
            RedisSharing(self.client, self.config.aws_rate),
            repository_token=self._clone_token,
            on_call=lambda: note("aws"),
        )

    @cached_property
    def roles(self) -> RoleDirectory:
        """IAM's roles."""
        return AwsRoles(self.clouds)

    def _clone_token(self, full_name: str) -> str:
        """A token for a repository; GitHub is needed only where a template asks for one."""
        return self.host.clone_token(full_name)

    def rooms(self) -> list[Room]:
        """How full each region was when the workers counted it last; AWS is not asked, and no target needed."""
        return RedisSharing(self.client).counted_rooms()

    @cached_property
    def inventory(self) -> StackInventory:
        """All stacks, listed once for all repositories."""
        return StackInventory(self.clouds, self.client, self.lanes.now)

    @cached_property
    def evaluator(self) -> FolderProcess:
        """Evaluates the files of a branch, in a process of its own."""
        return FolderProcess()

    @cached_property
    def linter(self) -> Linter | None:
        """Looks at templates before AWS does."""
        return CfnLint()

    @cached_property
    def intake(self) -> Intake:
        """The door into the lanes."""
        config = self.config
        accounts = {kind: target.account for kind, target in config.targets.items()}
        return Intake(self.lanes, self.queue, allows=config.allows, accounts=accounts, ttl=config.ttl)

    @cached_property
    def resyncer(self) -> Resyncer:
        """Plans resyncs."""
        gate = Gate(self.host, self.clouds, self.evaluator.read_repository_config)
        return Resyncer(
            self.host,
            self.inventory,
            self.lanes,
            gate,
            allows=self.config.allows,
            named_repositories=self.config.named_repositories(),
            orphan_seconds=self.config.orphan_seconds,
        )

    @cached_property
    def lifecycle(self) -> Lifecycle:
        """Looks at repositories as a whole."""
        return Lifecycle(
            self.inventory,
            self.lanes,
            self.repositories,
            self.intake,
            self.resyncer,
            self.deliveries,
            allows=self.config.allows,
            poll_seconds=self.config.poll_seconds,
        )

    @cached_property
    def repositories(self) -> Repositories:
        """Looks at repositories."""
        return Repositories(self.host, self.lanes)

    @cached_property
    def deliveries(self) -> Deliveries:
        """Finds what GitHub could not deliver."""
        url = self.config.public_url and self.config.public_url + PATH
        return Deliveries(self.host, self.lanes, allows=self.config.allows, webhook_url=url)

    @cached_property
    def reconciler(self) -> Reconciler:
        """Carries out tasks."""
        config = self.config
        options = Options(
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
            self.linter,
        )

    def make_runner(self, timer: Timer | None = None) -> Runner:
        """Runs queue items.

        Args:
            timer: as `Runner` takes it.
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
        )

    def carry_out(self, repository: Repository, work: Work, guard: Callable[[], None]) -> Verdict:
        """See `StepHandler.carry_out`: a resync of the whole repository, or a step of one environment."""
        if work.environment == RESYNC_KEY:
            return self.lifecycle.run(repository, work)
        if why := self.lifecycle.refusal(repository, work):
            return Done(str(Outcome.SKIPPED), why, self.lifecycle.put_off(repository, work, why))
        return self.reconciler.run(repository, work, guard)

    def report_death(self, repository: Repository, work: Work, letter: str, reason: str) -> EnvironmentRecord:
        """See `StepHandler.report_death`."""
        return self.reconciler.died(repository, work, letter, reason)


def build(env: dict[str, str] | None = None, budget: Budget | None = None) -> Deployer:
    """Read the settings and wire everything.

    Args:
        env: the environment variables; by default the process's own over those of `.env`.
        budget: of each web request's waiting for Redis; other processes have none.

    Raises:
        ConfigError: a setting is missing or malformed; one line that names it.
    """
    if env is None:
        env = environment()
    return Deployer(load(env, read_secret), budget)


def environment() -> dict[str, str]:
    """The process's environment variables over those of a file `.env` in the working directory.

    Raises:
        ConfigError: the file cannot be read.
    """
    env = dotfile.read()
    for name, value in env.items():
        os.environ.setdefault(name, value)  # boto3 reads AWS's own variables by itself
    if region := os.environ.get("AWS_REGION"):
        os.environ.setdefault("AWS_DEFAULT_REGION", region)  # the only one of the two that boto3 reads
    return {**env, **os.environ}


def check_redis(config: Config) -> str:
    """Insist that this Redis can be used, as far as it answers now; a process waits for one that is away.

    Every process passes here when it starts.

    Returns:
        A warning for the log, or an empty text.

    Raises:
        ConfigError: it runs in cluster mode, has no such database, or a certificate's file cannot be read; one line
            with the remedy.
    """
    check_certificates(parse_redis_url(config.redis_url))
    with connect(config.redis_url) as client:
        try:
            server = read_server(client)
        except UnavailableError as error:
            if "DB index is out of range" in str(error):  # no code precedes it, and no class is its own
                raise ConfigError(
                    "DEPLOYER_REDIS_URL names a database that Redis does not have; use 0"
                ) from error
            if "SELECT is not allowed in cluster mode" in str(error):
                raise ConfigError(CLUSTER_MODE) from error
            return ""
    check_redis_mode(server)
    warning = eviction_warning(server)
    return f"{warning}; {NO_EVICTION}" if warning else ""


def check_worker(deployer: Deployer) -> None:
    """Insist that a worker can do its work, and may: its settings, GitHub's and AWS's, and the fence in IAM.

    Every way to start a worker passes here: `deployer worker`, `deployer up` and `celery -A workers worker`.

    Raises:
        ConfigError: a setting is missing or malformed, or branch code is not fenced in; one line with the remedy.
    """
    require(deployer.config, *REQUIRED_FOR_WORKER)
    deployer.host.check_private_key()
    check_aws(deployer.config)


def check_aws(config: Config) -> None:
    """Insist that a process can call AWS, and may.

    Raises:
        ConfigError: a setting is malformed, or branch code is not fenced in; one line with the remedy.
    """
    address = check_settings()
    # some checks are left out for the sandbox, and the real AWS must not be reached without them
    if config.sandbox and urlsplit(address).hostname not in THIS_MACHINE:
        raise ConfigError("DEPLOYER_SANDBOX is yes, but AWS_ENDPOINT_URL is not on this machine")
    check_fence(config)


def warn_at_start(config: Config, redis_warning: str) -> None:
    """Log what operators should know of at a process's start.

    Args:
        config: may let it work without the fence; `DEPLOYER_UNFENCED` must not be forgotten.
        redis_warning: as `check_redis` returned it.
    """
    if redis_warning:
        _log.warning("%s", redis_warning)
    if gaps := config.fence_gaps:
        _log.warning("DEPLOYER_UNFENCED is yes. %s; to protect AWS, %s", unfenced_sentence(gaps), REMEDY)


def setup_logging(config: Config, process: str) -> None:
    """Log to standard error, one line an event."""
    logging.basicConfig(
        level=config.log_level,
        stream=sys.stderr,
        format=LOG_FORMAT.format(process=process),
        force=True,
    )
    for noisy in ("botocore", "urllib3", "boto3", "kombu", "amqp"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLogger().level))
    # a role that cannot be assumed is told by the error that ends the task, in one line
    logging.getLogger("botocore.credentials").setLevel(logging.CRITICAL)
