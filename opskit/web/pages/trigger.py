"""Starting a run by hand: a form made from the DAG's params, or free JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, Response
from starlette.datastructures import FormData

from opskit.core.dag.serialized import SerializedDag
from opskit.core.metastore import dags
from opskit.errors import NotFound, OpskitError, UsageError
from opskit.web import param_forms
from opskit.web.changes import dags as changes
from opskit.web.faults import Forbidden, status_of
from opskit.web.flash import redirect
from opskit.web.gate import allow
from opskit.web.identity import EDIT, Who
from opskit.web.links import run_url
from opskit.web.param_forms import Field
from opskit.web.render import render
from opskit.web.store import Store, TheStore

router = APIRouter(include_in_schema=False)

MayTrigger = Annotated[Who, Depends(allow("can_create", "DAG Runs"))]


async def posted_form(request: Request) -> FormData:
    """The fields of a form whose names are not known beforehand."""
    return await request.form()


Posted = Annotated[FormData, Depends(posted_form)]


@router.get("/dags/{dag_id}/trigger")
def trigger_form(request: Request, store: TheStore, dag_id: str, who: MayTrigger, conf: str = "") -> HTMLResponse:
    """The form; `conf` (a JSON object) is put into it, as when a run is to be repeated."""
    dag, serialized = _dag(store, dag_id)
    given = _object(conf, "conf")
    fields = param_forms.fields_of(serialized, given)
    further = {key: value for key, value in given.items() if key not in {one.name for one in fields}}
    values = {
        "run_id": "",
        "logical_date": "",
        "note": "",
        "unpause": "",
        "conf": json.dumps(further, indent=2, ensure_ascii=False) if further else "",
    }
    return _page(request, who, dag, fields, values)


@router.post("/dags/{dag_id}/trigger")
def trigger(request: Request, store: TheStore, dag_id: str, who: MayTrigger, posted: Posted) -> Response:
    """Start the run and go to its page; with an error, the form as it was filled in."""
    dag, serialized = _dag(store, dag_id)
    fields = param_forms.fields_of(serialized)
    texts = {key: [str(value) for value in posted.getlist(key)] for key in posted}
    conf, errors = param_forms.read(fields, texts)
    shown = {name: texts.get(name, [""])[0] for name in ("run_id", "logical_date", "note", "conf", "unpause")}
    try:
        conf |= _object(shown["conf"], "this")
    except UsageError as error:
        errors["conf"] = error.message
    logical_date = None
    if shown["logical_date"]:
        try:
            logical_date = _moment(shown["logical_date"])
        except ValueError as error:
            errors["logical_date"] = str(error)
    if errors:
        return _page(request, who, dag, fields, shown, errors, status=400)
    try:
        run = changes.trigger(
            store,
            who,
            dag_id,
            conf=conf,
            run_id=shown["run_id"].strip() or None,
            logical_date=logical_date,
            note=shown["note"].strip() or None,
        )
        if shown["unpause"] and dag.is_paused:
            changes.set_paused(store, who, [dag_id], False)
    except (Forbidden, NotFound):
        raise
    except OpskitError as error:
        hint = f" {error.hint}" if error.hint else ""
        return _page(request, who, dag, fields, shown, {"": f"{error.message}.{hint}"}, status=status_of(error))
    return redirect(request, run_url(dag_id, run.run_id, number=run.id), f"{run.run_id} was started")


def _dag(store: Store, dag_id: str) -> tuple[dags.Dag, SerializedDag]:
    with store.reading() as connection:
        return dags.get_dag(connection, dag_id), dags.get_serialized(connection, dag_id)


def _object(text: str, what: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{what} is no JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    if not isinstance(value, dict):
        raise UsageError(f'{what} is to be a JSON object: {{"key": "value"}}')
    return value


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no date with time like 2026-03-29T06:30") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _page(
    request: Request,
    who: Who,
    dag: dags.Dag,
    fields: list[Field],
    shown: Mapping[str, str],
    errors: Mapping[str, str] | None = None,
    *,
    status: int = 200,
) -> HTMLResponse:
    return render(
        request,
        "trigger.html",
        status=status,
        dag=dag,
        sections=param_forms.sections(fields),
        shown=shown,
        errors=errors or {},
        may_unpause=who.can(EDIT, "DAGs", dag.dag_id),
    )
