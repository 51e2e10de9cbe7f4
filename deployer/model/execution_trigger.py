"""What started an execution of a pipeline, as AWS reports it."""

import re
from enum import StrEnum

from deployer.model.stored_value import Detail

_ASSUMED_ROLE = re.compile(r"arn:([a-z-]+):sts::(\d{12}):assumed-role/([^/]+)/.*")
_ROLE = re.compile(r"arn:([a-z-]+):iam::(\d{12}):role/(?:.*/)?([^/]+)")
_START = "StartPipelineExecution"


class Starter(StrEnum):
    """Who or what started an execution."""

    REQUEST = "request"  # a call of StartPipelineExecution, by deployer or by somebody else
    CREATION = "creation"  # the creation of the pipeline
    SOURCE_CHANGE = "source change"  # AWS's own detection of changes, a webhook, a rule or a schedule
    ROLLBACK = "rollback"
    UNKNOWN = "unknown"


# https://docs.aws.amazon.com/codepipeline/latest/APIReference/API_ExecutionTrigger.html
_STARTERS = {
    _START: Starter.REQUEST,
    "CreatePipeline": Starter.CREATION,
    "PollForSourceChanges": Starter.SOURCE_CHANGE,
    "Webhook": Starter.SOURCE_CHANGE,
    "WebhookV2": Starter.SOURCE_CHANGE,
    "CloudWatchEvent": Starter.SOURCE_CHANGE,
    "PutActionRevision": Starter.SOURCE_CHANGE,
    "ManualRollback": Starter.ROLLBACK,
    "AutomatedRollback": Starter.ROLLBACK,
}


class Trigger(Detail, frozen=True):
    """The trigger of an execution; it is empty, and false, if AWS does not report one.

    Attributes:
        type: the type in AWS's words, such as `StartPipelineExecution`.
        detail: what AWS adds to it: the ARN of the caller, the webhook, the rule or the connection.
    """

    type: str = ""
    detail: str = ""

    @property
    def starter(self) -> Starter:
        """Who or what started the execution."""
        return _STARTERS.get(self.type, Starter.UNKNOWN)

    @property
    def words(self) -> str:
        """Who or what started the execution, as a clause for people."""
        match self.starter:
            case Starter.REQUEST:
                return f"{_caller_name(self.detail)} started it"
            case Starter.CREATION:
                return "AWS started it when the pipeline was created"
            case Starter.SOURCE_CHANGE:
                return f"AWS started it by itself ({self.type})"
            case Starter.ROLLBACK if self.type == "ManualRollback":
                return f"{_caller_name(self.detail)} rolled a stage back"
            case Starter.ROLLBACK:
                return "AWS rolled a failed stage back"
            case _:
                return f"it was started by {self.type}" if self.type else "AWS does not report who started it"

    def names_caller(self, principal: str) -> bool:
        """Whether the execution was requested by a role or user; the sessions of a role count as the role."""
        return self.type == _START and bool(self.detail) and role_of(self.detail) == role_of(principal)


UNKNOWN_TRIGGER = Trigger()


def role_of(arn: str) -> str:
    """The role of a session, without its path, because the ARN of a session has none; another ARN is unchanged."""
    found = _ASSUMED_ROLE.fullmatch(arn) or _ROLE.fullmatch(arn)
    return "{}:{}:role/{}".format(*found.groups()) if found else arn


def _caller_name(arn: str) -> str:
    """A caller for people: what its ARN names within the account."""
    return arn.rpartition(":")[2] or "somebody"
