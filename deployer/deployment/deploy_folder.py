"""The `deploy/` folder at a commit, and the release that is built from it."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from deployer.environment.cloud_region import Clouds
from deployer.environment.code_host import CodeHost
from deployer.environment.context import ReconcileContext, Stop
from deployer.model.environments import Kind
from deployer.model.errors import DeployerError, PermanentError
from deployer.model.outcomes import Outcome
from deployer.model.refs import Ref
from deployer.model.stacks import Failure
from deployer.queue.items import Cause
from deployer.templates.findings import Linter, refusal_text
from deployer.templates.folder_check import EvaluationFaultError, FolderEvaluator, FolderQuestion
from deployer.templates.folder_files import FOLDER, UnreadableError, file_with_stem, has_pipeline
from deployer.templates.release import CheckedRelease, Release, build_release
from deployer.templates.repository_config import RepositoryConfig

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DeployFolder:
    """The `deploy/` folder at one commit, as one task read it.

    Attributes:
        commit: the commit.
        files: name to content of the recognized files.
        config: the settings in `deploy/deployer.yml`; None if they were not parsed yet or are unreadable.
        unreadable: why the settings are unreadable; None otherwise.
    """

    commit: str
    files: Mapping[str, bytes]
    config: RepositoryConfig | None = None
    unreadable: UnreadableError | None = None

    @property
    def readable_config(self) -> RepositoryConfig:
        """The settings in `deploy/deployer.yml`, which must have been parsed.

        Raises:
            UnreadableError: the file is malformed or too complex.
        """
        if self.unreadable:
            raise self.unreadable
        if self.config is None:
            raise AssertionError(f"the settings at {self.commit} were not parsed")
        return self.config


class DeployFolderReader:
    """Reads and checks the `deploy/` folder of a repository.

    Args:
        host: GitHub.
        clouds: supplies the target of the environment and the parameters for its template.
        evaluator: parses and evaluates the files in another process, because a branch may contain anything.
        linter: checks templates before AWS does; None for no such check.
    """

    def __init__(
        self, host: CodeHost, clouds: Clouds, evaluator: FolderEvaluator, linter: Linter | None
    ) -> None:
        self._host = host
        self._clouds = clouds
        self._evaluator = evaluator
        self._linter = linter

    def read_folder(
        self, context: ReconcileContext, commit: str, known: DeployFolder | None = None
    ) -> DeployFolder:
        """Read the folder at a commit, unless this task has read it already.

        Args:
            context: the task.
            commit: the commit.
            known: the folder that the task has read, if any.

        Raises:
            PermanentError: GitHub has no such commit, or a file is no regular file.
        """
        if known and known.commit == commit:
            return known
        return DeployFolder(commit, self._host.files(context.repository, commit, FOLDER))

    def parse_config(self, folder: DeployFolder) -> DeployFolder:
        """Parse `deploy/deployer.yml`, unless this task has parsed it already.

        Returns:
            The folder with its settings, or with the reason why they are unreadable.

        Raises:
            TransientError: the machine has no capacity for that now.
        """
        if folder.config or folder.unreadable:
            return folder
        try:
            return replace(folder, config=self._evaluator.read_repository_config(folder.files))
        except UnreadableError as error:
            return replace(folder, unreadable=error)

    def read_wanted_folder(
        self, context: ReconcileContext, known: DeployFolder | None = None
    ) -> tuple[ReconcileContext, DeployFolder] | Stop:
        """Read the folder at the commit of the goal, and copy its settings for the URL and for expiry into the record.

        Args:
            context: the task.
            known: the folder that the task has read, if any.

        Returns:
            A stop if the folder says that no environment is wanted: it has no pipeline, or excludes the branch.

        Raises:
            UnreadableError: `deploy/deployer.yml` is malformed or too complex.
        """
        folder = self.read_folder(context, context.work.spec.sha, known)
        if not has_pipeline(folder.files):
            where = f"{FOLDER}/pipeline.yml (or .yaml, .json) at {context.work.spec.sha[:12]}"
            return Stop(context.done(Outcome.SKIPPED, f"there is no {where}"))
        folder = self.parse_config(folder)
        branch = context.environment.branch
        if branch is None:
            return self._with_staging_settings(context, folder), folder
        config = folder.readable_config
        if context.work.cause != Cause.REDEPLOY and (why_not := config.branch_refusal(branch)):
            return Stop(context.done(Outcome.SKIPPED, why_not))
        context = context.with_record(
            ttl=config.ttl_of(branch.short),
            warn=config.warning_time_of(branch.short),
            sleep=config.sleep,
            url_output=config.url,
        )
        return context, folder

    @staticmethod
    def _with_staging_settings(context: ReconcileContext, folder: DeployFolder) -> ReconcileContext:
        """Copy the settings of staging or production into the record; the release reports an error."""
        config = folder.config
        if config is None:
            return context
        context = context.with_record(url_output=config.url)
        if context.environment.kind is not Kind.STAGING:
            return context
        # what the default branch wants of skipped commits, and of environments whose pull request is closed
        return context.with_record(skipped=config.skipped, closed=config.closed)

    def build_release(self, context: ReconcileContext, folder: DeployFolder) -> Release:
        """Build the release of the goal's commit, from which the stack is created or updated.

        Raises:
            PermanentError: a file has an error, or the template names what this environment may not use.
        """
        return self._check_release(context, folder).accepted_release()

    def _check_release(self, context: ReconcileContext, folder: DeployFolder) -> CheckedRelease:
        ref = Ref.parse(context.work.spec.ref)
        if ref.is_tag:
            branch = context.work.push.default_branch or self._host.default_branch(context.repository)
        else:
            branch = ref.branch
        target, region = self._clouds.target(context.environment.kind), context.cloud.region
        question = FolderQuestion(
            context.environment,
            ref,
            branch,
            context.work.spec.sha,
            folder.files,
            target.given(region),
            target,
            region,
            context.name,
            folder.config,
        )
        return build_release(question, self._evaluator.examine_folder(question))

    def build_linted_release(self, context: ReconcileContext, folder: DeployFolder) -> Release:
        """Build the release for an order, and let the linter check its template before AWS does.

        Raises:
            PermanentError: as `build_release`, or the linter found an error.
        """
        checked = self._check_release(context, folder)
        release = checked.accepted_release()
        if self._linter and (name := file_with_stem(folder.files, "pipeline")):
            found = self._linter.findings(name, release.template, [context.cloud.region], checked.conditions)
            for each in found:
                if each.level == "note":
                    _log.warning("%s at %s: %s", context.environment, context.work.spec.sha[:12], each)
            if why := refusal_text(found):
                raise PermanentError(why)
        return release

    def locate_failure(
        self, context: ReconcileContext, failure: Failure, known: DeployFolder | None = None
    ) -> tuple[ReconcileContext, dict[str, Any]]:
        """Find file and line of the resource that failed.

        Args:
            context: the task.
            failure: the first resource that failed in AWS.
            known: the folder that the task has read, if any.

        Returns:
            The context with the folder's settings for expiry, and `file` and `line`; nothing if they cannot be found.
        """
        try:
            with suppress(DeployerError):
                read = self.read_wanted_folder(context, known)
                if isinstance(read, Stop):
                    return context, {}
                context, folder = read
                if found := self._evaluator.line_of_resource(folder.files, failure.resource):
                    return context, {"file": found[0], "line": found[1]}
        except EvaluationFaultError as error:  # the failure itself must be reported, with or without its line
            _log.error("%s: the line of %s is not known: %s", context.environment, failure.resource, error)
        return context, {}
