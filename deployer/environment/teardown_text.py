"""The text of the status of a teardown."""

from deployer.model.environments import Environment, Kind
from deployer.model.teardown_report import TeardownReport


def teardown_text(environment: Environment, report: TeardownReport) -> str:
    """What a teardown removed and left, in one line."""
    removed, retained = report.removed, report.retained
    stacks = [each for each in removed if each.is_stack]
    resources = sum(each.resources or 0 for each in stacks)
    text = f"removed {_counted(len(stacks), 'stack')} with {_counted(resources, 'resource')}"
    logs = sum(each.what.startswith("log group ") for each in removed)
    stores = len(removed) - len(stacks) - logs + report.unlisted.removed
    if stores and environment.kind is Kind.DEVELOPMENT:
        has_images = any(each.what.startswith("image repository ") for each in removed)
        text += f" and emptied {_counted(stores, 'bucket or repository' if has_images else 'bucket')}"
    if logs:
        text += f" and deleted {_counted(logs, 'log group')}"
    if retained:
        more = f" and {report.unlisted.retained} more" if report.unlisted.retained else ""
        text += f"; left {', '.join(each.what for each in retained)}{more}: {retained[0].why}"
    return text


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
