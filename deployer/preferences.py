"""What a repository may decide of its own environments: `deploy/deployer.yml`, which need not be there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from deployer.template import FOLDER, Document, UnreadableError, pick, read

_STEM = "deployer"
_BUCKETS = {True: "empty-buckets", False: "keep-buckets"}
_FAILURES = ("retain", "force", "stop")


@dataclass(frozen=True, slots=True)
class Teardown:
    """How an environment is taken down.

    Attributes:
        empty_buckets: whether the buckets of its stacks are emptied first; AWS deletes no bucket that holds anything.
        on_failure: what is done with a resource that AWS cannot delete: `retain` leaves it behind and reports it,
            `force` lets CloudFormation delete the stack whatever becomes of it, `stop` leaves the stack to people.
    """

    empty_buckets: bool = True
    on_failure: str = "retain"

    @property
    def text(self) -> str:
        """Short text for the stack's tag `deployer:teardown`: the file may be gone when it is needed."""
        return f"{_BUCKETS[self.empty_buckets]} {self.on_failure}"

    @classmethod
    def parse(cls, text: str) -> "Teardown":
        """Read what `text` wrote. A word that is not known changes nothing: a newer deployer may have written it."""
        words = text.split()
        failure = next((word for word in words if word in _FAILURES), cls().on_failure)
        return cls(_BUCKETS[False] not in words, failure)


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a repository decides.

    Attributes:
        teardown: how its environments are taken down.
        regions: development environments go only there; empty for every region of the target.
    """

    teardown: Teardown = Teardown()
    regions: tuple[str, ...] = ()

    @property
    def teardown_text(self) -> str:
        """See `Teardown.text`."""
        return self.teardown.text

    def narrowed(self, regions: Sequence[str]) -> tuple[str, ...]:
        """Those regions of a target that a development environment may go to.

        Raises:
            UnreadableError: none is left.
        """
        left = tuple(each for each in regions if not self.regions or each in self.regions)
        if regions and not left:
            text = f"regions has {', '.join(self.regions)}; there are {', '.join(regions)}"
            raise UnreadableError(f"{FOLDER}/{_STEM}.yml", None, text)
        return left


def read_preferences(files: Mapping[str, bytes]) -> Preferences:
    """Read `deploy/deployer.yml` (or .yaml, .json); without it all is by default.

    Args:
        files: name to content of the files in `deploy/`.

    Raises:
        UnreadableError: it is malformed; its text names file, line and what there is.
    """
    name = pick(files, _STEM)
    if name is None:
        return Preferences()
    document = read(name, files[name])
    changes: dict[str, Any] = {}
    for key, value in document.fields.items():
        changes[key] = _one_of(document, _KEYS, key)(document, value, (key,))
    return Preferences(**changes)


def _one_of(document: Document, known: Mapping[str, Any], *path: str) -> Any:
    if path[-1] not in known:
        raise _refused(document, path, f"{'.'.join(path)[:80]} is not known; there are {', '.join(known)}")
    return known[path[-1]]


def _refused(document: Document, path: tuple[str, ...], text: str) -> UnreadableError:
    return UnreadableError(document.file, document.nearest_line(*path), text)


def _teardown(document: Document, value: Any, path: tuple[str, ...]) -> Teardown:
    if not isinstance(value, dict):
        raise _refused(document, path, "teardown is no mapping, such as {empty_buckets: false}")
    made = Teardown()
    for key, given in value.items():
        allowed = _one_of(document, _TEARDOWN, *path, key)
        # `1` equals True
        if not any(given == each and type(given) is type(each) for each in allowed):
            words = ", ".join(str(each).lower() for each in allowed)
            raise _refused(document, (*path, key), f"{'.'.join((*path, key))} is none of {words}")
        made = replace(made, **{key: given})
    return made


def _regions(document: Document, value: Any, path: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise _refused(document, path, "regions is no list, such as [eu-west-1, us-east-1]")
    return tuple(dict.fromkeys(value))


_TEARDOWN: dict[str, tuple[Any, ...]] = {"empty_buckets": (True, False), "on_failure": _FAILURES}
_KEYS: dict[str, Callable[[Document, Any, tuple[str, ...]], Any]] = {
    "teardown": _teardown,
    "regions": _regions,
}
