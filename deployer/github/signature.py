"""What signs a request to GitHub."""

from dataclasses import dataclass, field
from typing import Protocol

from deployer.github.errors import ApiError
from deployer.model.environments import Repository


@dataclass(frozen=True, slots=True)
class Signature:
    """What signs a request.

    Attributes:
        authorization: the header `Authorization`.
        account: whose rate limits the request counts towards: `installation-ID`, `app` or `token`.
    """

    authorization: str = field(repr=False)
    account: str


class Credentials(Protocol):
    """Signs requests."""

    def sign(self, repository: Repository) -> Signature:
        """The signature of a request about a repository."""

    def discard_token(self, repository: Repository) -> None:
        """Get another token for the next request, because GitHub refused this one."""

    def discard_installation(self, repository: Repository) -> None:
        """Find the repository's installation again for the next request, because GitHub hides the repository."""

    def explain_refusal(self, repository: Repository, error: ApiError) -> str:
        """Why GitHub refused a request with 403, with the link that changes it; empty if that is unknown."""
