"""The source actions of a pipeline: what each reads, and which setting lets AWS start the pipeline at a change.

The keys and defaults are those of https://docs.aws.amazon.com/codepipeline/latest/userguide/action-reference.html
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from deployer.model.environments import Repository
from deployer.model.refs import Ref


@dataclass(frozen=True, slots=True)
class SourceProvider:
    """The keys in the configuration of a provider's source action.

    Attributes:
        start_key: the setting that lets AWS start the pipeline at a change; its default is on.
        repository_keys: the settings that name the repository at GitHub; empty if the provider reads no such one.
        branch_key: the setting that names the branch; empty as above.
    """

    start_key: str
    repository_keys: tuple[str, ...] = ()
    branch_key: str = ""


SOURCE_PROVIDERS: Mapping[str, SourceProvider] = {
    "CodeStarSourceConnection": SourceProvider("DetectChanges", ("FullRepositoryId",), "BranchName"),
    "GitHub": SourceProvider("PollForSourceChanges", ("Owner", "Repo"), "Branch"),
    "CodeCommit": SourceProvider("PollForSourceChanges"),
    "S3": SourceProvider("PollForSourceChanges"),
}
"""The providers whose actions AWS watches by itself. It starts a pipeline for an image in ECR only by an event rule."""


def is_pipeline_variable(text: str) -> bool:
    """Whether a configuration's value contains a variable that gets its value only when an execution starts."""
    return "#{" in text


@dataclass(frozen=True, slots=True)
class SourceLocation:
    """What the source of an environment's pipeline must read.

    Attributes:
        repository: the repository of the environment.
        branch: the branch; empty for a tag, whose commit is pinned whatever the branch is.
    """

    repository: Repository
    branch: str = ""

    @classmethod
    def of_ref(cls, repository: Repository, ref: Ref) -> "SourceLocation":
        """What is read to deploy a ref."""
        return cls(repository, "" if ref.is_tag else ref.branch)

    def expected_values(self, provider: SourceProvider) -> dict[str, str]:
        """The value of each repository key of a provider that reads this repository."""
        keys, repository = provider.repository_keys, self.repository
        parts = (repository.full_name,) if len(keys) == 1 else (repository.owner, repository.name)
        return dict(zip(keys, parts, strict=False))


@dataclass(frozen=True, slots=True)
class SourceAction:
    """A source action of a pipeline as AWS has it, so that every value is known.

    Attributes:
        name: the name of the action.
        provider: the name of its provider.
        configuration: its settings.
        artifacts: the names of its output artifacts.
    """

    name: str
    provider: str
    configuration: Mapping[str, str] = field(default_factory=dict)
    artifacts: Collection[str] = ()

    @property
    def started_by(self) -> str:
        """The setting by which AWS starts the pipeline at a change; empty if AWS does not."""
        known = SOURCE_PROVIDERS.get(self.provider)
        if known is None or self.configuration.get(known.start_key, "true").lower() == "false":
            return ""
        return known.start_key

    def reads_repository(self, location: SourceLocation) -> bool:
        """Whether the action reads the repository, at any branch."""
        known = SOURCE_PROVIDERS.get(self.provider)
        if known is None or not known.repository_keys:
            return False
        expected = location.expected_values(known)
        # GitHub ignores case in them
        return all(self.configuration.get(k, "").lower() == v.lower() for k, v in expected.items())

    def reads_branch(self, location: SourceLocation) -> bool:
        """Whether an action that reads the repository does so at the location's branch."""
        branch = self.configuration.get(SOURCE_PROVIDERS[self.provider].branch_key, "")
        return not location.branch or branch == location.branch or is_pipeline_variable(branch)


def pinned_actions(actions: Sequence[SourceAction], location: SourceLocation) -> list[SourceAction]:
    """The actions on which a commit of the repository is pinned: every one that reads it, whatever its position."""
    return [each for each in actions if each.reads_repository(location)]


def start_problem(actions: Sequence[SourceAction], location: SourceLocation, *, has_triggers: bool) -> str:
    """Why deployer does not start a pipeline, with the remedy; empty if it does.

    Args:
        actions: the pipeline's source actions.
        location: what the pipeline must read.
        has_triggers: whether the pipeline has triggers of its own.
    """
    if has_triggers:
        return "it has Triggers, by which AWS starts it; remove them"
    for each in actions:
        if key := each.started_by:
            return f"AWS starts it when the source of {each.name} changes; write {key}: false there"
    pinned = pinned_actions(actions, location)
    if not pinned:
        return f"no source action reads {location.repository}; add one, or correct the repository of an existing one"
    if not any(each.reads_branch(location) for each in pinned):
        return f"no source action reads {location.repository} at {location.branch}; write BranchName: !Ref RepoBranch"
    return ""
