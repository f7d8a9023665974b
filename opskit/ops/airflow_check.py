"""Tells which DAG files of a folder run as they are, and what the others lack: before anything is moved."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from opskit.compat import needs, presence
from opskit.core.dag import connection as connections
from opskit.core.dag import variable as variables
from opskit.core.scheduler.dag_folder import list_dag_folder, read_content
from opskit.errors import MetastoreUnavailable, OpskitError, UsageError
from opskit.platforms import Platform

RUNS, LACKS, BROKEN = "runs", "lacks", "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a file lacks."""

    line: int
    """0: the whole file."""
    kind: str
    """airflow (a name of Airflow), package, variable, connection, or error (what loading it raised)."""
    what: str
    to_do: str
    when: str = "load"
    """load: the file can't be loaded without it; run: a task needs it."""


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file that may define DAGs."""

    path: str
    """Below the folder."""
    state: str
    """runs; lacks (it does not run, and the findings say what it lacks); broken (it can't be loaded, for another
    reason)."""
    dag_ids: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    error: str | None = None
    """All that loading it said."""


@dataclass(frozen=True, slots=True)
class Known:
    """What there is already. None: nobody can say, because there is no metastore yet, or a secrets backend is asked."""

    variables: frozenset[str] | None
    connections: frozenset[str] | None


def check(platform: Platform, folder: Path, environment: Mapping[str, str]) -> list[CheckedFile]:
    """Load each file of the folder as the DAG processor would, and read what else it asks for. Changes nothing.

    UsageError for a folder that is none, OpskitError for one that can't be listed."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder")
    config = platform.config
    listing = list_dag_folder(folder, str(config.get("core", "dag_ignore_file_syntax")))
    if listing.problems:
        raise OpskitError(f"the folder can't be read: {listing.problems[0]}")
    safe_mode = bool(config.get("core", "dag_discovery_safe_mode"))
    paths = [path for path in sorted(listing.files) if read_content(folder, path, safe_mode).may_define_dags]
    known = _known(platform, environment)
    folders = (str(folder), str(config.get_path("core", "plugins_folder")), str(config.home / "config"))
    loaded = {file.path: file for file in platform.dag_files.load(folder, paths)}
    checked = []
    for path in paths:
        file = loaded.get(path)
        error = file.error if file is not None else "it was not loaded"
        findings = list(dict.fromkeys(_static(folder, path, known, folders, error is not None)))
        if error is not None and not any(finding.when == "load" for finding in findings):
            findings.insert(0, _of_error(error, path))
        state = RUNS if not findings else BROKEN if findings[0].kind == "error" else LACKS
        checked.append(CheckedFile(path, state, file.dag_ids if file is not None else (), tuple(findings), error))
    return checked


def _known(platform: Platform, environment: Mapping[str, str]) -> Known:
    if platform.config.get("secrets", "backend"):
        return Known(None, None)  # the backend may have any of them
    try:
        stored = platform.dag_facts.stored(())
    except MetastoreUnavailable:
        return Known(None, None)
    return Known(
        _lowered(stored.variables) | _from_environment(environment, variables.ENV_PREFIXES),
        _lowered(stored.connections) | _from_environment(environment, connections.ENV_PREFIXES),
    )


def _lowered(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)


def _from_environment(environment: Mapping[str, str], prefixes: Sequence[str]) -> frozenset[str]:
    return _lowered(name.removeprefix(prefix) for prefix in prefixes for name in environment if name.startswith(prefix))


def _static(folder: Path, path: str, known: Known, folders: Sequence[str], fails: bool) -> Iterable[Finding]:
    """What the file, and the modules of the folder that it imports, ask for and do not get."""
    seen: set[Path] = set()
    todo = [folder / path]
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        try:
            asked = needs.of_source(current.read_bytes())
        except (OSError, SyntaxError, ValueError):
            continue  # loading it says so
        where = "" if current == folder / path else f" ({current.relative_to(folder)})"
        for need in asked:
            finding = _finding(need, known, folders, where)
            # What a file that can be loaded imports at its top is there, whatever it looks like.
            if finding is not None and (fails or finding.when == "run"):
                yield finding
            if need.kind == needs.IMPORT:
                todo += _local(folder, need)


def _finding(need: needs.Need, known: Known, folders: Sequence[str], where: str) -> Finding | None:
    if need.optional:
        return None
    when = "load" if need.at_load else "run"
    if need.kind == needs.IMPORT:
        what = f"from {need.module} import {need.name}" if need.name else f"import {need.module}"
        if need.module == "airflow" or need.module.startswith("airflow."):
            advice = presence.missing_airflow_name(need.module, need.name)
            return None if advice is None else Finding(need.line, "airflow", what + where, advice, when)
        package = presence.missing_package(need.module, folders)
        if package is None:
            return None
        beside = Path(folders[0]).parent
        top = need.module.partition(".")[0]
        if (beside / top).is_dir() or (beside / f"{top}.py").is_file():
            to_do = f"set PYTHONPATH={beside} for opskit, or copy {top} into the DAG folder"
        else:
            to_do = f"pip install {package}"
        return Finding(need.line, "package", f"import {need.module}{where}", to_do, when)
    there = known.variables if need.kind == needs.VARIABLE else known.connections
    if there is None or need.module.lower() in there:
        return None
    verb = f"opskit {need.kind}s {'set' if need.kind == needs.VARIABLE else 'add'} {need.module} …"
    return Finding(need.line, need.kind, need.module + where, verb, when)


def _local(folder: Path, need: needs.Need) -> list[Path]:
    parts = need.module.split(".")
    candidates = [folder.joinpath(*parts).with_suffix(".py"), folder.joinpath(*parts, "__init__.py")]
    if need.name:
        candidates.append(folder.joinpath(*parts, f"{need.name}.py"))
    return [path for path in candidates if path.is_file()]


def _of_error(error: str, path: str) -> Finding:
    lines = [int(line) for name, line in re.findall(r'File "([^"]+)", line (\d+)', error) if name.endswith(path)]
    headline = next((line for line in error.splitlines() if line.strip()), "it can't be loaded")
    return Finding(lines[-1] if lines else 0, "error", headline, "mend the file; --output json has the whole error")
