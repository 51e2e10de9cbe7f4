"""A ref has moved: whether GitHub's answer is news already, and what follows of it for an environment."""

from collections.abc import Callable
from dataclasses import replace

from deployer.deployment.deploy_folder import Sources
from deployer.environment.context import Run, Settled
from deployer.environment.ports import Head, Host
from deployer.model.environments import Kind
from deployer.model.errors import PermanentError
from deployer.model.records import Cause, EnvironmentRecord, Outcome
from deployer.model.refs import Ref, skip_reason
from deployer.queue.step_results import Snooze
from deployer.templates.folder_files import UnreadableError
from deployer.templates.repository_config import NamePatterns

_STALE_SECONDS = 30  # GitHub's API has been seen to lag behind its own webhooks by some seconds
_STALE_WAIT = 2
_ON_ITS_WAY = {"pending", "waiting", "provisioning", "updating", "running"}


class Moves:
    """Follows a ref to where it is.

    Args:
        host: GitHub.
        sources: what a repository wishes at a commit.
        clock: epoch seconds.
    """

    def __init__(self, host: Host, sources: Sources, clock: Callable[[], float]) -> None:
        self._host = host
        self._sources = sources
        self._clock = clock

    def refuse_stale(self, run: Run, head: Head | None) -> None:
        """Come back later if GitHub's API still tells where the ref was before the push that brought us here."""
        # by Redis's clock, as when the push came: a worker whose own is ahead must not give up waiting
        work, now = run.work, run.work.began_at or self._clock()
        live = head.object if head else None
        if work.cause in {Cause.PUSH, Cause.DELETION}:
            expected = None if work.cause == Cause.DELETION else work.after
            before, since = work.before, work.accepted_at
            # a ref that was deleted in between names no place where it was: the last push does
            if not 0 < work.pushed_at < run.record.pushed_at:
                before = f"{before},{run.record.moved_to}"
        else:
            expected, before, since = "", run.record.moved_from, run.record.moved_at
        stale = live is not None and live in before.split(",") and live != expected
        if live is None:
            stale, since = self._unborn(run)
        if stale and now - since < _STALE_SECONDS:
            raise Settled(Snooze(work, _STALE_WAIT, run.record))

    def _unborn(self, run: Run) -> tuple[bool, float]:
        """Whether "the ref is gone" contradicts a push that is known, and when that push came."""
        work, record = run.work, run.record
        if work.cause == Cause.PUSH:
            return True, work.accepted_at
        at, to = max((work.replaced_at, work.replaced_after), (record.moved_at, record.moved_to))
        if work.cause == Cause.DELETION:
            # it deleted the object that it names first; a push to anything else came after it
            return bool(to) and to != work.before.partition(",")[0], at
        return bool(to), at

    def take(
        self, run: Run, ref: Ref, head: Head, admit: Callable[[Run, Ref, Head, str], None] | None = None
    ) -> None:
        """Let the environment be of a ref, at the commit that it is at or that a person chose.

        Args:
            run: the task.
            ref: the ref.
            head: where it is.
            admit: of production, the gate: asked about the commit before the record says that it is wanted.

        Raises:
            Settled: its people do not want that deployed, or the gate refuses it.
        """
        work = run.work
        held = _is_held(run, ref, head)
        asks_its_people = work.cause != Cause.REDEPLOY and not held
        sha = work.sha if work.chosen else (run.record.commit if held else head.sha)
        if asks_its_people and (reason := skip_reason(ref, head.message)):
            if run.wakes and run.record.commit:
                sha = run.record.commit  # what slept, as if nobody had pushed
            elif work.cause != Cause.PUSH or ref.is_tag or work.after in {"", head.object}:
                run.record = run.record if ref.is_tag else run.record.but(held_at=head.object)
                ended = run.done(Outcome.SKIPPED, reason, ref=ref.name, commit=sha)
                raise Settled(replace(ended, commit=sha))
            else:
                sha = work.after  # what was pushed after it asks to be skipped, this push itself did not
        if work.chosen:
            self._refuse_unknown(run, sha)
        if asks_its_people and (reason := self._unwanted(run, ref, sha)):
            if not ref.is_tag:
                run.record = run.record.but(held_at=head.object, used_at=self._clock(), aged="")
            if run.wakes:
                run.note("deleted", reason=reason)
            of_branch = {} if ref.is_tag else {"ref": ref.name, "commit": sha}
            raise Settled(replace(run.done(Outcome.SKIPPED, reason, **of_branch), commit=sha))
        if admit:
            admit(run, ref, head, sha)
        run.work = work.but(ref=ref.name, sha=sha)
        self._note_taken(run, ref, head, held=held)

    def _note_taken(self, run: Run, ref: Ref, head: Head, *, held: bool) -> None:
        """Let the record say that the work's commit is wanted."""
        work, sha = run.work, run.work.sha
        moved = sha != run.record.commit
        if work.cause in {Cause.PUSH, Cause.REDEPLOY} or moved or not run.record.used_at:
            run.record = run.record.but(used_at=self._clock())
        if moved:
            run.note("pending", outcome="", reason="", execution="", warned_at=0)
        run.record = run.record.but(aged="")
        chosen = sha != head.sha or (ref.is_tag and (ref.name != run.record.ref or bool(run.record.held_at)))
        stays = held or (chosen and (work.cause == Cause.REDEPLOY or run.wakes))
        run.record = run.record.but(ref=ref.name, commit=sha, held_at=head.object if stays else "")
        if work.cause == Cause.PUSH:
            run.record = run.record.but(
                moved_from=work.before,
                moved_to=work.after,
                moved_at=work.accepted_at,
                pushed_at=work.pushed_at,
            )

    def _unwanted(self, run: Run, ref: Ref, sha: str) -> str:
        """Why the repository does not want this commit deployed, asked before the record says that it is."""
        record = run.record
        if ref.is_tag:  # the gate decides, by rules that no tag can change
            return ""
        if not record.outcome:
            return ""  # a new branch's files are read when its stack is made, and once is enough
        try:
            wishes = self._sources.preferences(self._sources.read(run, sha))
        except UnreadableError:
            return ""  # told where all of the release is looked at
        if run.environment.kind is Kind.DEVELOPMENT and (why_not := wishes.branch_refusal(ref)):
            return why_not
        # without an execution a part of what was deployed may be deleted
        whole = record.outcome == Outcome.DEPLOYED and record.execution and not is_on_its_way(record)
        runs = record.commit if whole else ""
        if wishes.paths == NamePatterns() or runs in {"", sha}:
            return ""
        files = self._host.changed(run.repository, runs, sha)  # whatever was skipped in between counts, too
        if files is None or wishes.concerns_files(files):
            return ""
        return f"nothing among the paths of deploy/deployer.yml has changed since {runs[:12]}"

    def _refuse_unknown(self, run: Run, sha: str) -> None:
        """Leave the environment as it is if a person names a commit that is not there."""
        try:
            self._sources.read(run, sha)
        except PermanentError as error:
            raise Settled(run.done(Outcome.SKIPPED, f"{error}; nothing was changed")) from error


def _is_held(run: Run, ref: Ref, head: Head) -> bool:
    """Whether a resync leaves it at its commit: a person chose that, or its ref has asked for nothing since."""
    record = run.record
    ended = record.outcome in {Outcome.DEPLOYED, Outcome.FAILED} or run.wakes or record.comes_back
    looks = run.work.cause == Cause.RESYNC and bool(record.commit)
    return looks and ended and (record.ref, record.held_at) == (ref.name, head.object)


def is_on_its_way(record: EnvironmentRecord) -> bool:
    """Whether a goal has begun to deploy the record's commit, and none has told the end of that."""
    return record.state in _ON_ITS_WAY and record.outcome in {"", Outcome.DEPLOYED, Outcome.FAILED}
