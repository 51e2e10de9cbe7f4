"""Protects the memory of a process that has secrets against other processes of the same user."""

import ctypes
import logging
import os
import sys

_log = logging.getLogger("deployer.start")
_PR_SET_DUMPABLE = 4  # linux/prctl.h


def hide_memory() -> None:
    """Prevent other processes of this user from reading this process's memory or attaching to it.

    The kernel then refuses every access that needs PTRACE_MODE_ATTACH: process_vm_readv(2), ptrace(2), /proc/PID/mem
    and /proc/PID/environ. It writes no core dumps either. Forked processes inherit the protection, executed programs
    do not. It does not stop root with CAP_SYS_PTRACE, and only Linux has it. If the call fails, a warning is logged and
    the process continues.

    Source: prctl(2), PR_SET_DUMPABLE; ptrace(2), "Ptrace access mode checking".
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
