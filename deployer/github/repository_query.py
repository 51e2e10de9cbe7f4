"""Reads a repository with all its refs by one GraphQL query, where the REST API needs three calls."""

import logging
from collections.abc import Mapping
from datetime import datetime

from msgspec import UNSET, Struct, UnsetType

from deployer.github.answers import Id, Name, QueryAnswer, Sha
from deployer.github.client import GitHubClient, decode_json
from deployer.github.errors import Headers, UnexpectedAnswerError, graphql_error
from deployer.model.environments import Repository
from deployer.model.errors import PayloadError, PermanentError, TransientError
from deployer.model.refs import Ref

_log = logging.getLogger(__name__)
_MAX_PAGES = 500  # each has a hundred refs of either kind
# The query reads a page of branches and a page of tags, or further pages of one kind only. If one ref is asked for, the
# query also reads the first branch and the first tag: a missing ref is believed only if GitHub shows other refs.
_QUERY = """
query(
  $owner: String!, $name: String!, $one: Boolean!, $only: String!, $first: Int!
  $heads: Boolean!, $tags: Boolean!, $afterHead: String, $afterTag: String
) {
  repository(owner: $owner, name: $name) {
    databaseId
    nameWithOwner
    isArchived
    isPrivate
    isEmpty
    defaultBranchRef { name }
    only: ref(qualifiedName: $only) @include(if: $one) { ...shown }
    heads: refs(refPrefix: "refs/heads/", first: $first, after: $afterHead) @include(if: $heads) {
      nodes { prefix name target { oid } }
      pageInfo { hasNextPage endCursor }
    }
    tags: refs(refPrefix: "refs/tags/", first: $first, after: $afterTag) @include(if: $tags) {
      nodes { ...shown }
      pageInfo { hasNextPage endCursor }
    }
  }
}
fragment shown on Ref { prefix name target { oid ...made ... on Tag { tagger { date } target { ...made } } } }
fragment made on GitObject { ... on Commit { committedDate } }
"""


class QueryPerson(Struct, frozen=True):
    """Who made a tag, read for the date."""

    date: str | None = None


class QueryTarget(Struct, frozen=True, rename="camel"):
    """The object that a tag object points to; only a commit has a date."""

    committed_date: str = ""


class QueryObject(Struct, frozen=True, rename="camel"):
    """The object that a ref points to."""

    oid: Sha
    committed_date: str = ""
    tagger: QueryPerson | None = None
    target: QueryTarget | None = None


class QueryRef(Struct, frozen=True):
    """A ref."""

    prefix: Name
    name: Name
    target: QueryObject


class PageInfo(Struct, frozen=True, rename="camel"):
    """Whether more refs follow, with the cursor of the next page."""

    has_next_page: bool
    end_cursor: str | None


class RefPage(Struct, frozen=True, rename="camel"):
    """A page of refs."""

    nodes: list[QueryRef]
    page_info: PageInfo


class BranchName(Struct, frozen=True):
    """The default branch."""

    name: Name


class QueryRepository(Struct, frozen=True, rename="camel"):
    """A repository with a page of its refs; `heads`, `tags` and `only` are set only if the query included them.

    GitHub may answer null for the refs of a repository without refs.
    """

    database_id: Id
    name_with_owner: Name
    is_archived: bool
    is_private: bool
    is_empty: bool
    default_branch_ref: BranchName | None
    only: QueryRef | UnsetType | None = UNSET
    heads: RefPage | UnsetType | None = UNSET
    tags: RefPage | UnsetType | None = UNSET


class QueryData(Struct, frozen=True):
    """The data of a query without errors."""

    repository: QueryRepository


def read_repository(
    client: GitHubClient, repository: Repository, only: Ref | None
) -> tuple[QueryRepository, dict[Ref, str], dict[Ref, float]] | None:
    """A repository, the objects that its refs point to, and the times of its tags; None if GitHub does not find it.

    One call reads up to a hundred branches with a hundred tags; each further call reads the next hundred of one kind
    or of both. A single ref takes one call.

    Args:
        client: sends the query.
        repository: the repository.
        only: the one ref to read; None for all.

    Returns:
        The repository; each ref with the id of its object; each tag with its time in epoch seconds.

    Raises:
        ApiError, UnexpectedAnswerError, requests.RequestException: see `GitHubClient.call`.
        PermanentError: the repository has more than 50,000 refs.
        TransientError: the answer contradicts itself, so the list of refs may be incomplete.
    """
    nodes = list[QueryRef]()
    after: dict[str, str | None] = {"heads": None, "tags": None}
    for _ in range(_MAX_PAGES):
        found = _read_page(client, repository, after, only)
        if found is None:
            return None
        for kind in list(after):
            page = _ref_page(found, kind)
            nodes += page.nodes
            del after[kind]
            if page.page_info.has_next_page and not only:
                if not page.page_info.end_cursor:
                    raise TransientError(
                        f"GitHub's list of the {kind} of {repository} goes on, but it names no next page"
                    )
                after[kind] = page.page_info.end_cursor
        if not after:
            break
    else:
        raise PermanentError(f"{repository} has more than {_MAX_PAGES * 100:,} refs")
    if not nodes and not found.is_empty:
        raise TransientError(f"GitHub lists no refs of {repository}, although the repository is not empty")
    if isinstance(found.only, QueryRef):
        nodes.append(found.only)
    return found, *_refs_and_tag_times(repository, nodes, only)


def epoch_seconds(date: str) -> float:
    """A date of GitHub's API in epoch seconds; 0 if it is empty or not a real date, which git accepts too."""
    try:
        return datetime.fromisoformat(date).timestamp()
    except (ValueError, OverflowError):
        return 0


def _read_page(
    client: GitHubClient, repository: Repository, after: Mapping[str, str | None], only: Ref | None
) -> QueryRepository | None:
    """The repository with one page of refs of each kind in `after`; None if GitHub does not find the repository."""
    given = {
        "owner": repository.owner, "name": repository.name,
        "one": bool(only), "only": only.name if only else "", "first": 1 if only else 100,
        "heads": "heads" in after, "afterHead": after.get("heads"),
        "tags": "tags" in after, "afterTag": after.get("tags"),
    }  # fmt: skip

    def read(headers: Headers, answer: QueryAnswer) -> QueryRepository | None:
        if not answer.errors:
            found = decode_json(answer.data, QueryData).repository
            for kind in after:
                _ref_page(found, kind)
            if only and found.only is UNSET:
                raise UnexpectedAnswerError("`only` is missing")
            return found
        data = decode_json(answer.data, object)  # errors may leave any part of the data
        is_found = isinstance(data, dict) and data.get("repository")
        if not is_found and all(
            each.type == "NOT_FOUND" and each.path == ["repository"] for each in answer.errors
        ):
            return None
        raise graphql_error(answer.errors, headers)

    return client.query(repository, _QUERY, given, read)


def _ref_page(found: QueryRepository, kind: str) -> RefPage:
    page = found.heads if kind == "heads" else found.tags
    if isinstance(page, RefPage):
        return page
    if page is None and found.is_empty:
        return RefPage([], PageInfo(has_next_page=False, end_cursor=None))
    raise UnexpectedAnswerError(f"`{kind}` is missing")


def _refs_and_tag_times(
    repository: Repository, nodes: list[QueryRef], only: Ref | None
) -> tuple[dict[Ref, str], dict[Ref, float]]:
    """The id that each ref points to, with the time of each tag; for all refs, or for one only."""
    refs, made = dict[Ref, str](), dict[Ref, float]()
    for node in nodes:
        try:
            ref = Ref.parse(f"{node.prefix}{node.name}")
        except PayloadError as error:
            _log.warning("%s: deployer ignores a ref: %s", repository, error)
            continue
        if only not in {None, ref}:  # if refs/heads/x is missing, GitHub answers with refs/heads/refs/heads/x
            continue
        refs[ref] = node.target.oid
        if ref.is_tag:
            made[ref] = _tag_time(node.target)
    return refs, made


def _tag_time(target: QueryObject) -> float:
    """When a tag was made, in epoch seconds: the time of its tag object, or else of its commit."""
    tagged = target.tagger.date if target.tagger else None
    return epoch_seconds(
        tagged or target.committed_date or (target.target.committed_date if target.target else "")
    )
