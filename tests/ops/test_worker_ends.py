"""Tests that a worker that cannot work ends with a status other than 0."""

from pathlib import Path

from ops_kit import CELERY, WORKER, ended

PLANTED = """
import os, threading, time
from pathlib import Path
from celery import signals
import workers.celery

workers.celery.deployer.evaluator.start = lambda: None
at_work = Path("at-work")

@signals.worker_ready.connect(weak=False)
def ready(sender, **_):
    sender.timer.call_after(0.1, at_work.touch)  # Celery itself looks once, before its loop begins

def end():
    while not at_work.exists():
        time.sleep(0.02)
    os._exit(7)

@signals.worker_process_init.connect(weak=False)
def begin(**_):
    threading.Thread(target=end, daemon=True).start()
"""


def test_a_worker_whose_processes_end_at_once(redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(PLANTED)
    settings = {**WORKER, "DEPLOYER_REDIS_URL": redis_url, "PYTHONPATH": str(tmp_path)}
    code, _, err = ended(tmp_path, [*CELERY, "worker", "--concurrency=1", "--include=planted"], settings)
    assert code == 1, err
