"""How a DAG and its tasks look in Airflow's API."""

from __future__ import annotations

import base64
import binascii
import os.path
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field

from opskit.config import Config
from opskit.core.dag import asset_conditions, run_conf
from opskit.core.dag.params import Param
from opskit.core.dag.secret_names import is_secret_name
from opskit.core.dag.serialized import SerializedDag, SerializedTask
from opskit.core.metastore import crypto
from opskit.core.metastore.browsing.dags import ListedDag
from opskit.errors import NotFound
from opskit.web.airflow_api.collections import Answer, Listing, Moment

_PURPOSE = "file_token"
_COLOUR = "#fff"
_TEXT_COLOUR = "#000"
_RULES = frozenset(
    {
        "all_success",
        "all_failed",
        "all_done",
        "all_done_setup_success",
        "one_success",
        "one_failed",
        "one_done",
        "none_failed",
        "none_skipped",
        "none_failed_or_skipped",
        "none_failed_min_one_success",
        "dummy",
        "all_skipped",
        "always",
    }
)
"""The trigger rules that Airflow 2 knows: its client refuses an answer with another one."""


class TimeDelta(Answer):
    """A length of time."""

    type: Literal["TimeDelta"] = Field(default="TimeDelta", serialization_alias="__type")
    days: int
    seconds: int
    microseconds: int

    @classmethod
    def of(cls, seconds: float | None) -> TimeDelta | None:
        if seconds is None:
            return None
        delta = timedelta(seconds=seconds)
        return cls(days=delta.days, seconds=delta.seconds, microseconds=delta.microseconds)


class CronExpression(Answer):
    """A schedule that is no length of time: a cron expression, a preset, or what a timetable calls itself."""

    type: Literal["CronExpression"] = Field(default="CronExpression", serialization_alias="__type")
    value: str


ScheduleInterval = TimeDelta | CronExpression


class Tag(Answer):
    """A tag of a DAG."""

    name: str


class ClassReference(Answer):
    """A class. In which module it is defined is not kept: the path is empty."""

    class_name: str
    module_path: str = ""


class DAG(Answer):
    """A DAG. Sub-DAGs, pickles and the state of a refresh do not exist here: their fields are constant."""

    dag_id: str = ""
    dag_display_name: str = ""
    root_dag_id: str | None = None
    is_paused: bool | None = None
    is_active: bool | None = None
    is_subdag: bool = False
    last_parsed_time: Moment | None = None
    last_pickled: Moment | None = None
    last_expired: Moment | None = None
    scheduler_lock: bool | None = None
    pickle_id: str | None = None
    default_view: str | None = None
    fileloc: str = ""
    file_token: str = ""
    owners: list[str] = []
    description: str | None = None
    schedule_interval: ScheduleInterval | None = None
    timetable_description: str | None = None
    tags: list[Tag] | None = None
    max_active_tasks: int | None = None
    max_active_runs: int | None = None
    has_task_concurrency_limits: bool | None = None
    has_import_errors: bool | None = None
    next_dagrun: Moment | None = None
    next_dagrun_data_interval_start: Moment | None = None
    next_dagrun_data_interval_end: Moment | None = None
    next_dagrun_create_after: Moment | None = None
    max_consecutive_failed_dag_runs: int | None = None


class DAGCollection(Listing):
    """Some DAGs."""

    dags: list[DAG] = []
    total_entries: int = 0


class DAGDetail(DAG):
    """A DAG with its settings."""

    timezone: str = ""
    catchup: bool | None = None
    orientation: str | None = None
    concurrency: float | None = None
    start_date: Moment | None = None
    end_date: Moment | None = None
    dag_run_timeout: TimeDelta | None = None
    dataset_expression: dict[str, Any] | None = None
    doc_md: str | None = None
    params: dict[str, Any] = {}
    is_paused_upon_creation: bool | None = None
    last_parsed: Moment | None = None
    template_search_path: list[str] | None = None
    render_template_as_native_obj: bool | None = None


class Task(Answer):
    """A task of a DAG's current version."""

    class_ref: ClassReference
    operator_name: str
    task_id: str
    task_display_name: str
    owner: str
    start_date: Moment | None
    end_date: Moment | None
    trigger_rule: str | None = Field(default=None, description="Left out for a rule that Airflow 2 does not know.")
    extra_links: list[dict[str, Any]]
    depends_on_past: bool
    is_mapped: bool
    wait_for_downstream: bool
    retries: float
    queue: str | None
    executor: str | None
    pool: str
    pool_slots: float
    execution_timeout: TimeDelta | None
    retry_delay: TimeDelta | None
    retry_exponential_backoff: bool
    priority_weight: float = Field(description="The effective weight: the weight rule is applied already.")
    weight_rule: str
    ui_color: str
    ui_fgcolor: str
    template_fields: list[str]
    downstream_task_ids: list[str]
    params: dict[str, Any]
    doc_md: str | None


class TaskCollection(Listing):
    """The tasks of a DAG."""

    tasks: list[Task]


class Shapes:
    """Makes answers of what the metastore knows. One per request."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._cipher = crypto.open_cipher(config)
        self._folder = str(config.dags_folder)
        self.key = self._cipher.fingerprint
        """Of the key that signs the tokens of files."""

    def dag(self, found: ListedDag) -> DAG:
        return DAG(**self._basics(found))

    def details(self, found: ListedDag, definition: SerializedDag) -> DAGDetail:
        catchup = definition.catchup
        return DAGDetail(
            **self._basics(found),
            timezone=definition.timezone,
            catchup=bool(self._config.get("scheduler", "catchup_by_default")) if catchup is None else catchup,
            orientation=definition.ui.get("orientation") or "LR",
            concurrency=float(self._most_tasks(definition.max_active_tasks)),
            start_date=definition.start_date,
            end_date=definition.end_date,
            dag_run_timeout=TimeDelta.of(definition.dagrun_timeout),
            dataset_expression=_expression(definition.timetable.get("condition")),
            doc_md=definition.ui.get("doc_md"),
            params={name: _param(name, param) for name, param in run_conf.params_of(definition).items()},
            is_paused_upon_creation=definition.is_paused_upon_creation,
            last_parsed=found.dag.last_parsed_at,
        )

    def task(self, task: SerializedTask) -> Task:
        ui = task.ui
        return Task(
            class_ref=ClassReference(class_name=task.operator),
            operator_name=task.operator,
            task_id=task.task_id,
            task_display_name=ui.get("display_name") or task.task_id,
            owner=task.owner,
            start_date=task.start_date,
            end_date=task.end_date,
            trigger_rule=task.trigger_rule if task.trigger_rule in _RULES else None,
            extra_links=[],
            depends_on_past=task.depends_on_past,
            is_mapped=task.expand is not None,
            wait_for_downstream=task.wait_for_downstream,
            retries=task.retries,
            queue=task.queue,
            executor=None,
            pool=task.pool,
            pool_slots=task.pool_slots,
            execution_timeout=TimeDelta.of(task.execution_timeout),
            retry_delay=TimeDelta.of(task.retry_delay),
            retry_exponential_backoff=task.retry_exponential_backoff,
            priority_weight=task.priority_weight,
            weight_rule="absolute",
            ui_color=_colour(ui.get("color"), _COLOUR),
            ui_fgcolor=_colour(ui.get("fgcolor"), _TEXT_COLOUR),
            template_fields=sorted(ui.get("fields", {})),
            downstream_task_ids=list(task.downstream),
            params={},
            doc_md=ui.get("doc_md"),
        )

    def file_token(self, path: str) -> str:
        """Stands for a DAG file's path below the DAG folder; only this installation can make one."""
        fingerprint, signature = self._cipher.sign(_PURPOSE, path.encode())
        return ".".join((base64.urlsafe_b64encode(path.encode()).decode().rstrip("="), fingerprint, signature))

    def path_of(self, file_token: str) -> str:
        """The path that a token stands for. NotFound for what is no token of ours."""
        encoded, _, rest = file_token.partition(".")
        fingerprint, _, signature = rest.partition(".")
        try:
            data = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
            text = data.decode()
            signed = self._cipher.is_signed(_PURPOSE, data, fingerprint, signature)
        except (binascii.Error, UnicodeError, ValueError, TypeError):
            signed, text = False, ""
        if not signed:
            raise NotFound("there is no DAG file with this token", hint="GET /dags gives the token of each DAG")
        return text

    def _basics(self, found: ListedDag) -> dict[str, Any]:
        dag, settings = found.dag, found.settings
        return {
            "dag_id": dag.dag_id,
            "dag_display_name": (settings.display_name if settings else None) or dag.dag_id,
            "is_paused": dag.is_paused,
            "is_active": dag.is_active,
            "last_parsed_time": dag.last_parsed_at,
            "default_view": (settings.default_view if settings else None) or "grid",
            "fileloc": os.path.join(self._folder, dag.fileloc),
            "file_token": self.file_token(dag.fileloc),
            "owners": dag.owners,
            "description": dag.description,
            "schedule_interval": _interval(settings.timetable if settings else {}, dag.schedule),
            "timetable_description": settings.schedule_words if settings else None,
            "tags": [Tag(name=tag) for tag in dag.tags],
            "max_active_tasks": self._most_tasks(settings.max_active_tasks if settings else None),
            "max_active_runs": (settings.max_active_runs if settings else None)
            or int(self._config.get("core", "max_active_runs_per_dag")),
            "has_task_concurrency_limits": settings.limits_tasks if settings else None,
            "has_import_errors": found.has_import_errors,
            "next_dagrun": dag.next_logical_date,
            "next_dagrun_data_interval_start": dag.next_interval_start,
            "next_dagrun_data_interval_end": dag.next_interval_end,
            "next_dagrun_create_after": dag.next_run_after,
            "max_consecutive_failed_dag_runs": self._most_failures(found),
        }

    def _most_tasks(self, own: int | None) -> int:
        return own or int(self._config.get("core", "max_active_tasks_per_dag"))

    def _most_failures(self, found: ListedDag) -> int:
        own = found.settings.max_consecutive_failed_dag_runs if found.settings else None
        return int(self._config.get("core", "max_consecutive_failed_dag_runs_per_dag")) if own is None else own


def _param(name: str, param: Param) -> dict[str, Any]:
    """As Airflow dumps one; the default of one with a secret name is masked."""
    dumped = param.dump()
    if is_secret_name(name) and dumped["value"] not in (None, ""):
        dumped["value"] = "***"
    return {"__class": "airflow.models.param.Param", **dumped}


def _interval(timetable: dict[str, Any], words: str) -> TimeDelta | CronExpression | None:
    kind = timetable.get("type", "none")
    if kind == "none":
        return None
    seconds = timetable.get("seconds")
    if kind in ("delta", "delta_trigger") and isinstance(seconds, (int, float)):
        return TimeDelta.of(seconds)
    return CronExpression(value=str(timetable.get("expression") or words or kind))


def _expression(condition: Any) -> dict[str, Any] | None:
    """The condition over assets as Airflow writes it: `{"any": ["uri", {"all": […]}]}`."""
    if not isinstance(condition, dict):
        return None
    written = _written(condition)
    return written if isinstance(written, dict) else {"any": [written]}


def _written(condition: dict[str, Any]) -> Any:
    leaf = asset_conditions.leaf_of(condition)
    if leaf is None:
        word = "all" if "all" in condition else "any"
        return {word: [_written(part) for part in condition[word]]}
    return {"alias": leaf.name} if leaf.kind == "alias" else leaf.uri or leaf.name


def _colour(text: Any, default: str) -> str:
    """In hexadecimal digits, as Airflow's client demands it; a name of a colour is not translated."""
    found = str(text or "")
    digits = found.removeprefix("#")
    fits = (
        found.startswith("#") and 3 <= len(digits) <= 6 and all(digit in "0123456789abcdefABCDEF" for digit in digits)
    )
    return found if fits else default
