"""Lines of task logs as HTML: level, colours of terminals, and nothing that a browser could take for more than text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from markupsafe import Markup, escape

_LEVEL = re.compile(r"\[\d{4}-\d\d-\d\d[T ][^\]]{0,40}\] \{[^}]{0,200}\} ([A-Z]+) - ")
_CSS = {
    "DEBUG": "is-debug",
    "WARNING": "is-warning",
    "WARN": "is-warning",
    "ERROR": "is-error",
    "CRITICAL": "is-error",
    "FATAL": "is-error",
}
_SEQUENCE = re.compile(
    r"\x1b(?:\[([0-9;:<=>?]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|.?)", re.S
)
# Marks that change the direction of what follows could make a line say something else than it does.
_DECEIVING = (*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029)
_CONTROL = {
    **{code: 0x2400 + code for code in range(32) if code not in (9, 10)},
    0x7F: 0x2421,
    **dict.fromkeys(_DECEIVING, 0xFFFD),
}
LONGEST = 5_000
"""Characters of one line that are shown."""


def level_of(line: str) -> str | None:
    """CSS class of a line's level, "" for an ordinary one; None for a line that only goes on with the one before."""
    found = _LEVEL.match(line)
    return None if found is None else _CSS.get(found[1], "")


def as_html(text: str, level: str = "") -> tuple[Markup, str]:
    """Each line as `<span class="line …">`; `level` is that of the line before, and comes back for the next piece."""
    parts = []
    for line in _lines(text):
        # A traceback belongs to the line above it.
        own = level_of(line)
        level = level if own is None else own
        parts.append(f'<span class="line {level}">' if level else "<span class=line>")
        parts.append(_coloured(line))
        parts.append("\n</span>")
    return Markup("".join(parts)), level  # noqa: S704 (every part is escaped above)


def plain(text: str) -> str:
    """Without sequences that steer a terminal."""
    return _SEQUENCE.sub("", text).translate(_CONTROL)


def _lines(text: str) -> Iterator[str]:
    for line in text.removesuffix("\n").split("\n") if text else ():
        if "\r" in line:
            # A progress bar writes over itself: its last state stays.
            line = next((part for part in reversed(line.split("\r")) if part), "")
        yield line


def _coloured(line: str) -> str:
    more = len(line) - LONGEST
    if more > 0:
        line = line[:LONGEST]
    if "\x1b" not in line:
        html = str(escape(line.translate(_CONTROL)))
    else:
        html = _with_colours(line)
    return f"{html} … ({more:,} more characters: download the log)" if more > 0 else html


def _with_colours(line: str) -> str:
    parts: list[str] = []
    classes: list[str] = []
    place = 0
    for found in _SEQUENCE.finditer(line):
        parts.append(_span(line[place : found.start()], classes))
        place = found.end()
        if found[2] == "m":
            classes = _after(classes, found[1])
    parts.append(_span(line[place:], classes))
    return "".join(parts)


def _span(text: str, classes: list[str]) -> str:
    if not text:
        return ""
    html = str(escape(text.translate(_CONTROL)))
    return f'<span class="{" ".join(classes)}">{html}</span>' if classes else html


def _after(classes: list[str], codes: str) -> list[str]:
    found = list(classes)
    for code in codes.split(";"):
        if code in ("", "0"):
            found = []
        elif code in ("1", "2"):
            found.append(f"ansi-{code}")
        elif code in ("22",):
            found = [one for one in found if one not in ("ansi-1", "ansi-2")]
        elif len(code) == 2 and code[0] in "39" and code[1] in "0123456789":
            found = [one for one in found if not one.startswith("ansi-3")]
            if code[1] in "123456":
                found.append(f"ansi-3{code[1]}")
        elif code in ("38", "48"):
            break  # colours of a palette: what follows is its number
    return list(dict.fromkeys(found))
