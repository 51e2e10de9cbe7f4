"""Where environments of each kind live in AWS, and with which rights their stacks are made.

The installation decides this, never a repository: branch code must not be able to choose production's rights.
"""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from deployer.model.environments import Kind

UNFENCED = (
    "unfenced"  # the name of the heartbeat of workers that run without the IAM fence; the dashboard shows it
)
PIPELINES_LIMIT = 1000  # https://docs.aws.amazon.com/codepipeline/latest/userguide/limits.html


@dataclass(frozen=True, slots=True)
class Target:
    """Where the environments of one kind live.

    Attributes:
        account: the account's id; empty where nothing is said of it: that of deployer's own credentials.
        regions: one or more; only development may have several, which are filled by room. Empty for the one of AWS's
            own variables.
        role_arn: the role that deployer assumes there; empty for its own credentials.
        external_id: given when that role is assumed.
        service_role_arn: the role that CloudFormation works with; empty for deployer's own rights.
        permissions_boundary: the ARN of the policy that bounds every role that a stack makes; given to templates as
            `PermissionsBoundary`.
        role_path: the IAM path that every role, managed policy and instance profile of a template must be under.
        allowed_roles: patterns (`*` for any text) of ARNs of further roles that a template may name; also of what it
            may name in another account, such as a public Lambda layer.
        artifact_bucket: the bucket for templates and artifacts; `{account}` and `{region}` are filled in.
        connection_arn: the CodeConnections connection, given to templates as `ConnectionArn`.
        pipelines_limit: how many pipelines a region may hold; AWS tells stacks' limit, but not this one.
        reserve: stacks and pipelines of a region that development leaves free for staging and production.
        tags: of production, patterns of the tags that may be deployed; empty for all. A tag must match the repository's
            patterns too: the installation narrows what a repository allows and never widens it.
        branches: of production, patterns of further branches that a tag's commit may be on; empty for those that the
            repository names.
        from_default_branch: of production, whether a tag's commit must be on the default branch or on such a branch.
        gives_token: whether a template that declares `RepoToken` is given a GitHub token: with a GitHub App, whose
            token reads one repository for an hour, or where `DEPLOYER_GIVE_TOKEN` says so.
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
    gives_token: bool = False

    @property
    def bounded(self) -> bool:
        """Whether the installation says anything of rights here."""
        return bool(
            self.account
            or self.service_role_arn
            or self.permissions_boundary
            or self.role_path
            or self.allowed_roles
        )

    @property
    def account_id(self) -> str:
        """The account's id by `account` or by the role; empty where it is that of deployer's own credentials."""
        return self.account or (self.role_arn.split(":")[4] if self.role_arn else "")

    def allows(self, arn: str) -> bool:
        """Whether a template may name this ARN although it is not of its own making."""
        return any(fnmatchcase(arn, pattern) for pattern in self.allowed_roles)

    def bucket(self, region: str) -> str:
        """The artifact bucket in a region: a pipeline's artifacts must be where it is."""
        return self.artifact_bucket.replace("{region}", region).replace("{account}", self.account)

    def given(self, region: str) -> dict[str, str]:
        """Values for parameters that templates may declare."""
        values = {
            "ArtifactStore": self.bucket(region),
            "ConnectionArn": self.connection_arn,
            "PermissionsBoundary": self.permissions_boundary,
        }
        return {name: value for name, value in values.items() if value}
