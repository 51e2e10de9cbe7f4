"""Where an environment lives: finds the region of one that stands, and chooses that of a new one by its room."""

import logging
from collections.abc import Sequence

from deployer.environments import Environment
from deployer.errors import TransientError
from deployer.ledger import EnvironmentRecord, Task
from deployer.ports import Clouds, Snooze
from deployer.quotas import admits, fullest_last
from deployer.reporting import Reporter
from deployer.run import Run, Settled
from deployer.stacks import Stack

_log = logging.getLogger(__name__)
_ROOM_SECONDS = 300.0  # between two looks for room in a region


class Placement:
    """Finds and chooses regions.

    Args:
        clouds: AWS.
        reporter: tells who waits for room.
    """

    def __init__(self, clouds: Clouds, reporter: Reporter) -> None:
        self._clouds = clouds
        self._reporter = reporter

    def located(
        self, environment: Environment, record: EnvironmentRecord, task: str
    ) -> tuple[EnvironmentRecord, bool]:
        """The record with the environment's region: once it has a stack somewhere it stays there.

        Returns:
            Also whether every region was looked at, and has no such stack. Before a creation nobody looks: where there
            are several regions the chosen one is on record before anything is ordered.
        """
        regions = self._clouds.target(environment.kind).regions
        if record.region or len(regions) < 2 or task == Task.PROVISION:
            return record, False
        for region in regions:
            if self._clouds.at(environment.kind, region).stack(environment.stack_name):
                return record.but(region=region), False
        return record, True

    def elsewhere(self, run: Run) -> Stack | None:
        """The environment's stack in another region than is on record, if so; then the run goes on there."""
        for region in self._clouds.target(run.environment.kind).regions:
            cloud = self._clouds.at(run.environment.kind, region)
            stack = cloud.stack(run.name) if region != run.cloud.region else None
            if stack and run.environment.owns(stack.tags):
                run.cloud, run.record = cloud, run.record.but(region=region)
                return stack
        return None

    def settle(self, run: Run, regions: Sequence[str]) -> None:
        """Choose the region of a new environment, by room.

        It is on record before anything is ordered there, so whoever goes on after a lost worker goes to the same one.

        Raises:
            Settled: no region has room; the goal waits until one has.
        """
        kind = run.environment.kind
        target = self._clouds.target(kind)
        clouds = {region: self._clouds.at(kind, region) for region in regions}
        try:
            # a resync counts now and then; only a choice is worth calls of its own
            rooms = [cloud.known_room() or cloud.room() for cloud in clouds.values() if len(clouds) > 1]
        except TransientError as error:
            # it cannot be counted just now; AWS itself refuses what is too much
            _log.warning("counting the room for %s: %s", run.environment, error)
            rooms = []
        run.cloud = clouds[regions[0]]
        room = fullest_last(rooms)[0] if rooms else run.cloud.known_room()
        if room and (why := admits(room, target, kind)):
            raise Settled(self.wait_for_room(run, why))
        run.cloud = clouds[room.region] if room else run.cloud
        run.record = run.record.but(region=run.cloud.region)

    def wait_for_room(self, run: Run, why: str) -> Snooze:
        if run.record.state != "waiting":  # the numbers change all the time, and many may wait
            self._reporter.tell(run, "pending", f"waiting: {why}")
        run.note("waiting")
        run.work = run.work.but(created=False)  # it is decided anew: room may come with another region
        return run.snooze(Task.SYNC, seconds=_ROOM_SECONDS)
