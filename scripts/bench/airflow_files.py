"""What it costs to load an Airflow DAG file: opskit's loader beside Airflow's DagBag, on the same files in one run.

Each file is loaded in a forked child of a process that has the authoring model imported already, on both sides: as
opskit's DAG processor does it, and as Airflow's does. Both alternate. `--environments DIR` is the folder
of the virtual environments that scripts/compat/harness record makes; `--corpus DIR` takes the public files that it
materialises instead of those of tests/compat, in a sandbox (root, util-linux).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "compat"))

from compat_harness import corpus, environments, record, servers  # noqa: E402


def items_of(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    if arguments.corpus is None:
        items = [record.item_of(file, arguments.airflow) for file in record.own_files()]
    else:
        files = [file for source in corpus.read() for file in source.files if file.kind == "runnable"]
        items = [
            {
                "id": file.id,
                "airflow": arguments.airflow,
                "path": str(file.below(arguments.corpus)),
                "root": str(arguments.corpus / file.source),
                "seconds": 60,
            }
            for file in files
            if corpus.state_of(file, arguments.corpus) == "present"
        ]
    return [{**item, "run": False} for item in items[: arguments.files]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, default=environments.FOLDER)
    parser.add_argument("--airflow", default="2.11.2", choices=environments.RELEASES)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many counts")
    arguments = parser.parse_args()
    items = items_of(arguments)
    sandboxed = arguments.corpus is not None
    python = environments.python_of(arguments.airflow, arguments.environments.resolve())
    with tempfile.TemporaryDirectory(prefix="opskit-bench-") as folder:
        sides: dict[str, servers.Server] = {}
        for side, program in (("airflow_side", str(python)), ("opskit_side", sys.executable)):
            home = None if sandboxed else Path(folder) / side
            if home is not None:
                home.mkdir()
            sides[side] = servers.Server(side, program, home)
        try:
            best = measure(sides, items, arguments.repeat)
        finally:
            for server in sides.values():
                server.stop()
    print(f"DAG files: {len(best)} of {len(items)} that both load; Airflow {arguments.airflow}")
    for name, seconds in (("Airflow's DagBag", [pair[0] for pair in best]), ("opskit's loader", [p[1] for p in best])):
        print(
            f"  {name:20} {1000 * statistics.median(seconds):8.1f} ms per file (median), {sum(seconds):6.2f} s in all"
        )
    ratio = statistics.median(own / other for other, own in best)
    sums = sum(own for _, own in best) / sum(other for other, _ in best)
    print(f"  {'ratio':20} {ratio:8.3f} (median of the files), {sums:.3f} of the sums")


def measure(sides: dict[str, servers.Server], items: list[dict[str, Any]], repeat: int) -> list[tuple[float, float]]:
    """Seconds of Airflow and of opskit per file."""
    best: dict[tuple[str, str], float] = {}
    failed: set[str] = set()
    for _ in range(repeat):
        for item in items:
            for side, server in sides.items():
                answer = server.ask(item)
                if answer is None or not answer["dags"] or answer.get("import_errors"):
                    failed.add(item["id"])
                    continue
                key = (item["id"], side)
                best[key] = min(best.get(key, 1e9), answer["parse_s"])
    names = [item["id"] for item in items if item["id"] not in failed]
    return [(best[name, "airflow_side"], best[name, "opskit_side"]) for name in names]


if __name__ == "__main__":
    main()
