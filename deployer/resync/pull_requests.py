"""Gives the head of each pull request the status `deployer`, because a required status that never comes blocks it."""

from collections.abc import Callable, Iterable

from deployer.environment.code_host import PullRequestHead
from deployer.environment.pull_comment import PullRequestComments
from deployer.model.display import SUMMARY
from deployer.model.environment_record import is_over
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.events import PullRequestChange
from deployer.model.refs import Ref
from deployer.outbox.store import Outbox
from deployer.queue.items import Cause, Work
from deployer.queue.skipped_commits import show_skip
from deployer.queue.store import QueueStore
from deployer.queue.submit import Answer, WorkSubmitter
from deployer.templates.repository_config import DELETE

_FORK = "fork"  # the key under which the head of a fork is shown, because a fork has no environment
_MOST_READS = 5  # of a record, until its comment is up to date


class PullRequests:
    """Repairs the heads of pull requests that show nothing of deployer's.

    A push deploys its commit, and so gives it the status. There is no such push of a fork, nor of a branch that was
    pushed before deployer was installed.

    Args:
        lanes: the records of the environments.
        outbox: what GitHub should show.
        submitter: queues the check of an environment.
        comments: composes the comment on the pull requests of a branch.
        allows: whether the installation serves a repository.
    """

    def __init__(
        self,
        lanes: QueueStore,
        outbox: Outbox,
        submitter: WorkSubmitter,
        comments: PullRequestComments,
        allows: Callable[[Repository], bool],
    ) -> None:
        self._lanes = lanes
        self._outbox = outbox
        self._submitter = submitter
        self._comments = comments
        self._allows = allows

    def submit(self, event: PullRequestChange) -> Answer:
        """Submit an event of a pull request.

        Raises:
            UnavailableError: Redis is unavailable; nothing was recorded of the delivery.
        """
        if not self._allows(event.repository):
            return self._submitter.submit_github(event)
        if event.action == "closed":
            return self._submit_closed(event)
        head = PullRequestHead(event.number, event.head, event.sha, event.from_fork)
        environment = Environment.of_ref(event.repository, event.head, event.default_branch)
        if event.action != "synchronize" and not event.from_fork:
            if self._is_deleted_by_close(environment):
                work = Work.of(environment=environment.key, cause=Cause.REDEPLOY, turned=True)
                return self._submitter.submit_work(environment, work, event.delivery, event.about)
            self._show_comment(environment, event.delivery)
        if reason := self._show_without_check(event.repository, head, event.default_branch):
            return self._submitter.record_ignored(event.delivery, reason, event.repository)
        return self._check_environment(environment, event.head, event.delivery, event.about)

    def _submit_closed(self, event: PullRequestChange) -> Answer:
        """Queue the teardown of a branch whose pull request was closed, if the default branch asks for that.

        The task reads again what GitHub says, before anything is deleted.
        """
        environment = Environment.of_ref(event.repository, event.head, event.default_branch)
        staging = self._lanes.environment(Environment(event.repository, Kind.STAGING))
        if event.from_fork or environment.kind is not Kind.DEVELOPMENT:
            return self._submitter.submit_github(event)
        record = self._lanes.environment(environment)
        if staging is None or staging.spec.closed != DELETE or record is None or is_over(record):
            return self._submitter.submit_github(event)
        work = Work.of(
            environment=environment.key,
            cause=Cause.TEARDOWN,
            pull=event.number,
            ref=event.head.name,
            turned=True,
        )
        return self._submitter.submit_work(environment, work, event.delivery, event.about)

    def _is_deleted_by_close(self, environment: Environment) -> bool:
        record = self._lanes.environment(environment)
        return record is not None and bool(record.spec.deletion.pull)

    def _check_environment(
        self, environment: Environment, ref: Ref, delivery: str = "", event: str = ""
    ) -> Answer:
        """Queue a comparison of an environment with GitHub and AWS."""
        work = Work.of(environment=environment.key, cause=Cause.RESYNC, ref=ref.name, turned=True)
        return self._submitter.submit_work(environment, work, delivery, event)

    def repair_open(
        self, repository: Repository, default_branch: str, heads: Iterable[PullRequestHead]
    ) -> None:
        """Repair open pull requests of a repository.

        Raises:
            UnavailableError: Redis is unavailable.
        """
        numbers: dict[Environment, list[str]] = {}
        for head in heads:
            environment = Environment.of_ref(repository, head.branch, default_branch)
            if not head.from_fork:
                numbers.setdefault(environment, []).append(f"#{head.number}")
            if not self._show_without_check(repository, head, default_branch):
                self._check_environment(environment, head.branch)
        for environment, listed in numbers.items():
            self._show_comment(environment, " ".join(sorted(listed)))

    def _show_comment(self, environment: Environment, occasion: str) -> None:
        """Show the comment of a branch also on a pull request that did not exist when its text was stored.

        Args:
            environment: the environment of the branch.
            occasion: the delivery of the pull request, or the numbers of the open ones.
        """
        known = None
        for _ in range(_MOST_READS):  # a task may store a newer record and a newer text meanwhile
            record = self._lanes.environment(environment)
            if record is None or record == known:
                return
            shown = self._comments.show_on_pulls(environment, record, self._lanes.now(), occasion)
            if shown.display:
                self._lanes.show(environment.repository, environment.key, shown.display)
            known = record

    def _show_without_check(self, repository: Repository, head: PullRequestHead, default_branch: str) -> str:
        """Show why a head is not deployed, if that is known.

        Returns:
            Why its environment needs no check; empty if it needs one.
        """
        if head.from_fork:
            text = f"#{head.number}: skipped: its branch is in a fork, which deployer does not deploy"
            show_skip(self._lanes, repository, _FORK, head.sha, text)
            return "its branch is in a fork"
        display = self._outbox.commit_display(repository, head.sha)
        if any(name == SUMMARY and key != _FORK for key, name in display.wanted):
            return f"{head.sha[:12]} has the status {SUMMARY}"
        environment = Environment.of_ref(repository, head.branch, default_branch)
        record = self._lanes.environment(environment)
        if record is None or head.sha not in {record.spec.held_at, record.spec.deletion.head}:
            return ""
        # a person has chosen another commit, or the environment was taken down and its branch has not moved since
        reason = record.status.reason or "its environment runs another commit"
        text = f"{environment.name}: skipped: {reason}"
        show_skip(self._lanes, repository, environment.key, head.sha, text)
        return f"{environment} does not run {head.sha[:12]}"
