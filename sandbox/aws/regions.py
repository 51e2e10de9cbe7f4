"""The regions of the accounts, each with its resources."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sandbox.aws.actions import Actions
from sandbox.aws.builds import Builder
from sandbox.aws.clock import Scheduler
from sandbox.aws.cloudformation import CloudFormation
from sandbox.aws.codepipeline import CodePipeline
from sandbox.aws.detection import Detection, Rules
from sandbox.aws.events import Events
from sandbox.aws.executions import Pipelines
from sandbox.aws.faults import Faults
from sandbox.aws.jobs import Jobs
from sandbox.aws.piperesources import ProjectHandler
from sandbox.aws.places import Place
from sandbox.aws.resourcetypes import handlers_by_type
from sandbox.aws.sources import Repositories
from sandbox.aws.stack import Plan
from sandbox.aws.stacks import Stacks
from sandbox.aws.workspace import Workspace


class Region:
    """A region of one account: its stacks, pipelines, build projects, and the services for them."""

    def __init__(
        self,
        place: Place,
        scheduler: Scheduler,
        faults: Faults,
        events: Events,
        workspace: Workspace,
        repositories: Repositories,
        builder: Builder,
        stacks: Callable[[Place], Stacks],
    ) -> None:
        self.place = place
        self.stacks = Stacks(scheduler, faults, events, place)
        self.pipelines = Pipelines(scheduler, faults, events, workspace.executions, place)
        projects = ProjectHandler(place)
        self.projects = projects.projects
        rules = Rules(scheduler, self.pipelines)
        events.listeners[place] = rules.on_event
        Detection(scheduler, self.pipelines, repositories)
        self.stacks.handlers.update(
            handlers_by_type(place, self.stacks, self.pipelines, projects, rules, lambda: builder.address)
        )
        jobs = Jobs(place.account)
        actions = Actions(place, scheduler, stacks, repositories, self.projects, builder, jobs)
        self.pipelines.perform_action = actions.perform_action
        self._cloudformation = CloudFormation(self.stacks)
        self.services: dict[str, Callable[[str, dict[str, Any], str], dict[str, Any]]] = {
            "cloudformation": self._call_cloudformation,
            "codepipeline": CodePipeline(self.pipelines, scheduler.now, jobs).call,
        }
        self._events = events

    def _call_cloudformation(self, operation: str, given: dict[str, Any], caller: str) -> dict[str, Any]:
        """Call CloudFormation, which acts in the name of its caller if the stack has no role."""
        result = self._cloudformation.call(operation, given)
        name = str(given.get("StackName") or "")
        self.pipelines.callers[name.split("/")[1] if name.startswith("arn:") else name] = caller
        return result

    def seed_stacks(self, body: str, stacks: Iterable[Mapping[str, Any]]) -> None:
        """Create finished stacks of one template with their resources.

        No events are sent, and their pipelines have no executions.

        Args:
            body: the template's text.
            stacks: the `name`, `parameters` and `tags` of each.
        """
        template = self.stacks.read_template(body)
        self.pipelines.starts = False
        try:
            with self._events.without_events():
                for each in stacks:
                    self.stacks.add_finished_stack(
                        each["name"], Plan(template, each["parameters"]), each["tags"]
                    )
        finally:
            self.pipelines.starts = True


class Regions:
    """All regions of all accounts, each created on first use; the caller holds the simulator's lock."""

    def __init__(
        self,
        scheduler: Scheduler,
        faults: Faults,
        events: Events,
        workspace: Workspace,
        repositories: Repositories,
        builder: Builder,
    ) -> None:
        self._parts = (scheduler, faults, events, workspace, repositories, builder)
        self._regions: dict[Place, Region] = {}

    def __iter__(self) -> Iterator[Region]:
        return iter(list(self._regions.values()))

    def at(self, place: Place) -> Region:
        """The region at a place."""
        if place not in self._regions:
            self._regions[place] = Region(place, *self._parts, lambda other: self.at(other).stacks)
        return self._regions[place]

    def reset(self) -> None:
        """Remove all regions with their limits; the caller has cancelled the processes."""
        self._regions.clear()

    def set_limits(self, place: Place, *, stacks: int | None = None, pipelines: int | None = None) -> None:
        """Set how many stacks and pipelines a region allows; None leaves a limit unchanged."""
        region = self.at(place)
        region.stacks.limit = region.stacks.limit if stacks is None else stacks
        region.pipelines.limit = region.pipelines.limit if pipelines is None else pipelines
