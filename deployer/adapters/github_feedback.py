"""Writes what people see on GitHub: the status of a commit, or a comment."""

import itertools
import unicodedata
from collections.abc import Callable
from urllib.parse import urlsplit

from deployer.adapters import github_answers as answers
from deployer.adapters.github_client import RepositoryClient
from deployer.adapters.github_errors import ApiError, rate_limit_seconds
from deployer.adapters.github_hooks import ApiCall, list_all_pages
from deployer.environments import Repository
from deployer.ports import Status
from deployer.refs import Ref

# https://docs.github.com/rest/commits/statuses
DESCRIPTION_LIMIT = 140
CONTEXT_LIMIT = 255
_URL_LIMIT = 1024
_JOINER = "\u200d"
_MAX_COMMENTS = 500  # of one path, among which ours is looked for: anybody may write thousands
_MAX_PULL_REQUESTS = 10  # of one branch, that are told of its end


def post_status(api: RepositoryClient, sha: str, status: Status) -> None:
    """Set a commit status, cut to GitHub's lengths. One call."""
    body = {
        "state": status.state,
        "context": truncate_text(status.context, CONTEXT_LIMIT) or "deployer",
        "description": truncate_text(" ".join(status.description.split()), DESCRIPTION_LIMIT),
    }
    if urlsplit(status.url).scheme in {"http", "https"} and len(status.url) <= _URL_LIMIT:
        body["target_url"] = status.url
    api.call("POST", f"/statuses/{sha}", answers.CommitStatus, body=body)


def post_comment(
    call: ApiCall, repository: Repository, branch: Ref, sha: str, text: str, login: Callable[[], str]
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
    paths = [f"issues/{number}/comments" for number in _open_pull_requests(call, repository, branch)]
    written, refusal = [], None
    for path in paths or [f"commits/{sha}/comments"]:
        try:
            written.append(_write_or_update_comment(call, root, path, text, login))
        except ApiError as error:  # one that is locked keeps the others from nothing
            if error.status not in {403, 404, 410, 422} or rate_limit_seconds(error) is not None:
                raise
            refusal = error
    if refusal and not written:
        raise refusal
    return written


def _open_pull_requests(call: ApiCall, repository: Repository, branch: Ref) -> list[int]:
    query = {"state": "open", "head": f"{repository.owner}:{branch.short}", "per_page": _MAX_PULL_REQUESTS}
    listed = call("GET", f"/repos/{repository.full_name}/pulls", list[answers.Pull], query=query)[1]
    # a branch of a fork may bear the same name, and GitHub overlooks a head that it cannot read
    return [
        each.number
        for each in listed
        if each.head.ref == branch.short and each.head.repo and each.head.repo.id == each.base.repo.id
    ]


def _write_or_update_comment(call: ApiCall, root: str, path: str, text: str, login: Callable[[], str]) -> str:
    """Change our comment in a path, or write one.

    Writing is not repeated here: the answer alone may be lost, and whoever repeats all finds the comment.
    """
    kind = "issues/comments" if path.startswith("issues/") else "comments"
    first = text.partition("\n")[0]
    existing = itertools.islice(list_all_pages(call, f"{root}/{path}", answers.Comment), _MAX_COMMENTS)
    same_first_line = [each for each in existing if _first_line(each.body) == first]
    # anybody can write that line
    ours = [each for each in same_first_line if each.user and each.user.login == login()]
    if ours:
        call("PATCH", f"{root}/{kind}/{ours[0].id}", answers.Created, body={"body": text})
        return f"{kind}/{ours[0].id}"
    made = call("POST", f"{root}/{path}", answers.Created, body={"body": text}, once_only=True)[1]
    return f"{kind}/{made.id}"


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0].rstrip()  # what people edit on its pages ends in CR LF


def truncate_text(text: str, limit: int) -> str:
    """The text, or its beginning and an ellipsis, at most `limit` characters.

    A character that people see can be several of Python's: an emoji with a joiner, a letter with its accent.
    """
    if len(text) <= limit:
        return text
    end = limit - 1
    while end > 0 and _is_drawn_with_previous(text, end):
        end -= 1
    return f"{text[: end or limit - 1].rstrip()}…"


def _is_drawn_with_previous(text: str, at: int) -> bool:
    """Whether the character at this place is drawn together with the one before it."""
    here = text[at]
    return (
        _JOINER in (here, text[at - 1])
        or unicodedata.category(here).startswith("M")
        or "\U0001f3fb" <= here <= "\U0001f3ff"  # skin tones
    )
