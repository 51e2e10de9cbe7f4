"""What a repository may decide of its own environments: `deploy/deployer.yml`, which need not be there."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, TypeVar

from deployer.evaluation_budget import EvaluationBudget
from deployer.folder_files import FOLDER, UnreadableError, pick
from deployer.refs import Ref
from deployer.template import Document, read, twice
from deployer.times import NEVER, SEVERAL, Hours, duration

RULES_STEM = "deployer"
RULES_FILE = f"{FOLDER}/{RULES_STEM}.yml"
TEARDOWN_TAG = "deployer:teardown"
_BUCKETS = {True: "empty-buckets", False: "keep-buckets"}
_FAILURES = ("retain", "force", "stop")
_T = TypeVar("_T")
_MOST_PATTERNS, _LONGEST_PATTERN = 100, 255
_MOST_HOURS = 10
_MOST_TOLD = 20


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
class Patterns:
    """Names that are chosen: those that one of `include` matches, or all if it is empty, but none of `exclude`.

    In a pattern `*` stands for any characters, slashes too, `?` for one, `[ab]` for one of these.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def match(self, name: str) -> bool:
        """Whether the name is chosen."""
        included = not self.include or _any(name, self.include)
        return included and not _any(name, self.exclude)


@dataclass(frozen=True, slots=True)
class Preferences:
    """What a repository decides.

    Attributes:
        teardown: how its environments are taken down.
        regions: development environments go only there; empty for every region of the target.
        ttl: patterns of branches, each with how long their environments may be idle; the first that matches counts.
        warn: likewise, how long before its end people are warned.
        sleep: when development environments sleep, each part as `Hours` reads it; empty for never.
        branches: which of them have a development environment. The default branch always is staging.
        tags: which of them are deployed to production. It counts on the default branch only.
        production_branches: further branches that a tag's commit may be on, if GitHub protects them; None for none. It
            counts on the default branch only.
        paths: a push that changes none of these files is not deployed; `deploy/` always counts.
    """

    teardown: Teardown = Teardown()
    regions: tuple[str, ...] = ()
    ttl: tuple[tuple[str, str], ...] = ()
    warn: tuple[tuple[str, str], ...] = ()
    sleep: str = ""
    branches: Patterns = Patterns()
    tags: Patterns = Patterns()
    production_branches: Patterns | None = None
    paths: Patterns = Patterns()

    def ttl_of(self, branch: str) -> str:
        """How long this branch's environment may be idle, as `duration` reads it; empty for no wish."""
        return _first(self.ttl, branch)

    def warn_of(self, branch: str) -> str:
        """How long before the end of this branch's environment people are warned; empty for no wish."""
        return _first(self.warn, branch)

    def refuses(self, branch: Ref) -> str:
        """Why a branch has no development environment, in words; empty if it has.

        Args:
            branch: a branch by its full name.
        """
        if not self.branches.match(branch.short):
            return f"{branch.short} is not among the branches of {RULES_FILE}"
        return ""

    def concerns(self, files: Iterable[str]) -> bool:
        """Whether a change of these files is to be deployed."""
        return any(file.startswith(f"{FOLDER}/") or self.paths.match(file) for file in files)

    @property
    def teardown_text(self) -> str:
        """See `Teardown.text`."""
        return self.teardown.text

    @property
    def own_teardown(self) -> str:
        """The same where the repository wants it otherwise than by default, else empty."""
        return "" if self.teardown == Teardown() else self.teardown_text

    def narrowed(self, regions: Sequence[str]) -> tuple[str, ...]:
        """Those regions of a target that a development environment may go to.

        Raises:
            UnreadableError: none is left.
        """
        left = tuple(each for each in regions if not self.regions or each in self.regions)
        if regions and not left:
            text = f"regions has {', '.join(self.regions)}; there are {', '.join(regions)}"
            raise UnreadableError(RULES_FILE, None, text)
        return left


def read_preferences(files: Mapping[str, bytes], budget: EvaluationBudget | None = None) -> Preferences:
    """Read `deploy/deployer.yml` (or .yaml, .json); without it all is by default.

    Args:
        files: name to content of the files in `deploy/`.
        budget: of the check that this is part of; by default one for this file alone.

    Raises:
        UnreadableError: it is malformed or too complex; its text names file, line and what there is. Of each key the
            first that is wrong is told.
    """
    name = pick(files, RULES_STEM)
    if name is None:
        return Preferences()
    document = read(name, files[name], budget)
    changes: dict[str, Any] = {}
    wrong = [UnreadableError(document.file, line, twice(key)) for key, line in document.repeated]
    for key, value in document.fields.items():
        try:
            changes[_FIELDS.get(key, key)] = _one_of(document, _KEYS, key)(document, value, (key,))
        except UnreadableError as error:
            wrong.append(error)
    if wrong:
        del wrong[_MOST_TOLD:]
        wrong[0].others = wrong[1:]
        raise wrong[0]
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


def _lengths(document: Document, value: Any, path: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Lengths of time by patterns of branches, or one for all."""
    given = value if isinstance(value, dict) else {"default": value}
    found = []
    for pattern, text in given.items():
        place = (*path, pattern) if isinstance(value, dict) else path
        if not isinstance(text, str) or len(text) > _LONGEST_PATTERN:
            never = " or never" if path[0] == "ttl" else ""
            raise _refused(
                document, place, f"{path[0]} is no length of time, such as 90m, 12h, 3d, 2w{never}"
            )
        seconds = _accept(document, place, partial(duration, text))
        if seconds == NEVER and path[0] == "warn":
            raise _refused(document, place, "warn is never; no environment ends without a warning")
        _patterns(document, [pattern], place)
        found.append((pattern, text.strip()))
    if len(found) > _MOST_PATTERNS:
        raise _refused(document, path, f"{path[0]} has more than {_MOST_PATTERNS} patterns")
    # `default` is for those that no pattern matches, wherever it stands
    return tuple(
        (("*" if pattern == "default" else pattern), text) for pattern, text in sorted(found, key=_last)
    )


def _last(pair: tuple[str, str]) -> bool:
    return pair[0] == "default"


def _first(lengths: Iterable[tuple[str, str]], branch: str) -> str:
    return next((text for pattern, text in lengths if fnmatchcase(branch, pattern)), "")


def _sleep(document: Document, value: Any, path: tuple[str, ...]) -> str:
    given, zone, where = value, "", path
    if isinstance(value, dict):
        for key in value:
            _one_of(document, _SLEEP, *path, key)
        given, zone, where = value.get("hours"), value.get("timezone", "UTC"), (*path, "hours")
    listed = given if isinstance(given, list) else [given]
    texts = [*listed[: _MOST_HOURS + 1], zone]
    good = all(isinstance(each, str) and len(each) <= _LONGEST_PATTERN for each in texts)
    if not 0 < len(listed) <= _MOST_HOURS or not good:
        text = (
            'sleep is no text or list, such as "Mon-Fri 20:00-07:00 Europe/Berlin", or {hours: "20:00-07:00"}'
        )
        raise _refused(document, path, text)
    if zone:
        for each in listed:  # apart from the zone, so that the error names the line that is wrong
            if _accept(document, where, partial(Hours.parse, each)).zone != "UTC":
                raise _refused(document, where, "sleep.hours has a time zone; it belongs to sleep.timezone")
    place = (*path, "timezone") if isinstance(value, dict) and "timezone" in value else where
    return SEVERAL.join(
        _accept(document, place, partial(Hours.parse, f"{each} {zone}".strip())).text for each in listed
    )


def _choice(document: Document, value: Any, path: tuple[str, ...]) -> Patterns:
    if not isinstance(value, dict):
        return Patterns(include=_patterns(document, value, path))
    made = Patterns()
    for key, given in value.items():
        _one_of(document, _CHOICE, *path, key)
        made = replace(made, **{key: _patterns(document, given, (*path, key))})
    return made


def _production(document: Document, value: Any, path: tuple[str, ...]) -> Patterns | None:
    if not isinstance(value, dict):
        raise _refused(document, path, 'production is no mapping, such as {branches: "release/*"}')
    for key in value:
        _one_of(document, _PRODUCTION, *path, key)
    return _choice(document, value["branches"], (*path, "branches")) if value else None


def _patterns(document: Document, value: Any, path: tuple[str, ...]) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    good = isinstance(listed, list) and 0 < len(listed) <= _MOST_PATTERNS
    if not good or not all(isinstance(each, str) and 0 < len(each) <= _LONGEST_PATTERN for each in listed):
        text = f"{'.'.join(path)[:80]} is no pattern or list of patterns, such as [main, feature/*]"
        raise _refused(document, path, text)
    return tuple(listed)


def _accept(document: Document, path: tuple[str, ...], look: Callable[[], _T]) -> _T:
    try:
        return look()
    except ValueError as error:
        raise _refused(document, path, f"{'.'.join(path)[:80]}: {error}") from error


def _any(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


_SLEEP = {"hours": None, "timezone": None}
_CHOICE = {"include": None, "exclude": None}
_PRODUCTION = {"branches": None}
_FIELDS = {"production": "production_branches"}
_TEARDOWN: dict[str, tuple[Any, ...]] = {"empty_buckets": (True, False), "on_failure": _FAILURES}
_KEYS: dict[str, Callable[[Document, Any, tuple[str, ...]], Any]] = {
    "teardown": _teardown,
    "regions": _regions,
    "ttl": _lengths,
    "warn": _lengths,
    "sleep": _sleep,
    "branches": _choice,
    "tags": _choice,
    "production": _production,
    "paths": _choice,
}
KEYS = tuple(_KEYS)
