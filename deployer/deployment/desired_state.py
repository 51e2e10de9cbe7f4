"""The desired state of an environment, as the values that `resolve_desired` returns besides `Stop`."""

from dataclasses import dataclass

from deployer.deployment.deploy_folder import DeployFolder
from deployer.environment.context import ReconcileContext


@dataclass(frozen=True, slots=True)
class Deploy:
    """The environment runs a commit of a ref.

    Attributes:
        context: the context whose queue item and record name the commit.
        folder: the `deploy/` folder at the commit, if the decision needed it; None otherwise.
    """

    context: ReconcileContext
    folder: DeployFolder | None = None

    @property
    def commit(self) -> str:
        """The full id of the commit."""
        return self.context.work.spec.sha

    @property
    def ref(self) -> str:
        """The full name of the branch or tag."""
        return self.context.work.spec.ref


@dataclass(frozen=True, slots=True)
class Absent:
    """The environment does not exist.

    Attributes:
        context: the context whose record says why.
        reason: why, for logs.
    """

    context: ReconcileContext
    reason: str
