"""Keeps secrets out of task logs: registered values, and what stands behind a secret name, become `***`."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import quote

MASK = "***"
SHORTEST = 3
"""Shorter values are not registered: masking every `1` of a log would hide the log and not the secret."""
_DEEPEST = 5


def _either(texts: list[str], depth: int = 0) -> str:
    """A pattern of any of these texts, the longest first. By their first letters: else a thousand secrets would be
    tried one after the other at each character of a log."""
    if len(texts) <= 8 or depth == 3:
        return "|".join(map(re.escape, texts))
    by_letter: dict[str, list[str]] = {}
    for text in texts:
        by_letter.setdefault(text[:1], []).append(text[1:])
    ending = by_letter.pop("", None) is not None
    branches = [f"{re.escape(letter)}(?:{_either(rest, depth + 1)})" for letter, rest in by_letter.items()]
    return "|".join(branches + [""] * ending)


class Masker:
    """What must not appear, and the replacement. Cheap while nothing is registered."""

    def __init__(self, names: Collection[str] = ()) -> None:
        self._values: set[str] = set()
        self._kept: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self._is_stale = False  # a task may fetch a thousand secrets before it prints a line
        self._pairs: re.Pattern[str] | None = None
        self._names: tuple[str, ...] = ()
        self.set_names(names)

    def set_names(self, names: Collection[str]) -> None:
        """Parts of names (lower case, such as `password`) whose values are masked in `name=value` and in dicts."""
        self._names = tuple(sorted(names))
        self._pairs = None
        if names:
            either = "|".join(map(re.escape, self._names))
            self._pairs = re.compile(
                rf"((?:{either})[\w-]*[\"']?\s*=\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&\"']+)", re.IGNORECASE
            )

    def add(self, values: Iterable[str | None]) -> None:
        """Register secrets, each with the forms that it takes inside JSON and URLs, and line by line."""
        fresh = set()
        for value in values:
            if not value:
                continue
            parts = [value, *value.splitlines()] if "\n" in value else [value]
            for part in parts:
                part = part.strip()
                if len(part) >= SHORTEST and part != MASK:
                    fresh |= {part, json.dumps(part)[1:-1], quote(part, safe="")}
        if fresh <= self._values:
            return
        self._values |= fresh
        self._is_stale = True

    def _compile(self) -> None:
        self._is_stale = False
        # The longest first, so that a secret that begins with another one is hidden as a whole.
        ordered = sorted(self._values, key=len, reverse=True)
        self._pattern = re.compile(_either(ordered)) if ordered else None

    def keep(self) -> None:
        """Let `clear` leave the values that are registered now."""
        self._kept = set(self._values)
        if self._is_stale:
            self._compile()  # once for all forks

    def clear(self) -> None:
        """Forget the values that were registered since `keep`; the names stay."""
        if self._values != self._kept:
            self._values = set(self._kept)
            self._is_stale = True

    def text(self, text: str) -> str:
        """`text` without registered values."""
        if self._is_stale:
            self._compile()
        return text if self._pattern is None else self._pattern.sub(MASK, text)

    def line(self, text: str) -> str:
        """`text` without registered values, and without the values of `secret_name=value` pairs."""
        text = self.text(text)
        if self._pairs is not None and "=" in text:
            text = self._pairs.sub(rf"\1{MASK}", text)
        return text

    def is_secret_name(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        lowered = name.lower()
        return any(part in lowered for part in self._names)

    def value(self, value: Any, depth: int = 0) -> Any:
        """A copy of `value` (str, dict, list, tuple, set, nested) with secrets masked; other objects as they are."""
        if isinstance(value, str):
            return self.text(value)
        if depth >= _DEEPEST:
            return value
        if isinstance(value, Mapping):
            return {
                key: MASK if item and self.is_secret_name(key) else self.value(item, depth + 1)
                for key, item in value.items()
            }
        if type(value) in (list, tuple, set):
            return type(value)(self.value(item, depth + 1) for item in value)
        return value


masker = Masker()
"""The masker of this process."""


class MaskingFilter(logging.Filter):
    """Masks dicts among the arguments of a log record; the finished line is masked by whoever writes it."""

    def __init__(self, owner: Masker = masker) -> None:
        super().__init__()
        self._masker = owner

    def filter(self, record: logging.LogRecord) -> bool:
        arguments = record.args
        if isinstance(arguments, Mapping):
            record.args = self._masker.value(arguments)
        elif arguments and any(isinstance(argument, (Mapping, list, tuple, set)) for argument in arguments):
            record.args = tuple(self._masker.value(argument) for argument in arguments)
        return True


class MaskedStream(io.TextIOWrapper):
    """Text stream over a descriptor; what is printed loses its secrets on the way."""

    def __init__(self, descriptor: int, owner: Masker = masker) -> None:
        super().__init__(
            io.FileIO(descriptor, "w", closefd=False),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
            write_through=True,
        )
        self._masker = owner

    def write(self, text: str) -> int:
        super().write(self._masker.text(text))
        return len(text)
