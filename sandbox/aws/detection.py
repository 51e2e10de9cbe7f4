"""What starts pipelines by itself in AWS: detected changes of sources, webhooks, rules with a schedule or a pattern.

The simulated GitHub does not call the simulated AWS. Instead, while a pipeline or a webhook watches a repository, the
refs of the repository are read again and again, and every ref that moved counts as a push.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from sandbox.aws.clock import Process, Scheduler
from sandbox.aws.executions import Pipelines
from sandbox.aws.pipelines import Pipeline
from sandbox.aws.sources import Repositories, SourceError

log = logging.getLogger(__name__)

POLL_SECONDS = 2.0
_LEAST_SECONDS = 0.5  # of real time between two reads, however fast the simulator runs
_HEADS, _TAGS = "refs/heads/", "refs/tags/"
_RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_UNITS = {"minute": 60.0, "hour": 3600.0, "day": 86400.0}


@dataclass(frozen=True)
class Source:
    """A source action that reads a branch of a git repository."""

    action: str
    repository: str
    branch: str
    provider: str
    configuration: Mapping[str, str]

    def detects_changes(self, pipeline: Pipeline) -> bool:
        """Whether AWS starts the pipeline at a push to the branch; it does so unless the definition says otherwise.

        Triggers of a V2 pipeline switch the default detection of its connections off.
        """
        if self.provider == "CodeStarSourceConnection":
            return self._is_on("DetectChanges") and not pipeline.definition.get("triggers")
        return self._is_on("PollForSourceChanges")

    def _is_on(self, key: str) -> bool:
        return self.configuration.get(key, "true").lower() != "false"


@dataclass(frozen=True)
class Start:
    """A reason to start a pipeline: AWS's trigger, and the commit that the trigger itself names."""

    type: str
    detail: str
    pins: Mapping[str, str]


class Detection:
    """Starts the pipelines of one region when AWS would; one process runs as long as there is something to watch."""

    def __init__(self, scheduler: Scheduler, pipelines: Pipelines, repositories: Repositories) -> None:
        self._scheduler = scheduler
        self._pipelines = pipelines
        self._repositories = repositories
        self._refs: dict[str, dict[str, str]] = {}
        self._watches = False
        pipelines.watch = self.watch

    def watch(self) -> None:
        """Start the process that watches the sources, unless it runs; the caller holds the simulator's lock."""
        if not self._watches:
            self._watches = True
            self._scheduler.spawn(self._watch_sources())

    def _watched(self) -> set[str]:
        """The repositories a push to which may start a pipeline."""
        found = set()
        for pipeline in self._pipelines.all.values():
            hooked = any(
                each["TargetPipeline"] == pipeline.name for each in self._pipelines.webhooks.values()
            )
            triggered = bool(pipeline.definition.get("triggers"))
            for source in sources_of(pipeline):
                if hooked or triggered or source.detects_changes(pipeline):
                    found.add(source.repository)
        return found

    def _watch_sources(self) -> Process:
        try:
            while watched := self._watched():
                self._refs = {k: v for k, v in self._refs.items() if k in watched}
                for repository in sorted(watched):
                    yield from self._read_refs(repository)
                yield max(POLL_SECONDS, _LEAST_SECONDS * self._scheduler.speed)
        finally:
            self._watches = False
            self._refs.clear()

    def _read_refs(self, repository: str) -> Process:
        refs, failure = yield self._scheduler.run_in_thread(lambda: self._repositories.list_refs(repository))
        if failure is not None:
            if not isinstance(failure, SourceError):
                log.warning("reading the refs of %s: %s", repository, failure)
            return
        before = self._refs.get(repository)
        self._refs[repository] = refs
        if before is not None:
            for ref, sha in refs.items():
                if before.get(ref) != sha:
                    self._on_push(repository, ref, sha)

    def _on_push(self, repository: str, ref: str, sha: str) -> None:
        for pipeline in list(self._pipelines.all.values()):
            for start in self._starts(pipeline, repository, ref, sha):
                self._pipelines.start(pipeline, trigger=start.type, detail=start.detail, pins=start.pins)

    def _starts(self, pipeline: Pipeline, repository: str, ref: str, sha: str) -> Iterator[Start]:
        for source in sources_of(pipeline):
            if source.repository != repository:
                continue
            moved = ref == _HEADS + source.branch
            if moved and source.detects_changes(pipeline):
                yield _default_start(source)
            if _triggers_match(pipeline, source, ref):
                detail = source.configuration.get("ConnectionArn", source.action)
                yield Start("WebhookV2", detail, {source.action: sha})
            for name, hook in self._pipelines.webhooks.items():
                target = hook["TargetPipeline"], hook["TargetAction"]
                if target == (pipeline.name, source.action) and _webhook_matches(hook, source, ref):
                    yield Start("Webhook", pipeline.place.arn("codepipeline", f"webhook:{name}"), {})


class Rules:
    """The rules of EventBridge that have a pipeline as their target."""

    def __init__(self, scheduler: Scheduler, pipelines: Pipelines) -> None:
        self._scheduler = scheduler
        self._pipelines = pipelines
        self._rules: dict[str, dict[str, Any]] = {}

    def put(self, name: str, properties: dict[str, Any]) -> None:
        """Create or change a rule."""
        is_new = name not in self._rules
        self._rules[name] = properties
        if is_new and _RATE.fullmatch(str(properties.get("ScheduleExpression", ""))):
            self._scheduler.spawn(self._keep_schedule(name))

    def remove(self, name: str) -> None:
        """Delete a rule; its schedule ends."""
        self._rules.pop(name, None)

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Start the targets of the rules whose pattern an event matches."""
        for name, rule in list(self._rules.items()):
            pattern = rule.get("EventPattern")
            if isinstance(pattern, dict) and matches_pattern(pattern, event):
                self._start_targets(name, rule)

    def _keep_schedule(self, name: str) -> Process:
        while rule := self._rules.get(name):
            found = _RATE.fullmatch(str(rule.get("ScheduleExpression", "")))
            if found is None:
                return
            yield int(found.group(1)) * _UNITS[found.group(2)]
            if self._rules.get(name) is rule:
                self._start_targets(name, rule)

    def _start_targets(self, name: str, rule: Mapping[str, Any]) -> None:
        if rule.get("State") == "DISABLED":
            return
        arns = {str(target.get("Arn")) for target in rule.get("Targets") or []}
        for pipeline in [p for p in self._pipelines.all.values() if p.arn in arns]:
            detail = pipeline.place.arn("events", f"rule/{name}")
            self._pipelines.start(pipeline, trigger="CloudWatchEvent", detail=detail)


def sources_of(pipeline: Pipeline) -> Iterator[Source]:
    """The source actions that read a git repository through a connection or a token."""
    for action in pipeline.definition["stages"][0]["actions"]:
        given, provider = action.get("configuration") or {}, action["actionTypeId"]["provider"]
        if "FullRepositoryId" in given:
            repository, branch = given["FullRepositoryId"], given.get("BranchName", "")
        elif {"Owner", "Repo", "Branch"} <= given.keys():
            repository, branch = f"{given['Owner']}/{given['Repo']}", given["Branch"]
        else:
            continue
        yield Source(action["name"], repository, branch, provider, given)


def matches_pattern(pattern: Mapping[str, Any], event: Mapping[str, Any]) -> bool:
    """Whether an event has one of the listed values in every field of a pattern; other operators never match."""
    for name, wanted in pattern.items():
        value = event.get(name)
        if isinstance(wanted, dict):
            if not isinstance(value, dict) or not matches_pattern(wanted, value):
                return False
        elif not (set(map(str, value)) if isinstance(value, list) else {str(value)}) & set(map(str, wanted)):
            return False
    return True


def _default_start(source: Source) -> Start:
    if source.provider == "CodeStarSourceConnection":
        return Start("WebhookV2", source.configuration.get("ConnectionArn", source.action), {})
    return Start("PollForSourceChanges", source.action, {})


def _triggers_match(pipeline: Pipeline, source: Source, ref: str) -> bool:
    """Whether a push filter of the pipeline's triggers matches; paths and pull requests are not simulated."""
    for trigger in pipeline.definition.get("triggers") or []:
        settings = trigger.get("gitConfiguration") or {}
        if settings.get("sourceActionName") != source.action:
            continue
        filters = settings.get("push") or ([] if settings.get("pullRequest") else [{}])
        if any(_push_matches(each, ref) for each in filters):
            return True
    return False


def _push_matches(wanted: Mapping[str, Any], ref: str) -> bool:
    if ref.startswith(_TAGS):
        return "tags" in wanted and _name_matches(wanted["tags"], ref.removeprefix(_TAGS))
    if "tags" in wanted and "branches" not in wanted:
        return False
    return _name_matches(wanted.get("branches") or {}, ref.removeprefix(_HEADS))


def _name_matches(patterns: Mapping[str, Any], name: str) -> bool:
    included, excluded = patterns.get("includes"), patterns.get("excludes") or []
    named = included is None or any(fnmatchcase(name, each) for each in included)
    return named and not any(fnmatchcase(name, each) for each in excluded)


def _webhook_matches(hook: Mapping[str, Any], source: Source, ref: str) -> bool:
    """Whether a webhook's filters accept a push; they can compare only the payload's `ref`."""
    for each in hook.get("Filters") or []:
        wanted = str(each.get("MatchEquals", "")).replace("{Branch}", source.branch)
        if each.get("JsonPath") == "$.ref" and wanted != ref:
            return False
    return True
