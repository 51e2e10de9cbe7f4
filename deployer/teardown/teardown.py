"""Takes an environment down, stack by stack, and writes a receipt of what was removed and what was left, and why.

What its pipeline deployed goes first, while the roles that made it still exist, and the pipeline's own stack last. Each
stack is watched by its ARN: by name a deleted stack cannot be told from one that never was. The receipt is kept in the
environment's record while it grows, so that a lost worker, or another goal in between, loses none of it.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from deployer.environment.context import Run
from deployer.environment.ports import LISTING_PATIENCE, Clouds, Inventory
from deployer.environment.statuses import Reporter
from deployer.model.environments import Environment, Kind
from deployer.model.errors import PermanentError, ProtectedError
from deployer.model.expiry import ASLEEP
from deployer.model.records import Cause, EnvironmentRecord, Outcome, Task
from deployer.model.stacks import Desired, Observed, Phase, Resource, Stack, Step, decide
from deployer.queue.step_results import Verdict
from deployer.queue.store import Lanes
from deployer.templates.repository_config import TEARDOWN_TAG, TeardownPolicy

GONE = "its pipeline and all that it deployed are gone"
_BUCKET = "AWS::S3::Bucket"
_LISTED = (
    100  # resources and buckets in one list of a receipt, for people. Stacks are always listed: see `_list`
)
_REASON_LIMIT = 300
_LISTING_AGE = 60.0  # seconds: teardowns that begin at about the same time share a listing
_AGAIN_LIMIT = 3  # how often stacks that came to be during the teardown are gone after
_FOREIGN = "it does not bear deployer's tags for this environment"


class Teardown:
    """Carries out the task that deletes.

    Args:
        clouds: AWS.
        inventory: lists the stacks with the environment's tags.
        lanes: tells what other environments' pipelines deploy.
        reporter: posts the receipt.
        clock: epoch seconds.
    """

    def __init__(
        self,
        clouds: Clouds,
        inventory: Inventory,
        lanes: Lanes,
        reporter: Reporter,
        clock: Callable[[], float],
    ) -> None:
        self._clouds = clouds
        self._inventory = inventory
        self._lanes = lanes
        self._reporter = reporter
        self._clock = clock

    def carry_out(self, run: Run) -> Verdict:
        """Go on with the teardown, as far as there is nothing to wait for.

        Raises:
            TransientError: AWS is away.
            LaneLostError: from the guard.
        """
        if run.work.replacing:
            return self._replace(run)
        if run.environment.kind is not Kind.DEVELOPMENT and run.work.cause != Cause.TEARDOWN:
            return run.done(Outcome.SKIPPED, f"only a person can delete {run.environment.kind}")
        if not under_way(run.record.receipt):
            self._begin(run)
            return run.again(Task.DELETE)  # what is to be deleted is on record before anything is
        while todo := run.record.receipt["todo"]:
            if waiting := self._remove(run, todo[0]):
                return waiting
            self._left_to_do(run, *todo[1:])
            run.work = run.work.but(deletions=0)
        return self._verify(run) or self._end(run)

    def interrupt(self, run: Run) -> Verdict | None:
        """End a teardown because the environment is wanted again; None once no deletion of it runs.

        A stack that is being deleted must be gone before it can be created again.
        """
        arn = run.record.receipt["arn"]
        stack = run.cloud.stack(arn) if arn else None
        if stack and stack.phase is Phase.DELETING:
            return run.snooze(told=False)
        if stack and stack.phase is Phase.GONE:
            self._note_gone(run, stack)
        run.record = run.record.but(receipt=self._closed(run, "cancelled"))
        return None

    # --- the plan ---

    def _begin(self, run: Run) -> None:
        """Find out what there is to delete, and stop what would make more.

        The environment no longer has an execution, and the newest one counts as reported: whatever is wanted
        afterwards starts a new one, because what the former one deployed may be gone.
        """
        stack = run.cloud.stack(run.name)
        foreign = stack is not None and not run.environment.owns(stack.tags)
        newest = self._stop(run, stack) if stack and not foreign else ""
        applications = [] if foreign else run.cloud.deployed_stacks(run.name)
        # also what an earlier definition deployed, and what was known to a ledger that is lost
        since = max(run.work.accepted_at, run.now - _LISTING_AGE)
        kind = run.environment.kind
        listed = self._inventory.stacks(run.repository, since, LISTING_PATIENCE, kind).stacks
        every = [each for each in listed if run.environment.owns(each.tags) and not each.is_gone]
        arns = {each.arn for each in every}  # what is within one of them goes with it
        every = [each for each in every if each.parent not in arns]
        pipelines = {run.name, *run.environment.stack_names}
        own = [each for each in every if each.region == run.cloud.region and each.name != run.name]
        own.sort(key=lambda each: each.name in pipelines)
        for other in own:
            if other.name in pipelines:
                self._stop(run, other)
        applications = list(
            dict.fromkeys([*applications, *run.record.applications, *(each.name for each in own)])
        )
        told = [each.tags.get(TEARDOWN_TAG, "") for each in ([stack] if stack and not foreign else []) + own]
        teardown = run.record.teardown or next(filter(None, told), "")
        run.record = run.record.but(applications=applications, teardown=teardown, region=run.cloud.region)
        applications = list(dict.fromkeys([*applications, *reversed(run.record.earlier)]))
        names = {*applications} - {run.name}  # a pipeline may deploy its own stack
        shared = self._shared(run, listed, names) if names else {}
        retained = [*self._in_former_account(run), *self._in_other_regions(run, every)]
        receipt = {"began_at": self._clock(), "at": 0, "again": 0, "removed": [], "shared": shared}
        receipt |= {"retained": retained, "word": run.work.word, "unlisted": {}}
        receipt["told"] = run.record.receipt.get("told", "")
        run.note("deleting", receipt=receipt, execution="", reported=newest or run.record.reported)
        self._left_to_do(run, *applications, run.name)

    def _shared(self, run: Run, listed: Iterable[Stack], names: Container[str]) -> dict[str, str]:
        """Which of the stacks other pipelines deploy too, asked of AWS where the ledger, once lost, does not tell.

        Returns:
            A stack's name to the key of the environment.
        """
        records = {each.environment: each for each in self._lanes.environments(run.repository)}
        found: dict[str, str] = {}
        for stack in listed:
            other = Environment.of_tags(run.repository, stack.tags)
            if other is None or other == run.environment or stack.name not in other.stack_names:
                continue
            # a stack of a status that this version does not know counts as one whose pipeline runs
            unmade = stack.is_gone or (stack.is_known and stack.phase is Phase.WEDGED)
            if unmade or _is_learnt(records.get(other.key)):
                continue
            cloud = self._clouds.at(other.kind, stack.region)
            found |= {name: other.key for name in cloud.deployed_stacks(stack.name) if name in names}
        return found

    def _in_former_account(self, run: Run) -> Iterator[dict[str, str]]:
        """The pipeline's stack, if the settings named another account when it was made: it is out of reach there."""
        arn, kind = run.record.stack_arn, run.environment.kind
        account, here = Stack(arn, "", "").account, self._clouds.target(kind).account
        if account and here and account != here:
            why = f"it is in account {account}, where {kind} no longer lives, with all that its pipeline deployed"
            yield {"what": f"stack {run.name}", "id": arn, "why": why}

    @staticmethod
    def _in_other_regions(run: Run, stacks: Iterable[Stack]) -> Iterator[dict[str, str]]:
        """The stacks of other regions than the environment's, which only a person deletes."""
        for each in stacks:
            if each.region != run.cloud.region:
                why = f"it is in {each.region}, and a teardown deletes only what is in {run.cloud.region}"
                yield {"what": f"stack {each.name}", "id": each.arn, "why": why}

    def _stop(self, run: Run, stack: Stack) -> str:
        """Stop what a pipeline runs, by its stack; returns the id of its newest execution, if there is one."""
        if stack.phase in {Phase.GONE, Phase.DELETING}:
            return ""
        executions = run.cloud.executions(stack.name)
        for execution in executions:
            if not execution.ended:
                run.guard()
                run.cloud.stop(stack.name, execution.id, "the environment is being deleted")
        return executions[0].id if executions else ""

    def _verify(self, run: Run) -> Verdict | None:
        """Go after stacks that came to be since: an execution that was stopped may have ordered one all the same."""
        receipt = run.record.receipt
        gone = [each["what"].removeprefix("stack ") for each in receipt["removed"] if is_stack(each)]
        names = dict.fromkeys([*run.record.applications, *run.record.earlier, *gone, run.name])
        known = {each["id"] for each in receipt["retained"]}
        late = [
            stack
            for stack in map(run.cloud.stack, names)
            if stack and not stack.is_gone and run.environment.owns(stack.tags)
            if stack.arn not in known
        ]
        if not late:
            return None
        if receipt["again"] < _AGAIN_LIMIT:
            self._left_to_do(run, *(each.name for each in late))
            self._write(run, again=receipt["again"] + 1)
            return run.again(Task.DELETE)
        for stack in late:
            if ended := self._spare(run, stack, "something makes it anew each time it is deleted"):
                return ended
        return None

    # --- one stack ---

    def _remove(self, run: Run, name: str) -> Verdict | None:
        """Bring one stack nearer to its end; None once it is gone, or is left for a reason on the receipt."""
        arn = run.record.receipt["arn"]
        if arn and run.work.polls and run.cloud.still_busy(name, run.work.looked_at):
            return run.snooze(told=False)
        stack = run.cloud.stack(arn or name)
        if stack is None:
            return None
        if stack.phase is Phase.GONE:
            self._note_gone(run, stack)
            return None
        # also of one on record: it may have waited there for days, and be another's as well by now
        if (not arn or stack.phase is not Phase.DELETING) and (why := self._spared(run, stack)):
            return self._spare(run, stack, why)
        if not arn:
            self._write(run, arn=stack.arn)
            return run.again(Task.DELETE)  # on record before the order: afterwards its name may find nothing
        if run.environment.kind is not Kind.DEVELOPMENT and stack.name == run.name and stack.protected:
            run.guard()
            run.cloud.protect(stack.arn, on=False)  # a person said so, and deployer itself had put it on
            return run.again(Task.DELETE)
        try:
            why = self._order(run, stack)
        except ProtectedError:
            why = "it has termination protection"
        except PermanentError as error:
            why = str(error)
        return self._spare(run, stack, why, ordered=True) if why else run.snooze(told=False)

    def _spared(self, run: Run, stack: Stack) -> str:
        """Why a stack is not this environment's to delete; empty if it is."""
        if not run.environment.owns(stack.tags):
            return _FOREIGN
        if stack.name == run.name:
            protected = stack.protected and run.environment.kind is Kind.DEVELOPMENT
            return "it has termination protection" if protected else ""
        if stack.protected:
            return "it has termination protection"
        unknown = run.record.receipt.get("shared", {}).get(stack.name, "")
        for other in self._lanes.environments():
            here = other.repository.lower() == run.repository.key
            mine = here and other.environment == run.environment.key
            if not mine and other.state != "deleted" and stack.name in other.applications:
                return f"the pipeline of {other.repository} {other.environment} deploys it as well"
            if here and other.environment == unknown and _is_learnt(other):
                unknown = ""
        return f"the pipeline of {run.repository} {unknown} deploys it as well" if unknown else ""

    def _spare(self, run: Run, stack: Stack, why: str, *, ordered: bool = False) -> Verdict | None:
        """Leave a stack and say why; the teardown goes on without it, if it can and may."""
        why = " ".join(why.split())[:_REASON_LIMIT]
        self._list(run, "retained", {"what": f"stack {stack.name}", "id": stack.arn, "why": why})
        stops = ordered and TeardownPolicy.parse(run.record.teardown).on_failure == "stop"
        if not stops and not (stack.name == run.name and run.environment.owns(stack.tags)):
            return None
        run.record = run.record.but(receipt=self._closed(run, "partly"))
        run.record = self._reporter.teardown(run.environment, run.record)
        return self._failed(run, f"stack {stack.name} is left: {why}")

    def _order(self, run: Run, stack: Stack) -> str:
        """Order a stack's deletion unless it runs; returns why that is given up, if so."""
        decision = decide(Desired(exists=False), Observed(stack, deletions=run.work.deletions))
        if decision.step is Step.FAIL:
            # what failed in it before is not why a protected one stays
            return str((None if stack.protected else run.cloud.failure(stack.arn)) or decision.reason)
        if decision.step is not Step.DELETE:
            return ""
        wish = TeardownPolicy.parse(run.record.teardown or stack.tags.get(TEARDOWN_TAG, ""))
        if stack.phase is Phase.UNDELETED:
            run.work = run.work.but(deletions=run.work.deletions + 1)
        # what could not be deleted a second time
        leave = run.work.deletions > 1 and wish.on_failure != "stop"
        stuck = [
            each
            for each in (run.cloud.resources(stack.arn) if leave else [])
            if each.status == "DELETE_FAILED"
        ]
        if wish.empty_buckets and run.environment.kind is Kind.DEVELOPMENT and not leave:
            run.guard()
            with suppress(PermanentError):  # an object under a lock: the deletion will fail and say so
                if not run.cloud.empty_buckets(stack.arn, run.guard):
                    return ""  # there is much in them, or something writes to them all the time
        run.guard()
        run.cloud.delete_stack(
            stack.arn,
            run.token(f"delete {stack.arn}"),
            retain=[each.name for each in stuck],
            force=leave and wish.on_failure == "force",
        )
        if stuck and under_way(run.record.receipt):
            self._write(run, left={each.name: each.reason for each in stuck})
        return ""

    def _note_gone(self, run: Run, stack: Stack) -> None:
        """Put a deleted stack on the receipt, from what AWS tells of its resources."""
        left = run.record.receipt["left"]
        resources = run.cloud.resources(stack.arn)
        removed = [each for each in resources if each.status == "DELETE_COMPLETE"]
        self._list(
            run, "removed", {"what": f"stack {stack.name}", "id": stack.arn, "resources": len(removed)}
        )
        for each in removed:
            if each.type == _BUCKET:
                self._list(run, "removed", {"what": f"bucket {each.id}", "id": each.id, "resources": 0})
        for each in resources:
            if each.id and each.status != "DELETE_COMPLETE":
                why = left.get(each.name) or _why_kept(each)
                entry = {"what": f"{each.type} {each.id}", "id": each.id, "why": why[:_REASON_LIMIT]}
                self._list(run, "retained", entry)

    # --- the end ---

    def _end(self, run: Run) -> Verdict:
        retained = run.record.receipt["retained"]
        receipt = self._closed(run, "partly" if retained else "removed")
        run.record = self._reporter.settle(run.environment, run.record, "its environment was deleted")
        run.record = self._reporter.leave(run.environment, run.record, "ended as its environment was deleted")
        run.record = run.record.but(
            generation=run.record.generation + 1, stages=[], execution="", applications=[], earlier=[], stack_arn="",
            prepared="", region="", failure={}, refused="", refusals=0, receipt=receipt, applied={}, drift="",
        )  # fmt: skip
        # a person deleted it, and with it the wish to stay at its commit
        if not (run.record.aged or run.work.word):
            run.record = run.record.but(held_at="")
        run.record = self._reporter.teardown(run.environment, run.record)
        words = "; ".join(f"{each['what']}: {each['why']}" for each in retained)
        left = any(each["what"] == f"stack {run.name}" for each in retained)
        # what is made again has its present name
        run.record = run.record.but(stack_name=run.environment.stack_name)
        if left:
            return run.done(Outcome.DELETED, f"left are {words}")
        return run.done(Outcome.DELETED, f"its pipeline is gone; left are {words}" if words else GONE)

    def _replace(self, run: Run) -> Verdict:
        """Delete what never came to be, to make it anew; what was deployed, if anything, stays."""
        stack = run.cloud.stack(run.work.stack_arn or run.name)
        if stack is None or stack.phase is Phase.GONE:
            if stack and run.work.deletions > 1:  # something of it may have been left behind
                receipt = {"began_at": self._clock(), "removed": [], "retained": [], "left": {}}
                run.record = run.record.but(receipt=receipt)
                self._note_gone(run, stack)
                run.record = run.record.but(receipt=self._closed(run, "replaced"))
            run.work = run.work.but(replacing=False, stack_arn="", deletions=0)
            run.record = run.record.but(generation=run.record.generation + 1)
            if run.name != run.environment.stack_name:
                return run.again(Task.SYNC)  # which looks whether anybody has its present name already
            return run.again(Task.PROVISION, created=True)
        if not run.environment.owns(stack.tags):
            return self._failed(run, f"stack {stack.name} is left: {_FOREIGN}")
        if stack.phase is not Phase.DELETING and stack.row.deploy is not Step.REPLACE:
            run.work = run.work.but(replacing=False, stack_arn="")
            return run.again(Task.SYNC)  # it has come to be since that was decided
        run.work = run.work.but(stack_arn=stack.arn)
        why = self._order(run, stack)
        return self._failed(run, f"its stack could not be deleted: {why}") if why else run.snooze(told=False)

    def _failed(self, run: Run, reason: str) -> Verdict:
        return self._reporter.failed(run, reason)

    # --- the receipt ---

    @classmethod
    def _left_to_do(cls, run: Run, *stacks: str) -> None:
        """Note what is to be deleted, by its names in this order."""
        cls._write(run, todo=list(stacks), arn="", left={})

    @staticmethod
    def _write(run: Run, **changes: Any) -> None:
        run.record = run.record.but(receipt={**run.record.receipt, **changes})

    def _list(self, run: Run, where: str, entry: dict[str, Any]) -> None:
        """Add an entry to one list of the receipt, in place of what it said of the same thing.

        Every stack stays, because later decisions read them: which may have come back, and which a resync leaves
        alone. Of everything else only the newest entries are listed, and the number of the others is kept.
        """
        listed = [each for each in run.record.receipt[where] if each["id"] != entry["id"]] + [entry]
        others = [each for each in listed if not is_stack(each)]
        unlisted = dict(run.record.receipt.get("unlisted", {}))
        if dropped := others[:-_LISTED]:
            listed = [each for each in listed if each not in dropped]
            unlisted[where] = unlisted.get(where, 0) + len(dropped)
        self._write(run, **{where: listed, "unlisted": unlisted})

    def _closed(self, run: Run, outcome: str) -> dict[str, Any]:
        kept = {name: run.record.receipt[name] for name in ("began_at", "removed", "retained")}
        kept |= {name: run.record.receipt.get(name, "") for name in ("word", "told")}
        kept["unlisted"] = run.record.receipt.get("unlisted", {})
        return {**kept, "at": self._clock(), "outcome": outcome}


def is_stack(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of a receipt is a stack; else it is a bucket or another resource."""
    return str(entry["what"]).startswith("stack ")


def under_way(receipt: dict[str, Any]) -> bool:
    """Whether a teardown has begun that has not ended."""
    return bool(receipt) and not receipt.get("at")


def _is_learnt(record: EnvironmentRecord | None) -> bool:
    """Whether the ledger knows what an environment's pipeline deploys."""
    if record is None:
        return False
    return record.state in {"deleted", ASLEEP} or bool(record.applications or record.applied)


def _why_kept(resource: Resource) -> str:
    return resource.reason or "its template says to keep it (DeletionPolicy)"
