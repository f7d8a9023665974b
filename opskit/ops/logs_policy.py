"""What the settings in [logs] say: how long logs are kept, and how much room they may take."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from opskit.config import Config
from opskit.errors import ConfigError, UsageError

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True, slots=True)
class Amount:
    """So many bytes or inodes, or a share of all that the file system has."""

    value: float
    is_percent: bool = False

    def of(self, whole: int) -> int:
        return round(self.value * whole / 100) if self.is_percent else round(self.value)

    def __str__(self) -> str:
        return f"{self.value:g}%" if self.is_percent else f"{self.value:.0f}"


@dataclass(frozen=True, slots=True)
class Keep:
    """How long the logs of one DAG are kept."""

    max_age: timedelta
    failed_max_age: timedelta
    """For failed task instances, and for all logs of failed runs."""
    runs: int
    """The logs of so many newest runs stay, whatever their age."""


@dataclass(frozen=True, slots=True)
class Policy:
    default: Keep
    dags: tuple[tuple[str, Keep], ...] = ()
    """(glob of dag_id, what holds for it); the first that fits counts."""
    daemons_max_age: timedelta = timedelta(days=14)
    """For what the scheduler, the DAG processor and other daemons write."""
    floor: timedelta = timedelta(0)
    """Nothing younger goes, whatever else is said."""
    max_percent: float = 95.0
    """More than this share of all logs is not removed without force."""
    max_size: Amount | None = None
    """All logs together, as the disk counts them."""
    min_free: Amount | None = None
    min_free_inodes: Amount | None = None

    def of(self, dag_id: str) -> Keep:
        return next((keep for glob, keep in self.dags if fnmatch.fnmatchcase(dag_id, glob)), self.default)

    @property
    def has_limits(self) -> bool:
        return any((self.max_size, self.min_free, self.min_free_inodes))


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a caller says instead of the settings; None: the settings hold."""

    max_age_days: float | None = None
    max_percent: float | None = None
    max_size: str | None = None
    min_free: str | None = None
    min_free_inodes: str | None = None
    keep_days: float | None = None


def read_policy(config: Config, wishes: Wishes) -> Policy:
    """The policy of a configuration. ConfigError or UsageError for what makes no sense."""
    max_age = _days(_given(wishes.max_age_days, config.get("logs", "max_age_days")), "max_age_days")
    failed = _days(config.get("logs", "failed_max_age_days"), "failed_max_age_days")
    if wishes.max_age_days is not None:
        # Whoever names an age means failures too; what a DAG was granted by name stays granted.
        failed = max_age
    default = Keep(max_age, max(max_age, failed), int(config.get("logs", "keep_runs")))
    max_percent = float(_given(wishes.max_percent, config.get("logs", "max_percent")))
    if not 0 <= max_percent <= 100:
        raise UsageError("max_percent is a share between 0 and 100 percent")
    table: Mapping[str, Any] = config.get("logs", "policies")
    return Policy(
        default=default,
        dags=tuple((glob, _keep(glob, row, default)) for glob, row in table.items()),
        daemons_max_age=_days(
            _given(wishes.max_age_days, config.get("logs", "daemon_max_age_days")), "daemon_max_age_days"
        ),
        floor=_days(_given(wishes.keep_days, config.get("logs", "keep_days")), "keep_days"),
        max_percent=max_percent,
        max_size=read_amount(_given(wishes.max_size, config.get("logs", "max_size")), "max_size"),
        min_free=read_amount(_given(wishes.min_free, config.get("logs", "min_free")), "min_free"),
        min_free_inodes=read_amount(
            _given(wishes.min_free_inodes, config.get("logs", "min_free_inodes")), "min_free_inodes"
        ),
    )


def read_amount(text: str, name: str) -> Amount | None:
    """`20GiB`, `500M`, `100000` or `10%`; None for an empty text. ConfigError for anything else."""
    text = text.strip()
    if not text:
        return None
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text):
        if float(match[1]) > 100:
            raise ConfigError(f"logs.{name} is {text!r}: more than there is")
        return Amount(float(match[1]), is_percent=True)
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text, re.IGNORECASE):
        return Amount(float(match[1]) * _UNITS[match[2].lower()])
    raise ConfigError(f"logs.{name} is {text!r}", hint="for example 20GiB, or 10%")


def _keep(glob: str, row: Any, default: Keep) -> Keep:
    where = f"logs.policies.{glob!r}"
    if not isinstance(row, Mapping):
        raise ConfigError(f"{where} is no table", hint='write [logs.policies."etl_*"] and max_age_days = 90 below it')
    known = ("max_age_days", "failed_max_age_days", "keep_runs")
    for key in row:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"it can have {', '.join(known)}"
            raise ConfigError(f"{where} has an unknown key {key!r}", hint=hint)
    keep = default
    if "max_age_days" in row:
        max_age = _days(row["max_age_days"], f"policies.{glob!r}.max_age_days")
        keep = replace(keep, max_age=max_age, failed_max_age=max(max_age, keep.failed_max_age))
    if "failed_max_age_days" in row:
        keep = replace(keep, failed_max_age=_days(row["failed_max_age_days"], f"policies.{glob!r}.failed_max_age_days"))
    if "keep_runs" in row:
        if not isinstance(row["keep_runs"], int) or row["keep_runs"] < 0:
            raise ConfigError(f"{where} keep_runs is {row['keep_runs']!r}", hint="a whole number of runs")
        keep = replace(keep, runs=row["keep_runs"])
    return keep


def _days(value: Any, name: str) -> timedelta:
    try:
        if isinstance(value, bool) or float(value) < 0:
            raise ValueError
        return timedelta(days=float(value))
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"logs.{name} is {value!r}", hint="a number of days, 0 or more") from None


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value
