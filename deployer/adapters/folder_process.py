"""The port `FolderEvaluator`: a branch's files are evaluated in a process with limits, and never in this one.

A small process that has imported the evaluation waits, and forks for each question (`folder_server`). It costs some
milliseconds a question, and about 20 MB for each worker process. A process of multiprocessing would not do: the
children of Celery's pool may have none.

How a question may end, other than by an answer:
- The evaluation was killed, because it used more CPU or memory than it may, or crashed: that refuses the release. A
  template that could exhaust the check would otherwise be deployed unchecked.
- It was killed by a clock, or for want of memory, before it had used the CPU that it may; or it could not be started,
  or not be confined: the machine has no time, memory or process to spare. That is no fault of the folder: a
  TransientError. The task is tried again, and becomes a dead letter after its last attempt: a folder that only waits
  cannot keep a worker for ever, and is never accepted.
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

from deployer.adapters.folder_messages import (
    ANSWER_LIMIT,
    NOT_CONFINED,
    WITH_ZONES,
    Answer,
    Outcome,
    Request,
    receive,
    send,
)
from deployer.errors import TransientError
from deployer.findings import Finding, refusal
from deployer.folder_check import EvaluationFaultError, FolderAnswer, FolderQuestion
from deployer.folder_files import FOLDER, UnreadableError, pick, templates
from deployer.preferences import Preferences

CPU_SECONDS = 2
"""Of one evaluation. The budget ends what is known in half of it; this ends what is not."""
WALL_SECONDS = 5.0
"""Of one evaluation, for one that waits rather than works: two seconds of CPU take longer on a busy machine."""
MEMORY = 768_000_000
"""Bytes of addresses of one evaluation."""
_GRACE_SECONDS = 5.0  # for the process that waits to say how the evaluation ended
_START_SECONDS = 30.0  # for its start, on a very busy machine
_REMEMBERED, _REMEMBERED_SIZE = 256, 50_000  # answers, and bytes of each


class _LostError(Exception):
    """The process that waits for questions is gone."""


class FolderProcess:
    """See the module. It may be used by several threads; after a fork it starts a process of its own.

    Args:
        cpu_seconds: of one evaluation, whole ones.
        wall_seconds: of one evaluation.
        memory: bytes of addresses of one evaluation.
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
        self._end: weakref.finalize[..., FolderProcess] | None = None
        self._known: OrderedDict[bytes, Answer] = OrderedDict()

    def examine(self, question: FolderQuestion) -> FolderAnswer:
        """See `FolderEvaluator.examine`. An evaluation that was killed is a finding that refuses the release."""
        answer = self._ask(Request(question=question))
        if isinstance(answer, str):
            return FolderAnswer((Finding("error", f"{FOLDER}/", None, answer),))
        found = answer.examined
        if found is None or (found.template and found.template not in templates(question.files)):
            raise EvaluationFaultError("an answer to another question")
        return found

    def preferences(self, files: Mapping[str, bytes]) -> Preferences:
        """See `FolderEvaluator.preferences`."""
        name = pick(files, "deployer")
        if name is None:
            return Preferences()
        answer = _readable(self._ask(Request(files={name: files[name]})))
        if answer.preferences is None:
            raise EvaluationFaultError("an answer to another question")
        return answer.preferences

    def resource_line(self, files: Mapping[str, bytes], resource: str) -> tuple[str, int] | None:
        """See `FolderEvaluator.resource_line`."""
        name = pick(files, "pipeline")
        if name is None:
            return None
        return _readable(self._ask(Request(files={name: files[name]}, resource=resource))).line

    def start(self) -> None:
        """Start the process that waits for questions, so that the first one need not wait for it.

        Raises:
            TransientError: the machine could not do it now.
        """
        with self._lock:
            self._connected()

    def close(self) -> None:
        """End that process; the next question starts another."""
        with self._lock:
            self._stop()

    def _ask(self, request: Request) -> Answer | str:
        """The answer to a question, or in one line why its evaluation was killed."""
        question = msgspec.json.encode(request)
        files = request.question.files if request.question else request.files
        sleeps = any(b"sleep" in content for name, content in files.items() if name.startswith("deployer."))
        key = hashlib.sha256(question).digest()
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
            outcome, answer_bytes = self._outcome(question, WITH_ZONES if sleeps else b"")
        answer = self._judged(outcome, answer_bytes)
        if isinstance(answer, Answer) and _is_good(answer) and len(answer_bytes) <= _REMEMBERED_SIZE:
            with self._lock:
                self._known[key] = answer
                while len(self._known) > _REMEMBERED:
                    self._known.popitem(last=False)
        return answer

    def _outcome(self, question: bytes, zones: bytes) -> tuple[Outcome, bytes]:
        for again in (True, False):
            try:
                return self._exchange(question, zones)
            except _LostError:
                self._stop()
                if not again:
                    raise TransientError(
                        "the process that evaluates deploy/ ends as soon as it is asked"
                    ) from None
            except TimeoutError:
                self._stop()
                raise TransientError("the process that evaluates deploy/ did not answer in time") from None
            except (ValueError, msgspec.MsgspecError) as error:
                self._stop()
                raise EvaluationFaultError("no readable answer") from error
            except (
                BaseException
            ):  # such as a shutdown: the next question must not meet the answer to this one
                self._stop()
                raise
        raise AssertionError

    def _exchange(self, question: bytes, zones: bytes) -> tuple[Outcome, bytes]:
        channel = self._connected()
        allowed = self._limits[1] + _GRACE_SECONDS + (0 if self._answered else _START_SECONDS)
        deadline = time.monotonic() + allowed
        channel.settimeout(allowed)
        try:
            send(channel, zones)
            send(channel, question)
        except TimeoutError:
            raise
        except OSError as error:
            raise _LostError from error
        head = receive(channel, 10_000, deadline)
        answer_bytes = None if head is None else receive(channel, ANSWER_LIMIT + 1, deadline)
        if head is None or answer_bytes is None:
            raise _LostError
        self._answered = True
        return msgspec.json.decode(head, type=Outcome), answer_bytes

    def _judged(self, outcome: Outcome, answer_bytes: bytes) -> Answer | str:
        """What an evaluation's end means.

        Raises:
            TransientError: it is the machine's fault.
            EvaluationFaultError: it is a fault of deployer's own.
        """
        if outcome.refused:
            raise TransientError(
                f"the process that evaluates deploy/ cannot start another: {outcome.refused}"
            )
        killed_by = os.WTERMSIG(outcome.status) if os.WIFSIGNALED(outcome.status) else 0
        if killed_by == signal.SIGXCPU:
            return _refused(f"it took more than {self._limits[0]} s of CPU")
        if killed_by in {signal.SIGALRM, signal.SIGKILL}:  # by a clock, or where the machine's memory ran out
            if outcome.cpu_seconds < self._limits[0]:
                raise TransientError(
                    "the machine is too busy to evaluate deploy/:"
                    f" it had {outcome.cpu_seconds:.2f} s of CPU when it was ended by {signal.Signals(killed_by).name}"
                )
            return _refused(f"it took {outcome.cpu_seconds:.1f} s of CPU and was not done")
        if killed_by:
            return _refused(f"it ended by signal {killed_by}")
        if os.waitstatus_to_exitcode(outcome.status) == NOT_CONFINED:
            cause = answer_bytes[:200].decode(errors="replace")
            raise TransientError(f"the process that evaluates deploy/ could not be prepared: {cause}")
        try:
            answer = msgspec.json.decode(answer_bytes, type=Answer)
        except msgspec.MsgspecError:
            return _refused("it gave no readable answer")
        if answer.out_of_memory:
            return _refused(f"it took more than {self._limits[2] // 1_000_000} MB of memory")
        if answer.fault:
            raise EvaluationFaultError(answer.fault)
        return answer

    def _connected(self) -> socket.socket:
        """The channel to the process that waits for questions, which is started if there is none."""
        if self._owner != os.getpid():  # after a fork it is another's
            self._process = self._channel = None
            self._owner = os.getpid()
        if self._channel is None:
            self._channel = self._started()
        return self._channel

    def _started(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        cpu_seconds, wall_seconds, memory = map(str, self._limits)
        no_environment: dict[str, str] = {}
        module = "deployer.adapters.folder_server"
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
                home.rmdir()  # the process stays there, in a folder that is empty for ever
        except OSError as error:
            ours.close()
            raise TransientError(
                f"the process that evaluates deploy/ cannot be started: {error.strerror}"
            ) from error
        finally:
            theirs.close()
        self._answered = False
        self._end = weakref.finalize(self, _end, ours, self._process, os.getpid())
        self._end.atexit = False  # it ends by itself with the process that it serves
        return ours

    def _stop(self) -> None:
        self._channel = self._process = None
        if self._end:
            self._end()


def _end(channel: socket.socket, process: subprocess.Popen[bytes], owner: int) -> None:
    """End the process that waits for questions, with the evaluation that it may wait for."""
    channel.close()
    if owner == os.getpid():  # in a fork it is another's
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _is_good(answer: Answer) -> bool:
    """Whether the files have no error. An error is looked at again: a time zone may have been installed meanwhile."""
    return not answer.unreadable and not (answer.examined and refusal(answer.examined.findings))


def _refused(cause: str) -> str:
    return f"it is too complex to check: {cause}; make the template smaller and plainer"


def _readable(answer: Answer | str) -> Answer:
    if isinstance(answer, str):
        raise UnreadableError(f"{FOLDER}/", None, answer)
    if answer.unreadable:
        errors = [UnreadableError(*each) for each in answer.unreadable]
        errors[0].others = errors[1:]
        raise errors[0]
    return answer
