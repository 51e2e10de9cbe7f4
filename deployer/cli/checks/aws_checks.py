"""Checks deployer's access to AWS."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from deployer.cli.checks.groups import FAIL, OK, PROBE_SECONDS, WARN, Check, CheckFunction, Group
from deployer.environment.capacity import refusal_of_region
from deployer.environment.cloud_region import CloudRegion
from deployer.model.durations import span
from deployer.model.environments import Kind
from deployer.views.derived_values import seconds_since

if TYPE_CHECKING:
    from deployer.wiring import Deployer


REACH_AWS = "check the network between deployer and AWS, and AWS_REGION, AWS_ENDPOINT_URL or DEPLOYER_TARGETS"


def region_group(deployer: "Deployer", region: str) -> Group:
    """Return the checks of one AWS region: buckets, permissions, free capacity."""
    kinds = [kind for kind in Kind if region in deployer.clouds.target(kind).regions]
    checks = []
    for kind in kinds:
        name = f"{kind} {region}"
        checks += [
            CheckFunction(
                name,
                partial(_check_bucket, deployer, kind, region),
                "check the artifact bucket of DEPLOYER_TARGETS or DEPLOYER_ARTIFACT_BUCKET, and its permissions",
            ),
            CheckFunction(
                name,
                partial(_check_listing, deployer, kind, region),
                "check the role's permissions and DEPLOYER_TARGETS",
            ),
        ]
    checks += [
        CheckFunction(
            f"room {region}",
            partial(_check_capacity, deployer, cloud),
            "check the permissions of the targets' roles",
        )
        for cloud in deployer.clouds.every()
        if cloud.region == region
    ]
    if Kind.DEVELOPMENT in kinds and region == deployer.clouds.target(Kind.DEVELOPMENT).regions[0]:
        checks.append(
            CheckFunction(
                "accounts", lambda: _check_accounts(deployer), "check deployer's own AWS credentials"
            )
        )
    probe = deployer.clouds.at(kinds[0], region)
    return Group(f"AWS {region}", lambda: probe.check_reachable(PROBE_SECONDS), checks, REACH_AWS)


def _check_bucket(deployer: "Deployer", kind: Kind, region: str) -> Iterator[Check]:
    cloud, name = deployer.clouds.at(kind, region), f"{kind} {region}".strip()
    bucket = deployer.clouds.target(kind).bucket(cloud.region)
    if not bucket:
        remedy = "set DEPLOYER_ARTIFACT_BUCKET, or artifact_bucket in DEPLOYER_TARGETS"
        yield Check(name, FAIL, "no artifact bucket is set", remedy)
        return
    cloud.check_artifact_bucket()
    yield Check(name, OK, f"templates can be written to bucket {bucket}")


def _check_listing(deployer: "Deployer", kind: Kind, region: str) -> Iterator[Check]:
    cloud, target = deployer.clouds.at(kind, region), deployer.clouds.target(kind)
    next(
        iter(cloud.stacks()), None
    )  # one page is enough to check the credentials, the role and its permission
    name = f"{kind} {region}".strip()
    who = target.role_arn or "deployer's own credentials"
    made = (
        f"created as {target.service_role_arn}"
        if target.service_role_arn
        else "created with the same credentials"
    )
    yield Check(name, OK, f"stacks can be listed as {who}, and are {made}")


def _check_accounts(deployer: "Deployer") -> Iterator[Check]:
    """Check that development has an account of its own, because IAM conditions on names and tags do not cover
    resources that have neither."""
    if deployer.config.sandbox:
        return  # the simulated AWS has one account
    own = deployer.clouds.own_account()
    at = {kind: deployer.clouds.target(kind).account_id or own for kind in Kind}
    development = at[Kind.DEVELOPMENT]
    others = {"production": at[Kind.PRODUCTION], "deployer itself": own}
    sharing = [name for name, account in others.items() if account == development]
    if sharing:
        text = f"development shares account {development} with {' and '.join(sharing)}"
        remedy = "give development an account of its own; docs/security.md lists what it can reach otherwise"
        yield Check("accounts", WARN, text, remedy)
    else:
        yield Check(
            "accounts", OK, f"account {development} of development contains neither production nor deployer"
        )


def _check_capacity(deployer: "Deployer", cloud: CloudRegion) -> Iterator[Check]:
    room = cloud.count_capacity()
    text = (
        f"{room.stacks} of {room.stacks_limit} stacks, {room.pipelines} of {room.pipelines_limit} pipelines; "
        f"counted {span(seconds_since(room.counted_at))} ago"
    )
    target = deployer.clouds.target(Kind.DEVELOPMENT)
    concerned = not target.regions or cloud.region in target.regions
    refused = refusal_of_region(room, target, Kind.DEVELOPMENT) if concerned else ""
    name = f"room {room.region}"
    remedy = "raise the quota in AWS, delete unused stacks, or add a region to DEPLOYER_TARGETS"
    if room.free == 0:
        yield Check(name, FAIL, text, remedy)
    elif refused:
        yield Check(name, WARN, f"{text}; {refused}", remedy)
    else:
        yield Check(name, OK, text)
