"""Messages between `FolderProcess` and the process that evaluates: JSON, each message after its length."""

import socket
import struct
import time
from collections.abc import Mapping

import msgspec

from deployer.templates.folder_check import FolderAnswer, FolderQuestion
from deployer.templates.repository_config import RepositoryConfig

ANSWER_LIMIT = 8_000_000  # bytes; the parameters of a template of 1 MB are 6 MB when escaped
WITH_ZONES = b"zones"
"""Sent before a question that may need time zones. An empty message is sent before any other question."""
NOT_CONFINED = 3
"""Exit code of a process that failed before it read the files. It writes the cause instead of an answer."""
_LENGTH = struct.Struct(">Q")
_CHUNK = 1 << 20


class EvaluationRequest(msgspec.Struct, forbid_unknown_fields=True):
    """One of three questions: about a folder, about a resource's line or about the repository's settings.

    Attributes:
        question: the question about a whole folder; None for the other two kinds, which are about `files`.
        files: name to content of the files to read.
        resource: the resource whose line is needed; None to read the settings.
    """

    question: FolderQuestion | None = None
    files: Mapping[str, bytes] = {}
    resource: str | None = None


class EvaluationAnswer(msgspec.Struct, forbid_unknown_fields=True):
    """The result of an evaluation. It is trusted only as far as its types, because a branch may have influenced it.

    Attributes:
        examined, repository_config, line: the answer to the question.
        unreadable: otherwise, file, line and text of each error that makes the files unreadable.
        out_of_memory: otherwise, whether the evaluation reached the memory limit.
        fault: otherwise, the traceback of a bug of deployer.
    """

    examined: FolderAnswer | None = None
    repository_config: RepositoryConfig | None = None
    line: tuple[str, int] | None = None
    unreadable: list[tuple[str, int | None, str]] = []
    out_of_memory: bool = False
    fault: str = ""


class ProcessEnd(msgspec.Struct, forbid_unknown_fields=True):
    """How the process of one evaluation ended.

    Attributes:
        status: the exit status in the format of `os.waitpid`.
        cpu_seconds: the CPU time that the process used.
        start_error: why the machine could not start the process; empty if it started.
    """

    status: int = 0
    cpu_seconds: float = 0
    start_error: str = ""


def send_message(channel: socket.socket, message: bytes) -> None:
    """Send one message.

    Raises:
        OSError: the other process has ended, or the channel timed out.
    """
    channel.sendall(_LENGTH.pack(len(message)))
    channel.sendall(message)


def receive_message(
    channel: socket.socket, most: int = 1 << 30, deadline: float | None = None
) -> bytes | None:
    """Receive one message; None if the other process has ended.

    Args:
        channel: the socket.
        most: maximum length in bytes.
        deadline: time on the monotonic clock, in seconds; None to wait without limit.

    Raises:
        TimeoutError: the deadline has passed.
        ValueError: the message is longer than `most`.
    """
    head = _receive_exactly(channel, _LENGTH.size, deadline)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > most:
        raise ValueError(f"a message of {length} bytes")
    return _receive_exactly(channel, length, deadline)


def _receive_exactly(channel: socket.socket, length: int, deadline: float | None) -> bytes | None:
    parts = bytearray()
    while len(parts) < length:
        if deadline is not None:
            channel.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            part = channel.recv(min(length - len(parts), _CHUNK))
        except ConnectionError:
            return None
        if not part:
            return None
        parts += part
    return bytes(parts)
