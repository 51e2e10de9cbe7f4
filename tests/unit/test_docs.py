"""The statements of the documentation that can be compared with the code are true."""

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
    "report a failure": Step.FAIL,
    "create": Step.PROVISION,
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


def test_each_path_that_a_page_names_exists() -> None:
    """A reader follows a page to a file; decision records and the changelog may name files of earlier versions."""
    root = DOCS.parent
    pages = [page for page in [*DOCS.glob("*.md"), *root.glob("*.md")] if page.name != "CHANGELOG.md"]
    assert DOCS / "architecture.md" in pages
    folder = r"(?<![\w./-])(?:deployer|web|workers|sandbox|infra|tests|docs|tools)/"
    named = re.compile(folder + r"(?:[a-z_0-9./-]*/(?!\w)|[\w./-]+\.(?:py|lua|yml|md)\b)")
    missing = [
        f"{page.name}: {path}"
        for page in pages
        for path in named.findall(page.read_text())
        if not (root / path).exists()
    ]
    assert missing == []


def test_the_functions_that_the_page_on_security_names_are_in_the_code() -> None:
    """Names are checked as `Class.member`, and as `name` in a file."""
    text, root = (DOCS / "security.md").read_text(), DOCS.parent
    paths = [path for part in ("deployer", "web", "workers", "tests") for path in (root / part).rglob("*")]
    code = {
        path.relative_to(root).as_posix(): path.read_text()
        for path in paths
        if path.suffix in {".py", ".lua"}
    }
    everything = "".join(found for path, found in code.items() if not path.startswith("tests/"))
    missing = [
        f"{owner}.{member}"
        for owner, member in re.findall(r"`([A-Z]\w+)\.(\w+)`", text)
        if not re.search(rf"^class {owner}\b", everything, re.MULTILINE)
        or not re.search(rf"^    (def )?{member}\b", everything, re.MULTILINE)
    ]
    missing += [
        f"{name} in {file}"
        for name, file in re.findall(r"`(\w+)` (?:\([^)]*\) )?in (?:\[|`)?([\w./-]+\.(?:py|lua))", text)
        if not any(name in found for path, found in code.items() if f"/{path}".endswith(f"/{file}"))
    ]
    assert missing == []


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_each_link_between_pages_leads_to_a_file_and_a_heading() -> None:
    broken = []
    for page in [*DOCS.parent.glob("*.md"), *DOCS.rglob("*.md")]:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            file, _, anchor = link.partition("#")
            target = (page.parent / file) if file else page
            if "://" not in link and not (target.exists() and (not anchor or anchor in _anchors(target))):
                broken.append(f"{page.name}: {link}")
    assert broken == []
