"""Posts deployer's feedback on GitHub: commit statuses or comments."""

import itertools
import unicodedata
from collections.abc import Callable
from urllib.parse import urlsplit

from deployer.environment.code_host import PullRequestHead, Status
from deployer.github import answers
from deployer.github.client import RepositoryClient
from deployer.github.errors import ApiError, rate_limit_seconds
from deployer.github.hooks import ApiCall, list_all_pages
from deployer.github.pull_comments import list_pulls
from deployer.model.environments import Repository
from deployer.model.refs import Ref

# https://docs.github.com/rest/commits/statuses
DESCRIPTION_LIMIT = 140
CONTEXT_LIMIT = 255
_URL_LIMIT = 1024
_JOINER = "\u200d"  # zero-width joiner, which makes one emoji of several
_MAX_COMMENTS = 500  # read per pull request or commit to find deployer's own: anybody may write thousands
_MAX_HEADS = 500  # open pull requests that a resync reads


def post_status(api: RepositoryClient, sha: str, status: Status) -> None:
    """Set a commit status, with texts shortened to GitHub's limits. One call."""
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
    """Comment on a branch's open pull requests or, if it has none, on a commit.

    An earlier comment of deployer with the same first line is replaced.

    Args:
        call: sends a request.
        repository: the repository.
        branch: the branch whose pull requests get the comment.
        sha: the commit that gets the comment if the branch has no open pull request.
        text: the comment, as Markdown.
        login: returns the login of deployer's own account.

    Returns:
        Each comment's path below the repository.

    Raises:
        ApiError: GitHub refused every comment, or answered with another error.
    """
    root = f"/repos/{repository.full_name}"
    paths = [f"issues/{each.number}/comments" for each in list_pulls(call, repository, branch)]
    written, refusal = [], None
    for path in paths or [f"commits/{sha}/comments"]:
        try:
            written.append(_write_or_update_comment(call, root, path, text, login))
        except ApiError as error:  # a locked pull request must not prevent the other comments
            if error.status not in {403, 404, 410, 422} or rate_limit_seconds(error) is not None:
                raise
            refusal = error
    if refusal and not written:
        raise refusal
    return written


def open_heads(call: ApiCall, repository: Repository) -> list[PullRequestHead]:
    """The heads of a repository's open pull requests, the newest first."""
    path = f"/repos/{repository.full_name}/pulls"  # by default the open ones, the newest first
    listed = itertools.islice(list_all_pages(call, path, answers.Pull), _MAX_HEADS)
    return [
        PullRequestHead(
            each.number,
            Ref.of_branch(each.head.ref),
            each.head.sha,
            from_fork=each.head.repo is None or each.head.repo.id != each.base.repo.id,
        )
        for each in listed
    ]


def _write_or_update_comment(call: ApiCall, root: str, path: str, text: str, login: Callable[[], str]) -> str:
    """Replace deployer's comment below a path, or write a new one.

    A new comment is not sent twice, because perhaps only the answer was lost; the next attempt of the whole task finds
    that comment.
    """
    kind = "issues/comments" if path.startswith("issues/") else "comments"
    first = text.partition("\n")[0]
    existing = itertools.islice(list_all_pages(call, f"{root}/{path}", answers.Comment), _MAX_COMMENTS)
    same_first_line = [each for each in existing if _first_line(each.body) == first]
    # anybody can write the same first line, so the author counts too
    ours = [each for each in same_first_line if each.user and each.user.login == login()]
    if ours:
        call("PATCH", f"{root}/{kind}/{ours[0].id}", answers.Created, body={"body": text})
        return f"{kind}/{ours[0].id}"
    made = call("POST", f"{root}/{path}", answers.Created, body={"body": text}, once_only=True)[1]
    return f"{kind}/{made.id}"


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0].rstrip()  # lines that people edit on GitHub's pages end in CR LF


def truncate_text(text: str, limit: int) -> str:
    """The text or, if it is longer than the limit, its beginning with an ellipsis.

    One visible character can be several code points, such as a letter with its accent. They are not separated.

    Args:
        text: the text.
        limit: the largest number of code points, including the ellipsis.
    """
    if len(text) <= limit:
        return text
    end = limit - 1
    while end > 0 and _is_drawn_with_previous(text, end):
        end -= 1
    return f"{text[: end or limit - 1].rstrip()}…"


def _is_drawn_with_previous(text: str, at: int) -> bool:
    """Whether the code point at this index belongs to the same visible character as the one before it."""
    here = text[at]
    return (
        _JOINER in (here, text[at - 1])
        or unicodedata.category(here).startswith("M")
        or "\U0001f3fb" <= here <= "\U0001f3ff"  # skin tones
    )
