"""Shares what the AWS adapter needs among all workers, through Redis."""

import redis

from deployer.adapters.aws_shared import Shared
from deployer.adapters.aws_survey import Survey, counted_rooms
from deployer.adapters.aws_throttle import Throttle
from deployer.ports import Room


class RedisSharing:
    """The Protocol `Sharing` of the AWS adapter.

    Args:
        client: a connection with `decode_responses`. AWS is called without Redis as well.
        rate: the share of AWS's usual call rates to use.
    """

    def __init__(self, client: redis.Redis, rate: float = 1.0) -> None:
        self._shared = Shared(client)
        self._rate = rate

    def region_survey(self, account: str, region: str) -> Survey:
        """What is known of an account's region."""
        return Survey(self._shared, account, region)

    def rate_limit(self, account: str, region: str) -> Throttle:
        """The limit of the calls to an account's region."""
        return Throttle(self._shared, account, region, self._rate)

    def counted_rooms(self) -> list[Room]:
        """How full each region was when the workers counted it last; AWS is not asked, and no target needed."""
        return counted_rooms(self._shared)
