"""The lists in which an environment or a repository appears, so that readers need not read all records.

The names of the lists, and how many members each has, are all that the metrics and the counts of the overview need.
"""

from collections.abc import Mapping, Sequence

from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Kind
from deployer.model.execution_trigger import Starter
from deployer.model.repository_record import RepositoryRecord, Seen

# lists of environments
ALL, PRESENT, BUSY, DRIFTED, FOREIGN = "all", "present", "busy", "drifted", "foreign"
# lists of repositories: with orphans, with a tag that was never deployed, with something that people should know
ORPHANED, UNDEPLOYED, NOTABLE = "orphaned", "undeployed", "notable"
# lists of repositories: all, and those whose queue has work
REPOSITORIES, LANES = "repositories", "lanes"
BUSY_STATES = frozenset({"", "pending", "waiting", "provisioning", "updating", "running", "deleting"})
RETRY = "retry"  # in place of a starter: somebody retried a stage of deployer's own execution
_UNKNOWN = "unknown"
_STATE, _KIND_STATE, _EXECUTIONS, _REPOSITORY_STATE, _DEAD = (
    "state",
    "environments",
    "executions",
    "repositories",
    "dead",
)


def in_state(state: str) -> str:
    """The list of the environments in a state."""
    return f"{_STATE} {state or _UNKNOWN}"


def environment_lists(record: EnvironmentRecord) -> list[tuple[str, str]]:
    """The lists of an environment, each with what is added to its name there; empty except for executions.

    An environment is counted once in a list, and in a list of executions once for each execution.
    """
    kind, state = record.environment.partition(":")[0], record.status.state
    foreign = record.status.pipeline.foreign
    named = [ALL, in_state(state), f"{_KIND_STATE} {kind} {state or _UNKNOWN}"]
    named += [PRESENT] if state != "deleted" else []
    named += [BUSY] if state in BUSY_STATES else []
    named += [DRIFTED] if record.status.stack.drift else []
    named += [FOREIGN] if foreign else []
    executions = [
        (f"{_EXECUTIONS} {kind} {RETRY if each.retried else each.trigger.starter}", f"{number} {each.id}")
        for number, each in enumerate(foreign)
    ]
    return [*((name, "") for name in named), *executions]


def repository_lists(record: RepositoryRecord) -> list[str]:
    """The lists of a repository because of its record."""
    notable = record.state or record.reason or record.missed or record.unchecked or record.refused
    return [
        *([f"{_REPOSITORY_STATE} {record.state}"] if record.state else []),
        *([NOTABLE] if notable else []),
    ]


def seen_lists(seen: Seen) -> list[str]:
    """The lists of a repository because of what its last resync has seen."""
    return [*([ORPHANED] if seen.orphans else []), *([UNDEPLOYED] if seen.never_deployed else [])]


def count_environments(sizes: Mapping[str, int]) -> dict[tuple[str, str], int]:
    """How many environments there are by kind and state.

    Args:
        sizes: how many members each list has.
    """
    return {(kind, state): size for kind, state, size in _parse_names(sizes, _KIND_STATE)}


def count_foreign_executions(sizes: Mapping[str, int]) -> dict[tuple[str, str], int]:
    """How many executions deployer did not start, by the kind of their environment and their starter."""
    counts = dict.fromkeys(
        ((str(kind), starter) for kind in Kind for starter in (*map(str, Starter), RETRY)), 0
    )
    for kind, starter, size in _parse_names(sizes, _EXECUTIONS):
        counts[kind, starter] = size
    return counts


def count_dead_letters(sizes: Mapping[str, int]) -> dict[tuple[str, str], int]:
    """How many dead letters there are, by the key of their repository and their kind."""
    return {(repository, kind): size for repository, kind, size in _parse_names(sizes, _DEAD)}


def count_repositories(sizes: Mapping[str, int]) -> dict[str, int]:
    """How many repositories there are by unusual state."""
    prefix = f"{_REPOSITORY_STATE} "
    return {name.removeprefix(prefix): size for name, size in sizes.items() if name.startswith(prefix)}


def _parse_names(sizes: Mapping[str, int], what: str) -> Sequence[tuple[str, str, int]]:
    found = ((name.split(" ", 2), size) for name, size in sizes.items() if name.startswith(f"{what} "))
    return [(words[1], words[2], size) for words, size in found if len(words) == 3]
