"""Checks the links between the files of a static site: python3 deploy/check_site.py FOLDER."""

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LINKS = {"href", "src", "poster"}
_NO_SITE = {".git", "deploy", "node_modules"}


class _Links(HTMLParser):
    """Collects the links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the links of an element; `base` changes what the links of a page mean and is not supported."""
        if tag != "base":
            self.found += [value for name, value in attrs if name in _LINKS and value]


def broken_links(site: Path) -> Iterator[str]:
    """Each link of a page that leads to no file of the site, as `page: link`."""
    for page in sorted(site.rglob("*.html")):
        if _NO_SITE & set(page.relative_to(site).parts):
            continue
        links = _Links()
        links.feed(page.read_text(encoding="utf-8", errors="replace"))
        for link in links.found:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or not parts.path:
                continue  # another site, or a place in the same page
            start = site if parts.path.startswith("/") else page.parent
            target = start / unquote(parts.path).lstrip("/")
            if not (target.is_file() or (target / "index.html").is_file()):
                yield f"{page.relative_to(site)}: {link}"


def main() -> int:
    """Print the broken links; return the exit status, which is 1 if there are any."""
    site = Path(sys.argv[1])
    broken = [*broken_links(site)]
    for each in broken:
        sys.stdout.write(f"{each} leads to no file of the site\n")
    if not (site / "index.html").is_file():
        sys.stdout.write(f"{site} has no index.html\n")
        return 1
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
