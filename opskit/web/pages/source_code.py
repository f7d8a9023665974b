"""Python source as HTML: its words coloured, and what has changed between two versions."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from markupsafe import Markup, escape

_COLOURED = 60_000
_LONGEST = 120_000
"""Characters; what is more is cut off: a page is no place for it."""


@dataclass(frozen=True, slots=True)
class Source:
    """`numbers` and `html` have the same lines."""

    numbers: str
    html: Markup
    is_cut: bool


def shown(text: str) -> Source:
    """With line numbers. Every character is escaped."""
    is_cut = len(text) > _LONGEST
    text = text[:_LONGEST].replace("\r\n", "\n").removesuffix("\n")
    html = _coloured(text) if len(text) <= _COLOURED else escape(text)
    return Source("\n".join(map(str, range(1, text.count("\n") + 2))), html, is_cut)


def difference(before: str, after: str, names: tuple[str, str]) -> Markup:
    """A unified diff; empty when both are the same."""
    lines = difflib.unified_diff(
        before[:_LONGEST].splitlines(), after[:_LONGEST].splitlines(), names[0], names[1], lineterm="", n=4
    )
    parts: list[str] = []
    size = 0
    for line in lines:
        size += len(line)
        if size > _LONGEST:
            parts.append("… the rest of the difference is left out")
            break
        css = {"+": "add", "-": "del", "@": "hunk"}.get(line[:1])
        parts.append(f'<span class="{css}">{escape(line)}</span>' if css else str(escape(line)))
    return Markup("\n".join(parts))  # noqa: S704 (every line is escaped)


def _coloured(text: str) -> Markup:
    from pygments.lexers.python import PythonLexer  # type: ignore[import-untyped]
    from pygments.token import Comment, Keyword, Name, Number, Operator, String  # type: ignore[import-untyped]

    kinds = (
        (Comment, "c"),
        (String, "s"),
        (Number, "m"),
        (Keyword, "k"),
        (Operator.Word, "k"),
        (Name.Decorator, "n"),
        (Name.Function, "n"),
        (Name.Class, "n"),
    )
    parts: list[str] = []
    last, held = "", ""

    def put() -> None:
        if held:
            parts.append(f"<span class={last}>{escape(held)}</span>" if last else str(escape(held)))

    for _, kind, piece in PythonLexer(stripnl=False, ensurenl=False).get_tokens_unprocessed(text):
        css = next((name for group, name in kinds if kind in group), "")
        if css != last:
            put()
            last, held = css, ""
        held += piece
    put()
    return Markup("".join(parts))  # noqa: S704 (every token is escaped)
