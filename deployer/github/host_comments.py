"""The part of the port `CodeHost` that comments on GitHub."""

from abc import ABC, abstractmethod
from functools import partial

from deployer.github import answers
from deployer.github import feedback as github_feedback
from deployer.github import pull_comments as github_pulls
from deployer.github.errors import requires_permission, translate_errors
from deployer.github.hooks import ApiCall
from deployer.model.environments import Repository
from deployer.model.refs import Ref


class HostComments(ABC):
    """Comments on pull requests or commits, under deployer's own login."""

    _own_login = ""

    @property
    @abstractmethod
    def is_app(self) -> bool:
        """Whether deployer works as a GitHub App."""

    @abstractmethod
    def _api_call(self, repository: Repository, *, as_app: bool = False) -> ApiCall:
        """A function that sends requests."""

    def comment(self, repository: Repository, branch: Ref, sha: str, text: str) -> list[str]:
        """Comment on a branch's open pull requests or, if it has none, on a commit.

        One call for the pull requests and two for each comment; more if there are over a hundred comments already. A
        later change of a comment on a commit needs *contents: write*, which deployer needs for nothing else.

        Raises:
            RightsError: the token or the App may not comment.
        """
        doing = f"commenting on {branch} of {repository}"
        with translate_errors(doing, repository), requires_permission("pull requests: write"):
            login = partial(self._deployer_login, repository)
            return github_feedback.post_comment(
                self._api_call(repository), repository, branch, sha, text, login
            )

    def change_comment(self, repository: Repository, comment: str, text: str) -> None:
        """Replace the text of a comment. One call.

        Raises:
            RightsError: the token or the App may not change the comment, or the comment was deleted.
        """
        needed = "pull requests: write" if comment.startswith("issues/") else "contents: write"
        with translate_errors(f"changing {comment} of {repository}", repository), requires_permission(needed):
            path = f"/repos/{repository.full_name}/{comment}"
            self._api_call(repository)("PATCH", path, answers.Created, body={"body": text})

    def comment_on_pulls(self, repository: Repository, branch: Ref, text: str, *, ended: bool) -> None:
        """See `CodeHost.comment_on_pulls`.

        One call for the pull requests; for each of them one for each hundred comments, one write if the text differs,
        and one more list after a new comment. It needs the permission *pull requests: write*.
        """
        doing = f"commenting on the pull requests of {branch} of {repository}"
        with translate_errors(doing, repository), requires_permission("pull requests: write"):
            login = partial(self._deployer_login, repository)
            comments = github_pulls.PullComments(self._api_call(repository), repository, login)
            comments.show_on_pulls(branch, text, ended=ended)

    def open_pulls(self, repository: Repository, branch: Ref) -> list[int]:
        """See `CodeHost.open_pulls`. One call."""
        doing = f"listing the pull requests of {branch} of {repository}"
        with translate_errors(doing, repository), requires_permission("pull requests: read"):
            found = github_pulls.list_pulls(self._api_call(repository), repository, branch)
            return [each.number for each in found]

    def _deployer_login(self, repository: Repository) -> str:
        """The login of deployer's own account on GitHub. One call the first time, then none."""
        if not self._own_login:
            if self.is_app:
                call = self._api_call(repository, as_app=True)
                self._own_login = f"{call('GET', '/app', answers.App)[1].slug}[bot]"
            else:
                self._own_login = self._api_call(repository)("GET", "/user", answers.User)[1].login
        return self._own_login
