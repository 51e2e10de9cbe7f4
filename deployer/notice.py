"""The comment that warns of an idle environment's end, and that is changed when it is kept, taken down, brought back.

Pure. GitHub shows a comment as Markdown, and a branch may bear any name: names and commands stand as code, in which
GitHub looks for no mentions, references or markup.
"""

import re
import shlex
from typing import Any

from deployer.age import IDLE, expires_at, ttl_text, used_at, whose_ttl, why
from deployer.environments import Environment
from deployer.ledger import EnvironmentRecord
from deployer.times import date
from deployer.visible import visible

_HEAD = "**The development environment of {branch} {what}**"


def warning(environment: Environment, record: EnvironmentRecord, default: str, page: str) -> str:
    """What is said before an environment's end.

    Args:
        environment: a development environment.
        record: what is known of it; it was warned of.
        default: the installation's time to live.
        page: the environment's address on the dashboard, or empty.
    """
    end = date(expires_at(record, default, record.warned_at) or 0)
    return _comment(
        environment,
        f"will be taken down on {end} if it stays unused",
        "All that its pipeline deployed goes with it, and the data in that. "
        f"It has been idle since {date(used_at(record))}, and may be for {ttl_text(record, default)} "
        f"({whose_ttl(record)}).",
        "A push keeps it, and so does:",
        f"deployer keep {_words(environment)}",
        page,
    )


def later(
    environment: Environment, record: EnvironmentRecord, default: str, page: str
) -> tuple[str, dict[str, Any]] | None:
    """What the comment says instead by now, and what is to be known of it then; None while what it says holds.

    Args:
        environment: a development environment.
        record: what is known of it, with its `notice`.
        default: the installation's time to live.
        page: the environment's address on the dashboard, or empty.
    """
    back = f"deployer redeploy {_words(environment)}"
    if record.state == "deleted":
        if record.notice.get("down"):
            return None
        if record.aged != IDLE:
            return _comment(environment, "was deleted", "A push brings it back.", "", "", page), {}
        reason, _, _ = why(record, record.aged_at).partition(";")
        text = _comment(
            environment,
            f"was taken down on {date(record.aged_at)}",
            f"It was {reason}. What was removed, and what was left, its page and `deployer why` tell.",
            "A push brings it back, and so does:",
            back,
            page,
        )
        return text, {**record.notice, "down": True}
    if used_at(record) <= record.notice["at"]:
        return None
    since = f"since {date(used_at(record))}"
    if record.state == "failed":
        what, told = f"is wanted again {since}", "It could not be deployed: see the commit's statuses."
    elif record.kept_until > used_at(record):
        what, told = f"is kept {since}", f"It stays at least until {date(record.kept_until)}."
    else:
        what = f"is used again {since}"
        told = f"It stays until it has been idle for {ttl_text(record, default)} ({whose_ttl(record)})."
    return _comment(environment, what, told, "", "", page), {}


def code(text: str) -> str:
    """Text as Markdown's code: nothing in it means anything, whatever it holds."""
    text = visible(text)
    fence = "`" * (_longest_run(text) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def _comment(environment: Environment, what: str, told: str, before: str, command: str, page: str) -> str:
    parts = [f"{_HEAD.format(branch=code(environment.name), what=what)}. {told}"]
    if command:
        fence = "`" * max(3, _longest_run(command) + 1)
        parts += [before, f"{fence}sh\n{command}\n{fence}"]
    link = f"[Its page]({page}) and the" if page else "The"
    parts.append(f"<sub>{link} status `deployer/age` of its commit tell how it goes on.</sub>")
    return "\n\n".join([f"<!-- deployer: {environment.stack_name} -->", *parts])


def _words(environment: Environment) -> str:
    return f"{environment.repository} {shlex.quote(visible(environment.name))}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
