"""A worker that is of no use ends with a status other than 0, so that whoever runs it notices."""

from pathlib import Path

from ops_kit import CELERY, WORKER, ended

PLANTED = """
import os, threading
from celery import signals

@signals.worker_process_init.connect(weak=False)
def end(**_):
    threading.Timer(0.2, os._exit, (7,)).start()  # Celery itself looks once, when all have just been started
"""


def test_a_worker_whose_processes_end_at_once(redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(PLANTED)
    settings = {**WORKER, "DEPLOYER_REDIS_URL": redis_url, "PYTHONPATH": str(tmp_path)}
    code, _, err = ended(tmp_path, [*CELERY, "worker", "--concurrency=1", "--include=planted"], settings)
    assert code == 1, err
