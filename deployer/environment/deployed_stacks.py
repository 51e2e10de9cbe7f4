"""The stacks to which an environment's pipeline has deployed: which of them it created, where their outputs lead."""

import logging
from collections.abc import Iterable, Iterator
from itertools import islice
from urllib.parse import urlsplit

from deployer.environment.cloud_region import StackAction
from deployer.environment.context import ReconcileContext
from deployer.model.environment_status import DeployedStack
from deployer.model.errors import PermanentError
from deployer.model.outcomes import Outcome
from deployer.model.stacks import Stack

_log = logging.getLogger(__name__)
USUAL_OUTPUTS = ("Url", "WebsiteURL")
_LONGEST_URL = 1024
_UNSAFE = set("<>\"'`\\^{|} ")
_RECORDED_STACKS = 50  # of a pipeline that deploys each commit to a stack of its own, only the newest


def record_deployed_stacks(
    context: ReconcileContext, actions: Iterable[StackAction], *, again: bool = False
) -> ReconcileContext:
    """Record the stacks of some runs of actions. One call for each stack that is not on record.

    A stack is the environment's own, without any tags, only if it was created while such an action ran. A stack that
    existed before belongs to somebody else, whatever the action did to it.

    Args:
        context: the task.
        actions: runs of actions of the environment's pipeline, in any order.
        again: whether stacks are read again that are on record as not created by the pipeline. A longer history of
            actions may contain the one that created such a stack.
    """
    recorded = {each.arn: each for each in context.record.status.stack.deployed}
    for stack_id, runs in islice(_runs_by_stack(context, actions).items(), _RECORDED_STACKS):
        known = [each for each in recorded.values() if stack_id in {each.arn, each.name}]
        if any(each.created if again else _is_up_to_date(each, stack_id, runs) for each in known):
            continue
        stack = context.cloud.stack(stack_id)
        if stack is None or stack.is_gone:
            continue
        created = any(run.created_stack(stack) for run in runs) and not context.environment.contradicts(
            stack.tags
        )
        before = recorded.pop(stack.arn, DeployedStack())
        recorded[stack.arn] = DeployedStack(
            arn=stack.arn, created=before.created or created, action=runs[0].id if runs[0].ended_at else ""
        )
    deployed = _newest(list(recorded.values()))
    if deployed == context.record.status.stack.deployed:
        return context
    return context.with_record(deployed=deployed)


def is_elsewhere(context: ReconcileContext, action: StackAction) -> bool:
    """Whether an action deploys to another region or account than that of its pipeline's stack."""
    own = Stack(context.record.status.stack.stack_arn, "", "")
    return action.region not in {"", context.cloud.region} or action.account not in {
        "",
        own.account or action.account,
    }


def _runs_by_stack(context: ReconcileContext, actions: Iterable[StackAction]) -> dict[str, list[StackAction]]:
    """The runs by the ARN or the name of their stack, newest first; the pipeline's own stack is left out."""
    found: dict[str, list[StackAction]] = {}
    for each in sorted(actions, key=lambda run: run.began_at, reverse=True):
        if each.stack_name != context.name and not is_elsewhere(context, each):
            found.setdefault(each.stack, []).append(each)
    return found


def _is_up_to_date(known: DeployedStack, stack_id: str, runs: list[StackAction]) -> bool:
    """Whether a record is about the stack of these runs: by its ARN, or by a run that had ended when it was read."""
    return known.arn == stack_id or known.action == runs[0].id


def _newest(recorded: list[DeployedStack]) -> list[DeployedStack]:
    """The stacks that are kept on record: those that the pipeline created before others, and of them the newest."""
    kept = sorted(recorded, key=lambda each: each.created)[-_RECORDED_STACKS:]
    return [each for each in recorded if each in kept]


def find_environment_url(context: ReconcileContext, execution: str) -> str:
    """The URL of an environment whose execution has succeeded; empty if no output has one.

    At most one call for each stack that the pipeline deploys, and none for an execution that was reported as deployed
    before: its stacks were read then. If the pipeline deploys no stack, its own stack is read.
    """
    record = context.record
    if record.status.pipeline.reported == execution and record.status.outcome == Outcome.DEPLOYED:
        return record.status.environment_url
    named = record.spec.url_output
    for stack in _read_stacks(context):
        for output in (named,) if named else USUAL_OUTPUTS:
            if url := shown_url(stack.outputs.get(output, "")):
                return url
    return ""


def _read_stacks(context: ReconcileContext) -> Iterator[Stack]:
    """The stacks whose outputs count: a stack with the tags of another environment says nothing about this one."""
    for name in context.record.status.stack.applications or [context.name]:
        try:
            stack = context.cloud.stack(name)
        except PermanentError as error:  # the deployment itself has succeeded
            _log.warning("%s: the outputs of %s cannot be read: %s", context.environment, name, error)
            continue
        if stack and not stack.is_gone and not context.environment.contradicts(stack.tags):
            yield stack


def shown_url(text: str) -> str:
    """The text if it is a URL that people may be led to; empty otherwise.

    It is an http or https URL of printable ASCII characters without credentials, so it is safe in Markdown, in HTML
    and at a terminal.
    """
    text = text.strip()
    plain = text.isascii() and text.isprintable() and not _UNSAFE & set(text)
    if not plain or len(text) > _LONGEST_URL:
        return ""
    try:
        parts = urlsplit(text)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as `https://[`
        return ""
    return text if valid and "@" not in parts.netloc else ""
