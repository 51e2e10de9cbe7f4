"""The URL of an environment: found in the outputs of what was deployed, shown until its teardown begins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from world import HELLO, World, environment, sha

from deployer.environment.deployed_stacks import shown_url
from deployer.model.environments import Environment, Kind
from deployer.model.errors import PermanentError

MAIN, BRANCH = "refs/heads/main", "refs/heads/x"
DEV = environment(BRANCH)
APP = f"{DEV.stack_name}-app"
URL = "https://x.example.com/"


@pytest.fixture
def world() -> World:
    made = World()
    made.cloud.deploys = lambda pipeline: [f"{pipeline}-app"]
    return made


def url(world: World, of: Environment = DEV) -> str:
    return world.record(of).status.environment_url


def deploy(world: World, number: int = 1, **files: str) -> None:
    world.push(BRANCH, sha(number), before=sha(number - 1) if number > 1 else "0" * 40, files=files)
    world.run()
    assert world.record(DEV).status.outcome == "deployed"


@pytest.mark.parametrize(
    ("outputs", "settings", "shown"),
    [
        ({"Url": URL}, "", URL),
        ({"WebsiteURL": "http://x.example.com"}, "", "http://x.example.com"),
        ({"WebsiteURL": "http://x.example.com", "Url": URL}, "", URL),
        ({"Url": URL, "Mine": "https://mine.example.com"}, "url: Mine", "https://mine.example.com"),
        ({"Url": URL}, "url: Mine", ""),
        ({"url": URL}, "", ""),
        ({"Url": "javascript:alert(1)", "WebsiteURL": URL}, "", URL),
        ({}, "", ""),
    ],
)
def test_the_url_is_in_an_output_of_a_deployed_stack(
    world: World, outputs: dict[str, str], settings: str, shown: str
) -> None:
    world.cloud.outputs[APP] = outputs
    deploy(world, **({"deployer.yml": settings} if settings else {}))
    assert url(world) == shown


def test_staging_and_production_have_a_url_by_their_own_files(world: World) -> None:
    places = (environment(MAIN), Environment(HELLO, Kind.PRODUCTION))
    for each in places:
        world.cloud.outputs[f"{each.stack_name}-app"] = {"Site": f"https://{each.kind}.example.com"}
    world.push(MAIN, sha(9), files={"deployer.yml": "url: Site"})
    world.push("refs/tags/v1", sha(9), files={"deployer.yml": "url: Site"})
    world.run()
    assert [url(world, each) for each in places] == [
        "https://staging.example.com",
        "https://production.example.com",
    ]


def test_a_url_costs_one_call_for_each_deployed_stack_and_execution(world: World) -> None:
    apps = [f"{DEV.stack_name}-{each}" for each in "abc"]
    world.cloud.applications[DEV.stack_name] = apps

    def read() -> int:
        return sum(call[0] in apps for call in world.cloud.called("stack"))

    deploy(world)
    before = read()
    world.resync(HELLO)
    world.event(DEV)
    world.run()
    resynced = read() - before
    world.cloud.outputs[apps[0]] = {"Url": URL}  # the first one is read last
    before = read()
    deploy(world, 2)
    assert url(world) == URL
    assert read() - before <= len(apps) + resynced
    before = read()
    world.resync(HELLO)
    assert read() - before == 0
    assert url(world) == URL


def test_a_pipeline_that_deploys_no_stack_may_have_the_url_in_its_own(world: World) -> None:
    world.cloud.deploys = lambda _pipeline: []
    world.cloud.outputs[DEV.stack_name] = {"Url": URL}
    deploy(world)
    assert url(world) == URL


def test_a_stack_with_the_tags_of_another_environment_says_nothing(world: World) -> None:
    other = f"{environment('refs/heads/y').stack_name}-app"
    world.cloud.add_stack(other, environment("refs/heads/y").tags)
    world.cloud.applications[DEV.stack_name] = [other]
    world.cloud.outputs[other] = {"Url": URL}
    deploy(world)
    assert url(world) == ""


def test_outputs_that_may_not_be_read_do_not_fail_the_deployment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = world.cloud.stack

    def refusing(name: str) -> object:
        if name == "secret":
            raise PermanentError("AWS answers AccessDenied")
        return read(name)

    world.cloud.applications[DEV.stack_name] = [APP]
    monkeypatch.setattr(world.cloud, "stack", refusing)
    deploy(world)
    world.lanes_note(DEV, applications=["secret"])
    monkeypatch.setattr(world.cloud, "deployed_stacks", lambda _pipeline: ["secret"])
    deploy(world, 2)
    assert url(world) == ""


def test_a_later_deployment_without_url_shows_none_and_a_failed_one_changes_nothing(world: World) -> None:
    world.cloud.outputs[APP] = {"Url": URL}
    deploy(world)
    world.cloud.fail_next_execution("no luck")
    world.push(BRANCH, sha(2), before=sha(1))
    world.run()
    assert (world.record(DEV).status.outcome, url(world)) == ("failed", URL)
    world.cloud.outputs[APP] = {}
    deploy(world, 3)
    assert url(world) == ""


def test_the_url_ends_with_the_environment(world: World) -> None:
    world.cloud.outputs[APP] = {"Url": URL}
    deploy(world)
    world.remove(BRANCH, sha(1))
    world.tasks()
    assert (world.record(DEV).status.state, url(world)) == ("deleting", "")
    world.run()
    assert (world.record(DEV).status.state, url(world)) == ("deleted", "")


def test_the_url_is_found_again_after_redis_was_lost(world: World) -> None:
    world.cloud.outputs[APP] = {"Url": URL}
    deploy(world)
    world.forget()
    world.resync(HELLO)
    assert url(world) == URL


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com",
        "http://example.com:8080/a?b=c&d=%20#e",
        "HTTPS://EXAMPLE.com/~user/(a)",
        "http://[::1]/",
        " https://example.com\n",
    ],
)
def test_what_is_shown_as_a_link(text: str) -> None:
    assert shown_url(text) == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        "", "example.com", "ftp://example.com", "javascript:alert(1)", "//example.com", "https://", "https:///a", "https://[",
        "https://example.com:99999", "https://user:secret@example.com", "https://github.com@evil.example",
        "https://example.com/ a", "https://example.com/\n<b>", 'https://example.com/"onclick="', "https://example.com/<b>",
        "https://example.com/`a`", "https://example.com/\\a", "https://b\u00fccher.example", "https://example.com/\u202e",
        "https://example.com/" + "a" * 1024, "data:text/html,x", "\x1b]8;;https://example.com",
    ],
)  # fmt: skip
def test_what_is_never_shown_as_a_link(text: str) -> None:
    assert shown_url(text) == ""


@given(st.text(max_size=40), st.sampled_from(["", "http://", "https://", "https://a.example/"]))
def test_whatever_is_shown_begins_as_a_link_and_has_no_special_character(text: str, begin: str) -> None:
    found = shown_url(begin + text)
    assert not found or found.lower().startswith(("http://", "https://"))
    assert not set(found) & set("<>\"'`\\ \n\r\t")
