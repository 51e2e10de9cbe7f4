"""Reads the files of a folder at a commit."""

import base64
import binascii
from collections.abc import Collection, Iterator
from typing import cast
from urllib.parse import quote

from deployer.github import answers
from deployer.github.bounded_cache import BoundedCache
from deployer.github.client import RepositoryClient
from deployer.github.errors import ApiError, UnexpectedAnswerError
from deployer.templates.folder_files import (
    FILE_LIMIT,
    RECOGNIZED_FILES,
    SUFFIXES,
    UnreadableError,
    reject_irregular_files,
    reject_large_files,
    reject_linked_folder,
)

_Listing = list[answers.Entry] | answers.Entry
_MAX_CACHED_BLOBS = 100  # most files of a branch are the same as those of the branch that it started from
_MAX_CACHED_BYTES = 100_000  # a larger file is not cached


class FolderReader:
    """Reads the files of a folder at a commit and caches their contents. Threads may share it.

    Each file is read as a blob, by the blob's id in the listing of this very commit. An id belongs to one content, so
    a cached blob is not read again.
    """

    def __init__(self) -> None:
        self._blobs = BoundedCache[bytes](_MAX_CACHED_BLOBS)

    def read_usable_files(self, api: RepositoryClient, sha: str, folder: str) -> dict[str, bytes]:
        """The files of a folder that deployer uses (`RECOGNIZED_FILES`), as name to content.

        One call, and one per file that is not cached. A file that is too large is refused by its size in the listing,
        before its content is fetched.

        Raises:
            UnreadableError: a file, or all of them together, are too large (`reject_large_files`), or one is not a
                regular file (`reject_irregular_files`).
        """
        listed = _list_folder(api, sha, folder)
        usable = usable_entries(listed)
        reject_large_files({name: entry.size for name, entry in usable.items()})
        return {name: self._read_blob(api, folder, entry) for name, entry in usable.items()}

    def read_regular_files(self, api: RepositoryClient, sha: str, folder: str, stem: str) -> dict[str, bytes]:
        """The regular files of a folder whose name is the stem with a suffix, as name to content.

        One call, and one per file that is not cached.

        Raises:
            UnreadableError: one of them, or the folder, is not regular (such as a symbolic link), or is too large.
        """
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
        if len(content) != entry.size:  # the limits were checked by the size in the listing
            raise UnexpectedAnswerError(
                f"{folder}/{entry.name} has {len(content):,} bytes, but {entry.size:,} in the list of files"
            )
        if len(content) <= _MAX_CACHED_BYTES:
            self._blobs.put(key, content)
        return content


def usable_entries(
    listed: list[answers.Entry] | answers.Entry, names: Collection[str] = RECOGNIZED_FILES
) -> dict[str, answers.Entry]:
    """The entries of a folder's listing that are files with one of these names, as name to entry.

    Args:
        listed: GitHub's listing: a list of entries, or one entry if the path is a file, a link or a submodule.
        names: the names of the files to find.

    Raises:
        UnreadableError: see `reject_linked_folder` and `reject_irregular_files`.
    """
    if not isinstance(listed, list):
        reject_linked_folder(listed.type)
        return {}
    reject_irregular_files({each.name: _entry_kind(each) for each in listed}, names)
    return {each.name: each for each in listed if each.name in names}


def regular_entries(
    listed: list[answers.Entry] | answers.Entry, folder: str, stem: str
) -> Iterator[answers.Entry]:
    """The entries of a folder's listing that are regular files whose name is the stem with a suffix.

    Args:
        listed: GitHub's listing: a list of entries, or one entry if the path is a file, a link or a submodule.
        folder: the folder's path.
        stem: the files' name without the suffix.

    Raises:
        UnreadableError: one of them is not a regular file or is too large, or the folder is not a folder or has too
            many entries: the file could be among those that GitHub does not list.
    """
    found = usable_entries(listed, {stem + suffix for suffix in SUFFIXES})
    if not isinstance(listed, list):
        raise UnreadableError(f"{folder}/", None, "it is not a folder")
    for name, entry in found.items():
        if entry.size > FILE_LIMIT:
            raise UnreadableError(f"{folder}/{name}", None, f"it has more than {FILE_LIMIT:,} bytes")
        yield entry


def _entry_kind(entry: answers.Entry) -> str:
    """The type of a folder's entry. GitHub lists a submodule as a file without an address of its content."""
    return "submodule" if entry.type == "file" and not entry.download_url else entry.type


def _list_folder(api: RepositoryClient, sha: str, folder: str) -> _Listing:
    """A folder's entries at a commit, one entry if the path is not a folder, or an empty list if nothing is there."""
    path, shape = f"/contents/{quote(folder.strip('/'))}", cast("type[_Listing]", answers.Contents)
    try:
        listed = api.get(path, shape, {"ref": sha})
    except ApiError as error:
        if error.status != 404:
            raise
        # a missing folder is an answer, but a missing commit or repository is an error
        api.get(f"/git/commits/{sha}", answers.CommitId)
        return []
    entries = listed if isinstance(listed, list) else [listed]
    if not all(entry.url.endswith(f"ref={sha}") for entry in entries):  # a redirect may lose the query
        raise UnexpectedAnswerError(f"it lists the files of a commit other than {sha[:12]}")
    return listed
