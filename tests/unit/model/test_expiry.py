"""The life of a development environment that nobody uses: warned of, taken down, brought back."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from world import HELLO, TEMPLATE, World, environment, sha

from deployer.deployment.reconcile import Reconciler, ReconcilerOptions
from deployer.model.durations import date
from deployer.model.environment_record import EnvironmentRecord, ExpiryNotice
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import PermanentError, TransientError
from deployer.model.expiry import FOREVER, AgeAction, asleep_until, due_age_action, expires_at
from deployer.model.refs import Ref
from deployer.queue.items import Cause, Work
from workers.scheduler import Scheduler

BRANCH, MAIN = "refs/heads/x", "refs/heads/main"
HOUR, DAY = 3600, 86_400
NOW = 1_800_000_000.0  # 2027-01-15 08:00 UTC
DEV = environment(BRANCH)
FILES = {"pipeline.yml": TEMPLATE}


def record(**fields: object) -> EnvironmentRecord:
    made = EnvironmentRecord.of("acme/hello", DEV.key, DEV.stack_name, state="deployed", used_at=NOW)
    return made.but(**fields)


@pytest.mark.parametrize(
    ("fields", "later", "act"),
    [
        ({}, 2.9 * DAY, AgeAction.WARN),
        ({}, 2.2 * DAY, None),  # a quarter of three days, at most a day: it is warned of after two and a quarter
        ({}, 30 * DAY, AgeAction.WARN),  # never without a warning
        ({"ttl": "never"}, 30 * DAY, None),
        ({"ttl": "4h"}, 2.9 * HOUR, None),
        ({"ttl": "4h"}, 3 * HOUR, AgeAction.WARN),
        ({"warn": "2d"}, 0.9 * DAY, None),  # at most half of its time
        ({"warn": "2d"}, 1.5 * DAY, AgeAction.WARN),
        ({"warn": "1h"}, 3 * DAY - 2 * HOUR, None),
        ({"warn": "1h"}, 3 * DAY - HOUR, AgeAction.WARN),
        ({"warn": "1h", "warned_at": NOW + 3 * DAY}, 3 * DAY + 0.9 * HOUR, None),
        ({"warn": "1h", "warned_at": NOW + 3 * DAY}, 3 * DAY + HOUR, AgeAction.EXPIRE),
        ({"warned_at": NOW + 2.5 * DAY}, 3.1 * DAY, None),  # the warning came late, and has its time
        ({"warned_at": NOW + 2.5 * DAY}, 3.3 * DAY, AgeAction.EXPIRE),
        ({"warned_at": NOW + 2.5 * DAY, "told_end": NOW + 4 * DAY}, 3.9 * DAY, None),
        ({"warned_at": NOW - DAY, "told_end": NOW + 4 * DAY}, 0, AgeAction.WITHDRAW_WARNING),
        ({"warned_at": NOW - DAY}, DAY, AgeAction.WITHDRAW_WARNING),  # it was used after the warning
        ({"kept_at": NOW + 2 * DAY}, 2.9 * DAY, None),
        ({"kept_at": NOW, "kept_until": NOW + 9 * DAY}, 8 * DAY, None),
        ({"kept_at": NOW, "kept_until": NOW + 9 * DAY}, 8.3 * DAY, AgeAction.WARN),
        ({"kept_at": NOW, "kept_until": FOREVER}, 3000 * DAY, None),
        ({"used_at": 0.0, "updated_at": NOW}, 2.9 * DAY, AgeAction.WARN),  # known from before ages were
        ({"state": "running"}, 9 * DAY, None),
        ({"state": "deleted"}, 9 * DAY, None),
        ({"state": "skipped"}, 9 * DAY, None),
        ({"state": "skipped", "stack_arn": "arn:x"}, 9 * DAY, AgeAction.WARN),
        ({"state": "skipped", "stack_arn": "arn:x", "sleep": "20:00-07:00"}, 12 * HOUR, None),
        ({"state": "failed"}, 9 * DAY, AgeAction.WARN),
        ({"state": "failed", "aged_at": NOW + 9 * DAY}, 9 * DAY + 60, None),  # tried a minute ago
        ({"environment": "staging"}, 99 * DAY, None),
        ({"environment": "production"}, 99 * DAY, None),
        ({"sleep": "20:00-07:00"}, 11 * HOUR, None),
        ({"sleep": "20:00-07:00"}, 12 * HOUR, AgeAction.SLEEP),
        ({"sleep": "20:00-07:00", "used_at": NOW + 13 * HOUR}, 14 * HOUR, None),  # somebody works late
        ({"sleep": "20:00-07:00", "kept_until": NOW + DAY}, 14 * HOUR, None),
        ({"sleep": "20:00-07:00", "state": "asleep", "aged": "night"}, 22 * HOUR, None),
        ({"sleep": "20:00-07:00", "state": "asleep", "aged": "night"}, 23 * HOUR, AgeAction.WAKE),
        ({"sleep": "20:00-07:00", "state": "failed", "aged": "night"}, 23 * HOUR, AgeAction.WAKE),
        ({"sleep": "20:00-07:00 Nowhere/At_All"}, 12 * HOUR, None),
        # it is a Friday; 36 hours later Saturday evening
        ({"sleep": "Mon-Thu 20:00-07:00"}, 12 * HOUR, None),
        ({"sleep": "Mon-Thu 20:00-07:00; Fri 20:00-Mon 07:00"}, 36 * HOUR, AgeAction.SLEEP),
        ({"sleep": "Fri 20:00-Mon 07:00", "used_at": NOW + 30 * HOUR}, 36 * HOUR, None),  # on the weekend
        ({"sleep": "Fri 20:00-Mon 07:00", "state": "asleep", "aged": "night"}, 48 * HOUR, None),
        ({"sleep": "Fri 20:00-Mon 07:00", "state": "asleep", "aged": "night"}, 71 * HOUR, AgeAction.WAKE),
    ],
)  # fmt: skip
def test_what_an_age_asks_for(fields: dict[str, object], later: float, act: AgeAction | None) -> None:
    assert due_age_action(record(**fields), "3d", NOW + later) is act


def test_it_never_ends_sooner_than_the_warning_allows() -> None:
    assert expires_at(record(), "3d", NOW) == NOW + 3 * DAY
    assert expires_at(record(), "3d", NOW + 9 * DAY) == NOW + 9 * DAY + 0.75 * DAY
    assert expires_at(record(), "never", NOW) is None


# --- the whole life ---------------------------------------------------------------------------------------------


class Life(World):
    def pass_time(self, seconds: float) -> None:
        self.lanes.clock_offset_ms += int(seconds * 1000)
        self.look()

    def live(self, ttl: str) -> None:
        """The installation's time to live is another, and all is started anew."""
        made = self.deployer
        made.config = replace(made.config, ttl=ttl)
        made.__dict__.pop("submitter", None)
        made.__dict__["reconciler"] = Reconciler(
            self.host, self.clouds, made.inventory, self.lanes, made.repositories, ReconcilerOptions(ttl=ttl),
            self.evaluator, made.outbox, clock=self._now,
        )  # fmt: skip

    def look(self) -> None:
        """What the scheduler does each minute."""
        self.deployer.submitter.queue_expiry_checks(self._now())
        self.run()

    def resync(self) -> None:
        self.deployer.submitter.resync(HELLO)
        self.run()

    def said(self) -> dict[str, str]:
        """What the comments say, without their hidden lines."""
        return {place: text.split("\n\n")[1] for (_, place), text in self.host.said.items()}

    def age(self, commit: str) -> str:
        return self.host.statuses[HELLO, commit]["deployer/age"].description


@pytest.fixture
def life() -> Iterator[Life]:
    made = Life()
    made.push(MAIN, sha(9))
    made.push(BRANCH, sha(1), files={"deployer.yml": "ttl: 3d"})
    made.run()
    assert made.record(DEV).status.state == "deployed"
    return made


def expire(life: Life) -> None:
    life.pass_time(2.5 * DAY)
    life.pass_time(DAY)
    assert life.record(DEV).status.state == "deleted"


def test_it_is_warned_of_then_taken_down_with_a_receipt_and_woken_by_a_push(life: Life) -> None:
    life.pass_time(2.5 * DAY)
    assert life.record(DEV).status.state == "deployed"
    end = date(life.record(DEV).history.told_end)
    warning = f"x: will be taken down on {end} if it stays unused; push, or: deployer keep acme/hello x"
    assert life.age(sha(1)) == warning
    life.pass_time(60)
    assert sum("will be taken down" in each for each in life.posted(sha(1))) == 1

    life.pass_time(DAY)
    known = life.record(DEV)
    assert (known.status.state, known.status.outcome, known.status.receipt.outcome) == (
        "deleted",
        "deleted",
        "removed",
    )
    assert known.status.reason.startswith("idle for 3d 12h")
    assert known.status.reason.endswith(
        "(ttl of deploy/deployer.yml); a push or deployer redeploy brings it back"
    )
    assert "was taken down: idle for 3d" in life.age(sha(1))
    assert life.cloud.stack(DEV.stack_name) is None

    life.resync()
    life.pass_time(9 * DAY)
    assert life.record(DEV).status.state == "deleted"

    life.push(BRANCH, sha(2), before=sha(1), files={"deployer.yml": "ttl: 3d"})
    life.run()
    assert life.record(DEV).status.state == "deployed"
    life.pass_time(DAY)
    assert life.record(DEV).status.state == "deployed", "its time begins anew"


def test_a_redeploy_brings_it_back(life: Life) -> None:
    expire(life)
    life.redeploy(DEV)
    life.run()
    assert (life.record(DEV).status.state, life.record(DEV).spec.expiry.aged) == ("deployed", "")
    life.resync()
    life.pass_time(DAY)
    assert life.record(DEV).status.state == "deployed"


def test_a_branch_that_is_made_anew_brings_it_back(life: Life) -> None:
    expire(life)
    life.remove(BRANCH, sha(1))
    life.run()
    assert (life.record(DEV).status.state, life.record(DEV).spec.held_at) == ("deleted", "")
    life.host.push(HELLO, BRANCH, sha(1))  # at the same commit, and nobody tells
    life.resync()
    assert life.record(DEV).status.state == "deployed"


def test_a_push_that_was_lost_is_found_instead_of_an_end(life: Life) -> None:
    life.pass_time(2.5 * DAY)
    life.host.push(HELLO, BRANCH, sha(2), files={"pipeline.yml": TEMPLATE})
    life.pass_time(DAY)
    assert (life.record(DEV).status.state, life.record(DEV).spec.commit) == ("deployed", sha(2))


def test_what_is_kept_stays_and_the_warning_is_taken_back(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    life.pass_time(2.5 * DAY)
    now = life._now()
    monkeypatch.setattr(time, "time", lambda: now)
    life.lanes.clock_offset_ms = 0
    kept = life.deployer.submitter.keep_environment(DEV, 20 * DAY)
    assert kept.spec.expiry.kept_until == pytest.approx(life._now() + 20 * DAY)
    life.redeploy(DEV)  # a record that is written meanwhile loses nothing
    life.pass_time(60)  # what the scheduler asks for joins the redeploy
    life.pass_time(60)
    assert "is used again and stays" in life.age(sha(1))
    life.pass_time(10 * DAY)
    assert life.record(DEV).status.state == "deployed"
    life.pass_time(9.5 * DAY)
    life.pass_time(DAY)
    assert life.record(DEV).status.state == "deleted"
    assert life.record(DEV).spec.expiry.kept_until == 0


def test_only_a_development_environment_that_stands_is_kept(life: Life) -> None:
    with pytest.raises(PermanentError, match="only development environments age"):
        life.deployer.submitter.keep_environment(Environment(HELLO, Kind.STAGING))
    expire(life)
    with pytest.raises(PermanentError, match="deployer redeploy acme/hello x"):
        life.deployer.submitter.keep_environment(DEV)


def sleeper(ref: str = BRANCH) -> tuple[Life, str]:
    """A branch that will sleep from two hours on, at most, for seven hours; and those hours."""
    life = Life()
    hour = time.gmtime(life._now()).tm_hour
    hours = f"{(hour + 2) % 24:02}:00-{(hour + 9) % 24:02}:00"
    life.push(ref, sha(1), files={"deployer.yml": f"sleep: {{hours: '{hours}'}}"})
    life.run()
    return life, hours


def test_it_sleeps_at_night_and_wakes_in_the_morning() -> None:
    life, hours = sleeper()
    life.pass_time(3 * HOUR)
    known = life.record(DEV)
    assert (known.status.state, known.status.receipt.outcome) == ("asleep", "removed")
    assert f"it sleeps at {hours} UTC" in known.status.reason
    assert life.host.called("facts") == [(HELLO, Ref.parse(BRANCH))], "not a walk through all refs"
    used = known.history.used_at
    life.resync()
    life.pass_time(HOUR)
    assert life.record(DEV).status.state == "asleep"
    life.pass_time(7 * HOUR)
    assert (life.record(DEV).status.state, life.record(DEV).history.used_at) == ("deployed", used), (
        "a night is no use"
    )


def test_it_does_not_end_sooner_than_people_were_told_though_the_time_to_live_is_shortened() -> None:
    life = Life()
    life.live("8d")
    life.push(BRANCH, sha(1))
    life.run()
    life.pass_time(7.1 * DAY)
    told = life.record(DEV).history.told_end
    assert told == pytest.approx(life._now() + DAY, abs=60)
    life.live("4h")
    life.pass_time(0.9 * DAY)
    assert life.record(DEV).status.state == "deployed"
    life.pass_time(0.2 * DAY)
    assert life.record(DEV).status.state == "deleted"


def test_it_stays_as_long_as_nobody_can_be_warned(life: Life) -> None:
    life.host.fail_next(PermanentError("no right to"), times=2, method="post_commit_status")
    life.host.fail_next(PermanentError("no right to"), times=2, method="comment")
    life.pass_time(2.5 * DAY)
    assert life.record(DEV).status.state == "deployed"
    life.pass_time(DAY)
    assert life.record(DEV).status.state == "deployed"
    life.pass_time(DAY)  # by now it can be told
    assert life.record(DEV).status.state == "deployed"
    assert "will be taken down" in life.age(sha(1))
    life.pass_time(DAY)
    assert life.record(DEV).status.state == "deleted"


def test_it_does_not_end_sooner_than_its_lead_after_github_shows_the_warning(life: Life) -> None:
    life.host.comment_rights = False
    life.host.fail_next(TransientError("GitHub answers 502"), times=1, method="post_commit_status")
    life.pass_time(2.5 * DAY)
    life.lanes.clock_offset_ms += int(12 * HOUR * 1000)
    life.post()
    assert "will be taken down" in life.age(sha(1))
    life.pass_time(7 * HOUR)
    assert life.record(DEV).status.state == "deployed", "it was announced 19 hours ago, and shown 7 hours ago"
    life.pass_time(12 * HOUR)
    assert life.record(DEV).status.state == "deleted"


class Patient(Life):
    settings: ClassVar = {**Life.settings, "DEPLOYER_ORPHAN_SECONDS": str(2 * DAY)}


@pytest.mark.parametrize("wishes", ["ttl: 3d", "sleep: 00:00-23:59"])
def test_the_age_of_what_has_lost_its_branch_does_not_cut_its_time_short(wishes: str) -> None:
    life = Patient()
    life.push(MAIN, sha(9))
    life.push(BRANCH, sha(1), files={"deployer.yml": wishes})
    life.run()
    life.pass_time(1.9 * DAY if "ttl" in wishes else 60)
    life.host.remove(HELLO, Ref.parse(BRANCH).name)  # and nobody tells
    life.resync()
    before = life.record(DEV)
    life.pass_time(DAY)  # its warning, or its night, is due
    assert life.record(DEV).status.state == before.status.state == "deployed"
    assert life.cloud.stack(DEV.stack_name)
    lines = len(life.lanes.activity(limit=500))
    life.pass_time(60)
    assert len(life.lanes.activity(limit=500)) == lines, "it is not looked at each minute"


def test_what_stands_though_its_head_has_no_pipeline_any_more_ages_too(life: Life) -> None:
    life.host.push(HELLO, BRANCH, sha(2), files={})
    life.deliver(BRANCH, sha(2), sha(1))
    life.run()
    assert (life.record(DEV).status.state, life.record(DEV).status.outcome) == ("skipped", "skipped")
    assert life.cloud.stack(DEV.stack_name)
    life.pass_time(2.5 * DAY)
    assert "will be taken down" in life.age(sha(2))
    life.pass_time(DAY)
    assert life.record(DEV).status.state == "deleted"
    assert life.cloud.stack(DEV.stack_name) is None


def test_what_sleeps_every_night_is_warned_of_once_and_ends_all_the_same() -> None:
    life = Life()
    hour = time.gmtime(life._now()).tm_hour
    hours = f"{(hour + 2) % 24:02}:00-{(hour + 12) % 24:02}:00"
    life.push(BRANCH, sha(1), files={"deployer.yml": f"ttl: 3d\nsleep: '{hours}'"})
    life.run()
    for _ in range(3 * 24):
        life.pass_time(HOUR)
    assert life.record(DEV).history.warned_at
    assert life.record(DEV).status.state == "deployed"
    for _ in range(24):
        life.pass_time(HOUR)
    assert (life.record(DEV).status.state, life.record(DEV).spec.expiry.aged) == ("deleted", "idle")
    assert sum("if it stays unused" in each for each in life.posted(sha(1))) == 1


def test_whoever_looks_while_it_sleeps_still_sees_when_it_ends() -> None:
    life = Life()
    hour = time.gmtime(life._now()).tm_hour
    hours = f"{(hour + 20) % 24:02}:00-{(hour + 22) % 24:02}:00"
    life.push(BRANCH, sha(1), files={"deployer.yml": f"ttl: 1d\nsleep: '{hours}'"})
    life.run()
    life.pass_time(18.5 * HOUR)
    ends = expires_at(life.record(DEV), "never", life._now())
    assert ends
    assert life.record(DEV).history.warned_at
    life.pass_time(2 * HOUR)
    assert life.record(DEV).status.state == "asleep"
    assert f"will be taken down for good on {date(ends)}, and is for the night" in life.age(sha(1))


def test_it_wakes_as_it_was_where_its_head_asks_to_be_skipped() -> None:
    life, _ = sleeper()
    life.pass_time(3 * HOUR)
    life.host.push(HELLO, BRANCH, sha(2), files=FILES, message="docs [skip ci]")
    life.pass_time(8 * HOUR)
    assert (life.record(DEV).status.state, life.record(DEV).spec.commit) == ("deployed", sha(1))
    lines = len(life.lanes.activity(limit=500))
    for _ in range(10):
        life.pass_time(60)
    life.resync()
    assert life.record(DEV).spec.commit == sha(1)
    assert len(life.lanes.activity(limit=500)) <= lines + 1, "nothing more to do, and no more is told"


def test_it_wakes_at_the_commit_that_a_person_chose() -> None:
    life, hours = sleeper()
    life.push(BRANCH, sha(2), sha(1), files={"deployer.yml": f"sleep: {{hours: '{hours}'}}"})
    life.run()
    life.deployer.submitter.request_environment(DEV, cause=Cause.REDEPLOY, sha=sha(1))
    life.run()
    life.pass_time(3 * HOUR)
    assert life.record(DEV).status.state == "asleep"
    life.pass_time(8 * HOUR)
    life.resync()
    assert (life.record(DEV).status.state, life.record(DEV).spec.commit) == ("deployed", sha(1))
    assert life.built(DEV)[-1] == (sha(1), "succeeded")


def test_it_does_not_wake_where_it_is_not_chosen_any_more() -> None:
    life, hours = sleeper()
    life.pass_time(3 * HOUR)
    wishes = f"sleep: {{hours: '{hours}'}}\nbranches: [release/*]"
    life.host.push(HELLO, BRANCH, sha(2), files={**FILES, "deployer.yml": wishes})
    life.pass_time(8 * HOUR)
    assert (life.record(DEV).status.state, life.record(DEV).spec.expiry.aged) == ("deleted", "")
    assert "branches" in life.record(DEV).status.reason
    assert life.cloud.stack(DEV.stack_name) is None


def test_what_stands_of_an_archived_repository_stays_and_what_sleeps_sleeps_on() -> None:
    life, _ = sleeper()
    life.host.change(HELLO, archived=True)
    life.pass_time(3 * HOUR)  # nobody has told
    assert life.record(DEV).status.state == "deployed"
    life.host.change(HELLO, archived=False)
    life.resync()
    life.pass_time(HOUR)
    assert life.record(DEV).status.state == "asleep"
    life.host.change(HELLO, archived=True)
    life.resync()
    life.pass_time(7 * HOUR)
    assert life.record(DEV).status.state == "asleep"
    life.host.change(HELLO, archived=False)
    life.resync()
    life.pass_time(60)
    assert life.record(DEV).status.state == "deployed"


def test_fifty_that_cannot_be_looked_at_do_not_keep_others_asleep() -> None:
    life, _ = sleeper()
    life.pass_time(3 * HOUR)
    away = Repository.parse("acme/aaa")  # a token's right was lost
    life.host.create(away)
    life.host.change(away, hidden=True)
    mine = life.record(DEV)
    for number in range(60):
        place = Environment(away, Kind.DEVELOPMENT, Ref.of_branch(f"b{number:02}"))
        record = mine.but(repository="acme/aaa", environment=place.key, stack_name=place.stack_name)
        life.redis.hset(f"deployer:{{{away.key}}}:environments", place.key, record.to_json())
    life.redis.zadd("deployer:lanes", {away.key: 0})
    life.redis.hset("deployer:spelled", away.key, away.full_name)
    life.lanes.clock_offset_ms += 8 * HOUR * 1000
    for _ in range(2):
        life.lanes.clock_offset_ms += 60_000
        life.deployer.submitter.queue_expiry_checks(life._now())
        life.run(most=200)
    assert life.record(DEV).status.state == "deployed"


def test_records_that_cannot_be_read_keep_no_others_waiting(
    life: Life, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployer.redis_store.records.values._warned", set())
    life.redis.hset("deployer:{acme/aaa}:environments", DEV.key, "what a newer version wrote")
    life.redis.zadd("deployer:lanes", {"acme/aaa": 0})
    life.lanes.index_records()
    life.pass_time(2.5 * DAY)
    assert "will be taken down" in life.age(sha(1))
    assert f"{DEV.key} of deployer:{{acme/aaa}}:environments in Redis is left out" in caplog.text


def test_one_that_cannot_be_looked_at_is_as_it_was_and_is_looked_at_now_and_then(life: Life) -> None:
    life.pass_time(2.5 * DAY)
    life.host.change(HELLO, hidden=True)
    life.pass_time(DAY)
    lines = len(life.lanes.activity(limit=500))
    for _ in range(10):
        life.pass_time(60)
    assert len(life.lanes.activity(limit=500)) == lines
    assert (life.record(DEV).status.state, life.record(DEV).status.outcome) == ("deployed", "deployed")
    life.host.change(HELLO, hidden=False)
    life.pass_time(DAY)
    assert life.record(DEV).status.state == "deleted"


def test_who_keeps_it_at_the_last_moment_keeps_it(life: Life) -> None:
    life.pass_time(2.5 * DAY)
    head, kept = life.host.head, []

    def slow(repository: Repository, ref: Ref) -> Any:
        found = head(repository, ref)
        if not kept:  # a person is quicker than GitHub's answer
            kept.append(life.deployer.submitter.keep_environment(DEV, 30 * DAY))
        return found

    life.host.head = slow
    life.pass_time(DAY)
    assert kept
    assert (life.record(DEV).status.state, life.record(DEV).spec.expiry.aged) == ("deployed", "")
    assert life.cloud.stack(DEV.stack_name) is not None


def test_one_whose_branch_is_gone_is_taken_down_at_its_end(life: Life) -> None:
    life.pass_time(2.5 * DAY)
    life.host.remove(HELLO, BRANCH)  # and no webhook tells
    life.pass_time(DAY)
    assert life.record(DEV).status.state == "deleted"


def test_an_end_that_stops_half_way_is_begun_again(life: Life) -> None:
    life.pass_time(2.5 * DAY)
    delete_stack, faults = life.cloud.delete_stack, ["AWS is away"]

    def ill(*arguments: Any, **options: Any) -> None:
        if faults:
            life.host.change(HELLO, hidden=True)  # and an App is suspended for an hour
            raise TransientError(faults.pop())
        delete_stack(*arguments, **options)

    life.cloud.delete_stack = ill
    life.pass_time(DAY)
    assert life.record(DEV).status.state == "failed"
    assert "no access" in life.record(DEV).status.reason
    life.host.change(HELLO, hidden=False)
    life.pass_time(DAY)
    assert life.record(DEV).status.state == "deleted"


def test_a_look_too_many_postpones_nothing() -> None:
    life, _ = sleeper()
    life.pass_time(3 * HOUR)
    until = asleep_until(life.record(DEV), life._now())
    assert until
    life.lanes.clock_offset_ms += int((until - life._now() - 120) * 1000)
    life.send(life.lanes.accept(HELLO, Work(environment=DEV.key, cause=Cause.AGE)).dispatch)
    life.run()
    life.pass_time(180)
    life.pass_time(60)
    assert life.record(DEV).status.state == "deployed"


def test_a_command_to_paste_runs_nothing_of_the_branch_s_name() -> None:
    life = Life()
    life.push(MAIN, sha(9))
    life.push("refs/heads/x;evil|sh", sha(1), files={"deployer.yml": "ttl: 3d"})
    life.run()
    life.pass_time(2.5 * DAY)
    assert "deployer keep acme/hello 'x;evil|sh'" in life.age(sha(1))


def test_a_wish_that_cannot_be_read_is_none() -> None:
    newer = record(ttl="a fortnight", warn="tomorrow")
    assert due_age_action(newer, "3d", NOW + 99 * DAY) is None
    assert due_age_action(record(warn="tomorrow"), "3d", NOW + 2.5 * DAY) is AgeAction.WARN


@pytest.mark.parametrize("kind", [Kind.STAGING, Kind.PRODUCTION])
def test_staging_and_production_are_not_deleted_even_if_asked_for(life: Life, kind: Kind) -> None:
    life.push("refs/tags/v1", sha(9))
    life.run()
    target = Environment(HELLO, kind)
    accepted = life.lanes.accept(HELLO, Work(environment=target.key, cause=Cause.AGE))
    assert accepted.dispatch
    life.send(accepted.dispatch)
    life.run()
    life.pass_time(99 * DAY)
    stack = life.cloud.stack(target.stack_name)
    assert stack is not None
    assert stack.status == "CREATE_COMPLETE"


# --- the comment that warns ---


COMMIT = f"commits/{sha(1)}"


def test_a_comment_on_the_commit_warns_and_tells_of_the_end_and_of_the_return(life: Life) -> None:
    life.pass_time(2.5 * DAY)
    assert list(life.said()) == [COMMIT]
    assert "will be taken down on" in life.said()[COMMIT]
    life.pass_time(60)
    life.pass_time(DAY)
    assert "was taken down on" in life.said()[COMMIT]
    life.resync()
    life.push(BRANCH, sha(2), before=sha(1), files={"deployer.yml": "ttl: 3d"})
    life.run()
    assert "is used again since" in life.said()[COMMIT]
    assert (len(life.host.called("comment")), len(life.host.called("change_comment"))) == (1, 2)
    life.pass_time(2.5 * DAY)
    assert "will be taken down on" in life.said()[f"commits/{sha(2)}"]


@pytest.mark.parametrize("use", ["push", "redeploy", "keep", "delete"])
def test_a_comment_on_a_pull_request_is_corrected_whatever_comes(
    life: Life, use: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    life.host.open_pull(HELLO, "other")
    life.host.open_pull(HELLO, "x")
    life.pass_time(2.5 * DAY)
    assert list(life.said()) == ["issues/2"]
    words = "is used again since"
    if use == "push":
        life.push(BRANCH, sha(2), before=sha(1))
    elif use == "redeploy":
        life.redeploy(DEV)
    elif use == "delete":
        life.teardown(DEV)
        words = "was deleted"
    else:
        now = life._now()
        monkeypatch.setattr(time, "time", lambda: now)
        life.lanes.clock_offset_ms = 1000
        life.deployer.submitter.keep_environment(DEV)
    life.run()
    life.pass_time(60)
    assert words in life.said()["issues/2"]
    assert life.record(DEV).history.notice == ExpiryNotice()
    life.pass_time(60)
    assert len(life.host.called("change_comment")) == 1


def test_where_comments_are_refused_the_status_alone_warns_and_that_is_logged_once(
    life: Life, caplog: pytest.LogCaptureFixture
) -> None:
    life.host.comment_rights = False
    life.pass_time(2.5 * DAY)
    life.pass_time(60)
    assert "will be taken down on " in life.age(sha(1))
    text = "only its commit's status warns of the end of acme/hello x: "
    logged = [each.getMessage() for each in caplog.records if each.getMessage().startswith(text)]
    assert len(logged) == 1
    assert "pull requests: write" in logged[0]
    life.pass_time(DAY)
    assert life.record(DEV).status.state == "deleted"
    assert life.lanes.dead_letters() == []


@pytest.mark.parametrize("rights", [True, False])
def test_a_comment_that_cannot_be_changed_holds_nothing_up(life: Life, rights: bool) -> None:
    life.pass_time(2.5 * DAY)
    (warning,) = life.host.said.values()
    if rights:
        life.host.fail_next(TransientError("GitHub answers 502"), times=2, method="change_comment")
    else:
        life.host.edit_rights = False
    delivery = life.push(BRANCH, sha(2), before=sha(1))
    life.run()
    assert life.outcome(delivery)[0] == "deployed"
    for _ in range(3):  # what failed is tried again
        life.step()
        life.tasks()
        life.post()
    (corrected,) = life.host.said.values()
    assert (corrected != warning) is rights
    assert life.lanes.dead_letters() == []


# --- what is deployed at all ------------------------------------------------------------------------------------


def test_a_push_that_changes_no_path_is_skipped_and_a_later_one_is_not() -> None:
    world = World()
    wishes = {"deployer.yml": "paths: {exclude: 'docs/*'}"}
    world.push(BRANCH, sha(1), files=wishes)
    world.run()
    skipped = world.push(BRANCH, sha(2), before=sha(1), files={**wishes, "docs/a": "1"})
    world.run()
    assert world.outcome(skipped) == (
        "skipped",
        f"nothing among the paths of deploy/deployer.yml has changed since {sha(1)[:12]}",
    )
    assert (world.record(DEV).status.state, world.record(DEV).spec.commit) == ("deployed", sha(1))
    world.deployer.submitter.resync(HELLO)
    world.run()
    assert world.built(DEV) == [(sha(1), "succeeded")]
    world.push(BRANCH, sha(3), before=sha(2), files={**wishes, "docs/a": "1", "src/b": "1"})
    world.run()
    assert world.record(DEV).spec.commit == sha(3)


def test_a_branch_that_is_not_chosen_has_no_environment_unless_a_person_asks() -> None:
    world = World()
    delivery = world.push(BRANCH, sha(1), files={"deployer.yml": "branches: {exclude: x}"})
    world.run()
    assert world.outcome(delivery) == ("skipped", "x is not among the branches of deploy/deployer.yml")
    world.deployer.submitter.resync(HELLO)
    world.run()
    assert world.cloud.stack(DEV.stack_name) is None
    world.redeploy(DEV)
    world.run()
    assert world.record(DEV).status.state == "deployed"


def test_a_tag_that_is_not_chosen_leaves_production_as_it_is() -> None:
    world = World()
    production = Environment(HELLO, Kind.PRODUCTION)
    world.rules("tags: v*")
    world.push("refs/tags/v1", sha(1))
    world.run()
    delivery = world.push("refs/tags/nightly", sha(2))
    world.run()
    assert world.outcome(delivery)[0] == "skipped"
    known = world.record(production)
    assert (known.spec.ref, known.spec.commit, known.status.state) == ("refs/tags/v1", sha(1), "deployed")
    assert known.spec.held_at == ""


def test_a_record_that_cannot_be_read_keeps_no_other_from_its_age(
    life: Life, caplog: pytest.LogCaptureFixture
) -> None:
    first = Repository("acme", "first")  # comes before the other one
    life.deployer.submitter.resync(first)
    record = EnvironmentRecord.of("acme/first", "development:", "", state="deployed", used_at=1, ttl="1d")
    life.redis.hset("deployer:{acme/first}:environments", record.environment, record.to_json())
    life.lanes.index_records()
    life.lanes_note(DEV, used_at=time.time() - 9 * DAY)
    life.deployer.submitter.queue_expiry_checks(life._now())
    assert "of deployer:{acme/first}:environments in Redis is left out" in caplog.text
    assert [each.environment for each in life.sent if each.repository == HELLO.full_name] == [DEV.key]


def test_the_scheduler_sees_to_ages(life: Life) -> None:
    life.lanes_note(DEV, used_at=time.time() - 9 * DAY)
    Scheduler(life.deployer).run_due_jobs()
    life.run()
    assert "will be taken down" in life.age(sha(1))


def test_where_a_look_at_all_ages_takes_long_there_are_few(
    life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, looks = [NOW], []

    def slowly(at: float) -> None:
        looks.append(at)
        now[0] += 10

    monkeypatch.setattr("workers.scheduler.time.monotonic", lambda: now[0])
    monkeypatch.setattr(life.deployer.submitter, "queue_expiry_checks", slowly)
    scheduler = Scheduler(life.deployer)
    for _ in range(100):
        scheduler.run_due_jobs()
        now[0] += 10
    assert len(looks) == 3
