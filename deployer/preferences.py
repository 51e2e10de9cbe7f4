"""What a repository's `deploy/deployer.yml` asks for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Teardown:
    """How an environment is to be deleted."""

    empty_buckets: bool = True
    on_failure: str = "retain"

    @classmethod
    def parse(cls, text: str) -> "Teardown":
        """Read the short form."""
        words = text.split()
        return cls("keep-buckets" not in words, next((w for w in words if w in {"force", "stop"}), "retain"))
