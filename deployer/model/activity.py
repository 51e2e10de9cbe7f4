"""One line of a repository's activity."""

from deployer.model.stored_value import StoredValue


class Activity(StoredValue, frozen=True):
    """One line of a repository's activity: how some work ended.

    Attributes:
        at: when it ended (epoch seconds).
        ref: the ref that was pushed or asked for; empty where there was none, or it is not known.
    """

    at: float
    repository: str
    environment: str
    goal: str
    outcome: str
    reason: str
    commit: str = ""
    ref: str = ""
