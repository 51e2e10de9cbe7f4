"""Tests of `make audit`: no vulnerability, some, or a failed lookup. pip-audit's output is recorded."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("audit_tool", ROOT / "tools" / "audit.py")
assert SPEC
assert SPEC.loader
tool: Any = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)

KNOWN = {"id": "CVE-2099-1", "fix_versions": ["99.0"], "aliases": ["GHSA-aaaa-bbbb-cccc"], "description": "x"}
CLEAN = {"dependencies": [{"name": "click", "version": "8.5.1", "vulns": []}], "fixes": []}
# of pip-audit 2.10.1 without a network: the same exit code as for what it found, and nothing on standard output
AWAY = """Traceback (most recent call last):
  File "requests/adapters.py", line 729, in send
    raise ConnectionError(e, request=request)
requests.exceptions.ConnectionError: HTTPSConnectionPool(host='api.osv.dev', port=443): Max retries exceeded
"""


def stub(folder: Path, answers: dict[str, object], errors: str = "") -> list[str]:
    """A pip-audit that gives an answer for each lock file, and notes what it was asked."""
    program = folder / "stub.py"
    program.write_text(f"""
import json, sys
from pathlib import Path
answers = json.loads({json.dumps(answers)!r})
Path({str(folder / "asked")!r}).open("a").write(" ".join(sys.argv[1:]) + "\\n")
lock = sys.argv[1].rpartition("/")[2]
if lock not in answers:
    sys.exit({errors!r})
print(json.dumps(answers[lock]))
sys.exit(any(each["vulns"] for each in answers[lock]["dependencies"]))
""")
    return [sys.executable, str(program)]


def test_no_known_vulnerability_is_success(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = stub(tmp_path, dict.fromkeys(tool.LOCKS, CLEAN))
    assert tool.main(command, ROOT) == 0
    assert capfd.readouterr().out == "audit: none of 2 packages has a known vulnerability\n"
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.partition(" ")[0].rpartition("/")[2] for line in asked] == list(tool.LOCKS)
    for line in asked:
        assert "--disable-pip" in line, "the lock files say everything; nothing is installed to find out"
        assert f"--osv-url={tool.OSV}" in line


def test_known_vulnerabilities_are_listed_with_a_remedy(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = {"dependencies": [{"name": "click", "version": "8.5.1", "vulns": [KNOWN]}]}
    own = {"dependencies": [{"name": "pip", "version": "26.3", "vulns": [KNOWN | {"fix_versions": []}]}]}
    assert tool.main(stub(tmp_path, dict(zip(tool.LOCKS, (found, own), strict=True))), ROOT) == 1
    said = capfd.readouterr()
    assert said.out == (
        "click 8.5.1 (in the image): CVE-2099-1 GHSA-aaaa-bbbb-cccc; fixed in 99.0\n"
        "pip 26.3 (not in the image): CVE-2099-1 GHSA-aaaa-bbbb-cccc; fixed in no release yet\n"
    )
    assert said.err == "audit: 2 known vulnerabilities; make lock takes newer versions\n"


def test_a_failed_lookup_is_an_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OSV_URL", "https://osv.example/v1/query")
    assert tool.main(stub(tmp_path, {tool.LOCKS[0]: CLEAN}, AWAY), ROOT) == 3
    said = capfd.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "https://osv.example/v1/query could not be asked" in said.err
    assert said.err.endswith("(requests.exceptions.ConnectionError)\n")


def test_the_target_runs_it_and_help_lists_it() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "\naudit: $(AUDIT)/.ready ## " in makefile
    assert "tools/audit.py" in makefile
    assert ".venv-audit/" in (ROOT / ".gitignore").read_text().splitlines()
