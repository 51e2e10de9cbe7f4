"""The processes that create, update or delete stacks, resource by resource."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from sandbox.aws.clock import Process, Scheduler
from sandbox.aws.events import Events
from sandbox.aws.faults import Faults
from sandbox.aws.handlers import Handlers
from sandbox.aws.intrinsics import Resolver
from sandbox.aws.journal import Journal
from sandbox.aws.places import Place
from sandbox.aws.propertychecks import check_properties
from sandbox.aws.protocol import AwsError
from sandbox.aws.resources import Context, Resource, ResourceError, failure_reason
from sandbox.aws.stack import Stack
from sandbox.aws.template import validation_error

RESOURCE_SECONDS = 0.6


class Operations:
    """Processes that the scheduler runs while it holds the simulator's lock."""

    def __init__(self, scheduler: Scheduler, faults: Faults, events: Events, place: Place) -> None:
        self._scheduler = scheduler
        self._faults = faults
        self._place = place
        journal = Journal(scheduler, events, place)
        self.set_status = journal.set_status
        self._resource_event = journal.record_resource
        self.handlers = Handlers(place)
        self.live: dict[str, Stack] = {}
        self.gone: dict[str, Stack] = {}
        self.leftovers: list[tuple[Stack, Resource]] = []
        """The resources that a stack no longer has but did not delete, each with its stack."""
        self._following: dict[str, Callable[[Stack], Process]] = {
            "CREATE_IN_PROGRESS": self.create,
            "ROLLBACK_IN_PROGRESS": self.roll_back_create,
            "DELETE_IN_PROGRESS": self.delete,
            "UPDATE_IN_PROGRESS": self.update,
            "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": self._complete_update,
            "UPDATE_ROLLBACK_IN_PROGRESS": self.roll_back_update,
            "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": self._complete_update_rollback,
            "IMPORT_IN_PROGRESS": self.import_existing,
            "IMPORT_ROLLBACK_IN_PROGRESS": self.roll_back_import,
        }

    def continue_from_status(self, stack: Stack, seconds: float) -> Process:
        """After some seconds, continue from a status in progress as the service does."""
        yield seconds
        if following := self._following.get(stack.status):
            yield from following(stack)

    def create(self, stack: Stack) -> Process:
        """Create a stack's resources; after a failure, act by the stack's `on_failure`."""
        reason = yield from self._create_resources(stack)
        if not reason:
            self._finish_operation(stack, "CREATE_COMPLETE")
        elif stack.on_failure == "DO_NOTHING":
            self.set_status(stack, "CREATE_FAILED", reason)
        elif stack.on_failure == "DELETE":
            self.set_status(stack, "DELETE_IN_PROGRESS", f"{reason}Delete requested by user.")
            yield from self.delete(stack)
        else:
            self.set_status(stack, "ROLLBACK_IN_PROGRESS", f"{reason}Rollback requested by user.")
            yield from self.roll_back_create(stack)

    def roll_back_create(self, stack: Stack) -> Process:
        """Delete the resources that a creation made."""
        left = yield from self._delete_resources(stack, self._in_delete_order(stack))
        why = f"The following resource(s) failed to delete: [{', '.join(left)}]. " if left else None
        self.set_status(stack, "ROLLBACK_FAILED" if left else "ROLLBACK_COMPLETE", why)

    def _create_resources(self, stack: Stack) -> Process:
        """Create all resources; return the reason of a failure, or None."""
        resolver = self._make_resolver(stack)
        for name in stack.plan.template.order:
            if name in stack.resources or not resolver.is_active(stack.plan.template.resources[name]):
                continue
            if (yield from self._create_resource(stack, resolver, name)):
                return f"The following resource(s) failed to create: [{name}]. "
        return self._output_error(stack)

    def _create_resource(self, stack: Stack, resolver: Resolver, name: str) -> Process:
        """Create one resource; return whether it failed."""
        declared = stack.plan.template.resources[name]
        self._resource_event(stack, name, declared["Type"], "", "CREATE_IN_PROGRESS")
        yield RESOURCE_SECONDS
        try:
            self._fail_if_injected(stack, name, declared["Type"], "create")
            properties = resolver.evaluate(declared.get("Properties") or {})
            check_properties(declared["Type"], name, properties)
            handler = self.handlers[declared["Type"]]
            context = Context(stack.id, stack.name, stack.tags, stack.role_arn)
            resource = handler.create(context, name, declared["Type"], properties)
            resource.deletion_policy = declared.get("DeletionPolicy", "Delete")
            stack.resources[name] = resource
            yield from handler.wait_until_done(resource)
        except Exception as error:  # noqa: BLE001 - any error of moto is the resource's failure
            self._resource_event(stack, name, declared["Type"], "", "CREATE_FAILED", failure_reason(error))
            return True
        self._resource_event(stack, name, resource.type, resource.physical_id, "CREATE_COMPLETE")
        return False

    def update(self, stack: Stack) -> Process:
        """Bring a stack's resources to its new plan; after a failure, roll back to its former plan."""
        failed = yield from self._apply_plan(stack)
        why = self._output_error(stack)
        if failed:
            name, verb = failed
            why = f"The following resource(s) failed to {verb.lower()}: [{name}]. "
        if why and stack.preserves:
            self.set_status(stack, "UPDATE_FAILED", why)
        elif why:
            self.set_status(stack, "UPDATE_ROLLBACK_IN_PROGRESS", why)
            yield from self.roll_back_update(stack)
        else:
            self.set_status(stack, "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
            yield from self._complete_update(stack)

    def _complete_update(self, stack: Stack) -> Process:
        left = yield from self._remove_unplanned(stack)
        why = "Update successful. One or more resources could not be deleted." if left else None
        self._finish_operation(stack, "UPDATE_COMPLETE", why)

    def roll_back_update(self, stack: Stack, skip: Collection[str] = ()) -> Process:
        """Bring a stack's resources back to the plan before its update."""
        if stack.former is not None:
            stack.plan, stack.tags, stack.former = stack.former, stack.former_tags, None
        failed = yield from self._apply_plan(stack, skip=skip)
        if failed:
            why = f"The following resource(s) failed to update: [{failed[0]}]. "
            self.set_status(stack, "UPDATE_ROLLBACK_FAILED", why)
            return
        self.set_status(stack, "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
        yield from self._complete_update_rollback(stack)

    def _complete_update_rollback(self, stack: Stack) -> Process:
        yield from self._remove_unplanned(stack)
        self._finish_operation(stack, "UPDATE_ROLLBACK_COMPLETE")

    def import_existing(self, stack: Stack, imports: Mapping[str, str] | None = None) -> Process:
        """Import existing resources, given as physical ids by logical ids, into a stack."""
        resolver = self._make_resolver(stack)
        tried: list[str] = []
        for name, physical_id in (imports or {}).items():
            declared = stack.plan.template.resources[name]
            kind = declared["Type"]
            tried.append(name)
            self._resource_event(stack, name, kind, physical_id, "IMPORT_IN_PROGRESS")
            yield RESOURCE_SECONDS
            try:
                self._fail_if_injected(stack, name, kind, "import")
                properties = resolver.evaluate(declared.get("Properties") or {})
                stack.resources[name] = self.handlers[kind].import_existing(
                    name, kind, physical_id, properties
                )
            except Exception as error:  # noqa: BLE001 - any error of moto is the resource's failure
                self._resource_event(stack, name, kind, physical_id, "IMPORT_FAILED", failure_reason(error))
                why = f"The following resource(s) failed to import: [{name}]. "
                self.set_status(stack, "IMPORT_ROLLBACK_IN_PROGRESS", why)
                yield from self.roll_back_import(stack, tried)
                return
            stack.resources[name].deletion_policy = declared.get("DeletionPolicy", "Delete")
            self._resource_event(stack, name, kind, physical_id, "IMPORT_COMPLETE")
        self._finish_operation(stack, "IMPORT_COMPLETE")

    def roll_back_import(self, stack: Stack, tried: Collection[str] = ()) -> Process:
        """Remove imported resources from the stack without deleting them."""
        failed = []
        for name in tried:
            kind = stack.plan.template.resources[name]["Type"]
            physical_id = stack.summaries[name]["PhysicalResourceId"]
            self._resource_event(stack, name, kind, physical_id, "IMPORT_ROLLBACK_IN_PROGRESS")
            yield RESOURCE_SECONDS
            try:
                self._fail_if_injected(stack, name, kind, "import_rollback")
            except ResourceError as error:
                failed.append(name)
                self._resource_event(
                    stack, name, kind, physical_id, "IMPORT_ROLLBACK_FAILED", failure_reason(error)
                )
                continue
            stack.resources.pop(name, None)
            self._resource_event(stack, name, kind, physical_id, "IMPORT_ROLLBACK_COMPLETE")
        if stack.former is not None:
            stack.plan, stack.tags, stack.former = stack.former, stack.former_tags, None
        why = f"The following resource(s) failed to roll back: [{', '.join(failed)}]. " if failed else None
        self.set_status(stack, "IMPORT_ROLLBACK_FAILED" if failed else "IMPORT_ROLLBACK_COMPLETE", why)

    def _apply_plan(self, stack: Stack, skip: Collection[str] = ()) -> Process:
        """Bring the resources to the plan; return the first failure as (logical id, verb), or None."""
        resolver = self._make_resolver(stack)
        for name in stack.plan.template.order:
            declared = stack.plan.template.resources[name]
            if name in skip or not resolver.is_active(declared):
                continue
            if name not in stack.resources:
                if (yield from self._create_resource(stack, resolver, name)):
                    return name, "CREATE"
                continue
            try:
                properties = resolver.evaluate(declared.get("Properties") or {})
            except Exception as error:  # noqa: BLE001 - any error of moto is the resource's failure
                self._resource_event(
                    stack, name, declared["Type"], "", "UPDATE_FAILED", failure_reason(error)
                )
                return name, "UPDATE"
            stack.resources[name].deletion_policy = declared.get("DeletionPolicy", "Delete")
            if properties == stack.resources[name].properties:
                continue
            if (yield from self._change_resource(stack, name, properties)):
                return name, "UPDATE"
        return None

    def _change_resource(self, stack: Stack, name: str, properties: dict[str, Any]) -> Process:
        """Update or replace one resource; return whether it failed."""
        resource = stack.resources[name]
        handler = self.handlers[resource.type]
        self._resource_event(stack, name, resource.type, resource.physical_id, "UPDATE_IN_PROGRESS")
        yield RESOURCE_SECONDS
        try:
            self._fail_if_injected(stack, name, resource.type, "update")
            check_properties(resource.type, name, properties)
            context = Context(stack.id, stack.name, stack.tags, stack.role_arn)
            if not handler.needs_replacement(resource.properties, properties):
                stack.resources[name] = handler.update(context, resource, properties)
            elif kept := stack.find_superseded(name, properties):
                # A rollback returns to the resource that the update replaced but did not remove yet.
                stack.superseded.remove(kept)
                stack.superseded.append(resource)
                stack.resources[name] = kept
            else:
                stack.resources[name] = handler.create(context, name, resource.type, properties)
                stack.superseded.append(resource)
            yield from handler.wait_until_done(stack.resources[name])
        except Exception as error:  # noqa: BLE001 - any error of moto is the resource's failure
            self._resource_event(
                stack, name, resource.type, resource.physical_id, "UPDATE_FAILED", failure_reason(error)
            )
            return True
        changed = stack.resources[name]
        self._resource_event(stack, name, changed.type, changed.physical_id, "UPDATE_COMPLETE")
        return False

    def _remove_unplanned(self, stack: Stack) -> Process:
        """Delete the resources that the plan no longer has; return the names of those that stay.

        As in AWS, a resource that cannot be deleted stays without a stack.
        """
        resolver = self._make_resolver(stack)
        planned = stack.plan.template.resources
        unplanned = [
            n for n in reversed(stack.resources) if n not in planned or not resolver.is_active(planned[n])
        ]
        left = yield from self._drop_superseded(stack)
        for name in (yield from self._delete_resources(stack, unplanned)):
            self.leftovers.append((stack, stack.resources.pop(name)))
            left.append(name)
        return left

    def _drop_superseded(self, stack: Stack) -> Process:
        """Delete the resources that updates replaced; return the names of those that stay."""
        replaced, stack.superseded = stack.superseded, []
        left = []
        for resource in replaced:
            if not (yield from self._delete_resource(stack, resource)):
                self.leftovers.append((stack, resource))
                left.append(resource.logical_id)
        return left

    def delete(self, stack: Stack, retain: Collection[str] = (), *, force: bool = False) -> Process:
        """Delete a stack; with `force`, retain the resources that cannot be deleted."""
        yield from self._drop_superseded(stack)
        failed = yield from self._delete_resources(stack, self._in_delete_order(stack), retain)
        if failed and not force:
            why = f"The following resource(s) failed to delete: [{', '.join(failed)}]. "
            return self.set_status(stack, "DELETE_FAILED", why)
        for name in failed:
            self._retain_resource(stack, name)
        stack.deleted = self._scheduler.now()
        stack.outputs = []
        self.live.pop(stack.name, None)
        self.gone[stack.id] = stack
        return self.set_status(stack, "DELETE_COMPLETE")

    def _delete_resources(self, stack: Stack, names: Iterable[str], retain: Collection[str] = ()) -> Process:
        """Delete resources; return the names of those that could not be deleted."""
        failed = []
        for name in names:
            resource = stack.resources[name]
            if name in retain or resource.deletion_policy == "Retain":
                self._retain_resource(stack, name)
            elif (yield from self._delete_resource(stack, resource)):
                stack.resources.pop(name)
            else:
                failed.append(name)
        return failed

    def _retain_resource(self, stack: Stack, name: str) -> None:
        resource = stack.resources.pop(name)
        self.leftovers.append((stack, resource))
        self._resource_event(stack, name, resource.type, resource.physical_id, "DELETE_SKIPPED")

    def _delete_resource(self, stack: Stack, resource: Resource) -> Process:
        """Delete one resource; return whether it is deleted."""
        name, kind, physical_id = resource.logical_id, resource.type, resource.physical_id
        self._resource_event(stack, name, kind, physical_id, "DELETE_IN_PROGRESS")
        yield RESOURCE_SECONDS
        try:
            self._fail_if_injected(stack, name, kind, "delete")
            handler = self.handlers[kind]
            handler.delete(resource)
            yield from handler.wait_until_done(resource)
            if handler.exists(resource):
                raise ResourceError(f"The simulator did not delete {kind} {physical_id}")
        except Exception as error:  # noqa: BLE001 - any error of moto is the resource's failure
            self._resource_event(stack, name, kind, physical_id, "DELETE_FAILED", failure_reason(error))
            return False
        self._resource_event(stack, name, kind, physical_id, "DELETE_COMPLETE")
        return True

    # ---- shared by the processes

    def _fail_if_injected(self, stack: Stack, name: str, kind: str, verb: str) -> None:
        if why := self._faults.resource_failure(self._place, stack.name, name, kind, verb):
            raise ResourceError(why)

    @staticmethod
    def _in_delete_order(stack: Stack) -> list[str]:
        order = stack.plan.template.order
        rest = [n for n in stack.resources if n not in order]
        return rest + [n for n in reversed(order) if n in stack.resources]

    def _finish_operation(self, stack: Stack, status: str, reason: str | None = None) -> None:
        stack.former = None
        stack.outputs = [] if self._output_error(stack) else self._evaluate_outputs(stack)
        self.set_status(stack, status, reason)

    def _output_error(self, stack: Stack) -> str | None:
        """The reason for which the outputs cannot be evaluated, or None."""
        try:
            self._evaluate_outputs(stack)
        except (AwsError, ResourceError) as error:
            return f"{error}. "
        return None

    def _evaluate_outputs(self, stack: Stack) -> list[dict[str, Any]]:
        resolver = self._make_resolver(stack)
        outputs = []
        for key, output in stack.plan.template.outputs.items():
            if not resolver.is_active(output):
                continue
            shown: dict[str, Any] = {
                "OutputKey": key,
                "OutputValue": str(resolver.evaluate(output.get("Value", ""))),
                "Description": output.get("Description"),
            }
            if "Export" in output:
                shown["ExportName"] = str(resolver.evaluate(output["Export"]["Name"]))
            outputs.append(shown)
        return outputs

    def _make_resolver(self, stack: Stack) -> Resolver:
        def reference(name: str) -> str:
            if name in stack.resources:
                return stack.resources[name].physical_id
            raise validation_error(f"Template error: unresolved reference to {name}")

        def attribute(name: str, attribute: str) -> str:
            if name not in stack.resources:
                raise validation_error(
                    f"Template error: instance of Fn::GetAtt references undefined resource {name}"
                )
            resource = stack.resources[name]
            return self.handlers[resource.type].attribute_value(resource, attribute)

        def export(name: str) -> str:
            for other in self.live.values():
                for output in other.outputs:
                    if output.get("ExportName") == name:
                        return str(output["OutputValue"])
            raise validation_error(f"No export named {name} found.")

        pseudo = {
            "AWS::AccountId": self._place.account,
            "AWS::NotificationARNs": stack.notification_arns,
            "AWS::Partition": "aws",
            "AWS::Region": self._place.region,
            "AWS::StackId": stack.id,
            "AWS::StackName": stack.name,
            "AWS::URLSuffix": "amazonaws.com",
        }
        values = {**pseudo, **stack.plan.parameters}
        return Resolver(stack.plan.template, values, reference, attribute, export)
