"""Comments on pull requests and commits. What deployer said before under the same first line is replaced."""

import itertools
from collections.abc import Callable

from deployer.adapters import github_answers as answers
from deployer.adapters.github_client import ApiError
from deployer.adapters.github_errors import rate_limit
from deployer.adapters.github_hooks import Call, pages
from deployer.environments import Repository
from deployer.refs import Ref

_MOST_COMMENTS = 500  # of one place, among which ours is looked for: anybody may write thousands
_MOST_PULLS = 10  # of one branch, that are told of its end


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
