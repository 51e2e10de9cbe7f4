"""Renders the pages of site/ into dist/ with the environment variables GREETING, STAGE: python3 build.py."""

import html
import os
import shutil
import string
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
STAGES = ("development", "staging", "production")


def values(environment: Mapping[str, str]) -> dict[str, str]:
    """The values that a page can show, taken from CodeBuild's environment."""
    stage = environment.get("STAGE") or "development"
    if stage not in STAGES:
        raise ValueError(f"STAGE must be one of {', '.join(STAGES)}, not {stage!r}")
    return {
        "greeting": environment.get("GREETING") or "Hello",
        "stage": stage,
        "commit": (environment.get("CODEBUILD_RESOLVED_SOURCE_VERSION") or "your desk")[:12],
    }


def render(template: str, shown: Mapping[str, str]) -> str:
    """A page with its values filled in; a value is escaped, so that it is never markup."""
    return string.Template(template).substitute({name: html.escape(text) for name, text in shown.items()})


def build(source: Path, target: Path, shown: Mapping[str, str]) -> list[Path]:
    """Write every file of source to target, with pages rendered; return the written paths."""
    shutil.rmtree(target, ignore_errors=True)
    written = []
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        result = target / file.relative_to(source)
        result.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".html":
            result.write_text(render(file.read_text(encoding="utf-8"), shown), encoding="utf-8")
        else:
            shutil.copyfile(file, result)
        written.append(result)
    return written


def main() -> int:
    """Build the site; return the exit status, which is 1 with a line on stderr after an error."""
    try:
        shown = values(os.environ)
        written = build(HERE / "site", HERE / "dist", shown)
    except (KeyError, ValueError) as error:
        sys.stderr.write(f"build.py: {error}\n")
        return 1
    sys.stdout.write(f"{len(written)} files for {shown['stage']} at {shown['commit']}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
