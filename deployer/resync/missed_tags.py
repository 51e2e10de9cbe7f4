"""Tags that no webhook delivery reported: pushed with more than two others, or older than deployer's installation."""

import shlex
from collections.abc import Iterable, Sequence

from deployer.deployment.production.gate import ProductionGate
from deployer.environment.code_host import RepositoryFacts
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Kind, Repository, ref_from_tags
from deployer.model.production_record import MOST_REFUSED
from deployer.model.refs import Ref, skip_reason
from deployer.model.repository_record import Seen
from deployer.model.stacks import Stack


def newest_missed_tag(
    gate: ProductionGate,
    repository: Repository,
    facts: RepositoryFacts,
    seen: Seen,
    record: EnvironmentRecord | None,
) -> Ref | None:
    """The newest tag that is newer than production's and was never judged; None without one.

    GitHub sends no event if more than three tags are pushed at once. If the time of the last decision about production
    is unknown, no tag counts as missed, because a person may have chosen the present one.

    Args:
        gate: says which tags production may run.
        repository: whose tags.
        facts: GitHub's refs and the tags' dates.
        seen: what the last resync noted.
        record: production's record, or None.
    """
    since = record.decision_time if record else 0
    if record is None or not since:
        return None
    newer = _tags_newer_than(max(since, seen.accepted_at), facts, record)
    own = Ref.parse(record.spec.ref) if record.spec.ref else None
    if own in newer and (
        facts.refs[own] in {record.history.moved_to, record.spec.commit} or not record.history.moved_to
    ):
        newer.remove(own)
    return _newest_allowed(gate, repository, newer)


def newest_undeployed_tag(
    gate: ProductionGate,
    repository: Repository,
    facts: RepositoryFacts,
    record: EnvironmentRecord | None,
    stacks: Iterable[Stack],
) -> Ref | None:
    """The newest tag that a person may want deployed, because no record says who chose what production runs.

    None if production runs the newest tag, or if production's tag has no date to compare with.

    Args:
        gate: says which tags production may run.
        repository: whose tags.
        facts: GitHub's refs and the tags' dates.
        record: production's record, or None.
        stacks: the repository's stacks.
    """
    if record and (
        record.spec.production.admitted.commit or record.spec.held_at or record.status.state == "deleted"
    ):
        return None
    own = _production_tag(repository, record, stacks)
    since = facts.made.get(Ref.parse(own), 0.0) if own else -1.0
    if since == 0:
        return None  # the date of production's tag is unknown, so no tag is known to be newer
    return _newest_allowed(gate, repository, _tags_newer_than(since, facts, record))


def undeployed_tag_sentence(repository: Repository, tag: str) -> str:
    """A sentence that names a tag which only a person may deploy; empty without one.

    Args:
        repository: whose tag.
        tag: the tag's full name, or empty.
    """
    if not tag:
        return ""
    redeploy = f"deployer redeploy {repository} {shlex.quote(tag)}"
    return (
        f"the newest tag {Ref.parse(tag).short} of {repository} was never deployed; to deploy it: {redeploy}"
    )


def _newest_allowed(gate: ProductionGate, repository: Repository, tags: Sequence[Ref]) -> Ref | None:
    """The first tag that production's rules allow by its name. No more tags are judged than a record can refuse."""
    return gate.first_allowed(repository, tags[:MOST_REFUSED]) if tags else None


def _tags_newer_than(since: float, facts: RepositoryFacts, record: EnvironmentRecord | None) -> list[Ref]:
    """The tags with a date later than `since` (epoch seconds), newest first, without those that were refused."""
    refused = {(each.ref, each.object) for each in record.history.refused_tags} if record else set()
    newer = [
        (made_at, ref.name, ref)
        for ref, made_at in facts.made.items()
        if made_at > since and (ref.name, facts.refs[ref]) not in refused and not skip_reason(ref, "")
    ]
    return [ref for _, _, ref in sorted(newer, key=lambda each: each[:2], reverse=True)]


def _production_tag(repository: Repository, record: EnvironmentRecord | None, stacks: Iterable[Stack]) -> str:
    """The tag that production runs, by its record or else by its stack's tags; empty if neither names one."""
    if record and record.spec.ref:
        return record.spec.ref
    production = Environment(repository, Kind.PRODUCTION)
    own = (ref_from_tags(stack.tags) for stack in stacks if production.owns(stack.tags))
    return next((name for name in own if name and Ref.parse(name).is_tag), "")
