"""Which values are secret, judged by the name they go under. The list is Airflow's."""

from __future__ import annotations

from typing import Any

SENSITIVE_NAMES = (
    "access_token",
    "api_key",
    "apikey",
    "authorization",
    "keyfile_dict",
    "passphrase",
    "passwd",
    "password",
    "private_key",
    "secret",
    "service_account",
    "token",
)


def is_secret_name(name: Any, more: tuple[str, ...] = ()) -> bool:
    """Whether a variable, a field or a connection extra of this name is to be masked."""
    if not isinstance(name, str):
        return False
    lowered = name.strip().lower()
    return any(part in lowered for part in (*SENSITIVE_NAMES, *more))


def secret_values(name: str | None, value: Any) -> list[str]:
    """The strings inside `value` that are to be masked: all of them under a secret name, else those under
    secret keys of nested dicts."""
    found: list[str] = []
    _collect(value, is_secret_name(name), found)
    return found


def _collect(value: Any, secret: bool, found: list[str]) -> None:
    if isinstance(value, str):
        if secret and value:
            found.append(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            _collect(item, secret or is_secret_name(key), found)
    elif isinstance(value, (list, tuple, set)):
        for item in value:
            _collect(item, secret, found)
