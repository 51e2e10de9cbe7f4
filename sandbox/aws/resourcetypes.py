"""The handlers of all known resource types."""

from __future__ import annotations

from sandbox.aws.ecrresources import RepositoryHandler
from sandbox.aws.executions import Pipelines
from sandbox.aws.motoresources import (
    BucketHandler,
    BucketPolicyHandler,
    MotoHandler,
    ParameterHandler,
    RoleHandler,
    RuleHandler,
)
from sandbox.aws.nestedstacks import NestedStackHandler
from sandbox.aws.piperesources import PipelineHandler, ProjectHandler
from sandbox.aws.places import Place
from sandbox.aws.resources import Handler, InertHandler
from sandbox.aws.stacks import Stacks

_MOTO_TYPES: dict[str, tuple[str, str, str | None]] = {
    "AWS::DynamoDB::Table": ("dynamodb", "Table", "TableName"),
    "AWS::IAM::InstanceProfile": ("iam", "InstanceProfile", "InstanceProfileName"),
    "AWS::IAM::ManagedPolicy": ("iam", "ManagedPolicy", "ManagedPolicyName"),
    "AWS::IAM::Policy": ("iam", "InlinePolicy", None),
    "AWS::IAM::User": ("iam", "User", "UserName"),
    "AWS::KMS::Key": ("kms", "Key", None),
    "AWS::Lambda::Function": ("awslambda", "LambdaFunction", "FunctionName"),
    "AWS::Logs::LogGroup": ("logs", "LogGroup", "LogGroupName"),
    "AWS::SNS::Topic": ("sns", "Topic", "TopicName"),
    "AWS::SQS::Queue": ("sqs", "Queue", "QueueName"),
}

_INERT_TYPES = (
    "AWS::CloudFormation::WaitCondition",
    "AWS::CloudFormation::WaitConditionHandle",
    "AWS::CloudFront::Distribution",
    "AWS::CloudFront::OriginAccessControl",
    "AWS::CloudWatch::Alarm",
    "AWS::CodePipeline::CustomActionType",
    "AWS::CodePipeline::Webhook",
    "AWS::CodeConnections::Connection",
    "AWS::CodeStarConnections::Connection",
    "AWS::CodeStarNotifications::NotificationRule",
    "AWS::Events::ApiDestination",
    "AWS::Events::Connection",
    "AWS::KMS::Alias",
    "AWS::Lambda::Permission",
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
)


def handlers_by_type(
    place: Place, stacks: Stacks, pipelines: Pipelines, projects: ProjectHandler
) -> dict[str, Handler]:
    """The handlers of a region, by resource type."""
    inert = InertHandler(place)
    return {
        **dict.fromkeys(_INERT_TYPES, inert),
        **{kind: MotoHandler(place, *where) for kind, where in _MOTO_TYPES.items()},
        "AWS::ECR::Repository": RepositoryHandler(place, "ecr", "Repository", "RepositoryName"),
        "AWS::Events::Rule": RuleHandler(place, "events", "Rule", "Name"),
        "AWS::IAM::Role": RoleHandler(place, "iam", "Role", "RoleName"),
        "AWS::SSM::Parameter": ParameterHandler(place, "ssm", "Parameter", "Name"),
        "AWS::S3::Bucket": BucketHandler(place, "s3", "FakeBucket", "BucketName", 63),
        "AWS::S3::BucketPolicy": BucketPolicyHandler(place),
        "AWS::CloudFormation::Stack": NestedStackHandler(place, stacks),
        "AWS::CodeBuild::Project": projects,
        "AWS::CodePipeline::Pipeline": PipelineHandler(place, pipelines),
    }
