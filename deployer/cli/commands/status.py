"""`deployer status`: every environment in a line, once or until people have seen enough."""

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from deployer.cli import output
from deployer.cli.environment_names import environment_label, find_queued_only
from deployer.cli.installation import load_deployer
from deployer.cli.parameters import RepositoryType, json_option
from deployer.cli.table_width import Shrink
from deployer.model.environments import Repository
from deployer.model.errors import UnavailableError
from deployer.model.records import EnvironmentRecord
from deployer.queue.dead_letters import warnings_of
from deployer.resync.plan import never_deployed_words
from deployer.views import record_json as shapes

if TYPE_CHECKING:
    from deployer.wiring import Deployer

_REASONS_SHOWN = 5
_WATCH_SECONDS = 2.0
_MARGIN = 4  # lines of a watched screen that are neither rows of the table nor notes
# `why` and --json tell all of what gives way here
_FITTING = {
    "Repository": Shrink(10, middle=True),
    "Environment": Shrink(14, middle=True),
    "State": Shrink(10),
    "Stages": Shrink(12),
    "Outcome": Shrink(leave_out=1),  # most often it says the same as the state
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
    type=click.Choice([*shapes.MOVING_STATES, *shapes.RESTING_STATES]),
    help="Show only environments in this state; may be repeated.",
)
@click.option("--watch", is_flag=True, help="Show it again whenever something changes, until Ctrl-C.")
@json_option
def status(
    repository: Repository | None, *, all_: bool, states: Sequence[str], watch: bool, json_: bool
) -> None:
    """Show every environment and how it is.

    At a terminal long names are cut to its width; in a pipe nothing is cut.
    """
    if watch and json_:
        raise click.UsageError("--watch is for people; with --json ask again as often as needed")
    if watch and not sys.stdout.isatty():
        raise click.UsageError("--watch needs a terminal; in a pipe ask again as often as needed")
    deployer = load_deployer()
    if watch:
        _watch(deployer, repository, states, all_=all_)
        return
    found = _Found.look(deployer, repository, states, all_=all_)
    if json_:
        config = deployer.config
        output.as_json(
            [shapes.environment(record, config.public_url, config.ttl) for record in found.records]
        )
        found.tell_notes()
    else:
        found.show()


@dataclass(frozen=True, slots=True)
class _Found:
    """What `status` shows, read whole before anything is printed.

    Attributes:
        repository: the only one that was asked for, if any.
        states: those that were asked for.
        records: the environments, by name.
        orphaned: keys of those without a ref, by repository.
        notes: what people should know besides, a line each.
        ttl: the installation's time to live.
    """

    repository: Repository | None
    states: Sequence[str]
    records: Sequence[EnvironmentRecord]
    orphaned: Mapping[str, Mapping[str, float]]
    notes: Sequence[str]
    ttl: str

    @classmethod
    def look(
        cls, deployer: "Deployer", repository: Repository | None, states: Sequence[str], *, all_: bool
    ) -> "_Found":
        """Read it.

        Raises:
            UnavailableError: Redis is away.
        """
        lanes = deployer.lanes
        if repository:
            repository = deployer.intake.known(repository)
        records = lanes.environments(repository)
        records += find_queued_only(lanes.lanes(repository), records)
        shown = [
            record
            for record in records
            if (record.state in states if states else all_ or record.state != "deleted")
        ]
        return cls(
            repository,
            states,
            sorted(shown, key=lambda record: (record.repository.lower(), record.environment)),
            lanes.orphaned([repository] if repository else lanes.repositories()),
            _notes(deployer, repository, records),
            deployer.config.ttl,
        )

    def show(self, most: int | None = None) -> None:
        """Print it, and no more rows than told."""
        shown = self.records[:most]
        rows = [self._row(record) for record in shown]
        headings = ["Repository", "Environment", "State", "Commit", "Stages", "Outcome", "When"]
        ages = [shapes.age_words(record, self.ttl) for record in shown]
        if any(ages):  # most installations let nothing age
            headings, rows = [*headings, "Age"], [[*row, age] for row, age in zip(rows, ages, strict=True)]
        if self.repository:  # it is known already, and room is scarce
            headings, rows = headings[1:], [row[1:] for row in rows]
        whose = f" of {self.repository}" if self.repository else ""
        in_state = f" in state {' or '.join(self.states)}" if self.states else ""
        output.table(headings, rows, empty=f"no environments{whose}{in_state}", fitting=_FITTING)
        if len(self.records) > len(shown):
            output.note(f"and {len(self.records) - len(shown)} more; --state or a repository shows fewer")
        self.tell_notes()

    def tell_notes(self) -> None:
        """Print what people should know besides."""
        for each in self.notes:
            output.note(each)

    def _row(self, record: EnvironmentRecord) -> list[str]:
        orphan = record.environment in self.orphaned.get(record.repository.lower(), ())
        found = (("drift", record.drift), ("held", shapes.held_words(record)), ("orphan", orphan))
        marks = [mark for mark, there in found if there]
        return [
            record.repository,
            environment_label(Repository.parse(record.repository), record.environment),
            f"{record.state} ({', '.join(marks)})" if marks else record.state,
            record.commit[:8],
            output.compact(record.stages),
            record.outcome,
            output.ago(shapes.changed_at(record)),
        ]


def _notes(
    deployer: "Deployer", repository: Repository | None, records: Sequence[EnvironmentRecord]
) -> list[str]:
    whole = [
        known
        for known in deployer.lanes.repository_records()
        if not repository or known.repository.lower() == repository.key
    ]
    reasons = [known.reason for known in whole if known.reason and not known.over]
    if len(reasons) > _REASONS_SHOWN:
        reasons = [*shapes.repository_warnings(whole), "see: deployer repositories list"]
    return [
        *warnings_of(deployer.lanes.dead_letters(repository)),
        *reasons,
        *_tags(deployer, repository, records),
    ]


def _tags(
    deployer: "Deployer", repository: Repository | None, records: Sequence[EnvironmentRecord]
) -> list[str]:
    """Tags that were never deployed, which only a person decides about."""
    listed = [repository] if repository else deployer.lanes.repositories()
    found = shapes.never_deployed(deployer.lanes, listed, records)
    if len(found) > _REASONS_SHOWN:
        return [
            f"{len(found)} repositories have a newest tag that was never deployed; see: deployer repositories list"
        ]
    return [never_deployed_words(each, found[each.key]) for each in listed if each.key in found]


def _watch(deployer: "Deployer", repository: Repository | None, states: Sequence[str], *, all_: bool) -> None:
    """Show it anew, with as many rows as the terminal has, until people interrupt; Redis may go away meanwhile."""
    try:
        while True:
            try:
                found, away = _Found.look(deployer, repository, states, all_=all_), ""
            except UnavailableError as error:
                found, away = None, f"{error}; trying again"
            click.echo("\x1b[H\x1b[J", nl=False)
            click.echo(f"{time.strftime('%H:%M:%S')}, every {_WATCH_SECONDS:g} s until Ctrl-C")
            if found:
                found.show(max(1, shutil.get_terminal_size().lines - _MARGIN - len(found.notes)))
            else:
                output.note(away)
            time.sleep(_WATCH_SECONDS)
    except KeyboardInterrupt:  # the usual end of it
        click.echo()
