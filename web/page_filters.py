"""The filters of the page templates."""

import re
from urllib.parse import quote, urlsplit

from flask import Blueprint
from markupsafe import Markup

from deployer.model.activity import Activity
from deployer.model.durations import clock, span
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Kind, branch_name
from deployer.model.refs import Ref
from deployer.model.visible import visible
from deployer.queue.items import RESYNC_KEY, Attempt, split_key
from deployer.views.derived_values import changed_at, environment_id, seconds_since
from deployer.views.record_json import iso_time
from deployer.views.sentences import held_words, lane_problems, lifetime_words, waiting_words
from web.context import deployer

blueprint = Blueprint("page_filters", __name__)
blueprint.app_template_filter("waiting_words")(waiting_words)
blueprint.app_template_filter("lane_problems")(lane_problems)
blueprint.app_template_filter("environment_id")(lambda row: environment_id(row.repository, row.environment))
blueprint.app_template_filter("clock")(clock)
_DEVELOPMENT = f"{Kind.DEVELOPMENT}:"  # the prefix of the keys of development environments
_TONES = {
    "good": {"deployed", "succeeded", "removed"},
    "bad": {"failed", "dead-lettered"},
    "busy": {"pending", "waiting", "provisioning", "updating", "running", "deleting", "sent"},
    "warn": {"stopped", "partly", "drift", "foreign execution", "orphan"},
}


def escape_invisible(value: object) -> object:
    """Return a value as a template prints it: in a text, invisible characters become escapes."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value, keep="\n\t")
    return value


@blueprint.app_template_filter()
def isolated(text: str) -> Markup:
    """Wrap a text from outside in an element, so that right-to-left letters in it do not reorder the text around it.

    The element itself is left-to-right, because a path begins with its first part even if that is Hebrew or Arabic.
    """
    return Markup('<bdi dir="ltr">{}</bdi>').format(escape_invisible(text))


@blueprint.app_template_filter()
def color_class(word: str) -> str:
    """Return the CSS class for the colour of a state, status or outcome. The word itself is always shown too."""
    return next((name for name, words in _TONES.items() if word in words), "calm")


@blueprint.app_template_filter()
def ago(seconds: float) -> str:
    """Return how long ago a time (epoch seconds) was."""
    elapsed = seconds_since(seconds)
    return f"{span(elapsed)} ago" if elapsed >= 2 else "just now"


@blueprint.app_template_filter()
def changed_since(record: EnvironmentRecord) -> float:
    """Return the time of the last change of state or outcome, in epoch seconds."""
    return changed_at(record)


@blueprint.app_template_filter()
def pin_text(record: EnvironmentRecord) -> str:
    """Return why an environment stays at another commit than its ref's, or an empty text."""
    return held_words(record)


@blueprint.app_template_filter()
def expiry_words(record: EnvironmentRecord) -> str:
    """Return when an environment expires or sleeps, or an empty text."""
    return lifetime_words(record, deployer().config.ttl)


@blueprint.app_template_filter()
def attempt_duration(attempt: Attempt) -> str:
    """Return the duration of an attempt, or an empty text if its start is not known."""
    return span(attempt.ended_at - attempt.began_at) if attempt.began_at else ""


@blueprint.app_template_filter()
def iso_stamp(seconds: float) -> str:
    """Return epoch seconds as ISO 8601."""
    return iso_time(seconds) or ""


@blueprint.app_template_filter()
def short_task(task: str) -> str:
    """Return the name of a task without its prefix."""
    return task.removeprefix("deployer.")


@blueprint.app_template_filter()
def ref_name(name: str) -> str:
    """Return a short name for a ref, for the key of an environment or queue item, or for a resync."""
    if name == RESYNC_KEY:
        return "whole repository"
    environment, ref = split_key(name)
    if ref:
        return f"{environment} {ref_name(ref)}"
    if name.startswith(_DEVELOPMENT):
        return branch_name(Ref(name.removeprefix(_DEVELOPMENT)))
    return re.sub(r"^refs/(?:heads|tags)/", "", name)


@blueprint.app_template_filter()
def safe_url(url: str) -> str:
    """Return the URL if it is safe for a link, else an empty text."""
    try:
        return url if urlsplit(url).scheme in {"http", "https"} else ""
    except ValueError:  # such as `https://[`
        return ""


@blueprint.app_template_filter()
def environment_id_of_line(line: Activity) -> str:
    """Return the id of the environment of a line of history, or an empty text."""
    return environment_id(line.repository, line.environment) or ""


@blueprint.app_template_filter()
def commit_url(commit: str, repository: str) -> str:
    """Return the URL of a commit on GitHub, or an empty text if the API's URL does not tell the host."""
    base = host_url(deployer().config.github_api_url)
    return f"{base}/{quote(repository)}/commit/{quote(commit)}" if base and commit else ""


def source_url(record: EnvironmentRecord) -> str:
    """Return the URL of the failed line of the template on GitHub, or an empty text if it is not known."""
    base = host_url(deployer().config.github_api_url)
    file, line = record.status.stack.failure.file, record.status.stack.failure.line
    if not (base and file and record.spec.commit):
        return ""
    url = f"{base}/{quote(record.repository)}/blob/{quote(record.spec.commit)}/{quote(str(file))}"
    return f"{url}#L{line}" if line else url


def host_url(api_url: str) -> str:
    """Return the URL of GitHub's website, derived from that of its API; empty if it is not known."""
    if api_url.endswith("/api/v3"):  # GitHub Enterprise Server
        return api_url.removesuffix("/api/v3")
    parts = urlsplit(api_url)
    if parts.netloc.startswith("api."):  # github.com, and <name>.ghe.com
        return f"{parts.scheme}://{parts.netloc.removeprefix('api.')}"
    return ""
