import errno
import math

import pytest

from deployer.github.errors import retry_after_seconds, seconds_until_reset
from deployer.model.errors import (
    LONGEST_RETRY_AFTER,
    DeployerError,
    PermanentError,
    QuotaError,
    ThrottledError,
    TransientError,
    machine_shortage,
    one_line,
)


@pytest.mark.parametrize("kind", [DeployerError, PermanentError, TransientError])
def test_the_text_of_an_error_is_one_printable_line(kind: type[DeployerError]) -> None:
    assert str(kind("a\r\n b\x1b[2J\u2028\ud800c")) == r"a b\u001b[2J\u2028\ud800c"


def test_a_long_text_loses_its_middle() -> None:
    line = one_line("reading " + "x" * 10_000 + " failed; remedy")
    assert len(line) == 500
    assert line.startswith("reading xxx")
    assert line.endswith("xxx failed; remedy")
    assert one_line("x" * 500) == "x" * 500


@pytest.mark.parametrize("kind", [TransientError, QuotaError, ThrottledError])
@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (None, None),
        (0, 0),
        (42.5, 42.5),
        (1e300, LONGEST_RETRY_AFTER),
        (math.inf, LONGEST_RETRY_AFTER),
        (math.nan, None),
        (-1, None),
        (-math.inf, None),
    ],
)
def test_the_longest_retry_after_is_bounded(
    kind: type[TransientError], asked: float | None, kept: float | None
) -> None:
    assert kind("away", retry_after=asked).retry_after == kept


NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("30", 30),
        (" 1.5 ", 1.5),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("-inf", None),
        ("1e400", None),
        ("1e300", LONGEST_RETRY_AFTER),
        ("9" * 5000, None),
        ("0x10", None),
        ("soon", None),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60),
        ("Fri, 15 Jan 2027 07:59:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_RETRY_AFTER),
        ("Fri, 99 Jan 2027 08:01:00 GMT", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
    ],
)
def test_the_seconds_of_a_retry_after_header(
    header: str | None, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployer.github.errors.time.time", lambda: NOW)
    assert retry_after_seconds(header) == seconds


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (str(NOW + 90), 90),
        (f"{NOW:.0f}", 1),
        ("0", 1),
        ("-5", 1),
        ("1e300", LONGEST_RETRY_AFTER),
        ("nan", None),
        ("inf", None),
        ("", None),
        (None, None),
    ],
)
def test_the_seconds_until_a_rate_limit_resets(
    header: str | None, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployer.github.errors.time.time", lambda: NOW)
    assert seconds_until_reset(header) == seconds


def wrapped(error: Exception) -> Exception:
    """A library's own error that hides another error."""
    outer = RuntimeError("upload failed")
    outer.__cause__ = error
    return outer


FULL = OSError(errno.ENOSPC, "No space left on device", "/t/x")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FULL, "No space left on device (/t/x); "),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "Disk quota exceeded; "),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system; "),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files; "),
        (
            BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
            "Resource temporarily unavailable; ",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/t']"),
            "No usable temporary",
        ),
        (wrapped(FULL), "No space left on device (/t/x); "),
        (wrapped(wrapped(FULL)), "No space left on device (/t/x); "),
    ],
    ids=str,
)
def test_the_remedy_names_missing_descriptors(error: Exception, text: str) -> None:
    assert machine_shortage(error).startswith(f"the worker's machine: {text}")


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/t/x"),
        ConnectionResetError(),
        KeyError("x"),
    ],
    ids=repr,
)
def test_other_errors_have_no_descriptor_remedy(error: Exception) -> None:
    assert machine_shortage(error) == machine_shortage(wrapped(error)) == ""
