"""CodePipeline's Source actions, each by its provider."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from sandbox.aws import motostores, storage
from sandbox.aws.artifacts import new_output, unpack_archive, upload_outputs
from sandbox.aws.clock import Process, Scheduler
from sandbox.aws.executions import ActionError
from sandbox.aws.pipelines import ActionRun, Execution, Pipeline, Revision
from sandbox.aws.places import Place
from sandbox.aws.sources import Commit, Repositories, SourceError

CODECOMMIT_OWNER = "codecommit"
"""The owner of the repositories of the simulated GitHub that CodeCommit sources read."""


class SourceActions:
    """Performs Source actions of the providers CodeStarSourceConnection, GitHub, CodeCommit, S3 and ECR."""

    def __init__(self, place: Place, scheduler: Scheduler, repositories: Repositories) -> None:
        self._place = place
        self._scheduler = scheduler
        self._repositories = repositories

    def read_git(self, pipeline: Pipeline, execution: Execution, run: ActionRun) -> Process:
        """Check out a commit of a GitHub repository."""
        settings = run.configuration
        if "FullRepositoryId" in settings:
            repository, branch = settings["FullRepositoryId"], settings["BranchName"]
        else:
            repository, branch = f"{settings['Owner']}/{settings['Repo']}", settings["Branch"]
        commit = yield from self._check_out(pipeline, execution, run, repository, branch)
        run.revision_url = f"{self._repositories.web_url(repository)}/commit/{commit.sha}"
        execution.revisions[-1].url = run.revision_url
        run.summary = json.dumps({"ProviderType": "GitHub", "CommitMessage": commit.subject})
        run.variables |= {
            "AuthorDisplayName": commit.author,
            "FullRepositoryName": repository,
            "ProviderType": "GitHub",
            "RepositoryName": repository.rpartition("/")[2],
        }

    def read_codecommit(self, pipeline: Pipeline, execution: Execution, run: ActionRun) -> Process:
        """Check out a commit of a CodeCommit repository, which the simulated GitHub has below an owner of its own."""
        name, branch = run.configuration["RepositoryName"], run.configuration["BranchName"]
        commit = yield from self._check_out(pipeline, execution, run, f"{CODECOMMIT_OWNER}/{name}", branch)
        console = f"https://{self._place.region}.console.aws.amazon.com/codecommit/home"
        run.revision_url = f"{console}#/repository/{name}/commit/{commit.sha}"
        execution.revisions[-1].url = run.revision_url
        run.summary = commit.subject
        run.variables |= {"CommitterDate": commit.when.isoformat(), "RepositoryName": name}

    def _check_out(
        self, pipeline: Pipeline, execution: Execution, run: ActionRun, repository: str, branch: str
    ) -> Process:
        """Check out the branch or the pinned commit; return the commit."""
        name, path = new_output(execution, run)
        pin = execution.pins.get(run.name)
        commit, failure = yield self._scheduler.run_in_thread(
            lambda: self._repositories.check_out(repository, branch, pin, path)
        )
        if failure is not None:
            raise ActionError(str(failure)) if isinstance(failure, SourceError) else failure
        self._add_revision(execution, run, name, commit.sha, commit.subject)
        run.variables = {
            "AuthorDate": commit.when.isoformat(),
            "BranchName": branch,
            "CommitId": commit.sha,
            "CommitMessage": commit.subject,
        }
        yield from upload_outputs(self._scheduler, pipeline, execution, {name: path})
        found: Commit = commit
        return found

    def read_s3(self, pipeline: Pipeline, execution: Execution, run: ActionRun) -> Process:
        """Read an archive from a bucket, which must have versioning."""
        bucket, key = run.configuration["S3Bucket"], run.configuration["S3ObjectKey"]
        name, path = new_output(execution, run)
        if bucket in storage.bucket_names() and storage.bucket(bucket).versioning_status != "Enabled":
            raise ActionError(
                f"The S3 bucket {bucket} must have versioning enabled to be used as a source",
                "ConfigurationError",
            )
        version, etag, content = storage.read_version(bucket, key, execution.pins.get(run.name))
        unpack_archive(content, path)
        self._add_revision(execution, run, name, version, f"Amazon S3 version id: {version}")
        run.summary = f"Amazon S3 version id: {version}"
        run.variables = {"BucketName": bucket, "ETag": etag, "ObjectKey": key, "VersionId": version}
        yield from upload_outputs(self._scheduler, pipeline, execution, {name: path})

    def read_ecr(self, pipeline: Pipeline, execution: Execution, run: ActionRun) -> Process:
        """Describe an image of an ECR repository in the artifact's `imageDetail.json`."""
        repository, tag = run.configuration["RepositoryName"], run.configuration.get("ImageTag") or "latest"
        name, path = new_output(execution, run)
        digest = self._image_digest(repository, tag, execution.pins.get(run.name))
        address = f"{self._place.account}.dkr.ecr.{self._place.region}.amazonaws.com/{repository}"
        detail: dict[str, Any] = {
            "ImageSizeInBytes": "0",
            "ImageDigest": digest,
            "Version": "1.0",
            "ImagePushedAt": self._scheduler.now().strftime("%a %b %d %H:%M:%S UTC %Y"),
            "RegistryId": self._place.account,
            "RepositoryName": repository,
            "ImageURI": f"{address}@{digest}",
            "ImageTags": [tag],
        }
        _write_json(path / "imageDetail.json", detail)
        self._add_revision(execution, run, name, digest, f"Amazon ECR image tag: {tag}")
        run.variables = {
            "ImageDigest": digest,
            "ImageTag": tag,
            "ImageURI": detail["ImageURI"],
            "RegistryId": self._place.account,
            "RepositoryName": repository,
        }
        yield from upload_outputs(self._scheduler, pipeline, execution, {name: path})

    def _image_digest(self, repository: str, tag: str, pin: str | None) -> str:
        held = motostores.backend("ecr", self._place).repositories.get(repository)
        if held is None:
            raise ActionError(
                f"The repository with name '{repository}' does not exist in the registry with id "
                f"'{self._place.account}'",
                "ConfigurationError",
            )
        for image in held.images:
            if (pin and image.image_digest == pin) or (not pin and tag in image.image_tags):
                return str(image.image_digest)
        raise ActionError(
            f"The image with imageId {pin or tag} does not exist within the repository with name '{repository}' in the "
            f"registry with id '{self._place.account}'"
        )

    def _add_revision(
        self, execution: Execution, run: ActionRun, artifact: str, revision: str, summary: str
    ) -> None:
        now: datetime = self._scheduler.now()
        run.revision = run.external_id = revision
        execution.revisions.append(Revision(run.name, artifact, revision, summary, "", now))


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
