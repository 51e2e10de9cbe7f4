"""Distinguishes a service that is away from a process that can open no socket itself."""

import errno
import os
import resource

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})


def exhausted(error: BaseException) -> str:
    """What is to be done where a connection failed because this process or machine has no file descriptor left.

    A library may hide the cause: without a descriptor a host name cannot be looked up either, and that error says
    nothing of descriptors. So the whole chain of causes is read, and then a file is opened.

    Args:
        error: what the attempt to connect raised.

    Returns:
        One sentence with the remedy; empty where descriptors are not the cause.
    """
    if not _is_caused_by_descriptors(error) and _can_open():
        return ""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return (
        f"this process cannot open another file or socket (its limit is {limit:,}): raise the limit "
        "(ulimit -n, LimitNOFILE of systemd, ulimits of Compose)"
    )


def _is_caused_by_descriptors(error: BaseException) -> bool:
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if isinstance(each, OSError) and each.errno in _EXHAUSTED:
            return True
        seen.add(id(each))
        causes = (each.__cause__, each.__context__, getattr(each, "reason", None), *each.args)
        waiting += [cause for cause in causes if isinstance(cause, BaseException) and id(cause) not in seen]
    return False


def _can_open() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno not in _EXHAUSTED
    return True
