"""The next step for an environment, as a pure function of what is desired and what is observed.

The table of stack statuses is in `deployer.model.stacks`.
"""

from dataclasses import dataclass

from deployer.model.stacks import REFUSED, ROLLED_BACK, Phase, Stack, Step


@dataclass(frozen=True, slots=True)
class Desired:
    """What should be in AWS.

    Attributes:
        exists: whether the environment should exist.
        digest: the digest of the release that the stack should have (see `Release.digest`); None if it was not read.
    """

    exists: bool
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """What is in AWS, and what this goal has done already.

    Attributes:
        stack: the stack with the environment's name, or None.
        owned: whether the stack is this environment's: by its tags, or by its ARN on record.
        lost_tags: whether the stack lacks deployer's tags, because its own pipeline has removed them, and the record
            has them.
        created: this goal has ordered the stack's creation.
        updated: this goal has ordered an update of the stack.
        recovered: this goal has ordered a rollback.
        restored: this goal has ordered an update that restores the stack's tags.
        deletions: how often this goal has seen the deletion fail and ordered another one.
        disposable: whether a stack may be deleted to create it again: only development environments are disposable.
        asked: whether a push or a redeployment asks for a deployment now, or the commit was not tried yet. Only then
            is a creation that failed tried again.
        refusals: how often in a row a stack with the same digest could not be created.
        unlocks: whether termination protection does not stop the deletion, because deployer itself set it and a person
            asks for the deletion.
        drifted: someone else changed the stack after deployer applied it, and it has to be updated: a person asks for
            a redeployment, or that change cancelled the execution.
    """

    stack: Stack | None
    owned: bool = True
    lost_tags: bool = False
    created: bool = False
    updated: bool = False
    recovered: bool = False
    restored: bool = False
    deletions: int = 0
    disposable: bool = True
    asked: bool = True
    refusals: int = 0
    unlocks: bool = False
    drifted: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The next step, and why.

    Attributes:
        step: the step.
        reason: why, in one line for people.
        remedy: what a person must do; it is the end of the reason, or empty.
    """

    step: Step
    reason: str
    remedy: str = ""


MAX_DELETIONS = 3  # failed deletions of a stack within one goal
MAX_REFUSALS = 3  # failed creations from the same template and parameters, until a person redeploys


def decide(desired: Desired, observed: Observed) -> Decision:
    """Decide the next step that brings an environment to its desired state.

    The function uses no clock and makes no calls, so the same arguments always give the same step.

    Raises:
        UnknownStatusError: the environment's own stack has a status that the table does not contain.
    """
    stack = observed.stack
    if stack is None or stack.is_gone:
        return Decision(
            *((Step.PROVISION, "it has no stack yet") if desired.exists else (Step.NONE, "its stack is gone"))
        )
    if not observed.owned and not desired.exists:
        return Decision(Step.NONE, f"stack {stack.name} is not this environment's")
    if not observed.owned:
        return Decision(Step.FAIL, f"stack {stack.name} exists without deployer's tags for this environment")
    row = stack.row
    step = row.deploy if desired.exists else row.delete
    reason, remedy = _reason_against(step, stack, observed)
    if reason:
        return Decision(Step.FAIL, f"{reason}; {remedy}" if remedy else reason, remedy)
    if step is Step.TRIGGER:
        return _step_of_ready_stack(stack, desired, observed)
    return Decision(step, f"its stack is {stack.status}: {row.why}", row.why if step is Step.FAIL else "")


def _reason_against(step: Step, stack: Stack, observed: Observed) -> tuple[str, str]:
    """Why a step of the table is not taken, and what a person must do; empty if the step is taken."""
    reported = stack.reason or stack.status
    match step:
        case Step.DELETE | Step.REPLACE if (
            stack.phase is Phase.UNDELETED and observed.deletions >= MAX_DELETIONS
        ):
            return f"its stack could not be deleted: {reported}", ""
        case Step.DELETE | Step.REPLACE if stack.protected and not observed.unlocks:
            return (
                "its stack has termination protection, which a person must take off first",
                "",
            )
        case Step.REPLACE:
            return _reason_against_replacement(stack, observed, reported)
        case Step.RECOVER if observed.recovered:
            return (
                f"its stack is {stack.status} again: {reported}",
                "continue its rollback in the console, skipping what cannot be rolled back, then redeploy",
            )
        case _:
            return "", ""


def _reason_against_replacement(stack: Stack, observed: Observed, reported: str) -> tuple[str, str]:
    if stack.phase is Phase.UNDELETED and not observed.disposable:
        return f"its stack is {stack.status} and needs a person: {stack.reason}", ""
    if stack.phase is Phase.WEDGED and observed.created:
        return f"its stack could not be created: {reported}", ""
    if stack.status in REFUSED and not observed.asked:
        return f"its stack could not be created: {reported}", "push a corrected commit, or redeploy"
    if stack.status in REFUSED and observed.refusals >= MAX_REFUSALS:
        reason = f"its stack could not be created from this template and these parameters {observed.refusals} times"
        return f"{reason}; change them, or redeploy", ""
    return "", ""


def _step_of_ready_stack(stack: Stack, desired: Desired, observed: Observed) -> Decision:
    if observed.updated and stack.status in ROLLED_BACK:
        return Decision(Step.FAIL, f"its stack could not be updated: {stack.reason or stack.status}")
    if desired.digest != stack.tags.get("deployer:digest"):
        if observed.updated:
            return Decision(Step.FAIL, "its stack was changed by someone else during the update; push again")
        return Decision(Step.UPDATE, "its template or parameters changed")
    if observed.lost_tags and observed.restored:
        return Decision(
            Step.FAIL,
            "its pipeline has removed deployer's tags from its own stack, and they could not be restored:"
            f" {stack.reason or stack.status}",
        )
    if observed.lost_tags:
        return Decision(Step.RESTORE, "its pipeline has removed deployer's tags from its own stack")
    if observed.drifted and not observed.updated:
        return Decision(Step.UPDATE, "its stack was changed outside deployer, and is restored")
    return Decision(Step.TRIGGER, "its stack is as desired")
