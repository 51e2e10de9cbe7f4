"""A worker that cannot work ends with an exit status other than 0; Celery alone would log the error and go on."""

import pytest

from deployer.model.errors import ConfigError, TransientError
from workers import celery


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("DEPLOYER_X is not set; set it"), "deployer: DEPLOYER_X is not set; set it"),
        (TransientError("GitHub does not answer"), "deployer: GitHub does not answer"),
        (RuntimeError("planted"), 1),
    ],
    ids=repr,
)
@pytest.mark.parametrize("check", ["check_worker", "check_redis", "hide_memory"])
def test_an_error_before_the_first_task_ends_the_worker(
    monkeypatch: pytest.MonkeyPatch, check: str, error: Exception, status: object
) -> None:
    def fail(*_: object) -> None:
        raise error

    for name in ("check_worker", "check_redis", "hide_memory"):
        monkeypatch.setattr(celery, name, lambda *_: "")
    monkeypatch.setattr(celery, check, fail)
    with pytest.raises(SystemExit) as ending:
        celery._check_worker()
    assert ending.value.code == status
