"""A GitHub token reaches a template only where the installation has decided so."""

from dataclasses import replace

import pytest
from world import HELLO, TEMPLATE, World, environment, sha

from deployer.model.environments import Kind
from deployer.model.targets import Target
from deployer.settings.loading import load_config

MAIN, BRANCH = "refs/heads/main", "refs/heads/x"
DEV = environment(BRANCH)
ASKING = TEMPLATE.replace("Greeting:", "RepoToken: {Type: String, NoEcho: true}\n  Greeting:")
REFUSAL = (
    "deploy/pipeline.yml:4: parameter RepoToken has no value in this installation:"
    " use ConnectionArn in the pipeline's source action;"
    " or run deployer as a GitHub App, or with DEPLOYER_GIVE_TOKEN=yes, which gives its GitHub token to every branch"
)


@pytest.fixture
def world() -> World:
    made = World()
    made.push(MAIN, sha(9))
    made.run()
    return made


def let(world: World) -> None:
    for kind in Kind:
        world.clouds.targets[kind] = replace(world.clouds.targets[kind], gives_token=True)


def test_a_template_that_asks_for_the_token_is_refused_with_the_remedy(world: World) -> None:
    delivery = world.push(BRANCH, sha(1), template=ASKING)
    world.run()
    assert world.outcome(delivery) == ("failed", REFUSAL)
    assert world.cloud.stack(DEV.stack_name) is None
    assert world.host.statuses[HELLO, sha(1)]["deployer/prepare"].state == "failure"


def test_a_stack_of_before_is_not_given_it_by_an_update(world: World) -> None:
    world.push(BRANCH, sha(1))
    world.run()
    delivery = world.push(BRANCH, sha(2), before=sha(1), template=ASKING)
    world.run()
    assert world.outcome(delivery) == ("failed", REFUSAL)
    assert not world.cloud.release(DEV.stack_name).needs_token


def test_a_template_is_given_it_where_the_installation_lets_it(world: World) -> None:
    let(world)
    delivery = world.push(BRANCH, sha(1), template=ASKING)
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.cloud.release(DEV.stack_name).needs_token


@pytest.mark.parametrize(
    ("settings", "given"),
    [
        ({"DEPLOYER_GITHUB_TOKEN": "ghp_1"}, False),
        ({"DEPLOYER_GITHUB_TOKEN": "ghp_1", "DEPLOYER_GIVE_TOKEN": "no"}, False),
        ({"DEPLOYER_GITHUB_TOKEN": "ghp_1", "DEPLOYER_GIVE_TOKEN": "yes"}, True),
        ({"DEPLOYER_GITHUB_APP_ID": "1", "DEPLOYER_GITHUB_APP_PRIVATE_KEY": "key"}, True),
        # the App's own token is limited, so it needs no consent; the other one is never used beside it
        (
            {
                "DEPLOYER_GITHUB_APP_ID": "1",
                "DEPLOYER_GITHUB_APP_PRIVATE_KEY": "k",
                "DEPLOYER_GITHUB_TOKEN": "t",
            },
            True,
        ),
    ],
)
def test_which_installation_gives_it(settings: dict[str, str], *, given: bool) -> None:
    targets = "development: {account: '111111111111'}\n"
    for more in ({}, {"DEPLOYER_TARGETS": targets}):
        made = load_config({**settings, **more}).targets
        assert {kind: target.gives_token for kind, target in made.items()} == dict.fromkeys(Kind, given)


def test_no_file_of_targets_can_decide_it() -> None:
    assert not Target(Kind.DEVELOPMENT).gives_token
    with pytest.raises(Exception, match="gives_token is not known"):
        load_config({"DEPLOYER_TARGETS": "development: {gives_token: yes}"})
