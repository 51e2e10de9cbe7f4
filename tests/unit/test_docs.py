"""What the documentation says of every status is what the table decides."""

import re
from pathlib import Path

from deployer.model.stacks import TABLE, Step

DOCS = Path(__file__).parents[2] / "docs"
WORDS = {
    "wait": Step.WAIT,
    "delete": Step.DELETE,
    "delete, then create again": Step.REPLACE,
    "update or start": Step.TRIGGER,
    "roll back first": Step.RECOVER,
    "tell a person": Step.FAIL,
    "make it": Step.PROVISION,
    "nothing": Step.NONE,
}


def test_every_status_is_documented_as_it_is_decided() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", (DOCS / "aws.md").read_text(), re.MULTILINE
    )
    told = {status: (WORDS[push], WORDS[deletion], why) for status, push, deletion, why in rows}
    assert told == {status: (row.deploy, row.delete, row.why) for status, row in TABLE.items()}


def test_what_the_page_on_security_names_exists() -> None:
    """An auditor follows each statement to the file and the test that enforces it."""
    text = (DOCS / "security.md").read_text()
    links = {link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link}
    assert [link for link in sorted(links) if not (DOCS / link).exists()] == []
    tests = "".join(path.read_text() for path in (DOCS.parent / "tests").rglob("test_*.py"))
    known = set(re.findall(r"def (test_\w+)", tests)) | {
        path.stem for path in DOCS.parent.rglob("tests/**/test_*.py")
    }
    assert set(re.findall(r"\b(test_\w+)", text)) - known == set()
    assert (DOCS.parent / "SECURITY.md").exists()
