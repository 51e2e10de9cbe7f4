"""Sends dispatches to the workers by Celery. The queue in Redis decides; a lost message is sent again."""

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
_LOW = 9  # kombu has a list in Redis for each priority, and takes messages of priority 0 first
_LISTS = (
    _NAME,
    f"{_NAME}\x06\x16{_LOW}",
)  # kombu's keys of the two priorities in use
# The scheduler repeats the message of each queue that no worker has taken up, once a minute, because the message may be
# lost. Without workers, such messages would fill Redis. At most this many queues wait for a worker at the same time.
_MOST_WAITING = 10_000
_ANSWER_SECONDS = 2.0
_IN_HASTE_SECONDS = (
    0.5  # for connecting and for each answer: the first message of a process takes at most six seconds
)


def make_celery(redis_url: str, *, in_haste: bool = False) -> Celery:
    """The Celery application, which workers, web and command line share.

    Args:
        redis_url: the broker's URL; `sentinel://` is translated to kombu's form.
        in_haste: whether to give up soon on a slow Redis, as a web request does; the scheduler sends what was not sent.

    The reason for each setting is beside it; docs/decisions/0003-celery.md explains the choice of Celery.
    """
    address = parse_redis_url(redis_url)
    broker, options = _broker_url(address, in_haste=in_haste)
    seconds = _IN_HASTE_SECONDS if in_haste else _ANSWER_SECONDS
    app = Celery("deployer", broker=broker, set_as_current=False)
    app.conf.update(
        broker_transport_options={
            # The message of a dead worker comes back long after the scheduler has sent another one. Then it is rejected
            # because of its old token. So this only has to exceed the time of any task.
            "visibility_timeout": 3600,
            "socket_connect_timeout": seconds,
            # Do not wait for a Redis that hangs, nor try again, because the scheduler sends what was not sent. The
            # workers' BRPOP waits for one second at a time, which is less than this.
            "socket_timeout": seconds,
            "max_retries": 0,
            "health_check_interval": 30,
            **options,
        },
        # without this kombu accepts any certificate
        broker_use_ssl=None if address.tls is None else dict(address.tls),
        broker_connection_retry_on_startup=True,
        broker_channel_error_retry=True,  # a Redis that refuses writes is treated as unavailable
        broker_connection_max_retries=None,  # wait for Redis, even for hours
        task_default_queue=_NAME,
        task_ignore_result=True,  # outcomes are in the records
        task_store_errors_even_if_ignored=False,
        task_acks_late=False,  # the queue hands out a dead worker's item again, so a second mechanism is not needed
        worker_enable_prefetch_count_reduction=False,  # it would only log a line after a lost connection to Redis
        worker_prefetch_multiplier=1,  # a process must not hold messages that an idle one could take
        worker_enable_remote_control=False,  # with it, workers often ended instead of connecting to Redis again
        worker_send_task_events=True,  # Flower
        task_send_sent_event=True,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_publish_retry=False,  # the scheduler sends again; a web request must not wait
        task_serializer="json",
        accept_content=["json"],
        enable_utc=True,
        timezone="UTC",
    )
    return app


class CeleryDispatcher:
    """Implements `Dispatcher` with Celery."""

    def __init__(self, app: Celery, client: redis.Redis) -> None:
        self._app = app
        self._redis: Any = client
        self._has_room = True

    def resend_dispatch(self, dispatch: Dispatch) -> None:
        """See `Dispatcher.resend_dispatch`."""
        with unavailable():
            waiting = sum(self._redis.llen(key) for key in _LISTS)
        if (waiting < _MOST_WAITING) != self._has_room:
            self._has_room = not self._has_room
            if not self._has_room:
                _log.warning(
                    "%d messages wait for workers; no message is repeated until workers take some", waiting
                )
        if self._has_room:
            self.send(dispatch)

    def send(self, dispatch: Dispatch) -> None:
        """See `Dispatcher.send`."""
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


def _broker_url(address: RedisUrl, *, in_haste: bool) -> tuple[str, dict[str, Any]]:
    """An address in kombu's form, and the options of kombu's transport that are no part of it."""
    if address.scheme == "unix":
        query = urlencode({"virtual_host": address.database})
        return f"redis+socket://{address.credentials}{quote(address.path)}?{query}", {}
    urls = []
    for host, port in address.nodes:
        node = f"[{host}]" if ":" in host else host
        urls.append(f"{address.scheme}://{address.credentials}{node}:{port}/{address.database}")
    if address.scheme != "sentinel":
        return urls[0], {}
    sentinel_kwargs = sentinel_options(address, in_haste=in_haste)
    return ";".join(urls), {"master_name": address.service, "sentinel_kwargs": sentinel_kwargs}
