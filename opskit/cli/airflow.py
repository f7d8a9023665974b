"""`opskit airflow`: moving in from Airflow."""

from __future__ import annotations

import os
from pathlib import Path

import click

from opskit.cli.lazy import LazyCommands
from opskit.cli.output import output_option, plain, show
from opskit.config import load
from opskit.errors import DriftFound

_ELSEWHERE = {
    "import": ("opskit.cli.airflow_import:import_airflow", "Take over settings, connections, variables, runs and more.")
}


@click.group(cls=LazyCommands, commands_elsewhere=_ELSEWHERE)
def airflow() -> None:
    """Move in from Airflow."""


@airflow.command()
@click.argument("folder", type=click.Path(path_type=Path))
@output_option
def check(folder: Path, output: str) -> None:
    """Tell which DAG files of FOLDER run here as they are; for the others the line, what is missing and what to do.

    Loads each file in a process of its own, as the DAG processor does; nothing is stored. Exit code 5: something is
    missing.
    """
    from opskit.ops.airflow_check import RUNS
    from opskit.ops.airflow_check import check as check_folder
    from opskit.platforms import find

    files = check_folder(find(load()), folder.absolute(), os.environ)
    if output == "table":
        rows = [
            {
                "file": file.path,
                "line": finding.line or "",
                "needed": finding.when,
                "missing": f"{finding.kind}: {finding.what}",
                "what_to_do": finding.to_do,
            }
            for file in files
            for finding in file.findings
        ]
        if rows:
            show(rows, output)
        good = [file for file in files if file.state == RUNS]
        dags = sum(len(file.dag_ids) for file in good)
        click.echo(f"{len(good)} of {len(files)} files run as they are, with {dags} DAGs")
    else:
        show(plain(files), output)
    bad = [file.path for file in files if file.state != RUNS]
    if bad:
        raise DriftFound(f"something is missing for {len(bad)} of {len(files)} files")
