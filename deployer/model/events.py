"""Events of GitHub or AWS as typed values, whatever their transport."""

from dataclasses import dataclass

from deployer.model.environments import Repository
from deployer.model.refs import Ref


@dataclass(frozen=True, slots=True)
class Push:
    """A ref was created, moved or deleted on GitHub.

    Attributes:
        before: the commit or tag object before, all zeros if the ref was created.
        after: the commit or tag object after, all zeros if the ref was deleted.
        message: the head commit's message, empty where it was not told.
        pushed_at: when GitHub took the push, in epoch seconds; 0 where it was not told.
        repository_id: GitHub's own number of the repository; 0 where it was not told.
        commit: the commit that the ref points to: of an annotated tag not the tag object; empty if it was deleted.
    """

    delivery: str
    repository: Repository
    ref: Ref
    before: str
    after: str
    default_branch: str
    message: str = ""
    pushed_at: float = 0
    repository_id: int = 0
    commit: str = ""

    @property
    def deleted(self) -> bool:
        """Whether the ref is gone."""
        return not self.after.strip("0")  # 40 zeros, or 64 where commits have SHA-256 ids


@dataclass(frozen=True, slots=True)
class RepositoryChange:
    """Something happened to repositories as a whole: renamed, archived, out of reach.

    Attributes:
        about: the event and its action.
        repositories: those to look at, the one that the event is about first.
        owner: where it names none: all that are known of this owner.
        word: `deleted` or `removed` where GitHub's API could afterwards say no more than "not found".
    """

    delivery: str
    about: str
    repositories: tuple[Repository, ...] = ()
    owner: str = ""
    word: str = ""


@dataclass(frozen=True, slots=True)
class Ping:
    """GitHub asks whether the webhook works."""

    delivery: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A delivery that calls for nothing, and why.

    Attributes:
        repository: None where the event names none.
        ref: what was pushed, if that is neither a branch nor a tag.
    """

    delivery: str
    reason: str
    repository: Repository | None = None
    ref: str = ""


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """CodePipeline or CloudFormation says that a pipeline or stack changed.

    Attributes:
        stack_name: the stack's name, which is the pipeline's too.
        about: what happened in words, such as `stage Build: SUCCEEDED`.
        execution: the pipeline execution, or None for a stack's event.
        account, region: where it happened; empty where the event does not say it.
    """

    delivery: str
    stack_name: str
    about: str
    execution: str | None = None
    account: str = ""
    region: str = ""
