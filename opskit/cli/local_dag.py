"""Loads a DAG in this process, for commands that run it here, without the scheduler."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opskit.cli.cluster import Cluster
from opskit.errors import DagInvalid, MetastoreUnavailable, NotFound

if TYPE_CHECKING:
    from opskit.core.dag.model import DAG


def load_local_dag(cluster: Cluster, dag_id: str, file: str | None = None) -> DAG:
    """The DAG from its file: the one given, the one that the metastore names, or whichever in the DAG folder has it.

    DagInvalid when that file can't be loaded, NotFound when no file defines the DAG.
    """
    from opskit.core.dag import load_options
    from opskit.core.dag.loading import load_file

    root = cluster.config.dags_folder
    options = load_options.of_config(cluster.config)
    path = Path(file) if file else _stored_path(cluster, dag_id)
    if path is not None:
        for dag in load_file(path, root, **options):
            if dag.dag_id == dag_id:
                return dag
        if file:
            raise NotFound(f"{file} does not define the DAG {dag_id!r}")
    return _search(cluster, dag_id, options)


def _stored_path(cluster: Cluster, dag_id: str) -> Path | None:
    from opskit.core.metastore import dags

    try:
        with cluster.reading() as connection:
            path = cluster.config.dags_folder / dags.get_dag(connection, dag_id).fileloc
    except (NotFound, MetastoreUnavailable):
        return None  # a DAG may be tested before anything has been set up
    return path if path.is_file() else None


def _search(cluster: Cluster, dag_id: str, options: dict[str, Any]) -> DAG:
    from opskit.core.dag.loading import load_file
    from opskit.core.metastore.dags import nearest
    from opskit.core.scheduler.dag_folder import list_dag_folder, read_content

    root = cluster.config.dags_folder
    safe_mode = bool(cluster.config.get("core", "dag_discovery_safe_mode"))
    known = []
    broken = []
    for path in list_dag_folder(root, str(cluster.config.get("core", "dag_ignore_file_syntax"))).files:
        try:
            if not read_content(root, path, safe_mode).may_define_dags:
                continue
            for dag in load_file(root / path, root, **options):
                if dag.dag_id == dag_id:
                    return dag
                known.append(dag.dag_id)
        except (OSError, DagInvalid) as error:
            broken.append(f"{path}: {str(error).splitlines()[0]}")
    for line in broken:
        click.echo(f"not loaded: {line}", err=True)
    raise NotFound(f"no file in {root} defines the DAG {dag_id!r}", hint=nearest(dag_id, known))
