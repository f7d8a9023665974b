"""Events of datasets that a person makes or takes back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from opskit.core.metastore import asset_events
from opskit.core.metastore.browsing import datasets
from opskit.core.metastore.browsing.datasets import Event
from opskit.core.metastore.dags import touch
from opskit.web.changes import auditing
from opskit.web.identity import CREATE, DELETE, Who
from opskit.web.store import Store

_RESOURCE = "Datasets"


def create_event(store: Store, who: Who, uri: str, extra: Mapping[str, Any]) -> Event:
    """An event of the dataset with this URI, as if a task had made it. Forbidden, NotFound."""
    who.require(CREATE, _RESOURCE)
    now = datetime.now(UTC)
    with store.changing() as connection:
        one = datasets.dataset(connection, uri)
        new = [asset_events.NewEvent(one.name, one.uri, one.group, dict(extra))]
        touch(connection, asset_events.consumers(connection, new), now)
        met = asset_events.record(connection, new, now)
        auditing.write(connection, who, "assets trigger", now, asset=uri, dags=sorted(met))
        return datasets.event(connection, datasets.newest_event(connection, one.id))


def forget_queued(
    store: Store,
    who: Who,
    *,
    uri: str | None = None,
    dag_ids: Iterable[str] | None = None,
    before: datetime | None = None,
) -> int:
    """Take events that wait for a run out of the queue (of these DAGs; None: of all); how many. Forbidden."""
    who.require(DELETE, _RESOURCE)
    now = datetime.now(UTC)
    dag_ids = None if dag_ids is None else sorted(dag_ids)
    with store.changing() as connection:
        many = datasets.forget_queued(connection, now, uri=uri, dag_ids=dag_ids, before=before)
        if many:
            auditing.write(connection, who, "assets forget-queued", now, asset=uri, dags=dag_ids, events=many)
    return many
