"""A text of SQL taken apart into its statements."""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""
      (?P<comment>   --[^\n]*\n? | /\*(?!\+).*?(?:\*/|\Z) )
    | (?P<quoted>    '(?:''|\\.|[^'\\])*(?:'|\Z)
                   | "(?:""|[^"])*(?:"|\Z)
                   | `(?:``|[^`])*(?:`|\Z)
                   | /\*\+.*?(?:\*/|\Z)
                   | (?P<tag>\$(?:[A-Za-z_]\w*)?\$).*?(?:(?P=tag)|\Z) )
    | (?P<word>      [A-Za-z_][\w$]* )
    | (?P<end>       ; )
    | (?P<other>     . )
    """,
    re.VERBOSE | re.DOTALL,
)
_ROUTINES = {"FUNCTION", "PROCEDURE", "TRIGGER", "EVENT"}
_OPENERS = {"BEGIN", "CASE"}
_PARTS_OF_END = {"IF", "LOOP", "REPEAT", "WHILE", "FOR"}


def split(sql: str, strip_semicolon: bool = False) -> list[str]:
    """The statements of a text, comments removed, each with its semicolon unless `strip_semicolon`.

    Semicolons in quotes, in dollar quotes, and in the BEGIN … END body of a routine or trigger end no statement."""
    found: list[str] = []
    text = ""
    words: list[str] = []
    depth = 0
    for token in _TOKEN.finditer(sql):
        kind, part = token.lastgroup, token.group()
        if token.group("comment") is not None:
            # What it stood between must not grow together.
            text += "\n" if part.endswith("\n") else " "
            continue
        if kind == "word":
            word = part.upper()
            if _in_routine(words):
                if word in _OPENERS and not (word == "CASE" and words[-1] == "END"):
                    depth += 1
                elif word == "END":
                    depth -= 1
                elif word in _PARTS_OF_END and words[-1] == "END":
                    depth += 1  # END IF, END LOOP close what no BEGIN has opened
            words.append(word)
        if kind == "end" and depth <= 0:
            _take(found, text, strip_semicolon)
            text, words, depth = "", [], 0
            continue
        text += part
    _take(found, text, True)
    return found


def _in_routine(words: list[str]) -> bool:
    return bool(words) and words[0] == "CREATE" and any(word in _ROUTINES for word in words[1:8])


def _take(found: list[str], text: str, strip_semicolon: bool) -> None:
    text = text.strip()
    if text:
        found.append(text if strip_semicolon else text + ";")
