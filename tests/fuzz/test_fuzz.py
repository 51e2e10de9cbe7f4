"""The corpus breaks no promise; a short run of the fuzzer finds only a planted fault."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fuzz import large
from tests.fuzz.__main__ import main
from tests.fuzz.runner import CORPUS, MISSING, Finding, count_inputs, has_atheris, run_fuzzer
from tests.fuzz.targets import TARGETS

SEEDS = sorted(path.relative_to(CORPUS).as_posix() for path in CORPUS.glob("*/*"))
needs_atheris = pytest.mark.skipif(not has_atheris(), reason=MISSING)


def test_each_target_has_seeds_and_the_corpus_is_small() -> None:
    assert {seed.partition("/")[0] for seed in SEEDS} == set(TARGETS)
    assert sum((CORPUS / seed).stat().st_size for seed in SEEDS) < 300_000


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_breaks_no_promise(target: str) -> None:
    broken = {}
    for path in sorted((CORPUS / target).iterdir()):
        try:
            TARGETS[target](path.read_bytes())
        except Exception as error:  # noqa: BLE001  the test reports all errors together
            broken[path.name] = f"{type(error).__name__}: {error}"
    assert not broken


@pytest.mark.parametrize("name", large.BRACKETS)
@pytest.mark.parametrize("target", ["github", "aws", "post-github", "post-aws"])
def test_a_hundred_thousand_brackets_break_no_promise(target: str, name: str) -> None:
    head = b"" if target == "aws" else b"event:push\ndelivery:d-1\n\n"
    TARGETS[target](head + large.BRACKETS[name])


@needs_atheris
@pytest.mark.timeout(900)  # the run ends after a number of inputs; a busy machine needs this time
def test_a_short_run_finds_nothing(tmp_path: Path) -> None:
    inputs = {target: len(list((CORPUS / target).iterdir())) + 300 for target in TARGETS}
    with ThreadPoolExecutor(2) as pool:
        # with a fixed seed, because random inputs (`make fuzz`) can find faults that no change of today caused
        found = list(
            pool.map(lambda target: run_fuzzer(target, 200, tmp_path, inputs=inputs[target], seed=1), TARGETS)
        )
    assert not any(found), "\n".join(str(each) for each in found if each)
    assert {target: count_inputs(target, tmp_path) for target in TARGETS} == inputs


@needs_atheris
@pytest.mark.timeout(300)
def test_a_planted_fault_is_found_and_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "seed").write_bytes(b"refs/tags/release")
    found = run_fuzzer("planted", 200, tmp_path, seed=1, module="tests.fuzz.planted")
    assert isinstance(found, Finding)
    assert "the planted fault" in str(found)
    assert found.path is not None
    assert f"--input {found.path} planted" in str(found)
    again = "import sys; from tests.fuzz.planted import TARGETS; TARGETS['planted'](open(sys.argv[1], 'rb').read())"
    repeated = subprocess.run(
        [sys.executable, "-c", again, found.path], capture_output=True, text=True, check=False
    )
    assert "RuntimeError: the planted fault" in repeated.stderr


def test_one_input_can_be_given_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"acme/api\nrefs/heads/x\nmain")
    command = ["tests.fuzz", "--input", str(path)]
    monkeypatch.setattr(sys, "argv", [*command, "refs"])
    assert main() == 0
    assert capsys.readouterr().out == f"refs: {path} breaks nothing\n"
    monkeypatch.setattr(sys, "argv", [*command, "nothing"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "no target nothing" in capsys.readouterr().err
