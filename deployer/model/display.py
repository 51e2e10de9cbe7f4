"""What an environment wants GitHub to show, as a task hands it to the queue with its result."""

import msgspec

from deployer.model.environments import Kind

PENDING = "pending"
PREPARE = "deployer/prepare"
SUMMARY = "deployer"  # the context to require: of development and staging together
PRODUCTION = "deployer/production"
WANTS = "wants"
"""The place that says whether an environment wants its commit: the state is `yes` or `no`, the text says why not."""
FOREIGN_EXECUTION = "deployer/foreign-execution"  # of all environments
_OWN_CONTEXTS = {"prepare", "teardown", "age", "production", "foreign-execution"}
COMMENT = "comment "  # the beginning of the name of a comment; the context of a status never begins so
PULL_REQUESTS = f"{COMMENT}on pull requests"  # the one comment on each pull request of a branch
PRESENT, ENDED = "present", "ended"  # the states of that comment: whether the environment exists


class DisplayChange(msgspec.Struct, frozen=True):
    """What one environment wants GitHub to show in one place. A later change of the same place replaces it.

    Attributes:
        sha: the commit to which it belongs; of `PULL_REQUESTS` the full name of the branch.
        name: the context of a commit status, `WANTS`, `PULL_REQUESTS`, or `COMMENT` with the id of a comment.
        state: `pending`, `success`, `failure` or `error`; of a comment `success`; for `WANTS` and `PULL_REQUESTS` see
            there.
        text: the description of a status, or the text of a comment.
        url: where a status leads to.
        occasion: why the same has to be shown again, such as the delivery that says that a pull request was opened.
    """

    sha: str
    name: str
    state: str
    text: str
    url: str = ""
    occasion: str = ""


def skip_change(sha: str, text: str, state: str, url: str = "") -> DisplayChange:
    """That a commit is not deployed, in the context to require; `state` is `success` or `pending`."""
    return DisplayChange(sha, SUMMARY, state, text, url)


def stage_context(stage: str, kind: Kind = Kind.DEVELOPMENT) -> str:
    """The context of a stage's status, which differs from deployer's own contexts even if the stage has such a name.

    GitHub compares contexts without case, and the name of a stage contains no slash.
    """
    return own_context(f"{'stage/' if stage.lower() in _OWN_CONTEXTS else ''}{stage}", kind)


def own_context(name: str, kind: Kind) -> str:
    """The context of a status of one kind of environment: all development environments of a commit share one."""
    return f"deployer/{name}" if kind is Kind.DEVELOPMENT else f"deployer/{kind}/{name}"


def stage_of_context(context: str) -> str:
    """The stage whose status has this context."""
    return context.rpartition("/")[2]
