"""Where an environment lives: finds its stack's name and region, and chooses the region of a new one by its room."""

import logging
from collections.abc import Sequence

from deployer.environments import Environment
from deployer.errors import TransientError
from deployer.ledger import EnvironmentRecord, Task
from deployer.ports import LISTING_PATIENCE, Cloud, Clouds, Inventory, Snooze
from deployer.quotas import admits, fullest_last
from deployer.reporting import Reporter
from deployer.run import Run, Settled
from deployer.stacks import Stack

_log = logging.getLogger(__name__)
_ROOM_SECONDS = 300.0  # between two looks for room in a region


class Placement:
    """Finds names, finds and chooses regions.

    Args:
        clouds: AWS.
        inventory: tells which name is in use where no record does.
        reporter: tells who waits for room.
    """

    def __init__(self, clouds: Clouds, inventory: Inventory, reporter: Reporter) -> None:
        self._clouds = clouds
        self._inventory = inventory
        self._reporter = reporter

    def located(
        self, environment: Environment, record: EnvironmentRecord, task: str
    ) -> tuple[EnvironmentRecord, bool]:
        """The record with the environment's region and its stack's name: once it has a stack these stay.

        Returns:
            Also whether every region was looked at, and has no such stack. Before a creation nobody looks: where there
            are several regions the chosen one is on record before anything is ordered.
        """
        if not record.stack_name:
            record = record.but(stack_name=self._listed_name(environment))
        regions = self._clouds.target(environment.kind).regions
        if record.region or len(regions) < 2 or task == Task.PROVISION:
            return record, False
        for name in dict.fromkeys([record.stack_name, environment.stack_name]):
            for region in regions:
                stack = self._clouds.at(environment.kind, region).stack(name)
                if stack and (name == environment.stack_name or environment.owns(stack.tags)):
                    return record.but(region=region, stack_name=name), False
        return record.but(stack_name=environment.stack_name), True

    def _listed_name(self, environment: Environment) -> str:
        """The name in use of an environment without a record.

        A listing of any age will do, so this costs calls once an hour at most: no stack gets a former name any more.
        One that has gone since is not found by its name, and the present name takes its place.
        """
        listed = self._inventory.stacks(environment.repository, 0, LISTING_PATIENCE, environment.kind)
        former = environment.former_stack_name
        own = (each for each in listed.stacks if each.name == former and not each.is_gone)
        return former if any(environment.owns(each.tags) for each in own) else environment.stack_name

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


def find_stack(cloud: Cloud, environment: Environment, recorded: str = "") -> tuple[str, Stack | None]:
    """The name in use and its stack, asked of AWS: one call, or two where no name is on record.

    Args:
        cloud: where the environment lives.
        environment: whose stack.
        recorded: the name on record; empty where there is none.
    """
    former = recorded or environment.former_stack_name
    stack = cloud.stack(former)
    if former == environment.stack_name or (stack and environment.owns(stack.tags)):
        return former, stack
    return environment.stack_name, cloud.stack(environment.stack_name)
