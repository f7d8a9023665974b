"""Why a file differs, in one word (import path, argument, semantics, value, environment, unstable) and one line."""

from __future__ import annotations

import re
from typing import Any

from compat_harness.answers import STRUCTURE, VALUES, Difference

_EXCEPTION = re.compile(
    r"^(?:[\w.]+\.)?([A-Z]\w*(?:Error|Exception|Invalid|NotFound|Timeout|Failed)\b: ?[^\n]{0,200})", re.M
)
_REASON = re.compile(r"Task failed: ([^\n]{1,200})")
_MISSING_MODULE = re.compile(r"(?:No module named|has no module) '([\w.]+)'")


def classify(differences: list[Difference], found: dict[str, Any], *, unstable: bool) -> tuple[str, str]:
    """Of the gravest difference."""
    if unstable:
        return "unstable", "real Airflow itself gave two answers"
    first = min(differences, key=_gravity)
    if first.part == "import":
        return _of_error(str(first.found))
    if first.part in STRUCTURE:
        return ("argument" if first.part in ("params", "catchup", "schedule") else "semantics"), _say(first)
    if first.part in VALUES:
        return "value", _say(first)
    errors = _errors(found)
    missing = [error for error in errors if "AirflowName" in error or _MISSING_MODULE.search(error)]
    if missing:
        word, _ = _of_error(missing[0])
        return word, f"{_say(first)}; {missing[0]}"
    if any(re.search(r"FileNotFoundError|needs Babel", error) for error in errors):
        return "environment", f"{_say(first)}; {errors[-1]}"
    if any("unexpected keyword argument" in error or error.startswith("AttributeError") for error in errors):
        return "argument", f"{_say(first)}; {errors[-1]}"
    return "semantics", "; ".join([_say(first), *errors[-1:]])


def of_import_errors(found: dict[str, Any]) -> tuple[str, str]:
    return _of_error((found.get("import_errors") or [str(found.get("fatal"))])[0])


def _gravity(difference: Difference) -> int:
    order = ["import", "dags", "tasks", "run", "states", "upstream", "rule", "flags", "class", "schedule", "catchup"]
    return order.index(difference.part) if difference.part in order else len(order) + (difference.part in VALUES)


def _of_error(text: str) -> tuple[str, str]:
    line = text.strip().split("\n")[0][:240]
    module = _MISSING_MODULE.search(text)
    if module:
        ours = module[1].split(".")[0] in ("airflow", "opskit")
        return ("import path" if ours else "environment"), line
    if "cannot import name" in text or "ImportError" in text:
        return "import path", line
    if "unexpected keyword argument" in text or "required argument" in text or "AttributeError" in text:
        return "argument", line
    if re.search(r"FileNotFoundError|No such file|KeyError|PermissionError|gaierror", text):
        return "environment", line
    return "semantics", line


def _errors(found: dict[str, Any]) -> list[str]:
    log = str(found.get("log", ""))
    return [match[:200] for match in (*_EXCEPTION.findall(log), *_REASON.findall(log))]


def _say(difference: Difference) -> str:
    where = ".".join(part for part in (difference.dag_id, difference.where) if part)
    return f"{difference.part} of {where}: {difference.expected!r} became {difference.found!r}"[:240]
