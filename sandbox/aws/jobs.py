"""CodePipeline's jobs, whose results a Lambda function puts by PutJobSuccessResult or PutJobFailureResult."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.aws.clock import Future
from sandbox.aws.protocol import AwsError

Parameters = Mapping[str, Any]


@dataclass
class Job:
    """A job: `data` is what the function receives, `result` the parameters of the call that ended the job."""

    data: dict[str, Any]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    result: Future = field(default_factory=Future)


class Jobs:
    """The jobs of a region, with the calls about them; the caller holds the simulator's lock."""

    def __init__(self, account: str) -> None:
        self._account = account
        self._jobs: dict[str, Job] = {}
        self.operations: dict[str, Callable[[Parameters], dict[str, Any]]] = {
            "GetJobDetails": self._get_details,
            "PutJobFailureResult": self._put_failure,
            "PutJobSuccessResult": self._put_success,
        }

    def open_job(self, data: dict[str, Any]) -> Job:
        """Create a job that waits for its result."""
        job = Job(data)
        self._jobs[job.id] = job
        return job

    def close_job(self, job: Job) -> None:
        """Forget a job."""
        self._jobs.pop(job.id, None)

    def _get_details(self, given: Parameters) -> dict[str, Any]:
        job = self._find_job(given)
        return {"jobDetails": {"id": job.id, "data": job.data, "accountId": self._account}}

    def _put_success(self, given: Parameters) -> dict[str, Any]:
        if given.get("continuationToken"):
            raise AwsError(
                "ValidationException", "Not simulated: jobs that continue with a continuation token"
            )
        self._end_job(given, {"status": "Succeeded", **given})
        return {}

    def _put_failure(self, given: Parameters) -> dict[str, Any]:
        self._end_job(given, {"status": "Failed", **given["failureDetails"]})
        return {}

    def _end_job(self, given: Parameters, result: dict[str, Any]) -> None:
        job = self._find_job(given)
        if job.result.done:
            raise AwsError(
                "InvalidJobStateException",
                f"Job with id {job.id} is not in the state InProgress and cannot end",
            )
        job.result.set(result)

    def _find_job(self, given: Parameters) -> Job:
        job = self._jobs.get(given["jobId"])
        if job is None:
            raise AwsError("JobNotFoundException", f"Job with id {given['jobId']} does not exist")
        return job
