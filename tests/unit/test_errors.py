import pytest

from deployer.errors import DeployerError, PermanentError, TransientError, one_line


@pytest.mark.parametrize("kind", [DeployerError, PermanentError, TransientError])
def test_an_errors_text_is_one_printable_line_whatever_it_quotes(kind: type[DeployerError]) -> None:
    assert str(kind("a\r\n b\x1b[2J\u2028\ud800c")) == r"a b\u001b[2J\u2028\ud800c"


def test_what_is_cut_out_is_the_middle() -> None:
    line = one_line("reading " + "x" * 10_000 + " failed; remedy")
    assert len(line) == 500
    assert line.startswith("reading xxx")
    assert line.endswith("xxx failed; remedy")
    assert one_line("x" * 500) == "x" * 500
