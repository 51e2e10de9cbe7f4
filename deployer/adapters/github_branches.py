"""How GitHub says where a commit is and which branches are protected: its answers, read strictly.

A wrong "yes" here would let anyone deploy to production, so every answer must name the commits that were asked about.
`GitHubHost` sends the requests and translates the errors.
"""

from collections.abc import Callable, Collection, Iterator
from typing import Any

from deployer.adapters import github_answers as answers
from deployer.adapters.github_client import ApiError, Headers, UnexpectedAnswerError
from deployer.adapters.github_errors import rate_limit
from deployer.errors import PayloadError, PermanentError, TransientError
from deployer.folder_files import (
    FILE_LIMIT,
    RECOGNIZED_FILES,
    SUFFIXES,
    UnreadableError,
    reject_irregular_files,
    reject_linked_folder,
)
from deployer.ports import Protection, Relation
from deployer.refs import Ref, parse_sha

Ask = Callable[[str, Any, dict[str, Any]], tuple[Headers, Any]]
"""One GET below the repository: path, type of the answer and query -> headers and body."""

_PAGES = 5  # of a hundred protected branches each
_NO_ANCESTOR = "No common ancestor"  # https://github.com/github-changelog-generator/github-changelog-generator/issues/994


def ancestry(ask: Ask, base: str, commit: str) -> Relation:
    """How a commit stands to a base. One call.

    GitHub takes `owner:branch` here as well as names, so nothing but full commit ids is sent. The second page has no
    files: https://docs.github.com/rest/commits/commits#compare-two-commits

    Raises:
        PayloadError: one of them is no full commit id.
        TransientError: GitHub does not find a commit that it has just named.
        UnexpectedAnswerError: it answers about others.
        ApiError: anything else.
    """
    if parse_sha(base) == parse_sha(commit):
        return Relation.IDENTICAL
    try:
        found = ask(f"/compare/{base}...{commit}", answers.Relation, {"per_page": 1, "page": 2})[1]
    except ApiError as error:
        # they differ in very much: a base that contains a commit differs in nothing. That "this diff is temporarily
        # unavailable due to heavy server load" is no answer
        if error.status >= 500 and "Sorry, this diff is taking too long" in error.message:
            return Relation.DIVERGED
        if error.status != 404:
            raise
        if error.message.startswith(_NO_ANCESTOR):
            return Relation.UNRELATED
        ask("", answers.Repository, {})  # the repository itself is not found?
        raise TransientError(
            f"GitHub does not find {base[:12]} or {commit[:12]}, which it has just named"
        ) from error
    relation = Relation(found.status)
    middle = found.merge_base_commit.sha
    told = found.base_commit.sha, middle if relation.contained else commit
    if told != (base, commit):
        raise UnexpectedAnswerError(f"it compares other commits than {base[:12]} and {commit[:12]}")
    return relation


def protected_branches(ask: Ask, repository: object) -> dict[Ref, str]:
    """The protected branches and where they stand; a call for each hundred.

    Rulesets count like branch protections: https://docs.github.com/rest/branches/branches#list-branches

    Raises:
        PermanentError: there are too many.
    """
    found = dict[Ref, str]()
    for page in range(1, _PAGES + 1):
        query = {"protected": "true", "per_page": 100, "page": page}
        headers, listed = ask("/branches", list[answers.ListedBranch], query)
        for each in listed:
            if each.protected:  # whatever became of the query on the way, such as at a redirect
                try:
                    found[Ref.of_branch(each.name)] = each.commit.sha
                except PayloadError:
                    continue  # no branch that deployer could name
        if 'rel="next"' not in headers.get("link", ""):
            return found
    raise PermanentError(f"{repository} has more than {_PAGES * 100} protected branches")


def usable_files(
    listed: list[answers.Entry] | answers.Entry, names: Collection[str] = RECOGNIZED_FILES
) -> dict[str, answers.Entry]:
    """The entries of the listing of `deploy/` that are files which deployer reads, by their names.

    Args:
        listed: what GitHub lists; something else than a list where the folder is a file, a link or a submodule.
        names: the files that are asked for.

    Raises:
        UnreadableError: see `reject_linked_folder` and `reject_irregular_files`.
    """
    if not isinstance(listed, list):
        reject_linked_folder(listed.type)
        return {}
    reject_irregular_files({each.name: _kind(each) for each in listed}, names)
    return {each.name: each for each in listed if each.name in names}


def regular_files(
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
    found = usable_files(listed, {stem + suffix for suffix in SUFFIXES})
    if not isinstance(listed, list):
        raise UnreadableError(f"{folder}/", None, "it is no folder")
    for name, entry in found.items():
        if entry.size > FILE_LIMIT:
            raise UnreadableError(f"{folder}/{name}", None, f"it has more than {FILE_LIMIT:,} bytes")
        yield entry


def _kind(entry: answers.Entry) -> str:
    """What an entry of a folder is. GitHub lists a submodule as a file that has no address of its content."""
    return "submodule" if entry.type == "file" and not entry.download_url else entry.type


def protection(ask: Ask, branch: str, quoted: str) -> Protection:
    """What protects the default branch and the tags. Two calls, or three.

    Args:
        ask: sends a request.
        branch: the default branch's short name.
        quoted: the same, percent-encoded.
    """
    unread = list[str]()

    def read(what: str, look: Callable[[], bool]) -> bool | None:
        try:
            return look()
        except ApiError as error:
            if error.status not in {403, 404} or rate_limit(error) is not None:
                raise
            unread.append(f"{what}: GitHub answers {error.status}")
            return None

    def branch_protected() -> bool:
        if ask(f"/branches/{quoted}", answers.BranchProtection, {})[1].protected:
            return True
        return bool(ask(f"/rules/branches/{quoted}", list[answers.Rule], {})[1])

    def tags_protected() -> bool:
        query = {"includes_parents": "true", "per_page": 100}
        listed = ask("/rulesets", list[answers.Ruleset], query)[1]
        return any(each.target == "tag" and each.enforcement == "active" for each in listed)

    protected = read("its protection", branch_protected)
    return Protection(branch, protected, read("its rulesets", tags_protected), "; ".join(unread))
