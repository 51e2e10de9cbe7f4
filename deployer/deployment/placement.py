"""Where an environment's stack is: its name and its region, which is chosen by room when the environment is new."""

import logging
from collections.abc import Sequence

from deployer.deployment.capacity import admits, fullest_last
from deployer.environment.context import Run, Settled
from deployer.environment.ports import LISTING_PATIENCE, Cloud, Clouds, Inventory
from deployer.environment.statuses import Reporter
from deployer.model.environments import Environment
from deployer.model.errors import TransientError
from deployer.model.records import EnvironmentRecord, Task
from deployer.model.stacks import Stack
from deployer.queue.step_results import Snooze

_log = logging.getLogger(__name__)
_ROOM_SECONDS = 300.0  # between two looks for room in a region


class Placement:
    """Finds names, finds and chooses regions.

    Args:
        clouds: AWS.
        inventory: tells the name and region of a stack that no record tells.
        reporter: tells who waits for room.
    """

    def __init__(self, clouds: Clouds, inventory: Inventory, reporter: Reporter) -> None:
        self._clouds = clouds
        self._inventory = inventory
        self._reporter = reporter

    def locate(self, environment: Environment, record: EnvironmentRecord) -> tuple[EnvironmentRecord, Cloud]:
        """The record with the name of the environment's stack, and the region of that stack.

        Both are on record once the environment has a stack. Otherwise the environment is new, or Redis was lost, and
        the listing of all stacks tells them. A listing of any age will do, so this costs calls once an hour at most:
        a stack that was deleted since is not found by its name, and `find_elsewhere` finds one that was created since.
        """
        kind, name, region = environment.kind, record.stack_name, record.region
        regions = self._clouds.target(kind).regions
        if not region and len(regions) == 1:
            region = regions[0]
        if not (name and region):
            stack = self._listed(environment, regions)
            former = environment.former_stack_name
            name = name or (former if stack and stack.name == former else environment.stack_name)
            region = region or (stack.region if stack else regions[0])
        return record.but(stack_name=name), self._clouds.at(kind, region)

    def _listed(self, environment: Environment, regions: Sequence[str]) -> Stack | None:
        """A stack with deployer's tags for this environment: its pipeline's, or else one that its pipeline deployed."""
        listed = self._inventory.stacks(environment.repository, 0, LISTING_PATIENCE, environment.kind).stacks
        own = [
            each
            for each in listed
            if each.region in regions and not each.is_gone and environment.owns(each.tags)
        ]
        names = (environment.former_stack_name, environment.stack_name)
        pipelines = [each for name in names for each in own if each.name == name]
        return next(iter([*pipelines, *own]), None)

    def find_elsewhere(self, run: Run) -> bool:
        """Whether the environment has a stack in another region, which is then on record.

        Asked before a stack is created, so that an outdated record or listing has no second one created.
        """
        for region in self._clouds.target(run.environment.kind).regions:
            cloud = self._clouds.at(run.environment.kind, region)
            stack = cloud.stack(run.name) if region != run.cloud.region else None
            if stack and run.environment.owns(stack.tags):
                run.cloud, run.record = cloud, run.record.but(region=region)
                return True
        return False

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
