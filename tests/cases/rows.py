"""What is right for each case below `templates/`, one row a case."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.cases.synthesized import SYNTHESIZED_FILES, follow_the_remedies

TEMPLATES = Path(__file__).parent / "templates"
APPLICATION = "Resources: {Data: {Type: AWS::S3::Bucket}}\n"
_CONNECTION = r"DetectChanges: false"


@dataclass(frozen=True)
class Expected:
    """An error that `deployer validate` reports.

    Attributes:
        line: matches the text of the line at which it is.
        text: matches the message.
    """

    line: str
    text: str


@dataclass(frozen=True)
class Left:
    """Something that the receipt of the deletion lists as left.

    Attributes:
        what, why: match the entry.
    """

    what: str
    why: str


@dataclass(frozen=True)
class Case:
    """A repository and what is right for it.

    Attributes:
        name: the name of the row, and of its repository.
        right: what is right, in one sentence.
        errors: the errors of `validate` for an installation without a permissions boundary; each and no other.
        others: whether there may be more errors than these.
        never: matches the texts that no error has.
        bounded: the errors or warnings of `validate` with a permissions boundary; others may exist.
        outcome: what the push comes to: `rejected`, `deployed` or `failed`.
        reason: matches the reason of the outcome.
        waits: the action at whose approval the pipeline waits when the branch is deleted; without it every approval is
            given.
        left: what the receipt lists as left; None if the receipt may list anything, because both are right.
        branch: the pushed branch.
        folder: the folder below `templates/`, by default the row's name.
        template: the file that is the template, if it is not in `deploy/`.
        files: further files of the repository.
        change: changes the text of the template.
        roles: roles of the account that the template names.
        values: parameters of the account that the template reads from SSM.
    """

    name: str
    right: str
    errors: tuple[Expected, ...] = ()
    others: bool = False
    never: str = r"(?!)"
    bounded: tuple[Expected, ...] = ()
    outcome: str = "deployed"
    reason: str = ""
    waits: str = ""
    left: tuple[Left, ...] | None = ()
    branch: str = "dev"
    folder: str = ""
    template: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    change: Callable[[str], str] = str
    roles: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def template_file(self) -> Path:
        """The file whose text becomes the repository's template."""
        folder = TEMPLATES / (self.folder or self.name)
        return folder / self.template if self.template else next((folder / "deploy").glob("pipeline.*"))

    @property
    def template_name(self) -> str:
        """The path of the template in the repository."""
        return f"deploy/pipeline{self.template_file.suffix}"

    @property
    def repository_files(self) -> dict[str, str]:
        """The files of the repository, without those that depend on the environment."""
        text = self.change(self.template_file.read_text())
        return {"app.yml": APPLICATION, self.template_name: text, **self.files}


_NO_SOURCE = r"no source .*reads this repository"
_STARTS = r"AWS starts the pipeline"

CASES = (
    Case(
        "approval",
        "a branch is deleted while its pipeline waits for an approval, and all of it goes",
        waits="Gate",
    ),
    Case(
        "approval, given",
        "an approval that a person gives lets the pipeline end",
        folder="approval",
    ),
    Case(
        "cdk-pipeline",
        "what CDK synthesizes by default is rejected for what is wrong, with remedies in CDK's words",
        errors=(
            Expected(r'"(Configuration|DetectChanges)"', rf"{_STARTS}.*triggerOnPush: false"),
            Expected(r'"RestartExecutionOnUpdate"', r"restartExecutionOnUpdate: false"),
            Expected(r'"FullRepositoryId"', rf"{_NO_SOURCE}.*RepoOwner"),
            Expected(r'"BranchName"', rf"{_NO_SOURCE}.*RepoBranch"),
            Expected(r"", r"selfMutation: false"),
            Expected(r'"StackName"', r"every branch would deploy to the same stack.*PipelineName"),
        ),
        others=True,
        never=r"E3703",
        outcome="rejected",
        reason=r"Dev-App|triggerOnPush: false|FullRepositoryId",
    ),
    Case(
        "cdk-pipeline, corrected",
        "what CDK synthesizes after these remedies is deployed",
        folder="cdk-pipeline",
        change=follow_the_remedies,
        files=SYNTHESIZED_FILES,
        roles=(
            "cdk-hnb659fds-deploy-role-123456789012-us-east-1",
            "cdk-hnb659fds-cfn-exec-role-123456789012-us-east-1",
        ),
        values={"/cdk-bootstrap/hnb659fds/version": "21"},
        left=(Left(r"AWS::S3::Bucket ", r"DeletionPolicy"),),
    ),
    Case(
        "changeset-pair",
        "a stack that a change set made and nobody executed is deleted, or is on the receipt",
        waits="Gate",
        left=None,
    ),
    Case(
        "changeset-pair, executed",
        "a stack that a pair of change set actions made goes with its branch",
        folder="changeset-pair",
    ),
    Case(
        "codecommit-source",
        "a pipeline that reads only CodeCommit at a fixed branch is rejected",
        errors=(
            Expected(r"RepositoryName: legacy|Name: Source|ActionTypeId", _NO_SOURCE),
            Expected(r"RepositoryName: legacy", rf"{_STARTS}.*PollForSourceChanges: false"),
        ),
        outcome="rejected",
        reason=_NO_SOURCE,
    ),
    Case("conditional-stages", "a stage behind a condition that holds counts"),
    Case("foreach", "a template with Fn::ForEach is deployed"),
    Case(
        "join-role-arn",
        "a role's ARN that Fn::Join makes is a matter of style",
        never=r"E3703",
        roles=("deploy",),
    ),
    Case(
        "kms-alias",
        "the name that a finding advises for an alias begins with alias/; the key that it names does not exist",
        bounded=(Expected(r"AliasName", r"alias/\$\{PipelineName\}"),),
        outcome="failed",
        reason=r"key/[0-9a-f-]+' does not exist",
    ),
    Case(
        "long-role-name",
        "a role's name that gets longer than AWS allows is rejected at its line",
        errors=(Expected(r"RoleName", r"\b64\b"),),
        outcome="rejected",
        reason=r"\b64\b",
        branch="feature/a-name-as-people-give-it",
    ),
    Case(
        "nested-pipeline",
        "a pipeline that is only in a nested stack is rejected",
        errors=(Expected(r"Resources", r"no resource of type AWS::CodePipeline::Pipeline"),),
        outcome="rejected",
        reason=r"no resource of type AWS::CodePipeline::Pipeline",
    ),
    Case(
        "no-parameters",
        "a template that nothing ties to repository, branch or name is rejected with the parameters to declare",
        errors=(
            Expected(r"FullRepositoryId", rf"{_NO_SOURCE}.*declare RepoOwner, RepoName and RepoBranch"),
            Expected(r"BranchName", rf"{_NO_SOURCE}.*RepoBranch"),
        ),
        outcome="rejected",
        reason=_NO_SOURCE,
    ),
    Case(
        "other-repository",
        "a pipeline that reads only another repository is rejected",
        errors=(
            Expected(r"FullRepositoryId: acme/tools", _NO_SOURCE),
            Expected(r"BranchName: main", _NO_SOURCE),
        ),
        outcome="rejected",
        reason=_NO_SOURCE,
    ),
    Case(
        "own-trigger-default",
        "a source that AWS watches because DetectChanges is left out is rejected with the line to write",
        errors=(Expected(r"Configuration:", rf"{_STARTS}.*{_CONNECTION}"),),
        outcome="rejected",
        reason=_CONNECTION,
    ),
    Case(
        "own-trigger-default, with a build",
        "a source that AWS watches is rejected, whatever the pipeline does",
        errors=(Expected(r"Configuration:", rf"{_STARTS}.*{_CONNECTION}"),),
        outcome="rejected",
        reason=_CONNECTION,
        folder="own-trigger-default",
        template="production-pipeline.yml",
    ),
    Case(
        "own-trigger-true",
        "a source that AWS watches because DetectChanges is on is rejected with the line to write",
        errors=(Expected(r"DetectChanges: true", rf"{_STARTS}.*{_CONNECTION}"),),
        outcome="rejected",
        reason=_CONNECTION,
    ),
    Case("rules-ssm", "rules hold, and the value of a parameter comes from SSM"),
    Case(
        "self-update-by-change-set",
        "a pipeline that updates its own stack by a pair of change set actions goes on and is deleted",
    ),
    Case("self-update-first", "a pipeline that first updates its own stack goes on and is deleted"),
    Case(
        "self-update-foreign-tags",
        "a pipeline whose update of its own stack removes deployer's tags is recognized, tagged and deleted",
        files={"own.json": '{"Tags": {"team": "shop"}}'},
    ),
    Case("self-update-last", "the pipeline's own stack is deleted after the stacks that its role made"),
    Case(
        "stackset",
        "a StackSet is listed on the receipt and never deleted",
        outcome="failed",
        reason=r"simulat",
        left=(Left(r"StackSet everywhere", r"."),),
    ),
    Case("tagged-stack", "a stack with deployer's tags goes with its branch"),
    Case(
        "two-pipelines",
        "a second pipeline in the template is rejected, because deployer starts one",
        errors=(Expected(r"Second:|Properties:|Type: AWS::CodePipeline", r"Second .*second pipeline"),),
        outcome="rejected",
        reason=r"second pipeline",
    ),
    Case("two-sources", "the commit is pinned on the source that reads this repository"),
    Case(
        "untagged-stack",
        "a stack without deployer's tags is rejected with a permissions boundary, otherwise recorded and deleted",
        bounded=(Expected(r"", r"TemplateConfiguration"),),
    ),
    Case("variable-stack-name", "a stack that a variable of the pipeline names is found and deleted"),
    Case(
        "described-resources",
        "a Description beside the Type of a resource, as AWS CodeStar wrote it, is a matter of style",
    ),
    Case(
        "event-rule",
        "a rule that starts the pipeline by the clock is rejected",
        errors=(Expected(r"Id: pipeline|Arn:|Nightly", r"Nightly starts the pipeline"),),
        outcome="rejected",
        reason=r"Nightly starts the pipeline",
    ),
    Case("function-invoked", "a pipeline that invokes a function of its own stack is deployed"),
    Case(
        "image-source",
        "a pipeline that reads only an image is rejected, because no commit of this repository runs",
        errors=(Expected(r"Provider: ECR|Name: Source", _NO_SOURCE),),
        outcome="rejected",
        reason=_NO_SOURCE,
    ),
    Case(
        "object-side-source",
        "an object that AWS watches would start the pipeline, so it is rejected with the line to write",
        errors=(Expected(r"S3ObjectKey", rf"{_STARTS}.*PollForSourceChanges: false"),),
        outcome="rejected",
        reason=r"PollForSourceChanges: false",
    ),
    Case(
        "pipeline-by-condition", "of two pipelines behind conditions that exclude each other, one is deployed"
    ),
    Case("source-by-condition", "a source action whose provider a parameter chooses is deployed"),
    Case("stack-deleted-by-action", "a stack that the pipeline itself deletes is not missed by the deletion"),
    Case(
        "v2-triggers",
        "Triggers of a pipeline are rejected",
        errors=(Expected(r"Triggers:|ProviderType", rf"{_STARTS} by its Triggers"),),
        outcome="rejected",
        reason=r"Triggers",
    ),
    Case(
        "webhook",
        "a webhook that starts the pipeline is rejected",
        errors=(Expected(r"Hook:|Type: AWS::CodePipeline::Webhook", r"Hook starts the pipeline"),),
        outcome="rejected",
        reason=r"Hook starts the pipeline",
    ),
)


def slug(name: str) -> str:
    """A row's name as the name of a repository."""
    return re.sub(r"[^a-z0-9]+", "-", name)
