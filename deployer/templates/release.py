"""The release of a commit: template, parameters and tags of one environment's stack."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from deployer.model.environments import Environment, ref_tags
from deployer.model.errors import PermanentError
from deployer.model.refs import Ref
from deployer.model.targets import Target
from deployer.templates.evaluation.evaluator import SECRET_PARAMETER
from deployer.templates.findings import Finding, refusal_text
from deployer.templates.folder_check import FolderAnswer, FolderQuestion, examine_folder
from deployer.templates.repository_config import TEARDOWN_TAG, RepositoryConfig

_CASE_INSENSITIVE = {
    "RepoOwner",
    "RepoName",
}  # GitHub ignores case in them, and people write them in either case


@dataclass(frozen=True, slots=True)
class Release:
    """The input for one CloudFormation stack.

    Attributes:
        template: the template's text, unchanged from the repository.
        parameters: every declared parameter that has a value, except the secret one.
        needs_token: whether the template declares `RepoToken`, whose value only the AWS adapter adds.
        tags: the tags of the stack.
        teardown: the teardown policy as text if it differs from the default, otherwise empty.
    """

    template: str
    parameters: dict[str, str]
    needs_token: bool
    tags: dict[str, str] = field(default_factory=dict)
    teardown: str = ""

    @property
    def digest(self) -> str:
        """Hash that is equal for releases of the same stack. It excludes secrets and the tags of the commit."""
        values = sorted(
            (name, value.lower() if name in _CASE_INSENSITIVE else value)
            for name, value in self.parameters.items()
        )
        parts = [self.template, values, self.needs_token, *([self.teardown] if self.teardown else [])]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class CheckedRelease:
    """The result of checking a `deploy/` folder.

    Attributes:
        release: the release to deploy; None if the folder has an error.
        findings: all findings, errors first.
        template: name of the template in `deploy/`; empty if it cannot be read.
        lintable: whether the template is valid enough for a linter.
        repository_config: the repository's settings.
        conditions: name to value of each condition of the template that is known before the deployment.
    """

    release: Release | None
    findings: tuple[Finding, ...]
    template: str = ""
    lintable: bool = False
    repository_config: RepositoryConfig = field(default_factory=RepositoryConfig)
    conditions: Mapping[str, bool] = field(default_factory=dict)

    def accepted_release(self) -> Release:
        """The release to deploy.

        Raises:
            PermanentError: the folder has an error. The text contains the first error with file and line, and the
                number of others.
        """
        if self.release is None:
            raise PermanentError(refusal_text(self.findings))
        return self.release


def check_release(
    environment: Environment,
    ref: Ref,
    branch: str,
    sha: str,
    files: Mapping[str, bytes],
    given: Mapping[str, str],
    target: Target | None = None,
    region: str = "",
    stack_name: str = "",
) -> CheckedRelease:
    """Check the files of one commit in this process, and build the release if they have no error.

    Use this only for trusted files and in tests. The files of a branch go through a `FolderEvaluator`.

    Args:
        environment, ref, branch, sha, files, given, target, region, stack_name: see `FolderQuestion`.
    """
    question = FolderQuestion(environment, ref, branch, sha, files, given, target, region, stack_name)
    return build_release(question, examine_folder(question))


def build_release(question: FolderQuestion, answer: FolderAnswer) -> CheckedRelease:
    """Build the release from an evaluator's answer, if the answer has no error.

    Every value that identifies the environment comes from the question. The answer is not trusted, because a branch's
    files may have influenced it.
    """
    if refusal_text(answer.findings):
        return _checked_release(None, answer)
    supplied = question.supplied_parameters(answer.repository_config)
    parameters = {
        name: supplied.get(name, value)
        for name, value in answer.parameters.items()
        if name != SECRET_PARAMETER
    }
    template = question.files[answer.template].decode("utf-8-sig")
    own_teardown = answer.repository_config.custom_teardown_text
    release = Release(template, parameters, answer.needs_token, teardown=own_teardown)
    tags = {
        **ref_tags(question.ref.name),
        "deployer:commit": question.sha,
        "deployer:digest": release.digest,
        TEARDOWN_TAG: answer.repository_config.teardown_text,
        **question.environment.tags,
    }
    release = replace(release, tags=tags)
    return _checked_release(release, answer)


def _checked_release(release: Release | None, answer: FolderAnswer) -> CheckedRelease:
    return CheckedRelease(
        release,
        answer.findings,
        answer.template,
        answer.lintable,
        answer.repository_config,
        answer.conditions,
    )
