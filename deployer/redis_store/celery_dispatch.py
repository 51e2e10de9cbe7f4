"""Dispatches carried by Celery. A message is a hint: the lane in Redis stays the truth when it is lost."""

import logging
from typing import Any
from urllib.parse import quote, urlencode

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from deployer.model.redis_url import RedisUrl, parse_redis_url
from deployer.queue.store import Dispatch
from deployer.redis_store.connection import sentinel_options
from deployer.redis_store.errors import unavailable

_log = logging.getLogger(__name__)


_NAME = "deployer"
_LOW = 9  # kombu keeps a list in Redis for each of its steps of priority, and empties that of 0 first
_LISTS = (
    _NAME,
    f"{_NAME}\x06\x16{_LOW}",
)  # the keys of the two priorities that are used, as kombu names them
# The scheduler repeats the message of each lane that nobody takes up, once a minute, because it may be lost. Without
# workers such messages would fill Redis. More lanes than this do not wait for a worker at the same time
_MOST_WAITING = 10_000
_ANSWER_SECONDS = 2.0
_IN_HASTE_SECONDS = (
    0.5  # connecting and each answer may take it: all of a first publishing, six seconds at most
)


def make_celery(redis_url: str, *, in_haste: bool = False) -> Celery:
    """The Celery application, as workers, web and command line share it.

    Args:
        redis_url: the broker's URL; `sentinel://` is put into kombu's own form.
        in_haste: for a web request, which rather leaves a slow Redis: what it does not publish, the scheduler does.

    The reason for each setting stands beside it; docs/decisions/0003-celery.md tells the whole story.
    """
    address = parse_redis_url(redis_url)
    broker, options = _broker(address, in_haste=in_haste)
    seconds = _IN_HASTE_SECONDS if in_haste else _ANSWER_SECONDS
    app = Celery("deployer", broker=broker, set_as_current=False)
    app.conf.update(
        broker_transport_options={
            # a message that a dead worker held comes back long after the sweeper sent another: it is then refused by
            # its old token, so this only has to exceed any task's run time
            "visibility_timeout": 3600,
            "socket_connect_timeout": seconds,
            # a hung Redis is left soon and not asked again: the sweeper sends what was not sent. Workers' BRPOP asks
            # for one second at a time, and lives with this
            "socket_timeout": seconds,
            "max_retries": 0,
            "health_check_interval": 30,
            **options,
        },
        # without it kombu would take any certificate
        broker_use_ssl=None if address.tls is None else dict(address.tls),
        broker_connection_retry_on_startup=True,
        broker_channel_error_retry=True,  # a Redis that takes no writes is away like any other
        broker_connection_max_retries=None,  # Redis may be away for hours: wait for it
        task_default_queue=_NAME,
        task_ignore_result=True,  # outcomes live in the ledger
        task_store_errors_even_if_ignored=False,
        task_acks_late=False,  # the lane hands out again what a dead worker held; a second redelivery helps nobody
        worker_enable_prefetch_count_reduction=False,  # after a loss of Redis; it has no effect there but a log line
        worker_prefetch_multiplier=1,  # an idle process must not starve beside one that hoards
        worker_enable_remote_control=False,  # with it, a worker often ended instead of reconnecting to Redis
        worker_send_task_events=True,  # Flower
        task_send_sent_event=True,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_publish_retry=False,  # the sweeper sends again; a web request must not wait
        task_serializer="json",
        accept_content=["json"],
        enable_utc=True,
        timezone="UTC",
    )
    return app


class CeleryQueue:
    """The real form of `Queue`."""

    def __init__(self, app: Celery, client: redis.Redis) -> None:
        self._app = app
        self._redis: Any = client
        self._has_room = True

    def send_again(self, dispatch: Dispatch) -> None:
        """See `Queue.send_again`."""
        with unavailable():
            waiting = sum(self._redis.llen(key) for key in _LISTS)
        if (waiting < _MOST_WAITING) != self._has_room:
            self._has_room = not self._has_room
            if not self._has_room:
                _log.warning(
                    "%d messages wait for workers; no message is repeated until some are taken", waiting
                )
        if self._has_room:
            self.send(dispatch)

    def send(self, dispatch: Dispatch) -> None:
        """See `Queue.send`."""
        arguments: list[Any] = [dispatch.repository, dispatch.environment, dispatch.token]
        try:
            priority = _LOW if dispatch.low else 0
            self._app.send_task(dispatch.task, args=arguments, retry=False, priority=priority)
        except (OperationalError, OSError) as error:
            _log.warning(
                "sending %s for %s to the workers: %s; the scheduler will send it again",
                dispatch.task,
                dispatch.repository,
                type(error).__name__,
            )


def _broker(address: RedisUrl, *, in_haste: bool) -> tuple[str, dict[str, Any]]:
    """kombu's own form of an address, and what it takes as options of its transport instead."""
    if address.scheme == "unix":
        query = urlencode({"virtual_host": address.database})
        return f"redis+socket://{address.credentials}{quote(address.path)}?{query}", {}
    urls = []
    for host, port in address.nodes:
        node = f"[{host}]" if ":" in host else host
        urls.append(f"{address.scheme}://{address.credentials}{node}:{port}/{address.database}")
    if address.scheme != "sentinel":
        return urls[0], {}
    asking = sentinel_options(address, in_haste=in_haste)
    return ";".join(urls), {"master_name": address.service, "sentinel_kwargs": asking}
