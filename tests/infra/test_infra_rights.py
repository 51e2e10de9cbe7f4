"""Tests of the permissions of each role in `infra/`, as rows of role, action, resource with tags, and result."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from rendered import ACCOUNT, CONNECTION, EXTERNAL_ID, INSTALLATION_ROLE, REGION, render, target
from rights_kit import (
    ADMINISTRATOR,
    ALLOWED,
    DENIED,
    EVENTS,
    FUNCTION,
    IAM,
    KINDS,
    OTHERS,
    PIPELINE,
    PROJECT,
    SSM,
    STACK,
    Row,
    artifacts,
    both,
    boundary,
    bounded_by,
    branch_role,
    check,
    passed_to,
    service_role,
    tagged,
    tagging,
    working_as,
)

from sandbox.aws.policies import Principal, Request, denied_by, trusts

# --- deployer itself -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "other"), OTHERS)
def test_deployer_works_on_stacks_of_the_kind_with_the_kinds_service_role_only(kind: str, other: str) -> None:
    own, theirs = working_as(service_role(kind)), working_as(service_role(other))
    create, update, delete = (f"cloudformation:{verb}Stack" for verb in ("Create", "Update", "Delete"))
    check(
        [
            ("deployer", create, STACK, {**tagging(kind), **own}, ALLOWED),
            ("deployer", create, STACK, tagging(kind), DENIED),
            ("deployer", create, STACK, {**tagging(kind), **theirs}, DENIED),
            ("deployer", create, STACK, {**tagging(kind), **working_as(f"{IAM}:role/Admin")}, DENIED),
            ("deployer", create, STACK, {**tagging(other), **own}, DENIED),
            ("deployer", create, STACK, own, DENIED),
            ("deployer", update, STACK, {**tagged(kind), **tagging(kind), **own}, ALLOWED),
            ("deployer", update, STACK, {**tagged(kind), **tagging(kind)}, DENIED),
            ("deployer", update, STACK, {**tagged(kind), **tagging(kind), **theirs}, DENIED),
            ("deployer", update, STACK, {**tagged(kind), **tagging(other), **own}, DENIED),
            ("deployer", update, STACK, {**tagged(other), **tagging(kind), **own}, DENIED),
            ("deployer", update, STACK, {**tagging(kind), **own}, DENIED),
            ("deployer", delete, STACK, tagged(kind), ALLOWED),
            ("deployer", delete, STACK, {**tagged(kind), **own}, ALLOWED),
            ("deployer", delete, STACK, {**tagged(kind), **theirs}, DENIED),
            ("deployer", delete, STACK, tagged(other), DENIED),
            ("deployer", delete, STACK, {"aws:ResourceTag/deployer:environment": kind}, DENIED),
            ("deployer", delete, STACK, {}, DENIED),
            ("deployer", "cloudformation:ContinueUpdateRollback", STACK, tagged(kind), ALLOWED),
            ("deployer", "cloudformation:ContinueUpdateRollback", STACK, tagged(other), DENIED),
            ("deployer", "cloudformation:ContinueUpdateRollback", STACK, {}, DENIED),
            ("deployer", "cloudformation:UpdateTerminationProtection", STACK, tagged(kind), ALLOWED),
            ("deployer", "cloudformation:UpdateTerminationProtection", STACK, tagged(other), DENIED),
            ("deployer", "cloudformation:TagResource", STACK, tagging(kind), ALLOWED),
            ("deployer", "cloudformation:TagResource", STACK, tagging(other), DENIED),
            ("deployer", "cloudformation:UntagResource", STACK, tagged(kind), ALLOWED),
            ("deployer", "cloudformation:UntagResource", STACK, tagged(other), DENIED),
            ("deployer", "cloudformation:SetStackPolicy", STACK, tagged(kind), DENIED),
            ("deployer", "cloudformation:CreateChangeSet", STACK, {**tagging(kind), **own}, DENIED),
        ],
        kind,
    )


@pytest.mark.parametrize(("kind", "other"), OTHERS)
def test_deployer_reads_stacks_and_pipelines_and_runs_those_of_the_kind(kind: str, other: str) -> None:
    start, stop = "codepipeline:StartPipelineExecution", "codepipeline:StopPipelineExecution"
    check(
        [
            ("deployer", "cloudformation:DescribeStacks", "*", {}, ALLOWED),
            ("deployer", "cloudformation:DescribeStacks", STACK, tagged(other), ALLOWED),
            ("deployer", "cloudformation:DescribeStackEvents", STACK, {}, ALLOWED),
            ("deployer", "cloudformation:ListStackResources", STACK, {}, ALLOWED),
            ("deployer", "cloudformation:DescribeAccountLimits", "*", {}, ALLOWED),
            ("deployer", "cloudformation:GetTemplate", STACK, tagged(kind), ALLOWED),
            ("deployer", "cloudformation:GetTemplate", STACK, tagged(other), DENIED),
            ("deployer", "cloudformation:GetTemplate", STACK, {}, DENIED),
            ("deployer", "codepipeline:GetPipeline", PIPELINE, {}, ALLOWED),
            ("deployer", "codepipeline:ListPipelines", "*", {}, ALLOWED),
            ("deployer", start, PIPELINE, tagged(kind), ALLOWED),
            ("deployer", start, PIPELINE, tagged(other), DENIED),
            ("deployer", start, PIPELINE, {}, DENIED),
            ("deployer", stop, PIPELINE, tagged(kind), ALLOWED),
            ("deployer", stop, PIPELINE, tagged(other), DENIED),
            ("deployer", "codepipeline:UpdatePipeline", PIPELINE, tagged(kind), DENIED),
            ("deployer", "codepipeline:PutApprovalResult", f"{PIPELINE}/Deploy/Ok", tagged(kind), DENIED),
        ],
        kind,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_deployer_cannot_change_stacks_with_only_some_of_its_tags(kind: str) -> None:
    own, rows = working_as(service_role(kind)), list[Row]()
    for part in tagged(kind).items():
        for action in (
            "DeleteStack",
            "ContinueUpdateRollback",
            "RollbackStack",
            "UpdateTerminationProtection",
            "GetTemplate",
        ):
            rows.append(("deployer", f"cloudformation:{action}", STACK, dict([part]), DENIED))
        update = {**dict([part]), **tagging(kind), **own}
        rows.append(("deployer", "cloudformation:UpdateStack", STACK, update, DENIED))
        rows.append(("deployer", "cloudformation:UntagResource", STACK, dict([part]), DENIED))
        for action in ("StartPipelineExecution", "StopPipelineExecution"):
            rows.append(("deployer", f"codepipeline:{action}", PIPELINE, dict([part]), DENIED))
    for part in ("managed", "environment"):
        given = {key: value for key, value in tagging(kind).items() if not key.endswith(part)}
        rows.append(("deployer", "cloudformation:CreateStack", STACK, {**given, **own}, DENIED))
        update = {**tagged(kind), **given, **own}
        rows.append(("deployer", "cloudformation:UpdateStack", STACK, update, DENIED))
    check(rows, kind)


@pytest.mark.parametrize(("kind", "other"), OTHERS)
def test_deployer_passes_one_role_to_one_service(kind: str, other: str) -> None:
    check(
        [
            ("deployer", "iam:PassRole", service_role(kind), passed_to("cloudformation"), ALLOWED),
            ("deployer", "iam:PassRole", service_role(kind), passed_to("lambda"), DENIED),
            ("deployer", "iam:PassRole", service_role(other), passed_to("cloudformation"), DENIED),
            ("deployer", "iam:PassRole", branch_role(kind), passed_to("cloudformation"), DENIED),
            ("deployer", "iam:CreateRole", branch_role(kind), bounded_by(boundary(kind)), DENIED),
            ("deployer", "sts:AssumeRole", service_role(kind), {}, DENIED),
            ("deployer", "sts:AssumeRole", branch_role(kind), {}, DENIED),
            ("deployer", "ssm:GetParameter", f"{SSM}/deployer/github-token", {}, DENIED),
        ],
        kind,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_deployer_empties_buckets_in_development_only(kind: str) -> None:
    here, bucket = {"s3:ResourceAccount": ACCOUNT}, "arn:aws:s3:::hello-x-732a3cad0f-app-sitebucket-1k"
    emptied = kind == "development"
    check(
        [
            ("deployer", "s3:ListBucketVersions", bucket, here, emptied),
            ("deployer", "s3:ListBucketMultipartUploads", bucket, here, emptied),
            ("deployer", "s3:DeleteObject", f"{bucket}/index.html", here, emptied),
            ("deployer", "s3:DeleteObjectVersion", f"{bucket}/index.html", here, emptied),
            ("deployer", "s3:AbortMultipartUpload", f"{bucket}/index.html", here, emptied),
            ("deployer", "s3:DeleteObjectVersion", f"{bucket}/a", {"s3:ResourceAccount": "9" * 12}, DENIED),
            ("deployer", "s3:DeleteObjectVersion", "arn:aws:s3:::acme-customers-1/a", here, DENIED),
            ("deployer", "s3:DeleteObjectVersion", f"{artifacts(kind)}/a/b", here, DENIED),
            ("deployer", "s3:DeleteObject", f"{artifacts('production')}/a/b", here, DENIED),
            ("deployer", "s3:GetObject", f"{bucket}/index.html", here, DENIED),
            ("deployer", "s3:DeleteBucket", bucket, here, DENIED),
            ("deployer", "s3:BypassGovernanceRetention", f"{bucket}/index.html", here, DENIED),
        ],
        kind,
    )


@pytest.mark.parametrize(("kind", "other"), OTHERS)
def test_deployer_deletes_images_and_build_logs_in_development_only(kind: str, other: str) -> None:
    repository = f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/hello-x-app-images"
    logs = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group"
    deletes = kind == "development"
    check(
        [
            ("deployer", "ecr:ListImages", repository, tagged(kind), deletes),
            ("deployer", "ecr:BatchDeleteImage", repository, tagged(kind), deletes),
            ("deployer", "ecr:BatchDeleteImage", repository, tagged(other), DENIED),
            ("deployer", "ecr:BatchDeleteImage", repository, {}, DENIED),
            ("deployer", "ecr:DeleteRepository", repository, tagged(kind), DENIED),
            ("deployer", "logs:DescribeLogGroups", f"{logs}:*", {}, ALLOWED),
            ("deployer", "logs:DeleteLogGroup", f"{logs}:/aws/codebuild/hello-x-build:*", {}, deletes),
            ("deployer", "logs:DeleteLogGroup", f"{logs}:/aws/lambda/hello:*", {}, DENIED),
            ("deployer", "logs:DeleteLogGroup", f"{logs}:/aws/codebuild", {}, DENIED),
        ],
        kind,
    )


def test_the_buckets_that_development_may_empty_can_be_told_by_name() -> None:
    deployer = target("development", EmptiedBuckets="hello-*").principal("DeployerRole")
    here = {"s3:ResourceAccount": ACCOUNT}
    assert deployer.may(Request("s3:DeleteObjectVersion", "arn:aws:s3:::hello-x/a", here))
    assert not deployer.may(Request("s3:DeleteObjectVersion", "arn:aws:s3:::other-x/a", here))


@pytest.mark.parametrize(("kind", "other"), OTHERS)
def test_deployer_stores_templates_and_reads_no_artifacts(kind: str, other: str) -> None:
    template, here = "deployer/templates/ab12.template", {"s3:ResourceAccount": ACCOUNT}
    check(
        [
            ("deployer", "s3:PutObject", f"{artifacts(kind)}/{template}", here, ALLOWED),
            ("deployer", "s3:GetObject", f"{artifacts(kind)}/{template}", here, ALLOWED),
            ("deployer", "s3:PutObject", f"{artifacts(kind)}/hello/SourceOut/a1", here, DENIED),
            ("deployer", "s3:GetObject", f"{artifacts(kind)}/hello/SourceOut/a1", here, DENIED),
            ("deployer", "s3:PutObject", f"{artifacts(other)}/{template}", here, DENIED),
            ("deployer", "s3:PutBucketPolicy", artifacts(kind), here, DENIED),
        ],
        kind,
    )


# --- what branch code reaches, by its template or by the roles that the template makes -------------------------------


@pytest.mark.parametrize(("kind", "other"), OTHERS)
def test_branch_code_makes_roles_only_with_the_boundary_and_under_the_path(kind: str, other: str) -> None:
    own, theirs = bounded_by(boundary(kind)), bounded_by(boundary(other))
    rows: list[Row] = []
    for action in ("CreateRole", "PutRolePolicy", "AttachRolePolicy", "DetachRolePolicy", "DeleteRolePolicy"):
        rows += both(f"iam:{action}", branch_role(kind), own, ALLOWED)
        rows += both(f"iam:{action}", branch_role(kind), {}, DENIED)
        rows += both(f"iam:{action}", branch_role(kind), theirs, DENIED)
        rows += both(f"iam:{action}", branch_role(kind), bounded_by(f"{IAM}:policy/Mine"), DENIED)
        rows += both(f"iam:{action}", branch_role(other), own, DENIED)
        rows += both(f"iam:{action}", f"{IAM}:role/hello-x-BuildRole-4K2", own, DENIED)
        rows += both(f"iam:{action}", service_role(kind), own, DENIED)
    for action in ("DeleteRole", "UpdateAssumeRolePolicy", "GetRole", "TagRole"):
        rows += both(f"iam:{action}", branch_role(kind), {}, ALLOWED)
        rows += both(f"iam:{action}", branch_role(other), {}, DENIED)
        rows += both(f"iam:{action}", f"{IAM}:role/deployer-own/deployer-{kind}", {}, DENIED)
        rows += both(f"iam:{action}", f"{IAM}:role/Admin", {}, DENIED)
    check(rows, kind)


@pytest.mark.parametrize(("kind", "other"), OTHERS)
def test_branch_code_cannot_take_off_or_widen_the_boundary(kind: str, other: str) -> None:
    own = bounded_by(boundary(kind))
    rows: list[Row] = []
    rows += both("iam:DeleteRolePermissionsBoundary", branch_role(kind), own, DENIED)
    rows += both("iam:PutRolePermissionsBoundary", branch_role(kind), own, ALLOWED)
    rows += both("iam:PutRolePermissionsBoundary", branch_role(kind), bounded_by(boundary(other)), DENIED)
    rows += both("iam:PutRolePermissionsBoundary", service_role(kind), own, DENIED)
    for action in ("CreatePolicyVersion", "SetDefaultPolicyVersion", "DeletePolicyVersion", "DeletePolicy"):
        rows += both(f"iam:{action}", boundary(kind), {}, DENIED)
        rows += both(f"iam:{action}", boundary(other), {}, DENIED)
        rows += both(f"iam:{action}", f"{IAM}:policy/deployer/{kind}/hello-Read-1X", {}, ALLOWED)
        rows += both(f"iam:{action}", f"{IAM}:policy/deployer/{other}/hello-Read-1X", {}, DENIED)
    for action in (
        "CreateUser",
        "CreateAccessKey",
        "PutUserPolicy",
        "AttachUserPolicy",
        "CreateLoginProfile",
    ):
        rows += both(f"iam:{action}", f"{IAM}:user/eve", own, DENIED)
    rows += both("iam:CreateOpenIDConnectProvider", f"{IAM}:oidc-provider/eve.example", {}, DENIED)
    rows += both("organizations:LeaveOrganization", "*", {}, DENIED)
    rows += both("account:CloseAccount", "*", {}, DENIED)
    check(rows, kind)


@pytest.mark.parametrize(("kind", "other"), OTHERS)
def test_branch_code_passes_and_assumes_roles_of_its_kind_only(kind: str, other: str) -> None:
    rows: list[Row] = []
    for service in ("lambda", "codebuild", "codepipeline", "cloudformation"):
        rows += both("iam:PassRole", branch_role(kind), passed_to(service), ALLOWED)
        rows += both("iam:PassRole", branch_role(other), passed_to(service), DENIED)
        rows += both("iam:PassRole", service_role(kind), passed_to(service), DENIED)
        rows += both("iam:PassRole", service_role(other), passed_to(service), DENIED)
        rows += both("iam:PassRole", f"{IAM}:role/Admin", passed_to(service), DENIED)
    rows += both("iam:PassRole", branch_role(kind), passed_to("ssm"), DENIED)
    rows += both("sts:AssumeRole", branch_role(kind), {}, ALLOWED)
    for role in (branch_role(other), service_role(other), service_role(kind), f"{IAM}:role/Admin"):
        rows += both("sts:AssumeRole", role, {}, DENIED)
    rows += both("sts:AssumeRole", f"{IAM}:role/deployer-own/deployer-{other}", {}, DENIED)
    rows += both("sts:AssumeRole", "arn:aws:iam::999999999999:role/Elsewhere", {}, DENIED)
    profile = "instance-profile/deployer"
    rows += both("iam:AddRoleToInstanceProfile", f"{IAM}:{profile}/{kind}/a", {}, ALLOWED)
    rows += both("iam:AddRoleToInstanceProfile", f"{IAM}:{profile}/{other}/a", {}, DENIED)
    check(rows, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_role_that_the_installation_allows_may_be_passed_and_no_more(kind: str) -> None:
    allowed = f"{IAM}:role/shared/Reader"
    made = target(kind, AllowedRoles=f"{IAM}:role/shared/*")
    for role in (made.principal("ServiceRole"), Principal([ADMINISTRATOR], made.document("Boundary"))):
        assert role.may(Request("iam:PassRole", allowed, passed_to("lambda")))
        assert not role.may(Request("iam:PassRole", allowed, passed_to("ssm")))
        assert not role.may(Request("iam:PassRole", f"{IAM}:role/Admin", passed_to("lambda")))
        assert not role.may(Request("iam:PassRole", service_role(kind), passed_to("lambda")))
        assert not role.may(Request("iam:PutRolePolicy", allowed, bounded_by(boundary(kind))))
        assert not role.may(Request("sts:AssumeRole", allowed))


@pytest.mark.parametrize(("kind", "other"), OTHERS)
def test_branch_code_changes_only_stacks_of_its_kind(kind: str, other: str) -> None:
    rows: list[Row] = []
    rows += both("cloudformation:CreateStack", STACK, tagging(kind), ALLOWED)
    rows += both("cloudformation:CreateStack", STACK, tagging(other), DENIED)
    rows += both("cloudformation:CreateStack", STACK, {}, DENIED)
    rows += both("cloudformation:CreateChangeSet", STACK, {**tagged(other), **tagging(kind)}, DENIED)
    rows += both("cloudformation:CreateChangeSet", STACK, tagging(kind), ALLOWED)
    rows += both("cloudformation:TagResource", STACK, tagging(kind), ALLOWED)
    transform = f"arn:aws:cloudformation:{REGION}:aws:transform/Serverless-2016-10-31"
    rows += both("cloudformation:CreateChangeSet", transform, {}, ALLOWED)
    rows += both("cloudformation:UpdateStack", transform, {}, DENIED)
    for action in (
        "CancelUpdateStack",
        "ContinueUpdateRollback",
        "CreateChangeSet",
        "DeleteChangeSet",
        "DeleteStack",
        "ExecuteChangeSet",
        "RollbackStack",
        "UpdateStack",
    ):
        rows += both(f"cloudformation:{action}", STACK, tagged(kind), ALLOWED)
        rows += both(f"cloudformation:{action}", STACK, tagged(other), DENIED)
        # a stranger's stack may hold a role with any rights
        rows += both(f"cloudformation:{action}", STACK, {}, DENIED)
    rows += both("cloudformation:UpdateStack", STACK, {**tagged(kind), **tagging(other)}, DENIED)
    for action in ("UpdateStack", "CreateChangeSet"):
        # the tags of a request replace those of the stack
        foreign = {"aws:RequestTag/team": "a", "aws:TagKeys": ["team"]}
        more = {**tagging(kind), "aws:RequestTag/team": "a", "aws:TagKeys": ["team", "deployer:environment"]}
        rows += both(f"cloudformation:{action}", STACK, {**tagged(kind), **foreign}, DENIED)
        rows += both(f"cloudformation:{action}", STACK, {**tagged(kind), **more}, ALLOWED)
    rows += both("cloudformation:TagResource", STACK, {**tagged(other), **tagging(kind)}, DENIED)
    # it removes a tag only together with UpdateStack
    rows += both("cloudformation:UntagResource", STACK, {**tagged(kind), "aws:TagKeys": ["team"]}, ALLOWED)
    rows += both("cloudformation:UntagResource", STACK, tagged(other), DENIED)
    rows += both("cloudformation:UpdateTerminationProtection", STACK, tagged(kind), DENIED)
    rows += both("cloudformation:SetStackPolicy", STACK, tagged(other), DENIED)
    rows += both("cloudformation:CreateStackSet", "*", tagging(kind), DENIED)
    rows += both("cloudformation:DescribeStacks", STACK, tagged(kind), ALLOWED)
    check(rows, kind)


@pytest.mark.parametrize(("kind", "other"), OTHERS)
def test_branch_code_cannot_access_resources_with_another_kinds_tag(kind: str, other: str) -> None:
    rows: list[Row] = []
    for action, resource in (
        ("codepipeline:UpdatePipeline", PIPELINE),
        ("codepipeline:StartPipelineExecution", PIPELINE),
        ("codepipeline:PutApprovalResult", f"{PIPELINE}/Deploy/Ok"),
        ("codepipeline:DeletePipeline", PIPELINE),
        ("codebuild:UpdateProject", PROJECT),
        ("codebuild:StartBuild", PROJECT),
        ("lambda:UpdateFunctionCode", FUNCTION),
        ("lambda:InvokeFunction", FUNCTION),
        ("dynamodb:Scan", f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/orders"),
        ("sqs:ReceiveMessage", f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders"),
    ):
        rows += both(action, resource, tagged(kind), ALLOWED)
        rows += both(action, resource, tagged(other), DENIED)
        rows += both(action, resource, tagged("Production "), DENIED)
    rows += both("lambda:CreateFunction", FUNCTION, tagging(kind), ALLOWED)
    rows += both("lambda:CreateFunction", FUNCTION, tagging(other), DENIED)
    rows += both("lambda:TagResource", FUNCTION, {**tagged(other), **tagging(kind)}, DENIED)
    rows += both("s3:PutObject", "arn:aws:s3:::acme-customers-1/list.csv", {}, DENIED)
    rows += both("s3:GetObject", "arn:aws:s3:::acme-customers-1/list.csv", {}, DENIED)
    check(rows, kind)


@pytest.mark.parametrize(("kind", "other"), OTHERS)
def test_branch_code_cannot_access_deployers_own_resources(kind: str, other: str) -> None:
    rows: list[Row] = []
    for action, resource in (
        ("ssm:GetParameter", f"{SSM}/deployer/github-token"),
        ("ssm:PutParameter", f"{SSM}/deployer/targets"),
        ("ssm:GetParametersByPath", f"{SSM}/"),
        ("ssm:GetParametersByPath", f"{SSM}/deployer"),
        ("secretsmanager:GetSecretValue", f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:deployer/key-x"),
        ("events:PutTargets", f"{EVENTS}:rule/deployer_events"),
        ("events:DeleteRule", f"{EVENTS}:rule/deployer_events"),
        ("events:UpdateConnection", f"{EVENTS}:connection/deployer_webhook/1"),
        ("events:UpdateApiDestination", f"{EVENTS}:api-destination/deployer_webhook/1"),
        ("events:InvokeApiDestination", f"{EVENTS}:api-destination/deployer_webhook/1"),
        ("sqs:PurgeQueue", f"arn:aws:sqs:{REGION}:{ACCOUNT}:deployer_undelivered"),
        ("cloudwatch:DeleteAlarms", f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:deployer_undelivered"),
    ):
        rows += both(action, resource, {}, DENIED)
    rows += both("ssm:GetParameter", f"{SSM}/hello/{kind}/url", {}, ALLOWED)
    rows += both("events:PutTargets", f"{EVENTS}:rule/hello-x-Rule-1K", {}, ALLOWED)
    for action in ("PutBucketPolicy", "DeleteBucket", "PutBucketVersioning", "PutLifecycleConfiguration"):
        rows += both(f"s3:{action}", artifacts(kind), {}, DENIED)
        rows += both(f"s3:{action}", "arn:aws:s3:::hello-x-sitebucket-1k", {}, ALLOWED)
    for action in ("GetObject", "PutObject", "GetObjectVersion"):
        rows += both(f"s3:{action}", f"{artifacts(kind)}/hello/SourceOut/a1", {}, ALLOWED)
        rows += both(f"s3:{action}", f"{artifacts(other)}/hello/SourceOut/a1", {}, DENIED)
    for action in ("ListBucket", "GetBucketVersioning", "GetBucketLocation", "GetBucketAcl"):
        rows += both(f"s3:{action}", artifacts(kind), {}, ALLOWED)
        rows += both(f"s3:{action}", artifacts(other), {}, DENIED)
    rows += both("s3:AbortMultipartUpload", f"{artifacts(kind)}/hello/SourceOut/a1", {}, ALLOWED)
    rows += both("s3:DeleteObjectVersion", f"{artifacts(kind)}/hello/SourceOut/a1", {}, DENIED)
    rows += both("s3:PutObject", f"{artifacts(kind)}/deployer/templates/ab12.template", {}, DENIED)
    check(rows, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_more_services_give_no_access_to_deployers_own_resources(kind: str) -> None:
    made = target(kind, Services="ssm:*,secretsmanager:*")
    secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret"
    event_key = f"{secret}:events!connection/deployer_webhook/1b-x"
    for role in (
        made.principal("ServiceRole"),
        Principal([ADMINISTRATOR], made.document("Boundary")),
    ):
        assert role.may(Request("ssm:GetParametersByPath", f"{SSM}/hello"))
        assert not role.may(Request("ssm:GetParametersByPath", f"{SSM}/"))
        assert not role.may(Request("ssm:GetParametersByPath", f"{SSM}/deployer"))
        assert not role.may(Request("ssm:GetParametersByPath", f"{SSM}/deployer/more"))
        assert not role.may(Request("ssm:GetParameterHistory", f"{SSM}/deployer/github-token"))
        assert role.may(Request("secretsmanager:GetSecretValue", f"{secret}:hello-x"))
        assert not role.may(Request("secretsmanager:GetSecretValue", f"{secret}:deployer/aws-event-key-x"))
        assert not role.may(Request("secretsmanager:GetSecretValue", event_key))


@pytest.mark.parametrize("kind", KINDS)
def test_a_service_role_makes_what_the_samples_templates_hold(kind: str) -> None:
    bucket = "arn:aws:s3:::hello-x-732a3cad0f-app-sitebucket-1k"
    made = bounded_by(boundary(kind))
    check(
        [
            ("service", "codepipeline:CreatePipeline", PIPELINE, tagging(kind), ALLOWED),
            ("service", "codepipeline:TagResource", PIPELINE, tagging(kind), ALLOWED),
            ("service", "codepipeline:UpdatePipeline", PIPELINE, tagged(kind), ALLOWED),
            ("service", "codebuild:CreateProject", PROJECT, tagging(kind), ALLOWED),
            ("service", "iam:CreateRole", branch_role(kind), {**made, **tagging(kind)}, ALLOWED),
            ("service", "iam:PassRole", branch_role(kind), passed_to("codepipeline"), ALLOWED),
            ("service", "codeconnections:PassConnection", CONNECTION, {}, ALLOWED),
            ("branch", "s3:CreateBucket", bucket, {}, ALLOWED),
            ("branch", "s3:PutBucketTagging", bucket, {}, ALLOWED),
            ("branch", "s3:PutObject", f"{bucket}/index.html", {}, ALLOWED),
            (
                "branch",
                "logs:PutLogEvents",
                f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/a:log-stream:b",
                {},
                ALLOWED,
            ),
            ("branch", "codebuild:StartBuild", PROJECT, tagged(kind), ALLOWED),
            ("branch", "ec2:RunInstances", "*", {}, DENIED),
        ],
        kind,
    )


# --- who may be which role -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("who", "external_id", "allowed"),
    [
        (INSTALLATION_ROLE, EXTERNAL_ID, ALLOWED),
        (INSTALLATION_ROLE, "another", DENIED),
        (INSTALLATION_ROLE, None, DENIED),
        (branch_role("development"), EXTERNAL_ID, DENIED),
        (f"{IAM}:role/Admin", EXTERNAL_ID, DENIED),
    ],
)
def test_only_the_installation_role_with_the_external_id_assumes_deployers_role(
    kind: str, who: str, external_id: str | None, *, allowed: bool
) -> None:
    context = {"sts:ExternalId": external_id} if external_id else {}
    request = Request("sts:AssumeRole", context=context)
    assert trusts(target(kind).trust("DeployerRole"), request, {"AWS": who}) == allowed


@pytest.mark.parametrize(
    ("service", "account", "allowed"),
    [
        ("cloudformation", ACCOUNT, ALLOWED),
        ("cloudformation", "9" * 12, DENIED),
        ("lambda", ACCOUNT, DENIED),
        ("codebuild", ACCOUNT, DENIED),
    ],
)
def test_only_cloudformation_works_as_the_service_role(service: str, account: str, *, allowed: bool) -> None:
    request = Request("sts:AssumeRole", context={"aws:SourceAccount": account})
    who = {"Service": f"{service}.amazonaws.com"}
    assert trusts(target("production").trust("ServiceRole"), request, who) == allowed


@pytest.mark.parametrize(
    ("action", "resource", "context", "allowed"),
    [
        ("sts:AssumeRole", f"{IAM}:role/deployer-own/deployer-development", {}, ALLOWED),
        ("sts:AssumeRole", f"{IAM}:role/deployer-own/deployer-production", {}, DENIED),
        ("sts:AssumeRole", f"{IAM}:role/Admin", {}, DENIED),
        ("ssm:GetParameter", f"{SSM}/deployer/github-token", {}, ALLOWED),
        ("ssm:GetParameter", f"{SSM}/hello/url", {}, DENIED),
        ("ssm:PutParameter", f"{SSM}/deployer/github-token", {}, DENIED),
        (
            "secretsmanager:GetSecretValue",
            f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:deployer/a",
            {},
            ALLOWED,
        ),
        (
            "secretsmanager:GetSecretValue",
            f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:other/a",
            {},
            DENIED,
        ),
        ("cloudformation:CreateStack", STACK, tagging("development"), DENIED),
        ("cloudformation:DescribeStacks", "*", {}, DENIED),
        (
            "kms:Decrypt",
            f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1b",
            {"kms:ViaService": f"ssm.{REGION}.amazonaws.com"},
            ALLOWED,
        ),
        (
            "kms:Decrypt",
            f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1b",
            {"kms:ViaService": f"s3.{REGION}.amazonaws.com"},
            DENIED,
        ),
    ],
)
def test_the_installations_own_role_reads_settings_and_becomes_the_named_targets(
    action: str, resource: str, context: Mapping[str, str], *, allowed: bool
) -> None:
    made = render(
        "installation.yml",
        TargetRoles=f"{IAM}:role/deployer-own/deployer-development",
        ParametersKey=f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1b",
    )
    assert made.principal("Role").may(Request(action, resource, context)) == allowed


def test_events_come_from_the_rule_alone() -> None:
    made = render("events.yml", WebhookUrl="https://deployer.example.org/webhooks/aws")
    rule, queue = made.arns["Rule"], made.arns["Undelivered"]
    sender = made.principal("SenderRole")
    assert rule == f"{EVENTS}:rule/deployer_events"
    assert sender.may(Request("events:InvokeApiDestination", made.arns["Destination"]))
    assert not sender.may(Request("events:InvokeApiDestination", f"{EVENTS}:api-destination/other/1"))
    for trust, resource, action in (
        (made.trust("SenderRole"), "*", "sts:AssumeRole"),
        (made.document("UndeliveredPolicy"), queue, "sqs:SendMessage"),
    ):
        for source, allowed in ((rule, ALLOWED), (f"{EVENTS}:rule/other", DENIED)):
            context = {"aws:SourceArn": source, "aws:SourceAccount": ACCOUNT}
            request = Request(action, resource, context)
            assert trusts(trust, request, {"Service": "events.amazonaws.com"}) == allowed


def test_artifacts_travel_encrypted() -> None:
    policy = target("staging").document("ArtifactBucketPolicy")
    resource = f"{artifacts('staging')}/hello/SourceOut/a1"
    assert denied_by(policy, Request("s3:GetObject", resource, {"aws:SecureTransport": "false"}))
    assert not denied_by(policy, Request("s3:GetObject", resource, {"aws:SecureTransport": "true"}))
