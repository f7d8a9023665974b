"""Schedules of partitions, with the names of Airflow 3.

A condition over assets holds the mapper of each of its leaves under `mapper` (`opskit.core.dag.partition_mappers`)."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from datetime import datetime, timedelta, tzinfo
from typing import Any, ClassVar

from opskit.core.dag import asset_conditions
from opskit.core.dag.asset_outlets import LONGEST_KEY
from opskit.core.dag.asset_timetables import AssetTriggeredTimetable
from opskit.core.dag.assets import BaseAsset
from opskit.core.dag.partition_mappers import IdentityMapper, PartitionMapper, form_of
from opskit.core.dag.simple_timetables import NullTimetable
from opskit.core.dag.timetable_base import DagRunInfo, DataInterval, TimeRestriction, Timetable
from opskit.core.dag.trigger_timetables import CronTriggerTimetable, read_trigger_form
from opskit.core.dag.zones import localize, utc


def partition_of_run(
    timetable: Timetable, run_type: str, run_after: datetime, key: str | None
) -> tuple[str | None, datetime | None]:
    """Key and date of the partition of a run that no event and no time has made: the key that somebody names, and in a
    backfill that of the moment. ValueError for a key that the timetable can't read, or that is empty or longer than 250
    characters."""
    if key is None:
        if run_type != "backfill" or not isinstance(timetable, CronPartitionTimetable):
            return None, None
        date, key = timetable.partition_of(run_after)
        return key, utc(date)
    if not key.strip() or len(key) > LONGEST_KEY:
        raise ValueError(f"a partition key has 1 to {LONGEST_KEY} characters")
    dates = getattr(timetable, "partition_date", None)
    return key, None if dates is None else dates(key)


class CronPartitionTimetable(CronTriggerTimetable):
    """At each match of the cron expression, for the partition that begins then. `run_offset`: so many matches later
    (negative: earlier). `key_format`: the partition's key, by `strftime`, in the timetable's zone."""

    partitioned = True

    def __init__(
        self,
        cron: str,
        *,
        timezone: str | tzinfo,
        run_offset: int | None = None,
        run_immediately: bool | timedelta | None = False,
        key_format: str = "%Y-%m-%dT%H:%M:%S",
    ) -> None:
        if run_offset is not None and (not isinstance(run_offset, int) or isinstance(run_offset, bool)):
            raise ValueError(f"run_offset is a number of matches of the cron expression, not {run_offset!r}")
        super().__init__(cron, timezone=timezone, run_immediately=run_immediately)
        self._run_offset = run_offset or 0
        self._key_format = key_format

    def partition_of(self, run_after: datetime) -> tuple[datetime, str]:
        """Date and key of the partition that the run of this moment is for."""
        at = run_after
        step = self._get_next if self._run_offset > 0 else self._get_prev
        for _ in range(abs(self._run_offset)):
            at = step(at)
        return at, utc(at).astimezone(self._cron.zone).strftime(self._key_format)

    def partition_date(self, key: str) -> datetime:
        """When the partition with this key begins. ValueError for a key in another format."""
        wall = datetime.strptime(key, self._key_format)  # noqa: DTZ007 - the wall time of the timetable's zone
        return utc(localize(wall, self._cron.zone) if wall.tzinfo is None else wall)

    def next_dagrun_info(
        self, last_automated_data_interval: DataInterval | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        info = super().next_dagrun_info(last_automated_data_interval, restriction)
        if info is None:
            return None
        date, key = self.partition_of(info.run_after)
        return info._replace(partition_date=date, partition_key=key)

    def generate_run_id(self, *, run_type: str, run_after: datetime | None = None, **more: Any) -> str:
        if run_after is None:
            return super().generate_run_id(run_type=run_type, run_after=run_after, **more)
        key = more.get("partition_key") or self.partition_of(run_after)[1]
        letters = string.ascii_letters + string.digits
        word = "".join(secrets.choice(letters) for _ in range(8))
        return f"{getattr(run_type, 'value', run_type)}__{run_after.isoformat()}__{key}__{word}"

    def serialize(self) -> dict[str, Any]:
        form = {**super().serialize(), "type": "cron_partition", "key_format": self._key_format}
        return {**form, "run_offset": self._run_offset} if self._run_offset else form

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Timetable:
        return cls(
            data["expression"],
            timezone=data["timezone"],
            run_offset=data.get("run_offset"),
            run_immediately=read_trigger_form(data)["run_immediately"],
            key_format=data["key_format"],
        )


class PartitionedAssetTimetable(AssetTriggeredTimetable):
    """A run for each partition that events of assets are for, when the condition is met by events for that one.

    `partition_mapper_config`: which mapper an asset (or each asset of a condition) has; the others have
    `default_partition_mapper`. DagInvalid for a mapper of the DAG file's own."""

    kind: ClassVar[str] = "partitioned_assets"
    word: ClassVar[str] = "Partitioned Asset"
    partitioned = True

    def __init__(
        self,
        assets: Any,
        partition_mapper_config: Mapping[BaseAsset, PartitionMapper] | None = None,
        default_partition_mapper: PartitionMapper | None = None,
    ) -> None:
        super().__init__(assets)
        self.partition_mapper_config = dict(partition_mapper_config or {})
        self.default_partition_mapper = default_partition_mapper or IdentityMapper()
        special = {
            leaf: form_of(mapper)
            for which, mapper in self.partition_mapper_config.items()
            for leaf in asset_conditions.leaves(which.as_expression())
        }
        self.expression = _with_mappers(self.expression, special, form_of(self.default_partition_mapper))

    @property
    def summary(self) -> str:
        return self.word

    def get_partition_mapper(self, *, name: str = "", uri: str = "") -> PartitionMapper:
        """The mapper of the asset with this name or URI."""
        for which, mapper in self.partition_mapper_config.items():
            for leaf in asset_conditions.leaves(which.as_expression()):
                if (name and leaf.name == name) or (uri and not name and leaf.uri == uri):
                    return mapper
        return self.default_partition_mapper


class PartitionedAtRuntime(NullTimetable):
    """Never by itself: whoever triggers a run names its partition, and tasks name those of their events."""

    description = "Never, partition key(s) set at runtime"
    partitioned_at_runtime = True

    @property
    def summary(self) -> str:
        return "PartitionedAtRuntime"

    def serialize(self) -> dict[str, Any]:
        return {"type": "partitioned_at_runtime"}


def _with_mappers(
    condition: dict[str, Any], special: Mapping[asset_conditions.Leaf, dict[str, Any]], default: dict[str, Any]
) -> dict[str, Any]:
    leaf = asset_conditions.leaf_of(condition)
    if leaf is not None:
        return {**condition, "mapper": special.get(leaf, default)}
    return {word: [_with_mappers(part, special, default) for part in parts] for word, parts in condition.items()}
