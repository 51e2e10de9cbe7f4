"""Writes what people see on GitHub: the status of a commit, or a comment."""

import itertools
import unicodedata
from collections.abc import Callable
from urllib.parse import urlsplit

from deployer.adapters import github_answers as answers
from deployer.adapters.github_client import RepositoryClient
from deployer.adapters.github_errors import ApiError, rate_limit
from deployer.adapters.github_hooks import Call, pages
from deployer.environments import Repository
from deployer.ports import Status
from deployer.refs import Ref

# https://docs.github.com/rest/commits/statuses
DESCRIPTION_LIMIT = 140
CONTEXT_LIMIT = 255
_URL_LIMIT = 1024
_JOINER = "\u200d"
_MOST_COMMENTS = 500  # of one place, among which ours is looked for: anybody may write thousands
_MOST_PULLS = 10  # of one branch, that are told of its end


def post(api: RepositoryClient, sha: str, status: Status) -> None:
    """Set a commit status, cut to GitHub's lengths. One call."""
    body = {
        "state": status.state,
        "context": cut(status.context, CONTEXT_LIMIT) or "deployer",
        "description": cut(" ".join(status.description.split()), DESCRIPTION_LIMIT),
    }
    if urlsplit(status.url).scheme in {"http", "https"} and len(status.url) <= _URL_LIMIT:
        body["target_url"] = status.url
    api.call("POST", f"/statuses/{sha}", answers.CommitStatus, body=body)


def comment(
    call: Call, repository: Repository, branch: Ref, sha: str, text: str, login: Callable[[], str]
) -> list[str]:
    """Write to a branch's open pull requests, or to a commit where there is none.

    Args:
        call: asks GitHub.
        repository, branch, sha: where.
        text: the comment.
        login: says who has written what deployer writes.

    Returns:
        What each comment is called below the repository.
    """
    root = f"/repos/{repository.full_name}"
    places = [f"issues/{number}/comments" for number in _open_pulls(call, repository, branch)]
    said, refusal = [], None
    for place in places or [f"commits/{sha}/comments"]:
        try:
            said.append(_say(call, root, place, text, login))
        except ApiError as error:  # one that is locked keeps the others from nothing
            if error.status not in {403, 404, 410, 422} or rate_limit(error) is not None:
                raise
            refusal = error
    if refusal and not said:
        raise refusal
    return said


def _open_pulls(call: Call, repository: Repository, branch: Ref) -> list[int]:
    query = {"state": "open", "head": f"{repository.owner}:{branch.short}", "per_page": _MOST_PULLS}
    listed = call("GET", f"/repos/{repository.full_name}/pulls", list[answers.Pull], query=query)[1]
    # a branch of a fork may bear the same name, and GitHub overlooks a head that it cannot read
    return [
        each.number
        for each in listed
        if each.head.ref == branch.short and each.head.repo and each.head.repo.id == each.base.repo.id
    ]


def _say(call: Call, root: str, place: str, text: str, login: Callable[[], str]) -> str:
    """Change our comment in a place, or write one.

    Writing is not repeated here: the answer alone may be lost, and whoever repeats all finds the comment.
    """
    kind = "issues/comments" if place.startswith("issues/") else "comments"
    first = text.partition("\n")[0]
    there = itertools.islice(pages(call, f"{root}/{place}", answers.Comment), _MOST_COMMENTS)
    alike = [each for each in there if _first_line(each.body) == first]
    # anybody can write that line
    ours = [each for each in alike if each.user and each.user.login == login()]
    if ours:
        call("PATCH", f"{root}/{kind}/{ours[0].id}", answers.Created, body={"body": text})
        return f"{kind}/{ours[0].id}"
    made = call("POST", f"{root}/{place}", answers.Created, body={"body": text}, once_only=True)[1]
    return f"{kind}/{made.id}"


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0].rstrip()  # what people edit on its pages ends in CR LF


def cut(text: str, limit: int) -> str:
    """The text, or its beginning and an ellipsis, at most `limit` characters.

    A character that people see can be several of Python's: an emoji with a joiner, a letter with its accent.
    """
    if len(text) <= limit:
        return text
    end = limit - 1
    while end > 0 and _continues(text, end):
        end -= 1
    return f"{text[: end or limit - 1].rstrip()}…"


def _continues(text: str, at: int) -> bool:
    """Whether the character at this place is drawn together with the one before it."""
    here = text[at]
    return (
        _JOINER in (here, text[at - 1])
        or unicodedata.category(here).startswith("M")
        or "\U0001f3fb" <= here <= "\U0001f3ff"  # skin tones
    )
