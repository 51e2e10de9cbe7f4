"""Finds the environment that a person or an AWS event means."""

from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import NotFoundError
from deployer.model.events import CloudEvent
from deployer.model.refs import Ref
from deployer.model.stacks import Stack
from deployer.queue.store import QueueStore


def find_environment_record(lanes: QueueStore, repository: Repository, text: str) -> EnvironmentRecord:
    """The record of the environment that a person names.

    Args:
        lanes: has the records.
        repository: its repository.
        text: a branch's short name, a full ref, or `staging` or `production`.

    Raises:
        NotFoundError: there is no record of it.
        PayloadError: git allows no such ref.
    """
    ref = Ref.from_user_input(text)
    unknown = NotFoundError(f"nothing is known of {text} in {repository}; see: deployer status {repository}")
    records = lanes.environments(repository)
    production = Environment(repository, Kind.PRODUCTION).key
    for record in records:
        if record.environment == text:
            return record
    if text in {Kind.STAGING, Kind.PRODUCTION}:  # a branch of this name must be given by its full ref
        raise unknown
    for record in records:
        branch = Environment.from_key(repository, record.environment).branch
        if (branch or (Ref.parse(record.spec.ref) if record.spec.ref else None)) == ref:
            return record
    for record in records:
        if ref.is_tag and record.environment == production:
            return record
    raise unknown


def why_of_another_stack(
    event: CloudEvent, environment: Environment, record: EnvironmentRecord | None, account: str
) -> str:
    """Why an event of AWS is not about the environment's stack; empty if it is, or if that is not known.

    Stack names are unique only within an account and region, and another branch may have the same former name.

    Args:
        event: the event.
        environment: the environment that has, or had, the stack name of the event.
        record: the environment's record.
        account: its account by the settings; empty if the settings name none.
    """
    if record is None:
        record = EnvironmentRecord(environment.repository.full_name, environment.key, "")
    if record.stack_name not in {"", event.stack_name}:
        return f"{event.stack_name} is not the stack of {environment}, which is {record.stack_name}"
    known = Stack(record.status.stack.stack_arn, "", "")
    for what, given, own in (
        ("account", event.account, account or known.account),
        ("region", event.region, record.spec.region or known.region),
    ):
        if given and own and given != own:
            return f"{event.stack_name} of {what} {given[:50]} is not the stack of {environment}, which is in {own}"
    return ""
