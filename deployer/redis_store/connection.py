"""A connection to Redis from one URL: `redis://`, `rediss://`, `unix://` or `sentinel://`."""

import logging
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import LockError
from redis.lock import Lock
from redis.retry import Retry
from redis.sentinel import Sentinel

from deployer.model.errors import ConfigError, UnavailableError
from deployer.model.redis_url import SETTING, RedisUrl, parse_redis_url

_log = logging.getLogger(__name__)
# error codes at the start of a reply: https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors
_REFUSALS = (
    "OOM",
    "MISCONF",
    "NOREPLICAS",
    "READONLY",
    "MASTERDOWN",
    "NOAUTH",
    "NOPERM",
    "BUSY",
    "CLUSTERDOWN",
)
_CONNECT_SECONDS = 0.5
_ANSWER_SECONDS = 2.0  # a slow fsync is no reason to fail a task
_SENTINEL_SECONDS = 1.0
_HASTY_SENTINEL_SECONDS = 0.35  # half of what a web request waits for an answer
_PROMPT_SECONDS = 0.02
_PAUSE_SECONDS = 0.25
_SLOW_SECONDS = 60.0  # for which an answer that came slowly makes others be awaited for longer


_HANGS = (redis.TimeoutError, TimeoutError)  # redis-py raises both
_CLUSTER = (redis.exceptions.AskError, redis.exceptions.ClusterCrossSlotError)  # MOVED is an AskError


class _SpentError(redis.TimeoutError):
    """A command that was not sent: the request has waited enough, or Redis hangs, which a thread of its own watches."""


class Budget:
    """Bounds how long a request waits for Redis, and is the circuit breaker of a Redis that hangs.

    A request waits `seconds` for answers that do not come, all its commands together, and `patience` for slow ones;
    prompt answers are free, so that a page may ask as much as it needs. Once an answer did not come in time, or Redis
    said that it loads its data, it is taken to hang: all requests fail at once, else the threads that wait for Redis
    would soon be all there are. A thread of its own asks until Redis answers again, and measures how slow it is then:
    requests wait for an answer twice as long as one is known to take. The log says when Redis went away and when it is
    back.

    Args:
        seconds: what a request may wait for answers that do not come, or are refusals.
        patience: what it may wait in all, in seconds; a busy process of our own looks like a slow Redis.
    """

    def __init__(self, seconds: float, patience: float = 5.0) -> None:
        self._seconds, self._patience = seconds, patience
        self._spent: ContextVar[float] = ContextVar("spent", default=0.0)
        self._slow: ContextVar[float] = ContextVar("slow", default=0.0)
        self._probes: ContextVar[bool] = ContextVar("probes", default=False)
        self._lock = threading.Lock()
        self._away = self._hangs = False
        self._slow_answer = self._slow_until = 0.0
        self._why = ""
        self._client: redis.Redis | None = None

    def begin(self) -> None:
        """Give the request that begins in this thread its whole budget."""
        self._spent.set(0.0)
        self._slow.set(0.0)

    def bind(self, client: redis.Redis) -> None:
        """Have a client keep to it."""
        self._client = client
        self._bind(client, decides=True)
        for sentinel in getattr(getattr(client.connection_pool, "sentinel_manager", None), "sentinels", ()):
            self._bind(sentinel, decides=False)

    def _bind(self, client: redis.Redis, *, decides: bool) -> None:
        """Make a client's connections wait no longer than the request can; a sentinel's say nothing of Redis."""
        pool: Any = client.connection_pool
        budget = self

        class Connection(pool.connection_class):  # type: ignore[misc]
            socket_connect_timeout: float
            socket_timeout: float

            def _connect(self) -> Any:
                own = self.socket_connect_timeout, self.socket_timeout
                with self._bounded() as left:
                    self.socket_connect_timeout, self.socket_timeout = (min(each, left) for each in own)
                    try:
                        return super()._connect()
                    except OSError as error:
                        if decides and not isinstance(error, TimeoutError):
                            budget._lost(error, hangs=False)
                        raise
                    finally:
                        self.socket_connect_timeout, self.socket_timeout = own

            def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
                with self._bounded():
                    super().send_packed_command(*args, **kwargs)

            def read_response(self, *args: Any, **kwargs: Any) -> Any:
                began = time.monotonic()
                with self._bounded():
                    found = super().read_response(*args, **kwargs)
                if decides:
                    budget._answered(time.monotonic() - began)
                return found

            @contextmanager
            def _bounded(self) -> Iterator[float]:
                try:
                    with budget._waiting() as left:
                        if self._sock:
                            self._sock.settimeout(min(left, self.socket_timeout))
                        yield left
                except (*_HANGS, redis.BusyLoadingError) as error:
                    self.disconnect()  # a late answer must not be taken for that to the next command
                    if decides and not isinstance(error, _SpentError):
                        budget._lost(error, hangs=True)
                    raise

        pool.connection_class = Connection

    @contextmanager
    def _waiting(self) -> Iterator[float]:
        """Charge what is slow; gives the seconds that are left for an answer."""
        if self._probes.get():
            yield self._patience
            return
        began = time.monotonic()
        left = min(self._longest_answer(began) - self._spent.get(), self._patience - self._slow.get())
        if self._hangs:
            raise _SpentError(f"{self._why}; it is asked in the background until it does")
        if left <= 0:
            raise _SpentError("it was waited for long enough")
        charged = self._spent
        try:
            yield left
            charged = self._slow
        except redis.ResponseError as error:
            # a Redis that does not know a command of the client's handshake has answered all the same
            charged = self._spent if refuses_all(error) else self._slow
            raise
        finally:
            if (took := time.monotonic() - began) > _PROMPT_SECONDS:
                charged.set(charged.get() + took)

    def _longest_answer(self, now: float) -> float:
        return max(self._seconds, 2 * self._slow_answer) if now < self._slow_until else self._seconds

    def _answered(self, seconds: float) -> None:
        """Learn from an answer that took so long."""
        if self._probes.get():
            return
        if seconds > self._seconds / 2:
            self._learn(seconds)
        if self._away:
            self._back()

    def _learn(self, seconds: float) -> None:
        with self._lock:
            self._slow_answer, self._slow_until = seconds, time.monotonic() + _SLOW_SECONDS

    def _lost(self, error: Exception, *, hangs: bool) -> None:
        if self._probes.get():
            return
        with self._lock:
            probe = hangs and not self._hangs
            self._hangs = self._hangs or hangs
            self._why = type(error).__name__
            told, self._away = self._away, True
        if not told:
            _log.warning("Redis does not answer (%s); what needs it gets 503", self._why)
        if probe:
            threading.Thread(target=self._probe, name="redis-probe", daemon=True).start()

    def _back(self) -> None:
        with self._lock:
            told, self._away, self._hangs = self._away, False, False
        if told:
            _log.warning("Redis answers again")

    def _probe(self) -> None:
        """Ask a Redis that hangs until it answers, or is gone: then requests find that out by themselves at once."""
        assert self._client is not None  # noqa: S101  for mypy: it was bound before anything could hang
        self._probes.set(True)
        while self._hangs:
            try:
                self._client.ping()
                began = time.monotonic()
                self._client.ping()  # the first answer came when Redis went on
            except (*_HANGS, redis.BusyLoadingError):
                time.sleep(_PAUSE_SECONDS)
            except Exception:  # noqa: BLE001  whatever it is: no request may wait for a thread that has ended
                with self._lock:
                    self._hangs = False
            else:
                if (took := time.monotonic() - began) > self._seconds / 2:
                    self._learn(took)
                self._back()


def connect(url: str, budget: Budget | None = None) -> redis.Redis:
    """Make a client; it connects with its first command.

    Args:
        url: an address of Redis; `deployer.model.redis_url` has its forms.
        budget: of each request; without one every command may take its own time.

    Raises:
        ConfigError: the URL is malformed; the text does not repeat it, since it may hold a password.
    """
    address = parse_redis_url(url)
    options: dict[str, Any] = {
        "db": address.database,
        "username": address.username,
        "password": address.password,
        "socket_connect_timeout": _CONNECT_SECONDS,
        "socket_timeout": _ANSWER_SECONDS,
        # one quick repeat hides a connection that was closed while idle; longer waits are the caller's to decide, and
        # what had no answer in time may have been carried out
        "retry": Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        "decode_responses": True,
        # a value that is no UTF-8 fails where it is read as JSON or a name, and no answer that holds others as well
        "encoding_errors": "backslashreplace",
    }
    if address.tls is not None:
        options.update(address.tls, ssl=True)
    if address.scheme == "sentinel":
        sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
            list(address.nodes), sentinel_kwargs=sentinel_options(address, in_haste=budget is not None)
        )
        client: redis.Redis = sentinel.master_for(address.service, **options)
    elif address.scheme == "unix":
        client = redis.Redis(unix_socket_path=address.path, **options)
    else:
        ((host, port),) = address.nodes
        client = redis.Redis(host=host, port=port, **options)
    if budget:
        budget.bind(client)
    return client


def sentinel_options(address: RedisUrl, *, in_haste: bool) -> dict[str, Any]:
    """redis-py's options for the connections to the Sentinels themselves.

    Args:
        address: has their user and password.
        in_haste: for a web request; a Sentinel that hangs must leave it time to ask another one.
    """
    seconds = _HASTY_SENTINEL_SECONDS if in_haste else _SENTINEL_SECONDS
    return {
        "username": address.sentinel_username,
        "password": address.sentinel_password,
        "socket_connect_timeout": seconds,
        "socket_timeout": seconds,
        "retry": Retry(NoBackoff(), 0),  # redis-py's own waits for seconds before another Sentinel is asked
    }


def check_certificates(address: RedisUrl) -> None:
    """Insist that the files which the URL names for TLS can be used; redis-py would take Redis for away.

    Raises:
        ConfigError: one cannot be read, or is not what it should be; one line that names its option.
    """
    given = address.tls or {}
    context = ssl.create_default_context()
    if (directory := given.get("ssl_ca_path")) and not Path(directory).is_dir():
        raise ConfigError(f"{SETTING}: ssl_ca_path is not a directory; correct it")
    option = "ssl_ca_certs"
    try:
        if file := given.get(option):
            context.load_verify_locations(file)
        option = "ssl_certfile"
        if file := given.get(option):
            # without a password OpenSSL would ask for one at the terminal
            context.load_cert_chain(file, given.get("ssl_keyfile"), given.get("ssl_password", ""))
    except OSError as error:  # ssl.SSLError is one
        readable = not isinstance(error, FileNotFoundError | PermissionError)
        why = "not a valid PEM file" if readable else error.strerror
        raise ConfigError(f"{SETTING}: the file of {option} cannot be used ({why}); correct it") from error


def refuses_all(error: redis.ResponseError) -> bool:
    """Whether Redis refuses more than this one command: it is full, read-only, starting or in someone else's script."""
    answer = str(error).rpartition("of pipeline caused error: ")[2]  # redis-py names the command first
    lasting = (redis.exceptions.ReadOnlyError, redis.exceptions.OutOfMemoryError)
    return isinstance(error, lasting) or answer.startswith(_REFUSALS)


def refuses_one(error: UnavailableError) -> bool:
    """Whether Redis answers and has refused nothing but this command, such as one for a key of another type."""
    return isinstance(error.__cause__, redis.ResponseError) and not refuses_all(error.__cause__)


@contextmanager
def unavailable() -> Iterator[None]:
    """Turn what redis-py raises when the server is away into `UnavailableError`."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.ReadOnlyError, OSError) as error:
        if isinstance(error.__context__, ssl.SSLCertVerificationError):
            raise UnavailableError(
                f"Redis's certificate is refused: {error.__context__.verify_message}"
            ) from error
        why = str(error) if isinstance(error, _SpentError) else type(error).__name__
        raise UnavailableError(f"Redis does not answer ({why})") from error
    except redis.InvalidResponse as error:
        raise UnavailableError("what answers at the address of Redis is not Redis") from error
    except _CLUSTER as error:
        raise UnavailableError("Redis runs in cluster mode, which is not supported") from error
    except redis.ResponseError as error:
        # out of memory, a broken disk, a script killed: nothing was recorded, and Redis may recover
        raise UnavailableError(f"Redis refused a command: {' '.join(str(error).split())[:200]}") from error


def read_server(client: redis.Redis) -> dict[str, str]:
    """What the server says of its memory, persistence and cluster mode, by the names of `INFO`.

    Raises:
        UnavailableError: Redis is away, or does not allow `INFO`.
    """
    pipe = client.pipeline(transaction=False)
    for section in ("memory", "persistence", "cluster"):  # several at once need Redis 7
        pipe.info(section)
    with unavailable():
        parts = pipe.execute()
    return {name: str(value) for part in parts for name, value in part.items()}


@contextmanager
def claimed(client: Any, key: str, seconds: float) -> Iterator[Lock | None]:
    """Hold a claim that one process at a time has, and give it back at the end.

    Args:
        client: a connection.
        key: of the claim.
        seconds: after which it is free again, if whoever holds it dies and does not renew it by `reacquire`.

    Yields:
        The claim, or None where another process holds it.

    Raises:
        UnavailableError: Redis is away.
    """
    lock: Lock = client.lock(key, timeout=seconds, blocking=False, thread_local=False)
    token = uuid.uuid4().hex
    with unavailable():
        mine = lock.acquire(token=token)
        if not mine:  # or the answer was lost, and redis-py repeated a command that had been carried out
            lock.local.token = token.encode()
            mine = lock.owned()
    try:
        yield lock if mine else None
    finally:
        if mine:
            # if Redis is away it ends by itself; if that was long ago, another holds it by now
            with suppress(LockError, UnavailableError), unavailable():
                lock.release()
