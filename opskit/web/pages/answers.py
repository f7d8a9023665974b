"""What tasks ask people: the list of what waits, and the form that answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, Response

from opskit.core.dag import human_input
from opskit.core.metastore import dags
from opskit.core.metastore.browsing.questions import QuestionFilter, list_questions
from opskit.core.metastore.browsing.window import Window
from opskit.core.metastore.questions import Question
from opskit.errors import UsageError
from opskit.web import param_forms
from opskit.web.changes import answers as changes
from opskit.web.flash import redirect
from opskit.web.gate import SignedIn, allow
from opskit.web.identity import EDIT, READ, Who
from opskit.web.links import task_url
from opskit.web.pages import of_run
from opskit.web.pages.paging import PageNumber
from opskit.web.pages.prose import prose
from opskit.web.pages.trigger import Posted
from opskit.web.param_forms import Field
from opskit.web.render import render
from opskit.web.store import TheStore

router = APIRouter(include_in_schema=False)
PER_PAGE = 50
EditTasks = Annotated[Who, Depends(allow(EDIT, "Task Instances"))]


@dataclass(slots=True)
class Form:
    """A question as a page shows it: what is chosen, what is filled in, what of it is wrong."""

    question: Question
    may_answer: bool
    fields: list[Field]
    chosen: Sequence[str]
    errors: Mapping[str, str]
    action: str

    @property
    def sections(self) -> list[tuple[str, list[Field]]]:
        return param_forms.sections(self.fields)


@router.get("/answers")
def list_answers(
    request: Request,
    store: TheStore,
    who: SignedIn,
    show: Annotated[str, Query(pattern="^(waiting|past)$")] = "waiting",
    page: PageNumber = 1,
) -> HTMLResponse:
    """What waits, the oldest first; what is past, the newest first."""
    who.require(READ, "Task Instances")
    waits = show == "waiting"
    which = QuestionFilter(readable=who.readable_dags(), waits=waits)
    window = Window(PER_PAGE, (page - 1) * PER_PAGE, "created_at", descending=not waits)
    with store.reading() as connection:
        found, total = list_questions(connection, which, window)
    return render(
        request,
        "answers.html",
        questions=[(one, url_of(one), changes.may_answer(who, one)) for one in found],
        show=show,
        page=page,
        pages=max(1, -(-total // PER_PAGE)),
        total=total,
    )


def url_of(one: Question) -> str:
    """The page that answers it."""
    return task_url(one.dag_id, one.run_id, one.task_id, one.map_index, number=one.dag_run_id, tab="answer")


def form_of(who: Who, asked: Question, query: Mapping[str, Sequence[str]]) -> Form:
    """As it is first shown. `query`: of the address, where `_options` and the names of params may choose and fill in
    beforehand, as links in messages do."""
    given: dict[str, Any] = {}
    chosen: list[str] = list(query.get("_options", ())) if asked.waits else asked.chosen_options or []
    for name, param in asked.asked["params"].items():
        if name in query and asked.waits:
            given[name] = param_forms.from_text(query[name], param.get("schema") or {}, param["value"])
    if not asked.waits:
        given = dict(asked.params_input or {})
    return _form(who, asked, _fields(asked, given), chosen)


def _fields(asked: Question, given: Mapping[str, Any] | None = None) -> list[Field]:
    return param_forms.fields_of_params(human_input.params_of(asked.asked), list(asked.asked["params"]), given)


def _form(
    who: Who, asked: Question, fields: list[Field], chosen: Sequence[str], errors: Mapping[str, str] | None = None
) -> Form:
    action = task_url(asked.dag_id, asked.run_id, asked.task_id, number=asked.dag_run_id, page="answer")
    return Form(asked, asked.waits and changes.may_answer(who, asked), fields, chosen, errors or {}, action)


@router.post("/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/answer")
def answer(
    request: Request, store: TheStore, who: EditTasks, dag_id: str, run_id: str, task_id: str, posted: Posted
) -> Response:
    """Keep the answer and go back to the task instance; with an error, the form as it was filled in."""
    texts = {key: [str(value) for value in posted.getlist(key)] for key in posted}
    map_index = _index(texts.get("map_index", ["-1"])[0])
    with store.reading() as connection:
        dag = dags.get_dag(connection, dag_id)
        run = of_run.find(connection, dag_id, run_id)
        asked = changes.find(connection, dag_id, run.run_id, task_id, map_index)
    fields = _fields(asked)
    chosen = texts.get("chosen_options", [])
    values, errors = param_forms.read(fields, texts)
    if not chosen:
        errors["_options"] = "choose an option" if not asked.asked["multiple"] else "choose at least one option"
    if not errors:
        try:
            changes.answer(store, who, dag_id, run.run_id, task_id, map_index, chosen, values)
        except UsageError as error:
            if not asked.waits or type(error) is not UsageError:
                raise
            errors[""] = error.message
        else:
            return redirect(request, url_of(asked), f"{task_id} goes on with {', '.join(chosen)}")
    return render(
        request,
        "answer.html",
        status=400,
        dag=dag,
        run=run,
        task_id=task_id,
        map_index=map_index,
        back=url_of(asked),
        form=_form(who, asked, fields, chosen, errors),
        prose=prose,
    )


def _index(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"map_index: {text[:20]!r} is no number") from None
