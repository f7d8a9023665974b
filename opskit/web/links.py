"""The paths of the pages of a DAG, a run and a task instance. Ids are percent-encoded: they may hold anything."""

from __future__ import annotations

from urllib.parse import quote, urlencode


def dag_url(dag_id: str, page: str = "", **query: object) -> str:
    """`/dags/<dag_id>/<page>?…`; None among the query's values leaves that one out."""
    return f"/dags/{_part(dag_id)}" + (f"/{page}" if page else "") + _query(query)


def run_url(dag_id: str, run_id: str, page: str = "", *, number: int | None = None, **query: object) -> str:
    """The page of a run. A run_id that no path can hold (`..`, with a slash) is written as `@<number>`, its
    `dag_run.id`."""
    part = f"@{number}" if number is not None and not _fits(run_id) else _part(run_id)
    return dag_url(dag_id, f"runs/{part}" + (f"/{page}" if page else "")) + _query(query)


def task_url(
    dag_id: str,
    run_id: str,
    task_id: str,
    map_index: int = -1,
    page: str = "",
    *,
    number: int | None = None,
    **query: object,
) -> str:
    """The page of a task instance; `map_index` -1: of the task as a whole."""
    mapped = {"map_index": map_index} if map_index >= 0 else {}
    return run_url(dag_id, run_id, f"tasks/{_part(task_id)}" + (f"/{page}" if page else ""), number=number) + _query(
        {**mapped, **query}
    )


def _fits(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and not name.startswith("@")


def _part(name: str) -> str:
    return quote(name, safe="+:~")


def _query(query: dict[str, object]) -> str:
    flat: list[tuple[str, object]] = []
    for key, value in query.items():
        if isinstance(value, (list, tuple, set, frozenset)):
            flat += [(key, one) for one in value]
        elif value is not None and value is not False and value != "":
            flat.append((key, "1" if value is True else value))
    return f"?{urlencode(flat)}" if flat else ""
