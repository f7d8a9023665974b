"""/importErrors."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from opskit.core.metastore.browsing import import_errors
from opskit.core.metastore.browsing.window import Window
from opskit.web.airflow_api.collections import Answer, Id, Listing, Moment, paged
from opskit.web.gate import allow
from opskit.web.identity import READ, Who
from opskit.web.store import Store, TheStore

router = APIRouter(tags=["ImportError"])
_Reader = Annotated[Who, Depends(allow(READ, "ImportError"))]


class DagImportError(Answer):
    """A DAG file that can't be loaded."""

    import_error_id: int
    timestamp: Moment
    filename: str
    stack_trace: str


class ImportErrorCollection(Listing):
    import_errors: list[DagImportError]


@router.get("/importErrors", operation_id="get_import_errors")
def get_import_errors(
    store: TheStore, who: _Reader, window: Annotated[Window, paged("import_error_id", "timestamp", "filename")]
) -> ImportErrorCollection:
    """List DAG files that can't be loaded."""
    with store.reading() as connection:
        found, total = import_errors.import_errors(connection, who.readable_dags(), window)
    return ImportErrorCollection(import_errors=[_answer(store, one) for one in found], total_entries=total)


@router.get("/importErrors/{import_error_id}", operation_id="get_import_error")
def get_import_error(store: TheStore, who: _Reader, import_error_id: Id) -> DagImportError:
    """Get the error of a DAG file."""
    with store.reading() as connection:
        return _answer(store, import_errors.import_error(connection, who.readable_dags(), import_error_id))


def _answer(store: Store, one: import_errors.FileError) -> DagImportError:
    return DagImportError(
        import_error_id=one.id,
        timestamp=one.at,
        filename=str(store.config.dags_folder / one.path),
        stack_trace=one.error,
    )
