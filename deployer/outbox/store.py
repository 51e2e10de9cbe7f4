"""The outbox as a Protocol, with the values that its methods return."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from deployer.model.environments import Repository


class Wanted(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one environment wants to be shown in one place.

    Attributes:
        state, text, url, occasion: see `DisplayChange`.
        at: since when (epoch seconds).
    """

    state: str
    text: str
    url: str = ""
    at: float = 0
    occasion: str = ""


class Shown(msgspec.Struct, frozen=True, omit_defaults=True):
    """What GitHub has taken last in one place, or has refused.

    Attributes:
        refused: why GitHub refuses it, so that the same is not sent again; empty if GitHub shows it.
        at: when GitHub took or refused it (epoch seconds).
    """

    state: str
    text: str
    url: str = ""
    refused: str = ""
    at: float = 0
    occasion: str = ""


@dataclass(frozen=True, slots=True)
class CommitDisplay:
    """What GitHub should show of one commit, or on the pull requests of one branch, and what it shows.

    Attributes:
        sha: the commit, or the full name of the branch.
        wanted: by the key of the environment and the name of the place.
        shown: by the name of the place.
        version: grows with each change of `wanted`.
        failures: how often in a row posting failed.
        error: why it failed last, or has to wait; empty if it did neither.
    """

    repository: Repository
    sha: str
    wanted: Mapping[tuple[str, str], Wanted]
    shown: Mapping[str, Shown]
    version: int = 0
    failures: int = 0
    error: str = ""

    @property
    def label(self) -> str:
        """The commit or branch, as people read it."""
        return self.sha if self.sha.startswith("refs/") else self.sha[:12]


class Outbox(Protocol):
    """The stored displays. Tasks store what they want with their results; see `QueueStore.finish`."""

    def take_due(self, limit: int, seconds: float, sender: str) -> list[CommitDisplay]:
        """Take commits whose display may differ from what is wanted, for some time and for this sender alone.

        Args:
            limit: the largest number of commits.
            seconds: after how long another sender may take them, because this one has died.
            sender: an id of the sender.
        """

    def record_shown(
        self, display: CommitDisplay, name: str, shown: Shown, seconds: float, sender: str
    ) -> bool:
        """Record what GitHub has taken or refused, and keep the commit for some more seconds.

        Returns:
            Whether this sender still has the commit. If not, the commit becomes due again, because what was posted may
            have overwritten what the other sender has posted.
        """

    def release_commit(
        self,
        display: CommitDisplay,
        sender: str,
        *,
        again_in: float | None = None,
        error: str = "",
        failed: bool = True,
    ) -> None:
        """Return a commit.

        Args:
            display: the commit, as it was taken.
            sender: who has it; a sender that no longer has it changes nothing.
            again_in: in how many seconds the rest is due; None if nothing is left, unless more is wanted by now.
            error: why something is left, if posting failed or has to wait.
            failed: whether such an error counts as a failure.
        """

    def commit_display(self, repository: Repository, sha: str) -> CommitDisplay:
        """What GitHub should show of one commit."""

    def unfinished(self) -> Sequence[CommitDisplay]:
        """The commits whose display may differ from what is wanted, those that wait longest first; not all of many."""

    def is_due(self) -> bool:
        """Whether a sender has something to do."""

    def claim_message(self, seconds: float) -> bool:
        """Whether a message to a sender may be sent; for some seconds, or until `end_message`, no other may."""

    def end_message(self) -> None:
        """Let the next message to a sender be sent."""
