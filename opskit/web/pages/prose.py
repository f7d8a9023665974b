"""A few marks of Markdown as HTML: headings, lists, paragraphs, code, bold, links. All else stays as it was written."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

LONGEST = 40_000
_INLINE = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*|\[([^\]]+)\]\((https?://[^\s)]+)\)|(https?://[^\s<>()]+[^\s<>().,;:])")
_HEADING = re.compile(r"(#{1,6})\s+(.*)")
_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+(.*)")


def prose(text: str) -> Markup:
    """Every character of the text is escaped; addresses only lead to http and https."""
    found: list[str] = []
    block: list[str] = []
    items: list[str] = []
    code: list[str] | None = None

    def close() -> None:
        if block:
            found.append(f"<p>{' '.join(block)}</p>")
            block.clear()
        if items:
            found.append("<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>")
            items.clear()

    for line in text[:LONGEST].replace("\r\n", "\n").split("\n"):
        if line.strip().startswith("```"):
            if code is None:
                close()
                code = []
            else:
                found.append(f"<pre>{escape(chr(10).join(code))}</pre>")
                code = None
        elif code is not None:
            code.append(line)
        elif not line.strip():
            close()
        elif heading := _HEADING.fullmatch(line.strip()):
            close()
            found.append(f"<h3>{_inline(heading[2])}</h3>")
        elif item := _ITEM.fullmatch(line):
            if block:
                close()
            items.append(_inline(item[1]))
        elif items and line.startswith((" ", "\t")):
            items[-1] += f" {_inline(line.strip())}"
        else:
            if items:
                close()
            block.append(_inline(line.strip()))
    close()
    if code is not None:
        found.append(f"<pre>{escape(chr(10).join(code))}</pre>")
    return Markup("\n".join(found))  # noqa: S704 (every part is escaped)


def _inline(text: str) -> str:
    parts, place = [], 0
    for mark in _INLINE.finditer(text):
        parts.append(str(escape(text[place : mark.start()])))
        place = mark.end()
        if mark[1]:
            parts.append(f"<code>{escape(mark[1])}</code>")
        elif mark[2]:
            parts.append(f"<strong>{escape(mark[2])}</strong>")
        else:
            address, words = mark[4] or mark[5], mark[3] or mark[5]
            parts.append(f'<a href="{escape(address)}" rel="noreferrer noopener">{escape(words)}</a>')
    parts.append(str(escape(text[place:])))
    return "".join(parts)
