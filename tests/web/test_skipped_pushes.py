"""Tests of a skipped push, from its signed delivery to pages and API."""

from typing import Any

import pytest

from deployer.model.environments import Repository
from deployer.model.repository_record import Seen
from tests.web.site import SHA, Site, push_payload, record
from tests.web.test_pages import look

OTHER, OBJECT = "c" * 40, "d" * 40


def skip(site: Site, ref: str, message: str, delivery: str = "d-skip", **changes: Any) -> None:
    """Deliver a push whose head commit has this message."""
    payload = push_payload(ref=ref, **changes) | {"head_commit": {"id": OTHER, "message": message}}
    answer = site.deliver(payload, delivery=delivery)
    assert answer.status_code == 202
    assert answer.json is not None
    assert answer.json["outcome"] == "ignored"


def activity(site: Site) -> list[dict[str, Any]]:
    """What the API lists."""
    answer = site.api("GET", "/activity").json
    assert answer is not None
    return list(answer["activity"])


def test_a_skipped_branch_is_on_the_dashboard_and_has_a_page(site: Site) -> None:
    skip(site, "refs/heads/docs", "typo [ci skip]", after=OTHER)
    reason = "the head commit's message says [ci skip]"
    (line,) = activity(site)
    assert (line["repository"], line["environment"], line["ref"]) == (
        "acme/api", "development:refs/heads/docs", "refs/heads/docs",
    )  # fmt: skip
    assert (line["outcome"], line["reason"], line["commit"]) == ("skipped", reason, OTHER)
    page = look(site)
    assert f"docsdevelopment skipped {OTHER[:8]}" in page.words
    assert page.words.count(reason) == 2, "in the table of environments and in the activity"
    own = look(site, f"/environments/{line['environment_id']}")
    assert f"Reason{reason}" in own.words
    found = site.api("GET", f"/environments/{line['environment_id']}").json
    assert found is not None
    assert (found["state"], found["commit"]) == ("skipped", OTHER)


def test_a_skipped_push_is_shown_beside_what_runs(site: Site) -> None:
    name = site.put(record(state="deployed", outcome="deployed"))
    skip(site, "refs/heads/feature/x", "typo [skip ci]", after=OTHER)
    page = look(site, f"/environments/{name}")
    assert SHA in page.words
    assert f"Skipped{OTHER[:12]}, " in page.words
    assert "ago: the head commit's message says [skip ci]" in page.words


def test_a_skipped_tag_is_named_in_the_activity_with_its_commit(site: Site) -> None:
    skip(site, "refs/tags/v1.2", "notes [skip deploy]", after=OBJECT)
    (line,) = activity(site)
    assert (line["environment"], line["ref"], line["commit"]) == ("production", "refs/tags/v1.2", OTHER)
    page = look(site)
    assert "production v1.2 skipped" in page.words
    assert site.lanes.environments() == []
    assert (
        "v1.2: the head commit's message says [skip deploy]"
        in look(site, f"/environments/{line['environment_id']}").words
    )


@pytest.mark.parametrize("message", ["release 1.2.0 [skip ci]", "x\n\n\nskip-checks: true"])
def test_a_tag_on_a_commit_that_github_skips_is_queued(site: Site, message: str) -> None:
    payload = push_payload(ref="refs/tags/v1.2") | {"head_commit": {"id": SHA, "message": message}}
    answer = site.deliver(payload)
    assert answer.json is not None
    assert answer.json["outcome"] == "queued"
    assert [each.spec.ref for each in site.waiting] == ["refs/tags/v1.2"]


def test_the_newest_tag_that_was_never_deployed_is_told_beside_its_repository(site: Site) -> None:
    site.put(record(state="deployed", outcome="deployed"))
    site.lanes.save_seen(Repository("acme", "api"), Seen(never_deployed="refs/tags/v1"))
    told = "the newest tag v1 of acme/api was never deployed; to deploy it: deployer redeploy acme/api refs/tags/v1"
    for path in ("/", "/repositories"):
        assert told in look(site, path).words
    answer = site.api("GET", "/repositories").json
    assert answer is not None
    assert [each["never_deployed_tag"] for each in answer["repositories"]] == ["refs/tags/v1"]
