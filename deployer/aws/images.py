"""The ECR calls of deployer, which delete the images of a repository."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from deployer.aws.clients import call_with_retries, read_pages
from deployer.aws.errors import is_not_found, is_permission_missing, required_member, single_line
from deployer.model.errors import PermanentError

_BATCH_SIZE = 100  # images; the maximum of one BatchDeleteImage request
_PAGE_SIZE = 1000  # images; the maximum of one page of ListImages


def delete_images(
    ecr: Any, repository: str, owner: str, deadline: float, assert_lease: Callable[[], None]
) -> bool:
    """Delete all images of a repository, by their digests.

    ECR deletes an image that an index names only after the index, so the images are listed again until none is left.

    Args:
        ecr: the client.
        repository: the repository's name.
        owner: the account of the stack that created the repository.
        deadline: no batch starts after this time (monotonic clock, seconds), except the first one.
        assert_lease: called before each batch; an exception from it ends the deletion.

    Returns:
        Whether the repository is empty. A repository that does not exist counts as empty.

    Raises:
        PermanentError: ECR refuses to delete the images, or deployer's role lacks the permission.
    """
    where = {"repositoryName": repository, "registryId": owner}
    try:
        while digests := _list_digests(ecr, where):
            refused: list[Any] = []
            for start in range(0, len(digests), _BATCH_SIZE):
                assert_lease()
                refused += _delete_batch(ecr, where, digests[start : start + _BATCH_SIZE])
                if time.monotonic() >= deadline:
                    return False
            if len(refused) >= len(digests):
                why = f"{refused[0].get('failureCode')}: {single_line(refused[0].get('failureReason'))}"
                raise PermanentError(
                    f"repository {repository}: {len(refused)} images cannot be deleted: {why}"
                )
    except ClientError as error:
        if is_not_found(error):
            return True
        if is_permission_missing(error):
            raise PermanentError(f"repository {repository}: its images cannot be deleted: {error}") from error
        raise
    return True


def _list_digests(ecr: Any, where: Mapping[str, str]) -> list[str]:
    query: dict[str, Any] = {"maxResults": _PAGE_SIZE, **where}
    listed = read_pages(ecr.list_images, cursor="nextToken", **query)
    images = [image for page in listed for image in required_member(page, "imageIds")]
    return list(dict.fromkeys(required_member(each, "imageDigest") for each in images))


def _delete_batch(ecr: Any, where: Mapping[str, str], digests: Sequence[str]) -> list[Any]:
    """Delete some images; returns the failures, at most one for each image."""
    ids = [{"imageDigest": each} for each in digests]
    answer = call_with_retries(lambda: ecr.batch_delete_image(imageIds=ids, **where))
    failures = {str(each.get("imageId")): each for each in answer.get("failures", [])}
    return [each for each in failures.values() if each.get("failureCode") != "ImageNotFound"]
