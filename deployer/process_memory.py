"""Keeps the memory of a process that holds secrets from other processes of the same user."""

import ctypes
import logging
import os
import sys

_log = logging.getLogger("deployer.start")
_PR_SET_DUMPABLE = 4  # linux/prctl.h


def hide_memory() -> None:
    """Let no other process of this user read this process's memory or attach to it.

    The kernel refuses what asks for PTRACE_MODE_ATTACH: process_vm_readv(2), ptrace(2), /proc/PID/mem and
    /proc/PID/environ. It also writes no core dumps. Forks inherit this, programs that are started do not. Root with
    CAP_SYS_PTRACE is not stopped, and other systems than Linux have no such call. Where it fails, a warning is logged
    and the process goes on.

    The rules: prctl(2), PR_SET_DUMPABLE; ptrace(2), "Ptrace access mode checking".
    """
    if sys.platform != "linux":
        return
    try:
        failed = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        reason = os.strerror(ctypes.get_errno())
    except (OSError, AttributeError) as error:
        failed, reason = True, str(error)
    if failed:
        _log.warning("other processes of this user can read this one's memory: prctl: %s", reason)
