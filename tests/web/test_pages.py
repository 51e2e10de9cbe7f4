"""Tests of the dashboard's pages: their texts, and that names or reasons never become markup."""

import json
import re
import time
from html.parser import HTMLParser
from typing import Any

import pytest

from deployer.model.delivery_record import DeliveryRecord
from deployer.model.environment_status import StackFailure
from deployer.model.environments import Repository
from deployer.model.refs import Ref
from deployer.model.repository_record import RepositoryRecord
from deployer.model.targets import UNFENCED
from deployer.model.visible import visible
from deployer.queue.dead_letter_record import DeadLetter
from deployer.queue.dead_letters import letter_id
from deployer.queue.items import Task, Work
from deployer.queue.step_results import DeadLettered, Finished, RetryLater, WaitUntil
from tests.records import know_repository
from tests.web.fill import FAILURE, fill, fill_odd, fill_production
from tests.web.site import SHA, Site, record

_VOID = {"wbr", "meta", "link", "img", "br", "hr", "input"}
ODD = [
    "feature/ü#1",
    "<script>alert(1)</script>",
    "<img/src=x/onerror=alert(1)>",
    'a"onmouseover="alert(1)',
    "a'b&amp;<b>",
    "{{7+7}}",
    "100%25%3Cscript%3E",
    "\u202eevil",
    "a\u2028b\x85c\x9b2J\u200bd\u3164",
    "x" * 900,
]
WILD = '<script>alert(\'x\')</script> " onload="x" & </td></table> {{ 7*7 }}'


class Page(HTMLParser):
    """A page taken apart; its tags must be closed as they were opened."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        assert answer.mimetype == "text/html"
        self.feed(answer.text)
        self.close()
        assert self._open == []
        self.words = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, attribute: str) -> list[str]:
        """The values of an attribute."""
        return [given[attribute] for name, given in self.tags if name == tag and attribute in given]

    @property
    def refreshes(self) -> bool:
        return "refresh" in self.all("meta", "http-equiv")


def look(site: Site, path: str = "/", code: int = 200) -> Page:
    """Get a page, and insist that it is harmless: no script, no handler, nothing from elsewhere."""
    answer = site.client.get(path)
    assert answer.status_code == code, answer.text
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "script-src" not in policy
    page = Page(answer)
    assert not {"script", "style", "iframe", "object", "form", "button", "input"} & {
        tag for tag, _ in page.tags
    }
    for tag, given in page.tags:
        assert not [name for name in given if name.startswith("on") or name == "style"], (tag, given)
    for source in page.all("link", "href") + page.all("img", "src"):
        assert source.startswith("/static/")
        with site.client.get(source) as found:
            assert found.status_code == 200
    for target in page.all("a", "href"):
        assert re.match(r"https?://|/(?!/)", target), target
    return page


# --- overview -----------------------------------------------------------------------------------------------------


def test_an_empty_overview_says_what_to_do(site: Site) -> None:
    page = look(site)
    assert "No environment yet" in page.words
    assert "deployer resync --all" in page.words
    assert "Dead letters" not in page.words


def test_the_overview_shows_environments_queues_letters_and_activity(site: Site) -> None:
    made = fill(site.lanes)
    page = look(site)
    links = page.all("a", "href")
    for name in ("staging", "deployed", "failed"):
        assert f"/environments/{made[name]}" in links
    for words in (
        "7 environments",
        "2 in progress",
        "1 failed",
        "1 dead letter As of",
        "make test",
        made["letter"],
        "1 dead letter awaits a decision, for 0 s",
        "sync hotfix/cache",
        "feature/search",
        "Show 1 deleted",
        "went through every stage",
    ):
        assert words in page.words
    assert "acme/<wbr>storefront" in site.client.get("/").text  # where a narrow column may break it
    assert page.refreshes


def test_deleted_environments_are_shown_if_asked_for(site: Site) -> None:
    made = fill(site.lanes)
    path = f"/environments/{made['deleted']}"
    hidden, shown = look(site), look(site, "/?deleted=1")
    assert "Hide deleted environments" in shown.words
    assert shown.all("a", "href").count(path) == hidden.all("a", "href").count(path) + 1


def shown(page: Page) -> set[str]:
    """The repositories whose environments a page shows."""
    return set(re.findall(r"acme/r\d\d", page.words.partition("Recent activity")[0]))


def test_many_environments_are_shown_by_pages(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.pages._SHOWN_ENVIRONMENTS", 50)
    names = [f"acme/r{number:02}" for number in range(52)]
    for name in names:
        state = "failed" if name == names[-1] else "deployed"
        site.push("x", delivery=f"d-{name[-2:]}", repository=name)
        site.finish(Finished(state, "", record("x", name, state=state, outcome=state)))
    first, last = look(site), look(site, "/?page=2")
    for page in (first, last):
        assert "52 environments" in page.words
        assert "1 failed" in page.words
    assert "Page 1 of 2, 52 environments" in first.words
    assert (shown(first), shown(last)) == (set(names[:50]), set(names[50:]))
    assert first.all("a", "href").count("/?page=2") == 1
    assert last.all("a", "href").count("/?page=1") == 1
    assert shown(look(site, "/?page=99")) == shown(last)
    assert shown(look(site, "/?page=-1")) == shown(look(site, "/?page=x")) == shown(first)
    assert "30" in first.all("meta", "content")

    failed = look(site, "/?state=failed")
    assert "/?state=failed" in first.all("a", "href")
    assert "52 environments" in failed.words
    assert shown(failed) == {names[-1]}
    assert "Only environments that" not in look(site, "/?state=x").words


def test_of_many_lanes_the_first_are_shown(site: Site) -> None:
    for number in range(51):
        site.push("x", delivery=f"d-{number}", repository=f"acme/r{number:02}")
    page = look(site)
    assert "The first 50 of 51." in page.words
    assert "acme/r50" not in page.words


def test_a_queue_item_that_no_worker_understands_is_shown(site: Site) -> None:
    site.push("x", delivery="d-1")
    site.lanes.refuse(
        Repository.parse("acme/api"), site.queue.sent[-1].token, "this version knows no such task"
    )
    assert (
        "acme/api development:refs/heads/x: workers did not understand its queue item: this version knows no such task"
        in look(site).words
    )


def test_only_the_newest_dead_letters_are_shown(site: Site) -> None:
    repository = Repository.parse("acme/api")
    for number in range(12):
        site.push(f"x{number}", delivery=f"d-{number}")
        work = '{"environment": "staging"}'
        letter = DeadLetter(
            f"acme~api-{number}", str(repository), Task.SYNC, "a bug", "", 1000.0 + number, work
        )
        site.finish(DeadLettered(letter))
    page = look(site)
    assert "The newest 10 of 12" in page.words
    assert re.findall(r"acme~api-(\d+)", page.words) == [str(number) for number in range(11, 1, -1)]


# --- what is not as usual ---


def test_the_overview_shows_the_time_of_its_numbers(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.pages.time.time", lambda: 1_800_000_000.0)
    assert '<time datetime="2027-01-15T08:00:00.000Z">08:00 UTC</time>' in site.client.get("/").text
    assert "As of 08:00 UTC" in look(site).words


def test_the_overview_marks_unusual_states(site: Site) -> None:
    fill_odd(site.lanes)
    page = look(site)
    for words in (
        "5 repositories are not in the normal state: acme/was-archived archived, acme/was-deleted deleted,",
        "acme/was-removed removed and 2 more",
        "3 deliveries were missed: 2 redelivered, 1 superseded by a newer push",
        "1 drifted: changed outside deployer",
        "acme/was-renamed renamed",
        "deployed drift",
        "1 with foreign executions: started outside deployer",
        "deployed foreign execution",
        "deployed orphan",
        "deployed held",
        "kept for 14 d, expires in 14 d",
        "expires in",
    ):
        assert words in page.words
    assert any("is archived: nothing new runs" in title for title in page.all("span", "title"))
    drifted = look(site, "/?state=drifted")
    assert "Only environments that have drifted." in drifted.words
    tables = drifted.text.partition("Recent activity")[0]
    assert ("feature/ü#1" in tables, "idle-for-long" in tables) == (True, False)


def test_the_overview_shows_only_environments_with_foreign_executions(site: Site) -> None:
    fill_odd(site.lanes)
    page = look(site, "/?state=foreign")
    assert "Only environments that have foreign executions." in page.words
    tables = page.text.partition("Recent activity")[0]
    assert ("released-by-hand" in tables, "idle-for-long" in tables) == (True, False)


def test_an_environment_shows_unusual_states(site: Site) -> None:
    made = fill_odd(site.lanes)
    for name, words in (
        ("drifted", "that deployer did not order; undo it: deployer redeploy acme/odd 'feature/ü#1'"),
        (
            "foreign",
            r"Foreignnot deployer's deployment: execution 0a1b2c3d of d{12} succeeded; user/ada started it; deploy",
        ),
        (
            "warned",
            r"Ageexpires in \d+ hidle since [-0-9: ]+ UTC; time to live 3d \(ttl of deploy/deployer.yml\);",
        ),
        ("warned", r"expires [-0-9: ]+ UTC if unused; warned on [-0-9: ]+ UTC"),
        ("kept", r"kept for 14 d, expires in 14 didle since .* kept until [-0-9: ]+ UTC"),
        ("asleep", r"asleep until [-0-9: ]+ 00:00 UTC \(Mon 00:00-Mon 00:00 UTC\)"),
        ("held", "Heldpinned to [0-9a-f]{12} although held-back is at c{12}; the next push ends the pin"),
        ("halfway", "Teardown report under way 3 removed so far, 1 retained"),
        ("orphan", r"Orphanits branch is gone since [-0-9: ]+ UTC; it is deleted in 40 min"),
    ):
        page = Page(site.client.get(f"/environments/{made[name]}"))
        assert re.search(words, page.words), page.words


def test_production_shows_admitted_and_refused_tags(site: Site) -> None:
    page = site.client.get(f"/environments/{fill_production(site.lanes)}").text
    assert "v1 at aaaaaaaaaaaa: it is on main at aaaaaaaaaaaa" in page
    assert "v2 is not on main" in page


def test_an_environment_shows_the_unusual_state_of_its_repository(site: Site) -> None:
    fill_odd(site.lanes)
    (identity,) = {
        each for each in look(site).all("a", "href") if each.startswith("/environments/was-replaced-")
    }
    assert "another repository has the name acme/was-replaced now" in look(site, identity).words


def test_repositories_with_an_unusual_state_come_first(site: Site) -> None:
    assert "No repository yet" in look(site, "/repositories").words
    fill(site.lanes)
    fill_odd(site.lanes)
    know_repository(site.lanes, RepositoryRecord("-/-", unchecked="GitHub answers 403"))
    for number in range(5):
        site.lanes.ignore(DeliveryRecord(f"u-{number}", f"else/r{number}", reason="no"), served=False)
    page = look(site, "/repositories")
    for words in (
        "5 repositories send deliveries but match no pattern in DEPLOYER_REPOSITORIES: else/r4, else/r3,",
        "else/r2 and 2 more; the last delivery came 0 s ago",
        "acme/was-removedacme/was-removed was taken from the GitHub App: it is looked at no longer",
        "removed 1 d ago main none was missed; checked 1 h ago",
        "3 deliveries were missed: 2 redelivered, 1 superseded by a newer push, 2 h ago",
        "missed deliveries are left to the resync: GitHub answers 404",
        "it is deleted in 40 min",
        "acme/storefront normal",
        "Deliveries of the GitHub App: missed deliveries are left to the resync: GitHub answers 403",
    ):
        assert words in page.words
    names = re.findall(r"(acme/[-a-z]+) ", page.words)
    assert names[0] == "acme/was-archived"
    assert names[-2:] == ["acme/api", "acme/storefront"]


def test_many_repositories_are_listed_by_pages(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.pages._SHOWN_REPOSITORIES", 2)
    for number in range(3):
        site.push("x", delivery=f"d-{number}", repository=f"acme/r{number}")
    know_repository(site.lanes, RepositoryRecord("acme/r2", state="archived", reason=WILD))
    first, last = look(site, "/repositories"), look(site, "/repositories?page=2")
    assert "Page 1 of 2, 3 repositories, 1 of them with an unusual state." in first.words
    assert " ".join(WILD.split()) in first.words
    assert ("acme/r0" in first.words, "acme/r1" in first.words) == (True, False)
    assert ("acme/r1" in last.words, "acme/r2" in last.words) == (True, False)
    assert "/repositories?page=2" in first.all("a", "href")


# --- an environment -----------------------------------------------------------------------------------------------


def test_an_environment_shows_its_reason_and_stages(site: Site) -> None:
    stages = [
        {"name": "Source", "status": "succeeded", "reason": "", "url": ""},
        {"name": "Build", "status": "failed", "reason": "exit status 2", "url": "https://console.example/x"},
    ]
    identity = site.put(
        record(state="failed", outcome="failed", reason="Build failed: make test", stages=stages)
    )
    page = look(site, f"/environments/{identity}")
    for words in ("feature/x failed", "Build failed: make test", "exit status 2", identity, SHA):
        assert words in page.words
    links = page.all("a", "href")
    assert "https://console.example/x" in links
    assert f"https://github.com/acme/api/commit/{SHA}" in links
    assert not page.refreshes


def test_a_failure_leads_to_the_console_and_to_the_line(site: Site) -> None:
    identity = site.put(record(state="failed", outcome="failed", reason="Role: no", failure=FAILURE))
    page = look(site, f"/environments/{identity}")
    for words in ("What failed", "Role AWS::IAM::Role", FAILURE.reason, "deploy/pipeline.yml:42"):
        assert words in page.words
    links = page.all("a", "href")
    assert FAILURE.url in links
    assert f"https://github.com/acme/api/blob/{SHA}/deploy/pipeline.yml#L42" in links

    bare = look(
        site, f"/environments/{site.put(record(failure=StackFailure(reason=WILD, url='javascript:x')))}"
    )
    assert " ".join(WILD.split()) in bare.words
    assert "javascript:x" not in bare.all("a", "href")


def test_a_deleted_environment_shows_its_teardown_report(site: Site) -> None:
    made = fill(site.lanes)
    page = look(site, f"/environments/{made['deleted']}")
    for words in (
        "Teardown report partly",
        "3 removed, 1 retained",
        "stack shared-network it does not bear deployer's tags for this environment",
        "stack api-old-experiment-app 12 arn:aws:cloudformation",
        "bucket api-old-experiment-artifacts",
        "eu-west-1",
    ):
        assert words in page.words
    deployed = look(site, f"/environments/{made['deployed']}").words
    assert "Receipt" not in deployed
    assert "What failed" not in deployed
    assert "No stage" not in page.words
    asleep = fill_odd(site.lanes)["asleep"]
    assert "No stage" not in look(site, f"/environments/{asleep}").words


def test_an_environment_shows_the_progress_of_its_deletion(site: Site) -> None:
    removed = {"what": "stack app", "id": "arn:app", "resources": 2}
    receipt = {"began_at": 1, "at": 0, "removed": [removed], "retained": [], "unlisted": {"removed": 50}}
    identity = site.put(record(state="deleting", receipt=receipt))
    page = look(site, f"/environments/{identity}").words
    assert "Teardown report under way" in page
    assert "51 removed so far." in page
    assert "50 more are not listed." in page


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JAVASCRIPT:alert(1)",
        "data:text/html,x",
        "//evil.example",
        "https://[x",
        "x",
        "",
    ],
)
def test_a_stage_leads_nowhere_but_to_the_web(site: Site, url: str) -> None:
    stages = [{"name": "Build", "status": "failed", "reason": "", "url": url}]
    identity = site.put(record(stages=stages))
    assert url not in look(site, f"/environments/{identity}").all("a", "href") or not url


@pytest.mark.parametrize(
    ("api_url", "link"),
    [
        ("https://api.github.com", f"https://github.com/acme/api/commit/{SHA}"),
        ("https://git.example/api/v3", f"https://git.example/acme/api/commit/{SHA}"),
        ("https://api.acme.ghe.com", f"https://acme.ghe.com/acme/api/commit/{SHA}"),
        ("https://proxy.example", None),
    ],
)
def test_a_commit_leads_to_github_where_its_address_is_known(api_url: str, link: str | None) -> None:
    site = Site({"DEPLOYER_GITHUB_API_URL": api_url})
    identity = site.put(record())
    found = [each for each in look(site, f"/environments/{identity}").all("a", "href") if "commit" in each]
    assert found == [link] * len(found)
    assert bool(found) == bool(link)


@pytest.mark.parametrize(
    "state", ["pending", "provisioning", "updating", "running", "deleting", "deployed", "deleted"]
)
def test_a_page_reloads_while_work_is_in_progress(site: Site, state: str) -> None:
    identity = site.put(record(state=state))
    assert look(site, f"/environments/{identity}").refreshes == (state not in {"deployed", "deleted"})


def test_an_environment_shows_its_position_in_the_queue(site: Site) -> None:
    first, second = record("first"), record("second")
    site.push("first", delivery="d-1")
    assert "sync was sent to the workers" in look(site, f"/environments/{first.stack_name}").words
    site.push("second", delivery="d-2")
    site.push("third", delivery="d-3")
    work = site.lanes.begin(Repository.parse("acme/api"), site.queue.sent[-1].token)
    assert work is not None
    assert "sync is running" in look(site, f"/environments/{first.stack_name}").words
    assert "queued, 1 of 2 in the queue" in look(site, f"/environments/{second.stack_name}").words
    site.lanes.finish(Repository.parse("acme/api"), site.queue.sent[-1].token, WaitUntil(work, 100, first))
    assert re.search(
        r"waiting; checks again in (1 min|99 s), or when an AWS event",
        look(site, f"/environments/{first.stack_name}").words,
    )


def test_an_environment_shows_its_own_history_only(site: Site) -> None:
    site.put(record("other", reason="of another"))
    identity = site.put(record(reason="of this"))
    page = look(site, f"/environments/{identity}")
    assert "of this" in page.words
    assert "of another" not in page.words


# --- a dead letter ------------------------------------------------------------------------------------------------


def _dead(site: Site, kind: str, reason: str, delivery: str = "d-1") -> DeadLetter:
    """A worker gives up on a push to `feature/x` at its second attempt."""
    site.push(delivery=delivery)
    repository = Repository("acme", "api")
    (work,) = site.waiting
    site.finish(RetryLater(work.but(attempts=1), 0, "creating stack x: Throttling"))
    site.lanes.clock_offset_ms += 1000
    site.queue.sent += site.lanes.sweep()
    token = site.queue.sent[-1].token
    (work,) = site.waiting
    letter = DeadLetter(
        letter_id(repository, token), "acme/api", Task.PROVISION, reason, f"Traceback: {reason}", time.time(),
        work.but(attempts=2).to_json(), kind,
    )  # fmt: skip
    site.finish(DeadLettered(letter))
    return letter


def test_a_dead_letter_shows_its_reason_and_remedies(site: Site) -> None:
    letter = _dead(site, "TransientError", "creating stack x: AWS cannot be reached")
    overview = look(site)
    path = f"/dead-letters/{letter.id}"
    assert path in overview.all("a", "href")
    assert overview.words.index("1 dead letter awaits a decision") < overview.words.index("No environment")
    page = look(site, path)
    for words in (
        "provision was given up after 2 attempts in",
        ": creating stack x: AWS cannot be reached",
        "deployer.provision (push)",
        "Deliveriesd-1",
        "sync creating stack x: Throttling",
        "creating stack x: AWS cannot be reached What to do",
        f"deployer dead-letters show {letter.id}",
        f"deployer dead-letters replay {letter.id}",
        "deployer dead-letters replay --all --kind TransientError",
        f"deployer dead-letters discard {letter.id}",
        "Redeliver",
    ):
        assert words in page.words
    environment = f"/environments/{record().stack_name}"
    assert environment in page.all("a", "href")
    assert path in look(site, environment).all("a", "href")
    assert "Traceback:" not in page.words


def test_pages_show_only_the_class_of_an_unexpected_error(site: Site) -> None:
    letter = _dead(site, "KeyError", "KeyError: 'token=hush'")
    page = look(site, f"/dead-letters/{letter.id}")
    assert "provision ended in an unexpected error at attempt 2: KeyError" in page.words
    assert "sync creating stack x: Throttling" in page.words
    for path in ("/", f"/dead-letters/{letter.id}", f"/environments/{record().stack_name}"):
        assert "hush" not in site.client.get(path).text
    told = site.api("GET", f"/dead-letters/{letter.id}").json
    assert all("hush" in text for text in (told["reason"], told["traceback"], told["attempts"][-1]["error"]))


def test_a_dead_letter_of_an_older_version_is_shown(site: Site) -> None:
    site.push()
    (work,) = site.waiting
    fields = {"id": "acme~api-1", "repository": "acme/api", "task": "deployer.sync", "reason": "why"}
    older = {**fields, "traceback": "", "at": 1.0, "work": '{"environment": "*", "attempts": 3}'}
    site.redis.hset("deployer:{acme/api}:dead", "acme~api-1", json.dumps(older))
    page = look(site, "/dead-letters/acme~api-1")
    assert "whole repository dead-lettered" in page.words
    assert "Attempts 3; no details were recorded." in page.words
    assert "--all" not in page.words
    assert work.failed_attempts == []


def test_a_replayed_or_discarded_dead_letter_has_no_page(site: Site) -> None:
    letter = _dead(site, "TransientError", "why")
    site.lanes.discard(letter.id)
    assert "it may have been replayed" in look(site, f"/dead-letters/{letter.id}", 404).words


# --- names and reasons of other people ----------------------------------------------------------------------------


@pytest.mark.parametrize("branch", ODD)
def test_an_odd_name_is_shown_as_it_is(site: Site, branch: str) -> None:
    found, shown = record(branch), visible(branch)
    site.push(branch)
    site.push("another", delivery="d-2")
    assert shown in look(site).words
    assert shown in look(site, f"/environments/{found.stack_name}").words
    site.finish(Finished("deployed", "it is there", found.but(state="deployed", outcome="deployed")))
    for path in ("/", f"/environments/{found.stack_name}"):
        page = look(site, path)
        assert shown in page.words
    assert f"/environments/{found.stack_name}" in look(site).all("a", "href")


def test_invisible_characters_are_shown_and_right_to_left_names_are_isolated(site: Site) -> None:
    branch = "\u202eniam\u2028\x85\x9b\u200b"
    stages = [{"name": branch, "status": "failed", "reason": branch, "url": ""}]
    failure = {"resource": branch, "reason": branch}
    receipt = {
        "at": 1.0,
        "outcome": "partly",
        "removed": [],
        "retained": [{"what": branch, "id": branch, "why": branch}],
    }
    identity = site.put(
        record(branch, reason=branch, stages=stages, failure=failure, receipt=receipt, drift=branch)
    )
    know_repository(
        site.lanes, RepositoryRecord("acme/api", state="archived", reason=branch, default_branch=branch)
    )
    site.push("dies", delivery="d-2")
    work = Work(environment=record(branch).environment)
    letter = DeadLetter(
        "acme~api-1", "acme/api", "deployer.sync", branch, "", 1.0, work.to_json(), "TransientError"
    )
    site.finish(DeadLettered(letter))
    site.push(branch, delivery="d-3")
    for path in ("/", f"/environments/{identity}", "/dead-letters/acme~api-1", "/repositories"):
        text = site.client.get(path).text
        assert '<bdi dir="ltr">\\u202eniam\\u2028\\u0085\\u009b\\u200b</bdi>' in text, path
        assert visible(text, keep="\n\t") == text, path


@pytest.mark.parametrize("branch", ["production", "staging"])
def test_a_branch_named_like_another_environment_is_told_apart(site: Site, branch: str) -> None:
    identity = site.put(record(branch, reason="of the branch"))
    for path in ("/", f"/environments/{identity}"):
        assert f"refs/heads/{branch}" in look(site, path).words


def test_a_wild_reason_is_shown_as_it_is(site: Site) -> None:
    stages = [{"name": WILD, "status": WILD, "reason": WILD, "url": "https://x.example/\"onclick='x'"}]
    identity = site.put(
        record(state=WILD, outcome=WILD, reason=WILD, execution=WILD, stages=stages, commit='"><script>')
    )
    site.push("dies", delivery="d-2")
    work = '{"environment": "<b>"}'
    site.finish(
        DeadLettered(DeadLetter("acme~api-<b>", "acme/api", WILD, WILD, "", 1.0, work, "TransientError"))
    )
    for path in ("/", f"/environments/{identity}", "/dead-letters/acme~api-%3Cb%3E"):
        assert WILD in look(site, path).words


@pytest.mark.parametrize(
    "name", ["%3Cscript%3Ealert(1)%3C/script%3E", "%3Cscript%3E", "%22onload=%22x", "x" * 3000, "%0a%ff%00"]
)
def test_an_unknown_environment_is_a_page_too(site: Site, name: str) -> None:
    page = look(site, f"/environments/{name}", 404)
    assert "Not found" in page.words
    assert "/" in page.all("a", "href")


# --- what is not there --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/environments/",
        "/dead-letters/",
        "/dead-letters/unknown",
        "/environments/unknown",
        "/static/unknown.css",
    ],
)
def test_unknown_paths_are_not_found(site: Site, path: str) -> None:
    look(site, path, 404)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_pages_change_nothing(site: Site, method: str) -> None:
    identity = site.put(record())
    before = site.redis.keys("*")
    for path in ("/", f"/environments/{identity}"):
        assert site.client.open(path, method=method).status_code == 405
    assert site.redis.keys("*") == before


def test_without_redis_the_page_says_so_and_tries_again(site: Site) -> None:
    with site.redis_away():
        answer = site.client.get("/")
        page = look(site, "/", 503)
    assert answer.headers["Retry-After"]
    assert "Temporarily unavailable" in page.words
    assert page.refreshes


def test_the_overview_warns_while_a_worker_runs_unfenced(site: Site) -> None:
    assert "DEPLOYER_UNFENCED" not in site.client.get("/").text
    site.lanes.send_heartbeat(UNFENCED, 60)
    page = Page(site.client.get("/"))
    assert "Workers run with DEPLOYER_UNFENCED=yes: everybody who can push a branch can use AWS" in page.words


def test_pages_hold_no_secret(site: Site) -> None:
    made = fill(site.lanes)
    shown = "".join(site.client.get(path).text for path in ("/", f"/environments/{made['failed']}"))
    for secret in (*site.deployer.config.webhook_secrets, "api-token", "aws-key", "Traceback"):
        assert secret not in shown


def test_the_style_sheet_loads_nothing(site: Site) -> None:
    with site.client.get("/static/style.css") as answer:
        assert answer.mimetype == "text/css"
        assert not re.search(r"url\(|@import|expression", answer.text)


def test_odd_names_are_names_that_git_allows() -> None:
    assert [Ref.of_branch(branch).short for branch in ODD] == ODD


@pytest.mark.parametrize("whose", ["-/-", "acme/api"])
def test_pages_are_shown_although_the_record_of_a_repository_or_the_app_is_damaged(
    site: Site, whose: str
) -> None:
    site.push("feature/x")
    site.finish(Finished("deployed", "", record("feature/x", state="deployed", outcome="deployed")))
    identity = record("feature/x").stack_name
    site.redis.set(f"deployer:{{{whose}}}:repository", "no JSON")
    for path in ("/", "/repositories", f"/environments/{identity}"):
        assert site.client.get(path).status_code == 200, path
    answer = site.api("GET", "/repositories")
    assert (answer.status_code, answer.json["app"]) == (200, None)
    assert [each["repository"] for each in answer.json["repositories"]] == ["acme/api"]
