"""The comment on the pull requests of a branch: the state of its development environment, or what a teardown removed.

The text follows from the record alone, so the same state is the same text. Names and reasons are other people's, so
they are shown as code.
"""

import shlex
from collections.abc import Callable, Iterator, Sequence

from deployer.environment.deployed_stacks import shown_url
from deployer.model.display import ENDED, PRESENT, PULL_REQUESTS, DisplayChange
from deployer.model.durations import date
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environment_status import StageState
from deployer.model.environments import Environment, Kind
from deployer.model.expiry import ASLEEP, asleep_until, expires_at
from deployer.model.markdown import as_code, code_block
from deployer.model.teardown_report import TeardownReport
from deployer.model.visible import visible

_LISTED = 20  # removed or retained things; GitHub takes 65,536 characters
_LONGEST_REASON = 500
_WORDS = {"not-reached": "not reached"}
_SHOWN_STATES = {"deployed", "failed", "deleted", ASLEEP}


class PullRequestComments:
    """Adds to a record what the pull requests of its branch should show; see `EnvironmentRecord.display`.

    Args:
        url: returns the address of an environment's page; empty if there is no page.
        ttl: how long a development environment may be idle, unless its repository says so itself.
    """

    def __init__(self, url: Callable[[Environment], str], ttl: str) -> None:
        self._url = url
        self._ttl = ttl

    def show_on_pulls(
        self, environment: Environment, record: EnvironmentRecord, now: float, occasion: str = ""
    ) -> EnvironmentRecord:
        """Show the result of an environment; progress is not shown, nor what never existed.

        Args:
            environment: the environment; only those of development have pull requests.
            record: its record.
            now: epoch seconds.
            occasion: see `DisplayChange`.
        """
        branch = environment.branch
        if branch is None or environment.kind is not Kind.DEVELOPMENT:
            return record
        if record.status.state not in _SHOWN_STATES or not (record.status.outcome or record.status.receipt):
            return record
        ended = record.status.state == "deleted"
        text = receipt_text(environment, record) if ended else self._present_text(environment, record, now)
        change = DisplayChange(branch.name, PULL_REQUESTS, ENDED if ended else PRESENT, text, "", occasion)
        return record.but(display=(*record.display, change))

    def _present_text(self, environment: Environment, record: EnvironmentRecord, now: float) -> str:
        return present_text(environment, record, self._ttl, self._url(environment), now)


def present_text(
    environment: Environment, record: EnvironmentRecord, default: str, page: str, now: float
) -> str:
    """The comment on an environment that exists, failed or sleeps.

    Args:
        environment: a development environment.
        record: its record.
        default: the installation's time to live.
        page: the environment's address on the dashboard, or empty.
        now: epoch seconds.
    """
    state = record.status.state
    head = f"**The development environment of {as_code(environment.name)} {_state_words(state)}.**"
    facts = "\n".join(f"- **{name}:** {text}" for name, text in _facts(record, default, now) if text)
    name = f"{environment.repository} {shlex.quote(visible(environment.name))}"
    commands = "\n".join(f"deployer {each} {name}" for each in ("why", "redeploy", "keep", "delete"))
    hint = f"<details><summary>Commands</summary>\n\n{code_block(commands)}\n\n</details>"
    link = f"<sub>[The environment's page]({page})</sub>" if shown_url(page) else ""
    return "\n\n".join(filter(None, (head, facts, hint, link)))


def _state_words(state: str) -> str:
    return {"failed": "could not be deployed", ASLEEP: "is asleep"}.get(state, "is deployed")


def _facts(record: EnvironmentRecord, default: str, now: float) -> Iterator[tuple[str, str]]:
    status, failed = record.status, record.status.state == "failed"
    if url := shown_url(status.environment_url):
        yield ("URL", f"<{url}> (of an earlier deployment)" if failed else f"<{url}>")
    if failed:
        yield "Reason", as_code(status.reason[:_LONGEST_REASON])
    yield "Commit", record.spec.commit
    yield "Stages", _stages_text(status.pipeline.stages)
    if until := asleep_until(record, now):
        yield "Asleep until", date(until)
    elif ends := expires_at(record, default, now):
        yield "Expires", f"{date(ends)}, unless it is used before"


def _stages_text(stages: Sequence[StageState]) -> str:
    return ", ".join(f"{as_code(each.name)} {_WORDS.get(each.status, each.status)}" for each in stages)


def receipt_text(environment: Environment, record: EnvironmentRecord) -> str:
    """The comment on an environment that was deleted: the report of its teardown."""
    report = record.status.receipt
    when = f" on {date(report.ended_at)}" if report.ended_at else ""
    head = f"**The development environment of {as_code(environment.name)} was deleted{when}.**"
    removed = [
        as_code(each.what) + (f" with {each.resources} resources" if each.resources else "")
        for each in report.removed
    ]
    retained = [f"{as_code(each.what)}: {as_code(each.why)}" for each in report.retained]
    parts = [
        head,
        _listed("Removed", removed, report.unlisted.removed),
        _listed("Left", retained, report.unlisted.retained) or _nothing_left(report),
        "A push to the branch creates it again.",
    ]
    return "\n\n".join(filter(None, parts))


def _nothing_left(report: TeardownReport) -> str:
    return "Nothing was left." if report else ""


def _listed(title: str, entries: Sequence[str], unlisted: int) -> str:
    if not entries:
        return ""
    more = len(entries) - len(entries[:_LISTED]) + unlisted
    lines = [*entries[:_LISTED], *([f"and {more} more"] if more else [])]
    return "\n".join([f"{title}:", "", *(f"- {each}" for each in lines)])
