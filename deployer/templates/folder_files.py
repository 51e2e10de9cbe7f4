"""Rules for which files of a `deploy/` folder deployer reads."""

from collections.abc import Collection, Mapping

from deployer.model.errors import PermanentError

FOLDER = "deploy"
SUFFIXES = (".json", ".yml", ".yaml")
RECOGNIZED_FILES = frozenset(
    stem + suffix for stem in ("pipeline", "pipeline.parameters", "deployer") for suffix in SUFFIXES
)
"""Names of the files in `deploy/` that deployer reads. No other file there is fetched or opened."""
FILE_LIMIT = 1_000_000  # bytes; the most that CloudFormation accepts for a template from S3
# entries of a folder: https://docs.github.com/rest/repos/contents#get-repository-content
_LISTING_LIMIT = 1000
FOLDER_LIMIT = 2_000_000
"""Total bytes of all recognized files in one `deploy/` folder."""


class UnreadableError(PermanentError):
    """A file cannot be read, or its content is not valid.

    Args:
        file: the file's path in the repository.
        line: the line of the error, counted from 1; None if it is unknown.
        text: what is wrong.

    Attributes:
        others: the other errors in the same file.
    """

    def __init__(self, file: str, line: int | None, text: str) -> None:
        super().__init__(f"{file_and_line(file, line)}: {text}")
        self.file, self.line, self.text = file, line, text
        self.others: list[UnreadableError] = []


def file_and_line(file: str, line: int | None) -> str:
    """Format a location as `file:line`, which editors and terminals turn into a link."""
    return f"{file}:{line}" if line else file


def file_with_stem(files: Mapping[str, bytes], stem: str) -> str | None:
    """Return the name of the file with this stem, or None if the folder has no such file.

    For `pipeline` this is `pipeline.json`, `pipeline.yml` or `pipeline.yaml`.

    Raises:
        UnreadableError: the folder has more than one of them.
    """
    found = [stem + suffix for suffix in SUFFIXES if stem + suffix in files]
    if len(found) > 1:
        raise UnreadableError(f"{FOLDER}/", None, f"it has {' and '.join(found)}; keep one of them")
    return found[0] if found else None


def template_names(files: Mapping[str, bytes]) -> list[str]:
    """Names of the files that could be the template. Only one of them may exist."""
    return [name for suffix in SUFFIXES if (name := f"pipeline{suffix}") in files]


def has_pipeline(files: Mapping[str, bytes]) -> bool:
    """Whether the folder contains a template."""
    return bool(template_names(files))


_KIND_DESCRIPTIONS = {
    "dir": "a folder",
    "submodule": "a submodule, which deployer does not read",
    "symlink": "a symbolic link, which deployer does not follow",
}


def reject_linked_folder(kind: str) -> None:
    """Reject a `deploy` entry that may contain pipeline files which deployer cannot read.

    Args:
        kind: the type of the entry in GitHub's listing: `dir`, `file`, `symlink` or `submodule`.

    Raises:
        UnreadableError: the entry is a symbolic link or a submodule. A regular file named `deploy` is accepted, because
            it contains no pipeline files.
    """
    if kind in {"symlink", "submodule"}:
        text = (
            f"it is {_KIND_DESCRIPTIONS[kind]}; nothing is deployed until a folder is committed in its place"
        )
        raise UnreadableError(f"{FOLDER}/", None, text)


def reject_irregular_files(kinds: Mapping[str, str], names: Collection[str] = RECOGNIZED_FILES) -> None:
    """Reject every entry that has the name of a recognized file but is not a regular file.

    If deployer treated such an entry as a missing file, it would silently ignore a branch's pipeline, or a limit in
    its settings. Whether a file is executable does not matter.

    Args:
        kinds: the type of each direct entry of `deploy/` in GitHub's listing: `file`, `dir`, `symlink` or `submodule`.
            Any other type is not a regular file either.
        names: the file names to check.

    Raises:
        UnreadableError: an entry is not a regular file. The error names the first one; `others` contains the rest.
            Also raised if the folder has so many entries that GitHub may not list all of them.
    """
    if len(kinds) >= _LISTING_LIMIT:
        text = f"GitHub lists at most {_LISTING_LIMIT:,} of its entries; remove some"
        raise UnreadableError(f"{FOLDER}/", None, text)
    refused = [
        UnreadableError(
            f"{FOLDER}/{name}",
            None,
            f"it is {_KIND_DESCRIPTIONS.get(kind, 'not a regular file')};"
            " nothing is deployed until the file itself is committed in its place",
        )
        for name, kind in sorted(kinds.items())
        if name in names and kind != "file"
    ]
    if refused:
        refused[0].others = refused[1:]
        raise refused[0]


def reject_large_file(file: str, size: int) -> None:
    """Reject a file that is larger than `FILE_LIMIT`.

    Args:
        file: the file's path in the repository.
        size: its size in bytes.

    Raises:
        UnreadableError: the file is too large.
    """
    if size > FILE_LIMIT:
        raise UnreadableError(file, None, f"it has {size:,} bytes; at most {FILE_LIMIT:,} are allowed")


def reject_large_files(sizes: Mapping[str, int]) -> None:
    """Reject files that are too large, before they are fetched or opened.

    Args:
        sizes: the size in bytes of each recognized file in `deploy/`, by file name.

    Raises:
        UnreadableError: one file is larger than `FILE_LIMIT`, or all files together are larger than `FOLDER_LIMIT`.
    """
    for name, size in sorted(sizes.items()):
        reject_large_file(f"{FOLDER}/{name}", size)
    if (total := sum(sizes.values())) > FOLDER_LIMIT:
        largest = max(sorted(sizes), key=lambda name: sizes[name])
        text = f"it has {sizes[largest]:,} bytes, and the files that deployer reads have {total:,} together;"
        raise UnreadableError(f"{FOLDER}/{largest}", None, f"{text} at most {FOLDER_LIMIT:,} are allowed")
