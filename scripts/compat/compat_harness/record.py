"""Record what real Airflow makes of DAG files, by default of those in tests/compat/dags.

Each file is run twice; what differs between the two (random values, times) is left out of the answer. The
environments are made in --environments, one per release, and kept there. --show prints instead what opskit does
differently.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from compat_harness import answers, environments, servers

_DAGS = servers.ROOT / "tests" / "compat" / "dags"
_ANSWERS = servers.ROOT / "tests" / "compat" / "answers.jsonl"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", type=Path, help="DAG files; default: all of tests/compat/dags")
    parser.add_argument(
        "--environments", type=Path, default=environments.FOLDER, help="folder of the virtual environments"
    )
    parser.add_argument("--airflow", nargs="*", default=environments.RELEASES, metavar="RELEASE")
    parser.add_argument("--answers", type=Path, default=_ANSWERS, help="what is recorded goes here")
    parser.add_argument("--once", action="store_true", help="run each file once: quicker, but chance goes unnoticed")
    parser.add_argument("--show", action="store_true", help="record nothing, compare with opskit at once")
    parser.add_argument("--python", default=sys.executable, help="interpreter with opskit, for --show")


def run(arguments: argparse.Namespace) -> int:
    files = [file.resolve() for file in arguments.files] or own_files()
    recorded = (
        {(row["id"], row["airflow"]): row for row in answers.read(arguments.answers)}
        if arguments.answers.exists()
        else {}
    )
    differing, runs = 0, 1 if arguments.once else 2
    for release in arguments.airflow:
        python = environments.python_of(release, arguments.environments.resolve())
        items = [{**item_of(file, release), **({"plain": True} if arguments.show else {})} for file in files]
        pairs = [
            answer
            for _, answer in servers.ask_all("airflow_side", python, [item for item in items for _ in range(runs)])
        ]
        for item, first, second in zip(items, pairs[::runs], pairs[runs - 1 :: runs], strict=True):
            row = stable(first, second)
            if "fatal" in first:
                print(f"{item['id']} on {release}: {first['fatal']}", file=sys.stderr)
            if _is_for_another_release(row):
                recorded.pop((row["id"], release), None)
            else:
                recorded[row["id"], release] = row
        if arguments.show:
            for (item, found), real in zip(
                servers.ask_all("opskit_side", arguments.python, items), pairs[::runs], strict=True
            ):
                if (item["id"], release) not in recorded:
                    print(f"{item['id']} is not for {release}: {real['import_errors'][0].splitlines()[-1]}")
                    continue
                differences = answers.compare(recorded[item["id"], release], found)
                differing += bool(differences)
                print(f"{item['id']} on {release}: {len(differences) or 'nothing'} different")
                for one in differences:
                    theirs, ours = (
                        readable(one, value, side) for value, side in ((one.expected, real), (one.found, found))
                    )
                    print(f"  {one.part} {one.dag_id} {one.where}: {theirs}, here {ours}")
    if arguments.show:
        return 1 if differing else 0
    answers.write(arguments.answers, recorded.values())
    return 0


def _is_for_another_release(row: dict[str, Any]) -> bool:
    """opskit has the names and arguments of all releases: that one of them lacks some is nothing to be compared."""
    lacks = (
        r"ModuleNotFoundError: No module named 'airflow|ImportError: cannot import name"
        r"|TypeError: DAG.__init__\(\) got an unexpected keyword"
    )
    return any(re.match(lacks, text) for text in row.get("import_errors", ()))


def readable(one: answers.Difference, value: Any, side: dict[str, Any]) -> str:
    """The value itself instead of its hash."""
    if one.part not in answers.VALUES or value is None:
        return repr(value)
    return str(side["dags"].get(one.dag_id, {}).get("plain", {}).get(one.where, value))


def own_files() -> list[Path]:
    """Modules that only serve the DAG files, and files that are templates, are none of them."""
    return sorted(file for file in _DAGS.glob("*.py") if not file.name.startswith("compat_"))


def item_of(file: Path, release: str) -> dict[str, Any]:
    return {
        "id": file.name,
        "airflow": release,
        "path": str(file),
        "root": str(file.parent),
        "run": True,
        "seconds": 120,
        "companions": [],
    }


def stable(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs between two runs, and without what is of no use later."""
    row: dict[str, Any] = {"id": first["id"], "airflow": first["airflow"], "dags": {}}
    if first.get("import_errors"):
        row["import_errors"] = [text.strip().splitlines()[-1][:200] for text in first["import_errors"]]
    if first.get("fatal"):
        row["fatal"] = first["fatal"]
    for dag_id, dag in first["dags"].items():
        other = second["dags"].get(dag_id, {})
        if dag.get("ti") != other.get("ti") or dag.get("run") != other.get("run"):
            row["unstable"] = True
        kept = {key: value for key, value in dag.items() if key not in ("xcom_sha", "rendered_sha", "plain")}
        for part in ("xcom_sha", "rendered_sha"):
            if part in dag:
                kept[part] = _common(dag[part], other.get(part, {}))
        row["dags"][dag_id] = kept
    return row


def _common(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    common: dict[str, Any] = {}
    for key, value in first.items():
        if isinstance(value, dict):
            common[key] = _common(value, second.get(key, {}))
        elif second.get(key) == value:
            common[key] = value
    return common
