"""Finds the environment that a person or an AWS event means."""

from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import NotFoundError
from deployer.model.events import CloudEvent
from deployer.model.records import EnvironmentRecord
from deployer.model.refs import Ref
from deployer.model.stacks import Stack
from deployer.queue.store import Lanes


def record_of(lanes: Lanes, repository: Repository, text: str) -> EnvironmentRecord:
    """What is known of the environment that people name.

    Args:
        lanes: the ledger.
        repository: the repository.
        text: a branch's short name, a full ref, or `staging` or `production`.

    Raises:
        NotFoundError: nothing is known of it.
        PayloadError: git allows no such ref.
    """
    ref = Ref.from_people(text)
    unknown = NotFoundError(f"nothing is known of {text} in {repository}; see: deployer status {repository}")
    records = lanes.environments(repository)
    production = Environment(repository, Kind.PRODUCTION).key
    for record in records:
        if record.environment == text:
            return record
    if text in {Kind.STAGING, Kind.PRODUCTION}:  # a branch that is called so is meant by its full ref
        raise unknown
    for record in records:
        branch = Environment.from_key(repository, record.environment).branch
        if (branch or (Ref.parse(record.ref) if record.ref else None)) == ref:
            return record
    for record in records:
        if ref.is_tag and record.environment == production:
            return record
    raise unknown


def why_of_another_stack(
    event: CloudEvent, environment: Environment, record: EnvironmentRecord | None, account: str
) -> str:
    """Why an event of AWS is of another stack than the environment's; empty where that cannot be told.

    Names are unique within an account and region only, and another branch may have the same former name.

    Args:
        event: as its sender says.
        environment: which has the name that the event tells, or had it.
        record: what is known of the environment.
        account: where the settings say that it lives; empty where they do not.
    """
    if record is None:
        record = EnvironmentRecord(environment.repository.full_name, environment.key, "")
    if record.stack_name not in {"", event.stack_name}:
        return f"{event.stack_name} is not the stack of {environment}, which is {record.stack_name}"
    known = Stack(record.stack_arn, "", "")
    for what, given, own in (
        ("account", event.account, account or known.account),
        ("region", event.region, record.region or known.region),
    ):
        if given and own and given != own:
            return f"{event.stack_name} of {what} {given[:50]} is not the stack of {environment}, which is in {own}"
    return ""
