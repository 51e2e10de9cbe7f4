"""The filters of the page templates."""

import re
from urllib.parse import quote, urlsplit

from flask import Blueprint
from markupsafe import Markup

from deployer.model.durations import clock, span
from deployer.model.environments import Kind, branch_name
from deployer.model.records import (
    RESYNC_KEY,
    Activity,
    Attempt,
    EnvironmentRecord,
    split_key,
)
from deployer.model.refs import Ref
from deployer.model.visible import visible
from deployer.views.record_json import (
    age,
    age_words,
    changed_at,
    environment_id,
    held_words,
    iso,
    lane_problems,
    snoozed_words,
)
from web.context import deployer

blueprint = Blueprint("page_filters", __name__)
blueprint.app_template_filter("snoozed_words")(snoozed_words)
blueprint.app_template_filter("lane_problems")(lane_problems)
blueprint.app_template_filter("environment_id")(lambda row: environment_id(row.repository, row.environment))
blueprint.app_template_filter("clock")(clock)
_DEVELOPMENT = f"{Kind.DEVELOPMENT}:"  # how the key of a branch's environment begins
_TONES = {
    "good": {"deployed", "succeeded", "removed"},
    "bad": {"failed", "dead-lettered"},
    "busy": {"pending", "waiting", "provisioning", "updating", "running", "deleting", "sent"},
    "warn": {"stopped", "partly", "drift", "orphan"},
}


def shown(value: object) -> object:
    """What a template puts out for a value: a text in which characters that cannot be seen are shown."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value, keep="\n\t")
    return value


@blueprint.app_template_filter()
def isolated(text: str) -> Markup:
    """Text of other people in an element of its own, so that the direction of its letters turns nothing around it.

    From left to right, since a path whose first part is Hebrew or Arabic still begins with it.
    """
    return Markup('<bdi dir="ltr">{}</bdi>').format(shown(text))


@blueprint.app_template_filter()
def tone(word: str) -> str:
    """The colour that a state, status or outcome is shown in; its text is always there too."""
    return next((name for name, words in _TONES.items() if word in words), "calm")


@blueprint.app_template_filter()
def ago(seconds: float) -> str:
    """How long ago epoch seconds are, in words."""
    passed = age(seconds)
    return f"{span(passed)} ago" if passed >= 2 else "just now"


@blueprint.app_template_filter()
def since(record: EnvironmentRecord) -> float:
    """Since when its state and outcome are what they are."""
    return changed_at(record)


@blueprint.app_template_filter()
def held(record: EnvironmentRecord) -> str:
    """Why it stays at another commit than its ref's, or nothing."""
    return held_words(record)


@blueprint.app_template_filter()
def ageing(record: EnvironmentRecord) -> str:
    """What is to come of an environment because of its age, or nothing."""
    return age_words(record, deployer().config.ttl)


@blueprint.app_template_filter()
def lasted(attempt: Attempt) -> str:
    """How long an attempt took, in words, or nothing where its beginning is not known."""
    return span(attempt.ended_at - attempt.began_at) if attempt.began_at else ""


@blueprint.app_template_filter()
def stamp(seconds: float) -> str:
    """Epoch seconds as ISO 8601."""
    return iso(seconds) or ""


@blueprint.app_template_filter()
def short_task(task: str) -> str:
    """A task's name without its prefix."""
    return task.removeprefix("deployer.")


@blueprint.app_template_filter()
def ref_name(name: str) -> str:
    """What people call a ref, a queue item's or environment's key, or the work about a whole repository."""
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
    """The address if a browser may be sent there, else nothing."""
    try:
        return url if urlsplit(url).scheme in {"http", "https"} else ""
    except ValueError:  # such as `https://[`
        return ""


@blueprint.app_template_filter()
def page_id(line: Activity) -> str:
    """The id of the environment that a line of history is about, or nothing."""
    return environment_id(line.repository, line.environment) or ""


@blueprint.app_template_filter()
def commit_url(commit: str, repository: str) -> str:
    """Where people look at a commit, or nothing where that cannot be told from the API's address."""
    base = host_url(deployer().config.github_api_url)
    return f"{base}/{quote(repository)}/commit/{quote(commit)}" if base and commit else ""


def source_url(record: EnvironmentRecord) -> str:
    """Where people look at the line of the template that failed, or nothing where that cannot be told."""
    base = host_url(deployer().config.github_api_url)
    file, line = record.failure.get("file"), record.failure.get("line")
    if not (base and file and record.commit):
        return ""
    place = f"{base}/{quote(record.repository)}/blob/{quote(record.commit)}/{quote(str(file))}"
    return f"{place}#L{line}" if line else place


def host_url(api_url: str) -> str:
    """GitHub's address for people, made from that of its API; empty where it cannot be told."""
    if api_url.endswith("/api/v3"):  # GitHub Enterprise Server
        return api_url.removesuffix("/api/v3")
    parts = urlsplit(api_url)
    if parts.netloc.startswith("api."):  # github.com, and <name>.ghe.com
        return f"{parts.scheme}://{parts.netloc.removeprefix('api.')}"
    return ""
