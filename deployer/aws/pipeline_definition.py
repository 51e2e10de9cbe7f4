"""What deployer reads from a pipeline's definition, as GetPipeline returns it."""

from collections.abc import Iterable
from typing import Any

from deployer.aws.errors import required_member
from deployer.model.source_actions import SourceAction

STACK_ACTION = ("Deploy", "CloudFormation")  # category and provider
_STACK_SET_PROVIDERS = ("CloudFormationStackSet", "CloudFormationStackInstances")


def stage_names(definition: Any) -> list[str]:
    """Return the names of the definition's stages in their order."""
    return [str(required_member(stage, "name")) for stage in required_member(definition, "stages")]


def deployed_stacks(definition: Any) -> list[str]:
    """Return the names of the stacks that the definition's CloudFormation actions deploy, the last one first."""
    found: dict[str, None] = {}
    for stage in required_member(definition, "stages"):
        for action in sorted(required_member(stage, "actions"), key=lambda action: action.get("runOrder", 1)):
            name = deployed_stack(action.get("configuration", {}))
            if _action_type(action) == STACK_ACTION and name:
                found.setdefault(name)
    return list(reversed(found))


def deployed_stack(configuration: Any) -> str:
    """Return the name of the stack that an action creates or updates; empty if there is none, or it has a variable."""
    name = str(configuration.get("StackName") or "")
    return "" if "#{" in name or configuration.get("ActionMode") == "DELETE_ONLY" else name


def source_actions(definition: Any) -> list[SourceAction]:
    """Return the definition's source actions in their order. AWS allows them only in the first stage."""
    found = []
    for stage in required_member(definition, "stages")[:1]:
        for action in required_member(stage, "actions"):
            category, provider = _action_type(action)
            if category == "Source":
                artifacts = _names_of(action.get("outputArtifacts", []))
                name = str(required_member(action, "name"))
                found.append(SourceAction(name, provider, action.get("configuration", {}), artifacts))
    return found


def has_all_actions(definition: Any | None, stage: str, actions: int) -> bool:
    """Return whether a stage has no more than this number of actions."""
    stages = required_member(definition, "stages") if definition else []
    declared = {required_member(each, "name"): required_member(each, "actions") for each in stages}
    return actions >= len(declared.get(stage, ()))


def deployed_stack_sets(definition: Any) -> list[str]:
    """Return the names of the StackSets that the definition's actions deploy."""
    found: dict[str, None] = {}
    for stage in required_member(definition, "stages"):
        for action in required_member(stage, "actions"):
            category, provider = _action_type(action)
            name = action.get("configuration", {}).get("StackSetName", "")
            if name and category == "Deploy" and provider in _STACK_SET_PROVIDERS:
                found.setdefault(name)
    return list(found)


def _names_of(entries: Iterable[Any]) -> frozenset[str]:
    return frozenset(str(required_member(each, "name")) for each in entries)


def _action_type(action: Any) -> tuple[str, str]:
    kind = required_member(action, "actionTypeId")
    return str(required_member(kind, "category")), str(required_member(kind, "provider"))
