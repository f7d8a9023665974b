"""From the partition of an asset's event to the partitions of the runs that it is for.

Names and meanings are those of Airflow 3's `airflow.sdk`. A mapper is plain data: the scheduler reads it from the
JSON form of the DAG, and never loads the DAG file for it. So a class of the DAG file's own can't be one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, tzinfo
from typing import Any, ClassVar

from opskit.core.dag.partition_windows import BUILT_IN, WaitForAll, WaitPolicy, Window, policy_from, window_from
from opskit.core.dag.zones import load_zone, localize, utc, zone_name
from opskit.errors import DagInvalid

MOST_KEYS = 1000
"""How many partitions one event may be for, where its mapper sets no limit of its own."""


class PartitionMapper:
    """Maps keys. `max_downstream_keys`: an event that is for more is for none."""

    is_rollup: ClassVar[bool] = False
    expected_decoded_type: ClassVar[type] = str

    def __init__(self, *, max_downstream_keys: int | None = None) -> None:
        limit = max_downstream_keys
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
            raise ValueError(f"max_downstream_keys must be a positive number or None, not {limit!r}")
        self.max_downstream_keys = limit

    def to_downstream(self, key: str) -> str | Iterable[str]:
        """The partition, or partitions, that an event of this partition is for. ValueError for a key that it does not
        know."""
        raise NotImplementedError(f"{type(self).__name__} does not map keys: it needs to_downstream()")

    def decode_downstream(self, downstream_key: str) -> Any:
        """What a window enumerates the parts of."""
        return downstream_key

    def encode_upstream(self, decoded: Any) -> str:
        """The key of such a part, as its producer writes it."""
        return str(decoded)

    def to_partition_date(self, downstream_key: str) -> datetime | None:
        """When the partition begins; None where the key tells no time."""
        return None

    def carry_partition_date(self, source_partition_date: datetime | None) -> datetime | None:
        """What stays of the producer's partition date."""
        return None

    def form(self) -> dict[str, Any]:
        """Plain JSON that `mapper_from` reads."""
        return {"type": type(self).__name__, **self._form(), **self._limit_form()}

    def _form(self) -> dict[str, Any]:
        return {}

    def _limit_form(self) -> dict[str, Any]:
        return {} if self.max_downstream_keys is None else {"max_downstream_keys": self.max_downstream_keys}

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.form() == other.form()

    def __hash__(self) -> int:
        return hash(repr(self.form()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._form().items())})"


class IdentityMapper(PartitionMapper):
    """The same key."""

    def to_downstream(self, key: str) -> str:
        return key

    def carry_partition_date(self, source_partition_date: datetime | None) -> datetime | None:
        return source_partition_date


class AllowedKeyMapper(PartitionMapper):
    """The same key, when it is one of these."""

    def __init__(self, allowed_keys: list[str], *, max_downstream_keys: int | None = None) -> None:
        super().__init__(max_downstream_keys=max_downstream_keys)
        self.allowed_keys = list(allowed_keys)

    def to_downstream(self, key: str) -> str:
        if key not in self.allowed_keys:
            raise ValueError(f"the key {key!r} is none of {', '.join(map(repr, self.allowed_keys))}")
        return key

    def _form(self) -> dict[str, Any]:
        return {"allowed_keys": self.allowed_keys}


class FixedKeyMapper(PartitionMapper):
    """One key for all."""

    def __init__(self, downstream_key: str, *, max_downstream_keys: int | None = None) -> None:
        super().__init__(max_downstream_keys=max_downstream_keys)
        if not isinstance(downstream_key, str) or not downstream_key:
            raise ValueError(f"FixedKeyMapper: downstream_key is {downstream_key!r}, a text is needed")
        self.downstream_key = downstream_key

    def to_downstream(self, key: str) -> str:
        return self.downstream_key

    def _form(self) -> dict[str, Any]:
        return {"downstream_key": self.downstream_key}


class ChainMapper(PartitionMapper):
    """One mapper after the other."""

    def __init__(
        self,
        mapper0: PartitionMapper,
        mapper1: PartitionMapper,
        /,
        *mappers: PartitionMapper,
        max_downstream_keys: int | None = None,
    ) -> None:
        super().__init__(max_downstream_keys=max_downstream_keys)
        self.mappers = [mapper0, mapper1, *mappers]

    def to_downstream(self, key: str) -> str | list[str]:
        keys = [key]
        for mapper in self.mappers:
            keys = [mapped for one in keys for mapped in keys_of(mapper.to_downstream(one), mapper)]
        return keys[0] if len(keys) == 1 else keys

    def to_partition_date(self, downstream_key: str) -> datetime | None:
        return self.mappers[-1].to_partition_date(downstream_key)

    def _form(self) -> dict[str, Any]:
        return {"mappers": [form_of(mapper) for mapper in self.mappers]}


class ProductMapper(PartitionMapper):
    """A mapper for each part of a key: `eu|2024-03-13T10:42:15` → `eu|2024-03-13`."""

    def __init__(
        self,
        mapper0: PartitionMapper,
        mapper1: PartitionMapper,
        /,
        *mappers: PartitionMapper,
        delimiter: str = "|",
        max_downstream_keys: int | None = None,
    ) -> None:
        super().__init__(max_downstream_keys=max_downstream_keys)
        self.mappers = [mapper0, mapper1, *mappers]
        self.delimiter = delimiter

    def to_downstream(self, key: str) -> str:
        parts = key.split(self.delimiter)
        if len(parts) != len(self.mappers):
            raise ValueError(f"the key {key!r} has {len(parts)} parts, there are {len(self.mappers)} mappers")
        mapped = [mapper.to_downstream(part) for mapper, part in zip(self.mappers, parts, strict=True)]
        for mapper, one in zip(self.mappers, mapped, strict=True):
            if not isinstance(one, str):
                raise TypeError(f"ProductMapper: {type(mapper).__name__} gives several keys, one is needed")
        return self.delimiter.join(str(one) for one in mapped)

    def to_partition_date(self, downstream_key: str) -> datetime | None:
        parts = downstream_key.split(self.delimiter)
        if len(parts) != len(self.mappers):
            return None
        dates = [mapper.to_partition_date(part) for mapper, part in zip(self.mappers, parts, strict=True)]
        told = [date for date in dates if date is not None]
        return told[0] if len(told) == 1 else None

    def _form(self) -> dict[str, Any]:
        return {"mappers": [form_of(mapper) for mapper in self.mappers], "delimiter": self.delimiter}


class TemporalMapper(PartitionMapper):
    """The period that a moment lies in. Keys are read with `input_format` in `timezone`, and written with
    `output_format` (`strftime`'s directives)."""

    default_output_format: ClassVar[str] = ""
    expected_decoded_type = datetime

    def __init__(
        self,
        *,
        timezone: str | tzinfo = "UTC",
        input_format: str = "%Y-%m-%dT%H:%M:%S",
        output_format: str | None = None,
        max_downstream_keys: int | None = None,
    ) -> None:
        super().__init__(max_downstream_keys=max_downstream_keys)
        self._timezone = load_zone(timezone if isinstance(timezone, str) else zone_name(timezone))
        self.input_format = input_format
        self.output_format = output_format or self.default_output_format

    def to_downstream(self, key: str) -> str:
        at = datetime.strptime(key, self.input_format)  # noqa: DTZ007 - the wall time of the mapper's zone
        at = localize(at, self._timezone) if at.tzinfo is None else at.astimezone(self._timezone)
        return self.format(self.normalize(at))

    def normalize(self, dt: datetime) -> datetime:
        """The start of the period."""
        raise NotImplementedError

    def format(self, dt: datetime) -> str:
        return dt.strftime(self.output_format)

    def decode_downstream(self, downstream_key: str) -> datetime:
        return datetime.strptime(downstream_key, self.output_format)  # noqa: DTZ007 - as above

    def encode_upstream(self, decoded: datetime) -> str:
        wall = decoded if decoded.tzinfo is None else decoded.astimezone(self._timezone).replace(tzinfo=None)
        return localize(wall, self._timezone).strftime(self.input_format)

    def to_partition_date(self, downstream_key: str) -> datetime | None:
        start = self.normalize(self.decode_downstream(downstream_key))
        return utc(localize(start, self._timezone) if start.tzinfo is None else start)

    def _form(self) -> dict[str, Any]:
        return {
            "timezone": zone_name(self._timezone),
            "input_format": self.input_format,
            "output_format": self.output_format,
        }

    def _read(self, key: str, quarter: bool = False) -> re.Match[str]:
        """A key by its format, where strptime can't read that."""
        found = _pattern(self.output_format).fullmatch(key)
        wanted = ("Y", "quarter") if quarter else ("Y", "m", "d")
        if found is None or not set(wanted) <= found.groupdict().keys():
            needed = "%Y and {quarter}" if quarter else "%Y, %m and %d"
            raise ValueError(
                f"{type(self).__name__}: the key {key!r} can't be read with {self.output_format!r}; it needs {needed}"
            )
        return found


class StartOfHourMapper(TemporalMapper):
    """`2024-03-13T10:42:15` → `2024-03-13T10`"""

    default_output_format = "%Y-%m-%dT%H"

    def normalize(self, dt: datetime) -> datetime:
        return dt.replace(minute=0, second=0, microsecond=0)


class StartOfDayMapper(TemporalMapper):
    """`2024-03-13T10:42:15` → `2024-03-13`"""

    default_output_format = "%Y-%m-%d"

    def normalize(self, dt: datetime) -> datetime:
        return _midnight(dt)


class StartOfWeekMapper(TemporalMapper):
    """`2024-03-13T10:42:15` → `2024-03-11 (W11)`: weeks begin on Monday."""

    default_output_format = "%Y-%m-%d (W%V)"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        _pattern(self.output_format)

    def normalize(self, dt: datetime) -> datetime:
        return _midnight(dt - timedelta(days=dt.weekday()))

    def decode_downstream(self, downstream_key: str) -> datetime:
        found = self._read(downstream_key)
        return datetime(int(found["Y"]), int(found["m"]), int(found["d"]))  # noqa: DTZ001 - wall time


class StartOfMonthMapper(TemporalMapper):
    """`2024-03-13T10:42:15` → `2024-03`"""

    default_output_format = "%Y-%m"

    def normalize(self, dt: datetime) -> datetime:
        return _midnight(dt.replace(day=1))


class StartOfQuarterMapper(TemporalMapper):
    """`2024-03-13T10:42:15` → `2024-Q1`: the format may hold `{quarter}`."""

    default_output_format = "%Y-Q{quarter}"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        _pattern(self.output_format)

    def normalize(self, dt: datetime) -> datetime:
        return _midnight(dt.replace(month=(dt.month - 1) // 3 * 3 + 1, day=1))

    def format(self, dt: datetime) -> str:
        return dt.strftime(self.output_format).format(quarter=(dt.month - 1) // 3 + 1)

    def decode_downstream(self, downstream_key: str) -> datetime:
        found = self._read(downstream_key, quarter=True)
        return datetime(int(found["Y"]), int(found["quarter"]) * 3 - 2, 1)  # noqa: DTZ001 - wall time


class StartOfYearMapper(TemporalMapper):
    """`2024-03-13T10:42:15` → `2024`"""

    default_output_format = "%Y"

    def normalize(self, dt: datetime) -> datetime:
        return _midnight(dt.replace(month=1, day=1))


class FanOutMapper(PartitionMapper):
    """One event of a period, a run for each of its parts. `downstream_mapper` writes their keys; the windows of
    days and longer periods have one of their own. ValueError for a window that has none."""

    default_downstream_mapper_by_window_name: ClassVar[dict[str, type[TemporalMapper]]] = {
        "DayWindow": StartOfHourMapper,
        "WeekWindow": StartOfDayMapper,
        "MonthWindow": StartOfDayMapper,
        "QuarterWindow": StartOfMonthMapper,
        "YearWindow": StartOfMonthMapper,
    }

    def __init__(
        self,
        *,
        upstream_mapper: PartitionMapper,
        window: Window,
        downstream_mapper: PartitionMapper | None = None,
        max_downstream_keys: int | None = None,
    ) -> None:
        super().__init__(max_downstream_keys=max_downstream_keys)
        if downstream_mapper is None:
            usual = self.default_downstream_mapper_by_window_name.get(type(window).__name__)
            if usual is None:
                raise ValueError(f"FanOutMapper: with {type(window).__name__} it needs a downstream_mapper")
            downstream_mapper = usual()
        self.upstream_mapper = upstream_mapper
        self.window = window
        self.downstream_mapper = downstream_mapper

    def to_downstream(self, key: str) -> list[str]:
        period = self.upstream_mapper.to_downstream(key)
        if not isinstance(period, str):
            raise TypeError("FanOutMapper: its upstream_mapper gives several keys, one is needed")
        write: Callable[[Any], str] | None = getattr(self.downstream_mapper, "format", None)
        parts = self.window.to_upstream(self.upstream_mapper.decode_downstream(period))
        return [write(part) if write is not None else _plain(part) for part in parts]

    def to_partition_date(self, downstream_key: str) -> datetime | None:
        return self.downstream_mapper.to_partition_date(downstream_key)

    def _form(self) -> dict[str, Any]:
        return {
            "upstream_mapper": form_of(self.upstream_mapper),
            "window": _window_form(self.window),
            "downstream_mapper": form_of(self.downstream_mapper),
        }


class RollupMapper(PartitionMapper):
    """Events of all parts of a period, one run. `wait_policy` says how many of them it takes (default: all).

    TypeError when the window enumerates something else than what the mapper decodes."""

    is_rollup = True

    def __init__(
        self,
        *,
        upstream_mapper: PartitionMapper,
        window: Window,
        wait_policy: WaitPolicy | None = None,
        max_downstream_keys: int | None = None,
    ) -> None:
        super().__init__(max_downstream_keys=max_downstream_keys)
        if upstream_mapper.expected_decoded_type is not window.expected_decoded_type:
            raise TypeError(
                f"RollupMapper: {type(window).__name__} enumerates {window.expected_decoded_type.__name__}, "
                f"{type(upstream_mapper).__name__} gives {upstream_mapper.expected_decoded_type.__name__}"
            )
        self.upstream_mapper = upstream_mapper
        self.window = window
        self.wait_policy = wait_policy or WaitForAll()

    def to_downstream(self, key: str) -> str | Iterable[str]:
        return self.upstream_mapper.to_downstream(key)

    def to_upstream(self, downstream_key: str) -> frozenset[str]:
        """The keys whose events a run of this partition waits for."""
        mapper = self.upstream_mapper
        parts = self.window.to_upstream(mapper.decode_downstream(downstream_key))
        return frozenset(mapper.encode_upstream(part) for part in parts)

    def to_partition_date(self, downstream_key: str) -> datetime | None:
        return self.upstream_mapper.to_partition_date(downstream_key)

    def enough(self, downstream_key: str, arrived: Iterable[str]) -> bool:
        """Whether a run of this partition can be made when these keys have arrived."""
        expected = self.to_upstream(downstream_key)
        return self.wait_policy.is_satisfied(len(expected & set(arrived)), len(expected))

    def _form(self) -> dict[str, Any]:
        return {
            "upstream_mapper": form_of(self.upstream_mapper),
            "window": _window_form(self.window),
            "wait_policy": self.wait_policy.form(),
        }


_CLASSES: dict[str, type[PartitionMapper]] = {
    cls.__name__: cls
    for cls in (
        IdentityMapper,
        AllowedKeyMapper,
        FixedKeyMapper,
        ChainMapper,
        ProductMapper,
        StartOfHourMapper,
        StartOfDayMapper,
        StartOfWeekMapper,
        StartOfMonthMapper,
        StartOfQuarterMapper,
        StartOfYearMapper,
        FanOutMapper,
        RollupMapper,
    )
}


def form_of(mapper: Any) -> dict[str, Any]:
    """Its JSON form. DagInvalid for what is none of the mappers above."""
    if not isinstance(mapper, PartitionMapper) or type(mapper) not in _CLASSES.values():
        raise DagInvalid(
            f"{type(mapper).__name__} can't map partitions: the scheduler reads mappers as data, "
            "and runs no class of the DAG file",
            hint=f"put it together from {', '.join(_CLASSES)}",
        )
    return mapper.form()


def mapper_from(form: dict[str, Any]) -> PartitionMapper:
    """The mapper of `form_of`."""
    options = {name: value for name, value in form.items() if name != "type"}
    for name in ("upstream_mapper", "downstream_mapper"):
        if name in options:
            options[name] = mapper_from(options[name])
    if "window" in options:
        options["window"] = window_from(options["window"])
    if "wait_policy" in options:
        options["wait_policy"] = policy_from(options["wait_policy"])
    parts = [mapper_from(part) for part in options.pop("mappers", ())]
    return _CLASSES[form["type"]](*parts, **options)


def keys_of(mapped: Any, mapper: PartitionMapper) -> list[str]:
    """What `to_downstream` gave, as a list. TypeError for what is no text."""
    keys = [mapped] if isinstance(mapped, str) else list(mapped)
    for key in keys:
        if not isinstance(key, str):
            raise TypeError(f"{type(mapper).__name__} gives the key {key!r}, a text is needed")
    return keys


def downstream_keys(mapper: PartitionMapper, key: str) -> list[str]:
    """The partitions that an event of this one is for, each once. ValueError when there are too many of them."""
    keys = list(dict.fromkeys(keys_of(mapper.to_downstream(key), mapper)))
    most = mapper.max_downstream_keys or MOST_KEYS
    if len(keys) > most:
        raise ValueError(f"the key {key!r} is for {len(keys)} partitions, at most {most} are allowed")
    return keys


def _window_form(window: Window) -> dict[str, Any]:
    if type(window) not in BUILT_IN:
        raise DagInvalid(
            f"{type(window).__name__} can't be a window: the scheduler does not run a class of the DAG file",
            hint=f"use one of {', '.join(cls.__name__ for cls in BUILT_IN)}",
        )
    return window.form()


def _midnight(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def _plain(part: Any) -> str:
    return part.isoformat() if isinstance(part, datetime) else str(part)


def _pattern(text: str) -> re.Pattern[str]:
    """A format with strftime's numbers and `{quarter}` as a regular expression. ValueError for a name used twice."""
    digits = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2, "V": 2, "U": 2, "W": 2}
    seen: set[str] = set()

    def group(found: re.Match[str]) -> str:
        name = found["directive"] or found["name"]
        if name is None:
            return re.escape(found[0])
        if name in seen:
            raise ValueError(f"the format {text!r} uses {found[0]} twice")
        seen.add(name)
        what = "[1-4]" if found["name"] == "quarter" else r"\w+"
        if found["directive"]:
            what = rf"\d{{{digits[name]}}}"
        return f"(?P<{name}>{what})"

    return re.compile(re.sub(r"%(?P<directive>[YmdHMSVUW])|\{(?P<name>[A-Za-z_]\w*)\}|.", group, text, flags=re.DOTALL))
