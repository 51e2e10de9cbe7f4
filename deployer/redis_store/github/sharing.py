"""The Protocol in which the GitHub adapter describes what all processes share, implemented in Redis."""

import redis

from deployer.model.environments import Repository
from deployer.redis_store.github.rate_gate import Quota, RedisRateGate
from deployer.redis_store.shared_redis import SharedRedis

# After this time GitHub is asked again, so that the ids of repositories that are not used any more expire
_KNOWN_SECONDS = 30 * 86_400
_MAX_LEARNED = 5000


class RedisGitHubSharing:
    """Implements `Sharing` of the GitHub adapter.

    Args:
        client: a connection with `decode_responses`. GitHub is called even while Redis is unavailable.
        rate: the share of GitHub's usual limits that deployer may use; 1.0 is all of it.
        clock_offset_ms: milliseconds to add to Redis's clock. Only tests use it, to let time pass.
    """

    def __init__(self, client: redis.Redis, rate: float = 1.0, clock_offset_ms: int = 0) -> None:
        self.redis = SharedRedis(client, clock_offset_ms, "GitHub's rate limits and tokens")
        gate = RedisRateGate(self.redis, rate)
        self.wait_for_turn = gate.wait_for_turn
        self.record_limits = gate.record_limits
        self._gate = gate
        self._learned: dict[str, int] = {}

    def quotas(self) -> list[Quota]:
        """The rate limits of each account, as GitHub's latest answers named them. Reads only Redis."""
        return self._gate.quotas()

    def is_short(self, repository: Repository) -> bool:
        """Whether GitHub's limits leave room for little in a repository. Reads only Redis."""
        installation = self.installation(repository)
        return self._gate.is_short(f"installation-{installation}" if installation else "token")

    def installation(self, repository: Repository) -> int:
        """The id of the App's installation that serves a repository; 0 if it is unknown."""
        found = self.redis.run_if_available(lambda r: r.get(_installation_key(repository)))
        return int(found) if found and found.isdecimal() else 0

    def save_installation(self, repository: Repository, installation: int) -> None:
        """Store which installation serves a repository; 0 deletes what is stored."""
        key = _installation_key(repository)
        if installation:
            self.redis.run_if_available(lambda r: r.set(key, installation, ex=_KNOWN_SECONDS))
        else:
            self.redis.run_if_available(lambda r: r.delete(key))

    def learn_installation(self, repository: Repository, installation: int) -> None:
        """Store an installation that a delivery named, unless this process has just stored the same.

        A delivery may be old. If its installation was removed, GitHub answers 404, and then GitHub is asked.
        """
        if self._learned.get(repository.key) == installation:
            return
        if len(self._learned) >= _MAX_LEARNED:
            self._learned.clear()
        self._learned[repository.key] = installation
        self.save_installation(repository, installation)

    def sealed_token(self, installation: int) -> tuple[str, float] | None:
        """An installation's sealed token with the seconds for which it may be used; None if there is none."""
        key = _token_key(installation)
        found = self.redis.run_if_available(lambda r: (r.get(key), r.pttl(key)))
        return (found[0], found[1] / 1000) if found and found[0] and found[1] > 0 else None

    def save_sealed_token(self, installation: int, sealed: str, seconds: float) -> None:
        """Store an installation's sealed token for some seconds; an empty text deletes it."""
        key = _token_key(installation)
        if sealed and seconds >= 1:
            self.redis.run_if_available(lambda r: r.set(key, sealed, px=round(seconds * 1000)))
        else:
            self.redis.run_if_available(lambda r: r.delete(key))


def _installation_key(repository: Repository) -> str:
    return f"deployer:{{{repository.key}}}:installation"


def _token_key(installation: int) -> str:
    return f"deployer:github:{{installation-{installation}}}:token"
