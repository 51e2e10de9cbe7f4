"""Resyncs: compares GitHub's refs with AWS's stacks and the ledger, and puts what is to be done into the lanes."""

from collections.abc import Callable, Iterator
from contextlib import suppress

from deployer.config import Config
from deployer.environments import Repository, from_tag_value
from deployer.errors import DeployerError, PayloadError, TransientError
from deployer.ledger import RESYNCED, Cause, Work
from deployer.ports import Clouds, Done, Host, Lanes
from deployer.resync import Planned, plan
from deployer.stacks import Stack


class Resyncer:
    """Makes a repository's plan and puts it into the lane."""

    def __init__(self, config: Config, host: Host, clouds: Clouds, lanes: Lanes) -> None:
        self._config = config
        self._host = host
        self._clouds = clouds
        self._lanes = lanes

    def repositories(self, told: Callable[[str], None]) -> list[Repository]:
        """Every repository that is served and can be found: in Redis, named in the settings, or by its stacks.

        The last two are what is left after Redis was wiped.

        Args:
            told: is told what could not be asked.

        Raises:
            UnavailableError: Redis is away.
        """
        found = {each.key: each for each in self._lanes.repositories()}
        found = {**{each.key: each for each in self._config.named_repositories()}, **found}
        try:
            tags = {stack.tags.get("deployer:repository", "") for stack in self._stacks()}
        except DeployerError as error:
            told(f"only repositories known to Redis and the settings are looked at: {error}")
            tags = set()
        for tag in tags:
            with suppress(PayloadError):
                tagged = Repository.parse(from_tag_value(tag) or "")
                found.setdefault(tagged.key, tagged)
        return sorted(
            (each for each in found.values() if self._config.allows(each)), key=lambda each: each.key
        )

    def plan(self, repository: Repository) -> list[Planned]:
        """What a resync would do now.

        Raises:
            TransientError: GitHub, AWS or Redis is away.
            PermanentError: the repository cannot be read.
        """
        return plan(
            repository,
            self._host.default_branch(repository),
            self._host.refs(repository),
            self._stacks(),
            self._lanes.environments(repository),
        )

    def _count_room(self) -> None:
        """Keep up to date how full the regions are, for admission and forecast: two calls each, once an hour."""
        for cloud in self._clouds.every():
            with suppress(TransientError):  # this resync has done what it was for
                cloud.room()

    def _stacks(self) -> Iterator[Stack]:
        for cloud in self._clouds.every():
            yield from cloud.stacks()

    def run(self, repository: Repository) -> Done:
        """Queue the plan; work that waits for an environment already is joined, never doubled."""
        planned = self.plan(repository)
        for each in planned:
            work = Work(environment=each.environment.key, cause=Cause.RESYNC, ref=each.ref)
            self._lanes.accept(repository, work)  # this task holds the lane: nothing to dispatch
        counts = {
            action: sum(each.action == action for each in planned)
            for action in ("provision", "check", "delete")
        }
        self._count_room()
        words = ", ".join(f"{count} to {action}" for action, count in counts.items() if count)
        return Done(RESYNCED, words or "nothing to do")
