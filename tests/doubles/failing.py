"""The base class of doubles, which records calls or lets them fail."""

from dataclasses import dataclass, field
from typing import Any

from deployer.queue.call_counter import Service, count_call


@dataclass
class Failing:
    """Records the calls of its methods and raises injected errors; each call counts as one call to the service."""

    service: Service
    calls: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    _orders: list[tuple[str, Exception]] = field(default_factory=list)

    def fail_next(self, error: Exception, *, times: int = 1, method: str = "") -> None:
        """Let the next calls of any method, or of one method, raise this error without effect."""
        self._orders += [(method, error)] * times

    def clear_failures(self) -> None:
        """Remove all injected errors."""
        self._orders.clear()

    def called(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of every call of a method."""
        return [arguments for called, arguments in self.calls if called == name]

    def _note(self, name: str, *arguments: Any) -> None:
        count_call(self.service)
        self.calls.append((name, arguments))
        for order in self._orders:
            if order[0] in ("", name):
                self._orders.remove(order)
                raise order[1].with_traceback(None)  # the same error may be raised again
