"""Tests that other processes of the same user cannot read the memory of processes with secrets."""

import subprocess
import sys
from pathlib import Path

import pytest
from ops_kit import WORKER, environment

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl(2) is Linux's")
SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")
# A process and its fork, of one user that is not root, who may read everything. A process whose user changed cannot be
# read (suid_dumpable), one that was started can: hence the first prctl.
SIBLINGS = """
import ctypes, errno, os
from deployer.local.process_memory import hide_memory
class Part(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
libc = ctypes.CDLL(None, use_errno=True)
if os.geteuid() == 0:
    os.setuid(65534)
libc.prctl(4, 1, 0, 0, 0)
held = ctypes.create_string_buffer(11)
ready, begin = os.pipe()
if not os.fork():
    os.read(ready, 1)
    found = ctypes.create_string_buffer(11)
    here, there = (Part(ctypes.addressof(each), 11) for each in (found, held))
    read = libc.process_vm_readv(os.getppid(), ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    print(found.raw.decode() if read == 11 else errno.errorcode[ctypes.get_errno()], flush=True)
    os._exit(0)
held.raw = b"SECRETTOKEN"
{call}
os.write(begin, b"x")
os.wait()
"""
# whether the process that is asked may be read: PR_GET_DUMPABLE
ASK = "import ctypes, os; ask = lambda: print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), flush=True); "
POOL = "pid = os.fork()\nif not pid:\n    {then}ask()\n    os._exit(0)\nos.waitpid(pid, 0)"
SIGNALS = ASK + "import workers.celery; from celery import signals; "


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.skipif(
    SCOPE.exists() and SCOPE.read_text().strip() != "0", reason="no process may read its parent"
)
@pytest.mark.parametrize(("call", "read"), [("", "SECRETTOKEN"), ("hide_memory()", "EPERM")])
def test_another_process_of_the_user_cannot_read_what_is_hidden(call: str, read: str) -> None:
    assert run(SIBLINGS.format(call=call)) == read


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(
            SIGNALS + "signals.celeryd_init.send(sender=None)\n" + POOL.format(then=""), id="worker"
        ),
        pytest.param(
            SIGNALS
            + "workers.celery.deployer.evaluator.start = lambda: None\n"
            + POOL.format(then="signals.worker_process_init.send(sender=None); "),
            id="pool",
        ),
        pytest.param(
            ASK + "import workers.scheduler as s; s.Scheduler.run = lambda self: ask(); s.main()",
            id="scheduler",
        ),
    ],
)
def test_worker_its_pool_and_scheduler_hide_their_memory(program: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env=environment(WORKER), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip().splitlines()[-1:] == ["0"], done.stderr


def test_a_program_that_is_started_is_not_hidden() -> None:
    """The evaluation's process, say: it has no secret, and writes into its own directory of /proc."""
    hide = "from deployer.local.process_memory import hide_memory; hide_memory()"
    program = f"import subprocess, sys; {hide}; subprocess.run([sys.executable, '-c', {ASK + 'ask()'!r}], check=True)"
    assert run(program) == "1"
