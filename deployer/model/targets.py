"""The AWS account, regions, rights that environments of one kind use.

Only the installation sets them, never a repository, because branch code must not choose production's rights.
"""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from deployer.model.environments import Kind

UNFENCED = (
    "unfenced"  # the name of the heartbeat of workers that run without the IAM fence; the dashboard shows it
)
REPORT, STOP = "report", "stop"  # what deployer does about executions that it did not start
PIPELINES_LIMIT = 1000  # https://docs.aws.amazon.com/codepipeline/latest/userguide/limits.html


@dataclass(frozen=True, slots=True)
class Target:
    """The AWS account, regions and rights of one kind of environment.

    Attributes:
        account: the account's id; empty for the account of deployer's own credentials.
        regions: one or more; only development may have several, and a new environment gets the one with the most
            capacity. Empty for the region of AWS's environment variables.
        role_arn: the role that deployer assumes in the account; empty for deployer's own credentials.
        external_id: the external id for assuming that role.
        service_role_arn: the role that CloudFormation uses; empty for deployer's own rights.
        permissions_boundary: the ARN of the policy that limits every role that a stack creates; templates get it as
            `PermissionsBoundary`.
        role_path: the IAM path that every role, managed policy and instance profile of a template must have.
        allowed_roles: patterns (`*` for any text) of the ARNs of other roles that a template may name, and of resources
            in other accounts that it may name, such as a public Lambda layer.
        artifact_bucket: the bucket for templates and artifacts; `{account}` and `{region}` are replaced.
        connection_arn: the CodeConnections connection; templates get it as `ConnectionArn`.
        pipelines_limit: how many pipelines a region may have; AWS reports the quota of stacks, but not this one.
        reserve: stacks and pipelines of a region that development leaves free for staging and production.
        tags: for production, patterns of the tags that may be deployed; empty for all. A tag must match the
            repository's patterns too: the installation can narrow what a repository allows, but not widen it.
        branches: for production, patterns of the other branches that may contain a tag's commit; empty for the
            branches that the repository names.
        from_default_branch: for production, whether the default branch or one of `branches` must contain the commit.
        foreign_executions: `report`, or `stop` if deployer also stops executions that it did not start.
        gives_token: whether a template that declares `RepoToken` gets a GitHub token: with a GitHub App, whose token
            reads one repository for an hour, or if `DEPLOYER_GIVE_TOKEN` says so.
    """

    kind: Kind
    account: str = ""
    regions: tuple[str, ...] = ()
    role_arn: str = ""
    external_id: str = field(default="", repr=False)
    service_role_arn: str = ""
    permissions_boundary: str = ""
    role_path: str = ""
    allowed_roles: tuple[str, ...] = ()
    artifact_bucket: str = ""
    connection_arn: str = ""
    pipelines_limit: int = PIPELINES_LIMIT
    reserve: int = 10
    tags: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()
    from_default_branch: bool = True
    foreign_executions: str = REPORT
    gives_token: bool = False

    @property
    def bounded(self) -> bool:
        """Whether the installation limits the rights of this kind at all."""
        return bool(
            self.account
            or self.service_role_arn
            or self.permissions_boundary
            or self.role_path
            or self.allowed_roles
        )

    @property
    def account_id(self) -> str:
        """The account's id by `account` or by the role; empty for the account of deployer's own credentials."""
        return self.account or (self.role_arn.split(":")[4] if self.role_arn else "")

    def allows(self, arn: str) -> bool:
        """Whether a template may name the ARN of a resource that it does not create."""
        return any(fnmatchcase(arn, pattern) for pattern in self.allowed_roles)

    def bucket(self, region: str) -> str:
        """The artifact bucket in a region, because a pipeline's artifacts must be in the pipeline's region."""
        return self.artifact_bucket.replace("{region}", region).replace("{account}", self.account)

    def given(self, region: str) -> dict[str, str]:
        """The values of the parameters that deployer sets if a template declares them."""
        values = {
            "ArtifactStore": self.bucket(region),
            "ConnectionArn": self.connection_arn,
            "PermissionsBoundary": self.permissions_boundary,
        }
        return {name: value for name, value in values.items() if value}
