"""How a delivery ends."""

from enum import StrEnum


class Outcome(StrEnum):
    """The end of a delivery. Every accepted delivery gets exactly one outcome."""

    DEPLOYED = "deployed"
    DELETED = "deleted"
    SUPERSEDED = "superseded"
    SKIPPED = "skipped"
    IGNORED = "ignored"
    FAILED = "failed"  # people must fix their template, build or permissions
    DEAD_LETTERED = "dead-lettered"  # the operators of deployer must fix something
    RESYNCED = "resynced"  # the delivery was about a whole repository, which was resynced


RESYNCED = str(Outcome.RESYNCED)  # how a resync ends, whoever asked for it
