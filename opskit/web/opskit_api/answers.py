"""…/hitlDetails: what tasks ask people, and their answers. The paths and fields are those of Airflow 3."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field

from opskit.core.metastore.browsing.questions import ORDERS, QuestionFilter, list_questions
from opskit.core.metastore.browsing.window import Window
from opskit.core.metastore.questions import Question
from opskit.web.airflow_api.collections import Answer, Body, Listing, Moment, paged
from opskit.web.airflow_api.paths import MAP_INDEX
from opskit.web.changes import answers
from opskit.web.gate import allow
from opskit.web.identity import READ, Who
from opskit.web.store import TheStore

router = APIRouter(tags=["HITL"])
_Reader = Annotated[Who, Depends(allow(READ, "Task Instances"))]
_ONE = "/dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/" + MAP_INDEX + "/hitlDetails"
_Index = Annotated[int, Path(ge=-1, le=999_999_999, description="Which one of a mapped task; -1: it is not mapped.")]


class HITLUser(Answer):
    """A person; `id` is the username."""

    id: str
    name: str


class HITLParam(Answer):
    """What is to be filled in."""

    value: Any = Field(description="The default.")
    description: str | None
    schema_: Any = Field(alias="schema", description="A JSON schema.")


class HITLDetail(Answer):
    """What one try of a task instance has asked, and what came of it."""

    dag_id: str
    dag_run_id: str
    task_id: str
    map_index: int
    try_number: int
    subject: str
    body: str | None
    options: list[str]
    defaults: list[str] | None = Field(description="Taken at timeout_at; null: the task fails then.")
    multiple: bool
    params: dict[str, HITLParam]
    assigned_users: list[HITLUser] = Field(description="Who may answer; empty: whoever may edit the task instance.")
    created_at: Moment
    timeout_at: Moment | None
    waits: bool = Field(description="It can be answered now.")
    response_received: bool
    responded_at: Moment | None
    responded_by_user: HITLUser | None = Field(description="null: nobody has, or nobody did in time.")
    chosen_options: list[str] | None
    params_input: dict[str, Any] | None


class HITLDetailCollection(Listing):
    """Some of them."""

    hitl_details: list[HITLDetail]


class HITLAnswer(Body):
    """An answer. Params that are left out have their defaults."""

    chosen_options: list[str] = Field(min_length=1)
    params_input: dict[str, Any] = Field(default_factory=dict)


@router.get("/hitlDetails", operation_id="get_hitl_details")
def get_hitl_details(
    store: TheStore,
    who: _Reader,
    window: Annotated[Window, paged(*ORDERS)],
    dag_id: str | None = None,
    dag_run_id: str | None = None,
    task_id: str | None = None,
    map_index: Annotated[int | None, Query(ge=-1, le=2**31 - 1)] = None,
    waits: Annotated[bool | None, Query(description="Only those that can be answered now, or only the others.")] = None,
    response_received: bool | None = None,
    responded_by_user_id: str | None = None,
) -> HITLDetailCollection:
    """What tasks ask and have asked, the oldest first."""
    which = QuestionFilter(
        dag_id=dag_id,
        readable=who.readable_dags(),
        run_id=dag_run_id,
        task_id=task_id,
        map_index=map_index,
        waits=waits,
        responded_by=responded_by_user_id,
        responded=response_received,
    )
    with store.reading() as connection:
        found, total = list_questions(connection, which, window)
    return HITLDetailCollection(hitl_details=[shown(one) for one in found], total_entries=total)


@router.get(_ONE, operation_id="get_hitl_detail")
def get_hitl_detail(
    store: TheStore, _: _Reader, dag_id: str, dag_run_id: str, task_id: str, map_index: _Index
) -> HITLDetail:
    """What a task instance has asked last."""
    with store.reading() as connection:
        return shown(answers.find(connection, dag_id, dag_run_id, task_id, map_index))


@router.get(_ONE + "/tries/{try_number}", operation_id="get_hitl_detail_try_detail")
def get_hitl_detail_try_detail(
    store: TheStore,
    _: _Reader,
    dag_id: str,
    dag_run_id: str,
    task_id: str,
    map_index: _Index,
    try_number: Annotated[int, Path(ge=1, le=2**31 - 1)],
) -> HITLDetail:
    """What one try has asked."""
    with store.reading() as connection:
        return shown(answers.find(connection, dag_id, dag_run_id, task_id, map_index, try_number))


@router.patch(_ONE, operation_id="update_hitl_detail")
def update_hitl_detail(
    store: TheStore,
    who: _Reader,
    dag_id: str,
    dag_run_id: str,
    task_id: str,
    map_index: _Index,
    body: HITLAnswer,
) -> HITLDetail:
    """Answer. 409 when it was answered already, or waits no more. Needs can_edit on Task Instances."""
    return shown(
        answers.answer(store, who, dag_id, dag_run_id, task_id, map_index, body.chosen_options, body.params_input)
    )


def shown(one: Question) -> HITLDetail:
    """As it is sent."""
    asked = one.asked
    by = None
    if one.responded_by is not None:
        by = HITLUser(id=one.responded_by, name=one.responded_by_name or one.responded_by)
    return HITLDetail(
        dag_id=one.dag_id,
        dag_run_id=one.run_id,
        task_id=one.task_id,
        map_index=one.map_index,
        try_number=one.try_number,
        subject=one.subject,
        body=asked["body"],
        options=asked["options"],
        defaults=asked["defaults"],
        multiple=asked["multiple"],
        params={name: HITLParam.model_validate(param) for name, param in asked["params"].items()},
        assigned_users=[HITLUser.model_validate(user) for user in asked["assigned_users"]],
        created_at=one.created_at,
        timeout_at=one.timeout_at,
        waits=one.waits,
        response_received=one.responded_at is not None,
        responded_at=one.responded_at,
        responded_by_user=by,
        chosen_options=one.chosen_options,
        params_input=one.params_input,
    )
