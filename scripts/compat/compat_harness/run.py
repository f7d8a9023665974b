"""Run the corpus on opskit and compare with the answers of real Airflow.

Each file runs once per release of Airflow that has an answer for it, in that release's dialect; files that no release
could load are loaded, too. Everything happens in a sandbox without network. RESULTS gets a line per file and release; a
summary is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from compat_harness import answers, classify, environments, record, servers, surroundings
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
    parser.add_argument(
        "--verify", type=Path, metavar="ENVIRONMENTS", help="ask real Airflow again where something differs"
    )
    parser.add_argument(
        "--kept", type=Path, metavar="ANSWERS", help="what real Airflow is asked for again is kept here, and asked once"
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
        for item in _items(files, expected, corpus, arguments)
        if again is None or (item["id"], item["airflow"]) in again
    ]
    unstable = {file_id for (file_id, _), row in expected.items() if row.get("unstable")}
    rows: list[dict[str, Any]] = []
    doubtful: list[_Doubtful] = []
    with arguments.results.open("w") as out:
        for item, found in servers.ask_all("opskit_side", arguments.python, items):
            row = judge(item, found, expected.get((item["id"], item["airflow"])), unstable=item["id"] in unstable)
            if row["class"] and item["run"]:
                doubtful.append(_Doubtful(row, item, found, expected[item["id"], item["airflow"]]))
            rows.append(row)
            out.write(json.dumps(row, sort_keys=True) + "\n")
            out.flush()
    if arguments.verify:
        if arguments.kept:
            arguments.kept.touch()
        _verify(doubtful, arguments.verify, arguments.kept)
        arguments.results.write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
    print_summary(rows)
    return 0


def _verify(doubtful: list[_Doubtful], folder: Path, kept: Path | None) -> None:
    """Ask real Airflow again, on this machine and today. Where it does not repeat its recorded answer, that depends on
    the time, on chance or on the machine, and no difference there counts. Where the end of a run differs and Airflow
    has repeated itself, it is asked twice more: dice may fall alike."""
    for release in sorted({entry.item["airflow"] for entry in doubtful}):
        python = environments.python_of(release, folder.resolve())
        asked = [entry for entry in doubtful if entry.item["airflow"] == release]
        for turn in range(3):
            for entry, today in _asked_again(python, asked, turn, kept):
                if not today.get("fatal") and today["dags"]:
                    entry.today = today
                    entry.moving |= {_place(one) for one in answers.compare(entry.expected, today)}
                    entry.excuse()
            asked = [entry for entry in asked if set(entry.row.get("parts", ())) & answers.END]


def _asked_again(
    python: Path, entries: list[_Doubtful], turn: int, kept: Path | None
) -> Iterator[tuple[_Doubtful, dict[str, Any]]]:
    """Real Airflow's answers of today; those that are kept are not asked for again."""
    known = {(row["id"], row["airflow"], row["turn"]): row for row in (answers.read(kept) if kept else [])}
    new = []
    for entry in entries:
        answer = known.get((entry.item["id"], entry.item["airflow"], turn))
        if answer is None:
            new.append(entry)
        else:
            yield entry, answer
    items = [{**entry.item, "seconds": 3 * entry.item["seconds"]} for entry in new]
    for entry, (_, answer) in zip(new, servers.ask_all("airflow_side", python, items, renew=6), strict=True):
        if kept:
            with kept.open("a") as file:
                file.write(json.dumps({**answer, "turn": turn}) + "\n")
        yield entry, answer


def _place(difference: answers.Difference) -> tuple[str, str, str]:
    return difference.dag_id, difference.part, difference.where


@dataclass
class _Doubtful:
    """A file whose answer differs from the recorded one."""

    row: dict[str, Any]
    item: dict[str, Any]
    found: dict[str, Any]
    expected: dict[str, Any]
    moving: set[tuple[str, str, str]] = field(default_factory=set)
    """Where real Airflow does not repeat itself."""
    today: dict[str, Any] = field(default_factory=dict)

    def excuse(self) -> None:
        differences = answers.compare(self.expected, self.found)
        left = [one for one in differences if _place(one) not in self.moving]
        row = self.row
        row["differences"] = [asdict(one) for one in left[:20]]
        row["parts"] = sorted({one.part for one in left})
        row["chance"] = sorted({one.part for one in differences if _place(one) in self.moving})
        if row["class"] == "unstable":
            return  # so it was when it was recorded
        if left:
            row["class"], row["reason"] = classify.classify(left, self.found, unstable=False)
            row["reason"] = self._said(left) or row["reason"]
        elif answers.END & {one.part for one in differences}:
            row["class"], row["reason"] = "unstable", "real Airflow does not repeat its answer"
        else:
            row["class"] = row["reason"] = ""

    def _said(self, left: list[answers.Difference]) -> str:
        """The first value that differs, on both sides, instead of its hash."""
        parts = {one.part for one in left}
        if parts & answers.END and "NotImplementedError" in self.today.get("log", ""):
            return "Airflow's dag.test() calls execute of a task that starts from its trigger; its scheduler does not"
        if not parts <= answers.VALUES:
            return ""
        one = left[0]
        theirs = record.readable(one, one.expected, self.today)[:90]
        ours = record.readable(one, one.found, self.found)[:90]
        return f"{one.part} of {one.dag_id}.{one.where}: {theirs} became {ours}"


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
        row["differences"] = [asdict(difference) for difference in differences[:20]]
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


def _items(
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
            dags = expected[file.id, airflow]["dags"].values() if answered else ()
            if arguments.airflow and not airflow.startswith(arguments.airflow):
                continue
            yield {
                "id": file.id,
                "airflow": airflow,
                "kind": file.kind if answered else "not loaded by Airflow",
                "path": str(file.below(corpus)),
                "root": str(corpus / file.source),
                "run": not arguments.parse and any("run" in dag or "run_error" in dag for dag in dags),
                "seconds": arguments.seconds,
                "plain": True,
                "companions": sorted(_companions(file, files, expected, airflow, corpus)),
            }


def _companions(
    file: DagFile, files: dict[str, DagFile], expected: dict[tuple[str, str], Any], airflow: str, corpus: Path
) -> Iterator[str]:
    """DAGs of the same source that this file names: cross-DAG operators find their target."""
    text = file.below(corpus).read_text(errors="replace")
    if not surroundings.names_other_dags(text):
        return
    near = {"std-examples": ("std-examples", "af3-examples")}.get(file.source, (file.source,))
    for other in files.values():
        if other.source in near and other.id != file.id and (other.id, airflow) in expected:
            yield from (dag_id for dag_id in other.dag_ids if surroundings.is_named(dag_id, text))
