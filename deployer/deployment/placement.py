"""Where an environment's stack is: its name, and its region, which is chosen by capacity for a new environment."""

import logging
from collections.abc import Sequence

from deployer.environment.capacity import fullest_last, refusal_of_region
from deployer.environment.cloud_region import LISTING_PATIENCE, CloudRegion, Clouds, Inventory
from deployer.environment.context import ReconcileContext, Stop
from deployer.environment.statuses import StatusReporter
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment
from deployer.model.errors import TransientError
from deployer.model.stacks import Stack
from deployer.queue.items import Task
from deployer.queue.step_results import WaitUntil

_log = logging.getLogger(__name__)
_ROOM_SECONDS = 300.0  # between two checks whether a region has capacity


class Placement:
    """Finds the names and regions of stacks, and chooses regions.

    Args:
        clouds: AWS.
        inventory: finds a stack whose name and region no record tells.
        reporter: posts that an environment waits for capacity.
    """

    def __init__(self, clouds: Clouds, inventory: Inventory, reporter: StatusReporter) -> None:
        self._clouds = clouds
        self._inventory = inventory
        self._reporter = reporter

    def locate_stack(
        self, environment: Environment, record: EnvironmentRecord
    ) -> tuple[EnvironmentRecord, CloudRegion]:
        """Return the record with the name of the environment's stack, and AWS in the region of that stack.

        Both are on record once the environment has a stack. Otherwise the environment is new, or Redis was lost, and
        the listing of all stacks has them. A listing of any age is good enough, so this costs calls once an hour at
        most: a stack that was deleted since is not found by its name, and `find_elsewhere` finds one that was created
        since.
        """
        kind, name, region = environment.kind, record.stack_name, record.spec.region
        regions = self._clouds.target(kind).regions
        if not region and len(regions) == 1:
            region = regions[0]
        if not (name and region):
            stack = self._find_listed(environment, regions)
            former = environment.former_stack_name
            name = name or (former if stack and stack.name == former else environment.stack_name)
            region = region or (stack.region if stack else regions[0])
        return record.but(stack_name=name), self._clouds.at(kind, region)

    def _find_listed(self, environment: Environment, regions: Sequence[str]) -> Stack | None:
        """A stack with this environment's tags: the pipeline's own stack, or else one that the pipeline deployed."""
        listed = self._inventory.stacks(environment.repository, 0, LISTING_PATIENCE, environment.kind).stacks
        own = [
            each
            for each in listed
            if each.region in regions and not each.is_gone and environment.owns(each.tags)
        ]
        names = (environment.former_stack_name, environment.stack_name)
        pipelines = [each for name in names for each in own if each.name == name]
        return next(iter([*pipelines, *own]), None)

    def find_elsewhere(self, context: ReconcileContext) -> ReconcileContext | None:
        """Return the context in another region, if the environment has a stack there; None otherwise.

        It is called before a stack is created, so that an outdated record or listing never causes a second stack.
        """
        for region in self._clouds.target(context.environment.kind).regions:
            cloud = self._clouds.at(context.environment.kind, region)
            stack = cloud.stack(context.name) if region != context.cloud.region else None
            if stack and context.environment.owns(stack.tags):
                return context.in_cloud(cloud).with_record(region=region)
        return None

    def choose_region(self, context: ReconcileContext, regions: Sequence[str]) -> ReconcileContext | Stop:
        """Choose the region of a new environment: the one with the most capacity.

        The region is stored before anything is ordered there, so that a worker that continues after a crash uses the
        same one.

        Returns:
            A stop if no region has capacity; the goal waits for it.
        """
        kind = context.environment.kind
        target = self._clouds.target(kind)
        clouds = {region: self._clouds.at(kind, region) for region in regions}
        try:
            # a resync counts from time to time; only a choice between regions is worth calls of its own
            rooms = [
                cloud.last_capacity() or cloud.count_capacity()
                for cloud in clouds.values()
                if len(clouds) > 1
            ]
        except TransientError as error:
            # without a count, AWS itself refuses what exceeds its quotas
            _log.warning("counting the room for %s: %s", context.environment, error)
            rooms = []
        cloud = clouds[regions[0]]
        room = fullest_last(rooms)[0] if rooms else cloud.last_capacity()
        if room and (why := refusal_of_region(room, target, kind)):
            return Stop(self.wait_for_capacity(context.in_cloud(cloud), why))
        cloud = clouds[room.region] if room else cloud
        return context.in_cloud(cloud).with_record(region=cloud.region)

    def wait_for_capacity(self, context: ReconcileContext, why: str) -> WaitUntil:
        """Wait until a region has capacity."""
        if (
            context.record.status.state != "waiting"
        ):  # the numbers change all the time, and many environments may wait
            context = self._reporter.post_progress(context, f"waiting: {why}")
        # the region is chosen again after the wait, because another one may have capacity
        return (
            context.enter_state("waiting").with_work(created=False).snooze(Task.SYNC, seconds=_ROOM_SECONDS)
        )


def find_stack(cloud: CloudRegion, environment: Environment, recorded: str = "") -> tuple[str, Stack | None]:
    """Ask AWS for an environment's stack: one call, or two if no name is on record.

    Args:
        cloud: AWS in the environment's region.
        environment: the environment.
        recorded: the name on record; empty if there is none.

    Returns:
        The stack's name, and the stack if it exists.
    """
    former = recorded or environment.former_stack_name
    stack = cloud.stack(former)
    if former == environment.stack_name or (stack and environment.owns(stack.tags)):
        return former, stack
    return environment.stack_name, cloud.stack(environment.stack_name)
