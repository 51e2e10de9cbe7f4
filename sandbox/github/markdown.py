"""Comments as GitHub renders them: Markdown with a few HTML elements, mentions of people, links to commits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

# GitHub allows more elements; every other one is shown as text here, so that a test or a person notices it
_ALLOWED = re.compile(r"</?(details|summary|sub|sup|br|kbd)>")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_COMMIT = re.compile(r"\b[0-9a-f]{40}\b")
_MENTION = re.compile(r"(?<![\w`])@([A-Za-z0-9][A-Za-z0-9-]*(?:/[A-Za-z0-9_-]+)?)")


def render_comment(text: str, repository: str) -> Markup:
    """A comment as HTML.

    Args:
        text: Markdown.
        repository: the full name of the repository, to whose commits ids lead.
    """
    parser = MarkdownIt("commonmark", {"html": True}).enable("table").disable("image")

    def show_html(_self: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
        return _allowed_html(tokens[index].content)

    def show_text(_self: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
        before = tokens[index - 1] if index else None
        found = escape(tokens[index].content)
        return found if before is not None and before.type == "link_open" else _with_links(found, repository)

    for name in ("html_block", "html_inline"):
        parser.add_render_rule(name, show_html)
    parser.add_render_rule("text", show_text)
    return Markup(parser.render(text))  # noqa: S704  every other HTML is escaped


def _allowed_html(content: str) -> str:
    content = _COMMENT.sub("", content)
    parts, last = [], 0
    for found in _ALLOWED.finditer(content):
        parts += [escape(content[last : found.start()]), found.group()]
        last = found.end()
    return "".join([*parts, escape(content[last:])])


def _with_links(text: str, repository: str) -> str:
    text = _COMMIT.sub(
        lambda found: f'<a href="/{repository}/commit/{found.group()}"><code>{found.group()[:7]}</code></a>',
        text,
    )
    return _MENTION.sub(lambda found: f'<b class="mention" title="is notified">@{found.group(1)}</b>', text)
