"""Environments in two accounts, tested against the simulated AWS: each stays in its own account, its own region."""

import json
import logging
from typing import Any

import pytest
from aws_world import BUCKET, AwsWorld, Simulation, pipeline_template

from deployer.model.environments import Environment, Kind
from deployer.model.errors import TransientError
from deployer.model.targets import Target
from sandbox.aws.places import Place
from tests.unit.world import HELLO, environment

HOME, AWAY = "us-east-1", "eu-west-1"
OWN, OTHER = "123456789012", "210987654321"
EXTERNAL_ID = "hush-hush"
X, Y, MAIN, TAG = "refs/heads/x", "refs/heads/y", "refs/heads/main", "refs/tags/v1"
PRODUCTION = Environment(HELLO, Kind.PRODUCTION)
_DEPLOYER = f"arn:aws:iam::{OTHER}:role/deployer"
_STACKS = {account: f"arn:aws:iam::{account}:role/stacks" for account in (OWN, OTHER)}
_CONNECTION = f"arn:aws:codeconnections:us-east-1:{OWN}:connection/1"


def trust_policy(principal: dict[str, str], **more: Any) -> str:
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole", **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


class Accounts(AwsWorld):
    """Development in two regions of one account, production in another account by an assumed role."""

    def __init__(self, simulation: Simulation, external_id: str = EXTERNAL_ID) -> None:
        simulation.reset()
        self.keys = self._make_roles(simulation)
        super().__init__(
            simulation,
            Target(
                Kind.DEVELOPMENT, account=OWN, regions=(HOME, AWAY), service_role_arn=_STACKS[OWN],
                artifact_bucket=f"{BUCKET}-{{region}}",
            ),
            Target(
                Kind.STAGING, account=OWN, regions=(HOME,), service_role_arn=_STACKS[OWN], artifact_bucket=BUCKET
            ),
            Target(
                Kind.PRODUCTION, account=OTHER, regions=(HOME,), service_role_arn=_STACKS[OTHER],
                role_arn=_DEPLOYER, external_id=external_id, allowed_roles=(_CONNECTION,), artifact_bucket=BUCKET,
            ),
        )  # fmt: skip
        self.create_commits(X, Y, MAIN, TAG)

    @staticmethod
    def _make_roles(simulation: Simulation) -> dict[str, str]:
        """Create the roles that `infra/` creates; return a person's keys for the other account."""
        # In an account without roles every role can be assumed, which makes the creation of the first role possible.
        got = simulation.client("sts").assume_role(RoleArn=_DEPLOYER, RoleSessionName="ada")["Credentials"]
        names = {"aws_access_key_id": "AccessKeyId", "aws_secret_access_key": "SecretAccessKey"}
        keys = {name: got[told] for name, told in {**names, "aws_session_token": "SessionToken"}.items()}
        service = trust_policy({"Service": "cloudformation.amazonaws.com"})
        own, other = simulation.client("iam"), simulation.client("iam", **keys)
        for each in (own, other):
            each.create_role(RoleName="stacks", AssumeRolePolicyDocument=service)
        demanded = {"StringEquals": {"sts:ExternalId": EXTERNAL_ID}}
        document = trust_policy({"AWS": f"arn:aws:iam::{OWN}:root"}, Condition=demanded)
        other.create_role(RoleName="deployer", AssumeRolePolicyDocument=document)
        return keys

    def set_limits(self, **stacks: int) -> None:
        """Set how many stacks the regions of development allow."""
        with self.simulation.simulator.scheduler.lock:
            for region, most in stacks.items():
                place = Place(OWN, region.replace("_", "-"))
                self.simulation.simulator.regions.set_limits(place, stacks=most)

    def stack_places(self) -> set[tuple[str, str, str]]:
        """The account, the region and the name of each stack."""
        return {(each["account"], each["region"], each["name"]) for each in self.simulation.state["stacks"]}

    def service_role(self, name: str, region: str = HOME, **keys: str) -> str:
        """The service role of a stack."""
        client = self.simulation.client("cloudformation", region, **keys)
        return str(client.describe_stacks(StackName=name)["Stacks"][0]["RoleARN"])

    def assert_deployed(self, ref: str, number: int) -> None:
        delivery = self.push_commit(ref, number)
        self.run()
        outcome, reason = self.outcome(delivery)
        assert outcome == "deployed", reason
        assert self.execution_results(ref)[-1] == (self.commits[ref][number], "Succeeded")

    def run_resync(self) -> None:
        self.deployer.submitter.resync(HELLO)
        self.run()


def stacks_of(account: str, region: str, of: Environment) -> set[tuple[str, str, str]]:
    """The stacks of a deployed environment."""
    return {(account, region, name) for name in (of.stack_name, f"{of.stack_name}-app")}


@pytest.fixture
def world(simulation: Simulation) -> Accounts:
    return Accounts(simulation)


def test_everything_stays_in_its_own_account_and_region(world: Accounts) -> None:
    world.set_limits(us_east_1=30, eu_west_1=30)
    for ref in (X, Y, MAIN, TAG):
        world.assert_deployed(ref, 0)
    x, y = (
        stacks_of(OWN, HOME, environment(X)),
        stacks_of(OWN, AWAY, environment(Y)),
    )  # which has more capacity by then
    staging, production = stacks_of(OWN, HOME, environment(MAIN)), stacks_of(OTHER, HOME, PRODUCTION)
    assert world.stack_places() == x | y | staging | production
    assert world.service_role(environment(X).stack_name) == _STACKS[OWN]
    assert world.service_role(environment(Y).stack_name, AWAY) == _STACKS[OWN]
    assert world.service_role(PRODUCTION.stack_name, **world.keys) == _STACKS[OTHER]
    listed = [
        (stack.arn.split(":")[4], cloud.region, stack.name)
        for cloud in world.clouds.every()
        for stack in cloud.stacks()
    ]
    assert sorted(listed) == sorted(world.stack_places())

    world.set_limits(us_east_1=4)  # full: existing environments stay in their region nevertheless
    for ref in (X, Y, TAG):
        world.assert_deployed(ref, 1)
    assert world.stack_places() == x | y | staging | production

    made = {each["id"] for each in world.simulation.state["stacks"]}
    ran = {ref: world.execution_results(ref) for ref in (X, Y, MAIN, TAG)}
    world.forget()
    world.run_resync()
    assert {each["id"] for each in world.simulation.state["stacks"]} == made
    assert {ref: world.execution_results(ref) for ref in (X, Y, MAIN, TAG)} == ran
    assert [world.record(environment(ref)).spec.region for ref in (X, Y, TAG)] == [HOME, AWAY, HOME]

    delivery = world.delete_ref(Y)
    world.delete_ref_silently(X)
    world.run()
    world.run_resync()
    assert world.outcome(delivery)[0] == "deleted"
    assert world.stack_places() == staging | production
    world.teardown(PRODUCTION)
    world.run()
    assert world.stack_places() == staging
    assert world.record(PRODUCTION).status.receipt.outcome == "removed"


def test_a_wrong_external_id_is_reported_with_the_role(
    simulation: Simulation, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    wrong = "not-the-one"
    world = Accounts(simulation, wrong)
    with pytest.raises(TransientError) as raised:
        world.clouds.at(Kind.PRODUCTION).stack("any")
    assert str(raised.value).startswith(f"assuming role {_DEPLOYER}: AWS refuses it")
    world.rules()
    delivery = world.push_commit(TAG, 0)
    world.run()
    outcome, reason = world.outcome(delivery)
    assert outcome == "dead-lettered"
    assert _DEPLOYER in reason
    letters = " ".join(each.traceback + each.work for each in world.lanes.dead_letters())
    told = " ".join([str(raised.value), reason, caplog.text, letters, *world.posted(world.commits[TAG][0])])
    assert wrong not in told
    assert world.stack_places() == set()
    world.assert_deployed(X, 0)  # which does not use that account


def test_a_branch_that_names_production_s_role_is_rejected_before_any_aws_call(world: Accounts) -> None:
    topic = {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": _STACKS[OTHER]}}
    text = json.dumps(json.loads(pipeline_template(Note=topic)), indent=1)
    line = next(at for at, each in enumerate(text.splitlines(), 1) if _STACKS[OTHER] in each)
    delivery = world.push_commit(X, 0, template=text)
    world.run()
    assert world.outcome(delivery)[0] == "failed"
    assert world.stack_places() == set()
    assert world.simulation.state["deleted_stacks"] == []
    status = world.host.statuses[HELLO, world.commits[X][0]]["deployer/prepare"]
    assert status.state == "failure"
    assert f"deploy/pipeline.yml:{line}" in status.description
    assert _STACKS[OTHER] in status.description
    assert "\n" not in status.description


def test_a_failed_creation_is_repeated_in_the_second_region(world: Accounts) -> None:
    world.set_limits(us_east_1=12, eu_west_1=30)
    name = environment(X).stack_name
    order = {"stack": name, "resource": "Pipeline", "on": "create", "count": 1}
    world.simulation.simulator.faults.add({"fail_resources": order})
    delivery = world.push_commit(X, 0)
    world.run()
    assert world.outcome(delivery)[0] == "failed"
    (wedged,) = world.simulation.state["stacks"]
    assert (wedged["region"], wedged["status"]) == (AWAY, "ROLLBACK_COMPLETE")

    world.set_limits(us_east_1=99, eu_west_1=12)
    world.redis.delete(*world.redis.keys("deployer:aws:*:room"))  # as if the stacks were counted a day ago
    world.assert_deployed(X, 1)
    assert world.stack_places() == stacks_of(OWN, AWAY, environment(X))
    made = world.stack(X)
    assert made is not None
    assert made["id"] != wedged["id"]
