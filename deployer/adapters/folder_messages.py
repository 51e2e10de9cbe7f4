"""What `FolderProcess` and the process that evaluates say to each other: JSON of these types, each after its length."""

import socket
import struct
import time
from collections.abc import Mapping

import msgspec

from deployer.folder_check import FolderAnswer, FolderQuestion
from deployer.preferences import RepositoryConfig

ANSWER_LIMIT = 8_000_000  # bytes; parameters of a template of 1 MB, escaped, are 6 MB
WITH_ZONES = b"zones"
"""Sent before a question that may need time zones; before others, an empty message is sent."""
NOT_CONFINED = 3
"""The exit code of a process that failed before it looked at the files; it writes the cause instead of an answer."""
_LENGTH = struct.Struct(">Q")
_CHUNK = 1 << 20


class EvaluationRequest(msgspec.Struct, forbid_unknown_fields=True):
    """One of three questions.

    Attributes:
        question: of the whole folder.
        files: else, of these files:
        resource: where this resource is declared; None for the preferences in them.
    """

    question: FolderQuestion | None = None
    files: Mapping[str, bytes] = {}
    resource: str | None = None


class EvaluationAnswer(msgspec.Struct, forbid_unknown_fields=True):
    """What the evaluation came to. A branch may have had a hand in it: it is believed as far as it fits its types.

    Attributes:
        examined, repository_config, line: what was asked for.
        unreadable: else: file, line and text of each thing that makes the files unreadable.
        out_of_memory: else: the limit of memory was met.
        fault: else: the traceback of a fault of deployer's own.
    """

    examined: FolderAnswer | None = None
    repository_config: RepositoryConfig | None = None
    line: tuple[str, int] | None = None
    unreadable: list[tuple[str, int | None, str]] = []
    out_of_memory: bool = False
    fault: str = ""


class ProcessEnd(msgspec.Struct, forbid_unknown_fields=True):
    """How the process that evaluated ended.

    Attributes:
        status: as `os.waitpid` has it.
        cpu_seconds: what it used.
        start_error: why there was none; a cause of the machine.
    """

    status: int = 0
    cpu_seconds: float = 0
    start_error: str = ""


def send_message(channel: socket.socket, message: bytes) -> None:
    """Send one message.

    Raises:
        OSError: the other side is gone, or the channel's timeout is over.
    """
    channel.sendall(_LENGTH.pack(len(message)))
    channel.sendall(message)


def receive_message(
    channel: socket.socket, most: int = 1 << 30, deadline: float | None = None
) -> bytes | None:
    """Receive one message; None if the other side is gone.

    Args:
        channel: where from.
        most: bytes that are taken.
        deadline: on the monotonic clock; None to wait for ever.

    Raises:
        TimeoutError: the deadline is over.
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
