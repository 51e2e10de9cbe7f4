"""What a commit's `deploy/` folder asks for: the template and parameters of one environment's stack."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from deployer.environments import Environment, ref_tags
from deployer.errors import PermanentError
from deployer.findings import Finding, refusal_text
from deployer.folder_check import FolderAnswer, FolderQuestion, examine_folder
from deployer.preferences import TEARDOWN_TAG, RepositoryConfig
from deployer.refs import Ref
from deployer.resolving import SECRET_PARAMETER
from deployer.targets import Target

_CASE_INSENSITIVE = {"RepoOwner", "RepoName"}  # GitHub compares them so, and people spell them so


@dataclass(frozen=True, slots=True)
class Release:
    """A stack to be: what is handed to CloudFormation.

    Attributes:
        template: the template's text as it stands in the repository.
        parameters: every declared parameter that has a value, without the secret one.
        needs_token: whether the template declares `RepoToken`, which only the adapter fills in.
        tags: the tags that the stack is to bear.
        teardown: how the stack is taken down, where the repository wants it otherwise than by default.
    """

    template: str
    parameters: dict[str, str]
    needs_token: bool
    tags: dict[str, str] = field(default_factory=dict)
    teardown: str = ""

    @property
    def digest(self) -> str:
        """Tells whether two releases make the same stack. Secrets and the commit's own tags are no part."""
        values = sorted(
            (name, value.lower() if name in _CASE_INSENSITIVE else value)
            for name, value in self.parameters.items()
        )
        parts = [self.template, values, self.needs_token, *([self.teardown] if self.teardown else [])]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class CheckedRelease:
    """What was found in a `deploy/` folder.

    Attributes:
        release: what is to be deployed; None where an error keeps it from being.
        findings: everything there is to be said, errors first.
        template: name of the template in `deploy/`; empty if there is none that can be read.
        lintable: whether the template can be looked at further, by a linter.
        repository_config: what the repository decides of its environments.
    """

    release: Release | None
    findings: tuple[Finding, ...]
    template: str = ""
    lintable: bool = False
    repository_config: RepositoryConfig = field(default_factory=RepositoryConfig)

    def accepted_release(self) -> Release:
        """What is to be deployed.

        Raises:
            PermanentError: there is an error; it tells the first one with file and line, and how many more there are.
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
    """Look at the files of one commit in this process, and make a release of them if nothing is wrong.

    This is for files that nobody else wrote, and for tests: those of a branch go through a `FolderEvaluator`.

    Args:
        environment, ref, branch, sha, files, given, target, region, stack_name: see `FolderQuestion`.
    """
    question = FolderQuestion(environment, ref, branch, sha, files, given, target, region, stack_name)
    return build_release(question, examine_folder(question))


def build_release(question: FolderQuestion, answer: FolderAnswer) -> CheckedRelease:
    """Make a release of what an evaluator found, if nothing is wrong.

    Everything that says which environment this is comes from the question, not from the answer, which a branch's files
    may have had a hand in.
    """
    if refusal_text(answer.findings):
        return CheckedRelease(
            None, answer.findings, answer.template, answer.lintable, answer.repository_config
        )
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
    return CheckedRelease(
        release, answer.findings, answer.template, answer.lintable, answer.repository_config
    )
