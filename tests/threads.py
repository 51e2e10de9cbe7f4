"""Runs several jobs of a test at the same time."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def run_at_once(jobs: Mapping[str, Callable[[], T]], threads: int) -> dict[str, Future[T]]:
    """Run jobs in threads, and wait until all have ended.

    No test runs meanwhile: pytest changes the environment variables of this process before and after each test, and
    boto3 and urllib fail if the variables change while they read them.

    Args:
        jobs: the jobs by name.
        threads: how many run at the same time.

    Returns:
        The result or the error of each job.
    """
    with ThreadPoolExecutor(threads) as pool:
        return {name: pool.submit(job) for name, job in jobs.items()}
