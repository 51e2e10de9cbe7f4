"""The one comment of deployer on each pull request of a branch: found by a hidden first line, created, edited."""

from collections.abc import Callable, Sequence

from deployer.github import answers
from deployer.github.errors import ApiError, rate_limit_seconds
from deployer.github.hooks import PAGE, ApiCall, list_all_pages
from deployer.model.environments import Repository
from deployer.model.refs import Ref

# the first line of the comment; the second one says that the environment has ended, so that the comment stays as it is
MARKER = "<!-- deployer: pull request -->"
ENDED_MARKER = "<!-- deployer: pull request, environment ended -->"
_MAX_PULL_REQUESTS = 10  # of one branch, those that changed last
_REFUSALS = {403, 404, 410, 422}  # of one pull request, such as a locked one


def list_pulls(
    call: ApiCall, repository: Repository, branch: Ref, state: str = "open"
) -> Sequence[answers.Pull]:
    """The pull requests of a branch in the repository itself, those that changed last first. One call."""
    query = {
        "state": state,
        "head": f"{repository.owner}:{branch.short}",
        "sort": "updated",
        "direction": "desc",
        "per_page": _MAX_PULL_REQUESTS,
    }
    listed = call("GET", f"/repos/{repository.full_name}/pulls", list[answers.Pull], query=query)[1]
    # filtered again, because a fork's branch may have the same name, and GitHub ignores a `head` that it cannot parse
    return [
        each
        for each in listed
        if each.head.ref == branch.short and each.head.repo and each.head.repo.id == each.base.repo.id
    ]


class PullComments:
    """Shows a text as the one comment of deployer on pull requests.

    Nothing is remembered: the comment is found on GitHub each time, so neither a loss of Redis nor a person who deletes
    the comment matters.

    Args:
        call: sends a request.
        repository: the repository.
        login: returns the login of deployer's own account.
    """

    def __init__(self, call: ApiCall, repository: Repository, login: Callable[[], str]) -> None:
        self._call = call
        self._root = f"/repos/{repository.full_name}"
        self._repository = repository
        self._login = login

    def show_on_pulls(self, branch: Ref, text: str, *, ended: bool) -> None:
        """See `CodeHost.comment_on_pulls`.

        Raises:
            ApiError: GitHub refused a comment for a reason that does not concern one pull request alone, or every one.
        """
        body = f"{ENDED_MARKER if ended else MARKER}\n{text}"
        shown, refusal = False, None
        for pull in list_pulls(self._call, self._repository, branch, "all" if ended else "open"):
            try:
                self._show_on_pull(pull, body)
                shown = True
            except ApiError as error:  # a locked pull request must not prevent the other comments
                if error.status not in _REFUSALS or rate_limit_seconds(error) is not None:
                    raise
                refusal = error
        if refusal and not shown:
            raise refusal

    def _show_on_pull(self, pull: answers.Pull, body: str) -> None:
        ours = self._own_comments(pull.number)
        if pull.state != "open":
            if ours and _first_line(ours[0].body) == MARKER:  # it still says that an environment exists
                self._keep_oldest(ours, body)
            return
        if not ours:
            # not sent twice, because perhaps only the answer was lost; the next attempt finds that comment
            path = f"{self._root}/issues/{pull.number}/comments"
            self._call("POST", path, answers.Created, body={"body": body}, once_only=True)
            ours = self._own_comments(pull.number)  # another worker may have done the same
        self._keep_oldest(ours, body)

    def _own_comments(self, number: int) -> list[answers.Comment]:
        """Deployer's comments of this kind on a pull request, the oldest first.

        GitHub lists the oldest comments first. Pages are read until one has deployer's comment; duplicates that a
        race has made are beside it. GitHub allows no more than 2,500 comments on a pull request.
        """
        found: list[answers.Comment] = []
        listed = list_all_pages(self._call, f"{self._root}/issues/{number}/comments", answers.Comment)
        for position, each in enumerate(listed, 1):
            # anybody can write the same first line, so the author counts too
            marked = _first_line(each.body) in {MARKER, ENDED_MARKER}
            if marked and each.user and each.user.login == self._login():
                found.append(each)
            if found and position % PAGE == 0:
                break
        return sorted(found, key=lambda each: each.id)

    def _keep_oldest(self, ours: Sequence[answers.Comment], body: str) -> None:
        """Edit the oldest comment unless it says the same, and delete the others."""
        path = f"{self._root}/issues/comments"
        if ours and (ours[0].body or "").replace("\r\n", "\n").rstrip() != body.rstrip():
            self._call("PATCH", f"{path}/{ours[0].id}", answers.Created, body={"body": body})
        for duplicate in ours[1:]:
            try:
                self._call("DELETE", f"{path}/{duplicate.id}", answers.Deleted)
            except ApiError as error:
                if error.status != 404:  # another worker has deleted the same one
                    raise


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0].rstrip()  # lines that people edit on GitHub's pages end in CR LF
