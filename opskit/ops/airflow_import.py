"""Takes over what an Airflow knows: configuration, connections, variables, pools, users, pause states and history.

First the decision, then the deed. What is here already stays as it is, unless it is to be overwritten; so a second run
does what the first one left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from opskit.errors import OpskitError, UsageError
from opskit.ops import airflow_people, airflow_settings
from opskit.platforms.airflow import AirflowMetastore
from opskit.platforms.base import Platform
from opskit.platforms.configuration import Fields, Objects, Write

_ENDED = ("success", "failed")
_EMPTY: dict[str, Fields] = {
    "connections": {
        "conn_type": "",
        **dict.fromkeys(("description", "host", "login", "password", "schema", "port")),
        "extra": {},
    },
    "variables": {"description": None},
    "pools": {"description": None},
}


@dataclass(frozen=True, slots=True)
class Sources:
    """Where it comes from. At least one is given."""

    cfg: Path | None = None
    url: str = ""
    """Of the metastore; empty: the one that `cfg` names, where there is one."""
    fernet_keys: tuple[str, ...] = ()
    """Of that Airflow; none: the ones of `cfg`."""
    files: tuple[Path, ...] = ()
    """Of `airflow connections export`, `variables`, `pools`, `roles` and `users export`."""
    history: bool = False
    overwrite: bool = False
    unpause: bool = False


@dataclass(slots=True)
class Plan:
    """What would be done. `writes` hold secrets in the clear: never shown."""

    settings: dict[str, Any] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)
    replaced: set[tuple[str, str]] = field(default_factory=set)
    """(kind, name) of writes that take the place of what is there."""
    left: list[tuple[str, str]] = field(default_factory=list)
    """(what, why it is not taken)."""
    unchanged: int = 0
    runs: list[int] = field(default_factory=list)
    """Ids, in that Airflow, of the DagRuns to be taken."""
    runs_here: int = 0
    origins: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not (self.settings or self.writes or self.runs)


@dataclass(slots=True)
class Done:
    settings: int = 0
    objects: int = 0
    runs: int = 0
    instances: int = 0
    xcoms: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def planned(platform: Platform, sources: Sources) -> Iterator[tuple[Plan, AirflowMetastore | None]]:
    """The plan, and the metastore that it was made from, open. UsageError when no source is given or one is none;
    MetastoreUnavailable when a metastore can't be reached."""
    if not (sources.cfg or sources.url or sources.files):
        raise UsageError("nothing to import from", hint="give --airflow-cfg, --from-db or --export-file")
    given = airflow_settings.read_cfg(sources.cfg) if sources.cfg else {}
    plan = Plan()
    wanted: Objects = {kind: {} for kind in ("connections", "variables", "pools", "roles", "users", "dags")}
    if sources.cfg:
        plan.origins.append(str(sources.cfg))
        plan.settings, left = airflow_settings.decide(given, platform.config, str(sources.cfg))
        plan.left += left.items()
    for path in sources.files:
        kind = kind_of(path)
        if kind in airflow_people.KINDS:
            wanted[kind].update(airflow_people.read_file(platform, kind, path, plan.left))
        else:
            wanted[kind].update(_read_file(platform, kind, path))
        plan.origins.append(str(path))
    url = sources.url or given.get("database.sql_alchemy_conn") or given.get("core.sql_alchemy_conn") or ""
    if not url:
        if sources.history:
            raise UsageError("history is read from a metastore", hint="give --from-db")
        _decide(platform, wanted, sources, plan)
        yield plan, None
        return
    keys = sources.fernet_keys or tuple(given.get("core.fernet_key", "").replace(",", " ").split())
    with platform.moving_in.open(url, keys) as source:
        plan.origins.append(source.where)
        for kind, found in (
            ("connections", source.connections()),
            ("variables", source.variables()),
            ("pools", source.pools()),
            *source.people().items(),
        ):
            wanted[kind] = {**found, **wanted[kind]}
        wanted["dags"] = {dag_id: {"paused": paused} for dag_id, paused in source.pauses().items()}
        plan.left += source.problems
        _decide(platform, wanted, sources, plan)
        if sources.history:
            _choose_runs(platform, source, plan)
        yield plan, source


def kind_of(path: Path) -> str:
    """connections, variables, pools, roles or users, by the name of an export file."""
    for kind in ("connection", "variable", "pool", "role", "user"):
        if kind in path.name.lower():
            return f"{kind}s"
    raise UsageError(
        f"{path}: the name does not tell what it holds",
        hint="let it hold the word connections, variables, pools, roles or users",
    )


def _read_file(platform: Platform, kind: str, path: Path) -> dict[str, Fields]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} can't be read: {error}") from error
    ending = {".json": "json", ".yaml": "yaml", ".yml": "yaml", ".env": "env"}.get(path.suffix.lower())
    if ending is None:
        raise UsageError(f"{path}: the name does not tell its format", hint="end it with .json, .yaml or .env")
    return platform.configuration.parse(kind, text, ending, str(path))


def _decide(platform: Platform, wanted: Objects, sources: Sources, plan: Plan) -> None:
    here = platform.configuration.read()
    for kind in ("connections", "variables", "pools"):
        for name, fields in sorted(wanted[kind].items()):
            full = {**_EMPTY[kind], **fields}
            present = here[kind].get(name)
            if present == full:
                plan.unchanged += 1
            elif present is not None and not sources.overwrite:
                plan.left.append(
                    (f"{kind}/{name}", "it is here already, and differs: --overwrite takes it all the same")
                )
            else:
                plan.writes.append(Write(kind, name, full))
                if present is not None:
                    plan.replaced.add((kind, name))
    airflow_people.decide(platform, wanted, plan, overwrite=sources.overwrite)
    for dag_id, fields in sorted(wanted["dags"].items()):
        present = here["dags"].get(dag_id)
        if present is None:
            plan.left.append((f"dags/{dag_id}", "no DAG file here defines it: import again once one does"))
        elif present == fields:
            plan.unchanged += 1
        elif not fields["paused"] and not sources.unpause:
            plan.left.append(
                (f"dags/{dag_id}", "it is unpaused there: --unpause starts it here; stop that Airflow first")
            )
        else:
            plan.writes.append(Write("dags", dag_id, fields))
            plan.replaced.add(("dags", dag_id))


def _choose_runs(platform: Platform, source: AirflowMetastore, plan: Plan) -> None:
    here = platform.moving_in.known_runs()
    unfinished = 0
    for number, dag_id, run_id, state in source.run_keys():
        if (dag_id, run_id) in here:
            plan.runs_here += 1
        elif state in _ENDED:
            plan.runs.append(number)
        else:
            unfinished += 1
    if unfinished:
        plan.left.append((f"{unfinished} DagRuns", "they have not ended there"))


def carry_out(platform: Platform, plan: Plan, source: AirflowMetastore | None, now: datetime) -> Done:
    """Do it: settings first, then objects one transaction each kind, then history. What fails is named in the result,
    and all else is done. MetastoreUnavailable, when ours can't be reached."""
    done = Done()
    if plan.settings:
        airflow_settings.write_toml(platform.config.path, plan.settings)
        done.settings = len(plan.settings)
    before = platform.configuration.read()
    for kind in ("connections", "variables", "pools", "dags"):
        writes = [write for write in plan.writes if write.kind == kind]
        if writes:
            _write(platform, writes, plan, before, now, done)
    people = [write for write in plan.writes if write.kind in airflow_people.KINDS]
    if people:
        taken_people, problems = platform.moving_in.take_people(people, now)
        done.objects += taken_people
        done.failed += problems
    if plan.runs and source is not None:
        taken = platform.moving_in.take_history(source, plan.runs, now)
        done.runs, done.instances, done.xcoms = taken.runs, taken.instances, taken.xcoms
        done.failed += taken.problems
    platform.audit.write("airflow import", now, _summary(plan, done))
    return done


def _write(platform: Platform, writes: Sequence[Write], plan: Plan, before: Objects, now: datetime, done: Done) -> None:
    """All together; where one of them can't be stored, one by one."""

    def accept(kind: str, name: str, present: Fields | None) -> bool:
        # As it was a moment ago: new, or to be overwritten.
        return present is None if (kind, name) not in plan.replaced else present == before[kind].get(name)

    extra: Mapping[str, Any] = {"objects": [f"{write.kind}/{write.name}" for write in writes]}
    try:
        platform.configuration.write(writes, accept, now, "airflow import objects", extra)
        done.objects += len(writes)
    except OpskitError as error:
        if len(writes) == 1:
            done.failed.append((f"{writes[0].kind}/{writes[0].name}", error.message))
            return
        if error.exit_code not in (UsageError.exit_code, 16):
            raise
        for write in writes:
            _write(platform, [write], plan, before, now, done)


def _summary(plan: Plan, done: Done) -> dict[str, Any]:
    return {
        "from": plan.origins,
        "settings": sorted(plan.settings),
        "objects": done.objects,
        "runs": done.runs,
        "left": len(plan.left),
        "failed": len(done.failed),
    }


def environment_keys(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Fernet keys of the Airflow in this environment: AIRFLOW__CORE__FERNET_KEY."""
    return tuple(environ.get("AIRFLOW__CORE__FERNET_KEY", "").replace(",", " ").split())
