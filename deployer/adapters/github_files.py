"""Reads the files of a folder at a commit."""

import base64
import binascii
from collections.abc import Collection, Iterator
from typing import cast
from urllib.parse import quote

from deployer.adapters import github_answers as answers
from deployer.adapters.github_cache import BoundedCache
from deployer.adapters.github_client import RepositoryClient
from deployer.adapters.github_errors import ApiError, UnexpectedAnswerError
from deployer.template import (
    FILE_LIMIT,
    SUFFIXES,
    USABLE,
    UnreadableError,
    insist_on_files,
    insist_on_folder,
    insist_on_sizes,
)

_Listing = list[answers.Entry] | answers.Entry
_MAX_CACHED_BLOBS = 100  # a branch's files are mostly those of the branch that it was made from
_MAX_CACHED_BYTES = 100_000


class FolderReader:
    """Reads files, and keeps those that were read lately. Threads may share it."""

    def __init__(self) -> None:
        self._blobs = BoundedCache[bytes](_MAX_CACHED_BLOBS)

    def read_usable_files(self, api: RepositoryClient, sha: str, folder: str) -> dict[str, bytes]:
        """The usable files right in a folder at a commit (`USABLE`)."""
        listed = _list_folder(api, sha, folder)
        usable = usable_entries(listed)
        insist_on_sizes({name: entry.size for name, entry in usable.items()})
        return {name: self._read_blob(api, folder, entry) for name, entry in usable.items()}

    def read_regular_files(self, api: RepositoryClient, sha: str, folder: str, stem: str) -> dict[str, bytes]:
        """The files of one stem in a folder at a commit."""
        listed = _list_folder(api, sha, folder)
        found = list(regular_entries(listed, folder, stem))
        return {entry.name: self._read_blob(api, folder, entry) for entry in found}

    def _read_blob(self, api: RepositoryClient, folder: str, entry: answers.Entry) -> bytes:
        key = api.repository.key, entry.sha
        if (cached := self._blobs.get(key)) is not None:
            return cached
        blob = api.get(f"/git/blobs/{entry.sha}", answers.Blob)
        try:
            content = base64.b64decode("".join(blob.content.split()), validate=True)
        except binascii.Error:
            raise UnexpectedAnswerError(f"{folder}/{entry.name} is not in base64") from None
        if len(content) != entry.size:  # the sizes are what was judged
            raise UnexpectedAnswerError(
                f"{folder}/{entry.name} has {len(content):,} bytes, and {entry.size:,} in the list of files"
            )
        if len(content) <= _MAX_CACHED_BYTES:
            self._blobs.put(key, content)
        return content


def usable_entries(
    listed: list[answers.Entry] | answers.Entry, names: Collection[str] = USABLE
) -> dict[str, answers.Entry]:
    """The entries of the listing of `deploy/` that are files which deployer reads, by their names.

    Args:
        listed: what GitHub lists; something else than a list where the folder is a file, a link or a submodule.
        names: the files that are asked for.

    Raises:
        UnreadableError: see `insist_on_folder` and `insist_on_files`.
    """
    if not isinstance(listed, list):
        insist_on_folder(listed.type)
        return {}
    insist_on_files({each.name: _entry_kind(each) for each in listed}, names)
    return {each.name: each for each in listed if each.name in names}


def regular_entries(
    listed: list[answers.Entry] | answers.Entry, folder: str, stem: str
) -> Iterator[answers.Entry]:
    """The entries of a folder's listing that are files of this stem.

    Args:
        listed: what GitHub lists; something else than a list where the folder is a file, a link or a submodule.
        folder: its path.
        stem: the files' name without the suffix.

    Raises:
        UnreadableError: one of them, or the folder, is something else, or is too large: what GitHub does not list could
            be the file.
    """
    found = usable_entries(listed, {stem + suffix for suffix in SUFFIXES})
    if not isinstance(listed, list):
        raise UnreadableError(f"{folder}/", None, "it is no folder")
    for name, entry in found.items():
        if entry.size > FILE_LIMIT:
            raise UnreadableError(f"{folder}/{name}", None, f"it has more than {FILE_LIMIT:,} bytes")
        yield entry


def _entry_kind(entry: answers.Entry) -> str:
    """What an entry of a folder is. GitHub lists a submodule as a file that has no address of its content."""
    return "submodule" if entry.type == "file" and not entry.download_url else entry.type


def _list_folder(api: RepositoryClient, sha: str, folder: str) -> _Listing:
    """What is at a path in a commit: a folder's entries, one entry of what is no folder, or an empty list."""
    path, shape = f"/contents/{quote(folder.strip('/'))}", cast("type[_Listing]", answers.Contents)
    try:
        listed = api.get(path, shape, {"ref": sha})
    except ApiError as error:
        if error.status != 404:
            raise
        # no folder, or no commit, or no repository?
        api.get(f"/git/commits/{sha}", answers.CommitId)
        return []
    entries = listed if isinstance(listed, list) else [listed]
    if not all(entry.url.endswith(f"ref={sha}") for entry in entries):  # a redirect may lose the query
        raise UnexpectedAnswerError(f"it lists the files of another commit than {sha[:12]}")
    return listed
