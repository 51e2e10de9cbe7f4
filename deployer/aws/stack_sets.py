"""The StackSets that a pipeline's definition names."""

from typing import Any

from deployer.aws.errors import required_member

_PROVIDERS = ("CloudFormationStackSet", "CloudFormationStackInstances")


def deployed_stack_sets(definition: Any) -> list[str]:
    """Return the names of the StackSets that the definition's actions deploy."""
    found: dict[str, None] = {}
    for stage in required_member(definition, "stages"):
        for action in required_member(stage, "actions"):
            kind = required_member(action, "actionTypeId")
            category, provider = required_member(kind, "category"), required_member(kind, "provider")
            name = action.get("configuration", {}).get("StackSetName", "")
            if name and category == "Deploy" and provider in _PROVIDERS:
                found.setdefault(name)
    return list(found)
