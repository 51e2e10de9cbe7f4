"""The handling of executions that deployer did not start: they are reported as what they are, and perhaps stopped."""

from collections.abc import Sequence

from deployer.environment.cloud_region import Clouds, Execution
from deployer.environment.context import ReconcileContext
from deployer.environment.execution_origin import foreign_executions, own_executions, with_started
from deployer.environment.statuses import StatusReporter
from deployer.model.environment_status import ForeignExecution
from deployer.model.targets import STOP

_WHY = "deployer stops executions that it did not start (foreign_executions: stop)"


class ForeignExecutions:
    """Records, reports and stops executions that deployer did not start.

    Args:
        clouds: has the targets, whose settings say whether such an execution is stopped.
        reporter: posts them on the environment's commit.
    """

    def __init__(self, clouds: Clouds, reporter: StatusReporter) -> None:
        self._clouds = clouds
        self._reporter = reporter

    def set_apart(
        self, context: ReconcileContext, listed: Sequence[Execution]
    ) -> tuple[ReconcileContext, list[Execution]]:
        """Separate deployer's own executions from the others, which are recorded, reported and perhaps stopped.

        Args:
            context: the task; the stack of the pipeline is the environment's.
            listed: the pipeline's executions, newest first.

        Returns:
            The changed context, and deployer's own executions, newest first.
        """
        own = own_executions(context, listed)
        if own and not context.record.status.pipeline.started:
            commits = {each.id: each.sha for each in reversed(own)}
            context = context.replace_record(with_started(context.record, commits))
        found = foreign_executions(context.record, listed, own)
        if self._clouds.target(context.environment.kind).foreign_executions == STOP:
            found = [self._stop(context, each) for each in found]
        return context.replace_record(
            self._reporter.post_foreign(context.environment, context.record, found)
        ), own

    @staticmethod
    def _stop(context: ReconcileContext, foreign: ForeignExecution) -> ForeignExecution:
        if foreign.status != "running" or foreign.stopped:
            return foreign
        context.assert_lease()
        context.cloud.stop(context.name, foreign.id, _WHY)
        return foreign.but(stopped=True)
