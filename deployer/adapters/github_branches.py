"""How GitHub says where a commit is and which branches are protected: its answers, read strictly.

A wrong "yes" here would let anyone deploy to production, so every answer must name the commits that were asked about.
`GitHubHost` sends the requests and translates the errors.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from github import GithubException

from deployer.errors import PayloadError, PermanentError, TransientError
from deployer.ports import Protection, Relation
from deployer.refs import Ref, parse_sha
from deployer.template import FILE_LIMIT, SUFFIXES, UnreadableError

# one GET below the repository: path and query -> headers and body
Ask = Callable[[str, dict[str, Any]], tuple[Mapping[str, Any], Any]]
_PAGES = 5  # of a hundred protected branches each
_MOST_LISTED = 1000  # entries of a folder: https://docs.github.com/rest/repos/contents#get-repository-content
_NO_ANCESTOR = "No common ancestor"  # https://github.com/github-changelog-generator/github-changelog-generator/issues/994


def ancestry(ask: Ask, base: str, commit: str) -> Relation:
    """How a commit stands to a base. One call.

    GitHub takes `owner:branch` here as well as names, so nothing but full commit ids is sent. The second page has no
    files: https://docs.github.com/rest/commits/commits#compare-two-commits

    Raises:
        PayloadError: one of them is no full commit id.
        TransientError: GitHub does not find a commit that it has just named, or answers about others.
        GithubException: anything else.
    """
    if parse_sha(base) == parse_sha(commit):
        return Relation.IDENTICAL
    try:
        found = ask(f"/compare/{base}...{commit}", {"per_page": 1, "page": 2})[1]
    except GithubException as error:
        data = error.data if isinstance(error.data, dict) else {}
        message = str(data.get("message") or "")
        # they differ in very much: a base that contains a commit differs in nothing. That "this diff is temporarily
        # unavailable due to heavy server load" is no answer
        if error.status >= 500 and "Sorry, this diff is taking too long" in message:
            return Relation.DIVERGED
        if error.status != 404:
            raise
        if message.startswith(_NO_ANCESTOR):
            return Relation.UNRELATED
        ask("", {})  # the repository itself is not found?
        raise TransientError(
            f"GitHub does not find {base[:12]} or {commit[:12]}, which it has just named"
        ) from error
    relation = Relation(str(found["status"]))
    middle = str(found["merge_base_commit"]["sha"])
    told = str(found["base_commit"]["sha"]), middle if relation.contained else commit
    if told != (base, commit):
        raise TransientError(f"GitHub compared other commits than {base[:12]} and {commit[:12]}")
    return relation


def protected_branches(ask: Ask, repository: object) -> dict[Ref, str]:
    """The protected branches and where they stand; a call for each hundred.

    Rulesets count like branch protections: https://docs.github.com/rest/branches/branches#list-branches

    Raises:
        PermanentError: there are too many.
    """
    found = dict[Ref, str]()
    for page in range(1, _PAGES + 1):
        headers, listed = ask("/branches", {"protected": "true", "per_page": 100, "page": page})
        for each in listed:
            # PyGithub drops the query where it follows a renamed repository's redirect: then all branches are listed
            if each.get("protected") is True:
                try:
                    found[Ref.of_branch(str(each["name"]))] = parse_sha(str(each["commit"]["sha"]))
                except PayloadError:
                    continue  # no branch that deployer could name
        if 'rel="next"' not in str(headers.get("link", "")):
            return found
    raise PermanentError(f"{repository} has more than {_PAGES * 100} protected branches")


def regular_files(listed: Any, folder: str, stem: str) -> Iterator[dict[str, Any]]:
    """The entries of a folder's listing that are files of this stem.

    Args:
        listed: what GitHub lists; something else than a list where the folder is a file, a link or a submodule.
        folder: its path.
        stem: the files' name without the suffix.

    Raises:
        UnreadableError: one of them, or the folder, is something else, or is too large: what GitHub does not list could
            be the file.
    """
    if not isinstance(listed, list):
        raise UnreadableError(f"{folder}/", None, "it is no folder")
    if len(listed) >= _MOST_LISTED:
        raise UnreadableError(
            f"{folder}/", None, f"GitHub lists at most {_MOST_LISTED:,} of its entries; remove some"
        )
    for entry in listed:
        name = str(entry.get("name", ""))
        if name not in {stem + suffix for suffix in SUFFIXES}:
            continue
        # GitHub lists a submodule as a file, with no address of its content
        if entry.get("type") != "file" or not entry.get("download_url"):
            raise UnreadableError(f"{folder}/{name}", None, "it is no regular file")
        if int(entry.get("size") or 0) > FILE_LIMIT:
            raise UnreadableError(f"{folder}/{name}", None, f"it has more than {FILE_LIMIT:,} bytes")
        yield entry


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
        except GithubException as error:
            if error.status not in {403, 404}:
                raise
            unread.append(f"{what}: GitHub answers {error.status}")
            return None

    def branch_protected() -> bool:
        if ask(f"/branches/{quoted}", {})[1].get("protected") is True:
            return True
        return bool(ask(f"/rules/branches/{quoted}", {})[1])

    def tags_protected() -> bool:
        listed = ask("/rulesets", {"includes_parents": "true", "per_page": 100})[1]
        return any(each.get("target") == "tag" and each.get("enforcement") == "active" for each in listed)

    protected = read("its protection", branch_protected)
    return Protection(branch, protected, read("its rulesets", tags_protected), "; ".join(unread))
