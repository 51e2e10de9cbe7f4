"""The report of a teardown: what it removed, what it left, and while it runs, what is left to delete."""

from collections.abc import Mapping
from typing import Any

import msgspec

from deployer.model.stored_value import Detail, FieldGroup, StoredValue, nest


class RemovedItem(StoredValue, frozen=True):
    """A stack that a teardown deleted, or a bucket that went with a stack.

    Attributes:
        what: in words, such as `stack api-main`.
        id: the stack's ARN, or the bucket's name.
        resources: how many resources the stack had; 0 for a bucket, None where a version did not count them.
    """

    what: str = ""
    id: str = ""
    resources: int | None = None

    @property
    def is_stack(self) -> bool:
        """Whether it is a stack."""
        return self.what.startswith("stack ")


class RetainedItem(StoredValue, frozen=True):
    """A stack or another resource that a teardown left.

    Attributes:
        what: in words, such as `stack api-main` or `AWS::S3::Bucket assets`.
        id: the stack's ARN, or the resource's physical id.
        why: the reason, in one line.
    """

    what: str = ""
    id: str = ""
    why: str = ""

    @property
    def is_stack(self) -> bool:
        """Whether it is a stack."""
        return self.what.startswith("stack ")


class UnlistedItems(StoredValue, frozen=True):
    """How many buckets and other resources a report has counted without listing them."""

    removed: int = 0
    retained: int = 0


class TeardownPlan(FieldGroup, frozen=True):
    """What a running teardown still has to do.

    Attributes:
        todo: the names of the stacks that are left to delete, in this order.
        arn: the ARN of the first of them, once it is known. A deleted stack is found by its ARN only.
        left: of that stack, the resources that could not be deleted: logical id to the reason.
        again: how often the teardown has begun again because stacks were created meanwhile.
        shared: stacks that pipelines of other environments deploy as well: name to the key of the environment.
    """

    todo: list[str] = msgspec.field(default_factory=list)
    arn: str = ""
    left: dict[str, str] = msgspec.field(default_factory=dict)
    again: int = 0
    shared: dict[str, str] = msgspec.field(default_factory=dict)


class TeardownReport(Detail, frozen=True):
    """What the last teardown of an environment did; it is empty, and false, where there was none.

    Attributes:
        began_at, ended_at: epoch seconds; `ended_at` is 0 while the teardown runs.
        outcome: `removed`, `partly`, `cancelled` or `replaced`; empty while the teardown runs.
        removed, retained: what was deleted and what was left.
        unlisted: how many more were deleted or left.
        repository_state: the state of the repository that called for the teardown, if that was the reason.
        plan: what is left to do.
    """

    began_at: float = 0
    ended_at: float = msgspec.field(name="at", default=0)
    outcome: str = ""
    removed: list[RemovedItem] = msgspec.field(default_factory=list)
    retained: list[RetainedItem] = msgspec.field(default_factory=list)
    unlisted: UnlistedItems = UnlistedItems()
    repository_state: str = msgspec.field(name="word", default="")
    plan: TeardownPlan = TeardownPlan()

    @classmethod
    def nest_fields(cls, fields: Mapping[str, Any]) -> dict[str, Any]:
        """See `StoredValue.nest_fields`; in a report of version 0.1.0 the plan is no value of its own."""
        return nest(cls, fields, flat="plan" not in fields)

    @property
    def is_running(self) -> bool:
        """Whether the teardown has begun and not ended."""
        return bool(self) and not self.ended_at
