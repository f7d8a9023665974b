"""Timetables of DAGs that wait for assets: `schedule=[asset]`, `schedule=a & b`, `AssetOrTimeSchedule`.

Airflow 2 says dataset for asset; the classes of its names differ in nothing else."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from opskit.core.dag import asset_conditions, dialect
from opskit.core.dag.assets import BaseAsset, condition_of
from opskit.core.dag.timetable_base import DagRunInfo, DataInterval, TimeRestriction, Timetable, refuse
from opskit.core.dag.zones import default_zone, utc
from opskit.errors import DagInvalid


class AssetTriggeredTimetable(Timetable):
    """A run whenever the condition is met by events of assets; never at a time."""

    periodic = False
    kind: ClassVar[str] = "assets"
    word: ClassVar[str] = "Asset"
    asset_condition: BaseAsset | None
    """None when it was read from JSON: there are only names then."""
    expression: dict[str, Any]

    def __init__(self, assets: Any) -> None:
        try:
            self.asset_condition = condition_of(assets)
        except TypeError as error:
            raise DagInvalid(f"the schedule can't be used: {error}") from None
        self.expression = self.asset_condition.as_expression()

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> AssetTriggeredTimetable:
        made = cls.__new__(cls)
        assert isinstance(made, cls)
        made.asset_condition = None
        made.expression = data["condition"]
        return made

    @property
    def description(self) -> str:  # type: ignore[override]
        has = "has" if asset_conditions.leaf_of(self.expression) else "have"
        return f"when {asset_conditions.words(self.expression)} {has} new data"

    @property
    def summary(self) -> str:
        if all(leaf.kind == "alias" for leaf in asset_conditions.leaves(self.expression)):
            return f"Unresolved {self.word}Alias"
        return self.word

    def infer_manual_data_interval(self, run_after: datetime) -> DataInterval:
        return DataInterval.exact(utc(run_after))

    def next_dagrun_info(
        self, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        return None

    def serialize(self) -> dict[str, Any]:
        return {"type": self.kind, "condition": self.expression}


class DatasetTriggeredTimetable(AssetTriggeredTimetable):
    """As Airflow 2 calls it."""

    kind = "datasets"
    word = "Dataset"


class AssetOrTimeSchedule(AssetTriggeredTimetable):
    """A run whenever the condition is met, and also whenever the timetable says so."""

    kind = "assets_or_time"
    timetable: Timetable

    def __init__(self, *, timetable: Any, assets: Any = None, datasets: Any = None) -> None:
        if (assets is None) == (datasets is None):
            raise refuse(self, "it needs a timetable and assets")
        super().__init__(assets if assets is not None else datasets)
        from opskit.core.dag.timetables import make_timetable

        self.timetable = make_timetable(timetable, default_zone())
        if isinstance(self.timetable, AssetTriggeredTimetable):
            raise refuse(self, "its timetable waits for assets itself", hint="give a cron timetable")
        self._like_the_timetable()

    def _like_the_timetable(self) -> None:
        self.periodic = self.timetable.periodic
        self.can_be_scheduled = self.timetable.can_be_scheduled
        self.active_runs_limit = self.timetable.active_runs_limit

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> AssetTriggeredTimetable:
        from opskit.core.dag.timetables import deserialize

        made = super().deserialize(data)
        assert isinstance(made, AssetOrTimeSchedule)
        made.timetable = deserialize(data["timetable"])
        made._like_the_timetable()
        return made

    @property
    def description(self) -> str:  # type: ignore[override]
        return f"{super().description}, or {self.timetable.description or self.timetable.summary}"

    @property
    def summary(self) -> str:
        return f"{self.word} or {self.timetable.summary}"

    def validate(self) -> None:
        from opskit.core.dag.timetables import check

        check(self.timetable)

    def infer_manual_data_interval(self, run_after: datetime) -> DataInterval:
        return self.timetable.infer_manual_data_interval(run_after=run_after)

    def next_dagrun_info(
        self, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        return self.timetable.next_dagrun_info(
            last_automated_data_interval=last_automated_data_interval, restriction=restriction
        )

    def serialize(self) -> dict[str, Any]:
        from opskit.core.dag.timetables import serialize

        return {**super().serialize(), "timetable": serialize(self.timetable)}


class DatasetOrTimeSchedule(AssetOrTimeSchedule):
    """As Airflow 2 calls it."""

    kind = "datasets_or_time"
    word = "Dataset"


def timetable_of(schedule: Any) -> Timetable | None:
    """The timetable of an author's `schedule` that names assets; None for a schedule that does not."""
    collection = isinstance(schedule, (list, tuple, set, frozenset))
    if not collection and not isinstance(schedule, BaseAsset):
        return None
    return DatasetTriggeredTimetable(schedule) if dialect.current() == 2 else AssetTriggeredTimetable(schedule)
