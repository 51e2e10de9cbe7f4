"""The commit that a ref asks for: whether GitHub's answer is fresh, and whether the commit is wanted."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from deployer.deployment.deploy_folder import DeployFolder, DeployFolderReader
from deployer.deployment.desired_state import Deploy
from deployer.environment.code_host import CodeHost, Head
from deployer.environment.context import ReconcileContext, Stop
from deployer.model.environment_record import Deletion, EnvironmentRecord
from deployer.model.environments import Kind
from deployer.model.errors import PermanentError
from deployer.model.outcomes import Outcome
from deployer.model.refs import Ref, skip_reason
from deployer.queue.items import Cause
from deployer.queue.step_results import WaitUntil
from deployer.templates.folder_files import UnreadableError
from deployer.templates.repository_config import NamePatterns

_STALE_SECONDS = 30  # GitHub's API lags behind its own webhooks by some seconds
_STALE_WAIT = 2
_UNFINISHED_STATES = {"pending", "waiting", "provisioning", "updating", "running"}

Admit = Callable[[ReconcileContext, Ref, Head, str], ReconcileContext | Stop]
"""Production's gate: it returns the context with the admission of a commit, or stops because it refuses the commit."""


@dataclass(frozen=True, slots=True)
class _Choice:
    """A commit of a ref.

    Attributes:
        ref: the branch or tag.
        head: where GitHub has the ref.
        sha: the commit to deploy.
        pinned: whether a resync leaves the environment at its commit.
        folder: the `deploy/` folder at the commit, if it was read.
    """

    ref: Ref
    head: Head
    sha: str
    pinned: bool
    folder: DeployFolder | None = None


class RefTracker:
    """Chooses the commit that an environment runs, from the ref that it follows.

    Args:
        host: GitHub.
        folders: reads the repository's settings at a commit.
        clock: epoch seconds.
    """

    def __init__(self, host: CodeHost, folders: DeployFolderReader, clock: Callable[[], float]) -> None:
        self._host = host
        self._folders = folders
        self._clock = clock

    def wait_for_fresh_read(self, context: ReconcileContext, head: Head | None) -> Stop | None:
        """Come back later if GitHub's API still returns where the ref was before the push of this queue item."""
        # Redis's clock, as for the time of the push: a worker whose own clock is ahead must not stop waiting too early
        work, now = context.work, context.work.log.began_at or self._clock()
        live = head.object if head else None
        if work.cause in {Cause.PUSH, Cause.DELETION}:
            expected = None if work.cause == Cause.DELETION else work.push.after
            before, since = work.push.before, work.accepted_at
            # the push of a ref that was deleted in between does not name the former object: the last push does
            if not 0 < work.push.pushed_at < context.record.history.pushed_at:
                before = f"{before},{context.record.history.moved_to}"
        else:
            expected, before, since = "", context.record.history.moved_from, context.record.history.moved_at
        stale = live is not None and live in before.split(",") and live != expected
        if live is None:
            stale, since = _missing_ref_is_stale(context)
        if stale and now - since < _STALE_SECONDS:
            return Stop(WaitUntil(work, _STALE_WAIT, context.record))
        return None

    def choose_commit(
        self, context: ReconcileContext, ref: Ref, head: Head, admit: Admit | None = None
    ) -> Deploy | Stop:
        """Let the environment run a ref, at the ref's commit or at the commit that a person chose.

        Args:
            context: the task.
            ref: the branch or tag.
            head: where GitHub has it.
            admit: production's gate, which is asked before the record says that the commit is wanted.

        Returns:
            A stop if the commit or the repository's settings ask for no deployment, or the gate refuses the commit.
        """
        work = context.work
        pinned = _is_pinned(context, ref, head)
        asks_repository = work.cause != Cause.REDEPLOY and not pinned
        sha = work.spec.sha if work.spec.chosen else (context.record.spec.commit if pinned else head.sha)
        if asks_repository and (reason := skip_reason(ref, head.message)):
            former = _commit_before_skipped(context, ref, head)
            if not former:
                return _skip_commit(context, ref, head, sha, reason)
            sha = former
        choice = _Choice(ref, head, sha, pinned)
        if work.spec.chosen:
            try:
                choice = replace(choice, folder=self._folders.read_folder(context, sha))
            except PermanentError as error:  # a person named a commit that does not exist
                return Stop(context.done(Outcome.SKIPPED, f"{error}; nothing was changed"))
        if (
            asks_repository and not ref.is_tag
        ):  # the gate decides about a tag, by rules that no tag can change
            choice, reason = self._refusal_of_repository(context, choice)
            if reason:
                return self._leave_commit(context, choice, reason)
        if admit:
            admitted = admit(context, ref, head, sha)
            if isinstance(admitted, Stop):
                return admitted
            context = admitted
        return Deploy(self._record_choice(context.with_work(ref=ref.name, sha=sha), choice), choice.folder)

    def _leave_commit(self, context: ReconcileContext, choice: _Choice, reason: str) -> Stop:
        """Stop at a commit of a branch that the repository's settings exclude."""
        context = context.with_record(held_at=choice.head.object, used_at=self._clock(), aged="")
        if context.wakes:
            context = context.enter_state("deleted", reason=reason)
        ended = context.done(Outcome.SKIPPED, reason, ref=choice.ref.name, commit=choice.sha)
        return Stop(replace(ended, commit=choice.sha))

    def _record_choice(self, context: ReconcileContext, choice: _Choice) -> ReconcileContext:
        """Record that the commit is wanted."""
        work, ref, head, sha = context.work, choice.ref, choice.head, choice.sha
        is_new = sha != context.record.spec.commit
        if work.cause in {Cause.PUSH, Cause.REDEPLOY} or is_new or not context.record.history.used_at:
            context = context.with_record(used_at=self._clock())
        if is_new:
            context = context.enter_state("pending", outcome="", reason="", execution="", warned_at=0)
        context = context.with_record(aged="", deletion=Deletion())
        record = context.record
        chosen = sha != head.sha or (
            ref.is_tag and (ref.name != record.spec.ref or bool(record.spec.held_at))
        )
        stays = choice.pinned or (chosen and (work.cause == Cause.REDEPLOY or context.wakes))
        context = context.with_record(ref=ref.name, commit=sha, held_at=head.object if stays else "")
        if work.cause != Cause.PUSH:
            return context
        return context.with_record(
            moved_from=work.push.before,
            moved_to=work.push.after,
            moved_at=work.accepted_at,
            pushed_at=work.push.pushed_at,
        )

    def _refusal_of_repository(self, context: ReconcileContext, choice: _Choice) -> tuple[_Choice, str]:
        """Why the repository's settings exclude the commit of a branch; asked before the record says it is wanted."""
        record = context.record
        if not record.status.outcome:
            return (
                choice,
                "",
            )  # the files of a new branch are read before its stack is created, and once is enough
        try:
            folder = self._folders.read_folder(context, choice.sha, choice.folder)
        except UnreadableError:
            return choice, ""  # the error is reported when the release is built
        folder = self._folders.parse_config(folder)
        choice, config = replace(choice, folder=folder), folder.config
        if config is None:
            return choice, ""  # likewise
        if context.environment.kind is Kind.DEVELOPMENT and (why_not := config.branch_refusal(choice.ref)):
            return choice, why_not
        # without an execution, a part of what was deployed may be deleted
        complete = (
            record.status.outcome == Outcome.DEPLOYED
            and record.status.pipeline.execution
            and not is_unfinished(record)
        )
        deployed = record.spec.commit if complete else ""
        if config.paths == NamePatterns() or deployed in {"", choice.sha}:
            return choice, ""
        # the comparison includes the commits that were skipped in between
        files = self._host.changed_paths(context.repository, deployed, choice.sha)
        if files is None or config.concerns_files(files):
            return choice, ""
        return choice, f"nothing among the paths of deploy/deployer.yml has changed since {deployed[:12]}"


def _commit_before_skipped(context: ReconcileContext, ref: Ref, head: Head) -> str:
    """The commit to deploy although the head asks to be skipped; empty if there is none."""
    work = context.work
    if context.wakes and context.record.spec.commit:
        return context.record.spec.commit  # the environment wakes with its former commit
    if work.cause != Cause.PUSH or ref.is_tag or work.push.after in {"", head.object}:
        return ""
    return work.push.after  # a later push asks to be skipped; the push of this queue item did not


def _skip_commit(context: ReconcileContext, ref: Ref, head: Head, sha: str, reason: str) -> Stop:
    """Stop at a commit whose message asks to be skipped."""
    if not ref.is_tag:
        context = context.with_record(held_at=head.object)
    return Stop(replace(context.done(Outcome.SKIPPED, reason, ref=ref.name, commit=sha), commit=sha))


def _missing_ref_is_stale(context: ReconcileContext) -> tuple[bool, float]:
    """Whether the answer "no such ref" contradicts a known push, and when that push came."""
    work, record = context.work, context.record
    if work.cause == Cause.PUSH:
        return True, work.accepted_at
    at, to = max(
        (work.push.replaced_at, work.push.replaced_after), (record.history.moved_at, record.history.moved_to)
    )
    if work.cause == Cause.DELETION:
        # the first object that the deletion names is the deleted one; a push to any other object came later
        return bool(to) and to != work.push.before.partition(",")[0], at
    return bool(to), at


def _is_pinned(context: ReconcileContext, ref: Ref, head: Head) -> bool:
    """Whether a resync leaves the environment at its commit: a person chose it, or its ref asked for nothing since."""
    record = context.record
    ended = record.status.outcome in {Outcome.DEPLOYED, Outcome.FAILED} or context.wakes or record.comes_back
    is_resync = context.work.cause == Cause.RESYNC and bool(record.spec.commit)
    return is_resync and ended and (record.spec.ref, record.spec.held_at) == (ref.name, head.object)


def is_unfinished(record: EnvironmentRecord) -> bool:
    """Whether a goal has begun to deploy the record's commit and its end is not recorded."""
    return record.status.state in _UNFINISHED_STATES and record.status.outcome in {
        "",
        Outcome.DEPLOYED,
        Outcome.FAILED,
    }
