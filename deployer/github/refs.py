"""Reads a repository's refs from GitHub: the commits that they point to, how commits are related, what is protected.

A wrong "yes" here would let anyone deploy to production, so every answer must name the commits of the request.
A missing ref is an answer (None); a missing or invisible repository is an error. GitHub answers both with 404, and
deployer deletes the stacks of a branch that is gone. Therefore a 404 counts as a missing ref only after GitHub has
shown the repository itself. `GitHubHost` translates the errors of these functions for the core.
"""

from collections.abc import Callable
from urllib.parse import quote

from deployer.environment.code_host import Head, Protection, Relation
from deployer.github import answers
from deployer.github.client import RepositoryClient
from deployer.github.errors import (
    ApiError,
    UnexpectedAnswerError,
    is_empty_repository,
    is_too_large_to_compare,
    rate_limit_seconds,
)
from deployer.github.repository_query import epoch_seconds
from deployer.model.errors import NoCommitError, NotFoundError, PayloadError, PermanentError, TransientError
from deployer.model.refs import Ref, is_full_sha, parse_sha

_MAX_PAGES = 5  # each has a hundred protected branches
_MAX_NESTED_TAGS = 10  # a tag object may point to another tag object
_MAX_COMPARED_FILES = 300  # https://docs.github.com/rest/commits/commits#compare-two-commits
_NO_COMMON_ANCESTOR = "No common ancestor"  # https://github.com/github-changelog-generator/github-changelog-generator/issues/994


def default_branch(api: RepositoryClient) -> str:
    """The default branch's short name. One call."""
    return api.get("", answers.DefaultBranch).default_branch


def read_head(api: RepositoryClient, ref: Ref) -> Head | None:
    """What a ref points to now, or None if the ref does not exist.

    One call for a branch; two for a tag, and one more for each tag object.

    Raises:
        NoCommitError: the tag does not point to a commit.
        ApiError: GitHub does not show the repository (404), or answers with another error.
    """
    if not ref.is_tag:
        return _branch_head(api, ref.short)
    found = _matching_ref(api, ref)
    if found is None:
        return None
    target, made = found.object, ""
    for _ in range(_MAX_NESTED_TAGS):
        if target.type != "tag":
            break
        tag = api.get(f"/git/tags/{target.sha}", answers.GitTag)
        made = made or (tag.tagger.date if tag.tagger else "")
        target = tag.object
    if target.type != "commit":
        raise NoCommitError(f"{ref} of {api.repository} points to a {target.type}, not to a commit")
    commit = api.get(f"/git/commits/{target.sha}", answers.GitCommit)
    at = epoch_seconds(made or commit.committer.date)
    return Head(found.object.sha, target.sha, commit.message, at)


def full_commit_id(api: RepositoryClient, prefix: str) -> str:
    """The full id of a commit. One call; one more if GitHub does not find it.

    `commits/{ref}` prefers the name of a branch or tag to a short id, so the id in the answer must begin with the
    prefix: https://docs.github.com/rest/commits/commits#get-a-commit

    Args:
        api: sends the requests.
        prefix: the full id, or its first hexadecimal digits in lower case.

    Raises:
        NotFoundError: no commit has this id, several have it, or it is the name of a branch or tag.
    """
    is_full = is_full_sha(prefix)
    path = f"/git/commits/{prefix}" if is_full else f"/commits/{prefix}"
    try:
        # one file per page, because only the id is read and the commit may have changed thousands of files
        query = None if is_full else {"per_page": 1}
        found = api.get(path, answers.CommitId, query).sha
    except ApiError as error:
        if error.status != 422 and not (error.status == 404 and api.repository_exists()):
            raise
        found = ""
    if not found:
        several = "" if is_full else ", or several commits begin with these digits: give more digits"
        raise NotFoundError(f"{api.repository} has no commit {prefix}{several}")
    if not found.startswith(prefix):
        raise NotFoundError(
            f"{prefix} is the name of a branch or tag of {api.repository}; give more digits of the commit id"
        )
    return found


def compare_commits(api: RepositoryClient, base: str, commit: str) -> Relation:
    """How a commit is related to a base commit. One call.

    Only full commit ids are sent, because GitHub also accepts names and `owner:branch` here. The second page of the
    answer is read because it has no files: https://docs.github.com/rest/commits/commits#compare-two-commits

    Raises:
        PayloadError: `base` or `commit` is not a full commit id.
        TransientError: GitHub does not find a commit that it has just named.
        UnexpectedAnswerError: GitHub compares other commits.
        ApiError: GitHub answers with another error.
    """
    if parse_sha(base) == parse_sha(commit):
        return Relation.IDENTICAL
    try:
        found = api.get(f"/compare/{base}...{commit}", answers.Relation, {"per_page": 1, "page": 2})
    except ApiError as error:
        # The commits differ in too many files, so the base does not contain the commit: that comparison has no files.
        # The message "this diff is temporarily unavailable due to heavy server load" is not an answer
        if error.status >= 500 and "Sorry, this diff is taking too long" in error.message:
            return Relation.DIVERGED
        if error.status != 404:
            raise
        if error.message.startswith(_NO_COMMON_ANCESTOR):
            return Relation.UNRELATED
        api.require_repository()  # a missing repository is another error than a missing commit
        raise TransientError(
            f"GitHub does not find {base[:12]} or {commit[:12]}, which it has just named"
        ) from error
    relation = Relation(found.status)
    merge_base = found.merge_base_commit.sha
    compared = found.base_commit.sha, merge_base if relation.contained else commit
    if compared != (base, commit):
        raise UnexpectedAnswerError(f"it compares commits other than {base[:12]} and {commit[:12]}")
    return relation


def protected_branches(api: RepositoryClient) -> dict[Ref, str]:
    """The protected branches with the commits that they point to. One call per hundred branches.

    A ruleset counts like a branch protection: https://docs.github.com/rest/branches/branches#list-branches

    Raises:
        PermanentError: the repository has more than 500 protected branches.
    """
    found = dict[Ref, str]()
    for page in range(1, _MAX_PAGES + 1):
        query = {"protected": "true", "per_page": 100, "page": page}
        headers, listed = api.call("GET", "/branches", list[answers.ListedBranch], query=query)
        for each in listed:
            if each.protected:  # checked again, because a redirect may lose the query
                try:
                    found[Ref.of_branch(each.name)] = each.commit.sha
                except PayloadError:
                    continue  # deployer has no name for this branch
        if 'rel="next"' not in headers.get("link", ""):
            return found
    raise PermanentError(f"{api.repository} has more than {_MAX_PAGES * 100} protected branches")


def read_protection(api: RepositoryClient) -> Protection:
    """What protects the default branch and the tags, as far as deployer may read it. Four calls."""
    branch = default_branch(api)
    quoted = quote(branch, safe="")
    unread, required = list[str](), dict[str, None]()

    def read_or_record_refusal(what: str, read: Callable[[], bool]) -> bool | None:
        try:
            return read()
        except ApiError as error:
            if error.status not in {403, 404} or rate_limit_seconds(error) is not None:
                raise
            unread.append(f"{what}: GitHub answers {error.status}")
            return None

    def branch_protected() -> bool:
        classic = api.get(f"/branches/{quoted}", answers.BranchProtection)
        checks = classic.protection.required_status_checks if classic.protection else None
        required.update(dict.fromkeys(checks.contexts if checks else []))
        try:
            rules = api.get(f"/rules/branches/{quoted}", list[answers.Rule])
        except ApiError:
            if classic.protected:
                return True
            raise
        for rule in rules:
            named = rule.parameters.required_status_checks if rule.parameters else []
            required.update(dict.fromkeys(each.context for each in named))
        return classic.protected or bool(rules)

    def tags_protected() -> bool:
        query = {"includes_parents": "true", "per_page": 100}
        listed = api.get("/rulesets", list[answers.Ruleset], query)
        return any(each.target == "tag" and each.enforcement == "active" for each in listed)

    protected = read_or_record_refusal("its protection", branch_protected)
    tags = read_or_record_refusal("its rulesets", tags_protected)
    return Protection(branch, protected, tags, "; ".join(unread), tuple(required))


def changed_files(api: RepositoryClient, before: str, after: str) -> list[str] | None:
    """The paths of the files in which a commit differs from an earlier one, or None if GitHub cannot tell.

    A renamed file appears with both names. One call. GitHub compares with the common ancestor and lists at most 300
    files, so the result is None if `after` does not descend from `before`, or 300 files or more differ.
    """
    try:
        path = f"/compare/{before}...{after}"
        found = api.get(path, answers.Comparison, {"per_page": 1})
    except ApiError as error:
        if is_too_large_to_compare(error):
            return None
        if error.status != 404:
            raise
        api.require_repository()  # a missing commit is no error, but a missing repository is
        return None
    if found.status not in {"ahead", "identical"} or len(found.files) >= _MAX_COMPARED_FILES:
        return None
    names = {name for each in found.files for name in (each.filename, each.previous_filename)}
    return sorted(names - {""})


def _branch_head(api: RepositoryClient, name: str) -> Head | None:
    try:
        # slashes in the name are escaped, because branches/x/protection is another endpoint of the branch x
        found = api.get(f"/branches/{quote(name, safe='')}", answers.Branch)
    except ApiError as error:
        if error.status != 404 and not is_empty_repository(error):
            raise
        api.require_repository()  # a missing branch is an answer, but a missing repository is an error
        return None
    if found.name != name:  # GitHub redirects to a renamed branch's new name
        return None
    return Head(found.commit.sha, found.commit.sha, found.commit.commit.message)


def _matching_ref(api: RepositoryClient, ref: Ref) -> answers.GitRef | None:
    # git/ref/ matches whole names; git/refs/ would answer with feature/x if feature is asked for
    path = f"/git/ref/{quote(ref.name.removeprefix('refs/'))}"
    try:
        found = api.get(path, answers.GitRef)
    except ApiError as error:
        if is_empty_repository(error):
            return None
        if error.status != 404:
            raise
        api.require_repository()
        return None
    if found.ref != ref.name:
        raise UnexpectedAnswerError(f"it is about {found.ref}, not {ref.name}")
    return found
