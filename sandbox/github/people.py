"""The people whose personal tokens the simulator knows, with their role on every repository."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sandbox.github import payloads

_ROLES = ("pull", "triage", "push", "maintain", "admin")  # each includes those before it


@dataclass(frozen=True)
class Person:
    """A person with a personal token.

    Attributes:
        login: the person's login.
        role: the highest of GitHub's roles: `pull` (read), `triage`, `push` (write), `maintain` or `admin`.
    """

    login: str
    role: str

    def has(self, role: str) -> bool:
        """Whether the person has this role."""
        return _ROLES.index(self.role) >= _ROLES.index(role)

    @property
    def permissions(self) -> dict[str, bool]:
        """The field `permissions` of a repository."""
        return {role: self.has(role) for role in _ROLES}


_PEOPLE = {
    "sandbox": Person(payloads.LOGIN, "admin"),
    "ada": Person("ada", "maintain"),
    "ben": Person("ben", "push"),
    "eve": Person("eve", "pull"),
}
# A text in the form of a personal token is one of the owner's, so that tests can use secrets of their own
_PERSONAL_TOKEN = re.compile(r"(ghp[_-]|github_pat_)[\w-]+")
OWNER = _PEOPLE["sandbox"]


def find_person(token: str) -> Person | None:
    """The person with this token; None if the token is unknown."""
    return OWNER if _PERSONAL_TOKEN.fullmatch(token) else _PEOPLE.get(token)
