"""`dag.cli()`: a small command line for a DAG file that is run as a program."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opskit.core.dag.model import DAG


def run(dag: DAG, arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says. SystemExit 1 when a test run fails, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(description=f"DAG {dag.dag_id}; more commands: opskit --help")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the ids of its tasks, each after its upstream tasks")
    test = commands.add_parser("test", help="run all its tasks in this process")
    test.add_argument("logical_date", nargs="?", type=datetime.fromisoformat, help="ISO 8601; default: now")
    test.add_argument("--conf", type=json.loads, help="the conf of the run, as JSON")
    given = parser.parse_args(arguments)
    if given.command == "list":
        for task in dag.topological_sort():
            print(task.task_id)  # noqa: T201 - what was asked for
        return
    result = dag.test(logical_date=given.logical_date, conf=given.conf, report=print)
    if result.state != "success":
        sys.exit(1)
