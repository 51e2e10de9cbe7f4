"""Whether the environment of a branch is deleted with its pull request, by the default branch's settings."""

from collections.abc import Callable, Mapping

from deployer.environment.cloud_region import Clouds
from deployer.environment.code_host import CodeHost
from deployer.environment.context import ReconcileContext
from deployer.model.environments import Kind
from deployer.model.refs import Ref
from deployer.templates.folder_files import FOLDER, UnreadableError
from deployer.templates.repository_config import CONFIG_STEM, DELETE, NamePatterns, RepositoryConfig


class ClosedPullRequests:
    """Decides about environments whose pull request was closed, from what GitHub says now.

    Args:
        host: GitHub.
        clouds: names the branches of production in the settings of the installation.
        read_config: reads `deploy/deployer.yml`.
    """

    def __init__(
        self,
        host: CodeHost,
        clouds: Clouds,
        read_config: Callable[[Mapping[str, bytes]], RepositoryConfig],
    ) -> None:
        self._host = host
        self._clouds = clouds
        self._read_config = read_config

    def why_kept(self, context: ReconcileContext) -> str:
        """Why an environment stays although its pull request was closed; empty if it goes. At most six calls."""
        repository, branch = context.repository, context.environment.branch
        if branch is None or context.environment.kind is not Kind.DEVELOPMENT:
            return "only development environments go with a pull request"
        default = Ref.of_branch(self._host.default_branch(repository))
        if branch == default:
            return f"{branch.short} is the default branch"
        head = self._host.head(repository, default)
        files = self._host.regular_files(repository, head.sha, FOLDER, CONFIG_STEM) if head else {}
        try:
            config = self._read_config(files)
        except UnreadableError as error:  # what nobody can read asks for no deletion
            return f"the settings on {default.short} are unreadable: {error}"
        if config.closed != DELETE:
            return f"deploy/deployer.yml on {default.short} does not ask for its deletion"
        installation = self._clouds.target(Kind.PRODUCTION).branches
        named = (config.production_branches, NamePatterns(installation) if installation else None)
        if any(each is not None and each.match(branch.short) for each in named):
            return f"{branch.short} is a branch of production"
        if open_ones := self._host.open_pulls(repository, branch):
            return f"#{open_ones[0]} is open"
        return ""
