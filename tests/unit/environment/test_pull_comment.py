"""The one comment on the pull requests of a branch: its text, and when it is shown."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from world import HELLO, World, environment, sha

from deployer.environment.pull_comment import present_text, receipt_text
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environment_status import StageState
from deployer.model.environments import Environment, Kind
from deployer.model.errors import PermanentError, TransientError
from deployer.model.events import PullRequestChange
from deployer.model.refs import ZERO_SHA, Ref
from deployer.model.teardown_report import RemovedItem, RetainedItem, TeardownReport
from deployer.outbox.plan import waiting_text

MAIN, BRANCH = "refs/heads/main", "refs/heads/feature/x"
DEV = environment(BRANCH)
URL = "https://x.example.com"


@pytest.fixture
def world() -> World:
    made = World()
    made.push(MAIN, sha(9))
    made.run()
    made.cloud.deploys = lambda pipeline: [f"{pipeline}-app"]
    made.cloud.outputs[f"{DEV.stack_name}-app"] = {"Url": URL}
    return made


def push(world: World, number: int) -> None:
    world.push(BRANCH, sha(number), before=sha(number - 1) if number > 1 else ZERO_SHA)
    world.run()


def shown(world: World, number: int = 1) -> str:
    return world.host.pull_comments.get((HELLO, number), ("", False))[0]


def opened(world: World, number: int, action: str = "opened", branch: str = BRANCH, **more: Any) -> str:
    """A pull request's event arrives, and all that follows from it is done."""
    delivery = f"p{number}-{action}"
    head = world.host.refs(HELLO).get(Ref(branch), sha(1))
    change = PullRequestChange(delivery, HELLO, action, number, Ref(branch), head, False, "main", **more)
    world.deployer.submit_delivery(change)
    world.run()
    world.post()
    return delivery


def edits(world: World) -> list[str]:
    """Every text that was given to GitHub, oldest first."""
    return [call[2] for call in world.host.called("comment_on_pulls")]


def test_the_comment_shows_the_result_and_is_edited_once_for_each_outcome(world: World) -> None:
    world.push(BRANCH, sha(1))
    world.host.open_pull(HELLO, "feature/x")
    world.run()
    first = shown(world)
    for words in (f"<{URL}>", sha(1), "`feature/x` is deployed", "`Build` succeeded", "deployer redeploy"):
        assert words in first
    assert edits(world) == [first], "results only, no progress"
    world.cloud.fail_next_execution("exit status 2, ask @team")
    push(world, 2)
    failed = shown(world)
    for words in ("could not be deployed", "`Build failed: exit status 2, ask @team`", sha(2), URL):
        assert words in failed
    assert edits(world) == [first, failed]
    world.resync(HELLO)
    world.event(DEV)
    world.run()
    assert len(set(edits(world))) == 2, "nothing new is said"


def test_after_the_teardown_the_comment_is_the_receipt(world: World) -> None:
    world.push(BRANCH, sha(1))
    world.host.open_pull(HELLO, "feature/x")
    world.run()
    world.host.close_pull(HELLO, 1)
    world.remove(BRANCH, sha(1))
    world.run()
    text = shown(world)
    assert f"`stack {DEV.stack_name}`" in text
    assert "was deleted on" in text
    assert URL not in text
    world.host.open_pull(HELLO, "feature/x")
    push(world, 1)
    assert shown(world) == text, "the closed one keeps its receipt"
    assert "is deployed" in shown(world, 2)


def test_a_pull_request_that_is_opened_after_the_deployment_gets_the_comment_at_once(world: World) -> None:
    push(world, 1)
    assert shown(world) == ""
    world.host.open_pull(HELLO, "feature/x")
    delivery = opened(world, 1)
    assert URL in shown(world)
    assert world.outcome(delivery)[0] == "ignored"
    world.host.open_pull(HELLO, "feature/x")
    opened(world, 2)
    assert shown(world, 2) == shown(world, 1)


def test_a_resync_repairs_the_comment_of_a_pull_request_whose_event_was_lost(world: World) -> None:
    push(world, 1)
    world.host.open_pull(HELLO, "feature/x")
    world.resync(HELLO)
    world.post()
    assert URL in shown(world)


def test_after_redis_was_lost_the_comment_is_there_again(world: World) -> None:
    push(world, 1)
    world.host.open_pull(HELLO, "feature/x")
    world.forget()
    world.resync(HELLO)
    world.post()
    assert URL in shown(world)


def test_a_pull_request_of_a_branch_without_environment_gets_no_comment(world: World) -> None:
    world.host.push(HELLO, "refs/heads/docs", sha(5), files={})
    world.host.open_pull(HELLO, "docs")
    world.deliver("refs/heads/docs", sha(5))
    world.run()
    opened(world, 1, branch="refs/heads/docs")
    assert world.host.pull_comments == {}


def test_staging_and_production_have_no_comment(world: World) -> None:
    world.push("refs/tags/v1", sha(9))
    world.run()
    assert edits(world) == []


@pytest.mark.parametrize("error", [TransientError("GitHub answers 502"), PermanentError("no permission")])
def test_a_comment_that_github_refuses_delays_nothing(
    world: World, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(world.host, "comment_on_pulls", refuse)
    world.push(BRANCH, sha(1))
    world.run()
    assert world.record(DEV).status.outcome == "deployed"
    assert world.statuses(sha(1))["deployer"] == "success"
    waits = waiting_text(world.deployer.outbox.unfinished())
    assert ("GitHub answers 502" in waits) == isinstance(error, TransientError)


# --- the text ---


def record(name: str, **fields: Any) -> tuple[Environment, EnvironmentRecord]:
    found = Environment(HELLO, Kind.DEVELOPMENT, Ref(f"refs/heads/{name}"))
    made = EnvironmentRecord.of(HELLO.full_name, found.key, found.stack_name, commit=sha(1))
    return found, made.but(**{"state": "deployed", "outcome": "deployed", "used_at": 1e9, **fields})


def test_the_expiry_is_named_and_sleep_too() -> None:
    text = present_text(*record("x"), "3d", "https://d.example/environments/x", 1e9)
    assert "- **Expires:** 2001-09-12 01:46 UTC, unless it is used before" in text
    assert "](https://d.example/environments/x)" in text
    assert "Expires" not in present_text(*record("x"), "never", "", 1e9)


def test_a_long_receipt_is_cut() -> None:
    report = TeardownReport(
        ended_at=1e9,
        outcome="partly",
        removed=[RemovedItem(what=f"bucket {each}", id=str(each)) for each in range(100)],
        retained=[RetainedItem(what="stack y", id="y", why="it is locked by @team")],
    )
    text = receipt_text(*record("x", state="deleted", receipt=report))
    assert "- and 80 more" in text
    assert "- `stack y`: `it is locked by @team`" in text


_ANY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
_NAME = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=" ~^:?*[\\"), min_size=1, max_size=40
)


@given(_NAME, _ANY, _ANY)
@example("feature/\u00fc#1", "@team", "<img src=x onerror=alert(1)>")
@example("`", "```\n# x", "</details><!--")
@example("a``b`-->", "\u2028@team", "|[x](javascript:x)|")
def test_no_name_and_no_reason_has_a_meaning_in_markdown(name: str, reason: str, stage: str) -> None:
    failed = record(name, state="failed", reason=reason, stages=[StageState(name=stage, status="failed")])
    report = TeardownReport(
        ended_at=1e9,
        removed=[RemovedItem(what=reason, id="1")],
        retained=[RetainedItem(what=stage, id="2", why=reason)],
    )
    for text in (
        present_text(*failed, "3d", "", 1e9),
        receipt_text(*record(name, state="deleted", receipt=report)),
    ):
        tokens = MarkdownIt("commonmark").parse(text)
        inline = [child for each in tokens for child in each.children or ()]
        plain = "".join(child.content for child in inline if child.type == "text")
        assert not set("@#<>[]|`") & set(plain)
        assert {each.type for each in tokens if "heading" in each.type or each.type == "hr"} == set()
        html = "".join(each.content for each in tokens if each.type == "html_block")
        assert html.replace("\n", "") in {"", "<details><summary>Commands</summary></details>"}
        assert [child.content for child in inline if child.type in {"html_inline", "link_open"}] == []
        assert sum(each.type == "fence" for each in tokens) <= 1
