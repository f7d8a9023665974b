"""Client libraries that are extras: loaded when they are first used, with an error that says what to install."""

from __future__ import annotations

from typing import Any

from opskit.core.dag.exceptions import AirflowException


class AirflowOptionalProviderFeatureException(AirflowException):
    """A client library is needed that is not installed."""


def library(module: str, *, extra: str | None, needed_by: str) -> Any:
    """The module. AirflowOptionalProviderFeatureException without it: it names the extra of opskit that brings it, or,
    where there is none (`extra=None`), the library."""
    from importlib import import_module

    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != package:
            raise  # it is installed; what it needs itself is not
        install = f"pip install 'opskit[{extra}]'" if extra else f"pip install {package}"
        raise AirflowOptionalProviderFeatureException(
            f"{needed_by} needs the library {package}, which is not installed: {install}"
        ) from error


def installed(module: str) -> bool:
    """Whether the library is there; it is not loaded."""
    from importlib.util import find_spec

    return find_spec(module) is not None
