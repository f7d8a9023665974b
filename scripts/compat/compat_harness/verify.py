"""Ask real Airflow again about the files that ended or said something else in RESULTS, on this machine and today.

Where it does not repeat its recorded answer, that depends on the time, on chance (dice, the order of a set) or on the
machine (paths, versions), and a difference there does not count; where even the states of a run are so, nothing of that
run does, and the file is called unstable. RESULTS is written anew. Where the end differs and Airflow has repeated
itself, it is asked twice more: dice may fall alike. With --kept, its answers are kept in a
file and not asked for again.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compat_harness import answers, classify, environments, record, servers
from compat_harness import run as running
from compat_harness.corpus import DATA, read

Row = dict[str, Any]
_TURNS = 3
_ONLY_IN_TESTS = (
    (
        "NotImplementedError",
        "Airflow's dag.test() calls execute of a task that starts from its trigger; its scheduler does not",
    ),
    (
        r"TypeError: \w+\.execute_complete\(\) missing",
        "Airflow's dag.test() loses the arguments of a deferral; its scheduler does not",
    ),
)
"""What Airflow's log says → why a scheduler would end the run as it ends here."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("corpus", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--answers", type=Path, default=DATA / "corpus_answers.jsonl.xz")
    parser.add_argument("--environments", type=Path, default=environments.FOLDER)
    parser.add_argument("--kept", type=Path, metavar="FILE")


def run(arguments: argparse.Namespace) -> int:
    rows = answers.read(arguments.results)
    expected = {(row["id"], row["airflow"]): row for row in answers.read(arguments.answers)}
    files = {file.id: file for source in read() for file in source.files}
    wanted = argparse.Namespace(only=None, kind=None, airflow=None, parse=False, seconds=180)
    items = {
        (item["id"], item["airflow"]): item
        for item in running.items_of(files, expected, arguments.corpus.resolve(), wanted)
    }
    doubtful = [row for row in rows if row["class"] and items[row["id"], row["airflow"]]["run"]]
    moving: dict[int, set[tuple[str, str, str]]] = {}
    for release in sorted({row["airflow"] for row in doubtful}):
        python = environments.python_of(release, arguments.environments.resolve())
        asked = [row for row in doubtful if row["airflow"] == release]
        for turn in range(_TURNS):
            entries = [(row, items[row["id"], release]) for row in asked]
            for row, today in _ask(python, entries, turn, arguments.kept):
                if not today.get("fatal") and today["dags"]:
                    moved = {_place(one) for one in answers.compare(expected[row["id"], release], today)}
                    if _ends(moved) - _ends({(one["dag_id"], one["part"], one["where"]) for one in row["differences"]}):
                        continue  # what ended alike here could not run on this machine: that says nothing of chance
                    places = moving.setdefault(id(row), set())
                    places |= moved
                    _excuse(row, places, today)
            asked = [row for row in asked if row["class"] != "unstable" and set(row["parts"]) & answers.END]
    arguments.results.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
    running.print_summary(rows)
    return 0


def _ask(
    python: Path, entries: list[tuple[Row, dict[str, Any]]], turn: int, kept: Path | None
) -> Iterator[tuple[Row, dict[str, Any]]]:
    """What Airflow says today, in the order in which it becomes known."""
    known = {}
    if kept is not None and kept.exists():
        known = {(one["id"], one["airflow"], one["turn"]): one for one in answers.read(kept)}
    new = []
    for row, item in entries:
        answer = known.get((row["id"], row["airflow"], turn))
        if answer is None:
            new.append((row, item))
        else:
            yield row, answer
    told = servers.ask_all("airflow_side", python, [item for _, item in new], renew=6)
    for (row, _), (_, answer) in zip(new, told, strict=True):
        if kept is not None:
            with kept.open("a") as file:
                file.write(json.dumps({**answer, "turn": turn}) + "\n")
        yield row, answer


def _ends(places: set[tuple[str, str, str]]) -> set[str]:
    """The DAGs of which states are among these places."""
    return {dag_id for dag_id, part, _ in places if part in answers.END}


def _place(one: answers.Difference) -> tuple[str, str, str]:
    return one.dag_id, one.part, one.where


def _excuse(row: Row, moving: set[tuple[str, str, str]], today: dict[str, Any]) -> None:
    """Leave in the row what differs where Airflow repeats itself."""
    if row["class"] == "unstable":
        return  # so it was when it was recorded
    ends = bool(answers.END & set(row["parts"]))
    adrift = {dag_id for dag_id, part, _ in moving if part in answers.END}  # all values of such a run may be others
    left = [
        one
        for one in row["differences"]
        if (one["dag_id"], one["part"], one["where"]) not in moving
        and not (one["dag_id"] in adrift and one["part"] in answers.END | answers.VALUES)
    ]
    row["chance"] = len(row["differences"]) - len(left) + row.get("chance", 0)
    row["differences"], row["parts"] = left, sorted({one["part"] for one in left})
    if left:
        found = [answers.Difference(*(one[name] for name in _FIELDS)) for one in left]
        row["class"], row["reason"] = classify.classify(found, {"log": row.get("log", "")}, unstable=False)
        row["reason"] = _said(row, found, today) or row["reason"]
    elif ends:
        row["class"], row["reason"] = "unstable", "real Airflow does not repeat its answer"
    else:
        row["class"] = row["reason"] = ""


_FIELDS = ("dag_id", "part", "where", "expected", "found")


def _said(row: Row, left: list[answers.Difference], today: dict[str, Any]) -> str:
    """The first value that differs, on both sides, instead of its hash."""
    parts = {one.part for one in left}
    if parts & answers.END:
        for pattern, reason in _ONLY_IN_TESTS:
            if re.search(pattern, today.get("log", "")):
                return reason
    if not parts <= answers.VALUES:
        return ""
    one = left[0]
    theirs = record.readable(one, one.expected, today)[:90]
    ours = str(row["differences"][0].get("here", one.found))[:90]
    return f"{one.part} of {one.dag_id}.{one.where}: {theirs} became {ours}"
