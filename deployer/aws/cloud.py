"""One region of an AWS account through boto3: implements the ports `CloudRegion` and `Clouds`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from deployer.aws.buckets import ArtifactBucket
from deployer.aws.build_logs import delete_log_group, find_build_logs
from deployer.aws.clients import AwsClients, call_with_retries, own_region, read_pages
from deployer.aws.cloudformation import AwsStacks
from deployer.aws.codepipeline import AwsPipelines
from deployer.aws.errors import required_member, translate_errors
from deployer.aws.sharing import RegionStatus, Sharing
from deployer.aws.storage import empty_stack_storage
from deployer.environment.cloud_region import BuildLogs, RegionCapacity
from deployer.model.environments import Kind
from deployer.model.targets import Target

_DAY = 86400.0
_DEFAULT_STACKS_LIMIT = 2000  # used if AWS does not report the account's limit


class AwsCloud(AwsStacks, AwsPipelines):
    """Implements the port `CloudRegion` for one region of a target's account.

    The constructor sends no request. Each process creates its own clients when it first uses them.

    Args:
        target: the target whose role and artifact bucket are used.
        clients: clients of the target's account in this region.
        region_status: what the workers share about this region.
        repository_token: returns the value of the template's NoEcho parameter `RepoToken` for an "owner/repo". It is
            called only if the template declares the parameter. The value is sent to CloudFormation and nowhere else.
    """

    def __init__(
        self,
        target: Target,
        clients: AwsClients,
        region_status: RegionStatus,
        repository_token: Callable[[str], str] | None = None,
    ) -> None:
        self._artifacts = ArtifactBucket(target, clients)
        AwsStacks.__init__(
            self, target, clients, region_status, self._artifacts.store_template, repository_token
        )
        AwsPipelines.__init__(self, clients)

    @property
    def account(self) -> str:
        """The account's id, or `own` if the target does not name an account."""
        return _account_or_own(self._target)

    @property
    def region(self) -> str:
        """The region's name."""
        return self._aws.region

    def principal(self) -> str:
        """See `CloudRegion.principal`. No call if the target names a role; otherwise one for each process."""
        with translate_errors("asking AWS for the role of deployer's credentials"):
            return self._aws.principal()

    def check_reachable(self, seconds: float) -> None:
        """See `CloudRegion.check_reachable`. One call, without retries."""
        self._aws.check_reachable(seconds)

    def count_capacity(self) -> RegionCapacity:
        """See `CloudRegion.count_capacity`. No call if the counts are new enough; otherwise three or more.

        Counts are new enough for an hour. Between two counts, deployer adds the stacks that it creates and
        subtracts those that it deletes.
        """
        with translate_errors(f"counting what {self.region} holds"):
            stacks_now, stacks_at, _ = self._cached_or_counted(
                "stacks", lambda: sum(1 for _ in self._list_stacks())
            )
            limit, _, _ = self._cached_or_counted("stacks_limit", self._read_stacks_limit)
            pipelines_now, pipelines_at, anew = self._cached_or_counted("pipelines", self._count_pipelines)
        found = self._build_capacity(stacks_now, limit, pipelines_now, min(stacks_at, pipelines_at))
        if anew:
            self._region_status.save_last_count(found)
        return found

    def last_capacity(self) -> RegionCapacity | None:
        """See `CloudRegion.last_capacity`: the last counts, if they are less than a day old. No call."""
        stacks_known, limit, pipelines_known = (
            self._region_status.cached_count(what, _DAY) for what in ("stacks", "stacks_limit", "pipelines")
        )
        if not (stacks_known and limit and pipelines_known):
            return None
        at = min(stacks_known[1], pipelines_known[1])
        return self._build_capacity(stacks_known[0], limit[0], pipelines_known[0], at)

    def _build_capacity(self, stacks_now: int, limit: int, pipelines_now: int, at: float) -> RegionCapacity:
        account = _account_or_own(self._target)
        return RegionCapacity(
            self.region, stacks_now, limit, pipelines_now, self._target.pipelines_limit, at, account
        )

    def _cached_or_counted(self, what: str, count: Callable[[], int]) -> tuple[int, float, bool]:
        """Return a count, the time of the count (epoch seconds), and whether this call counted it."""
        if known := self._region_status.cached_count(what):
            return (*known, False)
        began = self._region_status.now()
        number = count()
        self._region_status.save_count(what, number, began)
        return number, began, True

    def _read_stacks_limit(self) -> int:
        answer = call_with_retries(self._aws.cloudformation.describe_account_limits)
        limits = {each.get("Name"): each.get("Value") for each in answer.get("AccountLimits", [])}
        return int(limits.get("StackLimit") or _DEFAULT_STACKS_LIMIT)

    def _count_pipelines(self) -> int:
        listed = read_pages(self._aws.codepipeline.list_pipelines, cursor="nextToken", maxResults=1000)
        return sum(len(required_member(page, "pipelines")) for page in listed)

    def check_artifact_bucket(self) -> None:
        """See `CloudRegion.check_artifact_bucket`: write a small object into the artifact bucket. One call."""
        self._artifacts.check_writable()

    def empty_storage(self, arn: str, guard: Callable[[], None] = lambda: None) -> bool:
        """See `CloudRegion.empty_storage`: deletes for about twenty seconds.

        What the template retains is not emptied, because its content must outlive the stack.
        """
        with translate_errors(f"emptying the buckets and repositories of stack {arn}"):
            return empty_stack_storage(self._aws, arn, guard)

    def build_logs(self, arn: str) -> list[BuildLogs]:
        """See `CloudRegion.build_logs`. One call for each hundred events of the stack, and one for each project."""
        with translate_errors(f"looking for the build logs of stack {arn}"):
            return find_build_logs(self._aws, arn)

    def delete_build_logs(self, name: str) -> str:
        """See `CloudRegion.delete_build_logs`. One call."""
        with translate_errors(f"deleting log group {name}"):
            return delete_log_group(self._aws, name)


class AwsClouds:
    """Implements the port `Clouds`: one `AwsCloud` for each target and region.

    Args:
        targets: the target of each kind of environment.
        sharing: what all workers share about the accounts and regions.
        repository_token: see `AwsCloud`.
        on_call: called for every request that is sent to AWS, including retries.
        endpoint_url: one address for all services of AWS; None to use AWS's own environment variables.
    """

    def __init__(
        self,
        targets: Mapping[Kind, Target],
        sharing: Sharing,
        *,
        repository_token: Callable[[str], str] | None = None,
        on_call: Callable[[], None] | None = None,
        endpoint_url: str | None = None,
    ) -> None:
        self._targets = targets
        self._sharing = sharing
        self._repository_token = repository_token
        self._on_call = on_call
        self._endpoint_url = endpoint_url
        self._clients: dict[tuple[str, str, str], AwsClients] = {}
        self._clouds: dict[tuple[Kind, str], AwsCloud] = {}

    def target(self, kind: Kind) -> Target:
        """See `Clouds.target`. A target without regions uses the region of AWS's own environment variables."""
        target = self._targets[kind]
        return target if target.regions else replace(target, regions=(self._own_region,))

    def at(self, kind: Kind, region: str = "") -> AwsCloud:
        """Return the cloud of a kind's target in a region; by default the target's first region."""
        target = self.target(kind)
        region = region or target.regions[0]
        if (kind, region) not in self._clouds:
            region_status = self._sharing.region_status(_account_or_own(target), region)
            clients = self._clients_for(target, region)
            self._clouds[kind, region] = AwsCloud(target, clients, region_status, self._repository_token)
        return self._clouds[kind, region]

    def every(self) -> Sequence[AwsCloud]:
        """Return one cloud for each account and region that any target uses."""
        found: dict[tuple[str, str], AwsCloud] = {}
        for kind in self._targets:
            target = self.target(kind)
            for region in target.regions:
                found.setdefault((_account_or_own(target), region), self.at(kind, region))
        return list(found.values())

    def clients(self, kind: Kind, region: str = "") -> AwsClients:
        """Return clients with the role of a kind's target; by default in the target's first region."""
        target = self.target(kind)
        return self._clients_for(target, region or target.regions[0])

    def own_account(self) -> str:
        """Return the account of deployer's own credentials. One call, which needs no IAM permission."""
        own = replace(self.target(Kind.DEVELOPMENT), role_arn="", external_id="")
        sts = self._clients_for(own, self._own_region).sts
        with translate_errors("asking AWS for the account of deployer's credentials"):
            return str(required_member(call_with_retries(sts.get_caller_identity), "Account"))

    @cached_property
    def _own_region(self) -> str:
        return own_region()

    def _clients_for(self, target: Target, region: str) -> AwsClients:
        key = (target.role_arn, target.external_id, region)
        if key not in self._clients:
            self._clients[key] = AwsClients(
                region,
                self._endpoint_url,
                role_arn=target.role_arn,
                external_id=target.external_id,
                rate_limit=self._sharing.rate_limit(_account_or_own(target), region),
                on_call=self._on_call,
            )
        return self._clients[key]


def _account_or_own(target: Target) -> str:
    """Return the target's account as a name for shared data, because AWS applies quotas and rates to an account."""
    return target.account_id or "own"
