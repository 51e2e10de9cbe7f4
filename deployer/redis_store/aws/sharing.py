"""The Protocols in which the AWS adapter describes what all workers share, implemented in Redis."""

import redis

from deployer.environment.cloud_region import RegionCapacity
from deployer.redis_store.aws.rate_limit import RedisRateLimit
from deployer.redis_store.aws.region_status import RedisRegionStatus, last_capacities
from deployer.redis_store.shared_redis import SharedRedis


class RedisSharing:
    """Implements `Sharing` of the AWS adapter.

    Args:
        client: a connection with `decode_responses`. AWS is called even while Redis is unavailable.
        rate: the share of AWS's usual call rates that deployer may use; 1.0 is all of it.
    """

    def __init__(self, client: redis.Redis, rate: float = 1.0) -> None:
        self._redis = SharedRedis(client)
        self._rate = rate

    def region_status(self, account: str, region: str) -> RedisRegionStatus:
        """Return what is shared about a region of an account."""
        return RedisRegionStatus(self._redis, account, region)

    def rate_limit(self, account: str, region: str) -> RedisRateLimit:
        """Return the limit of the calls to a region of an account."""
        return RedisRateLimit(self._redis, account, region, self._rate)

    def last_capacities(self) -> list[RegionCapacity]:
        """Return the last counts of each region that is still used. This reads only Redis and needs no targets."""
        return last_capacities(self._redis)
