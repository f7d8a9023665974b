"""/dagStats and /dagWarnings."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from opskit.core.dag import states
from opskit.core.metastore.browsing import dags
from opskit.core.metastore.browsing.window import Window
from opskit.web.airflow_api.collections import Answer, Listing, Moment, paged, separated
from opskit.web.gate import SignedIn, allow
from opskit.web.identity import READ, Who
from opskit.web.store import TheStore

router = APIRouter()


class DagStatsStateCollectionItem(Answer):
    """How many runs are in a state."""

    state: str
    count: int


class DagStatsCollectionItem(Answer):
    """The runs of a DAG by their state."""

    dag_id: str
    stats: list[DagStatsStateCollectionItem]


class DagStatsCollectionSchema(Listing):
    """Of some DAGs."""

    dags: list[DagStatsCollectionItem]


class DagWarning(Answer):
    """Something that is wrong with a DAG and does not keep it from being loaded."""

    dag_id: str
    warning_type: str
    message: str
    timestamp: Moment


class DagWarningCollection(Listing):
    """Some warnings."""

    dag_warnings: list[DagWarning]


@router.get("/dagStats", operation_id="get_dag_stats", tags=["DagStats"])
def get_dag_stats(
    store: TheStore,
    who: Annotated[Who, Depends(allow(READ, "DAG Runs"))],
    dag_ids: Annotated[str, Query(description="Separated by commas.")],
) -> DagStatsCollectionSchema:
    """Count the runs of DAGs by their state. DAGs that are not there, or that one may not see, are left out."""
    wanted = [dag_id for dag_id in separated(dag_ids) or () if who.can(READ, "DAG Runs", dag_id)]
    with store.reading() as database:
        found = dags.count_runs_by_state(database, wanted)
    answer = [
        DagStatsCollectionItem(
            dag_id=dag_id,
            stats=[
                DagStatsStateCollectionItem(state=state, count=counts.get(state, 0)) for state in states.DAG_RUN_STATES
            ],
        )
        for dag_id, counts in found.items()
    ]
    return DagStatsCollectionSchema(dags=answer, total_entries=len(answer))


@router.get("/dagWarnings", operation_id="get_dag_warnings", tags=["DagWarning"])
def get_dag_warnings(
    store: TheStore,
    who: SignedIn,
    window: Annotated[Window, paged("timestamp", "dag_id", "warning_type", "message")],
    dag_id: str | None = None,
    warning_type: str | None = None,
) -> DagWarningCollection:
    """List what is wrong with DAGs: pools that do not exist, schedules whose own code has failed."""
    who.require(READ, "DAG Warnings", dag_id)
    with store.reading() as database:
        found = dags.warnings(database)
    chosen = [
        DagWarning(dag_id=one.dag_id, warning_type=one.kind, message=one.message, timestamp=one.at)
        for one in found
        if dag_id in (None, one.dag_id)
        and warning_type in (None, one.kind)
        and who.can(READ, "DAG Warnings", one.dag_id)
    ]
    chosen.sort(key=lambda one: (getattr(one, window.order), one.dag_id, one.message), reverse=window.descending)
    return DagWarningCollection(dag_warnings=window.of(chosen), total_entries=len(chosen))
