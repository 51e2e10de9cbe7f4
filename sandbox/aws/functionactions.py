"""CodePipeline's Lambda actions, which run Python functions in a process and wait for the result of their job."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from sandbox.aws import identity, motostores
from sandbox.aws.artifacts import unpack_archive
from sandbox.aws.builds import Builder
from sandbox.aws.clock import Future, Process, Scheduler
from sandbox.aws.executions import ActionError
from sandbox.aws.jobs import Job, Jobs
from sandbox.aws.pipelines import ActionRun, Execution, Pipeline
from sandbox.aws.places import Place
from sandbox.aws.servicelogs import ensure_log_group
from sandbox.aws.workspace import Processes

# Importing boto3 takes longer than Lambda's default of 3 s on a busy machine.
_LEAST_SECONDS = 60.0
_LONGEST_SECONDS = 24 * 3600.0
_RUNNER = """\
import importlib, json, sys, time
sys.path.insert(0, ".")
module, _, name = sys.argv[1].rpartition(".")
handler = getattr(importlib.import_module(module.replace("/", ".")), name)
end = time.time() + float(sys.argv[4])
Context = type("Context", (), {
    "function_name": sys.argv[2], "invoked_function_arn": sys.argv[3], "aws_request_id": "sandbox",
    "get_remaining_time_in_millis": lambda self: max(int((end - time.time()) * 1000), 0),
})
handler(json.load(sys.stdin), Context())
"""


class FunctionActions:
    """Performs Invoke actions of the provider Lambda."""

    def __init__(self, place: Place, scheduler: Scheduler, builder: Builder, jobs: Jobs) -> None:
        self._place = place
        self._scheduler = scheduler
        self._builder = builder
        self._jobs = jobs

    def invoke_function(self, pipeline: Pipeline, execution: Execution, run: ActionRun) -> Process:
        """Invoke the function with a job; wait until it puts the job's result.

        Raises:
            ActionError: the function does not exist, is not simulated, failed, or put a failure.
        """
        name = str(run.configuration["FunctionName"]).rpartition(":")[2]
        function = self._find_function(name)
        job = self._jobs.open_job(_job_data(pipeline, execution, run))
        run.external_id = job.id
        ensure_log_group(self._place, f"/aws/lambda/{name}")
        directory = execution.directory / f"function-{run.id}"
        unpack_archive(bytes(function.code_bytes), directory)
        processes = Processes()
        minutes = run.declared.get("timeoutInMinutes")
        timer = self._scheduler.spawn(_expire(job.result, 60.0 * float(minutes or 0) or _LONGEST_SECONDS))
        try:
            outcome, failure = yield self._scheduler.run_in_thread(
                lambda: self._run_handler(function, job, directory, processes)
            )
            if not job.result.done and (failure is not None or outcome):
                job.result.set(None)
            result = yield job.result
        finally:
            processes.kill_all()
            self._scheduler.cancel(timer)
            self._jobs.close_job(job)
        if result is None:
            raise ActionError(
                f"The AWS Lambda function {name} failed to return a result. Check the function to verify that it has "
                "permission to call the PutJobSuccessResult action and that it made a call to PutJobSuccessResult."
            )
        if result["status"] != "Succeeded":
            raise ActionError(result["message"], result["type"])
        run.variables = dict(result.get("outputVariables") or {})
        run.summary = (result.get("executionDetails") or {}).get("summary")

    def _find_function(self, name: str) -> Any:
        found = motostores.backend("awslambda", self._place).list_functions()
        function = next((f for f in found if f.function_name == name), None)
        if function is None:
            raise ActionError(
                f"The AWS Lambda function {name} cannot be found. Check that the function exists.",
                "ConfigurationError",
            )
        if not str(function.run_time).startswith("python") or not function.code_bytes:
            raise ActionError(
                f"Not simulated: the function {name} of the runtime {function.run_time} "
                "(the simulator runs Python functions with an archive)",
                "ConfigurationError",
            )
        return function

    def _run_handler(self, function: Any, job: Job, directory: Path, processes: Processes) -> bool:
        """Run the handler with the job as its event; return whether it failed."""
        event = directory / "event.json"
        event.write_text(
            json.dumps(
                {"CodePipeline.job": {"id": job.id, "accountId": self._place.account, "data": job.data}}
            )
        )
        key, secret = identity.access_key(self._place.account)
        seconds = max(float(function.timeout), _LEAST_SECONDS)
        env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": self._place.region,
            "AWS_REGION": self._place.region,
            "AWS_ENDPOINT_URL": self._builder.address,
            "AWS_LAMBDA_FUNCTION_NAME": function.function_name,
            **function.environment_vars,
        }
        arn = self._place.arn("lambda", f"function:{function.function_name}")
        command = [sys.executable, "-c", _RUNNER, function.handler, function.function_name, arn, str(seconds)]
        script = f'exec "$@" < "{event}"'
        try:
            status, _ = processes.run_command(
                ["bash", "-c", script, "function", *command], cwd=directory, env=env, timeout=seconds
            )
        except TimeoutError:
            return True
        return status != 0


def _job_data(pipeline: Pipeline, execution: Execution, run: ActionRun) -> dict[str, Any]:
    """What the function receives about its job."""
    inputs = [
        {
            "name": each["name"],
            "location": {
                "type": "S3",
                "s3Location": {
                    "bucketName": execution.artifacts[each["name"]].bucket,
                    "objectKey": execution.artifacts[each["name"]].key,
                },
            },
        }
        for each in run.declared.get("inputArtifacts", [])
    ]
    return {
        "actionTypeId": run.declared["actionTypeId"],
        "actionConfiguration": {"configuration": run.configuration},
        "pipelineContext": {
            "pipelineName": pipeline.name,
            "stage": {"name": run.stage},
            "action": {"name": run.name},
            "pipelineExecutionId": execution.id,
        },
        "inputArtifacts": inputs,
        "outputArtifacts": [],
    }


def _expire(result: Future, seconds: float) -> Process:
    yield seconds
    result.set(None)
