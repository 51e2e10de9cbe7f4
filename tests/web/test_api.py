"""Tests of `/api/v1`: responses, queued work, refusals."""

import re
from datetime import datetime, timedelta
from typing import Any

import pytest

from deployer.model.environment_status import StackFailure
from deployer.model.environments import Environment, Repository
from deployer.model.errors import TransientError
from deployer.model.refs import Ref
from deployer.model.teardown_report import RemovedItem, TeardownReport
from deployer.queue.dead_letter_record import DeadLetter
from deployer.queue.items import RESYNC_KEY, Cause, Task, Work
from deployer.queue.step_results import DeadLettered, Finished
from tests.doubles import FakeHost
from tests.web.fill import FOREIGN, fill, fill_odd, fill_production
from tests.web.site import SHA, TOKEN, Site, record
from web.openapi import DESCRIPTION

CALLS = [
    (method.upper(), path.removeprefix("/api/v1").replace("{identity}", "acme~storefront-1"))
    for path, methods in DESCRIPTION["paths"].items()
    for method in methods
    if method != "parameters" and not path.endswith("/openapi.json")
]


@pytest.fixture
def made(site: Site) -> dict[str, str]:
    """A busy installation; names of what is in it."""
    return fill(site.lanes)


def states(answer: Any) -> dict[str, str]:
    return {each["ref"] or each["environment"]: each["state"] for each in answer.json["environments"]}


# --- the token ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_every_call_needs_the_token(
    site: Site, method: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    for wrong in (None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "\u00fc"):
        headers = {} if wrong is None else {"Authorization": wrong}
        answer = site.stranger.open(f"/api/v1{path}", method=method, headers=headers)
        assert (answer.status_code, list(answer.json)) == (401, ["error"]), wrong
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert TOKEN not in caplog.text + answer.text
    assert site.untouched


@pytest.mark.parametrize("authorization", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Bearer  {TOKEN} "])
def test_the_token_gives_access(site: Site, authorization: str) -> None:
    answer = site.client.get("/api/v1/environments", headers={"Authorization": authorization})
    assert answer.status_code == 200


@pytest.mark.parametrize("token", ["", "None", TOKEN])
def test_without_a_token_in_the_settings_the_api_is_disabled(token: str) -> None:
    answer = Site({"DEPLOYER_API_TOKEN": ""}).api("GET", "/environments", token=token)
    assert (answer.status_code, "DEPLOYER_API_TOKEN" in answer.json["error"]) == (401, True)


# --- reading -----------------------------------------------------------------------------------------------------


def test_environments_are_listed_by_repository(site: Site, made: dict[str, str]) -> None:
    answer = site.api("GET", "/environments")
    assert answer.status_code == 200
    listed = [(each["repository"], each["environment"]) for each in answer.json["environments"]]
    assert listed == sorted(listed)
    assert {repository for repository, _ in listed} == {"acme/api", "acme/storefront"}
    assert made["deleted"] not in {each["id"] for each in answer.json["environments"]}
    assert states(answer)["refs/heads/fix/rate-limit"] == "failed"


def test_repositories_are_listed_with_their_states(site: Site) -> None:
    made = fill_odd(site.lanes)
    answer = site.api("GET", "/repositories").json
    found = {each["repository"]: each for each in answer["repositories"]}
    assert answer["app"] is None
    assert {name: each["state"] for name, each in found.items()} == {
        "acme/odd": None,
        **{f"acme/was-{state}": state for state in ("archived", "renamed", "replaced", "deleted", "removed")},
    }
    odd, archived = found["acme/odd"], found["acme/was-archived"]
    assert (archived["since"][-1], odd["since"]) == ("Z", None)
    assert "permission webhooks: read" in archived["deliveries"]["unchecked"]
    missed = odd["deliveries"]["missed"]
    assert {name: missed[name] for name in ("redelivered", "superseded", "left")} == {
        "redelivered": 2,
        "superseded": 1,
        "left": 0,
    }
    (orphan,) = odd["orphans"]
    assert orphan["environment_id"] == made["orphan"]
    assert datetime.fromisoformat(orphan["due"]) - datetime.fromisoformat(orphan["since"]) == timedelta(
        hours=1
    )


@pytest.mark.parametrize("query", ["deleted=1", "deleted=true"])
def test_deleted_environments_are_listed_if_asked_for(site: Site, made: dict[str, str], query: str) -> None:
    answer = site.api("GET", f"/environments?{query}")
    assert made["deleted"] in {each["id"] for each in answer.json["environments"]}


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("name", ["acme/storefront", "ACME/Storefront"])
@pytest.mark.parametrize("listing", ["environments", "activity", "dead-letters"])
def test_listings_are_filtered_by_repository(site: Site, listing: str, name: str) -> None:
    key = listing.replace("-", "_")
    found = site.api("GET", f"/{listing}?repository={name}").json[key]
    assert found
    assert {each["repository"] for each in found} == {"acme/storefront"}
    assert site.api("GET", f"/{listing}?repository=acme/other").json[key] == []


@pytest.mark.parametrize("name", ["acme", "acme/", "/", "a/b/c", "acme/{x}", "%00/x", "%ff/x"])
def test_a_malformed_repository_filter_is_refused(site: Site, name: str) -> None:
    for listing in ("environments", "activity", "dead-letters"):
        answer = site.api("GET", f"/{listing}?repository={name}")
        assert (answer.status_code, list(answer.json)) == (400, ["error"])


def test_an_environment_is_kept() -> None:
    site = Site({"DEPLOYER_TTL": "3d"})
    identity = site.put(record("x"))
    before = site.api("GET", f"/environments/{identity}").json
    assert before["expires_at"] is not None
    assert before["kept_until"] is None
    answer = site.api("POST", f"/environments/{identity}/keep", json={"for": "2w"})
    assert (answer.status_code, answer.json["id"]) == (200, identity)
    kept = site.api("GET", f"/environments/{identity}").json
    assert kept["expires_at"] == kept["kept_until"] > before["expires_at"]
    assert "kept for 14 d, expires in 14 d" in site.client.get(f"/environments/{identity}").text
    assert "kept for 14 d" in site.client.get("/").text
    site.api("POST", f"/environments/{identity}/keep", json={"for": "ever"})
    assert site.api("GET", f"/environments/{identity}").json["expires_at"] is None
    assert site.api("POST", f"/environments/{identity}/keep", json={"for": "2y"}).status_code == 400
    gone = site.put(record("y", state="deleted", outcome="deleted"))
    assert site.api("POST", f"/environments/{gone}/keep").status_code == 409


def test_an_environment_in_full(site: Site) -> None:
    stages = [{"name": "Build", "status": "failed", "reason": "exit status 2", "url": "https://x.example"}]
    identity = site.put(
        record(
            "feature/ü#1",
            state="failed",
            outcome="failed",
            reason="Build failed",
            execution="e-1",
            stages=stages,
            stack_arn="arn:x",
            generation=2,
            failure=StackFailure(resource="Role", reason="not allowed", file="deploy/pipeline.yml"),
            receipt=TeardownReport(
                ended_at=1_800_000_000, outcome="removed", removed=[RemovedItem("bucket b", "b")]
            ),
            region="eu-west-1",
        )
    )
    answer = site.api("GET", f"/environments/{identity}")
    assert answer.status_code == 200
    found = answer.json
    for name in ("changed_at", "updated_at", "used_at"):
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:.]{12}Z", found.pop(name))
    assert found == {
        "id": identity,
        "repository": "acme/api",
        "environment": "development:refs/heads/feature/ü#1",
        "kind": "development",
        "ref": "refs/heads/feature/ü#1",
        "state": "failed",
        "commit": SHA,
        "outcome": "failed",
        "reason": "Build failed",
        "execution": "e-1",
        "stages": stages,
        "foreign_executions": [],
        "failure": {
            "resource": "Role",
            "type": "",
            "reason": "not allowed",
            "url": "",
            "file": "deploy/pipeline.yml",
            "line": None,
        },
        "receipt": {
            "at": "2027-01-15T08:00:00.000Z",
            "outcome": "removed",
            "removed": [{"what": "bucket b", "id": "b", "resources": None}],
            "retained": [],
            "unlisted": {"removed": 0, "retained": 0},
        },
        "warned_at": None,
        "expires_at": None,
        "kept_until": None,
        "asleep_until": None,
        "region": "eu-west-1",
        "drift": None,
        "held": None,
        "admitted": None,
        "refused_tags": [],
        "stack_arn": "arn:x",
        "generation": 2,
        "url": f"https://deployer.example/environments/{identity}",
    }


def test_an_environment_lists_the_executions_that_deployer_did_not_start(site: Site) -> None:
    identity = site.put(record("feature/x", foreign=[FOREIGN]))
    assert site.api("GET", f"/environments/{identity}").json["foreign_executions"] == [
        {
            "id": FOREIGN.id,
            "commit": "d" * 40,
            "status": "succeeded",
            "trigger": "StartPipelineExecution",
            "detail": "arn:aws:iam::123456789012:user/ada",
            "retried": False,
            "started_at": "2027-01-15T08:00:00.000Z",
            "reason": f"execution 0a1b2c3d of {'d' * 12} succeeded; user/ada started it",
        }
    ]


def test_a_development_environment_is_told_by_its_branch_at_least(site: Site) -> None:
    identity = site.put(record("feature/x"))
    bare = record("feature/x").but(ref="", commit="")
    site.redis.hset("deployer:{acme/api}:environments", bare.environment, bare.to_json())
    found = site.api("GET", f"/environments/{identity}").json
    assert (found["ref"], found["commit"]) == ("refs/heads/feature/x", None)


def test_an_environment_has_one_id_and_its_former_name_leads_to_it_as_well(site: Site) -> None:
    of = Environment.of_ref(Repository.parse("acme/api"), Ref.of_branch("feature/x"), "main")
    site.put(record("feature/x").but(stack_name=of.former_stack_name))
    for identity in of.stack_names:
        found = site.api("GET", f"/environments/{identity}").json
        assert (found["environment"], found["id"]) == (of.key, of.stack_name)
        assert site.client.get(f"/environments/{identity}").status_code == 200
    assert f'/environments/{of.stack_name}"' in site.client.get("/").text
    assert site.api("POST", f"/environments/{of.former_stack_name}/redeploy").status_code == 202


def test_an_environment_before_its_first_task(site: Site) -> None:
    site.push("feature/x")
    answer = site.api("GET", f"/environments/{record().stack_name}")
    assert (answer.status_code, "the first task of" in answer.json["error"]) == (404, True)


def test_a_delivery_has_its_outcome(site: Site, made: dict[str, str]) -> None:
    answer = site.api("GET", f"/deliveries/{made['delivery']}").json
    assert (answer["outcome"], answer["event"], answer["repository"]) == ("failed", "push", "acme/api")
    assert (answer["environment"], answer["environment_id"]) == (
        "development:refs/heads/fix/rate-limit",
        made["failed"],
    )
    assert "make test" in answer["reason"]
    assert answer["received_at"] <= answer["finished_at"]
    waiting = site.api("GET", "/deliveries/d-feature-search-push").json
    assert (waiting["outcome"], waiting["finished_at"]) == ("queued", None)


def test_an_ignored_delivery_of_no_repository(site: Site) -> None:
    site.deliver({}, event="star")
    answer = site.api("GET", "/deliveries/d-1").json
    assert (answer["outcome"], answer["repository"], answer["environment_id"]) == ("ignored", None, None)


@pytest.mark.usefixtures("made")
def test_activity_is_newest_first(site: Site) -> None:
    times = [each["at"] for each in site.api("GET", "/activity").json["activity"]]
    assert len(times) == 7
    assert times == sorted(times, reverse=True)


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize(("limit", "expected"), [("1", 1), ("3", 3), ("500", 7)])
def test_activity_is_limited(site: Site, limit: str, expected: int) -> None:
    assert len(site.api("GET", f"/activity?limit={limit}").json["activity"]) == expected


@pytest.mark.parametrize("limit", ["0", "501", "-1", "1.5", "x", "", "\u0663", "9" * 5000])
def test_a_limit_out_of_range_is_refused(site: Site, limit: str) -> None:
    answer = site.api("GET", f"/activity?limit={limit}")
    assert (answer.status_code, answer.json) == (400, {"error": "limit must be a number from 1 to 500"})


def test_activity_of_one_goal(site: Site, made: dict[str, str]) -> None:
    (line,) = site.api("GET", f"/activity?limit=1&goal={made['delivery']}").json["activity"]
    assert (line["goal"], line["outcome"], line["environment_id"]) == (
        made["delivery"],
        "failed",
        made["failed"],
    )
    assert site.api("GET", "/activity?goal=never").json == {"activity": []}


@pytest.mark.usefixtures("made")
def test_lanes_list_the_running_task_and_the_waiting_items(site: Site) -> None:
    by_name = {lane["repository"]: lane for lane in site.api("GET", "/lanes").json["lanes"]}
    lane = by_name["acme/api"]
    assert (lane["status"], lane["environment"]) == ("running", "development:refs/heads/hotfix/cache")
    assert [work["ref"] for work in lane["waiting"]] == [
        "refs/heads/feature/search",
        "refs/heads/feature/export",
    ]
    assert lane["waiting"][0]["deliveries"] == ["d-feature-search-push"]
    (snoozed,) = lane["snoozed"]
    assert 0 < snoozed["seconds"] <= 12
    assert by_name["acme/storefront"]["status"] == "idle"


def test_a_dead_letter_is_listed_and_shown(site: Site, made: dict[str, str]) -> None:
    (letter,) = site.api("GET", "/dead-letters").json["dead_letters"]
    assert (letter["id"], letter["task"]) == (made["letter"], Task.SYNC)
    assert letter["work"]["deliveries"] == ["d-spike-push"]
    (attempt,) = letter["attempts"]
    assert (letter["kind"], attempt["task"], attempt["error"]) == (
        "KeyError",
        Task.SYNC,
        "KeyError: 'StackId'",
    )
    assert attempt["began_at"] <= attempt["ended_at"]
    assert 0 <= letter["age_seconds"] < 60
    shown = site.api("GET", f"/dead-letters/{made['letter']}").json
    assert "KeyError" in shown.pop("traceback")
    assert shown | {"age_seconds": 0} == letter | {"age_seconds": 0}


@pytest.mark.parametrize(
    "path",
    [
        "/environments/unknown",
        "/deliveries/unknown",
        "/dead-letters/unknown",
        "/dead-letters/acme~api-1",
        "/environments/%00%ff",
        "/deliveries/%C3%BC%0A",
    ],
)
def test_unknown_ids_are_not_found(site: Site, path: str) -> None:
    answer = site.api("GET", path)
    assert (answer.status_code, list(answer.json)) == (404, ["error"])
    assert answer.json["error"].isprintable()


# --- queueing work -----------------------------------------------------------------------------------------------


def test_a_resync_is_queued(site: Site) -> None:
    answer = site.api("POST", "/resync", json={"repository": "acme/api"})
    (work,) = site.waiting
    assert (answer.status_code, answer.json) == (
        202,
        {"id": work.goal, "outcome": "queued", "repository": "acme/api", "environment_id": None},
    )
    assert (work.environment, work.task, work.cause) == (RESYNC_KEY, Task.RESYNC, Cause.RESYNC)
    assert [each.task for each in site.queue.sent] == [Task.RESYNC]


@pytest.mark.parametrize("named", [{"repository": "acme/api"}, {"all": True}])
@pytest.mark.parametrize("recreate", [True, False])
def test_a_resync_that_creates_what_people_deleted(
    site: Site, named: dict[str, object], recreate: bool
) -> None:
    assert site.api("POST", "/resync", json={**named, "recreate": recreate}).status_code == 202
    (work,) = [each for each in site.waiting if each.environment == RESYNC_KEY]
    assert work.spec.recreate is recreate


def test_a_resync_of_a_repository_in_another_case_goes_to_its_lane(site: Site) -> None:
    site.push("feature/x", repository="acme/Api")
    answer = site.api("POST", "/resync", json={"repository": "ACME/api"})
    assert answer.json["repository"] == "acme/Api"
    assert [str(each) for each in site.lanes.repositories()] == ["acme/Api"]
    assert len(site.waiting) == 2


def test_a_resync_of_all_that_are_known_or_named() -> None:
    site = Site({"DEPLOYER_REPOSITORIES": "acme/api,acme/st*,named/one"})
    for repository in ("acme/api", "acme/storefront", "not/served"):
        site.lanes.accept(Repository.parse(repository), Work("staging"))
    answer = site.api("POST", "/resync", json={"all": True})
    assert answer.status_code == 202
    named = [task["repository"] for task in answer.json["tasks"]]
    assert named == ["acme/api", "acme/storefront", "named/one"]
    goals = {work.goal for work in site.waiting if work.environment == RESYNC_KEY}
    assert goals == {task["id"] for task in answer.json["tasks"]}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"\xff", 400),
        (b"[" * 50_000, 400),
        (b"{}", 400),
        (b'{"all": false}', 400),
        (b'{"all": "true"}', 400),
        (b'{"all": true, "repository": "acme/api"}', 400),
        (b'{"repository": 1}', 400),
        (b'{"repository": "acme"}', 400),
        (b'{"repository": "acme/\\ud800"}', 400),
        (b'{"repository": "not/served"}', 409),
        (b'{"repository": "acme/api", "recreate": "yes"}', 400),
        (b'{"recreate": true}', 400),
    ],
)
def test_a_resync_of_nothing_that_can_be_served(site: Site, body: bytes, code: int) -> None:
    answer = site.api("POST", "/resync", data=body)
    assert (answer.status_code, list(answer.json)) == (code, ["error"])
    assert site.untouched


@pytest.mark.parametrize(
    ("body", "commit"), [({}, ""), ({"sha": ""}, ""), ({"sha": "b" * 40}, "b" * 40), (None, "")]
)
def test_a_redeploy_is_queued(
    site: Site, made: dict[str, str], body: dict[str, str] | None, commit: str
) -> None:
    answer = site.api("POST", f"/environments/{made['failed']}/redeploy", json=body)
    assert answer.status_code == 202
    (work,) = [work for work in site.waiting if work.cause == Cause.REDEPLOY]
    assert (work.spec.ref, work.spec.sha) == ("refs/heads/fix/rate-limit", commit)
    assert answer.json == {
        "id": work.goal,
        "outcome": "queued",
        "repository": "acme/api",
        "environment_id": made["failed"],
    }


def _with_github(site: Site) -> FakeHost:
    host = FakeHost()
    for commit in ("b" * 40, "b" * 39 + "c", "ab" * 20):
        host.push(Repository("acme", "api"), "refs/heads/fix/rate-limit", commit)
    vars(site.deployer)["host"] = host
    return host


def test_a_redeploy_by_the_beginning_of_a_commit_queues_the_full_id(site: Site, made: dict[str, str]) -> None:
    _with_github(site)
    answer = site.api("POST", f"/environments/{made['failed']}/redeploy", json={"sha": "ABab"})
    assert answer.status_code == 202
    (work,) = [work for work in site.waiting if work.cause == Cause.REDEPLOY]
    assert work.spec.sha == "ab" * 20


@pytest.mark.parametrize(
    ("sha", "away", "code", "reason"),
    [
        (
            "bbbb",
            False,
            404,
            "acme/api has no commit bbbb, or several commits begin with these digits: give more digits",
        ),
        (
            "cccc",
            False,
            404,
            "acme/api has no commit cccc, or several commits begin with these digits: give more digits",
        ),
        ("abab", True, 503, "GitHub is away; a full commit id can be queued meanwhile"),
    ],
)
def test_a_redeploy_of_a_prefix_that_names_no_one_commit(
    site: Site, made: dict[str, str], sha: str, away: bool, code: int, reason: str
) -> None:
    host = _with_github(site)
    if away:
        host.fail_next(TransientError("GitHub is away"))
    before = site.waiting
    answer = site.api("POST", f"/environments/{made['failed']}/redeploy", json={"sha": sha})
    assert (answer.status_code, answer.json) == (code, {"error": reason})
    assert site.waiting == before


def test_a_web_process_without_github_asks_for_the_full_id(site: Site, made: dict[str, str]) -> None:
    answer = site.api("POST", f"/environments/{made['failed']}/redeploy", json={"sha": "abab"})
    assert answer.status_code == 409
    assert answer.json["error"].startswith(
        "abab is not a full commit id, and DEPLOYER_GITHUB_TOKEN is not set"
    )
    assert answer.json["error"].endswith("; give the full id")


def test_a_redeploy_of_staging_keeps_its_ref(site: Site, made: dict[str, str]) -> None:
    assert site.api("POST", f"/environments/{made['staging']}/redeploy").status_code == 202
    (work,) = [work for work in site.waiting if work.cause == Cause.REDEPLOY]
    assert (work.environment, work.spec.ref) == ("staging", "refs/heads/main")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"sha": 1}',
        b'{"sha": null}',
        b'{"sha": "abc"}',
        b'{"sha": "main"}',
        b'{"sha": "\\ud800"}',
    ],
)
def test_a_redeploy_of_a_malformed_commit_is_refused(site: Site, made: dict[str, str], body: bytes) -> None:
    before = site.waiting
    answer = site.api("POST", f"/environments/{made['failed']}/redeploy", data=body)
    assert (answer.status_code, list(answer.json)) == (400, ["error"])
    assert site.waiting == before


@pytest.mark.parametrize(
    ("path", "body", "known"),
    [
        ("/environments/{}/redeploy", {"commit": SHA}, "sha"),
        ("/environments/{}/redeploy", {"SHA": SHA}, "sha"),
        ("/environments/{}/keep", {"for": "1d", "until": "x"}, "for"),
        ("/resync", {"repository": "acme/api", "dry_run": True}, "repository, all, recreate"),
        ("/dead-letters/discard", {"all": True, "kinds": "x"}, "all, kind, repository, task"),
    ],
)
def test_a_field_that_is_misspelt_is_not_taken_for_one_that_is_left_out(
    site: Site, made: dict[str, str], path: str, body: dict[str, Any], known: str
) -> None:
    before = site.waiting
    answer = site.api("POST", path.format(made["failed"]), json=body)
    unknown = next(name for name in body if name not in known.split(", "))
    told = f"the body has an unknown field {unknown!r}; it may have: {known}"
    assert (answer.status_code, answer.json) == (400, {"error": told})
    assert site.waiting == before


def test_a_teardown_of_a_development_environment_is_queued(site: Site, made: dict[str, str]) -> None:
    answer = site.api("DELETE", f"/environments/{made['deployed']}")
    assert answer.status_code == 202
    (work,) = [work for work in site.waiting if work.cause == Cause.TEARDOWN]
    assert (work.goal, work.spec.ref) == (answer.json["id"], "refs/heads/feature/login")


def test_staging_and_production_are_not_deleted(site: Site, made: dict[str, str]) -> None:
    before = site.waiting
    answer = site.api("DELETE", f"/environments/{made['staging']}")
    assert (answer.status_code, "deleted by nothing but" in answer.json["error"]) == (409, True)
    assert site.waiting == before


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/environments/{}/redeploy"), ("DELETE", "/environments/{}")]
)
def test_an_environment_of_a_repository_no_longer_served(method: str, path: str) -> None:
    site = Site({"DEPLOYER_REPOSITORIES": "other/*"})
    made = fill(site.lanes)
    before = site.waiting
    answer = site.api(method, path.format(made["deployed"]))
    assert (answer.status_code, "DEPLOYER_REPOSITORIES" in answer.json["error"]) == (409, True)
    assert site.waiting == before


def test_a_dead_letter_is_replayed_once(site: Site, made: dict[str, str]) -> None:
    path = f"/dead-letters/{made['letter']}"
    answer = site.api("POST", f"{path}/replay")
    assert (answer.status_code, answer.json["repository"]) == (202, "acme/storefront")
    (work,) = [work for work in site.waiting if work.goal == answer.json["id"]]
    assert (work.spec.ref, work.deliveries) == ("refs/heads/spike", "d-spike-push")
    assert site.outcome("d-spike-push") == "queued"
    assert site.api("GET", path).status_code == 404
    assert site.api("POST", f"{path}/replay").status_code == 404


def test_a_dead_letter_is_discarded_once(site: Site, made: dict[str, str]) -> None:
    path = f"/dead-letters/{made['letter']}"
    answer = site.api("DELETE", path)
    assert (answer.status_code, answer.json) == (202, {"id": made["letter"], "outcome": "discarded"})
    assert site.lanes.dead_letters() == []
    assert site.outcome("d-spike-push") == "dead-lettered"
    assert site.api("DELETE", path).status_code == 404


@pytest.fixture
def dead(site: Site) -> dict[str, str]:
    """Ids of dead letters by repository and kind."""
    found = {}
    for repository, kind in (
        ("acme/api", "KeyError"),
        ("acme/api", "TransientError"),
        ("acme/web", "KeyError"),
    ):
        name = f"{repository.partition('/')[2]}:{kind}"
        site.push(kind, delivery=f"d-{name}", repository=repository)
        found[name] = f"{repository.replace('/', '~')}-{kind}"
        work = site.waiting[-1].to_json()
        letter = DeadLetter(found[name], repository, Task.SYNC, "why", "", float(len(found)), work, kind)
        site.finish(DeadLettered(letter))
    return found


FILTERS = [
    ({}, {"api:KeyError", "api:TransientError", "web:KeyError"}),
    ({"kind": "KeyError"}, {"api:KeyError", "web:KeyError"}),
    ({"kind": "KeyError", "repository": "ACME/web"}, {"web:KeyError"}),
    ({"task": "sync", "kind": "TransientError"}, {"api:TransientError"}),
    ({"task": "deployer.delete"}, set()),
]


@pytest.mark.parametrize(("filters", "names"), FILTERS)
def test_dead_letters_are_replayed_by_what_they_have_in_common(
    site: Site, dead: dict[str, str], filters: dict[str, str], names: set[str]
) -> None:
    chosen = {dead[name] for name in names}
    listed = site.api("GET", "/dead-letters", query_string=filters).json["dead_letters"]
    assert {each["id"] for each in listed} == chosen
    answer = site.api("POST", "/dead-letters/replay", json={"all": True, **filters})
    assert (answer.status_code, answer.json["outcome"], answer.json["failed"]) == (202, "queued", [])
    assert {each["dead_letter"] for each in answer.json["tasks"]} == chosen
    assert {each["id"] for each in answer.json["tasks"]} == {work.goal for work in site.waiting}
    assert {each["repository"] for each in answer.json["tasks"]} == {
        f"acme/{name.split(':')[0]}" for name in names
    }
    assert {letter.id for letter in site.lanes.dead_letters()} == set(dead.values()) - chosen
    assert {name for name in dead if site.outcome(f"d-{name}") == "queued"} == names


@pytest.mark.parametrize(("filters", "names"), FILTERS)
def test_dead_letters_are_discarded_by_what_they_have_in_common(
    site: Site, dead: dict[str, str], filters: dict[str, str], names: set[str]
) -> None:
    chosen = {dead[name] for name in names}
    answer = site.api("POST", "/dead-letters/discard", json={"all": True, **filters})
    assert (answer.status_code, answer.json["outcome"], answer.json["failed"]) == (202, "discarded", [])
    assert set(answer.json["dead_letters"]) == chosen
    assert {letter.id for letter in site.lanes.dead_letters()} == set(dead.values()) - chosen
    assert site.waiting == []


@pytest.mark.parametrize("action", ["replay", "discard"])
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "KeyError"},
        {"all": False},
        {"all": "true"},
        {"all": True, "kinds": "KeyError"},
        {"all": True, "kind": ["KeyError"]},
        {"all": True, "repository": "acme"},
        {"all": True, "repository": None},
    ],
)
def test_dead_letters_that_are_not_clearly_chosen_stay(
    site: Site, dead: dict[str, str], action: str, body: dict[str, Any]
) -> None:
    answer = site.api("POST", f"/dead-letters/{action}", json=body)
    assert (answer.status_code, list(answer.json)) == (400, ["error"])
    assert len(site.lanes.dead_letters()) == len(dead)
    assert site.waiting == []


@pytest.mark.parametrize("action", ["replay", "discard"])
def test_a_dead_letter_that_was_settled_meanwhile_is_told(
    site: Site, dead: dict[str, str], action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = dead["api:KeyError"]
    listed = site.lanes.dead_letters

    def then_another_person_discards(repository: Repository | None = None) -> list[DeadLetter]:
        found = listed(repository)
        site.lanes.discard(gone)
        return found

    monkeypatch.setattr(site.lanes, "dead_letters", then_another_person_discards)
    answer = site.api("POST", f"/dead-letters/{action}", json={"all": True})
    assert answer.status_code == 202
    (failed,) = answer.json["failed"]
    assert (failed["dead_letter"], f"no dead letter {gone}" in failed["error"]) == (gone, True)
    assert listed() == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/environments/unknown/redeploy"),
        ("DELETE", "/environments/unknown"),
        ("POST", "/dead-letters/unknown/replay"),
        ("POST", "/dead-letters/acme~api-1/replay"),
        ("DELETE", "/dead-letters/unknown"),
        ("DELETE", "/dead-letters/acme~api-1"),
    ],
)
def test_nothing_is_queued_for_what_is_not_known(site: Site, method: str, path: str) -> None:
    answer = site.api(method, path)
    assert (answer.status_code, list(answer.json)) == (404, ["error"])
    assert not site.waiting
    assert not site.queue.sent


def test_activity_of_a_request_id_has_its_outcome(site: Site) -> None:
    identity = site.put(record())
    goal = site.api("POST", f"/environments/{identity}/redeploy").json["id"]
    site.finish(Finished("deployed", "went through every stage", record()))
    (line,) = site.api("GET", f"/activity?goal={goal}").json["activity"]
    assert (line["outcome"], line["environment_id"], line["commit"]) == ("deployed", identity, SHA)


# --- all of them --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_without_redis_every_call_says_so(site: Site, method: str, path: str) -> None:
    with site.redis_away():
        bodies = {
            "/resync": {"repository": "acme/api"},
            "letters": {"all": True},
            "approve": {"tag": "v1", "commit": SHA},
        }
        body = next((each for name, each in bodies.items() if name in path), {})
        answer = site.api(method, path, json=body)
    assert (answer.status_code, list(answer.json)) == (503, ["error"])
    assert int(answer.headers["Retry-After"]) > 0
    assert site.untouched


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/", 404),
        ("GET", "/nothing", 404),
        ("GET", "/environments/a/b/c", 404),
        ("POST", "/environments", 405),
        ("GET", "/resync", 405),
        ("DELETE", "/activity", 405),
        ("PUT", "/environments/x", 405),
        ("GET", "/dead-letters/x/replay", 405),
    ],
)
def test_unknown_calls_are_not_found(site: Site, method: str, path: str, code: int) -> None:
    answer = site.api(method, path)
    assert (answer.status_code, list(answer.json)) == (code, ["error"])
    assert ("Allow" in answer.headers) == (code == 405)


@pytest.mark.parametrize("path", ["/environments", "/nothing", "/openapi.json"])
def test_responses_are_neither_cached_nor_sniffed(site: Site, path: str) -> None:
    answer = site.api("GET", path)
    assert (answer.headers["Cache-Control"], answer.headers["X-Content-Type-Options"]) == (
        "no-store",
        "nosniff",
    )


def test_an_unexpected_error_is_reported_without_a_traceback(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(site.lanes, "environment_page", broken)
    answer = site.api("GET", "/environments")
    assert (answer.status_code, list(answer.json)) == (500, ["error"])
    assert "Traceback" not in answer.text
    assert "Traceback" in caplog.text
    assert TOKEN not in caplog.text


def test_the_log_holds_one_line_for_each_refusal(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    answer = site.api("GET", "/deliveries/x%0d%0aERROR%20forged%1b[2J")
    assert answer.status_code == 404
    (line,) = caplog.messages
    assert line.isprintable()
    assert caplog.records[0].levelname == "WARNING"


# --- approve


@pytest.fixture
def production(site: Site) -> str:
    """The id of a production environment with a refused tag."""
    return fill_production(site.lanes, SHA)


@pytest.mark.parametrize("tag", ["v2", "refs/tags/v2"])
@pytest.mark.parametrize(
    ("more", "by"),
    [({}, "the API token"), ({"by": "ada\n"}, "ada (by the API token)"), ({"by": " "}, "the API token")],
)
def test_a_refused_tag_is_approved_at_the_commit_that_the_caller_saw(
    site: Site, production: str, tag: str, more: dict[str, str], by: str
) -> None:
    body = {"tag": tag, "commit": SHA, **more}
    answer = site.api("POST", f"/environments/{production}/approve", json=body)
    assert answer.status_code == 202
    (work,) = site.waiting
    assert (work.cause, work.spec.ref, work.spec.sha, work.spec.approved_by) == (
        Cause.REDEPLOY,
        "refs/tags/v2",
        SHA,
        by,
    )
    assert work.goal == answer.json["id"]


def test_an_approval_of_another_commit_names_it(site: Site, production: str) -> None:
    path = f"/environments/{production}/approve"
    assert site.api("POST", path, json={"tag": "v3", "commit": "c" * 40}).status_code == 202
    (work,) = site.waiting
    assert (work.spec.ref, work.spec.sha) == ("refs/tags/v3", "c" * 40)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (
            {"tag": "v2"},
            400,
        ),  # without a commit: the commit of the latest refusal may be one that nobody has reviewed
        ({"tag": "v2", "commit": ""}, 400),
        ({"tag": "two..dots"}, 400),
        ({"tag": 1}, 400),
        ({}, 400),
        ({"tag": "v2", "commit": "main"}, 400),
        ({"tag": "v2", "commit": SHA, "by": 1}, 400),
        ({"tag": "v2", "commit": SHA, "sha": SHA}, 400),
    ],
)
def test_an_approval_that_names_nothing_is_refused(
    site: Site, production: str, body: dict[str, Any], code: int
) -> None:
    assert site.api("POST", f"/environments/{production}/approve", json=body).status_code == code
    assert not site.waiting


def test_an_approval_without_a_commit_is_told_where_to_look(site: Site, production: str) -> None:
    answer = site.api("POST", f"/environments/{production}/approve", json={"tag": "v2"})
    assert "field commit is missing" in answer.json["error"]
    assert "refused_tags" in answer.json["error"]


@pytest.mark.parametrize("name", ["x" * 500, "ada (by bob)" * 9, "\x1b[2J" * 40, "é" * 99, "a " * 60])
def test_a_long_approver_name_never_hides_the_caller(site: Site, production: str, name: str) -> None:
    body = {"tag": "v2", "commit": SHA, "by": name}
    assert site.api("POST", f"/environments/{production}/approve", json=body).status_code == 202
    (work,) = site.waiting
    assert work.spec.approved_by.endswith(" (by the API token)")
    assert len(work.spec.approved_by) <= 100


def test_only_production_is_approved_and_only_with_the_token(site: Site, made: dict[str, str]) -> None:
    before = site.waiting
    path, body = f"/environments/{made['staging']}/approve", {"tag": "v2", "commit": SHA}
    assert site.api("POST", path, json=body).status_code == 409
    assert site.api("POST", path, token=None, json=body).status_code == 401
    assert site.waiting == before
