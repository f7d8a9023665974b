"""/backups: the list with proofs, one with its receipt, and what a restore of it would do."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from opskit.errors import NotFound, RemoteError
from opskit.web import traces
from opskit.web.airflow_api.collections import Answer, Moment
from opskit.web.gate import allow
from opskit.web.identity import READ, Who
from opskit.web.opskit_api.jobs import LONGEST_WAIT
from opskit.web.store import TheStore
from opskit.web.verbs import TheVerbs

router = APIRouter(tags=["Backup"])
_Reader = Annotated[Who, Depends(allow(READ, "Operations"))]
Age = Annotated[int, Query(ge=0, le=86400, description="How old an answer of the store may be, in seconds.")]
_AWAY: dict[int | str, dict[str, Any]] = {
    502: {"description": "The store of backups could not be read; the answer says why."}
}


class Backup(Answer):
    """A backup as its store shows it."""

    id: str
    taken_at: Moment
    tier: str = Field(description="full: the whole metastore; config: connections, variables, pools, pause states.")
    state: str = Field(description="verified, unverified, failed or damaged.")
    rows: int | None
    size_bytes: int | None
    encrypted: bool | None
    drilled_at: Moment | None
    drill_seconds: float | None
    problem: str


class BackupCollection(Answer):
    """The newest first."""

    store: str
    read_at: Moment
    backups: list[Backup]
    total_entries: int


class Receipt(Answer):
    """What the last drill proved."""

    drilled_at: Moment
    ok: bool
    genuine: bool | None = Field(description="Whether its signature fits; null: it has none, or its key is not here.")
    seconds: float
    rows: int
    secrets_read: int
    hostname: str
    problems: list[str]


class BackupDetail(Backup):
    """One backup with its proof."""

    receipt: Receipt | None


class TableRows(Answer):
    table: str
    rows_now: int | None
    rows_then: int | None


class RestorePlan(Answer):
    """What a restore would do, and what speaks against it. Nothing was changed to make it."""

    backup_id: str
    tier: str
    state: str
    taken_at: Moment
    age_seconds: float
    target: str
    found: str
    rows: int
    size_bytes: int
    revision: str | None
    needed_revision: str
    expected_seconds: float | None
    secrets: int
    unreadable_secrets: list[str]
    refusals: list[str]
    steps: list[str]
    tables: list[TableRows]
    proof: str
    planned_at: Moment
    command: str = Field(
        description="What one types: while this server runs the metastore is in use, and no restore begins."
    )


@router.get("/backups", operation_id="get_backups", responses=_AWAY)
def get_backups(store: TheStore, verbs: TheVerbs, _: _Reader, max_age: Age = 60) -> BackupCollection:
    """List the backups of the store, the newest first."""
    found = traces.backups(verbs, fresh_for=max_age, patience=LONGEST_WAIT)
    if found.read_at is None or found.problem:
        raise RemoteError(found.problem or "the store of backups has not answered yet", hint="try it again")
    return BackupCollection(
        store=str(store.config.get("backup", "to")),
        read_at=found.read_at,
        backups=[Backup.model_validate(one) for one in found.backups],
        total_entries=len(found.backups),
    )


@router.get("/backups/{backup_id}", operation_id="get_backup", responses=_AWAY)
def get_backup(verbs: TheVerbs, _: _Reader, backup_id: str) -> BackupDetail:
    """One backup with the receipt of its last drill."""
    found, catalog = traces.backup(verbs, backup_id, patience=LONGEST_WAIT)
    if found is None:
        raise RemoteError(catalog.problem or "the store of backups has not answered yet", hint="try it again")
    proof = traces.proofs(verbs, patience=LONGEST_WAIT).get(backup_id)
    return BackupDetail(
        **Backup.model_validate(found).model_dump(), receipt=Receipt.model_validate(proof) if proof else None
    )


@router.get("/backups/{backup_id}/restore-plan", operation_id="get_restore_plan")
def get_restore_plan(verbs: TheVerbs, _: _Reader, backup_id: str) -> RestorePlan:
    """The newest plan that was made: start the verb restore-plan as a job to have one made."""
    job = verbs.newest("restore-plan", backup_id)
    if job is None or job.ended_at is None:
        raise NotFound(
            f"no restore of {backup_id!r} was planned yet",
            hint='POST /opskit/v1/jobs {"verb": "restore-plan", "parameter": "<backup_id>"}',
        )
    return RestorePlan(**job.report, planned_at=job.ended_at, command=f"opskit restore {job.report['backup_id']}")
