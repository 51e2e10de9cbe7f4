"""What the AWS adapter expects of AWS's answers.

botocore checks neither that an answer has the members that its model requires nor that it comes from AWS: JSON of a
proxy with status 200 becomes an answer without any member, or an AttributeError of botocore's parser.
"""

from collections.abc import Mapping
from typing import Any

from deployer.errors import TransientError, raised_in

_READERS = ("botocore.endpoint", "botocore.parsers", "botocore.utils")  # the modules that read an answer


class AnswerError(TransientError):
    """An answer is not one of AWS, or lacks what the next step needs. The same call may succeed later."""


def needed(answer: Any, member: str) -> Any:
    """A member of an answer, or of a structure in it, without which the answer is not AWS's.

    Args:
        answer: the answer or the structure.
        member: its name in botocore's model.

    Raises:
        AnswerError: the member is missing.
    """
    if not isinstance(answer, Mapping) or member not in answer:
        raise AnswerError(f"AWS's answer makes no sense: it has no {member}")
    return answer[member]


def is_unparsable(error: Exception) -> bool:
    """Whether botocore raised this error while it read an answer. Otherwise the error is a bug of deployer's own.

    Args:
        error: an exception that was caught, of any type.
    """
    return raised_in(error, *_READERS)
