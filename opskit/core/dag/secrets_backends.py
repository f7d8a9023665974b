"""Where connections and variables are looked for before the environment and the metastore: the class that
`secrets.backend` names (Airflow's interface: get_connection or get_conn_value, and get_variable)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opskit.core.dag.connection import Connection

_path = ""
_kwargs: dict[str, Any] = {}
_made: list[Any] | None = None


def configure(path: str, kwargs: dict[str, Any] | None = None) -> None:
    """The backend of this process: path to its class (empty: none) and the arguments that it is made with. It is made
    when it is first asked."""
    global _path, _kwargs, _made
    if (path, kwargs or {}) != (_path, _kwargs):
        _path, _kwargs, _made = path, dict(kwargs or {}), None


def configured() -> bool:
    return bool(_path)


def backends() -> list[Any]:
    """ConfigError when the class can't be loaded or made."""
    global _made
    if _made is None:
        _made = [_make()] if _path else []
    return _made


def connection(conn_id: str) -> Connection | None:
    """What a backend says; None when it knows none, or fails (which is logged: those behind it are asked)."""
    from opskit.core.dag.connection import Connection

    for backend in backends():
        try:
            found = backend.get_connection(conn_id)
        except NotImplementedError:
            continue
        except Exception:  # noqa: BLE001 -- the backend is foreign code
            _log_failure("connection", conn_id)
            continue
        if isinstance(found, Connection):
            _mask(found.secrets())
            return found
    return None


def variable(key: str) -> str | None:
    """The same of a variable."""
    from opskit.core.dag.secret_names import secret_values

    for backend in backends():
        try:
            found = backend.get_variable(key=key)
        except NotImplementedError:
            continue
        except Exception:  # noqa: BLE001 -- the backend is foreign code
            _log_failure("variable", key)
            continue
        if found is not None:
            _mask(secret_values(key, found))
            return str(found)
    return None


def _make() -> Any:
    from importlib import import_module

    from opskit.errors import ConfigError

    module, _, name = _path.rpartition(".")
    try:
        return getattr(import_module(module), name)(**_kwargs)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"the secrets backend {_path!r} can't be used: {error}", hint="see secrets.backend and backend_kwargs"
        ) from error


def _mask(secrets: list[str]) -> None:
    from opskit.telemetry.masking import masker

    masker.add(secrets)


def _log_failure(what: str, key: str) -> None:
    import logging

    logging.getLogger(__name__).exception("The secrets backend %s can't give the %s %s", _path, what, key)
