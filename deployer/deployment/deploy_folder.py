"""The `deploy/` folder at a commit, and what a stack is made from it."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from deployer.environment.context import Run, Settled
from deployer.environment.ports import Clouds, Host
from deployer.model.errors import DeployerError, PermanentError
from deployer.model.records import Cause, Outcome
from deployer.model.refs import Ref
from deployer.model.stacks import Failure
from deployer.templates.findings import Linter, refusal_text
from deployer.templates.folder_check import EvaluationFaultError, FolderEvaluator, FolderQuestion
from deployer.templates.folder_files import FOLDER, file_with_stem, has_pipeline
from deployer.templates.release import Release, build_release
from deployer.templates.repository_config import RepositoryConfig

_log = logging.getLogger(__name__)


class Sources:
    """Reads and checks what a repository provides.

    Args:
        host: GitHub.
        clouds: says where the environment lives, and what its template is given there.
        evaluator: reads and evaluates the files; this process never does, since a branch wrote them.
        linter: looks at templates before AWS does; None for no such look.
    """

    def __init__(self, host: Host, clouds: Clouds, evaluator: FolderEvaluator, linter: Linter | None) -> None:
        self._host = host
        self._clouds = clouds
        self._evaluator = evaluator
        self._linter = linter

    def read(self, run: Run, sha: str) -> dict[str, bytes]:
        if sha not in run.files:
            run.files[sha] = self._host.files(run.repository, sha, FOLDER)
        return run.files[sha]

    def preferences(self, files: Mapping[str, bytes]) -> RepositoryConfig:
        """What `deploy/deployer.yml` decides.

        Raises:
            UnreadableError: it is malformed, or too complex to be read.
            TransientError: the machine could not read it now.
        """
        return self._evaluator.read_repository_config(files)

    def files(self, run: Run) -> dict[str, bytes]:
        """The commit's files, and heed what they decide of the environment's being and age."""
        files = self.read(run, run.work.sha)
        if not has_pipeline(files):
            where = f"{FOLDER}/pipeline.yml (or .yaml, .json) at {run.work.sha[:12]}"
            raise Settled(run.done(Outcome.SKIPPED, f"there is no {where}"))
        if branch := run.environment.branch:
            wishes = self.preferences(files)
            if run.work.cause != Cause.REDEPLOY and (why_not := wishes.branch_refusal(branch)):
                raise Settled(run.done(Outcome.SKIPPED, why_not))
            run.record = run.record.but(
                ttl=wishes.ttl_of(branch.short), warn=wishes.warn_of(branch.short), sleep=wishes.sleep
            )
        return files

    def release(self, run: Run, files: Mapping[str, bytes]) -> Release:
        """What the stack is to be made from.

        Raises:
            PermanentError: something in the files is wrong, or names what is not the environment's.
        """
        ref = Ref.parse(run.work.ref)
        branch = (
            run.work.default_branch or self._host.default_branch(run.repository) if ref.is_tag else ref.branch
        )
        target, region = self._clouds.target(run.environment.kind), run.cloud.region
        given = target.given(region)
        question = FolderQuestion(
            run.environment, ref, branch, run.work.sha, files, given, target, region, run.name
        )
        return build_release(question, self._evaluator.examine_folder(question)).accepted_release()

    def checked(self, run: Run, files: Mapping[str, bytes]) -> Release:
        """The same, looked at by the linter too: before AWS is asked, but not where nothing is to change."""
        release = self.release(run, files)
        if self._linter and (name := file_with_stem(files, "pipeline")):
            found = self._linter.findings(name, release.template, [run.cloud.region])
            for each in found:
                if each.level == "note":
                    _log.warning("%s at %s: %s", run.environment, run.work.sha[:12], each)
            if why := refusal_text(found):
                raise PermanentError(why)
        return release

    def place(self, run: Run, failure: Failure) -> dict[str, Any]:
        """Where in the template what failed stands, as far as that can be told."""
        try:
            with suppress(DeployerError, Settled):
                files = self.files(run)
                if found := self._evaluator.resource_line(files, failure.resource):
                    return {"file": found[0], "line": found[1]}
        except EvaluationFaultError as error:  # the failure itself must be reported, with or without its line
            _log.error("%s: the line of %s is not known: %s", run.environment, failure.resource, error)
        return {}
