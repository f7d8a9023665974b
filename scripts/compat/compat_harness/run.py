"""Run the corpus on opskit and compare with the answers of real Airflow.

Each file runs once per release of Airflow that has an answer for it, in that release's dialect; files that no release
could load are loaded, too. Everything happens in a sandbox without network. RESULTS gets a line per file and release; a
summary is printed. `verify RESULTS` then asks real Airflow whether it repeats its answers where something differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compat_harness import answers, classify, record, servers, surroundings
from compat_harness.corpus import DATA, DagFile, read, state_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("corpus", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--answers", type=Path, default=DATA / "corpus_answers.jsonl.xz")
    parser.add_argument("--only", nargs="*", metavar="ID", help="source, or source@path; also a part of it")
    parser.add_argument("--kind", choices=("runnable", "parse-only"))
    parser.add_argument("--airflow", choices=("2", "3"), help="one dialect only")
    parser.add_argument("--parse", action="store_true", help="load the files, run nothing")
    parser.add_argument("--again", metavar="RESULTS", type=Path, help="only what differed in these results")
    parser.add_argument(
        "--python", default=sys.executable, help="interpreter with opskit and what the DAG files import"
    )
    parser.add_argument("--seconds", type=int, default=60, help="limit per file")


def run(arguments: argparse.Namespace) -> int:
    expected = {(row["id"], row["airflow"]): row for row in answers.read(arguments.answers)}
    files = {file.id: file for source in read() for file in source.files}
    corpus = arguments.corpus.resolve()
    again = None
    if arguments.again:
        again = {(row["id"], row["airflow"]) for row in answers.read(arguments.again) if row["class"]}
    items = [
        item
        for item in items_of(files, expected, corpus, arguments)
        if again is None or (item["id"], item["airflow"]) in again
    ]
    unstable = {file_id for (file_id, _), row in expected.items() if row.get("unstable")}
    rows: list[dict[str, Any]] = []
    with arguments.results.open("w") as out:
        for item, found in servers.ask_all("opskit_side", arguments.python, items):
            row = judge(item, found, expected.get((item["id"], item["airflow"])), unstable=item["id"] in unstable)
            rows.append(row)
            out.write(json.dumps(row, sort_keys=True) + "\n")
            out.flush()
    print_summary(rows)
    return 0


def judge(
    item: dict[str, Any], found: dict[str, Any], expected: dict[str, Any] | None, *, unstable: bool = False
) -> dict[str, Any]:
    """A line of the results: `class` is "" where nothing differs."""
    row = {
        "id": item["id"],
        "airflow": item["airflow"],
        "kind": item["kind"],
        "seconds": found.get("seconds"),
        "parse_s": found.get("parse_s"),
        "class": "",
        "reason": "",
        "differences": [],
        "fatal": found.get("fatal"),
        "parsed": bool(found["dags"]) and not found.get("import_errors"),
    }
    if expected is None:
        if not row["parsed"] and (found.get("import_errors") or found.get("fatal")):
            row["class"], row["reason"] = classify.of_import_errors(found)
        return row
    differences = answers.compare(expected, found)
    if not item["run"]:
        differences = [difference for difference in differences if difference.part in answers.STRUCTURE]
    if differences:
        row["class"], row["reason"] = classify.classify(differences, found, unstable=unstable)
        row["differences"] = [
            {**asdict(one), "here": record.readable(one, one.found, found)[:200]} for one in differences[:200]
        ]
        row["parts"] = sorted({difference.part for difference in differences})
        row["log"] = found.get("log", "")
    return row


def print_summary(rows: list[dict[str, Any]]) -> None:
    for kind in ("runnable", "parse-only", "not loaded by Airflow"):
        chosen = [row for row in rows if row["kind"] == kind]
        if not chosen:
            continue
        same = sum(not row["class"] for row in chosen)
        print(f"{kind}: {len(chosen)} answers, {same} the same ({100 * same / len(chosen):.1f} %)")
        if kind == "runnable":
            ends = sum(ends_alike(row) for row in chosen)
            print(f"  ending alike, whatever else differs: {ends} ({100 * ends / len(chosen):.1f} %)")
        print(f"  loaded: {sum(row['parsed'] for row in chosen)}")
        for name, count in Counter(row["class"] for row in chosen if row["class"]).most_common():
            print(f"  {name}: {count}")


def ends_alike(row: dict[str, Any]) -> bool:
    """Same DAGs, same tasks, same final states."""
    return not set(row.get("parts", ())) & {"import", "dags", "tasks", "run", "states"} and row["parsed"]


def items_of(
    files: dict[str, DagFile], expected: dict[tuple[str, str], Any], corpus: Path, arguments: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    releases = sorted({airflow for _, airflow in expected})
    for file in files.values():
        if arguments.only and not any(part in file.id for part in arguments.only):
            continue
        if arguments.kind and file.kind != arguments.kind:
            continue
        if state_of(file, corpus) != "present":
            continue
        answered = [airflow for airflow in releases if (file.id, airflow) in expected]
        for airflow in answered or ["auto"]:
            answer = expected[file.id, airflow]["dags"] if answered else {}
            if arguments.airflow and not airflow.startswith(arguments.airflow):
                continue
            yield {
                "id": file.id,
                "airflow": airflow,
                "kind": file.kind if answered else "not loaded by Airflow",
                "path": str(file.below(corpus)),
                "root": str(corpus / file.source),
                "run": not arguments.parse and any("run" in dag or "run_error" in dag for dag in answer.values()),
                "seconds": arguments.seconds,
                "plain": True,
                "dag_ids": [dag_id for dag_id, dag in answer.items() if "run" in dag or "run_error" in dag],
                "companion_paths": sorted(
                    {str(other.below(corpus)) for other, _ in _companions(file, files, expected, airflow, corpus)}
                ),
                "companions": sorted(dag_id for _, dag_id in _companions(file, files, expected, airflow, corpus)),
            }


def _companions(
    file: DagFile, files: dict[str, DagFile], expected: dict[tuple[str, str], Any], airflow: str, corpus: Path
) -> Iterator[tuple[DagFile, str]]:
    """DAGs of the same source that this file names: cross-DAG operators find their target."""
    text = file.below(corpus).read_text(errors="replace")
    if not surroundings.names_other_dags(text):
        return
    near = {"std-examples": ("std-examples", "af3-examples")}.get(file.source, (file.source,))
    for other in files.values():
        if other.source in near and other.id != file.id and (other.id, airflow) in expected:
            yield from ((other, dag_id) for dag_id in other.dag_ids if surroundings.is_named(dag_id, text))
