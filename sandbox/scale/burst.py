"""Measures how soon many branches that are pushed at once have their pipelines ordered."""

import time
from collections import Counter
from collections.abc import Iterator

from deployer.model.environments import Environment
from deployer.model.refs import Ref
from sandbox.scale.organization import Organization
from sandbox.scale.readings import Readings
from sandbox.waiting import wait_for

_MOST_SECONDS = 60.0  # for the pushes
_PUSHES_A_SECOND = 9.0
# Calls per second of each reading and each changing operation. AWS publishes none; these are deployer's own limits
# (`redis_store.aws.rate_limit`), and the simulated AWS refuses what exceeds them.
RATES = {
    "cloudformation": {"*": 5.0, "CreateStack": 2.0, "UpdateStack": 2.0, "DeleteStack": 2.0},
    "codepipeline": {"*": 10.0, "StartPipelineExecution": 5.0, "StopPipelineExecution": 5.0},
}


class Burst:
    """Pushes new branches to an organization that has been started.

    Args:
        organization: the organization, whose branches are spread over all its repositories.
        branches: how many branches are pushed within a minute.
    """

    def __init__(self, organization: Organization, branches: int) -> None:
        self._organization = organization
        self._branches = branches
        self._readings = Readings(organization)

    def measure(self) -> Iterator[tuple[str, float]]:
        """Push the branches; yield each measurement's label and value."""
        home, repositories = self._organization.home, self._organization.repositories
        home.fault("aws", {"rates": RATES})
        since, began = self._readings.calls("aws")[1], time.time()
        wanted = set()
        pause = min(_MOST_SECONDS / self._branches, 1 / _PUSHES_A_SECOND)
        for number in range(self._branches):
            repository = repositories[number % len(repositories)]
            ref = Ref.of_branch(f"burst/{number}")
            self._organization.push(repository, ref)
            wanted.add(Environment.of_ref(repository, ref, "main").stack_name)
            time.sleep(max(began + pause * (number + 1) - time.time(), 0))
        yield "pushes of new branches", self._branches
        yield "pushes: seconds from the first to the last", time.time() - began
        limit = self._branches / RATES["cloudformation"]["CreateStack"]
        found: dict[str, float] = {}
        answered: Counter[str] = Counter()
        refused = 0

        def all_ordered() -> bool:
            nonlocal since, refused
            calls, since = self._readings.calls("aws", since)
            for each in calls:
                if each["code"] != "OK":
                    refused += each["code"].startswith("Throttling")
                    continue
                answered[each["operation"]] += 1
                if each["operation"] == "CreateStack" and each["name"] in wanted:
                    found.setdefault(each["name"], each["time"])
            return len(found) == len(wanted)

        wait_for("every pipeline is ordered", all_ordered, 60 + 3 * limit)
        took = max(found.values()) - began
        yield "seconds from the first push to the last CreateStack", took
        yield "seconds that the rate of CreateStack allows", limit
        yield "ratio of the two", took / limit
        for operation in ("CreateStack", "DescribeStacks", "StartPipelineExecution"):
            yield f"calls of {operation} until then", answered[operation]
        yield "calls that AWS refused until then", refused
