"""Counts the calls to AWS and GitHub, and what they were for.

Adapters `note` each request that leaves, repeats too. Whoever wants to know the sum counts around what makes them;
where nobody counts, a note is nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

Service = Literal["aws", "github"]
Purpose = Literal["deployment", "stages"]


@dataclass(slots=True)
class Tally:
    """Calls counted so far; those for the stages' statuses apart from all others."""

    aws: int = 0
    github: int = 0
    aws_stages: int = 0
    github_stages: int = 0


_tally: ContextVar[Tally | None] = ContextVar("tally", default=None)
_purpose: ContextVar[Purpose] = ContextVar("purpose", default="deployment")


@contextmanager
def counting() -> Iterator[Tally]:
    """Count the calls made within; what an inner `counting` counts is not counted here."""
    tally = Tally()
    before = _tally.set(tally)
    try:
        yield tally
    finally:
        _tally.reset(before)


@contextmanager
def purpose(what: Purpose) -> Iterator[None]:
    """Sort the calls made within under a purpose."""
    before = _purpose.set(what)
    try:
        yield
    finally:
        _purpose.reset(before)


def note(service: Service) -> None:
    """Count one call."""
    tally = _tally.get()
    if tally is None:
        return
    name = service if _purpose.get() == "deployment" else f"{service}_stages"
    setattr(tally, name, getattr(tally, name) + 1)
