"""The server process that forks to evaluate a branch's files.

`FolderProcess` starts one server for each worker process. The server contains only the modules of the evaluation. It
forks for each question: the fork sets its own limits, evaluates, writes its answer into a pipe and ends, so that no
data of one folder is left for the next. The server itself never reads a question or an answer.

The kernel enforces what the fork may not do: open any file or socket (RLIMIT_NOFILE is 0, so it can use only open
files, which are /dev/null and the pipe), write files, start processes (except as root), and use more CPU, memory or
time than its limits. The server has no environment variables, and its working directory was deleted.
"""

import gc
import os
import resource
import signal
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones, reset_tzpath

import msgspec

from deployer.model.errors import one_line
from deployer.templates.folder_check import examine_folder, line_of_resource
from deployer.templates.folder_files import UnreadableError
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
from deployer.templates.repository_config import read_repository_config

_ANSWER_FD = 3  # after standard input, output and error, which are /dev/null
_OUT_OF_MEMORY = msgspec.json.encode(
    EvaluationAnswer(out_of_memory=True)
)  # built in advance, because later there may be no memory for it
_MACHINE_ERRORS = (
    MemoryError,
    OSError,
    ValueError,
    ZoneInfoNotFoundError,
)  # what the machine may cause in `_prepare_in_fork`
_WARM_UP_TEMPLATE = b"Resources: {P: {Type: AWS::CodePipeline::Pipeline, Properties: {Name: !Sub 'x'}}}\n"


def main() -> None:
    """Answer questions from standard input, which is a socket, until the socket is closed."""
    limits = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    reset_tzpath(to=[path for path in sys.argv[4].split(os.pathsep) if path])
    channel = socket.socket(fileno=0)
    # trigger the imports that happen at first use, because a fork cannot open files
    with suppress(UnreadableError):
        read_repository_config({"deployer.yml": b"sleep: 20:00-07:00 UTC\nttl: 1d\nbranches: ['*']\nx: 1"})
    line_of_resource({"pipeline.yml": _WARM_UP_TEMPLATE}, "P")
    gc.disable()  # no fork lives long enough to need garbage collection
    gc.freeze()
    while (zones := receive_message(channel)) is not None and (
        question := receive_message(channel)
    ) is not None:
        process_end, answer = _evaluate_in_fork(question, limits, with_zones=zones == WITH_ZONES)
        send_message(channel, msgspec.json.encode(process_end))
        send_message(channel, answer)


def _evaluate_in_fork(
    question: bytes, limits: tuple[int, float, int], *, with_zones: bool
) -> tuple[ProcessEnd, bytes]:
    """Evaluate a question in a fork; return how the fork ended and what it wrote."""
    try:
        read_end, write_end = os.pipe()
    except OSError as error:
        return ProcessEnd(start_error=error.strerror or "no pipe"), b""
    try:
        child = os.fork()
    except OSError as error:
        os.close(read_end)
        os.close(write_end)
        return ProcessEnd(start_error=error.strerror or "no process"), b""
    if not child:
        code = NOT_CONFINED
        try:
            zones = _prepare_in_fork(write_end, limits, with_zones=with_zones)
            code = 1
            _write_answer(_evaluate_question(question))
            del zones
            code = 0
        finally:
            os._exit(code)
    os.close(write_end)
    with open(read_end, "rb") as pipe:  # noqa: PTH123  a descriptor has no path
        answer = pipe.read(ANSWER_LIMIT + 1)
    _, status, used = os.wait4(child, 0)
    return ProcessEnd(status=status, cpu_seconds=used.ru_utime + used.ru_stime), answer


def _prepare_in_fork(write_end: int, limits: tuple[int, float, int], *, with_zones: bool) -> list[ZoneInfo]:
    """Load the time zones and set the limits.

    A failure is written into the pipe. A failure that the machine causes is then raised again. For a bug of deployer
    the text in the pipe is an answer, and the process ends.
    """
    try:
        # A time zone is a file. A zone that is loaded, and still referenced, comes from a cache later, when no file
        # can be opened.
        zones = [ZoneInfo(name) for name in available_timezones()] if with_zones else []
        _confine_process(write_end, *limits)
    except Exception as error:
        lacking = isinstance(error, _MACHINE_ERRORS)
        report = one_line(f"{type(error).__name__}: {error}").encode() if lacking else _fault_answer()
        for pipe in (
            write_end,
            _ANSWER_FD,
        ):  # `_confine_process` may or may not have moved the pipe to the second number
            with suppress(OSError):
                os.write(pipe, report)
                break
        if not lacking:
            os._exit(0)
        raise
    return zones


def _confine_process(write_end: int, cpu_seconds: int, wall_seconds: float, memory: int) -> None:
    """Set the strictest limits under which this process can still evaluate."""
    with suppress(OSError):  # the kernel ends this process first if the machine runs out of memory
        Path("/proc/self/oom_score_adj").write_text("1000")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(write_end, _ANSWER_FD)
    for standard in range(_ANSWER_FD):
        os.dup2(null, standard)
    os.closerange(_ANSWER_FD + 1, 256)
    signal.setitimer(signal.ITIMER_REAL, wall_seconds)  # its signal ends the process
    for name, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(name, (most, most))
    # the soft limit ends the process with SIGXCPU, which identifies the cause
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 1))


def _evaluate_question(question: bytes) -> bytes:
    try:
        request = msgspec.json.decode(question, type=EvaluationRequest)
        return msgspec.json.encode(_answer_request(request))
    except (MemoryError, SystemError):
        # If memory runs out within C code, CPython can lose the MemoryError and raise SystemError ("error return
        # without exception set"). That is the folder's doing, and must not become a dead letter.
        return _OUT_OF_MEMORY
    except Exception:  # noqa: BLE001  a bug of deployer: people read it in the dead letter
        return _fault_answer()


def _fault_answer() -> bytes:
    """The answer that reports the exception that is being handled."""
    return msgspec.json.encode(EvaluationAnswer(fault=traceback.format_exc(limit=-5)[-4000:]))


def _answer_request(request: EvaluationRequest) -> EvaluationAnswer:
    try:
        if request.question is not None:
            return EvaluationAnswer(examined=examine_folder(request.question))
        if request.resource is not None:
            return EvaluationAnswer(line=line_of_resource(request.files, request.resource))
        return EvaluationAnswer(repository_config=read_repository_config(request.files))
    except UnreadableError as error:
        every = [(each.file, each.line, one_line(each.text)) for each in (error, *error.others)]
        return EvaluationAnswer(unreadable=every)


def _write_answer(answer: bytes) -> None:
    while answer:
        answer = answer[os.write(_ANSWER_FD, answer) :]


if __name__ == "__main__":
    main()
