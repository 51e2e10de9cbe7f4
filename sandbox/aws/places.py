"""Where things are: an account and a region of it."""

from __future__ import annotations

from dataclasses import dataclass

ACCOUNT = "123456789012"
REGION = "us-east-1"


@dataclass(frozen=True)
class Place:
    """An account's region; without arguments the one where calls with unknown keys act."""

    account: str = ACCOUNT
    region: str = REGION

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource here."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"

    def as_fields(self) -> dict[str, str]:
        """The two as fields."""
        return {"account": self.account, "region": self.region}
