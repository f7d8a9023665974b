"""What became of a DAG file, in a form that opskit and real Airflow have in common; and what differs between two.

An answer is `{"id", "airflow", "dags": {dag_id: …}, "import_errors": […]}`; of each DAG:

    tasks         {task_id: [class, [upstream], trigger rule, "mapped" | "setup" | "teardown" …]}
    schedule      "<timetable class>:<its text>"; catchup; params (names)
    logical_date  or "relative", when it depends on when the test was
    run           state of the run; ti {"task_id[map_index]": state}
    xcom_sha      {"task_id[map_index]:key": hash}; ":key" is left out for return_value
    rendered_sha  {"task_id[map_index]": {field: hash}}
    run_error     why there was no run
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

XCOMS_AT_MOST, RENDERED_AT_MOST, XCOM_CHARACTERS = 60, 80, 120


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def xcom_text(value: Any) -> str:
    """An XCom as Airflow stores it. Only its beginning counts."""
    try:
        text = json.dumps(value, default=str, sort_keys=True)
    except (TypeError, ValueError):
        text = json.dumps(repr(value))
    return text if len(text) <= XCOM_CHARACTERS else text[:XCOM_CHARACTERS] + "…"


def xcom_hash(value: Any) -> str:
    return digest(xcom_text(value))


def field_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def field_hashes(fields: dict[str, Any]) -> dict[str, str]:
    """Fields that hold nothing are left out."""
    empty: list[Any] = [None, "", [], {}, "[]", "{}"]
    return {name: digest(field_text(value)) for name, value in fields.items() if value not in empty}


def instance_key(task_id: str, map_index: int) -> str:
    return f"{task_id}[{map_index}]" if map_index >= 0 else task_id


def first(items: dict[str, Any], count: int) -> dict[str, Any]:
    return dict(sorted(items.items())[:count])


def read(path: Path) -> list[dict[str, Any]]:
    """From JSON lines; `.xz`: compressed."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        data = lzma.decompress(data)
    return [json.loads(line) for line in data.decode().splitlines() if line]


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    text = "".join(
        json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
        for row in sorted(rows, key=lambda row: (row["id"], row["airflow"]))
    )
    path.write_bytes(lzma.compress(text.encode(), preset=9) if path.suffix == ".xz" else text.encode())


@dataclass(frozen=True, slots=True)
class Difference:
    dag_id: str
    part: str
    """One of STRUCTURE, END or VALUES."""
    where: str
    expected: Any
    found: Any


STRUCTURE = frozenset(
    ["import", "dags", "tasks", "class", "upstream", "rule", "flags", "schedule", "catchup", "params"]
)
END = frozenset(["run", "states"])
VALUES = frozenset(["xcoms", "rendered"])


def compare(expected: dict[str, Any], found: dict[str, Any]) -> list[Difference]:
    """All that differs. Names that only `found` has do not count: Airflow's answer may have been cut."""
    errors = [*found.get("import_errors", ()), *([found["fatal"]] if found.get("fatal") else [])]
    if expected.get("import_errors") and not expected["dags"]:
        return [] if errors else [Difference("", "import", "", expected["import_errors"], sorted(found["dags"]))]
    missing = sorted(set(expected["dags"]) - set(found["dags"]))
    more = sorted(set(found["dags"]) - set(expected["dags"]))
    if missing and errors:
        return [Difference("", "import", "", missing, errors[0])]
    differences: list[Difference] = []
    if missing or more:
        differences.append(Difference("", "dags", "", missing, more))
    for dag_id in sorted(set(expected["dags"]) & set(found["dags"])):
        differences += _compare_dags(dag_id, expected["dags"][dag_id], found["dags"][dag_id], expected["airflow"])
    return differences


def _compare_dags(dag_id: str, expected: dict[str, Any], found: dict[str, Any], airflow: str) -> Iterator[Difference]:
    tasks, own = expected["tasks"], found["tasks"]
    if set(tasks) != set(own):
        yield Difference(dag_id, "tasks", "", sorted(set(tasks) - set(own)), sorted(set(own) - set(tasks)))
    for task_id in sorted(set(tasks) & set(own)):
        (kind, upstream, rule, *flags), (own_kind, own_upstream, own_rule, *own_flags) = tasks[task_id], own[task_id]
        for part, one, other in (
            ("class", kind, own_kind),
            ("upstream", upstream, own_upstream),
            ("rule", rule, own_rule),
            ("flags", sorted(flags), sorted(own_flags)),
        ):
            if one != other:
                yield Difference(dag_id, part, task_id, one, other)
    if _schedule(expected["schedule"], airflow) != _schedule(found["schedule"], airflow):
        yield Difference(dag_id, "schedule", "", expected["schedule"], found["schedule"])
    for part in ("catchup", "params"):
        if expected[part] != found[part]:
            yield Difference(dag_id, part, "", expected[part], found[part])
    if "run" not in expected and "run_error" not in expected:
        return
    if ("run_error" in expected) != ("run_error" in found):
        yield Difference(dag_id, "run", "", expected.get("run_error", ""), found.get("run_error", ""))
        if "ti" not in found:
            return
    if expected.get("run") != found.get("run"):
        yield Difference(dag_id, "run", "", expected.get("run"), found.get("run") or found.get("run_error"))
    yield from _compare_items(dag_id, "states", expected.get("ti", {}), found.get("ti", {}), both=True)
    if expected.get("logical_date") == "relative":
        return  # values hold the day on which the answer was recorded
    yield from _compare_items(dag_id, "xcoms", expected.get("xcom_sha", {}), found.get("xcom_sha", {}))
    rendered, own_rendered = expected.get("rendered_sha", {}), found.get("rendered_sha", {})
    for key in sorted(rendered):
        if rendered[key]:
            found_fields = own_rendered.get(key)
            if found_fields is None:
                yield Difference(dag_id, "rendered", key, sorted(rendered[key]), None)
            else:
                yield from _compare_items(dag_id, "rendered", rendered[key], found_fields, prefix=f"{key}.")


def _compare_items(
    dag_id: str, part: str, expected: dict[str, Any], found: dict[str, Any], *, both: bool = False, prefix: str = ""
) -> Iterator[Difference]:
    for key in sorted(set(expected) | set(found)) if both else sorted(expected):
        if expected.get(key) != found.get(key):
            yield Difference(dag_id, part, prefix + key, expected.get(key), found.get(key))


_PRESETS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
}
_RENAMED = {"DatasetTriggeredTimetable": "AssetTriggeredTimetable", "DatasetOrTimeSchedule": "AssetOrTimeSchedule"}


def _schedule(text: str, airflow: str) -> str:
    """What can be compared: Airflow 3 leaves out the text; that of events and of own timetables is free."""
    kind, _, summary = text.partition(":")
    kind = _RENAMED.get(kind, kind)
    comparable = (
        kind.startswith(("Cron", "Delta")) and airflow.startswith("2") and not re.search("minute|hour", summary)
    )
    return f"{kind}:{_PRESETS.get(summary, summary).lower()}" if comparable else kind
