"""Lets requests that arrive together share their round trips to Redis.

A thread runs several jobs at the same time, each in a greenlet of its own. A job that sends a command waits for its
reply while the other jobs continue, and the commands of all waiting jobs are sent at once: see
docs/decisions/0046-push-shortcut.md.
"""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any

import redis
from greenlet import getcurrent, greenlet

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Command:
    """A command that a job waits for."""

    client: "SharingClient"
    arguments: tuple[Any, ...]
    options: dict[str, Any]


class _Job(greenlet):  # type: ignore[misc]  # greenlet has no types
    """A job that runs at the same time as others."""


def run_together(jobs: Sequence[Callable[[], None]]) -> None:
    """Run jobs at the same time in this thread, until all have ended. An error of a job is logged and ends only it.

    The waits for Redis are those of all jobs together, so the circuit breaker counts them in a context of their own.
    """
    Context().run(_run_all, jobs)


def _run_all(jobs: Sequence[Callable[[], None]]) -> None:
    hub = getcurrent()
    waiting = [(_Job(each, hub), None) for each in jobs]
    while waiting:
        sent = [(job, command) for job, reply in waiting if (command := _continue_job(job, reply))]
        replies = _send_commands([command for _, command in sent])
        waiting = [(job, reply) for (job, _), reply in zip(sent, replies, strict=True)]


def _continue_job(job: Any, reply: Any) -> _Command | None:
    """Run a job until it waits for the reply to a command, which is returned; None if it has ended."""
    try:
        command: _Command | None = job.switch(reply) if job else job.switch()
    except Exception:  # noqa: BLE001  the other requests must not fail too
        _log.exception("a request failed")
        return None
    return None if job.dead else command


def _send_commands(commands: Sequence[_Command]) -> list[Any]:
    """Send commands at once; the reply or the error of each."""
    if not commands:
        return []
    client = commands[0].client
    if all(each.client is client for each in commands):
        return client.send_commands([(each.arguments, each.options) for each in commands])
    return [each.client.send_commands([(each.arguments, each.options)])[0] for each in commands]


class SharingClient(redis.Redis):
    """Sends the commands of jobs that run together at once, over a connection of the thread's own.

    All other commands use the pool of connections.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._own = threading.local()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """See `redis.Redis.execute_command`."""
        job = getcurrent()
        if not isinstance(job, _Job):
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        reply = job.parent.switch(_Command(self, args, options))
        if isinstance(reply, Exception):
            raise reply
        return reply

    def send_commands(self, commands: Sequence[tuple[tuple[Any, ...], dict[str, Any]]]) -> list[Any]:
        """Send commands at once; returns the reply or the error of each.

        What has no reply when the connection is lost is sent once more, as the pool's connections do
        (`deployer.redis_store.connection`).
        """
        replies: list[Any] = []
        try:
            connection = self._connection()
            try:
                self._send_over(connection, commands, replies)
            except redis.ConnectionError:
                connection.disconnect()
                self._send_over(connection, commands, replies)
        except (redis.RedisError, OSError) as error:
            replies += [error] * (len(commands) - len(replies))
        return replies

    def _send_over(self, connection: Any, commands: Sequence[Any], replies: list[Any]) -> None:
        """Send the commands that have no reply yet, and append their replies."""
        connection.connect()
        rest = commands[len(replies) :]
        connection.send_packed_command(connection.pack_commands([arguments for arguments, _ in rest]))
        for arguments, options in rest:
            try:
                replies.append(self.parse_response(connection, arguments[0], **options))  # type: ignore[no-untyped-call]
            except redis.ConnectionError:
                raise
            except redis.ResponseError as error:
                replies.append(error)

    def _connection(self) -> Any:
        """This thread's connection, which a forked process must not share with its parent."""
        if getattr(self._own, "pid", 0) != os.getpid():
            self._own.connection, self._own.pid = self.connection_pool.make_connection(), os.getpid()
        return self._own.connection
