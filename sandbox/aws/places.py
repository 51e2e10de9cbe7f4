"""The account in which a resource exists, with its region."""

from __future__ import annotations

from dataclasses import dataclass

ACCOUNT = "123456789012"
REGION = "us-east-1"


@dataclass(frozen=True)
class Place:
    """A region of an account; by default the region of calls with unknown access keys."""

    account: str = ACCOUNT
    region: str = REGION

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource in this region."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"

    def as_fields(self) -> dict[str, str]:
        """Account and region as fields of JSON."""
        return {"account": self.account, "region": self.region}
