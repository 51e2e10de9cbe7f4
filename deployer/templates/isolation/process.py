"""Implementation of the port `FolderEvaluator` that evaluates a branch's files in a process with limits.

The worker's own process never evaluates them. A small server process that has imported the evaluation waits for
questions and forks for each one (`folder_server`). A question costs some milliseconds; the server needs about 20 MB for
each worker process. The server is not a process of multiprocessing, because the children of Celery's pool may not start
one.

A question may end without an answer:
- The evaluation crashed, or the kernel killed it because it exceeded its CPU or memory: the release is refused.
  Otherwise a template that exhausts the check would be deployed unchecked.
- The evaluation could not be started or confined, or it was killed by a timer or for lack of memory before it had used
  its CPU time: the machine lacks time, memory or processes. This is not an error in the folder, so it is a
  TransientError. The task is retried and becomes a dead letter after its last attempt, so that a folder that only waits
  cannot occupy a worker for ever, and is never accepted.
"""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
import zoneinfo
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock

import msgspec

from deployer.model.errors import TransientError
from deployer.templates.findings import Finding, refusal_text
from deployer.templates.folder_check import EvaluationFaultError, FolderAnswer, FolderQuestion
from deployer.templates.folder_files import FOLDER, UnreadableError, file_with_stem, template_names
from deployer.templates.isolation.messages import (
    ANSWER_LIMIT,
    NOT_CONFINED,
    WITH_ZONES,
    EvaluationAnswer,
    EvaluationRequest,
    ProcessEnd,
    receive_message,
    send_message,
)
from deployer.templates.repository_config import RepositoryConfig

CPU_SECONDS = 2
"""CPU time of one evaluation. The budget stops known work in half of this time; this limit stops any other work."""
WALL_SECONDS = 5.0
"""Elapsed time of one evaluation. It stops one that waits. On a busy machine two seconds of CPU take longer."""
MEMORY = 768_000_000
"""Address space of one evaluation in bytes."""
_GRACE_SECONDS = 5.0  # for the server to report how the evaluation ended
_START_SECONDS = 30.0  # for the start of the server on a very busy machine
_CACHE_SIZE, _CACHED_ANSWER_LIMIT = 256, 50_000  # cached answers, and maximum bytes of each


class _ServerLostError(Exception):
    """The server process has ended."""


class FolderProcess:
    """Evaluates folders in a server process. Several threads may share it; after a fork it starts its own server.

    Args:
        cpu_seconds: CPU time of one evaluation, in whole seconds.
        wall_seconds: elapsed time of one evaluation, in seconds.
        memory: address space of one evaluation, in bytes.
    """

    def __init__(
        self, cpu_seconds: int = CPU_SECONDS, wall_seconds: float = WALL_SECONDS, memory: int = MEMORY
    ) -> None:
        self._limits = (cpu_seconds, wall_seconds, memory)
        self._lock = Lock()
        self._owner = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._answered = False
        self._finalizer: weakref.finalize[..., FolderProcess] | None = None
        self._answer_cache: OrderedDict[bytes, EvaluationAnswer] = OrderedDict()

    def examine_folder(self, question: FolderQuestion) -> FolderAnswer:
        """See `FolderEvaluator.examine_folder`. An evaluation that was killed is an error finding."""
        answer = self._request_answer(EvaluationRequest(question=question))
        if isinstance(answer, str):
            return FolderAnswer((Finding("error", f"{FOLDER}/", None, answer),))
        found = answer.examined
        if found is None or (found.template and found.template not in template_names(question.files)):
            raise EvaluationFaultError("an answer to another question")
        return found

    def read_repository_config(self, files: Mapping[str, bytes]) -> RepositoryConfig:
        """See `FolderEvaluator.read_repository_config`."""
        name = file_with_stem(files, "deployer")
        if name is None:
            return RepositoryConfig()
        answer = _raise_if_unreadable(self._request_answer(EvaluationRequest(files={name: files[name]})))
        if answer.repository_config is None:
            raise EvaluationFaultError("an answer to another question")
        return answer.repository_config

    def line_of_resource(self, files: Mapping[str, bytes], resource: str) -> tuple[str, int] | None:
        """See `FolderEvaluator.line_of_resource`."""
        name = file_with_stem(files, "pipeline")
        if name is None:
            return None
        return _raise_if_unreadable(
            self._request_answer(EvaluationRequest(files={name: files[name]}, resource=resource))
        ).line

    def start(self) -> None:
        """Start the server process, so that the first question does not wait for it.

        Raises:
            TransientError: the machine cannot start the process now.
        """
        with self._lock:
            self._open_channel()

    def close(self) -> None:
        """End the server process. The next question starts another one."""
        with self._lock:
            self._stop_server()

    def _request_answer(self, request: EvaluationRequest) -> EvaluationAnswer | str:
        """Return the answer to a question, or one line that says why its evaluation was killed."""
        question = msgspec.json.encode(request)
        files = request.question.files if request.question else request.files
        sleeps = any(b"sleep" in content for name, content in files.items() if name.startswith("deployer."))
        key = hashlib.sha256(question).digest()
        with self._lock:
            if key in self._answer_cache:
                self._answer_cache.move_to_end(key)
                return self._answer_cache[key]
            process_end, answer_bytes = self._exchange_or_restart(question, WITH_ZONES if sleeps else b"")
        answer = self._interpret_end(process_end, answer_bytes)
        if (
            isinstance(answer, EvaluationAnswer)
            and _has_no_errors(answer)
            and len(answer_bytes) <= _CACHED_ANSWER_LIMIT
        ):
            with self._lock:
                self._answer_cache[key] = answer
                while len(self._answer_cache) > _CACHE_SIZE:
                    self._answer_cache.popitem(last=False)
        return answer

    def _exchange_or_restart(self, question: bytes, zones: bytes) -> tuple[ProcessEnd, bytes]:
        for again in (True, False):
            try:
                return self._exchange_messages(question, zones)
            except _ServerLostError:
                self._stop_server()
                if not again:
                    raise TransientError(
                        "the process that evaluates deploy/ ends at every question"
                    ) from None
            except TimeoutError:
                self._stop_server()
                raise TransientError("the process that evaluates deploy/ did not answer in time") from None
            except (ValueError, msgspec.MsgspecError) as error:
                self._stop_server()
                raise EvaluationFaultError("no readable answer") from error
            except (
                BaseException
            ):  # for example a shutdown: the next question must not receive the answer to this one
                self._stop_server()
                raise
        raise AssertionError

    def _exchange_messages(self, question: bytes, zones: bytes) -> tuple[ProcessEnd, bytes]:
        channel = self._open_channel()
        allowed = self._limits[1] + _GRACE_SECONDS + (0 if self._answered else _START_SECONDS)
        deadline = time.monotonic() + allowed
        channel.settimeout(allowed)
        try:
            send_message(channel, zones)
            send_message(channel, question)
        except TimeoutError:
            raise
        except OSError as error:
            raise _ServerLostError from error
        head = receive_message(channel, 10_000, deadline)
        answer_bytes = None if head is None else receive_message(channel, ANSWER_LIMIT + 1, deadline)
        if head is None or answer_bytes is None:
            raise _ServerLostError
        self._answered = True
        return msgspec.json.decode(head, type=ProcessEnd), answer_bytes

    def _interpret_end(self, process_end: ProcessEnd, answer_bytes: bytes) -> EvaluationAnswer | str:
        """Interpret the end of an evaluation: its answer, or one line that says why it was killed.

        Raises:
            TransientError: the machine caused the end.
            EvaluationFaultError: a bug of deployer caused the end.
        """
        if process_end.start_error:
            raise TransientError(
                f"the process that evaluates deploy/ cannot start another: {process_end.start_error}"
            )
        killed_by = os.WTERMSIG(process_end.status) if os.WIFSIGNALED(process_end.status) else 0
        if killed_by == signal.SIGXCPU:
            return _too_complex_text(f"it took more than {self._limits[0]} s of CPU")
        if killed_by in {
            signal.SIGALRM,
            signal.SIGKILL,
        }:  # by a timer, or because the machine had no memory left
            if process_end.cpu_seconds < self._limits[0]:
                raise TransientError(
                    "the machine is too busy to evaluate deploy/:"
                    f" it had {process_end.cpu_seconds:.2f} s of CPU when it was ended"
                    f" by {signal.Signals(killed_by).name}"
                )
            return _too_complex_text(f"it took {process_end.cpu_seconds:.1f} s of CPU and was not done")
        if killed_by:
            return _too_complex_text(f"it ended by signal {killed_by}")
        if os.waitstatus_to_exitcode(process_end.status) == NOT_CONFINED:
            cause = answer_bytes[:200].decode(errors="replace")
            raise TransientError(f"the process that evaluates deploy/ could not be prepared: {cause}")
        try:
            answer = msgspec.json.decode(answer_bytes, type=EvaluationAnswer)
        except msgspec.MsgspecError:
            return _too_complex_text("it gave no readable answer")
        if answer.out_of_memory:
            return _too_complex_text(f"it took more than {self._limits[2] // 1_000_000} MB of memory")
        if answer.fault:
            raise EvaluationFaultError(answer.fault)
        return answer

    def _open_channel(self) -> socket.socket:
        """The channel to the server process, which is started if it does not run."""
        if self._owner != os.getpid():  # after a fork the server belongs to the parent
            self._process = self._channel = None
            self._owner = os.getpid()
        if self._channel is None:
            self._channel = self._start_server()
        return self._channel

    def _start_server(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        cpu_seconds, wall_seconds, memory = map(str, self._limits)
        no_environment: dict[str, str] = {}
        module = "deployer.templates.isolation.server"
        zones = os.pathsep.join(zoneinfo.TZPATH)
        try:
            home = Path(tempfile.mkdtemp(prefix="deployer-folder-"))
            try:
                self._process = subprocess.Popen(  # noqa: S603  our own module, under the same interpreter
                    [sys.executable, "-I", "-B", "-m", module, cpu_seconds, wall_seconds, memory, zones],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd=home,
                    env=no_environment,
                    start_new_session=True,
                )
            finally:
                home.rmdir()  # the process keeps this deleted folder, in which nothing can be created
        except OSError as error:
            ours.close()
            raise TransientError(
                f"the process that evaluates deploy/ cannot be started: {error.strerror}"
            ) from error
        finally:
            theirs.close()
        self._answered = False
        self._finalizer = weakref.finalize(self, _end_server, ours, self._process, os.getpid())
        self._finalizer.atexit = False  # the server ends by itself with the process that it serves
        return ours

    def _stop_server(self) -> None:
        self._channel = self._process = None
        if self._finalizer:
            self._finalizer()


def _end_server(channel: socket.socket, process: subprocess.Popen[bytes], owner: int) -> None:
    """End the server process with a running evaluation."""
    channel.close()
    if owner == os.getpid():  # in a fork the process belongs to the parent
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _has_no_errors(answer: EvaluationAnswer) -> bool:
    """Whether the files have no error. Errors are not cached, because a missing time zone may be installed later."""
    return not answer.unreadable and not (answer.examined and refusal_text(answer.examined.findings))


def _too_complex_text(cause: str) -> str:
    return f"it is too complex to check: {cause}; make the template smaller and simpler"


def _raise_if_unreadable(answer: EvaluationAnswer | str) -> EvaluationAnswer:
    if isinstance(answer, str):
        raise UnreadableError(f"{FOLDER}/", None, answer)
    if answer.unreadable:
        errors = [UnreadableError(*each) for each in answer.unreadable]
        errors[0].others = errors[1:]
        raise errors[0]
    return answer
