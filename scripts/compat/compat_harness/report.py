"""Write docs/airflow-compatibility.md from the results of `run`, and from the alias table."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compat_harness import answers, servers
from compat_harness.run import ends_alike

_PAGE = servers.ROOT / "docs" / "airflow-compatibility.md"
_AREAS = (
    ("Operators", r"\.operators\."),
    ("Sensors", r"\.sensors\."),
    ("Hooks", r"\.hooks?\."),
    ("Triggers", r"\.triggers\."),
    ("Schedules", r"\.timetables\."),
    ("Decorators", r"\.decorators"),
    ("Exceptions", r"exceptions"),
    ("Authoring (airflow.sdk and airflow)", r"^airflow\.(sdk\.)?\w+$"),
    ("Models and settings", r"^airflow\.(models|settings)"),
    ("Everything else", r""),
)
_PARSE, _NOT_LOADED = "parse-only", "not loaded by Airflow"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", nargs="+", type=Path, help="of several, the last says what became of a file")
    parser.add_argument("--page", type=Path, default=_PAGE)


def run(arguments: argparse.Namespace) -> int:
    rows = {(row["id"], row["airflow"]): row for path in arguments.results for row in answers.read(path)}
    arguments.page.write_text("\n".join(page([rows[key] for key in sorted(rows)])) + "\n")
    return 0


def page(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield from _INTRODUCTION.strip().split("\n")
    yield from ["", "## Numbers", ""]
    yield from _numbers(rows)
    yield from ["", "## Files that end differently", ""]
    yield from _differing([row for row in rows if _counts(row) and not ends_alike(row)], _ENDS)
    yield from ["", "## Files whose values or details differ", ""]
    yield from _differing([row for row in rows if _counts(row) and ends_alike(row) and row["class"]], _VALUES)
    yield from ["", "## Files that are only loaded", ""]
    yield from _differing([row for row in rows if row["kind"] == _PARSE and row["class"]], _LOADED)
    yield from ["", "## Files that Airflow itself does not load", ""]
    yield from _foreign([row for row in rows if row["kind"] == _NOT_LOADED])
    yield from ["", "## Names that can be imported", ""]
    yield from _names()


def _counts(row: dict[str, Any]) -> bool:
    return row["kind"] == "runnable" and row["class"] != "unstable"


def _numbers(rows: list[dict[str, Any]]) -> Iterator[str]:
    runnable = [row for row in rows if row["kind"] == "runnable"]
    counted = [row for row in rows if _counts(row)]
    parse = [row for row in rows if row["kind"] == _PARSE]
    foreign = [row for row in rows if row["kind"] == _NOT_LOADED]
    yield "| what | of | that do |"
    yield "|---|--:|--:|"
    line = "| {} | {} | {} |".format
    if counted:
        files = {row["id"] for row in counted}
        bad = {row["id"] for row in counted if not ends_alike(row)}
        yield line("files that run end with the same states", len(files), _part(len(files) - len(bad), len(files)))
        ends = sum(map(ends_alike, counted))
        yield line("… counted per file and release", len(counted), _part(ends, len(counted)))
        same = sum(not row["class"] for row in counted)
        yield line("… and with the same structure, XComs and rendered fields", len(counted), _part(same, len(counted)))
    if parse:
        loaded = sum(row["parsed"] for row in parse)
        yield line("files that Airflow loads are loaded", len(parse), _part(loaded, len(parse)))
    if foreign:
        loaded = sum(row["parsed"] for row in foreign)
        yield line("files that Airflow could not load are loaded", len(foreign), _part(loaded, len(foreign)))
    unstable = {row["id"] for row in runnable if row["class"] == "unstable"}
    if unstable:
        yield ""
        named = ", ".join(f"`{one}`" for one in sorted(unstable))
        yield f"Not counted, because real Airflow does not repeat its answer: {named}."
        ends = sum(map(ends_alike, counted))
        yield ""
        yield f"Were they counted as different, {_part(ends, len(runnable))} of {len(runnable)} answers would be alike."
    causes = Counter(row["class"] for row in rows if row["class"] and row["kind"] in ("runnable", _PARSE))
    if causes:
        yield ""
        yield "Differences by kind: " + ", ".join(f"{name} {count}" for name, count in sorted(causes.items())) + "."


def _part(count: int, whole: int) -> str:
    return f"{count} ({100 * count / whole:.1f} %)"


def _differing(rows: list[dict[str, Any]], text: str) -> Iterator[str]:
    if not rows:
        yield "None."
        return
    yield text
    yield ""
    yield "| file | Airflow | kind | reason |"
    yield "|---|---|---|---|"
    for row in rows:
        yield f"| `{row['id']}` | {row['airflow']} | {row['class']} | {_cell(row['reason'])} |"


def _foreign(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Why opskit does not load them either, summed up: most need packages or services that are not there."""
    reasons = Counter(_short(row["reason"]) for row in rows if row["class"])
    yield (
        f"Most of them need packages, variables or modules of their own that are not there. opskit loads "
        f"{sum(row['parsed'] for row in rows)} of {len(rows)}; the others say:"
    )
    yield ""
    yield "| files | reason |"
    yield "|--:|---|"
    for reason, count in sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0])):
        yield f"| {count} | {_cell(reason)} |"


def _short(reason: str) -> str:
    return re.split(r" \(/|: the nearest is|: install the package|: there is nothing|;", reason)[0][:140]


def _cell(text: str) -> str:
    """In a table's cell, without what is of one machine."""
    text = re.sub(r"/[\w./-]*/corpus/", "", text.replace("\n", " "))
    text = re.sub(r" ?\(/[^)]*\)?", "", text)
    text = re.sub(r"0x[0-9a-f]{6,}", "0x…", text)
    return text.replace("|", "\\|").replace("<", "&lt;")[:260]


def _names() -> Iterator[str]:
    from opskit.compat import table

    areas: dict[str, set[str]] = {name: set() for name, _ in _AREAS}
    modules = 0
    for module, names in sorted(table.index().items()):
        found = {*names.attributes, *(name for target in names.modules for name in table.public_names(target))}
        modules += bool(found)
        for name in found:
            path = f"{module}.{name}"
            area = next(area for area, pattern in _AREAS if re.search(pattern, path))
            if not name.startswith("_"):
                areas[area].add(name)
    yield f"{sum(map(len, areas.values()))} names, in {modules} modules under all the paths that they have had:"
    for area, found in areas.items():
        if found:
            yield ""
            yield f"**{area}**: {', '.join(sorted(found, key=str.lower))}."


_INTRODUCTION = """
# Airflow DAG files on opskit

This page is made by `scripts/compat/harness report`; don't edit it.

DAG files of Airflow 1.10, 2 and 3 run as they are: put them into the DAG folder. `opskit airflow check FOLDER` tells
beforehand what a folder's files need that is not there. Which Airflow a file was written for is seen from its imports
(`airflow.sdk` and `airflow.providers.standard` mean 3), or set with `core.airflow_dialect`; it decides what an
unstated schedule and an unstated catchup mean, whether a cron expression means data intervals or moments, and which
names a task's context has.

What is said here was measured: public DAG files - Airflow's own examples and tests, books, courses, vendors' guides,
maintenance DAGs, production repositories - were run on real Airflow 2.11.2 and 3.3.2 and on opskit, each alone, without
network, at one logical date; and compared were the parsed structure, the final state of every task instance, XComs and
rendered template fields. A DAG that must fail must fail here, too. Where something differed, real Airflow was asked
again: what it does not repeat itself - dice, the day of the week, the order of a set, paths of a machine - counts for
nobody. To repeat it:

    scripts/compat/harness materialise FOLDER --mirrors MIRRORS   # the DAG files; none is in this repository
    scripts/compat/harness environment PLACE                      # opskit, and what DAG files import
    scripts/compat/harness run FOLDER results.jsonl --python PLACE/bin/python   # in a sandbox; needs root
    scripts/compat/harness verify FOLDER results.jsonl            # real Airflow again, where something differs
    scripts/compat/harness report results.jsonl
    scripts/compat/harness record --show FILE                     # any file, beside real Airflow

DAG files import other packages, too; install what yours need beside opskit. Packages of Airflow's providers are
installed with `pip install --no-deps`, since they ask for Airflow itself.
"""
_ENDS = """
Kinds: *import path* and *argument*: a name or an argument that opskit does not have; *semantics*: it does something
else; *environment*: a package or file that was not there; *value*: same states, other values.
""".strip()
_VALUES = "Their DAGs and tasks ended as on real Airflow."
_LOADED = "Real Airflow loads them, but could not run them to an end without network."
