"""The settings that a repository makes for its own environments in the optional file `deploy/deployer.yml`."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, TypeVar

from deployer.model.durations import NEVER, SEVERAL, Hours, parse_duration
from deployer.model.refs import Ref
from deployer.templates.document import Document, duplicate_key_text, read_document
from deployer.templates.evaluation.budget import EvaluationBudget
from deployer.templates.folder_files import FOLDER, UnreadableError, file_with_stem

CONFIG_STEM = "deployer"
CONFIG_FILE = f"{FOLDER}/{CONFIG_STEM}.yml"
TEARDOWN_TAG = "deployer:teardown"
KEEP, DELETE = "keep", "delete"
_BUCKET_WORDS = {True: "empty-buckets", False: "keep-buckets"}
_FAILURE_WORDS = ("retain", "force", "stop")
_T = TypeVar("_T")
_PATTERNS_LIMIT, _PATTERN_LENGTH_LIMIT = 100, 255
_SLEEP_HOURS_LIMIT = 10
_OUTPUT_NAME = re.compile(r"[A-Za-z0-9]{1,255}")  # CloudFormation's logical ids
_ERRORS_LIMIT = 20


@dataclass(frozen=True, slots=True)
class TeardownPolicy:
    """How an environment is deleted.

    Attributes:
        empty_buckets: whether the buckets of its stacks are emptied first; AWS deletes only empty buckets.
        on_failure: what happens to a resource that AWS cannot delete. `retain` keeps the resource and reports it,
            `force` makes CloudFormation delete the stack without regard to the resource, `stop` leaves the stack to
            people.
    """

    empty_buckets: bool = True
    on_failure: str = "retain"

    @property
    def text(self) -> str:
        """Short text for the stack's tag `deployer:teardown`, because the file may no longer exist at the teardown."""
        return f"{_BUCKET_WORDS[self.empty_buckets]} {self.on_failure}"

    @classmethod
    def parse(cls, text: str) -> "TeardownPolicy":
        """Parse a value of `text`. An unknown word has no effect, because a newer deployer may have written it."""
        words = text.split()
        failure = next((word for word in words if word in _FAILURE_WORDS), cls().on_failure)
        return cls(_BUCKET_WORDS[False] not in words, failure)


@dataclass(frozen=True, slots=True)
class NamePatterns:
    """A selection of names: those that match a pattern of `include`, but no pattern of `exclude`.

    An empty `include` matches every name. In a pattern `*` matches any characters, also slashes, `?` matches one
    character and `[ab]` matches one of these characters.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def match(self, name: str) -> bool:
        """Whether the selection contains the name."""
        included = not self.include or _matches_any(name, self.include)
        return included and not _matches_any(name, self.exclude)


@dataclass(frozen=True, slots=True)
class RepositoryConfig:
    """A repository's settings.

    Attributes:
        teardown: how its environments are deleted.
        regions: the only regions for development environments; empty for every region of the target.
        ttl: pairs of a branch pattern and the time that its environments may be idle; the first match counts.
        warn: pairs of a branch pattern and how long before its expiry an environment gets a warning.
        sleep: when development environments sleep, each part in the format of `Hours`; empty for never.
        branches: the branches that have a development environment. The default branch always is staging.
        tags: the tags that are deployed to production. Only the default branch's value counts.
        production_branches: further branches that may contain a tag's commit, if GitHub protects them; None for none.
            Only the default branch's value counts.
        paths: a push that changes none of these files is not deployed; files in `deploy/` always count.
        closed: what becomes of a branch's environment when its pull request is closed and the branch stays: `keep`, or
            `delete`. Only the default branch's value counts.
        url: the output of a deployed stack that has the environment's URL; empty for the usual names.
        skipped: the state of the commit status `deployer` on a commit that is skipped: `success`, or `pending` if a
            skip must not pass a required check. Only the default branch's value counts.
    """

    teardown: TeardownPolicy = TeardownPolicy()
    regions: tuple[str, ...] = ()
    ttl: tuple[tuple[str, str], ...] = ()
    warn: tuple[tuple[str, str], ...] = ()
    sleep: str = ""
    branches: NamePatterns = NamePatterns()
    tags: NamePatterns = NamePatterns()
    production_branches: NamePatterns | None = None
    paths: NamePatterns = NamePatterns()
    url: str = ""
    closed: str = KEEP
    skipped: str = "success"

    def ttl_of(self, branch: str) -> str:
        """The time that this branch's environment may be idle, in the format of `parse_duration`; empty if not set."""
        return _first_matching_duration(self.ttl, branch)

    def warning_time_of(self, branch: str) -> str:
        """How long before its expiry this branch's environment gets a warning; empty if not set."""
        return _first_matching_duration(self.warn, branch)

    def branch_refusal(self, branch: Ref) -> str:
        """Why a branch has no development environment, for people; empty if it has one.

        Args:
            branch: the branch.
        """
        if not self.branches.match(branch.short):
            return f"{branch.short} is not among the branches of {CONFIG_FILE}"
        return ""

    def concerns_files(self, files: Iterable[str]) -> bool:
        """Whether a push that changes these files must be deployed."""
        return any(file.startswith(f"{FOLDER}/") or self.paths.match(file) for file in files)

    @property
    def teardown_text(self) -> str:
        """See `TeardownPolicy.text`."""
        return self.teardown.text

    @property
    def custom_teardown_text(self) -> str:
        """`teardown_text` if the repository changes the default, otherwise empty."""
        return "" if self.teardown == TeardownPolicy() else self.teardown_text

    def allowed_regions(self, regions: Sequence[str]) -> tuple[str, ...]:
        """The regions of a target that a development environment may use.

        Args:
            regions: the target's regions.

        Raises:
            UnreadableError: no region remains.
        """
        left = tuple(each for each in regions if not self.regions or each in self.regions)
        if regions and not left:
            text = f"regions has {', '.join(self.regions)}; use some of {', '.join(regions)}"
            raise UnreadableError(CONFIG_FILE, None, text)
        return left


def read_repository_config(
    files: Mapping[str, bytes], budget: EvaluationBudget | None = None
) -> RepositoryConfig:
    """Read `deploy/deployer.yml` (or .yaml, .json). Without the file every setting has its default.

    Args:
        files: name to content of the files in `deploy/`.
        budget: the budget of the check that this file belongs to; by default a new budget for this file alone.

    Raises:
        UnreadableError: the file is malformed or too complex. The text names file, line and the allowed values. Each
            key contributes at most one error.
    """
    name = file_with_stem(files, CONFIG_STEM)
    if name is None:
        return RepositoryConfig()
    document = read_document(name, files[name], budget)
    changes: dict[str, Any] = {}
    wrong = [UnreadableError(document.file, line, duplicate_key_text(key)) for key, line in document.repeated]
    for key, value in document.fields.items():
        try:
            changes[_FIELD_OF_KEY.get(key, key)] = _value_of_known_key(document, _READERS, key)(
                document, value, (key,)
            )
        except UnreadableError as error:
            wrong.append(error)
    if wrong:
        del wrong[_ERRORS_LIMIT:]
        wrong[0].others = wrong[1:]
        raise wrong[0]
    return RepositoryConfig(**changes)


def _value_of_known_key(document: Document, known: Mapping[str, Any], *path: str) -> Any:
    if path[-1] not in known:
        raise _error_at(document, path, f"{'.'.join(path)[:80]} is unknown; use one of {', '.join(known)}")
    return known[path[-1]]


def _error_at(document: Document, path: tuple[str, ...], text: str) -> UnreadableError:
    return UnreadableError(document.file, document.nearest_line(*path), text)


def _read_teardown(document: Document, value: Any, path: tuple[str, ...]) -> TeardownPolicy:
    if not isinstance(value, dict):
        raise _error_at(document, path, "teardown is not a mapping, such as {empty_buckets: false}")
    result = TeardownPolicy()
    for key, given in value.items():
        allowed = _value_of_known_key(document, _TEARDOWN_VALUES, *path, key)
        # the types must be equal too, because `1` equals True
        if not any(given == each and type(given) is type(each) for each in allowed):
            words = ", ".join(str(each).lower() for each in allowed)
            raise _error_at(document, (*path, key), f"{'.'.join((*path, key))} is not one of {words}")
        result = replace(result, **{key: given})
    return result


def _read_regions(document: Document, value: Any, path: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise _error_at(document, path, "regions is not a list, such as [eu-west-1, us-east-1]")
    return tuple(dict.fromkeys(value))


def _read_durations(document: Document, value: Any, path: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Read durations by branch pattern, or one duration for all branches."""
    given = value if isinstance(value, dict) else {"default": value}
    found = []
    for pattern, text in given.items():
        place = (*path, pattern) if isinstance(value, dict) else path
        if not isinstance(text, str) or len(text) > _PATTERN_LENGTH_LIMIT:
            never = " or never" if path[0] == "ttl" else ""
            raise _error_at(document, place, f"{path[0]} is not a duration, such as 90m, 12h, 3d, 2w{never}")
        seconds = _parse_or_error(document, place, partial(parse_duration, text))
        if seconds == NEVER and path[0] == "warn":
            raise _error_at(
                document, place, "warn is never, but every environment must get a warning before it expires"
            )
        _read_pattern_list(document, [pattern], place)
        found.append((pattern, text.strip()))
    if len(found) > _PATTERNS_LIMIT:
        raise _error_at(document, path, f"{path[0]} has more than {_PATTERNS_LIMIT} patterns")
    # `default` applies if no pattern matches, wherever it appears in the mapping
    return tuple(
        (("*" if pattern == "default" else pattern), text) for pattern, text in sorted(found, key=_is_default)
    )


def _is_default(pair: tuple[str, str]) -> bool:
    return pair[0] == "default"


def _first_matching_duration(lengths: Iterable[tuple[str, str]], branch: str) -> str:
    return next((text for pattern, text in lengths if fnmatchcase(branch, pattern)), "")


def _read_sleep(document: Document, value: Any, path: tuple[str, ...]) -> str:
    given, zone, where = value, "", path
    if isinstance(value, dict):
        for key in value:
            _value_of_known_key(document, _SLEEP_KEYS, *path, key)
        given, zone, where = value.get("hours"), value.get("timezone", "UTC"), (*path, "hours")
    listed = given if isinstance(given, list) else [given]
    texts = [*listed[: _SLEEP_HOURS_LIMIT + 1], zone]
    good = all(isinstance(each, str) and len(each) <= _PATTERN_LENGTH_LIMIT for each in texts)
    if not 0 < len(listed) <= _SLEEP_HOURS_LIMIT or not good:
        text = 'sleep is not a text or a list, such as "Mon-Fri 20:00-07:00 Europe/Berlin", or {hours: "20:00-07:00"}'
        raise _error_at(document, path, text)
    if zone:
        for each in listed:  # without the zone, so that the error names the right line
            if _parse_or_error(document, where, partial(Hours.parse, each)).zone != "UTC":
                raise _error_at(document, where, "sleep.hours has a time zone; write it in sleep.timezone")
    place = (*path, "timezone") if isinstance(value, dict) and "timezone" in value else where
    return SEVERAL.join(
        _parse_or_error(document, place, partial(Hours.parse, f"{each} {zone}".strip())).text
        for each in listed
    )


def _read_name_patterns(document: Document, value: Any, path: tuple[str, ...]) -> NamePatterns:
    if not isinstance(value, dict):
        return NamePatterns(include=_read_pattern_list(document, value, path))
    result = NamePatterns()
    for key, given in value.items():
        _value_of_known_key(document, _PATTERN_KEYS, *path, key)
        result = replace(result, **{key: _read_pattern_list(document, given, (*path, key))})
    return result


def _read_production(document: Document, value: Any, path: tuple[str, ...]) -> NamePatterns | None:
    if not isinstance(value, dict):
        raise _error_at(document, path, 'production is not a mapping, such as {branches: "release/*"}')
    for key in value:
        _value_of_known_key(document, _PRODUCTION_KEYS, *path, key)
    return _read_name_patterns(document, value["branches"], (*path, "branches")) if value else None


def _read_closed(document: Document, value: Any, path: tuple[str, ...]) -> str:
    if not isinstance(value, dict):
        raise _error_at(document, path, "pull_requests is not a mapping, such as {closed: delete}")
    for key in value:
        _value_of_known_key(document, _PULL_REQUEST_KEYS, *path, key)
    closed = value.get("closed", KEEP)
    if closed not in (KEEP, DELETE):
        raise _error_at(document, (*path, "closed"), f"pull_requests.closed is not one of {KEEP}, {DELETE}")
    return str(closed)


def _read_output_name(document: Document, value: Any, path: tuple[str, ...]) -> str:
    if not isinstance(value, str) or not _OUTPUT_NAME.fullmatch(value):
        text = "url is not the name of a stack's output, which has letters and digits, such as SiteAddress"
        raise _error_at(document, path, text)
    return value


def _read_skipped(document: Document, value: Any, path: tuple[str, ...]) -> str:
    if value not in _SKIPPED_STATES:
        raise _error_at(document, path, f"skipped is not one of {', '.join(_SKIPPED_STATES)}")
    return str(value)


def _read_pattern_list(document: Document, value: Any, path: tuple[str, ...]) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    good = isinstance(listed, list) and 0 < len(listed) <= _PATTERNS_LIMIT
    if not good or not all(
        isinstance(each, str) and 0 < len(each) <= _PATTERN_LENGTH_LIMIT for each in listed
    ):
        text = f"{'.'.join(path)[:80]} is not a pattern or a list of patterns, such as [main, feature/*]"
        raise _error_at(document, path, text)
    return tuple(listed)


def _parse_or_error(document: Document, path: tuple[str, ...], look: Callable[[], _T]) -> _T:
    try:
        return look()
    except ValueError as error:
        raise _error_at(document, path, f"{'.'.join(path)[:80]}: {error}") from error


def _matches_any(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


_SKIPPED_STATES = ("success", "pending")
_SLEEP_KEYS = {"hours": None, "timezone": None}
_PATTERN_KEYS = {"include": None, "exclude": None}
_PRODUCTION_KEYS = {"branches": None}
_PULL_REQUEST_KEYS = {"closed": None}
_FIELD_OF_KEY = {"production": "production_branches", "pull_requests": "closed"}
_TEARDOWN_VALUES: dict[str, tuple[Any, ...]] = {"empty_buckets": (True, False), "on_failure": _FAILURE_WORDS}
_READERS: dict[str, Callable[[Document, Any, tuple[str, ...]], Any]] = {
    "teardown": _read_teardown,
    "regions": _read_regions,
    "ttl": _read_durations,
    "warn": _read_durations,
    "sleep": _read_sleep,
    "branches": _read_name_patterns,
    "tags": _read_name_patterns,
    "production": _read_production,
    "paths": _read_name_patterns,
    "url": _read_output_name,
    "pull_requests": _read_closed,
    "skipped": _read_skipped,
}
CONFIG_KEYS = tuple(_READERS)
