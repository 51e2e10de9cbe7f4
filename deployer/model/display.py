"""What an environment wants GitHub to show, as a task hands it to the queue with its result."""

import msgspec

PENDING = "pending"
PREPARE = "deployer/prepare"
_OWN_CONTEXTS = {"prepare", "teardown", "age", "production"}
COMMENT = "comment "  # the beginning of the name of a comment; the context of a status never begins so


class DisplayChange(msgspec.Struct, frozen=True):
    """What one environment wants GitHub to show in one place. A later change of the same place replaces it.

    Attributes:
        sha: the commit to which it belongs.
        name: the context of a commit status, or `COMMENT` with the id of a comment.
        state: `pending`, `success`, `failure` or `error`; of a comment `success`.
        text: the description of a status, or the text of a comment.
        url: where a status leads to.
    """

    sha: str
    name: str
    state: str
    text: str
    url: str = ""


def stage_context(stage: str) -> str:
    """The context of a stage's status, which differs from deployer's own contexts even if the stage has such a name.

    GitHub compares contexts without case, and the name of a stage contains no slash.
    """
    return f"deployer/{'stage/' if stage.lower() in _OWN_CONTEXTS else ''}{stage}"


def stage_of_context(context: str) -> str:
    """The stage whose status has this context."""
    return context.rpartition("/")[2]
