"""`deployer status`: print one line per environment."""

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from deployer.cli import output
from deployer.cli.environment_names import QUEUED, environment_label, find_queued_only
from deployer.cli.installation import load_deployer
from deployer.cli.parameters import RepositoryType, json_option
from deployer.cli.table_width import Shrink
from deployer.model import listings
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Repository
from deployer.model.errors import UnavailableError
from deployer.queue.dead_letters import dead_letter_warnings
from deployer.resync.missed_deliveries import APP
from deployer.resync.missed_tags import undeployed_tag_sentence
from deployer.views import derived_values, record_json, sentences

if TYPE_CHECKING:
    from deployer.queue.store import QueueStore
    from deployer.wiring import Deployer

_REASONS_SHOWN = 5
_PAGE_ROWS = 500
_WATCH_SECONDS = 2.0
_MARGIN = 4  # lines of a watched screen that are neither rows of the table nor notes
# `why` and --json print everything that is cut here
_SHRINKING = {
    "Repository": Shrink(10, middle=True),
    "Environment": Shrink(14, middle=True),
    "State": Shrink(10),
    "Stages": Shrink(12),
    "Outcome": Shrink(leave_out=1),  # it mostly repeats the state
    "Age": Shrink(10, leave_out=2),
    "Commit": Shrink(leave_out=3),
}


@click.command()
@click.argument("repository", metavar="[REPO]", type=RepositoryType(), required=False)
@click.option("--all", "all_", is_flag=True, help="Show deleted environments too.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([*derived_values.MOVING_STATES, *derived_values.RESTING_STATES]),
    help="Show only environments in this state; may be repeated.",
)
@click.option("--watch", is_flag=True, help="Show it again every 2 seconds, until Ctrl-C.")
@json_option
def status(
    repository: Repository | None, *, all_: bool, states: Sequence[str], watch: bool, json_: bool
) -> None:
    """Show every environment with its state.

    At a terminal, long names are cut to its width; in a pipe, nothing is cut.
    """
    if watch and json_:
        raise click.UsageError("--watch prints no JSON; run status --json again instead")
    if watch and not sys.stdout.isatty():
        raise click.UsageError("--watch needs a terminal; in a pipe run status again instead")
    deployer = load_deployer()
    if watch:
        _watch_status(deployer, repository, states, all_=all_)
        return
    found = _Snapshot.read_snapshot(deployer, repository, states, all_=all_)
    if json_:
        config = deployer.config
        output.print_json(
            [record_json.environment(record, config.public_url, config.ttl) for record in found.records]
        )
        found.print_notes()
    else:
        found.print_table()


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Everything that `status` prints, read completely before anything is printed.

    Attributes:
        repository: the repository that was asked for; None for all.
        states: the states that were asked for.
        records: the environments, sorted by name; only the first ones if not all were asked for.
        count: how many there are.
        orphaned: the keys of environments whose branch is gone, by repository.
        notes: further remarks, one line each.
        ttl: the installation's time to live.
    """

    repository: Repository | None
    states: Sequence[str]
    records: Sequence[EnvironmentRecord]
    count: int
    orphaned: Mapping[str, Mapping[str, float]]
    notes: Sequence[str]
    ttl: str

    @classmethod
    def read_snapshot(
        cls,
        deployer: "Deployer",
        repository: Repository | None,
        states: Sequence[str],
        *,
        all_: bool,
        most: int | None = None,
    ) -> "_Snapshot":
        """Read everything from Redis.

        Args:
            deployer: has the records.
            repository: only of this repository.
            states: only in these states; empty for every state.
            all_: whether to include deleted environments.
            most: how many environments at most; None for all.

        Raises:
            UnavailableError: Redis does not answer.
        """
        lanes = deployer.lanes
        if repository:
            repository = deployer.submitter.as_github_spells(repository)
        records, count = _read_records(lanes, repository, states, all_=all_, most=most)
        with_orphans = {each.key for each in lanes.repositories_of_list(listings.ORPHANED)}
        shown = {each.repository.lower() for each in records} & with_orphans
        return cls(
            repository,
            states,
            records,
            count,
            lanes.orphaned([Repository.parse(each) for each in shown]),
            _collect_notes(deployer, repository),
            deployer.config.ttl,
        )

    def print_table(self, most: int | None = None) -> None:
        """Print the table with at most `most` rows, then the notes."""
        shown = self.records[:most]
        rows = [self._table_row(record) for record in shown]
        headings = ["Repository", "Environment", "State", "Commit", "Stages", "Outcome", "When"]
        ages = [sentences.lifetime_words(record, self.ttl) for record in shown]
        if any(ages):  # in most installations no environment expires
            headings, rows = [*headings, "Age"], [[*row, age] for row, age in zip(rows, ages, strict=True)]
        if self.repository:  # people named it, and space is scarce
            headings, rows = headings[1:], [row[1:] for row in rows]
        whose = f" of {self.repository}" if self.repository else ""
        in_state = f" in state {' or '.join(self.states)}" if self.states else ""
        output.print_table(headings, rows, empty=f"no environments{whose}{in_state}", shrinking=_SHRINKING)
        if self.count > len(shown):
            output.print_note(f"and {self.count - len(shown)} more; --state or a repository shows fewer")
        self.print_notes()

    def print_notes(self) -> None:
        """Print the further remarks."""
        for each in self.notes:
            output.print_note(each)

    def _table_row(self, record: EnvironmentRecord) -> list[str]:
        orphan = record.environment in self.orphaned.get(record.repository.lower(), ())
        found = (
            ("drift", record.status.stack.drift),
            ("foreign execution", record.status.pipeline.foreign),
            ("held", sentences.held_words(record)),
            ("orphan", orphan),
        )
        marks = [mark for mark, there in found if there]
        return [
            record.repository,
            environment_label(Repository.parse(record.repository), record.environment),
            f"{record.status.state} ({', '.join(marks)})" if marks else record.status.state,
            record.spec.commit[:8],
            output.summarize_stages(record.status.pipeline.stages),
            record.status.outcome,
            output.format_age(derived_values.changed_at(record)),
        ]


def _read_records(
    lanes: "QueueStore", repository: Repository | None, states: Sequence[str], *, all_: bool, most: int | None
) -> tuple[list[EnvironmentRecord], int]:
    """Return the records to show, sorted by name, and how many there are if `most` is less than that."""
    names = [listings.in_state(state) for state in states]
    names = names or [listings.ALL if all_ else listings.PRESENT]
    queued = find_queued_only(lanes, repository) if not states or QUEUED in states else []
    records, after, more = list[EnvironmentRecord](), "", True
    while more and (most is None or len(records) < most):
        page = lanes.environment_page(names, repository, after=after, limit=most or _PAGE_ROWS)
        records += page.rows
        after, more = page.last, bool(page.last)
    count = (lanes.count_members(names, repository) if more else len(records)) + len(queued)
    records = sorted([*records, *queued], key=lambda record: (record.repository.lower(), record.environment))
    return records[:most], count


def _collect_notes(deployer: "Deployer", repository: Repository | None) -> list[str]:
    lanes = deployer.lanes
    chosen = [repository] if repository else lanes.repositories_of_list(listings.NOTABLE)
    whole = [each for each in lanes.repository_records(chosen) if each.repository != APP.full_name]
    reasons = [known.reason for known in whole if known.reason and not known.over]
    if len(reasons) > _REASONS_SHOWN:
        reasons = [*sentences.repository_warnings(whole), "see: deployer repositories list"]
    return [
        *dead_letter_warnings(lanes.dead_letter_totals(repository)),
        *reasons,
        *_never_deployed_notes(deployer, repository),
    ]


def _never_deployed_notes(deployer: "Deployer", repository: Repository | None) -> list[str]:
    """Return remarks about tags that were never deployed, because only a person can deploy them."""
    listed = [repository] if repository else deployer.lanes.repositories_of_list(listings.UNDEPLOYED)
    found = derived_values.never_deployed(deployer.lanes, listed)
    if len(found) > _REASONS_SHOWN:
        return [
            f"{len(found)} repositories have a newest tag that was never deployed; see: deployer repositories list"
        ]
    return [undeployed_tag_sentence(each, found[each.key]) for each in listed if each.key in found]


def _watch_status(
    deployer: "Deployer", repository: Repository | None, states: Sequence[str], *, all_: bool
) -> None:
    """Print the status again and again until Ctrl-C, with as many rows as the terminal has."""
    try:
        while True:
            try:
                lines = shutil.get_terminal_size().lines
                found, problem = (
                    _Snapshot.read_snapshot(deployer, repository, states, all_=all_, most=lines),
                    "",
                )
            except UnavailableError as error:
                found, problem = None, f"{error}; trying again"
            click.echo("\x1b[H\x1b[J", nl=False)
            click.echo(f"{time.strftime('%H:%M:%S')}, every {_WATCH_SECONDS:g} s until Ctrl-C")
            if found:
                found.print_table(max(1, shutil.get_terminal_size().lines - _MARGIN - len(found.notes)))
            else:
                output.print_note(problem)
            time.sleep(_WATCH_SECONDS)
    except KeyboardInterrupt:  # the normal end
        click.echo()
