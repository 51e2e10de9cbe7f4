"""The handlers of the resource types whose services are simulated."""

from __future__ import annotations

from collections.abc import Callable

from sandbox.aws.detection import Rules
from sandbox.aws.ecrresources import RepositoryHandler
from sandbox.aws.executions import Pipelines
from sandbox.aws.kmsresources import AliasHandler, KeyHandler
from sandbox.aws.motoresources import (
    BucketHandler,
    BucketPolicyHandler,
    ManagedPolicyHandler,
    MotoHandler,
    ParameterHandler,
    RoleHandler,
    RuleHandler,
)
from sandbox.aws.nestedstacks import NestedStackHandler
from sandbox.aws.piperesources import PipelineHandler, ProjectHandler, WebhookHandler
from sandbox.aws.places import Place
from sandbox.aws.resources import Handler
from sandbox.aws.stacks import Stacks
from sandbox.aws.storedresources import WaitHandleHandler

_MOTO_TYPES: dict[str, tuple[str, str, str | None]] = {
    "AWS::DynamoDB::Table": ("dynamodb", "Table", "TableName"),
    "AWS::IAM::InstanceProfile": ("iam", "InstanceProfile", "InstanceProfileName"),
    "AWS::IAM::Policy": ("iam", "InlinePolicy", None),
    "AWS::IAM::User": ("iam", "User", "UserName"),
    "AWS::Lambda::Function": ("awslambda", "LambdaFunction", "FunctionName"),
    "AWS::Logs::LogGroup": ("logs", "LogGroup", "LogGroupName"),
    "AWS::SNS::Topic": ("sns", "Topic", "TopicName"),
    "AWS::SQS::Queue": ("sqs", "Queue", "QueueName"),
}


def handlers_by_type(
    place: Place,
    stacks: Stacks,
    pipelines: Pipelines,
    projects: ProjectHandler,
    rules: Rules,
    address: Callable[[], str],
) -> dict[str, Handler]:
    """The handlers of a region, by resource type; `address` returns the URL of the simulator, which serves websites."""
    return {
        **{kind: MotoHandler(place, *where) for kind, where in _MOTO_TYPES.items()},
        "AWS::CloudFormation::Stack": NestedStackHandler(place, stacks),
        "AWS::CloudFormation::WaitConditionHandle": WaitHandleHandler(
            place, "AWS::CloudFormation::WaitConditionHandle"
        ),
        "AWS::CodeBuild::Project": projects,
        "AWS::CodePipeline::Pipeline": PipelineHandler(place, pipelines),
        "AWS::ECR::Repository": RepositoryHandler(place, "ecr", "Repository", "RepositoryName"),
        "AWS::Events::Rule": RuleHandler(place, rules),
        "AWS::IAM::ManagedPolicy": ManagedPolicyHandler(place, "iam", "ManagedPolicy", "ManagedPolicyName"),
        "AWS::IAM::Role": RoleHandler(place, "iam", "Role", "RoleName"),
        "AWS::KMS::Alias": AliasHandler(place, "kms", "Alias", "AliasName"),
        "AWS::KMS::Key": KeyHandler(place, "kms", "Key"),
        "AWS::S3::Bucket": BucketHandler(place, address),
        "AWS::S3::BucketPolicy": BucketPolicyHandler(place, "AWS::S3::BucketPolicy"),
        "AWS::SSM::Parameter": ParameterHandler(place, "ssm", "Parameter", "Name"),
        "AWS::CodePipeline::Webhook": WebhookHandler(place, pipelines),
    }
