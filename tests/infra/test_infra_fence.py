"""Tests of further limits on branch code: connections, names, other accounts, actions without resources."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rendered import ACCOUNT, CONNECTION, REGION, REPOSITORIES, render, target
from rights_kit import (
    ADMINISTRATOR,
    ALLOWED,
    DENIED,
    IAM,
    KINDS,
    Row,
    artifacts,
    both,
    branch_role,
    check,
    tagged,
    tagging,
)

from deployer.model.environments import NAME_PATTERNS, Environment, Kind, Repository
from deployer.model.refs import Ref
from sandbox.aws.policies import Principal, Request, denied_by, listed

DECISIONS = Path(__file__).parents[2] / "docs/actions-without-resources.yml"
LEGACY = f"arn:aws:codestar-connections:{REGION}:{ACCOUNT}:connection/7f4b"
HASH = "n5q2ohn3x4abcdef"  # 16 characters of a stack's name, between its readable part and the kind's letter
FORMER_HASH = "732a3cad0f"


# --- connections ---------------------------------------------------------------------------------------------------


def using(
    prefix: str, action: str | None, permissions: str | None = "read_only", **more: str
) -> dict[str, str]:
    """The condition keys of a call through a connection; None for a key that AWS does not set."""
    told = {"ProviderAction": action, "ProviderPermissionsRequired": permissions, **more}
    return {f"{prefix}:{key}": value for key, value in told.items() if value is not None}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", ["codeconnections", "codestar-connections"])
def test_branch_code_reads_the_named_repositories_through_a_connection_and_writes_nothing(
    kind: str, prefix: str
) -> None:
    use, rows = f"{prefix}:UseConnection", list[Row]()
    own, foreign = {"FullRepositoryId": "acme/hello"}, {"FullRepositoryId": "other/hello"}
    for action in ("GetBranch", "GitPull", "ListBranches", "StartUploadArchiveToS3"):
        rows += both(use, CONNECTION, using(prefix, action, **own), ALLOWED)
        rows += both(use, CONNECTION, using(prefix, action, **foreign), DENIED)
        rows += both(use, f"{CONNECTION}-other", using(prefix, action, **own), DENIED)
    # an upload has only an id, so AWS sets no repository
    rows += both(use, CONNECTION, using(prefix, "GetUploadArchiveToS3Status"), ALLOWED)
    for action in ("GitPush", "CreateCommit", "CreateCommitStatus", "DeleteRepository", "CreatePullRequest"):
        rows += both(use, CONNECTION, using(prefix, action, "read_write", **own), DENIED)
        rows += both(use, CONNECTION, using(prefix, action, **own), DENIED)
        rows += both(use, CONNECTION, using(prefix, action, None, **own), DENIED)
    rows += both(use, CONNECTION, using(prefix, "GitPull", "read_write", **own), DENIED)
    rows += both(use, CONNECTION, using(prefix, None, **own), DENIED)
    rows += both(use, CONNECTION, {}, DENIED)
    rows += both(f"{prefix}:PassConnection", CONNECTION, {}, ALLOWED)
    # a token of the connection's GitHub App may write
    for action in ("GetConnectionToken", "GetIndividualAccessToken", "UpdateConnectionInstallation"):
        rows += both(f"{prefix}:{action}", CONNECTION, {}, DENIED)
    check(rows, kind)


@pytest.mark.parametrize("text", ["*", "acme", "*/hello", "*/*"])
def test_the_repositories_of_a_connection_have_an_owner(text: str) -> None:
    with pytest.raises(Exception, match="Repositories"):
        target("development", Repositories=text)


@pytest.mark.parametrize("service", ["codeconnections", "codestar-connections"])
def test_a_connections_token_cannot_be_allowed_by_a_parameter(service: str) -> None:
    for action in ("*", "GetConnectionToken", "Get*"):
        with pytest.raises(Exception, match="Services"):
            target("development", Services=f"s3:*,{service}:{action}")


@pytest.mark.parametrize("action", ["GitPush", "CreateCommit", "DeleteRepository", "*", "UpdatePullRequest"])
def test_an_action_that_writes_cannot_be_added_by_a_parameter(action: str) -> None:
    with pytest.raises(Exception, match="ProviderActions"):
        target("development", ProviderActions=f"GetBranch,{action}")


# --- names of other kinds ------------------------------------------------------------------------------------------


def names(name: str) -> Iterator[tuple[str, str]]:
    """What somebody would do first under a name, and on what."""
    stack = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{name}/6f1c5d70-aaaa-11ee-8c90-0242ac120002"
    pipeline = f"arn:aws:codepipeline:{REGION}:{ACCOUNT}:{name}"
    yield from ((f"cloudformation:{action}", stack) for action in ("CreateStack", "CreateChangeSet"))
    yield "codepipeline:CreatePipeline", pipeline


OTHERS_NAMES = {
    "staging": [f"hello-staging-{HASH}s", f"hello-staging-{FORMER_HASH}"],
    "production": [f"hello-production-{HASH}p", f"a-b-production-{HASH}p", f"hello-production-{FORMER_HASH}"],
}
OWN_NAMES = [
    *(
        f"hello-{branch}-{HASH}d"
        for branch in (
            "x", "production", "staging", "production-fix", "fix-production", "production-0123456789abcdef",
            f"staging-{FORMER_HASH}", f"production-{FORMER_HASH}-x",
        )
    ),
    *(f"hello-production-fix-{letter * 16}d" for letter in "abcdefghijklmnopqrstuvwxyz234567"),
    f"hello-production-{HASH}d-app", f"hello-production-fix-{FORMER_HASH}",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_cannot_have_the_name_of_another_kind(kind: str) -> None:
    """Its name could not be used by that kind any more: B11 keeps it off what bears another kind's tag."""
    rows: list[Row] = []
    for named, letter in (("staging", "s"), ("production", "p")):
        for suffix in ("app", "app-1K2J", "x-y"):
            action, stack = next(names(f"hello-{named}-{HASH}{letter}-{suffix}"))
            rows += both(action, stack, tagging(kind), ALLOWED if kind == named else DENIED)
    check(rows, kind)


def test_a_branch_name_like_another_kind_denies_only_its_own_stacks() -> None:
    rows: list[Row] = []
    for branch in (f"production-{HASH}p", "production-databases-cleanup", "staging-sixteen-letters-s"):
        environment = Environment(Repository.parse("acme/hello"), Kind.DEVELOPMENT, Ref.of_branch(branch))
        *stacks, (create, pipeline) = names(environment.stack_name)
        rows += both(create, pipeline, tagging("development"), ALLOWED)
        for action, stack in stacks:
            rows += both(action, stack, tagging("development"), DENIED)
            rows.append(("deployer", "cloudformation:DescribeStacks", stack, {}, ALLOWED))
    check(rows, "development")


def test_development_makes_nothing_under_the_name_of_staging_or_production() -> None:
    rows: list[Row] = []
    for name in [*OTHERS_NAMES["staging"], *OTHERS_NAMES["production"]]:
        for action, resource in names(name):
            rows += both(action, resource, tagging("development"), DENIED)
            rows += both(action, resource, {**tagging("development"), **tagged("development")}, DENIED)
    for name in OWN_NAMES:
        for action, resource in names(name):
            rows += both(action, resource, tagging("development"), ALLOWED)
    check(rows, "development")


@pytest.mark.parametrize(
    "repository", ["acme/hello", "acme/Shop.Web_2", "a-b/c-production", f"acme/{'a' * 100}"]
)
def test_the_names_that_deployer_gives_are_the_ones_that_the_boundary_tells_apart(repository: str) -> None:
    named, rows = Repository.parse(repository), list[Row]()
    for kind in (Kind.STAGING, Kind.PRODUCTION):
        for action, resource in names(Environment(named, kind).stack_name):
            rows += both(action, resource, tagging("development"), DENIED)
    for branch in (
        "x",
        "production",
        "staging",
        "production-fix",
        "x/production",
        "a" * 200,
    ):
        environment = Environment(named, Kind.DEVELOPMENT, Ref.of_branch(branch))
        for action, resource in names(environment.stack_name):
            rows += both(action, resource, tagging("development"), ALLOWED)
    check(rows, "development")


@pytest.mark.parametrize("kind", KINDS)
def test_the_boundary_denies_every_form_of_another_kinds_names(kind: str) -> None:
    named = {
        resource
        for statement in target(kind).document("Boundary")["Statement"]
        if statement["Effect"] == "Deny"
        for resource in listed(statement["Resource"])
        if "?" in resource
    }
    others = [each for each in (Kind.STAGING, Kind.PRODUCTION) if each != kind]
    patterns = [pattern for other in others for pattern in NAME_PATTERNS[other]]
    wanted = {f"arn:*:cloudformation:*:*:stack/{pattern}/*" for pattern in patterns}
    # names that begin with the name of an existing stack, with any suffix of its ARN
    wanted |= {f"arn:*:cloudformation:*:*:stack/{NAME_PATTERNS[other][0]}-*" for other in others}
    assert named == wanted | {f"arn:*:codepipeline:*:*:{pattern}" for pattern in patterns}


@pytest.mark.parametrize(("kind", "other"), [("staging", "production"), ("production", "staging")])
def test_staging_and_production_make_their_own_stacks_and_not_each_others(kind: str, other: str) -> None:
    rows: list[Row] = []
    for named, allowed in ((kind, ALLOWED), (other, DENIED)):
        for name in OTHERS_NAMES[named]:
            for action, resource in names(name):
                rows += both(action, resource, tagging(kind), allowed)
    check(rows, kind)


# --- other accounts, and what is deployer's own --------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_branch_code_writes_to_no_bucket_of_another_account(kind: str) -> None:
    bucket, rows = "arn:aws:s3:::somebodys-bucket", list[Row]()
    foreign, own = {"s3:ResourceAccount": "9" * 12}, {"s3:ResourceAccount": ACCOUNT}
    for action in ("PutObject", "DeleteObject", "PutBucketPolicy", "DeleteBucket", "PutObjectAcl"):
        rows += both(f"s3:{action}", f"{bucket}/a", foreign, DENIED)
        rows += both(f"s3:{action}", f"{bucket}/a", own, ALLOWED)
    # public files of AWS's own, such as a function's code in an example
    for action in ("GetObject", "ListBucket"):
        rows += both(f"s3:{action}", bucket, foreign, ALLOWED)
    check(rows, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_deployer_stores_templates_in_no_bucket_of_another_account(kind: str) -> None:
    template, rows = f"{artifacts(kind)}/deployer/templates/ab12.template", list[Row]()
    for action in ("s3:GetObject", "s3:PutObject"):
        rows.append(("deployer", action, template, {"s3:ResourceAccount": ACCOUNT}, ALLOWED))
        rows.append(("deployer", action, template, {"s3:ResourceAccount": "9" * 12}, DENIED))
        rows.append(("deployer", action, template, {}, DENIED))
    check(rows, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_branch_code_cannot_change_deployers_image_function_and_logs(kind: str) -> None:
    rows: list[Row] = []
    logs = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group"
    for action, resource in (
        ("ecr:PutImage", f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/deployer"),
        ("lambda:UpdateFunctionCode", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:deployer_web"),
        ("lambda:InvokeFunction", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:deployer_web:live"),
        ("logs:GetLogEvents", f"{logs}:/deployer_web:log-stream:a"),
        ("logs:FilterLogEvents", f"{logs}:/aws/lambda/deployer_web"),
        ("logs:DeleteLogGroup", f"{logs}:/ecs/deployer_worker"),
    ):
        rows += both(action, resource, {}, DENIED)
    # a repository may be called deployer as well
    for action, resource in (
        ("ecr:PutImage", f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/deployer-x-{HASH}d-images-1k"),
        ("lambda:UpdateFunctionCode", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:deployer-x-{HASH}d-F-1K"),
        ("logs:GetLogEvents", f"{logs}:/aws/lambda/deployer-x-{HASH}d-F-1K:log-stream:a"),
    ):
        rows += both(action, resource, {}, ALLOWED)
    check(rows, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_deployer_looks_at_the_roles_of_its_kind_and_changes_none(kind: str) -> None:
    own, other = f"{IAM}:role/deployer/{kind}/hello-x-Role-1K", f"{IAM}:role/Admin"
    check(
        [
            ("deployer", "iam:ListRoles", "*", {}, ALLOWED),
            ("deployer", "iam:ListRoleTags", own, {}, ALLOWED),
            ("deployer", "iam:ListRoleTags", other, {}, DENIED),
            ("deployer", "cloudformation:DescribeStackResources", "*", {}, ALLOWED),
            ("deployer", "iam:DeleteRole", own, {}, DENIED),
            ("deployer", "iam:UpdateAssumeRolePolicy", own, {}, DENIED),
        ],
        kind,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_set_for_a_strangers_stack_is_never_executed(kind: str) -> None:
    """A new stack and one without tags look alike to CreateChangeSet; to what executes it they do not."""
    stranger = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/strangers/6f1c"
    rows = both("cloudformation:CreateChangeSet", stranger, tagging(kind), ALLOWED)
    rows += both("cloudformation:ExecuteChangeSet", stranger, {}, DENIED)
    rows += both("cloudformation:UpdateStack", stranger, tagging(kind), DENIED)
    check(rows, kind)


@pytest.mark.parametrize(
    ("told", "denied"),
    [
        ({"aws:PrincipalOrgID": "o-a1b2c3d4e5", "aws:PrincipalIsAWSService": "false"}, False),
        ({"aws:PrincipalOrgID": "o-9999999999", "aws:PrincipalIsAWSService": "false"}, True),
        ({"aws:PrincipalIsAWSService": "false"}, True),  # an account of no organization
        ({"aws:PrincipalIsAWSService": "true"}, False),
        ({}, True),
    ],
)
def test_an_organization_lets_no_stranger_assume_what_branch_code_created(
    told: dict[str, str], *, denied: bool
) -> None:
    made = render("organization.yml", OrganizationId="o-a1b2c3d4e5", TargetIds=ACCOUNT)
    policy = made.resources["OnlyFromWithin"]["Content"]
    for action in ("sts:AssumeRole", "sts:AssumeRoleWithWebIdentity"):
        assert denied_by(policy, Request(action, branch_role("development"), told)) == denied
        assert not denied_by(policy, Request(action, f"{IAM}:role/people/Admin", told))


# --- actions without resources -------------------------------------------------------------------------------------


def decided() -> Iterator[tuple[str, str]]:
    """Every action of the table, as `service:Name`, and what was decided."""
    for service, groups in yaml.safe_load(DECISIONS.read_text()).items():
        for group in groups:
            assert set(group) == {"decision", "why", "actions"}
            assert len(group["why"]) > 20, group
            yield from ((f"{service}:{action}", group["decision"]) for action in group["actions"])


def may(boundary: Any, action: str) -> bool:
    """Whether a role that asks for everything may do this within a boundary."""
    return Principal([ADMINISTRATOR], boundary).may(Request(action))


def test_every_action_without_resources_is_allowed_or_denied_as_was_decided() -> None:
    every = list(decided())
    assert len(dict(every)) == len(every) == 376
    assert {decision for _, decision in every} == {"allow", "deny", "omit"}
    everything = ",".join(sorted({f"{action.partition(':')[0]}:*" for action, _ in every}))
    boundary = target("development").document("Boundary")
    widened = target("development", Services=everything).document("Boundary")
    wrong = [
        f"{action} is decided: {decision}"
        for action, decision in every
        if (may(boundary, action), may(widened, action))
        != {"allow": (True, True), "deny": (False, False), "omit": (False, True)}[decision]
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_what_templates_of_others_use_is_still_allowed(kind: str) -> None:
    """The actions that 24 public patterns of pipelines name, on things of their own."""
    here, bucket = f"{REGION}:{ACCOUNT}", "arn:aws:s3:::hello-x-sitebucket-1k"
    used = {
        f"{bucket}/a": "s3:GetObjectVersion s3:PutObject s3:PutObjectTagging s3:AbortMultipartUpload",
        bucket: "s3:CreateBucket s3:ListBucket s3:GetBucketVersioning s3:PutBucketPublicAccessBlock s3:PutBucketPolicy",
        f"arn:aws:logs:{here}:log-group:/aws/codebuild/x": "logs:CreateLogGroup logs:CreateLogStream logs:PutLogEvents",
        f"arn:aws:codebuild:{here}:project/x": "codebuild:CreateProject codebuild:StartBuild codebuild:BatchGetBuilds",
        f"arn:aws:codebuild:{here}:report-group/x": "codebuild:CreateReport codebuild:BatchPutTestCases",
        f"arn:aws:codepipeline:{here}:x": "codepipeline:CreatePipeline codepipeline:PutJobSuccessResult",
        f"arn:aws:ecr:{here}:repository/hello": "ecr:CreateRepository ecr:PutImage ecr:InitiateLayerUpload",
        f"arn:aws:ssm:{here}:parameter/hello": "ssm:PutParameter ssm:GetParameters ssm:AddTagsToResource",
        f"arn:aws:events:{here}:rule/hello": "events:PutRule events:PutTargets",
        f"arn:aws:cloudwatch:{here}:alarm:hello": "cloudwatch:PutMetricAlarm cloudwatch:TagResource",
        f"arn:aws:sns:{here}:hello": "sns:CreateTopic sns:Subscribe sns:Publish",
        f"arn:aws:lambda:{here}:function:hello": "lambda:CreateFunction lambda:AddPermission lambda:GetFunction",
        f"arn:aws:cloudformation:{here}:stack/x/1": "cloudformation:DescribeStacks cloudformation:GetTemplate",
        "*": "ecr:GetAuthorizationToken cloudwatch:PutMetricData xray:PutTraceSegments logs:CreateLogDelivery",
    }
    rows: list[Row] = []
    for resource, actions in used.items():
        for action in actions.split():
            rows += both(action, resource, {}, ALLOWED)
    check(rows, kind)


# --- limits of IAM -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("partition", ["aws", "aws-us-gov"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_boundary_fits_with_every_parameter_filled(kind: str, partition: str) -> None:
    """IAM counts a managed policy's characters without blanks, 6,144 at most."""
    long, region = "x" * 20, "ap-southeast-2"
    identity = "f4bd3a6e-1b2c-4d5e-8f90-a1b2c3d4e5f6"
    connections = ("codeconnections", "codestar-connections", "codeconnections")
    given = {
        "ConnectionArns": [
            f"arn:{partition}:{each}:{region}:{ACCOUNT}:connection/{identity}" for each in connections
        ],
        "Repositories": [f"an-organization/{long}-*", "another-organization/*"],
        "AllowedRoles": [
            f"arn:{partition}:iam::{ACCOUNT}:role/shared/{long}-{number}" for number in range(2)
        ],
        "ProtectedResources": [
            f"arn:{partition}:s3:::an-organization-customers-{long}*",
            f"arn:{partition}:s3:::an-organization-backups-{long}*",
            f"arn:{partition}:dynamodb:*:{ACCOUNT}:table/{long}*",
            f"arn:{partition}:rds:*:{ACCOUNT}:db:{long}*",
        ],
    }
    filled = {name: ",".join(values) for name, values in given.items()}
    boundary = target(kind, partition=partition, **filled).document("Boundary")
    assert REPOSITORIES not in str(boundary)
    size = len("".join(str(boundary).split()))
    assert size <= 6_144, f"{size - 6_144} characters too many"
    # what is left for an installation that fills in nothing unusual
    assert len("".join(str(target(kind).document("Boundary")).split())) <= 6_144 - 750
