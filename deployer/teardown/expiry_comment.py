"""The comment that warns of an idle environment's end, with the later changes of its text.

GitHub shows a comment as Markdown, and a branch may have any name. Therefore names and commands are formatted as code,
in which GitHub interprets no mentions, references or markup.
"""

import logging
import shlex
from collections.abc import Callable

from deployer.environment.code_host import CodeHost
from deployer.environment.statuses import AGE
from deployer.model.display import COMMENT, DisplayChange
from deployer.model.durations import date
from deployer.model.environment_record import EnvironmentRecord, ExpiryNotice
from deployer.model.environments import Environment
from deployer.model.errors import PermanentError
from deployer.model.expiry import IDLE, expires_at, expiry_reason, ttl_source, ttl_text, used_at
from deployer.model.markdown import as_code, code_block
from deployer.model.visible import visible
from deployer.outbox.plan import is_shown, wanted_by_place
from deployer.outbox.store import Outbox

_log = logging.getLogger(__name__)
_NO_COMMIT = "none"  # stands for the commit of a record that has none
_HEAD = "**The development environment of {branch} {what}**"


class ExpiryComments:
    """Writes the comment that warns of an environment's end, and changes it afterwards.

    Args:
        host: GitHub.
        outbox: says what GitHub shows.
        url: returns the address of an environment's page; empty if there is no page.
        ttl: the installation's time to live.
    """

    def __init__(self, host: CodeHost, outbox: Outbox, url: Callable[[Environment], str], ttl: str) -> None:
        self._host = host
        self._outbox = outbox
        self._url = url
        self._ttl = ttl

    def warn_of_end(self, environment: Environment, record: EnvironmentRecord) -> EnvironmentRecord:
        """Comment on the branch's pull requests, or on its commit, when the environment ends.

        If GitHub refuses the comment, only the commit's status warns of the end.

        Raises:
            TransientError: GitHub is unavailable.
        """
        if environment.branch is None or not record.spec.commit:
            return record
        text = warning_text(environment, record, self._ttl, self._url(environment))
        try:
            ids = self._host.comment(environment.repository, environment.branch, record.spec.commit, text)
        except PermanentError as error:
            _log.warning("only its commit's status warns of the end of %s: %s", environment, error)
            return record.but(notice=ExpiryNotice())
        return record.but(notice=ExpiryNotice(ids, record.history.warned_at))

    def warning_shown_at(self, environment: Environment, record: EnvironmentRecord) -> float | None:
        """When GitHub began to show the warning of the environment's end (epoch seconds).

        Returns:
            None if GitHub shows nothing that warns; then nobody knows of the end.
        """
        if record.history.notice:
            return record.history.warned_at
        display = self._outbox.commit_display(environment.repository, record.spec.commit)
        wanted = wanted_by_place(display).get(AGE)
        if wanted is None:  # it was warned of so long ago that the display has expired
            return record.history.warned_at
        return display.shown[AGE].at if is_shown(display, AGE, wanted) else None

    def correct_warning(self, environment: Environment, record: EnvironmentRecord) -> EnvironmentRecord:
        """Change the comments that warned of the end to what happened since; see `EnvironmentRecord.display`."""
        if not record.history.notice:
            return record
        corrected = corrected_text(environment, record, self._ttl, self._url(environment))
        if corrected is None:
            return record
        text, left = corrected
        sha = record.spec.commit or _NO_COMMIT
        changes = [
            DisplayChange(sha, f"{COMMENT}{each}", "success", text) for each in record.history.notice.comments
        ]
        return record.but(notice=left, display=(*record.display, *changes))


def warning_text(environment: Environment, record: EnvironmentRecord, default: str, page: str) -> str:
    """The text of the comment before an environment's end.

    Args:
        environment: a development environment.
        record: its record, with the time of the warning.
        default: the installation's time to live.
        page: the environment's address on the dashboard, or empty.
    """
    end = date(expires_at(record, default, record.history.warned_at) or 0)
    return _comment(
        environment,
        f"will be taken down on {end} if it stays unused",
        "All that its pipeline deployed goes with it, and the data in that. "
        f"It has been idle since {date(used_at(record))}, and may be for {ttl_text(record, default)} "
        f"({ttl_source(record)}).",
        "A push keeps it, and so does:",
        f"deployer keep {_arguments(environment)}",
        page,
    )


def corrected_text(
    environment: Environment, record: EnvironmentRecord, default: str, page: str
) -> tuple[str, ExpiryNotice] | None:
    """The new text of the comment and the new `notice` of the record; None while the present text is true.

    Args:
        environment: a development environment.
        record: its record, with its `notice`.
        default: the installation's time to live.
        page: the environment's address on the dashboard, or empty.
    """
    back = f"deployer redeploy {_arguments(environment)}"
    if record.status.state == "deleted":
        if record.history.notice.down:
            return None
        if record.spec.expiry.aged != IDLE:
            return _comment(
                environment, "was deleted", "A push brings it back.", "", "", page
            ), ExpiryNotice()
        reason, _, _ = expiry_reason(record, record.spec.expiry.aged_at).partition(";")
        text = _comment(
            environment,
            f"was taken down on {date(record.spec.expiry.aged_at)}",
            f"It was {reason}. What was removed, and what was left, its page and `deployer why` tell.",
            "A push brings it back, and so does:",
            back,
            page,
        )
        return text, record.history.notice.but(down=True)
    if used_at(record) <= record.history.notice.at:
        return None
    since = f"since {date(used_at(record))}"
    if record.status.state == "failed":
        what, told = f"is wanted again {since}", "It could not be deployed: see the commit's statuses."
    elif record.spec.expiry.kept_until > used_at(record):
        what, told = f"is kept {since}", f"It stays at least until {date(record.spec.expiry.kept_until)}."
    else:
        what = f"is used again {since}"
        told = f"It stays until it has been idle for {ttl_text(record, default)} ({ttl_source(record)})."
    return _comment(environment, what, told, "", "", page), ExpiryNotice()


def _comment(environment: Environment, what: str, told: str, before: str, command: str, page: str) -> str:
    parts = [f"{_HEAD.format(branch=as_code(environment.name), what=what)}. {told}"]
    if command:
        parts += [before, code_block(command)]
    link = f"[Its page]({page}) and the" if page else "The"
    parts.append(f"<sub>{link} status `deployer/age` of its commit tell how it goes on.</sub>")
    return "\n\n".join([f"<!-- deployer: {environment.stack_name} -->", *parts])


def _arguments(environment: Environment) -> str:
    return f"{environment.repository} {shlex.quote(visible(environment.name))}"
