"""The record of an environment: what is wanted (spec), what was seen (status), and what happened (history)."""

from collections.abc import Mapping
from typing import Any, Self

import msgspec

from deployer.model.display import PENDING, PREPARE, DisplayChange, stage_context
from deployer.model.environment_status import EnvironmentStatus
from deployer.model.outcomes import Outcome
from deployer.model.production_record import NOT_ADMITTED, Admission, RefusedTag
from deployer.model.stored_value import Detail, FieldGroup, StoredValue, json_field_groups, nest


class ExpirySpec(FieldGroup, frozen=True):
    """How long a development environment is wanted.

    Attributes:
        ttl, warn, sleep: the repository's settings, as last applied: see `templates.repository_config`.
        kept_at, kept_until: when a person last asked to keep it, and at least until when (epoch seconds). Redis holds
            these two in a key of their own, and does not read them from a record that is written.
        aged, aged_at: why it was taken down, `idle` or `night`, and when that began (epoch seconds).
    """

    ttl: str = ""
    warn: str = ""
    sleep: str = ""
    kept_at: float = 0
    kept_until: float = 0
    aged: str = ""
    aged_at: float = 0


class ProductionSpec(FieldGroup, frozen=True):
    """Which commit production may run.

    Attributes:
        decided_at: when it was decided what production should run (epoch seconds): the time of its tag (see
            `production.tag_order`) or of a person's request; 0 where that is not known. Only a later tag
            changes that.
        admitted: the commit that may be deployed, and what admitted it; nothing else is ordered.
        approvals: the commits that people approved although the rules refuse them, the latest twenty.
    """

    decided_at: float = 0
    admitted: Admission = NOT_ADMITTED
    approvals: tuple[Admission, ...] = ()


class Deletion(Detail, frozen=True):
    """That a person deleted an environment whose branch exists, or closed its pull request.

    It is empty, and false, if nobody did.

    Attributes:
        head: where the branch was. A resync leaves the environment deleted until the branch moves.
        at: when the person asked for it (epoch seconds). A push that GitHub took before does not count.
        pull: the number of the closed pull request; 0 if a person deleted the environment itself.
    """

    head: str = ""
    at: float = 0
    pull: int = 0

    @property
    def reason(self) -> str:
        """Why the environment is deleted, for people."""
        return f"its pull request #{self.pull} was closed" if self.pull else "a person deleted it"


class EnvironmentSpec(FieldGroup, frozen=True):
    """What is wanted of an environment.

    Attributes:
        ref, commit: the ref, and the commit that was wanted last.
        held_at: the ref's head when another commit was deployed, because a person chose it or the head asks to be
            skipped; or when the environment was taken down because of its age. A resync leaves the environment so until
            the head moves. Of production also where a person chose the tag.
        region: where its stack is; a region that was chosen once stays.
        teardown: the repository's settings for a teardown, as last deployed: see `templates.repository_config`.
        url_output: the output of a stack that has the environment's URL, as `deploy/deployer.yml` names it.
        deletion: that a person deleted development or staging, until a push, a redeployment or a resync with
            `--recreate` wants it again.
        expiry: how long a development environment is wanted.
        skipped: of staging, the state of the status of a skipped commit in its repository, as its last commit sets it:
            `success` or `pending`.
        closed: of staging, what becomes of environments whose pull request is closed, as its last commit sets it.
        production: which commit production may run.
    """

    ref: str = ""
    commit: str = ""
    held_at: str = ""
    region: str = ""
    teardown: str = ""
    url_output: str = ""
    deletion: Deletion = Deletion()
    expiry: ExpirySpec = ExpirySpec()
    skipped: str = "success"
    closed: str = ""
    production: ProductionSpec = ProductionSpec()


class ExpiryNotice(Detail, frozen=True):
    """The comments that warn of an environment's end, until they say something that stays true.

    Attributes:
        comments: their ids.
        at: when they were written (epoch seconds).
        down: whether they say that the environment was taken down.
    """

    comments: list[str] = msgspec.field(default_factory=list)
    at: float = 0
    down: bool = False


class EnvironmentHistory(FieldGroup, frozen=True):
    """What happened to an environment.

    Attributes:
        generation: how often it was torn down.
        moved_from, moved_to: the ref's commit before and after the last push, and `moved_at` (epoch seconds) when the
            push was accepted. They guard against a stale read of GitHub.
        pushed_at: when GitHub took the last push that was wanted here (epoch seconds); 0 where that is not known.
        used_at: when it was last pushed to or deployed again (epoch seconds).
        refused_tags: the tags that were judged and not deployed, by their time, the latest ten.
        age_looked_at: when its age asked for something that could not be done (epoch seconds).
        warned_at: when people were warned of its end (epoch seconds); 0 if they were not.
        told_end: the end that the warning named (epoch seconds). The environment never ends sooner.
        notice: the comments that warn of its end.
    """

    generation: int = 0
    moved_from: str = ""
    moved_to: str = ""
    moved_at: float = 0
    pushed_at: float = 0
    used_at: float = 0
    refused_tags: tuple[RefusedTag, ...] = ()
    age_looked_at: float = 0
    warned_at: float = 0
    told_end: float = 0
    notice: ExpiryNotice = ExpiryNotice()


class EnvironmentRecord(StoredValue, frozen=True):
    """What is known of an environment. All but the history's `generation` can be found again from AWS and GitHub.

    Attributes:
        environment: its key.
        stack_name: the name of its stack and pipeline, which stays until the stack is created again; empty where nobody
            has looked yet which of `Environment.stack_names` is in use.
        spec, status, history: what is wanted, what was seen, and what happened.
        updated_at: when the record was written (epoch seconds).
        display: what a task wants GitHub to show. It is no part of the stored record: the queue stores it in the outbox
            in the same step as the record.
    """

    repository: str
    environment: str
    stack_name: str
    spec: EnvironmentSpec = EnvironmentSpec()
    status: EnvironmentStatus = EnvironmentStatus()
    history: EnvironmentHistory = EnvironmentHistory()
    updated_at: float = 0
    display: tuple[DisplayChange, ...] = ()

    def json_fields(self) -> dict[str, Any]:
        """See `StoredValue.json_fields`."""
        return {name: value for name, value in super().json_fields().items() if name != "display"}

    @classmethod
    def of(cls, repository: str, environment: str, stack_name: str, **fields: Any) -> Self:
        """A record with some of its fields, which may be fields of spec, status and history.

        Raises:
            TypeError: there is no such field.
        """
        return cls(repository, environment, stack_name).but(**fields)

    @classmethod
    def nest_fields(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        """See `StoredValue.nest_fields`; a record of version 0.1.0, which has no groups, is converted."""
        if fields.keys() & {"spec", "status", "history"}:
            return nest(cls, fields, flat=False)
        return nest(cls, _from_0_1_0(fields), flat=True)

    @property
    def decision_time(self) -> float:
        """When it was decided what production should run (epoch seconds); 0 where that is not known.

        A record of version 0.1.0 has only the time of its tag's push, and not when a person chose another tag since.
        """
        return self.spec.production.decided_at or (0 if self.spec.held_at else self.history.pushed_at)

    @property
    def only_skipped(self) -> bool:
        """Whether all pushes were skipped and nothing was ever created.

        Then the reason of the newest push says more than that of the first.
        """
        never_created = not self.status.stack.stack_arn and not self.status.pipeline.execution
        return self.status.state == "skipped" and never_created

    @property
    def comes_back(self) -> bool:
        """Whether only the state of its repository took it down: once that state ends, it is deployed again."""
        return self.status.outcome == Outcome.DELETED and bool(self.status.receipt.repository_state)


def _from_0_1_0(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a record as version 0.1.0 wrote it, with today's meaning.

    That version left the former execution in a record whose teardown had begun, and marked the receipt of a teardown
    that was cancelled with `owed`, because its pipeline had to run once more. Today a teardown that begins clears the
    execution and counts it as reported, so whatever is wanted afterwards starts a new execution (docs/decisions/0032).
    It also noted all that it had posted; of that only what is pending matters (docs/decisions/0052).
    """
    known = json_field_groups(EnvironmentRecord)
    found = {name: value for name, value in fields.items() if name in known and name != "display"}
    found["pending"] = _pending_in_0_1_0(fields)
    if isinstance(found.get("open"), dict):
        found["open"] = {key: {"sha": each.get("sha", "")} for key, each in found["open"].items()}
    receipt = fields.get("receipt")
    if not isinstance(receipt, dict) or not receipt:
        return found
    kept = {name: value for name, value in receipt.items() if name not in {"owed", "away", "told"}}
    found["receipt"] = kept
    if receipt.get("owed") or not receipt.get("at"):
        found["reported"] = fields.get("execution") or fields.get("reported") or ""
        found["execution"] = ""
    return found


def _pending_in_0_1_0(fields: Mapping[str, Any]) -> list[str]:
    """The commit statuses that version 0.1.0 had posted as pending."""
    sha, state, _ = [*str(fields.get("prepared", "")).split(" ", 2), "", ""][:3]
    found = [f"{sha} {PREPARE}"] if state == PENDING else []
    for entry in (fields.get("open") or {}).values():
        for stage, posted in entry.get("posted", {}).items():
            found += [f"{entry.get('sha', '')} {stage_context(stage)}"] if posted == PENDING else []
    return found


def is_over(record: EnvironmentRecord) -> bool:
    """Whether nothing exists of an environment, as far as its record tells."""
    skipped_unmade = record.status.state == "skipped" and not record.status.stack.stack_arn
    return record.status.state == "deleted" or skipped_unmade
