"""What is known of a repository as a whole."""

import msgspec

from deployer.model.stored_value import StoredValue


class Seen(StoredValue, frozen=True):
    """What the resyncs of a repository have seen that the next resync needs.

    Attributes:
        orphans: since when environments have been seen without a ref (epoch seconds), by key.
        accepted_at: when a person accepted the repository as that of the environments (epoch seconds): a tag that was
            made before does not count as missed.
        never_deployed: the full name of the newest tag that production was not brought to, where deployer does not know
            whether a person wants that: only a person decides about it. Empty where there is none.
    """

    orphans: dict[str, float] = msgspec.field(default_factory=dict)
    accepted_at: float = 0
    never_deployed: str = ""


class RepositoryRecord(StoredValue, frozen=True):
    """What is known of a repository as a whole.

    Attributes:
        id: GitHub's, which stays when the name changes; 0 if GitHub was never asked.
        state: empty if nothing is unusual, else `archived`, `renamed`, `replaced`, `deleted` or `removed`.
        reason: the state in words for people, with what they can do.
        since: when the state began (epoch seconds).
        name: its present name, if it is `renamed`.
        over: of a repository that is `renamed` or `deleted`, whether nothing of it exists: then nobody is warned.
        left_out_at: when a scheduler first saw that the settings leave it out (epoch seconds); 0 where they do not.
        default_branch, private: as last seen.
        checked_at: when GitHub was last asked for failed deliveries (epoch seconds).
        failed_at: when asking failed last (epoch seconds).
        missed: what the last check that found any did: `at`, and how many were `redelivered`, `superseded` or `left`.
        recent: how many had failed less than a minute before the last check, which left them to the next one.
        refused: how many deliveries' last attempt was answered with 401, because the secrets differ.
        unchecked: why GitHub cannot be asked for deliveries; empty where it can.
        no_webhook: whether that is because no webhook has deployer's address; otherwise a permission is missing.
    """

    repository: str
    id: int = 0
    state: str = ""
    reason: str = ""
    since: float = 0
    name: str = ""
    over: bool = False
    left_out_at: float = 0
    default_branch: str = ""
    private: bool = True
    checked_at: float = 0
    failed_at: float = 0
    missed: dict[str, float] = msgspec.field(default_factory=dict)
    recent: int = 0
    refused: int = 0
    unchecked: str = ""
    no_webhook: bool = False
