"""Which files of a `deploy/` folder deployer reads, within which limits."""

from collections.abc import Collection, Mapping

from deployer.errors import PermanentError

FOLDER = "deploy"
SUFFIXES = (".json", ".yml", ".yaml")
RECOGNIZED_FILES = frozenset(
    stem + suffix for stem in ("pipeline", "pipeline.parameters", "deployer") for suffix in SUFFIXES
)
"""Names of the files in `deploy/` that deployer reads. No other file there is fetched or opened."""
FILE_LIMIT = 1_000_000  # bytes; what CloudFormation takes of a template by S3
_LISTING_LIMIT = (
    1000  # entries of a folder: https://docs.github.com/rest/repos/contents#get-repository-content
)
FOLDER_LIMIT = 2_000_000
"""Bytes of all usable files of one `deploy/` folder together."""


class UnreadableError(PermanentError):
    """A file cannot be read, or is not what it should be.

    Args:
        file: its path in the repository.
        line: where, counted from 1; None where that cannot be told.
        text: what is wrong.

    Attributes:
        others: what else is wrong in the same file.
    """

    def __init__(self, file: str, line: int | None, text: str) -> None:
        super().__init__(f"{file_and_line(file, line)}: {text}")
        self.file, self.line, self.text = file, line, text
        self.others: list[UnreadableError] = []


def file_and_line(file: str, line: int | None) -> str:
    """A place as editors and terminals link it: `file:line`."""
    return f"{file}:{line}" if line else file


def file_with_stem(files: Mapping[str, bytes], stem: str) -> str | None:
    """The name of the file of this stem: `pipeline` is `pipeline.json`, `.yml` or `.yaml`; None if there is none.

    Raises:
        UnreadableError: there are several.
    """
    found = [stem + suffix for suffix in SUFFIXES if stem + suffix in files]
    if len(found) > 1:
        raise UnreadableError(f"{FOLDER}/", None, f"it has {' and '.join(found)}; keep one of them")
    return found[0] if found else None


def template_names(files: Mapping[str, bytes]) -> list[str]:
    """Those of the files that may be the template, of which there may be one."""
    return [name for suffix in SUFFIXES if (name := f"pipeline{suffix}") in files]


def has_pipeline(files: Mapping[str, bytes]) -> bool:
    """Whether the folder asks for a pipeline at all."""
    return bool(template_names(files))


_KIND_DESCRIPTIONS = {
    "dir": "a folder",
    "submodule": "a submodule, which deployer does not read",
    "symlink": "a symbolic link, which deployer does not follow",
}


def reject_linked_folder(kind: str) -> None:
    """Refuse a `deploy` that may hold the files of a pipeline where deployer does not look for them.

    Args:
        kind: what GitHub's listing calls it: `dir`, `file`, `symlink` or `submodule`.

    Raises:
        UnreadableError: it is a symbolic link or a submodule. A file of this name is no such thing.
    """
    if kind in {"symlink", "submodule"}:
        text = (
            f"it is {_KIND_DESCRIPTIONS[kind]}; nothing is deployed until a folder is committed in its place"
        )
        raise UnreadableError(f"{FOLDER}/", None, text)


def reject_irregular_files(kinds: Mapping[str, str], names: Collection[str] = RECOGNIZED_FILES) -> None:
    """Refuse whatever has the name of a file that deployer reads and is no regular file.

    Taking it for "there is no such file" would leave out a branch's pipeline, or a limit in its settings, without a
    word. Whether a file is executable does not matter.

    Args:
        kinds: what each entry right in `deploy/` is, as GitHub's listing calls it: `file`, `dir`, `symlink`,
            `submodule`; all others are no regular files either.
        names: the names that are looked at.

    Raises:
        UnreadableError: for the first of them; `others` has the rest. Or there are so many entries that GitHub may not
            list all of them.
    """
    if len(kinds) >= _LISTING_LIMIT:
        text = f"GitHub lists at most {_LISTING_LIMIT:,} of its entries; remove some"
        raise UnreadableError(f"{FOLDER}/", None, text)
    refused = [
        UnreadableError(
            f"{FOLDER}/{name}",
            None,
            f"it is {_KIND_DESCRIPTIONS.get(kind, 'no regular file')};"
            " nothing is deployed until the file itself is committed in its place",
        )
        for name, kind in sorted(kinds.items())
        if name in names and kind != "file"
    ]
    if refused:
        refused[0].others = refused[1:]
        raise refused[0]


def reject_large_file(file: str, size: int) -> None:
    """Refuse a file of more than `FILE_LIMIT` bytes.

    Args:
        file: its path in the repository.
        size: its bytes.

    Raises:
        UnreadableError: it is too large.
    """
    if size > FILE_LIMIT:
        raise UnreadableError(file, None, f"it has {size:,} bytes; at most {FILE_LIMIT:,} are allowed")


def reject_large_files(sizes: Mapping[str, int]) -> None:
    """Refuse files that are too large, before they are fetched or opened.

    Args:
        sizes: bytes of each usable file in `deploy/`, by its name.

    Raises:
        UnreadableError: one has more than `FILE_LIMIT`, or all together have more than `FOLDER_LIMIT`.
    """
    for name, size in sorted(sizes.items()):
        reject_large_file(f"{FOLDER}/{name}", size)
    if (total := sum(sizes.values())) > FOLDER_LIMIT:
        largest = max(sorted(sizes), key=lambda name: sizes[name])
        text = f"it has {sizes[largest]:,} bytes, and the files that deployer reads have {total:,} together;"
        raise UnreadableError(f"{FOLDER}/{largest}", None, f"{text} at most {FOLDER_LIMIT:,} are allowed")
