"""The rendered template fields of a try, in a file beside its log: `attempt=N.rendered.json`.

Written by the attempt before its task runs, and only when rendering has changed something. Secrets are masked as in
logs, long values are cut.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opskit.telemetry.masking import MASK, Masker, masker
from opskit.telemetry.task_logs import FILE_MODE, log_path

LONGEST_TEXT = 20_000
"""Characters of one value."""
LARGEST = 500_000
"""Characters of one file; beyond, every field is cut to a text of CUT characters."""
CUT = 2_000
_DEEPEST = 6


def path_of(path: str) -> str:
    """Of the file that lies beside the log at `path`."""
    return path.removesuffix(".log") + ".rendered.json"


def write(folder: str | Path, path: str, fields: Mapping[str, Any], owner: Masker = masker) -> None:
    """Keep fields beside the log at `path` below the log folder, in the place of those of an earlier poke of this try.
    OSError when the file can't be written."""
    shown = {name: _shown(value, name, owner, 0) for name, value in fields.items() if value is not None}
    text = json.dumps(shown, ensure_ascii=False)
    if len(text) > LARGEST:
        text = json.dumps({name: _cut(_text(value), CUT) for name, value in shown.items()}, ensure_ascii=False)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(f"{folder}/{path_of(path)}", flags, FILE_MODE)
    with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)


def read(
    folder: str | Path, dag_id: str, run_id: str, task_id: str, map_index: int = -1, attempt: int = 1
) -> dict[str, Any]:
    """Field → value, as plain JSON; empty when the try has left none: it had no templates, or the file is gone."""
    path = path_of(log_path(dag_id, run_id, task_id, map_index, attempt))
    try:
        descriptor = os.open(f"{folder}/{path}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        with open(descriptor, encoding="utf-8", errors="replace") as file:
            found = json.loads(file.read(4 * LARGEST))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _shown(value: Any, name: object, owner: Masker, depth: int) -> Any:
    """As plain JSON, without secrets."""
    if value and owner.is_secret_name(name):
        return MASK
    if isinstance(value, str):
        return _cut(owner.line(value), LONGEST_TEXT)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if depth < _DEEPEST and isinstance(value, Mapping):
        return {str(key): _shown(item, key, owner, depth + 1) for key, item in value.items()}
    if depth < _DEEPEST and isinstance(value, (list, tuple, set, frozenset)):
        return [_shown(item, None, owner, depth + 1) for item in value]
    try:
        return _cut(owner.line(str(value)), LONGEST_TEXT)
    except Exception as error:  # noqa: BLE001 - whatever class the author has given it
        return f"<{type(value).__name__}: {type(error).__name__}>"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text)} characters)"
