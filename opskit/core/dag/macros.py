"""What templates find under `macros`."""

from __future__ import annotations

from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

__all__ = ["datetime", "datetime_diff_for_humans", "ds_add", "ds_format", "ds_format_locale", "random", "timedelta"]

_MODULES = ("json", "time", "uuid", "dateutil", "yaml")


def ds_add(ds: str, days: int) -> str:
    """The day `days` after the day `ds` (both YYYY-MM-DD); a negative number goes back."""
    if not days:
        return str(ds)
    return (datetime.strptime(str(ds), "%Y-%m-%d") + timedelta(days=days)).strftime("%Y-%m-%d")  # noqa: DTZ007


def ds_format(ds: str, input_format: str, output_format: str) -> str:
    """A date text in another format; the formats are those of strftime."""
    return datetime.strptime(str(ds), input_format).strftime(output_format)  # noqa: DTZ007


def ds_format_locale(ds: str, input_format: str, output_format: str, locale: Any = None) -> str:
    """A date text in a format of Babel (`EEEE dd MMMM yyyy`) and the language of `locale` (default: the environment's,
    else en_US). ImportError without Babel."""
    try:
        dates: Any = import_module("babel.dates")
        core: Any = import_module("babel.core")
    except ImportError:
        raise ImportError("the macro ds_format_locale needs Babel: pip install babel") from None
    moment = datetime.strptime(str(ds), input_format)  # noqa: DTZ007
    chosen = locale or core.default_locale("LC_TIME") or "en_US"
    return str(dates.format_datetime(moment, format=output_format, locale=chosen))


def datetime_diff_for_humans(dt: Any, since: Any = None) -> str:
    """`2 days ago`, or `2 days before` when `since` is given."""
    import pendulum

    return str(pendulum.instance(dt).diff_for_humans(pendulum.instance(since) if since is not None else None))


def random() -> float:
    """A number from 0 (included) to 1."""
    import random as source

    return source.random()


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        module = import_module(name)
        if name == "dateutil":
            import_module("dateutil.parser")
        globals()[name] = module
        return module
    raise AttributeError(f"there is no macro {name!r}")
