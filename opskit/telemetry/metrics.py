"""The numbers that a verb leaves behind, as Prometheus text files that a node exporter (or a person) reads.

A verb calls `gauge`; the command line writes what was gathered when the verb has ended. Format: the Prometheus text
exposition format 0.0.4.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

_gathered: dict[str, dict[str, float]] = {}


def gauge(name: str, value: float, **labels: str) -> None:
    """Remember a value: `gauge("opskit_logs_clean_removed_bytes", 12, state="success")`. The last one counts.

    ValueError for a name or label that Prometheus does not take: that is a bug of the caller.
    """
    for word in (name, *labels):
        if not _NAME.fullmatch(word):
            raise ValueError(f"{word!r} can't be the name of a metric or a label")
    shown = ",".join(f'{key}="{str(labels[key]).translate(_ESCAPES)}"' for key in sorted(labels))
    _gathered.setdefault(name, {})[f"{name}{{{shown}}}" if shown else name] = float(value)


def take() -> dict[str, dict[str, float]]:
    """What was gathered since the last call: family → sample (name with labels) → value."""
    taken = dict(_gathered)
    _gathered.clear()
    return taken


def write(path: Path, families: Mapping[str, Mapping[str, float]]) -> None:
    """Replace the file at `path`, atomically: a reader sees the old numbers or the new ones. OSError when it can't."""
    lines = []
    for name in sorted(families):
        lines.append(f"# TYPE {name} gauge\n")
        lines.extend(f"{sample} {_number(value)}\n" for sample, value in sorted(families[name].items()))
    path.parent.mkdir(parents=True, exist_ok=True)
    # A collector reads *.prom: not this name.
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_text("".join(lines), encoding="utf-8")
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def read(path: Path) -> dict[str, dict[str, float]]:
    """What `write` wrote; empty for a file that is absent or that somebody else filled."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    families: dict[str, dict[str, float]] = {}
    for line in text.splitlines():
        sample, _, value = line.rpartition(" ")
        name = _NAME.match(sample)
        if name is None:
            continue
        try:
            families.setdefault(name[0], {})[sample] = float(value)
        except ValueError:
            continue
    return families


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)
