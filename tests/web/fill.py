"""Fills Redis with the data of a busy installation, for tests of all pages and for people who look at them."""

import time

from deployer.model.delivery_record import DeliveryRecord
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environment_status import ForeignExecution, StackFailure, StageState
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.execution_trigger import Trigger
from deployer.model.production_record import Admission, RefusedTag
from deployer.model.refs import Ref
from deployer.model.repository_record import RepositoryRecord, Seen
from deployer.model.teardown_report import RemovedItem, RetainedItem, TeardownReport
from deployer.queue.dead_letter_record import DeadLetter
from deployer.queue.dead_letters import letter_id
from deployer.queue.items import Cause, Task, Work
from deployer.queue.step_results import DeadLettered, Finished, WaitUntil
from deployer.queue.store import Dispatch
from deployer.redis_store.queue import RedisQueueStore
from tests.records import know_repository

API, SHOP = Repository("acme", "api"), Repository("acme", "storefront")
_LONG = (
    "Build failed: CodeBuild project acme-api-build ended with FAILED in phase BUILD: COMMAND_EXECUTION_ERROR: "
    "Error while executing command: make test. Reason: exit status 2"
)
_ARN = "arn:aws:cloudformation:eu-west-1:123456789012:stack"
RECEIPT = TeardownReport(
    outcome="partly",
    removed=[
        RemovedItem(
            "stack api-old-experiment-app",
            f"{_ARN}/api-old-experiment-app/6f1c1a40-0000-11ee-9000-0a1b2c3d4e5f",
            12,
        ),
        RemovedItem("bucket api-old-experiment-artifacts", "api-old-experiment-artifacts"),
        RemovedItem(
            "stack api-old-experiment-1234567890",
            f"{_ARN}/api-old-experiment-1234567890/81d0a650-0000-11ee-9000-0a1b2c3d4e5f",
            7,
        ),
    ],
    retained=[
        RetainedItem(
            "stack shared-network",
            f"{_ARN}/shared-network/9a2b3c50-0000-11ee-9000-0a1b2c3d4e5f",
            "it does not bear deployer's tags for this environment",
        )
    ],
)
FAILURE = StackFailure(
    "Role",
    "AWS::IAM::Role",
    "API: iam:CreateRole User: arn:aws:sts::123456789012:assumed-role/deployer-development is not authorized",
    "https://eu-west-1.console.aws.amazon.com/cloudformation/home?region=eu-west-1#/stacks/stackinfo?stackId=x",
    "deploy/pipeline.yml",
    42,
)
_DRIFT = "its template was changed by an update at 2026-11-26 15:04 UTC that deployer did not order"
UNCHECKED = "GitHub answers 404; give deployer's token or App the permission webhooks: read"
_STATES = {
    "archived": "{} is archived: nothing new runs; its environments stay until they are deleted",
    "renamed": "{} is acme/new now, which has environments of its own; staging and production of the former name stay",
    "replaced": "another repository has the name {} now; its environments are left alone",
    "deleted": "{} was deleted on GitHub; staging and production stay until a person deletes them",
    "removed": "{} was taken from the GitHub App: it is looked at no longer, and nothing of it is deleted",
}
_CONSOLE = "https://console.aws.amazon.com/codesuite/codepipeline/pipelines/x/executions/y"


def fill(lanes: RedisQueueStore) -> dict[str, str]:
    """Fill the lanes.

    Returns:
        names of what was made, to ask for them: `deployed`, `failed`, `staging`, `deleted`, `letter`, `delivery`.
    """
    made = {
        "staging": _deployed(lanes, API, "main", ("Source", "Build", "Staging")),
        "deployed": _deployed(lanes, API, "feature/login", ("Source", "Build", "Deploy")),
        "failed": _failed(lanes, API, "fix/rate-limit"),
        "deleted": _deleted(lanes, API, "old/experiment"),
        "delivery": "d-fix-rate-limit-push",
    }
    _deployed(lanes, SHOP, "main", ("Source", "Build", "Staging"))
    made["letter"] = _dead(lanes, SHOP, "spike")
    _skipped(lanes, SHOP, "docs/NOBUILD-readme")
    _waits_for_aws(lanes, API, "dependabot/npm_and_yarn/a-rather-long-name-of-a-package-1.2.3")
    _waits_for_aws(lanes, SHOP, "redesign", running=True)
    _begin(lanes, API, "hotfix/cache")
    for branch in ("feature/search", "feature/export"):
        accept(lanes, API, branch)
    lanes.ignore(DeliveryRecord("d-ignored", "acme/api", reason="event star requires no work"))
    return made


FOREIGN = ForeignExecution(
    id="0a1b2c3d-0000-4000-8000-000000000000",
    sha="d" * 40,
    status="succeeded",
    trigger=Trigger(type="StartPipelineExecution", detail="arn:aws:iam::123456789012:user/ada"),
    started_at=1_800_000_000.0,
)


def fill_odd(lanes: RedisQueueStore, repository: str = "acme/odd") -> dict[str, str]:
    """Fill the lanes with what is not as usual: repositories' states, missed deliveries, drift, age, orphans.

    Returns:
        ids of environments: `drifted`, `foreign`, `warned`, `held`, `kept`, `asleep`, `halfway` (its teardown is under
        way), `orphan`.
    """
    now, hour, day = time.time(), 3600, 86_400
    odd = Repository.parse(repository)
    known = {
        "drifted": ("feature/ü#1", {"drift": _DRIFT}),
        "warned": ("idle-for-long", {"ttl": "3d", "used_at": now - 2.5 * day, "warned_at": now - hour}),
        "held": ("held-back", {"held_at": "c" * 40}),
        "kept": ("kept", {"ttl": "3d", "used_at": now - 9 * day}),
        "asleep": ("asleep", {"state": "asleep", "aged": "night", "sleep": "Mon 00:00-Mon 00:00 UTC"}),
        "foreign": ("released-by-hand", {"foreign": [FOREIGN]}),
        "halfway": ("half-deleted", {"state": "deleting", "receipt": RECEIPT.but(outcome="")}),
        "orphan": ("a-branch-that-is-gone-" + "and-has-a-very-long-name-" * 4, {}),
    }
    made = {}
    for name, (branch, changes) in known.items():
        token, _, record = _begin(lanes, odd, branch)
        outcome = {"outcome": "deployed", "state": "deployed", "reason": f"{sha(branch)[:12]} went through"}
        ended = record.but(**{**outcome, "used_at": now - hour, "sleep": "", **changes})  # type: ignore[arg-type]
        lanes.finish(odd, token, Finished("deployed", ended.status.reason, ended))
        made[name] = record.stack_name
    lanes.keep_environment(Environment(odd, Kind.DEVELOPMENT, Ref.of_branch("kept")), now + 14 * day)
    lanes.save_seen(odd, Seen({f"development:refs/heads/{known['orphan'][0]}": now - 1200}))
    missed = {"at": now - 2 * hour, "redelivered": 2.0, "superseded": 1.0, "left": 0.0}
    know_repository(
        lanes, RepositoryRecord(repository, 7, default_branch="main", checked_at=now - hour, missed=missed)
    )
    for state, reason in _STATES.items():
        whole = Repository("acme", f"was-{state}")
        _deployed(lanes, whole, "main", ("Source", "Build"))
        told = RepositoryRecord(str(whole), 9, state, reason.format(whole), now - day, default_branch="main")
        know_repository(
            lanes, told.but(unchecked=UNCHECKED if state == "archived" else "", checked_at=now - hour)
        )
    return made


def fill_production(lanes: RedisQueueStore, commit: str = "b" * 40) -> str:
    """Store a production environment that runs v1 and has refused v2 at a commit; return its id."""
    repository = Repository.parse("acme/released")
    place = Environment(repository, Kind.PRODUCTION)
    dispatch = lanes.accept(repository, Work.of(place.key, ref="refs/tags/v1")).dispatch
    assert dispatch is not None
    assert lanes.begin(repository, dispatch.token) is not None
    known = EnvironmentRecord.of(
        str(repository), place.key, place.stack_name, ref="refs/tags/v1", commit="a" * 40, state="deployed",
        outcome="deployed", admitted=Admission("refs/tags/v1", "a" * 40, "it is on main at aaaaaaaaaaaa", at=1.0),
        refused_tags=(RefusedTag("refs/tags/v2", commit, commit, "v2 is not on main", "failure", 1.0),),
    )  # fmt: skip
    lanes.finish(repository, dispatch.token, Finished("deployed", "", known))
    return place.stack_name


def accept(
    lanes: RedisQueueStore, repository: Repository, branch: str, cause: Cause = Cause.PUSH
) -> Dispatch | None:
    """Accept a delivery for a branch."""
    ref = Ref.of_branch(branch)
    environment = Environment.of_ref(repository, ref, "main")
    work = Work.of(environment.key, cause=cause, ref=ref.name, after=sha(branch), default_branch="main")
    return lanes.accept(repository, work, f"d-{branch.replace('/', '-')}-{cause}", "push").dispatch


def sha(branch: str) -> str:
    """A commit of a branch."""
    return (branch.encode().hex() * 40)[:40]


def _begin(
    lanes: RedisQueueStore, repository: Repository, branch: str, cause: Cause = Cause.PUSH
) -> tuple[int, Work, EnvironmentRecord]:
    dispatch = accept(lanes, repository, branch, cause)
    assert dispatch is not None
    work = lanes.begin(repository, dispatch.token)
    assert work is not None
    environment = Environment.from_key(repository, work.environment)
    record = EnvironmentRecord.of(
        str(repository), environment.key, environment.stack_name, ref=work.spec.ref, commit=sha(branch)
    )
    return dispatch.token, work, record


def _stages(*states: tuple[str, str]) -> list[StageState]:
    reason = {"failed": _LONG}
    return [StageState(name, status, reason.get(status, ""), _CONSOLE) for name, status in states]


def _deployed(lanes: RedisQueueStore, repository: Repository, branch: str, names: tuple[str, ...]) -> str:
    token, _, record = _begin(lanes, repository, branch)
    reason = f"{sha(branch)[:12]} went through every stage"
    stages = _stages(*((name, "succeeded") for name in names))
    ended = record.but(
        state="deployed", outcome="deployed", reason=reason, stages=stages, execution="e-1", region="eu-west-1",
    )  # fmt: skip
    lanes.finish(repository, token, Finished("deployed", reason, ended))
    return record.stack_name


def _failed(lanes: RedisQueueStore, repository: Repository, branch: str) -> str:
    token, _, record = _begin(lanes, repository, branch)
    stages = _stages(("Source", "succeeded"), ("Build", "failed"), ("Deploy", "pending"))
    ended = record.but(state="failed", outcome="failed", reason=_LONG, stages=stages, execution="e-2")
    lanes.finish(repository, token, Finished("failed", _LONG, ended))
    return record.stack_name


def _deleted(lanes: RedisQueueStore, repository: Repository, branch: str) -> str:
    token, _, record = _begin(lanes, repository, branch, Cause.DELETION)
    reason = "its pipeline and all that it deployed are gone"
    ended = record.but(
        state="deleted", outcome="deleted", reason=reason, receipt=RECEIPT.but(ended_at=time.time()),
        region="eu-west-1",
    )  # fmt: skip
    lanes.finish(repository, token, Finished("deleted", reason, ended))
    return record.stack_name


def _skipped(lanes: RedisQueueStore, repository: Repository, branch: str) -> None:
    token, _, record = _begin(lanes, repository, branch)
    reason = f"{branch} has NOBUILD in its name"
    ended = record.but(state="skipped", outcome="skipped", reason=reason)
    lanes.finish(repository, token, Finished("skipped", reason, ended))


def _dead(lanes: RedisQueueStore, repository: Repository, branch: str) -> str:
    token, work, _ = _begin(lanes, repository, branch)
    identity = letter_id(repository, token)
    trace = "Traceback (most recent call last):\n  File \"reconcile.py\", line 1\nKeyError: 'StackId'"
    reason = "KeyError: 'StackId'"
    text = work.to_json()
    lanes.finish(
        repository,
        token,
        DeadLettered(
            DeadLetter(identity, str(repository), Task.SYNC, reason, trace, time.time(), text, "KeyError")
        ),
    )
    return identity


def _waits_for_aws(
    lanes: RedisQueueStore, repository: Repository, branch: str, *, running: bool = False
) -> None:
    token, work, record = _begin(lanes, repository, branch)
    if running:
        stages = _stages(("Source", "succeeded"), ("Build", "running"), ("Deploy", "pending"))
        record = record.but(state="running", stages=stages, execution="e-3")
    else:
        record = record.but(state="provisioning")
    lanes.finish(repository, token, WaitUntil(work.but(polls=1), 12, record))
